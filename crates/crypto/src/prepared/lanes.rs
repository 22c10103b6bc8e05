//! Arithmetic of ML-DSA over eight polynomials at once.
//!
//! Coefficient `n` of eight polynomials lies in eight neighbouring words, so each butterfly of
//! each NTT layer is the same operation over a run of at least eight words, which compilers turn
//! into vector instructions by themselves. The forward transform carries the five polynomials of
//! `z` and the challenge, the inverse one the six rows of the product.
//!
//! Values are unsigned and reduced lazily. The bounds that make this right:
//! * [`times`] takes any `u32` and gives less than `2q` (Shoup's trick: `b' = floor(b 2^32 / q)`
//!   makes the quotient off by at most one).
//! * Forward: input below `q`, each of 8 layers adds at most `2q`, so below `17q < 2^28`.
//! * Product: six terms below `17q * q` sum to less than `102 q^2 < 2^53`; the Montgomery step
//!   gives less than `102 q^2 / 2^32 + q < 2q`.
//! * Inverse: input below `2q`, each layer doubles: `2^9 q = 2^32 - 2^22 + 2^9` still fits 32 bits.

use super::encoding::{Hints, Z_BYTES, Z_POLY_BYTES};
use super::{COLUMNS, N, Q, ROWS, W1_BYTES};

/// Polynomials side by side.
const LANES: usize = 8;

/// Eight polynomials, coefficient-major.
#[repr(align(64))]
struct Polys([u32; N * LANES]);

/// Entries for one coefficient: for each column of **A**, and for `-t1 2^d`, one value a row.
const ENTRY: usize = (COLUMNS + 1) * ROWS;

/// **A** and `-t1 2^d` in NTT and Montgomery form, 36 KiB. Two words of padding let eight-lane
/// loads run over the end of the last row; what they load there is multiplied into lanes that
/// nobody reads.
pub(super) struct Matrix(Box<[u32]>);

impl Matrix {
    pub(super) fn zero() -> Self {
        Self(vec![0; N * ENTRY + LANES - ROWS].into_boxed_slice())
    }

    /// Sets one coefficient, given in NTT form and below `q`.
    pub(super) fn set(&mut self, coefficient: usize, column: usize, row: usize, value: u32) {
        if let Some(entry) = self.0.get_mut(coefficient * ENTRY + column * ROWS + row) {
            *entry = to_montgomery(value);
        }
    }
}

/// Decodes `t1` (10 bits a coefficient, FIPS 204 algorithm 18) and puts `-NTT(t1 2^13)` beside
/// **A**, where the challenge is multiplied with it.
pub(super) fn append_t1(packed: &[u8], matrix: &mut Matrix) {
    let mut polys = Polys([0; N * LANES]);
    let (rows, _) = packed.as_chunks::<{ N * 10 / 8 }>();
    for (row, packed) in rows.iter().enumerate() {
        let (fives, _) = packed.as_chunks::<5>();
        let values = fives.iter().flat_map(|[a, b, c, d, e]| {
            let bits = u64::from_le_bytes([*a, *b, *c, *d, *e, 0, 0, 0]);
            // Ten bits and thirteen more stay below q: 1023 * 2^13 = q - 1.
            [0, 10, 20, 30].map(|shift| ((bits >> shift) as u32 & 0x3ff) << 13)
        });
        for (words, value) in polys.0.as_chunks_mut::<LANES>().0.iter_mut().zip(values) {
            if let Some(word) = words.get_mut(row) {
                *word = value;
            }
        }
    }
    forward(&mut polys);
    for (coefficient, words) in polys.0.as_chunks::<LANES>().0.iter().enumerate() {
        for (row, word) in words.iter().take(ROWS).enumerate() {
            matrix.set(coefficient, COLUMNS, row, (Q - word % Q) % Q);
        }
    }
}

