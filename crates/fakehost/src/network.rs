//! Several plugins under one simple consensus, driven step by step.
//!
//! ```text
//! submit ─▶ mempool ─ gossip ─▶ WaitForEvent ─▶ BuildBlock ─▶ verify everywhere ─▶ decide
//!                                                              │ siblings, twice, forgotten
//! decide ─▶ each node, now or later: outer index ─▶ BlockAccept ─▶ BlockReject … ─▶ SetPreference
//! ```
//!
//! The network decides one block a height; each node follows at its own pace, in the order of a
//! snowman engine. What was decided is known to the network alone and is what plugins are judged
//! by.

mod check;
mod engine;
mod node;
mod replay;
mod steps;
mod sync;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use session_core::ids::BlockId;
use session_rpcchainvm::vm::State;

use crate::chance::Chance;
use crate::people::People;
use crate::sender::{Exchange, NodeId, Weather};

pub use sync::Offered;

pub use node::{Asked, Killed, Known, Life, Node, block_id, initialize_request, wire};

/// Id of the chain, as the node tells it.
pub const CHAIN: [u8; 32] = [0xc4; 32];

/// A genesis without limits that a short schedule could meet.
pub const GENESIS: &str = r#"{"vmID":"speKUgLBX6WRD5cfGeEfLa43LxTXUBckvtv4td6F3eTXvRP48","config":{"admission":"open","registrations":{"perSecond":100000,"burst":100000},"unsigned":{"perSecond":100000,"burst":100000}},"timestamp":1737676800}"#;

/// What every node of a network is given.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The plugin's binary.
    pub binary: PathBuf,
    /// Genesis bytes.
    pub genesis: Vec<u8>,
    /// The chain's configuration on each node.
    pub config: Vec<u8>,
}

impl Setup {
    /// This binary with [`GENESIS`] and no configuration.
    pub fn new(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            genesis: GENESIS.into(),
            config: Vec::new(),
        }
    }
}

/// How often things happened: a schedule that never comes to something proves nothing about it.
pub type Tally = BTreeMap<&'static str, usize>;

/// A network.
pub struct Network {
    /// What every node is given.
    pub setup: Setup,
    /// Messages between plugins.
    pub exchange: Exchange,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// One block a height, genesis first.
    pub decided: Vec<Known>,
    /// Blocks above the last decided one that a plugin built and the network knows.
    pub open: BTreeMap<BlockId, Known>,
    /// Blocks that lost.
    pub lost: BTreeSet<BlockId>,
    /// Who submits.
    pub people: People,
    /// How often things happened.
    pub tally: Tally,
    chance: Chance,
    seed: u64,
    story: Vec<String>,
}

/// The id of a network's node.
pub fn node_id(number: usize) -> NodeId {
    let mut id = [0x0d; 20];
    id[0] = u8::try_from(number).unwrap_or(u8::MAX);
    NodeId(id)
}

impl Network {
    /// Starts this many nodes, from 1 to 7, on empty disks, up to normal operation.
    pub async fn start(setup: Setup, count: usize, weather: Weather, seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let exchange = Exchange::new(weather, chance.fork());
        let mut nodes: Vec<Node> = (0..count).map(|n| Node::new(node_id(n))).collect();
        let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
        for node in &mut nodes {
            let peers: Vec<NodeId> = ids.iter().copied().filter(|id| *id != node.id).collect();
            node.start(&setup, &exchange, &peers).await;
        }
        let genesis = nodes[0].get(nodes[0].last()).await;
        let genesis = genesis.expect("nothing was planned").expect("genesis");
        let mut network = Self {
            setup,
            exchange,
            nodes,
            people: People::new(genesis.header.chain),
            decided: vec![genesis],
            open: BTreeMap::new(),
            lost: BTreeSet::new(),
            tally: Tally::new(),
            chance,
            seed,
            story: Vec::new(),
        };
        for at in 0..count {
            network.operate(at).await.expect("nothing was planned");
        }
        network
    }

