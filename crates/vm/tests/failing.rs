//! A machine that fails under a node: its clock jumps, its disk is full, slow or lies.

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
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use session_core::codec::Encode;
use session_storage::MemoryStore;
use session_storage::faulty::{Fault, FaultyStore};
use session_vm::node::NodeOptions;
use session_vm::rpc::ServerOptions;
use session_vm::rpc::error::{BUSY, STORAGE_FULL, UNAVAILABLE};
use support::{Person, TestClock, TestNode, code, message, until};

#[test]
fn a_clock_that_jumps_either_way_stops_building_until_it_is_right() {
    let clock = TestClock::new();
    let node = TestNode::with(NodeOptions {
        clock: clock.clone(),
        ..NodeOptions::default()
    });
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    for (number, jump) in [
        (0u8, 3_600_000i64),
        (1, -3_600_000),
        (2, 61_000),
        (3, -61_000),
    ] {
        let tx = message(&session, &a, &[number]);
        clock.jump(jump);
        let error = node.submit(&tx).unwrap_err();
        assert_eq!(error["code"], UNAVAILABLE, "{error}");
        assert!(
            error["error"].as_str().unwrap().contains("clock jumped"),
            "{error}"
        );
        clock.jump(-jump);
        assert_eq!(node.submit(&tx).unwrap()["outcome"]["sequence"], number);
    }
    // Half a minute is a correction.
    clock.jump(30_000);
    node.submit(&message(&session, &a, b"later")).unwrap();
    clock.jump(-50_000);
    node.submit(&message(&session, &a, b"earlier")).unwrap();
}

#[test]
fn a_full_disk_loses_nothing_and_is_over_when_there_is_room() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let node = TestNode::on(
        store.clone(),
        NodeOptions::default(),
        ServerOptions::default(),
    );
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    let mut sequence = 0;
    for fault in [
        Fault::Full,
        Fault::FullWhileWriting,
        Fault::SyncFailedAndLost,
        Fault::SyncFailedButKept,
    ] {
        let tx = message(&session, &a, format!("{fault:?}").as_bytes());
        store.plan([fault]);
        let answer = node.submit(&tx);
        match fault {
            Fault::SyncFailedButKept => {
                assert_eq!(answer.unwrap()["outcome"]["sequence"], sequence)
            }
            Fault::Full | Fault::FullWhileWriting => {
                assert_eq!(code(answer), i64::from(STORAGE_FULL))
            }
            Fault::SyncFailedAndLost
            | Fault::None
            | Fault::AcknowledgeAndForget
            | Fault::AcknowledgeAndTear => {
                assert_eq!(code(answer), i64::from(UNAVAILABLE));
            }
        }
        // What was refused is not there, and what was accepted is.
        let read = |from: u64| {
            node.call(
                "sessionvm.GetMessages",
                &json!({ "sessionId": session, "from": from, "proof": true }),
            )
            .unwrap()
        };
        let expected = if fault == Fault::SyncFailedButKept {
            sequence + 1
        } else {
            sequence
        };
        assert_eq!(read(0)["next"], expected, "{fault:?}");
        assert_eq!(
            node.submit(&tx).unwrap()["outcome"]["sequence"],
            sequence,
            "{fault:?}"
        );
        sequence += 1;
        assert_eq!(read(0)["next"], sequence);
    }
    assert_eq!(
        node.call("sessionvm.Health", &json!({})).unwrap()["healthy"],
        true
    );
    // Whoever waits through a failure hears of what comes after it.
    let (address, params) = (
        node.address,
        json!({ "sessionId": session, "from": sequence, "waitMs": 20_000 }),
    );
    let waiting = std::thread::spawn(move || {
        support::call(address, "sessionvm.GetMessages", &params).unwrap()
    });
    store.plan([Fault::FullWhileWriting]);
    let tx = message(&session, &b, b"after the failure");
    assert_eq!(code(node.submit(&tx)), i64::from(STORAGE_FULL));
    node.submit(&tx).unwrap();
    assert_eq!(
        waiting.join().unwrap()["messages"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_slow_disk_under_many_large_messages_answers_busy_and_accepts_the_rest() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let node = TestNode::on(
        store.clone(),
        NodeOptions::default(),
        ServerOptions::default(),
    );
    let (a, b) = (
        Person::new(node.node.chain()),
        Person::new(node.node.chain()),
    );
    let session = node.open_session(&a, &b);
    store.set_commit_delay(Duration::from_secs(3));
    // 40 MB at once: unsigned transactions share 16 MiB of the pool.
    let calls: Vec<_> = (0..32u8)
        .map(|call| {
            let txs = (0..5u8).map(|n| {
                let mut tx = message(&session, &a, &[vec![call, n], vec![0; 250_000]].concat());
                tx.signature.clear();
                BASE64.encode(tx.to_bytes())
            });
            let params = json!({ "txs": txs.collect::<Vec<_>>(), "waitMs": 12_000 });
            let address = node.address;
            std::thread::spawn(move || support::call(address, "sessionvm.Submit", &params).unwrap())
        })
        .collect();
    let (mut busy, mut pending) = (0, 0);
    for call in calls {
        for result in call.join().unwrap()["results"].as_array().unwrap() {
            match result["code"].as_i64() {
                Some(found) => {
                    assert_eq!(found, i64::from(BUSY), "{result}");
                    assert!(result["data"]["retryMs"].as_u64().is_some(), "{result}");
                    busy += 1;
                }
                None => pending += 1,
            }
        }
    }
    store.set_commit_delay(Duration::ZERO);
    assert!(busy > 0 && pending > 0, "busy {busy}, pending {pending}");
    let metrics = || {
        node.node
            .metrics()
            .accepted
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    until("the pool drains", || {
        let before = metrics();
        std::thread::sleep(Duration::from_millis(700));
        (metrics() == before).then_some(())
    });
    let mut last = message(&session, &a, b"the last");
    last.signature.clear();
    node.submit(&last).unwrap();
}
