//! The HTTP server: limits on connections, bodies and time, TLS, Host check, token.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Request, State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get};
use axum::{Extension, Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use serde_json::json;
use session_core::hash::sha256;
use session_core::limits::RPC_BODY_MAX;
use session_core::parameters::Rate;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::ServiceExt as _;

use super::dialect::{answer, text};
use super::method::Context;
use super::openrpc::document;
use super::read::health_json;
use super::room::{Held, Room};
use super::stream::{Patience, TakenStream};
use super::subscribe;
use super::tls::Tls;
use super::write::submit_bytes;
use crate::rates::Rates;

/// A TLS handshake must be over within this time.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// First byte of a TLS handshake record (RFC 8446 §5.1).
const TLS_HANDSHAKE: u8 = 22;

/// What somebody gets who speaks plain HTTP to a port of TLS.
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\
Content-Type: text/plain; charset=utf-8\r\nContent-Length: 31\r\n\r\n\
this port speaks https:// only\n";

/// A head of a request must arrive within this time, and so must each next one on a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A body must arrive within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Content type of binary batches and of their answers.
const OCTETS: &str = "application/octet-stream";

/// How long a large request waits for others to make room.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);

/// How long open calls may go on when the server stops.
const DRAIN: Duration = Duration::from_secs(2);

/// How a server is set up.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Where to listen.
    pub address: SocketAddr,
    /// Connections at once; more are closed unanswered.
    pub connections_max: usize,
    /// Bearer token that every call must carry.
    pub token: Option<String>,
    /// Origins that browsers may call from; none by default.
    pub cors_origins: Vec<String>,
    /// Names beside the address itself that a `Host` header may have.
    pub hosts: Vec<String>,
    /// Requests of one address, a second and at once; a batch is one request.
    pub address_rate: Rate,
    /// Token of the operator's own calls; none switches them off.
    pub admin_token: Option<String>,
    /// Certificate and key; none serves plain HTTP.
    pub tls: Option<Arc<Tls>>,
    /// How slowly a caller may take what it is sent.
    pub patience: Patience,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 9_652)),
            connections_max: 1_024,
            token: None,
            cors_origins: Vec::new(),
            hosts: Vec::new(),
            address_rate: Rate::UNLIMITED,
            admin_token: None,
            tls: None,
            patience: Patience::default(),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken or not ours.
    #[error("listening on {address}: {error}")]
    Listen {
        /// Address.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

#[derive(Clone)]
struct Shared {
    context: Context,
    options: Arc<ServerOptions>,
    rates: Arc<Rates<IpAddr>>,
    room: Room,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy)]
struct Peer(IpAddr);

/// A listening server.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    context: Context,
    options: Arc<ServerOptions>,
    /// Makes a path of ours of what a host's server got.
    target: Option<Target>,
}

type Target = fn(&str) -> String;

