//! A client around a device: it sends, follows logs, shows, and comes back after a crash.

use session_core::ids::{AccountId, GroupId};
use session_crypto::{Identity, Secret};
use session_e2ee::{
    Content, Device, E2eeError, Event, EventKind, Invitation, Invitee, MemberDevice, Message,
    NewDevice, OutgoingKind, Output, Policy, Randomness, Storage, Suite,
};
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{CHAIN, Chain, Choice, Disk, Verdict};

pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) identity: Arc<Identity>,
    pub(crate) disk: Disk,
    pub(crate) device: Option<Device>,
    /// What was shown, in order: the application's own memory, which survives crashes.
    pub(crate) shown: Vec<Event>,
    /// Shown for moments.
    pub(crate) moments: Vec<Event>,
    /// Invitations that have arrived.
    pub(crate) mail: Vec<Invitation>,
    /// Invitations that are to be brought to others.
    pub(crate) post: Vec<Invitation>,
    /// Every invitation that it has made.
    pub(crate) sent: Vec<Invitation>,
    seed: [u8; 32],
    restarts: u8,
}

impl Client {
    pub(crate) fn new(
        name: &str,
        identity: &Arc<Identity>,
        suite: Suite,
        seed: u64,
        chain: &Chain,
    ) -> Self {
        let disk = Disk::new();
        let mut this = Self {
            name: name.to_owned(),
            identity: identity.clone(),
            disk,
            device: None,
            shown: Vec::new(),
            moments: Vec::new(),
            mail: Vec::new(),
            post: Vec::new(),
            sent: Vec::new(),
            seed: Choice::new(seed).bytes(),
            restarts: 0,
        };
        let new = NewDevice {
            suite,
            account: identity.account_id(),
            signing: identity.signing_key(),
            name,
            serial: 0,
        };
        this.device = Some(Device::create(this.storage(), &new, chain.now_ms).unwrap());
        this
    }

    pub(crate) fn storage(&self) -> Storage {
        let mut seed = self.seed;
        seed[0] ^= self.restarts;
        Storage {
            store: self.disk.store(),
            slots: self.disk.slots(),
            key: Secret::new([0x55; 32]),
            randomness: Randomness::seeded(Secret::new(seed)),
        }
    }

    pub(crate) fn device(&self) -> &Device {
        self.device.as_ref().unwrap()
    }

    pub(crate) fn dev(&mut self) -> &mut Device {
        self.device.as_mut().unwrap()
    }

    pub(crate) fn member(&self) -> MemberDevice {
        self.device().member().unwrap()
    }

    pub(crate) fn account(&self) -> AccountId {
        self.identity.account_id()
    }

    /// Ends the process, brings the power back, and opens the device again.
    pub(crate) fn restart(&mut self, mut keep: impl FnMut() -> bool) {
        self.device = None;
        self.disk.power_on(&mut keep);
        self.restarts = self.restarts.wrapping_add(1);
        self.device = Some(Device::open(self.storage()).unwrap());
    }

    pub(crate) fn invitee(&mut self, chain: &Chain) -> Invitee {
        let expires_ms = chain.now_ms + 1_000_000_000;
        let package = self.dev().key_packages(1, expires_ms).unwrap().remove(0);
        Invitee {
            key_package: package.bytes,
            expires_ms,
        }
    }

    pub(crate) fn take(&mut self, output: Output) {
        let moments = output.events.into_iter().filter(|event| event.number == 0);
        self.moments.extend(moments);
    }

    /// Shows what is stored, and acknowledges it: the application writes first.
    pub(crate) fn show(&mut self) -> Result<(), E2eeError> {
        let events = self.device().events(0, usize::MAX)?;
        let last = self
            .shown
            .iter()
            .map(|event| event.number)
            .max()
            .unwrap_or(0);
        let new: Vec<Event> = events
            .into_iter()
            .filter(|event| event.number > last)
            .collect();
        self.shown.extend(new);
        let up_to = self
            .shown
            .iter()
            .map(|event| event.number)
            .max()
            .unwrap_or(0);
        self.dev().acknowledge(up_to)
    }

    pub(crate) fn create(
        &mut self,
        policy: Policy,
        invitees: &[Invitee],
        chain: &Chain,
    ) -> GroupId {
        let now = chain.now_ms;
        let (group, output) = self
            .dev()
            .create_group(policy, invitees, &chain.directory(), now)
            .unwrap();
        self.take(output);
        group
    }

