//! One node: its disk, the plugin that runs on it, and what its engine knows.
//!
//! The outer wrapper's index lies on the node's disk and is written before the plugin accepts, so
//! after a kill it may be one block ahead of the plugin. The other way round a node never starts
//! again.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use prost::bytes::Bytes;
use prost_types::Timestamp;
use session_chain::block::Block;
use session_core::codec::Decode;
use session_core::header::Header;
use session_core::ids::BlockId;
use session_rpcchainvm::vm::{
    ConnectedRequest, DisconnectedRequest, InitializeRequest, InitializeResponse, NetworkUpgrades,
    SetStateRequest, State,
};
use tokio::task::JoinHandle;
use tonic::{Response, Status};

use super::{CHAIN, Setup};
use crate::database::Database;
use crate::http::Handler;
use crate::plugin::{Launch, Plugin, kill, lives, within};
use crate::sender::{Exchange, NodeId};
use crate::serve::Served;

/// Longest wait for an answer of a plugin.
const PATIENCE: Duration = Duration::from_secs(20);

/// The plugin was killed, as planned.
#[derive(Debug, Clone, Copy)]
pub struct Killed;

/// What a call of the engine comes to.
pub type Asked<T> = Result<T, Killed>;

/// A block as a node hands it around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its id.
    pub id: BlockId,
    /// Its header.
    pub header: Header,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Known {
    /// Reads a block; its id is that of its header.
    pub fn read(bytes: &Bytes) -> Self {
        let block = Block::from_bytes(bytes).unwrap_or_else(|error| panic!("no block: {error}"));
        Self {
            id: block.header.id(),
            header: block.header,
            bytes: bytes.clone(),
        }
    }
}

/// A plugin that runs, and what its engine holds in memory.
pub struct Life {
    /// Its process.
    pub plugin: Plugin,
    /// Its handlers by prefix.
    pub handlers: Vec<(String, Handler)>,
    /// Its handler of the header route.
    pub by_header: Option<Handler>,
    /// Verified blocks that are not decided.
    pub processing: BTreeMap<BlockId, Known>,
    /// The block it builds on.
    pub preference: BlockId,
    /// Whether its end is planned.
    pub doomed: bool,
    /// The open question whether it wants to build, as a node always has one.
    pub(super) question: Option<JoinHandle<()>>,
    _database: Served,
    _sender: Served,
}

/// One node.
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its disk.
    pub database: Database,
    /// The plugin, while it runs.
    pub life: Option<Life>,
    /// The outer wrapper's index: ids by height.
    pub outer: Vec<BlockId>,
    /// Height of the first block that it has, beside genesis: more than 0 where it took over a
    /// state.
    pub base: u64,
    /// A state that it may have taken over before its plugin was killed.
    perhaps: Option<(Vec<BlockId>, u64)>,
    /// What plugins of earlier runs have said.
    pub said: String,
    directory: tempfile::TempDir,
}

/// The wire's id as a block's.
pub fn block_id(bytes: &Bytes) -> BlockId {
    let bytes: &[u8] = bytes;
    BlockId::from_bytes(bytes.try_into().expect("an id has 32 bytes"))
}

