//! How the node is.

use std::sync::atomic::Ordering;

use serde_json::{Value, json};

use crate::rpc::method::{Context, Reply, reply};

/// What `Health` answers.
pub(in crate::rpc) fn health_json(context: &Context) -> Value {
    let healthy = matches!(context.node.health(), session_storage::Health::Ready);
    let metrics = context.node.metrics();
    json!({
        "healthy": healthy,
        "sessions": metrics.sessions.load(Ordering::Relaxed),
        "channels": metrics.channels.load(Ordering::Relaxed),
        "pending": metrics.pending.load(Ordering::Relaxed),
    })
}

pub(in crate::rpc) fn health(context: &Context) -> Reply {
    reply(&health_json(context))
}