    pub(crate) fn say(
        &mut self,
        group: GroupId,
        text: &str,
        chain: &Chain,
    ) -> Result<(), E2eeError> {
        let now = chain.now_ms;
        let content = [Content::Text(text.to_owned())];
        let output = self.dev().send(group, &content, now)?;
        self.take(output);
        Ok(())
    }

    /// Whether something is in the outbox.
    pub(crate) fn waits(&self, number: u64) -> Result<bool, E2eeError> {
        let outbox = self.device().outbox()?;
        Ok(outbox.iter().any(|waits| waits.number == number))
    }

    /// Sends the whole outbox, in order.
    pub(crate) fn flush(&mut self, chain: &mut Chain) -> Result<(), E2eeError> {
        self.flush_some(chain, |_| true)
    }

    /// Sends what `pick` takes of the outbox.
    pub(crate) fn flush_some(
        &mut self,
        chain: &mut Chain,
        mut pick: impl FnMut(&OutgoingKind) -> bool,
    ) -> Result<(), E2eeError> {
        for outgoing in self.device().outbox()? {
            // Nothing of a group before its creation.
            let creates = matches!(outgoing.kind, OutgoingKind::Create(_));
            if !creates && !chain.logs.contains_key(&outgoing.group) {
                continue;
            }
            if !pick(&outgoing.kind) {
                continue;
            }
            let verdict = chain.submit(self, &outgoing);
            match (&outgoing.kind, verdict) {
                (OutgoingKind::Create(_), _) => self.dev().accepted(outgoing.number)?,
                (OutgoingKind::Invitation(invitation), _) => {
                    let carried = chain.carry(outgoing.group, invitation);
                    self.post.push(carried.clone());
                    self.sent.push(carried);
                    self.dev().accepted(outgoing.number)?;
                }
                (OutgoingKind::Frame { .. }, Verdict::Refused) => {
                    let now = chain.now_ms;
                    match self.dev().refused(outgoing.number, now) {
                        Ok(output) => self.take(output),
                        Err(E2eeError::NotActive(_)) => {}
                        Err(error) => return Err(error),
                    }
                }
                (OutgoingKind::Commit(_) | OutgoingKind::Frame { .. }, _) => {}
            }
        }
        Ok(())
    }

    /// Follows a group's log by at most `limit` entries.
    pub(crate) fn follow(
        &mut self,
        group: GroupId,
        chain: &Chain,
        limit: usize,
    ) -> Result<(), E2eeError> {
        let next = self.device().next_position(group)? as usize;
        let entries = &chain.log(group).entries;
        for entry in entries.iter().skip(next).take(limit) {
            let directory = chain.directory_at(entry.place.time_ms);
            let output = self
                .dev()
                .receive(group, entry.place, entry.entry(), &directory)?;
            self.take(output);
        }
        Ok(())
    }

    /// Follows everything, shows everything.
    pub(crate) fn sync(&mut self, chain: &Chain) -> Result<(), E2eeError> {
        for group in self.device().groups() {
            if chain.logs.contains_key(&group) {
                self.follow(group, chain, usize::MAX)?;
            }
        }
        self.show()
    }

    /// Answers to the invitations that have come.
    pub(crate) fn join(&mut self, chain: &Chain) -> Result<usize, E2eeError> {
        let mut joined = 0;
        for invitation in std::mem::take(&mut self.mail) {
            match self.join_with(&invitation, chain) {
                Ok(()) => joined += 1,
                Err(error @ E2eeError::Vault(_)) => {
                    self.mail.push(invitation);
                    return Err(error);
                }
                Err(E2eeError::NoKeyPackage | E2eeError::AlreadyJoined(_)) => {}
                Err(error) => panic!("{}: {error}", self.name),
            }
        }
        Ok(joined)
    }

