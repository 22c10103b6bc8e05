//! Identities, their JSON and their envelopes.

use super::*;
use crate::envelope::{Format, OVERHEAD_V1_BYTES, OVERHEAD_V2_BYTES, seal_published_v1};
use crate::error::Flaw;
use crate::secret::Secret;
use proptest::prelude::*;
use std::sync::LazyLock;

static ALICE: LazyLock<Identity> =
    LazyLock::new(|| Identity::from_seed(Secret::new([1; 32])).unwrap());
static BOB: LazyLock<Identity> =
    LazyLock::new(|| Identity::from_seed(Secret::new([2; 32])).unwrap());

#[test]
fn a_seed_gives_the_same_identity_for_ever() {
    // Fixed by this release: changing these loses people's accounts.
    assert_eq!(
        ALICE.id().to_string(),
        "07eb3ea43b6b51f740e2b81ce8fdfde54f16d7586b999b2b6d1ef3545e5d3629ea",
    );
    let phrase = ALICE.recovery_phrase().unwrap();
    let again = Identity::from_phrase(&phrase.expose().parse().unwrap()).unwrap();
    assert_eq!(again.public(), ALICE.public());
    assert_eq!(again.kem_key().expose(), ALICE.kem_key().expose());
    assert_eq!(again.signing_key().expose(), ALICE.signing_key().expose());
    assert!(format!("{again:?}").ends_with("Secret(..))"));
}

#[test]
fn an_identity_vouches_for_what_it_signed_and_for_nothing_else() {
    let refused = Err(CryptoError::InvalidSignature(Flaw::Refused));
    let signature = ALICE.sign(b"text").unwrap();
    assert_eq!(ALICE.public().verify(b"text", &signature), Ok(()));
    assert_eq!(ALICE.public().verify(b"tex", &signature), refused);
    assert_eq!(BOB.public().verify(b"text", &signature), refused);
}

/// Logs and panics print values: what is secret says that it is, and nothing more.
#[test]
fn what_is_printed_holds_no_secret() {
    assert_eq!(
        format!("{:?}", *ALICE),
        format!("Identity({}, Secret(..))", ALICE.id())
    );
    assert_eq!(format!("{:?}", ALICE.kem_key()), "KemSecretKey(..)");
    assert_eq!(format!("{:?}", ALICE.signing_key()), "SigningKey(..)");
    let legacy = crate::LegacyIdentity::from_seed(&Secret::new([1; 32]));
    assert_eq!(
        format!("{legacy:?}"),
        format!("LegacyIdentity({}, Secret(..))", legacy.id())
    );
    let sealed = BOB.public().seal(ALICE.account_id(), b"text").unwrap();
    let opened = BOB.open(ALICE.account_id(), &sealed).unwrap();
    assert_eq!(format!("{opened:?}"), "Opened { format: V2, .. }");
    // Public keys are told apart by their first bytes.
    let key = ALICE.public().signing();
    let head = const_hex::encode(&key.as_bytes()[..8]);
    assert_eq!(format!("{key:?}"), format!("SigningPublicKey({head}..)"));
    let prepared = crate::PreparedVerifyingKey::new(key);
    assert_eq!(format!("{prepared:?}"), "PreparedVerifyingKey(..)");
    let cache = crate::VerifierCache::switched_off();
    assert_eq!(
        format!("{cache:?}"),
        "VerifierCache(on: false, prepared: 0)"
    );
}

