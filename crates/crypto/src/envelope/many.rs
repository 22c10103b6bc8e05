//! One message to several people: format v3 (`spec/wire.md` §1).
//!
//! ```text
//! 0x03 || u8 n || commitment 32 || n × slot 1161 || nonce 24 || ciphertext || tag 16
//!   slot i      envelope v2 of the content key 32, from the sender to recipient i
//!   commitment  BLAKE2b-256, keyed by the content key, over tag || context
//!   key         BLAKE2b-256, keyed by the content key, over tag || context
//!   context     sender 32 || u8 n || n × recipient 32
//!   AAD         everything before the ciphertext
//! ```
//!
//! Recipients are ascending by account id, 1 to 99. Both derivations name the sender and every
//! recipient, so an envelope opens only for exactly that company. XChaCha20-Poly1305 alone does
//! not commit to its key: without the commitment a sender could put different content keys into
//! the slots and show one message as two. Nobody learns anything about the others' keys; that
//! they take part is public anyway.

use super::{OVERHEAD_V2_BYTES, Parties, VERSION_2, open_v2};
use crate::aead::{self, NONCE_BYTES, TAG_BYTES};
use crate::backend::{Active, Backend};
use crate::derive::keyed;
use crate::error::{CryptoError, Flaw};
use crate::kem::{KemPublicKey, KemSecretKey};
use crate::secret::Secret;
use session_core::hash::Tag;
use session_core::ids::AccountId;
use session_core::limits::PARTICIPANTS_MAX;

/// First byte of the format.
pub const VERSION_3: u8 = 3;

/// Recipients of one envelope at most: a session without its sender.
pub const RECIPIENTS_MAX: usize = PARTICIPANTS_MAX - 1;

/// Bytes of one recipient's slot.
pub const SLOT_BYTES: usize = OVERHEAD_V2_BYTES + KEY_BYTES;

const KEY_BYTES: usize = 32;
const COMMITMENT_BYTES: usize = 32;
const SLOTS_AT: usize = 2 + COMMITMENT_BYTES;

/// Bytes that the format adds to a message to this many people.
pub const fn overhead_bytes(recipients: usize) -> usize {
    SLOTS_AT + recipients * SLOT_BYTES + NONCE_BYTES + TAG_BYTES
}

/// Somebody to seal to. The key may be a later one than the account id is the hash of.
#[derive(Debug, Clone, Copy)]
pub struct Recipient<'a> {
    /// Account.
    pub account: AccountId,
    /// Its current KEM key.
    pub kem: &'a KemPublicKey,
}

/// The parts of an envelope, of which nothing is believed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parts<'a> {
    commitment: &'a [u8; COMMITMENT_BYTES],
    slots: &'a [u8],
    nonce: &'a [u8; NONCE_BYTES],
    /// Ciphertext and tag.
    body: &'a [u8],
    /// Everything before the ciphertext.
    header: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Reads an envelope.
    ///
    /// # Errors
    /// [`CryptoError::InvalidCiphertext`] for another version, no or too many recipients, or
    /// fewer bytes than they take.
    pub fn read(envelope: &'a [u8]) -> Result<Self, CryptoError> {
        let (Some(&VERSION_3), Some(&count)) = (envelope.first(), envelope.get(1)) else {
            return Err(CryptoError::InvalidCiphertext(Flaw::Mismatch));
        };
        let count = usize::from(count);
        if !(1..=RECIPIENTS_MAX).contains(&count) {
            return Err(CryptoError::InvalidCiphertext(Flaw::Range));
        }
        let short = CryptoError::InvalidCiphertext(Flaw::Length {
            expected: overhead_bytes(count),
            got: envelope.len(),
        });
        let header_bytes = SLOTS_AT + count * SLOT_BYTES + NONCE_BYTES;
        let (header, body) = envelope.split_at_checked(header_bytes).ok_or(short)?;
        if body.len() < TAG_BYTES {
            return Err(short);
        }
        let rest = header.get(2..).ok_or(short)?;
        let (commitment, rest) = rest.split_first_chunk().ok_or(short)?;
        let (slots, nonce) = rest.split_last_chunk().ok_or(short)?;
        // A slot is an envelope of our own format: another first byte is another encoding.
        if slots
            .chunks(SLOT_BYTES)
            .any(|slot| slot.first() != Some(&VERSION_2))
        {
            return Err(CryptoError::InvalidCiphertext(Flaw::Mismatch));
        }
        Ok(Self {
            commitment,
            slots,
            nonce,
            body,
            header,
        })
    }

    /// How many people it is sealed to.
    pub const fn recipients(&self) -> usize {
        self.slots.len() / SLOT_BYTES
    }

    /// The slot of one recipient.
    fn slot(&self, position: usize) -> Option<&'a [u8]> {
        self.slots.chunks(SLOT_BYTES).nth(position)
    }
}

