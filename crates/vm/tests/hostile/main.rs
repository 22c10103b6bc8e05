//! What strangers, faulty clients and a failing machine send at a node, over real sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "in a test a panic is the verdict"
)]

#[path = "../support/mod.rs"]
mod support;

mod bytes;
mod connections;
mod parameters;
mod rules;

use serde_json::{Value, json};
use support::{Person, TestNode, http};

pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");

pub(crate) fn post(node: &TestNode, body: &[u8]) -> support::Reply {
    http(node.address, "POST", "/rpc", &[JSON], Some(body))
}

pub(crate) fn send(session: &str, sender: &Person, ciphertext: &str, signature: &str) -> Value {
    json!({ "sessionId": session, "sender": sender.id(), "ciphertext": ciphertext, "signature": signature })
}

pub(crate) fn genesis(config: Value) -> Option<Vec<u8>> {
    Some(
        json!({ "config": config, "nonce": "00" })
            .to_string()
            .into_bytes(),
    )
}
