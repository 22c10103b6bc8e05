//! Blocks and waiting transactions, as others ask for them.

use std::time::{Duration, Instant};

use session_chain::block::{Block, StoredBlock};
use session_chain::view::ViewError;
use session_core::codec::{Decode, DecodeError, Encode};
use session_core::ids::{ActionId, BlockId};

use super::consensus::{BlockFacts, Consensus, ConsensusError};
use crate::head::Head;
use crate::store::{self, StoreView};

impl Consensus {
    /// The last accepted block.
    ///
    /// # Errors
    /// [`ConsensusError::View`].
    pub fn last_accepted(&self) -> Result<BlockFacts, ConsensusError> {
        let head = self.node.head();
        let id = head.id;
        let found = self.accepted(&head, &id)?;
        let missing = ViewError::Damaged(DecodeError::Invalid {
            what: "the last accepted block is not in the store",
        });
        found.ok_or(ConsensusError::View(missing))
    }

    /// A block, processing or accepted; none where it is unknown or its bodies were pruned.
    ///
    /// # Errors
    /// [`ConsensusError::View`].
    pub fn block(&self, id: &BlockId) -> Result<Option<BlockFacts>, ConsensusError> {
        if let Some(built) = self.inner().ledger.processing.get(id) {
            return Ok(Some(BlockFacts::of(&built.block)));
        }
        self.accepted(&self.node.head(), id)
    }

    fn accepted(&self, head: &Head, id: &BlockId) -> Result<Option<BlockFacts>, ConsensusError> {
        let Some(stored) = self.node.stored_block(head, id)? else {
            let genesis = self.node.at_height(head, 0)?;
            let genesis = genesis.filter(|(found, _)| found == id);
            return Ok(genesis.map(|(_, header)| {
                BlockFacts::of(&Block {
                    header,
                    txs: Vec::new(),
                })
            }));
        };
        let stored = StoredBlock::from_bytes(&stored).map_err(ViewError::Damaged)?;
        let view = StoreView(head.snapshot.as_ref());
        Ok(stored.restore(&view)?.as_ref().map(BlockFacts::of))
    }

    /// Id of the accepted block at a height.
    ///
    /// # Errors
    /// [`ConsensusError::View`].
    pub fn id_at(&self, height: u64) -> Result<Option<BlockId>, ConsensusError> {
        let head = self.node.head();
        let found = store::at_height(head.snapshot.as_ref(), height)?;
        Ok(found.map(|(id, _)| id))
    }

    /// Blocks from `id` back towards genesis, newest first: at most `count`, `bytes` with four
    /// more for each, and as many as `time` allows. An unknown id gives none.
    ///
    /// # Errors
    /// [`ConsensusError::View`].
    pub fn ancestors(
        &self,
        id: BlockId,
        count: usize,
        bytes: usize,
        time: Duration,
    ) -> Result<Vec<Vec<u8>>, ConsensusError> {
        let began = Instant::now();
        let (mut at, mut left, mut out) = (id, bytes, Vec::new());
        while out.len() < count
            && (out.is_empty() || began.elapsed() < time)
            && let Some(block) = self.block(&at)?
        {
            let size = block.bytes.len().saturating_add(4);
            // The block that was asked for comes whatever its size, as a Go VM answers it.
            if size > left && !out.is_empty() {
                break;
            }
            left = left.saturating_sub(size);
            at = block.header.parent;
            out.push(block.bytes);
            if block.header.height == 0 {
                break;
            }
        }
        Ok(out)
    }

    /// Encoded transactions that wait, oldest first, for whose
    /// action `wanted` is true, up to `bytes`; one that is larger goes alone.
    pub fn waiting(&self, bytes: usize, mut wanted: impl FnMut(&ActionId) -> bool) -> Vec<Vec<u8>> {
        let inner = self.inner();
        let mut left = bytes;
        let mut out = Vec::new();
        for waiting in inner.ledger.pool.iter() {
            if !wanted(&waiting.ids.action) {
                continue;
            }
            // A large one goes alone, or it would keep everything behind it waiting.
            if waiting.bytes > left && !out.is_empty() {
                break;
            }
            left = left.saturating_sub(waiting.bytes);
            out.push(waiting.tx.to_bytes());
        }
        out
    }

    /// Whether an action waits here.
    pub fn is_waiting(&self, action: &ActionId) -> bool {
        self.inner().ledger.pool.contains(action)
    }
}
