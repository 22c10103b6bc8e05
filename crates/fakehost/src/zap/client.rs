//! Calls over one connection, as many at once as one likes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use session_core::codec::{Decode, Encode};
use session_zap::{Call, ERROR, Frame, Frames, NOTHING, RESPONSE, read, request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::oneshot;

/// Longest wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The plugin answered with an error.
    Said(String),
    /// The connection is gone.
    Broken,
    /// Nothing came in time.
    Late,
}

type Waiting = Arc<Mutex<Option<HashMap<u32, oneshot::Sender<Frame>>>>>;

/// A connection. Clones share it.
#[derive(Debug, Clone)]
pub struct Client {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    waiting: Waiting,
    next: Arc<AtomicU32>,
}

impl Client {
    /// Connects.
    pub async fn dial(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).unwrap();
        let (mut from, writer) = stream.into_split();
        let waiting: Waiting = Arc::new(Mutex::new(Some(HashMap::new())));
        let kept = waiting.clone();
        tokio::spawn(async move {
            let mut frames = Frames::default();
            let mut piece = vec![0; 1 << 16];
            while let Ok(length @ 1..) = from.read(&mut piece).await {
                frames.push(&piece[..length]);
                while let Some(frame) = frames.next().expect("a plugin sends frames") {
                    let mut waiting = kept.lock().unwrap_or_else(PoisonError::into_inner);
                    let waits = waiting.as_mut().and_then(|all| all.remove(&frame.id));
                    // Whoever asked may have given up, as nodes do.
                    if let Some(waits) = waits {
                        let _gone = waits.send(frame);
                    }
                }
            }
            kept.lock().unwrap_or_else(PoisonError::into_inner).take();
        });
        Self {
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            waiting,
            next: Arc::new(AtomicU32::new(1)),
        }
    }

    /// Whether the connection is there still.
    pub fn is_open(&self) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.is_some()
    }

    /// Sends bytes as they are.
    pub async fn send(&self, bytes: &[u8]) {
        let _broken = self.writer.lock().await.write_all(bytes).await;
    }

    /// The answer's frame, error or not.
    ///
    /// # Errors
    /// [`Failure::Broken`].
    pub async fn frame(&self, kind: u8, message: &impl Encode) -> Result<Frame, Failure> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let bytes = request(kind, id, message).unwrap();
        let (answers, answer) = oneshot::channel();
        {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = waiting.as_mut().ok_or(Failure::Broken)?;
            waiting.insert(id, answers);
        }
        let written = self.writer.lock().await.write_all(&bytes).await;
        written.map_err(|_| Failure::Broken)?;
        let frame = answer.await.map_err(|_| Failure::Broken)?;
        assert_eq!(frame.id, id);
        assert_eq!(frame.kind & !ERROR, kind | RESPONSE, "an answer's kind");
        Ok(frame)
    }

    /// A call that may take as long as it likes.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn wait<T: Decode>(&self, call: Call, message: &impl Encode) -> Result<T, Failure> {
        let frame = self.frame(call.code(), message).await?;
        if frame.kind & ERROR != 0 {
            let text = String::from_utf8(frame.body).expect("an error is text");
            return Err(Failure::Said(text));
        }
        Ok(read(&frame.body).unwrap_or_else(|error| panic!("{call:?}: {error}")))
    }

    /// A call.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn call<T: Decode>(&self, call: Call, message: &impl Encode) -> Result<T, Failure> {
        let answer = tokio::time::timeout(PATIENCE, self.wait(call, message)).await;
        answer.unwrap_or(Err(Failure::Late))
    }

    /// A call without fields.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn ask<T: Decode>(&self, call: Call) -> Result<T, Failure> {
        self.call(call, NOTHING).await
    }
}
