//! Groups: who wins, what is refused and by which name, what strangers can do, when it ends.

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

use std::collections::BTreeMap;

use chain::Chain;
use group::{Members, admin_key};
use people::{Person, cosign, sign, signed, signing_key};
use session_chain::state::TxError;
use session_chain::tx::chunk::PutChunk;
use session_chain::tx::group::admin::{SetMode, Supersede};
use session_chain::tx::group::advance::Commit;
use session_chain::tx::group::post::{GroupPost, PutGroupChunk};
use session_chain::tx::group::{TopUpGroup, as_signer};
use session_chain::tx::message::{AcknowledgeMessages, SendBatch, SendMessage};
use session_chain::tx::{Kind, Tx};
use session_chain::view::{Table, View, entry_key, group_keys_prefix, prefix_end};
use session_core::codec::{Decode, Encode};
use session_core::group::{Mode, StalePost, Standing, commit_hash, group_salt};
use session_core::ids::{ChunkId, Digest, GroupId};
use session_core::log::{Conversation, Entry, LogId};
use session_core::parameters::{Admission, Parameters, Rate};
use session_core::record::{Chunk, Outcome, RecordKey};
use session_core::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Time};

/// A chain with a registered sponsor, and a group that can pay.
fn begin(admins: usize, mode: Mode) -> (Chain, Person, Members) {
    let parameters = Parameters {
        retention_ms: DAY_MS,
        ..Parameters::default()
    };
    begin_on(parameters, (admins, mode), (10_000_000, 1_000_000))
}

fn begin_on(
    parameters: Parameters,
    (admins, mode): (usize, Mode),
    paid: (u64, u64),
) -> (Chain, Person, Members) {
    let sponsor = Person::new("sponsor");
    let allocations = BTreeMap::from([(sponsor.account, 1_000_000)]);
    let mut chain = Chain::new(parameters, allocations);
    chain.register(&[&sponsor]);
    let (group, tx) = Members::create(&mut chain, &sponsor, ("group", admins, mode), paid);
    assert_eq!(chain.done(vec![tx]), [Outcome::Group(group.id)]);
    (chain, sponsor, group)
}

fn chunk_of(chain: &Chain, id: ChunkId) -> Chunk {
    let key = RecordKey::Chunk(id).to_bytes();
    let cell = chain.view.cells().get(&(Table::Record, key));
    Chunk::from_bytes(cell.unwrap()).unwrap()
}

/// The one refusal of a block of one transaction.
fn refused(chain: &mut Chain, tx: Tx) -> TxError {
    let (built, mut refused) = chain.block(0, vec![tx]);
    assert!(built.block.txs.is_empty(), "{:?}", built.applied);
    // Nothing at all is changed.
    assert!(built.changes.is_empty());
    refused.remove(0)
}

macro_rules! assert_refused {
    ($chain:expr, $tx:expr, $error:pat) => {
        let tx = $tx;
        let error = refused($chain, tx);
        assert!(matches!(error, $error), "{error:?}");
    };
}

/// Passes the pauses that follow an advance and an admin's action.
fn wait(chain: &mut Chain, ms: u64) {
    chain.block(ms, Vec::new());
}

#[test]
fn of_two_advances_of_one_epoch_one_wins_whichever_comes_first() {
    for first in [0, 1] {
        let (mut chain, _, group) = begin(1, Mode::Open);
        let mut two = [
            group.advance(&mut chain, 1, false, None),
            group.advance(&mut chain, 1, false, None),
        ];
        two.rotate_left(first);
        let [winner, loser] = two;
        let action = winner.ids(&chain.header.chain).action;
        let (built, refused) = chain.block(1, vec![winner, loser.clone()]);
        assert_eq!(built.applied.len(), 1);
        assert!(matches!(refused[..], [TxError::WrongEpoch { current: 2 }]));
        let record = group.record(&chain);
        assert_eq!((record.epoch, record.log.count()), (2, 1));
        assert_eq!(record.posting, group.posting(2).digest());
        assert_eq!(record.control, group.control(2).digest());
        let cell = entry_key(&LogId::Group(group.id), 0);
        let entry = chain.view.get(Table::Entry, &cell).unwrap().unwrap();
        let Entry::Advance(entry) = Entry::from_bytes(&entry).unwrap() else {
            panic!("no advance")
        };
        assert_eq!((entry.action, entry.epoch), (action, 2));
        assert_eq!(entry.commit, record.commit);
        // The loser stays one, in whichever block it comes again.
        assert_refused!(&mut chain, loser, TxError::WrongEpoch { current: 2 });
    }
}