    pub(crate) fn join_with(
        &mut self,
        invitation: &Invitation,
        chain: &Chain,
    ) -> Result<(), E2eeError> {
        // An invitation names its group only inside; the client is told it beside.
        let mut last = Err(E2eeError::NoKeyPackage);
        for (group, log) in &chain.logs {
            let Some(facts) = log.facts.get(&invitation.epoch) else {
                continue;
            };
            if self.device().groups().contains(group) {
                // What it was in the group for: the keys of that go when it comes in again.
                self.follow(*group, chain, usize::MAX)?;
            }
            let directory = chain.directory_at(facts.time_ms);
            match self.dev().join(invitation, facts, &directory) {
                Ok(output) => {
                    self.take(output);
                    return Ok(());
                }
                // It may be to another group than this one.
                Err(error @ E2eeError::AlreadyJoined(_)) => last = Err(error),
                Err(E2eeError::WrongInvitation) => {
                    if !matches!(last, Err(E2eeError::AlreadyJoined(_))) {
                        last = Err(E2eeError::WrongInvitation);
                    }
                }
                other => return other.map(drop),
            }
        }
        last
    }

    pub(crate) fn messages(&self, group: GroupId) -> Vec<&Message> {
        self.shown
            .iter()
            .filter(|event| event.group == group)
            .filter_map(|event| match &event.kind {
                EventKind::Message(message) => Some(&**message),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn texts(&self, group: GroupId) -> Vec<String> {
        let messages = self.messages(group).into_iter();
        messages
            .filter_map(|message| match &message.body.content {
                Content::Text(text) => Some(text.clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn halted(&self) -> Vec<&Event> {
        let all = self.shown.iter();
        all.filter(|event| matches!(event.kind, EventKind::Halted { .. }))
            .collect()
    }
}

/// Brings invitations to those they are for.
pub(crate) fn deliver_mail(clients: &mut [Client]) {
    let mut all = Vec::new();
    for client in clients.iter_mut() {
        all.append(&mut client.post);
    }
    let members: Vec<MemberDevice> = clients.iter().map(Client::member).collect();
    for (client, member) in clients.iter_mut().zip(members) {
        for invitation in &all {
            if invitation.to.contains(&member) {
                client.mail.push(invitation.clone());
            }
        }
    }
}

/// Everybody sends, follows, joins, until nothing changes.
pub(crate) fn settle(clients: &mut [Client], chain: &mut Chain) {
    for _ in 0..50 {
        let before: usize = chain.logs.values().map(|log| log.entries.len()).sum();
        for client in clients.iter_mut() {
            client.flush(chain).unwrap();
            client.sync(chain).unwrap();
        }
        deliver_mail(clients);
        let mut joined = 0;
        for client in clients.iter_mut() {
            joined += client.join(chain).unwrap();
            client.sync(chain).unwrap();
        }
        let after: usize = chain.logs.values().map(|log| log.entries.len()).sum();
        let waiting: usize = clients
            .iter()
            .map(|client| client.device().outbox().unwrap().len())
            .sum();
        if before == after && joined == 0 && waiting == 0 {
            return;
        }
    }
    panic!("the world does not settle");
}

pub(crate) fn identities(count: usize, chain: &mut Chain) -> Vec<Arc<Identity>> {
    (0..count)
        .map(|_| {
            let identity = Arc::new(Identity::generate_without_phrase().unwrap());
            chain.register(&identity);
            identity
        })
        .collect()
}

/// One device each of so many accounts, in one group that the first has made.
pub(crate) fn group_of(count: usize, suite: Suite, seed: u64) -> (Chain, Vec<Client>, GroupId) {
    let mut chain = Chain::new();
    let ids = identities(count, &mut chain);
    let mut clients: Vec<Client> = ids
        .iter()
        .enumerate()
        .map(|(n, id)| Client::new(&format!("c{n}"), id, suite, seed * 1_000 + n as u64, &chain))
        .collect();
    let invitees: Vec<Invitee> = clients
        .iter_mut()
        .skip(1)
        .map(|client| client.invitee(&chain))
        .collect();
    let policy = if count == 2 {
        Policy::between(CHAIN, clients[0].account(), clients[1].account())
    } else {
        Policy::new(CHAIN, clients[0].account())
    };
    let group = clients[0].create(policy, &invitees, &chain);
    settle(&mut clients, &mut chain);
    (chain, clients, group)
}

pub(crate) fn by_name(clients: &[Client]) -> BTreeMap<MemberDevice, String> {
    clients
        .iter()
        .map(|client| (client.member(), client.name.clone()))
        .collect()
}
