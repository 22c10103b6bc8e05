//! The rules of `spec/vm.md` §2 to §4, as slowly and plainly as they can be written.

use session_chain::state::TxError;
use session_chain::tx::channel::{ChannelMembers, CreateChannel, MemberChange};
use session_chain::tx::chunk::PutChunk;
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::message::{AcknowledgeMessages, Auth, BatchAuth, Body};
use session_chain::tx::session::{CloseSession, CreateSession, NewParticipant};
use session_chain::tx::{Kind, NOBODY, SigningKey, Tx, TxIds};
use session_core::channel::Role;
use session_core::codec::{DecodeError, Encode};
use session_core::hash::Tag;
use session_core::ids::{AccountId, ChannelId, ChunkId, SessionId};
use session_core::limits::{BLOCK_WEIGHT_MAX, RECORD_WEIGHT};
use session_core::log::{Conversation, MembershipEntry, MembershipEvent, MessageEntry};
use session_core::parameters::{Admission, Rate};
use session_core::record::{Action, Outcome, RecordKey};
use session_core::session::{Participant, Status};
use session_core::time::{DAY_MS, HOUR_MS, Time};

use super::people::{Fake, account_of, sign};
use super::state::{Leak, MAccount, MChannel, MMember, MMessage, MParticipant, MSession, Model};
use session_chain::state::Crypto;

type Result<T> = core::result::Result<T, TxError>;

impl Model {
    /// Begins a block: keys of the parent count, and what is due goes.
    pub(crate) fn begin(&mut self, time: u64) {
        self.time = time;
        self.height += 1;
        let keys = |(id, a): (&AccountId, &MAccount)| Some((*id, a.keys.as_ref()?.1.clone()));
        self.parent_keys = self.accounts.iter().filter_map(keys).collect();
        let kept = self.parameters.retention_ms;
        self.sessions.retain(|_, s| s.ended() + kept > time);
        self.channels
            .retain(|_, c| c.closed.is_none_or(|closed| closed + kept > time));
        self.chunks.retain(|_, (_, _, expires)| *expires > time);
        self.actions.retain(|_, action| action.expires.ms() > time);
        let (sessions, channels) = (&self.sessions, &self.channels);
        self.acknowledgements
            .retain(|(conversation, _), _| match conversation {
                Conversation::Session(id) => sessions.contains_key(id),
                Conversation::Channel(id) => channels.contains_key(id),
            });
    }

    /// Applies a transaction or changes nothing. Answers what it did and what it weighs.
    pub(crate) fn apply(&mut self, tx: &Tx, room: &mut u64) -> Result<Outcome> {
        let before = self.clone();
        let result = self.try_apply(tx, room);
        if result.is_err() {
            *self = before;
        }
        result
    }

    fn try_apply(&mut self, tx: &Tx, room: &mut u64) -> Result<Outcome> {
        self.touched.clear();
        let ids = tx.ids(&self.chain);
        let single = matches!(tx.kind, Kind::SendMessage(_));
        if single {
            if let Some(sequence) = self.find_message(&ids, 0) {
                return Err(TxError::Duplicate {
                    outcome: Outcome::Sequence(sequence),
                });
            }
        } else {
            self.check_action(tx, &ids)?;
        }
        let outcome = self.apply_kind(tx, &ids)?;
        if !single {
            let expires = Time::from_ms(tx.valid_until.ms() + HOUR_MS);
            let action = Action {
                tx: ids.tx,
                height: self.height,
                expires,
                outcome,
            };
            self.actions.insert(ids.action, action);
            self.touch(RecordKey::Action(ids.action));
        }
        let weight = tx.to_bytes().len() as u64 + RECORD_WEIGHT * self.touched.len() as u64;
        if weight > *room {
            return Err(TxError::BlockFull);
        }
        self.charge(tx, weight)?;
        *room -= weight;
        Ok(outcome)
    }

    /// Room of a new block.
    pub(crate) const ROOM: u64 = BLOCK_WEIGHT_MAX;

    fn touch(&mut self, key: RecordKey) {
        self.touched.insert(key);
    }

