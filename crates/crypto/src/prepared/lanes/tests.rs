//! The lanes against slow and obvious arithmetic.

use super::*;
use proptest::prelude::*;

/// FIPS 204 algorithm 41 as it is written, on one polynomial.
fn slow_ntt(w: &mut [u64; N]) {
    let q = u64::from(Q);
    let (mut m, mut len) = (0u8, 128);
    while len >= 1 {
        let mut start = 0;
        while start < N {
            m += 1;
            for j in start..start + len {
                let t = zeta(m) * w[j + len] % q;
                w[j + len] = (w[j] + q - t) % q;
                w[j] = (w[j] + t) % q;
            }
            start += 2 * len;
        }
        len /= 2;
    }
}

fn lane(polys: &Polys, lane: usize) -> [u64; N] {
    core::array::from_fn(|n| u64::from(polys.0[n * LANES + lane]))
}

fn polys_of(seed: u64) -> Polys {
    let mut state = seed | 1;
    let mut polys = Polys([0; N * LANES]);
    for word in &mut polys.0 {
        state = state
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        *word = ((state >> 33) % u64::from(Q)) as u32;
    }
    polys
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn eight_lanes_agree_with_the_standard_on_one(seed: u64) {
        let mut polys = polys_of(seed);
        let mut slow: Vec<[u64; N]> = (0..LANES).map(|l| lane(&polys, l)).collect();
        forward(&mut polys);
        for (l, slow) in slow.iter_mut().enumerate() {
            slow_ntt(slow);
            prop_assert_eq!(lane(&polys, l).map(|x| x % u64::from(Q)), *slow);
        }
    }

    #[test]
    fn the_inverse_undoes_the_transform(seed: u64) {
        let before = polys_of(seed);
        let mut polys = Polys(before.0);
        forward(&mut polys);
        for word in &mut polys.0 {
            *word %= Q;
        }
        inverse(&mut polys);
        prop_assert_eq!(polys.0, before.0);
    }

    #[test]
    fn a_product_is_reduced_for_any_operand(x: u32, value in 0..Q) {
        let got = times(x, Factor::new(value.into()));
        prop_assert!(got < 2 * Q);
        prop_assert_eq!(u64::from(got % Q), u64::from(x) * u64::from(value) % u64::from(Q));
    }

    #[test]
    fn montgomery_form_goes_away_again(x in 0..Q, y in 0..17 * Q) {
        let product = u64::from(to_montgomery(x)) * u64::from(y);
        let got = montgomery(product);
        prop_assert_eq!(u64::from(got % Q), u64::from(x) * u64::from(y) % u64::from(Q));
    }
}

#[test]
fn the_largest_inputs_overflow_nowhere() {
    // Debug assertions of the test build catch an overflow.
    let mut polys = Polys([Q - 1; N * LANES]);
    forward(&mut polys);
    assert!(polys.0.iter().all(|x| *x < 17 * Q));
    let mut polys = Polys([2 * Q - 1; N * LANES]);
    inverse(&mut polys);
    assert!(polys.0.iter().all(|x| *x < Q));
    assert!(montgomery(102 * u64::from(Q) * u64::from(Q)) < 2 * Q);
}

#[test]
fn high_bits_are_those_of_the_standard_for_every_value() {
    for r in 0..Q {
        // FIPS 204 algorithm 36.
        let mut r0 = i64::from(r % ALPHA);
        if r0 > i64::from(ALPHA / 2) {
            r0 -= i64::from(ALPHA);
        }
        let high = if i64::from(r) - r0 == i64::from(Q - 1) {
            0
        } else {
            (i64::from(r) - r0) / i64::from(ALPHA)
        };
        assert_eq!(i64::from(high_bits(r)), high, "{r}");
    }
}

#[test]
fn z_is_bounded_on_both_sides() {
    for (z, good) in [
        (0, true),
        (i64::from(Z_MAX), true),
        (-i64::from(Z_MAX), true),
        (i64::from(Z_MAX) + 1, false),
        (-i64::from(Z_MAX) - 1, false),
        (i64::from(GAMMA1), false),
        (1 - i64::from(GAMMA1), false),
    ] {
        let (value, bad) = z_coefficient((i64::from(GAMMA1) - z) as u32);
        assert_eq!(bad, !good, "{z}");
        assert_eq!(i64::from(value), z.rem_euclid(i64::from(Q)), "{z}");
    }
}

/// Writes `gamma1 - z` as the `n`th field of 20 bits of a column.
fn put_z(packed: &mut [u8; Z_BYTES], column: usize, n: usize, z: i64) {
    let field = (i64::from(GAMMA1) - z) as u32;
    for bit in 0..20 {
        let at = column * Z_POLY_BYTES * 8 + n * 20 + bit;
        let (byte, mask) = (&mut packed[at / 8], 1 << (at % 8));
        *byte = if field >> bit & 1 == 1 {
            *byte | mask
        } else {
            *byte & !mask
        };
    }
}

/// All of `z` is read, and one coefficient out of bounds is enough, wherever it is.
#[test]
fn every_coefficient_of_z_is_unpacked_and_bounded() {
    assert_eq!(Z_MAX, 524_288 - 196 - 1);
    let value = |column: usize, n: usize| (column * N + n) as i64 * 37 % 9_001 - 4_500;
    let mut packed = [0; Z_BYTES];
    for column in 0..Z_BYTES / Z_POLY_BYTES {
        (0..N).for_each(|n| put_z(&mut packed, column, n, value(column, n)));
    }
    let mut polys = Polys([0; N * LANES]);
    assert!(unpack_z(&packed, &mut polys));
    for column in 0..Z_BYTES / Z_POLY_BYTES {
        let expected = core::array::from_fn(|n| value(column, n).rem_euclid(Q.into()) as u64);
        assert_eq!(lane(&polys, column), expected);
    }
    let over = i64::from(Z_MAX) + 1;
    for column in 0..Z_BYTES / Z_POLY_BYTES {
        // The first of a pair, the second, and both.
        for bad in [&[6][..], &[7], &[6, 7], &[0], &[255]] {
            for z in [over, -over] {
                let mut packed = packed;
                bad.iter().for_each(|n| put_z(&mut packed, column, *n, z));
                assert!(!unpack_z(&packed, &mut polys), "{z} at {bad:?} of {column}");
            }
        }
    }
}
