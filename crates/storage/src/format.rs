//! The data directory: whose it is, which version, and who has it open.
//!
//! ```text
//! <dir>/FORMAT       three lines: "session-storage", "format 2", "keyspaces 1"
//! <dir>/LOCK         locked while open; holds the pid of who locked it
//! <dir>/UNFINISHED   only while the directory is being made: "creating" or "restoring"
//! <dir>/db/          the engine's files
//! <dir>/segments/    message bodies
//! ```
//!
//! `FORMAT` is written last, so a directory with it is complete. Without it, `UNFINISHED` tells
//! what was going on: a creation starts over, a restore is refused.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use crate::error::StoreError;

/// Version of the directory layout and of everything in `db/`.
pub const FORMAT_VERSION: u32 = 2;

/// Version of the keyspaces' creation options: the engine keeps those a keyspace was created
/// with, so a change needs a migration.
pub const KEYSPACES_VERSION: u32 = 1;

const NAME: &str = "session-storage";

/// Larger than any `FORMAT` of ours: whatever is longer is not ours.
const FORMAT_BYTES_MAX: u64 = 256;

/// What an unfinished directory was being made by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Making {
    /// A first opening: holds nothing anybody was told is stored.
    Creating,
    /// A restore: holds a part of the backup.
    Restoring,
}

impl Making {
    const fn word(self) -> &'static str {
        match self {
            Self::Creating => "creating\n",
            Self::Restoring => "restoring\n",
        }
    }
}

/// A locked data directory.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Unlocked by the system when this is dropped, and when the process dies.
    _lock: File,
    complete: bool,
}

