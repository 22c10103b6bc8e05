//! Accounts that change while they are in groups: revoked ones are judged alike by whoever comes
//! early and late, whoever changes while it is added is in, and devices of accounts with new keys are certified by them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::as_signer;
use session_chain::tx::identity::{RevokeIdentity, RotateKeys};
use session_chain::tx::{KemKey, Kind, SigningKey as TxKey, Tx};
use session_client::e2ee::{EventKind, GroupStatus, OutgoingKind, Policy};
use session_client::{Account, ClientError, Groups, IdentityFile, Lock, NewGroup, RpcClient};
use session_core::codec::Encode;
use session_core::ids::GroupId;
use session_core::time::{MINUTE_MS, Time};
use session_crypto::{Identity, KdfCost, SigningPublicKey};
use session_fixture::{NodeOptions, ThrowawayNode};
use session_vm::clock::{Clock, SystemClock};
use support::Proxy;
use support::group::{
    flush_all, hand_over, in_a_week, line, now_ms, owned_by, person, read, shown, together,
};
use zeroize::Zeroizing;

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_before_a_revocation_and_who_follows_after_it_come_to_the_same_verdict() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let mut dave = person(rpc.clone(), &path("dave")).await;
    let mut carol = person(rpc.clone(), &path("carol")).await;
    let new = NewGroup::open(owned_by(&alice));
    let group = together(&mut alice, &mut [&mut bob, &mut dave], new).await;

    // Carol comes in, Bob follows, she revokes her account, Dave follows.
    let package = line(&mut carol);
    alice.add(group, &[package]).await.unwrap();
    bob.receive(group).await.unwrap();
    carol.account_mut().revoke().await.unwrap();
    dave.receive(group).await.unwrap();
    for person in [&alice, &bob, &dave] {
        assert_eq!(person.device().epoch(group).unwrap(), 2);
        assert_eq!(person.device().status(group).unwrap(), GroupStatus::Active);
    }
}

/// What an account does while it is added.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Change {
    Rotates,
    Revoked,
}

/// The transaction by which somebody's account changes.
fn change(of: &Groups, change: Change) -> Tx {
    let identity = of.account().identity();
    let kind = match change {
        Change::Rotates => {
            let next = Identity::generate().unwrap();
            Kind::RotateKeys(RotateKeys {
                kem: KemKey(Box::new(*next.public().kem().as_bytes())),
                signing: TxKey(Box::new(*next.public().signing().as_bytes())),
                recovery: None,
            })
        }
        Change::Revoked => Kind::RevokeIdentity(RevokeIdentity { recovery: None }),
    };
    let mut tx = Tx {
        signer: identity.account_id(),
        valid_until: Time::from_ms(now_ms() + 30 * MINUTE_MS),
        salt: 1,
        kind,
        signature: Vec::new(),
    };
    let digest = tx.signed_digest(&of.account().chain());
    tx.signature = identity.sign(&digest).unwrap().as_bytes().to_vec();
    tx
}

/// A commit of a device that waits, as a transaction.
fn advance(by: &Groups, group: GroupId) -> Tx {
    let outbox = by.device().outbox().unwrap().into_iter();
    let mut commits = outbox.filter_map(|waits| match waits.kind {
        OutgoingKind::Commit(advance) => Some(advance),
        OutgoingKind::Create(_) | OutgoingKind::Frame { .. } | OutgoingKind::Invitation(_) => None,
    });
    let advance = commits.next().unwrap();
    let key = |key: &SigningPublicKey| TxKey(Box::new(*key.as_bytes()));
    let mut tx = Tx {
        signer: as_signer(&group),
        valid_until: Time::from_ms(now_ms() + 30 * MINUTE_MS),
        salt: 1,
        kind: Kind::AdvanceGroup(AdvanceGroup {
            epoch: advance.from_epoch,
            commit: Commit::Bytes(advance.commit.clone()),
            posting: key(&advance.keys.posting),
            control: key(&advance.keys.control),
            removal: false,
            admin: None,
        }),
        signature: Vec::new(),
    };
    let action = tx.signed_digest(&by.account().chain());
    let epoch = advance.from_epoch;
    let signature = by.device().sign_as_controller(group, epoch, &action);
    tx.signature = signature.unwrap().as_bytes().to_vec();
    tx
}

