//! The chain's tables in the store's keyspaces.

use std::cell::RefCell;
use std::collections::HashMap;

use session_chain::block::{Built, StoredBlock};
use session_chain::view::{Cells, Changes, Table, View, ViewError, is_message_body};
use session_core::codec::{Decode, Encode, Reader, Writer};
use session_core::header::Header;
use session_core::ids::BlockId;
use session_storage::{Batch, Direction, KeyRange, Keyspace, StoreError};

use crate::deadlines::Deadlines;

/// Key of the last accepted block in [`Keyspace::Meta`].
const HEAD: &[u8] = b"head";

/// Key of the first height whose bodies are still kept.
const PRUNED: &[u8] = b"pruned";

/// Key of the genesis bytes.
const GENESIS: &[u8] = b"genesis";

/// A store, or a snapshot of one, as the chain reads it.
pub struct StoreView<'a>(pub &'a dyn session_storage::View);

const fn keyspace(table: Table) -> Keyspace {
    match table {
        Table::Record => Keyspace::Records,
        Table::Entry => Keyspace::Entries,
        Table::Tile => Keyspace::Tiles,
        Table::Body => Keyspace::Bodies,
        // Rosters have keys of 32 bytes and public keys of 33 and 34, so they never meet.
        Table::Roster | Table::Keys => Keyspace::Rosters,
        Table::Message => Keyspace::Messages,
        Table::Deadline => Keyspace::Deadlines,
    }
}

fn failed(error: StoreError) -> ViewError {
    ViewError::Store(std::sync::Arc::new(error))
}

impl View for StoreView<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        self.0.get(keyspace(table), key).map_err(failed)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Cells, ViewError> {
        let range = KeyRange::new(from, to);
        self.0
            .range(keyspace(table), &range, limit, Direction::Ascending)
            .map_err(failed)
    }
}

/// The one batch that makes a block durable: changed cells, stored block and the new head.
pub fn block_batch(built: &Built) -> Batch {
    let stored = StoredBlock::of(built).to_bytes();
    batch_of(
        &built.block.header,
        &built.id,
        &stored,
        (*built.changes).clone(),
    )
}

/// The same from its parts: changes are moved, since bodies are most of a block.
pub(crate) fn batch_of(header: &Header, id: &BlockId, stored: &[u8], changes: Changes) -> Batch {
    let mut batch = Batch::new();
    put_changes(&mut batch, changes);
    put_block(&mut batch, header, id, Some(stored));
    batch.step(header.height);
    batch
}

/// Adds changed cells to a batch.
pub(crate) fn put_changes(batch: &mut Batch, changes: Changes) {
    for ((table, key), value) in changes {
        match value {
            // The numbers of a log are given once.
            Some(value) if is_new(table, &key) => batch.put_new(keyspace(table), key, value),
            Some(value) => batch.put(keyspace(table), key, value),
            None => batch.delete(keyspace(table), key),
        };
    }
}

/// Whether a cell that is set was never there before.
fn is_new(table: Table, key: &[u8]) -> bool {
    match table {
        Table::Entry => true,
        Table::Body => is_message_body(key),
        // A channel's sender may send again what the channel has just dropped.
        Table::Message => false,
        Table::Record | Table::Tile | Table::Roster | Table::Keys | Table::Deadline => false,
    }
}

/// Adds an accepted block: its header by height, its stored form by id, and the new head.
pub(crate) fn put_block(batch: &mut Batch, header: &Header, id: &BlockId, stored: Option<&[u8]>) {
    let height = header.height.to_be_bytes();
    let mut by_height = Writer::new();
    by_height.value(id).value(header);
    let by_height = by_height.into_bytes();
    batch.put(Keyspace::Meta, HEAD, by_height.as_slice());
    batch.put(Keyspace::Heights, height, by_height);
    if let Some(stored) = stored {
        batch.put(Keyspace::Blocks, id.as_bytes().as_slice(), stored);
    }
}

fn read_header(bytes: &[u8]) -> Result<(BlockId, Header), ViewError> {
    let mut input = Reader::new(bytes);
    let id = BlockId::decode(&mut input)?;
    Ok((id, Header::decode(&mut input)?))
}

/// The last accepted block, if the store has any.
pub(crate) fn head(
    store: &dyn session_storage::View,
) -> Result<Option<(BlockId, Header)>, ViewError> {
    let bytes = store.get(Keyspace::Meta, HEAD).map_err(failed)?;
    bytes.map(|bytes| read_header(&bytes)).transpose()
}

