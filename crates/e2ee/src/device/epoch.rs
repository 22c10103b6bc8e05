//! Entering an epoch, and letting go of old ones.

use openmls::prelude::MlsGroup;
use openmls_traits::OpenMlsProvider as _;
use session_core::ids::GroupId;
use session_crypto::Secret;
use std::collections::BTreeSet;
use zeroize::Zeroizing;

use super::reading::number_of;
use super::transaction::Transaction;
use crate::chain_keys::Exporter;
use crate::error::E2eeError;
use crate::event::EventKind;
use crate::frame::{EpochKeys, ROOT_BYTES};
use crate::limits::PAST_EPOCHS;
use crate::outgoing::OutgoingKind;
use crate::policy::{Policy, SignatureRule};
use crate::roster::Roster;
use crate::tables::{
    ChainRecord, EpochRecord, GroupRecord, GroupStatus, LeafKeyRecord, OutboxRecord, PendingRecord,
    UnsignedRecord, named,
};

/// The component that the chat root is exported for, from the range for private use.
const CHAT_COMPONENT: u16 = 0x8001;

/// What is demanded of senders in an epoch: between more than two accounts at least batches.
pub(crate) fn rule_of(policy: &Policy, roster: &Roster) -> SignatureRule {
    if policy.signatures == SignatureRule::Never && roster.accounts().len() > 2 {
        SignatureRule::Batched
    } else {
        policy.signatures
    }
}

