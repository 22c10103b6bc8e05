//! Whose directory it is, which version, who has it open, and how it starts again.

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
use std::process::Command;

use session_storage::{Batch, DiskStore, Durability, Keyspace, Store, StoreError, View};

const SECOND: &str = "SESSION_SECOND_OPEN";

fn put(store: &dyn Store, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(Keyspace::Bodies, key, value);
    store.commit(batch, Durability::Synced).expect("commit");
}

#[test]
fn a_second_opening_is_refused_and_names_the_directory() {
    if let Ok(directory) = std::env::var(SECOND) {
        println!("{}", DiskStore::open(directory).expect_err("in use"));
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(directory.path()).expect("open");
    let path = directory.path().display().to_string();
    let expected = format!(
        "{path} is in use by another process (pid {})",
        std::process::id()
    );
    assert_eq!(
        DiskStore::open(directory.path())
            .expect_err("in use")
            .to_string(),
        expected
    );
    let other = Command::new(std::env::current_exe().expect("this test"))
        .args([
            "--exact",
            "a_second_opening_is_refused_and_names_the_directory",
            "--nocapture",
        ])
        .env(SECOND, directory.path())
        .output()
        .expect("another process");
    let said = String::from_utf8_lossy(&other.stdout);
    assert!(said.contains(&expected), "{said}");
    store.close().expect("close");
    DiskStore::open(directory.path()).expect("free again");
}

#[test]
fn another_version_is_refused_and_both_are_named() {
    for (text, found) in [
        (
            "session-storage\nformat 7\nkeyspaces 1\n",
            "format 7 keyspaces 1",
        ),
        (
            "session-storage\nformat 1\nkeyspaces 4\n",
            "format 1 keyspaces 4",
        ),
        (
            "session-storage\nformat 9\nsomething else\n",
            "format 9 keyspaces 0",
        ),
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        DiskStore::open(directory.path())
            .expect("open")
            .close()
            .expect("close");
        fs::write(directory.path().join("FORMAT"), text).expect("write");
        let error = DiskStore::open(directory.path()).expect_err("another version");
        assert!(matches!(error, StoreError::Format { .. }), "{error}");
        let said = error.to_string();
        assert!(
            said.contains(found) && said.contains("reads format 2 keyspaces 1"),
            "{said}"
        );
    }
}

#[test]
fn a_strangers_directory_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join("thesis.tex"), "years of work").expect("write");
    let error = DiskStore::open(directory.path()).expect_err("not ours");
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
    assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
    fs::write(directory.path().join("FORMAT"), "JPEG").expect("write");
    let error = DiskStore::open(directory.path()).expect_err("not ours");
    assert!(matches!(error, StoreError::NotOurs { .. }), "{error}");
}

#[test]
fn an_interrupted_creation_starts_over() {
    let directory = tempfile::tempdir().expect("a directory");
    DiskStore::open(directory.path())
        .expect("open")
        .close()
        .expect("close");
    // As if it had died just before the last step, and with half of the engine's files.
    fs::remove_file(directory.path().join("FORMAT")).expect("remove");
    fs::remove_file(directory.path().join("db/version")).expect("remove");
    fs::write(directory.path().join("UNFINISHED"), "creating\n").expect("write");
    let store = DiskStore::open(directory.path()).expect("starts over");
    put(&store, b"key", b"value");
    assert!(!directory.path().join("UNFINISHED").exists());
}

#[test]
fn after_a_clean_close_there_is_nothing_to_replay() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(directory.path()).expect("open");
    put(&store, b"key", &[3; 5_000]);
    assert_eq!(store.unflushed_entries().expect("open"), 1);
    drop(store);
    let store = DiskStore::open(directory.path()).expect("after a kill");
    assert_eq!(store.unflushed_entries().expect("open"), 1, "replayed");
    store.close().expect("close");
    assert!(matches!(
        store.get(Keyspace::Bodies, b"key"),
        Err(StoreError::Closed)
    ));
    store.close().expect("a second close does nothing");
    let journals: u64 = fs::read_dir(directory.path().join("db"))
        .expect("list")
        .flatten()
        .filter(|entry| {
            entry
                .path()
                .extension()
                .is_some_and(|extension| extension == "jnl")
        })
        .map(|entry| entry.metadata().expect("metadata").len())
        .sum();
    assert_eq!(journals, 0, "bytes of journal");
    let store = DiskStore::open(directory.path()).expect("after a close");
    assert_eq!(store.unflushed_entries().expect("open"), 0);
    assert_eq!(
        store.get(Keyspace::Bodies, b"key").expect("get"),
        Some(vec![3; 5_000])
    );
    // Numbers go on behind the ones in the tables: a newer value wins.
    put(&store, b"key", b"newer");
    drop(store);
    let store = DiskStore::open(directory.path()).expect("open");
    assert_eq!(
        store.get(Keyspace::Bodies, b"key").expect("get"),
        Some(b"newer".to_vec())
    );
}

