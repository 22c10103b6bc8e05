//! When a device gives its leaf new keys: the times, as plain functions of time, size and chance.
//!
//! | who | when |
//! |---|---|
//! | every device | after 50 messages of its own or 24 h up to 50 leaves, growing linearly to 350 messages or 7 days at 350 and more |
//! | who joined | at a random time within 24 h × min(1, n / 350), leaves with a small bit-reversed index first |
//! | creator's early joiners | up to 16 spread leaves in the first tenth of that time |
//! | nobody heard of it | after min(21, 0.7 × retention) days it may be removed: it does not heal, and soon it cannot follow |
//!
//! The orders matter: a hundred joiners that rotate one after another in leaf order cost 7.9 MB,
//! spread ones less than a third, and after eight spread ones a commit is a fifth of the first.
//!
//! Every rotation is followed by everybody, so what a group pays grows with the square of its size: of a
//! thousand devices that say fifty things a day each would follow a thousand rotations. So both grow with
//! the leaves, seven times, and a device that says fifty things a day in a large group rotates weekly.
//!
//! A device has a [`RotationPolicy`] of its own, which makes both shorter or longer, within bounds: nobody
//! can switch healing off.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};

use crate::limits::ROTATE_AFTER_MESSAGES;

const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
const DAY_MS: u64 = 24 * HOUR_MS;

/// Leaves up to which a device rotates daily.
const SMALL: u64 = 50;
/// Leaves from which on it does so weekly.
const LARGE: u64 = 350;

/// What a policy may say of messages in a group of up to 50 leaves: below, most commits would be
/// rotations; above, a thief reads along for too long.
const MESSAGES: core::ops::RangeInclusive<u32> = 10..=200;
/// What it may say of the interval, in percent: with 200 a large group's device rotates every 14 days,
/// before it may be removed for silence.
const INTERVAL_PERCENT: core::ops::RangeInclusive<u32> = 10..=200;

/// A quantity that is `small` up to 50 leaves, and grows linearly to seven times that at 350 and more.
fn scaled(small: u64, leaves: usize) -> u64 {
    let above = (leaves as u64).clamp(SMALL, LARGE) - SMALL;
    small + 6 * small * above / (LARGE - SMALL)
}

/// Milliseconds between two rotations of a device, in a group of `leaves`.
pub fn interval_ms(leaves: usize) -> u64 {
    scaled(DAY_MS, leaves)
}

/// Messages of its own after which a device rotates, in a group of `leaves`.
pub fn messages_max(leaves: usize) -> u32 {
    RotationPolicy::default().messages_max(leaves)
}

/// How often a device rotates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RotationPolicy {
    messages: u32,
    interval_percent: u32,
}

/// A policy that would switch healing off, or that nobody could follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RotationPolicyError {
    /// Not 10 to 200.
    #[error("new keys after {0} messages: 10 to 200 can be chosen")]
    Messages(u32),
    /// Not 10 to 200.
    #[error("new keys after {0} % of the usual time: 10 to 200 can be chosen")]
    IntervalPercent(u32),
}

impl Default for RotationPolicy {
    fn default() -> Self {
        Self {
            messages: ROTATE_AFTER_MESSAGES,
            interval_percent: 100,
        }
    }
}

impl RotationPolicy {
    /// Rotates after 10 to 200 messages in a group of up to 50 leaves, and after 10 to 200 percent of
    /// [`interval_ms`]. Both grow with the group.
    ///
    /// # Errors
    /// [`RotationPolicyError`] outside of that.
    pub fn new(messages: u32, interval_percent: u32) -> Result<Self, RotationPolicyError> {
        if !MESSAGES.contains(&messages) {
            return Err(RotationPolicyError::Messages(messages));
        }
        if !INTERVAL_PERCENT.contains(&interval_percent) {
            return Err(RotationPolicyError::IntervalPercent(interval_percent));
        }
        Ok(Self {
            messages,
            interval_percent,
        })
    }

    /// Messages of its own after which the device rotates, in a group of `leaves`.
    pub fn messages_max(self, leaves: usize) -> u32 {
        u32::try_from(scaled(self.messages.into(), leaves)).unwrap_or(u32::MAX)
    }

    /// Milliseconds between two rotations of the device, in a group of `leaves`.
    pub fn interval_ms(self, leaves: usize) -> u64 {
        interval_ms(leaves) / 100 * u64::from(self.interval_percent)
    }

    /// Percent of the usual interval.
    pub const fn interval_percent(self) -> u32 {
        self.interval_percent
    }
}

impl Encode for RotationPolicy {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.messages).u32(self.interval_percent);
    }
}

impl Decode for RotationPolicy {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let messages = input.u32("messages between rotations")?;
        let percent = input.u32("interval between rotations")?;
        Self::new(messages, percent).map_err(|error| match error {
            RotationPolicyError::Messages(value) => DecodeError::UnknownValue {
                what: "messages between rotations",
                value: value.into(),
            },
            RotationPolicyError::IntervalPercent(value) => DecodeError::UnknownValue {
                what: "interval between rotations",
                value: value.into(),
            },
        })
    }
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
    fn messages_between_rotations_grow_from_fifty_to_seven_times_as_many() {
        assert_eq!(
            [2, 50, 200, 350, 1_000].map(messages_max),
            [50, 50, 200, 350, 350]
        );
    }

    #[test]
    fn a_policy_makes_both_shorter_or_longer_and_none_switches_healing_off() {
        let often = RotationPolicy::new(10, 10).unwrap();
        assert_eq!((often.messages_max(2), often.messages_max(350)), (10, 70));
        assert_eq!(often.interval_ms(2), DAY_MS / 10);
        let seldom = RotationPolicy::new(200, 200).unwrap();
        assert_eq!(seldom.messages_max(1_000), 1_400);
        // Before it may be removed for silence.
        assert_eq!(seldom.interval_ms(1_000), 14 * DAY_MS);
        assert!(seldom.interval_ms(1_000) < idle_ms(30));
        for (messages, percent, error) in [
            (9, 100, RotationPolicyError::Messages(9)),
            (0, 100, RotationPolicyError::Messages(0)),
            (201, 100, RotationPolicyError::Messages(201)),
            (u32::MAX, 100, RotationPolicyError::Messages(u32::MAX)),
            (50, 9, RotationPolicyError::IntervalPercent(9)),
            (50, 201, RotationPolicyError::IntervalPercent(201)),
        ] {
            assert_eq!(RotationPolicy::new(messages, percent), Err(error));
            let written = RotationPolicy {
                messages,
                interval_percent: percent,
            };
            assert!(RotationPolicy::from_bytes(&written.to_bytes()).is_err());
        }
        assert_eq!(RotationPolicy::from_bytes(&often.to_bytes()), Ok(often));
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
