//! Where a device's records lie: sealed in the store, each under a key of its own that can be
//! erased.
//!
//! ```text
//! store, keyspace `conversations`:   name ─▶ u8 1 │ u32 slot │ nonce 24 │ ciphertext │ tag 16
//! slots, one for each live record:   slot ─▶ 32 random bytes
//! key of a record = BLAKE2b-256, keyed by the storage key, of (slot's bytes, u32 slot, name)
//!
//! commit:  1  new slots written and synced          (nothing refers to them yet)
//!          2  batch written and synced              (one batch: all records of an event, or none)
//!          3  slots of replaced records overwritten (synced with the next commit, by `erase`, or at
//!                                                    the next opening)
//! ```
//!
//! A store keeps what was overwritten until it is compacted, its journal for longer, and a backup
//! for ever. Those bytes open only with their slot, and the slot is overwritten in place. So after
//! an event and [`Vault::erase`] no key that the event replaced can be had from the directory, nor
//! from an old copy of the tables with the present slots. Not promised: what flash or a copying
//! file system keeps of the slots' sectors, and an old copy of *both*.
//!
//! Names of records are not sealed: whoever has the directory sees group ids, epochs, counts, sizes.

use session_core::hash::Tag;
use session_crypto::derive::keyed;
use session_crypto::{CryptoError, Secret, aead};
use session_storage::{Batch, Direction, Durability, KeyRange, Keyspace, Slots, Store, StoreError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::randomness::Randomness;

/// Records of one event: `None` deletes.
pub(crate) type Changes = BTreeMap<Vec<u8>, Option<Zeroizing<Vec<u8>>>>;

const VERSION: u8 = 1;
const HEAD_BYTES: usize = 1 + 4;
/// Records read at once when a vault is opened.
const PAGE: usize = 256;

/// What can go wrong with records on the disk.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VaultError {
    /// The store or the file of slots failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sealing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    /// The storage key is not the one that these records were sealed with.
    #[error("the storage key does not open these records")]
    WrongKey,
    /// A record does not open, or two want the same slot: damage, or parts of two copies.
    #[error("a record of this device is damaged")]
    Damaged,
    /// A write failed, and whether it happened is looked up with the next event. Until then nothing
    /// can be read.
    #[error("a write failed; what the disk has is looked up with the next event")]
    Unsure,
    /// There are no slots left.
    #[error("too many records")]
    Full,
}

/// Sealed records, with erasable keys.
pub(crate) struct Vault {
    store: Arc<dyn Store>,
    slots: Box<dyn Slots>,
    key: Secret<32>,
    /// Every record, and the slot of its key.
    live: BTreeMap<Vec<u8>, u32>,
    /// Slots that no record refers to and that were overwritten.
    free: BTreeSet<u32>,
    /// Slots that no record refers to any more and that still have their bytes.
    retired: Vec<u32>,
    /// Slots below this are in one of the three.
    end: u32,
    /// A commit failed: what the disk has is not known.
    unsure: bool,
}

impl Vault {
    /// Opens the records of a store. Slots that no record refers to are overwritten first.
    pub(crate) fn open(
        store: Arc<dyn Store>,
        slots: Box<dyn Slots>,
        key: Secret<32>,
    ) -> Result<Self, VaultError> {
        let mut this = Self {
            store,
            slots,
            key,
            live: BTreeMap::new(),
            free: BTreeSet::new(),
            retired: Vec::new(),
            end: 0,
            unsure: false,
        };
        this.reload()?;
        if let Some(name) = this.live.keys().next().cloned() {
            this.get(&name).map_err(|error| match error {
                VaultError::Damaged => VaultError::WrongKey,
                VaultError::Store(_)
                | VaultError::Crypto(_)
                | VaultError::WrongKey
                | VaultError::Unsure
                | VaultError::Full => error,
            })?;
        }
        Ok(this)
    }

    /// Whether a commit failed, and what the disk has was not looked up yet.
    pub(crate) const fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// Looks at the disk again if a commit failed.
    pub(crate) fn ready(&mut self) -> Result<(), VaultError> {
        if self.unsure { self.recover() } else { Ok(()) }
    }

    /// A record, opened.
    pub(crate) fn get(&self, name: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, VaultError> {
        if self.unsure {
            return Err(VaultError::Unsure);
        }
        let Some(slot) = self.live.get(name) else {
            return Ok(None);
        };
        let bytes = self.store.get(Keyspace::Conversations, name)?;
        let bytes = bytes.ok_or(VaultError::Damaged)?;
        let (found, sealed) = split(&bytes).ok_or(VaultError::Damaged)?;
        if found != *slot {
            return Err(VaultError::Damaged);
        }
        let key = self.record_key(&Zeroizing::new(self.slots.read(*slot)?), *slot, name);
        match aead::open(&key, name, sealed) {
            Ok(plain) => Ok(Some(Zeroizing::new(plain))),
            Err(_) => Err(VaultError::Damaged),
        }
    }

    /// Names of the records that begin so, ascending.
    pub(crate) fn names<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.live
            .range(prefix.to_vec()..)
            .map(|(name, _)| name.as_slice())
            .take_while(move |name| name.starts_with(prefix))
    }

    /// Number of records.
    pub(crate) fn len(&self) -> usize {
        self.live.len()
    }

