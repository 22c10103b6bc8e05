//! Transactions between the plugins of one chain.
//!
//! ```text
//! gossip   = uvarint 0 | batch of transactions, as for `POST /submit`
//! request  = uvarint 0 | u8 1 | 8 salt | Bloom filter of what the asking node has waiting
//! response = batch of transactions that are not in it
//! ```
//!
//! The messages of [state sync](crate::host::sync) go the same way.
//!
//! What is submitted here is pushed at once, as far as a rate allows that leaves most of the
//! 512 KiB a second, which every node takes from one peer, to consensus: a burst would otherwise
//! stop the chain. What was not pushed is pulled: once a second each node asks one other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use rayon::prelude::*;
use session_chain::tx::{Tx, TxIds};
use session_core::codec::Decode;
use session_core::hash::sha256;
use session_core::ids::ActionId;
use session_core::submission::{decode_request, encode_request};
use session_rpcchainvm::appsender::app_sender_client::AppSenderClient;
use session_rpcchainvm::appsender::{
    SendAppErrorMsg, SendAppGossipMsg, SendAppRequestMsg, SendAppResponseMsg,
};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tonic::transport::Channel;

use crate::host::consensus::Consensus;
use crate::host::sync;
use crate::lock::lock;

/// By convention every message begins with the number of who handles it, a uvarint.
const HANDLER: u8 = 0;

/// A request for what is missing.
const PULL: u8 = 1;

/// Bytes that may be pushed at once after a pause.
const PUSH_BURST: u64 = 256 << 10;

/// Bytes of one message: larger ones keep consensus waiting behind them.
const MESSAGE_BYTES: usize = 64 << 10;

/// Bytes that wait to be pushed; what is more will be pulled.
const QUEUE_BYTES: usize = 1 << 20;

/// Bytes of a message from others at most.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// An answer's list when nothing is missing.
const NOTHING: [u8; 4] = 0u32.to_be_bytes();

/// Peers that are told by name; of more, as many are drawn.
const PEERS: usize = 32;

/// Peers that are remembered.
const PEERS_MAX: usize = 4_096;

/// How often one peer is asked for what is missing.
const PULL_EVERY: Duration = Duration::from_secs(1);

/// An answer that has not come by then will not come.
const PULL_PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of a Bloom filter: 8,192 transactions with three false ones in a hundred.
const BLOOM_BYTES: usize = 8 << 10;

/// Bits of a transaction in it.
const BLOOM_BITS: usize = 5;

/// Invalid transactions of one peer within [`FORGET`] before it is not listened to any more.
const INVALID_MAX: u32 = 16;

/// How long invalid transactions are held against a peer.
const FORGET: Duration = Duration::from_secs(60);

type NodeId = Bytes;

/// A token bucket in bytes.
struct Bucket {
    per_second: u64,
    tokens: u64,
    at: Instant,
}

impl Bucket {
    const fn new(per_second: u64, now: Instant) -> Self {
        Self {
            per_second,
            tokens: PUSH_BURST,
            at: now,
        }
    }

    /// Takes `bytes`, or tells how long to wait for them.
    fn take(&mut self, bytes: u64, now: Instant) -> Result<(), Duration> {
        let passed = u64::try_from(now.saturating_duration_since(self.at).as_micros());
        let earned = passed.unwrap_or(u64::MAX).saturating_mul(self.per_second) / 1_000_000;
        if earned > 0 {
            self.tokens = self.tokens.saturating_add(earned).min(PUSH_BURST);
            self.at = now;
        }
        // What is larger than the burst takes all of it, instead of waiting for ever.
        let bytes = bytes.min(PUSH_BURST);
        match self.tokens.checked_sub(bytes) {
            Some(left) => {
                self.tokens = left;
                Ok(())
            }
            None => {
                let missing = bytes - self.tokens;
                Err(Duration::from_micros(
                    missing.saturating_mul(1_000_000) / self.per_second.max(1) + 1,
                ))
            }
        }
    }
}

/// How many peers come before a node in building a block of a height: each is first in turn, in the
/// order of their ids.
fn rank(own: &NodeId, peers: &[NodeId], height: u64) -> u32 {
    let before = peers.iter().filter(|peer| *peer < own).count() as u64;
    let nodes = peers.len() as u64 + 1;
    let rank = (before + nodes - height % nodes) % nodes;
    u32::try_from(rank).unwrap_or(u32::MAX)
}

