//! People who submit signed transactions to plugins, and what they were told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::key_package::{NewKeyPackage, PublishKeyPackages, TakeKeyPackages};
use session_chain::tx::message::{SendBatch, SendMessage};
use session_chain::tx::session::{AcceptSession, CreateSession, NewParticipant};
use session_chain::tx::{KemKey, Kind, SigningKey, Tx};
use session_core::codec::Encode;
use session_core::ids::{AccountId, ActionId, ChainId, DeviceId, SessionId, TxId};
use session_core::log::Conversation;
use session_core::submission::{Submitted, decode_reply, encode_request};
use session_core::time::Time;
use session_crypto::{Identity, Seed};
use tokio::task::JoinHandle;

use crate::chance::Chance;
use crate::group::Group;
use crate::http::Handler;

/// How long a submitter waits for its block before it asks again.
const WAIT_MS: u64 = 4_000;

/// How long a submitter goes on asking.
const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody with keys on one chain.
pub struct Person {
    identity: Identity,
    chain: ChainId,
    salt: AtomicU64,
}

impl Person {
    /// The person of this seed.
    pub fn new(seed: [u8; 32], chain: ChainId) -> Self {
        let identity = Identity::from_seed(Seed::new(seed)).unwrap();
        let salt = AtomicU64::new(0);
        Self {
            identity,
            chain,
            salt,
        }
    }

    /// Account id.
    pub fn id(&self) -> AccountId {
        self.identity.account_id()
    }

    /// The chain that this person signs for.
    pub(crate) const fn chain(&self) -> ChainId {
        self.chain
    }

    /// A signed transaction, valid for half an hour.
    pub fn sign(&self, kind: Kind) -> Tx {
        let single = kind.is_single_message();
        let later = half_an_hour_ahead();
        let salt = self.salt.fetch_add(1, Ordering::SeqCst);
        let mut tx = Tx {
            signer: self.id(),
            valid_until: if single { Time::default() } else { later },
            salt: if single { 0 } else { salt },
            kind,
            signature: Vec::new(),
        };
        let digest = tx.signed_digest(&self.chain);
        tx.signature = self.identity.sign(&digest).unwrap().as_bytes().to_vec();
        tx
    }

    /// Registers this person's keys.
    pub fn registration(&self) -> Tx {
        let public = self.identity.public();
        self.sign(Kind::RegisterIdentity(RegisterIdentity {
            kem: KemKey(Box::new(*public.kem().as_bytes())),
            signing: SigningKey(Box::new(*public.signing().as_bytes())),
            recovery: None,
        }))
    }

    /// Opens a session with somebody who is registered too.
    pub fn open_session(&self, with: &Self) -> (Tx, SessionId) {
        let mut accounts = [self.id(), with.id()];
        accounts.sort_unstable();
        let participants = accounts.map(|account| NewParticipant {
            account,
            kem: None,
            signing: None,
        });
        let tx = self.sign(Kind::CreateSession(CreateSession {
            participants: participants.to_vec(),
        }));
        let session = CreateSession::session_id(&tx.ids(&self.chain).action);
        (tx, session)
    }

    /// Accepts a session.
    pub fn accept_session(&self, session: SessionId) -> Tx {
        self.sign(Kind::AcceptSession(AcceptSession { session }))
    }

    /// One message.
    pub fn message(&self, session: SessionId, ciphertext: Vec<u8>) -> Tx {
        let conversation = Conversation::Session(session);
        self.sign(Kind::SendMessage(SendMessage {
            conversation,
            ciphertext,
        }))
    }

    /// Several messages.
    pub fn batch(&self, session: SessionId, ciphertexts: Vec<Vec<u8>>) -> Tx {
        let conversation = Conversation::Session(session);
        self.sign(Kind::SendBatch(SendBatch {
            conversation,
            ciphertexts,
        }))
    }
}

pub(crate) fn half_an_hour_ahead() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Time::from_ms(u64::try_from(now.as_millis()).unwrap() + 1_800_000)
}

/// What a submitter was told in the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is in a block.
    Accepted {
        /// Of the block, or of the head when an earlier submission was recognised.
        height: u64,
        /// Its id, when this submission is the one that counted.
        tx: Option<TxId>,
        /// Whether an earlier submission was recognised.
        repeated: bool,
    },
    /// It waits still.
    Pending,
    /// It was not taken.
    Refused {
        /// Code of the RPC's table, negated.
        code: u32,
        /// Why.
        reason: String,
        /// When to come again, if there was no room.
        retry_ms: Option<u64>,
    },
    /// The plugin died, or said something that is no answer.
    Lost(String),
}

