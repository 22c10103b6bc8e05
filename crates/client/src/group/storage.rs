//! Where a device lies: `e2ee/` in the account's directory.
//!
//! ```text
//! e2ee/store/   records, sealed one by one
//! e2ee/slots    the erasable keys of those records, overwritten where they lie
//! e2ee.key      32 random bytes that both are useless without, in an envelope v2 of the account to itself
//! ```

use std::path::Path;
use std::sync::Arc;

use session_crypto::{Identity, Secret};
use session_e2ee::{Device, E2eeError, NewDevice, Randomness, Storage, Suite};
use session_storage::{DiskStore, SlotFile};

use crate::account::Account;
use crate::error::ClientError;
use crate::history::SealedKey;
use crate::sealed_lines::io;
use crate::state::StateDir;

/// The file with the storage key.
pub(crate) const KEY: SealedKey = SealedKey("e2ee.key");

/// Opens the device of an account's directory, or makes it.
pub(super) fn open(account: &Account, name: &str, now_ms: u64) -> Result<Device, ClientError> {
    match Device::open(storage(account)?) {
        Err(E2eeError::NotLinked) => {}
        opened => return Ok(opened?),
    }
    let identity = account.identity();
    let new = NewDevice {
        suite: Suite::PostQuantum,
        account: account.id(),
        signing: identity.signing_key(),
        name,
        serial: 0,
    };
    Ok(Device::create(storage(account)?, &new, now_ms)?)
}

fn storage(account: &Account) -> Result<Storage, ClientError> {
    at(account.dir().path(), store_key(account)?)
}

/// The storage of a device in this directory.
pub(crate) fn at(dir: &Path, key: Secret<32>) -> Result<Storage, ClientError> {
    let path = dir.join("e2ee");
    std::fs::create_dir_all(&path).map_err(io(&path))?;
    Ok(Storage {
        store: Arc::new(DiskStore::open(path.join("store"))?),
        slots: Box::new(SlotFile::open(path.join("slots"))?),
        key,
        randomness: Randomness::system(),
    })
}

/// Takes away a device that was never linked: it has no key that anybody knows.
pub(crate) fn clear(dir: &Path) -> Result<(), ClientError> {
    let path = dir.join("e2ee");
    match std::fs::remove_dir_all(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&path)(error).into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Seals the storage key to an identity, for the first time.
pub(crate) fn keep_key(
    dir: &Path,
    identity: &Identity,
    key: &Secret<32>,
) -> Result<(), ClientError> {
    KEY.write(&StateDir::open(dir)?, identity, key)
}

/// The storage key of an account's directory, made where there is none.
pub(crate) fn store_key(account: &Account) -> Result<Secret<32>, ClientError> {
    KEY.load_or_make(account.dir(), account.identity())
}

/// Seals the storage key to other keys of the account: earlier ones are not kept for ever.
pub(crate) fn follow_keys(
    dir: &StateDir,
    from: &Identity,
    to: &Identity,
) -> Result<(), ClientError> {
    match KEY.load(dir, from)? {
        Some(key) => KEY.write(dir, to, &key),
        None => Ok(()),
    }
}
