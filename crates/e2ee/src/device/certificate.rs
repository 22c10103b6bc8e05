//! The account's word for this device, made anew when the account has other keys. When the device has
//! another key: `signature_key.rs`.
//!
//! Leaves in groups keep the certificate that they came with: it is by an earlier key of the account, and
//! that is enough for a leaf that is there. With its next commit that gives the leaf new keys a
//! device presents the new one; whatever it makes from now on has it at once.

use openmls::prelude::{CredentialWithKey, MlsGroup};
use session_core::codec::Decode;
use session_core::ids::{Digest, GroupId};
use session_crypto::{SigningKey, SigningPublicKey};

use super::transaction::Transaction;
use super::{Device, Me};
use crate::directory::Directory;
use crate::error::E2eeError;
use crate::provider::LeafKey;
use crate::roster::key_hash;
use crate::tables::{
    DeviceRecord, FormerKeyRecord, GroupStatus, KeyPackageRecord, KeyPackageUse, PendingRecord,
    named,
};
use crate::verdict::Refusal;

impl Device {
    /// Whether this key of its account has certified it.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`].
    pub fn is_certified_by(&self, account: &SigningPublicKey) -> Result<bool, E2eeError> {
        let me = self.me.as_ref().ok_or(E2eeError::NotLinked)?;
        Ok(me.is_certified_by(account, &self.crypto))
    }

    /// Certifies this device by the account's key that counts now, unless it is: durable once this
    /// returns. Key packages that are published from now on replace those of before
    /// ([`Device::republish_until_ms`]), and each group is left a new one for a successor. A signature key
    /// of before that a lost group knows it by is certified too. Answers whether there was anything to do.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Crypto`], [`E2eeError::Vault`],
    /// [`E2eeError::Stored`].
    pub fn recertify(&mut self, signing: &SigningKey, now_ms: u64) -> Result<bool, E2eeError> {
        let account = signing.public_key();
        let present = !self.is_certified_by(account)?;
        let former = self.look(|event| event.former_keys_to_certify(account))?;
        if !present && former.is_empty() {
            return Ok(false);
        }
        let groups = self.groups();
        let ((), _) = self.event(|event| {
            for hash in former {
                event.recertify_former(hash, signing, now_ms)?;
            }
            if present {
                event.recertify(&groups, signing, now_ms)?;
            }
            Ok(())
        })?;
        self.load_me()?;
        Ok(true)
    }

    /// Until when key packages are to be published that replace those of an earlier certificate;
    /// none: there is nothing to replace. [`Device::republished`] says that it is done.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn republish_until_ms(&self) -> Result<Option<u64>, E2eeError> {
        let record = self.record()?.ok_or(E2eeError::NotLinked)?;
        Ok(record.republish_until_ms)
    }

    /// Key packages under the present certificate were published.
    ///
    /// # Errors
    /// As [`Device::republish_until_ms`].
    pub fn republished(&mut self) -> Result<(), E2eeError> {
        let mut record = self.record()?.ok_or(E2eeError::NotLinked)?;
        if record.republish_until_ms.take().is_none() {
            return Ok(());
        }
        self.write(|buffer| {
            buffer.save_record(&(), &record);
            Ok(())
        })
    }
}

impl Me {
    fn is_certified_by(
        &self,
        account: &SigningPublicKey,
        crypto: &crate::provider::Crypto,
    ) -> bool {
        let verified = self
            .certificate
            .verify(account, self.key.public(), &crypto.verifier);
        verified.is_ok()
    }
}

impl Transaction<'_> {
    fn recertify(
        &mut self,
        groups: &[GroupId],
        signing: &SigningKey,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        let record: Option<DeviceRecord> = self.buffer().load_record(&())?;
        let mut record = record.ok_or(E2eeError::NotLinked)?;
        record.certificate = Some(self.certify(signing, self.me.key.public(), now_ms)?);
        let key = key_hash(self.me.key.public());
        self.prepare_groups(groups, &mut record, key, now_ms)?;
        self.buffer().save_record(&(), &record);
        Ok(())
    }

    fn recertify_former(
        &mut self,
        hash: Digest,
        signing: &SigningKey,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        let former: Option<FormerKeyRecord> = self.buffer().load_record(&hash)?;
        let Some(mut former) = former else {
            return Ok(());
        };
        let key = LeafKey::from_seed(self.me.suite, former.seed.clone())?;
        former.certificate = self.certify(signing, key.public(), now_ms)?;
        self.buffer().save_record(&hash, &former);
        Ok(())
    }

    /// Published key packages, and those left in groups for a successor, are to be made anew; where a
    /// leaf has another signature key than `key`, the rotation that gives it this one is due.
    pub(super) fn prepare_groups(
        &self,
        groups: &[GroupId],
        device: &mut DeviceRecord,
        key: Digest,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        let buffer = self.buffer();
        for name in buffer.names(&named(b'p', &[])) {
            let Some(bytes) = buffer.get(&name)? else {
                continue;
            };
            let package = KeyPackageRecord::from_bytes(&bytes).map_err(E2eeError::Stored)?;
            if package.purpose == KeyPackageUse::LastResort {
                let until = device.republish_until_ms.unwrap_or(0);
                device.republish_until_ms = Some(until.max(package.expires_ms));
            }
        }
        for group in groups {
            let mut known = self.group(*group)?;
            // Nobody takes what an account's earlier key has certified.
            known.reserved_until_ms = 0;
            if known.status == GroupStatus::Active && known.leaf_key != key {
                known.rotate_at_ms = known.rotate_at_ms.min(now_ms);
                let pending: Option<PendingRecord> = buffer.load_record(group)?;
                if let Some(mut pending) = pending {
                    pending.then_rotate = pending.leaf_key != key;
                    buffer.save_record(group, &pending);
                }
            }
            buffer.save_record(group, &known);
        }
        Ok(())
    }

    /// What a commit with an update path puts into this device's leaf: the certificate, and with it the
    /// signature key, where the leaf has earlier ones and the chain's word is that this one is by the
    /// account's current key. None: the leaf keeps what it has.
    ///
    /// # Errors
    /// [`Refusal::UnknownAccount`] where `directory` does not answer.
    pub(super) fn renewed_leaf(
        &self,
        loaded: &MlsGroup,
        directory: &dyn Directory,
    ) -> Result<Option<CredentialWithKey>, E2eeError> {
        let (me, ours) = (self.me, self.credential());
        let leaf = loaded.own_leaf_node().ok_or(E2eeError::Library {
            doing: "reading one's own leaf",
        })?;
        if *leaf.credential() == ours.credential {
            return Ok(None);
        }
        let account = me.member.account;
        let state = directory.account(account);
        let state = state.ok_or(Refusal::UnknownAccount(account))?;
        let good =
            state.revoked_ms.is_none() && me.is_certified_by(&state.current, self.provider.crypto);
        Ok(good.then_some(ours))
    }
}
