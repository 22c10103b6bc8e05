//! Key packages: who gets which, what strangers can use up, when they go.

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
#[path = "model/people.rs"]
mod people;

use std::collections::BTreeMap;

use chain::Chain;
use people::Person;
use session_chain::state::TxError;
use session_chain::tx::Kind;
use session_chain::tx::identity::RevokeIdentity;
use session_chain::tx::key_package::{NewKeyPackage, PublishKeyPackages, TakeKeyPackages};
use session_chain::view::{Table, View, key_package_key, taken_key_package_key};
use session_core::codec::{Decode, Encode};
use session_core::ids::{AccountId, DeviceId};
use session_core::key_package::{KeyPackages, TakenKeyPackages, key_package_id};
use session_core::parameters::Parameters;
use session_core::record::{Outcome, RecordKey};
use session_core::time::{DAY_MS, HOUR_MS};

fn begin(takers: usize) -> (Chain, Person, Vec<Person>) {
    let mut chain = Chain::new(Parameters::default(), BTreeMap::new());
    let owner = Person::new("owner");
    let takers: Vec<Person> = (0..takers)
        .map(|i| Person::new(&format!("taker {i}")))
        .collect();
    chain.register(&[&owner]);
    let all: Vec<&Person> = takers.iter().collect();
    chain.register(&all);
    (chain, owner, takers)
}

fn device(i: u8) -> DeviceId {
    DeviceId::from_bytes([i; 32])
}

fn new(chain: &Chain, ms: i64, text: &str) -> NewKeyPackage {
    let now = chain.header.time.ms() + 1;
    NewKeyPackage {
        expires: session_core::time::Time::from_ms(now.saturating_add_signed(ms)),
        bytes: text.as_bytes().to_vec(),
    }
}

fn publish(of: u8, one_time: Vec<NewKeyPackage>, last: Option<NewKeyPackage>) -> Kind {
    Kind::PublishKeyPackages(PublishKeyPackages {
        device: device(of),
        replace: false,
        one_time,
        last_resort: last,
    })
}

fn some(chain: &Chain, names: &[&str]) -> Vec<NewKeyPackage> {
    names
        .iter()
        .map(|name| new(chain, HOUR_MS as i64, name))
        .collect()
}

fn refused(chain: &mut Chain, person: &Person, kind: Kind) -> TxError {
    let tx = chain.tx(person, kind);
    let (built, mut refused) = chain.block(1, vec![tx]);
    assert!(built.changes.is_empty(), "a refusal changes nothing");
    refused.remove(0)
}

fn take(chain: &mut Chain, taker: &Person, target: &Person) -> Outcome {
    let kind = Kind::TakeKeyPackages(TakeKeyPackages {
        target: target.account,
    });
    let tx = chain.tx(taker, kind);
    chain.done(vec![tx])[0]
}

const fn given(one_time: u8, last_resort: u8) -> Outcome {
    Outcome::KeyPackages {
        one_time,
        last_resort,
    }
}

/// What a taker finds: device, bytes, whether others get the same.
fn taken(chain: &Chain, taker: AccountId, target: AccountId) -> Vec<(DeviceId, String, bool)> {
    let key = RecordKey::TakenKeyPackages(taker, target).to_bytes();
    let record = chain.view.get(Table::Record, &key).unwrap().unwrap();
    let record = TakenKeyPackages::from_bytes(&record).unwrap();
    let packages = (0..).zip(&record.packages).map(|(at, package)| {
        let cell = taken_key_package_key(&taker, &target, at);
        let bytes = chain.view.get(Table::Body, &cell).unwrap().unwrap();
        assert_eq!(key_package_id(&bytes), package.package);
        let text = String::from_utf8(bytes).unwrap();
        (package.device, text, package.last_resort)
    });
    packages.collect()
}