impl Server {
    /// Binds the address.
    ///
    /// # Errors
    /// [`ServerError::Listen`].
    pub async fn bind(context: Context, options: ServerOptions) -> Result<Self, ServerError> {
        let wanted = options.address;
        let failed = |error| ServerError::Listen {
            address: wanted,
            error,
        };
        let listener = TcpListener::bind(wanted).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            listener,
            address,
            context,
            options: Arc::new(options),
            target: None,
        })
    }

    /// Serves what a host's own HTTP server hands on: with the path that it got, and after it has
    /// looked at the `Host` header.
    pub(crate) fn behind(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop` says so.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let metrics = self.context.node.metrics().clone();
        let (tls, patience) = (self.options.tls.clone(), self.options.patience);
        let free = Arc::new(Semaphore::new(self.options.connections_max));
        let rates = Arc::new(Rates::new(self.options.address_rate));
        let shared = Shared {
            context: self.context,
            options: self.options,
            rates,
            room: Room::new(),
        };
        let app = router(shared);
        let app = match self.target {
            Some(target) => behind(app, target),
            None => app,
        };
        let mut open = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = stop.changed() => break,
            };
            while open.try_join_next().is_some() {}
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors: wait for some to come back.
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Ok(permit) = free.clone().try_acquire_owned() else {
                metrics.connections_refused.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            // Small replies leave at once.
            let _best_effort = stream.set_nodelay(true);
            metrics.connections.fetch_add(1, Ordering::Relaxed);
            let app = app.clone().layer(Extension(Peer(peer.ip())));
            let (stop, metrics, tls) = (stop.clone(), metrics.clone(), tls.clone());
            open.spawn(async move {
                match tls {
                    Some(tls) => serve_tls(stream, &tls, patience, app, stop).await,
                    None => serve_connection(TakenStream::new(stream, patience), app, stop).await,
                }
                drop(permit);
                metrics.connections.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let drained = async { while open.join_next().await.is_some() {} };
        let _cut = tokio::time::timeout(DRAIN, drained).await;
    }
}

/// A handshake, then the connection. Both count as one connection, and a slow handshake ends.
async fn serve_tls(
    stream: TcpStream,
    tls: &Tls,
    patience: Patience,
    app: Router,
    mut stop: watch::Receiver<bool>,
) {
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
        let mut first = [0];
        if stream.peek(&mut first).await? != 0 && first != [TLS_HANDSHAKE] {
            let mut stream = stream;
            stream.write_all(SPEAK_TLS).await?;
            stream.shutdown().await?;
            // A close with unread bytes resets the connection, and the answer is lost with it.
            let _rest = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await?;
            return Err(std::io::Error::other("plain HTTP on a port of TLS"));
        }
        tls.acceptor()
            .accept(TakenStream::new(stream, patience))
            .await
    });
    let accepted = tokio::select! {
        accepted = handshake => accepted,
        _ = stop.changed() => return,
    };
    match accepted {
        Ok(Ok(stream)) => serve_connection(stream, app, stop).await,
        Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Serves HTTP/1.1 on a connection until it ends, upgrades included.
pub(crate) async fn serve_connection(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    app: Router,
    mut stop: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(app);
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(64 * 1024)
        .keep_alive(true);
    let connection = builder
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended");
    }
}

/// The same calls for requests that a host's own HTTP server hands on.
pub(crate) fn host_router(context: Context, options: ServerOptions) -> Router {
    router(Shared {
        context,
        rates: Arc::new(Rates::new(options.address_rate)),
        options: Arc::new(options),
        room: Room::new(),
    })
}

/// The same paths wherever a host has put them.
fn behind(app: Router, target: Target) -> Router {
    Router::new().fallback_service(app.map_request(move |mut request: Request| {
        let sent = request.uri().path_and_query();
        let ours = target(sent.map_or("/", |sent| sent.as_str()));
        if let Ok(uri) = ours.parse() {
            *request.uri_mut() = uri;
        }
        let host = HeaderValue::from_static("localhost");
        request.headers_mut().insert(header::HOST, host);
        request
    }))
}

fn router(shared: Shared) -> Router {
    Router::new()
        .route("/rpc", any(rpc))
        .route("/submit", axum::routing::post(submit))
        .route("/ws", get(websocket))
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/admin/backup", axum::routing::post(backup))
        .route("/openrpc.json", get(|| async { Json(document()) }))
        .fallback(|| async { text(StatusCode::NOT_FOUND, "404 page not found\n") })
        .layer(from_fn_with_state(shared.clone(), guard))
        .layer(DefaultBodyLimit::max(RPC_BODY_MAX))
        .with_state(shared)
}

/// Host, token and CORS.
async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    // The operator's own calls have a token of their own, which no page of a browser knows; and
    // they call the address, whatever name the node has for others.
    let admin = request.uri().path().starts_with("/admin/");
    if !admin && !host_allowed(&shared.options, headers) {
        let message = "the Host header names another server: refused (DNS rebinding)\n";
        return text(StatusCode::FORBIDDEN, message);
    }
    if let Some(Peer(address)) = request.extensions().get::<Peer>()
        && let Err(retry_ms) = shared.rates.take(*address, shared.context.node.now())
    {
        let message = format!("too many requests: try again in {retry_ms} ms\n");
        let mut response = text(StatusCode::TOO_MANY_REQUESTS, message);
        let seconds = HeaderValue::from(retry_ms.div_ceil(1_000));
        response.headers_mut().insert(header::RETRY_AFTER, seconds);
        return response;
    }
    if let Some(token) = &shared.options.token
        && !admin
        && !token_given(headers, token)
    {
        return text(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
    }
    let origin = headers.get(header::ORIGIN).cloned();
    let allowed = origin.filter(|origin| {
        shared
            .options
            .cors_origins
            .iter()
            .any(|allowed| allowed.as_bytes() == origin.as_bytes())
    });
    let preflight = request.method() == axum::http::Method::OPTIONS && allowed.is_some();
    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    if let Some(origin) = allowed {
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let allow = header::HeaderValue::from_static("authorization, content-type");
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allow);
        headers.insert(header::VARY, header::HeaderValue::from_static("origin"));
    }
    response
}

/// On a loopback address only names of this machine; elsewhere the operator's list, if any.
fn host_allowed(options: &ServerOptions, headers: &HeaderMap) -> bool {
    if !options.address.ip().is_loopback() && options.hosts.is_empty() {
        return true;
    }
    let Some(host) = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
    else {
        // HTTP/1.0 without a Host: no browser does that.
        return true;
    };
    let name = host.rsplit_once(':').map_or(host, |(name, port)| {
        if port.bytes().all(|b| b.is_ascii_digit()) {
            name
        } else {
            host
        }
    });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    let local = name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback());
    local
        || options
            .hosts
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(name))
}

/// Compares hashes, so that the time tells nothing about the token.
fn token_given(headers: &HeaderMap, token: &str) -> bool {
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let given = given
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default();
    sha256(given.as_bytes()) == sha256(token.as_bytes())
}

async fn rpc(State(shared): State<Shared>, request: Request) -> Response {
    let method = request.method().clone();
    let content_type = request.headers().get(header::CONTENT_TYPE).cloned();
    match read_body(&shared, request).await {
        Ok((body, held)) => {
            let reply = answer(&shared.context, &method, content_type.as_ref(), &body).await;
            drop((body, held));
            roomy(&shared.room, reply).await
        }
        Err(refused) => refused,
    }
}

/// A batch of transactions as bytes.
async fn submit(State(shared): State<Shared>, request: Request) -> Response {
    let given = request.headers().get(header::CONTENT_TYPE);
    if given.is_none_or(|kind| kind.as_bytes() != OCTETS.as_bytes()) {
        // What a page of a browser may send without asking is never that.
        let message = "the content type is application/octet-stream\n";
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, message);
    }
    let (body, held) = match read_body(&shared, request).await {
        Ok(read) => read,
        Err(refused) => return refused,
    };
    let metrics = shared.context.node.metrics();
    metrics.calls.fetch_add(1, Ordering::Relaxed);
    let answered = submit_bytes(&shared.context, &body).await;
    drop((body, held));
    match answered {
        // Answers are smaller than what they answer.
        Ok(reply) => ([(header::CONTENT_TYPE, OCTETS)], reply).into_response(),
        Err(error) => {
            metrics.call_errors.fetch_add(1, Ordering::Relaxed);
            let message = format!("{}\n", error.full_message());
            text(StatusCode::BAD_REQUEST, message)
        }
    }
}

/// A request's body, with room for it and for what is decoded from it.
async fn read_body(shared: &Shared, request: Request) -> Result<(Bytes, Held), Response> {
    let wanted = 2 * announced(request.headers());
    let Ok(held) = tokio::time::timeout(ROOM_TIMEOUT, shared.room.take(wanted)).await else {
        return Err(busy("too many large requests at once: try again\n"));
    };
    match tokio::time::timeout(BODY_TIMEOUT, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => Ok((body, held)),
        Ok(Err(rejection)) => {
            let limit = format!("the body is larger than {RPC_BODY_MAX} bytes, or broke off\n");
            Err(text(rejection.into_response().status(), limit))
        }
        Err(_) => Err(text(
            StatusCode::REQUEST_TIMEOUT,
            "the body did not arrive in time\n",
        )),
    }
}

/// Bytes that a request announces; without a length as many as it may have.
fn announced(headers: &HeaderMap) -> usize {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    length.unwrap_or(RPC_BODY_MAX).min(RPC_BODY_MAX)
}

/// A large reply takes room until its reader has it. Where there is none it is dropped at once:
/// waiting with it would be what the room is to prevent.
async fn roomy(room: &Room, reply: Response) -> Response {
    let (head, body) = reply.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, usize::MAX).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match room.try_take(bytes.len()) {
        Some(held) => Response::from_parts(head, Body::from(held.with(bytes))),
        None => busy("too many large replies at once: ask for less, or try again\n"),
    }
}

fn busy(message: &'static str) -> Response {
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, message);
    let second = HeaderValue::from_static("1");
    response.headers_mut().insert(header::RETRY_AFTER, second);
    response
}

async fn websocket(State(shared): State<Shared>, upgrade: WebSocketUpgrade) -> Response {
    upgrade
        .max_message_size(64 * 1024)
        .on_upgrade(move |socket| subscribe::serve(shared.context, shared.room, socket))
}

async fn health(State(shared): State<Shared>) -> Response {
    let data = health_json(&shared.context);
    let healthy = data.get("healthy") == Some(&json!(true));
    let (status, word) = if healthy {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "failing")
    };
    let counted = |name| data.get(name).cloned().unwrap_or_default();
    // The published order and keys, though as JSON, which the published node misses.
    let body = format!(
        r#"{{"status":"{word}","data":{{"channels":{},"healthy":{healthy},"sessions":{}}}}}"#,
        counted("channels"),
        counted("sessions"),
    );
    (status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

async fn ready(State(shared): State<Shared>) -> Response {
    let ready = matches!(shared.context.node.health(), session_storage::Health::Ready);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({ "ready": ready }))).into_response()
}

async fn metrics(State(shared): State<Shared>) -> Response {
    let body = shared.context.node.metrics().render();
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, Body::from(body)).into_response()
}

#[derive(serde::Deserialize)]
struct BackupRequest {
    file: std::path::PathBuf,
}

/// Copies the store to a file of this machine while the node runs.
async fn backup(
    State(shared): State<Shared>,
    headers: HeaderMap,
    Json(request): Json<BackupRequest>,
) -> Response {
    let allowed = shared
        .options
        .admin_token
        .as_ref()
        .is_some_and(|t| token_given(&headers, t));
    if !allowed {
        return text(StatusCode::UNAUTHORIZED, "the operator's token is needed\n");
    }
    let node = shared.context.node.clone();
    let copied = tokio::task::spawn_blocking(move || node.backup(&request.file)).await;
    match copied {
        Ok(Ok(copied)) => {
            Json(json!({ "entries": copied.entries, "bytes": copied.bytes })).into_response()
        }
        Ok(Err(error)) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the backup broke off\n"),
    }
}
