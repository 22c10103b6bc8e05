//! What must be true in the evening.
//!
//! The model is a list: what stands where in the log, and who was in the group then. It is made of what
//! the first device saw, which was there all day and never came back from a copy, and of what each
//! sender was told about its own messages. Who comes in does not read what was sealed in the epochs
//! before, also where the log has it later.

use std::collections::{BTreeMap, BTreeSet};

use session_client::e2ee::{GroupStatus, MemberDevice, MessageName};

use super::phone::{Phone, Shown};
use super::{Day, FIRST, PHONES, Theft};

/// What stands at a place of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    name: MessageName,
    /// Of the frame. A sender is not told: none, where nobody else has shown it.
    epoch: Option<u64>,
}

/// Places of the log that a device was in the group for, and the epochs that it has keys of.
#[derive(Debug, Clone, Copy)]
struct Stay {
    from: u64,
    to: u64,
    first_epoch: u64,
    last_epoch: u64,
}

impl Stay {
    const fn begun(from: u64) -> Self {
        Self {
            from,
            to: u64::MAX,
            first_epoch: 0,
            last_epoch: u64::MAX,
        }
    }
}

type Stays = BTreeMap<MemberDevice, Vec<Stay>>;

pub(crate) async fn judge(day: &Day, theft: Theft) {
    agree(day);
    let log = log(day);
    let stays = stays(day);
    let most = day.said.len() * 3 / 4;
    assert!(log.len() > most, "most of what was said was accepted");
    for phone in &day.phones {
        let stays = stays.get(&phone.member).cloned().unwrap_or_default();
        judge_phone(day, phone, &log, stays);
    }
    judge_theft(day, theft).await;
}

/// Everybody in the group has the same epoch, members and safety number.
fn agree(day: &Day) {
    let group = day.group;
    let active = |phone: &&Phone| phone.status(group) == Some(GroupStatus::Active);
    let active: Vec<&Phone> = day.phones.iter().filter(active).collect();
    let of = |phone: &Phone| {
        let device = phone.device();
        let members = device.members(group).unwrap().into_iter();
        let members: BTreeSet<(u32, MemberDevice)> =
            members.map(|member| (member.leaf, member.member)).collect();
        let number = device.safety_number(group).unwrap().to_string();
        (device.epoch(group).unwrap(), number, members)
    };
    let first = of(active[0]);
    for phone in &active {
        assert_eq!(of(phone), first, "{} has parted", phone.name);
    }
    let inside: BTreeSet<MemberDevice> = first.2.iter().map(|(_, member)| *member).collect();
    let expected = active.iter().map(|phone| phone.member).collect();
    assert_eq!(inside, expected, "who is in the group, and who thinks so");
    let count = active.len();
    println!("{count} of {PHONES} in the group, epoch {}", first.0);
}

/// Messages whose sender was told that they are accepted, by their place; also those of a sender that
/// came back from before it was told.
fn log(day: &Day) -> BTreeMap<u64, Said> {
    let mut log = BTreeMap::new();
    let shown = |phone: &Phone| phone.app.shown.clone();
    for shown in day.phones.iter().flat_map(shown) {
        let (position, said) = match shown {
            Shown::Accepted { position, name } => (position, Said { name, epoch: None }),
            Shown::Message {
                position,
                epoch,
                name,
                ..
            } => {
                let epoch = Some(epoch);
                (position, Said { name, epoch })
            }
            _ => continue,
        };
        let known = log.entry(position).or_insert(said);
        assert_eq!(known.name, said.name, "two messages at {position}");
        if let Some(epoch) = said.epoch {
            assert_eq!(*known.epoch.get_or_insert(epoch), epoch, "at {position}");
        }
    }
    log
}

