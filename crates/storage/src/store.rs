//! The contract: keyspaces, views, batches and durability.

use std::sync::Arc;

use crate::error::StoreError;

/// Longest key in bytes. Our longest is two 32-byte ids, a height and an index; the engine
/// stores lengths in 16 bits.
pub const KEY_BYTES_MAX: usize = 1024;

/// Longest value in bytes. A block body is the largest thing stored, and it is far below.
pub const VALUE_BYTES_MAX: usize = 64 * 1024 * 1024;

const MIB: u64 = 1024 * 1024;

/// A named, ordered map of keys to values inside the store.
///
/// To add one: a variant here, a line in [`Keyspace::ALL`], in [`Keyspace::name`] and, where the
/// small defaults do not fit, in [`Keyspace::options`]. Existing directories get it at their next
/// opening. Changing the *options* of an existing one does nothing to directories that have it
/// (the engine keeps what it was created with): such a change raises
/// [`KEYSPACES_VERSION`](crate::format::KEYSPACES_VERSION) and needs a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Keyspace {
    /// Head, genesis, configuration: a handful of keys.
    Meta,
    /// State records, one per leaf of the state tree.
    Records,
    /// Leaves of the append-only logs.
    Entries,
    /// Roots of 256-leaf tiles of the logs.
    Tiles,
    /// Message bodies: ciphertext and signature, about 4.5 kB each.
    Bodies,
    /// Blocks, by block id.
    Blocks,
    /// Block id and header, by height.
    Heights,
    /// Place of a message (log and index), by message id.
    Messages,
    /// What falls due, by time.
    Deadlines,
    /// Bodies of rosters and of public keys, about 2 to 4 kB each.
    Rosters,
    /// What steps replaced, by step: empty where nobody may want to go back.
    Undo,
    /// A device's sealed records: group state, chat keys, what waits to be sent and shown.
    Conversations,
}

/// How a keyspace is laid out on disk. Fixed when the keyspace is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyspaceOptions {
    /// Values of 1 KiB and more go to separate files, so that compaction does not rewrite them.
    pub large_values: bool,
    /// Size at which the table in memory is written out, in bytes.
    pub memtable_bytes: u64,
}

impl Keyspace {
    /// Every keyspace, in the order of their indexes.
    pub const ALL: [Self; 12] = [
        Self::Meta,
        Self::Records,
        Self::Entries,
        Self::Tiles,
        Self::Bodies,
        Self::Blocks,
        Self::Heights,
        Self::Messages,
        Self::Deadlines,
        Self::Rosters,
        Self::Undo,
        Self::Conversations,
    ];

