//! Who may change a directory: one program at a time.
//!
//! State is read whole and written whole, so of two writers one would undo what the other did: a
//! counter given twice is a message that its reader refuses as a replay. The claim is an advisory
//! lock of the operating system on the file `lock`; it ends with its holder, however that ends.
//!
//! Whoever waits for a directory locks `lock.wanted` meanwhile, shared with others who wait. So a program
//! that has it for long, a chat, learns that somebody wants it, and lets them have it in between.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::PathBuf;

use crate::state::{StateDir, StateError};

/// The file that is locked. It holds the number of the process that has it.
const FILE: &str = "lock";

/// The file that is locked by those who wait.
const WANTED: &str = "lock.wanted";

/// The right to change a directory, held until this is dropped.
#[derive(Debug)]
pub struct Claim {
    _locked: File,
}

/// Tells whoever has a directory that it is wanted, until this is dropped.
#[derive(Debug)]
pub struct Wanted {
    _locked: File,
}

/// What came of asking.
#[derive(Debug)]
pub enum Claimed {
    /// The directory is ours.
    Ours(Claim),
    /// Another program has it.
    Taken {
        /// Number of its process, where that can be read.
        process: Option<u32>,
    },
}

impl StateDir {
    /// Asks for the right to change this directory, without waiting. What was read of it before
    /// may have changed meanwhile: read it again ([`crate::Account::reload`]).
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn claim(&self) -> Result<Claimed, StateError> {
        let (path, mut file) = self.lock_file(FILE)?;
        match file.try_lock() {
            Ok(()) => {
                // Only for the message of whoever comes next: no reason to fail.
                let _unnamed = file.set_len(0).and_then(|()| file.rewind());
                let _unnamed = write!(file, "{}", std::process::id());
                Ok(Claimed::Ours(Claim { _locked: file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _unread = file.take(20).read_to_string(&mut text);
                let process = text.trim().parse().ok();
                Ok(Claimed::Taken { process })
            }
            Err(TryLockError::Error(error)) => Err(StateError::Io { path, error }),
        }
    }

    /// Tells whoever has this directory that it is wanted, for as long as the answer is kept: until
    /// [`StateDir::claim`] has brought it.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn want(&self) -> Result<Wanted, StateError> {
        let (path, file) = self.lock_file(WANTED)?;
        // It waits only while somebody is looking, which is over at once.
        match file.lock_shared() {
            Ok(()) => Ok(Wanted { _locked: file }),
            Err(error) => Err(StateError::Io { path, error }),
        }
    }

    /// Whether somebody wants this directory. A program that has it for long drops its [`Claim`] then,
    /// waits until nobody does, and claims it again.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn is_wanted(&self) -> Result<bool, StateError> {
        let (path, file) = self.lock_file(WANTED)?;
        match file.try_lock() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(StateError::Io { path, error }),
        }
    }

    fn lock_file(&self, name: &str) -> Result<(PathBuf, File), StateError> {
        let path = self.path().join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        match options.open(&path) {
            Ok(file) => Ok((path, file)),
            Err(error) => Err(StateError::Io { path, error }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_a_directory_at_a_time_and_whoever_is_gone_has_it_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let dir = StateDir::open(directory.path()).unwrap();
        let Claimed::Ours(first) = dir.claim().unwrap() else {
            panic!("nobody else is here");
        };
        let again = StateDir::open(directory.path()).unwrap();
        let Claimed::Taken { process } = again.claim().unwrap() else {
            panic!("claimed twice");
        };
        assert_eq!(process, Some(std::process::id()));
        drop(first);
        assert!(matches!(again.claim().unwrap(), Claimed::Ours(_)));
    }

    #[test]
    fn whoever_waits_is_noticed_until_it_waits_no_more() {
        let directory = tempfile::tempdir().unwrap();
        let dir = StateDir::open(directory.path()).unwrap();
        assert!(!dir.is_wanted().unwrap());
        let (one, other) = (dir.want().unwrap(), dir.want().unwrap());
        assert!(dir.is_wanted().unwrap());
        drop(one);
        assert!(dir.is_wanted().unwrap());
        drop(other);
        assert!(!dir.is_wanted().unwrap());
    }
}
