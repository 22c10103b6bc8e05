//! The two libraries behind one small interface.
//!
//! [`Active`] is what the rest of the crate uses: aws-lc-rs where the feature `native` is on,
//! RustCrypto elsewhere. Both answer to the same tests. The interface speaks bytes and opaque
//! parsed keys; validity of keys is decided here, so that both refuse the same ones. One
//! difference stays: a secret key whose `t0` alone was changed is refused by aws-lc-rs, and by
//! RustCrypto only if the change spoils a probe signature. Such a key signs what nobody accepts; it
//! gives nothing away.

mod portable;
pub use portable::Portable;

#[cfg(feature = "native")]
mod native;
#[cfg(feature = "native")]
pub use native::Native;

#[cfg(all(test, feature = "native"))]
mod tests;

use crate::error::{CryptoError, Flaw};
use crate::secret::{Secret, SharedSecret};
use sha3::{Digest, Sha3_256};

/// The backend of the public API.
#[cfg(feature = "native")]
pub type Active = Native;
/// The backend of the public API.
#[cfg(not(feature = "native"))]
pub type Active = Portable;

/// Bytes of an ML-DSA-65 public key (FIPS 204 table 2).
pub const SIGNING_PUBLIC_KEY_BYTES: usize = 1952;
/// Bytes of an expanded ML-DSA-65 secret key.
pub const SIGNING_SECRET_KEY_BYTES: usize = 4032;
/// Bytes of an ML-DSA-65 signature.
pub const SIGNATURE_BYTES: usize = 3309;
/// Bytes of an ML-KEM-768 public key (FIPS 203 table 3).
pub const KEM_PUBLIC_KEY_BYTES: usize = 1184;
/// Bytes of an expanded ML-KEM-768 secret key.
pub const KEM_SECRET_KEY_BYTES: usize = 2400;
/// Bytes of an ML-KEM-768 ciphertext.
pub const KEM_CIPHERTEXT_BYTES: usize = 1088;
/// Bytes of an XChaCha20-Poly1305 nonce.
pub const NONCE_BYTES: usize = 24;
/// Bytes of a Poly1305 tag.
pub const TAG_BYTES: usize = 16;

/// An expanded ML-DSA-65 secret key.
pub type SigningSecretBytes = Secret<SIGNING_SECRET_KEY_BYTES>;
/// An expanded ML-KEM-768 secret key.
pub type KemSecretBytes = Secret<KEM_SECRET_KEY_BYTES>;

/// A parsed signing key with its two encodings.
pub struct SigningParts<S> {
    /// Ready to sign.
    pub signer: S,
    /// The expanded secret key.
    pub secret: SigningSecretBytes,
    /// The public key.
    pub public: Box<[u8; SIGNING_PUBLIC_KEY_BYTES]>,
}

/// What a cryptographic library has to offer.
pub trait Backend {
    /// For test output.
    const NAME: &'static str;

    /// A parsed ML-DSA-65 secret key.
    type Signer: Send + Sync;
    /// A parsed ML-KEM-768 secret key.
    type Decapsulator: Send + Sync;

    /// A signing key from operating-system randomness.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    fn sign_generate() -> Result<SigningParts<Self::Signer>, CryptoError>;

    /// The signing key of a 32-byte seed (FIPS 204 algorithm 6).
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    fn sign_from_seed(seed: &Secret<32>) -> Result<SigningParts<Self::Signer>, CryptoError>;

    /// Parses an expanded secret key and derives its public key.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSecretKey`].
    fn sign_from_secret(
        secret: SigningSecretBytes,
    ) -> Result<SigningParts<Self::Signer>, CryptoError>;