/// From signature and matrix to the encoded `w1` of FIPS 204 algorithm 8; false when `z` is out
/// of bounds. Inlined into each variant of `dispatch`, which sets the instructions to use.
#[inline(always)]
pub(super) fn reconstruct_w1(
    matrix: &Matrix,
    z: &[u8; Z_BYTES],
    challenge: &[u32; N],
    hints: &Hints<'_>,
    w1: &mut [u8; W1_BYTES],
) -> bool {
    let mut polys = Polys([0; N * LANES]);
    if !unpack_z(z, &mut polys) {
        return false;
    }
    for (words, c) in polys.0.as_chunks_mut::<LANES>().0.iter_mut().zip(challenge) {
        let [.., at, _, _] = words;
        *at = *c;
    }
    forward(&mut polys);
    multiply(matrix, &mut polys);
    inverse(&mut polys);
    pack_w1(&polys, hints, w1);
    true
}

const GAMMA1: u32 = 1 << 19;
/// `gamma1 - beta - 1`: the largest coefficient of an acceptable `z`.
const Z_MAX: u32 = GAMMA1 - 196 - 1;

/// FIPS 204 algorithm 19: 20-bit fields hold `gamma1 - z`.
#[inline(always)]
fn unpack_z(packed: &[u8; Z_BYTES], polys: &mut Polys) -> bool {
    let mut over = false;
    let (columns, _) = packed.as_chunks::<Z_POLY_BYTES>();
    for (column, packed) in columns.iter().enumerate() {
        let pairs = polys.0.as_chunks_mut::<{ 2 * LANES }>().0.iter_mut();
        for (words, [a, b, c, d, e]) in pairs.zip(packed.as_chunks::<5>().0) {
            let low = u32::from_le_bytes([*a, *b, *c, *d]);
            let high = low >> 20 | u32::from(*e) << 12;
            let (first, bad) = z_coefficient(low & 0xf_ffff);
            let (second, worse) = z_coefficient(high);
            over |= bad | worse;
            if let Some(word) = words.get_mut(column) {
                *word = first;
            }
            if let Some(word) = words.get_mut(column + LANES) {
                *word = second;
            }
        }
    }
    !over
}

/// The coefficient modulo `q`, and whether it is too large.
#[inline(always)]
fn z_coefficient(field: u32) -> (u32, bool) {
    let z = GAMMA1.wrapping_sub(field);
    let bad = z.wrapping_add(Z_MAX) > 2 * Z_MAX;
    let negative = (z as i32 >> 31) as u32;
    (z.wrapping_add(negative & Q), bad)
}

/// `out = A z + (-t1 2^d) c`, coefficient by coefficient, with one reduction for six products.
#[inline(always)]
fn multiply(matrix: &Matrix, polys: &mut Polys) {
    let entries = matrix.0.windows(ENTRY + LANES - ROWS).step_by(ENTRY);
    for (words, entry) in polys.0.as_chunks_mut::<LANES>().0.iter_mut().zip(entries) {
        let mut sums = [0u64; LANES];
        let [z0, z1, z2, z3, z4, c, ..] = *words;
        add_column::<0>(&mut sums, z0, entry);
        add_column::<1>(&mut sums, z1, entry);
        add_column::<2>(&mut sums, z2, entry);
        add_column::<3>(&mut sums, z3, entry);
        add_column::<4>(&mut sums, z4, entry);
        add_column::<5>(&mut sums, c, entry);
        for (word, sum) in words.iter_mut().zip(sums) {
            *word = montgomery(sum);
        }
    }
}

/// Adds `factor` times one column to the sums.
#[inline(always)]
fn add_column<const COLUMN: usize>(sums: &mut [u64; LANES], factor: u32, entry: &[u32]) {
    let column = entry
        .get(COLUMN * ROWS..)
        .and_then(|rest| rest.first_chunk::<LANES>());
    if let Some(column) = column {
        for (sum, value) in sums.iter_mut().zip(column) {
            *sum += u64::from(factor) * u64::from(*value);
        }
    }
}

/// `2 gamma2 = (q - 1) / 16`.
const ALPHA: u32 = (Q - 1) / 16;

