//! Both backends, and the prepared verifier, answer the same.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on stops"
)]

use super::*;
use crate::{PreparedVerifyingKey, SigningPublicKey};

/// The check by itself: one of the libraries would refuse the same keys later.
#[test]
fn coefficients_of_a_signing_key_are_0_to_8() {
    let good = Portable::sign_from_seed(&Secret::new([7; 32])).unwrap();
    for at in [128, 700, 1535] {
        for byte in 0..=u8::MAX {
            let mut secret = good.secret.clone();
            secret.expose_mut()[at] = byte;
            let in_range = byte & 0x0f <= 8 && byte >> 4 <= 8;
            assert_eq!(
                check_signing_secret(&secret).is_ok(),
                in_range,
                "{byte:#x} at {at}"
            );
        }
    }
    // What lies before and behind them may be anything.
    for at in [127, 1536] {
        let mut secret = good.secret.clone();
        secret.expose_mut()[at] = 0xff;
        assert_eq!(check_signing_secret(&secret), Ok(()));
    }
}

fn public(bytes: &[u8; SIGNING_PUBLIC_KEY_BYTES]) -> SigningPublicKey {
    SigningPublicKey::try_from(&bytes[..]).unwrap()
}

/// `A` makes, `B` uses.
fn what_one_makes_the_other_uses<A: Backend, B: Backend>() {
    let seed = Secret::new([7; 32]);
    let (a, b) = (
        A::sign_from_seed(&seed).unwrap(),
        B::sign_from_seed(&seed).unwrap(),
    );
    assert_eq!(
        a.public,
        b.public,
        "{} and {}: the same seed",
        A::NAME,
        B::NAME
    );
    assert_eq!(a.secret, b.secret);

    let fresh = A::sign_generate().unwrap();
    let again = B::sign_from_secret(fresh.secret.clone()).unwrap();
    assert_eq!(fresh.public, again.public);
    let prepared = PreparedVerifyingKey::new(&public(&fresh.public));
    for len in [0, 1, 64, 135, 136, 137, 5000] {
        let message = vec![3; len];
        let signature = A::sign(&fresh.signer, &message).unwrap();
        assert!(B::verify(&fresh.public, &message, &signature[..]));
        assert!(A::verify(&fresh.public, &message, &signature[..]));
        assert!(prepared.verify(&message, &signature));
        assert!(!B::verify(&fresh.public, b"other", &signature[..]));
        assert!(!B::verify(&a.public, &message, &signature[..]));
        assert!(!B::verify(&fresh.public, &message, &signature[1..]));
        // Hedged: the same message, another signature.
        assert_ne!(signature, A::sign(&fresh.signer, &message).unwrap());
    }

    let (secret, key) = A::kem_generate().unwrap();
    assert_eq!(check_kem_secret(&secret), Ok(()));
    let (ciphertext, sent) = B::encapsulate(kem_public_of(&secret).unwrap()).unwrap();
    assert_eq!(A::decapsulate(&key, &ciphertext).unwrap(), sent);
    let other = B::decapsulator(&secret).unwrap();
    assert_eq!(B::decapsulate(&other, &ciphertext).unwrap(), sent);
    let mut changed = ciphertext.clone();
    changed[5] ^= 1;
    let rejected = A::decapsulate(&key, &changed).unwrap();
    assert_ne!(rejected, sent);
    assert_eq!(B::decapsulate(&other, &changed).unwrap(), rejected);

    let (key, nonce) = (Secret::new([1; 32]), [2; NONCE_BYTES]);
    for len in [0, 1, 63, 64, 65, 1024] {
        let mut sealed = Vec::new();
        A::aead_seal(&key, &nonce, b"aad", &vec![9; len], &mut sealed).unwrap();
        let mut same = Vec::new();
        B::aead_seal(&key, &nonce, b"aad", &vec![9; len], &mut same).unwrap();
        assert_eq!(sealed, same);
        let (body, tag) = sealed.split_last_chunk().unwrap();
        assert_eq!(
            B::aead_open(&key, &nonce, b"aad", body, tag).unwrap(),
            vec![9; len]
        );
        assert_eq!(
            B::aead_open(&key, &nonce, b"other", body, tag),
            Err(CryptoError::DecryptionFailed)
        );
    }
}

#[test]
fn backends_read_each_other() {
    what_one_makes_the_other_uses::<Native, Portable>();
    what_one_makes_the_other_uses::<Portable, Native>();
    what_one_makes_the_other_uses::<Portable, Portable>();
    what_one_makes_the_other_uses::<Native, Native>();
}

fn malformed_secret_keys_are_refused<B: Backend>(mixed_up_at: &[usize]) {
    let good = B::sign_generate().unwrap();
    // s1 and s2 coefficients above 8 in either nibble or both; K and tr, t0 mixed up.
    for (at, byte) in [
        (128, 0x0f),
        (128, 0xf0),
        (700, 0x99),
        (1535, 0x90),
        (1535, 0x09),
    ] {
        let mut bad = good.secret.clone();
        bad.expose_mut()[at] = byte;
        assert!(
            matches!(
                B::sign_from_secret(bad).err(),
                Some(CryptoError::InvalidSecretKey(Flaw::Range))
            ),
            "{}: byte {at}",
            B::NAME
        );
    }
    for &at in mixed_up_at {
        let mut bad = good.secret.clone();
        bad.expose_mut()[at] ^= 0x10;
        assert!(
            matches!(
                B::sign_from_secret(bad).err(),
                Some(CryptoError::InvalidSecretKey(_))
            ),
            "{}: byte {at}",
            B::NAME
        );
    }
}

#[test]
fn no_backend_panics_at_malformed_keys() {
    // rho, tr, t0.
    malformed_secret_keys_are_refused::<Native>(&[0, 64, 1536, 4031]);
    malformed_secret_keys_are_refused::<Portable>(&[0, 64]);
    let (good, _) = Native::kem_generate().unwrap();
    // Secret half, public half, hash.
    for at in [0, 1152, 2336] {
        let mut bad = good.clone();
        bad.expose_mut()[at..at + 3].fill(0xff);
        assert!(check_kem_secret(&bad).is_err(), "byte {at}");
        assert!(Portable::decapsulator(&bad).is_err(), "byte {at}");
    }
    let mut bad = *kem_public_of(&good).unwrap();
    bad[0] = 0xff;
    bad[1] = 0xff;
    assert_eq!(check_kem_public(&bad), Err(Flaw::Range));
    assert!(Native::encapsulate(&bad).is_err());
    assert!(Portable::encapsulate(&bad).is_err());
}

#[test]
fn the_modulus_check_is_exact() {
    let mut key = [0; KEM_PUBLIC_KEY_BYTES];
    for value in [0u16, 1, 3328, 3329, 4095] {
        let expected = if value < 3329 {
            Ok(())
        } else {
            Err(Flaw::Range)
        };
        key[..3].copy_from_slice(&[value as u8, (value >> 8) as u8, 0]);
        assert_eq!(check_kem_public(&key), expected, "{value} low");
        key[..3].copy_from_slice(&[0, (value << 4) as u8, (value >> 4) as u8]);
        assert_eq!(check_kem_public(&key), expected, "{value} high");
        key[..3].fill(0);
    }
}
