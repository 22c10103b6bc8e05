//! Where a network's files lie, and how a node is started.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::DevnetError;
use crate::ids::{Id, NodeId};
use crate::process::Process;
use crate::state::{Mode, NetworkState, NodeState};

/// What the nodes' bandwidth limit becomes where it is raised, bytes per second: the default of
/// 512 KiB per peer, not the VM, bounds five nodes under load.
const FAST_BYTES: u64 = 1_000_000_000;

/// What a chain's plugins are told where the nodes' bandwidth is raised: without it they leave most
/// of the little room that there is by default to consensus.
const FAST_CONFIG: &str = "{\"gossipBytesPerSecond\":16777216}\n";

/// Files that a node may have open, where as many may be.
const OPEN_FILES: u64 = 16_384;

/// The files of a network.
///
/// ```text
/// state.json  genesis.json  lock
/// plugins/<vm id>              a link to the plugin, and nothing else
/// chains/<chain id>/           configuration of the chain
/// subnets/                     configuration of the subnet
/// node1/  output.log  logs/  db/  staking/  chainData/
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// Those in this directory.
    pub fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Node number `number`'s own.
    pub fn node(&self, number: usize) -> PathBuf {
        self.dir.join(format!("node{number}"))
    }

    /// What the chain begins with.
    pub fn genesis(&self) -> PathBuf {
        self.dir.join("genesis.json")
    }

    /// What a node starts as the VM's plugin.
    pub fn plugin_link(&self, vm: Id) -> PathBuf {
        self.dir.join("plugins").join(vm.to_string())
    }

    /// The directories of a network without nodes, the plugin linked into the first: the host does
    /// not start where there is any other file in it.
    ///
    /// # Errors
    /// [`DevnetError::File`].
    pub fn prepare(&self, vm: Id, plugin: &Path) -> Result<(), DevnetError> {
        let plugins = self.dir.join("plugins");
        remove(&plugins)?;
        for dir in [
            &plugins,
            &self.dir.join("chains"),
            &self.dir.join("subnets"),
        ] {
            std::fs::create_dir_all(dir).map_err(DevnetError::file(dir))?;
        }
        let link = self.plugin_link(vm);
        std::os::unix::fs::symlink(plugin, &link).map_err(DevnetError::file(&link))
    }

    /// Sees to what all plugins of a chain are told: what a fast network needs, or nothing of it. What
    /// somebody else wrote stays. A node reads it when it starts, and not when the chain does.
    ///
    /// # Errors
    /// [`DevnetError::File`].
    pub fn configure(&self, chain: Id, fast: bool) -> Result<(), DevnetError> {
        let dir = self.dir.join("chains").join(chain.to_string());
        let file = dir.join("config.json");
        let has = match std::fs::read(&file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            read => Some(read.map_err(DevnetError::file(&file))?),
        };
        match has {
            None if fast => {
                std::fs::create_dir_all(&dir).map_err(DevnetError::file(&dir))?;
                std::fs::write(&file, FAST_CONFIG).map_err(DevnetError::file(&file))
            }
            Some(own) if !fast && own == FAST_CONFIG.as_bytes() => remove(&file),
            None | Some(_) => Ok(()),
        }
    }

    /// Removes everything that a network made here but its lock.
    ///
    /// # Errors
    /// [`DevnetError::File`].
    pub fn delete(&self, nodes: usize) -> Result<(), DevnetError> {
        for number in 1..=nodes {
            remove(&self.node(number))?;
        }
        for name in [
            "plugins",
            "chains",
            "subnets",
            "genesis.json",
            crate::STATE_FILE,
        ] {
            remove(&self.dir.join(name))?;
        }
        Ok(())
    }
}

/// Removes a file, a link or a directory; none is no error.
fn remove(path: &Path) -> Result<(), DevnetError> {
    let is_dir = std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_dir());
    let removed = if is_dir {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(DevnetError::file(path)),
    }
}

/// How many of how many sampled nodes must agree: one of them may be dead.
const fn quorum(founders: usize) -> usize {
    match founders {
        0..=2 => founders,
        _ => founders - 1,
    }
}

/// A node that runs already. With sybil protection off, nodes do not tell each other of third ones:
/// a new one must be told of all, or it is cut off when the one that it knows dies.
pub(crate) type Peer = (u16, NodeId);

