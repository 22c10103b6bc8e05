//! Why a network is not as it was asked for, with the log line that explains it.

use std::path::{Path, PathBuf};

use crate::ids::{Id, IdError};
use crate::logs::Explanation;
use crate::tx::TxError;

/// What can go wrong. Each message says what happened; [`DevnetError::way_out`] what to do.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// This machine tells nothing about its processes.
    #[error("a local network needs Linux: processes are told apart by /proc")]
    NoProc,
    /// There is no node to run.
    #[error("no avalanchego was found: not in PATH, and not in {cache}")]
    NoBinary {
        /// Where built ones are kept.
        cache: PathBuf,
        /// Whether one can be built here.
        has_go: bool,
    },
    /// A program that is no avalanchego, or does not run.
    #[error("{path} is no avalanchego that runs here: {problem}")]
    BadBinary {
        /// The program.
        path: PathBuf,
        /// What it said.
        problem: String,
    },
    /// It could not be built.
    #[error("building avalanchego {version} failed: {problem}")]
    Build {
        /// Version.
        version: String,
        /// The last lines of the Go toolchain.
        problem: String,
    },
    /// The program that is to be the plugin is not there.
    #[error("the plugin {0} is not a program that can be run")]
    NoPlugin(PathBuf),
    /// The keys of the local network's validators are not there.
    #[error("the staking keys of the five local validators are not in {dir}: {problem}")]
    NoStakingKeys {
        /// Where they lie.
        dir: PathBuf,
        /// Why they could not be fetched.
        problem: String,
    },
    /// More or fewer nodes than such a network has.
    #[error("{asked} nodes: {reason}")]
    NodeCount {
        /// What was asked for.
        asked: usize,
        /// What there may be.
        reason: &'static str,
    },
    /// No ports are free.
    #[error("no {needed} free ports were found on 127.0.0.1 from {base} on")]
    NoPorts {
        /// How many are needed.
        needed: usize,
        /// Where the search began.
        base: u16,
    },
    /// Another command works on this network.
    #[error("another `session devnet` command works in {0}: wait until it has ended")]
    Busy(PathBuf),
    /// There is no network in this directory.
    #[error("there is no network in {0}: start one with `session devnet up`")]
    NoNetwork(PathBuf),
    /// It runs already.
    #[error("the network in {dir} runs already, {nodes} of its nodes: see `session devnet status`")]
    Running {
        /// Its directory.
        dir: PathBuf,
        /// How many nodes run.
        nodes: usize,
    },
    /// The directory keeps another network than the one that was asked for.
    #[error("the network in {dir} has other {what}: it was made with {kept}")]
    OtherNetwork {
        /// Its directory.
        dir: PathBuf,
        /// What differs.
        what: &'static str,
        /// What it has.
        kept: String,
    },
    /// The state file is damaged.
    #[error("{path} is damaged: {error}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
    /// A node's number that no node has.
    #[error("there is no node {number}: the network has {nodes}")]
    NoNode {
        /// What was asked for.
        number: usize,
        /// How many there are.
        nodes: usize,
    },
    /// A node that should run does not.
    #[error("node {0} does not run: start it with `session devnet restart {0}`")]
    NotRunning(usize),
    /// A node that should not run does.
    #[error("node {0} runs already: stop it with `session devnet kill {0}`")]
    NodeRuns(usize),
    /// A node whose plugin has gone.
    #[error("the plugin of node {0} is dead already: `session devnet restart {0}`")]
    NoPluginProcess(usize),
    /// A process that even SIGKILL does not end.
    #[error(
        "node {0} or its plugin does not end, not even by SIGKILL: see `session devnet status`"
    )]
    Stays(usize),
    /// Some nodes do not run or do not answer.
    #[error("{0}")]
    NotWell(String),
    /// Something that only one kind of network can do.
    #[error("{0}")]
    NotInThisMode(&'static str),
    /// A node ended while it was waited for.
    #[error("node {node} ended before {what}{why}")]
    Ended {
        /// Which.
        node: usize,
        /// What was waited for.
        what: String,
        /// Its log.
        why: Explanation,
    },
    /// A node could not load the plugin or create the chain with it, and lives on without.
    #[error("node {node} could not load the plugin{why}")]
    NoChain {
        /// Which.
        node: usize,
        /// Its log.
        why: Explanation,
    },
    /// It took too long.
    #[error("node {node}: {what} did not happen within {seconds} s ({last}){why}")]
    TooLate {
        /// Which.
        node: usize,
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// The last thing that was seen.
        last: String,
        /// Its log.
        why: Explanation,
    },
    /// A node's API refuses, or cannot be understood.
    #[error("{address} {method}: {problem}")]
    Api {
        /// The node.
        address: String,
        /// What was called.
        method: String,
        /// What it said.
        problem: String,
    },
    /// A transaction cannot be made.
    #[error("{0}")]
    Tx(#[from] TxError),
    /// The P-chain did not take a transaction.
    #[error("the P-chain has not taken {what} {id}: {problem}")]
    NotTaken {
        /// Which.
        what: &'static str,
        /// Its id.
        id: Id,
        /// Status and reason.
        problem: String,
    },
    /// The node answers something else than an id.
    #[error("{0}")]
    Id(#[from] IdError),
}

impl DevnetError {
    pub(crate) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| Self::File {
            path: path.to_owned(),
            error,
        }
    }

    /// What to do about it, where the message does not say.
    pub const fn way_out(&self) -> Option<&'static str> {
        match self {
            Self::NoBinary { has_go: true, .. } => Some(
                "build one with `session devnet up --install` (some 2 minutes, 1 GB of caches, needs \
                 gcc), or name one with --node-binary PATH; without a host there is the stand-alone \
                 node: `session node run --data-dir DIR`",
            ),
            Self::NoBinary { has_go: false, .. } => Some(
                "install Go 1.24 or later and use --install, or fetch avalanchego from \
                 https://github.com/ava-labs/avalanchego/releases and name it with --node-binary \
                 PATH; without a host there is the stand-alone node: `session node run --data-dir DIR`",
            ),
            Self::BadBinary { .. } => Some(
                "name another with --node-binary PATH, or build one with `session devnet up --install`",
            ),
            Self::Build { .. } => Some(
                "it needs Go 1.24 or later, gcc and a way to the Go module proxy; a binary from \
                 https://github.com/ava-labs/avalanchego/releases does as well: --node-binary PATH",
            ),
            Self::NoStakingKeys { .. } => Some(
                "they come with avalanchego's Go module: with Go installed they are fetched; or \
                 leave --faithful out",
            ),
            Self::NoPorts { .. } => Some("end what listens there, or name others with --port"),
            Self::OtherNetwork { .. } => Some(
                "leave the option out to go on with it, give it up with `session devnet down \
                 --delete`, or use another --data-dir",
            ),
            Self::Damaged { .. } => {
                Some("move the directory away, or delete it, once no process of it runs")
            }
            Self::NoPlugin(_) => Some("name one with --plugin PATH"),
            Self::NotWell(_) => Some("`session devnet restart N` brings a node back"),
            Self::NoChain { .. } => Some(
                "the plugin must speak the node's protocol and answer within 5 s: \
                 `session devnet logs 1` shows what it said; `session devnet down --delete` gives \
                 the network up",
            ),
            Self::Ended { .. } | Self::TooLate { .. } => {
                Some("`session devnet logs N` shows the rest of its logs")
            }
            Self::File { .. }
            | Self::NoProc
            | Self::NodeCount { .. }
            | Self::Busy(_)
            | Self::NoNetwork(_)
            | Self::Running { .. }
            | Self::NoNode { .. }
            | Self::NotRunning(_)
            | Self::NodeRuns(_)
            | Self::NoPluginProcess(_)
            | Self::Stays(_)
            | Self::NotInThisMode(_)
            | Self::Api { .. }
            | Self::Tx(_)
            | Self::NotTaken { .. }
            | Self::Id(_) => None,
        }
    }
}
