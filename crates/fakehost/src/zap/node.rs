//! One Lux node: its directory, the plugin that runs on it, and the index of what it decided.

use std::collections::BTreeMap;
use std::time::Duration;

use prost::bytes::Bytes;
use session_core::codec::{Decode, Encode};
use session_core::ids::BlockId;
use session_zap::block::{
    BlockAcceptRequest, BlockRejectRequest, BlockResponse, BlockVerifyRequest, BlockVerifyResponse,
    Failure as Reason, GetBlockIdAtHeightRequest, GetBlockIdAtHeightResponse, GetBlockRequest,
    ParseBlockRequest, SetPreferenceRequest,
};
use session_zap::vm::*;
use session_zap::{Call, Empty, Later, NOTHING};

use super::client::{Client, Failure};
use super::database::Served;
use super::plugin::{Answer, Plugin, StartError, launch};
use crate::database::Database;
use crate::http::Handler;
use crate::network::{CHAIN, GENESIS, Known, node_id};
use crate::plugin::{Launch, kill};

/// What every node of a network is given.
#[derive(Debug, Clone)]
pub struct Setup {
    /// How plugins are started.
    pub launch: Launch,
    /// Genesis bytes.
    pub genesis: Vec<u8>,
    /// Whether nodes serve their chains a database.
    pub database: bool,
}

impl Setup {
    /// This binary; its chains have a store of their own.
    pub fn new(binary: &str) -> Self {
        Self {
            launch: launch(binary),
            genesis: GENESIS.into(),
            database: false,
        }
    }

    /// The same over the node's database.
    pub fn over_database(binary: &str) -> Self {
        Self {
            database: true,
            ..Self::new(binary)
        }
    }
}

/// A plugin that runs, and what its engine holds in memory.
#[derive(Debug)]
pub struct Life {
    /// Its process.
    pub plugin: Plugin,
    /// Its handlers by prefix.
    pub handlers: Vec<(String, Handler)>,
    /// Verified blocks that are not decided.
    pub processing: BTreeMap<BlockId, Known>,
    _database: Option<Served>,
}

/// One node.
pub struct Node {
    /// The plugin, while it runs.
    pub life: Option<Life>,
    /// The outer index: ids by height.
    pub outer: Vec<BlockId>,
    /// The disk of its database, if it serves one.
    pub disk: Database,
    /// What plugins of earlier runs have said.
    pub said: String,
    number: usize,
    directory: tempfile::TempDir,
}

