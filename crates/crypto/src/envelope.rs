//! The message envelope (`spec/wire.md` §1): a message sealed to one KEM key.
//!
//! ```text
//! v1  KEM ct 1088 || nonce 24 || ciphertext || tag 16      key = shared secret, no AAD
//! v2  0x02 || KEM ct 1088 || nonce 24 || ciphertext || tag 16
//!     key = BLAKE2b-256, keyed by the shared secret, over
//!           u8 length of tag || tag || KEM ct || recipient 32 || sender 32
//!     AAD = everything before the ciphertext (1113 bytes)
//! ```
//!
//! v1 is the published format: anybody can have sealed it. v2 opens only for the sender id it was
//! sealed with. That binds the id, it does not prove it: a signature does. v3 is v2 for several
//! people: [`many`].

pub mod many;

use crate::aead::{self, NONCE_BYTES, TAG_BYTES};
use crate::backend::{Active, Backend, KEM_CIPHERTEXT_BYTES};
use crate::error::{CryptoError, Flaw};
use crate::kem::{KemCiphertext, KemPublicKey, KemSecretKey};
use crate::secret::{Secret, SharedSecret};
use session_core::hash::Tag;
use session_core::ids::AccountId;

/// Bytes that the published format adds to a message.
pub const OVERHEAD_V1_BYTES: usize = KEM_CIPHERTEXT_BYTES + NONCE_BYTES + TAG_BYTES;
/// Bytes that our format adds to a message.
pub const OVERHEAD_V2_BYTES: usize = 1 + OVERHEAD_V1_BYTES;

/// First byte of our format.
const VERSION_2: u8 = 2;

/// Who an envelope is between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parties {
    /// Who sealed it, by their own word.
    pub sender: AccountId,
    /// Whose key it is sealed to.
    pub recipient: AccountId,
}

/// Which format an envelope turned out to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The published format. The sender is unbound: the claimed one was not checked at all.
    V1Unbound,
    /// Ours: sealed with exactly the claimed sender id.
    V2,
}

/// An opened envelope.
#[derive(Clone, PartialEq, Eq)]
pub struct Opened {
    /// The message.
    pub plaintext: Vec<u8>,
    /// Its format, and with it what is known about the sender.
    pub format: Format,
}

impl core::fmt::Debug for Opened {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Opened")
            .field("format", &self.format)
            .finish_non_exhaustive()
    }
}

/// Seals `plaintext` in our format.
///
/// # Errors
/// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
pub fn seal(
    key: &KemPublicKey,
    parties: &Parties,
    plaintext: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let (ciphertext, shared) = key.encapsulate()?;
    let nonce = aead::random_nonce()?;
    let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD_V2_BYTES);
    out.push(VERSION_2);
    out.extend_from_slice(ciphertext.as_bytes());
    out.extend_from_slice(&nonce);
    let mut header = [0; HEADER_V2_BYTES];
    header.copy_from_slice(&out);
    let message_key = message_key(&shared, &ciphertext, parties);
    Active::aead_seal(&message_key, &nonce, &header, plaintext, &mut out)?;
    Ok(out)
}

/// Seals `plaintext` in the published format, for readers that know no other. Whoever reads it
/// learns nothing about the sender.
///
/// # Errors
/// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
pub fn seal_published_v1(key: &KemPublicKey, plaintext: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let (ciphertext, shared) = key.encapsulate()?;
    let nonce = aead::random_nonce()?;
    let mut out = Vec::with_capacity(plaintext.len() + OVERHEAD_V1_BYTES);
    out.extend_from_slice(ciphertext.as_bytes());
    out.extend_from_slice(&nonce);
    Active::aead_seal(&shared, &nonce, &[], plaintext, &mut out)?;
    Ok(out)
}

/// Opens either format: ours first, then the published one, whose first byte is random.
///
/// # Errors
/// [`CryptoError::InvalidCiphertext`] when too short for any format,
/// [`CryptoError::DecryptionFailed`] for another key, another sender or changed bytes.
pub fn open(key: &KemSecretKey, parties: &Parties, envelope: &[u8]) -> Result<Opened, CryptoError> {
    if let Some((&VERSION_2, rest)) = envelope.split_first()
        && rest.len() >= OVERHEAD_V1_BYTES
    {
        match open_v2(key, parties, envelope, rest) {
            Err(CryptoError::DecryptionFailed) => {}
            done => return done,
        }
    }
    open_published_v1(key, envelope).map(|plaintext| Opened {
        plaintext,
        format: Format::V1Unbound,
    })
}

/// Opens the published format only.
///
/// # Errors
/// As [`open`].
pub fn open_published_v1(key: &KemSecretKey, envelope: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let (ciphertext, nonce, body) = split(envelope)?;
    let shared = key.decapsulate(&ciphertext)?;
    aead::open_body(&shared, nonce, &[], body)
}

const HEADER_V2_BYTES: usize = 1 + KEM_CIPHERTEXT_BYTES + NONCE_BYTES;

fn open_v2(
    key: &KemSecretKey,
    parties: &Parties,
    envelope: &[u8],
    rest: &[u8],
) -> Result<Opened, CryptoError> {
    let (ciphertext, nonce, body) = split(rest)?;
    let header = envelope.get(..HEADER_V2_BYTES).unwrap_or_default();
    let shared = key.decapsulate(&ciphertext)?;
    let message_key = message_key(&shared, &ciphertext, parties);
    let plaintext = aead::open_body(&message_key, nonce, header, body)?;
    Ok(Opened {
        plaintext,
        format: Format::V2,
    })
}

type Split<'a> = (KemCiphertext, &'a [u8; NONCE_BYTES], &'a [u8]);

fn split(bytes: &[u8]) -> Result<Split<'_>, CryptoError> {
    let too_short = CryptoError::InvalidCiphertext(Flaw::Length {
        expected: OVERHEAD_V1_BYTES,
        got: bytes.len(),
    });
    let (ciphertext, rest) = bytes
        .split_at_checked(KEM_CIPHERTEXT_BYTES)
        .ok_or(too_short)?;
    let (nonce, body) = rest.split_first_chunk().ok_or(too_short)?;
    if body.len() < TAG_BYTES {
        return Err(too_short);
    }
    Ok((KemCiphertext::try_from(ciphertext)?, nonce, body))
}

fn message_key(shared: &SharedSecret, ciphertext: &KemCiphertext, parties: &Parties) -> Secret<32> {
    crate::derive::keyed(
        shared,
        Tag::EnvelopeKey,
        &[
            ciphertext.as_bytes(),
            parties.recipient.as_bytes(),
            parties.sender.as_bytes(),
        ],
    )
}
