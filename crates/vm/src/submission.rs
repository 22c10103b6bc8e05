//! Transactions on their way into a block, and what becomes of them.

use session_chain::mempool::PoolError;
use session_chain::state::TxError;
use session_chain::tx::{Tx, TxIds};
use session_core::ids::TxId;
use session_core::record::Outcome;
use session_storage::StoreError;
use tokio::sync::oneshot;

/// A transaction was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its id; unknown when a retry was recognised.
    pub tx: Option<TxId>,
    /// What it did.
    pub outcome: Outcome,
    /// Height of the block.
    pub height: u64,
    /// Whether an earlier submission of the same action had been accepted already.
    pub repeated: bool,
}

/// Why a transaction was not accepted.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubmitError {
    /// It does not apply.
    #[error("{0}")]
    Tx(#[from] TxError),
    /// The pool is full.
    #[error("{0}")]
    Pool(#[from] PoolError),
    /// The queue before the pool is full.
    #[error("the node is busy: try again in {retry_ms} ms")]
    Busy {
        /// When to try again.
        retry_ms: u64,
    },
    /// It waited past its `valid_until`.
    #[error("expired while pending")]
    ExpiredPending,
    /// The disk is full.
    #[error("the node's disk is full: nothing is accepted until there is room")]
    StorageFull,
    /// The store failed.
    #[error("the node's store failed: {0}")]
    Storage(StoreError),
    /// The machine's clock jumped.
    #[error("the node's clock jumped by {parted_ms} ms: nothing is accepted until it is right")]
    ClockJumped {
        /// How far wall and monotonic clock have parted.
        parted_ms: u64,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// Answer to a submission.
pub type Answer = Result<Accepted, SubmitError>;

/// A transaction on its way into a block.
pub struct Submission {
    /// The transaction.
    pub tx: Tx,
    /// Its ids.
    pub ids: TxIds,
    /// Its encoded length.
    pub bytes: usize,
    /// Whether it was submitted to this very node, so that it tells others of it.
    pub local: bool,
    /// Who waits for the answer.
    pub reply: oneshot::Sender<Answer>,
}
