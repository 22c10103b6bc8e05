//! A fixed history with one transaction of every kind, and the ids and roots it has always had.
//!
//! A difference means that an encoding, a hash or a rule changed: chains that exist would fork.
//! `SESSION_GOLDEN_WRITE=1` writes the file anew.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    reason = "in a test a panic is the verdict; people have more to them than one test asks"
)]

#[path = "model/chain.rs"]
mod chain;
#[path = "model/group.rs"]
mod group;
#[path = "model/people.rs"]
mod people;

use std::collections::BTreeSet;

use chain::{Chain, with};
use group::{Members, admin_key};
use people::{Person, kem_key, legacy_of, signed, signing_key, unsigned};
use serde_json::{Value, json};
use session_chain::proof::State;
use session_chain::tx::channel::{ChannelMembers, CloseChannel, CreateChannel, MemberChange};
use session_chain::tx::chunk::PutChunk;
use session_chain::tx::group::TopUpGroup;
use session_chain::tx::group::admin::{SetMode, Supersede};
use session_chain::tx::group::advance::Commit;
use session_chain::tx::group::post::PutGroupChunk;
use session_chain::tx::identity::{RegisterIdentity, RevokeIdentity, RotateKeys};
use session_chain::tx::key_package::{NewKeyPackage, PublishKeyPackages, TakeKeyPackages};
use session_chain::tx::legacy::RegisterLegacy;
use session_chain::tx::message::{AcknowledgeMessages, SendBatch, SendMessage};
use session_chain::tx::session::{AcceptSession, CloseSession, CreateSession, RenewSession};
use session_chain::tx::transfer::Transfer;
use session_chain::tx::{Kind, NOBODY, Tx};
use session_core::channel::Role;
use session_core::codec::Encode;
use session_core::group::Mode;
use session_core::hash::sha256;
use session_core::ids::DeviceId;
use session_core::log::{Conversation, LogId};
use session_core::parameters::{Admission, Parameters, Rate};
use session_core::record::Outcome;
use session_core::time::{DAY_MS, HOUR_MS};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden.json");

/// A chain that admits `05` accounts: its own file, so that the older history stays as it was.
const LEGACY_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden-legacy.json");

/// A chain with groups and key packages.
const GROUPS_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/golden-groups.json");

struct History {
    chain: Chain,
    kinds: BTreeSet<&'static str>,
    blocks: Vec<Value>,
}

impl History {
    fn new(people: &[Person], allow_legacy: bool) -> Self {
        let rate = |per_second, burst| Rate { per_second, burst };
        let parameters = Parameters {
            session_ttl_ms: 2 * HOUR_MS,
            retention_ms: DAY_MS,
            admission: Admission::Open,
            allow_legacy,
            price: 1,
            account_weight: rate(1_000, 10_000_000),
            weight_per_day: 100_000_000,
            ..Parameters::default()
        };
        let allocations = people.iter().map(|p| (p.account, 1_000_000)).collect();
        let chain = Chain::new(parameters, allocations);
        let mut history = Self {
            chain,
            kinds: BTreeSet::new(),
            blocks: Vec::new(),
        };
        history.note(&[]);
        history
    }

    fn signed(&mut self, person: &Person, kind: Kind) -> Tx {
        self.chain.tx(person, kind)
    }

    fn block(&mut self, wait_ms: u64, txs: Vec<Tx>) -> Vec<Outcome> {
        self.kinds.extend(txs.iter().map(|tx| tx.kind.name()));
        let (built, refused) = self.chain.block(wait_ms, txs);
        assert!(refused.is_empty(), "{refused:?}");
        let ids: Vec<_> = built
            .applied
            .iter()
            .map(|a| (a.tx.to_string(), a.weight))
            .collect();
        self.note(&ids);
        built.applied.iter().map(|a| a.outcome).collect()
    }

    fn note(&mut self, txs: &[(String, u64)]) {
        let header = self.chain.header;
        // The cells are not under the root one and all, but a store keeps them.
        let mut cells = Vec::new();
        for ((table, key), value) in self.chain.view.cells() {
            cells.extend(format!("{table:?}").bytes());
            cells.extend_from_slice(key);
            cells.extend_from_slice(value);
        }
        self.blocks.push(json!({
            "height": header.height,
            "block": header.id().to_string(),
            "stateRoot": const_hex::encode(header.state_root),
            "cells": const_hex::encode(sha256(&cells)),
            "txs": txs,
        }));
    }

