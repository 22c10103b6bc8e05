//! A node of its own process, whose clock runs fast, and which can be killed.
//!
//! The chain takes one advance of a group in ten seconds. With its clock twenty times as fast these are
//! half of one, and nothing else changes: the clients take block time as it is.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use session_core::time::Time;
use session_fixture::NodeOptions;
use session_vm::clock::Clock;
use session_vm::node::Node;
use session_vm::rpc::{Context, Server, ServerOptions};

const DIRECTORY: &str = "SESSION_DAY_NODE";
const ADDRESS: &str = "SESSION_DAY_ADDRESS";
const SINCE: &str = "SESSION_DAY_SINCE";

/// How much faster than the world the chain's clock is.
pub(crate) const SPEED: u64 = 20;

fn real_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// Both clocks of the machine, faster since a moment that outlives the process.
struct Fast {
    since_ms: u64,
}

impl Clock for Fast {
    fn wall(&self) -> Time {
        Time::from_ms(self.since_ms + self.monotonic_ms())
    }

    fn monotonic_ms(&self) -> u64 {
        real_ms().saturating_sub(self.since_ms) * SPEED
    }
}

/// What the child process does: it serves until it is killed.
pub(crate) async fn serve() {
    let Ok(directory) = std::env::var(DIRECTORY) else {
        return;
    };
    let options = NodeOptions {
        data_dir: Some(directory.into()),
        clock: Arc::new(Fast {
            since_ms: std::env::var(SINCE).unwrap().parse().unwrap(),
        }),
        ..NodeOptions::default()
    };
    let node = Arc::new(Node::start(options).unwrap());
    let options = ServerOptions {
        address: std::env::var(ADDRESS).unwrap().parse().unwrap(),
        ..ServerOptions::default()
    };
    let server = Server::bind(Context { node }, options).await.unwrap();
    println!("listens on {}", server.address());
    let (_stop, stopped) = tokio::sync::watch::channel(false);
    server.run(stopped).await;
}

/// The child, which is killed with whoever has this.
pub(crate) struct NodeProcess {
    directory: PathBuf,
    since_ms: u64,
    address: SocketAddr,
    child: Option<Child>,
}

impl NodeProcess {
    pub(crate) fn start(directory: &Path) -> Self {
        let mut this = Self {
            directory: directory.to_owned(),
            since_ms: real_ms(),
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            child: None,
        };
        this.restart();
        this
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.child.is_some()
    }

    /// SIGKILL: it does nothing more.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Up again on the same directory and at the same address.
    pub(crate) fn restart(&mut self) {
        self.kill();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_node_of_the_day", "--nocapture"])
            .env(DIRECTORY, &self.directory)
            .env(ADDRESS, self.address.to_string())
            .env(SINCE, self.since_ms.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            let (_, address) = line.split_once("listens on ")?;
            address.trim().parse().ok()
        });
        self.child = Some(child);
        self.address = address.expect("the node starts");
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Until the chain's clock has gone on by so much.
pub(crate) async fn chain_time(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms.div_ceil(SPEED))).await;
}
