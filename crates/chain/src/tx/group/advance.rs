//! The end of an epoch: a compare-and-swap on its number, so that commits are totally ordered and
//! a group cannot fork by accident.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer, at_least_one};
use session_core::group::{Mode, NextEpoch, commit_hash};
use session_core::ids::{ChunkId, Digest};
use session_core::limits::{ADVANCE_INTERVAL_MS, COMMIT_BYTES_MAX, COMMIT_CHUNKS_MAX};
use session_core::log::{AdvanceEntry, Entry, LogId};
use session_core::record::{Chunk, Outcome, RecordKey};

use super::{Cosignature, group_of};
use crate::state::{Scope, TxError};
use crate::tx::chunk::PutChunk;
use crate::tx::{SigningKey, Tx};
use crate::view::{Table, entry_key, group_control_key, group_posting_key};

/// The MLS commit that ends an epoch.
#[derive(Clone, PartialEq, Eq)]
pub enum Commit {
    /// 1 byte to 64 KiB of it.
    Bytes(Vec<u8>),
    /// The 1 to 32 chunks into which it was cut. They are kept from now on as if they were put.
    Chunks(Vec<ChunkId>),
}

/// Ends an epoch. Signed by its control key; in a group with the mode admin-only by an admin as
/// well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdvanceGroup {
    /// The epoch that ends. It must be the current one.
    pub epoch: u64,
    /// What ends it.
    pub commit: Commit,
    /// Posting key of the next epoch.
    pub posting: SigningKey,
    /// Control key of the next epoch.
    pub control: SigningKey,
    /// Whether it removes somebody: then posts of all epochs before the next one are refused.
    pub removal: bool,
    /// Hash of the admin key that signs as well, and its signature.
    pub admin: Option<(Digest, Cosignature)>,
}

impl core::fmt::Debug for Commit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Commit({} bytes)", bytes.len()),
            Self::Chunks(chunks) => write!(f, "Commit({} chunks)", chunks.len()),
        }
    }
}

impl Commit {
    /// Ids of its pieces: of the one that it is itself, or of its chunks.
    fn pieces(&self) -> Vec<ChunkId> {
        match self {
            Self::Bytes(bytes) => vec![PutChunk::id(bytes)],
            Self::Chunks(chunks) => chunks.clone(),
        }
    }

    /// One hash, however it travels.
    pub fn hash(&self) -> Digest {
        commit_hash(&self.pieces())
    }
}

impl AdvanceGroup {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        let id = group_of(&tx.signer);
        let mut group = scope.open_group(&id)?;
        let current = group.epoch;
        if self.epoch != current {
            return Err(TxError::WrongEpoch { current });
        }
        let cell = group_control_key(&id);
        let signature_id = &scope.ids.signature;
        scope.require_group_key(&group.control, &cell, &tx.signature, signature_id)?;
        match &self.admin {
            Some((admin, signature)) => {
                let signature_id = scope.ids.cosignatures.first();
                let signature_id = signature_id.ok_or(TxError::AdminSignatureRequired)?;
                let signature = (signature.0.as_slice(), signature_id);
                scope.require_admin(&id, &mut group, admin, signature)?;
            }
            None if group.mode == Mode::AdminOnly => return Err(TxError::AdminSignatureRequired),
            None => {
                let what = "advances of one group";
                scope.require_pause(what, group.last_advance, ADVANCE_INTERVAL_MS)?;
            }
        }
        if let Commit::Chunks(chunks) = &self.commit {
            scope.keep_chunks(chunks)?;
        }
        let commit = self.commit.hash();
        let next = NextEpoch {
            posting: self.posting.digest(),
            control: self.control.digest(),
            commit,
        };
        let time = scope.context.time;
        if let Some(forgotten) = group.advance(next, self.removal, time) {
            let cell = group_posting_key(&id, forgotten.epoch);
            scope.over.delete(Table::Keys, cell);
        }
        scope.put_epoch_keys(&id, group.epoch, &self.posting, &self.control);
        let sequence = group.log.count();
        let entry = Entry::Advance(AdvanceEntry {
            sequence,
            time,
            height: scope.context.height,
            action: scope.ids.action,
            epoch: group.epoch,
            commit,
            removal: self.removal,
            admin: self.admin.as_ref().map(|(admin, _)| *admin),
            tx: scope.ids.tx,
        });
        scope.append_to_group(&id, &mut group, &entry)?;
        // The whole transaction: members verify what the chain has verified.
        let place = entry_key(&LogId::Group(id), sequence);
        scope.over.put(Table::Body, place, tx.to_bytes());
        scope.put_record(&RecordKey::Group(id), &group)?;
        Ok(Outcome::Sequence(sequence))
    }

    pub(in crate::tx) fn statement(&self, out: &mut Writer) {
        out.u64(self.epoch)
            .value(&self.commit)
            .value(&self.posting)
            .value(&self.control)
            .bool(self.removal)
            .option(self.admin.as_ref().map(|(admin, _)| admin));
    }
}

impl Scope<'_, '_> {
    /// Keeps chunks that members will ask for as long as an entry of now is kept.
    pub(super) fn keep_chunks(&mut self, chunks: &[ChunkId]) -> Result<(), TxError> {
        let kept = self.context.parameters.retention_ms;
        let expires = self.context.time.after_ms(kept);
        for id in chunks {
            let key = RecordKey::Chunk(*id);
            let chunk: Option<Chunk> = self.record(&key)?;
            let chunk = chunk.filter(|chunk| chunk.expires > self.context.time);
            let chunk = chunk.ok_or(TxError::UnknownChunk { id: *id })?;
            self.set_deadline(&key, Some(chunk.expires), expires);
            self.put_record(&key, &Chunk { expires, ..chunk })?;
        }
        Ok(())
    }
}

impl Encode for Commit {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Bytes(bytes) => out.u8(0).bytes(bytes),
            Self::Chunks(chunks) => out.u8(1).list(chunks),
        };
    }
}

impl Decode for Commit {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = "commit";
        let (commit, length) = match input.u8(what)? {
            0 => {
                let bytes = input.bytes(what, COMMIT_BYTES_MAX)?.to_vec();
                let length = bytes.len();
                (Self::Bytes(bytes), length)
            }
            1 => {
                let chunks: Vec<ChunkId> =
                    input.list("chunks of a commit", COMMIT_CHUNKS_MAX, 32)?;
                let length = chunks.len();
                (Self::Chunks(chunks), length)
            }
            value => {
                return Err(DecodeError::UnknownValue {
                    what,
                    value: value.into(),
                });
            }
        };
        at_least_one(what, length)?;
        Ok(commit)
    }
}

impl Encode for AdvanceGroup {
    fn encode(&self, out: &mut Writer) {
        self.statement(out);
        if let Some((_, signature)) = &self.admin {
            out.value(signature);
        }
    }
}

impl Decode for AdvanceGroup {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let epoch = input.u64("epoch")?;
        let commit = Commit::decode(input)?;
        let posting = SigningKey::decode(input)?;
        let control = SigningKey::decode(input)?;
        let removal = input.bool("removal")?;
        let admin = input.option::<Digest>("admin key")?;
        let admin = match admin {
            Some(admin) => Some((admin, Cosignature::decode(input)?)),
            None => None,
        };
        Ok(Self {
            epoch,
            commit,
            posting,
            control,
            removal,
            admin,
        })
    }
}
