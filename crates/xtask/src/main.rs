//! `cargo xtask check`: fails when a layer imports what its invariant forbids, or a claim names a test
//! that does not exist.

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("check") | None => {}
        Some(other) => {
            eprintln!("xtask: {other} is no task; there is `check`");
            return ExitCode::from(2);
        }
    }
    let problems = xtask::check(&xtask::root());
    for problem in &problems {
        eprintln!("{problem}");
    }
    if problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