/// What is held against a peer.
struct Record {
    invalid: u32,
    since: Instant,
}

#[derive(Default)]
struct Queue {
    txs: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, tx: Vec<u8>) {
        if self.bytes + tx.len() <= QUEUE_BYTES {
            self.bytes += tx.len();
            self.txs.push_back(tx);
        }
    }

    /// The next message's worth.
    fn take(&mut self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut left = MESSAGE_BYTES;
        while let Some(tx) = self.txs.front()
            && (out.is_empty() || tx.len() <= left)
        {
            left = left.saturating_sub(tx.len());
            self.bytes -= tx.len();
            out.extend(self.txs.pop_front());
        }
        out
    }
}

/// The pushing side's queue, filled by whoever takes submissions.
#[derive(Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    more: Notify,
}

impl Outbox {
    /// Tells of a transaction that was submitted here.
    pub(super) fn push(&self, tx: Vec<u8>) {
        lock(&self.queue).push(tx);
        self.more.notify_one();
    }
}

/// A request that is under way.
struct Asked {
    peer: NodeId,
    at: Instant,
    /// Who waits for the answer; none: it is transactions.
    waits: Option<SyncSender<Bytes>>,
}

#[derive(Default)]
struct Peers {
    connected: Vec<NodeId>,
    records: HashMap<NodeId, Record>,
    asked: HashMap<u32, Asked>,
    next_request: u32,
    turn: usize,
}

impl Peers {
    /// A number for a request.
    fn enter(&mut self, peer: NodeId, at: Instant, waits: Option<SyncSender<Bytes>>) -> u32 {
        let id = self.next_request;
        self.next_request = id.wrapping_add(1);
        self.asked.insert(id, Asked { peer, at, waits });
        id
    }
}

/// Everything that is said between plugins.
pub(super) struct Gossip {
    consensus: Arc<Consensus>,
    own: NodeId,
    sender: AppSenderClient<Channel>,
    outbox: Arc<Outbox>,
    /// Each peer gets all of them.
    push_bytes_per_second: u64,
    peers: Mutex<Peers>,
    /// Where calls of the node's are made for threads that wait.
    runtime: Handle,
}

impl Gossip {
    /// Must be called on the runtime that makes its calls.
    pub(super) fn new(
        consensus: Arc<Consensus>,
        own: NodeId,
        channel: Channel,
        outbox: Arc<Outbox>,
        push_bytes_per_second: u64,
    ) -> Self {
        Self {
            consensus,
            own,
            sender: AppSenderClient::new(channel),
            outbox,
            push_bytes_per_second,
            peers: Mutex::default(),
            runtime: Handle::current(),
        }
    }

    /// A peer has come.
    pub(super) fn connected(&self, node: NodeId) {
        let mut peers = lock(&self.peers);
        if node != self.own && !peers.connected.contains(&node) && peers.connected.len() < PEERS_MAX
        {
            peers.connected.push(node);
        }
    }

    /// A peer has gone.
    pub(super) fn disconnected(&self, node: &NodeId) {
        lock(&self.peers).connected.retain(|peer| peer != node);
    }

    /// How many of the connected nodes come before this one in building a block of this height.
    pub(super) fn rank(&self, height: u64) -> u32 {
        rank(&self.own, &lock(&self.peers).connected, height)
    }

    /// Whom to tell: everybody, or as many in turn.
    fn audience(&self) -> Vec<NodeId> {
        let mut peers = lock(&self.peers);
        let count = peers.connected.len();
        let turn = peers.turn;
        peers.turn = turn.wrapping_add(PEERS);
        let all = peers.connected.iter().cycle().skip(turn % count.max(1));
        all.take(count.min(PEERS)).cloned().collect()
    }

