//! Versions and places over a map in memory, against a store that has snapshots.

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
        let keyspace = match *keyspace {
            0 => Keyspace::Records,
            1 => Keyspace::Bodies,
            _ => FILTERED,
        };
        match value {
            Some(value) => batch.put(keyspace, [*key], [*value]),
            None => batch.delete(keyspace, [*key]),
        };
    }
    batch
}

/// Waits until the filter is filled, which another thread does once something is asked for.
fn filled<R: Remote + 'static>(store: &RemoteStore<R>) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !store.is_filled() {
        store.get(FILTERED, b"the first that is asked for").unwrap();
        assert!(
            std::time::Instant::now() < deadline,
            "the filter is never filled"
        );
        std::thread::yield_now();
    }
}

fn same(left: &dyn View, right: &dyn View) {
    for keyspace in [
        Keyspace::Records,
        Keyspace::Bodies,
        Keyspace::Blocks,
        FILTERED,
    ] {
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
            (prop::collection::vec((0..3u8, 0..12u8, prop::option::weighted(0.7, any::<u8>())), 1..6),
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
                // Otherwise it fills while there are commits already.
                if keep {
                    filled(&store);
                }
            }
        }
    }
}

#[test]
fn what_old_versions_hold_is_one_layer_for_each_that_is_read() {
    let store = RemoteStore::open(Map::default()).unwrap();
    let write = |value| {
        let changes: Vec<_> = (0..12).map(|key| (0, key, Some(value))).collect();
        store.commit(batch(&changes), Durability::Synced).unwrap();
    };
    write(1);
    let first = store.snapshot().unwrap();
    (2..50).for_each(write);
    let second = store.snapshot().unwrap();
    (50..99).for_each(write);
    let layers = || lock(&store.0.state).layers.len();
    assert!(layers() <= 3, "{}", layers());
    // Twelve cells as of each of the two, and those of a commit that may still be read.
    assert!(store.held_bytes() <= 3 * 12 * (CACHE_ENTRY + 3));
    let get = |view: &dyn View| view.get(Keyspace::Records, &[7]).unwrap();
    assert_eq!(
        (get(first.as_ref()), get(second.as_ref())),
        (Some(vec![1]), Some(vec![49]))
    );
    drop((first, second));
    assert_eq!((layers(), store.held_bytes()), (0, 0));
}

#[test]
fn another_state_takes_the_place_of_the_current_one_at_once() {
    let map = Map::default();
    let store = RemoteStore::open(map.clone()).unwrap();
    let all = [(0, 1, Some(1)), (0, 2, Some(2)), (1, 3, Some(3))];
    store.commit(batch(&all), Durability::Synced).unwrap();
    let get = |view: &dyn View, key| view.get(Keyspace::Records, &[key]).unwrap();
    let staging = store.staging().unwrap();
    assert_eq!(staging.note().unwrap(), None);
    staging
        .write(batch(&[(0, 2, Some(9)), (0, 4, Some(4))]), Some(b"half"))
        .unwrap();
    // Nobody sees it yet, and a start finds it again.
    assert_eq!((get(&store, 2), get(&store, 4)), (Some(vec![2]), None));
    assert_eq!(get(staging.as_ref(), 2), Some(vec![9]));
    let again = RemoteStore::open(map.clone()).unwrap();
    assert_eq!(
        again.staging().unwrap().note().unwrap(),
        Some(b"half".to_vec())
    );
    assert_eq!(get(&again, 2), Some(vec![2]));

    let before = store.snapshot().unwrap();
    staging.promote().unwrap();
    let after = [(1, None), (2, Some(vec![9])), (4, Some(vec![4]))];
    for (key, value) in after.clone() {
        assert_eq!(get(&store, key), value);
    }
    assert_eq!(get(before.as_ref(), 1), Some(vec![1]));
    store
        .commit(batch(&[(0, 1, Some(7))]), Durability::Synced)
        .unwrap();
    store
        .commit(batch(&[(0, 1, None)]), Durability::Synced)
        .unwrap();
    // What was current is the other place now, and nothing is left of it when that is emptied.
    assert_eq!(get(staging.as_ref(), 1), Some(vec![1]));
    assert!(!staging.is_empty().unwrap());
    staging.clear().unwrap();
    assert!(staging.is_empty().unwrap());
    assert_eq!(get(staging.as_ref(), 1), None);
    let again = RemoteStore::open(map.clone()).unwrap();
    for (key, value) in after {
        assert_eq!(get(&again, key), value);
    }
    let used = |key: &&Vec<u8>| {
        key.first()
            .is_some_and(|code| *code != 0 && code & SECOND == 0)
    };
    assert_eq!(lock(&map.0.0).keys().filter(used).count(), 0);
    // And back again.
    let staging = again.staging().unwrap();
    staging.write(batch(&[(0, 1, Some(5))]), None).unwrap();
    staging.promote().unwrap();
    assert_eq!((get(&again, 1), get(&again, 2)), (Some(vec![5]), None));
}

