//! Speaking: content into frames, frames into the outbox, signatures over them.

use openmls_traits::OpenMlsProvider as _;
use session_core::codec::{Decode, Encode};
use session_core::hash::sha256;
use session_core::ids::{Digest, GroupId};
use zeroize::Zeroizing;

use super::transaction::Transaction;
use super::{Device, Output};
use crate::admin_work::AdminWork;
use crate::content::{Body, Content, MessageName};
use crate::directory::Directory;
use crate::error::{E2eeError, bounded};
use crate::event::EventKind;
use crate::frame::{GUARD_BYTES, frame_hash};
use crate::limits::{CONTENT_MAX, PAST_EPOCHS, SIGNED_BATCH_AFTER_MS, SIGNED_BATCH_MAX};
use crate::outgoing::OutgoingKind;
use crate::padding::pad;
use crate::policy::SignatureRule;
use crate::signed_batch::{SignedBatch, SignedFrame, signed_bytes};
use crate::tables::{
    ChainRecord, FrameNumber, GroupRecord, GroupStatus, Intent, OutboxRecord, PendingRecord,
};

impl Device {
    /// Says things in a conversation. They are in the outbox, in order, once this returns.
    ///
    /// # Errors
    /// [`E2eeError::NotActive`], [`E2eeError::UnknownGroup`], [`E2eeError::TooLarge`],
    /// [`E2eeError::OutboxFull`], [`E2eeError::Frame`] for a chain that is used up.
    pub fn send(
        &mut self,
        group: GroupId,
        contents: &[Content],
        now_ms: u64,
    ) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| {
            let mut record = event.active(group)?;
            for content in contents {
                event.put(group, &mut record, content.clone(), now_ms)?;
            }
            // One signature over what is said in one breath.
            if contents.iter().any(is_signed_promptly) {
                event.sign_promptly(group, &mut record, now_ms)?;
            }
            event.buffer().save_record(&group, &record);
            Ok(())
        })?;
        Ok(output)
    }

    /// Asks to be removed: this device, or all of its account. A client of somebody who may remove
    /// does it; the group goes on here until then.
    ///
    /// # Errors
    /// As [`Device::send`].
    pub fn leave(
        &mut self,
        group: GroupId,
        whole_account: bool,
        now_ms: u64,
    ) -> Result<Output, E2eeError> {
        self.send(group, &[Content::Leave { whole_account }], now_ms)
    }

    /// The chain has accepted something that its log does not show: a creation, an invitation that
    /// was handed over.
    ///
    /// # Errors
    /// [`E2eeError::Vault`].
    pub fn accepted(&mut self, number: u64) -> Result<(), E2eeError> {
        self.write(|buffer| {
            let record: Option<OutboxRecord> = buffer.load_record(&number)?;
            let kind = record.map(|record| record.outgoing.kind);
            if matches!(
                kind,
                Some(OutgoingKind::Create(_) | OutgoingKind::Invitation(_))
            ) {
                buffer.delete_record::<OutboxRecord>(&number);
            }
            Ok(())
        })
    }

    /// The chain will never accept this. A frame is sealed again in the current epoch, under a new
    /// key; a commit is given up. What is not in the outbox is none of its business.
    ///
    /// # Errors
    /// As [`Device::send`].
    pub fn refused(&mut self, number: u64, now_ms: u64) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| {
            let Some(entry) = event.buffer().load_record::<OutboxRecord>(&number)? else {
                return Ok(());
            };
            let group = entry.outgoing.group;
            match &entry.outgoing.kind {
                OutgoingKind::Frame { .. } => {
                    let mut record = event.active(group)?;
                    event.seal_again(group, &mut record, number, entry, now_ms)?;
                    event.sign_promptly(group, &mut record, now_ms)?;
                    event.buffer().save_record(&group, &record);
                }
                OutgoingKind::Commit(_) => event.give_up(group)?,
                OutgoingKind::Create(_) | OutgoingKind::Invitation(_) => event.unsend(number),
            }
            Ok(())
        })?;
        Ok(output)
    }

    /// Does what is due: signatures over messages that wait for 5 seconds, and rotations.
    ///
    /// # Errors
    /// As [`Device::send`].
    pub fn tick(&mut self, now_ms: u64, directory: &dyn Directory) -> Result<Output, E2eeError> {
        let mut all = Output::default();
        for group in self.groups() {
            let due = self.look(|event| {
                let record = event.group(group)?;
                let due = signature_due(&record).is_some_and(|due| due <= now_ms);
                Ok((record, due))
            })?;
            let (record, signature) = due;
            if record.status != GroupStatus::Active {
                continue;
            }
            let rotation = now_ms >= record.rotate_at_ms
                || self.look(|event| event.has_said_enough(group, &record))?;
            if !signature && !rotation {
                continue;
            }
            let ((), output) = self.event(|event| {
                let mut record = event.active(group)?;
                if signature {
                    event.sign_frames(group, &mut record, now_ms)?;
                }
                let pending: Option<PendingRecord> = event.buffer().load_record(&group)?;
                if rotation && pending.is_none() {
                    event.propose(group, &record, Intent::Rotate, directory)?;
                }
                event.buffer().save_record(&group, &record);
                Ok(())
            })?;
            all.outgoing.extend(output.outgoing);
            all.events.extend(output.events);
        }
        Ok(all)
    }

    /// When [`Device::tick`] has something to do next, in milliseconds; none: not until something
    /// else happens.
    ///
    /// # Errors
    /// [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn next_tick_ms(&self) -> Result<Option<u64>, E2eeError> {
        let mut next: Option<u64> = None;
        for group in self.groups() {
            let (record, pending, enough) = self.look(|event| {
                let pending: Option<PendingRecord> = event.buffer().load_record(&group)?;
                let record = event.group(group)?;
                let enough = event.has_said_enough(group, &record)?;
                Ok((record, pending.is_some(), enough))
            })?;
            if record.status != GroupStatus::Active {
                continue;
            }
            let rotation = if enough { 0 } else { record.rotate_at_ms };
            let times = [signature_due(&record), (!pending).then_some(rotation)];
            for time in times.into_iter().flatten() {
                next = Some(next.map_or(time, |next| next.min(time)));
            }
        }
        Ok(next)
    }
}

