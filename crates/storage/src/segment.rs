//! Large values in files of their own: written once, side by side, never moved.
//!
//! ```text
//! <dir>/segments/0000002a.seg    values one behind the other; what lies where is said by the
//!                                pointers in the tree
//!
//! pointer = 0   4   segment, big endian
//!           4   8   offset
//!           12  4   bytes of the value
//!           16  8   xxh3 of key | value
//!
//! usage   = 0   8   bytes that pointers still refer to    (by segment, in the engine)
//!           8   8   bytes written
//! ```
//!
//! The engine would write a value twice, into its journal and again into a table. A batch with
//! many bytes goes here first, in one write, and is synced before the pointers are committed: a
//! pointer that is there never points at nothing. Bytes that no pointer ever came for (the
//! process died in between) are garbage of their segment.
//!
//! A segment whose last value was deleted is removed once that is durable and nobody has a
//! snapshot of before. The next opening removes what nobody came to remove.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use xxhash_rust::xxh3::Xxh3Default;

use crate::error::{StoreError, is_no_space};
use crate::format::sync_directory;

/// From this size on a segment takes no more. Whole segments are what is given back to the disk.
const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Values in one call of the system, which takes at most 1,024.
const SLICES_MAX: usize = 512;

/// Files kept open for reading; a descriptor each.
const HANDLES_MAX: usize = 64;

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    segment: u32,
    offset: u64,
    len: u32,
    checksum: u64,
}

impl Pointer {
    pub(crate) const LEN: usize = 24;

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        let fields = self
            .segment
            .to_be_bytes()
            .into_iter()
            .chain(self.offset.to_be_bytes())
            .chain(self.len.to_be_bytes())
            .chain(self.checksum.to_be_bytes());
        for (to, from) in out.iter_mut().zip(fields) {
            *to = from;
        }
        out
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (segment, rest) = bytes.split_first_chunk()?;
        let (offset, rest) = rest.split_first_chunk()?;
        let (len, rest) = rest.split_first_chunk()?;
        Some(Self {
            segment: u32::from_be_bytes(*segment),
            offset: u64::from_be_bytes(*offset),
            len: u32::from_be_bytes(*len),
            checksum: u64::from_be_bytes(rest.try_into().ok()?),
        })
    }
}

/// How much of a segment is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    live: u64,
    end: u64,
}

impl Usage {
    /// Whether no pointer leads into the segment any more.
    const fn is_over(self) -> bool {
        self.live == 0
    }

    pub(crate) fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.live) << 64) | u128::from(self.end)).to_be_bytes()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let both = u128::from_be_bytes(bytes.try_into().ok()?);
        let low = both & u128::from(u64::MAX);
        Some(Self {
            live: u64::try_from(both >> 64).ok()?,
            end: u64::try_from(low).ok()?,
        })
    }
}

/// New usage of segments; none where a segment is dead.
pub(crate) type UsageChanges = Vec<(u32, Option<Usage>)>;

/// Held by whoever may still see pointers that were deleted meanwhile.
pub(crate) type Epoch = Arc<()>;

/// Segments without a value in use, as of one commit.
struct Dead {
    /// Held by snapshots of before.
    epoch: Epoch,
    segments: Vec<u32>,
    /// Whether the deletion survives a loss of power.
    durable: bool,
}

/// The segment being written.
struct Current {
    number: u32,
    file: Arc<File>,
    end: u64,
}

struct Writer {
    usage: BTreeMap<u32, Usage>,
    current: Option<Current>,
    /// The segment before the current one, until it was looked at.
    full: Option<u32>,
    /// Segments that were over when the store was opened: the next batch forgets their usage, so
    /// that an opening writes nothing.
    over: Vec<u32>,
    next: u32,
    epoch: Epoch,
    dead: VecDeque<Dead>,
}

