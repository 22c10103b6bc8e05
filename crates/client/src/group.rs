//! Conversations with forward secrecy: an MLS device of the account, joined to a group's log on the
//! chain (`spec/e2ee.md` §1 C).
//!
//! ```text
//! say, add, remove, rotate ─▶ device ─ outbox ─▶ posts and advances, signed with the epoch's keys ─▶ node
//!                               ▲                                                                   │
//! events, until acknowledged ◀──┴── entries, one by one ◀── range proof verified ◀── the group's log
//! ```
//!
//! What a device sends stays in its outbox until the log shows it. A post or an advance may be sent
//! any number of times: the chain knows a frame by its id, and an epoch ends once.

mod accounts;
mod admins;
mod certificate;
mod code;
mod countersigning;
mod invitation;
mod joining;
mod key_package;
mod log;
mod rejoining;
mod sending;
pub(crate) mod storage;
mod successor;

pub(crate) use accounts::{Accounts, Position};
pub use code::{CodeError, InvitationCode, KeyPackageCode};
pub use invitation::Invited;
pub use log::GroupPage;
pub use sending::Flushed;
pub(crate) use storage::{follow_keys, store_key};
pub use successor::Superseded;

use std::collections::BTreeMap;

use session_core::group::{Group, Mode};
use session_core::ids::{AccountId, ChunkId, GroupId};
use session_core::time::{DAY_MS, Time};
use session_e2ee::attachment::AttachmentError;
use session_e2ee::link::{LinkCode, LinkRequest};
use session_e2ee::{
    Content, Device, E2eeError, Event, GroupStatus, Invitee, Member, MemberDevice, Output, Policy,
    RotationPolicy, SafetyNumber, TreeError,
};

use crate::account::{Account, now};
use crate::error::ClientError;

/// Why something about a group cannot be.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// A line that is no code.
    #[error("{0}")]
    Code(#[from] CodeError),
    /// The chunks of an invitation.
    #[error("the invitation cannot be read: {0}")]
    Invitation(#[from] AttachmentError),
    /// The ratchet tree of an invitation.
    #[error("the invitation cannot be read: {0}")]
    Tree(#[from] TreeError),
    /// A piece of an invitation's ratchet tree is gone.
    #[error(
        "the chain has no piece {0} of the invitation's ratchet tree: ask to be invited again, or ask \
         another node"
    )]
    PieceGone(usize),
    /// A chunk that was put is not there.
    #[error("the node took chunk {0} and does not prove that the chain has it")]
    NotKept(ChunkId),
    /// Everybody who is to be added is in the group.
    #[error("they are in the group already, with every device they have")]
    ThereAlready,
    /// The chain knows no such group.
    #[error("the chain knows no group {0}")]
    Unknown(GroupId),
    /// The chain's group is not at that epoch yet.
    #[error("the invitation leads to epoch {invited}, and the group is in epoch {current}")]
    Ahead {
        /// Epoch of the invitation.
        invited: u64,
        /// Epoch of the group.
        current: u64,
    },
    /// The chain does not show that the group was ever at that epoch: of a first one it remembers
    /// the keys for 16 epochs.
    #[error("the chain shows epoch {0} of the group no more: ask to be invited again")]
    EpochNotShown(u64),
    /// Nobody can bring that account into a group.
    #[error(
        "account {0} has no key packages on the chain: its owner runs `session chat` or \
         `session device supply` once, or hands over a line of `session device key`"
    )]
    NoKeyPackages(AccountId),
    /// A device is linked into a directory that has nobody in it.
    #[error("{0} has an identity already: link a device into another --home")]
    HasIdentity(std::path::PathBuf),
    /// Nobody is there, or the other device went away.
    #[error(
        "the other device does not answer: it shows the code as long as its command runs; try again \
         with both at hand"
    )]
    NotAnswered,
    /// A conversation with nobody else.
    #[error("a conversation with oneself")]
    WithOneself,
    /// The chain knows no admin key of this device in the group.
    #[error("this device is no admin of group {0}")]
    NotAnAdmin(GroupId),
    /// The chain does not take it now.
    #[error("the chain does not take it now: {0}")]
    NotNow(String),
    /// Another admin's successor counts.
    #[error("group {0} goes on in another group than this device's")]
    OtherSuccessor(GroupId),
    /// A commit too large for the chunks of one advance.
    #[error("a commit of {0} bytes is too large for the chain")]
    CommitTooLarge(usize),
}

