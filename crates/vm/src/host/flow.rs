//! How much a node takes from its callers, and which transactions it puts into a block first.
//!
//! Between nodes there is less room than in them: by default a node of avalanchego takes 512 KiB
//! a second from each peer, consensus included. Whatever more is let in waits, and in the end
//! keeps consensus waiting too. So a node lets in what the chain has lately shown to take in
//! 350 ms, and tells everybody else when to come again.
//!
//! A transaction that another node told of is in that node's next block already, most likely.
//! Where every node may build at any time, building for it here as well would only make a rival
//! of that block, so it waits a while. Where nodes take turns (sybil protection is on), the node
//! whose turn it is builds for everybody, at once. Which of the two it is shows in how soon the
//! host asks for a block after the preferred one has changed: always, or in one's own turn alone.
//!
//! Where everybody may build and several keep building at once, all but one of their blocks are
//! in vain. Once a node notices that, or blocks carry many transactions, it takes turns with the
//! others of its own accord: who comes first at a height follows from their ids, and the next ones
//! wait a step each.
//!
//! A block costs the whole network a round of votes, whatever its size. So while one is undecided
//! its successor waits for it, unless there is much to put in; and where blocks carry many
//! transactions the next one waits about as long as a decision takes, for more to come. One
//! transaction at a time never waits.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use session_core::ids::{ActionId, BlockId};

/// The chain's rate is that of so long.
const WINDOW: Duration = Duration::from_secs(2);

/// What is let in is accepted within so long, at that rate.
const AHEAD: Duration = Duration::from_millis(350);

/// What is let in whatever the rate: what is pushed to others in so long, or while the chain takes
/// nothing of what waits, …
const FLOOR: Duration = Duration::from_millis(600);

/// … within these: with less a burst of one caller's would not fit, with more others would wait.
const FLOOR_BYTES: (u64, u64) = (32 << 10, 512 << 10);

/// Where everybody may build, a transaction of another node's is that node's to build for so long;
/// …
const RIPE: Duration = Duration::from_millis(250);

/// … where nodes take turns, for so long: others that it told of come with it.
const RIPE_IN_TURN: Duration = Duration::from_millis(3);

/// Of a thousand changes of the preference, after so many the host asks at once where everybody
/// may build. With two nodes that take turns it is half of them.
const EVERYBODY: u32 = 600;

/// What each node that comes before this one is left to build first: as long as a decision takes,
/// within these.
const STEP: (Duration, Duration) = (Duration::from_millis(60), Duration::from_millis(500));

/// Nobody leaves more than so many others their turn.
const RANK_MAX: u32 = 8;

/// Of a thousand own blocks, from so many rejected on turns are taken, …
const CONTENDED: u32 = 250;

/// … until it is fewer than that.
const PEACEFUL: u32 = 50;

/// From so many waiting bytes on a block is built on an undecided one, …
const TOGETHER_BYTES: usize = 256 << 10;

/// … and for fewer if its decision takes longer than this, and than decisions take.
const DECISION: Duration = Duration::from_millis(150);

/// A block of so many transactions is one of many callers at once: more will come.
const BUSY_TXS: usize = 8;

/// The successor of a busy block waits for more at most so long.
const PACE_MAX: Duration = Duration::from_millis(250);

/// Undecided blocks whose beginning is remembered.
const UNDECIDED_MAX: usize = 1_024;

/// Where there is room for less than what is usual, and than this, nobody is let in: looking at each
/// transaction would cost more than the room is worth.
const ROOM: u64 = 4 << 10;

/// What a hint says at least and at most.
const HINT: (u64, u64) = (100, 2_000);

