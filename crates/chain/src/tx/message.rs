//! Messages and their delivery confirmations.

use session_core::channel::{Channel, Role};
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::header::SIGNATURE_LEN;
use session_core::ids::{Digest, MessageId};
use session_core::limits::{BATCH_MESSAGES_MAX, CIPHERTEXT_MAX, TILE_LEAVES};
use session_core::log::{Conversation, Entry, MessageEntry};
use session_core::merkle::Frontier;
use session_core::parameters::Admission;
use session_core::record::{Acknowledgement, Outcome, RecordKey};
use session_core::session::Session;
use session_core::time::Time;

use super::Tx;
use crate::state::{Scope, TxError};
use crate::view::{Table, batch_key, entry_key, message_place};

/// One message in the published form: no expiry, signed over its message id. To sessions only.
#[derive(Clone, PartialEq, Eq)]
pub struct SendMessage {
    /// Where to.
    pub conversation: Conversation,
    /// At most 256 KiB.
    pub ciphertext: Vec<u8>,
}

/// 1 to 100 messages of one sender to one conversation under one signature.
#[derive(Clone, PartialEq, Eq)]
pub struct SendBatch {
    /// Where to.
    pub conversation: Conversation,
    /// Each at most 256 KiB, together within one transaction.
    pub ciphertexts: Vec<Vec<u8>>,
}

/// Confirms delivery of every message below `up_to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcknowledgeMessages {
    /// Where.
    pub conversation: Conversation,
    /// First sequence number not confirmed.
    pub up_to: u64,
}

impl core::fmt::Debug for SendMessage {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "SendMessage({:?}, {} bytes)",
            self.conversation,
            self.ciphertext.len()
        )
    }
}

impl core::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "SendBatch({:?}, {} messages)",
            self.conversation,
            self.ciphertexts.len()
        )
    }
}

/// A stored message body: the ciphertext, and where its signature is.
#[derive(Clone, PartialEq, Eq)]
pub struct Body {
    /// Ciphertext.
    pub ciphertext: Vec<u8>,
    /// How it is signed.
    pub auth: Auth,
}

/// How a stored message is signed.
#[derive(Clone, PartialEq, Eq)]
pub enum Auth {
    /// Its own signature over its message id; empty for an unsigned message.
    Own(Vec<u8>),
    /// The signature of the batch that begins at this sequence number.
    Batch(u64),
}

/// The signature of a batch, stored once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchAuth {
    /// Of the transaction.
    pub valid_until: Time,
    /// Of the transaction.
    pub salt: u64,
    /// Ids of the batch's messages.
    pub messages: Vec<MessageId>,
    /// Signature over [`super::batch_action`].
    pub signature: Vec<u8>,
}

/// The log of a conversation, ready to append to.
enum Target {
    Session(Session),
    Channel(Channel),
}

impl Target {
    const fn log(&mut self) -> &mut Frontier {
        match self {
            Self::Session(session) => &mut session.log,
            Self::Channel(channel) => &mut channel.log,
        }
    }
}

impl SendMessage {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        // It has no expiry and is recognised by its leaf. A channel's leaves go, and then anybody
        // could send the same signature again at its sender's cost.
        match self.conversation {
            Conversation::Session(_) => {}
            Conversation::Channel(_) => return Err(TxError::BatchOnly),
            Conversation::Group(_) => return Err(TxError::PostsOnly),
        }
        let (mut target, verified) = scope.target(&self.conversation, tx)?;
        let ids = scope.ids.messages.clone();
        let first = target.log().count();
        // That no message has this id was checked before anything else.
        for id in ids {
            scope.append(&self.conversation, &mut target, tx, id, verified)?;
            let auth = AuthRef::Own(&tx.signature);
            scope.put_body(&self.conversation, first, &self.ciphertext, &auth);
        }
        scope.put_target(&self.conversation, &target)?;
        Ok(Outcome::Sequence(first))
    }
}

impl SendBatch {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        // Only registered accounts batch; the signature is verified with the right to write.
        if !tx.is_signed() {
            return Err(TxError::SignatureRequired);
        }
        if !scope.has_keys(&tx.signer)? {
            return Err(TxError::UnknownAccount);
        }
        let (mut target, verified) = scope.target(&self.conversation, tx)?;
        let ids = scope.ids.messages.clone();
        let first = target.log().count();
        for ((at, ciphertext), id) in (first..).zip(&self.ciphertexts).zip(&ids) {
            // Not a duplicate of the batch, whose other messages may be new: a retry is
            // recognised by its action.
            if let Some((_, sequence)) = message_place(&scope.over, &id.0)? {
                return Err(TxError::MessageKnown { sequence });
            }
            scope.append(&self.conversation, &mut target, tx, *id, verified)?;
            scope.put_body(&self.conversation, at, ciphertext, &AuthRef::Batch(first));
        }
        let auth = BatchAuth {
            valid_until: tx.valid_until,
            salt: tx.salt,
            messages: ids.iter().map(|(id, _)| *id).collect(),
            signature: tx.signature.clone(),
        };
        let key = batch_key(&self.conversation.log(), first);
        scope.over.put(Table::Body, key, auth.to_bytes());
        scope.put_target(&self.conversation, &target)?;
        Ok(Outcome::Sequence(first))
    }
}

