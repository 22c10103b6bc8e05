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
use session_chain::mempool::{Limits, Mempool, PoolError, Waiting};
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
    waiting: Vec<(Tx, TxIds, usize, Time)>,
}

impl List {
    fn bytes(&self) -> usize {
        self.waiting.iter().map(|w| w.2).sum()
    }

    fn insert(&mut self, tx: &Tx, ids: &TxIds, now: Time) -> Result<(), PoolError> {
        if self.waiting.iter().any(|w| w.1.action == ids.action) {
            return Err(PoolError::AlreadyPending);
        }
        let bytes = tx.to_bytes().len();
        let unsigned = self
            .waiting
            .iter()
            .filter(|w| !w.0.is_signed())
            .map(|w| w.2)
            .sum::<usize>();
        let of_sender = self
            .waiting
            .iter()
            .filter(|w| w.0.signer == tx.signer)
            .count();
        let full = self.waiting.len() == self.limits.count
            || self.bytes() + bytes > self.limits.bytes
            || (!tx.is_signed() && unsigned + bytes > self.limits.unsigned_bytes);
        if full {
            return Err(PoolError::Full { retry_ms: 1_000 });
        }
        if of_sender >= self.limits.per_sender {
            return Err(PoolError::SenderFull { retry_ms: 1_000 });
        }
        let single = matches!(tx.kind, Kind::SendMessage(_));
        let expires = if single {
            now.after_ms(MESSAGE_WAIT_MAX_MS)
        } else {
            tx.valid_until
        };
        self.waiting.push((tx.clone(), ids.clone(), bytes, expires));
        Ok(())
    }
}

fn same(pool: &[Waiting], list: &[(Tx, TxIds, usize, Time)]) {
    assert_eq!(pool.len(), list.len());
    for (a, b) in pool.iter().zip(list) {
        assert!(a.tx == b.0 && a.ids == b.1);
        assert_eq!((a.bytes, a.expires), (b.2, b.3));
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

fn run(seed: u64) {
    let mut chance = Chance(seed);
    let people: Vec<_> = (0..4)
        .map(|i| Person::new(&format!("person {i}")))
        .collect();
    let limits = Limits {
        bytes: 20_000 + chance.below(60_000),
        count: 3 + chance.below(20),
        per_sender: chance.below(8),
        unsigned_bytes: chance.below(3_000),
    };
    let (mut pool, mut list) = (
        Mempool::new(limits),
        List {
            limits,
            waiting: Vec::new(),
        },
    );
    let mut now = Time::from_ms(1_000_000);
    for _ in 0..200 {
        match chance.below(10) {
            0..7 => {
                let tx = tx(&mut chance, &people, now);
                let (ids, bytes) = (tx.ids(&CHAIN), tx.to_bytes().len());
                let expected = list.insert(&tx, &ids, now);
                assert_eq!(pool.insert(tx, ids.clone(), bytes, now), expected);
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
                        assert_eq!(pool.insert(tx, ids, waiting.bytes, now), expected);
                    }
                    if chance.one_in(2) {
                        back.push((waiting, of_list));
                    }
                }
                let known = |w: &(Tx, TxIds, usize, Time)| {
                    back.iter().any(|(b, _)| b.ids.action == w.1.action)
                };
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
}

#[test]
fn the_pool_agrees_with_a_list() {
    for seed in 1..150 {
        println!("seed {seed}");
        run(seed);
    }
}
