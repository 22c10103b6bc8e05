//! When a block is built, and of what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use session_chain::block::Built;
use session_chain::mempool::Waiting;
use session_core::limits::BLOCK_TXS_MAX;
use session_core::time::Time;

use super::consensus::{BlockFacts, Consensus, ConsensusError, Inner};
use crate::ledger::{Ledger, Refusal};
use crate::producer::TICK;

/// Transactions of the block that is built to see whether one can be.
const PROBE: usize = 4;

/// Transactions that are tried at once for their callers' sake: some milliseconds' work. Where
/// more wait than that, blocks come anyway.
const JUDGED: usize = 128;

impl Consensus {
    /// Builds a block on the preferred one, of everything that waits now.
    ///
    /// # Errors
    /// [`ConsensusError::NothingToBuild`], [`ConsensusError::NotBuilding`].
    pub fn build(&self) -> Result<BlockFacts, ConsensusError> {
        let mut inner = self.inner();
        if !self.is_normal() {
            return Err(ConsensusError::NothingToBuild);
        }
        let time = ready(&mut inner.ledger)?;
        let built = self.try_build(&mut inner, time, BLOCK_TXS_MAX)?;
        let built = built.ok_or(ConsensusError::NothingToBuild)?;
        let facts = BlockFacts::of(&built.block);
        inner.handed_out.push((facts.id, facts.header.height));
        inner.ledger.processing.insert(built);
        inner.ledger.count_pending();
        Ok(facts)
    }

    /// Whether there is a block to build, and it is for this node to do so now. A small one is
    /// built to see it, so that nothing is promised that building then does not keep.
    fn can_build(&self) -> Result<bool, ConsensusError> {
        let inner = &mut *self.inner();
        if !self.is_normal() {
            return Ok(false);
        }
        let Inner { ledger, flow, .. } = inner;
        let time = ready(ledger)?;
        let preference = ledger.processing.preference();
        let undecided = preference != ledger.processing.head_id();
        // What an undecided block has already is not waiting for the next one.
        let taken = ledger.processing.preferred_actions();
        let waiting = || {
            let waiting = ledger.pool.iter();
            waiting.filter(|waiting| !taken.contains(&waiting.ids.action))
        };
        let now = Instant::now();
        let is_wanted = flow.is_wanted(waiting().map(|waiting| &waiting.ids.action), now);
        if !is_wanted && (undecided || !ledger.is_due(time)) {
            return Ok(false);
        }
        let bytes = match undecided {
            true => waiting().map(|waiting| waiting.bytes).sum(),
            false => ledger.pool.bytes(),
        };
        let height = ledger.processing.preferred().height.saturating_add(1);
        let rank = || self.rank.get().map_or(0, |rank| rank(height));
        if flow.holds_back(preference, undecided, bytes, rank, now) {
            return Ok(false);
        }
        let Some(built) = self.try_build(inner, time, PROBE)? else {
            return Ok(false);
        };
        inner.put_back(built.block.txs);
        Ok(true)
    }

    /// Builds a block of the first `count` that wait, or of later ones where none of those
    /// applies. Who waits for one that does not apply is told, if that is certain.
    fn try_build(
        &self,
        inner: &mut Inner,
        time: Time,
        mut count: usize,
    ) -> Result<Option<Built>, ConsensusError> {
        let Inner {
            ledger,
            flow,
            expiries,
            ..
        } = &mut *inner;
        let undecided = ledger.processing.preference() != ledger.processing.head_id();
        loop {
            let first = ledger.pool.iter().take(count);
            expiries.extend(first.map(|waiting| (waiting.ids.action, waiting.expires)));
            let (built, failed) = ledger.build(time, count)?;
            let progress = !undecided && !failed.is_empty();
            if undecided {
                // What does not apply there may yet apply, if other blocks are accepted.
                let failed: Vec<Waiting> = failed.into_iter().map(|(waiting, _)| waiting).collect();
                ledger.pool.put_back(failed.into_iter());
            } else {
                ledger.answer_failed(&failed);
                for (waiting, _) in &failed {
                    let _was_own = flow.over(&waiting.ids.action);
                }
            }
            match built {
                // Rules that this program does not know are not for it to build by.
                Some(built) if self.upgrades.check(built.block.header.height).is_err() => {
                    inner.put_back(built.block.txs);
                    return Ok(None);
                }
                Some(built) => return Ok(Some(built)),
                None if progress => {}
                None if count < BLOCK_TXS_MAX => count = BLOCK_TXS_MAX,
                None => return Ok(None),
            }
        }
    }

    /// Tells callers whose transactions do not apply to the accepted state, or are in it already.
    /// Building finds that too; but with stake the host asks this node only when it is its turn,
    /// which may be long after a caller has given up.
    ///
    /// # Errors
    /// [`ConsensusError::NotBuilding`], [`ConsensusError::View`].
    pub(super) fn judge(&self) -> Result<(), ConsensusError> {
        let inner = &mut *self.inner();
        let Inner {
            ledger,
            flow,
            expiries,
            unjudged,
            ..
        } = inner;
        // What does not apply to an undecided block may yet apply, if others are accepted. Where
        // the host waits for a block to be built, trying to build one judges as well.
        let undecided = ledger.processing.preference() != ledger.processing.head_id();
        if !self.is_normal() || undecided || flow.is_asked() || !*unjudged {
            return Ok(());
        }
        let time = ready(ledger)?;
        let first = ledger.pool.iter().take(JUDGED);
        expiries.extend(first.map(|waiting| (waiting.ids.action, waiting.expires)));
        let (built, failed) = ledger.build(time, JUDGED)?;
        // What others pushed may depend on what has not come yet, and nobody here waits for it.
        let (told, kept): (Vec<_>, Vec<_>) = failed
            .into_iter()
            .partition(|(waiting, _)| ledger.is_waited_for(&waiting.ids.action));
        let kept: Vec<Waiting> = kept.into_iter().map(|(waiting, _)| waiting).collect();
        ledger.pool.put_back(kept.into_iter());
        ledger.answer_failed(&told);
        for (waiting, _) in &told {
            let _was_own = flow.over(&waiting.ids.action);
        }
        *unjudged = false;
        if let Some(built) = built {
            inner.put_back(built.block.txs);
        }
        inner.ledger.count_pending();
        Ok(())
    }

    fn wakes_in(&self) -> Option<Duration> {
        self.inner().flow.wakes_in(Instant::now())
    }

    /// Returns once a block can be built. Dropping it loses nothing.
    pub async fn event(self: &Arc<Self>) {
        self.inner().flow.asked();
        let mut changes = self.changes.subscribe();
        loop {
            changes.borrow_and_update();
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.can_build()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                // What stands in the way may be over later, without anything else changing.
                Ok(Err(error)) => {
                    tracing::error!(%error, "not building");
                    tokio::time::sleep(TICK).await;
                    continue;
                }
                Err(error) => {
                    tracing::error!(%error, "building broke off");
                    tokio::time::sleep(TICK).await;
                    continue;
                }
            }
            // The sender lives as long as `self`: this ends by a change or by time.
            let changed = changes.changed();
            match self.wakes_in() {
                Some(time) => drop(tokio::time::timeout(time, changed).await),
                None => drop(changed.await),
            }
        }
    }
}

/// The time for a block, if one may be built now.
fn ready(ledger: &mut Ledger) -> Result<Time, ConsensusError> {
    let refused = |refusal: Refusal| ConsensusError::NotBuilding(refusal.error());
    ledger.ready().map_err(refused)
}