impl AcknowledgeMessages {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let count = match &self.conversation {
            Conversation::Session(id) => {
                let session: Option<Session> = scope.record(&RecordKey::Session(*id))?;
                let session = session.ok_or(TxError::UnknownSession)?;
                scope
                    .roster(id)?
                    .position(&tx.signer)
                    .ok_or(TxError::Unauthorized)?;
                session.log.count()
            }
            Conversation::Channel(id) => {
                let channel: Option<Channel> = scope.record(&RecordKey::Channel(*id))?;
                let channel = channel.ok_or(TxError::UnknownChannel)?;
                scope.require_role(id, &tx.signer, Role::Reader)?;
                channel.log.count()
            }
            // It has no roster: who has read what is told inside.
            Conversation::Group(_) => return Err(TxError::PostsOnly),
        };
        if self.up_to > count {
            return Err(TxError::NotThatMany { count });
        }
        let key = RecordKey::Acknowledgement(self.conversation, tx.signer);
        let before: Option<Acknowledgement> = scope.record(&key)?;
        if before.is_some_and(|before| before.up_to >= self.up_to) {
            return Err(TxError::AlreadyAcknowledged);
        }
        let time = scope.context.time;
        scope.put_record(
            &key,
            &Acknowledgement {
                up_to: self.up_to,
                time,
            },
        )?;
        Ok(Outcome::Done)
    }
}

impl Scope<'_, '_> {
    /// The conversation, with the sender's right to write to it checked, and whether its
    /// signature was verified.
    fn target(&mut self, conversation: &Conversation, tx: &Tx) -> Result<(Target, bool), TxError> {
        match conversation {
            Conversation::Session(id) => {
                let (mut session, position) = self.open_session(id, &tx.signer)?;
                let verified = self.check_sender(id, position, tx)?;
                let parameters = &self.context.parameters;
                let max = parameters.max_messages;
                let count = session
                    .log
                    .count()
                    .saturating_add(self.ids.messages.len() as u64);
                if count > max {
                    return Err(TxError::SessionFull);
                }
                if !verified {
                    // Strangers fill at most half of a session that also has signed messages.
                    session.unsigned = session.unsigned.saturating_add(1);
                    let signed = session.log.count() >= session.unsigned;
                    if signed && session.unsigned > max / 2 {
                        return Err(TxError::SessionFull);
                    }
                }
                if !session.has_accepted(position) {
                    self.accept(id, &mut session, position, &tx.signer)?;
                }
                Ok((Target::Session(session), verified))
            }
            Conversation::Channel(id) => {
                self.require_signer(tx)?;
                let channel = self.open_channel(id)?;
                self.require_role(id, &tx.signer, Role::Member)?;
                Ok((Target::Channel(channel), true))
            }
            Conversation::Group(_) => Err(TxError::PostsOnly),
        }
    }

    /// Verifies the sender of a session message with the key that is known for it.
    fn check_sender(
        &mut self,
        session: &session_core::ids::SessionId,
        position: usize,
        tx: &Tx,
    ) -> Result<bool, TxError> {
        let account = self.account(&tx.signer)?;
        if let Some(account) = account.filter(|account| account.keys.is_some()) {
            self.require_keys_of(tx, &account)?;
            return Ok(true);
        }
        if let Some(key) = self.session_signing_key(session, position)? {
            self.require_signature_by(tx, &key)?;
            return Ok(true);
        }
        if tx.is_signed() {
            return Err(TxError::UnknownAccount);
        }
        if self.context.parameters.admission != Admission::Open {
            return Err(TxError::SignatureRequired);
        }
        self.take_unsigned()?;
        Ok(false)
    }

