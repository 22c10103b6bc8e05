//! HTTP that comes through the node.
//!
//! Plain requests come and go whole (`HandleSimple`). Upgrades are hijacked: the node hands over
//! the client's connection, which is served like one of our own, so that WebSockets work; the
//! call itself returns at once, because the node's router waits for it (no chain could be added
//! meanwhile). HTTP/2 comes as a stream with calls back for every piece.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request as HttpRequest, header};
use futures_util::StreamExt as _;
use session_core::limits::RPC_BODY_MAX;
use session_rpcchainvm::http::http_server::Http;
use session_rpcchainvm::http::responsewriter::writer_client::WriterClient;
use session_rpcchainvm::http::responsewriter::{Header, WriteHeaderRequest, WriteRequest};
use session_rpcchainvm::http::{
    Element, HandleSimpleHttpRequest, HandleSimpleHttpResponse, HttpRequest as Streamed,
    HttpResponse, Request as StreamedRequest,
};
use session_rpcchainvm::io::reader::reader_client::ReaderClient;
use session_rpcchainvm::io::reader::{ErrorCode, ReadRequest};
use session_rpcchainvm::net::conn::WriteRequest as ConnWriteRequest;
use session_rpcchainvm::net::conn::conn_client::ConnClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tower::ServiceExt as _;

use super::connect;
use super::start::Running;
use crate::host::paths::target;
use crate::rpc::{serve_connection, text};

/// Bytes between a hijacked connection and its server, each way.
const PIPE_BYTES: usize = 64 << 10;

/// Bytes asked of the node in one call.
const READ_BYTES: usize = 32 << 10;

/// Connections that are hijacked at once; more are refused.
const HIJACKED_MAX: usize = 1_024;

/// The RPC behind the node's HTTP server.
#[derive(Clone)]
pub(super) struct NodeHttp {
    router: Router,
    /// The RPC's own threads: reading may wait for the node's database, consensus must not.
    runtime: Handle,
    hijacked: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

impl NodeHttp {
    pub(super) fn new(router: Router, runtime: Handle, stop: watch::Receiver<bool>) -> Self {
        Self {
            router,
            runtime,
            hijacked: Arc::new(Semaphore::new(HIJACKED_MAX)),
            stop,
        }
    }

    /// Answers on the RPC's threads; a caller that goes away takes its work with it.
    async fn answer(&self, request: HttpRequest<Body>) -> Result<axum::response::Response, Status> {
        let router = self.router.clone();
        let answer = Cut(self.runtime.spawn(router.oneshot(request)));
        match answer.await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(never)) => match never {},
            Err(error) => {
                tracing::error!(%error, "answering a call broke off");
                Err(Status::internal("answering broke off"))
            }
        }
    }

    /// Takes the connection over from the node, and serves it beside this call.
    async fn hijack(&self, server: &str, request: StreamedRequest) -> Result<(), Status> {
        let head = request_head(&request)?;
        let Ok(permit) = self.hijacked.clone().try_acquire_owned() else {
            return Err(Status::resource_exhausted("too many connections"));
        };
        let taken = WriterClient::new(connect(server)?).hijack(()).await?;
        // The client's bytes are here from now on: the reader beside the response writer has the
        // request's body alone, and the node waits for its calls before it lets its router go.
        let channel = connect(&taken.into_inner().server_addr)?;
        let conn = ConnClient::new(channel.clone());
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        let (from_us, to_us) = tokio::io::split(ours);
        let (router, stop) = (self.router.clone(), self.stop.clone());
        self.runtime.spawn(async move {
            serve_connection(theirs, router, stop).await;
        });
        self.runtime
            .spawn(take_in(head, ReaderClient::new(channel), to_us));
        self.runtime.spawn(give_out(from_us, conn, permit));
        Ok(())
    }

    /// A request in pieces, and its answer in pieces.
    async fn stream(
        &self,
        server: &str,
        request: StreamedRequest,
        kept: Vec<Element>,
    ) -> Result<Vec<Element>, Status> {
        let channel = connect(server)?;
        let mut reader = ReaderClient::new(channel.clone());
        let mut body = Vec::new();
        while let Some(piece) = read(&mut reader).await? {
            body.extend_from_slice(&piece);
            // One byte more than allowed is enough for the limit to be told.
            if body.len() > RPC_BODY_MAX {
                break;
            }
        }
        let (method, target) = (request.method.as_str(), target_of(&request));
        let request = http_request(method, &target, &request.header, body.into())?;
        let response = self.answer(request).await?;
        let (parts, body) = response.into_parts();
        let headers = merged(kept, &parts.headers);
        let sent: Vec<Header> = headers
            .iter()
            .map(|Element { key, values }| Header {
                key: key.clone(),
                values: values.clone(),
            })
            .collect();
        let mut writer = WriterClient::new(channel);
        let status_code = i32::from(parts.status.as_u16());
        writer
            .write_header(WriteHeaderRequest {
                headers: sent.clone(),
                status_code,
            })
            .await?;
        let mut pieces = body.into_data_stream();
        while let Some(piece) = pieces.next().await {
            let payload = piece.map_err(|error| Status::internal(error.to_string()))?;
            // Headers replace what was there: the whole set goes with every piece.
            writer
                .write(WriteRequest {
                    headers: sent.clone(),
                    payload,
                })
                .await?;
            writer.flush(()).await?;
        }
        Ok(headers)
    }
}

