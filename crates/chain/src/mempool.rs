//! Transactions that wait for a block: bounded by bytes, count and sender, in order of arrival.
//!
//! A transaction bids nothing: its fee is the genesis price times its weight, so every signed one
//! pays the same for a byte and the order by fee is the order of arrival. What differs is who
//! pays at all and who asks for most of the pool. So where there is a price, a full pool makes
//! room for a signed transaction: unsigned ones, which pay nothing, go first, the newest first;
//! then the newest of whichever sender has most bytes waiting, as long as that is more than the
//! newcomer's sender would have. Only the newest of a sender ever goes, so its order is kept.
//! Without a price there is nothing to evict for, and a full pool refuses.
//!
//! Unsigned transactions may name anybody as their sender, so they count against nobody but
//! themselves: they share one part of the pool.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use session_core::ids::{AccountId, ActionId};
use session_core::limits::MESSAGE_WAIT_MAX_MS;
use session_core::time::Time;

use crate::tx::{Tx, TxIds};

/// What an entry takes beside its encoded bytes: ids, the struct, its place in four indexes.
pub const ENTRY_COST: usize = 512;

/// Bounds of a pool. Bytes count [`ENTRY_COST`] for each transaction, so that a pool of tiny ones
/// takes no more memory than one of large ones.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all transactions.
    pub bytes: usize,
    /// Transactions.
    pub count: usize,
    /// Signed transactions of one sender.
    pub per_sender: usize,
    /// Bytes of all unsigned transactions.
    pub unsigned_bytes: usize,
    /// Whether a full pool evicts: where the genesis has a price.
    pub evicts: bool,
}

impl Default for Limits {
    /// 64 MiB: sixty full blocks, a few seconds of the highest rate.
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            count: 100_000,
            per_sender: 20_000,
            unsigned_bytes: 16 << 20,
            evicts: false,
        }
    }
}

/// A waiting transaction.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The transaction.
    pub tx: Tx,
    /// Its ids.
    pub ids: TxIds,
    /// Its encoded length.
    pub bytes: usize,
    /// Last moment at which a block may include it.
    pub expires: Time,
}

impl Waiting {
    /// A transaction that waits from `now` on.
    pub fn new(tx: Tx, ids: TxIds, bytes: usize, now: Time) -> Self {
        let expires = if tx.kind.is_single_message() {
            now.after_ms(MESSAGE_WAIT_MAX_MS)
        } else {
            tx.valid_until
        };
        Self {
            tx,
            ids,
            bytes,
            expires,
        }
    }
}

/// Why a transaction was not admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It is in the pool.
    #[error("already pending")]
    AlreadyPending,
    /// The pool is full.
    #[error("too many pending transactions: try again in {retry_ms} ms")]
    Full {
        /// When to try again.
        retry_ms: u64,
    },
    /// It was in the pool and made room for others.
    #[error("evicted from a full pool: try again in {retry_ms} ms")]
    Evicted {
        /// When to try again.
        retry_ms: u64,
    },
    /// The sender has too many in the pool.
    #[error("too many pending transactions of one sender: try again in {retry_ms} ms")]
    SenderFull {
        /// When to try again.
        retry_ms: u64,
    },
}

/// What one sender has waiting.
#[derive(Debug, Default)]
struct Share {
    arrivals: BTreeSet<u64>,
    bytes: usize,
}

/// The pool.
#[derive(Debug)]
pub struct Mempool {
    limits: Limits,
    queue: BTreeMap<u64, Waiting>,
    by_action: HashMap<ActionId, u64>,
    shares: HashMap<AccountId, Share>,
    /// Senders by the bytes they have waiting.
    heaviest: BTreeSet<(usize, AccountId)>,
    unsigned: BTreeSet<u64>,
    next: u64,
    bytes: usize,
    unsigned_bytes: usize,
}

/// Arrival numbers begin in the middle, so that there is always one before the first.
const FIRST_ARRIVAL: u64 = 1 << 63;

