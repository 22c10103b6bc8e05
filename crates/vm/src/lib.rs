//! SessionVM: the shell around the chain.
//!
//! A [`node::Node`] opens a store, rebuilds the state tree and makes blocks of what it is given; a
//! [`rpc::Server`] answers from its last block. `sessionvm` and `session node run` are
//! [`app::run`].
//!
//! ```text
//! HTTP ─▶ rpc (two dialects) ─▶ node ─▶ producer ─▶ session-chain ─▶ one synced batch ─▶ store
//!            ▲                                                            │
//!            └───────────── head: header, state tree, snapshot ◀──────────┘
//! ```
//!
//! *Invariant:* no rule of the chain lives here. Hosts (a real node's plugin protocols) come
//! beside `producer`; the chain, the mempool and the RPC do not know which one runs.
//!
//! ```
//! use std::sync::Arc;
//! use session_vm::node::{Node, NodeOptions};
//! use session_vm::rpc::{Context, Server, ServerOptions};
//!
//! # #[tokio::main(flavor = "multi_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Without a data directory everything is in memory.
//! let node = Arc::new(Node::start(NodeOptions::default())?);
//! let address = "127.0.0.1:0".parse()?;
//! let options = ServerOptions { address, ..ServerOptions::default() };
//! let server = Server::bind(Context { node: node.clone() }, options).await?;
//! println!("chain {} on http://{}/rpc", node.chain(), server.address());
//! # node.stop();
//! # Ok(())
//! # }
//! ```

pub mod app;
pub mod clock;
mod counts;
mod deadlines;
mod genesis;
mod group;
pub mod head;
pub mod head_key;
pub mod host;
pub mod keys;
mod ledger;
mod lock;
pub mod metrics;
pub mod node;
mod opening;
mod producer;
pub mod prover;
pub mod rates;
pub mod rewind;
pub mod rpc;
mod store;
pub mod submission;
mod verifier;

pub use store::{StoreView, block_batch};
pub use verifier::Verifier;
