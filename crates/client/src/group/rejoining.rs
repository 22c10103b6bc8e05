//! Coming back into a group whose log this device cannot follow any more, and letting others back in.

use serde_json::{Value, json};
use session_core::ids::GroupId;
use session_core::log::LogId;
use session_e2ee::{E2eeError, Event, GroupStatus, MemberDevice, RejoinRequest};

use super::accounts::{Accounts, Position};
use super::{Flushed, GroupError, Groups};
use crate::account::now;
use crate::error::ClientError;

impl Groups {
    /// What to ask by to be let back into a group that this device has lost, where it is time to ask:
    /// once a day. It goes, sealed, to whoever may add; then [`Groups::rejoin_asked`]. The log is read to
    /// its end first: what it has of this device's own is not said again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rejoin_request(
        &mut self,
        group: GroupId,
        now_ms: u64,
    ) -> Result<Option<RejoinRequest>, ClientError> {
        if !self.is_lost(group)? {
            return Ok(None);
        }
        self.receive(group).await?;
        self.follow_own_keys()?;
        Ok(self.device.rejoin_request(group, now_ms)?)
    }

    /// The request was sent.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn rejoin_asked(&mut self, group: GroupId) -> Result<(), ClientError> {
        Ok(self.device.rejoin_asked(group)?)
    }

    /// Whose device asks, judged as the chain is now; nothing is done.
    ///
    /// # Errors
    /// [`ClientError::E2ee`]: why it is not let back in.
    pub async fn examine_rejoin(
        &mut self,
        request: &RejoinRequest,
    ) -> Result<MemberDevice, ClientError> {
        // A member that was removed meanwhile does not come back.
        self.receive(request.group).await?;
        let mut accounts = Accounts::new();
        loop {
            let judged = self.device.examine_rejoin(request, &accounts, now().ms());
            if !accounts.fetch(&mut self.account, Position::NOW).await? {
                return Ok(judged?);
            }
        }
    }

    /// Lets a device back in: one commit. What is to be handed to it follows from
    /// [`Groups::invitations`] once the chain has accepted it.
    ///
    /// # Errors
    /// As [`Groups::examine_rejoin`]; [`ClientError`].
    pub async fn readmit(&mut self, request: &RejoinRequest) -> Result<Flushed, ClientError> {
        self.change(request.group, Accounts::new(), |device, accounts| {
            device.readmit(request, accounts, now().ms())
        })
        .await
    }

    /// Goes on in a log whose entries from `from` to somewhere are gone, as the node says. Where a commit
    /// is among what this device did not see, it has lost the group.
    pub(super) async fn leap(
        &mut self,
        group: GroupId,
        from: u64,
        data: &Value,
    ) -> Result<Vec<Event>, ClientError> {
        let first = data.get("first").and_then(Value::as_u64);
        let first = first.filter(|first| *first > from);
        let first = first.ok_or(ClientError::Reply("gone are entries that are not"))?;
        let shown = self.shown(group).await?;
        let (record, _) = shown.ok_or(GroupError::Unknown(group))?;
        let time = now().max(self.account.proved_time);
        if time.since(record.created) < self.account.kept_ms() || first > record.log.count() {
            return Err(ClientError::Reply(
                "entries that the chain still keeps are said to be gone",
            ));
        }
        let name = ("groupId", json!(group));
        self.account.grown(LogId::Group(group), name, first).await?;
        self.account.dir.save(&self.account.state)?;
        Ok(self.device.skip(group, first, record.epoch)?.events)
    }

    /// Whether this device cannot follow a group that it was in.
    pub(super) fn is_lost(&self, group: GroupId) -> Result<bool, ClientError> {
        match self.device.status(group) {
            Ok(status) => Ok(status == GroupStatus::Lost),
            Err(E2eeError::UnknownGroup(_)) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}
