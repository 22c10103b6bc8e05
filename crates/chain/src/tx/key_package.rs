//! Publishing key packages, and taking one of each of somebody's devices.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer, at_least_one};
use session_core::ids::{AccountId, DeviceId, KeyPackageId};
use session_core::key_package::{
    Device, KeyPackage, KeyPackages, TakenKeyPackages, TakenPackage, key_package_id,
};
use session_core::limits::{
    DEVICES_MAX, KEY_PACKAGE_BYTES_MAX, KEY_PACKAGE_LIFE_MAX_MS, KEY_PACKAGE_WINDOW_MS,
    ONE_TIME_PACKAGES_MAX, ONE_TIME_PER_DAY,
};
use session_core::parameters::Rate;
use session_core::record::{Outcome, RecordKey};
use session_core::time::Time;

use super::Tx;
use crate::state::{Scope, TxError};
use crate::view::{
    Table, View as _, ViewError, deadline_key, key_package_key, taken_key_package_key,
};

/// A key package with its expiry.
#[derive(Clone, PartialEq, Eq)]
pub struct NewKeyPackage {
    /// At most 90 days ahead of block time.
    pub expires: Time,
    /// 1 byte to 16 KiB.
    pub bytes: Vec<u8>,
}

/// Adds key packages of one of the signer's devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishKeyPackages {
    /// The device, by whatever name its account gives it.
    pub device: DeviceId,
    /// Whether what the device had published before goes. With nothing new the device goes.
    pub replace: bool,
    /// Packages that are given once; a device has at most 10.
    pub one_time: Vec<NewKeyPackage>,
    /// The package that is given when there is no other, in the place of an earlier one.
    pub last_resort: Option<NewKeyPackage>,
}

/// Takes one key package of each device of an account. Within a day of it, taking again brings the
/// packages of last resort, which use nothing up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeKeyPackages {
    /// Whose.
    pub target: AccountId,
}

impl core::fmt::Debug for NewKeyPackage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "NewKeyPackage({} bytes)", self.bytes.len())
    }
}

impl PublishKeyPackages {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let (mut packages, due) = scope.key_packages(&tx.signer)?;
        let at = match packages
            .devices
            .binary_search_by_key(&self.device, |d| d.id)
        {
            Ok(at) => at,
            Err(_) if packages.devices.len() >= DEVICES_MAX => {
                let what = "devices with key packages";
                return Err(TxError::LimitReached { what });
            }
            Err(at) => {
                let new = Device {
                    id: self.device,
                    one_time: Vec::new(),
                    last_resort: None,
                };
                packages.devices.insert(at, new);
                at
            }
        };
        if self.replace
            && let Some(device) = packages.devices.get_mut(at)
        {
            for package in device.packages() {
                scope.drop_key_package(&tx.signer, &package.id);
            }
            (device.one_time, device.last_resort) = (Vec::new(), None);
        }
        for new in &self.one_time {
            let package = scope.put_key_package(&tx.signer, &packages, new)?;
            if let Some(device) = packages.devices.get_mut(at) {
                if device.one_time.len() >= ONE_TIME_PACKAGES_MAX {
                    let what = "one-time key packages of one device";
                    return Err(TxError::LimitReached { what });
                }
                device.one_time.push(package);
            }
        }
        if let Some(new) = &self.last_resort {
            let package = scope.put_key_package(&tx.signer, &packages, new)?;
            if let Some(device) = packages.devices.get_mut(at)
                && let Some(old) = device.last_resort.replace(package)
            {
                scope.drop_key_package(&tx.signer, &old.id);
            }
        }
        scope.put_key_packages(&tx.signer, packages, due)?;
        Ok(Outcome::Done)
    }
}

impl TakeKeyPackages {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let now = scope.context.time;
        let key = RecordKey::TakenKeyPackages(tx.signer, self.target);
        let before: Option<TakenKeyPackages> = scope.record(&key)?;
        let within_a_day = before.as_ref().filter(|before| before.expires > now);
        let target = scope.account(&self.target)?;
        let target = target.filter(|target| target.keys.is_some());
        if target.ok_or(TxError::UnknownAccount)?.revoked.is_some() {
            return Err(TxError::NoKeyPackages);
        }
        let (mut packages, due) = scope.key_packages(&self.target)?;
        let first = within_a_day.is_none();
        let taken = scope.take_of_each(&tx.signer, &self.target, &mut packages, first)?;
        match within_a_day {
            Some(before) if taken.is_empty() || taken == before.packages => {
                return Err(TxError::RateLimited {
                    what: "key packages of one account for one taker",
                    retry_ms: before.expires.since(now),
                });
            }
            None if taken.is_empty() => return Err(TxError::NoKeyPackages),
            Some(_) | None => {}
        }
        // Of an earlier taking: cells beyond those that were written now.
        let earlier = before.iter().flat_map(|before| &before.packages);
        for (position, _) in (0u8..).zip(earlier).skip(taken.len()) {
            let cell = taken_key_package_key(&tx.signer, &self.target, position);
            scope.over.delete(Table::Body, cell);
        }
        scope.put_key_packages(&self.target, packages, due)?;
        let count = |last_resort: bool| {
            let some = taken.iter().filter(|p| p.last_resort == last_resort);
            // At most DEVICES_MAX.
            u8::try_from(some.count()).unwrap_or(u8::MAX)
        };
        let (one_time, last_resort) = (count(false), count(true));
        let day = now.after_ms(KEY_PACKAGE_WINDOW_MS);
        let expires = within_a_day.map_or(day, |before| before.expires);
        scope.set_deadline(&key, before.map(|before| before.expires), expires);
        let packages = taken;
        scope.put_record(&key, &TakenKeyPackages { expires, packages })?;
        Ok(Outcome::KeyPackages {
            one_time,
            last_resort,
        })
    }
}

