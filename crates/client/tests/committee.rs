//! Several nodes' head keys are pinned: enough of them must have signed what one shows.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_client::{
    Account, ClientError, Committee, Member, RpcClient, StateDir, TrustError, decode_proof,
};
use session_core::codec::Encode;
use session_core::hash::Tag;
use session_core::header::SignedHead;
use session_core::ids::BlockId;
use session_crypto::{Identity, SigningKey};
use session_fixture::ThrowawayNode;
use support::{DOWN, HONEST, Proxy, same};

/// A node of the same chain with a head key of its own.
struct Witness {
    proxy: Proxy,
    key: Arc<SigningKey>,
}

impl Witness {
    async fn of(upstream: RpcClient) -> Self {
        let proxy = Proxy::before(upstream).await;
        let key = Arc::new(SigningKey::generate().unwrap());
        let this = Self { proxy, key };
        this.sign(|block| block);
        this
    }

    /// Signs every head anew, about the block that `about` makes of it.
    fn sign(&self, about: impl Fn(BlockId) -> BlockId + Send + 'static) {
        let key = self.key.clone();
        self.proxy.lie(move |_, result| {
            if let Some(shown) = result.get_mut("headKey") {
                *shown = json!(const_hex::encode(key.public_key().as_ref()));
            }
            resign(&key, result, &about);
        });
    }

    fn member(&self) -> Member {
        Member {
            url: self.proxy.address.clone(),
            head_key: const_hex::encode(self.key.public_key().as_ref()),
        }
    }
}

/// Signs the heads of an answer's proof, if it has one.
fn resign(key: &SigningKey, result: &mut Value, about: impl Fn(BlockId) -> BlockId) {
    let Some(text) = result.get("proof").and_then(Value::as_str) else {
        return;
    };
    let mut proof = decode_proof(text).unwrap();
    for head in &mut proof.heads {
        *head = signed_by(key, head, about(head.block));
    }
    result["proof"] = json!(BASE64.encode(proof.to_bytes()));
}

fn signed_by(key: &SigningKey, head: &SignedHead, block: BlockId) -> SignedHead {
    let payload = SignedHead::payload(&head.chain, head.height, &block, head.signed_at);
    SignedHead {
        block,
        key: session_core::ids::Digest::from_bytes(
            Tag::PublicKey.hash(&[key.public_key().as_ref()]),
        ),
        signature: Box::new(*key.sign(&payload).unwrap().as_bytes()),
        ..head.clone()
    }
}