    /// Normal operation: no blocks to catch up with are known, or they come one by one.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn operate(&mut self, at: usize) -> Asked<()> {
        let node = &mut self.nodes[at];
        node.set_state(State::NormalOp).await?;
        let last = node.last();
        node.prefer(last).await
    }

    /// Height of the last decided block.
    pub const fn height(&self) -> u64 {
        (self.decided.len() as u64).saturating_sub(1)
    }

    /// The last decided block.
    pub fn last(&self) -> &Known {
        self.decided.last().expect("genesis is decided")
    }

    /// Numbers of the nodes whose plugins run.
    pub fn running(&self) -> Vec<usize> {
        let nodes = self.nodes.iter().enumerate();
        let running = nodes.filter(|(_, node)| node.runs());
        running.map(|(at, _)| at).collect()
    }

    pub(crate) fn tell(&mut self, what: &'static str, story: String) {
        *self.tally.entry(what).or_default() += 1;
        self.story.push(format!("{what} {story}"));
    }

    /// Counts what a test has done to the network.
    pub fn tell_of(&mut self, what: &'static str) {
        self.tell(what, String::new());
    }

    /// Lets a node build if it wants to within this time. What is built is known to the network,
    /// and to the node's engine once it was verified there.
    ///
    /// # Errors
    /// [`Killed`].
    ///
    /// # Panics
    /// When the plugin wanted to build and then could not: on a node that is a busy loop.
    pub async fn build(&mut self, at: usize, patience: Duration) -> Asked<Option<Known>> {
        if !self.nodes[at].wants(patience).await? {
            return Ok(None);
        }
        let built = self.nodes[at].build().await?;
        let known = built.unwrap_or_else(|status| {
            panic!("WaitForEvent said BUILD_BLOCK, and BuildBlock: {status}")
        });
        self.met(&known);
        self.tell("built", format!("{} by {at}", short(&known)));
        Ok(Some(known))
    }

    fn met(&mut self, known: &Known) {
        let decided = self.decided.get(known.header.height as usize);
        if decided.is_some_and(|decided| decided.id == known.id) {
            return;
        }
        if decided.is_some() || self.lost.contains(&known.header.parent) {
            self.lost.insert(known.id);
        } else {
            self.open.insert(known.id, known.clone());
        }
    }

    /// Gives a block to a node as its engine would: parents first, nothing that is decided.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn issue(&mut self, at: usize, known: &Known) -> Asked<()> {
        let mut missing = vec![known.clone()];
        loop {
            let top = &missing.last().expect("one at least").header;
            let node = &self.nodes[at];
            if top.height <= node.height() {
                return Ok(());
            }
            let parent = top.parent;
            if parent == node.last() || node.life().processing.contains_key(&parent) {
                break;
            }
            let decided = self.decided.iter().find(|block| block.id == parent);
            let parent = decided.or_else(|| self.open.get(&parent));
            match parent {
                Some(parent) => missing.push(parent.clone()),
                // It stands on a block that lost.
                None => return Ok(()),
            }
        }
        while let Some(block) = missing.pop() {
            let node = &mut self.nodes[at];
            if !node.life().processing.contains_key(&block.id) {
                node.parse(&block).await?;
                node.verify(&block).await?;
            }
        }
        Ok(())
    }

    /// Decides a block that stands on the last decided one.
    pub fn decide(&mut self, known: &Known) {
        assert_eq!(known.header.parent, self.last().id, "decided in order");
        self.open.remove(&known.id);
        let mut gone = vec![known.header.parent];
        while let Some(parent) = gone.pop() {
            let rivals = self.open.values();
            let rivals = rivals.filter(|block| block.header.parent == parent);
            let rivals: Vec<BlockId> = rivals.map(|block| block.id).collect();
            for rival in rivals {
                self.open.remove(&rival);
                self.lost.insert(rival);
                gone.push(rival);
            }
        }
        self.tell("decided", short(known));
        self.decided.push(known.clone());
    }

    /// Blocks that could be decided next.
    pub fn candidates(&self) -> Vec<Known> {
        let last = self.last().id;
        let open = self.open.values();
        let next = open.filter(|block| block.header.parent == last);
        next.cloned().collect()
    }

    /// Lets a node accept what was decided, up to a height.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn advance(&mut self, at: usize, to: u64) -> Asked<()> {
        while self.nodes[at].height() < to.min(self.height()) {
            let next = self.decided[self.nodes[at].height() as usize + 1].clone();
            self.issue(at, &next).await?;
            if self.chance.one_in(2) {
                self.nodes[at].prefer(next.id).await?;
            }
            self.nodes[at].accept(next.id).await?;
            self.prefer(at).await?;
        }
        Ok(())
    }

    /// Lets a node prefer a leaf of its processing tree: mostly one that was decided.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn prefer(&mut self, at: usize) -> Asked<()> {
        let node = &self.nodes[at];
        let mut tip = node.last();
        let decided: BTreeSet<BlockId> = self.decided.iter().map(|block| block.id).collect();
        loop {
            let children = self.nodes[at].life().processing.values();
            let children = children.filter(|block| block.header.parent == tip);
            let children: Vec<BlockId> = children.map(|block| block.id).collect();
            let Some(any) = self.chance.pick(&children).copied() else {
                break;
            };
            let right = children.iter().find(|id| decided.contains(id));
            let right = right.filter(|_| !self.chance.one_in(4));
            tip = right.copied().unwrap_or(any);
        }
        self.nodes[at].prefer(tip).await
    }
}

/// Height and the beginning of the id.
pub(crate) fn short(known: &Known) -> String {
    let id = known.id.as_bytes();
    let (height, txs) = (known.header.height, known.header.count);
    format!("{height}:{:02x}{:02x} ({txs} txs)", id[0], id[1])
}

impl Drop for Network {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let from = self.story.len().saturating_sub(40);
        eprintln!(
            "seed {}; the last of {} steps:",
            self.seed,
            self.story.len()
        );
        for line in &self.story[from..] {
            eprintln!("  {line}");
        }
        for (at, node) in self.nodes.iter().enumerate() {
            let now = node.life.as_ref().map(|life| life.plugin.process.output());
            let said = format!("{}{}", node.said, now.unwrap_or_default());
            let tail: Vec<&str> = said.lines().rev().take(12).collect();
            for line in tail.iter().rev() {
                eprintln!("  node {at} said: {line}");
            }
        }
    }
}
