//! A plugin of Lux nodes: ZAP, protocol 42.
//!
//! ```text
//! node ── starts with VM_RUNTIME_ENGINE_ADDR, VM_TRANSPORT=zap ──▶ plugin
//!      ◀── handshake: protocol, address ───────────────────────────
//!      ── frames, many calls at once ─────────────────────────────▶ connection ─▶ server
//!      ◀── its database, if it serves one ────────────────────────  database
//!      ── plain HTTP, the path as it came ────────────────────────▶ rpc
//! ```
//!
//! No node is known that takes messages to peers from a plugin: there is no gossip on this wire,
//! and what is submitted to a node waits until that node builds.

mod connection;
mod database;
mod server;
mod start;
mod sync;

use std::sync::Arc;
use std::time::Duration;

use session_zap::handshake::{Handshake, PROTOCOL, TAKEN};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use self::server::Plugin;
use crate::host::life::Life;
use crate::host::process::{self, PluginError};
use crate::host::start::Starter;

/// The variables that name the node's address, the older one second.
pub(super) const ENGINES: [&str; 2] = ["VM_RUNTIME_ENGINE_ADDR", "LUX_VM_RUNTIME_ENGINE_ADDR"];

/// The variables that name the wire, the older one second.
pub(super) const TRANSPORTS: [&str; 2] = ["VM_TRANSPORT", "LUX_VM_TRANSPORT"];

/// This wire in them.
pub(super) const TRANSPORT: &str = "zap";

/// The node gives a plugin 5 s from its start to its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs as a plugin of the node at `engine` until the node, or its end, ends it.
///
/// # Errors
/// [`PluginError`].
pub(super) fn run(variable: &'static str, engine: &str) -> Result<(), PluginError> {
    process::run(|life, starter| serve(variable, engine, life, starter))
}

async fn serve(
    variable: &'static str,
    engine: &str,
    life: Life,
    starter: Starter,
) -> Result<(), PluginError> {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    let plugin = Arc::new(Plugin::new(starter, life.clone()));
    let serving = tokio::spawn(connection::accept(listener, plugin.clone()));
    let end = process::until_ended(&life, shake_hands(variable, engine, address)).await?;
    process::finish(end, plugin.stop()).await?;
    serving.abort();
    Ok(())
}

/// Tells the node where the plugin serves, and in which protocol.
async fn shake_hands(
    variable: &'static str,
    engine: &str,
    address: String,
) -> Result<(), PluginError> {
    let wrong = |error: std::io::Error| PluginError::Address {
        variable,
        address: engine.to_owned(),
        problem: error.to_string(),
    };
    let said = Handshake {
        protocol: PROTOCOL,
        address,
    };
    let told = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        // A node may listen at a socket of the file system instead.
        if engine.starts_with('/') {
            say(UnixStream::connect(engine).await.map_err(wrong)?, &said).await
        } else {
            say(TcpStream::connect(engine).await.map_err(wrong)?, &said).await
        }
    });
    told.await
        .unwrap_or_else(|_| Err(refused("no answer in 5 s")))
}

fn refused(message: &str) -> PluginError {
    PluginError::Refused {
        protocol: PROTOCOL,
        message: message.to_owned(),
    }
}

async fn say(
    mut engine: impl AsyncRead + AsyncWrite + Unpin,
    said: &Handshake,
) -> Result<(), PluginError> {
    engine.write_all(&said.to_bytes()).await?;
    match engine.read_u8().await {
        Ok(TAKEN) => Ok(()),
        Ok(other) => Err(refused(&format!("it answered {other} instead of 1"))),
        // That is how it says no.
        Err(_) => Err(refused("it closed the connection without an answer")),
    }
}
