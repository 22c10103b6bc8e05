//! The chain's word on accounts, for verdicts on commits: proved, and as of the entry's height.
//!
//! A device asks while it judges, and cannot wait for a node then. So it is asked in vain first:
//! what it wanted to know is fetched, and the call is made again.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use session_core::ids::AccountId;
use session_core::time::Time;
use session_e2ee::{AccountState, Directory, EarlierKey};

use crate::account::Account;
use crate::error::ClientError;

/// Answers of one position of a log.
pub(crate) struct Accounts {
    known: BTreeMap<AccountId, Option<AccountState>>,
    asked: RefCell<BTreeSet<AccountId>>,
}

/// A position: entries of later blocks do not count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Position {
    pub(crate) height: u64,
    pub(crate) time: Time,
}

impl Position {
    /// As the chain is now.
    pub(crate) const NOW: Self = Self {
        height: u64::MAX,
        time: Time::from_ms(u64::MAX),
    };
}

impl Accounts {
    pub(crate) const fn new() -> Self {
        Self {
            known: BTreeMap::new(),
            asked: RefCell::new(BTreeSet::new()),
        }
    }

    /// Fetches what the chain says of an account, before anybody asks.
    pub(super) async fn learn(
        &mut self,
        account: &mut Account,
        id: AccountId,
        at: Position,
    ) -> Result<(), ClientError> {
        self.known.insert(id, state_of(account, id, at).await?);
        Ok(())
    }

    /// Fetches what was asked in vain. Answers whether there was anything.
    pub(crate) async fn fetch(
        &mut self,
        account: &mut Account,
        at: Position,
    ) -> Result<bool, ClientError> {
        let asked = core::mem::take(self.asked.get_mut());
        let some = !asked.is_empty();
        for id in asked {
            self.known.insert(id, state_of(account, id, at).await?);
        }
        Ok(some)
    }
}

impl Directory for Accounts {
    fn account(&self, account: AccountId) -> Option<AccountState> {
        let known = self.known.get(&account);
        if known.is_none() {
            self.asked.borrow_mut().insert(account);
        }
        known.cloned().flatten()
    }
}

/// An account as it was at a position, from its proved record and the rotations that lead to it.
async fn state_of(
    account: &mut Account,
    id: AccountId,
    at: Position,
) -> Result<Option<AccountState>, ClientError> {
    // What was read before may be older than the entry.
    let reading = match account.reading_of(id, true).await {
        Ok(reading) => reading,
        Err(ClientError::NotRegistered(_)) => return Ok(None),
        Err(error) => return Err(error),
    };
    if reading.shown.record.registered > at.time {
        return Ok(None);
    }
    // Without it members would judge by different keys, and the group would fall apart.
    let history = reading.history;
    let history = history.ok_or(ClientError::Reply(
        "it does not show an account's rotations",
    ))?;
    let index = history.at_height(at.height);
    let key = |index: usize| {
        let since = history.get(index);
        since.map(|since| since.keys.signing().clone())
    };
    let earlier = |index: usize| {
        Some(EarlierKey {
            key: key(index)?,
            replaced_ms: history.get(index + 1)?.time.ms(),
        })
    };
    let current = key(index).ok_or(ClientError::Reply("an account without keys"))?;
    // Like keys it counts from the block after: at the entry, and not when somebody reads it.
    let revoked = reading.shown.record.revoked;
    let revoked = revoked.filter(|revoked| revoked.height < at.height);
    Ok(Some(AccountState {
        current,
        earlier: (0..index).filter_map(earlier).collect(),
        revoked_ms: revoked.map(|revoked| revoked.time.ms()),
    }))
}
