//! The outbox: what is signed is on disk before it leaves, and stays until the chain has answered.
//! Sending it again is always safe, because every transaction is recognised by its action.
//!
//! An expired transaction is signed anew, with another action, only where a second one does no
//! harm: a message keeps its id, a confirmation only rises, and of anything else a header of the
//! hour after its `valid_until` proves that it was never accepted (`spec/vm.md` §4). Later nobody
//! can tell: it is set aside as unknown.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::tx::identity::{RevokeIdentity, RotateKeys};
use session_chain::tx::session::CreateSession;
use session_chain::tx::transfer::Transfer;
use session_chain::tx::{Kind, Tx};
use session_core::codec::{Decode, Encode};
use session_core::ids::ActionId;
use session_core::limits::{ACTION_KEPT_MS, VALID_AHEAD_MAX_MS};
use session_core::log::Conversation;
use session_core::proof::Proved;
use session_core::record::{Action, Outcome, RecordKey};
use session_core::time::Time;
use session_crypto::{CryptoError, Signature, SigningKey};

use crate::account::{Account, now};
use crate::error::ClientError;
use crate::rpc::RpcError;
use crate::trust::{TrustError, decode_proof};

/// Transactions in one call: six of 200 kB in base64 stay below the body limit.
const SUBMIT_BYTES: usize = 1_300_000;

/// Code of the node's `expired` error.
const EXPIRED: i64 = -32_009;

/// Codes of the node's errors about signatures and keys.
const KEYS_REFUSED: [i64; 2] = [-32_006, -32_007];

/// Code of the node's `message known` error.
pub(crate) const MESSAGE_KNOWN: i64 = -32_016;

pub(crate) fn code_of(result: &Value) -> i64 {
    let code = result.get("code").and_then(Value::as_i64);
    code.unwrap_or_default()
}

pub(crate) fn status_of(result: &Value) -> &str {
    let status = result.get("status").and_then(Value::as_str);
    status.unwrap_or_default()
}

/// Whether a transaction may still be accepted as it is: busy, limit, pending, storage full,
/// unavailable.
pub(crate) fn is_waiting(result: &Value) -> bool {
    status_of(result) == "pending" || matches!(code_of(result), -32_014..=-32_010)
}

pub(crate) fn random_u64() -> Result<u64, CryptoError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| CryptoError::NoRandomness)?;
    Ok(u64::from_be_bytes(bytes))
}

/// What became of the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Transactions that the chain has accepted, now or before.
    pub accepted: usize,
    /// Why others were refused for good. They are given up.
    pub refused: Vec<String>,
    /// Those whose fate nobody can tell any more. They are set aside.
    pub unknown: Vec<String>,
}

/// A transaction of the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its number.
    pub number: u64,
    /// What it does.
    pub kind: &'static str,
    /// Where.
    pub conversation: Option<Conversation>,
    /// Since when it waits.
    pub since: Option<Time>,
    /// Whether its fate is unknown, so that it is not sent again by itself.
    pub unknown: bool,
}

#[derive(Deserialize)]
struct ProofReply {
    proof: String,
}

/// What a proof says about an action that expired.
enum Fate {
    Accepted(Value),
    Never,
    /// No block is later than its `valid_until`: it may still be accepted.
    Open,
    Unknown,
}

/// Whether a second transaction of this kind can change nothing that the first did not: messages
/// are recognised by their ids, and a confirmation only rises.
const fn is_harmless_twice(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::SendMessage(_) | Kind::SendBatch(_) | Kind::AcknowledgeMessages(_)
    )
}

/// Whether the account's recovery key signs it, which lies in the owner's words and not here.
const fn is_by_recovery_key(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::RotateKeys(RotateKeys {
            recovery: Some(_),
            ..
        }) | Kind::RevokeIdentity(RevokeIdentity { recovery: Some(_) })
    )
}

fn conversation_of(kind: &Kind) -> Option<Conversation> {
    match kind {
        Kind::AcceptSession(k) => Some(Conversation::Session(k.session)),
        Kind::RenewSession(k) => Some(Conversation::Session(k.session)),
        Kind::CloseSession(k) => Some(Conversation::Session(k.session)),
        Kind::SendMessage(k) => Some(k.conversation),
        Kind::SendBatch(k) => Some(k.conversation),
        Kind::AcknowledgeMessages(k) => Some(k.conversation),
        Kind::CloseChannel(k) => Some(Conversation::Channel(k.channel)),
        Kind::ChannelMembers(k) => Some(Conversation::Channel(k.channel)),
        Kind::TopUpGroup(k) => Some(Conversation::Group(k.group)),
        Kind::RegisterIdentity(_)
        | Kind::RegisterLegacy(_)
        | Kind::RotateKeys(_)
        | Kind::RevokeIdentity(_)
        | Kind::CreateSession(_)
        | Kind::CreateChannel(_)
        | Kind::PutChunk(_)
        | Kind::CreateGroup(_)
        | Kind::AdvanceGroup(_)
        | Kind::SetMode(_)
        | Kind::SetAdmins(_)
        | Kind::Supersede(_)
        | Kind::GroupPost(_)
        | Kind::PutGroupChunk(_)
        | Kind::PublishKeyPackages(_)
        | Kind::TakeKeyPackages(_)
        | Kind::Transfer(_) => None,
    }
}