impl Transaction<'_> {
    /// Takes the keys of the group's current epoch, and drops those of epochs that are too old, or
    /// at a removal of all earlier ones. `record` becomes the new epoch's; it is saved by the caller.
    pub(crate) fn enter_epoch(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        loaded: &mut MlsGroup,
        removal: bool,
    ) -> Result<(), E2eeError> {
        let number = loaded.epoch().as_u64();
        let members = Roster::of_members(loaded.members());
        let (roster, leaf_keys) = members.ok_or(E2eeError::Library {
            doing: "reading a roster that was judged",
        })?;
        let root = self.chat_root(loaded)?;
        let (keys, chains) = EpochKeys::derive(&root, number, group, roster.indexes())?;
        drop(root);
        let seeds = Exporter::Group(loaded)
            .seeds(self.provider.crypto(), group)
            .map_err(library("exporting the keys towards the chain"))?;
        for (leaf, chain) in chains {
            let key = (group, number, leaf);
            self.buffer().save_record(&key, &ChainRecord(chain));
        }
        for (hash, key) in leaf_keys {
            let name = (group, hash);
            if self.buffer().load_record::<LeafKeyRecord>(&name)?.is_none() {
                self.buffer().save_record(&name, &LeafKeyRecord(key));
            }
        }
        let rule = rule_of(&record.policy, &roster);
        record.own_leaf = loaded.own_leaf_index().u32();
        let own = roster.get(record.own_leaf).ok_or(E2eeError::Library {
            doing: "finding one's own leaf",
        })?;
        record.leaf_key = own.key;
        let epoch = EpochRecord {
            keys,
            roster,
            seeds,
            rule,
        };
        self.buffer().save_record(&(group, number), &epoch);
        record.epoch = number;
        record.signed_ms = 0;
        if removal {
            record.floor = number;
        }
        self.drop_epochs(group, record)
    }

    /// The exporter's secret for chat. It can be had once: the exporter is punctured by it.
    fn chat_root(&self, loaded: &mut MlsGroup) -> Result<Secret<ROOT_BYTES>, E2eeError> {
        let secret = loaded
            .safe_export_secret(
                self.provider.crypto(),
                self.provider.storage(),
                CHAT_COMPONENT,
            )
            .map_err(library("exporting the chat root"))?;
        let secret = Zeroizing::new(secret);
        let mut root = Zeroizing::new([0; ROOT_BYTES]);
        // 48 bytes with SHA-384; the suite for tests has 32, and zeros behind them.
        for (to, from) in root.iter_mut().zip(secret.iter()) {
            *to = *from;
        }
        Ok(Secret::new(*root))
    }

    /// What the group's tree is cut with from the current epoch on: the first one, and each that
    /// somebody was removed with. Every member derives the same; newcomers are told it.
    pub(crate) fn new_tree_secret(
        &self,
        group: GroupId,
        loaded: &MlsGroup,
    ) -> Result<Secret<32>, E2eeError> {
        Exporter::Group(loaded)
            .export(self.provider.crypto(), "lux tree", group.as_bytes())
            .map_err(library("exporting the tree secret"))
    }

    fn drop_epochs(&self, group: GroupId, record: &GroupRecord) -> Result<(), E2eeError> {
        let buffer = self.buffer();
        let mut kept = BTreeSet::new();
        for name in buffer.names(&named(b'h', &[group.as_bytes()])) {
            let epoch = number_of(&name);
            let parts: [&[u8]; 2] = [group.as_bytes(), &epoch.to_be_bytes()];
            if epoch + PAST_EPOCHS < record.epoch {
                for table in [b'h', b'f', b'u', b'r'] {
                    buffer.delete_all(&named(table, &parts));
                }
                continue;
            }
            if epoch < record.floor {
                // Nothing of it can be accepted any more. What was shown can still be verified.
                buffer.delete_all(&named(b'f', &parts));
                for name in buffer.names(&named(b'u', &parts)) {
                    strip_keys(buffer, &name)?;
                }
            }
            kept.extend(self.epoch(group, epoch)?.roster.keys());
        }
        let parts: [&[u8]; 1] = [group.as_bytes()];
        for name in buffer.names(&named(b'k', &parts)) {
            let hash = name.last_chunk::<32>();
            if !hash.is_some_and(|hash| kept.iter().any(|kept| kept.as_bytes() == hash)) {
                buffer.delete(name);
            }
        }
        Ok(())
    }

    /// Lets go of a group that this device is not in any more, or that stands still: no keys are
    /// kept. What waits to be sent is told to be lost.
    pub(crate) fn end_group(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        status: GroupStatus,
    ) -> Result<(), E2eeError> {
        record.status = status;
        self.unsend_all(group)?;
        if status == GroupStatus::Halted {
            // It may be read up to here, and a successor can be linked to it.
            return Ok(());
        }
        let parts: [&[u8]; 1] = [group.as_bytes()];
        for table in [
            b'h', b'f', b'u', b'r', b'k', b'a', b'w', b's', b'v', b'c', b'q', b'b', b'y', b'z',
            b'i', b'j',
        ] {
            self.buffer().delete_all(&named(table, &parts));
        }
        record.unsigned.clear();
        record.admin_seed = None;
        record.tree_secret = Secret::new([0; 32]);
        Ok(())
    }

    /// Takes messages out of the outbox, and tells that they are not sent.
    pub(super) fn unsend_frames(&mut self, group: GroupId) -> Result<(), E2eeError> {
        for (number, entry) in self.outbox_of(group)? {
            if let OutgoingKind::Frame { frame, .. } = &entry.outgoing.kind {
                self.unsend_frame(number, frame);
                if let Some(message) = self.stored_name(&entry) {
                    self.tell(group, EventKind::NotSent(message));
                }
            }
        }
        Ok(())
    }

    fn unsend_all(&mut self, group: GroupId) -> Result<(), E2eeError> {
        self.unsend_frames(group)?;
        for (number, entry) in self.outbox_of(group)? {
            if !matches!(entry.outgoing.kind, OutgoingKind::Frame { .. }) {
                self.unsend(number);
            }
        }
        self.buffer().delete_record::<PendingRecord>(&group);
        Ok(())
    }

    /// The outbox of one group, oldest first.
    pub(crate) fn outbox_of(&self, group: GroupId) -> Result<Vec<(u64, OutboxRecord)>, E2eeError> {
        let mut all = Vec::new();
        for name in self.buffer().names(&named(b'o', &[])) {
            let number = number_of(&name);
            let record: Option<OutboxRecord> = self.buffer().load_record(&number)?;
            let record = record.filter(|record| record.outgoing.group == group);
            all.extend(record.map(|record| (number, record)));
        }
        Ok(all)
    }
}

fn strip_keys(buffer: &crate::records::Buffer<'_>, name: &[u8]) -> Result<(), E2eeError> {
    use session_core::codec::{Decode, Encode};
    let Some(bytes) = buffer.get(name)? else {
        return Ok(());
    };
    let mut record = UnsignedRecord::from_bytes(&bytes).map_err(E2eeError::Stored)?;
    for entry in record.0.values_mut() {
        entry.key = None;
    }
    record.0.retain(|_, entry| entry.first.is_some());
    buffer.put(name.to_vec(), record.to_bytes());
    Ok(())
}

/// For `map_err` on calls of the library that fail only if something is broken.
pub(crate) fn library<E>(doing: &'static str) -> impl FnOnce(E) -> E2eeError {
    move |_| E2eeError::Library { doing }
}
