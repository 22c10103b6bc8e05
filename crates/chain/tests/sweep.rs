//! Work by time when there is more of it than one block does.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    dead_code,
    reason = "in a test a panic is the verdict; people have more to them than one test asks"
)]

#[path = "model/chain.rs"]
mod chain;
#[path = "model/people.rs"]
mod people;

use std::collections::BTreeMap;

use chain::{Chain, with};
use people::Person;
use session_chain::state::TxError;
use session_chain::tx::Kind;
use session_chain::tx::channel::{ChannelMembers, CloseChannel, CreateChannel, MemberChange};
use session_chain::tx::message::{AcknowledgeMessages, SendMessage};
use session_chain::tx::session::{AcceptSession, CreateSession};
use session_chain::view::Table;
use session_core::channel::Role;
use session_core::ids::{AccountId, ChannelId, SessionId};
use session_core::limits::SWEEP_MAX;
use session_core::log::Conversation;
use session_core::parameters::Parameters;
use session_core::record::{Outcome, RecordKey};
use session_core::time::HOUR_MS;

fn chain() -> Chain {
    let parameters = Parameters {
        session_ttl_ms: HOUR_MS,
        retention_ms: HOUR_MS,
        ..Parameters::default()
    };
    Chain::new(parameters, BTreeMap::new())
}

fn session_of(outcome: &Outcome) -> SessionId {
    let Outcome::Session(id) = outcome else {
        panic!("{outcome:?}")
    };
    *id
}

fn open(chain: &mut Chain, a: &Person, b: &Person) -> SessionId {
    let mut participants = vec![with(a), with(b)];
    participants.sort_by_key(|p| p.account);
    let tx = chain.tx(a, Kind::CreateSession(CreateSession { participants }));
    session_of(&chain.done(vec![tx])[0])
}

#[test]
fn a_session_larger_than_the_budget_goes_over_several_blocks() {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut chain = chain();
    chain.register(&[&alice, &bob]);
    let big = open(&mut chain, &alice, &bob);
    let small = open(&mut chain, &alice, &bob);
    let conversation = Conversation::Session(big);
    let leaves = 2 * SWEEP_MAX as u64 + 300;
    chain.fill(&alice, conversation, leaves);
    let up_to = 5;
    let ack = AcknowledgeMessages {
        conversation,
        up_to,
    };
    let accept = AcceptSession { session: big };
    let txs = vec![
        chain.tx(&bob, Kind::AcceptSession(accept)),
        chain.tx(&bob, Kind::AcknowledgeMessages(ack)),
    ];
    chain.done(txs);
    // One request of alice to bob is still open: the small session.
    assert!(chain.has(RecordKey::OpenRequests(alice.account, bob.account)));
    assert_eq!(chain.count(Table::Message) as u64, leaves);

    let retry = chain.tx(
        &alice,
        Kind::AcceptSession(AcceptSession { session: small }),
    );
    let mut blocks = 0;
    let mut left = chain.view.cells().len();
    let mut wait = 3 * HOUR_MS;
    while chain.count(Table::Deadline) > 0 {
        // Meanwhile nobody can write to what is half gone, and a half-gone log gives nothing back.
        let ciphertext = 0u64.to_be_bytes().to_vec();
        let late = Kind::SendMessage(SendMessage {
            conversation,
            ciphertext,
        });
        let txs = vec![chain.tx(&alice, late)];
        let (built, refused) = chain.block(wait, txs);
        assert_eq!(refused.len(), 1, "{:?}", built.applied);
        wait = 1;
        let now = chain.view.cells().len();
        assert!(now < left, "every block makes progress");
        assert!(
            left - now <= 5 * SWEEP_MAX,
            "no block does more than its share"
        );
        left = now;
        blocks += 1;
        assert!(blocks < 10);
    }
    assert_eq!(blocks, 3);
    assert!(!chain.has(RecordKey::Session(big)) && !chain.has(RecordKey::Session(small)));
    assert!(!chain.has(RecordKey::OpenRequests(alice.account, bob.account)));
    for table in [Table::Message, Table::Body, Table::Roster] {
        assert_eq!(chain.count(table), 0, "{table:?}");
    }
    // Keys and logs of the two accounts, parameters and quotas are what remains.
    assert_eq!(chain.count(Table::Keys), 2);
    assert_eq!(chain.count(Table::Record), 4);
    assert_eq!(chain.count(Table::Tile), 0);
    assert_eq!(chain.count(Table::Entry), 2 + 2 + 1);
    let (_, refused) = chain.block(1, vec![retry]);
    assert!(
        matches!(refused[..], [TxError::Expired { .. }]),
        "{refused:?}"
    );
}