/// `UseHint` (FIPS 204 algorithms 36 and 40) and the encoding of `w1`: 4 bits a coefficient.
#[inline(always)]
fn pack_w1(polys: &Polys, hints: &Hints<'_>, w1: &mut [u8; W1_BYTES]) {
    let mut high = [0u8; N * LANES];
    for (high, value) in high.iter_mut().zip(&polys.0) {
        *high = high_bits(*value) as u8;
    }
    for (row, position) in hints.iter() {
        let at = position * LANES + row;
        if let (Some(high), Some(value)) = (high.get_mut(at), polys.0.get(at)) {
            // Low bits above zero: the value lies above the middle of its interval's centre.
            let up = value.wrapping_sub(u32::from(*high) * ALPHA).wrapping_sub(1) < Q / 2;
            *high = if up { *high + 1 } else { high.wrapping_sub(1) } & 15;
        }
    }
    let (rows, _) = w1.as_chunks_mut::<{ N / 2 }>();
    for (row, packed) in rows.iter_mut().enumerate() {
        let pairs = high.as_chunks::<{ 2 * LANES }>().0;
        for (byte, pair) in packed.iter_mut().zip(pairs) {
            if let (Some(low), Some(high)) = (pair.get(row), pair.get(row + LANES)) {
                *byte = low | high << 4;
            }
        }
    }
}

/// `r1` of `r = r1 alpha + r0` with `-alpha/2 < r0 <= alpha/2`, where 16 wraps to 0. The two
/// multiplications are a division by `alpha` that is exact for every `r < q` (tested for all).
#[inline(always)]
const fn high_bits(r: u32) -> u32 {
    (((r + 127) >> 7) * 1025 + (1 << 21)) >> 22 & 15
}

// ---- transforms ----

/// A factor and its Shoup companion.
#[derive(Clone, Copy)]
struct Factor {
    value: u32,
    companion: u32,
}

impl Factor {
    const fn new(value: u64) -> Self {
        let companion = (value << 32) / Q as u64;
        // Both are below 2^32, as the value is below q.
        Self {
            value: value as u32,
            companion: companion as u32,
        }
    }
}

/// `x * factor mod q`, below `2q`, for any `x`.
#[inline(always)]
fn times(x: u32, factor: Factor) -> u32 {
    let quotient = ((u64::from(x) * u64::from(factor.companion)) >> 32) as u32;
    x.wrapping_mul(factor.value)
        .wrapping_sub(quotient.wrapping_mul(Q))
}

const fn power(base: u64, mut exponent: u32) -> u64 {
    let (mut base, mut out) = (base, 1);
    while exponent > 0 {
        if exponent & 1 == 1 {
            out = out * base % Q as u64;
        }
        base = base * base % Q as u64;
        exponent >>= 1;
    }
    out
}

/// FIPS 204 appendix B: `1753^brv(m)`.
const fn zeta(m: u8) -> u64 {
    power(1753, m.reverse_bits() as u32)
}

/// `zeta(1..256)` as the forward layers use them up.
static FORWARD: [Factor; N] = factors(false);
/// `-zeta(255..0)` as the inverse layers use them up.
static INVERSE: [Factor; N] = factors(true);

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn factors(inverse: bool) -> [Factor; N] {
    let mut out = [Factor::new(0); N];
    let mut i = 0;
    while i < N {
        out[i] = if inverse {
            Factor::new(Q as u64 - zeta((N - 1 - i) as u8))
        } else {
            Factor::new(zeta(i as u8))
        };
        i += 1;
    }
    out
}

/// `1/256`, applied in the last inverse layer.
const SCALE: u64 = power(256, Q - 2);
static SCALE_SUM: Factor = Factor::new(SCALE);
static SCALE_DIFFERENCE: Factor = Factor::new((Q as u64 - zeta(1)) * SCALE % Q as u64);

/// FIPS 204 algorithm 41 on every lane.
#[inline(always)]
fn forward(polys: &mut Polys) {
    let mut factors = FORWARD.iter().skip(1);
    forward_layer::<128>(polys, &mut factors);
    forward_layer::<64>(polys, &mut factors);
    forward_layer::<32>(polys, &mut factors);
    forward_layer::<16>(polys, &mut factors);
    forward_layer::<8>(polys, &mut factors);
    forward_layer::<4>(polys, &mut factors);
    forward_layer::<2>(polys, &mut factors);
    forward_layer::<1>(polys, &mut factors);
}

