//! Chat frames: one message each, 33 bytes over its padded text.
//!
//! ```text
//! root   = safe exporter (component 0x8001) of epoch e, 48 bytes; erased once this block is done
//! K(p,d) = BLAKE2b-256, keyed by root, personal p (16 bytes), of u64 e │ group id 32 │ d
//! tag    = first 4 of K("lux-frame-tag-01")           mask = K("lux-frame-mask-1")
//! chain[l][0] = K("lux-frame-chain1", u32 l)          for every leaf l
//!
//! step   : o = BLAKE2b-512, keyed by chain[l][g], personal "lux-frame-step-1"
//!          chain[l][g+1] = o[0..32]       mk = o[32..64]       chain[l][g] is erased
//!          np = first 20 of BLAKE2b-256, keyed by mk, personal "lux-frame-nonce1"
//! seal   : guard = 4 random bytes         nonce = np │ guard
//!          aad = u8 1 │ tag │ guard │ u32 l │ u32 g │ u64 e │ group id
//!          ct │ t = XChaCha20-Poly1305(mk, nonce, aad, padded text)
//!          pad = BLAKE2b-64, keyed by mask, personal "lux-frame-mask-2", of guard │ t
//! frame  = u8 1 │ tag 4 │ guard 4 │ (u32 l │ u32 g) xor pad │ ct │ t 16
//! ```
//!
//! Integers are big-endian. Who is not in the epoch sees neither sender nor count. The guard stops
//! a device that came back from an older copy from using a key stream twice: its generation
//! repeats, its nonce does not. Keys are used once and erased; a chain only goes forwards.

mod chain;

pub use chain::{Chain, MessageKey};

use blake2b_simd::Params;
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::{Digest, GroupId};
use session_crypto::{CryptoError, Secret, aead};
use zeroize::Zeroizing;

use crate::limits::FRAME_MAX;

/// Bytes of a frame over its padded text.
pub const FRAME_OVERHEAD: usize = HEAD_BYTES + aead::TAG_BYTES;
/// Bytes of the root that an epoch's keys come from.
pub const ROOT_BYTES: usize = 48;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 4;
/// Random bytes in the nonce of a frame.
pub const GUARD_BYTES: usize = 4;
const PLACE_BYTES: usize = 8;
const HEAD_BYTES: usize = 1 + TAG_BYTES + GUARD_BYTES + PLACE_BYTES;
const AAD_BYTES: usize = 1 + TAG_BYTES + GUARD_BYTES + PLACE_BYTES + 8 + 32;

/// Why bytes are no frame of this epoch, or none that can be opened now. Every one of them is the
/// fault of whoever made or delivered it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Shorter than an empty frame or longer than the chain takes.
    #[error("a frame of {got} bytes")]
    Length {
        /// Bytes given.
        got: usize,
    },
    /// A format that we do not know.
    #[error("frame version {0}")]
    Version(u8),
    /// Not of this epoch.
    #[error("the frame is of another epoch")]
    OtherEpoch,
    /// No leaf of this epoch has the number inside.
    #[error("no member has leaf {leaf}")]
    UnknownLeaf {
        /// Number inside the frame.
        leaf: u32,
    },
    /// Further ahead than real gaps are.
    #[error("generation {generation}, next is {next}")]
    TooFarAhead {
        /// Generation of the frame.
        generation: u32,
        /// The next one in order.
        next: u32,
    },
    /// Its key was used, or left out too long ago.
    #[error("generation {generation} is spent")]
    Spent {
        /// Generation of the frame.
        generation: u32,
    },
    /// Changed on the way, or sealed under another key.
    #[error("the frame does not open")]
    DoesNotOpen,
    /// A chain has 2^32 - 1 messages.
    #[error("the chain is used up; the next epoch has a new one")]
    UsedUp,
}

/// Where a frame stands: whose chain, and the how-manieth message of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Leaf of the sender.
    pub leaf: u32,
    /// Messages of that leaf in this epoch before it.
    pub generation: u32,
}

