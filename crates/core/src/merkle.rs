//! The RFC 6962-shaped Merkle tree: append-only, with inclusion, range and consistency proofs.
//!
//! Leaves are hashes already (each noun tags its own, see [`Tag`]); inner nodes are
//! `H(merkle-node, left || right)`; the root that is signed and proved also covers the count:
//! `H(merkle-root, u64 n || tree hash)`.
//!
//! One structure serves every proof. A [`Frontier`] is the compact range of the first `n` leaves:
//! the roots of its perfect subtrees, largest first. Appending leaves, or whole perfect subtrees,
//! takes it to any larger count:
//!
//! ```text
//! range a..b of n:   frontier of [0,a)  +  leaves a..b  +  subtrees of [b,n)  =  frontier of n
//! inclusion of a:    the same with b = a + 1
//! consistency m→n:   frontier of [0,m)  +  subtrees of [m,n)                  =  frontier of n
//! ```
//!
//! Hashes of a proof, with `L` the bits of `n`: left one for each set bit of `a`, at most `L`; right
//! at most `L - 1` upwards, one for each bit that the distance to the next large subtree has, and
//! `L - 1` downwards, one for each set bit of `n` below it. A wide range shares no path, so the three
//! add up to `3(L - 1)`. Where `a` and `b` are equal or neighbours, what is set in `a` is not missing
//! on the way up: at most `2L`.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::{Tag, sha256};

/// A 32-byte node or leaf hash.
pub type Hash = [u8; 32];

/// Peaks of a frontier at most: one for each bit of a `u64` count.
pub const PEAKS_MAX: usize = 64;

/// Subtrees right of a range at most: 63 on the way up and 63 on the way down, rounded up.
pub const RIGHT_MAX: usize = 128;

/// Hash of an inner node.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Tag::MerkleNode.hash(&[left, right])
}

/// Why a Merkle proof was refused. Always the fault of whoever made the proof.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MerkleError {
    /// The peaks are not those of the claimed count.
    #[error("{count} leaves have {expected} peaks, got {got}")]
    WrongPeakCount {
        /// Claimed count.
        count: u64,
        /// Peaks that the count has.
        expected: usize,
        /// Peaks given.
        got: usize,
    },
    /// The proof has too many or too few hashes for its range.
    #[error("the proof needs {expected} hashes, got {got}")]
    WrongProofLength {
        /// Hashes needed.
        expected: usize,
        /// Hashes given.
        got: usize,
    },
    /// The range is not inside the tree.
    #[error("range {from}..{to} is not inside {count} leaves")]
    OutOfRange {
        /// First leaf.
        from: u64,
        /// One past the last leaf.
        to: u64,
        /// Leaves of the tree.
        count: u64,
    },
    /// Everything has the right shape and the root differs.
    #[error("the proof leads to another root")]
    RootMismatch,
    /// No tree can hold more leaves.
    #[error("the tree is full")]
    Full,
}

/// The compact range of the first `count` leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frontier {
    count: u64,
    peaks: Vec<Hash>,
}

impl Frontier {
    /// The frontier of the empty tree.
    pub const fn new() -> Self {
        Self {
            count: 0,
            peaks: Vec::new(),
        }
    }

    /// A frontier from its parts.
    ///
    /// # Errors
    /// [`MerkleError::WrongPeakCount`] unless there is one peak for each set bit of `count`.
    pub fn from_parts(count: u64, peaks: Vec<Hash>) -> Result<Self, MerkleError> {
        let expected = count.count_ones() as usize;
        if peaks.len() != expected {
            return Err(MerkleError::WrongPeakCount {
                count,
                expected,
                got: peaks.len(),
            });
        }
        Ok(Self { count, peaks })
    }

    /// Leaves below this frontier.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Roots of the perfect subtrees, largest first.
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Appends a leaf. `on_node(level, index, hash)` sees every inner node this completes.
    ///
    /// # Errors
    /// [`MerkleError::Full`] after 2^64 - 1 leaves.
    pub fn push(
        &mut self,
        leaf: Hash,
        on_node: impl FnMut(u32, u64, &Hash),
    ) -> Result<(), MerkleError> {
        self.push_subtree(0, leaf, on_node)
    }

