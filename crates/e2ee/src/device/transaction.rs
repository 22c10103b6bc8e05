//! One event in the making.

use openmls::prelude::{
    Capabilities, CredentialWithKey, ExtensionType, GroupId as MlsGroupId, MlsGroup,
    MlsGroupCreateConfig, MlsGroupJoinConfig, PURE_CIPHERTEXT_WIRE_FORMAT_POLICY, ProtocolVersion,
};
use session_core::ids::GroupId;

use super::signature_key::OwnKey;
use super::{Me, Output};
use crate::chain_keys::Seeds;
use crate::credential::CREDENTIAL_TYPE;
use crate::error::E2eeError;
use crate::event::{Event, EventKind};
use crate::limits::OUTBOX_MAX;
use crate::outgoing::{Outgoing, OutgoingKind};
use crate::policy::POLICY_EXTENSION;
use crate::provider::Provider;
use crate::records::Buffer;
use crate::tables::{Counters, EpochRecord, GroupRecord, GroupStatus, OutboxRecord, named};
use crate::vault::Changes;
use crate::verdict::lifetime;
use zeroize::Zeroizing;

/// What an event has read, changed and brought about so far.
pub(crate) struct Transaction<'a> {
    pub(crate) provider: Provider<'a>,
    pub(crate) me: &'a Me,
    counters: Counters,
    output: Output,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(provider: Provider<'a>, me: &'a Me) -> Result<Self, E2eeError> {
        let counters = provider.buffer.load_record(&())?.unwrap_or_default();
        Ok(Self {
            provider,
            me,
            counters,
            output: Output::default(),
        })
    }

    /// The batch, and what leaves once it is durable.
    pub(super) fn finish(self) -> (Changes, Output) {
        let counted = !self.output.outgoing.is_empty() || !self.output.events.is_empty();
        if counted {
            self.provider.buffer.save_record(&(), &self.counters);
        }
        (self.provider.buffer.into_changes(), self.output)
    }

    pub(crate) const fn buffer(&self) -> &Buffer<'a> {
        &self.provider.buffer
    }

    /// The number of the account's next certificate, at least `least`. It is used up by it.
    pub(crate) fn next_serial(&mut self, least: u64) -> u64 {
        let serial = self.counters.serial.max(least);
        self.counters.serial = serial.saturating_add(1);
        self.provider.buffer.save_record(&(), &self.counters);
        serial
    }

    /// Tells of something.
    pub(crate) fn tell(&mut self, group: GroupId, kind: EventKind) {
        let mut event = Event {
            number: 0,
            group,
            kind,
        };
        if event.kind.is_stored() {
            self.counters.events = self.counters.events.saturating_add(1);
            event.number = self.counters.events;
            self.provider.buffer.save_record(&event.number, &event);
        }
        self.output.events.push(event);
    }

    /// Puts something into the outbox. Answers its number.
    pub(crate) fn send(
        &mut self,
        group: GroupId,
        kind: OutgoingKind,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<u64, E2eeError> {
        if self.buffer().names(&named(b'o', &[])).len() >= OUTBOX_MAX {
            return Err(E2eeError::OutboxFull);
        }
        self.counters.outgoing = self.counters.outgoing.saturating_add(1);
        let outgoing = Outgoing {
            number: self.counters.outgoing,
            group,
            kind,
        };
        let number = outgoing.number;
        let record = OutboxRecord { outgoing, body };
        self.provider.buffer.save_record(&number, &record);
        self.output.outgoing.push(record.outgoing);
        Ok(number)
    }

    /// Takes something out of the outbox, also if it was put there in this event.
    pub(crate) fn unsend(&mut self, number: u64) {
        self.provider.buffer.delete_record::<OutboxRecord>(&number);
        self.output
            .outgoing
            .retain(|outgoing| outgoing.number != number);
    }

    /// A point that a part of the event can be taken back to.
    pub(crate) fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            changes: self.provider.buffer.changes(),
            counters: self.counters,
            output: self.output.clone(),
        }
    }

    /// Forgets what was done since.
    pub(crate) fn back_to(&mut self, point: Checkpoint) {
        self.provider.buffer.set_changes(point.changes);
        (self.counters, self.output) = (point.counters, point.output);
    }

    /// The conversation's record.
    pub(crate) fn group(&self, group: GroupId) -> Result<GroupRecord, E2eeError> {
        let record = self.buffer().load_record(&group)?;
        record.ok_or(E2eeError::UnknownGroup(group))
    }

    /// The conversation's record, if it can be written.
    pub(crate) fn active(&self, group: GroupId) -> Result<GroupRecord, E2eeError> {
        let record = self.group(group)?;
        if record.status == GroupStatus::Active {
            Ok(record)
        } else {
            Err(E2eeError::NotActive(group))
        }
    }

    /// The library's group.
    pub(crate) fn load(&self, group: GroupId) -> Result<MlsGroup, E2eeError> {
        let loaded = MlsGroup::load(&self.provider.buffer, &mls_id(group))?;
        loaded.ok_or(E2eeError::UnknownGroup(group))
    }

    pub(crate) fn epoch(&self, group: GroupId, epoch: u64) -> Result<EpochRecord, E2eeError> {
        let record = self.buffer().load_record(&(group, epoch))?;
        record.ok_or(E2eeError::UnknownGroup(group))
    }

    /// Seeds of an epoch's keys towards the chain, if it is still kept.
    pub(crate) fn seeds(&self, group: GroupId, epoch: u64) -> Result<Seeds, E2eeError> {
        self.epoch(group, epoch).map(|record| record.seeds)
    }

    /// What a leaf with the present signature key shows.
    pub(crate) fn credential(&self) -> CredentialWithKey {
        OwnKey::Present(self.me).credential()
    }

    pub(crate) fn capabilities(&self) -> Capabilities {
        Capabilities::new(
            Some(&[ProtocolVersion::Mls10]),
            Some(&[self.me.suite.ciphersuite()]),
            Some(&[
                ExtensionType::Unknown(POLICY_EXTENSION),
                ExtensionType::LastResort,
            ]),
            None,
            Some(&[CREDENTIAL_TYPE]),
        )
    }

    pub(crate) fn create_config(&self) -> openmls::group::MlsGroupCreateConfigBuilder {
        MlsGroupCreateConfig::builder()
            .ciphersuite(self.me.suite.ciphersuite())
            .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
            .use_ratchet_tree_extension(false)
            // Frames have keys of their own; the library would keep whole rosters for past ones.
            .max_past_epochs(0)
            .lifetime(lifetime())
            .capabilities(self.capabilities())
    }
}

/// What has been done up to some point of an event.
pub(crate) struct Checkpoint {
    changes: Changes,
    counters: Counters,
    output: Output,
}

pub(crate) fn join_config() -> MlsGroupJoinConfig {
    MlsGroupJoinConfig::builder()
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .max_past_epochs(0)
        .build()
}

pub(crate) fn mls_id(group: GroupId) -> MlsGroupId {
    MlsGroupId::from_slice(group.as_bytes())
}
