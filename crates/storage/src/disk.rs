//! The store on disk: a directory of ours around the engine, and what happens when it fails.
//!
//! ```text
//!            commit ok                     write or sync failed
//!          +----------+                 +------------------------+
//!          v          |                 |                        v
//!   open -> READY ----+-----------------+                      FAILED (reads go on, writes refused)
//!            |  ^                                                |
//!      close |  |  recover: drop the engine, read back what      |
//!            v  |  the disk has, write it anew, retire journals  |
//!         CLOSED +-----------------------------------------------+
//! ```
//!
//! After a failed sync the system may show data that is not on the disk and forget that it is
//! not. So recovery does not trust what it reads back: it writes all of it into new files, syncs
//! those, and never appends to the old journal again.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::engine::{Engine, EngineSnapshot};
use crate::error::StoreError;
use crate::format::Directory;
use crate::journal::{self, DamagedJournal};
use crate::store::{
    Batch, Direction, Durability, Health, KeyRange, Keyspace, Pair, Snapshot, Store, View,
    check_key,
};

/// How to open a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskOptions {
    /// Batches that put anything are refused with [`StoreError::NoSpace`] while the disk has
    /// fewer free bytes than this. The default of 256 MiB is what the tables in memory need when
    /// they are written out, so that a disk that fills up does not fail a write halfway. Batches
    /// that only delete may use three quarters of it.
    pub reserve_bytes: u64,
    /// Bytes of the cache of blocks read, 32 MiB by default.
    pub cache_bytes: u64,
    /// What to do about a damaged journal.
    pub damaged_journal: DamagedJournal,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            reserve_bytes: 256 * 1024 * 1024,
            cache_bytes: 32 * 1024 * 1024,
            damaged_journal: DamagedJournal::Refuse,
        }
    }
}

/// A store in a directory, open in one process at a time.
pub struct DiskStore {
    shared: Arc<Shared>,
}

struct Shared {
    options: DiskOptions,
    state: RwLock<State>,
    /// Why writes are refused. Apart from `state`, because a commit only shares that.
    failure: Mutex<Option<StoreError>>,
    /// Held by whoever writes: commits come one at a time in the engine anyway.
    writing: Mutex<()>,
}

struct State {
    /// `None` after a recovery that failed, and when closed.
    engine: Option<Engine>,
    /// Counts openings of the engine: snapshots belong to one.
    generation: u64,
    /// `None` once closed.
    directory: Option<Directory>,
}

impl DiskStore {
    /// Opens the store in `path`, or creates it if the directory is empty or missing.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Format`], [`StoreError::NotOurs`],
    /// [`StoreError::RestoreUnfinished`], [`StoreError::Corrupt`], [`StoreError::NoSpace`],
    /// [`StoreError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, DiskOptions::default())
    }

    /// As [`DiskStore::open`], with options.
    ///
    /// # Errors
    /// As [`DiskStore::open`].
    pub fn open_with(path: impl AsRef<Path>, options: DiskOptions) -> Result<Self, StoreError> {
        let mut store = Self::start(Directory::open(path.as_ref())?, options)?;
        store.complete()?;
        Ok(store)
    }

    /// A store in an empty directory that does not count until [`DiskStore::complete`].
    pub(crate) fn open_for_restore(path: &Path) -> Result<Self, StoreError> {
        Self::start(Directory::open_for_restore(path)?, DiskOptions::default())
    }

    /// Marks the directory as complete.
    pub(crate) fn complete(&mut self) -> Result<(), StoreError> {
        self.shared
            .write()
            .directory
            .as_mut()
            .map_or(Ok(()), Directory::complete)
    }

    /// Number of entries that are only in memory and in journals: what a start would replay.
    ///
    /// # Errors
    /// [`StoreError::Closed`], [`StoreError::Failed`].
    pub fn unflushed_entries(&self) -> Result<usize, StoreError> {
        self.shared
            .read()
            .engine(&self.shared)
            .map(Engine::unflushed)
    }

    /// Makes the store behave as after a failed sync. For tests of recovery.
    #[cfg(any(test, feature = "testing"))]
    pub fn fail_now(&self, cause: StoreError) {
        self.shared.fail(cause);
    }

    fn start(directory: Directory, options: DiskOptions) -> Result<Self, StoreError> {
        let exists = directory.is_complete();
        let DiskOptions {
            cache_bytes,
            damaged_journal,
            ..
        } = options;
        let engine = Engine::open(
            &directory.db(),
            &directory.segments(),
            exists,
            cache_bytes,
            damaged_journal,
        )?;
        let state = State {
            engine: Some(engine),
            generation: 0,
            directory: Some(directory),
        };
        Ok(Self {
            shared: Arc::new(Shared {
                options,
                state: RwLock::new(state),
                failure: Mutex::new(None),
                writing: Mutex::new(()),
            }),
        })
    }
}

