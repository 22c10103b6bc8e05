//! Several Lux nodes, driven step by step.
//!
//! There is no gossip: who submits to a node waits for that node's turn. One block a height is
//! decided, and each node accepts it; what was decided is what plugins are judged by.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use session_core::ids::BlockId;
use session_zap::block::BlockAcceptRequest;
use session_zap::health::{Details, HealthResponse};
use session_zap::vm::{InitializeResponse, State};
use session_zap::{Call, request};

use super::client::Failure;
use super::node::{Node, Setup, wire};
use crate::chance::Chance;
use crate::network::Known;
use crate::people::{People, call};

/// How long a node may take until it wants to build what was submitted to it.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long a node that may have nothing to build is asked.
const SILENCE: Duration = Duration::from_millis(60);

/// What happened in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Somebody submitted something.
    Submitted,
    /// A block was decided.
    Decided,
    /// A block was decided, and another one of its height was not.
    Sibling,
    /// A plugin was killed.
    Killed,
    /// A plugin was killed while it accepted.
    KilledAccepting,
    /// Nobody had anything to build.
    Nothing,
}

/// A network.
pub struct Network {
    /// What every node is given.
    pub setup: Setup,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// One block a height, genesis first.
    pub decided: Vec<Known>,
    /// Who submits.
    pub people: People,
    /// How often things happened.
    pub tally: BTreeMap<Step, usize>,
    chance: Chance,
}

impl Network {
    /// Starts this many nodes up to normal operation, with two people in a session.
    pub async fn start(setup: Setup, count: usize, seed: u64) -> Self {
        println!("seed {seed}");
        let mut nodes: Vec<Node> = (0..count).map(Node::new).collect();
        for node in &mut nodes {
            node.start(&setup, "").await.expect("it starts");
        }
        let genesis = nodes[0].get(nodes[0].last()).await.expect("genesis");
        let mut network = Self {
            setup,
            nodes,
            people: People::new(genesis.header.chain),
            decided: vec![genesis],
            tally: BTreeMap::new(),
            chance: Chance::new(seed),
        };
        for at in 0..count {
            network.catch_up(at).await;
        }
        network.open_session().await;
        network
    }

    async fn open_session(&mut self) {
        for _ in 0..2 {
            let tx = self.people.join(&mut self.chance);
            self.submit(0, &tx);
            self.decide_from(0).await;
        }
        let [one, two] = self.people.persons.as_slice() else {
            panic!("two people");
        };
        let (tx, session) = one.open_session(two);
        let accept = two.accept_session(session);
        for tx in [tx, accept] {
            self.submit(0, &tx);
            self.decide_from(0).await;
        }
        self.people.sessions.push((session, 0));
    }

    /// Height of the last decided block.
    pub const fn height(&self) -> u64 {
        (self.decided.len() as u64).saturating_sub(1)
    }

    /// The last decided block.
    pub fn last(&self) -> &Known {
        self.decided.last().expect("genesis is decided")
    }

    fn tell(&mut self, step: Step) -> Step {
        *self.tally.entry(step).or_default() += 1;
        step
    }

    /// Submits to a node.
    pub fn submit(&mut self, at: usize, tx: &session_chain::tx::Tx) {
        let binary = self.chance.one_in(2);
        let handlers = &self.nodes[at].life().handlers;
        self.people.submit(handlers, tx, binary);
    }

    /// Lets a node build what was submitted to it, and everybody accept it.
    pub async fn decide_from(&mut self, at: usize) {
        assert!(self.nodes[at].wants(PATIENCE).await, "nothing to build");
        let block = self.nodes[at].build().await.expect("it wanted to");
        self.decide(&[block]).await;
    }

    /// Submits messages to the first node, and decides, until the chain is this high.
    pub async fn grow(&mut self, height: u64) {
        while self.height() < height {
            let person = &self.people.persons[0];
            let session = self.people.sessions[0].0;
            let tx = person.message(session, self.height().to_be_bytes().repeat(9));
            self.submit(0, &tx);
            self.decide_from(0).await;
        }
    }

    /// Every running node verifies these blocks of one height; the first is decided.
    async fn decide(&mut self, blocks: &[Known]) {
        let next = self.decided.len() as u64;
        assert!(blocks.iter().all(|block| block.header.height == next));
        let running = self.nodes.iter_mut().filter(|node| node.runs());
        for node in running {
            for block in blocks {
                node.verify(block).await;
            }
            node.prefer(blocks[0].id).await;
            node.accept(blocks[0].id).await;
        }
        self.decided.push(blocks[0].clone());
        self.tell(Step::Decided);
    }

    /// Gives a node what it missed, as accepted blocks, then lets it take part.
    pub async fn catch_up(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.set_state(State::BOOTSTRAPPING).await;
        let last = node.set_state(State::BOOTSTRAPPING).await;
        // The plugin may be where its node is, or one block behind it.
        let from = last.height;
        assert!(from == node.height() || from + 1 == node.height(), "{from}");
        node.outer.truncate(usize::try_from(from).unwrap() + 1);
        assert_eq!(node.last(), self.decided[node.outer.len() - 1].id);
        for block in &self.decided[node.outer.len()..] {
            node.verify(block).await;
            node.accept(block.id).await;
        }
        let ready = node.set_state(State::READY).await;
        assert_eq!(ready.height, node.height());
        assert_eq!(ready.last_accepted, wire(node.last()));
        node.prefer(node.last()).await;
    }

