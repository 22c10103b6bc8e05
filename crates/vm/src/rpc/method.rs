//! The methods: dispatch, and everything that reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::{Value, json};
use session_core::ids::AccountId;
use session_core::log::Conversation;
use session_core::record::Outcome;

use super::error::{METHOD_NOT_FOUND, RpcError};
use super::{proof, read, write};
use crate::node::Node;

/// What a call has to work with.
#[derive(Clone)]
pub struct Context {
    /// The node.
    pub node: Arc<Node>,
}

/// Parameters as they came.
#[derive(Clone, Copy)]
pub(super) struct Params<'a> {
    raw: &'a str,
    lenient: bool,
}

impl<'a> Params<'a> {
    /// Exact names.
    pub(super) const fn strict(raw: &'a str) -> Self {
        Self {
            raw,
            lenient: false,
        }
    }

    /// As Go reads them: names in any case, and what cannot be checked is not complained about.
    pub(super) const fn lenient(raw: &'a str) -> Self {
        Self { raw, lenient: true }
    }

    pub(super) const fn is_lenient(&self) -> bool {
        self.lenient
    }

    pub(super) fn parse<T: DeserializeOwned>(&self) -> Result<T, RpcError> {
        let parsed = match self.renamed() {
            Some(renamed) => serde_json::from_value(renamed),
            None => serde_json::from_str(self.raw),
        };
        let problem = |problem: serde_json::Error| {
            RpcError::new(super::error::INVALID_PARAMS, problem.to_string())
        };
        parsed.map_err(problem)
    }

    /// The parameters under their own names, where a lenient caller wrote one in another case.
    fn renamed(&self) -> Option<Value> {
        if !self.lenient {
            return None;
        }
        // Most calls need no renaming, and values are not read to find that out.
        let names: BTreeMap<String, IgnoredAny> = serde_json::from_str(self.raw).ok()?;
        // Names are camelCase with at most one hump each, so lower case tells them apart.
        let known = super::openrpc::param_names();
        let same = |name: &str| known.iter().find(|known| known.eq_ignore_ascii_case(name));
        if !names
            .keys()
            .any(|name| same(name).is_some_and(|same| same != name))
        {
            return None;
        }
        let map: serde_json::Map<String, Value> = serde_json::from_str(self.raw).ok()?;
        let renamed = map.into_iter().map(|(name, value)| match same(&name) {
            Some(same) => ((*same).to_owned(), value),
            None => (name, value),
        });
        Some(Value::Object(renamed.collect()))
    }
}

/// Whether there is a method of that name.
pub(super) fn exists(method: &str) -> bool {
    super::openrpc::METHODS
        .iter()
        .any(|known| known.name == method)
}

pub(super) type Reply = Result<String, RpcError>;

pub(super) fn reply(value: &Value) -> Reply {
    Ok(value.to_string())
}

/// Calls a method; the result is JSON text.
pub(super) async fn call(context: &Context, method: &str, params: Params<'_>) -> Reply {
    let metrics = context.node.metrics();
    metrics.calls.fetch_add(1, Ordering::Relaxed);
    let result = dispatch(context, method, params).await;
    if result.is_err() {
        metrics.call_errors.fetch_add(1, Ordering::Relaxed);
    }
    result
}

async fn dispatch(context: &Context, method: &str, params: Params<'_>) -> Reply {
    let head = context.node.head();
    match method {
        "sessionvm.CreateSession" => write::create_session(context, params).await,
        "sessionvm.SendMessage" => write::send_message(context, params).await,
        "sessionvm.CloseSession" => write::close_session(context, params).await,
        "sessionvm.Submit" => write::submit(context, params).await,
        "sessionvm.GetMessages" => read::get_messages(context, params).await,
        "sessionvm.GetSession" => read::get_session(context, &head, params),
        "sessionvm.GetChannel" => read::get_channel(&head, params),
        "sessionvm.GetGroup" => read::get_group(context, &head, params),
        "sessionvm.GetKeyPackages" => read::get_key_packages(context, &head, params),
        "sessionvm.GetTakenKeyPackages" => read::get_taken_key_packages(context, &head, params),
        "sessionvm.GetMessage" => read::get_message(&head, params),
        "sessionvm.GetIdentity" => read::get_identity(context, &head, params),
        "sessionvm.ListSessions" => read::list_sessions(context, &head, params).await,
        "sessionvm.GetReceipts" => read::get_receipts(context, &head, params),
        "sessionvm.GetProof" => proof::get_proof(context, &head, params).await,
        "sessionvm.GetBlock" => read::get_block(context, &head, params),
        "sessionvm.GetHead" => read::get_head(context, &head),
        "sessionvm.GetAction" => read::get_action(context, &head, params),
        "sessionvm.GetChunk" => read::get_chunk(&head, params),
        "sessionvm.GetRotations" => super::rotation::get_rotations(&head, params),
        "sessionvm.GetParameters" => read::get_parameters(context, &head, params),
        "sessionvm.Health" => read::health(context),
        _ => Err(RpcError::new(
            METHOD_NOT_FOUND,
            format!("no method {method}"),
        )),
    }
}

pub(super) fn parse_id<T: std::str::FromStr<Err = session_core::cb58::Cb58Error>>(
    name: &'static str,
    text: &str,
) -> Result<T, RpcError> {
    text.parse().map_err(|error| RpcError::from((name, error)))
}

pub(super) fn parse_conversation(
    session: &str,
    channel: &str,
    group: &str,
) -> Result<Conversation, RpcError> {
    if !group.is_empty() {
        Ok(Conversation::Group(parse_id("groupId", group)?))
    } else if channel.is_empty() {
        Ok(Conversation::Session(parse_id("sessionId", session)?))
    } else {
        Ok(Conversation::Channel(parse_id("channelId", channel)?))
    }
}

/// The parameter that names a conversation, and its id.
pub(super) fn name_of(conversation: &Conversation) -> (&'static str, String) {
    match conversation {
        Conversation::Session(id) => ("sessionId", id.to_string()),
        Conversation::Channel(id) => ("channelId", id.to_string()),
        Conversation::Group(id) => ("groupId", id.to_string()),
    }
}

/// An account by CB58, or by its `07…` or `05…` id.
pub(super) fn parse_account(name: &'static str, text: &str) -> Result<AccountId, RpcError> {
    match text.parse::<session_crypto::IdentityId>() {
        Ok(id) => Ok(id.account_id()),
        Err(_) => parse_id(name, text),
    }
}

/// An outcome as JSON.
pub(super) fn outcome_json(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Done => json!({}),
        Outcome::Session(id) => json!({ "sessionId": id }),
        Outcome::Channel(id) => json!({ "channelId": id }),
        Outcome::Sequence(n) => json!({ "sequence": n }),
        Outcome::Chunk(id) => json!({ "chunkId": id }),
        Outcome::Group(id) => json!({ "groupId": id }),
        Outcome::KeyPackages {
            one_time,
            last_resort,
        } => json!({ "oneTime": one_time, "lastResort": last_resort }),
    }
}
