//! Where a device lies: `e2ee/` in the account's directory.
//!
//! ```text
//! e2ee/store/   records, sealed one by one
//! e2ee/slots    the erasable keys of those records, overwritten where they lie
//! e2ee.key      32 random bytes that both are useless without, in an envelope v2 of the account to itself
//! ```

use std::sync::Arc;

use session_crypto::Identity;
use session_e2ee::{Device, E2eeError, NewDevice, Randomness, Storage, Suite};
use session_storage::{DiskStore, SlotFile};

use crate::account::Account;
use crate::error::ClientError;
use crate::history::SealedKey;
use crate::state::{StateDir, StateError};

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
    let path = account.dir().path().join("e2ee");
    let failed = |error| StateError::Io {
        path: path.clone(),
        error,
    };
    std::fs::create_dir_all(&path).map_err(failed)?;
    Ok(Storage {
        store: Arc::new(DiskStore::open(path.join("store"))?),
        slots: Box::new(SlotFile::open(path.join("slots"))?),
        key: KEY.load_or_make(account.dir(), account.identity())?,
        randomness: Randomness::system(),
    })
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
