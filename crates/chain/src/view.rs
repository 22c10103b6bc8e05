//! What the state transition reads and writes: tables of cells, and overlays over them.
//!
//! A [`View`] answers what is stored; an [`Overlay`] is a set of changes over a view, and a view
//! itself. Undecided blocks are overlays over overlays; accepting one writes its cells in one
//! batch.
//!
//! ```text
//! store ◀── block 7 (processing) ◀── block 8 (processing) ◀── transaction being applied
//! ```

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use session_core::codec::{Decode, DecodeError, Encode, Writer};
use session_core::ids::{AccountId, Digest, GroupId, KeyPackageId, MessageId, SessionId};
use session_core::limits::TILE_LEVEL;
use session_core::log::LogId;
use session_core::merkle::{Frontier, Hash, MerkleError};
use session_core::record::RecordKey;
use session_core::time::Time;

/// A table of cells. Only records are under the state root; everything else is derived from
/// them or checked against them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Record key → canonical record.
    Record,
    /// Log ‖ sequence → canonical entry.
    Entry,
    /// Log ‖ level ‖ index → inner node of the log's tree.
    Tile,
    /// Log ‖ sequence → ciphertext and how it is signed, or an advance; chunk, key package → bytes.
    Body,
    /// Session → roster.
    Roster,
    /// Account, session ‖ participant, group ‖ use → public keys; account ‖ rotation → how it came.
    Keys,
    /// Message id → log and sequence.
    Message,
    /// Deadline ‖ record key → nothing.
    Deadline,
}

impl Table {
    /// Every table, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::Record,
        Self::Entry,
        Self::Tile,
        Self::Body,
        Self::Roster,
        Self::Keys,
        Self::Message,
        Self::Deadline,
    ];
}

/// Keys and values of cells, ascending.
pub type Cells = Vec<(Vec<u8>, Vec<u8>)>;

/// A cell's address.
pub type Cell = (Table, Vec<u8>);

/// The store below a view failed, or holds what nobody wrote.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ViewError {
    /// Reading failed.
    #[error("reading state: {0}")]
    Store(Arc<dyn std::error::Error + Send + Sync>),
    /// A cell is not canonical.
    #[error("a stored cell is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// A cell that the state refers to is missing.
    #[error("a stored cell is missing: {0:?}")]
    Missing(Table),
}

/// Stored cells, in a consistent state.
pub trait View {
    /// A cell's value.
    ///
    /// # Errors
    /// [`ViewError`] when the store fails.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError>;

    /// At most `limit` cells with `from <= key < to`, ascending.
    ///
    /// # Errors
    /// [`ViewError`] when the store fails.
    fn range(&self, table: Table, from: &[u8], to: &[u8], limit: usize)
    -> Result<Cells, ViewError>;
}

impl<V: View + ?Sized> View for &V {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        (**self).get(table, key)
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Cells, ViewError> {
        (**self).range(table, from, to, limit)
    }
}

/// Changed cells of one table by key, ascending: `None` deletes.
pub type TableChanges = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Changed cells, by table and key. A table has a map of its own, so that looking a key up needs
/// no copy of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    tables: [TableChanges; Table::ALL.len()],
}

impl Changes {
    /// No changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a cell is changed to: `Some(None)` deletes it, `None` leaves it as it is.
    pub fn get(&self, table: Table, key: &[u8]) -> Option<Option<&[u8]>> {
        self.table(table).get(key).map(Option::as_deref)
    }

    /// Changes a cell.
    pub fn insert(&mut self, (table, key): Cell, value: Option<Vec<u8>>) {
        if let Some(cells) = self.tables.get_mut(table as usize) {
            cells.insert(key, value);
        }
    }

    /// Changes of one table.
    pub fn table(&self, table: Table) -> &TableChanges {
        let [record, entry, tile, body, roster, keys, message, deadline] = &self.tables;
        match table {
            Table::Record => record,
            Table::Entry => entry,
            Table::Tile => tile,
            Table::Body => body,
            Table::Roster => roster,
            Table::Keys => keys,
            Table::Message => message,
            Table::Deadline => deadline,
        }
    }

