//! The log, entry by entry: frames, and commits that lead from one epoch to the next.
//!
//! ```text
//! commit ─┬─ hash of one's own ──▶ merge what is pending
//!         └─ process ─ member? ─ context? ─ verdict ─ keys as the chain has them? ─▶ merge
//!                 └──────┴─────────┴──────────┴── no ──▶ halted: told, and nothing else changes
//! merged ─▶ epoch keys, events, one's own lost commit anew, stale frames sealed again
//! ```

use openmls::group::{MlsGroup, ProcessMessageError};
use openmls::prelude::{
    MlsMessageBodyIn, MlsMessageIn, ProcessedMessageContent, ProtocolMessage, Sender, StagedCommit,
};
use openmls_traits::OpenMlsProvider as _;
use session_core::ids::{Digest, GroupId};
use std::collections::BTreeSet;
use tls_codec::DeserializeBytes as _;

use super::epoch::library;
use super::membership::commit_aad;
use super::transaction::Transaction;
use super::{Device, Output};
use crate::chain_keys::Exporter;
use crate::directory::Directory;
use crate::error::{E2eeError, bounded};
use crate::event::{EventKind, LogPlace, MemberDevice, Unusable};
use crate::limits::COMMIT_MAX;
use crate::outgoing::{Advance, ChainKeys, OutgoingKind, commit_hash};
use crate::policy::{Policy, SignatureRule};
use crate::roster::Roster;
use crate::tables::{GroupRecord, GroupStatus, Intent, PendingRecord, ReturnRecord};
use crate::verdict::{AsOf, Judge, Verdict};

/// An entry of a group's log.
#[derive(Debug, Clone, Copy)]
pub enum LogEntry<'a> {
    /// A message.
    Frame {
        /// The epoch that it was posted for.
        epoch: u64,
        /// The frame.
        frame: &'a [u8],
    },
    /// An accepted commit.
    Commit(AcceptedCommit<'a>),
    /// The group is closed, and another follows it.
    Superseded {
        /// The other one.
        successor: GroupId,
    },
    /// A frame that is not kept any more: nothing is left of it but the SHA-256 of its bytes.
    PrunedFrame {
        /// The hash.
        hash: Digest,
    },
    /// A commit that is not kept any more. It cannot be skipped: who missed it is let back in
    /// ([`Device::rejoin_request`]).
    PrunedCommit {
        /// The epoch that it led to.
        epoch: u64,
    },
    /// An entry of no kind known here.
    Pruned,
}

/// A commit that the chain has accepted.
#[derive(Debug, Clone, Copy)]
pub struct AcceptedCommit<'a> {
    /// The epoch that it leads to.
    pub epoch: u64,
    /// The commit.
    pub commit: &'a [u8],
    /// The keys that came with it.
    pub keys: &'a ChainKeys,
    /// It raised the floor: posts of earlier epochs are refused since.
    pub removes: bool,
}

