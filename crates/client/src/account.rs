//! An identity on one chain: registering, sessions, sending, confirming.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::message::{AcknowledgeMessages, SendBatch};
use session_chain::tx::session::{AcceptSession, CloseSession, CreateSession, NewParticipant};
use session_chain::tx::{KemKey, Kind, SigningKey, Tx};
use session_core::codec::{Decode, Encode};
use session_core::hash::sha256;
use session_core::ids::{AccountId, ChainId, Digest, SessionId};
use session_core::limits::VALID_AHEAD_MAX_MS;
use session_core::log::{Conversation, Entry, LogId, MembershipEvent};
use session_core::record::{Acknowledgement, RecordKey};
use session_core::session::{Roster, Session};
use session_core::time::Time;
use session_crypto::{CryptoError, Identity, KemPublicKey, PublicIdentity, SigningPublicKey};

use crate::content::{Bound, CHUNK_BYTES, Content, FILE_BYTES_MAX, TEXT_MAX, is_file_name};
use crate::rpc::{RpcClient, RpcError};
use crate::state::{Contact, HistoryLine, State, StateDir, StateError};
use crate::trust::{TrustError, decode_proof};

/// Transactions in one call: six of 200 kB in base64 stay below the body limit.
const SUBMIT_BYTES: usize = 1_300_000;

/// Code of the node's `expired` error.
const EXPIRED: i64 = -32_009;

/// Code of the node's `message known` error.
const MESSAGE_KNOWN: i64 = -32_016;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The node.
    #[error("{0}")]
    Rpc(#[from] RpcError),
    /// A proof.
    #[error("{0}")]
    Trust(#[from] TrustError),
    /// Keeping state.
    #[error("{0}")]
    State(#[from] StateError),
    /// Cryptography.
    #[error("{0}")]
    Crypto(#[from] CryptoError),
    /// A transaction was refused for good.
    #[error("{0}")]
    Refused(String),
    /// A transaction is not accepted yet: it stays in the outbox.
    #[error("not accepted yet; {waiting} transactions wait in the outbox and are sent again")]
    Waiting {
        /// How many.
        waiting: usize,
    },
    /// The other account has not registered.
    #[error("account {0} is not registered on this chain: ask its owner to connect once")]
    NotRegistered(AccountId),
    /// The node showed keys that do not hash to the account.
    #[error("the node showed keys that do not belong to account {0}")]
    OtherKeys(AccountId),
    /// A contact's keys are others than the ones the name was bound to.
    #[error(
        "the keys of {name} have changed (rotation {index}): compare ids with {name} by another \
         way, then accept them with `session contact accept {name}`"
    )]
    KeyChanged {
        /// Name of the contact.
        name: String,
        /// Rotation index that the chain shows.
        index: u32,
    },
    /// The session is unknown here.
    #[error("session {0} has no participant but this account")]
    NoPeer(SessionId),
    /// Text or file too large.
    #[error("{what} of {len} bytes: at most {limit} are possible")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Given.
        len: u64,
        /// Limit.
        limit: u64,
    },
    /// A name that no recipient would take.
    #[error("{0:?} is no name for a file: one component, not hidden, at most 255 bytes")]
    FileName(String),
    /// The reply makes no sense.
    #[error("the node's reply makes no sense: {0}")]
    Reply(&'static str),
}

/// Current keys of an account.
#[derive(Debug, Clone)]
pub struct Lookup {
    /// The keys.
    pub keys: PublicIdentity,
    /// 0 for the original ones, which hash to the account id.
    pub index: u32,
}

/// What was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// Sequence number of the first message.
    pub sequence: u64,
    /// Messages.
    pub messages: u64,
}

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
#[serde(rename_all = "camelCase")]
struct HeadReply {
    chain: ChainId,
    header: String,
    head_key: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IdentityReply {
    registered: bool,
    kem_public_key: Option<String>,
    signing_public_key: Option<String>,
    key_index: Option<u32>,
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

/// An identity with its state on one chain.
pub struct Account {
    pub(crate) rpc: RpcClient,
    pub(crate) identity: Identity,
    pub(crate) dir: StateDir,
    pub(crate) state: State,
    pub(crate) chain: ChainId,
    pub(crate) known: HashMap<AccountId, Lookup>,
    head_time: Time,
}

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

/// Wall clock.
pub(crate) fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

fn random_u64() -> Result<u64, CryptoError> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| CryptoError::NoRandomness)?;
    Ok(u64::from_be_bytes(bytes))
}

