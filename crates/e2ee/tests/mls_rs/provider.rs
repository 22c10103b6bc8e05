//! The suite 0x0051 for `mls-rs`: its own HPKE over a KEM of FIPS 203, with RustCrypto's primitives.

use mls_rs_core::crypto::{
    CipherSuite, CipherSuiteProvider, CryptoProvider, HpkeCiphertext, HpkePsk, HpkePublicKey,
    HpkeSecretKey, SignaturePublicKey, SignatureSecretKey,
};
use mls_rs_core::error::IntoAnyError;
use mls_rs_core::identity::{
    CredentialType, IdentityProvider, MemberValidationContext, SigningIdentity,
};
use mls_rs_core::time::MlsTime;
use mls_rs_crypto_hpke::context::{ContextR, ContextS};
use mls_rs_crypto_hpke::hpke::Hpke;
use mls_rs_crypto_traits::{AeadType, KdfType, KemResult, KemType};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::random::OpenMlsRand;
use openmls_traits::types::{AeadType as Aead256, HashType, SignatureScheme};
use session_crypto::{KemCiphertext, KemPublicKey, KemSecretKey, Secret};
use shake::{ExtendableOutput, Shake256, Update, XofReader};
use std::sync::{Arc, Mutex};
use zeroize::Zeroizing;

pub(crate) const SUITE: CipherSuite = CipherSuite::new(0x0051);
pub(crate) const CREDENTIAL: CredentialType = CredentialType::new(0xf0e2);

#[derive(Debug)]
pub(crate) struct Failed;

impl IntoAnyError for Failed {}

fn failed<E>(_: E) -> Failed {
    Failed
}

/// RustCrypto, and the epoch secrets that were seen passing.
#[derive(Clone)]
pub(crate) struct Primitives(Arc<RustCrypto>, Arc<Mutex<Vec<Vec<u8>>>>);

/// The `KDFLabel` with which a key schedule derives its exporter secret (RFC 9420 §8): what is
/// expanded by it is the secret of an epoch.
const EXPORTER_LABEL: &[u8] = b"\x00\x30\x10MLS 1.0 exporter\x00";

impl std::fmt::Debug for Primitives {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Primitives")
    }
}

/// ML-KEM-768, kem id 0x0041; secret keys are seeds of 64 bytes.
#[derive(Clone, Debug)]
struct Kem;

fn key_of(seed: &[u8]) -> Result<KemSecretKey, Failed> {
    let seed: [u8; 64] = seed.try_into().map_err(failed)?;
    KemSecretKey::from_seed(&Secret::new(seed)).map_err(failed)
}

impl KemType for Kem {
    type Error = Failed;

    fn kem_id(&self) -> u16 {
        0x0041
    }

    fn generate_deterministic(
        &self,
        seed: &[u8],
    ) -> Result<(HpkeSecretKey, HpkePublicKey), Failed> {
        let public = key_of(seed)?.public_key().as_bytes().to_vec();
        Ok((seed.to_vec().into(), public.into()))
    }

    fn generate(&self) -> Result<(HpkeSecretKey, HpkePublicKey), Failed> {
        self.generate_deterministic(Secret::<64>::random().map_err(failed)?.expose())
    }

    fn public_key_validate(&self, key: &HpkePublicKey) -> Result<(), Failed> {
        KemPublicKey::try_from(key.as_ref())
            .map(drop)
            .map_err(failed)
    }

    fn encap(&self, remote_key: &HpkePublicKey) -> Result<KemResult, Failed> {
        let key = KemPublicKey::try_from(remote_key.as_ref()).map_err(failed)?;
        let (ciphertext, secret) = key.encapsulate().map_err(failed)?;
        Ok(KemResult::new(
            secret.expose().to_vec(),
            ciphertext.as_bytes().to_vec(),
        ))
    }

    fn decap(
        &self,
        enc: &[u8],
        secret_key: &HpkeSecretKey,
        _: &HpkePublicKey,
    ) -> Result<Vec<u8>, Failed> {
        let ciphertext = KemCiphertext::try_from(enc).map_err(failed)?;
        let secret = key_of(secret_key.as_ref())?
            .decapsulate(&ciphertext)
            .map_err(failed)?;
        Ok(secret.expose().to_vec())
    }

