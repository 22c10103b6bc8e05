//! Hearing: frames of the log into messages, and signatures that decide whose they were.
//!
//! ```text
//! frame ─ place ─┬─ key in the chain ──────── opens ─┬─ nothing demanded ──▶ shown, deniable
//!                │                                   ├─ signed before ─────▶ shown, verified
//!                │                                   └─ else ──▶ shown "from a member", key kept
//!                ├─ key kept: place was used ─ opens ─── rival: kept until the signature decides
//!                └─ neither ──▶ refused
//! signature ─ each frame it names: the shown one ──▶ verified          key erased
//!                                  a rival ──▶ the shown one was forged, the rival is shown
//!                                  none yet ──▶ remembered for when it comes
//! ```

use session_core::codec::Decode;
use session_core::ids::{Digest, GroupId};
use zeroize::Zeroizing;

use super::transaction::Transaction;
use crate::content::{Body, Content, MessageName};
use crate::error::E2eeError;
use crate::event::{Authenticity, EventKind, LogPlace, MemberDevice, Message};
use crate::frame::{FrameError, MessageKey, Place, frame_hash};
use crate::limits::PAST_EPOCHS;
use crate::limits::{RIVALS_MAX, UNSIGNED_MAX};
use crate::padding::unpad;
use crate::policy::SignatureRule;
use crate::records::Buffer;
use crate::signed_batch::{SignedBatch, signed_bytes};
use crate::tables::{
    ActivityRecord, ChainRecord, EpochRecord, GroupRecord, LeafKeyRecord, ReservedRecord,
    RivalRecord, Unsigned, UnsignedRecord, named,
};

/// How finely it is remembered when a member was last heard of: an hour.
const ACTIVITY_STEP_MS: u64 = 3_600_000;

/// A frame on its way.
struct Arrival<'a> {
    group: GroupId,
    epoch: u64,
    log: LogPlace,
    at: Place,
    from: MemberDevice,
    hash: Digest,
    frame: &'a [u8],
}

