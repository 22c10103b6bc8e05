//! A plugin of avalanchego: gRPC both ways, known as "rpcchainvm", protocols 42 to 46.
//!
//! ```text
//! node ── starts with AVALANCHE_VM_RUNTIME_ENGINE_ADDR ──▶ plugin
//!      ◀── runtime.Initialize(protocol, address) ─────────
//!      ── vm.VM · http.HTTP · health ─────────────────────▶ server, http
//!      ◀── rpcdb.Database ── appsender ───────────────────  database, gossip
//! ```

mod database;
mod gossip;
mod health;
mod http;
mod protocol;
mod server;
mod start;

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use session_core::limits::RPC_BODY_MAX;
use session_rpcchainvm::health::health_server::HealthServer;
use session_rpcchainvm::http::http_server::HttpServer;
use session_rpcchainvm::vm::runtime::InitializeRequest;
use session_rpcchainvm::vm::runtime::runtime_client::RuntimeClient;
use session_rpcchainvm::vm::vm_server::VmServer;
use tonic::Status;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

use self::health::Serving;
use self::http::LateHttp;
use self::server::Plugin;
use crate::host::life::{End, Life};
use crate::host::process::{self, PluginError};
use crate::host::start::Starter;

/// The variable that names the node's address. Nothing else tells a plugin that it is one.
pub(super) const ENGINE: &str = "AVALANCHE_VM_RUNTIME_ENGINE_ADDR";

/// The node gives a plugin 5 s from its start to its handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often an idle connection to the node is tried.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// A request through the node is decoded whole: what is longer is refused before it is.
const HTTP_MESSAGE_MAX: usize = 4 * RPC_BODY_MAX;

/// A connection to a server of the node's, made when it is first used.
fn connect(address: &str) -> Result<Channel, Status> {
    let wrong =
        |error: &dyn std::fmt::Display| Status::invalid_argument(format!("{address:?}: {error}"));
    let socket: SocketAddr = address.parse().map_err(|error| wrong(&error))?;
    let endpoint =
        Endpoint::from_shared(format!("http://{socket}")).map_err(|error| wrong(&error))?;
    Ok(endpoint
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .connect_lazy())
}

/// Runs as a plugin of the node at `engine` until the node, or its end, ends it.
///
/// # Errors
/// [`PluginError`].
pub(super) fn run(engine: &str) -> Result<(), PluginError> {
    process::run(|life, starter| serve(engine, life, starter))
}

async fn serve(engine: &str, life: Life, starter: Starter) -> Result<(), PluginError> {
    // Asked before anything is promised: it takes 0.2 s of the five.
    let protocol = tokio::task::spawn_blocking(protocol::number).await;
    let protocol = protocol.map_err(std::io::Error::other)?;
    let listener = tokio::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?.to_string();
    let running = Arc::new(OnceLock::new());
    let http = HttpServer::new(LateHttp(running.clone()))
        .max_decoding_message_size(HTTP_MESSAGE_MAX)
        .max_encoding_message_size(usize::MAX);
    let plugin = Plugin {
        running: running.clone(),
        starter,
        life: life.clone(),
        address: address.clone(),
    };
    let vm = VmServer::new(plugin)
        .max_decoding_message_size(usize::MAX)
        .max_encoding_message_size(usize::MAX);
    // On accepted sockets: the server's own option does not reach them, and without it a call may
    // wait 40 ms for an acknowledgement.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let server = Server::builder()
        .add_service(vm)
        .add_service(http)
        .add_service(HealthServer::new(Serving))
        .serve_with_incoming(incoming);
    let server = tokio::spawn(server);
    let end = tokio::select! {
        end = process::until_ended(&life, shake_hands(engine, protocol, address)) => end?,
        served = server => {
            served.map_err(std::io::Error::other)??;
            End::Fatal
        }
    };
    process::finish(end, async {
        if let Some(running) = running.get() {
            running.stop().await;
        }
    })
    .await
}

/// Tells the node where the plugin serves, and in which protocol.
async fn shake_hands(engine: &str, protocol: u32, addr: String) -> Result<(), PluginError> {
    let channel = connect(engine).map_err(|status| PluginError::Address {
        variable: ENGINE,
        address: engine.to_owned(),
        problem: status.message().to_owned(),
    })?;
    let request = InitializeRequest {
        protocol_version: protocol,
        addr,
    };
    let mut runtime = RuntimeClient::new(channel);
    let told = tokio::time::timeout(HANDSHAKE_TIMEOUT, runtime.initialize(request)).await;
    let refused = |message: &str| PluginError::Refused {
        protocol,
        message: message.to_owned(),
    };
    match told {
        Ok(Ok(_)) => Ok(()),
        // At once: a plugin that waits for the node to end it may outlive it.
        Ok(Err(status)) => Err(refused(status.message())),
        Err(_) => Err(refused("no answer in 5 s")),
    }
}