    /// Writes all of `changes` or nothing, durably, and overwrites the keys of what they replace.
    ///
    /// After an error the vault looks at the disk again before it does anything else.
    pub(crate) fn commit(
        &mut self,
        changes: &Changes,
        randomness: &mut Randomness,
    ) -> Result<(), VaultError> {
        self.ready()?;
        if changes.is_empty() {
            return Ok(());
        }
        let puts = changes.values().filter(|value| value.is_some()).count();
        let chosen = self.choose(puts)?;
        let mut slots: Vec<(u32, Zeroizing<[u8; 32]>)> = Vec::with_capacity(puts);
        for slot in &chosen {
            let mut bytes = Zeroizing::new([0; 32]);
            randomness.fill(&mut bytes[..])?;
            slots.push((*slot, bytes));
        }
        self.write_slots(&slots)?;
        let batch = self.seal(changes, &slots)?;
        if let Err(error) = self.store.commit(batch, Durability::Synced) {
            self.unsure = true;
            return Err(error.into());
        }
        let mut chosen = chosen.into_iter();
        for (name, value) in changes {
            let old = match value {
                Some(_) => chosen.next().and_then(|slot| {
                    self.free.remove(&slot);
                    self.live.insert(name.clone(), slot)
                }),
                None => self.live.remove(name),
            };
            self.retired.extend(old);
        }
        // Not synced here: that comes with the next commit. A failure is met there again.
        let _ = self.overwrite_retired();
        Ok(())
    }

    /// Overwrites every key that no record needs, and waits until the disk has done so.
    pub(crate) fn erase(&mut self) -> Result<(), VaultError> {
        self.ready()?;
        self.overwrite_retired()?;
        self.slots.sync()?;
        Ok(())
    }

    /// Erases, and lets go of the store.
    pub(crate) fn close(&mut self) -> Result<(), VaultError> {
        self.erase()?;
        self.store.close()?;
        Ok(())
    }

    /// After a failed commit: starts over from what the disk has.
    fn recover(&mut self) -> Result<(), VaultError> {
        self.store.recover()?;
        self.reload()
    }

    fn reload(&mut self) -> Result<(), VaultError> {
        let mut live = BTreeMap::new();
        let mut used = BTreeSet::new();
        let mut range = KeyRange::all();
        loop {
            let page =
                self.store
                    .range(Keyspace::Conversations, &range, PAGE, Direction::Ascending)?;
            let Some((last, _)) = page.last() else { break };
            range = KeyRange::after(last);
            for (name, value) in page {
                let (slot, _) = split(&value).ok_or(VaultError::Damaged)?;
                if !used.insert(slot) || slot >= self.slots.count() {
                    return Err(VaultError::Damaged);
                }
                live.insert(name, slot);
            }
        }
        self.end = self.slots.count();
        self.retired = (0..self.end).filter(|slot| !used.contains(slot)).collect();
        self.free.clear();
        self.live = live;
        self.overwrite_retired()?;
        self.slots.sync()?;
        self.unsure = false;
        Ok(())
    }

    /// Free slots, lowest first, and new ones behind the last.
    fn choose(&mut self, count: usize) -> Result<Vec<u32>, VaultError> {
        let mut chosen: Vec<u32> = self.free.iter().copied().take(count).collect();
        while chosen.len() < count {
            chosen.push(self.end);
            self.free.insert(self.end);
            self.end = self.end.checked_add(1).ok_or(VaultError::Full)?;
        }
        Ok(chosen)
    }

    fn write_slots(&mut self, slots: &[(u32, Zeroizing<[u8; 32]>)]) -> Result<(), VaultError> {
        self.overwrite_retired()?;
        let mut plain: Vec<(u32, [u8; 32])> =
            slots.iter().map(|(slot, bytes)| (*slot, **bytes)).collect();
        let written = self.slots.write(&plain);
        for (_, bytes) in &mut plain {
            zeroize::Zeroize::zeroize(bytes);
        }
        written?;
        self.slots.sync()?;
        Ok(())
    }

    fn seal(
        &self,
        changes: &Changes,
        slots: &[(u32, Zeroizing<[u8; 32]>)],
    ) -> Result<Batch, VaultError> {
        let mut batch = Batch::new();
        let mut slots = slots.iter();
        for (name, value) in changes {
            let Some(value) = value else {
                batch.delete(Keyspace::Conversations, name.clone());
                continue;
            };
            let (slot, bytes) = slots.next().ok_or(VaultError::Full)?;
            let key = self.record_key(bytes, *slot, name);
            let sealed = aead::seal(&key, name, value)?;
            let mut record = Vec::with_capacity(HEAD_BYTES + sealed.len());
            record.push(VERSION);
            record.extend_from_slice(&slot.to_be_bytes());
            record.extend_from_slice(&sealed);
            batch.put(Keyspace::Conversations, name.clone(), record);
        }
        Ok(batch)
    }

    fn overwrite_retired(&mut self) -> Result<(), VaultError> {
        if self.retired.is_empty() {
            return Ok(());
        }
        let zeros: Vec<(u32, [u8; 32])> =
            self.retired.iter().map(|slot| (*slot, [0; 32])).collect();
        self.slots.write(&zeros)?;
        self.free.extend(self.retired.drain(..));
        Ok(())
    }

    fn record_key(&self, bytes: &[u8; 32], slot: u32, name: &[u8]) -> Secret<32> {
        keyed(
            &self.key,
            Tag::RecordKey,
            &[bytes, &slot.to_be_bytes(), name],
        )
    }
}

fn split(record: &[u8]) -> Option<(u32, &[u8])> {
    let (head, sealed) = record.split_first_chunk::<HEAD_BYTES>()?;
    let [version, slot @ ..] = head;
    (*version == VERSION).then(|| (u32::from_be_bytes(*slot), sealed))
}

#[cfg(test)]
mod tests;
