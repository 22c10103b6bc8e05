//! A ratchet tree in pieces, so that what did not change is stored once (`spec/e2ee.md` §1 C).
//!
//! ```text
//! nodes        0  1  2  3  4  5  6 │ 7 │ 8  9 10 11 12 13 14 │15 │16 ...
//!              └── four leaves and ┘  │  └── the next four ───┘  │
//!                  what is above      └───────────┬──────────────┘
//! every eighth                    7 15 23 31 39 47 55 │ 63 │ 71 ...     cut in the same way, and
//! every eighth of those                                                so on
//!
//! piece = nodes as they are in the MLS ratchet_tree (RFC 9420 §12.4.3.3), end to end
//! key   = keyed BLAKE2b(tree secret; piece, padded)
//! chunk = XChaCha20-Poly1305(key, nonce = 24 zeros, piece, padded)
//! ```
//!
//! The same piece is the same chunk, with the same id, for whoever knows the tree secret. A key seals one
//! plaintext, the one that it comes from, so its nonce may stay. A change of one leaf changes one piece of
//! each row at most: every eighth node goes up because it lies above more leaves than its neighbours, and
//! would take their pieces along.
//!
//! The tree secret keeps everybody else from guessing: leaves are published as key packages, and whoever
//! could compute a chunk's id from them would know who is in a group. It comes from the exporter of the
//! group's first epoch, and of each that somebody was removed with, and goes to newcomers with their
//! invitation. So who was removed recognises nothing that is put later.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::ChunkId;
use session_core::limits::CHUNK_BYTES_MAX;
use session_core::record::Chunk;
use session_crypto::derive::keyed;
use session_crypto::{CryptoError, Secret, aead};
use std::collections::BTreeMap;
use tls_codec::{DeserializeBytes as _, Serialize as _, TlsVarInt};
use zeroize::Zeroizing;

use crate::limits::{LEAVES_MAX, TREE_MAX};
use crate::padding::{pad, padded_len, unpad};

/// Of so many nodes of a row one goes up.
const CUT: usize = 8;

/// Nodes of a tree of 1,024 leaves.
const NODES_MAX: usize = 2 * LEAVES_MAX - 1;

/// Pieces of a tree: 293 of 1,024 leaves, and some more where large leaves make two of one.
const PIECES_MAX: usize = 1_024;

/// Bytes of a piece, padded.
const PADDED_MAX: usize = CHUNK_BYTES_MAX - aead::TAG_BYTES;

/// Shorter pieces are told as they are: naming and opening one takes as much. Such are the blank ones.
const HERE_MAX: usize = 64;

/// Why a tree cannot be cut, or put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// These bytes are no ratchet tree.
    #[error("the ratchet tree is malformed")]
    Malformed,
    /// More than 2,047 nodes, 12 MiB, or a node that no chunk takes.
    #[error("the ratchet tree is too large")]
    TooLarge,
    /// There is no piece of that number.
    #[error("the ratchet tree has no piece {index}")]
    NoSuchPiece {
        /// Its number, from 0.
        index: usize,
    },
    /// The chunk is not the one that is named, or not what its key comes from.
    #[error("piece {index} of the ratchet tree is not the one that was named")]
    WrongPiece {
        /// Its number, from 0.
        index: usize,
    },
    /// A piece is not there.
    #[error("piece {index} of the ratchet tree is missing")]
    Missing {
        /// Number of the first, from 0.
        index: usize,
    },
    /// Sealing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// Some nodes of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// At most 64 bytes.
    Here(Vec<u8>),
    /// A chunk, and the key that opens it.
    There { id: ChunkId, key: Secret<32> },
}

/// A ratchet tree as the list of its pieces. Whoever has it can read the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutTree {
    pieces: Vec<Piece>,
}

impl CutTree {
    /// Cuts an MLS `ratchet_tree` of at most 12 MiB. Answers the list, and the chunks that it names, each
    /// of at most 64 KiB.
    ///
    /// # Errors
    /// [`TreeError::Malformed`], [`TreeError::TooLarge`], [`TreeError::Crypto`].
    pub fn cut(tree: &[u8], secret: &Secret<32>) -> Result<(Self, Vec<Vec<u8>>), TreeError> {
        let nodes = nodes_of(tree)?;
        let (mut pieces, mut chunks) = (Vec::new(), Vec::new());
        for group in groups(nodes.len()) {
            let mut piece = Zeroizing::new(Vec::new());
            for index in group {
                let node = nodes.get(index).ok_or(TreeError::Malformed)?;
                if !piece.is_empty() && padded_len(piece.len() + node.len()) > PADDED_MAX {
                    pieces.push(seal(&piece, secret, &mut chunks)?);
                    piece.clear();
                }
                piece.extend_from_slice(node);
            }
            pieces.push(seal(&piece, secret, &mut chunks)?);
        }
        if pieces.len() > PIECES_MAX {
            return Err(TreeError::TooLarge);
        }
        Ok((Self { pieces }, chunks))
    }

