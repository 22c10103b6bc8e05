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
//! versions though the database has none, and never wait for a writer. Layers between which nobody
//! reads become one.
//!
//! Of the table that is asked most for what it does not have, a filter is kept of what it has.
//!
//! Every table has two places there, of which one is current: a whole new state is written into
//! the other ([`Staging`]) and becomes the current one by a single write.

mod filter;
mod staging;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::filter::Filter;
use self::staging::RemoteStaging;
use crate::error::StoreError;
use crate::store::{
    Batch, Direction, Durability, Health, KeyRange, Keyspace, Op, Pair, Snapshot, Staging, Store,
    View, check_key,
};

/// Where the layout of keys is written down.
const FORMAT_KEY: &[u8] = &[0];

/// The layout that this program reads and writes.
const FORMAT: &[u8] = b"session-remote-1";

/// Which of the two places of every table is current; absent is the first.
const CURRENT_KEY: &[u8] = &[0, 1];

/// What whoever fills the other place has written down.
const NOTE_KEY: &[u8] = &[0, 2];

/// Bit of a key's first byte that tells the second place from the first.
const SECOND: u8 = 0x80;

/// The table of which a filter is kept: a message id is looked up for each new message, by every
/// block that carries it.
const FILTERED: Keyspace = Keyspace::Messages;

/// Keys that are read at once to fill the filter.
const FILL_KEYS: usize = 4_096;

/// Keys that are deleted in one write when a place is emptied.
const CLEAR_KEYS: usize = 4_096;

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

/// Values by key; none where there was nothing.
type Values = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// What one or more commits replaced: each key as it was before the first of them.
#[derive(Default)]
struct Layer {
    cells: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
}

impl Layer {
    /// A key as it was, unless an earlier commit replaced it already.
    fn add(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        let bytes = entry_bytes(&key, value.as_deref());
        if let Entry::Vacant(place) = self.cells.entry(key) {
            place.insert(value);
            self.bytes += bytes;
        }
    }
}

fn entry_bytes(key: &[u8], value: Option<&[u8]>) -> usize {
    CACHE_ENTRY + key.len() + value.map_or(0, <[u8]>::len)
}

/// Values of the newest version, forgotten in the order of their last use, roughly.
#[derive(Default)]
struct Cache {
    recent: Values,
    older: Values,
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
        self.bytes += entry_bytes(key, value);
        self.recent.insert(key.to_vec(), value.map(<[u8]>::to_vec));
        if self.bytes > CACHE_BYTES {
            self.older = std::mem::take(&mut self.recent);
            self.bytes = 0;
        }
    }
}

/// Bodies and blocks are large and read once.
fn is_kept(key: &[u8]) -> bool {
    !matches!(key.first(), Some(code) if code & !SECOND == Keyspace::Bodies.code()
        || code & !SECOND == Keyspace::Blocks.code())
}

struct State {
    /// Number of the last commit.
    version: u64,
    /// Bit of the place that is current.
    place: u8,
    /// What commits replaced up to each version, oldest first; the last may be on its way.
    layers: VecDeque<(u64, Layer)>,
    /// Snapshots alive, by version.
    live: BTreeMap<u64, usize>,
    cache: Cache,
    /// Keys of [`FILTERED`] in the current place.
    filter: Filter,
    /// A write that ended in an error, and what it was to leave behind.
    failed: Option<(StoreError, Vec<Op>)>,
    closed: bool,
}

impl State {
    fn layers_after(&self, version: u64) -> impl Iterator<Item = &Layer> {
        let layers = self.layers.iter();
        layers.filter_map(move |(of, layer)| (*of > version).then_some(layer))
    }

    /// The value that `key` had in `version`, where it was replaced since.
    fn replaced(&self, version: u64, key: &[u8]) -> Option<Option<Vec<u8>>> {
        self.layers_after(version)
            .find_map(|layer| layer.cells.get(key).cloned())
    }

