//! The methods that read: one snapshot of the last accepted block each, and its proofs.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::sweep::{acknowledgements_prefix, members_prefix};
use session_chain::tx::message::{BatchAuth, Body};
use session_chain::tx::{KemKey, SigningKey};
use session_chain::view::{
    Table, View, ViewError, batch_key, entry_key, first_entry, message_place, prefix_end,
    session_keys_key,
};
use session_core::account::Account;
use session_core::channel::{Channel, Member};
use session_core::codec::{Decode, Encode, Reader};
use session_core::ids::{AccountId, ActionId, ChannelId, ChunkId, SessionId};
use session_core::limits::PROOF_LEAVES_MAX;
use session_core::log::{Conversation, Entry, LogId};
use session_core::parameters::Admission;
use session_core::record::{Acknowledgement, Action, Chunk, RecordKey};
use session_core::session::{Roster, Session};

use super::error::{NOT_FOUND, PRUNED, RpcError, UNKNOWN_SESSION};
use super::json::{BatchJson, MembershipJson, MessageJson};
use crate::head::Head;
use crate::keys::{PublicKeys, account_keys, identity_id};

use super::proof::{log_proof, signed_proof, state_at};

use super::method::{
    Context, Params, Reply, WAIT_MAX, outcome_json, parse_account, parse_conversation, parse_id,
    reply,
};

/// Entries in one reply at most.
pub(super) const PAGE_MAX: u64 = PROOF_LEAVES_MAX as u64;

/// Bytes of message bodies in one reply, at least one message: what lies beyond waits for the next
/// call. In hex, and once more while JSON is made of it, they are several megabytes.
const REPLY_BODIES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ConversationParams {
    session_id: String,
    channel_id: String,
    from: u64,
    limit: u64,
    wait_ms: u64,
    proof: bool,
    height: Option<u64>,
}

impl Default for ConversationParams {
    fn default() -> Self {
        let text = String::new;
        Self {
            session_id: text(),
            channel_id: text(),
            from: 0,
            limit: 100,
            wait_ms: 0,
            proof: false,
            height: None,
        }
    }
}

/// Messages in a conversation's log.
pub(super) fn message_count(head: &Head, conversation: &Conversation) -> Result<u64, RpcError> {
    let count = match conversation {
        Conversation::Session(_) => head
            .record::<Session>(&conversation.record())?
            .map(|session| session.log.count()),
        Conversation::Channel(_) => head
            .record::<Channel>(&conversation.record())?
            .map(|channel| channel.log.count()),
    };
    count.ok_or_else(|| match conversation {
        Conversation::Session(_) => RpcError::new(UNKNOWN_SESSION, "unknown session"),
        Conversation::Channel(_) => RpcError::new(NOT_FOUND, "unknown channel"),
    })
}

/// A page of messages, and the sequence number after it.
pub(super) fn read_messages(
    head: &Head,
    conversation: &Conversation,
    from: u64,
    limit: u64,
) -> Result<(Vec<MessageJson>, Vec<BatchJson>, u64), RpcError> {
    let log = conversation.log();
    let view = head.view();
    let end = message_count(head, conversation)?;
    let to = from.saturating_add(limit.min(PAGE_MAX)).min(end).max(from);
    let limit = usize::try_from(to - from).unwrap_or(usize::MAX);
    let entries = view.range(
        Table::Entry,
        &entry_key(&log, from),
        &entry_key(&log, to),
        limit,
    )?;
    // Leaves go from the front, so what is missing is missing there.
    if entries.len() < limit {
        let first = first_entry(&view, &log)?.map_or(end, |(first, _)| first);
        return Err(RpcError::pruned(first));
    }
    let mut messages = Vec::with_capacity(entries.len());
    let mut batches: Vec<BatchJson> = Vec::new();
    let (mut next, mut bytes) = (from, 0);
    for (cell, entry) in entries {
        let Entry::Message(entry) = Entry::from_bytes(&entry).map_err(ViewError::Damaged)? else {
            continue;
        };
        let body = view.get(Table::Body, &cell)?;
        let body = body
            .map(|b| Body::from_bytes(&b))
            .transpose()
            .map_err(ViewError::Damaged)?;
        let message = MessageJson::of(&entry, body);
        bytes += message.ciphertext.len() / 2;
        if bytes > REPLY_BODIES_MAX && !messages.is_empty() {
            break;
        }
        if let Some(first) = message.batch
            && batches.last().is_none_or(|batch| batch.first != first)
            && let Some(auth) = view.get(Table::Body, &batch_key(&log, first))?
        {
            let auth = BatchAuth::from_bytes(&auth).map_err(ViewError::Damaged)?;
            batches.push(BatchJson::of(first, auth));
        }
        next = entry.sequence + 1;
        messages.push(message);
    }
    Ok((messages, batches, next))
}

