//! What people reach through the node: plain requests, long polls, WebSockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use session_core::ids::SessionId;
use session_fakehost::alone::{Alone, asked};
use session_fakehost::bounded;
use session_fakehost::database::Database;
use session_fakehost::http::{Handler, Proxy};
use session_fakehost::network::Setup;
use session_fakehost::people::{Person, call};
use session_fakehost::plugin::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

const PLUGIN: &str = env!("CARGO_BIN_EXE_fakehost-plugin");

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn operating() -> Alone {
    Alone::operating(&Setup::new(PLUGIN), &Database::default()).await
}

async fn proxy(alone: &Alone) -> Proxy {
    let by_header = asked(alone.vm().new_http_handler(())).await.unwrap();
    let by_header = Some(by_header.server_addr).filter(|address| !address.is_empty());
    let by_header = by_header.map(|address| Handler::new(&address));
    Proxy::start("chain", alone.handlers.clone(), by_header).await
}

/// Two people with a session.
async fn session(alone: &mut Alone) -> (Person, SessionId) {
    let (alice, bob) = (alone.person(1), alone.person(2));
    for tx in [alice.registration(), bob.registration()] {
        alone.block(&tx).await.unwrap();
    }
    let (tx, session) = alice.open_session(&bob);
    alone.block(&tx).await.unwrap();
    alone.block(&bob.accept_session(session)).await.unwrap();
    (alice, session)
}

async fn subscribe(proxy: &Proxy, session: SessionId) -> Socket {
    let url = format!("ws://{}/ext/bc/chain/ws", proxy.address());
    let (mut socket, _) = connect_async(url).await.expect("a WebSocket");
    let wish = json!({ "sessionId": session, "from": 0 }).to_string();
    socket.send(Message::text(wish)).await.unwrap();
    socket
}

/// Sequence numbers of the next frame.
async fn next(socket: &mut Socket) -> Vec<u64> {
    loop {
        let patience = Duration::from_secs(5);
        let frame = tokio::time::timeout(patience, socket.next()).await;
        let frame = frame.expect("a frame in time").expect("no end").unwrap();
        if let Message::Text(text) = frame {
            let frame: Value = serde_json::from_str(text.as_str()).unwrap();
            let messages = frame["messages"].as_array();
            let messages = messages.unwrap_or_else(|| panic!("{frame}")).iter();
            return messages.map(|m| m["sequence"].as_u64().unwrap()).collect();
        }
    }
}

