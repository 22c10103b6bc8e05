//! From `Initialize` to a running chain: database, genesis, configuration, gossip, RPC.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use session_chain::genesis::RateJson;
use session_chain::mempool::Limits;
use session_core::ids::ChainId;
use session_core::parameters::Rate;
use session_core::time::SECOND_MS;
use session_rpcchainvm::vm::InitializeRequest;
use session_storage::{RemoteStore, StoreError};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tonic::Status;

use super::connect;
use super::database::HostDatabase;
use super::gossip::{Gossip, Outbox};
use super::http::NodeHttp;
use crate::host::consensus::Consensus;
use crate::host::log::Level;
use crate::host::sync::{SyncOptions, tidy};
use crate::host::upgrade::{UpgradeError, Upgrades};
use crate::node::{NodeOptions, OpenError};
use crate::rpc::{Context, ServerOptions, host_router};

/// The longest that a call waits: a node adds no chain while one is open.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// Configuration bytes at most.
const CONFIG_BYTES_MAX: usize = 64 << 10;

/// Keys of the genesis that published configurations repeat: what a block means never depends on
/// them.
const OF_THE_GENESIS: [&str; 5] = [
    "sessionTTL",
    "maxMessages",
    "maxChannels",
    "retentionDays",
    "idPrefix",
];

/// A chain's configuration: nothing in it changes what a block means.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    /// Transactions of one identity, a second and at once, through this node.
    rate_per_identity: Option<RateJson>,
    /// Bytes that past states may take.
    versions_bytes: Option<usize>,
    /// Bytes of transactions that may wait.
    pool_bytes: Option<usize>,
    /// Bearer token that every call must carry.
    token: Option<String>,
    /// What to log.
    log: Option<String>,
    /// Whether the state of a recent block is taken over, where the host offers one.
    state_sync: Option<bool>,
    /// Blocks between two states that are offered.
    state_sync_interval: Option<u64>,
    /// Fewer blocks than this are applied one by one.
    state_sync_min_blocks: Option<u64>,
    /// A node whose last block is younger does not ask for a state.
    state_sync_min_seconds: Option<u64>,
    /// Bytes of memory that offered states may hold.
    state_sync_bytes: Option<usize>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

/// Why a chain does not start.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error("configuration: {0}")]
    Config(#[from] serde_json::Error),
    #[error("configuration: {0} bytes, at most 65536")]
    ConfigTooLong(usize),
    #[error("configuration: log: {0}")]
    Log(String),
    #[error("configuration: stateSyncInterval: at least one block")]
    Interval,
    #[error("{0}")]
    Upgrade(#[from] UpgradeError),
    #[error("the host's {what} has {got} bytes, expected {expected}")]
    Length {
        what: &'static str,
        got: usize,
        expected: usize,
    },
    #[error("the host's address: {0}")]
    Address(Status),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("opening broke off")]
    Panicked,
}

impl Config {
    fn sync(&self) -> Result<SyncOptions, StartError> {
        let defaults = SyncOptions::default();
        let interval = self.state_sync_interval.unwrap_or(defaults.interval);
        if interval == 0 {
            return Err(StartError::Interval);
        }
        Ok(SyncOptions {
            enabled: self.state_sync.unwrap_or(defaults.enabled),
            interval,
            min_blocks: self.state_sync_min_blocks.unwrap_or(defaults.min_blocks),
            min_age_ms: self
                .state_sync_min_seconds
                .map_or(defaults.min_age_ms, |seconds| {
                    seconds.saturating_mul(SECOND_MS)
                }),
            held_bytes: self.state_sync_bytes.unwrap_or(defaults.held_bytes),
        })
    }
}

fn read_config(bytes: &[u8]) -> Result<Config, StartError> {
    if bytes.len() > CONFIG_BYTES_MAX {
        return Err(StartError::ConfigTooLong(bytes.len()));
    }
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Config::default());
    }
    let config: Config = serde_json::from_slice(bytes)?;
    for key in config.others.keys() {
        if OF_THE_GENESIS.contains(&key.as_str()) {
            tracing::warn!(%key, "ignored: it comes from the genesis, a node's own value would part it from the others");
        } else {
            tracing::warn!(%key, "the configuration has a key that means nothing here");
        }
    }
    Ok(config)
}

/// What starting needs of the process.
pub(super) struct Starter {
    /// Threads of the database's calls.
    pub(super) database: Handle,
    /// Threads of the RPC.
    pub(super) rpc: Handle,
    /// Set once when the RPC is to stop.
    pub(super) stop: watch::Sender<bool>,
    pub(super) log: Level,
}

/// A chain that runs.
pub(super) struct Running {
    pub(super) consensus: Arc<Consensus>,
    pub(super) gossip: Arc<Gossip>,
    /// The RPC behind the node's HTTP server.
    pub(super) http: NodeHttp,
    stop: watch::Sender<bool>,
}

