//! Keys from keys: keyed BLAKE2b under a purpose tag.

use crate::secret::Secret;
use blake2b_simd::Params;
use session_core::hash::Tag;

/// BLAKE2b of `N` bytes (at most 64), keyed by `key`, over
/// `u8 length of tag || tag || parts…`. The output length is part of BLAKE2b's parameters, so a
/// shorter key is not the front of a longer one.
pub fn keyed<const N: usize>(key: &Secret<32>, tag: Tag, parts: &[&[u8]]) -> Secret<N> {
    const { assert!(N <= 64 && N > 0, "BLAKE2b gives 1 to 64 bytes") }
    let label = tag.label().as_bytes();
    let mut state = Params::new().hash_length(N).key(key.expose()).to_state();
    // Labels are short literals of one file in core, so the length always fits one byte.
    state
        .update(&[u8::try_from(label.len()).unwrap_or(u8::MAX)])
        .update(label);
    for part in parts {
        state.update(part);
    }
    let mut out = Secret::zero();
    for (to, from) in out.expose_mut().iter_mut().zip(state.finalize().as_bytes()) {
        *to = *from;
    }
    out
}

/// Plain BLAKE2b-256 of the parts in order.
pub(crate) fn blake2b_256(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Params::new().hash_length(32).to_state();
    for part in parts {
        state.update(part);
    }
    let mut out = [0; 32];
    for (to, from) in out.iter_mut().zip(state.finalize().as_bytes()) {
        *to = *from;
    }
    out
}
