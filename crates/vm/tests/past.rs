//! Reads and proofs as of a past block, while its state is kept.

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
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::identity::RotateKeys;
use session_chain::tx::message::AcknowledgeMessages;
use session_chain::tx::{KemKey, Kind, SigningKey};
use session_core::codec::Decode;
use session_core::log::Conversation;
use session_core::proof::{Proof, Proved};
use session_crypto::Identity;
use session_storage::DiskStore;
use session_vm::node::NodeOptions;
use session_vm::rpc::ServerOptions;
use session_vm::rpc::error::{NOT_FOUND, UNKNOWN_SESSION, VERSION_NOT_KEPT};
use support::{TestNode, code, message};

fn proof_of(reply: &Value) -> Proof {
    let bytes = BASE64.decode(reply["proof"].as_str().unwrap()).unwrap();
    Proof::from_bytes(&bytes).unwrap()
}

fn proved(reply: &Value) -> Proved {
    proof_of(reply).verify().unwrap()
}

#[test]
fn every_read_answers_and_proves_what_was_so_at_the_height_that_is_named() {
    let node = TestNode::start();
    let (a, b) = (node.person(), node.person());
    let before = node.node.head().header.height;
    let session = node.open_session(&a, &b);
    let height = || node.node.head().header.height;
    let opened = height();
    let mut sent = Vec::new();
    for n in 0..5u8 {
        node.submit(&message(&session, &a, &[n])).unwrap();
        sent.push(height());
    }
    let conversation = Conversation::Session(session.parse().unwrap());
    let ack = AcknowledgeMessages {
        conversation,
        up_to: 4,
    };
    let ack = b.sign(Kind::AcknowledgeMessages(ack));
    let ack_id = ack.ids(&b.chain).action;
    node.submit(&ack).unwrap();
    let acknowledged = height();
    let new = Identity::generate().unwrap();
    let (kem, signing) = (
        new.public().kem().as_bytes(),
        new.public().signing().as_bytes(),
    );
    let rotate = RotateKeys {
        kem: KemKey(Box::new(*kem)),
        signing: SigningKey(Box::new(*signing)),
        recovery: None,
    };
    node.submit(&a.sign(Kind::RotateKeys(rotate))).unwrap();

    let messages = |height: u64| {
        let params =
            json!({ "sessionId": session, "height": height, "proof": true, "waitMs": 25_000 });
        node.call("sessionvm.GetMessages", &params)
    };
    for (n, at) in (1..).zip(&sent) {
        let reply = messages(*at).unwrap();
        assert_eq!(reply["messages"].as_array().unwrap().len() as u64, n);
        assert_eq!(reply["next"], n);
        let entries = proved(&reply).entries.unwrap();
        assert_eq!((proved(&reply).header.height, entries.count), (*at, n));
        // The head signature says its own time, so that nobody takes an old state for the latest.
        let proof = proof_of(&reply);
        assert_eq!(proof.heads[0].signed_at, proof.header.time);
        let params = json!({ "sessionId": session, "from": n - 1, "to": n, "height": at });
        let reply = node.call("sessionvm.GetProof", &params).unwrap();
        assert_eq!(reply["height"], *at);
        assert_eq!(proved(&reply).entries.unwrap().count, n);
    }
    assert_eq!(messages(opened).unwrap()["messages"], json!([]));
    assert_eq!(code(messages(before)), i64::from(UNKNOWN_SESSION));
    let params = json!({ "sessionId": session, "height": before });
    let reply = node.call("sessionvm.GetProof", &params).unwrap();
    assert_eq!(proved(&reply).record, None, "it was not there yet");

    let identity = |height: u64| {
        let params = json!({ "account": a.id(), "height": height, "proof": true });
        let reply = node.call("sessionvm.GetIdentity", &params).unwrap();
        assert_eq!(proved(&reply).header.height, height);
        (reply["keyIndex"].clone(), reply["signingPublicKey"].clone())
    };
    assert_eq!(identity(acknowledged), (json!(0), json!(a.signing_hex())));
    assert_eq!(
        identity(acknowledged + 1),
        (json!(1), json!(const_hex::encode(signing)))
    );

    let receipts = |height: u64| {
        let params =
            json!({ "sessionId": session, "account": b.id(), "height": height, "proof": true });
        let reply = node.call("sessionvm.GetReceipts", &params).unwrap();
        let record = proved(&reply).record;
        (
            reply["receipts"].as_array().unwrap().len(),
            record.is_some(),
        )
    };
    assert_eq!(receipts(sent[4]), (0, false));
    assert_eq!(receipts(acknowledged), (1, true));
    let accepted = |height: u64| {
        let params = json!({ "action": ack_id, "height": height, "proof": true });
        let reply = node.call("sessionvm.GetAction", &params).unwrap();
        assert_eq!(proved(&reply).record.is_some(), reply["accepted"] == true);
        reply["accepted"].clone()
    };
    assert_eq!(
        (accepted(sent[4]), accepted(acknowledged)),
        (json!(false), json!(true))
    );
    let requests = |height: u64| {
        let params =
            json!({ "participant": b.id(), "requests": true, "height": height, "proof": true });
        let reply = node.call("sessionvm.ListSessions", &params).unwrap();
        let count = proved(&reply).entries.unwrap().count;
        assert_eq!(reply["entries"].as_array().unwrap().len() as u64, count);
        count
    };
    assert_eq!((requests(before), requests(opened)), (0, 1));
    assert_eq!(code(messages(height() + 1)), i64::from(NOT_FOUND));
    assert_eq!(code(messages(u64::MAX)), i64::from(NOT_FOUND));
    let text = http_metrics(&node);
    assert!(
        text.contains(&format!("sessionvm_versions {}\n", height() + 1)),
        "{text}"
    );
}

fn http_metrics(node: &TestNode) -> String {
    support::http(node.address, "GET", "/metrics", &[], None).text()
}

#[test]
fn what_is_not_kept_has_its_own_error_and_a_restart_keeps_the_head_alone() {
    let directory = tempfile::tempdir().unwrap();
    let start = || {
        let store = Arc::new(DiskStore::open(directory.path().join("store")).unwrap());
        let options = NodeOptions {
            versions_bytes: 100_000,
            ..NodeOptions::default()
        };
        TestNode::on(store, options, ServerOptions::default())
    };
    let node = start();
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    let proof = |node: &TestNode, height: u64| {
        node.call(
            "sessionvm.GetProof",
            &json!({ "sessionId": session, "height": height }),
        )
    };
    for n in 0..40u8 {
        node.submit(&message(&session, &a, &[n])).unwrap();
    }
    let head = node.node.head().header.height;
    let error = proof(&node, 1).unwrap_err();
    assert_eq!(
        (&error["code"], &error["data"]["head"]),
        (&json!(VERSION_NOT_KEPT), &json!(head))
    );
    let oldest = error["data"]["oldest"].as_u64().unwrap();
    assert!(oldest > 1 && oldest < head, "{oldest}");
    assert_eq!(proved(&proof(&node, oldest).unwrap()).header.height, oldest);
    assert_eq!(code(proof(&node, oldest - 1)), i64::from(VERSION_NOT_KEPT));
    assert!(node.node.metrics().versions_bytes.load(Ordering::Relaxed) <= 100_000);
    drop(node);

    let node = start();
    assert_eq!(proved(&proof(&node, head).unwrap()).header.height, head);
    let error = proof(&node, head - 1).unwrap_err();
    assert_eq!(
        (&error["code"], &error["data"]["oldest"]),
        (&json!(VERSION_NOT_KEPT), &json!(head))
    );
}