/// One transaction on its way.
pub struct Submission {
    /// What its signature covers.
    pub action: ActionId,
    /// Its id.
    pub tx: TxId,
    answer: JoinHandle<Answer>,
}

/// Everybody, and everything they submitted.
pub struct People {
    chain: ChainId,
    /// Registered, or on the way.
    pub persons: Vec<Person>,
    /// Sessions that were opened, with the number of somebody in them.
    pub sessions: Vec<(SessionId, usize)>,
    group: Option<Group>,
    open: Vec<Submission>,
    /// Who was told what.
    pub answers: Vec<(ActionId, TxId, Answer)>,
}

impl People {
    /// Nobody yet.
    pub const fn new(chain: ChainId) -> Self {
        Self {
            chain,
            persons: Vec::new(),
            sessions: Vec::new(),
            group: None,
            open: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// The chain.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Somebody new.
    pub fn join(&mut self, chance: &mut Chance) -> Tx {
        let person = Person::new(chance.bytes(), self.chain);
        let tx = person.registration();
        self.persons.push(person);
        tx
    }

    /// What happens next: a message, a few, something in a group, or somebody new comes.
    pub fn next(&mut self, chance: &mut Chance) -> Tx {
        let Some((session, person)) = chance.pick(&self.sessions).copied() else {
            return self.join(chance);
        };
        let mut text = |most: usize| {
            let length = 1 + chance.below(most);
            let mut text = chance.bytes::<32>().to_vec();
            text.resize(length.max(32), 0x5a);
            text
        };
        let (one, two) = (text(4_000), text(200));
        match chance.below(10) {
            0 => self.join(chance),
            1..=2 => self.persons[person].batch(session, vec![one, two]),
            3..=4 => self.in_group(person, one, chance),
            5 => self.key_packages(person, two),
            _ => self.persons[person].message(session, one),
        }
    }

    /// What a group does once it is there; before that somebody opens it.
    fn in_group(&mut self, person: usize, bytes: Vec<u8>, chance: &mut Chance) -> Tx {
        let answers = &self.answers;
        let standing = self.group.as_mut().filter(|group| !group.is_lost(answers));
        let Some(group) = standing else {
            let (group, tx) = Group::open(&self.persons[person]);
            self.group = Some(group);
            return tx;
        };
        if group.stands(&self.answers) {
            group.next(&self.answers, chance, bytes)
        } else {
            let next = (person + 1) % self.persons.len();
            self.key_packages(next, bytes)
        }
    }

    /// Publishes a package of somebody's only device, in the place of what it had; or takes one
    /// of somebody who has published.
    fn key_packages(&self, person: usize, bytes: Vec<u8>) -> Tx {
        let somebody = &self.persons[person];
        if bytes.len().is_multiple_of(2) {
            let target = self.persons[(person + 1) % self.persons.len()].id();
            return somebody.sign(Kind::TakeKeyPackages(TakeKeyPackages { target }));
        }
        let expires = half_an_hour_ahead();
        somebody.sign(Kind::PublishKeyPackages(PublishKeyPackages {
            device: DeviceId::from_bytes([1; 32]),
            replace: true,
            one_time: vec![NewKeyPackage { expires, bytes }],
            last_resort: None,
        }))
    }

    /// Submits a transaction and remembers to look at the answer.
    pub fn submit(&mut self, handlers: &[(String, Handler)], tx: &Tx, binary: bool) {
        let ids = tx.ids(&self.chain);
        let handler = |prefix: &str| {
            let found = handlers.iter().find(|(found, _)| found == prefix);
            found.map(|(_, handler)| handler.clone())
        };
        let bytes = tx.to_bytes();
        let submit = handler("/submit").filter(|_| binary);
        let rpc = handler("/rpc").expect("a handler of /rpc");
        let answer = tokio::spawn(async move {
            let began = Instant::now();
            loop {
                let answer = match &submit {
                    Some(handler) => binary_answer(handler, &bytes).await,
                    None => json_answer(&rpc, &bytes).await,
                };
                let again = match &answer {
                    Answer::Pending => Duration::ZERO,
                    Answer::Refused {
                        retry_ms: Some(ms), ..
                    } => Duration::from_millis(*ms),
                    Answer::Refused { retry_ms: None, .. }
                    | Answer::Accepted { .. }
                    | Answer::Lost(_) => return answer,
                };
                // Whoever is told to come again tomorrow does not wait for it.
                if began.elapsed().saturating_add(again) > PATIENCE {
                    return answer;
                }
                tokio::time::sleep(again).await;
            }
        });
        self.open.push(Submission {
            action: ids.action,
            tx: ids.tx,
            answer,
        });
    }

    /// Collects answers that have come; the number of those that have not.
    pub async fn collect(&mut self) -> usize {
        for at in (0..self.open.len()).rev() {
            if self.open[at].answer.is_finished() {
                let submission = self.open.swap_remove(at);
                let answer = submission.answer.await.expect("a submitter never panics");
                let told = (submission.action, submission.tx, answer);
                self.answers.push(told);
            }
        }
        self.open.len()
    }

    /// Advances of the group that were told to be accepted.
    pub fn advances(&self) -> usize {
        let group = self.group.as_ref();
        group.map_or(0, |group| group.accepted_advances(&self.answers))
    }

    /// How often each kind of answer was given.
    pub fn tally(&self) -> BTreeMap<String, usize> {
        let mut tally = BTreeMap::new();
        for (_, _, answer) in &self.answers {
            let name = match answer {
                Answer::Accepted { repeated, .. } if *repeated => "accepted before".to_owned(),
                Answer::Accepted { .. } => "accepted".to_owned(),
                Answer::Pending => "pending".to_owned(),
                Answer::Refused { code, reason, .. } => format!("refused {code}: {reason}"),
                Answer::Lost(why) => format!("lost: {:.40}", why),
            };
            *tally.entry(name).or_default() += 1;
        }
        tally
    }
}

async fn binary_answer(handler: &Handler, tx: &[u8]) -> Answer {
    let headers = [("Content-Type", "application/octet-stream")];
    let body = encode_request(&[tx]);
    let reply = match handler.simple("POST", "/submit", &headers, body).await {
        Ok(reply) if reply.code == 200 => reply,
        Ok(reply) => return Answer::Lost(format!("{}: {}", reply.code, reply.text())),
        Err(status) => return Answer::Lost(status.to_string()),
    };
    match decode_reply(&reply.body).map(|mut answers| answers.pop()) {
        Ok(Some(Submitted::Accepted {
            tx,
            height,
            repeated,
            ..
        })) => Answer::Accepted {
            height,
            tx,
            repeated,
        },
        Ok(Some(Submitted::Pending { .. })) => Answer::Pending,
        Ok(Some(Submitted::Refused {
            code,
            reason,
            retry_ms,
            ..
        })) => Answer::Refused {
            code,
            reason,
            retry_ms,
        },
        Ok(None) => Answer::Lost("no answer".to_owned()),
        Err(error) => Answer::Lost(error.to_string()),
    }
}

async fn json_answer(handler: &Handler, tx: &[u8]) -> Answer {
    let params = json!({ "txs": [BASE64.encode(tx)], "waitMs": WAIT_MS });
    let result = match call(handler, "sessionvm.Submit", &params).await {
        Ok(mut result) => result["results"][0].take(),
        Err(why) => return Answer::Lost(why),
    };
    match result["status"].as_str() {
        Some("accepted") => Answer::Accepted {
            height: result["height"].as_u64().unwrap_or_default(),
            tx: result["txId"].as_str().and_then(|id| id.parse().ok()),
            repeated: result["repeated"].as_bool().unwrap_or_default(),
        },
        Some("pending") => Answer::Pending,
        _ => {
            let code = result["code"].as_i64().unwrap_or_default().unsigned_abs();
            Answer::Refused {
                code: u32::try_from(code).unwrap_or_default(),
                reason: result["error"].as_str().unwrap_or("?").to_owned(),
                retry_ms: result["data"]["retryMs"].as_u64(),
            }
        }
    }
}

/// A JSON-RPC 2.0 call: its result, or why there is none.
///
/// # Errors
/// The error object, the HTTP status or the gRPC error, as text.
pub async fn call(handler: &Handler, method: &str, params: &Value) -> Result<Value, String> {
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    let headers = [("Content-Type", "application/json")];
    let patience = Duration::from_secs(40);
    let reply = handler.simple("POST", "/rpc", &headers, body.to_string().into_bytes());
    let reply = tokio::time::timeout(patience, reply).await;
    let reply = reply.map_err(|_| "no answer".to_owned())?;
    let reply = reply.map_err(|status| status.to_string())?;
    if reply.code != 200 {
        return Err(format!("{}: {}", reply.code, reply.text()));
    }
    let mut reply = reply.json();
    match reply.get("error") {
        Some(error) => Err(error.to_string()),
        None => Ok(reply["result"].take()),
    }
}