impl Account {
    /// Connects, pins the chain and its head key, registers the identity if it is not, and sends
    /// what waits in the outbox.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn open(rpc: RpcClient, identity: Identity, dir: &Path) -> Result<Self, ClientError> {
        let dir = StateDir::open(dir)?;
        let mut state = dir.load()?;
        let head: HeadReply = rpc.call("sessionvm.GetHead", json!({})).await?;
        state.trust.pin(head.chain, &head.head_key)?;
        dir.save(&state)?;
        let header = const_hex::decode(&head.header).unwrap_or_default();
        let header = session_core::header::Header::from_bytes(&header)
            .map_err(|_| ClientError::Reply("header"))?;
        let (chain, known) = (head.chain, HashMap::new());
        let mut this = Self {
            rpc,
            identity,
            dir,
            state,
            chain,
            known,
            head_time: header.time,
        };
        this.register().await?;
        this.flush_outbox().await?;
        Ok(this)
    }

    /// The account's id.
    pub const fn id(&self) -> AccountId {
        self.identity.account_id()
    }

    /// The identity.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The chain.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// What is kept between runs.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The connection.
    pub const fn rpc(&self) -> &RpcClient {
        &self.rpc
    }

    /// The directory of this account.
    pub const fn dir(&self) -> &StateDir {
        &self.dir
    }

    async fn register(&mut self) -> Result<(), ClientError> {
        let reply: IdentityReply = self
            .rpc
            .call("sessionvm.GetIdentity", json!({ "account": self.id() }))
            .await?;
        if reply.registered {
            return Ok(());
        }
        let public = self.identity.public();
        let kind = Kind::RegisterIdentity(RegisterIdentity {
            kem: KemKey(Box::new(*public.kem().as_bytes())),
            signing: SigningKey(Box::new(*public.signing().as_bytes())),
            recovery: None,
        });
        let tx = self.sign(kind)?;
        self.submit(vec![tx]).await?;
        Ok(())
    }

    // ---- transactions

    /// Signs a transaction that is valid for half an hour.
    fn sign(&self, kind: Kind) -> Result<Tx, ClientError> {
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
    async fn submit(&mut self, txs: Vec<Tx>) -> Result<Vec<Value>, ClientError> {
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
    pub async fn flush_outbox(&mut self) -> Result<usize, ClientError> {
        let waiting = self.dir.waiting()?;
        let count = waiting.len();
        self.send_kept(waiting).await?;
        Ok(count)
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

    async fn submit_one(&mut self, kind: Kind) -> Result<Value, ClientError> {
        let tx = self.sign(kind)?;
        let outcomes = self.submit(vec![tx]).await?;
        outcomes
            .into_iter()
            .next()
            .ok_or(ClientError::Reply("results"))
    }

    // ---- people

    /// Current keys of an account, checked: original keys hash to the id, and those of a contact
    /// are the ones its name was bound to.
    ///
    /// # Errors
    /// [`ClientError::NotRegistered`], [`ClientError::OtherKeys`], [`ClientError::KeyChanged`].
    pub async fn lookup(&mut self, account: AccountId) -> Result<Lookup, ClientError> {
        if let Some(known) = self.known.get(&account) {
            return Ok(known.clone());
        }
        let found = self.fetch_keys(account).await?;
        if let Some((name, contact)) = self
            .state
            .contacts
            .iter()
            .find(|(_, contact)| contact.account == account)
            && !contact.has_keys(&found.keys)
        {
            return Err(ClientError::KeyChanged {
                name: name.clone(),
                index: found.index,
            });
        }
        self.known.insert(account, found.clone());
        Ok(found)
    }

    async fn fetch_keys(&self, account: AccountId) -> Result<Lookup, ClientError> {
        let reply: IdentityReply = self
            .rpc
            .call("sessionvm.GetIdentity", json!({ "account": account }))
            .await?;
        let (Some(kem), Some(signing)) = (reply.kem_public_key, reply.signing_public_key) else {
            return Err(ClientError::NotRegistered(account));
        };
        let bytes = |text: &str| const_hex::decode(text).unwrap_or_default();
        let kem = KemPublicKey::try_from(bytes(&kem).as_slice())?;
        let signing = SigningPublicKey::try_from(bytes(&signing).as_slice())?;
        let keys = PublicIdentity::new(kem, signing);
        let index = reply.key_index.unwrap_or_default();
        // Rotated keys do not hash to the id; only a contact who confirmed them is believed.
        let pinned = self.state.contacts.values().any(|c| c.account == account);
        if keys.account_id() != account && (index == 0 || !pinned) {
            return Err(ClientError::OtherKeys(account));
        }
        Ok(Lookup { keys, index })
    }

    /// Binds a name to an account's current keys.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_contact(&mut self, name: &str, account: AccountId) -> Result<(), ClientError> {
        let found = self.fetch_keys(account).await?;
        let contact = Contact {
            account,
            kem_key: const_hex::encode(found.keys.kem().as_bytes()),
            signing_key: const_hex::encode(found.keys.signing().as_bytes()),
            key_index: found.index,
        };
        self.state.contacts.insert(name.to_owned(), contact);
        self.known.remove(&account);
        Ok(self.dir.save(&self.state)?)
    }

    /// Forgets a name. Answers whether there was one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn remove_contact(&mut self, name: &str) -> Result<bool, ClientError> {
        let removed = self.state.contacts.remove(name).is_some();
        self.dir.save(&self.state)?;
        Ok(removed)
    }

    // ---- sessions

    /// Opens a session with another account: a request until it accepts or answers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_session(&mut self, peer: AccountId) -> Result<SessionId, ClientError> {
        self.lookup(peer).await?;
        let mut accounts = [self.id(), peer];
        accounts.sort_unstable();
        let participants = accounts
            .into_iter()
            .map(|account| NewParticipant {
                account,
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
        self.state.sessions.entry(id).or_default().peer = Some(peer);
        self.dir.save(&self.state)?;
        Ok(id)
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
            let proof = decode_proof(&reply.proof)?;
            let proved = self.state.trust.check(&proof)?;
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
    async fn roster(&mut self, session: &SessionId) -> Result<Roster, ClientError> {
        let params = json!({ "sessionId": session });
        let reply: Value = self
            .rpc
            .call("sessionvm.GetSession", params.clone())
            .await?;
        let roster = reply.pointer("/session/roster").and_then(Value::as_str);
        let roster = const_hex::decode(roster.unwrap_or_default()).unwrap_or_default();
        let roster = Roster::from_bytes(&roster).map_err(|_| ClientError::Reply("roster"))?;
        let reply: ProofReply = self.rpc.call("sessionvm.GetProof", params).await?;
        let proved = self.state.trust.check(&decode_proof(&reply.proof)?)?;
        let record = proved
            .record
            .filter(|_| proved.key == RecordKey::Session(*session))
            .ok_or(ClientError::Reply("the proof is about something else"))?;
        let record = Session::from_bytes(&record).map_err(TrustError::from)?;
        if record.roster != roster.digest() {
            return Err(ClientError::Reply("participants and proof differ"));
        }
        Ok(roster)
    }

    /// The other participant of a session.
    pub(crate) async fn peer(&mut self, session: &SessionId) -> Result<AccountId, ClientError> {
        if let Some(peer) = self.state.sessions.get(session).and_then(|p| p.peer) {
            return Ok(peer);
        }
        let roster = self.roster(session).await?;
        let me = self.id();
        let mut others = roster.participants().iter().filter(|p| p.account != me);
        let peer = others.next().ok_or(ClientError::NoPeer(*session))?.account;
        self.state.sessions.entry(*session).or_default().peer = Some(peer);
        Ok(peer)
    }

    /// The other participant of a session.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn peer_of(&mut self, session: &SessionId) -> Result<AccountId, ClientError> {
        self.peer(session).await
    }

    /// Whether a session is pending or active.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn is_open(&self, session: &SessionId) -> Result<bool, ClientError> {
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

    // ---- sending

    /// Sends words.
    ///
    /// # Errors
    /// [`ClientError`]; on [`ClientError::Waiting`] the message is in the outbox.
    pub async fn send_text(
        &mut self,
        session: &SessionId,
        text: &str,
    ) -> Result<Sent, ClientError> {
        self.send_texts(session, &[text]).await
    }

    /// Sends several texts under one signature.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send_texts(
        &mut self,
        session: &SessionId,
        texts: &[&str],
    ) -> Result<Sent, ClientError> {
        let mut contents = Vec::with_capacity(texts.len());
        for text in texts {
            if text.len() > TEXT_MAX {
                let (len, limit) = (text.len() as u64, TEXT_MAX as u64);
                return Err(ClientError::TooLarge {
                    what: "a text",
                    len,
                    limit,
                });
            }
            contents.push(Content::Text((*text).to_owned()));
        }
        let sequence = self.send_contents(session, contents).await?;
        let mut lines = Vec::with_capacity(texts.len());
        for (at, text) in (sequence..).zip(texts) {
            lines.push(self.own_line(session, at, "text", text));
        }
        self.dir.remember(&lines)?;
        Ok(Sent {
            sequence,
            messages: texts.len() as u64,
        })
    }

    /// Sends a file in pieces; `progress(sent, total)` counts bytes.
    ///
    /// # Errors
    /// [`ClientError`]; what was not accepted stays in the outbox.
    pub async fn send_file(
        &mut self,
        session: &SessionId,
        name: &str,
        bytes: &[u8],
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Sent, ClientError> {
        let total = bytes.len() as u64;
        if total > FILE_BYTES_MAX {
            let limit = FILE_BYTES_MAX;
            return Err(ClientError::TooLarge {
                what: "a file",
                len: total,
                limit,
            });
        }
        if !is_file_name(name) {
            return Err(ClientError::FileName(name.to_owned()));
        }
        let digest = Digest::from_bytes(sha256(bytes));
        let offer = Content::File {
            name: name.to_owned(),
            len: total,
            digest,
        };
        let sequence = self.send_contents(session, vec![offer]).await?;
        let mut sent = 0;
        for (index, chunk) in (0u32..).zip(bytes.chunks(CHUNK_BYTES)) {
            let content = Content::Chunk {
                file: digest,
                index,
                bytes: chunk.to_vec(),
            };
            self.send_contents(session, vec![content]).await?;
            sent += chunk.len() as u64;
            progress(sent, total);
        }
        let line = self.own_line(session, sequence, "file", name);
        self.dir.remember(&[line])?;
        let messages = 1 + bytes.len().div_ceil(CHUNK_BYTES) as u64;
        Ok(Sent { sequence, messages })
    }

    fn own_line(&self, session: &SessionId, at: u64, kind: &str, text: &str) -> HistoryLine {
        HistoryLine {
            session: *session,
            sequence: Some(at),
            sender: self.id(),
            time: now().ms().to_string(),
            kind: kind.to_owned(),
            text: text.to_owned(),
        }
    }

    async fn send_contents(
        &mut self,
        session: &SessionId,
        contents: Vec<Content>,
    ) -> Result<u64, ClientError> {
        let peer = self.peer(session).await?;
        let keys = self.lookup(peer).await?.keys;
        let mut ciphertexts = Vec::with_capacity(contents.len());
        for content in contents {
            let progress = self.state.sessions.entry(*session).or_default();
            let counter = progress.counter;
            progress.counter += 1;
            let bound = Bound {
                session: *session,
                counter,
                content,
            };
            // Each message has an encapsulation of its own.
            ciphertexts.push(self.seal(&keys, peer, &bound.to_bytes())?);
        }
        let conversation = Conversation::Session(*session);
        let kind = Kind::SendBatch(SendBatch {
            conversation,
            ciphertexts,
        });
        let outcome = self.submit_one(kind).await?;
        outcome
            .get("sequence")
            .and_then(Value::as_u64)
            .ok_or(ClientError::Reply("sequence"))
    }

    fn seal(
        &self,
        keys: &PublicIdentity,
        recipient: AccountId,
        plaintext: &[u8],
    ) -> Result<Vec<u8>, ClientError> {
        // The recipient's account id stays when its keys rotate.
        let parties = session_crypto::envelope::Parties {
            sender: self.id(),
            recipient,
        };
        Ok(session_crypto::envelope::seal(
            keys.kem(),
            &parties,
            plaintext,
        )?)
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

    /// The other participant's delivery confirmation, proved; none if there is none, also proved.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receipt(&mut self, session: &SessionId) -> Result<Option<Receipt>, ClientError> {
        let account = self.peer(session).await?;
        let params = json!({ "sessionId": session, "account": account, "proof": true });
        let reply: ProofReply = self.rpc.call("sessionvm.GetReceipts", params).await?;
        let proved = self.state.trust.check(&decode_proof(&reply.proof)?)?;
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