#[test]
fn json_of_mixed_identities_is_refused() {
    use IdentityJsonError as E;
    let alice = ALICE.to_json_exposing_secrets();
    assert_eq!(
        Identity::from_json(&alice).unwrap().public(),
        ALICE.public()
    );
    let swap = |field: &str| {
        let mut mixed: serde_json::Value = serde_json::from_str(&alice).unwrap();
        let other: serde_json::Value =
            serde_json::from_str(&BOB.to_json_exposing_secrets()).unwrap();
        mixed[field] = other[field].clone();
        Identity::from_json(&mixed.to_string()).unwrap_err()
    };
    assert_eq!(swap("sessionId"), E::ForeignId);
    assert_eq!(swap("kemPublicKey"), E::ForeignId);
    assert_eq!(swap("dsaPublicKey"), E::ForeignId);
    let foreign = CryptoError::InvalidSecretKey(Flaw::Mismatch);
    assert_eq!(
        swap("kemSecretKey"),
        E::Key {
            field: "kemSecretKey",
            error: foreign
        }
    );
    assert_eq!(
        swap("dsaSecretKey"),
        E::Key {
            field: "dsaSecretKey",
            error: foreign
        }
    );
    assert_eq!(
        Identity::from_json(&ALICE.public().to_json()).unwrap_err(),
        E::Missing {
            field: "kemSecretKey"
        }
    );
    assert!(matches!(
        Identity::from_json("{}").unwrap_err(),
        E::Syntax { .. }
    ));
    let long = " ".repeat(1 << 20);
    assert_eq!(
        Identity::from_json(&long).unwrap_err(),
        E::TooLong { got: 1 << 20 }
    );
}

#[test]
fn v2_opens_for_its_sender_and_recipient_only() {
    let sealed = ALICE.seal_to(BOB.public(), b"hello").unwrap();
    assert_eq!(sealed.len(), 5 + OVERHEAD_V2_BYTES);
    let opened = BOB.open(ALICE.account_id(), &sealed).unwrap();
    assert_eq!(
        (&opened.plaintext[..], opened.format),
        (&b"hello"[..], Format::V2)
    );
    for (reader, sender) in [(&*BOB, &*BOB), (&*ALICE, &*ALICE)] {
        assert_eq!(
            reader.open(sender.account_id(), &sealed),
            Err(CryptoError::DecryptionFailed)
        );
    }
}

#[test]
fn every_changed_byte_of_an_envelope_is_noticed() {
    let sealed = ALICE.seal_to(BOB.public(), b"hello").unwrap();
    for at in (0..sealed.len())
        .step_by(61)
        .chain([0, 1, 1088, 1089, 1112, 1113])
    {
        let mut bad = sealed.clone();
        bad[at] ^= 0x80;
        assert!(BOB.open(ALICE.account_id(), &bad).is_err(), "byte {at}");
    }
}

#[test]
fn v1_is_read_as_unbound_even_when_it_begins_like_v2() {
    let mut seen_like_v2 = false;
    for _ in 0..2000 {
        let sealed = seal_published_v1(BOB.public().kem(), b"hello").unwrap();
        assert_eq!(sealed.len(), 5 + OVERHEAD_V1_BYTES);
        seen_like_v2 |= sealed[0] == 2;
        let opened = BOB.open(ALICE.account_id(), &sealed).unwrap();
        assert_eq!(
            (&opened.plaintext[..], opened.format),
            (&b"hello"[..], Format::V1Unbound)
        );
        if seen_like_v2 {
            break;
        }
    }
    assert!(seen_like_v2);
}

#[test]
fn short_envelopes_are_invalid_and_not_undecryptable() {
    for len in [0, 1, OVERHEAD_V1_BYTES - 1] {
        for first in [0, 2] {
            let mut bytes = vec![7; len];
            bytes.iter_mut().take(1).for_each(|byte| *byte = first);
            assert!(matches!(
                BOB.open(ALICE.account_id(), &bytes),
                Err(CryptoError::InvalidCiphertext(Flaw::Length { .. }))
            ));
        }
    }
}

#[test]
fn public_identities_have_one_encoding() {
    let bytes = ALICE.public().to_bytes();
    assert_eq!(bytes.len(), 3136);
    assert_eq!(
        PublicIdentity::from_bytes(&bytes).as_ref(),
        Ok(ALICE.public())
    );
    assert!(PublicIdentity::from_bytes(&bytes[1..]).is_err());
    let mut bad = bytes;
    bad[..3].fill(0xff);
    assert!(PublicIdentity::from_bytes(&bad).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_sealed_opens(message: Vec<u8>) {
        let sealed = ALICE.seal_to(BOB.public(), &message).unwrap();
        prop_assert_eq!(BOB.open(ALICE.account_id(), &sealed).unwrap().plaintext, message);
    }

    #[test]
    fn noise_never_opens_and_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..1400)) {
        prop_assert!(BOB.open(ALICE.account_id(), &noise).is_err());
        prop_assert!(crate::SealedIdentity::from_bytes(&noise).is_err());
        prop_assert!(crate::open_signed_message(BOB.public().signing(), &noise).is_err());
    }
}