    /// Drops what no reader needs any more, and joins layers between which nobody reads.
    fn prune(&mut self) {
        let oldest = self
            .live
            .keys()
            .next()
            .map_or(self.version, |v| self.version.min(*v));
        while self.layers.front().is_some_and(|(of, _)| *of <= oldest) {
            self.layers.pop_front();
        }
        let mut at = 0;
        while let (Some((of, _)), Some((next, _))) = (self.layers.get(at), self.layers.get(at + 1))
        {
            // Of the last commit, a snapshot may still be taken, or it is not decided.
            if *next > self.version || self.live.contains_key(of) {
                at += 1;
                continue;
            }
            let next = *next;
            let Some((_, later)) = self.layers.remove(at + 1) else {
                break;
            };
            if let Some((of, layer)) = self.layers.get_mut(at) {
                *of = next;
                for (key, value) in later.cells {
                    layer.add(key, value);
                }
            }
        }
    }

    fn held_bytes(&self) -> usize {
        self.layers.iter().map(|(_, layer)| layer.bytes).sum()
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

fn there(place: u8, keyspace: Keyspace, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + key.len());
    out.push(place | keyspace.code());
    out.extend_from_slice(key);
    out
}

/// First key of a range there, and the one after its last.
fn bounds(place: u8, keyspace: Keyspace, range: &KeyRange) -> (Vec<u8>, Vec<u8>) {
    let to = match range.upper() {
        Some(upper) => there(place, keyspace, upper),
        None => vec![place | (keyspace.code() + 1)],
    };
    (there(place, keyspace, range.lower()), to)
}

/// A batch as the database takes it.
fn puts_and_deletes(place: u8, ops: &[Op]) -> (Vec<Pair>, Vec<Vec<u8>>) {
    let (mut puts, mut deletes) = (Vec::with_capacity(ops.len()), Vec::new());
    for op in ops {
        let key = there(place, op.keyspace, &op.key);
        match &op.value {
            Some(value) => puts.push((key, value.clone())),
            None => deletes.push(key),
        }
    }
    (puts, deletes)
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
        let place = match remote.get(CURRENT_KEY)?.as_deref() {
            None => 0,
            Some([place]) if place & !SECOND == 0 => *place,
            Some(_) => return Err(StoreError::corrupt("host database", "no such place")),
        };
        Ok(Self(Arc::new(Shared {
            remote,
            state: Mutex::new(State {
                version: 0,
                place,
                layers: VecDeque::new(),
                live: BTreeMap::new(),
                cache: Cache::default(),
                filter: Filter::default(),
                failed: None,
                closed: false,
            }),
            writing: Mutex::new(()),
        })))
    }

    /// Whether the filter is complete.
    #[cfg(test)]
    fn is_filled(&self) -> bool {
        lock(&self.0.state).filter.is_whole()
    }

    fn version(&self) -> Result<u64, StoreError> {
        let state = lock(&self.0.state);
        if state.closed {
            return Err(StoreError::Closed);
        }
        Ok(state.version)
    }
}

/// Fills the filter beside everything else, once somebody asks for what it is of: until it is full,
/// the database is asked.
fn fill<R: Remote + 'static>(shared: &Arc<Shared<R>>, place: u8) {
    let weak = Arc::downgrade(shared);
    let fill = move || {
        let (mut from, to) = bounds(place, FILTERED, &KeyRange::all());
        // Whoever drops the store or changes the place ends it.
        while let Some(shared) = weak.upgrade() {
            let found = shared.remote.scan(&from, &to, FILL_KEYS);
            let mut state = lock(&shared.state);
            if state.closed || state.place != place {
                return;
            }
            let Ok(found) = found else {
                return state.filter.broke_off();
            };
            found.iter().for_each(|(key, _)| state.filter.add(key));
            match found.into_iter().next_back() {
                Some((last, _)) => from = [last, vec![0]].concat(),
                None => return state.filter.complete(),
            }
        }
    };
    let thread = std::thread::Builder::new().name("filter".to_owned());
    // Without a thread there is no filter, and nothing else is missing.
    let _started = thread.spawn(fill);
}

