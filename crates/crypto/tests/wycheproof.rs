//! The vectors of C2SP Wycheproof (`data/wycheproof`, Apache-2.0), on every implementation here.
//!
//! Counts are asserted, so that a vector which silently stops running is noticed.
#![cfg(feature = "native")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on stops"
)]

use flate2::read::GzDecoder;
use serde_json::Value;
use session_crypto::backend::{
    Backend, KemSecretBytes, Native, Portable, check_kem_public, check_kem_secret, kem_public_of,
    kem_secret_from_seed,
};
use session_crypto::{
    CryptoError, KemCiphertext, KemPublicKey, KemSecretKey, LegacyPublicIdentity,
    PreparedVerifyingKey, Secret, Signature, SigningKey, SigningPublicKey,
};
use std::io::Read;

fn groups(name: &str) -> Vec<Value> {
    let path = format!(
        "{}/tests/data/wycheproof/{name}_test.json.gz",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut text = String::new();
    GzDecoder::new(std::fs::File::open(path).unwrap())
        .read_to_string(&mut text)
        .unwrap();
    let file: Value = serde_json::from_str(&text).unwrap();
    file["testGroups"].as_array().unwrap().clone()
}

fn tests(group: &Value) -> &[Value] {
    group["tests"].as_array().unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    const_hex::decode(value.as_str().unwrap_or_default()).unwrap()
}

fn valid(test: &Value) -> bool {
    test["result"] == "valid"
}

#[test]
fn mldsa_65_verify() {
    let (mut run, mut accepted, mut with_context) = (0, 0, 0);
    for group in groups("mldsa_65_verify") {
        let key = hex(&group["publicKey"]);
        for test in tests(&group) {
            let (message, sig, context) = (hex(&test["msg"]), hex(&test["sig"]), hex(&test["ctx"]));
            let label = format!("test {} ({})", test["tcId"], test["comment"]);
            let answers = match (
                SigningPublicKey::try_from(&key[..]),
                Signature::try_from(&sig[..]),
            ) {
                (Ok(key), Ok(signature)) => {
                    let prepared = PreparedVerifyingKey::new(&key);
                    let bytes = key.as_bytes();
                    let mut answers = vec![
                        prepared.verify_with_context(&message, &context, signature.as_bytes()),
                        Portable::verify_with_context(bytes, &message, &context, &sig),
                    ];
                    // aws-lc-rs knows no context strings.
                    if context.is_empty() {
                        answers.push(Native::verify(bytes, &message, &sig));
                        answers.push(prepared.verify(&message, signature.as_bytes()));
                        answers.push(key.verify(&message, &signature).is_ok());
                    } else {
                        with_context += 1;
                    }
                    answers
                }
                // Wrong lengths are errors before any verifier is asked.
                (Err(CryptoError::InvalidPublicKey(_)), _)
                | (_, Err(CryptoError::InvalidSignature(_))) => vec![false],
                other => panic!("{label}: {other:?}"),
            };
            for answer in answers {
                assert_eq!(answer, valid(test), "{label}");
            }
            run += 1;
            accepted += usize::from(valid(test));
        }
    }
    assert_eq!((run, accepted), (210, 79));
    // Two valid, one too long, four malformed: skipped on aws-lc-rs only.
    assert_eq!(with_context, 7);
}

#[test]
fn mldsa_65_sign_with_a_seed() {
    let (mut signed, mut refused, mut internal) = (0, 0, 0);
    for group in groups("mldsa_65_sign_seed") {
        let Ok(seed) = Secret::<32>::copy_from(&hex(&group["privateSeed"])) else {
            assert!(tests(&group).iter().all(|test| !valid(test)));
            refused += tests(&group).len();
            continue;
        };
        let portable = Portable::sign_from_seed(&seed).unwrap();
        let native = Native::sign_from_seed(&seed).unwrap();
        assert_eq!(portable.public[..], hex(&group["publicKey"]));
        assert_eq!(native.public, portable.public);
        assert_eq!(native.secret, portable.secret);
        signing_tests(
            &group,
            &portable.signer,
            &native.signer,
            &native.public,
            &mut |outcome| match outcome {
                Outcome::Signed => signed += 1,
                Outcome::Refused => refused += 1,
                Outcome::Internal => internal += 1,
            },
        );
    }
    assert_eq!((signed, refused, internal), (84, 4, 17));
}

#[test]
fn mldsa_65_sign_with_an_expanded_key() {
    let (mut signed, mut refused, mut internal) = (0, 0, 0);
    for group in groups("mldsa_65_sign_noseed") {
        let secret = hex(&group["privateKey"]);
        let Ok(key) = SigningKey::from_bytes(&secret) else {
            assert!(tests(&group).iter().all(|test| !valid(test)));
            let portable = Secret::copy_from(&secret).and_then(Portable::sign_from_secret);
            assert!(matches!(
                portable.err(),
                Some(CryptoError::InvalidSecretKey(_))
            ));
            refused += tests(&group).len();
            continue;
        };
        let portable = Portable::sign_from_secret(Secret::copy_from(&secret).unwrap()).unwrap();
        let native = Native::sign_from_secret(Secret::copy_from(&secret).unwrap()).unwrap();
        assert_eq!(key.public_key().as_bytes(), &*portable.public);
        signing_tests(
            &group,
            &portable.signer,
            &native.signer,
            &native.public,
            &mut |outcome| match outcome {
                Outcome::Signed => signed += 1,
                Outcome::Refused => refused += 1,
                Outcome::Internal => internal += 1,
            },
        );
    }
    assert_eq!((signed, refused, internal), (63, 5, 10));
}

enum Outcome {
    Signed,
    Refused,
    Internal,
}

/// The vectors are deterministic signatures, which only the portable backend can make. What the
/// native one signs (hedged) has to verify.
fn signing_tests(
    group: &Value,
    portable: &<Portable as Backend>::Signer,
    native: &<Native as Backend>::Signer,
    public: &[u8; 1952],
    count: &mut dyn FnMut(Outcome),
) {
    let key = PreparedVerifyingKey::new(&SigningPublicKey::try_from(&public[..]).unwrap());
    for test in tests(group) {
        let (message, sig, context) = (hex(&test["msg"]), hex(&test["sig"]), hex(&test["ctx"]));
        if test["flags"]
            .as_array()
            .unwrap()
            .iter()
            .any(|flag| flag == "Internal")
        {
            // Given as `mu` only, which no interface of ours takes.
            count(Outcome::Internal);
            continue;
        }
        let ours = Portable::sign_deterministic(portable, &message, &context);
        if !valid(test) {
            assert!(ours.is_err(), "test {}", test["tcId"]);
            count(Outcome::Refused);
            continue;
        }
        // One vector is randomized with a given `rnd`: its signature is only verified.
        if test["rnd"].is_null() {
            assert_eq!(ours.unwrap()[..], sig, "test {}", test["tcId"]);
        }
        let sig = sig.first_chunk().unwrap();
        assert!(
            key.verify_with_context(&message, &context, sig),
            "test {}",
            test["tcId"]
        );
        let hedged = Native::sign(native, &message).unwrap();
        assert!(key.verify(&message, &hedged));
        count(Outcome::Signed);
    }
}

#[test]
fn mlkem_768_keys_of_seeds() {
    let mut run = 0;
    for group in groups("mlkem_768_keygen_seed") {
        for test in tests(&group) {
            let secret = kem_secret_from_seed(&Secret::copy_from(&hex(&test["seed"])).unwrap());
            assert_eq!(secret.expose()[..], hex(&test["dk"]));
            assert_eq!(kem_public_of(&secret).unwrap()[..], hex(&test["ek"]));
            assert_eq!(check_kem_secret(&secret), Ok(()));
            run += 1;
        }
    }
    assert_eq!(run, 100);
}

#[test]
fn mlkem_768_decapsulation() {
    let (mut run, mut refused) = (0, 0);
    for group in groups("mlkem_768") {
        for test in tests(&group) {
            let label = format!("test {} ({})", test["tcId"], test["comment"]);
            let Ok(seed) = Secret::<64>::copy_from(&hex(&test["seed"])) else {
                assert!(!valid(test), "{label}");
                refused += 1;
                continue;
            };
            let secret = kem_secret_from_seed(&seed);
            let Ok(ciphertext) = KemCiphertext::try_from(&hex(&test["c"])[..]) else {
                assert!(!valid(test), "{label}");
                refused += 1;
                continue;
            };
            assert!(valid(test), "{label}");
            agree(&secret, &ciphertext, &hex(&test["K"]), &label);
            run += 1;
        }
    }
    assert_eq!((run, refused), (153, 40));
}

/// Every implementation decapsulates to `expected`.
fn agree(secret: &KemSecretBytes, ciphertext: &KemCiphertext, expected: &[u8], label: &str) {
    let native = Native::decapsulator(secret).unwrap();
    let portable = Portable::decapsulator(secret).unwrap();
    let bytes = ciphertext.as_bytes();
    assert_eq!(
        Native::decapsulate(&native, bytes).unwrap().expose()[..],
        *expected,
        "{label}"
    );
    assert_eq!(
        Portable::decapsulate(&portable, bytes).unwrap().expose()[..],
        *expected,
        "{label}"
    );
    let key = KemSecretKey::from_bytes(secret.expose()).unwrap();
    assert_eq!(
        key.decapsulate(ciphertext).unwrap().expose()[..],
        *expected,
        "{label}"
    );
}

#[test]
fn mlkem_768_encapsulation() {
    let (mut run, mut refused) = (0, 0);
    for group in groups("mlkem_768_encaps") {
        for test in tests(&group) {
            let label = format!("test {} ({})", test["tcId"], test["comment"]);
            let Ok(key) = KemPublicKey::try_from(&hex(&test["ek"])[..]) else {
                assert!(!valid(test), "{label}");
                refused += 1;
                continue;
            };
            assert!(valid(test), "{label}");
            let randomness = Secret::copy_from(&hex(&test["m"])).unwrap();
            let (ciphertext, shared) =
                Portable::encapsulate_deterministic(key.as_bytes(), &randomness).unwrap();
            assert_eq!(ciphertext[..], hex(&test["c"]), "{label}");
            assert_eq!(shared.expose()[..], hex(&test["K"]), "{label}");
            assert!(Native::encapsulate(key.as_bytes()).is_ok(), "{label}");
            run += 1;
        }
    }
    assert_eq!(run + refused, 265);
    // Both libraries refuse by themselves what our check refuses.
    for group in groups("mlkem_768_encaps") {
        for test in tests(&group) {
            if let Ok(bytes) = <[u8; 1184]>::try_from(hex(&test["ek"])) {
                assert_eq!(check_kem_public(&bytes).is_ok(), valid(test));
                assert_eq!(Native::encapsulate(&bytes).is_ok(), valid(test));
                assert_eq!(Portable::encapsulate(&bytes).is_ok(), valid(test));
            }
        }
    }
}

#[test]
fn mlkem_768_expanded_keys() {
    let (mut opened, mut refused) = (0, 0);
    for group in groups("mlkem_768_semi_expanded_decaps") {
        for test in tests(&group) {
            let label = format!("test {} ({})", test["tcId"], test["comment"]);
            let key = KemSecretKey::from_bytes(&hex(&test["dk"]));
            let ciphertext = KemCiphertext::try_from(&hex(&test["c"])[..]);
            if let (Ok(key), Ok(ciphertext)) = (key, ciphertext) {
                assert!(valid(test), "{label}");
                let secret = KemSecretBytes::copy_from(key.expose()).unwrap();
                agree(&secret, &ciphertext, &hex(&test["K"]), &label);
                opened += 1;
            } else {
                assert!(!valid(test), "{label}");
                refused += 1;
            }
        }
    }
    assert_eq!((opened, refused), (3, 6));
}

fn xchacha20_poly1305<B: Backend>() {
    let (mut opened, mut refused) = (0, 0);
    for group in groups("xchacha20_poly1305") {
        for test in tests(&group) {
            let label = format!("{} test {} ({})", B::NAME, test["tcId"], test["comment"]);
            let key = Secret::copy_from(&hex(&test["key"])).unwrap();
            let (Ok(nonce), Ok(tag)) = (
                <[u8; 24]>::try_from(hex(&test["iv"])),
                <[u8; 16]>::try_from(hex(&test["tag"])),
            ) else {
                assert!(!valid(test), "{label}");
                refused += 1;
                continue;
            };
            let (aad, body, message) = (hex(&test["aad"]), hex(&test["ct"]), hex(&test["msg"]));
            let answer = B::aead_open(&key, &nonce, &aad, &body, &tag);
            if valid(test) {
                assert_eq!(answer, Ok(message.clone()), "{label}");
                let mut sealed = Vec::new();
                B::aead_seal(&key, &nonce, &aad, &message, &mut sealed).unwrap();
                assert_eq!(sealed, [&body[..], &tag].concat(), "{label}");
                opened += 1;
            } else {
                assert_eq!(answer, Err(CryptoError::DecryptionFailed), "{label}");
                refused += 1;
            }
        }
    }
    assert_eq!(opened + refused, 315);
    assert_eq!(refused, 69);
}

#[test]
fn xchacha20_poly1305_on_both() {
    xchacha20_poly1305::<Native>();
    xchacha20_poly1305::<Portable>();
}

#[test]
fn x25519() {
    let (mut agreed, mut refused) = (0, 0);
    for group in groups("x25519") {
        for test in tests(&group) {
            let secret = Secret::copy_from(&hex(&test["private"])).unwrap();
            let public = hex(&test["public"]).try_into().unwrap();
            let expected = hex(&test["shared"]);
            match session_crypto::x25519(&secret, &public) {
                Ok(shared) => {
                    assert_eq!(shared.expose()[..], expected, "test {}", test["tcId"]);
                    agreed += 1;
                }
                Err(_) => {
                    assert!(
                        expected.iter().all(|byte| *byte == 0),
                        "test {}",
                        test["tcId"]
                    );
                    refused += 1;
                }
            }
        }
    }
    assert_eq!((agreed, refused), (518 - 31, 31));
}

#[test]
fn ed25519() {
    let mut run = 0;
    for group in groups("ed25519") {
        let key = LegacyPublicIdentity::from_bytes(&hex(&group["publicKey"]["pk"]));
        for test in tests(&group) {
            let label = format!("test {} ({})", test["tcId"], test["comment"]);
            let answer =
                key.is_ok_and(|key| key.verify(&hex(&test["msg"]), &hex(&test["sig"])).is_ok());
            assert_eq!(answer, valid(test), "{label}");
            run += 1;
        }
    }
    assert_eq!(run, 151);
}
