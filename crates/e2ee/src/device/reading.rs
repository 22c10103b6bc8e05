//! What can be asked of a device.

use openmls_traits::OpenMlsProvider as _;
use session_core::codec::Decode as _;
use session_core::ids::GroupId;
use session_crypto::{Secret, Signature, SigningKey, SigningPublicKey};
use std::collections::BTreeSet;

use super::Device;
use crate::chain_keys::Seeds;
use crate::content::{Body, MessageName};
use crate::credential::{DeviceCertificate, DeviceId};
use crate::error::E2eeError;
use crate::event::{Event, MemberDevice};
use crate::outgoing::Outgoing;
use crate::policy::{Policy, Role};
use crate::records::Buffer;
use crate::safety_number::SafetyNumber;
use crate::tables::{ActivityRecord, GroupStatus, OutboxRecord, named};

/// A device of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Account and device.
    pub member: MemberDevice,
    /// Its leaf in the ratchet tree.
    pub leaf: u32,
    /// What its account is in the group.
    pub role: Role,
    /// Block time of the last thing heard of it, to the hour, in milliseconds; 0: nothing yet.
    pub heard_of_ms: u64,
}

impl Device {
    /// Conversations, in the order of their ids.
    pub fn groups(&self) -> Vec<GroupId> {
        let names = self.vault.names(b"g");
        names
            .filter_map(|name| GroupId::try_from(name.get(1..).unwrap_or_default()).ok())
            .collect()
    }

    /// How a conversation stands.
    ///
    /// # Errors
    /// [`E2eeError::UnknownGroup`], [`E2eeError::Vault`].
    pub fn status(&self, group: GroupId) -> Result<GroupStatus, E2eeError> {
        self.look(|event| Ok(event.group(group)?.status))
    }

