//! A session with its participants and their keys.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::tx::{KemKey, SigningKey};
use session_chain::view::{Table, View, ViewError, session_keys_key};
use session_core::codec::{Decode, Encode, Reader};
use session_core::ids::{AccountId, ChannelId, SessionId};
use session_core::record::RecordKey;
use session_core::session::{Roster, Session};

use crate::head::Head;
use crate::keys::{PublicKeys, account_keys};
use crate::rpc::error::{RpcError, UNKNOWN_SESSION};
use crate::rpc::method::{Context, Params, Reply, parse_id, reply};

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SessionParams {
    session_id: String,
}

pub(in crate::rpc) fn get_session(context: &Context, head: &Head, params: Params<'_>) -> Reply {
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
