//! The place of every table that is not current, where another state is laid down.

use std::sync::Arc;

use super::{
    CLEAR_KEYS, CURRENT_KEY, Cache, Filter, NOTE_KEY, Remote, SECOND, Shared, bounds, lock,
    puts_and_deletes, there,
};
use crate::error::StoreError;
use crate::store::{Batch, Direction, KeyRange, Keyspace, Pair, Staging, View, check_key};

/// The place of every table that is not current. It has no versions.
pub(super) struct RemoteStaging<R>(pub(super) Arc<Shared<R>>);

impl<R: Remote> RemoteStaging<R> {
    fn place(&self) -> u8 {
        self.0.place() ^ SECOND
    }
}

impl<R: Remote> View for RemoteStaging<R> {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        check_key(keyspace, key)?;
        self.0.remote.get(&there(self.place(), keyspace, key))
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
        if range.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let (from, to) = bounds(self.place(), keyspace, range);
        let mut pairs = match direction {
            Direction::Ascending => self.0.remote.scan(&from, &to, limit)?,
            Direction::Descending => {
                let mut all = self.0.remote.scan(&from, &to, usize::MAX)?;
                all.reverse();
                all.truncate(limit);
                all
            }
        };
        for (key, _) in &mut pairs {
            key.remove(0);
        }
        Ok(pairs)
    }
}

impl<R: Remote> Staging for RemoteStaging<R> {
    fn note(&self) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.remote.get(NOTE_KEY)
    }

    fn write(&self, batch: Batch, note: Option<&[u8]>) -> Result<(), StoreError> {
        batch.check()?;
        let (mut puts, deletes) = puts_and_deletes(self.place(), &batch.into_final_ops());
        puts.extend(note.map(|note| (NOTE_KEY.to_vec(), note.to_vec())));
        self.0.remote.write(puts, deletes)
    }

    fn is_empty(&self) -> Result<bool, StoreError> {
        for keyspace in Keyspace::ALL {
            if !self
                .range(keyspace, &KeyRange::all(), 1, Direction::Ascending)?
                .is_empty()
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn clear(&self) -> Result<(), StoreError> {
        self.0.remote.write(Vec::new(), vec![NOTE_KEY.to_vec()])?;
        let place = self.place();
        for keyspace in Keyspace::ALL {
            let (from, to) = bounds(place, keyspace, &KeyRange::all());
            loop {
                let found = self.0.remote.scan(&from, &to, CLEAR_KEYS)?;
                if found.is_empty() {
                    break;
                }
                let keys = found.into_iter().map(|(key, _)| key).collect();
                self.0.remote.write(Vec::new(), keys)?;
            }
        }
        Ok(())
    }

    fn promote(&self) -> Result<(), StoreError> {
        let _one_at_a_time = lock(&self.0.writing);
        let place = self.place();
        self.0.remote.write(
            vec![(CURRENT_KEY.to_vec(), vec![place])],
            vec![NOTE_KEY.to_vec()],
        )?;
        let mut state = lock(&self.0.state);
        state.place = place;
        state.version += 1;
        // The place may have been current before, with other values.
        state.cache = Cache::default();
        state.filter = Filter::default();
        state.prune();
        Ok(())
    }
}
