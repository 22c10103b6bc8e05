//! What the chain's rules ask of cryptography, with signatures verified once.
//!
//! Admission verifies in parallel and remembers; applying a block then finds every signature
//! known. What is remembered is (key, digest, signature), never the digest alone: a body that
//! came with a bad signature poisons nothing.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use session_chain::state::Crypto;
use session_chain::tx::legacy::LegacyKey;
use session_chain::tx::{KemKey, SigningKey};
use session_core::hash::sha256;
use session_core::ids::{AccountId, Digest};
use session_core::merkle::Hash;
use session_crypto::{
    KemPublicKey, LegacyPublicIdentity, PublicIdentity, Signature, SigningPublicKey, VerifierCache,
};

use crate::lock::lock;

/// Signatures remembered in each of two generations: two minutes at five hundred a second.
const REMEMBERED: usize = 65_536;

/// Keys prepared at most, 40 KiB each: 40 MB.
const PREPARED_KEYS: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();

/// Keys kept ready, 2 kB each.
const READY_KEYS: usize = 8_192;

/// A map that forgets what was not asked for lately: when the recent half is full it becomes the
/// older one.
struct Recent<K, V> {
    recent: HashMap<K, V>,
    older: HashMap<K, V>,
    half: usize,
}

impl<K: std::hash::Hash + Eq, V: Clone> Recent<K, V> {
    fn new(half: usize) -> Self {
        Self {
            recent: HashMap::new(),
            older: HashMap::new(),
            half,
        }
    }

    fn remove(&mut self, key: &K) {
        self.recent.remove(key);
        self.older.remove(key);
    }

    fn get(&self, key: &K) -> Option<V> {
        self.recent
            .get(key)
            .or_else(|| self.older.get(key))
            .cloned()
    }

    fn put(&mut self, key: K, value: V) {
        if self.recent.len() >= self.half {
            self.older = std::mem::take(&mut self.recent);
        }
        self.recent.insert(key, value);
    }
}

/// Verifies signatures and remembers those that hold.
pub struct Verifier {
    cache: VerifierCache,
    keys: Mutex<Recent<Digest, Arc<SigningPublicKey>>>,
    signers: Mutex<Recent<AccountId, (Digest, Arc<SigningPublicKey>)>>,
    known: Mutex<Recent<Hash, ()>>,
}

fn known_as(key: &Digest, digest: &Hash, signature: &Digest) -> Hash {
    sha256(&[key.as_bytes().as_slice(), digest, signature.as_bytes()].concat())
}

fn public_key(key: &SigningKey) -> Option<SigningPublicKey> {
    SigningPublicKey::try_from(key.0.as_slice()).ok()
}

/// What is behind these locks is a cache: a panic elsewhere cannot make it wrong.
impl Verifier {
    /// With prepared keys, or, where the switch is off, with the library's verification alone.
    pub fn new(prepare_keys: bool) -> Self {
        let cache = if prepare_keys {
            VerifierCache::new(PREPARED_KEYS)
        } else {
            VerifierCache::switched_off()
        };
        Self {
            cache,
            keys: Mutex::new(Recent::new(READY_KEYS / 2)),
            signers: Mutex::new(Recent::new(READY_KEYS / 2)),
            known: Mutex::new(Recent::new(REMEMBERED)),
        }
    }

    /// The key that an account signed with lately.
    pub(crate) fn signer(&self, account: &AccountId) -> Option<(Digest, Arc<SigningPublicKey>)> {
        lock(&self.signers).get(account)
    }

    /// Remembers the key that an account has just signed with.
    pub(crate) fn keep_signer(&self, account: AccountId, of: Digest, key: Arc<SigningPublicKey>) {
        lock(&self.signers).put(account, (of, key));
    }

    /// Forgets the key that an account signed with lately: it counts no more.
    pub(crate) fn forget_signer(&self, account: &AccountId) {
        lock(&self.signers).remove(account);
    }

    /// Forgets them all: another state counts.
    pub(crate) fn forget_signers(&self) {
        let mut signers = lock(&self.signers);
        let half = signers.half;
        *signers = Recent::new(half);
    }

    /// A key that was kept ready.
    pub(crate) fn key(&self, digest: &Digest) -> Option<Arc<SigningPublicKey>> {
        lock(&self.keys).get(digest)
    }

    /// Keeps a key ready.
    pub(crate) fn keep_key(
        &self,
        digest: Digest,
        key: &SigningKey,
    ) -> Option<Arc<SigningPublicKey>> {
        let key = Arc::new(public_key(key)?);
        lock(&self.keys).put(digest, key.clone());
        Some(key)
    }

    /// Verifies and, if it holds, remembers.
    pub(crate) fn admit(
        &self,
        key_digest: &Digest,
        key: &SigningPublicKey,
        digest: &Hash,
        signature: &[u8],
        signature_digest: &Digest,
    ) -> bool {
        let id = known_as(key_digest, digest, signature_digest);
        if lock(&self.known).get(&id).is_some() {
            return true;
        }
        let holds = Signature::try_from(signature)
            .is_ok_and(|signature| self.cache.verify(key, digest, &signature).is_ok());
        if holds {
            lock(&self.known).put(id, ());
        }
        holds
    }
}

impl Verifier {
    /// [`Verifier::admit`] for the Ed25519 key of an `05` account.
    pub(crate) fn admit_legacy(
        &self,
        key: &LegacyKey,
        digest: &Hash,
        signature: &[u8],
        signature_digest: &Digest,
    ) -> bool {
        let id = known_as(&key.digest(), digest, signature_digest);
        if lock(&self.known).get(&id).is_some() {
            return true;
        }
        let holds = self.verify_legacy(key, digest, signature);
        if holds {
            lock(&self.known).put(id, ());
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
        lock(&self.known)
            .get(&known_as(key, digest, signature))
            .is_some()
    }

    fn legacy_account_id(&self, key: &LegacyKey) -> Option<AccountId> {
        let key = LegacyPublicIdentity::from_bytes(&key.0).ok()?;
        Some(key.id().account_id())
    }

    fn verify_legacy(&self, key: &LegacyKey, digest: &Hash, signature: &[u8]) -> bool {
        LegacyPublicIdentity::from_bytes(&key.0)
            .is_ok_and(|key| key.verify(digest, signature).is_ok())
    }

    fn verify(&self, key: &SigningKey, digest: &Hash, signature: &[u8]) -> bool {
        match (public_key(key), Signature::try_from(signature)) {
            (Some(key), Ok(signature)) => self.cache.verify(&key, digest, &signature).is_ok(),
            (Some(_) | None, _) => false,
        }
    }
}