#[test]
fn frames_and_commits_are_one_log() {
    let (mut chain, _, group) = begin(1, Mode::Open);
    let txs = vec![
        group.post(&mut chain, 1, &["a", "b"]),
        group.advance(&mut chain, 1, false, None),
        // Keys of an epoch count at once, in the order of the block.
        group.post(&mut chain, 2, &["c"]),
        group.post(&mut chain, 1, &["late"]),
    ];
    let outcomes = chain.done(txs);
    let numbers = [0, 2, 3, 4].map(Outcome::Sequence);
    assert_eq!(outcomes, numbers);
    let log = LogId::Group(group.id);
    let kinds: Vec<_> = (0..5)
        .map(|at| {
            let entry = chain.view.get(Table::Entry, &entry_key(&log, at)).unwrap();
            match Entry::from_bytes(&entry.unwrap()).unwrap() {
                Entry::Post(entry) => (entry.sequence, entry.epoch, "post"),
                Entry::Advance(entry) => (entry.sequence, entry.epoch, "advance"),
                Entry::Message(_) | Entry::Membership(_) => panic!("not of a group"),
            }
        })
        .collect();
    let expected = [
        (0, 1, "post"),
        (1, 1, "post"),
        (2, 2, "advance"),
        (3, 2, "post"),
        (4, 1, "post"),
    ];
    assert_eq!(kinds, expected);
    // The same frame once more, in another post.
    let again = group.post(&mut chain, 2, &["d", "c"]);
    assert_refused!(&mut chain, again, TxError::MessageKnown { sequence: 3 });
    // Sealed in another epoch it is another frame; twice in one post it is the same.
    let twice = group.post(&mut chain, 2, &["e", "e"]);
    assert_refused!(&mut chain, twice, TxError::MessageKnown { sequence: 5 });
}

#[test]
fn a_post_is_refused_by_the_reason_why_it_must_be_sealed_again() {
    let (mut chain, _, group) = begin(1, Mode::Open);
    for epoch in 1..=4 {
        wait(&mut chain, 30 * SECOND_MS);
        let tx = group.advance(&mut chain, epoch, false, None);
        chain.done(vec![tx]);
    }
    let ahead = group.post(&mut chain, 6, &["x"]);
    let ahead = refused(&mut chain, ahead);
    assert!(matches!(
        ahead,
        TxError::StalePost(StalePost::Ahead { current: 5 })
    ));
    // Epoch 1 ended 90 s ago, epoch 3 is two back.
    let txs = vec![
        group.post(&mut chain, 1, &["first"]),
        group.post(&mut chain, 3, &["third"]),
    ];
    chain.done(txs);
    wait(&mut chain, 2 * MINUTE_MS);
    let over = group.post(&mut chain, 2, &["x"]);
    let over = refused(&mut chain, over);
    assert!(matches!(
        over,
        TxError::StalePost(StalePost::Over { current: 5 })
    ));
    let tx = group.post(&mut chain, 3, &["always two back"]);
    chain.done(vec![tx]);
    // A removal refuses at once what was sealed before.
    let tx = group.advance(&mut chain, 5, true, Some(0));
    chain.done(vec![tx]);
    for epoch in [5, 3, 1, 0] {
        let below = group.post(&mut chain, epoch, &["removed"]);
        let below = refused(&mut chain, below);
        assert!(matches!(
            below,
            TxError::StalePost(StalePost::BelowFloor { floor: 6 })
        ));
    }
    let chunk = Kind::PutGroupChunk(PutGroupChunk {
        epoch: 5,
        bytes: vec![1],
    });
    let chunk = group.sign(&mut chain, &group.posting(5), chunk);
    let below = refused(&mut chain, chunk);
    assert!(matches!(
        below,
        TxError::StalePost(StalePost::BelowFloor { floor: 6 })
    ));
}

