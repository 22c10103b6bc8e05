//! When a device gives its leaf new keys: the times, as plain functions of time, size and chance.
//!
//! | who | when |
//! |---|---|
//! | every device | after 50 messages of its own, or an interval: 24 h up to 50 leaves, growing linearly to 7 days at 350 and more |
//! | who joined | at a random time within 24 h × min(1, n / 350), leaves with a small bit-reversed index first |
//! | creator's early joiners | up to 16 spread leaves in the first tenth of that time |
//! | nobody heard of it | after min(21, 0.7 × retention) days it may be removed: it does not heal, and soon it cannot follow |
//!
//! The orders matter: a hundred joiners that rotate one after another in leaf order cost 7.9 MB,
//! spread ones less than a third, and after eight spread ones a commit is a fifth of the first.

use crate::limits::ROTATE_AFTER_MESSAGES;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Leaves up to which a device rotates daily.
const SMALL: u64 = 50;
/// Leaves from which on it does so weekly.
const LARGE: u64 = 350;

/// Milliseconds between two rotations of a device, in a group of `leaves`.
pub fn interval_ms(leaves: usize) -> u64 {
    let above = (leaves as u64).clamp(SMALL, LARGE) - SMALL;
    DAY_MS + 6 * DAY_MS * above / (LARGE - SMALL)
}

/// Milliseconds within which somebody who joined rotates.
pub fn join_window_ms(leaves: usize) -> u64 {
    DAY_MS * (leaves as u64).min(LARGE) / LARGE
}

/// When a device at `leaf` rotates that joined now, in milliseconds from now. `chance` is random,
/// below 2^32.
///
/// Half of the window is the leaf's place in bit-reversed order, half is chance: so neighbours in
/// the tree are far apart, and nobody's time is known.
pub fn join_delay_ms(leaf: u32, leaves: usize, chance: u32) -> u64 {
    let window = join_window_ms(leaves);
    let bits = (leaves.max(2) - 1).ilog2() + 1;
    let reversed = u64::from(leaf.reverse_bits() >> (32 - bits.min(32)));
    // The sixteen that come first in this order are a tenth early: they warm the tree for the others.
    let spread = if reversed < 16 && leaves > 32 { 20 } else { 2 };
    let place = (window / 2).saturating_mul(reversed) >> bits;
    let chance = (u128::from(window / spread) * u128::from(chance)) >> 32;
    place.saturating_add(u64::try_from(chance).unwrap_or(u64::MAX))
}

/// Whether a device rotates now.
pub const fn is_due(now_ms: u64, rotate_at_ms: u64, sent_since: u32) -> bool {
    now_ms >= rotate_at_ms || sent_since >= ROTATE_AFTER_MESSAGES
}

/// Milliseconds of silence after which a device may be removed, where bodies are kept for so many
/// days.
pub const fn idle_ms(retention_days: u64) -> u64 {
    let share = retention_days.saturating_mul(DAY_MS) / 10 * 7;
    if share < 21 * DAY_MS {
        share
    } else {
        21 * DAY_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn intervals_grow_from_a_day_to_a_week() {
        let days = |leaves| interval_ms(leaves) / HOUR_MS;
        assert_eq!(
            [days(2), days(50), days(200), days(350), days(1_000)],
            [24, 24, 96, 168, 168]
        );
        assert_eq!(join_window_ms(350), DAY_MS);
        assert_eq!(join_window_ms(35), DAY_MS / 10);
        assert_eq!(idle_ms(30), 21 * DAY_MS);
        assert_eq!(idle_ms(10), 7 * DAY_MS);
    }

    #[test]
    fn the_first_to_rotate_are_spread_over_the_tree() {
        let mut order: Vec<u32> = (0..128).collect();
        order.sort_by_key(|leaf| join_delay_ms(*leaf, 128, 0));
        let mut first: Vec<u32> = order.into_iter().take(8).collect();
        first.sort_unstable();
        assert_eq!(first, [0, 16, 32, 48, 64, 80, 96, 112]);
    }

    proptest! {
        #[test]
        fn nobody_rotates_after_the_window(leaf in 0..2_048_u32, leaves in 2..2_048_usize, chance: u32) {
            let leaf = leaf % u32::try_from(leaves).unwrap();
            prop_assert!(join_delay_ms(leaf, leaves, chance) <= join_window_ms(leaves));
        }
    }
}
