//! The stand-alone host: one thread that takes what was submitted, builds a block, makes it
//! durable, and only then answers.
//!
//! ```text
//! submit ─▶ queue ─▶ mempool ─▶ builder ─▶ one synced batch ─▶ new head ─▶ answers
//! ```
//!
//! A block is built whenever something waits; whatever arrives while one is being made durable
//! goes into the next, so blocks grow with load and nobody lingers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use session_chain::block::{Builder, Built, StoredBlock};
use session_chain::mempool::{Mempool, PoolError, Waiting};
use session_chain::processing::Processing;
use session_chain::state::{Applied, TxError};
use session_chain::tree::Tree;
use session_chain::tx::{Kind, Tx, TxIds};
use session_chain::versions::{Versions, cells_before};
use session_chain::view::{Changes, Table, View, ViewError};
use session_core::codec::{Decode, Encode};
use session_core::header::{HEADER_LEN, Header};
use session_core::ids::{AccountId, ActionId, TxId};
use session_core::limits::{BLOCK_BYTES_MAX, BLOCK_TXS_MAX};
use session_core::record::Outcome;
use session_core::time::Time;
use session_storage::{Batch, Durability, Health, Store, StoreError};
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, Drift};
use crate::counts::Counts;
use crate::head::Head;
use crate::metrics::Metrics;
use crate::store::{self, Hot, StoreView};
use crate::verifier::Verifier;

/// How often time alone is looked at: sweeps, expiry, pruning, recovery of a failed store.
const TICK: Duration = Duration::from_millis(500);

/// Callers that wait for one transaction: a retry or two. More are told that it is pending.
const WAITERS_MAX: usize = 8;

/// Blocks whose bodies are pruned in one batch.
const PRUNE_BLOCKS: u64 = 256;

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
    /// Who waits for the answer.
    pub reply: oneshot::Sender<Answer>,
}

/// State of the producing thread.
pub(crate) struct Producer {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) hot: Hot,
    pub(crate) processing: Processing,
    pub(crate) pool: Mempool,
    pub(crate) verifier: Arc<Verifier>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) drift: Drift,
    pub(crate) heads: watch::Sender<Arc<Head>>,
    pub(crate) versions: Arc<Mutex<Versions>>,
    pub(crate) waiting: HashMap<ActionId, Vec<oneshot::Sender<Answer>>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Bytes of submissions in the queue.
    pub(crate) queued_bytes: Arc<AtomicUsize>,
}

