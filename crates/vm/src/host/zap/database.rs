//! The node's database as a [`Remote`]: frames over one connection, called from threads.
//!
//! ```text
//! thread ─▶ number and query ─▶ one connection ─▶ node
//!        ◀──────────── the answer with that number
//! ```
//!
//! A connection that breaks is made anew by the next call; what was under way on it fails.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use session_core::codec::{Decode, Encode};
use session_storage::{Pair as Cell, Remote, StoreError};
use session_zap::database::{
    Batch, Done, GetResponse, Iterator, Key, Outcome, Page, Pair, Query, Span,
};
use session_zap::{ERROR, Frame, Frames, RESPONSE, read, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::host::remote::{Pages, READS_AT_ONCE, failed, scan, wait};
use crate::lock::lock;

/// Bytes read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Answers that are waited for, by number; none once the connection is broken.
type Waiting = Arc<Mutex<Option<HashMap<u32, oneshot::Sender<Frame>>>>>;

/// A connection to the node's database.
struct Wire {
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    waiting: Waiting,
}

impl Drop for Wire {
    fn drop(&mut self) {
        // Its reader ends with the writing half.
        lock(&self.waiting).take();
    }
}

/// Gives answers to those who wait for them, until the connection breaks.
async fn take_answers(mut from_node: OwnedReadHalf, waiting: Waiting) {
    let mut frames = Frames::default();
    let mut piece = vec![0; PIECE_BYTES];
    let broken = 'broken: loop {
        let length = match from_node.read(&mut piece).await {
            Ok(0) => break "it was closed".to_owned(),
            Ok(length) => length,
            Err(error) => break error.to_string(),
        };
        frames.push(piece.get(..length).unwrap_or_default());
        loop {
            match frames.next() {
                Ok(None) => break,
                Ok(Some(frame)) => {
                    let mut waiting = lock(&waiting);
                    let waits = waiting.as_mut().and_then(|all| all.remove(&frame.id));
                    if let Some(waits) = waits {
                        let _gone = waits.send(frame);
                    }
                }
                Err(error) => break 'broken error.to_string(),
            }
        }
    };
    if lock(&waiting).take().is_some() {
        tracing::warn!(%broken, "the connection to the node's database broke");
    }
}

/// The database of one chain. Clones share one connection.
#[derive(Clone)]
pub(super) struct HostDatabase {
    link: Arc<Link>,
    runtime: Handle,
}

struct Link {
    address: String,
    wire: tokio::sync::Mutex<Option<Arc<Wire>>>,
    next: AtomicU32,
}

impl Link {
    /// The connection, made if there is none that works.
    async fn wire(&self) -> std::io::Result<Arc<Wire>> {
        let mut wire = self.wire.lock().await;
        if let Some(wire) = wire.as_ref().filter(|wire| lock(&wire.waiting).is_some()) {
            return Ok(wire.clone());
        }
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let (from_node, to_node) = stream.into_split();
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        tokio::spawn(take_answers(from_node, waiting.clone()));
        let made = Arc::new(Wire {
            writer: tokio::sync::Mutex::new(to_node),
            waiting,
        });
        Ok(wire.insert(made).clone())
    }

    async fn call<T: Decode>(
        &self,
        what: &'static str,
        query: Query,
        message: &impl Encode,
    ) -> Result<T, StoreError> {
        let broken = |error: std::io::Error| failed(what, error.kind(), error.to_string());
        let wrong = |message: String| failed(what, ErrorKind::InvalidData, message);
        let wire = self.wire().await.map_err(broken)?;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = request(query, id, message).map_err(|error| wrong(error.to_string()))?;
        let (answers, answer) = oneshot::channel();
        if let Some(waiting) = lock(&wire.waiting).as_mut() {
            waiting.insert(id, answers);
        }
        let written = wire.writer.lock().await.write_all(&bytes).await;
        if let Err(error) = written {
            lock(&wire.waiting).take();
            return Err(broken(error));
        }
        let frame = answer.await.map_err(|_| {
            let message = "the connection broke".to_owned();
            failed(what, ErrorKind::ConnectionAborted, message)
        })?;
        if frame.kind & ERROR != 0 {
            let message = String::from_utf8_lossy(&frame.body).into_owned();
            return Err(failed(what, ErrorKind::Other, message));
        }
        if frame.kind != RESPONSE | u8::from(query) {
            return Err(wrong(format!("an answer of kind {}", frame.kind)));
        }
        read(&frame.body).map_err(|error| wrong(error.to_string()))
    }

