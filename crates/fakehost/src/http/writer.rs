//! `http.responsewriter.Writer` and the body's `io.reader.Reader` of one streamed request.

use std::net::SocketAddr;
use std::sync::Arc;

use session_rpcchainvm::http;
use session_rpcchainvm::http::responsewriter::writer_server::{Writer, WriterServer};
use session_rpcchainvm::http::responsewriter::{
    Header, HijackResponse, WriteHeaderRequest, WriteRequest, WriteResponse,
};
use session_rpcchainvm::io::reader::reader_server::{Reader, ReaderServer};
use session_rpcchainvm::io::reader::{Error, ErrorCode, ReadRequest, ReadResponse};
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};

use super::hijack;
use super::parse::Incoming;
use crate::serve::{Served, router};

/// The client's side of a connection until somebody hijacks it.
pub(super) type Out = Arc<Mutex<Option<OwnedWriteHalf>>>;

/// What was said to the client so far.
#[derive(Default)]
struct Said {
    begun: bool,
    chunked: bool,
    headers: Vec<Header>,
}

/// The servers of one streamed request.
pub(super) struct ResponseServer {
    said: Arc<Mutex<Said>>,
    served: Served,
}

impl ResponseServer {
    pub(super) async fn start(
        incoming: Arc<Mutex<Incoming>>,
        out: Out,
        request: &http::Request,
    ) -> Self {
        let said = Arc::<Mutex<Said>>::default();
        let writer = WriterServer::new(Answer {
            said: said.clone(),
            incoming: incoming.clone(),
            out,
            peer: request.remote_addr.clone(),
        })
        .max_decoding_message_size(usize::MAX);
        let left = Mutex::new(usize::try_from(request.content_length).unwrap_or_default());
        let body = ReaderServer::new(Body { incoming, left });
        let served = Served::start(router().add_service(writer).add_service(body)).await;
        Self { said, served }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.served.address()
    }

    /// Waits, as a node does, for every call that the plugin has under way here.
    pub(super) async fn end(self) {
        self.served.finish().await;
    }

    /// Says what is still to be said after the plugin has returned.
    pub(super) async fn finish(&self, out: &mut OwnedWriteHalf) -> std::io::Result<()> {
        let mut said = self.said.lock().await;
        begin(&mut said, out, 200).await?;
        if said.chunked {
            out.write_all(b"0\r\n\r\n").await?;
        }
        out.shutdown().await
    }
}

async fn begin(said: &mut Said, out: &mut OwnedWriteHalf, code: i32) -> std::io::Result<()> {
    if said.begun {
        return Ok(());
    }
    said.begun = true;
    let mut head = format!("HTTP/1.1 {code} Status\r\nConnection: close\r\n");
    said.chunked = true;
    for header in &said.headers {
        said.chunked &= !header.key.eq_ignore_ascii_case("content-length");
        for value in &header.values {
            head.push_str(&format!("{}: {value}\r\n", header.key));
        }
    }
    if said.chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    }
    head.push_str("\r\n");
    out.write_all(head.as_bytes()).await
}

struct Answer {
    said: Arc<Mutex<Said>>,
    incoming: Arc<Mutex<Incoming>>,
    out: Out,
    peer: String,
}

fn broken(error: std::io::Error) -> Status {
    Status::unknown(error.to_string())
}

fn hijacked() -> Status {
    Status::unknown("http: connection has been hijacked")
}

#[tonic::async_trait]
impl Writer for Answer {
    async fn write(
        &self,
        request: Request<WriteRequest>,
    ) -> Result<Response<WriteResponse>, Status> {
        let request = request.into_inner();
        let mut out = self.out.lock().await;
        let out = out.as_mut().ok_or_else(hijacked)?;
        let mut said = self.said.lock().await;
        said.headers = request.headers;
        begin(&mut said, out, 200).await.map_err(broken)?;
        let payload = request.payload;
        let written = i32::try_from(payload.len()).unwrap_or(i32::MAX);
        if said.chunked && !payload.is_empty() {
            let head = format!("{:x}\r\n", payload.len());
            out.write_all(head.as_bytes()).await.map_err(broken)?;
            out.write_all(&payload).await.map_err(broken)?;
            out.write_all(b"\r\n").await.map_err(broken)?;
        } else {
            out.write_all(&payload).await.map_err(broken)?;
        }
        Ok(Response::new(WriteResponse { written }))
    }

    async fn write_header(
        &self,
        request: Request<WriteHeaderRequest>,
    ) -> Result<Response<()>, Status> {
        let request = request.into_inner();
        let mut out = self.out.lock().await;
        let out = out.as_mut().ok_or_else(hijacked)?;
        let mut said = self.said.lock().await;
        said.headers = request.headers;
        begin(&mut said, out, request.status_code)
            .await
            .map_err(broken)?;
        Ok(Response::new(()))
    }

    async fn flush(&self, _: Request<()>) -> Result<Response<()>, Status> {
        let mut out = self.out.lock().await;
        let out = out.as_mut().ok_or_else(hijacked)?;
        out.flush().await.map_err(broken)?;
        Ok(Response::new(()))
    }

    async fn hijack(&self, _: Request<()>) -> Result<Response<HijackResponse>, Status> {
        let out = self.out.lock().await.take().ok_or_else(hijacked)?;
        let local = out.local_addr().map_err(broken)?;
        let address = hijack::serve(self.incoming.clone(), out).await;
        Ok(Response::new(HijackResponse {
            local_network: "tcp".to_owned(),
            local_string: local.to_string(),
            remote_network: "tcp".to_owned(),
            remote_string: self.peer.clone(),
            server_addr: address.to_string(),
        }))
    }
}

/// The request's body.
struct Body {
    incoming: Arc<Mutex<Incoming>>,
    left: Mutex<usize>,
}

#[tonic::async_trait]
impl Reader for Body {
    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let mut left = self.left.lock().await;
        let length = usize::try_from(request.into_inner().length).unwrap_or_default();
        let length = length.min(*left);
        let read = if length == 0 {
            Vec::new()
        } else {
            self.incoming.lock().await.some(length).await
        };
        *left -= read.len();
        Ok(Response::new(reader_answer(read)))
    }
}

/// What was read, or its end.
pub(super) fn reader_answer(read: Vec<u8>) -> ReadResponse {
    let error = read.is_empty().then(|| Error {
        error_code: ErrorCode::Eof.into(),
        message: "EOF".to_owned(),
    });
    ReadResponse {
        read: read.into(),
        error,
    }
}