    /// The name on disk and in backups. Never changes.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Records => "records",
            Self::Entries => "entries",
            Self::Tiles => "tiles",
            Self::Bodies => "bodies",
            Self::Blocks => "blocks",
            Self::Heights => "heights",
            Self::Messages => "messages",
            Self::Deadlines => "deadlines",
            Self::Rosters => "rosters",
            Self::Undo => "undo",
            Self::Conversations => "conversations",
        }
    }

    /// A byte that stands for it where tables share one ordered map. Never changes.
    pub const fn code(self) -> u8 {
        match self {
            Self::Meta => 1,
            Self::Records => 2,
            Self::Entries => 3,
            Self::Tiles => 4,
            Self::Bodies => 5,
            Self::Blocks => 6,
            Self::Heights => 7,
            Self::Messages => 8,
            Self::Deadlines => 9,
            Self::Rosters => 10,
            Self::Undo => 11,
            Self::Conversations => 12,
        }
    }

    /// The keyspace of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|keyspace| keyspace.name() == name)
    }

    /// Layout on disk.
    pub const fn options(self) -> KeyspaceOptions {
        match self {
            // 64 MiB instead of 16 costs 110 MB more memory and saves 1 % of the CPU, 256 MiB
            // another 8 %: not worth an idle node's memory.
            Self::Bodies => KeyspaceOptions {
                large_values: true,
                memtable_bytes: 32 * MIB,
            },
            Self::Blocks | Self::Rosters | Self::Undo => KeyspaceOptions {
                large_values: true,
                memtable_bytes: 16 * MIB,
            },
            // Cheaper inserts and half the memory of the engine's 64 MiB.
            Self::Meta
            | Self::Records
            | Self::Entries
            | Self::Tiles
            | Self::Heights
            | Self::Messages
            | Self::Deadlines
            // Overwritten at every message and commit: in segments that would be garbage.
            | Self::Conversations => KeyspaceOptions {
                large_values: false,
                memtable_bytes: 16 * MIB,
            },
        }
    }

    /// Position in [`Keyspace::ALL`].
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// Keys from an inclusive lower end to an exclusive upper end, in byte order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl KeyRange {
    /// `from <= key < to`. Empty when `from >= to`.
    pub fn new(from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) -> Self {
        Self {
            from: from.into(),
            to: Some(to.into()),
        }
    }

    /// Every key.
    pub const fn all() -> Self {
        Self {
            from: Vec::new(),
            to: None,
        }
    }

    /// `from <= key`, without an upper end.
    pub fn from(from: impl Into<Vec<u8>>) -> Self {
        Self {
            from: from.into(),
            to: None,
        }
    }

    /// `key` excluded, everything greater included: the next page after `key`.
    pub fn after(key: &[u8]) -> Self {
        let mut from = Vec::with_capacity(key.len() + 1);
        from.extend_from_slice(key);
        from.push(0);
        Self { from, to: None }
    }

    /// Every key that starts with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut to = prefix.to_vec();
        // The smallest key above the prefix: drop trailing 0xff, then add one.
        while let Some(last) = to.pop() {
            if let Some(next) = last.checked_add(1) {
                to.push(next);
                return Self {
                    from: prefix.to_vec(),
                    to: Some(to),
                };
            }
        }
        Self {
            from: prefix.to_vec(),
            to: None,
        }
    }

    /// The inclusive lower end; empty for the very first key.
    pub fn lower(&self) -> &[u8] {
        &self.from
    }

    /// The exclusive upper end, if there is one.
    pub fn upper(&self) -> Option<&[u8]> {
        self.to.as_deref()
    }

    /// Whether no key can be inside.
    pub fn is_empty(&self) -> bool {
        self.to.as_ref().is_some_and(|to| to <= &self.from)
    }
}

/// A key with its value.
pub type Pair = (Vec<u8>, Vec<u8>);

/// Reading: the live store and every snapshot of it.
pub trait View: Send + Sync {
    /// The value under `key`, or `None`.
    ///
    /// # Errors
    /// [`StoreError::EmptyKey`], [`StoreError::KeyTooLong`]; [`StoreError::Corrupt`] and
    /// [`StoreError::Io`] from the disk; [`StoreError::Closed`]; [`StoreError::SnapshotExpired`].
    fn get(&self, keyspace: Keyspace, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Whether there is a value under `key`.
    ///
    /// # Errors
    /// As [`View::get`].
    fn contains(&self, keyspace: Keyspace, key: &[u8]) -> Result<bool, StoreError>;

    /// At most `limit` pairs of `range`, in `direction`. One call sees one state of the store.
    ///
    /// # Errors
    /// As [`View::get`], without the two about keys.
    fn range(
        &self,
        keyspace: Keyspace,
        range: &KeyRange,
        limit: usize,
        direction: Direction,
    ) -> Result<Vec<Pair>, StoreError>;
}

/// A view that does not change while the store goes on.
pub type Snapshot = Box<dyn View>;

/// When [`Store::commit`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// After the batch, and everything committed before it, has been handed to the disk and the
    /// disk said it is safe (`fdatasync`). Survives a kill of the process and a loss of power.
    /// Nobody can read the batch before that.
    Synced,
    /// After the batch has been handed to the operating system. Survives a kill of the process,
    /// not a loss of power. Readers see it at once: what must not be said before it is durable
    /// has to wait for the next `Synced` commit. Batches are still lost or kept whole, and never
    /// out of order.
    Buffered,
}

/// Whether a store takes writes.
#[derive(Clone, Debug)]
pub enum Health {
    /// It does.
    Ready,
    /// A write or a sync failed with this error. Reads go on, writes are refused until
    /// [`Store::recover`] has succeeded.
    Failed(StoreError),
    /// [`Store::close`] was called.
    Closed,
}

/// A set of named ordered maps with atomic batches. Shared between threads.
pub trait Store: View {
    /// A consistent view of this moment. It costs nothing to make; while it lives, old values it
    /// can see are kept, so do not keep it for long.
    ///
    /// # Errors
    /// [`StoreError::Closed`], [`StoreError::Failed`] after a recovery that did not succeed.
    fn snapshot(&self) -> Result<Snapshot, StoreError>;

