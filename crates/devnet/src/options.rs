//! What a network is made of: what was asked for, and what is there already.

use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::binary::NodeBinary;
use crate::error::DevnetError;
use crate::ids::Id;
use crate::launch::Layout;
use crate::port::{self, free_pairs};
use crate::process::boot_id;
use crate::staking::{self, VALIDATORS};
use crate::state::{Mode, NetworkState, NodeState, Speaks, write_private};
use crate::{NODES_MAX, SESSION_VM};

/// What a network is made of.
#[derive(Debug, Clone)]
pub struct UpOptions {
    /// Nodes; those of the network that is there, or one, without it. A faithful network has five.
    pub nodes: Option<usize>,
    /// Five validators with stake instead of nodes that all count.
    pub faithful: bool,
    /// The node program.
    pub binary: NodeBinary,
    /// The plugin's program.
    pub plugin: PathBuf,
    /// The genesis, if it is given: a network that is there must have the same one.
    pub genesis: Option<Vec<u8>>,
    /// `open` or `signed`, where no genesis is given; a new chain is `signed` without it.
    pub admission: Option<String>,
    /// Raises the nodes' bandwidth limits.
    pub fast_network: bool,
    /// Where the search for free ports begins.
    pub base_port: u16,
    /// The VM's id.
    pub vm: Id,
    /// What answers in the plugin.
    pub speaks: Speaks,
}

impl UpOptions {
    /// SessionVM with what it begins with on its own: one node, signed transactions only.
    pub const fn new(binary: NodeBinary, plugin: PathBuf) -> Self {
        Self {
            nodes: None,
            faithful: false,
            binary,
            plugin,
            genesis: None,
            admission: None,
            fast_network: false,
            base_port: port::BASE,
            vm: SESSION_VM,
            speaks: Speaks::SessionVm,
        }
    }
}

/// The genesis of a network's chain: `admission` is `open` or `signed`, `seconds` the unix time.
pub fn default_genesis(admission: &str, seconds: u64) -> Vec<u8> {
    let genesis = serde_json::json!({
        "vmID": SESSION_VM,
        "config": { "admission": admission },
        "timestamp": seconds,
    });
    genesis.to_string().into_bytes()
}

/// A network that was stopped, with what may change from start to start.
///
/// # Errors
/// [`DevnetError::OtherNetwork`], [`DevnetError::NoPorts`].
pub(crate) fn again(
    mut kept: NetworkState,
    options: &UpOptions,
    layout: &Layout,
) -> Result<NetworkState, DevnetError> {
    let other = |what, kept: &dyn std::fmt::Display| DevnetError::OtherNetwork {
        dir: layout.dir().to_owned(),
        what,
        kept: kept.to_string(),
    };
    if options.nodes.is_some_and(|nodes| nodes != kept.founders) {
        return Err(other("nodes", &kept.founders));
    }
    if options.faithful && kept.mode == Mode::Quick {
        return Err(other("rules", &"sybil protection off"));
    }
    let digest = options.genesis.as_deref().map(NetworkState::genesis_digest);
    if digest.is_some_and(|digest| digest != kept.genesis) {
        return Err(other("genesis", &format!("SHA-256 {}", kept.genesis)));
    }
    let has = admission_of(&std::fs::read(layout.genesis()).unwrap_or_default());
    if options.admission.is_some() && options.admission != has {
        return Err(other("admission", &has.unwrap_or_default()));
    }
    if options.vm != kept.vm {
        return Err(other("VM", &kept.vm));
    }
    kept.boot = boot_id();
    kept.binary.clone_from(&options.binary.path);
    kept.version.clone_from(&options.binary.version);
    kept.protocol = options.binary.protocol;
    kept.plugin.clone_from(&options.plugin);
    kept.fast_network = options.fast_network;
    let mut taken = Vec::new();
    for node in &mut kept.nodes {
        let ports = (node.http_port, node.staking_port);
        if !port::is_free(ports.0, &taken) || !port::is_free(ports.1, &taken) {
            let pairs = free_pairs(options.base_port, 1, &taken)?;
            (node.http_port, node.staking_port) = pairs.first().copied().unwrap_or(ports);
        }
        taken.extend([node.http_port, node.staking_port]);
        if let Some(chain) = kept.chain {
            node.serve(chain);
        }
    }
    Ok(kept)
}

/// What a genesis says of admission.
fn admission_of(genesis: &[u8]) -> Option<String> {
    let genesis: serde_json::Value = serde_json::from_slice(genesis).ok()?;
    let admission = genesis.pointer("/config/admission")?.as_str()?;
    Some(admission.to_owned())
}

/// A network that was never started; its genesis is written down.
///
/// # Errors
/// [`DevnetError::NodeCount`], [`DevnetError::NoPorts`], [`DevnetError::File`].
pub(crate) fn anew(options: &UpOptions, layout: &Layout) -> Result<NetworkState, DevnetError> {
    let asked = options
        .nodes
        .unwrap_or(if options.faithful { VALIDATORS } else { 1 });
    let reason = match asked {
        _ if options.faithful && asked != VALIDATORS => "a faithful network has five validators",
        0 => "a network has one at least",
        _ if asked > NODES_MAX => "a local network has seven at most",
        _ => "",
    };
    if !reason.is_empty() {
        return Err(DevnetError::NodeCount { asked, reason });
    }
    let ports = free_pairs(options.base_port, asked, &[])?;
    let nodes = (1..)
        .zip(ports)
        .map(|(number, ports)| NodeState::new(number, ports));
    let mut nodes: Vec<NodeState> = nodes.collect();
    if options.faithful {
        for (node, id) in nodes.iter_mut().zip(staking::IDS) {
            node.node_id = Some(id.parse()?);
        }
    }
    let genesis = options.genesis.clone().unwrap_or_else(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        default_genesis(
            options.admission.as_deref().unwrap_or("signed"),
            now.as_secs(),
        )
    });
    let path = layout.genesis();
    write_private(&path, &genesis).map_err(DevnetError::file(&path))?;
    Ok(NetworkState {
        format: NetworkState::format(),
        boot: boot_id(),
        mode: if options.faithful {
            Mode::Faithful
        } else {
            Mode::Quick
        },
        founders: asked,
        fast_network: options.fast_network,
        binary: options.binary.path.clone(),
        version: options.binary.version.clone(),
        protocol: options.binary.protocol,
        plugin: options.plugin.clone(),
        speaks: options.speaks,
        vm: options.vm,
        genesis: NetworkState::genesis_digest(&genesis),
        subnet: None,
        chain: None,
        nodes,
    })
}