    /// Pushes what is submitted here, for as long as the plugin runs.
    pub(super) async fn push(self: Arc<Self>) {
        let mut bucket = Bucket::new(self.push_bytes_per_second, Instant::now());
        loop {
            let batch = lock(&self.outbox.queue).take();
            if batch.is_empty() {
                self.outbox.more.notified().await;
                continue;
            }
            let mut msg = vec![HANDLER];
            msg.extend(encode_request(&batch));
            while let Err(wait) = bucket.take(msg.len() as u64, Instant::now()) {
                tokio::time::sleep(wait).await;
            }
            let node_ids = self.audience();
            if node_ids.is_empty() {
                continue;
            }
            let gossip = SendAppGossipMsg {
                node_ids,
                msg: msg.into(),
                ..SendAppGossipMsg::default()
            };
            if let Err(error) = self.sender.clone().send_app_gossip(gossip).await {
                tracing::warn!(error = error.message(), "pushing transactions failed");
            }
        }
    }

    /// Asks one peer after the other for what is missing here, for as long as the plugin runs.
    pub(super) async fn pull(self: Arc<Self>) {
        let mut every = tokio::time::interval(PULL_EVERY);
        loop {
            every.tick().await;
            if !self.consensus.is_normal() {
                continue;
            }
            let Some((peer, request_id)) = self.next_to_ask() else {
                continue;
            };
            let Ok(request) = self.pull_request() else {
                continue;
            };
            let request = SendAppRequestMsg {
                node_ids: vec![peer],
                request_id,
                request: request.into(),
            };
            if let Err(error) = self.sender.clone().send_app_request(request).await {
                tracing::debug!(error = error.message(), "asking a peer failed");
            }
        }
    }

    fn next_to_ask(&self) -> Option<(NodeId, u32)> {
        let mut peers = lock(&self.peers);
        let now = Instant::now();
        // Whoever waits takes its own request back.
        peers.asked.retain(|_, asked| {
            asked.waits.is_some() || now.saturating_duration_since(asked.at) < PULL_PATIENCE
        });
        let count = peers.connected.len();
        peers.turn = peers.turn.wrapping_add(1);
        let peer = peers.connected.get(peers.turn.checked_rem(count)?)?.clone();
        let id = peers.enter(peer.clone(), now, None);
        Some((peer, id))
    }

    fn pull_request(&self) -> Result<Vec<u8>, getrandom::Error> {
        let mut salt = [0; 8];
        getrandom::fill(&mut salt)?;
        let mut bloom = Bloom::new(salt);
        let none = self.consensus.waiting(usize::MAX, |action| {
            bloom.insert(action.as_bytes());
            false
        });
        debug_assert!(none.is_empty());
        let mut request = vec![HANDLER, PULL];
        request.extend(salt);
        request.extend(bloom.bits);
        Ok(request)
    }

    /// A peer asks for what it misses.
    pub(super) async fn requested(&self, node: NodeId, request_id: u32, request: &[u8]) {
        let response = if let Some((&sync::HANDLER, rest)) = request.split_first() {
            let (consensus, rest) = (self.consensus.clone(), rest.to_vec());
            let answer = move || consensus.offers.answer(&rest);
            // It reads a good deal of the state.
            tokio::task::spawn_blocking(answer).await.ok().flatten()
        } else {
            read_pull(request).map(|bloom| {
                let missing = |action: &ActionId| !bloom.contains(action.as_bytes());
                encode_request(&self.consensus.waiting(MESSAGE_BYTES, missing))
            })
        };
        let mut sender = self.sender.clone();
        let Some(response) = response else {
            self.hold_against(&node, 1);
            let error = SendAppErrorMsg {
                node_id: node,
                request_id,
                error_code: 1,
                error_message: "not a request of this protocol".to_owned(),
            };
            let _peer_waits = sender.send_app_error(error).await;
            return;
        };
        let response = SendAppResponseMsg {
            node_id: node,
            request_id,
            response: response.into(),
        };
        if let Err(error) = sender.send_app_response(response).await {
            tracing::debug!(error = error.message(), "answering a peer failed");
        }
    }

    /// A peer answers.
    pub(super) fn responded(&self, node: &NodeId, request_id: u32, response: Bytes) {
        let asked = lock(&self.peers).asked.remove(&request_id);
        let Some(asked) = asked.filter(|asked| asked.peer == *node) else {
            return;
        };
        if let Some(waits) = asked.waits {
            let _gave_up = waits.send(response);
        } else if response != NOTHING.as_slice() {
            // A peer that has nothing for us answers with an empty list, which is no batch.
            self.take_in(node, &response);
        }
    }

