//! The pool judged by a list.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    reason = "in a test a panic is the verdict; people have more to them than one test asks"
)]

#[path = "model/people.rs"]
mod people;

use people::{Chance, Person, signed, unsigned};
use session_chain::mempool::{ENTRY_COST, Limits, Mempool, PoolError, Waiting};
use session_chain::tx::message::SendMessage;
use session_chain::tx::transfer::Transfer;
use session_chain::tx::{Kind, Tx, TxIds};
use session_core::codec::Encode;
use session_core::ids::{AccountId, ChainId, SessionId};
use session_core::limits::MESSAGE_WAIT_MAX_MS;
use session_core::log::Conversation;
use session_core::time::Time;

const CHAIN: ChainId = ChainId::from_bytes([1; 32]);

/// What waits, in order, and nothing else.
struct List {
    limits: Limits,
    waiting: Vec<Entry>,
    evictions: usize,
}

type Entry = (Tx, TxIds, usize, Time);

impl List {
    fn bytes(&self) -> usize {
        self.waiting.iter().map(|w| w.2 + ENTRY_COST).sum()
    }

    fn of(&self, sender: Option<AccountId>) -> Vec<usize> {
        let of = |(_, w): &(usize, &Entry)| sender_of(&w.0) == sender;
        let all = self.waiting.iter().enumerate().filter(of);
        all.map(|(at, _)| at).collect()
    }

    fn bytes_of(&self, sender: Option<AccountId>) -> usize {
        let all = self.of(sender).into_iter();
        all.map(|at| self.waiting[at].2 + ENTRY_COST).sum()
    }

    fn has_room(&self, bytes: usize) -> bool {
        self.waiting.len() < self.limits.count
            && self.bytes() + bytes + ENTRY_COST <= self.limits.bytes
    }

    /// Evicts one after the other on a copy, which is kept if there is room in the end.
    fn insert(&mut self, tx: &Tx, ids: &TxIds, now: Time) -> Result<Vec<Entry>, PoolError> {
        if self.waiting.iter().any(|w| w.1.action == ids.action) {
            return Err(PoolError::AlreadyPending);
        }
        let (bytes, sender) = (tx.to_bytes().len(), sender_of(tx));
        let full = PoolError::Full { retry_ms: 1_000 };
        let mut evicted = Vec::new();
        let before = self.waiting.clone();
        if sender.is_none() {
            let unsigned = self.bytes_of(None) + bytes + ENTRY_COST;
            if unsigned > self.limits.unsigned_bytes || !self.has_room(bytes) {
                return Err(full);
            }
        } else {
            if self.of(sender).len() >= self.limits.per_sender {
                return Err(PoolError::SenderFull { retry_ms: 1_000 });
            }
            let wanted = self.bytes_of(sender) + bytes + ENTRY_COST;
            while !self.has_room(bytes) {
                let senders = self.waiting.iter().map(|w| sender_of(&w.0));
                let heaviest = senders.max_by_key(|s| (self.bytes_of(*s), *s));
                let victim = match (self.of(None).pop(), heaviest) {
                    (Some(unsigned), _) => Some(unsigned),
                    (None, Some(h)) if self.bytes_of(h) > wanted => self.of(h).pop(),
                    (None, _) => None,
                };
                let Some(victim) = victim.filter(|_| self.limits.evicts) else {
                    self.waiting = before;
                    return Err(full);
                };
                evicted.push(self.waiting.remove(victim));
            }
        }
        let single = matches!(tx.kind, Kind::SendMessage(_));
        let expires = if single {
            now.after_ms(MESSAGE_WAIT_MAX_MS)
        } else {
            tx.valid_until
        };
        self.waiting.push((tx.clone(), ids.clone(), bytes, expires));
        self.evictions += evicted.len();
        Ok(evicted)
    }
}

/// Whose part of the pool it takes; nobody's if it is unsigned.
fn sender_of(tx: &Tx) -> Option<AccountId> {
    tx.is_signed().then_some(tx.signer)
}

