//! A restored node has a new head key: followed with a certificate, refused without.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use serde_json::json;
use session_client::{Account, ClientError, RpcClient, TrustError};
use session_crypto::{Identity, SigningKey};
use session_fixture::ThrowawayNode;
use support::{Proxy, account, restart, same, session_vm_options};

#[tokio::test(flavor = "multi_thread")]
async fn a_new_head_key_is_followed_where_the_root_key_has_certified_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let options = || session_vm_options(&path("node"));
    let node = ThrowawayNode::start_with(options()).await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let mut alice = account(proxy.client(), &path("alice")).await;
    let mut bob = account(proxy.client(), &path("bob")).await;
    assert!(alice.state().trust.root_known && alice.state().trust.root_key.is_some());
    let first_key = alice.state().trust.head_key.clone();
    let session = alice.create_session(bob.id()).await.unwrap();
    alice.send_text(&session, "before").await.unwrap();
    assert_eq!(bob.receive(&session).await.unwrap().texts(), ["before"]);
    let alice_id = same(alice.identity());
    drop(alice);
    node.node().stop();
    drop(node);

    // As after `session node restore`: the head key is gone, the operator's phrase makes another.
    std::fs::remove_file(path("node").join("head.key")).unwrap();
    let node = restart(options).await;
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    *proxy.upstream.lock().unwrap() = rpc;
    // A node that is not the operator's has no certificate for its key.
    let liar = SigningKey::generate().unwrap();
    let (own, other) = (liar.public_key().clone(), Identity::generate().unwrap());
    let chain = node.node().chain();
    let payload = session_core::header::head_key_payload(&chain, own.as_ref());
    let by_itself = other.sign(&payload).unwrap();
    for lie in 0..4 {
        let (own, other) = (own.clone(), other.public().signing().clone());
        let by_itself = by_itself.clone();
        proxy.lie(move |method, result| {
            if method == "sessionvm.GetHead" {
                match lie {
                    0 => result["certificate"] = json!(null),
                    1 => result["rootKey"] = json!(null),
                    2 => result["headKey"] = json!(const_hex::encode(own.as_ref())),
                    _ => {
                        result["headKey"] = json!(const_hex::encode(own.as_ref()));
                        result["rootKey"] = json!(const_hex::encode(other.as_ref()));
                        result["certificate"] = json!(const_hex::encode(by_itself.as_bytes()));
                    }
                }
            }
        });
        let opened = Account::open(proxy.client(), same(&alice_id), &path("alice")).await;
        let refused = opened.err().unwrap();
        assert!(
            matches!(refused, ClientError::Trust(TrustError::OtherHeadKey)),
            "{lie}: {refused}"
        );
    }
    proxy.be_honest();
    let mut alice = Account::open(proxy.client(), alice_id, &path("alice"))
        .await
        .unwrap();
    assert!(alice.followed_head_key());
    assert_ne!(alice.state().trust.head_key, first_key);
    alice.send_text(&session, "after").await.unwrap();
    let identity = same(alice.identity());
    drop(alice);
    let again = Account::open(proxy.client(), identity, &path("alice"))
        .await
        .unwrap();
    assert!(!again.followed_head_key());
    // Bob looked on all the time.
    assert_eq!(bob.receive(&session).await.unwrap().texts(), ["after"]);
    assert!(bob.followed_head_key());
}

#[tokio::test(flavor = "multi_thread")]
async fn heights_do_not_go_back_with_a_new_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let options = |name: &'static str| {
        let path = path(name);
        move || session_vm_options(&path)
    };
    let node = ThrowawayNode::start_with(options("node")()).await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let mut alice = account(proxy.client(), &path("alice")).await;
    let bob = account(rpc, &path("bob")).await;
    let session = alice.create_session(bob.id()).await.unwrap();
    node.node().backup(&path("backup")).unwrap();
    for _ in 0..3 {
        alice
            .send_text(&session, "later than the backup")
            .await
            .unwrap();
    }
    alice.sessions(false).await.unwrap();
    let identity = same(alice.identity());
    drop((alice, bob));
    node.node().stop();
    drop(node);
    session_storage::restore(&path("backup"), &path("restored").join("store")).unwrap();
    let phrase = "operator.phrase";
    std::fs::copy(path("node").join(phrase), path("restored").join(phrase)).unwrap();
    let node = restart(options("restored")).await;
    *proxy.upstream.lock().unwrap() = RpcClient::new(&node.url(), None).unwrap();
    let refused = Account::open(proxy.client(), identity, &path("alice")).await;
    let refused = refused.err().unwrap();
    assert!(
        matches!(refused, ClientError::Trust(TrustError::GoesBack { .. })),
        "{refused}"
    );
}
