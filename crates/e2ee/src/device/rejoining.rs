//! A device that cannot follow its group any more comes back: it asks, a member lets it in again.
//!
//! ```text
//! device: a commit's body is gone ─▶ lost ─▶ fresh key package, request: durable ─▶ sent, once a day
//! member: request ─ its leaf, its leaf's key, signed, fresh? ─▶ one commit: old leaf out, new one in
//! device: log read to that commit ─▶ joins over its old state; what waits is sealed again
//! ```
//!
//! Several members may answer: their commits are for one epoch, so one of them counts, and the others
//! find that it is done.

use session_core::ids::GroupId;
use session_core::time::{DAY_MS, HOUR_MS};

use super::membership::parse_key_package;
use super::transaction::Transaction;
use super::{Device, Output};
use crate::directory::Directory;
use crate::error::E2eeError;
use crate::event::{EventKind, MemberDevice};
use crate::limits::REJOIN_EVERY_MS;
use crate::rejoin::{RejoinRefusal, RejoinRequest};
use crate::roster::key_hash;
use crate::tables::{
    GroupRecord, GroupStatus, Intent, KeyPackageUse, LeafKeyRecord, PendingRecord, RejoinRecord,
    ReturnRecord,
};
use crate::verdict::{AsOf, Judge};

/// How long the key package of a request is good.
const REQUEST_LIFE_MS: u64 = 30 * DAY_MS;

/// How old a request may be when it is answered: whoever asks asks again every day.
const REQUEST_AGE_MAX_MS: u64 = 2 * DAY_MS;

impl Device {
    /// Goes on at a later position of a log whose entries before it are gone, with all that could be known
    /// of them. `epoch` is the group's now: where it is another than this device's, the group is lost.
    /// Whether what waited was taken nobody can tell any more, so it is not said again:
    /// [`EventKind::NotSent`]. A position that is not later changes nothing.
    ///
    /// # Errors
    /// [`E2eeError::UnknownGroup`], [`E2eeError::Vault`].
    pub fn skip(&mut self, group: GroupId, position: u64, epoch: u64) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| {
            let mut record = event.group(group)?;
            if position <= record.next_position {
                return Ok(());
            }
            record.next_position = position;
            event.unsend_frames(group)?;
            record.unsigned.clear();
            if record.status == GroupStatus::Active && epoch != record.epoch {
                event.lose(group, &mut record, epoch)?;
            }
            event.buffer().save_record(&group, &record);
            Ok(())
        })?;
        Ok(output)
    }

    /// What to ask by to be let back into a group that this device has lost, where it is time to ask:
    /// not within a day after [`Device::rejoin_asked`]. It is durable, with its key package, once this
    /// returns; asked again before it was sent, it is the same one.
    ///
    /// # Errors
    /// [`E2eeError::UnknownGroup`], [`E2eeError::Vault`]; as [`Device::key_packages`].
    pub fn rejoin_request(
        &mut self,
        group: GroupId,
        now_ms: u64,
    ) -> Result<Option<RejoinRequest>, E2eeError> {
        let (request, _) = self.event(|event| event.rejoin_request(group, now_ms))?;
        Ok(request)
    }

    /// The request was sent: the next one is made a day later.
    ///
    /// # Errors
    /// [`E2eeError::Vault`].
    pub fn rejoin_asked(&mut self, group: GroupId) -> Result<(), E2eeError> {
        self.write(|buffer| {
            let record: Option<RejoinRecord> = buffer.load_record(&group)?;
            if let Some(mut record) = record {
                record.sent = true;
                buffer.save_record(&group, &record);
            }
            Ok(())
        })
    }

    /// Judges a request, and answers whose it is: nothing is done.
    ///
    /// # Errors
    /// [`E2eeError::Rejoin`], [`E2eeError::Refused`], [`E2eeError::KeyPackageExpired`],
    /// [`E2eeError::Malformed`], [`E2eeError::NotActive`].
    pub fn examine_rejoin(
        &self,
        request: &RejoinRequest,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<MemberDevice, E2eeError> {
        self.look(|event| event.judge_rejoin(request, directory, now_ms))
    }

    /// Lets a device back in that asks for it: one commit takes out the leaf that cannot follow and
    /// brings in the new one. An invitation follows as with [`Device::add`].
    ///
    /// # Errors
    /// As [`Device::examine_rejoin`]; [`E2eeError::CommitPending`].
    pub fn readmit(
        &mut self,
        request: &RejoinRequest,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| {
            event.judge_rejoin(request, directory, now_ms)?;
            let record = event.active(request.group)?;
            let intent = Intent::Readmit(Box::new(request.clone()));
            event.propose(request.group, &record, intent, directory)
        })?;
        Ok(output)
    }
}