impl Producer {
    /// Runs until the queue closes or the node stops.
    pub(crate) fn run(mut self, queue: &Receiver<Submission>) {
        let mut ticked_ms = self.clock.monotonic_ms();
        loop {
            // While something waits for a block, nobody waits for more to come.
            let wait = if self.pool.is_empty() {
                TICK
            } else {
                Duration::ZERO
            };
            match queue.recv_timeout(wait) {
                Ok(first) => {
                    self.take_in(first);
                    // Everything that is already there; what comes later waits for the next block.
                    let mut room = BLOCK_TXS_MAX;
                    while room > 0
                        && let Ok(next) = queue.try_recv()
                    {
                        self.take_in(next);
                        room -= 1;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            // Under load too: what has expired or is to be pruned does not wait for a quiet hour.
            let now_ms = self.clock.monotonic_ms();
            if u128::from(now_ms.saturating_sub(ticked_ms)) >= TICK.as_millis() {
                ticked_ms = now_ms;
                self.tick();
            }
            if !self.pool.is_empty() {
                self.produce();
            }
            self.metrics
                .pending
                .store(self.pool.len() as u64, Ordering::Relaxed);
            self.metrics
                .pending_bytes
                .store(self.pool.bytes() as u64, Ordering::Relaxed);
        }
        for (_, replies) in self.waiting.drain() {
            for reply in replies {
                let _gone = reply.send(Err(SubmitError::Stopping));
            }
        }
        if let Err(error) = self.store.flush().and_then(|()| self.store.close()) {
            tracing::error!(%error, "closing the store failed");
        }
    }

    fn take_in(&mut self, submission: Submission) {
        let Submission {
            tx,
            ids,
            bytes,
            reply,
        } = submission;
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        let action = ids.action;
        match self.pool.insert(tx, ids, bytes, self.clock.wall()) {
            Ok(evicted) => {
                self.waiting.entry(action).or_default().push(reply);
                let error = PoolError::Evicted { retry_ms: 1_000 };
                for gone in evicted {
                    self.answer(gone.ids.action, &|| Err(error.into()));
                }
            }
            Err(error @ PoolError::AlreadyPending) => {
                let waiting = self.waiting.entry(action).or_default();
                waiting.retain(|waiting| !waiting.is_closed());
                if waiting.len() < WAITERS_MAX {
                    waiting.push(reply);
                } else {
                    let _gone = reply.send(Err(error.into()));
                }
            }
            Err(error) => {
                let _gone = reply.send(Err(error.into()));
            }
        }
    }

    /// Builds and commits one block. Answers false when going on is useless.
    fn produce(&mut self) -> bool {
        let time = match self.ready() {
            Ok(time) => time,
            Err(error) => {
                self.refuse_all(error, &[]);
                return false;
            }
        };
        let batch = self.pool.take(BLOCK_BYTES_MAX - HEADER_LEN, BLOCK_TXS_MAX);
        let mut failed = Vec::new();
        let mut later = Vec::new();
        let store = self.store.clone();
        let verifier = self.verifier.clone();
        let view = self.hot.over(store.as_ref());
        let built = self
            .processing
            .build(&view, verifier.as_ref(), time, |mut builder| {
                push_all(&mut builder, batch, &mut later, &mut failed);
                (!builder.is_empty()).then(|| builder.finish())
            });
        self.pool.put_back(later.into_iter());
        for (action, error) in failed {
            self.metrics.refused.fetch_add(1, Ordering::Relaxed);
            let height = self.processing.head().height;
            self.answer(action, &|| answer_of(&error, height));
        }
        match built {
            Ok(Some(built)) => self.commit(built),
            Ok(None) => true,
            Err(error) => {
                tracing::error!(%error, "reading state failed");
                self.refuse_all(Refusal::Storage(StoreError::Closed), &[]);
                false
            }
        }
    }

    /// The time for a block, if one may be built now.
    fn ready(&mut self) -> Result<Time, Refusal> {
        if !matches!(self.store.health(), Health::Ready) {
            self.store.recover().map_err(refusal)?;
            // Snapshots of before the failure have expired.
            self.hot.clear();
            self.publish();
        }
        self.drift.now(self.clock.as_ref()).map_err(|parted_ms| {
            tracing::error!(
                parted_ms,
                "wall and monotonic clock have parted: not building"
            );
            Refusal::Clock(parted_ms)
        })
    }

    fn commit(&mut self, built: Built) -> bool {
        let stored = StoredBlock::of(&built).to_bytes();
        let Built {
            block,
            id,
            changes,
            tree,
            applied,
        } = built;
        // Nobody else holds the changes of a block that was built here.
        let changes = Arc::try_unwrap(changes).unwrap_or_else(|shared| (*shared).clone());
        let before = cells_before(&self.hot.over(self.store.as_ref()), &changes);
        let counts = before
            .as_ref()
            .map(|before| Counts::of_block(&changes, before));
        let counts = counts.unwrap_or_default();
        self.hot.update(&changes);
        let changed_keys: Vec<AccountId> = block
            .txs
            .iter()
            .filter(|tx| matches!(tx.kind, Kind::RotateKeys(_) | Kind::RevokeIdentity(_)))
            .map(|tx| tx.signer)
            .collect();
        let batch = store::batch_of(&block.header, &id, &stored, changes);
        if let Err(error) = self.store.commit(batch, Durability::Synced) {
            tracing::error!(%error, "committing a block failed");
            self.hot.clear();
            if !self.landed_after_all(id) {
                self.publish();
                self.refuse_all(refusal(error), &applied);
                return false;
            }
        }
        counts.tell(&self.metrics);
        self.keep_version(block.header, tree.clone(), before);
        self.processing.advance(block.header, tree);
        self.publish();
        // Whoever has a key that was rotated away must not take its account's share of the pool.
        for account in &changed_keys {
            self.verifier.forget_signer(account);
        }
        self.answer_applied(block.header.height, &applied);
        true
    }

    /// Keeps the state before this block provable. Comes before the new head is published, so that
    /// whoever has a head finds everything that led to it.
    fn keep_version(&self, header: Header, tree: Tree, before: Result<Changes, ViewError>) {
        // A panic elsewhere leaves at worst a version missing: readers are told.
        let mut versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        match before {
            Ok(before) => versions.advance(header, tree, before),
            Err(error) => {
                tracing::warn!(%error, "past states are not provable any more");
                versions.restart(header, tree);
            }
        }
        let (count, bytes) = (versions.len() as u64, versions.bytes() as u64);
        self.metrics.versions.store(count, Ordering::Relaxed);
        self.metrics.versions_bytes.store(bytes, Ordering::Relaxed);
    }

    /// After a failed commit only the store knows whether the block is there.
    fn landed_after_all(&self, id: session_core::ids::BlockId) -> bool {
        self.store.recover().is_ok()
            && matches!(store::head(self.store.as_ref()), Ok(Some((head, _))) if head == id)
    }

    fn publish(&self) {
        match self.store.snapshot() {
            Ok(snapshot) => {
                let header = *self.processing.head();
                let tree = self.processing.tree().clone();
                self.metrics.height.store(header.height, Ordering::Relaxed);
                self.heads
                    .send_replace(Arc::new(Head::new(header, tree, snapshot)));
            }
            // Readers stay on the block before; the next commit tries again.
            Err(error) => tracing::error!(%error, "taking a snapshot failed"),
        }
    }

    fn answer_applied(&mut self, height: u64, applied: &[Applied]) {
        let count = applied.len() as u64;
        self.metrics.accepted.fetch_add(count, Ordering::Relaxed);
        tracing::debug!(height, transactions = count, "accepted a block");
        for applied in applied {
            let accepted = Accepted {
                tx: Some(applied.tx),
                outcome: applied.outcome,
                height,
                repeated: false,
            };
            self.answer(applied.action, &|| Ok(accepted));
        }
    }

    fn answer(&mut self, action: ActionId, answer: &dyn Fn() -> Answer) {
        for reply in self.waiting.remove(&action).into_iter().flatten() {
            // Whoever waited may have gone; the transaction is accepted all the same.
            let _gone = reply.send(answer());
        }
    }

    /// Refuses whatever waits, and the block that could not be kept: nothing is accepted now.
    fn refuse_all(&mut self, refusal: Refusal, block: &[Applied]) {
        let waiting = self.pool.take(usize::MAX, usize::MAX);
        let actions: Vec<ActionId> = waiting.iter().map(|waiting| waiting.ids.action).collect();
        for action in block.iter().map(|applied| applied.action).chain(actions) {
            self.answer(action, &|| Err(refusal.error()));
        }
    }

    /// What time alone brings: expiry in the pool, sweeps, pruning.
    fn tick(&mut self) {
        for gone in self.pool.expire(self.clock.wall()) {
            self.answer(gone.ids.action, &|| Err(SubmitError::ExpiredPending));
        }
        let Ok(time) = self.ready() else { return };
        if self.is_due(time) {
            self.produce();
        }
        if let Err(error) = self.prune(time) {
            tracing::warn!(%error, "pruning bodies failed");
        }
    }

    fn is_due(&self, time: Time) -> bool {
        let view = StoreView(self.store.as_ref());
        let to = time.after_ms(1).to_bytes();
        matches!(view.range(Table::Deadline, &[0; 8], &to, 1), Ok(cells) if !cells.is_empty())
    }

    /// Drops the bodies of blocks older than the retention.
    fn prune(&self, time: Time) -> Result<(), PruneError> {
        let retention = self.processing.parameters().retention_ms;
        let store = self.store.as_ref();
        let from = store::pruned(store)?;
        let head = self.processing.head().height;
        let mut batch = Batch::new();
        let mut height = from;
        while height <= head && height < from.saturating_add(PRUNE_BLOCKS) {
            let Some((id, header)) = store::at_height(store, height)? else {
                break;
            };
            if time.since(header.time) < retention {
                break;
            }
            if let Some(stored) = store::block(store, &id)? {
                let stored = StoredBlock::from_bytes(&stored).map_err(ViewError::Damaged)?;
                store::delete_bodies(&mut batch, stored.bodies());
            }
            height += 1;
        }
        if height > from {
            store::put_pruned(&mut batch, height);
            store.commit(batch, Durability::Buffered)?;
            self.publish();
            tracing::info!(from, to = height, "pruned message bodies");
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum PruneError {
    #[error("{0}")]
    View(#[from] ViewError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Why nothing can be accepted, in a form that can be told to many.
enum Refusal {
    Full,
    Storage(StoreError),
    Clock(u64),
}

impl Refusal {
    fn error(&self) -> SubmitError {
        match self {
            Self::Full => SubmitError::StorageFull,
            Self::Storage(error) => SubmitError::Storage(error.clone()),
            Self::Clock(parted_ms) => SubmitError::ClockJumped {
                parted_ms: *parted_ms,
            },
        }
    }
}

fn refusal(error: StoreError) -> Refusal {
    if error.is_no_space() {
        Refusal::Full
    } else {
        Refusal::Storage(error)
    }
}

type Failed = Vec<(ActionId, TxError)>;

/// Applies waiting transactions until the block is full.
fn push_all(
    builder: &mut Builder<'_>,
    batch: impl IntoIterator<Item = Waiting>,
    later: &mut Vec<Waiting>,
    failed: &mut Failed,
) {
    let mut full = false;
    for waiting in batch {
        // After the first that does not fit nothing else goes in: a sender's order is kept.
        if full {
            later.push(waiting);
            continue;
        }
        if let Err(refused) = builder.push_waiting(waiting) {
            let (error, waiting) = *refused;
            full = matches!(error, TxError::BlockFull);
            if error.is_temporary() {
                later.push(waiting);
            } else {
                failed.push((waiting.ids.action, error));
            }
        }
    }
}

/// The answer for an action that did not go into the block: a retry of an accepted one gets its
/// first result.
fn answer_of(error: &TxError, height: u64) -> Answer {
    if let TxError::Duplicate { outcome } = error {
        Ok(Accepted {
            tx: None,
            outcome: *outcome,
            height,
            repeated: true,
        })
    } else {
        Err(SubmitError::Tx(error.clone()))
    }
}