    fn proof(&self, log: LogId) -> String {
        let (header, tree, view) = (self.chain.header, &self.chain.tree, &self.chain.view);
        let state = State {
            header,
            heads: Vec::new(),
            tree,
            view,
        };
        let proof = state.prove_log(log, 1, 4).unwrap();
        proof.verify().unwrap();
        const_hex::encode(sha256(&proof.to_bytes()))
    }
}

fn tell() -> Value {
    let people: Vec<_> = ["alice", "bob", "carol"]
        .iter()
        .map(|n| Person::new(n))
        .collect();
    let [alice, bob, carol] = &people[..] else {
        unreachable!()
    };
    let stranger = Person::new("stranger");
    let mut h = History::new(&people, false);
    let register = |p: &Person| {
        let (kem, signing, recovery) = (p.kem(), p.signing(), Some(p.recovery().digest()));
        Kind::RegisterIdentity(RegisterIdentity {
            kem,
            signing,
            recovery,
        })
    };
    let txs = people.iter().map(|p| h.signed(p, register(p))).collect();
    h.block(1, txs);

    let create = |who: [&Person; 2]| {
        let mut participants: Vec<_> = who.iter().map(|p| with(p)).collect();
        participants.sort_by_key(|p| p.account);
        Kind::CreateSession(CreateSession { participants })
    };
    let until = h.chain.header.time.after_ms(HOUR_MS);
    let mut bound = with(&stranger);
    bound.signing = None;
    let mut participants = vec![with(alice), bound];
    participants.sort_by_key(|p| p.account);
    let open = Kind::CreateSession(CreateSession { participants });
    let members = vec![(bob.account, Role::Admin), (carol.account, Role::Reader)];
    let txs = vec![
        h.signed(alice, create([alice, bob])),
        unsigned(NOBODY, until, 1, open),
        h.signed(carol, create([alice, carol])),
        h.signed(alice, Kind::CreateChannel(CreateChannel { members })),
        h.signed(
            alice,
            Kind::PutChunk(PutChunk {
                bytes: b"a chunk".to_vec(),
            }),
        ),
        h.signed(
            bob,
            Kind::Transfer(Transfer {
                to: stranger.account,
                amount: 5,
            }),
        ),
    ];
    let outcomes = h.block(1_000, txs);
    let [
        Outcome::Session(first),
        Outcome::Session(open),
        Outcome::Session(third),
        Outcome::Channel(channel),
        ..,
    ] = outcomes[..]
    else {
        panic!("{outcomes:?}")
    };

    let (session, conversation) = (first, Conversation::Session(first));
    let to_channel = Conversation::Channel(channel);
    let many = |n: u32| (0..n).map(|i| i.to_be_bytes().to_vec()).collect::<Vec<_>>();
    let say = |conversation, text: &str| {
        Kind::SendMessage(SendMessage {
            conversation,
            ciphertext: text.as_bytes().to_vec(),
        })
    };
    let changes = vec![MemberChange::Accept];
    let txs = vec![
        h.signed(bob, Kind::AcceptSession(AcceptSession { session })),
        h.signed(
            alice,
            Kind::SendBatch(SendBatch {
                conversation,
                ciphertexts: many(5),
            }),
        ),
        h.signed(bob, say(conversation, "single")),
        unsigned(
            stranger.account,
            until,
            0,
            say(Conversation::Session(open), "unsigned"),
        ),
        // A first message accepts.
        h.signed(alice, say(Conversation::Session(third), "accepted")),
        h.signed(
            bob,
            Kind::ChannelMembers(ChannelMembers { channel, changes }),
        ),
        h.signed(
            alice,
            Kind::SendBatch(SendBatch {
                conversation: to_channel,
                ciphertexts: many(100),
            }),
        ),
    ];
    h.block(1_000, txs);

    let acknowledge = |conversation, up_to| {
        Kind::AcknowledgeMessages(AcknowledgeMessages {
            conversation,
            up_to,
        })
    };
    let changes = vec![
        MemberChange::SetRole(bob.account, Role::Owner),
        MemberChange::Remove(carol.account),
        MemberChange::Leave,
    ];
    let (kem, signing) = (kem_key("bob again"), signing_key("bob again"));
    let txs = vec![
        h.signed(bob, acknowledge(conversation, 5)),
        h.signed(bob, acknowledge(to_channel, 100)),
        h.signed(
            alice,
            Kind::ChannelMembers(ChannelMembers { channel, changes }),
        ),
        h.signed(alice, Kind::RenewSession(RenewSession { session })),
        h.signed(carol, Kind::CloseSession(CloseSession { session: third })),
        unsigned(
            NOBODY,
            until,
            2,
            Kind::CloseSession(CloseSession { session: open }),
        ),
        h.signed(bob, Kind::CloseChannel(CloseChannel { channel })),
        h.signed(
            bob,
            Kind::RotateKeys(RotateKeys {
                kem,
                signing,
                recovery: None,
            }),
        ),
    ];
    h.block(1_000, txs);

    let until = h.chain.header.time.after_ms(HOUR_MS);
    let revoke = Kind::RevokeIdentity(RevokeIdentity {
        recovery: Some(bob.recovery()),
    });
    let revoke = unsigned(bob.account, until, 3, revoke);
    let revoke = signed(revoke, &h.chain.header.chain, &bob.recovery(), 0);
    h.block(1_000, vec![revoke]);
    let proof = h.proof(LogId::Session(first));
    // Actions, then everything that ended, is swept.
    h.block(3 * HOUR_MS, Vec::new());
    h.block(3 * DAY_MS, Vec::new());
    assert_eq!(h.kinds.len(), 15, "{:?}", h.kinds);
    json!({ "blocks": h.blocks, "proof": proof })
}

