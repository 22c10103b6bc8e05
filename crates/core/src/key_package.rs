//! Published key packages (RFC 9420 §10): what somebody who is offline can be added to a group with.
//!
//! An account publishes, for each of its devices, packages that are given to one taker each, and
//! one of last resort that is given again and again once those are used up.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::Tag;
use crate::ids::{DeviceId, KeyPackageId};
use crate::limits::{DEVICES_MAX, ONE_TIME_PACKAGES_MAX};
use crate::parameters::Bucket;
use crate::time::Time;

/// One package. Its bytes lie beside the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPackage {
    /// [`key_package_id`] of its bytes.
    pub id: KeyPackageId,
    /// It is given until then, judged in block time.
    pub expires: Time,
}

/// Packages of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Which device.
    pub id: DeviceId,
    /// At most 10, each for one taker, in the order in which they are given.
    pub one_time: Vec<KeyPackage>,
    /// Given when there is no other.
    pub last_resort: Option<KeyPackage>,
}

/// Packages of one account.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPackages {
    /// At most 8 devices, ascending.
    pub devices: Vec<Device>,
    /// Takers who were given one-time packages lately.
    pub taken: Bucket,
}

/// A package that was given to a taker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenPackage {
    /// Device that published it.
    pub device: DeviceId,
    /// The package.
    pub package: KeyPackageId,
    /// Whether others are given the same one.
    pub last_resort: bool,
}

/// What one account took of another: one package of each device. While the record is there the
/// taker takes nothing more of that account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenKeyPackages {
    /// When it goes, and its packages' bytes with it.
    pub expires: Time,
    /// The packages, in the order of their devices.
    pub packages: Vec<TakenPackage>,
}

impl Device {
    /// Every package.
    pub fn packages(&self) -> impl Iterator<Item = &KeyPackage> {
        self.one_time.iter().chain(&self.last_resort)
    }

    /// Takes out what has expired at block time `now`.
    fn expire(&mut self, now: Time, gone: &mut Vec<KeyPackageId>) {
        let lives = |package: &KeyPackage| package.expires > now;
        gone.extend(self.packages().filter(|p| !lives(p)).map(|p| p.id));
        self.one_time.retain(lives);
        self.last_resort = self.last_resort.filter(lives);
    }
}

impl KeyPackages {
    /// Takes out what has expired at block time `now`, and devices that have nothing left.
    /// Answers the packages that are gone.
    pub fn expire(&mut self, now: Time) -> Vec<KeyPackageId> {
        let mut gone = Vec::new();
        for device in &mut self.devices {
            device.expire(now, &mut gone);
        }
        self.devices.retain(|device| device.packages().count() > 0);
        gone
    }

    /// When the last of them expires; none where there is none.
    pub fn last_expiry(&self) -> Option<Time> {
        let all = self.devices.iter().flat_map(Device::packages);
        all.map(|package| package.expires).max()
    }
}

/// `H(key-package, bytes)`.
pub fn key_package_id(bytes: &[u8]) -> KeyPackageId {
    KeyPackageId::from_bytes(Tag::KeyPackage.hash(&[bytes]))
}

impl Encode for KeyPackage {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.id).value(&self.expires);
    }
}

impl Decode for KeyPackage {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: KeyPackageId::decode(input)?,
            expires: Time::decode(input)?,
        })
    }
}

impl Encode for Device {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.id)
            .list(&self.one_time)
            .option(self.last_resort.as_ref());
    }
}

impl Decode for Device {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: DeviceId::decode(input)?,
            one_time: input.list("one-time key packages", ONE_TIME_PACKAGES_MAX, 40)?,
            last_resort: input.option("last-resort key package")?,
        })
    }
}

impl Encode for KeyPackages {
    fn encode(&self, out: &mut Writer) {
        out.list(&self.devices).value(&self.taken);
    }
}

impl Decode for KeyPackages {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = "devices";
        let devices: Vec<Device> = input.list(what, DEVICES_MAX, 37)?;
        if !devices.is_sorted_by(|a, b| a.id < b.id) {
            return Err(DecodeError::NotAscending { what });
        }
        Ok(Self {
            devices,
            taken: Bucket::decode(input)?,
        })
    }
}

impl Encode for TakenPackage {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.device)
            .value(&self.package)
            .bool(self.last_resort);
    }
}

