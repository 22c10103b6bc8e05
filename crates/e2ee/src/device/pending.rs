//! One's own commit while it waits for the chain: on its way, judged again, made anew or given up.
//!
//! ```text
//! made ─▶ judged as the chain is now ─ good ─▶ until when the chain may take it: durable ─▶ leaves ─┐
//!              ▲         └─ refused ─▶ out? ─ not any more ─▶ given up, told, made anew without       │
//!              │                         └── it may still be taken: it waits, to be merged if it is   │
//!              └────────────────────────── the chain has not taken it in time ◀───────────────────────┘
//! ```
//!
//! A commit that has left is kept until nobody can have the chain take it: its bytes in the log are
//! followed by whoever can merge them, and that is nobody who has dropped them.

use openmls::prelude::Sender;
use openmls_traits::OpenMlsProvider as _;
use session_core::ids::GroupId;

use super::epoch::library;
use super::membership::parse_key_package;
use super::transaction::Transaction;
use super::{Device, Output};
use crate::directory::Directory;
use crate::error::E2eeError;
use crate::event::EventKind;
use crate::limits::GRACE_MS;
use crate::rejoin::RejoinRequest;
use crate::roster::{Roster, certificate_of, member_of};
use crate::tables::{GroupRecord, Intent, PendingRecord};
use crate::verdict::{AsOf, Judge};

impl Device {
    /// Judges one's own commit that waits, by what the chain says now: one that the others would refuse
    /// must not be sent, since it would end the group. Nothing waits: nothing is wrong.
    ///
    /// # Errors
    /// [`E2eeError::Refused`]; [`E2eeError::NotActive`], [`E2eeError::Vault`].
    pub fn examine_pending(
        &self,
        group: GroupId,
        directory: &dyn Directory,
    ) -> Result<(), E2eeError> {
        self.look(|event| {
            let record = event.active(group)?;
            let loaded = event.load(group)?;
            let Some(staged) = loaded.pending_commit() else {
                return Ok(());
            };
            let judge = Judge {
                crypto: event.provider.crypto,
                directory,
                as_of: AsOf::Now,
            };
            let roster = event.epoch(group, record.epoch)?.roster;
            let sender = Sender::Member(loaded.own_leaf_index());
            judge.commit(&loaded, &roster, &sender, staged)?;
            Ok(())
        })
    }

    /// A transaction with one's own commit is about to leave, which the chain takes until `until_ms` of
    /// block time: durable once this returns. The commit was judged just before
    /// ([`Device::examine_pending`]), and `until_ms` is at most
    /// [`ADVANCE_VALID_MS`](crate::limits::ADVANCE_VALID_MS) later. Nothing waits: nothing is done.
    ///
    /// # Errors
    /// [`E2eeError::NotActive`], [`E2eeError::Vault`].
    pub fn commit_leaves(&mut self, group: GroupId, until_ms: u64) -> Result<(), E2eeError> {
        let ((), _) = self.event(|event| {
            event.active(group)?;
            event.is_out(group, until_ms)
        })?;
        Ok(())
    }

