//! A device, the program that has it, and what that program has shown.

use std::path::{Path, PathBuf};

use session_client::e2ee::{
    Content, Device, E2eeError, Event, EventKind, GroupStatus, MemberDevice, MessageName,
};
use session_client::{Account, ClientError, Groups, RpcClient};
use session_core::ids::GroupId;
use session_crypto::Identity;

use super::support::same;

/// Events that are looked at once.
const EVENTS: usize = 1_000;

/// What a program has shown of the group, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    Message {
        position: u64,
        epoch: u64,
        from: MemberDevice,
        name: MessageName,
        text: String,
    },
    /// One's own message stands there.
    Accepted {
        position: u64,
        name: MessageName,
    },
    Added(MemberDevice),
    Removed(MemberDevice),
    /// At this epoch.
    Joined(u64),
    RemovedHere,
    /// The chain is at this epoch, which this device cannot follow to.
    Halted(u64),
    /// A copy of this device has spoken.
    Copied,
}

/// A program's own memory: it outlives kills, and goes back with the directory.
#[derive(Debug, Clone, Default)]
pub(crate) struct App {
    pub(crate) shown: Vec<Shown>,
    last: u64,
}

impl App {
    fn take(&mut self, event: &Event) {
        if event.number <= self.last {
            return;
        }
        self.last = event.number;
        let shown = match &event.kind {
            EventKind::Message(message) => {
                let Content::Text(text) = &message.body.content else {
                    return;
                };
                Shown::Message {
                    position: message.place.position,
                    epoch: message.epoch,
                    from: message.from,
                    name: message.name(),
                    text: text.clone(),
                }
            }
            EventKind::Accepted { message, place } => Shown::Accepted {
                position: place.position,
                name: *message,
            },
            EventKind::Added { device, .. } => Shown::Added(*device),
            EventKind::Removed { device, .. } => Shown::Removed(*device),
            EventKind::Joined { epoch } => Shown::Joined(*epoch),
            EventKind::RemovedHere { .. } => Shown::RemovedHere,
            EventKind::Halted { epoch, .. } => Shown::Halted(*epoch),
            EventKind::SealedInOurName { .. } => Shown::Copied,
            EventKind::Forged(name) => panic!("nobody forges here, and {name:?} was forged"),
            EventKind::Verified(_)
            | EventKind::NotSent(_)
            | EventKind::NotAdded { .. }
            | EventKind::CameBack { .. }
            | EventKind::KeyRenewed { .. }
            | EventKind::Lost { .. }
            | EventKind::Rejoined { .. }
            | EventKind::PolicyChanged { .. }
            | EventKind::BeforeJoining { .. }
            | EventKind::Unreadable { .. }
            | EventKind::Superseded { .. } => return,
        };
        self.shown.push(shown);
    }
}

pub(crate) struct Phone {
    pub(crate) name: String,
    pub(crate) member: MemberDevice,
    identity: Identity,
    pub(crate) path: PathBuf,
    groups: Option<Groups>,
    pub(crate) app: App,
}

impl Phone {
    pub(crate) async fn new(
        name: &str,
        identity: &Identity,
        path: PathBuf,
        rpc: &RpcClient,
    ) -> Self {
        let groups = open(rpc, identity, &path).await.unwrap();
        Self {
            name: name.to_owned(),
            member: groups.device().member().unwrap(),
            identity: same(identity),
            path,
            groups: Some(groups),
            app: App::default(),
        }
    }

    pub(crate) fn groups(&mut self) -> Option<&mut Groups> {
        self.groups.as_mut()
    }

    pub(crate) fn device(&self) -> &Device {
        self.groups.as_ref().unwrap().device()
    }

    /// Takes the conversations out, to be used beside another's.
    pub(crate) const fn take(&mut self) -> Option<Groups> {
        self.groups.take()
    }

    pub(crate) fn put(&mut self, groups: Groups) {
        self.groups = Some(groups);
    }

    pub(crate) const fn is_up(&self) -> bool {
        self.groups.is_some()
    }

    pub(crate) fn status(&self, group: GroupId) -> Option<GroupStatus> {
        self.groups.as_ref()?.device().status(group).ok()
    }

    /// The program ends as it stands: nothing is closed.
    pub(crate) fn kill(&mut self) {
        self.groups = None;
    }

    /// From the directory and the identity, which is all that is left. False: the node is away.
    pub(crate) async fn open(&mut self, rpc: &RpcClient) -> bool {
        if self.groups.is_none() {
            match open(rpc, &self.identity, &self.path).await {
                Ok(groups) => self.groups = Some(groups),
                Err(ClientError::Rpc(_) | ClientError::Waiting { .. }) => return false,
                Err(error) => panic!("{}: {error}", self.name),
            }
        }
        true
    }

    /// Shows what there is to show. The program's memory is written first, then it is acknowledged.
    pub(crate) fn show(&mut self, forgets: bool) {
        let Some(groups) = &mut self.groups else {
            return;
        };
        let events = groups.events(EVENTS).unwrap();
        for event in &events {
            self.app.take(event);
        }
        if let Some(last) = events.last().filter(|_| !forgets) {
            groups.acknowledge(last.number).unwrap();
        }
    }

    /// The directory as it lies there, in another place. The program is killed for it.
    pub(crate) fn copy_to(&mut self, to: &Path) {
        self.kill();
        copy(&self.path, to);
    }

    /// Puts an older copy of the directory in its place; the program's memory goes back with it.
    pub(crate) fn restore(&mut self, from: &Path, app: App) {
        self.kill();
        std::fs::remove_dir_all(&self.path).unwrap();
        copy(from, &self.path);
        self.app = app;
    }

    /// Whoever has a copy of the directory, and the keys of the account.
    pub(crate) async fn thief(&self, path: &Path, rpc: &RpcClient) -> Self {
        let groups = open(rpc, &self.identity, path).await.unwrap();
        Self {
            name: format!("thief of {}", self.name),
            member: self.member,
            identity: same(&self.identity),
            path: path.to_owned(),
            groups: Some(groups),
            app: self.app.clone(),
        }
    }
}

async fn open(rpc: &RpcClient, identity: &Identity, path: &Path) -> Result<Groups, ClientError> {
    let account = Account::open(rpc.clone(), same(identity), path).await?;
    Groups::open(account, "phone")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// What may go wrong on such a day without anything being wrong: the node is away, or somebody else
/// was quicker.
pub(crate) fn is_of_the_day(error: &ClientError) -> bool {
    match error {
        ClientError::Rpc(error) => error.is_temporary(),
        ClientError::Waiting { .. } => true,
        // The chain's clock is faster than the client's, which then says too early an hour. What it
        // said stays in its outbox.
        ClientError::Refused(why) => why.contains("expired"),
        ClientError::E2ee(error) => matches!(
            error,
            E2eeError::NotActive(_)
                | E2eeError::CommitPending(_)
                | E2eeError::NothingToDo
                | E2eeError::NoSuchMember
                | E2eeError::UnknownGroup(_)
                | E2eeError::Refused(_)
        ),
        _ => false,
    }
}
