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
use session_chain::proof::{MakeError, State};
use session_chain::state::TxError;
use session_chain::tx::Kind;
use session_chain::tx::channel::{ChannelMembers, CloseChannel, CreateChannel, MemberChange};
use session_chain::tx::message::{AcknowledgeMessages, SendBatch, SendMessage};
use session_chain::tx::session::{AcceptSession, CreateSession};
use session_chain::view::Table;
use session_core::channel::Role;
use session_core::ids::{AccountId, ChannelId, SessionId};
use session_core::limits::{SWEEP_MAX, TILE_LEAVES};
use session_core::log::{Conversation, LogId};
use session_core::parameters::Parameters;
use session_core::proof::ProvedEntries;
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

    let accept_small = Kind::AcceptSession(AcceptSession { session: small });
    let retry = chain.tx(&alice, accept_small);
    // The actions go before the sessions do, so that no deadline is late.
    chain.block(HOUR_MS + HOUR_MS / 2, Vec::new());
    let mut blocks = 0;
    let mut left = chain.view.cells().len();
    let mut wait = HOUR_MS / 2;
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
    chain.block(HOUR_MS - 1_000, Vec::new());
    let mut wait = 1_000;
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
    chain.block(3 * HOUR_MS, Vec::new());
    assert_eq!(chain.count(Table::Deadline), 0);
}

#[test]
fn a_late_sweep_does_as_much_more_as_it_is_late() {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let mut chain = chain();
    chain.register(&[&alice, &bob]);
    let session = open(&mut chain, &alice, &bob);
    chain.fill(&alice, Conversation::Session(session), 6_000);
    // Only the session is left to go, and it is due since just over two seconds.
    chain.block(2 * HOUR_MS - 1_000, Vec::new());
    let waits = [3_000, 1, 1];
    let left = waits.map(|wait| {
        chain.block(wait, Vec::new());
        chain.count(Table::Entry)
    });
    let logs = 2;
    assert_eq!(left, [3_000 + logs, logs, logs]);
}

/// Nothing can be appended for so long and so fast that its leaves pile up behind the sweep.
#[test]
fn what_is_stored_stays_in_proportion_to_what_arrives() {
    let owner = Person::new("owner");
    let parameters = Parameters {
        retention_ms: 3_000,
        account_weight: session_core::parameters::Rate::UNLIMITED,
        ..Parameters::default()
    };
    let mut chain = Chain::new(parameters, BTreeMap::new());
    chain.register(&[&owner]);
    let members = Vec::new();
    let create = chain.tx(&owner, Kind::CreateChannel(CreateChannel { members }));
    let Outcome::Channel(channel) = chain.done(vec![create])[0] else {
        panic!()
    };
    let conversation = Conversation::Channel(channel);
    // Four times what a sweep that is not late does, every second.
    let (rate, kept_s, late_s) = (4 * SWEEP_MAX as u64, 3, 4);
    let mut most = 0;
    for second in 0..25 {
        let txs = (0..rate / 100).map(|i| {
            let number = |j: u64| (second * rate + 100 * i + j).to_be_bytes().to_vec();
            let ciphertexts = (0..100).map(number).collect();
            chain.tx(
                &owner,
                Kind::SendBatch(SendBatch {
                    conversation,
                    ciphertexts,
                }),
            )
        });
        let txs = txs.collect();
        let (_, refused) = chain.block(1_000, txs);
        assert!(refused.is_empty(), "{refused:?}");
        most = most.max(chain.count(Table::Message) as u64);
    }
    assert!(most <= rate * (kept_s + late_s), "{most}");
    // And with time everything but the last tile and the roots is gone.
    for _ in 0..20 {
        chain.block(1_000, Vec::new());
    }
    let count = 25 * rate;
    assert_eq!(chain.count(Table::Message) as u64, count % TILE_LEAVES);
    assert!(chain.count(Table::Tile) as u64 >= count / TILE_LEAVES);
}