fn check_recipients<'a>(
    recipients: impl ExactSizeIterator<Item = &'a AccountId> + Clone,
) -> Result<(), CryptoError> {
    let fits = (1..=RECIPIENTS_MAX).contains(&recipients.len());
    let next = recipients.clone().skip(1);
    if fits && recipients.zip(next).all(|(a, b)| a < b) {
        Ok(())
    } else {
        Err(CryptoError::InvalidRecipients)
    }
}

fn context<'a>(
    sender: &AccountId,
    recipients: impl ExactSizeIterator<Item = &'a AccountId>,
) -> Vec<u8> {
    let count = recipients.len();
    let mut out = Vec::with_capacity(33 + 32 * count);
    out.extend_from_slice(sender.as_bytes());
    // At most RECIPIENTS_MAX.
    out.push(u8::try_from(count).unwrap_or(u8::MAX));
    for recipient in recipients {
        out.extend_from_slice(recipient.as_bytes());
    }
    out
}

/// Seals `plaintext` to everybody in `recipients`, strictly ascending by account.
///
/// # Errors
/// [`CryptoError::InvalidRecipients`] for none, more than [`RECIPIENTS_MAX`], or another order;
/// [`CryptoError::NoRandomness`], [`CryptoError::Library`].
pub fn seal(
    sender: AccountId,
    recipients: &[Recipient<'_>],
    plaintext: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let accounts = || recipients.iter().map(|recipient| &recipient.account);
    check_recipients(accounts())?;
    let content_key: Secret<KEY_BYTES> = Secret::random()?;
    let context = context(&sender, accounts());
    let commitment: Secret<COMMITMENT_BYTES> =
        keyed(&content_key, Tag::EnvelopeManyCommitment, &[&context]);
    let mut out = Vec::with_capacity(plaintext.len() + overhead_bytes(recipients.len()));
    // At most RECIPIENTS_MAX.
    out.extend_from_slice(&[VERSION_3, u8::try_from(recipients.len()).unwrap_or(u8::MAX)]);
    out.extend_from_slice(commitment.expose());
    for recipient in recipients {
        let parties = Parties {
            sender,
            recipient: recipient.account,
        };
        out.extend(super::seal(recipient.kem, &parties, content_key.expose())?);
    }
    let nonce = aead::random_nonce()?;
    out.extend_from_slice(&nonce);
    let header = out.clone();
    let key = keyed(&content_key, Tag::EnvelopeManyKey, &[&context]);
    Active::aead_seal(&key, &nonce, &header, plaintext, &mut out)?;
    Ok(out)
}

/// Opens `me`'s copy of an envelope that `sender` sealed to exactly `recipients`, ascending.
///
/// # Errors
/// [`CryptoError::InvalidCiphertext`] for bytes that are no such envelope, or one to another
/// number of people; [`CryptoError::InvalidRecipients`] where `me` is not among them or they are
/// out of order; [`CryptoError::DecryptionFailed`] for another key, sender, company, or changed
/// bytes.
pub fn open(
    key: &KemSecretKey,
    sender: &AccountId,
    me: &AccountId,
    recipients: &[AccountId],
    envelope: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    check_recipients(recipients.iter())?;
    let position = recipients
        .binary_search(me)
        .map_err(|_| CryptoError::InvalidRecipients)?;
    let parts = Parts::read(envelope)?;
    if parts.recipients() != recipients.len() {
        return Err(CryptoError::InvalidCiphertext(Flaw::Mismatch));
    }
    let slot = parts.slot(position).ok_or(CryptoError::DecryptionFailed)?;
    let rest = slot.get(1..).ok_or(CryptoError::DecryptionFailed)?;
    let parties = Parties {
        sender: *sender,
        recipient: *me,
    };
    let opened = open_v2(key, &parties, slot, rest)?;
    let bytes = zeroize::Zeroizing::new(opened.plaintext);
    let content_key = Secret::copy_from(&bytes).map_err(|_| CryptoError::DecryptionFailed)?;
    let context = context(sender, recipients.iter());
    let commitment: Secret<COMMITMENT_BYTES> =
        keyed(&content_key, Tag::EnvelopeManyCommitment, &[&context]);
    if commitment != Secret::new(*parts.commitment) {
        return Err(CryptoError::DecryptionFailed);
    }
    let key = keyed(&content_key, Tag::EnvelopeManyKey, &[&context]);
    aead::open_body(&key, parts.nonce, parts.header, parts.body)
}

#[cfg(test)]
mod tests;
