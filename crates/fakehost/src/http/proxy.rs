//! The node's listener: routes of one chain, plain requests and upgrades.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use session_rpcchainvm::http::{HttpRequest, Request, ResponseWriter, Url};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use super::parse::{Head, Incoming};
use super::writer::ResponseServer;
use super::{Handler, PATIENCE, Reply, node_headers};

struct Routes {
    /// Requests that keep the node's router locked.
    open: AtomicUsize,
    /// Whether every request counts as one of HTTP/2, which comes and goes in pieces.
    streams: bool,
    chain: String,
    by_path: Vec<(String, Handler)>,
    by_header: Option<Handler>,
}

impl Routes {
    fn find(&self, head: &Head) -> Option<&Handler> {
        if let Some(chain) = head.header("Avalanche-Api-Route") {
            return self.by_header.as_ref().filter(|_| chain == self.chain);
        }
        let by_path = self.by_path.iter();
        let mut found = by_path.filter(|(path, _)| path == head.path());
        found.next().map(|(_, handler)| handler)
    }
}

/// A listener in front of one plugin's handlers. Gone when dropped.
pub struct Proxy {
    address: SocketAddr,
    routes: Arc<Routes>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens for `/ext/bc/<chain><prefix>`, exactly, and for the header route.
    pub async fn start(
        chain: &str,
        handlers: Vec<(String, Handler)>,
        by_header: Option<Handler>,
    ) -> Self {
        Self::start_with(chain, handlers, by_header, false).await
    }

    /// The same, handing every request on as one of HTTP/2, in whatever it came.
    pub async fn streaming(chain: &str, handlers: Vec<(String, Handler)>) -> Self {
        Self::start_with(chain, handlers, None, true).await
    }

    async fn start_with(
        chain: &str,
        handlers: Vec<(String, Handler)>,
        by_header: Option<Handler>,
        streams: bool,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let by_path = handlers.into_iter();
        let by_path = by_path.map(|(prefix, h)| (format!("/ext/bc/{chain}{prefix}"), h));
        let routes = Arc::new(Routes {
            open: AtomicUsize::new(0),
            streams,
            chain: chain.to_owned(),
            by_path: by_path.collect(),
            by_header,
        });
        let served = routes.clone();
        let task = tokio::spawn(async move {
            while let Ok((socket, peer)) = listener.accept().await {
                tokio::spawn(connection(socket, peer, served.clone()));
            }
        });
        Self {
            address,
            routes,
            task,
        }
    }

    /// Requests that are under way: as long as there is one, a node can add no chain.
    pub fn open(&self) -> usize {
        self.routes.open.load(Ordering::SeqCst)
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn connection(socket: TcpStream, peer: SocketAddr, routes: Arc<Routes>) {
    let _slower = socket.set_nodelay(true);
    let (socket, mut out) = socket.into_split();
    let buffered = Vec::new();
    let mut incoming = Incoming { socket, buffered };
    while let Some(head) = incoming.head().await {
        let closes = head
            .header("Connection")
            .is_some_and(|c| c.eq_ignore_ascii_case("close"));
        let Some(handler) = routes.find(&head) else {
            let reply = error(404, "404 page not found\n");
            // What an unknown path's body would be is read as the next request: it ends there.
            if answer(&mut out, &reply).await.is_err() || closes {
                return;
            }
            continue;
        };
        let _open = Open::new(&routes);
        if routes.streams || head.header("Upgrade").is_some() {
            let major = if routes.streams { 2 } else { 1 };
            return streamed(handler, request(&head, peer, major), incoming, out).await;
        }
        let Some(body) = incoming.exactly(head.content_length()).await else {
            return;
        };
        let call = handler.hand_on(
            &head.method,
            &head.target,
            head.headers.clone(),
            body.into(),
        );
        let reply = tokio::select! {
            reply = call => reply,
            // A client that goes away takes the plugin's work with it.
            () = gone(&mut incoming) => return,
        };
        let reply = reply.unwrap_or_else(|status| error(500, &status.to_string()));
        if answer(&mut out, &reply).await.is_err() || closes {
            return;
        }
    }
}

/// A request that is under way.
struct Open(Arc<Routes>);

impl Open {
    fn new(routes: &Arc<Routes>) -> Self {
        routes.open.fetch_add(1, Ordering::SeqCst);
        Self(routes.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn gone(incoming: &mut Incoming) {
    let mut one = [0];
    match incoming.socket.peek(&mut one).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

fn error(code: u16, text: &str) -> Reply {
    Reply {
        code,
        headers: vec![(
            "Content-Type".to_owned(),
            vec!["text/plain; charset=utf-8".to_owned()],
        )],
        body: text.as_bytes().to_vec().into(),
    }
}

async fn answer(out: &mut OwnedWriteHalf, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\n", reply.code);
    for (key, values) in &reply.headers {
        for value in values {
            head.push_str(&format!("{key}: {value}\r\n"));
        }
    }
    if reply.header("Content-Length").is_none() {
        head.push_str(&format!("Content-Length: {}\r\n", reply.body.len()));
    }
    head.push_str("\r\n");
    out.write_all(head.as_bytes()).await?;
    out.write_all(&reply.body).await
}

/// An upgrade: the plugin answers by calling back. The connection ends with the answer, or goes
/// to whoever hijacked it.
async fn streamed(handler: &Handler, request: Request, incoming: Incoming, out: OwnedWriteHalf) {
    let incoming = Arc::new(Mutex::new(incoming));
    let out = Arc::new(Mutex::new(Some(out)));
    let server = ResponseServer::start(incoming, out.clone(), &request).await;
    let request = HttpRequest {
        response_writer: Some(ResponseWriter {
            header: node_headers(),
            server_addr: server.address().to_string(),
        }),
        request: Some(request),
    };
    let mut client = handler.client();
    let handled = tokio::time::timeout(PATIENCE, client.handle(request)).await;
    // None is left when the connection was hijacked.
    let out = out.lock().await.take();
    if let Some(mut out) = out {
        let _gone = match handled {
            Ok(Ok(_)) => server.finish(&mut out).await,
            Ok(Err(status)) => answer(&mut out, &error(500, &status.to_string())).await,
            Err(_) => Ok(()),
        };
    }
    server.end().await;
}

fn request(head: &Head, peer: SocketAddr, major: i32) -> Request {
    Request {
        method: head.method.clone(),
        url: Some(Url {
            path: head.path().to_owned(),
            raw_query: head.query().to_owned(),
            ..Url::default()
        }),
        proto: if major == 2 { "HTTP/2.0" } else { "HTTP/1.1" }.to_owned(),
        proto_major: major,
        proto_minor: i32::from(major == 1),
        header: head.headers.clone(),
        content_length: i64::try_from(head.content_length()).unwrap_or(-1),
        host: head.host.clone(),
        remote_addr: peer.to_string(),
        request_uri: head.target.clone(),
        ..Request::default()
    }
}
