//! A group's log: pages of it, proved, and the device that follows them entry by entry.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::as_signer;
use session_chain::tx::{Kind, SigningKey as TxKey, Tx};
use session_core::codec::Decode;
use session_core::group::{Group, frame_id};
use session_core::hash::sha256;
use session_core::ids::{ChainId, ChunkId, Digest, GroupId};
use session_core::log::{AdvanceEntry, Entry, LogId, PostEntry};
use session_core::record::RecordKey;
use session_core::time::Time;
use session_crypto::SigningPublicKey;
use session_e2ee::limits::COMMIT_MAX;
use session_e2ee::{AcceptedCommit, ChainKeys, Event, GroupStatus, LogEntry, LogPlace};

use super::accounts::{Accounts, Position};
use super::{GroupError, Groups};
use crate::account::now;
use crate::error::ClientError;
use crate::gap::PRUNED;
use crate::people::key_digest;
use crate::rpc::RpcError;
use crate::trust::{Trust, TrustError, decode_proof};

/// Entries asked for at once.
const PAGE: u64 = 100;

/// Code of the node's `not found` error.
pub(super) const NOT_FOUND: i32 = -32_001;

/// What one look into a group's log brought.
#[derive(Debug, Clone, Default)]
pub struct GroupPage {
    /// What happened. What is stored of it waits to be acknowledged.
    pub events: Vec<Event>,
    /// Entries of the whole log by the last proof.
    pub count: u64,
    /// Age of the node's signed head in milliseconds; over a minute it looks like an eclipse.
    pub head_age_ms: u64,
}

#[derive(Deserialize)]
struct Reply {
    messages: Vec<EntryReply>,
    proof: String,
}

#[derive(Deserialize)]
struct EntryReply {
    #[serde(default)]
    frame: String,
    #[serde(default)]
    tx: String,
    #[serde(default)]
    pruned: bool,
}

#[derive(Deserialize)]
struct GroupReply {
    group: Shown,
    proof: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    posting_key: String,
    control_key: String,
    #[serde(default)]
    admin_keys: Vec<String>,
}

/// An entry with its body, which is the one that the log commits to.
pub(super) enum Read {
    Frame {
        entry: PostEntry,
        frame: Vec<u8>,
    },
    Advance {
        entry: AdvanceEntry,
        advance: Box<AdvanceGroup>,
        /// By the control key of the epoch that ended, over the entry's action.
        signature: Vec<u8>,
    },
    Pruned(Entry),
}

/// Entries of a log from one place on.
pub(super) struct Page {
    pub(super) entries: Vec<Read>,
    pub(super) count: u64,
    /// The group's record, of the same proof.
    record: Group,
    head_age_ms: u64,
    /// The block's time.
    time: Time,
}

/// Public keys of an epoch, from their transaction.
pub(super) fn keys_of(posting: &TxKey, control: &TxKey) -> Result<ChainKeys, ClientError> {
    Ok(ChainKeys {
        posting: SigningPublicKey::try_from(posting.0.as_slice())?,
        control: SigningPublicKey::try_from(control.0.as_slice())?,
    })
}

impl Groups {
    /// Reads what is new in a group's log. Every page is proved complete and goes on from what was
    /// seen; the device takes entry by entry, durable each. Where the group goes on in another one,
    /// that one is joined; and an admin's device signs what members have asked for.
    ///
    /// # Errors
    /// [`ClientError`]; what was taken before it stays.
    pub async fn receive(&mut self, group: GroupId) -> Result<GroupPage, ClientError> {
        self.receive_waiting(group, 0).await
    }

