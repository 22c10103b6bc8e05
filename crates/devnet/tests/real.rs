//! A real avalanchego with its own example plugin: whatever fails here is not SessionVM's fault.
//!
//! Skipped, with a line that says so, where there is no avalanchego (`PATH`, the cache of `session
//! devnet up --install`, or `SESSION_TEST_AVALANCHEGO`) or no `xsvm` (`PATH`, or
//! `SESSION_TEST_XSVM`; `go install
//! github.com/ava-labs/avalanchego/vms/example/xsvm/cmd/xsvm@v1.14.0`).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::path::{Path, PathBuf};
use std::time::Instant;

use session_devnet::{
    DevnetError, Ending, FIRST_SUBNET, Id, Network, NetworkState, NodeBinary, Process, Search,
    Speaks, UpOptions, every_one_run_as, status,
};

/// The example VM's id: its name, filled up with zeros.
const XSVM: &str = "v3m4wPxaHpvGr8qfMeyK6PRW3idZrPHmYcMTt7oXdK47yurVH";

/// Kills what is left when a test ends, also where it failed.
struct Guard(PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        let state = NetworkState::load(&self.0).ok().flatten();
        let nodes = state.iter().flat_map(|state| &state.nodes);
        let mut all: Vec<Process> = nodes
            .flat_map(|n| [n.process, n.plugin])
            .flatten()
            .collect();
        all.extend(every_one_run_as(&self.0.join("plugins").join(XSVM)));
        all.iter().for_each(Process::kill);
    }
}

/// Two cores bear one network at a time.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What a run needs; none where it is not there.
async fn host() -> Option<(NodeBinary, PathBuf)> {
    let search = Search {
        named: std::env::var_os("SESSION_TEST_AVALANCHEGO").map(PathBuf::from),
        ..Search::default()
    };
    let found = NodeBinary::find(&search, &|_| ()).await;
    let binary = match found {
        Ok(binary) => binary,
        Err(error) => {
            println!("SKIPPED, NOTHING WAS TESTED: {error}");
            return None;
        }
    };
    let named = std::env::var_os("SESSION_TEST_XSVM").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = named
        .into_iter()
        .chain(std::env::split_paths(&path).map(|d| d.join("xsvm")));
    let Some(plugin) = all.find(|path| path.is_file()) else {
        println!("SKIPPED, NOTHING WAS TESTED: no xsvm in PATH or SESSION_TEST_XSVM");
        return None;
    };
    Some((binary, plugin))
}

/// Ports of their own for tests that run at once.
fn options(binary: NodeBinary, plugin: PathBuf, base_port: u16) -> UpOptions {
    let genesis = std::process::Command::new(&plugin)
        .args([
            "chain",
            "genesis",
            "--encoding",
            "hex",
            "--time",
            "1700000000",
        ])
        .output()
        .unwrap();
    let genesis = String::from_utf8(genesis.stdout).unwrap();
    let genesis = const_hex::decode(genesis.trim()).unwrap();
    UpOptions {
        // The text form ends in 4 bytes of its hash.
        genesis: Some(genesis[..genesis.len() - 4].to_vec()),
        vm: XSVM.parse().unwrap(),
        speaks: Speaks::Other,
        base_port,
        ..UpOptions::new(binary, plugin)
    }
}

fn processes(state: &NetworkState) -> Vec<Process> {
    let nodes = state.nodes.iter();
    nodes
        .flat_map(|node| [node.process, node.plugin])
        .flatten()
        .collect()
}

fn tell(began: Instant) -> impl Fn(&str) + Send + Sync {
    move |text| println!("{:>6} ms  {text}", began.elapsed().as_millis())
}

