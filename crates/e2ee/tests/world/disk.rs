//! A disk that loses power: what was not synced may be gone, what was asked last may have happened.

use session_storage::{
    Batch, Direction, Durability, Health, KeyRange, Keyspace, MemorySlots, MemoryStore, Pair,
    Slots, Snapshot, Store, StoreError, View,
};
use std::sync::{Arc, Mutex};

/// Store and slots of one device. Clones are the same disk.
#[derive(Clone)]
pub(crate) struct Disk {
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    store: Arc<MemoryStore>,
    /// What every sync so far has made safe.
    synced: Vec<(u32, [u8; 32])>,
    /// Writes since, in order.
    unsynced: Vec<(u32, [u8; 32])>,
    live: MemorySlots,
    /// Steps until the power goes; none: it stays.
    fuse: Option<u32>,
    dead: bool,
    /// Whether the step at which it goes still happens.
    last_step_happens: bool,
    steps: u64,
    /// Every slot write there ever was, and every batch: what a thief with all backups has.
    pub(crate) history: Vec<(u32, [u8; 32])>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        let shared = Shared {
            store: Arc::new(MemoryStore::new()),
            synced: Vec::new(),
            unsynced: Vec::new(),
            live: MemorySlots::new(),
            fuse: None,
            dead: false,
            last_step_happens: false,
            steps: 0,
            history: Vec::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// The power goes after so many writes and syncs.
    pub(crate) fn set_fuse(&self, steps: u32, last_step_happens: bool) {
        let mut shared = self.shared.lock().unwrap();
        shared.fuse = Some(steps);
        shared.last_step_happens = last_step_happens;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.shared.lock().unwrap().dead
    }

    /// Writes and syncs so far.
    pub(crate) fn steps(&self) -> u64 {
        self.shared.lock().unwrap().steps
    }

    /// Power is back. Of the writes that were not synced `keep` says which have reached the disk.
    pub(crate) fn power_on(&self, mut keep: impl FnMut() -> bool) {
        let mut shared = self.shared.lock().unwrap();
        let unsynced = std::mem::take(&mut shared.unsynced);
        let mut slots: Vec<(u32, [u8; 32])> = shared.synced.clone();
        let lost_power = shared.dead;
        slots.extend(unsynced.into_iter().filter(|_| !lost_power || keep()));
        let mut live = MemorySlots::new();
        live.write(&slots).unwrap();
        shared.synced = (0..live.count())
            .map(|slot| (slot, live.read(slot).unwrap()))
            .collect();
        shared.live = live;
        shared.fuse = None;
        shared.dead = false;
    }

    /// A copy of everything, as a thief takes it.
    pub(crate) fn copy(&self) -> Self {
        let shared = self.shared.lock().unwrap();
        let store = MemoryStore::new();
        let mut batch = Batch::new();
        for (key, value) in shared
            .store
            .range(
                Keyspace::Conversations,
                &KeyRange::all(),
                usize::MAX,
                Direction::Ascending,
            )
            .unwrap()
        {
            batch.put(Keyspace::Conversations, key, value);
        }
        store.commit(batch, Durability::Synced).unwrap();
        let synced: Vec<(u32, [u8; 32])> = (0..shared.live.count())
            .map(|slot| (slot, shared.live.read(slot).unwrap()))
            .collect();
        let mut live = MemorySlots::new();
        live.write(&synced).unwrap();
        let shared = Shared {
            store: Arc::new(store),
            synced,
            unsynced: Vec::new(),
            live,
            fuse: None,
            dead: false,
            last_step_happens: false,
            steps: 0,
            history: Vec::new(),
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// The slots of now with the tables of `older`: what opens of an old backup today.
    pub(crate) fn with_tables_of(&self, older: &Self) -> Self {
        let mixed = self.copy();
        mixed.shared.lock().unwrap().store = older.copy().shared.lock().unwrap().store.clone();
        mixed
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::new(DiskStore(self.clone()))
    }

    pub(crate) fn slots(&self) -> Box<dyn Slots> {
        Box::new(DiskSlots(self.clone()))
    }

    fn inner(&self) -> Arc<MemoryStore> {
        self.shared.lock().unwrap().store.clone()
    }

    /// One write or sync. Answers whether it happens, or fails because the power is gone.
    fn step(&self) -> Result<bool, StoreError> {
        let mut shared = self.shared.lock().unwrap();
        if shared.dead {
            return Err(power());
        }
        shared.steps += 1;
        match &mut shared.fuse {
            Some(0) => {
                shared.dead = true;
                Ok(shared.last_step_happens)
            }
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => Ok(true),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.is_dead() { Err(power()) } else { Ok(()) }
    }
}

fn power() -> StoreError {
    StoreError::Closed
}

struct DiskStore(Disk);

impl View for DiskStore {
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.0.check()?;
        self.0.inner().get(keyspace, key)
    }

    fn contains(&self, keyspace: Keyspace, key: &[u8]) -> Result<bool, StoreError> {
        self.0.check()?;
        self.0.inner().contains(keyspace, key)
    }

    fn range(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError> {
        self.0.check()?;
        self.0.inner().range(keyspace, range, limit, direction)
    }
}

impl Store for DiskStore {
    fn snapshot(&self) -> Result<Snapshot, StoreError> {
        self.0.inner().snapshot()
    }

    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError> {
        assert_eq!(durability, Durability::Synced);
        if self.0.step()? {
            self.0.inner().commit(batch, durability)?;
        }
        self.0.check()
    }

    fn flush(&self) -> Result<(), StoreError> {
        self.0.check()
    }

    fn recover(&self) -> Result<(), StoreError> {
        self.0.check()
    }

    fn health(&self) -> Health {
        Health::Ready
    }

    fn close(&self) -> Result<(), StoreError> {
        self.0.check()
    }

    fn disk_bytes(&self) -> Result<u64, StoreError> {
        self.0.inner().disk_bytes()
    }
}

struct DiskSlots(Disk);

impl Slots for DiskSlots {
    fn count(&self) -> u32 {
        self.0.shared.lock().unwrap().live.count()
    }

    fn read(&self, slot: u32) -> Result<[u8; 32], StoreError> {
        self.0.check()?;
        self.0.shared.lock().unwrap().live.read(slot)
    }

    fn write(&mut self, slots: &[(u32, [u8; 32])]) -> Result<(), StoreError> {
        for write in slots {
            if self.0.step()? {
                let mut shared = self.0.shared.lock().unwrap();
                shared.live.write(&[*write])?;
                shared.unsynced.push(*write);
                shared.history.push(*write);
            }
            self.0.check()?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        if self.0.step()? {
            let mut shared = self.0.shared.lock().unwrap();
            let unsynced = std::mem::take(&mut shared.unsynced);
            shared.synced.extend(unsynced);
            if shared.synced.len() > 4_096 {
                let live: Vec<_> = (0..shared.live.count())
                    .map(|slot| (slot, shared.live.read(slot).unwrap()))
                    .collect();
                shared.synced = live;
            }
        }
        self.0.check()
    }
}
