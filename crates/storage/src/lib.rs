//! Bytes that survive.
//!
//! A [`Store`] is a fixed list of named, ordered maps ([`Keyspace`]) that change together: a
//! [`Batch`] is applied wholly or not at all, and [`Durability`] says what its acknowledgement
//! means. [`DiskStore`] keeps them in a directory, [`MemoryStore`] in memory; everybody else
//! sees the trait. This crate knows bytes and tables, not rules; it is synchronous.
//!
//! ```text
//!  callers ── Batch ──> GroupCommitter ── one synced Batch ──> Store ──> memory
//!     ^                  (one thread)                           |  └───> disk: journal, tables
//!     |                                                         |
//!     └──────────── get, range, Snapshot <── View ──────────────┘
//! ```
//!
//! ```
//! use session_storage::{
//!     Batch, Direction, Durability, KeyRange, Keyspace, MemoryStore, Store, View,
//! };
//!
//! # fn main() -> Result<(), session_storage::StoreError> {
//! let store = MemoryStore::new();
//! let mut batch = Batch::new();
//! batch.put(Keyspace::Bodies, *b"message 1", *b"ciphertext");
//! batch.put(Keyspace::Messages, *b"id of 1", *b"message 1");
//! store.commit(batch, Durability::Synced)?; // both, or none
//!
//! let before = store.snapshot()?;
//! let mut batch = Batch::new();
//! batch.delete(Keyspace::Bodies, *b"message 1");
//! store.commit(batch, Durability::Synced)?;
//!
//! assert_eq!(store.get(Keyspace::Bodies, b"message 1")?, None);
//! assert_eq!(before.get(Keyspace::Bodies, b"message 1")?.as_deref(), Some(&b"ciphertext"[..]));
//! let ids = store.range(Keyspace::Messages, &KeyRange::prefix(b"id"), 10, Direction::Ascending)?;
//! assert_eq!(ids.len(), 1);
//! # Ok(())
//! # }
//! ```

pub mod backup;
mod disk;
mod engine;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod faulty;
pub mod format;
mod journal;
mod memory;
pub mod remote;
pub mod rewind;
mod segment;
pub mod slots;
mod store;
pub mod writer;

pub use backup::{Copied, backup, restore};
pub use disk::{DiskOptions, DiskStore};
pub use error::{EngineError, StoreError};
pub use journal::DamagedJournal;
pub use memory::MemoryStore;
pub use remote::{Remote, RemoteStore};
pub use rewind::{RewindError, Rewindable, Rewound, STEPS_KEPT};
pub use slots::{MemorySlots, SLOT_BYTES, SlotFile, Slots};
pub use store::{
    Batch, Direction, Durability, Health, KEY_BYTES_MAX, KeyRange, Keyspace, KeyspaceOptions, Pair,
    Snapshot, Staging, Store, VALUE_BYTES_MAX, View,
};
pub use writer::{GroupCommitter, GroupLimits};
