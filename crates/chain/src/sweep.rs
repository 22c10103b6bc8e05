//! Work by time: what is due is dropped at the start of a block, in the order of deadline, kind
//! and id. Correctness never waits for it.
//!
//! A block does at most [`SWEEP_MAX`] cells' worth, and as much again for each second that the
//! oldest deadline is late: whatever was appended lately, the sweep is never further behind than
//! the seconds it takes to grow to that rate.

use session_core::channel::{Channel, Member};
use session_core::codec::{Decode, Encode, Reader};
use session_core::group::Group;
use session_core::ids::{AccountId, ChannelId, GroupId, SessionId};
use session_core::key_package::{KeyPackages, TakenKeyPackages};
use session_core::limits::{SWEEP_LATE_MAX, SWEEP_MAX, TILE_LEAVES};
use session_core::log::{Conversation, Entry, LogId};
use session_core::record::RecordKey;
use session_core::session::{Roster, Session};
use session_core::time::{SECOND_MS, Time};

use crate::view::{
    Overlay, Table, View, ViewError, batch_key, entry_key, first_entry, group_keys_prefix,
    key_package_key, prefix_end, read_record, session_keys_key, taken_key_package_key,
};

/// Whether anything is due at block time `now`.
///
/// # Errors
/// [`ViewError`] when the store fails.
pub fn is_due(view: &dyn View, now: Time) -> Result<bool, ViewError> {
    let to = now.after_ms(1).to_bytes();
    Ok(!view.range(Table::Deadline, &[0; 8], &to, 1)?.is_empty())
}

/// Drops what is due at block time `now` on a chain that keeps leaves for `kept_ms`.
///
/// # Errors
/// [`ViewError`] when the store fails.
pub fn sweep(over: &mut Overlay<'_>, now: Time, kept_ms: u64) -> Result<(), ViewError> {
    // Deadlines up to and including `now`.
    let to = now.after_ms(1).to_bytes();
    let oldest = over.range(Table::Deadline, &[0; 8], &to, 1)?;
    let Some((oldest, _)) = oldest.first() else {
        return Ok(());
    };
    let oldest = Time::decode(&mut Reader::new(oldest))?;
    let mut budget = budget(now.since(oldest));
    let clock = Clock { now, kept_ms };
    while budget > 0 {
        // One page at a time.
        let due = over.range(Table::Deadline, &[0; 8], &to, budget)?;
        if due.is_empty() {
            return Ok(());
        }
        for (cell, _) in due {
            let mut input = Reader::new(&cell);
            Time::decode(&mut input)?;
            let key = RecordKey::decode(&mut input)?;
            if budget == 0 || !drop_record(over, &key, &clock, &mut budget)? {
                return Ok(());
            }
            over.delete(Table::Deadline, cell);
            budget = budget.saturating_sub(1);
        }
    }
    Ok(())
}

fn budget(late_ms: u64) -> usize {
    let seconds = usize::try_from(late_ms / SECOND_MS).unwrap_or(usize::MAX);
    seconds
        .saturating_add(1)
        .saturating_mul(SWEEP_MAX)
        .min(SWEEP_LATE_MAX)
}

struct Clock {
    now: Time,
    kept_ms: u64,
}

impl Clock {
    fn is_old(&self, at: Time) -> bool {
        at.after_ms(self.kept_ms) <= self.now
    }
}

