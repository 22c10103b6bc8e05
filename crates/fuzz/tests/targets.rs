//! Every target, a few hundred mutants long, and everything that was ever kept.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on stops"
)]

use session_fuzz::{Limit, Target, all, find, fuzz, replay};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const CASES: u64 = 1_000;

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
        .unwrap_or_default();
    files.sort();
    files
}

fn kept(folder: &str) -> Vec<(&'static Target, PathBuf)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let folders = files(&root).into_iter().filter(|path| path.is_dir());
    let inputs = folders.flat_map(|folder| {
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let target = find(&name);
        // Without the SDK its targets are not there.
        let absent = target.is_none() && cfg!(feature = "client");
        assert!(!absent, "no target {name}");
        let targets = target.into_iter();
        targets.flat_map(move |target| files(&folder).into_iter().map(move |file| (target, file)))
    });
    inputs.collect()
}

#[test]
fn targets_survive_mutants_of_their_seeds() {
    let seed = 20_251_121;
    println!("seed {seed}");
    for target in all() {
        let outcome = fuzz(target, seed, Limit::Cases(CASES), &[]);
        assert_eq!(outcome.failure, None, "{}", target.name);
        assert_eq!(outcome.cases, CASES);
    }
}

#[test]
fn seeds_are_accepted_so_that_mutants_begin_inside() {
    let mut names = BTreeSet::new();
    for target in all() {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has no seed", target.name);
        for (number, seed) in seeds.iter().enumerate() {
            let accepted = replay(target, seed);
            assert_eq!(accepted, Ok(true), "{} seed {number}", target.name);
        }
        assert!(names.insert(target.name), "{} twice", target.name);
    }
}

/// The corpus is what earlier releases wrote: refusing it is a change of format.
#[test]
fn the_corpus_is_accepted() {
    let corpus = kept("corpus");
    assert!(corpus.len() > 50, "{}", corpus.len());
    for (target, file) in corpus {
        let accepted = replay(target, &std::fs::read(&file).unwrap());
        assert_eq!(accepted, Ok(true), "{}", file.display());
    }
}

#[test]
fn what_once_panicked_does_not_any_more() {
    for (target, file) in kept("regressions") {
        let outcome = replay(target, &std::fs::read(&file).unwrap());
        assert!(outcome.is_ok(), "{}: {outcome:?}", file.display());
    }
}
