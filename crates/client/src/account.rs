//! An identity on one chain: registering, sessions, sending, confirming.

use std::collections::HashMap;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::message::AcknowledgeMessages;
use session_chain::tx::session::{AcceptSession, CloseSession, CreateSession, NewParticipant};
use session_chain::tx::{KemKey, Kind, SigningKey};
use session_core::codec::Decode;
use session_core::ids::{AccountId, ChainId, SessionId};
use session_core::log::{Conversation, Entry, LogId, MembershipEvent};
use session_core::record::{Acknowledgement, RecordKey};
use session_core::session::{Roster, Session};
use session_core::time::Time;
use session_crypto::{CryptoError, Identity, KemPublicKey, PublicIdentity, SigningPublicKey};

use crate::outbox::Flushed;
use crate::rpc::{RpcClient, RpcError};
use crate::state::{Contact, State, StateDir, StateError};
use crate::trust::{TrustError, decode_proof};

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
    pub(crate) head_time: Time,
    flushed: Flushed,
}

/// Wall clock.
pub(crate) fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
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
            flushed: Flushed::default(),
        };
        this.register().await?;
        this.flushed = this.flush_outbox().await?;
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

    /// What became of the outbox when the account was opened.
    pub const fn flushed(&self) -> &Flushed {
        &self.flushed
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
