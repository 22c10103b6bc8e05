//! Which keys a table cannot have, told without asking the database.
//!
//! Whether a message came before is asked for each one, and the answer is almost always no. A
//! Bloom filter of all keys gives that answer from memory. It grows by further filters of twice
//! the room, so nobody has to know how many keys there will be, and forgets nothing: a deleted
//! key costs a read like one that is there.

use xxhash_rust::xxh3::xxh3_128;

/// Keys of the first filter.
const KEYS: usize = 1 << 14;

/// Bits for a key; with [`HASHES`] of them set, one absent key in a hundred looks present.
const BITS: usize = 10;

/// Bits that a key sets.
const HASHES: u64 = 7;

/// One filter of fixed room.
struct Bloom {
    words: Vec<u64>,
    /// Keys that still fit.
    room: usize,
}

impl Bloom {
    fn of(keys: usize) -> Self {
        Self {
            words: vec![0; (keys * BITS).div_ceil(64)],
            room: keys,
        }
    }

    /// Word and mask of each bit of a key (double hashing, Kirsch and Mitzenmacher 2006).
    fn bits(&self, hash: u128) -> impl Iterator<Item = (usize, u64)> + use<> {
        let bits = self.words.len() as u64 * 64;
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a hash")]
        let (first, second) = (hash as u64, (hash >> 64) as u64 | 1);
        (0..HASHES).map(move |i| {
            let bit = first.wrapping_add(i.wrapping_mul(second)) % bits;
            (usize::try_from(bit / 64).unwrap_or(0), 1 << (bit % 64))
        })
    }

    fn contains(&self, hash: u128) -> bool {
        let is_set = |(word, mask)| self.words.get(word).is_some_and(|word| word & mask != 0);
        self.bits(hash).all(is_set)
    }

    fn insert(&mut self, hash: u128) {
        for (word, mask) in self.bits(hash) {
            if let Some(word) = self.words.get_mut(word) {
                *word |= mask;
            }
        }
        self.room = self.room.saturating_sub(1);
    }
}

/// How far the keys that the table had before have been added.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Filling {
    #[default]
    NotBegun,
    Begun,
    Done,
}

/// Every key that was ever added, and a few more.
#[derive(Default)]
pub(super) struct Filter {
    blooms: Vec<Bloom>,
    filling: Filling,
}

impl Filter {
    /// Adds a key. One that is there already takes no room.
    pub(super) fn add(&mut self, key: &[u8]) {
        let hash = xxh3_128(key);
        if self.blooms.iter().any(|bloom| bloom.contains(hash)) {
            return;
        }
        if self.blooms.last().is_none_or(|bloom| bloom.room == 0) {
            let keys = KEYS << self.blooms.len().min(20);
            self.blooms.push(Bloom::of(keys));
        }
        if let Some(bloom) = self.blooms.last_mut() {
            bloom.insert(hash);
        }
    }

    /// Whether nobody has begun to add what the table has already: whoever asks does so now.
    pub(super) fn begins(&mut self) -> bool {
        let begins = self.filling == Filling::NotBegun;
        if begins {
            self.filling = Filling::Begun;
        }
        begins
    }

    /// Adding what the table has broke off: somebody else may begin again.
    pub(super) const fn broke_off(&mut self) {
        self.filling = Filling::NotBegun;
    }

    /// All keys were added: from now on an absent one is known to be absent.
    pub(super) const fn complete(&mut self) {
        self.filling = Filling::Done;
    }

    /// Whether all keys were added.
    pub(super) fn is_whole(&self) -> bool {
        self.filling == Filling::Done
    }

    /// Whether the table cannot have a key. `false` says nothing.
    pub(super) fn excludes(&self, key: &[u8]) -> bool {
        if !self.is_whole() {
            return false;
        }
        let hash = xxh3_128(key);
        !self.blooms.iter().any(|bloom| bloom.contains(hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_added_key_is_never_excluded_and_few_others_are_let_through() {
        let mut filter = Filter::default();
        let key = |i: u32| xxh3_128(&i.to_be_bytes()).to_be_bytes();
        for i in 0..200_000 {
            filter.add(&key(i));
            filter.add(&key(i / 2));
        }
        assert!(!filter.excludes(&key(300_000)));
        filter.complete();
        assert!((0..200_000).all(|i| !filter.excludes(&key(i))));
        let through = (200_000..400_000).filter(|i| !filter.excludes(&key(*i)));
        let through = through.count();
        assert!(through < 10_000, "{through} of 200,000");
        // 16, 32, 64 and 128 thousand keys.
        assert_eq!(filter.blooms.len(), 4);
    }
}
