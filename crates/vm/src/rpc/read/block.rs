//! Blocks, and the signed head.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use session_chain::block::StoredBlock;
use session_chain::view::ViewError;
use session_core::codec::{Decode, Encode};
use session_core::ids::BlockId;

use super::put;
use crate::head::Head;
use crate::rpc::error::{INTERNAL, NOT_FOUND, RpcError};
use crate::rpc::method::{Context, Params, Reply, parse_id, reply};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct BlockParams {
    height: Option<u64>,
    block_id: Option<String>,
    transactions: bool,
}

pub(in crate::rpc) fn get_block(context: &Context, head: &Head, params: Params<'_>) -> Reply {
    let params: BlockParams = params.parse()?;
    let unknown = || RpcError::new(NOT_FOUND, "unknown block");
    let id: BlockId = match (&params.block_id, params.height) {
        (Some(id), _) => parse_id("blockId", id)?,
        (None, height) => {
            let height = height.unwrap_or(head.header.height);
            context.node.at_height(head, height)?.ok_or_else(unknown)?.0
        }
    };
    let genesis = context
        .node
        .at_height(head, 0)?
        .filter(|(found, _)| *found == id);
    let stored = match context.node.stored_block(head, &id)? {
        Some(stored) => StoredBlock::from_bytes(&stored).map_err(ViewError::Damaged)?,
        None => StoredBlock {
            header: genesis.ok_or_else(unknown)?.1,
            items: Vec::new(),
        },
    };
    let header = stored.header;
    let mut result = json!({
        "id": id,
        "parent": header.parent,
        "height": header.height,
        "timestamp": header.time.to_string(),
        "count": header.count,
        "txRoot": const_hex::encode(header.tx_root),
        "stateRoot": const_hex::encode(header.state_root),
        "header": const_hex::encode(header.to_bytes()),
    });
    if params.transactions {
        let block = stored.restore(&head.view())?;
        put(&mut result, "pruned", json!(block.is_none()));
        let txs = block.map(|block| {
            let txs = block.txs.iter();
            txs.map(|tx| BASE64.encode(tx.to_bytes()))
                .collect::<Vec<_>>()
        });
        put(&mut result, "transactions", json!(txs));
    }
    reply(&result)
}

pub(in crate::rpc) fn get_head(context: &Context, head: &Head) -> Reply {
    let signed = context
        .node
        .sign_head(head)
        .map_err(|error| RpcError::new(INTERNAL, error.to_string()))?;
    let key = context.node.head_key();
    reply(&json!({
        "chain": context.node.chain(),
        "height": head.header.height,
        "id": head.id,
        "header": const_hex::encode(head.header.to_bytes()),
        "signedHead": BASE64.encode(signed.to_bytes()),
        "signedAt": signed.signed_at.to_string(),
        "headKey": const_hex::encode(key.public_key().as_ref()),
        "certificate": key.certificate().map(|c| const_hex::encode(c.signature.as_bytes())),
        "rootKey": key.root_key().map(|key| const_hex::encode(key.as_ref())),
    }))
}