/// What everybody in an epoch needs to find out where a frame stands.
#[derive(Clone)]
pub struct EpochKeys {
    epoch: u64,
    group: GroupId,
    tag: [u8; TAG_BYTES],
    mask: Secret<32>,
}

impl EpochKeys {
    /// The keys of an epoch and the chain of each leaf in it. The root is to be dropped after this:
    /// whoever keeps it keeps every message key of the epoch.
    ///
    /// # Errors
    /// [`CryptoError::Library`].
    pub fn derive(
        root: &Secret<ROOT_BYTES>,
        epoch: u64,
        group: GroupId,
        leaves: impl IntoIterator<Item = u32>,
    ) -> Result<(Self, Vec<(u32, Chain)>), CryptoError> {
        let key = |personal: &[u8; 16], data: &[u8]| {
            let mut state = Params::new()
                .hash_length(32)
                .key(root.expose())
                .personal(personal)
                .to_state();
            state
                .update(&epoch.to_be_bytes())
                .update(group.as_bytes())
                .update(data);
            Secret::<32>::copy_from(state.finalize().as_bytes())
        };
        let tag = key(b"lux-frame-tag-01", &[])?;
        let keys = Self {
            epoch,
            group,
            tag: first(tag.expose()),
            mask: key(b"lux-frame-mask-1", &[])?,
        };
        let mut chains = Vec::new();
        for leaf in leaves {
            let chain = key(b"lux-frame-chain1", &leaf.to_be_bytes())?;
            chains.push((leaf, Chain::new(chain)));
        }
        Ok((keys, chains))
    }

    /// The epoch.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Seals a padded text as the next message of our own chain. The chain must be durable before
    /// the frame leaves.
    ///
    /// # Errors
    /// [`FrameError::UsedUp`], [`FrameError::Length`].
    pub fn seal(
        &self,
        leaf: u32,
        chain: &mut Chain,
        guard: [u8; GUARD_BYTES],
        padded: &[u8],
    ) -> Result<(Place, Vec<u8>), FrameError> {
        let bytes = padded.len().saturating_add(FRAME_OVERHEAD);
        if bytes > FRAME_MAX {
            return Err(FrameError::Length { got: bytes });
        }
        let (generation, key) = chain.take_next()?;
        let place = Place { leaf, generation };
        let mut frame = Vec::with_capacity(bytes);
        frame.push(VERSION);
        frame.extend_from_slice(&self.tag);
        frame.extend_from_slice(&guard);
        frame.extend_from_slice(&[0; PLACE_BYTES]);
        let aad = self.aad(guard, place);
        aead::seal_with_nonce(key.key(), &key.nonce(guard), &aad, padded, &mut frame)
            .map_err(|_| FrameError::Length { got: bytes })?;
        let sample = frame.last_chunk().copied().unwrap_or_default();
        let masked = xor(place_bytes(place), self.pad(guard, &sample));
        for (to, from) in frame.iter_mut().skip(HEAD_BYTES - PLACE_BYTES).zip(masked) {
            *to = from;
        }
        Ok((place, frame))
    }

    /// Where a frame stands, by its own word: nothing is proved before it opens.
    ///
    /// # Errors
    /// [`FrameError::Length`], [`FrameError::Version`], [`FrameError::OtherEpoch`].
    pub fn place(&self, frame: &[u8]) -> Result<Place, FrameError> {
        self.split(frame).map(|parts| parts.place)
    }

    /// Opens a frame under the key of its place. Answers the padded text.
    ///
    /// # Errors
    /// As [`EpochKeys::place`], and [`FrameError::DoesNotOpen`].
    pub fn open_with(&self, key: &MessageKey, frame: &[u8]) -> Result<Vec<u8>, FrameError> {
        let parts = self.split(frame)?;
        let aad = self.aad(parts.guard, parts.place);
        aead::open_with_nonce(key.key(), &key.nonce(parts.guard), &aad, parts.body)
            .map_err(|_| FrameError::DoesNotOpen)
    }

