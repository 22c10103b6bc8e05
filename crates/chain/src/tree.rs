//! The state tree: a binary sparse Merkle tree in memory, path-copying.
//!
//! Hash rule of `jmt` (see [`session_core::state_proof`]). A tree is a cheap handle; updating
//! makes a new one that shares every untouched node, so undecided blocks and past versions cost
//! only their own paths. Records on disk are the truth: the tree is rebuilt from them at start.

use std::sync::Arc;

use session_core::merkle::Hash;
use session_core::state_proof::{
    PLACEHOLDER, PathLeaf, SIBLINGS_MAX, StateProof, inner_hash, key_bit, leaf_hash,
};

#[derive(Debug, Clone, Default)]
enum Node {
    #[default]
    Empty,
    Leaf(Arc<PathLeaf>),
    Inner(Arc<Inner>),
}

#[derive(Debug)]
struct Inner {
    hash: Hash,
    left: Node,
    right: Node,
}

impl Node {
    fn hash(&self) -> Hash {
        match self {
            Self::Empty => PLACEHOLDER,
            Self::Leaf(leaf) => leaf_hash(&leaf.key, &leaf.value_hash),
            Self::Inner(inner) => inner.hash,
        }
    }

    /// A parent of two subtrees: a lone leaf moves up, which keeps the shape canonical.
    fn join(left: Self, right: Self) -> Self {
        match (&left, &right) {
            (Self::Empty, Self::Empty) => Self::Empty,
            (Self::Leaf(_), Self::Empty) => left,
            (Self::Empty, Self::Leaf(_)) => right,
            _ => {
                let hash = inner_hash(&left.hash(), &right.hash());
                Self::Inner(Arc::new(Inner { hash, left, right }))
            }
        }
    }
}

/// One change: the key and the SHA-256 of its new record, or none to delete it.
pub type Change = (Hash, Option<Hash>);

/// A version of the state tree.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    root: Node,
}

/// Records whose keys have the same first bit, ready to become a tree.
pub struct Half<'a>(&'a [Change]);

/// What one became.
pub struct Subtree(Node);

impl Half<'_> {
    /// Hashes it all.
    pub fn build(self) -> Subtree {
        Subtree(update(&Node::Empty, 1, self.0))
    }
}

/// A subtree as the one above it sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    /// Nothing below.
    Empty,
    /// One record, by the hash of its leaf.
    Leaf(Hash),
    /// More, by the hash of the node above them.
    Inner(Hash),
}

impl Branch {
    /// Hash of this subtree.
    pub const fn hash(&self) -> Hash {
        match self {
            Self::Empty => PLACEHOLDER,
            Self::Leaf(hash) | Self::Inner(hash) => *hash,
        }
    }

    /// As [`Node::join`].
    fn join(left: Self, right: Self) -> Self {
        match (left, right) {
            (Self::Empty, Self::Empty) => Self::Empty,
            (Self::Leaf(_), Self::Empty) => left,
            (Self::Empty, Self::Leaf(_)) => right,
            _ => Self::Inner(inner_hash(&left.hash(), &right.hash())),
        }
    }

    /// The one above 2^n of them, from the left; none for another number.
    pub fn above(branches: &[Self]) -> Option<Self> {
        match branches {
            [] => None,
            [one] => Some(*one),
            many => {
                let (left, right) = many.split_at_checked(many.len() / 2)?;
                let same = left.len() == right.len();
                same.then(|| Some(Self::join(Self::above(left)?, Self::above(right)?)))?
            }
        }
    }

    /// The one at `depth` over these records, each once, whose keys begin with the same `depth`
    /// bits.
    pub fn over(depth: u8, mut records: Vec<Change>) -> Self {
        records.sort_unstable_by_key(|record| record.0);
        Self::of(&update(&Node::Empty, depth.into(), &records))
    }

    fn of(node: &Node) -> Self {
        match node {
            Node::Empty => Self::Empty,
            Node::Leaf(_) => Self::Leaf(node.hash()),
            Node::Inner(inner) => Self::Inner(inner.hash),
        }
    }
}

/// The first `depth` bits of a key, as a number.
pub fn first_bits(key: &Hash, depth: u8) -> u32 {
    let bits = (0..usize::from(depth.min(32))).map(|at| u32::from(key_bit(key, at)));
    bits.fold(0, |number, bit| number << 1 | bit)
}

