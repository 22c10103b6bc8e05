//! What every host works on: store, undecided blocks, pool, and who waits for an answer.
//!
//! ```text
//! submission ─▶ pool ─▶ built block ─▶ (decided by a host) ─▶ one batch ─▶ new head ─▶ answers
//! ```
//!
//! The stand-alone [`producer`](crate::producer) decides for itself; a real node's consensus
//! decides through [`host`](crate::host).

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use session_chain::block::{Builder, Built, StoredBlock};
use session_chain::mempool::{Mempool, PoolError, Waiting};
use session_chain::processing::Processing;
use session_chain::state::{Applied, TxError};
use session_chain::sweep::is_due;
use session_chain::tree::Tree;
use session_chain::tx::{Kind, Tx};
use session_chain::versions::{Versions, cells_before};
use session_chain::view::{Changes, ViewError};
use session_core::codec::{Decode, Encode};
use session_core::header::{HEADER_LEN, Header};
use session_core::ids::{AccountId, ActionId};
use session_core::limits::BLOCK_BYTES_MAX;
use session_core::time::Time;
use session_storage::{Batch, Durability, Health, Store, StoreError};
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, Drift};
use crate::counts::Counts;
use crate::head::Head;
use crate::metrics::Metrics;
use crate::store::{self, Hot};
use crate::submission::{Accepted, Answer, Submission, SubmitError};
use crate::verifier::Verifier;

/// Callers that wait for one transaction: a retry or two. More are told that it is pending.
const WAITERS_MAX: usize = 8;

/// Blocks whose bodies are pruned in one batch.
const PRUNE_BLOCKS: u64 = 256;

/// Bodies that are pruned in one batch, roughly: 4 MB of keys, well inside a frame of any host's
/// database.
const PRUNE_BODIES: usize = 65_536;

/// State of the one who makes blocks.
pub(crate) struct Ledger {
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
    /// Bytes of submissions in the queue.
    pub(crate) queued_bytes: Arc<AtomicUsize>,
}

/// Transactions that did not go into a block, and why.
pub(crate) type Failed = Vec<(Waiting, TxError)>;

impl Ledger {
    /// Refuses a submission before the pool sees it.
    pub(crate) fn refuse(&self, submission: Submission, error: SubmitError) {
        self.queued_bytes
            .fetch_sub(submission.bytes, Ordering::Relaxed);
        let _gone = submission.reply.send(Err(error));
    }

