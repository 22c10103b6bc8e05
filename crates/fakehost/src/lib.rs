//! The node's side of the plugin wire, for tests: a fake avalanchego that drives real processes of
//! the real plugin.
//!
//! ```text
//!            start, handshake, signals            calls of the engine
//! plugin ◀──────────────────────── [`plugin`] ◀──────────────────────── [`network`]
//!   │                                                                      │ 1 to 7 nodes,
//!   ├── rpcdb ─────▶ [`database`]  an ordered map that outlives plugins    │ one consensus,
//!   ├── appsender ─▶ [`sender`]    to the other plugins, lossy and late    │ a seeded schedule
//!   └── http ◀────── [`http`]      plain requests, and a proxy for streams ┘
//! ```
//!
//! [`zap`] is a Lux node: the same over another wire, with plain HTTP and without gossip.
//!
//! What real nodes were seen to do, and what their code says, is what this one does; where they
//! break plugins (orphans, an outer index that is ahead, gossip that reaches nobody), so does it.
//!
//! ```no_run
//! # #[tokio::main(flavor = "multi_thread")]
//! # async fn main() {
//! use session_fakehost::network::{Network, Setup};
//! use session_fakehost::sender::Weather;
//!
//! let setup = Setup::new("target/debug/sessionvm");
//! let mut network = Network::start(setup, 3, Weather::CALM, 1).await;
//! for _ in 0..50 {
//!     network.step().await.expect("nobody was killed");
//! }
//! # }
//! ```
//!
//! Tests start `fakehost-plugin`, which is the plugin under a name that they can find;
//! `SESSION_HOST_PLUGIN` names another binary.
//!
//! *Invariant:* no product depends on it. A broken promise of the plugin is a panic here: it is
//! the verdict of a test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a panic is the verdict of a test"
)]

pub mod alone;
pub mod chance;
pub mod craft;
pub mod database;
mod group;
pub mod http;
pub mod network;
pub mod people;
pub mod plugin;
pub mod sender;
pub mod serve;
pub mod zap;

/// How much slower a test may be on a busy machine: there it is no failure to be late, only to hang.
const BUSY: u64 = 4;

/// Runs a test that is over in so many seconds where it has a core. It has failed when it takes
/// four times as long.
pub async fn bounded<T>(seconds: u64, test: impl Future<Output = T>) -> T {
    let seconds = seconds * BUSY;
    let time = std::time::Duration::from_secs(seconds);
    let done = tokio::time::timeout(time, test).await;
    done.unwrap_or_else(|_| panic!("not over after {seconds} s"))
}
