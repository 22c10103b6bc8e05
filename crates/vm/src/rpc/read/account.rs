//! An account, and the conversations that it takes part in or was asked to join.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use session_chain::view::{Table, View, ViewError, entry_key};
use session_core::account::Account;
use session_core::codec::Decode;
use session_core::log::{Entry, LogId};
use session_core::record::RecordKey;

use super::{PAGE_MAX, put};
use crate::head::Head;
use crate::keys::{PublicKeys, account_keys, identity_id};
use crate::rpc::json::MembershipJson;
use crate::rpc::method::{Context, Params, Reply, parse_account, reply};
use crate::rpc::proof::{log_proof, signed_proof, state_at};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AccountParams {
    account: String,
    participant: String,
    requests: bool,
    from: u64,
    limit: Option<u64>,
    proof: bool,
    height: Option<u64>,
}

pub(in crate::rpc) fn get_identity(
    context: &Context,
    head: &Arc<Head>,
    params: Params<'_>,
) -> Reply {
    let params: AccountParams = params.parse()?;
    let head = &*state_at(context, head, params.height)?;
    let id = parse_account("account", &params.account)?;
    let key = RecordKey::Account(id);
    let account: Option<Account> = head.record(&key)?;
    let mut result = match &account {
        Some(account) => {
            let keys = account_keys(head, &id)?;
            let known_as = match &keys {
                Some(_) => Some(identity_id(head, &id)?),
                None => None,
            };
            let (kem, x25519) = match &keys {
                Some(PublicKeys::PostQuantum(kem, _)) => (Some(kem.0.as_slice()), None),
                Some(PublicKeys::Legacy(_)) => (None, Some(id.as_bytes().as_slice())),
                None => (None, None),
            };
            json!({
                "account": id,
                "identity": known_as,
                "registered": account.keys.is_some(),
                "kemPublicKey": kem.map(const_hex::encode),
                "x25519PublicKey": x25519.map(const_hex::encode),
                "signingPublicKey": keys.as_ref().map(|keys| const_hex::encode(keys.signing())),
                "keyIndex": account.keys.map(|keys| keys.index),
                "revoked": account.revoked.is_some(),
                "revokedAt": account.revoked.map(|revoked| revoked.height),
                "balance": account.balance,
                "memberships": account.memberships.count(),
                "requests": account.requests.count(),
            })
        }
        None => json!({ "account": id, "registered": false }),
    };
    if params.proof {
        let proof = signed_proof(context, head, |state| state.prove_record(key))?;
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}

pub(in crate::rpc) async fn list_sessions(
    context: &Context,
    head: &Arc<Head>,
    params: Params<'_>,
) -> Reply {
    let params: AccountParams = params.parse()?;
    let head = &state_at(context, head, params.height)?;
    let id = parse_account("participant", &params.participant)?;
    let log = if params.requests {
        LogId::Requests(id)
    } else {
        LogId::Memberships(id)
    };
    let limit = params.limit.unwrap_or(PAGE_MAX).min(PAGE_MAX);
    let exists: Option<Account> = head.record(&RecordKey::Account(id))?;
    let end = exists.as_ref().map_or(0, |account| {
        if params.requests {
            account.requests.count()
        } else {
            account.memberships.count()
        }
    });
    let to = params.from.saturating_add(limit).min(end).max(params.from);
    let cells = head.view().range(
        Table::Entry,
        &entry_key(&log, params.from),
        &entry_key(&log, to),
        usize::try_from(limit).unwrap_or(usize::MAX),
    )?;
    let mut entries = Vec::with_capacity(cells.len());
    let mut next = params.from;
    for (_, entry) in cells {
        let entry = Entry::from_bytes(&entry).map_err(ViewError::Damaged)?;
        next = entry.sequence() + 1;
        entries.extend(MembershipJson::of_entry(&entry));
    }
    let mut result = json!({ "entries": entries, "next": next });
    if params.proof {
        let key = RecordKey::Account(id);
        let proof = match exists {
            Some(_) => log_proof(context, head, log, params.from, next).await?,
            None => signed_proof(context, head, |state| state.prove_record(key))?,
        };
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}
