//! Blocks: encoding, building, verifying.
//!
//! ```text
//! block = header | transactions, at most 1 MiB       id = H(block, header)
//! ```
//!
//! Building and verifying are one path: a [`Builder`] applies transactions one by one; a builder
//! drops the one that does not apply, a verifier refuses the block.

mod stored;

use std::sync::Arc;

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::Tag;
use session_core::header::Header;
use session_core::ids::{BlockId, ChainId, TxId};
use session_core::limits::{BLOCK_BYTES_MAX, BLOCK_TXS_MAX, BLOCK_WEIGHT_MAX};
use session_core::merkle::{Hash, root_of};
use session_core::parameters::Parameters;
use session_core::record::value_hash;
use session_core::time::Time;

use crate::mempool::Waiting;
use crate::state::{Applied, Context, Crypto, TxError, apply_tx};
use crate::sweep::sweep;
use crate::tree::{Change, Tree};
use crate::tx::{Tx, TxIds};
use crate::view::{Changes, Overlay, Table, View, ViewError};

pub use self::stored::{StoredBlock, StoredTx};

/// A block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Header.
    pub header: Header,
    /// Transactions, in order.
    pub txs: Vec<Tx>,
}

/// Root over transaction ids, in order.
pub fn tx_root(ids: impl IntoIterator<Item = TxId>) -> Hash {
    root_of(ids.into_iter().map(|id| Tag::TxLeaf.hash(&[id.as_bytes()])))
}

impl Encode for Block {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.header);
        for tx in &self.txs {
            out.value(tx);
        }
    }
}

impl Decode for Block {
    /// As [`Parsed`] is decoded.
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Parsed::decode(input).map(|parsed| parsed.block)
    }
}

/// A block with the ids of its transactions, which cost a hash of every byte: whoever decodes a
/// block to verify it computes them once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    block: Block,
    ids: Vec<TxIds>,
}

impl From<Block> for Parsed {
    fn from(block: Block) -> Self {
        let chain = block.header.chain;
        let ids = block.txs.iter().map(|tx| tx.ids(&chain)).collect();
        Self { block, ids }
    }
}

impl Parsed {
    /// The block.
    pub const fn block(&self) -> &Block {
        &self.block
    }

    /// Each transaction with its ids.
    pub fn each(&self) -> Vec<(&Tx, &TxIds)> {
        self.block.txs.iter().zip(&self.ids).collect()
    }
}

impl Encode for Parsed {
    fn encode(&self, out: &mut Writer) {
        self.block.encode(out);
    }
}

impl Decode for Parsed {
    /// Checks everything that needs no state: lengths, counts and the transaction root.
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = "block";
        let limit = BLOCK_BYTES_MAX as u64;
        if input.remaining() > BLOCK_BYTES_MAX {
            return Err(DecodeError::TooLong {
                what,
                claimed: input.remaining() as u64,
                limit,
            });
        }
        let header = Header::decode(input)?;
        let count = usize::try_from(header.count).unwrap_or(usize::MAX);
        if count > BLOCK_TXS_MAX {
            let (claimed, limit) = (header.count.into(), BLOCK_TXS_MAX as u64);
            return Err(DecodeError::TooLong {
                what: "transactions",
                claimed,
                limit,
            });
        }
        let mut txs = Vec::new();
        for _ in 0..count {
            txs.push(Tx::decode(input)?);
        }
        let ids: Vec<TxIds> = txs.iter().map(|tx| tx.ids(&header.chain)).collect();
        if tx_root(ids.iter().map(|ids| ids.tx)) != header.tx_root {
            return Err(DecodeError::Invalid {
                what: "transaction root",
            });
        }
        let block = Block { header, txs };
        Ok(Self { block, ids })
    }
}