/// What is on its way.
#[derive(Debug, Default)]
pub(super) struct Flow {
    /// Others are told of so many bytes a second.
    push_bytes_per_second: u64,
    /// Since when own transactions wait and none of them was accepted.
    stalled_since: Option<Instant>,
    own: HashMap<ActionId, u64>,
    own_bytes: u64,
    foreign: HashMap<ActionId, Instant>,
    accepted: VecDeque<(Instant, u64)>,
    accepted_bytes: u64,
    /// Of a thousand changes of the preference, how many the host asked for a block after.
    asked_share: u32,
    asked: bool,
    /// Of a thousand own blocks, how many were rejected.
    rejected_share: u32,
    takes_turns: bool,
    /// What a decision takes, the newest counting an eighth.
    decision: Duration,
    /// Whether the last accepted block was a busy one.
    is_busy: bool,
    /// Undecided blocks, and since when this node has them.
    undecided: HashMap<BlockId, Instant>,
    /// The preferred block, and since when one on it was wanted.
    wanted: Option<(BlockId, Instant)>,
    /// Whether it was not built then.
    held_back: bool,
}

impl Flow {
    /// Nothing is on its way; others are told of so many bytes a second.
    pub(super) fn new(push_bytes_per_second: u64) -> Self {
        Self {
            push_bytes_per_second,
            ..Self::default()
        }
    }

    /// Bytes that are let in whatever the rate. Where a validator is dead the chain stands still until
    /// the next one's turn, seconds later, and then takes a block of whatever waits.
    fn floor_bytes(&self, now: Instant) -> u64 {
        let since = self.stalled_since.unwrap_or(now);
        let time = FLOOR.max(now.saturating_duration_since(since));
        let floor = u128::from(self.push_bytes_per_second) * time.as_millis() / 1_000;
        let floor = u64::try_from(floor).unwrap_or(u64::MAX);
        floor.clamp(FLOOR_BYTES.0, FLOOR_BYTES.1)
    }

    /// The host asks for a block.
    pub(super) fn asked(&mut self) {
        self.asked = true;
    }

    /// Whether it has asked since the preferred block changed.
    pub(super) const fn is_asked(&self) -> bool {
        self.asked
    }

    /// The preferred block has changed.
    pub(super) fn preferred(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.asked_share = share_with(self.asked_share, asked);
    }

    /// The host votes on a block from now on.
    pub(super) fn began(&mut self, block: BlockId, now: Instant) {
        if self.undecided.len() >= UNDECIDED_MAX {
            // The host has forgotten them: it decides on a few at a time.
            self.undecided.clear();
        }
        self.undecided.entry(block).or_insert(now);
    }

    /// A block is accepted, with so many transactions, or is not (`None`).
    pub(super) fn ended(&mut self, block: &BlockId, accepted: Option<usize>, now: Instant) {
        let began = self.undecided.remove(block);
        let Some(txs) = accepted else { return };
        self.is_busy = txs >= BUSY_TXS;
        if let Some(began) = began {
            let took = now.saturating_duration_since(began);
            self.decision = self.decision * 7 / 8 + took / 8;
        }
    }

    /// A block that was built here is decided.
    pub(super) fn decided(&mut self, accepted: bool) {
        self.rejected_share = share_with(self.rejected_share, !accepted);
        if self.rejected_share >= CONTENDED {
            self.takes_turns = true;
        } else if self.rejected_share < PEACEFUL {
            self.takes_turns = false;
        }
    }

    /// Whether a block on `parent`, which is wanted now, is better built a little later: since
    /// there is little to put in and `parent` is undecided, or more will come; or since others
    /// come first, of whom `rank` tells how many.
    pub(super) fn holds_back(
        &mut self,
        parent: BlockId,
        undecided: bool,
        bytes: usize,
        rank: impl FnOnce() -> u32,
        now: Instant,
    ) -> bool {
        let since = match self.wanted {
            Some((of, since)) if of == parent => since,
            Some(_) | None => now,
        };
        self.wanted = Some((parent, since));
        let age = now.saturating_duration_since(since);
        let patience = match undecided {
            true => DECISION.max(self.decision),
            false => self.pace(),
        };
        let rank = match self.is_open() && (self.takes_turns || self.is_busy) {
            true => rank().min(RANK_MAX),
            false => 0,
        };
        let wait = match rank {
            0 if bytes >= TOGETHER_BYTES => Duration::ZERO,
            0 => patience,
            // Whoever comes first may wait as long.
            rank => patience + self.step() * rank,
        };
        self.held_back = age < wait;
        self.held_back
    }

