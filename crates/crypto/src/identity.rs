//! Who somebody is: a KEM key to be written to, and a signing key to speak with.

mod json;
mod rotation;
pub use json::IdentityJsonError;
pub use rotation::{RETIRED_MAX, recovery_key, rotation_signing_key};

use crate::envelope::{self, Opened, Parties};
use crate::error::CryptoError;
use crate::id::IdentityId;
use crate::kem::{KemPublicKey, KemSecretKey};
use crate::phrase::RecoveryPhrase;
use crate::secret::Seed;
use crate::sign::{Signature, SigningKey, SigningPublicKey};
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::AccountId;

/// The public half of an identity, 3136 bytes: KEM key, then signing key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PublicIdentity {
    kem: KemPublicKey,
    signing: SigningPublicKey,
    /// Kept, because hashing 3136 bytes costs a tenth of an envelope.
    account_id: AccountId,
}

impl PublicIdentity {
    /// The identity of these keys.
    pub fn new(kem: KemPublicKey, signing: SigningPublicKey) -> Self {
        let hash = crate::derive::blake2b_256(&[kem.as_bytes(), signing.as_bytes()]);
        Self {
            kem,
            signing,
            account_id: AccountId::from_bytes(hash),
        }
    }

    /// What messages to this identity are sealed to.
    pub const fn kem(&self) -> &KemPublicKey {
        &self.kem
    }

    /// What verifies this identity's signatures.
    pub const fn signing(&self) -> &SigningPublicKey {
        &self.signing
    }

    /// BLAKE2b-256 of KEM key and signing key (`spec/wire.md` §1).
    pub const fn account_id(&self) -> AccountId {
        self.account_id
    }

    /// The session id, `07…`.
    pub const fn id(&self) -> IdentityId {
        IdentityId::Pq(self.account_id)
    }

    /// Seals a message from `sender` to this identity ([`envelope`], format v2).
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn seal(&self, sender: AccountId, plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let parties = Parties {
            sender,
            recipient: self.account_id(),
        };
        envelope::seal(&self.kem, &parties, plaintext)
    }

    /// Checks a signature of this identity.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`].
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), CryptoError> {
        self.signing.verify(message, signature)
    }
}

impl Encode for PublicIdentity {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.kem).value(&self.signing);
    }
}

impl Decode for PublicIdentity {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(Decode::decode(input)?, Decode::decode(input)?))
    }
}

/// A whole identity, with its secrets.
///
/// Its account id is the hash of its first keys and stays when they rotate; [`Identity::public`]
/// are the current ones.
pub struct Identity {
    kem: KemSecretKey,
    signing: SigningKey,
    seed: Option<Seed>,
    public: PublicIdentity,
    account: AccountId,
    /// 0 for the first keys. With a seed: the index that the keys are derived with.
    rotation: u32,
    /// Earlier KEM keys, newest first: what was sealed to them is still to be read.
    retired: Vec<KemSecretKey>,
}

impl Identity {
    /// A new identity with a recovery phrase, from the operating system's randomness.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn generate() -> Result<Self, CryptoError> {
        Self::from_seed(Seed::random()?)
    }

    /// A new identity straight from the operating system's randomness: no seed, so no recovery
    /// phrase, at about half the cost. For keys that live as long as a process or a test.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn generate_without_phrase() -> Result<Self, CryptoError> {
        Ok(Self::assemble(
            KemSecretKey::generate()?,
            SigningKey::generate()?,
            None,
        ))
    }

    /// The identity of a 32-byte seed: keyed BLAKE2b gives the seeds of both keys.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn from_seed(seed: Seed) -> Result<Self, CryptoError> {
        let (kem, signing) = rotation::keys_of(&seed, 0)?;
        Ok(Self::assemble(kem, signing, Some(seed)))
    }

    /// The identity of a recovery phrase.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn from_phrase(phrase: &RecoveryPhrase) -> Result<Self, CryptoError> {
        Self::from_seed(phrase.seed())
    }

    /// The identity of two expanded secret keys, 2400 and 4032 bytes. It has no phrase.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSecretKey`].
    pub fn from_secret_keys(kem: &[u8], signing: &[u8]) -> Result<Self, CryptoError> {
        Ok(Self::assemble(
            KemSecretKey::from_bytes(kem)?,
            SigningKey::from_bytes(signing)?,
            None,
        ))
    }

    /// The public half of the current keys. After a rotation its own hash is not the account id.
    pub const fn public(&self) -> &PublicIdentity {
        &self.public
    }

    /// The account id: hash of the first keys.
    pub const fn account_id(&self) -> AccountId {
        self.account
    }

    /// The session id, `07…`.
    pub const fn id(&self) -> IdentityId {
        IdentityId::Pq(self.account)
    }

    /// The key that opens what is sealed to this identity.
    pub const fn kem_key(&self) -> &KemSecretKey {
        &self.kem
    }

    /// The key that signs for this identity.
    pub const fn signing_key(&self) -> &SigningKey {
        &self.signing
    }

    /// The seed, if the identity came from one.
    pub const fn seed(&self) -> Option<&Seed> {
        self.seed.as_ref()
    }

    /// The 24 words that bring this identity back, if it came from a seed.
    pub fn recovery_phrase(&self) -> Option<RecoveryPhrase> {
        self.seed.as_ref().map(RecoveryPhrase::of_seed)
    }

    /// Signs as this identity.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn sign(&self, message: &[u8]) -> Result<Signature, CryptoError> {
        self.signing.sign(message)
    }

    /// Seals a message from this identity to `recipient` ([`envelope`], format v2).
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn seal_to(
        &self,
        recipient: &PublicIdentity,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        recipient.seal(self.account_id(), plaintext)
    }

    /// Opens an envelope to this identity that claims to be from `sender`.
    ///
    /// # Errors
    /// [`CryptoError::InvalidCiphertext`], [`CryptoError::DecryptionFailed`].
    pub fn open(&self, sender: AccountId, envelope: &[u8]) -> Result<Opened, CryptoError> {
        let parties = Parties {
            sender,
            recipient: self.account_id(),
        };
        self.with_each_kem_key(|key| envelope::open(key, &parties, envelope))
    }

    /// Opens an envelope to this identity and others ([`envelope::many`], format v3).
    /// `recipients` are all that it must be sealed to, ascending.
    ///
    /// # Errors
    /// [`CryptoError::InvalidCiphertext`], [`CryptoError::DecryptionFailed`].
    pub fn open_many(
        &self,
        sender: AccountId,
        recipients: &[AccountId],
        envelope: &[u8],
    ) -> Result<Vec<u8>, CryptoError> {
        let me = self.account;
        self.with_each_kem_key(|key| envelope::many::open(key, &sender, &me, recipients, envelope))
    }

    /// The current key first, then those before it: what was sealed to one of them opens.
    fn with_each_kem_key<T>(
        &self,
        open: impl Fn(&KemSecretKey) -> Result<T, CryptoError>,
    ) -> Result<T, CryptoError> {
        let mut result = open(&self.kem);
        for key in &self.retired {
            if !matches!(result, Err(CryptoError::DecryptionFailed)) {
                break;
            }
            result = open(key);
        }
        result
    }

    pub(crate) fn assemble(kem: KemSecretKey, signing: SigningKey, seed: Option<Seed>) -> Self {
        let public = PublicIdentity::new(kem.public_key().clone(), signing.public_key().clone());
        Self {
            account: public.account_id(),
            kem,
            signing,
            seed,
            public,
            rotation: 0,
            retired: Vec::new(),
        }
    }
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Identity({}, Secret(..))", self.id())
    }
}

#[cfg(test)]
mod tests;
