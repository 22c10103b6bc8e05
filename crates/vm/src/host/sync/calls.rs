//! What a host asks about states.

use std::sync::Arc;

use session_chain::block::BlockError;
use session_core::codec::{Decode, Encode};

use super::{Peers, Summary, fetch};
use crate::host::consensus::{Consensus, ConsensusError};

/// A summary as hosts want to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SummaryFacts {
    /// SHA-256 of the bytes.
    pub(crate) id: [u8; 32],
    /// Height of its block.
    pub(crate) height: u64,
    /// The summary.
    pub(crate) bytes: Vec<u8>,
}

impl From<Summary> for SummaryFacts {
    fn from(summary: Summary) -> Self {
        Self {
            id: summary.id(),
            height: summary.header.height,
            bytes: summary.to_bytes(),
        }
    }
}

impl Consensus {
    /// Whether a state would be taken over.
    pub(crate) fn takes_states(&self) -> bool {
        self.offers.options().enabled && self.store().staging().is_some()
    }

    /// Whether the host is to look for a state: this node was away for a while, or its last try
    /// was interrupted.
    pub(crate) fn wants_a_state(&self) -> bool {
        let age = self.node.now().since(self.node.head().header.time);
        let old = age > self.offers.options().min_age_ms;
        self.takes_states() && (old || fetch::ongoing(self).is_some())
    }

    /// The state that was being taken over when the process ended last.
    pub(crate) fn ongoing_state(&self) -> Option<SummaryFacts> {
        fetch::ongoing(self).map(Into::into)
    }

    /// The newest state that is offered.
    pub(crate) fn last_state(&self) -> Option<SummaryFacts> {
        self.offers.last().map(Into::into)
    }

    /// The state that is offered of a height.
    pub(crate) fn state_at(&self, height: u64) -> Option<SummaryFacts> {
        self.offers.at(height).map(Into::into)
    }

    /// Decodes a summary of this chain.
    ///
    /// # Errors
    /// [`ConsensusError::Undecodable`], [`ConsensusError::Invalid`].
    pub(crate) fn parse_state(&self, bytes: &[u8]) -> Result<SummaryFacts, ConsensusError> {
        self.read_summary(bytes).map(Into::into)
    }

    fn read_summary(&self, bytes: &[u8]) -> Result<Summary, ConsensusError> {
        let summary = Summary::from_bytes(bytes)?;
        let chain = summary.header.chain;
        if chain != self.node.chain() {
            return Err(BlockError::OtherChain(chain).into());
        }
        Ok(summary)
    }

    /// The host has chosen a state. Answers whether it is being taken over from now on; false: it
    /// is so near that blocks are applied instead.
    ///
    /// # Errors
    /// [`ConsensusError`].
    pub(crate) fn accept_state(
        self: &Arc<Self>,
        bytes: &[u8],
        peers: Arc<dyn Peers>,
        fatal: Box<dyn Fn() + Send>,
    ) -> Result<bool, ConsensusError> {
        let summary = self.read_summary(bytes)?;
        self.upgrades.check(summary.header.height)?;
        let height = self.node.head().header.height;
        let ahead = summary.header.height.saturating_sub(height);
        if !self.takes_states() || ahead < self.offers.options().min_blocks.max(1) {
            tracing::info!(
                height,
                ahead,
                "not taking over a state: blocks are applied instead"
            );
            return Ok(false);
        }
        fetch::begin(self.clone(), peers, summary, fatal);
        Ok(true)
    }
}