    /// A peer does not answer.
    pub(super) fn failed(&self, request_id: u32) {
        lock(&self.peers).asked.remove(&request_id);
    }

    /// A peer tells of transactions.
    pub(super) fn told(&self, node: &NodeId, msg: &[u8]) {
        match msg.split_first() {
            Some((&HANDLER, batch)) => self.take_in(node, batch),
            // Of another handler: a plugin of another version.
            Some(_) => {}
            None => self.hold_against(node, 1),
        }
    }

    fn take_in(&self, node: &NodeId, batch: &[u8]) {
        if self.is_ignored(node) || batch.len() > MESSAGE_BYTES_MAX {
            return;
        }
        let Ok(txs) = decode_request(batch) else {
            return self.hold_against(node, INVALID_MAX);
        };
        let vm = self.consensus.node();
        let (chain, head) = (vm.chain(), vm.head());
        let read = |bytes: &&[u8]| -> Option<(Tx, TxIds, usize)> {
            let tx = Tx::from_bytes(bytes).ok()?;
            let ids = tx.ids(&chain);
            vm.check(&head, &tx, &ids).ok()?;
            Some((tx, ids, bytes.len()))
        };
        let admitted: Vec<_> = txs.par_iter().map(read).collect();
        let invalid = admitted
            .iter()
            .filter(|admitted| admitted.is_none())
            .count();
        self.hold_against(node, u32::try_from(invalid).unwrap_or(u32::MAX));
        let mut seen = HashSet::new();
        for (tx, ids, bytes) in admitted.into_iter().flatten() {
            if seen.insert(ids.action) && !self.consensus.is_waiting(&ids.action) {
                // A full queue: it is in the pool of the one who told, and will be in a block.
                let _nobody_waits = vm.enqueue_from(false, tx, ids, bytes);
            }
        }
    }

    fn hold_against(&self, node: &NodeId, invalid: u32) {
        if invalid == 0 {
            return;
        }
        let mut peers = lock(&self.peers);
        let now = Instant::now();
        peers
            .records
            .retain(|_, record| now.saturating_duration_since(record.since) < FORGET);
        let record = peers.records.entry(node.clone()).or_insert(Record {
            invalid: 0,
            since: now,
        });
        let before = record.invalid;
        record.invalid = before.saturating_add(invalid);
        if before < INVALID_MAX && record.invalid >= INVALID_MAX {
            let node = const_hex::encode(node);
            tracing::warn!(%node, "a peer tells of invalid transactions: not listening to it for a minute");
        }
    }

    fn is_ignored(&self, node: &NodeId) -> bool {
        let peers = lock(&self.peers);
        peers
            .records
            .get(node)
            .is_some_and(|record| record.invalid >= INVALID_MAX && record.since.elapsed() < FORGET)
    }
}

impl sync::Peers for Gossip {
    fn connected(&self) -> Vec<sync::Peer> {
        let peers = lock(&self.peers);
        peers.connected.iter().map(|peer| peer.to_vec()).collect()
    }

    fn ask(&self, peer: &sync::Peer, request: Vec<u8>, patience: Duration) -> Option<Vec<u8>> {
        let (waits, answer) = sync_channel(1);
        let peer = Bytes::copy_from_slice(peer);
        let request_id = lock(&self.peers).enter(peer.clone(), Instant::now(), Some(waits));
        let request = SendAppRequestMsg {
            node_ids: vec![peer],
            request_id,
            request: request.into(),
        };
        let mut sender = self.sender.clone();
        self.runtime.spawn(async move {
            if let Err(error) = sender.send_app_request(request).await {
                tracing::debug!(error = error.message(), "asking a peer failed");
            }
        });
        let answer = answer.recv_timeout(patience).ok();
        lock(&self.peers).asked.remove(&request_id);
        answer.map(Vec::from)
    }
}

fn read_pull(request: &[u8]) -> Option<Bloom> {
    let rest = request.strip_prefix(&[HANDLER, PULL])?;
    let (salt, bits) = rest.split_first_chunk()?;
    (bits.len() == BLOOM_BYTES).then(|| Bloom {
        salt: *salt,
        bits: bits.to_vec(),
    })
}

