//! Hosts: who decides which blocks are accepted.
//!
//! ```text
//! stand-alone   producer ─────────────┐
//! avalanchego   grpc ──▶ consensus ───┼─▶ ledger ─▶ session-chain
//! Lux node      zap ───▶ consensus ───┘
//! ```
//!
//! The stand-alone `producer` decides alone. A node that loads this program as
//! a plugin speaks to it over a wire (`grpc`, `zap`) which calls [`consensus`]; the chain's rules,
//! the pool and the RPC do not know which one runs. What is the same over both wires is here: how
//! a process lives and ends, what a chain is started with, its health, its paths.

mod blocks;
mod building;
pub mod consensus;
mod flow;
mod grpc;
mod health;
mod life;
pub(crate) mod log;
pub(crate) mod paths;
mod process;
mod remote;
mod start;
pub mod sync;
pub mod upgrade;
mod zap;

use std::process::ExitCode;

/// The variable by which nodes that started this program as a plugin say so, and how to run then.
enum Started {
    Avalanchego(String),
    Lux(&'static str, String),
    /// By a node whose wire is not known.
    Unknown(&'static str),
}

/// Who started this process, if a node did.
fn started(variable: impl Fn(&str) -> Option<String>) -> Option<Started> {
    if let Some(engine) = variable(grpc::ENGINE) {
        return Some(Started::Avalanchego(engine));
    }
    let speaks_zap = zap::TRANSPORTS
        .iter()
        .any(|name| variable(name).is_some_and(|transport| transport == zap::TRANSPORT));
    let mut engines = zap::ENGINES.into_iter();
    engines.find_map(|name| {
        let engine = variable(name)?;
        Some(if speaks_zap {
            Started::Lux(name, engine)
        } else {
            Started::Unknown(name)
        })
    })
}

/// Runs as a plugin if a node has started this process as one, until that node ends it. None: no
/// node did, and the process is what its arguments say.
pub fn run_hosted() -> Option<ExitCode> {
    let done = match started(|name| std::env::var(name).ok())? {
        Started::Avalanchego(engine) => grpc::run(&engine).map_err(|error| error.to_string()),
        Started::Lux(variable, engine) => {
            zap::run(variable, &engine).map_err(|error| error.to_string())
        }
        Started::Unknown(variable) => Err(format!(
            "{variable} is set, but not VM_TRANSPORT=zap: this program is a plugin of \
             avalanchego (protocols 42 to 46, {}) and of Lux nodes that speak ZAP \
             (VM_RUNTIME_ENGINE_ADDR with VM_TRANSPORT=zap), and otherwise runs stand-alone",
            grpc::ENGINE
        )),
    };
    Some(match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Into the chain's log, or the node's where there is no chain yet.
            eprintln!("sessionvm: {error}");
            ExitCode::FAILURE
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(set: &[(&str, &str)]) -> Option<Started> {
        started(|name| {
            let found = set.iter().find(|(set, _)| *set == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_tells_who_started_this() {
        assert!(with(&[]).is_none());
        assert!(with(&[("VM_TRANSPORT", "zap")]).is_none());
        let avalanchego = with(&[
            ("AVALANCHE_VM_RUNTIME_ENGINE_ADDR", "a"),
            ("VM_RUNTIME_ENGINE_ADDR", "b"),
            ("VM_TRANSPORT", "zap"),
        ]);
        assert!(matches!(avalanchego, Some(Started::Avalanchego(a)) if a == "a"));
        for transport in ["VM_TRANSPORT", "LUX_VM_TRANSPORT"] {
            for engine in ["VM_RUNTIME_ENGINE_ADDR", "LUX_VM_RUNTIME_ENGINE_ADDR"] {
                let lux = with(&[(engine, "b"), (transport, "zap")]);
                assert!(matches!(lux, Some(Started::Lux(name, b)) if name == engine && b == "b"));
                let other = with(&[(engine, "b"), (transport, "grpc")]);
                assert!(matches!(other, Some(Started::Unknown(_))));
                assert!(matches!(with(&[(engine, "b")]), Some(Started::Unknown(_))));
            }
        }
    }
}
