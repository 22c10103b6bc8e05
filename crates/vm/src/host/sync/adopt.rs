//! The state that was taken over becomes the node's own.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use session_chain::processing::Processing;
use session_chain::tree::Tree;
use session_core::header::Header;
use session_storage::{Staging, StoreError};

use crate::counts::Counts;
use crate::host::consensus::{Consensus, Inner};

impl Consensus {
    /// Goes on from the state in `staging`, whose last block is `header`. Whatever was undecided
    /// belongs to the state before.
    ///
    /// # Errors
    /// [`StoreError`]: only the store knows which state counts.
    pub(super) fn adopt(
        &self,
        staging: &dyn Staging,
        header: Header,
        tree: Tree,
        counts: Counts,
    ) -> Result<(), StoreError> {
        let mut inner = self.inner();
        let Inner {
            ledger,
            handed_out,
            own,
            ..
        } = &mut *inner;
        self.offers.forget();
        staging.promote()?;
        let parameters = *ledger.processing.parameters();
        ledger.processing = Processing::new(header, tree.clone(), parameters);
        ledger.hot.clear();
        ledger.verifier.forget_signers();
        handed_out.clear();
        own.clear();
        {
            let versions = ledger.versions.lock();
            let mut versions = versions.unwrap_or_else(PoisonError::into_inner);
            versions.restart(header, tree);
        }
        let metrics = &ledger.metrics;
        for counter in [&metrics.sessions, &metrics.channels, &metrics.groups] {
            counter.store(0, Ordering::Relaxed);
        }
        counts.tell(&ledger.metrics);
        ledger.publish();
        self.offers
            .accepted(&self.node.head(), ledger.store.as_ref());
        Ok(())
    }
}