fn same(pool: &[Waiting], list: &[Entry]) {
    assert_eq!(pool.len(), list.len());
    for (a, b) in pool.iter().zip(list) {
        assert!(a.tx == b.0 && a.ids == b.1);
        assert_eq!((a.bytes, a.expires), (b.2, b.3));
    }
}

fn agree(pool: Result<Vec<Waiting>, PoolError>, list: Result<Vec<Entry>, PoolError>) {
    match (pool, list) {
        (Ok(pool), Ok(list)) => same(&pool, &list),
        (pool, list) => assert_eq!(pool.err(), list.err()),
    }
}

fn tx(chance: &mut Chance, people: &[Person], now: Time) -> Tx {
    let person = &people[chance.below(people.len())];
    let salt = chance.below(12) as u64;
    let (until, nonce) = (
        now.after_ms(chance.below(5_000) as u64),
        chance.below(2) as u8,
    );
    if chance.one_in(2) {
        let session = SessionId::from_bytes([chance.below(2) as u8; 32]);
        let ciphertext = vec![salt as u8; chance.below(3) * 400];
        let conversation = Conversation::Session(session);
        let kind = Kind::SendMessage(SendMessage {
            conversation,
            ciphertext,
        });
        let tx = unsigned(person.account, until, salt, kind);
        if chance.one_in(2) {
            tx
        } else {
            signed(tx, &CHAIN, &person.signing(), nonce)
        }
    } else {
        let (to, amount) = (AccountId::from_bytes([2; 32]), 1);
        let until = Time::from_ms(until.ms() / 2_000 * 2_000);
        let tx = unsigned(
            person.account,
            until,
            salt,
            Kind::Transfer(Transfer { to, amount }),
        );
        signed(tx, &CHAIN, &person.signing(), nonce)
    }
}

fn run(seed: u64) -> usize {
    let mut chance = Chance(seed);
    let people: Vec<_> = (0..4)
        .map(|i| Person::new(&format!("person {i}")))
        .collect();
    let limits = Limits {
        bytes: 20_000 + chance.below(60_000),
        count: 3 + chance.below(20),
        per_sender: chance.below(8),
        unsigned_bytes: chance.below(6_000),
        evicts: chance.one_in(2),
    };
    let (mut pool, mut list) = (
        Mempool::new(limits),
        List {
            limits,
            waiting: Vec::new(),
            evictions: 0,
        },
    );
    let mut now = Time::from_ms(1_000_000);
    for _ in 0..200 {
        match chance.below(10) {
            0..7 => {
                let tx = tx(&mut chance, &people, now);
                let (ids, bytes) = (tx.ids(&CHAIN), tx.to_bytes().len());
                let expected = list.insert(&tx, &ids, now);
                agree(pool.insert(tx, ids.clone(), bytes, now), expected);
                let waits = list.waiting.iter().any(|w| w.1.action == ids.action);
                assert_eq!(pool.contains(&ids.action), waits);
            }
            7 => {
                // A block takes some, retries come meanwhile, and some come back.
                let (bytes, count) = (chance.below(30_000), chance.below(6));
                let mut taken = Vec::new();
                let mut left = bytes;
                while taken.len() < count
                    && list.waiting.first().is_some_and(|first| first.2 <= left)
                {
                    let first = list.waiting.remove(0);
                    left -= first.2;
                    taken.push(first);
                }
                let got: Vec<_> = pool.take(bytes, count).into();
                same(&got, &taken);
                let mut back = Vec::new();
                for (waiting, of_list) in got.into_iter().zip(taken) {
                    if chance.one_in(3) {
                        let (tx, ids) = (waiting.tx.clone(), waiting.ids.clone());
                        let expected = list.insert(&tx, &ids, now);
                        agree(pool.insert(tx, ids, waiting.bytes, now), expected);
                    }
                    if chance.one_in(2) {
                        back.push((waiting, of_list));
                    }
                }
                let known = |w: &Entry| back.iter().any(|(b, _)| b.ids.action == w.1.action);
                list.waiting.retain(|w| !known(w));
                list.waiting
                    .splice(0..0, back.iter().map(|(_, w)| w.clone()));
                pool.put_back(back.into_iter().map(|(w, _)| w));
            }
            8 => {
                now = now.after_ms(chance.below(3_000) as u64);
                if chance.one_in(20) {
                    now = now.after_ms(MESSAGE_WAIT_MAX_MS);
                }
                let (gone, kept) = list.waiting.drain(..).partition(|w| w.3 < now);
                list.waiting = kept;
                let gone: Vec<_> = gone;
                same(&pool.expire(now), &gone);
            }
            _ => {
                let mut all: Vec<_> = pool.take(usize::MAX, usize::MAX).into();
                same(&all, &list.waiting);
                assert!(pool.is_empty() && pool.bytes() == 0);
                pool.put_back(all.drain(..));
            }
        }
        assert_eq!(
            (pool.len(), pool.bytes()),
            (list.waiting.len(), list.bytes())
        );
    }
    list.evictions
}

