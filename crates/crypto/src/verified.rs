//! The door between what somebody sent and what somebody said.
//!
//! A [`Signed`] value is untrusted. It becomes [`Verified`] only here, and the machines of the
//! protocol accept nothing else.

use crate::error::{CryptoError, Flaw};
use crate::sign::{Signature, SigningKey, SigningPublicKey};
use crate::verifier::VerifierCache;

/// What can be signed: a value whose signed bytes name their purpose (`session_core::hash::Tag`),
/// because pure ML-DSA with an empty context separates no domains by itself.
pub trait Signable {
    /// The bytes under the signature.
    fn signing_bytes(&self) -> Vec<u8>;
}

/// A value and a signature that nobody has checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    /// The value.
    pub value: T,
    /// Its alleged signature.
    pub signature: Signature,
}

/// A value whose signature was checked. Only [`Signed::verify`] and [`Signed::make`] make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    value: T,
    signature: Signature,
}

impl<T: Signable> Signed<T> {
    /// Signs a value of our own, which needs no check.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn make(value: T, key: &SigningKey) -> Result<Verified<T>, CryptoError> {
        let signature = key.sign(&value.signing_bytes())?;
        Ok(Verified { value, signature })
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`]; the value is gone with it.
    pub fn verify(
        self,
        key: &SigningPublicKey,
        cache: &VerifierCache,
    ) -> Result<Verified<T>, CryptoError> {
        cache.verify(key, &self.value.signing_bytes(), &self.signature)?;
        Ok(Verified {
            value: self.value,
            signature: self.signature,
        })
    }
}

impl<T> Verified<T> {
    /// The value.
    pub const fn value(&self) -> &T {
        &self.value
    }

    /// The signature that was checked.
    pub const fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The value without its signature.
    pub fn into_value(self) -> T {
        self.value
    }

    /// Back to the form that travels.
    pub fn into_signed(self) -> Signed<T> {
        Signed {
            value: self.value,
            signature: self.signature,
        }
    }
}

/// The published signed message: `signature 3309 || message` (`spec/wire.md` §1).
///
/// # Errors
/// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
pub fn sign_message(key: &SigningKey, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let signature = key.sign(message)?;
    Ok([signature.as_ref(), message].concat())
}

/// The message inside a published signed message, once its signature is checked.
///
/// # Errors
/// [`CryptoError::InvalidSignature`].
pub fn open_signed_message<'a>(
    key: &SigningPublicKey,
    signed: &'a [u8],
) -> Result<&'a [u8], CryptoError> {
    let (signature, message) =
        signed
            .split_at_checked(Signature::BYTES)
            .ok_or(CryptoError::InvalidSignature(Flaw::Length {
                expected: Signature::BYTES,
                got: signed.len(),
            }))?;
    key.verify(message, &Signature::try_from(signature)?)?;
    Ok(message)
}
