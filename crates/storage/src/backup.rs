//! A consistent copy in one file, made while the store runs, and the way back.
//!
//! ```text
//! file    = header frame* end
//!
//! header  = offset  bytes
//!           0       8      "LUXSSBAK"
//!           8       4      format version, little endian       (2)
//!           12      4      keyspaces version, little endian    (1)
//!
//! frame   = 0       1      01
//!           1       4      n, bytes of the payload, little endian
//!           5       n      payload
//!           5+n     32     link = SHA-256(link before | 01 | n | payload)
//!
//! payload = 0       1      bytes of the keyspace's name
//!           1       k      its name
//!           1+k     ...    entries: u32 key bytes | u32 value bytes | key | value
//!
//! end     = 0       1      02
//!           1       4      8
//!           5       8      number of entries, little endian
//!           13      32     link = SHA-256(link before | 02 | 8 | number)
//! ```
//!
//! The first link is the SHA-256 of the header. Because each link covers the one before, no
//! frame can be changed, left out, repeated or moved, and a file without its end is not one.
//! The links find accidents, not forgers: who can write the file can write the links.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::disk::DiskStore;
use crate::error::StoreError;
use crate::format::{FORMAT_VERSION, KEYSPACES_VERSION, check_version, sync_directory};
use crate::store::{
    Batch, Direction, Durability, KEY_BYTES_MAX, KeyRange, Keyspace, Store, VALUE_BYTES_MAX, View,
};

const MAGIC: [u8; 8] = *b"LUXSSBAK";
const ENTRIES: u8 = 1;
const END: u8 = 2;

/// A frame is closed once it has this many bytes.
const FRAME_BYTES: usize = 1024 * 1024;

/// So a frame holds at most one more entry than that.
const FRAME_BYTES_MAX: usize = FRAME_BYTES + 8 + KEY_BYTES_MAX + VALUE_BYTES_MAX;

/// Pairs read at a time: 64 bodies are a third of a megabyte.
const PAGE: usize = 64;

/// What a backup or a restore handled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    /// Keys with their values.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// Writes everything in `view` (a snapshot, so that it is one moment) to `file`, except keys
/// for which `leave_out` says so: secrets that must not travel, or caches not worth it. The
/// file appears under its name only once it is complete and synced; one that is there is
/// replaced.
///
/// # Errors
/// Those of [`View::range`]; [`StoreError::NoSpace`] and [`StoreError::Io`] of the file.
pub fn backup(
    view: &dyn View,
    file: &Path,
    leave_out: impl Fn(Keyspace, &[u8]) -> bool,
) -> Result<Copied, StoreError> {
    let partial = with_suffix(file, ".partial");
    let copied = write_file(view, &partial, leave_out).inspect_err(|_failed| {
        // Best effort: a partial file is never taken for a backup, but it takes room.
        let _left_behind = fs::remove_file(&partial);
    })?;
    fs::rename(&partial, file).map_err(StoreError::io(file, "rename into place"))?;
    sync_directory(parent(file))?;
    Ok(copied)
}

/// Fills the empty or missing directory `directory` from `file`. The directory counts only once
/// every checksum has been verified and everything is on disk; before that,
/// [`DiskStore::open`] answers [`StoreError::RestoreUnfinished`].
///
/// # Errors
/// [`StoreError::NotOurs`] for a directory with anything in it, [`StoreError::Format`] for a
/// backup of another version, [`StoreError::Corrupt`] for a damaged one, and those of
/// [`DiskStore::open`].
pub fn restore(file: &Path, directory: &Path) -> Result<Copied, StoreError> {
    // A file that is no backup should not cost a directory.
    let mut reader = FrameReader::open(file)?;
    let mut store = DiskStore::open_for_restore(directory)?;
    let mut copied = Copied::default();
    while let Some(payload) = reader.next_entries(copied.entries)? {
        let batch = reader.parse(&payload, &mut copied)?;
        store.commit(batch, Durability::Buffered)?;
    }
    store.flush()?;
    store.complete()?;
    store.close()?;
    sync_directory(parent(directory))?;
    Ok(copied)
}

fn write_file(
    view: &dyn View,
    path: &Path,
    leave_out: impl Fn(Keyspace, &[u8]) -> bool,
) -> Result<Copied, StoreError> {
    let mut writer = FrameWriter::create(path)?;
    let mut copied = Copied::default();
    for keyspace in Keyspace::ALL {
        let mut range = KeyRange::all();
        let mut payload = Vec::new();
        loop {
            let page = view.range(keyspace, &range, PAGE, Direction::Ascending)?;
            let Some((last, _)) = page.last() else { break };
            range = KeyRange::after(last);
            for (key, value) in page.iter().filter(|(key, _)| !leave_out(keyspace, key)) {
                if payload.is_empty() {
                    let name = keyspace.name();
                    payload.push(length(path, name.len())?);
                    payload.extend_from_slice(name.as_bytes());
                }
                payload.extend_from_slice(&length::<u32>(path, key.len())?.to_le_bytes());
                payload.extend_from_slice(&length::<u32>(path, value.len())?.to_le_bytes());
                payload.extend_from_slice(key);
                payload.extend_from_slice(value);
                copied.count(key, value);
                if payload.len() >= FRAME_BYTES {
                    writer.frame(ENTRIES, &payload)?;
                    payload.clear();
                }
            }
        }
        if !payload.is_empty() {
            writer.frame(ENTRIES, &payload)?;
        }
    }
    writer.frame(END, &copied.entries.to_le_bytes())?;
    writer.finish()?;
    Ok(copied)
}

