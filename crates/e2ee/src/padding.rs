//! Padmé: lengths keep only their highest bits, so that a size says little.
//!
//! Of a length of `2^e` to `2^(e+1)`, as many leading bits count as the number `e` has itself: the
//! rest is rounded up. At most 12 % are added, and there are `O(log log n)` bits to learn.
//! (Nikitin and others, "Reducing Metadata Leakage from Encrypted Files and Communication with
//! PURBs", 2019.)
//!
//! ```text
//! padded = content │ 0x80 │ 0x00 ...
//! ```

/// Nothing is shorter: below this a length would still tell a "yes" from a "no".
pub const PADDED_MIN: usize = 32;

/// What follows the content.
const END: u8 = 0x80;

/// Padding that is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the padding is malformed")]
pub struct PaddingError;

/// The padded length of `length` bytes with their end mark: the smallest Padmé length that holds
/// `length + 1`, at least [`PADDED_MIN`].
pub const fn padded_len(length: usize) -> usize {
    let length = length.saturating_add(1);
    if length <= PADDED_MIN {
        return PADDED_MIN;
    }
    let exponent = length.ilog2();
    let kept = exponent.ilog2() + 1;
    let mask = (1_usize << (exponent - kept)) - 1;
    length.saturating_add(mask) & !mask
}

/// Pads in place.
pub fn pad(content: &mut Vec<u8>) {
    let length = padded_len(content.len());
    content.push(END);
    content.resize(length, 0);
}

/// The content of padded bytes.
///
/// # Errors
/// [`PaddingError`] unless this is exactly what [`pad`] makes of the content.
pub fn unpad(padded: &[u8]) -> Result<&[u8], PaddingError> {
    let end = padded.iter().rposition(|byte| *byte != 0);
    let (content, rest) = padded
        .split_at_checked(end.ok_or(PaddingError)?)
        .ok_or(PaddingError)?;
    if rest.first() == Some(&END) && padded_len(content.len()) == padded.len() {
        Ok(content)
    } else {
        Err(PaddingError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_of_the_paper() {
        // 9 is 1001 in binary, e = 3, two bits of it count.
        for (length, padded) in [(0, 32), (31, 32), (32, 36), (99, 104), (999, 1_024)] {
            assert_eq!(padded_len(length), padded, "{length}");
        }
    }

    proptest! {
        #[test]
        fn what_is_padded_comes_back(content in proptest::collection::vec(any::<u8>(), 0..3_000)) {
            let mut padded = content.clone();
            pad(&mut padded);
            prop_assert!(padded.len() <= (content.len() + 1).max(PADDED_MIN) * 112 / 100 + 1);
            prop_assert_eq!(unpad(&padded), Ok(&content[..]));
            padded.push(0);
            prop_assert_eq!(unpad(&padded), Err(PaddingError));
        }

        #[test]
        fn nothing_else_is_accepted(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(content) = unpad(&bytes) {
                let mut again = content.to_vec();
                pad(&mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
