//! A network of real hosts that ends with the test, also where it fails.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use session_client::RpcClient;
use session_core::ids::ChainId;
use session_devnet::NetworkState;

use crate::support::{json, session};

/// Longest wait for anything: five busy validators on two cores, one of them dead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// How often something is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// Names the program of the host.
const BINARY: &str = "SESSION_TEST_AVALANCHEGO";

/// Names its version.
const VERSION: &str = "SESSION_TEST_NODE_VERSION";

/// Set, it is built where it is not there.
const INSTALL: &str = "SESSION_TEST_NODE_INSTALL";

/// Two cores bear one network at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A network, and the home of whoever types.
pub(crate) struct Devnet {
    pub(crate) home: tempfile::TempDir,
    began: Mutex<Instant>,
    _watcher: Watcher,
    _turn: MutexGuard<'static, ()>,
}

/// Ends the network where the test is killed and ends nothing itself: a process that waits for the
/// other end of its input to close, which no signal prevents.
struct Watcher(Child);

impl Watcher {
    fn of(dir: &Path) -> Self {
        use std::os::unix::process::CommandExt as _;
        // Whoever names the directory in its arguments counts as left over, so it is a variable.
        let script =
            "cat; test -d \"$NET\" && exec \"$0\" devnet down --delete --data-dir \"$NET\"";
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", script, env!("CARGO_BIN_EXE_session")])
            .env("NET", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // Ctrl-C at a terminal reaches the test alone.
        Self(command.process_group(0).spawn().unwrap())
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ended = self.0.wait();
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A number from the environment, or what serves without one.
pub(crate) fn number(name: &str, otherwise: u64) -> u64 {
    match variable(name) {
        Some(value) => value.parse().unwrap_or_else(|e| panic!("{name}: {e}")),
        None => otherwise,
    }
}

/// Options that choose the host; whoever names one is not told that nothing was tested.
fn host() -> (Vec<String>, bool) {
    let (binary, version) = (variable(BINARY), variable(VERSION));
    let named = binary.is_some() || version.is_some();
    let mut options = Vec::new();
    let install = variable(INSTALL).is_some() && binary.is_none();
    for (option, value) in [("--node-binary", binary), ("--node-version", version)] {
        options.extend(value.into_iter().flat_map(|v| [option.to_owned(), v]));
    }
    if install {
        options.push("--install".to_owned());
    }
    (options, named || install)
}

impl Devnet {
    /// None where there is no host, and none was asked for by name.
    pub(crate) fn up(options: &[&str]) -> Option<(Self, Value)> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let home = tempfile::tempdir().unwrap();
        let this = Self {
            _watcher: Watcher::of(&home.path().join("net")),
            home,
            began: Mutex::new(Instant::now()),
            _turn: turn,
        };
        let (code, up) = this.up_again(options);
        let none = up["error"]
            .as_str()
            .is_some_and(|e| e.starts_with("no avalanchego was found"));
        if none && !host().1 {
            println!("SKIPPED, NOTHING WAS TESTED: {}", up["error"]);
            return None;
        }
        assert_eq!(code, Some(0), "{up}");
        if let Some(version) = variable(VERSION) {
            assert_eq!(up["version"], json!(version));
        }
        this.tell(&format!("up, avalanchego {}", up["version"]));
        Some((this, up))
    }

    /// `session devnet up` with the host that the tests run on.
    pub(crate) fn up_again(&self, options: &[&str]) -> (Option<i32>, Value) {
        let (host, _) = host();
        let mut args = vec!["up"];
        args.extend(host.iter().map(String::as_str));
        args.extend(options);
        self.run(&args)
    }

    /// What has been done, and how long it took.
    pub(crate) fn tell(&self, what: &str) {
        let mut began = self.began.lock().unwrap();
        println!("{:>8.1?}  {what}", began.elapsed());
        *began = Instant::now();
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.home.path().join("net")
    }

    /// `session --json devnet …`.
    pub(crate) fn run(&self, args: &[&str]) -> (Option<i32>, Value) {
        let dir = self.dir();
        let mut all = vec!["--json", "devnet"];
        all.extend(args);
        all.extend(["--data-dir", dir.to_str().unwrap()]);
        let output = session(self.home.path(), &all);
        (output.status.code(), json(&output))
    }

    /// The same of something that goes well.
    pub(crate) fn done(&self, args: &[&str]) -> Value {
        let (code, value) = self.run(args);
        assert_eq!(code, Some(0), "{args:?}: {value}");
        value
    }

    pub(crate) fn status(&self) -> (Option<i32>, Value) {
        self.run(&["status"])
    }

    /// What the state file says.
    pub(crate) fn state(&self) -> NetworkState {
        NetworkState::load(&self.dir()).unwrap().unwrap()
    }

    /// Where each node serves the chain.
    pub(crate) fn urls(&self) -> Vec<String> {
        let nodes = self.state().nodes.into_iter();
        nodes.map(|node| node.url.unwrap()).collect()
    }

    /// A client of each node.
    pub(crate) fn nodes(&self) -> Vec<RpcClient> {
        let urls = self.urls().into_iter();
        urls.map(|url| RpcClient::new(&url, None).unwrap())
            .collect()
    }

    /// What signatures of this chain cover: its genesis, not the host's id of it.
    pub(crate) async fn chain(&self) -> ChainId {
        let head: Value = call(&self.nodes()[0], "GetHead", json!({})).await;
        head["chain"].as_str().unwrap().parse().unwrap()
    }

    /// Whether no process of the network runs: its arguments would name the directory.
    pub(crate) fn is_alone(&self) -> bool {
        let dir = self.dir();
        let dir = dir.to_str().unwrap();
        let commands = std::fs::read_dir("/proc").unwrap().flatten();
        let mut commands = commands.map(|e| std::fs::read(e.path().join("cmdline")));
        !commands.any(|command| {
            let command = command.unwrap_or_default();
            String::from_utf8_lossy(&command).contains(dir)
        })
    }

    /// Ends it for good, and finds nothing left.
    pub(crate) fn over(self) {
        self.done(&["down", "--delete"]);
        assert!(self.is_alone() && !self.dir().exists());
        self.tell("down");
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        if !self.dir().exists() {
            return;
        }
        if std::thread::panicking() {
            let output = session(
                self.home.path(),
                &[
                    "devnet",
                    "logs",
                    "--lines",
                    "4",
                    "--data-dir",
                    self.dir().to_str().unwrap(),
                ],
            );
            let logs = String::from_utf8_lossy(&output.stdout);
            let of_chain = logs.lines().filter(|line| line.contains(" chain |"));
            of_chain.for_each(|line| println!("{line}"));
        }
        self.run(&["down", "--delete"]);
    }
}

/// A call that is answered.
pub(crate) async fn call(node: &RpcClient, method: &str, params: Value) -> Value {
    let method = format!("sessionvm.{method}");
    let answer = tokio::time::timeout(PATIENCE, node.call::<Value>(&method, params)).await;
    let answer = answer.unwrap_or_else(|_| panic!("{method}: no answer from {}", node.address()));
    answer.unwrap_or_else(|error| panic!("{method} at {}: {error}", node.address()))
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "not within {PATIENCE:?}: {what}"
        );
        tokio::time::sleep(LOOK).await;
    }
}
