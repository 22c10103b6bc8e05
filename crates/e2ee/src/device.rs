//! One device of an account, with all its conversations.
//!
//! ```text
//! call ─▶ Transaction { buffer over the vault, randomness, this device } ─▶ Ok: one batch, durable ─▶ Output
//!                                                                       └─▶ Err: the buffer is dropped
//! ```
//!
//! Nothing of a group is kept in memory between calls: what the next call reads is what the disk has.

mod administration;
mod certificate;
mod epoch;
mod joining;
mod linking;
mod membership;
mod messages;
mod opening;
mod pending;
mod reading;
mod receiving;
mod rejoining;
mod rotation;
mod signature_key;
mod successor;
mod transaction;

pub use crate::tables::GroupStatus;
pub use administration::{AskedAdmins, admin_key_digest};
pub use joining::{GroupFacts, OwnKeyPackage};
pub use membership::Invitee;
pub use reading::Member;
pub use receiving::{AcceptedCommit, LogEntry};
pub use rotation::Rotation;

use session_core::ids::AccountId;
use session_crypto::{Secret, SigningKey};
use session_storage::{Slots, Store};
use std::cell::RefCell;
use std::sync::Arc;

use crate::credential::{DeviceCertificate, DeviceClaim, DeviceId};
use crate::error::{E2eeError, bounded};
use crate::event::{Event, MemberDevice};
use crate::limits::NAME_MAX;
use crate::outgoing::Outgoing;
use crate::provider::{Crypto, LeafKey, Provider, Rand};
use crate::randomness::Randomness;
use crate::records::Buffer;
use crate::rotation::RotationPolicy;
use crate::suite::Suite;
use crate::tables::{Counters, DeviceRecord};
use crate::vault::Vault;
use transaction::Transaction;

/// What a device works with.
pub struct Storage {
    /// Where its records lie. The keyspace `conversations` is its own.
    pub store: Arc<dyn Store>,
    /// The erasable keys of those records.
    pub slots: Box<dyn Slots>,
    /// What both are useless without: from a passphrase, or the identity's file.
    pub key: Secret<32>,
    /// Where it takes randomness from.
    pub randomness: Randomness,
}

/// The first device of an account, or any that has the account's signing key.
pub struct NewDevice<'a> {
    /// Its cryptography.
    pub suite: Suite,
    /// The account.
    pub account: AccountId,
    /// The account's key, which certifies the device.
    pub signing: &'a SigningKey,
    /// What the device is called, at most 128 bytes.
    pub name: &'a str,
    /// Counts the account's certificates; 0 for the first.
    pub serial: u64,
}

/// What came of a call, durable already.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// To be sent, in this order. It is in the outbox too.
    pub outgoing: Vec<Outgoing>,
    /// To be shown. What is stored of it waits to be acknowledged.
    pub events: Vec<Event>,
}

/// A device of an account.
pub struct Device {
    vault: Vault,
    crypto: Crypto,
    rand: Rand,
    me: Option<Me>,
}

/// Who this device is.
pub(crate) struct Me {
    pub(crate) suite: Suite,
    pub(crate) member: MemberDevice,
    pub(crate) key: LeafKey,
    pub(crate) certificate: DeviceCertificate,
    pub(crate) rotation: RotationPolicy,
}

impl Device {
    /// Makes a device that its account certifies at once, in a store that has none.
    ///
    /// # Errors
    /// [`E2eeError::DeviceExists`], [`E2eeError::TooLarge`], [`E2eeError::Vault`],
    /// [`E2eeError::Crypto`].
    pub fn create(storage: Storage, new: &NewDevice<'_>, now_ms: u64) -> Result<Self, E2eeError> {
        let mut this = Self::empty(storage, new.name)?;
        let leaf_seed = this.rand.0.borrow_mut().secret()?;
        let leaf = LeafKey::from_seed(new.suite, leaf_seed.clone())?;
        let device = DeviceId::from_bytes(this.rand.0.borrow_mut().bytes()?);
        let claim = DeviceClaim {
            account: new.account,
            device,
            not_before_ms: now_ms,
            serial: new.serial,
        };
        let record = DeviceRecord {
            suite: new.suite,
            account: new.account,
            device,
            name: new.name.to_owned(),
            leaf_seed,
            certificate: Some(claim.certify(new.signing, leaf.public())?),
            link: None,
            republish_until_ms: None,
            rotation: RotationPolicy::default(),
        };
        let counters = Counters {
            serial: new.serial.saturating_add(1),
            ..Counters::default()
        };
        this.write(|buffer| {
            buffer.save_record(&(), &record);
            buffer.save_record(&(), &counters);
            Ok(())
        })?;
        this.load_me()?;
        Ok(this)
    }

