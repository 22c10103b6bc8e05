//! Self-contained proofs of what a block's state says (`spec/vm.md` §7), and their verifier.
//!
//! ```text
//! header ── state root ── tree path ── record ── frontier ── range proof ── entries a..b
//!    └── id ── head signatures (checked by session-crypto)
//! ```
//!
//! A verified proof says: *these are entries a..b-1 of this log, in this order, in the state of
//! this header; if b = n, nothing later had been accepted*. It does not say that the header was
//! accepted by anybody (head signatures do), nor that it is recent.

use crate::account::Account;
use crate::channel::Channel;
use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::group::Group;
use crate::header::{Header, SignedHead};
use crate::limits::{PROOF_HEADS_MAX, PROOF_LEAVES_MAX, RECORD_BYTES_MAX};
use crate::log::{Entry, LogId, leaf_of};
use crate::merkle::{Frontier, Hash, MerkleError, RangeProof};
use crate::record::{RecordKey, value_hash};
use crate::session::Session;
use crate::state_proof::{StateProof, StateProofError};

/// Version of the proof encoding.
const PROOF_VERSION: u8 = 1;

/// Longest encoded log entry.
const ENTRY_BYTES_MAX: usize = 192;

/// Entries of a log, with the proof that they are exactly those.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRange {
    /// Which log of the record.
    pub log: LogId,
    /// Place of the entries in the log.
    pub range: RangeProof,
    /// Canonical entries.
    pub entries: Vec<Vec<u8>>,
}

/// A proof about one record, and optionally about entries of one of its logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// Header of the block whose state is shown.
    pub header: Header,
    /// Statements of nodes that they accepted that block.
    pub heads: Vec<SignedHead>,
    /// Which record.
    pub key: RecordKey,
    /// Canonical record; none proves that there is none.
    pub record: Option<Vec<u8>>,
    /// Path of the record in the state tree.
    pub path: StateProof,
    /// Entries of a log of the record.
    pub log: Option<LogRange>,
}

/// Why a proof was refused. Always the fault of whoever made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The path does not lead from the record to the state root.
    #[error("state: {0}")]
    State(#[from] StateProofError),
    /// The entries are not those of the log.
    #[error("log: {0}")]
    Log(#[from] MerkleError),
    /// A part of the proof is not canonical.
    #[error("{0}")]
    Decode(#[from] DecodeError),
    /// The entries belong to another record than the one proved.
    #[error("the log belongs to another record")]
    OtherLog,
    /// The frontier in the record is not the one that the entries lead to.
    #[error("the entries lead to another log root")]
    OtherFrontier,
    /// An entry says that it has another place.
    #[error("entry {at} says it is number {sequence}")]
    OutOfPlace {
        /// Its place in the log.
        at: u64,
        /// What it says.
        sequence: u64,
    },
    /// A head signature names another block than the header.
    #[error("a head signature is about another block")]
    OtherHead,
}

/// A proof that holds. Only [`Proof::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proved {
    /// Header whose state was shown.
    pub header: Header,
    /// The record's key.
    pub key: RecordKey,
    /// The record, or none if it is proved absent.
    pub record: Option<Vec<u8>>,
    /// Entries, with the place of the first and the count of the whole log.
    pub entries: Option<ProvedEntries>,
}

/// Entries of a log that are proved complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProvedEntries {
    /// Which log.
    pub log: LogId,
    /// Place of the first entry.
    pub from: u64,
    /// Entries of the whole log.
    pub count: u64,
    /// The entries, in order.
    pub entries: Vec<Entry>,
    /// Frontier of the whole log: what a later proof must extend.
    pub frontier: Frontier,
}

/// The frontier that `record` holds for `log`.
///
/// # Errors
/// [`ProofError::Decode`] when the record is not canonical.
pub fn frontier_of(log: &LogId, record: &[u8]) -> Result<Frontier, ProofError> {
    Ok(match log {
        LogId::Session(_) => Session::from_bytes(record)?.log,
        LogId::Channel(_) => Channel::from_bytes(record)?.log,
        LogId::Memberships(_) => Account::from_bytes(record)?.memberships,
        LogId::Requests(_) => Account::from_bytes(record)?.requests,
        LogId::Group(_) => Group::from_bytes(record)?.log,
    })
}

