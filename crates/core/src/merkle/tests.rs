use super::*;
use proptest::prelude::*;

fn leaf(i: u64) -> Hash {
    sha256(&i.to_be_bytes())
}

/// RFC 6962 §2.1 as it is written there: split at the largest power of two below n.
fn slow_tree(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => [0; 32],
        [one] => *one,
        many => {
            let mut split = 1;
            while split * 2 < many.len() {
                split *= 2;
            }
            node_hash(&slow_tree(&many[..split]), &slow_tree(&many[split..]))
        }
    }
}

fn slow_root(leaves: &[Hash]) -> Hash {
    Tag::MerkleRoot.hash(&[&(leaves.len() as u64).to_be_bytes(), &slow_tree(leaves)])
}

fn make(leaves: &[Hash], from: u64, to: u64) -> RangeProof {
    RangeProof::make::<MerkleError>(leaves.len() as u64, from, to, |level, index| {
        let at = (index << level) as usize;
        Ok(slow_tree(&leaves[at..at + (1 << level)]))
    })
    .unwrap()
}

#[test]
fn roots_agree_with_the_rfc_for_every_small_count() {
    for n in 0..130u64 {
        let leaves: Vec<Hash> = (0..n).map(leaf).collect();
        assert_eq!(
            root_of(leaves.iter().copied()),
            slow_root(&leaves),
            "{n} leaves"
        );
    }
}

#[test]
fn a_frontier_has_a_peak_for_each_bit_of_its_count() {
    let mut frontier = Frontier::new();
    for n in 0..70u64 {
        assert_eq!(frontier.count(), n);
        let leaves: Vec<Hash> = (0..n).map(leaf).collect();
        let peaks = left_subtrees(n).into_iter().map(|(level, index)| {
            let at = (index << level) as usize;
            slow_tree(&leaves[at..at + (1 << level)])
        });
        assert_eq!(frontier.peaks(), peaks.collect::<Vec<_>>());
        let again = Frontier::from_parts(n, frontier.peaks().to_vec());
        assert_eq!(again.as_ref(), Ok(&frontier));
        frontier.push(leaf(n), |_, _, _| ()).unwrap();
    }
}

#[test]
fn no_range_is_made_that_is_not_inside_the_tree() {
    let leaves: Vec<Hash> = (0..5).map(leaf).collect();
    for (from, to) in [(3, 2), (2, 6), (6, 6), (6, 5)] {
        let made =
            RangeProof::make::<MerkleError>(5, from, to, |_, index| Ok(leaves[index as usize % 5]));
        assert_eq!(made, Err(MerkleError::OutOfRange { from, to, count: 5 }));
    }
}

#[test]
fn completed_nodes_are_reported_with_their_place() {
    let leaves: Vec<Hash> = (0..64).map(leaf).collect();
    let mut frontier = Frontier::new();
    let mut seen = 0;
    for l in &leaves {
        frontier
            .push(*l, |level, index, hash| {
                let at = (index << level) as usize;
                assert_eq!(*hash, slow_tree(&leaves[at..at + (1 << level)]));
                seen += 1;
            })
            .unwrap();
    }
    assert_eq!(seen, 63);
}

#[test]
fn a_full_tree_refuses_more() {
    let mut full = Frontier::from_parts(u64::MAX, vec![[1; 32]; 64]).unwrap();
    assert_eq!(full.push([0; 32], |_, _, _| ()), Err(MerkleError::Full));
}

#[test]
fn compat_root_of_nothing_is_zero_and_odd_nodes_are_promoted() {
    assert_eq!(compat_root(&[]), [0; 32]);
    assert_eq!(compat_root(&[leaf(1)]), leaf(1));
    let pair = sha256(&[leaf(1), leaf(2)].concat());
    assert_eq!(
        compat_root(&[leaf(1), leaf(2), leaf(3)]),
        sha256(&[pair, leaf(3)].concat())
    );
}

