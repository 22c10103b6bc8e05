//! A node on a real socket, and an HTTP client that can say anything.

#![allow(dead_code, reason = "each test uses a part")]

#[cfg(target_os = "linux")]
pub mod memory;
#[cfg(unix)]
pub mod program;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::message::SendMessage;
use session_chain::tx::{KemKey, Kind, SigningKey, Tx};
use session_core::codec::Encode;
use session_core::ids::{AccountId, ChainId, SessionId};
use session_core::log::Conversation;
use session_core::time::Time;
use session_crypto::Identity;
use session_storage::{MemoryStore, Store};
use session_vm::clock::{Clock, SystemClock};
use session_vm::node::{Node, NodeOptions};
use session_vm::rpc::{Context, Server, ServerOptions};
use tokio::sync::watch;

/// Longest wait for anything.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// An HTTP reply.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:.300?}", self.text()))
    }
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Reads until the server closes; a reset after the head is an end too.
pub fn read_reply(stream: &mut impl Read) -> Option<Reply> {
    let mut bytes = Vec::new();
    let mut piece = [0; 65_536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => break,
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
        }
    }
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Reply {
        status,
        head,
        body: bytes[end + 4..].to_vec(),
    })
}

/// One request on a connection of its own.
pub fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Reply {
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"))
    {
        request.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(body) = body {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).unwrap();
    if let Some(body) = body {
        // A server that has seen enough may close before it has everything.
        let _refused = stream.write_all(body);
    }
    read_reply(&mut stream).expect("a reply")
}

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

/// A JSON-RPC 2.0 call: its result, or the error object.
pub fn call(address: SocketAddr, method: &str, params: &Value) -> Result<Value, Value> {
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    let reply = http(
        address,
        "POST",
        "/rpc",
        JSON,
        Some(body.to_string().as_bytes()),
    );
    assert_eq!(reply.status, 200, "{}", reply.text());
    let mut reply = reply.json();
    assert_eq!(reply["id"], 7);
    match reply.get("error") {
        Some(error) => Err(error.clone()),
        None => Ok(reply["result"].take()),
    }
}

/// A call in the published dialect: its result, or the error text.
pub fn gorilla(address: SocketAddr, method: &str, params: &Value) -> Result<Value, String> {
    let body = json!({ "id": 7, "method": method, "params": [params] });
    let reply = http(
        address,
        "POST",
        "/rpc",
        JSON,
        Some(body.to_string().as_bytes()),
    );
    let (status, mut reply) = (reply.status, reply.json());
    match reply["error"].as_str() {
        Some(error) => {
            assert_eq!(status, 400);
            Err(error.to_owned())
        }
        None => {
            assert_eq!(status, 200);
            Ok(reply["result"].take())
        }
    }
}

/// Code of an error object.
pub fn code<T: std::fmt::Debug>(answer: Result<T, Value>) -> i64 {
    let error = answer.expect_err("an error");
    error["code"]
        .as_i64()
        .unwrap_or_else(|| panic!("no code in {error}"))
}

/// Polls until `f` answers.
pub fn until<T>(what: &str, mut f: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = f() {
            return found;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Clocks that a test moves.
pub struct TestClock {
    system: SystemClock,
    wall_ms: AtomicU64,
    monotonic_ms: AtomicU64,
}

impl TestClock {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            system: SystemClock::default(),
            wall_ms: AtomicU64::new(1 << 40),
            monotonic_ms: AtomicU64::new(0),
        })
    }

    /// Time passes: both clocks agree.
    pub fn pass(&self, ms: u64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// The wall clock alone jumps.
    pub fn jump(&self, ms: i64) {
        let add = ms.cast_unsigned();
        self.wall_ms.fetch_add(add, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Time {
        let moved = self.wall_ms.load(Ordering::SeqCst).wrapping_sub(1 << 40);
        Time::from_ms(self.system.wall().ms().wrapping_add(moved))
    }

    fn monotonic_ms(&self) -> u64 {
        self.system.monotonic_ms() + self.monotonic_ms.load(Ordering::SeqCst)
    }
}

/// A node in this process with a server on a free loopback port.
pub struct TestNode {
    pub node: Arc<Node>,
    pub address: SocketAddr,
    pub runtime: tokio::runtime::Runtime,
    stop: watch::Sender<bool>,
}

impl TestNode {
    pub fn start() -> Self {
        Self::with(NodeOptions::default())
    }

    pub fn with(options: NodeOptions) -> Self {
        Self::on(
            Arc::new(MemoryStore::new()),
            options,
            ServerOptions::default(),
        )
    }

    pub fn on(store: Arc<dyn Store>, options: NodeOptions, server: ServerOptions) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let node = Arc::new(Node::start_on(store, options).unwrap());
        let mut server = server;
        server.address = SocketAddr::from(([127, 0, 0, 1], 0));
        let context = Context { node: node.clone() };
        let server = runtime.block_on(Server::bind(context, server)).unwrap();
        let address = server.address();
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(server.run(stopped));
        Self {
            node,
            address,
            runtime,
            stop,
        }
    }

    pub fn call(&self, method: &str, params: &Value) -> Result<Value, Value> {
        call(self.address, method, params)
    }

    pub fn gorilla(&self, method: &str, params: &Value) -> Result<Value, String> {
        gorilla(self.address, method, params)
    }

    /// Submits one transaction: its result if accepted, else the refusal.
    pub fn submit(&self, tx: &Tx) -> Result<Value, Value> {
        submit(self.address, tx)
    }

    /// A registered account.
    pub fn person(&self) -> Person {
        let person = Person::new(self.node.chain());
        self.submit(&person.registration()).unwrap();
        person
    }

    /// An unsigned session between two accounts with any keys.
    pub fn open_session(&self, a: &Person, b: &Person) -> String {
        let params = json!({
            "participants": [a.id(), b.id()], "publicKeys": [a.kem_hex(), b.kem_hex()],
        });
        let reply = self.call("sessionvm.CreateSession", &params).unwrap();
        reply["sessionId"].as_str().unwrap().to_owned()
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        let _gone = self.stop.send(true);
        self.node.stop();
    }
}

pub fn submit(address: SocketAddr, tx: &Tx) -> Result<Value, Value> {
    let params = json!({ "txs": [BASE64.encode(tx.to_bytes())] });
    let mut reply = call(address, "sessionvm.Submit", &params)?;
    let result = reply["results"][0].take();
    if result["status"] == "accepted" {
        Ok(result)
    } else {
        Err(result)
    }
}

/// Somebody with keys on one chain.
pub struct Person {
    pub identity: Identity,
    pub chain: ChainId,
    salt: AtomicU64,
}

impl Person {
    pub fn new(chain: ChainId) -> Self {
        let identity = Identity::generate().unwrap();
        Self {
            identity,
            chain,
            salt: AtomicU64::new(0),
        }
    }

    pub fn id(&self) -> AccountId {
        self.identity.account_id()
    }

    pub fn kem_hex(&self) -> String {
        const_hex::encode(self.identity.public().kem().as_bytes())
    }

    pub fn signing_hex(&self) -> String {
        const_hex::encode(self.identity.public().signing().as_bytes())
    }

    pub fn keys(&self) -> (KemKey, SigningKey) {
        let public = self.identity.public();
        let kem = KemKey(Box::new(*public.kem().as_bytes()));
        (kem, SigningKey(Box::new(*public.signing().as_bytes())))
    }

    /// A signed transaction, valid for half an hour from `now`.
    pub fn sign_at(&self, kind: Kind, now: Time) -> Tx {
        let salt = self.salt.fetch_add(1, Ordering::SeqCst);
        let valid_until = if kind.is_single_message() {
            Time::default()
        } else {
            now.after_ms(1_800_000)
        };
        let salt = if kind.is_single_message() { 0 } else { salt };
        let signer = self.id();
        let mut tx = Tx {
            signer,
            valid_until,
            salt,
            kind,
            signature: Vec::new(),
        };
        self.resign(&mut tx);
        tx
    }

    pub fn sign(&self, kind: Kind) -> Tx {
        self.sign_at(kind, SystemClock::default().wall())
    }

    pub fn resign(&self, tx: &mut Tx) {
        let digest = tx.signed_digest(&self.chain);
        tx.signature = self.identity.sign(&digest).unwrap().as_bytes().to_vec();
    }

    pub fn registration(&self) -> Tx {
        let (kem, signing) = self.keys();
        self.sign(Kind::RegisterIdentity(RegisterIdentity {
            kem,
            signing,
            recovery: None,
        }))
    }
}

/// A signed message in the published form.
pub fn message(session: &str, sender: &Person, text: &[u8]) -> Tx {
    let session: SessionId = session.parse().unwrap();
    let conversation = Conversation::Session(session);
    sender.sign(Kind::SendMessage(SendMessage {
        conversation,
        ciphertext: text.to_vec(),
    }))
}