impl std::fmt::Debug for DiskStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.shared.read();
        f.debug_struct("DiskStore")
            .field("path", &state.directory.as_ref().map(Directory::path))
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl Drop for DiskStore {
    fn drop(&mut self) {
        // Snapshots may live on; the directory must not stay locked for them.
        let mut state = self.shared.write();
        let _nobody_left_to_tell = state.engine.take().map(Engine::close);
        state.directory = None;
    }
}

impl View for DiskStore {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(keyspace, key)?;
        self.shared
            .read()
            .engine(&self.shared)?
            .get(None, keyspace, key)
    }

    fn contains(&self, keyspace: Keyspace, key: &[u8]) -> Result<bool, StoreError> {
        check_key(keyspace, key)?;
        self.shared
            .read()
            .engine(&self.shared)?
            .contains(None, keyspace, key)
    }

    fn range(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        let state = self.shared.read();
        let engine = state.engine(&self.shared)?;
        engine.range(&engine.snapshot(), keyspace, range, limit, direction)
    }
}

impl Store for DiskStore {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let state = self.shared.read();
        let snapshot = state.engine(&self.shared)?.snapshot();
        let generation = state.generation;
        Ok(Box::new(DiskView {
            shared: Arc::clone(&self.shared),
            generation,
            snapshot,
        }))
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        batch.check()?;
        let only_deletes = batch.only_deletes();
        let ops = batch.into_final_ops();
        let state = self.shared.read();
        let _turn = self.shared.turn();
        self.shared.check_ready()?;
        let engine = state.engine(&self.shared)?;
        let reserve = self.shared.options.reserve_bytes;
        state.check_room(if only_deletes { reserve / 4 } else { reserve })?;
        engine.commit(ops, durability).map_err(|error| {
            if matches!(error, StoreError::NoSpace { written: false, .. }) {
                // Noticed before anything was changed.
                return error;
            }
            self.shared.write_failed(&state, error)
        })
    }

    fn flush(&self) -> Result<(), StoreError> {
        let state = self.shared.read();
        let _turn = self.shared.turn();
        self.shared.check_ready()?;
        let engine = state.engine(&self.shared)?;
        engine
            .flush()
            .map_err(|error| self.shared.write_failed(&state, error))
    }

    fn recover(&self) -> Result<(), StoreError> {
        let mut state = self.shared.write();
        let directory = state.directory.as_ref().ok_or(StoreError::Closed)?;
        if self.shared.failure().is_none() {
            return Ok(());
        }
        // Without room recovery would only fail; until then the old engine serves the readers.
        state.check_room(self.shared.options.reserve_bytes / 2)?;
        let (db, segments) = (directory.db(), directory.segments());
        let DiskOptions {
            cache_bytes,
            damaged_journal,
            ..
        } = self.shared.options;
        let open = || Engine::open(&db, &segments, true, cache_bytes, damaged_journal);
        state.generation = state.generation.wrapping_add(1);
        if let Some(engine) = state.engine.take() {
            // It failed already; what it says about that now does not matter.
            let _known = engine.close();
        }
        let recovered = open()
            .and_then(|engine| retire(engine, &db))
            .and_then(|()| open())
            .map_err(|error| self.shared.write_failed(&state, error))?;
        state.engine = Some(recovered);
        *self.shared.failure() = None;
        Ok(())
    }

    fn health(&self) -> Health {
        if self.shared.read().directory.is_none() {
            return Health::Closed;
        }
        match self.shared.failure().clone() {
            Some(cause) => Health::Failed(cause),
            None => Health::Ready,
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        let mut state = self.shared.write();
        let Some(directory) = state.directory.take() else {
            return Ok(());
        };
        let failed = self.shared.check_ready();
        let Some(engine) = state.engine.take() else {
            return failed;
        };
        match failed {
            Ok(()) => retire(engine, &directory.db()),
            Err(cause) => {
                // The next opening decides what is there; flushing now could only pretend.
                let _known = engine.close();
                Err(cause)
            }
        }
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        let state = self.shared.read();
        allocated_bytes(state.directory.as_ref().ok_or(StoreError::Closed)?.path())
    }
}

