//! Picks the widest vector instructions that this machine has, at run time.
//!
//! Each variant is the same safe code, compiled with other instructions allowed.

#![allow(
    unsafe_code,
    reason = "calling a function compiled for instructions found at run time"
)]

use super::encoding::{Hints, Z_BYTES};
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