#[test]
fn keys_and_values_over_the_limits_are_refused_and_change_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(directory.path()).expect("open");
    let mut empty = Batch::new();
    empty
        .put(Keyspace::Meta, *b"good", *b"value")
        .put(Keyspace::Meta, *b"", *b"value");
    let error = store
        .commit(empty, Durability::Synced)
        .expect_err("an empty key");
    assert!(matches!(
        error,
        StoreError::EmptyKey {
            keyspace: Keyspace::Meta
        }
    ));
    let mut long = Batch::new();
    long.delete(Keyspace::Meta, vec![1; 1025]);
    let error = store
        .commit(long, Durability::Synced)
        .expect_err("a long key");
    assert!(matches!(
        error,
        StoreError::KeyTooLong {
            bytes: 1025,
            limit: 1024,
            ..
        }
    ));
    assert!(matches!(
        store.get(Keyspace::Meta, b""),
        Err(StoreError::EmptyKey { .. })
    ));
    assert!(!store.contains(Keyspace::Meta, b"good").expect("contains"));
    put(&store, &[1; 1024], b"the longest key");
}

#[test]
fn what_survives_a_failed_sync_is_whole_and_not_in_the_old_journal() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = DiskStore::open(directory.path()).expect("open");
    put(&store, b"before", b"1");
    let snapshot = store.snapshot().expect("snapshot");
    store.fail_now(StoreError::NoSpace {
        path: "disk".into(),
        written: true,
    });
    let mut batch = Batch::new();
    batch.put(Keyspace::Bodies, *b"during", *b"2");
    let error = store
        .commit(batch, Durability::Synced)
        .expect_err("refused");
    assert!(
        matches!(error, StoreError::Failed { .. }) && error.is_no_space(),
        "{error}"
    );
    assert!(
        store
            .get(Keyspace::Bodies, b"before")
            .expect("reads go on")
            .is_some()
    );
    store.recover().expect("recover");
    assert_eq!(store.unflushed_entries().expect("open"), 0);
    assert!(matches!(
        snapshot.get(Keyspace::Bodies, b"before"),
        Err(StoreError::SnapshotExpired)
    ));
    assert!(
        store
            .contains(Keyspace::Bodies, b"before")
            .expect("contains")
    );
    assert!(
        !store
            .contains(Keyspace::Bodies, b"during")
            .expect("contains")
    );
    assert!(!directory.path().join("db/0.jnl").exists());
    put(&store, b"after", b"3");
    drop(store);
    let store = DiskStore::open(directory.path()).expect("open");
    assert!(
        store
            .contains(Keyspace::Bodies, b"after")
            .expect("contains")
    );
}

#[test]
fn bodies_that_are_gone_give_their_room_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let segments = || {
        let files = fs::read_dir(directory.path().join("segments")).expect("list");
        files.count()
    };
    let store = DiskStore::open(directory.path()).expect("open");
    let mut batch = Batch::new();
    for number in 0_u8..20 {
        batch.put(Keyspace::Bodies, [number], vec![number; 5_000]);
    }
    store.commit(batch, Durability::Synced).expect("commit");
    assert_eq!(segments(), 1);
    // One is overwritten, one deleted and written again, the others are deleted.
    let mut batch = Batch::new();
    batch.put(Keyspace::Bodies, [0], vec![100; 10]);
    for number in 1_u8..20 {
        batch.delete(Keyspace::Bodies, [number]);
    }
    batch.put(Keyspace::Bodies, [1], vec![101; 9_000]);
    store.commit(batch, Durability::Synced).expect("commit");
    let check = |store: &DiskStore| {
        let body = |number| store.get(Keyspace::Bodies, &[number]).expect("get");
        assert_eq!(body(0), Some(vec![100; 10]));
        assert_eq!(body(1), Some(vec![101; 9_000]));
        assert_eq!(body(2), None);
    };
    check(&store);
    drop(store);
    let store = DiskStore::open(directory.path()).expect("open");
    assert_eq!(segments(), 0, "nothing leads into it any more");
    check(&store);
}
