//! How often this device rotates, and when it will.

use session_core::ids::GroupId;

use super::Device;
use super::transaction::Transaction;
use crate::error::E2eeError;
use crate::rotation::RotationPolicy;
use crate::tables::{DeviceRecord, GroupRecord, GroupStatus};

/// How far a device is from its next rotation in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// Messages that it has said since the last one.
    pub said: u32,
    /// After so many it rotates.
    pub messages_max: u32,
    /// And at this block time, in milliseconds, whatever it has said.
    pub due_ms: u64,
}

impl Device {
    /// How often this device rotates.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`].
    pub fn rotation_policy(&self) -> Result<RotationPolicy, E2eeError> {
        let me = self.me.as_ref().ok_or(E2eeError::NotLinked)?;
        Ok(me.rotation)
    }

    /// Sets how often this device rotates, in every group: durable once this returns. What makes
    /// the time until the next rotation shorter counts from `now_ms`; what makes it longer, from the next
    /// rotation on.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Vault`], [`E2eeError::Stored`].
    pub fn set_rotation_policy(
        &mut self,
        policy: RotationPolicy,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        let groups = self.groups();
        let ((), _) = self.event(|event| {
            let record: Option<DeviceRecord> = event.buffer().load_record(&())?;
            let mut record = record.ok_or(E2eeError::NotLinked)?;
            record.rotation = policy;
            event.buffer().save_record(&(), &record);
            for group in groups {
                let mut record = event.group(group)?;
                if record.status != GroupStatus::Active {
                    continue;
                }
                let interval_ms = policy.interval_ms(event.leaves(group, &record)?);
                let latest = now_ms.saturating_add(interval_ms);
                record.rotate_at_ms = record.rotate_at_ms.min(latest);
                event.buffer().save_record(&group, &record);
            }
            Ok(())
        })?;
        self.load_me()
    }

    /// How far this device is from its next rotation in a group.
    ///
    /// # Errors
    /// As [`Device::status`]; [`E2eeError::NotActive`] where it rotates no more.
    pub fn rotation(&self, group: GroupId) -> Result<Rotation, E2eeError> {
        self.look(|event| {
            let record = event.active(group)?;
            let leaves = event.leaves(group, &record)?;
            Ok(Rotation {
                said: record.sent_since_rotation,
                messages_max: event.me.rotation.messages_max(leaves),
                due_ms: record.rotate_at_ms,
            })
        })
    }
}

impl Transaction<'_> {
    fn leaves(&self, group: GroupId, record: &GroupRecord) -> Result<usize, E2eeError> {
        Ok(self.epoch(group, record.epoch)?.roster.iter().count())
    }

    /// Whether this device has said so much in a group that it rotates.
    pub(crate) fn has_said_enough(
        &self,
        group: GroupId,
        record: &GroupRecord,
    ) -> Result<bool, E2eeError> {
        let said = record.sent_since_rotation;
        let policy = self.me.rotation;
        // In no group it is less: mostly there is no need to count its leaves.
        Ok(said >= policy.messages_max(1)
            && record.status == GroupStatus::Active
            && said >= policy.messages_max(self.leaves(group, record)?))
    }
}