impl Shared {
    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failure(&self) -> MutexGuard<'_, Option<StoreError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check_ready(&self) -> Result<(), StoreError> {
        match self.failure().as_ref() {
            Some(cause) => Err(StoreError::Failed {
                cause: Box::new(cause.clone()),
            }),
            None => Ok(()),
        }
    }

    fn fail(&self, cause: StoreError) {
        self.failure().get_or_insert(cause);
    }

    /// Remembers that what is in memory and on disk may differ now.
    fn write_failed(&self, state: &State, error: StoreError) -> StoreError {
        // A background thread of the engine dies without saying why. A disk that has no room for
        // its tables is the usual reason.
        let tables = self
            .options
            .reserve_bytes
            .max(Keyspace::Bodies.options().memtable_bytes);
        let error = match (&error, state.check_room(tables), state.directory.as_ref()) {
            (StoreError::Engine { .. }, Err(full), Some(directory)) if full.is_no_space() => {
                StoreError::NoSpace {
                    path: directory.path().to_owned(),
                    written: true,
                }
            }
            (_, Ok(()) | Err(_), Some(_) | None) => error,
        };
        self.fail(error.clone());
        error
    }
}

impl State {
    fn engine(&self, shared: &Shared) -> Result<&Engine, StoreError> {
        match (&self.engine, &self.directory) {
            (Some(engine), _) => Ok(engine),
            (None, Some(_)) => Err(shared.check_ready().err().unwrap_or(StoreError::Closed)),
            (None, None) => Err(StoreError::Closed),
        }
    }

    /// Refuses while the disk has fewer than `bytes` free.
    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        let path = self.directory.as_ref().ok_or(StoreError::Closed)?.path();
        let disk = rustix::fs::statvfs(path)
            .map_err(|error| StoreError::io(path, "ask for free space")(error.into()))?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < bytes {
            return Err(StoreError::NoSpace {
                path: path.to_owned(),
                written: false,
            });
        }
        Ok(())
    }
}

/// Writes everything into tables, closes, and puts an empty journal in place.
fn retire(engine: Engine, db: &Path) -> Result<(), StoreError> {
    let flushed = engine.flush();
    let unflushed = engine.unflushed();
    engine.close()?;
    flushed?;
    // Cannot be otherwise after a flush; but a journal is only thrown away when it is true.
    if unflushed == 0 {
        journal::retire(db)
    } else {
        Ok(())
    }
}

/// Bytes the files really take: journals are preallocated, but sparse.
fn allocated_bytes(path: &Path) -> Result<u64, StoreError> {
    let mut bytes = 0_u64;
    let mut directories = vec![path.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).map_err(StoreError::io(&directory, "list"))?;
        for entry in entries {
            let entry = entry.map_err(StoreError::io(&directory, "list"))?;
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) => bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512)),
                // The engine replaces files while we look.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io(entry.path(), "look at")(error)),
            }
        }
    }
    Ok(bytes)
}

/// A snapshot of one opening of the engine.
struct DiskView {
    shared: Arc<Shared>,
    generation: u64,
    snapshot: EngineSnapshot,
}

impl DiskView {
    fn with<T>(
        &self,
        read: impl FnOnce(&Engine) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let state = self.shared.read();
        let engine = state.engine(&self.shared)?;
        if state.generation != self.generation {
            return Err(StoreError::SnapshotExpired);
        }
        read(engine)
    }
}

impl View for DiskView {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(keyspace, key)?;
        self.with(|engine| engine.get(Some(&self.snapshot), keyspace, key))
    }

    fn contains(&self, keyspace: Keyspace, key: &[u8]) -> Result<bool, StoreError> {
        check_key(keyspace, key)?;
        self.with(|engine| engine.contains(Some(&self.snapshot), keyspace, key))
    }

    fn range(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        self.with(|engine| engine.range(&self.snapshot, keyspace, range, limit, direction))
    }
}