#[test]
fn only_the_last_sixteen_epochs_have_keys() {
    let (mut chain, _, group) = begin(1, Mode::Open);
    for epoch in 1..=18 {
        wait(&mut chain, 2 * SECOND_MS);
        let tx = group.advance(&mut chain, epoch, false, Some(0));
        chain.done(vec![tx]);
    }
    let record = group.record(&chain);
    assert_eq!(
        (record.epoch, record.past.len(), record.past[0].epoch),
        (19, 16, 3)
    );
    let prefix = group_keys_prefix(&group.id);
    let keys = chain
        .view
        .range(Table::Keys, &prefix, &prefix_end(&prefix), 99);
    // Seventeen posting keys, a control key, an admin's.
    assert_eq!(keys.unwrap().len(), 17 + 1 + 1);
    // Less than two minutes ago, but nobody knows its key any more.
    let over = group.post(&mut chain, 2, &["x"]);
    let over = refused(&mut chain, over);
    assert!(matches!(
        over,
        TxError::StalePost(StalePost::Over { current: 19 })
    ));
    let tx = group.post(&mut chain, 3, &["x"]);
    chain.done(vec![tx]);
}

#[test]
fn members_advance_once_in_ten_seconds_and_admins_in_between() {
    let (mut chain, _, group) = begin(2, Mode::Open);
    let tx = group.advance(&mut chain, 1, false, None);
    chain.done(vec![tx]);
    wait(&mut chain, 9_998);
    let early = group.advance(&mut chain, 2, false, None);
    let error = refused(&mut chain, early);
    assert!(
        matches!(error, TxError::RateLimited { retry_ms: 2, .. }),
        "{error:?}"
    );
    // The one who is to be removed has just advanced, and cannot again before an admin does.
    let removal = group.advance(&mut chain, 2, true, Some(1));
    chain.done(vec![removal]);
    let next = group.advance(&mut chain, 3, false, Some(0));
    let error = refused(&mut chain, next);
    assert!(
        matches!(
            error,
            TxError::RateLimited {
                retry_ms: 2_000,
                ..
            }
        ),
        "{error:?}"
    );
    wait(&mut chain, 2_000);
    let next = group.advance(&mut chain, 3, false, Some(0));
    chain.done(vec![next]);
    // Any advance counts against the members' ten seconds.
    let early = group.advance(&mut chain, 4, false, None);
    assert_refused!(&mut chain, early, TxError::RateLimited { .. });
    wait(&mut chain, 10_000);
    let tx = group.advance(&mut chain, 4, false, None);
    chain.done(vec![tx]);
}

#[test]
fn an_advance_is_signed_by_the_control_key_and_where_the_mode_says_so_by_an_admin() {
    let (mut chain, _, group) = begin(1, Mode::AdminOnly);
    let tx = group.advance(&mut chain, 1, false, None);
    assert_refused!(&mut chain, tx, TxError::AdminSignatureRequired);
    let mut nobody = group.clone();
    nobody.admins = vec![signing_key("nobody")];
    let tx = nobody.advance(&mut chain, 1, false, Some(0));
    assert_refused!(&mut chain, tx, TxError::NotAnAdmin);
    // An admin who has not the control key, a member whose admin did not sign.
    let good = group.advance(&mut chain, 1, false, Some(0));
    let id = chain.header.chain;
    let by_posting = signed(good.clone(), &id, &group.posting(1), 0);
    assert_refused!(&mut chain, by_posting, TxError::InvalidSignature);
    let mut by_nobody = good.clone();
    cosign(&mut by_nobody, &id, &[signing_key("nobody")]);
    assert_refused!(&mut chain, by_nobody, TxError::InvalidSignature);
    let mut unsigned = good.clone();
    unsigned.signature.clear();
    assert_refused!(&mut chain, unsigned, TxError::SignatureRequired);
    // Whose name was taken out of it signed something else.
    let mut bare = good.clone();
    if let Kind::AdvanceGroup(k) = &mut bare.kind {
        k.admin = None;
    }
    assert_refused!(&mut chain, bare, TxError::InvalidSignature);
    chain.done(vec![good]);
    wait(&mut chain, 2_000);
    // An admin opens it to everybody.
    let (admin, mode) = (group.admins[0].digest(), Mode::Open);
    let tx = group.sign(
        &mut chain,
        &group.admins[0],
        Kind::SetMode(SetMode { admin, mode }),
    );
    chain.done(vec![tx]);
    wait(&mut chain, 10_000);
    let tx = group.advance(&mut chain, 2, false, None);
    chain.done(vec![tx]);
}

