//! RustCrypto: no C compiler, wasm included, and the oracle of the other backend's tests.

// Expanded keys are the format of the published Go project (`spec/wire.md` §1); their ranges are
// checked before RustCrypto, which calls the form deprecated, sees them.
#![allow(
    deprecated,
    reason = "expanded secret keys are the interoperable format"
)]

use super::{
    Backend, KEM_CIPHERTEXT_BYTES, KEM_PUBLIC_KEY_BYTES, KemSecretBytes, NONCE_BYTES,
    SIGNATURE_BYTES, SIGNING_PUBLIC_KEY_BYTES, SigningParts, SigningSecretBytes, TAG_BYTES,
};
use crate::error::{CryptoError, Flaw};
use crate::secret::{Secret, SharedSecret};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use ml_dsa::{ExpandedSigningKey, MlDsa65, VerifyingKey};
use ml_kem::{Decapsulate, DecapsulationKey768, EncapsulationKey768, ExpandedKeyEncoding};
use zeroize::Zeroize;

/// The backend of wasm, and the oracle of tests.
#[derive(Debug)]
pub struct Portable;

/// A parsed ML-DSA-65 key.
#[derive(Debug)]
pub struct Signer(Box<ExpandedSigningKey<MlDsa65>>);

/// A parsed ML-KEM-768 key.
#[derive(Debug)]
pub struct Decapsulator(Box<DecapsulationKey768>);

impl Backend for Portable {
    const NAME: &'static str = "RustCrypto";
    type Signer = Signer;
    type Decapsulator = Decapsulator;

    fn sign_generate() -> Result<SigningParts<Signer>, CryptoError> {
        Self::sign_from_seed(&Secret::random()?)
    }

    fn sign_from_seed(seed: &Secret<32>) -> Result<SigningParts<Signer>, CryptoError> {
        parts(ExpandedSigningKey::from_seed(seed.expose().into()))
    }

    fn sign_from_secret(secret: SigningSecretBytes) -> Result<SigningParts<Signer>, CryptoError> {
        super::check_signing_secret(&secret).map_err(CryptoError::InvalidSecretKey)?;
        let encoded = ml_dsa::ExpandedSigningKeyBytes::<MlDsa65>::try_from(&secret.expose()[..])
            .map_err(|_| CryptoError::Library)?;
        let parts = parts(ExpandedSigningKey::from_expanded(&encoded))?;
        // The library takes `tr` and `t0` as they come. A key whose parts were mixed would sign
        // what nobody can verify, so it has to sign something that verifies.
        let probe = Self::sign_deterministic(&parts.signer, b"", b"")?;
        if Self::verify(&parts.public, b"", &probe[..]) {
            Ok(parts)
        } else {
            Err(CryptoError::InvalidSecretKey(Flaw::Mismatch))
        }
    }

    fn sign(signer: &Signer, message: &[u8]) -> Result<Box<[u8; SIGNATURE_BYTES]>, CryptoError> {
        let rnd = Secret::<32>::random()?;
        // M' = 0 || length of the context || context || M (FIPS 204 algorithm 2).
        let signature = signer
            .0
            .sign_internal(&[&[0, 0], message], rnd.expose().into());
        boxed(signature.encode().as_slice())
    }

    fn verify(public: &[u8; SIGNING_PUBLIC_KEY_BYTES], message: &[u8], signature: &[u8]) -> bool {
        Self::verify_with_context(public, message, &[], signature)
    }

    fn kem_generate() -> Result<(KemSecretBytes, Decapsulator), CryptoError> {
        let secret = kem_secret_from_seed(&Secret::random()?);
        let key = Self::decapsulator(&secret)?;
        Ok((secret, key))
    }

    fn decapsulator(secret: &KemSecretBytes) -> Result<Decapsulator, CryptoError> {
        // `from_expanded` panics on secret coefficients out of range.
        super::check_kem_secret(secret).map_err(CryptoError::InvalidSecretKey)?;
        DecapsulationKey768::from_expanded_bytes(secret.expose().into())
            .map(|key| Decapsulator(Box::new(key)))
            .map_err(|_| CryptoError::InvalidSecretKey(Flaw::Refused))
    }

    fn encapsulate(
        public: &[u8; KEM_PUBLIC_KEY_BYTES],
    ) -> Result<(Box<[u8; KEM_CIPHERTEXT_BYTES]>, SharedSecret), CryptoError> {
        Self::encapsulate_deterministic(public, &Secret::random()?)
    }

