//! Reading a session: proofs, signatures, envelopes, and files put together again.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;
use session_chain::tx::batch_action;
use session_core::codec::Decode;
use session_core::hash::sha256;
use session_core::ids::{AccountId, Digest, MessageId, SessionId};
use session_core::log::{Conversation, Entry, LogId, MessageEntry, message_id};
use session_core::proof::ProvedEntries;
use session_core::time::{DAY_MS, Time};
use session_crypto::envelope::Format;
use session_crypto::{Signature, SigningPublicKey};

use crate::account::{Account, now};
use crate::content::{Bound, Content, chunk_bytes};
use crate::error::{ClientError, KeyChange};
use crate::gap::{Gap, PRUNED};
use crate::group::InvitationCode;
use crate::history::HistoryLine;
use crate::people::Reading;
use crate::rpc::RpcError;
use crate::state::StateError;
use crate::trust::{STALE_MS, Trust, TrustError, decode_proof};
use session_e2ee::RejoinRequest;

/// Messages asked for at once.
const PAGE: u64 = 100;

/// What a message turned out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Words.
    Text(String),
    /// A file was announced.
    FileBegins {
        /// Its name.
        name: String,
        /// Bytes.
        len: u64,
    },
    /// A piece of a file.
    FilePart,
    /// A file is complete, its hash is right, and it lies here.
    File {
        /// Its name.
        name: String,
        /// Where it is.
        path: PathBuf,
        /// Bytes.
        len: u64,
    },
    /// What this account's devices may join a group by; it is kept until they did.
    Invitation(Box<InvitationCode>),
    /// A step of linking a device.
    Link(Vec<u8>),
    /// A device of the sender asks to be let back into a group; it is kept until it is answered.
    Rejoin(Box<RejoinRequest>),
    /// One of our own.
    Own,
    /// Its body is no longer stored.
    Pruned,
    /// It cannot be believed; the reason says why.
    Refused(&'static str),
}

/// Which of the sender's keys a signature is by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Those that the sender's name is bound to; of no contact, the current ones.
    Current,
    /// Earlier ones, which counted when the message was sent.
    Earlier,
    /// Later ones than the name is bound to. The keys before them have signed that.
    Rotated,
    /// None that is known here.
    Unknown,
}

impl KeyState {
    /// A word for programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Earlier => "earlier",
            Self::Rotated => "rotated",
            Self::Unknown => "unknown",
        }
    }
}

/// One message of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Place in the session.
    pub sequence: u64,
    /// Who sent it.
    pub sender: AccountId,
    /// Block time.
    pub time: Time,
    /// Whether its signature was verified here, with the sender's own key.
    pub verified: bool,
    /// Which of the sender's keys that was.
    pub keys: KeyState,
    /// Whether the sender id is bound to the envelope; false for the published format.
    pub bound: bool,
    /// What it is.
    pub item: Item,
}

/// What one look into a session brought.
#[derive(Debug, Clone, Default)]
pub struct Inbox {
    /// Messages that are gone before them.
    pub gap: Option<Gap>,
    /// Messages, in order; complete by proof.
    pub messages: Vec<Received>,
    /// Entries of the whole log by the last proof.
    pub count: u64,
    /// Height of the last proof.
    pub height: u64,
    /// Age of the node's signed head in milliseconds; over a minute it looks like an eclipse.
    pub head_age_ms: u64,
    /// Bytes of all proofs.
    pub proof_bytes: usize,
}

impl Inbox {
    /// The texts of others, in order.
    pub fn texts(&self) -> Vec<&str> {
        let texts = self
            .messages
            .iter()
            .filter_map(|message| match &message.item {
                Item::Text(text) => Some(text.as_str()),
                Item::FileBegins { .. }
                | Item::FilePart
                | Item::File { .. }
                | Item::Invitation(_)
                | Item::Link(_)
                | Item::Rejoin(_)
                | Item::Own
                | Item::Pruned
                | Item::Refused(_) => None,
            });
        texts.collect()
    }

    /// Whether the head is older than a minute.
    pub const fn is_stale(&self) -> bool {
        self.head_age_ms > STALE_MS
    }
}