/// The segments of one opening.
pub(crate) struct Segments {
    directory: PathBuf,
    writer: Mutex<Writer>,
    handles: Mutex<VecDeque<(u32, Arc<File>)>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn checksum(key: &[u8], value: &[u8]) -> u64 {
    let mut hash = Xxh3Default::new();
    hash.update(key);
    hash.update(value);
    hash.digest()
}

impl Segments {
    /// Checks that every segment in use is there as far as it was written, and removes those
    /// that are not in use. The caller has made `usage` durable.
    pub(crate) fn open(
        directory: &Path,
        mut usage: BTreeMap<u32, Usage>,
    ) -> Result<Self, StoreError> {
        let mut last = usage.keys().next_back().copied();
        // The one that was written to last stayed while it was written to, in use or not.
        let over = usage.extract_if(.., |_, usage| usage.is_over());
        let over = over.map(|(number, _)| number).collect();
        let parent = directory.parent().unwrap_or(directory);
        if !directory.exists() {
            fs::create_dir_all(directory).map_err(StoreError::io(directory, "create"))?;
            sync_directory(parent)?;
        }
        let this = Self {
            directory: directory.to_owned(),
            writer: Mutex::new(Writer {
                usage,
                current: None,
                full: None,
                over,
                next: 0,
                epoch: Epoch::default(),
                dead: VecDeque::new(),
            }),
            handles: Mutex::default(),
        };
        let mut writer = lock(&this.writer);
        for (number, usage) in &writer.usage {
            let path = this.path(*number);
            let found = fs::metadata(&path).map(|file| file.len());
            if found.is_err() || found.is_ok_and(|len| len < usage.end) {
                return Err(StoreError::corrupt(
                    &path,
                    "the file is cut short or missing",
                ));
            }
        }
        for entry in fs::read_dir(directory).map_err(StoreError::io(directory, "list"))? {
            let path = entry.map_err(StoreError::io(directory, "list"))?.path();
            let Some(number) = number_of(&path) else {
                continue;
            };
            last = last.max(Some(number));
            if !writer.usage.contains_key(&number) {
                fs::remove_file(&path).map_err(StoreError::io(&path, "remove"))?;
            }
        }
        writer.next = last.map_or(0, |last| last.saturating_add(1));
        drop(writer);
        Ok(this)
    }

    /// Whether no pointer leads here.
    pub(crate) fn is_empty(&self) -> bool {
        lock(&self.writer).usage.is_empty()
    }

    /// To be taken before pointers are read, and held until their values have been.
    pub(crate) fn epoch(&self) -> Epoch {
        lock(&self.writer).epoch.clone()
    }

    /// Writes values and syncs them.
    ///
    /// [`StoreError::NoSpace`] with `written: false`: nothing has changed.
    pub(crate) fn append(&self, values: &[(&[u8], &[u8])]) -> Result<Vec<Pointer>, StoreError> {
        let mut writer = lock(&self.writer);
        let Current { number, file, end } = self.current(&mut writer)?;
        let path = self.path(number);
        let mut pointers = Vec::with_capacity(values.len());
        let mut offset = end;
        for (key, value) in values {
            let len = u32::try_from(value.len()).unwrap_or(u32::MAX);
            pointers.push(Pointer {
                segment: number,
                offset,
                len,
                checksum: checksum(key, value),
            });
            offset = offset.saturating_add(len.into());
        }
        let written = write_all(&file, end, values).and_then(|()| file.sync_data());
        if let Err(error) = written {
            // What was written so far is nobody's; where the file ends is not known any more.
            writer.current = None;
            let _gives_back_room = file.set_len(end);
            return Err(if is_no_space(&error) {
                let written = false;
                StoreError::NoSpace { path, written }
            } else {
                StoreError::io(&path, "write")(error)
            });
        }
        writer.current = Some(Current {
            number,
            file,
            end: offset,
        });
        Ok(pointers)
    }

