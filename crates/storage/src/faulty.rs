//! A store that fails and lies on demand, to test those who write to one, and their tests.
//!
//! ```text
//!  commit ──> [ delay ] ──> [ fault, if it is its turn ] ──> the store inside
//! ```

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::error::StoreError;
use crate::store::{
    Batch, Direction, Durability, Health, KeyRange, Keyspace, Pair, Snapshot, Store, View,
};

/// What happens instead of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: this commit is as usual. To place a fault further behind.
    None,
    /// Refused beforehand for lack of room; the store stays usable.
    Full,
    /// The write fails for lack of room: nothing is written, and the store wants recovery.
    FullWhileWriting,
    /// The sync fails: the batch **is** there after recovery, though the caller heard an error.
    SyncFailedButKept,
    /// The sync fails, and the batch is not there after recovery.
    SyncFailedAndLost,
    /// A lie: acknowledged, and nothing was written.
    AcknowledgeAndForget,
    /// A lie: acknowledged, and only the first half of the changes was written.
    AcknowledgeAndTear,
}

/// A store around another one that obeys a plan of [`Fault`]s, one for each commit.
#[derive(Debug)]
pub struct FaultyStore<S> {
    inner: S,
    script: Mutex<Script>,
}

#[derive(Debug, Default)]
struct Script {
    faults: VecDeque<Fault>,
    delay: Duration,
    failure: Option<StoreError>,
    commits: u64,
}

impl<S: Store> FaultyStore<S> {
    /// Behaves until told otherwise.
    pub fn new(inner: S) -> Self {
        Self {
            inner,
            script: Mutex::default(),
        }
    }

    /// The next commits get these faults, one each; after that all is well again.
    pub fn plan(&self, faults: impl IntoIterator<Item = Fault>) {
        self.script().faults.extend(faults);
    }

    /// Every commit takes this much longer: a disk with a slow sync.
    pub fn set_commit_delay(&self, delay: Duration) {
        self.script().delay = delay;
    }

    /// How many commits were asked for, faults included.
    pub fn commits(&self) -> u64 {
        self.script().commits
    }

    /// The store inside.
    pub const fn inner(&self) -> &S {
        &self.inner
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn fail(&self, error: StoreError) -> Result<(), StoreError> {
        self.script().failure = Some(error.clone());
        Err(error)
    }

    fn check_ready(&self) -> Result<(), StoreError> {
        match self.script().failure.clone() {
            Some(cause) => Err(StoreError::Failed {
                cause: Box::new(cause),
            }),
            None => Ok(()),
        }
    }
}

impl<S: Store> View for FaultyStore<S> {
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

impl<S: Store> Store for FaultyStore<S> {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.inner.snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        self.check_ready()?;
        let (fault, delay) = {
            let mut script = self.script();
            script.commits = script.commits.saturating_add(1);
            (
                script.faults.pop_front().unwrap_or(Fault::None),
                script.delay,
            )
        };
        if !delay.is_zero() {
            thread::sleep(delay);
        }
        match fault {
            Fault::None => self.inner.commit(batch, durability),
            Fault::Full => Err(full(false)),
            Fault::FullWhileWriting => self.fail(full(true)),
            Fault::SyncFailedButKept => {
                self.inner.commit(batch, durability)?;
                self.fail(sync_failed())
            }
            Fault::SyncFailedAndLost => self.fail(sync_failed()),
            Fault::AcknowledgeAndForget => Ok(()),
            Fault::AcknowledgeAndTear => {
                let mut half = Batch::new();
                for (keyspace, key, value) in batch.changes().take(batch.len() / 2) {
                    match value {
                        Some(value) => half.put(keyspace, key, value),
                        None => half.delete(keyspace, key),
                    };
                }
                self.inner.commit(half, durability)
            }
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.check_ready()?;
        self.inner.flush()
    }

    fn recover(&self) -> Result<(), StoreError> {
        self.inner.recover()?;
        self.script().failure = None;
        Ok(())
    }

    fn health(&self) -> Health {
        match self.script().failure.clone() {
            Some(cause) => Health::Failed(cause),
            None => self.inner.health(),
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        self.inner.close()?;
        self.check_ready()
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.inner.disk_bytes()
    }
}

fn full(written: bool) -> StoreError {
    StoreError::NoSpace {
        path: "faulty".into(),
        written,
    }
}

fn sync_failed() -> StoreError {
    StoreError::io("faulty", "sync")(std::io::Error::other("injected"))
}