    /// How long the next block waits for more to put in.
    fn pace(&self) -> Duration {
        let busy = self.is_busy.then_some(self.decision.min(PACE_MAX));
        busy.unwrap_or_default()
    }

    /// What each node that comes first is given.
    fn step(&self) -> Duration {
        self.decision.clamp(STEP.0, STEP.1)
    }

    /// Whether everybody may build at any time.
    const fn is_open(&self) -> bool {
        self.asked_share >= EVERYBODY
    }

    fn patience(&self) -> Duration {
        // Who takes turns builds for everybody as well.
        let alone = self.is_open() && !self.takes_turns && !self.is_busy;
        if alone { RIPE } else { RIPE_IN_TURN }
    }

    /// Whether a block is wanted, `waiting` being the transactions that there are.
    pub(super) fn is_wanted<'a>(
        &self,
        mut waiting: impl Iterator<Item = &'a ActionId>,
        now: Instant,
    ) -> bool {
        waiting.any(|action| self.is_ripe(action, now))
    }

    /// Forgets what lies too far back to tell the rate.
    fn turn(&mut self, now: Instant) {
        while let Some((at, bytes)) = self.accepted.front().copied()
            && now.saturating_duration_since(at) > WINDOW
        {
            self.accepted.pop_front();
            self.accepted_bytes -= bytes;
        }
    }

    /// Bytes of own transactions that may be on their way.
    fn allowed(&self, now: Instant) -> u64 {
        let share =
            AHEAD.as_millis().saturating_mul(self.accepted_bytes.into()) / WINDOW.as_millis();
        u64::try_from(share)
            .unwrap_or(u64::MAX)
            .max(self.floor_bytes(now))
    }

    /// In how many milliseconds to try again, where not even a small transaction is let in. It is
    /// asked before anything is spent on one.
    pub(super) fn is_full(&mut self, now: Instant) -> Option<u64> {
        self.turn(now);
        // Whatever comes first is let in.
        let usual = self.own_bytes.checked_div(self.own.len() as u64)?;
        (self.own_bytes + usual.min(ROOM) > self.allowed(now)).then_some(HINT.0)
    }

    /// Lets an own transaction in, or tells in how many milliseconds to try again.
    pub(super) fn admit(
        &mut self,
        action: ActionId,
        bytes: usize,
        now: Instant,
    ) -> Result<(), u64> {
        self.turn(now);
        let bytes = bytes as u64;
        // One that is larger than all that may be on its way goes alone.
        let allowed = self.allowed(now);
        if self.own_bytes > 0 && self.own_bytes + bytes > allowed {
            let per_ms =
                (self.accepted_bytes / u64::try_from(WINDOW.as_millis()).unwrap_or(1)).max(1);
            let wait = (self.own_bytes + bytes - allowed) / per_ms;
            return Err(wait.clamp(HINT.0, HINT.1));
        }
        if self.own_bytes == 0 {
            self.stalled_since = Some(now);
        }
        if self.own.insert(action, bytes).is_none() {
            self.own_bytes += bytes;
        }
        Ok(())
    }

    /// Another node told of a transaction.
    pub(super) fn told(&mut self, action: ActionId, now: Instant) {
        self.foreign.insert(action, now);
    }

    /// A transaction was accepted.
    pub(super) fn accepted(&mut self, action: &ActionId, bytes: usize, now: Instant) {
        // What the chain takes of others is theirs to count.
        if self.over(action) {
            self.stalled_since = Some(now);
            self.accepted.push_back((now, bytes as u64));
            self.accepted_bytes += bytes as u64;
            self.turn(now);
        }
    }

    /// A transaction is no longer on its way. Answers whether it was an own one.
    pub(super) fn over(&mut self, action: &ActionId) -> bool {
        self.foreign.remove(action);
        let own = self.own.remove(action);
        self.own_bytes -= own.unwrap_or_default();
        own.is_some()
    }

    /// Drops everything that is no longer on its way, whoever ended it.
    pub(super) fn keep(&mut self, is_on_its_way: impl Fn(&ActionId) -> bool) {
        self.foreign.retain(|action, _| is_on_its_way(action));
        self.own.retain(|action, _| is_on_its_way(action));
        self.own_bytes = self.own.values().sum();
    }

    /// Whether a transaction is for this node to build.
    fn is_ripe(&self, action: &ActionId, now: Instant) -> bool {
        let told = self.foreign.get(action);
        told.is_none_or(|told| now.saturating_duration_since(*told) >= self.patience())
    }

    /// How soon something changes by time alone, if anything does.
    pub(super) fn wakes_in(&self, now: Instant) -> Option<Duration> {
        let turn = self.held_back.then_some(STEP.0 / 4);
        match (self.ripens_in(now), turn) {
            (Some(ripens), Some(turn)) => Some(ripens.min(turn)),
            (either, other) => either.or(other),
        }
    }

    fn ripens_in(&self, now: Instant) -> Option<Duration> {
        let patience = self.patience();
        let ages = self.foreign.values();
        ages.map(|told| now.saturating_duration_since(*told))
            .filter_map(|age| patience.checked_sub(age))
            .filter(|left| !left.is_zero())
            .min()
    }
}