/// Adds the subtrees at `depth` of a node that lies at `at`.
fn cut(node: &Node, at: u8, depth: u8, out: &mut Vec<Branch>) {
    if at >= depth {
        return out.push(Branch::of(node));
    }
    match node {
        Node::Empty => out.resize(out.len() + (1 << (depth - at)), Branch::Empty),
        Node::Leaf(leaf) => {
            let number = 1u32 << (depth - at);
            let place = first_bits(&leaf.key, depth) % number;
            out.extend((0..number).map(|branch| {
                if branch == place {
                    Branch::of(node)
                } else {
                    Branch::Empty
                }
            }));
        }
        Node::Inner(inner) => {
            cut(&inner.left, at + 1, depth, out);
            cut(&inner.right, at + 1, depth, out);
        }
    }
}

impl Tree {
    /// Its subtrees at `depth`, at most 16, from the left: 2^`depth` of them.
    pub fn branches(&self, depth: u8) -> Vec<Branch> {
        let mut out = Vec::new();
        cut(&self.root, 0, depth.min(16), &mut out);
        out
    }

    /// The tree without records.
    pub fn new() -> Self {
        Self::default()
    }

    /// The tree of these records, each key once: what [`Tree::update`] makes of the empty tree.
    /// `both` builds its halves, one after the other or at once.
    pub fn of(
        mut records: Vec<Change>,
        both: impl FnOnce(Half<'_>, Half<'_>) -> (Subtree, Subtree),
    ) -> Self {
        records.sort_unstable_by_key(|record| record.0);
        let split = records.partition_point(|record| !key_bit(&record.0, 0));
        let (left, right) = records.split_at(split);
        let (Subtree(left), Subtree(right)) = both(Half(left), Half(right));
        Self {
            root: Node::join(left, right),
        }
    }

    /// Root hash, 32 bytes.
    pub fn root(&self) -> Hash {
        self.root.hash()
    }

    /// A new version with these changes. For a key that comes twice the last change counts.
    #[must_use]
    pub fn update(&self, mut changes: Vec<Change>) -> Self {
        changes.reverse();
        changes.sort_by_key(|c| c.0);
        changes.dedup_by_key(|c| c.0);
        Self {
            root: update(&self.root, 0, &changes),
        }
    }

    /// The path of a key: proves its value or its absence under [`Tree::root`].
    pub fn prove(&self, key: &Hash) -> StateProof {
        let mut siblings = Vec::new();
        let mut node = &self.root;
        while let Node::Inner(inner) = node {
            let (next, sibling) = if key_bit(key, siblings.len()) {
                (&inner.right, &inner.left)
            } else {
                (&inner.left, &inner.right)
            };
            siblings.push(sibling.hash());
            node = next;
        }
        let leaf = match node {
            Node::Leaf(leaf) => Some(**leaf),
            Node::Empty | Node::Inner(_) => None,
        };
        StateProof { siblings, leaf }
    }

    /// Hash of the record at `key`, if there is one.
    pub fn get(&self, key: &Hash) -> Option<Hash> {
        self.prove(key)
            .leaf
            .filter(|leaf| leaf.key == *key)
            .map(|leaf| leaf.value_hash)
    }
}

/// `changes` are sorted by key, without doubles, and all lie below `node`.
fn update(node: &Node, depth: usize, changes: &[Change]) -> Node {
    // Below the last bit of a key there is one leaf, and nothing to split.
    let (Some(first), true) = (changes.first(), depth <= SIBLINGS_MAX) else {
        return node.clone();
    };
    let alone = changes.len() == 1;
    match node {
        Node::Empty if alone => leaf(first),
        Node::Leaf(old) if alone && old.key == first.0 => leaf(first),
        Node::Leaf(_) if alone && first.1.is_none() => node.clone(),
        Node::Empty | Node::Leaf(_) | Node::Inner(_) => {
            let split = changes.partition_point(|c| !key_bit(&c.0, depth));
            let (go_left, go_right) = changes.split_at(split);
            let (left, right) = match node {
                Node::Inner(inner) => (inner.left.clone(), inner.right.clone()),
                Node::Leaf(old) if key_bit(&old.key, depth) => (Node::Empty, node.clone()),
                Node::Leaf(_) => (node.clone(), Node::Empty),
                Node::Empty => (Node::Empty, Node::Empty),
            };
            Node::join(
                update(&left, depth + 1, go_left),
                update(&right, depth + 1, go_right),
            )
        }
    }
}