    fn split<'a>(&self, frame: &'a [u8]) -> Result<Parts<'a>, FrameError> {
        let length = FrameError::Length { got: frame.len() };
        if frame.len() > FRAME_MAX {
            return Err(length);
        }
        let (head, body) = frame.split_first_chunk::<HEAD_BYTES>().ok_or(length)?;
        let sample = body.last_chunk::<{ aead::TAG_BYTES }>().ok_or(length)?;
        let [version, rest @ ..] = head;
        if *version != VERSION {
            return Err(FrameError::Version(*version));
        }
        let (tag, rest) = rest.split_at(TAG_BYTES);
        if tag != self.tag {
            return Err(FrameError::OtherEpoch);
        }
        let (guard, masked) = rest.split_at(GUARD_BYTES);
        let guard = guard.try_into().map_err(|_| length)?;
        let masked = masked.try_into().map_err(|_| length)?;
        let place = u64::from_be_bytes(xor(masked, self.pad(guard, sample)));
        Ok(Parts {
            guard,
            place: Place {
                leaf: (place >> 32) as u32,
                generation: (place & 0xffff_ffff) as u32,
            },
            body,
        })
    }

    fn aad(&self, guard: [u8; GUARD_BYTES], place: Place) -> [u8; AAD_BYTES] {
        let mut out = [0; AAD_BYTES];
        let parts: [&[u8]; 6] = [
            &[VERSION],
            &self.tag,
            &guard,
            &place_bytes(place),
            &self.epoch.to_be_bytes(),
            self.group.as_bytes(),
        ];
        let mut at = out.iter_mut();
        for part in parts {
            // The part first: a zip asks its first side once more than it needs.
            for (from, to) in part.iter().zip(at.by_ref()) {
                *to = *from;
            }
        }
        out
    }

    /// The AEAD's tag is random to whoever does not have the mask, so it serves as the sample, as
    /// in the header protection of QUIC (RFC 9001 §5.4).
    fn pad(&self, guard: [u8; GUARD_BYTES], sample: &[u8; aead::TAG_BYTES]) -> [u8; PLACE_BYTES] {
        let mut input = [0; GUARD_BYTES + aead::TAG_BYTES];
        for (to, from) in input.iter_mut().zip(guard.iter().chain(sample)) {
            *to = *from;
        }
        let hash = Params::new()
            .hash_length(PLACE_BYTES)
            .key(self.mask.expose())
            .personal(b"lux-frame-mask-2")
            .hash(&input);
        first(hash.as_bytes())
    }
}

impl Encode for EpochKeys {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.epoch)
            .value(&self.group)
            .raw(&self.tag)
            .raw(self.mask.expose());
    }
}

impl Decode for EpochKeys {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: input.u64("epoch")?,
            group: Decode::decode(input)?,
            tag: input.array("epoch tag")?,
            mask: Secret::new(*Zeroizing::new(input.array::<32>("epoch mask")?)),
        })
    }
}

impl core::fmt::Debug for EpochKeys {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "EpochKeys({}, epoch {})", self.group, self.epoch)
    }
}

struct Parts<'a> {
    guard: [u8; GUARD_BYTES],
    place: Place,
    /// Ciphertext and tag.
    body: &'a [u8],
}

/// The hash that a sender's signature names a frame by.
pub fn frame_hash(frame: &[u8]) -> Digest {
    Digest::from_bytes(Tag::Frame.hash(&[frame]))
}

fn place_bytes(place: Place) -> [u8; PLACE_BYTES] {
    (u64::from(place.leaf) << 32 | u64::from(place.generation)).to_be_bytes()
}

fn xor(a: [u8; PLACE_BYTES], b: [u8; PLACE_BYTES]) -> [u8; PLACE_BYTES] {
    (u64::from_be_bytes(a) ^ u64::from_be_bytes(b)).to_be_bytes()
}

/// The first `N` of at least as many bytes.
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.first_chunk().copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests;
