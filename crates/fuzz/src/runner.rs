//! Runs a target on mutants until a limit, and keeps what made it panic.

use crate::mutate::Mutator;
use crate::target::Target;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// Accepted mutants in a pool at most: beyond that one takes the place of another.
const BRED_MAX: usize = 1_024;

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// After so many mutants: the same seed does the same.
    Cases(u64),
    /// After so much time, but not before the first mutant.
    Time(Duration),
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Mutants tried.
    pub cases: u64,
    /// How many of them the decoder accepted.
    pub accepted: u64,
    /// The first failure, which ended the run.
    pub failure: Option<Failure>,
}

/// An input that made a target panic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The input.
    pub input: Vec<u8>,
    /// What the panic said.
    pub message: String,
}

/// Runs a target on every input of `corpus` and of its own seeds, then on mutants of them.
pub fn fuzz(target: &Target, seed: u64, limit: Limit, corpus: &[Vec<u8>]) -> Outcome {
    let mut outcome = Outcome {
        cases: 0,
        accepted: 0,
        failure: None,
    };
    let mut seeds = (target.seeds)();
    seeds.extend_from_slice(corpus);
    // Kept apart from what is bred: acceptance alone selects for the shortest input there is.
    let mut bred: Vec<Vec<u8>> = Vec::new();
    for input in &seeds {
        if let Err(failure) = replay(target, input) {
            outcome.failure = Some(failure);
            return outcome;
        }
    }
    let began = Instant::now();
    // The name is part of the seed, so that targets do not all cut at the same places.
    let name = target.name.bytes();
    let mut mutator = Mutator::new(name.fold(seed, |sum, byte| {
        sum.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte)
    }));
    loop {
        let over = match limit {
            Limit::Cases(cases) => outcome.cases >= cases,
            Limit::Time(time) => outcome.cases > 0 && began.elapsed() >= time,
        };
        if over {
            return outcome;
        }
        let pool = match mutator.below(2) {
            0 if !bred.is_empty() => &bred,
            _ => &seeds,
        };
        let input = mutator.mutant(pool);
        outcome.cases += 1;
        match replay(target, &input) {
            Ok(false) => {}
            Ok(true) => {
                outcome.accepted += 1;
                if bred.len() < BRED_MAX {
                    bred.push(input);
                } else {
                    let at = mutator.below(BRED_MAX);
                    if let Some(place) = bred.get_mut(at) {
                        *place = input;
                    }
                }
            }
            Err(failure) => {
                outcome.failure = Some(failure);
                return outcome;
            }
        }
    }
}

/// Runs a target on one input and answers whether the decoder accepted it.
///
/// # Errors
/// [`Failure`], if it panicked.
pub fn replay(target: &Target, input: &[u8]) -> Result<bool, Failure> {
    // Targets keep nothing between calls but keys that never change.
    catch_unwind(AssertUnwindSafe(|| (target.run)(input))).map_err(|panic| {
        let message = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Failure {
            input: input.to_vec(),
            message: message.unwrap_or_default(),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_panic_is_found_and_replayed() {
        let target = Target {
            name: "planted",
            run: |bytes| {
                assert!(bytes.first() != Some(&0xff), "planted");
                bytes.len() > 2
            },
            seeds: || vec![vec![0; 4]],
        };
        let outcome = fuzz(&target, 1, Limit::Cases(100_000), &[]);
        let failure = outcome.failure.unwrap();
        assert_eq!(failure.message, "planted");
        assert_eq!(replay(&target, &failure.input), Err(failure));
        assert_eq!(replay(&target, &[0; 3]), Ok(true));
        // A failing corpus is found before anything is mutated.
        let outcome = fuzz(&target, 1, Limit::Cases(9), &[vec![0xff]]);
        assert_eq!((outcome.cases, outcome.failure.is_some()), (0, true));
    }
}
