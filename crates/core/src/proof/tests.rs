use super::*;
use crate::header::SIGNATURE_LEN;
use crate::ids::{AccountId, BlockId, ChainId, SessionId};
use crate::log::{Conversation, MembershipEntry, MembershipEvent};
use crate::state_proof::{PathLeaf, inner_hash, leaf_hash};
use crate::time::Time;

const ACCOUNT: AccountId = AccountId::from_bytes([3; 32]);

fn entry(sequence: u64) -> Entry {
    Entry::Membership(MembershipEntry {
        sequence,
        time: Time::from_ms(sequence * 10),
        event: MembershipEvent::Created,
        conversation: Conversation::Session(SessionId::from_bytes([9; 32])),
        by: Some(ACCOUNT),
    })
}

/// Memberships `from..to` of an account with `count`, beside one other record in the state.
fn proof(count: u64, from: u64, to: u64) -> Proof {
    let leaves: Vec<Hash> = (0..count).map(|n| entry(n).leaf()).collect();
    let mut account = Account::default();
    for leaf in &leaves {
        account.memberships.push(*leaf, |_, _, _| ()).unwrap();
    }
    let range = RangeProof::make::<MerkleError>(count, from, to, |level, index| {
        let mut part = Frontier::new();
        for leaf in &leaves[(index << level) as usize..][..1 << level] {
            part.push(*leaf, |_, _, _| ())?;
        }
        Ok(part.peaks()[0])
    });
    let key = RecordKey::Account(ACCOUNT);
    let record = account.to_bytes();
    let leaf = PathLeaf {
        key: key.tree_key(),
        value_hash: value_hash(&record),
    };
    let (own, sibling) = (leaf_hash(&leaf.key, &leaf.value_hash), [5; 32]);
    let state_root = if crate::state_proof::key_bit(&leaf.key, 0) {
        inner_hash(&sibling, &own)
    } else {
        inner_hash(&own, &sibling)
    };
    let header = Header {
        chain: ChainId::from_bytes([1; 32]),
        parent: BlockId::from_bytes([2; 32]),
        height: 7,
        time: Time::from_ms(8),
        tx_root: [4; 32],
        count: 1,
        state_root,
    };
    let head = SignedHead {
        chain: header.chain,
        height: header.height,
        block: header.id(),
        signed_at: Time::from_ms(9),
        key: crate::ids::Digest::from_bytes([7; 32]),
        signature: Box::new([6; SIGNATURE_LEN]),
    };
    Proof {
        header,
        heads: vec![head],
        key,
        record: Some(record),
        path: StateProof {
            siblings: vec![sibling],
            leaf: Some(leaf),
        },
        log: Some(LogRange {
            log: LogId::Memberships(ACCOUNT),
            range: range.unwrap(),
            entries: (from..to).map(|n| entry(n).to_bytes()).collect(),
        }),
    }
}

#[test]
fn a_proof_tells_the_entries_their_place_and_the_whole_log() {
    for (count, from, to) in [
        (0, 0, 0),
        (1, 0, 1),
        (7, 0, 7),
        (7, 2, 5),
        (9, 9, 9),
        (11, 10, 11),
    ] {
        let proof = proof(count, from, to);
        let read = Proof::from_bytes(&proof.to_bytes());
        assert_eq!(read.as_ref(), Ok(&proof));
        let proved = proof.verify().unwrap();
        assert_eq!((proved.header, proved.key), (proof.header, proof.key));
        assert_eq!(proved.record, proof.record);
        let entries = proved.entries.unwrap();
        assert_eq!((entries.from, entries.count), (from, count));
        assert_eq!(entries.entries, (from..to).map(entry).collect::<Vec<_>>());
        assert_eq!(entries.frontier.count(), count);
        assert_eq!(entries.log, LogId::Memberships(ACCOUNT));
    }
}