#[test]
fn an_insider_neither_races_nor_starves_its_own_removal() {
    let parameters = Parameters::default();
    // Enough for some posts; the reserve is the admins' alone.
    let (mut chain, sponsor, group) = begin_on(parameters, (1, Mode::Open), (40_000, 60_000));
    let mut sent = 0;
    let error = loop {
        let frame = sent.to_string();
        let tx = group.post(&mut chain, 1, &[&frame]);
        let (built, mut refused) = chain.block(1, vec![tx]);
        if let Some(error) = refused.pop() {
            break error;
        }
        sent += built.applied.len();
    };
    assert!(
        matches!(error, TxError::BudgetUsedUp) && sent > 3,
        "{sent} {error:?}"
    );
    let tx = group.advance(&mut chain, 1, false, None);
    assert_refused!(&mut chain, tx, TxError::BudgetUsedUp);
    // Without an epoch an admin shuts the door, whatever the insider advances.
    let (admin, mode) = (group.admins[0].digest(), Mode::AdminOnly);
    let tx = group.sign(
        &mut chain,
        &group.admins[0],
        Kind::SetMode(SetMode { admin, mode }),
    );
    chain.done(vec![tx]);
    wait(&mut chain, 2_000);
    let before = group.record(&chain);
    let removal = group.advance(&mut chain, 1, true, Some(0));
    chain.done(vec![removal]);
    let after = group.record(&chain);
    assert_eq!((after.floor, after.budget), (2, before.budget));
    assert!(after.reserve < before.reserve);
    // Anybody pays for more.
    let (budget, reserve) = (30_000, 7);
    let top_up = Kind::TopUpGroup(TopUpGroup {
        group: group.id,
        budget,
        reserve,
    });
    let anybody = Person::new("anybody");
    chain.register(&[&anybody]);
    let tx = chain.tx(&anybody, top_up);
    chain.done(vec![tx]);
    let paid = group.record(&chain);
    assert_eq!(
        (paid.budget, paid.reserve),
        (after.budget + 30_000, after.reserve + 7)
    );
    let tx = group.post(&mut chain, 2, &["on we go"]);
    chain.done(vec![tx]);
    let too_much = Kind::TopUpGroup(TopUpGroup {
        group: group.id,
        budget: u64::MAX,
        reserve: 0,
    });
    let tx = chain.tx(&sponsor, too_much);
    assert_refused!(&mut chain, tx, TxError::LimitReached { .. });
}

#[test]
fn what_a_group_may_do_is_paid_from_the_sponsors_quota_and_balance() {
    let parameters = Parameters {
        price: 2,
        account_weight: Rate {
            per_second: 10,
            burst: 200_000,
        },
        ..Parameters::default()
    };
    let (mut chain, sponsor, group) = begin_on(parameters, (1, Mode::Open), (50_000, 10_000));
    let account = |chain: &Chain| {
        let key = RecordKey::Account(sponsor.account).to_bytes();
        let cell = chain.view.get(Table::Record, &key).unwrap().unwrap();
        session_core::account::Account::from_bytes(&cell).unwrap()
    };
    let before = account(&chain).balance;
    assert!(before < 1_000_000 - 2 * 60_000);
    let weight = {
        let tx = group.post(&mut chain, 1, &["a frame"]);
        let bytes = tx.to_bytes().len() as u64;
        let (built, _) = chain.block(1, vec![tx]);
        // Its bytes, its group's record and its action's.
        assert_eq!(built.applied[0].weight, bytes + 2 * 1_024);
        built.applied[0].weight
    };
    assert_eq!(group.record(&chain).budget, 50_000 - weight);
    // Members cost their sponsor nothing more.
    assert_eq!(account(&chain).balance, before);
    let more = |budget| {
        Kind::TopUpGroup(TopUpGroup {
            group: group.id,
            budget,
            reserve: 0,
        })
    };
    let tx = chain.tx(&sponsor, more(150_000));
    assert_refused!(&mut chain, tx, TxError::RateLimited { .. });
    let tx = chain.tx(&sponsor, more(1 << 40));
    assert_refused!(&mut chain, tx, TxError::InsufficientBalance);
}

