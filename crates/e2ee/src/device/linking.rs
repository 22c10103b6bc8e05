//! A further device of an account: see [`crate::link`].

use session_crypto::{KemSecretKey, Secret};

use super::{Device, Storage};
use crate::credential::DeviceId;
use crate::directory::Directory;
use crate::error::E2eeError;
use crate::link::{LinkCode, LinkGrant, LinkRequest};
use crate::provider::LeafKey;
use crate::rotation::RotationPolicy;
use crate::suite::Suite;
use crate::tables::{Counters, DeviceRecord};
use crate::verdict::Refusal;
use session_core::ids::AccountId;

impl Device {
    /// Makes a device that waits to be linked, in a store that has none. Answers the code that is to
    /// be shown, and the request that is to be laid at [`LinkCode::place`].
    ///
    /// # Errors
    /// [`E2eeError::DeviceExists`], [`E2eeError::TooLarge`], [`E2eeError::Vault`],
    /// [`E2eeError::Crypto`].
    pub fn request_link(
        storage: Storage,
        suite: Suite,
        name: &str,
    ) -> Result<(Self, LinkCode, Vec<u8>), E2eeError> {
        let mut this = Self::empty(storage, name)?;
        let (code, leaf_seed, kem_seed, device) = {
            let mut randomness = this.rand.0.borrow_mut();
            let code = LinkCode::generate(&mut randomness)?;
            let leaf_seed = randomness.secret()?;
            let mut kem_seed = zeroize::Zeroizing::new([0; 64]);
            randomness.fill(&mut kem_seed[..])?;
            let device = DeviceId::from_bytes(randomness.bytes()?);
            (code, leaf_seed, Secret::new(*kem_seed), device)
        };
        let leaf = LeafKey::from_seed(suite, leaf_seed.clone())?;
        let kem = KemSecretKey::from_seed(&kem_seed)?;
        let request = LinkRequest::seal(suite, device, name, leaf.public(), &kem, &code)?;
        let record = DeviceRecord {
            suite,
            // Not known yet.
            account: AccountId::from_bytes([0; 32]),
            device,
            name: name.to_owned(),
            leaf_seed,
            certificate: None,
            link: Some((code.secret().clone(), kem_seed)),
            republish_until_ms: None,
            rotation: RotationPolicy::default(),
        };
        this.write(|buffer| {
            buffer.save_record(&(), &record);
            Ok(())
        })?;
        Ok((this, code, request))
    }

    /// Takes what the account's other device has sealed. From now on this one can be invited.
    /// Answers the payload. The link's secrets are erased.
    ///
    /// # Errors
    /// [`E2eeError::DeviceExists`] when it is linked already, [`E2eeError::LinkDoesNotOpen`],
    /// [`E2eeError::Refused`] for a certificate that is not the account's.
    pub fn accept_grant(
        &mut self,
        grant: &[u8],
        directory: &dyn Directory,
    ) -> Result<Vec<u8>, E2eeError> {
        let mut record = self.record()?.ok_or(E2eeError::NotLinked)?;
        let (code, kem_seed) = record.link.take().ok_or(E2eeError::DeviceExists)?;
        let kem = KemSecretKey::from_seed(&kem_seed)?;
        let grant = LinkGrant::open(&LinkCode::from_secret(code), &kem, grant)?;
        let claim = grant.certificate.claim();
        let leaf = LeafKey::from_seed(record.suite, record.leaf_seed.clone())?;
        let account = directory
            .account(claim.account)
            .ok_or(Refusal::UnknownAccount(claim.account))?;
        if account.revoked_ms.is_some() {
            return Err(Refusal::RevokedAccount(claim.account).into());
        }
        let verifier = &self.crypto.verifier;
        let certified = grant
            .certificate
            .verify(&account.current, leaf.public(), verifier);
        if claim.device != record.device || certified.is_err() {
            return Err(Refusal::NotCertified(claim.account).into());
        }
        record.account = claim.account;
        record.certificate = Some(grant.certificate.clone());
        self.write(|buffer| {
            buffer.save_record(&(), &record);
            Ok(())
        })?;
        self.load_me()?;
        Ok(grant.payload)
    }

    /// Certifies a device that asks to be linked to this account, with the account's own key.
    /// Answers the sealed grant. The caller has shown the request to a person.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Crypto`], [`E2eeError::TooLarge`].
    pub fn grant_link(
        &mut self,
        code: &LinkCode,
        request: &LinkRequest,
        signing: &session_crypto::SigningKey,
        payload: &[u8],
        now_ms: u64,
    ) -> Result<Vec<u8>, E2eeError> {
        let account = self.member()?.account;
        // The number is used up before the certificate leaves.
        let serial = self.write(|buffer| {
            let mut counters: Counters = buffer.load_record(&())?.unwrap_or_default();
            let serial = counters.serial;
            counters.serial = serial.saturating_add(1);
            buffer.save_record(&(), &counters);
            Ok(serial)
        })?;
        request.grant(code, account, signing, serial, now_ms, payload)
    }
}
