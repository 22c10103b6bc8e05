//! A conversation as it is shown, whichever way: lines of text with their marks, and what a person
//! should know. It is made anew after each change, and has no terminal in it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use session_client::e2ee::{
    Authenticity, DeviceId, EventKind, MemberDevice, MessageName, Policy, Role, SignatureRule,
    Unusable,
};
use session_client::{Account, Chats, Gone, Line, Said, Tick, Transcript, Words};
use session_core::ids::{AccountId, GroupId};

use super::command::timer_text;
use crate::out::{CliError, bytes, printable};
use crate::session::name_of;

/// One line of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    Message(Message),
    Notice(Notice),
}

/// A message, ready to be shown: no text in it can steer a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    /// What `/reply N` calls it.
    pub(crate) number: usize,
    pub(crate) name: MessageName,
    pub(crate) group: GroupId,
    pub(crate) who: String,
    pub(crate) from: MemberDevice,
    pub(crate) own: bool,
    pub(crate) time_ms: u64,
    pub(crate) text: String,
    /// The beginning of what it answers.
    pub(crate) quote: Option<String>,
    pub(crate) file: bool,
    pub(crate) edited: bool,
    pub(crate) gone: Option<Gone>,
    /// Emojis, and how often each.
    pub(crate) reactions: Vec<(String, usize)>,
    pub(crate) authenticity: Authenticity,
    pub(crate) tick: Tick,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice {
    pub(crate) text: String,
    pub(crate) time_ms: u64,
    /// Whether it must not be overlooked.
    pub(crate) loud: bool,
}

/// Everything that a screen shows of a conversation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) title: String,
    /// How its people stand: `verified`, `not compared`, `CHANGED`.
    pub(crate) standing: Trusted,
    pub(crate) people: usize,
    pub(crate) devices: usize,
    pub(crate) timer_s: u32,
    pub(crate) muted: bool,
    pub(crate) ended: Option<&'static str>,
    pub(crate) lines: Vec<Shown>,
    /// Messages in the outbox.
    pub(crate) waiting: usize,
    /// Why the node is not reached.
    pub(crate) away: Option<String>,
    /// Another command has the home.
    pub(crate) lent: bool,
    pub(crate) typing: Vec<String>,
}

/// How the people of a conversation stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Trusted {
    /// Nobody compared the digits.
    #[default]
    Unknown,
    /// Everybody was compared.
    Verified,
    /// Somebody's keys or devices are others than before.
    Changed,
}

impl Message {
    /// The mark behind one's own message.
    pub(crate) const fn tick_mark(&self) -> &'static str {
        match self.tick {
            Tick::Waiting => "…",
            Tick::Failed => "✗",
            Tick::Accepted => "✓",
            Tick::Delivered | Tick::Read => "✓✓",
        }
    }

    /// A word for programs.
    pub(crate) const fn tick_word(&self) -> &'static str {
        match self.tick {
            Tick::Waiting => "waiting",
            Tick::Failed => "failed",
            Tick::Accepted => "accepted",
            Tick::Delivered => "delivered",
            Tick::Read => "read",
        }
    }

    /// Whether it is proved to the reader who sealed it.
    pub(crate) const fn authenticity_word(&self) -> &'static str {
        match self.authenticity {
            Authenticity::FromMember => "fromMember",
            Authenticity::Verified => "verified",
            Authenticity::Deniable => "deniable",
        }
    }

    pub(crate) fn as_json(&self) -> Value {
        json!({
            "kind": "message", "number": self.number, "groupId": self.group,
            "device": const_hex::encode(self.name.device.as_bytes()), "sequence": self.name.sequence,
            "account": self.from.account, "from": self.who, "own": self.own, "timeMs": self.time_ms,
            "text": self.text, "quote": self.quote, "file": self.file, "edited": self.edited,
            "gone": self.gone.map(gone_word), "state": self.own.then(|| self.tick_word()),
            "authenticity": self.authenticity_word(),
            "reactions": self.reactions.iter().map(|(emoji, n)| json!([emoji, n])).collect::<Vec<_>>(),
        })
    }

    /// `12:34 bob: text`, with what is to be known of it.
    pub(crate) fn as_text(&self) -> String {
        let quote = self.quote.as_ref();
        let quote = quote.map_or_else(String::new, |quote| format!("[re: {quote}] "));
        let mut marks = String::new();
        if self.authenticity == Authenticity::FromMember && !self.own {
            marks.push_str(" (from a member, not verified yet)");
        }
        if self.edited {
            marks.push_str(" (edited)");
        }
        for (emoji, count) in &self.reactions {
            marks.push_str(&format!(" {emoji}{}", times(*count)));
        }
        if self.own {
            marks.push_str(&format!(" {}", self.tick_mark()));
        }
        format!(
            "{} #{} {}: {quote}{}{marks}",
            clock(self.time_ms),
            self.number,
            self.who,
            self.text
        )
    }
}

