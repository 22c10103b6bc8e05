//! The methods that change the state.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::state::TxError;
use session_chain::tx::legacy::LEGACY_SIGNATURE_LEN;
use session_chain::tx::message::SendMessage;
use session_chain::tx::session::{CloseSession, CreateSession, NewParticipant};
use session_chain::tx::{
    KEM_KEY_LEN, KemKey, Kind, NOBODY, SIGNING_KEY_LEN, SigningKey, Tx, TxIds,
};
use session_core::codec::Decode;
use session_core::header::SIGNATURE_LEN;
use session_core::ids::{ActionId, SessionId, TxId};
use session_core::limits::{
    BLOCK_TXS_MAX, CIPHERTEXT_MAX, PARTICIPANTS_MAX, PARTICIPANTS_MIN, VALID_AHEAD_MAX_MS,
};
use session_core::record::{Outcome, RecordKey};
use session_core::session::Session;
use session_core::submission::{Submitted, decode_request, encode_reply};
use session_core::time::Time;

use super::error::{PENDING, RpcError};
use super::json::unhex;
use super::method::{Context, Params, outcome_json, parse_account, parse_id};
use crate::keys::account_keys;
use crate::submission::{Accepted, SubmitError};

type Reply = Result<String, RpcError>;

/// Submits, waits, and tells a wait that was cut.
async fn submit_and_wait(context: &Context, tx: Tx, ids: TxIds) -> Result<Accepted, RpcError> {
    let (id, action) = (ids.tx, ids.action);
    match tokio::time::timeout(context.node.wait_max(), context.node.submit_as(tx, ids)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let mut problem = RpcError::new(PENDING, "pending: not accepted yet");
            problem.data = Some(json!({ "txId": id, "action": action }));
            Err(problem)
        }
    }
}

/// A body for a transaction that the admitting node completes.
fn unsigned(context: &Context, kind: Kind) -> Result<Tx, RpcError> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt)
        .map_err(|_| RpcError::new(super::error::INTERNAL, "no randomness"))?;
    // Half the window, so that a clock a little ahead of block time does no harm.
    let valid_until = context.node.now().after_ms(VALID_AHEAD_MAX_MS / 2);
    let salt = u64::from_be_bytes(salt);
    Ok(Tx {
        signer: NOBODY,
        valid_until,
        salt,
        kind,
        signature: Vec::new(),
    })
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CreateParams {
    participants: Vec<String>,
    public_keys: Vec<String>,
    signing_keys: Vec<Option<String>>,
}

fn fixed<const N: usize>(name: &'static str, text: &str) -> Result<Box<[u8; N]>, RpcError> {
    // Checked before decoding: a hundred megabytes of hex are no key.
    if text.len() != 2 * N {
        let got = text.len() / 2;
        return Err(RpcError::param(
            name,
            format!("a key has {N} bytes, got {got}"),
        ));
    }
    let bytes = unhex(name, text)?;
    let bytes: [u8; N] = bytes
        .try_into()
        .map_err(|_| RpcError::param(name, "a key has another length"))?;
    Ok(Box::new(bytes))
}

