//! From what a host tells a plugin to a chain that runs, whichever wire it was told over.

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
use session_storage::{RewindError, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::consensus::{Announce, Consensus};
use super::log::Level;
use super::sync::SyncOptions;
use super::upgrade::{UpgradeError, Upgrades};
use crate::node::{NodeOptions, OpenError};
use crate::rpc::ServerOptions;

/// The longest that a call waits: a node adds no chain while one is open.
const WAIT_MAX: Duration = Duration::from_secs(8);

/// Configuration bytes at most.
const CONFIG_BYTES_MAX: usize = 64 << 10;

/// How long stopping may take: what hangs then, as in a database that does not answer, is cut.
pub(in crate::host) const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the last answers may take on their way out.
pub(in crate::host) const LAST_ANSWERS: Duration = Duration::from_millis(300);

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
    /// Bytes a second of new transactions that each peer is told at once.
    gossip_bytes_per_second: Option<u64>,
    /// Height that a store of the plugin's own goes back to, once.
    rewind_to: Option<u64>,
    #[serde(flatten)]
    others: BTreeMap<String, serde_json::Value>,
}

/// Bytes a second of new transactions that each peer is told at once, where nothing else is said:
/// most of the 512 KiB a second that a node of avalanchego takes from one peer is left to consensus.
const GOSSIP: u64 = 160 << 10;

/// With less, not even one transaction of the largest size would be told in a minute.
const GOSSIP_MIN: u64 = 8 << 10;

/// Why a chain does not start.
#[derive(Debug, thiserror::Error)]
pub(in crate::host) enum StartError {
    #[error("configuration: {0}")]
    Config(#[from] serde_json::Error),
    #[error("configuration: {0} bytes, at most 65536")]
    ConfigTooLong(usize),
    #[error("configuration: log: {0}")]
    Log(String),
    #[error("configuration: stateSyncInterval: at least one block")]
    Interval,
    #[error("configuration: gossipBytesPerSecond: {0}, at least {GOSSIP_MIN}")]
    Gossip(u64),
    #[error("{0}")]
    Upgrade(#[from] UpgradeError),
    #[error("the host's {what} has {got} bytes, expected {expected}")]
    Length {
        what: &'static str,
        got: usize,
        expected: usize,
    },
    #[error("the host's address {address:?}: {problem}")]
    Address { address: String, problem: String },
    #[error("the host gives neither a database nor a directory for one")]
    NoPlace,
    #[error("{}: {error}", path.display())]
    Directory {
        path: PathBuf,
        error: std::io::Error,
    },
    #[error("configuration: rewindTo {to}: {error}")]
    Rewind { to: u64, error: RewindError },
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Open(#[from] OpenError),
    #[error("serving HTTP: {0}")]
    Serve(std::io::Error),
    #[error("opening broke off")]
    Panicked,
}

/// What a host tells at `Initialize`, whatever else its wire has.
pub(in crate::host) struct Told {
    /// Chain, 32 bytes if all is well.
    pub(in crate::host) chain: Vec<u8>,
    /// A directory for this chain alone; may be empty.
    pub(in crate::host) data_dir: String,
    pub(in crate::host) genesis: Vec<u8>,
    pub(in crate::host) upgrade: Vec<u8>,
    pub(in crate::host) config: Vec<u8>,
}

/// What was told, understood.
pub(in crate::host) struct Plan {
    options: NodeOptions,
    upgrades: Upgrades,
    sync: SyncOptions,
    /// How the RPC is to be served.
    pub(in crate::host) server: ServerOptions,
    /// Bytes a second that are pushed to each peer.
    pub(in crate::host) gossip: u64,
    /// Height that a store of the plugin's own goes back to, once.
    pub(in crate::host) rewind_to: Option<u64>,
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

impl Plan {
    /// Reads what was told, and changes the log as it asks.
    ///
    /// # Errors
    /// [`StartError`] about configuration, upgrades and the chain's id.
    pub(in crate::host) fn of(told: Told, log: &Level) -> Result<Self, StartError> {
        let config = read_config(&told.config)?;
        if let Some(filter) = &config.log {
            log.set(filter).map_err(StartError::Log)?;
        }
        let upgrades = Upgrades::parse(&told.upgrade)?;
        let got = told.chain.len();
        let length = |_| StartError::Length {
            what: "chain id",
            got,
            expected: 32,
        };
        let chain: [u8; 32] = told.chain.as_slice().try_into().map_err(length)?;
        let sync = config.sync()?;
        let gossip = config.gossip_bytes_per_second.unwrap_or(GOSSIP);
        if gossip < GOSSIP_MIN {
            return Err(StartError::Gossip(gossip));
        }
        let defaults = NodeOptions::default();
        let options = NodeOptions {
            // For the head key alone: what consensus decided is in the store.
            data_dir: (!told.data_dir.is_empty()).then(|| PathBuf::from(told.data_dir)),
            genesis: Some(told.genesis),
            chain: Some(ChainId::from_bytes(chain)),
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
        };
        Ok(Self {
            options,
            upgrades,
            sync,
            server: ServerOptions {
                token: config.token,
                ..ServerOptions::default()
            },
            gossip,
            rewind_to: config.rewind_to,
        })
    }

    /// No state is taken over, and none is kept to be offered: nobody could be asked for it.
    pub(in crate::host) const fn without_state_sync(mut self) -> Self {
        self.sync.enabled = false;
        self.sync.interval = u64::MAX;
        self
    }

    /// Opens the store, and the chain on it, where that may take its time.
    ///
    /// # Errors
    /// [`StartError`].
    pub(in crate::host) async fn open(
        self,
        store: impl FnOnce() -> Result<Arc<dyn Store>, StartError> + Send + 'static,
        announce: Announce,
    ) -> Result<Arc<Consensus>, StartError> {
        let Self {
            options,
            upgrades,
            sync,
            gossip,
            ..
        } = self;
        let opened = tokio::task::spawn_blocking(move || {
            let store = store()?;
            Ok::<_, StartError>(Consensus::open(
                store, options, upgrades, sync, gossip, announce,
            )?)
        });
        let consensus = opened.await.map_err(|_| StartError::Panicked)??;
        let node = consensus.node();
        tracing::info!(
            chain = %node.chain(),
            height = node.head().header.height,
            gossip_bytes_per_second = gossip,
            "opened the chain"
        );
        Ok(consensus)
    }
}

/// What starting needs of the process.
pub(in crate::host) struct Starter {
    /// Threads of the database's calls.
    pub(in crate::host) database: Handle,
    /// Threads of the RPC.
    pub(in crate::host) rpc: Handle,
    /// Set once when the RPC is to stop.
    pub(in crate::host) stop: watch::Sender<bool>,
    pub(in crate::host) log: Level,
}

/// Ends the RPC's connections, and what waits for blocks; closes the store.
pub(in crate::host) async fn stop(stop: &watch::Sender<bool>, consensus: &Consensus) {
    stop.send_replace(true);
    consensus.syncing.stop();
    let node = consensus.node().clone();
    // Its thread ends within a tick.
    let _joined = tokio::task::spawn_blocking(move || node.stop()).await;
    tracing::info!("stopped");
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