    fn check_action(&self, tx: &Tx, ids: &TxIds) -> Result<()> {
        if let Some(action) = self.actions.get(&ids.action) {
            return Err(TxError::Duplicate {
                outcome: action.outcome,
            });
        }
        let (valid_until, now) = (tx.valid_until.ms(), self.time);
        if valid_until < now {
            return Err(TxError::Expired { valid_until, now });
        }
        if valid_until - now > HOUR_MS {
            return Err(TxError::ValidTooLong { now });
        }
        Ok(())
    }

    fn apply_kind(&mut self, tx: &Tx, ids: &TxIds) -> Result<Outcome> {
        match &tx.kind {
            Kind::RegisterIdentity(k) => self.register(tx, ids, k),
            Kind::RotateKeys(k) => {
                self.owner(tx, ids, k.recovery.as_ref())?;
                let well_formed = Fake { remembers: false }.is_kem_key(&k.kem);
                if !well_formed {
                    return Err(TxError::InvalidKey);
                }
                let height = self.height;
                let account = self
                    .accounts
                    .get_mut(&tx.signer)
                    .ok_or(TxError::UnknownAccount)?;
                let (_, _, index, _) = account.keys.as_ref().ok_or(TxError::UnknownAccount)?;
                account.keys = Some((k.kem.clone(), k.signing.clone(), index + 1, height));
                self.touch(RecordKey::Account(tx.signer));
                Ok(Outcome::Done)
            }
            Kind::RevokeIdentity(k) => {
                self.owner(tx, ids, k.recovery.as_ref())?;
                self.accounts
                    .get_mut(&tx.signer)
                    .ok_or(TxError::UnknownAccount)?
                    .revoked = true;
                self.touch(RecordKey::Account(tx.signer));
                Ok(Outcome::Done)
            }
            Kind::CreateSession(k) => self.create_session(tx, ids, k),
            Kind::AcceptSession(k) => {
                self.signer(tx, ids)?;
                let place = self.open_session(&k.session, &tx.signer)?;
                if self.sessions[&k.session].participants[place].accepted {
                    return Err(TxError::AlreadyAccepted);
                }
                self.accept_session(&k.session, place);
                Ok(Outcome::Done)
            }
            Kind::RenewSession(k) => {
                self.signer(tx, ids)?;
                self.open_session(&k.session, &tx.signer)?;
                let (now, ttl) = (self.time, self.parameters.session_ttl_ms);
                let session = self.sessions.get_mut(&k.session).unwrap();
                if session.status(now) != Status::Active {
                    return Err(TxError::NotActive);
                }
                session.expires = now + ttl;
                self.touch(RecordKey::Session(k.session));
                Ok(Outcome::Done)
            }
            Kind::CloseSession(k) => self.close_session(tx, ids, k),
            Kind::SendMessage(k) => {
                let verified = self.may_send(tx, ids, &k.conversation, 1)?;
                let body = Body {
                    ciphertext: k.ciphertext.clone(),
                    auth: Auth::Own(tx.signature.clone()),
                };
                let first = self.log_mut(&k.conversation).len() as u64;
                self.append(tx, ids, 0, &k.conversation, verified, (body, None))?;
                Ok(Outcome::Sequence(first))
            }
            Kind::SendBatch(k) => {
                if !tx.is_signed() {
                    return Err(TxError::SignatureRequired);
                }
                if self
                    .accounts
                    .get(&tx.signer)
                    .is_none_or(|a| a.keys.is_none())
                {
                    return Err(TxError::UnknownAccount);
                }
                let n = k.ciphertexts.len() as u64;
                let verified = self.may_send(tx, ids, &k.conversation, n)?;
                let first = self.log_mut(&k.conversation).len() as u64;
                for (i, ciphertext) in k.ciphertexts.iter().enumerate() {
                    let auth = Auth::Batch(first);
                    let body = Body {
                        ciphertext: ciphertext.clone(),
                        auth,
                    };
                    let batch = BatchAuth {
                        valid_until: tx.valid_until,
                        salt: tx.salt,
                        messages: ids.messages.iter().map(|(id, _)| *id).collect(),
                        signature: tx.signature.clone(),
                    };
                    let batch = (i == 0).then_some(batch);
                    self.append(tx, ids, i, &k.conversation, verified, (body, batch))?;
                }
                Ok(Outcome::Sequence(first))
            }
            Kind::AcknowledgeMessages(k) => self.acknowledge(tx, ids, k),
            Kind::CreateChannel(k) => self.create_channel(tx, ids, k),
            Kind::CloseChannel(k) => {
                self.signer(tx, ids)?;
                self.open_channel(&k.channel)?;
                self.role(&k.channel, &tx.signer, Role::Owner)?;
                let now = self.time;
                let channel = self.channels.get_mut(&k.channel).unwrap();
                channel.closed = Some(now);
                let creator = channel.creator;
                self.touch(RecordKey::Channel(k.channel));
                self.touch(RecordKey::Account(creator));
                Ok(Outcome::Done)
            }
            Kind::ChannelMembers(k) => self.change_members(tx, ids, k),
            Kind::PutChunk(k) => self.put_chunk(tx, ids, k),
            Kind::Transfer(k) => {
                self.signer(tx, ids)?;
                let from = self.accounts.get_mut(&tx.signer).unwrap();
                let left = from.balance.checked_sub(k.amount);
                from.balance = left.ok_or(TxError::InsufficientBalance)?;
                self.accounts.entry(k.to).or_default().balance += k.amount;
                self.touch(RecordKey::Account(tx.signer));
                self.touch(RecordKey::Account(k.to));
                Ok(Outcome::Done)
            }
        }
    }

