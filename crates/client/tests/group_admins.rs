//! What admins of a group do, between accounts and a real node: modes, admin keys, budgets, signing
//! what members did, and going on in another group.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::chunk::PutChunk;
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::as_signer;
use session_chain::tx::group::post::PutGroupChunk;
use session_chain::tx::{Kind, SigningKey as TxKey, Tx};
use session_client::e2ee::{
    AccountState, Content, Directory, EventKind, GroupStatus, OutgoingKind, Role, Unusable,
};
use session_client::{ClientError, GroupError, Groups, NewGroup, RpcClient};
use session_core::codec::Encode;
use session_core::group::Mode;
use session_core::ids::{AccountId, GroupId};
use session_core::time::{MINUTE_MS, Time};
use session_crypto::SigningKey;
use session_fixture::ThrowawayNode;
use support::Proxy;
use support::group::{
    flush_all, hand_over, line, now_ms, owned_by, person, read, restarted, shown, together,
};

async fn record(rpc: &RpcClient, group: GroupId) -> Value {
    let params = json!({ "groupId": group });
    let mut reply: Value = rpc.call("sessionvm.GetGroup", params).await.unwrap();
    reply["group"].take()
}

fn epoch(groups: &Groups, group: GroupId) -> u64 {
    groups.device().epoch(group).unwrap()
}

/// What a running program does once.
async fn turn(groups: &mut Groups, group: GroupId) {
    groups.tick(now_ms()).await.unwrap();
    groups.flush(group).await.unwrap();
}