    /// Applies all of `batch` or nothing of it.
    ///
    /// # Errors
    /// Refused before anything was written, the store stays as it was and usable:
    /// [`StoreError::EmptyKey`], [`StoreError::KeyTooLong`], [`StoreError::ValueTooLong`],
    /// [`StoreError::Closed`], [`StoreError::Failed`], and [`StoreError::NoSpace`] with
    /// `written: false`.
    ///
    /// Any other error came from the write or the sync itself. Whether the batch will be there
    /// is then **unknown** until [`Store::recover`] (or the next opening) has decided: wholly or
    /// not at all. Further writes get [`StoreError::Failed`] until then.
    fn commit(&self, batch: Batch, durability: Durability) -> Result<(), StoreError>;

    /// Writes everything in memory to its final place, so that a start after this replays
    /// nothing. For idle moments.
    ///
    /// # Errors
    /// As [`Store::commit`].
    fn flush(&self) -> Result<(), StoreError>;

    /// After a failed write: starts over from what the disk really holds. Every batch that was
    /// acknowledged as `Synced` is there. Snapshots from before answer
    /// [`StoreError::SnapshotExpired`]. Does nothing to a store that is ready.
    ///
    /// # Errors
    /// What stood in the way, for instance [`StoreError::NoSpace`]; it can be tried again.
    fn recover(&self) -> Result<(), StoreError>;

    /// Whether writes are taken.
    fn health(&self) -> Health;

    /// How many steps ([`Batch::step`]) can be undone later: what they need must stay.
    fn steps_kept(&self) -> u64 {
        0
    }

    /// Flushes and lets go of the directory. Further calls get [`StoreError::Closed`]; a second
    /// `close` does nothing. Dropping a store without it loses nothing that was committed, the
    /// next start just takes longer.
    ///
    /// # Errors
    /// As [`Store::flush`]; the store is closed even then.
    fn close(&self) -> Result<(), StoreError>;

    /// Bytes on disk, journals included; for a store in memory, bytes of keys and values.
    ///
    /// # Errors
    /// [`StoreError::Closed`], [`StoreError::Io`].
    fn disk_bytes(&self) -> Result<u64, StoreError>;

    /// Bytes of memory that old values take which snapshots still see, as far as the store keeps
    /// them there itself.
    fn held_bytes(&self) -> usize {
        0
    }

    /// A second place for every keyspace, to fill with another state; none where the store has
    /// no such place.
    fn staging(&self) -> Option<Arc<dyn Staging>> {
        None
    }
}

/// A second place for every keyspace beside the current ones. A whole new state is written there
/// bit by bit and then takes the place of the current one at once. It has no versions.
pub trait Staging: View {
    /// What was noted with the last [`Staging::write`]; none: nothing is under way.
    ///
    /// # Errors
    /// [`StoreError`].
    fn note(&self) -> Result<Option<Vec<u8>>, StoreError>;

    /// Writes all of `batch`, and how far one has come with it, where that is given; or nothing.
    ///
    /// # Errors
    /// [`StoreError`]; whether it was written is unknown then.
    fn write(&self, batch: Batch, note: Option<&[u8]>) -> Result<(), StoreError>;

    /// Whether nothing is there.
    ///
    /// # Errors
    /// [`StoreError`].
    fn is_empty(&self) -> Result<bool, StoreError>;

    /// Empties the place, the note first: what is interrupted is no state that anybody goes on
    /// from.
    ///
    /// # Errors
    /// [`StoreError`].
    fn clear(&self) -> Result<(), StoreError>;

    /// Makes this place the current one, and the current one this. Snapshots of before stay as
    /// they are until the place is cleared.
    ///
    /// # Errors
    /// [`StoreError`]; whether it was done is unknown then, until the store is opened anew.
    fn promote(&self) -> Result<(), StoreError>;
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    pub(crate) keyspace: Keyspace,
    pub(crate) key: Vec<u8>,
    /// `None` deletes.
    pub(crate) value: Option<Vec<u8>>,
    /// The caller knows that the key is not there yet.
    pub(crate) new: bool,
}

/// Changes that become visible and durable together. Where a key occurs twice the later change
/// wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    ops: Vec<Op>,
    bytes: usize,
    step: Option<u64>,
}

impl Batch {
    /// A batch that changes nothing.
    pub const fn new() -> Self {
        Self {
            ops: Vec::new(),
            bytes: 0,
            step: None,
        }
    }

    /// Makes the batch a step with a number: a store that can go back ([`Rewindable`]) remembers
    /// what it replaces. Steps come one number after the other.
    ///
    /// [`Rewindable`]: crate::Rewindable
    pub const fn step(&mut self, number: u64) -> &mut Self {
        self.step = Some(number);
        self
    }

