//! One plugin alone, spoken to call by call: errors are answers here, not verdicts.

use std::time::Duration;

use prost::bytes::Bytes;
use session_chain::tx::Tx;
use session_rpcchainvm::vm::vm_client::VmClient;
use session_rpcchainvm::vm::{
    BlockAcceptRequest, BlockVerifyRequest, BuildBlockRequest, InitializeRequest,
    InitializeResponse, SetPreferenceRequest, SetStateRequest, SetStateResponse, State,
};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::chance::Chance;
use crate::database::Database;
use crate::http::Handler;
use crate::network::{Known, Setup, initialize_request, node_id, wire};
use crate::people::{People, Person};
use crate::plugin::{Launch, Plugin};
use crate::sender::{Exchange, Weather};
use crate::serve::Served;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(15);

/// The call that failed, and what the plugin answered.
pub type Failed = (&'static str, Status);

/// A plugin that was started on a disk, and what the node serves it.
pub struct Alone {
    /// The process.
    pub plugin: Plugin,
    /// What it is told at `Initialize`.
    pub request: InitializeRequest,
    /// The disk.
    pub database: Database,
    /// Its way to peers that are not there.
    pub exchange: Exchange,
    /// Its handlers, once it operates.
    pub handlers: Vec<(String, Handler)>,
    /// The chain it is on, once it is initialized.
    pub people: Option<People>,
    _servers: [Served; 2],
    _directory: tempfile::TempDir,
}

/// An answer, or the error that came in its place; a late one is an error too.
///
/// # Errors
/// What the plugin answered.
pub async fn asked<T>(
    call: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Status> {
    let answer = tokio::time::timeout(PATIENCE, call).await;
    let late = || Status::deadline_exceeded("no answer");
    answer
        .unwrap_or_else(|_| Err(late()))
        .map(Response::into_inner)
}

impl Alone {
    /// Starts a plugin on this disk; it is not initialized yet.
    pub async fn start(setup: &Setup, database: &Database) -> Self {
        let plugin = Plugin::start(&Launch::new(&setup.binary)).await;
        let plugin = plugin.unwrap_or_else(|error| panic!("{error:?}"));
        database.attach(plugin.pid());
        let exchange = Exchange::new(Weather::CALM, Chance::new(0));
        let node = node_id(0);
        let servers = [database.serve().await, exchange.serve(node).await];
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let request = initialize_request(setup, node, path, &servers[0], &servers[1]);
        Self {
            plugin,
            request,
            database: database.clone(),
            exchange,
            handlers: Vec::new(),
            people: None,
            _servers: servers,
            _directory: directory,
        }
    }

    /// Starts a plugin on this disk up to normal operation.
    pub async fn operating(setup: &Setup, database: &Database) -> Self {
        let mut alone = Self::start(setup, database).await;
        let ready = alone.operate().await;
        if let Err((call, status)) = ready {
            alone.plugin.process.settle().await;
            panic!("{call}: {status}\n{}", alone.plugin.process.output());
        }
        alone
    }

    /// A client of its `vm.VM`.
    pub fn vm(&self) -> VmClient<Channel> {
        self.plugin.vm()
    }

    /// `Initialize`.
    ///
    /// # Errors
    /// What the plugin answered.
    pub async fn initialize(&mut self) -> Result<InitializeResponse, Status> {
        let request = self.request.clone();
        let answer = asked(self.vm().initialize(request)).await?;
        let last = Known::read(&answer.bytes);
        self.people = Some(People::new(last.header.chain));
        Ok(answer)
    }

    /// `SetState`.
    ///
    /// # Errors
    /// What the plugin answered.
    pub async fn set_state(&self, state: State) -> Result<SetStateResponse, Status> {
        let state = state.into();
        asked(self.vm().set_state(SetStateRequest { state })).await
    }

    /// Height of the last accepted block, as `SetState` answers it.
    pub async fn height(&self) -> u64 {
        let last = self.set_state(State::NormalOp).await;
        last.expect("a state can be set at any time").height
    }

    /// Everything from `Initialize` to normal operation, in a node's order.
    ///
    /// # Errors
    /// The call that failed, and what the plugin answered.
    pub async fn operate(&mut self) -> Result<(), Failed> {
        self.initialize().await.map_err(at("Initialize"))?;
        let handlers = asked(self.vm().create_handlers(())).await;
        let handlers = handlers.map_err(at("CreateHandlers"))?.handlers.into_iter();
        let handlers = handlers.map(|h| (h.prefix, Handler::new(&h.server_addr)));
        self.handlers = handlers.collect();
        for state in [State::Bootstrapping, State::NormalOp] {
            self.set_state(state).await.map_err(at("SetState"))?;
        }
        let last = self.set_state(State::NormalOp).await;
        let last = last.map_err(at("SetState"))?.last_accepted_id;
        self.prefer(last).await.map_err(at("SetPreference"))
    }

    /// The handler of a prefix.
    pub fn handler(&self, prefix: &str) -> &Handler {
        let found = self.handlers.iter().find(|(found, _)| found == prefix);
        let known: Vec<_> = self.handlers.iter().map(|(prefix, _)| prefix).collect();
        &found
            .unwrap_or_else(|| panic!("no handler of {prefix:?} among {known:?}"))
            .1
    }

    /// Somebody of this seed.
    pub fn person(&self, seed: u8) -> Person {
        Person::new([seed; 32], self.people().chain())
    }

    /// Who submits.
    pub fn people(&self) -> &People {
        self.people.as_ref().expect("it is initialized")
    }

    /// Submits a transaction; the answer is awaited elsewhere.
    pub fn submit(&mut self, tx: &Tx) {
        let people = self.people.as_mut().expect("it is initialized");
        people.submit(&self.handlers, tx, false);
    }

    /// Waits until it wants to build, at most this long.
    pub async fn wants(&self, patience: Duration) -> bool {
        let mut vm = self.vm();
        let event = tokio::time::timeout(patience, vm.wait_for_event(())).await;
        event.is_ok_and(|event| event.is_ok())
    }

    /// `BuildBlock`.
    ///
    /// # Errors
    /// What the plugin answered.
    pub async fn build(&self) -> Result<Known, Status> {
        let built = asked(self.vm().build_block(BuildBlockRequest::default())).await?;
        Ok(Known::read(&built.bytes))
    }

    /// `BlockVerify`.
    ///
    /// # Errors
    /// What the plugin answered.
    pub async fn verify(&self, bytes: impl Into<Bytes>) -> Result<(), Status> {
        let request = BlockVerifyRequest {
            bytes: bytes.into(),
            p_chain_height: None,
        };
        asked(self.vm().block_verify(request)).await.map(drop)
    }

    /// `SetPreference`.
    ///
    /// # Errors
    /// What the plugin answered.
    pub async fn prefer(&self, id: impl Into<Bytes>) -> Result<(), Status> {
        let id = id.into();
        asked(self.vm().set_preference(SetPreferenceRequest { id })).await
    }

    /// `BlockAccept`.
    ///
    /// # Errors
    /// What the plugin answered.
    pub async fn accept(&self, id: impl Into<Bytes>) -> Result<(), Status> {
        let id = id.into();
        asked(self.vm().block_accept(BlockAcceptRequest { id })).await
    }

    /// One processing block with this transaction in it, preferred.
    ///
    /// # Errors
    /// The call that failed, and what the plugin answered.
    pub async fn propose(&mut self, tx: &Tx) -> Result<Known, Failed> {
        self.submit(tx);
        if !self.wants(PATIENCE).await {
            return Err(("WaitForEvent", Status::deadline_exceeded("no event")));
        }
        let known = self.build().await.map_err(at("BuildBlock"))?;
        let verified = self.verify(known.bytes.clone()).await;
        verified.map_err(at("BlockVerify"))?;
        let preferred = self.prefer(wire(known.id)).await;
        preferred.map_err(at("SetPreference"))?;
        Ok(known)
    }

    /// One accepted block with this transaction in it.
    ///
    /// # Errors
    /// The call that failed, and what the plugin answered.
    pub async fn block(&mut self, tx: &Tx) -> Result<Known, Failed> {
        let known = self.propose(tx).await?;
        let accepted = self.accept(wire(known.id)).await;
        accepted.map_err(at("BlockAccept"))?;
        Ok(known)
    }
}

fn at(call: &'static str) -> impl Fn(Status) -> Failed {
    move |status| (call, status)
}
