//! Keys of Lux Session: who somebody is, what only they can read, and what only they can have said.
//!
//! This is the one crate that touches a key. ML-KEM-768 (FIPS 203) seals, ML-DSA-65 (FIPS 204)
//! signs, XChaCha20-Poly1305 encrypts, BLAKE2b derives; the formats are those of `spec/wire.md`
//! §1. It does no I/O, keeps no clock, and takes randomness from the operating system only in
//! functions that generate, seal or sign.
//!
//! ```text
//! seed 32 ⇄ 24 words ── keyed BLAKE2b ──┬─ ML-KEM secret ─ KemSecretKey ┐
//!                                       └─ ML-DSA secret ─ SigningKey ──┴─ Identity ⇄ SealedIdentity
//!                                                                             │
//! Identity::seal_to ─ envelope bytes ─ Identity::open ─ Opened      PublicIdentity ─ "07…"
//! Signed<T> (untrusted) ─ VerifierCache ─ Verified<T>
//!                         first use of a key: aws-lc-rs, later: PreparedVerifyingKey
//! ```
//!
//! ```
//! use session_crypto::{Identity, Signature, VerifierCache, envelope::Format};
//! use std::num::NonZeroUsize;
//!
//! # fn main() -> Result<(), session_crypto::CryptoError> {
//! let alice = Identity::generate()?;
//! let bob = Identity::generate()?;
//! assert!(bob.id().to_string().starts_with("07"));
//!
//! let sealed = alice.seal_to(bob.public(), b"see you at nine")?;
//! let opened = bob.open(alice.account_id(), &sealed)?;
//! assert_eq!((&opened.plaintext[..], opened.format), (&b"see you at nine"[..], Format::V2));
//!
//! // An envelope binds its sender; a signature proves who spoke.
//! let signature: Signature = alice.sign(b"see you at nine")?;
//! let cache = VerifierCache::new(NonZeroUsize::MIN);
//! cache.verify(alice.public().signing(), b"see you at nine", &signature)?;
//!
//! // 24 words bring an identity back.
//! if let Some(phrase) = alice.recovery_phrase() {
//!     assert_eq!(Identity::from_phrase(&phrase)?.id(), alice.id());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Features: `native` (default) uses aws-lc-rs and needs a C compiler; without it everything runs
//! on RustCrypto, slower and in plain Rust.

pub mod aead;
pub mod backend;
mod bytes;
pub mod derive;
pub mod envelope;
mod error;
mod file;
mod id;
mod identity;
mod kem;
mod legacy;
mod phrase;
mod prepared;
mod secret;
mod sign;
pub mod vectors;
mod verified;
mod verifier;

pub use error::{CryptoError, Flaw};
pub use file::{FileError, KdfCost, SealedIdentity};
pub use id::{ID_CHARS, IdError, IdentityId};
pub use identity::{
    Identity, IdentityJsonError, PublicIdentity, RETIRED_MAX, recovery_key, rotation_signing_key,
};
pub use kem::{KEM_SECRET_KEY_BYTES, KemCiphertext, KemPublicKey, KemSecretKey};
pub use legacy::{LEGACY_SIGNATURE_BYTES, LegacyIdentity, LegacyPublicIdentity, x25519};
pub use phrase::{PHRASE_WORDS, PhraseError, RecoveryPhrase};
pub use prepared::PreparedVerifyingKey;
pub use secret::{Secret, Seed, SharedSecret};
pub use sign::{SIGNING_SECRET_KEY_BYTES, Signature, SigningKey, SigningPublicKey};
pub use verified::{Signable, Signed, Verified, open_signed_message, sign_message};
pub use verifier::{BatchItem, VerifierCache};