    // ---- signatures

    fn signer(&self, tx: &Tx, ids: &TxIds) -> Result<()> {
        if tx.signature.is_empty() {
            return Err(TxError::SignatureRequired);
        }
        let account = self
            .accounts
            .get(&tx.signer)
            .ok_or(TxError::UnknownAccount)?;
        if account.revoked {
            return Err(TxError::Revoked);
        }
        if account.keys.is_none() {
            return Err(TxError::UnknownAccount);
        }
        let key = self
            .parent_keys
            .get(&tx.signer)
            .ok_or(TxError::KeysNextBlock)?;
        signed_by(tx, ids, key)
    }

    fn owner(&self, tx: &Tx, ids: &TxIds, recovery: Option<&SigningKey>) -> Result<()> {
        let Some(key) = recovery else {
            return self.signer(tx, ids);
        };
        let account = self
            .accounts
            .get(&tx.signer)
            .ok_or(TxError::UnknownAccount)?;
        if account.revoked {
            return Err(TxError::Revoked);
        }
        if account.recovery != Some(key.digest()) {
            return Err(TxError::Unauthorized);
        }
        signed_by(tx, ids, key)
    }

    fn register(&mut self, tx: &Tx, ids: &TxIds, k: &RegisterIdentity) -> Result<Outcome> {
        let well_formed = Fake { remembers: false }.is_kem_key(&k.kem);
        if !well_formed || account_of(&k.kem, &k.signing) != tx.signer {
            return Err(TxError::NotTheKeysAccount);
        }
        signed_by(tx, ids, &k.signing)?;
        if self
            .accounts
            .get(&tx.signer)
            .is_some_and(|a| a.keys.is_some())
        {
            return Err(TxError::AlreadyRegistered);
        }
        let (now, rate) = (self.time, self.parameters.registrations);
        let quotas = self.quotas.get_or_insert_default();
        fill(&mut quotas.registrations, now, 1, rate, "registrations")?;
        let height = self.height;
        let account = self.accounts.entry(tx.signer).or_default();
        account.keys = Some((k.kem.clone(), k.signing.clone(), 0, height));
        account.recovery = k.recovery;
        account.registered = now;
        self.touch(RecordKey::Quotas);
        self.touch(RecordKey::Account(tx.signer));
        Ok(Outcome::Done)
    }

    // ---- sessions

