//! Beginning conversations, and being brought into them: key packages are taken from the chain,
//! invitations travel in sessions, sealed to the account's long-term key (envelope v2).

use std::collections::BTreeSet;

use session_core::ids::{AccountId, GroupId, SessionId};
use session_core::time::{DAY_MS, Time};
use session_e2ee::{E2eeError, GroupStatus, MemberDevice, Policy, SignatureRule};

use super::{Chats, Update};
use crate::account::{Account, now};
use crate::content::Content;
use crate::error::ClientError;
use crate::group::{Flushed, GroupError, InvitationCode, KeyPackageCode, NewGroup};
use crate::inbox::{Inbox, Item};
use crate::invitations::{HeldInvitation, leads_to};

/// How long published key packages are good: as long as the chain allows.
const PACKAGES_LIFE_MS: u64 = 89 * DAY_MS;

/// When fewer one-time packages are left, or they are good for less long, new ones are published.
const PACKAGES_LEFT: usize = 4;
const PACKAGES_RENEW_MS: u64 = 30 * DAY_MS;

/// What was read in a session on the way.
#[derive(Debug, Clone)]
pub struct Mail {
    /// The session.
    pub session: SessionId,
    /// What is new in it. It is in the history, and not read again.
    pub inbox: Inbox,
}

/// What became of an invitation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entered {
    /// This device is in the group.
    Joined {
        /// The group.
        group: GroupId,
        /// Who invited.
        from: AccountId,
    },
    /// This node does not show what it takes. The invitation waits: another node may, or this one later.
    NotYet {
        /// The group it is to lead to.
        group: GroupId,
        /// Who invited.
        from: AccountId,
        /// What is missing.
        why: String,
    },
    /// It is of no use, and was dropped.
    Useless {
        /// The group it was to lead to.
        group: GroupId,
        /// Who invited.
        from: AccountId,
        /// Why.
        why: String,
    },
}

impl Chats {
    /// The conversation with another account: the one there is, the one it invites to, or a new one
    /// for which a key package of each of its devices is taken. The invitation is on its way then.
    ///
    /// # Errors
    /// [`GroupError::NoKeyPackages`] where the account has published none; [`ClientError`].
    pub async fn with(&mut self, peer: AccountId) -> Result<GroupId, ClientError> {
        let me = self.me()?.account;
        if peer == me {
            return Err(GroupError::WithOneself.into());
        }
        if let Some(group) = self.direct_with(peer)? {
            self.deliver(group).await?;
            return Ok(group);
        }
        let packages = self.first_packages(&[peer]).await?;
        let policy = Policy::between(self.account().chain(), me, peer);
        let group = self.begin(NewGroup::open(policy), &packages).await?;
        Ok(group)
    }

    /// A new group of these accounts, this one owning it. The invitations are on their way then.
    ///
    /// # Errors
    /// As [`Chats::with`].
    pub async fn create(
        &mut self,
        new: NewGroup,
        people: &[AccountId],
    ) -> Result<GroupId, ClientError> {
        let packages = self.first_packages(people).await?;
        self.begin(new, &packages).await
    }

    async fn begin(
        &mut self,
        new: NewGroup,
        packages: &[KeyPackageCode],
    ) -> Result<GroupId, ClientError> {
        let group = self.groups.create(new, packages, None).await?;
        self.write_down()?;
        self.deliver(group).await?;
        Ok(group)
    }

    /// Adds every device of these accounts that is not there yet.
    ///
    /// # Errors
    /// As [`Chats::with`]; [`GroupError::ThereAlready`] where all of them are.
    pub async fn add(
        &mut self,
        group: GroupId,
        people: &[AccountId],
    ) -> Result<(Vec<Update>, Flushed), ClientError> {
        let members = self.members(group)?.into_iter();
        let there: Vec<MemberDevice> = members.map(|member| member.member).collect();
        let packages = self.packages_of(people, &there).await?;
        if packages.is_empty() && !people.is_empty() {
            return Err(GroupError::ThereAlready.into());
        }
        let flushed = self.groups.add(group, &packages).await?;
        let updates = self.write_down()?;
        self.deliver(group).await?;
        Ok((updates, flushed))
    }

