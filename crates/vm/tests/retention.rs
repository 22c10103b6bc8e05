//! What is left of a channel when its messages are older than the retention.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use session_chain::tx::Kind;
use session_chain::tx::channel::CreateChannel;
use session_chain::tx::message::{SendBatch, SendMessage};
use session_core::codec::Decode;
use session_core::ids::ChannelId;
use session_core::log::Conversation;
use session_core::proof::Proof;
use session_storage::DiskStore;
use session_vm::clock::Clock;
use session_vm::node::NodeOptions;
use session_vm::rpc::ServerOptions;
use session_vm::rpc::error::{NOT_FOUND, PRUNED, REFUSED};
use support::{PATIENCE, TestClock, TestNode, code, message, until};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

const DAY_MS: u64 = 86_400_000;

#[test]
fn an_old_channel_answers_pruned_with_its_first_message_and_proves_the_rest() {
    let clock = TestClock::new();
    let config = json!({ "admission": "signed", "retentionDays": 1 });
    let genesis = json!({ "config": config, "nonce": "00" }).to_string();
    let node = TestNode::with(NodeOptions {
        genesis: Some(genesis.into_bytes()),
        clock: clock.clone(),
        ..NodeOptions::default()
    });
    let owner = node.person();
    let sign = |kind| owner.sign_at(kind, clock.wall());
    let members = Vec::new();
    let made = node
        .submit(&sign(Kind::CreateChannel(CreateChannel { members })))
        .unwrap();
    let channel = made["outcome"]["channelId"].as_str().unwrap().to_owned();
    let conversation = Conversation::Channel(channel.parse::<ChannelId>().unwrap());
    let send = |first: u32, n: u32| {
        let ciphertexts = (first..first + n)
            .map(|i| i.to_be_bytes().to_vec())
            .collect();
        let batch = SendBatch {
            conversation,
            ciphertexts,
        };
        node.submit(&sign(Kind::SendBatch(batch))).unwrap()["outcome"]["sequence"].clone()
    };
    for n in 0..6 {
        assert_eq!(send(100 * n, 100), 100 * n);
    }
    let read = |from: u64| {
        let params = json!({ "channelId": channel, "from": from, "limit": 50, "proof": true });
        node.call("sessionvm.GetMessages", &params)
    };
    let id = read(0).unwrap()["messages"][0]["id"].clone();
    clock.pass(DAY_MS / 2);
    assert_eq!(send(600, 10), 600);
    clock.pass(DAY_MS / 2 + 10_000);
    let gone = until("two tiles to go", || read(0).err());
    assert_eq!(
        (&gone["code"], &gone["data"]["first"]),
        (&json!(PRUNED), &json!(512))
    );
    assert_eq!(read(511).unwrap_err()["data"]["first"], 512);
    let kept = read(512).unwrap();
    assert_eq!(kept["messages"].as_array().unwrap().len(), 50);
    let proof = BASE64.decode(kept["proof"].as_str().unwrap()).unwrap();
    let proved = Proof::from_bytes(&proof).unwrap().verify().unwrap();
    let entries = proved.entries.unwrap();
    assert_eq!(
        (entries.from, entries.count, entries.entries.len()),
        (512, 610, 50)
    );
    let params = json!({ "channelId": channel, "from": 3, "to": 9 });
    let error = node.call("sessionvm.GetProof", &params).unwrap_err();
    assert_eq!(
        (&error["code"], &error["data"]["first"]),
        (&json!(PRUNED), &json!(512))
    );
    // Its id is no longer known, and no single message can use that.
    assert_eq!(
        code(node.call("sessionvm.GetMessage", &json!({ "messageId": id }))),
        i64::from(NOT_FOUND)
    );
    let ciphertext = vec![1];
    let single = owner.sign(Kind::SendMessage(SendMessage {
        conversation,
        ciphertext,
    }));
    assert_eq!(code(node.submit(&single)), i64::from(REFUSED));

    // A subscriber from the beginning is told, once, and goes on.
    let frames: Vec<Value> = node.runtime.block_on(async {
        let (mut socket, _) = connect_async(format!("ws://{}/ws", node.address))
            .await
            .unwrap();
        let wish = json!({ "channelId": channel, "from": 0 });
        socket.send(Message::text(wish.to_string())).await.unwrap();
        let mut frames = Vec::new();
        for _ in 0..2 {
            let frame = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
            let text = frame.unwrap().unwrap().into_text().unwrap();
            frames.push(serde_json::from_str(text.as_str()).unwrap());
        }
        frames
    });
    assert_eq!(
        (&frames[0]["pruned"], &frames[0]["next"]),
        (&json!(true), &json!(512))
    );
    assert_eq!(frames[1]["messages"][0]["sequence"], 512);
    assert_eq!(frames[1]["next"], 610);
}

#[test]
fn health_counts_what_is_there_after_blocks_restarts_and_sweeps() {
    let directory = tempfile::tempdir().unwrap();
    let clock = TestClock::new();
    let start = || {
        let store = Arc::new(DiskStore::open(directory.path().join("store")).unwrap());
        let config = json!({ "admission": "open", "sessionTTL": 60, "retentionDays": 1 });
        let genesis = json!({ "config": config, "nonce": "00" }).to_string();
        let options = NodeOptions {
            genesis: Some(genesis.into_bytes()),
            clock: clock.clone(),
            accept_time: true,
            ..NodeOptions::default()
        };
        TestNode::on(store, options, ServerOptions::default())
    };
    let counts = |node: &TestNode| {
        let health = node.call("sessionvm.Health", &json!({})).unwrap();
        (health["sessions"].clone(), health["channels"].clone())
    };
    let node = start();
    assert_eq!(counts(&node), (json!(0), json!(0)));
    let (a, b) = (node.person(), node.person());
    for _ in 0..3 {
        node.open_session(&a, &b);
    }
    let members = Vec::new();
    let create = Kind::CreateChannel(CreateChannel { members });
    node.submit(&a.sign_at(create, clock.wall())).unwrap();
    assert_eq!(counts(&node), (json!(3), json!(1)));
    // What changes a session does not make it two.
    let session = node.open_session(&a, &b);
    node.submit(&message(&session, &a, b"text")).unwrap();
    node.call("sessionvm.CloseSession", &json!({ "sessionId": session }))
        .unwrap();
    assert_eq!(counts(&node), (json!(4), json!(1)));
    drop(node);
    let node = start();
    assert_eq!(counts(&node), (json!(4), json!(1)));
    clock.pass(DAY_MS + 120_000);
    until("the sessions are swept", || {
        (counts(&node) == (json!(0), json!(1))).then_some(())
    });
    drop(node);
    assert_eq!(counts(&start()), (json!(0), json!(1)));
}
