//! Delivery confirmations.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use session_chain::sweep::acknowledgements_prefix;
use session_chain::view::{Table, View, ViewError, prefix_end};
use session_core::codec::Decode;
use session_core::record::{Acknowledgement, RecordKey};

use super::{message_count, put};
use crate::head::Head;
use crate::rpc::error::RpcError;
use crate::rpc::method::{Context, Params, Reply, parse_account, parse_conversation, reply};
use crate::rpc::proof::{signed_proof, state_at};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ReceiptParams {
    session_id: String,
    channel_id: String,
    account: Option<String>,
    proof: bool,
    height: Option<u64>,
}

pub(in crate::rpc) fn get_receipts(
    context: &Context,
    head: &Arc<Head>,
    params: Params<'_>,
) -> Reply {
    let params: ReceiptParams = params.parse()?;
    let head = &*state_at(context, head, params.height)?;
    let conversation = parse_conversation(&params.session_id, &params.channel_id, "")?;
    message_count(head, &conversation)?;
    let account = params
        .account
        .as_deref()
        .map(|text| parse_account("account", text))
        .transpose()?;
    if params.proof && account.is_none() {
        return Err(RpcError::param(
            "account",
            "a proof is about one account's receipt",
        ));
    }
    let prefix = acknowledgements_prefix(&conversation);
    let cells = head
        .view()
        .range(Table::Record, &prefix, &prefix_end(&prefix), 1_000)?;
    let mut receipts = Vec::new();
    for (key, record) in cells {
        let key = RecordKey::from_bytes(&key).map_err(ViewError::Damaged)?;
        let acknowledged = Acknowledgement::from_bytes(&record).map_err(ViewError::Damaged)?;
        if let RecordKey::Acknowledgement(_, by) = key
            && account.is_none_or(|account| account == by)
        {
            receipts.push(json!({
                "account": by,
                "upTo": acknowledged.up_to,
                "timestamp": acknowledged.time.to_string(),
            }));
        }
    }
    let mut result = json!({ "receipts": receipts });
    if let (true, Some(account)) = (params.proof, account) {
        let key = RecordKey::Acknowledgement(conversation, account);
        let proof = signed_proof(context, head, |state| state.prove_record(key))?;
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}
