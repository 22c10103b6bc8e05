//! The work of the published Go package, for `compare/run`.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a measurement that cannot go on stops"
)]

mod meter;

use std::hint::black_box;

use meter::measure;
use session_crypto::backend::{Active, Backend};
use session_crypto::envelope::{open_published_v1, seal_published_v1};
use session_crypto::{Identity, KemSecretKey, PreparedVerifyingKey, SigningKey};

fn main() {
    let identity = Identity::generate_without_phrase().unwrap();
    let kem = KemSecretKey::generate().unwrap();
    let key = SigningKey::generate().unwrap();
    let message = [0; 64];
    let signature = key.sign(&message).unwrap();
    let prepared = PreparedVerifyingKey::new(key.public_key());
    let plaintext = [0; 1024];

    measure("identity", || {
        black_box(Identity::generate_without_phrase().unwrap());
    });
    // Its id is a hash of both keys; whoever calls the libraries directly hashes them too.
    let keys = [0x5a; 1_184 + 1_952];
    measure("identity, bare library", || {
        black_box(Active::kem_generate().unwrap());
        black_box(Active::sign_generate().unwrap());
        let mut id = blake2b_simd::Params::new();
        black_box(id.hash_length(32).hash(black_box(&keys)));
    });
    measure("encapsulate+decapsulate", || {
        let (ciphertext, secret) = kem.public_key().encapsulate().unwrap();
        assert!(kem.decapsulate(&ciphertext).unwrap() == secret);
    });
    #[cfg(feature = "native")]
    bare_kem();
    measure("sign+verify, verifier from bytes", || {
        let signature = key.sign(&message).unwrap();
        key.public_key().verify(&message, &signature).unwrap();
    });
    measure("sign+verify, prepared verifier", || {
        let signature = key.sign(&message).unwrap();
        assert!(prepared.verify(&message, signature.as_bytes()));
    });
    measure("verify, from bytes", || {
        key.public_key().verify(&message, &signature).unwrap();
    });
    #[cfg(feature = "native")]
    bare_verify(&key, &message, signature.as_ref());
    measure("verify, prepared", || {
        assert!(prepared.verify(&message, signature.as_bytes()));
    });
    measure("encrypt+decrypt 1 KiB", || {
        let sealed = seal_published_v1(identity.public().kem(), &plaintext).unwrap();
        black_box(open_published_v1(identity.kem_key(), &sealed).unwrap());
    });
}

#[cfg(feature = "native")]
fn bare_kem() {
    use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};
    let key = DecapsulationKey::generate(&ML_KEM_768).unwrap();
    let public = key.encapsulation_key().unwrap().key_bytes().unwrap();
    measure("encapsulate+decapsulate, bare library", || {
        let public = EncapsulationKey::new(&ML_KEM_768, public.as_ref()).unwrap();
        let (ciphertext, secret) = public.encapsulate().unwrap();
        assert!(key.decapsulate(ciphertext).unwrap().as_ref() == secret.as_ref());
    });
}

#[cfg(feature = "native")]
fn bare_verify(key: &SigningKey, message: &[u8], signature: &[u8]) {
    use aws_lc_rs::signature::{ML_DSA_65, ParsedPublicKey, UnparsedPublicKey};
    let bytes = key.public_key().as_bytes();
    measure("verify, bare library from bytes", || {
        UnparsedPublicKey::new(&ML_DSA_65, bytes)
            .verify(message, signature)
            .unwrap();
    });
    let parsed = ParsedPublicKey::new(&ML_DSA_65, bytes).unwrap();
    measure("verify, bare library parsed", || {
        parsed.verify_sig(message, signature).unwrap();
    });
}
