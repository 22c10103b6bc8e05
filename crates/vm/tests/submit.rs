//! Batches as bytes: the same answers as in JSON, and nothing that could upset a node.

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

use serde_json::json;
use session_core::codec::Encode;
use session_core::record::Outcome;
use session_core::submission::{Submitted, decode_reply, encode_request};
use support::{Reply, TestNode, http, message};

const OCTETS: &[(&str, &str)] = &[("Content-Type", "application/octet-stream")];

fn post(node: &TestNode, body: &[u8]) -> Reply {
    http(node.address, "POST", "/submit", OCTETS, Some(body))
}

fn submit<T: AsRef<[u8]>>(node: &TestNode, txs: &[T]) -> Vec<Submitted> {
    let reply = post(node, &encode_request(txs));
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(
        reply.header("content-type"),
        Some("application/octet-stream")
    );
    decode_reply(&reply.body).unwrap()
}

#[test]
fn answers_come_in_order_and_say_what_json_says() {
    let node = TestNode::start();
    let (alice, bob) = (node.person(), node.person());
    let session = node.open_session(&alice, &bob);
    let first = message(&session, &alice, b"first").to_bytes();
    let mut forged = message(&session, &alice, b"forged");
    forged.signature[7] ^= 1;
    let second = message(&session, &alice, b"second").to_bytes();
    let txs = [
        first.clone(),
        b"garbage".to_vec(),
        forged.to_bytes(),
        second,
    ];
    let answers = submit(&node, &txs);
    let numbers: Vec<Option<u64>> = answers
        .iter()
        .map(|answer| match answer {
            Submitted::Accepted {
                outcome: Outcome::Sequence(n),
                repeated: false,
                ..
            } => Some(*n),
            Submitted::Accepted { .. } | Submitted::Pending { .. } | Submitted::Refused { .. } => {
                None
            }
        })
        .collect();
    assert_eq!(numbers, [Some(0), None, None, Some(1)]);
    for (refused, code) in [(&answers[1], 32_602), (&answers[2], 32_006)] {
        assert!(
            matches!(refused, Submitted::Refused { code: found, reason, .. } if *found == code && !reason.is_empty()),
            "{refused:?}"
        );
    }
    // A retry gets its first result.
    let again = submit(&node, &[first]);
    assert!(
        matches!(
            again[0],
            Submitted::Accepted {
                outcome: Outcome::Sequence(0),
                repeated: true,
                ..
            }
        ),
        "{again:?}"
    );
    let read = node
        .call("sessionvm.GetMessages", &json!({ "sessionId": session }))
        .unwrap();
    assert_eq!(read["messages"].as_array().unwrap().len(), 2);
}

#[test]
fn what_is_no_batch_is_refused_by_name_and_changes_nothing() {
    let node = TestNode::start();
    let good = encode_request(&[b"not a transaction".to_vec()]);
    let many = encode_request(&vec![[0u8; 1]; 8_193]);
    for (body, said) in [
        (Vec::new(), "transactions"),
        (vec![0; 4], "at least 1"),
        (vec![0xff; 4], "at most 8192"),
        (many, "at most 8192"),
        (good[..good.len() - 1].to_vec(), "transaction"),
        ([good.clone(), vec![0]].concat(), "after the end"),
        (
            [1u32.to_be_bytes(), u32::MAX.to_be_bytes()].concat(),
            "at most 300000",
        ),
    ] {
        let reply = post(&node, &body);
        assert_eq!(reply.status, 400, "{}", reply.text());
        assert!(reply.text().contains(said), "{said}: {}", reply.text());
    }
    let large = vec![0; 3 << 20];
    assert_eq!(post(&node, &large).status, 413);
    for headers in [&[][..], &[("Content-Type", "text/plain")]] {
        assert_eq!(
            http(node.address, "POST", "/submit", headers, Some(&good)).status,
            415
        );
    }
    assert_eq!(
        http(node.address, "GET", "/submit", OCTETS, None).status,
        405
    );
    let head = node.call("sessionvm.GetHead", &json!({})).unwrap();
    assert_eq!(head["height"], 0);
}
