//! Being invited: the chain's proved word on the group that an invitation leads to.

use serde_json::Value;
use session_core::group::Group;
use session_core::ids::{Digest, GroupId};
use session_core::log::{AdvanceEntry, LogId};
use session_crypto::Signature;
use session_e2ee::{ChainKeys, Event, GroupFacts, GroupStatus, Invitation};

use super::accounts::{Accounts, Position};
use super::log::{Read, keys_of};
use super::{GroupError, Groups, InvitationCode};
use crate::error::ClientError;
use crate::gap::PRUNED;
use crate::people::key_digest;
use crate::rpc::RpcError;

/// Entries of one page on the way back to the commit that an invitation belongs to.
const PAGE: u64 = 100;

impl Groups {
    /// Joins the group of an invitation: welcome, tree and the chain's proved record must belong
    /// together. The log is followed from there; a device that was in the group before reads first what
    /// it was there for.
    ///
    /// # Errors
    /// [`GroupError`], and what [`Device::join`](session_e2ee::Device::join) refuses. The key
    /// package is still there then.
    pub async fn join(&mut self, code: &InvitationCode) -> Result<Vec<Event>, ClientError> {
        let before = self.follow_to_the_end(code.group).await?;
        let joined = self.join_anew(code).await?;
        Ok([before, joined].concat())
    }

    /// Joins a group whose log needs not be read before.
    pub(super) async fn join_anew(
        &mut self,
        code: &InvitationCode,
    ) -> Result<Vec<Event>, ClientError> {
        let invitation = self.fetch_invitation(code).await?;
        if self.is_lost(code.group)? {
            // What the log has of this device's own is not said again.
            Box::pin(self.receive(code.group)).await?;
        }
        let (facts, record) = self.facts(code.group, &invitation).await?;
        let mut accounts = Accounts::new();
        loop {
            let (device, invitation) = (&self.device, &invitation);
            let examined = device.examine_invitation(invitation, &facts, &accounts);
            if !accounts.fetch(&mut self.account, Position::NOW).await? {
                examined?;
                break;
            }
        }
        // From now on the log may only grow.
        let trust = &mut self.account.state.trust;
        trust.begin(&LogId::Group(code.group), facts.next_position, &record.log);
        self.account.dir.save(&self.account.state)?;
        let output = self.device.join(&invitation, &facts, &accounts)?;
        Ok(output.events)
    }

    /// Reads what a device that comes in again was in the group for: the keys of that go when it joins. One
    /// that cannot follow has nothing to lose.
    async fn follow_to_the_end(&mut self, group: GroupId) -> Result<Vec<Event>, ClientError> {
        let known = self.device.groups().contains(&group);
        if !known || self.device.status(group)? != GroupStatus::Active {
            return Ok(Vec::new());
        }
        match self.receive(group).await {
            Ok(page) => Ok(page.events),
            Err(ClientError::E2ee(_)) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What the chain says of a group at the epoch of an invitation, proved.
    async fn facts(
        &mut self,
        group: GroupId,
        invitation: &Invitation,
    ) -> Result<(GroupFacts, Group), ClientError> {
        let epoch = invitation.epoch;
        let shown = self.shown(group).await?;
        let (record, keys) = shown.ok_or(GroupError::Unknown(group))?;
        if epoch > record.epoch {
            let (invited, current) = (epoch, record.epoch);
            return Err(GroupError::Ahead { invited, current }.into());
        }
        let first = GroupFacts {
            chain: self.account.chain,
            group,
            epoch,
            // What led to the first epoch was never on the chain.
            commit_hash: Digest::from_bytes([0; 32]),
            keys,
            next_position: 0,
            time_ms: record.created.ms(),
        };
        if record.last_advance.is_none() {
            return Ok((first, record));
        }
        let mut left = None;
        // Backwards: an invitation is young.
        let mut end = record.log.count();
        while end > 0 {
            let mut from = end.saturating_sub(PAGE);
            let mut page = self.page(group, from, end - from, 0).await;
            if let Err(ClientError::Rpc(RpcError::Refused {
                code: PRUNED, data, ..
            })) = &page
            {
                // Older entries are gone, and an invitation is young.
                let first = data.get("first").and_then(Value::as_u64);
                let Some(first) = first.filter(|first| (from + 1..end).contains(first)) else {
                    break;
                };
                (from, page) = (first, self.page(group, first, end - first, 0).await);
            }
            let page = page?;
            for read in page.entries.into_iter().rev() {
                let Read::Advance {
                    entry,
                    advance,
                    signature,
                } = read
                else {
                    continue;
                };
                if entry.epoch == epoch {
                    let facts = GroupFacts {
                        commit_hash: entry.commit,
                        keys: keys_of(&advance.posting, &advance.control)?,
                        next_position: entry.sequence.saturating_add(1),
                        time_ms: entry.time.ms(),
                        ..first
                    };
                    return Ok((facts, record));
                }
                left = Some((entry, signature)).filter(|_| entry.epoch == epoch + 1);
            }
            end = from;
        }
        let keys = self.device.invitation_keys(invitation, group)?;
        match left {
            Some((entry, signature)) if was_first(&record, epoch, &keys, &entry, &signature) => {
                Ok((GroupFacts { keys, ..first }, record))
            }
            Some(_) | None => Err(GroupError::EpochNotShown(epoch).into()),
        }
    }
}

/// Whether these were the keys of a group's first epoch, which has no entry of its own: the record
/// remembers the posting key, and the commit that ended the epoch is signed by the control key.
fn was_first(
    record: &Group,
    epoch: u64,
    keys: &ChainKeys,
    left: &AdvanceEntry,
    signature: &[u8],
) -> bool {
    let posting = key_digest(&keys.posting);
    let mut past = record.past.iter();
    past.any(|past| past.epoch == epoch && past.posting == posting)
        && Signature::try_from(signature).is_ok_and(|signature| {
            let action = left.action.as_bytes();
            keys.control.verify(action, &signature).is_ok()
        })
}
