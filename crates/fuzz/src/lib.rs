//! Fuzzing of every decoder that faces bytes from outside.
//!
//! ```text
//! seeds by code + corpus/ + regressions/ ──▶ pool ──▶ mutate(seeded) ──▶ target ──▶ no panic, and
//!                                              ▲                           │       re-encodes
//!                                              └── what it accepted ───────┘
//! ```
//!
//! This is **mutation-based, not coverage-guided**: nothing watches which branches an input takes.
//! The one feedback is acceptance: half of the inputs are mutants of seeds, half of mutants that
//! the decoder took. It needs no nightly compiler and runs in the ordinary tests; a coverage-guided fuzzer can
//! drive the same [`Target::run`] functions.
//!
//! Every [`Target`] asserts that the decoder does not panic and that what it accepts has one
//! encoding: it encodes to the same bytes, or, for texts and JSON, to a text that reads back as the
//! same value. Where a verifier needs no key it runs too. Arithmetic overflow is seen only in
//! builds that check it, as tests and `cargo run` without `--release` do. A stack overflow or an
//! abort ends the process before anything is written; the printed seed leads there again.
//!
//! ```
//! use session_fuzz::{Limit, find, fuzz};
//!
//! let target = find("cb58").ok_or("no such target")?;
//! let outcome = fuzz(target, 7, Limit::Cases(100), &[]);
//! assert_eq!((outcome.cases, outcome.failure), (100, None));
//! # Ok::<(), &str>(())
//! ```

mod mutate;
mod runner;
mod target;

pub use mutate::{INPUT_BYTES_MAX, Mutator};
pub use runner::{Failure, Limit, Outcome, fuzz, replay};
pub use target::{Target, all, find};
