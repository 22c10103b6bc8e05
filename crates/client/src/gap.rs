//! A log whose older entries are no longer stored: what is missing is told, and what was seen of
//! it before still binds the node.

use serde::Deserialize;
use serde_json::{Value, json};
use session_core::ids::SessionId;
use session_core::log::LogId;
use session_core::time::{DAY_MS, Time};

use crate::account::{Account, now};
use crate::error::ClientError;
use crate::trust::decode_proof;

/// Code of the node's `pruned` error.
pub(crate) const PRUNED: i32 = -32_015;

/// Messages that are no longer stored, and were not read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The first of them.
    pub from: u64,
    /// The first that is stored.
    pub first: u64,
    /// Messages that were read here and that no proof compares with the log any more: fewer than
    /// 256, those of the tile in which reading had stopped.
    pub unproved: u64,
}

impl Gap {
    /// As a sentence.
    pub fn sentence(&self) -> String {
        let Self {
            from,
            first,
            unproved,
        } = self;
        let missing = first.saturating_sub(*from);
        let mut text =
            format!("messages before {first} are no longer stored: {missing} were not read");
        if *unproved > 0 {
            let also = format!(
                "; the {unproved} before them, which were, can be compared with the log no more"
            );
            text.push_str(&also);
        }
        text
    }

    /// Two gaps of one look, the later one last.
    pub(crate) const fn then(self, later: Self) -> Self {
        Self {
            from: self.from,
            first: later.first,
            unproved: self.unproved.saturating_add(later.unproved),
        }
    }
}

#[derive(Deserialize)]
struct ProofReply {
    proof: String,
}

impl Account {
    /// Has the node show that a log, of which entries before `first` are gone, has only grown since it
    /// was seen. Answers how many entries that were seen nothing compares any more, fewer than 256.
    pub(crate) async fn grown(
        &mut self,
        log: LogId,
        (name, id): (&'static str, Value),
        first: u64,
    ) -> Result<u64, ClientError> {
        // Otherwise the next page passes where we had stopped, and proves the same.
        if first <= self.state.trust.seen(&log).count() {
            return Ok(0);
        }
        let base = self.state.trust.comparable(&log);
        let params = json!({ name: id, "from": base, "to": base });
        let reply: ProofReply = self.rpc.call("sessionvm.GetProof", params).await?;
        let mut proof = decode_proof(&reply.proof)?;
        let range = proof.log.as_ref().filter(|shown| shown.log == log);
        if range.is_none_or(|shown| shown.range.from != base || shown.range.count < first) {
            return Err(ClientError::Reply("the proof is about something else"));
        }
        self.gather(&mut proof).await;
        Ok(self.state.trust.leap(&proof)?)
    }

    /// Goes on in a session whose messages from `from` to somewhere are gone, as the node says.
    /// It must show that the log has only grown since it was seen, tile by tile: their roots stay
    /// when their entries go.
    pub(crate) async fn leap(
        &mut self,
        session: &SessionId,
        from: u64,
        data: &Value,
    ) -> Result<Gap, ClientError> {
        let first = data.get("first").and_then(Value::as_u64);
        let first = first.filter(|first| *first > from);
        let first = first.ok_or(ClientError::Reply("gone are messages that are not"))?;
        let progress = self.state.sessions.entry(*session).or_default();
        // No chain drops what is younger.
        if now().since(Time::from_ms(progress.created)) < DAY_MS {
            return Err(ClientError::Reply(
                "messages of a session younger than a day are said to be gone",
            ));
        }
        let log = LogId::Session(*session);
        let unproved = self
            .grown(log, ("sessionId", json!(session)), first)
            .await?;
        self.state.sessions.entry(*session).or_default().cursor = first;
        self.dir.save(&self.state)?;
        Ok(Gap {
            from,
            first,
            unproved,
        })
    }
}
