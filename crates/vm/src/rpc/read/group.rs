//! A group as the chain knows it, and its public keys.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::view::{
    Table, View, ViewError, group_admin_key, group_control_key, group_posting_key,
};
use session_core::group::{Group, Standing};
use session_core::ids::{Digest, GroupId};
use session_core::record::RecordKey;

use super::put;
use crate::head::Head;
use crate::rpc::error::{NOT_FOUND, RpcError};
use crate::rpc::method::{Context, Params, Reply, parse_id, reply};
use crate::rpc::proof::{signed_proof, state_at};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct GroupParams {
    group_id: String,
    proof: bool,
    height: Option<u64>,
}

fn key(head: &Head, cell: &[u8]) -> Result<String, RpcError> {
    let bytes = head.view().get(Table::Keys, cell)?;
    let bytes = bytes.ok_or(ViewError::Missing(Table::Keys))?;
    Ok(const_hex::encode(bytes))
}

pub(in crate::rpc) fn get_group(context: &Context, head: &Arc<Head>, params: Params<'_>) -> Reply {
    let params: GroupParams = params.parse()?;
    // The next block's time: an idle chain must not show what has closed as open. A past state is
    // shown as of its own time.
    let now = match params.height {
        Some(_) => None,
        None => Some(context.node.now()),
    };
    let head = &*state_at(context, head, params.height)?;
    let id: GroupId = parse_id("groupId", &params.group_id)?;
    let group: Option<Group> = head.record(&RecordKey::Group(id))?;
    let group = group.ok_or_else(|| RpcError::new(NOT_FOUND, "unknown group"))?;
    let time = now.map_or(head.header.time, |now| head.header.time.max(now));
    let (status, successor) = match group.standing(time) {
        Standing::Open => ("open", None),
        Standing::Idle => ("closed", None),
        Standing::Superseded(successor) => ("superseded", Some(successor)),
    };
    let hex = |digest: &Digest| const_hex::encode(digest.as_bytes());
    let past = group.past.iter().map(|past| {
        json!({
            "epoch": past.epoch,
            "postingKeyHash": hex(&past.posting),
            "ended": past.ended.to_string(),
        })
    });
    let past: Vec<Value> = past.collect();
    let mut admins = Vec::with_capacity(group.admins.len());
    for admin in &group.admins {
        admins.push(key(head, &group_admin_key(&id, admin))?);
    }
    let mut result = json!({ "group": {
        "id": id,
        "sponsor": group.sponsor,
        "created": group.created.to_string(),
        "lastPost": group.last_post.to_string(),
        "lastAdvance": group.last_advance.map(|time| time.to_string()),
        "ends": group.end().to_string(),
        "status": status,
        "successor": successor,
        "invitation": group.succession.and_then(|succession| succession.invitation),
        "mode": group.mode.as_str(),
        "epoch": group.epoch,
        "floor": group.floor,
        "commitHash": hex(&group.commit),
        "postingKey": key(head, &group_posting_key(&id, group.epoch))?,
        "controlKey": key(head, &group_control_key(&id))?,
        "adminKeys": admins,
        "past": past,
        "budget": group.budget,
        "reserve": group.reserve,
        "entries": group.log.count(),
    }});
    if params.proof {
        let key = RecordKey::Group(id);
        let proof = signed_proof(context, head, |state| state.prove_record(key))?;
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}