    /// Opens the device of a store.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`] for a store without one, [`E2eeError::Vault`],
    /// [`E2eeError::Stored`].
    pub fn open(storage: Storage) -> Result<Self, E2eeError> {
        let mut this = Self::over(storage)?;
        this.load_me()?;
        Ok(this)
    }

    /// Its account and its own id.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`].
    pub fn member(&self) -> Result<MemberDevice, E2eeError> {
        let me = self.me.as_ref().ok_or(E2eeError::NotLinked)?;
        Ok(me.member)
    }

    /// Whether an account has certified it.
    pub const fn is_linked(&self) -> bool {
        self.me.is_some()
    }

    /// Overwrites the keys of everything that was replaced, and waits until the disk has done so.
    /// Without it that happens with the next event.
    ///
    /// # Errors
    /// [`E2eeError::Vault`].
    pub fn erase(&mut self) -> Result<(), E2eeError> {
        Ok(self.vault.erase()?)
    }

    /// Erases, and closes the store.
    ///
    /// # Errors
    /// [`E2eeError::Vault`].
    pub fn close(mut self) -> Result<(), E2eeError> {
        Ok(self.vault.close()?)
    }

    fn over(storage: Storage) -> Result<Self, E2eeError> {
        Ok(Self {
            vault: Vault::open(storage.store, storage.slots, storage.key)?,
            crypto: Crypto::new(),
            rand: Rand(RefCell::new(storage.randomness)),
            me: None,
        })
    }

    /// A device-to-be, where there is none yet.
    fn empty(storage: Storage, name: &str) -> Result<Self, E2eeError> {
        bounded("device name", name.as_bytes(), NAME_MAX)?;
        let this = Self::over(storage)?;
        if this.record()?.is_some() {
            return Err(E2eeError::DeviceExists);
        }
        Ok(this)
    }

    fn record(&self) -> Result<Option<DeviceRecord>, E2eeError> {
        Buffer::new(&self.vault).load_record(&())
    }

    fn load_me(&mut self) -> Result<(), E2eeError> {
        // Rather nobody than who it was: that key may be erased.
        self.me = None;
        let record = self.record()?.ok_or(E2eeError::NotLinked)?;
        let Some(certificate) = record.certificate else {
            return Ok(());
        };
        self.me = Some(Me {
            suite: record.suite,
            member: MemberDevice {
                account: record.account,
                device: record.device,
            },
            key: LeafKey::from_seed(record.suite, record.leaf_seed)?,
            certificate,
            rotation: record.rotation,
        });
        Ok(())
    }

    /// After a write or a look that failed: what the disk has counts, also of who this device is.
    fn ready(&mut self) -> Result<(), E2eeError> {
        let unsure = self.vault.is_unsure();
        self.vault.ready()?;
        if (unsure || self.me.is_none()) && self.record()?.is_some() {
            self.load_me()?;
        }
        Ok(())
    }

    /// One batch without a transaction: for what concerns no group.
    fn write<T>(
        &mut self,
        change: impl FnOnce(&Buffer<'_>) -> Result<T, E2eeError>,
    ) -> Result<T, E2eeError> {
        self.ready()?;
        let buffer = Buffer::new(&self.vault);
        let value = change(&buffer)?;
        let changes = buffer.into_changes();
        self.vault.commit(&changes, &mut self.rand.0.borrow_mut())?;
        Ok(value)
    }

    /// One event: all that it changes is one batch, or nothing is.
    fn event<T>(
        &mut self,
        event: impl FnOnce(&mut Transaction<'_>) -> Result<T, E2eeError>,
    ) -> Result<(T, Output), E2eeError> {
        self.ready()?;
        let me = self.me.as_ref().ok_or(E2eeError::NotLinked)?;
        let provider = Provider {
            crypto: &self.crypto,
            rand: &self.rand,
            buffer: Buffer::new(&self.vault),
        };
        let mut transaction = Transaction::new(provider, me)?;
        let value = event(&mut transaction)?;
        transaction.forget_former_keys()?;
        let (changes, output) = transaction.finish();
        self.vault.commit(&changes, &mut self.rand.0.borrow_mut())?;
        Ok((value, output))
    }

    /// Looks without changing anything: what the transaction does is dropped.
    fn look<T>(
        &self,
        look: impl FnOnce(&mut Transaction<'_>) -> Result<T, E2eeError>,
    ) -> Result<T, E2eeError> {
        let me = self.me.as_ref().ok_or(E2eeError::NotLinked)?;
        let provider = Provider {
            crypto: &self.crypto,
            rand: &self.rand,
            buffer: Buffer::new(&self.vault),
        };
        look(&mut Transaction::new(provider, me)?)
    }
}

impl core::fmt::Debug for Device {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let member = self.me.as_ref().map(|me| me.member);
        write!(f, "Device({member:?}, {} records)", self.vault.len())
    }
}