#[test]
fn a_rotation_is_found_by_its_signing_key_and_keeps_what_fits_a_file() {
    let seed = || Secret::new([1; 32]);
    for rotation in [0, 1, 2, RETIRED_MAX as u32, RETIRED_MAX as u32 + 1] {
        let at = Identity::from_seed_at(seed(), rotation).unwrap();
        let found = rotation_signing_key(&seed(), rotation).unwrap();
        assert_eq!(found, *at.public().signing());
        assert_eq!(
            (at.account_id(), at.rotation()),
            (ALICE.account_id(), rotation)
        );
        // Newest first; the first keys are the last to go.
        let kept: Vec<_> = at.retired().iter().map(KemSecretKey::public_key).collect();
        let earlier = (0..rotation).rev().take(RETIRED_MAX);
        let earlier: Vec<_> = earlier
            .map(|earlier| ALICE.next(earlier).unwrap())
            .collect();
        let expected: Vec<_> = earlier
            .iter()
            .map(|earlier| earlier.public().kem())
            .collect();
        assert_eq!(kept, expected);
    }
    // It replaces keys whoever set them: nothing else is derived to it.
    let recovery = recovery_key(&seed()).unwrap();
    assert_ne!(recovery.public_key(), ALICE.public().signing());
}

#[test]
fn an_identity_in_json_has_a_limit() {
    let text = ALICE.public().to_json();
    let padded = |len: usize| " ".repeat(len - text.len()) + &text;
    let read = PublicIdentity::from_json(&padded(json::JSON_BYTES_MAX));
    assert_eq!(read.as_ref(), Ok(ALICE.public()));
    let got = json::JSON_BYTES_MAX + 1;
    assert_eq!(got, 32_769);
    let refused = PublicIdentity::from_json(&padded(got));
    assert_eq!(refused, Err(IdentityJsonError::TooLong { got }));
}

#[test]
fn the_keys_of_a_rotation_are_the_same_for_ever() {
    let mut last = ALICE.public().clone();
    for rotation in 1..4 {
        let next = ALICE.next(rotation).unwrap();
        assert_eq!(next.account_id(), ALICE.account_id());
        assert_ne!(next.public(), &last);
        let again = Identity::from_seed_at(Secret::new([1; 32]), rotation).unwrap();
        assert_eq!(again.public(), next.public());
        last = next.public().clone();
    }
    // Fixed by this release, as the first keys are.
    let second = ALICE.next(1).unwrap().public().id().to_string();
    assert_eq!(
        second,
        "070c0a3aebc0d848c42ef6d464a49d2ed91e53cc31a6636b4ceaebfc657893ce5f"
    );
    let recovery = ALICE.recovery_key().unwrap().unwrap();
    let digest = crate::derive::blake2b_256(&[recovery.public_key().as_bytes()]);
    assert_eq!(
        const_hex::encode(digest),
        "ee950ddd7ca5b4c1ae73d4bc05cb615a0b2dfef7c5dd02e70d4b09d8d27d9ed6"
    );
    assert_ne!(recovery.public_key(), ALICE.public().signing());
}

#[test]
fn an_identity_without_a_seed_rotates_to_fresh_keys() {
    let first = Identity::generate_without_phrase().unwrap();
    let (a, b) = (first.next(1).unwrap(), first.next(1).unwrap());
    assert_ne!(a.public(), b.public());
    assert_eq!((a.account_id(), a.rotation()), (first.account_id(), 1));
    assert!(a.recovery_key().unwrap().is_none());
    // What was sealed to the account before is still opened, and what comes after too.
    let sealed = ALICE.seal_to(first.public(), b"before").unwrap();
    assert_eq!(
        a.open(ALICE.account_id(), &sealed).unwrap().plaintext,
        b"before"
    );
    let parties = Parties {
        sender: ALICE.account_id(),
        recipient: first.account_id(),
    };
    let sealed = envelope::seal(a.public().kem(), &parties, b"after").unwrap();
    assert_eq!(
        a.open(ALICE.account_id(), &sealed).unwrap().plaintext,
        b"after"
    );
    assert!(first.open(ALICE.account_id(), &sealed).is_err());
}
