//! Work by time: what is due is dropped at the start of a block, in the order of deadline, kind
//! and id, at most [`SWEEP_MAX`] cells' worth a block. Correctness never waits for it.

use session_core::channel::Member;
use session_core::codec::{Decode, Encode, Reader};
use session_core::ids::{AccountId, ChannelId, SessionId};
use session_core::limits::SWEEP_MAX;
use session_core::log::{Conversation, Entry};
use session_core::record::RecordKey;
use session_core::session::{Roster, Session};
use session_core::time::Time;

use crate::view::{
    Overlay, Table, View, ViewError, batch_key, entry_key, prefix_end, read_record,
    session_keys_key,
};

/// Drops what is due at block time `now`.
///
/// # Errors
/// [`ViewError`] when the store fails.
pub fn sweep(over: &mut Overlay<'_>, now: Time) -> Result<(), ViewError> {
    let mut budget = SWEEP_MAX;
    while budget > 0 {
        // Deadlines up to and including `now`, one page at a time.
        let to = now.after_ms(1).to_bytes();
        let due = over.range(Table::Deadline, &[0; 8], &to, budget)?;
        if due.is_empty() {
            return Ok(());
        }
        for (cell, _) in due {
            let mut input = Reader::new(&cell);
            Time::decode(&mut input)?;
            let key = RecordKey::decode(&mut input)?;
            if budget == 0 || !drop_record(over, &key, &mut budget)? {
                return Ok(());
            }
            over.delete(Table::Deadline, cell);
            budget = budget.saturating_sub(1);
        }
    }
    Ok(())
}

/// Drops a record and all that belongs to it. Answers false when the budget ended before.
fn drop_record(
    over: &mut Overlay<'_>,
    key: &RecordKey,
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
            if !drop_conversation(over, &Conversation::Channel(*id), budget)?
                || !drop_members(over, id, budget)?
            {
                return Ok(false);
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

/// Drops the entries, bodies, ids, tiles and acknowledgements of a conversation.
fn drop_conversation(
    over: &mut Overlay<'_>,
    conversation: &Conversation,
    budget: &mut usize,
) -> Result<bool, ViewError> {
    let log = conversation.log();
    let prefix = log.to_bytes();
    let end = prefix_end(&prefix);
    let entries = over.range(Table::Entry, &prefix, &end, *budget)?;
    for (cell, bytes) in entries {
        if let Entry::Message(message) = Entry::from_bytes(&bytes)? {
            over.delete(Table::Message, message.id.as_bytes().to_vec());
            over.delete(Table::Body, entry_key(&log, message.sequence));
            over.delete(Table::Body, batch_key(&log, message.sequence));
        }
        over.delete(Table::Entry, cell);
        *budget = budget.saturating_sub(1);
    }
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

fn drop_request(over: &mut Overlay<'_>, by: AccountId, to: AccountId) -> Result<(), ViewError> {
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