/// Drops a record and all that belongs to it, or what is old of it. Answers false when the budget
/// ended before.
fn drop_record(
    over: &mut Overlay<'_>,
    key: &RecordKey,
    clock: &Clock,
    budget: &mut usize,
) -> Result<bool, ViewError> {
    match key {
        RecordKey::Session(id) => {
            if !drop_conversation(over, &Conversation::Session(*id), budget)? {
                return Ok(false);
            }
            drop_session(over, id, budget)?;
        }
        RecordKey::Channel(id) => {
            let channel: Option<Channel> = read_record(over, key)?;
            // The deadline of a tile of a channel that is gone, or of one that lives.
            let Some(channel) = channel else {
                return Ok(true);
            };
            if !channel.closed.is_some_and(|closed| clock.is_old(closed)) {
                return drop_old_tiles(over, &LogId::Channel(*id), clock, budget);
            }
            if !drop_conversation(over, &Conversation::Channel(*id), budget)?
                || !drop_members(over, id, budget)?
            {
                return Ok(false);
            }
        }
        RecordKey::Group(id) => {
            let group: Option<Group> = read_record(over, key)?;
            // As with channels.
            let Some(group) = group else {
                return Ok(true);
            };
            if group.deadline(clock.kept_ms) > clock.now {
                return drop_old_tiles(over, &LogId::Group(*id), clock, budget);
            }
            if !drop_conversation(over, &Conversation::Group(*id), budget)? {
                return Ok(false);
            }
            drop_group_keys(over, id, budget)?;
        }
        RecordKey::KeyPackages(id) => {
            let packages: Option<KeyPackages> = read_record(over, key)?;
            let devices = packages.into_iter().flat_map(|packages| packages.devices);
            for package in devices.flat_map(|d| d.packages().copied().collect::<Vec<_>>()) {
                over.delete(Table::Body, key_package_key(id, &package.id));
                *budget = budget.saturating_sub(1);
            }
        }
        RecordKey::TakenKeyPackages(by, of) => {
            let taken: Option<TakenKeyPackages> = read_record(over, key)?;
            let packages = taken.into_iter().flat_map(|taken| taken.packages);
            for (position, _) in (0u8..).zip(packages) {
                over.delete(Table::Body, taken_key_package_key(by, of, position));
                *budget = budget.saturating_sub(1);
            }
        }
        RecordKey::Chunk(id) => over.delete(Table::Body, id.as_bytes().to_vec()),
        RecordKey::Parameters
        | RecordKey::Quotas
        | RecordKey::Account(_)
        | RecordKey::Member(..)
        | RecordKey::Acknowledgement(..)
        | RecordKey::OpenRequests(..)
        | RecordKey::Action(_) => {}
    }
    over.delete(Table::Record, key.to_bytes());
    Ok(true)
}

/// Drops the leaves of full tiles whose last entry is old. Their roots stay, so what comes after
/// remains provable. A tile goes as a whole: half of one would prove nothing.
fn drop_old_tiles(
    over: &mut Overlay<'_>,
    log: &LogId,
    clock: &Clock,
    budget: &mut usize,
) -> Result<bool, ViewError> {
    let Some((mut first, _)) = first_entry(over, log)? else {
        return Ok(true);
    };
    loop {
        let next = first.saturating_add(TILE_LEAVES);
        let last = over.get(Table::Entry, &entry_key(log, next - 1))?;
        let Some(last) = last else { return Ok(true) };
        let filled = Entry::from_bytes(&last)?.time();
        let is_old = match log {
            LogId::Group(_) => Group::tile_deadline(filled, clock.kept_ms) <= clock.now,
            LogId::Session(_) | LogId::Channel(_) | LogId::Memberships(_) | LogId::Requests(_) => {
                clock.is_old(filled)
            }
        };
        if !is_old {
            return Ok(true);
        }
        if *budget == 0 {
            return Ok(false);
        }
        let (from, to) = (entry_key(log, first), entry_key(log, next));
        let dropped = drop_entries(over, log, (&from, &to), usize::MAX)?;
        *budget = budget.saturating_sub(dropped);
        first = next;
    }
}

/// Drops entries of a log between two cell keys, at most `limit`, with their bodies and ids.
/// Answers how many there were.
fn drop_entries(
    over: &mut Overlay<'_>,
    log: &LogId,
    (from, to): (&[u8], &[u8]),
    limit: usize,
) -> Result<usize, ViewError> {
    let entries = over.range(Table::Entry, from, to, limit)?;
    let count = entries.len();
    for (cell, bytes) in entries {
        let entry = Entry::from_bytes(&bytes)?;
        if let Some(id) = entry.message_id() {
            over.delete(Table::Message, id.as_bytes().to_vec());
        }
        if !matches!(entry, Entry::Membership(_)) {
            over.delete(Table::Body, entry_key(log, entry.sequence()));
            over.delete(Table::Body, batch_key(log, entry.sequence()));
        }
        over.delete(Table::Entry, cell);
    }
    Ok(count)
}