    fn seed_length_for_derive(&self) -> usize {
        64
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Kdf(Primitives);

impl KdfType for Kdf {
    type Error = Failed;

    fn kdf_id(&self) -> u16 {
        2
    }

    fn expand(&self, prk: &[u8], info: &[u8], len: usize) -> Result<Vec<u8>, Failed> {
        let crypto = &self.0.0;
        let out = crypto.hkdf_expand(HashType::Sha2_384, prk, info, len);
        Ok(out.map_err(failed)?.as_slice().to_vec())
    }

    fn extract(&self, salt: &[u8], ikm: &[u8]) -> Result<Vec<u8>, Failed> {
        let out = self.0.0.hkdf_extract(HashType::Sha2_384, salt, ikm);
        Ok(out.map_err(failed)?.as_slice().to_vec())
    }

    fn extract_size(&self) -> usize {
        48
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Aead(Primitives);

impl AeadType for Aead {
    type Error = Failed;

    fn aead_id(&self) -> u16 {
        2
    }

    fn seal(
        &self,
        key: &[u8],
        data: &[u8],
        aad: Option<&[u8]>,
        nonce: &[u8],
    ) -> Result<Vec<u8>, Failed> {
        let crypto = &self.0.0;
        crypto
            .aead_encrypt(
                Aead256::Aes256Gcm,
                key,
                data,
                nonce,
                aad.unwrap_or_default(),
            )
            .map_err(failed)
    }

    fn open(
        &self,
        key: &[u8],
        ciphertext: &[u8],
        aad: Option<&[u8]>,
        nonce: &[u8],
    ) -> Result<Vec<u8>, Failed> {
        let crypto = &self.0.0;
        crypto
            .aead_decrypt(
                Aead256::Aes256Gcm,
                key,
                ciphertext,
                nonce,
                aad.unwrap_or_default(),
            )
            .map_err(failed)
    }

    fn key_size(&self) -> usize {
        32
    }

    fn nonce_size(&self) -> usize {
        12
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Suite(Primitives);

#[derive(Clone, Debug)]
pub(crate) struct Provider(Primitives);

impl Provider {
    pub(crate) fn new() -> Self {
        Self(Primitives(Arc::default(), Arc::default()))
    }

    /// Secrets of the epochs whose key schedule was run with this provider, the latest first.
    /// `mls-rs` erases them and shows them to nobody else.
    #[allow(dead_code, reason = "of two users one needs it")]
    pub(crate) fn epoch_secrets(&self) -> Vec<Vec<u8>> {
        self.0.1.lock().unwrap().iter().rev().cloned().collect()
    }
}

impl CryptoProvider for Provider {
    type CipherSuiteProvider = Suite;

    fn supported_cipher_suites(&self) -> Vec<CipherSuite> {
        vec![SUITE]
    }

    fn cipher_suite_provider(&self, suite: CipherSuite) -> Option<Suite> {
        (suite == SUITE).then(|| Suite(self.0.clone()))
    }
}

impl Suite {
    fn hpke(&self) -> Hpke<Kem, Kdf, Aead> {
        let primitives = self.0.clone();
        Hpke::new(Kem, Kdf(primitives.clone()), Some(Aead(primitives)))
    }
}

impl CipherSuiteProvider for Suite {
    type Error = Failed;
    type HpkeContextS = ContextS<Kdf, Aead>;
    type HpkeContextR = ContextR<Kdf, Aead>;

    fn cipher_suite(&self) -> CipherSuite {
        SUITE
    }

    fn hash(&self, data: &[u8]) -> Result<Vec<u8>, Failed> {
        self.0.0.hash(HashType::Sha2_384, data).map_err(failed)
    }

    fn mac(&self, key: &[u8], data: &[u8]) -> Result<Vec<u8>, Failed> {
        let mac = self.0.0.hmac(HashType::Sha2_384, key, data);
        Ok(mac.map_err(failed)?.as_slice().to_vec())
    }

    fn aead_seal(
        &self,
        key: &[u8],
        data: &[u8],
        aad: Option<&[u8]>,
        nonce: &[u8],
    ) -> Result<Vec<u8>, Failed> {
        Aead(self.0.clone()).seal(key, data, aad, nonce)
    }

    fn aead_open(
        &self,
        key: &[u8],
        ciphertext: &[u8],
        aad: Option<&[u8]>,
        nonce: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        Aead(self.0.clone())
            .open(key, ciphertext, aad, nonce)
            .map(Zeroizing::new)
    }

    fn aead_key_size(&self) -> usize {
        32
    }

    fn aead_nonce_size(&self) -> usize {
        12
    }

    fn kdf_extract(&self, salt: &[u8], ikm: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failed> {
        Kdf(self.0.clone()).extract(salt, ikm).map(Zeroizing::new)
    }

    fn kdf_expand(
        &self,
        prk: &[u8],
        info: &[u8],
        len: usize,
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        if info == EXPORTER_LABEL {
            self.0.1.lock().unwrap().push(prk.to_vec());
        }
        Kdf(self.0.clone())
            .expand(prk, info, len)
            .map(Zeroizing::new)
    }

    fn kdf_extract_size(&self) -> usize {
        48
    }

    fn hpke_seal(
        &self,
        remote_key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        pt: &[u8],
    ) -> Result<HpkeCiphertext, Failed> {
        self.hpke()
            .seal(remote_key, info, None, aad, pt)
            .map_err(failed)
    }

    fn hpke_seal_psk(
        &self,
        remote_key: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        pt: &[u8],
        psk: HpkePsk<'_>,
    ) -> Result<HpkeCiphertext, Failed> {
        self.hpke()
            .seal(remote_key, info, Some(psk), aad, pt)
            .map_err(failed)
    }

    fn hpke_open(
        &self,
        ciphertext: &HpkeCiphertext,
        local_secret: &HpkeSecretKey,
        local_public: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        self.hpke()
            .open(ciphertext, local_secret, local_public, info, None, aad)
            .map_err(failed)
    }

    fn hpke_open_psk(
        &self,
        ciphertext: &HpkeCiphertext,
        local_secret: &HpkeSecretKey,
        local_public: &HpkePublicKey,
        info: &[u8],
        aad: Option<&[u8]>,
        psk: HpkePsk<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, Failed> {
        self.hpke()
            .open(ciphertext, local_secret, local_public, info, Some(psk), aad)
            .map_err(failed)
    }

    fn hpke_setup_s(
        &self,
        remote_key: &HpkePublicKey,
        info: &[u8],
    ) -> Result<(Vec<u8>, Self::HpkeContextS), Failed> {
        self.hpke()
            .setup_sender(remote_key, info, None)
            .map_err(failed)
    }

    fn hpke_setup_r(
        &self,
        kem_output: &[u8],
        local_secret: &HpkeSecretKey,
        local_public: &HpkePublicKey,
        info: &[u8],
    ) -> Result<Self::HpkeContextR, Failed> {
        self.hpke()
            .setup_receiver(kem_output, local_secret, local_public, info, None)
            .map_err(failed)
    }

    /// `DeriveKeyPair` of the draft: SHAKE256 gives the seed.
    fn kem_derive(&self, ikm: &[u8]) -> Result<(HpkeSecretKey, HpkePublicKey), Failed> {
        let mut hash = Shake256::default();
        hash.update(ikm);
        let mut seed = [0; 64];
        hash.finalize_xof().read(&mut seed);
        Kem.generate_deterministic(&seed)
    }

    fn kem_generate(&self) -> Result<(HpkeSecretKey, HpkePublicKey), Failed> {
        Kem.generate()
    }

    fn kem_public_key_validate(&self, key: &HpkePublicKey) -> Result<(), Failed> {
        Kem.public_key_validate(key)
    }

    fn random_bytes(&self, out: &mut [u8]) -> Result<(), Failed> {
        out.copy_from_slice(&self.0.0.random_vec(out.len()).map_err(failed)?);
        Ok(())
    }

    fn signature_key_generate(&self) -> Result<(SignatureSecretKey, SignaturePublicKey), Failed> {
        let keys = self.0.0.signature_key_gen(SignatureScheme::MLDSA65);
        let (secret, public) = keys.map_err(failed)?;
        Ok((secret.into(), public.into()))
    }

    fn signature_key_derive_public(
        &self,
        secret: &SignatureSecretKey,
    ) -> Result<SignaturePublicKey, Failed> {
        let seed: [u8; 32] = secret.as_bytes().try_into().map_err(failed)?;
        let key = session_crypto::SigningKey::from_seed(&Secret::new(seed)).map_err(failed)?;
        Ok(key.public_key().as_bytes().to_vec().into())
    }

    fn sign(&self, secret: &SignatureSecretKey, data: &[u8]) -> Result<Vec<u8>, Failed> {
        let crypto = &self.0.0;
        crypto
            .sign(SignatureScheme::MLDSA65, data, secret.as_bytes())
            .map_err(failed)
    }

    fn verify(
        &self,
        public: &SignaturePublicKey,
        signature: &[u8],
        data: &[u8],
    ) -> Result<(), Failed> {
        let crypto = &self.0.0;
        crypto
            .verify_signature(SignatureScheme::MLDSA65, data, public.as_bytes(), signature)
            .map_err(failed)
    }
}

/// Takes every credential of ours: whose it is is judged on our side.
#[derive(Clone, Debug)]
pub(crate) struct AnyDevice;

impl IdentityProvider for AnyDevice {
    type Error = Failed;

    fn validate_member(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: MemberValidationContext<'_>,
    ) -> Result<(), Failed> {
        Ok(())
    }

    fn validate_external_sender(
        &self,
        _: &SigningIdentity,
        _: Option<MlsTime>,
        _: Option<&mls_rs_core::extension::ExtensionList>,
    ) -> Result<(), Failed> {
        Err(Failed)
    }

    fn identity(
        &self,
        identity: &SigningIdentity,
        _: &mls_rs_core::extension::ExtensionList,
    ) -> Result<Vec<u8>, Failed> {
        let custom = identity.credential.as_custom().ok_or(Failed)?;
        // Version, account, device.
        custom.data.get(..49).map(<[u8]>::to_vec).ok_or(Failed)
    }

    fn valid_successor(
        &self,
        predecessor: &SigningIdentity,
        successor: &SigningIdentity,
        extensions: &mls_rs_core::extension::ExtensionList,
    ) -> Result<bool, Failed> {
        Ok(self.identity(predecessor, extensions)? == self.identity(successor, extensions)?)
    }

    fn supported_types(&self) -> Vec<CredentialType> {
        vec![CREDENTIAL]
    }
}
