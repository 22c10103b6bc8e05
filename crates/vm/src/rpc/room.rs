//! Memory that calls take together: large requests while they are read and answered, large
//! replies until the caller has taken them.
//!
//! A thousand connections, each within its own bounds, could otherwise hold a thousand times two
//! megabytes of request or four of reply. What is small needs no room: a thousand of those are
//! tens of megabytes.

use std::sync::Arc;

use axum::body::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of all large requests and replies at once.
const TOTAL: usize = 96 << 20;

/// What takes no room.
pub(super) const SMALL: usize = 32 << 10;

/// A permit stands for so many bytes.
const UNIT: usize = 1 << 10;

/// The room, shared by all connections.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// A part of it, free again when dropped.
pub(super) struct Held {
    _permit: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(TOTAL / UNIT)))
    }

    /// How many permits `bytes` take: none where they are few, never more than there are.
    fn permits(bytes: usize) -> Option<u32> {
        let units = bytes.div_ceil(UNIT).min(TOTAL / UNIT);
        (bytes > SMALL).then(|| u32::try_from(units).unwrap_or(u32::MAX))
    }

    /// Waits for room, first come first served.
    pub(super) async fn take(&self, bytes: usize) -> Held {
        let permit = match Self::permits(bytes) {
            // It is never closed.
            Some(units) => self.0.clone().acquire_many_owned(units).await.ok(),
            None => None,
        };
        Held { _permit: permit }
    }

    /// Room for what is there already, or none: it must not be kept while waiting.
    pub(super) fn try_take(&self, bytes: usize) -> Option<Held> {
        let permit = match Self::permits(bytes) {
            Some(units) => Some(self.0.clone().try_acquire_many_owned(units).ok()?),
            None => None,
        };
        Some(Held { _permit: permit })
    }
}

/// Bytes that take room for as long as anybody has them.
struct Roomy {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Roomy {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Held {
    /// Ties the room to the bytes that need it.
    pub(super) fn with(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Roomy { bytes, _held: self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn room_is_bounded_and_comes_back_with_the_last_byte() {
        let room = Room::new();
        let small: Vec<_> = (0..10_000).map(|_| room.try_take(SMALL)).collect();
        assert!(small.iter().all(Option::is_some));
        let large = room.take(TOTAL - (1 << 20)).await;
        let kept = large.with(Bytes::from_static(b"body"));
        let part = kept.slice(1..2);
        assert!(room.try_take(2 << 20).is_none());
        assert!(room.try_take(1 << 20).is_some());
        drop(kept);
        assert!(room.try_take(2 << 20).is_none());
        drop(part);
        // More than there is at all gets all of it.
        assert!(room.try_take(usize::MAX).is_some());
    }
}
