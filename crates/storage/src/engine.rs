//! One opening of the engine (fjall): the only file that knows it.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use fjall::config::CompressionPolicy;
use fjall::{
    AbstractTree, CompressionType, Database, KeyspaceCreateOptions, KvSeparationOptions, LsmError,
    PersistMode, Readable,
};

use xxhash_rust::xxh3::xxh3_128;

use crate::error::{EngineError, StoreError, is_no_space};
use crate::journal;
use crate::segment::{Epoch, Pointer, Segments, Usage, UsageChanges};
use crate::store::{Direction, Durability, KeyRange, Keyspace, Op, Pair};

/// From this size on a value of a keyspace with large values gets its place in a separate file.
const SEPARATION_BYTES: u32 = 1024;

/// A start after a kill reads every journal; the least that the engine takes. Bodies, which would
/// fill it in no time, come here only where they are few.
const JOURNAL_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// So many entries at most are in memory only: a start after a kill replays them at 1.5 us each.
const UNFLUSHED_MAX: usize = 300_000;

/// A synced batch with more bytes of bodies than this writes them into a segment: once instead
/// of twice, but with a second sync. One message alone goes the way with one.
const SEGMENT_BATCH_BYTES: usize = 12 * 1024;

/// How much of each segment is in use; not a keyspace of the store's users.
const USAGE: &str = "segments";

/// First byte of a stored body: the value follows.
const INLINE: u8 = 0;

/// First byte of a stored body: a pointer into a segment follows.
const IN_SEGMENT: u8 = 1;

/// The engine halts a writer for good when its background thread has died with four full tables
/// waiting (30 runs of small files). So we wait in front of it, where we notice the death. One
/// commit can fill at most two more tables.
const WAITING_TABLES_MAX: usize = 1;
const SMALL_RUNS_MAX: usize = 18;

const POLL: Duration = Duration::from_micros(500);

/// Far longer than writing every table out takes on the slowest disk.
const BACKGROUND_DEADLINE: Duration = Duration::from_secs(300);

pub(crate) struct Engine {
    // Dropped before the database that they belong to.
    keyspaces: Vec<fjall::Keyspace>,
    usage: fjall::Keyspace,
    segments: Segments,
    /// Entries committed since every table in memory was last sent to the disk.
    unflushed: AtomicUsize,
    db: Database,
    path: PathBuf,
}

/// A snapshot, with what keeps the segments that it refers to.
pub(crate) struct EngineSnapshot {
    inner: fjall::Snapshot,
    _epoch: Epoch,
}

impl Engine {
    /// Creates, or opens what `exists`. `path` is the engine's own directory, `segments` that of
    /// the bodies.
    pub(crate) fn open(
        path: &Path,
        segments: &Path,
        exists: bool,
        cache_bytes: u64,
        damaged: journal::DamagedJournal,
    ) -> Result<Self, StoreError> {
        let journals = journal::check(path, damaged)?;
        if exists {
            check_files(path, journals)?;
        }
        let (db, keyspaces, usage) = guard(path, || {
            let db = Database::builder(path)
                .cache_size(cache_bytes)
                .max_journaling_size(JOURNAL_BYTES_MAX)
                .journal_compression(CompressionType::None)
                .open()?;
            let keyspaces = Keyspace::ALL
                .iter()
                .map(|keyspace| db.keyspace(keyspace.name(), || create_options(*keyspace)))
                .collect::<fjall::Result<Vec<_>>>()?;
            let usage = db.keyspace(USAGE, || create_options(Keyspace::Meta))?;
            // What was replayed must be on the disk before files that it does not name are removed.
            db.persist(PersistMode::SyncData)?;
            Ok((db, keyspaces, usage))
        })?;
        let segments = Segments::open(segments, read_usage(path, &usage)?)?;
        Ok(Self {
            keyspaces,
            usage,
            segments,
            unflushed: AtomicUsize::new(UNFLUSHED_MAX / 2),
            db,
            path: path.to_owned(),
        })
    }

    pub(crate) fn snapshot(&self) -> EngineSnapshot {
        // In this order: what the snapshot sees is then kept for it.
        let epoch = self.segments.epoch();
        EngineSnapshot {
            inner: self.db.snapshot(),
            _epoch: epoch,
        }
    }

    pub(crate) fn get(
        &self,
        at: Option<&EngineSnapshot>,
        keyspace: Keyspace,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let bodies = keyspace == Keyspace::Bodies;
        let _epoch = (bodies && at.is_none()).then(|| self.segments.epoch());
        let keyspace = self.keyspace(keyspace)?;
        let value = guard(&self.path, || match at {
            Some(snapshot) => snapshot.inner.get(keyspace, key),
            None => keyspace.get(key),
        })?;
        match value {
            Some(value) if bodies => self.body(key, &value).map(Some),
            Some(value) => Ok(Some(value.to_vec())),
            None => Ok(None),
        }
    }

