//! An invitation as it travels: a head, which is sealed to whoever is invited, and the pieces of the
//! ratchet tree beside it.
//!
//! ```text
//! invitation ─┬─ head: who, epoch, welcome, tree secret, the list of pieces ─ one random key ─ chunk(s)
//!             └─ pieces (tree.rs): the same for every invitation while they do not change
//! ```
//!
//! A head that fits one chunk together with its tree has the whole tree: for some five devices there are
//! no pieces.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::limits::CHUNK_BYTES_MAX;
use session_crypto::{Secret, aead};
use zeroize::Zeroizing;

use crate::event::MemberDevice;
use crate::limits::{ADDS_MAX, WELCOME_MAX};
use crate::outgoing::{Invitation, Predecessor};
use crate::padding::padded_len;
use crate::tree::{CutTree, TreeError};

/// Bytes of a head: a welcome, and 69 for each piece.
pub const HEAD_MAX: usize = WELCOME_MAX + 128 * 1024;

/// Bytes of a head, padded, that is one sealed chunk.
const ONE_CHUNK: usize = CHUNK_BYTES_MAX - aead::TAG_BYTES;

/// An invitation, with its tree beside it. It is secret: it tells who is in the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationHead {
    to: Vec<MemberDevice>,
    predecessor: Option<Predecessor>,
    epoch: u64,
    welcome: Vec<u8>,
    tree_secret: Secret<32>,
    tree: HeadTree,
}

/// Where the ratchet tree of an invitation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadTree {
    /// Here, at most 64 KiB of it.
    Whole(Vec<u8>),
    /// In pieces.
    Cut(CutTree),
}

impl Invitation {
    /// Takes the tree apart. Answers the head, and the chunks that it names: those that the chain keeps
    /// already need not be put again.
    ///
    /// # Errors
    /// [`TreeError`], where the tree is none.
    pub fn split(&self) -> Result<(InvitationHead, Vec<Vec<u8>>), TreeError> {
        let head = |tree| InvitationHead {
            to: self.to.clone(),
            predecessor: self.predecessor,
            epoch: self.epoch,
            welcome: self.welcome.clone(),
            tree_secret: self.tree_secret.clone(),
            tree,
        };
        if self.tree.len() < ONE_CHUNK {
            let whole = head(HeadTree::Whole(self.tree.clone()));
            if padded_len(Zeroizing::new(whole.to_bytes()).len()) <= ONE_CHUNK {
                return Ok((whole, Vec::new()));
            }
        }
        let (cut, chunks) = CutTree::cut(&self.tree, &self.tree_secret)?;
        Ok((head(HeadTree::Cut(cut)), chunks))
    }
}

impl InvitationHead {
    /// Where the tree is.
    pub const fn tree(&self) -> &HeadTree {
        &self.tree
    }

    /// What the tree was cut with.
    pub const fn tree_secret(&self) -> &Secret<32> {
        &self.tree_secret
    }

    /// The invitation, with its tree put together.
    pub fn with_tree(self, tree: Vec<u8>) -> Invitation {
        Invitation {
            to: self.to,
            predecessor: self.predecessor,
            epoch: self.epoch,
            welcome: self.welcome,
            tree,
            tree_secret: self.tree_secret,
        }
    }
}

impl Encode for HeadTree {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Whole(tree) => out.u8(0).bytes(tree),
            Self::Cut(cut) => out.u8(1).value(cut),
        };
    }
}

impl Decode for HeadTree {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("tree of an invitation")? {
            0 => Ok(Self::Whole(
                input.bytes("ratchet tree", CHUNK_BYTES_MAX)?.to_vec(),
            )),
            1 => Ok(Self::Cut(Decode::decode(input)?)),
            value => Err(DecodeError::UnknownValue {
                what: "tree of an invitation",
                value: value.into(),
            }),
        }
    }
}

impl Encode for InvitationHead {
    fn encode(&self, out: &mut Writer) {
        out.list(&self.to)
            .option(self.predecessor.as_ref())
            .u64(self.epoch)
            .bytes(&self.welcome)
            .raw(self.tree_secret.expose())
            .value(&self.tree);
    }
}

impl Decode for InvitationHead {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            to: input.list("invited", ADDS_MAX, 48)?,
            predecessor: input.option("predecessor")?,
            epoch: input.u64("epoch")?,
            welcome: input.bytes("welcome", WELCOME_MAX)?.to_vec(),
            tree_secret: Secret::new(*Zeroizing::new(input.array::<32>("tree secret")?)),
            tree: Decode::decode(input)?,
        })
    }
}