/// A block that was applied, and what it changes.
#[derive(Clone)]
pub struct Built {
    /// The block.
    pub block: Block,
    /// Its id.
    pub id: BlockId,
    /// Cells that it changes over its parent.
    pub changes: Arc<Changes>,
    /// State tree after it.
    pub tree: Tree,
    /// What each transaction did.
    pub applied: Vec<Applied>,
}

/// Why a block is refused.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// A transaction does not apply.
    #[error("transaction {index}: {error}")]
    Tx {
        /// Its place.
        index: usize,
        /// Why.
        error: TxError,
    },
    /// It belongs to another chain.
    #[error("the block belongs to chain {0}")]
    OtherChain(ChainId),
    /// Its parent is another block.
    #[error("the block's parent is {0}")]
    OtherParent(BlockId),
    /// Its height is not one above its parent's.
    #[error("height {got}, expected {expected}")]
    WrongHeight {
        /// In the block.
        got: u64,
        /// One above the parent's.
        expected: u64,
    },
    /// Its time lies before its parent's.
    #[error("block time lies before the parent's")]
    TimeBeforeParent,
    /// Its time lies too far ahead of the clock.
    #[error("block time lies {ahead_ms} ms ahead of the clock")]
    TimeAhead {
        /// How far.
        ahead_ms: u64,
    },
    /// The state after it is not the one it names.
    #[error("the block leads to another state root")]
    StateRoot,
    /// Its transactions are not those of its root or count.
    #[error("the block's transactions are not those of its header")]
    TxRoot,
    /// Its transactions have more bytes, or weigh more, than a block may.
    #[error("the block is too large")]
    TooLarge,
    /// Reading state failed.
    #[error("{0}")]
    View(#[from] ViewError),
}

/// Applies transactions to the state after `parent`.
pub struct Builder<'a> {
    context: Context<'a>,
    parent: Header,
    tree: Tree,
    over: Overlay<'a>,
    txs: Vec<Tx>,
    applied: Vec<Applied>,
    bytes: usize,
    weight: u64,
}

impl<'a> Builder<'a> {
    /// Begins a block after `parent`, at `time` or the parent's time if that is later. Sweeps
    /// what is due.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn new(
        parent: Header,
        tree: Tree,
        view: &'a dyn View,
        parameters: Parameters,
        crypto: &'a dyn Crypto,
        time: Time,
    ) -> Result<Self, ViewError> {
        let time = time.max(parent.time);
        let height = parent.height.saturating_add(1);
        let chain = parent.chain;
        let context = Context {
            chain,
            height,
            time,
            parameters,
            crypto,
            parent: view,
        };
        let mut over = Overlay::new(view);
        sweep(&mut over, time, parameters.retention_ms)?;
        let bytes = session_core::header::HEADER_LEN;
        let (txs, applied) = (Vec::new(), Vec::new());
        Ok(Self {
            context,
            parent,
            tree,
            over,
            txs,
            applied,
            bytes,
            weight: 0,
        })
    }

    /// Applies a transaction; on error the block is as before.
    ///
    /// # Errors
    /// [`TxError`]; [`TxError::BlockFull`] when it fits a later block.
    pub fn push(&mut self, tx: Tx, ids: &TxIds, bytes: usize) -> Result<Applied, TxError> {
        let applied = self.apply(&tx, ids, bytes)?;
        self.txs.push(tx);
        Ok(applied)
    }

    /// Applies a waiting transaction, which comes back when it does not apply.
    ///
    /// # Errors
    /// [`TxError`] with the transaction.
    pub fn push_waiting(&mut self, waiting: Waiting) -> Result<Applied, Box<(TxError, Waiting)>> {
        match self.apply(&waiting.tx, &waiting.ids, waiting.bytes) {
            Ok(applied) => {
                self.txs.push(waiting.tx);
                Ok(applied)
            }
            Err(error) => Err(Box::new((error, waiting))),
        }
    }

    fn apply(&mut self, tx: &Tx, ids: &TxIds, bytes: usize) -> Result<Applied, TxError> {
        // What a transaction weighs is known once it is applied; its bytes alone rule most out.
        let room = BLOCK_WEIGHT_MAX.saturating_sub(self.weight);
        let full = self.txs.len() >= BLOCK_TXS_MAX
            || self.bytes.saturating_add(bytes) > BLOCK_BYTES_MAX
            || bytes as u64 > room;
        if full {
            return Err(TxError::BlockFull);
        }
        let applied = apply_tx(&self.context, &mut self.over, tx, ids, bytes, room)?;
        self.bytes += bytes;
        self.weight = self.weight.saturating_add(applied.weight);
        self.applied.push(applied);
        Ok(applied)
    }

    /// Whether no transaction was applied and nothing was swept.
    pub fn is_empty(&self) -> bool {
        self.txs.is_empty() && self.over.changes().is_empty()
    }

    /// Finishes the block.
    pub fn finish(self) -> Built {
        let changes = self.over.into_changes();
        let tree = self.tree.update(tree_changes(&changes));
        let header = Header {
            chain: self.context.chain,
            parent: self.parent.id(),
            height: self.context.height,
            time: self.context.time,
            tx_root: tx_root(self.applied.iter().map(|a| a.tx)),
            // Bounded by BLOCK_TXS_MAX.
            count: u32::try_from(self.txs.len()).unwrap_or(u32::MAX),
            state_root: tree.root(),
        };
        let block = Block {
            header,
            txs: self.txs,
        };
        Built {
            id: header.id(),
            block,
            changes: Arc::new(changes),
            tree,
            applied: self.applied,
        }
    }
}

