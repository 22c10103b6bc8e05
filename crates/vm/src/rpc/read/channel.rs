//! A channel and its members.

use serde::Deserialize;
use serde_json::json;
use session_chain::sweep::members_prefix;
use session_chain::view::{Table, View, ViewError, prefix_end};
use session_core::channel::{Channel, Member};
use session_core::codec::Decode;
use session_core::ids::ChannelId;
use session_core::record::RecordKey;

use crate::head::Head;
use crate::rpc::error::{NOT_FOUND, RpcError};
use crate::rpc::method::{Params, Reply, parse_id, reply};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ChannelParams {
    channel_id: String,
}

pub(in crate::rpc) fn get_channel(head: &Head, params: Params<'_>) -> Reply {
    let params: ChannelParams = params.parse()?;
    let id: ChannelId = parse_id("channelId", &params.channel_id)?;
    let channel: Option<Channel> = head.record(&RecordKey::Channel(id))?;
    let channel = channel.ok_or_else(|| RpcError::new(NOT_FOUND, "unknown channel"))?;
    let prefix = members_prefix(&id);
    let cells = head
        .view()
        .range(Table::Record, &prefix, &prefix_end(&prefix), 1_000)?;
    let mut members = Vec::with_capacity(cells.len());
    for (key, record) in cells {
        let key = RecordKey::from_bytes(&key).map_err(ViewError::Damaged)?;
        let member = Member::from_bytes(&record).map_err(ViewError::Damaged)?;
        if let RecordKey::Member(_, account) = key {
            members.push(json!({
                "account": account,
                "role": member.role.as_str(),
                "accepted": member.accepted,
                "since": member.since.to_string(),
            }));
        }
    }
    reply(&json!({ "channel": {
        "id": id,
        "creator": channel.creator,
        "created": channel.created.to_string(),
        "closed": channel.closed.map(|time| time.to_string()),
        "messages": channel.log.count(),
        "memberCount": channel.members,
        "members": members,
    }}))
}
