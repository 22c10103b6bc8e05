//! Why an operation failed, and what to do about it.

use session_core::ids::{AccountId, SessionId};
use session_crypto::{CryptoError, FileError};
use session_e2ee::E2eeError;
use session_storage::StoreError;

use crate::group::GroupError;
use crate::rpc::RpcError;
use crate::state::StateError;
use crate::trust::TrustError;

/// How keys that a name is not bound to came to be the current ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyChange {
    /// Each rotation was signed by the keys before it, back to those that are known.
    SignedByPrevious,
    /// The account's recovery key set them, whatever the previous keys said.
    ByRecoveryKey,
    /// Nobody shows who set them.
    Unverifiable,
}

impl KeyChange {
    /// As a clause: `the keys of bob have changed, …`.
    pub const fn clause(self) -> &'static str {
        match self {
            Self::SignedByPrevious => "and the previous keys have signed that",
            Self::ByRecoveryKey => {
                "set by the account's recovery key, which the previous keys have not signed"
            }
            Self::Unverifiable => "and the node cannot show who changed them",
        }
    }
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The node.
    #[error("{0}")]
    Rpc(#[from] RpcError),
    /// A proof.
    #[error("{0}")]
    Trust(#[from] TrustError),
    /// Keeping state.
    #[error("{0}")]
    State(#[from] StateError),
    /// Cryptography.
    #[error("{0}")]
    Crypto(#[from] CryptoError),
    /// The identity file.
    #[error("{path}: {error}")]
    IdentityFile {
        /// File.
        path: std::path::PathBuf,
        /// Why.
        error: FileError,
    },
    /// The identity file is JSON that is no identity.
    #[error("{path}: {error}")]
    IdentityJson {
        /// File.
        path: std::path::PathBuf,
        /// Why.
        error: session_crypto::IdentityJsonError,
    },
    /// There is no identity file.
    #[error("there is no identity in {0}")]
    NoIdentity(std::path::PathBuf),
    /// The key of the history, or of the conversations, is sealed to another identity.
    #[error("{0} does not belong to this identity: move it and what it seals away")]
    HistoryKey(std::path::PathBuf),
    /// Keys can only rotate where they are kept.
    #[error("this account was not opened from an identity file: new keys would be lost")]
    NotFromFile,
    /// A transaction was refused for good.
    #[error("{0}")]
    Refused(String),
    /// A transaction is not accepted yet: it stays in the outbox.
    #[error("{}; {waiting} wait in the outbox and are sent again", waiting_clause(.away.as_deref()))]
    Waiting {
        /// How many.
        waiting: usize,
        /// Why the node could not be asked, where it could not.
        away: Option<String>,
    },
    /// A transaction expired, and nobody can tell any more whether it was accepted before.
    #[error(
        "it is unknown whether {kind} (number {number} of the outbox) was accepted: it expired over \
         an hour ago; look whether it took effect, then `session outbox --again {number}` or \
         `--forget {number}`"
    )]
    UnknownFate {
        /// Number in the outbox.
        number: u64,
        /// What it does.
        kind: &'static str,
    },
    /// The other account has not registered.
    #[error("account {0} is not registered on this chain: ask its owner to connect once")]
    NotRegistered(AccountId),
    /// The node showed keys that are not the account's.
    #[error("the node showed keys that do not belong to account {0}")]
    OtherKeys(AccountId),
    /// The account ended.
    #[error(
        "account {0} was revoked by its owner: nothing is sealed to it any more, write without it"
    )]
    PeerRevoked(AccountId),
    /// Rotated keys of an account that no name is bound to, and nothing links them to its id.
    #[error(
        "the keys of account {account} were changed (rotation {index}), {}: add it as a contact \
         after asking its owner", .how.clause()
    )]
    UnvouchedKeys {
        /// Account.
        account: AccountId,
        /// Rotation index that the chain shows.
        index: u32,
        /// How.
        how: KeyChange,
    },
    /// A contact's keys are others than the ones the name was bound to.
    #[error(
        "the keys of {name} have changed (rotation {index}), {}: ask {name} by another way whether \
         that is so, then accept them with `session contact accept {name}`", .how.clause()
    )]
    KeyChanged {
        /// Name of the contact.
        name: String,
        /// Rotation index that the chain shows.
        index: u32,
        /// How.
        how: KeyChange,
    },
    /// This identity's keys are not the account's any more.
    #[error(
        "the keys of this account were rotated elsewhere (rotation {index}), and the ones here \
         count no more: use the identity of the device that did it or `session identity recover` \
         with your 24 words; if it was not you, `session identity recover --take-back`"
    )]
    RotatedElsewhere {
        /// Rotation index that the chain shows.
        index: u32,
    },
    /// This account ended.
    #[error("this account was revoked for good: make a new identity, and tell your contacts")]
    Revoked,
    /// No recovery key was registered, or another one.
    #[error(
        "these words hold no recovery key of this account: none was registered with it, or \
         another one"
    )]
    NoRecoveryKey,
    /// Keys that rotated on another chain cannot register on this one.
    #[error("this identity rotated its keys on another chain and has no words to register here")]
    OtherChainKeys,
    /// Needs the node at least once before.
    #[error("this account was never opened on a chain: the node is needed once")]
    NeverOpened,
    /// Keys of somebody that were never seen.
    #[error("the keys of account {0} are not known here yet, and the node does not answer")]
    KeysNotKnown(AccountId),
    /// Participants of a session that were never seen.
    #[error("the participants of session {0} are not known here yet, and the node does not answer")]
    SessionNotKnown(SessionId),
    /// The session is unknown here.
    #[error("session {0} has no participant but this account")]
    NoPeer(SessionId),
    /// This account takes no part.
    #[error("this account takes no part in session {0}")]
    NotIn(SessionId),
    /// Not 2 to 100 different people.
    #[error(
        "a session has 2 to 100 different participants, you among them: {0} were given, or one twice"
    )]
    Participants(usize),
    /// Text or file too large.
    #[error("{what} of {len} bytes: at most {limit} are possible")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Given.
        len: u64,
        /// Limit.
        limit: u64,
    },
    /// A name that no recipient would take.
    #[error("{0:?} is no name for a file: one component, not hidden, at most 255 bytes")]
    FileName(String),
    /// The device's conversations.
    #[error("{0}")]
    E2ee(#[from] E2eeError),
    /// Where they lie.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A group on the chain.
    #[error("{0}")]
    Group(#[from] GroupError),
    /// The reply makes no sense.
    #[error("the node's reply makes no sense: {0}")]
    Reply(&'static str),
}

fn waiting_clause(away: Option<&str>) -> String {
    match away {
        Some(problem) => format!("kept in the outbox, because {problem}"),
        None => "not accepted yet, kept in the outbox".to_owned(),
    }
}
