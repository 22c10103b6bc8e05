//! What is sampled from hashes: the matrix **A** and the challenge polynomial.

use super::hash::{shake128_stream, shake256_stream};
use super::lanes::Matrix;
use super::{CHALLENGE_BYTES, COLUMNS, N, Q, ROWS};

/// Bytes of the seed of **A**, the front of a public key.
pub(super) const RHO_BYTES: usize = 32;
/// Nonzero coefficients of a challenge.
const TAU: usize = 49;
/// Bytes that SHAKE128 gives at a time; a multiple of three.
const RATE_128: usize = 168;

/// FIPS 204 algorithms 30 and 32. **A** comes in NTT form.
pub(super) fn expand_a(rho: &[u8], matrix: &mut Matrix) {
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            // Both are below 256.
            let mut stream = shake128_stream(&[rho, &[column as u8, row as u8]]);
            let mut block = [0; RATE_128];
            let mut coefficient = 0;
            while coefficient < N {
                stream.read(&mut block);
                for [a, b, c] in block.as_chunks::<3>().0 {
                    let value = u32::from_le_bytes([*a, *b, c & 0x7f, 0]);
                    if value < Q && coefficient < N {
                        matrix.set(coefficient, column, row, value);
                        coefficient += 1;
                    }
                }
            }
        }
    }
}

/// FIPS 204 algorithm 29: 49 coefficients of 1 or -1 (as `Q - 1`), the others 0.
pub(super) fn in_ball(seed: &[u8; CHALLENGE_BYTES]) -> [u32; N] {
    let mut stream = shake256_stream(&[seed]);
    let mut signs = [0; 8];
    stream.read(&mut signs);
    let mut signs = u64::from_le_bytes(signs);
    let mut challenge = [0; N];
    // One block of SHAKE256 nearly always holds enough candidates.
    let mut block = [0u8; 128];
    let mut candidates = [].iter();
    for i in N - TAU..N {
        let j = loop {
            match candidates.next() {
                Some(&j) if usize::from(j) <= i => break usize::from(j),
                Some(_) => {}
                None => {
                    stream.read(&mut block);
                    candidates = block.iter();
                }
            }
        };
        let sign = if signs & 1 == 0 { 1 } else { Q - 1 };
        signs >>= 1;
        challenge.swap(i, j);
        if let Some(at_j) = challenge.get_mut(j) {
            *at_j = sign;
        }
    }
    challenge
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Active, Backend};
    use crate::{PreparedVerifyingKey, Secret, SigningPublicKey};

    /// One candidate in 8 million is `q` itself and must be passed over (FIPS 204 algorithm 14). The
    /// matrix of this seed has one: the 78th candidate of row 1, column 0.
    #[test]
    fn a_candidate_of_q_itself_is_passed_over() {
        let mut seed = [0; 32];
        seed[30..].copy_from_slice(&924u16.to_be_bytes());
        let key = Active::sign_from_seed(&Secret::new(seed)).unwrap();
        let mut stream = shake128_stream(&[&key.public[..32], &[0, 1]]);
        let mut blocks = [[0; RATE_128]; 2];
        blocks.iter_mut().for_each(|block| stream.read(block));
        let [a, b, c] = blocks[1].as_chunks::<3>().0[78 - RATE_128 / 3];
        assert_eq!(u32::from_le_bytes([a, b, c & 0x7f, 0]), Q);

        let signature = Active::sign(&key.signer, b"text").unwrap();
        let public = SigningPublicKey::try_from(&key.public[..]).unwrap();
        assert!(PreparedVerifyingKey::new(&public).verify(b"text", &signature));
    }
}
