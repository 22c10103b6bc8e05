//! What was said in a conversation, as a person sees it: folded from what was written down, line by
//! line.
//!
//! ```text
//! this device says something ─┐
//! events of the device ───────┼─▶ records, in a sealed file ─▶ Transcript: lines, ticks, marks
//! somebody looked; it is gone ┘
//! ```
//!
//! The same records give the same transcript, whenever it is read. It has no clock and no files:
//! those are in [`file`].

pub(crate) mod file;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use session_core::ids::AccountId;
use session_e2ee::{
    Attachment, Authenticity, Body, Content, DeviceId, EventKind, LogPlace, MemberDevice, Message,
    MessageName,
};

pub use record::{Gone, Record};

/// What is said about messages that are not there yet, at most: a device seals again what was
/// refused, so an edit may come before its message.
const EARLY_MAX: usize = 256;

/// How far a message of one's own has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tick {
    /// It waits in the outbox.
    Waiting,
    /// It never will be accepted: the group has ended.
    Failed,
    /// The chain has it.
    Accepted,
    /// A device of every other account has it.
    Delivered,
    /// Everybody else has read it.
    Read,
}

/// What a message is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Words {
    /// Text.
    Text(String),
    /// A file, with words that may be empty.
    File(Box<Attachment>, String),
    /// A kind of content that this program does not know.
    Unknown(u16),
}

/// A message, with all that happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its name.
    pub name: MessageName,
    /// Who said it.
    pub from: MemberDevice,
    /// Where the log has it; none while it waits.
    pub place: Option<LogPlace>,
    /// Block time once it is accepted, the sender's clock before; milliseconds.
    pub time_ms: u64,
    /// What it says now.
    pub words: Words,
    /// What it answers.
    pub reply_to: Option<MessageName>,
    /// Whether its words were changed.
    pub edited: bool,
    /// Why its words are gone.
    pub gone: Option<Gone>,
    /// Emojis, by account.
    pub reactions: BTreeMap<AccountId, String>,
    /// How far its sender is proved.
    pub authenticity: Authenticity,
    /// Accounts that have it.
    pub delivered: BTreeSet<AccountId>,
    /// Accounts that have read it.
    pub read: BTreeSet<AccountId>,
    /// Whether this account told its sender that it has it, and that it has read it.
    pub told: Told,
    /// Whether the group ended before it was accepted.
    pub failed: bool,
    /// When its words go, in milliseconds; none: never.
    pub goes_at_ms: Option<u64>,
}

/// What the sender of a message was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Told {
    /// Nothing yet.
    Nothing,
    /// That it arrived.
    Delivered,
    /// That it was read.
    Read,
}

/// One line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A message: [`Transcript::said`] has it.
    Said(MessageName),
    /// Something else that happened, and when it was written down.
    Notice(Box<EventKind>, u64),
    /// Somebody asks to be removed: with all devices of the account, or this one alone.
    WantsToLeave {
        /// Who asks.
        who: MemberDevice,
        /// All of its account.
        whole_account: bool,
        /// When it was written down, in milliseconds.
        at_ms: u64,
    },
}

/// What a record changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new message.
    Said(MessageName),
    /// A message's words, reactions, proof or ticks are others.
    Changed(MessageName),
    /// Something else happened: the last line.
    Notice,
    /// Nothing that is seen.
    Nothing,
}

/// A conversation as one account sees it.
#[derive(Debug, Clone)]
pub struct Transcript {
    me: MemberDevice,
    lines: Vec<Line>,
    said: BTreeMap<MessageName, Said>,
    early: BTreeMap<MessageName, Vec<(MemberDevice, Content)>>,
    last_event: u64,
    next_own: u64,
    unread: BTreeSet<MessageName>,
}

impl Transcript {
    /// An empty one, of this device.
    pub const fn new(me: MemberDevice) -> Self {
        Self {
            me,
            lines: Vec::new(),
            said: BTreeMap::new(),
            early: BTreeMap::new(),
            last_event: 0,
            next_own: 0,
            unread: BTreeSet::new(),
        }
    }

    /// Every line, oldest first: in the order of the log, and behind it what waits.
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// A message.
    pub fn said(&self, name: &MessageName) -> Option<&Said> {
        self.said.get(name)
    }