impl Transaction<'_> {
    /// Takes a frame of somebody else's from the log. Whatever is wrong with it is told, and is no
    /// error: it is in the log, and the log goes on.
    pub(crate) fn hear(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        epoch: u64,
        frame: &[u8],
        log: LogPlace,
    ) -> Result<(), E2eeError> {
        if epoch < record.joined_epoch {
            self.tell(group, EventKind::BeforeJoining { place: log });
            return Ok(());
        }
        let readable =
            epoch >= record.floor && epoch <= record.epoch && epoch + PAST_EPOCHS >= record.epoch;
        let keys: Option<EpochRecord> = if readable {
            self.buffer().load_record(&(group, epoch))?
        } else {
            None
        };
        let heard = keys.and_then(|keys| {
            let at = keys.keys.place(frame).ok()?;
            let from = keys.roster.get(at.leaf)?.member;
            Some((keys, at, from))
        });
        let Some((keys, at, from)) = heard else {
            self.tell(group, EventKind::Unreadable { place: log });
            return Ok(());
        };
        let arrival = Arrival {
            group,
            epoch,
            log,
            at,
            from,
            hash: frame_hash(frame),
            frame,
        };
        if at.leaf == record.own_leaf {
            return self.sealed_in_our_name(record, &keys, &arrival);
        }
        self.heard_of(group, at.leaf, log.time_ms)?;
        let name = (group, epoch, at.leaf);
        let unsigned: Option<UnsignedRecord> = self.buffer().load_record(&name)?;
        let mut unsigned = unsigned.unwrap_or_default();
        let entry = unsigned.0.get(&at.generation).cloned();
        let settled = entry.as_ref().and_then(|entry| entry.settled);
        if settled.is_some_and(|settled| settled != arrival.hash) {
            // Its sender has signed another one of this place.
            self.tell(group, EventKind::Unreadable { place: log });
            return Ok(());
        }
        let known = entry.as_ref().and_then(|entry| entry.key.clone());
        match known {
            Some(key) => self.take_rival(&keys, &arrival, &key, &mut unsigned)?,
            None => self.take_first(&keys, &arrival, &mut unsigned)?,
        }
        self.save_unsigned(&arrival, unsigned);
        Ok(())
    }

    /// The first frame of its place.
    fn take_first(
        &mut self,
        keys: &EpochRecord,
        arrival: &Arrival<'_>,
        unsigned: &mut UnsignedRecord,
    ) -> Result<(), E2eeError> {
        let name = (arrival.group, arrival.epoch, arrival.at.leaf);
        let chain: Option<ChainRecord> = self.buffer().load_record(&name)?;
        let opened = match chain {
            Some(mut chain) => {
                let opened = chain.0.open(&keys.keys, arrival.at, arrival.frame);
                if opened.is_ok() {
                    self.buffer().save_record(&name, &chain);
                }
                opened
            }
            None => Err(FrameError::OtherEpoch),
        };
        let Ok((padded, key)) = opened else {
            self.tell(arrival.group, EventKind::Unreadable { place: arrival.log });
            return Ok(());
        };
        let body = body_of(padded);
        let generation = arrival.at.generation;
        let settled = unsigned.0.get(&generation).and_then(|entry| entry.settled);
        if let Some(batch) = batch_in(body.as_ref()) {
            if self.take_batch(keys, arrival, batch, unsigned)? {
                unsigned.0.remove(&generation);
                return Ok(());
            }
            // Not its sender's. The place stays open for the one that is.
            self.tell(arrival.group, EventKind::Unreadable { place: arrival.log });
            keep(unsigned, generation, key, arrival.hash, None);
            return Ok(());
        }
        let verified = settled == Some(arrival.hash);
        let authenticity = match keys.rule {
            SignatureRule::Never => Authenticity::Deniable,
            SignatureRule::Batched | SignatureRule::Each if verified => Authenticity::Verified,
            SignatureRule::Batched | SignatureRule::Each => Authenticity::FromMember,
        };
        let message = body.map(|body| arrival.message(body, authenticity));
        if verified || keys.rule == SignatureRule::Never {
            unsigned.0.remove(&generation);
            return self.show_or_report(arrival, message);
        }
        let shown = keys.rule == SignatureRule::Batched;
        let name = message
            .as_ref()
            .filter(|message| shown && message.body.content.is_stored())
            .map(Message::name);
        match message {
            // Shown once it is signed.
            Some(message) if !shown => self.keep_rival(arrival, &message)?,
            message => self.show_or_report(arrival, message)?,
        }
        keep(unsigned, generation, key, arrival.hash, name);
        Ok(())
    }

    /// A further frame of a place that was used.
    fn take_rival(
        &mut self,
        keys: &EpochRecord,
        arrival: &Arrival<'_>,
        key: &MessageKey,
        unsigned: &mut UnsignedRecord,
    ) -> Result<(), E2eeError> {
        let generation = arrival.at.generation;
        let entry = unsigned.0.get(&generation);
        let repeated =
            entry.is_some_and(|entry| entry.first.is_some_and(|(first, _)| first == arrival.hash));
        let settled = entry.and_then(|entry| entry.settled) == Some(arrival.hash);
        let opened = keys.keys.open_with(key, arrival.frame);
        let (false, Ok(padded)) = (repeated, opened) else {
            self.tell(arrival.group, EventKind::Unreadable { place: arrival.log });
            return Ok(());
        };
        let body = body_of(padded);
        if let Some(batch) = batch_in(body.as_ref()) {
            if self.take_batch(keys, arrival, batch, unsigned)? {
                // The sender's own frame of this place is the batch: what was shown for it was not
                // the sender's.
                self.forged(arrival.group, unsigned, generation);
                unsigned.0.remove(&generation);
                self.drop_rivals(arrival, generation);
            }
            return Ok(());
        }
        if settled {
            unsigned.0.remove(&generation);
            self.drop_rivals(arrival, generation);
            let message = body.map(|body| arrival.message(body, Authenticity::Verified));
            return self.show_or_report(arrival, message);
        }
        match body {
            Some(body) => {
                let message = arrival.message(body, Authenticity::FromMember);
                self.keep_rival(arrival, &message)
            }
            None => Ok(()),
        }
    }

    /// A sender's signature. Answers whether it is the sender's.
    fn take_batch(
        &mut self,
        keys: &EpochRecord,
        arrival: &Arrival<'_>,
        batch: &SignedBatch,
        unsigned: &mut UnsignedRecord,
    ) -> Result<bool, E2eeError> {
        let (group, leaf, epoch) = (arrival.group, arrival.at.leaf, batch.epoch());
        let other: Option<EpochRecord> = if epoch == arrival.epoch {
            None
        } else {
            self.buffer().load_record(&(group, epoch))?
        };
        if epoch != arrival.epoch && other.is_none() {
            // Older than anything that could still be shown as unverified.
            return Ok(false);
        }
        let signed_in = other.as_ref().unwrap_or(keys);
        if !self.signed_by(group, signed_in, leaf, batch)? {
            return Ok(false);
        }
        if epoch == arrival.epoch {
            self.settle(group, epoch, leaf, batch, unsigned)?;
            return Ok(true);
        }
        let name = (group, epoch, leaf);
        let earlier: Option<UnsignedRecord> = self.buffer().load_record(&name)?;
        let mut earlier = earlier.unwrap_or_default();
        self.settle(group, epoch, leaf, batch, &mut earlier)?;
        save_unsigned(self.buffer(), name, earlier);
        Ok(true)
    }

    fn signed_by(
        &self,
        group: GroupId,
        keys: &EpochRecord,
        leaf: u32,
        batch: &SignedBatch,
    ) -> Result<bool, E2eeError> {
        let Some(found) = keys.roster.get(leaf) else {
            return Ok(false);
        };
        let key: Option<LeafKeyRecord> = self.buffer().load_record(&(group, found.key))?;
        let signed = signed_bytes(group, batch.epoch(), leaf, batch.frames());
        Ok(key.is_some_and(|key| {
            let crypto = self.provider.crypto;
            crypto.verify_leaf(self.me.suite, &signed, &key.0, batch.signature())
        }))
    }

    /// Applies what a sender has signed to what was shown of it.
    fn settle(
        &mut self,
        group: GroupId,
        epoch: u64,
        leaf: u32,
        batch: &SignedBatch,
        unsigned: &mut UnsignedRecord,
    ) -> Result<(), E2eeError> {
        let mut verified = Vec::new();
        for frame in batch.frames() {
            let generation = frame.generation;
            let at = Place { leaf, generation };
            let first = unsigned.0.get(&generation).and_then(|entry| entry.first);
            let rival = (group, epoch, leaf, generation, frame.hash);
            if let Some(RivalRecord(mut message)) = self.buffer().load_record(&rival)? {
                if first.is_some_and(|(hash, _)| hash != frame.hash) {
                    self.forged(group, unsigned, generation);
                }
                message.authenticity = Authenticity::Verified;
                self.show(group, message)?;
            } else if let Some((hash, name)) = first {
                if hash != frame.hash {
                    self.forged(group, unsigned, generation);
                    if let Some(entry) = unsigned.0.get_mut(&generation) {
                        (entry.first, entry.settled) = (None, Some(frame.hash));
                    }
                    delete_rivals(self.buffer(), (group, epoch, at));
                    continue;
                }
                verified.extend(name);
            } else {
                // Not here yet, or never. What comes for this place has to be this.
                self.await_signed(group, epoch, at, frame.hash, unsigned)?;
                continue;
            }
            unsigned.0.remove(&generation);
            delete_rivals(self.buffer(), (group, epoch, at));
        }
        for name in &verified {
            self.settle_claim(group, *name)?;
        }
        if !verified.is_empty() {
            self.tell(group, EventKind::Verified(verified));
        }
        Ok(())
    }

    /// Remembers what a sender signed and has not arrived, if it can still be opened.
    fn await_signed(
        &self,
        group: GroupId,
        epoch: u64,
        at: Place,
        hash: Digest,
        unsigned: &mut UnsignedRecord,
    ) -> Result<(), E2eeError> {
        let chain: Option<ChainRecord> = self.buffer().load_record(&(group, epoch, at.leaf))?;
        if chain.is_some_and(|chain| chain.0.can_open(at.generation)) {
            let entry = Unsigned {
                key: None,
                first: None,
                settled: Some(hash),
            };
            unsigned.0.insert(at.generation, entry);
        }
        Ok(())
    }

    /// What was shown for a place was not its sender's.
    fn forged(&mut self, group: GroupId, unsigned: &mut UnsignedRecord, generation: u32) {
        let entry = unsigned.0.get(&generation);
        if let Some((_, Some(name))) = entry.and_then(|entry| entry.first) {
            self.forget_claim(group, name);
            self.tell(group, EventKind::Forged(name));
        }
    }

    /// Shows a message, or tells that a frame opened and held nothing readable.
    fn show_or_report(
        &mut self,
        arrival: &Arrival<'_>,
        message: Option<Message>,
    ) -> Result<(), E2eeError> {
        match message {
            Some(message) => self.show(arrival.group, message),
            None => {
                self.tell(arrival.group, EventKind::Unreadable { place: arrival.log });
                Ok(())
            }
        }
    }

    fn show(&mut self, group: GroupId, message: Message) -> Result<(), E2eeError> {
        if let Content::ReservedKeyPackage(bytes) = &message.body.content {
            let reserved = ReservedRecord {
                member: message.from,
                key_package: bytes.clone(),
            };
            let name = (group, message.from.device);
            self.buffer().save_record(&name, &reserved);
        }
        if let Content::AdminKey(key) = &message.body.content {
            self.hear_admin_key(group, &message, key)?;
        }
        if let Content::AdminWork(work) = &message.body.content {
            // Between clients: nobody is shown it.
            return self.hear_admin_work(group, message.from, work);
        }
        self.tell(group, EventKind::Message(Box::new(message)));
        Ok(())
    }

    fn keep_rival(&self, arrival: &Arrival<'_>, message: &Message) -> Result<(), E2eeError> {
        let (group, epoch, at) = (arrival.group, arrival.epoch, arrival.at);
        let kept = self.buffer().names(&rivals_of((group, epoch, at)));
        if kept.len() < RIVALS_MAX {
            let name = (group, epoch, at.leaf, at.generation, arrival.hash);
            let record = RivalRecord(message.clone());
            self.buffer().save_record(&name, &record);
        }
        Ok(())
    }

    fn drop_rivals(&self, arrival: &Arrival<'_>, generation: u32) {
        let at = Place {
            leaf: arrival.at.leaf,
            generation,
        };
        delete_rivals(self.buffer(), (arrival.group, arrival.epoch, at));
    }

    fn save_unsigned(&self, arrival: &Arrival<'_>, mut unsigned: UnsignedRecord) {
        while unsigned.0.len() > UNSIGNED_MAX {
            if let Some((generation, _)) = unsigned.0.pop_first() {
                self.drop_rivals(arrival, generation);
            }
        }
        let name = (arrival.group, arrival.epoch, arrival.at.leaf);
        save_unsigned(self.buffer(), name, unsigned);
    }

    /// A frame in this device's chain that is not in its outbox: it was copied, or a member sealed
    /// in its name. If the place is spent here, it is one's own once more, or nothing can be said.
    fn sealed_in_our_name(
        &mut self,
        record: &mut GroupRecord,
        keys: &EpochRecord,
        arrival: &Arrival<'_>,
    ) -> Result<(), E2eeError> {
        let (group, epoch, place) = (arrival.group, arrival.epoch, arrival.log);
        let name = (group, epoch, arrival.at.leaf);
        let chain: Option<ChainRecord> = self.buffer().load_record(&name)?;
        let opened = chain.and_then(|mut chain| {
            let opened = chain.0.open(&keys.keys, arrival.at, arrival.frame).ok()?;
            // One's own next frame must not take the same place.
            chain.0.forget_skipped();
            self.buffer().save_record(&name, &chain);
            Some(opened.0)
        });
        let Some(padded) = opened else {
            self.tell(group, EventKind::Unreadable { place });
            return Ok(());
        };
        let body = body_of(padded);
        if let Some(body) = &body {
            // Nor the same number.
            let after = body.sequence.saturating_add(1);
            record.next_sequence = record.next_sequence.max(after);
        }
        let signed = match batch_in(body.as_ref()) {
            Some(batch) if batch.epoch() == epoch => {
                self.signed_by(group, keys, arrival.at.leaf, batch)?
            }
            Some(_) | None => false,
        };
        self.tell(group, EventKind::SealedInOurName { place, signed });
        Ok(())
    }

    /// Who is found in a group counts from then on as somebody heard of.
    pub(crate) fn heard_of_all(
        &self,
        group: GroupId,
        epoch: u64,
        time_ms: u64,
    ) -> Result<(), E2eeError> {
        for leaf in self.epoch(group, epoch)?.roster.indexes() {
            self.heard_of(group, leaf, time_ms)?;
        }
        Ok(())
    }

    /// Notes that a leaf was heard of, to the hour.
    pub(crate) fn heard_of(
        &self,
        group: GroupId,
        leaf: u32,
        time_ms: u64,
    ) -> Result<(), E2eeError> {
        let time = time_ms - time_ms % ACTIVITY_STEP_MS;
        let before: Option<ActivityRecord> = self.buffer().load_record(&(group, leaf))?;
        if before.is_none_or(|before| before.0 < time) {
            self.buffer()
                .save_record(&(group, leaf), &ActivityRecord(time));
        }
        Ok(())
    }
}