impl Scope<'_, '_> {
    /// An account's packages without what has expired, and when the record was due.
    fn key_packages(&mut self, id: &AccountId) -> Result<(KeyPackages, Option<Time>), TxError> {
        let packages: Option<KeyPackages> = self.record(&RecordKey::KeyPackages(*id))?;
        let mut packages = packages.unwrap_or_default();
        let due = packages.last_expiry();
        for gone in packages.expire(self.context.time) {
            self.drop_key_package(id, &gone);
        }
        Ok((packages, due))
    }

    /// Writes them back; a record without packages goes.
    fn put_key_packages(
        &mut self,
        id: &AccountId,
        mut packages: KeyPackages,
        due: Option<Time>,
    ) -> Result<(), TxError> {
        let key = RecordKey::KeyPackages(*id);
        packages.devices.retain(|d| d.packages().count() > 0);
        if let Some(last) = packages.last_expiry() {
            self.set_deadline(&key, due, last);
            return self.put_record(&key, &packages);
        }
        if let Some(due) = due {
            self.over.delete(Table::Deadline, deadline_key(due, &key));
        }
        self.delete_record(&key)
    }

    fn put_key_package(
        &mut self,
        id: &AccountId,
        packages: &KeyPackages,
        new: &NewKeyPackage,
    ) -> Result<KeyPackage, TxError> {
        let now = self.context.time;
        if new.expires <= now || new.expires.since(now) > KEY_PACKAGE_LIFE_MAX_MS {
            return Err(TxError::KeyPackageExpiry { now: now.ms() });
        }
        let package = KeyPackage {
            id: key_package_id(&new.bytes),
            expires: new.expires,
        };
        let mut all = packages.devices.iter().flat_map(Device::packages);
        if all.any(|known| known.id == package.id) {
            return Err(TxError::KeyPackageKnown);
        }
        let cell = key_package_key(id, &package.id);
        self.over.put(Table::Body, cell, new.bytes.clone());
        Ok(package)
    }

    fn drop_key_package(&mut self, id: &AccountId, package: &KeyPackageId) {
        self.over.delete(Table::Body, key_package_key(id, package));
    }

    /// Takes a package of each device and puts its bytes where the taker finds them for a day: one
    /// for one use where it is the `first` time and there is one, or the one of last resort.
    fn take_of_each(
        &mut self,
        taker: &AccountId,
        target: &AccountId,
        packages: &mut KeyPackages,
        first: bool,
    ) -> Result<Vec<TakenPackage>, TxError> {
        let has_one_time = first && packages.devices.iter().any(|d| !d.one_time.is_empty());
        // A taker weighs a day's milliseconds, and twenty of them drain in a day.
        let rate = Rate {
            per_second: ONE_TIME_PER_DAY * 1_000,
            burst: ONE_TIME_PER_DAY * KEY_PACKAGE_WINDOW_MS,
        };
        let (now, bucket) = (self.context.time, &mut packages.taken);
        let one_time = has_one_time && bucket.take(now, KEY_PACKAGE_WINDOW_MS, rate).is_ok();
        let mut taken = Vec::new();
        for device in &mut packages.devices {
            let (package, last_resort) = if one_time && !device.one_time.is_empty() {
                (device.one_time.remove(0), false)
            } else if let Some(package) = device.last_resort {
                (package, true)
            } else {
                continue;
            };
            let cell = key_package_key(target, &package.id);
            let bytes = self.over.get(Table::Body, &cell)?;
            let bytes = bytes.ok_or(ViewError::Missing(Table::Body))?;
            if !last_resort {
                self.over.delete(Table::Body, cell);
            }
            self.copied(bytes.len());
            // At most DEVICES_MAX.
            let position = u8::try_from(taken.len()).unwrap_or(u8::MAX);
            let cell = taken_key_package_key(taker, target, position);
            self.over.put(Table::Body, cell, bytes);
            taken.push(TakenPackage {
                device: device.id,
                package: package.id,
                last_resort,
            });
        }
        Ok(taken)
    }
}

impl Encode for NewKeyPackage {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.expires).bytes(&self.bytes);
    }
}

impl Decode for NewKeyPackage {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let expires = Time::decode(input)?;
        let what = "key package";
        let bytes = input.bytes(what, KEY_PACKAGE_BYTES_MAX)?.to_vec();
        at_least_one(what, bytes.len())?;
        Ok(Self { expires, bytes })
    }
}

impl Encode for PublishKeyPackages {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.device)
            .bool(self.replace)
            .list(&self.one_time)
            .option(self.last_resort.as_ref());
    }
}

impl Decode for PublishKeyPackages {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: DeviceId::decode(input)?,
            replace: input.bool("replace")?,
            one_time: input.list("one-time key packages", ONE_TIME_PACKAGES_MAX, 13)?,
            last_resort: input.option("last-resort key package")?,
        })
    }
}

impl Encode for TakeKeyPackages {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.target);
    }
}

impl Decode for TakeKeyPackages {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            target: AccountId::decode(input)?,
        })
    }
}
