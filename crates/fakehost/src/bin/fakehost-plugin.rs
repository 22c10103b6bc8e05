//! The plugin itself, under a name that this crate's tests can find.

use std::process::ExitCode;

fn main() -> ExitCode {
    session_vm::host::run_hosted().unwrap_or_else(|| {
        eprintln!("fakehost-plugin: no host has started this program");
        ExitCode::from(2)
    })
}