    /// Messages, oldest first.
    pub fn messages(&self) -> impl DoubleEndedIterator<Item = &Said> {
        let names = self.lines.iter().filter_map(|line| match line {
            Line::Said(name) => Some(name),
            Line::Notice(..) | Line::WantsToLeave { .. } => None,
        });
        names.filter_map(|name| self.said.get(name))
    }

    /// Whether a message is of this account.
    pub fn is_own(&self, said: &Said) -> bool {
        said.from.account == self.me.account
    }

    /// The last event that was written down; what comes again after a crash is known by it.
    pub const fn last_event(&self) -> u64 {
        self.last_event
    }

    /// The number of the next thing that this device says: what it said before is written down.
    pub const fn next_own(&self) -> u64 {
        self.next_own
    }

    /// Messages of others that nobody has looked at yet.
    pub fn unread(&self) -> usize {
        let new = self.new_from_others();
        new.filter(|said| !self.is_own(said)).count()
    }

    /// Messages of other devices that nobody has looked at yet, those of this account among them.
    pub fn new_from_others(&self) -> impl Iterator<Item = &Said> {
        self.unread.iter().filter_map(|name| self.said.get(name))
    }

    /// How far a message of one's own has come, among these other accounts.
    pub fn tick(&self, said: &Said, others: &BTreeSet<AccountId>) -> Tick {
        let all = |some: &BTreeSet<AccountId>| !others.is_empty() && others.is_subset(some);
        if said.failed {
            Tick::Failed
        } else if said.place.is_none() {
            Tick::Waiting
        } else if all(&said.read) {
            Tick::Read
        } else if all(&said.delivered) {
            Tick::Delivered
        } else {
            Tick::Accepted
        }
    }

    /// Messages of others whose senders were not told this much, oldest first.
    pub fn untold(&self, what: Told, limit: usize) -> Vec<MessageName> {
        let others = self
            .messages()
            .filter(|said| !self.is_own(said) && said.gone.is_none());
        let untold = others.filter(|said| said.told < what);
        untold.map(|said| said.name).take(limit).collect()
    }

    /// Other accounts that were here once, and were removed.
    pub(crate) fn others_gone(&self) -> BTreeSet<AccountId> {
        let mut gone = BTreeSet::new();
        for line in &self.lines {
            let Line::Notice(kind, _) = line else {
                continue;
            };
            if let EventKind::Removed { device, .. } = &**kind
                && device.account != self.me.account
            {
                gone.insert(device.account);
            }
        }
        gone
    }

    /// Accounts that ask to be removed and are still there: one device of them, or none for all.
    pub fn leaving(&self) -> BTreeMap<AccountId, Option<DeviceId>> {
        let mut leaving = BTreeMap::new();
        for line in &self.lines {
            match line {
                Line::WantsToLeave {
                    who, whole_account, ..
                } => {
                    leaving.insert(who.account, (!whole_account).then_some(who.device));
                }
                Line::Notice(kind, _) => {
                    if let EventKind::Removed { device, .. } | EventKind::Added { device, .. } =
                        &**kind
                    {
                        leaving.remove(&device.account);
                    }
                }
                Line::Said(_) => {}
            }
        }
        leaving
    }

    /// Takes a record. Answers what it changed.
    pub fn apply(&mut self, record: &Record) -> Change {
        match record {
            Record::Said {
                message,
                body,
                at_ms,
                timer_s,
            } => {
                let from = MemberDevice {
                    account: self.me.account,
                    device: message.device,
                };
                self.next_own = self.next_own.max(message.sequence.saturating_add(1));
                self.hear(&Heard {
                    name: *message,
                    from,
                    place: None,
                    authenticity: Authenticity::Verified,
                    body,
                    at_ms: *at_ms,
                    timer_s: *timer_s,
                })
            }
            Record::Event {
                event,
                at_ms,
                timer_s,
            } => {
                self.last_event = self.last_event.max(event.number);
                self.event(&event.kind, *at_ms, *timer_s)
            }
            Record::Looked => {
                self.unread.clear();
                Change::Nothing
            }
            Record::Gone { message, why } => self.take_away(message, *why),
        }
    }

    /// Messages whose time is over, and which have words still.
    pub fn over(&self, now_ms: u64) -> Vec<MessageName> {
        let over = |said: &&Said| {
            let goes = said.goes_at_ms.is_some_and(|at| at <= now_ms);
            goes && said.gone.is_none()
        };
        let over = self.said.values().filter(over);
        over.map(|said| said.name).collect()
    }

