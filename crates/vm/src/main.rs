//! `sessionvm`: a virtual machine for encrypted messaging, stand-alone or as a node's plugin.

use std::process::ExitCode;

use clap::Parser;
use session_vm::app::{NodeArgs, run, version_json};

/// A virtual machine for encrypted messaging: orders, stores and proves what people send.
#[derive(Parser)]
#[command(
    name = "sessionvm",
    version,
    about,
    after_help = "Examples:\n  sessionvm --data-dir ./data\n  sessionvm --data-dir ./data --rpc 127.0.0.1:0 --admission signed\n\nExit codes: 0 stopped cleanly, 1 could not start or go on, 2 wrong arguments."
)]
struct Args {
    /// Prints version and protocols as JSON and exits
    #[arg(long)]
    version_json: bool,
    #[command(flatten)]
    node: NodeArgs,
}

fn main() -> ExitCode {
    if let Some(code) = session_vm::host::run_hosted() {
        return code;
    }
    let args = Args::parse();
    if args.version_json {
        println!("{}", version_json());
        return ExitCode::SUCCESS;
    }
    match run(args.node) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sessionvm: {error}");
            ExitCode::FAILURE
        }
    }
}