impl Device {
    /// Takes the next entry of a group's log. Entries before it are known and change nothing.
    /// `directory` answers for this entry's position.
    ///
    /// # Errors
    /// [`E2eeError::OutOfOrder`] for an entry that is not the next; [`E2eeError::WrongEpoch`] for a
    /// commit that is not; [`E2eeError::UnknownGroup`], [`E2eeError::Vault`],
    /// [`E2eeError::Record`]. What is wrong with the entry itself is told in an event.
    pub fn receive(
        &mut self,
        group: GroupId,
        place: LogPlace,
        entry: LogEntry<'_>,
        directory: &dyn Directory,
    ) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| event.receive(group, place, entry, directory))?;
        Ok(output)
    }

    /// Does what [`Device::receive`] would do, and drops it: for a caller who has to find out about
    /// which accounts `directory` is asked before its answers count.
    ///
    /// # Errors
    /// As [`Device::receive`].
    pub fn rehearse(
        &self,
        group: GroupId,
        place: LogPlace,
        entry: LogEntry<'_>,
        directory: &dyn Directory,
    ) -> Result<(), E2eeError> {
        self.look(|event| event.receive(group, place, entry, directory))
    }

    /// What a commit of the current epoch would do, without following it: for an administrator who
    /// countersigns, and signs `Advance::keys` with it. This device goes on as if it had not looked.
    ///
    /// # Errors
    /// [`E2eeError::Refused`], [`E2eeError::Malformed`], [`E2eeError::TooLarge`],
    /// [`E2eeError::NotActive`].
    pub fn examine(
        &self,
        group: GroupId,
        commit: &[u8],
        directory: &dyn Directory,
    ) -> Result<Advance, E2eeError> {
        bounded("commit", commit, COMMIT_MAX)?;
        self.look(|event| {
            let record = event.active(group)?;
            let mut loaded = event.load(group)?;
            let epoch = event.epoch(group, record.epoch)?;
            let staged = event.process(group, &record, &mut loaded, commit)?;
            let (sender, staged) = staged.map_err(|_| E2eeError::Malformed { what: "commit" })?;
            let judge = Judge {
                crypto: event.provider.crypto,
                directory,
                as_of: AsOf::Now,
            };
            let verdict = judge.commit(&loaded, &epoch.roster, &sender, &staged)?;
            let seeds = Exporter::Staged(&staged)
                .seeds(event.provider.crypto(), group)
                .map_err(library("exporting the keys towards the chain"))?;
            Ok(Advance {
                from_epoch: record.epoch,
                commit: commit.to_vec(),
                keys: seeds.public()?,
                removes: !verdict.removed.is_empty(),
            })
        })
    }
}

/// What a commit did to this device.
enum Followed {
    Merged(Box<Verdict>),
    RemovedHere(Box<Verdict>),
    Unusable(Unusable),
}