    async fn get(&self, key: Vec<u8>) -> Result<Option<Vec<u8>>, StoreError> {
        let answer: GetResponse = self.call("read", Query::Get, &Key { key }).await?;
        Ok((!missing("read", answer.outcome)?).then_some(answer.value))
    }

    async fn done(
        &self,
        what: &'static str,
        query: Query,
        message: &impl Encode,
    ) -> Result<(), StoreError> {
        let done: Done = self.call(what, query, message).await?;
        if missing(what, done.outcome)? {
            let message = "the host says not found".to_owned();
            return Err(failed(what, ErrorKind::InvalidData, message));
        }
        Ok(())
    }
}

/// What an answer says beside its values. `true`: it was not found.
fn missing(what: &'static str, outcome: Outcome) -> Result<bool, StoreError> {
    match outcome {
        Outcome::WELL => Ok(false),
        Outcome::NOT_FOUND => Ok(true),
        Outcome::CLOSED => Err(StoreError::Closed),
        Outcome(other) => Err(failed(
            what,
            ErrorKind::InvalidData,
            format!("unknown error {other}"),
        )),
    }
}

impl HostDatabase {
    /// At an address of the node's, called on `runtime`.
    pub(super) fn new(address: String, runtime: Handle) -> Self {
        let link = Arc::new(Link {
            address,
            wire: tokio::sync::Mutex::new(None),
            next: AtomicU32::new(1),
        });
        Self { link, runtime }
    }
}

/// An iterator in the node.
struct There<'a> {
    link: &'a Link,
    id: u64,
}

impl Pages for There<'_> {
    async fn next(&mut self) -> Result<Vec<Cell>, StoreError> {
        let iterator = Iterator { id: self.id };
        let page: Page = self
            .link
            .call("list", Query::IteratorNext, &iterator)
            .await?;
        let pairs = page.pairs.into_iter();
        Ok(pairs.map(|Pair { key, value }| (key, value)).collect())
    }

    async fn end(&mut self) -> Result<(), StoreError> {
        let iterator = Iterator { id: self.id };
        let done = self.link.done("list", Query::IteratorError, &iterator);
        done.await
    }
}

impl Remote for HostDatabase {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let (link, key) = (self.link.clone(), key.to_vec());
        wait(&self.runtime, "read", async move { link.get(key).await })
    }

    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (link, keys) = (self.link.clone(), keys.to_vec());
        wait(&self.runtime, "read", async move {
            let reads = keys.into_iter().map(|key| link.get(key));
            stream::iter(reads)
                .buffered(READS_AT_ONCE)
                .try_collect()
                .await
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Cell>, StoreError> {
        let (link, to) = (self.link.clone(), to.to_vec());
        let span = Span {
            start: from.to_vec(),
            // All keys of a range begin with the byte of its table.
            prefix: from.get(..1).unwrap_or_default().to_vec(),
        };
        wait(&self.runtime, "list", async move {
            let made: Iterator = link.call("list", Query::IteratorNew, &span).await?;
            let mut pages = There {
                link: &link,
                id: made.id,
            };
            let found = scan(&mut pages, &to, limit).await;
            // Whatever came of it: an iterator that is not released stays in the node's memory.
            let released = link.done("list", Query::IteratorRelease, &made).await;
            let found = found?;
            released?;
            Ok(found)
        })
    }

    fn write(&self, puts: Vec<Cell>, deletes: Vec<Vec<u8>>) -> Result<(), StoreError> {
        let link = self.link.clone();
        let puts = puts.into_iter().map(|(key, value)| Pair { key, value });
        let deletes = deletes.into_iter().map(|key| Key { key });
        let batch = Batch {
            puts: puts.collect(),
            deletes: deletes.collect(),
        };
        wait(&self.runtime, "write", async move {
            link.done("write", Query::WriteBatch, &batch).await
        })
    }
}
