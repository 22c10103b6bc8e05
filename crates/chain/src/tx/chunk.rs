//! Content-addressed chunks, kept `retentionDays` from the last put.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::{AccountId, ChunkId};
use session_core::limits::CHUNK_BYTES_MAX;
use session_core::record::{Chunk, Outcome, RecordKey};

use super::Tx;
use crate::state::{Scope, TxError};
use crate::view::Table;

/// Stores 1 byte to 64 KiB.
#[derive(Clone, PartialEq, Eq)]
pub struct PutChunk {
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl core::fmt::Debug for PutChunk {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "PutChunk({} bytes)", self.bytes.len())
    }
}

impl PutChunk {
    /// `H(chunk, bytes)`.
    pub fn id(bytes: &[u8]) -> ChunkId {
        Chunk::id(bytes)
    }

    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        scope.put_chunk(tx.signer, &self.bytes)
    }
}

impl Scope<'_, '_> {
    /// Stores a chunk, or keeps one that is there from now on, for an account or a group.
    pub(crate) fn put_chunk(&mut self, owner: AccountId, bytes: &[u8]) -> Result<Outcome, TxError> {
        let id = PutChunk::id(bytes);
        let kept = self.context.parameters.retention_ms;
        let expires = self.context.time.after_ms(kept);
        // The decoder bounds the length far below u32.
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let key = RecordKey::Chunk(id);
        let old: Option<Chunk> = self.record(&key)?;
        self.set_deadline(&key, old.map(|old| old.expires), expires);
        let chunk = Chunk {
            owner,
            len,
            expires,
        };
        self.put_record(&key, &chunk)?;
        let cell = id.as_bytes().to_vec();
        self.over.put(Table::Body, cell, bytes.to_vec());
        Ok(Outcome::Chunk(id))
    }
}

impl Encode for PutChunk {
    fn encode(&self, out: &mut Writer) {
        out.bytes(&self.bytes);
    }
}

impl Decode for PutChunk {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = input.bytes("chunk", CHUNK_BYTES_MAX)?.to_vec();
        if bytes.is_empty() {
            return Err(DecodeError::TooShort {
                what: "chunk",
                claimed: 0,
                minimum: 1,
            });
        }
        Ok(Self { bytes })
    }
}
