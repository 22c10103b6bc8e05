//! The fake node's own parts, each against a client of a few lines.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use session_fakehost::database::{Database, Fault};
use session_fakehost::http::{Handler, Proxy};
use session_fakehost::serve::{Served, dial};
use session_rpcchainvm::http::http_server::{Http, HttpServer};
use session_rpcchainvm::http::responsewriter::writer_client::WriterClient;
use session_rpcchainvm::http::responsewriter::{Header, WriteHeaderRequest, WriteRequest};
use session_rpcchainvm::http::{
    HandleSimpleHttpRequest, HandleSimpleHttpResponse, HttpRequest, HttpResponse,
};
use session_rpcchainvm::io::reader::ReadRequest;
use session_rpcchainvm::io::reader::reader_client::ReaderClient;
use session_rpcchainvm::net::conn;
use session_rpcchainvm::net::conn::conn_client::ConnClient;
use session_rpcchainvm::rpcdb::database_client::DatabaseClient;
use session_rpcchainvm::rpcdb::{
    DeleteRequest, GetRequest, IteratorErrorRequest, IteratorNextRequest,
    NewIteratorWithStartAndPrefixRequest, PutRequest, WriteBatchRequest,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::Message;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};

type Client = DatabaseClient<Channel>;

async fn client(database: &Database) -> (Client, Served) {
    let served = database.serve().await;
    (
        DatabaseClient::new(dial(&served.address().to_string())),
        served,
    )
}

fn pair(key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> PutRequest {
    PutRequest {
        key: key.as_ref().to_vec().into(),
        value: value.as_ref().to_vec().into(),
    }
}

async fn all(client: &mut Client, start: &str, prefix: &str) -> (Vec<String>, usize, i32) {
    let (start, prefix) = (start.to_owned().into(), prefix.to_owned().into());
    let request = NewIteratorWithStartAndPrefixRequest { start, prefix };
    let id = client.new_iterator_with_start_and_prefix(request).await;
    let id = id.unwrap().into_inner().id;
    let (mut keys, mut answers) = (Vec::new(), 0);
    loop {
        let next = client.iterator_next(IteratorNextRequest { id }).await;
        let data = next.unwrap().into_inner().data;
        answers += 1;
        if data.is_empty() {
            break;
        }
        keys.extend(
            data.iter()
                .map(|p| String::from_utf8_lossy(&p.key).into_owned()),
        );
    }
    let error = client.iterator_error(IteratorErrorRequest { id }).await;
    (keys, answers, error.unwrap().into_inner().err)
}

#[tokio::test]
async fn the_database_is_an_ordered_map_with_iterators_in_pieces() {
    let database = Database::default();
    let (mut client, _served) = client(&database).await;
    let big = vec![7; 100_000];
    let puts = ["a1", "a2", "a3", "b1"].map(|key| pair(key, &big)).to_vec();
    let deletes = vec![DeleteRequest { key: "a1".into() }];
    let batch = WriteBatchRequest { puts, deletes };
    assert_eq!(client.write_batch(batch).await.unwrap().into_inner().err, 0);
    // Deletes come after puts, so a1 is gone.
    let missing = client.get(GetRequest { key: "a1".into() }).await.unwrap();
    assert_eq!(missing.into_inner().err, 2);
    let (keys, answers, error) = all(&mut client, "", "").await;
    assert_eq!(
        (keys.as_slice(), answers, error),
        (&["a2", "a3", "b1"].map(String::from)[..], 3, 0)
    );
    assert_eq!(all(&mut client, "a3", "a").await.0, ["a3"]);
    assert_eq!(all(&mut client, "", "c").await.0.len(), 0);
    assert_eq!(database.counts().writes, 1);
    assert_eq!(database.counts().iterators, 3);
}

#[tokio::test]
async fn planted_faults_strike_once_and_a_new_run_cuts_the_old_one_off() {
    let database = Database::default();
    let (mut old, _old_served) = client(&database).await;
    database.at_write(1, Fault::Error);
    database.at_write(2, Fault::Closed);
    database.at_write(3, Fault::ErrorAfter);
    old.put(pair("0", "0")).await.unwrap();
    assert!(old.put(pair("1", "1")).await.is_err());
    assert_eq!(old.put(pair("2", "2")).await.unwrap().into_inner().err, 1);
    assert!(old.put(pair("3", "3")).await.is_err());
    assert_eq!(database.struck(), 3);
    let keys: Vec<_> = database.cells().into_keys().collect();
    assert_eq!(keys, ["0", "3"]);
    // An iterator that fails looks like one at its end until it is asked.
    database.at_iterator_answer(1, Fault::Closed);
    assert_eq!(
        all(&mut old, "", "").await,
        (vec!["0".into(), "3".into()], 2, 1)
    );
    let (mut new, _new_served) = client(&database).await;
    assert!(old.put(pair("4", "4")).await.is_err());
    new.put(pair("5", "5")).await.unwrap();
    database.at_write(0, Fault::Hang);
    let hung = tokio::time::timeout(Duration::from_millis(50), new.put(pair("6", "6"))).await;
    assert!(hung.is_err());
    assert_eq!(database.cells().len(), 3);
}

/// A plugin's `http.HTTP` in a few lines: plain requests are told back, WebSockets echo.
struct Toy;

#[tonic::async_trait]
impl Http for Toy {
    async fn handle_simple(
        &self,
        request: Request<HandleSimpleHttpRequest>,
    ) -> Result<Response<HandleSimpleHttpResponse>, Status> {
        let request = request.into_inner();
        if request.url.ends_with("?error") {
            return Err(Status::unknown("as asked"));
        }
        let names: Vec<_> = request
            .request_headers
            .iter()
            .map(|e| e.key.clone())
            .collect();
        let body = format!(
            "{} {} {names:?} {}",
            request.method,
            request.url,
            request.body.len()
        );
        Ok(Response::new(HandleSimpleHttpResponse {
            code: 200,
            headers: request.response_headers,
            body: body.into(),
        }))
    }

    async fn handle(
        &self,
        request: Request<HttpRequest>,
    ) -> Result<Response<HttpResponse>, Status> {
        let request = request.into_inner();
        let back = request.response_writer.unwrap();
        let mut writer = WriterClient::new(dial(&back.server_addr));
        let header = |name: &str| {
            let mut headers = request.request.iter().flat_map(|request| &request.header);
            headers.find(|e| e.key == name).map(|e| e.values[0].clone())
        };
        let Some(key) = header("Sec-Websocket-Key") else {
            let headers = vec![Header {
                key: "X-Toy".to_owned(),
                values: vec!["streams".to_owned()],
            }];
            let head = WriteHeaderRequest {
                headers: headers.clone(),
                status_code: 202,
            };
            writer.write_header(head).await?;
            for payload in ["one ", "two"] {
                let (headers, payload) = (headers.clone(), payload.into());
                writer.write(WriteRequest { headers, payload }).await?;
                writer.flush(()).await?;
            }
            return Ok(Response::new(HttpResponse::default()));
        };
        let hijacked = writer.hijack(()).await?.into_inner();
        let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
        tokio::spawn(echo(hijacked.server_addr, accept));
        Ok(Response::new(HttpResponse::default()))
    }
}

async fn echo(address: String, accept: String) {
    let mut reader = ReaderClient::new(dial(&address));
    let mut conn = ConnClient::new(dial(&address));
    let head = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    conn.write(conn::WriteRequest {
        payload: head.into(),
    })
    .await
    .unwrap();
    loop {
        let read = reader
            .read(ReadRequest { length: 4_096 })
            .await
            .unwrap()
            .into_inner();
        if read.error.is_some() {
            break;
        }
        // One small masked frame a read is all that this test sends.
        let frame = read.read;
        let (length, mask) = (usize::from(frame[1] & 0x7f), &frame[2..6]);
        let text: Vec<u8> = (0..length).map(|i| frame[6 + i] ^ mask[i % 4]).collect();
        let payload = [&[frame[0], frame[1] & 0x7f][..], &text].concat();
        conn.write(conn::WriteRequest {
            payload: payload.into(),
        })
        .await
        .unwrap();
    }
    let closed = conn.close(()).await;
    assert!(closed.is_err(), "a node's Close never answers");
}

async fn proxy() -> (Proxy, Served) {
    let toy = Served::start(Server::builder().add_service(HttpServer::new(Toy))).await;
    let handler = Handler::new(&toy.address().to_string());
    let handlers = vec![
        ("/rpc".to_owned(), handler.clone()),
        (String::new(), handler.clone()),
    ];
    (Proxy::start("chain", handlers, Some(handler)).await, toy)
}

async fn raw(proxy: &Proxy, request: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(proxy.address())
        .await
        .unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).await.unwrap();
    reply
}