    fn create_session(&mut self, tx: &Tx, ids: &TxIds, k: &CreateSession) -> Result<Outcome> {
        if k.participants.len() < 2 {
            return Err(TxError::TooFewParticipants {
                got: k.participants.len(),
            });
        }
        let creator = if tx.is_signed() {
            self.signer(tx, ids)?;
            Some(tx.signer)
        } else {
            if self.parameters.admission == Admission::Signed || tx.signer != NOBODY {
                return Err(TxError::SignatureRequired);
            }
            self.take_unsigned()?;
            None
        };
        let mut participants = Vec::new();
        for new in &k.participants {
            participants.push(MParticipant {
                account: new.account,
                record: self.participant(new)?,
                kem: new.kem.clone(),
                signing: new.signing.clone(),
                accepted: creator.is_none() || creator == Some(new.account),
            });
        }
        if participants
            .windows(2)
            .any(|two| two[0].account >= two[1].account)
        {
            return Err(DecodeError::NotAscending {
                what: "participants",
            }
            .into());
        }
        let takes_part = |c| participants.iter().any(|p| p.account == c);
        if creator.is_some_and(|c| !takes_part(c)) {
            return Err(TxError::Unauthorized);
        }
        let id = SessionId::from_bytes(Tag::Session.hash(&[ids.action.as_bytes()]));
        let conversation = Conversation::Session(id);
        for p in &participants {
            if Some(p.account) == creator {
                self.enter(p.account, MembershipEvent::Created, conversation, creator);
            } else {
                self.request(p.account, conversation, creator)?;
            }
        }
        let expires = self.time + self.parameters.session_ttl_ms;
        let (created, closed, log) = (self.time, None, Vec::new());
        let session = MSession {
            creator,
            participants,
            created,
            expires,
            closed,
            log,
        };
        self.sessions.insert(id, session);
        self.touch(RecordKey::Session(id));
        Ok(Outcome::Session(id))
    }

    fn participant(&self, new: &NewParticipant) -> Result<Participant> {
        let keys = self
            .accounts
            .get(&new.account)
            .and_then(|a| a.keys.as_ref());
        let (kem, signing) = match keys {
            Some((kem, signing, ..)) => {
                let other_kem = new.kem.as_ref().is_some_and(|k| k != kem);
                let other_signing = new.signing.as_ref().is_some_and(|k| k != signing);
                if other_kem || other_signing {
                    return Err(TxError::OtherKeyRegistered);
                }
                (kem.clone(), Some(signing.clone()))
            }
            None => {
                let kem = new.kem.clone().ok_or(TxError::KeyMissing)?;
                let well_formed = Fake { remembers: false }.is_kem_key(&kem);
                if let Some(signing) = &new.signing
                    && (!well_formed || account_of(&kem, signing) != new.account)
                {
                    return Err(TxError::NotTheKeysAccount);
                }
                if !well_formed {
                    return Err(TxError::InvalidKey);
                }
                (kem, new.signing.clone())
            }
        };
        let (kem, signing) = (kem.digest(), signing.map(|key| key.digest()));
        Ok(Participant {
            account: new.account,
            kem,
            signing,
        })
    }

    fn open_session(&self, id: &SessionId, account: &AccountId) -> Result<usize> {
        let session = self.sessions.get(id).ok_or(TxError::UnknownSession)?;
        match session.status(self.time) {
            Status::Closed => return Err(TxError::SessionClosed),
            Status::Expired => return Err(TxError::SessionExpired),
            Status::Pending | Status::Active => {}
        }
        let place = session
            .participants
            .iter()
            .position(|p| p.account == *account);
        place.ok_or(TxError::Unauthorized)
    }

    fn accept_session(&mut self, id: &SessionId, place: usize) {
        let session = self.sessions.get_mut(id).unwrap();
        session.participants[place].accepted = true;
        let (account, creator) = (session.participants[place].account, session.creator);
        if let Some(creator) = creator {
            self.touch(RecordKey::OpenRequests(creator, account));
        }
        self.touch(RecordKey::Session(*id));
        self.enter(
            account,
            MembershipEvent::Accepted,
            Conversation::Session(*id),
            creator,
        );
    }

