//! State tree, blocks and proofs at a thousand and a million. `cargo bench -p session-chain`.
//!
//! Signatures count as verified before: `session-crypto` measures those. Compare the fastest
//! column: it is the one without neighbours. The large worlds take about 2 GB of memory.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    missing_docs,
    reason = "a measurement that cannot go on stops"
)]

mod world;

use std::sync::OnceLock;

use divan::{Bencher, black_box};
use world::World;

fn main() {
    divan::main();
}

const THOUSAND: u64 = 1_000;
const MILLION: u64 = 1_000_000;

/// The world of so many sessions, made once.
fn world(sessions: u64) -> &'static World {
    static SMALL: OnceLock<World> = OnceLock::new();
    static LARGE: OnceLock<World> = OnceLock::new();
    let cell = if sessions == MILLION { &LARGE } else { &SMALL };
    cell.get_or_init(|| World::new(sessions))
}

mod tree_250_leaves {
    use super::*;
    use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
    use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, SimpleHasher, Version};
    use session_chain::tree::Tree;
    use session_core::hash::sha256;
    use session_core::merkle::Hash;
    use session_core::record::value_hash;
    use session_core::state_proof::{inner_hash, key_bit, leaf_hash};
    use std::collections::{BTreeSet, HashMap};
    use world::id_of;

    const TOUCHED: u64 = 250;

    /// Which records a block touches.
    fn touched(records: u64) -> Vec<Hash> {
        let at = |i: u64| (i * 7_919 + 17) % records;
        (0..TOUCHED).map(|i| id_of(4, at(i))).collect()
    }

    fn tree(records: u64) -> Tree {
        let change = |i| (id_of(4, i), Some([0; 32]));
        Tree::new().update((0..records).map(change).collect())
    }

    #[divan::bench(args = [THOUSAND, MILLION])]
    fn ours(bencher: Bencher<'_, '_>, records: u64) {
        let tree = tree(records);
        let keys = touched(records);
        bencher
            .with_inputs(|| keys.iter().map(|key| (*key, Some([1; 32]))).collect())
            .bench_values(|changes| tree.update(changes).root());
    }

    /// As many hashes as the paths have nodes, and nothing else.
    #[divan::bench(args = [THOUSAND, MILLION])]
    fn hashing_alone(bencher: Bencher<'_, '_>, records: u64) {
        let tree = tree(records);
        let keys = touched(records);
        let mut nodes = BTreeSet::new();
        for key in &keys {
            for depth in 0..tree.prove(key).siblings.len() {
                let path: Vec<bool> = (0..depth).map(|at| key_bit(key, at)).collect();
                nodes.insert(path);
            }
        }
        let inner = nodes.len();
        bencher.bench(|| {
            let mut hash = [0; 32];
            for key in &keys {
                hash = leaf_hash(key, &hash);
            }
            for _ in 0..inner {
                hash = inner_hash(&hash, &hash);
            }
            hash
        });
    }

    /// SHA-256 of the crate that jmt is used with in tests.
    #[derive(Clone, Debug, Default)]
    struct Sha256(Vec<u8>);

    impl SimpleHasher for Sha256 {
        fn new() -> Self {
            Self::default()
        }

        fn update(&mut self, data: &[u8]) {
            self.0.extend_from_slice(data);
        }

        fn finalize(self) -> Hash {
            sha256(&self.0)
        }
    }

    /// Nodes in a hash map: the quickest store there is.
    #[derive(Default)]
    struct Nodes(HashMap<NodeKey, Node>);

    impl TreeReader for Nodes {
        fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
            Ok(self.0.get(key).cloned())
        }

        fn get_value_option(&self, _: Version, _: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
            Ok(None)
        }

        fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
            Ok(None)
        }
    }

    /// Only computed: what jmt then stores is not counted.
    #[divan::bench(args = [THOUSAND, MILLION], sample_count = 20)]
    fn jmt_batch_put_value_sets(bencher: Bencher<'_, '_>, records: u64) {
        let put = |nodes: &Nodes, keys: Vec<Hash>, value: u8, version| {
            let set = keys.into_iter().map(|key| (KeyHash(key), vec![value]));
            let tree = JellyfishMerkleTree::<'_, _, Sha256>::new(nodes);
            let done = tree.batch_put_value_sets(vec![set.collect()], None, version);
            done.unwrap()
        };
        let mut nodes = Nodes::default();
        let all = (0..records).map(|i| id_of(4, i)).collect();
        let (roots, update) = put(&nodes, all, 0, 0);
        let change = |i| (id_of(4, i), Some(value_hash(&[0])));
        let same = Tree::new().update((0..records).map(change).collect());
        assert_eq!(roots[0].0, same.root());
        let made = update.node_batch.nodes();
        nodes
            .0
            .extend(made.iter().map(|(k, v)| (k.clone(), v.clone())));
        let keys = touched(records);
        bencher
            .with_inputs(|| keys.clone())
            .bench_values(|keys| put(&nodes, keys, 1, 1));
    }
}

mod block_of_200_seen_messages {
    use super::*;
    use session_chain::block::{Block, Parsed};
    use session_core::codec::{Decode, Encode};