/// A set that may claim to contain what it does not; another salt errs about others.
struct Bloom {
    salt: [u8; 8],
    bits: Vec<u8>,
}

impl Bloom {
    fn new(salt: [u8; 8]) -> Self {
        Self {
            salt,
            bits: vec![0; BLOOM_BYTES],
        }
    }

    fn places(&self, id: &[u8]) -> impl Iterator<Item = (usize, u8)> + use<> {
        let hash = sha256(&[self.salt.as_slice(), id].concat());
        let mut words = hash.into_iter();
        (0..BLOOM_BITS).map(move |_| {
            let word = words
                .by_ref()
                .take(4)
                .fold(0_usize, |word, byte| word << 8 | usize::from(byte));
            (word / 8 % BLOOM_BYTES, 1 << (word % 8))
        })
    }

    fn insert(&mut self, id: &[u8]) {
        for (byte, bit) in self.places(id) {
            if let Some(byte) = self.bits.get_mut(byte) {
                *byte |= bit;
            }
        }
    }

    fn contains(&self, id: &[u8]) -> bool {
        self.places(id)
            .all(|(byte, bit)| self.bits.get(byte).is_some_and(|byte| byte & bit != 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_over_any_pause() {
        let start = Instant::now();
        let per_second = 160 << 10;
        let mut bucket = Bucket::new(per_second, start);
        let mut now = start;
        let mut sent = 0u64;
        while now < start + Duration::from_secs(20) {
            match bucket.take(50_000, now) {
                Ok(()) => sent += 50_000,
                Err(wait) => now += wait,
            }
        }
        assert!(sent <= PUSH_BURST + 20 * per_second + 50_000);
        assert!(sent >= 19 * per_second);
        assert!(bucket.take(u64::MAX, now + Duration::from_secs(9)).is_ok());
    }

    #[test]
    fn each_node_comes_first_in_turn() {
        let nodes: Vec<NodeId> = [9u8, 1, 200, 4].map(|i| NodeId::from(vec![i; 20])).into();
        for height in 0..40 {
            let mut ranks: Vec<u32> = nodes
                .iter()
                .map(|own| {
                    let peers: Vec<NodeId> = nodes.iter().filter(|n| *n != own).cloned().collect();
                    let at = rank(own, &peers, height);
                    // Whoever comes first is last at the next height.
                    assert_eq!(rank(own, &peers, height + 1), (at + 3) % 4);
                    at
                })
                .collect();
            ranks.sort_unstable();
            assert_eq!(ranks, [0, 1, 2, 3]);
        }
        assert_eq!(rank(&nodes[0], &[], u64::MAX), 0);
    }

    #[test]
    fn what_was_put_into_the_filter_is_in_it_and_little_else() {
        let mut bloom = Bloom::new(*b"saltsalt");
        let id = |i: u32| sha256(&i.to_be_bytes());
        (0..4_000).for_each(|i| bloom.insert(&id(i)));
        assert!((0..4_000).all(|i| bloom.contains(&id(i))));
        let wrong = (4_000..14_000).filter(|i| bloom.contains(&id(*i))).count();
        assert!(wrong < 300, "{wrong} of 10000");
        let request = [&[HANDLER, PULL], bloom.salt.as_slice(), &bloom.bits].concat();
        assert!(read_pull(&request).unwrap().contains(&id(7)));
        assert!(read_pull(&request[..request.len() - 1]).is_none());
        assert!(read_pull(&[HANDLER, 9]).is_none());
    }

    #[test]
    fn what_waits_to_be_pushed_is_bounded_and_leaves_in_pieces() {
        let mut queue = Queue::default();
        (0..2_000).for_each(|_| queue.push(vec![0; 1_000]));
        assert!(queue.bytes <= QUEUE_BYTES);
        let mut taken = 0;
        loop {
            let batch = queue.take();
            if batch.is_empty() {
                break;
            }
            assert!(batch.iter().map(Vec::len).sum::<usize>() <= MESSAGE_BYTES);
            taken += batch.len();
        }
        assert_eq!((taken, queue.bytes), (QUEUE_BYTES / 1_000, 0));
        // One that is larger than a message goes alone.
        queue.push(vec![0; 300_000]);
        queue.push(vec![0; 10]);
        assert_eq!(queue.take().len(), 1);
    }
}