    /// The same, waiting up to `wait_ms` for a first entry.
    ///
    /// # Errors
    /// As [`Groups::receive`].
    pub async fn receive_waiting(
        &mut self,
        group: GroupId,
        wait_ms: u64,
    ) -> Result<GroupPage, ClientError> {
        let mut out = GroupPage::default();
        let mut wait_ms = wait_ms.min(self.account.rpc.wait_ms_max());
        loop {
            match self.device.status(group)? {
                // Whoever was removed hears nothing more, and halted ones wait for a successor.
                GroupStatus::Removed => return Ok(out),
                GroupStatus::Superseded => {
                    out.events.extend(self.resume_succession(group).await?);
                    return Ok(out);
                }
                // A lost one is read for what the log has of this device's own.
                GroupStatus::Active | GroupStatus::Halted | GroupStatus::Lost => {}
            }
            let from = self.device.next_position(group)?;
            let page = match self.page(group, from, PAGE, wait_ms).await {
                Err(ClientError::Rpc(RpcError::Refused {
                    code: PRUNED, data, ..
                })) => {
                    out.events.extend(self.leap(group, from, &data).await?);
                    continue;
                }
                page => page?,
            };
            (out.count, out.head_age_ms) = (page.count, page.head_age_ms);
            // Before the device: after a crash in between it is only read again.
            self.account.dir.save(&self.account.state)?;
            for read in page.entries {
                out.events.extend(self.take(group, read).await?);
            }
            wait_ms = 0;
            let record = page.record;
            self.seen.insert(group, record.clone());
            if self.device.next_position(group)? < out.count {
                continue;
            }
            self.read_to.insert(group, page.time);
            if let Some(succession) = record.succession {
                let told = self.follow_succession(group, succession).await?;
                out.events.extend(told);
                return Ok(out);
            }
            if self.device.status(group)? == GroupStatus::Lost
                || !self.serve(group, &record).await?
            {
                return Ok(out);
            }
        }
    }

    /// Up to `limit` entries from `from` on, proved, with the bodies that they commit to.
    pub(super) async fn page(
        &mut self,
        group: GroupId,
        from: u64,
        limit: u64,
        wait_ms: u64,
    ) -> Result<Page, ClientError> {
        let params = json!({
            "groupId": group, "from": from, "limit": limit, "waitMs": wait_ms, "proof": true,
        });
        let account = &mut self.account;
        let reply: Reply = account.rpc.call("sessionvm.GetMessages", params).await?;
        let mut proof = decode_proof(&reply.proof)?;
        let proved = account.believe(&mut proof).await?;
        let record = proved
            .record
            .filter(|_| proved.key == RecordKey::Group(group))
            .ok_or(ClientError::Reply("the proof is about something else"))?;
        let record = Group::from_bytes(&record).map_err(TrustError::from)?;
        let entries = proved
            .entries
            .filter(|entries| entries.log == LogId::Group(group) && entries.from == from)
            .ok_or(ClientError::Reply("the proof is about something else"))?;
        if reply.messages.len() != entries.entries.len() {
            return Err(ClientError::Reply("messages and proof differ"));
        }
        if entries.entries.is_empty() && entries.count > from {
            return Err(ClientError::Reply("entries are left out"));
        }
        let mut read = Vec::with_capacity(entries.entries.len());
        for (entry, body) in entries.entries.iter().zip(&reply.messages) {
            let kept_since = now().max(proved.header.time).ms();
            let kept_since = kept_since.saturating_sub(account.kept_ms());
            let kept_since = Time::from_ms(kept_since);
            read.push(body.read(&account.chain, group, entry, kept_since)?);
        }
        Ok(Page {
            entries: read,
            count: entries.count,
            record,
            time: proved.header.time,
            head_age_ms: Trust::age_ms(&proof, now()).unwrap_or(u64::MAX),
        })
    }

