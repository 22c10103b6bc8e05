//! How the node is.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use session_chain::view::{Table, View, ViewError, prefix_end};
use session_core::codec::Encode;
use session_core::ids::{ChannelId, SessionId};
use session_core::record::RecordKey;

use crate::head::Head;
use crate::rpc::method::{Context, Reply, reply};

/// Records of a kind, up to a bound: health must not read a million records.
fn count_records(head: &Head, first: &RecordKey, bound: usize) -> Result<usize, ViewError> {
    let prefix: Vec<u8> = first.to_bytes().into_iter().take(1).collect();
    Ok(head
        .view()
        .range(Table::Record, &prefix, &prefix_end(&prefix), bound)?
        .len())
}

/// What `Health` answers.
pub(in crate::rpc) fn health_json(context: &Context, head: &Head) -> Result<Value, ViewError> {
    let healthy = matches!(context.node.health(), session_storage::Health::Ready);
    let sessions = count_records(
        head,
        &RecordKey::Session(SessionId::from_bytes([0; 32])),
        10_000,
    )?;
    let channels = count_records(
        head,
        &RecordKey::Channel(ChannelId::from_bytes([0; 32])),
        10_000,
    )?;
    Ok(json!({
        "healthy": healthy,
        "sessions": sessions,
        "channels": channels,
        "pending": context.node.metrics().pending.load(Ordering::Relaxed),
    }))
}

pub(in crate::rpc) fn health(context: &Context, head: &Head) -> Reply {
    reply(&health_json(context, head)?)
}
