//! Words and bytes of Lux Session: what every other layer speaks.
//!
//! Typed ids, the one bounded encoding, the one enum of hash tags, the Merkle tree with its
//! proofs, the records of the chain's state and the verifiers of everything a node can claim.
//!
//! ```text
//! bytes ──codec──▶ ids, records, entries ──hash──▶ leaves ──merkle──▶ log frontier
//!                                                                        │ in the record
//!                  proof ◀── header ◀── state root ◀── state_proof ◀─────┘
//! ```
//!
//! *Invariant:* no I/O, no clock, no randomness, no cryptography beyond hashing.
//!
//! ```
//! use session_core::ids::AccountId;
//!
//! let id = AccountId::from_bytes([7; 32]);
//! let text = id.to_string();
//! assert_eq!(text.parse(), Ok(id));
//! assert!(text.replacen('1', "2", 1).parse::<AccountId>().is_err() || !text.contains('1'));
//! ```

pub mod account;
pub mod cb58;
pub mod channel;
pub mod codec;
pub mod group;
pub mod hash;
pub mod header;
pub mod ids;
pub mod key_package;
pub mod limits;
pub mod log;
pub mod merkle;
pub mod parameters;
pub mod proof;
pub mod quorum;
pub mod record;
pub mod service;
pub mod session;
pub mod state_proof;
pub mod submission;
pub mod time;