impl Mempool {
    /// An empty pool.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: BTreeMap::new(),
            by_action: HashMap::new(),
            shares: HashMap::new(),
            heaviest: BTreeSet::new(),
            unsigned: BTreeSet::new(),
            next: FIRST_ARRIVAL,
            bytes: 0,
            unsigned_bytes: 0,
        }
    }

    /// Transactions in the pool.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Bytes in the pool, [`ENTRY_COST`] of each transaction among them.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an action waits.
    pub fn contains(&self, action: &ActionId) -> bool {
        self.by_action.contains_key(action)
    }

    /// Takes a transaction in, and answers what was evicted for it.
    ///
    /// # Errors
    /// [`PoolError`]; nothing was evicted then.
    pub fn insert(
        &mut self,
        tx: Tx,
        ids: TxIds,
        bytes: usize,
        now: Time,
    ) -> Result<Vec<Waiting>, PoolError> {
        if self.by_action.contains_key(&ids.action) {
            return Err(PoolError::AlreadyPending);
        }
        let mut evicted = Vec::new();
        if tx.is_signed() {
            let share = self.shares.get(&tx.signer);
            if share.map_or(0, |share| share.arrivals.len()) >= self.limits.per_sender {
                return Err(PoolError::SenderFull { retry_ms: 1_000 });
            }
            let wanted = share.map_or(0, |share| share.bytes) + bytes + ENTRY_COST;
            while !self.has_room(bytes) {
                let Some(at) = self.cheapest(wanted) else {
                    evicted
                        .into_iter()
                        .for_each(|(at, w)| self.insert_at(at, w));
                    return Err(PoolError::Full { retry_ms: 1_000 });
                };
                evicted.extend(self.remove(at).map(|waiting| (at, waiting)));
            }
        } else {
            let unsigned = self.unsigned_bytes.saturating_add(bytes + ENTRY_COST);
            if !self.has_room(bytes) || unsigned > self.limits.unsigned_bytes {
                return Err(PoolError::Full { retry_ms: 1_000 });
            }
        }
        let entry = Waiting::new(tx, ids, bytes, now);
        self.insert_at(self.next, entry);
        self.next += 1;
        Ok(evicted.into_iter().map(|(_, waiting)| waiting).collect())
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.queue.len() < self.limits.count
            && self.bytes.saturating_add(bytes + ENTRY_COST) <= self.limits.bytes
    }

    /// Whose place a sender may take that would have `wanted` bytes waiting.
    fn cheapest(&self, wanted: usize) -> Option<u64> {
        if !self.limits.evicts {
            return None;
        }
        if let Some(at) = self.unsigned.last() {
            return Some(*at);
        }
        let (bytes, sender) = self.heaviest.last()?;
        let share = self.shares.get(sender).filter(|_| *bytes > wanted)?;
        share.arrivals.last().copied()
    }

    /// Removes and returns what fits `bytes`, oldest first.
    pub fn take(&mut self, bytes: usize, count: usize) -> VecDeque<Waiting> {
        let mut out = VecDeque::new();
        let mut left = bytes;
        while out.len() < count
            && let Some((at, first)) = self.queue.first_key_value()
            && let Some(rest) = left.checked_sub(first.bytes)
        {
            left = rest;
            let at = *at;
            out.extend(self.remove(at));
        }
        out
    }

    /// Puts transactions back in front, in their order. The bounds do not hold them back: they
    /// were admitted once.
    pub fn put_back(&mut self, waiting: impl DoubleEndedIterator<Item = Waiting>) {
        for entry in waiting.rev() {
            // A retry that came meanwhile gives way, so that the older one keeps its place.
            if let Some(retry) = self.by_action.get(&entry.ids.action).copied() {
                self.remove(retry);
            }
            let first = self.queue.first_key_value();
            let first = first.map_or(self.next, |(at, _)| *at);
            // There are more numbers before the first than anybody can put back.
            self.insert_at(first.saturating_sub(1), entry);
        }
    }

    /// Removes the transaction of an action, which was included elsewhere.
    pub fn forget(&mut self, action: &ActionId) -> Option<Waiting> {
        let at = self.by_action.get(action).copied()?;
        self.remove(at)
    }

    /// What waits, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Waiting> {
        self.queue.values()
    }

    /// Removes what has expired, and returns it.
    pub fn expire(&mut self, now: Time) -> Vec<Waiting> {
        let due: Vec<u64> = self
            .queue
            .iter()
            .filter(|(_, w)| w.expires < now)
            .map(|(at, _)| *at)
            .collect();
        due.into_iter().filter_map(|at| self.remove(at)).collect()
    }

    fn insert_at(&mut self, at: u64, entry: Waiting) {
        let cost = entry.bytes + ENTRY_COST;
        self.bytes += cost;
        if entry.tx.is_signed() {
            let share = self.shares.entry(entry.tx.signer).or_default();
            self.heaviest.remove(&(share.bytes, entry.tx.signer));
            share.arrivals.insert(at);
            share.bytes += cost;
            self.heaviest.insert((share.bytes, entry.tx.signer));
        } else {
            self.unsigned.insert(at);
            self.unsigned_bytes += cost;
        }
        self.by_action.insert(entry.ids.action, at);
        self.queue.insert(at, entry);
    }

    fn remove(&mut self, at: u64) -> Option<Waiting> {
        let entry = self.queue.remove(&at)?;
        let cost = entry.bytes + ENTRY_COST;
        self.bytes -= cost;
        self.by_action.remove(&entry.ids.action);
        if !entry.tx.is_signed() {
            self.unsigned.remove(&at);
            self.unsigned_bytes -= cost;
        } else if let Some(share) = self.shares.get_mut(&entry.tx.signer) {
            self.heaviest.remove(&(share.bytes, entry.tx.signer));
            share.arrivals.remove(&at);
            share.bytes -= cost;
            if share.arrivals.is_empty() {
                self.shares.remove(&entry.tx.signer);
            } else {
                self.heaviest.insert((share.bytes, entry.tx.signer));
            }
        }
        Some(entry)
    }
}