fn left(chain: &Chain, owner: &Person) -> KeyPackages {
    let key = RecordKey::KeyPackages(owner.account).to_bytes();
    let record = chain.view.get(Table::Record, &key).unwrap();
    record.map_or_else(KeyPackages::default, |r| {
        KeyPackages::from_bytes(&r).unwrap()
    })
}

#[test]
fn each_taker_gets_one_of_each_device_and_the_last_resort_when_the_rest_is_used_up() {
    let (mut chain, owner, takers) = begin(3);
    let phone = publish(
        1,
        some(&chain, &["p1", "p2"]),
        Some(new(&chain, 9_999, "p last")),
    );
    let laptop = publish(2, some(&chain, &["l1"]), None);
    let txs = vec![chain.tx(&owner, phone), chain.tx(&owner, laptop)];
    chain.done(txs);
    let text = |s: &str| s.to_owned();
    let account = owner.account;
    assert_eq!(take(&mut chain, &takers[0], &owner), given(2, 0));
    let first = [
        (device(1), text("p1"), false),
        (device(2), text("l1"), false),
    ];
    assert_eq!(taken(&chain, takers[0].account, account), first);
    // Nobody else can read, or be given, what was taken.
    let cell = key_package_key(&account, &key_package_id(b"p1"));
    assert_eq!(chain.view.get(Table::Body, &cell).unwrap(), None);
    assert_eq!(take(&mut chain, &takers[1], &owner), given(1, 0));
    let second = [(device(1), text("p2"), false)];
    assert_eq!(taken(&chain, takers[1].account, account), second);
    for _ in 0..2 {
        assert_eq!(take(&mut chain, &takers[2], &owner), given(0, 1));
        let third = [(device(1), text("p last"), true)];
        assert_eq!(taken(&chain, takers[2].account, account), third);
        // Once a day, of one account.
        let kind = || Kind::TakeKeyPackages(TakeKeyPackages { target: account });
        let error = refused(&mut chain, &takers[2], kind());
        assert!(matches!(error, TxError::RateLimited { retry_ms, .. } if retry_ms == DAY_MS - 1));
        chain.block(DAY_MS, Vec::new());
        let error = refused(&mut chain, &takers[2], kind());
        assert!(
            matches!(error, TxError::NoKeyPackages),
            "all have expired: {error:?}"
        );
        assert_eq!(chain.count(Table::Body), 0);
        let again = publish(1, Vec::new(), Some(new(&chain, 9_999, "p last")));
        let tx = chain.tx(&owner, again);
        chain.done(vec![tx]);
    }
}

#[test]
fn who_takes_again_within_a_day_is_given_the_last_resort_which_uses_nothing_up() {
    let (mut chain, owner, takers) = begin(1);
    let last = Some(new(&chain, 2 * DAY_MS as i64, "p last"));
    let phone = publish(1, some(&chain, &["p1", "p2"]), last);
    let laptop = publish(2, some(&chain, &["l1", "l2"]), None);
    let txs = vec![chain.tx(&owner, phone), chain.tx(&owner, laptop)];
    chain.done(txs);
    let (taker, account) = (&takers[0], owner.account);
    assert_eq!(take(&mut chain, taker, &owner), given(2, 0));
    let began = chain.header.time.ms();
    chain.block(HOUR_MS / 2, Vec::new());
    assert_eq!(take(&mut chain, taker, &owner), given(0, 1));
    let again = [(device(1), "p last".to_owned(), true)];
    assert_eq!(taken(&chain, taker.account, account), again);
    assert_eq!(left(&chain, &owner).devices[0].one_time.len(), 1);
    // Nothing of the first taking is left behind.
    let cell = taken_key_package_key(&taker.account, &account, 1);
    assert_eq!(chain.view.get(Table::Body, &cell).unwrap(), None);
    let kind = || Kind::TakeKeyPackages(TakeKeyPackages { target: account });
    let error = refused(&mut chain, taker, kind());
    let now = chain.header.time.ms();
    assert!(
        matches!(error, TxError::RateLimited { retry_ms, .. } if retry_ms == began + DAY_MS - now),
        "the day goes on from the first taking: {error:?}"
    );
    // The owner has replaced what it gave to everybody.
    let last = Some(new(&chain, 2 * DAY_MS as i64, "p later"));
    let tx = publish(1, Vec::new(), last);
    let tx = chain.tx(&owner, tx);
    chain.done(vec![tx]);
    assert_eq!(take(&mut chain, taker, &owner), given(0, 1));
    let later = [(device(1), "p later".to_owned(), true)];
    assert_eq!(taken(&chain, taker.account, account), later);
}

