//! JSON-RPC 2.0 over HTTP, with one error type that tells what may be retried.

use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use session_core::submission::{Submitted, decode_reply, encode_request};

use crate::tls::{self, TlsError};

/// A reply larger than this is refused before it fills memory.
const REPLY_MAX: usize = 32 << 20;

/// Longest call: long polls end at 25 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// How long a call may wait at a node.
const WAIT_MS: u64 = 25_000;

/// The same where a host stands before it.
const WAIT_BELOW_PATH_MS: u64 = 10_000;

/// How often a busy node is asked.
const TRIES: u32 = 4;

/// Whoever is to wait longer than that is told instead.
const SOON_MS: u64 = 5_000;

/// Code of the node's `busy` error.
const BUSY: i32 = -32_010;

const JSON: &str = "application/json";

const OCTETS: &str = "application/octet-stream";

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// The address is not `http://host:port` or `https://host:port`, with a path or without.
    #[error(
        "{0} is not an address such as http://127.0.0.1:9652, https://node.example or \
         http://127.0.0.1:9650/ext/bc/CHAIN"
    )]
    Address(String),
    /// The certificates to trust cannot be read.
    #[error("certificates to trust: {0}")]
    Certificates(TlsError),
    /// The node does not answer.
    #[error("the node at {address} does not answer: {problem}")]
    Unreachable {
        /// Address.
        address: String,
        /// Why.
        problem: String,
    },
    /// HTTP said no.
    #[error("the node answered HTTP {status}: {body}")]
    Http {
        /// Status.
        status: u16,
        /// Beginning of the body.
        body: String,
    },
    /// It has too much to do, and said so each time that it was asked.
    #[error("the node is busy (HTTP {status}): try again in {} s", .retry_ms.div_ceil(1_000))]
    Busy {
        /// Status: 503, or 429 for this caller alone.
        status: u16,
        /// When to try again.
        retry_ms: u64,
    },
    /// The call was refused.
    #[error("{message}")]
    Refused {
        /// Code of the node's error table.
        code: i32,
        /// What happened.
        message: String,
        /// Facts.
        data: Value,
    },
    /// The reply is not what the method answers.
    #[error("the node's reply to {method} makes no sense: {problem}")]
    Reply {
        /// Method.
        method: String,
        /// Why.
        problem: String,
    },
}

impl RpcError {
    /// Whether the same call may succeed later.
    pub const fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Busy { .. } => true,
            // busy, limit, pending, storage full, unavailable
            Self::Refused { code, .. } => matches!(*code, -32_014..=-32_010),
            Self::Address(_) | Self::Certificates(_) | Self::Http { .. } | Self::Reply { .. } => {
                false
            }
        }
    }
}

impl RpcError {
    /// When a busy node asks to be called again, where that is soon.
    fn soon(&self) -> Option<Duration> {
        let retry_ms = match self {
            Self::Busy { retry_ms, .. } => *retry_ms,
            Self::Refused {
                code: BUSY, data, ..
            } => data.get("retryMs").and_then(Value::as_u64)?,
            Self::Address(_)
            | Self::Certificates(_)
            | Self::Unreachable { .. }
            | Self::Http { .. }
            | Self::Refused { .. }
            | Self::Reply { .. } => return None,
        };
        (retry_ms <= SOON_MS).then(|| Duration::from_millis(retry_ms))
    }
}

/// A connection pool to one node.
#[derive(Clone)]
pub struct RpcClient {
    http: HttpClient<HttpsConnector<HttpConnector>, Full<Bytes>>,
    address: String,
    token: Option<String>,
}

impl RpcClient {
    /// A client of the node at `http://host:port` or `https://host:port`; the latter is trusted
    /// by the certificate authorities of the web. A chain that a host serves has a path as well:
    /// `http://host:port/ext/bc/CHAIN`, and everything is asked below it. Nothing is sent yet.
    ///
    /// # Errors
    /// [`RpcError::Address`].
    pub fn new(address: &str, token: Option<String>) -> Result<Self, RpcError> {
        Self::with_roots(address, token, None)
    }

    /// The same, trusting only the certificates in `roots`, PEM: a node's own certificate, or
    /// that of an authority of one's own.
    ///
    /// # Errors
    /// [`RpcError::Address`], [`RpcError::Certificates`].
    pub fn with_roots(
        address: &str,
        token: Option<String>,
        roots: Option<&[u8]>,
    ) -> Result<Self, RpcError> {
        let tls = tls::config(roots).map_err(RpcError::Certificates)?;
        Self::with_tls(address, token, tls)
    }