    fn current(&self, writer: &mut Writer) -> Result<Current, StoreError> {
        if let Some(current) = &writer.current
            && current.end < SEGMENT_BYTES
        {
            return Ok(Current {
                number: current.number,
                file: current.file.clone(),
                end: current.end,
            });
        }
        let number = writer.next;
        writer.next = number.saturating_add(1);
        writer.full = writer.current.take().map(|full| full.number);
        let path = self.path(number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .map_err(StoreError::io(&path, "create"))?;
        sync_directory(&self.directory)?;
        let file = Arc::new(file);
        self.keep(number, file.clone());
        Ok(Current {
            number,
            file,
            end: 0,
        })
    }

    /// Takes over what a batch adds and drops, and answers the usages that change with it.
    pub(crate) fn account(&self, added: &[Pointer], dropped: &[Pointer]) -> UsageChanges {
        let mut writer = lock(&self.writer);
        let mut changed = BTreeMap::new();
        changed.extend(writer.over.drain(..).map(|number| (number, None)));
        for pointer in added {
            let usage = writer.usage.entry(pointer.segment).or_default();
            usage.live = usage.live.saturating_add(pointer.len.into());
            usage.end = pointer.offset.saturating_add(pointer.len.into());
            changed.insert(pointer.segment, Some(*usage));
        }
        for pointer in dropped {
            if let Some(usage) = writer.usage.get_mut(&pointer.segment) {
                usage.live = usage.live.saturating_sub(pointer.len.into());
                changed.insert(pointer.segment, Some(*usage));
            }
        }
        // It may have lost its last value while it was still written to.
        if let Some(full) = writer.full.take()
            && let Some(usage) = writer.usage.get(&full)
        {
            changed.insert(full, Some(*usage));
        }
        let current = writer.current.as_ref().map(|current| current.number);
        let mut segments = Vec::new();
        for (number, usage) in &mut changed {
            let empty = usage.is_some_and(Usage::is_over);
            if empty && Some(*number) != current {
                writer.usage.remove(number);
                segments.push(*number);
                *usage = None;
            }
        }
        if !segments.is_empty() {
            let epoch = std::mem::take(&mut writer.epoch);
            writer.dead.push_back(Dead {
                epoch,
                segments,
                durable: false,
            });
        }
        changed.into_iter().collect()
    }

    /// After a commit: removes the segments that nobody needs any more.
    pub(crate) fn committed(&self, durable: bool) {
        let mut writer = lock(&self.writer);
        if durable {
            writer.dead.iter_mut().for_each(|dead| dead.durable = true);
        }
        while let Some(dead) = writer.dead.front()
            && dead.durable
            && Arc::strong_count(&dead.epoch) == 1
        {
            for number in writer.dead.pop_front().into_iter().flat_map(|d| d.segments) {
                lock(&self.handles).retain(|(kept, _)| *kept != number);
                // The next opening removes what could not be removed now.
                let _later = fs::remove_file(self.path(number));
            }
        }
    }

    /// Reads a value back.
    pub(crate) fn read(&self, key: &[u8], pointer: &Pointer) -> Result<Vec<u8>, StoreError> {
        let path = self.path(pointer.segment);
        let file = self.handle(pointer.segment, &path)?;
        // The length was checked when it was written, and the engine guards what it keeps.
        let mut value = vec![0; usize::try_from(pointer.len).unwrap_or(usize::MAX)];
        match file.read_exact_at(&mut value, pointer.offset) {
            Ok(()) if checksum(key, &value) == pointer.checksum => Ok(value),
            Ok(()) => Err(StoreError::corrupt(&path, "the checksum of a value")),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(StoreError::corrupt(&path, "the file is cut short"))
            }
            Err(error) => Err(StoreError::io(&path, "read")(error)),
        }
    }

    fn handle(&self, number: u32, path: &Path) -> Result<Arc<File>, StoreError> {
        let mut handles = lock(&self.handles);
        if let Some(at) = handles.iter().position(|(kept, _)| *kept == number)
            && let Some(handle) = handles.remove(at)
        {
            let file = handle.1.clone();
            handles.push_front(handle);
            return Ok(file);
        }
        drop(handles);
        let file = File::open(path).map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                return StoreError::corrupt(path, "the file is missing");
            }
            StoreError::io(path, "open")(error)
        })?;
        let file = Arc::new(file);
        self.keep(number, file.clone());
        Ok(file)
    }

    fn keep(&self, number: u32, file: Arc<File>) {
        let mut handles = lock(&self.handles);
        handles.push_front((number, file));
        handles.truncate(HANDLES_MAX);
    }

    fn path(&self, number: u32) -> PathBuf {
        self.directory.join(format!("{number:08x}.seg"))
    }
}

fn number_of(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_suffix(".seg")?;
    u32::from_str_radix(name, 16).ok()
}

