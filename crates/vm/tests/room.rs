//! Large calls share a room; small ones never wait for it.

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

use std::io::{Read, Write};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::Kind;
use session_chain::tx::message::SendBatch;
use session_core::codec::Decode;
use session_core::ids::SessionId;
use session_core::log::Conversation;
use session_core::proof::Proof;
use session_storage::MemoryStore;
use session_vm::node::NodeOptions;
use session_vm::prover::ProverLimits;
use session_vm::rpc::error::BUSY;
use session_vm::rpc::{Patience, ServerOptions};
use support::{PATIENCE, Reply, TestNode, connect, http, message, until};

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

fn post(node: &TestNode, body: &[u8]) -> Reply {
    http(node.address, "POST", "/rpc", JSON, Some(body))
}

/// A call that means little, in so many bytes.
fn padded(bytes: usize) -> Vec<u8> {
    let padding = " ".repeat(bytes);
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"sessionvm.Health"{padding}}}"#).into_bytes()
}

#[test]
fn half_sent_bodies_make_large_calls_wait_and_small_ones_not() {
    let node = TestNode::start();
    let most = 2 << 20;
    let half = || {
        let mut stream = connect(node.address);
        write!(
            stream,
            "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {most}\r\n\r\n{{"
        )
        .unwrap();
        stream
    };
    let silent: Vec<_> = (0..60).map(|_| half()).collect();
    until("the room is full", || {
        let began = Instant::now();
        let reply = post(&node, &padded(1_000_000));
        (reply.status == 503).then(|| {
            assert_eq!(reply.header("retry-after"), Some("1"));
            assert!(began.elapsed() >= Duration::from_secs(4), "it waited first");
        })
    });
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(post(&node, &padded(10_000)).status, 200);
    }
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    drop(silent);
    until("the room is free", || {
        (post(&node, &padded(1_000_000)).status == 200).then_some(())
    });
}

#[test]
fn a_batch_answers_what_fits_and_says_of_the_rest_that_it_is_to_be_asked_again() {
    let node = TestNode::start();
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    for n in 0..6u8 {
        node.submit(&message(&session, &a, &vec![n; 256 << 10]))
            .unwrap();
    }
    let page = json!({ "jsonrpc": "2.0", "id": 1, "method": "sessionvm.GetMessages",
        "params": { "sessionId": session } });
    let replies = post(&node, json!(vec![page; 12]).to_string().as_bytes()).json();
    let replies = replies.as_array().unwrap();
    assert_eq!(replies.len(), 12);
    let refused = |reply: &&Value| reply["error"]["code"] == BUSY;
    let count = replies.iter().filter(refused).count();
    assert!((5..10).contains(&count), "{count} refused");
    // A page is a megabyte of bodies; the rest comes with the next call.
    let page = &replies[0]["result"];
    assert_eq!(
        (page["messages"].as_array().unwrap().len(), &page["next"]),
        (4, &json!(4))
    );
}

#[test]
fn a_flood_of_large_proofs_is_told_to_wait_and_keeps_nothing_else_waiting() {
    let node = TestNode::with(NodeOptions {
        prover: ProverLimits {
            workers: NonZeroUsize::MIN,
            waiting: 2,
        },
        ..NodeOptions::default()
    });
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    let conversation = Conversation::Session(session.parse::<SessionId>().unwrap());
    for first in (0..1_000u32).step_by(100) {
        let ciphertexts = (first..first + 100).map(|n| n.to_be_bytes().to_vec());
        let ciphertexts = ciphertexts.collect();
        let batch = SendBatch {
            conversation,
            ciphertexts,
        };
        node.submit(&a.sign(Kind::SendBatch(batch))).unwrap();
    }
    let params = json!({ "sessionId": session, "from": 0, "to": 1_000 });
    let (over, proved, told) = (
        AtomicBool::new(false),
        AtomicUsize::new(0),
        AtomicUsize::new(0),
    );
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    match node.call("sessionvm.GetProof", &params) {
                        Ok(reply) => {
                            let proof = BASE64.decode(reply["proof"].as_str().unwrap()).unwrap();
                            let shown = Proof::from_bytes(&proof).unwrap().verify().unwrap();
                            assert_eq!(shown.entries.unwrap().entries.len(), 1_000);
                            proved.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => {
                            assert_eq!(error["code"], BUSY, "{error}");
                            assert!(error["data"]["retryMs"].as_u64().unwrap() > 0);
                            told.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        // Everything else goes on meanwhile, each call within a caller's patience.
        let began = Instant::now();
        let mut n = 0u8;
        while n < 10 || told.load(Ordering::Relaxed) == 0 || proved.load(Ordering::Relaxed) < 10 {
            let health = node.call("sessionvm.Health", &json!({})).unwrap();
            assert_eq!(health["healthy"], true);
            node.submit(&message(&session, &a, &[n])).unwrap();
            n = n.wrapping_add(1);
            if began.elapsed() > PATIENCE {
                break;
            }
        }
        over.store(true, Ordering::Relaxed);
        assert!(n >= 10, "{n} messages in {PATIENCE:?}");
    });
    let (proved, told) = (proved.into_inner(), told.into_inner());
    assert!(proved >= 10 && told > 0, "{proved} proved, {told} told");
    let refused = node.node.metrics().proofs_refused.load(Ordering::Relaxed);
    assert_eq!(refused, told as u64);
}

#[test]
fn a_reader_that_trickles_loses_its_connection_and_the_room_with_it() {
    // Two megabytes a second would be in time; it takes a sixth of that.
    let patience = Patience {
        idle: PATIENCE,
        whole: Duration::from_secs(1),
        bytes_per_second: NonZeroU32::new(2 << 20).unwrap(),
    };
    let options = ServerOptions {
        patience,
        ..ServerOptions::default()
    };
    let store = Arc::new(MemoryStore::new());
    let node = TestNode::on(store, NodeOptions::default(), options);
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    for n in 0..4u8 {
        node.submit(&message(&session, &a, &vec![n; 256 << 10]))
            .unwrap();
    }
    let page = json!({ "jsonrpc": "2.0", "id": 1, "method": "sessionvm.GetMessages",
        "params": { "sessionId": session } });
    let batch = json!(vec![page; 4]).to_string();
    let connections = || node.node.metrics().connections.load(Ordering::Relaxed);
    until("the callers before are gone", || {
        (connections() == 0).then_some(())
    });
    let mut slow = connect(node.address);
    let request = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{batch}",
        batch.len()
    );
    // More than two sockets buffer: eight megabytes for each of them.
    slow.write_all(request.repeat(8).as_bytes()).unwrap();
    until("it is served", || (connections() == 1).then_some(()));
    let (mut taken, mut piece, mut next) = (0, vec![0; 16 << 10], Instant::now());
    until("its connection ends", || {
        // It never stops reading.
        if Instant::now() >= next {
            taken += slow.read(&mut piece).unwrap_or(0);
            next = Instant::now() + Duration::from_millis(50);
        }
        (connections() == 0).then_some(())
    });
    assert!(taken > 0 && taken < 40 << 20, "{taken} bytes");
}