#[derive(Deserialize)]
struct Reply {
    messages: Vec<MessageReply>,
    #[serde(default)]
    batches: Vec<BatchReply>,
    next: u64,
    proof: String,
}

#[derive(Deserialize)]
struct MessageReply {
    sequence: u64,
    ciphertext: String,
    signature: String,
    #[serde(default)]
    pruned: bool,
    batch: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BatchReply {
    first: u64,
    valid_until: u64,
    salt: String,
    ids: Vec<MessageId>,
    signature: String,
}

impl Account {
    /// Reads what is new in a session since the last call. Every page is proved complete, every
    /// signature verified, every envelope opened.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receive(&mut self, session: &SessionId) -> Result<Inbox, ClientError> {
        self.receive_waiting(session, 0).await
    }

    /// The same, waiting up to `wait_ms` for a first message: at most 25,000, and 10,000 where
    /// the node is reached through a host.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn receive_waiting(
        &mut self,
        session: &SessionId,
        wait_ms: u64,
    ) -> Result<Inbox, ClientError> {
        let mut inbox = Inbox::default();
        let mut wait_ms = wait_ms.min(self.rpc.wait_ms_max());
        // What is sealed to several people opens only for the proved list of them.
        self.participants(session).await?;
        loop {
            let from = self.state.sessions.entry(*session).or_default().cursor;
            let params = json!({
                "sessionId": session, "from": from, "limit": PAGE, "waitMs": wait_ms, "proof": true,
            });
            let reply: Reply = match self.rpc.call("sessionvm.GetMessages", params).await {
                Err(RpcError::Refused {
                    code: PRUNED, data, ..
                }) => {
                    let gap = self.leap(session, from, &data).await?;
                    inbox.gap = Some(inbox.gap.map_or(gap, |before| before.then(gap)));
                    continue;
                }
                reply => reply?,
            };
            if self.away.take().is_some() {
                // The node is back: what was sent meanwhile goes out.
                self.flushed = self.flush_outbox().await?;
            }
            let mut proof = decode_proof(&reply.proof)?;
            inbox.proof_bytes += reply.proof.len() / 4 * 3;
            let proved = match self.believe(&mut proof).await {
                // Restored while we looked on: read again under its new key.
                Err(ClientError::Trust(TrustError::NotSigned { .. }))
                    if self.meet_again().await? =>
                {
                    continue;
                }
                proved => proved?,
            };
            inbox.height = proved.header.height;
            inbox.head_age_ms = Trust::age_ms(&proof, now()).unwrap_or(u64::MAX);
            let entries = proved
                .entries
                .ok_or(ClientError::Reply("no entries are proved"))?;
            if entries.log != LogId::Session(*session) || entries.from != from {
                return Err(ClientError::Reply("the proof is about something else"));
            }
            inbox.count = entries.count;
            let next = from + entries.entries.len() as u64;
            if reply.next != next || reply.messages.len() != entries.entries.len() {
                return Err(ClientError::Reply("messages and proof differ"));
            }
            let before = self.state.sessions.get(session).cloned();
            let received = match self.read_page(session, &reply, &entries).await {
                Ok(received) => received,
                Err(error) => {
                    // A page counts whole or not at all: read again, its first messages would
                    // look like replays.
                    self.state
                        .sessions
                        .insert(*session, before.unwrap_or_default());
                    return Err(error);
                }
            };
            self.state.sessions.entry(*session).or_default().cursor = next;
            self.keep_history(session, &received)?;
            self.keep_invitations(session, &received)?;
            self.keep_rejoins(&received)?;
            inbox.messages.extend(received);
            self.dir.save(&self.state)?;
            wait_ms = 0;
            if next >= inbox.count {
                return Ok(inbox);
            }
        }
    }

    async fn read_page(
        &mut self,
        session: &SessionId,
        reply: &Reply,
        entries: &ProvedEntries,
    ) -> Result<Vec<Received>, ClientError> {
        let mut out = Vec::with_capacity(entries.entries.len());
        for (message, entry) in reply.messages.iter().zip(&entries.entries) {
            let Entry::Message(entry) = entry else {
                return Err(ClientError::Reply("not a message log"));
            };
            if message.sequence != entry.sequence {
                return Err(ClientError::Reply("messages out of order"));
            }
            let batch = message
                .batch
                .and_then(|f| reply.batches.iter().find(|b| b.first == f));
            out.push(self.read_one(session, message, batch, entry).await?);
        }
        Ok(out)
    }

    async fn read_one(
        &mut self,
        session: &SessionId,
        message: &MessageReply,
        batch: Option<&BatchReply>,
        entry: &MessageEntry,
    ) -> Result<Received, ClientError> {
        let mut received = Received {
            sequence: entry.sequence,
            sender: entry.sender,
            time: entry.time,
            verified: false,
            keys: KeyState::Unknown,
            bound: false,
            item: Item::Pruned,
        };
        // No chain keeps bodies for less than a day, so a younger one is withheld: by the clock here, or
        // by the chain's own proved time where that is ahead.
        let time = now().max(self.proved_time);
        if message.pruned && time.since(entry.time) < DAY_MS {
            return Err(ClientError::Reply(
                "a message younger than a day is said to be pruned",
            ));
        }
        if message.pruned {
            return Ok(received);
        }
        let ciphertext = const_hex::decode(&message.ciphertext).unwrap_or_default();
        let conversation = Conversation::Session(*session);
        let body = Digest::from_bytes(sha256(&ciphertext));
        let id = message_id(&self.chain, &conversation, &entry.sender, &body);
        if body != entry.body_hash || id != entry.id {
            // Nothing of this page is kept, so that an honest node can still deliver it.
            return Err(ClientError::Reply(
                "a body is not the one the log commits to",
            ));
        }
        if entry.sender == self.id() {
            (received.verified, received.bound, received.item) = (true, true, Item::Own);
            received.keys = KeyState::Current;
            return Ok(received);
        }
        // A sender may have rotated since its keys were looked at: then they are asked for again.
        for asks in [false, true] {
            for (key, state) in self.signers(entry, asks).await? {
                if !received.verified && self.is_signed(message, batch, entry, &key) {
                    (received.verified, received.keys) = (true, state);
                }
            }
            if received.verified || !entry.verified {
                break;
            }
        }
        if entry.verified && !received.verified {
            received.item = Item::Refused(match self.contact_of(&entry.sender) {
                Some((_, contact)) if contact.key_index > 0 => {
                    "it is signed by none of the sender's keys that are known here"
                }
                _ => "the signature does not hold",
            });
            return Ok(received);
        }
        match self
            .open_envelope(session, entry.sender, &ciphertext)
            .await?
        {
            Ok((plaintext, bound)) => {
                received.bound = bound;
                received.item = self.read_content(session, entry.sender, &plaintext)?;
            }
            Err(why) => received.item = Item::Refused(why),
        }
        Ok(received)
    }

    /// The plaintext and whether the sender is bound to it, or why there is none. In a session of
    /// several everybody must be able to read the same.
    async fn open_envelope(
        &mut self,
        session: &SessionId,
        sender: AccountId,
        ciphertext: &[u8],
    ) -> Result<Result<(Vec<u8>, bool), &'static str>, ClientError> {
        let mut company = self.participants(session).await?;
        let several = company.len() > 2;
        if several {
            company.retain(|account| *account != sender);
            if let Ok(plaintext) = self.identity.open_many(sender, &company, ciphertext) {
                return Ok(Ok((plaintext, true)));
            }
        }
        Ok(match self.identity.open(sender, ciphertext) {
            Ok(opened) if several && opened.format == Format::V2 => {
                Err("it is sealed to this account alone, in a session of several")
            }
            Ok(opened) => Ok((opened.plaintext, opened.format == Format::V2)),
            Err(_) => Err("it cannot be opened with this account's keys"),
        })
    }

    /// Keys that may have signed an entry, the likeliest first. None of an account that has none.
    async fn signers(
        &mut self,
        entry: &MessageEntry,
        asks: bool,
    ) -> Result<Vec<(SigningPublicKey, KeyState)>, ClientError> {
        let sender = entry.sender;
        let Reading { shown, history } = match self.reading_of(sender, asks).await {
            Ok(found) => found,
            Err(ClientError::NotRegistered(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let contact = self.contact_of(&sender);
        let contact = contact.map(|(name, contact)| (name.clone(), contact.clone()));
        let changed = |how: KeyChange| match &contact {
            Some((name, _)) => ClientError::KeyChanged {
                name: name.clone(),
                index: shown.index,
                how,
            },
            None => ClientError::UnvouchedKeys {
                account: sender,
                index: shown.index,
                how,
            },
        };
        let bound = contact.as_ref().and_then(|(_, contact)| contact.keys());
        let Some(history) = history else {
            // Only what was accepted here before can be believed.
            let Some((_, contact)) = &contact else {
                return Err(changed(KeyChange::Unverifiable));
            };
            if !contact.has_keys(&shown.keys) {
                return Err(changed(KeyChange::Unverifiable));
            }
            let mut keys = vec![(shown.keys.signing().clone(), KeyState::Current)];
            let earlier = contact.earlier.iter().filter_map(|hex| {
                let bytes = const_hex::decode(hex).ok()?;
                SigningPublicKey::try_from(bytes.as_slice()).ok()
            });
            keys.extend(earlier.map(|key| (key, KeyState::Earlier)));
            return Ok(keys);
        };
        let at = history.at_height(entry.height);
        let from = match bound {
            Some(bound) => history
                .position(&bound)
                .ok_or_else(|| changed(KeyChange::Unverifiable))?,
            None => history.current(),
        };
        // Without a name to hold on to, the account id is what the keys must come from.
        let since = if contact.is_some() { from } else { 0 };
        if at > since && history.change(since, at) != KeyChange::SignedByPrevious {
            return Err(changed(history.change(since, at)));
        }
        let state = match at.cmp(&from) {
            std::cmp::Ordering::Less => KeyState::Earlier,
            std::cmp::Ordering::Equal => KeyState::Current,
            std::cmp::Ordering::Greater => KeyState::Rotated,
        };
        let key = history.get(at).map(|since| since.keys.signing().clone());
        Ok(key.map(|key| (key, state)).into_iter().collect())
    }

    fn is_signed(
        &self,
        message: &MessageReply,
        batch: Option<&BatchReply>,
        entry: &MessageEntry,
        key: &SigningPublicKey,
    ) -> bool {
        let (text, digest) = match batch {
            Some(batch) => {
                let (valid_until, salt) = (
                    Time::from_ms(batch.valid_until),
                    batch.salt.parse().unwrap_or_default(),
                );
                let action =
                    batch_action(&self.chain, &entry.sender, valid_until, salt, &batch.ids);
                if !batch.ids.contains(&entry.id) {
                    return false;
                }
                (&batch.signature, action.to_bytes())
            }
            None => (&message.signature, entry.id.to_bytes()),
        };
        let bytes = const_hex::decode(text).unwrap_or_default();
        Digest::from_bytes(sha256(&bytes)) == entry.signature_hash
            && Signature::try_from(bytes.as_slice())
                .is_ok_and(|signature| key.verify(&digest, &signature).is_ok())
    }

    fn read_content(
        &mut self,
        session: &SessionId,
        sender: AccountId,
        plaintext: &[u8],
    ) -> Result<Item, ClientError> {
        let Ok(bound) = Bound::from_bytes(plaintext) else {
            // Published clients seal bare bytes.
            return Ok(match std::str::from_utf8(plaintext) {
                Ok(text) => Item::Text(text.to_owned()),
                Err(_) => Item::Refused("unknown content"),
            });
        };
        if bound.session != *session {
            return Ok(Item::Refused("it was sent in another session"));
        }
        let progress = self.state.sessions.entry(*session).or_default();
        let seen = progress.seen.entry(sender).or_default();
        if bound.counter < *seen {
            return Ok(Item::Refused("it was sent before (replay)"));
        }
        *seen = bound.counter + 1;
        match bound.content {
            Content::Text(text) => Ok(Item::Text(text)),
            Content::File { name, len, digest } => self.begin_file(&name, len, &digest),
            Content::Chunk { file, index, bytes } => {
                let chunk_bytes = chunk_bytes(progress.participants.len());
                self.continue_file(&file, index, chunk_bytes, &bytes)
            }
            Content::Invitation(code) => Ok(Item::Invitation(Box::new(code))),
            Content::Link(bytes) => Ok(Item::Link(bytes)),
            Content::Rejoin(request) => Ok(Item::Rejoin(request)),
        }
    }

    fn part_path(&self, digest: &Digest, suffix: &str) -> PathBuf {
        self.dir
            .path()
            .join("files")
            .join(format!("{}{suffix}", const_hex::encode(digest)))
    }

    fn begin_file(&self, name: &str, len: u64, digest: &Digest) -> Result<Item, ClientError> {
        let directory = self.dir.path().join("files");
        let failed = |path: PathBuf| move |error| StateError::Io { path, error };
        std::fs::create_dir_all(&directory).map_err(failed(directory))?;
        let about = self.part_path(digest, ".about");
        std::fs::write(&about, format!("{len} {name}")).map_err(failed(about.clone()))?;
        let part = self.part_path(digest, ".part");
        std::fs::write(&part, b"").map_err(failed(part.clone()))?;
        if len == 0 {
            return self.end_file(digest, name, 0);
        }
        Ok(Item::FileBegins {
            name: name.to_owned(),
            len,
        })
    }

    fn continue_file(
        &self,
        digest: &Digest,
        index: u32,
        chunk_bytes: usize,
        bytes: &[u8],
    ) -> Result<Item, ClientError> {
        let Ok(about) = std::fs::read_to_string(self.part_path(digest, ".about")) else {
            return Ok(Item::Refused("a piece of a file that was not announced"));
        };
        let Some((len, name)) = about.split_once(' ') else {
            return Ok(Item::Refused("a piece of a file that was not announced"));
        };
        let len: u64 = len.parse().unwrap_or_default();
        let part = self.part_path(digest, ".part");
        let at = u64::from(index) * chunk_bytes as u64;
        if at.saturating_add(bytes.len() as u64) > len {
            return Ok(Item::Refused("a piece beyond the end of its file"));
        }
        let write = || -> std::io::Result<u64> {
            use std::io::{Seek as _, SeekFrom, Write as _};
            let mut file = std::fs::OpenOptions::new().write(true).open(&part)?;
            file.seek(SeekFrom::Start(at))?;
            file.write_all(bytes)?;
            Ok(file.metadata()?.len())
        };
        let have = write().map_err(|error| StateError::Io {
            path: part.clone(),
            error,
        })?;
        let last = at + bytes.len() as u64 == len;
        if last && have == len {
            self.end_file(digest, name, len)
        } else {
            Ok(Item::FilePart)
        }
    }

    fn end_file(&self, digest: &Digest, name: &str, len: u64) -> Result<Item, ClientError> {
        let part = self.part_path(digest, ".part");
        let failed = |path: PathBuf| move |error| StateError::Io { path, error };
        let bytes = std::fs::read(&part).map_err(failed(part.clone()))?;
        if sha256(&bytes) != digest.to_bytes() {
            return Ok(Item::Refused("the file's hash is wrong"));
        }
        let short: String = const_hex::encode(digest).chars().take(8).collect();
        let path = self
            .dir
            .path()
            .join("files")
            .join(format!("{short}-{name}"));
        std::fs::rename(&part, &path).map_err(failed(path.clone()))?;
        let _leftover = std::fs::remove_file(self.part_path(digest, ".about"));
        Ok(Item::File {
            name: name.to_owned(),
            path,
            len,
        })
    }

    fn keep_history(&self, session: &SessionId, received: &[Received]) -> Result<(), ClientError> {
        let mut lines = Vec::new();
        for message in received {
            let (kind, text) = match &message.item {
                Item::Text(text) => ("text", text.clone()),
                Item::File { path, .. } => ("file", path.display().to_string()),
                Item::FileBegins { .. }
                | Item::FilePart
                | Item::Invitation(_)
                | Item::Link(_)
                | Item::Rejoin(_)
                | Item::Own
                | Item::Pruned
                | Item::Refused(_) => continue,
            };
            lines.push(HistoryLine {
                session: *session,
                sequence: Some(message.sequence),
                sender: message.sender,
                time: message.time.ms().to_string(),
                kind: kind.to_owned(),
                text,
            });
        }
        self.history.remember(&lines)
    }
}
