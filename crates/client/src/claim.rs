//! Who may change a directory: one program at a time.
//!
//! State is read whole and written whole, so of two writers one would undo what the other did: a
//! counter given twice is a message that its reader refuses as a replay. The claim is an advisory
//! lock of the operating system on the file `lock`; it ends with its holder, however that ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};

use crate::state::{StateDir, StateError};

/// The file that is locked. It holds the number of the process that has it.
const FILE: &str = "lock";

/// The right to change a directory, held until this is dropped.
#[derive(Debug)]
pub struct Claim {
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
        let path = self.path().join(FILE);
        let io = |error| StateError::Io {
            path: path.clone(),
            error,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).map_err(io)?;
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
            Err(TryLockError::Error(error)) => Err(io(error)),
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
}