impl<R: Remote> Shared<R> {
    fn get(
        &self,
        (place, version): (u8, u64),
        keyspace: Keyspace,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(keyspace, key)?;
        let key = there(place, keyspace, key);
        {
            let state = lock(&self.state);
            if let Some(value) = state.replaced(version, &key) {
                return Ok(value);
            }
            // Not replaced since: what is kept of the newest version is this one's too.
            if let Some(value) = state.cache.get(&key) {
                return Ok(value.clone());
            }
            if keyspace == FILTERED && place == state.place && state.filter.excludes(&key) {
                return Ok(None);
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
        (place, version): (u8, u64),
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let (from, to) = bounds(place, keyspace, range);
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

    fn replaced_between(&self, version: u64, from: &[u8], to: &[u8]) -> Values {
        let state = lock(&self.state);
        let mut before = Values::new();
        if from >= to {
            return before;
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        for layer in state.layers_after(version) {
            for (key, value) in layer.cells.range::<[u8], _>(bounds) {
                if !before.contains_key(key) {
                    before.insert(key.clone(), value.clone());
                }
            }
        }
        before
    }

    /// What the changes of a batch replace.
    fn before(&self, place: u8, ops: &[Op]) -> Result<Layer, StoreError> {
        let mut layer = Layer::default();
        let mut unknown = Vec::new();
        {
            let state = lock(&self.state);
            for op in ops {
                let key = there(place, op.keyspace, &op.key);
                if op.new {
                    layer.add(key, None);
                } else if let Some(value) = state.cache.get(&key) {
                    layer.add(key, value.clone());
                } else if op.keyspace == FILTERED && state.filter.excludes(&key) {
                    layer.add(key, None);
                } else {
                    unknown.push(key);
                }
            }
        }
        let values = self.remote.get_many(&unknown)?;
        for (key, value) in unknown.into_iter().zip(values) {
            layer.add(key, value);
        }
        Ok(layer)
    }

    fn place(&self) -> u8 {
        lock(&self.state).place
    }

    fn landed(&self, place: u8, ops: &[Op]) {
        let mut state = lock(&self.state);
        for op in ops {
            let key = there(place, op.keyspace, &op.key);
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
        let (place, version) = (state.place, state.version);
        *state.live.entry(version).or_default() += 1;
        Ok(Box::new(RemoteView {
            shared: self.0.clone(),
            place,
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
        let place = self.0.place();
        let layer = self.0.before(place, &ops)?;
        {
            let mut state = lock(&self.0.state);
            let next = state.version + 1;
            state.layers.push_back((next, layer));
            // Before it is written: nobody may be told that it is not there once it is.
            for op in ops.iter().filter(|op| op.keyspace == FILTERED) {
                state.filter.add(&there(place, FILTERED, &op.key));
            }
        }
        let (puts, deletes) = puts_and_deletes(place, &ops);
        match self.0.remote.write(puts, deletes) {
            Ok(()) => self.0.landed(place, &ops),
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
        let place = self.0.place();
        let key = |op: &Op| there(place, op.keyspace, &op.key);
        let keys: Vec<Vec<u8>> = ops.iter().map(key).collect();
        let found = self.0.remote.get_many(&keys)?;
        // All or nothing: one change that is not there tells of all of them.
        if ops
            .iter()
            .zip(&found)
            .all(|(op, found)| is_there(op, found))
        {
            self.0.landed(place, &ops);
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

    fn held_bytes(&self) -> usize {
        lock(&self.0.state).held_bytes()
    }

    fn staging(&self) -> Option<Arc<dyn Staging>> {
        Some(Arc::new(RemoteStaging(self.0.clone())))
    }
}

/// The database as of one version.
struct RemoteView<R: Remote> {
    shared: Arc<Shared<R>>,
    place: u8,
    version: u64,
}

impl<R: Remote> RemoteView<R> {
    const fn at(&self) -> (u8, u64) {
        (self.place, self.version)
    }
}

impl<R: Remote + 'static> View for RemoteView<R> {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if keyspace == FILTERED {
            let mut state = lock(&self.shared.state);
            if state.place == self.place && state.filter.begins() {
                fill(&self.shared, self.place);
            }
        }
        self.shared.get(self.at(), keyspace, key)
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
            .range(self.at(), keyspace, range, limit, direction)
    }
}

impl<R: Remote> Drop for RemoteView<R> {
    fn drop(&mut self) {
        self.shared.release(self.version);
    }
}

#[cfg(test)]
mod tests;
