//! The node's HTTP side: plain requests as `HandleSimple`, and a [`Proxy`] with a real listener.
//!
//! ```text
//! client ── HTTP/1.1 ──▶ Proxy ──┬─ no Upgrade ─▶ http.HTTP/HandleSimple
//!                                └─ Upgrade ────▶ http.HTTP/Handle ◀── responsewriter, io.reader
//!                                                     └ Hijack ◀────── net.conn, io.reader
//! ```

mod hijack;
mod parse;
mod plain;
mod proxy;
mod writer;

use std::time::Duration;

use prost::bytes::Bytes;
use session_rpcchainvm::http::http_client::HttpClient;
use session_rpcchainvm::http::{Element, HandleSimpleHttpRequest};
use tonic::Status;
use tonic::transport::Channel;

use crate::serve::dial;

pub use proxy::Proxy;

/// Longest wait for any answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status code.
    pub code: u16,
    /// Headers, in order.
    pub headers: Vec<(String, Vec<String>)>,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter();
        let mut found = found.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.find_map(|(_, values)| values.first().map(String::as_str))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:.300?}", self.text()))
    }
}

/// What the node has already set when it asks the plugin.
pub fn node_headers() -> Vec<Element> {
    let set = |key: &str, value: &str| Element {
        key: key.to_owned(),
        values: vec![value.to_owned()],
    };
    vec![
        set("Access-Control-Allow-Credentials", "true"),
        set("Access-Control-Allow-Origin", "*"),
        set("Node-Id", "NodeID-7Xhw2mDxuDS44j42TCB6U5579esbSt3Lg"),
        set("Vary", "Origin"),
    ]
}

/// What a plugin serves behind one prefix.
#[derive(Debug, Clone)]
pub struct Handler {
    way: Way,
}

/// How requests are handed on to it.
#[derive(Debug, Clone)]
enum Way {
    /// As calls of `http.HTTP`.
    Grpc(HttpClient<Channel>),
    /// As they are, by a reverse proxy.
    Plain(String),
}

impl Handler {
    /// The one at this address.
    pub fn new(address: &str) -> Self {
        let client = HttpClient::new(dial(address))
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Self {
            way: Way::Grpc(client),
        }
    }

    /// A plain HTTP server at this address, which gets requests with their whole path.
    pub fn plain(address: &str) -> Self {
        Self {
            way: Way::Plain(address.to_owned()),
        }
    }

    pub(crate) fn client(&self) -> HttpClient<Channel> {
        match &self.way {
            Way::Grpc(client) => client.clone(),
            Way::Plain(address) => panic!("plain HTTP at {address}"),
        }
    }

    /// One plain request, as the node hands it on.
    ///
    /// # Errors
    /// The plugin's gRPC error, which a node turns into a 500.
    pub async fn simple(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Reply, Status> {
        let body = body.into();
        if let Way::Plain(address) = &self.way {
            let request = plain::request(address, method, url, headers, &body);
            let answer = tokio::time::timeout(PATIENCE, request).await;
            let late = || Status::deadline_exceeded("no answer in a minute");
            let broken = |error: std::io::Error| Status::unavailable(error.to_string());
            return answer.map_err(|_| late())?.map_err(broken);
        }
        let headers = headers.iter().map(|(key, value)| Element {
            key: (*key).to_owned(),
            values: vec![(*value).to_owned()],
        });
        self.hand_on(method, url, headers.collect(), body).await
    }

    async fn hand_on(
        &self,
        method: &str,
        url: &str,
        request_headers: Vec<Element>,
        body: Bytes,
    ) -> Result<Reply, Status> {
        let request = HandleSimpleHttpRequest {
            method: method.to_owned(),
            url: url.to_owned(),
            request_headers,
            body,
            response_headers: node_headers(),
        };
        let mut client = self.client();
        let answer = tokio::time::timeout(PATIENCE, client.handle_simple(request)).await;
        let answer = answer.map_err(|_| Status::deadline_exceeded("no answer in a minute"))??;
        let answer = answer.into_inner();
        let headers = answer.headers.into_iter();
        Ok(Reply {
            code: u16::try_from(answer.code).unwrap_or_default(),
            headers: headers.map(|e| (e.key, e.values)).collect(),
            body: answer.body,
        })
    }
}
