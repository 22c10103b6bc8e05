//! The keys that follow the first ones, and the recovery key (`spec/crypto.md` Seeds).
//!
//! With a seed the keys of rotation `i` come from it: keyed BLAKE2b over the purpose tag and, from
//! the first rotation on, `i` as four bytes. So 24 words bring back every key that an account ever
//! had, and whoever has them has all of them too.

use super::{Identity, PublicIdentity};
use crate::derive::keyed;
use crate::error::CryptoError;
use crate::kem::KemSecretKey;
use crate::secret::Seed;
use crate::sign::{SigningKey, SigningPublicKey};
use session_core::hash::Tag;
use session_core::ids::AccountId;

/// Earlier KEM keys that an identity keeps: 32 expanded ones are 77 kB in its file.
pub const RETIRED_MAX: usize = 32;

/// The keys of one rotation.
pub(super) fn keys_of(
    seed: &Seed,
    rotation: u32,
) -> Result<(KemSecretKey, SigningKey), CryptoError> {
    let index = rotation.to_be_bytes();
    // Nothing is appended for the first keys, which existed before rotations did.
    let index: &[u8] = if rotation == 0 { &[] } else { &index };
    let signing = SigningKey::from_seed(&keyed(seed, Tag::SeedSign, &[index]))?;
    Ok((kem_of(seed, index)?, signing))
}

fn kem_of(seed: &Seed, index: &[u8]) -> Result<KemSecretKey, CryptoError> {
    KemSecretKey::from_seed(&keyed(seed, Tag::SeedKem, &[index]))
}

/// The recovery key of a seed: it may replace the keys of its account whoever set them last.
///
/// # Errors
/// [`CryptoError::Library`].
pub fn recovery_key(seed: &Seed) -> Result<SigningKey, CryptoError> {
    SigningKey::from_seed(&keyed(seed, Tag::SeedRecovery, &[]))
}

/// The public signing key of a rotation, at a fifth of the cost of the whole identity: for
/// finding the current one.
///
/// # Errors
/// [`CryptoError::Library`].
pub fn rotation_signing_key(seed: &Seed, rotation: u32) -> Result<SigningPublicKey, CryptoError> {
    let index = rotation.to_be_bytes();
    let index: &[u8] = if rotation == 0 { &[] } else { &index };
    let key = SigningKey::from_seed(&keyed(seed, Tag::SeedSign, &[index]))?;
    Ok(key.public_key().clone())
}

impl Identity {
    /// The identity of a seed with the keys of a rotation. The KEM keys of the
    /// [`RETIRED_MAX`] rotations before it still open what was sealed to them.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn from_seed_at(seed: Seed, rotation: u32) -> Result<Self, CryptoError> {
        if rotation == 0 {
            return Self::from_seed(seed);
        }
        let (kem, signing) = keys_of(&seed, 0)?;
        let first = PublicIdentity::new(kem.public_key().clone(), signing.public_key().clone());
        let mut retired = Vec::new();
        for earlier in (1..rotation).rev().take(RETIRED_MAX) {
            retired.push(kem_of(&seed, &earlier.to_be_bytes())?);
        }
        if retired.len() < RETIRED_MAX {
            retired.push(kem);
        }
        let (kem, signing) = keys_of(&seed, rotation)?;
        let mut this = Self::assemble(kem, signing, Some(seed));
        (this.account, this.rotation, this.retired) = (first.account_id(), rotation, retired);
        Ok(this)
    }

    /// Puts together an identity without a seed that has rotated.
    pub(crate) fn rotated(
        account: AccountId,
        rotation: u32,
        kem: KemSecretKey,
        signing: SigningKey,
        retired: Vec<KemSecretKey>,
    ) -> Self {
        let mut this = Self::assemble(kem, signing, None);
        (this.account, this.rotation, this.retired) = (account, rotation, retired);
        this
    }

    /// This account with its next keys: those of `rotation` where it has a seed, fresh ones
    /// otherwise. Nothing is changed by it: they count once the chain has accepted them.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn next(&self, rotation: u32) -> Result<Self, CryptoError> {
        if let Some(seed) = &self.seed {
            return Self::from_seed_at(seed.clone(), rotation);
        }
        let mut retired = vec![KemSecretKey::from_bytes(self.kem.expose())?];
        for key in self.retired.iter().take(RETIRED_MAX - 1) {
            retired.push(KemSecretKey::from_bytes(key.expose())?);
        }
        Ok(Self::rotated(
            self.account,
            rotation,
            KemSecretKey::generate()?,
            SigningKey::generate()?,
            retired,
        ))
    }

    /// The same identity once more. Secrets are not copied by accident, so this is no `Clone`.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn duplicate(&self) -> Result<Self, CryptoError> {
        if let Some(seed) = &self.seed {
            return Self::from_seed_at(seed.clone(), self.rotation);
        }
        self.without_seed()
    }

    /// The same keys without the seed they came from: whoever gets hold of these has neither the
    /// 24 words nor the recovery key.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn without_seed(&self) -> Result<Self, CryptoError> {
        let mut retired = Vec::with_capacity(self.retired.len());
        for key in &self.retired {
            retired.push(KemSecretKey::from_bytes(key.expose())?);
        }
        Ok(Self::rotated(
            self.account,
            self.rotation,
            KemSecretKey::from_bytes(self.kem.expose())?,
            SigningKey::from_bytes(self.signing.expose())?,
            retired,
        ))
    }

    /// 0 for the first keys of the account; of an identity with a seed, what its current keys
    /// are derived with.
    pub const fn rotation(&self) -> u32 {
        self.rotation
    }

    /// Earlier KEM keys, newest first.
    pub(crate) fn retired(&self) -> &[KemSecretKey] {
        &self.retired
    }

    /// The recovery key, where there is a seed.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn recovery_key(&self) -> Result<Option<SigningKey>, CryptoError> {
        self.seed.as_ref().map(recovery_key).transpose()
    }
}