#[tokio::test]
async fn the_proxy_hands_plain_requests_on_and_routes_exactly() {
    let (proxy, _toy) = proxy().await;
    let close = "Host: localhost\r\nConnection: close\r\n";
    let request = format!(
        "POST /ext/bc/chain/rpc?echo HTTP/1.1\r\n{close}x-foo: a\r\nX-Foo: b\r\n\
         Content-Length: 3\r\n\r\nabc"
    );
    let reply = raw(&proxy, &request).await;
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");
    assert!(reply.contains("Node-Id: "), "{reply}");
    let told = r#"POST /ext/bc/chain/rpc?echo ["Connection", "X-Foo", "Content-Length"] 3"#;
    assert!(reply.ends_with(told), "{reply}");
    for (path, code) in [
        ("/ext/bc/chain", 200),
        ("/ext/bc/chain/", 404),
        ("/ext/bc/chain/rpc/deeper", 404),
        ("/ext/bc/other/rpc", 404),
        ("/ext/bc/chain/rpc?error", 500),
    ] {
        let reply = raw(&proxy, &format!("GET {path} HTTP/1.1\r\n{close}\r\n")).await;
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {code}")),
            "{path}: {reply}"
        );
    }
    for (chain, code) in [("chain", 200), ("other", 404)] {
        let route = format!("Avalanche-Api-Route: {chain}\r\n");
        let reply = raw(&proxy, &format!("GET /any HTTP/1.1\r\n{close}{route}\r\n")).await;
        assert!(
            reply.starts_with(&format!("HTTP/1.1 {code}")),
            "{chain}: {reply}"
        );
    }
}

#[tokio::test]
async fn the_proxy_streams_what_is_upgraded_and_gives_hijacked_sockets_away() {
    let (proxy, _toy) = proxy().await;
    let request = "GET /ext/bc/chain/rpc HTTP/1.1\r\nHost: localhost\r\nUpgrade: sse\r\n\r\n";
    let reply = raw(&proxy, request).await;
    assert!(reply.starts_with("HTTP/1.1 202"), "{reply}");
    assert!(reply.contains("X-Toy: streams\r\n"), "{reply}");
    assert!(
        reply.ends_with("4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n"),
        "{reply}"
    );
    let url = format!("ws://{}/ext/bc/chain/rpc", proxy.address());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let began = Instant::now();
    for n in 0..20 {
        socket
            .send(Message::text(format!("number {n}")))
            .await
            .unwrap();
        let echo = socket.next().await.unwrap().unwrap();
        assert_eq!(echo, Message::text(format!("number {n}")));
    }
    assert!(began.elapsed() < Duration::from_secs(5));
}
