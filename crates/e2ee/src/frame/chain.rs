//! One sender's keys in one epoch.

use blake2b_simd::Params;
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_crypto::{CryptoError, Secret, aead};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

use super::{EpochKeys, FrameError, GUARD_BYTES, Place, first};
use crate::limits::WINDOW;

const PREFIX_BYTES: usize = aead::NONCE_BYTES - GUARD_BYTES;

/// The key of one message. It opens frames of one place only, and seals one.
#[derive(Clone, PartialEq, Eq)]
pub struct MessageKey {
    key: Secret<32>,
    prefix: [u8; PREFIX_BYTES],
}

impl MessageKey {
    fn new(key: Secret<32>) -> Self {
        let hash = Params::new()
            .hash_length(32)
            .key(key.expose())
            .personal(b"lux-frame-nonce1")
            .hash(&[]);
        let prefix = first(hash.as_bytes());
        Self { key, prefix }
    }

    pub(super) const fn key(&self) -> &Secret<32> {
        &self.key
    }

    pub(super) fn nonce(&self, guard: [u8; GUARD_BYTES]) -> [u8; aead::NONCE_BYTES] {
        let mut nonce = [0; aead::NONCE_BYTES];
        for (to, from) in nonce.iter_mut().zip(self.prefix.iter().chain(&guard)) {
            *to = *from;
        }
        nonce
    }
}

impl Encode for MessageKey {
    fn encode(&self, out: &mut Writer) {
        // The prefix follows from the key.
        out.raw(self.key.expose());
    }
}

impl Decode for MessageKey {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bytes = Zeroizing::new(input.array::<32>("message key")?);
        Ok(Self::new(Secret::new(*bytes)))
    }
}

impl core::fmt::Debug for MessageKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MessageKey(..)")
    }
}

/// A sender's chain: the key that the next ones come from, and keys of messages that were left out.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain {
    next: u32,
    key: Secret<32>,
    skipped: BTreeMap<u32, MessageKey>,
}

impl Chain {
    pub(super) const fn new(key: Secret<32>) -> Self {
        Self {
            next: 0,
            key,
            skipped: BTreeMap::new(),
        }
    }

    /// The generation after the highest one seen.
    pub const fn next(&self) -> u32 {
        self.next
    }

    /// The next key, to seal with. The chain moves on.
    pub(super) fn take_next(&mut self) -> Result<(u32, MessageKey), FrameError> {
        let generation = self.next;
        let next = generation.checked_add(1).ok_or(FrameError::UsedUp)?;
        let (chain, key) = step(&self.key).map_err(|_| FrameError::UsedUp)?;
        (self.next, self.key) = (next, chain);
        Ok((generation, key))
    }

    /// Opens a frame of this chain, in any order within the window. The chain changes only if the
    /// frame opens. Answers the padded text, and the key, which is no longer in the chain.
    ///
    /// # Errors
    /// [`FrameError::Spent`], [`FrameError::TooFarAhead`], [`FrameError::UsedUp`],
    /// [`FrameError::DoesNotOpen`].
    pub fn open(
        &mut self,
        keys: &EpochKeys,
        place: Place,
        frame: &[u8],
    ) -> Result<(Vec<u8>, MessageKey), FrameError> {
        let generation = place.generation;
        if generation < self.next {
            let key = self.skipped.get(&generation);
            let key = key.ok_or(FrameError::Spent { generation })?;
            let text = keys.open_with(key, frame)?;
            let key = self.skipped.remove(&generation);
            return Ok((text, key.ok_or(FrameError::Spent { generation })?));
        }
        if generation - self.next >= WINDOW {
            let next = self.next;
            return Err(FrameError::TooFarAhead { generation, next });
        }
        let after = generation.checked_add(1).ok_or(FrameError::UsedUp)?;
        let mut left_out = Vec::new();
        let (mut chain, mut key) = step(&self.key).map_err(|_| FrameError::UsedUp)?;
        for skipped in self.next..generation {
            left_out.push((skipped, key));
            (chain, key) = step(&chain).map_err(|_| FrameError::UsedUp)?;
        }
        let text = keys.open_with(&key, frame)?;
        (self.next, self.key) = (after, chain);
        self.skipped.extend(left_out);
        while self.skipped.len() > WINDOW as usize {
            self.skipped.pop_first();
        }
        Ok((text, key))
    }

    /// Whether a frame of this generation could still be opened now or later.
    pub(crate) fn can_open(&self, generation: u32) -> bool {
        generation >= self.next || self.skipped.contains_key(&generation)
    }

    /// Forgets the keys of messages that were left out.
    pub(crate) fn forget_skipped(&mut self) {
        self.skipped.clear();
    }
}

impl Encode for Chain {
    fn encode(&self, out: &mut Writer) {
        out.u32(self.next).raw(self.key.expose());
        out.count(self.skipped.len());
        for (generation, key) in &self.skipped {
            out.u32(*generation).value(key);
        }
    }
}

impl Decode for Chain {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let next = input.u32("chain next")?;
        let bytes = Zeroizing::new(input.array::<32>("chain key")?);
        let key = Secret::new(*bytes);
        let count = input.count("skipped keys", WINDOW as usize, 4 + 32)?;
        let mut skipped = BTreeMap::new();
        let mut last = None;
        for _ in 0..count {
            let generation = input.u32("skipped generation")?;
            if last.is_some_and(|last| generation <= last) || generation >= next {
                return Err(DecodeError::NotAscending {
                    what: "skipped generations",
                });
            }
            last = Some(generation);
            skipped.insert(generation, MessageKey::decode(input)?);
        }
        Ok(Self { next, key, skipped })
    }
}

impl core::fmt::Debug for Chain {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Chain(next {}, {} left out)",
            self.next,
            self.skipped.len()
        )
    }
}

/// The chain key and the message key that follow from a chain key.
fn step(chain: &Secret<32>) -> Result<(Secret<32>, MessageKey), CryptoError> {
    let hash = Params::new()
        .hash_length(64)
        .key(chain.expose())
        .personal(b"lux-frame-step-1")
        .hash(&[]);
    let (next, key) = hash.as_bytes().split_at(32);
    let next = Secret::copy_from(next);
    let key = Secret::copy_from(key);
    Ok((next?, MessageKey::new(key?)))
}