/// The arguments of a node.
pub(crate) fn arguments(
    layout: &Layout,
    state: &NetworkState,
    node: &NodeState,
    peers: &[Peer],
) -> Vec<String> {
    let dir = layout.dir();
    let tracked = state.subnet.map(|subnet| subnet.to_string());
    let (first, others) = peers.split_at(peers.len().min(1));
    let (ips, ids) = addresses(first);
    let mut all = vec![
        "--network-id=local".to_owned(),
        format!("--snow-sample-size={}", state.founders),
        format!("--snow-quorum-size={}", quorum(state.founders)),
        "--public-ip=127.0.0.1".to_owned(),
        "--staking-host=127.0.0.1".to_owned(),
        "--http-host=127.0.0.1".to_owned(),
        format!("--http-port={}", node.http_port),
        format!("--staking-port={}", node.staking_port),
        format!("--data-dir={}", layout.node(node.number).display()),
        format!("--plugin-dir={}", dir.join("plugins").display()),
        format!("--chain-config-dir={}", dir.join("chains").display()),
        format!("--subnet-config-dir={}", dir.join("subnets").display()),
        format!("--fd-limit={}", open_files()),
        "--proposervm-use-current-height=true".to_owned(),
        // With a dead plugin a node takes that long to end; the default is a minute.
        "--consensus-shutdown-timeout=3s".to_owned(),
        // Also with sybil protection off: gossip goes only to those who track the subnet.
        format!(
            "--track-subnets={}",
            tracked.as_deref().unwrap_or(crate::FIRST_SUBNET)
        ),
        "--network-peer-list-pull-gossip-frequency=250ms".to_owned(),
        "--network-max-reconnect-delay=1s".to_owned(),
        "--health-check-frequency=2s".to_owned(),
        "--log-display-level=error".to_owned(),
        format!("--bootstrap-ips={ips}"),
        format!("--bootstrap-ids={ids}"),
    ];
    if state.mode == Mode::Quick {
        // The node connects to all that it is told of, but waits for all that it is to begin with.
        let (ips, ids) = addresses(others);
        all.push("--sybil-protection-enabled=false".to_owned());
        all.push(format!("--state-sync-ips={ips}"));
        all.push(format!("--state-sync-ids={ids}"));
    }
    if state.fast_network {
        all.push(format!(
            "--throttler-inbound-bandwidth-refill-rate={FAST_BYTES}"
        ));
        all.push(format!(
            "--throttler-inbound-bandwidth-max-burst-size={FAST_BYTES}"
        ));
        // Ciphertext and signatures: all the work, and not a byte saved.
        all.push("--network-compression-type=none".to_owned());
    }
    all
}

/// Files that a node may have open: it refuses to start where its limit is above the hard one.
fn open_files() -> u64 {
    let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    hard.map_or(OPEN_FILES, |hard| hard.min(OPEN_FILES))
}

/// Addresses and ids of nodes, as flags have them.
fn addresses(peers: &[Peer]) -> (String, String) {
    let ips = peers.iter().map(|(port, _)| format!("127.0.0.1:{port}"));
    let ids = peers.iter().map(|(_, id)| id.to_string());
    let joined = |all: Vec<String>| all.join(",");
    (joined(ips.collect()), joined(ids.collect()))
}

/// Starts a node in a process group of its own, so that Ctrl-C at a terminal does not reach it.
///
/// # Errors
/// [`DevnetError::File`].
pub(crate) fn start(
    layout: &Layout,
    state: &NetworkState,
    node: &NodeState,
    peers: &[Peer],
) -> Result<Process, DevnetError> {
    use std::os::unix::process::CommandExt as _;
    let dir = layout.node(node.number);
    std::fs::create_dir_all(&dir).map_err(DevnetError::file(&dir))?;
    let path = dir.join("output.log");
    let output = std::fs::File::create(&path).map_err(DevnetError::file(&path))?;
    let errors = output.try_clone().map_err(DevnetError::file(&path))?;
    let mut command = Command::new(&state.binary);
    command
        .args(arguments(layout, state, node, peers))
        .current_dir(&dir)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0);
    let started = command.spawn().map_err(DevnetError::file(&state.binary))?;
    let pid = i32::try_from(started.id()).unwrap_or_default();
    // One that has ended already is known by its number alone: nothing will be sent to it.
    Ok(Process::of(pid).unwrap_or(Process { pid, started: 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_else_told_the_plugins_stays() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let chain: Id = crate::FIRST_SUBNET.parse().unwrap();
        let file = dir
            .path()
            .join("chains")
            .join(chain.to_string())
            .join("config.json");
        let told = || std::fs::read_to_string(&file).ok();
        layout.configure(chain, false).unwrap();
        assert_eq!(told(), None);
        for fast in [true, true, false, true] {
            layout.configure(chain, fast).unwrap();
            assert_eq!(told().as_deref(), fast.then_some(FAST_CONFIG));
        }
        std::fs::write(&file, "{}").unwrap();
        for fast in [false, true] {
            layout.configure(chain, fast).unwrap();
            assert_eq!(told().as_deref(), Some("{}"));
        }
    }

    #[test]
    fn one_node_may_be_dead_wherever_there_are_three() {
        for founders in 1..=crate::NODES_MAX {
            let quorum = quorum(founders);
            assert!(quorum * 2 > founders && quorum <= founders);
            assert!(founders < 3 || quorum == founders - 1);
        }
    }

    #[test]
    fn the_plugin_directory_holds_one_link_also_after_another_vm() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout
            .prepare(Id::new([7; 32]), Path::new("/bin/true"))
            .unwrap();
        layout
            .prepare(crate::SESSION_VM, Path::new("/bin/cat"))
            .unwrap();
        let entries: Vec<_> = std::fs::read_dir(dir.path().join("plugins"))
            .unwrap()
            .collect();
        assert_eq!(entries.len(), 1);
        let target = std::fs::read_link(layout.plugin_link(crate::SESSION_VM)).unwrap();
        assert_eq!(target, Path::new("/bin/cat"));
        std::fs::create_dir(layout.node(1)).unwrap();
        std::fs::write(dir.path().join("mine"), b"").unwrap();
        layout.delete(1).unwrap();
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "what was not ours stays");
    }
}