#[test]
fn the_filter_is_that_of_the_current_place() {
    let store = RemoteStore::open(Map::default()).unwrap();
    let message = |key: u8| batch(&[(2, key, Some(key))]);
    let get = |view: &dyn View, key: u8| view.get(FILTERED, &[key]).unwrap();
    store.commit(message(1), Durability::Synced).unwrap();
    filled(&store);
    let before = store.snapshot().unwrap();
    let staging = store.staging().unwrap();
    staging.write(message(2), None).unwrap();
    staging.promote().unwrap();
    for _ in 0..2 {
        assert_eq!((get(&store, 1), get(&store, 2)), (None, Some(vec![2])));
        assert_eq!((get(&*before, 1), get(&*before, 2)), (Some(vec![1]), None));
        // While it is filled anew, and after it.
        filled(&store);
    }
}

/// Counts the reads of single keys.
#[derive(Clone, Default)]
struct Counted(Map, Arc<std::sync::atomic::AtomicUsize>);

impl Remote for Counted {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.get(key)
    }

    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        self.1.fetch_add(keys.len(), Ordering::Relaxed);
        self.0.get_many(keys)
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.0.scan(from, to, limit)
    }

    fn write(&self, puts: Vec<Pair>, deletes: Vec<Vec<u8>>) -> Result<(), StoreError> {
        self.0.write(puts, deletes)
    }
}

#[test]
fn a_new_message_is_looked_up_and_written_without_asking_the_database() {
    let database = Counted::default();
    let key = |i: u32| xxhash_rust::xxh3::xxh3_128(&i.to_be_bytes()).to_be_bytes();
    let commit = |store: &RemoteStore<Counted>, range: std::ops::Range<u32>| {
        let mut batch = Batch::new();
        for i in range {
            batch.put(FILTERED, key(i), *b"place");
        }
        store.commit(batch, Durability::Synced).unwrap();
    };
    let store = RemoteStore::open(database.clone()).unwrap();
    // Also those that another run of the program has written are in the filter.
    commit(&store, 0..10_000);
    drop(store);
    let store = RemoteStore::open(database.clone()).unwrap();
    filled(&store);
    let before = database.1.load(Ordering::Relaxed);
    for i in 10_000..11_000 {
        assert_eq!(store.get(FILTERED, &key(i)).unwrap(), None);
    }
    commit(&store, 10_000..11_000);
    // One in a hundred looks as if it were there, and is asked for once.
    let asked = database.1.load(Ordering::Relaxed) - before;
    assert!(asked < 50, "{asked} reads");
    for i in [0, 9_999, 10_000, 10_999] {
        assert_eq!(store.get(FILTERED, &key(i)).unwrap().unwrap(), b"place");
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
    let bytes = |layer: &Values| layer.values().flatten().map(Vec::len).sum::<usize>();
    assert!(bytes(&cache.recent) + bytes(&cache.older) <= 2 * CACHE_BYTES);
    assert!(!cache.older.is_empty());
}
