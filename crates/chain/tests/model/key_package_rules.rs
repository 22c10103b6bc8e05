//! Rules of key packages.

use session_chain::state::TxError;
use session_chain::tx::key_package::{NewKeyPackage, PublishKeyPackages, TakeKeyPackages};
use session_chain::tx::{Tx, TxIds};
use session_core::ids::AccountId;
use session_core::parameters::Rate;
use session_core::record::{Outcome, RecordKey};
use session_core::time::DAY_MS;

use super::rules::{Result, fill};
use super::state::{MDevice, MPackages, MTaken, Model};

impl MDevice {
    fn all(&self) -> impl Iterator<Item = &(u64, Vec<u8>)> {
        self.one_time.iter().chain(&self.last_resort)
    }
}

impl MPackages {
    pub(crate) fn last_expiry(&self) -> Option<u64> {
        let all = self.devices.values().flat_map(MDevice::all);
        all.map(|(expires, _)| *expires).max()
    }

    fn tidy(&mut self, now: u64) {
        for device in self.devices.values_mut() {
            device.one_time.retain(|(expires, _)| *expires > now);
            device.last_resort.take_if(|(expires, _)| *expires <= now);
        }
        self.devices.retain(|_, device| device.all().count() > 0);
    }
}

impl Model {
    /// An account's packages that have not expired.
    fn packages(&self, account: &AccountId) -> MPackages {
        let mut packages = self.key_packages.get(account).cloned().unwrap_or_default();
        packages.tidy(self.time);
        packages
    }

    fn keep_packages(&mut self, account: AccountId, mut packages: MPackages) {
        packages.tidy(self.time);
        if packages.devices.is_empty() {
            self.key_packages.remove(&account);
        } else {
            self.key_packages.insert(account, packages);
        }
        self.touch(RecordKey::KeyPackages(account));
    }

    pub(crate) fn publish(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &PublishKeyPackages,
    ) -> Result<Outcome> {
        self.signer(tx, ids)?;
        let now = self.time;
        let mut packages = self.packages(&tx.signer);
        if packages.devices.len() >= 8 && !packages.devices.contains_key(&k.device) {
            let what = "devices with key packages";
            return Err(TxError::LimitReached { what });
        }
        let device = packages.devices.entry(k.device).or_default();
        if k.replace {
            *device = MDevice::default();
        }
        let check = |packages: &MPackages, new: &NewKeyPackage| {
            let expires = new.expires.ms();
            if expires <= now || expires - now > 90 * DAY_MS {
                return Err(TxError::KeyPackageExpiry { now });
            }
            let mut all = packages.devices.values().flat_map(MDevice::all);
            if all.any(|(_, bytes)| *bytes == new.bytes) {
                return Err(TxError::KeyPackageKnown);
            }
            Ok((expires, new.bytes.clone()))
        };
        for new in &k.one_time {
            let package = check(&packages, new)?;
            let device = packages.devices.get_mut(&k.device).unwrap();
            if device.one_time.len() == 10 {
                let what = "one-time key packages of one device";
                return Err(TxError::LimitReached { what });
            }
            device.one_time.push(package);
        }
        if let Some(new) = &k.last_resort {
            let package = check(&packages, new)?;
            packages.devices.get_mut(&k.device).unwrap().last_resort = Some(package);
        }
        self.keep_packages(tx.signer, packages);
        Ok(Outcome::Done)
    }

    pub(crate) fn take_packages(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &TakeKeyPackages,
    ) -> Result<Outcome> {
        self.signer(tx, ids)?;
        let (now, pair) = (self.time, (tx.signer, k.target));
        let before = self.taken_packages.get(&pair).filter(|t| t.expires > now);
        let before = before.cloned();
        let target = self.accounts.get(&k.target).filter(|t| t.keys.is_some());
        if target.ok_or(TxError::UnknownAccount)?.revoked.is_some() {
            return Err(TxError::NoKeyPackages);
        }
        let mut packages = self.packages(&k.target);
        // Twenty takers a day, of which each gives a day back in a day.
        let rate = Rate {
            per_second: 20_000,
            burst: 20 * DAY_MS,
        };
        let some = packages.devices.values().any(|d| !d.one_time.is_empty());
        let may =
            before.is_none() && some && fill(&mut packages.taken, now, DAY_MS, rate, "").is_ok();
        let mut given = Vec::new();
        for (id, device) in &mut packages.devices {
            if may && !device.one_time.is_empty() {
                given.push((*id, device.one_time.remove(0).1, false));
            } else if let Some((_, bytes)) = &device.last_resort {
                given.push((*id, bytes.clone(), true));
            }
        }
        if let Some(before) = &before
            && (given.is_empty() || given == before.given)
        {
            return Err(TxError::RateLimited {
                what: "key packages of one account for one taker",
                retry_ms: before.expires - now,
            });
        }
        if given.is_empty() {
            return Err(TxError::NoKeyPackages);
        }
        self.copied = given.iter().map(|(_, bytes, _)| bytes.len() as u64).sum();
        self.keep_packages(k.target, packages);
        let count = |last: bool| {
            let some = given.iter().filter(|(_, _, l)| *l == last);
            u8::try_from(some.count()).unwrap()
        };
        let outcome = Outcome::KeyPackages {
            one_time: count(false),
            last_resort: count(true),
        };
        let expires = before.map_or(now + DAY_MS, |before| before.expires);
        self.taken_packages.insert(pair, MTaken { expires, given });
        self.touch(RecordKey::TakenKeyPackages(pair.0, pair.1));
        Ok(outcome)
    }
}
