//! A backup taken while the store runs, and every way its file can be wrong.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::fs;

use session_storage::{
    Batch, Direction, DiskStore, Durability, KeyRange, Keyspace, MemoryStore, Pair, Store,
    StoreError, View, backup, restore,
};

fn fill(store: &dyn Store, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let mut batch = Batch::new();
        for keyspace in Keyspace::ALL {
            let bytes = if number % 10 == 0 { 60_000 } else { 100 };
            batch.put(keyspace, number.to_be_bytes(), vec![number as u8; bytes]);
        }
        store.commit(batch, Durability::Buffered).expect("commit");
    }
}

fn content(view: &dyn View) -> Vec<Vec<Pair>> {
    Keyspace::ALL
        .into_iter()
        .map(|keyspace| {
            view.range(keyspace, &KeyRange::all(), usize::MAX, Direction::Ascending)
                .expect("range")
        })
        .collect()
}

#[test]
fn a_backup_of_a_running_store_is_one_moment_of_it_without_what_was_left_out() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(directory.path().join("store")).expect("open");
    fill(&store, 0..150);
    let mut secret = Batch::new();
    secret.put(Keyspace::Meta, *b"secret key", *b"must not travel");
    let snapshot = store.snapshot().expect("snapshot");
    let expected = content(snapshot.as_ref());
    store.commit(secret, Durability::Synced).expect("commit");
    let file = directory.path().join("backup");
    let copied = std::thread::scope(|scope| {
        let goes_on = scope.spawn(|| fill(&store, 150..300));
        let copied = backup(snapshot.as_ref(), &file, |_, _| false).expect("backup");
        goes_on.join().expect("the writer");
        copied
    });
    assert_eq!(copied.entries, 150 * Keyspace::ALL.len() as u64);
    let restored = directory.path().join("restored");
    assert_eq!(restore(&file, &restored).expect("restore"), copied);
    let again = DiskStore::open(&restored).expect("open");
    assert_eq!(again.unflushed_entries().expect("open"), 0);
    assert!(content(&again) == expected);
    assert!(!directory.path().join("backup.partial").exists());

    let now = store.snapshot().expect("snapshot");
    let left_out = |keyspace, key: &[u8]| keyspace == Keyspace::Meta && key == b"secret key";
    let copied = backup(now.as_ref(), &file, left_out).expect("replaces the old one");
    assert_eq!(copied.entries, 300 * Keyspace::ALL.len() as u64);
    let without = directory.path().join("without");
    restore(&file, &without).expect("restore");
    let without = DiskStore::open(&without).expect("open");
    assert!(
        !without
            .contains(Keyspace::Meta, b"secret key")
            .expect("contains")
    );
}

#[test]
fn a_restore_into_a_directory_with_anything_in_it_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("backup");
    backup(&MemoryStore::new(), &file, |_, _| false).expect("backup");
    let store = directory.path().join("store");
    DiskStore::open(&store)
        .expect("open")
        .close()
        .expect("close");
    for occupied in [directory.path(), store.as_path()] {
        let error = restore(&file, occupied).expect_err("occupied");
        assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
    }
    restore(&file, &directory.path().join("new")).expect("an empty store is a store");
}

#[test]
fn a_damaged_backup_is_noticed_and_leaves_a_directory_that_does_not_open() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = MemoryStore::new();
    fill(&store, 1..60);
    let file = directory.path().join("backup");
    backup(&store, &file, |_, _| false).expect("backup");
    let whole = fs::read(&file).expect("read");
    let length = whole.len();
    let mut damages: Vec<Vec<u8>> = Vec::new();
    for step in 0..12 {
        let mut flipped = whole.clone();
        flipped[step * (length - 1) / 11] ^= 1 << (step % 8);
        damages.push(flipped);
        damages.push(whole[..step * (length - 1) / 11].to_vec());
    }
    for header in [0, 8, 12, 16, 17, 20] {
        let mut flipped = whole.clone();
        flipped[header] ^= 0x80;
        damages.push(flipped);
    }
    damages.push([whole.as_slice(), b"more"].concat());
    for (index, damaged) in damages.into_iter().enumerate() {
        fs::write(&file, damaged).expect("write");
        let into = directory.path().join(format!("restored {index}"));
        let error = restore(&file, &into).expect_err("damaged");
        assert!(
            matches!(
                error,
                StoreError::Corrupt { .. } | StoreError::Format { .. }
            ),
            "{index}: {error}"
        );
        // Either nothing was begun, or it says that it was not finished.
        if into.exists() {
            let error = DiskStore::open(&into).expect_err("unfinished");
            assert!(
                matches!(error, StoreError::RestoreUnfinished { .. }),
                "{index}: {error}"
            );
            let error = restore(&file, &into).expect_err("not empty");
            assert!(
                matches!(
                    error,
                    StoreError::NotOurs { .. } | StoreError::Corrupt { .. }
                ),
                "{error}"
            );
        }
    }
}
