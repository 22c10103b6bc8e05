//! Admins towards the chain: whose key is whose, and what members' clients ask of them
//! ([`crate::admin_work`]).
//!
//! ```text
//! admin key said ─ signed? ─┬─ yes, or between two ─▶ known: whose it is
//!                           └─ not yet ─▶ claimed ─ the signature comes ─▶ known
//! ```
//!
//! A frame proves only that *a member* sealed it, and a wrong key among the admins' would be
//! somebody's for good: so a key counts once its sender's signature is there.

use session_core::codec::Decode;
use session_core::hash::Tag;
use session_core::ids::{Digest, GroupId};
use session_crypto::{SigningKey, SigningPublicKey};

use super::transaction::Transaction;
use super::{Device, Output};
use crate::admin_work::{AdminSignature, AdminWork, AdminsRequest, CountersignRequest};
use crate::content::{Content, MessageName};
use crate::credential::DeviceId;
use crate::error::E2eeError;
use crate::event::{Authenticity, MemberDevice, Message};
use crate::limits::{ADMIN_CLAIMS_MAX, COUNTERSIGN_REQUESTS_MAX};
use crate::policy::Role;
use crate::tables::{
    AdminKeyRecord, AdminsMark, AdminsRequestRecord, AskedAdminsRecord, ClaimedAdminKeyRecord,
    CountersignRecord, PendingRecord, named,
};

/// What a device has asked other admins for, and what it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AskedAdmins {
    /// What it asked for.
    pub request: AdminsRequest,
    /// What is to be signed.
    pub action: Digest,
    /// Signatures of others that are good, at most one of each key.
    pub signatures: Vec<AdminSignature>,
}

/// `H(public-key, key)`, as the chain's record of a group names admin keys.
pub fn admin_key_digest(key: &SigningPublicKey) -> Digest {
    Digest::from_bytes(Tag::PublicKey.hash(&[key.as_ref()]))
}