    fn decapsulate(
        key: &Decapsulator,
        ciphertext: &[u8; KEM_CIPHERTEXT_BYTES],
    ) -> Result<SharedSecret, CryptoError> {
        let mut shared = key.0.decapsulate(ciphertext.into());
        let secret = SharedSecret::copy_from(&shared);
        shared.zeroize();
        secret
    }

    fn aead_seal(
        key: &Secret<32>,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        out.reserve(plaintext.len() + TAG_BYTES);
        let start = out.len();
        out.extend_from_slice(plaintext);
        let body = out.get_mut(start..).unwrap_or_default();
        let tag = XChaCha20Poly1305::new(key.expose().into())
            .encrypt_inout_detached(nonce.into(), aad, body.into())
            .map_err(|_| CryptoError::Library)?;
        out.extend_from_slice(&tag);
        Ok(())
    }

    fn aead_open(
        key: &Secret<32>,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<Vec<u8>, CryptoError> {
        let mut out = ciphertext.to_vec();
        XChaCha20Poly1305::new(key.expose().into())
            .decrypt_inout_detached(nonce.into(), aad, out.as_mut_slice().into(), tag.into())
            .map_err(|_| CryptoError::DecryptionFailed)?;
        Ok(out)
    }
}

impl Portable {
    /// Verification with a context string, which only tests need: the protocol separates its
    /// domains inside the signed bytes.
    pub fn verify_with_context(
        public: &[u8; SIGNING_PUBLIC_KEY_BYTES],
        message: &[u8],
        context: &[u8],
        signature: &[u8],
    ) -> bool {
        let Ok(signature) = ml_dsa::Signature::<MlDsa65>::try_from(signature) else {
            return false;
        };
        let Ok(public) = ml_dsa::EncodedVerifyingKey::<MlDsa65>::try_from(&public[..]) else {
            return false;
        };
        VerifyingKey::<MlDsa65>::decode(&public).verify_with_context(message, context, &signature)
    }

    /// Encapsulation with given randomness, for test vectors: used twice, it agrees on the same
    /// secret twice.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`].
    pub fn encapsulate_deterministic(
        public: &[u8; KEM_PUBLIC_KEY_BYTES],
        randomness: &Secret<32>,
    ) -> Result<(Box<[u8; KEM_CIPHERTEXT_BYTES]>, SharedSecret), CryptoError> {
        let key = EncapsulationKey768::new(public.into())
            .map_err(|_| CryptoError::InvalidPublicKey(Flaw::Range))?;
        let (ciphertext, mut shared) = key.encapsulate_deterministic(randomness.expose().into());
        let secret = SharedSecret::copy_from(&shared);
        shared.zeroize();
        Ok((boxed(&ciphertext)?, secret?))
    }

    /// The deterministic variant with a context string, for test vectors.
    ///
    /// # Errors
    /// [`CryptoError::Library`] for a context above 255 bytes.
    pub fn sign_deterministic(
        signer: &Signer,
        message: &[u8],
        context: &[u8],
    ) -> Result<Box<[u8; SIGNATURE_BYTES]>, CryptoError> {
        let signature = signer
            .0
            .sign_deterministic(message, context)
            .map_err(|_| CryptoError::Library)?;
        boxed(signature.encode().as_slice())
    }
}

pub(super) fn kem_secret_from_seed(seed: &Secret<64>) -> KemSecretBytes {
    let mut copy: ml_kem::Seed = (*seed.expose()).into();
    let key = DecapsulationKey768::from_seed(copy);
    copy.zeroize();
    let mut expanded = key.to_expanded_bytes();
    let mut secret = KemSecretBytes::zero();
    secret.expose_mut().copy_from_slice(&expanded);
    expanded.zeroize();
    secret
}

fn parts(key: ExpandedSigningKey<MlDsa65>) -> Result<SigningParts<Signer>, CryptoError> {
    let mut expanded = key.to_expanded();
    let secret = SigningSecretBytes::copy_from(&expanded);
    expanded.zeroize();
    let public = boxed(key.verifying_key().encode().as_slice())?;
    Ok(SigningParts {
        signer: Signer(Box::new(key)),
        secret: secret?,
        public,
    })
}

fn boxed<const N: usize>(bytes: &[u8]) -> Result<Box<[u8; N]>, CryptoError> {
    Box::<[u8]>::from(bytes)
        .try_into()
        .map_err(|_| CryptoError::Library)
}
