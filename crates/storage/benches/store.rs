//! What a durable commit and a read cost, on disk and in memory.
//!
//! Set `TMPDIR` to the disk that is meant: a temporary directory in memory measures no sync.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::sync::atomic::{AtomicU64, Ordering};

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use session_storage::{
    Batch, Direction, DiskStore, Durability, KeyRange, Keyspace, MemoryStore, Store,
};

const MESSAGES: u64 = 64;
const BODY_BYTES: usize = 4_500;
const STORED: u64 = 20_000;

fn main() {
    divan::main();
}

/// A store and the directory it lives in.
struct Bench {
    store: Box<dyn Store>,
    next: AtomicU64,
    _directory: tempfile::TempDir,
}

const KINDS: [&str; 2] = ["disk", "memory"];

impl Bench {
    fn new(kind: &str, stored: u64) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let store: Box<dyn Store> = match kind {
            "disk" => Box::new(DiskStore::open(directory.path()).expect("open")),
            _ => Box::new(MemoryStore::new()),
        };
        let bench = Self {
            store,
            next: AtomicU64::new(0),
            _directory: directory,
        };
        while bench.next.load(Ordering::Relaxed) < stored {
            bench
                .store
                .commit(bench.batch(), Durability::Buffered)
                .expect("commit");
        }
        bench.store.flush().expect("flush");
        bench
    }

    /// Body, entry and index of each message: the shape of a block of messages.
    fn batch(&self) -> Batch {
        let first = self.next.fetch_add(MESSAGES, Ordering::Relaxed);
        let mut batch = Batch::new();
        for number in first..first + MESSAGES {
            let id = scattered(number);
            batch.put(Keyspace::Bodies, number.to_be_bytes(), vec![7; BODY_BYTES]);
            batch.put(Keyspace::Entries, number.to_be_bytes(), vec![8; 140]);
            batch.put(Keyspace::Messages, id, vec![9; 16]);
        }
        batch
    }
}

/// Message ids are hashes: they come in no order.
fn scattered(number: u64) -> [u8; 32] {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    id
}

#[divan::bench(args = KINDS)]
fn commit_64_messages_synced(bencher: Bencher<'_, '_>, kind: &str) {
    let bench = Bench::new(kind, 0);
    bencher
        .counter(ItemsCount::new(MESSAGES))
        .with_inputs(|| bench.batch())
        .bench_values(|batch| {
            bench
                .store
                .commit(batch, Durability::Synced)
                .expect("commit")
        });
}

#[divan::bench(args = KINDS)]
fn commit_1_message_synced(bencher: Bencher<'_, '_>, kind: &str) {
    let bench = Bench::new(kind, 0);
    let number = AtomicU64::new(0);
    bencher
        .with_inputs(|| {
            let key = number.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            let mut batch = Batch::new();
            batch.put(Keyspace::Bodies, key, vec![7; BODY_BYTES]);
            batch
        })
        .bench_values(|batch| {
            bench
                .store
                .commit(batch, Durability::Synced)
                .expect("commit")
        });
}

#[divan::bench(args = KINDS)]
fn get_body(bencher: Bencher<'_, '_>, kind: &str) {
    let bench = Bench::new(kind, STORED);
    let number = AtomicU64::new(0);
    bencher.bench(|| {
        let number = number.fetch_add(7919, Ordering::Relaxed) % STORED;
        black_box(
            bench
                .store
                .get(Keyspace::Bodies, &number.to_be_bytes())
                .expect("get"),
        )
    });
}

#[divan::bench(args = KINDS)]
fn get_place_by_message_id(bencher: Bencher<'_, '_>, kind: &str) {
    let bench = Bench::new(kind, STORED);
    let number = AtomicU64::new(0);
    bencher.bench(|| {
        let number = number.fetch_add(7919, Ordering::Relaxed) % STORED;
        black_box(
            bench
                .store
                .get(Keyspace::Messages, &scattered(number))
                .expect("get"),
        )
    });
}

#[divan::bench(args = KINDS)]
fn get_absent_message_id(bencher: Bencher<'_, '_>, kind: &str) {
    let bench = Bench::new(kind, STORED);
    let number = AtomicU64::new(STORED * 2);
    bencher.bench(|| {
        let number = number.fetch_add(1, Ordering::Relaxed);
        black_box(
            bench
                .store
                .get(Keyspace::Messages, &scattered(number))
                .expect("get"),
        )
    });
}

#[divan::bench(args = KINDS)]
fn range_of_100_bodies(bencher: Bencher<'_, '_>, kind: &str) {
    let bench = Bench::new(kind, STORED);
    let number = AtomicU64::new(0);
    bencher.bench(|| {
        let from = number.fetch_add(7919, Ordering::Relaxed) % (STORED - 100);
        let range = KeyRange::from(from.to_be_bytes());
        black_box(
            bench
                .store
                .range(Keyspace::Bodies, &range, 100, Direction::Ascending),
        )
        .expect("range")
    });
}
