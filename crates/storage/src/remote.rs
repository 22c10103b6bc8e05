//! A store over a plain ordered database that somebody else keeps: no tables and no snapshots
//! there, one atomic write, and every read a round trip.
//!
//! ```text
//! key there = code of the keyspace (1 byte) | key
//! snapshot of version v = the database now, under what commits after v have replaced
//! ```
//!
//! Before a batch is written, what it replaces is read (mostly from memory) and laid over the
//! database as a layer. Whoever reads an older version looks there first, so readers see whole
//! versions though the database has none, and never wait for a writer.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::StoreError;
use crate::store::{
    Batch, Direction, Durability, Health, KeyRange, Keyspace, Op, Pair, Snapshot, Store, View,
    check_key,
};

/// Where the layout of keys is written down.
const FORMAT_KEY: &[u8] = &[0];

/// The layout that this program reads and writes.
const FORMAT: &[u8] = b"session-remote-1";

/// Bytes of values and keys kept in memory in each of two generations: the records of some
/// fifty thousand sessions.
const CACHE_BYTES: usize = 24 << 20;

/// What a kept value costs beside its bytes.
const CACHE_ENTRY: usize = 96;

/// The database. Its writes are atomic; a read sees every write that has returned.
pub trait Remote: Send + Sync {
    /// The value under `key`.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The values under several keys, in their order.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError>;

    /// At most `limit` pairs from `from` on, below `to`, ascending, of one moment.
    ///
    /// # Errors
    /// [`StoreError`].
    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError>;

    /// All or nothing: no key is in both lists.
    ///
    /// # Errors
    /// [`StoreError`]; whether it was written is unknown then.
    fn write(&self, puts: Vec<Pair>, deletes: Vec<Vec<u8>>) -> Result<(), StoreError>;
}

/// What a commit replaced.
type Layer = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// Values of the newest version, forgotten in the order of their last use, roughly.
#[derive(Default)]
struct Cache {
    recent: Layer,
    older: Layer,
    bytes: usize,
}

impl Cache {
    fn get(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.recent.get(key).or_else(|| self.older.get(key))
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) {
        if !is_kept(key) {
            return;
        }
        self.older.remove(key);
        self.bytes += CACHE_ENTRY + key.len() + value.map_or(0, <[u8]>::len);
        self.recent.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        if self.bytes > CACHE_BYTES {
            self.older = std::mem::take(&mut self.recent);
            self.bytes = 0;
        }
    }
}

/// Bodies and blocks are large and read once.
fn is_kept(key: &[u8]) -> bool {
    !matches!(key.first(), Some(code) if *code == Keyspace::Bodies.code()
        || *code == Keyspace::Blocks.code())
}

struct State {
    /// Number of the last commit.
    version: u64,
    /// What each commit replaced, oldest first; the last may be on its way.
    layers: VecDeque<(u64, Arc<Layer>)>,
    /// Snapshots alive, by version.
    live: BTreeMap<u64, usize>,
    cache: Cache,
    /// A write that ended in an error, and what it was to leave behind.
    failed: Option<(StoreError, Vec<Op>)>,
    closed: bool,
}

impl State {
    fn layers_after(&self, version: u64) -> impl Iterator<Item = &Arc<Layer>> {
        let later = move |(of, layer)| (of > version).then_some(layer);
        self.layers
            .iter()
            .map(|(of, layer)| (*of, layer))
            .filter_map(later)
    }

    /// The value that `key` had in `version`, where it was replaced since.
    fn replaced(&self, version: u64, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.layers_after(version)
            .find_map(|layer| layer.get(key).cloned())
    }

    /// Drops what no reader needs any more.
    fn prune(&mut self) {
        let oldest = self
            .live
            .keys()
            .next()
            .map_or(self.version, |v| self.version.min(*v));
        while self.layers.front().is_some_and(|(of, _)| *of <= oldest) {
            self.layers.pop_front();
        }
    }
}

struct Shared<R> {
    remote: R,
    state: Mutex<State>,
    /// One commit at a time.
    writing: Mutex<()>,
}