/// Lets everybody's program run until it is so.
macro_rules! run_until {
    ($group:expr, [$($person:expr),+], $done:expr) => {{
        let deadline = Instant::now() + Duration::from_secs(90);
        while !$done {
            $(turn(&mut $person, $group).await;)+
            assert!(Instant::now() < deadline, "it does not come to that");
        }
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admins_client_signs_what_members_did_and_the_loser_of_two_is_signed_next() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(proxy.client(), &path("bob")).await;
    let mut carol = person(rpc.clone(), &path("carol")).await;
    let new = NewGroup::new(owned_by(&alice));
    assert_eq!(new.mode, Mode::AdminOnly);
    let group = together(&mut alice, &mut [&mut bob, &mut carol], new).await;
    // Bob's program ends when the chain has his commit's chunk, and before he has asked anybody.
    proxy.cut(Some(("sessionvm.Submit", true)));
    let cut = bob.rotate(group).await;
    assert!(matches!(cut, Err(ClientError::Waiting { .. })), "{cut:?}");
    bob = restarted(bob, proxy.client(), &path("bob")).await;
    proxy.cut(None);
    assert_eq!(bob.flush(group).await.unwrap().waiting, 1);
    assert_eq!(carol.rotate(group).await.unwrap().waiting, 1);
    // Alice's program ends too, after it has read them.
    alice = restarted(alice, rpc.clone(), &path("alice")).await;
    alice.receive(group).await.unwrap();
    assert_eq!(epoch(&alice, group), 2);
    // One of them is in, the other one is made anew, asked for anew, and signed.
    run_until!(group, [bob, carol, alice], epoch(&alice, group) >= 3);
    run_until!(group, [bob, carol], {
        epoch(&bob, group) == 3 && epoch(&carol, group) == 3
    });
    for person in [&bob, &carol] {
        let outbox = person.device().outbox().unwrap();
        let commits = outbox
            .iter()
            .filter(|waits| matches!(waits.kind, OutgoingKind::Commit(_)));
        assert_eq!(commits.count(), 0);
    }
    bob.say(group, "healed").await.unwrap();
    assert_eq!(read(&mut alice, group).await, ["healed"]);
    assert_eq!(read(&mut carol, group).await, ["healed"]);
}

/// The chain's word on one account that has its first keys.
struct First(AccountId, AccountState);

impl First {
    fn of(groups: &Groups) -> Self {
        let account = groups.account();
        let state = AccountState {
            current: account.identity().public().signing().clone(),
            earlier: Vec::new(),
            revoked_ms: None,
        };
        Self(account.id(), state)
    }
}

impl Directory for First {
    fn account(&self, account: AccountId) -> Option<AccountState> {
        (account == self.0).then(|| self.1.clone())
    }
}

/// A transaction of a group, unsigned.
fn of_group(group: GroupId, kind: Kind) -> Tx {
    Tx {
        signer: as_signer(&group),
        valid_until: Time::from_ms(now_ms() + 30 * MINUTE_MS),
        salt: now_ms(),
        kind,
        signature: Vec::new(),
    }
}

async fn submit(rpc: &RpcClient, tx: &Tx) -> Value {
    let params = json!({ "txs": [BASE64.encode(tx.to_bytes())], "waitMs": 5_000 });
    let mut reply: Value = rpc.call("sessionvm.Submit", params).await.unwrap();
    reply["results"][0].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_commit_of_use_is_not_signed_and_the_group_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let mut mallory = person(rpc.clone(), &path("mallory")).await;
    let new = NewGroup::new(owned_by(&alice));
    let group = together(&mut alice, &mut [&mut bob, &mut mallory], new).await;
    // Mallory asks for garbage that is on the chain, and for chunks that are not.
    let bytes = vec![7; 900];
    let chunks = [PutChunk::id(&bytes), PutChunk::id(b"nowhere")];
    let mut put = of_group(
        group,
        Kind::PutGroupChunk(PutGroupChunk { epoch: 1, bytes }),
    );
    let action = put.signed_digest(&mallory.account().chain());
    let signature = mallory.device().sign_as_poster(group, 1, &action).unwrap();
    put.signature = signature.as_bytes().to_vec();
    assert_eq!(submit(&rpc, &put).await["status"], "accepted");
    let own = First::of(&mallory);
    let device = mallory.device_mut();
    device.rotate(group, &own).unwrap();
    for chunk in chunks {
        device
            .ask_countersign(group, vec![chunk], now_ms())
            .unwrap();
    }
    mallory.flush(group).await.unwrap();
    alice.receive(group).await.unwrap();
    assert_eq!(epoch(&alice, group), 1);
    let left = alice.device().countersign_requests(group).unwrap();
    assert!(left.is_empty(), "{left:?}");
    bob.rotate(group).await.unwrap();
    alice.receive(group).await.unwrap();
    bob.receive(group).await.unwrap();
    assert_eq!((epoch(&alice, group), epoch(&bob, group)), (2, 2));
}

fn admins_of(record: &Value) -> usize {
    record["adminKeys"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn admins_are_made_and_unmade_by_one_call_that_goes_on_after_interruptions() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(proxy.client(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let mut carol = person(rpc.clone(), &path("carol")).await;
    let (bob_id, carol_id) = (bob.account().id(), carol.account().id());
    let new = NewGroup::new(owned_by(&alice));
    let group = together(&mut alice, &mut [&mut bob, &mut carol], new).await;
    let not_his = bob.set_mode(group, Mode::Open).await;
    let not_an_admin = ClientError::Group(GroupError::NotAnAdmin(group));
    assert_eq!(not_his.unwrap_err().to_string(), not_an_admin.to_string());
    assert!(
        bob.set_admins(group, &BTreeSet::from([bob_id]))
            .await
            .is_err()
    );

    // The first new admin needs Alice alone. She is cut off, and her program ends.
    proxy.cut(Some(("sessionvm.Submit", true)));
    let cut = alice.set_admins(group, &BTreeSet::from([bob_id])).await;
    assert!(matches!(cut, Err(ClientError::Waiting { .. })), "{cut:?}");
    alice = restarted(alice, proxy.client(), &path("alice")).await;
    proxy.cut(None);
    run_until!(group, [alice, bob, carol], {
        admins_of(&record(&rpc, group).await) == 2
    });
    assert_eq!(
        bob.device().policy(group).unwrap().role(bob_id),
        Role::Admin
    );
    assert!(alice.admins_settled(group).await.unwrap());
    // Now he is one: towards the chain as well.
    bob.set_mode(group, Mode::Open).await.unwrap();
    assert_eq!(record(&rpc, group).await["mode"], "open");
    bob.set_mode(group, Mode::AdminOnly).await.unwrap();

    // The next one needs both of them: Bob's client is asked, and signs.
    let both = BTreeSet::from([bob_id, carol_id]);
    alice.set_admins(group, &both).await.unwrap();
    run_until!(group, [alice, bob, carol], {
        admins_of(&record(&rpc, group).await) == 3
    });
    carol.rotate(group).await.unwrap();
    flush_all(&mut carol, group).await;
    alice.receive(group).await.unwrap();
    assert_eq!(epoch(&alice, group), epoch(&carol, group));

    // Bob is one no more: not in the group, and not towards the chain.
    alice
        .set_admins(group, &BTreeSet::from([carol_id]))
        .await
        .unwrap();
    run_until!(group, [alice, bob, carol], {
        admins_of(&record(&rpc, group).await) == 2
    });
    let refused = bob.set_mode(group, Mode::Open).await;
    assert!(
        matches!(refused, Err(ClientError::Group(GroupError::NotAnAdmin(_)))),
        "{refused:?}"
    );
    assert_eq!(
        carol.device().policy(group).unwrap().role(bob_id),
        Role::Member
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_without_budget_speaks_again_once_somebody_has_paid() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let new = NewGroup {
        budget: 1_000,
        ..NewGroup::new(owned_by(&alice))
    };
    let group = together(&mut alice, &mut [&mut bob], new).await;
    let said = bob.say(group, "nobody pays for this").await;
    assert!(
        said.is_err() || said.as_ref().unwrap().waiting == 1,
        "{said:?}"
    );
    let mut sponsor = support::account(rpc.clone(), &path("sponsor")).await;
    bob.top_up(group, 100_000, 0, Some(&mut sponsor))
        .await
        .unwrap();
    bob.top_up(group, 0, 7, None).await.unwrap();
    flush_all(&mut bob, group).await;
    assert_eq!(read(&mut alice, group).await, ["nobody pays for this"]);
}

/// Posts a commit that the chain takes and nobody can follow.
async fn end(rpc: &RpcClient, by: &Groups, group: GroupId) {
    let key = || {
        let key = SigningKey::generate().unwrap();
        TxKey(Box::new(*key.public_key().as_bytes()))
    };
    let at = epoch(by, group);
    let kind = Kind::AdvanceGroup(AdvanceGroup {
        epoch: at,
        commit: Commit::Bytes(vec![9; 77]),
        posting: key(),
        control: key(),
        removal: true,
        admin: None,
    });
    let mut tx = of_group(group, kind);
    let action = tx.signed_digest(&by.account().chain());
    let signature = by.device().sign_as_controller(group, at, &action).unwrap();
    tx.signature = signature.as_bytes().to_vec();
    let result = submit(rpc, &tx).await;
    assert_eq!(result["status"], "accepted", "{result}");
}

fn superseded_by(groups: &mut Groups, group: GroupId) -> Vec<GroupId> {
    let events = shown(groups).into_iter();
    let told = events.filter_map(|event| {
        if let EventKind::Superseded { successor } = event.kind
            && event.group == group
        {
            return Some(successor);
        }
        None
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_an_insider_has_ended_goes_on_without_the_insider() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(proxy.client(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let mut carol = person(rpc.clone(), &path("carol")).await;
    let mut dave = person(rpc.clone(), &path("dave")).await;
    let mut mallory = person(rpc.clone(), &path("mallory")).await;
    let new = NewGroup::open(owned_by(&alice));
    let mut others = [&mut bob, &mut carol, &mut dave, &mut mallory];
    let group = together(&mut alice, &mut others, new).await;
    // Everybody but Dave has left a key package.
    for person in [&mut alice, &mut bob, &mut carol, &mut mallory] {
        turn(person, group).await;
    }
    bob.say(group, "before").await.unwrap();
    assert_eq!(read(&mut alice, group).await, ["before"]);
    let mallory_id = mallory.account().id();
    end(&rpc, &mallory, group).await;
    for person in [&mut bob, &mut carol] {
        person.receive(group).await.unwrap();
        assert_eq!(person.device().status(group).unwrap(), GroupStatus::Halted);
        let told = shown(person).into_iter().any(|event| {
            let reason = Unusable::Malformed;
            event.kind == EventKind::Halted { epoch: 2, reason }
        });
        assert!(told);
    }
    // Alice is cut off at each step of it in turn, restarts, and goes on.
    let without = BTreeSet::from([mallory_id]);
    let mut left = Vec::new();
    for reaches in [false, true] {
        proxy.cut(Some(("sessionvm.Submit", reaches)));
        let cut = alice.supersede(group, &without, None).await;
        assert!(matches!(cut, Err(ClientError::Waiting { .. })), "{cut:?}");
        alice = restarted(alice, rpc.clone(), &path("alice")).await;
        drop(cut);
        proxy.cut(None);
        alice = restarted(alice, proxy.client(), &path("alice")).await;
    }
    let done = alice.supersede(group, &without, None).await.unwrap();
    left.extend(done.left);
    assert_eq!(left, [dave.device().member().unwrap()]);
    let successor = done.successor;
    assert_eq!(
        alice
            .supersede(group, &without, None)
            .await
            .unwrap()
            .successor,
        successor
    );
    assert_eq!(superseded_by(&mut alice, group), [successor]);
    assert_eq!(record(&rpc, group).await["successor"], json!(successor));
    assert_eq!(record(&rpc, successor).await["mode"], "admin-only");

    // They read the old log, are told, and are in the new one.
    for person in [&mut bob, &mut carol] {
        person.receive(group).await.unwrap();
        assert_eq!(superseded_by(person, group), [successor]);
        assert_eq!(
            person.device().status(group).unwrap(),
            GroupStatus::Superseded
        );
        assert!(!person.device().awaits_successor(group).unwrap());
        person.receive(group).await.unwrap();
    }
    alice.say(successor, "as before").await.unwrap();
    for person in [&mut bob, &mut carol] {
        assert_eq!(read(person, successor).await, ["as before"]);
    }
    let members = alice.members(successor).unwrap();
    let members: BTreeSet<AccountId> = members.iter().map(|m| m.member.account).collect();
    let expected = [&alice, &bob, &carol].map(|person| person.account().id());
    assert_eq!(members, BTreeSet::from(expected));

    // The insider learns where they went, and stays outside.
    mallory.receive(group).await.unwrap();
    assert_eq!(superseded_by(&mut mallory, group), [successor]);
    assert!(mallory.device().status(successor).is_err());
    assert!(!mallory.device().awaits_successor(group).unwrap());
    // Dave is told, and comes in like anybody.
    dave.receive(group).await.unwrap();
    assert_eq!(superseded_by(&mut dave, group), [successor]);
    let package = line(&mut dave);
    alice.add(successor, &[package]).await.unwrap();
    flush_all(&mut alice, successor).await;
    hand_over(&mut alice, successor, &mut [&mut dave]).await;
    dave.say(successor, "here I am").await.unwrap();
    assert_eq!(read(&mut carol, successor).await, ["here I am"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_moves_because_its_admin_wants_it_and_who_was_away_follows_later() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let mut carol = person(proxy.client(), &path("carol")).await;
    let new = NewGroup::new(owned_by(&alice));
    let group = together(&mut alice, &mut [&mut bob, &mut carol], new).await;
    for person in [&mut alice, &mut bob, &mut carol] {
        turn(person, group).await;
    }
    let refused = bob.supersede(group, &BTreeSet::new(), None).await;
    assert!(
        matches!(refused, Err(ClientError::Group(GroupError::NotAnAdmin(_)))),
        "{refused:?}"
    );
    bob.say(group, "last words").await.unwrap();
    let done = alice
        .supersede(group, &BTreeSet::new(), None)
        .await
        .unwrap();
    assert_eq!(done.left, []);
    let successor = done.successor;
    // Carol is told, and cannot fetch the invitation: she goes on when she can.
    proxy.cut(Some(("sessionvm.GetChunk", false)));
    assert!(carol.receive(group).await.is_err());
    assert!(carol.device().awaits_successor(group).unwrap());
    carol = restarted(carol, proxy.client(), &path("carol")).await;
    assert!(carol.receive(group).await.is_err());
    proxy.cut(None);
    carol.receive(group).await.unwrap();
    let events = shown(&mut carol);
    assert_eq!(support::group::texts(&events), ["last words"]);
    let told = events
        .iter()
        .filter(|event| event.kind == EventKind::Superseded { successor });
    assert_eq!(told.count(), 1);
    bob.receive(group).await.unwrap();
    carol.say(successor, "here").await.unwrap();
    assert_eq!(read(&mut bob, successor).await, ["here"]);
    // Nothing is said in the old one any more.
    let late = bob.keep(group, &[Content::Text("late".into())]);
    assert!(late.is_err());
}
