//! A group of twenty devices of fourteen accounts survives a day of chaos without a fork.
//!
//! Everything is real but the clocks: the SDK, its directories on disk, a node in a process of its own.
//! A random schedule, whose seed is printed, has people talk, come, go and rotate their keys, two at
//! once now and then; it kills programs where they stand, in the middle of a call as well, and the node
//! with SIGKILL. Three things happen on every such day: a device comes back from an older copy, one comes
//! back from before a commit of its own and has to be brought in again, and one is stolen and heals.
//!
//! In the evening everybody in the group has the same epoch, members and safety number, and every
//! message that anybody was told to be accepted was shown by every device that was in the group at
//! its place: once, in the log's order (`day/judge.rs`).
//!
//! `SESSION_DAY_STEPS` says how much happens on the day, 120 without it, `SESSION_DAY_SEED` repeats one:
//! the same schedule, though not the same races. The devices' timers see a whole day whatever it is.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

#[path = "day/judge.rs"]
mod judge;
#[path = "day/node.rs"]
mod node;
#[path = "day/phone.rs"]
mod phone;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use session_client::e2ee::{Content, GroupStatus, MemberDevice, Policy, Role};
use session_client::{ClientError, Groups, InvitationCode, KeyPackageCode, NewGroup, RpcClient};
use session_core::group::Mode;
use session_core::ids::GroupId;
use session_core::time::{DAY_MS, Time};
use session_crypto::Identity;

use node::{NodeProcess, chain_time};
use phone::{App, Phone, is_of_the_day};

const ACCOUNTS: usize = 14;
const PHONES: usize = 20;
/// Who is in the group from the beginning.
const FIRST: usize = 13;
/// Patience with everything that must come to pass.
const PATIENCE: Duration = Duration::from_secs(400);

/// SplitMix64.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    const fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    const fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What happened on the day, to be printed.
#[derive(Debug, Default)]
struct Tally {
    said: usize,
    kills: usize,
    node_kills: usize,
    cut_short: usize,
    adds: usize,
    removals: usize,
    rotations: usize,
    pairs: usize,
    away: usize,
}

struct Day {
    node: NodeProcess,
    rpc: RpcClient,
    phones: Vec<Phone>,
    group: GroupId,
    random: Random,
    /// The devices' clock.
    now_ms: u64,
    said: BTreeMap<String, MemberDevice>,
    /// Lines that were not brought yet, oldest first: for whom, which.
    mail: Vec<(MemberDevice, InvitationCode)>,
    tally: Tally,
}

fn real_now() -> Time {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap();
    Time::from_ms(now.as_millis() as u64)
}

impl Day {
    async fn begin(base: &std::path::Path, seed: u64) -> Self {
        let node = NodeProcess::start(&base.join("node"));
        let rpc = RpcClient::new(&node.url(), None).unwrap();
        let identities: Vec<Identity> = (0..ACCOUNTS)
            .map(|_| Identity::generate().unwrap())
            .collect();
        let mut phones = Vec::with_capacity(PHONES);
        for n in 0..PHONES {
            // The first six have a second device.
            let identity = &identities[n % ACCOUNTS];
            let name = format!("phone-{n}");
            phones.push(Phone::new(&name, identity, base.join(&name), &rpc).await);
        }
        let mut lines = Vec::with_capacity(FIRST);
        for phone in &mut phones[1..FIRST] {
            lines.push(key_package(phone.groups().unwrap()));
        }
        let first = phones[0].groups().unwrap();
        let mut policy = Policy::new(first.account().chain(), first.account().id());
        for identity in &identities[1..5] {
            policy.roles.insert(identity.account_id(), Role::Admin);
        }
        let new = NewGroup {
            policy,
            mode: Mode::Open,
            budget: 200_000_000,
            reserve: 1_000_000,
        };
        let group = first.create(new, &lines, None).await.unwrap();
        let mut this = Self {
            node,
            rpc,
            phones,
            group,
            random: Random(seed),
            now_ms: real_now().ms(),
            said: BTreeMap::new(),
            mail: Vec::new(),
            tally: Tally::default(),
        };
        this.collect_mail(0).await;
        this.deliver_mail().await;
        assert!(this.mail.is_empty());
        this
    }