impl Node {
    /// A node with an empty directory.
    pub fn new(number: usize) -> Self {
        Self {
            life: None,
            outer: Vec::new(),
            disk: Database::default(),
            said: String::new(),
            number,
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The chain's directory.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// What it tells its plugin.
    pub fn told(&self, setup: &Setup, config: &str, db_server: &str) -> InitializeRequest {
        InitializeRequest {
            network: 1_337,
            chain: CHAIN.to_vec(),
            node: node_id(self.number).bytes().to_vec(),
            public_key: vec![0xb1; 48],
            x_chain: vec![0x0a; 32],
            c_chain: vec![0x0c; 32],
            utxo_asset: vec![0xa5; 32],
            chain_data_dir: self.directory.path().to_str().unwrap().to_owned(),
            genesis: setup.genesis.clone(),
            upgrade: Vec::new(),
            config: config.as_bytes().to_vec(),
            db_server: db_server.to_owned(),
            server: String::new(),
            atomic_server: Later::default(),
            d_chain: Later::default(),
            validator_server: Later::default(),
        }
    }

    /// Starts a plugin up to its handlers.
    ///
    /// # Errors
    /// What the plugin answers to `Initialize`; the process is gone then.
    pub async fn start(
        &mut self,
        setup: &Setup,
        config: &str,
    ) -> Result<InitializeResponse, Failure> {
        assert!(self.life.is_none(), "one plugin at a time");
        let plugin = Plugin::start(&setup.launch, Answer::Taken).await;
        let plugin = match plugin {
            Ok(plugin) => plugin,
            Err(StartError::Ended(status, said)) => panic!("{status}: {said}"),
            Err(error) => panic!("{error:?}"),
        };
        let served = match setup.database {
            true => Some(Served::start(&self.disk).await),
            false => None,
        };
        let address = served.as_ref().map(Served::address).unwrap_or_default();
        let told = self.told(setup, config, address);
        let answer: Result<InitializeResponse, _> =
            plugin.client.call(Call::Initialize, &told).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => {
                plugin.process.settle().await;
                self.said.push_str(&plugin.process.output());
                return Err(failure);
            }
        };
        let handlers: CreateHandlersResponse = plugin
            .client
            .ask(Call::CreateHandlers)
            .await
            .expect("handlers");
        let handlers = handlers.handlers.into_iter();
        let handlers = handlers.map(|h| (h.prefix, Handler::plain(&h.server)));
        self.life = Some(Life {
            handlers: handlers.collect(),
            plugin,
            processing: BTreeMap::new(),
            _database: served,
        });
        // Accepted already: at height 0 genesis.
        let known = self
            .get(block_id(&answer.last_accepted))
            .await
            .expect("it is there");
        assert_eq!(known.bytes, answer.bytes);
        assert_eq!(known.header.height, answer.height);
        assert_eq!(known.header.parent.as_bytes(), answer.parent.as_slice());
        if self.outer.is_empty() {
            self.outer.push(known.id);
        }
        Ok(answer)
    }

    /// The plugin that runs.
    pub fn life(&self) -> &Life {
        self.life.as_ref().expect("the plugin runs")
    }

    /// Whether a plugin runs.
    pub const fn runs(&self) -> bool {
        self.life.is_some()
    }

    /// The connection to it.
    pub fn client(&self) -> &Client {
        &self.life().plugin.client
    }

    /// The last block of the outer index.
    pub fn last(&self) -> BlockId {
        *self.outer.last().expect("genesis is accepted")
    }

    /// Its height.
    pub const fn height(&self) -> u64 {
        (self.outer.len() as u64).saturating_sub(1)
    }

    /// Kills the plugin.
    pub fn kill(&mut self) {
        let mut life = self.life.take().expect("the plugin runs");
        kill(life.plugin.pid());
        life.plugin.process.kill();
        self.said.push_str(&life.plugin.process.output());
    }

    /// Makes a call that must succeed.
    pub async fn must<T: Decode>(&self, call: Call, message: &impl Encode) -> T {
        match self.client().call(call, message).await {
            Ok(answer) => answer,
            Err(failure) => {
                let said = self.life().plugin.process.output();
                panic!("{call:?} on node {}: {failure:?}\n{said}", self.number)
            }
        }
    }

    /// The chain moves on.
    pub async fn set_state(&self, state: State) -> SetStateResponse {
        self.must(Call::SetState, &SetStateRequest { state }).await
    }

    /// A block, if it is known.
    pub async fn get(&self, id: BlockId) -> Option<Known> {
        let request = GetBlockRequest { id: wire(id) };
        let answer: BlockResponse = self.must(Call::GetBlock, &request).await;
        if answer.failure == Reason::NOT_FOUND {
            assert_eq!(answer, none());
            return None;
        }
        assert_eq!(answer.failure, Reason::NONE);
        Some(known(&answer, id))
    }

    /// The accepted block of a height.
    pub async fn at(&self, height: u64) -> Option<BlockId> {
        let request = GetBlockIdAtHeightRequest { height };
        let answer: GetBlockIdAtHeightResponse =
            self.must(Call::GetBlockIdAtHeight, &request).await;
        (answer.failure == Reason::NONE).then(|| block_id(&answer.id))
    }

    /// Whether it wants to build within this time. A node cannot take the question back.
    pub async fn wants(&self, patience: Duration) -> bool {
        let asked = self.client().wait(Call::WaitForEvent, NOTHING);
        let event: Result<WaitForEventResponse, _> =
            match tokio::time::timeout(patience, asked).await {
                Ok(event) => event,
                Err(_) => return false,
            };
        // Another question has taken its place, or it has something to build.
        event.is_ok_and(|event| event.event == Event::BUILD_BLOCK)
    }

    /// Builds a block, if there is anything to put in.
    pub async fn build(&self) -> Option<Known> {
        let answer: BlockResponse = self.must(Call::BuildBlock, NOTHING).await;
        if answer.failure != Reason::NONE {
            return None;
        }
        Some(known(&answer, block_id(&answer.id)))
    }

    /// Parses and verifies a block.
    pub async fn verify(&mut self, block: &Known) {
        let bytes = block.bytes.to_vec();
        let request = ParseBlockRequest {
            bytes: bytes.clone(),
        };
        let parsed: BlockResponse = self.must(Call::ParseBlock, &request).await;
        assert_eq!(known(&parsed, block.id), *block);
        let p_chain_height = None;
        let request = BlockVerifyRequest {
            bytes,
            p_chain_height,
        };
        let verified: BlockVerifyResponse = self.must(Call::BlockVerify, &request).await;
        assert_eq!(verified.timestamp, nanos(block));
        let life = self.life.as_mut().expect("the plugin runs");
        life.processing.insert(block.id, block.clone());
    }

    /// Prefers a block.
    pub async fn prefer(&self, id: BlockId) {
        let request = SetPreferenceRequest { id: wire(id) };
        let _done: Empty = self.must(Call::SetPreference, &request).await;
    }

    /// Accepts a verified block: the outer index comes first, as in a node.
    pub async fn accept(&mut self, id: BlockId) {
        self.outer.push(id);
        let request = BlockAcceptRequest { id: wire(id) };
        let _done: Empty = self.must(Call::BlockAccept, &request).await;
        self.settle(id).await;
    }

    /// Rejects what an accepted block leaves behind.
    async fn settle(&mut self, id: BlockId) {
        let height = self.height();
        let life = self.life.as_mut().expect("the plugin runs");
        life.processing.remove(&id);
        let late = life
            .processing
            .values()
            .filter(|b| b.header.height <= height);
        let late: Vec<BlockId> = late.map(|block| block.id).collect();
        life.processing.retain(|_, b| b.header.height > height);
        for id in late {
            let request = BlockRejectRequest { id: wire(id) };
            let _done: Empty = self.must(Call::BlockReject, &request).await;
        }
    }
}

/// An id as the wire has it.
pub(super) fn wire(id: BlockId) -> Vec<u8> {
    id.as_bytes().to_vec()
}

/// The wire's id as a block's.
pub(super) fn block_id(bytes: &[u8]) -> BlockId {
    BlockId::from_bytes(bytes.try_into().expect("an id has 32 bytes"))
}

fn none() -> BlockResponse {
    BlockResponse {
        failure: Reason::NOT_FOUND,
        ..BlockResponse::default()
    }
}

fn nanos(block: &Known) -> i64 {
    i64::try_from(block.header.time.ms() * 1_000_000).unwrap()
}

/// An answer's block, whose fields are what its bytes say.
fn known(answer: &BlockResponse, id: BlockId) -> Known {
    let block = Known::read(&Bytes::from(answer.bytes.clone()));
    assert_eq!((block.id, block_id(&answer.id)), (id, id));
    assert_eq!(answer.parent, block.header.parent.as_bytes());
    assert_eq!(answer.height, block.header.height);
    assert_eq!(answer.timestamp, nanos(&block));
    assert!(!answer.verify_with_context);
    block
}