    /// The epoch that it is at.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn epoch(&self, group: GroupId) -> Result<u64, E2eeError> {
        self.look(|event| Ok(event.group(group)?.epoch))
    }

    /// The entry of its log that is to be given next.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn next_position(&self, group: GroupId) -> Result<u64, E2eeError> {
        self.look(|event| Ok(event.group(group)?.next_position))
    }

    /// Its policy.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn policy(&self, group: GroupId) -> Result<Policy, E2eeError> {
        self.look(|event| Ok(event.group(group)?.policy))
    }

    /// Its members, by leaf.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn members(&self, group: GroupId) -> Result<Vec<Member>, E2eeError> {
        self.look(|event| {
            let record = event.group(group)?;
            let epoch = event.epoch(group, record.epoch)?;
            let members = epoch.roster.iter().map(|(leaf, found)| {
                let heard: Option<ActivityRecord> = event.buffer().load_record(&(group, leaf))?;
                Ok(Member {
                    member: found.member,
                    leaf,
                    role: record.policy.role(found.member.account),
                    heard_of_ms: heard.map_or(0, |heard| heard.0),
                })
            });
            members.collect()
        })
    }

    /// The certificates that its members' leaves have, by leaf.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn certificates(&self, group: GroupId) -> Result<Vec<DeviceCertificate>, E2eeError> {
        self.look(|event| {
            let loaded = event.load(group)?;
            let certificates = loaded
                .members()
                .map(|member| DeviceCertificate::of_credential(&member.credential))
                .collect();
            let certificates: Option<Vec<_>> = certificates;
            certificates.ok_or(E2eeError::Library {
                doing: "reading a roster that was judged",
            })
        })
    }

    /// Devices of this device's own account, in any of its conversations, this one among them.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn own_devices(&self) -> Result<BTreeSet<DeviceId>, E2eeError> {
        let me = self.member()?;
        let mut devices = BTreeSet::from([me.device]);
        for group in self.groups() {
            if self.status(group)? == GroupStatus::Active {
                let members = self.members(group)?.into_iter().map(|found| found.member);
                let own = members.filter(|found| found.account == me.account);
                devices.extend(own.map(|found| found.device));
            }
        }
        Ok(devices)
    }

    /// Members that may be removed for silence: not heard of for [`idle_ms`](crate::rotation::idle_ms).
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn idle_members(
        &self,
        group: GroupId,
        now_ms: u64,
        retention_days: u64,
    ) -> Result<Vec<MemberDevice>, E2eeError> {
        let me = self.member()?;
        let limit = crate::rotation::idle_ms(retention_days);
        let members = self.members(group)?.into_iter();
        Ok(members
            .filter(|member| member.member != me && member.heard_of_ms > 0)
            .filter(|member| now_ms.saturating_sub(member.heard_of_ms) >= limit)
            .map(|member| member.member)
            .collect())
    }

    /// Digits of the current epoch that members compare.
    ///
    /// # Errors
    /// [`E2eeError::NotActive`], [`E2eeError::UnknownGroup`], [`E2eeError::Vault`].
    pub fn safety_number(&self, group: GroupId) -> Result<SafetyNumber, E2eeError> {
        self.look(|event| {
            let record = event.active(group)?;
            let loaded = event.load(group)?;
            let authenticator = loaded.epoch_authenticator().as_slice();
            Ok(SafetyNumber::new(group, record.epoch, authenticator))
        })
    }

    /// What this device said in a conversation and its log has not shown yet, in the order in which
    /// it was said. What is shown for moments only is not among it.
    ///
    /// # Errors
    /// [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn unsent(&self, group: GroupId) -> Result<Vec<(MessageName, Body)>, E2eeError> {
        let device = self.member()?.device;
        let mut all = Vec::new();
        for record in self.waiting()? {
            let body = record.body.filter(|_| record.outgoing.group == group);
            let Some(body) = body else { continue };
            let body = Body::from_bytes(&body).map_err(E2eeError::Stored)?;
            if body.content.is_stored() {
                let sequence = body.sequence;
                all.push((MessageName { device, sequence }, body));
            }
        }
        all.sort_by_key(|(name, _)| name.sequence);
        Ok(all)
    }

    /// What waits to be sent, oldest first.
    ///
    /// # Errors
    /// [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn outbox(&self) -> Result<Vec<Outgoing>, E2eeError> {
        let waiting = self.waiting()?.into_iter();
        Ok(waiting.map(|record| record.outgoing).collect())
    }

    fn waiting(&self) -> Result<Vec<OutboxRecord>, E2eeError> {
        let buffer = Buffer::new(&self.vault);
        let mut all = Vec::new();
        for name in buffer.names(&named(b'o', &[])) {
            all.extend(buffer.load_record::<OutboxRecord>(&number_of(&name))?);
        }
        Ok(all)
    }

    /// Stored events after a number, oldest first, at most `limit`.
    ///
    /// # Errors
    /// [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn events(&self, after: u64, limit: usize) -> Result<Vec<Event>, E2eeError> {
        let buffer = Buffer::new(&self.vault);
        let names = buffer.names(&named(b'e', &[]));
        let numbers = names.iter().map(|name| number_of(name));
        let mut all = Vec::new();
        for number in numbers.filter(|number| *number > after).take(limit) {
            all.extend(buffer.load_record::<Event>(&number)?);
        }
        Ok(all)
    }

    /// Events up to this number were shown, or stored elsewhere: they go.
    ///
    /// # Errors
    /// [`E2eeError::Vault`].
    pub fn acknowledge(&mut self, up_to: u64) -> Result<(), E2eeError> {
        self.write(|buffer| {
            for name in buffer.names(&named(b'e', &[])) {
                if number_of(&name) <= up_to {
                    buffer.delete(name);
                }
            }
            Ok(())
        })
    }

    /// Signs a post of frames of an epoch, as "a member".
    ///
    /// # Errors
    /// [`E2eeError::UnknownGroup`] also for an epoch that is gone; [`E2eeError::Crypto`].
    pub fn sign_as_poster(
        &self,
        group: GroupId,
        epoch: u64,
        message: &[u8],
    ) -> Result<Signature, E2eeError> {
        sign(&self.seeds(group, epoch)?.posting, message)
    }

    /// Signs the advance out of an epoch, or the creation that begins with it.
    ///
    /// # Errors
    /// As [`Device::sign_as_poster`].
    pub fn sign_as_controller(
        &self,
        group: GroupId,
        epoch: u64,
        message: &[u8],
    ) -> Result<Signature, E2eeError> {
        sign(&self.seeds(group, epoch)?.control, message)
    }

    /// Signs as an administrator of the group towards the chain.
    ///
    /// # Errors
    /// [`E2eeError::NoSuchMember`] where this device has no admin key; as [`Device::status`].
    pub fn sign_as_admin(&self, group: GroupId, message: &[u8]) -> Result<Signature, E2eeError> {
        let seed = self.look(|event| Ok(event.group(group)?.admin_seed))?;
        sign(&seed.ok_or(E2eeError::NoSuchMember)?, message)
    }

    /// This device's admin key in a group; it is made when first asked for.
    ///
    /// # Errors
    /// As [`Device::status`], [`E2eeError::Crypto`].
    pub fn admin_key(&mut self, group: GroupId) -> Result<SigningPublicKey, E2eeError> {
        let (seed, _) = self.event(|event| {
            let mut record = event.group(group)?;
            let seed = match &record.admin_seed {
                Some(seed) => seed.clone(),
                None => event.provider.rand().0.borrow_mut().secret()?,
            };
            record.admin_seed = Some(seed.clone());
            event.buffer().save_record(&group, &record);
            Ok(seed)
        })?;
        Ok(SigningKey::from_seed(&seed)?.public_key().clone())
    }

    fn seeds(&self, group: GroupId, epoch: u64) -> Result<Seeds, E2eeError> {
        self.look(|event| event.seeds(group, epoch))
    }
}

fn sign(seed: &Secret<32>, message: &[u8]) -> Result<Signature, E2eeError> {
    Ok(SigningKey::from_seed(seed)?.sign(message)?)
}

/// The number at the end of a record's name.
pub(super) fn number_of(name: &[u8]) -> u64 {
    name.last_chunk()
        .map_or(0, |bytes| u64::from_be_bytes(*bytes))
}