    /// The number, if it is a step.
    pub const fn step_number(&self) -> Option<u64> {
        self.step
    }

    /// Sets `key` to `value`.
    pub fn put(
        &mut self,
        keyspace: Keyspace,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> &mut Self {
        self.push(Op {
            keyspace,
            key: key.into(),
            value: Some(value.into()),
            new: false,
        })
    }

    /// Sets `key`, which is not there yet: spares the store from looking. Where that is wrong the
    /// new value counts all the same, but the room of the old one may not come back.
    pub fn put_new(
        &mut self,
        keyspace: Keyspace,
        key: impl Into<Vec<u8>>,
        value: impl Into<Vec<u8>>,
    ) -> &mut Self {
        self.push(Op {
            keyspace,
            key: key.into(),
            value: Some(value.into()),
            new: true,
        })
    }

    /// Removes `key`; nothing happens if it is not there.
    pub fn delete(&mut self, keyspace: Keyspace, key: impl Into<Vec<u8>>) -> &mut Self {
        self.push(Op {
            keyspace,
            key: key.into(),
            value: None,
            new: false,
        })
    }

    /// Adds the changes of `later` after these. Two steps cannot be one: the later's number counts.
    pub fn append(&mut self, mut later: Self) -> &mut Self {
        self.step = later.step.or(self.step);
        self.bytes = self.bytes.saturating_add(later.bytes);
        self.ops.append(&mut later.ops);
        self
    }

    /// Number of changes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// Bytes of all keys and values.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes in order: keyspace, key, and the new value or `None` for a deletion.
    pub fn changes(&self) -> impl Iterator<Item = (Keyspace, &[u8], Option<&[u8]>)> {
        self.ops
            .iter()
            .map(|op| (op.keyspace, op.key.as_slice(), op.value.as_deref()))
    }

    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Checks every key and value against the limits. [`Store::commit`] does it as well; callers
    /// that queue batches use it to refuse a bad one before it joins others.
    ///
    /// # Errors
    /// [`StoreError::EmptyKey`], [`StoreError::KeyTooLong`], [`StoreError::ValueTooLong`].
    pub fn check(&self) -> Result<(), StoreError> {
        for op in &self.ops {
            check_key(op.keyspace, &op.key)?;
            let bytes = op.value.as_ref().map_or(0, Vec::len);
            if bytes > VALUE_BYTES_MAX {
                return Err(StoreError::ValueTooLong {
                    keyspace: op.keyspace,
                    bytes,
                    limit: VALUE_BYTES_MAX,
                });
            }
        }
        Ok(())
    }

    /// Whether it only deletes, so that it frees space in the end.
    pub(crate) fn only_deletes(&self) -> bool {
        self.ops.iter().all(|op| op.value.is_none())
    }

    /// The changes with each key once, sorted: the engine gives all changes of a batch one
    /// number, so it cannot tell which of two came last.
    pub(crate) fn into_final_ops(mut self) -> Vec<Op> {
        // Stable, so that the later of two equal keys stays behind the earlier.
        self.ops
            .sort_by(|a, b| (a.keyspace, &a.key).cmp(&(b.keyspace, &b.key)));
        let mut last_of_each: Vec<Op> = Vec::with_capacity(self.ops.len());
        for op in self.ops {
            match last_of_each.last_mut() {
                Some(last) if last.keyspace == op.keyspace && last.key == op.key => {
                    let new = last.new;
                    *last = op;
                    last.new = new;
                }
                Some(_) | None => last_of_each.push(op),
            }
        }
        last_of_each
    }

    fn push(&mut self, op: Op) -> &mut Self {
        let bytes = op
            .key
            .len()
            .saturating_add(op.value.as_ref().map_or(0, Vec::len));
        self.bytes = self.bytes.saturating_add(bytes);
        self.ops.push(op);
        self
    }
}

/// Refuses keys no store takes. The engine panics on empty ones.
pub(crate) fn check_key(keyspace: Keyspace, key: &[u8]) -> Result<(), StoreError> {
    if key.is_empty() {
        return Err(StoreError::EmptyKey { keyspace });
    }
    if key.len() > KEY_BYTES_MAX {
        return Err(StoreError::KeyTooLong {
            keyspace,
            bytes: key.len(),
            limit: KEY_BYTES_MAX,
        });
    }
    Ok(())
}
