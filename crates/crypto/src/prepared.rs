//! Our own ML-DSA-65 verification (FIPS 204 algorithms 3 and 8) with everything that depends on
//! the key alone computed once.
//!
//! From bytes, half of a verification goes into expanding the matrix **A**, and a tenth into
//! hashing the key. Kept are `tr`, the NTT form of **A** and of `t1`, 36 KiB in all. Public data
//! only: nothing here has to run in constant time, and nothing here is `unsafe` but the calls
//! in [`dispatch`].
//!
//! ```text
//! signature ─ c~ ─ SampleInBall ─ c ─┐
//!           ─ z  ─ bound, NTT ───────┼─ A z - c t1 2^d ─ inverse NTT ─ UseHint ─ w1 ─┐
//!           ─ h  ─ strict decoding ──┴───────────────────────────────────────────────┤
//! message ── mu = H(tr || 0 || 0 || M) ──────────────────────── H(mu || w1) = c~ ? ──┘
//! ```

mod dispatch;
mod encoding;
mod hash;
mod lanes;
mod sample;

use crate::backend::{SIGNATURE_BYTES, SIGNING_PUBLIC_KEY_BYTES};
use crate::sign::SigningPublicKey;

/// The modulus of ML-DSA.
const Q: u32 = 8_380_417;
/// Rows of **A** (`k`).
const ROWS: usize = 6;
/// Columns of **A** (`l`).
const COLUMNS: usize = 5;
/// Coefficients of a polynomial.
const N: usize = 256;
/// Bytes of the challenge hash `c~` (`lambda / 4`).
const CHALLENGE_BYTES: usize = 48;
/// Bytes of an encoded `w1`: 4 bits a coefficient.
const W1_BYTES: usize = ROWS * N / 2;

/// A verification key that is ready: about 37 KiB, made in a few verifications' time.
pub struct PreparedVerifyingKey {
    /// Hash of the encoded key.
    tr: [u8; 64],
    matrix: lanes::Matrix,
}

impl PreparedVerifyingKey {
    /// Prepares a key from its encoded bytes, the only thing it is ever made of.
    pub fn new(key: &SigningPublicKey) -> Self {
        let bytes: &[u8; SIGNING_PUBLIC_KEY_BYTES] = key.as_bytes();
        let (rho, t1) = bytes.split_at(sample::RHO_BYTES);
        let mut tr = [0; 64];
        hash::shake256(&[bytes], &mut tr);
        let mut matrix = lanes::Matrix::zero();
        sample::expand_a(rho, &mut matrix);
        lanes::append_t1(t1, &mut matrix);
        Self { tr, matrix }
    }

    /// Whether `signature` is this key's over `message`, with the empty context.
    pub fn verify(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        self.verify_with_context(message, &[], signature)
    }

    /// The same with a context string of at most 255 bytes; a longer one verifies nothing. The
    /// protocol uses none, the published test vectors do.
    pub fn verify_with_context(
        &self,
        message: &[u8],
        context: &[u8],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> bool {
        let Ok(context_len) = u8::try_from(context.len()) else {
            return false;
        };
        let Some(parts) = encoding::Parts::of(signature) else {
            return false;
        };
        let Some(hints) = encoding::Hints::decode(parts.hints) else {
            return false;
        };
        let challenge = sample::in_ball(parts.challenge);
        let mut w1 = [0; W1_BYTES];
        if !dispatch::reconstruct_w1(&self.matrix, parts.z, &challenge, &hints, &mut w1) {
            return false;
        }
        let mut mu = [0; 64];
        hash::shake256(&[&self.tr, &[0, context_len], context, message], &mut mu);
        let mut again = [0; CHALLENGE_BYTES];
        hash::shake256(&[&mu, &w1], &mut again);
        again == *parts.challenge
    }
}

impl core::fmt::Debug for PreparedVerifyingKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("PreparedVerifyingKey(..)")
    }
}
