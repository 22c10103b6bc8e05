//! An accepted block as readers see it: header, state tree and a snapshot, all of one moment.
//! Mostly the last one; a past one reads through what later blocks changed.

use std::sync::Arc;

use session_chain::proof::State;
use session_chain::tree::Tree;
use session_chain::versions::{AsOf, Past};
use session_chain::view::{Changes, ViewError, read_record};
use session_core::codec::Decode;
use session_core::header::{Header, SignedHead};
use session_core::ids::BlockId;
use session_core::record::RecordKey;
use session_storage::Snapshot;

use crate::store::StoreView;

/// One accepted block and the state after it.
pub struct Head {
    /// Header.
    pub header: Header,
    /// Its id.
    pub id: BlockId,
    /// State tree after it.
    pub tree: Tree,
    /// Stored cells after it, or after a later block.
    pub snapshot: Arc<dyn session_storage::View>,
    /// What later blocks changed; empty for the last accepted block.
    undo: Vec<Arc<Changes>>,
}

impl Head {
    /// The last accepted block, of which `snapshot` was taken.
    pub fn new(header: Header, tree: Tree, snapshot: Snapshot) -> Self {
        Self {
            header,
            id: header.id(),
            tree,
            snapshot: Arc::from(snapshot),
            undo: Vec::new(),
        }
    }

    /// A past block, on the snapshot of this one. `past` must have been taken after this head was
    /// published, so that it tells all that was changed up to here.
    pub(crate) fn back_to(&self, past: Past) -> Self {
        Self {
            header: past.header,
            id: past.header.id(),
            tree: past.tree,
            snapshot: self.snapshot.clone(),
            undo: past.undo,
        }
    }

    /// Whether it was the last accepted block when it was taken.
    pub const fn is_last(&self) -> bool {
        self.undo.is_empty()
    }

    /// Cells as the chain reads them.
    pub fn view(&self) -> AsOf<'_, StoreView<'_>> {
        AsOf {
            base: StoreView(self.snapshot.as_ref()),
            undo: &self.undo,
        }
    }

    /// Reads a record.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn record<T: Decode>(&self, key: &RecordKey) -> Result<Option<T>, ViewError> {
        read_record(&self.view(), key)
    }

    /// Calls `f` with what proofs are made of.
    pub fn with_state<T>(&self, heads: Vec<SignedHead>, f: impl FnOnce(&State<'_>) -> T) -> T {
        let view = self.view();
        f(&State {
            header: self.header,
            heads,
            tree: &self.tree,
            view: &view,
        })
    }
}
