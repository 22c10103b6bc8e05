//! What a node claims about its chain: headers, heads, entries, proofs.

use super::{Target, codec, decode, seeds};
use session_chain::tree::Tree;
use session_core::codec::Encode;
use session_core::header::{Header, SIGNATURE_LEN, SignedHead};
use session_core::ids::{
    AccountId, ActionId, BlockId, ChainId, Digest, GroupId, MessageId, SessionId, TxId,
};
use session_core::log::{
    AdvanceEntry, Conversation, Entry, LogId, MembershipEntry, MembershipEvent, MessageEntry,
    PostEntry, leaf_of,
};
use session_core::merkle::{ConsistencyProof, Frontier, Hash, MerkleError, RangeProof, node_hash};
use session_core::proof::{LogRange, Proof};
use session_core::record::{RecordKey, value_hash};
use session_core::session::Session;
use session_core::state_proof::StateProof;
use session_core::time::Time;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "header",
        run: |bytes| {
            let header: Option<Header> = decode(bytes);
            header.is_some_and(|header| header.id() == header.id())
        },
        seeds: || seeds([header([3; 32])]),
    },
    Target {
        name: "signed_head",
        run: codec::<SignedHead>,
        seeds: || seeds([head(&header([3; 32]))]),
    },
    Target {
        name: "entry",
        run: codec::<Entry>,
        seeds: || seeds((0..2).flat_map(|n| [message(n), membership(n), post(n), advance(n)])),
    },
    Target {
        name: "log_id",
        run: codec::<LogId>,
        seeds: || {
            let account = AccountId::from_bytes([2; 32]);
            let group = GroupId::from_bytes([3; 32]);
            seeds([
                LogId::Session(SESSION),
                LogId::Requests(account),
                LogId::Group(group),
            ])
        },
    },
    Target {
        name: "range_proof",
        run: |bytes| {
            let Some(proof) = decode::<RangeProof>(bytes) else {
                return false;
            };
            // Any number of leaves may be claimed for it; none of them may upset it.
            for leaves in 0..4 {
                let _ = proof.verify(&vec![[1; 32]; leaves], &[2; 32]);
            }
            true
        },
        seeds: || {
            let leaves: Vec<Hash> = (0..11).map(|n| leaf_of(&[n])).collect();
            let ranges = [(0, 0), (0, 11), (3, 4), (5, 9), (10, 11)];
            let proofs = ranges.map(|(from, to)| range(&leaves, from, to));
            seeds(proofs.into_iter().flatten())
        },
    },
    Target {
        name: "consistency_proof",
        run: |bytes| {
            let Some(proof) = decode::<ConsistencyProof>(bytes) else {
                return false;
            };
            let _ = proof.verify(&proof.old.root(), &[2; 32]);
            true
        },
        seeds: || {
            let leaves: Vec<Hash> = (0..11).map(|n| leaf_of(&[n])).collect();
            let old = frontier(leaves.iter().take(5));
            // A range of nothing after the old leaves ends in the same subtrees.
            let right = range(&leaves, 5, 5).map_or(Vec::new(), |proof| proof.right);
            seeds([ConsistencyProof {
                old,
                new_count: 11,
                right,
            }])
        },
    },
    Target {
        name: "state_proof",
        run: |bytes| {
            let Some(proof) = decode::<StateProof>(bytes) else {
                return false;
            };
            let _ = proof.verify_absent(&[1; 32], &[2; 32]);
            if let Some(leaf) = proof.leaf {
                let _ = proof.verify_present(&leaf.key, &leaf.value_hash, &[2; 32]);
            }
            true
        },
        seeds: || {
            let (tree, keys) = tree(&[]);
            seeds(keys.iter().chain([&[7; 32]]).map(|key| tree.prove(key)))
        },
    },
    Target {
        name: "proof",
        run: |bytes| {
            let Some(proof) = decode::<Proof>(bytes) else {
                return false;
            };
            if let Ok(proved) = proof.verify() {
                assert!(proved.header == proof.header, "proved for another header");
                assert!(proved.record == proof.record, "proved for another record");
            }
            true
        },
        seeds: || seeds([presence(), absence()]),
    },
];

const SESSION: SessionId = SessionId::from_bytes([6; 32]);

fn header(state_root: Hash) -> Header {
    Header {
        chain: ChainId::from_bytes([1; 32]),
        parent: BlockId::from_bytes([2; 32]),
        height: 7,
        time: Time::from_ms(1_763_000_000_000),
        tx_root: [4; 32],
        count: 3,
        state_root,
    }
}

