//! A disk that really fills up: a small file system in memory. Needs the right to mount one.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use session_storage::{
    Batch, DiskOptions, DiskStore, Durability, Health, Keyspace, Store, StoreError, View,
};

/// One at a time: a child on its way to become `mount` holds every lock of its parent.
static ONE: Mutex<()> = Mutex::new(());

/// A file system of some MiB, unmounted when dropped.
struct Small(
    tempfile::TempDir,
    #[allow(dead_code, reason = "held")] MutexGuard<'static, ()>,
);

impl Small {
    fn mount(mebibytes: u32) -> Option<Self> {
        let one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let directory = tempfile::tempdir().expect("a directory");
        let mounted = Command::new("mount")
            .args([
                "-t",
                "tmpfs",
                "-o",
                &format!("size={mebibytes}m"),
                "session-test",
            ])
            .arg(directory.path())
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            eprintln!("SKIPPED: cannot mount a small file system here, disk-full is NOT tested");
        }
        mounted.then_some(Self(directory, one))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _left_mounted = Command::new("umount").arg(self.0.path()).status();
    }
}

/// Bodies go into segments, the rest of `large` into the journal.
fn body(large: Keyspace, number: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(large, number.to_be_bytes(), vec![number as u8; 100_000]);
    batch.put(
        Keyspace::Messages,
        number.to_be_bytes(),
        number.to_le_bytes(),
    );
    batch
}

/// Commits until an error; the number acknowledged and the error.
fn fill(store: &DiskStore, large: Keyspace, from: u64) -> (u64, StoreError) {
    let mut number = from;
    loop {
        match store.commit(body(large, number), Durability::Synced) {
            Ok(()) => number += 1,
            Err(error) => return (number, error),
        }
        assert!(number < from + 10_000, "the disk never filled up");
    }
}

fn assert_there(store: &DiskStore, large: Keyspace, acknowledged: u64) {
    for number in 0..acknowledged {
        let body = store.get(large, &number.to_be_bytes()).expect("get");
        assert_eq!(
            body,
            Some(vec![number as u8; 100_000]),
            "{number} of {acknowledged}"
        );
        assert!(
            store
                .contains(Keyspace::Messages, &number.to_be_bytes())
                .expect("contains")
        );
    }
}

#[test]
fn near_a_full_disk_batches_are_refused_and_go_on_once_there_is_room() {
    // 24 MiB above the reserve: less than the bodies' table in memory. With more, a table could be
    // on its way to the disk when a batch is refused, and go on to use the room made below.
    let Some(disk) = Small::mount(80) else { return };
    let options = DiskOptions {
        reserve_bytes: 48 << 20,
        ..DiskOptions::default()
    };
    let store = DiskStore::open_with(disk.path().join("store"), options).expect("open");
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 8 << 20]).expect("write");
    let (acknowledged, error) = fill(&store, Keyspace::Bodies, 0);
    assert!(
        matches!(error, StoreError::NoSpace { written: false, .. }),
        "{error}"
    );
    assert!(matches!(store.health(), Health::Ready));
    assert_there(&store, Keyspace::Bodies, acknowledged);
    // Deletions are how room is made: they may use the reserve.
    let mut delete = Batch::new();
    delete.delete(Keyspace::Messages, *b"nothing");
    store
        .commit(delete, Durability::Synced)
        .expect("a deletion");
    std::fs::remove_file(&ballast).expect("remove");
    let (more, _) = fill(&store, Keyspace::Bodies, acknowledged);
    assert!(
        more > acknowledged,
        "nothing was taken although there was room"
    );
    assert_there(&store, Keyspace::Bodies, more);
    store
        .close()
        .expect("the reserve is enough to write all tables");
    let store = DiskStore::open_with(disk.path().join("store"), options).expect("open");
    assert_there(&store, Keyspace::Bodies, more);
}

#[test]
fn a_write_into_a_full_disk_loses_nothing_acknowledged_and_recovers_once_there_is_room() {
    let Some(disk) = Small::mount(80) else { return };
    let large = Keyspace::Blocks;
    let directory = disk.path().join("store");
    let options = DiskOptions {
        reserve_bytes: 0,
        ..DiskOptions::default()
    };
    let ballast = disk.path().join("ballast");
    let store = DiskStore::open_with(&directory, options).expect("open");
    std::fs::write(&ballast, vec![1; 45 << 20]).expect("write");
    let (acknowledged, error) = fill(&store, large, 0);
    assert!(error.is_no_space(), "{error}");
    assert!(matches!(store.health(), Health::Failed(_)));
    assert_there(&store, large, acknowledged);
    let refused = store
        .commit(body(large, acknowledged + 1), Durability::Synced)
        .expect_err("failed");
    assert!(
        matches!(refused, StoreError::Failed { .. }) && refused.is_no_space(),
        "{refused}"
    );
    // Without room recovery may not succeed; it must not lose anything either.
    let _too_early = store.recover();
    std::fs::remove_file(&ballast).expect("remove");
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.recover() {
        assert!(Instant::now() < deadline, "{error}");
    }
    assert!(matches!(store.health(), Health::Ready));
    assert_there(&store, large, acknowledged);
    // The batch that failed: wholly or not at all.
    let key = acknowledged.to_be_bytes();
    assert_eq!(
        store.contains(large, &key).expect("contains"),
        store.contains(Keyspace::Messages, &key).expect("contains"),
    );
    store
        .commit(body(large, acknowledged), Durability::Synced)
        .expect("there is room again");
    drop(store);
    let store = DiskStore::open_with(&directory, options).expect("open");
    assert_there(&store, large, acknowledged + 1);
}

#[test]
fn bodies_that_find_no_room_are_refused_and_the_store_stays_ready() {
    let Some(disk) = Small::mount(40) else { return };
    let directory = disk.path().join("store");
    let options = DiskOptions {
        reserve_bytes: 0,
        ..DiskOptions::default()
    };
    let store = DiskStore::open_with(&directory, options).expect("open");
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![1; 20 << 20]).expect("write");
    let large = Keyspace::Bodies;
    let (acknowledged, error) = fill(&store, large, 0);
    assert!(
        matches!(error, StoreError::NoSpace { written: false, .. }),
        "{error}"
    );
    assert!(matches!(store.health(), Health::Ready));
    assert_there(&store, large, acknowledged);
    let key = acknowledged.to_be_bytes();
    assert!(!store.contains(large, &key).expect("contains"));
    std::fs::remove_file(&ballast).expect("remove");
    store
        .commit(body(large, acknowledged), Durability::Synced)
        .expect("there is room again");
    drop(store);
    let store = DiskStore::open_with(&directory, options).expect("open");
    assert_there(&store, large, acknowledged + 1);
}
