//! Proofs made from the state, read back from bytes, and every way of bending them.

use session_chain::proof::{MakeError, State};
use session_chain::view::{MemoryView, Table};
use session_core::codec::{Decode, Encode};
use session_core::ids::{AccountId, ActionId, ChannelId, ChunkId, GroupId, SessionId};
use session_core::log::{Conversation, LogId};
use session_core::proof::{Proof, Proved};
use session_core::record::RecordKey;

use super::people::Chance;
use super::state::Model;

fn reread(proof: &Proof) -> Proved {
    let bytes = proof.to_bytes();
    let proof = Proof::from_bytes(&bytes).expect("what was made decodes");
    assert_eq!(proof.to_bytes(), bytes);
    proof.verify().expect("what was made verifies")
}

/// Every record is provable, and what is not there is provably absent.
pub(crate) fn records_are_provable(state: &State<'_>, view: &MemoryView, chance: &mut Chance) {
    let records = view
        .cells()
        .iter()
        .filter(|((table, _), _)| *table == Table::Record);
    for ((_, key), record) in records {
        let key = RecordKey::from_bytes(key).unwrap();
        let proved = reread(&state.prove_record(key).unwrap());
        assert_eq!((proved.key, proved.header), (key, state.header));
        assert_eq!(proved.record.as_ref(), Some(record));
    }
    for _ in 0..8 {
        let (a, b) = (chance.bytes(), chance.bytes());
        let account = AccountId::from_bytes(a);
        for key in [
            RecordKey::Account(account),
            RecordKey::Session(SessionId::from_bytes(a)),
            RecordKey::Member(ChannelId::from_bytes(b), account),
            RecordKey::Chunk(ChunkId::from_bytes(a)),
            RecordKey::Group(GroupId::from_bytes(a)),
            RecordKey::KeyPackages(account),
            RecordKey::TakenKeyPackages(account, AccountId::from_bytes(b)),
            RecordKey::Action(ActionId::from_bytes(b)),
            RecordKey::Acknowledgement(Conversation::Session(SessionId::from_bytes(b)), account),
        ] {
            let mut proof = state.prove_record(key).unwrap();
            assert_eq!(reread(&proof).record, None);
            // The same path does not prove anything to be there.
            proof.record = Some(vec![1]);
            assert!(proof.verify().is_err());
        }
    }
}

/// Random ranges of every log, and ranges that are none.
pub(crate) fn logs_are_provable(state: &State<'_>, model: &Model, chance: &mut Chance) {
    let mut logs: Vec<(LogId, u64, u64)> = Vec::new();
    for (id, s) in &model.sessions {
        logs.push((LogId::Session(*id), s.log.len() as u64, 0));
    }
    for (id, c) in &model.channels {
        logs.push((LogId::Channel(*id), c.log.len() as u64, c.dropped as u64));
    }
    for (id, g) in &model.groups {
        logs.push((LogId::Group(*id), g.log.len() as u64, g.dropped as u64));
    }
    for (id, a) in &model.accounts {
        logs.push((LogId::Memberships(*id), a.memberships.len() as u64, 0));
        logs.push((LogId::Requests(*id), a.requests.len() as u64, 0));
    }
    for (log, count, dropped) in logs {
        if dropped > 0 {
            let gone = chance.below(dropped as usize) as u64;
            let refused = state.prove_log(log, gone, gone + 1);
            assert!(matches!(refused, Err(MakeError::Pruned { first }) if first == dropped));
        }
        let from = dropped + chance.below((count - dropped) as usize + 1) as u64;
        let most = session_core::limits::PROOF_LEAVES_MAX;
        let to = from + chance.below(most.min((count - from) as usize + 2)) as u64;
        let proof = state.prove_log(log, from, to).unwrap();
        let proved = reread(&proof).entries.unwrap();
        assert_eq!((proved.log, proved.from, proved.count), (log, from, count));
        assert_eq!(proved.entries.len() as u64, to.min(count) - from);
        let record = proof.record.as_ref().unwrap();
        let frontier = session_core::proof::frontier_of(&log, record).unwrap();
        assert_eq!(proved.frontier, frontier);
        let beyond = state.prove_log(log, count + 1, count + 2);
        assert!(matches!(beyond, Err(MakeError::Range(_))));
        assert!(
            reread(&state.prove_growth(log, from).unwrap())
                .entries
                .is_some()
        );
        if chance.one_in(40) {
            no_byte_can_be_bent(&proof, 1 + chance.below(7));
        }
    }
    let nobody = LogId::Requests(AccountId::from_bytes(chance.bytes()));
    assert!(matches!(
        state.prove_log(nobody, 0, 1),
        Err(MakeError::Absent)
    ));
}

/// With one byte changed a proof is refused, or is about another block: one that nobody signed.
fn no_byte_can_be_bent(proof: &Proof, step: usize) {
    let bytes = proof.to_bytes();
    for at in (0..bytes.len()).step_by(step) {
        let mut bent = bytes.clone();
        bent[at] ^= 1 << (at % 8);
        let Ok(other) = Proof::from_bytes(&bent) else {
            continue;
        };
        assert_ne!(&other, proof, "byte {at} says nothing");
        if let Ok(proved) = other.verify() {
            assert_ne!(
                proved.header.id(),
                proof.header.id(),
                "byte {at} may be bent"
            );
        }
    }
}