/// The store.
pub struct RemoteStore<R>(Arc<Shared<R>>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change of the state is one assignment or is repeated by the next commit.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn there(keyspace: Keyspace, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(keyspace.code());
    out.extend_from_slice(key);
    out
}

impl<R: Remote> RemoteStore<R> {
    /// Opens the database, and marks an empty one as ours.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where the database has another layout, and what the database says.
    pub fn open(remote: R) -> Result<Self, StoreError> {
        match remote.get(FORMAT_KEY)? {
            Some(found) if found == FORMAT => {}
            Some(_) => {
                return Err(StoreError::corrupt(
                    "host database",
                    "another layout of keys",
                ));
            }
            None => remote.write(vec![(FORMAT_KEY.to_vec(), FORMAT.to_vec())], Vec::new())?,
        }
        Ok(Self(Arc::new(Shared {
            remote,
            state: Mutex::new(State {
                version: 0,
                layers: VecDeque::new(),
                live: BTreeMap::new(),
                cache: Cache::default(),
                failed: None,
                closed: false,
            }),
            writing: Mutex::new(()),
        })))
    }

    fn version(&self) -> Result<u64, StoreError> {
        let state = lock(&self.0.state);
        if state.closed {
            return Err(StoreError::Closed);
        }
        Ok(state.version)
    }
}

impl<R: Remote> Shared<R> {
    fn get(
        &self,
        version: u64,
        keyspace: Keyspace,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(keyspace, key)?;
        let key = there(keyspace, key);
        {
            let state = lock(&self.state);
            if let Some(value) = state.replaced(version, &key) {
                return Ok(value);
            }
            // Not replaced since: what is kept of the newest version is this one's too.
            if let Some(value) = state.cache.get(&key) {
                return Ok(value.clone());
            }
        }
        let value = self.remote.get(&key)?;
        let mut state = lock(&self.state);
        // A layer is laid before its commit is written: what was read may be newer than asked.
        if let Some(value) = state.replaced(version, &key) {
            return Ok(value);
        }
        state.cache.put(&key, value.as_deref());
        Ok(value)
    }

    fn range(
        &self,
        version: u64,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let from = there(keyspace, range.lower());
        let to = match range.upper() {
            Some(upper) => there(keyspace, upper),
            None => vec![keyspace.code() + 1],
        };
        let wanted = match direction {
            Direction::Ascending => limit,
            // The database has no way back: everything is read, and the end of it answered.
            Direction::Descending => usize::MAX,
        };
        let mut pairs = self.ascending(version, &from, &to, wanted)?;
        if direction == Direction::Descending {
            pairs.reverse();
            pairs.truncate(limit);
        }
        for (key, _) in &mut pairs {
            key.remove(0);
        }
        Ok(pairs)
    }

    fn ascending(
        &self,
        version: u64,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<Pair>, StoreError> {
        let mut asked = limit;
        loop {
            let found = self.remote.scan(from, to, asked)?;
            // Read after the scan, so that every commit that the scan can have seen is among them.
            let before = self.replaced_between(version, from, to);
            let whole = found.len() < asked;
            let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = found.into_iter().collect();
            let last = merged.last_key_value().map(|(key, _)| key.clone());
            for (key, value) in before {
                // Beyond a scan that was cut nothing is known yet.
                if !whole && last.as_ref().is_none_or(|last| key > *last) {
                    continue;
                }
                match value {
                    Some(value) => merged.insert(key, value),
                    None => merged.remove(&key),
                };
            }
            if whole || merged.len() >= limit {
                return Ok(merged.into_iter().take(limit).collect());
            }
            asked = asked.saturating_mul(2);
        }
    }

    fn replaced_between(&self, version: u64, from: &[u8], to: &[u8]) -> Layer {
        let state = lock(&self.state);
        let mut before = Layer::new();
        for layer in state.layers_after(version) {
            for (key, value) in layer.iter() {
                if from <= key.as_slice() && key.as_slice() < to && !before.contains_key(key) {
                    before.insert(key.clone(), value.clone());
                }
            }
        }
        before
    }

    /// What the changes of a batch replace.
    fn before(&self, ops: &[Op]) -> Result<Layer, StoreError> {
        let mut layer = Layer::with_capacity(ops.len());
        let mut unknown = Vec::new();
        {
            let state = lock(&self.state);
            for op in ops {
                let key = there(op.keyspace, &op.key);
                if op.new {
                    layer.insert(key, None);
                } else if let Some(value) = state.cache.get(&key) {
                    layer.insert(key, value.clone());
                } else {
                    unknown.push(key);
                }
            }
        }
        let values = self.remote.get_many(&unknown)?;
        layer.extend(unknown.into_iter().zip(values));
        Ok(layer)
    }

    fn landed(&self, ops: &[Op]) {
        let mut state = lock(&self.state);
        for op in ops {
            let key = there(op.keyspace, &op.key);
            state.cache.put(&key, op.value.as_deref());
        }
        state.version += 1;
        state.prune();
    }

    fn release(&self, version: u64) {
        let mut state = lock(&self.state);
        if let Some(count) = state.live.get_mut(&version) {
            *count -= 1;
            if *count == 0 {
                state.live.remove(&version);
            }
        }
        state.prune();
    }
}

fn is_there(op: &Op, found: &Option<Vec<u8>>) -> bool {
    op.value == *found
}

impl<R: Remote + 'static> View for RemoteStore<R> {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        // A snapshot of its own, so that a commit meanwhile does not take its layers away.
        self.snapshot()?.get(keyspace, key)
    }

    fn contains(&self, keyspace: Keyspace, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get(keyspace, key)?.is_some())
    }

    fn range(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        self.snapshot()?.range(keyspace, range, limit, direction)
    }
}