    /// The value that a stored body stands for.
    fn body(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>, StoreError> {
        if let Some((&INLINE, value)) = stored.split_first() {
            return Ok(value.to_vec());
        }
        let pointer = pointer_of(stored);
        let pointer = pointer.ok_or_else(|| StoreError::corrupt(&self.path, "a stored body"))?;
        self.segments.read(key, &pointer)
    }

    pub(crate) fn contains(
        &self,
        at: Option<&EngineSnapshot>,
        keyspace: Keyspace,
        key: &[u8],
    ) -> Result<bool, StoreError> {
        let keyspace = self.keyspace(keyspace)?;
        guard(&self.path, || match at {
            Some(snapshot) => snapshot.inner.contains_key(keyspace, key),
            None => keyspace.contains_key(key),
        })
    }

    pub(crate) fn range(
        &self,
        at: &EngineSnapshot,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        // The engine panics on a range that is upside down.
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let bodies = keyspace == Keyspace::Bodies;
        let keyspace = self.keyspace(keyspace)?;
        let pair = |guard: fjall::Guard| {
            guard
                .into_inner()
                .map(|(key, value)| (key.to_vec(), value.to_vec()))
        };
        let mut pairs: Vec<Pair> = guard(&self.path, || {
            let inside = match range.upper() {
                Some(upper) => at.inner.range(keyspace, range.lower()..upper),
                None => at.inner.range(keyspace, range.lower()..),
            };
            match direction {
                Direction::Ascending => inside.take(limit).map(pair).collect(),
                Direction::Descending => inside.rev().take(limit).map(pair).collect(),
            }
        })?;
        if bodies {
            for (key, value) in &mut pairs {
                *value = self.body(key, value)?;
            }
        }
        Ok(pairs)
    }

    /// One atomic batch of distinct keys. The caller makes sure that there is one at a time.
    pub(crate) fn commit(&self, ops: Vec<Op>, durability: Durability) -> Result<(), StoreError> {
        let mode = match durability {
            Durability::Synced => PersistMode::SyncData,
            Durability::Buffered => PersistMode::Buffer,
        };
        if ops.is_empty() {
            return guard(&self.path, || self.db.persist(mode));
        }
        self.wait_for_room(&ops)?;
        let synced = durability == Durability::Synced;
        let (ops, usages) = self.place_bodies(ops, synced)?;
        let entries = ops.len();
        let mut batch = self.db.batch().durability(Some(mode));
        for op in ops {
            let keyspace = self.keyspace(op.keyspace)?;
            match op.value {
                Some(value) => batch.insert(keyspace, op.key, value),
                None => batch.remove(keyspace, op.key),
            }
        }
        for (number, usage) in usages {
            match usage {
                Some(usage) => batch.insert(&self.usage, number.to_be_bytes(), usage.to_bytes()),
                None => batch.remove(&self.usage, number.to_be_bytes()),
            }
        }
        guard(&self.path, || batch.commit())?;
        self.segments.committed(synced);
        self.send_to_disk(entries);
        Ok(())
    }

    /// Starts to write the tables in memory out once they hold so much that a start after a kill
    /// would take long. Nobody waits for it.
    fn send_to_disk(&self, entries: usize) {
        let before = self.unflushed.fetch_add(entries, Ordering::Relaxed);
        if before.saturating_add(entries) < UNFLUSHED_MAX {
            return;
        }
        self.unflushed.store(0, Ordering::Relaxed);
        for keyspace in self.every_keyspace() {
            // The batch is on the disk; an engine that fails here fails the next one.
            let _told_then = guard(&self.path, || keyspace.rotate_memtable());
        }
    }

    /// Turns bodies into what is stored of them, and tells how the segments' usages change.
    fn place_bodies(
        &self,
        mut ops: Vec<Op>,
        synced: bool,
    ) -> Result<(Vec<Op>, UsageChanges), StoreError> {
        let bodies = |op: &&Op| op.keyspace == Keyspace::Bodies;
        let mut dropped = Vec::new();
        if !self.segments.is_empty() {
            for op in ops.iter().filter(bodies).filter(|op| !op.new) {
                dropped.extend(self.pointer(&op.key)?);
            }
        }
        // What is no longer than its pointer would gain nothing; and an empty value takes no bytes
        // that would keep its segment.
        let worth_it = |value: &[u8]| value.len() > Pointer::LEN;
        let values: Vec<(&[u8], &[u8])> = ops
            .iter()
            .filter(bodies)
            .filter_map(|op| Some((op.key.as_slice(), op.value.as_deref()?)))
            .filter(|(_, value)| worth_it(value))
            .collect();
        let bytes: usize = values.iter().map(|(_, value)| value.len()).sum();
        let added = if synced && bytes > SEGMENT_BATCH_BYTES {
            self.segments.append(&values)?
        } else {
            Vec::new()
        };
        let mut pointers = added.iter();
        let bodies = ops.iter_mut().filter(|op| op.keyspace == Keyspace::Bodies);
        for value in bodies.filter_map(|op| op.value.as_mut()) {
            let pointer = if worth_it(value) {
                pointers.next()
            } else {
                None
            };
            match pointer {
                Some(pointer) => {
                    value.clear();
                    value.push(IN_SEGMENT);
                    value.extend(pointer.to_bytes());
                }
                None => value.insert(0, INLINE),
            }
        }
        if added.is_empty() && dropped.is_empty() {
            return Ok((ops, Vec::new()));
        }
        Ok((ops, self.segments.account(&added, &dropped)))
    }

    /// Where the value of a body lies, if it lies in a segment.
    fn pointer(&self, key: &[u8]) -> Result<Option<Pointer>, StoreError> {
        let keyspace = self.keyspace(Keyspace::Bodies)?;
        let stored = guard(&self.path, || keyspace.get(key))?;
        Ok(stored.and_then(|stored| pointer_of(&stored)))
    }

    /// Writes every table in memory out and waits for it. The caller keeps writers away.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        for keyspace in self.every_keyspace() {
            guard(&self.path, || keyspace.rotate_memtable())?;
        }
        self.wait_until(|| {
            self.every_keyspace()
                .all(|keyspace| keyspace.sealed_memtable_count() == 0)
        })
    }

    fn every_keyspace(&self) -> impl Iterator<Item = &fjall::Keyspace> {
        self.keyspaces.iter().chain([&self.usage])
    }

    /// Closes; afterwards nothing of this opening touches the files.
    pub(crate) fn close(self) -> Result<(), StoreError> {
        let Self {
            keyspaces,
            usage,
            segments,
            db,
            path,
            ..
        } = self;
        drop(segments);
        guard(&path, || {
            drop(keyspaces);
            drop(usage);
            drop(db);
            Ok(())
        })
    }

    /// How many entries sit in memory only (and in journals).
    pub(crate) fn unflushed(&self) -> usize {
        self.every_keyspace()
            .map(|keyspace| {
                keyspace.tree.active_memtable().len() + keyspace.sealed_memtable_count()
            })
            .sum()
    }

    fn wait_for_room(&self, ops: &[Op]) -> Result<(), StoreError> {
        for keyspace in Keyspace::ALL {
            if ops.iter().any(|op| op.keyspace == keyspace) {
                let keyspace = self.keyspace(keyspace)?;
                self.wait_until(|| {
                    keyspace.sealed_memtable_count() <= WAITING_TABLES_MAX
                        && keyspace.tree.l0_run_count() <= SMALL_RUNS_MAX
                })?;
            }
        }
        Ok(())
    }

    /// Waits for the background threads, and notices when they have died.
    fn wait_until(&self, done: impl Fn() -> bool) -> Result<(), StoreError> {
        let deadline = Instant::now() + BACKGROUND_DEADLINE;
        while !done() {
            // Writes nothing new; fails once a background thread has failed.
            guard(&self.path, || self.db.persist(PersistMode::Buffer))?;
            if Instant::now() > deadline {
                let late = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(StoreError::io(&self.path, "wait for tables to be written")(
                    late,
                ));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn keyspace(&self, keyspace: Keyspace) -> Result<&fjall::Keyspace, StoreError> {
        // Always there: `open` makes one for each. An error is still better than a panic.
        self.keyspaces
            .get(keyspace.index())
            .ok_or(StoreError::Closed)
    }
}

fn pointer_of(stored: &[u8]) -> Option<Pointer> {
    let (&kind, pointer) = stored.split_first()?;
    (kind == IN_SEGMENT).then(|| Pointer::from_bytes(pointer))?
}

fn read_usage(path: &Path, usage: &fjall::Keyspace) -> Result<BTreeMap<u32, Usage>, StoreError> {
    let pairs: Vec<_> = guard(path, || {
        usage.iter().map(|pair| pair.into_inner()).collect()
    })?;
    let parse = |(number, usage): (fjall::UserKey, fjall::UserValue)| {
        let number = u32::from_be_bytes(number.as_ref().try_into().ok()?);
        Some((number, Usage::from_bytes(&usage)?))
    };
    let parsed: Option<BTreeMap<u32, Usage>> = pairs.into_iter().map(parse).collect();
    parsed.ok_or_else(|| StoreError::corrupt(path, "the usage of a segment"))
}

/// Where a file is gone the engine takes what is left for something unfinished, removes it and
/// starts empty. We would rather know.
fn check_files(path: &Path, journals: usize) -> Result<(), StoreError> {
    let missing = |path: &Path, what| Err(StoreError::corrupt(path, what));
    let keyspaces = path.join("keyspaces");
    if journals == 0 {
        return missing(path, "the journal is missing");
    }
    for file in [path.join("version"), keyspaces.join("0").join("current")] {
        if !file.exists() {
            return missing(&file, "the file is missing");
        }
    }
    for entry in fs::read_dir(&keyspaces).map_err(StoreError::io(&keyspaces, "list"))? {
        let keyspace = entry.map_err(StoreError::io(&keyspaces, "list"))?.path();
        let current = keyspace.join("current");
        // One whose creation was interrupted has none either, and nothing else.
        if keyspace.is_dir() && !current.exists() && holds_files(&keyspace) {
            return missing(&current, "the file is missing");
        }
        if current.exists() {
            check_version_file(&keyspace, &current)?;
        }
    }
    Ok(())
}

/// The list of a keyspace's tables, `v<number>`, has its checksum in `current`; the engine writes
/// it there and does not look at it. A flipped bit in the list would drop tables.
///
/// ```text
/// current = u64 number | u128 xxh3 of v<number> | 00        (little endian)
/// ```
fn check_version_file(keyspace: &Path, current: &Path) -> Result<(), StoreError> {
    let bytes = fs::read(current).map_err(StoreError::io(current, "read"))?;
    let parsed = bytes.split_first_chunk::<8>().and_then(|(number, rest)| {
        let (checksum, kind) = rest.split_first_chunk::<16>()?;
        (kind == [0]).then_some((u64::from_le_bytes(*number), u128::from_le_bytes(*checksum)))
    });
    let Some((number, checksum)) = parsed else {
        return Err(StoreError::corrupt(current, "not a number and a checksum"));
    };
    let list = keyspace.join(format!("v{number}"));
    let Ok(bytes) = fs::read(&list) else {
        return Err(StoreError::corrupt(
            &list,
            "the list of tables cannot be read",
        ));
    };
    if xxh3_128(&bytes) != checksum {
        return Err(StoreError::corrupt(
            &list,
            "the checksum of the list of tables",
        ));
    }
    Ok(())
}

fn holds_files(directory: &Path) -> bool {
    fs::read_dir(directory).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let path = entry.path();
            if path.is_dir() {
                holds_files(&path)
            } else {
                true
            }
        })
    })
}