#[test]
fn a_majority_of_admins_replaces_them() {
    let (mut chain, _, group) = begin(3, Mode::Open);
    let new = vec![admin_key(8), admin_key(9)];
    let tx = group.set_admins(&mut chain, &[0], new.clone());
    let error = refused(&mut chain, tx);
    assert!(
        matches!(error, TxError::NotAMajority { got: 1, needed: 2 }),
        "{error:?}"
    );
    let mut strangers = group.clone();
    strangers.admins[1] = signing_key("stranger");
    let tx = strangers.set_admins(&mut chain, &[0, 1], new.clone());
    assert_refused!(&mut chain, tx, TxError::NotAnAdmin);
    let tx = group.set_admins(&mut chain, &[0, 2], vec![admin_key(8), admin_key(8)]);
    assert_refused!(&mut chain, tx, TxError::AdminTwice);
    // Each of the signatures counts.
    let good = group.set_admins(&mut chain, &[0, 2], new.clone());
    let mut own = good.clone();
    own.signature = sign(
        &signing_key("stranger"),
        good.ids(&chain.header.chain).action.as_bytes(),
        0,
    );
    assert_refused!(&mut chain, own, TxError::InvalidSignature);
    let mut other = good.clone();
    cosign(&mut other, &chain.header.chain, &[signing_key("stranger")]);
    assert_refused!(&mut chain, other, TxError::InvalidSignature);
    chain.done(vec![good]);
    let (old, mode) = (group.admins[0].digest(), Mode::AdminOnly);
    let tx = group.sign(
        &mut chain,
        &group.admins[0],
        Kind::SetMode(SetMode { admin: old, mode }),
    );
    assert_refused!(&mut chain, tx, TxError::NotAnAdmin);
    let admin = admin_key(9).digest();
    let tx = group.sign(
        &mut chain,
        &admin_key(9),
        Kind::SetMode(SetMode { admin, mode }),
    );
    chain.done(vec![tx]);
    // The keys of the old ones are gone.
    let prefix = group_keys_prefix(&group.id);
    let keys = chain
        .view
        .range(Table::Keys, &prefix, &prefix_end(&prefix), 99);
    assert_eq!(keys.unwrap().len(), 1 + 1 + 2);
}