    fn close_session(&mut self, tx: &Tx, ids: &TxIds, k: &CloseSession) -> Result<Outcome> {
        let session = self
            .sessions
            .get(&k.session)
            .ok_or(TxError::UnknownSession)?
            .clone();
        if tx.is_signed() {
            self.signer(tx, ids)?;
            if !session.participants.iter().any(|p| p.account == tx.signer) {
                return Err(TxError::Unauthorized);
            }
        } else {
            let open = self.parameters.admission == Admission::Open;
            if !open || tx.signer != NOBODY || session.creator.is_some() {
                return Err(TxError::SignatureRequired);
            }
            self.take_unsigned()?;
        }
        match session.status(self.time) {
            Status::Closed => return Err(TxError::SessionClosed),
            Status::Expired => return Err(TxError::SessionExpired),
            Status::Pending | Status::Active => {}
        }
        for p in session.participants.iter().filter(|p| !p.accepted) {
            if let Some(creator) = session.creator {
                self.touch(RecordKey::OpenRequests(creator, p.account));
            }
        }
        let now = self.time;
        self.sessions.get_mut(&k.session).unwrap().closed = Some(now);
        self.touch(RecordKey::Session(k.session));
        Ok(Outcome::Done)
    }

    // ---- messages

    fn log_mut(&mut self, conversation: &Conversation) -> &mut Vec<MMessage> {
        match conversation {
            Conversation::Session(id) => &mut self.sessions.get_mut(id).unwrap().log,
            Conversation::Channel(id) => &mut self.channels.get_mut(id).unwrap().log,
        }
    }

    fn find_message(&self, ids: &TxIds, i: usize) -> Option<u64> {
        let logs = self.sessions.values().map(|s| &s.log);
        let mut all = logs.chain(self.channels.values().map(|c| &c.log)).flatten();
        let found = all.find(|m| m.entry.id == ids.messages[i].0);
        found.map(|m| m.entry.sequence)
    }

    fn may_send(&mut self, tx: &Tx, ids: &TxIds, to: &Conversation, n: u64) -> Result<bool> {
        let id = match to {
            Conversation::Session(id) => id,
            Conversation::Channel(id) => {
                self.signer(tx, ids)?;
                self.open_channel(id)?;
                self.role(id, &tx.signer, Role::Member)?;
                self.touch(RecordKey::Channel(*id));
                return Ok(true);
            }
        };
        let place = self.open_session(id, &tx.signer)?;
        let registered = self
            .accounts
            .get(&tx.signer)
            .is_some_and(|a| a.keys.is_some());
        let key = self.sessions[id].participants[place].signing.clone();
        let verified = if registered {
            self.signer(tx, ids)?;
            true
        } else if let Some(key) = key {
            signed_by(tx, ids, &key)?;
            true
        } else if tx.is_signed() {
            return Err(TxError::UnknownAccount);
        } else if self.parameters.admission == Admission::Signed {
            return Err(TxError::SignatureRequired);
        } else {
            self.take_unsigned()?;
            false
        };
        let (log, max) = (&self.sessions[id].log, self.parameters.max_messages);
        if log.len() as u64 + n > max {
            return Err(TxError::SessionFull);
        }
        let signed = log.iter().any(|m| m.entry.verified);
        let strangers = log.iter().filter(|m| !m.entry.verified).count() as u64;
        if !verified && signed && strangers + 1 > max / 2 {
            return Err(TxError::SessionFull);
        }
        if !self.sessions[id].participants[place].accepted {
            self.accept_session(id, place);
        }
        self.touch(RecordKey::Session(*id));
        Ok(verified)
    }

    fn append(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        i: usize,
        to: &Conversation,
        verified: bool,
        (body, batch): (Body, Option<BatchAuth>),
    ) -> Result<()> {
        if let Some(sequence) = self.find_message(ids, i) {
            return Err(TxError::MessageKnown { sequence });
        }
        let (time, height) = (Time::from_ms(self.time), self.height);
        let (id, body_hash) = ids.messages[i];
        let log = self.log_mut(to);
        let entry = MessageEntry {
            sequence: log.len() as u64,
            time,
            height,
            id,
            sender: tx.signer,
            body_hash,
            signature_hash: ids.signature,
            verified,
        };
        log.push(MMessage { entry, body, batch });
        Ok(())
    }

