//! ML-KEM-768 (FIPS 203): agreeing on a secret with whoever holds a key.

use crate::backend::{
    self, Active, Backend, KEM_CIPHERTEXT_BYTES, KEM_PUBLIC_KEY_BYTES, KemSecretBytes,
};
use crate::bytes::public_bytes;
use crate::error::{CryptoError, Flaw};
use crate::secret::{Secret, SharedSecret};

public_bytes!(
    /// An ML-KEM-768 encapsulation key, 1184 bytes, whose coefficients are in range.
    KemPublicKey,
    KEM_PUBLIC_KEY_BYTES,
    InvalidPublicKey,
    "KEM public key",
    backend::check_kem_public
);

public_bytes!(
    /// An ML-KEM-768 ciphertext, 1088 bytes. Every string of that length is one.
    KemCiphertext,
    KEM_CIPHERTEXT_BYTES,
    InvalidCiphertext,
    "KEM ciphertext",
    |_| Ok(())
);

impl KemPublicKey {
    /// A fresh shared secret for the holder of this key, and the ciphertext that carries it.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn encapsulate(&self) -> Result<(KemCiphertext, SharedSecret), CryptoError> {
        let (ciphertext, secret) = Active::encapsulate(&self.0)?;
        Ok((KemCiphertext(ciphertext), secret))
    }
}

/// An ML-KEM-768 decapsulation key: 2400 bytes in the expanded form of FIPS 203, kept parsed.
pub struct KemSecretKey {
    secret: KemSecretBytes,
    public: KemPublicKey,
    parsed: <Active as Backend>::Decapsulator,
}

impl KemSecretKey {
    /// A key from the operating system's randomness.
    ///
    /// # Errors
    /// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
    pub fn generate() -> Result<Self, CryptoError> {
        let (secret, parsed) = Active::kem_generate()?;
        Self::assemble(secret, parsed)
    }

    /// The key of a 64-byte seed `d || z` (FIPS 203 algorithm 16).
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn from_seed(seed: &Secret<64>) -> Result<Self, CryptoError> {
        let secret = backend::kem_secret_from_seed(seed);
        let parsed = Active::decapsulator(&secret)?;
        Self::assemble(secret, parsed)
    }

    /// Reads the 2400-byte expanded form.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSecretKey`] for a wrong length, coefficients out of range, or a hash
    /// inside the key that is not that of its public half.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        let secret = KemSecretBytes::copy_from(bytes)?;
        backend::check_kem_secret(&secret).map_err(CryptoError::InvalidSecretKey)?;
        let parsed = Active::decapsulator(&secret)?;
        let key = Self::assemble(secret, parsed)?;
        // The secret half could still be another key's: it has to open what the public half seals.
        let (ciphertext, sent) = key.public.encapsulate()?;
        if key.decapsulate(&ciphertext)? == sent {
            Ok(key)
        } else {
            Err(CryptoError::InvalidSecretKey(Flaw::Mismatch))
        }
    }

    /// The 2400 bytes of the expanded form.
    pub fn expose(&self) -> &[u8; KEM_SECRET_KEY_BYTES] {
        self.secret.expose()
    }

    /// The public half.
    pub fn public_key(&self) -> &KemPublicKey {
        &self.public
    }

    /// The shared secret that `ciphertext` carries. A ciphertext made for another key gives an
    /// unrelated secret and no error (FIPS 203 §6.3); what is sealed under it then does not open.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn decapsulate(&self, ciphertext: &KemCiphertext) -> Result<SharedSecret, CryptoError> {
        Active::decapsulate(&self.parsed, &ciphertext.0)
    }

    fn assemble(
        secret: KemSecretBytes,
        parsed: <Active as Backend>::Decapsulator,
    ) -> Result<Self, CryptoError> {
        let public = KemPublicKey(Box::new(*backend::kem_public_of(&secret)?));
        Ok(Self {
            secret,
            public,
            parsed,
        })
    }
}

pub use crate::backend::KEM_SECRET_KEY_BYTES;

impl core::fmt::Debug for KemSecretKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("KemSecretKey(..)")
    }
}
