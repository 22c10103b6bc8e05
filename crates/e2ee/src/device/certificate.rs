//! The account's word for this device, made anew when the account has other keys.
//!
//! Leaves in groups keep the certificate that they came with: it is by an earlier key of the account, and
//! that is enough for a leaf that is there. With its next commit that gives the leaf new keys a
//! device presents the new one; whatever it makes from now on has it at once.

use openmls::prelude::{LeafNodeParameters, MlsGroup};
use session_core::codec::Decode;
use session_crypto::{SigningKey, SigningPublicKey};

use super::transaction::Transaction;
use super::{Device, Me};
use crate::credential::DeviceClaim;
use crate::directory::Directory;
use crate::error::E2eeError;
use crate::tables::{Counters, DeviceRecord, GroupRecord, KeyPackageRecord, KeyPackageUse, named};
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
    /// ([`Device::republish_until_ms`]), and each group is left a new one for a successor. Answers
    /// whether there was anything to do.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Crypto`], [`E2eeError::Vault`],
    /// [`E2eeError::Stored`].
    pub fn recertify(&mut self, signing: &SigningKey, now_ms: u64) -> Result<bool, E2eeError> {
        let me = self.me.as_ref().ok_or(E2eeError::NotLinked)?;
        if me.is_certified_by(signing.public_key(), &self.crypto) {
            return Ok(false);
        }
        let before = me.certificate.claim().serial.saturating_add(1);
        let (account, device) = (me.member.account, me.member.device);
        let leaf = me.key.public().to_vec();
        let groups = self.groups();
        self.write(|buffer| {
            let record: Option<DeviceRecord> = buffer.load_record(&())?;
            let mut record = record.ok_or(E2eeError::NotLinked)?;
            let mut counters: Counters = buffer.load_record(&())?.unwrap_or_default();
            let claim = DeviceClaim {
                account,
                device,
                not_before_ms: now_ms,
                serial: counters.serial.max(before),
            };
            counters.serial = claim.serial.saturating_add(1);
            record.certificate = Some(claim.certify(signing, &leaf)?);
            for name in buffer.names(&named(b'p', &[])) {
                let Some(bytes) = buffer.get(&name)? else {
                    continue;
                };
                let package = KeyPackageRecord::from_bytes(&bytes).map_err(E2eeError::Stored)?;
                if package.purpose == KeyPackageUse::LastResort {
                    let until = record.republish_until_ms.unwrap_or(0);
                    record.republish_until_ms = Some(until.max(package.expires_ms));
                }
            }
            for group in &groups {
                let known: Option<GroupRecord> = buffer.load_record(group)?;
                if let Some(mut known) = known {
                    // Nobody takes what the key of before has certified.
                    known.reserved_until_ms = 0;
                    buffer.save_record(group, &known);
                }
            }
            buffer.save_record(&(), &record);
            buffer.save_record(&(), &counters);
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
    /// What a commit with an update path puts into this device's leaf: the certificate, where the
    /// leaf has an earlier one and the chain's word is that this one is by the account's current key.
    ///
    /// # Errors
    /// [`Refusal::UnknownAccount`] where `directory` does not answer.
    pub(super) fn renewed_leaf(
        &self,
        loaded: &MlsGroup,
        directory: &dyn Directory,
    ) -> Result<LeafNodeParameters, E2eeError> {
        let (me, ours) = (self.me, self.credential());
        let leaf = loaded.own_leaf_node().ok_or(E2eeError::Library {
            doing: "reading one's own leaf",
        })?;
        if *leaf.credential() == ours.credential {
            return Ok(LeafNodeParameters::default());
        }
        let account = me.member.account;
        let state = directory.account(account);
        let state = state.ok_or(Refusal::UnknownAccount(account))?;
        let good =
            state.revoked_ms.is_none() && me.is_certified_by(&state.current, self.provider.crypto);
        let parameters = LeafNodeParameters::builder();
        Ok(if good {
            parameters.with_credential_with_key(ours).build()
        } else {
            parameters.build()
        })
    }
}
