//! Verification of many messages of few keys: prepared keys in an LRU, batches over the cores.

use crate::error::{CryptoError, Flaw};
use crate::prepared::PreparedVerifyingKey;
use crate::sign::{Signature, SigningPublicKey};
use lru::LruCache;
use rayon::prelude::*;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A cache of prepared keys. Shared between threads; public data only.
///
/// A key is prepared at its second use: preparing costs more than one verification from bytes, so
/// a stranger who signs once costs nothing extra and evicts nobody.
pub struct VerifierCache {
    /// None: preparing is switched off and every key is verified from its bytes.
    keys: Option<Mutex<Keys>>,
}

struct Keys {
    seen_once: LruCache<SigningPublicKey, ()>,
    prepared: LruCache<SigningPublicKey, Arc<PreparedVerifyingKey>>,
}

/// One signature of a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchItem<'a> {
    /// Who is said to have signed.
    pub key: &'a SigningPublicKey,
    /// What was signed.
    pub message: &'a [u8],
    /// The alleged signature.
    pub signature: &'a Signature,
}

/// Below this many signatures waking other cores costs more than it saves.
const PARALLEL_FROM: usize = 4;

impl VerifierCache {
    /// A cache of at most `capacity` prepared keys, about 40 KiB each.
    pub fn new(capacity: NonZeroUsize) -> Self {
        Self {
            keys: Some(Mutex::new(Keys {
                seen_once: LruCache::new(capacity),
                prepared: LruCache::new(capacity),
            })),
        }
    }

    /// No cache: every signature is checked from the bytes of its key by the library.
    pub const fn switched_off() -> Self {
        Self { keys: None }
    }

    /// Whether keys are prepared at all.
    pub const fn is_on(&self) -> bool {
        self.keys.is_some()
    }

    /// How many keys are prepared now.
    pub fn prepared_count(&self) -> usize {
        self.keys
            .as_ref()
            .map_or(0, |keys| lock(keys).prepared.len())
    }

    /// Checks one signature.
    ///
    /// # Errors
    /// [`CryptoError::InvalidSignature`].
    pub fn verify(
        &self,
        key: &SigningPublicKey,
        message: &[u8],
        signature: &Signature,
    ) -> Result<(), CryptoError> {
        match self.prepared(key) {
            Some(prepared) if prepared.verify(message, signature.as_bytes()) => Ok(()),
            Some(_) => Err(CryptoError::InvalidSignature(Flaw::Refused)),
            None => key.verify(message, signature),
        }
    }

    /// Checks many signatures over all cores; the answers are in the order of the items.
    pub fn verify_batch(&self, items: &[BatchItem<'_>]) -> Vec<bool> {
        let check =
            |item: &BatchItem<'_>| self.verify(item.key, item.message, item.signature).is_ok();
        if items.len() < PARALLEL_FROM {
            items.iter().map(check).collect()
        } else {
            items.par_iter().map(check).collect()
        }
    }

    /// The prepared key, if this is at least its second use.
    fn prepared(&self, key: &SigningPublicKey) -> Option<Arc<PreparedVerifyingKey>> {
        let keys = self.keys.as_ref()?;
        {
            let mut keys = lock(keys);
            if let Some(prepared) = keys.prepared.get(key) {
                return Some(Arc::clone(prepared));
            }
            if keys.seen_once.pop(key).is_none() {
                keys.seen_once.put(key.clone(), ());
                return None;
            }
        }
        // Prepared outside the lock. Two threads may do it at once; the second one's work is lost.
        let prepared = Arc::new(PreparedVerifyingKey::new(key));
        lock(keys).prepared.put(key.clone(), Arc::clone(&prepared));
        Some(prepared)
    }
}

/// A thread that panicked while holding the lock left whole entries behind: each step above is
/// one call of the map.
fn lock(keys: &Mutex<Keys>) -> MutexGuard<'_, Keys> {
    keys.lock().unwrap_or_else(PoisonError::into_inner)
}

impl core::fmt::Debug for VerifierCache {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "VerifierCache(on: {}, prepared: {})",
            self.is_on(),
            self.prepared_count()
        )
    }
}