impl Device {
    /// Admin keys of the group that are known to be a device's: this one's, if it has one, and those
    /// that others have signed for, whether they are members still or not.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn admin_keys(
        &self,
        group: GroupId,
    ) -> Result<Vec<(DeviceId, SigningPublicKey)>, E2eeError> {
        self.look(|event| {
            let mut keys = Vec::new();
            if let Some(seed) = event.group(group)?.admin_seed {
                let key = SigningKey::from_seed(&seed)?.public_key().clone();
                keys.push((event.me.member.device, key));
            }
            for name in event.buffer().names(&named(b'v', &[group.as_bytes()])) {
                let Some(device) = name.last_chunk() else {
                    continue;
                };
                let device = DeviceId::from_bytes(*device);
                let known: Option<AdminKeyRecord> = event.buffer().load_record(&(group, device))?;
                keys.extend(known.map(|known| (device, known.key)));
            }
            Ok(keys)
        })
    }

    /// Tells the group this device's admin key, if its account is an admin or owner and has not done
    /// so. Answers nothing to send where there is nothing to tell.
    ///
    /// # Errors
    /// As [`Device::send`].
    pub fn tell_admin_key(&mut self, group: GroupId, now_ms: u64) -> Result<Output, E2eeError> {
        let due = self.look(|event| {
            let record = event.active(group)?;
            let is_admin = record.policy.role(event.me.member.account) >= Role::Admin;
            Ok(is_admin && !record.admin_key_told)
        })?;
        if !due {
            return Ok(Output::default());
        }
        let key = self.admin_key(group)?;
        let ((), output) = self.event(|event| {
            let mut record = event.active(group)?;
            record.admin_key_told = true;
            event.buffer().save_record(&group, &AdminsMark);
            event.say(group, &mut record, Content::AdminKey(Box::new(key)), now_ms)?;
            // At once: nothing can be done with the key before.
            event.sign_frames(group, &mut record, now_ms)?;
            event.buffer().save_record(&group, &record);
            Ok(())
        })?;
        Ok(output)
    }

    /// Whether roles, members or known admin keys have changed since [`Device::admins_settled`]: then
    /// the chain's set of admin keys may have to follow.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn admins_to_settle(&self, group: GroupId) -> Result<bool, E2eeError> {
        self.look(|event| {
            let mark: Option<AdminsMark> = event.buffer().load_record(&group)?;
            Ok(mark.is_some())
        })
    }

    /// The chain's set of admin keys is what it is to be, or another's to change. What this device
    /// asked others for is forgotten.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn admins_settled(&mut self, group: GroupId) -> Result<(), E2eeError> {
        self.write(|buffer| {
            buffer.delete_record::<AdminsMark>(&group);
            buffer.delete_record::<AskedAdminsRecord>(&group);
            Ok(())
        })
    }

    /// When an admin was asked to sign this device's commit that waits; none: nobody was, or there is
    /// no such commit.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn countersign_asked_ms(&self, group: GroupId) -> Result<Option<u64>, E2eeError> {
        self.look(|event| {
            let pending: Option<PendingRecord> = event.buffer().load_record(&group)?;
            Ok(pending.and_then(|pending| pending.asked_ms))
        })
    }

    /// Asks the group's admins to sign this device's commit that waits and to submit it. Its chunks
    /// are on the chain.
    ///
    /// # Errors
    /// [`E2eeError::NothingToDo`] where no commit waits; as [`Device::send`].
    pub fn ask_countersign(
        &mut self,
        group: GroupId,
        chunks: Vec<session_core::ids::ChunkId>,
        now_ms: u64,
    ) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| {
            let mut record = event.active(group)?;
            let pending: Option<PendingRecord> = event.buffer().load_record(&group)?;
            let mut pending = pending.ok_or(E2eeError::NothingToDo)?;
            pending.asked_ms = Some(now_ms);
            // Whoever is asked may send it at any time.
            pending.out_until_ms = Some(u64::MAX);
            event.buffer().save_record(&group, &pending);
            let request = CountersignRequest {
                epoch: record.epoch,
                chunks,
            };
            let content = Content::AdminWork(Box::new(AdminWork::Countersign(request)));
            event.say(group, &mut record, content, now_ms)?;
            event.buffer().save_record(&group, &record);
            Ok(())
        })?;
        Ok(output)
    }

    /// Commits of the current epoch that other members' devices want to have signed.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn countersign_requests(
        &self,
        group: GroupId,
    ) -> Result<Vec<CountersignRequest>, E2eeError> {
        self.look(|event| {
            let epoch = event.group(group)?.epoch;
            let names = event.buffer().names(&named(b'q', &[group.as_bytes()]));
            let mut all = Vec::new();
            for name in names {
                if let Some(bytes) = event.buffer().get(&name)? {
                    let record = CountersignRecord::from_bytes(&bytes);
                    let CountersignRecord(request) = record.map_err(E2eeError::Stored)?;
                    all.extend(Some(request).filter(|request| request.epoch == epoch));
                }
            }
            Ok(all)
        })
    }

    /// A commit that was asked to be signed is of no use.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn forget_countersign(
        &mut self,
        group: GroupId,
        request: &CountersignRequest,
    ) -> Result<(), E2eeError> {
        self.write(|buffer| {
            for name in buffer.names(&named(b'q', &[group.as_bytes()])) {
                let Some(bytes) = buffer.get(&name)? else {
                    continue;
                };
                let record = CountersignRecord::from_bytes(&bytes).map_err(E2eeError::Stored)?;
                if record.0 == *request {
                    buffer.delete(name);
                }
            }
            Ok(())
        })
    }

    /// Asks other admins to sign for another set of admin keys. What was asked before is forgotten.
    ///
    /// # Errors
    /// As [`Device::send`].
    pub fn ask_admins(
        &mut self,
        group: GroupId,
        request: AdminsRequest,
        action: Digest,
        now_ms: u64,
    ) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| {
            let mut record = event.active(group)?;
            let asked = AskedAdmins {
                request: request.clone(),
                action,
                signatures: Vec::new(),
            };
            event
                .buffer()
                .save_record(&group, &AskedAdminsRecord(asked));
            let content = Content::AdminWork(Box::new(AdminWork::SetAdmins(Box::new(request))));
            event.say(group, &mut record, content, now_ms)?;
            event.buffer().save_record(&group, &record);
            Ok(())
        })?;
        Ok(output)
    }

    /// What this device has asked other admins for.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn asked_admins(&self, group: GroupId) -> Result<Option<AskedAdmins>, E2eeError> {
        self.look(|event| {
            let asked: Option<AskedAdminsRecord> = event.buffer().load_record(&group)?;
            Ok(asked.map(|asked| asked.0))
        })
    }

    /// What other admins' devices have asked for, the last of each.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn admins_requests(
        &self,
        group: GroupId,
    ) -> Result<Vec<(DeviceId, AdminsRequest)>, E2eeError> {
        self.look(|event| {
            let mut all = Vec::new();
            for name in event.buffer().names(&named(b'b', &[group.as_bytes()])) {
                let Some(device) = name.last_chunk() else {
                    continue;
                };
                let device = DeviceId::from_bytes(*device);
                let record: Option<AdminsRequestRecord> =
                    event.buffer().load_record(&(group, device))?;
                all.extend(record.map(|record| (device, record.0)));
            }
            Ok(all)
        })
    }

    /// Answers what an admin's device has asked for, with a signature or, where it is to have none,
    /// without: it is asked no more.
    ///
    /// # Errors
    /// As [`Device::send`].
    pub fn answer_admins(
        &mut self,
        group: GroupId,
        device: DeviceId,
        signature: Option<AdminSignature>,
        now_ms: u64,
    ) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| {
            let name = (group, device);
            event.buffer().delete_record::<AdminsRequestRecord>(&name);
            let Some(signature) = signature else {
                return Ok(());
            };
            let mut record = event.active(group)?;
            let content = Content::AdminWork(Box::new(AdminWork::Signature(Box::new(signature))));
            event.say(group, &mut record, content, now_ms)?;
            event.buffer().save_record(&group, &record);
            Ok(())
        })?;
        Ok(output)
    }
}

