//! The rules of SessionVM: what a transaction may do, what a block changes, what can be proved.
//!
//! The state is a table of cells behind [`view::View`]: a store, an undecided block and a
//! transaction being applied look the same. A block is applied to its parent's view and gives
//! changed cells, which are written in one batch, and the state root that its header names.
//!
//! ```text
//! bytes ─▶ tx ─▶ mempool ─▶ block ─▶ sweep + apply (time, state of the parent) ─▶ changed cells
//!                                                                             └▶ state tree ─▶ root
//! ```
//!
//! *Invariant:* `apply` is a pure function of (state view, block): no tokio, no disk, no clock, no
//! randomness. Cryptography is asked through [`state::Crypto`]; a transaction that does not apply
//! changes nothing.
//!
//! ```
//! use session_chain::genesis::Genesis;
//! use session_chain::view::{MemoryView, read_record};
//! use session_core::parameters::Parameters;
//! use session_core::record::RecordKey;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let bytes = br#"{"config":{"sessionTTL":3600,"admission":"open"},"nonce":"00"}"#;
//! let genesis = Genesis::parse(bytes)?;
//! let (header, changes, tree) = genesis.block(Genesis::chain_id(bytes));
//! assert_eq!(header.state_root, tree.root());
//!
//! // Whoever has these bytes has this state.
//! let mut state = MemoryView::default();
//! state.apply(changes);
//! let parameters: Option<Parameters> = read_record(&state, &RecordKey::Parameters)?;
//! assert_eq!(parameters.map(|found| found.session_ttl_ms), Some(3_600_000));
//! # Ok(())
//! # }
//! ```

pub mod block;
pub mod genesis;
pub mod mempool;
pub mod processing;
pub mod proof;
mod quota;
pub mod state;
pub mod sweep;
pub mod sync;
pub mod tree;
pub mod tx;
pub mod versions;
pub mod view;
