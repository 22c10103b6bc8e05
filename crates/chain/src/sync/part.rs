//! The records of one part of the state, and then what belongs to each of them.

use session_core::channel::Channel;
use session_core::codec::{Decode, Reader};
use session_core::group::Group;
use session_core::key_package::{KeyPackages, TakenKeyPackages};
use session_core::limits::TILE_LEAVES;
use session_core::log::{Entry, LogId};
use session_core::merkle::Hash;
use session_core::record::{Action, Chunk, RecordKey, value_hash};
use session_core::session::Session;
use session_core::time::Time;

use super::object::Object;
use super::{Cell, Cursor, PART_BYTES_MAX, Part, Rules, SyncError};
use crate::tree::{Branch, Change, first_bits};
use crate::view::{Changes, Overlay, Table, View, deadline_key};

/// Cells that are derived in one step.
const DERIVE_CELLS: usize = 2_000;

/// Bytes that a record costs here beside its own.
const LEAF_BYTES: usize = 128;

/// The records of one part, as they come.
pub struct Records {
    part: Part,
    branch: Branch,
    leaves: Vec<Change>,
    bytes: usize,
    last: Option<(Hash, RecordKey)>,
}

impl Records {
    /// Expects the records below this branch.
    pub const fn new(part: Part, branch: Branch) -> Self {
        Self {
            part,
            branch,
            leaves: Vec::new(),
            bytes: 0,
            last: None,
        }
    }

    /// After which record to go on.
    pub fn after(&self) -> Option<RecordKey> {
        self.last.map(|(_, key)| key)
    }

    /// Takes the next of them in; `true` when they are whole, and are those of the branch.
    ///
    /// # Errors
    /// [`SyncError`]: none of them is to be kept.
    pub fn take(
        &mut self,
        records: &[(RecordKey, Vec<u8>)],
        done: bool,
    ) -> Result<bool, SyncError> {
        let disorder = SyncError::Disorder(self.part);
        // Whoever has nothing more says so.
        if records.is_empty() && !done {
            return Err(disorder);
        }
        for (key, record) in records {
            let place = key.tree_key();
            let follows = self.last.is_none_or(|(last, _)| last < place);
            let inside = first_bits(&place, self.part.depth) == self.part.number;
            self.bytes += record.len() + LEAF_BYTES;
            if !follows || !inside || self.bytes > PART_BYTES_MAX {
                return Err(disorder);
            }
            self.leaves.push((place, Some(value_hash(record))));
            self.last = Some((place, *key));
        }
        if !done {
            return Ok(false);
        }
        let leaves = std::mem::take(&mut self.leaves);
        if Branch::over(self.part.depth, leaves) == self.branch {
            return Ok(true);
        }
        Err(SyncError::OtherRecords(self.part))
    }
}

/// What belongs to the records of one part, as it comes.
pub struct Objects {
    keys: Vec<RecordKey>,
    /// How many are whole.
    whole: usize,
    open: Option<Object>,
    /// The one that was open when a peer was refused.
    broken: Option<RecordKey>,
}

impl Objects {
    /// Expects what belongs to these records, which are known to be in the state, in the order of
    /// their tree keys. All other records of the state are there already.
    pub const fn new(keys: Vec<RecordKey>) -> Self {
        Self {
            keys,
            whole: 0,
            open: None,
            broken: None,
        }
    }

    /// After which cell to go on, where `last` was the last one that came.
    pub fn after(&self, last: Option<&Cell>) -> Option<Cursor> {
        match (last, self.whole.checked_sub(1)) {
            (Some(cell), _) if self.open.is_some() => Some(Cursor {
                record: cell.record,
                cell: Some((cell.span, cell.suffix.clone())),
            }),
            (_, Some(before)) => self.keys.get(before).map(|record| Cursor {
                record: *record,
                cell: None,
            }),
            (_, None) => None,
        }
    }

    /// The record that is not whole yet, and whose cells are to be forgotten where another peer
    /// goes on.
    pub fn give_up(&mut self) -> Option<RecordKey> {
        let open = self.open.take().map(|object| object.key());
        self.broken.take().or(open)
    }

    /// Takes the next cells in; `true` when everything is there.
    ///
    /// # Errors
    /// [`SyncError`]: nothing of these cells is to be kept, nor what came before of the record that
    /// [`Objects::give_up`] names.
    pub fn take(
        &mut self,
        cells: Vec<Cell>,
        done: bool,
        over: &mut Overlay<'_>,
        rules: &Rules<'_>,
    ) -> Result<bool, SyncError> {
        let (whole, open) = (self.whole, self.open.as_ref().map(Object::key));
        let taken = self.take_all(cells, done, over, rules);
        if taken.is_err() {
            (self.whole, self.broken, self.open) = (whole, open, None);
        }
        taken
    }

