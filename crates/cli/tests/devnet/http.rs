//! One HTTP connection to a node, of either version: what a client sends and sees, nothing hidden.

use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::{http1, http2};
use hyper::{HeaderMap, Method, Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

/// Long polls end at 8 s on a host.
const ANSWER: Duration = Duration::from_secs(25);

/// A connection; HTTP/2 carries several requests at once.
pub(crate) enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    /// Without TLS and without asking first: h2c by prior knowledge.
    Two(http2::SendRequest<Full<Bytes>>),
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// What the host itself puts on every answer is there, and nothing is said twice: a host that
    /// does not recognise our headers adds its own.
    pub(crate) fn has_one_of_each_header(&self) {
        for name in [
            "node-id",
            "access-control-allow-origin",
            "vary",
            "content-type",
        ] {
            assert!(self.headers.contains_key(name), "no {name}: {self:?}");
        }
        for name in self.headers.keys() {
            let values = self.headers.get_all(name).iter().count();
            assert_eq!(values, 1, "{name}: {self:?}");
        }
    }
}

/// `127.0.0.1:9650` and `/ext/bc/CHAIN`.
fn parts(url: &str) -> (&str, &str) {
    let rest = url.strip_prefix("http://").unwrap();
    rest.split_at(rest.find('/').unwrap())
}

impl Connection {
    /// To the node that serves a chain at `url`.
    pub(crate) async fn open(url: &str, version: Version) -> Self {
        let socket = tokio::net::TcpStream::connect(parts(url).0).await.unwrap();
        socket.set_nodelay(true).unwrap();
        let io = TokioIo::new(socket);
        if version == Version::HTTP_2 {
            let (send, driver) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(driver);
            Self::Two(send)
        } else {
            let (send, driver) = http1::handshake(io).await.unwrap();
            tokio::spawn(driver);
            Self::One(send)
        }
    }

    /// Sends a request below the chain's path.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        url: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Reply {
        let (host, chain) = parts(url);
        let two = matches!(self, Self::Two(_));
        let uri = match two {
            true => format!("http://{host}{chain}{path}"),
            false => format!("{chain}{path}"),
        };
        let mut request = Request::builder().method(method).uri(uri);
        if !two {
            request = request.header("host", host);
        }
        let request = request
            .header("content-type", "application/json")
            .header("origin", "http://elsewhere.example");
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = async {
            let response = match self {
                Self::One(send) => {
                    send.ready().await.unwrap();
                    send.send_request(request).await.unwrap()
                }
                Self::Two(send) => {
                    send.ready().await.unwrap();
                    send.send_request(request).await.unwrap()
                }
            };
            let (head, body) = response.into_parts();
            Reply {
                status: head.status.as_u16(),
                version: head.version,
                headers: head.headers,
                body: body.collect().await.unwrap().to_bytes(),
            }
        };
        let answer = tokio::time::timeout(ANSWER, answer).await;
        answer.unwrap_or_else(|_| panic!("no answer to {path} within {ANSWER:?}"))
    }

    /// Another user of the same connection.
    pub(crate) fn shared(&self) -> Self {
        match self {
            Self::Two(send) => Self::Two(send.clone()),
            Self::One(_) => panic!("HTTP/1.1 has one request at a time"),
        }
    }

    /// A call as JSON-RPC 2.0 has it.
    pub(crate) async fn call(&mut self, url: &str, method: &str, params: &Value) -> Reply {
        let method = format!("sessionvm.{method}");
        let body = json!({ "jsonrpc": "2.0", "id": "a", "method": method, "params": params });
        self.send(Method::POST, url, "/rpc", body.to_string()).await
    }

    /// A call as the published node has it.
    pub(crate) async fn published(&mut self, url: &str, method: &str, params: &Value) -> Reply {
        let method = format!("sessionvm.{method}");
        let body = json!({ "id": 7, "method": method, "params": [params] });
        self.send(Method::POST, url, "/rpc", body.to_string()).await
    }
}