    /// Begins to put the tree together, for which `secret` is the one that it was cut with.
    pub const fn gather<'a>(&'a self, secret: &'a Secret<32>) -> Gathering<'a> {
        Gathering {
            of: self,
            secret,
            parts: BTreeMap::new(),
            bytes: 0,
        }
    }
}

/// A tree whose pieces arrive in any order.
#[derive(Debug)]
pub struct Gathering<'a> {
    of: &'a CutTree,
    secret: &'a Secret<32>,
    parts: BTreeMap<usize, Zeroizing<Vec<u8>>>,
    bytes: usize,
}

impl Gathering<'_> {
    /// Chunks that are not there yet, with the numbers of their pieces.
    pub fn missing(&self) -> impl Iterator<Item = (usize, ChunkId)> {
        let pieces = self.of.pieces.iter().enumerate();
        pieces.filter_map(|(index, piece)| match piece {
            Piece::There { id, .. } if !self.parts.contains_key(&index) => Some((index, *id)),
            Piece::There { .. } | Piece::Here(_) => None,
        })
    }

    /// Takes a chunk, checks that it is the one that is named, and opens it.
    ///
    /// # Errors
    /// [`TreeError::NoSuchPiece`], [`TreeError::WrongPiece`]; [`TreeError::TooLarge`] where all that were
    /// taken are more than a tree can be.
    pub fn put(&mut self, index: usize, chunk: &[u8]) -> Result<(), TreeError> {
        let Some(Piece::There { id, key }) = self.of.pieces.get(index) else {
            return Err(TreeError::NoSuchPiece { index });
        };
        let wrong = TreeError::WrongPiece { index };
        if Chunk::id(chunk) != *id || chunk.len() > CHUNK_BYTES_MAX {
            return Err(wrong);
        }
        if self.bytes + chunk.len() > TREE_MAX {
            return Err(TreeError::TooLarge);
        }
        let padded = aead::open_with_nonce(key, &[0; aead::NONCE_BYTES], &[], chunk);
        let mut padded = Zeroizing::new(padded.map_err(|_| wrong)?);
        if key_of(&padded, self.secret) != *key {
            return Err(wrong);
        }
        let length = unpad(&padded).map_err(|_| wrong)?.len();
        padded.truncate(length);
        self.bytes += chunk.len();
        self.parts.insert(index, padded);
        Ok(())
    }

    /// The MLS `ratchet_tree`, once every piece is there. That it is the group's, MLS shows by its tree
    /// hash.
    ///
    /// # Errors
    /// [`TreeError::Missing`], [`TreeError::Malformed`], [`TreeError::TooLarge`].
    pub fn finish(self) -> Result<Vec<u8>, TreeError> {
        let mut nodes = Vec::new();
        for (index, piece) in self.of.pieces.iter().enumerate() {
            let mut rest = match piece {
                Piece::Here(bytes) => bytes.as_slice(),
                Piece::There { .. } => {
                    let part = self.parts.get(&index);
                    part.ok_or(TreeError::Missing { index })?.as_slice()
                }
            };
            while !rest.is_empty() {
                if nodes.len() >= NODES_MAX {
                    return Err(TreeError::TooLarge);
                }
                let (node, behind) = split_node(rest).ok_or(TreeError::Malformed)?;
                nodes.push(node);
                rest = behind;
            }
        }
        let mut in_order = vec![None; nodes.len()];
        for (index, node) in groups(nodes.len()).into_iter().flatten().zip(&nodes) {
            if let Some(place) = in_order.get_mut(index) {
                *place = Some(*node);
            }
        }
        let bytes: usize = nodes.iter().map(|node| node.len()).sum();
        let prefix = u64::try_from(bytes).ok().and_then(|bytes| {
            let length = TlsVarInt::try_from(bytes).ok()?;
            length.tls_serialize_detached().ok()
        });
        let mut tree = prefix.ok_or(TreeError::TooLarge)?;
        tree.reserve_exact(bytes);
        for node in in_order.into_iter().flatten() {
            tree.extend_from_slice(node);
        }
        if tree.len() > TREE_MAX {
            return Err(TreeError::TooLarge);
        }
        Ok(tree)
    }
}

fn key_of(padded: &[u8], secret: &Secret<32>) -> Secret<32> {
    keyed(secret, Tag::TreePieceKey, &[padded])
}