    fn acknowledge(&mut self, tx: &Tx, ids: &TxIds, k: &AcknowledgeMessages) -> Result<Outcome> {
        self.signer(tx, ids)?;
        let count = match &k.conversation {
            Conversation::Session(id) => {
                let session = self.sessions.get(id).ok_or(TxError::UnknownSession)?;
                if !session.participants.iter().any(|p| p.account == tx.signer) {
                    return Err(TxError::Unauthorized);
                }
                session.log.len() as u64
            }
            Conversation::Channel(id) => {
                let channel = self.channels.get(id).ok_or(TxError::UnknownChannel)?;
                self.role(id, &tx.signer, Role::Reader)?;
                channel.log.len() as u64
            }
        };
        if k.up_to > count {
            return Err(TxError::NotThatMany { count });
        }
        let key = (k.conversation, tx.signer);
        if self
            .acknowledgements
            .get(&key)
            .is_some_and(|(up_to, _)| *up_to >= k.up_to)
        {
            return Err(TxError::AlreadyAcknowledged);
        }
        self.acknowledgements.insert(key, (k.up_to, self.time));
        self.touch(RecordKey::Acknowledgement(k.conversation, tx.signer));
        Ok(Outcome::Done)
    }

    // ---- channels

    fn open_channel(&self, id: &ChannelId) -> Result<()> {
        let channel = self.channels.get(id).ok_or(TxError::UnknownChannel)?;
        if channel.closed.is_some() {
            Err(TxError::ChannelClosed)
        } else {
            Ok(())
        }
    }

    fn role(&self, id: &ChannelId, account: &AccountId, least: Role) -> Result<()> {
        let member = self.channels[id].members.get(account);
        let may = member.is_some_and(|m| m.accepted && m.role >= least);
        if may {
            Ok(())
        } else {
            Err(TxError::Unauthorized)
        }
    }

    fn create_channel(&mut self, tx: &Tx, ids: &TxIds, k: &CreateChannel) -> Result<Outcome> {
        self.signer(tx, ids)?;
        let id = ChannelId::from_bytes(Tag::Channel.hash(&[ids.action.as_bytes()]));
        if self.open_channels(&tx.signer) >= self.parameters.max_channels {
            return Err(TxError::LimitReached {
                what: "open channels of one creator",
            });
        }
        let owner = MMember {
            role: Role::Owner,
            accepted: true,
            since: self.time,
            by: tx.signer,
        };
        let channel = MChannel {
            creator: tx.signer,
            created: self.time,
            closed: None,
            members: [(tx.signer, owner)].into(),
            log: Vec::new(),
        };
        self.channels.insert(id, channel);
        self.touch(RecordKey::Channel(id));
        self.touch(RecordKey::Member(id, tx.signer));
        let event = MembershipEvent::Created;
        self.enter(tx.signer, event, Conversation::Channel(id), Some(tx.signer));
        for (account, role) in &k.members {
            self.add_member(&id, account, *role, tx.signer)?;
        }
        Ok(Outcome::Channel(id))
    }

    fn add_member(
        &mut self,
        id: &ChannelId,
        a: &AccountId,
        role: Role,
        by: AccountId,
    ) -> Result<()> {
        if self.channels[id].members.contains_key(a) {
            return Err(TxError::AlreadyMember);
        }
        self.request(*a, Conversation::Channel(*id), Some(by))?;
        let member = MMember {
            role,
            accepted: false,
            since: self.time,
            by,
        };
        self.channels
            .get_mut(id)
            .unwrap()
            .members
            .insert(*a, member);
        self.touch(RecordKey::Member(*id, *a));
        Ok(())
    }

    fn change_members(&mut self, tx: &Tx, ids: &TxIds, k: &ChannelMembers) -> Result<Outcome> {
        self.signer(tx, ids)?;
        self.open_channel(&k.channel)?;
        if !self.channels[&k.channel].members.contains_key(&tx.signer) {
            return Err(TxError::Unauthorized);
        }
        for change in &k.changes {
            self.change_member(&k.channel, change, tx.signer)?;
        }
        self.touch(RecordKey::Channel(k.channel));
        Ok(Outcome::Done)
    }