#[test]
fn a_superseded_group_takes_nothing_and_names_its_successor() {
    let (mut chain, sponsor, group) = begin(1, Mode::Open);
    let key = group.admins[0].clone();
    let admin = key.digest();
    let supersede = |successor, invitation| {
        Kind::Supersede(Supersede {
            admin,
            successor,
            invitation,
        })
    };
    for nowhere in [group.id, GroupId::from_bytes([9; 32])] {
        let tx = group.sign(&mut chain, &key, supersede(nowhere, None));
        assert_refused!(&mut chain, tx, TxError::NoSuccessor);
    }
    let named = ("next", 1, Mode::Open);
    let (next, tx) = Members::create(&mut chain, &sponsor, named, (100_000, 0));
    chain.done(vec![tx]);
    // The invitation lies where members find it, and longer than its last put would keep it.
    let bytes = b"sealed".to_vec();
    let invitation = PutChunk::id(&bytes);
    let unknown = supersede(next.id, Some(invitation));
    let tx = group.sign(&mut chain, &key, unknown);
    assert_refused!(&mut chain, tx, TxError::UnknownChunk { .. });
    let tx = chain.tx(&sponsor, Kind::PutChunk(PutChunk { bytes }));
    chain.done(vec![tx]);
    let put = chunk_of(&chain, invitation);
    wait(&mut chain, 5_000);
    let kind = supersede(next.id, Some(invitation));
    let tx = group.sign(&mut chain, &key, kind);
    chain.done(vec![tx]);
    let now = chain.header.time;
    assert!(chunk_of(&chain, invitation).expires > put.expires);
    let succession = group.record(&chain).succession.unwrap();
    assert_eq!(succession.invitation, Some(invitation));
    assert_eq!(
        group.record(&chain).standing(now),
        Standing::Superseded(next.id)
    );
    wait(&mut chain, 10_000);
    let late = vec![
        group.post(&mut chain, 1, &["late"]),
        group.advance(&mut chain, 1, false, Some(0)),
        group.set_admins(&mut chain, &[0], vec![admin_key(5)]),
        chain.tx(
            &sponsor,
            Kind::TopUpGroup(TopUpGroup {
                group: group.id,
                budget: 1,
                reserve: 0,
            }),
        ),
    ];
    for tx in late {
        let error = refused(&mut chain, tx);
        assert!(
            matches!(error, TxError::GroupSuperseded { successor } if successor == next.id),
            "{error:?}"
        );
    }
    // Nobody goes back to it.
    let back = Kind::Supersede(Supersede {
        admin,
        successor: group.id,
        invitation: None,
    });
    let tx = next.sign(&mut chain, &key, back);
    assert_refused!(&mut chain, tx, TxError::NoSuccessor);
    // It is dropped once nobody may be behind any more.
    wait(&mut chain, DAY_MS);
    assert!(!chain.has(RecordKey::Group(group.id)) && chain.has(RecordKey::Group(next.id)));
    let prefix = group_keys_prefix(&group.id);
    let keys = chain
        .view
        .range(Table::Keys, &prefix, &prefix_end(&prefix), 99);
    assert!(keys.unwrap().is_empty());
}

#[test]
fn a_group_closes_after_ninety_days_without_posts_and_goes_after_the_retention() {
    let (mut chain, _, group) = begin(1, Mode::Open);
    wait(&mut chain, 50 * DAY_MS);
    let tx = group.post(&mut chain, 1, &["a word"]);
    chain.done(vec![tx]);
    // Advances are made by machines: they keep no group alive.
    wait(&mut chain, 89 * DAY_MS);
    let tx = group.advance(&mut chain, 1, false, None);
    chain.done(vec![tx]);
    let end = group.record(&chain).end();
    let left = end.since(chain.header.time);
    assert!(left > 0 && left <= 2 * DAY_MS);
    wait(&mut chain, left);
    let tx = group.post(&mut chain, 2, &["too late"]);
    assert_refused!(&mut chain, tx, TxError::GroupIdle);
    wait(&mut chain, DAY_MS - 2);
    assert!(chain.has(RecordKey::Group(group.id)));
    wait(&mut chain, 3);
    assert!(!chain.has(RecordKey::Group(group.id)));
    assert_eq!(
        (chain.count(Table::Entry), chain.count(Table::Body)),
        (0, 0)
    );
    assert_eq!(
        (chain.count(Table::Message), chain.count(Table::Deadline)),
        (0, 0)
    );
    let tx = group.post(&mut chain, 2, &["much too late"]);
    assert_refused!(&mut chain, tx, TxError::UnknownGroup);
}