/// By what the first device saw: between two of its messages somebody came or went.
fn stays(day: &Day) -> Stays {
    let mut stays: Stays = BTreeMap::new();
    for phone in &day.phones[..FIRST] {
        stays.insert(phone.member, vec![Stay::begun(0)]);
    }
    // The place from which on an event holds: after the last message that was seen before it.
    let mut next = 0;
    for shown in &day.phones[0].app.shown {
        match shown {
            Shown::Message { position, .. } | Shown::Accepted { position, .. } => {
                assert!(*position >= next, "the log's order");
                next = position + 1;
            }
            Shown::Added(member) => {
                let stays = stays.entry(*member).or_default();
                stays.push(Stay::begun(next));
            }
            Shown::Removed(member) => {
                let stay = stays.get_mut(member).unwrap().last_mut().unwrap();
                assert_eq!(stay.to, u64::MAX, "who is out is not removed");
                stay.to = next;
            }
            _ => {}
        }
    }
    stays
}

/// A device has shown what others said while it was there: once each, in the log's order.
fn judge_phone(day: &Day, phone: &Phone, log: &BTreeMap<u64, Said>, mut stays: Vec<Stay>) {
    let name = &phone.name;
    let mut heard: BTreeMap<u64, MessageName> = BTreeMap::new();
    // Which of its stays it is in. Who makes a group joins it too.
    let mut joined = 0;
    let mut next = 0;
    for shown in &phone.app.shown {
        match shown {
            Shown::Message {
                position,
                from,
                name: of,
                text,
                ..
            } => {
                assert!(
                    *position >= next,
                    "{name}: {text} is out of order, or twice"
                );
                next = position + 1;
                assert_eq!(day.said.get(text), Some(from), "{name}: who said {text}");
                heard.insert(*position, *of);
            }
            Shown::Joined(epoch) => {
                assert!(
                    joined < stays.len(),
                    "{name} was added {} times",
                    stays.len()
                );
                stays[joined].first_epoch = *epoch;
                joined += 1;
            }
            // It cannot follow a commit of its former life, and misses what is sealed in the epochs
            // after it until it is back.
            Shown::Halted(epoch) => stays[joined - 1].last_epoch = epoch - 1,
            _ => {}
        }
    }
    assert_eq!(
        joined,
        stays.len(),
        "{name} has joined whenever it was added"
    );
    let expected = log.iter().filter(|(position, said)| {
        let inside = |stay: &Stay| {
            (stay.from..stay.to).contains(*position)
                && said
                    .epoch
                    .is_none_or(|epoch| (stay.first_epoch..=stay.last_epoch).contains(&epoch))
        };
        // What devices leave for each other - reserved key packages, admin keys - is shown to nobody.
        let is_shown = said.epoch.is_some();
        is_shown && said.name.device != phone.member.device && stays.iter().any(inside)
    });
    let expected: BTreeMap<u64, MessageName> = expected
        .map(|(position, said)| (*position, said.name))
        .collect();
    let other = |of: &BTreeMap<u64, MessageName>, than: &BTreeMap<u64, MessageName>| {
        let differ = |(at, name): &(&u64, &MessageName)| than.get(at) != Some(name);
        let at: Vec<(u64, Said)> = of
            .iter()
            .filter(differ)
            .map(|(at, _)| (*at, log[at]))
            .collect();
        at
    };
    let (missing, extra) = (other(&expected, &heard), other(&heard, &expected));
    assert!(
        missing.is_empty() && extra.is_empty(),
        "{name}, there for {stays:?}, misses {missing:?} and has {extra:?} too much"
    );
    let names: BTreeSet<&MessageName> = heard.values().collect();
    assert_eq!(
        names.len(),
        heard.len(),
        "{name}: one message at two places"
    );
}

/// Whoever has a copy of a device's disk reads nothing once the device has new keys.
async fn judge_theft(day: &Day, theft: Theft) {
    let Theft {
        mut thief,
        healed_in,
    } = theft;
    // It may fail in whatever way it likes.
    let _failed = thief.groups().unwrap().receive(day.group).await;
    thief.show(false);
    let reads_on = thief.app.shown.iter().any(|shown| match shown {
        Shown::Message { epoch, .. } => *epoch >= healed_in,
        _ => false,
    });
    assert!(!reads_on, "a thief reads on after its victim has healed");
}
