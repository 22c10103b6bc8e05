//! What the engine does not check about its journals, and how to start them afresh.
//!
//! The engine stops reading a journal at the first thing it does not understand and cuts the
//! rest off. After a crash that is right: the rest is a batch nobody was told about. After
//! damage it is silent loss of everything behind. So every journal is read once before the
//! engine does, and the two are told apart.
//!
//! ```text
//! journal = batch* zero*                       (preallocated with zeros)
//! batch   = 01 | u32 items | u64 number | item* | 03 | u64 xxh3 of items | "FJL" 03
//! item    = 02 | u8 kind | 00 | u64 keyspace | u16 key bytes | u32 value bytes
//!              | u32 stored bytes | key | value          (all little endian)
//!         | 04 | u64 keyspace
//! ```

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::xxh3_64;

use crate::error::StoreError;
use crate::format::sync_directory;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: &[u8] = &[b'F', b'J', b'L', 3];

/// A batch behind damage must be a plausible successor, so that bytes inside a value that look
/// like a batch do not pass for one. The engine numbers batches and keyspaces in one sequence.
const NUMBER_GAP_MAX: u64 = 1 << 20;

/// What to do about a damaged journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DamagedJournal {
    /// Refuse to open: somebody should look, and restore a backup or decide to lose data.
    #[default]
    Refuse,
    /// Cut the newest journal off in front of the damage and lose what is behind it. Also the
    /// way on after a loss of power while several [`Buffered`](crate::Durability::Buffered)
    /// commits were on their way, which disks may write out of order.
    CutOff,
}

/// Reads every journal in `db` and says how many there are. Only the newest may end in an
/// unfinished batch.
pub(crate) fn check(db: &Path, damaged: DamagedJournal) -> Result<usize, StoreError> {
    let mut journals = list(db)?;
    let count = journals.len();
    let newest = journals.pop();
    for (_, path) in &journals {
        check_one(path, false).map_err(|damage| damage.error)?;
    }
    let Some((_, path)) = newest else {
        return Ok(count);
    };
    match (check_one(&path, true), damaged) {
        (Ok(()), _) => Ok(count),
        (
            Err(Damage {
                position: Some(position),
                ..
            }),
            DamagedJournal::CutOff,
        ) => File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_len(position).and_then(|()| file.sync_all()))
            .map(|()| count)
            .map_err(StoreError::io(&path, "cut off")),
        (Err(damage), DamagedJournal::Refuse | DamagedJournal::CutOff) => Err(damage.error),
    }
}

struct Damage {
    /// Up to where the journal is whole.
    position: Option<u64>,
    error: StoreError,
}

/// Puts an empty journal in place of all there are. Only right when everything in them has been
/// written to tables and the engine is closed. A crash halfway leaves old journals in front of
/// the empty one: the engine sees that their content is in the tables already.
///
/// Besides the quick start this is what makes a failed sync harmless: the system may have kept
/// pages in memory that never reached the disk, so nothing is ever appended behind them.
pub(crate) fn retire(db: &Path) -> Result<(), StoreError> {
    let journals = list(db)?;
    let Some((newest, _)) = journals.last() else {
        return Ok(());
    };
    let empty = db.join(format!("{}.jnl", newest.saturating_add(1)));
    File::create_new(&empty)
        .and_then(|file| file.sync_all())
        .map_err(StoreError::io(&empty, "create"))?;
    sync_directory(db)?;
    for (_, path) in &journals {
        fs::remove_file(path).map_err(StoreError::io(path, "remove"))?;
    }
    sync_directory(db)
}

/// Numbered journals, oldest first.
fn list(db: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let mut journals = Vec::new();
    let entries = match fs::read_dir(db) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(journals),
        Err(error) => return Err(StoreError::io(db, "list")(error)),
    };
    for entry in entries {
        let path = entry.map_err(StoreError::io(db, "list"))?.path();
        if path.extension().is_some_and(|extension| extension == "jnl") {
            let number = path
                .file_stem()
                .and_then(|stem| stem.to_str()?.parse().ok());
            journals.push((
                number.ok_or_else(|| damaged(&path, "the name of a journal"))?,
                path,
            ));
        }
    }
    journals.sort();
    Ok(journals)
}