    fn owners(&self, id: &ChannelId) -> usize {
        let members = self.channels[id].members.values();
        members
            .filter(|m| m.accepted && m.role == Role::Owner)
            .count()
    }

    fn change_member(
        &mut self,
        id: &ChannelId,
        change: &MemberChange,
        me: AccountId,
    ) -> Result<()> {
        let members = &self.channels[id].members;
        let own = members.get(&me).ok_or(TxError::Unauthorized)?.clone();
        let acting = if own.accepted { own.role } else { Role::Reader };
        let now = self.time;
        match change {
            MemberChange::Add(account, role) => {
                let lower = matches!(role, Role::Member | Role::Reader);
                if acting == Role::Owner || (acting == Role::Admin && lower) {
                    self.add_member(id, account, *role, me)
                } else {
                    Err(TxError::Unauthorized)
                }
            }
            MemberChange::Remove(account) => {
                let member = members.get(account).ok_or(TxError::NotAMember)?;
                if acting < Role::Admin || member.role >= acting {
                    return Err(TxError::Unauthorized);
                }
                self.remove_member(id, account)
            }
            MemberChange::SetRole(account, role) => {
                members.get(account).ok_or(TxError::NotAMember)?;
                if acting != Role::Owner {
                    return Err(TxError::Unauthorized);
                }
                let channel = self.channels.get_mut(id).unwrap();
                let member = channel.members.get_mut(account).unwrap();
                member.role = *role;
                member.since = now;
                self.touch(RecordKey::Member(*id, *account));
                if self.owners(id) == 0 {
                    Err(TxError::LastOwner)
                } else {
                    Ok(())
                }
            }
            MemberChange::Accept => {
                if own.accepted {
                    return Err(TxError::AlreadyAccepted);
                }
                let channel = self.channels.get_mut(id).unwrap();
                let member = channel.members.get_mut(&me).unwrap();
                member.accepted = true;
                member.since = now;
                self.touch(RecordKey::Member(*id, me));
                self.touch(RecordKey::OpenRequests(own.by, me));
                self.enter(
                    me,
                    MembershipEvent::Accepted,
                    Conversation::Channel(*id),
                    None,
                );
                Ok(())
            }
            MemberChange::Leave => self.remove_member(id, &me),
        }
    }

    fn remove_member(&mut self, id: &ChannelId, account: &AccountId) -> Result<()> {
        let channel = self.channels.get_mut(id).unwrap();
        let member = channel.members.remove(account).unwrap();
        self.touch(RecordKey::Member(*id, *account));
        if !member.accepted {
            self.touch(RecordKey::OpenRequests(member.by, *account));
        }
        if self.owners(id) == 0 {
            Err(TxError::LastOwner)
        } else {
            Ok(())
        }
    }

    // ---- the rest

    fn enter(
        &mut self,
        a: AccountId,
        event: MembershipEvent,
        to: Conversation,
        by: Option<AccountId>,
    ) {
        let time = Time::from_ms(self.time);
        let log = &mut self.accounts.entry(a).or_default().memberships;
        let sequence = log.len() as u64;
        log.push(MembershipEntry {
            sequence,
            time,
            event,
            conversation: to,
            by,
        });
        self.touch(RecordKey::Account(a));
    }

    fn request(
        &mut self,
        target: AccountId,
        to: Conversation,
        by: Option<AccountId>,
    ) -> Result<()> {
        if let Some(by) = by {
            if self.open_requests(&by, &target) >= 3 {
                return Err(TxError::LimitReached {
                    what: "open requests to one account",
                });
            }
            self.touch(RecordKey::OpenRequests(by, target));
            // 200 a day: each takes a day's milliseconds out of 200 days', which return in a day.
            let rate = Rate {
                per_second: 200_000,
                burst: 200 * DAY_MS,
            };
            let now = self.time;
            let account = self.accounts.entry(target).or_default();
            fill(
                &mut account.request_quota,
                now,
                DAY_MS,
                rate,
                "requests to one account",
            )?;
        }
        let (time, event) = (Time::from_ms(self.time), MembershipEvent::Requested);
        let log = &mut self.accounts.entry(target).or_default().requests;
        let sequence = log.len() as u64;
        log.push(MembershipEntry {
            sequence,
            time,
            event,
            conversation: to,
            by,
        });
        self.touch(RecordKey::Account(target));
        Ok(())
    }

