//! Hosts: who decides which blocks are accepted.
//!
//! ```text
//! stand-alone   producer ─────────────┐
//! avalanchego   grpc ──▶ consensus ───┴─▶ ledger ─▶ session-chain
//! ```
//!
//! The stand-alone `producer` decides alone. A node that loads this program as
//! a plugin speaks to it over a wire (`grpc`) which calls [`consensus`]; the chain's rules, the
//! pool and the RPC do not know which one runs.

mod blocks;
mod building;
pub mod consensus;
mod flow;
mod grpc;
pub(crate) mod log;
pub mod sync;
pub mod upgrade;

use std::process::ExitCode;

/// The variables by which Lux nodes name their address, the older one second.
const LUX_ENGINES: [&str; 2] = ["VM_RUNTIME_ENGINE_ADDR", "LUX_VM_RUNTIME_ENGINE_ADDR"];

/// Runs as a plugin if a node has started this process as one, until that node ends it. None: no
/// node did, and the process is what its arguments say.
pub fn run_hosted() -> Option<ExitCode> {
    if let Ok(engine) = std::env::var(grpc::ENGINE) {
        return Some(match grpc::run(&engine) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                // Into the chain's log, or the node's where there is no chain yet.
                eprintln!("sessionvm: {error}");
                ExitCode::FAILURE
            }
        });
    }
    let lux = LUX_ENGINES
        .iter()
        .find(|name| std::env::var_os(name).is_some())?;
    eprintln!(
        "sessionvm: {lux} is set: this program is a plugin of avalanchego (protocols 42 to 46, \
         {}), and otherwise runs stand-alone",
        grpc::ENGINE
    );
    Some(ExitCode::FAILURE)
}
