//! Picks the widest vector instructions that this machine has, at run time.
//!
//! Each variant is the same safe code, compiled with other instructions allowed.

#![allow(
    unsafe_code,
    reason = "calling a function compiled for instructions found at run time"
)]

use super::encoding::{Hints, Z_BYTES};
use super::hash;
use super::lanes::{self, Matrix};
use super::{N, W1_BYTES};

/// [`lanes::reconstruct_w1`] with the best instructions here.
pub(super) fn reconstruct_w1(
    matrix: &Matrix,
    z: &[u8; Z_BYTES],
    challenge: &[u32; N],
    hints: &Hints<'_>,
    w1: &mut [u8; W1_BYTES],
) -> bool {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: `with_avx2` is safe code whose one requirement is that the processor and the
        // operating system support AVX2, which the line above has just found out.
        return unsafe { with_avx2(matrix, z, challenge, hints, w1) };
    }
    lanes::reconstruct_w1(matrix, z, challenge, hints, w1)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2(
    matrix: &Matrix,
    z: &[u8; Z_BYTES],
    challenge: &[u32; N],
    hints: &Hints<'_>,
    w1: &mut [u8; W1_BYTES],
) -> bool {
    lanes::reconstruct_w1(matrix, z, challenge, hints, w1)
}

/// [`hash::permute`] with the best instructions here.
pub(super) fn permute(state: &mut [u64; 25]) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("bmi1") && std::arch::is_x86_feature_detected!("bmi2") {
        // SAFETY: `permute_with_bmi` is safe code whose one requirement is that the processor
        // supports BMI1 and BMI2, which the line above has just found out.
        return unsafe { permute_with_bmi(state) };
    }
    hash::permute(state);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "bmi1,bmi2")]
fn permute_with_bmi(state: &mut [u64; 25]) {
    hash::permute(state);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_variants_agree_with_the_chosen_ones() {
        let mut chosen: [u64; 25] =
            core::array::from_fn(|i| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut plain = chosen;
        permute(&mut chosen);
        hash::permute(&mut plain);
        assert_eq!(chosen, plain);

        let mut matrix = Matrix::zero();
        super::super::sample::expand_a(&[7; 32], &mut matrix);
        let hints = [0; 61];
        let hints = Hints::decode(&hints).unwrap();
        let mut challenge = [0; N];
        challenge[3] = 1;
        let mut z = [0; Z_BYTES];
        for (i, five) in z.chunks_mut(5).enumerate() {
            five.copy_from_slice(&[(i % 256) as u8, 1, 0x28, (i % 241) as u8, 0x70]);
        }
        let (mut chosen, mut plain) = ([0; W1_BYTES], [1; W1_BYTES]);
        assert!(reconstruct_w1(&matrix, &z, &challenge, &hints, &mut chosen));
        assert!(lanes::reconstruct_w1(
            &matrix, &z, &challenge, &hints, &mut plain
        ));
        assert_eq!(chosen, plain);
    }
}
