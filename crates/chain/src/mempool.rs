//! Transactions that wait for a block: bounded by bytes, count and sender, in order of arrival.
//!
//! One sender's transactions keep their order. With a price of zero there is nothing to evict
//! for, so a full pool refuses with a hint when to try again.

use std::collections::{BTreeMap, HashMap, VecDeque};

use session_core::ids::{AccountId, ActionId};
use session_core::limits::MESSAGE_WAIT_MAX_MS;
use session_core::time::Time;

use crate::tx::{Tx, TxIds};

/// Bounds of a pool.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of all transactions.
    pub bytes: usize,
    /// Transactions.
    pub count: usize,
    /// Transactions of one sender.
    pub per_sender: usize,
    /// Bytes of all unsigned transactions.
    pub unsigned_bytes: usize,
}

impl Default for Limits {
    /// 64 MiB: sixty full blocks, a few seconds of the highest rate.
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            count: 100_000,
            per_sender: 20_000,
            unsigned_bytes: 16 << 20,
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
    /// The sender has too many in the pool.
    #[error("too many pending transactions of one sender: try again in {retry_ms} ms")]
    SenderFull {
        /// When to try again.
        retry_ms: u64,
    },
}

/// The pool.
#[derive(Debug)]
pub struct Mempool {
    limits: Limits,
    queue: BTreeMap<u64, Waiting>,
    by_action: HashMap<ActionId, u64>,
    by_sender: HashMap<AccountId, usize>,
    next: u64,
    bytes: usize,
    unsigned_bytes: usize,
}

impl Mempool {
    /// An empty pool.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            queue: BTreeMap::new(),
            by_action: HashMap::new(),
            by_sender: HashMap::new(),
            next: 0,
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

    /// Bytes in the pool.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether an action waits.
    pub fn contains(&self, action: &ActionId) -> bool {
        self.by_action.contains_key(action)
    }

    /// Takes a transaction in.
    ///
    /// # Errors
    /// [`PoolError`].
    pub fn insert(&mut self, tx: Tx, ids: TxIds, bytes: usize, now: Time) -> Result<(), PoolError> {
        if self.by_action.contains_key(&ids.action) {
            return Err(PoolError::AlreadyPending);
        }
        let unsigned = if tx.is_signed() { 0 } else { bytes };
        let full = self.queue.len() >= self.limits.count
            || self.bytes.saturating_add(bytes) > self.limits.bytes
            || self.unsigned_bytes.saturating_add(unsigned) > self.limits.unsigned_bytes;
        if full {
            return Err(PoolError::Full { retry_ms: 1_000 });
        }
        let of_sender = self.by_sender.get(&tx.signer).copied().unwrap_or(0);
        if of_sender >= self.limits.per_sender {
            return Err(PoolError::SenderFull { retry_ms: 1_000 });
        }
        self.by_sender.insert(tx.signer, of_sender + 1);
        let expires = if tx.kind.is_single_message() {
            now.after_ms(MESSAGE_WAIT_MAX_MS)
        } else {
            tx.valid_until
        };
        self.bytes += bytes;
        self.unsigned_bytes += unsigned;
        self.by_action.insert(ids.action, self.next);
        self.queue.insert(
            self.next,
            Waiting {
                tx,
                ids,
                bytes,
                expires,
            },
        );
        self.next += 1;
        Ok(())
    }

    /// Removes and returns what fits `bytes`, oldest first.
    pub fn take(&mut self, bytes: usize, count: usize) -> VecDeque<Waiting> {
        let mut out = VecDeque::new();
        let mut left = bytes;
        while out.len() < count
            && let Some(first) = self.queue.first_entry()
            && let Some(rest) = left.checked_sub(first.get().bytes)
        {
            left = rest;
            let waiting = first.remove();
            self.forget(&waiting);
            out.push_back(waiting);
        }
        out
    }

    /// Puts transactions back in front, in their order. The bounds do not hold them back: they
    /// were admitted once.
    pub fn put_back(&mut self, waiting: impl DoubleEndedIterator<Item = Waiting>) {
        for entry in waiting.rev() {
            // A retry that came meanwhile gives way, so that the older one keeps its place.
            let retry = self.by_action.get(&entry.ids.action).copied();
            if let Some(retry) = retry.and_then(|at| self.queue.remove(&at)) {
                self.forget(&retry);
            }
            let first = self
                .queue
                .first_key_value()
                .map_or(self.next, |(at, _)| *at);
            // Arrival numbers begin at zero; the whole queue moves up when they run out.
            let Some(at) = first.checked_sub(1) else {
                let moved = std::mem::take(&mut self.queue);
                self.queue = moved.into_iter().map(|(at, w)| (at + SHIFT, w)).collect();
                self.by_action.values_mut().for_each(|at| *at += SHIFT);
                self.next += SHIFT;
                self.insert_at(SHIFT - 1, entry);
                continue;
            };
            self.insert_at(at, entry);
        }
    }

    /// Removes what has expired, and returns it.
    pub fn expire(&mut self, now: Time) -> Vec<Waiting> {
        let due: Vec<u64> = self
            .queue
            .iter()
            .filter(|(_, w)| w.expires < now)
            .map(|(at, _)| *at)
            .collect();
        let gone: Vec<Waiting> = due.iter().filter_map(|at| self.queue.remove(at)).collect();
        gone.iter().for_each(|waiting| self.forget(waiting));
        gone
    }

    fn insert_at(&mut self, at: u64, entry: Waiting) {
        self.bytes += entry.bytes;
        self.unsigned_bytes += if entry.tx.is_signed() { 0 } else { entry.bytes };
        *self.by_sender.entry(entry.tx.signer).or_default() += 1;
        self.by_action.insert(entry.ids.action, at);
        self.queue.insert(at, entry);
    }

    fn forget(&mut self, waiting: &Waiting) {
        self.by_action.remove(&waiting.ids.action);
        self.bytes -= waiting.bytes;
        self.unsigned_bytes -= if waiting.tx.is_signed() {
            0
        } else {
            waiting.bytes
        };
        if let Some(of_sender) = self.by_sender.get_mut(&waiting.tx.signer) {
            *of_sender -= 1;
            if *of_sender == 0 {
                self.by_sender.remove(&waiting.tx.signer);
            }
        }
    }
}

/// How far arrival numbers move when room is needed before the first.
const SHIFT: u64 = 1 << 32;
