//! How an account's keys came to be the current ones.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use session_chain::tx::Tx;
use session_chain::view::{Table, View, ViewError, rotation_key};
use session_core::account::Account;
use session_core::codec::{Decode, Encode, Reader};
use session_core::record::RecordKey;
use session_core::time::Time;

use super::error::{NOT_FOUND, RpcError};
use super::method::{Params, Reply, parse_account, reply};
use crate::head::Head;
use crate::keys::first_keys;

/// Rotations in one reply: each takes 9 kB in base64.
const PAGE_MAX: u32 = 100;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct RotationParams {
    account: String,
    from: u32,
}

/// The first keys of an account, and its rotations from an index on, each the signed transaction:
/// whoever checks the signatures needs nobody's word for the keys.
pub(super) fn get_rotations(head: &Head, params: Params<'_>) -> Reply {
    let params: RotationParams = params.parse()?;
    let id = parse_account("account", &params.account)?;
    let account: Option<Account> = head.record(&RecordKey::Account(id))?;
    let keys = account.and_then(|account| account.keys);
    let keys = keys.ok_or_else(|| RpcError::new(NOT_FOUND, "the account is not registered"))?;
    let unknown = || RpcError::new(NOT_FOUND, "the rotations of this account were not kept");
    let first = first_keys(head, &id, keys.index)?.ok_or_else(unknown)?;
    let from = params.from.max(1);
    let to = keys.index.min(from.saturating_add(PAGE_MAX - 1));
    let mut rotations = Vec::new();
    for index in from..=to {
        let cell = head.view().get(Table::Keys, &rotation_key(&id, index))?;
        let cell = cell.ok_or_else(unknown)?;
        let mut input = Reader::new(&cell);
        let height = input.u64("height").map_err(ViewError::Damaged)?;
        let time = Time::decode(&mut input).map_err(ViewError::Damaged)?;
        let tx = Tx::decode(&mut input).map_err(ViewError::Damaged)?;
        rotations.push(json!({
            "index": index, "height": height, "time": time.ms(),
            "tx": BASE64.encode(tx.to_bytes()),
        }));
    }
    reply(&json!({
        "account": id,
        "keyIndex": keys.index,
        "first": {
            "kemPublicKey": const_hex::encode(first.encryption(&id)),
            "signingPublicKey": const_hex::encode(first.signing()),
        },
        "rotations": rotations,
    }))
}
