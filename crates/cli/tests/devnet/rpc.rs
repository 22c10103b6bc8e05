//! The five published methods through the host's HTTP, in both dialects and both versions of
//! HTTP, each call at another node than the one before.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::{Method, Version};
use serde_json::{Value, json};
use session_core::ids::AccountId;

use crate::http::{Connection, Reply};
use crate::network::{Devnet, until};

/// Which JSON a caller speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    /// As the published node answers: an array of one, status 400 and a text.
    Published,
    /// JSON-RPC 2.0.
    Two,
}

/// Who calls: each time at the next node.
struct Caller {
    urls: Vec<String>,
    connections: Vec<Connection>,
    dialect: Dialect,
    turn: usize,
}

impl Caller {
    async fn new(net: &Devnet, dialect: Dialect, version: Version) -> Self {
        let urls = net.urls();
        let mut connections = Vec::new();
        for url in &urls {
            connections.push(Connection::open(url, version).await);
        }
        Self {
            urls,
            connections,
            dialect,
            turn: 0,
        }
    }

    async fn reply(&mut self, method: &str, params: &Value) -> Reply {
        let at = self.turn % self.urls.len();
        let (url, connection) = (&self.urls[at], &mut self.connections[at]);
        let reply = match self.dialect {
            Dialect::Published => connection.published(url, method, params).await,
            Dialect::Two => connection.call(url, method, params).await,
        };
        reply.has_one_of_each_header();
        reply
    }

    /// The result at the next node, or the error: a text here, a code there.
    async fn ask(&mut self, method: &str, params: &Value) -> Result<Value, Value> {
        self.turn += 1;
        let reply = self.reply(method, params).await;
        let body = reply.json();
        match self.dialect {
            Dialect::Published => {
                assert_eq!(body["id"], 7, "{body}");
                let keys: Vec<_> = body.as_object().unwrap().keys().collect();
                assert_eq!(keys.len(), 3, "{body}");
                if body["error"].is_null() {
                    assert_eq!(reply.status, 200);
                    return Ok(body["result"].clone());
                }
                assert_eq!((reply.status, &body["result"]), (400, &Value::Null));
                Err(body["error"].clone())
            }
            Dialect::Two => {
                assert_eq!((reply.status, &body["jsonrpc"]), (200, &json!("2.0")));
                assert_eq!(body["id"], "a", "{body}");
                match body.get("error") {
                    None => Ok(body["result"].clone()),
                    Some(error) => {
                        assert!(body.get("result").is_none(), "{body}");
                        Err(error["code"].clone())
                    }
                }
            }
        }
    }

    /// A call at a node that may be a block behind: asks until it has what the call is about.
    async fn asked(&mut self, method: &str, params: &Value) -> Result<Value, Value> {
        let unknown = self.error("unknown session", -32_002);
        let here = self.turn;
        until(method, async || {
            self.turn = here;
            let answer = self.ask(method, params).await;
            (answer != Err(unknown.clone())).then_some(answer)
        })
        .await
    }

    fn error(&self, text: &str, code: i64) -> Value {
        match self.dialect {
            Dialect::Published => json!(text),
            Dialect::Two => json!(code),
        }
    }
}

/// All of them, however somebody speaks.
pub(crate) async fn five_methods(net: &Devnet) {
    let mut number = 0;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        for dialect in [Dialect::Published, Dialect::Two] {
            number += 1;
            let mut caller = Caller::new(net, dialect, version).await;
            let first = caller.reply("Health", &json!({})).await;
            assert_eq!(first.version, version);
            conversation(&mut caller, number).await;
            health_as_a_map(&mut caller).await;
        }
    }
    net.tell("five methods, two dialects, HTTP/1.1 and HTTP/2");
}

async fn conversation(caller: &mut Caller, number: u8) {
    let [a, b] = [1, 2].map(|place| AccountId::from_bytes([number * 16 + place; 32]));
    let keys = [[1; 1_184], [2; 1_184]];
    let create = json!({ "participants": [a, b], "publicKeys": keys.map(const_hex::encode) });
    let created = caller.ask("CreateSession", &create).await.unwrap();
    assert!(created["expires"].as_u64().unwrap() > 1_700_000_000);
    let session = json!({ "sessionId": created["sessionId"] });
    let got = caller.asked("GetSession", &session).await.unwrap();
    let got = &got["session"];
    assert_eq!(got["id"], created["sessionId"]);
    assert_eq!(got["participants"], json!([a, b]));
    assert_eq!(got["publicKeys"], json!(keys.map(|key| BASE64.encode(key))));
    assert_eq!(got["status"], "active");
    let text = |sender: &AccountId, text: &str| json!({ "sessionId": created["sessionId"], "sender": sender, "ciphertext": text, "signature": "" });
    // Each at another node, which may be a block behind: the chain has one order all the same.
    for (sequence, sender) in [(0, &a), (1, &b)] {
        let message = text(sender, &format!("c0ffee0{sequence}"));
        let sent = caller.asked("SendMessage", &message).await.unwrap();
        assert_eq!(sent["sequence"], sequence);
        let again = caller.asked("SendMessage", &message).await.unwrap();
        assert_eq!(again, sent, "a retry gets its first answer");
    }
    let stranger = text(&AccountId::from_bytes([9; 32]), "c0ffee");
    let refused = caller.asked("SendMessage", &stranger).await;
    assert_eq!(refused, Err(caller.error("unauthorized", -32_005)));
    let closed = caller.asked("CloseSession", &session).await.unwrap();
    assert_eq!(closed, json!({ "success": true }));
    let late = text(&a, "1a7e");
    let ended = caller.error("session closed", -32_003);
    assert_eq!(caller.ask("SendMessage", &late).await, Err(ended));
    let unknown = json!({ "sessionId": AccountId::from_bytes([7; 32]) });
    let refused = caller.ask("GetSession", &unknown).await;
    assert_eq!(refused, Err(caller.error("unknown session", -32_002)));
    let health = caller.ask("Health", &json!({})).await.unwrap();
    assert_eq!(health["healthy"], true);
    for count in ["sessions", "channels", "pending"] {
        assert!(health[count].is_u64(), "{health}");
    }
}

/// `GET /health`, the map that the host's own health check shows as well.
async fn health_as_a_map(caller: &mut Caller) {
    for (url, connection) in caller.urls.iter().zip(&mut caller.connections) {
        let reply = connection.send(Method::GET, url, "/health", "").await;
        assert_eq!(reply.status, 200);
        reply.has_one_of_each_header();
        let health = reply.json();
        assert_eq!(health["status"], "ok");
        assert_eq!(health["data"]["healthy"], true, "{health}");
    }
}