/// `×3`; nothing for one.
pub(crate) fn times(count: usize) -> String {
    if count > 1 {
        format!("×{count}")
    } else {
        String::new()
    }
}

/// Hours and minutes where this program runs.
pub(crate) fn clock(ms: u64) -> String {
    local(ms, "%H:%M")
}

/// The day where this program runs.
pub(crate) fn day(ms: u64) -> String {
    local(ms, "%Y-%m-%d")
}

/// A time by the system's time zone; `?` for one that no calendar has.
fn local(ms: u64, format: &str) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => {
            let time = time.to_zoned_datetime(jiff::tz::TimeZone::system());
            time.strftime(format).to_string()
        }
        Err(_) => "?".to_owned(),
    }
}

const fn gone_word(gone: Gone) -> &'static str {
    match gone {
        Gone::Deleted => "deleted",
        Gone::Disappeared => "disappeared",
        Gone::Forged => "forged",
    }
}

/// A part of a view: one group of it.
struct Part<'a> {
    group: GroupId,
    transcript: &'a Transcript,
    others: BTreeSet<AccountId>,
}

/// The lines of conversations that are shown as one.
pub(crate) fn lines_in(chats: &mut Chats, groups: &[GroupId]) -> Result<Vec<Shown>, CliError> {
    for group in groups {
        chats.transcript(*group)?;
    }
    let account = chats.account();
    let parts = groups.iter().filter_map(|group| {
        Some(Part {
            group: *group,
            transcript: chats.opened(*group)?,
            others: chats.others(*group).unwrap_or_default(),
        })
    });
    Ok(lines_of(account, &parts.collect::<Vec<_>>()))
}

