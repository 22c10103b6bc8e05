//! State sync: a node that comes late takes over the state of a recent block instead of applying
//! every block since the first.
//!
//! ```text
//! serving   every 1,024 blocks: snapshot ── summary ──▶ asked for by the host, and by its peers
//! syncing   summary accepted by the host ─▶ branches ─▶ records ─▶ what belongs to them ─▶ ids
//!             └ each part from one peer, several at once; what does not fit the state root drops
//!               the peer (`session_chain::sync`)
//!           all into the store's other place, which then becomes the current one by one write
//! ```
//!
//! Between peers:
//!
//! ```text
//! request  = uvarint 8 | 32 id of the summary | session_chain::sync::Request
//! response = u8 0 | session_chain::sync::Reply     or   u8 1 later   or   u8 2 no such summary
//! summary  = u8 1 | header                          id = SHA-256 of it
//! ```
//!
//! A syncing node that is killed goes on where it was. One that cannot finish keeps what it had,
//! and is given the blocks instead.

mod adopt;
mod calls;
mod channels;
mod crew;
mod fetch;
mod offers;
mod progress;
mod summary;

use std::time::Duration;

use session_core::time::MINUTE_MS;

pub(crate) use self::calls::SummaryFacts;
pub(crate) use self::fetch::{Syncing, is_untidy, tidy};
pub(crate) use self::offers::Offers;
use self::summary::Summary;

/// By convention every message begins with the number of who handles it, a uvarint.
pub(crate) const HANDLER: u8 = 8;

/// First bytes of a response.
const ANSWER: u8 = 0;
const LATER: u8 = 1;
const GONE: u8 = 2;

/// A peer, by the bytes of its node id.
pub(crate) type Peer = Vec<u8>;

/// What is known of others, and can be asked of them.
pub(crate) trait Peers: Send + Sync {
    /// Those that are connected.
    fn connected(&self) -> Vec<Peer>;

    /// Asks one, and waits for the answer; none where it does not answer within `patience`.
    fn ask(&self, peer: &Peer, request: Vec<u8>, patience: Duration) -> Option<Vec<u8>>;
}

/// How state sync is set up; nothing of it changes what a block means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SyncOptions {
    /// Whether a state is taken over where the host offers one. States are given in any case.
    pub enabled: bool,
    /// Blocks between two states that are offered. Nodes agree only on states that they all have.
    pub interval: u64,
    /// Fewer blocks than this are applied one by one.
    pub min_blocks: u64,
    /// A node whose last block is younger than this does not ask for a state: a host takes two
    /// seconds to find out that there is none.
    pub min_age_ms: u64,
    /// Bytes of memory that offered states may hold before the oldest goes.
    pub held_bytes: usize,
}

impl Default for SyncOptions {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: 1_024,
            min_blocks: 512,
            min_age_ms: MINUTE_MS,
            held_bytes: 128 << 20,
        }
    }
}