impl Copied {
    fn count(&mut self, key: &[u8], value: &[u8]) {
        let bytes = key.len().saturating_add(value.len());
        self.entries = self.entries.saturating_add(1);
        self.bytes = self
            .bytes
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

struct FrameWriter {
    path: PathBuf,
    file: BufWriter<File>,
    link: [u8; 32],
}

impl FrameWriter {
    fn create(path: &Path) -> Result<Self, StoreError> {
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        // Who writes to whom is nobody else's business.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path).map_err(StoreError::io(path, "create"))?;
        let header = header(FORMAT_VERSION, KEYSPACES_VERSION);
        let link = Sha256::digest(header).into();
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
            link,
        };
        writer.write(&header)?;
        Ok(writer)
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Result<(), StoreError> {
        let bytes = length::<u32>(&self.path, payload.len())?.to_le_bytes();
        self.link = link(self.link, kind, bytes, payload);
        self.write(&[kind])?;
        self.write(&bytes)?;
        self.write(payload)?;
        let link = self.link;
        self.write(&link)
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .map_err(StoreError::io(&self.path, "sync"))
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file
            .write_all(bytes)
            .map_err(StoreError::io(&self.path, "write"))
    }
}

struct FrameReader {
    path: PathBuf,
    file: BufReader<File>,
    link: [u8; 32],
}

impl FrameReader {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let file = File::open(path).map_err(StoreError::io(path, "open"))?;
        let mut reader = Self {
            path: path.to_owned(),
            file: BufReader::new(file),
            link: [0; 32],
        };
        if reader.read::<8>()? != MAGIC {
            return Err(reader.damaged("not a backup of ours"));
        }
        let format = u32::from_le_bytes(reader.read()?);
        let keyspaces = u32::from_le_bytes(reader.read()?);
        check_version(path, format, keyspaces)?;
        reader.link = Sha256::digest(header(format, keyspaces)).into();
        Ok(reader)
    }

    /// The next payload of entries, verified; `None` at an end that says `entries`.
    fn next_entries(&mut self, entries: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let [kind] = self.read()?;
        let bytes: [u8; 4] = self.read()?;
        let length = usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(self.damaged("the length of a frame"));
        }
        // Grows with what is really there: a damaged length costs no memory.
        let mut payload = Vec::new();
        let wanted = u64::from(u32::from_le_bytes(bytes));
        self.file
            .by_ref()
            .take(wanted)
            .read_to_end(&mut payload)
            .map_err(StoreError::io(&self.path, "read"))?;
        self.link = link(self.link, kind, bytes, &payload);
        if payload.len() != length || self.read::<32>()? != self.link {
            return Err(self.damaged("the checksum of a frame"));
        }
        match kind {
            ENTRIES => Ok(Some(payload)),
            END if payload == entries.to_le_bytes() => match self.file.read(&mut [0]) {
                Ok(0) => Ok(None),
                Ok(_) => Err(self.damaged("something behind the end")),
                Err(error) => Err(StoreError::io(&self.path, "read")(error)),
            },
            END => Err(self.damaged("the number of entries")),
            _ => Err(self.damaged("the kind of a frame")),
        }
    }

    fn parse(&self, payload: &[u8], copied: &mut Copied) -> Result<Batch, StoreError> {
        parse_entries(payload, copied).ok_or_else(|| self.damaged("the entries of a frame"))
    }

    fn read<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut bytes = [0; N];
        match self.file.read_exact(&mut bytes) {
            Ok(()) => Ok(bytes),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                Err(self.damaged("cut short"))
            }
            Err(error) => Err(StoreError::io(&self.path, "read")(error)),
        }
    }

    fn damaged(&self, what: &'static str) -> StoreError {
        StoreError::corrupt(&self.path, what)
    }
}

fn parse_entries(payload: &[u8], copied: &mut Copied) -> Option<Batch> {
    let (name_bytes, rest) = payload.split_first()?;
    let (name, mut rest) = rest.split_at_checked(usize::from(*name_bytes))?;
    let keyspace = Keyspace::from_name(std::str::from_utf8(name).ok()?)?;
    let mut batch = Batch::new();
    while !rest.is_empty() {
        let (key_bytes, behind) = rest.split_first_chunk::<4>()?;
        let (value_bytes, behind) = behind.split_first_chunk::<4>()?;
        let key_bytes = usize::try_from(u32::from_le_bytes(*key_bytes)).ok()?;
        let value_bytes = usize::try_from(u32::from_le_bytes(*value_bytes)).ok()?;
        let (key, behind) = behind.split_at_checked(key_bytes)?;
        let (value, behind) = behind.split_at_checked(value_bytes)?;
        batch.put(keyspace, key, value);
        copied.count(key, value);
        rest = behind;
    }
    Some(batch)
}

fn header(format: u32, keyspaces: u32) -> [u8; 16] {
    let mut header = [0; 16];
    let parts = MAGIC
        .into_iter()
        .chain(format.to_le_bytes())
        .chain(keyspaces.to_le_bytes());
    for (place, byte) in header.iter_mut().zip(parts) {
        *place = byte;
    }
    header
}

fn link(before: [u8; 32], kind: u8, bytes: [u8; 4], payload: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(before);
    hash.update([kind]);
    hash.update(bytes);
    hash.update(payload);
    hash.finalize().into()
}

/// Lengths in the file are 8 and 32 bits; a store holds nothing longer.
fn length<T: TryFrom<usize>>(path: &Path, bytes: usize) -> Result<T, StoreError> {
    T::try_from(bytes)
        .map_err(|_too_long| StoreError::corrupt(path, "an entry too long for a backup"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    }
}