/// The state-tree side of changed cells.
pub fn tree_changes(changes: &Changes) -> Vec<Change> {
    let records = changes.table(Table::Record).iter();
    records
        .map(|(key, value)| {
            (
                Tag::Key.hash(&[key]),
                value.as_ref().map(|record| value_hash(record)),
            )
        })
        .collect()
}

/// Verifies a block on the state of its parent.
///
/// `clock` is given for fresh blocks only: an old block was fresh once.
///
/// # Errors
/// [`BlockError`].
pub fn verify(
    block: impl Into<Parsed>,
    parent: Header,
    tree: Tree,
    view: &dyn View,
    parameters: Parameters,
    crypto: &dyn Crypto,
    clock: Option<Time>,
) -> Result<Built, BlockError> {
    let Parsed { block, ids } = block.into();
    let header = block.header;
    if header.chain != parent.chain {
        return Err(BlockError::OtherChain(header.chain));
    }
    if header.parent != parent.id() {
        return Err(BlockError::OtherParent(header.parent));
    }
    let expected = parent.height.saturating_add(1);
    if header.height != expected {
        return Err(BlockError::WrongHeight {
            got: header.height,
            expected,
        });
    }
    if header.time < parent.time {
        return Err(BlockError::TimeBeforeParent);
    }
    if let Some(clock) = clock {
        let ahead_ms = header.time.since(clock);
        if ahead_ms > session_core::limits::BLOCK_AHEAD_MAX_MS {
            return Err(BlockError::TimeAhead { ahead_ms });
        }
    }
    let mut builder = Builder::new(parent, tree, view, parameters, crypto, header.time)?;
    for (index, (tx, ids)) in block.txs.into_iter().zip(ids).enumerate() {
        let bytes = tx.encoded_len();
        match builder.push(tx, &ids, bytes) {
            Ok(_) => {}
            Err(TxError::View(error)) => return Err(BlockError::View(error)),
            Err(TxError::BlockFull) => return Err(BlockError::TooLarge),
            Err(error) => return Err(BlockError::Tx { index, error }),
        }
    }
    let built = builder.finish();
    if built.block.header.tx_root != header.tx_root || built.block.header.count != header.count {
        return Err(BlockError::TxRoot);
    }
    if built.block.header != header {
        return Err(BlockError::StateRoot);
    }
    Ok(built)
}
