//! The command and a node of its own, for tests.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    dead_code,
    unreachable_pub,
    reason = "in a test a panic is the verdict; each file uses some of this"
)]

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The command with a passphrase, as on no terminal.
pub(crate) fn session(home: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_session"))
        .args(args)
        .env("SESSION_HOME", home)
        .env("SESSION_PASSPHRASE", "not a secret")
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What it printed, one JSON value.
pub(crate) fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stdout)))
}

/// `session node run` on a free port, until it is dropped.
pub(crate) struct RunningNode {
    pub(crate) child: std::process::Child,
    pub(crate) rpc: String,
}

impl RunningNode {
    pub(crate) fn start(home: &Path) -> Self {
        Self::start_with(home, "127.0.0.1:0", &[])
    }

    /// The same on an address, and with more options.
    pub(crate) fn start_with(home: &Path, address: &str, options: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_session"))
            .args(["node", "run", "--rpc", address, "--log", "error"])
            .args(options)
            .arg("--data-dir")
            .arg(home.join("node"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut line).unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        let rpc = line["rpc"].as_str().unwrap().to_owned();
        Self { child, rpc }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

impl Drop for RunningNode {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command against a node, with JSON; and with the words of a phrase where they are needed.
pub(crate) fn on(rpc: &str, home: &Path, args: &[&str], phrase: &str) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_session"))
        .args(["--json", "--node", rpc])
        .args(args)
        .env("SESSION_HOME", home)
        .env("SESSION_PASSPHRASE", "not a secret")
        .env("SESSION_PHRASE", phrase)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    // The last line: an error follows what was done before it.
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap_or_default();
    let value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {text}"));
    (output.status.code(), value)
}
