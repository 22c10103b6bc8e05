//! Making the proofs that [`session_core::proof`] verifies.

use session_core::codec::Encode;
use session_core::header::{Header, SignedHead};
use session_core::limits::{PROOF_LEAVES_MAX, TILE_LEVEL};
use session_core::log::{LogId, leaf_of};
use session_core::merkle::{Frontier, Hash, MerkleError, RangeProof};
use session_core::proof::{LogRange, Proof, ProofError, frontier_of};
use session_core::record::RecordKey;

use crate::tree::Tree;
use crate::view::{Table, View, ViewError, entry_key, first_entry, tile_key};

/// Why no proof was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The range is not inside the log.
    #[error("{0}")]
    Range(#[from] MerkleError),
    /// More entries than one proof carries.
    #[error("at most {PROOF_LEAVES_MAX} entries a proof, {0} asked")]
    TooMany(u64),
    /// Entries of the range, or beside it, are no longer stored.
    #[error("pruned: the first entry that is still stored is {first}")]
    Pruned {
        /// First entry that is; the log's end when none is.
        first: u64,
    },
    /// There is no such record.
    #[error("no such record")]
    Absent,
    /// Stored state is damaged.
    #[error("{0}")]
    Damaged(#[from] ProofError),
    /// The store failed.
    #[error("{0}")]
    View(#[from] ViewError),
}

/// A state as of one block: what proofs are made of.
pub struct State<'a> {
    /// Header of the block.
    pub header: Header,
    /// Signed heads to include.
    pub heads: Vec<SignedHead>,
    /// State tree after the block.
    pub tree: &'a Tree,
    /// Cells after the block.
    pub view: &'a dyn View,
}

impl State<'_> {
    /// Proves a record, or that there is none.
    ///
    /// # Errors
    /// [`MakeError::View`].
    pub fn prove_record(&self, key: RecordKey) -> Result<Proof, MakeError> {
        let record = self.view.get(Table::Record, &key.to_bytes())?;
        let path = self.tree.prove(&key.tree_key());
        Ok(Proof {
            header: self.header,
            heads: self.heads.clone(),
            key,
            record,
            path,
            log: None,
        })
    }

    /// Proves entries `from..to` of a log; `to` is cut at the log's end.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn prove_log(&self, log: LogId, from: u64, to: u64) -> Result<Proof, MakeError> {
        let mut proof = self.prove_record(log.record())?;
        let record = proof.record.as_ref().ok_or(MakeError::Absent)?;
        let frontier = frontier_of(&log, record)?;
        let count = frontier.count();
        let to = to.min(count);
        let asked = to.saturating_sub(from);
        if asked > PROOF_LEAVES_MAX as u64 {
            return Err(MakeError::TooMany(asked));
        }
        let made = self
            .entries(&log, from, to)
            .and_then(|entries| Ok((entries, self.range(&log, &frontier, from, to)?)));
        let (entries, range) = match made {
            Err(NodeError::Gone) => {
                let first = first_entry(self.view, &log)?.map_or(count, |(first, _)| first);
                return Err(MakeError::Pruned { first });
            }
            Err(NodeError::Make(error)) => return Err(error),
            Ok(made) => made,
        };
        proof.log = Some(LogRange {
            log,
            range,
            entries,
        });
        Ok(proof)
    }

    /// The subtrees that lead from a log of `from` entries to the whole one: what a reader who
    /// kept the frontier needs to see that nothing was rewritten.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn prove_growth(&self, log: LogId, from: u64) -> Result<Proof, MakeError> {
        self.prove_log(log, from, from)
    }

    fn entries(&self, log: &LogId, from: u64, to: u64) -> Result<Vec<Vec<u8>>, NodeError> {
        let expected = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        let cells = self.view.range(
            Table::Entry,
            &entry_key(log, from),
            &entry_key(log, to),
            expected,
        )?;
        if cells.len() != expected {
            return Err(NodeError::Gone);
        }
        Ok(cells.into_iter().map(|(_, entry)| entry).collect())
    }

    fn range(
        &self,
        log: &LogId,
        frontier: &Frontier,
        from: u64,
        to: u64,
    ) -> Result<RangeProof, NodeError> {
        RangeProof::make(frontier.count(), from, to, |level, index| {
            self.node(log, level, index)
        })
    }

    /// Hash of a perfect subtree: stored from tile roots upwards, computed below.
    fn node(&self, log: &LogId, level: u32, index: u64) -> Result<Hash, NodeError> {
        if level >= TILE_LEVEL {
            let bytes = self.view.get(Table::Tile, &tile_key(log, level, index))?;
            let bytes = bytes.ok_or(NodeError::Gone)?;
            return bytes.as_slice().try_into().map_err(|_| NodeError::Gone);
        }
        let from = index << level;
        let entries = self.entries(log, from, from + (1 << level))?;
        let mut frontier = Frontier::new();
        for entry in &entries {
            frontier.push(leaf_of(entry), |_, _, _| ())?;
        }
        // A perfect subtree has one peak.
        frontier.peaks().first().copied().ok_or(NodeError::Gone)
    }
}

/// Why a part of a log is not there.
enum NodeError {
    Gone,
    Make(MakeError),
}

impl From<MerkleError> for NodeError {
    fn from(error: MerkleError) -> Self {
        Self::Make(error.into())
    }
}

impl From<ViewError> for NodeError {
    fn from(error: ViewError) -> Self {
        Self::Make(error.into())
    }
}
