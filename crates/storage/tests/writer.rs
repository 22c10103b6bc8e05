//! Group commit: together, in order, with an answer for everybody.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use session_storage::faulty::{Fault, FaultyStore};
use session_storage::{
    Batch, Direction, DiskStore, Durability, GroupCommitter, GroupLimits, Health, KeyRange,
    Keyspace, MemoryStore, Store, StoreError, View,
};

fn one(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Batch {
    let mut batch = Batch::new();
    batch.put(Keyspace::Meta, key, value);
    batch
}

type Faulty = Arc<FaultyStore<MemoryStore>>;

fn faulty() -> Faulty {
    Arc::new(FaultyStore::new(MemoryStore::new()))
}

fn start(store: &Faulty, limits: GroupLimits) -> GroupCommitter {
    GroupCommitter::start(Arc::clone(store) as Arc<dyn Store>, limits).expect("a thread")
}

/// Keeps the writing thread inside a callback until `release` is dropped, so that what is
/// submitted meanwhile waits in the queue.
fn hold(committer: &GroupCommitter) -> std::sync::mpsc::Sender<()> {
    let (release, held) = channel::<()>();
    let (inside, entered) = channel();
    committer
        .submit(one("hold", ""), move |_| {
            inside.send(()).expect("the test");
            let _released = held.recv();
        })
        .expect("room");
    entered.recv().expect("the writer");
    release
}

fn submit(committer: &GroupCommitter, batch: Batch) -> Receiver<Result<(), StoreError>> {
    let (answer, result) = channel();
    committer
        .submit(batch, move |outcome| {
            answer.send(outcome).expect("the test")
        })
        .expect("room");
    result
}

#[test]
fn what_waits_together_is_one_commit_and_the_later_wins() {
    let store = faulty();
    let committer = start(&store, GroupLimits::default());
    let release = hold(&committer);
    let order = Arc::new(Mutex::new(Vec::new()));
    for number in 0_u8..50 {
        let order = Arc::clone(&order);
        committer
            .submit(one("same", [number]), move |outcome| {
                outcome.expect("commit");
                order.lock().expect("the test").push(number);
            })
            .expect("room");
    }
    drop(release);
    committer.commit(one("end", "")).expect("commit");
    assert_eq!(
        *order.lock().expect("the test"),
        (0..50).collect::<Vec<_>>()
    );
    assert_eq!(
        store.get(Keyspace::Meta, b"same").expect("get"),
        Some(vec![49])
    );
    assert!(store.commits() <= 3, "{} commits", store.commits());
}

#[test]
fn a_full_queue_says_so_and_a_bad_batch_harms_nobody() {
    let store = faulty();
    let limits = GroupLimits {
        waiting_max: 2,
        ..GroupLimits::default()
    };
    let committer = start(&store, limits);
    let release = hold(&committer);
    let first = submit(&committer, one("1", ""));
    let error = committer
        .submit(one("", ""), |_| panic!("never queued"))
        .expect_err("bad");
    assert!(matches!(error, StoreError::EmptyKey { .. }));
    let second = submit(&committer, one("2", ""));
    let error = committer
        .submit(one("3", ""), |_| panic!("never queued"))
        .expect_err("full");
    assert!(
        matches!(error, StoreError::QueueFull { limit: 2 }),
        "{error}"
    );
    drop(release);
    first.recv().expect("an answer").expect("commit");
    second.recv().expect("an answer").expect("commit");
    assert!(!store.contains(Keyspace::Meta, b"3").expect("contains"));
}

#[test]
fn shutdown_writes_what_waits_and_takes_no_more() {
    let store = faulty();
    let committer = start(&store, GroupLimits::default());
    let release = hold(&committer);
    let waiting: Vec<_> = (0_u8..9)
        .map(|key| submit(&committer, one([key], "")))
        .collect();
    drop(release);
    committer.shutdown();
    committer.shutdown();
    for answer in waiting {
        answer
            .try_recv()
            .expect("answered before shutdown returned")
            .expect("commit");
    }
    assert!(matches!(
        committer.commit(one("late", "")),
        Err(StoreError::Closed)
    ));
}

#[test]
fn a_failed_sync_is_told_to_all_and_nothing_is_taken_until_recovery() {
    for (fault, kept) in [
        (Fault::SyncFailedButKept, true),
        (Fault::SyncFailedAndLost, false),
        (Fault::FullWhileWriting, false),
    ] {
        let store = faulty();
        let committer = start(&store, GroupLimits::default());
        let release = hold(&committer);
        store.plan([fault]);
        let waiting: Vec<_> = (0_u8..5)
            .map(|key| submit(&committer, one([key], "")))
            .collect();
        drop(release);
        for answer in waiting {
            let error = answer
                .recv()
                .expect("an answer")
                .expect_err("the sync failed");
            assert_eq!(
                error.is_no_space(),
                fault == Fault::FullWhileWriting,
                "{error}"
            );
        }
        let error = committer
            .commit(one("next", ""))
            .expect_err("not recovered");
        assert!(matches!(error, StoreError::Failed { .. }), "{error}");
        assert!(matches!(store.health(), Health::Failed(_)));
        store.recover().expect("recover");
        committer.commit(one("next", "")).expect("goes on");
        // All of the group or none of it.
        for key in 0_u8..5 {
            assert_eq!(
                store.contains(Keyspace::Meta, &[key]).expect("contains"),
                kept
            );
        }
    }
}

#[test]
fn a_full_disk_that_was_noticed_in_time_needs_no_recovery() {
    let store = faulty();
    let committer = start(&store, GroupLimits::default());
    store.plan([Fault::Full]);
    assert!(
        committer
            .commit(one("1", ""))
            .expect_err("full")
            .is_no_space()
    );
    committer.commit(one("2", "")).expect("there is room again");
}

#[test]
fn many_callers_on_a_slow_disk_share_its_syncs() {
    let store = faulty();
    store.set_commit_delay(Duration::from_millis(2));
    let committer = start(&store, GroupLimits::default());
    thread::scope(|scope| {
        for caller in 0_u8..16 {
            let committer = &committer;
            scope.spawn(move || {
                for number in 0_u8..10 {
                    committer.commit(one([caller, number], "")).expect("commit");
                }
            });
        }
    });
    assert!(
        store.commits() < 80,
        "{} commits for 160 batches",
        store.commits()
    );
    let all = store.range(
        Keyspace::Meta,
        &KeyRange::all(),
        1_000,
        Direction::Ascending,
    );
    assert_eq!(all.expect("range").len(), 160);
}

#[test]
fn readers_see_whole_batches_while_callers_write_to_disk() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = Arc::new(DiskStore::open(directory.path()).expect("open"));
    let committer =
        GroupCommitter::start(Arc::clone(&store) as Arc<dyn Store>, GroupLimits::default())
            .expect("a thread");
    thread::scope(|scope| {
        let writers: Vec<_> = (0_u8..4)
            .map(|caller| {
                let committer = &committer;
                scope.spawn(move || {
                    for number in 0_u8..100 {
                        let mut batch = one([caller], [number]);
                        batch.put(Keyspace::Rosters, [caller], [number]);
                        committer.commit(batch).expect("commit");
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            let snapshot = store.snapshot().expect("snapshot");
            for caller in 0_u8..4 {
                let meta = snapshot.get(Keyspace::Meta, &[caller]).expect("get");
                let roster = snapshot.get(Keyspace::Rosters, &[caller]).expect("get");
                assert_eq!(meta, roster);
            }
        }
    });
    committer.shutdown();
    store
        .commit(one("more", ""), Durability::Synced)
        .expect("the store is still open");
    store.close().expect("close");
}
