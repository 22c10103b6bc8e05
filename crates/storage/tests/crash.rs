//! Kill the writer at any moment: what was acknowledged is there, and nothing is there by half.
//!
//! The test binary runs itself as the writer, reads what it acknowledges, kills it, and looks.
//! `SESSION_CRASH_ROUNDS` sets the number of kills, `SESSION_CRASH_SEED` repeats a run.

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
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use session_storage::faulty::{Fault, FaultyStore};
use session_storage::{
    Batch, Direction, DiskOptions, DiskStore, Durability, KeyRange, Keyspace, MemoryStore, Store,
    View,
};

const WRITER: &str = "SESSION_CRASH_WRITER";

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

type Change = (Keyspace, Vec<u8>, Vec<u8>);

/// What batch `number` puts, the same in writer and judge.
fn changes(number: u64) -> Vec<Change> {
    let mut random = Random(number);
    (0..2 + random.below(7))
        .map(|index| {
            // Bodies more often than the others: large batches of them have files of their own.
            let keyspace = match random.below(3) {
                0 => Keyspace::Bodies,
                _ => Keyspace::ALL[random.below(Keyspace::ALL.len() as u64) as usize],
            };
            let bytes = match random.below(20) {
                0 => 100_000,
                1..=4 => random.below(9_000),
                _ => 10 + random.below(200),
            };
            let key = [number.to_be_bytes(), index.to_be_bytes()].concat();
            (
                keyspace,
                key,
                vec![number as u8 ^ index as u8; bytes as usize],
            )
        })
        .collect()
}

fn batch(number: u64) -> Batch {
    let mut batch = Batch::new();
    for (keyspace, key, value) in changes(number) {
        batch.put(keyspace, key, value);
    }
    batch
}

/// The highest batch that is there, if all acknowledged ones are and none is there by half.
fn judge(view: &dyn View, acknowledged: u64) -> Result<u64, String> {
    let mut found: BTreeMap<u64, Vec<Change>> = BTreeMap::new();
    for keyspace in Keyspace::ALL {
        let pairs = view
            .range(keyspace, &KeyRange::all(), usize::MAX, Direction::Ascending)
            .map_err(|error| error.to_string())?;
        for (key, value) in pairs {
            let number = u64::from_be_bytes(key[..8].try_into().unwrap());
            found
                .entry(number)
                .or_default()
                .push((keyspace, key, value));
        }
    }
    for (number, present) in &mut found {
        let mut expected = changes(*number);
        expected.sort();
        present.sort();
        if *present != expected {
            return Err(format!(
                "batch {number}: {} of {}",
                present.len(),
                expected.len()
            ));
        }
    }
    let there = found.len() as u64;
    if found.keys().next_back().is_some_and(|last| *last != there) {
        return Err(format!("a gap below {:?}", found.keys().next_back()));
    }
    if there < acknowledged {
        return Err(format!("{acknowledged} acknowledged, {there} there"));
    }
    Ok(there)
}

fn open(directory: &Path) -> DiskStore {
    let options = DiskOptions {
        reserve_bytes: 0,
        ..DiskOptions::default()
    };
    DiskStore::open_with(directory, options).expect("the store opens after a kill")
}

/// Runs only as the child of the test below.
#[test]
fn writer() {
    let Ok(directory) = std::env::var(WRITER) else {
        return;
    };
    let store = open(Path::new(&directory));
    let mut number = judge(&store, 0).expect("whole batches");
    let mut out = std::io::stdout();
    loop {
        number += 1;
        store
            .commit(batch(number), Durability::Synced)
            .expect("commit");
        writeln!(out, "acknowledged {number}").expect("the judge listens");
        out.flush().expect("the judge listens");
        if number.is_multiple_of(41) {
            store.flush().expect("flush");
        }
    }
}

/// Lets a writer run until it has acknowledged `enough` batches and some moment more, kills it,
/// and returns the last acknowledged one.
fn write_and_kill(directory: &Path, enough: u64, moment: Duration) -> u64 {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "writer", "--nocapture"])
        .env(WRITER, directory)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the writer");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let number = |line: std::io::Result<String>| {
        line.ok()?
            .strip_prefix("acknowledged ")?
            .parse::<u64>()
            .ok()
    };
    let mut last = 0;
    let mut count = 0;
    while count < enough {
        let line = lines.next().expect("the writer goes on");
        if let Some(acknowledged) = number(line) {
            last = acknowledged;
            count += 1;
        }
    }
    let until = Instant::now() + moment;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
    child.kill().expect("kill");
    child.wait().expect("wait");
    // What it managed to say before it died counts too.
    lines.filter_map(number).max().unwrap_or(last).max(last)
}

#[test]
fn every_acknowledged_batch_survives_a_kill_and_none_is_there_by_half() {
    let variable = |name: &str| {
        std::env::var(name)
            .ok()
            .and_then(|value| value.parse().ok())
    };
    let rounds = variable("SESSION_CRASH_ROUNDS").unwrap_or(25);
    let seed = variable("SESSION_CRASH_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("SESSION_CRASH_SEED={seed}");
    let directory = tempfile::tempdir().expect("a directory");
    let mut random = Random(seed);
    let mut there = 0;
    for round in 0..rounds {
        let enough = 1 + random.below(60);
        let moment = Duration::from_micros(random.below(3_000));
        let acknowledged = write_and_kill(directory.path(), enough, moment).max(there);
        let store = open(directory.path());
        there = judge(&store, acknowledged)
            .unwrap_or_else(|lost| panic!("seed {seed}, round {round}: {lost}"));
        // Half of the time the next writer starts from a clean close.
        if random.below(2) == 0 {
            store.close().expect("close");
        }
    }
    println!("{there} batches over {rounds} kills");
}

#[test]
fn the_judge_catches_stores_that_lie() {
    for (lie, position) in [
        (Fault::AcknowledgeAndForget, 9),
        (Fault::AcknowledgeAndForget, 4),
        (Fault::AcknowledgeAndTear, 4),
        (Fault::AcknowledgeAndTear, 9),
    ] {
        let store = FaultyStore::new(MemoryStore::new());
        store.plan((0..position).map(|_| Fault::None).chain([lie]));
        for number in 1..=10 {
            store
                .commit(batch(number), Durability::Synced)
                .expect("a lie");
        }
        judge(&store, 10).expect_err("it lied");
    }
    let honest = FaultyStore::new(MemoryStore::new());
    for number in 1..=10 {
        honest
            .commit(batch(number), Durability::Synced)
            .expect("commit");
    }
    assert_eq!(judge(&honest, 10), Ok(10));
}