    /// A hedged signature with the empty context.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    fn sign(
        signer: &Self::Signer,
        message: &[u8],
    ) -> Result<Box<[u8; SIGNATURE_BYTES]>, CryptoError>;

    /// Whether the signature is by this key over this message, with the empty context.
    fn verify(public: &[u8; SIGNING_PUBLIC_KEY_BYTES], message: &[u8], signature: &[u8]) -> bool;

    /// A KEM key from operating-system randomness.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    fn kem_generate() -> Result<(KemSecretBytes, Self::Decapsulator), CryptoError>;

    /// Parses an expanded secret key that [`check_kem_secret`] has accepted.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSecretKey`].
    fn decapsulator(secret: &KemSecretBytes) -> Result<Self::Decapsulator, CryptoError>;

    /// A fresh shared secret and its ciphertext.
    ///
    /// # Errors
    /// [`CryptoError::InvalidPublicKey`], [`CryptoError::NoRandomness`].
    fn encapsulate(
        public: &[u8; KEM_PUBLIC_KEY_BYTES],
    ) -> Result<(Box<[u8; KEM_CIPHERTEXT_BYTES]>, SharedSecret), CryptoError>;

    /// The shared secret of a ciphertext. A ciphertext for another key gives an unrelated secret
    /// (implicit rejection, FIPS 203 §6.3).
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    fn decapsulate(
        key: &Self::Decapsulator,
        ciphertext: &[u8; KEM_CIPHERTEXT_BYTES],
    ) -> Result<SharedSecret, CryptoError>;

    /// Appends XChaCha20-Poly1305 ciphertext and tag to `out`.
    ///
    /// # Errors
    /// [`CryptoError::Library`] for a plaintext beyond the cipher's 256 GiB.
    fn aead_seal(
        key: &Secret<32>,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError>;

    /// The plaintext of ciphertext and tag.
    ///
    /// # Errors
    /// [`CryptoError::DecryptionFailed`].
    fn aead_open(
        key: &Secret<32>,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<Vec<u8>, CryptoError>;
}

/// The KEM key of a 64-byte seed `d || z` (FIPS 203 algorithm 16), on every backend: aws-lc-rs
/// has no such call in its safe interface.
pub fn kem_secret_from_seed(seed: &Secret<64>) -> KemSecretBytes {
    portable::kem_secret_from_seed(seed)
}

/// FIPS 203 §7.2: every 12-bit coefficient of an encapsulation key is below the modulus.
///
/// # Errors
/// [`Flaw::Range`].
pub fn check_kem_public(public: &[u8; KEM_PUBLIC_KEY_BYTES]) -> Result<(), Flaw> {
    let (coefficients, _rho) = public.split_at(KEM_VECTOR_BYTES);
    kem_coefficients_in_range(coefficients)
}

/// FIPS 203 §7.3 and one more: the hash inside the key, and the ranges of both halves.
///
/// # Errors
/// [`Flaw::Range`], [`Flaw::Mismatch`].
pub fn check_kem_secret(secret: &KemSecretBytes) -> Result<(), Flaw> {
    let (s, rest) = secret.expose().split_at(KEM_VECTOR_BYTES);
    let (public, rest) = rest.split_at(KEM_PUBLIC_KEY_BYTES);
    let (hash, _z) = rest.split_at(32);
    kem_coefficients_in_range(s)?;
    let (t, _rho) = public.split_at(KEM_VECTOR_BYTES);
    kem_coefficients_in_range(t)?;
    // The hash is of public data, so its comparison may take variable time.
    if Sha3_256::digest(public).as_slice() == hash {
        Ok(())
    } else {
        Err(Flaw::Mismatch)
    }
}

/// The public key inside an expanded KEM secret key.
pub fn kem_public_of(secret: &KemSecretBytes) -> Result<&[u8; KEM_PUBLIC_KEY_BYTES], CryptoError> {
    secret
        .expose()
        .get(KEM_VECTOR_BYTES..)
        .and_then(|rest| rest.first_chunk())
        .ok_or(CryptoError::Library)
}

/// Three polynomials of 256 coefficients in 12 bits each.
const KEM_VECTOR_BYTES: usize = 3 * 256 * 12 / 8;
const KEM_MODULUS: u16 = 3329;

/// No early exit: the same walk serves secret halves.
fn kem_coefficients_in_range(packed: &[u8]) -> Result<(), Flaw> {
    let mut over = 0u16;
    for triple in packed.as_chunks::<3>().0 {
        let [a, b, c] = triple.map(u16::from);
        let low = a | (b & 0x0f) << 8;
        let high = b >> 4 | c << 4;
        // The subtraction's top bit is set while the coefficient is in range.
        over |= !low.wrapping_sub(KEM_MODULUS) | !high.wrapping_sub(KEM_MODULUS);
    }
    if over >> 15 == 0 {
        Ok(())
    } else {
        Err(Flaw::Range)
    }
}

/// FIPS 204 algorithm 25: `s1` and `s2` use four bits a coefficient and only 0 to 8 are in range.
/// aws-lc-rs refuses others by itself, RustCrypto panics at them.
fn check_signing_secret(secret: &SigningSecretBytes) -> Result<(), Flaw> {
    const HEAD_BYTES: usize = 32 + 32 + 64;
    const ETA_BYTES: usize = (5 + 6) * 256 * 4 / 8;
    let mut over = 0u8;
    for byte in secret.expose().iter().skip(HEAD_BYTES).take(ETA_BYTES) {
        // Adding 7 to a nibble carries into bit 4 when the nibble is above 8.
        over |= ((byte & 0x0f) + 7) | ((byte >> 4) + 7);
    }
    if over & 0x10 == 0 {
        Ok(())
    } else {
        Err(Flaw::Range)
    }
}
