//! Nodes that lie, vanish and come back, between an account and an honest node.

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
use session_chain::tx::identity::RotateKeys;
use session_chain::tx::message::SendMessage;
use session_chain::tx::{KemKey, Kind, SigningKey, Tx};
use session_client::{
    Account, ClientError, Inbox, Item, KeyChange, RpcClient, RpcError, TrustError, decode_proof,
};
use session_core::codec::Encode;
use session_core::header::SignedHead;
use session_core::ids::SessionId;
use session_core::log::Conversation;
use session_core::time::Time;
use session_crypto::Identity;
use session_fixture::ThrowawayNode;

use support::{DOWN, HONEST, MUTE, Proxy, account, restart, same, session_vm_options};

struct World {
    node: ThrowawayNode,
    proxy: Proxy,
    alice: Account,
    bob: Account,
    session: SessionId,
    directory: tempfile::TempDir,
}

impl World {
    /// Alice speaks to the node itself, Bob through the proxy.
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = ThrowawayNode::start().await.unwrap();
        let rpc = RpcClient::new(&node.url(), None).unwrap();
        let proxy = Proxy::before(rpc.clone()).await;
        let mut alice = account(rpc, &directory.path().join("alice")).await;
        let bob = account(proxy.client(), &directory.path().join("bob")).await;
        let session = alice.create_session(bob.id()).await.unwrap();
        Self {
            node,
            proxy,
            alice,
            bob,
            session,
            directory,
        }
    }

    async fn refused(&mut self, lie: impl FnMut(&str, &mut Value) + Send + 'static) -> ClientError {
        self.proxy.lie(lie);
        let refused = self.bob.receive(&self.session).await;
        self.proxy.be_honest();
        refused.expect_err("the lie is noticed")
    }
}

fn in_messages(method: &str, lie: impl FnOnce()) {
    if method == "sessionvm.GetMessages" {
        lie();
    }
}

