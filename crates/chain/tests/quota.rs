//! What the chain takes in a day, to the byte and to the millisecond.

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

use chain::Chain;
use people::Person;
use session_chain::state::TxError;
use session_chain::tx::transfer::Transfer;
use session_chain::tx::{Kind, Tx};
use session_core::parameters::Parameters;
use session_core::time::DAY_MS;

fn chain(weight_per_day: u64) -> (Chain, Person, Person) {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    let parameters = Parameters {
        weight_per_day,
        ..Parameters::default()
    };
    let allocations = BTreeMap::from([(alice.account, 1_000)]);
    let mut chain = Chain::new(parameters, allocations);
    chain.register(&[&alice, &bob]);
    (chain, alice, bob)
}

fn transfer(chain: &mut Chain, from: &Person, to: &Person) -> Tx {
    let (to, amount) = (to.account, 1);
    chain.tx(from, Kind::Transfer(Transfer { to, amount }))
}

/// Transfers at a moment: how many are taken, and why the next is not.
fn taken(
    chain: &mut Chain,
    from: &Person,
    to: &Person,
    wait_ms: u64,
    n: u64,
) -> (u64, Vec<TxError>) {
    // Valid until half an hour behind the head: the head comes to this moment first.
    chain.block(wait_ms, Vec::new());
    let txs = (0..n).map(|_| transfer(chain, from, to)).collect();
    let (built, refused) = chain.block(0, txs);
    (built.applied.len() as u64, refused)
}

/// Weight of one transfer, which is that of every other.
fn weight_of_one() -> u64 {
    let (mut chain, alice, bob) = chain(1 << 40);
    let txs = (0..3).map(|_| transfer(&mut chain, &alice, &bob)).collect();
    let (built, refused) = chain.block(1, txs);
    assert!(refused.is_empty(), "{refused:?}");
    let weights: Vec<u64> = built.applied.iter().map(|applied| applied.weight).collect();
    assert_eq!(weights, [weights[0]; 3]);
    weights[0]
}

#[test]
fn half_a_day_is_for_accounts_of_a_day_and_the_whole_is_used_up_to_its_last_byte() {
    // Room for two registrations in the first half.
    let per_day = 20 * weight_of_one();
    let (mut chain, alice, bob) = chain(per_day);
    let registered = chain.header.time;
    // A millisecond before she is a day old, on the next day of the chain.
    let (young, refused) = taken(&mut chain, &alice, &bob, DAY_MS - 1, 11);
    assert_eq!(chain.header.time.since(registered), DAY_MS - 1);
    assert_ne!(chain.header.time.ms() / DAY_MS, registered.ms() / DAY_MS);
    assert_eq!((young, refused.len()), (10, 1));
    let until_midnight = DAY_MS - chain.header.time.ms() % DAY_MS;
    assert!(
        matches!(refused[0], TxError::RateLimited { retry_ms, .. } if retry_ms == until_midnight),
        "{refused:?}"
    );
    let (grown, refused) = taken(&mut chain, &alice, &bob, 1, 12);
    assert_eq!((grown, refused.len()), (10, 2));
    // At midnight it begins anew.
    let (next, refused) = taken(&mut chain, &alice, &bob, until_midnight - 1, 21);
    assert_eq!((next, refused.len()), (20, 1));
}
