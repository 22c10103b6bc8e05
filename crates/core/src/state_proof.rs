//! The hash rule of the state tree, and proofs that a record is, or is not, under a state root.
//!
//! The tree is a binary sparse Merkle tree with the hash rule of `jmt` over SHA-256
//! (`spec/vm.md` §6): an empty subtree has the placeholder hash, a subtree with one leaf is that
//! leaf, anything else hashes its two halves.

use sha2::{Digest, Sha256};

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::merkle::Hash;

/// Hash of an empty subtree.
pub const PLACEHOLDER: Hash = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";

/// Siblings of a path at most: one for each bit of a key.
pub const SIBLINGS_MAX: usize = 256;

/// Hash of a leaf: `SHA-256("JMT::LeafNode" || key || value hash)`.
pub fn leaf_hash(key: &Hash, value_hash: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(b"JMT::LeafNode");
    hasher.update(key);
    hasher.update(value_hash);
    hasher.finalize().into()
}

/// Hash of an inner node: `SHA-256("JMT::IntrnalNode" || left || right)`.
pub fn inner_hash(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(b"JMT::IntrnalNode");
    hasher.update(left);
    hasher.update(right);
    hasher.finalize().into()
}

/// Bit `depth` of a key, the most significant first.
pub fn key_bit(key: &Hash, depth: usize) -> bool {
    key.get(depth / 8)
        .is_some_and(|byte| (byte >> (7 - depth % 8)) & 1 == 1)
}

/// What a path ends in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathLeaf {
    /// Key of the leaf.
    pub key: Hash,
    /// SHA-256 of the leaf's record.
    pub value_hash: Hash,
}

/// Why a state proof was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StateProofError {
    /// The proof ends in the leaf of another record, or in none.
    #[error("the record is not in the state")]
    Absent,
    /// The proof ends in the record that should be absent.
    #[error("the record is in the state")]
    Present,
    /// The leaf shown cannot lie on the path of the asked key.
    #[error("the proof belongs to another key")]
    OtherKey,
    /// The proof leads to another root.
    #[error("the proof leads to another state root")]
    RootMismatch,
}

/// A path through the state tree, for one key.
///
/// Encoding: `u16 n | ceil(n/8) bitmap of siblings that are not the placeholder | those siblings
/// 32 each | option leaf (key 32, value hash 32)`; siblings from the root downwards.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StateProof {
    /// Sibling hashes from the root downwards.
    pub siblings: Vec<Hash>,
    /// The leaf at the end of the path, if there is one.
    pub leaf: Option<PathLeaf>,
}

impl StateProof {
    fn root(&self, key: &Hash) -> Hash {
        let mut hash = self
            .leaf
            .map_or(PLACEHOLDER, |leaf| leaf_hash(&leaf.key, &leaf.value_hash));
        for (depth, sibling) in self.siblings.iter().enumerate().rev() {
            hash = if key_bit(key, depth) {
                inner_hash(sibling, &hash)
            } else {
                inner_hash(&hash, sibling)
            };
        }
        hash
    }

    /// Checks that `key` holds a record with this SHA-256 under `root`.
    ///
    /// # Errors
    /// [`StateProofError`].
    pub fn verify_present(
        &self,
        key: &Hash,
        value_hash: &Hash,
        root: &Hash,
    ) -> Result<(), StateProofError> {
        match self.leaf {
            Some(leaf) if leaf.key == *key && leaf.value_hash == *value_hash => {}
            _ => return Err(StateProofError::Absent),
        }
        if self.root(key) == *root {
            Ok(())
        } else {
            Err(StateProofError::RootMismatch)
        }
    }

    /// Checks that nothing is stored at `key` under `root`.
    ///
    /// # Errors
    /// [`StateProofError`].
    pub fn verify_absent(&self, key: &Hash, root: &Hash) -> Result<(), StateProofError> {
        if let Some(leaf) = self.leaf {
            if leaf.key == *key {
                return Err(StateProofError::Present);
            }
            // The other leaf must lie on the same path, else it says nothing about this key.
            let same_path =
                (0..self.siblings.len()).all(|d| key_bit(&leaf.key, d) == key_bit(key, d));
            if !same_path {
                return Err(StateProofError::OtherKey);
            }
        }
        if self.root(key) == *root {
            Ok(())
        } else {
            Err(StateProofError::RootMismatch)
        }
    }
}

impl Encode for StateProof {
    fn encode(&self, out: &mut Writer) {
        // At most SIBLINGS_MAX, so the count always fits.
        out.u16(u16::try_from(self.siblings.len()).unwrap_or(u16::MAX));
        for eight in self.siblings.chunks(8) {
            let bits = eight.iter().enumerate();
            out.u8(bits.fold(0, |b, (i, s)| b | (u8::from(*s != PLACEHOLDER) << i)));
        }
        for sibling in self.siblings.iter().filter(|s| **s != PLACEHOLDER) {
            out.raw(sibling);
        }
        out.option(self.leaf.as_ref());
    }
}