fn pin(dir: &Path, members: Vec<Member>, threshold: usize) {
    let dir = StateDir::open(dir).unwrap();
    let mut state = dir.load().unwrap();
    state.trust.committee = Some(Committee::new(members, threshold).unwrap());
    dir.save(&state).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_counts_when_enough_of_the_pinned_nodes_have_signed_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let mut bob = support::account(rpc.clone(), &path("bob")).await;
    let (one, two, three) = (
        Witness::of(rpc.clone()).await,
        Witness::of(rpc.clone()).await,
        Witness::of(rpc).await,
    );
    let members = || vec![one.member(), two.member(), three.member()];
    let home = path("alice");
    pin(&home, members(), 3);
    let identity = Identity::generate().unwrap();
    let client = one.proxy.client();
    let mut alice = Account::open(client.clone(), same(&identity), &home)
        .await
        .unwrap();
    let session = alice.create_session(bob.id()).await.unwrap();
    bob.send_text(&session, "three have signed").await.unwrap();
    let read = alice.receive(&session).await.unwrap();
    assert_eq!(read.texts(), ["three have signed"]);
    // Another of them is as good.
    drop(alice);
    let mut alice = Account::open(two.proxy.client(), same(&identity), &home)
        .await
        .unwrap();

    // One is down: two are too few for three.
    three.proxy.mode.store(DOWN, Ordering::SeqCst);
    bob.send_text(&session, "two have signed").await.unwrap();
    let refused = alice.receive(&session).await.err().unwrap();
    let too_few = |error: &ClientError| {
        let ClientError::Trust(TrustError::TooFewSigned {
            signed, threshold, ..
        }) = error
        else {
            return None;
        };
        Some((*signed, *threshold))
    };
    assert_eq!(too_few(&refused), Some((2, 3)), "{refused}");
    drop(alice);
    pin(&home, members(), 2);
    let mut alice = Account::open(client.clone(), same(&identity), &home)
        .await
        .unwrap();
    assert_eq!(
        alice.receive(&session).await.unwrap().texts(),
        ["two have signed"]
    );

    // One signs another block than it shows, another is silent: neither counts.
    two.sign(|_| BlockId::from_bytes([9; 32]));
    bob.send_text(&session, "one has signed").await.unwrap();
    let refused = alice.receive(&session).await.err().unwrap();
    assert_eq!(too_few(&refused), Some((1, 2)), "{refused}");
    three.proxy.mode.store(HONEST, Ordering::SeqCst);
    assert_eq!(
        alice.receive(&session).await.unwrap().texts(),
        ["one has signed"]
    );

    // A node that nobody has pinned is not listened to, whoever stands behind it.
    drop(alice);
    let stranger = Witness::of(RpcClient::new(&node.url(), None).unwrap()).await;
    let refused = Account::open(stranger.proxy.client(), identity, &home).await;
    let refused = refused.err().unwrap();
    assert!(
        matches!(refused, ClientError::Trust(TrustError::OtherNode(3))),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_some_blocks_behind_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let bob = support::account(rpc.clone(), &path("bob")).await;
    let (ahead, behind) = (Witness::of(rpc.clone()).await, Witness::of(rpc).await);
    let home = path("alice");
    pin(&home, vec![ahead.member(), behind.member()], 1);
    let identity = Identity::generate().unwrap();
    let old: Value = behind
        .proxy
        .client()
        .call("sessionvm.GetHead", json!({}))
        .await
        .unwrap();
    let mut alice = Account::open(ahead.proxy.client(), same(&identity), &home)
        .await
        .unwrap();
    alice.create_session(bob.id()).await.unwrap();
    alice.sessions(false).await.unwrap();
    drop(alice);

    // Three times it still shows what it had before.
    let mut left = 3;
    let (key, asked) = (behind.key.clone(), Arc::new(AtomicUsize::new(0)));
    let counted = asked.clone();
    behind.proxy.lie(move |method, result| {
        if method == "sessionvm.GetHead" {
            counted.fetch_add(1, Ordering::SeqCst);
            if left > 0 {
                left -= 1;
                *result = old.clone();
            }
            result["headKey"] = json!(const_hex::encode(key.public_key().as_ref()));
        }
        resign(&key, result, |block| block);
    });
    let mut alice = Account::open(behind.proxy.client(), identity, &home)
        .await
        .unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 4);
    assert_eq!(alice.sessions(false).await.unwrap().len(), 1);
}

#[test]
fn what_makes_no_committee_is_refused() {
    let member = || Member {
        url: "http://127.0.0.1:1".to_owned(),
        head_key: const_hex::encode(SigningKey::generate().unwrap().public_key().as_ref()),
    };
    let (one, two) = (member(), member());
    assert!(Committee::new(vec![one.clone(), two.clone()], 2).is_ok());
    let shouted = Member {
        head_key: one.head_key.to_uppercase(),
        ..two.clone()
    };
    let short = Member {
        head_key: "07".to_owned(),
        ..two.clone()
    };
    for (members, threshold) in [
        (vec![], 0),
        (vec![one.clone(), two.clone()], 0),
        (vec![one.clone(), two.clone()], 3),
        (vec![one.clone(), shouted], 1),
        (vec![one, short], 1),
    ] {
        assert!(Committee::new(members, threshold).is_err());
    }
}
