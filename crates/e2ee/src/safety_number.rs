//! Digits that members compare to know that they are in the same group, all of them.

use session_core::hash::Tag;
use session_core::ids::GroupId;
use session_crypto::Secret;
use session_crypto::derive::keyed;

/// Sixty digits from an epoch's authenticator (RFC 9420 §8.7). Equal digits: the same members, the
/// same history, no one between. They change with every commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafetyNumber {
    epoch: u64,
    groups: [u32; 12],
}

impl SafetyNumber {
    pub(crate) fn new(group: GroupId, epoch: u64, authenticator: &[u8]) -> Self {
        let number = epoch.to_be_bytes();
        let mut key = [0; 32];
        for (to, from) in key.iter_mut().zip(authenticator) {
            *to = *from;
        }
        let hash: Secret<64> = keyed(
            &Secret::new(key),
            Tag::SafetyNumber,
            &[group.as_bytes(), &number, authenticator],
        );
        let mut groups = [0; 12];
        for (to, from) in groups.iter_mut().zip(hash.expose().chunks(5)) {
            let wide = from
                .iter()
                .fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
            // Five bytes are a thousand times a thousand thousand: no digit is preferred noticeably.
            *to = u32::try_from(wide % 100_000).unwrap_or_default();
        }
        Self { epoch, groups }
    }

    /// The epoch that these digits belong to.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }
}

impl core::fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, group) in self.groups.iter().enumerate() {
            let space = if index == 0 { "" } else { " " };
            write!(f, "{space}{group:05}")?;
        }
        Ok(())
    }
}