    /// When the next message's time is over.
    pub fn next_over_ms(&self) -> Option<u64> {
        let here = self.said.values().filter(|said| said.gone.is_none());
        here.filter_map(|said| said.goes_at_ms).min()
    }

    fn event(&mut self, kind: &EventKind, at_ms: u64, timer_s: u32) -> Change {
        match kind {
            EventKind::Message(message) => self.message(message, at_ms, timer_s),
            EventKind::Verified(names) => {
                let mut change = Change::Nothing;
                for name in names {
                    if let Some(said) = self.said.get_mut(name) {
                        said.authenticity = Authenticity::Verified;
                        change = Change::Changed(*name);
                    }
                }
                change
            }
            EventKind::Forged(name) => self.take_away(name, Gone::Forged),
            EventKind::Accepted { message, place } => self.accepted(message, *place),
            EventKind::NotSent(name) => match self.said.get_mut(name) {
                Some(said) => {
                    said.failed = true;
                    Change::Changed(*name)
                }
                None => Change::Nothing,
            },
            // Shown for moments, and not kept.
            EventKind::BeforeJoining { .. } | EventKind::Unreadable { .. } => Change::Nothing,
            EventKind::Joined { .. }
            | EventKind::Added { .. }
            | EventKind::NotAdded { .. }
            | EventKind::CameBack { .. }
            | EventKind::KeyRenewed { .. }
            | EventKind::Lost { .. }
            | EventKind::Rejoined { .. }
            | EventKind::Removed { .. }
            | EventKind::RemovedHere { .. }
            | EventKind::PolicyChanged { .. }
            | EventKind::Halted { .. }
            | EventKind::SealedInOurName { .. }
            | EventKind::Superseded { .. } => {
                self.insert(Line::Notice(Box::new(kind.clone()), at_ms));
                Change::Notice
            }
        }
    }

    fn message(&mut self, message: &Message, at_ms: u64, timer_s: u32) -> Change {
        self.hear(&Heard {
            name: message.name(),
            from: message.from,
            place: Some(message.place),
            authenticity: message.authenticity,
            body: &message.body,
            at_ms,
            timer_s,
        })
    }

    fn hear(&mut self, heard: &Heard<'_>) -> Change {
        let from = heard.from;
        match &heard.body.content {
            Content::Text(text) => self.say(heard, Words::Text(text.clone()), None),
            Content::Reply { to, text } => self.say(heard, Words::Text(text.clone()), Some(*to)),
            Content::Attachment { file, text } => {
                let words = Words::File(Box::new(file.clone()), text.clone());
                self.say(heard, words, None)
            }
            Content::Unknown { kind, .. } => self.say(heard, Words::Unknown(*kind), None),
            content @ (Content::Reaction { to, .. }
            | Content::Edit { of: to, .. }
            | Content::Delete { of: to }) => self.about(to, from, content),
            Content::Delivered(names) => self.told(names, from.account, Told::Delivered),
            Content::Read(names) => self.told(names, from.account, Told::Read),
            Content::Leave { whole_account } => {
                self.insert(Line::WantsToLeave {
                    who: from,
                    whole_account: *whole_account,
                    at_ms: heard.at_ms,
                });
                Change::Notice
            }
            // What counts is the policy, and its change is an event of its own.
            Content::Timer { .. }
            | Content::GroupInfo { .. }
            | Content::Typing
            | Content::ReservedKeyPackage(_)
            | Content::AdminKey(_)
            | Content::AdminWork(_)
            | Content::SignedBatch(_) => Change::Nothing,
        }
    }

    fn say(&mut self, heard: &Heard<'_>, words: Words, reply_to: Option<MessageName>) -> Change {
        let name = heard.name;
        if self.said.contains_key(&name) {
            return Change::Nothing;
        }
        let goes_at_ms = (heard.timer_s > 0).then(|| {
            let after_ms = u64::from(heard.timer_s) * 1_000;
            heard.at_ms.saturating_add(after_ms)
        });
        let time_ms = match heard.place {
            Some(place) => place.time_ms,
            None => heard.body.sent_at_ms,
        };
        self.said.insert(
            name,
            Said {
                name,
                from: heard.from,
                place: heard.place,
                time_ms,
                words,
                reply_to,
                edited: false,
                gone: None,
                reactions: BTreeMap::new(),
                authenticity: heard.authenticity,
                delivered: BTreeSet::new(),
                read: BTreeSet::new(),
                told: Told::Nothing,
                failed: false,
                goes_at_ms,
            },
        );
        if heard.from != self.me {
            self.unread.insert(name);
        }
        if heard.place.is_some() {
            self.insert(Line::Said(name));
        } else {
            self.lines.push(Line::Said(name));
        }
        for (from, content) in self.early.remove(&name).unwrap_or_default() {
            self.about(&name, from, &content);
        }
        Change::Said(name)
    }

