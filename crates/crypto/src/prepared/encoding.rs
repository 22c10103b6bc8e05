//! The encoded signature: `c~ 48 || z 3200 || hints 61` (FIPS 204 algorithm 27).

use super::{CHALLENGE_BYTES, COLUMNS, N, ROWS};
use crate::backend::SIGNATURE_BYTES;

/// Most hints of a signature (`omega`).
const HINTS_MAX: usize = 55;
/// Bytes of one encoded polynomial of `z`: 20 bits a coefficient.
pub(super) const Z_POLY_BYTES: usize = N * 20 / 8;
/// Bytes of the encoded `z`.
pub(super) const Z_BYTES: usize = COLUMNS * Z_POLY_BYTES;
const HINT_BYTES: usize = HINTS_MAX + ROWS;

const _: () = assert!(CHALLENGE_BYTES + Z_BYTES + HINT_BYTES == SIGNATURE_BYTES);

/// A signature cut into its parts.
pub(super) struct Parts<'a> {
    pub(super) challenge: &'a [u8; CHALLENGE_BYTES],
    pub(super) z: &'a [u8; Z_BYTES],
    pub(super) hints: &'a [u8; HINT_BYTES],
}

impl<'a> Parts<'a> {
    /// Always there: the lengths add up, as asserted above.
    pub(super) fn of(signature: &'a [u8; SIGNATURE_BYTES]) -> Option<Self> {
        let (challenge, rest) = signature.split_first_chunk()?;
        let (z, rest) = rest.split_first_chunk()?;
        Some(Self {
            challenge,
            z,
            hints: rest.try_into().ok()?,
        })
    }
}

/// Positions of the hints: at most 55, for each row a strictly ascending run.
pub(super) struct Hints<'a> {
    positions: &'a [u8; HINTS_MAX],
    /// Where each row's run ends; ascending, at most 55.
    ends: &'a [u8; ROWS],
}

impl<'a> Hints<'a> {
    /// FIPS 204 algorithm 21, as strict as it is written: each set of hints has one encoding, or
    /// a stranger could change a signature without breaking it.
    pub(super) fn decode(bytes: &'a [u8; HINT_BYTES]) -> Option<Self> {
        let (positions, ends) = bytes.split_first_chunk::<HINTS_MAX>()?;
        let ends: &[u8; ROWS] = ends.try_into().ok()?;
        let mut start = 0;
        for end in ends {
            let end = usize::from(*end);
            // `get` refuses an end before its start and beyond the last position.
            let run = positions.get(start..end)?;
            if !run.is_sorted_by(|a, b| a < b) {
                return None;
            }
            start = end;
        }
        let unused = positions.get(start..)?;
        unused
            .iter()
            .all(|byte| *byte == 0)
            .then_some(Self { positions, ends })
    }

    /// The hints as (row, position).
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, usize)> {
        let mut start = 0;
        self.ends.iter().enumerate().flat_map(move |(row, end)| {
            let end = usize::from(*end);
            let run = self.positions.get(start..end).unwrap_or_default();
            start = end;
            run.iter()
                .map(move |position| (row, usize::from(*position)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hints(positions: &[u8], ends: [u8; ROWS]) -> Option<Vec<(usize, usize)>> {
        let mut bytes = [0; HINT_BYTES];
        bytes[..positions.len()].copy_from_slice(positions);
        bytes[HINTS_MAX..].copy_from_slice(&ends);
        Hints::decode(&bytes).map(|hints| hints.iter().collect())
    }

    #[test]
    fn hints_have_one_encoding() {
        assert_eq!(hints(&[], [0; 6]), Some(vec![]));
        assert_eq!(
            hints(&[3, 9, 0, 255], [2, 2, 4, 4, 4, 4]),
            Some(vec![(0, 3), (0, 9), (2, 0), (2, 255)])
        );
        assert_eq!(hints(&[9, 3], [2; 6]), None, "descending");
        assert_eq!(hints(&[3, 3], [2; 6]), None, "twice");
        assert_eq!(hints(&[3, 9], [2, 1, 2, 2, 2, 2]), None, "ends go back");
        assert_eq!(hints(&[3, 9, 1], [2; 6]), None, "padding is not zero");
        assert_eq!(hints(&[], [56; 6]), None, "more than there are");
        assert_eq!(hints(&[], [255; 6]), None, "more than there are");
    }
}
