//! What the chain's rules ask of cryptography, with signatures verified once.
//!
//! Admission verifies in parallel and remembers; applying a block then finds every signature
//! known. What is remembered is (key, digest, signature), never the digest alone: a body that
//! came with a bad signature poisons nothing.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use session_chain::state::Crypto;
use session_chain::tx::{KemKey, SigningKey};
use session_core::hash::sha256;
use session_core::ids::{AccountId, Digest};
use session_core::merkle::Hash;
use session_crypto::{KemPublicKey, PublicIdentity, Signature, SigningPublicKey, VerifierCache};

/// Signatures remembered in each of two generations: two minutes at five hundred a second.
const REMEMBERED: usize = 65_536;

/// Keys prepared at most, 40 KiB each: 40 MB.
const PREPARED_KEYS: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

#[derive(Default)]
struct Known {
    recent: HashSet<Hash>,
    older: HashSet<Hash>,
}

/// Verifies signatures and remembers those that hold.
pub struct Verifier {
    keys: VerifierCache,
    known: Mutex<Known>,
}

fn known_as(key: &Digest, digest: &Hash, signature: &Digest) -> Hash {
    sha256(&[key.as_bytes().as_slice(), digest, signature.as_bytes()].concat())
}

impl Verifier {
    /// With prepared keys, or, where the switch is off, with the library's verification alone.
    pub fn new(prepare_keys: bool) -> Self {
        let keys = if prepare_keys {
            VerifierCache::new(PREPARED_KEYS)
        } else {
            VerifierCache::switched_off()
        };
        Self {
            keys,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // A set of hashes cannot be left half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Verifies and, if it holds, remembers.
    pub fn admit(&self, key: &SigningKey, digest: &Hash, signature: &[u8]) -> bool {
        let holds = self.verify(key, digest, signature);
        if holds {
            let id = known_as(
                &key.digest(),
                digest,
                &Digest::from_bytes(sha256(signature)),
            );
            let mut known = self.known();
            if known.recent.len() >= REMEMBERED {
                known.older = std::mem::take(&mut known.recent);
            }
            known.recent.insert(id);
        }
        holds
    }
}

impl Crypto for Verifier {
    fn account_id(&self, kem: &KemKey, signing: &SigningKey) -> Option<AccountId> {
        let kem = KemPublicKey::try_from(kem.0.as_slice()).ok()?;
        let signing = SigningPublicKey::try_from(signing.0.as_slice()).ok()?;
        Some(PublicIdentity::new(kem, signing).account_id())
    }

    fn is_kem_key(&self, kem: &KemKey) -> bool {
        KemPublicKey::try_from(kem.0.as_slice()).is_ok()
    }

    fn is_verified(&self, key: &Digest, digest: &Hash, signature: &Digest) -> bool {
        let id = known_as(key, digest, signature);
        let known = self.known();
        known.recent.contains(&id) || known.older.contains(&id)
    }

    fn verify(&self, key: &SigningKey, digest: &Hash, signature: &[u8]) -> bool {
        let (Ok(key), Ok(signature)) = (
            SigningPublicKey::try_from(key.0.as_slice()),
            Signature::try_from(signature),
        ) else {
            return false;
        };
        self.keys.verify(&key, digest, &signature).is_ok()
    }
}