    /// Something that a call has brought: only what belongs to such a day may have gone wrong.
    fn survive<T>(&mut self, n: usize, result: Result<T, ClientError>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                let name = &self.phones[n].name;
                assert!(is_of_the_day(&error), "{name}: {error} ({error:?})");
                self.tally.away += 1;
                None
            }
        }
    }

    async fn step(&mut self) {
        let n = self.random.below(PHONES);
        match self.random.below(24) {
            0..=8 => self.say(n).await,
            9..=11 => self.receive(n).await,
            12..=13 => self.tick(n).await,
            14 => self.rotate(n).await,
            15..=16 => self.two_at_once().await,
            17 => self.add().await,
            18..=19 => self.remove().await,
            20 => self.kill(n),
            21 => self.say_and_be_killed(n).await,
            22 => self.kill_node().await,
            _ => self.wake_all().await,
        }
        if self.random.one_in(4) {
            self.wake(n).await;
        }
        self.collect_mail(n).await;
        self.deliver_mail().await;
    }

    fn text(&mut self, n: usize) -> String {
        self.tally.said += 1;
        let text = format!("{} from {n}", self.tally.said);
        self.said.insert(text.clone(), self.phones[n].member);
        text
    }

    async fn say(&mut self, n: usize) {
        let group = self.group;
        if self.phones[n].status(group) != Some(GroupStatus::Active) {
            return;
        }
        let text = self.text(n);
        let groups = self.phones[n].groups().unwrap();
        let said = groups.say(group, &text).await;
        self.survive(n, said);
        self.show(n);
    }

    fn show(&mut self, n: usize) {
        let forgets = self.random.one_in(6);
        self.phones[n].show(forgets);
        if forgets {
            self.kill(n);
        }
    }

    async fn receive(&mut self, n: usize) {
        let group = self.group;
        if self.phones[n].status(group).is_none() {
            return;
        }
        let received = self.phones[n].groups().unwrap().receive(group).await;
        self.survive(n, received);
        self.show(n);
    }

    /// What is due by the device's clock.
    async fn tick(&mut self, n: usize) {
        let (group, now_ms) = (self.group, self.now_ms);
        if self.phones[n].status(group) != Some(GroupStatus::Active) {
            return;
        }
        let ticked = self.phones[n].groups().unwrap().tick(now_ms).await;
        self.survive(n, ticked);
        let flushed = self.phones[n].groups().unwrap().flush(group).await;
        self.survive(n, flushed);
    }

    async fn rotate(&mut self, n: usize) {
        let group = self.group;
        if self.phones[n].status(group) != Some(GroupStatus::Active) {
            return;
        }
        self.tally.rotations += 1;
        let rotated = self.phones[n].groups().unwrap().rotate(group).await;
        self.survive(n, rotated);
    }

    /// Two commits in the same moment: one of them is made anew.
    async fn two_at_once(&mut self) {
        let group = self.group;
        let (a, b) = (self.random.below(PHONES), self.random.below(PHONES));
        let active = |phone: &Phone| phone.status(group) == Some(GroupStatus::Active);
        if a == b || !active(&self.phones[a]) || !active(&self.phones[b]) {
            return;
        }
        self.tally.pairs += 1;
        let mut one = self.phones[a].take().unwrap();
        let mut other = self.phones[b].take().unwrap();
        let text = self.text(a);
        let (first, second) = tokio::join!(
            async {
                let rotated = one.rotate(group).await;
                let said = one.say(group, &text).await;
                rotated.and(said)
            },
            other.rotate(group)
        );
        self.phones[a].put(one);
        self.phones[b].put(other);
        self.survive(a, first);
        self.survive(b, second);
    }

    /// Who is in the group, as the one who is never removed sees it.
    fn members(&self) -> Option<BTreeSet<MemberDevice>> {
        let phone = &self.phones[0];
        let members = phone.is_up().then(|| phone.device().members(self.group))?;
        Some(members.unwrap().iter().map(|m| m.member).collect())
    }

    /// Somebody who is out comes in, or comes back.
    async fn add(&mut self) {
        let group = self.group;
        self.wake(0).await;
        self.receive(0).await;
        let Some(members) = self.members() else {
            return;
        };
        let is_out = |phone: &Phone| {
            let waits = self.mail.iter().any(|(to, _)| *to == phone.member);
            let gone = phone
                .status(group)
                .is_none_or(|s| s == GroupStatus::Removed);
            phone.is_up() && gone && !waits && !members.contains(&phone.member)
        };
        let out: Vec<usize> = (0..PHONES).filter(|n| is_out(&self.phones[*n])).collect();
        if out.is_empty() {
            return;
        }
        let n = out[self.random.below(out.len())];
        let line = key_package(self.phones[n].groups().unwrap());
        // An admin does it, now and then one whose commit another's overtakes.
        let by = self.random.below(5);
        if self.phones[by].status(group) != Some(GroupStatus::Active) {
            return;
        }
        let added = self.phones[by].groups().unwrap().add(group, &[line]).await;
        if self.survive(by, added).is_some() {
            self.tally.adds += 1;
        }
        self.collect_mail(by).await;
    }

    async fn remove(&mut self) {
        let group = self.group;
        self.wake(0).await;
        self.receive(0).await;
        let members = self.members().unwrap_or_default();
        if members.len() < 9 {
            return;
        }
        // Not the first, who sees the whole day.
        let n = 5 + self.random.below(PHONES - 5);
        let gone = self.phones[n].member;
        let by = self.random.below(5);
        let active = self.phones[by].status(group) == Some(GroupStatus::Active);
        if by == n || !active || !members.contains(&gone) || gone == self.phones[0].member {
            return;
        }
        let groups = self.phones[by].groups().unwrap();
        let removed = groups.remove(group, &[gone], false).await;
        if self.survive(by, removed).is_some() {
            self.tally.removals += 1;
        }
    }

    fn kill(&mut self, n: usize) {
        if self.phones[n].is_up() {
            self.tally.kills += 1;
            self.phones[n].kill();
        }
    }

    /// Killed wherever it is just then.
    async fn say_and_be_killed(&mut self, n: usize) {
        let group = self.group;
        if self.phones[n].status(group) != Some(GroupStatus::Active) {
            return;
        }
        let text = self.text(n);
        let after = Duration::from_millis(self.random.below(40) as u64);
        let groups = self.phones[n].groups().unwrap();
        match tokio::time::timeout(after, groups.say(group, &text)).await {
            Ok(said) => drop(self.survive(n, said)),
            Err(_) => self.tally.cut_short += 1,
        }
        self.kill(n);
        self.wake(n).await;
    }

    /// The node ends, with a message under way; now and then it stays away for a while.
    async fn kill_node(&mut self) {
        let group = self.group;
        let n = self.random.below(PHONES);
        self.tally.node_kills += 1;
        if self.phones[n].status(group) == Some(GroupStatus::Active) {
            let text = self.text(n);
            let after = Duration::from_millis(self.random.below(30) as u64);
            let (node, phone) = (&mut self.node, &mut self.phones[n]);
            let groups = phone.groups().unwrap();
            let (said, ()) = tokio::join!(groups.say(group, &text), async {
                tokio::time::sleep(after).await;
                node.kill();
            });
            self.survive(n, said);
        }
        self.node.kill();
        if self.random.one_in(3) {
            for _ in 0..3 {
                let n = self.random.below(PHONES);
                self.say(n).await;
            }
        }
        self.node.restart();
    }

    async fn wake(&mut self, n: usize) {
        self.phones[n].open(&self.rpc).await;
    }

    async fn wake_all(&mut self) {
        for n in 0..PHONES {
            self.wake(n).await;
        }
    }

    /// Lines that a device has for those whom it has added.
    async fn collect_mail(&mut self, n: usize) {
        let group = self.group;
        if self.phones[n].status(group) != Some(GroupStatus::Active) {
            return;
        }
        let invited = self.phones[n].groups().unwrap().invitations(group).await;
        for invited in self.survive(n, invited).unwrap_or_default() {
            let code: InvitationCode = invited.code.to_string().parse().unwrap();
            self.mail
                .extend(invited.to.iter().map(|to| (*to, code.clone())));
            let groups = self.phones[n].groups().unwrap();
            groups.handed_over(invited.number).unwrap();
        }
    }

    async fn deliver_mail(&mut self) {
        for (to, code) in std::mem::take(&mut self.mail) {
            let n = self.phones.iter().position(|phone| phone.member == to);
            let n = n.unwrap();
            let joined = match self.phones[n].groups() {
                Some(groups) => groups.join(&code).await.map(drop),
                None => {
                    self.mail.push((to, code));
                    continue;
                }
            };
            if self.survive(n, joined).is_none() {
                self.mail.push((to, code));
            }
        }
    }

    /// Everybody up, everything sent, read and joined.
    async fn settle(&mut self) {
        let group = self.group;
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "the day does not come to rest");
            if !self.node.is_up() {
                self.node.restart();
            }
            self.wake_all().await;
            let mut waiting = self.mail.len();
            for n in 0..PHONES {
                match self.phones[n].status(group) {
                    None => continue,
                    Some(GroupStatus::Active) => {}
                    Some(_) => {
                        self.receive_now(n).await;
                        continue;
                    }
                }
                let flushed = self.phones[n].groups().unwrap().flush(group).await;
                waiting += self
                    .survive(n, flushed)
                    .map_or(1, |flushed| flushed.waiting);
                self.phones[n].show(false);
                self.collect_mail(n).await;
            }
            self.deliver_mail().await;
            let next = |phone: &Phone| match phone.status(group) {
                Some(GroupStatus::Active) => phone.device().next_position(group).ok(),
                _ => None,
            };
            let places: BTreeSet<u64> = self.phones.iter().filter_map(next).collect();
            if waiting == 0 && places.len() == 1 {
                return;
            }
            chain_time(2_000).await;
        }
    }

    async fn receive_now(&mut self, n: usize) {
        let received = self.phones[n].groups().unwrap().receive(self.group).await;
        self.survive(n, received);
        self.phones[n].show(false);
    }

    /// A commit of this device that the chain has accepted.
    async fn rotate_surely(&mut self, n: usize) {
        let group = self.group;
        let before = self.phones[n].device().epoch(group).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "a rotation does not come through");
            let groups = self.phones[n].groups().unwrap();
            let rotated = match groups.rotate(group).await {
                Err(ClientError::E2ee(_)) => groups.flush(group).await,
                rotated => rotated,
            };
            let flushed = self.survive(n, rotated);
            let epoch = self.phones[n].device().epoch(group).unwrap();
            if flushed.is_some_and(|flushed| flushed.waiting == 0) && epoch > before {
                self.phones[n].show(false);
                return;
            }
            chain_time(2_000).await;
        }
    }

    /// Somebody who is in the group, is nobody's admin, and was in none of these stories yet.
    fn somebody(&mut self, but: &[usize]) -> usize {
        let group = self.group;
        let active = |n: &usize| self.phones[*n].status(group) == Some(GroupStatus::Active);
        let all: Vec<usize> = (5..PHONES)
            .filter(active)
            .filter(|n| {
                !but.contains(n) && self.phones[*n].member.account != self.phones[0].member.account
            })
            .collect();
        all[self.random.below(all.len())]
    }

    /// A device that comes back from an older copy follows the log, is told, and goes on.
    async fn back_from_an_older_copy(&mut self, base: &std::path::Path) -> usize {
        self.settle().await;
        let n = self.somebody(&[]);
        let copy = base.join("older");
        self.phones[n].copy_to(&copy);
        let app = self.phones[n].app.clone();
        self.wake(n).await;
        self.say_surely(n).await;
        self.say_surely(0).await;
        self.say_surely(n).await;
        self.phones[n].restore(&copy, app);
        self.wake(n).await;
        self.receive_now(n).await;
        let told = self.phones[n].app.shown.contains(&phone::Shown::Copied);
        assert!(told, "a device from an older copy is told");
        self.say_surely(n).await;
        n
    }

    /// One from before a commit of its own cannot follow it. It is brought in again.
    async fn back_from_before_its_own_commit(
        &mut self,
        base: &std::path::Path,
        but: &[usize],
    ) -> usize {
        let group = self.group;
        self.settle().await;
        let n = self.somebody(but);
        let copy = base.join("before");
        self.phones[n].copy_to(&copy);
        let app: App = self.phones[n].app.clone();
        self.wake(n).await;
        self.rotate_surely(n).await;
        self.say_surely(0).await;
        self.phones[n].restore(&copy, app);
        self.wake(n).await;
        self.receive_now(n).await;
        assert_eq!(self.phones[n].status(group), Some(GroupStatus::Halted));
        let member = self.phones[n].member;
        let until = Instant::now() + PATIENCE;
        while self.members().unwrap().contains(&member) {
            assert!(Instant::now() < until, "it is not removed");
            let groups = self.phones[0].groups().unwrap();
            let removed = groups.remove(group, &[member], false).await;
            self.survive(0, removed);
            self.flush_first().await;
        }
        let line = key_package(self.phones[n].groups().unwrap());
        while !self.members().unwrap().contains(&member) {
            assert!(Instant::now() < until, "it is not added");
            let groups = self.phones[0].groups().unwrap();
            let added = groups.add(group, std::slice::from_ref(&line)).await;
            self.survive(0, added);
            self.flush_first().await;
        }
        self.collect_mail(0).await;
        self.deliver_mail().await;
        assert_eq!(self.phones[n].status(group), Some(GroupStatus::Active));
        self.say_surely(n).await;
        n
    }

    async fn flush_first(&mut self) {
        chain_time(2_000).await;
        let flushed = self.phones[0].groups().unwrap().flush(self.group).await;
        self.survive(0, flushed);
        self.phones[0].show(false);
    }

    async fn say_surely(&mut self, n: usize) {
        let group = self.group;
        let text = self.text(n);
        let groups = self.phones[n].groups().unwrap();
        groups.keep(group, &[Content::Text(text)]).unwrap();
        let until = Instant::now() + PATIENCE;
        loop {
            let flushed = self.phones[n].groups().unwrap().flush(group).await;
            let flushed = self.survive(n, flushed);
            if flushed.is_some_and(|flushed| flushed.waiting == 0) {
                break;
            }
            assert!(Instant::now() < until, "a message does not come through");
            chain_time(2_000).await;
        }
        self.phones[n].show(false);
    }

    /// A copy of a device reads along until that device has new keys, and not a word after it.
    async fn stolen_and_healed(&mut self, base: &std::path::Path, but: &[usize]) -> Theft {
        let group = self.group;
        self.settle().await;
        let n = self.somebody(but);
        let copy = base.join("stolen");
        self.phones[n].copy_to(&copy);
        let mut thief = self.phones[n].thief(&copy, &self.rpc).await;
        self.wake(n).await;
        self.say_surely(0).await;
        thief.groups().unwrap().receive(group).await.unwrap();
        thief.show(false);
        let heard = thief.app.shown.len() > self.phones[n].app.shown.len();
        assert!(heard, "a thief reads along until the device heals");
        self.rotate_surely(n).await;
        let healed_in = self.phones[n].device().epoch(group).unwrap();
        // Who has not seen the rotation yet still seals in the epoch before it.
        self.receive_now(0).await;
        self.say_surely(0).await;
        Theft { thief, healed_in }
    }
}

