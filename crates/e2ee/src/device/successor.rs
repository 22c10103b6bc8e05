//! A group that follows another one: after a commit that nobody can follow, or to a new suite.
//!
//! ```text
//! secret of the link = MLS-Exporter of the old group's last common epoch ("lux successor", new id, 32)
//! ```
//!
//! It enters the new group as an external PSK, so only who was in that epoch can join, and the new
//! group's keys are not worse than the old one's. Everybody is brought in with the key package that
//! each device left in the old group.
//!
//! The invitation travels sealed under a secret of that epoch as well:
//!
//! ```text
//! key of the invitation = MLS-Exporter of the old group's last common epoch ("lux invitation", new id, 32)
//! ```
//!
//! Whoever was in that epoch learns by it who goes on; who was left out cannot join.

use openmls::schedule::{ExternalPsk, Psk};
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::storage::StorageProvider as _;
use session_core::ids::{AccountId, GroupId};
use session_crypto::{Secret, aead};
use std::collections::BTreeSet;

use super::epoch::library;
use super::membership::{Invitee, Link, parse_key_package};
use super::transaction::Transaction;
use super::{Device, Output};
use crate::chain_keys::Exporter;
use crate::directory::Directory;
use crate::error::E2eeError;
use crate::event::MemberDevice;
use crate::limits::ADDS_MAX;
use crate::outgoing::Predecessor;
use crate::tables::{GroupRecord, GroupStatus, ReservedRecord, named};
use crate::verdict::{AsOf, Judge};

/// What a link's id begins with.
const LINK: &[u8] = b"lux successor";

