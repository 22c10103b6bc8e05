//! The stand-alone program: options, start, signals, clean stop.
//!
//! Flags override the environment, which overrides the configuration file.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::genesis::RateJson;
use session_core::parameters::{Admission, Rate};
use tokio::sync::watch;

use crate::node::{Node, NodeOptions, OpenError};
use crate::rpc::tls::{Tls, TlsError, TlsFiles};
use crate::rpc::{Context, Server, ServerError, ServerOptions};

/// File in the data directory that tells the operator's tools where a running node is, and the
/// token that it takes from them.
pub const ADMIN_FILE: &str = "admin.json";

/// Requests of one address on a node that others reach: a busy household behind one router.
const REMOTE_ADDRESS_RATE: Rate = Rate {
    per_second: 200,
    burst: 2_000,
};

/// Transactions of one identity on such a node: a person types less, a file comes in pieces.
const REMOTE_IDENTITY_RATE: Rate = Rate {
    per_second: 50,
    burst: 10_000,
};

/// Options of `sessionvm` and of `session node run`.
#[derive(Debug, Clone, clap::Args)]
pub struct NodeArgs {
    /// Directory for everything the node keeps; made if missing
    #[arg(long, env = "SESSIONVM_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the RPC [default: 127.0.0.1:9652]; port 0 takes a free one
    #[arg(long, env = "SESSIONVM_ADDR", value_name = "ADDRESS")]
    pub rpc: Option<SocketAddr>,
    /// Genesis for a first start; later it must be the same
    #[arg(long, env = "SESSIONVM_GENESIS", value_name = "FILE")]
    pub genesis: Option<PathBuf>,
    /// Certificate chain of the RPC in PEM; with it and its key the RPC speaks TLS 1.3 alone
    #[arg(long, env = "SESSIONVM_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// Private key of that certificate in PEM
    #[arg(long, env = "SESSIONVM_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Configuration in JSON: rpc, token, tlsCert, tlsKey, hosts, corsOrigins, connectionsMax, ratePerAddress, ratePerIdentity, versionsBytes
    #[arg(long, env = "SESSIONVM_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Who may write, for the genesis of a first start: open on a local chain, else signed
    #[arg(long, env = "SESSIONVM_ADMISSION", value_parser = ["open", "signed"])]
    pub admission: Option<String>,
    /// What to log, such as info or session_vm=debug
    #[arg(
        long,
        env = "SESSIONVM_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,
    /// Writes log lines as JSON
    #[arg(long, env = "SESSIONVM_LOG_JSON")]
    pub log_json: bool,
    /// Serves a chain with open admission on an address that others can reach
    #[arg(long)]
    pub allow_open: bool,
    /// Starts although the clock is far from the last block's time
    #[arg(long)]
    pub accept_time: bool,
    /// Verifies every signature from the bytes of its key
    #[arg(long, env = "SESSIONVM_NO_PREPARED_KEYS")]
    pub no_prepared_keys: bool,
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConfigFile {
    rpc: Option<SocketAddr>,
    data_dir: Option<PathBuf>,
    token: Option<String>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    hosts: Vec<String>,
    cors_origins: Vec<String>,
    connections_max: Option<usize>,
    rate_per_address: Option<RateJson>,
    rate_per_identity: Option<RateJson>,
    versions_bytes: Option<usize>,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, Value>,
}

/// Why the program ends.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// A file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// File.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The configuration is not what is expected.
    #[error("{path}: {error}")]
    Config {
        /// File.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
    /// No place for data.
    #[error("no data directory: give --data-dir DIR or set SESSIONVM_DATA_DIR")]
    NoDataDir,
    /// The log filter is malformed.
    #[error("--log: {0}")]
    Log(#[from] tracing_subscriber::filter::ParseError),
    /// The node does not open.
    #[error("{0}")]
    Open(#[from] OpenError),
    /// The server does not start.
    #[error("{0}")]
    Server(#[from] ServerError),
    /// TLS cannot be served.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// Others could write unsigned.
    #[error(
        "{address} can be reached by others, and this chain admits unsigned transactions: use a \
         loopback address, a genesis with admission signed, or --allow-open"
    )]
    OpenToOthers {
        /// Address.
        address: SocketAddr,
    },
    /// Others could read and write without a token.
    #[error(
        "{address} can be reached by others: set \"token\" in the configuration file, or \
         SESSIONVM_TOKEN, so that every call must carry it"
    )]
    NoToken {
        /// Address.
        address: SocketAddr,
    },
    /// The operating system refused something.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Version and protocols as JSON.
pub fn version_json() -> String {
    json!({
        "name": "sessionvm",
        "version": env!("CARGO_PKG_VERSION"),
        "vmId": "speKUgLBX6WRD5cfGeEfLa43LxTXUBckvtv4td6F3eTXvRP48",
        "hosts": ["stand-alone", "avalanchego"],
        "rpcchainvm": session_rpcchainvm::PROTOCOL_MAX,
        "rpcchainvmMin": session_rpcchainvm::PROTOCOL_MIN,
    })
    .to_string()
}

fn read_config(path: Option<&Path>) -> Result<ConfigFile, AppError> {
    let Some(path) = path else {
        return Ok(ConfigFile::default());
    };
    let path = path.to_owned();
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) => return Err(AppError::File { path, error }),
    };
    let config: ConfigFile =
        serde_json::from_slice(&bytes).map_err(|error| AppError::Config { path, error })?;
    for key in config.others.keys() {
        tracing::warn!(%key, "ignored: chain parameters come from the genesis, and nothing else has that name");
    }
    Ok(config)
}