#[test]
fn a_closed_channel_goes_with_its_members_requests_and_acknowledgements() {
    let owner = Person::new("owner");
    let mut chain = chain();
    chain.register(&[&owner]);
    let tx = chain.tx(
        &owner,
        Kind::CreateChannel(CreateChannel {
            members: Vec::new(),
        }),
    );
    let outcome = chain.done(vec![tx])[0];
    let Outcome::Channel(channel) = outcome else {
        panic!("{outcome:?}")
    };
    let members = 1_250;
    for from in (0..members).step_by(50) {
        let changes = (from..from + 50).map(|i| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&u64::to_be_bytes(i));
            MemberChange::Add(AccountId::from_bytes(id), Role::Member)
        });
        let changes = changes.collect();
        let kind = Kind::ChannelMembers(ChannelMembers { channel, changes });
        let tx = chain.tx(&owner, kind);
        chain.done(vec![tx]);
    }
    let conversation = Conversation::Channel(channel);
    chain.fill(&owner, conversation, 600);
    let ack = AcknowledgeMessages {
        conversation,
        up_to: 600,
    };
    let txs = vec![
        chain.tx(&owner, Kind::AcknowledgeMessages(ack)),
        chain.tx(&owner, Kind::CloseChannel(CloseChannel { channel })),
    ];
    chain.done(txs);
    let (member, acknowledgement, request) = (12, 13, 14);
    assert_eq!(chain.records(member), members as usize + 1);
    assert_eq!(chain.records(acknowledgement), 1);
    assert_eq!(chain.records(request), members as usize);
    let mut wait = 3 * HOUR_MS;
    let mut blocks = 0;
    while chain.has(RecordKey::Channel(channel)) {
        chain.block(wait, Vec::new());
        wait = 1;
        blocks += 1;
        assert!(blocks < 10);
    }
    assert_eq!(blocks, 2);
    for kind in [member, acknowledgement, request] {
        assert_eq!(chain.records(kind), 0, "kind {kind}");
    }
    assert_eq!(chain.count(Table::Message) + chain.count(Table::Body), 0);
    assert_eq!(chain.count(Table::Tile), 0);
    chain.block(1, Vec::new());
    assert_eq!(chain.count(Table::Deadline), 0);
}

#[test]
fn a_block_weighs_no_more_than_it_may() {
    let owner = Person::new("owner");
    let mut chain = chain();
    chain.register(&[&owner]);
    let many = |i: u64| {
        let members = (0..100u64).map(|j| {
            let mut id = [1; 32];
            id[..8].copy_from_slice(&(i * 100 + j).to_be_bytes());
            (AccountId::from_bytes(id), Role::Reader)
        });
        Kind::CreateChannel(CreateChannel {
            members: members.collect(),
        })
    };
    let txs = (0..12).map(|i| chain.tx(&owner, many(i))).collect();
    let (built, refused) = chain.block(1, txs);
    let weight: u64 = built.applied.iter().map(|a| a.weight).sum();
    assert!(weight <= session_core::limits::BLOCK_WEIGHT_MAX, "{weight}");
    assert!(
        refused.iter().all(|e| matches!(e, TxError::BlockFull)),
        "{refused:?}"
    );
    assert!(!refused.is_empty() && built.applied.len() >= 5);
    let id = ChannelId::from_bytes([0; 32]);
    assert!(!chain.has(RecordKey::Channel(id)));
}