fn tell_of_legacy() -> Value {
    let people = [Person::new("alice"), Person::legacy("oscar")];
    let mut h = History::new(&people, true);
    let [alice, oscar] = &people;
    let (kem, signing) = (alice.kem(), alice.signing());
    let register = Kind::RegisterIdentity(RegisterIdentity {
        kem,
        signing,
        recovery: None,
    });
    let of_old = Kind::RegisterLegacy(RegisterLegacy {
        signing: legacy_of(&oscar.signing()).unwrap(),
        recovery: Some(oscar.recovery().digest()),
    });
    let txs = vec![h.signed(alice, register), h.signed(oscar, of_old)];
    h.block(1, txs);
    let mut participants = vec![with(alice), with(oscar)];
    for participant in &mut participants {
        (participant.kem, participant.signing) = (None, None);
    }
    participants.sort_by_key(|p| p.account);
    let create = Kind::CreateSession(CreateSession { participants });
    let tx = h.signed(oscar, create);
    let outcomes = h.block(1_000, vec![tx]);
    let [Outcome::Session(session)] = outcomes[..] else {
        panic!("{outcomes:?}")
    };
    let conversation = Conversation::Session(session);
    let batch = |n: u8| {
        let ciphertexts = (0..5).map(|i| vec![n, i]).collect();
        Kind::SendBatch(SendBatch {
            conversation,
            ciphertexts,
        })
    };
    let ciphertext = b"single".to_vec();
    let single = Kind::SendMessage(SendMessage {
        conversation,
        ciphertext,
    });
    let (kem, signing) = (kem_key("oscar anew"), signing_key("oscar anew"));
    let rotate = Kind::RotateKeys(RotateKeys {
        kem,
        signing: signing.clone(),
        recovery: None,
    });
    let txs = vec![
        h.signed(oscar, batch(0)),
        h.signed(oscar, single),
        h.signed(oscar, rotate),
    ];
    h.block(1_000, txs);
    // From now on its post-quantum key counts.
    let until = h.chain.header.time.after_ms(HOUR_MS);
    let anew = unsigned(oscar.account, until, 9, batch(1));
    let anew = signed(anew, &h.chain.header.chain, &signing, 0);
    h.block(1_000, vec![anew]);
    let proof = h.proof(LogId::Session(session));
    json!({ "blocks": h.blocks, "proof": proof })
}

