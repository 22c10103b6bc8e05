//! `net.conn.Conn` and `io.reader.Reader` of a hijacked connection.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex as Blocking, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost::bytes::Bytes;
use session_rpcchainvm::io::reader as io;
use session_rpcchainvm::io::reader::reader_server::{Reader, ReaderServer};
use session_rpcchainvm::net::conn::conn_server::{Conn, ConnServer};
use session_rpcchainvm::net::conn::{
    Error, ErrorCode, ReadRequest, ReadResponse, SetDeadlineRequest, WriteRequest, WriteResponse,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::{Mutex, watch};
use tonic::{Request, Response, Status};

use super::parse::Incoming;
use super::writer::reader_answer;
use crate::serve::{Served, router};

/// Seconds between year 1, where Go's clock begins, and 1970.
const GO_EPOCH: i64 = 62_135_596_800;

/// Serves a connection to whoever hijacked it, until `Conn/Close`.
pub(super) async fn serve(incoming: Arc<Mutex<Incoming>>, out: OwnedWriteHalf) -> SocketAddr {
    let served = Arc::<Blocking<Option<Served>>>::default();
    let socket = Socket {
        incoming: incoming.clone(),
        out: Mutex::new(Some(out)),
        read_until: watch::Sender::new(None),
        served: served.clone(),
    };
    let conn = ConnServer::new(socket).max_decoding_message_size(usize::MAX);
    let reader = ReaderServer::new(Buffered(incoming));
    let server = Served::start(router().add_service(conn).add_service(reader)).await;
    let address = server.address();
    *served.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    address
}

struct Socket {
    incoming: Arc<Mutex<Incoming>>,
    out: Mutex<Option<OwnedWriteHalf>>,
    read_until: watch::Sender<Option<SystemTime>>,
    served: Arc<Blocking<Option<Served>>>,
}

impl Socket {
    async fn overdue(&self) {
        let mut changes = self.read_until.subscribe();
        loop {
            let until = *changes.borrow_and_update();
            let left = until.map(|at| at.duration_since(SystemTime::now()).unwrap_or_default());
            tokio::select! {
                () = tokio::time::sleep(left.unwrap_or(Duration::MAX)), if left.is_some() => return,
                changed = changes.changed() => if changed.is_err() { return },
            }
        }
    }

    fn set_read_deadline(&self, time: &Bytes) -> Result<(), Status> {
        let at = go_time(time).ok_or_else(|| Status::unknown("invalid time"))?;
        self.read_until.send_replace(at);
        Ok(())
    }
}

/// Go's binary time: a version, seconds, nanoseconds and an offset. The zero time is none.
fn go_time(bytes: &[u8]) -> Option<Option<SystemTime>> {
    let (&version, rest) = bytes.split_first()?;
    let (seconds, rest) = rest.split_first_chunk::<8>()?;
    let (nanos, _) = rest.split_first_chunk::<4>()?;
    if version == 0 || version > 2 {
        return None;
    }
    let seconds = i64::from_be_bytes(*seconds);
    if seconds == 0 {
        return Some(None);
    }
    let unix = u64::try_from(seconds - GO_EPOCH).unwrap_or_default();
    let time = Duration::new(unix, u32::from_be_bytes(*nanos).min(999_999_999));
    Some(Some(UNIX_EPOCH + time))
}

fn failed(code: ErrorCode, message: &str) -> ReadResponse {
    ReadResponse {
        read: Bytes::new(),
        error: Some(Error {
            error_code: code.into(),
            message: message.to_owned(),
        }),
    }
}

#[tonic::async_trait]
impl Conn for Socket {
    /// Reads the socket itself: what the node had buffered is for `io.reader` alone.
    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<ReadResponse>, Status> {
        let length = usize::try_from(request.into_inner().length).unwrap_or_default();
        let mut read = vec![0; length.min(1 << 20)];
        let reading = async { self.incoming.lock().await.socket.read(&mut read).await };
        let n = tokio::select! {
            n = reading => n,
            () = self.overdue() => {
                let answer = failed(ErrorCode::OsErrDeadlineExceeded, "i/o timeout");
                return Ok(Response::new(answer));
            }
        };
        Ok(Response::new(match n {
            Ok(0) => failed(ErrorCode::Eof, "EOF"),
            Ok(n) => {
                read.truncate(n);
                ReadResponse {
                    read: read.into(),
                    error: None,
                }
            }
            Err(error) => failed(ErrorCode::Unspecified, &error.to_string()),
        }))
    }

    async fn write(
        &self,
        request: Request<WriteRequest>,
    ) -> Result<Response<WriteResponse>, Status> {
        let payload = request.into_inner().payload;
        let mut out = self.out.lock().await;
        let written = match out.as_mut() {
            Some(out) => out.write_all(&payload).await.map_err(|e| e.to_string()),
            None => Err("use of closed network connection".to_owned()),
        };
        let length = if written.is_ok() { payload.len() } else { 0 };
        Ok(Response::new(WriteResponse {
            length: i32::try_from(length).unwrap_or(i32::MAX),
            error: written.err(),
        }))
    }

    /// Always an error at the other end: a node stops this server before it can answer.
    async fn close(&self, _: Request<()>) -> Result<Response<()>, Status> {
        if let Some(mut out) = self.out.lock().await.take() {
            let _gone = out.shutdown().await;
        }
        drop(
            self.served
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        Err(Status::unavailable("transport is closing"))
    }

    async fn set_deadline(
        &self,
        request: Request<SetDeadlineRequest>,
    ) -> Result<Response<()>, Status> {
        self.set_read_deadline(&request.into_inner().time)?;
        Ok(Response::new(()))
    }

    async fn set_read_deadline(
        &self,
        request: Request<SetDeadlineRequest>,
    ) -> Result<Response<()>, Status> {
        self.set_read_deadline(&request.into_inner().time)?;
        Ok(Response::new(()))
    }

    async fn set_write_deadline(
        &self,
        request: Request<SetDeadlineRequest>,
    ) -> Result<Response<()>, Status> {
        go_time(&request.into_inner().time).ok_or_else(|| Status::unknown("invalid time"))?;
        Ok(Response::new(()))
    }
}

struct Buffered(Arc<Mutex<Incoming>>);

#[tonic::async_trait]
impl Reader for Buffered {
    async fn read(
        &self,
        request: Request<io::ReadRequest>,
    ) -> Result<Response<io::ReadResponse>, Status> {
        let length = usize::try_from(request.into_inner().length).unwrap_or_default();
        let read = self.0.lock().await.some(length.max(1)).await;
        Ok(Response::new(reader_answer(read)))
    }
}
