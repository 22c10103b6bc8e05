//! SHAKE (FIPS 202).

use shake::digest::{ExtendableOutput, Update, XofReader};
use shake::{Shake128, Shake256};

/// SHAKE256 of the parts in order.
pub(super) fn shake256(parts: &[&[u8]], out: &mut [u8]) {
    shake256_reader(parts).read(out);
}

/// SHAKE256 of the parts in order, to be read as far as needed.
pub(super) fn shake256_reader(parts: &[&[u8]]) -> impl XofReader + use<> {
    let mut hasher = Shake256::default();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize_xof()
}

/// SHAKE128 of the parts in order, to be read as far as needed.
pub(super) fn shake128_reader(parts: &[&[u8]]) -> impl XofReader + use<> {
    let mut hasher = Shake128::default();
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize_xof()
}