fn leaf((key, value_hash): &Change) -> Node {
    value_hash.map_or(Node::Empty, |value_hash| {
        Node::Leaf(Arc::new(PathLeaf {
            key: *key,
            value_hash,
        }))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use session_core::hash::sha256;
    use std::collections::BTreeMap;

    /// The rule as it is written: a map and recursion.
    fn slow_root(records: &[(Hash, Hash)], depth: usize) -> Hash {
        match records {
            [] => PLACEHOLDER,
            [(key, value)] => leaf_hash(key, value),
            many => {
                let (right, left): (Vec<_>, Vec<_>) =
                    many.iter().partition(|(key, _)| key_bit(key, depth));
                inner_hash(&slow_root(&left, depth + 1), &slow_root(&right, depth + 1))
            }
        }
    }

    // Keys with long common prefixes, so that deep splits and collapses happen.
    fn key(i: u16) -> Hash {
        let mut key = [0; 32];
        key[(i % 5) as usize * 7] = (i >> 3) as u8;
        key[31] = i as u8;
        if i.is_multiple_of(3) {
            sha256(&key)
        } else {
            key
        }
    }

    #[test]
    fn a_tree_made_at_once_is_the_one_that_grew() {
        for count in [0u32, 1, 2, 9, 20_000] {
            let records: Vec<Change> = (0..count)
                .map(|n| (sha256(&n.to_be_bytes()), Some(sha256(&n.to_le_bytes()))))
                .collect();
            let grown = records
                .chunks(777)
                .fold(Tree::new(), |tree, some| tree.update(some.to_vec()));
            let made = Tree::of(records, |left, right| (left.build(), right.build()));
            assert_eq!(made.root(), grown.root(), "{count}");
        }
    }

    proptest! {
        // Paths down to the last bit make a case slow.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_tree_agrees_with_the_rule_under_any_changes(
            batches in prop::collection::vec(prop::collection::vec((0u16..300, prop::option::weighted(0.7, any::<[u8; 32]>())), 0..40), 1..8),
        ) {
            let mut tree = Tree::new();
            let mut model = BTreeMap::new();
            for batch in batches {
                let before = (tree.clone(), tree.root());
                tree = tree.update(batch.iter().map(|(k, v)| (key(*k), *v)).collect());
                for (k, v) in &batch {
                    match v {
                        Some(v) => model.insert(key(*k), *v),
                        None => model.remove(&key(*k)),
                    };
                }
                let records: Vec<_> = model.iter().map(|(k, v)| (*k, *v)).collect();
                let root = slow_root(&records, 0);
                prop_assert_eq!(tree.root(), root);
                for depth in [0u8, 1, 5, 9] {
                    let branches = tree.branches(depth);
                    prop_assert_eq!(branches.len(), 1 << depth);
                    prop_assert_eq!(Branch::above(&branches).unwrap().hash(), root);
                    for (prefix, branch) in (0u32..).zip(&branches) {
                        let below = records.iter().filter(|(key, _)| first_bits(key, depth) == prefix);
                        let below = below.map(|(key, value)| (*key, Some(*value))).collect();
                        prop_assert_eq!(Branch::over(depth, below), *branch);
                    }
                }
                // The older version is untouched.
                prop_assert_eq!(before.0.root(), before.1);
                for i in 0..300 {
                    let k = key(i);
                    let proof = tree.prove(&k);
                    match model.get(&k) {
                        Some(v) => {
                            prop_assert_eq!(proof.verify_present(&k, v, &root), Ok(()));
                            prop_assert!(proof.verify_absent(&k, &root).is_err());
                        }
                        None => {
                            prop_assert_eq!(proof.verify_absent(&k, &root), Ok(()));
                            prop_assert!(proof.verify_present(&k, &[1; 32], &root).is_err());
                        }
                    }
                }
            }
        }
    }
}
