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
use std::time::{Duration, Instant};

use session_storage::{
    Batch, DiskOptions, DiskStore, Durability, Health, Keyspace, Store, StoreError, View,
};

/// A file system of some MiB, unmounted when dropped.
struct Small(tempfile::TempDir);

impl Small {
    fn mount(mebibytes: u32) -> Option<Self> {
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
        mounted.then_some(Self(directory))
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

fn body(number: u64) -> Batch {
    let mut batch = Batch::new();
    batch.put(
        Keyspace::Bodies,
        number.to_be_bytes(),
        vec![number as u8; 100_000],
    );
    batch.put(
        Keyspace::Messages,
        number.to_be_bytes(),
        number.to_le_bytes(),
    );
    batch
}

/// Commits until an error; the number acknowledged and the error.
fn fill(store: &DiskStore, from: u64) -> (u64, StoreError) {
    let mut number = from;
    loop {
        match store.commit(body(number), Durability::Synced) {
            Ok(()) => number += 1,
            Err(error) => return (number, error),
        }
        assert!(number < from + 10_000, "the disk never filled up");
    }
}

fn assert_there(store: &DiskStore, acknowledged: u64) {
    for number in 0..acknowledged {
        let body = store
            .get(Keyspace::Bodies, &number.to_be_bytes())
            .expect("get");
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
    let (acknowledged, error) = fill(&store, 0);
    assert!(
        matches!(error, StoreError::NoSpace { written: false, .. }),
        "{error}"
    );
    assert!(matches!(store.health(), Health::Ready));
    assert_there(&store, acknowledged);
    // Deletions are how room is made: they may use the reserve.
    let mut delete = Batch::new();
    delete.delete(Keyspace::Messages, *b"nothing");
    store
        .commit(delete, Durability::Synced)
        .expect("a deletion");
    std::fs::remove_file(&ballast).expect("remove");
    let (more, _) = fill(&store, acknowledged);
    assert!(
        more > acknowledged,
        "nothing was taken although there was room"
    );
    assert_there(&store, more);
    store
        .close()
        .expect("the reserve is enough to write all tables");
    let store = DiskStore::open_with(disk.path().join("store"), options).expect("open");
    assert_there(&store, more);
}

#[test]
fn a_write_into_a_full_disk_loses_nothing_acknowledged_and_recovers_once_there_is_room() {
    let Some(disk) = Small::mount(80) else { return };
    let directory = disk.path().join("store");
    let options = DiskOptions {
        reserve_bytes: 0,
        ..DiskOptions::default()
    };
    let ballast = disk.path().join("ballast");
    let store = DiskStore::open_with(&directory, options).expect("open");
    std::fs::write(&ballast, vec![1; 45 << 20]).expect("write");
    let (acknowledged, error) = fill(&store, 0);
    assert!(error.is_no_space(), "{error}");
    assert!(matches!(store.health(), Health::Failed(_)));
    assert_there(&store, acknowledged);
    let refused = store
        .commit(body(acknowledged + 1), Durability::Synced)
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
    assert_there(&store, acknowledged);
    // The batch that failed: wholly or not at all.
    let key = acknowledged.to_be_bytes();
    assert_eq!(
        store.contains(Keyspace::Bodies, &key).expect("contains"),
        store.contains(Keyspace::Messages, &key).expect("contains"),
    );
    store
        .commit(body(acknowledged), Durability::Synced)
        .expect("there is room again");
    drop(store);
    let store = DiskStore::open_with(&directory, options).expect("open");
    assert_there(&store, acknowledged + 1);
}