    /// Behind everything that the log has, before what waits.
    fn insert(&mut self, line: Line) {
        let waits = |line: &&Line| match line {
            Line::Said(name) => self.said.get(name).is_some_and(|said| said.place.is_none()),
            Line::Notice(..) | Line::WantsToLeave { .. } => false,
        };
        let waiting = self.lines.iter().rev().take_while(waits).count();
        self.lines.insert(self.lines.len() - waiting, line);
    }

    fn accepted(&mut self, name: &MessageName, place: LogPlace) -> Change {
        let Some(said) = self.said.get_mut(name).filter(|said| said.place.is_none()) else {
            return Change::Nothing;
        };
        (said.place, said.time_ms) = (Some(place), place.time_ms);
        let line = Line::Said(*name);
        if let Some(at) = self.lines.iter().rposition(|other| *other == line) {
            self.lines.remove(at);
        }
        self.insert(line);
        Change::Changed(*name)
    }

    /// Something that is said about an earlier message.
    fn about(&mut self, to: &MessageName, from: MemberDevice, content: &Content) -> Change {
        let Some(said) = self.said.get_mut(to) else {
            let early: usize = self.early.values().map(Vec::len).sum();
            if early < EARLY_MAX {
                let waiting = self.early.entry(*to).or_default();
                waiting.push((from, content.clone()));
            }
            return Change::Nothing;
        };
        if said.gone.is_some() {
            return Change::Nothing;
        }
        let own = said.from.account == from.account;
        match content {
            Content::Reaction { emoji, .. } if emoji.is_empty() => {
                said.reactions.remove(&from.account);
            }
            Content::Reaction { emoji, .. } => {
                said.reactions.insert(from.account, emoji.clone());
            }
            Content::Edit { text, .. } if own => {
                match &mut said.words {
                    Words::Text(words) | Words::File(_, words) => words.clone_from(text),
                    Words::Unknown(_) => return Change::Nothing,
                }
                said.edited = true;
            }
            Content::Delete { .. } if own => return self.take_away(to, Gone::Deleted),
            // Only its sender may change a message.
            Content::Edit { .. } | Content::Delete { .. } => return Change::Nothing,
            Content::Text(_)
            | Content::Reply { .. }
            | Content::Attachment { .. }
            | Content::Delivered(_)
            | Content::Read(_)
            | Content::Timer { .. }
            | Content::GroupInfo { .. }
            | Content::Typing
            | Content::Leave { .. }
            | Content::ReservedKeyPackage(_)
            | Content::AdminKey(_)
            | Content::AdminWork(_)
            | Content::SignedBatch(_)
            | Content::Unknown { .. } => return Change::Nothing,
        }
        Change::Changed(*to)
    }

    /// An account says that it has messages, or has read them.
    fn told(&mut self, names: &[MessageName], by: AccountId, what: Told) -> Change {
        let mut change = Change::Nothing;
        for name in names {
            let Some(said) = self.said.get_mut(name) else {
                continue;
            };
            if by == self.me.account {
                // By this device, or another one of the account.
                said.told = said.told.max(what);
                if what == Told::Read {
                    self.unread.remove(name);
                }
                continue;
            }
            said.delivered.insert(by);
            if what == Told::Read {
                said.read.insert(by);
            }
            change = Change::Changed(*name);
        }
        change
    }

    fn take_away(&mut self, name: &MessageName, why: Gone) -> Change {
        let Some(said) = self.said.get_mut(name) else {
            return Change::Nothing;
        };
        if said.gone.is_some() {
            return Change::Nothing;
        }
        said.gone = Some(why);
        said.words = Words::Text(String::new());
        said.reactions.clear();
        self.unread.remove(name);
        Change::Changed(*name)
    }
}

/// Something that was said, by whichever way it came.
struct Heard<'a> {
    name: MessageName,
    from: MemberDevice,
    place: Option<LogPlace>,
    authenticity: Authenticity,
    body: &'a Body,
    at_ms: u64,
    timer_s: u32,
}
