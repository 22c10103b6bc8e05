//! Going back: cell for cell what a store has that never went further, and after a kill one or
//! the other.
//!
//! The test binary runs itself as the one who is killed. `SESSION_REWIND_ROUNDS` sets the number of
//! kills, `SESSION_REWIND_SEED` repeats a run.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use session_storage::{
    Batch, Direction, DiskOptions, DiskStore, Durability, KeyRange, Keyspace, MemoryStore,
    RewindError, Rewindable, Rewound, STEPS_KEPT, Store, View,
};

const WALKER: &str = "SESSION_REWIND_WALKER";

type Cells = BTreeMap<(Keyspace, Vec<u8>), Vec<u8>>;
type Change = (Keyspace, Vec<u8>, Option<Vec<u8>>);

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

/// Everything but what the store remembers for itself.
fn cells(view: &dyn View) -> Cells {
    let mut cells = Cells::new();
    for keyspace in Keyspace::ALL {
        if keyspace == Keyspace::Undo {
            continue;
        }
        let all = KeyRange::all();
        let pairs = view.range(keyspace, &all, usize::MAX, Direction::Ascending);
        cells.extend(
            pairs
                .unwrap()
                .into_iter()
                .map(|(key, value)| ((keyspace, key), value)),
        );
    }
    cells
}

fn undo_steps(view: &dyn View) -> Vec<u64> {
    let all = KeyRange::all();
    let pairs = view.range(Keyspace::Undo, &all, usize::MAX, Direction::Ascending);
    let number = |(key, _): (Vec<u8>, _)| u64::from_be_bytes(key.try_into().unwrap());
    pairs.unwrap().into_iter().map(number).collect()
}

/// What step `number` of a run changes: few keys, so that steps meet; sometimes one key twice.
fn changes(seed: u64, number: u64) -> Vec<Change> {
    let mut random = Random(seed ^ number.wrapping_mul(0x1234_5677));
    (0..1 + random.below(12))
        .map(|_| {
            let mut keyspace = Keyspace::ALL[random.below(Keyspace::ALL.len() as u64) as usize];
            // That one is the store's own.
            if keyspace == Keyspace::Undo {
                keyspace = Keyspace::Meta;
            }
            let key = vec![1 + random.below(5) as u8; 1 + random.below(3) as usize];
            let bytes = match random.below(12) {
                0 => 20_000,
                1 => 1_500,
                _ => random.below(60),
            };
            let value = (random.below(4) > 0).then(|| vec![number as u8; bytes as usize]);
            (keyspace, key, value)
        })
        .collect()
}

fn step(seed: u64, number: u64) -> Batch {
    let mut batch = Batch::new();
    for (keyspace, key, value) in changes(seed, number) {
        match value {
            Some(value) => batch.put(keyspace, key, value),
            None => batch.delete(keyspace, key),
        };
    }
    // The numbers of a log are given once: a body that was never there.
    batch.put_new(
        Keyspace::Bodies,
        [b"new".as_slice(), &number.to_be_bytes()].concat(),
        vec![7; 200],
    );
    batch.step(number);
    batch
}

/// The state after `number` steps, by the plainest means.
fn model(seed: u64, number: u64) -> Cells {
    let mut cells = Cells::new();
    for number in 1..=number {
        for (keyspace, key, value) in changes(seed, number) {
            match value {
                Some(value) => cells.insert((keyspace, key), value),
                None => cells.remove(&(keyspace, key)),
            };
        }
        let key = [b"new".as_slice(), &number.to_be_bytes()].concat();
        cells.insert((Keyspace::Bodies, key), vec![7; 200]);
    }
    cells
}

fn walk(store: &dyn Store, seed: u64, from: u64, to: u64) {
    for number in from + 1..=to {
        store
            .commit(step(seed, number), Durability::Synced)
            .unwrap();
    }
}

fn small() -> DiskOptions {
    DiskOptions {
        reserve_bytes: 0,
        ..DiskOptions::default()
    }
}

fn open(directory: &Path) -> Rewindable<DiskStore> {
    Rewindable::new(DiskStore::open_with(directory, small()).unwrap())
}

/// Goes to `height`, back by `back`, and on by `on`, compared at each turn.
fn there_and_back(store: &Rewindable<impl Store>, seed: u64, height: u64, back: u64, on: u64) {
    walk(store, seed, 0, height);
    let to = height - back;
    let rewound = store.rewind(to, Batch::new());
    assert_eq!(rewound.unwrap(), Rewound { from: height, to });
    assert_eq!(cells(store), model(seed, to));
    let oldest = (height + 1).saturating_sub(STEPS_KEPT).max(1);
    assert_eq!(undo_steps(store), (oldest..=to).collect::<Vec<_>>());
    walk(store, seed, to, to + on);
    assert_eq!(cells(store), model(seed, to + on));
}

proptest! {
    #[test]
    fn a_store_that_went_back_equals_one_that_never_went_further(
        seed in any::<u64>(),
        height in 1_u64..140,
        back in 0_u64..=STEPS_KEPT,
        on in 0_u64..30,
    ) {
        let back = back.min(height);
        // The very last step is always remembered.
        prop_assume!(back < height);
        let store = Rewindable::new(MemoryStore::new());
        there_and_back(&store, seed, height, back, on);
    }
}