/// Id and header of the block at a height.
pub(crate) fn at_height(
    store: &dyn session_storage::View,
    height: u64,
) -> Result<Option<(BlockId, Header)>, ViewError> {
    let bytes = store
        .get(Keyspace::Heights, &height.to_be_bytes())
        .map_err(failed)?;
    bytes.map(|bytes| read_header(&bytes)).transpose()
}

/// A stored block by id.
pub(crate) fn block(
    store: &dyn session_storage::View,
    id: &BlockId,
) -> Result<Option<Vec<u8>>, ViewError> {
    store.get(Keyspace::Blocks, id.as_bytes()).map_err(failed)
}

/// The genesis bytes that the store was begun with.
pub(crate) fn genesis(store: &dyn session_storage::View) -> Result<Option<Vec<u8>>, ViewError> {
    store.get(Keyspace::Meta, GENESIS).map_err(failed)
}

/// Adds the genesis bytes.
pub(crate) fn put_genesis(batch: &mut Batch, bytes: &[u8]) {
    batch.put(Keyspace::Meta, GENESIS, bytes);
}

/// First height whose bodies are kept.
pub(crate) fn pruned(store: &dyn session_storage::View) -> Result<u64, ViewError> {
    let bytes = store.get(Keyspace::Meta, PRUNED).map_err(failed)?;
    Ok(bytes
        .map(|bytes| u64::from_bytes(&bytes))
        .transpose()?
        .unwrap_or(1))
}

/// Adds a new first height whose bodies are kept.
pub(crate) fn put_pruned(batch: &mut Batch, height: u64) {
    batch.put(Keyspace::Meta, PRUNED, height.to_bytes());
}

/// Deletes message bodies.
pub(crate) fn delete_bodies(batch: &mut Batch, cells: Vec<Vec<u8>>) {
    for cell in cells {
        batch.delete(Keyspace::Bodies, cell);
    }
}

/// Records, and rosters, that are kept in memory at most: some 60 MB.
const HOT_CELLS: usize = 100_000;

/// The last accepted state, with records and rosters kept in memory: a point read of the store
/// costs as much as hashing a message.
pub(crate) struct HotView<'a> {
    store: StoreView<'a>,
    hot: &'a Hot,
}

type Kept = HashMap<Vec<u8>, Option<Vec<u8>>>;

/// What [`HotView`] keeps between blocks.
#[derive(Default)]
pub(crate) struct Hot {
    records: RefCell<Kept>,
    rosters: RefCell<Kept>,
    deadlines: RefCell<Deadlines>,
}

impl Hot {
    /// The state of the store, seen through what is kept.
    pub(crate) fn over<'a>(&'a self, store: &'a dyn session_storage::View) -> HotView<'a> {
        HotView {
            store: StoreView(store),
            hot: self,
        }
    }

    const fn kept(&self, table: Table) -> Option<&RefCell<Kept>> {
        match table {
            Table::Record => Some(&self.records),
            Table::Roster => Some(&self.rosters),
            Table::Entry
            | Table::Tile
            | Table::Body
            | Table::Keys
            | Table::Message
            | Table::Deadline => None,
        }
    }

    /// Takes over what a durable block has changed.
    pub(crate) fn update(&self, changes: &Changes) {
        self.deadlines.borrow_mut().update(changes);
        for table in [Table::Record, Table::Roster] {
            let Some(kept) = self.kept(table) else {
                continue;
            };
            let mut kept = kept.borrow_mut();
            if kept.len() > HOT_CELLS {
                kept.clear();
            }
            for (key, value) in changes.table(table) {
                kept.insert(key.clone(), value.clone());
            }
        }
    }

    /// Forgets everything: after a failed write only the store knows.
    pub(crate) fn clear(&self) {
        self.records.borrow_mut().clear();
        self.deadlines.borrow_mut().clear();
        self.rosters.borrow_mut().clear();
    }
}

impl View for HotView<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let Some(kept) = self.hot.kept(table) else {
            return self.store.get(table, key);
        };
        if let Some(value) = kept.borrow().get(key) {
            return Ok(value.clone());
        }
        let value = self.store.get(table, key)?;
        let mut kept = kept.borrow_mut();
        if kept.len() <= HOT_CELLS {
            kept.insert(key.to_vec(), value.clone());
        }
        Ok(value)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Cells, ViewError> {
        if table == Table::Deadline {
            let mut deadlines = self.hot.deadlines.borrow_mut();
            return deadlines.range(&self.store, from, to, limit);
        }
        // The store has every accepted cell; what is kept only spares reading it.
        self.store.range(table, from, to, limit)
    }
}
