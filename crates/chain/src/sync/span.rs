//! Which cells belong to a record, and in which order they are sent.

use session_core::codec::Encode;
use session_core::limits::TILE_LEVEL;
use session_core::log::LogId;
use session_core::record::RecordKey;

use super::beginning::tiles_gone;
use crate::view::{
    Table, View, ViewError, account_keys_key, group_keys_prefix, key_packages_prefix,
    legacy_key_key, prefix_end, rotation_key, session_keys_key, taken_key_packages_prefix,
    tile_key,
};

/// Cells of one table whose keys begin alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) table: Table,
    pub(super) prefix: Vec<u8>,
    /// Suffixes from here on, below `to`; none for all.
    pub(super) to: Option<Vec<u8>>,
}

impl Span {
    const fn all(table: Table, prefix: Vec<u8>) -> Self {
        let to = None;
        Self { table, prefix, to }
    }

    /// The one cell of that key.
    fn one(table: Table, key: Vec<u8>) -> Self {
        Self {
            table,
            prefix: key,
            to: Some(vec![0]),
        }
    }

    /// Key of the cell.
    pub(super) fn key(&self, suffix: &[u8]) -> Vec<u8> {
        [self.prefix.as_slice(), suffix].concat()
    }

    /// The key after its last.
    pub(super) fn end(&self) -> Vec<u8> {
        match &self.to {
            Some(to) => self.key(to),
            None => prefix_end(&self.prefix),
        }
    }

    pub(super) fn holds(&self, suffix: &[u8]) -> bool {
        self.to.as_ref().is_none_or(|to| suffix < to.as_slice())
    }
}

fn log_span(table: Table, log: &LogId) -> Span {
    Span::all(table, log.to_bytes())
}

/// The roots of a log's tiles below `tiles`.
fn tile_span(log: &LogId, tiles: u64) -> Span {
    let mut prefix = tile_key(log, TILE_LEVEL, 0);
    prefix.truncate(LogId::LEN + 1);
    Span {
        table: Table::Tile,
        prefix,
        to: Some(tiles.to_be_bytes().to_vec()),
    }
}

/// Where the cells lie that belong to a record of this kind, in the order in which they are sent.
pub(super) fn spans(key: &RecordKey) -> Vec<Span> {
    match key {
        RecordKey::Session(id) => {
            let log = LogId::Session(*id);
            vec![
                Span::one(Table::Roster, id.as_bytes().to_vec()),
                Span::all(Table::Keys, session_keys_key(id, None)),
                log_span(Table::Entry, &log),
                log_span(Table::Body, &log),
            ]
        }
        RecordKey::Channel(id) => {
            let log = LogId::Channel(*id);
            vec![
                tile_span(&log, u64::MAX),
                log_span(Table::Entry, &log),
                log_span(Table::Body, &log),
            ]
        }
        RecordKey::Group(id) => {
            let log = LogId::Group(*id);
            vec![
                tile_span(&log, u64::MAX),
                log_span(Table::Entry, &log),
                Span::all(Table::Keys, group_keys_prefix(id)),
                log_span(Table::Body, &log),
            ]
        }
        RecordKey::KeyPackages(id) => vec![Span::all(Table::Body, key_packages_prefix(id))],
        RecordKey::TakenKeyPackages(by, of) => {
            vec![Span::all(Table::Body, taken_key_packages_prefix(by, of))]
        }
        RecordKey::Account(id) => {
            let mut rotations = rotation_key(id, 0);
            rotations.truncate(rotations.len().saturating_sub(4));
            vec![
                Span::one(Table::Keys, account_keys_key(id)),
                Span::one(Table::Keys, legacy_key_key(id)),
                Span::all(Table::Keys, rotations),
                log_span(Table::Entry, &LogId::Memberships(*id)),
                log_span(Table::Entry, &LogId::Requests(*id)),
            ]
        }
        RecordKey::Chunk(id) => vec![Span::one(Table::Body, id.as_bytes().to_vec())],
        RecordKey::Parameters
        | RecordKey::Quotas
        | RecordKey::Member(..)
        | RecordKey::Acknowledgement(..)
        | RecordKey::OpenRequests(..)
        | RecordKey::Action(_) => Vec::new(),
    }
}

/// The same as they lie in `view`: of the tiles of a channel or a group only those whose leaves are
/// gone.
///
/// # Errors
/// [`ViewError`].
pub(super) fn spans_in(view: &dyn View, key: &RecordKey) -> Result<Vec<Span>, ViewError> {
    let mut spans = spans(key);
    if let Some(tiles) = spans.first_mut()
        && tiles.table == Table::Tile
        && let Some(log) = log_of(key)
    {
        *tiles = tile_span(&log, tiles_gone(view, *key)?);
    }
    Ok(spans)
}

/// Ranges of every cell that belongs to a record and is sent with it: table, first key, the key
/// after the last.
pub fn cells_of(key: &RecordKey) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
    let spans = spans(key).into_iter();
    spans
        .map(|span| {
            // Tiles above the ones that are sent are made of them.
            if span.table == Table::Tile {
                let mut log = span.prefix;
                log.truncate(LogId::LEN);
                let end = prefix_end(&log);
                return (span.table, log, end);
            }
            let end = span.end();
            (span.table, span.prefix, end)
        })
        .collect()
}

/// The log of a conversation's record.
pub(super) const fn log_of(key: &RecordKey) -> Option<LogId> {
    match key {
        RecordKey::Session(id) => Some(LogId::Session(*id)),
        RecordKey::Channel(id) => Some(LogId::Channel(*id)),
        RecordKey::Group(id) => Some(LogId::Group(*id)),
        RecordKey::Parameters
        | RecordKey::Quotas
        | RecordKey::Account(_)
        | RecordKey::Member(..)
        | RecordKey::Acknowledgement(..)
        | RecordKey::OpenRequests(..)
        | RecordKey::Chunk(_)
        | RecordKey::Action(_)
        | RecordKey::KeyPackages(_)
        | RecordKey::TakenKeyPackages(..) => None,
    }
}