impl Decode for TakenPackage {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: DeviceId::decode(input)?,
            package: KeyPackageId::decode(input)?,
            last_resort: input.bool("last resort")?,
        })
    }
}

impl Encode for TakenKeyPackages {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.expires).list(&self.packages);
    }
}

impl Decode for TakenKeyPackages {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            expires: Time::decode(input)?,
            packages: input.list("taken key packages", DEVICES_MAX, 65)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn package(byte: u8, expires: u64) -> KeyPackage {
        KeyPackage {
            id: KeyPackageId::from_bytes([byte; 32]),
            expires: Time::from_ms(expires),
        }
    }

    fn device(byte: u8, one_time: Vec<KeyPackage>, last_resort: Option<KeyPackage>) -> Device {
        Device {
            id: DeviceId::from_bytes([byte; 32]),
            one_time,
            last_resort,
        }
    }

    #[test]
    fn what_has_expired_goes_and_its_device_when_nothing_is_left() {
        let mut packages = KeyPackages {
            devices: vec![
                device(1, vec![package(1, 5), package(2, 9)], Some(package(3, 7))),
                device(2, vec![package(4, 6)], None),
            ],
            taken: Bucket::default(),
        };
        assert_eq!(packages.last_expiry(), Some(Time::from_ms(9)));
        assert!(packages.expire(Time::from_ms(4)).is_empty());
        let ids = |all: &[u8]| -> Vec<_> { all.iter().map(|b| package(*b, 0).id).collect() };
        assert_eq!(packages.expire(Time::from_ms(7)), ids(&[1, 3, 4]));
        assert_eq!(packages.devices, [device(1, vec![package(2, 9)], None)]);
        assert_eq!(packages.expire(Time::from_ms(9)), ids(&[2]));
        assert_eq!(packages.last_expiry(), None);
    }

    #[test]
    fn devices_are_ascending_and_counts_bounded() {
        let record = |devices| KeyPackages {
            devices,
            taken: Bucket::default(),
        };
        let read = |record: &KeyPackages| KeyPackages::from_bytes(&record.to_bytes());
        let twice = record(vec![device(1, vec![], None), device(1, vec![], None)]);
        assert!(matches!(
            read(&twice),
            Err(DecodeError::NotAscending { .. })
        ));
        let many = (0..=8).map(|i| device(i, vec![], None)).collect();
        assert!(matches!(
            read(&record(many)),
            Err(DecodeError::TooLong { .. })
        ));
        let eleven = device(1, vec![package(1, 1); 11], None);
        assert!(matches!(
            read(&record(vec![eleven])),
            Err(DecodeError::TooLong { .. })
        ));
        // The largest record fits.
        let full = |i| device(i, vec![package(1, 1); 10], Some(package(2, 2)));
        let largest = record((0..8).map(full).collect());
        assert!(largest.to_bytes().len() <= crate::limits::RECORD_BYTES_MAX);
        assert_eq!(read(&largest), Ok(largest));
    }

    proptest! {
        #[test]
        fn records_have_one_form(
            counts in prop::collection::vec((0usize..=10, any::<bool>()), 0..=8),
            at: u64, garbage: Vec<u8>,
        ) {
            let devices = (0u8..).zip(&counts).map(|(i, (n, last))| {
                device(i, vec![package(i, at); *n], last.then(|| package(9, at)))
            });
            let record = KeyPackages { devices: devices.collect(), taken: Bucket::default() };
            prop_assert_eq!(KeyPackages::from_bytes(&record.to_bytes()), Ok(record));
            let packages = (0u8..).zip(&counts).map(|(i, (_, last))| TakenPackage {
                device: DeviceId::from_bytes([i; 32]),
                package: KeyPackageId::from_bytes([i; 32]),
                last_resort: *last,
            });
            let taken = TakenKeyPackages { expires: Time::from_ms(at), packages: packages.collect() };
            prop_assert_eq!(TakenKeyPackages::from_bytes(&taken.to_bytes()), Ok(taken));
            if let Ok(record) = KeyPackages::from_bytes(&garbage) {
                prop_assert_eq!(record.to_bytes(), garbage.clone());
            }
            if let Ok(record) = TakenKeyPackages::from_bytes(&garbage) {
                prop_assert_eq!(record.to_bytes(), garbage);
            }
        }
    }
}
