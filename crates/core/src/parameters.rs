//! Parameters of a chain, from its genesis and nothing else, and the token buckets that enforce
//! its rates (`spec/vm.md` §2, §3).

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::Digest;
use crate::time::{DAY_MS, SECOND_MS, Time};

/// Whether transactions of accounts without a known key are admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Unsigned transactions are admitted and marked in every read: a local or development chain.
    Open,
    /// Every transaction carries a verified signature.
    Signed,
}

/// A sustained rate and the burst above it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units a second, sustained.
    pub per_second: u64,
    /// Units at once.
    pub burst: u64,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        per_second: u64::MAX,
        burst: u64::MAX,
    };
}

/// Everything that can change what a block means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    /// Life of a session and of each renewal, in milliseconds.
    pub session_ttl_ms: u64,
    /// Leaves ever appended to one session; then `session full`.
    pub max_messages: u64,
    /// Open channels of one creator.
    pub max_channels: u32,
    /// How long bodies and ended conversations are kept, in milliseconds.
    pub retention_ms: u64,
    /// Who may write.
    pub admission: Admission,
    /// Whether signatures of legacy `05` accounts (Ed25519) are accepted.
    pub allow_legacy: bool,
    /// Price of one byte of weight, burned.
    pub price: u64,
    /// Registrations of identities, chain-wide.
    pub registrations: Rate,
    /// Unsigned transactions, chain-wide.
    pub unsigned: Rate,
    /// Bytes of weight of one account.
    pub account_weight: Rate,
    /// Bytes of weight a day, chain-wide; half is reserved for accounts older than a day.
    pub weight_per_day: u64,
    /// Hash of the operator's root public key, which certifies head keys.
    pub root_key: Option<Digest>,
}

impl Default for Parameters {
    /// The published configuration with generous quotas and price 0.
    fn default() -> Self {
        Self {
            session_ttl_ms: 86_400 * SECOND_MS,
            max_messages: 10_000,
            max_channels: 1_000,
            retention_ms: 30 * DAY_MS,
            admission: Admission::Signed,
            allow_legacy: false,
            price: 0,
            registrations: Rate {
                per_second: 10,
                burst: 10_000,
            },
            unsigned: Rate {
                per_second: 10,
                burst: 1_000,
            },
            account_weight: Rate {
                per_second: 1 << 20,
                burst: 1 << 30,
            },
            weight_per_day: u64::MAX,
            root_key: None,
        }
    }
}

impl Encode for Rate {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.per_second).u64(self.burst);
    }
}

impl Decode for Rate {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            per_second: input.u64("rate")?,
            burst: input.u64("burst")?,
        })
    }
}

impl Encode for Parameters {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.session_ttl_ms)
            .u64(self.max_messages)
            .u32(self.max_channels)
            .u64(self.retention_ms)
            .u8(match self.admission {
                Admission::Open => 0,
                Admission::Signed => 1,
            })
            .bool(self.allow_legacy)
            .u64(self.price)
            .value(&self.registrations)
            .value(&self.unsigned)
            .value(&self.account_weight)
            .u64(self.weight_per_day)
            .option(self.root_key.as_ref());
    }
}

impl Decode for Parameters {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session_ttl_ms: input.u64("session ttl")?,
            max_messages: input.u64("max messages")?,
            max_channels: input.u32("max channels")?,
            retention_ms: input.u64("retention")?,
            admission: match input.u8("admission")? {
                0 => Admission::Open,
                1 => Admission::Signed,
                value => {
                    let what = "admission";
                    return Err(DecodeError::UnknownValue {
                        what,
                        value: value.into(),
                    });
                }
            },
            allow_legacy: input.bool("allow legacy")?,
            price: input.u64("price")?,
            registrations: Rate::decode(input)?,
            unsigned: Rate::decode(input)?,
            account_weight: Rate::decode(input)?,
            weight_per_day: input.u64("weight per day")?,
            root_key: input.option("root key")?,
        })
    }
}

/// What a rate has left: a leaky bucket, in thousandths of a unit so that integers stay exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bucket {
    /// Thousandths of a unit in use.
    used_milli: u64,
    /// When that was.
    at: Time,
}

