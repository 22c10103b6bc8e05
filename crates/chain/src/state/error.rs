//! Why a transaction does not apply: facts, which the RPC's table of codes and clients act on.

use session_core::codec::DecodeError;
use session_core::group::StalePost;
use session_core::ids::{ChunkId, GroupId};
use session_core::merkle::MerkleError;
use session_core::record::Outcome;

use crate::view::ViewError;

/// Why a transaction does not apply.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "the text of each variant is its documentation")]
pub enum TxError {
    #[error("unknown session")]
    UnknownSession,
    #[error("session expired")]
    SessionExpired,
    #[error("session closed")]
    SessionClosed,
    #[error("session full")]
    SessionFull,
    #[error("session is not active")]
    NotActive,
    #[error("unknown channel")]
    UnknownChannel,
    #[error("channel closed")]
    ChannelClosed,
    #[error("a channel takes batches only: a single message does not expire")]
    BatchOnly,
    #[error("unauthorized")]
    Unauthorized,
    #[error("unknown account: register its keys first")]
    UnknownAccount,
    #[error("the account's keys count from the next block")]
    KeysNextBlock,
    #[error("account revoked")]
    Revoked,
    #[error("already registered")]
    AlreadyRegistered,
    #[error("the keys do not hash to the account")]
    NotTheKeysAccount,
    #[error("another key is registered for the participant")]
    OtherKeyRegistered,
    #[error("invalid public key")]
    InvalidKey,
    #[error("a participant's public key is missing")]
    KeyMissing,
    #[error("a session has at least 2 participants, got {got}")]
    TooFewParticipants { got: usize },
    #[error("signature required: this chain admits only signed transactions")]
    SignatureRequired,
    #[error("invalid signature")]
    InvalidSignature,
    #[error("signatures of 05 accounts are refused: the genesis says allowLegacy false")]
    LegacyRefused,
    #[error("already accepted")]
    AlreadyAccepted,
    #[error("already acknowledged")]
    AlreadyAcknowledged,
    #[error("only {count} messages exist")]
    NotThatMany { count: u64 },
    #[error("already a member")]
    AlreadyMember,
    #[error("not a member")]
    NotAMember,
    #[error("the last owner stays")]
    LastOwner,
    #[error("insufficient balance")]
    InsufficientBalance,
    #[error("limit reached: {what}")]
    LimitReached { what: &'static str },
    #[error("too many {what}: try again in {retry_ms} ms")]
    RateLimited { what: &'static str, retry_ms: u64 },
    #[error("expired: valid until {valid_until} ms, block time is {now} ms")]
    Expired { valid_until: u64, now: u64 },
    #[error("valid for too long: at most one hour ahead of block time {now} ms")]
    ValidTooLong { now: u64 },
    #[error("already accepted before")]
    Duplicate { outcome: Outcome },
    #[error("a message of the batch was accepted before, as number {sequence}")]
    MessageKnown { sequence: u64 },
    #[error("unknown group")]
    UnknownGroup,
    #[error("a group with that id exists")]
    GroupExists,
    #[error("the group's salt has passed, or lies more than 30 days ahead of block time {now} ms")]
    GroupUntil { now: u64 },
    #[error("group closed: nobody posted for 90 days")]
    GroupIdle,
    #[error("group superseded by {successor}")]
    GroupSuperseded { successor: GroupId },
    #[error("a group takes posts that its posting key signed, and nothing that an account sends")]
    PostsOnly,
    #[error("{0}")]
    StalePost(#[from] StalePost),
    #[error("another commit was first: the group is in epoch {current}")]
    WrongEpoch { current: u64 },
    #[error("in this group an advance needs an admin's signature")]
    AdminSignatureRequired,
    #[error("not an admin key of the group")]
    NotAnAdmin,
    #[error("an admin key is named twice")]
    AdminTwice,
    #[error("{got} admins signed, {needed} are needed")]
    NotAMajority { got: usize, needed: usize },
    #[error("the successor is no other open group")]
    NoSuccessor,
    #[error("the group's budget is used up")]
    BudgetUsedUp,
    #[error("unknown chunk {id}")]
    UnknownChunk { id: ChunkId },
    #[error("the account has no key package to give")]
    NoKeyPackages,
    #[error("the key package is published already")]
    KeyPackageKnown,
    #[error("a key package expires within 90 days from now, block time is {now} ms")]
    KeyPackageExpiry { now: u64 },
    #[error("the block is full")]
    BlockFull,
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    #[error("{0}")]
    Tree(#[from] MerkleError),
    #[error("{0}")]
    View(#[from] ViewError),
}

impl TxError {
    /// Whether the transaction may still apply to a later block.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::KeysNextBlock | Self::BlockFull)
    }
}
