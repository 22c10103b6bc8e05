//! Small values that are overwritten where they lie.
//!
//! The tables of a [`Store`](crate::Store) keep what was overwritten until they are compacted, and
//! a journal for longer. A key that must be gone after its use cannot be there. Here is a file of
//! 32-byte slots that are written in place: once a slot was written again and synced, its old
//! bytes are nowhere in the file.
//!
//! ```text
//! 0       32      64             32 (n + 1)
//! | magic | slot 0 | slot 1 | ... | slot n - 1 |      n a multiple of 128: whole pages of 4 KiB
//! ```
//!
//! What is promised is about the file. A disk that maps sectors elsewhere (flash), and a file
//! system that copies on write or keeps snapshots, may keep old bytes below it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// Bytes of a slot.
pub const SLOT_BYTES: usize = 32;

/// Slots that the file grows by: 4 KiB.
const STEP: u32 = 128;

/// Most slots of a file: 32 MiB, room for the records of ten thousand conversations.
pub const SLOTS_MAX: u32 = 1 << 20;

const MAGIC: &[u8; SLOT_BYTES] = b"session slots, 32 bytes each, 1\n";

/// A slot's bytes.
pub type Slot = [u8; SLOT_BYTES];

/// A row of slots that are overwritten in place.
pub trait Slots: Send {
    /// How many there are.
    fn count(&self) -> u32;

    /// The bytes of a slot.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where there is none, [`StoreError::Io`].
    fn read(&self, slot: u32) -> Result<Slot, StoreError>;

    /// Overwrites slots, and makes room for those that are not there yet. Survives a kill of the
    /// process; of a loss of power only after [`Slots::sync`]. A slot is written whole or not at
    /// all: it lies within one sector.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], [`StoreError::Io`]; some of the slots may be written then.
    fn write(&mut self, slots: &[(u32, Slot)]) -> Result<(), StoreError>;

    /// Returns when everything written is on the disk.
    ///
    /// # Errors
    /// [`StoreError::NoSpace`], [`StoreError::Io`].
    fn sync(&mut self) -> Result<(), StoreError>;
}

/// Slots in a file, open in one process at a time.
#[derive(Debug)]
pub struct SlotFile {
    file: File,
    path: PathBuf,
    count: u32,
}

impl SlotFile {
    /// Opens the file, or creates it, readable by its owner only.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Corrupt`] where it is no file of slots,
    /// [`StoreError::Io`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io(&path, "open"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path, pid: None }),
            Err(TryLockError::Error(error)) => return Err(StoreError::io(&path, "lock")(error)),
        }
        let bytes = file
            .metadata()
            .map_err(StoreError::io(&path, "size"))?
            .len();
        let mut this = Self {
            file,
            path,
            count: 0,
        };
        if bytes < SLOT_BYTES as u64 {
            // Nothing was ever in a file whose beginning is not whole.
            this.create()?;
            return Ok(this);
        }
        let mut magic = [0; SLOT_BYTES];
        this.file
            .read_exact_at(&mut magic, 0)
            .map_err(StoreError::io(&this.path, "read"))?;
        if magic != *MAGIC {
            return Err(StoreError::corrupt(&this.path, "not a file of slots"));
        }
        let whole = (bytes - SLOT_BYTES as u64) / SLOT_BYTES as u64;
        this.count = u32::try_from(whole).unwrap_or(u32::MAX);
        if this.count > SLOTS_MAX {
            return Err(StoreError::corrupt(&this.path, "too many slots"));
        }
        Ok(this)
    }

    fn create(&mut self) -> Result<(), StoreError> {
        self.file
            .write_all_at(MAGIC, 0)
            .map_err(StoreError::io(&self.path, "write"))?;
        self.sync()?;
        let folder = self.path.parent().filter(|folder| folder.as_os_str() != "");
        let folder = folder.unwrap_or_else(|| Path::new("."));
        // The name is in the folder, and that wants its own sync.
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(StoreError::io(folder, "sync"))
    }

    fn grow_to(&mut self, count: u32) -> Result<(), StoreError> {
        let count = count.div_ceil(STEP).saturating_mul(STEP);
        if count > SLOTS_MAX {
            return Err(StoreError::NoSpace {
                path: self.path.clone(),
                written: false,
            });
        }
        // Written, not only allocated: a later overwrite then needs no room on the disk.
        let zeros = vec![0; SLOT_BYTES * count.saturating_sub(self.count) as usize];
        self.file
            .write_all_at(&zeros, offset(self.count))
            .map_err(StoreError::io(&self.path, "write"))?;
        self.count = count;
        Ok(())
    }
}

