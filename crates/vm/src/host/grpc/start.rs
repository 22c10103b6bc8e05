//! From `Initialize` to a running chain: the node's database, gossip, the RPC behind its server.

use std::sync::Arc;
use std::time::Duration;

use prost::bytes::Bytes;
use session_rpcchainvm::validatorstate::GetCurrentValidatorSetRequest;
use session_rpcchainvm::validatorstate::validator_state_client::ValidatorStateClient;
use session_rpcchainvm::vm::InitializeRequest;
use session_storage::{RemoteStore, Store};
use tokio::sync::watch;
use tonic::Status;
use tonic::transport::Channel;

use super::connect;
use super::database::HostDatabase;
use super::gossip::{Gossip, Outbox};
use super::http::NodeHttp;
use crate::host::consensus::Consensus;
use crate::host::start::{self, Plan, StartError, Starter, Told};
use crate::host::sync::{is_untidy, tidy};
use crate::rpc::{Context, host_router};

/// How long the host may take to tell who validates.
const STAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// A chain that runs.
pub(super) struct Running {
    pub(super) consensus: Arc<Consensus>,
    pub(super) gossip: Arc<Gossip>,
    /// The RPC behind the node's HTTP server.
    pub(super) http: NodeHttp,
    stop: watch::Sender<bool>,
    /// Whether something is left of a state that was taken over, or nearly.
    untidy: bool,
    validators: ValidatorStateClient<Channel>,
    subnet: Bytes,
}

impl Running {
    /// Starts what runs by itself.
    pub(super) fn begin(&self) {
        if self.untidy {
            let consensus = self.consensus.clone();
            tokio::task::spawn_blocking(move || tidy(&consensus));
        }
        for task in [
            tokio::spawn(self.gossip.clone().push()),
            tokio::spawn(self.gossip.clone().pull()),
        ] {
            let mut stopped = self.stop.subscribe();
            tokio::spawn(async move {
                let _over = stopped.wait_for(|stop| *stop).await;
                task.abort();
            });
        }
    }

    /// Whether somebody has stake in this chain. Without sybil protection nobody does, and a host
    /// that looks for a state there never gets enough votes, neither for one nor for none.
    pub(super) async fn has_stake(&self) -> bool {
        let request = GetCurrentValidatorSetRequest {
            subnet_id: self.subnet.clone(),
        };
        let mut validators = self.validators.clone();
        let call = validators.get_current_validator_set(request);
        match tokio::time::timeout(STAKE_TIMEOUT, call).await {
            Ok(Ok(set)) => !set.get_ref().validators.is_empty(),
            Ok(Err(status)) => {
                tracing::warn!(
                    error = status.message(),
                    "the host does not tell who validates"
                );
                false
            }
            Err(_) => false,
        }
    }

    /// Ends the RPC's connections, and what waits for blocks; closes the store.
    pub(super) async fn stop(&self) {
        start::stop(&self.stop, &self.consensus).await;
    }
}

impl Running {
    /// Opens the chain.
    ///
    /// # Errors
    /// [`StartError`].
    pub(super) async fn start(
        starter: &Starter,
        request: InitializeRequest,
    ) -> Result<Self, StartError> {
        let told = Told {
            chain: request.chain_id.to_vec(),
            data_dir: request.chain_data_dir,
            genesis: request.genesis_bytes.to_vec(),
            upgrade: request.upgrade_bytes.to_vec(),
            config: request.config_bytes.to_vec(),
        };
        let plan = Plan::of(told, &starter.log)?;
        if plan.rewind_to.is_some() {
            tracing::warn!("rewindTo is ignored: this chain is in the node's database");
        }
        let (server, push) = (plan.server.clone(), plan.gossip);
        let channel = {
            let _on_its_threads = starter.database.enter();
            connect(&request.db_server_addr).map_err(wrong(&request.db_server_addr))?
        };
        let database = HostDatabase::new(channel, starter.database.clone());
        let outbox = Arc::new(Outbox::default());
        let announced = outbox.clone();
        let announce = Box::new(move |tx| announced.push(tx));
        let store = move || Ok(Arc::new(RemoteStore::open(database)?) as Arc<dyn Store>);
        let consensus = plan.open(store, announce).await?;
        let looked_at = consensus.clone();
        let untidy = tokio::task::spawn_blocking(move || is_untidy(&looked_at)).await;
        let untidy = untidy.map_err(|_| StartError::Panicked)??;
        let node = consensus.node().clone();
        let router = host_router(Context { node }, server);
        let http = NodeHttp::new(router, starter.rpc.clone(), starter.stop.subscribe());
        let sender = connect(&request.server_addr).map_err(wrong(&request.server_addr))?;
        let validators = ValidatorStateClient::new(sender.clone());
        let gossip = Gossip::new(consensus.clone(), request.node_id, sender, outbox, push);
        let gossip = Arc::new(gossip);
        // Gossip holds the consensus: the other way round it is only looked at.
        let ranking = Arc::downgrade(&gossip);
        consensus.take_turns(Box::new(move |height| {
            ranking.upgrade().map_or(0, |gossip| gossip.rank(height))
        }));
        Ok(Self {
            consensus,
            gossip,
            http,
            stop: starter.stop.clone(),
            untidy,
            validators,
            subnet: request.subnet_id,
        })
    }
}

fn wrong(address: &str) -> impl FnOnce(Status) -> StartError {
    move |status| StartError::Address {
        address: address.to_owned(),
        problem: status.message().to_owned(),
    }
}