#[test]
fn a_proof_has_as_few_hashes_as_the_module_says() {
    let mut widest = 0;
    for n in 1..=130u64 {
        let bits = (u64::BITS - n.leading_zeros()) as usize;
        for to in 0..=n {
            let right = right_subtrees(to, n).unwrap().len();
            assert!(right <= 2 * (bits - 1).max(1), "{to} of {n}: {right} right");
            for from in 0..=to {
                let left = left_subtrees(from).len();
                let all = left + right;
                assert!(left <= bits, "{from} of {n}: {left} left");
                assert!(
                    all <= bits.max(3 * (bits - 1)),
                    "{from}..{to} of {n}: {all}"
                );
                if to - from <= 1 {
                    assert!(all <= 2 * bits, "{from}..{to} of {n}: {all}");
                }
                if n == 127 {
                    widest = widest.max(all);
                }
            }
        }
    }
    // 31..33 of 127: 5 left, 5 up to 64, 6 down from there.
    assert_eq!(widest, 16);
    let right = |from, to| right_subtrees(from, to).map(|all| all.len());
    assert_eq!(right(1, u64::MAX), Some(126));
    assert_eq!(right(2, 1), None);
}

proptest! {
    #[test]
    fn every_range_proves_and_every_lie_fails(n in 1u64..300, a: prop::sample::Index, b: prop::sample::Index, lie: prop::sample::Index) {
        let leaves: Vec<Hash> = (0..n).map(leaf).collect();
        let (a, b) = (a.index(n as usize + 1) as u64, b.index(n as usize + 1) as u64);
        let (from, to) = (a.min(b), a.max(b));
        let proof = make(&leaves, from, to);
        let shown = &leaves[from as usize..to as usize];
        let root = slow_root(&leaves);
        prop_assert_eq!(proof.verify(shown, &root), Ok(()));
        prop_assert_eq!(RangeProof::from_bytes(&proof.to_bytes()), Ok(proof.clone()));

        // Another leaf, one leaf fewer, one more, another place, another count.
        if !shown.is_empty() {
            let mut other = shown.to_vec();
            other[lie.index(shown.len())] = leaf(n + 7);
            prop_assert!(proof.verify(&other, &root).is_err());
            prop_assert!(proof.verify(&shown[1..], &root).is_err());
        }
        let mut longer = shown.to_vec();
        longer.push(leaf(n + 1));
        prop_assert!(proof.verify(&longer, &root).is_err());
        for moved in [proof.from.wrapping_add(1), proof.from.wrapping_sub(1)] {
            let lie = RangeProof { from: moved, ..proof.clone() };
            prop_assert!(lie.verify(shown, &root).is_err());
        }
        for count in [n - 1, n + 1, u64::MAX] {
            let lie = RangeProof { count, ..proof.clone() };
            prop_assert!(lie.verify(shown, &root).is_err());
        }
    }

    #[test]
    fn growth_is_proved_and_rewriting_is_refused(m in 0u64..200, more in 0u64..200, at: prop::sample::Index) {
        let n = m + more;
        let leaves: Vec<Hash> = (0..n).map(leaf).collect();
        let mut old = Frontier::new();
        for l in &leaves[..m as usize] {
            old.push(*l, |_, _, _| ()).unwrap();
        }
        let right = make(&leaves, m, m).right;
        let proof = ConsistencyProof { old: old.clone(), new_count: n, right };
        prop_assert_eq!(proof.verify(&old.root(), &slow_root(&leaves)), Ok(()));
        prop_assert_eq!(ConsistencyProof::from_bytes(&proof.to_bytes()), Ok(proof.clone()));
        if m > 0 {
            let mut rewritten = leaves.clone();
            rewritten[at.index(m as usize)] = leaf(1 << 40);
            prop_assert!(proof.verify(&old.root(), &slow_root(&rewritten)).is_err());
        }
    }

    #[test]
    fn hostile_proof_bytes_never_panic(bytes: Vec<u8>, leaves in prop::collection::vec(any::<[u8; 32]>(), 0..4)) {
        if let Ok(proof) = RangeProof::from_bytes(&bytes) {
            let _ = proof.verify(&leaves, &[0; 32]);
            prop_assert_eq!(proof.to_bytes(), bytes.clone());
        }
        if let Ok(proof) = ConsistencyProof::from_bytes(&bytes) {
            let _ = proof.verify(&[0; 32], &[0; 32]);
        }
    }
}
