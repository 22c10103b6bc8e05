//! The real program under everything at once that a hostile network has to offer: its memory
//! stays below 400 MB.

#![cfg(target_os = "linux")]
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
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::SinkExt;
use serde_json::{Value, json};
use session_core::codec::Encode;
use support::memory::status;
use support::program::{Program, program};
use support::{Person, call, connect, http, message, submit};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

/// The bound of the node, in bytes.
const MOST: u64 = 400_000_000;

/// How long the load goes on.
const LOAD: Duration = Duration::from_secs(15);

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// One request, and whatever comes back: a hostile caller does not mind.
fn fire(address: SocketAddr, body: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .ok()?;
    let head = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let _cut = stream.write_all(body);
    let mut reply = Vec::new();
    let _reset = stream.read_to_end(&mut reply);
    let text = String::from_utf8_lossy(reply.get(..16)?).into_owned();
    text.split(' ').nth(1)?.parse().ok()
}

fn request(method: &str, params: &Value) -> Vec<u8> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
    body.to_string().into_bytes()
}

/// Calls that each fill a body: five messages of full size, or hundreds of small ones.
fn flood(session: &str, sender: &Person, n: u64) -> Vec<Vec<u8>> {
    let (calls, texts, bytes) = if n.is_multiple_of(2) {
        (12, 5, 256 << 10)
    } else {
        (6, 350, 16)
    };
    let call = |c: u64| {
        let tx = |i: u64| {
            let mut text = vec![7; bytes];
            text[..8].copy_from_slice(&(n << 48 | c << 16 | i).to_be_bytes());
            BASE64.encode(message(session, sender, &text).to_bytes())
        };
        let txs: Vec<String> = (0..texts).map(tx).collect();
        request("sessionvm.Submit", &json!({ "txs": txs }))
    };
    (0..calls).map(call).collect()
}

/// Connections that say half of something and then nothing more.
fn slow(address: SocketAddr) -> Vec<TcpStream> {
    let full = RPC_BODY - 1;
    let most = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {full}\r\n\r\n"
    );
    let beginnings = [
        "",
        "GET /hea",
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nX: ",
        &most,
    ];
    let connections = (0..600).map(|i| {
        let mut stream = connect(address);
        stream.write_all(beginnings[i % 4].as_bytes()).unwrap();
        stream
    });
    connections.collect()
}

const RPC_BODY: usize = 2 << 20;

/// Readers of the largest pages who never take them.
fn silent_readers(address: SocketAddr, session: &str) -> Vec<TcpStream> {
    let body = request(
        "sessionvm.GetMessages",
        &json!({ "sessionId": session, "limit": 1_000 }),
    );
    let head = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let once = [head.as_bytes(), &body].concat();
    let connections = (0..100).map(|_| {
        let mut stream = connect(address);
        stream.write_all(&once.repeat(5)).unwrap();
        stream
    });
    connections.collect()
}

async fn subscribers(address: SocketAddr, session: &str, count: usize) {
    let mut sockets = Vec::new();
    for _ in 0..count {
        // They ask from the beginning and read nothing.
        if let Ok((mut socket, _)) = connect_async(format!("ws://{address}/ws")).await {
            let wish = json!({ "sessionId": session, "from": 0 });
            let _sent = socket.send(Message::text(wish.to_string())).await;
            sockets.push(socket);
        }
    }
    tokio::time::sleep(LOAD).await;
}

/// Runs one kind of load until it is over; answers how often.
fn until_over(over: &AtomicBool, mut load: impl FnMut(u64)) -> u64 {
    let mut n = 0;
    while !over.load(Ordering::Relaxed) {
        load(n);
        n += 1;
    }
    n
}

#[test]
fn the_program_stays_below_400_mb_whatever_it_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let mut node = Program::of(program(directory.path(), &["--rpc", "127.0.0.1:0"]));
    let address = node.address;
    let pid = node.child.id();
    let chain = node.ready["chain"].as_str().unwrap().parse().unwrap();
    let (a, b) = (Person::new(chain), Person::new(chain));
    for person in [&a, &b] {
        submit(address, &person.registration()).unwrap();
    }
    let params =
        json!({ "participants": [a.id(), b.id()], "publicKeys": [a.kem_hex(), b.kem_hex()] });
    let opened = call(address, "sessionvm.CreateSession", &params).unwrap();
    let session = opened["sessionId"].as_str().unwrap().to_owned();
    for n in 0..40u8 {
        submit(address, &message(&session, &a, &vec![n; 256 << 10])).unwrap();
    }
    println!("at rest {} bytes", status(pid, "VmRSS"));
    let over = AtomicBool::new(false);
    let floods: Vec<Vec<Vec<u8>>> = (0..4).map(|n| flood(&session, &a, n)).collect();
    let deep = "[".repeat(900_000) + &"]".repeat(900_000);
    let large = vec![b'['; 100 << 20];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let watching = runtime.spawn({
        let session = session.clone();
        async move { subscribers(address, &session, 100).await }
    });
    let slow = slow(address);
    let silent = silent_readers(address, &session);
    std::thread::scope(|scope| {
        let (over, session) = (&over, session.as_str());
        scope.spawn(|| {
            until_over(over, |_| {
                fire(address, &large);
            })
        });
        scope.spawn(|| {
            until_over(over, |_| {
                fire(address, deep.as_bytes());
            })
        });
        for calls in &floods {
            scope.spawn(move || {
                let mut calls = calls.iter().cycle();
                until_over(over, |_| {
                    let refused = calls.next().and_then(|call| fire(address, call));
                    assert!(refused.is_none_or(|status| matches!(status, 200 | 503)));
                })
            });
        }
        for _ in 0..60 {
            scope.spawn(move || {
                let poll = json!({ "sessionId": session, "from": 1u64 << 40, "waitMs": 3_000 });
                until_over(over, |_| {
                    fire(address, &request("sessionvm.GetMessages", &poll));
                });
            });
        }
        for _ in 0..4 {
            scope.spawn(move || {
                let proof = json!({ "sessionId": session, "from": 0, "to": 1_000, "proof": true });
                until_over(over, |n| {
                    fire(address, &request("sessionvm.GetProof", &proof));
                    if n.is_multiple_of(4) {
                        let pages = vec![
                            json!({ "jsonrpc": "2.0", "id": 1, "method": "sessionvm.GetMessages",
                                "params": { "sessionId": session, "proof": true } });
                            100
                        ];
                        fire(address, json!(pages).to_string().as_bytes());
                    }
                })
            });
        }
        let began = Instant::now();
        while began.elapsed() < LOAD {
            std::thread::sleep(Duration::from_millis(200));
            assert!(node.child.try_wait().unwrap().is_none(), "it died");
        }
        over.store(true, Ordering::Relaxed);
    });
    let peak = status(pid, "VmHWM");
    let metrics = http(address, "GET", "/metrics", &[], None).text();
    println!("peak {peak} bytes\n{metrics}");
    drop((slow, silent));
    runtime.block_on(watching).unwrap();
    // Nobody else noticed more than a wait.
    let health = http(address, "GET", "/health", &[], None);
    assert_eq!(health.status, 200, "{}", health.text());
    let body = request("sessionvm.GetSession", &json!({ "sessionId": session }));
    assert_eq!(http(address, "POST", "/rpc", JSON, Some(&body)).status, 200);
    assert!(peak < MOST, "{peak} bytes at the peak");
    node.signal("-TERM");
    assert!(node.wait(Duration::from_secs(10)).success());
}