/// A share of a thousand in which the newest case counts an eighth.
const fn share_with(share: u32, newest: bool) -> u32 {
    share * 7 / 8 + if newest { 125 } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(i: u64) -> ActionId {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&i.to_be_bytes());
        ActionId::from_bytes(id)
    }

    /// Callers offer more than the chain takes; what is let in is accepted within a second.
    #[test]
    fn what_is_let_in_follows_what_the_chain_takes() {
        for rate in [20_000u64, 400_000, 5_000_000] {
            let start = Instant::now();
            let mut flow = Flow::new(200_000);
            let mut queue: VecDeque<(ActionId, Instant)> = VecDeque::new();
            let (mut next, mut taken, mut worst, mut credit) = (0, 0u64, Duration::ZERO, 0u64);
            for ms in 0..10_000u64 {
                let now = start + Duration::from_millis(ms);
                while flow.admit(action(next), 4_000, now).is_ok() {
                    queue.push_back((action(next), now));
                    next += 1;
                }
                credit += rate / 1_000;
                while credit >= 4_000
                    && let Some((id, since)) = queue.pop_front()
                {
                    credit -= 4_000;
                    flow.accepted(&id, 4_000, now);
                    taken += 4_000;
                    // The first seconds only know the floor.
                    if ms > 3_000 {
                        worst = worst.max(now - since);
                    }
                }
            }
            assert!(
                taken * 10 >= rate * 10 * 9,
                "{taken} of {rate} a second in 10 s"
            );
            let floor = Duration::from_millis(flow.floor_bytes(start) * 1_000 / rate);
            assert!(
                worst <= floor.max(AHEAD) + Duration::from_millis(250),
                "{worst:?} at {rate}"
            );
        }
    }

    #[test]
    fn hints_are_given_and_retries_are_counted_once() {
        let now = Instant::now();
        let mut flow = Flow::new(160 << 10);
        assert_eq!(flow.admit(action(0), 500_000, now), Ok(()));
        let hint = flow.admit(action(1), 4_000, now).unwrap_err();
        assert!((HINT.0..=HINT.1).contains(&hint));
        flow.over(&action(0));
        assert_eq!(flow.admit(action(1), 4_000, now), Ok(()));
        assert_eq!(flow.admit(action(1), 4_000, now), Ok(()));
        assert_eq!(flow.own_bytes, 4_000);
        flow.keep(|_| false);
        assert_eq!(flow.own_bytes, 0);
    }

    #[test]
    fn where_no_more_fits_nothing_is_looked_at() {
        let now = Instant::now();
        let mut flow = Flow::new(160 << 10);
        let mut next = 0;
        let mut fill = |flow: &mut Flow, bytes| {
            while flow.admit(action(next), bytes, now).is_ok() {
                assert_eq!(flow.own_bytes, flow.own.values().sum::<u64>());
                next += 1;
            }
            next - 1
        };
        assert_eq!(flow.is_full(now), None);
        // 24 of these fit to the byte, and a 25th is not looked at.
        let last = fill(&mut flow, 4_096);
        assert_eq!((flow.own.len(), flow.own_bytes), (24, 96 << 10));
        assert_eq!(flow.is_full(now), Some(HINT.0));
        flow.over(&action(last));
        assert_eq!(flow.is_full(now), None);
        assert_eq!(flow.admit(action(last), 3_000, now), Ok(()));
        assert_eq!(flow.is_full(now), Some(HINT.0));
        // What is large leaves room for what is small.
        let mut flow = Flow::new(160 << 10);
        assert_eq!(flow.admit(action(0), 90_000, now), Ok(()));
        assert_eq!(flow.is_full(now), None);
        assert_eq!(flow.admit(action(1), 6_000, now), Ok(()));
        assert_eq!(flow.is_full(now), Some(HINT.0));
        // One that is larger than everything goes alone.
        let mut flow = Flow::new(160 << 10);
        assert_eq!(flow.admit(action(0), 300_000, now), Ok(()));
        assert_eq!(flow.is_full(now), Some(HINT.0));
        flow.over(&action(0));
        assert_eq!(flow.is_full(now), None);
    }

    #[test]
    fn what_others_told_of_waits_longer_where_everybody_may_build() {
        let now = Instant::now();
        let mut flow = Flow::default();
        flow.told(action(1), now);
        assert!(flow.is_ripe(&action(2), now));
        assert!(!flow.is_ripe(&action(1), now));
        assert_eq!(flow.ripens_in(now), Some(RIPE_IN_TURN));
        assert!(flow.is_ripe(&action(1), now + RIPE_IN_TURN));
        assert_eq!(flow.ripens_in(now + RIPE_IN_TURN), None);
        // Two that take turns, then everybody at any time, then turns again.
        let mut change = |asked: bool| {
            if asked {
                flow.asked();
            }
            flow.preferred();
            flow.patience()
        };
        (0..99).for_each(|i| assert_eq!(change(i % 2 == 0), RIPE_IN_TURN));
        (0..20).for_each(|_| _ = change(true));
        assert_eq!(change(true), RIPE);
        (0..8).for_each(|_| _ = change(false));
        assert_eq!(change(false), RIPE_IN_TURN);
    }

    #[test]
    fn turns_are_taken_while_blocks_are_built_in_vain() {
        let now = Instant::now();
        let (mut flow, parent) = (Flow::default(), BlockId::from_bytes([7; 32]));
        (0..20).for_each(|_| {
            flow.asked();
            flow.preferred();
        });
        let holds =
            |flow: &mut Flow, rank: u32, now| flow.holds_back(parent, false, 0, || rank, now);
        assert!(!holds(&mut flow, 4, now));
        (0..3).for_each(|_| flow.decided(false));
        assert!(holds(&mut flow, 1, now));
        assert!(!holds(&mut flow, 0, now));
        assert!(!holds(&mut flow, 1, now + STEP.0));
        assert!(holds(&mut flow, 2, now + STEP.0));
        assert!(flow.wakes_in(now).is_some());
        (0..20).for_each(|_| flow.decided(true));
        assert!(!flow.holds_back(BlockId::from_bytes([8; 32]), false, 0, || 4, now));
        assert_eq!(flow.wakes_in(now), None);
    }

    #[test]
    fn a_block_on_an_undecided_one_is_built_for_much_or_after_a_while() {
        let now = Instant::now();
        let mut flow = Flow::default();
        let (own, foreign) = (action(1), action(2));
        flow.told(foreign, now);
        assert!(flow.is_wanted([foreign, own].iter(), now));
        assert!(!flow.is_wanted([foreign].iter(), now));
        assert!(!flow.is_wanted([].iter(), now));
        let parent = BlockId::from_bytes([7; 32]);
        let mut holds =
            |undecided, bytes, now| flow.holds_back(parent, undecided, bytes, || 0, now);
        assert!(!holds(false, 10, now));
        assert!(holds(true, 10, now));
        assert!(!holds(true, TOGETHER_BYTES, now));
        assert!(!holds(true, 10, now + DECISION));
    }

    #[test]
    fn after_a_busy_block_more_is_waited_for_as_long_as_a_decision_takes() {
        let mut now = Instant::now();
        let mut flow = Flow::default();
        let block = |i: u8| BlockId::from_bytes([i; 32]);
        let took = Duration::from_millis(120);
        let mut decide = |flow: &mut Flow, i: u8, txs: Option<usize>| {
            flow.began(block(i), now);
            now += took;
            flow.ended(&block(i), txs, now);
            now
        };
        // One caller at a time never waits, however long decisions take.
        for i in 0..40 {
            let now = decide(&mut flow, i, Some(BUSY_TXS - 1));
            assert!(!flow.holds_back(block(i), false, 10, || 0, now));
        }
        let now = decide(&mut flow, 40, Some(BUSY_TXS));
        let wait = flow.decision;
        assert!(took * 9 / 10 <= wait && wait <= took, "{wait:?}");
        assert!(flow.holds_back(block(40), false, 10, || 0, now));
        assert!(flow.wakes_in(now).is_some());
        assert!(!flow.holds_back(block(40), false, TOGETHER_BYTES, || 0, now));
        assert!(!flow.holds_back(block(40), false, 10, || 0, now + wait));
        // Where everybody may build, the others leave the first one its time, and a step each.
        (0..20).for_each(|_| {
            flow.asked();
            flow.preferred();
        });
        let much = |flow: &mut Flow, rank, now| {
            flow.holds_back(block(40), false, TOGETHER_BYTES, || rank, now)
        };
        assert!(!much(&mut flow, 0, now));
        let step = flow.step();
        assert!(much(&mut flow, 1, now + wait));
        assert!(!much(&mut flow, 1, now + wait + step));
        assert!(much(&mut flow, 2, now + wait + step));
        assert_eq!(flow.patience(), RIPE_IN_TURN);
        // What was rejected tells nothing, and is forgotten.
        let rejected = decide(&mut flow, 41, None);
        assert!(flow.undecided.is_empty() && flow.is_busy);
        let quiet = decide(&mut flow, 42, Some(1));
        assert!(rejected < quiet && !flow.is_busy);
        assert_eq!(flow.patience(), RIPE);
    }

    #[test]
    fn what_is_let_in_at_first_follows_what_others_are_told() {
        let now = Instant::now();
        assert_eq!(Flow::new(160 << 10).allowed(now), 96 << 10);
        assert_eq!(Flow::new(0).allowed(now), FLOOR_BYTES.0);
        assert_eq!(Flow::new(u64::MAX).allowed(now), FLOOR_BYTES.1);
    }

    /// A chain that stands still for seconds at a time is given blocks to take in between.
    #[test]
    fn more_is_let_in_while_the_chain_takes_nothing() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut flow = Flow::new(160 << 10);
        // Nobody waits: the pause tells nothing.
        assert_eq!(flow.allowed(at(60_000)), 96 << 10);
        assert_eq!(flow.admit(action(0), 90 << 10, at(60_000)), Ok(()));
        assert!(flow.admit(action(1), 90 << 10, at(60_500)).is_err());
        assert_eq!(flow.admit(action(1), 90 << 10, at(62_000)), Ok(()));
        assert_eq!(flow.allowed(at(90_000)), FLOOR_BYTES.1);
        flow.accepted(&action(0), 90 << 10, at(65_000));
        assert_eq!(flow.allowed(at(65_100)), 96 << 10);
        flow.accepted(&action(1), 90 << 10, at(65_200));
        assert_eq!(flow.admit(action(2), 4_000, at(99_000)), Ok(()));
        assert_eq!(flow.allowed(at(99_000)), 96 << 10);
    }
}
