//! What is to be sent. Everything here was stored before it is given out, and stays in the outbox
//! until the chain has accepted it: after a crash the same bytes are sent again.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::group;
use session_core::ids::{ChainId, Digest, GroupId};
use session_crypto::{Secret, SigningPublicKey};
use zeroize::Zeroizing;

use crate::event::MemberDevice;
use crate::limits::{ADDS_MAX, COMMIT_MAX, FRAME_MAX, TREE_MAX, WELCOME_MAX};

/// One thing to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Counts what this device sends; names it towards [`Device`](crate::Device).
    pub number: u64,
    /// The conversation.
    pub group: GroupId,
    /// What it is.
    pub kind: OutgoingKind,
}

/// What is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutgoingKind {
    /// Begins the group's log on the chain.
    Create(Box<Creation>),
    /// Swaps one epoch for the next.
    Commit(Box<Advance>),
    /// A message, to be posted under the posting key of its epoch.
    Frame {
        /// Epoch that it was sealed in.
        epoch: u64,
        /// The frame.
        frame: Vec<u8>,
    },
    /// An invitation, to be sealed to its receivers. It comes out once its commit is accepted.
    Invitation(Box<Invitation>),
}

/// What the chain is told of a new group. Signed by the admin key and by the control key of `epoch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// The chain.
    pub chain: ChainId,
    /// With chain and admin key it makes the group id.
    pub salt: [u8; 32],
    /// First admin key of the group.
    pub admin: SigningPublicKey,
    /// The epoch that the log begins with: 1, since the first commit stays at home.
    pub epoch: u64,
    /// What the chain's record of that epoch says of a commit: zero.
    pub commit_hash: Digest,
    /// The epoch's keys towards the chain.
    pub keys: ChainKeys,
}

/// A commit for the chain: a swap of `from_epoch` for the next, signed by the control key of
/// `from_epoch`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advance {
    /// The epoch that it leaves.
    pub from_epoch: u64,
    /// The commit, a PrivateMessage. Above 64 KiB it goes as chunks.
    pub commit: Vec<u8>,
    /// The new epoch's keys towards the chain.
    pub keys: ChainKeys,
    /// Somebody is removed: the chain refuses posts of earlier epochs from here on.
    pub removes: bool,
}

/// The public keys of an epoch that the chain checks its posts and advances by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainKeys {
    /// Signs posts of this epoch.
    pub posting: SigningPublicKey,
    /// Signs the advance out of this epoch.
    pub control: SigningPublicKey,
}

/// A welcome with its ratchet tree, for up to 50 devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// Who is welcome.
    pub to: Vec<MemberDevice>,
    /// The group that this one follows, if it does: its members derive a secret from it.
    pub predecessor: Option<Predecessor>,
    /// The epoch that one joins.
    pub epoch: u64,
    /// MLS welcome.
    pub welcome: Vec<u8>,
    /// MLS ratchet tree of that epoch.
    pub tree: Vec<u8>,
    /// What the tree is cut with (`tree.rs`); newcomers go on with it.
    pub tree_secret: Secret<32>,
}

/// The last common epoch of a group that another one follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    /// The group.
    pub group: GroupId,
    /// Its epoch.
    pub epoch: u64,
}

/// The id of a group: H(group, chain │ first admin key │ salt). It is the MLS group id too, so
/// nothing of a group can be replayed on another chain, and nobody can take the id beforehand.
pub fn group_id(chain: ChainId, admin: &SigningPublicKey, salt: &[u8; 32]) -> GroupId {
    group::group_id(&chain, admin.as_bytes(), salt)
}

/// The hash that links a commit to the next, and by which one's own is recognised.
pub fn commit_hash(commit: &[u8]) -> Digest {
    group::hash_of_commit(commit)
}

impl Encode for ChainKeys {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.posting).value(&self.control);
    }
}

impl Decode for ChainKeys {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            posting: Decode::decode(input)?,
            control: Decode::decode(input)?,
        })
    }
}

impl Encode for Creation {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.chain)
            .raw(&self.salt)
            .value(&self.admin)
            .u64(self.epoch)
            .value(&self.commit_hash)
            .value(&self.keys);
    }
}

impl Decode for Creation {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            chain: Decode::decode(input)?,
            salt: input.array("group salt")?,
            admin: Decode::decode(input)?,
            epoch: input.u64("first epoch")?,
            commit_hash: Decode::decode(input)?,
            keys: Decode::decode(input)?,
        })
    }
}

impl Encode for Advance {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.from_epoch)
            .bytes(&self.commit)
            .value(&self.keys)
            .bool(self.removes);
    }
}

impl Decode for Advance {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from_epoch: input.u64("epoch")?,
            commit: input.bytes("commit", COMMIT_MAX)?.to_vec(),
            keys: Decode::decode(input)?,
            removes: input.bool("removes")?,
        })
    }
}

impl Encode for Predecessor {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.group).u64(self.epoch);
    }
}

impl Decode for Predecessor {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: Decode::decode(input)?,
            epoch: input.u64("epoch of predecessor")?,
        })
    }
}

impl Encode for Invitation {
    fn encode(&self, out: &mut Writer) {
        out.list(&self.to)
            .option(self.predecessor.as_ref())
            .u64(self.epoch)
            .bytes(&self.welcome)
            .bytes(&self.tree)
            .raw(self.tree_secret.expose());
    }
}

impl Decode for Invitation {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            to: input.list("invited", ADDS_MAX, 48)?,
            predecessor: input.option("predecessor")?,
            epoch: input.u64("epoch")?,
            welcome: input.bytes("welcome", WELCOME_MAX)?.to_vec(),
            tree: input.bytes("ratchet tree", TREE_MAX)?.to_vec(),
            tree_secret: Secret::new(*Zeroizing::new(input.array::<32>("tree secret")?)),
        })
    }
}

impl Encode for Outgoing {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.number).value(&self.group);
        match &self.kind {
            OutgoingKind::Create(creation) => out.u8(1).value(&**creation),
            OutgoingKind::Commit(advance) => out.u8(2).value(&**advance),
            OutgoingKind::Frame { epoch, frame } => out.u8(3).u64(*epoch).bytes(frame),
            OutgoingKind::Invitation(invitation) => out.u8(4).value(&**invitation),
        };
    }
}

impl Decode for Outgoing {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: input.u64("number")?,
            group: Decode::decode(input)?,
            kind: match input.u8("outgoing")? {
                1 => OutgoingKind::Create(Box::new(Decode::decode(input)?)),
                2 => OutgoingKind::Commit(Box::new(Decode::decode(input)?)),
                3 => OutgoingKind::Frame {
                    epoch: input.u64("epoch")?,
                    frame: input.bytes("frame", FRAME_MAX)?.to_vec(),
                },
                4 => OutgoingKind::Invitation(Box::new(Decode::decode(input)?)),
                value => {
                    return Err(DecodeError::UnknownValue {
                        what: "outgoing",
                        value: value.into(),
                    });
                }
            },
        })
    }
}
