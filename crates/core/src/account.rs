//! The account record: who may sign, what it may spend, and which conversations it is in.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::Tag;
use crate::ids::Digest;
use crate::merkle::Frontier;
use crate::parameters::Bucket;
use crate::time::Time;

/// Hashes of an account's current public keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountKeys {
    /// `H(public-key, ML-KEM-768 key)`.
    pub kem: Digest,
    /// `H(public-key, ML-DSA-65 key)`.
    pub signing: Digest,
    /// 0 for the original keys, one more with each rotation.
    pub index: u32,
    /// Height of the block that set them; they count from the next one.
    pub since_height: u64,
    /// Every rotation until these, with its height and time: see [`AccountKeys::rotated`]. Zero for
    /// the original keys. So the record vouches for when each earlier key counted.
    pub history: Digest,
}

impl AccountKeys {
    /// The keys that an account registers with, in the block at `height`.
    pub const fn first(kem: Digest, signing: Digest, height: u64) -> Self {
        Self {
            kem,
            signing,
            index: 0,
            since_height: height,
            history: Digest::from_bytes([0; 32]),
        }
    }

    /// The keys that a rotation in the block at `height` and `time` puts in the place of these: their
    /// history is `H(key-rotation, history before 32 || u64 height || u64 time, ms || kem 32 ||
    /// signing 32)`. None: 2^32 rotations are the limit.
    pub fn rotated(&self, kem: Digest, signing: Digest, height: u64, time: Time) -> Option<Self> {
        let history = Tag::KeyRotation.hash(&[
            self.history.as_bytes(),
            &height.to_be_bytes(),
            &time.ms().to_be_bytes(),
            kem.as_bytes(),
            signing.as_bytes(),
        ]);
        Some(Self {
            kem,
            signing,
            index: self.index.checked_add(1)?,
            since_height: height,
            history: Digest::from_bytes(history),
        })
    }
}

/// Where an account was ended for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revocation {
    /// Height of the block. It counts from the next one: whoever reads an older log judges by where
    /// the entry is, and not by when it is read.
    pub height: u64,
    /// The block's time.
    pub time: Time,
}

/// State of an account. It may exist before it is registered: as somebody's peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Account {
    /// Current keys; none before registration.
    pub keys: Option<AccountKeys>,
    /// `H(public-key, ML-DSA-65 recovery key)`: overrides any rotation.
    pub recovery: Option<Digest>,
    /// Block time of registration.
    pub registered: Time,
    /// The account was revoked for good.
    pub revoked: Option<Revocation>,
    /// Weight used lately.
    pub quota: Bucket,
    /// Requests received lately.
    pub request_quota: Bucket,
    /// Tokens for fees.
    pub balance: u64,
    /// Open channels that it created.
    pub channels: u32,
    /// Log of sessions and channels it created or accepted.
    pub memberships: Frontier,
    /// Log of what others opened with it.
    pub requests: Frontier,
}

impl Encode for AccountKeys {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.kem)
            .value(&self.signing)
            .u32(self.index)
            .u64(self.since_height)
            .value(&self.history);
    }
}

impl Decode for AccountKeys {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            kem: Digest::decode(input)?,
            signing: Digest::decode(input)?,
            index: input.u32("key index")?,
            since_height: input.u64("key height")?,
            history: Digest::decode(input)?,
        })
    }
}

impl Encode for Revocation {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.height).value(&self.time);
    }
}

impl Decode for Revocation {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            height: input.u64("revocation height")?,
            time: Time::decode(input)?,
        })
    }
}

impl Encode for Account {
    fn encode(&self, out: &mut Writer) {
        out.option(self.keys.as_ref())
            .option(self.recovery.as_ref())
            .value(&self.registered)
            .option(self.revoked.as_ref())
            .value(&self.quota)
            .value(&self.request_quota)
            .u64(self.balance)
            .u32(self.channels)
            .value(&self.memberships)
            .value(&self.requests);
    }
}

impl Decode for Account {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            keys: input.option("account keys")?,
            recovery: input.option("recovery key")?,
            registered: Time::decode(input)?,
            revoked: input.option("revoked")?,
            quota: Bucket::decode(input)?,
            request_quota: Bucket::decode(input)?,
            balance: input.u64("balance")?,
            channels: input.u32("open channels")?,
            memberships: Frontier::decode(input)?,
            requests: Frontier::decode(input)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::assert_one_form;
    use proptest::prelude::*;

    fn digest(byte: u8) -> Digest {
        Digest::from_bytes([byte; 32])
    }

    /// Everything that an account has, and each half of it.
    #[test]
    fn a_record_has_one_form() {
        let first = AccountKeys::first(digest(1), digest(2), 7);
        let full = Account {
            keys: first.rotated(digest(3), digest(4), 9, Time::from_ms(11)),
            recovery: Some(digest(5)),
            registered: Time::from_ms(13),
            revoked: Some(Revocation {
                height: 15,
                time: Time::from_ms(17),
            }),
            balance: 19,
            channels: 21,
            ..Account::default()
        };
        for account in [
            full.clone(),
            Account {
                revoked: None,
                ..full
            },
            Account::default(),
        ] {
            assert_one_form(&account);
        }
    }

    proptest! {
        /// The history is what its rule says: all of it, in this order.
        #[test]
        fn a_rotation_remembers_what_was(
            kem: [u8; 32], signing: [u8; 32], height: u64, ms: u64, index: u32,
        ) {
            let before = AccountKeys { index, history: digest(8), ..AccountKeys::first(digest(1), digest(2), 3) };
            let (kem, signing) = (Digest::from_bytes(kem), Digest::from_bytes(signing));
            let after = before.rotated(kem, signing, height, Time::from_ms(ms));
            let mut text = vec![8; 32];
            text.extend(height.to_be_bytes());
            text.extend(ms.to_be_bytes());
            text.extend(kem.as_bytes());
            text.extend(signing.as_bytes());
            let expected = index.checked_add(1).map(|index| AccountKeys {
                kem, signing, index, since_height: height,
                history: Digest::from_bytes(Tag::KeyRotation.hash(&[&text])),
            });
            prop_assert_eq!(after, expected);
        }
    }

    #[test]
    fn rotations_end() {
        let last = AccountKeys {
            index: u32::MAX,
            ..AccountKeys::first(digest(1), digest(2), 3)
        };
        assert_eq!(
            last.rotated(digest(1), digest(2), 4, Time::from_ms(0)),
            None
        );
    }
}
