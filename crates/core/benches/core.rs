//! Ids as text, and the Merkle tree of a log. `cargo bench -p session-core`.
//!
//! Compare the fastest column: it is the one without neighbours.
#![allow(
    clippy::unwrap_used,
    missing_docs,
    reason = "a measurement that cannot go on stops"
)]

use divan::{Bencher, black_box};
use session_core::merkle::Hash;

fn main() {
    divan::main();
}

/// An id like any other: no leading zeros.
const ID: Hash = [0xa7; 32];

mod cb58 {
    use super::*;
    use session_core::cb58::{decode, encode};
    use session_core::hash::sha256;

    #[divan::bench]
    fn encode_ours() {
        black_box(encode(black_box(&ID)).as_str());
    }

    #[divan::bench]
    fn encode_bs58() -> String {
        let id = black_box(&ID);
        let [.., a, b, c, d] = sha256(id);
        bs58::encode([id.as_slice(), &[a, b, c, d]].concat()).into_string()
    }

    #[divan::bench]
    fn decode_ours(bencher: Bencher<'_, '_>) {
        let text = encode(&ID);
        bencher.bench(|| decode(black_box(text.as_str())).unwrap());
    }

    #[divan::bench]
    fn decode_bs58(bencher: Bencher<'_, '_>) {
        let text = encode(&ID);
        bencher.bench(|| {
            let bytes = bs58::decode(black_box(text.as_str())).into_vec().unwrap();
            let (payload, sum) = bytes.split_last_chunk::<4>().unwrap();
            assert!(sha256(payload).ends_with(sum));
            bytes
        });
    }
}

mod merkle {
    use super::*;
    use session_core::merkle::{Frontier, MerkleError, RangeProof, node_hash};

    const LEAVES: u64 = 1_000_000;
    const RANGE: u64 = 1_000;

    fn leaves(from: u64, to: u64) -> Vec<Hash> {
        let leaf = |i: u64| {
            let mut leaf = [7; 32];
            leaf.get_mut(..8).unwrap().copy_from_slice(&i.to_be_bytes());
            leaf
        };
        (from..to).map(leaf).collect()
    }

    #[divan::bench]
    fn one_node_hash() -> Hash {
        node_hash(black_box(&ID), black_box(&ID))
    }

    /// Mean of a thousand, since one append costs between no and twenty hashes.
    #[divan::bench]
    fn push_1_000(bencher: Bencher<'_, '_>) {
        let leaves = leaves(0, RANGE);
        bencher.bench(|| {
            let mut frontier = Frontier::new();
            for leaf in &leaves {
                frontier.push(*leaf, |_, _, _| ()).unwrap();
            }
            frontier
        });
    }

    /// A range in the middle of a million leaves, all nodes at hand.
    fn proof() -> (RangeProof, Vec<Hash>, Vec<Vec<Hash>>) {
        let mut levels = vec![leaves(0, LEAVES)];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let pairs = below.as_chunks::<2>().0;
            let above = pairs.iter().map(|[l, r]| node_hash(l, r)).collect();
            levels.push(above);
        }
        let from = LEAVES / 2 + 13;
        let proof = make(&levels, from);
        (proof, leaves(from, from + RANGE), levels)
    }

    fn make(levels: &[Vec<Hash>], from: u64) -> RangeProof {
        let node = |level: u32, index: u64| -> Result<Hash, MerkleError> {
            let level = levels.get(usize::try_from(level).unwrap());
            let index = usize::try_from(index).unwrap();
            Ok(*level.unwrap().get(index).unwrap())
        };
        RangeProof::make(LEAVES, from, from + RANGE, node).unwrap()
    }

    #[divan::bench(sample_count = 20)]
    fn make_range_of_1_000_in_1_000_000(bencher: Bencher<'_, '_>) {
        let (proof, _, levels) = proof();
        bencher.bench(|| make(&levels, black_box(proof.from)));
    }

    #[divan::bench(sample_count = 20)]
    fn verify_range_of_1_000_in_1_000_000(bencher: Bencher<'_, '_>) {
        let (proof, leaves, _) = proof();
        bencher.bench(|| proof.frontier(black_box(&leaves)).unwrap().root());
    }
}