fn check_one(path: &Path, may_be_torn: bool) -> Result<(), Damage> {
    let bytes = fs::read(path).map_err(|error| Damage {
        position: None,
        error: StoreError::io(path, "read")(error),
    })?;
    let written = written_bytes(&bytes);
    let mut rest = bytes.as_slice();
    let mut number = None;
    let mut disordered = false;
    while let Some((batch, behind)) = read_batch(rest) {
        disordered = number.is_some_and(|previous| batch <= previous);
        if disordered {
            break;
        }
        number = Some(batch);
        rest = behind;
    }
    let position = bytes.len() - rest.len();
    let tail = bytes.get(position..written).unwrap_or_default();
    let what = if disordered {
        "the order of batches in a journal"
    } else if tail.is_empty() {
        return Ok(());
    } else if !may_be_torn {
        "a batch in a finished journal"
    } else if tail.ends_with(TRAILER) || has_damaged_trailer(tail) {
        "the last batch in the journal, which was written to its end"
    } else if has_batch_inside(tail.get(1..).unwrap_or_default(), number.unwrap_or(0)) {
        "a batch in the journal, with whole batches behind it"
    } else {
        return Ok(());
    };
    Err(Damage {
        position: u64::try_from(position).ok(),
        error: damaged(path, what),
    })
}

/// Up to and including the last byte that is not zero.
fn written_bytes(bytes: &[u8]) -> usize {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut bytes = bytes;
    // A page at a time: most of a journal's 64 MiB are zeros.
    while let Some(shorter) = bytes.strip_suffix(&ZEROS) {
        bytes = shorter;
    }
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |last| last + 1)
}

/// Whether a whole batch that could follow number `previous` starts anywhere in `tail`.
fn has_batch_inside(tail: &[u8], previous: u64) -> bool {
    let plausible = previous.saturating_add(1)..=previous.saturating_add(NUMBER_GAP_MAX);
    (0..tail.len()).any(|position| {
        tail.get(position..).is_some_and(|from| {
            let numbered = from.get(5..13).and_then(|bytes| bytes.try_into().ok());
            from.first() == Some(&START)
                && numbered.is_some_and(|bytes| plausible.contains(&u64::from_le_bytes(bytes)))
                && read_batch(from).is_some()
        })
    })
}

/// Whether `tail`, up to the last byte that was written, is a whole batch but for its trailer.
/// A write that was interrupted there leaves a part of the trailer, and nothing else.
fn has_damaged_trailer(tail: &[u8]) -> bool {
    read_but_trailer(tail).is_some_and(|(_, trailer)| !TRAILER.starts_with(trailer))
}

/// The number of the batch at the start of `bytes` and what is behind it; `None` if there is no
/// whole and undamaged one.
fn read_batch(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, trailer) = read_but_trailer(bytes)?;
    Some((number, trailer.strip_prefix(TRAILER)?))
}

fn read_but_trailer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut rest = bytes;
    if take::<1>(&mut rest)? != [START] {
        return None;
    }
    let items = u32::from_le_bytes(take(&mut rest)?);
    let number = u64::from_le_bytes(take(&mut rest)?);
    let body = rest;
    for _ in 0..items {
        skip_item(&mut rest)?;
    }
    let body = body.get(..body.len() - rest.len())?;
    if take::<1>(&mut rest)? != [END] {
        return None;
    }
    let checksum = u64::from_le_bytes(take(&mut rest)?);
    (checksum == xxh3_64(body)).then_some((number, rest))
}

fn skip_item(rest: &mut &[u8]) -> Option<()> {
    match take::<1>(rest)? {
        [ITEM] => {
            let [_kind, compression] = take(rest)?;
            let _keyspace = take::<8>(rest)?;
            let key_bytes = u16::from_le_bytes(take(rest)?);
            let value_bytes = u32::from_le_bytes(take(rest)?);
            let stored_bytes = u32::from_le_bytes(take(rest)?);
            if compression != 0 || value_bytes != stored_bytes {
                return None;
            }
            let bytes = usize::from(key_bytes).checked_add(usize::try_from(stored_bytes).ok()?)?;
            *rest = rest.get(bytes..)?;
            Some(())
        }
        [CLEAR] => take::<8>(rest).map(drop),
        _ => None,
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk::<N>()?;
    *rest = behind;
    Some(*taken)
}

fn damaged(path: &Path, what: &'static str) -> StoreError {
    StoreError::corrupt(path, what)
}
