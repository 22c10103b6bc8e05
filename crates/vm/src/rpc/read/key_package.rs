//! Key packages: how many an account has left, and what one account took of another.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::view::{Table, View, ViewError, taken_key_package_key};
use session_core::ids::AccountId;
use session_core::key_package::{KeyPackages, TakenKeyPackages};
use session_core::record::RecordKey;

use super::put;
use crate::head::Head;
use crate::rpc::error::RpcError;
use crate::rpc::method::{Context, Params, Reply, parse_account, reply};
use crate::rpc::proof::{signed_proof, state_at};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct KeyPackageParams {
    account: String,
    taker: String,
    proof: bool,
    height: Option<u64>,
}

fn with_proof(
    mut result: Value,
    wanted: bool,
    context: &Context,
    head: &Head,
    key: RecordKey,
) -> Reply {
    if wanted {
        let proof = signed_proof(context, head, |state| state.prove_record(key))?;
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}

/// Packages that would be given now, device by device. Their bytes are given to takers only.
pub(in crate::rpc) fn get_key_packages(
    context: &Context,
    head: &Arc<Head>,
    params: Params<'_>,
) -> Reply {
    let params: KeyPackageParams = params.parse()?;
    let head = &*state_at(context, head, params.height)?;
    let account: AccountId = parse_account("account", &params.account)?;
    let key = RecordKey::KeyPackages(account);
    let packages: Option<KeyPackages> = head.record(&key)?;
    let mut packages = packages.unwrap_or_default();
    // As of the state's time: what has expired since is not counted as left.
    let now = params
        .height
        .map_or_else(|| context.node.now(), |_| head.header.time);
    packages.expire(head.header.time.max(now));
    let devices = packages.devices.iter().map(|device| {
        let ids: Vec<_> = device.one_time.iter().map(|package| package.id).collect();
        json!({
            "device": device.id,
            "oneTime": ids.len(),
            "oneTimeIds": ids,
            "lastResort": device.last_resort.is_some(),
            "lastResortId": device.last_resort.map(|package| package.id),
            "expires": device.packages().map(|package| package.expires).max()
                .map(|time| time.to_string()),
        })
    });
    let devices: Vec<Value> = devices.collect();
    let result = json!({ "account": account, "devices": devices });
    with_proof(result, params.proof, context, head, key)
}

/// What one account took of another within the last day.
pub(in crate::rpc) fn get_taken_key_packages(
    context: &Context,
    head: &Arc<Head>,
    params: Params<'_>,
) -> Reply {
    let params: KeyPackageParams = params.parse()?;
    let account: AccountId = parse_account("account", &params.account)?;
    let taker: AccountId = parse_account("taker", &params.taker)?;
    if params.height.is_some() {
        // Their bytes are those of the last block.
        return Err(RpcError::param("height", "only the last state has them"));
    }
    let key = RecordKey::TakenKeyPackages(taker, account);
    let taken: Option<TakenKeyPackages> = head.record(&key)?;
    let mut packages = Vec::new();
    for (position, package) in (0u8..).zip(taken.iter().flat_map(|taken| &taken.packages)) {
        let cell = taken_key_package_key(&taker, &account, position);
        let bytes = head.view().get(Table::Body, &cell)?;
        let bytes = bytes.ok_or(ViewError::Missing(Table::Body))?;
        packages.push(json!({
            "device": package.device,
            "packageId": package.package,
            "lastResort": package.last_resort,
            "bytes": BASE64.encode(bytes),
        }));
    }
    let result = json!({
        "account": account,
        "taker": taker,
        "expires": taken.map(|taken| taken.expires.to_string()),
        "packages": packages,
    });
    with_proof(result, params.proof, context, head, key)
}
