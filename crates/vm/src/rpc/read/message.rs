//! Messages of a conversation, by number and by id.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use session_chain::tx::message::BatchAuth;
use session_chain::view::{
    Table, View, ViewError, batch_key, entry_key, first_entry, message_place,
};
use session_core::channel::Channel;
use session_core::codec::Decode;
use session_core::group::Group;
use session_core::log::{Conversation, Entry, LogId};
use session_core::session::Session;

use super::{PAGE_MAX, put};
use crate::head::Head;
use crate::rpc::error::{NOT_FOUND, PRUNED, RpcError, UNKNOWN_SESSION};
use crate::rpc::json::{BatchJson, EntryJson};
use crate::rpc::method::{Context, Params, Reply, name_of, parse_conversation, parse_id, reply};
use crate::rpc::proof::{log_proof, state_at};

/// Bytes of message bodies in one reply, at least one message: what lies beyond waits for the next
/// call. In hex, and once more while JSON is made of it, they are several megabytes.
const REPLY_BODIES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConversationParams {
    session_id: String,
    channel_id: String,
    group_id: String,
    from: u64,
    limit: u64,
    wait_ms: u64,
    proof: bool,
    height: Option<u64>,
}

impl Default for ConversationParams {
    fn default() -> Self {
        let text = String::new;
        Self {
            session_id: text(),
            channel_id: text(),
            group_id: text(),
            from: 0,
            limit: 100,
            wait_ms: 0,
            proof: false,
            height: None,
        }
    }
}

/// Messages in a conversation's log.
pub(in crate::rpc) fn message_count(
    head: &Head,
    conversation: &Conversation,
) -> Result<u64, RpcError> {
    let count = match conversation {
        Conversation::Session(_) => head
            .record::<Session>(&conversation.record())?
            .map(|session| session.log.count()),
        Conversation::Channel(_) => head
            .record::<Channel>(&conversation.record())?
            .map(|channel| channel.log.count()),
        Conversation::Group(_) => head
            .record::<Group>(&conversation.record())?
            .map(|group| group.log.count()),
    };
    count.ok_or_else(|| match conversation {
        Conversation::Session(_) => RpcError::new(UNKNOWN_SESSION, "unknown session"),
        Conversation::Channel(_) => RpcError::new(NOT_FOUND, "unknown channel"),
        Conversation::Group(_) => RpcError::new(NOT_FOUND, "unknown group"),
    })
}

/// A page of messages, and the sequence number after it.
pub(in crate::rpc) fn read_messages(
    head: &Head,
    conversation: &Conversation,
    from: u64,
    limit: u64,
) -> Result<(Vec<EntryJson>, Vec<BatchJson>, u64), RpcError> {
    let log = conversation.log();
    let view = head.view();
    let end = message_count(head, conversation)?;
    let to = from.saturating_add(limit.min(PAGE_MAX)).min(end).max(from);
    let limit = usize::try_from(to - from).unwrap_or(usize::MAX);
    let entries = view.range(
        Table::Entry,
        &entry_key(&log, from),
        &entry_key(&log, to),
        limit,
    )?;
    // Leaves go from the front, so what is missing is missing there.
    if entries.len() < limit {
        let first = first_entry(&view, &log)?.map_or(end, |(first, _)| first);
        return Err(RpcError::pruned(first));
    }
    let mut messages = Vec::with_capacity(entries.len());
    let mut batches: Vec<BatchJson> = Vec::new();
    let (mut next, mut bytes) = (from, 0);
    for (cell, entry) in entries {
        let entry = Entry::from_bytes(&entry).map_err(ViewError::Damaged)?;
        let body = view.get(Table::Body, &cell)?;
        let Some(message) = EntryJson::of(&entry, body).map_err(ViewError::Damaged)? else {
            continue;
        };
        bytes += message.content_bytes();
        if bytes > REPLY_BODIES_MAX && !messages.is_empty() {
            break;
        }
        if let Some(first) = message.batch()
            && batches.last().is_none_or(|batch| batch.first != first)
            && let Some(auth) = view.get(Table::Body, &batch_key(&log, first))?
        {
            let auth = BatchAuth::from_bytes(&auth).map_err(ViewError::Damaged)?;
            batches.push(BatchJson::of(first, auth));
        }
        next = entry.sequence() + 1;
        messages.push(message);
    }
    Ok((messages, batches, next))
}

/// The head that has a message at `from`, or the one there is when the wait is over.
async fn wait_for_messages(
    context: &Context,
    conversation: &Conversation,
    from: u64,
    wait_ms: u64,
) -> Result<Arc<Head>, RpcError> {
    let mut heads = context.node.heads();
    let wait = Duration::from_millis(wait_ms).min(context.node.wait_max());
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let head = heads.borrow_and_update().clone();
        if message_count(&head, conversation)? > from || wait.is_zero() {
            return Ok(head);
        }
        match tokio::time::timeout_at(deadline, heads.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ok(head),
        }
    }
}

pub(in crate::rpc) async fn get_messages(context: &Context, params: Params<'_>) -> Reply {
    let params: ConversationParams = params.parse()?;
    let conversation =
        parse_conversation(&params.session_id, &params.channel_id, &params.group_id)?;
    let head = match params.height {
        // Nothing comes later in a past state.
        Some(_) => state_at(context, &context.node.head(), params.height)?,
        None => wait_for_messages(context, &conversation, params.from, params.wait_ms).await?,
    };
    let (messages, batches, next) = read_messages(&head, &conversation, params.from, params.limit)?;
    let mut result = json!({ "messages": messages, "next": next });
    if !batches.is_empty() {
        put(&mut result, "batches", json!(batches));
    }
    if params.proof {
        let log = conversation.log();
        let proof = log_proof(context, &head, log, params.from, next).await?;
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct MessageParams {
    message_id: String,
}

pub(in crate::rpc) fn get_message(head: &Head, params: Params<'_>) -> Reply {
    let params: MessageParams = params.parse()?;
    let id = parse_id("messageId", &params.message_id)?;
    let place = message_place(&head.view(), &id)?;
    let (log, sequence) = place.ok_or_else(|| RpcError::new(NOT_FOUND, "unknown message"))?;
    let conversation = match log {
        LogId::Session(id) => Conversation::Session(id),
        LogId::Channel(id) => Conversation::Channel(id),
        LogId::Group(id) => Conversation::Group(id),
        LogId::Memberships(_) | LogId::Requests(_) => {
            return Err(RpcError::new(NOT_FOUND, "unknown message"));
        }
    };
    let (messages, batches, _) = read_messages(head, &conversation, sequence, 1)?;
    let (kind, conversation) = name_of(&conversation);
    let message = messages.into_iter().next();
    let message = message.ok_or_else(|| RpcError::new(PRUNED, "pruned"))?;
    reply(&json!({ "message": message, "batches": batches, kind: conversation }))
}