    /// Every change, by table and key.
    pub fn iter(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        let tables = Table::ALL.into_iter().zip(&self.tables);
        tables.flat_map(|(table, cells)| {
            let cells = cells.iter();
            cells.map(move |(key, value)| (table, key.as_slice(), value.as_deref()))
        })
    }

    /// Takes over what `earlier` changes and these changes do not.
    pub(crate) fn keep_under(&mut self, earlier: &Self) {
        for (cells, earlier) in self.tables.iter_mut().zip(&earlier.tables) {
            for (key, value) in earlier {
                if !cells.contains_key(key) {
                    cells.insert(key.clone(), value.clone());
                }
            }
        }
    }

    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.tables.iter().all(BTreeMap::is_empty)
    }

    /// Changes that come later and count where both change a cell.
    fn merge(&mut self, later: Self) {
        for (cells, later) in self.tables.iter_mut().zip(later.tables) {
            // Few cells above many: inserting beats merging the two trees.
            for (key, value) in later {
                cells.insert(key, value);
            }
        }
    }
}

impl IntoIterator for Changes {
    type Item = (Cell, Option<Vec<u8>>);
    type IntoIter = Box<dyn Iterator<Item = Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        let tables = Table::ALL.into_iter().zip(self.tables);
        Box::new(tables.flat_map(|(table, cells)| {
            let cell = move |(key, value)| ((table, key), value);
            cells.into_iter().map(cell)
        }))
    }
}

impl FromIterator<(Cell, Option<Vec<u8>>)> for Changes {
    fn from_iter<I: IntoIterator<Item = (Cell, Option<Vec<u8>>)>>(cells: I) -> Self {
        let mut changes = Self::new();
        for (cell, value) in cells {
            changes.insert(cell, value);
        }
        changes
    }
}

/// Changes over a view.
pub struct Overlay<'a> {
    base: &'a dyn View,
    changes: Changes,
}

impl<'a> Overlay<'a> {
    /// No changes over `base`.
    pub fn new(base: &'a dyn View) -> Self {
        Self {
            base,
            changes: Changes::new(),
        }
    }

    /// These changes over `base`.
    pub fn with(base: &'a dyn View, changes: Changes) -> Self {
        Self { base, changes }
    }

    /// The changes.
    pub fn into_changes(self) -> Changes {
        self.changes
    }

    /// The changes so far.
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Takes over the changes of an overlay above this one.
    pub fn merge(&mut self, above: Changes) {
        self.changes.merge(above);
    }

    /// Writes a cell.
    pub fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        self.changes.insert((table, key), Some(value));
    }

    /// Deletes a cell.
    pub fn delete(&mut self, table: Table, key: Vec<u8>) {
        self.changes.insert((table, key), None);
    }
}

impl View for Overlay<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        match self.changes.get(table, key) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.base.get(table, key),
        }
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Cells, ViewError> {
        range_over(&self.changes, self.base, table, from, to, limit)
    }
}

/// Undecided blocks over a store, oldest first.
pub struct Layers<'a> {
    /// What is accepted.
    pub base: &'a dyn View,
    /// Changes of the blocks above it.
    pub layers: &'a [Arc<Changes>],
}

impl View for Layers<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        let mut layers = self.layers.iter().rev();
        match layers.find_map(|changes| changes.get(table, key)) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.base.get(table, key),
        }
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Cells, ViewError> {
        match self.layers.split_last() {
            Some((changes, layers)) => {
                let below = Layers {
                    base: self.base,
                    layers,
                };
                range_over(changes, &below, table, from, to, limit)
            }
            None => self.base.range(table, from, to, limit),
        }
    }
}