#[test]
fn the_pool_agrees_with_a_list() {
    let mut evictions = 0;
    for seed in 1..150 {
        println!("seed {seed}");
        evictions += run(seed);
    }
    assert!(evictions > 100, "{evictions} evictions prove nothing");
}

/// A hundred senders offer ten thousand each: what is in the pool is bounded, whoever is refused
/// is told why, and what was taken in comes out once, in its sender's order.
#[test]
fn a_million_offers_fill_the_pool_and_no_more() {
    const OFFERS: u64 = 1_000_000;
    for evicts in [false, true] {
        let limits = Limits {
            evicts,
            ..Limits::default()
        };
        let mut pool = Mempool::new(limits);
        let (now, until) = (Time::from_ms(1), Time::from_ms(1_000_000));
        let (mut taken, mut full, mut evicted) = (0, 0, 0);
        for n in 0..OFFERS {
            let mut sender = [7; 32];
            sender[..8].copy_from_slice(&(n % 100).to_be_bytes());
            let (to, amount) = (AccountId::from_bytes([2; 32]), 1);
            let mut tx = unsigned(
                AccountId::from_bytes(sender),
                until,
                n,
                Kind::Transfer(Transfer { to, amount }),
            );
            // One in ten is signed, one in two of those is large.
            let signed = n % 10 == 0;
            tx.signature = vec![1; if signed { 64 } else { 0 }];
            let bytes = if n % 20 == 0 { 3_400 } else { 140 };
            let mut action = [0; 32];
            action[..8].copy_from_slice(&n.to_be_bytes());
            let ids = TxIds {
                cosignatures: Vec::new(),
                action: session_core::ids::ActionId::from_bytes(action),
                tx: session_core::ids::TxId::from_bytes(action),
                signature: session_core::ids::Digest::from_bytes(action),
                messages: Vec::new(),
            };
            match pool.insert(tx, ids, bytes, now) {
                Ok(gone) => {
                    taken += 1;
                    evicted += gone.len();
                }
                Err(PoolError::Full { retry_ms: 1_000 } | PoolError::SenderFull { .. }) => {
                    full += 1
                }
                Err(error) => panic!("{error}"),
            }
            assert!(pool.len() <= limits.count && pool.bytes() <= limits.bytes);
        }
        assert_eq!(taken + full, OFFERS as usize);
        assert_eq!(evicts, evicted > 0);
        assert_eq!(pool.len(), taken - evicted);
        let mut last = std::collections::HashMap::new();
        let mut out = 0;
        while !pool.is_empty() {
            let mut page = pool.take(1 << 20, 1_000);
            // Half of each page does not fit its block.
            pool.put_back(page.split_off(page.len().div_ceil(2)).into_iter());
            for waiting in page {
                out += 1;
                let before = last.insert(waiting.tx.signer, waiting.tx.salt);
                assert!(before.is_none_or(|before| before < waiting.tx.salt));
            }
        }
        assert_eq!((out, pool.bytes()), (taken - evicted, 0));
    }
}