#[inline(always)]
fn forward_layer<'f, const HALF: usize>(
    polys: &mut Polys,
    factors: &mut impl Iterator<Item = &'f Factor>,
) {
    // The blocks come first: zip asks its first side first, and must not use a factor up.
    for (block, factor) in polys
        .0
        .as_chunks_mut::<LANES>()
        .0
        .chunks_exact_mut(2 * HALF)
        .zip(factors)
    {
        let (low, high) = block.split_at_mut(HALF);
        forward_butterflies(low, high, *factor);
    }
}

/// A function of its own, because distinct `&mut` arguments tell the compiler that the halves do
/// not overlap.
#[inline(always)]
fn forward_butterflies(low: &mut [[u32; LANES]], high: &mut [[u32; LANES]], factor: Factor) {
    for (a, b) in low
        .as_flattened_mut()
        .iter_mut()
        .zip(high.as_flattened_mut())
    {
        let t = times(*b, factor);
        *b = *a + 2 * Q - t;
        *a += t;
    }
}

/// FIPS 204 algorithm 42 on every lane, to values below `q`.
#[inline(always)]
fn inverse(polys: &mut Polys) {
    let mut factors = INVERSE.iter();
    inverse_layer::<1>(polys, &mut factors, 2 * Q);
    inverse_layer::<2>(polys, &mut factors, 4 * Q);
    inverse_layer::<4>(polys, &mut factors, 8 * Q);
    inverse_layer::<8>(polys, &mut factors, 16 * Q);
    inverse_layer::<16>(polys, &mut factors, 32 * Q);
    inverse_layer::<32>(polys, &mut factors, 64 * Q);
    inverse_layer::<64>(polys, &mut factors, 128 * Q);
    let (low, high) = polys.0.split_at_mut(128 * LANES);
    for (a, b) in low.iter_mut().zip(high) {
        let (sum, difference) = (*a + *b, *a + 256 * Q - *b);
        *a = below_q(times(sum, SCALE_SUM));
        *b = below_q(times(difference, SCALE_DIFFERENCE));
    }
}

/// `bound` is above every value before this layer, so that differences stay positive.
#[inline(always)]
fn inverse_layer<'f, const HALF: usize>(
    polys: &mut Polys,
    factors: &mut impl Iterator<Item = &'f Factor>,
    bound: u32,
) {
    for (block, factor) in polys
        .0
        .as_chunks_mut::<LANES>()
        .0
        .chunks_exact_mut(2 * HALF)
        .zip(factors)
    {
        let (low, high) = block.split_at_mut(HALF);
        inverse_butterflies(low, high, *factor, bound);
    }
}

#[inline(always)]
fn inverse_butterflies(
    low: &mut [[u32; LANES]],
    high: &mut [[u32; LANES]],
    factor: Factor,
    bound: u32,
) {
    for (a, b) in low
        .as_flattened_mut()
        .iter_mut()
        .zip(high.as_flattened_mut())
    {
        let difference = *a + bound - *b;
        *a += *b;
        *b = times(difference, factor);
    }
}

#[inline(always)]
fn below_q(x: u32) -> u32 {
    x.min(x.wrapping_sub(Q))
}

/// `-1/q mod 2^32`.
const MINUS_Q_INVERSE: u32 = {
    // Newton: each step doubles the number of right bits, from three.
    let mut inverse = Q;
    let mut i = 0;
    while i < 4 {
        inverse = inverse.wrapping_mul(2u32.wrapping_sub(Q.wrapping_mul(inverse)));
        i += 1;
    }
    inverse.wrapping_neg()
};

const _: () = assert!(Q.wrapping_mul(MINUS_Q_INVERSE) == u32::MAX);

/// `x / 2^32 mod q`, below `x / 2^32 + q`.
#[inline(always)]
fn montgomery(x: u64) -> u32 {
    let multiple = (x as u32).wrapping_mul(MINUS_Q_INVERSE);
    ((x + u64::from(multiple) * u64::from(Q)) >> 32) as u32
}

/// `x 2^32 mod q`, for `x` below `q`.
fn to_montgomery(x: u32) -> u32 {
    ((u64::from(x) << 32) % u64::from(Q)) as u32
}

#[cfg(test)]
mod tests;
