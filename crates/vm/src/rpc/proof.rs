//! Proofs, of the last accepted block or of one whose state is still kept.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use session_chain::proof::{MakeError, State};
use session_core::codec::Encode;
use session_core::ids::{ActionId, ChannelId};
use session_core::log::LogId;
use session_core::proof::Proof;
use session_core::record::RecordKey;

use super::error::{INTERNAL, NOT_FOUND, RpcError, VERSION_NOT_KEPT};
use super::method::{Context, Params, Reply, parse_account, parse_id, reply};
use super::read::PAGE_MAX;
use crate::head::Head;

/// A proof of so few entries is made where the call is served: the parts of tiles beside them,
/// which a proof of one needs as well, are more work than the entries. A crowd of readers who all
/// wait for the next message is no flood.
const INLINE_MAX: u64 = 100;

/// The state that a call asks for: the last accepted block's, or an older one that is kept.
pub(super) fn state_at(
    context: &Context,
    head: &Arc<Head>,
    height: Option<u64>,
) -> Result<Arc<Head>, RpcError> {
    let Some(height) = height else {
        return Ok(head.clone());
    };
    if height > head.header.height {
        return Err(RpcError::new(NOT_FOUND, "no block has that height yet"));
    }
    context.node.past(head, height).ok_or_else(|| {
        let oldest = context.node.oldest_version();
        RpcError {
            data: Some(json!({ "oldest": oldest, "head": head.header.height })),
            ..RpcError::new(VERSION_NOT_KEPT, "version not kept")
        }
    })
}

/// A proof in base64. The last block's has a fresh head signature; a past one's says its own
/// time, and has none where the head key no longer signs such an old one.
pub(super) fn signed_proof(
    context: &Context,
    head: &Head,
    make: impl FnOnce(&State<'_>) -> Result<Proof, MakeError>,
) -> Result<String, RpcError> {
    let heads = match context.node.sign_head(head) {
        Ok(signed) => vec![signed],
        Err(error) if head.is_last() => {
            tracing::error!(%error, "signing a head failed");
            return Err(RpcError::new(INTERNAL, error.to_string()));
        }
        Err(_) => Vec::new(),
    };
    let proof = head.with_state(heads, make)?;
    Ok(BASE64.encode(proof.to_bytes()))
}

/// A proof of entries of a log, in base64. What takes long is made by the [prover].
///
/// [prover]: crate::prover
pub(super) async fn log_proof(
    context: &Context,
    head: &Arc<Head>,
    log: LogId,
    from: u64,
    to: u64,
) -> Result<String, RpcError> {
    if to.saturating_sub(from) <= INLINE_MAX {
        return signed_proof(context, head, |state| state.prove_log(log, from, to));
    }
    let made = context.node.prover().run({
        let (context, head) = (context.clone(), head.clone());
        move || signed_proof(&context, &head, |state| state.prove_log(log, from, to))
    });
    made.await.unwrap_or_else(|error| {
        let refused = &context.node.metrics().proofs_refused;
        refused.fetch_add(1, Ordering::Relaxed);
        Err(error.into())
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ProofParams {
    session_id: Option<String>,
    channel_id: Option<String>,
    group_id: Option<String>,
    account: Option<String>,
    action: Option<String>,
    chunk_id: Option<String>,
    log: String,
    from: u64,
    to: Option<u64>,
    height: Option<u64>,
}

impl ProofParams {
    /// The record that is asked for, and the log that it has.
    fn subject(&self) -> Result<(RecordKey, Option<LogId>), RpcError> {
        if let (Some(channel), Some(account)) = (&self.channel_id, &self.account) {
            let channel: ChannelId = parse_id("channelId", channel)?;
            let account = parse_account("account", account)?;
            return Ok((RecordKey::Member(channel, account), None));
        }
        if let Some(id) = &self.session_id {
            let id = parse_id("sessionId", id)?;
            return Ok((RecordKey::Session(id), Some(LogId::Session(id))));
        }
        if let Some(id) = &self.channel_id {
            let id = parse_id("channelId", id)?;
            return Ok((RecordKey::Channel(id), Some(LogId::Channel(id))));
        }
        if let Some(id) = &self.group_id {
            let id = parse_id("groupId", id)?;
            return Ok((RecordKey::Group(id), Some(LogId::Group(id))));
        }
        if let Some(id) = &self.account {
            let id = parse_account("account", id)?;
            let log = match self.log.as_str() {
                "requests" => LogId::Requests(id),
                _ => LogId::Memberships(id),
            };
            return Ok((RecordKey::Account(id), Some(log)));
        }
        if let Some(id) = &self.action {
            let id: ActionId = parse_id("action", id)?;
            return Ok((RecordKey::Action(id), None));
        }
        if let Some(id) = &self.chunk_id {
            return Ok((RecordKey::Chunk(parse_id("chunkId", id)?), None));
        }
        let message = "one of sessionId, channelId, groupId, account, action or chunkId is needed";
        Err(RpcError::new(super::error::INVALID_PARAMS, message))
    }
}

pub(super) async fn get_proof(context: &Context, head: &Arc<Head>, params: Params<'_>) -> Reply {
    let params: ProofParams = params.parse()?;
    let (key, log) = params.subject()?;
    let head = state_at(context, head, params.height)?;
    let a_range = params.to.is_some() || params.from > 0;
    let to = params
        .to
        .unwrap_or_else(|| params.from.saturating_add(PAGE_MAX));
    let proof = match log {
        Some(log) if a_range => log_proof(context, &head, log, params.from, to).await?,
        Some(_) | None => signed_proof(context, &head, |state| state.prove_record(key))?,
    };
    reply(&json!({ "proof": proof, "height": head.header.height }))
}