#[test]
fn nobody_takes_an_id_and_none_is_given_twice() {
    let (mut chain, sponsor, group) = begin(1, Mode::Open);
    let thief = Person::new("thief");
    chain.register(&[&thief]);
    let named = ("other", 1, Mode::Open);
    let (other, seen) = Members::create(&mut chain, &sponsor, named, (1, 1));
    // Whoever saw it in a pool has not the admin's signature over a transaction of his own.
    let id = chain.header.chain;
    let stolen = Tx {
        signer: thief.account,
        ..seen.clone()
    };
    let stolen = signed(stolen, &id, &thief.signing(), 0);
    assert_refused!(&mut chain, stolen, TxError::InvalidSignature);
    for wrong in [
        [signing_key("nobody"), other.control(1)],
        [other.admins[0].clone(), other.posting(1)],
    ] {
        let mut wrongly = seen.clone();
        cosign(&mut wrongly, &id, &wrong);
        assert_refused!(&mut chain, wrongly, TxError::InvalidSignature);
    }
    let mut unsigned = seen.clone();
    unsigned.signature.clear();
    assert_refused!(&mut chain, unsigned, TxError::SignatureRequired);
    chain.done(vec![seen.clone()]);
    // Signed anew, with another budget, it is still the same group.
    let mut again = seen;
    if let Kind::CreateGroup(k) = &mut again.kind {
        k.budget = 2;
    }
    cosign(
        &mut again,
        &id,
        &[other.admins[0].clone(), other.control(1)],
    );
    let again = signed(again, &id, &sponsor.signing(), 0);
    assert_refused!(&mut chain, again, TxError::GroupExists);
    // A salt counts for a while.
    for (ms, is_taken) in [
        (-1, false),
        (0, true),
        (30 * DAY_MS as i64, true),
        (30 * DAY_MS as i64 + 1, false),
    ] {
        let now = chain.header.time.ms() + 1;
        let until = Time::from_ms(now.saturating_add_signed(ms));
        let name = format!("at {ms}");
        let (new, mut tx) = Members::create(&mut chain, &sponsor, (&name, 1, Mode::Open), (1, 1));
        if let Kind::CreateGroup(k) = &mut tx.kind {
            k.salt = group_salt(until, &[1; 24]);
        }
        cosign(&mut tx, &id, &[new.admins[0].clone(), new.control(1)]);
        let tx = signed(tx, &id, &sponsor.signing(), 0);
        let (_, refused) = chain.block(1, vec![tx]);
        let passed = matches!(refused[..], [TxError::GroupUntil { .. }]);
        assert_eq!(refused.is_empty(), is_taken, "{refused:?}");
        assert!(is_taken || passed, "{refused:?}");
    }
    assert_ne!(group.id, other.id);
}

#[test]
fn an_open_chain_lets_nobody_into_a_group_without_a_signature() {
    let parameters = Parameters {
        admission: Admission::Open,
        ..Parameters::default()
    };
    let (mut chain, _, group) = begin_on(parameters, (1, Mode::Open), (1_000_000, 1_000_000));
    let key = group.admins[0].clone();
    let (admin, mode) = (key.digest(), Mode::AdminOnly);
    let chunk = Kind::PutGroupChunk(PutGroupChunk {
        epoch: 1,
        bytes: vec![1],
    });
    let all = vec![
        group.post(&mut chain, 1, &["x"]),
        group.advance(&mut chain, 1, false, None),
        group.sign(&mut chain, &key, Kind::SetMode(SetMode { admin, mode })),
        group.set_admins(&mut chain, &[0], vec![admin_key(4)]),
        group.sign(&mut chain, &group.posting(1), chunk),
    ];
    for tx in all {
        for signature in [Vec::new(), vec![7; 64], vec![7; 3_309]] {
            let length = signature.len();
            let tx = Tx {
                signature,
                ..tx.clone()
            };
            let error = refused(&mut chain, tx);
            let expected = match length {
                0 => matches!(error, TxError::SignatureRequired),
                64 => matches!(error, TxError::LegacyRefused),
                _ => matches!(error, TxError::InvalidSignature),
            };
            assert!(expected, "{length}: {error:?}");
        }
    }
}

