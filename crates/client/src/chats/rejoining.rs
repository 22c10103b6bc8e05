//! Devices that were away for longer than the chain keeps bodies: this one asks, others are answered.
//!
//! ```text
//! lost ─▶ once a day: request, sealed, in a session of two with each account that may let it in
//! request ─▶ kept until answered ─▶ a commit, and an invitation back in the same way ─▶ joined again
//! ```

use std::collections::BTreeSet;

use session_core::ids::{AccountId, GroupId, SessionId};
use session_e2ee::{E2eeError, GroupStatus, RejoinRefusal, RejoinRequest, Role};

use super::Chats;
use crate::account::Account;
use crate::content::Content;
use crate::error::ClientError;
use crate::rejoins::HeldRejoin;

/// Accounts that are asked at once. One is enough; the others are there for when it is away.
const ASKED_MAX: usize = 8;

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Back {
    /// The group.
    pub group: GroupId,
    /// Whose device it is.
    pub from: AccountId,
    /// Why it was not let back in; none: it was.
    pub refused: Option<String>,
}

impl Chats {
    /// Asks to be let back into the groups that this device has lost: once a day, those who may add in
    /// a session of two each. Their invitations are followed from now on. [`Chats::tick`] does it.
    ///
    /// # Errors
    /// [`ClientError`] where the node does not answer.
    pub async fn ask_rejoins(&mut self, now_ms: u64) -> Result<(), ClientError> {
        for group in self.groups.device().groups() {
            if self.groups.device().status(group)? != GroupStatus::Lost {
                continue;
            }
            let Some(request) = self.groups.rejoin_request(group, now_ms).await? else {
                continue;
            };
            let mut asked = false;
            for account in self.who_may_add(group)? {
                match self.ask(account, &request).await {
                    Ok(()) => asked = true,
                    Err(ClientError::Rpc(error)) if error.is_temporary() => {
                        return Err(error.into());
                    }
                    // Revoked, or with keys that a person has to look at first: others are asked.
                    Err(_) => {}
                }
            }
            if asked {
                self.groups.rejoin_asked(group)?;
            }
        }
        self.write_down()?;
        Ok(())
    }

    async fn ask(
        &mut self,
        account: AccountId,
        request: &RejoinRequest,
    ) -> Result<(), ClientError> {
        let alone = self.groups.device().own_devices()?.len() == 1;
        let account_mut = self.account_mut();
        account_mut.welcome(account)?;
        let session = account_mut.session_for(account, alone).await?;
        match account_mut.send_rejoin(&session, request).await {
            // It is in the outbox, and leaves when the node is there.
            Ok(_) | Err(ClientError::Waiting { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The other accounts that may add, as this device last knew them: owners first.
    fn who_may_add(&self, group: GroupId) -> Result<Vec<AccountId>, ClientError> {
        let (me, policy) = (self.me()?.account, self.groups.device().policy(group)?);
        let members = self.members(group)?.into_iter();
        let accounts: BTreeSet<AccountId> = members.map(|member| member.member.account).collect();
        let may = accounts
            .into_iter()
            .filter(|account| *account != me && policy.role(*account) >= policy.add);
        let mut may: Vec<(Role, AccountId)> =
            may.map(|account| (policy.role(account), account)).collect();
        may.sort_by_key(|(role, _)| core::cmp::Reverse(*role));
        may.truncate(ASKED_MAX);
        Ok(may.into_iter().map(|(_, account)| account).collect())
    }

    /// Answers requests of other people's devices that were read in sessions ([`Chats::read_mail`]):
    /// lets back in whoever is to be, and sends the invitation. One that cannot be answered now waits.
    ///
    /// # Errors
    /// [`ClientError`] where the node does not answer.
    pub async fn answer_rejoins(&mut self) -> Result<Vec<Back>, ClientError> {
        let mut out = Vec::new();
        for held in self.account().rejoins()? {
            let Some(request) = held.request() else {
                self.account_mut().drop_rejoin(&held)?;
                continue;
            };
            let group = request.group;
            let refused = match self.answer(&held, &request).await {
                Ok(()) => None,
                Err(ClientError::Rpc(error)) if error.is_temporary() => return Err(error.into()),
                Err(
                    ClientError::E2ee(E2eeError::CommitPending(_)) | ClientError::Waiting { .. },
                ) => {
                    continue;
                }
                // By this device, before it was told, or by another admin's.
                Err(ClientError::E2ee(E2eeError::Rejoin(RejoinRefusal::Done))) => {
                    self.account_mut().drop_rejoin(&held)?;
                    continue;
                }
                Err(error) => Some(error.to_string()),
            };
            self.account_mut().drop_rejoin(&held)?;
            let from = held.from;
            out.push(Back {
                group,
                from,
                refused,
            });
        }
        Ok(out)
    }

    async fn answer(
        &mut self,
        held: &HeldRejoin,
        request: &RejoinRequest,
    ) -> Result<(), ClientError> {
        let device = self.groups.examine_rejoin(request).await?;
        if device.account != held.from {
            return Err(ClientError::Reply("another account's device"));
        }
        // The commit is durable, and the invitation follows it: a crash from here on loses neither.
        self.groups.readmit(request).await?;
        self.write_down()?;
        self.deliver(request.group).await
    }
}

impl Account {
    /// Sends a device's wish to be let back in, sealed as everything in a session is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send_rejoin(
        &mut self,
        session: &SessionId,
        request: &RejoinRequest,
    ) -> Result<(), ClientError> {
        let content = Content::Rejoin(Box::new(request.clone()));
        self.send_contents(session, vec![content]).await.map(drop)
    }
}
