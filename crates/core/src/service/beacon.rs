//! Epochs and their beacons: the shared randomness that committees are drawn from.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::Tag;
use crate::ids::{BeaconId, Digest};

/// Number of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(u64);

impl Epoch {
    /// The epoch with this number.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl Encode for Epoch {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.0);
    }
}

impl Decode for Epoch {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.u64("epoch").map(Self)
    }
}

/// An epoch's randomness, and the beacon before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beacon {
    /// Epoch whose committees it draws.
    pub epoch: Epoch,
    /// Randomness.
    pub randomness: Digest,
    /// Beacon of the epoch before.
    pub previous: BeaconId,
}

impl Beacon {
    /// `"LUX:EpochBeacon:v1" || u64 epoch || randomness || previous`, hashed.
    pub fn id(&self) -> BeaconId {
        BeaconId::from_bytes(Tag::PublishedEpochBeacon.hash_published(&[
            &self.epoch.number().to_be_bytes(),
            self.randomness.as_bytes(),
            self.previous.as_bytes(),
        ]))
    }
}