/// [`NodeHttp`] once the chain has started.
pub(super) struct LateHttp(pub(super) Arc<OnceLock<Running>>);

impl LateHttp {
    fn get(&self) -> Result<&NodeHttp, Status> {
        let running = self.0.get();
        running
            .map(|running| &running.http)
            .ok_or(Status::unavailable("the chain has not started"))
    }
}

#[tonic::async_trait]
impl Http for LateHttp {
    async fn handle(&self, request: Request<Streamed>) -> Result<Response<HttpResponse>, Status> {
        self.get()?.handle(request).await
    }

    async fn handle_simple(
        &self,
        request: Request<HandleSimpleHttpRequest>,
    ) -> Result<Response<HandleSimpleHttpResponse>, Status> {
        self.get()?.handle_simple(request).await
    }
}

/// A task that ends when nobody waits for it any more.
struct Cut<T>(JoinHandle<T>);

impl<T> Future for Cut<T> {
    type Output = Result<T, tokio::task::JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

impl<T> Drop for Cut<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[tonic::async_trait]
impl Http for NodeHttp {
    async fn handle(&self, request: Request<Streamed>) -> Result<Response<HttpResponse>, Status> {
        let Streamed {
            response_writer,
            request,
        } = request.into_inner();
        let writer = response_writer.ok_or(Status::invalid_argument("no response writer"))?;
        let request = request.ok_or(Status::invalid_argument("no request"))?;
        let upgrade = request.proto_major < 2
            && request
                .header
                .iter()
                .any(|h| h.key.eq_ignore_ascii_case("upgrade"));
        let header = if upgrade {
            self.hijack(&writer.server_addr, request).await?;
            Vec::new()
        } else {
            self.stream(&writer.server_addr, request, writer.header)
                .await?
        };
        Ok(Response::new(HttpResponse { header }))
    }

    async fn handle_simple(
        &self,
        request: Request<HandleSimpleHttpRequest>,
    ) -> Result<Response<HandleSimpleHttpResponse>, Status> {
        let request = request.into_inner();
        let HandleSimpleHttpRequest {
            method,
            url,
            request_headers,
            body,
            response_headers,
        } = request;
        let too_large = body.len() > RPC_BODY_MAX;
        let response = if too_large {
            let message = format!("the body is larger than {RPC_BODY_MAX} bytes\n");
            text(axum::http::StatusCode::PAYLOAD_TOO_LARGE, message)
        } else {
            // Room is taken for what is announced, and for the most where nothing is.
            let length = HeaderValue::from(body.len());
            let mut request = http_request(&method, &url, &request_headers, body.into())?;
            request.headers_mut().insert(header::CONTENT_LENGTH, length);
            self.answer(request).await?
        };
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await;
        let body = body.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(HandleSimpleHttpResponse {
            code: i32::from(parts.status.as_u16()),
            headers: merged(response_headers, &parts.headers),
            body,
        }))
    }
}

fn target_of(request: &StreamedRequest) -> String {
    let url = request.url.clone().unwrap_or_default();
    let path = if url.raw_path.is_empty() {
        url.path
    } else {
        url.raw_path
    };
    let path = target(&path);
    if url.raw_query.is_empty() {
        path
    } else {
        format!("{path}?{}", url.raw_query)
    }
}

