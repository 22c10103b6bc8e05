//! Sessions: opening, listing, who takes part, and who has what.

use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::tx::Kind;
use session_chain::tx::message::AcknowledgeMessages;
use session_chain::tx::session::{AcceptSession, CloseSession, CreateSession, NewParticipant};
use session_core::codec::Decode;
use session_core::ids::{AccountId, SessionId};
use session_core::limits::{PARTICIPANTS_MAX, PARTICIPANTS_MIN};
use session_core::log::{Conversation, Entry, LogId, MembershipEvent};
use session_core::record::{Acknowledgement, RecordKey};
use session_core::session::{Roster, Session};
use session_core::time::Time;

use crate::account::{Account, now};
use crate::error::ClientError;
use crate::trust::{TrustError, decode_proof};

/// A session that this account is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionEntry {
    /// The session.
    pub session: SessionId,
    /// How the account came to it.
    pub event: MembershipEvent,
    /// Who opened it.
    pub by: Option<AccountId>,
}

/// A delivery confirmation, proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Who confirmed.
    pub account: AccountId,
    /// First sequence number not confirmed.
    pub up_to: u64,
    /// Block time.
    pub time: Time,
}

#[derive(Deserialize)]
struct ListReply {
    next: u64,
    proof: String,
}

#[derive(Deserialize)]
struct ProofReply {
    proof: String,
}