/// As the node writes it.
fn outcome_json(outcome: &Outcome) -> Value {
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

impl Account {
    /// Signs a transaction that is valid for half an hour.
    pub(crate) fn sign(&self, kind: Kind) -> Result<Tx, ClientError> {
        self.sign_with(kind, self.identity.signing_key())
    }

    /// The same with another key of the account: its recovery key.
    pub(crate) fn sign_with(&self, kind: Kind, key: &SigningKey) -> Result<Tx, ClientError> {
        let single = kind.is_single_message();
        let valid_until = self.head_time.max(now()).after_ms(VALID_AHEAD_MAX_MS / 2);
        let mut tx = Tx {
            signer: self.id(),
            valid_until: if single { Time::default() } else { valid_until },
            salt: if single { 0 } else { random_u64()? },
            kind,
            signature: Vec::new(),
        };
        let signature = key.sign(&tx.signed_digest(&self.chain))?;
        tx.signature = signature.as_bytes().to_vec();
        Ok(tx)
    }

    /// Keeps transactions in the outbox, submits them, and answers their outcomes.
    pub(crate) async fn submit(&mut self, txs: Vec<Tx>) -> Result<Vec<Value>, ClientError> {
        if self.may_be_back() {
            // What waits goes first.
            self.away = None;
            self.flush_outbox().await?;
        }
        let first = self.state.outbox_next;
        let numbered: Vec<(u64, Vec<u8>)> =
            (first..).zip(txs.iter().map(Encode::to_bytes)).collect();
        self.state.outbox_next += numbered.len() as u64;
        let since = now().ms();
        let numbers = numbered.iter().map(|(number, _)| (*number, since));
        self.state.outbox_since.extend(numbers);
        // Before the transactions: a counter that one of them carries is never given again.
        self.dir.save(&self.state)?;
        for (number, bytes) in &numbered {
            self.dir.keep(*number, bytes)?;
        }
        if self.away.is_some() {
            return Err(self.waiting()?);
        }
        self.send_kept(numbered).await
    }

    /// The error that says so.
    pub(crate) fn waiting(&self) -> Result<ClientError, ClientError> {
        let waiting = self.dir.waiting()?.len();
        let away = self.away().map(str::to_owned);
        Ok(ClientError::Waiting { waiting, away })
    }

    /// What waits in the outbox, oldest first, and what was set aside.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn outbox(&self) -> Result<Vec<Kept>, ClientError> {
        let mut out = Vec::new();
        for (files, unknown) in [(self.dir.waiting()?, false), (self.dir.unknown()?, true)] {
            for (number, bytes) in files {
                let kind = Tx::from_bytes(&bytes).map(|tx| tx.kind).ok();
                let since = self.state.outbox_since.get(&number);
                out.push(Kept {
                    number,
                    kind: kind.as_ref().map_or("damaged", Kind::name),
                    conversation: kind.as_ref().and_then(conversation_of),
                    since: since.map(|ms| Time::from_ms(*ms)),
                    unknown,
                });
            }
        }
        Ok(out)
    }

    /// Gives up a transaction of the outbox. It may have been accepted all the same.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn forget_kept(&mut self, number: u64) -> Result<(), ClientError> {
        self.dir.forget(number)?;
        self.state.outbox_since.remove(&number);
        Ok(self.dir.save(&self.state)?)
    }

    /// Signs anew a transaction that was set aside, so that the next flush sends it: it happens a
    /// second time if it was accepted before. Answers whether there was one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn send_again(&mut self, number: u64) -> Result<bool, ClientError> {
        for (kept, bytes) in self.dir.unknown()? {
            if kept == number
                && let Ok(old) = Tx::from_bytes(&bytes)
                && self.dir.put_back(number)?
            {
                self.dir.keep(number, &self.sign(old.kind)?.to_bytes())?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Sends everything that is not known to be accepted. Safe at any time: a transaction that
    /// was accepted before is recognised by the chain. What the node does not accept yet stays.
    ///
    /// # Errors
    /// [`ClientError`] but for the node's refusals, which are in the answer, and its absence,
    /// which [`Account::away`] tells.
    pub async fn flush_outbox(&mut self) -> Result<Flushed, ClientError> {
        let mut flushed = Flushed::default();
        let waiting = self.dir.waiting()?;
        if waiting.is_empty() {
            return Ok(flushed);
        }
        // One by one, so that a refused one keeps none of the others back.
        for (number, bytes) in waiting {
            let bytes = self.signed_now(number, bytes)?;
            match self.send_kept(vec![(number, bytes)]).await {
                Ok(_) => flushed.accepted += 1,
                Err(ClientError::Refused(why)) => flushed.refused.push(why),
                Err(error @ ClientError::UnknownFate { .. }) => {
                    flushed.unknown.push(error.to_string());
                }
                // Those behind it keep their order.
                Err(ClientError::Waiting { .. }) => break,
                Err(error) => return Err(error),
            }
        }
        self.dir.save(&self.state)?;
        Ok(flushed)
    }

    /// The same transaction under the current key: what was signed before a rotation keeps its
    /// action, so it is still recognised.
    fn signed_now(&self, number: u64, bytes: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        let Ok(mut tx) = Tx::from_bytes(&bytes) else {
            return Ok(bytes);
        };
        let digest = tx.signed_digest(&self.chain);
        let key = self.identity.public().signing();
        let holds = Signature::try_from(tx.signature.as_slice())
            .is_ok_and(|signature| key.verify(&digest, &signature).is_ok());
        if is_by_recovery_key(&tx.kind) || holds || tx.signer != self.id() {
            return Ok(bytes);
        }
        tx.signature = self.identity.sign(&digest)?.as_bytes().to_vec();
        let bytes = tx.to_bytes();
        self.dir.keep(number, &bytes)?;
        Ok(bytes)
    }

    pub(crate) async fn send_kept(
        &mut self,
        kept: Vec<(u64, Vec<u8>)>,
    ) -> Result<Vec<Value>, ClientError> {
        let mut outcomes = Vec::with_capacity(kept.len());
        let mut rest = kept.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let take = rest
                .iter()
                .take_while(|(_, tx)| {
                    bytes += tx.len();
                    bytes <= SUBMIT_BYTES
                })
                .count()
                .max(1);
            let (page, later) = rest.split_at(take);
            rest = later;
            let txs: Vec<&[u8]> = page.iter().map(|(_, tx)| tx.as_slice()).collect();
            let results = self.call_submit(&txs).await?;
            for ((number, tx), result) in page.iter().zip(results) {
                outcomes.push(self.settle(*number, tx, result).await?);
            }
        }
        Ok(outcomes)
    }

    pub(crate) async fn call_submit(&mut self, txs: &[&[u8]]) -> Result<Vec<Value>, ClientError> {
        let list: Vec<String> = txs.iter().map(|tx| BASE64.encode(tx)).collect();
        let params = json!({ "txs": list, "waitMs": self.rpc.wait_ms_max() });
        let reply: Value = match self.rpc.call("sessionvm.Submit", params).await {
            Ok(reply) => reply,
            Err(error @ RpcError::Unreachable { .. }) => {
                self.gone(error.to_string());
                return Err(self.waiting()?);
            }
            Err(error) if error.is_temporary() => return Err(self.waiting()?),
            Err(error) => return Err(error.into()),
        };
        self.away = None;
        let results = reply.get("results").and_then(Value::as_array).cloned();
        let results = results.filter(|results| results.len() == txs.len());
        results.ok_or(ClientError::Reply("results"))
    }

    /// Forgets an accepted transaction, signs an expired one anew where that is safe, and gives
    /// up a refused one.
    async fn settle(
        &mut self,
        number: u64,
        tx: &[u8],
        result: Value,
    ) -> Result<Value, ClientError> {
        let Ok(tx) = Tx::from_bytes(tx) else {
            return self.give_up(number, &result);
        };
        let result = if code_of(&result) == EXPIRED {
            match self.after_expiry(number, &tx).await? {
                Ok(outcome) => {
                    self.accepted(number, &tx)?;
                    return Ok(outcome);
                }
                Err(result) => result,
            }
        } else {
            result
        };
        if status_of(&result) == "accepted" {
            self.accepted(number, &tx)?;
            return Ok(result.get("outcome").cloned().unwrap_or_default());
        }
        if code_of(&result) == MESSAGE_KNOWN {
            // Sent before in another batch: the first submission counted.
            self.accepted(number, &tx)?;
            return Ok(result.get("data").cloned().unwrap_or_default());
        }
        if is_waiting(&result) {
            return Err(self.waiting()?);
        }
        if KEYS_REFUSED.contains(&code_of(&result))
            && let Some(told) = self.own_keys_problem().await?
        {
            // With the keys that count it can still be sent; a rotation by these cannot.
            if matches!(told, ClientError::Revoked) || matches!(tx.kind, Kind::RotateKeys(_)) {
                self.forget_kept(number)?;
            }
            return Err(told);
        }
        self.give_up(number, &result)
    }

    fn accepted(&mut self, number: u64, tx: &Tx) -> Result<(), ClientError> {
        // The keys first: after a crash in between, the chain is asked whose they are.
        if let Kind::RotateKeys(rotation) = &tx.kind {
            self.rotation_accepted(rotation)?;
        }
        self.dir.forget(number)?;
        self.state.outbox_since.remove(&number);
        Ok(())
    }

    fn give_up(&mut self, number: u64, result: &Value) -> Result<Value, ClientError> {
        self.dir.forget(number)?;
        self.state.outbox_since.remove(&number);
        let why = result.get("error").and_then(Value::as_str);
        Err(ClientError::Refused(why.unwrap_or("refused").to_owned()))
    }

    /// What to do about an expired transaction: its proved outcome, or what the node answered to
    /// the same thing signed anew.
    async fn after_expiry(
        &mut self,
        number: u64,
        tx: &Tx,
    ) -> Result<Result<Value, Value>, ClientError> {
        if !is_harmless_twice(&tx.kind) {
            let mut fate = self.fate_of(tx).await?;
            if matches!(fate, Fate::Open) {
                // An idle chain makes no block, and only a later one can tell.
                self.provoke_block().await?;
                fate = self.fate_of(tx).await?;
            }
            match fate {
                Fate::Accepted(outcome) => return Ok(Ok(outcome)),
                Fate::Never => {}
                Fate::Open => return Err(self.waiting()?),
                Fate::Unknown => {
                    self.dir.set_aside(number)?;
                    let kind = tx.kind.name();
                    return Err(ClientError::UnknownFate { number, kind });
                }
            }
        }
        if is_by_recovery_key(&tx.kind) {
            let why = "it expired: do it again with your 24 words";
            return Ok(Err(json!({ "status": "refused", "error": why })));
        }
        let anew = self.sign(tx.kind.clone())?.to_bytes();
        self.dir.keep(number, &anew)?;
        let results = self.call_submit(&[&anew]).await?;
        Ok(Err(results.into_iter().next().unwrap_or_default()))
    }

    /// Whether an expired action was accepted, by proof and nobody's word.
    async fn fate_of(&mut self, tx: &Tx) -> Result<Fate, ClientError> {
        let action = tx.ids(&self.chain).action;
        let params = json!({ "action": action, "proof": true });
        let key = RecordKey::Action(action);
        let proved = self.prove("sessionvm.GetAction", params, key).await?;
        if let Some(record) = proved.record {
            let record = Action::from_bytes(&record).map_err(TrustError::from)?;
            return Ok(Fate::Accepted(outcome_json(&record.outcome)));
        }
        let time = proved.header.time;
        Ok(if time <= tx.valid_until {
            Fate::Open
        } else if time < tx.valid_until.after_ms(ACTION_KEPT_MS) {
            Fate::Never
        } else if matches!(tx.kind, Kind::CreateSession(_)) {
            self.fate_of_session(action).await?
        } else {
            Fate::Unknown
        })
    }

    /// A session outlives its action: while its record is there, it was accepted.
    async fn fate_of_session(&mut self, action: ActionId) -> Result<Fate, ClientError> {
        let session = CreateSession::session_id(&action);
        let key = RecordKey::Session(session);
        let params = json!({ "sessionId": session });
        let proved = self.prove("sessionvm.GetProof", params, key).await?;
        Ok(match proved.record {
            Some(_) => Fate::Accepted(outcome_json(&Outcome::Session(session))),
            None => Fate::Unknown,
        })
    }

    /// A proof of one record, or that there is none.
    async fn prove(
        &mut self,
        method: &str,
        params: Value,
        key: RecordKey,
    ) -> Result<Proved, ClientError> {
        let reply: ProofReply = match self.rpc.call(method, params).await {
            Err(error @ RpcError::Unreachable { .. }) => {
                self.gone(error.to_string());
                return Err(self.waiting()?);
            }
            Err(error) if error.is_temporary() => return Err(self.waiting()?),
            reply => reply?,
        };
        let proved = self.believe(&mut decode_proof(&reply.proof)?).await?;
        if proved.key != key {
            return Err(ClientError::Reply("the proof is about another record"));
        }
        Ok(proved)
    }

    /// A transfer of nothing to oneself: it changes nothing and makes a block.
    async fn provoke_block(&mut self) -> Result<(), ClientError> {
        let (to, amount) = (self.id(), 0);
        let tx = self.sign(Kind::Transfer(Transfer { to, amount }))?;
        self.call_submit(&[&tx.to_bytes()]).await.map(drop)
    }

    pub(crate) async fn submit_one(&mut self, kind: Kind) -> Result<Value, ClientError> {
        let tx = self.sign(kind)?;
        let outcomes = self.submit(vec![tx]).await?;
        outcomes
            .into_iter()
            .next()
            .ok_or(ClientError::Reply("results"))
    }
}