    /// Takes a submission into the pool, or refuses it. Answers whether it is new there.
    pub(crate) fn take_in(&mut self, submission: Submission) -> bool {
        let Submission {
            tx,
            ids,
            bytes,
            reply,
            ..
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
                return true;
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
        false
    }

    /// Builds a block of the first `count` that wait, on the preferred block; none where nothing
    /// applies. What goes into it is no longer in the pool.
    ///
    /// # Errors
    /// [`ViewError`].
    pub(crate) fn build(
        &mut self,
        time: Time,
        count: usize,
    ) -> Result<(Option<Built>, Failed), ViewError> {
        let batch = self.pool.take(BLOCK_BYTES_MAX - HEADER_LEN, count);
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
        Ok((built?, failed))
    }

    /// Tells those whose transactions did not apply.
    pub(crate) fn answer_failed(&mut self, failed: &Failed) {
        let height = self.processing.head().height;
        for (waiting, error) in failed {
            self.metrics.refused.fetch_add(1, Ordering::Relaxed);
            self.answer(waiting.ids.action, &|| answer_of(error, height));
        }
    }

    /// The time for a block, if one may be built now.
    pub(crate) fn ready(&mut self) -> Result<Time, Refusal> {
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

    /// Makes an accepted block durable, and its state before provable. On an error only the store
    /// knows whether it is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(crate) fn persist(&mut self, built: Built) -> Result<(), StoreError> {
        let stored = StoredBlock::of(&built).to_bytes();
        let Built {
            block,
            id,
            changes,
            tree,
            ..
        } = built;
        // Of a block that nobody builds on nobody else holds the changes.
        let changes = Arc::unwrap_or_clone(changes);
        let before = cells_before(&self.hot.over(self.store.as_ref()), &changes);
        let counts = before
            .as_ref()
            .map(|before| Counts::of_block(&changes, before));
        let counts = counts.unwrap_or_default();
        self.hot.update(&changes);
        let batch = store::batch_of(&block.header, &id, &stored, changes);
        if let Err(error) = self.store.commit(batch, Durability::Synced) {
            tracing::error!(%error, "committing a block failed");
            self.hot.clear();
            return Err(error);
        }
        counts.tell(&self.metrics);
        self.keep_version(block.header, tree, before);
        Ok(())
    }

    /// After a block has been made the head: whoever has a key that was rotated away must not take
    /// its account's share of the pool.
    pub(crate) fn forget_keys(&self, changed: &[AccountId]) {
        for account in changed {
            self.verifier.forget_signer(account);
        }
    }

    /// Keeps the state before this block provable. Comes before the new head is published, so that
    /// whoever has a head finds everything that led to it.
    pub(crate) fn keep_version(
        &self,
        header: Header,
        tree: Tree,
        before: Result<Changes, ViewError>,
    ) {
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

    /// The processing head becomes what readers see.
    pub(crate) fn publish(&self) {
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

    pub(crate) fn answer_applied(&mut self, height: u64, applied: &[Applied]) {
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

    pub(crate) fn answer(&mut self, action: ActionId, answer: &dyn Fn() -> Answer) {
        for reply in self.waiting.remove(&action).into_iter().flatten() {
            // Whoever waited may have gone; the transaction is accepted all the same.
            let _gone = reply.send(answer());
        }
    }

    /// Whether somebody still waits for what becomes of an action.
    pub(crate) fn is_waited_for(&self, action: &ActionId) -> bool {
        let replies = self.waiting.get(action);
        replies.is_some_and(|replies| replies.iter().any(|reply| !reply.is_closed()))
    }

    /// Refuses whatever waits, and the block that could not be kept: nothing is accepted now.
    pub(crate) fn refuse_all(&mut self, refusal: &Refusal, block: &[Applied]) {
        let waiting = self.pool.take(usize::MAX, usize::MAX);
        let actions: Vec<ActionId> = waiting.iter().map(|waiting| waiting.ids.action).collect();
        for action in block.iter().map(|applied| applied.action).chain(actions) {
            self.answer(action, &|| Err(refusal.error()));
        }
    }

    /// Ends the wait of what has expired in the pool.
    pub(crate) fn expire_pending(&mut self) {
        for gone in self.pool.expire(self.clock.wall()) {
            self.answer(gone.ids.action, &|| Err(SubmitError::ExpiredPending));
        }
    }

    /// Drops the bodies of blocks older than the retention, as far as that goes now.
    pub(crate) fn prune(&self, time: Time) {
        if let Err(error) = self.try_prune(time) {
            tracing::warn!(%error, "pruning bodies failed");
        }
    }

    /// Tells the counters what waits.
    pub(crate) fn count_pending(&self) {
        let (count, bytes) = (self.pool.len() as u64, self.pool.bytes() as u64);
        self.metrics.pending.store(count, Ordering::Relaxed);
        self.metrics.pending_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Tells everybody who waits that nothing comes any more, and closes the store.
    pub(crate) fn end(&mut self) {
        for (_, replies) in self.waiting.drain() {
            for reply in replies {
                let _gone = reply.send(Err(SubmitError::Stopping));
            }
        }
        if let Err(error) = self.store.flush().and_then(|()| self.store.close()) {
            tracing::error!(%error, "closing the store failed");
        }
    }

    /// Whether time alone has something to do: what has expired is to be swept.
    pub(crate) fn is_due(&self, time: Time) -> bool {
        let view = self.hot.over(self.store.as_ref());
        matches!(is_due(&view, time), Ok(true))
    }

    fn try_prune(&self, time: Time) -> Result<(), PruneError> {
        let retention = self.processing.parameters().retention_ms;
        let store = self.store.as_ref();
        let from = store::pruned(store)?;
        // The head's bodies stay: whoever starts from it must be able to read it whole. So must
        // whoever goes back to an earlier one.
        let head = self.processing.head().height;
        let head = head.saturating_sub(self.store.steps_kept());
        let mut batch = Batch::new();
        let mut height = from;
        while height < head
            && height < from.saturating_add(PRUNE_BLOCKS)
            && batch.len() < PRUNE_BODIES
        {
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

/// Why bodies were not pruned.
#[derive(Debug, thiserror::Error)]
enum PruneError {
    #[error("{0}")]
    View(#[from] ViewError),
    #[error("{0}")]
    Store(#[from] StoreError),
}

/// Why nothing can be accepted, in a form that can be told to many.
pub(crate) enum Refusal {
    Full,
    Storage(StoreError),
    Clock(u64),
}

impl Refusal {
    pub(crate) fn error(&self) -> SubmitError {
        match self {
            Self::Full => SubmitError::StorageFull,
            Self::Storage(error) => SubmitError::Storage(error.clone()),
            Self::Clock(parted_ms) => SubmitError::ClockJumped {
                parted_ms: *parted_ms,
            },
        }
    }
}

pub(crate) fn refusal(error: StoreError) -> Refusal {
    if error.is_no_space() {
        Refusal::Full
    } else {
        Refusal::Storage(error)
    }
}

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
                failed.push((waiting, error));
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

/// Accounts whose keys a block changes.
pub(crate) fn changed_keys(txs: &[Tx]) -> Vec<AccountId> {
    txs.iter()
        .filter(|tx| matches!(tx.kind, Kind::RotateKeys(_) | Kind::RevokeIdentity(_)))
        .map(|tx| tx.signer)
        .collect()
}
