//! SessionVM: the shell around the chain.
//!
//! ```text
//! HTTP ─▶ rpc (two dialects) ─▶ node ─▶ producer ─▶ session-chain ─▶ one synced batch ─▶ store
//!            ▲                                                            │
//!            └───────────── head: header, state tree, snapshot ◀──────────┘
//! ```
//!
//! *Invariant:* no rule of the chain lives here. Hosts (a real node's plugin protocols) come
//! beside [`producer`]; the chain, the mempool and the RPC do not know which one runs.

pub mod app;
pub mod clock;
mod counts;
mod genesis;
pub mod head;
pub mod head_key;
pub mod keys;
pub mod metrics;
pub mod node;
pub mod producer;
pub mod prover;
pub mod rates;
pub mod rpc;
mod store;
mod verifier;

pub use store::{StoreView, block_batch};
pub use verifier::Verifier;
