//! Random worlds, judged by a model of ideal conversations.
//!
//! The model is obvious: a log of texts, and for each device the stretch of the log that it was in
//! the group for. Every device must have shown exactly the texts of its stretch, once each, in the
//! log's order, with the right sender, whatever was lost, late, doubled, forged, crashed or raced.
//!
//! `WORLDS` and `WORLDS_PQ` say how many, `FROM` where to begin, `SEED` replays one: it is printed when
//! one fails.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

#[path = "worlds/keys.rs"]
mod keys;
#[path = "worlds/seen.rs"]
mod seen;
mod world;

use seen::{Seen, add};
use session_core::ids::{AccountId, GroupId};
use session_crypto::Identity;
use session_e2ee::limits::ADVANCE_VALID_MS;
use session_e2ee::{
    Content, E2eeError, EventKind, GroupStatus, Invitee, MemberDevice, Outgoing, OutgoingKind,
    Policy, Role, RotationPolicy, Suite, VaultError,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use world::chain::EntryKind;
use world::client::{deliver_mail, identities};
use world::{CHAIN, Chain, Choice, Client, Verdict};

/// What must be true of a world when everything has come to rest.
#[derive(Default)]
struct Ideal {
    /// Who said what: text to device.
    said: BTreeMap<String, MemberDevice>,
    /// Texts in the log, by position.
    accepted: BTreeMap<u64, String>,
    /// Stretches of the log that a device was in the group for: from, to.
    stays: BTreeMap<MemberDevice, Vec<(u64, u64)>>,
    /// Where the log removes a device.
    removals: BTreeMap<MemberDevice, Vec<u64>>,
}

struct World {
    chain: Chain,
    clients: Vec<Client>,
    group: GroupId,
    choice: Choice,
    ideal: Ideal,
    seen: Seen,
    said: u64,
    /// Frames that never get through until the end: lost on the way.
    late: BTreeSet<u64>,
    /// Whom a client's pending commit removes.
    removing: BTreeMap<usize, MemberDevice>,
    /// Each account's keys, as the chain has them.
    keys: BTreeMap<AccountId, Arc<Identity>>,
    /// Commits that were sent and have not arrived: by whom, and until when the chain takes them.
    flying: Vec<(usize, Outgoing, u64)>,
}

impl World {
    fn new(seed: u64, suite: Suite, accounts: usize) -> Self {
        let mut choice = Choice::new(seed);
        let mut chain = Chain::new();
        let ids = identities(accounts, &mut chain);
        let mut clients = Vec::new();
        for (n, id) in ids.iter().enumerate() {
            clients.push(Client::new(
                &format!("{n}"),
                id,
                suite,
                choice.next(),
                &chain,
            ));
            // Some people have a second device.
            if choice.one_in(3) {
                clients.push(Client::new(
                    &format!("{n}b"),
                    id,
                    suite,
                    choice.next(),
                    &chain,
                ));
            }
        }
        let first = 1 + choice.below(clients.len() - 1);
        let invitees: Vec<Invitee> = (1..=first).map(|n| clients[n].invitee(&chain)).collect();
        let policy = Policy::new(CHAIN, clients[0].account());
        let group = clients[0].create(policy, &invitees, &chain);
        let mut this = Self {
            chain,
            clients,
            group,
            choice,
            ideal: Ideal::default(),
            seen: Seen::default(),
            said: 0,
            late: BTreeSet::new(),
            removing: BTreeMap::new(),
            keys: ids.iter().map(|id| (id.account_id(), id.clone())).collect(),
            flying: Vec::new(),
        };
        this.calm(|client, chain| client.flush(chain));
        this
    }

    /// Does something with every client, bringing back who crashes.
    fn calm(&mut self, act: impl Fn(&mut Client, &mut Chain) -> Result<(), E2eeError>) {
        for client in &mut self.clients {
            act(client, &mut self.chain).unwrap();
        }
    }

    fn step(&mut self) {
        let n = self.choice.below(self.clients.len());
        if self.choice.one_in(7) {
            let fuse = self.choice.below(40) as u32;
            let happens = self.choice.one_in(2);
            self.clients[n].disk.set_fuse(fuse, happens);
        }
        let ms = self.choice.below(20_000) as u64;
        self.chain.tick(ms);
        if self.choice.one_in(12) {
            self.rotate_an_account();
        }
        self.arrive(false);
        let result = match self.choice.below(20) {
            0..=5 => self.say(n),
            6..=8 => self.send(n),
            9..=12 => self.follow(n),
            13 => self.tick(n),
            14..=15 => self.commit(n),
            16 => self.forge(n),
            _ => self.join(n),
        };
        self.survive(n, result);
    }

    /// Only a dead disk is a reason to fail; then the device comes back.
    fn survive(&mut self, n: usize, result: Result<(), E2eeError>) {
        let client = &mut self.clients[n];
        if client.disk.is_dead() || self.choice.one_in(40) {
            self.seen.crashes += 1;
            let choice = &mut self.choice;
            client.restart(|| choice.one_in(2));
            return;
        }
        match result {
            Ok(()) => {}
            Err(
                E2eeError::UnknownGroup(_) | E2eeError::NotActive(_) | E2eeError::CommitPending(_),
            ) => {}
            Err(error) => panic!("client {}: {error}", client.name),
        }
        client.disk.power_on(|| true);
    }

    fn say(&mut self, n: usize) -> Result<(), E2eeError> {
        self.said += 1;
        let text = format!("text {}", self.said);
        let client = &mut self.clients[n];
        let result = client.say(self.group, &text, &self.chain);
        // A crash in the middle may have stored it: the outbox of the device that comes back says.
        if result.is_ok() || client.disk.is_dead() {
            self.ideal.said.insert(text, client.member());
        }
        result
    }

    /// Sends some of the outbox, out of order or twice now and then.
    fn send(&mut self, n: usize) -> Result<(), E2eeError> {
        let mut outbox: Vec<Outgoing> = self.clients[n].device().outbox()?;
        if self.choice.one_in(4) && outbox.len() > 1 {
            let at = self.choice.below(outbox.len());
            outbox.rotate_left(at);
        }
        if self.choice.one_in(4) {
            outbox.extend(outbox.clone());
        }
        for outgoing in outbox {
            if self.choice.one_in(4) || self.late.contains(&outgoing.number) {
                self.seen.late += 1;
                continue;
            }
            if !matches!(outgoing.kind, OutgoingKind::Create(_))
                && !self.chain.logs.contains_key(&outgoing.group)
            {
                continue;
            }
            if matches!(outgoing.kind, OutgoingKind::Commit(_)) {
                if !self.leave(n, outgoing.number)? {
                    continue;
                }
                if self.choice.one_in(3) {
                    let until = self.chain.now_ms + ADVANCE_VALID_MS;
                    self.flying.push((n, outgoing, until));
                    continue;
                }
            }
            if self.clients[n].disk.is_dead() {
                // The power failed while old keys were overwritten, which no call waits for.
                return Ok(());
            }
            let verdict = self.submit(n, &outgoing);
            self.answer(n, &outgoing, verdict)?;
        }
        Ok(())
    }

    /// What a client does about the chain's answer.
    fn answer(&mut self, n: usize, outgoing: &Outgoing, verdict: Verdict) -> Result<(), E2eeError> {
        let client = &mut self.clients[n];
        match (&outgoing.kind, verdict) {
            (OutgoingKind::Invitation(invitation), _) => {
                let carried = self.chain.carry(outgoing.group, invitation);
                client.post.push(carried);
                client.dev().accepted(outgoing.number)
            }
            (OutgoingKind::Create(_), _) => client.dev().accepted(outgoing.number),
            (OutgoingKind::Frame { .. }, Verdict::Refused) => {
                self.seen.resealed += 1;
                let output = client.dev().refused(outgoing.number, self.chain.now_ms)?;
                client.take(output);
                Ok(())
            }
            (OutgoingKind::Commit(_), Verdict::LostRace) => {
                self.seen.races += 1;
                Ok(())
            }
            (OutgoingKind::Commit(_) | OutgoingKind::Frame { .. }, _) => Ok(()),
        }
    }

    fn submit(&mut self, n: usize, outgoing: &Outgoing) -> Verdict {
        let verdict = self.chain.submit(&self.clients[n], outgoing);
        if matches!(outgoing.kind, OutgoingKind::Commit(_)) && verdict == Verdict::Accepted {
            let directory = self.chain.directory();
            let now = self.clients[n]
                .device()
                .examine_pending(self.group, &directory);
            self.seen.crossed += u64::from(matches!(now, Err(E2eeError::Refused(_))));
        }
        if let OutgoingKind::Commit(advance) = &outgoing.kind
            && verdict == Verdict::Accepted
            && advance.removes
        {
            let position = self.chain.log(self.group).entries.len() as u64 - 1;
            let gone = self.removing[&n];
            self.ideal.removals.entry(gone).or_default().push(position);
        }
        verdict
    }

    fn follow(&mut self, n: usize) -> Result<(), E2eeError> {
        let limit = 1 + self.choice.below(12);
        let client = &mut self.clients[n];
        client.follow(self.group, &self.chain, limit)?;
        if self.choice.one_in(2) {
            client.show()?;
        }
        // The same entries once more change nothing.
        let next = client.device().next_position(self.group)? as usize;
        if self.choice.one_in(8) && next > 0 {
            let entry = &self.chain.log(self.group).entries[next - 1];
            let directory = self.chain.directory_at(entry.place.time_ms);
            let output =
                client
                    .dev()
                    .receive(self.group, entry.place, entry.entry(), &directory)?;
            assert!(output.events.is_empty() && output.outgoing.is_empty());
        }
        Ok(())
    }

    fn tick(&mut self, n: usize) -> Result<(), E2eeError> {
        let now = self.chain.now_ms;
        let client = &mut self.clients[n];
        if self.choice.one_in(4) {
            let mut within = || 10 + self.choice.below(191) as u32;
            let policy = RotationPolicy::new(within(), within()).unwrap();
            client.dev().set_rotation_policy(policy, now)?;
        }
        if self.choice.one_in(4) {
            self.renew(n)?;
        }
        let client = &mut self.clients[n];
        let output = client.dev().tick(now, &self.chain.directory())?;
        client.take(output);
        Ok(())
    }

    fn commit(&mut self, n: usize) -> Result<(), E2eeError> {
        let group = self.group;
        let members = self.clients[n].device().members(group)?;
        let me = self.clients[n].member();
        let now = self.chain.now_ms;
        let result = match self.choice.below(8) {
            0..=2 => {
                // Somebody who is out.
                let inside: BTreeSet<MemberDevice> =
                    members.iter().map(|member| member.member).collect();
                let out: Vec<usize> = (0..self.clients.len())
                    .filter(|other| !inside.contains(&self.clients[*other].member()))
                    .collect();
                if out.is_empty() {
                    return Ok(());
                }
                let other = out[self.choice.below(out.len())];
                if self.clients[other].disk.is_dead() || other == n {
                    return Ok(());
                }
                self.clients[other].disk.power_on(|| true);
                if !self.choice.one_in(4) {
                    self.recertify(other)?;
                }
                let invitee = self.clients[other].invitee(&self.chain);
                let device = self.clients[n].device.as_mut().unwrap();
                device.add(group, &[invitee], &self.chain.directory(), now)
            }
            3..=4 => {
                let target = members[self.choice.below(members.len())].member;
                if target == me {
                    return Ok(());
                }
                let device = self.clients[n].device.as_mut().unwrap();
                let result = device.remove(group, &[target], false, &self.chain.directory());
                if result.is_ok() || self.clients[n].disk.is_dead() {
                    self.removing.insert(n, target);
                }
                result
            }
            5..=6 => {
                let device = self.clients[n].device.as_mut().unwrap();
                device.rotate(group, &self.chain.directory())
            }
            _ => {
                let mut policy = self.clients[n].device().policy(group)?;
                let account = members[self.choice.below(members.len())].member.account;
                if policy.role(account) != Role::Owner {
                    policy.roles.insert(account, Role::Admin);
                }
                policy.name = format!("name {}", self.choice.below(1_000));
                let device = self.clients[n].device.as_mut().unwrap();
                device.set_policy(group, policy, &self.chain.directory())
            }
        };
        match result {
            Ok(output) => {
                self.clients[n].take(output);
                Ok(())
            }
            // Not its to do: nothing has changed, and that is what the end of the world shows.
            Err(E2eeError::Refused(_) | E2eeError::NothingToDo | E2eeError::NoSuchMember) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// A member posts what nobody sealed so: whoever has a posting key can.
    fn forge(&mut self, n: usize) -> Result<(), E2eeError> {
        if self.clients[n].device().status(self.group)? != GroupStatus::Active {
            return Ok(());
        }
        let log = self.chain.log(self.group);
        let frames: Vec<(u64, Vec<u8>)> = log
            .entries
            .iter()
            .filter_map(|entry| match &entry.kind {
                EntryKind::Frame { epoch, frame } => Some((*epoch, frame.clone())),
                _ => None,
            })
            .collect();
        let epoch = log.epoch;
        let mut frame = match frames.len() {
            0 => return Ok(()),
            some => frames[self.choice.below(some)].1.clone(),
        };
        if !frame.is_empty() && !self.choice.one_in(3) {
            let at = self.choice.below(frame.len());
            frame[at] ^= 1 << self.choice.below(8);
        }
        if self.choice.one_in(5) {
            frame.truncate(self.choice.below(40));
        }
        self.seen.forged += 1;
        self.chain.post(self.group, epoch, frame);
        Ok(())
    }

    fn join(&mut self, n: usize) -> Result<(), E2eeError> {
        deliver_mail(&mut self.clients);
        let joined = self.clients[n].join(&self.chain)?;
        self.seen.joins += joined as u64;
        Ok(())
    }

    /// Everything comes to rest.
    fn rest(&mut self) {
        for n in 0..self.clients.len() {
            let choice = &mut self.choice;
            if self.clients[n].disk.is_dead() {
                self.clients[n].restart(|| choice.one_in(2));
            }
            self.clients[n].disk.power_on(|| true);
        }
        self.late.clear();
        self.arrive(true);
        self.chain.tick(ADVANCE_VALID_MS + 1);
        self.settle();
        // What waits for a signature gets it.
        self.chain.tick(6_000);
        let now = self.chain.now_ms;
        for n in 0..self.clients.len() {
            let device = self.clients[n].device.as_mut().unwrap();
            let _ = device.tick(now, &self.chain.directory()).unwrap();
        }
        self.settle();
    }

    /// Everybody sends, follows and joins, until nothing changes.
    fn settle(&mut self) {
        for _ in 0..100 {
            let before = self.chain.log(self.group).entries.len();
            for n in 0..self.clients.len() {
                for outgoing in self.clients[n].device().outbox().unwrap() {
                    if matches!(outgoing.kind, OutgoingKind::Commit(_))
                        && !self.leave(n, outgoing.number).unwrap()
                    {
                        continue;
                    }
                    let verdict = self.submit(n, &outgoing);
                    self.answer(n, &outgoing, verdict).unwrap();
                }
                self.clients[n].sync(&self.chain).unwrap();
            }
            deliver_mail(&mut self.clients);
            let mut joined = 0;
            for client in &mut self.clients {
                joined += client.join(&self.chain).unwrap();
                client.sync(&self.chain).unwrap();
            }
            let waiting = |client: &Client| client.device().outbox().unwrap().len();
            let waiting: usize = self.clients.iter().map(waiting).sum();
            if before == self.chain.log(self.group).entries.len() && joined == 0 && waiting == 0 {
                return;
            }
        }
        panic!("the world does not settle");
    }

    /// What the log says, by its own words: which device's frame stands where.
    fn judge(&mut self, seed: u64) {
        let group = self.group;
        for client in &self.clients {
            assert!(
                client.halted().is_empty(),
                "seed {seed}: {} halted: {:?}",
                client.name,
                client.halted()
            );
            for event in &client.shown {
                match &event.kind {
                    EventKind::Message(message) => {
                        let Content::Text(text) = &message.body.content else {
                            continue;
                        };
                        let said = self.ideal.said.get(text);
                        assert_eq!(said, Some(&message.from), "seed {seed}: {text}");
                        let before = self
                            .ideal
                            .accepted
                            .insert(message.place.position, text.clone());
                        assert!(
                            before.is_none_or(|before| before == *text),
                            "seed {seed}: two texts at {}",
                            message.place.position
                        );
                    }
                    EventKind::Accepted { place, message } => {
                        let _ = (place, message);
                    }
                    EventKind::Removed { .. } => self.seen.removals += 1,
                    EventKind::NotAdded { .. } => self.seen.not_added += 1,
                    EventKind::PolicyChanged { .. } => self.seen.policies += 1,
                    EventKind::KeyRenewed { .. } => self.seen.renewed += 1,
                    EventKind::Forged(name) => panic!("seed {seed}: {name:?} forged"),
                    EventKind::SealedInOurName { .. } => {
                        panic!("seed {seed}: sealed in the name of {}", client.name)
                    }
                    _ => {}
                }
            }
        }
        self.stays();
        self.each_accepted_once(seed);
        let active: Vec<&Client> = self
            .clients
            .iter()
            .filter(|client| {
                client.device().groups().contains(&group)
                    && client.device().status(group).unwrap() == GroupStatus::Active
            })
            .collect();
        let log = self.chain.log(group);
        self.seen.epochs += log.epoch;
        self.seen.texts += self.ideal.accepted.len() as u64;
        for client in &self.clients {
            let me = client.member();
            let stays = self.ideal.stays.get(&me).cloned().unwrap_or_default();
            let expected: Vec<&String> = self
                .ideal
                .accepted
                .iter()
                .filter(|(position, text)| {
                    stays
                        .iter()
                        .any(|(from, to)| from <= position && *position < to)
                        && self.ideal.said[*text] != me
                        && self.readable(&stays, **position)
                })
                .map(|(_, text)| text)
                .collect();
            let shown = client.texts(group);
            let shown: Vec<&String> = shown.iter().collect();
            assert_eq!(shown, expected, "seed {seed}: {}", client.name);
        }
        let (first, rest) = active.split_first().expect("the owner stays");
        let number = |client: &Client| client.device().safety_number(group).unwrap();
        for other in rest {
            assert_eq!(number(first), number(other), "seed {seed}");
            assert_eq!(
                first.device().policy(group).unwrap(),
                other.device().policy(group).unwrap()
            );
            let roster = |client: &Client| -> Vec<(u32, MemberDevice)> {
                let members = client.device().members(group).unwrap();
                members
                    .iter()
                    .map(|member| (member.leaf, member.member))
                    .collect()
            };
            assert_eq!(roster(first), roster(other), "seed {seed}");
        }
    }

    /// A frame of an epoch before one joined cannot be read, by design.
    fn readable(&self, stays: &[(u64, u64)], position: u64) -> bool {
        let log = self.chain.log(self.group);
        let EntryKind::Frame { epoch, .. } = &log.entries[position as usize].kind else {
            return false;
        };
        let joined = stays
            .iter()
            .filter(|(from, _)| *from <= position)
            .map(|(from, _)| *from)
            .max()
            .unwrap_or(0);
        let joined_epoch = log
            .facts
            .values()
            .filter(|facts| facts.next_position == joined)
            .map(|facts| facts.epoch)
            .min()
            .unwrap_or(0);
        *epoch >= joined_epoch
    }

    /// Stretches: from where a device says that it came in, to where the log removes it.
    fn stays(&mut self) {
        let log = self.chain.log(self.group);
        let end = log.entries.len() as u64;
        for client in &self.clients {
            let mut joined: Vec<u64> = Vec::new();
            let mut epochs: Vec<u64> = Vec::new();
            for event in client
                .shown
                .iter()
                .filter(|event| event.group == self.group)
            {
                if let EventKind::Joined { epoch } = event.kind {
                    joined.push(log.facts[&epoch].next_position);
                    epochs.push(epoch);
                }
            }
            let removed = self.ideal.removals.get(&client.member()).cloned();
            let removed = removed.unwrap_or_default();
            let stays = joined
                .iter()
                .map(|from| {
                    let to = removed.iter().find(|to| *to >= from);
                    (*from, to.copied().unwrap_or(end))
                })
                .collect();
            self.ideal.stays.insert(client.member(), stays);
        }
    }

    /// No text was lost, none was said twice.
    fn each_accepted_once(&self, seed: u64) {
        let mut positions: BTreeMap<&String, u64> = BTreeMap::new();
        for (position, text) in &self.ideal.accepted {
            let before = positions.insert(text, *position);
            assert_eq!(before, None, "seed {seed}: {text} is in the log twice");
        }
        for client in &self.clients {
            let mut accepted = BTreeSet::new();
            for event in &client.shown {
                if let EventKind::Accepted { message, .. } = &event.kind {
                    assert!(accepted.insert(*message), "seed {seed}: accepted twice");
                }
            }
        }
    }
}

fn run(seed: u64, suite: Suite, steps: usize) -> Seen {
    let mut world = World::new(seed, suite, 3 + (seed % 3) as usize);
    for _ in 0..steps {
        world.step();
    }
    world.rest();
    world.judge(seed);
    world.seen.shared = world.chain.shared as u64;
    world.seen
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

fn worlds(suite: Suite, count: u64, steps: usize) -> Seen {
    let mut all = Seen::default();
    let seeds = match std::env::var("SEED") {
        Ok(seed) => {
            let seed = seed.parse().unwrap();
            seed..seed + 1
        }
        Err(_) => number("FROM", 0)..number("FROM", 0) + count,
    };
    for seed in seeds {
        let seen = std::panic::catch_unwind(|| run(seed, suite, steps));
        match seen {
            Ok(seen) => add(&mut all, &seen),
            Err(panic) => {
                eprintln!("world {seed} of {suite:?} fails: SEED={seed} replays it");
                std::panic::resume_unwind(panic);
            }
        }
    }
    eprintln!("{suite:?}: {all:?}");
    all
}

#[test]
fn conversations_are_ideal_in_random_worlds() {
    let seen = worlds(Suite::Classical, number("WORLDS", 1_000), 120);
    if std::env::var("SEED").is_err() {
        // Each is hundreds in a thousand worlds.
        let least = [
            seen.crashes,
            seen.races,
            seen.removals,
            seen.joins,
            seen.forged,
            seen.resealed,
            seen.late,
            seen.texts,
            seen.policies,
            seen.shared,
            seen.rotations,
            seen.crossed,
            seen.not_added,
            seen.renewed,
        ];
        assert!(least.iter().all(|count| *count > 0), "{seen:?}");
    }
}

#[test]
fn conversations_are_ideal_in_post_quantum_worlds() {
    worlds(Suite::PostQuantum, number("WORLDS_PQ", 50), 60);
    let _ = VaultError::Full;
}
