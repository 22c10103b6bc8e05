//! The device's signature key, and those that it has replaced.
//!
//! ```text
//! renew ─▶ new key, certified ─┬─▶ key packages and groups made from now on
//!                              ├─▶ the leaf, with the next rotation in each group
//!                              └─▶ published key packages, replaced
//! the key before ─▶ kept for the leaf of each group until it has the new one, and for key packages
//!                   until they are used or expire ─▶ erased with the last of them
//! ```
//!
//! What is about an epoch is signed with the key that the leaf had in it: others verify it with that one.

use openmls::prelude::CredentialWithKey;
use session_core::codec::Decode;
use session_core::ids::{Digest, GroupId};
use session_crypto::SigningKey;
use std::collections::BTreeSet;

use super::transaction::Transaction;
use super::{Device, Me};
use crate::credential::DeviceCertificate;
use crate::error::E2eeError;
use crate::provider::LeafKey;
use crate::roster::key_hash;
use crate::tables::{
    DeviceRecord, EpochRecord, FormerKeyRecord, GroupRecord, GroupStatus, KeyPackageRecord,
    PendingRecord, named,
};

/// A signature key of this device: the present one, or one that it has replaced.
pub(crate) enum OwnKey<'a> {
    Present(&'a Me),
    Former(Box<(LeafKey, DeviceCertificate)>),
}

impl OwnKey<'_> {
    pub(crate) const fn key(&self) -> &LeafKey {
        match self {
            Self::Present(me) => &me.key,
            Self::Former(former) => &former.0,
        }
    }

    /// What a leaf with this key shows.
    pub(crate) fn credential(&self) -> CredentialWithKey {
        let certificate = match self {
            Self::Present(me) => &me.certificate,
            Self::Former(former) => &former.1,
        };
        CredentialWithKey {
            credential: certificate.to_credential(),
            signature_key: self.key().public().into(),
        }
    }
}

impl Device {
    /// Gives this device another signature key, certified by its account's key that counts now: both
    /// are durable once this returns. Whoever stole the one before signs nothing more in this device's
    /// name, in each group from the rotation on that gives its leaf the new key: those are due at once
    /// ([`Device::tick`]). Key packages that are published from now on replace those of before
    /// ([`Device::republish_until_ms`]), and each group is left a new one for a successor.
    ///
    /// The key before is erased when no group and no key package that is good needs it any more.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Crypto`], [`E2eeError::Vault`],
    /// [`E2eeError::Stored`].
    pub fn renew_key(&mut self, signing: &SigningKey, now_ms: u64) -> Result<(), E2eeError> {
        let groups = self.groups();
        let ((), _) = self.event(|event| event.renew_key(&groups, signing, now_ms))?;
        self.load_me()
    }

    /// Whether a conversation knows this device by a signature key that it has replaced.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn awaits_key(&self, group: GroupId) -> Result<bool, E2eeError> {
        self.look(|event| {
            let record = event.group(group)?;
            let present = key_hash(event.me.key.public());
            Ok(record.status == GroupStatus::Active && record.leaf_key != present)
        })
    }

    /// How many signature keys this device keeps that it has replaced: 0 once every group has the
    /// present one, and every key package with another is used, or has expired and was deleted
    /// ([`Device::expire_key_packages`]).
    pub fn former_keys(&self) -> usize {
        self.vault.names(b"l").count()
    }
}