impl Decode for StateProof {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = "state proof siblings";
        let n = usize::from(input.u16(what)?);
        if n > SIBLINGS_MAX {
            let (claimed, limit) = (n as u64, SIBLINGS_MAX as u64);
            return Err(DecodeError::TooLong {
                what,
                claimed,
                limit,
            });
        }
        let bitmap = input.take(what, n.div_ceil(8))?;
        let bit = |i: usize| {
            bitmap
                .get(i / 8)
                .is_some_and(|byte| (byte >> (i % 8)) & 1 == 1)
        };
        if (n..bitmap.len() * 8).any(bit) {
            return Err(DecodeError::Invalid {
                what: "state proof bitmap padding",
            });
        }
        let mut siblings = Vec::with_capacity(n);
        for i in 0..n {
            let sibling = if bit(i) {
                input.array(what)?
            } else {
                PLACEHOLDER
            };
            if bit(i) && sibling == PLACEHOLDER {
                return Err(DecodeError::Invalid {
                    what: "state proof spells out a placeholder",
                });
            }
            siblings.push(sibling);
        }
        Ok(Self {
            siblings,
            leaf: input.option("state proof leaf")?,
        })
    }
}

impl Encode for PathLeaf {
    fn encode(&self, out: &mut Writer) {
        out.raw(&self.key).raw(&self.value_hash);
    }
}

impl Decode for PathLeaf {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: input.array("leaf key")?,
            value_hash: input.array("leaf value hash")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(
            siblings in prop::collection::vec(prop_oneof![Just(PLACEHOLDER), any::<[u8; 32]>()], 0..=256),
            leaf in prop::option::of(any::<([u8; 32], [u8; 32])>()),
            garbage: Vec<u8>,
        ) {
            let proof = StateProof { siblings, leaf: leaf.map(|(key, value_hash)| PathLeaf { key, value_hash }) };
            prop_assert_eq!(StateProof::from_bytes(&proof.to_bytes()), Ok(proof));
            if let Ok(proof) = StateProof::from_bytes(&garbage) {
                prop_assert_eq!(proof.to_bytes(), garbage);
            }
        }
    }

    #[test]
    fn bits_behind_the_last_sibling_are_refused() {
        let proof = StateProof {
            siblings: vec![PLACEHOLDER; 9],
            leaf: None,
        };
        let bytes = proof.to_bytes();
        assert_eq!(StateProof::from_bytes(&bytes), Ok(proof));
        for bit in 1..8 {
            let mut bent = bytes.clone();
            // A count of two bytes, a byte of bits, then the one with the ninth.
            bent[3] |= 1 << bit;
            let what = "state proof bitmap padding";
            let refused = Err(DecodeError::Invalid { what });
            assert_eq!(StateProof::from_bytes(&bent), refused, "bit {bit}");
        }
    }

    #[test]
    fn hashes_and_bits_are_those_of_jmt() {
        use crate::hash::sha256;
        let (a, b) = ([0xa5; 32], [0x3c; 32]);
        assert_eq!(
            leaf_hash(&a, &b),
            sha256(&[&b"JMT::LeafNode"[..], &a, &b].concat())
        );
        assert_eq!(
            inner_hash(&a, &b),
            sha256(&[&b"JMT::IntrnalNode"[..], &a, &b].concat())
        );
        let mut key = [0; 32];
        key[1] = 0b0100_0000;
        key[31] = 1;
        let set: Vec<usize> = (0..300).filter(|depth| key_bit(&key, *depth)).collect();
        assert_eq!(set, [9, 255]);
    }

    #[test]
    fn one_leaf_and_no_leaf_are_whole_trees() {
        let (key, value) = ([7; 32], [9; 32]);
        let one = StateProof {
            siblings: vec![],
            leaf: Some(PathLeaf {
                key,
                value_hash: value,
            }),
        };
        let root = leaf_hash(&key, &value);
        assert_eq!(one.verify_present(&key, &value, &root), Ok(()));
        assert_eq!(
            one.verify_present(&key, &[8; 32], &root),
            Err(StateProofError::Absent)
        );
        assert_eq!(
            one.verify_absent(&key, &root),
            Err(StateProofError::Present)
        );
        assert_eq!(one.verify_absent(&[6; 32], &root), Ok(()));
        let none = StateProof::default();
        assert_eq!(none.verify_absent(&key, &PLACEHOLDER), Ok(()));
        assert_eq!(
            none.verify_absent(&key, &root),
            Err(StateProofError::RootMismatch)
        );
    }

    #[test]
    fn a_leaf_off_the_path_proves_nothing() {
        let other = PathLeaf {
            key: [0xff; 32],
            value_hash: [1; 32],
        };
        let sibling = [3; 32];
        let root = inner_hash(&sibling, &leaf_hash(&other.key, &other.value_hash));
        let proof = StateProof {
            siblings: vec![sibling],
            leaf: Some(other),
        };
        // Key 0… goes left at the root, where the sibling is; the shown leaf lies right.
        assert_eq!(
            proof.verify_absent(&[0; 32], &root),
            Err(StateProofError::OtherKey)
        );
        assert_eq!(proof.verify_absent(&[0xfe; 32], &root), Ok(()));
    }
}
