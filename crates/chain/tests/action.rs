//! When an action is taken, and that it is taken once: to the millisecond and to the byte.

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
use people::{Fake, Person, signed, unsigned};
use session_chain::state::{Context, TxError, apply_tx};
use session_chain::tx::message::SendMessage;
use session_chain::tx::session::CreateSession;
use session_chain::tx::transfer::Transfer;
use session_chain::tx::{Kind, Tx};
use session_chain::view::Overlay;
use session_core::codec::Encode;
use session_core::log::Conversation;
use session_core::parameters::Parameters;
use session_core::record::Outcome;
use session_core::time::{HOUR_MS, Time};

/// Errors of the store among them compare with nothing: what they say does.
fn said(errors: &[TxError]) -> Vec<String> {
    errors.iter().map(|error| format!("{error:?}")).collect()
}

fn world() -> (Chain, Person, Person) {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let allocations = BTreeMap::from([(alice.account, 1_000)]);
    let mut chain = Chain::new(Parameters::default(), allocations);
    chain.register(&[&alice, &bob]);
    (chain, alice, bob)
}

fn transfer(to: &Person, amount: u64) -> Kind {
    let to = to.account;
    Kind::Transfer(Transfer { to, amount })
}

/// A transfer that is valid until then.
fn until(chain: &mut Chain, from: &Person, to: &Person, until: Time) -> Tx {
    chain.salt += 1;
    let tx = unsigned(from.account, until, chain.salt, transfer(to, 1));
    signed(tx, &chain.header.chain, &from.signing(), 0)
}

#[test]
fn an_action_is_valid_until_its_last_millisecond_and_an_hour_ahead() {
    let (mut chain, alice, bob) = world();
    let now = chain.header.time.after_ms(HOUR_MS);
    let at = |ms: u64| Time::from_ms(ms);
    let moments = [
        now.ms() - 1,
        now.ms(),
        now.ms() + HOUR_MS,
        now.ms() + HOUR_MS + 1,
    ];
    let txs = moments.map(|ms| until(&mut chain, &alice, &bob, at(ms)));
    let (built, refused) = chain.block(HOUR_MS, txs.to_vec());
    assert_eq!(chain.header.time, now);
    let taken: Vec<Time> = built.block.txs.iter().map(|tx| tx.valid_until).collect();
    assert_eq!(taken, [now, now.after_ms(HOUR_MS)]);
    let expired = TxError::Expired {
        valid_until: moments[0],
        now: now.ms(),
    };
    let late = TxError::ValidTooLong { now: now.ms() };
    assert_eq!(said(&refused), said(&[expired, late]));
}

#[test]
fn what_was_taken_is_told_to_whoever_sends_it_again() {
    let (mut chain, alice, bob) = world();
    let mut participants = vec![with(&alice), with(&bob)];
    participants.sort_by_key(|participant| participant.account);
    let create = chain.tx(&alice, Kind::CreateSession(CreateSession { participants }));
    let Outcome::Session(session) = chain.done(vec![create.clone()])[0] else {
        panic!("a session was created");
    };
    let conversation = Conversation::Session(session);
    let say = |chain: &mut Chain, text: &[u8]| {
        let ciphertext = text.to_vec();
        let kind = SendMessage {
            conversation,
            ciphertext,
        };
        chain.tx(&alice, Kind::SendMessage(kind))
    };
    let (first, second) = (say(&mut chain, b"first"), say(&mut chain, b"second"));
    let outcomes = chain.done(vec![first.clone(), second.clone()]);
    assert_eq!(outcomes, [Outcome::Sequence(0), Outcome::Sequence(1)]);
    let pay = chain.tx(&alice, transfer(&bob, 5));
    // In the same block, and in a later one.
    let (built, refused) = chain.block(1, vec![pay.clone(), pay.clone()]);
    assert_eq!(built.applied.len(), 1);
    let again = |outcome| TxError::Duplicate { outcome };
    assert_eq!(said(&refused), said(&[again(Outcome::Done)]));
    let (built, refused) = chain.block(1, vec![create, second, first, pay]);
    assert!(built.applied.is_empty());
    let outcomes = [
        Outcome::Session(session),
        Outcome::Sequence(1),
        Outcome::Sequence(0),
        Outcome::Done,
    ];
    assert_eq!(said(&refused), said(&outcomes.map(again)));
}

#[test]
fn an_action_fits_to_the_byte_and_changes_nothing_where_it_does_not() {
    let (mut chain, alice, bob) = world();
    let tx = chain.tx(&alice, transfer(&bob, 5));
    let ids = tx.ids(&chain.header.chain);
    let context = Context {
        chain: chain.header.chain,
        height: chain.header.height + 1,
        time: chain.header.time.after_ms(1),
        parameters: chain.parameters,
        crypto: &Fake { remembers: false },
        parent: &chain.view,
    };
    let apply = |room| {
        let mut block = Overlay::new(&chain.view);
        let applied = apply_tx(&context, &mut block, &tx, &ids, tx.to_bytes().len(), room);
        (applied, block.into_changes().is_empty())
    };
    let (applied, unchanged) = apply(u64::MAX);
    let weight = applied.unwrap().weight;
    assert!(!unchanged);
    let (applied, unchanged) = apply(weight);
    assert!(applied.is_ok() && !unchanged);
    let (applied, unchanged) = apply(weight - 1);
    assert!(matches!(applied, Err(TxError::BlockFull)) && unchanged);
}