    /// Gives an entry to the device.
    async fn take(&mut self, group: GroupId, read: Read) -> Result<Vec<Event>, ClientError> {
        let (position, time) = match &read {
            Read::Frame { entry, .. } => (entry.sequence, entry.time),
            Read::Advance { entry, .. } => (entry.sequence, entry.time),
            Read::Pruned(entry) => place_of(entry)?,
        };
        let place = LogPlace {
            position,
            time_ms: time.ms(),
        };
        let mut accounts = Accounts::new();
        let output = match &read {
            Read::Pruned(entry) => {
                let entry = match entry {
                    Entry::Post(post) => LogEntry::PrunedFrame {
                        hash: post.body_hash,
                    },
                    Entry::Advance(advance) => LogEntry::PrunedCommit {
                        epoch: advance.epoch,
                    },
                    Entry::Message(_) | Entry::Membership(_) => LogEntry::Pruned,
                };
                self.device.receive(group, place, entry, &accounts)?
            }
            Read::Frame { entry, frame } => {
                let epoch = entry.epoch;
                let frame = LogEntry::Frame { epoch, frame };
                self.device.receive(group, place, frame, &accounts)?
            }
            Read::Advance { entry, advance, .. } => {
                let Some(commit) = self.commit_of(group, advance, time).await? else {
                    let epoch = entry.epoch;
                    let gone = LogEntry::PrunedCommit { epoch };
                    let output = self.device.receive(group, place, gone, &accounts)?;
                    return Ok(output.events);
                };
                let keys = keys_of(&advance.posting, &advance.control)?;
                let accepted = LogEntry::Commit(AcceptedCommit {
                    epoch: entry.epoch,
                    commit: &commit,
                    keys: &keys,
                    removes: entry.removal,
                });
                let (height, time) = (entry.height, entry.time);
                loop {
                    let rehearsed = self.device.rehearse(group, place, accepted, &accounts);
                    let at = Position { height, time };
                    if !accounts.fetch(&mut self.account, at).await? {
                        rehearsed?;
                        break;
                    }
                }
                self.device.receive(group, place, accepted, &accounts)?
            }
        };
        Ok(output.events)
    }