/// Each word of a header's name begins with a capital, and has no other.
fn is_as_go_writes(name: &str) -> bool {
    name.split('-').all(|word| {
        let (first, rest) = word.split_at(word.len().min(1));
        first == first.to_ascii_uppercase() && rest == rest.to_ascii_lowercase()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_headers_stay_and_every_path_answers() {
    bounded(20, async {
        let alone = operating().await;
        let json = [("Content-Type", "application/json")];
        let head = br#"{"jsonrpc":"2.0","id":1,"method":"sessionvm.GetHead","params":{}}"#;
        let paths: Vec<_> = alone
            .handlers
            .iter()
            .map(|(prefix, _)| prefix.clone())
            .collect();
        println!("{paths:?}");
        for prefix in &paths {
            let url = format!("/ext/bc/chain{prefix}");
            let method = if prefix == "/rpc" { "POST" } else { "GET" };
            let handler = alone.handler(prefix);
            let reply = handler
                .simple(method, &url, &json, head.to_vec())
                .await
                .unwrap();
            println!("{method} {prefix}: {} {:.60}", reply.code, reply.text());
            assert!(
                (200..500).contains(&reply.code) && reply.code != 404,
                "{prefix}"
            );
            for header in ["Node-Id", "Access-Control-Allow-Origin", "Vary"] {
                assert!(reply.header(header).is_some(), "{prefix} lost {header}");
            }
            // A real node finds no other form, and writes its own type and length beside ours.
            for (name, _) in &reply.headers {
                assert!(is_as_go_writes(name), "{prefix}: {name}");
            }
        }
        let reply = alone.handler("/rpc");
        let reply = reply
            .simple("POST", "/ext/bc/alias/rpc?x=1", &json, head.to_vec())
            .await;
        assert_eq!(reply.unwrap().json()["result"]["height"], 0);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn real_clients_reach_it_by_path_and_by_header() {
    bounded(20, async {
        let alone = operating().await;
        let proxy = proxy(&alone).await;
        let body = r#"{"jsonrpc":"2.0","id":1,"method":"sessionvm.GetHead","params":{}}"#;
        for (path, route) in [
            ("/ext/bc/chain/rpc", ""),
            ("/rpc", "Avalanche-Api-Route: chain\r\n"),
        ] {
            let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{route}\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut reply = String::new();
            socket.read_to_string(&mut reply).await.unwrap();
            assert!(
                reply.starts_with("HTTP/1.1 200") && reply.contains("\"height\":0"),
                "{reply}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_pieces_are_answered_in_pieces_and_bounded() {
    bounded(20, async {
        let alone = operating().await;
        let proxy = Proxy::streaming("chain", alone.handlers.clone()).await;
        let head = r#"{"jsonrpc":"2.0","id":1,"method":"sessionvm.GetHead","params":{}}"#;
        let long = " ".repeat(3 << 20);
        for (path, body, starts, contains) in [
            ("/ext/bc/chain/rpc", head, "HTTP/1.1 200", "\"height\":0"),
            (
                "/ext/bc/chain/rpc",
                long.as_str(),
                "HTTP/1.1 413",
                "larger than",
            ),
            ("/ext/bc/chain/openrpc.json", "", "HTTP/1.1 405", ""),
        ] {
            let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let (mut from, mut to) = socket.split();
            let sent = async { drop(to.write_all(request.as_bytes()).await) };
            let mut reply = Vec::new();
            let read = async { drop(from.read_to_end(&mut reply).await) };
            tokio::join!(sent, read);
            let reply = String::from_utf8_lossy(&reply);
            assert!(
                reply.starts_with(starts) && reply.contains(contains),
                "{reply:.300}"
            );
            for header in ["Node-Id", "Access-Control-Allow-Origin", "Vary"] {
                assert!(reply.contains(header), "{path} lost {header}: {reply:.300}");
            }
            let head = reply.split("\r\n\r\n").next().unwrap().lines().skip(1);
            let names = head.map(|line| line.split(':').next().unwrap());
            names.for_each(|name| assert!(is_as_go_writes(name), "{path}: {name}"));
        }
        assert!(within(Duration::from_secs(2), || proxy.open() == 0).await);
    })
    .await;
}

fn resident_kb(alone: &Alone) -> u64 {
    let path = format!("/proc/{}/status", alone.plugin.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_of_a_hundred_megabytes_is_refused_and_takes_no_memory() {
    bounded(30, async {
        let alone = operating().await;
        let before = resident_kb(&alone);
        let began = Instant::now();
        for prefix in ["/rpc", "/submit"] {
            let body = vec![b' '; 100 << 20];
            let json = [("Content-Type", "application/json")];
            let handler = alone.handler(prefix);
            let refused = match handler.simple("POST", prefix, &json, body).await {
                Ok(reply) => format!("{}: {:.80}", reply.code, reply.text()),
                Err(status) => status.to_string(),
            };
            println!("{prefix}: {refused:.200}");
            assert!(!refused.starts_with('2'), "{refused}");
        }
        assert!(
            began.elapsed() < Duration::from_secs(8),
            "{:?}",
            began.elapsed()
        );
        let grown = resident_kb(&alone) - before;
        println!("{grown} kB more");
        assert!(grown < 64 << 10, "{grown} kB more");
        let head = call(alone.handler("/rpc"), "sessionvm.GetHead", &json!({})).await;
        assert_eq!(head.unwrap()["height"], 0);
        let body = vec![b' '; 3 << 20];
        let json = [("Content-Type", "application/json")];
        let reply = alone
            .handler("/rpc")
            .simple("POST", "/rpc", &json, body)
            .await;
        assert_eq!(reply.unwrap().code, 413);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_polls_end_before_they_freeze_a_node_and_disturb_nobody() {
    bounded(30, async {
        let mut alone = operating().await;
        let (_, session) = session(&mut alone).await;
        let handler = alone.handler("/rpc").clone();
        let began = Instant::now();
        let polls: Vec<_> = (0..100)
            .map(|_| {
                let handler = handler.clone();
                let params = json!({ "sessionId": session, "waitMs": 25_000 });
                tokio::spawn(async move {
                    call(&handler, "sessionvm.GetMessages", &params)
                        .await
                        .unwrap()
                })
            })
            .collect();
        for _ in 0..20 {
            let asked = Instant::now();
            call(&handler, "sessionvm.GetHead", &json!({}))
                .await
                .unwrap();
            assert!(
                asked.elapsed() < Duration::from_secs(1),
                "{:?}",
                asked.elapsed()
            );
        }
        for poll in polls {
            let reply = poll.await.unwrap();
            assert_eq!(reply["messages"].as_array().unwrap().len(), 0);
        }
        let took = began.elapsed();
        assert!(
            took > Duration::from_secs(2) && took < Duration::from_secs(10),
            "{took:?}"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_follow_a_session_and_leave_the_nodes_router_free() {
    bounded(30, async {
        let mut alone = operating().await;
        let (alice, session) = session(&mut alone).await;
        let proxy = proxy(&alone).await;
        alone
            .block(&alice.message(session, b"before".to_vec()))
            .await
            .unwrap();
        let mut sockets = Vec::new();
        for _ in 0..20 {
            sockets.push(subscribe(&proxy, session).await);
        }
        for socket in &mut sockets {
            assert_eq!(next(socket).await, [0]);
        }
        let free = within(Duration::from_secs(2), || proxy.open() == 0).await;
        assert!(free, "{} calls have not returned", proxy.open());
        for n in 1..4u8 {
            let batch = alice.batch(session, vec![vec![n], vec![n, n]]);
            alone.block(&batch).await.unwrap();
            for socket in &mut sockets {
                let numbers = next(socket).await;
                assert_eq!(numbers, [u64::from(n) * 2 - 1, u64::from(n) * 2]);
            }
        }
        // Half of them go without a word, half of them politely.
        for (at, mut socket) in sockets.drain(..).enumerate() {
            if at % 2 == 0 {
                socket.close(None).await.unwrap();
            }
        }
        alone
            .block(&alice.message(session, b"after".to_vec()))
            .await
            .unwrap();
        let mut again = subscribe(&proxy, session).await;
        assert_eq!(next(&mut again).await.len(), 8);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn upgrades_that_are_no_websockets_end_and_do_no_harm() {
    bounded(20, async {
        let alone = operating().await;
        let proxy = proxy(&alone).await;
        for request in [
            "GET /ext/bc/chain/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nUpgrade: sse\r\n\r\n",
            "GET /ext/bc/chain/ws HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nUpgrade: h2c\r\n\r\n",
            "POST /ext/bc/chain/rpc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nhello",
        ] {
            let mut socket = TcpStream::connect(proxy.address()).await.unwrap();
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut reply = String::new();
            socket.read_to_string(&mut reply).await.unwrap();
            println!("{:.40?}", reply);
            assert!(reply.starts_with("HTTP/1.1 "), "{reply}");
        }
        assert!(within(Duration::from_secs(2), || proxy.open() == 0).await);
        let head = call(alone.handler("/rpc"), "sessionvm.GetHead", &json!({})).await;
        assert_eq!(head.unwrap()["height"], 0);
    })
    .await;
}
