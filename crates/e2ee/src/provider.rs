//! What openmls is given to work with: our signatures, our randomness, the buffer of one event.
//!
//! Hashing, AEAD and HPKE of the suite are RustCrypto's. ML-DSA-65 is ours: aws-lc-rs signs with a
//! key that is kept parsed (0.15 ms instead of 0.97), and verifying keys are prepared at their
//! second use. The library's storage in memory is never used.

use openmls_rust_crypto::RustCrypto;
use openmls_traits::OpenMlsProvider;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::signatures::{Signer, SignerError};
use openmls_traits::types::{
    AeadType, Ciphersuite, CryptoError as MlsCryptoError, ExporterSecret, HashType, HpkeCiphertext,
    HpkeConfig, HpkeKeyPair, KemOutput, SignatureScheme,
};
use session_crypto::{CryptoError, Secret, Signature, SigningKey, SigningPublicKey, VerifierCache};
use std::cell::RefCell;
use std::num::NonZeroUsize;
use tls_codec::SecretVLBytes;

use crate::randomness::Randomness;
use crate::records::Buffer;
use crate::suite::Suite;

/// Keys that are prepared at once, about 40 KiB each: the senders of a few busy groups.
const PREPARED_KEYS: NonZeroUsize = NonZeroUsize::new(64).unwrap();

/// The cryptography of a device. It keeps verifying keys prepared between events.
pub(crate) struct Crypto {
    library: RustCrypto,
    pub(crate) verifier: VerifierCache,
    /// Suites of what others have written down, beside ours (`passive_client.rs`).
    #[cfg(test)]
    others: Vec<Ciphersuite>,
}

impl Crypto {
    pub(crate) fn new() -> Self {
        Self {
            library: RustCrypto::default(),
            verifier: VerifierCache::new(PREPARED_KEYS),
            #[cfg(test)]
            others: Vec::new(),
        }
    }

    #[cfg(test)]
    fn others(&self) -> &[Ciphersuite] {
        &self.others
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "tests have others")]
    const fn others(&self) -> &[Ciphersuite] {
        &[]
    }

    fn verify_mldsa65(&self, data: &[u8], key: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let key = SigningPublicKey::try_from(key)?;
        let signature = Signature::try_from(signature)?;
        self.verifier.verify(&key, data, &signature)
    }

    /// Whether a leaf's key made this signature.
    pub(crate) fn verify_leaf(
        &self,
        suite: Suite,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> bool {
        match suite {
            Suite::PostQuantum => self.verify_mldsa65(data, key, signature).is_ok(),
            #[cfg(feature = "testing")]
            Suite::Classical => session_crypto::LegacyPublicIdentity::from_bytes(key)
                .and_then(|key| key.verify(data, signature))
                .is_ok(),
        }
    }
}

impl OpenMlsCrypto for Crypto {
    fn supports(&self, suite: Ciphersuite) -> Result<(), MlsCryptoError> {
        if self.supported_ciphersuites().contains(&suite) {
            Ok(())
        } else {
            Err(MlsCryptoError::UnsupportedCiphersuite)
        }
    }

    fn supported_ciphersuites(&self) -> Vec<Ciphersuite> {
        let ours = [
            Suite::PostQuantum.ciphersuite(),
            #[cfg(feature = "testing")]
            Suite::Classical.ciphersuite(),
        ];
        [&ours, self.others()].concat()
    }

    fn hkdf_extract(
        &self,
        hash: HashType,
        salt: &[u8],
        ikm: &[u8],
    ) -> Result<SecretVLBytes, MlsCryptoError> {
        self.library.hkdf_extract(hash, salt, ikm)
    }

    fn hmac(
        &self,
        hash: HashType,
        key: &[u8],
        message: &[u8],
    ) -> Result<SecretVLBytes, MlsCryptoError> {
        self.library.hmac(hash, key, message)
    }