    /// The same, trusting the one certificate with this SHA-256, whatever name it bears: for the
    /// operator's tools, which find it in the node's own directory.
    ///
    /// # Errors
    /// [`RpcError::Address`], [`RpcError::Certificates`].
    pub fn with_certificate(
        address: &str,
        token: Option<String>,
        sha256: [u8; 32],
    ) -> Result<Self, RpcError> {
        let tls = tls::pinned(sha256).map_err(RpcError::Certificates)?;
        Self::with_tls(address, token, tls)
    }

    fn with_tls(
        address: &str,
        token: Option<String>,
        tls: rustls::ClientConfig,
    ) -> Result<Self, RpcError> {
        let address = address.trim_end_matches('/').to_owned();
        check_address(&address)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        // The scheme decides, so the connector below takes both.
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = HttpClient::builder(TokioExecutor::new()).build(connector);
        Ok(Self {
            http,
            address,
            token,
        })
    }

    /// A client of another node that is trusted by the same certificates; the token stays here.
    ///
    /// # Errors
    /// [`RpcError::Address`].
    pub fn other(&self, address: &str) -> Result<Self, RpcError> {
        let address = address.trim_end_matches('/').to_owned();
        check_address(&address)?;
        Ok(Self {
            http: self.http.clone(),
            address,
            token: None,
        })
    }

    /// How long a call may wait at the node, in milliseconds: 25,000, and 10,000 below a path of
    /// a host, which cannot create a chain as long as any call is open.
    pub fn wait_ms_max(&self) -> u64 {
        let rest = self.address.split_once("://").map(|(_, rest)| rest);
        if rest.is_some_and(|rest| rest.contains('/')) {
            WAIT_BELOW_PATH_MS
        } else {
            WAIT_MS
        }
    }

    /// The node's address.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Calls a method and reads its result. A node that is busy is asked again a few times, when
    /// it says.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
    ) -> Result<T, RpcError> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let body = Bytes::from(body.to_string());
        patiently(|| self.call_once(method, body.clone())).await
    }

    async fn call_once<T: DeserializeOwned>(
        &self,
        method: &str,
        body: Bytes,
    ) -> Result<T, RpcError> {
        let reply = tokio::time::timeout(CALL_TIMEOUT, self.post("/rpc", JSON, body)).await;
        let bytes = reply.map_err(|_| self.unreachable("no answer in 40 s"))??;
        let problem = |problem: serde_json::Error| RpcError::Reply {
            method: method.to_owned(),
            problem: problem.to_string(),
        };
        let mut reply: Value = serde_json::from_slice(&bytes).map_err(problem)?;
        if let Some(error) = reply.get_mut("error").filter(|error| !error.is_null()) {
            let code = error
                .get("code")
                .and_then(Value::as_i64)
                .unwrap_or_default();
            return Err(RpcError::Refused {
                code: i32::try_from(code).unwrap_or_default(),
                message: error
                    .get("message")
                    .and_then(Value::as_str)
                    .unwrap_or("the node gave no reason")
                    .to_owned(),
                data: error.get_mut("data").map(Value::take).unwrap_or_default(),
            });
        }
        let result = reply.get_mut("result").map(Value::take).unwrap_or_default();
        serde_json::from_value(result).map_err(problem)
    }

    fn unreachable(&self, problem: impl ToString) -> RpcError {
        RpcError::Unreachable {
            address: self.address.clone(),
            problem: problem.to_string(),
        }
    }

    /// Posts JSON to another path of the node, for as long as it takes.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn post_json(&self, path: &str, body: &Value) -> Result<Value, RpcError> {
        let reply = self.post(path, JSON, body.to_string()).await?;
        serde_json::from_slice(&reply).map_err(|problem| RpcError::Reply {
            method: path.to_owned(),
            problem: problem.to_string(),
        })
    }

    /// Submits encoded transactions as bytes; the answers are in their order.
    ///
    /// # Errors
    /// [`RpcError`].
    pub async fn submit<T: AsRef<[u8]>>(&self, txs: &[T]) -> Result<Vec<Submitted>, RpcError> {
        let body = Bytes::from(encode_request(txs));
        let bytes = patiently(|| async {
            let reply = self.post("/submit", OCTETS, body.clone());
            let reply = tokio::time::timeout(CALL_TIMEOUT, reply).await;
            reply.map_err(|_| self.unreachable("no answer in 40 s"))?
        })
        .await?;
        let answers = decode_reply(&bytes).map_err(|problem| problem.to_string());
        let answers = answers.and_then(|answers| {
            let (got, sent) = (answers.len(), txs.len());
            let all = got == sent;
            all.then_some(answers)
                .ok_or_else(|| format!("{got} answers to {sent} transactions"))
        });
        answers.map_err(|problem| RpcError::Reply {
            method: "submit".to_owned(),
            problem,
        })
    }

    async fn post(
        &self,
        path: &str,
        kind: &'static str,
        body: impl Into<Bytes>,
    ) -> Result<Bytes, RpcError> {
        let mut request =
            Request::post(format!("{}{path}", self.address)).header(header::CONTENT_TYPE, kind);
        if let Some(token) = &self.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request
            .body(Full::new(body.into()))
            .map_err(|_| RpcError::Address(self.address.clone()))?;
        let response = self
            .http
            .request(request)
            .await
            .map_err(|error| self.unreachable(root_of(&error)))?;
        let status = response.status();
        let retry_ms = retry_ms(response.headers());
        let body = Limited::new(response.into_body(), REPLY_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| self.unreachable(error))?.to_bytes();
        if let StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS = status {
            let status = status.as_u16();
            return Err(RpcError::Busy { status, retry_ms });
        }
        if status != StatusCode::OK {
            let body: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(RpcError::Http {
                status: status.as_u16(),
                body: body.trim().to_owned(),
            });
        }
        Ok(body)
    }
}