async fn up(dir: &Path, options: &UpOptions) -> Network {
    let network = Network::up(dir, options, &tell(Instant::now())).await;
    network.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_comes_up_dies_returns_and_leaves_nothing_behind() {
    let _turn = TURN.lock().await;
    let Some((binary, plugin)) = host().await else {
        return;
    };
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("net");
    let _guard = Guard(dir.clone());
    let options = options(binary, plugin, 21_000);
    let mut network = up(&dir, &options).await;
    let subnet = network.state().subnet.unwrap();
    assert_eq!(subnet.to_string(), FIRST_SUBNET);
    let chain: Id = network.state().chain.unwrap();
    println!("chain {chain}");
    let node = network.state().node(1).unwrap();
    assert!(node.runs() && node.plugin_runs());

    // The plugin alone: the node does not notice, the status does.
    network.kill_plugin(1).await.unwrap();
    let (_, all) = status(&dir).await.unwrap();
    assert!(all[0].runs && !all[0].plugin_runs && !all[0].is_well());
    let tell = tell(Instant::now());
    network.restart(1, &tell).await.unwrap();
    assert!(network.state().node(1).unwrap().plugin_runs());

    assert_ne!(network.kill(1).await.unwrap(), Ending::Stays);
    assert!(network.kill(1).await.is_err(), "it does not run");
    network.restart(1, &tell).await.unwrap();
    let (number, _) = network.add(&tell).await.unwrap();
    assert_eq!(number, 2);

    let all = processes(network.state());
    assert_eq!(all.len(), 4);
    drop(network);
    assert!(
        Network::up(&dir, &options, &tell).await.is_err(),
        "it runs already"
    );
    let mut network = Network::open(&dir).unwrap();
    let stopped = network.down(&tell).await.unwrap();
    println!("{stopped:?}");
    assert!(all.iter().all(|process| !process.is_alive()));
    drop(network);

    // Again, with the same chain and both nodes.
    let mut network = up(&dir, &options).await;
    assert_eq!(network.state().chain, Some(chain));
    assert_eq!(network.state().running(), 2);
    let all = processes(network.state());
    network.down(&tell).await.unwrap();
    assert!(all.iter().all(|process| !process.is_alive()));
    network.delete().unwrap();
    assert!(!dir.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_does_not_run_is_explained_and_nothing_runs_on() {
    let _turn = TURN.lock().await;
    let Some((binary, _)) = host().await else {
        return;
    };
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("net");
    let _guard = Guard(dir.clone());
    let mut options = UpOptions::new(binary, PathBuf::from("/bin/false"));
    options.base_port = 23_000;
    let tell = tell(Instant::now());
    let error = Network::up(&dir, &options, &tell).await.unwrap_err();
    println!("{error}");
    assert!(
        matches!(error, DevnetError::NoChain { node: 1, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("handshake failed"), "{error}");
    let state = NetworkState::load(&dir).unwrap().unwrap();
    assert_eq!(state.running(), 0, "given up, and nothing was left running");
}

#[tokio::test(flavor = "multi_thread")]
async fn any_of_five_nodes_may_die_and_come_back() {
    let _turn = TURN.lock().await;
    let Some((binary, plugin)) = host().await else {
        return;
    };
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("net");
    let _guard = Guard(dir.clone());
    let mut options = options(binary, plugin, 27_000);
    options.nodes = Some(5);
    let mut network = up(&dir, &options).await;
    let tell = tell(Instant::now());
    // The first one is nothing special once all are there.
    for number in [1, 4] {
        network.kill(number).await.unwrap();
        network.restart(number, &tell).await.unwrap();
        assert_eq!(network.api(number).unwrap().peers().await.unwrap(), 4);
    }
    let all = processes(network.state());
    assert_eq!(all.len(), 10);
    network.down(&tell).await.unwrap();
    assert!(all.iter().all(|process| !process.is_alive()));
}

#[tokio::test(flavor = "multi_thread")]
async fn five_validators_with_stake_come_up_and_come_back() {
    let _turn = TURN.lock().await;
    let Some((binary, plugin)) = host().await else {
        return;
    };
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path().join("net");
    let _guard = Guard(dir.clone());
    let mut options = options(binary, plugin, 25_000);
    options.faithful = true;
    let mut network = up(&dir, &options).await;
    let first = network.state().node(1).unwrap().node_id.unwrap();
    assert_eq!(
        first.to_string(),
        "NodeID-7Xhw2mDxuDS44j42TCB6U5579esbSt3Lg"
    );
    let tell = tell(Instant::now());
    assert!(network.add(&tell).await.is_err(), "five and no others");
    network.kill(5).await.unwrap();
    network.restart(5, &tell).await.unwrap();
    let all = processes(network.state());
    assert_eq!(all.len(), 10);
    network.down(&tell).await.unwrap();
    assert!(all.iter().all(|process| !process.is_alive()));
}