    fn hkdf_expand(
        &self,
        hash: HashType,
        prk: &[u8],
        info: &[u8],
        bytes: usize,
    ) -> Result<SecretVLBytes, MlsCryptoError> {
        self.library.hkdf_expand(hash, prk, info, bytes)
    }

    fn hash(&self, hash: HashType, data: &[u8]) -> Result<Vec<u8>, MlsCryptoError> {
        self.library.hash(hash, data)
    }

    fn aead_encrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        data: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, MlsCryptoError> {
        self.library.aead_encrypt(aead, key, data, nonce, aad)
    }

    fn aead_decrypt(
        &self,
        aead: AeadType,
        key: &[u8],
        sealed: &[u8],
        nonce: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, MlsCryptoError> {
        self.library.aead_decrypt(aead, key, sealed, nonce, aad)
    }

    fn signature_key_gen(
        &self,
        scheme: SignatureScheme,
    ) -> Result<(Vec<u8>, Vec<u8>), MlsCryptoError> {
        self.library.signature_key_gen(scheme)
    }

    fn verify_signature(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
        signature: &[u8],
    ) -> Result<(), MlsCryptoError> {
        if scheme != SignatureScheme::MLDSA65 {
            return self.library.verify_signature(scheme, data, key, signature);
        }
        self.verify_mldsa65(data, key, signature)
            .map_err(|_| MlsCryptoError::InvalidSignature)
    }

    fn sign(
        &self,
        scheme: SignatureScheme,
        data: &[u8],
        key: &[u8],
    ) -> Result<Vec<u8>, MlsCryptoError> {
        self.library.sign(scheme, data, key)
    }

    fn hpke_seal(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<HpkeCiphertext, MlsCryptoError> {
        self.library.hpke_seal(config, key, info, aad, plaintext)
    }

    fn hpke_open(
        &self,
        config: HpkeConfig,
        input: &HpkeCiphertext,
        key: &[u8],
        info: &[u8],
        aad: &[u8],
    ) -> Result<Vec<u8>, MlsCryptoError> {
        self.library.hpke_open(config, input, key, info, aad)
    }

    fn hpke_setup_sender_and_export(
        &self,
        config: HpkeConfig,
        key: &[u8],
        info: &[u8],
        context: &[u8],
        bytes: usize,
    ) -> Result<(KemOutput, ExporterSecret), MlsCryptoError> {
        self.library
            .hpke_setup_sender_and_export(config, key, info, context, bytes)
    }

    fn hpke_setup_receiver_and_export(
        &self,
        config: HpkeConfig,
        encapsulated: &[u8],
        key: &[u8],
        info: &[u8],
        context: &[u8],
        bytes: usize,
    ) -> Result<ExporterSecret, MlsCryptoError> {
        self.library
            .hpke_setup_receiver_and_export(config, encapsulated, key, info, context, bytes)
    }

    fn derive_hpke_keypair(
        &self,
        config: HpkeConfig,
        ikm: &[u8],
    ) -> Result<HpkeKeyPair, MlsCryptoError> {
        self.library.derive_hpke_keypair(config, ikm)
    }
}

/// A device's randomness, which the library asks through a shared reference.
pub(crate) struct Rand(pub(crate) RefCell<Randomness>);

impl OpenMlsRand for Rand {
    type Error = CryptoError;

    fn random_array<const N: usize>(&self) -> Result<[u8; N], CryptoError> {
        self.0.borrow_mut().bytes()
    }

    fn random_vec(&self, len: usize) -> Result<Vec<u8>, CryptoError> {
        let mut out = vec![0; len];
        self.0.borrow_mut().fill(&mut out)?;
        Ok(out)
    }
}

/// The three together, for one event.
pub(crate) struct Provider<'a> {
    pub(crate) crypto: &'a Crypto,
    pub(crate) rand: &'a Rand,
    pub(crate) buffer: Buffer<'a>,
}

impl<'a> OpenMlsProvider for Provider<'a> {
    type CryptoProvider = Crypto;
    type RandProvider = Rand;
    type StorageProvider = Buffer<'a>;

