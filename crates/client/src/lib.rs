//! The SDK of Lux Session.
//!
//! ```text
//! Account ── send ──▶ outbox (on disk) ── signed transactions ──▶ node
//!    ▲                                                              │
//!    └── receive: entries ◀── proof and head verified ◀── messages ─┘
//! ```
//!
//! An [`Account`] is an identity with a directory of its own on one chain. It verifies every
//! proof and head by default, refuses replayed envelopes, and keeps what it sends until the chain
//! has accepted it. The directory belongs to one program at a time: [`StateDir::claim`] is how
//! programs find out who is first.
//!
//! What sessions do **not** give: forward secrecy against theft of the long-term key. Messages are
//! sealed to the recipient's ML-KEM key; whoever steals that key reads every message ever sent to
//! it that is still stored somewhere. [`Groups`] have it: conversations of MLS devices, whose keys
//! are erased once they are used.
//!
//! ```
//! use session_client::{Account, RpcClient};
//! use session_crypto::Identity;
//!
//! # #[tokio::main(flavor = "multi_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! let node = session_fixture::ThrowawayNode::start().await?;
//! let rpc = RpcClient::new(&node.url(), None)?;
//! let mut alice =
//!     Account::open(rpc.clone(), Identity::generate()?, &directory.path().join("alice")).await?;
//! let mut bob =
//!     Account::open(rpc, Identity::generate()?, &directory.path().join("bob")).await?;
//!
//! let session = alice.create_session(bob.id()).await?;
//! alice.send_text(&session, "Hello, Bob").await?;
//!
//! let inbox = bob.receive(&session).await?;
//! assert_eq!(inbox.texts(), ["Hello, Bob"]);
//! # Ok(())
//! # }
//! ```

mod account;
mod channel;
mod chats;
mod chunk;
mod claim;
mod committee;
pub mod content;
mod conversation;
mod error;
mod gap;
mod group;
mod history;
mod identity_file;
mod inbox;
mod invitations;
mod key_history;
mod outbox;
mod people;
mod rejoins;
mod rotation;
mod rpc;
mod sealed_lines;
mod session;
mod state;
mod tls;
mod transcript;
mod trust;

pub use account::Account;
pub use channel::{ChannelView, ListedMember};
pub use chats::{
    Back, Chats, Entered, Glance, Known, LinkOffer, Linked, Looked, Mail, NewDeviceLink, Request,
    Standing, Update,
};
pub use claim::{Claim, Claimed, Wanted};
pub use committee::{Committee, Member};
pub use conversation::Sent;
pub use error::{ClientError, KeyChange};
pub use gap::Gap;
pub use group::{
    CodeError, Flushed as GroupFlushed, GroupError, GroupPage, Groups, InvitationCode, Invited,
    KeyPackageCode, NewGroup, Superseded,
};
pub use history::{History, HistoryLine};
pub use identity_file::{IdentityFile, Lock};
pub use inbox::{Inbox, Item, KeyState, Received};
pub use invitations::{HeldInvitation, INVITATIONS_OF_ONE_MAX};
pub use key_history::fingerprint;
pub use outbox::{Flushed, Kept};
pub use people::Lookup;
pub use rejoins::{HeldRejoin, REJOINS_OF_ONE_MAX};
pub use rpc::{RpcClient, RpcError};
pub use session::{Receipt, SessionEntry};
pub use session_e2ee as e2ee;
pub use state::{Contact, Progress, State, StateDir, StateError};
pub use tls::TlsError;
pub use transcript::{Change, Gone, Line, Record, Said, Tick, Told, Transcript, Words};
pub use trust::{Met, STALE_MS, ShownHead, Trust, TrustError, decode_proof, head_is_signed_by};
