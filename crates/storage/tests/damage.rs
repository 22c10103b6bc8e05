//! Flipped and missing bytes: an error, or no difference. Never a panic, never silent loss.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use session_storage::{
    Batch, DamagedJournal, Direction, DiskOptions, DiskStore, Durability, KeyRange, Keyspace,
    Store, StoreError, View,
};

const BATCHES: u64 = 40;

type Content = BTreeMap<(Keyspace, Vec<u8>), Vec<u8>>;

/// The states of the store after each batch.
fn fill(directory: &Path) -> Vec<Content> {
    let store = DiskStore::open(directory).expect("open");
    let mut states = vec![Content::new()];
    for number in 0..BATCHES {
        let mut state = states[number as usize].clone();
        let mut batch = Batch::new();
        for (index, keyspace) in Keyspace::ALL.into_iter().enumerate() {
            let key = number.to_be_bytes().to_vec();
            // The separated keyspaces get large values too.
            let bytes = match (number % 4, keyspace) {
                // Enough for a file of their own.
                (0, Keyspace::Bodies) => 14_000,
                (0, _) => 3_000,
                _ => 30 + index,
            };
            let value = vec![number as u8 ^ index as u8; bytes];
            batch.put(keyspace, key.clone(), value.clone());
            state.insert((keyspace, key), value);
        }
        store.commit(batch, Durability::Synced).expect("commit");
        states.push(state);
        // Half of it in tables, half in the journal only.
        if number == BATCHES / 2 {
            store.flush().expect("flush");
        }
    }
    drop(store);
    // Without the zeros that journals are preallocated with: 64 MiB in every copy.
    for path in files(directory).into_iter().filter(|path| is_journal(path)) {
        let mut bytes = fs::read(&path).expect("read");
        while let Some(shorter) = bytes.strip_suffix(&[0; 1024]) {
            bytes.truncate(shorter.len());
        }
        bytes.truncate(
            bytes
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1),
        );
        fs::write(path, bytes).expect("write");
    }
    states
}

fn read(store: &DiskStore) -> Result<Content, StoreError> {
    let mut content = Content::new();
    for keyspace in Keyspace::ALL {
        let pairs = store.range(keyspace, &KeyRange::all(), 10_000, Direction::Ascending)?;
        content.extend(
            pairs
                .into_iter()
                .map(|(key, value)| ((keyspace, key), value)),
        );
    }
    // By key as well: it is another way through the files.
    for ((keyspace, key), value) in &content {
        assert_eq!(store.get(*keyspace, key)?.as_ref(), Some(value));
    }
    Ok(content)
}

fn open_and_read(directory: &Path) -> Result<Content, StoreError> {
    let store = DiskStore::open(directory)?;
    let content = read(&store)?;
    Ok(content)
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).expect("list").flatten() {
        if entry.path().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

/// The store with one file changed by `damage`, opened and read.
fn with_damage(
    original: &Path,
    damaged: &Path,
    damage: impl Fn(&mut Vec<u8>),
) -> Result<Content, StoreError> {
    let copy = scratch();
    for path in files(original) {
        let to = copy
            .path()
            .join(path.strip_prefix(original).expect("inside"));
        fs::create_dir_all(to.parent().expect("a parent")).expect("create");
        let mut bytes = fs::read(&path).expect("read");
        if path == damaged {
            damage(&mut bytes);
        }
        fs::write(to, bytes).expect("write");
    }
    open_and_read(copy.path())
}

/// A directory in memory where there is one: hundreds of stores are made here.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    made.expect("a directory")
}

/// How many places of each file are damaged; `SESSION_DAMAGE_STEPS` for more.
fn steps() -> usize {
    std::env::var("SESSION_DAMAGE_STEPS")
        .ok()
        .and_then(|steps| steps.parse().ok())
        .unwrap_or(3)
}

fn is_journal(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "jnl")
}

