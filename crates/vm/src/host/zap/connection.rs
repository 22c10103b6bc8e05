//! A node's connection: frames in, calls side by side, frames out.

use std::collections::VecDeque;
use std::sync::Arc;

use session_zap::{Call, Frame, FrameError, Frames, error};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use super::server::Plugin;

/// Calls at once; with more the next frame waits. Engines ask one thing after the other, other
/// callers a few more.
const CALLS_MAX: usize = 64;

/// Calls of `WaitForEvent` at once. The wire cannot take a call back: a node that has stopped
/// waiting just asks again, so the oldest is answered with an error then.
const WAITS_MAX: usize = 16;

/// Bytes read at once.
const PIECE_BYTES: usize = 64 << 10;

/// Answers that wait to be written.
const ANSWERS: usize = 64;

/// Takes connections for as long as the plugin runs; a node makes one.
pub(super) async fn accept(listener: TcpListener, plugin: Arc<Plugin>) {
    let mut open = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Small answers leave at once.
                let _best_effort = stream.set_nodelay(true);
                open.spawn(serve(stream, plugin.clone()));
            }
            Err(error) => {
                // Out of file descriptors: wait for some to come back.
                tracing::warn!(%error, "accepting a connection failed");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ending {
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it ended inside of a frame")]
    Cut,
}

async fn serve(stream: TcpStream, plugin: Arc<Plugin>) {
    let (from_node, to_node) = stream.into_split();
    let (answers, queue) = mpsc::channel(ANSWERS);
    let writer = tokio::spawn(write(queue, to_node));
    let calls = Calls {
        plugin,
        answers,
        free: Arc::new(Semaphore::new(CALLS_MAX)),
        running: JoinSet::new(),
        waits: VecDeque::new(),
    };
    match read(from_node, calls).await {
        Ok(()) => tracing::info!("the node has closed its connection"),
        Err(error) => tracing::error!(%error, "closing the node's connection"),
    }
    writer.abort();
}

async fn read(mut from_node: OwnedReadHalf, mut calls: Calls) -> Result<(), Ending> {
    let mut frames = Frames::default();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let length = from_node.read(&mut piece).await?;
        if length == 0 {
            return if frames.is_empty() {
                Ok(())
            } else {
                Err(Ending::Cut)
            };
        }
        frames.push(piece.get(..length).unwrap_or_default());
        while let Some(frame) = frames.next()? {
            calls.begin(frame).await;
        }
    }
}

async fn write(mut queue: mpsc::Receiver<Vec<u8>>, mut to_node: OwnedWriteHalf) {
    while let Some(answer) = queue.recv().await {
        if let Err(error) = to_node.write_all(&answer).await {
            tracing::warn!(%error, "an answer did not reach the node");
            return;
        }
    }
}

/// What is being answered on one connection. What has not ended when it does is dropped.
struct Calls {
    plugin: Arc<Plugin>,
    answers: mpsc::Sender<Vec<u8>>,
    free: Arc<Semaphore>,
    running: JoinSet<()>,
    /// Dropped, it ends the wait.
    waits: VecDeque<oneshot::Sender<()>>,
}

impl Calls {
    async fn begin(&mut self, frame: Frame) {
        while self.running.try_join_next().is_some() {}
        if frame.kind == Call::WaitForEvent.code() {
            return self.begin_wait(frame);
        }
        // Never closed.
        let Ok(permit) = self.free.clone().acquire_owned().await else {
            return;
        };
        let (plugin, answers) = (self.plugin.clone(), self.answers.clone());
        self.running.spawn(async move {
            let answer = plugin.answer(frame).await;
            drop(permit);
            let _gone = answers.send(answer).await;
        });
    }

    fn begin_wait(&mut self, frame: Frame) {
        let (plugin, answers) = (self.plugin.clone(), self.answers.clone());
        let (kept, ended) = oneshot::channel::<()>();
        self.waits.retain(|wait| !wait.is_closed());
        self.waits.push_back(kept);
        if self.waits.len() > WAITS_MAX {
            self.waits.pop_front();
        }
        self.running.spawn(async move {
            let (kind, id) = (frame.kind, frame.id);
            let answer = tokio::select! {
                answer = plugin.answer(frame) => answer,
                _ = ended => error(kind, id, "later calls wait for an event instead"),
            };
            let _gone = answers.send(answer).await;
        });
    }
}
