//! What members post: frames, and chunks that frames speak of. Signed by the posting key of an
//! epoch, which every member has: the chain sees that it was a member, and not which.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer, at_least_one};
use session_core::group::Group;
use session_core::hash::{Tag, sha256};
use session_core::ids::{ActionId, ChainId, Digest, GroupId, MessageId};
use session_core::limits::{CHUNK_BYTES_MAX, FRAME_BYTES_MAX, POST_FRAMES_MAX};
use session_core::log::{Entry, LogId, PostEntry};
use session_core::record::Outcome;
use session_core::time::Time;

use super::group_of;
use crate::state::{Scope, TxError};
use crate::tx::message::{Auth, BatchAuth, Body};
use crate::tx::{TX_VERSION, Tx};
use crate::view::{Table, batch_key, entry_key, group_posting_key, message_place};

/// 1 to 32 frames of one epoch under one signature.
#[derive(Clone, PartialEq, Eq)]
pub struct GroupPost {
    /// Epoch in which they were sealed, and whose posting key signs.
    pub epoch: u64,
    /// Each at most 64 KiB, together within one transaction.
    pub frames: Vec<Vec<u8>>,
}

/// Stores a chunk of 1 byte to 64 KiB at the group's cost.
#[derive(Clone, PartialEq, Eq)]
pub struct PutGroupChunk {
    /// Epoch whose posting key signs.
    pub epoch: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl core::fmt::Debug for GroupPost {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (epoch, frames) = (self.epoch, self.frames.len());
        write!(f, "GroupPost(epoch {epoch}, {frames} frames)")
    }
}

impl core::fmt::Debug for PutGroupChunk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (epoch, bytes) = (self.epoch, self.bytes.len());
        write!(f, "PutGroupChunk(epoch {epoch}, {bytes} bytes)")
    }
}

/// What a post's signature covers: `H(group-post, chain | version | group | valid_until | salt |
/// epoch | list of frame ids)`, so that no frame is hashed twice.
pub fn post_action(
    chain: &ChainId,
    group: &GroupId,
    (valid_until, salt): (Time, u64),
    epoch: u64,
    frames: &[MessageId],
) -> ActionId {
    let mut body = Writer::with_capacity(61 + 32 * frames.len());
    body.u8(TX_VERSION)
        .value(group)
        .value(&valid_until)
        .u64(salt)
        .u64(epoch)
        .list(frames);
    ActionId::from_bytes(Tag::GroupPost.hash(&[chain.as_bytes(), &body.into_bytes()]))
}

impl GroupPost {
    /// Ids of its frames, with the SHA-256 of each.
    pub(in crate::tx) fn frame_ids(
        &self,
        chain: &ChainId,
        group: &GroupId,
    ) -> Vec<(MessageId, Digest)> {
        let id_of = |frame: &Vec<u8>| {
            let body = Digest::from_bytes(sha256(frame));
            let id = session_core::group::frame_id(chain, group, self.epoch, &body);
            (id, body)
        };
        self.frames.iter().map(id_of).collect()
    }

    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        let id = group_of(&tx.signer);
        let mut group = scope.open_group(&id)?;
        scope.require_member(&id, &group, self.epoch, tx)?;
        let log = LogId::Group(id);
        let before = group.deadline(scope.context.parameters.retention_ms);
        let (first, time) = (group.log.count(), scope.context.time);
        let ids = scope.ids;
        for ((sequence, frame), (frame_id, body_hash)) in
            (first..).zip(&self.frames).zip(&ids.messages)
        {
            // A retry of the post is recognised by its action.
            if let Some((_, sequence)) = message_place(&scope.over, frame_id)? {
                return Err(TxError::MessageKnown { sequence });
            }
            let entry = Entry::Post(PostEntry {
                sequence,
                time,
                height: scope.context.height,
                id: *frame_id,
                epoch: self.epoch,
                body_hash: *body_hash,
                signature_hash: ids.signature,
            });
            scope.append_to_group(&id, &mut group, &entry)?;
            let place = entry_key(&log, sequence);
            let body = Body {
                ciphertext: frame.clone(),
                auth: Auth::Batch(first),
            };
            scope.over.put(Table::Body, place.clone(), body.to_bytes());
            let key = frame_id.as_bytes().to_vec();
            scope.over.put(Table::Message, key, place);
        }
        let auth = BatchAuth {
            valid_until: tx.valid_until,
            salt: tx.salt,
            messages: ids.messages.iter().map(|(id, _)| *id).collect(),
            signature: tx.signature.clone(),
        };
        let key = batch_key(&log, first);
        scope.over.put(Table::Body, key, auth.to_bytes());
        group.last_post = time;
        scope.put_moved_group(&id, before, &group)?;
        Ok(Outcome::Sequence(first))
    }
}

impl PutGroupChunk {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        let id = group_of(&tx.signer);
        let group = scope.open_group(&id)?;
        scope.require_member(&id, &group, self.epoch, tx)?;
        scope.put_chunk(tx.signer, &self.bytes)
    }
}

impl Scope<'_, '_> {
    /// The transaction must be signed by the posting key of an epoch in which posts are taken.
    fn require_member(
        &self,
        id: &GroupId,
        group: &Group,
        epoch: u64,
        tx: &Tx,
    ) -> Result<(), TxError> {
        let key = group.posting_key(epoch, self.context.time)?;
        let cell = group_posting_key(id, epoch);
        self.require_group_key(&key, &cell, &tx.signature, &self.ids.signature)
    }
}

impl Encode for GroupPost {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.epoch).count(self.frames.len());
        for frame in &self.frames {
            out.bytes(frame);
        }
    }
}

impl Decode for GroupPost {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let epoch = input.u64("epoch")?;
        let what = "frames of a post";
        let n = input.count(what, POST_FRAMES_MAX, 4)?;
        at_least_one(what, n)?;
        let mut frames = Vec::with_capacity(n);
        for _ in 0..n {
            frames.push(input.bytes("frame", FRAME_BYTES_MAX)?.to_vec());
        }
        Ok(Self { epoch, frames })
    }
}

impl Encode for PutGroupChunk {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.epoch).bytes(&self.bytes);
    }
}

impl Decode for PutGroupChunk {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let epoch = input.u64("epoch")?;
        let what = "chunk";
        let bytes = input.bytes(what, CHUNK_BYTES_MAX)?.to_vec();
        at_least_one(what, bytes.len())?;
        Ok(Self { epoch, bytes })
    }
}