/// Drops the entries, bodies, ids, tiles and acknowledgements of a conversation.
fn drop_conversation(
    over: &mut Overlay<'_>,
    conversation: &Conversation,
    budget: &mut usize,
) -> Result<bool, ViewError> {
    let log = conversation.log();
    let prefix = log.to_bytes();
    let dropped = drop_entries(over, &log, (&prefix, &prefix_end(&prefix)), *budget)?;
    *budget = budget.saturating_sub(dropped);
    for (table, prefix) in [
        (Table::Tile, log.to_bytes()),
        (Table::Record, acknowledgements_prefix(conversation)),
    ] {
        let cells = over.range(table, &prefix, &prefix_end(&prefix), *budget)?;
        for (cell, _) in cells {
            over.delete(table, cell);
            *budget = budget.saturating_sub(1);
        }
    }
    Ok(*budget > 0)
}

/// Drops keys and open requests of the participants, who count like entries: one session of a
/// hundred people is as much work as a hundred messages.
fn drop_session(
    over: &mut Overlay<'_>,
    id: &SessionId,
    budget: &mut usize,
) -> Result<(), ViewError> {
    let session: Option<Session> = read_record(over, &RecordKey::Session(*id))?;
    let roster = over.get(Table::Roster, id.as_bytes())?;
    let roster = roster.ok_or(ViewError::Missing(Table::Roster))?;
    let roster = Roster::from_bytes(&roster)?;
    for (position, participant) in (0u8..).zip(roster.participants()) {
        over.delete(Table::Keys, session_keys_key(id, Some(position)));
        // A closed session dropped its open requests when it closed.
        if let Some(session) = &session
            && let Some(creator) = session.creator
            && session.closed.is_none()
            && !session.has_accepted(position.into())
        {
            drop_request(over, creator, participant.account)?;
        }
        *budget = budget.saturating_sub(1);
    }
    over.delete(Table::Roster, id.as_bytes().to_vec());
    Ok(())
}

/// Drops the public keys of a group, which count like entries.
fn drop_group_keys(
    over: &mut Overlay<'_>,
    id: &GroupId,
    budget: &mut usize,
) -> Result<(), ViewError> {
    let prefix = group_keys_prefix(id);
    // At most 33: past epochs, the current one's two, admins.
    for (cell, _) in over.range(Table::Keys, &prefix, &prefix_end(&prefix), usize::MAX)? {
        over.delete(Table::Keys, cell);
        *budget = budget.saturating_sub(1);
    }
    Ok(())
}

fn drop_members(
    over: &mut Overlay<'_>,
    id: &ChannelId,
    budget: &mut usize,
) -> Result<bool, ViewError> {
    let prefix = members_prefix(id);
    for (cell, bytes) in over.range(Table::Record, &prefix, &prefix_end(&prefix), *budget)? {
        let member = Member::from_bytes(&bytes)?;
        if !member.accepted
            && let RecordKey::Member(_, account) = RecordKey::from_bytes(&cell)?
        {
            drop_request(over, member.by, account)?;
        }
        over.delete(Table::Record, cell);
        *budget = budget.saturating_sub(1);
    }
    Ok(*budget > 0)
}

/// Ends one open request of an account to another.
///
/// # Errors
/// [`ViewError`] when the store fails.
pub(crate) fn drop_request(
    over: &mut Overlay<'_>,
    by: AccountId,
    to: AccountId,
) -> Result<(), ViewError> {
    let key = RecordKey::OpenRequests(by, to);
    match read_record::<[u8; 1]>(over, &key)? {
        Some([open]) if open > 1 => over.put(Table::Record, key.to_bytes(), vec![open - 1]),
        Some(_) => over.delete(Table::Record, key.to_bytes()),
        None => {}
    }
    Ok(())
}

/// First bytes of the record keys of a conversation's acknowledgements.
pub fn acknowledgements_prefix(conversation: &Conversation) -> Vec<u8> {
    let nobody = AccountId::from_bytes([0; 32]);
    let mut key = RecordKey::Acknowledgement(*conversation, nobody).to_bytes();
    key.truncate(key.len().saturating_sub(32));
    key
}

/// First bytes of the record keys of a channel's members.
pub fn members_prefix(channel: &ChannelId) -> Vec<u8> {
    let nobody = AccountId::from_bytes([0; 32]);
    let mut key = RecordKey::Member(*channel, nobody).to_bytes();
    key.truncate(key.len().saturating_sub(32));
    key
}
