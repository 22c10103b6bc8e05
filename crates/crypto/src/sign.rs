//! ML-DSA-65 (FIPS 204), pure, with the empty context and hedged: saying "this was me".

pub use crate::backend::SIGNING_SECRET_KEY_BYTES;
use crate::backend::{
    Active, Backend, SIGNATURE_BYTES, SIGNING_PUBLIC_KEY_BYTES, SigningParts, SigningSecretBytes,
};
use crate::bytes::public_bytes;
use crate::error::{CryptoError, Flaw};
use crate::secret::Secret;

public_bytes!(
    /// An ML-DSA-65 public key, 1952 bytes. Every string of that length is one.
    SigningPublicKey,
    SIGNING_PUBLIC_KEY_BYTES,
    InvalidPublicKey,
    "signing public key",
    |_| Ok(())
);

public_bytes!(
    /// An ML-DSA-65 signature, 3309 bytes, not verified. Signatures are not unique: never use a
    /// hash of one as an id or as randomness.
    Signature,
    SIGNATURE_BYTES,
    InvalidSignature,
    "signature",
    |_| Ok(())
);

impl SigningPublicKey {
    /// Checks a signature from the bytes of this key. For many messages of few keys see
    /// [`VerifierCache`](crate::VerifierCache).
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`].
    pub fn verify(&self, message: &[u8], signature: &Signature) -> Result<(), CryptoError> {
        if Active::verify(&self.0, message, &signature.0[..]) {
            Ok(())
        } else {
            Err(CryptoError::InvalidSignature(Flaw::Refused))
        }
    }
}

/// An ML-DSA-65 secret key: 4032 bytes in the expanded form of FIPS 204, kept parsed, because
/// parsing costs a quarter of a signature.
pub struct SigningKey {
    signer: <Active as Backend>::Signer,
    secret: SigningSecretBytes,
    public: SigningPublicKey,
}

impl SigningKey {
    /// A key from the operating system's randomness.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn generate() -> Result<Self, CryptoError> {
        Active::sign_generate().map(Self::from_parts)
    }

    /// The key of a 32-byte seed (FIPS 204 algorithm 6).
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn from_seed(seed: &Secret<32>) -> Result<Self, CryptoError> {
        Active::sign_from_seed(seed).map(Self::from_parts)
    }

    /// Reads the 4032-byte expanded form and derives its public key.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSecretKey`] for a wrong length, coefficients out of range, or parts
    /// that do not belong together.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        let secret = SigningSecretBytes::copy_from(bytes)?;
        Active::sign_from_secret(secret).map(Self::from_parts)
    }

    /// The 4032 bytes of the expanded form.
    pub fn expose(&self) -> &[u8; SIGNING_SECRET_KEY_BYTES] {
        self.secret.expose()
    }

    /// The public half.
    pub fn public_key(&self) -> &SigningPublicKey {
        &self.public
    }

    /// A signature over `message`. Two calls give different signatures.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn sign(&self, message: &[u8]) -> Result<Signature, CryptoError> {
        Active::sign(&self.signer, message).map(Signature)
    }

    fn from_parts(parts: SigningParts<<Active as Backend>::Signer>) -> Self {
        Self {
            signer: parts.signer,
            secret: parts.secret,
            public: SigningPublicKey(parts.public),
        }
    }
}

impl core::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("SigningKey(..)")
    }
}