impl Bucket {
    /// Takes `amount` units at `now`.
    ///
    /// # Errors
    /// Milliseconds until the amount would fit; the bucket is unchanged. `u64::MAX` when it can
    /// never fit.
    pub fn take(&mut self, now: Time, amount: u64, rate: Rate) -> Result<(), u64> {
        if rate == Rate::UNLIMITED {
            return Ok(());
        }
        let drained = now.since(self.at).saturating_mul(rate.per_second);
        let used = self.used_milli.saturating_sub(drained);
        let wanted = used.saturating_add(amount.saturating_mul(1_000));
        let over = wanted.saturating_sub(rate.burst.saturating_mul(1_000));
        if over > 0 {
            let never = rate.per_second == 0 || amount > rate.burst;
            return Err(if never {
                u64::MAX
            } else {
                over.div_ceil(rate.per_second)
            });
        }
        *self = Self {
            used_milli: wanted,
            at: now.max(self.at),
        };
        Ok(())
    }
}

impl Encode for Bucket {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.used_milli).value(&self.at);
    }
}

impl Decode for Bucket {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            used_milli: input.u64("bucket")?,
            at: Time::decode(input)?,
        })
    }
}

/// Chain-wide buckets: identities are free, so quotas of an identity alone bound nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quotas {
    /// Registrations.
    pub registrations: Bucket,
    /// Unsigned transactions.
    pub unsigned: Bucket,
    /// Day that the two sums below belong to, in days since the epoch.
    pub day: u64,
    /// Weight of that day.
    pub weight: u64,
    /// Part of it used by accounts younger than a day.
    pub weight_young: u64,
}

impl Encode for Quotas {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.registrations)
            .value(&self.unsigned)
            .u64(self.day)
            .u64(self.weight)
            .u64(self.weight_young);
    }
}

impl Decode for Quotas {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            registrations: Bucket::decode(input)?,
            unsigned: Bucket::decode(input)?,
            day: input.u64("day")?,
            weight: input.u64("weight")?,
            weight_young: input.u64("young weight")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_drains_with_time_and_tells_how_long_to_wait() {
        let rate = Rate {
            per_second: 10,
            burst: 20,
        };
        let mut bucket = Bucket::default();
        let now = Time::from_ms(1_000);
        assert_eq!(bucket.take(now, 20, rate), Ok(()));
        assert_eq!(bucket.take(now, 1, rate), Err(100));
        assert_eq!(bucket.take(now.after_ms(99), 1, rate), Err(1));
        assert_eq!(bucket.take(now.after_ms(100), 1, rate), Ok(()));
        assert_eq!(bucket.take(now, 21, rate), Err(u64::MAX));
        // All of it at once fits again when everything has drained.
        assert_eq!(bucket.take(now.after_ms(100), 20, rate), Err(2_000));
        // A clock that steps back refills nothing and loses nothing.
        assert!(bucket.take(Time::from_ms(0), 1, rate).is_err());
        assert_eq!(bucket.take(now.after_ms(200), 1, rate), Ok(()));
    }

    #[test]
    fn buckets_and_quotas_have_one_form() {
        let bucket = |used_milli, at| Bucket {
            used_milli,
            at: Time::from_ms(at),
        };
        let quotas = Quotas {
            registrations: bucket(1, 2),
            unsigned: bucket(3, 4),
            day: 5,
            weight: 6,
            weight_young: 7,
        };
        let canonical: Vec<u8> = (1..=7u64).flat_map(u64::to_be_bytes).collect();
        assert_eq!(quotas.to_bytes(), canonical);
        assert_eq!(Quotas::from_bytes(&canonical), Ok(quotas));
        assert!(Quotas::from_bytes(&canonical[1..]).is_err());
    }

    #[test]
    fn parameters_read_back() {
        let parameters = Parameters {
            root_key: Some(Digest::from_bytes([1; 32])),
            ..Parameters::default()
        };
        assert_eq!(
            Parameters::from_bytes(&parameters.to_bytes()),
            Ok(parameters)
        );
    }
}