    /// Starts the plugin of a node again.
    ///
    /// # Errors
    /// What the plugin answers to `Initialize`.
    pub async fn restart(
        &mut self,
        at: usize,
        config: &str,
    ) -> Result<InitializeResponse, Failure> {
        let setup = self.setup.clone();
        self.nodes[at].start(&setup, config).await
    }

    /// The node dies and loses the last blocks of its own index.
    pub fn lose_power(&mut self, at: usize, blocks: u64) {
        let node = &mut self.nodes[at];
        if node.runs() {
            node.kill();
        }
        let height = node.height() - blocks;
        node.outer.truncate(usize::try_from(height).unwrap() + 1);
    }

    /// Kills a plugin while it accepts a block that is decided.
    async fn kill_accepting(&mut self, at: usize, block: &Known) {
        let node = &mut self.nodes[at];
        node.verify(block).await;
        node.outer.push(block.id);
        let accept = BlockAcceptRequest { id: wire(block.id) };
        let bytes = request(Call::BlockAccept, u32::MAX, &accept).unwrap();
        node.client().send(&bytes).await;
        let time = self.chance.below(4_000) as u64;
        tokio::time::sleep(Duration::from_micros(time)).await;
        self.nodes[at].kill();
    }

    /// Something happens.
    pub async fn step(&mut self) -> Step {
        let at = self.chance.below(self.nodes.len());
        let step = match self.chance.below(20) {
            0..=8 => {
                let tx = self.people.next(&mut self.chance);
                self.submit(at, &tx);
                Step::Submitted
            }
            9 => {
                self.nodes[at].kill();
                self.restart(at, "").await.expect("it starts again");
                self.catch_up(at).await;
                Step::Killed
            }
            choice => self.build(at, choice == 10).await,
        };
        if step != Step::Decided {
            self.tell(step);
        }
        step
    }

    async fn build(&mut self, at: usize, kill: bool) -> Step {
        let mut blocks = Vec::new();
        for other in 0..self.nodes.len() {
            let builder = (at + other) % self.nodes.len();
            if blocks.len() < 2 && self.nodes[builder].wants(SILENCE).await {
                blocks.extend(self.nodes[builder].build().await);
            }
        }
        let Some(first) = blocks.first().cloned() else {
            return Step::Nothing;
        };
        let siblings = blocks.iter().any(|block| block.id != first.id);
        blocks.dedup_by_key(|block| block.id);
        if kill && self.nodes.len() > 1 {
            let victim = self.chance.below(self.nodes.len());
            self.kill_accepting(victim, &first).await;
            self.decide(&[first]).await;
            self.restart(victim, "").await.expect("it starts again");
            self.catch_up(victim).await;
            self.tell(Step::KilledAccepting);
            return Step::Decided;
        }
        self.decide(&blocks).await;
        if siblings {
            self.tell(Step::Sibling);
        }
        Step::Decided
    }

    /// Compares every node with what was decided.
    pub async fn check(&mut self) {
        for (number, node) in self.nodes.iter().enumerate() {
            assert_eq!(node.height(), self.height(), "node {number}");
            let oldest = self.decided.len().saturating_sub(4);
            for block in &self.decided[oldest..] {
                let height = block.header.height;
                // The header is in the bytes, and the state root in the header.
                assert_eq!(node.get(block.id).await.as_ref(), Some(block));
                assert_eq!(node.at(height).await, Some(block.id));
            }
            assert_eq!(node.at(self.height() + 1).await, None);
            assert_eq!(node.get(BlockId::from_bytes([0xee; 32])).await, None);
            let health: HealthResponse = node.client().ask(Call::Health).await.expect("well");
            let details = Details::from_bytes(&health.details).expect("details");
            let height = ("height".to_owned(), self.height().to_string());
            assert!(details.0.contains(&height), "{details:?}");
            self.check_head(number).await;
        }
        self.people.collect().await;
    }

    async fn check_head(&self, number: usize) {
        let handlers = &self.nodes[number].life().handlers;
        let (_, rpc) = handlers.iter().find(|(p, _)| p == "/rpc").expect("/rpc");
        let head = call(rpc, "sessionvm.GetHead", &json!({})).await;
        let head = head.unwrap_or_else(|error| panic!("node {number}: {error}"));
        assert_eq!(head["height"].as_u64(), Some(self.height()), "{head}");
        let id = self.last().id.to_string();
        assert_eq!(head["id"].as_str(), Some(&*id), "{head}");
    }

    /// Everybody was answered, and nobody was lost.
    pub async fn finish(&mut self) {
        for _ in 0..200 {
            if self.people.collect().await == 0 {
                break;
            }
            for at in 0..self.nodes.len() {
                self.build(at, false).await;
            }
        }
        assert_eq!(self.people.collect().await, 0, "everybody is answered");
        self.check().await;
        println!("{:?}\n{:?}", self.tally, self.people.tally());
    }
}
