//! A node's HTTP API: every call has an end.

use std::time::Duration;

use serde_json::{Value, json};
use session_client::{RpcClient, RpcError};
use session_core::codec::Decode;
use session_core::header::Header;

use crate::error::DevnetError;
use crate::ids::{Id, NodeId};

/// A node that has not answered by then hangs: one answer takes it milliseconds.
const CALL_LIMIT: Duration = Duration::from_secs(3);

/// One node.
#[derive(Clone)]
pub struct NodeApi {
    rpc: RpcClient,
    chain: Option<(Id, RpcClient)>,
}

/// What a node's plugin says of its chain; nothing of it is verified here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// Height of the last accepted block.
    pub height: u64,
    /// Its id.
    pub block: String,
    /// Root of its state, hex.
    pub state_root: String,
    /// ML-DSA-65 key that the node signs heads with, hex.
    pub head_key: String,
}

impl NodeApi {
    /// The node that serves HTTP on this loopback port, and its chain, if there is one yet.
    ///
    /// # Errors
    /// [`DevnetError::Api`].
    pub fn new(port: u16, chain: Option<Id>) -> Result<Self, DevnetError> {
        let address = format!("http://127.0.0.1:{port}");
        let client = |address: &str| {
            RpcClient::new(address, None).map_err(|error| api_error(address, "connect", &error))
        };
        let chain = match chain {
            Some(chain) => Some((chain, client(&chain_url(port, chain))?)),
            None => None,
        };
        let rpc = client(&address)?;
        Ok(Self { rpc, chain })
    }

    /// Calls a method of the host.
    ///
    /// # Errors
    /// [`DevnetError::Api`], also where there is no answer in 3 s.
    pub async fn call(
        &self,
        path: &str,
        method: &str,
        params: Value,
    ) -> Result<Value, DevnetError> {
        let problem = |problem: String| DevnetError::Api {
            address: self.rpc.address().to_owned(),
            method: method.to_owned(),
            problem,
        };
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let reply = tokio::time::timeout(CALL_LIMIT, self.rpc.post_json(path, &body)).await;
        let reply = reply.map_err(|_| problem("no answer in 3 s".to_owned()))?;
        let mut reply = reply.map_err(|error| problem(error.to_string()))?;
        if let Some(error) = reply.get("error").filter(|error| !error.is_null()) {
            let message = error.get("message").and_then(Value::as_str);
            return Err(problem(message.unwrap_or("refused").to_owned()));
        }
        Ok(reply.get_mut("result").map(Value::take).unwrap_or_default())
    }

    /// Its id.
    ///
    /// # Errors
    /// [`DevnetError::Api`], [`DevnetError::Id`].
    pub async fn node_id(&self) -> Result<NodeId, DevnetError> {
        let reply = self.call("/ext/info", "info.getNodeID", json!({})).await?;
        let id = reply.get("nodeID").and_then(Value::as_str);
        Ok(id.unwrap_or_default().parse()?)
    }

    /// Whether it has bootstrapped a chain, given by id or alias. That does not mean that it has
    /// caught up: compare heights for that.
    ///
    /// # Errors
    /// [`DevnetError::Api`], also where it does not run such a chain yet.
    pub async fn is_bootstrapped(&self, chain: &str) -> Result<bool, DevnetError> {
        let params = json!({ "chain": chain });
        let reply = self
            .call("/ext/info", "info.isBootstrapped", params)
            .await?;
        let answer = reply.get("isBootstrapped").and_then(Value::as_bool);
        Ok(answer.unwrap_or_default())
    }

    /// How many other nodes it is connected to.
    ///
    /// # Errors
    /// [`DevnetError::Api`].
    pub async fn peers(&self) -> Result<usize, DevnetError> {
        let reply = self.call("/ext/info", "info.peers", json!({})).await?;
        let peers = reply.get("peers").and_then(Value::as_array);
        Ok(peers.map_or(0, Vec::len))
    }

    /// The head of SessionVM's chain, from the plugin itself.
    ///
    /// # Errors
    /// [`DevnetError::Api`]: no chain yet, no answer in 3 s (a dead plugin never answers), or an
    /// answer that makes no sense.
    pub async fn head(&self) -> Result<ChainHead, DevnetError> {
        let method = "sessionvm.GetHead";
        let Some((_, chain)) = &self.chain else {
            let none: &dyn std::fmt::Display = &"there is no chain yet";
            return Err(api_error(self.rpc.address(), method, none));
        };
        let problem = |problem: &dyn std::fmt::Display| api_error(chain.address(), method, problem);
        let asked = chain.call::<Value>(method, json!({}));
        let reply = tokio::time::timeout(CALL_LIMIT, asked).await;
        let reply = reply.map_err(|_| problem(&"no answer in 3 s"))?;
        let reply = reply.map_err(|error: RpcError| problem(&error))?;
        let text = |name: &str| reply.get(name).and_then(Value::as_str).unwrap_or_default();
        let header = const_hex::decode(text("header")).unwrap_or_default();
        let header = Header::from_bytes(&header).map_err(|error| problem(&error))?;
        Ok(ChainHead {
            height: header.height,
            block: text("id").to_owned(),
            state_root: const_hex::encode(header.state_root),
            head_key: text("headKey").to_owned(),
        })
    }
}

/// Where a node serves a chain: what `session --node` takes.
pub fn chain_url(port: u16, chain: Id) -> String {
    format!("http://127.0.0.1:{port}/ext/bc/{chain}")
}

fn api_error(address: &str, method: &str, problem: &dyn std::fmt::Display) -> DevnetError {
    DevnetError::Api {
        address: address.to_owned(),
        method: method.to_owned(),
        problem: problem.to_string(),
    }
}
