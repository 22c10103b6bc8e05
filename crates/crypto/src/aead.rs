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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_and_each_seal_has_a_nonce_of_its_own() {
        let key = Secret::new([7; 32]);
        for plaintext in [&b""[..], b"x", &[3; 1_000]] {
            let sealed = seal(&key, b"aad", plaintext).unwrap();
            assert_eq!(sealed.len(), plaintext.len() + OVERHEAD_BYTES);
            assert_eq!(open(&key, b"aad", &sealed).unwrap(), plaintext);
            assert_ne!(
                seal(&key, b"aad", plaintext).unwrap()[..NONCE_BYTES],
                sealed[..NONCE_BYTES]
            );
        }
    }

    /// Each bit matters: of the text sealed, the additional data and the key.
    #[test]
    fn nothing_else_opens() {
        let key = Secret::new([7; 32]);
        let sealed = seal(&key, b"aad", b"text").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(
                open(&key, b"aad", &changed),
                Err(CryptoError::DecryptionFailed)
            );
        }
        let refused = Err(CryptoError::DecryptionFailed);
        assert_eq!(open(&key, b"aae", &sealed), refused);
        assert_eq!(open(&Secret::new([8; 32]), b"aad", &sealed), refused);
    }

    #[test]
    fn what_is_too_short_is_refused_by_its_length() {
        let key = Secret::new([7; 32]);
        for got in [0, 1, NONCE_BYTES, OVERHEAD_BYTES - 1] {
            let flaw = Flaw::Length {
                expected: OVERHEAD_BYTES,
                got,
            };
            let refused = Err(CryptoError::InvalidCiphertext(flaw));
            assert_eq!(open(&key, b"", &vec![0; got]), refused);
        }
        for got in 0..TAG_BYTES {
            let flaw = Flaw::Length {
                expected: TAG_BYTES,
                got,
            };
            let refused = Err(CryptoError::InvalidCiphertext(flaw));
            assert_eq!(
                open_with_nonce(&key, &[0; NONCE_BYTES], b"", &vec![0; got]),
                refused
            );
        }
        let nothing = open(&key, b"", &[0; OVERHEAD_BYTES]);
        assert_eq!(nothing, Err(CryptoError::DecryptionFailed));
    }

    /// The nonce that the caller gives counts, and what is in `out` already stays.
    #[test]
    fn a_nonce_may_be_given() {
        let (key, nonce) = (Secret::new([7; 32]), [9; NONCE_BYTES]);
        let mut out = b"before".to_vec();
        seal_with_nonce(&key, &nonce, b"aad", b"text", &mut out).unwrap();
        let body = out.strip_prefix(b"before").unwrap();
        assert_eq!(body.len(), 4 + TAG_BYTES);
        assert_eq!(
            open_with_nonce(&key, &nonce, b"aad", body).unwrap(),
            b"text"
        );
        assert_eq!(
            open(&key, b"aad", &[&nonce, body].concat()).unwrap(),
            b"text"
        );
        let other = open_with_nonce(&key, &[8; NONCE_BYTES], b"aad", body);
        assert_eq!(other, Err(CryptoError::DecryptionFailed));
    }
}
