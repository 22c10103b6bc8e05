//! `05` accounts of the Session network: an Ed25519 key that signs, and its X25519 image that is
//! the id (`spec/wire.md` §1). Classical cryptography: it authenticates, nothing is sealed to it.

use crate::error::{CryptoError, Flaw, exact};
use crate::id::IdentityId;
use crate::secret::{Secret, SharedSecret};
use ed25519_dalek::Signer as _;
use session_core::ids::AccountId;

/// Bytes of an Ed25519 signature.
pub const LEGACY_SIGNATURE_BYTES: usize = 64;

/// The public half of a legacy account: its Ed25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyPublicIdentity(ed25519_dalek::VerifyingKey);

impl LegacyPublicIdentity {
    /// Reads a 32-byte Ed25519 key.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`] for a wrong length, a point off the curve or one of
    /// small order, under which anybody could sign.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        let bytes = exact::<32>(bytes).map_err(CryptoError::InvalidPublicKey)?;
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes)
            .map_err(|_| CryptoError::InvalidPublicKey(Flaw::Refused))?;
        if key.is_weak() {
            return Err(CryptoError::InvalidPublicKey(Flaw::Range));
        }
        Ok(Self(key))
    }

    /// The 32 bytes of the Ed25519 key.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The session id, `05…`: the birational image of the key on Curve25519.
    pub fn id(&self) -> IdentityId {
        IdentityId::Legacy(AccountId::from_bytes(self.0.to_montgomery().to_bytes()))
    }

    /// Checks an Ed25519 signature of 64 bytes, strictly (no malleable forms).
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let bytes =
            exact::<LEGACY_SIGNATURE_BYTES>(signature).map_err(CryptoError::InvalidSignature)?;
        self.0
            .verify_strict(message, &ed25519_dalek::Signature::from_bytes(bytes))
            .map_err(|_| CryptoError::InvalidSignature(Flaw::Refused))
    }
}

/// A whole legacy account.
pub struct LegacyIdentity(ed25519_dalek::SigningKey);

impl LegacyIdentity {
    /// A new account from the operating system's randomness.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`].
    pub fn generate() -> Result<Self, CryptoError> {
        Ok(Self::from_seed(&Secret::random()?))
    }

    /// The account of a 32-byte Ed25519 seed.
    pub fn from_seed(seed: &Secret<32>) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(seed.expose()))
    }

    /// The public half.
    pub fn public(&self) -> LegacyPublicIdentity {
        LegacyPublicIdentity(self.0.verifying_key())
    }

    /// The session id, `05…`.
    pub fn id(&self) -> IdentityId {
        self.public().id()
    }

    /// An Ed25519 signature of 64 bytes.
    pub fn sign(&self, message: &[u8]) -> [u8; LEGACY_SIGNATURE_BYTES] {
        self.0.sign(message).to_bytes()
    }

    /// The X25519 shared secret with another legacy account.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`] when the other key forces the result.
    pub fn agree(&self, other: &AccountId) -> Result<SharedSecret, CryptoError> {
        x25519(&Secret::new(self.0.to_scalar_bytes()), other.as_bytes())
    }
}

impl core::fmt::Debug for LegacyIdentity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "LegacyIdentity({}, Secret(..))", self.id())
    }
}

/// X25519 (RFC 7748 §5), refusing the all-zero result of low-order keys (§6.1).
///
/// # Errors
/// [`CryptoError::InvalidPublicKey`] with [`Flaw::Range`].
pub fn x25519(secret: &Secret<32>, public: &[u8; 32]) -> Result<SharedSecret, CryptoError> {
    let shared = x25519_dalek::StaticSecret::from(*secret.expose())
        .diffie_hellman(&x25519_dalek::PublicKey::from(*public));
    if shared.was_contributory() {
        Ok(SharedSecret::new(shared.to_bytes()))
    } else {
        Err(CryptoError::InvalidPublicKey(Flaw::Range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 §7.1, test 2: one byte is signed.
    #[test]
    fn a_seed_signs_as_the_rfc_says() {
        let bytes = |hex: &str| const_hex::decode(hex).unwrap();
        let seed = bytes("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let identity = LegacyIdentity::from_seed(&Secret::copy_from(&seed).unwrap());
        let key = bytes("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(identity.public().as_bytes()[..], key);
        assert_eq!(
            LegacyPublicIdentity::from_bytes(&key),
            Ok(identity.public())
        );
        let signature = bytes(
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        );
        assert_eq!(identity.sign(b"\x72")[..], signature);
        assert_eq!(identity.public().verify(b"\x72", &signature), Ok(()));
        let refused = Err(CryptoError::InvalidSignature(Flaw::Refused));
        assert_eq!(identity.public().verify(b"\x73", &signature), refused);
        let other = LegacyIdentity::from_seed(&Secret::new([1; 32])).public();
        assert_eq!(other.verify(b"\x72", &signature), refused);
        let flaw = Flaw::Length {
            expected: 64,
            got: 63,
        };
        let short = identity.public().verify(b"\x72", &signature[..63]);
        assert_eq!(short, Err(CryptoError::InvalidSignature(flaw)));
    }

    #[test]
    fn two_accounts_agree_and_a_key_of_low_order_forces_nothing() {
        let (a, b) = (
            LegacyIdentity::generate().unwrap(),
            LegacyIdentity::generate().unwrap(),
        );
        assert_ne!(a.id(), b.id());
        let shared = a.agree(&b.id().account_id()).unwrap();
        assert_eq!(b.agree(&a.id().account_id()), Ok(shared.clone()));
        assert_ne!(a.agree(&a.id().account_id()), Ok(shared));
        let range = Err(CryptoError::InvalidPublicKey(Flaw::Range));
        assert_eq!(a.agree(&AccountId::from_bytes([0; 32])), range);
        // The neutral element: every signature of a certain form would hold.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let refused = LegacyPublicIdentity::from_bytes(&neutral);
        assert_eq!(refused, Err(CryptoError::InvalidPublicKey(Flaw::Range)));
    }
}
