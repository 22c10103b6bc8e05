//! A plugin's process: its threads, its calls of consensus, its end.
//!
//! Three sets of threads, so that none waits for another: calls of the node, the RPC (whose reads
//! wait for the node's database), and the database's own calls.

use std::future::Future;
use std::sync::Arc;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;

use super::consensus::{Consensus, ConsensusError};
use super::life::{End, Life};
use super::log;
use super::start::{LAST_ANSWERS, STOP_TIMEOUT, Starter};

/// Why a plugin ends before its time.
#[derive(Debug, thiserror::Error)]
pub(in crate::host) enum PluginError {
    /// The operating system refused something.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The node's address is none.
    #[error("{variable}={address:?}: {problem}")]
    Address {
        /// The variable that names it.
        variable: &'static str,
        /// As given.
        address: String,
        /// What is wrong.
        problem: String,
    },
    /// The node does not want this plugin.
    #[error("the node refuses protocol {protocol}: {message}")]
    Refused {
        /// What was offered.
        protocol: u32,
        /// What the node says.
        message: String,
    },
    /// Serving failed.
    #[error("serving the node: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// Something was accepted that could not be written.
    #[error("an accepted block could not be written: the node must be restarted")]
    Fatal,
}

fn threads(name: &str, count: usize) -> std::io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(count)
        .thread_name(name)
        .enable_all()
        .build()
}

/// Runs a plugin until its node, or the node's end, ends it.
///
/// # Errors
/// [`PluginError`].
pub(in crate::host) fn run<F>(serve: impl FnOnce(Life, Starter) -> F) -> Result<(), PluginError>
where
    F: Future<Output = Result<(), PluginError>>,
{
    let life = Life::new();
    let log = log::start();
    let calls = threads("calls", 2)?;
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let rpc = threads("rpc", cores)?;
    let database = threads("database", 1)?;
    let starter = Starter {
        database: database.handle().clone(),
        rpc: rpc.handle().clone(),
        stop: watch::Sender::new(false),
        log,
    };
    let result = calls.block_on(serve(life, starter));
    for runtime in [rpc, calls, database] {
        runtime.shutdown_background();
    }
    result
}

/// Makes the handshake and goes on until the process is to end. Signals are caught from before the
/// handshake on, and without a gap: a node that only asks for the version has done so, and sends
/// SIGTERM, within a millisecond.
///
/// # Errors
/// The handshake's.
pub(in crate::host) async fn until_ended(
    life: &Life,
    handshake: impl Future<Output = Result<(), PluginError>>,
) -> Result<End, PluginError> {
    let mut end = std::pin::pin!(life.end());
    tokio::select! {
        biased;
        // A node that dies meanwhile.
        end = &mut end => return Ok(end?),
        taken = handshake => taken?,
    }
    Ok(end.await?)
}

/// Stops the chain, if one runs, and says how the process is to end.
///
/// # Errors
/// [`PluginError::Fatal`].
pub(in crate::host) async fn finish(
    end: End,
    stop: impl Future<Output = ()>,
) -> Result<(), PluginError> {
    tracing::info!(?end, "ending");
    let _cut = tokio::time::timeout(STOP_TIMEOUT, stop).await;
    if end == End::Fatal {
        // The answer that tells the node should reach it.
        tokio::time::sleep(LAST_ANSWERS).await;
        return Err(PluginError::Fatal);
    }
    Ok(())
}

/// Why a call of consensus has no result.
#[derive(Debug, thiserror::Error)]
pub(in crate::host) enum CallError {
    /// It was refused.
    #[error("{0}")]
    Consensus(#[from] ConsensusError),
    /// It panicked, or the plugin ends.
    #[error("the call broke off")]
    BrokeOff,
}

/// Runs a call of consensus where it may take its time. What was accepted and could not be written
/// ends the plugin.
///
/// # Errors
/// [`CallError`].
pub(in crate::host) async fn call<T: Send + 'static>(
    consensus: Arc<Consensus>,
    life: &Life,
    call: impl FnOnce(&Consensus) -> Result<T, ConsensusError> + Send + 'static,
) -> Result<T, CallError> {
    let done = tokio::task::spawn_blocking(move || call(&consensus)).await;
    let result = done.map_err(|error| {
        tracing::error!(%error, "a call broke off");
        CallError::BrokeOff
    })?;
    if let Err(error @ ConsensusError::NotWritten { .. }) = &result {
        tracing::error!(%error, "stopping: going on would part from the chain");
        life.fatal();
    }
    Ok(result?)
}
