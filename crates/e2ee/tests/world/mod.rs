//! A small world: a chain that orders, accounts, and devices whose disks and processes fail.
#![allow(dead_code, unused_imports, reason = "each test file uses its part")]

pub(crate) mod chain;
pub(crate) mod client;
pub(crate) mod disk;

pub(crate) use chain::{Chain, Verdict};
pub(crate) use client::Client;
pub(crate) use disk::Disk;

use session_core::ids::ChainId;

pub(crate) const CHAIN: ChainId = ChainId::from_bytes([0xcc; 32]);

/// A replayable source of choices (SplitMix64).
#[derive(Debug, Clone)]
pub(crate) struct Choice(u64);

impl Choice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut out = [0; 32];
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_be_bytes());
        }
        out
    }
}
