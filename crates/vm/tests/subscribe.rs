//! Subscriptions over WebSocket: nothing missed, nothing twice, from any cursor, under load.

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

use std::collections::BTreeMap;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use support::{PATIENCE, Person, TestNode};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn subscribe(address: SocketAddr, wish: Value) -> Socket {
    let (mut socket, _) = connect_async(format!("ws://{address}/ws")).await.unwrap();
    socket.send(Message::text(wish.to_string())).await.unwrap();
    socket
}

/// The next JSON frame, or none when the other side closed.
async fn next(socket: &mut Socket) -> Option<Value> {
    loop {
        let received = tokio::time::timeout(PATIENCE, socket.next())
            .await
            .expect("a frame in time");
        match received {
            Some(Ok(Message::Text(text))) => {
                return Some(serde_json::from_str(text.as_str()).unwrap());
            }
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}

fn texts(frame: &Value) -> Vec<(u64, String)> {
    let messages = frame["messages"]
        .as_array()
        .unwrap_or_else(|| panic!("{frame}"));
    let text =
        |hex: &Value| String::from_utf8(const_hex::decode(hex.as_str().unwrap()).unwrap()).unwrap();
    messages
        .iter()
        .map(|m| (m["sequence"].as_u64().unwrap(), text(&m["ciphertext"])))
        .collect()
}

/// Sends `range` in order; the text is the number.
fn send(address: SocketAddr, session: &str, sender: &Person, range: std::ops::Range<u64>) {
    for n in range {
        let ciphertext = const_hex::encode(format!("{n}"));
        let params = json!({ "sessionId": session, "sender": sender.id(), "ciphertext": ciphertext, "signature": "" });
        support::call(address, "sessionvm.SendMessage", &params).unwrap();
    }
}

fn expected(range: std::ops::Range<u64>) -> Vec<(u64, String)> {
    range.map(|n| (n, n.to_string())).collect()
}

#[test]
fn one_session_is_followed_from_a_cursor_and_on_after_reconnecting_under_load() {
    let node = TestNode::start();
    let (a, b) = (
        Person::new(node.node.chain()),
        Person::new(node.node.chain()),
    );
    let session = node.open_session(&a, &b);
    let address = node.address;
    send(address, &session, &a, 0..10);
    let sender = {
        let session = session.clone();
        std::thread::spawn(move || send(address, &session, &a, 10..160))
    };
    node.runtime.block_on(async {
        let (mut from, mut got) = (4, Vec::new());
        let mut connections = 0;
        while from < 160 {
            // Each connection is dropped after three frames, in the middle of whatever comes.
            let mut socket =
                subscribe(address, json!({ "sessionId": session, "from": from })).await;
            connections += 1;
            for _ in 0..3 {
                let frame = next(&mut socket).await.unwrap();
                assert_eq!(frame["sessionId"], json!(session));
                got.extend(texts(&frame));
                from = frame["next"].as_u64().unwrap();
                if from >= 160 {
                    break;
                }
            }
        }
        assert_eq!(got, expected(4..160));
        assert!(connections > 3, "{connections}");
    });
    sender.join().unwrap();
}

#[test]
fn an_account_is_followed_through_sessions_that_begin_later() {
    let node = TestNode::start();
    let (a, b, c) = (node.person(), node.person(), node.person());
    let address = node.address;
    // Registered accounts sign; these send as somebody whom nobody knows.
    let x = Person::new(node.node.chain());
    let first = node.open_session(&x, &b);
    send(address, &first, &x, 0..3);
    let of_others = node.open_session(&x, &c);
    send(address, &of_others, &x, 0..3);
    node.runtime.block_on(async {
        let mut socket = subscribe(
            address,
            json!({ "account": b.id(), "from": { first.clone(): 1 } }),
        )
        .await;
        assert_eq!(texts(&next(&mut socket).await.unwrap()), expected(1..3));
        let second = node.open_session(&x, &b);
        let (one, two) = (first.clone(), second.clone());
        let sender = std::thread::spawn(move || {
            for n in 0..20 {
                send(address, &one, &x, n + 3..n + 4);
                send(address, &two, &x, n..n + 1);
            }
        });
        let mut got: BTreeMap<String, Vec<(u64, String)>> = BTreeMap::new();
        while got.values().map(Vec::len).sum::<usize>() < 40 {
            let frame = next(&mut socket).await.unwrap();
            let session = frame["sessionId"].as_str().unwrap().to_owned();
            got.entry(session).or_default().extend(texts(&frame));
        }
        assert_eq!(
            (got[&first].clone(), got[&second].clone()),
            (expected(3..23), expected(0..20))
        );
        assert_eq!(got.len(), 2, "nothing of sessions that are none of its");
        sender.join().unwrap();
    });
    drop(a);
}

#[test]
fn wishes_that_make_no_sense_are_answered_and_a_stopping_node_says_goodbye() {
    let node = TestNode::start();
    let (a, b) = (
        Person::new(node.node.chain()),
        Person::new(node.node.chain()),
    );
    let session = node.open_session(&a, &b);
    let address = node.address;
    node.runtime.block_on(async {
        let unknown = a.id().to_string();
        for (wish, code) in [
            (json!({ "sessionId": "zzz" }), -32_602),
            (json!({ "sessionId": unknown }), -32_002),
            (json!({ "channelId": unknown }), -32_001),
            (json!({ "account": "zzz" }), -32_602),
            (json!({ "color": "red" }), -32_602),
            (json!([1]), -32_602),
        ] {
            let mut socket = subscribe(address, wish.clone()).await;
            let frame = next(&mut socket).await.unwrap();
            assert_eq!(frame["error"]["code"], code, "{wish}: {frame}");
            assert_eq!(next(&mut socket).await, None);
        }
        let mut socket = subscribe(address, json!({ "sessionId": session })).await;
        let stopping = node.node.clone();
        tokio::task::spawn_blocking(move || stopping.stop())
            .await
            .unwrap();
        assert_eq!(next(&mut socket).await, None);
    });
}