impl Device {
    /// Makes the successor of a group, with everybody who left a key package in it, at most 50
    /// others at first. Answers the new group, and who is left to be invited some other way. The old
    /// group is closed on the chain by whoever administers it, and stays here until then.
    ///
    /// # Errors
    /// As [`Device::create_group`]; [`E2eeError::UnknownGroup`], [`E2eeError::NotActive`] for a
    /// group that this device was removed from.
    pub fn supersede(
        &mut self,
        group: GroupId,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<(GroupId, Vec<MemberDevice>, Output), E2eeError> {
        self.supersede_without(group, &BTreeSet::new(), directory, now_ms)
    }

    /// The same, and leaves accounts out: those who broke the group. They lose their roles, and are not
    /// among those who are left to be invited.
    ///
    /// # Errors
    /// As [`Device::supersede`].
    pub fn supersede_without(
        &mut self,
        group: GroupId,
        without: &BTreeSet<AccountId>,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<(GroupId, Vec<MemberDevice>, Output), E2eeError> {
        let ((successor, left), output) =
            self.event(|event| event.supersede(group, without, directory, now_ms))?;
        Ok((successor, left, output))
    }

    /// The successor of a group that this device is in, whoever made it.
    ///
    /// # Errors
    /// [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn successor_of(&self, group: GroupId) -> Result<Option<GroupId>, E2eeError> {
        for other in self.groups() {
            let before = self.look(|event| Ok(event.group(other)?.predecessor))?;
            if before.is_some_and(|before| before.group == group) {
                return Ok(Some(other));
            }
        }
        Ok(None)
    }

    /// Whether a superseded group's keys are still here, since its successor was not joined yet. They
    /// go when it is, or by [`Device::let_go`].
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn awaits_successor(&self, group: GroupId) -> Result<bool, E2eeError> {
        self.look(|event| {
            let superseded = event.group(group)?.status == GroupStatus::Superseded;
            Ok(superseded && event.load(group).is_ok())
        })
    }

    /// Lets go of the keys of a superseded group: this device was not brought along, or has made its
    /// successor itself.
    ///
    /// # Errors
    /// [`E2eeError::NotActive`] for a group that was not superseded; as [`Device::status`].
    pub fn let_go(&mut self, group: GroupId) -> Result<(), E2eeError> {
        let ((), _) = self.event(|event| {
            if event.group(group)?.status != GroupStatus::Superseded {
                return Err(E2eeError::NotActive(group));
            }
            event.let_go_of_keys(group)
        })?;
        Ok(())
    }

    /// Seals what members of a group are told of its successor: 40 bytes more than `told`.
    ///
    /// # Errors
    /// [`E2eeError::UnknownGroup`], [`E2eeError::Crypto`], [`E2eeError::Vault`].
    pub fn seal_for_successor(
        &self,
        group: GroupId,
        successor: GroupId,
        told: &[u8],
    ) -> Result<Vec<u8>, E2eeError> {
        let key = self.look(|event| event.invitation_key(group, successor))?;
        Ok(aead::seal(&key, successor.as_bytes(), told)?)
    }

    /// Opens what a member of the group's last common epoch has sealed of its successor.
    ///
    /// # Errors
    /// [`E2eeError::WrongInvitation`] where it was none, or of another epoch than this device has;
    /// as [`Device::seal_for_successor`].
    pub fn open_for_successor(
        &self,
        group: GroupId,
        successor: GroupId,
        sealed: &[u8],
    ) -> Result<Vec<u8>, E2eeError> {
        let key = self.look(|event| event.invitation_key(group, successor))?;
        aead::open(&key, successor.as_bytes(), sealed).map_err(|_| E2eeError::WrongInvitation)
    }
}

impl Transaction<'_> {
    fn supersede(
        &mut self,
        group: GroupId,
        without: &BTreeSet<AccountId>,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<(GroupId, Vec<MemberDevice>), E2eeError> {
        let record = self.group(group)?;
        match record.status {
            GroupStatus::Active | GroupStatus::Halted => {}
            GroupStatus::Removed | GroupStatus::Superseded | GroupStatus::Lost => {
                return Err(E2eeError::NotActive(group));
            }
        }
        let roster = self.epoch(group, record.epoch)?.roster;
        let judge = Judge {
            crypto: self.provider.crypto,
            directory,
            as_of: AsOf::Now,
        };
        let mut invitees = Vec::new();
        let mut left = Vec::new();
        for (_, leaf) in roster.iter() {
            if leaf.member == self.me.member || without.contains(&leaf.member.account) {
                continue;
            }
            let name = (group, leaf.member.device);
            let reserved: Option<ReservedRecord> = self.buffer().load_record(&name)?;
            // What a member left is its own word: it may be garbage, or somebody else's.
            let good = reserved.filter(|reserved| {
                let package = parse_key_package(&reserved.key_package, self.provider.crypto);
                package.is_ok_and(|package| judge.key_package(&package) == Ok(leaf.member))
            });
            match good {
                Some(reserved) if invitees.len() < ADDS_MAX => invitees.push(Invitee {
                    key_package: reserved.key_package,
                    expires_ms: u64::MAX,
                }),
                Some(_) | None => left.push(leaf.member),
            }
        }
        let mut policy = record.policy.clone();
        policy.roles.retain(|account, _| !without.contains(account));
        policy
            .roles
            .insert(self.me.member.account, crate::policy::Role::Owner);
        let predecessor = Predecessor {
            group,
            epoch: record.epoch,
        };
        let link = (predecessor, LINK.to_vec());
        let successor = self.create(policy, &invitees, Some(link), directory, now_ms)?;
        // Used up: a key package opens one welcome.
        self.buffer().delete_all(&named(b's', &[group.as_bytes()]));
        Ok((successor, left))
    }

    /// What the invitation to `successor` is sealed under.
    fn invitation_key(&self, group: GroupId, successor: GroupId) -> Result<Secret<32>, E2eeError> {
        Exporter::Group(&self.load(group)?)
            .export(
                self.provider.crypto(),
                "lux invitation",
                successor.as_bytes(),
            )
            .map_err(library("exporting the key of an invitation"))
    }

    /// The secret that links `successor` to the group before it, ready for a commit.
    pub(crate) fn link_secret(
        &self,
        predecessor: Predecessor,
        successor: GroupId,
        label: Vec<u8>,
    ) -> Result<Link, E2eeError> {
        let record: Option<GroupRecord> = self.buffer().load_record(&predecessor.group)?;
        let known = record.is_some_and(|record| {
            record.epoch == predecessor.epoch && record.status != GroupStatus::Removed
        });
        if !known {
            return Err(E2eeError::NoPredecessor);
        }
        let loaded = self
            .load(predecessor.group)
            .map_err(|_| E2eeError::NoPredecessor)?;
        let secret: Secret<32> = Exporter::Group(&loaded)
            .export(
                self.provider.crypto(),
                "lux successor",
                successor.as_bytes(),
            )
            .map_err(library("exporting the link"))?;
        let mut id = label;
        id.extend_from_slice(predecessor.group.as_bytes());
        id.extend_from_slice(&predecessor.epoch.to_be_bytes());
        Ok(Link { id, secret })
    }

    /// Lays the link's secret where the library looks for it when a welcome asks.
    pub(crate) fn offer_link(
        &self,
        predecessor: Predecessor,
        successor: GroupId,
    ) -> Result<Link, E2eeError> {
        let link = self.link_secret(predecessor, successor, LINK.to_vec())?;
        openmls::schedule::PreSharedKeyId::external(link.id.clone(), Vec::new())
            .store(&self.provider, link.secret.expose())
            .map_err(library("storing a link"))?;
        Ok(link)
    }

    /// The secret has done its work.
    pub(crate) fn forget_link(&self, link: &Link) -> Result<(), E2eeError> {
        let psk = Psk::External(ExternalPsk::new(link.id.clone()));
        self.provider.storage().delete_psk(&psk)?;
        Ok(())
    }

    /// The group before is not needed any more: its keys go, its record says what it became.
    pub(crate) fn let_go_of(&mut self, group: GroupId) -> Result<(), E2eeError> {
        let mut record = self.group(group)?;
        self.let_go_of_keys(group)?;
        self.end_group(group, &mut record, GroupStatus::Superseded)?;
        self.buffer().save_record(&group, &record);
        Ok(())
    }
}
