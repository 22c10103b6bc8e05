//! Memory and disk side by side, judged by a plain ordered map.

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

use proptest::prelude::*;
use session_storage::{
    Batch, Direction, DiskStore, Durability, KeyRange, Keyspace, MemoryStore, Snapshot, Store,
    StoreError, View,
};

type Model = BTreeMap<(Keyspace, Vec<u8>), Vec<u8>>;

#[derive(Clone, Debug)]
enum Step {
    Commit {
        changes: Vec<(Keyspace, Vec<u8>, Option<Vec<u8>>)>,
        durability: Durability,
    },
    Snapshot,
    DropSnapshot,
    Range {
        keyspace: Keyspace,
        range: KeyRange,
        limit: usize,
        direction: Direction,
    },
    Flush,
    CloseAndReopen,
    DropAndReopen,
    FailAndRecover,
}

fn keyspaces() -> impl Strategy<Value = Keyspace> {
    prop::sample::select(&[Keyspace::Meta, Keyspace::Bodies, Keyspace::Rosters][..])
}

/// Few and short, so that steps meet; 0xff and 0 because they are the ends of every range.
fn keys() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(&[0_u8, 1, 7, 255][..]), 1..4)
}

fn values() -> impl Strategy<Value = Vec<u8>> {
    // Around the size from which values are kept apart, and large enough for a segment.
    let sizes = prop_oneof![
        0..20_usize,
        1000..1050_usize,
        Just(5000_usize),
        12_280..12_300_usize
    ];
    (sizes, any::<u8>()).prop_map(|(size, byte)| vec![byte; size])
}

fn ranges() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        Just(KeyRange::all()),
        keys().prop_map(|key| KeyRange::prefix(&key)),
        keys().prop_map(|key| KeyRange::after(&key)),
        keys().prop_map(KeyRange::from),
        (keys(), keys()).prop_map(|(from, to)| KeyRange::new(from, to)),
    ]
}

fn steps() -> impl Strategy<Value = Step> {
    let directions = prop_oneof![Just(Direction::Ascending), Just(Direction::Descending)];
    let durabilities = prop_oneof![Just(Durability::Synced), Just(Durability::Buffered)];
    let change = (keyspaces(), keys(), prop::option::weighted(0.7, values()));
    prop_oneof![
        12 => (prop::collection::vec(change, 0..8), durabilities)
            .prop_map(|(changes, durability)| Step::Commit { changes, durability }),
        3 => Just(Step::Snapshot),
        2 => Just(Step::DropSnapshot),
        8 => (keyspaces(), ranges(), 0..9_usize, directions).prop_map(
            |(keyspace, range, limit, direction)| Step::Range { keyspace, range, limit, direction }
        ),
        1 => Just(Step::Flush),
        1 => Just(Step::CloseAndReopen),
        1 => Just(Step::DropAndReopen),
        1 => Just(Step::FailAndRecover),
    ]
}

fn model_range(
    model: &Model,
    keyspace: Keyspace,
    range: &KeyRange,
    limit: usize,
    direction: Direction,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut inside: Vec<_> = model
        .iter()
        .filter(|((of, key), _)| {
            *of == keyspace
                && key.as_slice() >= range.lower()
                && range.upper().is_none_or(|upper| key.as_slice() < upper)
        })
        .map(|((_, key), value)| (key.clone(), value.clone()))
        .collect();
    if direction == Direction::Descending {
        inside.reverse();
    }
    inside.truncate(limit);
    inside
}

fn assert_same(view: &dyn View, model: &Model) {
    for keyspace in Keyspace::ALL {
        let expected = model_range(
            model,
            keyspace,
            &KeyRange::all(),
            10_000,
            Direction::Ascending,
        );
        let found = view
            .range(keyspace, &KeyRange::all(), 10_000, Direction::Ascending)
            .expect("range");
        assert!(
            found == expected,
            "{keyspace:?}: {} of {} pairs",
            found.len(),
            expected.len()
        );
    }
    for (keyspace, key) in model.keys() {
        assert_eq!(
            view.get(*keyspace, key).expect("get").as_ref(),
            model.get(&(*keyspace, key.clone()))
        );
        assert!(view.contains(*keyspace, key).expect("contains"));
    }
}