fn head(header: &Header) -> SignedHead {
    SignedHead {
        chain: header.chain,
        height: header.height,
        block: header.id(),
        signed_at: header.time,
        key: Digest::from_bytes([5; 32]),
        signature: Box::new([6; SIGNATURE_LEN]),
    }
}

fn message(sequence: u64) -> Entry {
    Entry::Message(MessageEntry {
        sequence,
        time: Time::from_ms(8),
        height: 7,
        id: MessageId::from_bytes([1; 32]),
        sender: AccountId::from_bytes([2; 32]),
        body_hash: Digest::from_bytes([3; 32]),
        signature_hash: Digest::from_bytes([4; 32]),
        verified: sequence == 0,
    })
}

fn post(sequence: u64) -> Entry {
    Entry::Post(PostEntry {
        sequence,
        time: Time::from_ms(8),
        height: 7,
        id: MessageId::from_bytes([1; 32]),
        epoch: 9,
        body_hash: Digest::from_bytes([3; 32]),
        signature_hash: Digest::from_bytes([4; 32]),
    })
}

fn advance(sequence: u64) -> Entry {
    Entry::Advance(AdvanceEntry {
        sequence,
        time: Time::from_ms(8),
        height: 7,
        action: ActionId::from_bytes([5; 32]),
        epoch: 10,
        commit: Digest::from_bytes([6; 32]),
        removal: sequence == 0,
        admin: (sequence == 0).then_some(Digest::from_bytes([7; 32])),
        tx: TxId::from_bytes([8; 32]),
    })
}

fn membership(sequence: u64) -> Entry {
    Entry::Membership(MembershipEntry {
        sequence,
        time: Time::from_ms(9),
        event: MembershipEvent::Requested,
        conversation: Conversation::Session(SESSION),
        by: (sequence == 0).then_some(AccountId::from_bytes([2; 32])),
    })
}

fn frontier<'a>(leaves: impl IntoIterator<Item = &'a Hash>) -> Frontier {
    let mut frontier = Frontier::new();
    for leaf in leaves {
        let _ = frontier.push(*leaf, |_, _, _| ());
    }
    frontier
}

fn range(leaves: &[Hash], from: u64, to: u64) -> Option<RangeProof> {
    let node = |level: u32, index: u64| -> Result<Hash, MerkleError> {
        let first = usize::try_from(index << level).unwrap_or(usize::MAX);
        let below = leaves.get(first..first.saturating_add(1 << level));
        let mut layer = below.ok_or(MerkleError::Full)?.to_vec();
        while let [_, _, ..] = layer.as_slice() {
            let (pairs, _) = layer.as_chunks::<2>();
            layer = pairs
                .iter()
                .map(|[left, right]| node_hash(left, right))
                .collect();
        }
        layer.first().copied().ok_or(MerkleError::Full)
    };
    RangeProof::make(leaves.len() as u64, from, to, node).ok()
}

/// A state tree of twelve records, one of which is `record` under the session's key.
fn tree(record: &[u8]) -> (Tree, Vec<Hash>) {
    let accounts = (0..11).map(|n| RecordKey::Account(AccountId::from_bytes([n; 32])));
    let mut keys: Vec<Hash> = accounts.map(|key| key.tree_key()).collect();
    keys.push(RecordKey::Session(SESSION).tree_key());
    let changes = keys.iter().map(|key| (*key, Some(value_hash(record))));
    (Tree::new().update(changes.collect()), keys)
}

fn presence() -> Proof {
    let entries: Vec<Vec<u8>> = (0..5).map(|n| message(n).to_bytes()).collect();
    let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_of(entry)).collect();
    let record = Session {
        log: frontier(&leaves),
        ..super::record::session()
    }
    .to_bytes();
    let (tree, _) = tree(&record);
    let (key, header) = (RecordKey::Session(SESSION), header(tree.root()));
    Proof {
        header,
        heads: vec![head(&header)],
        key,
        path: tree.prove(&key.tree_key()),
        record: Some(record),
        log: range(&leaves, 1, 4).map(|range| LogRange {
            log: LogId::Session(SESSION),
            range,
            entries: entries.into_iter().skip(1).take(3).collect(),
        }),
    }
}

fn absence() -> Proof {
    let (tree, _) = tree(&[]);
    let key = RecordKey::Parameters;
    Proof {
        header: header(tree.root()),
        heads: Vec::new(),
        key,
        path: tree.prove(&key.tree_key()),
        record: None,
        log: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_proofs_and_not_only_their_shape() {
        let proved = presence().verify().unwrap();
        assert_eq!(proved.entries.unwrap().entries.len(), 3);
        assert!(absence().verify().unwrap().record.is_none());
    }
}