pub(super) async fn create_session(context: &Context, params: Params<'_>) -> Reply {
    let params: CreateParams = params.parse()?;
    let count = params.participants.len();
    if !(PARTICIPANTS_MIN..=PARTICIPANTS_MAX).contains(&count) {
        let message = format!("{PARTICIPANTS_MIN} to {PARTICIPANTS_MAX} participants, got {count}");
        return Err(RpcError::param("participants", message));
    }
    if params.public_keys.len() != count {
        let got = params.public_keys.len();
        let message = format!("one key for each of {count} participants, got {got}");
        return Err(RpcError::param("publicKeys", message));
    }
    if !params.signing_keys.is_empty() && params.signing_keys.len() != count {
        return Err(RpcError::param(
            "signingKeys",
            "one for each participant, or none at all",
        ));
    }
    let mut participants = Vec::with_capacity(count);
    for (position, (account, kem)) in params
        .participants
        .iter()
        .zip(&params.public_keys)
        .enumerate()
    {
        let signing = params.signing_keys.get(position).and_then(Option::as_deref);
        participants.push(NewParticipant {
            account: parse_account("participants", account)?,
            kem: Some(KemKey(fixed::<KEM_KEY_LEN>("publicKeys", kem)?)),
            signing: signing
                .map(|key| fixed::<SIGNING_KEY_LEN>("signingKeys", key).map(SigningKey))
                .transpose()?,
        });
    }
    // The published call names people in any order; the roster has one.
    participants.sort_by_key(|participant| participant.account);
    if !participants.is_sorted_by(|a, b| a.account < b.account) {
        return Err(RpcError::param(
            "participants",
            "a participant is named twice",
        ));
    }
    let tx = unsigned(context, Kind::CreateSession(CreateSession { participants }))?;
    let ids = tx.ids(&context.node.chain());
    let accepted = submit_and_wait(context, tx, ids).await?;
    let Outcome::Session(id) = accepted.outcome else {
        return Err(RpcError::new(
            super::error::INTERNAL,
            "no session was created",
        ));
    };
    let session: Option<Session> = context.node.head().record(&RecordKey::Session(id))?;
    let expires = session.map_or(Time::default(), |session| session.expires);
    Ok(json!({ "sessionId": id, "expires": expires.ms() / 1_000 }).to_string())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SendParams {
    session_id: String,
    channel_id: String,
    sender: String,
    ciphertext: String,
    signature: String,
}

pub(super) async fn send_message(context: &Context, params: Params<'_>) -> Reply {
    let lenient = params.is_lenient();
    let params: SendParams = params.parse()?;
    let conversation =
        super::method::parse_conversation(&params.session_id, &params.channel_id, "")?;
    let sender = parse_account("sender", &params.sender)?;
    if params.ciphertext.len() > 2 * CIPHERTEXT_MAX {
        let message = format!(
            "at most {CIPHERTEXT_MAX} bytes, got {}",
            params.ciphertext.len() / 2
        );
        return Err(RpcError::param("ciphertext", message));
    }
    let ciphertext = unhex("ciphertext", &params.ciphertext)?;
    if params.signature.len() > 2 * SIGNATURE_LEN {
        let message = format!("a signature has {SIGNATURE_LEN} bytes, got more");
        return Err(RpcError::param("signature", message));
    }
    let mut signature = unhex("signature", &params.signature)?;
    let legacy = context.node.parameters().allow_legacy && signature.len() == LEGACY_SIGNATURE_LEN;
    if !matches!(signature.len(), 0 | SIGNATURE_LEN) && !legacy {
        // Published clients put anything here. What nobody can check is not kept; the message
        // is marked unverified, and only where the chain admits such messages at all.
        let known = account_keys(&context.node.head(), &sender)?.is_some();
        if known || !lenient {
            let message = format!(
                "a signature has {SIGNATURE_LEN} bytes, got {}",
                signature.len()
            );
            return Err(RpcError::param("signature", message));
        }
        signature.clear();
    }
    let kind = Kind::SendMessage(SendMessage {
        conversation,
        ciphertext,
    });
    let tx = Tx {
        signer: sender,
        valid_until: Time::default(),
        salt: 0,
        kind,
        signature,
    };
    let ids = tx.ids(&context.node.chain());
    let id = ids.messages.first().map(|(id, _)| *id);
    let accepted = submit_and_wait(context, tx, ids).await?;
    let Outcome::Sequence(sequence) = accepted.outcome else {
        return Err(RpcError::new(
            super::error::INTERNAL,
            "no message was appended",
        ));
    };
    Ok(json!({ "messageId": id, "sequence": sequence }).to_string())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CloseParams {
    session_id: String,
}

pub(super) async fn close_session(context: &Context, params: Params<'_>) -> Reply {
    let params: CloseParams = params.parse()?;
    let session: SessionId = parse_id("sessionId", &params.session_id)?;
    let tx = unsigned(context, Kind::CloseSession(CloseSession { session }))?;
    match context.node.submit(tx).await {
        // Closing what is closed changes nothing, as published.
        Ok(_) | Err(SubmitError::Tx(TxError::SessionClosed)) => {
            Ok(json!({ "success": true }).to_string())
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct SubmitParams {
    txs: Vec<String>,
    wait_ms: Option<u64>,
}

/// A batch of binary transactions in base64: admitted in parallel, answered one by one.
pub(super) async fn submit(context: &Context, params: Params<'_>) -> Reply {
    let params: SubmitParams = params.parse()?;
    if params.txs.is_empty() || params.txs.len() > BLOCK_TXS_MAX {
        return Err(RpcError::param(
            "txs",
            format!("1 to {BLOCK_TXS_MAX} transactions"),
        ));
    }
    let decode = |text: &String| {
        BASE64
            .decode(text)
            .map_err(|_| RpcError::param("txs", "a transaction is not base64"))
    };
    let wait = params
        .wait_ms
        .map_or(context.node.wait_max(), Duration::from_millis);
    let answers = submit_all(
        context,
        &params.txs,
        decode,
        wait.min(context.node.wait_max()),
    )
    .await;
    let results: Vec<Value> = answers.iter().map(answer_json).collect();
    Ok(json!({ "results": results }).to_string())
}

/// The same as bytes, see [`session_core::submission`].
pub(super) async fn submit_bytes(context: &Context, body: &[u8]) -> Result<Vec<u8>, RpcError> {
    let txs = decode_request(body)?;
    let answers = submit_all(context, &txs, |tx| Ok(*tx), context.node.wait_max()).await;
    let answers: Vec<Submitted> = answers.into_iter().map(answer_bytes).collect();
    Ok(encode_reply(&answers))
}

/// What became of one transaction of a batch.
enum TxAnswer {
    Accepted(ActionId, Accepted),
    Pending(ActionId, TxId),
    Refused(RpcError),
}

async fn submit_all<T: Sync, B: AsRef<[u8]>>(
    context: &Context,
    txs: &[T],
    decode: impl Fn(&T) -> Result<B, RpcError> + Sync,
    wait: Duration,
) -> Vec<TxAnswer> {
    let chain = context.node.chain();
    let head = context.node.head();
    let admit = |tx: &T| -> Result<(Tx, TxIds, usize), RpcError> {
        context.node.check_busy()?;
        let bytes = decode(tx)?;
        let tx = Tx::from_bytes(bytes.as_ref())?;
        let ids = tx.ids(&chain);
        context.node.admit(&head, &tx, &ids)?;
        Ok((tx, ids, bytes.as_ref().len()))
    };
    // Verification is the work: a batch spreads over the cores, a single one stays here.
    let admitted: Vec<_> = if txs.len() > 2 {
        tokio::task::block_in_place(|| txs.par_iter().map(admit).collect())
    } else {
        txs.iter().map(admit).collect()
    };
    let mut waiting = Vec::with_capacity(admitted.len());
    for admitted in admitted {
        waiting.push(admitted.and_then(|(tx, ids, bytes)| {
            let (action, id) = (ids.action, ids.tx);
            let answer = context.node.enqueue(tx, ids, bytes)?;
            Ok((action, id, answer))
        }));
    }
    let deadline = tokio::time::Instant::now() + wait;
    let mut answers = Vec::with_capacity(waiting.len());
    for entry in waiting {
        answers.push(match entry {
            Err(problem) => TxAnswer::Refused(problem),
            Ok((action, id, answer)) => match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(Ok(accepted))) => TxAnswer::Accepted(action, accepted),
                Ok(Ok(Err(error))) => TxAnswer::Refused(error.into()),
                Ok(Err(_)) => TxAnswer::Refused(SubmitError::Stopping.into()),
                Err(_) => TxAnswer::Pending(action, id),
            },
        });
    }
    answers
}

fn answer_json(answer: &TxAnswer) -> Value {
    match answer {
        TxAnswer::Accepted(action, accepted) => accepted_json(accepted, *action),
        TxAnswer::Pending(action, id) => {
            json!({ "status": "pending", "action": action, "txId": id })
        }
        TxAnswer::Refused(problem) => error_json(problem),
    }
}

fn answer_bytes(answer: TxAnswer) -> Submitted {
    match answer {
        TxAnswer::Accepted(action, accepted) => Submitted::Accepted {
            action,
            tx: accepted.tx,
            height: accepted.height,
            outcome: accepted.outcome,
            repeated: accepted.repeated,
        },
        TxAnswer::Pending(action, tx) => Submitted::Pending { action, tx },
        TxAnswer::Refused(problem) => {
            let fact = |name: &str| problem.data.as_ref()?.get(name)?.as_u64();
            Submitted::Refused {
                code: problem.code.unsigned_abs(),
                reason: problem.full_message(),
                retry_ms: fact("retryMs"),
                sequence: fact("sequence"),
            }
        }
    }
}

fn accepted_json(accepted: &Accepted, action: ActionId) -> Value {
    let mut result = json!({
        "status": "accepted",
        "action": action,
        "height": accepted.height,
        "outcome": outcome_json(&accepted.outcome),
    });
    if let Some(map) = result.as_object_mut() {
        if let Some(id) = accepted.tx {
            map.insert("txId".to_owned(), json!(id));
        }
        if accepted.repeated {
            map.insert("repeated".to_owned(), json!(true));
        }
    }
    result
}

fn error_json(problem: &RpcError) -> Value {
    json!({
        "status": "refused",
        "code": problem.code,
        "error": problem.full_message(),
        "data": problem.data,
    })
}
