//! Rules of sessions and of messages.

use super::people::{Fake, account_of};
use super::rules::{Result, signed_by};
use super::state::{MMessage, MParticipant, MSession, Model};
use session_chain::state::Crypto;
use session_chain::state::TxError;
use session_chain::tx::message::{AcknowledgeMessages, BatchAuth, Body};
use session_chain::tx::session::{CloseSession, CreateSession, NewParticipant};
use session_chain::tx::{NOBODY, SigningKey, Tx, TxIds};
use session_core::channel::Role;
use session_core::codec::DecodeError;
use session_core::hash::Tag;
use session_core::ids::{AccountId, SessionId};
use session_core::log::{Conversation, MembershipEvent, MessageEntry};
use session_core::parameters::Admission;
use session_core::record::{Outcome, RecordKey};
use session_core::session::{Participant, Status};
use session_core::time::Time;
impl Model {
    pub(crate) fn create_session(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &CreateSession,
    ) -> Result<Outcome> {
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

    pub(crate) fn participant(&self, new: &NewParticipant) -> Result<Participant> {
        let account = self.accounts.get(&new.account);
        let (kem, signing) = match account.and_then(|a| a.digests(&new.account)) {
            Some((kem, signing)) => {
                let other_kem = new.kem.as_ref().is_some_and(|k| k.digest() != kem);
                let other_signing = new.signing.as_ref().is_some_and(|k| k.digest() != signing);
                if other_kem || other_signing {
                    return Err(TxError::OtherKeyRegistered);
                }
                (kem, Some(signing))
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
                (kem.digest(), new.signing.as_ref().map(SigningKey::digest))
            }
        };
        Ok(Participant {
            account: new.account,
            kem,
            signing,
        })
    }

    pub(crate) fn open_session(&self, id: &SessionId, account: &AccountId) -> Result<usize> {
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

    pub(crate) fn accept_session(&mut self, id: &SessionId, place: usize) {
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

    pub(crate) fn close_session(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &CloseSession,
    ) -> Result<Outcome> {
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

    pub(crate) fn log_mut(&mut self, conversation: &Conversation) -> &mut Vec<MMessage> {
        match conversation {
            Conversation::Session(id) => &mut self.sessions.get_mut(id).unwrap().log,
            Conversation::Channel(id) => &mut self.channels.get_mut(id).unwrap().log,
            Conversation::Group(_) => panic!("a group has no messages"),
        }
    }

    pub(crate) fn find_message(&self, ids: &TxIds, i: usize) -> Option<u64> {
        let logs = self.sessions.values().map(|s| &s.log[..]);
        let kept = self.channels.values().map(|c| &c.log[c.dropped..]);
        let mut all = logs.chain(kept).flatten();
        let found = all.find(|m| m.entry.id == ids.messages[i].0);
        found.map(|m| m.entry.sequence)
    }

    pub(crate) fn may_send(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        to: &Conversation,
        n: u64,
    ) -> Result<bool> {
        let id = match to {
            Conversation::Session(id) => id,
            Conversation::Channel(id) => {
                self.signer(tx, ids)?;
                self.open_channel(id)?;
                self.role(id, &tx.signer, Role::Member)?;
                self.touch(RecordKey::Channel(*id));
                return Ok(true);
            }
            Conversation::Group(_) => return Err(TxError::PostsOnly),
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

    pub(crate) fn append(
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

    pub(crate) fn acknowledge(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &AcknowledgeMessages,
    ) -> Result<Outcome> {
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
            Conversation::Group(_) => return Err(TxError::PostsOnly),
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
}
