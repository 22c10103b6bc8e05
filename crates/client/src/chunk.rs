//! Chunks on the chain: put at an account's cost, looked for by proof, fetched by their ids.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use session_chain::tx::Kind;
use session_chain::tx::chunk::PutChunk;
use session_core::codec::Decode;
use session_core::ids::ChunkId;
use session_core::record::{Chunk, RecordKey};
use session_core::time::Time;
use tokio::task::JoinSet;

use crate::account::Account;
use crate::error::ClientError;
use crate::rpc::{RpcClient, RpcError};
use crate::trust::{TrustError, decode_proof};

/// Chunks that are asked for, or put, at once: eight of 64 KiB are half a megabyte.
pub(crate) const AT_ONCE: usize = 8;

#[derive(Deserialize)]
struct ChunkReply {
    bytes: String,
}

#[derive(Deserialize)]
struct ProofReply {
    proof: String,
}

impl Account {
    /// Stores chunks at this account's cost, and answers their ids.
    pub(crate) async fn put_chunks(
        &mut self,
        chunks: Vec<Vec<u8>>,
    ) -> Result<Vec<ChunkId>, ClientError> {
        let ids = chunks.iter().map(|bytes| PutChunk::id(bytes)).collect();
        let mut txs = Vec::with_capacity(chunks.len());
        for bytes in chunks {
            txs.push(self.sign(Kind::PutChunk(PutChunk { bytes }))?);
        }
        self.submit(txs).await?;
        Ok(ids)
    }

    /// Until when the chain keeps each of these chunks, proved. Those that it does not have are not among
    /// the answers.
    pub(crate) async fn kept_until(
        &mut self,
        ids: &[ChunkId],
    ) -> Result<BTreeMap<ChunkId, Time>, ClientError> {
        let mut kept = BTreeMap::new();
        for some in ids.chunks(AT_ONCE) {
            let mut proofs = Vec::with_capacity(some.len());
            for (id, reply) in all_at_once(&self.rpc, some, proof_of).await? {
                proofs.push((id, decode_proof(&reply?.proof)?));
            }
            // The chain goes on between the answers, and trust never goes back.
            proofs.sort_by_key(|(_, proof)| proof.header.height);
            for (id, mut proof) in proofs {
                let proved = self.believe(&mut proof).await?;
                if proved.key != RecordKey::Chunk(id) {
                    return Err(ClientError::Reply("the proof is about another record"));
                }
                if let Some(record) = proved.record {
                    let chunk = Chunk::from_bytes(&record).map_err(TrustError::from)?;
                    kept.insert(id, chunk.expires);
                }
            }
        }
        Ok(kept)
    }

    /// A chunk, the one that its id names.
    pub(crate) async fn chunk(&self, id: ChunkId) -> Result<Vec<u8>, ClientError> {
        named(id, chunk_of(self.rpc.clone(), id).await?)
    }

    /// At most eight chunks, each the one that its id names, or why it is not to be had.
    pub(crate) async fn chunks(
        &self,
        ids: &[ChunkId],
    ) -> Result<BTreeMap<ChunkId, Result<Vec<u8>, ClientError>>, ClientError> {
        let answers = all_at_once(&self.rpc, ids, chunk_of).await?.into_iter();
        Ok(answers
            .map(|(id, reply)| {
                let reply = reply.map_err(ClientError::from);
                (id, reply.and_then(|reply| named(id, reply)))
            })
            .collect())
    }
}

/// Asks about several chunks at once.
async fn all_at_once<T, F>(
    rpc: &RpcClient,
    ids: &[ChunkId],
    ask: impl Fn(RpcClient, ChunkId) -> F,
) -> Result<Vec<(ChunkId, Result<T, RpcError>)>, ClientError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, RpcError>> + Send + 'static,
{
    let mut asked = JoinSet::new();
    for id in ids.iter().copied() {
        let answer = ask(rpc.clone(), id);
        asked.spawn(async move { (id, answer.await) });
    }
    let mut answers = Vec::with_capacity(ids.len());
    while let Some(answer) = asked.join_next().await {
        // The runtime ends, and the call with it.
        answers.push(answer.map_err(|_| ClientError::Reply("a call was cut off"))?);
    }
    Ok(answers)
}

async fn proof_of(rpc: RpcClient, id: ChunkId) -> Result<ProofReply, RpcError> {
    let params = json!({ "chunkId": id });
    rpc.call("sessionvm.GetProof", params).await
}

async fn chunk_of(rpc: RpcClient, id: ChunkId) -> Result<ChunkReply, RpcError> {
    let params = json!({ "chunkId": id });
    rpc.call("sessionvm.GetChunk", params).await
}

/// The bytes of a reply, if they are those that the id names.
fn named(id: ChunkId, reply: ChunkReply) -> Result<Vec<u8>, ClientError> {
    let bytes = BASE64.decode(&reply.bytes).unwrap_or_default();
    if PutChunk::id(&bytes) != id {
        return Err(ClientError::Reply("a chunk is not the one that was named"));
    }
    Ok(bytes)
}