#[test]
fn strangers_use_up_no_more_than_twenty_a_day() {
    let (mut chain, owner, takers) = begin(24);
    for of in [1, 2, 3] {
        let names: Vec<String> = (0..10).map(|i| format!("{of} {i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let kind = publish(of, some(&chain, &names), None);
        let tx = chain.tx(&owner, kind);
        chain.done(vec![tx]);
    }
    let renew = |chain: &mut Chain, round: &str| {
        let names: Vec<String> = (0..10).map(|i| format!("{round} {i}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let last = Some(new(chain, HOUR_MS as i64, &format!("{round} last")));
        let kind = publish(4, some(chain, &names), last);
        let tx = chain.tx(&owner, kind);
        chain.done(vec![tx]);
    };
    renew(&mut chain, "a");
    for taker in &takers[..10] {
        assert_eq!(take(&mut chain, taker, &owner), given(4, 0));
    }
    renew(&mut chain, "b");
    for taker in &takers[10..20] {
        assert_eq!(take(&mut chain, taker, &owner), given(1, 0));
    }
    // However many there are again, others are given the last resort.
    renew(&mut chain, "c");
    for taker in &takers[20..23] {
        assert_eq!(take(&mut chain, taker, &owner), given(0, 1));
    }
    assert_eq!(left(&chain, &owner).devices[0].one_time.len(), 10);
    chain.block(DAY_MS / 20, Vec::new());
    renew_all(&mut chain, &owner);
    assert_eq!(take(&mut chain, &takers[23], &owner), given(1, 0));
}

fn renew_all(chain: &mut Chain, owner: &Person) {
    let kind = publish(5, some(chain, &["anew"]), None);
    let tx = chain.tx(owner, kind);
    chain.done(vec![tx]);
}

#[test]
fn what_is_published_is_bounded_and_refused_by_its_name() {
    let (mut chain, owner, takers) = begin(1);
    let day = DAY_MS as i64;
    for (ms, fits) in [
        (0, false),
        (1, true),
        (90 * day, true),
        (90 * day + 1, false),
    ] {
        let text = format!("at {ms}");
        let kind = publish(9, vec![new(&chain, ms, &text)], None);
        let tx = chain.tx(&owner, kind);
        let (_, refused) = chain.block(1, vec![tx]);
        assert_eq!(refused.is_empty(), fits, "{ms}: {refused:?}");
        assert!(fits || matches!(refused[..], [TxError::KeyPackageExpiry { .. }]));
    }
    let ten: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    let ten: Vec<&str> = ten.iter().map(String::as_str).collect();
    let kind = publish(1, some(&chain, &ten), None);
    let tx = chain.tx(&owner, kind);
    chain.done(vec![tx]);
    let kind = publish(1, some(&chain, &["eleventh"]), None);
    let error = refused(&mut chain, &owner, kind);
    assert!(matches!(error, TxError::LimitReached { .. }), "{error:?}");
    // The same bytes twice, of whichever device.
    let kind = publish(2, some(&chain, &["3"]), None);
    let error = refused(&mut chain, &owner, kind);
    assert!(matches!(error, TxError::KeyPackageKnown), "{error:?}");
    let kind = publish(2, some(&chain, &["twice", "twice"]), None);
    let error = refused(&mut chain, &owner, kind);
    assert!(matches!(error, TxError::KeyPackageKnown), "{error:?}");
    for of in 2..=7 {
        let text = format!("of {of}");
        let kind = publish(of, some(&chain, &[&text]), None);
        let tx = chain.tx(&owner, kind);
        chain.done(vec![tx]);
    }
    let kind = publish(8, some(&chain, &["of a ninth device"]), None);
    let error = refused(&mut chain, &owner, kind);
    assert!(matches!(error, TxError::LimitReached { .. }), "{error:?}");
    // Unsigned, or of somebody unknown.
    let kind = publish(1, some(&chain, &["unsigned"]), None);
    let mut tx = chain.tx(&owner, kind.clone());
    tx.signature.clear();
    let (_, refused) = chain.block(1, vec![tx]);
    assert!(matches!(refused[..], [TxError::SignatureRequired]));
    let stranger = Person::new("stranger");
    let tx = chain.tx(&stranger, kind);
    let (_, refused) = chain.block(1, vec![tx]);
    assert!(matches!(refused[..], [TxError::UnknownAccount]));
    // A device that lost everything begins anew; one without anything new goes.
    let replace = |of, one_time| {
        Kind::PublishKeyPackages(PublishKeyPackages {
            device: device(of),
            replace: true,
            one_time,
            last_resort: None,
        })
    };
    let txs = vec![
        chain.tx(&owner, replace(1, some(&chain, &["3", "new"]))),
        chain.tx(&owner, replace(2, Vec::new())),
    ];
    chain.done(txs);
    let packages = left(&chain, &owner);
    assert_eq!(packages.devices.len(), 7);
    assert_eq!(packages.devices[0].one_time.len(), 2);
    let bodies = packages.devices.iter().flat_map(|d| d.packages()).count();
    assert_eq!(chain.count(Table::Body), bodies);
    drop(takers);
}

#[test]
fn nobody_is_given_what_is_not_there() {
    let (mut chain, owner, takers) = begin(2);
    let kind = |target: &Person| {
        Kind::TakeKeyPackages(TakeKeyPackages {
            target: target.account,
        })
    };
    let error = refused(&mut chain, &takers[0], kind(&owner));
    assert!(matches!(error, TxError::NoKeyPackages), "{error:?}");
    let stranger = Person::new("stranger");
    let error = refused(&mut chain, &takers[0], kind(&stranger));
    assert!(matches!(error, TxError::UnknownAccount), "{error:?}");
    let publish = publish(1, some(&chain, &["one", "two"]), None);
    let tx = chain.tx(&owner, publish);
    chain.done(vec![tx]);
    let tx = chain.tx(
        &owner,
        Kind::RevokeIdentity(RevokeIdentity { recovery: None }),
    );
    chain.done(vec![tx]);
    let error = refused(&mut chain, &takers[0], kind(&owner));
    assert!(matches!(error, TxError::NoKeyPackages), "{error:?}");
    // They go when the last of them has expired.
    assert!(chain.has(RecordKey::KeyPackages(owner.account)));
    chain.block(HOUR_MS, Vec::new());
    assert!(!chain.has(RecordKey::KeyPackages(owner.account)));
    assert_eq!(chain.count(Table::Body), 0);
}

#[test]
fn the_bytes_that_a_taker_is_given_are_weighed() {
    let (mut chain, owner, takers) = begin(1);
    let mut large = new(&chain, HOUR_MS as i64, "x");
    large.bytes = vec![7; 11_000];
    let tx = chain.tx(&owner, publish(1, vec![large], None));
    chain.done(vec![tx]);
    let take = Kind::TakeKeyPackages(TakeKeyPackages {
        target: owner.account,
    });
    let tx = chain.tx(&takers[0], take);
    let bytes = tx.to_bytes().len() as u64;
    let (built, _) = chain.block(1, vec![tx]);
    // The owner's record, the taker's, the action's; and the package, which is written again.
    assert_eq!(built.applied[0].weight, bytes + 3 * 1_024 + 11_000);
}
