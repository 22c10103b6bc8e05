//! The file that an identity lies in, and its next keys while they rotate.
//!
//! ```text
//! identity.sealed        sealed with a passphrase     identity.sealed.next   the keys to come
//! identity.plain         exposed, with rotated keys   identity.plain.next    the keys to come
//! identity.json          the Go project's JSON: first keys only, exposed
//! ```
//!
//! A rotation writes the next keys beside the current ones before anything is sent, and puts
//! them in their place by one rename once the chain has accepted them. So at every moment the keys
//! that the chain knows are on disk.

use std::path::{Path, PathBuf};

use session_crypto::{FileError, Identity, KdfCost, SealedIdentity};
use zeroize::Zeroizing;

use crate::error::ClientError;
use crate::state::{StateDir, StateError};

/// How the secrets are kept.
#[derive(Clone)]
pub enum Lock {
    /// Sealed with a passphrase, at this cost.
    Passphrase(Zeroizing<String>, KdfCost),
    /// Exposed: whoever reads the file is the person.
    Exposed,
}

impl core::fmt::Debug for Lock {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::Passphrase(..) => "Passphrase(..)",
            Self::Exposed => "Exposed",
        })
    }
}

/// Where an identity is kept.
#[derive(Debug, Clone)]
pub struct IdentityFile {
    dir: StateDir,
    lock: Lock,
}

const SEALED: &str = "identity.sealed";
const EXPOSED: &str = "identity.plain";
const JSON: &str = "identity.json";

impl IdentityFile {
    /// The identity file of a directory, which need not exist yet.
    ///
    /// # Errors
    /// [`ClientError::State`] where the directory cannot be made.
    pub fn new(directory: &Path, lock: Lock) -> Result<Self, ClientError> {
        let dir = StateDir::open(directory)?;
        Ok(Self { dir, lock })
    }

    /// Whether a directory holds an identity, and if so whether a passphrase opens it.
    pub fn is_sealed(directory: &Path) -> Option<bool> {
        if directory.join(SEALED).exists() {
            return Some(true);
        }
        let exposed = [EXPOSED, JSON].iter().any(|n| directory.join(n).exists());
        exposed.then_some(false)
    }

    /// When it was written; it changes when keys rotate.
    pub fn written(&self) -> Option<std::time::SystemTime> {
        let paths = [self.path(), self.dir.path().join(JSON)];
        let written = paths.iter().map(|path| path.metadata()?.modified());
        written.filter_map(Result::ok).max()
    }

    /// Whether a passphrase is needed to read it.
    pub const fn has_passphrase(&self) -> bool {
        matches!(self.lock, Lock::Passphrase(..))
    }

    fn path(&self) -> PathBuf {
        match self.lock {
            Lock::Passphrase(..) => self.dir.path().join(SEALED),
            Lock::Exposed => self.dir.path().join(EXPOSED),
        }
    }

    fn next_path(&self) -> PathBuf {
        let mut name = self.path().into_os_string();
        name.push(".next");
        name.into()
    }

    /// Reads the identity.
    ///
    /// # Errors
    /// [`ClientError::NoIdentity`], [`ClientError::IdentityFile`], [`ClientError::IdentityJson`].
    pub fn load(&self) -> Result<Identity, ClientError> {
        if let Some(identity) = self.read(&self.path())? {
            return Ok(identity);
        }
        let path = self.dir.path().join(JSON);
        let text = match (&self.lock, std::fs::read_to_string(&path)) {
            (Lock::Exposed, Ok(text)) => Zeroizing::new(text),
            (Lock::Exposed, Err(error)) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(StateError::Io { path, error }.into());
            }
            _ => return Err(ClientError::NoIdentity(self.dir.path().to_owned())),
        };
        Identity::from_json(&text).map_err(|error| ClientError::IdentityJson { path, error })
    }

    /// Writes the identity, whole and synced.
    ///
    /// # Errors
    /// [`ClientError::State`], [`ClientError::IdentityFile`].
    pub fn save(&self, identity: &Identity) -> Result<(), ClientError> {
        // First keys stay readable for the Go project.
        if matches!(self.lock, Lock::Exposed) && identity.rotation() == 0 {
            let text = identity.to_json_exposing_secrets();
            self.dir.write_file(JSON, text.as_bytes())?;
            return self.remove(&self.path());
        }
        self.write(&self.path(), identity)?;
        self.remove(&self.dir.path().join(JSON))
    }

    /// The next keys of a rotation that has not ended.
    ///
    /// # Errors
    /// As [`IdentityFile::load`].
    pub fn load_next(&self) -> Result<Option<Identity>, ClientError> {
        self.read(&self.next_path())
    }

    /// Writes the next keys beside the current ones.
    ///
    /// # Errors
    /// As [`IdentityFile::save`].
    pub fn keep_next(&self, next: &Identity) -> Result<(), ClientError> {
        self.write(&self.next_path(), next)
    }

    /// The chain has accepted the next keys: they are the current ones.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn promote_next(&self) -> Result<(), ClientError> {
        let (from, to) = (self.next_path(), self.path());
        let sync = || std::fs::File::open(self.dir.path()).and_then(|dir| dir.sync_all());
        std::fs::rename(&from, &to)
            .and_then(|()| sync())
            .map_err(|error| StateError::Io { path: from, error })?;
        self.remove(&self.dir.path().join(JSON))
    }

    /// The rotation did not happen: the current keys stay.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn drop_next(&self) -> Result<(), ClientError> {
        self.remove(&self.next_path())
    }

    fn remove(&self, path: &Path) -> Result<(), ClientError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(StateError::Io {
                path: path.to_owned(),
                error,
            }
            .into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn read(&self, path: &Path) -> Result<Option<Identity>, ClientError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                let path = path.to_owned();
                return Err(StateError::Io { path, error }.into());
            }
        };
        let opened = match &self.lock {
            Lock::Passphrase(passphrase, _) => {
                SealedIdentity::from_bytes(&bytes).and_then(|file| file.open(passphrase.as_bytes()))
            }
            Lock::Exposed => Identity::from_exposed_file(&bytes),
        };
        opened.map(Some).map_err(about(path))
    }

    fn write(&self, path: &Path, identity: &Identity) -> Result<(), ClientError> {
        let bytes = match &self.lock {
            Lock::Passphrase(passphrase, cost) => {
                SealedIdentity::seal(identity, passphrase.as_bytes(), *cost)
                    .map_err(about(path))?
                    .to_bytes()
                    .into()
            }
            // The 24 words stay off the disk: with them a thief would have the recovery key too.
            Lock::Exposed => identity.without_seed()?.to_exposed_file(),
        };
        let name = path.file_name().and_then(|name| name.to_str());
        self.dir.write_file(name.unwrap_or(SEALED), &bytes)?;
        Ok(())
    }
}

fn about(path: &Path) -> impl FnOnce(FileError) -> ClientError + '_ {
    |error| ClientError::IdentityFile {
        path: path.to_owned(),
        error,
    }
}