    /// Removes every device of these accounts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove(
        &mut self,
        group: GroupId,
        people: &[AccountId],
    ) -> Result<(Vec<Update>, Flushed), ClientError> {
        let members = self.members(group)?.into_iter();
        let devices = members.map(|member| member.member);
        let devices: Vec<_> = devices.filter(|d| people.contains(&d.account)).collect();
        let flushed = self.groups.remove(group, &devices, false).await?;
        Ok((self.write_down()?, flushed))
    }

    /// The active conversation of two with an account. Where both began one at once there are two:
    /// everybody speaks in the one with the smaller id.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn direct_with(&self, peer: AccountId) -> Result<Option<GroupId>, ClientError> {
        let device = self.groups.device();
        for group in self.all_with(peer)? {
            if device.status(group)? == GroupStatus::Active {
                return Ok(Some(group));
            }
        }
        Ok(None)
    }

    /// Every conversation of two with an account, also those that are over, by their ids.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn all_with(&self, peer: AccountId) -> Result<Vec<GroupId>, ClientError> {
        let device = self.groups.device();
        let mut all = device.groups();
        all.sort_unstable();
        let mut found = Vec::new();
        for group in all {
            if self.other_of(&device.policy(group)?) == Some(peer) {
                found.push(group);
            }
        }
        Ok(found)
    }

    /// Every conversation that was between this account and another one: those of two, and those that
    /// the other one has left or was taken out of, by their ids.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn said_with(&mut self, peer: AccountId) -> Result<Vec<GroupId>, ClientError> {
        let me = self.me()?.account;
        let mut all = self.groups.device().groups();
        all.sort_unstable();
        let mut found = Vec::new();
        for group in all {
            let policy = self.groups.device().policy(group)?;
            let alone = policy.roles.keys().eq([&me]) && policy.signatures == SignatureRule::Never;
            if self.other_of(&policy) == Some(peer)
                || alone && self.transcript(group)?.others_gone() == BTreeSet::from([peer])
            {
                found.push(group);
            }
        }
        Ok(found)
    }

    /// Key packages of every device of these accounts that is not `there`.
    async fn packages_of(
        &mut self,
        people: &[AccountId],
        there: &[MemberDevice],
    ) -> Result<Vec<KeyPackageCode>, ClientError> {
        let mut packages = Vec::new();
        for account in people {
            // Who is no contact is looked up, so that a node cannot put somebody else in.
            self.account_mut().lookup(*account).await?;
            let of = there.iter().filter(|device| device.account == *account);
            let there: Vec<_> = of.map(|device| device.device).collect();
            packages.extend(match there.is_empty() {
                true => self.groups.take_key_packages(*account).await?,
                false => self.groups.take_packages_but(*account, &there).await?,
            });
            self.account_mut().welcome(*account)?;
        }
        Ok(packages)
    }

    /// Key packages for a group that begins: of these accounts, and of this account's other devices.
    async fn first_packages(
        &mut self,
        people: &[AccountId],
    ) -> Result<Vec<KeyPackageCode>, ClientError> {
        let mut packages = self.packages_of(people, &[]).await?;
        let me = self.me()?.device;
        packages.extend(self.groups.take_own_packages(&[me]).await?);
        Ok(packages)
    }

    /// Sends the invitations to a group that wait: to each account in a session of two. Those that
    /// were sent wait no more.
    ///
    /// # Errors
    /// [`ClientError`]; an invitation that did not leave waits still.
    pub async fn deliver(&mut self, group: GroupId) -> Result<(), ClientError> {
        let me = self.me()?.account;
        for invited in self.groups.invitations(group).await? {
            let accounts: BTreeSet<AccountId> = invited.to.iter().map(|to| to.account).collect();
            let alone = self.groups.device().own_devices()?.len() == 1;
            for account in accounts {
                if account == me {
                    self.tell_devices(&invited.code).await?;
                    continue;
                }
                let session = self.account_mut().session_for(account, alone).await?;
                let account = self.account_mut();
                account.send_invitation(&session, &invited.code).await?;
            }
            self.groups.handed_over(invited.number)?;
        }
        Ok(())
    }

    /// Reads the sessions of this account, or those with one other alone, for invitations. What else
    /// is in them is answered, and is in the history.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn read_mail(&mut self, only: Option<AccountId>) -> Result<Vec<Mail>, ClientError> {
        let account = self.account_mut();
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        for requests in [false, true] {
            for entry in account.sessions(requests).await? {
                let new = seen.insert(entry.session);
                let ignored = account.state().ignored.contains(&entry.session);
                if !new || ignored {
                    continue;
                }
                let peers = account.peers_of(&entry.session).await?;
                let blocked = peers.iter().any(|p| account.state().blocked.contains(p));
                let wanted = only.is_none_or(|only| peers == [only]);
                if blocked || !wanted {
                    continue;
                }
                let inbox = account.receive(&entry.session).await?;
                let tells = |item: &Item| {
                    !matches!(item, Item::Own | Item::Invitation(_) | Item::Rejoin(_))
                };
                if inbox.messages.iter().any(|m| tells(&m.item)) || inbox.gap.is_some() {
                    let session = entry.session;
                    out.push(Mail { session, inbox });
                }
            }
        }
        Ok(out)
    }

    /// Joins by the invitations of contacts, and of accounts whose request was accepted. The others
    /// wait, as [`Chats::requests`] shows.
    ///
    /// # Errors
    /// Where the node does not answer; what is wrong with one invitation keeps no other back.
    pub async fn enter(&mut self) -> Result<Vec<Entered>, ClientError> {
        let mut out = Vec::new();
        for held in self.account().invitations()? {
            if self.account().is_welcome(&held.from) {
                out.extend(self.enter_by(&held).await?);
            }
        }
        Ok(out)
    }

    /// Joins by one invitation, and takes it out.
    pub(super) async fn enter_by(
        &mut self,
        held: &HeldInvitation,
    ) -> Result<Option<Entered>, ClientError> {
        let entered = match held.code() {
            Some(code) => self.join_by(&code, held.from, held.time_ms).await?,
            None => None,
        };
        let joined = match &entered {
            Some(Entered::NotYet { .. }) => return Ok(entered),
            Some(Entered::Joined { group, .. }) => Some(*group),
            Some(Entered::Useless { .. }) | None => None,
        };
        // Earlier ones to a group that was joined lead to where it is no more.
        self.account_mut().drop_invitations(|other| {
            other.code == held.code || joined.is_some_and(|group| leads_to(other, group))
        })?;
        Ok(entered)
    }

    /// Joins the group of an invitation that an account sent at that time. None: it is for another device,
    /// or was followed before a crash.
    pub(super) async fn join_by(
        &mut self,
        code: &InvitationCode,
        from: AccountId,
        sent_ms: u64,
    ) -> Result<Option<Entered>, ClientError> {
        let group = code.group;
        let entered = match self.groups.join(code).await {
            Ok(_) => Some(Entered::Joined { group, from }),
            Err(ClientError::E2ee(E2eeError::NoKeyPackage | E2eeError::AlreadyJoined(_))) => None,
            Err(ClientError::Rpc(error)) if error.is_temporary() => return Err(error.into()),
            Err(error @ ClientError::Trust(_)) => return Err(error),
            Err(error) => {
                let why = error.to_string();
                // So long an invitation is kept by the chain: only the node can be to blame.
                let kept_ms = sent_ms.saturating_add(self.account().retention_ms() / 2);
                Some(if is_of_the_node(&error) && now().ms() < kept_ms {
                    Entered::NotYet { group, from, why }
                } else {
                    Entered::Useless { group, from, why }
                })
            }
        };
        self.write_down()?;
        Ok(entered)
    }

    /// Keeps key packages of this device on the chain, so that others can bring it into groups:
    /// publishes new ones where there are few, or they are good for less than 30 days. Answers
    /// whether it did.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn supply(&mut self) -> Result<bool, ClientError> {
        let device = self.me()?.device;
        let id = self.account().id();
        let published = self.groups.published(id).await?;
        let soon = now().after_ms(PACKAGES_RENEW_MS);
        let mine = published
            .devices
            .iter()
            .find(|published| published.id.as_bytes().starts_with(device.as_bytes()));
        let good = mine.is_some_and(|mine| {
            let left = mine.one_time.iter().filter(|p| p.expires > soon).count();
            left >= PACKAGES_LEFT && mine.last_resort.is_some_and(|p| p.expires > soon)
        });
        if good {
            return Ok(false);
        }
        self.groups.device_mut().expire_key_packages(now().ms())?;
        let expires = Time::from_ms(now().ms()).after_ms(PACKAGES_LIFE_MS);
        self.groups.publish_key_packages(expires).await?;
        Ok(true)
    }
}