/// Seals a piece, where it is not told as it is.
fn seal(piece: &[u8], secret: &Secret<32>, chunks: &mut Vec<Vec<u8>>) -> Result<Piece, TreeError> {
    if piece.len() <= HERE_MAX {
        return Ok(Piece::Here(piece.to_vec()));
    }
    if padded_len(piece.len()) > PADDED_MAX {
        return Err(TreeError::TooLarge);
    }
    let mut padded = Zeroizing::new(piece.to_vec());
    pad(&mut padded);
    let key = key_of(&padded, secret);
    let mut chunk = Vec::with_capacity(padded.len() + aead::TAG_BYTES);
    aead::seal_with_nonce(&key, &[0; aead::NONCE_BYTES], &[], &padded, &mut chunk)?;
    let id = Chunk::id(&chunk);
    chunks.push(chunk);
    Ok(Piece::There { id, key })
}

/// Which nodes go together, in the order in which they are told: row by row.
fn groups(nodes: usize) -> Vec<Vec<usize>> {
    let mut groups = Vec::new();
    let (mut first, mut step) = (0, 1);
    while first < nodes {
        let row: Vec<usize> = (first..nodes).step_by(step).collect();
        groups.extend(row.chunks(CUT).map(|eight| {
            let kept = eight.iter().take(CUT - 1);
            kept.copied().collect()
        }));
        first += (CUT - 1) * step;
        step *= CUT;
    }
    groups
}

/// The nodes of a `ratchet_tree`, each as it is written there.
fn nodes_of(tree: &[u8]) -> Result<Vec<&[u8]>, TreeError> {
    if tree.len() > TREE_MAX {
        return Err(TreeError::TooLarge);
    }
    let content = split_vector(tree).filter(|(_, behind)| behind.is_empty());
    let (mut rest, _) = content.ok_or(TreeError::Malformed)?;
    let mut nodes = Vec::new();
    while !rest.is_empty() {
        if nodes.len() >= NODES_MAX {
            return Err(TreeError::TooLarge);
        }
        let (node, behind) = split_node(rest).ok_or(TreeError::Malformed)?;
        nodes.push(node);
        rest = behind;
    }
    Ok(nodes)
}

/// The first of several `optional<Node>`, and what is behind it. Only as much is read of it as its end
/// takes: the library reads the rest.
fn split_node(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (present, rest) = bytes.split_first()?;
    let behind = match present {
        0 => rest,
        1 => match rest.split_first()? {
            (1, leaf) => skip_leaf(leaf)?,
            (2, parent) => skip_vectors(parent, 3)?,
            _ => return None,
        },
        _ => return None,
    };
    bytes.split_at_checked(bytes.len() - behind.len())
}

/// RFC 9420 §7.2: two keys, a credential, five lists of capabilities, where the leaf is from, extensions,
/// signature.
fn skip_leaf(leaf: &[u8]) -> Option<&[u8]> {
    let credential = skip_vectors(leaf, 2)?.get(2..)?;
    let (source, rest) = skip_vectors(credential, 1 + 5)?.split_first()?;
    let rest = match source {
        // A key package: from when to when it is good.
        1 => rest.get(16..)?,
        // An update.
        2 => rest,
        // A commit: hash of the parent.
        3 => skip_vectors(rest, 1)?,
        _ => return None,
    };
    skip_vectors(rest, 2)
}

fn skip_vectors(bytes: &[u8], count: usize) -> Option<&[u8]> {
    let mut rest = bytes;
    for _ in 0..count {
        (_, rest) = split_vector(rest)?;
    }
    Some(rest)
}

/// A vector's content, and what is behind it.
fn split_vector(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = TlsVarInt::tls_deserialize_bytes(bytes).ok()?;
    rest.split_at_checked(usize::try_from(length.value()).ok()?)
}

impl Encode for Piece {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Here(bytes) => out.u8(0).bytes(bytes),
            Self::There { id, key } => out.u8(1).value(id).raw(key.expose()),
        };
    }
}

impl Decode for Piece {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("piece of a tree")? {
            0 => Ok(Self::Here(input.bytes("nodes", HERE_MAX)?.to_vec())),
            1 => Ok(Self::There {
                id: Decode::decode(input)?,
                key: Secret::new(*Zeroizing::new(input.array::<32>("key of a piece")?)),
            }),
            value => Err(DecodeError::UnknownValue {
                what: "piece of a tree",
                value: value.into(),
            }),
        }
    }
}

impl Encode for CutTree {
    fn encode(&self, out: &mut Writer) {
        out.list(&self.pieces);
    }
}

impl Decode for CutTree {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            pieces: input.list("pieces of a tree", PIECES_MAX, 5)?,
        })
    }
}

#[cfg(test)]
mod tests;