/// A block's id as the wire has it.
pub fn wire(id: BlockId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

pub(super) fn same_time(header: &Header, time: Option<Timestamp>) {
    let time = time.expect("a block has a time");
    let ms = time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000;
    assert_eq!(ms.cast_unsigned(), header.time.ms(), "a block's time");
}

/// What `Initialize` says of a node.
pub fn initialize_request(
    setup: &Setup,
    node: NodeId,
    directory: &str,
    database: &Served,
    sender: &Served,
) -> InitializeRequest {
    let id = |byte: u8| Bytes::from(vec![byte; 32]);
    InitializeRequest {
        network_id: 12_345,
        subnet_id: id(0x5b),
        chain_id: Bytes::copy_from_slice(&CHAIN),
        node_id: node.bytes(),
        public_key: Bytes::from(vec![0xb1; 48]),
        x_chain_id: id(0x0a),
        c_chain_id: id(0x0c),
        avax_asset_id: id(0xa5),
        chain_data_dir: directory.to_owned(),
        genesis_bytes: setup.genesis.clone().into(),
        upgrade_bytes: Bytes::new(),
        config_bytes: setup.config.clone().into(),
        db_server_addr: database.address().to_string(),
        server_addr: sender.address().to_string(),
        network_upgrades: Some(NetworkUpgrades::default()),
    }
}

impl Node {
    /// A node with an empty disk.
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            database: Database::default(),
            life: None,
            outer: Vec::new(),
            base: 0,
            perhaps: None,
            said: String::new(),
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// The plugin that runs.
    pub fn life(&self) -> &Life {
        self.life.as_ref().expect("the plugin runs")
    }

    pub(super) fn life_mut(&mut self) -> &mut Life {
        self.life.as_mut().expect("the plugin runs")
    }

    /// Whether a plugin runs.
    pub const fn runs(&self) -> bool {
        self.life.is_some()
    }

    /// The last accepted block.
    pub fn last(&self) -> BlockId {
        *self.outer.last().expect("genesis is accepted")
    }

    /// Its height.
    pub const fn height(&self) -> u64 {
        (self.outer.len() as u64).saturating_sub(1)
    }

    /// Makes a call of the engine. Only a plugin whose end is planned may leave it unanswered.
    pub async fn ask<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Asked<T> {
        let call = async {
            let answer = tokio::time::timeout(PATIENCE, call).await;
            answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer")))
        };
        self.ask_long(what, call).await
    }

    /// As [`Node::ask`], for a call that may take longer and has its own end.
    pub(super) async fn ask_long<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Asked<T> {
        let status = match call.await {
            Ok(answer) => return Ok(answer.into_inner()),
            Err(status) => status,
        };
        let life = self.life();
        let pid = life.plugin.pid();
        if life.doomed && within(Duration::from_secs(2), || !lives(pid)).await {
            return Err(Killed);
        }
        life.plugin.process.settle().await;
        panic!(
            "{what} on {:02x?}: {status}\nthe plugin said:\n{}",
            &self.id.0[..2],
            life.plugin.process.output()
        );
    }

    /// Starts a plugin on this disk up to `SetState 2`, and repairs the outer index.
    ///
    /// # Panics
    /// When the plugin is ahead of the outer index, or the engine's rules are broken.
    pub async fn start(&mut self, setup: &Setup, exchange: &Exchange, peers: &[NodeId]) {
        self.start_in(State::Bootstrapping, setup, exchange, peers)
            .await;
    }

    /// As [`Node::start`], up to `SetState 1`: a state may be taken over.
    pub async fn start_syncing(&mut self, setup: &Setup, exchange: &Exchange, peers: &[NodeId]) {
        self.start_in(State::StateSyncing, setup, exchange, peers)
            .await;
    }

    async fn start_in(
        &mut self,
        state: State,
        setup: &Setup,
        exchange: &Exchange,
        peers: &[NodeId],
    ) {
        assert!(self.life.is_none(), "it runs already");
        let plugin = Plugin::start(&Launch::new(&setup.binary)).await;
        let plugin = plugin.unwrap_or_else(|error| panic!("the plugin does not start: {error:?}"));
        let (database, sender) = (self.database.serve().await, exchange.serve(self.id).await);
        self.database.attach(plugin.pid());
        let path = self.directory.path().to_str().expect("a path of text");
        let request = initialize_request(setup, self.id, path, &database, &sender);
        let mut vm = plugin.vm();
        self.life = Some(Life {
            plugin,
            handlers: Vec::new(),
            by_header: None,
            processing: BTreeMap::new(),
            preference: BlockId::from_bytes([0; 32]),
            doomed: false,
            question: None,
            _database: database,
            _sender: sender,
        });
        let accepted = self.ask("Initialize", vm.initialize(request)).await;
        let accepted = accepted.expect("nothing was planned");
        self.repair(&accepted);
        self.meet(state, exchange, peers)
            .await
            .expect("nothing was planned");
    }

    /// The outer index may be one block ahead, which is then forgotten, and never behind.
    fn repair(&mut self, accepted: &InitializeResponse) {
        let known = Known::read(&accepted.bytes);
        assert_eq!(block_id(&accepted.last_accepted_id), known.id);
        assert_eq!(
            block_id(&accepted.last_accepted_parent_id),
            known.header.parent
        );
        assert_eq!(accepted.height, known.header.height);
        same_time(&known.header, accepted.timestamp);
        if self.outer.is_empty() {
            assert_eq!(accepted.height, 0, "a new disk begins at genesis");
            self.outer.push(known.id);
        }
        if let Some((outer, base)) = self.perhaps.take()
            && outer.last() == Some(&known.id)
        {
            (self.outer, self.base) = (outer, base);
        }
        let ahead = self.height().checked_sub(accepted.height);
        let ahead = ahead.expect("the plugin is ahead of the outer index: fatal on a node");
        assert!(ahead <= 1, "the plugin lost {ahead} accepted blocks");
        self.outer.truncate(self.outer.len() - ahead as usize);
        assert_eq!(self.last(), known.id, "the plugin accepted another block");
    }

    /// The state of that height was taken over: the outer wrapper has its block, and those before
    /// are not needed.
    pub(super) fn take_outer(&mut self, decided: &[Known], height: u64) {
        let known = decided.iter().take(height as usize + 1);
        self.outer = known.map(|block| block.id).collect();
        self.base = height;
    }

    /// The plugin was killed while it took over the state of that height.
    pub(super) fn outer_may_be(&mut self, decided: &[Known], height: u64) {
        let known = decided.iter().take(height as usize + 1);
        self.perhaps = Some((known.map(|block| block.id).collect(), height));
    }

    /// Whether this is the plugin's last accepted block, as it says when its state is set.
    pub(super) async fn has_head(&self, id: BlockId) -> Asked<bool> {
        let mut vm = self.life().plugin.vm();
        let state = State::Bootstrapping.into();
        let call = vm.set_state(SetStateRequest { state });
        Ok(block_id(&self.ask("SetState", call).await?.last_accepted_id) == id)
    }

    async fn meet(&mut self, state: State, exchange: &Exchange, peers: &[NodeId]) -> Asked<()> {
        let mut vm = self.life().plugin.vm();
        let handlers = self.ask("CreateHandlers", vm.create_handlers(())).await?;
        let by_header = self.ask("NewHTTPHandler", vm.new_http_handler(())).await?;
        let sync = self
            .ask("StateSyncEnabled", vm.state_sync_enabled(()))
            .await?;
        // Whose last block is young does not ask for a state.
        assert!(
            sync.enabled || self.height() > 0,
            "a new disk asks for a state"
        );
        self.set_state(state).await?;
        let life = self.life_mut();
        let of = |h: &session_rpcchainvm::vm::Handler| Handler::new(&h.server_addr);
        let named = handlers.handlers.iter().map(|h| (h.prefix.clone(), of(h)));
        life.handlers = named.collect();
        let address = by_header.server_addr;
        life.by_header = (!address.is_empty()).then(|| Handler::new(&address));
        exchange.attach(self.id, vm);
        for peer in peers.iter().chain([&self.id]) {
            self.connected(*peer).await?;
        }
        Ok(())
    }

    /// A peer is there.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn connected(&self, peer: NodeId) -> Asked<()> {
        let request = ConnectedRequest {
            node_id: peer.bytes(),
            name: "avalanchego".to_owned(),
            major: 1,
            minor: 14,
            patch: 0,
        };
        let mut vm = self.life().plugin.vm();
        self.ask("Connected", vm.connected(request)).await
    }

    /// A peer is gone.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn disconnected(&self, peer: NodeId) -> Asked<()> {
        let node_id = peer.bytes();
        let mut vm = self.life().plugin.vm();
        let call = vm.disconnected(DisconnectedRequest { node_id });
        self.ask("Disconnected", call).await
    }

    /// Sets the state; the answer must be the last accepted block.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn set_state(&self, state: State) -> Asked<()> {
        let request = SetStateRequest {
            state: state.into(),
        };
        let mut vm = self.life().plugin.vm();
        let last = self.ask("SetState", vm.set_state(request)).await?;
        assert_eq!(block_id(&last.last_accepted_id), self.last(), "SetState");
        assert_eq!(last.height, self.height(), "SetState");
        assert_eq!(Known::read(&last.bytes).id, self.last(), "SetState");
        Ok(())
    }

    /// Kills the plugin with SIGKILL. What it had under way is lost.
    pub async fn kill(&mut self, exchange: &Exchange) {
        exchange.detach(self.id);
        let Some(mut life) = self.life.take() else {
            return;
        };
        if let Some(question) = life.question.take() {
            question.abort();
        }
        kill(life.plugin.pid());
        life.plugin.process.kill();
        self.database.cut();
        self.database.heal();
        life.plugin.process.settle().await;
        self.said.push_str(&life.plugin.process.output());
    }
}