fn start_log(args: &NodeArgs) -> Result<(), AppError> {
    let filter: tracing_subscriber::EnvFilter = args.log.parse()?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // A second start in one process keeps the first one's log.
    let _started = if args.log_json {
        builder.json().try_init()
    } else {
        let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
        builder.with_ansi(color).try_init()
    };
    Ok(())
}

/// Runs a node until SIGTERM or Ctrl-C. Prints one line of JSON on stdout when it is ready:
/// `{"rpc":"http://…","chain":"…","height":…}`, `https://…` where it speaks TLS.
///
/// # Errors
/// [`AppError`].
pub fn run(args: NodeArgs) -> Result<(), AppError> {
    start_log(&args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let result = runtime.block_on(serve(args));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    result
}

/// What flags, environment and configuration file come to.
struct Settings {
    server: ServerOptions,
    node: NodeOptions,
    data_dir: PathBuf,
    tls: Option<Arc<Tls>>,
    admin_token: String,
    /// Whether only this machine reaches the node.
    local: bool,
    allow_open: bool,
}

impl Settings {
    fn new(args: NodeArgs) -> Result<Self, AppError> {
        let config = read_config(args.config.as_deref())?;
        let data_dir = args.data_dir.or(config.data_dir);
        let data_dir = data_dir.ok_or(AppError::NoDataDir)?;
        let mut server = ServerOptions {
            hosts: config.hosts,
            cors_origins: config.cors_origins,
            token: std::env::var("SESSIONVM_TOKEN")
                .ok()
                .filter(|t| !t.is_empty())
                .or(config.token),
            ..ServerOptions::default()
        };
        server.address = args.rpc.or(config.rpc).unwrap_or(server.address);
        server.connections_max = config.connections_max.unwrap_or(server.connections_max);
        let address = server.address;
        let local = address.ip().is_loopback();
        // Programs of one's own machine are not slowed down unless somebody asks for it.
        let rate = |given: Option<RateJson>, remote| {
            given.map_or(if local { Rate::UNLIMITED } else { remote }, Into::into)
        };
        server.address_rate = rate(config.rate_per_address, REMOTE_ADDRESS_RATE);
        let identity_rate = rate(config.rate_per_identity, REMOTE_IDENTITY_RATE);
        let genesis = match args.genesis {
            Some(path) => match std::fs::read(&path) {
                Ok(bytes) => Some(bytes),
                Err(error) => return Err(AppError::File { path, error }),
            },
            None => None,
        };
        // What others can reach is signed unless somebody asks for more.
        let admission = args.admission.or_else(|| {
            (!local && genesis.is_none() && !data_dir.join("store").exists())
                .then(|| "signed".to_owned())
        });
        if !local && server.token.is_none() {
            return Err(AppError::NoToken { address });
        }
        let tls = TlsFiles::both(
            args.tls_cert.or(config.tls_cert),
            args.tls_key.or(config.tls_key),
        )?;
        let tls = tls.map(Tls::load).transpose()?.map(Arc::new);
        if !local && tls.is_none() {
            tracing::warn!(
                %address,
                "NO TLS: whoever is on the way can read the token and every call, and change them. \
                 Give tlsCert and tlsKey, or keep this address behind a TLS proxy"
            );
        }
        server.tls.clone_from(&tls);
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).map_err(std::io::Error::other)?;
        let admin_token = const_hex::encode(secret);
        server.admin_token = Some(admin_token.clone());
        let defaults = NodeOptions::default();
        let node = NodeOptions {
            data_dir: Some(data_dir.clone()),
            genesis,
            admission,
            accept_time: args.accept_time,
            identity_rate,
            versions_bytes: config.versions_bytes.unwrap_or(defaults.versions_bytes),
            prepare_keys: !args.no_prepared_keys,
            ..defaults
        };
        Ok(Self {
            server,
            node,
            data_dir,
            tls,
            admin_token,
            local,
            allow_open: args.allow_open,
        })
    }
}