/// Whether an invitation cannot be followed because of what this node shows, or does not show: it is behind
/// the one that the invitation was put on, or keeps something back.
const fn is_of_the_node(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Rpc(_)
            | ClientError::Reply(_)
            | ClientError::Group(
                GroupError::PieceGone(_) | GroupError::Unknown(_) | GroupError::Ahead { .. }
            )
    )
}

impl Account {
    /// Whether invitations of an account are followed at once.
    pub fn is_welcome(&self, account: &AccountId) -> bool {
        let known = *account == self.id()
            || self.contact_of(account).is_some()
            || self.state.welcome.contains(account);
        known && !self.state.blocked.contains(account)
    }

    /// From now on invitations of an account are followed at once.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn welcome(&mut self, account: AccountId) -> Result<(), ClientError> {
        if self.state.welcome.insert(account) {
            self.dir.save(&self.state)?;
        }
        Ok(())
    }

    /// Sends an invitation in a session, sealed as everything there is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send_invitation(
        &mut self,
        session: &SessionId,
        code: &InvitationCode,
    ) -> Result<(), ClientError> {
        let content = Content::Invitation(code.clone());
        self.send_contents(session, vec![content]).await.map(drop)
    }

    /// A session of two in which this directory counts its messages: two devices of one account
    /// must not write in the same one, or the second looks like a replay. `alone`: there is none.
    pub(super) async fn session_for(
        &mut self,
        peer: AccountId,
        alone: bool,
    ) -> Result<SessionId, ClientError> {
        let found = self.session_with(&[peer]).await?;
        let ours = found.filter(|session| {
            let progress = self.state.sessions.get(session);
            alone || progress.is_some_and(|progress| progress.counter > 0)
        });
        match ours {
            Some(session) => Ok(session),
            None => self.create_session(peer).await,
        }
    }
}
