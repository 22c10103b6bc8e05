//! The cache of prepared keys, signed values, and what the legacy accounts do.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on stops"
)]

use session_crypto::{
    BatchItem, CryptoError, Flaw, IdentityId, LegacyIdentity, LegacyPublicIdentity, Secret,
    Signable, Signed, SigningKey, VerifierCache, open_signed_message, sign_message,
};
use std::num::NonZeroUsize;

fn cache(capacity: usize) -> VerifierCache {
    VerifierCache::new(NonZeroUsize::new(capacity).unwrap())
}

#[test]
fn a_key_is_prepared_at_its_second_use_and_the_oldest_is_forgotten() {
    let keys: Vec<_> = (0..3).map(|_| SigningKey::generate().unwrap()).collect();
    let cache = cache(2);
    for (round, prepared) in [(0, 0), (1, 2), (2, 2)] {
        for key in &keys {
            let signature = key.sign(b"m").unwrap();
            assert_eq!(cache.verify(key.public_key(), b"m", &signature), Ok(()));
            assert_eq!(
                cache.verify(key.public_key(), b"n", &signature),
                Err(CryptoError::InvalidSignature(Flaw::Refused))
            );
        }
        // Two uses a round: all three were prepared in the first, and two fit.
        assert_eq!(
            cache.prepared_count(),
            if round == 0 { 2 } else { prepared }
        );
    }
}

#[test]
fn one_use_prepares_nothing_and_switched_off_never_does() {
    let key = SigningKey::generate().unwrap();
    let signature = key.sign(b"m").unwrap();
    let on = cache(2);
    on.verify(key.public_key(), b"m", &signature).unwrap();
    assert!(on.is_on());
    assert_eq!(on.prepared_count(), 0);
    let off = VerifierCache::switched_off();
    for _ in 0..3 {
        off.verify(key.public_key(), b"m", &signature).unwrap();
    }
    assert!(!off.is_on());
    assert_eq!(off.prepared_count(), 0);
}

#[test]
fn a_batch_answers_in_order() {
    let keys: Vec<_> = (0..3).map(|_| SigningKey::generate().unwrap()).collect();
    let signed: Vec<_> = (0..40u8)
        .map(|i| {
            let key = &keys[usize::from(i) % 3];
            let message = if i % 5 == 0 { vec![0xff] } else { vec![i] };
            (key, message, key.sign(&[i]).unwrap())
        })
        .collect();
    let items: Vec<_> = signed
        .iter()
        .map(|(key, message, signature)| BatchItem {
            key: key.public_key(),
            message,
            signature,
        })
        .collect();
    let expected: Vec<_> = (0..40).map(|i| i % 5 != 0).collect();
    for cache in [cache(8), cache(1), VerifierCache::switched_off()] {
        assert_eq!(cache.verify_batch(&items), expected);
        assert_eq!(cache.verify_batch(&items[..3]), expected[..3]);
        assert!(cache.verify_batch(&[]).is_empty());
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Vote(u8);

impl Signable for Vote {
    fn signing_bytes(&self) -> Vec<u8> {
        vec![b'v', self.0]
    }
}

#[test]
fn a_value_passes_the_door_with_its_signature_only() {
    let key = SigningKey::generate().unwrap();
    let cache = cache(1);
    let verified = Signed::make(Vote(1), &key).unwrap();
    let sent = verified.clone().into_signed();
    assert_eq!(sent.clone().verify(key.public_key(), &cache), Ok(verified));
    let forged = Signed {
        value: Vote(2),
        signature: sent.signature,
    };
    assert!(forged.verify(key.public_key(), &cache).is_err());
}

#[test]
fn signed_messages_are_signature_then_message() {
    let key = SigningKey::generate().unwrap();
    let signed = sign_message(&key, b"hello").unwrap();
    assert_eq!(signed.len(), 3309 + 5);
    assert_eq!(
        open_signed_message(key.public_key(), &signed),
        Ok(&b"hello"[..])
    );
    assert!(open_signed_message(key.public_key(), &signed[..3313]).is_err());
    assert_eq!(
        open_signed_message(key.public_key(), &signed[..3308]),
        Err(CryptoError::InvalidSignature(Flaw::Length {
            expected: 3309,
            got: 3308
        }))
    );
}

#[test]
fn a_legacy_id_is_the_image_of_the_signing_key() {
    // RFC 8032 test 1, and its image u = (1 + y) / (1 - y) mod 2^255 - 19.
    let seed = const_hex::decode_to_array(
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    )
    .unwrap();
    let account = LegacyIdentity::from_seed(&Secret::new(seed));
    assert_eq!(
        const_hex::encode(account.public().as_bytes()),
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    );
    assert_eq!(
        account.id().to_string(),
        "05d85e07ec22b0ad881537c2f44d662d1a143cf830c57aca4305d85c7a90f6b62e"
    );
    // Agreement works between images, so the image is the X25519 key of the same secret.
    let other = LegacyIdentity::generate().unwrap();
    let (IdentityId::Legacy(mine), IdentityId::Legacy(theirs)) = (account.id(), other.id()) else {
        panic!("legacy ids");
    };
    assert_eq!(account.agree(&theirs).unwrap(), other.agree(&mine).unwrap());
    let signature = account.sign(b"m");
    assert_eq!(account.public().verify(b"m", &signature), Ok(()));
    assert!(account.public().verify(b"n", &signature).is_err());
    assert!(account.public().verify(b"m", &signature[1..]).is_err());
    // The neutral element signs everything.
    let mut weak = [0; 32];
    weak[0] = 1;
    assert_eq!(
        LegacyPublicIdentity::from_bytes(&weak),
        Err(CryptoError::InvalidPublicKey(Flaw::Range))
    );
}