    /// Gives up one's own commit that [`Device::examine_pending`] has refused, once the chain cannot
    /// take it any more: `now_ms` is the time of the block up to which the group's log was read. Whoever cannot be added
    /// is told of ([`EventKind::NotAdded`]), and for the rest another commit is made. Answers whether
    /// it is gone; until then it waits.
    ///
    /// # Errors
    /// [`E2eeError::NotActive`], [`E2eeError::Vault`].
    pub fn give_up_pending(
        &mut self,
        group: GroupId,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<(bool, Output), E2eeError> {
        self.event(|event| event.give_up_pending(group, directory, now_ms))
    }

    /// Does what [`Device::give_up_pending`] would do, and drops it: for a caller who has to find out about which
    /// accounts `directory` is asked before its answers count.
    ///
    /// # Errors
    /// As [`Device::give_up_pending`].
    pub fn rehearse_give_up(
        &self,
        group: GroupId,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<(), E2eeError> {
        self.look(|event| event.give_up_pending(group, directory, now_ms).map(drop))
    }
}

impl Transaction<'_> {
    /// The chain may take this device's commit until then, or longer.
    pub(super) fn is_out(&mut self, group: GroupId, until_ms: u64) -> Result<(), E2eeError> {
        let pending: Option<PendingRecord> = self.buffer().load_record(&group)?;
        if let Some(mut pending) = pending {
            let until = pending.out_until_ms.unwrap_or(0).max(until_ms);
            pending.out_until_ms = Some(until);
            self.buffer().save_record(&group, &pending);
        }
        Ok(())
    }

    fn give_up_pending(
        &mut self,
        group: GroupId,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<bool, E2eeError> {
        let record = self.active(group)?;
        let pending: Option<PendingRecord> = self.buffer().load_record(&group)?;
        let Some(mut pending) = pending else {
            return Ok(true);
        };
        if let Some(until) = pending.out_until_ms
            && until >= now_ms
        {
            // An admin who is asked judges it like this device, so what it has signed by now is over
            // by then.
            let until = until.min(now_ms.saturating_add(GRACE_MS));
            pending.out_until_ms = Some(until);
            self.buffer().save_record(&group, &pending);
            return Ok(false);
        }
        self.give_up(group)?;
        self.propose_again(group, &record, pending.intent, directory)?;
        Ok(true)
    }

    /// Makes one's commit anew after another one came first, if there is still something to do.
    pub(super) fn propose_again(
        &mut self,
        group: GroupId,
        record: &GroupRecord,
        intent: Intent,
        directory: &dyn Directory,
    ) -> Result<(), E2eeError> {
        let roster = self.epoch(group, record.epoch)?.roster;
        let intent = match intent {
            Intent::Add(packages) => {
                Intent::Add(self.still_to_add(group, &roster, packages, directory))
            }
            Intent::Remove { members, revoke } => {
                let members: Vec<_> = members
                    .into_iter()
                    .filter(|member| roster.leaf_of(*member).is_some())
                    .collect();
                Intent::Remove { members, revoke }
            }
            Intent::Policy { from, to } => {
                let to = Box::new(record.policy.rebased(&from, &to));
                let from = Box::new(record.policy.clone());
                Intent::Policy { from, to }
            }
            Intent::Rotate => Intent::Rotate,
            Intent::Readmit(request) => {
                match self.still_to_readmit(group, &roster, &request, directory)? {
                    true => Intent::Readmit(request),
                    false => return Ok(()),
                }
            }
        };
        let point = self.checkpoint();
        match self.propose(group, record, intent, directory) {
            Ok(()) => Ok(()),
            Err(E2eeError::Vault(error)) => Err(error.into()),
            Err(E2eeError::Record(error)) => Err(error.into()),
            // Done by the other commit, or not allowed any more.
            Err(_) => {
                self.back_to(point);
                Ok(())
            }
        }
    }

    /// Key packages of those who are not in the group yet. Whoever cannot be added by one any more is
    /// told of.
    fn still_to_add(
        &mut self,
        group: GroupId,
        roster: &Roster,
        packages: Vec<Vec<u8>>,
        directory: &dyn Directory,
    ) -> Vec<Vec<u8>> {
        let judge = Judge {
            crypto: self.provider.crypto,
            directory,
            as_of: AsOf::Now,
        };
        let mut left = Vec::with_capacity(packages.len());
        for bytes in packages {
            let Ok(package) = parse_key_package(&bytes, self.provider.crypto) else {
                continue;
            };
            let Some(certificate) = certificate_of(package.leaf_node()) else {
                continue;
            };
            let device = member_of(&certificate);
            if roster.leaf_of(device).is_some() {
                continue;
            }
            if judge.key_package(&package).is_ok() {
                left.push(bytes);
            } else {
                self.tell(group, EventKind::NotAdded { device });
            }
        }
        left
    }

    /// Whether a device that asked is still to be let back in. One that cannot be any more is told of.
    fn still_to_readmit(
        &mut self,
        group: GroupId,
        roster: &Roster,
        request: &RejoinRequest,
        directory: &dyn Directory,
    ) -> Result<bool, E2eeError> {
        let package = parse_key_package(&request.key_package, self.provider.crypto)?;
        let device = certificate_of(package.leaf_node()).map(|found| member_of(&found));
        let Some(device) = device.filter(|device| roster.leaf_of(*device).is_some()) else {
            return Ok(false);
        };
        if self.is_back(request, device)? {
            return Ok(false);
        }
        let judge = Judge {
            crypto: self.provider.crypto,
            directory,
            as_of: AsOf::Now,
        };
        let good = judge.key_package(&package).is_ok();
        if !good {
            self.tell(group, EventKind::NotAdded { device });
        }
        Ok(good)
    }

    /// Drops one's own pending commit.
    pub(crate) fn give_up(&mut self, group: GroupId) -> Result<(), E2eeError> {
        let pending: Option<PendingRecord> = self.buffer().load_record(&group)?;
        let Some(pending) = pending else {
            return Ok(());
        };
        let mut loaded = self.load(group)?;
        loaded
            .clear_pending_commit(self.provider.storage())
            .map_err(library("dropping a commit"))?;
        self.buffer().delete_record::<PendingRecord>(&group);
        self.unsend(pending.number);
        Ok(())
    }
}