impl Proof {
    /// Checks everything that needs no key. Head signatures are compared with the header here and
    /// verified by `session-crypto`.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(&self) -> Result<Proved, ProofError> {
        let block = self.header.id();
        let names_header = |head: &SignedHead| {
            head.block == block
                && head.height == self.header.height
                && head.chain == self.header.chain
        };
        if !self.heads.iter().all(names_header) {
            return Err(ProofError::OtherHead);
        }
        let key = self.key.tree_key();
        let root: &Hash = &self.header.state_root;
        match &self.record {
            Some(record) => self.path.verify_present(&key, &value_hash(record), root)?,
            None => self.path.verify_absent(&key, root)?,
        }
        let entries = self
            .log
            .as_ref()
            .map(|log| self.verify_log(log))
            .transpose()?;
        let (header, key, record) = (self.header, self.key, self.record.clone());
        Ok(Proved {
            header,
            key,
            record,
            entries,
        })
    }

    fn verify_log(&self, log: &LogRange) -> Result<ProvedEntries, ProofError> {
        let Some(record) = self
            .record
            .as_ref()
            .filter(|_| log.log.record() == self.key)
        else {
            return Err(ProofError::OtherLog);
        };
        let leaves: Vec<Hash> = log.entries.iter().map(|e| leaf_of(e)).collect();
        let frontier = log.range.frontier(&leaves)?;
        if frontier != frontier_of(&log.log, record)? {
            return Err(ProofError::OtherFrontier);
        }
        let from = log.range.from;
        let mut entries = Vec::with_capacity(log.entries.len());
        for (at, bytes) in (from..).zip(&log.entries) {
            let entry = Entry::from_bytes(bytes)?;
            let sequence = entry.sequence();
            if sequence != at {
                return Err(ProofError::OutOfPlace { at, sequence });
            }
            entries.push(entry);
        }
        Ok(ProvedEntries {
            log: log.log,
            from,
            count: log.range.count,
            entries,
            frontier,
        })
    }
}

impl Encode for Proof {
    fn encode(&self, out: &mut Writer) {
        out.u8(PROOF_VERSION)
            .value(&self.header)
            .list(&self.heads)
            .value(&self.key);
        out.bool(self.record.is_some());
        if let Some(record) = &self.record {
            out.bytes(record);
        }
        out.value(&self.path);
        out.bool(self.log.is_some());
        if let Some(log) = &self.log {
            out.value(&log.log)
                .value(&log.range)
                .count(log.entries.len());
            for entry in &log.entries {
                out.bytes(entry);
            }
        }
    }
}

impl Decode for Proof {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = input.u8("proof version")?;
        if version != PROOF_VERSION {
            let what = "proof version";
            return Err(DecodeError::UnknownValue {
                what,
                value: version.into(),
            });
        }
        let header = Header::decode(input)?;
        let heads = input.list("proof heads", PROOF_HEADS_MAX, 3_309)?;
        let key = RecordKey::decode(input)?;
        let record = if input.bool("proof record")? {
            Some(input.bytes("proof record", RECORD_BYTES_MAX)?.to_vec())
        } else {
            None
        };
        let path = StateProof::decode(input)?;
        let log = if input.bool("proof log")? {
            Some(LogRange::decode(input)?)
        } else {
            None
        };
        Ok(Self {
            header,
            heads,
            key,
            record,
            path,
            log,
        })
    }
}

impl LogRange {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let log = LogId::decode(input)?;
        let range = RangeProof::decode(input)?;
        let n = input.count("proof entries", PROOF_LEAVES_MAX, 4)?;
        let mut entries = Vec::with_capacity(n);
        for _ in 0..n {
            entries.push(input.bytes("proof entry", ENTRY_BYTES_MAX)?.to_vec());
        }
        Ok(Self {
            log,
            range,
            entries,
        })
    }
}

#[cfg(test)]
mod tests;
