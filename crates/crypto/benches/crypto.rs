//! What the work of the published project costs here, and what each layer adds.
//!
//! `cargo bench -p session-crypto`. Compare the fastest column: it is the one without neighbours.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on stops"
)]

use divan::Bencher;
use session_crypto::backend::{Active, Backend, Portable};
use session_crypto::{
    BatchItem, Identity, KemSecretKey, PreparedVerifyingKey, Signature, SigningKey, VerifierCache,
};
use std::hint::black_box;
use std::num::NonZeroUsize;

fn main() {
    divan::main();
}

const MESSAGE: &[u8] = &[7; 64];

fn signed() -> (SigningKey, Signature) {
    let key = SigningKey::generate().unwrap();
    let signature = key.sign(MESSAGE).unwrap();
    (key, signature)
}

mod identity {
    use super::*;

    #[divan::bench]
    fn generate_without_phrase() -> Identity {
        Identity::generate_without_phrase().unwrap()
    }

    #[divan::bench]
    fn generate_with_phrase() -> Identity {
        Identity::generate().unwrap()
    }

    #[divan::bench]
    fn bare_library() {
        black_box(Active::sign_generate().unwrap());
        black_box(Active::kem_generate().unwrap());
    }
}

/// What opening an identity file costs its owner, and each guess a thief.
mod passphrase {
    use super::*;
    use session_crypto::{KdfCost, SealedIdentity};

    /// The standard cost, and around it: RFC 9106's first choice is out of reach of small
    /// machines, OWASP's minimum is one pass less.
    const COSTS: &[(u32, u32, u32)] = &[
        (19 * 1024, 2, 1),
        (64 * 1024, 1, 4),
        (64 * 1024, 3, 4),
        (128 * 1024, 3, 4),
        (256 * 1024, 3, 4),
    ];

    #[divan::bench(args = COSTS, sample_count = 20)]
    fn open_file(bencher: Bencher<'_, '_>, (memory, passes, lanes): (u32, u32, u32)) {
        let cost = KdfCost::new(memory, passes, lanes).unwrap();
        let identity = Identity::generate().unwrap();
        let file = SealedIdentity::seal(&identity, b"correct horse", cost).unwrap();
        bencher.bench(|| file.open(b"correct horse").unwrap());
    }

    /// What rotating adds: the keys of the first rotation, derived.
    #[divan::bench]
    fn next_keys(bencher: Bencher<'_, '_>) {
        let identity = Identity::generate().unwrap();
        bencher.bench(|| identity.next(1).unwrap());
    }
}

/// One message of a kilobyte to several people.
mod envelope_many {
    use super::*;
    use session_core::ids::AccountId;
    use session_crypto::envelope::many::{Recipient, open, seal};

    fn company(count: u8) -> (KemSecretKey, Vec<AccountId>) {
        let accounts = (0..count).map(|n| AccountId::from_bytes([n; 32]));
        (KemSecretKey::generate().unwrap(), accounts.collect())
    }

    const SENDER: AccountId = AccountId::from_bytes([255; 32]);

    fn to<'a>(key: &'a KemSecretKey, accounts: &[AccountId]) -> Vec<Recipient<'a>> {
        let recipient = |account: &AccountId| Recipient {
            account: *account,
            kem: key.public_key(),
        };
        accounts.iter().map(recipient).collect()
    }

    #[divan::bench(args = [2, 9, 99])]
    fn seal_to(bencher: Bencher<'_, '_>, count: u8) {
        let (key, accounts) = company(count);
        let to = to(&key, &accounts);
        bencher.bench(|| seal(SENDER, &to, &[7; 1_024]).unwrap());
    }

    #[divan::bench(args = [2, 9, 99])]
    fn open_one(bencher: Bencher<'_, '_>, count: u8) {
        let (key, accounts) = company(count);
        let sealed = seal(SENDER, &to(&key, &accounts), &[7; 1_024]).unwrap();
        bencher.bench(|| open(&key, &SENDER, &accounts[1], &accounts, &sealed).unwrap());
    }
}

mod encapsulate_and_decapsulate {
    use super::*;

    #[divan::bench]
    fn ours(bencher: Bencher<'_, '_>) {
        let key = KemSecretKey::generate().unwrap();
        bencher.bench(|| {
            let (ciphertext, secret) = key.public_key().encapsulate().unwrap();
            assert!(key.decapsulate(&ciphertext).unwrap() == secret);
        });
    }

