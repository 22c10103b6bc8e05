//! What a messenger needs: conversations with history, ticks and requests, over [`Groups`].
//!
//! ```text
//! with(bob) ─▶ a group of two: his key package taken, the invitation sent in a session
//! say ─▶ outbox of the device ─▶ written down ─▶ posted           receive ─▶ events ─▶ written down
//!                                     └────────────▶ Transcript ◀────────────────────────┘
//! ```
//!
//! An event is acknowledged towards the device once it is written down, and what is said is written
//! down before it is sent: a crash at any place loses nothing and shows nothing twice.

mod attachments;
mod inviting;
mod linking;
mod rejoining;
mod requests;
mod safety;

use std::collections::{BTreeMap, BTreeSet};

use session_core::ids::{AccountId, GroupId};
use session_core::time::HOUR_MS;
use session_e2ee::content::RECEIPTS_MAX;
use session_e2ee::limits::SIGNED_BATCH_AFTER_MS;
use session_e2ee::{
    Content, E2eeError, Event, EventKind, GroupStatus, Member, MemberDevice, Policy, Role,
    SignatureRule,
};

use crate::account::{Account, now};
use crate::error::ClientError;
use crate::group::{Flushed, Groups};
use crate::invitations::transcript_key;
use crate::transcript::file::TranscriptFile;
use crate::transcript::{Change, Record, Told, Transcript};

pub use inviting::{Entered, Mail};
pub use linking::{LinkOffer, Linked, NewDeviceLink};
pub use rejoining::Back;
pub use requests::Request;
pub use safety::{Known, Standing};

/// Events that are written down at once.
const EVENTS: usize = 256;

/// Something new in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// The conversation.
    pub group: GroupId,
    /// What changed in its [`Transcript`].
    pub change: Change,
}

/// What one look into a conversation brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Looked {
    /// What changed, in order.
    pub updates: Vec<Update>,
    /// Who is writing.
    pub typing: BTreeSet<AccountId>,
    /// Frames that cannot be read, and are not from before this device came in.
    pub unreadable: usize,
    /// Age of the node's signed head in milliseconds; over a minute it looks like an eclipse.
    pub head_age_ms: u64,
}

/// A conversation, at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glance {
    /// The conversation.
    pub group: GroupId,
    /// Its name; empty where it has none.
    pub name: String,
    /// The other account, in a conversation of two.
    pub with: Option<AccountId>,
    /// Accounts in it, this one among them.
    pub accounts: BTreeSet<AccountId>,
    /// How it stands.
    pub status: GroupStatus,
    /// Messages that nobody has looked at.
    pub unread: usize,
    /// When something was said last, in milliseconds; 0: nothing yet.
    pub last_ms: u64,
}

/// The conversations of one device of an account, with what was said in them.
pub struct Chats {
    groups: Groups,
    open: BTreeMap<GroupId, TranscriptFile>,
    /// When silent devices were looked for last.
    idle_looked_ms: u64,
    /// Groups in which nobody asks to be removed whom this account could remove.
    settled: BTreeSet<GroupId>,
}

impl Chats {
    /// Opens the device in the account's directory, or makes it under this name. What a crash kept
    /// from being written down is written down now.
    ///
    /// # Errors
    /// As [`Groups::open`].
    pub fn open(account: Account, device_name: &str) -> Result<Self, ClientError> {
        Self::over(Groups::open(account, device_name)?)
    }

