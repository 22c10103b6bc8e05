//! The last accepted block as readers see it: header, state tree and a snapshot, all of one
//! moment.

use session_chain::proof::State;
use session_chain::tree::Tree;
use session_chain::view::{ViewError, read_record};
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
    /// Stored cells after it.
    pub snapshot: Snapshot,
}

impl Head {
    /// Cells as the chain reads them.
    pub fn view(&self) -> StoreView<'_> {
        StoreView(self.snapshot.as_ref())
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