/// Whether it is a scheme, a host and perhaps a path, and nothing else: what is asked is appended.
fn check_address(address: &str) -> Result<(), RpcError> {
    let wrong = || RpcError::Address(address.to_owned());
    let uri: hyper::Uri = address.parse().map_err(|_| wrong())?;
    let known = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    if !known || uri.query().is_some() || address.contains('#') {
        return Err(wrong());
    }
    Ok(())
}

/// Asks again when a busy node says, a few times. What it refused as busy has had no effect, and
/// where only a large reply was lost to it, the call had read and changed nothing.
async fn patiently<T, F: Future<Output = Result<T, RpcError>>>(
    ask: impl Fn() -> F,
) -> Result<T, RpcError> {
    let mut tries = 1;
    loop {
        let answered = ask().await;
        let wait = answered.as_ref().err().and_then(RpcError::soon);
        match wait.filter(|_| tries < TRIES) {
            Some(wait) => tokio::time::sleep(wait).await,
            None => return answered,
        }
        tries += 1;
    }
}

/// When a reply says to try again; a second where it does not.
fn retry_ms(headers: &header::HeaderMap) -> u64 {
    let after = headers.get(header::RETRY_AFTER);
    let seconds = after.and_then(|after| after.to_str().ok()?.parse::<u64>().ok());
    seconds.unwrap_or(1).saturating_mul(1_000)
}

/// The innermost reason, which is the one that helps.
fn root_of(error: &dyn std::error::Error) -> String {
    let mut at = error;
    while let Some(source) = at.source() {
        at = source;
    }
    at.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_have_a_path_and_nothing_after_it() {
        let client = |address| RpcClient::new(address, None);
        let own = client("http://127.0.0.1:9652/").unwrap();
        assert_eq!(own.address(), "http://127.0.0.1:9652");
        assert_eq!(own.wait_ms_max(), 25_000);
        let chain = own.other("http://[::1]:9650/ext/bc/X/").unwrap();
        assert_eq!(chain.address(), "http://[::1]:9650/ext/bc/X");
        assert_eq!(chain.wait_ms_max(), 10_000);
        for wrong in [
            "127.0.0.1:9652",
            "ftp://host",
            "http://host/ext?x=1",
            "http://host/ext#x",
            "http:///ext",
        ] {
            assert!(
                matches!(client(wrong), Err(RpcError::Address(_))),
                "{wrong}"
            );
            assert!(own.other(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn everything_is_asked_below_the_path_of_a_chain() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/ext/bc/X", listener.local_addr().unwrap());
        let host = tokio::spawn(async move {
            let mut lines = Vec::new();
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut bytes = vec![0; 4_096];
                let read = stream.read(&mut bytes).await.unwrap();
                let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                lines.push(text.lines().next().unwrap_or_default().to_owned());
                let no = "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(no.as_bytes()).await.unwrap();
            }
            lines
        });
        let rpc = RpcClient::new(&address, None).unwrap();
        let not_found = |error: RpcError| matches!(error, RpcError::Http { status: 404, .. });
        assert!(not_found(
            rpc.call::<Value>("sessionvm.GetHead", json!({}))
                .await
                .unwrap_err()
        ));
        assert!(not_found(rpc.submit(&[b"tx"]).await.unwrap_err()));
        assert!(not_found(
            rpc.post_json("/health", &json!({})).await.unwrap_err()
        ));
        let paths = ["rpc", "submit", "health"];
        let expected = paths.map(|path| format!("POST /ext/bc/X/{path} HTTP/1.1"));
        assert_eq!(host.await.unwrap(), expected);
    }
}