impl Arrival<'_> {
    fn message(&self, body: Body, authenticity: Authenticity) -> Message {
        Message {
            from: self.from,
            epoch: self.epoch,
            place: self.log,
            authenticity,
            body,
        }
    }
}

/// The key of a place stays until its sender's signature decides.
fn keep(
    unsigned: &mut UnsignedRecord,
    generation: u32,
    key: MessageKey,
    hash: Digest,
    name: Option<MessageName>,
) {
    let entry = Unsigned {
        key: Some(key),
        first: Some((hash, name)),
        settled: None,
    };
    unsigned.0.insert(generation, entry);
}

fn body_of(padded: Vec<u8>) -> Option<Body> {
    let padded = Zeroizing::new(padded);
    unpad(&padded)
        .ok()
        .and_then(|body| Body::from_bytes(body).ok())
}

fn batch_in(body: Option<&Body>) -> Option<&SignedBatch> {
    match &body?.content {
        Content::SignedBatch(batch) => Some(batch),
        Content::Text(_)
        | Content::Reply { .. }
        | Content::Reaction { .. }
        | Content::Edit { .. }
        | Content::Delete { .. }
        | Content::Attachment { .. }
        | Content::Delivered(_)
        | Content::Read(_)
        | Content::Timer { .. }
        | Content::GroupInfo { .. }
        | Content::Typing
        | Content::Leave { .. }
        | Content::ReservedKeyPackage(_)
        | Content::AdminKey(_)
        | Content::AdminWork(_)
        | Content::Unknown { .. } => None,
    }
}

fn rivals_of((group, epoch, at): (GroupId, u64, Place)) -> Vec<u8> {
    let parts: [&[u8]; 4] = [
        group.as_bytes(),
        &epoch.to_be_bytes(),
        &at.leaf.to_be_bytes(),
        &at.generation.to_be_bytes(),
    ];
    named(b'r', &parts)
}

fn delete_rivals(buffer: &Buffer<'_>, place: (GroupId, u64, Place)) {
    buffer.delete_all(&rivals_of(place));
}

fn save_unsigned(buffer: &Buffer<'_>, name: (GroupId, u64, u32), unsigned: UnsignedRecord) {
    if unsigned.0.is_empty() {
        buffer.delete_record::<UnsignedRecord>(&name);
    } else {
        buffer.save_record(&name, &unsigned);
    }
}
