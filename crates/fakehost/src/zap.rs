//! A Lux node that speaks ZAP, and several of them under one simple consensus.
//!
//! ```text
//! environment, handshake ──▶ [`Plugin`] ── frames ──▶ [`Client`] ◀── calls ── [`Node`] ◀── [`Network`]
//!                               └── its database ──▶ [`database`]    or a store of the plugin's own
//! ```
//!
//! The node's outer index can be cut, as a loss of power does it: then the plugin is ahead of its
//! node, which a node does not go on from.

mod client;
pub mod database;
mod network;
mod node;
mod plugin;

pub use client::{Client, Failure};
pub use network::{Network, Step};
pub use node::{Node, Setup};
pub use plugin::{Answer, Plugin, StartError, launch};