    fn storage(&self) -> &Buffer<'a> {
        &self.buffer
    }

    fn crypto(&self) -> &Crypto {
        self.crypto
    }

    fn rand(&self) -> &Rand {
        self.rand
    }
}

/// The MLS signature key of a device, kept parsed.
pub(crate) struct LeafKey {
    key: Key,
    public: Vec<u8>,
}

enum Key {
    MlDsa(SigningKey),
    #[cfg(feature = "testing")]
    Ed25519(session_crypto::LegacyIdentity),
}

impl LeafKey {
    /// The key of a 32-byte seed.
    pub(crate) fn from_seed(suite: Suite, seed: Secret<32>) -> Result<Self, CryptoError> {
        let (key, public) = match suite {
            Suite::PostQuantum => {
                let key = SigningKey::from_seed(&seed)?;
                let public = key.public_key().as_bytes().to_vec();
                (Key::MlDsa(key), public)
            }
            #[cfg(feature = "testing")]
            Suite::Classical => {
                let key = session_crypto::LegacyIdentity::from_seed(&seed);
                let public = key.public().as_bytes().to_vec();
                (Key::Ed25519(key), public)
            }
        };
        Ok(Self { key, public })
    }

    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    pub(crate) fn sign_bytes(&self, data: &[u8]) -> Result<Vec<u8>, CryptoError> {
        match &self.key {
            Key::MlDsa(key) => Ok(key.sign(data)?.as_bytes().to_vec()),
            #[cfg(feature = "testing")]
            Key::Ed25519(key) => Ok(key.sign(data).to_vec()),
        }
    }
}

impl Signer for LeafKey {
    fn sign(&self, payload: &[u8]) -> Result<Vec<u8>, SignerError> {
        self.sign_bytes(payload)
            .map_err(|_| SignerError::SigningError)
    }

    fn signature_scheme(&self) -> SignatureScheme {
        match self.key {
            Key::MlDsa(_) => SignatureScheme::MLDSA65,
            #[cfg(feature = "testing")]
            Key::Ed25519(_) => SignatureScheme::ED25519,
        }
    }
}

impl core::fmt::Debug for LeafKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("LeafKey(..)")
    }
}

#[cfg(test)]
mod passive_client;
#[cfg(test)]
mod private_messages;

#[cfg(test)]
mod tests {
    use super::*;

    /// Ours signs, RustCrypto verifies, and the other way round.
    #[test]
    fn signatures_are_those_of_the_library() {
        let ours = Crypto::new();
        let theirs = RustCrypto::default();
        let scheme = SignatureScheme::MLDSA65;
        let key = LeafKey::from_seed(Suite::PostQuantum, Secret::new([3; 32])).unwrap();
        let signed = key.sign(b"message").unwrap();
        theirs
            .verify_signature(scheme, b"message", key.public(), &signed)
            .unwrap();
        let (secret, public) = theirs.signature_key_gen(scheme).unwrap();
        let signed = theirs.sign(scheme, b"message", &secret).unwrap();
        // From bytes, and from the prepared key.
        for _ in 0..3 {
            ours.verify_signature(scheme, b"message", &public, &signed)
                .unwrap();
            let other = ours.verify_signature(scheme, b"massage", &public, &signed);
            assert_eq!(other, Err(MlsCryptoError::InvalidSignature));
        }
        let short = ours.verify_signature(scheme, b"message", &public, &signed[1..]);
        assert_eq!(short, Err(MlsCryptoError::InvalidSignature));
    }

    #[test]
    fn no_other_suite_is_supported() {
        let crypto = Crypto::new();
        let other = Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256;
        assert!(crypto.supports(other).is_err());
        assert!(crypto.supports(Suite::PostQuantum.ciphersuite()).is_ok());
    }
}