impl Transaction<'_> {
    /// The log has a commit that nobody keeps any more. What waits to be said waits on; it is sealed
    /// again once the device is back.
    pub(super) fn lose(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        epoch: u64,
    ) -> Result<(), E2eeError> {
        record.status = GroupStatus::Lost;
        let pending: Option<PendingRecord> = self.buffer().load_record(&group)?;
        if let Some(pending) = pending {
            self.unsend(pending.number);
            self.buffer().delete_record::<PendingRecord>(&group);
            // If that was the commit, the others know the leaf by the key that it gave.
            record.perhaps_key = Some(pending.leaf_key).filter(|key| *key != record.leaf_key);
        }
        // Their signatures were for those who could follow; sealed again they are signed anew.
        record.unsigned.clear();
        self.tell(group, EventKind::Lost { epoch });
        Ok(())
    }

    fn rejoin_request(
        &mut self,
        group: GroupId,
        now_ms: u64,
    ) -> Result<Option<RejoinRequest>, E2eeError> {
        let known = self.group(group)?;
        if known.status != GroupStatus::Lost {
            return Ok(None);
        }
        let before: Option<RejoinRecord> = self.buffer().load_record(&group)?;
        let mut leaf_key = known.leaf_key;
        if let Some(before) = before {
            let young = now_ms.saturating_sub(before.request.asked_ms) < REJOIN_EVERY_MS;
            if young {
                return Ok((!before.sent).then_some(before.request));
            }
            // By which of the two the group knows it nobody says: it asks by one after the other.
            if let Some(perhaps) = known.perhaps_key
                && before.leaf_key == leaf_key
            {
                leaf_key = perhaps;
            }
        }
        let own = self.own_key(leaf_key)?.ok_or(E2eeError::Library {
            doing: "finding the key of one's own leaf",
        })?;
        let expires_ms = now_ms.saturating_add(REQUEST_LIFE_MS);
        let package = self.make_key_package_with(&own, KeyPackageUse::Once, expires_ms)?;
        let mut request = RejoinRequest {
            group,
            key_package: package.bytes,
            expires_ms,
            asked_ms: now_ms,
            signature: Vec::new(),
        };
        request.signature = own.key().sign_bytes(&request.signed())?;
        let record = RejoinRecord {
            request: request.clone(),
            sent: false,
            leaf_key,
        };
        self.buffer().save_record(&group, &record);
        Ok(Some(request))
    }

    fn judge_rejoin(
        &self,
        request: &RejoinRequest,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<MemberDevice, E2eeError> {
        let group = request.group;
        let record = self.active(group)?;
        let package = parse_key_package(&request.key_package, self.provider.crypto)?;
        let judge = Judge {
            crypto: self.provider.crypto,
            directory,
            as_of: AsOf::Now,
        };
        let member = judge.key_package(&package)?;
        if member == self.me.member {
            return Err(RejoinRefusal::Oneself.into());
        }
        let roster = self.epoch(group, record.epoch)?.roster;
        let leaf = roster.leaf_of(member).and_then(|leaf| roster.get(leaf));
        let leaf = leaf.ok_or(RejoinRefusal::NotAMember)?;
        if key_hash(package.leaf_node().signature_key().as_slice()) != leaf.key {
            return Err(RejoinRefusal::OtherKey.into());
        }
        let key: Option<LeafKeyRecord> = self.buffer().load_record(&(group, leaf.key))?;
        let signed = key.is_some_and(|key| {
            let crypto = self.provider.crypto;
            crypto.verify_leaf(record.suite, &request.signed(), &key.0, &request.signature)
        });
        if !signed {
            return Err(RejoinRefusal::Forged.into());
        }
        if request.expires_ms <= now_ms {
            return Err(E2eeError::KeyPackageExpired(member.device));
        }
        let old = now_ms.saturating_sub(request.asked_ms) > REQUEST_AGE_MAX_MS;
        if old || request.asked_ms > now_ms.saturating_add(HOUR_MS) {
            return Err(RejoinRefusal::NotOfToday.into());
        }
        if self.is_back(request, member)? {
            return Err(RejoinRefusal::Done.into());
        }
        let returned: Option<ReturnRecord> = self.buffer().load_record(&(group, member.device))?;
        let recent = |back: ReturnRecord| now_ms.saturating_sub(back.at_ms) < REJOIN_EVERY_MS;
        if returned.is_some_and(recent) {
            return Err(RejoinRefusal::TooSoon.into());
        }
        Ok(member)
    }

    /// Whether a device has come back by this request, or a later one.
    pub(super) fn is_back(
        &self,
        request: &RejoinRequest,
        member: MemberDevice,
    ) -> Result<bool, E2eeError> {
        let name = (request.group, member.device);
        let returned: Option<ReturnRecord> = self.buffer().load_record(&name)?;
        Ok(returned.is_some_and(|back| back.at_ms.saturating_add(HOUR_MS) >= request.asked_ms))
    }
}
