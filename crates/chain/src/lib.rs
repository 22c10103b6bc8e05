//! The rules of SessionVM.
//!
//! ```text
//! bytes ─▶ tx ─▶ mempool ─▶ block ─▶ sweep + apply (time, state of the parent) ─▶ changed cells
//!                                                                             └▶ state tree ─▶ root
//! ```
//!
//! *Invariant:* `apply` is a pure function of (state view, block): no tokio, no disk, no clock, no
//! randomness. Cryptography is asked through [`state::Crypto`]; a transaction that does not apply
//! changes nothing.

pub mod block;
pub mod genesis;
pub mod mempool;
pub mod processing;
pub mod proof;
mod quota;
pub mod state;
pub mod sweep;
pub mod tree;
pub mod tx;
pub mod versions;
pub mod view;