fn tell_of_groups() -> Value {
    let people = [Person::new("alice"), Person::new("bob")];
    let mut h = History::new(&people, false);
    let [alice, bob] = &people;
    let register = |p: &Person| {
        let (kem, signing) = (p.kem(), p.signing());
        Kind::RegisterIdentity(RegisterIdentity {
            kem,
            signing,
            recovery: None,
        })
    };
    let txs = people.iter().map(|p| h.signed(p, register(p))).collect();
    h.block(1, txs);
    let named = ("first", 3, Mode::Open);
    let (group, first) = Members::create(&mut h.chain, alice, named, (200_000, 50_000));
    let named = ("next", 1, Mode::AdminOnly);
    let (next, second) = Members::create(&mut h.chain, bob, named, (9_000, 0));
    let expires = h.chain.header.time.after_ms(2 * HOUR_MS);
    let new = |text: &str| NewKeyPackage {
        expires,
        bytes: text.as_bytes().to_vec(),
    };
    let publish = Kind::PublishKeyPackages(PublishKeyPackages {
        device: DeviceId::from_bytes([5; 32]),
        replace: true,
        one_time: vec![new("one"), new("two")],
        last_resort: Some(new("last")),
    });
    let publish = h.signed(bob, publish);
    h.block(1_000, vec![first, second, publish]);
    let bytes = b"a large commit".to_vec();
    let piece = PutChunk::id(&bytes);
    let put = Kind::PutGroupChunk(PutGroupChunk { epoch: 1, bytes });
    let chain = &mut h.chain;
    let txs = vec![
        group.post(chain, 1, &["one", "two", "three"]),
        group.sign(chain, &group.posting(1), put),
        group.advance_by(chain, 1, false, None, Commit::Bytes(b"a commit".to_vec())),
        group.post(chain, 2, &["four"]),
        group.post(chain, 1, &["late"]),
    ];
    h.block(1_000, txs);
    let top_up = Kind::TopUpGroup(TopUpGroup {
        group: group.id,
        budget: 1,
        reserve: 2,
    });
    let target = bob.account;
    let take = Kind::TakeKeyPackages(TakeKeyPackages { target });
    let (admin, mode) = (group.admins[1].digest(), Mode::AdminOnly);
    let set_mode = Kind::SetMode(SetMode { admin, mode });
    let txs = vec![
        h.signed(bob, top_up),
        h.signed(alice, take),
        group.sign(&mut h.chain, &group.admins[1], set_mode),
        group.set_admins(&mut h.chain, &[0, 2], vec![admin_key(0), admin_key(7)]),
    ];
    h.block(1_000, txs);
    let chunks = Commit::Chunks(vec![piece]);
    let tx = group.advance_by(&mut h.chain, 2, true, Some(0), chunks);
    h.block(2_000, vec![tx]);
    let tx = group.post(&mut h.chain, 3, &["after a removal"]);
    h.block(1, vec![tx]);
    let proof = h.proof(LogId::Group(group.id));
    let admin = admin_key(7).digest();
    let successor = next.id;
    let supersede = Kind::Supersede(Supersede {
        admin,
        successor,
        invitation: Some(piece),
    });
    let tx = group.sign(&mut h.chain, &admin_key(7), supersede);
    h.block(2_000, vec![tx]);
    // Packages expire, what was taken goes, then the closed group, and in the end the idle one.
    for wait in [3 * HOUR_MS, 2 * DAY_MS, 100 * DAY_MS] {
        h.block(wait, Vec::new());
    }
    assert_eq!(h.kinds.len(), 11, "{:?}", h.kinds);
    json!({ "blocks": h.blocks, "proof": proof })
}

fn compare(now: &Value, file: &str) {
    if std::env::var_os("SESSION_GOLDEN_WRITE").is_some() {
        let text = serde_json::to_string_pretty(now).unwrap() + "\n";
        std::fs::write(file, text).unwrap();
    }
    let always: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    for (now, always) in now["blocks"]
        .as_array()
        .unwrap()
        .iter()
        .zip(always["blocks"].as_array().unwrap())
    {
        assert_eq!(now, always);
    }
    assert_eq!(*now, always);
}

#[test]
fn history_has_the_ids_and_roots_it_has_always_had() {
    compare(&tell(), FILE);
}

#[test]
fn so_has_the_history_of_a_chain_with_05_accounts() {
    compare(&tell_of_legacy(), LEGACY_FILE);
}

#[test]
fn so_has_the_history_of_groups_and_key_packages() {
    compare(&tell_of_groups(), GROUPS_FILE);
}