    fn take_all(
        &mut self,
        cells: Vec<Cell>,
        done: bool,
        over: &mut Overlay<'_>,
        rules: &Rules<'_>,
    ) -> Result<bool, SyncError> {
        // Whoever has nothing more says so.
        if cells.is_empty() && !done {
            return Err(SyncError::OtherAnswer);
        }
        for cell in cells {
            let record = cell.record;
            while self.open.as_ref().is_none_or(|open| open.key() != record) {
                if !self.next(over)? {
                    return Err(SyncError::StrangeCell(record));
                }
            }
            if let Some(open) = &mut self.open {
                open.take(cell, over, rules)?;
            }
        }
        if done {
            while self.next(over)? {}
        }
        Ok(done)
    }

    /// Ends the open record and begins the next one; false when there is none.
    fn next(&mut self, over: &Overlay<'_>) -> Result<bool, SyncError> {
        if let Some(open) = self.open.take() {
            open.end(over)?;
            self.whole += 1;
        }
        while let Some(key) = self.keys.get(self.whole) {
            self.open = Object::begin(over, *key)?;
            if self.open.is_some() {
                return Ok(true);
            }
            self.whole += 1;
        }
        Ok(false)
    }
}

/// Ids of messages and deadlines, which follow from records and entries. Call it with where it
/// stopped, until it answers no such place.
///
/// # Errors
/// [`SyncError::Due`], [`SyncError::View`].
#[allow(clippy::type_complexity, reason = "changes, and where to go on")]
pub fn derive(
    view: &dyn View,
    after: Option<(Table, Vec<u8>)>,
    rules: &Rules<'_>,
) -> Result<(Changes, Option<(Table, Vec<u8>)>), SyncError> {
    let (table, from) = match after {
        None => (Table::Record, Vec::new()),
        Some((table, mut last)) => {
            last.push(0);
            (table, last)
        }
    };
    let cells = view.range(table, &from, &[0xff; 80], DERIVE_CELLS)?;
    let mut changes = Changes::new();
    for (key, value) in &cells {
        let due = if table == Table::Entry {
            derive_entry(key, value, rules, &mut changes)?
        } else {
            deadline_of(key, value, rules)?
        };
        let Some((at, record)) = due else { continue };
        if at <= rules.header.time {
            return Err(SyncError::Due(record));
        }
        let deadline = (Table::Deadline, deadline_key(at, &record));
        changes.insert(deadline, Some(Vec::new()));
    }
    let next = match cells.into_iter().next_back() {
        Some((last, _)) => Some((table, last)),
        // From records on to entries.
        None if table == Table::Record => Some((Table::Entry, Vec::new())),
        None => None,
    };
    Ok((changes, next))
}

/// When a record is due.
fn deadline_of(
    key: &[u8],
    record: &[u8],
    rules: &Rules<'_>,
) -> Result<Option<(Time, RecordKey)>, SyncError> {
    let kept = rules.parameters.retention_ms;
    let key = RecordKey::from_bytes(key)?;
    let at = match key {
        RecordKey::Session(_) => Some(Session::from_bytes(record)?.end().after_ms(kept)),
        RecordKey::Channel(_) => {
            let closed = Channel::from_bytes(record)?.closed;
            closed.map(|closed| closed.after_ms(kept))
        }
        RecordKey::Group(_) => Some(Group::from_bytes(record)?.deadline(kept)),
        RecordKey::KeyPackages(_) => KeyPackages::from_bytes(record)?.last_expiry(),
        RecordKey::TakenKeyPackages(..) => Some(TakenKeyPackages::from_bytes(record)?.expires),
        RecordKey::Chunk(_) => Some(Chunk::from_bytes(record)?.expires),
        RecordKey::Action(_) => Some(Action::from_bytes(record)?.expires),
        RecordKey::Parameters
        | RecordKey::Quotas
        | RecordKey::Account(_)
        | RecordKey::Member(..)
        | RecordKey::Acknowledgement(..)
        | RecordKey::OpenRequests(..) => None,
    };
    Ok(at.map(|at| (at, key)))
}

/// The id of a message, and the deadline of the tile that it fills.
fn derive_entry(
    key: &[u8],
    entry: &[u8],
    rules: &Rules<'_>,
    changes: &mut Changes,
) -> Result<Option<(Time, RecordKey)>, SyncError> {
    let entry = Entry::from_bytes(entry)?;
    let log = LogId::decode(&mut Reader::new(key))?;
    if let Some(id) = entry.message_id() {
        // A message's place is the key of its entry.
        let id = id.as_bytes().to_vec();
        changes.insert((Table::Message, id), Some(key.to_vec()));
    }
    let fills = (entry.sequence() + 1).is_multiple_of(TILE_LEAVES);
    let (filled, kept) = (entry.time(), rules.parameters.retention_ms);
    let due = match log {
        LogId::Channel(id) => Some((filled.after_ms(kept), RecordKey::Channel(id))),
        LogId::Group(id) => Some((Group::tile_deadline(filled, kept), RecordKey::Group(id))),
        LogId::Session(_) | LogId::Memberships(_) | LogId::Requests(_) => None,
    };
    Ok(due.filter(|_| fills))
}