/// The head that has a message at `from`, or the one there is when the wait is over.
async fn wait_for_messages(
    context: &Context,
    conversation: &Conversation,
    from: u64,
    wait_ms: u64,
) -> Result<Arc<Head>, RpcError> {
    let mut heads = context.node.heads();
    let wait = Duration::from_millis(wait_ms).min(WAIT_MAX);
    let deadline = tokio::time::Instant::now() + wait;
    loop {
        let head = heads.borrow_and_update().clone();
        if message_count(&head, conversation)? > from || wait.is_zero() {
            return Ok(head);
        }
        match tokio::time::timeout_at(deadline, heads.changed()).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ok(head),
        }
    }
}

pub(super) async fn get_messages(context: &Context, params: Params<'_>) -> Reply {
    let params: ConversationParams = params.parse()?;
    let conversation = parse_conversation(&params.session_id, &params.channel_id)?;
    let head = match params.height {
        // Nothing comes later in a past state.
        Some(_) => state_at(context, &context.node.head(), params.height)?,
        None => wait_for_messages(context, &conversation, params.from, params.wait_ms).await?,
    };
    let (messages, batches, next) = read_messages(&head, &conversation, params.from, params.limit)?;
    let mut result = json!({ "messages": messages, "next": next });
    if !batches.is_empty() {
        put(&mut result, "batches", json!(batches));
    }
    if params.proof {
        let log = conversation.log();
        let proof = log_proof(context, &head, log, params.from, next).await?;
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}

pub(super) fn put(value: &mut Value, name: &str, field: Value) {
    if let Some(map) = value.as_object_mut() {
        map.insert(name.to_owned(), field);
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SessionParams {
    session_id: String,
}

pub(super) fn get_session(context: &Context, head: &Head, params: Params<'_>) -> Reply {
    // The next block's time: an idle chain must not show what has expired as active.
    let now = context.node.now();
    let params: SessionParams = params.parse()?;
    let id: SessionId = parse_id("sessionId", &params.session_id)?;
    let session: Option<Session> = head.record(&RecordKey::Session(id))?;
    let session = session.ok_or_else(|| RpcError::new(UNKNOWN_SESSION, "unknown session"))?;
    let roster = head.view().get(Table::Roster, id.as_bytes())?;
    let roster = roster.ok_or(ViewError::Missing(Table::Roster))?;
    let roster = Roster::from_bytes(&roster).map_err(ViewError::Damaged)?;
    let (mut participants, mut keys, mut signing_keys) = (Vec::new(), Vec::new(), Vec::new());
    for (position, participant) in (0u8..).zip(roster.participants()) {
        let (kem, signing) = participant_keys(head, &id, position, &participant.account)?;
        participants.push(participant.account);
        keys.push(kem.map_or(Value::Null, |key| json!(BASE64.encode(key))));
        signing_keys.push(signing.map_or(Value::Null, |key| json!(BASE64.encode(key))));
    }
    reply(&json!({ "session": {
        "id": id,
        "participants": participants,
        "publicKeys": keys,
        "signingKeys": signing_keys,
        "channelId": ChannelId::from_bytes([0; 32]),
        "created": session.created.to_string(),
        "expires": session.expires.to_string(),
        "status": session.status(head.header.time.max(now)).as_str(),
        "metadata": {},
        "messages": session.log.count(),
        "unsignedMessages": session.unsigned,
        "creator": session.creator,
        "roster": const_hex::encode(roster.to_bytes()),
    }}))
}

/// The key to encrypt to and the key that signs, where each is known.
type KeyBytes = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Keys that a session was opened with, or those registered for the account.
fn participant_keys(
    head: &Head,
    session: &SessionId,
    position: u8,
    account: &AccountId,
) -> Result<KeyBytes, RpcError> {
    let given = head
        .view()
        .get(Table::Keys, &session_keys_key(session, Some(position)))?;
    let registered = account_keys(head, account)?;
    let bytes = |keys: PublicKeys| (keys.encryption(account).to_vec(), keys.signing().to_vec());
    let (registered_kem, registered_signing) = registered.map(bytes).unzip();
    let Some(given) = given else {
        return Ok((registered_kem, registered_signing));
    };
    let mut input = Reader::new(&given);
    let damaged = ViewError::Damaged;
    let kem: Option<KemKey> = input.option("KEM key").map_err(damaged)?;
    let signing: Option<SigningKey> = input.option("signing key").map_err(damaged)?;
    Ok((
        kem.map(|key| key.0.to_vec()).or(registered_kem),
        signing.map(|key| key.0.to_vec()).or(registered_signing),
    ))
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ChannelParams {
    channel_id: String,
}

pub(super) fn get_channel(head: &Head, params: Params<'_>) -> Reply {
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

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct MessageParams {
    message_id: String,
}

pub(super) fn get_message(head: &Head, params: Params<'_>) -> Reply {
    let params: MessageParams = params.parse()?;
    let id = parse_id("messageId", &params.message_id)?;
    let place = message_place(&head.view(), &id)?;
    let (log, sequence) = place.ok_or_else(|| RpcError::new(NOT_FOUND, "unknown message"))?;
    let conversation = match log {
        LogId::Session(id) => Conversation::Session(id),
        LogId::Channel(id) => Conversation::Channel(id),
        LogId::Memberships(_) | LogId::Requests(_) => {
            return Err(RpcError::new(NOT_FOUND, "unknown message"));
        }
    };
    let (messages, batches, _) = read_messages(head, &conversation, sequence, 1)?;
    let (kind, conversation) = match conversation {
        Conversation::Session(id) => ("sessionId", id.to_string()),
        Conversation::Channel(id) => ("channelId", id.to_string()),
    };
    let message = messages.into_iter().next();
    let message = message.ok_or_else(|| RpcError::new(PRUNED, "pruned"))?;
    reply(&json!({ "message": message, "batches": batches, kind: conversation }))
}

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

pub(super) fn get_identity(context: &Context, head: &Arc<Head>, params: Params<'_>) -> Reply {
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
                "revoked": account.revoked,
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

pub(super) async fn list_sessions(
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

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ReceiptParams {
    session_id: String,
    channel_id: String,
    account: Option<String>,
    proof: bool,
    height: Option<u64>,
}

pub(super) fn get_receipts(context: &Context, head: &Arc<Head>, params: Params<'_>) -> Reply {
    let params: ReceiptParams = params.parse()?;
    let head = &*state_at(context, head, params.height)?;
    let conversation = parse_conversation(&params.session_id, &params.channel_id)?;
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

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ActionParams {
    action: String,
    proof: bool,
    height: Option<u64>,
}

pub(super) fn get_action(context: &Context, head: &Arc<Head>, params: Params<'_>) -> Reply {
    let params: ActionParams = params.parse()?;
    let head = &*state_at(context, head, params.height)?;
    let id: ActionId = parse_id("action", &params.action)?;
    let key = RecordKey::Action(id);
    let action: Option<Action> = head.record(&key)?;
    let mut result = match action {
        Some(action) => json!({
            "accepted": true,
            "txId": action.tx,
            "height": action.height,
            "outcome": outcome_json(&action.outcome),
        }),
        None => json!({ "accepted": false }),
    };
    if params.proof {
        let proof = signed_proof(context, head, |state| state.prove_record(key))?;
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ChunkParams {
    chunk_id: String,
}

pub(super) fn get_chunk(head: &Head, params: Params<'_>) -> Reply {
    let params: ChunkParams = params.parse()?;
    let id: ChunkId = parse_id("chunkId", &params.chunk_id)?;
    let chunk: Option<Chunk> = head.record(&RecordKey::Chunk(id))?;
    let chunk = chunk.ok_or_else(|| RpcError::new(NOT_FOUND, "unknown chunk"))?;
    let bytes = head.view().get(Table::Body, id.as_bytes())?;
    let bytes = bytes.ok_or_else(|| RpcError::new(PRUNED, "pruned"))?;
    reply(&json!({
        "chunkId": id,
        "bytes": BASE64.encode(bytes),
        "owner": chunk.owner,
        "expires": chunk.expires.to_string(),
    }))
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ParametersParams {
    proof: bool,
}

pub(super) fn get_parameters(context: &Context, head: &Head, params: Params<'_>) -> Reply {
    let params: ParametersParams = params.parse()?;
    let parameters = context.node.parameters();
    let mut result = json!({
        "chain": context.node.chain(),
        "sessionTTL": parameters.session_ttl_ms / 1_000,
        "maxMessages": parameters.max_messages,
        "maxChannels": parameters.max_channels,
        "retentionDays": parameters.retention_ms / session_core::time::DAY_MS,
        "idPrefix": "07",
        "admission": match parameters.admission {
            Admission::Open => "open",
            Admission::Signed => "signed",
        },
        "allowLegacy": parameters.allow_legacy,
        "price": parameters.price,
        "rootKey": parameters.root_key,
    });
    if params.proof {
        let key = RecordKey::Parameters;
        let proof = signed_proof(context, head, |state| state.prove_record(key))?;
        put(&mut result, "proof", json!(proof));
    }
    reply(&result)
}

/// What `Health` answers.
pub(super) fn health_json(context: &Context) -> Value {
    let healthy = matches!(context.node.health(), session_storage::Health::Ready);
    let metrics = context.node.metrics();
    json!({
        "healthy": healthy,
        "sessions": metrics.sessions.load(Ordering::Relaxed),
        "channels": metrics.channels.load(Ordering::Relaxed),
        "pending": metrics.pending.load(Ordering::Relaxed),
    })
}

pub(super) fn health(context: &Context) -> Reply {
    reply(&health_json(context))
}