/// What the chain is told of a new group beside its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGroup {
    /// Name, roles and rights; the chain does not see it.
    pub policy: Policy,
    /// Whether every advance needs an admin's signature. The creator's device is the admin.
    pub mode: Mode,
    /// Bytes of weight that the sponsor pays for.
    pub budget: u64,
    /// And for what admins sign, once that is used up.
    pub reserve: u64,
}

/// About a thousand messages posted alone.
const BUDGET: u64 = 4_000_000;

/// Removals and whatever else has to be possible once the budget is used up.
const RESERVE: u64 = 400_000;

impl NewGroup {
    /// A group that only its admins advance, with room for about a thousand messages posted alone: for
    /// more than two accounts. An accepted commit that nobody can follow ends a group, so not everybody
    /// is to be able to post one; an admin's client signs what members do of their own right.
    pub const fn new(policy: Policy) -> Self {
        Self {
            policy,
            mode: Mode::AdminOnly,
            budget: BUDGET,
            reserve: RESERVE,
        }
    }

    /// The same, and every member may advance it: for two accounts, or where it is wished for.
    pub const fn open(policy: Policy) -> Self {
        Self {
            policy,
            mode: Mode::Open,
            budget: BUDGET,
            reserve: RESERVE,
        }
    }
}

/// How long a key package is good that is left in a group for a successor; half of it later it is
/// replaced.
const RESERVED_MS: u64 = 360 * DAY_MS;

/// The conversations of one device of an account.
pub struct Groups {
    account: Account,
    device: Device,
    /// Groups as the last proof of each log had them.
    seen: BTreeMap<GroupId, Group>,
    /// Time of the block up to which each log was read to its end.
    read_to: BTreeMap<GroupId, Time>,
}

impl Groups {
    /// Opens the device in the account's directory, or makes it under this name of at most 128
    /// bytes. One program has it at a time.
    ///
    /// # Errors
    /// [`ClientError::Store`] where another program has it, [`ClientError::E2ee`],
    /// [`ClientError::HistoryKey`].
    pub fn open(account: Account, device_name: &str) -> Result<Self, ClientError> {
        let device = storage::open(&account, device_name, now().ms())?;
        let mut this = Self {
            account,
            device,
            seen: BTreeMap::new(),
            read_to: BTreeMap::new(),
        };
        this.follow_own_keys()?;
        Ok(this)
    }

