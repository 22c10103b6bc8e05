//! What can go wrong, as facts. After any of these a device is as it was before the call.

use session_core::codec::DecodeError;
use session_core::ids::GroupId;
use session_crypto::CryptoError;

use crate::credential::DeviceId;
use crate::frame::FrameError;
use crate::policy::PolicyError;
use crate::records::RecordError;
use crate::rejoin::RejoinRefusal;
use crate::vault::VaultError;
use crate::verdict::Refusal;

/// Why a call did nothing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum E2eeError {
    /// The disk, or what is on it.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A record of the library.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A stored record of ours is not what was written.
    #[error("a stored record is damaged: {0}")]
    Stored(DecodeError),
    /// Keys, signatures, randomness.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// Bytes from outside are not what they should be.
    #[error("malformed {what}")]
    Malformed {
        /// What they were to be.
        what: &'static str,
    },
    /// Bytes from outside are longer than anything of that kind.
    #[error("{what} of {bytes} bytes, at most {limit}")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The check list refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A device is not let back into its group.
    #[error(transparent)]
    Rejoin(#[from] RejoinRefusal),
    /// One's role does not allow it.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// A frame cannot be sealed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// There is no device in this store yet, or it waits to be linked.
    #[error("this store has no linked device")]
    NotLinked,
    /// There is a device in this store already.
    #[error("this store has a device already")]
    DeviceExists,
    /// This device is not in such a group.
    #[error("this device is not in group {0}")]
    UnknownGroup(GroupId),
    /// This device is in the group, at this epoch or a later one.
    #[error("this device is in group {0} already")]
    AlreadyJoined(GroupId),
    /// The group stands still, is closed, or this device was removed from it.
    #[error("group {0} is not active")]
    NotActive(GroupId),
    /// A commit of this device waits for the chain already.
    #[error("a commit of group {0} waits to be accepted")]
    CommitPending(GroupId),
    /// Not the next entry of the log.
    #[error("entry {got} of the log, {expected} is next")]
    OutOfOrder {
        /// The next one.
        expected: u64,
        /// The one given.
        got: u64,
    },
    /// A commit for another epoch than the next, in the right place of the log: the caller's log is
    /// not that of this group.
    #[error("the log is at epoch {log}, this device at {here}")]
    WrongEpoch {
        /// Epoch that the entry leads to.
        log: u64,
        /// Epoch of this device.
        here: u64,
    },
    /// The group's cryptography is none that this program has.
    #[error("the suite is not supported")]
    WrongSuite,
    /// A key package is past its time, by its directory record.
    #[error("the key package of device {0} has expired")]
    KeyPackageExpired(DeviceId),
    /// The welcome is for no key package that this device has: used, expired, or somebody else's.
    #[error("the welcome is for no key package of this device")]
    NoKeyPackage,
    /// The welcome, its tree and the chain's record of the group do not belong together.
    #[error("welcome, tree and chain do not belong together")]
    WrongInvitation,
    /// The predecessor that a welcome names is not known here at that epoch.
    #[error("the group before this one is not known here")]
    NoPredecessor,
    /// A member that is not there.
    #[error("there is no such member")]
    NoSuchMember,
    /// Nothing would change.
    #[error("nothing would change")]
    NothingToDo,
    /// Too many things wait to be sent.
    #[error("the outbox is full")]
    OutboxFull,
    /// A sealed transfer that this code or key does not open.
    #[error("the link does not open")]
    LinkDoesNotOpen,
    /// openmls failed where it should not.
    #[error("the MLS library failed: {doing}")]
    Library {
        /// What it was doing.
        doing: &'static str,
    },
}

impl E2eeError {
    /// Whether whoever made the bytes is to blame, and not this device or its caller.
    pub const fn is_peer_fault(&self) -> bool {
        match self {
            Self::Malformed { .. }
            | Self::TooLarge { .. }
            | Self::Refused(_)
            | Self::Rejoin(_)
            | Self::WrongSuite
            | Self::KeyPackageExpired(_)
            | Self::NoKeyPackage
            | Self::WrongInvitation
            | Self::LinkDoesNotOpen => true,
            Self::Vault(_)
            | Self::Record(_)
            | Self::Stored(_)
            | Self::Crypto(_)
            | Self::Policy(_)
            | Self::Frame(_)
            | Self::NotLinked
            | Self::DeviceExists
            | Self::UnknownGroup(_)
            | Self::AlreadyJoined(_)
            | Self::NotActive(_)
            | Self::CommitPending(_)
            | Self::OutOfOrder { .. }
            | Self::WrongEpoch { .. }
            | Self::NoPredecessor
            | Self::NoSuchMember
            | Self::NothingToDo
            | Self::OutboxFull
            | Self::Library { .. } => false,
        }
    }
}

/// Refuses bytes that are longer than their kind.
pub(crate) const fn bounded(
    what: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<(), E2eeError> {
    if bytes.len() <= limit {
        Ok(())
    } else {
        Err(E2eeError::TooLarge {
            what,
            bytes: bytes.len(),
            limit,
        })
    }
}