fn create_options(keyspace: Keyspace) -> KeyspaceCreateOptions {
    let options = keyspace.options();
    let separation = options.large_values.then(|| {
        KvSeparationOptions::default()
            .separation_threshold(SEPARATION_BYTES)
            .compression(CompressionType::None)
    });
    KeyspaceCreateOptions::default()
        .max_memtable_size(options.memtable_bytes)
        .data_block_compression_policy(CompressionPolicy::disabled())
        .index_block_compression_policy(CompressionPolicy::disabled())
        .with_kv_separation(separation)
}

/// Calls the engine, which panics on some damage, and turns every failure into ours.
fn guard<T>(path: &Path, call: impl FnOnce() -> fjall::Result<T>) -> Result<T, StoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(translate(path, error)),
        Err(_panic) => {
            let what = "the engine met something impossible";
            Err(StoreError::corrupt(path, what))
        }
    }
}

fn translate(path: &Path, error: fjall::Error) -> StoreError {
    use std::io::ErrorKind;
    let path = path.to_owned();
    if let fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) = error {
        let cut = matches!(
            error.kind(),
            ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::NotFound
        );
        return if cut && !is_no_space(&error) {
            let source = Some(EngineError(Arc::new(error)));
            StoreError::Corrupt {
                path,
                what: "a file is cut short or missing",
                source,
            }
        } else {
            StoreError::io(path, "the engine's read or write")(error)
        };
    }
    if matches!(error, fjall::Error::Locked) {
        return StoreError::InUse { path, pid: None };
    }
    let failed = matches!(
        error,
        fjall::Error::Poisoned | fjall::Error::KeyspaceDeleted
    );
    let source = EngineError(Arc::new(error));
    if failed {
        StoreError::Engine { path, source }
    } else {
        StoreError::Corrupt {
            path,
            what: "a checksum or a header",
            source: Some(source),
        }
    }
}
