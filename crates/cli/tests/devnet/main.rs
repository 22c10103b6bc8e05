//! The command on real hosts: this very program is the plugin of avalanchego nodes.
//!
//! Skipped, with a line that says so, where there is no avalanchego: `session devnet up --install`
//! builds one, `SESSION_TEST_AVALANCHEGO` names one. Everything listens on loopback, and ends with
//! the test, also where it fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use support::{json, on, session};

/// Two cores bear one network at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A network that ends with the test.
struct Devnet {
    /// The home of whoever types.
    home: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Devnet {
    /// None where there is no avalanchego.
    fn up(options: &[&str]) -> Option<(Self, Value)> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let home = tempfile::tempdir().unwrap();
        let this = Self { home, _turn: turn };
        let mut args = vec!["up"];
        let named = std::env::var("SESSION_TEST_AVALANCHEGO").ok();
        if let Some(path) = &named {
            args.extend(["--node-binary", path]);
        }
        args.extend(options);
        let (code, value) = this.run(&args);
        if value["error"]
            .as_str()
            .is_some_and(|e| e.starts_with("no avalanchego was found"))
        {
            println!("SKIPPED, NOTHING WAS TESTED: {}", value["error"]);
            return None;
        }
        assert_eq!(code, Some(0), "{value}");
        Some((this, value))
    }

    fn dir(&self) -> PathBuf {
        self.home.path().join("net")
    }

    /// `session --json devnet …`.
    fn run(&self, args: &[&str]) -> (Option<i32>, Value) {
        let dir = self.dir();
        let mut all = vec!["--json", "devnet"];
        all.extend(args);
        all.extend(["--data-dir", dir.to_str().unwrap()]);
        let output = session(self.home.path(), &all);
        (output.status.code(), json(&output))
    }

    fn status(&self) -> (Option<i32>, Value) {
        self.run(&["status"])
    }

    /// Whether a process of the network runs: its arguments name the directory.
    fn is_alone(&self) -> bool {
        let dir = self.dir();
        let dir = dir.to_str().unwrap();
        let commands = std::fs::read_dir("/proc").unwrap().flatten();
        let mut commands = commands.map(|e| std::fs::read(e.path().join("cmdline")));
        !commands.any(|command| {
            let command = command.unwrap_or_default();
            String::from_utf8_lossy(&command).contains(dir)
        })
    }
}

impl Drop for Devnet {
    fn drop(&mut self) {
        self.run(&["down", "--delete"]);
    }
}

fn url(up: &Value, number: usize) -> String {
    up["nodes"][number - 1]["url"].as_str().unwrap().to_owned()
}

#[test]
fn one_node_serves_the_command_and_survives_what_happens_to_it() {
    let Some((devnet, up)) = Devnet::up(&["--port", "31000"]) else {
        return;
    };
    let node = url(&up, 1);
    assert!(node.contains("/ext/bc/"));
    let (code, again) = devnet.run(&["up"]);
    assert_eq!(code, Some(1));
    assert!(
        again["error"].as_str().unwrap().contains("runs already"),
        "{again}"
    );
    let (code, status) = devnet.status();
    assert_eq!(
        (code, &status["level"]),
        (Some(0), &Value::Bool(true)),
        "{status}"
    );

    // People write to each other below the host's path.
    let (alice, bob) = (
        devnet.home.path().join("alice"),
        devnet.home.path().join("bob"),
    );
    for home in [&alice, &bob] {
        assert_eq!(on(&node, home, &["identity", "new"], "").0, Some(0));
        assert_eq!(on(&node, home, &["inbox"], "").0, Some(0));
    }
    let bob_id = on(&node, &bob, &["identity", "show"], "").1["id"].clone();
    let bob_id = bob_id.as_str().unwrap();
    assert_eq!(
        on(&node, &alice, &["contact", "add", "bob", bob_id], "").0,
        Some(0)
    );
    assert_eq!(on(&node, &alice, &["open", "bob"], "").0, Some(0));
    assert_eq!(on(&node, &alice, &["send", "bob", "before"], "").0, Some(0));

    // The plugin dies, and only the status notices.
    assert_eq!(devnet.run(&["kill", "1", "--plugin-only"]).0, Some(0));
    let (code, status) = devnet.status();
    assert_eq!(code, Some(1));
    assert_eq!(status["nodes"][0]["runs"], true);
    assert_eq!(status["nodes"][0]["pluginRuns"], false);
    let (code, back) = devnet.run(&["restart", "1"]);
    assert_eq!(code, Some(0), "{back}");
    assert_eq!(devnet.run(&["restart", "1"]).0, Some(1), "it runs");
    assert_eq!(devnet.run(&["kill", "2"]).0, Some(2), "there is none");

    // One more node has it all, and proves it as well.
    let (code, added) = devnet.run(&["add"]);
    assert_eq!(
        (code, &added["node"]),
        (Some(0), &Value::from(2)),
        "{added}"
    );
    let (_, status) = devnet.status();
    let other = status["nodes"][1]["url"].as_str().unwrap();
    // Bob has met one node's key only, and is told so.
    assert_eq!(on(other, &bob, &["inbox"], "").0, Some(4));
    let state = devnet.dir().join("state.json");
    let pin = ["node", "pin", state.to_str().unwrap(), "--threshold", "2"];
    assert_eq!(on(other, &bob, &pin, "").0, Some(0));
    let (code, inbox) = on(other, &bob, &["inbox"], "");
    assert_eq!(code, Some(0), "{inbox}");
    assert!(inbox.to_string().contains("before"), "{inbox}");

    // Stopped and started, it is the same chain.
    assert_eq!(devnet.run(&["down"]).0, Some(0));
    assert!(devnet.is_alone(), "something was left running");
    let (code, later) = devnet.run(&["up"]);
    assert_eq!(code, Some(0), "{later}");
    assert_eq!(later["chain"], up["chain"]);
    assert_eq!(devnet.run(&["up", "--faithful"]).0, Some(1), "it runs");
    assert_eq!(devnet.run(&["down", "--delete"]).0, Some(0));
    assert!(devnet.is_alone() && !devnet.dir().exists());
}

#[test]
fn five_nodes_lose_nothing_when_one_is_killed() {
    let Some((devnet, up)) = Devnet::up(&["--nodes", "5", "--port", "33000"]) else {
        return;
    };
    assert_eq!(up["nodes"].as_array().unwrap().len(), 5);
    let dir = devnet.dir();
    let dir = dir.to_str().unwrap();
    let demo = ["--json", "demo", "--network", "devnet", "--devnet-dir", dir];
    let output = session(devnet.home.path(), &demo);
    let result = json(&output);
    assert_eq!(result["ok"], true, "{result}");
    assert_eq!(result["messages"], 66);
    let (code, status) = devnet.status();
    assert_eq!(
        (code, &status["level"]),
        (Some(0), &Value::Bool(true)),
        "{status}"
    );
    let roots = status["nodes"].as_array().unwrap();
    let first = &roots[0]["stateRoot"];
    assert!(first.is_string() && roots.iter().all(|node| node["stateRoot"] == *first));
    assert_eq!(devnet.run(&["down"]).0, Some(0));
    assert!(devnet.is_alone(), "something was left running");
}