/// When one's own frames are to be signed.
fn signature_due(record: &GroupRecord) -> Option<u64> {
    (!record.unsigned.is_empty()).then(|| {
        record
            .unsigned_since_ms
            .saturating_add(SIGNED_BATCH_AFTER_MS)
    })
}

/// Whether somebody waits for the proof of who said this. What is not worth a signature of its own
/// goes under the next one.
const fn is_signed_promptly(content: &Content) -> bool {
    !matches!(
        content,
        Content::Typing | Content::Delivered(_) | Content::Read(_)
    )
}

impl Transaction<'_> {
    /// Seals content of one's own, and the signature with it where one is due.
    pub(crate) fn say(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        content: Content,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        let promptly = is_signed_promptly(&content);
        self.put(group, record, content, now_ms)?;
        if promptly {
            self.sign_promptly(group, record, now_ms)?;
        }
        Ok(())
    }

    /// Signs at once after a silence: what is said alone then goes out with its signature, as one post.
    /// In a talk signatures are 5 seconds apart ([`Device::tick`]).
    fn sign_promptly(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        // A clock that was set back is no talk.
        let talking = now_ms
            .checked_sub(record.signed_ms)
            .is_some_and(|since| since < SIGNED_BATCH_AFTER_MS);
        if talking {
            return Ok(());
        }
        self.sign_frames(group, record, now_ms)
    }

    /// Seals content of one's own.
    fn put(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        content: Content,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        let counted = content.is_stored();
        let body = Body {
            sequence: if counted { record.next_sequence } else { 0 },
            sent_at_ms: now_ms,
            content,
        };
        if counted {
            record.next_sequence = record.next_sequence.saturating_add(1);
            record.sent_since_rotation = record.sent_since_rotation.saturating_add(1);
        }
        let bytes = Zeroizing::new(body.to_bytes());
        bounded("content", &bytes, CONTENT_MAX)?;
        self.seal(group, record, bytes, true, now_ms)
    }

    /// Seals a body as the next frame of one's own chain. `signable`: it is covered by a signature.
    fn seal(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        body: Zeroizing<Vec<u8>>,
        signable: bool,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        let (epoch, leaf) = (record.epoch, record.own_leaf);
        let keys = self.epoch(group, epoch)?;
        let chain: Option<ChainRecord> = self.buffer().load_record(&(group, epoch, leaf))?;
        let mut chain = chain.ok_or(E2eeError::NotActive(group))?;
        let mut padded = Zeroizing::new(body.to_vec());
        pad(&mut padded);
        let guard: [u8; GUARD_BYTES] = self.provider.rand().0.borrow_mut().bytes()?;
        let (place, frame) = keys.keys.seal(leaf, &mut chain.0, guard, &padded)?;
        self.buffer().save_record(&(group, epoch, leaf), &chain);
        let hash = frame_hash(&frame);
        let number = self.send(group, OutgoingKind::Frame { epoch, frame }, Some(body))?;
        self.buffer().save_record(&hash, &FrameNumber(number));
        if !signable || keys.rule == SignatureRule::Never {
            return Ok(());
        }
        if record.unsigned.is_empty() {
            (record.unsigned_epoch, record.unsigned_since_ms) = (epoch, now_ms);
        }
        record.unsigned.push(SignedFrame {
            generation: place.generation,
            hash,
        });
        if keys.rule == SignatureRule::Each || record.unsigned.len() >= SIGNED_BATCH_MAX {
            self.sign_frames(group, record, now_ms)?;
        }
        Ok(())
    }

    /// Signs what is not signed yet, in a frame of its own.
    pub(crate) fn sign_frames(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        let frames = core::mem::take(&mut record.unsigned);
        if frames.is_empty() {
            return Ok(());
        }
        let epoch = record.unsigned_epoch;
        // The key that the leaf had then. Of an epoch that is not known here any more nobody could verify it.
        let Some(own) = self.own_key_of(group, record, epoch)? else {
            return Ok(());
        };
        if epoch == record.epoch {
            record.signed_ms = now_ms;
        }
        let signed = signed_bytes(group, epoch, record.own_leaf, &frames);
        let signature = own.key().sign_bytes(&signed)?;
        let body = Body {
            sequence: 0,
            sent_at_ms: now_ms,
            content: Content::SignedBatch(Box::new(SignedBatch::new(epoch, frames, signature))),
        };
        let bytes = Zeroizing::new(body.to_bytes());
        self.seal(group, record, bytes, false, now_ms)
    }

    /// Seals again, under new keys, what the chain cannot accept any more after the group's
    /// advance: frames below the floor, and of epochs too far back. The log is ordered, so what it
    /// has not shown by now it never will: nothing is said twice.
    pub(crate) fn seal_stale_again(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        for (number, entry) in self.outbox_of(group)? {
            let OutgoingKind::Frame { epoch, .. } = entry.outgoing.kind else {
                continue;
            };
            if epoch < record.floor || epoch + PAST_EPOCHS < record.epoch {
                self.seal_again(group, record, number, entry, now_ms)?;
            }
        }
        self.sign_promptly(group, record, now_ms)
    }

    /// Seals everything again that waits: the device has come back into the group.
    pub(super) fn seal_all_again(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        for (number, entry) in self.outbox_of(group)? {
            let OutgoingKind::Frame { frame, .. } = &entry.outgoing.kind else {
                continue;
            };
            let body = entry.body.as_ref().map(|body| Body::from_bytes(body));
            let body = body.transpose().map_err(E2eeError::Stored)?;
            if body.is_some_and(|body| matches!(body.content, Content::SignedBatch(_))) {
                // It is over frames that nobody ever sees.
                self.unsend_frame(number, frame);
            } else {
                self.seal_again(group, record, number, entry, now_ms)?;
            }
        }
        Ok(())
    }

    fn seal_again(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        number: u64,
        entry: OutboxRecord,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        let OutgoingKind::Frame { frame, .. } = &entry.outgoing.kind else {
            return Ok(());
        };
        self.unsend_frame(number, frame);
        let hash = frame_hash(frame);
        record.unsigned.retain(|unsigned| unsigned.hash != hash);
        let Some(body) = entry.body else {
            return Ok(());
        };
        let content = Body::from_bytes(&body).map_err(E2eeError::Stored)?.content;
        match content {
            // Shown for moments, and those are over.
            Content::Typing => Ok(()),
            Content::AdminWork(work) => match *work {
                // Its commit was for an epoch that is over.
                AdminWork::Countersign(_) => Ok(()),
                AdminWork::SetAdmins(_) | AdminWork::Signature(_) => {
                    self.seal(group, record, body, true, now_ms)
                }
            },
            Content::SignedBatch(_) => self.seal(group, record, body, false, now_ms),
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
            | Content::Leave { .. }
            | Content::ReservedKeyPackage(_)
            | Content::AdminKey(_)
            | Content::Unknown { .. } => self.seal(group, record, body, true, now_ms),
        }
    }

    pub(crate) fn unsend_frame(&mut self, number: u64, frame: &[u8]) {
        self.buffer()
            .delete_record::<FrameNumber>(&frame_hash(frame));
        self.unsend(number);
    }

    /// The name of a message in the outbox, if it is one that is kept.
    pub(crate) fn stored_name(&self, entry: &OutboxRecord) -> Option<MessageName> {
        let body = Body::from_bytes(entry.body.as_ref()?).ok()?;
        body.content.is_stored().then_some(MessageName {
            device: self.me.member.device,
            sequence: body.sequence,
        })
    }

    /// A frame has come back of which the log has only the hash: it may be one's own.
    pub(super) fn own_pruned(
        &mut self,
        group: GroupId,
        hash: Digest,
        place: crate::event::LogPlace,
    ) -> Result<(), E2eeError> {
        for (_, entry) in self.outbox_of(group)? {
            if let OutgoingKind::Frame { frame, .. } = &entry.outgoing.kind
                && Digest::from_bytes(sha256(frame)) == hash
            {
                self.own_frame(group, frame, place)?;
                return Ok(());
            }
        }
        Ok(())
    }

    /// One's own frame has come back in the log. Answers whether it was one.
    pub(crate) fn own_frame(
        &mut self,
        group: GroupId,
        frame: &[u8],
        place: crate::event::LogPlace,
    ) -> Result<bool, E2eeError> {
        let hash = frame_hash(frame);
        let Some(FrameNumber(number)) = self.buffer().load_record(&hash)? else {
            return Ok(false);
        };
        let entry: Option<OutboxRecord> = self.buffer().load_record(&number)?;
        let Some(entry) = entry.filter(|entry| entry.outgoing.group == group) else {
            return Ok(false);
        };
        self.unsend_frame(number, frame);
        if let Some(message) = self.stored_name(&entry) {
            self.tell(group, EventKind::Accepted { message, place });
        }
        Ok(true)
    }
}
