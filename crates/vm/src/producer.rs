//! The stand-alone host: one thread that takes what was submitted, builds a block, makes it
//! durable, and only then answers.
//!
//! ```text
//! submit ─▶ queue ─▶ mempool ─▶ builder ─▶ one synced batch ─▶ new head ─▶ answers
//! ```
//!
//! A block is built whenever something waits; whatever arrives while one is being made durable
//! goes into the next, so blocks grow with load and nobody lingers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use session_chain::block::Built;
use session_core::ids::BlockId;
use session_core::limits::BLOCK_TXS_MAX;
use session_storage::StoreError;

use crate::ledger::{Ledger, Refusal, changed_keys, refusal};
use crate::store;
use crate::submission::Submission;

/// How often time alone is looked at: sweeps, expiry, pruning, recovery of a failed store.
pub(crate) const TICK: Duration = Duration::from_millis(500);

/// State of the producing thread.
pub(crate) struct Producer {
    pub(crate) ledger: Ledger,
    pub(crate) stop: Arc<AtomicBool>,
}

impl Producer {
    /// Runs until the queue closes or the node stops.
    pub(crate) fn run(mut self, queue: &Receiver<Submission>) {
        let mut ticked_ms = self.ledger.clock.monotonic_ms();
        loop {
            // While something waits for a block, nobody waits for more to come.
            let wait = if self.ledger.pool.is_empty() {
                TICK
            } else {
                Duration::ZERO
            };
            match queue.recv_timeout(wait) {
                Ok(first) => {
                    let _new = self.ledger.take_in(first);
                    // Everything that is already there; what comes later waits for the next block.
                    let mut room = BLOCK_TXS_MAX;
                    while room > 0
                        && let Ok(next) = queue.try_recv()
                    {
                        let _new = self.ledger.take_in(next);
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
            let now_ms = self.ledger.clock.monotonic_ms();
            if u128::from(now_ms.saturating_sub(ticked_ms)) >= TICK.as_millis() {
                ticked_ms = now_ms;
                self.tick();
            }
            if !self.ledger.pool.is_empty() {
                self.produce();
            }
            self.ledger.count_pending();
        }
        self.ledger.end();
    }

    /// Builds and commits one block.
    fn produce(&mut self) {
        let ledger = &mut self.ledger;
        let time = match ledger.ready() {
            Ok(time) => time,
            Err(error) => return ledger.refuse_all(&error, &[]),
        };
        match ledger.build(time, BLOCK_TXS_MAX) {
            Ok((built, failed)) => {
                ledger.answer_failed(&failed);
                if let Some(built) = built {
                    self.commit(built);
                }
            }
            Err(error) => {
                tracing::error!(%error, "reading state failed");
                ledger.refuse_all(&Refusal::Storage(StoreError::Closed), &[]);
            }
        }
    }

    fn commit(&mut self, built: Built) {
        let ledger = &mut self.ledger;
        let (header, id, tree) = (built.block.header, built.id, built.tree.clone());
        let applied = built.applied.clone();
        let changed = changed_keys(&built.block.txs);
        if let Err(error) = ledger.persist(built)
            && !self.landed_after_all(id)
        {
            self.ledger.publish();
            return self.ledger.refuse_all(&refusal(error), &applied);
        }
        let ledger = &mut self.ledger;
        ledger.processing.advance(header, tree);
        ledger.publish();
        ledger.forget_keys(&changed);
        ledger.answer_applied(header.height, &applied);
    }

    /// After a failed commit only the store knows whether the block is there.
    fn landed_after_all(&self, id: BlockId) -> bool {
        let store = self.ledger.store.as_ref();
        store.recover().is_ok() && matches!(store::head(store), Ok(Some((head, _))) if head == id)
    }

    /// What time alone brings: expiry in the pool, sweeps, pruning.
    fn tick(&mut self) {
        self.ledger.expire_pending();
        let Ok(time) = self.ledger.ready() else {
            return;
        };
        if self.ledger.is_due(time) {
            self.produce();
        }
        self.ledger.prune(time);
    }
}