    fn append(
        &mut self,
        conversation: &Conversation,
        target: &mut Target,
        tx: &Tx,
        (id, body_hash): (MessageId, Digest),
        verified: bool,
    ) -> Result<(), TxError> {
        let log = conversation.log();
        let sequence = target.log().count();
        let entry = Entry::Message(MessageEntry {
            sequence,
            time: self.context.time,
            height: self.context.height,
            id,
            sender: tx.signer,
            body_hash,
            signature_hash: self.ids.signature,
            verified,
        });
        self.append_entry(&log, target.log(), &entry)?;
        // A session's leaves go with it; a channel has no end, so each full tile has its own.
        if let Conversation::Channel(id) = conversation
            && target.log().count().is_multiple_of(TILE_LEAVES)
        {
            let kept = self.context.parameters.retention_ms;
            let old = self.context.time.after_ms(kept);
            self.set_deadline(&RecordKey::Channel(*id), None, old);
        }
        let place = entry_key(&log, sequence);
        self.over.put(Table::Message, id.as_bytes().to_vec(), place);
        Ok(())
    }

    fn put_body(
        &mut self,
        conversation: &Conversation,
        at: u64,
        ciphertext: &[u8],
        auth: &AuthRef<'_>,
    ) {
        // Written from where it lies: a body is the largest thing a message has.
        let mut body = Writer::with_capacity(ciphertext.len() + 16 + SIGNATURE_LEN);
        body.bytes(ciphertext).value(auth);
        self.over.put(
            Table::Body,
            entry_key(&conversation.log(), at),
            body.into_bytes(),
        );
    }

    fn put_target(&mut self, conversation: &Conversation, target: &Target) -> Result<(), TxError> {
        match (conversation, target) {
            (Conversation::Session(id), Target::Session(session)) => self.put_session(id, session),
            (Conversation::Channel(id), Target::Channel(channel)) => self.put_channel(id, channel),
            (Conversation::Session(_) | Conversation::Group(_), Target::Channel(_))
            | (Conversation::Channel(_) | Conversation::Group(_), Target::Session(_)) => {
                Err(TxError::Unauthorized)
            }
        }
    }
}

impl Encode for SendMessage {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.conversation).bytes(&self.ciphertext);
    }
}

impl Decode for SendMessage {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: Conversation::decode(input)?,
            ciphertext: input.bytes("ciphertext", CIPHERTEXT_MAX)?.to_vec(),
        })
    }
}

impl Encode for SendBatch {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.conversation).count(self.ciphertexts.len());
        for ciphertext in &self.ciphertexts {
            out.bytes(ciphertext);
        }
    }
}

impl Decode for SendBatch {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let conversation = Conversation::decode(input)?;
        let what = "messages of a batch";
        let n = input.count(what, BATCH_MESSAGES_MAX, 4)?;
        if n == 0 {
            return Err(DecodeError::TooShort {
                what,
                claimed: 0,
                minimum: 1,
            });
        }
        let mut ciphertexts = Vec::with_capacity(n);
        for _ in 0..n {
            ciphertexts.push(input.bytes("ciphertext", CIPHERTEXT_MAX)?.to_vec());
        }
        Ok(Self {
            conversation,
            ciphertexts,
        })
    }
}

impl Encode for AcknowledgeMessages {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.conversation).u64(self.up_to);
    }
}

impl Decode for AcknowledgeMessages {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            conversation: Conversation::decode(input)?,
            up_to: input.u64("up to")?,
        })
    }
}

/// [`Auth`] where its signature lies.
enum AuthRef<'a> {
    Own(&'a [u8]),
    Batch(u64),
}

impl Encode for AuthRef<'_> {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Own(signature) => out.u8(0).bytes(signature),
            Self::Batch(first) => out.u8(1).u64(*first),
        };
    }
}

impl Encode for Body {
    fn encode(&self, out: &mut Writer) {
        let auth = match &self.auth {
            Auth::Own(signature) => AuthRef::Own(signature),
            Auth::Batch(first) => AuthRef::Batch(*first),
        };
        out.bytes(&self.ciphertext).value(&auth);
    }
}

impl Decode for Body {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let ciphertext = input.bytes("ciphertext", CIPHERTEXT_MAX)?.to_vec();
        let auth = match input.u8("auth")? {
            0 => Auth::Own(input.bytes("signature", 4_096)?.to_vec()),
            1 => Auth::Batch(input.u64("batch")?),
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "auth",
                    value: value.into(),
                });
            }
        };
        Ok(Self { ciphertext, auth })
    }
}

impl Encode for BatchAuth {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.valid_until)
            .u64(self.salt)
            .list(&self.messages)
            .bytes(&self.signature);
    }
}

impl Decode for BatchAuth {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            valid_until: Time::decode(input)?,
            salt: input.u64("salt")?,
            messages: input.list("batch messages", BATCH_MESSAGES_MAX, 32)?,
            signature: input.bytes("signature", 4_096)?.to_vec(),
        })
    }
}
