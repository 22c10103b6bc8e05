//! End-to-end encrypted conversations: what only their members can read, and who of them said it.
//!
//! A conversation is an MLS group (RFC 9420) whose members are *devices* of accounts, for two people
//! as for a thousand. Its commits and messages are ordered by a log outside (the chain's), which
//! sees neither members nor content. This crate has no network, no chain, no clock and no files: it
//! is given bytes, times and randomness; it stores one atomic batch for each event; and it gives
//! back bytes to send and events to show.
//!
//! ```text
//!   what a person does                 the group's log, entry by entry
//!   send, add, remove, leave, ...      frames and accepted commits, the chain's word on accounts
//!            │                                        │
//!            ▼                                        ▼
//!   ┌──────────────────────────────── Device ─────────────────────────────────┐
//!   │ content ─ padding ─ frame chains      commit ─ openmls ─ verdict ─ merge │
//!   │                        │                            │                   │
//!   │                        └──── epoch root (safe exporter) ────────┘       │
//!   └───────────────────────────────────┬─────────────────────────────────────┘
//!                                       ▼
//!                    one batch: group state, chat keys, log cursor, outbox, inbox
//!                       sealed record by record under keys that can be erased
//!                                       │  durable, then
//!                                       ▼
//!            Output { outgoing: create, commit, frame, invitation   events: message, added, ... }
//! ```
//!
//! *Three layers.* Handshakes are MLS with ML-KEM-768 and ML-DSA-65 ([`Suite`]). Messages are
//! [`frame`]s of 33 bytes over their padded text, under per-sender chains that each epoch's exporter
//! begins, and [`signed_batch`]es prove their senders. Towards the chain a group is an opaque id and
//! two public keys an epoch ([`ChainKeys`]): whoever can post is a member, and no more is said.
//!
//! *Rules of use.* Feed the log in order, every entry, one's own too: [`Device::receive`]. Send what
//! the outbox has, the same bytes each time, until the log shows it or the chain refuses it. Show
//! events, then acknowledge them. Call [`Device::tick`] when it says so. After any error the device
//! is as it was before the call.
//!
//! | to | call |
//! |---|---|
//! | begin | [`Device::create`], [`Device::open`]; a further device: [`Device::request_link`], [`Device::grant_link`], [`Device::accept_grant`] |
//! | be invited | [`Device::key_packages`] (published, or out of band), [`Device::join`] |
//! | hold a conversation | [`Device::create_group`], [`Device::add`], [`Device::remove`], [`Device::rotate`], [`Device::set_policy`], [`Device::leave`], [`Device::supersede`] |
//! | speak | [`Device::send`] |
//! | follow the log | [`Device::receive`] with a [`LogEntry`] |
//! | countersign | [`Device::examine`]: what it does, without following it |
//! | send | [`Device::outbox`], then [`Device::accepted`] or [`Device::refused`]; [`Device::sign_as_poster`], [`Device::sign_as_controller`], [`Device::sign_as_admin`] |
//! | show | [`Device::events`], [`Device::acknowledge`], [`Device::members`], [`Device::policy`], [`Device::safety_number`] |
//! | keep time | [`Device::tick`]: signatures that are due, rotation |
//! | heal | [`Device::rotate`]; the signature key: [`Device::renew_key`] |
//! | let go | [`Device::erase`], [`Device::close`], [`Device::forget`] |
//!
//! ```
//! use session_core::ids::{AccountId, ChainId};
//! use session_crypto::{Identity, Secret};
//! use session_e2ee::*;
//! use session_storage::{MemorySlots, MemoryStore};
//! use std::{collections::BTreeMap, sync::Arc};
//!
//! /// The chain's word on accounts; here it never changes.
//! struct Accounts(BTreeMap<AccountId, AccountState>);
//! impl Directory for Accounts {
//!     fn account(&self, account: AccountId) -> Option<AccountState> {
//!         self.0.get(&account).cloned()
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (alice, bob) = (Identity::generate()?, Identity::generate()?);
//! let state = |identity: &Identity| AccountState {
//!     current: identity.public().signing().clone(),
//!     earlier: Vec::new(),
//!     revoked_ms: None,
//! };
//! let accounts = [&alice, &bob].map(|identity| (identity.account_id(), state(identity)));
//! let directory = Accounts(accounts.into_iter().collect());
//!
//! let device = |identity: &Identity| {
//!     let storage = Storage {
//!         store: Arc::new(MemoryStore::new()),
//!         slots: Box::new(MemorySlots::new()),
//!         key: Secret::new([0; 32]), // from a passphrase, in earnest
//!         randomness: Randomness::system(),
//!     };
//!     let new = NewDevice {
//!         suite: Suite::PostQuantum,
//!         account: identity.account_id(),
//!         signing: identity.signing_key(),
//!         name: "phone",
//!         serial: 0,
//!     };
//!     Device::create(storage, &new, 1_000)
//! };
//! let (mut phone, mut laptop) = (device(&alice)?, device(&bob)?);
//!
//! // Bob hands over a key package; Alice makes a group of both.
//! let package = laptop.key_packages(1, 9_000)?.remove(0);
//! let invitee = Invitee { key_package: package.bytes, expires_ms: package.expires_ms };
//! let chain = ChainId::from_bytes([1; 32]);
//! let policy = Policy::between(chain, alice.account_id(), bob.account_id());
//! let (group, output) = phone.create_group(policy, &[invitee], &directory, 1_000)?;
//! let [create, invite] = &output.outgoing[..] else { return Err("two things to send".into()) };
//! let (OutgoingKind::Create(creation), OutgoingKind::Invitation(invitation)) =
//!     (&create.kind, &invite.kind)
//! else {
//!     return Err("a creation and an invitation".into());
//! };
//!
//! // Bob joins what the chain says of it, Alice speaks, the log brings it to Bob.
//! let facts = GroupFacts {
//!     chain,
//!     group,
//!     epoch: creation.epoch,
//!     commit_hash: creation.commit_hash,
//!     keys: creation.keys.clone(),
//!     next_position: 0,
//!     time_ms: 1_000,
//! };
//! laptop.join(invitation, &facts, &directory)?;
//! let output = phone.send(group, &[Content::Text("see you at nine".into())], 2_000)?;
//! let OutgoingKind::Frame { epoch, frame } = &output.outgoing[0].kind else {
//!     return Err("a frame".into());
//! };
//! let place = LogPlace { position: 0, time_ms: 2_001 };
//! let entry = LogEntry::Frame { epoch: *epoch, frame };
//! let output = laptop.receive(group, place, entry, &directory)?;
//! let EventKind::Message(message) = &output.events[0].kind else {
//!     return Err("a message".into());
//! };
//! assert_eq!(message.body.content, Content::Text("see you at nine".into()));
//! assert_eq!(message.from.account, alice.account_id());
//! # Ok(())
//! # }
//! ```
//!
//! What is promised about erased keys on a disk stands in `spec/e2ee.md`.

