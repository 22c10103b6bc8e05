//! Block time: whole milliseconds since the Unix epoch. Nothing below the products reads a clock.
//!
//! The published execution layer writes signed nanoseconds instead: [`UnixNanos`].

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// A second in milliseconds.
pub const SECOND_MS: u64 = 1_000;
/// A minute in milliseconds.
pub const MINUTE_MS: u64 = 60 * SECOND_MS;
/// An hour in milliseconds.
pub const HOUR_MS: u64 = 60 * MINUTE_MS;
/// A day in milliseconds.
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// A moment, in milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The moment `ms` milliseconds after the epoch.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the epoch.
    pub const fn ms(self) -> u64 {
        self.0
    }

    /// The moment `ms` later; the end of time when that does not fit.
    pub const fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this moment; zero when it lies later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Encode for Time {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.0);
    }
}

impl Decode for Time {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.u64("time").map(Self)
    }
}

/// A moment as the published execution layer writes it: nanoseconds since the Unix epoch, signed,
/// the years 1677 to 2262. Prints as Go prints it: RFC 3339 in UTC, fraction without trailing
/// zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixNanos(i64);

const SECOND_NS: i64 = 1_000_000_000;
const DAY_NS: i64 = 86_400 * SECOND_NS;

impl UnixNanos {
    /// The moment `ns` nanoseconds after the epoch.
    pub const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the epoch.
    pub const fn ns(self) -> i64 {
        self.0
    }
}

/// Writes date and time of day in UTC, `2026-11-21T04:05:06`.
fn write_date(f: &mut core::fmt::Formatter<'_>, days: i64, seconds: i64) -> core::fmt::Result {
    // Civil date of a day number, after Howard Hinnant's algorithm for years that begin in
    // March; the shift makes every day of a nanosecond's range positive.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    write!(
        f,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
    )
}

impl core::fmt::Display for Time {
    /// RFC 3339 in UTC with milliseconds. Times beyond the year 292 million print as that.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        let day_ms = DAY_NS / 1_000_000;
        write_date(f, ms / day_ms, ms % day_ms / 1_000)?;
        write!(f, ".{:03}Z", ms % 1_000)
    }
}

impl core::fmt::Display for UnixNanos {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (days, rest) = (self.0.div_euclid(DAY_NS), self.0.rem_euclid(DAY_NS));
        let (seconds, fraction) = (rest / SECOND_NS, rest % SECOND_NS);
        write_date(f, days, seconds)?;
        if fraction != 0 {
            let digits = format!("{fraction:09}");
            write!(f, ".{}", digits.trim_end_matches('0'))?;
        }
        f.write_str("Z")
    }
}

impl Encode for UnixNanos {
    fn encode(&self, out: &mut Writer) {
        out.i64(self.0);
    }
}

impl Decode for UnixNanos {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.i64("unix nanoseconds").map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::assert_one_form;

    #[test]
    fn times_print_as_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_312_363_609, "2026-11-22T01:52:43.609Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (1_735_689_599_001, "2024-12-31T23:59:59.001Z"),
        ] {
            assert_eq!(Time::from_ms(ms).to_string(), text);
        }
        assert!(Time::from_ms(u64::MAX).to_string().ends_with('Z'));
    }

    /// Every day of a thousand years, and what is added to a day: counted one by one.
    #[test]
    fn dates_are_those_of_the_calendar() {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        for days in 0..365_243 {
            let seconds = days * 7_919 % 86_400;
            let time = Time::from_ms((days * 86_400 + seconds) * 1_000);
            let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
            let text =
                format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.000Z");
            assert_eq!(time.to_string(), text);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let last = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            day += 1;
            if day > last {
                (day, month) = (1, month + 1);
            }
            if month > 12 {
                (month, year) = (1, year + 1);
            }
        }
        assert_eq!(year, 2970);
    }

    #[test]
    fn moments_do_not_run_over() {
        let (at, end) = (Time::from_ms(5), Time::from_ms(u64::MAX));
        assert_eq!(
            (at.ms(), at.after_ms(3), end.after_ms(1)),
            (5, Time::from_ms(8), end)
        );
        assert_eq!(
            (end.since(at), at.since(end), at.since(Time::from_ms(2))),
            (u64::MAX - 5, 0, 3)
        );
        assert_eq!(
            [SECOND_MS, MINUTE_MS, HOUR_MS, DAY_MS],
            [1_000, 60_000, 3_600_000, 86_400_000]
        );
        assert_one_form(&at);
        for ns in [i64::MIN, -1, 0, 258] {
            assert_eq!(UnixNanos::from_ns(ns).ns(), ns);
            assert_eq!(UnixNanos::from_ns(ns).to_bytes(), ns.to_be_bytes());
            assert_one_form(&UnixNanos::from_ns(ns));
        }
    }

    #[test]
    fn nanoseconds_print_as_go_prints_them() {
        for (ns, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (1_763_000_000_000_000_005, "2025-11-13T02:13:20.000000005Z"),
            (951_782_400_120_000_000, "2000-02-29T00:00:00.12Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ] {
            assert_eq!(UnixNanos::from_ns(ns).to_string(), text);
        }
    }
}
