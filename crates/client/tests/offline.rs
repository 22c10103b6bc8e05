//! Sending while the node is away, and what becomes of what expired meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::session::{CreateSession, NewParticipant};
use session_chain::tx::transfer::Transfer;
use session_chain::tx::{Kind, Tx};
use session_client::{Account, ClientError, IdentityFile, Lock, RpcClient};
use session_core::codec::{Decode, Encode};
use session_core::time::Time;
use session_crypto::Identity;
use session_fixture::ThrowawayNode;
use support::{DOWN, HONEST, Proxy, account, same};

fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(now.unwrap().as_millis()).unwrap()
}

fn signed(by: &Account, kind: Kind, valid_until: u64, salt: u64) -> Tx {
    let mut tx = Tx {
        signer: by.id(),
        valid_until: Time::from_ms(valid_until),
        salt,
        kind,
        signature: Vec::new(),
    };
    let signature = by.identity().sign(&tx.signed_digest(&by.chain())).unwrap();
    tx.signature = signature.as_bytes().to_vec();
    tx
}

fn create(by: &Account, peer: &Account) -> Kind {
    let mut accounts = [by.id(), peer.id()];
    accounts.sort_unstable();
    let participants = accounts.map(|account| NewParticipant {
        account,
        kem: None,
        signing: None,
    });
    Kind::CreateSession(CreateSession {
        participants: participants.to_vec(),
    })
}

async fn submit(rpc: &RpcClient, tx: &Tx) -> Value {
    let params = json!({ "txs": [BASE64.encode(tx.to_bytes())] });
    let reply: Value = rpc.call("sessionvm.Submit", params).await.unwrap();
    reply["results"][0].clone()
}