fn http_request(
    method: &str,
    url: &str,
    headers: &[Element],
    body: Body,
) -> Result<HttpRequest<Body>, Status> {
    let mut builder = HttpRequest::builder().method(method).uri(target(url));
    for Element { key, values } in headers {
        for value in values {
            // Headers that our own server would not have taken are not taken here.
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value))
            {
                builder = builder.header(name, value);
            }
        }
    }
    builder
        .body(body)
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// The request line and headers, for a server that reads them from a connection.
fn request_head(request: &StreamedRequest) -> Result<Vec<u8>, Status> {
    // Parsed and written again, so that nothing in them can end a line.
    let target = target_of(request);
    let parsed = http_request(&request.method, &target, &request.header, Body::empty())?;
    let mut head = format!("{} {} HTTP/1.1\r\n", parsed.method(), parsed.uri()).into_bytes();
    for (name, value) in parsed.headers() {
        if *name == header::HOST {
            continue;
        }
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    // The node has checked the one that it was sent.
    head.extend_from_slice(b"host: localhost\r\n\r\n");
    Ok(head)
}

/// Our headers over those that the node has set already: an answer replaces all of them.
fn merged(kept: Vec<Element>, ours: &HeaderMap) -> Vec<Element> {
    let mut out: Vec<Element> = kept;
    out.retain(|kept| {
        !ours
            .keys()
            .any(|name| kept.key.eq_ignore_ascii_case(name.as_str()))
    });
    for name in ours.keys() {
        let values = ours.get_all(name).iter();
        let values = values.filter_map(|value| Some(value.to_str().ok()?.to_owned()));
        out.push(Element {
            key: as_go_writes(name),
            values: values.collect(),
        });
    }
    out
}

/// `Content-Type` of `content-type`: the node's server looks for names in this form, does not find
/// others, and adds a type and a length of its own beside ours.
fn as_go_writes(name: &HeaderName) -> String {
    let mut begins = true;
    let letters = name.as_str().chars().map(|letter| {
        let written = match begins {
            true => letter.to_ascii_uppercase(),
            false => letter,
        };
        begins = letter == '-';
        written
    });
    letters.collect()
}

async fn read(reader: &mut ReaderClient<Channel>) -> Result<Option<prost::bytes::Bytes>, Status> {
    let length = i32::try_from(READ_BYTES).unwrap_or(i32::MAX);
    let answer = reader.read(ReadRequest { length }).await?.into_inner();
    match answer.error {
        Some(_) if !answer.read.is_empty() => Ok(Some(answer.read)),
        Some(error) if error.error_code == i32::from(ErrorCode::Eof) => Ok(None),
        Some(error) => Err(Status::unavailable(error.message)),
        None => Ok(Some(answer.read)),
    }
}

/// What the client sends, to our server.
async fn take_in(
    head: Vec<u8>,
    mut reader: ReaderClient<Channel>,
    mut to_us: WriteHalf<DuplexStream>,
) {
    let mut piece = Ok(Some(prost::bytes::Bytes::from(head)));
    while let Ok(Some(bytes)) = piece {
        if to_us.write_all(&bytes).await.is_err() {
            break;
        }
        piece = read(&mut reader).await;
    }
    let _closed_already = to_us.shutdown().await;
}

/// What our server sends, to the client.
async fn give_out(
    mut from_us: ReadHalf<DuplexStream>,
    mut conn: ConnClient<Channel>,
    _permit: OwnedSemaphorePermit,
) {
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(length @ 1..) = from_us.read(&mut buffer).await {
        let payload =
            prost::bytes::Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
        match conn.write(ConnWriteRequest { payload }).await {
            Ok(written) if written.get_ref().error.is_none() => {}
            Ok(_) | Err(_) => break,
        }
    }
    // The node ends that server before it has answered: there is nothing to be learnt from it.
    let _ends_in_an_error = conn.close(()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_headers_stay_unless_ours_replace_them() {
        let element = |key: &str, value: &str| Element {
            key: key.to_owned(),
            values: vec![value.to_owned()],
        };
        let mut ours = HeaderMap::new();
        ours.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        let out = merged(
            vec![element("Node-Id", "N"), element("Content-Type", "x")],
            &ours,
        );
        assert_eq!(
            out,
            [
                element("Node-Id", "N"),
                element("Content-Type", "text/plain")
            ]
        );
        for (ours, written) in [
            (header::WWW_AUTHENTICATE, "Www-Authenticate"),
            (HeaderName::from_static("x--a-1b"), "X--A-1b"),
        ] {
            assert_eq!(as_go_writes(&ours), written);
        }
    }

    #[test]
    fn a_head_cannot_be_split_by_what_is_in_it() {
        let element = |key: &str, value: &str| Element {
            key: key.to_owned(),
            values: vec![value.to_owned()],
        };
        let request = StreamedRequest {
            method: "GET".to_owned(),
            header: vec![
                element("Upgrade", "websocket"),
                element("Evil", "a\r\nAuthorization: b"),
                element("Host", "elsewhere"),
            ],
            ..StreamedRequest::default()
        };
        let head = String::from_utf8(request_head(&request).unwrap()).unwrap();
        assert_eq!(
            head,
            "GET / HTTP/1.1\r\nupgrade: websocket\r\nhost: localhost\r\n\r\n"
        );
        let evil = StreamedRequest {
            method: "GET / HTTP/1.1\r\nX: y".to_owned(),
            ..request
        };
        assert!(request_head(&evil).is_err());
    }
}
