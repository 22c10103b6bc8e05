//! The wall clock, and when not to believe it.
//!
//! One bad clock would expire everything for good (`spec/vm.md` §5), so a node stops building
//! when the wall clock and the monotonic clock part by a minute.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use session_core::time::{MINUTE_MS, Time};

/// How far the two clocks may part.
pub const DRIFT_MAX_MS: u64 = MINUTE_MS;

/// Two clocks of one machine.
pub trait Clock: Send + Sync {
    /// Wall clock.
    fn wall(&self) -> Time;

    /// Milliseconds since some fixed moment, never stepping.
    fn monotonic_ms(&self) -> u64;
}

/// The clocks of the operating system.
pub struct SystemClock {
    started: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

impl Clock for SystemClock {
    fn wall(&self) -> Time {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Time::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Watches the two clocks part.
#[derive(Debug, Clone, Copy)]
pub struct Drift {
    wall: Time,
    monotonic_ms: u64,
}

impl Drift {
    /// Begins to watch.
    pub fn begin(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.wall(),
            monotonic_ms: clock.monotonic_ms(),
        }
    }

    /// Wall time now.
    ///
    /// # Errors
    /// How far the clocks have parted, in milliseconds, when that is too far.
    pub fn now(&self, clock: &dyn Clock) -> Result<Time, u64> {
        let wall = clock.wall();
        let expected = self
            .wall
            .after_ms(clock.monotonic_ms().saturating_sub(self.monotonic_ms));
        let parted = wall.since(expected).max(expected.since(wall));
        if parted > DRIFT_MAX_MS {
            Err(parted)
        } else {
            Ok(wall)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u64, u64);
    impl Clock for Fixed {
        fn wall(&self) -> Time {
            Time::from_ms(self.0)
        }
        fn monotonic_ms(&self) -> u64 {
            self.1
        }
    }

    #[test]
    fn a_jump_either_way_is_noticed_and_so_is_its_end() {
        let drift = Drift::begin(&Fixed(1_000_000, 0));
        assert_eq!(
            drift.now(&Fixed(1_005_000, 5_000)),
            Ok(Time::from_ms(1_005_000))
        );
        assert_eq!(drift.now(&Fixed(1_100_000, 5_000)), Err(95_000));
        assert_eq!(drift.now(&Fixed(900_000, 5_000)), Err(105_000));
        assert_eq!(
            drift.now(&Fixed(1_006_000, 6_000)),
            Ok(Time::from_ms(1_006_000))
        );
    }
}