impl Slots for SlotFile {
    fn count(&self) -> u32 {
        self.count
    }

    fn read(&self, slot: u32) -> Result<Slot, StoreError> {
        let mut out = [0; SLOT_BYTES];
        match self.file.read_exact_at(&mut out, offset(slot)) {
            Ok(()) => Ok(out),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(StoreError::corrupt(&self.path, "a slot is missing"))
            }
            Err(error) => Err(StoreError::io(&self.path, "read")(error)),
        }
    }

    fn write(&mut self, slots: &[(u32, Slot)]) -> Result<(), StoreError> {
        let needed = slots.iter().map(|(slot, _)| slot.saturating_add(1)).max();
        if let Some(needed) = needed.filter(|needed| *needed > self.count) {
            self.grow_to(needed)?;
        }
        for (slot, bytes) in slots {
            self.file
                .write_all_at(bytes, offset(*slot))
                .map_err(StoreError::io(&self.path, "write"))?;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.file
            .sync_data()
            .map_err(StoreError::io(&self.path, "sync"))
    }
}

const fn offset(slot: u32) -> u64 {
    (slot as u64 + 1) * SLOT_BYTES as u64
}

/// Slots in memory. Nothing survives them.
#[derive(Debug, Default)]
pub struct MemorySlots {
    slots: Vec<Slot>,
}

impl MemorySlots {
    /// No slots yet.
    pub const fn new() -> Self {
        Self { slots: Vec::new() }
    }
}

impl Slots for MemorySlots {
    fn count(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    fn read(&self, slot: u32) -> Result<Slot, StoreError> {
        let bytes = self.slots.get(slot as usize).copied();
        bytes.ok_or_else(|| StoreError::corrupt("memory", "a slot is missing"))
    }

    fn write(&mut self, slots: &[(u32, Slot)]) -> Result<(), StoreError> {
        for (slot, bytes) in slots {
            if *slot >= SLOTS_MAX {
                return Err(StoreError::NoSpace {
                    path: "memory".into(),
                    written: false,
                });
            }
            let at = *slot as usize;
            if self.slots.len() <= at {
                self.slots.resize(at + 1, [0; SLOT_BYTES]);
            }
            if let Some(place) = self.slots.get_mut(at) {
                *place = *bytes;
            }
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_overwritten_where_it_lies() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut file = SlotFile::open(&path).unwrap();
        let mut memory = MemorySlots::new();
        let writes: [&[(u32, Slot)]; 3] = [
            &[(0, [1; 32]), (127, [2; 32])],
            &[(300, [3; 32]), (0, [4; 32])],
            &[(127, [0; 32])],
        ];
        for write in writes {
            file.write(write).unwrap();
            memory.write(write).unwrap();
        }
        file.sync().unwrap();
        for slot in [0, 5, 127, 128, 300] {
            assert_eq!(
                file.read(slot).unwrap(),
                memory.read(slot).unwrap(),
                "{slot}"
            );
        }
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 32 + 384 * 32);
        for gone in [[1; 32], [2; 32]] {
            assert!(!bytes.windows(32).any(|window| window == gone));
        }
        assert!(file.read(384).is_err() && memory.read(301).is_err());
    }

    #[test]
    fn a_file_opens_once_and_only_as_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let mut file = SlotFile::open(&path).unwrap();
        file.write(&[(3, [9; 32])]).unwrap();
        assert!(matches!(
            SlotFile::open(&path),
            Err(StoreError::InUse { .. })
        ));
        drop(file);
        let file = SlotFile::open(&path).unwrap();
        assert_eq!((file.count(), file.read(3).unwrap()), (128, [9; 32]));
        drop(file);
        std::fs::write(&path, [7; 64]).unwrap();
        assert!(matches!(
            SlotFile::open(&path),
            Err(StoreError::Corrupt { .. })
        ));
        // The beginning of a file that a kill left unfinished: nothing was in it yet.
        std::fs::write(&path, &MAGIC[..9]).unwrap();
        assert_eq!(SlotFile::open(&path).unwrap().count(), 0);
    }

    #[test]
    fn a_file_has_an_upper_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = SlotFile::open(folder.path().join("keys")).unwrap();
        let refused = file.write(&[(SLOTS_MAX, [1; 32])]);
        assert!(matches!(
            refused,
            Err(StoreError::NoSpace { written: false, .. })
        ));
        assert_eq!(file.count(), 0);
    }
}