/// A page of `base` with `changes` over it.
pub(crate) fn range_over(
    changes: &Changes,
    base: &dyn View,
    table: Table,
    from: &[u8],
    to: &[u8],
    limit: usize,
) -> Result<Cells, ViewError> {
    if from >= to {
        return Ok(Vec::new());
    }
    let bounds = (Bound::Included(from), Bound::Excluded(to));
    let here: Vec<_> = changes.table(table).range::<[u8], _>(bounds).collect();
    let hidden = here.iter().filter(|(_, value)| value.is_none()).count();
    // Deleted cells may hide as many of the base's, so ask for that many more.
    let below = base.range(table, from, to, limit.saturating_add(hidden))?;
    // When the base has more beyond its page, cells of ours beyond it must wait too.
    let full = below.len() >= limit.saturating_add(hidden);
    let last = below.last().map(|(key, _)| key.clone()).filter(|_| full);
    let mut merged: BTreeMap<Vec<u8>, Vec<u8>> = below.into_iter().collect();
    for (key, value) in here {
        if last.as_ref().is_some_and(|last| key > last) {
            break;
        }
        match value {
            Some(value) => merged.insert(key.clone(), value.clone()),
            None => merged.remove(key),
        };
    }
    Ok(merged.into_iter().take(limit).collect())
}

/// The smallest key above every key that begins with `prefix`; all of them for `0xff…`.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    vec![0xff; RecordKey::LEN_MAX + 9]
}

/// Cell key of a log entry or message body.
pub fn entry_key(log: &LogId, sequence: u64) -> Vec<u8> {
    let mut out = Writer::with_capacity(LogId::LEN + 8);
    out.value(log).u64(sequence);
    out.into_bytes()
}

/// Appends a perfect subtree of 2^`level` leaves to a log's frontier, and keeps every inner node
/// that this completes, from tile roots upwards.
///
/// # Errors
/// Those of [`Frontier::push_subtree`].
pub(crate) fn append_to_log(
    over: &mut Overlay<'_>,
    log: &LogId,
    frontier: &mut Frontier,
    level: u32,
    subtree: Hash,
) -> Result<(), MerkleError> {
    frontier.push_subtree(level, subtree, |level, index, hash| {
        if level >= TILE_LEVEL {
            over.put(Table::Tile, tile_key(log, level, index), hash.to_vec());
        }
    })
}

/// Whether a key of [`Table::Body`] is that of a message, not of a chunk.
pub const fn is_message_body(key: &[u8]) -> bool {
    key.len() == LogId::LEN + 8
}

/// The first entry of a log that is still stored.
///
/// # Errors
/// [`ViewError`].
pub fn first_entry(
    view: &(impl View + ?Sized),
    log: &LogId,
) -> Result<Option<(u64, Vec<u8>)>, ViewError> {
    let (from, to) = (entry_key(log, 0), entry_key(log, u64::MAX));
    let first = view.range(Table::Entry, &from, &to, 1)?.pop();
    let Some((cell, entry)) = first else {
        return Ok(None);
    };
    let mut input = session_core::codec::Reader::new(&cell);
    LogId::decode(&mut input)?;
    Ok(Some((input.u64("sequence")?, entry)))
}

/// Cell key of the signature that covers a batch beginning at `first`.
pub fn batch_key(log: &LogId, first: u64) -> Vec<u8> {
    let mut key = entry_key(log, first);
    key.push(1);
    key
}

/// Cell key of an inner node of a log's tree.
pub fn tile_key(log: &LogId, level: u32, index: u64) -> Vec<u8> {
    let mut out = Writer::with_capacity(LogId::LEN + 9);
    // Levels are below 64.
    out.value(log).u8(level.to_le_bytes()[0]).u64(index);
    out.into_bytes()
}

/// Cell key of an account's public keys.
pub fn account_keys_key(account: &AccountId) -> Vec<u8> {
    let mut key = vec![1];
    key.extend_from_slice(account.as_bytes());
    key
}

/// Cell key of the Ed25519 key that an `05` account was registered with.
pub fn legacy_key_key(account: &AccountId) -> Vec<u8> {
    let mut key = vec![3];
    key.extend_from_slice(account.as_bytes());
    key
}

/// Cell key of the public keys of a session's participants; the place follows where one is
/// asked for.
pub fn session_keys_key(session: &SessionId, position: Option<u8>) -> Vec<u8> {
    let mut key = vec![2];
    key.extend_from_slice(session.as_bytes());
    key.extend(position);
    key
}