impl Transaction<'_> {
    /// A device says its admin key.
    pub(super) fn hear_admin_key(
        &self,
        group: GroupId,
        message: &Message,
        key: &SigningPublicKey,
    ) -> Result<(), E2eeError> {
        let (device, sequence) = (message.from.device, message.body.sequence);
        match message.authenticity {
            Authenticity::Verified | Authenticity::Deniable => {
                self.know_admin_key(group, device, sequence, key.clone())
            }
            Authenticity::FromMember => {
                let parts: [&[u8]; 2] = [group.as_bytes(), device.as_bytes()];
                let claims = self.buffer().names(&named(b'c', &parts));
                // In the order of their numbers: the oldest go.
                for name in claims.iter().rev().skip(ADMIN_CLAIMS_MAX - 1) {
                    self.buffer().delete(name.clone());
                }
                let record = ClaimedAdminKeyRecord(key.clone());
                self.buffer().save_record(&(group, message.name()), &record);
                Ok(())
            }
        }
    }

    /// A message was its sender's: also if it said an admin key.
    pub(super) fn settle_claim(&self, group: GroupId, name: MessageName) -> Result<(), E2eeError> {
        let claim: Option<ClaimedAdminKeyRecord> = self.buffer().load_record(&(group, name))?;
        let Some(ClaimedAdminKeyRecord(key)) = claim else {
            return Ok(());
        };
        self.forget_claim(group, name);
        self.know_admin_key(group, name.device, name.sequence, key)
    }

    /// A message was not its sender's.
    pub(super) fn forget_claim(&self, group: GroupId, name: MessageName) {
        self.buffer()
            .delete_record::<ClaimedAdminKeyRecord>(&(group, name));
    }

    fn know_admin_key(
        &self,
        group: GroupId,
        device: DeviceId,
        sequence: u64,
        key: SigningPublicKey,
    ) -> Result<(), E2eeError> {
        let before: Option<AdminKeyRecord> = self.buffer().load_record(&(group, device))?;
        // What was said later counts, whatever comes first.
        if before.is_some_and(|before| before.sequence >= sequence) {
            return Ok(());
        }
        let known = AdminKeyRecord { sequence, key };
        self.buffer().save_record(&(group, device), &known);
        self.buffer().save_record(&group, &AdminsMark);
        Ok(())
    }

    /// Takes what a client asks of admins' clients, or answers.
    pub(super) fn hear_admin_work(
        &self,
        group: GroupId,
        from: MemberDevice,
        work: &AdminWork,
    ) -> Result<(), E2eeError> {
        match work {
            AdminWork::Countersign(request) => {
                let parts: [&[u8]; 2] = [group.as_bytes(), from.device.as_bytes()];
                let waiting = self.buffer().names(&named(b'q', &parts));
                let Some(first) = request.chunks.first() else {
                    return Ok(());
                };
                // Whoever is asked looks at them soon; what does not fit is asked for again.
                if waiting.len() < COUNTERSIGN_REQUESTS_MAX {
                    let name = (group, from.device, *first);
                    let record = CountersignRecord(request.clone());
                    self.buffer().save_record(&name, &record);
                }
            }
            AdminWork::SetAdmins(request) => {
                let record = AdminsRequestRecord((**request).clone());
                self.buffer().save_record(&(group, from.device), &record);
            }
            AdminWork::Signature(signature) => self.hear_admin_signature(group, signature)?,
        }
        Ok(())
    }

    /// A signature for what this device has asked for, if it is one by an admin that it named.
    fn hear_admin_signature(
        &self,
        group: GroupId,
        signature: &AdminSignature,
    ) -> Result<(), E2eeError> {
        let asked: Option<AskedAdminsRecord> = self.buffer().load_record(&group)?;
        let Some(AskedAdminsRecord(mut asked)) = asked else {
            return Ok(());
        };
        let admin = signature.admin;
        let is_new = !asked.signatures.iter().any(|known| known.admin == admin);
        if asked.action != signature.action || !asked.request.signers.contains(&admin) || !is_new {
            return Ok(());
        }
        for name in self.buffer().names(&named(b'v', &[group.as_bytes()])) {
            let Some(bytes) = self.buffer().get(&name)? else {
                continue;
            };
            let known = AdminKeyRecord::from_bytes(&bytes).map_err(E2eeError::Stored)?;
            let verifier = &self.provider.crypto.verifier;
            let action = asked.action;
            if admin_key_digest(&known.key) == admin
                && verifier
                    .verify(&known.key, action.as_bytes(), &signature.signature)
                    .is_ok()
            {
                asked.signatures.push(signature.clone());
                let record = AskedAdminsRecord(asked);
                self.buffer().save_record(&group, &record);
                return Ok(());
            }
        }
        Ok(())
    }

    /// The group is in another epoch: what was asked for the one before is over. `moved`: roles or
    /// members are other ones.
    pub(super) fn admins_advance(
        &self,
        group: GroupId,
        epoch: u64,
        moved: bool,
    ) -> Result<(), E2eeError> {
        if moved {
            self.buffer().save_record(&group, &AdminsMark);
        }
        for name in self.buffer().names(&named(b'q', &[group.as_bytes()])) {
            let Some(bytes) = self.buffer().get(&name)? else {
                continue;
            };
            let record = CountersignRecord::from_bytes(&bytes).map_err(E2eeError::Stored)?;
            if record.0.epoch < epoch {
                self.buffer().delete(name);
            }
        }
        Ok(())
    }
}