/// The lines of a conversation, numbered.
fn lines_of(account: &Account, parts: &[Part<'_>]) -> Vec<Shown> {
    let mut out: Vec<(u64, Shown)> = Vec::new();
    let blocked = &account.state().blocked;
    for part in parts {
        let mut policy = None;
        for line in part.transcript.lines() {
            match line {
                Line::Said(name) => {
                    let Some(said) = part.transcript.said(name) else {
                        continue;
                    };
                    if !blocked.contains(&said.from.account) {
                        out.push((order(said), message(account, part, said)));
                    }
                }
                Line::Notice(kind, at_ms) => {
                    let before = policy;
                    if let EventKind::PolicyChanged { policy: now, .. } = &**kind {
                        policy = Some(&**now);
                    }
                    if let Some((text, loud)) = notice(account, before, kind) {
                        let time_ms = *at_ms;
                        let notice = Notice {
                            text,
                            time_ms,
                            loud,
                        };
                        out.push((time_ms, Shown::Notice(notice)));
                    }
                }
                Line::WantsToLeave { who, at_ms, .. } => {
                    let notice = Notice {
                        text: format!("{} wants to leave", person(account, &who.account)),
                        time_ms: *at_ms,
                        loud: false,
                    };
                    out.push((*at_ms, Shown::Notice(notice)));
                }
            }
        }
    }
    if parts.len() > 1 {
        // Two conversations with the same person, which both began at once.
        out.sort_by_key(|(order, _)| *order);
    }
    let mut lines: Vec<Shown> = out.into_iter().map(|(_, line)| line).collect();
    let mut number = 0;
    for line in &mut lines {
        if let Shown::Message(message) = line {
            number += 1;
            message.number = number;
        }
    }
    lines
}

/// What waits comes last.
const fn order(said: &Said) -> u64 {
    if said.place.is_some() {
        said.time_ms
    } else {
        u64::MAX
    }
}

fn message(account: &Account, part: &Part<'_>, said: &Said) -> Shown {
    let own = part.transcript.is_own(said);
    let quote = said.reply_to.as_ref().map(|to| {
        let to = part.transcript.said(to);
        to.map_or_else(
            || "an earlier message".to_owned(),
            |to| beginning(&words_of(to)),
        )
    });
    let mut reactions: BTreeMap<String, usize> = BTreeMap::new();
    for emoji in said.reactions.values() {
        *reactions.entry(printable(emoji)).or_default() += 1;
    }
    Shown::Message(Message {
        number: 0,
        name: said.name,
        group: part.group,
        who: if own {
            "you".to_owned()
        } else {
            person(account, &said.from.account)
        },
        from: said.from,
        own,
        time_ms: said.time_ms,
        text: words_of(said),
        quote,
        file: matches!(said.words, Words::File(..)),
        edited: said.edited,
        gone: said.gone,
        reactions: reactions.into_iter().collect(),
        authenticity: said.authenticity,
        tick: part.transcript.tick(said, &part.others),
    })
}

/// A message's words, or what is there instead of them.
fn words_of(said: &Said) -> String {
    match (said.gone, &said.words) {
        (Some(Gone::Deleted), _) => "(taken back)".to_owned(),
        (Some(Gone::Disappeared), _) => "(disappeared)".to_owned(),
        (Some(Gone::Forged), _) => "(forged by another member: not from this person)".to_owned(),
        (None, Words::Text(text)) => printable(text),
        (None, Words::File(file, text)) => {
            let about = format!("[file {}, {}]", printable(&file.name), bytes(file.bytes));
            if text.is_empty() {
                about
            } else {
                format!("{about} {}", printable(text))
            }
        }
        (None, Words::Unknown(kind)) => {
            format!("(something that this version does not know, kind {kind})")
        }
    }
}

fn beginning(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let short: String = line.chars().take(40).collect();
    if short.len() < text.len() {
        format!("{short}…")
    } else {
        short
    }
}

/// A contact's name, or the beginning and end of an id; oneself is `you`.
pub(crate) fn person(account: &Account, who: &AccountId) -> String {
    if *who == account.id() {
        "you".to_owned()
    } else {
        printable(&name_of(account, who))
    }
}

/// The first half of a device's id: nobody has two devices that begin so.
pub(crate) fn device_name(device: &DeviceId) -> String {
    let hex = const_hex::encode(device.as_bytes());
    hex.chars().take(16).collect()
}

/// An event in words, and whether it is loud; `before` is the policy before it, where that is known.
/// None: it is not shown.
fn notice(account: &Account, before: Option<&Policy>, kind: &EventKind) -> Option<(String, bool)> {
    let who = |member: &MemberDevice| person(account, &member.account);
    let plain = |text: String| Some((text, false));
    let loud = |text: String| Some((text, true));
    match kind {
        EventKind::Joined { .. } => plain("you are in this conversation".to_owned()),
        EventKind::Added {
            device,
            new_account: true,
            by,
        } => plain(format!("{} added {}", who(by), who(device))),
        EventKind::Added { device, .. } => loud(format!(
            "{} has a new device: if that is a surprise, compare with /safety",
            who(device)
        )),
        EventKind::CameBack { device, by } => plain(format!(
            "{} let a device of {} back in that had been away for too long: its keys for reading are new",
            who(by),
            who(device)
        )),
        EventKind::KeyRenewed { device } if device.account == account.id() => {
            plain("a device of yours signs with a new key here".to_owned())
        }
        EventKind::KeyRenewed { device } => loud(format!(
            "a device of {} signs with a new key, which the account vouches for: if that is a surprise, \
             compare with /safety",
            who(device)
        )),
        EventKind::Lost { .. } => loud(
            "this device was away for too long and cannot follow this conversation any more: it asks \
             to be let back in"
                .to_owned(),
        ),
        EventKind::Rejoined { .. } => loud(
            "this device is back in this conversation: what was said while it was away cannot be read \
             here"
                .to_owned(),
        ),
        EventKind::NotAdded { device } => loud(format!(
            "{} could not be added: the account has other keys since, or is revoked. Invite again",
            who(device)
        )),
        EventKind::Removed {
            device,
            last_of_account: true,
            by,
        } if device.account == by.account => plain(format!("{} left", who(device))),
        EventKind::Removed {
            device,
            last_of_account: true,
            by,
        } => plain(format!("{} removed {}", who(by), who(device))),
        EventKind::Removed { device, by, .. } => {
            plain(format!("{} removed a device of {}", who(by), who(device)))
        }
        EventKind::RemovedHere { by } => loud(format!(
            "{} removed you: what comes now is not for you",
            who(by)
        )),
        EventKind::PolicyChanged { policy, by } => plain(format!(
            "{} changed the conversation: {}",
            who(by),
            policy_text(account, before, policy)
        )),
        EventKind::Halted { reason, .. } => loud(format!(
            "this conversation stands still: a change came that {}. An admin can begin it anew",
            reason_text(*reason)
        )),
        EventKind::SealedInOurName { signed: true, .. } => loud(
            "a COPY of this device speaks in your name: revoke it with `session device revoke`, or \
             rotate with /rotate"
                .to_owned(),
        ),
        EventKind::SealedInOurName { .. } => {
            loud("somebody in this conversation sealed a message in your name".to_owned())
        }
        EventKind::Superseded { successor } => plain(format!(
            "this conversation goes on in another one, {successor}"
        )),
        EventKind::Message(_)
        | EventKind::Verified(_)
        | EventKind::Forged(_)
        | EventKind::Accepted { .. }
        | EventKind::NotSent(_)
        | EventKind::BeforeJoining { .. }
        | EventKind::Unreadable { .. } => None,
    }
}

/// What is another way than before; where that is not known, what people look for first.
fn policy_text(account: &Account, before: Option<&Policy>, now: &Policy) -> String {
    let mut said = Vec::new();
    if before.map_or(!now.name.is_empty(), |before| before.name != now.name) {
        said.push(match now.name.as_str() {
            "" => "without a name".to_owned(),
            name => format!("named {}", printable(name)),
        });
    }
    if before.is_none_or(|before| before.disappear_after_s != now.disappear_after_s) {
        let timer = timer_text(now.disappear_after_s);
        said.push(format!("messages disappear: {timer}"));
    }
    if let Some(before) = before {
        let people: BTreeSet<AccountId> = before
            .roles
            .keys()
            .chain(now.roles.keys())
            .copied()
            .collect();
        for one in people
            .into_iter()
            .filter(|one| before.role(*one) != now.role(*one))
        {
            let role = role_word(now.role(one));
            said.push(format!("{} is {role}", person(account, &one)));
        }
        if before.signatures != now.signatures {
            said.push(format!("messages {}", signatures_text(now.signatures)));
        }
        let rights = [
            ("add", before.add, now.add),
            ("remove", before.remove, now.remove),
            ("change this", before.rename, now.rename),
        ];
        for (what, _, now) in rights.iter().filter(|(_, before, now)| before != now) {
            said.push(format!("to {what} it takes: {}", role_word(*now)));
        }
    } else if now.roles.len() > 1 {
        for (one, role) in &now.roles {
            said.push(format!("{} is {}", person(account, one), role_word(*role)));
        }
    }
    match said.is_empty() {
        true => "its rules".to_owned(),
        false => said.join(", "),
    }
}

/// How messages are signed.
pub(crate) const fn signatures_text(rule: SignatureRule) -> &'static str {
    match rule {
        SignatureRule::Never => "not signed: between two it is known who it was",
        SignatureRule::Batched => "signed in batches",
        SignatureRule::Each => "each signed at once",
    }
}

pub(crate) const fn reason_text(reason: Unusable) -> &'static str {
    match reason {
        Unusable::Malformed => "nobody can process",
        Unusable::NotByMember => "no member made",
        Unusable::WrongContext => "belongs to another conversation",
        Unusable::Credential => "brings in a credential that is not its account's",
        Unusable::Policy => "its sender had no right to make",
        Unusable::WrongKeys => "names keys that nobody has",
        Unusable::Foreign => "claims to be this device's and is not",
    }
}

pub(crate) const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Member => "member",
        Role::Admin => "admin",
        Role::Owner => "owner",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_beginnings_are_short() {
        let minutes = 3_600_000 * 13 + 60_000 * 7;
        assert!(clock(minutes).ends_with('7') || clock(minutes).ends_with('2'));
        assert_eq!((clock(minutes).len(), day(minutes).len()), (5, 10));
        assert_eq!(clock(u64::MAX), "?");
        assert_eq!(beginning("one\ntwo"), "one…");
        assert_eq!(beginning("one"), "one");
        assert_eq!(times(1), "");
        assert_eq!(times(3), "×3");
    }
}