fn run(sequence: Vec<Step>) {
    let directory = tempfile::tempdir().expect("a directory");
    let memory = MemoryStore::new();
    let mut disk = DiskStore::open(directory.path()).expect("open");
    let mut model = Model::new();
    let mut snapshots: Vec<(Snapshot, Option<Snapshot>, Model)> = Vec::new();
    for step in sequence {
        match step {
            Step::Commit {
                changes,
                durability,
            } => {
                let mut batch = Batch::new();
                for (keyspace, key, value) in changes {
                    match value {
                        Some(value) => {
                            batch.put(keyspace, key.clone(), value.clone());
                            model.insert((keyspace, key), value);
                        }
                        None => {
                            batch.delete(keyspace, key.clone());
                            model.remove(&(keyspace, key));
                        }
                    }
                }
                memory.commit(batch.clone(), durability).expect("memory");
                disk.commit(batch, durability).expect("disk");
            }
            Step::Snapshot => snapshots.push((
                memory.snapshot().expect("memory"),
                Some(disk.snapshot().expect("disk")),
                model.clone(),
            )),
            Step::DropSnapshot => drop(snapshots.pop()),
            Step::Range {
                keyspace,
                range,
                limit,
                direction,
            } => {
                let expected = model_range(&model, keyspace, &range, limit, direction);
                let in_memory = memory
                    .range(keyspace, &range, limit, direction)
                    .expect("memory");
                let on_disk = disk
                    .range(keyspace, &range, limit, direction)
                    .expect("disk");
                assert_eq!(in_memory, expected);
                assert_eq!(on_disk, expected);
            }
            Step::Flush => disk.flush().expect("flush"),
            Step::CloseAndReopen => {
                disk.close().expect("close");
                disk = DiskStore::open(directory.path()).expect("reopen");
                assert_eq!(disk.unflushed_entries().expect("open"), 0);
                expire(&mut snapshots, false);
            }
            Step::DropAndReopen => {
                drop(disk);
                disk = DiskStore::open(directory.path()).expect("reopen");
                expire(&mut snapshots, false);
            }
            Step::FailAndRecover => {
                disk.fail_now(StoreError::Closed);
                disk.recover().expect("recover");
                expire(&mut snapshots, true);
            }
        }
        for (in_memory, on_disk, then) in &snapshots {
            assert_same(in_memory.as_ref(), then);
            if let Some(on_disk) = on_disk {
                assert_same(on_disk.as_ref(), then);
            }
        }
    }
    assert_same(&memory, &model);
    assert_same(&disk, &model);
}

/// Snapshots of an earlier opening say so instead of showing something else.
fn expire(snapshots: &mut [(Snapshot, Option<Snapshot>, Model)], recovered: bool) {
    for (_, on_disk, _) in snapshots {
        if let Some(snapshot) = on_disk.take() {
            let error = snapshot
                .get(Keyspace::Meta, b"any")
                .expect_err("an old snapshot");
            match error {
                StoreError::SnapshotExpired => assert!(recovered),
                StoreError::Closed => assert!(!recovered),
                other => panic!("{other}"),
            }
        }
    }
}

/// An empty value in a batch that goes to a segment: it has no bytes there that would keep the
/// segment when its neighbours go.
#[test]
fn an_empty_body_outlives_its_neighbours() {
    let commit = |changes: Vec<(u8, Option<Vec<u8>>)>| Step::Commit {
        changes: changes
            .into_iter()
            .map(|(key, value)| (Keyspace::Bodies, vec![key], value))
            .collect(),
        durability: Durability::Synced,
    };
    run(vec![
        commit(vec![(1, Some(vec![7; 12_290])), (7, Some(Vec::new()))]),
        commit(vec![(1, None)]),
        Step::CloseAndReopen,
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("SESSION_MODEL_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(24),
        // Every failing case is printed whole; there is no file to keep.
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    })]

    #[test]
    fn memory_and_disk_agree_with_the_obvious_model(
        sequence in prop::collection::vec(steps(), 1..40)
    ) {
        run(sequence);
    }
}