/// Cell key of one rotation of an account's keys: height, time and transaction. At index 0 lie the
/// keys before the first.
pub fn rotation_key(account: &AccountId, index: u32) -> Vec<u8> {
    let mut key = vec![4];
    key.extend_from_slice(account.as_bytes());
    key.extend_from_slice(&index.to_be_bytes());
    key
}

/// First bytes of the cell keys of a group's public keys.
pub fn group_keys_prefix(group: &GroupId) -> Vec<u8> {
    let mut key = vec![5];
    key.extend_from_slice(group.as_bytes());
    key
}

/// Cell key of the posting key of one of a group's epochs.
pub fn group_posting_key(group: &GroupId, epoch: u64) -> Vec<u8> {
    let mut key = group_keys_prefix(group);
    key.push(GROUP_POSTING);
    key.extend_from_slice(&epoch.to_be_bytes());
    key
}

/// Cell key of the control key of a group's current epoch.
pub fn group_control_key(group: &GroupId) -> Vec<u8> {
    let mut key = group_keys_prefix(group);
    key.push(GROUP_CONTROL);
    key
}

/// Cell key of one of a group's admin keys, by its hash.
pub fn group_admin_key(group: &GroupId, admin: &Digest) -> Vec<u8> {
    let mut key = group_keys_prefix(group);
    key.push(GROUP_ADMIN);
    key.extend_from_slice(admin.as_bytes());
    key
}

/// What follows the prefix of a group's keys.
pub(crate) const GROUP_POSTING: u8 = 1;
pub(crate) const GROUP_CONTROL: u8 = 2;
pub(crate) const GROUP_ADMIN: u8 = 3;

/// Cell key of the bytes of a published key package.
pub fn key_package_key(account: &AccountId, package: &KeyPackageId) -> Vec<u8> {
    let mut key = key_packages_prefix(account);
    key.extend_from_slice(package.as_bytes());
    key
}

/// First bytes of the cell keys of an account's published key packages.
pub fn key_packages_prefix(account: &AccountId) -> Vec<u8> {
    // Logs begin with small numbers and chunks have 32 bytes, so they never meet.
    let mut key = vec![0x80];
    key.extend_from_slice(account.as_bytes());
    key
}

/// Cell key of the bytes of a taken key package, by its place in the taker's record.
pub fn taken_key_package_key(taker: &AccountId, target: &AccountId, position: u8) -> Vec<u8> {
    let mut key = taken_key_packages_prefix(taker, target);
    key.push(position);
    key
}

/// First bytes of the cell keys of what one account took of another.
pub fn taken_key_packages_prefix(taker: &AccountId, target: &AccountId) -> Vec<u8> {
    let mut key = vec![0x81];
    key.extend_from_slice(taker.as_bytes());
    key.extend_from_slice(target.as_bytes());
    key
}

/// Cell key of a deadline.
pub fn deadline_key(at: Time, record: &RecordKey) -> Vec<u8> {
    let mut out = Writer::new();
    out.value(&at).value(record);
    out.into_bytes()
}

/// Where a message lies.
///
/// # Errors
/// [`ViewError`].
pub fn message_place(
    view: &(impl View + ?Sized),
    id: &MessageId,
) -> Result<Option<(LogId, u64)>, ViewError> {
    let Some(bytes) = view.get(Table::Message, id.as_bytes())? else {
        return Ok(None);
    };
    let mut input = session_core::codec::Reader::new(&bytes);
    let log = LogId::decode(&mut input)?;
    let sequence = input.u64("sequence")?;
    Ok(Some((log, sequence)))
}

/// Reads and decodes a record.
///
/// # Errors
/// [`ViewError`], also when the record is not canonical.
pub fn read_record<T: Decode>(
    view: &(impl View + ?Sized),
    key: &RecordKey,
) -> Result<Option<T>, ViewError> {
    let bytes = view.get(Table::Record, &key.to_bytes())?;
    Ok(bytes.map(|b| T::from_bytes(&b)).transpose()?)
}

/// Cells in memory: the obvious base for tests and fixtures.
#[derive(Debug, Clone, Default)]
pub struct MemoryView {
    cells: BTreeMap<Cell, Vec<u8>>,
}

