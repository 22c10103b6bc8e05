//! A store in memory: the oracle of the disk store's tests, and the store of tests that need none.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::error::StoreError;
use crate::store::{
    Batch, Direction, Durability, Health, KeyRange, Keyspace, Pair, Snapshot, Store, View,
    check_key,
};

type Map = BTreeMap<(Keyspace, Vec<u8>), Vec<u8>>;

/// One ordered map. Nothing survives it.
///
/// A commit while a snapshot lives copies the whole map, which is simple and right, and slow once
/// there is much in it.
#[derive(Debug)]
pub struct MemoryStore {
    /// `None` once closed.
    map: RwLock<Option<Arc<Map>>>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            map: RwLock::new(Some(Arc::default())),
        }
    }

    fn current(&self) -> Result<Arc<Map>, StoreError> {
        self.read().clone().ok_or(StoreError::Closed)
    }

    // A panic elsewhere cannot leave the map half changed: it is swapped, not edited.
    fn read(&self) -> RwLockReadGuard<'_, Option<Arc<Map>>> {
        self.map.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Option<Arc<Map>>> {
        self.map.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl View for MemoryStore {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        MemoryView(self.current()?).get(keyspace, key)
    }

    fn contains(&self, keyspace: Keyspace, key: &[u8]) -> Result<bool, StoreError> {
        MemoryView(self.current()?).contains(keyspace, key)
    }

    fn range(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        MemoryView(self.current()?).range(keyspace, range, limit, direction)
    }
}

impl Store for MemoryStore {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        Ok(Box::new(MemoryView(self.current()?)))
    }

    fn commit(&self, batch: Batch, _durability: Durability) -> Result<(), StoreError> {
        batch.check()?;
        let mut slot = self.write();
        let map = Arc::make_mut(slot.as_mut().ok_or(StoreError::Closed)?);
        for op in batch.into_final_ops() {
            match op.value {
                Some(value) => map.insert((op.keyspace, op.key), value),
                None => map.remove(&(op.keyspace, op.key)),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.current().map(drop)
    }

    fn recover(&self) -> Result<(), StoreError> {
        self.current().map(drop)
    }

    fn health(&self) -> Health {
        match *self.read() {
            Some(_) => Health::Ready,
            None => Health::Closed,
        }
    }

    fn close(&self) -> Result<(), StoreError> {
        *self.write() = None;
        Ok(())
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        let bytes: usize = self
            .current()?
            .iter()
            .map(|((_, key), value)| key.len() + value.len())
            .sum();
        Ok(u64::try_from(bytes).unwrap_or(u64::MAX))
    }
}

/// The map of one moment.
struct MemoryView(Arc<Map>);

impl View for MemoryView {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(keyspace, key)?;
        Ok(self.0.get(&(keyspace, key.to_vec())).cloned())
    }

    fn contains(&self, keyspace: Keyspace, key: &[u8]) -> Result<bool, StoreError> {
        check_key(keyspace, key)?;
        Ok(self.0.contains_key(&(keyspace, key.to_vec())))
    }

    fn range(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let from = Bound::Included((keyspace, range.lower().to_vec()));
        let to = match (range.upper(), Keyspace::ALL.get(keyspace.index() + 1)) {
            (Some(upper), _) => Bound::Excluded((keyspace, upper.to_vec())),
            (None, Some(next)) => Bound::Excluded((*next, Vec::new())),
            (None, None) => Bound::Unbounded,
        };
        let inside = self.0.range((from, to));
        let pair =
            |((_, key), value): (&(Keyspace, Vec<u8>), &Vec<u8>)| (key.clone(), value.clone());
        Ok(match direction {
            Direction::Ascending => inside.take(limit).map(pair).collect(),
            Direction::Descending => inside.rev().take(limit).map(pair).collect(),
        })
    }
}
