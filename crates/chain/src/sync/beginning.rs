//! Where a channel begins. Its oldest leaves go when they are old, and no root says which are gone:
//! whoever gives a channel may leave younger ones out as well. Others who have more can show it.

use session_core::channel::Channel;
use session_core::ids::ChannelId;
use session_core::limits::{TILE_LEAVES, TILE_LEVEL};
use session_core::log::{LogId, leaf_of};
use session_core::merkle::Frontier;
use session_core::record::RecordKey;

use super::{Cell, Cursor, SyncError};
use crate::view::{Table, View, ViewError, first_entry, read_record, tile_key};

/// Spans of a channel: roots of tiles whose leaves are gone, then the leaves that are left.
const TILES: u8 = 0;
const ENTRIES: u8 = 1;

/// After what to ask for a record's cells, so that its first is the first that comes.
pub const fn before(record: RecordKey) -> Cursor {
    Cursor {
        record,
        cell: Some((TILES, Vec::new())),
    }
}

/// Full tiles of a channel whose leaves are gone.
///
/// # Errors
/// [`ViewError`].
pub fn tiles_gone(view: &dyn View, channel: ChannelId) -> Result<u64, ViewError> {
    let first = match first_entry(view, &LogId::Channel(channel))? {
        Some((first, _)) => first,
        None => read_record::<Channel>(view, &RecordKey::Channel(channel))?
            .map_or(0, |channel| channel.log.count()),
    };
    Ok(first / TILE_LEAVES)
}

/// Whether another peer's cells of a channel, asked for from [`before`] it on, show leaves before
/// those that were taken over.
///
/// # Errors
/// [`SyncError::OtherCell`] where the leaves are not the channel's, [`SyncError::View`].
pub fn begins_before(
    view: &dyn View,
    channel: ChannelId,
    cells: &[Cell],
) -> Result<bool, SyncError> {
    let record = RecordKey::Channel(channel);
    let of = |span: u8| move |cell: &&Cell| cell.record == record && cell.span == span;
    let first = cells.iter().filter(of(TILES)).count() as u64;
    let mut leaves = cells.iter().filter(of(ENTRIES)).peekable();
    if first >= tiles_gone(view, channel)? || leaves.peek().is_none() {
        return Ok(false);
    }
    let mut tile = Frontier::new();
    for cell in leaves.take(usize::try_from(TILE_LEAVES).unwrap_or(usize::MAX)) {
        let pushed = tile.push(leaf_of(&cell.value), |_, _, _| ());
        pushed.map_err(|error| SyncError::Log(record, error))?;
    }
    let root = tile_key(&LogId::Channel(channel), TILE_LEVEL, first);
    let root = view.get(Table::Tile, &root)?;
    let shown = tile.peaks().first().map(<[u8; 32]>::as_slice);
    if tile.count() == TILE_LEAVES && shown == root.as_deref() {
        return Ok(true);
    }
    Err(SyncError::OtherCell(record, Table::Entry))
}