    /// Overwrites the keys of everything that was replaced, closes the device, and gives the
    /// account back.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn close(self) -> Result<Account, ClientError> {
        self.device.close()?;
        Ok(self.account)
    }

    /// The account.
    pub const fn account(&self) -> &Account {
        &self.account
    }

    /// The account, for everything else that it does.
    pub const fn account_mut(&mut self) -> &mut Account {
        &mut self.account
    }

    /// The device: members, policies, epochs, what waits.
    pub const fn device(&self) -> &Device {
        &self.device
    }

    /// The device, for what has no call here: policies, leaving, further devices. What it has to
    /// send then leaves with [`Groups::flush`].
    pub const fn device_mut(&mut self) -> &mut Device {
        &mut self.device
    }

    /// Makes a key package of one use, to be handed over out of band: nothing on the chain links
    /// the two people then. It is good until `expires`.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn key_package(&mut self, expires: Time) -> Result<KeyPackageCode, ClientError> {
        self.follow_own_keys()?;
        let made = self.device.key_packages(1, expires.ms())?;
        let package = made.into_iter().next();
        let package = package.ok_or(E2eeError::NothingToDo)?;
        Ok(KeyPackageCode(Invitee {
            key_package: package.bytes,
            expires_ms: package.expires_ms,
        }))
    }

    /// Makes a group of this device and 1 to 50 others, and puts it on the chain. `sponsor` pays;
    /// none: this account does. The invitations are then to be had from [`Groups::invitations`].
    ///
    /// # Errors
    /// [`ClientError`]. Where the chain could not be reached the group is among those of the device,
    /// and [`Groups::put_on_chain`] goes on.
    pub async fn create(
        &mut self,
        new: NewGroup,
        invitees: &[KeyPackageCode],
        sponsor: Option<&mut Account>,
    ) -> Result<GroupId, ClientError> {
        self.follow_own_keys()?;
        let mut accounts = self.about_invitees(invitees).await?;
        self.remember_used(invitees)?;
        let invitees = bare(invitees);
        let (group, _) = loop {
            let policy = new.policy.clone();
            let made = self
                .device
                .create_group(policy, &invitees, &accounts, now().ms());
            let fetched = accounts.fetch(&mut self.account, Position::NOW).await?;
            match made {
                Ok(made) => break made,
                Err(_) if fetched => {}
                Err(error) => return Err(error.into()),
            }
        };
        self.put_on_chain(group, &new, sponsor).await?;
        Ok(group)
    }

    /// Adds devices. What is to be handed to them follows from [`Groups::invitations`] once the
    /// chain has accepted it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add(
        &mut self,
        group: GroupId,
        invitees: &[KeyPackageCode],
    ) -> Result<Flushed, ClientError> {
        let accounts = self.about_invitees(invitees).await?;
        self.remember_used(invitees)?;
        let invitees = bare(invitees);
        self.change(group, accounts, |device, accounts| {
            device.add(group, &invitees, accounts, now().ms())
        })
        .await
    }

    /// Removes devices: what comes after it they cannot read. `revoke`: they may not come back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove(
        &mut self,
        group: GroupId,
        members: &[MemberDevice],
        revoke: bool,
    ) -> Result<Flushed, ClientError> {
        self.change(group, Accounts::new(), |device, accounts| {
            device.remove(group, members, revoke, accounts)
        })
        .await
    }

    /// Gives this device new keys in the group: whoever stole the old ones reads nothing more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate(&mut self, group: GroupId) -> Result<Flushed, ClientError> {
        self.change(group, Accounts::new(), |device, accounts| {
            device.rotate(group, accounts)
        })
        .await
    }

    /// Sets how often this device gives its leaf new keys, in every group: after how many messages and in
    /// how much of the usual time (`spec/e2ee.md`), within bounds. What makes it sooner counts from
    /// now, what makes it later from the next time on. [`Device::rotation`] tells when that is.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn set_rotation_policy(&mut self, policy: RotationPolicy) -> Result<(), ClientError> {
        Ok(self.device.set_rotation_policy(policy, now().ms())?)
    }

    /// Changes name, roles, rights, timer: what every member checks against the policy before it.
    /// `edit` is given the policy of the moment, again where another change came first.
    ///
    /// # Errors
    /// [`ClientError`]; [`E2eeError::Policy`] where this account's role is too low,
    /// [`E2eeError::NothingToDo`] where nothing would change.
    pub async fn change_policy(
        &mut self,
        group: GroupId,
        edit: impl Fn(&mut Policy),
    ) -> Result<Flushed, ClientError> {
        self.change(group, Accounts::new(), |device, accounts| {
            let mut policy = device.policy(group)?;
            edit(&mut policy);
            device.set_policy(group, policy, accounts)
        })
        .await
    }

    /// Says words in a group. They are in the outbox, durable, before anything is sent.
    ///
    /// # Errors
    /// [`ClientError`]; as [`Groups::flush`].
    pub async fn say(&mut self, group: GroupId, text: &str) -> Result<Flushed, ClientError> {
        self.send(group, &[Content::Text(text.to_owned())]).await
    }

    /// Says things in a group.
    ///
    /// # Errors
    /// As [`Groups::say`].
    pub async fn send(
        &mut self,
        group: GroupId,
        contents: &[Content],
    ) -> Result<Flushed, ClientError> {
        self.keep(group, contents)?;
        self.flush(group).await
    }

    /// Puts things to be said into the outbox, and sends nothing: [`Groups::flush`] does.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn keep(&mut self, group: GroupId, contents: &[Content]) -> Result<(), ClientError> {
        self.device.send(group, contents, now().ms())?;
        Ok(())
    }

    /// Does what is due at `now_ms`: in every group signatures over messages, rotations, a key package
    /// for a successor, and an admin's key that its members have to know; and key packages that are to
    /// be published anew because the account has other keys. Commits that an admin is asked to sign are
    /// looked at again. Then
    /// [`Groups::flush`] sends it. When it has to be called next: [`Device::next_tick_ms`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tick(&mut self, now_ms: u64) -> Result<(), ClientError> {
        self.follow_own_keys()?;
        self.replace_key_packages().await?;
        let mut accounts = Accounts::new();
        loop {
            let done = self.device.tick(now_ms, &accounts);
            let fetched = accounts.fetch(&mut self.account, Position::NOW).await?;
            match done {
                Ok(_) => break,
                Err(_) if fetched => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.leave_in_groups(now_ms)?;
        for group in self.device.groups() {
            // What the chain did not take when it was asked for.
            if !self.device.countersign_requests(group)?.is_empty() {
                self.receive(group).await?;
            }
        }
        Ok(())
    }

    /// Events that were not acknowledged yet, oldest first, at most `limit`: also those from before
    /// the program ended.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn events(&self, limit: usize) -> Result<Vec<Event>, ClientError> {
        Ok(self.device.events(0, limit)?)
    }

    /// Events up to this number were shown, or stored elsewhere: they go.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn acknowledge(&mut self, up_to: u64) -> Result<(), ClientError> {
        Ok(self.device.acknowledge(up_to)?)
    }

    /// The members' devices.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn members(&self, group: GroupId) -> Result<Vec<Member>, ClientError> {
        Ok(self.device.members(group)?)
    }

    /// Digits that members compare by another way: equal ones mean that nobody stands between them.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn safety_number(&self, group: GroupId) -> Result<SafetyNumber, ClientError> {
        Ok(self.device.safety_number(group)?)
    }

    /// Certifies a device that asks to be linked: see [`Device::grant_link`].
    pub(crate) fn grant_link(
        &mut self,
        code: &LinkCode,
        request: &LinkRequest,
        payload: &[u8],
    ) -> Result<Vec<u8>, ClientError> {
        let signing = self.account.identity.signing_key();
        let now_ms = now().ms();
        Ok(self
            .device
            .grant_link(code, request, signing, payload, now_ms)?)
    }

    /// What every member leaves in its groups: a key package for a successor, and an admin its key.
    fn leave_in_groups(&mut self, now_ms: u64) -> Result<(), ClientError> {
        for group in self.device.groups() {
            if self.device.status(group)? != GroupStatus::Active {
                continue;
            }
            self.device.tell_admin_key(group, now_ms)?;
            let reserved = self.device.reserved_until_ms(group)?;
            if reserved < now_ms.saturating_add(RESERVED_MS / 2) {
                let until = now_ms.saturating_add(RESERVED_MS);
                self.device.reserve_key_package(group, until, now_ms)?;
            }
        }
        Ok(())
    }

    /// A commit of this device, and its way to the chain. Nothing is done while the chain's word on
    /// an account is missing.
    async fn change(
        &mut self,
        group: GroupId,
        mut accounts: Accounts,
        change: impl Fn(&mut Device, &Accounts) -> Result<Output, E2eeError>,
    ) -> Result<Flushed, ClientError> {
        // A commit on an old epoch would be made in vain.
        self.receive(group).await?;
        self.follow_own_keys()?;
        loop {
            let made = change(&mut self.device, &accounts);
            let fetched = accounts.fetch(&mut self.account, Position::NOW).await?;
            match made {
                Ok(_) => return self.flush(group).await,
                Err(_) if fetched => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The chain's word on those to be invited.
    async fn about_invitees(&mut self, codes: &[KeyPackageCode]) -> Result<Accounts, ClientError> {
        let mut accounts = Accounts::new();
        for code in codes {
            // Whether it may come in is judged when it is added.
            let _asked = self
                .device
                .examine_key_package(&code.0.key_package, &accounts);
            accounts.fetch(&mut self.account, Position::NOW).await?;
        }
        Ok(accounts)
    }
}

fn bare(codes: &[KeyPackageCode]) -> Vec<Invitee> {
    codes.iter().map(|code| code.0.clone()).collect()
}