    /// Appends a perfect subtree of 2^`level` leaves, where the count is a multiple of that.
    /// `on_node` sees every inner node above it that this completes.
    ///
    /// # Errors
    /// [`MerkleError::Full`], [`MerkleError::OutOfRange`] where the count is no such multiple.
    pub fn push_subtree(
        &mut self,
        level: u32,
        subtree: Hash,
        mut on_node: impl FnMut(u32, u64, &Hash),
    ) -> Result<(), MerkleError> {
        let size = 1u64.checked_shl(level).ok_or(MerkleError::Full)?;
        let count = self.count.checked_add(size).ok_or(MerkleError::Full)?;
        if !self.count.is_multiple_of(size) {
            return Err(MerkleError::OutOfRange {
                from: self.count,
                to: count,
                count: self.count,
            });
        }
        let mut hash = subtree;
        let mut level = level;
        // Every set bit from `level` upwards carries: merge with the peak of that size.
        while (self.count >> level) & 1 == 1 {
            let Some(left) = self.peaks.pop() else { break };
            hash = node_hash(&left, &hash);
            level += 1;
            on_node(level, (count >> level) - 1, &hash);
        }
        self.peaks.push(hash);
        self.count = count;
        Ok(())
    }

    /// Root with the count inside: `H(merkle-root, u64 n || tree hash)`.
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let tree = peaks.next().map_or([0; 32], |last| {
            peaks.fold(*last, |right, left| node_hash(left, &right))
        });
        Tag::MerkleRoot.hash(&[&self.count.to_be_bytes(), &tree])
    }

    /// Appends the subtrees right of this frontier, up to `count` leaves.
    ///
    /// # Errors
    /// [`MerkleError::OutOfRange`] for a smaller count, [`MerkleError::WrongProofLength`].
    pub fn extend(&mut self, right: &[Hash], count: u64) -> Result<(), MerkleError> {
        let expected = right_subtrees(self.count, count).ok_or(MerkleError::OutOfRange {
            from: self.count,
            to: self.count,
            count,
        })?;
        if right.len() != expected.len() {
            return Err(MerkleError::WrongProofLength {
                expected: expected.len(),
                got: right.len(),
            });
        }
        for ((level, _), hash) in expected.into_iter().zip(right) {
            self.push_subtree(level, *hash, |_, _, _| ())?;
        }
        Ok(())
    }
}

impl Encode for Frontier {
    fn encode(&self, out: &mut Writer) {
        // The number of peaks follows from the count, so it is not written.
        out.u64(self.count);
        for peak in &self.peaks {
            out.raw(peak);
        }
    }
}

impl Decode for Frontier {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.u64("frontier count")?;
        let mut peaks = Vec::with_capacity(count.count_ones() as usize);
        for _ in 0..count.count_ones() {
            peaks.push(input.array("frontier peak")?);
        }
        Ok(Self { count, peaks })
    }
}

/// Perfect subtrees `(level, index)` that cover leaves `from..to`, left to right, or `None` when
/// `from > to`. At most [`RIGHT_MAX`].
pub fn right_subtrees(from: u64, to: u64) -> Option<Vec<(u32, u64)>> {
    let mut left = to.checked_sub(from)?;
    let mut at = from;
    let mut out = Vec::new();
    while left > 0 {
        let level = at.trailing_zeros().min(left.ilog2());
        out.push((level, at >> level));
        at += 1 << level;
        left -= 1 << level;
    }
    Some(out)
}

/// Perfect subtrees `(level, index)` of the first `count` leaves, largest first.
pub fn left_subtrees(count: u64) -> Vec<(u32, u64)> {
    let mut at = 0u64;
    let mut out = Vec::new();
    for level in (0..u64::BITS).rev() {
        if (count >> level) & 1 == 1 {
            out.push((level, at >> level));
            at += 1 << level;
        }
    }
    out
}

/// Proof that given leaves are exactly entries `from..from + len` of a tree of `count` leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeProof {
    /// Leaves of the whole tree.
    pub count: u64,
    /// Index of the first proved leaf.
    pub from: u64,
    /// Frontier peaks of the leaves before the range.
    pub left: Vec<Hash>,
    /// Subtrees after the range, left to right.
    pub right: Vec<Hash>,
}

