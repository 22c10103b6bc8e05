//! The state tree has the roots of `jmt`, after any batches (`spec/vm.md` §6).

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use jmt::storage::{LeafNode, Node, NodeKey, TreeReader};
use jmt::{JellyfishMerkleTree, KeyHash, OwnedValue, SimpleHasher, Version};
use proptest::prelude::*;
use session_chain::tree::Tree;
use session_core::hash::sha256;
use session_core::merkle::Hash;
use session_core::record::value_hash;

/// SHA-256 as everywhere else in this workspace.
#[derive(Clone, Debug, Default)]
struct Sha256(Vec<u8>);

impl SimpleHasher for Sha256 {
    fn new() -> Self {
        Self::default()
    }

    fn update(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }

    fn finalize(self) -> [u8; 32] {
        sha256(&self.0)
    }
}

#[derive(Default)]
struct Oracle {
    nodes: RefCell<HashMap<NodeKey, Node>>,
    values: RefCell<BTreeMap<(KeyHash, Version), Option<OwnedValue>>>,
    version: Version,
}

impl TreeReader for Oracle {
    fn get_node_option(&self, key: &NodeKey) -> anyhow::Result<Option<Node>> {
        Ok(self.nodes.borrow().get(key).cloned())
    }

    fn get_value_option(&self, max: Version, key: KeyHash) -> anyhow::Result<Option<OwnedValue>> {
        let values = self.values.borrow();
        let newest = values.range((key, 0)..=(key, max)).next_back();
        Ok(newest.and_then(|(_, value)| value.clone()))
    }

    fn get_rightmost_leaf(&self) -> anyhow::Result<Option<(NodeKey, LeafNode)>> {
        Ok(None)
    }
}

impl Oracle {
    fn update(&mut self, batch: &BTreeMap<Hash, Option<Vec<u8>>>) -> Hash {
        let tree = JellyfishMerkleTree::<'_, _, Sha256>::new(&*self);
        let set = batch
            .iter()
            .map(|(key, value)| (KeyHash(*key), value.clone()));
        let (root, update) = tree.put_value_set(set, self.version).unwrap();
        for (key, node) in update.node_batch.nodes() {
            self.nodes.borrow_mut().insert(key.clone(), node.clone());
        }
        for ((version, key), value) in update.node_batch.values() {
            self.values
                .borrow_mut()
                .insert((*key, *version), value.clone());
        }
        self.version += 1;
        root.0
    }
}

/// Hashed keys, and some that share long prefixes.
fn key(i: u16) -> Hash {
    let mut key = sha256(&[(i % 7) as u8]);
    if i.is_multiple_of(2) {
        return sha256(&i.to_be_bytes());
    }
    let at = usize::from(i) % 29;
    key[at] = (i >> 3) as u8;
    key[31] = i as u8;
    key
}

type Batch = Vec<(u16, Option<u64>)>;

fn batches() -> impl Strategy<Value = Vec<Batch>> {
    let change = (0u16..400, prop::option::weighted(0.7, any::<u64>()));
    prop::collection::vec(prop::collection::vec(change, 1..60), 1..10)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn roots_are_those_of_jmt(batches in batches()) {
        let (mut oracle, mut tree) = (Oracle::default(), Tree::new());
        for batch in batches {
            let batch: BTreeMap<Hash, Option<Vec<u8>>> = batch
                .into_iter()
                .map(|(i, value)| (key(i), value.map(|v| v.to_be_bytes().to_vec())))
                .collect();
            let root = oracle.update(&batch);
            let hashed = batch.iter().map(|(k, v)| (*k, v.as_ref().map(|v| value_hash(v))));
            tree = tree.update(hashed.collect());
            prop_assert_eq!(tree.root(), root);
        }
    }
}