#[test]
fn accounts_send_nothing_to_a_group_and_acknowledge_nothing() {
    let (mut chain, sponsor, group) = begin(1, Mode::Open);
    let conversation = Conversation::Group(group.id);
    for kind in [
        Kind::SendMessage(SendMessage {
            conversation,
            ciphertext: vec![1],
        }),
        Kind::SendBatch(SendBatch {
            conversation,
            ciphertexts: vec![vec![1]],
        }),
        Kind::AcknowledgeMessages(AcknowledgeMessages {
            conversation,
            up_to: 0,
        }),
    ] {
        let tx = chain.tx(&sponsor, kind);
        let tx = if tx.kind.is_single_message() {
            signed(
                Tx {
                    valid_until: Time::default(),
                    salt: 0,
                    ..tx
                },
                &chain.header.chain,
                &sponsor.signing(),
                0,
            )
        } else {
            tx
        };
        assert_refused!(&mut chain, tx, TxError::PostsOnly);
    }
    // And a group sends nothing anywhere else: its id is no account.
    let frames = vec![vec![1]];
    let kind = Kind::GroupPost(GroupPost { epoch: 1, frames });
    let tx = chain.tx(&sponsor, kind);
    assert_refused!(&mut chain, tx, TxError::UnknownGroup);
    let chunk = Kind::PutChunk(PutChunk { bytes: vec![1] });
    let tx = group.sign(&mut chain, &group.posting(1), chunk);
    assert_eq!(tx.signer, as_signer(&group.id));
    assert_refused!(&mut chain, tx, TxError::UnknownAccount);
}

#[test]
fn a_large_commit_travels_in_chunks_that_are_kept_with_it() {
    let (mut chain, _, group) = begin(1, Mode::Open);
    let pieces = [vec![1; 60_000], vec![2; 100]];
    let ids: Vec<ChunkId> = pieces.iter().map(|bytes| PutChunk::id(bytes)).collect();
    let by_chunks = |chain: &mut Chain, ids: Vec<ChunkId>| {
        group.advance_by(chain, 1, false, None, Commit::Chunks(ids))
    };
    let tx = by_chunks(&mut chain, ids.clone());
    let error = refused(&mut chain, tx);
    assert!(
        matches!(error, TxError::UnknownChunk { id } if id == ids[0]),
        "{error:?}"
    );
    for bytes in pieces.clone() {
        let put = Kind::PutGroupChunk(PutGroupChunk { epoch: 1, bytes });
        let tx = group.sign(&mut chain, &group.posting(1), put);
        chain.done(vec![tx]);
    }
    wait(&mut chain, DAY_MS - MINUTE_MS);
    let tx = by_chunks(&mut chain, ids.clone());
    chain.done(vec![tx]);
    assert_eq!(group.record(&chain).commit, commit_hash(&ids));
    // They would have gone by now.
    wait(&mut chain, HOUR_MS);
    assert!(ids.iter().all(|id| chain.has(RecordKey::Chunk(*id))));
    wait(&mut chain, DAY_MS);
    assert!(!ids.iter().any(|id| chain.has(RecordKey::Chunk(*id))));
    // One piece has one hash, however it travels.
    let bytes = Commit::Bytes(pieces[1].clone());
    assert_eq!(bytes.hash(), Commit::Chunks(vec![ids[1]]).hash());
    assert_ne!(bytes.hash(), Digest::from_bytes([0; 32]));
}

#[test]
fn old_leaves_go_tile_by_tile_and_what_is_younger_stays() {
    let (mut chain, _, group) = begin(1, Mode::Open);
    let fill = |chain: &mut Chain, from: u32| {
        for post in from..from + 8 {
            let frames: Vec<String> = (0..32).map(|i| format!("{post} {i}")).collect();
            let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
            let tx = group.post(chain, 1, &frames);
            chain.done(vec![tx]);
        }
    };
    fill(&mut chain, 0);
    wait(&mut chain, HOUR_MS);
    fill(&mut chain, 8);
    wait(&mut chain, DAY_MS - MINUTE_MS);
    let log = LogId::Group(group.id);
    let first = session_chain::view::first_entry(&chain.view, &log).unwrap();
    assert_eq!(first.map(|(at, _)| at), Some(256));
    assert_eq!(group.record(&chain).log.count(), 512);
    wait(&mut chain, HOUR_MS);
    assert_eq!(chain.count(Table::Entry), 0);
    assert_eq!(chain.count(Table::Message), 0);
    // It goes on where it was.
    let tx = group.post(&mut chain, 1, &["again"]);
    assert_eq!(chain.done(vec![tx]), [Outcome::Sequence(512)]);
}
