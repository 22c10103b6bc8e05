//! A group that follows another one: after a commit that nobody can follow, or to a new suite.
//!
//! ```text
//! secret of the link = MLS-Exporter of the old group's last common epoch ("lux successor", new id, 32)
//! ```
//!
//! It enters the new group as an external PSK, so only who was in that epoch can join, and the new
//! group's keys are not worse than the old one's. Everybody is brought in with the key package that
//! each device left in the old group.

use openmls::schedule::{ExternalPsk, Psk};
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::storage::StorageProvider as _;
use session_core::ids::GroupId;
use session_crypto::Secret;

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
use crate::verdict::Judge;

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
        let ((successor, left), output) =
            self.event(|event| event.supersede(group, directory, now_ms))?;
        Ok((successor, left, output))
    }
}

impl Transaction<'_> {
    fn supersede(
        &mut self,
        group: GroupId,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<(GroupId, Vec<MemberDevice>), E2eeError> {
        let record = self.group(group)?;
        match record.status {
            GroupStatus::Active | GroupStatus::Halted => {}
            GroupStatus::Removed | GroupStatus::Superseded => {
                return Err(E2eeError::NotActive(group));
            }
        }
        let roster = self.epoch(group, record.epoch)?.roster;
        let judge = Judge {
            crypto: self.provider.crypto,
            directory,
        };
        let mut invitees = Vec::new();
        let mut left = Vec::new();
        for (_, leaf) in roster.iter() {
            if leaf.member == self.me.member {
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
