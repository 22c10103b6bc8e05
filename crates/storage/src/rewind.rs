//! A store that can go back some steps.
//!
//! ```text
//! step n:  one batch = changes | undo n = what they replace | undo n - 64 goes
//! rewind:  one batch = undo n, n - 1, … to + 1, in that order | those undo records go
//!
//! undo n = for each changed key: u8 keyspace | u32 length, key | u8 0
//!                              | u8 keyspace | u32 length, key | u8 1 | u32 length, value
//! ```
//!
//! A host may lose what it knew of the last blocks while this store, which syncs every write,
//! still has them: both must be able to meet again at an earlier block. Changes outside of steps
//! are not undone; whoever makes them leaves alone what the last steps need
//! ([`Store::steps_kept`]).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::error::StoreError;
use crate::store::{
    Batch, Direction, Durability, Health, KeyRange, Keyspace, Pair, Snapshot, Store, View,
};

/// Steps that can be undone.
pub const STEPS_KEPT: u64 = 64;

/// Why a store does not go back.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RewindError {
    /// Nothing was ever kept.
    #[error("this store remembers no step that could be undone")]
    NoSteps,
    /// Forward is not back.
    #[error("the store is at {newest} and cannot be rewound to {to}, which is ahead of it")]
    Ahead {
        /// Wanted.
        to: u64,
        /// Last step.
        newest: u64,
    },
    /// What the steps in between replaced is not known any more.
    #[error("the store can be rewound from {newest} to {oldest} at the earliest, not to {to}")]
    TooFar {
        /// Wanted.
        to: u64,
        /// The earliest that can be gone back to.
        oldest: u64,
        /// Last step.
        newest: u64,
    },
    /// An undo record cannot be read; nothing was changed.
    #[error("what step {step} replaced is damaged: the store cannot be rewound")]
    Damaged {
        /// The step.
        step: u64,
    },
    /// The store.
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// From where to where a store went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewound {
    /// Last step before.
    pub from: u64,
    /// Last step now.
    pub to: u64,
}

/// A store over another one that remembers what the last [`STEPS_KEPT`] steps replaced.
pub struct Rewindable<S> {
    inner: S,
    /// What a step replaces is read before it is written: one at a time.
    writing: Mutex<()>,
}

impl<S: Store> Rewindable<S> {
    /// Over a store that nobody else writes to.
    pub const fn new(inner: S) -> Self {
        Self {
            inner,
            writing: Mutex::new(()),
        }
    }

    /// The last step, if any is remembered.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn newest(&self) -> Result<Option<u64>, StoreError> {
        let last = self
            .inner
            .range(Keyspace::Undo, &KeyRange::all(), 1, Direction::Descending)?;
        Ok(last.first().and_then(|(key, _)| number(key)))
    }

    /// Goes back to the state after step `to`, and makes the changes of `also`: all in one synced
    /// batch. Does nothing else where the store is there already.
    ///
    /// # Errors
    /// [`RewindError`]; after any but [`RewindError::Store`] nothing was changed.
    pub fn rewind(&self, to: u64, also: Batch) -> Result<Rewound, RewindError> {
        let _turn = self.turn();
        let newest = self.newest()?.ok_or(RewindError::NoSteps)?;
        if to > newest {
            return Err(RewindError::Ahead { to, newest });
        }
        let mut batch = Batch::new();
        let mut step = newest;
        while step > to {
            let key = step.to_be_bytes();
            let Some(record) = self.inner.get(Keyspace::Undo, &key)? else {
                let oldest = step;
                return Err(RewindError::TooFar { to, oldest, newest });
            };
            // Of two steps that changed one key the earlier comes last, and counts.
            undo(&record, &mut batch).ok_or(RewindError::Damaged { step })?;
            batch.delete(Keyspace::Undo, key);
            step -= 1;
        }
        batch.append(also);
        self.inner.commit(batch, Durability::Synced)?;
        Ok(Rewound { from: newest, to })
    }

    fn turn(&self) -> std::sync::MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a batch replaces.
    fn replaced(&self, batch: &Batch) -> Result<Vec<u8>, StoreError> {
        let mut record = Vec::new();
        let mut seen = HashSet::new();
        for op in batch.ops() {
            if !seen.insert((op.keyspace, op.key.as_slice())) {
                continue;
            }
            let before = if op.new {
                None
            } else {
                self.inner.get(op.keyspace, &op.key)?
            };
            record.push(op.keyspace.code());
            put(&mut record, &op.key);
            match before {
                None => record.push(0),
                Some(value) => {
                    record.push(1);
                    put(&mut record, &value);
                }
            }
        }
        Ok(record)
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    // Keys and values are far shorter than that: `Batch::check`.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
}

fn number(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

fn counted<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (bytes, after) = after.split_at_checked(length)?;
    *rest = after;
    Some(bytes)
}

/// Adds the changes of an undo record to a batch.
fn undo(record: &[u8], batch: &mut Batch) -> Option<()> {
    let mut rest = record;
    while let Some((code, after)) = rest.split_first() {
        let keyspace = Keyspace::ALL
            .into_iter()
            .find(|keyspace| keyspace.code() == *code)?;
        rest = after;
        let key = counted(&mut rest)?;
        let (there, after) = rest.split_first()?;
        rest = after;
        match there {
            0 => batch.delete(keyspace, key),
            1 => batch.put(keyspace, key, counted(&mut rest)?),
            _ => return None,
        };
    }
    Some(())
}

impl<S: Store> View for Rewindable<S> {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.inner.get(keyspace, key)
    }

    fn contains(&self, keyspace: Keyspace, key: &[u8]) -> Result<bool, StoreError> {
        self.inner.contains(keyspace, key)
    }

    fn range(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        self.inner.range(keyspace, range, limit, direction)
    }
}

impl<S: Store> Store for Rewindable<S> {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.inner.snapshot()
    }

    fn commit(&self, mut batch: Batch, durability: Durability) -> Result<(), StoreError> {
        let _turn = self.turn();
        if let Some(step) = batch.step_number() {
            batch.check()?;
            let record = self.replaced(&batch)?;
            batch.put(Keyspace::Undo, step.to_be_bytes(), record);
            if let Some(old) = step.checked_sub(STEPS_KEPT) {
                batch.delete(Keyspace::Undo, old.to_be_bytes());
            }
        }
        self.inner.commit(batch, durability)
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.inner.flush()
    }

    fn recover(&self) -> Result<(), StoreError> {
        self.inner.recover()
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    fn steps_kept(&self) -> u64 {
        STEPS_KEPT
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.inner.disk_bytes()
    }
}
