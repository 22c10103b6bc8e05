//! CB58: base58 (Bitcoin alphabet) of `payload || last 4 bytes of SHA-256(payload)`.
//!
//! Every 32-byte id is printed this way (`spec/wire.md` §4). The encoder works on fixed-size
//! limbs: it costs a fraction of a general big-number base58, and printing ids is what replies
//! spend their time on.

use sha2::{Digest, Sha256};

/// Characters of an encoded 32-byte id at most: 36 bytes need at most 50 base58 digits.
pub const CB58_LEN_MAX: usize = 50;

/// Longest text that is looked at when decoding. Anything longer cannot be a 32-byte id, and the
/// error for it needs no work proportional to its length.
const TEXT_LEN_MAX: usize = 64;

/// Bytes that `TEXT_LEN_MAX` base58 digits can hold (64 x 5.858 bits = 46.9 bytes).
const DECODED_LIMBS: usize = 12;

const CHECKSUM_LEN: usize = 4;
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// 58^5, the largest power of 58 that leaves a `u32` remainder.
const CHUNK: u64 = 58 * 58 * 58 * 58 * 58;

/// Value of each ASCII character in base58, 0xff for characters outside the alphabet.
const VALUES: [u8; 128] = values();

#[allow(
    clippy::indexing_slicing,
    reason = "evaluated at compile time, where a slip is an error"
)]
const fn values() -> [u8; 128] {
    let mut table = [0xff; 128];
    let mut digit = 0;
    while digit < 58 {
        table[ALPHABET[digit] as usize] = digit as u8;
        digit += 1;
    }
    table
}

/// Why a text is not the CB58 form of a 32-byte value.
///
/// The texts of the first four variants are those of the published Go node, which clients search
/// for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Cb58Error {
    /// A character outside the base58 alphabet.
    #[error("base58 decoding error")]
    NotBase58,
    /// Fewer bytes than the checksum alone needs.
    #[error("input string is smaller than the checksum size")]
    MissingChecksum,
    /// The checksum does not belong to the payload.
    #[error("invalid input checksum")]
    BadChecksum,
    /// A valid CB58 text of something that is not 32 bytes long.
    #[error("expected 32 bytes but got {got}")]
    WrongLength {
        /// Payload bytes that the text holds.
        got: usize,
    },
    /// A text longer than any 32-byte id.
    #[error("expected at most 50 characters but got {got}")]
    TooLong {
        /// Characters given.
        got: usize,
    },
}

/// The CB58 text of a 32-byte value, on the stack.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Cb58 {
    digits: [u8; CB58_LEN_MAX],
    start: usize,
}

impl Cb58 {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Every byte came from the alphabet, so the fallback cannot be reached.
        self.digits
            .get(self.start..)
            .and_then(|d| core::str::from_utf8(d).ok())
            .unwrap_or_default()
    }
}

fn checksum(payload: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest: [u8; 32] = Sha256::digest(payload).into();
    let [.., a, b, c, d] = digest;
    [a, b, c, d]
}

/// Encodes 32 bytes. Never fails, never allocates.
pub fn encode(payload: &[u8; 32]) -> Cb58 {
    let mut limbs = [0u32; 9];
    let (words, _) = payload.as_chunks::<4>();
    for (limb, word) in limbs
        .iter_mut()
        .zip(words.iter().chain([&checksum(payload)]))
    {
        *limb = u32::from_be_bytes(*word);
    }
    let mut digits = [b'1'; CB58_LEN_MAX];
    // Five digits at a time, least significant last: divide the nine limbs by 58^5.
    for chunk in digits.rchunks_exact_mut(5) {
        let mut remainder = 0u64;
        for limb in &mut limbs {
            let value = (remainder << 32) | u64::from(*limb);
            // The quotient is below 2^32 because the remainder is below the divisor.
            *limb = u32::try_from(value / CHUNK).unwrap_or(u32::MAX);
            remainder = value % CHUNK;
        }
        for digit in chunk.iter_mut().rev() {
            let value = usize::try_from(remainder % 58).unwrap_or_default();
            *digit = ALPHABET.get(value).copied().unwrap_or(b'1');
            remainder /= 58;
        }
    }
    // Base58 writes one '1' for each leading zero byte and no other leading '1'.
    let zero_bytes = payload.iter().take_while(|b| **b == 0).count();
    let zero_digits = digits.iter().take_while(|d| **d == b'1').count();
    Cb58 {
        digits,
        start: zero_digits.saturating_sub(zero_bytes),
    }
}

