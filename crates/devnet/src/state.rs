//! The state file: what a network is made of, for the commands that come later.
//!
//! `state.json` in the network's directory, replaced whole, readable by its owner only. `lock`
//! beside it is held by whoever changes the network.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use session_core::hash::sha256;

use crate::api::chain_url;
use crate::error::DevnetError;
use crate::ids::{Id, NodeId};
use crate::process::{Process, boot_id};

/// Its name in the network's directory.
pub const STATE_FILE: &str = "state.json";

/// Of this file's format.
const FORMAT: u32 = 1;

/// Whose blocks count, and who may propose them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    /// Sybil protection off: every connected node is a validator. Ready in seconds.
    Quick,
    /// Five validators with stake, as on a real network.
    Faithful,
}

/// What answers in the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Speaks {
    /// SessionVM: heights and heads are asked for and compared.
    SessionVm,
    /// Some other VM, of which nothing is asked: for finding out whose fault something is.
    Other,
}

/// One network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkState {
    /// Of the file.
    pub format: u32,
    /// The machine's run in which processes were started.
    pub boot: String,
    /// How it was made.
    pub mode: Mode,
    /// Nodes that it was made with; others may have joined.
    pub founders: usize,
    /// Whether the nodes' bandwidth limits are raised.
    pub fast_network: bool,
    /// The node program.
    pub binary: PathBuf,
    /// Its version.
    pub version: String,
    /// The plugin protocol that it speaks.
    pub protocol: u32,
    /// The plugin's program.
    pub plugin: PathBuf,
    /// What it speaks.
    pub speaks: Speaks,
    /// The VM's id, which is the plugin's file name.
    pub vm: Id,
    /// SHA-256 of the genesis, hex.
    pub genesis: String,
    /// The subnet, once it is there.
    pub subnet: Option<Id>,
    /// The chain, once it is there.
    pub chain: Option<Id>,
    /// Its nodes; number 1 comes first.
    pub nodes: Vec<NodeState>,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeState {
    /// Its number, from 1.
    pub number: usize,
    /// Loopback port of its HTTP API.
    pub http_port: u16,
    /// Loopback port that other nodes connect to.
    pub staking_port: u16,
    /// Its id, once it has answered.
    pub node_id: Option<NodeId>,
    /// The node's process.
    pub process: Option<Process>,
    /// The plugin's process.
    pub plugin: Option<Process>,
    /// Where it serves the chain: what `session --node` takes.
    pub url: Option<String>,
    /// ML-DSA-65 key that it signs heads with, hex.
    pub head_key: Option<String>,
}

impl NodeState {
    /// A node that was never started.
    pub const fn new(number: usize, (http_port, staking_port): (u16, u16)) -> Self {
        Self {
            number,
            http_port,
            staking_port,
            node_id: None,
            process: None,
            plugin: None,
            url: None,
            head_key: None,
        }
    }

    /// Whether its process runs.
    pub fn runs(&self) -> bool {
        self.process.is_some_and(|process| process.is_alive())
    }

    /// Whether its plugin runs.
    pub fn plugin_runs(&self) -> bool {
        self.plugin.is_some_and(|plugin| plugin.is_alive())
    }

    /// Names the chain's address on this node.
    pub fn serve(&mut self, chain: Id) {
        self.url = Some(chain_url(self.http_port, chain));
    }
}

impl NetworkState {
    /// What a new file begins with.
    pub const fn format() -> u32 {
        FORMAT
    }

    /// Node number `number`, from 1.
    ///
    /// # Errors
    /// [`DevnetError::NoNode`].
    pub fn node(&self, number: usize) -> Result<&NodeState, DevnetError> {
        let nodes = self.nodes.len();
        let node = self.nodes.iter().find(|node| node.number == number);
        node.ok_or(DevnetError::NoNode { number, nodes })
    }

    /// The same, to be changed.
    ///
    /// # Errors
    /// [`DevnetError::NoNode`].
    pub fn node_mut(&mut self, number: usize) -> Result<&mut NodeState, DevnetError> {
        let nodes = self.nodes.len();
        let node = self.nodes.iter_mut().find(|node| node.number == number);
        node.ok_or(DevnetError::NoNode { number, nodes })
    }

    /// How many of its nodes run.
    pub fn running(&self) -> usize {
        self.nodes.iter().filter(|node| node.runs()).count()
    }

    /// SHA-256 of a genesis, as the file has it.
    pub fn genesis_digest(genesis: &[u8]) -> String {
        const_hex::encode(sha256(genesis))
    }

