//! XChaCha20-Poly1305: bytes under a key that both sides already have.
//!
//! ```text
//! sealed = nonce 24 || ciphertext || tag 16
//! ```

use crate::backend::{Active, Backend};
pub use crate::backend::{NONCE_BYTES, TAG_BYTES};
use crate::error::{CryptoError, Flaw};
use crate::secret::{Secret, os_random};

/// Bytes that sealing adds.
pub const OVERHEAD_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// Seals `plaintext` under a random nonce; 192-bit nonces do not collide.
///
/// # Errors
/// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
pub fn seal(key: &Secret<32>, aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD_BYTES);
    let nonce = random_nonce()?;
    out.extend_from_slice(&nonce);
    Active::aead_seal(key, &nonce, aad, plaintext, &mut out)?;
    Ok(out)
}

/// Opens what [`seal`] made under the same key and additional data.
///
/// # Errors
/// [`CryptoError::InvalidCiphertext`] when too short, [`CryptoError::DecryptionFailed`].
pub fn open(key: &Secret<32>, aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let (nonce, body) = split(sealed)?;
    open_body(key, nonce, aad, body)
}

/// Appends ciphertext and tag to `out`, under a nonce of the caller's: for keys that are used once,
/// where the nonce follows from the key or is sent apart. A nonce never serves twice under a key.
///
/// # Errors
/// [`CryptoError::Library`].
pub fn seal_with_nonce(
    key: &Secret<32>,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    Active::aead_seal(key, nonce, aad, plaintext, out)
}

/// Opens ciphertext and tag that [`seal_with_nonce`] appended.
///
/// # Errors
/// [`CryptoError::InvalidCiphertext`] when too short, [`CryptoError::DecryptionFailed`].
pub fn open_with_nonce(
    key: &Secret<32>,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    body: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    open_body(key, nonce, aad, body)
}

/// Opens ciphertext and tag under an explicit nonce.
pub(crate) fn open_body(
    key: &Secret<32>,
    nonce: &[u8; NONCE_BYTES],
    aad: &[u8],
    body: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let (ciphertext, tag) =
        body.split_last_chunk::<TAG_BYTES>()
            .ok_or(CryptoError::InvalidCiphertext(Flaw::Length {
                expected: TAG_BYTES,
                got: body.len(),
            }))?;
    Active::aead_open(key, nonce, aad, ciphertext, tag)
}

pub(crate) fn random_nonce() -> Result<[u8; NONCE_BYTES], CryptoError> {
    let mut nonce = [0; NONCE_BYTES];
    os_random(&mut nonce)?;
    Ok(nonce)
}

fn split(sealed: &[u8]) -> Result<(&[u8; NONCE_BYTES], &[u8]), CryptoError> {
    sealed
        .split_first_chunk()
        .filter(|(_, body)| body.len() >= TAG_BYTES)
        .ok_or(CryptoError::InvalidCiphertext(Flaw::Length {
            expected: OVERHEAD_BYTES,
            got: sealed.len(),
        }))
}