#[test]
fn old_leaves_of_a_channel_go_a_tile_at_a_time_and_what_comes_after_stays_provable() {
    let owner = Person::new("owner");
    let mut chain = chain();
    chain.register(&[&owner]);
    let members = Vec::new();
    let create = chain.tx(&owner, Kind::CreateChannel(CreateChannel { members }));
    let Outcome::Channel(channel) = chain.done(vec![create])[0] else {
        panic!()
    };
    let (conversation, log) = (Conversation::Channel(channel), LogId::Channel(channel));
    chain.fill(&owner, conversation, 600);
    let replay = {
        let ciphertexts = vec![b"again".to_vec()];
        let kind = Kind::SendBatch(SendBatch {
            conversation,
            ciphertexts,
        });
        chain.tx(&owner, kind)
    };
    chain.done(vec![replay.clone()]);
    chain.block(HOUR_MS / 2, Vec::new());
    chain.fill_from(&owner, conversation, 600, 300);
    let count = 901;
    let prove = |chain: &Chain, from, to| {
        let state = State {
            header: chain.header,
            heads: Vec::new(),
            tree: &chain.tree,
            view: &chain.view,
        };
        let proof = state.prove_log(log, from, to)?;
        Ok(proof.verify().unwrap().entries.unwrap())
    };
    let first_of = |result: Result<ProvedEntries, MakeError>| match result {
        Err(MakeError::Pruned { first }) => first,
        other => panic!("{other:?}"),
    };
    assert_eq!(prove(&chain, 0, 5).unwrap().entries.len(), 5);
    // Two tiles are an hour old; the third was completed half an hour later.
    chain.block(HOUR_MS / 2 + 1_000, Vec::new());
    assert_eq!(first_of(prove(&chain, 0, 5)), 512);
    assert_eq!(first_of(prove(&chain, 511, 520)), 512);
    assert_eq!(first_of(prove(&chain, 100, 100)), 512);
    for (from, to) in [
        (512, 520),
        (512, count),
        (600, 601),
        (count, count),
        (256, 256),
    ] {
        let proved = prove(&chain, from, to).unwrap();
        assert_eq!((proved.from, proved.count), (from, count));
        assert_eq!(proved.entries.len() as u64, to - from);
    }
    assert_eq!(chain.count(Table::Message) as u64, count - 512);
    // A batch whose leaf is gone is still remembered, or expired.
    let (_, refused) = chain.block(1, vec![replay]);
    assert!(
        matches!(
            refused[..],
            [TxError::Expired { .. } | TxError::Duplicate { .. }]
        ),
        "{refused:?}"
    );
    // A message without an expiry never had a leaf to be remembered by.
    let ciphertext = b"forever".to_vec();
    let single = SendMessage {
        conversation,
        ciphertext,
    };
    let single = chain.tx(&owner, Kind::SendMessage(single));
    let (_, refused) = chain.block(1, vec![single]);
    assert!(matches!(refused[..], [TxError::BatchOnly]), "{refused:?}");
    chain.block(HOUR_MS, Vec::new());
    assert_eq!(first_of(prove(&chain, 512, 513)), 768);
    assert_eq!(prove(&chain, 768, count).unwrap().entries.len(), 133);
    assert_eq!(
        chain.count(Table::Deadline),
        0,
        "an idle channel costs no work"
    );
    // A channel that closes takes its roots with it.
    let close = chain.tx(&owner, Kind::CloseChannel(CloseChannel { channel }));
    chain.done(vec![close]);
    chain.block(4 * HOUR_MS, Vec::new());
    assert_eq!(
        (chain.count(Table::Tile), chain.count(Table::Message)),
        (0, 0)
    );
}

#[test]
fn a_tile_goes_when_its_own_last_entry_is_old_and_not_for_what_follows() {
    let owner = Person::new("owner");
    for entries in [TILE_LEAVES - 1, TILE_LEAVES, TILE_LEAVES + 1] {
        let mut chain = chain();
        chain.register(&[&owner]);
        let members = Vec::new();
        let create = chain.tx(&owner, Kind::CreateChannel(CreateChannel { members }));
        let Outcome::Channel(channel) = chain.done(vec![create])[0] else {
            panic!()
        };
        chain.fill(&owner, Conversation::Channel(channel), entries);
        chain.block(HOUR_MS + 1_000, Vec::new());
        let whole = entries / TILE_LEAVES * TILE_LEAVES;
        assert_eq!(
            chain.count(Table::Message) as u64,
            entries - whole,
            "{entries}"
        );
    }
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