impl Directory {
    /// Creates `path` if needed, refuses strangers' directories, locks it, checks the version.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let lock = Self::prepare(path)?;
        let found = read_format(path)?;
        let complete = match (found, read_making(path)?) {
            (Some(_), _) => true,
            (None, Some(Making::Restoring)) => {
                return Err(StoreError::RestoreUnfinished {
                    path: path.to_owned(),
                });
            }
            (None, Some(Making::Creating) | None) => false,
        };
        let directory = Self {
            path: path.to_owned(),
            _lock: lock,
            complete,
        };
        if complete {
            remove_if_there(&directory.path.join("UNFINISHED"))?;
        } else {
            directory.mark(Making::Creating)?;
            directory.clear_db()?;
        }
        Ok(directory)
    }

    /// As [`Directory::open`], for a restore: the directory must be empty or not exist.
    pub(crate) fn open_for_restore(path: &Path) -> Result<Self, StoreError> {
        if !is_empty(path)? {
            return Err(StoreError::NotOurs {
                path: path.to_owned(),
            });
        }
        let lock = Self::prepare(path)?;
        let directory = Self {
            path: path.to_owned(),
            _lock: lock,
            complete: false,
        };
        directory.mark(Making::Restoring)?;
        Ok(directory)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the engine keeps its files.
    pub(crate) fn db(&self) -> PathBuf {
        self.path.join("db")
    }

    /// Where message bodies are kept.
    pub(crate) fn segments(&self) -> PathBuf {
        self.path.join("segments")
    }

    /// Whether `FORMAT` is there.
    pub(crate) const fn is_complete(&self) -> bool {
        self.complete
    }

    /// Writes `FORMAT`: from here on the directory counts.
    pub(crate) fn complete(&mut self) -> Result<(), StoreError> {
        if !self.complete {
            let text = format!("{NAME}\nformat {FORMAT_VERSION}\nkeyspaces {KEYSPACES_VERSION}\n");
            write_synced(&self.path.join("FORMAT"), &text)?;
            remove_if_there(&self.path.join("UNFINISHED"))?;
            sync_directory(&self.path)?;
            self.complete = true;
        }
        Ok(())
    }

    fn prepare(path: &Path) -> Result<File, StoreError> {
        fs::create_dir_all(path).map_err(StoreError::io(path, "create the directory"))?;
        let ours = ["FORMAT", "UNFINISHED"]
            .iter()
            .any(|name| path.join(name).exists());
        // A lone LOCK is ours too: the process died before the marker was in place.
        if !ours && !is_empty_but_for_lock(path)? {
            return Err(StoreError::NotOurs {
                path: path.to_owned(),
            });
        }
        let lock = lock(path)?;
        sync_directory(path)?;
        Ok(lock)
    }

    fn mark(&self, making: Making) -> Result<(), StoreError> {
        write_synced(&self.path.join("UNFINISHED"), making.word())?;
        sync_directory(&self.path)
    }

    fn clear_db(&self) -> Result<(), StoreError> {
        for made in [self.db(), self.segments()] {
            match fs::remove_dir_all(&made) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::io(made, "remove an unfinished store")(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// `None` if there is no `FORMAT`.
fn read_format(directory: &Path) -> Result<Option<()>, StoreError> {
    let path = directory.join("FORMAT");
    let Some(text) = read_small(&path)? else {
        return Ok(None);
    };
    let damaged = || StoreError::corrupt(&path, "not three lines: name, format, keyspaces");
    let mut lines = text.lines();
    if lines.next() != Some(NAME) {
        return Err(StoreError::NotOurs {
            path: directory.to_owned(),
        });
    }
    let mut number = |name: &str| {
        let line = lines.next()?.strip_prefix(name)?.strip_prefix(' ')?;
        line.parse::<u32>().ok()
    };
    let found = number("format").ok_or_else(damaged)?;
    // A later format may say more or less after its number.
    let found_keyspaces = match number("keyspaces") {
        Some(keyspaces) => keyspaces,
        None if found == FORMAT_VERSION => return Err(damaged()),
        None => 0,
    };
    check_version(directory, found, found_keyspaces)?;
    Ok(Some(()))
}

/// Refuses data of any other version, naming both.
pub(crate) fn check_version(
    path: &Path,
    found: u32,
    found_keyspaces: u32,
) -> Result<(), StoreError> {
    if (found, found_keyspaces) == (FORMAT_VERSION, KEYSPACES_VERSION) {
        return Ok(());
    }
    Err(StoreError::Format {
        path: path.to_owned(),
        found,
        found_keyspaces,
        supported: FORMAT_VERSION,
        supported_keyspaces: KEYSPACES_VERSION,
    })
}

fn read_making(directory: &Path) -> Result<Option<Making>, StoreError> {
    let text = read_small(&directory.join("UNFINISHED"))?;
    Ok(text.map(|text| {
        // An empty or cut marker is from the very first write, before anything was restored.
        if text == Making::Restoring.word() {
            Making::Restoring
        } else {
            Making::Creating
        }
    }))
}

fn read_small(path: &Path) -> Result<Option<String>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StoreError::io(path, "open")(error)),
    };
    let mut bytes = Vec::new();
    file.take(FORMAT_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(StoreError::io(path, "read"))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("LOCK");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(StoreError::io(&path, "open"))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = read_small(&path)?.and_then(|text| text.trim().parse().ok());
            return Err(StoreError::InUse {
                path: directory.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(error)) => return Err(StoreError::io(path, "lock")(error)),
    }
    // The pid is a courtesy: on a full disk the store must open all the same.
    let _courtesy = file
        .set_len(0)
        .and_then(|()| file.write_all(std::process::id().to_string().as_bytes()));
    Ok(file)
}

fn is_empty(path: &Path) -> Result<bool, StoreError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(StoreError::io(path, "list")(error)),
    }
}

fn is_empty_but_for_lock(path: &Path) -> Result<bool, StoreError> {
    for entry in fs::read_dir(path).map_err(StoreError::io(path, "list"))? {
        let name = entry.map_err(StoreError::io(path, "list"))?.file_name();
        if name != "LOCK" && name != "UNFINISHED.new" {
            return Ok(false);
        }
    }
    Ok(true)
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(StoreError::io(path, "remove")(error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Replaces the file in one step: after a crash there is the old text or the new one.
fn write_synced(path: &Path, text: &str) -> Result<(), StoreError> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh).map_err(StoreError::io(&fresh, "create"))?;
    file.write_all(text.as_bytes())
        .map_err(StoreError::io(&fresh, "write"))?;
    file.sync_all().map_err(StoreError::io(&fresh, "sync"))?;
    fs::rename(&fresh, path).map_err(StoreError::io(path, "rename into place"))
}

/// Makes created, renamed and removed names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> Result<(), StoreError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(StoreError::io(path, "sync the directory"))
}
