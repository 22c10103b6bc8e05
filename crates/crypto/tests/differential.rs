//! Three verifiers, one answer: the prepared one, aws-lc-rs and RustCrypto, over honest, mutated
//! and made-up signatures, keys and messages.
//!
//! `SESSION_DIFF_CASES=1000000 SESSION_DIFF_SEED=7 cargo test -p session-crypto --release --test
//! differential -- --nocapture` runs longer; the seed is printed.
#![cfg(feature = "native")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on stops"
)]

use session_crypto::backend::{Backend, Native, Portable};
use session_crypto::{PreparedVerifyingKey, Secret, SigningKey, SigningPublicKey};

const CASES: u64 = 3000;

/// SplitMix64: small, seedable and good enough to pick mutations.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.next() as u8);
    }
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap())
}

const Z: std::ops::Range<usize> = 48..3248;
const HINTS: std::ops::Range<usize> = 3248..3309;

/// Changes one thing, where an implementation could be lax.
fn mutate(random: &mut Random, key: &mut [u8], message: &mut Vec<u8>, signature: &mut [u8]) {
    match random.below(12) {
        0 => {}
        1 => signature[random.below(48)] ^= 1 << random.below(8),
        2 => signature[Z.start + random.below(Z.len())] ^= 1 << random.below(8),
        3 => signature[HINTS.start + random.below(HINTS.len())] ^= 1 << random.below(8),
        // Hints: unsorted, doubled, longer, counted down, padded.
        4 => {
            let at = HINTS.start + random.below(54);
            signature.swap(at, at + 1);
        }
        5 => {
            let at = HINTS.start + random.below(54);
            signature[at + 1] = signature[at];
        }
        6 => signature[HINTS.end - 1 - random.below(6)] = random.next() as u8,
        7 => {
            let last = usize::from(signature[HINTS.end - 1]);
            signature[HINTS.start + last.min(54)] = random.next() as u8;
        }
        // z at and beyond its bound, on both sides: 20 bits hold 2^19 - z.
        8 => {
            let field: u32 =
                [195, 196, 197, 1_048_379, 1_048_380, 1_048_381, 0, 0xf_ffff][random.below(8)];
            let at = Z.start + 5 * random.below(Z.len() / 5);
            let bytes = field.to_le_bytes();
            signature[at] = bytes[0];
            signature[at + 1] = bytes[1];
            signature[at + 2] = signature[at + 2] & 0xf0 | bytes[2];
        }
        9 => key[random.below(1952)] ^= 1 << random.below(8),
        10 => {
            message.push(random.next() as u8);
        }
        _ => {
            let (from, bytes) = (random.below(3300), random.below(64));
            let end = (from + bytes).min(3309);
            random.fill(&mut signature[from..end]);
        }
    }
}

/// A signature that nobody made: zero `z` and no hints, or noise in the right form.
fn made_up(random: &mut Random, signature: &mut [u8; 3309]) {
    signature.fill(0);
    random.fill(&mut signature[..48]);
    if random.below(2) == 0 {
        for five in signature[Z].chunks_mut(5) {
            // 2^19 - z = 2^19: every coefficient is zero.
            five.copy_from_slice(&[0, 0, 0x08, 0, 0x80]);
        }
    } else {
        for five in signature[Z].chunks_mut(5) {
            let (a, b) = (
                200 + random.below(1_048_000) as u64,
                200 + random.below(1_048_000) as u64,
            );
            five.copy_from_slice(&(a | b << 20).to_le_bytes()[..5]);
        }
    }
}

#[test]
fn three_verifiers_give_one_answer() {
    let (cases, seed) = (
        env("SESSION_DIFF_CASES", CASES),
        env("SESSION_DIFF_SEED", 0x5e55_1077),
    );
    println!("SESSION_DIFF_SEED={seed} SESSION_DIFF_CASES={cases}");
    let mut random = Random(seed);
    let (mut accepted, mut refused) = (0u64, 0u64);
    let mut done = 0;
    while done < cases {
        let mut seed_bytes = [0; 32];
        random.fill(&mut seed_bytes);
        let signing = SigningKey::from_seed(&Secret::new(seed_bytes)).unwrap();
        let honest = PreparedVerifyingKey::new(signing.public_key());
        for _ in 0..20 {
            let mut message = vec![0; random.below(300)];
            random.fill(&mut message);
            let original = *signing.sign(&message).unwrap().as_bytes();
            for _ in 0..10 {
                let (mut key, mut message) = (*signing.public_key().as_bytes(), message.clone());
                let mut signature = original;
                if random.below(20) == 0 {
                    made_up(&mut random, &mut signature);
                } else {
                    for _ in 0..=random.below(2) {
                        mutate(&mut random, &mut key, &mut message, &mut signature);
                    }
                }
                let native = Native::verify(&key, &message, &signature);
                let ours = if key == *signing.public_key().as_bytes() {
                    honest.verify(&message, &signature)
                } else {
                    let key = SigningPublicKey::try_from(&key[..]).unwrap();
                    PreparedVerifyingKey::new(&key).verify(&message, &signature)
                };
                assert_eq!(ours, native, "case {done} of seed {seed}");
                // Six times slower than both together, so asked less often in long runs.
                if cases <= CASES || done % 16 == 0 {
                    let portable = Portable::verify(&key, &message, &signature);
                    assert_eq!(ours, portable, "case {done} of seed {seed}");
                }
                accepted += u64::from(ours);
                refused += u64::from(!ours);
                done += 1;
            }
        }
    }
    println!("{accepted} accepted, {refused} refused");
    assert!(accepted > done / 50 && refused > done / 2);
}