#[test]
fn no_bit_after_the_header_can_be_another_one() {
    let proof = proof(11, 3, 6);
    let bytes = proof.to_bytes();
    let header = 1 + proof.header.to_bytes().len();
    // Time, key and signature of a head are for those who have the key: here they are bytes.
    let heads = header + 4 + proof.heads[0].to_bytes().len();
    let signed = heads - SIGNATURE_LEN - 32 - 8..heads;
    for at in (header..bytes.len()).filter(|at| !signed.contains(at)) {
        let mut bent = bytes.clone();
        bent[at] ^= 1 << (at % 8);
        let verdict = Proof::from_bytes(&bent).map(|proof| proof.verify().is_ok());
        assert_ne!(verdict, Ok(true), "byte {at} of {}", bytes.len());
        assert!(Proof::from_bytes(&bytes[..at]).is_err());
    }
}

#[test]
fn each_lie_has_its_name() {
    let honest = proof(7, 2, 5);
    let lie = |bend: &dyn Fn(&mut Proof)| {
        let mut proof = honest.clone();
        bend(&mut proof);
        proof.verify().unwrap_err()
    };
    assert_eq!(lie(&|p| p.heads[0].height += 1), ProofError::OtherHead);
    assert_eq!(
        lie(&|p| p.heads[0].chain = ChainId::from_bytes([9; 32])),
        ProofError::OtherHead
    );
    assert_eq!(
        lie(&|p| p.heads[0].block = BlockId::from_bytes([9; 32])),
        ProofError::OtherHead
    );
    assert!(matches!(lie(&|p| p.record = None), ProofError::State(_)));
    let other = |log| move |p: &mut Proof| p.log.as_mut().unwrap().log = log;
    let stranger = LogId::Memberships(AccountId::from_bytes([8; 32]));
    assert_eq!(lie(&other(stranger)), ProofError::OtherLog);
    // Another log of the same record has another frontier.
    assert_eq!(
        lie(&other(LogId::Requests(ACCOUNT))),
        ProofError::OtherFrontier
    );
    let drop_one = |p: &mut Proof| drop(p.log.as_mut().unwrap().entries.pop());
    assert!(matches!(
        lie(&drop_one),
        ProofError::Log(_) | ProofError::OtherFrontier
    ));
    let swap = |p: &mut Proof| p.log.as_mut().unwrap().entries.swap(0, 1);
    assert_eq!(lie(&swap), ProofError::OtherFrontier);
}

#[test]
fn an_entry_that_the_log_holds_at_a_place_it_does_not_name_is_refused() {
    // A log whose maker numbered its entries wrongly, consistently proved.
    let wrong = entry(5);
    let mut account = Account::default();
    account
        .memberships
        .push(wrong.leaf(), |_, _, _| ())
        .unwrap();
    let mut proof = proof(1, 0, 1);
    let record = account.to_bytes();
    let leaf = PathLeaf {
        key: proof.key.tree_key(),
        value_hash: value_hash(&record),
    };
    proof.header.state_root = leaf_hash(&leaf.key, &leaf.value_hash);
    proof.path = StateProof {
        siblings: Vec::new(),
        leaf: Some(leaf),
    };
    proof.record = Some(record);
    proof.heads.clear();
    proof.log.as_mut().unwrap().entries = vec![wrong.to_bytes()];
    let said = ProofError::OutOfPlace { at: 0, sequence: 5 };
    assert_eq!(proof.verify(), Err(said));
}

#[test]
fn another_version_and_too_much_of_anything_are_refused_before_memory_is_taken() {
    let mut bytes = proof(1, 0, 1).to_bytes();
    bytes[0] = 2;
    let what = "proof version";
    let unknown = DecodeError::UnknownValue { what, value: 2 };
    assert_eq!(Proof::from_bytes(&bytes), Err(unknown));
    bytes[0] = PROOF_VERSION;
    let heads = 1 + proof(1, 0, 1).header.to_bytes().len();
    bytes[heads..heads + 4].copy_from_slice(&u32::MAX.to_be_bytes());
    assert!(matches!(
        Proof::from_bytes(&bytes),
        Err(DecodeError::TooLong {
            what: "proof heads",
            ..
        })
    ));
}
