//! The node's database as a [`Remote`]: `rpcdb.Database` over gRPC, called from threads.
//!
//! Calls run on a runtime of their own, so that a thread of another one may wait for them.

use std::io::ErrorKind;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use prost::bytes::Bytes;
use session_rpcchainvm::rpcdb::database_client::DatabaseClient;
use session_rpcchainvm::rpcdb::{
    DeleteRequest, Error as Code, GetRequest, IteratorErrorRequest, IteratorNextRequest,
    IteratorReleaseRequest, NewIteratorWithStartAndPrefixRequest, PutRequest, WriteBatchRequest,
};
use session_storage::{Pair, Remote, StoreError};
use tokio::runtime::Handle;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::host::remote::{Pages, READS_AT_ONCE, failed, scan, wait};

/// The database of one chain.
#[derive(Clone)]
pub(super) struct HostDatabase {
    client: DatabaseClient<Channel>,
    runtime: Handle,
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

/// An iterator in the node.
struct Iterator<'a> {
    client: &'a mut DatabaseClient<Channel>,
    id: u64,
}

impl Pages for Iterator<'_> {
    async fn next(&mut self) -> Result<Vec<Pair>, StoreError> {
        let request = IteratorNextRequest { id: self.id };
        let page = self.client.iterator_next(request).await;
        let page = page.map_err(status("list"))?.into_inner().data.into_iter();
        let pair = |PutRequest { key, value }| (key.into(), value.into());
        Ok(page.map(pair).collect())
    }

    async fn end(&mut self) -> Result<(), StoreError> {
        let request = IteratorErrorRequest { id: self.id };
        let end = self.client.iterator_error(request).await;
        code("list", end.map_err(status("list"))?.into_inner().err).map(drop)
    }
}

impl Remote for HostDatabase {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        wait(
            &self.runtime,
            "read",
            get(self.client.clone(), key.to_vec()),
        )
    }

    fn get_many(&self, keys: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let (client, keys) = (self.client.clone(), keys.to_vec());
        wait(&self.runtime, "read", async move {
            let reads = keys.into_iter().map(|key| get(client.clone(), key));
            stream::iter(reads)
                .buffered(READS_AT_ONCE)
                .try_collect()
                .await
        })
    }

    fn scan(&self, from: &[u8], to: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let mut client = self.client.clone();
        let (start, to) = (Bytes::copy_from_slice(from), to.to_vec());
        // All keys of a range begin with the byte of its table.
        let prefix = Bytes::copy_from_slice(from.get(..1).unwrap_or_default());
        wait(&self.runtime, "list", async move {
            let request = NewIteratorWithStartAndPrefixRequest { start, prefix };
            let made = client.new_iterator_with_start_and_prefix(request).await;
            let id = made.map_err(status("list"))?.into_inner().id;
            let mut pages = Iterator {
                client: &mut client,
                id,
            };
            let found = scan(&mut pages, &to, limit).await;
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
        wait(&self.runtime, "write", async move {
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