impl<R: Remote + 'static> Store for RemoteStore<R> {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        let mut state = lock(&self.0.state);
        if state.closed {
            return Err(StoreError::Closed);
        }
        let version = state.version;
        *state.live.entry(version).or_default() += 1;
        Ok(Box::new(RemoteView {
            shared: self.0.clone(),
            version,
        }))
    }

    /// Both durabilities are that of the database: what it acknowledges survives a kill of this
    /// process and of the one that keeps it.
    fn commit(&self, batch: Batch, _durability: Durability) -> Result<(), StoreError> {
        batch.check()?;
        let _one_at_a_time = lock(&self.0.writing);
        {
            let state = lock(&self.0.state);
            if state.closed {
                return Err(StoreError::Closed);
            }
            if let Some((cause, _)) = &state.failed {
                let cause = Box::new(cause.clone());
                return Err(StoreError::Failed { cause });
            }
        }
        let ops = batch.into_final_ops();
        let layer = Arc::new(self.0.before(&ops)?);
        {
            let mut state = lock(&self.0.state);
            let next = state.version + 1;
            state.layers.push_back((next, layer));
        }
        let (mut puts, mut deletes) = (Vec::with_capacity(ops.len()), Vec::new());
        for op in &ops {
            let key = there(op.keyspace, &op.key);
            match &op.value {
                Some(value) => puts.push((key, value.clone())),
                None => deletes.push(key),
            }
        }
        match self.0.remote.write(puts, deletes) {
            Ok(()) => self.0.landed(&ops),
            Err(error) => {
                lock(&self.0.state).failed = Some((error.clone(), ops));
                return Err(error);
            }
        }
        Ok(())
    }

    /// Nothing is kept back.
    fn flush(&self) -> Result<(), StoreError> {
        self.version().map(drop)
    }

    fn recover(&self) -> Result<(), StoreError> {
        let _one_at_a_time = lock(&self.0.writing);
        let Some((_, ops)) = lock(&self.0.state).failed.clone() else {
            return self.version().map(drop);
        };
        let keys: Vec<Vec<u8>> = ops.iter().map(|op| there(op.keyspace, &op.key)).collect();
        let found = self.0.remote.get_many(&keys)?;
        // All or nothing: one change that is not there tells of all of them.
        if ops
            .iter()
            .zip(&found)
            .all(|(op, found)| is_there(op, found))
        {
            self.0.landed(&ops);
        } else {
            lock(&self.0.state).layers.pop_back();
        }
        lock(&self.0.state).failed = None;
        Ok(())
    }

    fn health(&self) -> Health {
        let state = lock(&self.0.state);
        match &state.failed {
            _ if state.closed => Health::Closed,
            Some((error, _)) => Health::Failed(error.clone()),
            None => Health::Ready,
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        lock(&self.0.state).closed = true;
        Ok(())
    }

    /// Unknown here: the host's operator looks at the host's directory.
    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.version().map(|_| 0)
    }
}

/// The database as of one version.
struct RemoteView<R: Remote> {
    shared: Arc<Shared<R>>,
    version: u64,
}

impl<R: Remote> View for RemoteView<R> {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.shared.get(self.version, keyspace, key)
    }

    fn contains(&self, keyspace: Keyspace, key: &[u8]) -> Result<bool, StoreError> {
        Ok(self.get(keyspace, key)?.is_some())
    }

    fn range(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        self.shared
            .range(self.version, keyspace, range, limit, direction)
    }
}

impl<R: Remote> Drop for RemoteView<R> {
    fn drop(&mut self) {
        self.shared.release(self.version);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::memory::MemoryStore;

    const WRITES: u8 = 0;
    const LOSES: u8 = 1;
    const WRITES_AND_FAILS: u8 = 2;

    /// An ordered map, whose next write may go wrong.
    #[derive(Clone, Default)]
    struct Map(Arc<(Mutex<Pairs>, AtomicU8)>);

    type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

    impl Remote for Map {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
            Ok(lock(&self.0.0).get(key).cloned())
        }

        fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
            keys.iter().map(|key| self.get(key)).collect()
        }

        fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
            let map = lock(&self.0.0);
            let range = map.range(from.to_vec()..to.to_vec());
            Ok(range
                .take(limit)
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect())
        }

        fn write(&self, puts: Vec<Pair>, deletes: Vec<Vec<u8>>) -> Result<(), StoreError> {
            let mode = self.0.1.swap(WRITES, Ordering::Relaxed);
            if mode != LOSES {
                let mut map = lock(&self.0.0);
                map.extend(puts);
                for key in deletes {
                    map.remove(&key);
                }
            }
            if mode == WRITES {
                Ok(())
            } else {
                Err(StoreError::Closed)
            }
        }
    }

    fn batch(changes: &[(u8, u8, Option<u8>)]) -> Batch {
        let mut batch = Batch::new();
        for (keyspace, key, value) in changes {
            let keyspace = if *keyspace == 0 {
                Keyspace::Records
            } else {
                Keyspace::Bodies
            };
            match value {
                Some(value) => batch.put(keyspace, [*key], [*value]),
                None => batch.delete(keyspace, [*key]),
            };
        }
        batch
    }

    fn same(left: &dyn View, right: &dyn View) {
        for keyspace in [Keyspace::Records, Keyspace::Bodies, Keyspace::Blocks] {
            for direction in [Direction::Ascending, Direction::Descending] {
                for limit in [1, 3, 99] {
                    let all = |view: &dyn View| {
                        view.range(keyspace, &KeyRange::all(), limit, direction)
                            .unwrap()
                    };
                    assert_eq!(all(left), all(right));
                }
            }
            for key in 0..12u8 {
                let get = |view: &dyn View| view.get(keyspace, &[key]).unwrap();
                assert_eq!(get(left), get(right));
            }
        }
    }

    proptest! {
        #[test]
        fn every_version_stays_as_it_was(
            commits in prop::collection::vec(
                (prop::collection::vec((0..2u8, 0..12u8, prop::option::weighted(0.7, any::<u8>())), 1..6),
                 0..5u8, any::<bool>(), any::<bool>()),
                1..30,
            ),
        ) {
            let map = Map::default();
            let mut store = RemoteStore::open(map.clone()).unwrap();
            let model = MemoryStore::new();
            let mut kept: Vec<(Snapshot, Snapshot)> = Vec::new();
            for (changes, mode, keep, reopen) in commits {
                if keep {
                    kept.push((store.snapshot().unwrap(), model.snapshot().unwrap()));
                }
                map.0.1.store(mode.min(3) % 3, Ordering::Relaxed);
                let written = store.commit(batch(&changes), Durability::Synced);
                if mode.min(3) % 3 == WRITES {
                    written.unwrap();
                    model.commit(batch(&changes), Durability::Synced).unwrap();
                } else {
                    written.unwrap_err();
                    // Until it is known what became of it, readers stay where they were.
                    same(&store, &model);
                    let refused = store.commit(batch(&changes), Durability::Synced);
                    prop_assert!(matches!(refused, Err(StoreError::Failed { .. })), "not refused");
                    store.recover().unwrap();
                    if mode.min(3) % 3 == WRITES_AND_FAILS {
                        model.commit(batch(&changes), Durability::Synced).unwrap();
                    }
                }
                same(&store, &model);
                for (snapshot, model) in &kept {
                    same(snapshot.as_ref(), model.as_ref());
                }
                if keep && kept.len() > 3 {
                    kept.remove(0);
                }
                if reopen {
                    kept.clear();
                    prop_assert!(lock(&store.0.state).layers.is_empty());
                    store = RemoteStore::open(map.clone()).unwrap();
                }
            }
        }
    }

    #[test]
    fn a_database_of_another_layout_is_refused() {
        let map = Map::default();
        map.write(vec![(FORMAT_KEY.to_vec(), b"other".to_vec())], Vec::new())
            .unwrap();
        assert!(matches!(
            RemoteStore::open(map).err(),
            Some(StoreError::Corrupt { .. })
        ));
    }

    #[test]
    fn what_is_kept_in_memory_is_bounded() {
        let mut cache = Cache::default();
        for i in 0..100_000u32 {
            cache.put(
                &[&[Keyspace::Records.code()], i.to_be_bytes().as_slice()].concat(),
                Some(&[0; 1_000]),
            );
        }
        let bytes = |layer: &Layer| layer.values().flatten().map(Vec::len).sum::<usize>();
        assert!(bytes(&cache.recent) + bytes(&cache.older) <= 2 * CACHE_BYTES);
        assert!(!cache.older.is_empty());
    }
}