impl Account {
    /// Opens a session with another account: a request until it accepts or answers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_session(&mut self, peer: AccountId) -> Result<SessionId, ClientError> {
        self.create_session_with(&[peer]).await
    }

    /// Opens a session with 1 to 99 others: pending until each accepted or answered.
    ///
    /// # Errors
    /// [`ClientError::Participants`] for none, too many, or somebody named twice; what is wrong
    /// with the keys of one of them.
    pub async fn create_session_with(
        &mut self,
        peers: &[AccountId],
    ) -> Result<SessionId, ClientError> {
        let mut accounts = peers.to_vec();
        accounts.push(self.id());
        accounts.sort_unstable();
        let count = accounts.len();
        let fits = (PARTICIPANTS_MIN..=PARTICIPANTS_MAX).contains(&count);
        if !fits || !accounts.is_sorted_by(|a, b| a < b) {
            return Err(ClientError::Participants(count));
        }
        for peer in peers {
            self.lookup(*peer).await?;
        }
        let participants = accounts
            .iter()
            .map(|account| NewParticipant {
                account: *account,
                kem: None,
                signing: None,
            })
            .collect();
        let outcome = self
            .submit_one(Kind::CreateSession(CreateSession { participants }))
            .await?;
        let id = outcome
            .get("sessionId")
            .and_then(Value::as_str)
            .and_then(|id| id.parse().ok());
        let id = id.ok_or(ClientError::Reply("sessionId"))?;
        // The node's word is enough that there is a session; who is in it is proved.
        self.ask_participants(&id).await?;
        Ok(id)
    }

    /// Gives a session a name of one's own, which others do not see; none takes it away.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn name_session(
        &mut self,
        session: &SessionId,
        name: Option<String>,
    ) -> Result<(), ClientError> {
        self.state.sessions.entry(*session).or_default().name = name;
        Ok(self.dir.save(&self.state)?)
    }

    /// Accepts a session that somebody opened with this account.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn accept(&mut self, session: SessionId) -> Result<(), ClientError> {
        self.submit_one(Kind::AcceptSession(AcceptSession { session }))
            .await
            .map(drop)
    }

    /// Closes a session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn close(&mut self, session: SessionId) -> Result<(), ClientError> {
        // Saved with the transaction: a session closed offline is not written to any more.
        self.state.sessions.entry(session).or_default().closed = true;
        self.submit_one(Kind::CloseSession(CloseSession { session }))
            .await
            .map(drop)
    }

    /// Sessions that this account created or accepted, or, with `requests`, that others opened
    /// with it. The list is proved complete.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sessions(&mut self, requests: bool) -> Result<Vec<SessionEntry>, ClientError> {
        let id = self.id();
        let log = if requests {
            LogId::Requests(id)
        } else {
            LogId::Memberships(id)
        };
        let mut out = Vec::new();
        let mut from = 0u64;
        loop {
            let params =
                json!({ "participant": id, "requests": requests, "from": from, "proof": true });
            let reply: ListReply = self.rpc.call("sessionvm.ListSessions", params).await?;
            let mut proof = decode_proof(&reply.proof)?;
            let proved = self.believe(&mut proof).await?;
            let Some(entries) = proved.entries.filter(|entries| entries.log == log) else {
                return Err(ClientError::Reply("the proof is about another log"));
            };
            if entries.from != from {
                return Err(ClientError::Reply("the proof begins elsewhere"));
            }
            for entry in &entries.entries {
                if let Entry::Membership(entry) = entry
                    && let Conversation::Session(session) = entry.conversation
                {
                    out.push(SessionEntry {
                        session,
                        event: entry.event,
                        by: entry.by,
                    });
                }
            }
            from = reply.next;
            if from >= entries.count || entries.entries.is_empty() {
                break;
            }
        }
        self.dir.save(&self.state)?;
        Ok(out)
    }

    /// Participants of a session, proved: a node that named somebody else would read what is
    /// sealed to them.
    async fn ask_participants(&mut self, session: &SessionId) -> Result<(), ClientError> {
        if self.away.is_some() {
            return Err(ClientError::SessionNotKnown(*session));
        }
        let params = json!({ "sessionId": session });
        let reply: Value = self
            .rpc
            .call("sessionvm.GetSession", params.clone())
            .await?;
        let roster = reply.pointer("/session/roster").and_then(Value::as_str);
        let roster = const_hex::decode(roster.unwrap_or_default()).unwrap_or_default();
        let roster = Roster::from_bytes(&roster).map_err(|_| ClientError::Reply("roster"))?;
        let reply: ProofReply = self.rpc.call("sessionvm.GetProof", params).await?;
        let proved = self.believe(&mut decode_proof(&reply.proof)?).await?;
        let record = proved
            .record
            .filter(|_| proved.key == RecordKey::Session(*session))
            .ok_or(ClientError::Reply("the proof is about something else"))?;
        let record = Session::from_bytes(&record).map_err(TrustError::from)?;
        if record.roster != roster.digest() {
            return Err(ClientError::Reply("participants and proof differ"));
        }
        if roster.position(&self.id()).is_none() {
            return Err(ClientError::NotIn(*session));
        }
        let progress = self.state.sessions.entry(*session).or_default();
        progress.participants = roster.participants().iter().map(|p| p.account).collect();
        progress.created = record.created.ms();
        progress.expires = record.expires.ms();
        progress.closed |= record.closed.is_some();
        Ok(self.dir.save(&self.state)?)
    }

    /// Participants of a session, this account among them, ascending; proved, and known here
    /// once they were asked for.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::SessionNotKnown`] where the node does not answer.
    pub async fn participants(
        &mut self,
        session: &SessionId,
    ) -> Result<Vec<AccountId>, ClientError> {
        let known = |this: &Self| {
            let progress = this.state.sessions.get(session);
            progress.map(|p| p.participants.clone()).unwrap_or_default()
        };
        if known(self).is_empty() {
            self.ask_participants(session).await?;
        }
        Ok(known(self))
    }

    /// The participants but this account.
    ///
    /// # Errors
    /// As [`Account::participants`]; [`ClientError::NoPeer`].
    pub async fn peers_of(&mut self, session: &SessionId) -> Result<Vec<AccountId>, ClientError> {
        let me = self.id();
        let mut peers = self.participants(session).await?;
        peers.retain(|account| *account != me);
        if peers.is_empty() {
            return Err(ClientError::NoPeer(*session));
        }
        Ok(peers)
    }

    /// Whether a session is pending or active; where the node does not answer, as of the last
    /// look.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn is_open(&self, session: &SessionId) -> Result<bool, ClientError> {
        if self.away.is_some() {
            return Ok(self.is_open_offline(session));
        }
        let reply: Value = self
            .rpc
            .call("sessionvm.GetSession", json!({ "sessionId": session }))
            .await?;
        let status = reply
            .pointer("/session/status")
            .and_then(Value::as_str)
            .unwrap_or_default();
        Ok(matches!(status, "pending" | "active"))
    }

    fn is_open_offline(&self, session: &SessionId) -> bool {
        let progress = self.state.sessions.get(session);
        progress.is_some_and(|p| !p.closed && Time::from_ms(p.expires) > now())
    }

    /// The newest open session with exactly these others.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn session_with(
        &mut self,
        peers: &[AccountId],
    ) -> Result<Option<SessionId>, ClientError> {
        let mut company = peers.to_vec();
        company.push(self.id());
        company.sort_unstable();
        if self.away.is_some() {
            let mut known: Vec<_> = self.state.sessions.iter().collect();
            known.retain(|(_, progress)| progress.participants == company);
            known.sort_by_key(|(_, progress)| progress.created);
            let open = known.into_iter().rev().map(|(id, _)| *id);
            return Ok(open.into_iter().find(|id| self.is_open_offline(id)));
        }
        // Newest first: ours, then those that others opened.
        for requests in [false, true] {
            for entry in self.sessions(requests).await?.into_iter().rev() {
                let with = self.participants(&entry.session).await?;
                if with == company && self.is_open(&entry.session).await? {
                    return Ok(Some(entry.session));
                }
            }
        }
        Ok(None)
    }

    // ---- confirmations

    /// Confirms delivery of every message below `up_to`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn acknowledge(
        &mut self,
        session: &SessionId,
        up_to: u64,
    ) -> Result<(), ClientError> {
        let conversation = Conversation::Session(*session);
        let kind = Kind::AcknowledgeMessages(AcknowledgeMessages {
            conversation,
            up_to,
        });
        self.submit_one(kind).await.map(drop)
    }

    /// The delivery confirmation of the first other participant, proved; none if there is none,
    /// also proved. For sessions of two.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receipt(&mut self, session: &SessionId) -> Result<Option<Receipt>, ClientError> {
        let peers = self.peers_of(session).await?;
        let peer = peers.first().ok_or(ClientError::NoPeer(*session))?;
        self.receipt_of(session, *peer).await
    }

    /// The delivery confirmation of each other participant, proved, or proved to be missing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receipts(
        &mut self,
        session: &SessionId,
    ) -> Result<Vec<(AccountId, Option<Receipt>)>, ClientError> {
        let mut out = Vec::new();
        for account in self.peers_of(session).await? {
            out.push((account, self.receipt_of(session, account).await?));
        }
        Ok(out)
    }

    async fn receipt_of(
        &mut self,
        session: &SessionId,
        account: AccountId,
    ) -> Result<Option<Receipt>, ClientError> {
        let params = json!({ "sessionId": session, "account": account, "proof": true });
        let reply: ProofReply = self.rpc.call("sessionvm.GetReceipts", params).await?;
        let proved = self.believe(&mut decode_proof(&reply.proof)?).await?;
        let conversation = Conversation::Session(*session);
        if proved.key != RecordKey::Acknowledgement(conversation, account) {
            return Err(ClientError::Reply("the proof is about another receipt"));
        }
        let Some(record) = proved.record else {
            return Ok(None);
        };
        let record = Acknowledgement::from_bytes(&record).map_err(TrustError::from)?;
        Ok(Some(Receipt {
            account,
            up_to: record.up_to,
            time: record.time,
        }))
    }
}
