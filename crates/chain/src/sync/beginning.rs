//! Where a channel or a group begins. Its oldest leaves go when they are old, and no root says which
//! are gone: whoever gives it may leave younger ones out as well. Others who have more can show it.

use session_core::codec::Encode;
use session_core::limits::{TILE_LEAVES, TILE_LEVEL};
use session_core::log::leaf_of;
use session_core::merkle::Frontier;
use session_core::proof::frontier_of;
use session_core::record::RecordKey;

use super::span::log_of;
use super::{Cell, Cursor, SyncError};
use crate::view::{Table, View, ViewError, first_entry, tile_key};

/// First spans of both: roots of tiles whose leaves are gone, then the leaves that are left.
const TILES: u8 = 0;
const ENTRIES: u8 = 1;

/// After what to ask for a record's cells, so that its first is the first that comes.
pub const fn before(record: RecordKey) -> Cursor {
    Cursor {
        record,
        cell: Some((TILES, Vec::new())),
    }
}

/// Full tiles of a channel or a group whose leaves are gone; none of any other record.
///
/// # Errors
/// [`ViewError`].
pub fn tiles_gone(view: &dyn View, record: RecordKey) -> Result<u64, ViewError> {
    let Some(log) = log_of(&record) else {
        return Ok(0);
    };
    let first = match first_entry(view, &log)? {
        Some((first, _)) => first,
        None => match view.get(Table::Record, &record.to_bytes())? {
            Some(bytes) => frontier_of(&log, &bytes)
                .map_err(|_| ViewError::Missing(Table::Record))?
                .count(),
            None => 0,
        },
    };
    Ok(first / TILE_LEAVES)
}

/// Whether another peer's cells of a channel or a group, asked for from [`before`] it on, show leaves before
/// those that were taken over.
///
/// # Errors
/// [`SyncError::OtherCell`] where the leaves are not those of its log, [`SyncError::View`].
pub fn begins_before(
    view: &dyn View,
    record: RecordKey,
    cells: &[Cell],
) -> Result<bool, SyncError> {
    let Some(log) = log_of(&record) else {
        return Ok(false);
    };
    let of = |span: u8| move |cell: &&Cell| cell.record == record && cell.span == span;
    let first = cells.iter().filter(of(TILES)).count() as u64;
    let mut leaves = cells.iter().filter(of(ENTRIES)).peekable();
    if first >= tiles_gone(view, record)? || leaves.peek().is_none() {
        return Ok(false);
    }
    let mut tile = Frontier::new();
    for cell in leaves.take(usize::try_from(TILE_LEAVES).unwrap_or(usize::MAX)) {
        let pushed = tile.push(leaf_of(&cell.value), |_, _, _| ());
        pushed.map_err(|error| SyncError::Log(record, error))?;
    }
    let root = tile_key(&log, TILE_LEVEL, first);
    let root = view.get(Table::Tile, &root)?;
    let shown = tile.peaks().first().map(<[u8; 32]>::as_slice);
    if tile.count() == TILE_LEAVES && shown == root.as_deref() {
        return Ok(true);
    }
    Err(SyncError::OtherCell(record, Table::Entry))
}
