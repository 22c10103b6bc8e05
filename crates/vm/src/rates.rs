//! Rates of many callers at once: a bucket each, bounded in number.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use session_core::parameters::{Bucket, Rate};
use session_core::time::Time;

/// Callers remembered in each of two generations. Who was not seen for that many others begins
/// with a full burst again, so memory stays bounded whatever addresses somebody commands.
const CALLERS: usize = 32_768;

struct Buckets<K> {
    recent: HashMap<K, Bucket>,
    older: HashMap<K, Bucket>,
}

/// One rate for each caller.
pub struct Rates<K> {
    rate: Rate,
    buckets: Mutex<Buckets<K>>,
}

impl<K: Hash + Eq + Copy> Rates<K> {
    /// Nobody has called yet.
    pub fn new(rate: Rate) -> Self {
        let (recent, older) = (HashMap::new(), HashMap::new());
        Self {
            rate,
            buckets: Mutex::new(Buckets { recent, older }),
        }
    }

    /// Counts one call.
    ///
    /// # Errors
    /// Milliseconds until the caller may call again.
    pub fn take(&self, caller: K, now: Time) -> Result<(), u64> {
        if self.rate == Rate::UNLIMITED {
            return Ok(());
        }
        // Each bucket is replaced whole, so a panic elsewhere leaves none half changed.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.recent.len() >= CALLERS && !buckets.recent.contains_key(&caller) {
            buckets.older = std::mem::take(&mut buckets.recent);
        }
        let older = buckets.older.remove(&caller).unwrap_or_default();
        buckets
            .recent
            .entry(caller)
            .or_insert(older)
            .take(now, 1, self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_counted_apart_and_memory_is_bounded() {
        let rates = Rates::new(Rate {
            per_second: 1,
            burst: 2,
        });
        let now = Time::from_ms(1_000_000);
        assert_eq!(rates.take(1u64, now), Ok(()));
        assert_eq!(rates.take(1, now), Ok(()));
        assert_eq!(rates.take(1, now), Err(1_000));
        assert_eq!(rates.take(2, now), Ok(()));
        assert_eq!(rates.take(1, now.after_ms(1_000)), Ok(()));
        for caller in 3..200_000 {
            assert_eq!(rates.take(caller, now), Ok(()));
        }
        let buckets = rates.buckets.lock().unwrap();
        assert!(buckets.recent.len() + buckets.older.len() <= 2 * CALLERS);
    }

    #[test]
    fn no_rate_counts_nobody() {
        let rates = Rates::new(Rate::UNLIMITED);
        for _ in 0..10_000 {
            assert_eq!(rates.take(1u64, Time::from_ms(0)), Ok(()));
        }
        assert!(rates.buckets.lock().unwrap().recent.is_empty());
    }
}