    /// The same over groups that are open already.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn over(groups: Groups) -> Result<Self, ClientError> {
        let mut this = Self {
            groups,
            open: BTreeMap::new(),
            idle_looked_ms: 0,
            settled: BTreeSet::new(),
        };
        for group in this.groups.device().groups() {
            this.write_unsent(group)?;
        }
        this.write_down()?;
        Ok(this)
    }

    /// Overwrites the keys of everything that was replaced, and closes the device.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn close(self) -> Result<Account, ClientError> {
        self.groups.close()
    }

    /// The groups, for what has no call here.
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The groups. Events that they bring are written down with the next call of this type.
    pub const fn groups_mut(&mut self) -> &mut Groups {
        &mut self.groups
    }

    /// The account.
    pub const fn account(&self) -> &Account {
        self.groups.account()
    }

    /// The account, for everything else that it does.
    pub const fn account_mut(&mut self) -> &mut Account {
        self.groups.account_mut()
    }

    /// This device.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn me(&self) -> Result<MemberDevice, ClientError> {
        Ok(self.groups.device().member()?)
    }

    /// What was said in a conversation.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn transcript(&mut self, group: GroupId) -> Result<&Transcript, ClientError> {
        Ok(self.file(group)?.transcript())
    }

    /// The same, where it was looked at since this was opened.
    pub fn opened(&self, group: GroupId) -> Option<&Transcript> {
        self.open.get(&group).map(TranscriptFile::transcript)
    }

    /// The members' devices.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn members(&self, group: GroupId) -> Result<Vec<Member>, ClientError> {
        self.groups.members(group)
    }

    /// The other accounts of a conversation: whose receipts count.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn others(&self, group: GroupId) -> Result<BTreeSet<AccountId>, ClientError> {
        let me = self.me()?.account;
        let members = self.members(group)?.into_iter();
        let accounts = members.map(|member| member.member.account);
        Ok(accounts.filter(|account| *account != me).collect())
    }

    /// Every conversation, the one in which something was said last first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn list(&mut self) -> Result<Vec<Glance>, ClientError> {
        let mut all = Vec::new();
        for group in self.groups.device().groups() {
            all.push(self.glance(group)?);
        }
        all.sort_by_key(|glance| core::cmp::Reverse(glance.last_ms));
        Ok(all)
    }

    /// One conversation, at a glance.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn glance(&mut self, group: GroupId) -> Result<Glance, ClientError> {
        let device = self.groups.device();
        let (policy, status) = (device.policy(group)?, device.status(group)?);
        // A group that is over has no members any more.
        let members = self.groups.members(group).unwrap_or_default();
        let accounts = members.iter().map(|m| m.member.account).collect();
        let with = self.other_of(&policy);
        let transcript = self.transcript(group)?;
        let last_ms = transcript.messages().next_back();
        Ok(Glance {
            group,
            name: policy.name,
            with,
            accounts,
            status,
            unread: transcript.unread(),
            last_ms: last_ms.map_or(0, |said| said.time_ms),
        })
    }

    /// The other account of a policy between two.
    fn other_of(&self, policy: &Policy) -> Option<AccountId> {
        let me = self.account_of_device();
        let owners = policy.roles.values().all(|role| *role == Role::Owner);
        let of_two = policy.roles.len() == 2 && policy.signatures == SignatureRule::Never;
        let mine = policy.roles.contains_key(&me);
        let mut others = policy.roles.keys().filter(|account| **account != me);
        others.next().copied().filter(|_| owners && of_two && mine)
    }

    fn account_of_device(&self) -> AccountId {
        self.me()
            .map_or_else(|_| self.account().id(), |me| me.account)
    }

    // ---- speaking and listening

    /// Says things: they are in the outbox and written down before anything is sent.
    ///
    /// # Errors
    /// As [`Groups::flush`]; what was said waits then.
    pub async fn say(
        &mut self,
        group: GroupId,
        contents: &[Content],
    ) -> Result<(Vec<Update>, Flushed), ClientError> {
        let mut updates = self.keep(group, contents)?;
        let (more, flushed) = self.flush(group).await?;
        updates.extend(more);
        Ok((updates, flushed))
    }

    /// The same, and sends nothing yet: [`Chats::flush`] does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn keep(
        &mut self,
        group: GroupId,
        contents: &[Content],
    ) -> Result<Vec<Update>, ClientError> {
        self.groups.keep(group, contents)?;
        self.write_unsent(group)
    }

    /// Sends what waits, and follows the log to see it there. Whoever was added and not told yet is
    /// sent the invitation.
    ///
    /// # Errors
    /// As [`Groups::flush`].
    pub async fn flush(&mut self, group: GroupId) -> Result<(Vec<Update>, Flushed), ClientError> {
        let flushed = self.groups.flush(group).await;
        let updates = self.write_down()?;
        let flushed = flushed?;
        self.deliver(group).await?;
        Ok((updates, flushed))
    }

    /// Reads what is new, waiting up to `wait_ms` for something. Whoever asked to be removed is, where
    /// this account may do that.
    ///
    /// # Errors
    /// As [`Groups::receive`]; what was read before it is written down.
    pub async fn receive(&mut self, group: GroupId, wait_ms: u64) -> Result<Looked, ClientError> {
        let page = self.groups.receive_waiting(group, wait_ms).await;
        let mut looked = Looked {
            updates: self.write_down()?,
            ..Looked::default()
        };
        let page = page?;
        looked.head_age_ms = page.head_age_ms;
        for event in &page.events {
            if let EventKind::Message(message) = &event.kind
                && message.body.content == Content::Typing
            {
                looked.typing.insert(message.from.account);
            }
            let unreadable = matches!(event.kind, EventKind::Unreadable { .. });
            looked.unreadable += usize::from(unreadable);
        }
        // Whatever call has read that somebody asks, and before a crash perhaps.
        if !self.settled.contains(&group) {
            looked.updates.extend(self.let_go(group).await?);
        }
        Ok(looked)
    }

    /// Does what is due: signatures over messages, rotations, words whose time is over; lost groups are
    /// asked back into; and once an hour
    /// devices that were silent for too long are removed, where this account may do that. Then
    /// [`Chats::flush`] sends what came of it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tick(&mut self) -> Result<Vec<Update>, ClientError> {
        self.tick_at(now().ms()).await
    }

    /// The same at another time, in milliseconds since the Unix epoch.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tick_at(&mut self, now_ms: u64) -> Result<Vec<Update>, ClientError> {
        let mut updates = Vec::new();
        if now_ms.saturating_sub(self.idle_looked_ms) >= HOUR_MS {
            self.idle_looked_ms = now_ms;
            updates.extend(self.remove_idle(now_ms).await?);
        }
        self.groups.tick(now_ms).await?;
        self.ask_rejoins(now_ms).await?;
        updates.extend(self.write_down()?);
        for (group, file) in &mut self.open {
            let gone = file.expire(now_ms)?.into_iter();
            updates.extend(gone.map(|name| Update {
                group: *group,
                change: Change::Changed(name),
            }));
        }
        Ok(updates)
    }

    /// Removes devices that were not heard of for `min(21, 0.7 × retention)` days: they could not
    /// follow the log any more, and their keys do not heal.
    async fn remove_idle(&mut self, now_ms: u64) -> Result<Vec<Update>, ClientError> {
        for group in self.groups.device().groups() {
            if self.groups.device().status(group)? != GroupStatus::Active {
                continue;
            }
            let (me, policy) = (self.me()?, self.groups.device().policy(group)?);
            let days = self.account().retention_days();
            let mut idle = self.groups.device().idle_members(group, now_ms, days)?;
            idle.retain(|member| may_remove(&policy, me.account, member.account));
            if idle.is_empty() {
                continue;
            }
            match self.groups.remove(group, &idle, false).await {
                // Another commit of this device is on its way: an hour later is early enough.
                Ok(_) | Err(ClientError::E2ee(E2eeError::CommitPending(_))) => {}
                Err(error) => return Err(error),
            }
        }
        self.write_down()
    }

    /// Signs what was said and is not signed yet, without waiting for more: for a program that ends.
    /// [`Chats::flush`] sends it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn sign_now(&mut self) -> Result<(), ClientError> {
        let due_ms = now().ms().saturating_add(SIGNED_BATCH_AFTER_MS);
        self.groups.tick(due_ms).await
    }

    /// Tells the senders of messages that they arrived, or were read: what was not told before. It
    /// is in the outbox then. Answers whether there was anything to tell.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn tell(&mut self, group: GroupId, what: Told) -> Result<bool, ClientError> {
        let blocked = &self.account().state().blocked;
        let blocked: BTreeSet<AccountId> = blocked.clone();
        let transcript = self.transcript(group)?;
        let mut names = transcript.untold(what, RECEIPTS_MAX);
        names.retain(|name| {
            let said = transcript.said(name);
            said.is_some_and(|said| !blocked.contains(&said.from.account))
        });
        let content = match what {
            Told::Nothing => return Ok(false),
            _ if names.is_empty() => return Ok(false),
            Told::Delivered => Content::Delivered(names),
            Told::Read => Content::Read(names),
        };
        self.keep(group, &[content])?;
        Ok(true)
    }

    /// A person has looked at everything: nothing is unread.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn looked(&mut self, group: GroupId) -> Result<(), ClientError> {
        let file = self.file(group)?;
        if file.transcript().new_from_others().next().is_some() {
            file.write_down(&[Record::Looked])?;
        }
        Ok(())
    }

    /// Removes whoever asked to be, where this account's role allows it.
    async fn let_go(&mut self, group: GroupId) -> Result<Vec<Update>, ClientError> {
        let me = self.me()?;
        if self.groups.device().status(group)? != GroupStatus::Active {
            self.settled.insert(group);
            return Ok(Vec::new());
        }
        let members = self.members(group)?;
        let policy = self.groups.device().policy(group)?;
        let leaving = self.transcript(group)?.leaving();
        let may = |member: &&Member| {
            let MemberDevice { account, device } = member.member;
            let asked = leaving.get(&account).copied().flatten();
            let whole = leaving.get(&account).is_some_and(Option::is_none);
            account != me.account
                && (whole || asked == Some(device))
                && may_remove(&policy, me.account, account)
        };
        let gone: Vec<MemberDevice> = members.iter().filter(may).map(|m| m.member).collect();
        if gone.is_empty() {
            self.settled.insert(group);
            return Ok(Vec::new());
        }
        match self.groups.remove(group, &gone, false).await {
            // They are looked for again when that is seen in the log.
            Ok(_) | Err(ClientError::E2ee(E2eeError::CommitPending(_))) => self.write_down(),
            // A node that is away is asked again; with anything else reading is not kept up for ever.
            Err(ClientError::Rpc(error)) if error.is_temporary() => Err(error.into()),
            Err(error) => {
                self.settled.insert(group);
                Err(error)
            }
        }
    }

    // ---- writing down

    /// Writes down what this device said and did not write down yet.
    fn write_unsent(&mut self, group: GroupId) -> Result<Vec<Update>, ClientError> {
        let unsent = self.groups.device().unsent(group)?;
        if unsent.is_empty() {
            return Ok(Vec::new());
        }
        let timer_s = self.timer_of(group);
        let file = self.file(group)?;
        let next = file.transcript().next_own();
        let new = unsent
            .into_iter()
            .filter(|(name, _)| name.sequence >= next)
            .map(|(message, body)| Record::Said {
                message,
                body,
                at_ms: now().ms(),
                timer_s,
            });
        let records: Vec<Record> = new.collect();
        let changes = file.write_down(&records)?;
        Ok(updates(group, changes))
    }

    /// Writes down what the device has to show, and acknowledges it.
    pub(crate) fn write_down(&mut self) -> Result<Vec<Update>, ClientError> {
        let mut out = Vec::new();
        loop {
            let events = self.groups.events(EVENTS)?;
            let Some(last) = events.last().map(|event| event.number) else {
                return Ok(out);
            };
            for (group, events) in by_group(events) {
                let timer_s = self.timer_of(group);
                let file = self.file(group)?;
                let after = file.transcript().last_event();
                let new = events.into_iter().filter(|event| event.number > after);
                let records: Vec<Record> = new
                    .map(|event| Record::Event {
                        event,
                        at_ms: now().ms(),
                        timer_s,
                    })
                    .collect();
                let changes = file.write_down(&records)?;
                if changes.contains(&Change::Notice) {
                    self.settled.remove(&group);
                }
                out.extend(updates(group, changes));
            }
            self.groups.acknowledge(last)?;
        }
    }

    /// After how many seconds messages of a group disappear now.
    fn timer_of(&self, group: GroupId) -> u32 {
        let policy = self.groups.device().policy(group);
        policy.map_or(0, |policy| policy.disappear_after_s)
    }

    fn file(&mut self, group: GroupId) -> Result<&mut TranscriptFile, ClientError> {
        let account = self.groups.account();
        match self.open.entry(group) {
            std::collections::btree_map::Entry::Occupied(open) => Ok(open.into_mut()),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let (dir, key) = (account.dir().clone(), transcript_key(account)?);
                let me = self.groups.device().member()?;
                let mut file = TranscriptFile::open(dir, group, key, me)?;
                file.expire(now().ms())?;
                Ok(vacant.insert(file))
            }
        }
    }
}

impl Account {
    /// Whether a conversation has a bell on this device.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn mute(&mut self, group: GroupId, muted: bool) -> Result<(), ClientError> {
        let muted_now = &mut self.state.muted;
        if muted {
            muted_now.insert(group);
        } else {
            muted_now.remove(&group);
        }
        Ok(self.dir.save(&self.state)?)
    }
}

/// Whether an account may remove devices of another: its own, those of a lower role, and as an owner
/// everybody's.
fn may_remove(policy: &Policy, me: AccountId, other: AccountId) -> bool {
    let role = policy.role(me);
    me == other || role == Role::Owner || (role >= policy.remove && policy.role(other) < role)
}

/// Events of each group, in their order.
fn by_group(events: Vec<Event>) -> BTreeMap<GroupId, Vec<Event>> {
    let mut out: BTreeMap<GroupId, Vec<Event>> = BTreeMap::new();
    for event in events {
        out.entry(event.group).or_default().push(event);
    }
    out
}

fn updates(group: GroupId, changes: Vec<Change>) -> Vec<Update> {
    let seen = changes
        .into_iter()
        .filter(|change| *change != Change::Nothing);
    seen.map(|change| Update { group, change }).collect()
}