impl Running {
    /// Starts what runs by itself.
    pub(super) fn begin(&self) {
        let consensus = self.consensus.clone();
        tokio::task::spawn_blocking(move || tidy(&consensus));
        for task in [
            tokio::spawn(self.gossip.clone().push()),
            tokio::spawn(self.gossip.clone().pull()),
        ] {
            let mut stopped = self.stop.subscribe();
            tokio::spawn(async move {
                let _over = stopped.wait_for(|stop| *stop).await;
                task.abort();
            });
        }
    }

    /// Ends the RPC's connections, and what waits for blocks; closes the store.
    pub(super) async fn stop(&self) {
        self.stop.send_replace(true);
        self.consensus.syncing.stop();
        let node = self.consensus.node().clone();
        // Its thread ends within a tick.
        let _joined = tokio::task::spawn_blocking(move || node.stop()).await;
        tracing::info!("stopped");
    }
}

impl Starter {
    /// Opens the chain.
    ///
    /// # Errors
    /// [`StartError`].
    pub(super) async fn start(&self, request: InitializeRequest) -> Result<Running, StartError> {
        let config = read_config(&request.config_bytes)?;
        if let Some(filter) = &config.log {
            self.log.set(filter).map_err(StartError::Log)?;
        }
        let upgrades = Upgrades::parse(&request.upgrade_bytes)?;
        let got = request.chain_id.len();
        let chain: [u8; 32] =
            request
                .chain_id
                .as_ref()
                .try_into()
                .map_err(|_| StartError::Length {
                    what: "chain id",
                    got,
                    expected: 32,
                })?;
        let channel = {
            let _on_its_threads = self.database.enter();
            connect(&request.db_server_addr).map_err(StartError::Address)?
        };
        let database = HostDatabase::new(channel, self.database.clone());
        let outbox = Arc::new(Outbox::default());
        let options = options(&request, &config, ChainId::from_bytes(chain));
        let (announced, sync) = (outbox.clone(), config.sync()?);
        let opened = tokio::task::spawn_blocking(move || {
            let store = Arc::new(RemoteStore::open(database)?);
            let announce = Box::new(move |tx| announced.push(tx));
            Ok::<_, StartError>(Consensus::open(store, options, upgrades, sync, announce)?)
        });
        let consensus = opened.await.map_err(|_| StartError::Panicked)??;
        let node = consensus.node().clone();
        tracing::info!(chain = %node.chain(), height = node.head().header.height, "opened the chain");
        let server = ServerOptions {
            token: config.token,
            ..ServerOptions::default()
        };
        let router = host_router(Context { node }, server);
        let http = NodeHttp::new(router, self.rpc.clone(), self.stop.subscribe());
        let sender = connect(&request.server_addr).map_err(StartError::Address)?;
        let gossip = Gossip::new(consensus.clone(), request.node_id, sender, outbox);
        let gossip = Arc::new(gossip);
        // Gossip holds the consensus: the other way round it is only looked at.
        let ranking = Arc::downgrade(&gossip);
        consensus.take_turns(Box::new(move |parent| {
            ranking.upgrade().map_or(0, |gossip| gossip.rank(parent))
        }));
        Ok(Running {
            consensus,
            gossip,
            http,
            stop: self.stop.clone(),
        })
    }
}

fn options(request: &InitializeRequest, config: &Config, chain: ChainId) -> NodeOptions {
    let defaults = NodeOptions::default();
    let directory = &request.chain_data_dir;
    NodeOptions {
        // For the head key alone: what consensus decided is in the host's database.
        data_dir: (!directory.is_empty()).then(|| PathBuf::from(directory)),
        genesis: Some(request.genesis_bytes.to_vec()),
        chain: Some(chain),
        // A chain goes on whatever this machine's clock says; building does not.
        accept_time: true,
        identity_rate: config.rate_per_identity.map_or(Rate::UNLIMITED, Into::into),
        versions_bytes: config.versions_bytes.unwrap_or(defaults.versions_bytes),
        wait_max: WAIT_MAX,
        pool: Limits {
            bytes: config.pool_bytes.unwrap_or(defaults.pool.bytes),
            ..defaults.pool
        },
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_that_is_published_is_read_and_changes_nothing() {
        let published =
            br#"{"idPrefix":"07","sessionTTL":60,"maxMessages":1,"retentionDays":1,"color":"red"}"#;
        let config = read_config(published).unwrap();
        assert_eq!(config.others.len(), 5);
        assert!(read_config(b"").unwrap().others.is_empty());
        assert!(matches!(read_config(b"{"), Err(StartError::Config(_))));
        assert!(matches!(
            read_config(&vec![b' '; 1 << 17]),
            Err(StartError::ConfigTooLong(_))
        ));
    }
}