/// Decodes a text that must hold exactly 32 bytes and a correct checksum.
///
/// # Errors
/// [`Cb58Error`], which says what is wrong; nothing is truncated or padded.
pub fn decode(text: &str) -> Result<[u8; 32], Cb58Error> {
    if text.len() > TEXT_LEN_MAX {
        return Err(Cb58Error::TooLong { got: text.len() });
    }
    let mut limbs = [0u32; DECODED_LIMBS];
    for character in text.bytes() {
        let digit = VALUES.get(usize::from(character)).copied().unwrap_or(0xff);
        if digit == 0xff {
            return Err(Cb58Error::NotBase58);
        }
        let mut carry = u64::from(digit);
        for limb in limbs.iter_mut().rev() {
            let value = u64::from(*limb) * 58 + carry;
            *limb = (value & 0xffff_ffff) as u32;
            carry = value >> 32;
        }
    }
    let mut bytes = [0u8; DECODED_LIMBS * 4];
    for (out, limb) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(limbs) {
        *out = limb.to_be_bytes();
    }
    let zero_digits = text.bytes().take_while(|c| *c == b'1').count();
    let zero_bytes = bytes.iter().take_while(|b| **b == 0).count();
    let start = zero_bytes.saturating_sub(zero_digits);
    let decoded = bytes.get(start..).unwrap_or_default();
    // A text of only '1's longer than the buffer would need more zero bytes than there are.
    let len = decoded.len() + zero_digits.saturating_sub(zero_bytes);
    if len < CHECKSUM_LEN {
        return Err(Cb58Error::MissingChecksum);
    }
    let (payload, sum) = decoded.split_at(decoded.len().saturating_sub(CHECKSUM_LEN));
    if checksum(payload) != sum {
        return Err(Cb58Error::BadChecksum);
    }
    payload.try_into().map_err(|_| Cb58Error::WrongLength {
        got: len - CHECKSUM_LEN,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The obvious base58: one byte at a time, digits in a vector.
    fn slow_encode(payload: &[u8]) -> String {
        let mut all = payload.to_vec();
        all.extend(checksum(payload));
        let mut digits: Vec<u32> = Vec::new();
        for byte in &all {
            let mut carry = u32::from(*byte);
            for d in &mut digits {
                carry += *d << 8;
                *d = carry % 58;
                carry /= 58;
            }
            while carry > 0 {
                digits.push(carry % 58);
                carry /= 58;
            }
        }
        let zeros = all.iter().take_while(|b| **b == 0).count();
        let ones = core::iter::repeat_n('1', zeros);
        ones.chain(digits.iter().rev().map(|d| ALPHABET[*d as usize] as char))
            .collect()
    }

    proptest! {
        #[test]
        fn encoding_agrees_with_the_obvious_one_and_reads_back(
            mut payload: [u8; 32], zeros in 0usize..=32,
        ) {
            payload[..zeros].fill(0);
            let text = encode(&payload);
            prop_assert_eq!(text.as_str(), slow_encode(&payload));
            prop_assert_eq!(decode(text.as_str()), Ok(payload));
        }

        #[test]
        fn other_lengths_are_refused_with_their_length(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assume!(payload.len() != 32);
            let text = slow_encode(&payload);
            prop_assert_eq!(decode(&text), Err(Cb58Error::WrongLength { got: payload.len() }));
        }

        #[test]
        fn any_text_is_answered_without_panic(text in ".{0,80}") {
            if let Ok(id) = decode(&text) {
                let again = encode(&id);
                prop_assert_eq!(again.as_str(), text);
            }
        }

        #[test]
        fn one_changed_character_is_refused(payload: [u8; 32], at in 0usize..50, by in 1usize..58) {
            let mut text = encode(&payload).as_str().as_bytes().to_vec();
            let at = at % text.len();
            let old = ALPHABET.iter().position(|c| *c == text[at]).unwrap();
            text[at] = ALPHABET[(old + by) % 58];
            prop_assert!(decode(core::str::from_utf8(&text).unwrap()).is_err());
        }
    }

    #[test]
    fn the_published_vm_id_is_the_padded_name_and_the_circulating_one_fails_its_checksum() {
        let mut name = [0u8; 32];
        name[..9].copy_from_slice(b"sessionvm");
        assert_eq!(
            encode(&name).as_str(),
            "speKUgLBX6WRD5cfGeEfLa43LxTXUBckvtv4td6F3eTXvRP48"
        );
        assert_eq!(
            decode("2ZbQaVuXHtT7vfJt8FmWEQKAT4NgtPqWEZHg5m3tUvEiSMnQNt"),
            Err(Cb58Error::BadChecksum)
        );
    }

    #[test]
    fn short_and_long_texts_are_told_apart() {
        assert_eq!(decode("zzz"), Err(Cb58Error::MissingChecksum));
        assert_eq!(decode(""), Err(Cb58Error::MissingChecksum));
        assert_eq!(decode("0OIl"), Err(Cb58Error::NotBase58));
        assert_eq!(decode(&"z".repeat(65)), Err(Cb58Error::TooLong { got: 65 }));
        assert_eq!(decode(&"1".repeat(64)), Err(Cb58Error::BadChecksum));
        // Nothing but a checksum, that of no bytes.
        assert_eq!(
            decode(&slow_encode(&[])),
            Err(Cb58Error::WrongLength { got: 0 })
        );
        // More zero bytes than are kept count by their digits.
        let fits = slow_encode(&[0; 44]);
        for more in 1..=14 {
            let text = "1".repeat(more) + &fits;
            assert_eq!(
                decode(&text),
                Err(Cb58Error::WrongLength { got: 44 + more })
            );
        }
    }
}