    #[cfg(feature = "native")]
    #[divan::bench]
    fn bare_aws_lc_rs(bencher: Bencher<'_, '_>) {
        use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};
        let key = DecapsulationKey::generate(&ML_KEM_768).unwrap();
        let public = key.encapsulation_key().unwrap().key_bytes().unwrap();
        bencher.bench(|| {
            let public = EncapsulationKey::new(&ML_KEM_768, public.as_ref()).unwrap();
            let (ciphertext, secret) = public.encapsulate().unwrap();
            assert!(key.decapsulate(ciphertext).unwrap().as_ref() == secret.as_ref());
        });
    }
}

mod sign_and_verify {
    use super::*;

    #[divan::bench]
    fn from_bytes(bencher: Bencher<'_, '_>) {
        let (key, _) = signed();
        bencher.bench(|| {
            let signature = key.sign(MESSAGE).unwrap();
            key.public_key().verify(MESSAGE, &signature).unwrap();
        });
    }

    #[divan::bench]
    fn prepared(bencher: Bencher<'_, '_>) {
        let (key, _) = signed();
        let prepared = PreparedVerifyingKey::new(key.public_key());
        bencher.bench(|| {
            let signature = key.sign(MESSAGE).unwrap();
            assert!(prepared.verify(MESSAGE, signature.as_bytes()));
        });
    }
}

mod encrypt_and_decrypt_1_kib {
    use super::*;

    #[divan::bench]
    fn envelope_v2(bencher: Bencher<'_, '_>) {
        let [alice, bob] = [(); 2].map(|()| Identity::generate().unwrap());
        bencher.bench(|| {
            let sealed = alice.seal_to(bob.public(), &[7; 1024]).unwrap();
            bob.open(alice.account_id(), &sealed).unwrap()
        });
    }

    #[divan::bench]
    fn envelope_v1(bencher: Bencher<'_, '_>) {
        use session_crypto::envelope::{open_published_v1, seal_published_v1};
        let bob = Identity::generate().unwrap();
        bencher.bench(|| {
            let sealed = seal_published_v1(bob.public().kem(), &[7; 1024]).unwrap();
            open_published_v1(bob.kem_key(), &sealed).unwrap()
        });
    }
}

mod verify {
    use super::*;

    #[divan::bench]
    fn from_bytes(bencher: Bencher<'_, '_>) {
        let (key, signature) = signed();
        bencher.bench(|| key.public_key().verify(MESSAGE, &signature).unwrap());
    }

    #[cfg(feature = "native")]
    #[divan::bench]
    fn bare_aws_lc_rs(bencher: Bencher<'_, '_>) {
        use aws_lc_rs::signature::{ML_DSA_65, UnparsedPublicKey};
        let (key, signature) = signed();
        bencher.bench(|| {
            UnparsedPublicKey::new(&ML_DSA_65, key.public_key().as_bytes())
                .verify(MESSAGE, signature.as_ref())
                .unwrap();
        });
    }

    #[divan::bench]
    fn rustcrypto_from_bytes(bencher: Bencher<'_, '_>) {
        let (key, signature) = signed();
        bencher.bench(|| {
            assert!(Portable::verify(
                key.public_key().as_bytes(),
                MESSAGE,
                signature.as_ref()
            ));
        });
    }

    #[divan::bench]
    fn prepared(bencher: Bencher<'_, '_>) {
        let (key, signature) = signed();
        let prepared = PreparedVerifyingKey::new(key.public_key());
        bencher.bench(|| assert!(prepared.verify(MESSAGE, signature.as_bytes())));
    }

    #[divan::bench]
    fn prepared_from_the_cache(bencher: Bencher<'_, '_>) {
        let (key, signature) = signed();
        let cache = VerifierCache::new(NonZeroUsize::MIN);
        cache.verify(key.public_key(), MESSAGE, &signature).unwrap();
        bencher.bench(|| cache.verify(key.public_key(), MESSAGE, &signature).unwrap());
    }

    #[divan::bench]
    fn preparing(bencher: Bencher<'_, '_>) {
        let (key, _) = signed();
        bencher.bench(|| PreparedVerifyingKey::new(key.public_key()));
    }

    #[divan::bench]
    fn batch_of_64_by_8_keys(bencher: Bencher<'_, '_>) {
        let keys: Vec<_> = (0..8).map(|_| signed()).collect();
        let items: Vec<_> = (0..64)
            .map(|i| &keys[i % 8])
            .map(|(key, signature)| BatchItem {
                key: key.public_key(),
                message: MESSAGE,
                signature,
            })
            .collect();
        let cache = VerifierCache::new(NonZeroUsize::new(8).unwrap());
        cache.verify_batch(&items);
        bencher.bench(|| cache.verify_batch(&items));
    }
}