/// Opens a person's account again, whether or not the node is there.
async fn reopen(rpc: RpcClient, path: &std::path::Path) -> Account {
    let file = IdentityFile::new(path, Lock::Exposed).unwrap();
    Account::open_file_or_offline(rpc, file, path)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_opened_once_goes_on_without_the_node() {
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alice");
    let file = IdentityFile::new(&path, Lock::Exposed).unwrap();
    file.save(&Identity::generate().unwrap()).unwrap();
    let mut bob = account(rpc.clone(), &directory.path().join("bob")).await;

    // Never opened: there is nothing to go on with.
    proxy.set(DOWN);
    let none = Account::open_file_or_offline(proxy.client(), file, &path).await;
    assert!(matches!(none.err(), Some(ClientError::Rpc(_))));
    proxy.set(HONEST);
    let mut alice = reopen(proxy.client(), &path).await;
    assert!(alice.away().is_none());
    let (session, ended) = (
        alice.create_session(bob.id()).await.unwrap(),
        alice.create_session(bob.id()).await.unwrap(),
    );
    bob.send_text(&session, "hello").await.unwrap();
    let read = alice.receive(&session).await.unwrap().count;
    drop(alice);

    proxy.set(DOWN);
    let mut alice = reopen(proxy.client(), &path).await;
    assert!(alice.away().unwrap().contains("does not answer"));
    let bytes = vec![7; 400_000];
    let waits = |error: ClientError| matches!(error, ClientError::Waiting { away: Some(_), .. });
    assert!(waits(
        alice
            .send_text(&session, "from the train")
            .await
            .unwrap_err()
    ));
    assert!(waits(alice.acknowledge(&session, read).await.unwrap_err()));
    assert!(waits(
        alice
            .send_file(&session, "a.bin", &bytes, |_, _| ())
            .await
            .unwrap_err()
    ));
    assert!(waits(alice.close(ended).await.unwrap_err()));
    // What was closed offline is not written to by its peer's name any more.
    let with_bob = alice.session_with(&[bob.id()]).await.unwrap();
    assert_eq!(with_bob, Some(session));
    let kinds: Vec<_> = alice
        .outbox()
        .unwrap()
        .iter()
        .map(|kept| kept.kind)
        .collect();
    let file_batches = ["SendBatch"; 4];
    assert_eq!(kinds[..2], ["SendBatch", "AcknowledgeMessages"]);
    assert_eq!(kinds[2..6], file_batches);
    assert_eq!(kinds[6..], ["CloseSession"]);
    drop(alice);

    proxy.set(HONEST);
    let alice = reopen(proxy.client(), &path).await;
    assert_eq!(alice.flushed().accepted, 7);
    assert!(alice.outbox().unwrap().is_empty());
    assert!(!alice.is_open(&ended).await.unwrap());
    let inbox = bob.receive(&session).await.unwrap();
    assert_eq!(inbox.texts(), ["from the train"]);
    assert_eq!(bob.receipt(&session).await.unwrap().unwrap().up_to, read);
    let history = alice.history().lines().unwrap();
    assert!(history.iter().any(|line| line.text == "from the train"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_transaction_happens_once_or_is_told_as_unknown() {
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alice");
    let alice = account(proxy.client(), &path).await;
    let mut bob = account(rpc.clone(), &directory.path().join("bob")).await;
    let identity = same(alice.identity());
    let reopened = || Account::open(proxy.client(), same(&identity), &path);

    // Accepted, unheard of, expired meanwhile: not a second session.
    let soon = now() + 1_500;
    let accepted = signed(&alice, create(&alice, &bob), soon, 1);
    assert_eq!(submit(&rpc, &accepted).await["status"], "accepted");
    // Never accepted, and expired: once, now.
    let never = signed(&alice, create(&alice, &bob), now() - 1_000, 2);
    assert_eq!(submit(&rpc, &never).await["code"], -32_009);
    alice.dir().keep(901, &accepted.to_bytes()).unwrap();
    alice.dir().keep(902, &never.to_bytes()).unwrap();
    drop(alice);
    tokio::time::sleep(std::time::Duration::from_millis(1_700)).await;
    let alice = reopened().await.unwrap();
    assert_eq!(alice.flushed().accepted, 2, "{:?}", alice.flushed());
    assert!(alice.flushed().refused.is_empty() && alice.flushed().unknown.is_empty());
    assert_eq!(bob.sessions(true).await.unwrap().len(), 2);
    drop(alice);

    // Over an hour ago: nobody can tell, so nothing is done.
    let alice = reopened().await.unwrap();
    let late = signed(&alice, create(&alice, &bob), now() - 2 * 3_600_000, 3);
    alice.dir().keep(903, &late.to_bytes()).unwrap();
    drop(alice);
    let mut alice = reopened().await.unwrap();
    assert_eq!(alice.flushed().unknown.len(), 1);
    assert!(alice.flushed().unknown[0].contains("--again 903"));
    let kept = alice.outbox().unwrap();
    assert!(kept.len() == 1 && kept[0].unknown && kept[0].kind == "CreateSession");
    assert_eq!(bob.sessions(true).await.unwrap().len(), 2);
    assert!(alice.flush_outbox().await.unwrap().unknown.is_empty());
    // Its owner decides.
    assert!(alice.send_again(903).unwrap());
    assert_eq!(alice.flush_outbox().await.unwrap().accepted, 1);
    assert_eq!(bob.sessions(true).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lies_about_an_expired_transaction_gets_no_second_one() {
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alice");
    let alice = account(proxy.client(), &path).await;
    let mut bob = account(rpc.clone(), &directory.path().join("bob")).await;
    let identity = same(alice.identity());
    let reopened = || Account::open(proxy.client(), same(&identity), &path);

    // It keeps a transaction back, says that it has expired, and would accept it later.
    let held = signed(&alice, create(&alice, &bob), now() + 600_000, 1);
    alice.dir().keep(901, &held.to_bytes()).unwrap();
    let other = signed(
        &alice,
        Kind::Transfer(Transfer {
            to: bob.id(),
            amount: 0,
        }),
        now() + 600_000,
        2,
    );
    assert_eq!(submit(&rpc, &other).await["status"], "accepted");
    let other_action = other.ids(&alice.chain()).action;
    let of_other: Value = rpc
        .call(
            "sessionvm.GetAction",
            json!({ "action": other_action, "proof": true }),
        )
        .await
        .unwrap();
    drop(alice);
    let expired = |method: &str, result: &mut Value| {
        if method == "sessionvm.Submit" {
            for result in result["results"].as_array_mut().unwrap() {
                *result = json!({ "status": "refused", "code": -32_009, "error": "expired" });
            }
        }
    };
    // The proxy passes everything on, so the honest node has accepted what it is said to refuse.
    proxy.lie(expired);
    let alice = reopened().await.unwrap();
    assert_eq!(
        alice.flushed().accepted,
        1,
        "the proof says that it was accepted"
    );
    assert_eq!(bob.sessions(true).await.unwrap().len(), 1);
    drop(alice);

    // At most three requests to one person are open at a time.
    let mut carol = account(rpc.clone(), &directory.path().join("carol")).await;
    // The same with a proof about something else, or one that is bent.
    for lie in 0..3 {
        let alice = reopened().await.unwrap();
        let held = signed(&alice, create(&alice, &carol), now() - 1_000, 10 + lie);
        alice.dir().keep(910 + lie, &held.to_bytes()).unwrap();
        drop(alice);
        let of_other = of_other.clone();
        proxy.lie(move |method, result| {
            expired(method, result);
            if method == "sessionvm.GetAction" {
                match lie {
                    0 => *result = of_other.clone(),
                    1 => result["proof"] = json!("AAAA"),
                    _ => {
                        let proof = result["proof"].as_str().unwrap();
                        let mut bytes = BASE64.decode(proof).unwrap();
                        // The header's time, one of the first hundred bytes.
                        bytes[76] ^= 1;
                        result["proof"] = json!(BASE64.encode(bytes));
                    }
                }
            }
        });
        let before = carol.sessions(true).await.unwrap().len();
        assert!(reopened().await.is_err(), "lie {lie}");
        assert_eq!(carol.sessions(true).await.unwrap().len(), before);
        proxy.be_honest();
        let alice = reopened().await.unwrap();
        assert_eq!(
            alice.flushed().accepted,
            1,
            "lie {lie}: {:?}",
            alice.flushed()
        );
        assert_eq!(carol.sessions(true).await.unwrap().len(), before + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_message_is_sent_again_and_read_once() {
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alice");
    let mut alice = account(proxy.client(), &path).await;
    let mut bob = account(rpc.clone(), &directory.path().join("bob")).await;
    let session = alice.create_session(bob.id()).await.unwrap();
    alice.send_text(&session, "first").await.unwrap();
    proxy.set(DOWN);
    assert!(alice.send_text(&session, "once").await.is_err());
    proxy.set(HONEST);
    // As if it had lain there until it expired, and had been accepted by another way before.
    let (number, bytes) = alice.dir().waiting().unwrap().remove(0);
    let batch = Tx::from_bytes(&bytes).unwrap();
    assert_eq!(submit(&rpc, &batch).await["status"], "accepted");
    let stale = signed(&alice, batch.kind, now() - 1_000, 77);
    alice.dir().keep(number, &stale.to_bytes()).unwrap();
    let flushed = alice.flush_outbox().await.unwrap();
    assert_eq!(
        (flushed.accepted, flushed.refused.len()),
        (1, 0),
        "{flushed:?}"
    );
    assert_eq!(
        bob.receive(&session).await.unwrap().texts(),
        ["first", "once"]
    );
}

/// The operating system's clocks, some time later.
struct Later {
    ms: std::sync::atomic::AtomicU64,
    started: std::time::Instant,
}

impl Later {
    fn ms(&self) -> u64 {
        self.ms.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl session_vm::clock::Clock for Later {
    fn wall(&self) -> Time {
        Time::from_ms(now() + self.ms())
    }

    fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap() + self.ms()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_later_only_what_the_state_still_shows_is_known() {
    let clock = std::sync::Arc::new(Later {
        ms: 0.into(),
        started: std::time::Instant::now(),
    });
    let node = ThrowawayNode::start_with(session_fixture::NodeOptions {
        clock: clock.clone(),
        ..session_fixture::NodeOptions::default()
    });
    let node = node.await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alice");
    let mut alice = account(proxy.client(), &path).await;
    let mut bob = account(rpc.clone(), &directory.path().join("bob")).await;
    let identity = same(alice.identity());

    // A session and a transfer that were accepted, and nobody heard of it; one that never was.
    proxy.cut(Some(("sessionvm.Submit", true)));
    assert!(alice.create_session(bob.id()).await.is_err());
    let (to, amount) = (bob.id(), 0);
    let until = now() + 1_800_000;
    let transfer = |salt| signed(&alice, Kind::Transfer(Transfer { to, amount }), until, salt);
    let (done, never) = (transfer(1), transfer(2));
    assert_eq!(submit(&rpc, &done).await["status"], "accepted");
    alice.dir().keep(801, &done.to_bytes()).unwrap();
    alice.dir().keep(802, &never.to_bytes()).unwrap();
    assert_eq!(alice.dir().waiting().unwrap().len(), 3);
    drop(alice);
    proxy.cut(None);
    clock
        .ms
        .store(3 * 3_600_000, std::sync::atomic::Ordering::SeqCst);

    let alice = Account::open(proxy.client(), identity, &path)
        .await
        .unwrap();
    let flushed = alice.flushed();
    // The session is there, so it was accepted; of the transfers nothing is left to see.
    assert_eq!(
        (flushed.accepted, flushed.unknown.len()),
        (1, 2),
        "{flushed:?}"
    );
    assert_eq!(bob.sessions(true).await.unwrap().len(), 1);
    let kinds: Vec<_> = alice
        .outbox()
        .unwrap()
        .into_iter()
        .map(|k| (k.kind, k.unknown))
        .collect();
    assert_eq!(kinds, [("Transfer", true), ("Transfer", true)]);
}
