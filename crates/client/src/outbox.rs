//! The outbox: what is signed is on disk before it leaves, and stays until the chain has answered.
//! Sending it again is always safe, because every transaction is recognised by its action.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::{Kind, Tx};
use session_core::codec::{Decode, Encode};
use session_core::limits::VALID_AHEAD_MAX_MS;
use session_crypto::CryptoError;

use crate::account::{Account, ClientError, now};

/// Transactions in one call: six of 200 kB in base64 stay below the body limit.
const SUBMIT_BYTES: usize = 1_300_000;

/// Code of the node's `expired` error.
const EXPIRED: i64 = -32_009;

/// Code of the node's `message known` error.
const MESSAGE_KNOWN: i64 = -32_016;

/// Whether a transaction may still be accepted as it is: busy, limit, pending, storage full,
/// unavailable.
fn is_waiting(result: &Value) -> bool {
    let code = result
        .get("code")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    result.get("status").and_then(Value::as_str) == Some("pending")
        || matches!(code, -32_014..=-32_010)
}

fn random_u64() -> Result<u64, CryptoError> {
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
}

impl Account {
    /// Signs a transaction that is valid for half an hour.
    pub(crate) fn sign(&self, kind: Kind) -> Result<Tx, ClientError> {
        let valid_until = self.head_time.max(now()).after_ms(VALID_AHEAD_MAX_MS / 2);
        let (signer, salt) = (self.id(), random_u64()?);
        let mut tx = Tx {
            signer,
            valid_until,
            salt,
            kind,
            signature: Vec::new(),
        };
        let signature = self.identity.sign(&tx.signed_digest(&self.chain))?;
        tx.signature = signature.as_bytes().to_vec();
        Ok(tx)
    }

    /// Keeps transactions in the outbox, submits them, and answers their outcomes.
    pub(crate) async fn submit(&mut self, txs: Vec<Tx>) -> Result<Vec<Value>, ClientError> {
        let first = self.state.outbox_next;
        let numbered: Vec<(u64, Vec<u8>)> =
            (first..).zip(txs.iter().map(Encode::to_bytes)).collect();
        self.state.outbox_next += numbered.len() as u64;
        // Before the transactions: a counter that one of them carries is never given again.
        self.dir.save(&self.state)?;
        for (number, bytes) in &numbered {
            self.dir.keep(*number, bytes)?;
        }
        self.send_kept(numbered).await
    }

    /// Sends everything that is not known to be accepted. Safe at any time: a transaction that
    /// was accepted before is recognised by the chain.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn flush_outbox(&mut self) -> Result<Flushed, ClientError> {
        let mut flushed = Flushed::default();
        // One by one, so that a refused one keeps none of the others back.
        for kept in self.dir.waiting()? {
            match self.send_kept(vec![kept]).await {
                Ok(_) => flushed.accepted += 1,
                Err(ClientError::Refused(why)) => flushed.refused.push(why),
                Err(error) => return Err(error),
            }
        }
        Ok(flushed)
    }

    async fn send_kept(&mut self, kept: Vec<(u64, Vec<u8>)>) -> Result<Vec<Value>, ClientError> {
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
            let txs: Vec<String> = page.iter().map(|(_, tx)| BASE64.encode(tx)).collect();
            let reply: Value = self
                .rpc
                .call("sessionvm.Submit", json!({ "txs": txs }))
                .await?;
            let results = reply.get("results").and_then(Value::as_array).cloned();
            let results = results.ok_or(ClientError::Reply("results"))?;
            for ((number, tx), result) in page.iter().zip(results) {
                outcomes.push(self.settle(*number, tx, result).await?);
            }
        }
        Ok(outcomes)
    }

    /// Forgets an accepted transaction, signs an expired one anew, and gives up a refused one.
    async fn settle(
        &mut self,
        number: u64,
        tx: &[u8],
        result: Value,
    ) -> Result<Value, ClientError> {
        let status = result
            .get("status")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let outcome = result.get("outcome").cloned().unwrap_or_default();
        if status == "accepted" {
            self.dir.forget(number)?;
            return Ok(outcome);
        }
        let code = result
            .get("code")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        if is_waiting(&result) {
            return Err(ClientError::Waiting {
                waiting: self.dir.waiting()?.len(),
            });
        }
        if code == EXPIRED
            && let Ok(old) = Tx::from_bytes(tx)
        {
            // Its messages keep their ids, so if it was accepted after all the chain says so.
            let anew = self.sign(old.kind)?.to_bytes();
            self.dir.keep(number, &anew)?;
            let params = json!({ "txs": [BASE64.encode(&anew)] });
            let reply: Value = self.rpc.call("sessionvm.Submit", params).await?;
            if reply.pointer("/results/0").is_none_or(is_waiting) {
                return Err(ClientError::Waiting {
                    waiting: self.dir.waiting()?.len(),
                });
            }
            let answer = |name: &str| reply.pointer(name).cloned().unwrap_or_default();
            let known = answer("/results/0/code") == json!(MESSAGE_KNOWN);
            if known || answer("/results/0/status") == json!("accepted") {
                self.dir.forget(number)?;
                return Ok(answer(if known {
                    "/results/0/data"
                } else {
                    "/results/0/outcome"
                }));
            }
        }
        self.dir.forget(number)?;
        let why = result
            .get("error")
            .and_then(Value::as_str)
            .unwrap_or("refused");
        Err(ClientError::Refused(why.to_owned()))
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
