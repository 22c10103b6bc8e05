//! Mutations, from a seeded generator: one seed, one sequence of inputs.

/// Inputs do not grow beyond this; the largest decoder limit that a mutant has to exceed is a
/// claimed length, which costs no bytes.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;

/// Numbers near which decoders go wrong: signs, widths, and limits of this codebase.
const BOUNDARIES: [u64; 26] = [
    0,
    1,
    2,
    20,
    21,
    22,
    31,
    32,
    33,
    100,
    101,
    127,
    128,
    255,
    256,
    0x7fff,
    0xffff,
    0x10_0000,
    0x10_0001,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_fffe,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_ffff,
];

/// Pieces of text that JSON and words break on.
const TOKENS: [&[u8]; 16] = [
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\\u0000",
    b"null",
    b"-1",
    b"1e999",
    b"0",
    b" ",
    b"\xff",
    b"\xed\xa0\x80",
    b"1",
];

/// Makes mutants. The generator is SplitMix64: fast, seedable, and nothing depends on its quality.
#[derive(Debug, Clone)]
pub struct Mutator {
    state: u64,
}

impl Mutator {
    /// A mutator that will do what every other one with this seed does.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        let number = self.next_u64().checked_rem(bound).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        from.get(self.below(from.len()))
    }

    /// A mutant of an input of the pool, by one to four changes.
    pub fn mutant(&mut self, pool: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = self.pick(pool).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, pool);
        }
        bytes.truncate(INPUT_BYTES_MAX);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.below(bytes.len() + 1);
        match self.below(10) {
            // Flip a bit.
            0 => {
                let bit = 1 << self.below(8);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bit;
                }
            }
            // Another byte.
            1 => {
                let new = self.next_u64().to_be_bytes()[0];
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = new;
                }
            }
            // Cut off.
            2 => bytes.truncate(at),
            // Take out a piece.
            3 => {
                let end = at + self.below(bytes.len() - at + 1).min(64);
                bytes.drain(at..end);
            }
            // Put in a boundary number.
            4 => {
                let number = self.boundary();
                bytes.splice(at..at, number);
            }
            // Write a boundary number over what is there.
            5 => {
                let number = self.boundary();
                let end = (at + number.len()).min(bytes.len());
                bytes.splice(at..end, number);
            }
            // Edit what may be a length.
            6 => self.edit_length(bytes),
            // Repeat a piece.
            7 => {
                let end = at + self.below(bytes.len() - at + 1).min(256);
                let piece = bytes.get(at..end).unwrap_or_default().to_vec();
                bytes.splice(at..at, piece);
            }
            // Go on as another input.
            8 => {
                if let Some(other) = self.pick(pool) {
                    let from = self.below(other.len() + 1);
                    bytes.truncate(at);
                    bytes.extend_from_slice(other.get(from..).unwrap_or_default());
                }
            }
            // Put in a piece of text.
            _ => {
                if let Some(token) = self.pick(&TOKENS) {
                    bytes.splice(at..at, token.iter().copied());
                }
            }
        }
    }

    /// A boundary number of 1, 2, 4 or 8 bytes, big-endian.
    fn boundary(&mut self) -> Vec<u8> {
        let number = self.pick(&BOUNDARIES).copied().unwrap_or_default();
        let width = 1usize << self.below(4);
        let bytes = number.to_be_bytes();
        bytes.get(8 - width..).unwrap_or_default().to_vec()
    }

    /// Adds or takes one from a `u32` that could count what follows it.
    fn edit_length(&mut self, bytes: &mut [u8]) {
        let len = bytes.len();
        let places: Vec<usize> = bytes
            .windows(4)
            .enumerate()
            .filter(|(at, word)| {
                let number = word
                    .iter()
                    .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
                number > 0 && number <= (len - at) as u64
            })
            .map(|(at, _)| at)
            .collect();
        let up = self.below(2) == 0;
        if let Some(at) = self.pick(&places)
            && let Some(word) = bytes.get_mut(*at..).and_then(<[u8]>::first_chunk_mut::<4>)
        {
            let number = u32::from_be_bytes(*word);
            let edited = if up {
                number.wrapping_add(1)
            } else {
                number.wrapping_sub(1)
            };
            *word = edited.to_be_bytes();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_makes_one_sequence_and_another_seed_another() {
        let pool = vec![vec![0, 0, 0, 3, 1, 2, 3], b"{\"a\":1}".to_vec(), Vec::new()];
        let run = |seed| -> Vec<Vec<u8>> {
            let mut mutator = Mutator::new(seed);
            (0..2_000).map(|_| mutator.mutant(&pool)).collect()
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
        let mutants = run(3);
        let distinct = std::collections::BTreeSet::from_iter(&mutants).len();
        assert!(distinct > 1_000, "{distinct}");
        // The count is edited without anything else being touched.
        assert!(mutants.contains(&vec![0, 0, 0, 4, 1, 2, 3]));
        assert!(Mutator::new(1).mutant(&[]).len() < 1_000);
    }
}