/// All values behind each other, from `offset` on: in one call where the system takes it so.
fn write_all(file: &File, mut offset: u64, values: &[(&[u8], &[u8])]) -> std::io::Result<()> {
    for page in values.chunks(SLICES_MAX) {
        let mut slices: Vec<IoSlice<'_>> =
            page.iter().map(|(_, value)| IoSlice::new(value)).collect();
        let mut rest = slices.as_mut_slice();
        // Leaves out empty values in front, of which nothing would ever be written.
        IoSlice::advance_slices(&mut rest, 0);
        while !rest.is_empty() {
            let written = match rustix::io::pwritev(file, rest, offset) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => written,
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            offset = offset.saturating_add(written as u64);
            IoSlice::advance_slices(&mut rest, written);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(directory: &Path) -> Segments {
        Segments::open(directory, BTreeMap::new()).unwrap()
    }

    #[test]
    fn values_come_back_and_changed_ones_are_errors() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segments");
        let this = segments(&path);
        let values: Vec<Vec<u8>> = (0..1_200u32)
            .map(|n| vec![n.to_le_bytes()[0]; (n % 97) as usize])
            .collect();
        let keys: Vec<[u8; 4]> = (0..1_200u32).map(u32::to_be_bytes).collect();
        let pairs: Vec<(&[u8], &[u8])> = keys
            .iter()
            .zip(&values)
            .map(|(key, value)| (key.as_slice(), value.as_slice()))
            .collect();
        let pointers = this.append(&pairs).unwrap();
        for ((key, value), pointer) in pairs.iter().zip(&pointers) {
            assert_eq!(Pointer::from_bytes(&pointer.to_bytes()), Some(*pointer));
            assert_eq!(this.read(key, pointer).unwrap(), *value);
            assert!(this.read(b"other", pointer).is_err());
        }
        let file = this.path(0);
        let mut bytes = fs::read(&file).unwrap();
        bytes[500] ^= 1;
        fs::write(&file, bytes).unwrap();
        let wrong = pairs.iter().zip(&pointers);
        assert_eq!(
            wrong
                .filter(|(pair, at)| this.read(pair.0, at).is_err())
                .count(),
            1
        );
    }

    #[test]
    fn a_segment_goes_when_its_last_value_and_the_last_snapshot_are_gone() {
        let directory = tempfile::tempdir().unwrap();
        let this = segments(&directory.path().join("segments"));
        let big = vec![1; usize::try_from(SEGMENT_BYTES).unwrap()];
        let first = this.append(&[(b"a", &big)]).unwrap();
        this.account(&first, &[]);
        let second = this.append(&[(b"b", b"small")]).unwrap();
        this.account(&second, &[]);
        this.committed(true);
        let snapshot = this.epoch();
        assert_eq!(this.account(&[], &first), vec![(0, None)]);
        this.committed(false);
        assert!(this.path(0).exists(), "the deletion is not durable yet");
        this.committed(true);
        assert!(this.path(0).exists(), "somebody may still read it");
        assert_eq!(this.read(b"a", &first[0]).unwrap(), big);
        drop(snapshot);
        this.committed(true);
        assert!(!this.path(0).exists());
        // The one being written stays, though nothing in it is in use.
        this.account(&[], &second);
        this.committed(true);
        assert!(this.path(1).exists());
    }

    #[test]
    fn an_opening_misses_what_is_gone_and_removes_what_nobody_uses() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("segments");
        let this = segments(&path);
        let pointers = this.append(&[(b"a", b"value")]).unwrap();
        let usage: BTreeMap<u32, Usage> = this
            .account(&pointers, &[])
            .into_iter()
            .filter_map(|(number, usage)| Some((number, usage?)))
            .collect();
        drop(this);
        fs::write(path.join("00000009.seg"), b"nobody's").unwrap();
        let again = Segments::open(&path, usage.clone()).unwrap();
        assert!(!path.join("00000009.seg").exists());
        assert_eq!(again.read(b"a", &pointers[0]).unwrap(), b"value");
        let new = again.append(&[(b"b", b"x")]).unwrap();
        assert_eq!(new[0].segment, 10, "numbers never return");
        fs::write(path.join("00000000.seg"), b"val").unwrap();
        assert!(Segments::open(&path, usage.clone()).is_err());
        fs::remove_file(path.join("00000000.seg")).unwrap();
        assert!(Segments::open(&path, usage).is_err());
    }
}