    /// The commit of an entry. None: its pieces are gone, or nobody needs them, since the group is lost.
    async fn commit_of(
        &mut self,
        group: GroupId,
        advance: &AdvanceGroup,
        time: Time,
    ) -> Result<Option<Vec<u8>>, ClientError> {
        if self.device.status(group)? == GroupStatus::Lost {
            return Ok(None);
        }
        match self.commit_bytes(&advance.commit).await {
            Ok(commit) => Ok(Some(commit)),
            // They are kept for as long as bodies.
            Err(ClientError::Rpc(RpcError::Refused {
                code: NOT_FOUND, ..
            })) if now().max(self.account.proved_time).since(time) >= self.account.kept_ms() => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A commit, from its chunks where it travels in such.
    pub(super) async fn commit_bytes(&mut self, commit: &Commit) -> Result<Vec<u8>, ClientError> {
        let chunks = match commit {
            Commit::Bytes(bytes) => return Ok(bytes.clone()),
            Commit::Chunks(chunks) => chunks,
        };
        let mut bytes = Vec::new();
        for id in chunks {
            bytes.extend(self.chunk(*id).await?);
            if bytes.len() > COMMIT_MAX {
                return Err(GroupError::CommitTooLarge(bytes.len()).into());
            }
        }
        Ok(bytes)
    }

    /// A chunk, the one that its id names.
    pub(crate) async fn chunk(&mut self, id: ChunkId) -> Result<Vec<u8>, ClientError> {
        self.account.chunk(id).await
    }

    /// A group's record, proved, and the keys of its epoch, which are those that it names. None:
    /// proved to be absent, or the node knows none.
    pub(super) async fn shown(
        &mut self,
        group: GroupId,
    ) -> Result<Option<(Group, ChainKeys)>, ClientError> {
        let Some((record, shown)) = self.show(group).await? else {
            return Ok(None);
        };
        let keys = ChainKeys {
            posting: key(&shown.posting_key)?,
            control: key(&shown.control_key)?,
        };
        if key_digest(&keys.posting) != record.posting
            || key_digest(&keys.control) != record.control
        {
            return Err(ClientError::Reply("the group's keys and the proof differ"));
        }
        Ok(Some((record, keys)))
    }

    /// The admin keys of a group, which are those that its proved record names.
    pub(super) async fn shown_admins(
        &mut self,
        group: GroupId,
    ) -> Result<Vec<SigningPublicKey>, ClientError> {
        let shown = self.show(group).await?;
        let (record, shown) = shown.ok_or(GroupError::Unknown(group))?;
        let keys: Result<Vec<_>, _> = shown.admin_keys.iter().map(|text| key(text)).collect();
        let keys = keys?;
        if !keys
            .iter()
            .map(key_digest)
            .eq(record.admins.iter().copied())
        {
            return Err(ClientError::Reply("the group's keys and the proof differ"));
        }
        Ok(keys)
    }

    async fn show(&mut self, group: GroupId) -> Result<Option<(Group, Shown)>, ClientError> {
        let params = json!({ "groupId": group, "proof": true });
        let account = &mut self.account;
        let reply: GroupReply = match account.rpc.call("sessionvm.GetGroup", params).await {
            Err(RpcError::Refused {
                code: NOT_FOUND, ..
            }) => return Ok(None),
            reply => reply?,
        };
        let proved = account.believe(&mut decode_proof(&reply.proof)?).await?;
        let record = proved
            .record
            .filter(|_| proved.key == RecordKey::Group(group))
            .ok_or(ClientError::Reply("the proof is about something else"))?;
        let record = Group::from_bytes(&record).map_err(TrustError::from)?;
        Ok(Some((record, reply.group)))
    }
}

/// A public key, from its text in a reply.
fn key(text: &str) -> Result<SigningPublicKey, ClientError> {
    let bytes = const_hex::decode(text).unwrap_or_default();
    Ok(SigningPublicKey::try_from(bytes.as_slice())?)
}

/// Where an entry of a group's log is, and when it was accepted.
fn place_of(entry: &Entry) -> Result<(u64, session_core::time::Time), ClientError> {
    match entry {
        Entry::Post(entry) => Ok((entry.sequence, entry.time)),
        Entry::Advance(entry) => Ok((entry.sequence, entry.time)),
        Entry::Message(_) | Entry::Membership(_) => Err(ClientError::Reply("not a group's log")),
    }
}

impl EntryReply {
    /// The body, if it is the one that the proved entry commits to.
    fn read(
        &self,
        chain: &ChainId,
        group: GroupId,
        entry: &Entry,
        kept_since: Time,
    ) -> Result<Read, ClientError> {
        let (_, time) = place_of(entry)?;
        if self.pruned {
            // A commit that is withheld would have this device lose the group.
            if time > kept_since {
                return Err(ClientError::Reply(
                    "an entry that the chain still keeps is said to be pruned",
                ));
            }
            return Ok(Read::Pruned(*entry));
        }
        let other = ClientError::Reply("a body is not the one the log commits to");
        match entry {
            Entry::Post(post) => {
                let frame = const_hex::decode(&self.frame).unwrap_or_default();
                let hash = Digest::from_bytes(sha256(&frame));
                let id = frame_id(chain, &group, post.epoch, &hash);
                if id != post.id || hash != post.body_hash {
                    return Err(other);
                }
                Ok(Read::Frame {
                    entry: *post,
                    frame,
                })
            }
            Entry::Advance(entry) => {
                let bytes = BASE64.decode(&self.tx).unwrap_or_default();
                let tx = Tx::from_bytes(&bytes).map_err(|_| ClientError::Reply("tx"))?;
                // The id covers everything in it, signatures too.
                let ids = tx.ids(chain);
                if ids.tx != entry.tx
                    || ids.action != entry.action
                    || tx.signer != as_signer(&group)
                {
                    return Err(other);
                }
                let signature = tx.signature;
                let Kind::AdvanceGroup(advance) = tx.kind else {
                    return Err(other);
                };
                Ok(Read::Advance {
                    entry: *entry,
                    advance: Box::new(advance),
                    signature,
                })
            }
            Entry::Message(_) | Entry::Membership(_) => Err(other),
        }
    }
}
