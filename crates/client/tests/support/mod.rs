//! A proxy that lies, vanishes and comes back, between an account and an honest node.

#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod group;

use std::path::Path;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use session_client::{Account, RpcClient, RpcError};
use session_crypto::Identity;
use session_fixture::ThrowawayNode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) type Tamper = Box<dyn FnMut(&str, &mut Value) + Send>;

pub(crate) const HONEST: u8 = 0;
/// Connections end at once.
pub(crate) const DOWN: u8 = 1;
/// Calls reach the node, and nobody hears of it.
pub(crate) const MUTE: u8 = 2;

/// A proxy that changes what the node answers.
#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: String,
    pub(crate) tamper: Arc<Mutex<Option<Tamper>>>,
    pub(crate) mode: Arc<AtomicU8>,
    pub(crate) upstream: Arc<Mutex<RpcClient>>,
    /// So many calls are answered 503 before they reach the node.
    pub(crate) busy: Arc<AtomicUsize>,
    /// What it says to those: seconds.
    pub(crate) retry_after: Arc<AtomicUsize>,
    /// Messages before this one are said to be gone.
    pub(crate) gone: Arc<Mutex<Option<u64>>>,
    /// Calls of this method end at once, or, where it says so, reach the node all the same.
    pub(crate) cut: Arc<Mutex<Option<(&'static str, bool)>>>,
    /// A chunk that is said not to be there.
    pub(crate) hidden: Arc<Mutex<Option<Value>>>,
}

impl Proxy {
    pub(crate) async fn before(upstream: RpcClient) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let this = Self {
            address,
            tamper: Arc::default(),
            mode: Arc::default(),
            upstream: Arc::new(Mutex::new(upstream)),
            busy: Arc::default(),
            retry_after: Arc::default(),
            gone: Arc::default(),
            cut: Arc::default(),
            hidden: Arc::default(),
        };
        let proxy = this.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(proxy.clone().serve(stream));
            }
        });
        this
    }

    pub(crate) fn client(&self) -> RpcClient {
        RpcClient::new(&self.address, None).unwrap()
    }

    pub(crate) fn lie(&self, tamper: impl FnMut(&str, &mut Value) + Send + 'static) {
        *self.tamper.lock().unwrap() = Some(Box::new(tamper));
    }

    pub(crate) fn be_honest(&self) {
        *self.tamper.lock().unwrap() = None;
    }

    /// Cuts calls of one method, before or after they reach the node; `None` passes all on.
    pub(crate) fn cut(&self, cut: Option<(&'static str, bool)>) {
        *self.cut.lock().unwrap() = cut;
    }

    pub(crate) fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    pub(crate) async fn serve(self, mut stream: TcpStream) -> Option<()> {
        if self.mode.load(Ordering::SeqCst) == DOWN {
            return None;
        }
        let mut bytes = Vec::new();
        let body = loop {
            if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head
                    .lines()
                    .find_map(|l| l.strip_prefix("content-length: "));
                let length: usize = length?.trim().parse().ok()?;
                if bytes.len() >= end + 4 + length {
                    break bytes[end + 4..].to_vec();
                }
            }
            if stream.read_buf(&mut bytes).await.ok()? == 0 {
                return None;
            }
        };
        let less = |busy: usize| busy.checked_sub(1);
        let busy = self
            .busy
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if busy.is_ok() {
            let after = self.retry_after.load(Ordering::SeqCst);
            let reply = format!(
                "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {after}\r\nConnection: close\r\nContent-Length: 5\r\n\r\nbusy\n"
            );
            return stream.write_all(reply.as_bytes()).await.ok();
        }
        let request: Value = serde_json::from_slice(&body).unwrap();
        let method = request["method"].as_str().unwrap().to_owned();
        let cut = *self.cut.lock().unwrap();
        let cut = cut.filter(|(cut, _)| *cut == method);
        if let Some((_, false)) = cut {
            return None;
        }
        let upstream = self.upstream.lock().unwrap().clone();
        let gone = *self.gone.lock().unwrap();
        let gone = gone.filter(|first| {
            method == "sessionvm.GetMessages" && request["params"]["from"].as_u64() < Some(*first)
        });
        let chunk = request["params"].get("chunkId");
        let hides = method == "sessionvm.GetChunk" && self.hidden.lock().unwrap().as_ref() == chunk;
        let answered = match gone {
            _ if hides => Err(RpcError::Refused {
                code: -32_001,
                message: "not found".to_owned(),
                data: Value::Null,
            }),
            Some(first) => Err(RpcError::Refused {
                code: -32_015,
                message: "pruned".to_owned(),
                data: json!({ "first": first }),
            }),
            None => {
                let params = request["params"].clone();
                upstream.call::<Value>(&method, params).await
            }
        };
        let reply = match answered {
            Ok(mut result) => {
                if let Some(tamper) = self.tamper.lock().unwrap().as_mut() {
                    tamper(&method, &mut result);
                }
                json!({ "jsonrpc": "2.0", "id": 1, "result": result })
            }
            Err(RpcError::Refused {
                code,
                message,
                data,
            }) => json!({
                "jsonrpc": "2.0", "id": 1, "error": { "code": code, "message": message, "data": data },
            }),
            Err(_) => return None,
        };
        if cut.is_some() || self.mode.load(Ordering::SeqCst) != HONEST {
            return None;
        }
        let reply = reply.to_string();
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            reply.len()
        );
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(reply.as_bytes()).await.ok()
    }
}

/// The same identity once more, as after a restart.
pub(crate) fn same(identity: &Identity) -> Identity {
    Identity::from_phrase(&identity.recovery_phrase().unwrap()).unwrap()
}

pub(crate) async fn account(rpc: RpcClient, path: &Path) -> Account {
    Account::open(rpc, Identity::generate().unwrap(), path)
        .await
        .unwrap()
}

pub(crate) fn session_vm_options(data_dir: &Path) -> session_fixture::NodeOptions {
    session_fixture::NodeOptions {
        data_dir: Some(data_dir.to_owned()),
        ..session_fixture::NodeOptions::default()
    }
}

/// The directory's lock is free once the last reader of the old node is gone.
pub(crate) async fn restart(options: impl Fn() -> session_fixture::NodeOptions) -> ThrowawayNode {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match ThrowawayNode::start_with(options()).await {
            Ok(node) => return node,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    }
}