impl RangeProof {
    /// Makes a proof for leaves `from..to` of `count`; `node(level, index)` answers the hash of a
    /// perfect subtree (level 0: a leaf). At most about `3·log2(count)` hashes, `2·log2(count)` for
    /// a single leaf (see the module).
    ///
    /// # Errors
    /// [`MerkleError::OutOfRange`] as `Ok(Err(..))`'s inner error; errors of `node` are passed on.
    pub fn make<E: From<MerkleError>>(
        count: u64,
        from: u64,
        to: u64,
        mut node: impl FnMut(u32, u64) -> Result<Hash, E>,
    ) -> Result<Self, E> {
        if from > to || to > count {
            return Err(MerkleError::OutOfRange { from, to, count }.into());
        }
        let mut collect = |subtrees: Vec<(u32, u64)>| {
            subtrees
                .into_iter()
                .map(|(level, index)| node(level, index))
                .collect::<Result<_, E>>()
        };
        let left = collect(left_subtrees(from))?;
        let right = collect(right_subtrees(to, count).unwrap_or_default())?;
        Ok(Self {
            count,
            from,
            left,
            right,
        })
    }

    /// The root (with count) that these leaves lead to, and the frontier of the whole tree.
    ///
    /// # Errors
    /// [`MerkleError`] when the shape does not fit; nothing is allocated beyond the proof's own
    /// size.
    pub fn frontier(&self, leaves: &[Hash]) -> Result<Frontier, MerkleError> {
        let out_of_range = |to| MerkleError::OutOfRange {
            from: self.from,
            to,
            count: self.count,
        };
        let to = self
            .from
            .checked_add(leaves.len() as u64)
            .ok_or(out_of_range(u64::MAX))?;
        if to > self.count {
            return Err(out_of_range(to));
        }
        let mut frontier = Frontier::from_parts(self.from, self.left.clone())?;
        for leaf in leaves {
            frontier.push(*leaf, |_, _, _| ())?;
        }
        frontier.extend(&self.right, self.count)?;
        Ok(frontier)
    }

    /// Checks that `leaves` are exactly the entries from `self.from` of the tree with this root.
    ///
    /// # Errors
    /// [`MerkleError`].
    pub fn verify(&self, leaves: &[Hash], root: &Hash) -> Result<(), MerkleError> {
        if self.frontier(leaves)?.root() == *root {
            Ok(())
        } else {
            Err(MerkleError::RootMismatch)
        }
    }
}

impl Encode for RangeProof {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.count)
            .u64(self.from)
            .list(&self.left)
            .list(&self.right);
    }
}

impl Decode for RangeProof {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            count: input.u64("range proof count")?,
            from: input.u64("range proof from")?,
            left: input.list("range proof left", PEAKS_MAX, 32)?,
            right: input.list("range proof right", RIGHT_MAX, 32)?,
        })
    }
}

/// Proof that a tree of `new_count` leaves extends one of `old_count` leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// Frontier of the older tree.
    pub old: Frontier,
    /// Leaves of the newer tree.
    pub new_count: u64,
    /// Subtrees appended since.
    pub right: Vec<Hash>,
}

impl ConsistencyProof {
    /// Checks that the newer root extends the older one.
    ///
    /// # Errors
    /// [`MerkleError`].
    pub fn verify(&self, old_root: &Hash, new_root: &Hash) -> Result<(), MerkleError> {
        if self.old.root() != *old_root {
            return Err(MerkleError::RootMismatch);
        }
        let mut frontier = self.old.clone();
        frontier.extend(&self.right, self.new_count)?;
        if frontier.root() == *new_root {
            Ok(())
        } else {
            Err(MerkleError::RootMismatch)
        }
    }
}

impl Encode for ConsistencyProof {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.old).u64(self.new_count).list(&self.right);
    }
}

impl Decode for ConsistencyProof {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            old: Frontier::decode(input)?,
            new_count: input.u64("consistency proof count")?,
            right: input.list("consistency proof", RIGHT_MAX, 32)?,
        })
    }
}

/// Root of a whole list of leaf hashes, count inside.
pub fn root_of(leaves: impl IntoIterator<Item = Hash>) -> Hash {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        // A list in memory never has 2^64 leaves.
        let _ = frontier.push(leaf, |_, _, _| ());
    }
    frontier.root()
}

/// The published root of the Go project: pairs hashed without tags, an odd node promoted, zero
/// for the empty set (`spec/wire.md` §2). It allows second preimages and depends on arrival
/// order: kept for compatibility, never signed or proved by us.
pub fn compat_root(leaves: &[Hash]) -> Hash {
    let mut level = leaves.to_vec();
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => sha256(&[left.as_slice(), right.as_slice()].concat()),
                odd => odd.first().copied().unwrap_or_default(),
            })
            .collect();
    }
    level.first().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