    /// Reads the file of the network in `dir`; none where there is no network.
    ///
    /// # Errors
    /// [`DevnetError::File`], [`DevnetError::Damaged`].
    pub fn load(dir: &Path) -> Result<Option<Self>, DevnetError> {
        let path = dir.join(STATE_FILE);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DevnetError::file(&path)(error)),
        };
        let damaged = |error| DevnetError::Damaged {
            path: path.clone(),
            error,
        };
        let mut state: Self = serde_json::from_slice(&bytes).map_err(damaged)?;
        if state.format != FORMAT {
            let problem = format!(
                "its format is {}, this program reads {FORMAT}",
                state.format
            );
            return Err(damaged(serde::de::Error::custom(problem)));
        }
        if state.boot != boot_id() {
            // The machine was started again: the numbers belong to others now.
            for node in &mut state.nodes {
                (node.process, node.plugin) = (None, None);
            }
        }
        Ok(Some(state))
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// [`DevnetError::File`].
    pub fn save(&self, dir: &Path) -> Result<(), DevnetError> {
        let path = dir.join(STATE_FILE);
        let mut text = serde_json::to_vec_pretty(self).map_err(|error| DevnetError::Damaged {
            path: path.clone(),
            error,
        })?;
        text.push(b'\n');
        write_private(&path, &text).map_err(DevnetError::file(&path))
    }
}

/// The right to change the network in a directory, until it is dropped.
#[derive(Debug)]
pub struct Claim {
    _lock: File,
}

impl Claim {
    /// Takes it; the directory is made if it is not there.
    ///
    /// # Errors
    /// [`DevnetError::Busy`] where another command has it, [`DevnetError::File`].
    pub fn take(dir: &Path) -> Result<Self, DevnetError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(dir);
        made.map_err(DevnetError::file(dir))?;
        let path = dir.join("lock");
        let mut options = std::fs::OpenOptions::new();
        let lock = options.create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(DevnetError::file(&path))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { _lock: lock }),
            Err(std::fs::TryLockError::WouldBlock) => Err(DevnetError::Busy(dir.to_owned())),
            Err(std::fs::TryLockError::Error(error)) => Err(DevnetError::file(&path)(error)),
        }
    }
}

/// Writes a file that only its owner reads: beside it first, then in its place.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let _left_over = std::fs::remove_file(&beside);
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn state() -> NetworkState {
        NetworkState {
            format: FORMAT,
            boot: boot_id(),
            mode: Mode::Quick,
            founders: 1,
            fast_network: false,
            binary: "/bin/avalanchego".into(),
            version: "v1.14.0".to_owned(),
            protocol: 44,
            plugin: "/bin/session".into(),
            speaks: Speaks::SessionVm,
            vm: crate::SESSION_VM,
            genesis: NetworkState::genesis_digest(b"{}"),
            subnet: None,
            chain: Some(crate::SESSION_VM),
            nodes: vec![NodeState::new(1, (9650, 9651))],
        }
    }

    #[test]
    fn the_file_is_private_and_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert!(NetworkState::load(dir.path()).unwrap().is_none());
        let mut saved = state();
        saved.nodes[0].process = Process::of(i32::try_from(std::process::id()).unwrap());
        saved.nodes[0].serve(crate::SESSION_VM);
        saved.save(dir.path()).unwrap();
        saved.save(dir.path()).unwrap();
        let meta = std::fs::metadata(dir.path().join(STATE_FILE)).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        let loaded = NetworkState::load(dir.path()).unwrap().unwrap();
        assert_eq!(loaded, saved);
        assert_eq!(loaded.running(), 1, "this process runs");
        let url = "http://127.0.0.1:9650/ext/bc/speKUgLBX6WRD5cfGeEfLa43LxTXUBckvtv4td6F3eTXvRP48";
        assert_eq!(loaded.nodes[0].url.as_deref(), Some(url));
        assert!(loaded.node(2).is_err());
    }

    #[test]
    fn no_process_outlives_the_machine() {
        let dir = tempfile::tempdir().unwrap();
        let mut saved = state();
        saved.nodes[0].process = Process::of(i32::try_from(std::process::id()).unwrap());
        saved.boot = "another run".to_owned();
        saved.save(dir.path()).unwrap();
        let loaded = NetworkState::load(dir.path()).unwrap().unwrap();
        assert_eq!(loaded.nodes[0].process, None);
    }

    #[test]
    fn a_damaged_file_is_told() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(STATE_FILE), b"{").unwrap();
        assert!(matches!(
            NetworkState::load(dir.path()),
            Err(DevnetError::Damaged { .. })
        ));
        let mut later = state();
        later.format = 2;
        later.save(dir.path()).unwrap();
        let error = NetworkState::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("format is 2"), "{error}");
    }

    #[test]
    fn one_command_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new");
        let first = Claim::take(&dir).unwrap();
        assert!(matches!(Claim::take(&dir), Err(DevnetError::Busy(_))));
        drop(first);
        Claim::take(&dir).unwrap();
    }
}