impl MemoryView {
    /// Writes changes through.
    pub fn apply(&mut self, changes: Changes) {
        for (cell, value) in changes {
            match value {
                Some(value) => self.cells.insert(cell, value),
                None => self.cells.remove(&cell),
            };
        }
    }

    /// Every cell.
    pub const fn cells(&self) -> &BTreeMap<Cell, Vec<u8>> {
        &self.cells
    }
}

impl View for MemoryView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        Ok(self.cells.get(&(table, key.to_vec())).cloned())
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Cells, ViewError> {
        if from >= to {
            return Ok(Vec::new());
        }
        let bounds = (
            Bound::Included((table, from.to_vec())),
            Bound::Excluded((table, to.to_vec())),
        );
        let cells = self.cells.range(bounds).take(limit);
        Ok(cells
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn overlays_agree_with_the_flat_map(
            below in prop::collection::vec((0u8..40, any::<u8>()), 0..30),
            above in prop::collection::vec((0u8..40, prop::option::of(any::<u8>())), 0..30),
            from in 0u8..40, to in 0u8..44, limit in 0usize..12,
        ) {
            let mut base = MemoryView::default();
            base.apply(below.iter().map(|(k, v)| ((Table::Entry, vec![*k]), Some(vec![*v]))).collect());
            let changes: Changes =
                above.iter().map(|(k, v)| ((Table::Entry, vec![*k]), v.map(|v| vec![v]))).collect();
            let mut flat = base.clone();
            flat.apply(changes.clone());
            let over = Overlay::with(&base, changes);
            prop_assert_eq!(
                over.range(Table::Entry, &[from], &[to], limit).unwrap(),
                flat.range(Table::Entry, &[from], &[to], limit).unwrap()
            );
            for k in 0..40u8 {
                prop_assert_eq!(over.get(Table::Entry, &[k]).unwrap(), flat.get(Table::Entry, &[k]).unwrap());
            }
        }
    }

    proptest! {
        #[test]
        fn layers_agree_with_the_flat_map(
            below in prop::collection::vec((0u8..40, any::<u8>()), 0..30),
            above in prop::collection::vec(prop::collection::vec((0u8..40, prop::option::of(any::<u8>())), 0..25), 0..5),
            from in 0u8..40, to in 0u8..44, limit in 0usize..12,
        ) {
            let cell = |k: u8| (Table::Entry, vec![k]);
            let mut base = MemoryView::default();
            base.apply(below.iter().map(|(k, v)| (cell(*k), Some(vec![*v]))).collect());
            // Neighbours of the table must never show.
            base.apply(Changes::from_iter([((Table::Record, vec![9]), Some(vec![])), ((Table::Tile, vec![9]), Some(vec![]))]));
            let layers: Vec<Arc<Changes>> = above
                .iter()
                .map(|layer| Arc::new(layer.iter().map(|(k, v)| (cell(*k), v.map(|v| vec![v]))).collect()))
                .collect();
            let mut flat = base.clone();
            for layer in &layers {
                flat.apply((**layer).clone());
            }
            let view = Layers { base: &base, layers: &layers };
            // Page by page, as a sweep reads.
            let (mut at, mut pages) = (vec![from], Vec::new());
            loop {
                let page = view.range(Table::Entry, &at, &[to], limit + 1).unwrap();
                let Some((last, _)) = page.last() else { break };
                at = last.iter().copied().chain([0]).collect();
                prop_assert!(page.len() <= limit + 1);
                pages.extend(page);
            }
            prop_assert_eq!(pages, flat.range(Table::Entry, &[from], &[to], 99).unwrap());
            for k in 0..40u8 {
                prop_assert_eq!(view.get(Table::Entry, &[k]).unwrap(), flat.get(Table::Entry, &[k]).unwrap());
            }
        }
    }

    #[test]
    fn prefix_ends_lie_above_every_key_with_the_prefix() {
        assert_eq!(prefix_end(&[1, 2]), vec![1, 3]);
        assert_eq!(prefix_end(&[1, 0xff]), vec![2]);
        assert!(prefix_end(&[0xff, 0xff]) > vec![0xff, 0xff, 9]);
    }
}
