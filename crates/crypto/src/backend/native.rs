//! aws-lc-rs: verified assembly and C.

use super::{
    Backend, KEM_CIPHERTEXT_BYTES, KEM_PUBLIC_KEY_BYTES, KemSecretBytes, NONCE_BYTES,
    SIGNATURE_BYTES, SIGNING_PUBLIC_KEY_BYTES, SigningParts, SigningSecretBytes, TAG_BYTES,
};
use crate::error::{CryptoError, Flaw};
use crate::secret::{Secret, SharedSecret};
use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::encoding::AsRawBytes;
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use aws_lc_rs::signature::{
    KeyPair, ML_DSA_65, ML_DSA_65_SIGNING, PqdsaKeyPair, VerificationAlgorithm,
};
use zeroize::Zeroize;

/// The backend of servers and desktops.
#[derive(Debug)]
pub struct Native;

/// A parsed ML-DSA-65 key pair.
#[derive(Debug)]
pub struct Signer(PqdsaKeyPair);

/// A parsed ML-KEM-768 secret key.
#[derive(Debug)]
pub struct Decapsulator(DecapsulationKey);

impl Backend for Native {
    const NAME: &'static str = "aws-lc-rs";
    type Signer = Signer;
    type Decapsulator = Decapsulator;

    fn sign_generate() -> Result<SigningParts<Signer>, CryptoError> {
        let pair = PqdsaKeyPair::generate(&ML_DSA_65_SIGNING).map_err(|_| CryptoError::Library)?;
        parts(pair)
    }

    fn sign_from_seed(seed: &Secret<32>) -> Result<SigningParts<Signer>, CryptoError> {
        let pair = PqdsaKeyPair::from_seed(&ML_DSA_65_SIGNING, seed.expose())
            .map_err(|_| CryptoError::Library)?;
        parts(pair)
    }

    fn sign_from_secret(secret: SigningSecretBytes) -> Result<SigningParts<Signer>, CryptoError> {
        super::check_signing_secret(&secret).map_err(CryptoError::InvalidSecretKey)?;
        let pair = PqdsaKeyPair::from_raw_private_key(&ML_DSA_65_SIGNING, secret.expose())
            .map_err(|_| CryptoError::InvalidSecretKey(Flaw::Mismatch))?;
        let public = public_of(&pair)?;
        Ok(SigningParts {
            signer: Signer(pair),
            secret,
            public,
        })
    }

    fn sign(signer: &Signer, message: &[u8]) -> Result<Box<[u8; SIGNATURE_BYTES]>, CryptoError> {
        let mut signature = Box::new([0; SIGNATURE_BYTES]);
        signer
            .0
            .sign(message, &mut signature[..])
            .map_err(|_| CryptoError::Library)?;
        Ok(signature)
    }

    fn verify(public: &[u8; SIGNING_PUBLIC_KEY_BYTES], message: &[u8], signature: &[u8]) -> bool {
        signature.len() == SIGNATURE_BYTES
            && ML_DSA_65.verify_sig(public, message, signature).is_ok()
    }

    fn kem_generate() -> Result<(KemSecretBytes, Decapsulator), CryptoError> {
        let key = DecapsulationKey::generate(&ML_KEM_768).map_err(|_| CryptoError::Library)?;
        let secret =
            KemSecretBytes::copy_from(key.key_bytes().map_err(|_| CryptoError::Library)?.as_ref())?;
        Ok((secret, Decapsulator(key)))
    }

    fn decapsulator(secret: &KemSecretBytes) -> Result<Decapsulator, CryptoError> {
        DecapsulationKey::new(&ML_KEM_768, secret.expose())
            .map(Decapsulator)
            .map_err(|_| CryptoError::InvalidSecretKey(Flaw::Refused))
    }

