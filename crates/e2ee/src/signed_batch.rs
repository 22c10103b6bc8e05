//! A sender's signature over a row of its frames.
//!
//! A frame proves that a member sealed it: every member of an epoch has every chain. Who it was is
//! proved by the sender's MLS leaf key, once for up to 32 frames, in a frame of its own:
//!
//! ```text
//! batch  = u64 epoch │ u32 n │ n × (u32 generation │ H(frame) 32) │ signature
//! leaf i = H(frame-batch-leaf, u64 epoch │ u32 leaf │ u32 generation │ H(frame))
//! signed = H(frame-batch, group id │ u64 epoch │ u32 leaf │ u64 n │ Merkle root of the leaves)
//! ```
//!
//! The hashes are in the batch, so a receiver that saw two frames of one place learns which is the
//! sender's, and one that saw none learns what is missing.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::{Digest, GroupId};
use session_core::merkle;

use crate::limits::SIGNED_BATCH_MAX;

/// An ML-DSA-65 signature; an Ed25519 one of the suite for tests is shorter.
const SIGNATURE_MAX: usize = 3_309;

/// One frame of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignedFrame {
    /// Place of the frame in its sender's chain.
    pub generation: u32,
    /// Hash of the whole frame.
    pub hash: Digest,
}

/// A row of frames under one signature, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBatch {
    epoch: u64,
    frames: Vec<SignedFrame>,
    signature: Vec<u8>,
}

impl SignedBatch {
    /// Puts a batch together; `frames` are 1 to 32, ascending by generation.
    pub(crate) const fn new(epoch: u64, frames: Vec<SignedFrame>, signature: Vec<u8>) -> Self {
        Self {
            epoch,
            frames,
            signature,
        }
    }

    /// The epoch of the frames. The batch itself may come in a later one.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The frames, ascending by generation.
    pub fn frames(&self) -> &[SignedFrame] {
        &self.frames
    }

    /// The alleged signature.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// What the sender signs.
pub(crate) fn signed_bytes(
    group: GroupId,
    epoch: u64,
    leaf: u32,
    frames: &[SignedFrame],
) -> [u8; 32] {
    let (epoch, leaf) = (epoch.to_be_bytes(), leaf.to_be_bytes());
    let leaves = frames.iter().map(|frame| {
        let generation = frame.generation.to_be_bytes();
        Tag::FrameBatchLeaf.hash(&[&epoch, &leaf, &generation, frame.hash.as_bytes()])
    });
    let root = merkle::root_of(leaves);
    let count = (frames.len() as u64).to_be_bytes();
    Tag::FrameBatch.hash(&[group.as_bytes(), &epoch, &leaf, &count, &root])
}

impl Encode for SignedFrame {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.generation).value(&self.hash);
    }
}

impl Decode for SignedFrame {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            generation: input.u32("generation")?,
            hash: Decode::decode(input)?,
        })
    }
}

impl Encode for SignedBatch {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.epoch)
            .list(&self.frames)
            .bytes(&self.signature);
    }
}

impl Decode for SignedBatch {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let epoch = input.u64("epoch of batch")?;
        let frames: Vec<SignedFrame> = input.list("signed frames", SIGNED_BATCH_MAX, 36)?;
        let ascending = frames.is_sorted_by(|a, b| a.generation < b.generation);
        if frames.is_empty() || !ascending {
            return Err(DecodeError::NotAscending {
                what: "signed frames",
            });
        }
        Ok(Self {
            epoch,
            frames,
            signature: input.bytes("batch signature", SIGNATURE_MAX)?.to_vec(),
        })
    }
}