async fn serve(args: NodeArgs) -> Result<(), AppError> {
    let settings = Settings::new(args)?;
    let (tls, admin_token) = (settings.tls, settings.admin_token);
    let admin_file = settings.data_dir.join(ADMIN_FILE);
    let node = settings.node;
    let node = Arc::new(tokio::task::block_in_place(|| Node::start(node))?);
    let open = node.parameters().admission == Admission::Open;
    if !settings.local && !settings.allow_open && open {
        let address = settings.server.address;
        return Err(AppError::OpenToOthers { address });
    }
    let server = Server::bind(Context { node: node.clone() }, settings.server).await?;
    let address = server.address();
    let (chain, height) = (node.chain(), node.head().header.height);
    let scheme = if tls.is_some() { "https" } else { "http" };
    let rpc = format!("{scheme}://{address}");
    let admin = admin_json(&rpc, &admin_token, tls.as_deref())?;
    crate::head_key::write_private(&admin_file, admin.as_bytes())?;
    let ready = json!({ "rpc": rpc, "chain": chain, "height": height });
    let mut out = std::io::stdout();
    // Whoever started the node may not read its output.
    let _nobody = writeln!(out, "{ready}").and_then(|()| out.flush());
    tracing::info!(%address, %chain, height, "ready");
    let (stop, stopped) = watch::channel(false);
    let serving = tokio::spawn(server.run(stopped));
    match &tls {
        Some(tls) => {
            until_signal_or_hangup(|| reload(tls, &admin_file, &rpc, &admin_token)).await?
        }
        None => until_signal().await?,
    }
    tracing::info!("stopping");
    let _nobody = stop.send(true);
    let _ended = serving.await;
    tokio::task::block_in_place(|| node.stop());
    let _leftover = std::fs::remove_file(&admin_file);
    tracing::info!("stopped");
    Ok(())
}

/// What the operator's tools need to reach this node: with TLS also its certificate, since the
/// certificate names a host and these tools call an address.
fn admin_json(rpc: &str, token: &str, tls: Option<&Tls>) -> Result<String, AppError> {
    let mut admin = json!({ "rpc": rpc, "token": token });
    if let (Some(tls), Some(map)) = (tls, admin.as_object_mut()) {
        let ca = std::path::absolute(&tls.files().cert)?;
        map.insert("ca".to_owned(), json!(ca));
        let fingerprint = const_hex::encode(tls.fingerprint());
        map.insert("certSha256".to_owned(), json!(fingerprint));
    }
    Ok(admin.to_string())
}

/// A renewed certificate counts without a restart.
fn reload(tls: &Tls, admin_file: &Path, rpc: &str, token: &str) {
    if let Err(error) = tls.reload() {
        tracing::error!(%error, "SIGHUP: the TLS certificate stays as it was");
        return;
    }
    tracing::info!("SIGHUP: read the TLS certificate and key again");
    let written = admin_json(rpc, token, Some(tls)).and_then(|admin| {
        crate::head_key::write_private(admin_file, admin.as_bytes()).map_err(AppError::from)
    });
    if let Err(error) = written {
        let path = admin_file.display();
        tracing::error!(%error, %path, "the operator's tools still expect the certificate before");
    }
}

#[cfg(unix)]
async fn until_signal() -> Result<(), AppError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Only a node with a certificate listens to SIGHUP: another one ends with its terminal, or does
/// not where `nohup` says so.
#[cfg(unix)]
async fn until_signal_or_hangup(on_hangup: impl Fn()) -> Result<(), AppError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut hangup = signal(SignalKind::hangup())?;
    let mut stop = std::pin::pin!(until_signal());
    loop {
        tokio::select! {
            stopped = stop.as_mut() => return stopped,
            _ = hangup.recv() => on_hangup(),
        }
    }
}

#[cfg(not(unix))]
async fn until_signal() -> Result<(), AppError> {
    Ok(tokio::signal::ctrl_c().await?)
}

#[cfg(not(unix))]
async fn until_signal_or_hangup(_on_hangup: impl Fn()) -> Result<(), AppError> {
    until_signal().await
}