    fn put_chunk(&mut self, tx: &Tx, ids: &TxIds, k: &PutChunk) -> Result<Outcome> {
        self.signer(tx, ids)?;
        let id = ChunkId::from_bytes(Tag::Chunk.hash(&[&k.bytes]));
        let expires = self.time + self.parameters.retention_ms;
        self.chunks
            .insert(id, (tx.signer, k.bytes.clone(), expires));
        self.touch(RecordKey::Chunk(id));
        Ok(Outcome::Chunk(id))
    }

    fn take_unsigned(&mut self) -> Result<()> {
        let (now, rate) = (self.time, self.parameters.unsigned);
        let quotas = self.quotas.get_or_insert_default();
        fill(&mut quotas.unsigned, now, 1, rate, "unsigned transactions")?;
        self.touch(RecordKey::Quotas);
        Ok(())
    }

    fn charge(&mut self, tx: &Tx, weight: u64) -> Result<()> {
        let (now, per_day) = (self.time, self.parameters.weight_per_day);
        if per_day != u64::MAX {
            let account = self.accounts.get(&tx.signer).filter(|a| a.keys.is_some());
            let old = account.is_some_and(|a| now - a.registered >= DAY_MS);
            let quotas = self.quotas.get_or_insert_default();
            if quotas.day != now / DAY_MS {
                (quotas.day, quotas.weight, quotas.young) = (now / DAY_MS, 0, 0);
            }
            quotas.weight += weight;
            quotas.young += if old { 0 } else { weight };
            if quotas.weight > per_day || (!old && quotas.young > per_day / 2) {
                let retry_ms = (now / DAY_MS + 1) * DAY_MS - now;
                return Err(TxError::RateLimited {
                    what: "bytes today",
                    retry_ms,
                });
            }
        }
        let (price, rate) = (self.parameters.price, self.parameters.account_weight);
        if !tx.is_signed() || (price == 0 && rate == Rate::UNLIMITED) {
            return Ok(());
        }
        let account = self.accounts.entry(tx.signer).or_default();
        let left = account.balance.checked_sub(price * weight);
        account.balance = left.ok_or(TxError::InsufficientBalance)?;
        fill(
            &mut account.quota,
            now,
            weight,
            rate,
            "bytes of one account",
        )
    }
}

fn signed_by(tx: &Tx, ids: &TxIds, key: &SigningKey) -> Result<()> {
    let digest = ids.action.as_bytes();
    if tx.signature.is_empty() {
        Err(TxError::SignatureRequired)
    } else if (0..super::people::NONCES).any(|n| sign(key, digest, n) == tx.signature) {
        Ok(())
    } else {
        Err(TxError::InvalidSignature)
    }
}

fn fill(leak: &mut Leak, now: u64, amount: u64, rate: Rate, what: &'static str) -> Result<()> {
    if rate == Rate::UNLIMITED {
        return Ok(());
    }
    let leaked = u128::from(now - leak.at) * u128::from(rate.per_second);
    let used = leak.used_milli.saturating_sub(leaked) + u128::from(amount) * 1_000;
    let room = u128::from(rate.burst) * 1_000;
    if used > room {
        let never = rate.per_second == 0 || amount > rate.burst;
        let wait = (used - room).div_ceil(u128::from(rate.per_second.max(1)));
        let retry_ms = if never {
            u64::MAX
        } else {
            u64::try_from(wait).unwrap()
        };
        return Err(TxError::RateLimited { what, retry_ms });
    }
    *leak = Leak {
        used_milli: used,
        at: now,
    };
    Ok(())
}
