//! From `Initialize` to a running chain: the node's database or a store of our own, and the RPC.

use std::path::Path;
use std::sync::Arc;

use session_storage::{RemoteStore, Store};
use session_zap::vm::InitializeRequest;
use tokio::sync::watch;

use super::database::HostDatabase;
use crate::host::consensus::Consensus;
use crate::host::paths::target;
use crate::host::start::{self, Plan, StartError, Starter, Told};
use crate::rewind;
use crate::rpc::{Context, Server};

/// A chain that runs.
pub(super) struct Running {
    pub(super) consensus: Arc<Consensus>,
    /// Where the RPC listens.
    pub(super) http: String,
    stop: watch::Sender<bool>,
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
        if !request.server.is_empty() {
            tracing::warn!("the node takes messages to peers, in a way that is not known here");
        }
        let directory = request.chain_data_dir.clone();
        let told = Told {
            chain: request.chain,
            data_dir: request.chain_data_dir,
            genesis: request.genesis,
            upgrade: request.upgrade,
            config: request.config,
        };
        let plan = Plan::of(told, &starter.log)?.without_state_sync();
        let (mut server, rewind_to) = (plan.server.clone(), plan.rewind_to);
        server.address.set_port(0);
        let database = (!request.db_server.is_empty())
            .then(|| HostDatabase::new(request.db_server, starter.database.clone()));
        let store = move || match database {
            Some(database) => {
                if rewind_to.is_some() {
                    tracing::warn!("rewindTo is ignored: this chain is in the node's database");
                }
                Ok(Arc::new(RemoteStore::open(database)?) as Arc<dyn Store>)
            }
            None if directory.is_empty() => Err(StartError::NoPlace),
            None => own_store(Path::new(&directory), rewind_to),
        };
        // Nobody is told of transactions: there is no gossip.
        let consensus = plan.open(store, Box::new(|_| {})).await?;
        let node = consensus.node().clone();
        // On the RPC's threads, where it will be served.
        let bound = starter.rpc.spawn(Server::bind(Context { node }, server));
        let bound = bound.await.map_err(|_| StartError::Panicked)?;
        let server = bound.map_err(|error| StartError::Serve(std::io::Error::other(error)))?;
        let server = server.behind(target);
        let http = server.address().to_string();
        starter.rpc.spawn(server.run(starter.stop.subscribe()));
        Ok(Self {
            consensus,
            http,
            stop: starter.stop.clone(),
        })
    }

    /// Ends the RPC's connections, and what waits for blocks; closes the store.
    pub(super) async fn stop(&self) {
        start::stop(&self.stop, &self.consensus).await;
    }
}

/// The plugin's own store, gone back as the configuration says.
fn own_store(directory: &Path, to: Option<u64>) -> Result<Arc<dyn Store>, StartError> {
    std::fs::create_dir_all(directory).map_err(|error| StartError::Directory {
        path: directory.to_owned(),
        error,
    })?;
    let store = rewind::open(directory)?;
    rewind::once(&store, to).map_err(|error| StartError::Rewind {
        to: to.unwrap_or_default(),
        error,
    })?;
    Ok(Arc::new(store))
}