impl Transaction<'_> {
    fn renew_key(
        &mut self,
        groups: &[GroupId],
        signing: &SigningKey,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        let seed = self.provider.rand.0.borrow_mut().secret()?;
        let key = LeafKey::from_seed(self.me.suite, seed.clone())?;
        let record: Option<DeviceRecord> = self.buffer().load_record(&())?;
        let mut record = record.ok_or(E2eeError::NotLinked)?;
        let before = record.certificate.take().ok_or(E2eeError::NotLinked)?;
        record.certificate = Some(self.certify(signing, key.public(), now_ms)?);
        let former = FormerKeyRecord {
            seed: core::mem::replace(&mut record.leaf_seed, seed),
            certificate: before,
        };
        self.buffer()
            .save_record(&key_hash(self.me.key.public()), &former);
        self.prepare_groups(groups, &mut record, key_hash(key.public()), now_ms)?;
        self.buffer().save_record(&(), &record);
        Ok(())
    }

    /// The account's word for a signature key of this device, under a number of its own.
    pub(super) fn certify(
        &mut self,
        signing: &SigningKey,
        public: &[u8],
        now_ms: u64,
    ) -> Result<DeviceCertificate, E2eeError> {
        let before = self.me.certificate.claim().serial.saturating_add(1);
        let claim = crate::credential::DeviceClaim {
            account: self.me.member.account,
            device: self.me.member.device,
            not_before_ms: now_ms,
            serial: self.next_serial(before),
        };
        Ok(claim.certify(signing, public)?)
    }

    /// The signature key of this device with this hash, if it has it.
    pub(crate) fn own_key(&self, hash: Digest) -> Result<Option<OwnKey<'_>>, E2eeError> {
        if hash == key_hash(self.me.key.public()) {
            return Ok(Some(OwnKey::Present(self.me)));
        }
        let former: Option<FormerKeyRecord> = self.buffer().load_record(&hash)?;
        let Some(former) = former else {
            return Ok(None);
        };
        let key = LeafKey::from_seed(self.me.suite, former.seed)?;
        Ok(Some(OwnKey::Former(Box::new((key, former.certificate)))))
    }

    /// The key that this device's leaf had in an epoch, if both are known here.
    pub(crate) fn own_key_of(
        &self,
        group: GroupId,
        record: &GroupRecord,
        epoch: u64,
    ) -> Result<Option<OwnKey<'_>>, E2eeError> {
        if epoch == record.epoch {
            return self.own_key(record.leaf_key);
        }
        let epoch: Option<EpochRecord> = self.buffer().load_record(&(group, epoch))?;
        let leaf = epoch.and_then(|epoch| epoch.roster.get(record.own_leaf).copied());
        match leaf {
            Some(leaf) if leaf.member == self.me.member => self.own_key(leaf.key),
            Some(_) | None => Ok(None),
        }
    }

    /// Former keys that a lost group knows this device by, and that this key of the account has not
    /// certified: nobody would be let back in by them.
    pub(super) fn former_keys_to_certify(
        &self,
        account: &session_crypto::SigningPublicKey,
    ) -> Result<Vec<Digest>, E2eeError> {
        let mut lacking = Vec::new();
        for hash in self.keys_of_groups(|status| status == GroupStatus::Lost)? {
            if let Some(OwnKey::Former(former)) = self.own_key(hash)? {
                let verifier = &self.provider.crypto.verifier;
                let certified = former.1.verify(account, former.0.public(), verifier);
                lacking.extend(certified.is_err().then_some(hash));
            }
        }
        Ok(lacking)
    }

    /// Erases former keys that nothing needs any more. It is looked for where an event has touched what
    /// may need one: an epoch, a commit that waits, a key package, a key.
    pub(super) fn forget_former_keys(&self) -> Result<(), E2eeError> {
        let former = self.buffer().names(&named(b'l', &[]));
        if former.is_empty() || !self.buffer().has_changed(b"hwpl") {
            return Ok(());
        }
        let is_used = |status| matches!(status, GroupStatus::Active | GroupStatus::Lost);
        let mut used = self.keys_of_groups(is_used)?;
        for name in self.buffer().names(&named(b'w', &[])) {
            if let Some(bytes) = self.buffer().get(&name)? {
                let pending = PendingRecord::from_bytes(&bytes).map_err(E2eeError::Stored)?;
                used.insert(pending.leaf_key);
            }
        }
        for name in self.buffer().names(&named(b'p', &[])) {
            if let Some(bytes) = self.buffer().get(&name)? {
                let package = KeyPackageRecord::from_bytes(&bytes).map_err(E2eeError::Stored)?;
                used.insert(package.leaf_key);
            }
        }
        for name in former {
            let hash = name
                .last_chunk::<32>()
                .map(|hash| Digest::from_bytes(*hash));
            if !hash.is_some_and(|hash| used.contains(&hash)) {
                self.buffer().delete(name);
            }
        }
        Ok(())
    }

    /// The keys that groups of some status know this device's leaf by.
    fn keys_of_groups(
        &self,
        which: impl Fn(GroupStatus) -> bool,
    ) -> Result<BTreeSet<Digest>, E2eeError> {
        let mut keys = BTreeSet::new();
        for name in self.buffer().names(&named(b'g', &[])) {
            if let Some(bytes) = self.buffer().get(&name)? {
                let record = GroupRecord::from_bytes(&bytes).map_err(E2eeError::Stored)?;
                if which(record.status) {
                    keys.insert(record.leaf_key);
                    keys.extend(record.perhaps_key);
                }
            }
        }
        Ok(keys)
    }
}

#[cfg(test)]
mod tests;
