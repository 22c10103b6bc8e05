//! A node that has too much to do: it is asked again when it says, and what was to be sent is kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use session_client::{Account, ClientError, IdentityFile, Lock, RpcClient, RpcError};
use session_crypto::Identity;
use session_fixture::ThrowawayNode;
use support::{Proxy, account};

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_node_is_asked_again_a_few_times_and_no_more() {
    let node = ThrowawayNode::start().await.unwrap();
    let proxy = Proxy::before(RpcClient::new(&node.url(), None).unwrap()).await;
    let rpc = proxy.client();
    let health = || rpc.call::<Value>("sessionvm.Health", json!({}));
    proxy.busy.store(3, Ordering::SeqCst);
    assert_eq!(health().await.unwrap()["healthy"], true);
    proxy.busy.store(10, Ordering::SeqCst);
    let told = health().await.unwrap_err();
    assert!(matches!(told, RpcError::Busy { status: 503, .. }), "{told}");
    assert!(told.is_temporary());
    assert_eq!(proxy.busy.load(Ordering::SeqCst), 6, "asked four times");
    // Whoever is to wait for long is told at once.
    proxy.retry_after.store(3_600, Ordering::SeqCst);
    let told = health().await.unwrap_err();
    assert_eq!(proxy.busy.load(Ordering::SeqCst), 5);
    assert!(told.to_string().contains("busy"), "{told}");
    assert!(told.to_string().contains("3600 s"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_busy_node_does_not_take_waits_in_the_outbox() {
    let node = ThrowawayNode::start().await.unwrap();
    let proxy = Proxy::before(RpcClient::new(&node.url(), None).unwrap()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("alice");
    let file = IdentityFile::new(&path, Lock::Exposed).unwrap();
    file.save(&Identity::generate().unwrap()).unwrap();
    let open = || Account::open_file_or_offline(proxy.client(), file.clone(), &path);
    let mut alice = open().await.unwrap();
    let mut bob = account(proxy.client(), &directory.path().join("bob")).await;
    let session = alice.create_session(bob.id()).await.unwrap();
    alice.send_text(&session, "before").await.unwrap();

    proxy.busy.store(usize::MAX, Ordering::SeqCst);
    let kept = alice.send_text(&session, "one").await.unwrap_err();
    assert!(
        matches!(kept, ClientError::Waiting { waiting: 1, .. }),
        "{kept}"
    );
    drop(alice);
    // Nor does one who opens meanwhile fail.
    let mut alice = open().await.unwrap();
    assert!(alice.away().unwrap().contains("busy"));
    let kept = alice.send_text(&session, "two").await.unwrap_err();
    assert!(
        matches!(kept, ClientError::Waiting { waiting: 2, .. }),
        "{kept}"
    );
    proxy.busy.store(0, Ordering::SeqCst);
    drop(alice);
    let alice = open().await.unwrap();
    assert_eq!(alice.flushed().accepted, 2);
    let inbox = bob.receive(&session).await.unwrap();
    assert_eq!(inbox.texts(), ["before", "one", "two"]);
}