/// Submits a transaction, and answers what the chain said within a time.
async fn submit_for(rpc: &RpcClient, tx: &Tx, wait_ms: u64) -> Value {
    let params = json!({ "txs": [BASE64.encode(tx.to_bytes())], "waitMs": wait_ms });
    let mut reply: Value = rpc.call("sessionvm.Submit", params).await.unwrap();
    reply["results"][0].take()
}

/// Has the chain take a transaction, and answers the height of its block.
async fn submit(rpc: &RpcClient, tx: &Tx) -> u64 {
    let result = submit_for(rpc, tx, 20_000).await;
    assert_eq!(result["status"], "accepted", "{result}");
    result["height"].as_u64().unwrap()
}

/// Has the chain take two transactions in one block.
async fn submit_both(rpc: &RpcClient, clock: &Ahead, txs: [&Tx; 2]) {
    clock.stop().await;
    for tx in txs {
        let result = submit_for(rpc, tx, 1).await;
        assert_eq!(result["status"], "pending", "{result}");
    }
    clock.go_on();
    let heights = [submit(rpc, txs[0]).await, submit(rpc, txs[1]).await];
    assert_eq!(heights[0], heights[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_changes_in_the_block_before_the_commit_or_in_its_own_halts_no_group() {
    let directory = tempfile::tempdir().unwrap();
    let (node, clock) = node_with_clock().await;
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(proxy.client(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let mut dave = person(rpc.clone(), &path("dave")).await;
    for (n, (what, together_with)) in [
        (Change::Rotates, false),
        (Change::Revoked, false),
        (Change::Rotates, true),
        (Change::Revoked, true),
    ]
    .into_iter()
    .enumerate()
    {
        let new = NewGroup::open(owned_by(&alice));
        let group = together(&mut alice, &mut [&mut bob, &mut dave], new).await;
        let mut erin = person(rpc.clone(), &path(&format!("erin {n}"))).await;
        let package = line(&mut erin);
        // Nobody hears of the commit, and it may have got through.
        proxy.cut(Some(("sessionvm.Submit", false)));
        let cut = alice.add(group, &[package]).await;
        assert!(matches!(cut, Err(ClientError::Waiting { .. })), "{cut:?}");
        let commit = advance(&alice, group);
        proxy.cut(None);
        if together_with {
            submit_both(&rpc, &clock, [&change(&erin, what), &commit]).await;
        } else {
            submit(&rpc, &change(&erin, what)).await;
            // It is not sent again, and not forgotten either.
            let waits = alice.flush(group).await.unwrap();
            assert_eq!((waits.accepted, waits.waiting), (0, 1), "{waits:?}");
            alice.say(group, "still here").await.unwrap();
            submit(&rpc, &commit).await;
        }
        bob.receive(group).await.unwrap();
        alice.say(group, "welcome").await.unwrap();
        bob.say(group, "we are four").await.unwrap();
        dave.receive(group).await.unwrap();
        for person in [&alice, &bob, &dave] {
            assert_eq!(person.device().epoch(group).unwrap(), 2, "{what:?}");
            assert_eq!(person.device().status(group).unwrap(), GroupStatus::Active);
            assert_eq!(person.members(group).unwrap().len(), 4);
        }
        let said = read(&mut alice, group).await;
        assert_eq!(said, ["we are four"]);
        if what == Change::Rotates {
            hand_over(&mut alice, group, &mut [&mut erin]).await;
            erin.say(group, "in").await.unwrap();
            assert_eq!(read(&mut bob, group).await.last().unwrap(), "in");
        }
    }
}

/// A node's clocks, which go ahead of those of people, and can have it stop before its next block.
#[derive(Default)]
struct Ahead {
    system: SystemClock,
    ms: AtomicU64,
    stop: AtomicBool,
    stopped: AtomicBool,
}

impl Ahead {
    /// Stops the node's producer: what is submitted until it goes on goes into one block.
    async fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
        let deadline = Instant::now() + Duration::from_secs(20);
        while !self.stopped.load(Ordering::SeqCst) {
            assert!(
                Instant::now() < deadline,
                "the node does not look at its clock"
            );
            tokio::task::yield_now().await;
        }
    }

    fn go_on(&self) {
        self.stop.store(false, Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn wall(&self) -> Time {
        self.system.wall().after_ms(self.ms.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> u64 {
        while self.stop.load(Ordering::SeqCst) {
            self.stopped.store(true, Ordering::SeqCst);
            std::thread::yield_now();
        }
        self.stopped.store(false, Ordering::SeqCst);
        self.system.monotonic_ms() + self.ms.load(Ordering::SeqCst)
    }
}

async fn node_with_clock() -> (ThrowawayNode, Arc<Ahead>) {
    let clock = Arc::new(Ahead::default());
    let options = NodeOptions {
        clock: clock.clone(),
        ..NodeOptions::default()
    };
    (ThrowawayNode::start_with(options).await.unwrap(), clock)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_the_chain_can_take_no_more_is_given_up_and_its_person_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (node, clock) = node_with_clock().await;
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(proxy.client(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let file = IdentityFile::new(&path("erin"), Lock::Exposed).unwrap();
    file.save(&Identity::generate().unwrap()).unwrap();
    let mut erin = kept(rpc.clone(), &file, &path("erin")).await;
    let new = NewGroup::open(owned_by(&alice));
    let group = together(&mut alice, &mut [&mut bob], new).await;
    let package = line(&mut erin);
    proxy.cut(Some(("sessionvm.Submit", false)));
    let cut = alice.add(group, &[package]).await;
    assert!(matches!(cut, Err(ClientError::Waiting { .. })), "{cut:?}");
    proxy.cut(None);
    erin.account_mut().rotate().await.unwrap();
    // Half an hour later no copy of it can be taken; a block has to say that it is.
    for minutes in [25, 35] {
        let waits = alice.flush(group).await.unwrap();
        assert_eq!(waits.waiting, 1, "{waits:?}");
        clock.ms.store(minutes * MINUTE_MS, Ordering::SeqCst);
        bob.say(group, "time goes by").await.unwrap();
    }
    let refused = alice.flush(group).await;
    assert!(
        matches!(refused, Err(ClientError::Refused(_))),
        "{refused:?}"
    );
    assert_eq!(alice.flush(group).await.unwrap().waiting, 0);
    let device = erin.device().member().unwrap();
    let told = shown(&mut alice);
    let not_added = |kind: &EventKind| matches!(kind, EventKind::NotAdded { device: found } if *found == device);
    assert!(told.iter().any(|event| not_added(&event.kind)), "{told:?}");
    // With a line of her new keys she comes in.
    let package = line(&mut erin);
    alice.add(group, &[package]).await.unwrap();
    flush_all(&mut alice, group).await;
    hand_over(&mut alice, group, &mut [&mut erin]).await;
    erin.say(group, "in").await.unwrap();
    assert_eq!(read(&mut bob, group).await, ["in"]);
}

/// The how-manieth certificate of its account a person's leaf has, as another member sees it.
fn serial(of: &Groups, by: &Groups, group: GroupId) -> u64 {
    let device = of.device().member().unwrap().device;
    let all = by.device().certificates(group).unwrap();
    let own = all.iter().find(|found| found.claim().device == device);
    own.unwrap().claim().serial
}

async fn kept(rpc: RpcClient, file: &IdentityFile, path: &std::path::Path) -> Groups {
    let account = Account::open_file(rpc, file.clone(), path).await.unwrap();
    Groups::open(account, "phone").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_its_account_has_rotated_a_device_comes_into_new_groups_and_rotates_in_old_ones() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let file = IdentityFile::new(&path("alice"), Lock::Exposed).unwrap();
    file.save(&Identity::generate().unwrap()).unwrap();
    let mut alice = kept(rpc.clone(), &file, &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let mut carol = person(rpc.clone(), &path("carol")).await;
    let alice_id = alice.account().id();
    let chain = alice.account().chain();
    let pair = Policy::between(chain, alice_id, bob.account().id());
    let old = together(&mut alice, &mut [&mut bob], NewGroup::open(pair.clone())).await;
    alice.publish_key_packages(in_a_week()).await.unwrap();
    let early = line(&mut alice);
    alice.account_mut().rotate().await.unwrap();

    // What the key of before has certified is refused by others.
    let refused = carol
        .create(NewGroup::open(owned_by(&carol)), &[early], None)
        .await;
    assert!(matches!(refused, Err(ClientError::E2ee(_))), "{refused:?}");
    // What is made now is taken, and what lies on the chain is replaced.
    let package = line(&mut alice);
    let new = NewGroup::open(pair);
    let fresh = bob.create(new, &[package], None).await.unwrap();
    hand_over(&mut bob, fresh, &mut [&mut alice]).await;
    alice.tick(now_ms()).await.unwrap();
    let taken = carol.take_key_packages(alice_id).await.unwrap();
    let policy = Policy::between(chain, carol.account().id(), alice_id);
    let by_carol = carol
        .create(NewGroup::open(policy), &taken, None)
        .await
        .unwrap();
    hand_over(&mut carol, by_carol, &mut [&mut alice]).await;
    for (person, group) in [(&mut bob, fresh), (&mut carol, by_carol)] {
        assert_eq!(serial(&alice, person, group), 1);
        alice.say(group, "with new keys").await.unwrap();
        assert_eq!(read(person, group).await, ["with new keys"]);
    }

    // In the old group the leaf gets the new certificate with its next keys, also after a restart.
    assert_eq!(serial(&alice, &bob, old), 0);
    drop(alice);
    let mut alice = kept(rpc, &file, &path("alice")).await;
    alice.rotate(old).await.unwrap();
    flush_all(&mut alice, old).await;
    bob.receive(old).await.unwrap();
    assert_eq!(serial(&alice, &bob, old), 1);
    bob.say(old, "so it is").await.unwrap();
    assert_eq!(read(&mut alice, old).await, ["so it is"]);
    // Who joins there now takes both leaves.
    let package = line(&mut carol);
    alice.add(old, &[package]).await.unwrap();
    flush_all(&mut alice, old).await;
    hand_over(&mut alice, old, &mut [&mut carol]).await;
    carol.say(old, "hello").await.unwrap();
    assert_eq!(read(&mut alice, old).await, ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_taken_an_account_back_has_a_device_that_others_take() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let identity = Identity::generate().unwrap();
    let seed = identity.seed().unwrap().clone();
    // A file without a passphrase has keys and no seed.
    let passphrase = Zeroizing::new("not a secret".to_owned());
    let lock = Lock::Passphrase(passphrase, KdfCost::INSECURE_FOR_TESTS);
    let file = IdentityFile::new(&path("alice"), lock).unwrap();
    file.save(&identity).unwrap();
    let mut alice = kept(rpc.clone(), &file, &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    alice.publish_key_packages(in_a_week()).await.unwrap();
    let pair = Policy::between(
        alice.account().chain(),
        alice.account().id(),
        bob.account().id(),
    );
    let group = together(&mut alice, &mut [&mut bob], NewGroup::open(pair)).await;
    drop(alice);
    // A thief rotates, she takes the account back with her words.
    let stolen = IdentityFile::new(&path("thief"), Lock::Exposed).unwrap();
    stolen.save(&identity.without_seed().unwrap()).unwrap();
    let thief = Account::open_file(rpc.clone(), stolen, &path("thief")).await;
    thief.unwrap().rotate().await.unwrap();
    let account = Account::take_back(rpc.clone(), seed, file, &path("alice")).await;
    let mut alice = Groups::open(account.unwrap(), "phone").unwrap();
    alice.tick(now_ms()).await.unwrap();
    alice.rotate(group).await.unwrap();
    flush_all(&mut alice, group).await;
    bob.receive(group).await.unwrap();
    assert_eq!(bob.device().status(group).unwrap(), GroupStatus::Active);
    assert_eq!(serial(&alice, &bob, group), 1);
    let taken = bob.take_key_packages(alice.account().id()).await.unwrap();
    let new = NewGroup::open(owned_by(&bob));
    let other = bob.create(new, &taken, None).await.unwrap();
    hand_over(&mut bob, other, &mut [&mut alice]).await;
    alice.say(other, "it is me").await.unwrap();
    assert_eq!(read(&mut bob, other).await, ["it is me"]);
}