    fn encapsulate(
        public: &[u8; KEM_PUBLIC_KEY_BYTES],
    ) -> Result<(Box<[u8; KEM_CIPHERTEXT_BYTES]>, SharedSecret), CryptoError> {
        let refused = CryptoError::InvalidPublicKey(Flaw::Refused);
        let key = EncapsulationKey::new(&ML_KEM_768, public).map_err(|_| refused)?;
        let (ciphertext, secret) = key.encapsulate().map_err(|_| refused)?;
        let mut out = Box::new([0; KEM_CIPHERTEXT_BYTES]);
        let bytes: &[u8; KEM_CIPHERTEXT_BYTES] = ciphertext
            .as_ref()
            .try_into()
            .map_err(|_| CryptoError::Library)?;
        out.copy_from_slice(bytes);
        Ok((out, SharedSecret::copy_from(secret.as_ref())?))
    }

    fn decapsulate(
        key: &Decapsulator,
        ciphertext: &[u8; KEM_CIPHERTEXT_BYTES],
    ) -> Result<SharedSecret, CryptoError> {
        let secret = key
            .0
            .decapsulate(Ciphertext::from(&ciphertext[..]))
            .map_err(|_| CryptoError::Library)?;
        SharedSecret::copy_from(secret.as_ref())
    }

    fn aead_seal(
        key: &Secret<32>,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), CryptoError> {
        let (cipher, nonce) = subkey(key, nonce)?;
        out.reserve(plaintext.len() + TAG_BYTES);
        let start = out.len();
        out.extend_from_slice(plaintext);
        let body = out.get_mut(start..).unwrap_or_default();
        let tag = cipher
            .seal_in_place_separate_tag(nonce, Aad::from(aad), body)
            .map_err(|_| CryptoError::Library)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    fn aead_open(
        key: &Secret<32>,
        nonce: &[u8; NONCE_BYTES],
        aad: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_BYTES],
    ) -> Result<Vec<u8>, CryptoError> {
        let (cipher, nonce) = subkey(key, nonce)?;
        let mut out = vec![0; ciphertext.len()];
        match cipher.open_separate_gather(nonce, Aad::from(aad), ciphertext, tag, &mut out) {
            Ok(()) => Ok(out),
            Err(_) => {
                out.zeroize();
                Err(CryptoError::DecryptionFailed)
            }
        }
    }
}

/// XChaCha20 = `HChaCha20` over the first 16 nonce bytes, then ChaCha20 with the other eight
/// (draft-irtf-cfrg-xchacha §2.3).
fn subkey(
    key: &Secret<32>,
    nonce: &[u8; NONCE_BYTES],
) -> Result<(LessSafeKey, Nonce), CryptoError> {
    let (head, tail) = nonce
        .split_first_chunk::<16>()
        .ok_or(CryptoError::Library)?;
    let mut subkey = chacha20::hchacha::<chacha20::R20>(key.expose().into(), head.into());
    let unbound = UnboundKey::new(&CHACHA20_POLY1305, &subkey).map_err(|_| CryptoError::Library);
    subkey.zeroize();
    let mut short = [0; 12];
    for (to, from) in short.iter_mut().skip(4).zip(tail) {
        *to = *from;
    }
    Ok((
        LessSafeKey::new(unbound?),
        Nonce::assume_unique_for_key(short),
    ))
}

fn parts(pair: PqdsaKeyPair) -> Result<SigningParts<Signer>, CryptoError> {
    let raw = pair
        .private_key()
        .as_raw_bytes()
        .map_err(|_| CryptoError::Library)?;
    let secret = SigningSecretBytes::copy_from(raw.as_ref())?;
    let public = public_of(&pair)?;
    Ok(SigningParts {
        signer: Signer(pair),
        secret,
        public,
    })
}

fn public_of(pair: &PqdsaKeyPair) -> Result<Box<[u8; SIGNING_PUBLIC_KEY_BYTES]>, CryptoError> {
    let bytes: Box<[u8]> = pair.public_key().as_ref().into();
    bytes.try_into().map_err(|_| CryptoError::Library)
}
