//! The node's database over ZAP, on the same disks as the other fake node's.

use std::collections::{HashMap, VecDeque};

use prost::bytes::Bytes;
use session_core::codec::{Decode, Encode};
use session_zap::database::{
    Batch, Done, GetResponse, HasResponse, Iterator, Key, Outcome, Page, Pair, Span,
};
use session_zap::{Frame, Frames, RESPONSE, answer, error, read};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

use crate::database::Database;

/// An answer of an iterator is closed by the pair that reaches this.
const PAGE_BYTES: usize = 128 << 10;

/// A served database; it is gone when this is dropped.
#[derive(Debug)]
pub struct Served {
    address: String,
    task: AbortHandle,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Served {
    /// Serves a disk on a free loopback port.
    pub async fn start(database: &Database) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let database = database.clone();
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                open.spawn(serve(stream, database.clone()));
            }
        });
        Self {
            address,
            task: task.abort_handle(),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }
}

async fn serve(mut stream: TcpStream, database: Database) {
    stream.set_nodelay(true).unwrap();
    let mut open = Open {
        database,
        iterators: HashMap::new(),
        next: 0,
    };
    let mut frames = Frames::default();
    let mut piece = vec![0; 1 << 16];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        frames.push(&piece[..length]);
        while let Some(frame) = frames.next().expect("a plugin sends frames") {
            let answer = open.answer(&frame);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}

struct Open {
    database: Database,
    iterators: HashMap<u64, VecDeque<(Bytes, Bytes)>>,
    next: u64,
}

fn take<T: Decode>(frame: &Frame) -> T {
    read(&frame.body).unwrap_or_else(|error| panic!("kind {}: {error}", frame.kind))
}

fn done() -> Done {
    Done {
        outcome: Outcome::WELL,
    }
}

impl Open {
    fn answer(&mut self, frame: &Frame) -> Vec<u8> {
        let reply = |body: Vec<u8>| {
            let (kind, id) = (frame.kind | RESPONSE, frame.id);
            Frame { kind, id, body }.to_bytes().unwrap()
        };
        match frame.kind {
            1 => {
                let has = self.database.read(&take::<Key>(frame).key).is_some();
                let outcome = Outcome::WELL;
                reply(HasResponse { has, outcome }.to_bytes())
            }
            2 => {
                let found = self.database.read(&take::<Key>(frame).key);
                let outcome = match found {
                    Some(_) => Outcome::WELL,
                    None => Outcome::NOT_FOUND,
                };
                let value = found.map(Into::into).unwrap_or_default();
                reply(GetResponse { value, outcome }.to_bytes())
            }
            5 => {
                let batch: Batch = take(frame);
                let puts = batch.puts.into_iter();
                let puts = puts.map(|Pair { key, value }| (key, value)).collect();
                let deletes = batch.deletes.into_iter().map(|Key { key }| key).collect();
                self.database.write(puts, deletes);
                reply(done().to_bytes())
            }
            9 => {
                let span: Span = take(frame);
                let pairs = self.database.from(&span.start, &span.prefix);
                let id = self.next;
                self.next += 1;
                self.iterators.insert(id, pairs.into());
                reply(Iterator { id }.to_bytes())
            }
            10 => {
                let id = take::<Iterator>(frame).id;
                let Some(pairs) = self.iterators.get_mut(&id) else {
                    return error(frame.kind, frame.id, "rpcdb: unknown iterator");
                };
                let (mut page, mut bytes) = (Vec::new(), 0);
                while bytes < PAGE_BYTES
                    && let Some((key, value)) = pairs.pop_front()
                {
                    bytes += key.len() + value.len();
                    let (key, value) = (key.into(), value.into());
                    page.push(Pair { key, value });
                }
                answer(frame.kind, frame.id, &Page { pairs: page }).unwrap()
            }
            11 => reply(done().to_bytes()),
            12 => {
                self.iterators.remove(&take::<Iterator>(frame).id);
                reply(done().to_bytes())
            }
            other => error(frame.kind, frame.id, &format!("unknown msg type {other}")),
        }
    }
}
