//! The node's database as a [`Remote`]: `rpcdb.Database` over gRPC, called from threads.
//!
//! Calls run on a runtime of their own, so that a thread of another one may wait for them.

use std::future::Future;
use std::io::{Error, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use prost::bytes::Bytes;
use session_rpcchainvm::rpcdb::database_client::DatabaseClient;
use session_rpcchainvm::rpcdb::{
    DeleteRequest, Error as Code, GetRequest, IteratorErrorRequest, IteratorNextRequest,
    IteratorReleaseRequest, NewIteratorWithStartAndPrefixRequest, PutRequest, WriteBatchRequest,
};
use session_storage::{Remote, StoreError};
use tokio::runtime::Handle;
use tonic::transport::Channel;
use tonic::{Response, Status};

/// A node that does not answer within this time has stopped: its own calls take milliseconds.
const DEADLINE: Duration = Duration::from_secs(60);

/// Reads under way at once.
const READS_AT_ONCE: usize = 32;

/// The database of one chain.
#[derive(Clone)]
pub(super) struct HostDatabase {
    client: DatabaseClient<Channel>,
    runtime: Handle,
}

fn failed(what: &'static str, kind: ErrorKind, message: String) -> StoreError {
    StoreError::Io {
        path: PathBuf::from("the host's database"),
        what,
        source: Arc::new(Error::new(kind, message)),
    }
}

fn status(what: &'static str) -> impl Fn(Status) -> StoreError {
    move |status| failed(what, ErrorKind::Other, status.message().to_owned())
}

/// What an answer says beside its values. `true`: it was not found.
fn code(what: &'static str, code: i32) -> Result<bool, StoreError> {
    match Code::try_from(code) {
        Ok(Code::Unspecified) => Ok(false),
        Ok(Code::NotFound) => Ok(true),
        Ok(Code::Closed) => Err(StoreError::Closed),
        Err(_) => Err(failed(
            what,
            ErrorKind::InvalidData,
            format!("unknown error {code}"),
        )),
    }
}

impl HostDatabase {
    /// Over a channel that was made on `runtime`.
    pub(super) fn new(channel: Channel, runtime: Handle) -> Self {
        let client = DatabaseClient::new(channel)
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        Self { client, runtime }
    }

    /// Runs a call and waits for it, from any thread.
    fn wait<T: Send + 'static>(
        &self,
        what: &'static str,
        call: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (done, answer) = sync_channel(1);
        self.runtime.spawn(async move {
            let answer = tokio::time::timeout(DEADLINE, call).await;
            let late = || {
                failed(
                    what,
                    ErrorKind::TimedOut,
                    "no answer in a minute".to_owned(),
                )
            };
            let _nobody_waits = done.send(answer.unwrap_or_else(|_| Err(late())));
        });
        // The runtime has been shut down: so is the plugin.
        answer.recv().unwrap_or(Err(StoreError::Closed))
    }
}

async fn get(
    mut client: DatabaseClient<Channel>,
    key: Vec<u8>,
) -> Result<Option<Vec<u8>>, StoreError> {
    let key = Bytes::from(key);
    let answer = client
        .get(GetRequest { key })
        .await
        .map_err(status("read"))?;
    let answer = answer.into_inner();
    Ok((!code("read", answer.err)?).then(|| answer.value.into()))
}

/// Reads from an iterator until `limit` pairs or a key from `to` on.
async fn scan(
    client: &mut DatabaseClient<Channel>,
    id: u64,
    to: &[u8],
    limit: usize,
) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
    let mut out = Vec::new();
    loop {
        let page = client
            .iterator_next(IteratorNextRequest { id })
            .await
            .map_err(status("list"))?
            .into_inner()
            .data;
        if page.is_empty() {
            let end = client.iterator_error(IteratorErrorRequest { id }).await;
            code("list", end.map_err(status("list"))?.into_inner().err)?;
            return Ok(out);
        }
        for PutRequest { key, value } in page {
            if out.len() == limit || key.as_ref() >= to {
                return Ok(out);
            }
            out.push((key.into(), value.into()));
        }
    }
}

impl Remote for HostDatabase {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.wait("read", get(self.client.clone(), key.to_vec()))
    }

    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (client, keys) = (self.client.clone(), keys.to_vec());
        self.wait("read", async move {
            let reads = keys.into_iter().map(|key| get(client.clone(), key));
            stream::iter(reads)
                .buffered(READS_AT_ONCE)
                .try_collect()
                .await
        })
    }

    fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, StoreError> {
        let mut client = self.client.clone();
        let (start, to) = (Bytes::copy_from_slice(from), to.to_vec());
        // All keys of a range begin with the byte of its table.
        let prefix = Bytes::copy_from_slice(from.get(..1).unwrap_or_default());
        self.wait("list", async move {
            let request = NewIteratorWithStartAndPrefixRequest { start, prefix };
            let made = client.new_iterator_with_start_and_prefix(request).await;
            let id = made.map_err(status("list"))?.into_inner().id;
            let found = scan(&mut client, id, &to, limit).await;
            // Whatever came of it: an iterator that is not released stays in the node's memory.
            let released = client.iterator_release(IteratorReleaseRequest { id }).await;
            let found = found?;
            code("list", released.map_err(status("list"))?.into_inner().err)?;
            Ok(found)
        })
    }

    fn write(
        &self,
        puts: Vec<(Vec<u8>, Vec<u8>)>,
        deletes: Vec<Vec<u8>>,
    ) -> Result<(), StoreError> {
        let mut client = self.client.clone();
        let puts = puts.into_iter().map(|(key, value)| PutRequest {
            key: key.into(),
            value: value.into(),
        });
        let deletes = deletes
            .into_iter()
            .map(|key| DeleteRequest { key: key.into() });
        let request = WriteBatchRequest {
            puts: puts.collect(),
            deletes: deletes.collect(),
        };
        self.wait("write", async move {
            let answer = client.write_batch(request).await;
            let answer = answer.map(Response::into_inner).map_err(status("write"))?;
            if code("write", answer.err)? {
                let message = "the host says not found".to_owned();
                return Err(failed("write", ErrorKind::InvalidData, message));
            }
            Ok(())
        })
    }
}