fn with_proof(result: &mut Value, change: impl FnOnce(&mut session_core::proof::Proof)) {
    let mut proof = decode_proof(result["proof"].as_str().unwrap()).unwrap();
    change(&mut proof);
    result["proof"] = json!(BASE64.encode(proof.to_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_lie_about_messages_is_refused_and_the_truth_still_arrives() {
    let mut world = World::new().await;
    let session = world.session;
    world
        .alice
        .send_texts(&session, &["one", "two", "three"])
        .await
        .unwrap();

    let says =
        |error: &ClientError, text: &str| assert!(error.to_string().contains(text), "{error}");
    let error = world
        .refused(|method, result| {
            in_messages(method, || {
                result["messages"].as_array_mut().unwrap().pop();
                result["next"] = json!(2);
            })
        })
        .await;
    says(&error, "messages and proof differ");
    let error = world
        .refused(|method, result| {
            in_messages(method, || {
                result["messages"].as_array_mut().unwrap().remove(1);
            })
        })
        .await;
    says(&error, "messages and proof differ");
    let error = world
        .refused(|method, result| {
            in_messages(method, || {
                result["messages"].as_array_mut().unwrap().swap(0, 1);
            })
        })
        .await;
    says(&error, "messages out of order");
    let error = world
        .refused(|method, result| {
            in_messages(method, || {
                let messages = result["messages"].as_array_mut().unwrap();
                messages.swap(0, 1);
                (messages[0]["sequence"], messages[1]["sequence"]) = (json!(0), json!(1));
            })
        })
        .await;
    says(&error, "a body is not the one the log commits to");
    let error = world
        .refused(|method, result| {
            in_messages(method, || {
                let text = result["messages"][1]["ciphertext"].as_str().unwrap();
                let last = if text.ends_with('0') { '1' } else { '0' };
                result["messages"][1]["ciphertext"] =
                    json!(format!("{}{last}", &text[..text.len() - 1]));
            })
        })
        .await;
    says(&error, "a body is not the one the log commits to");

    let error = world
        .refused(|method, result| {
            in_messages(method, || {
                result["messages"][2]["pruned"] = json!(true);
                result["messages"][2]["ciphertext"] = json!("");
            })
        })
        .await;
    says(&error, "younger than a day");

    // The proof itself: another session's, another key's, nobody's, bent.
    let other = world.alice.create_session(world.bob.id()).await.unwrap();
    world
        .alice
        .send_texts(&other, &["1", "2", "3"])
        .await
        .unwrap();
    let params = json!({ "sessionId": other, "proof": true });
    let of_other: Value = world
        .alice
        .rpc()
        .call("sessionvm.GetMessages", params)
        .await
        .unwrap();
    let swapped = of_other.clone();
    let error = world
        .refused(move |method, result| in_messages(method, || *result = swapped.clone()))
        .await;
    says(&error, "the proof is about something else");
    let error = world
        .refused(move |method, result| {
            in_messages(method, || result["proof"] = of_other["proof"].clone())
        })
        .await;
    says(&error, "the proof is about something else");
    let liar = session_crypto::SigningKey::generate().unwrap();
    let error = world
        .refused(move |method, result| {
            in_messages(method, || {
                with_proof(result, |proof| {
                    let head = &mut proof.heads[0];
                    let payload =
                        SignedHead::payload(&head.chain, head.height, &head.block, head.signed_at);
                    *head.signature = *liar.sign(&payload).unwrap().as_bytes();
                })
            })
        })
        .await;
    assert!(
        matches!(error, ClientError::Trust(TrustError::NotSigned { .. })),
        "{error}"
    );
    let error = world
        .refused(|method, result| {
            in_messages(method, || with_proof(result, |proof| proof.heads.clear()))
        })
        .await;
    assert!(
        matches!(error, ClientError::Trust(TrustError::NotSigned { .. })),
        "{error}"
    );
    let error = world
        .refused(|method, result| {
            in_messages(method, || {
                with_proof(result, |proof| proof.header.height += 1)
            })
        })
        .await;
    assert!(matches!(error, ClientError::Trust(_)), "{error}");
    let error = world
        .refused(|method, result| in_messages(method, || result["proof"] = json!("AAAA")))
        .await;
    assert!(
        matches!(error, ClientError::Trust(TrustError::Unreadable(_))),
        "{error}"
    );

    // An older head, once a later one was seen.
    let params = json!({ "sessionId": session, "proof": true });
    let old: Value = world
        .alice
        .rpc()
        .call("sessionvm.GetMessages", params)
        .await
        .unwrap();
    world.alice.send_text(&session, "four").await.unwrap();
    assert_eq!(
        world.bob.receive(&session).await.unwrap().texts(),
        ["one", "two", "three", "four"]
    );
    let error = world
        .refused(move |method, result| in_messages(method, || *result = old.clone()))
        .await;
    assert!(
        matches!(error, ClientError::Trust(TrustError::GoesBack { .. })),
        "{error}"
    );
    world.alice.send_text(&session, "five").await.unwrap();
    assert_eq!(world.bob.receive(&session).await.unwrap().texts(), ["five"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_head_key_and_another_chain_are_refused_at_the_door() {
    let world = World::new().await;
    let (path, identity) = (
        world.directory.path().join("bob"),
        same(world.bob.identity()),
    );
    drop(world.bob);
    world.proxy.lie(|method, result| {
        if method == "sessionvm.GetHead" {
            let mut key = const_hex::decode(result["headKey"].as_str().unwrap()).unwrap();
            // A bit that flips is always a lie; a byte that is overwritten may have been the same.
            key[0] ^= 1;
            result["headKey"] = json!(const_hex::encode(key));
        }
    });
    let refused = Account::open(world.proxy.client(), same(&identity), &path)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(refused, ClientError::Trust(TrustError::OtherHeadKey)),
        "{refused}"
    );
    world.proxy.be_honest();
    let other = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&other.url(), None).unwrap();
    let refused = Account::open(rpc, same(&identity), &path)
        .await
        .err()
        .unwrap();
    assert!(
        matches!(refused, ClientError::Trust(TrustError::OtherChain { .. })),
        "{refused}"
    );
    Account::open(world.proxy.client(), identity, &path)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_sealed_to_on_the_word_of_a_node() {
    let mut world = World::new().await;
    let mallory = account(
        world.alice.rpc().clone(),
        &world.directory.path().join("mallory"),
    )
    .await;
    let call = |method: &'static str, params: Value| {
        let rpc = world.alice.rpc().clone();
        async move { rpc.call::<Value>(method, params).await.unwrap() }
    };
    let keys = call("sessionvm.GetIdentity", json!({ "account": mallory.id() })).await;

    // Other participants than the session has: whoever answers would answer to Mallory.
    let mut third = mallory;
    let theirs = third.create_session(world.bob.id()).await.unwrap();
    let about_theirs = call("sessionvm.GetSession", json!({ "sessionId": theirs })).await;
    let proof_of_theirs = call("sessionvm.GetProof", json!({ "sessionId": theirs })).await;
    let session = world.session;
    for with_its_proof in [false, true] {
        let (about, proof) = (about_theirs.clone(), proof_of_theirs.clone());
        world.proxy.lie(move |method, result| match method {
            "sessionvm.GetSession" => *result = about.clone(),
            "sessionvm.GetProof" if with_its_proof => *result = proof.clone(),
            _ => {}
        });
        let refused = world
            .bob
            .send_text(&session, "only for Alice")
            .await
            .unwrap_err();
        assert!(matches!(refused, ClientError::Reply(_)), "{refused}");
    }

    // Keys that are not the account's.
    let lie = move |index: u64, names: &'static [&'static str]| {
        let keys = keys.clone();
        move |method: &str, result: &mut Value| {
            if method == "sessionvm.GetIdentity" {
                for name in names {
                    result[*name] = keys[*name].clone();
                }
                result["keyIndex"] = json!(index);
            }
        }
    };
    let both: &[&str] = &["kemPublicKey", "signingPublicKey"];
    let alice = world.alice.id();
    for (index, names) in [
        (0, both),
        (1, both),
        (0, &both[..1]),
        (0, &both[1..]),
        (1, &both[..1]),
    ] {
        world.proxy.lie(lie(index, names));
        let refused = world
            .bob
            .send_text(&session, "only for Alice")
            .await
            .unwrap_err();
        assert!(
            matches!(refused, ClientError::OtherKeys(id) if id == alice),
            "{refused}"
        );
    }
    // A contact's keys are no more to be exchanged, whatever rotation the node speaks of: the
    // proved record names them.
    world.proxy.be_honest();
    world.bob.add_contact("alice", alice).await.unwrap();
    for names in [both, &both[..1], &both[1..]] {
        world.proxy.lie(lie(1, names));
        let refused = world
            .bob
            .send_text(&session, "only for Alice")
            .await
            .unwrap_err();
        assert!(
            matches!(refused, ClientError::OtherKeys(id) if id == alice),
            "{names:?}: {refused}"
        );
    }
    world.proxy.be_honest();
    world
        .bob
        .send_text(&session, "only for Alice")
        .await
        .unwrap();
    assert_eq!(
        world.alice.receive(&session).await.unwrap().texts(),
        ["only for Alice"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_sent_again_elsewhere_is_refused() {
    let mut world = World::new().await;
    let (first, bob) = (world.session, world.bob.id());
    let second = world.alice.create_session(bob).await.unwrap();
    world.alice.send_text(&first, "pay ten").await.unwrap();
    let params = json!({ "sessionId": first });
    let rpc = world.alice.rpc().clone();
    let reply: Value = rpc.call("sessionvm.GetMessages", params).await.unwrap();
    let ciphertext =
        const_hex::decode(reply["messages"][0]["ciphertext"].as_str().unwrap()).unwrap();
    // By its own sender, with a good signature: only the content tells.
    let kind = Kind::SendMessage(SendMessage {
        conversation: Conversation::Session(second),
        ciphertext,
    });
    let (valid_until, salt, signature) = (Time::default(), 0, Vec::new());
    let mut tx = Tx {
        signer: world.alice.id(),
        valid_until,
        salt,
        kind,
        signature,
    };
    let digest = tx.signed_digest(&world.alice.chain());
    tx.signature = world
        .alice
        .identity()
        .sign(&digest)
        .unwrap()
        .as_bytes()
        .to_vec();
    let reply: Value = rpc
        .call(
            "sessionvm.Submit",
            json!({ "txs": [BASE64.encode(tx.to_bytes())] }),
        )
        .await
        .unwrap();
    assert_eq!(reply["results"][0]["status"], "accepted", "{reply}");
    let items = |inbox: Inbox| {
        inbox
            .messages
            .into_iter()
            .map(|m| m.item)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        items(world.bob.receive(&first).await.unwrap()),
        [Item::Text("pay ten".to_owned())]
    );
    let again = items(world.bob.receive(&second).await.unwrap());
    assert_eq!(again, [Item::Refused("it was sent in another session")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_while_the_node_is_away_is_sent_exactly_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let options = || session_vm_options(&path("node"));
    let node = ThrowawayNode::start_with(options()).await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let mut alice = account(proxy.client(), &path("alice")).await;
    let mut bob = account(rpc, &path("bob")).await;
    let session = alice.create_session(bob.id()).await.unwrap();
    alice.send_text(&session, "before").await.unwrap();

    let waits = |error: ClientError, count: usize| {
        assert!(
            matches!(&error, ClientError::Waiting { waiting, away: Some(_) } if *waiting == count),
            "{error}"
        )
    };
    proxy.set(MUTE);
    // It arrives, and Alice does not hear of it.
    waits(alice.send_text(&session, "unheard").await.unwrap_err(), 1);
    proxy.set(DOWN);
    waits(alice.send_text(&session, "away").await.unwrap_err(), 2);
    assert_eq!(alice.dir().waiting().unwrap().len(), 2);

    // Both restart, the node from its disk and on another port.
    let identity = same(alice.identity());
    drop(alice);
    node.node().stop();
    drop(node);
    let still_away = Account::open(proxy.client(), same(&identity), &path("alice"))
        .await
        .err()
        .unwrap();
    assert!(
        matches!(still_away, ClientError::Rpc(RpcError::Unreachable { .. })),
        "{still_away}"
    );
    let node = restart(options).await;
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    *proxy.upstream.lock().unwrap() = rpc.clone();
    proxy.set(HONEST);
    let mut alice = Account::open(proxy.client(), same(&identity), &path("alice"))
        .await
        .unwrap();
    assert_eq!(alice.dir().waiting().unwrap().len(), 0);
    alice.send_text(&session, "after").await.unwrap();
    let identity = same(bob.identity());
    drop(bob);
    bob = Account::open(rpc, identity, &path("bob")).await.unwrap();
    let inbox = bob.receive(&session).await.unwrap();
    assert_eq!(inbox.texts(), ["before", "unheard", "away", "after"]);
    assert_eq!((inbox.count, inbox.messages.len()), (4, 4));
    assert_eq!(alice.flush_outbox().await.unwrap().accepted, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_arrives_whole_with_progress_and_not_through_a_liar() {
    let mut world = World::new().await;
    let session = world.session;
    let bytes: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[1]).collect();
    let mut seen = Vec::new();
    world
        .alice
        .send_file(&session, "a.bin", &bytes, |sent, total| {
            seen.push((sent, total))
        })
        .await
        .unwrap();
    assert!(
        seen.is_sorted() && seen.last() == Some(&(300_000, 300_000)),
        "{seen:?}"
    );
    let error = world
        .refused(|method, result| {
            in_messages(method, || {
                let messages = result["messages"].as_array_mut().unwrap();
                let last = messages.last_mut().unwrap();
                let text = last["ciphertext"].as_str().unwrap().replacen('0', "1", 1);
                last["ciphertext"] = json!(text);
            })
        })
        .await;
    assert!(
        error.to_string().contains("a body is not the one"),
        "{error}"
    );
    let inbox = world.bob.receive(&session).await.unwrap();
    let Some(Item::File { path, len, name }) = inbox.messages.last().map(|m| &m.item) else {
        panic!("{:?}", inbox.messages)
    };
    assert_eq!((*len, name.as_str()), (300_000, "a.bin"));
    assert_eq!(std::fs::read(path).unwrap(), bytes);
    assert!(
        world
            .alice
            .send_file(&session, "../x", b"1", |_, _| ())
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_with_new_keys_is_told_before_anything_is_sealed_to_them() {
    let mut world = World::new().await;
    let (session, bob) = (world.session, world.bob.id());
    world.alice.add_contact("bob", bob).await.unwrap();
    let new = Identity::generate().unwrap();
    let public = new.public();
    let kind = Kind::RotateKeys(RotateKeys {
        kem: KemKey(Box::new(*public.kem().as_bytes())),
        signing: SigningKey(Box::new(*public.signing().as_bytes())),
        recovery: None,
    });
    let valid_until = world.node.node().now().after_ms(1_800_000);
    let mut tx = Tx {
        signer: bob,
        valid_until,
        salt: 1,
        kind,
        signature: Vec::new(),
    };
    let digest = tx.signed_digest(&world.bob.chain());
    tx.signature = world
        .bob
        .identity()
        .sign(&digest)
        .unwrap()
        .as_bytes()
        .to_vec();
    let params = json!({ "txs": [BASE64.encode(tx.to_bytes())] });
    let reply: Value = world
        .alice
        .rpc()
        .call("sessionvm.Submit", params)
        .await
        .unwrap();
    assert_eq!(reply["results"][0]["status"], "accepted", "{reply}");
    let (identity, path) = (
        same(world.alice.identity()),
        world.directory.path().join("alice"),
    );
    let rpc = world.alice.rpc().clone();
    drop(world.alice);
    let mut alice = Account::open(rpc, identity, &path).await.unwrap();
    let warned = alice.send_text(&session, "hello").await.unwrap_err();
    assert!(
        matches!(&warned, ClientError::KeyChanged { name, index: 1, how: KeyChange::SignedByPrevious }
            if name == "bob"),
        "{warned}"
    );
    assert_eq!(alice.dir().waiting().unwrap().len(), 0);
    alice.add_contact("bob", bob).await.unwrap();
    alice.send_text(&session, "hello").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_not_what_it_was_is_noticed_wherever_reading_goes_on() {
    let mut world = World::new().await;
    let sessions = [
        world.session,
        world.alice.create_session(world.bob.id()).await.unwrap(),
    ];
    for (session, word) in sessions.iter().zip(["a", "b"]) {
        for n in [100, 100, 20] {
            world
                .alice
                .send_texts(session, &vec![word; n])
                .await
                .unwrap();
        }
        assert_eq!(world.bob.receive(session).await.unwrap().count, 220);
    }
    let (path, identity) = (
        world.directory.path().join("bob"),
        same(world.bob.identity()),
    );
    drop(world.bob);
    // Exchanged memories are the same as a node that exchanged the logs.
    let file = path.join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let logs = state["trust"]["logs"].as_object_mut().unwrap();
    let of_sessions: Vec<(String, Value)> = sessions
        .iter()
        .map(|session| {
            let name = const_hex::encode(session_core::log::LogId::Session(*session).to_bytes());
            let seen = logs[&name].clone();
            (name, seen)
        })
        .collect();
    logs.insert(of_sessions[0].0.clone(), of_sessions[1].1.clone());
    for (cursor, more) in [(220, false), (220, true), (0, true), (150, true)] {
        if more {
            world.alice.send_text(&sessions[0], "more").await.unwrap();
        }
        state["sessions"][sessions[0].to_string()]["cursor"] = json!(cursor);
        state["sessions"][sessions[0].to_string()]["seen"] = json!({});
        std::fs::write(&file, state.to_string()).unwrap();
        let mut bob = Account::open(world.proxy.client(), same(&identity), &path)
            .await
            .unwrap();
        let noticed = bob.receive(&sessions[0]).await.unwrap_err();
        assert!(
            matches!(
                noticed,
                ClientError::Trust(TrustError::Rewritten { count: 220 })
            ),
            "{cursor}: {noticed}"
        );
    }
}
