//! One address and one identity are slowed down, others are not.

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

use serde_json::json;
use session_chain::tx::Kind;
use session_chain::tx::chunk::PutChunk;
use session_core::parameters::Rate;
use session_storage::MemoryStore;
use session_vm::node::NodeOptions;
use session_vm::rpc::ServerOptions;
use session_vm::rpc::error::LIMIT;
use support::{Person, TestClock, TestNode, code, http};

fn chunk(person: &Person, clock: &TestClock, byte: u8) -> session_chain::tx::Tx {
    use session_vm::clock::Clock;
    person.sign_at(Kind::PutChunk(PutChunk { bytes: vec![byte] }), clock.wall())
}

#[test]
fn one_identity_over_its_rate_waits_and_others_do_not() {
    let clock = TestClock::new();
    let options = NodeOptions {
        identity_rate: Rate {
            per_second: 1,
            burst: 3,
        },
        clock: clock.clone(),
        ..NodeOptions::default()
    };
    let node = TestNode::with(options);
    let (a, b) = (node.person(), node.person());
    for byte in 0..3 {
        node.submit(&chunk(&a, &clock, byte)).unwrap();
    }
    let refused = node.submit(&chunk(&a, &clock, 3));
    assert_eq!(code(refused), i64::from(LIMIT));
    node.submit(&chunk(&b, &clock, 3)).unwrap();
    clock.pass(1_000);
    node.submit(&chunk(&a, &clock, 4)).unwrap();
    // What somebody else signed in its name does not count against it.
    clock.pass(2_000);
    let mut forged = chunk(&a, &clock, 5);
    forged.signature = chunk(&b, &clock, 6).signature;
    for _ in 0..5 {
        assert!(node.submit(&forged).is_err());
    }
    node.submit(&chunk(&a, &clock, 7)).unwrap();
}

#[test]
fn one_address_over_its_rate_gets_429_and_the_time_to_come_back() {
    let clock = TestClock::new();
    let options = NodeOptions {
        clock: clock.clone(),
        ..NodeOptions::default()
    };
    let address_rate = Rate {
        per_second: 1,
        burst: 5,
    };
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let server = ServerOptions {
        address,
        address_rate,
        ..ServerOptions::default()
    };
    let node = TestNode::on(Arc::new(MemoryStore::new()), options, server);
    for _ in 0..5 {
        node.call("sessionvm.Health", &json!({})).unwrap();
    }
    let refused = http(node.address, "GET", "/health", &[], None);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    clock.pass(1_000);
    node.call("sessionvm.Health", &json!({})).unwrap();
}
