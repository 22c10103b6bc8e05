//! Accepted actions, chunks, and the parameters of the chain.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use session_chain::view::{Table, View};
use session_core::ids::{ActionId, ChunkId};
use session_core::parameters::Admission;
use session_core::record::{Action, Chunk, RecordKey};

use super::put;
use crate::head::Head;
use crate::rpc::error::{NOT_FOUND, PRUNED, RpcError};
use crate::rpc::method::{Context, Params, Reply, outcome_json, parse_id, reply};
use crate::rpc::proof::{signed_proof, state_at};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ActionParams {
    action: String,
    proof: bool,
    height: Option<u64>,
}

pub(in crate::rpc) fn get_action(context: &Context, head: &Arc<Head>, params: Params<'_>) -> Reply {
    let params: ActionParams = params.parse()?;
    let head = &*state_at(context, head, params.height)?;
    let id: ActionId = parse_id("action", &params.action)?;
    let key = RecordKey::Action(id);
    let action: Option<Action> = head.record(&key)?;
    let mut result = match action {
        Some(action) => json!({
            "accepted": true,
            "txId": action.tx,
            "height": action.height,
            "outcome": outcome_json(&action.outcome),
        }),
        None => json!({ "accepted": false }),
    };
    if params.proof {
        let proof = signed_proof(context, head, |state| state.prove_record(key))?;
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ChunkParams {
    chunk_id: String,
}

pub(in crate::rpc) fn get_chunk(head: &Head, params: Params<'_>) -> Reply {
    let params: ChunkParams = params.parse()?;
    let id: ChunkId = parse_id("chunkId", &params.chunk_id)?;
    let chunk: Option<Chunk> = head.record(&RecordKey::Chunk(id))?;
    let chunk = chunk.ok_or_else(|| RpcError::new(NOT_FOUND, "unknown chunk"))?;
    let bytes = head.view().get(Table::Body, id.as_bytes())?;
    let bytes = bytes.ok_or_else(|| RpcError::new(PRUNED, "pruned"))?;
    reply(&json!({
        "chunkId": id,
        "bytes": BASE64.encode(bytes),
        "owner": chunk.owner,
        "expires": chunk.expires.to_string(),
    }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ParametersParams {
    proof: bool,
}

pub(in crate::rpc) fn get_parameters(context: &Context, head: &Head, params: Params<'_>) -> Reply {
    let params: ParametersParams = params.parse()?;
    let parameters = context.node.parameters();
    let mut result = json!({
        "chain": context.node.chain(),
        "sessionTTL": parameters.session_ttl_ms / 1_000,
        "maxMessages": parameters.max_messages,
        "maxChannels": parameters.max_channels,
        "retentionDays": parameters.retention_ms / session_core::time::DAY_MS,
        "idPrefix": "07",
        "admission": match parameters.admission {
            Admission::Open => "open",
            Admission::Signed => "signed",
        },
        "allowLegacy": parameters.allow_legacy,
        "price": parameters.price,
        "rootKey": parameters.root_key,
    });
    if params.proof {
        let key = RecordKey::Parameters;
        let proof = signed_proof(context, head, |state| state.prove_record(key))?;
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}