struct Theft {
    thief: Phone,
    /// What is sealed in this epoch and later ones is none of the thief's business.
    healed_in: u64,
}

fn key_package(groups: &mut Groups) -> KeyPackageCode {
    let week = real_now().after_ms(7 * DAY_MS);
    let line = groups.key_package(week).unwrap().to_string();
    line.parse().unwrap()
}

/// Not a test of its own: the process that the test starts and kills.
#[tokio::test(flavor = "multi_thread")]
async fn the_node_of_the_day() {
    node::serve().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_twenty_survives_a_day_of_chaos_without_a_fork() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().unwrap());
    let seed = number("SESSION_DAY_SEED").unwrap_or_else(|| real_now().ms());
    let steps = number("SESSION_DAY_STEPS").unwrap_or(120);
    println!("SESSION_DAY_SEED={seed} SESSION_DAY_STEPS={steps}");
    let began = Instant::now();
    let directory = tempfile::tempdir().unwrap();
    let base = directory.path();
    let mut day = Day::begin(base, seed).await;
    println!("{:?}: the group stands", began.elapsed());
    let mut told = Vec::new();
    let mut theft = None;
    for step in 0..steps {
        day.now_ms += DAY_MS / steps;
        day.step().await;
        if step == steps / 4 {
            told.push(day.back_from_an_older_copy(base).await);
        } else if step == steps / 2 {
            let n = day.back_from_before_its_own_commit(base, &told).await;
            told.push(n);
        } else if step == steps * 3 / 4 {
            theft = Some(day.stolen_and_healed(base, &told).await);
        }
    }
    println!("{:?}: evening", began.elapsed());
    day.settle().await;
    // What waits for a signature, or for new keys, gets them.
    day.now_ms += 6_000;
    for n in 0..PHONES {
        day.tick(n).await;
    }
    day.settle().await;
    println!("{:?}: {:?}", began.elapsed(), day.tally);
    judge::judge(&day, theft.expect("a day has a theft")).await;
    println!("{:?}: judged", began.elapsed());
}
