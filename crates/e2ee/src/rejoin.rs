//! What a device asks by that cannot follow its group any more: bodies of commits are gone that it
//! did not see.
//!
//! ```text
//! request   = group 32 │ key package │ u64 expires, ms │ u64 asked, ms │ signature
//! signature = by the leaf's key, over H(rejoin, group │ u64 expires │ u64 asked │ key package)
//! ```
//!
//! The account's keys do not make one: it is signed by the key that the group's tree has for the device,
//! and published key packages of the device are none, since they are not signed for this.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::GroupId;

use crate::limits::{KEY_PACKAGE_MAX, LEAF_SIGNATURE_MAX};

/// A device's wish to be let back into its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejoinRequest {
    /// The group.
    pub group: GroupId,
    /// A fresh key package of the device, an MLS message.
    pub key_package: Vec<u8>,
    /// When it expires, in milliseconds.
    pub expires_ms: u64,
    /// When the device asked, in milliseconds of its clock.
    pub asked_ms: u64,
    /// By the key of the device's leaf.
    pub signature: Vec<u8>,
}

/// Why a device is not let back in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejoinRefusal {
    /// The group has no such device.
    #[error("the device that asks is not in the group")]
    NotAMember,
    /// The key package has another signature key than the device's leaf.
    #[error("the key of the request is not the device's key in the group")]
    OtherKey,
    /// The request is not signed by that key.
    #[error("the request is not signed by the device")]
    Forged,
    /// It is this device.
    #[error("the device that asks is this one")]
    Oneself,
    /// Asked more than two days ago, or in the future.
    #[error("the request is not of these days")]
    NotOfToday,
    /// The device came back after it asked: the same request once more, or one that another member
    /// has answered.
    #[error("the device has come back since it asked")]
    Done,
    /// It came back within a day.
    #[error("the device came back less than a day ago")]
    TooSoon,
}

impl RejoinRequest {
    /// What the device signs.
    pub(crate) fn signed(&self) -> [u8; 32] {
        Tag::Rejoin.hash(&[
            self.group.as_bytes(),
            &self.expires_ms.to_be_bytes(),
            &self.asked_ms.to_be_bytes(),
            &self.key_package,
        ])
    }
}

impl Encode for RejoinRequest {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.group)
            .bytes(&self.key_package)
            .u64(self.expires_ms)
            .u64(self.asked_ms)
            .bytes(&self.signature);
    }
}

impl Decode for RejoinRequest {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: Decode::decode(input)?,
            key_package: input.bytes("key package", KEY_PACKAGE_MAX)?.to_vec(),
            expires_ms: input.u64("expires at")?,
            asked_ms: input.u64("asked at")?,
            signature: input
                .bytes("request signature", LEAF_SIGNATURE_MAX)?
                .to_vec(),
        })
    }
}
