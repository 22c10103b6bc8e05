//! How a network is, seen from outside: nothing of it is believed for being answered by the host.

use std::path::Path;

use tokio::task::JoinSet;

use crate::api::{ChainHead, NodeApi};
use crate::error::DevnetError;
use crate::ids::Id;
use crate::state::{NetworkState, NodeState, Speaks};

/// How one node is.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// As the state file has it.
    pub node: NodeState,
    /// Whether its process runs.
    pub runs: bool,
    /// Whether its plugin's process runs. The host starts it once and does not notice its end.
    pub plugin_runs: bool,
    /// Whether the host says that it has the chain.
    pub bootstrapped: bool,
    /// What the plugin itself says.
    pub head: Option<ChainHead>,
    /// Why there is no such answer.
    pub problem: Option<String>,
}

impl NodeStatus {
    /// Whether node and plugin run and answer.
    pub const fn is_well(&self) -> bool {
        self.runs && self.plugin_runs && self.bootstrapped && self.problem.is_none()
    }
}

/// The network in `dir` and how each node is now. Takes 7 s at most, however many hang.
///
/// # Errors
/// [`DevnetError::NoNetwork`], [`DevnetError::Damaged`], [`DevnetError::File`].
pub async fn status(dir: &Path) -> Result<(NetworkState, Vec<NodeStatus>), DevnetError> {
    let state = NetworkState::load(dir)?;
    let state = state.ok_or_else(|| DevnetError::NoNetwork(dir.to_owned()))?;
    let mut asked = JoinSet::new();
    for node in &state.nodes {
        asked.spawn(look(node.clone(), state.chain, state.speaks));
    }
    let mut all = asked.join_all().await;
    all.sort_by_key(|status| status.node.number);
    Ok((state, all))
}

async fn look(node: NodeState, chain: Option<Id>, speaks: Speaks) -> NodeStatus {
    let mut status = NodeStatus {
        runs: node.runs(),
        plugin_runs: node.plugin_runs(),
        bootstrapped: false,
        head: None,
        problem: None,
        node,
    };
    if !status.runs {
        status.problem = Some("the node does not run".to_owned());
        return status;
    }
    if let Err(error) = ask(&mut status, chain, speaks).await {
        status.problem = Some(error.to_string());
    }
    if !status.plugin_runs {
        status.problem = Some("the plugin is dead".to_owned());
    }
    status
}

async fn ask(
    status: &mut NodeStatus,
    chain: Option<Id>,
    speaks: Speaks,
) -> Result<(), DevnetError> {
    let api = NodeApi::new(status.node.http_port, chain)?;
    if let Some(chain) = chain {
        status.bootstrapped = api.is_bootstrapped(&chain.to_string()).await?;
    }
    // Asking a dead plugin takes until the limit and says nothing.
    if speaks == Speaks::SessionVm && status.plugin_runs {
        status.head = Some(api.head().await?);
    }
    Ok(())
}