pub mod admin_work;
pub mod attachment;
mod chain_keys;
pub mod content;
mod credential;
mod device;
mod directory;
mod error;
mod event;
pub mod frame;
mod invitation;
pub mod limits;
pub mod link;
mod outgoing;
pub mod padding;
mod policy;
mod provider;
mod randomness;
mod records;
mod rejoin;
mod roster;
pub mod rotation;
mod safety_number;
pub mod signed_batch;
mod suite;
mod tables;
pub mod tree;
mod vault;
mod verdict;

pub use admin_work::{AdminSignature, AdminWork, AdminsRequest, CountersignRequest};
pub use attachment::Attachment;
pub use content::{Body, Content, MessageName};
pub use credential::{DeviceCertificate, DeviceClaim, DeviceId};
pub use device::{
    AcceptedCommit, AskedAdmins, Device, GroupFacts, GroupStatus, Invitee, LogEntry, Member,
    NewDevice, Output, OwnKeyPackage, Rotation, Storage, admin_key_digest,
};
pub use directory::{AccountState, Directory, EarlierKey};
pub use error::E2eeError;
pub use event::{Authenticity, Event, EventKind, LogPlace, MemberDevice, Message, Unusable};
pub use invitation::{HEAD_MAX, HeadTree, InvitationHead};
pub use outgoing::{
    Advance, ChainKeys, Creation, Invitation, Outgoing, OutgoingKind, Predecessor, commit_hash,
    group_id,
};
pub use policy::{Policy, PolicyError, Role, SignatureRule};
pub use randomness::Randomness;
pub use records::RecordError;
pub use rejoin::{RejoinRefusal, RejoinRequest};
pub use rotation::{RotationPolicy, RotationPolicyError};
pub use safety_number::SafetyNumber;
pub use suite::Suite;
pub use tree::{CutTree, TreeError};
pub use vault::VaultError;
pub use verdict::Refusal;