#[test]
fn on_a_disk_too_and_after_it_was_opened_again() {
    let seed = 20_251_127;
    println!("seed {seed}");
    for (height, back) in [(10, 3), (90, 64), (70, 1)] {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        there_and_back(&store, seed, height, back, 5);
        store.close().unwrap();
        let store = open(directory.path());
        let at = height - back + 5;
        assert_eq!(store.newest().unwrap(), Some(at));
        assert_eq!(cells(&store), model(seed, at));
        store.rewind(at - 2, Batch::new()).unwrap();
        assert_eq!(cells(&store), model(seed, at - 2));
    }
}

#[test]
fn what_cannot_be_undone_is_said_and_changes_nothing() {
    let seed = 3;
    let store = Rewindable::new(MemoryStore::new());
    let nothing = store.rewind(0, Batch::new());
    assert!(matches!(nothing, Err(RewindError::NoSteps)));
    walk(&store, seed, 0, 100);
    let before = cells(&store);
    let too_far = store.rewind(100 - STEPS_KEPT - 1, Batch::new());
    let error = too_far.unwrap_err();
    assert!(
        matches!(
            error,
            RewindError::TooFar {
                to: 35,
                oldest: 36,
                newest: 100
            }
        ),
        "{error}"
    );
    let ahead = store.rewind(101, Batch::new()).unwrap_err();
    assert!(matches!(
        ahead,
        RewindError::Ahead {
            to: 101,
            newest: 100
        }
    ));
    assert_eq!(cells(&store), before);
    // As far as the error says it goes.
    store.rewind(36, Batch::new()).unwrap();
    assert_eq!(cells(&store), model(seed, 36));
    assert!(matches!(
        store.rewind(35, Batch::new()),
        Err(RewindError::NoSteps)
    ));
}

#[test]
fn a_damaged_record_is_found_before_anything_is_changed() {
    let store = Rewindable::new(MemoryStore::new());
    walk(&store, 1, 0, 5);
    let mut damage = Batch::new();
    damage.put(Keyspace::Undo, 4_u64.to_be_bytes(), [1, 0, 0]);
    store.commit(damage, Durability::Synced).unwrap();
    let before = cells(&store);
    let damaged = store.rewind(2, Batch::new());
    assert!(matches!(damaged, Err(RewindError::Damaged { step: 4 })));
    assert_eq!(cells(&store), before);
}

#[test]
fn what_goes_along_is_written_with_it() {
    let store = Rewindable::new(MemoryStore::new());
    walk(&store, 1, 0, 5);
    let mut also = Batch::new();
    also.put(Keyspace::Meta, *b"note", *b"went back");
    store.rewind(2, also).unwrap();
    let note = store.get(Keyspace::Meta, b"note").unwrap();
    assert_eq!(note.as_deref(), Some(b"went back".as_slice()));
}

/// The child: back and forth until it is killed. It says where it goes before it goes there.
fn walk_until_killed(directory: &Path, seed: u64) {
    let store = open(directory);
    let mut random = Random(seed ^ 0xabcd);
    let mut at = store.newest().unwrap().unwrap_or(0);
    loop {
        let to = at + 1 + random.below(6);
        println!("{at} {to}");
        walk(&store, seed, at, to);
        let back = (1 + random.below(20)).min(to - 1);
        println!("{} {to}", to - back);
        store.rewind(to - back, Batch::new()).unwrap();
        at = to - back;
    }
}

#[test]
fn killed_while_it_goes_back_it_is_at_one_step_or_another() {
    if let Ok(given) = std::env::var(WALKER) {
        let (seed, directory) = given.split_once(' ').unwrap();
        walk_until_killed(Path::new(directory), seed.parse().unwrap());
        return;
    }
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let rounds = variable("SESSION_REWIND_ROUNDS").unwrap_or(12);
    let seed: u64 = variable("SESSION_REWIND_SEED").unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        u64::from(now.unwrap().subsec_nanos())
    });
    println!("SESSION_REWIND_SEED={seed}");
    let mut random = Random(seed);
    let directory = tempfile::tempdir().unwrap();
    for round in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "killed_while_it_goes_back_it_is_at_one_step_or_another",
            ])
            .args(["--nocapture"])
            .env(WALKER, format!("{seed} {}", directory.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let turns = 2 + random.below(30);
        let mut said = 0;
        let mut last = (0, u64::MAX);
        while said < turns {
            let line = lines.next().unwrap().unwrap();
            let read = line.split_once(' ').and_then(|(low, high)| {
                Some((low.parse::<u64>().ok()?, high.parse::<u64>().ok()?))
            });
            if let Some(read) = read {
                last = read;
                said += 1;
            }
        }
        // Somewhere in what it has just begun.
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        // It may have gone on before it died.
        for line in lines.map_while(Result::ok) {
            if let Some((low, high)) = line.split_once(' ')
                && let (Ok(low), Ok(high)) = (low.parse(), high.parse())
            {
                last = (low, high);
            }
        }
        let store = open(directory.path());
        let at = store.newest().unwrap().unwrap_or(0);
        assert!(
            (last.0..=last.1).contains(&at),
            "round {round}: at {at}, was between {last:?}"
        );
        assert_eq!(cells(&store), model(seed, at), "round {round}, step {at}");
        store.close().unwrap();
    }
}