    const MESSAGES: u64 = 200;

    #[divan::bench(args = [THOUSAND, MILLION])]
    fn apply(bencher: Bencher<'_, '_>, sessions: u64) {
        let txs = World::new(0).messages_among(MESSAGES, sessions);
        let world = world(sessions);
        bencher
            .with_inputs(|| txs.clone())
            .bench_values(|txs| world.build(txs));
    }

    #[divan::bench(args = [THOUSAND, MILLION])]
    fn verify(bencher: Bencher<'_, '_>, sessions: u64) {
        let block = block(sessions);
        let world = world(sessions);
        bencher
            .with_inputs(|| block.clone())
            .bench_values(|block| world.verify(block));
    }

    /// As a host hands it over: bytes.
    #[divan::bench(args = [THOUSAND, MILLION])]
    fn read_and_verify(bencher: Bencher<'_, '_>, sessions: u64) {
        let bytes = block(sessions).to_bytes();
        let world = world(sessions);
        bencher.bench(|| world.verify(Parsed::from_bytes(black_box(&bytes)).unwrap()));
    }

    fn block(sessions: u64) -> Block {
        let txs = World::new(0).messages_among(MESSAGES, sessions);
        world(sessions).build(txs).block
    }
}

/// Frames of 100 bytes of text, seen before: 32 posts of one, or one post of 32.
mod frames_of_groups_32 {
    use super::*;
    use session_core::codec::Encode;
    use world::post;

    const GROUPS: u64 = 1_000;

    fn groups() -> &'static World {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| World::new(THOUSAND).with_groups(GROUPS))
    }

    /// Frames in one post.
    #[divan::bench(args = [1, 32])]
    fn apply(bencher: Bencher<'_, '_>, frames: u64) {
        let posts = 32 / frames;
        let txs: Vec<_> = (0..posts)
            .map(|i| post(i, i * 7 % GROUPS, frames))
            .collect();
        let world = groups();
        let built = world.build(txs.clone());
        let bytes: usize = txs.iter().map(|(_, _, bytes)| bytes).sum();
        let changed = built.changes.iter();
        let cells: usize = changed
            .map(|(_, key, value)| key.len() + value.map_or(0, <[u8]>::len))
            .sum();
        let block = built.block.to_bytes().len();
        println!(
            "{frames} a post: {} bytes of transaction a frame, {} of cells, block {block}",
            bytes / 32,
            cells / 32
        );
        bencher
            .with_inputs(|| txs.clone())
            .bench_values(|txs| world.build(txs));
    }
}

/// The newest thousand of 10,000 messages of one session, with a million sessions beside it.
mod proof_of_1_000_messages {
    use super::*;
    use session_chain::proof::State;
    use session_core::codec::{Decode, Encode};
    use session_core::ids::ActionId;
    use session_core::log::LogId;
    use session_core::proof::Proof;
    use session_core::record::RecordKey;
    use world::session;

    fn busy() -> &'static World {
        static BUSY: OnceLock<World> = OnceLock::new();
        BUSY.get_or_init(|| {
            let mut world = World::new(MILLION);
            for _ in 0..50 {
                let txs = world.messages_to(200, 77);
                let built = world.build(txs);
                world.accept(built);
            }
            world
        })
    }

    fn state(world: &World) -> State<'_> {
        State {
            header: world.head,
            heads: Vec::new(),
            tree: &world.tree,
            view: &world.view,
        }
    }

    fn messages(world: &World) -> Proof {
        let log = LogId::Session(session(77));
        state(world).prove_log(log, 8_987, 9_987).unwrap()
    }

    #[divan::bench(sample_count = 20)]
    fn make(bencher: Bencher<'_, '_>) {
        let world = busy();
        let proof = messages(world);
        let entries = proof.log.as_ref().unwrap().entries.iter();
        let leaves: usize = entries.map(|entry| entry.len() + 4).sum();
        let all = proof.to_bytes().len();
        println!(
            "{all} bytes, {} without entries and signatures",
            all - leaves
        );
        bencher.bench(|| messages(world));
    }

    #[divan::bench(sample_count = 20)]
    fn read_and_verify(bencher: Bencher<'_, '_>) {
        let bytes = messages(busy()).to_bytes();
        bencher.bench(|| {
            let proof = Proof::from_bytes(black_box(&bytes)).unwrap();
            proof.verify().unwrap()
        });
    }

    #[divan::bench(sample_count = 20)]
    fn make_record_alone(bencher: Bencher<'_, '_>) {
        let (world, key) = (busy(), RecordKey::Session(session(77)));
        let size = state(world).prove_record(key).unwrap().to_bytes().len();
        println!("{size} bytes");
        bencher.bench(|| state(world).prove_record(black_box(key)).unwrap());
    }

    #[divan::bench(sample_count = 20)]
    fn make_absence(bencher: Bencher<'_, '_>) {
        let key = RecordKey::Action(ActionId::from_bytes([8; 32]));
        let world = busy();
        bencher.bench(|| state(world).prove_record(black_box(key)).unwrap());
    }
}