#[test]
fn a_flipped_bit_anywhere_is_an_error_or_makes_no_difference() {
    let directory = scratch();
    let states = fill(directory.path());
    let all = states.last().expect("states");
    assert!(open_and_read(directory.path()).expect("undamaged") == *all);
    let mut noticed = 0;
    let mut total = 0;
    for path in files(directory.path()) {
        let length = fs::metadata(&path).expect("metadata").len() as usize;
        let steps = if is_journal(&path) {
            10 * steps()
        } else {
            steps()
        };
        for step in 0..steps.min(length) {
            // The first, the last, and what is between.
            let position = step * (length - 1) / (steps - 1).max(1);
            let bit = 1_u8 << (step % 8);
            total += 1;
            match with_damage(directory.path(), &path, |bytes| bytes[position] ^= bit) {
                Ok(content) => assert!(
                    content == *all,
                    "{} of {} entries: bit {bit:02x} of byte {position} of {length} in {}",
                    content.len(),
                    all.len(),
                    path.display()
                ),
                Err(_) => noticed += 1,
            }
        }
    }
    println!("{noticed} of {total} flips noticed, the others made no difference");
    assert!(noticed > total / 2);
}

#[test]
fn a_file_cut_short_or_missing_is_an_error_or_loses_only_the_journals_end() {
    let directory = scratch();
    let states = fill(directory.path());
    let all = states.last().expect("states");
    for path in files(directory.path()) {
        let length = fs::metadata(&path).expect("metadata").len() as usize;
        for keep in [length / 2, length.saturating_sub(1)] {
            match with_damage(directory.path(), &path, |bytes| bytes.truncate(keep)) {
                // A journal that ends early looks like a crash: a prefix of batches is right.
                Ok(content) if is_journal(&path) => assert!(states.contains(&content)),
                Ok(content) => assert!(
                    content == *all,
                    "{} of {} entries: {keep} of {length} bytes of {}",
                    content.len(),
                    all.len(),
                    path.display()
                ),
                Err(_) => {}
            }
        }
    }
    let parts = ["db", "segments"].map(|part| files(&directory.path().join(part)));
    assert!(parts.iter().all(|part| !part.is_empty()));
    for path in parts.concat() {
        let hidden = path.with_extension("hidden");
        if path.ends_with("db/lock") {
            continue;
        }
        let copy = scratch();
        fs::rename(&path, &hidden).expect("hide");
        for file in files(directory.path()) {
            let to = copy
                .path()
                .join(file.strip_prefix(directory.path()).expect("inside"));
            fs::create_dir_all(to.parent().expect("a parent")).expect("create");
            if file != hidden {
                fs::write(to, fs::read(&file).expect("read")).expect("write");
            }
        }
        fs::rename(&hidden, &path).expect("bring back");
        if let Ok(content) = open_and_read(copy.path()) {
            assert!(
                content == *all,
                "{} entries without {}",
                content.len(),
                path.display()
            );
        }
    }
}

#[test]
fn a_damaged_journal_is_refused_and_can_be_cut_off() {
    let directory = scratch();
    let states = fill(directory.path());
    let journal = files(directory.path())
        .into_iter()
        .find(|path| is_journal(path))
        .expect("one");
    let mut bytes = fs::read(&journal).expect("read");
    let position = bytes.len() * 3 / 4;
    bytes[position] ^= 4;
    fs::write(&journal, bytes).expect("write");
    let error = DiskStore::open(directory.path()).expect_err("damaged");
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains(".jnl"), "{error}");
    let options = DiskOptions {
        damaged_journal: DamagedJournal::CutOff,
        ..DiskOptions::default()
    };
    let store = DiskStore::open_with(directory.path(), options).expect("cut off");
    let content = read(&store).expect("read");
    let position = states
        .iter()
        .position(|state| *state == content)
        .expect("a prefix");
    assert!(
        position > states.len() / 2 && position < states.len() - 1,
        "{position}"
    );
}
