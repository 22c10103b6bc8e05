//! Subscriptions through the host: what another node's caller wrote arrives, and the host is free.

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use session_core::ids::SessionId;
use session_devnet::{Kind, NodeApi, Platform, default_genesis};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::network::{Devnet, LOOK, PATIENCE, call, until};
use crate::people::Crowd;

/// Sockets at each node.
const SOCKETS: usize = 5;

/// A host that waits for an open call while it creates a chain answers nobody for longer.
const FREEZE: Duration = Duration::from_secs(10);

/// A subscription to one conversation.
pub(crate) struct Subscription {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next: u64,
}

impl Subscription {
    async fn open(url: &str, session: SessionId, from: u64) -> Self {
        let url = format!("{}/ws", url.replacen("http", "ws", 1));
        let (mut socket, _) = connect_async(url).await.expect("a WebSocket");
        let wish = json!({ "sessionId": session, "from": from });
        socket.send(Message::text(wish.to_string())).await.unwrap();
        Self { socket, next: from }
    }

    /// The next texts, none missed and none twice.
    async fn texts(&mut self) -> Vec<String> {
        loop {
            let frame = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            let frame = frame.expect("a frame in time").expect("no end").unwrap();
            let Message::Text(text) = frame else { continue };
            let frame: Value = serde_json::from_str(text.as_str()).unwrap();
            let messages = frame["messages"].as_array();
            let messages = messages.unwrap_or_else(|| panic!("{frame}"));
            let mut texts = Vec::new();
            for message in messages {
                assert_eq!(message["sequence"], self.next, "a gap");
                self.next += 1;
                let text = const_hex::decode(message["ciphertext"].as_str().unwrap()).unwrap();
                texts.push(String::from_utf8(text).unwrap());
            }
            return texts;
        }
    }

    /// Waits for one of them.
    async fn hears(&mut self, text: &str) {
        while !self.texts().await.iter().any(|heard| heard == text) {}
    }
}

/// Sockets at every node hear what is written through the last one, answer calls meanwhile, and
/// live on while the hosts create another chain.
pub(crate) async fn sockets_hear_and_hold_nothing_up(net: &Devnet, crowd: &Crowd) {
    let (urls, nodes) = (net.urls(), net.nodes());
    let session = crowd.session(1);
    let mut sockets = Vec::new();
    for url in &urls {
        for _ in 0..SOCKETS {
            sockets.push(Subscription::open(url, session, 0).await);
        }
    }
    for at in 0..nodes.len() {
        let letter = crowd.letter(1, 1);
        let text = letter.text().to_owned();
        crowd.send(&nodes, nodes.len() - 1 - at, vec![letter]).await;
        for socket in &mut sockets {
            socket.hears(&text).await;
        }
    }
    net.tell(&format!(
        "{} sockets heard what each node was told",
        sockets.len()
    ));
    let longest = another_chain(net).await;
    assert!(longest < FREEZE, "no answer for {longest:?}");
    let letter = crowd.letter(1, 1);
    let text = letter.text().to_owned();
    crowd.send(&nodes, 0, vec![letter]).await;
    for socket in &mut sockets {
        socket.hears(&text).await;
    }
    net.tell(&format!(
        "another chain, and calls took {longest:.1?} at most"
    ));
}

/// Creates one more chain of the same VM on every node; how long a call waited meanwhile.
async fn another_chain(net: &Devnet) -> Duration {
    let state = net.state();
    let (subnet, vm) = (state.subnet.unwrap(), state.vm);
    let api = NodeApi::new(state.nodes[0].http_port, None).unwrap();
    let genesis = default_genesis("open", 1_700_000_000);
    let kind = Kind::CreateChain {
        subnet,
        name: "another",
        vm,
        genesis: &genesis,
    };
    let creating = async {
        let chain = Platform::new(&api).take("CreateChain", kind).await.unwrap();
        for node in &state.nodes {
            let api = NodeApi::new(node.http_port, Some(chain)).unwrap();
            until("the other chain", async || api.head().await.ok()).await;
        }
    };
    let mut creating = std::pin::pin!(creating);
    let node = net.nodes().remove(0);
    let mut longest = Duration::ZERO;
    loop {
        let asked = Instant::now();
        let over = tokio::select! {
            () = &mut creating => true,
            _ = call(&node, "GetHead", json!({})) => false,
        };
        longest = longest.max(asked.elapsed());
        if over {
            return longest;
        }
        tokio::time::sleep(LOOK).await;
    }
}