impl Transaction<'_> {
    fn receive(
        &mut self,
        group: GroupId,
        place: LogPlace,
        entry: LogEntry<'_>,
        directory: &dyn Directory,
    ) -> Result<(), E2eeError> {
        let mut record = self.group(group)?;
        if place.position < record.next_position {
            return Ok(());
        }
        if place.position > record.next_position {
            return Err(E2eeError::OutOfOrder {
                expected: record.next_position,
                got: place.position,
            });
        }
        record.next_position = record.next_position.saturating_add(1);
        match (entry, record.status) {
            (LogEntry::Frame { epoch, frame }, GroupStatus::Active | GroupStatus::Halted) => {
                if !self.own_frame(group, frame, place)? {
                    self.hear(group, &mut record, epoch, frame, place)?;
                }
            }
            // Whether what waits was taken is to be known before it is sealed again.
            (LogEntry::Frame { frame, .. }, GroupStatus::Lost) => {
                self.own_frame(group, frame, place)?;
            }
            (LogEntry::PrunedFrame { hash }, _) => self.own_pruned(group, hash, place)?,
            (LogEntry::PrunedCommit { epoch }, GroupStatus::Active) => {
                // One's own is as good as any other: it was not merged.
                self.lose(group, &mut record, epoch)?;
            }
            (LogEntry::Commit(commit), GroupStatus::Active) => {
                self.advance(group, &mut record, place, &commit, directory)?;
            }
            (
                LogEntry::Superseded { successor },
                GroupStatus::Active | GroupStatus::Halted | GroupStatus::Lost,
            ) => {
                self.end_group(group, &mut record, GroupStatus::Superseded)?;
                self.tell(group, EventKind::Superseded { successor });
            }
            (LogEntry::Pruned, _)
            | (_, GroupStatus::Removed | GroupStatus::Superseded)
            | (
                LogEntry::Commit(_) | LogEntry::PrunedCommit { .. },
                GroupStatus::Halted | GroupStatus::Lost,
            ) => {}
        }
        self.buffer().save_record(&group, &record);
        Ok(())
    }

    fn advance(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        place: LogPlace,
        accepted: &AcceptedCommit<'_>,
        directory: &dyn Directory,
    ) -> Result<(), E2eeError> {
        if accepted.epoch != record.epoch.saturating_add(1) {
            return Err(E2eeError::WrongEpoch {
                log: accepted.epoch,
                here: record.epoch,
            });
        }
        let hash = commit_hash(accepted.commit);
        let pending: Option<PendingRecord> = self.buffer().load_record(&group)?;
        let own = pending
            .as_ref()
            .is_some_and(|pending| pending.commit_hash == hash);
        let point = self.checkpoint();
        let mut loaded = self.load(group)?;
        let roster = self.epoch(group, record.epoch)?.roster;
        let judge = Judge {
            crypto: self.provider.crypto,
            directory,
            as_of: AsOf::Entry {
                time_ms: place.time_ms,
            },
        };
        let followed = if own {
            self.follow_own(group, &mut loaded, &roster, accepted, &judge)?
        } else {
            self.follow(group, record, &mut loaded, &roster, accepted, &judge)?
        };
        let verdict = match followed {
            Followed::Unusable(reason) => {
                self.back_to(point);
                self.end_group(group, record, GroupStatus::Halted)?;
                let epoch = accepted.epoch;
                self.tell(group, EventKind::Halted { epoch, reason });
                return Ok(());
            }
            Followed::RemovedHere(verdict) => {
                loaded
                    .delete(self.provider.storage())
                    .map_err(library("deleting a group"))?;
                self.end_group(group, record, GroupStatus::Removed)?;
                self.tell(group, EventKind::RemovedHere { by: verdict.by });
                return Ok(());
            }
            Followed::Merged(verdict) => verdict,
        };
        let removal = accepted.removes || !verdict.removed.is_empty();
        let policy = record.policy.clone();
        let changed = policy != verdict.policy;
        record.policy = verdict.policy.clone();
        record.last_commit = hash;
        self.enter_epoch(group, record, &mut loaded, removal)?;
        if removal {
            record.tree_secret = self.new_tree_secret(group, &loaded)?;
        }
        self.heard_of(group, verdict.sender, place.time_ms)?;
        let moved = changed || !verdict.removed.is_empty();
        self.admins_advance(group, record.epoch, moved)?;
        let roster_now = self.epoch(group, record.epoch)?.roster;
        for member in &verdict.added {
            if let Some(leaf) = roster_now.leaf_of(*member) {
                self.heard_of(group, leaf, place.time_ms)?;
            }
        }
        for device in &verdict.returned {
            let at_ms = place.time_ms;
            let name = (group, device.device);
            self.buffer().save_record(&name, &ReturnRecord { at_ms });
        }
        self.tell_changes(group, (&roster, &roster_now), &verdict, &policy);
        self.buffer().delete_record::<PendingRecord>(&group);
        if let Some(pending) = pending {
            self.unsend(pending.number);
            if own {
                self.own_accepted(group, record, pending, loaded.members().count(), place)?;
            } else {
                self.propose_again(group, record, pending.intent, directory)?;
            }
        }
        let rule = self.epoch(group, record.epoch)?.rule;
        if rule == SignatureRule::Never {
            record.unsigned.clear();
        }
        // What was said in earlier epochs is signed now: later nobody could check it. A signature
        // is over frames of one epoch, so this comes before anything is sealed in the new one.
        self.sign_frames(group, record, place.time_ms)?;
        self.seal_stale_again(group, record, place.time_ms)
    }

    /// One's own commit: it is recognised by its bytes, since nobody can open their own.
    fn follow_own(
        &mut self,
        group: GroupId,
        loaded: &mut MlsGroup,
        roster: &Roster,
        accepted: &AcceptedCommit<'_>,
        judge: &Judge<'_>,
    ) -> Result<Followed, E2eeError> {
        let staged = loaded.pending_commit().ok_or(E2eeError::Library {
            doing: "keeping a commit",
        })?;
        let sender = Sender::Member(loaded.own_leaf_index());
        // The chain's word may have changed since it was made: the others judge it as it is now.
        let verdict = match judge.commit(loaded, roster, &sender, staged) {
            Ok(verdict) => verdict,
            Err(refusal) => return Ok(Followed::Unusable(refusal.unusable())),
        };
        if !self.keys_fit(group, staged, accepted.keys)? {
            return Ok(Followed::Unusable(Unusable::WrongKeys));
        }
        loaded
            .merge_pending_commit(&self.provider)
            .map_err(library("merging one's own commit"))?;
        Ok(Followed::Merged(Box::new(verdict)))
    }

    /// Somebody else's commit.
    fn follow(
        &mut self,
        group: GroupId,
        record: &GroupRecord,
        loaded: &mut MlsGroup,
        roster: &Roster,
        accepted: &AcceptedCommit<'_>,
        judge: &Judge<'_>,
    ) -> Result<Followed, E2eeError> {
        if accepted.commit.len() > COMMIT_MAX {
            return Ok(Followed::Unusable(Unusable::Malformed));
        }
        loaded
            .clear_pending_commit(self.provider.storage())
            .map_err(library("dropping a commit"))?;
        let (sender, staged) = match self.process(group, record, loaded, accepted.commit)? {
            Ok(staged) => staged,
            Err(reason) => return Ok(Followed::Unusable(reason)),
        };
        let verdict = match judge.commit(loaded, roster, &sender, &staged) {
            Ok(verdict) => Box::new(verdict),
            Err(refusal) => return Ok(Followed::Unusable(refusal.unusable())),
        };
        let gone = staged.self_removed();
        // Whoever is removed cannot know the new epoch's keys.
        if !gone && !self.keys_fit(group, &staged, accepted.keys)? {
            return Ok(Followed::Unusable(Unusable::WrongKeys));
        }
        loaded
            .merge_staged_commit(&self.provider, *staged)
            .map_err(library("merging a commit"))?;
        Ok(if gone {
            Followed::RemovedHere(verdict)
        } else {
            Followed::Merged(verdict)
        })
    }

    /// What MLS makes of a commit, in its context. It is not merged.
    fn process(
        &self,
        group: GroupId,
        record: &GroupRecord,
        loaded: &mut MlsGroup,
        commit: &[u8],
    ) -> Result<Result<(Sender, Box<StagedCommit>), Unusable>, E2eeError> {
        let Ok(message) = MlsMessageIn::tls_deserialize_exact_bytes(commit) else {
            return Ok(Err(Unusable::Malformed));
        };
        // Everything here is sealed; a public message would be one of an outsider.
        let MlsMessageBodyIn::PrivateMessage(message) = message.extract() else {
            return Ok(Err(Unusable::NotByMember));
        };
        let message = ProtocolMessage::from(message);
        let processed = match loaded.process_message(&self.provider, message) {
            Ok(processed) => processed,
            Err(ProcessMessageError::StorageError(error)) => return Err(error.into()),
            Err(
                ProcessMessageError::LibraryError(_)
                | ProcessMessageError::IncompatibleWireFormat
                | ProcessMessageError::ValidationError(_)
                | ProcessMessageError::GroupStateError(_)
                | ProcessMessageError::InvalidCommit(_)
                | ProcessMessageError::UnauthorizedExternalApplicationMessage
                | ProcessMessageError::UnauthorizedExternalCommitMessage
                | ProcessMessageError::UnsupportedProposalType
                | ProcessMessageError::MalformedSafeAad,
            ) => return Ok(Err(Unusable::Malformed)),
        };
        let sender = processed.sender().clone();
        if !matches!(sender, Sender::Member(_)) {
            return Ok(Err(Unusable::NotByMember));
        }
        if processed.aad() != commit_aad(record.chain, group, record.last_commit) {
            return Ok(Err(Unusable::WrongContext));
        }
        match processed.into_content() {
            ProcessedMessageContent::StagedCommitMessage(staged) => Ok(Ok((sender, staged))),
            // It names our leaf, and its bytes are not those of our commit.
            ProcessedMessageContent::OwnPrivateMessage => Ok(Err(Unusable::Foreign)),
            ProcessedMessageContent::ApplicationMessage(_)
            | ProcessedMessageContent::ProposalMessage(_)
            | ProcessedMessageContent::ExternalJoinProposalMessage(_)
            | ProcessedMessageContent::OwnPendingCommit
            | ProcessedMessageContent::UnresolvedAppDataCommit(_) => Ok(Err(Unusable::Malformed)),
        }
    }

    fn keys_fit(
        &self,
        group: GroupId,
        staged: &StagedCommit,
        keys: &ChainKeys,
    ) -> Result<bool, E2eeError> {
        let seeds = Exporter::Staged(staged)
            .seeds(self.provider.crypto(), group)
            .map_err(library("exporting the keys towards the chain"))?;
        Ok(seeds.public()? == *keys)
    }

    /// One's own commit was accepted: newcomers are invited, and after a rotation there is time.
    fn own_accepted(
        &mut self,
        group: GroupId,
        record: &mut GroupRecord,
        pending: PendingRecord,
        leaves: usize,
        place: LogPlace,
    ) -> Result<(), E2eeError> {
        if let Some(mut invitation) = pending.invitation {
            // Another one where the same commit took somebody out: whoever comes back cuts like the rest.
            invitation.tree_secret = record.tree_secret.clone();
            self.send(group, OutgoingKind::Invitation(Box::new(invitation)), None)?;
        }
        match pending.intent {
            // Those without an update give the leaf no new keys.
            Intent::Add(_) => {}
            Intent::Remove { .. } | Intent::Rotate | Intent::Policy { .. } | Intent::Readmit(_) => {
                record.sent_since_rotation = 0;
                let interval_ms = self.me.rotation.interval_ms(leaves);
                record.rotate_at_ms = place.time_ms.saturating_add(interval_ms);
            }
        }
        if pending.then_rotate {
            record.rotate_at_ms = record.rotate_at_ms.min(place.time_ms);
        }
        Ok(())
    }

    fn tell_changes(
        &mut self,
        group: GroupId,
        (before, after): (&Roster, &Roster),
        verdict: &Verdict,
        policy: &Policy,
    ) {
        let by = verdict.by;
        let gone: BTreeSet<u32> = verdict.removed.iter().map(|(leaf, _)| *leaf).collect();
        let mut accounts: BTreeSet<_> = before
            .iter()
            .filter(|(leaf, _)| !gone.contains(leaf))
            .map(|(_, leaf)| leaf.member.account)
            .collect();
        for device in &verdict.returned {
            let device = *device;
            self.tell(group, EventKind::CameBack { device, by });
        }
        let came_back = |device: &MemberDevice| verdict.returned.contains(device);
        for (_, device) in &verdict.removed {
            if came_back(device) {
                continue;
            }
            let added = verdict.added.iter();
            let returns = added.clone().any(|added| added.account == device.account);
            let kind = EventKind::Removed {
                device: *device,
                last_of_account: !accounts.contains(&device.account) && !returns,
                by,
            };
            self.tell(group, kind);
        }
        for device in &verdict.added {
            if came_back(device) {
                continue;
            }
            let kind = EventKind::Added {
                device: *device,
                new_account: accounts.insert(device.account),
                by,
            };
            self.tell(group, kind);
        }
        let key = |roster: &Roster| roster.get(verdict.sender).map(|leaf| leaf.key);
        if key(before) != key(after) {
            self.tell(group, EventKind::KeyRenewed { device: by });
        }
        // What went with those who went is told already.
        if !policy.agrees_but_for(&verdict.policy, |account| accounts.contains(account)) {
            let policy = Box::new(verdict.policy.clone());
            self.tell(group, EventKind::PolicyChanged { policy, by });
        }
    }
}
