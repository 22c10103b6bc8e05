//! Chat frames, their padding, what is inside them and who signed it, a second time: written from
//! `spec/e2ee.md` §3 and §4 over other libraries than ours, and slow. Every key is derived from the
//! beginning of its chain; nothing is erased.

use blake2::Blake2bMac;
use blake2::digest::array::ArraySize;
use blake2::digest::consts::{U8, U32, U64};
use blake2::digest::typenum::{IsLessOrEqual, True};
use blake2::digest::{FixedOutput, Update};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use openmls_rust_crypto::RustCrypto;
use openmls_traits::crypto::OpenMlsCrypto;
use openmls_traits::types::HashType;
use std::collections::BTreeMap;

/// Keyed BLAKE2b with a personal string of 16 bytes.
fn blake2b<N>(key: &[u8], personal: &str, parts: &[&[u8]]) -> Vec<u8>
where
    N: ArraySize + IsLessOrEqual<U64, Output = True>,
{
    assert_eq!(personal.len(), 16);
    let hash = Blake2bMac::<N>::new_with_salt_and_personal(Some(key), &[], personal.as_bytes());
    let mut hash = hash.unwrap();
    for part in parts {
        hash.update(part);
    }
    hash.finalize_fixed().to_vec()
}

/// An epoch, with the first key of every leaf's chain.
pub(crate) struct Frames {
    pub(crate) epoch: u64,
    group: Vec<u8>,
    pub(crate) tag: Vec<u8>,
    pub(crate) mask: Vec<u8>,
    pub(crate) chains: BTreeMap<u32, Vec<u8>>,
}

/// What a frame says by itself, once it has opened.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    pub(crate) leaf: u32,
    pub(crate) generation: u32,
    pub(crate) padded: Vec<u8>,
}

impl Frames {
    pub(crate) fn new(
        root: &[u8],
        epoch: u64,
        group: &[u8],
        leaves: impl IntoIterator<Item = u32>,
    ) -> Self {
        let key = |personal: &str, data: &[u8]| {
            blake2b::<U32>(root, personal, &[&epoch.to_be_bytes(), group, data])
        };
        let chain = |leaf: u32| (leaf, key("lux-frame-chain1", &leaf.to_be_bytes()));
        Self {
            epoch,
            group: group.to_vec(),
            tag: key("lux-frame-tag-01", &[])[..4].to_vec(),
            mask: key("lux-frame-mask-1", &[]),
            chains: leaves.into_iter().map(chain).collect(),
        }
    }

    /// Message key and beginning of the nonce of a place.
    fn keys(&self, leaf: u32, generation: u32) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut chain = self.chains.get(&leaf)?.clone();
        let mut step = Vec::new();
        for _ in 0..=generation {
            step = blake2b::<U64>(&chain, "lux-frame-step-1", &[]);
            chain = step[..32].to_vec();
        }
        let key = step.split_off(32);
        let prefix = blake2b::<U32>(&key, "lux-frame-nonce1", &[])[..20].to_vec();
        Some((key, prefix))
    }

    fn aad(&self, guard: &[u8], place: &[u8]) -> Vec<u8> {
        let epoch = self.epoch.to_be_bytes();
        [&[1], &self.tag[..], guard, place, &epoch, &self.group].concat()
    }

    /// The masked place, or the place of a masked one.
    fn masked(&self, place: &[u8], guard: &[u8], tag: &[u8]) -> Vec<u8> {
        let pad = blake2b::<U8>(&self.mask, "lux-frame-mask-2", &[guard, tag]);
        place.iter().zip(pad).map(|(a, b)| a ^ b).collect()
    }

    pub(crate) fn seal(
        &self,
        leaf: u32,
        generation: u32,
        guard: [u8; 4],
        padded: &[u8],
    ) -> Vec<u8> {
        let (key, prefix) = self.keys(leaf, generation).unwrap();
        let nonce = [&prefix[..], &guard].concat();
        let place = [leaf.to_be_bytes(), generation.to_be_bytes()].concat();
        let aad = self.aad(&guard, &place);
        let cipher = XChaCha20Poly1305::new_from_slice(&key).unwrap();
        let payload = Payload {
            msg: padded,
            aad: &aad,
        };
        let nonce = XNonce::try_from(&nonce[..]).unwrap();
        let sealed = cipher.encrypt(&nonce, payload).unwrap();
        let masked = self.masked(&place, &guard, &sealed[sealed.len() - 16..]);
        [&[1], &self.tag[..], &guard, &masked, &sealed].concat()
    }

    /// `None`: it is no frame of this epoch, or was changed.
    pub(crate) fn open(&self, frame: &[u8]) -> Option<Opened> {
        if frame.len() < 33 || frame[0] != 1 || frame[1..5] != self.tag {
            return None;
        }
        let (guard, masked, sealed) = (&frame[5..9], &frame[9..17], &frame[17..]);
        let place = self.masked(masked, guard, &sealed[sealed.len() - 16..]);
        let leaf = u32::from_be_bytes(place[..4].try_into().unwrap());
        let generation = u32::from_be_bytes(place[4..].try_into().unwrap());
        if generation > 1_000 {
            return None;
        }
        let (key, prefix) = self.keys(leaf, generation)?;
        let nonce = [&prefix, guard].concat();
        let aad = self.aad(guard, &place);
        let cipher = XChaCha20Poly1305::new_from_slice(&key).unwrap();
        let payload = Payload {
            msg: sealed,
            aad: &aad,
        };
        let nonce = XNonce::try_from(&nonce[..]).unwrap();
        let padded = cipher.decrypt(&nonce, payload).ok()?;
        Some(Opened {
            leaf,
            generation,
            padded,
        })
    }
}

/// Content, 0x80, zeros, up to the next Padmé length of at least 32.
pub(crate) fn pad(content: &[u8]) -> Vec<u8> {
    let length = content.len() + 1;
    let exponent = (length as f64).log2().floor() as u32;
    let bits = f64::from(exponent.max(1)).log2().floor() as u32 + 1;
    let step = 1_usize << exponent.saturating_sub(bits);
    let padded = length.div_ceil(step) * step;
    let mut out = content.to_vec();
    out.push(0x80);
    out.resize(padded.max(32), 0);
    out
}

pub(crate) fn unpad(padded: &[u8]) -> Vec<u8> {
    let end = padded.iter().rposition(|byte| *byte != 0).unwrap();
    assert_eq!(padded[end], 0x80);
    let content = padded[..end].to_vec();
    assert_eq!(
        pad(&content),
        padded,
        "no more padding than there has to be"
    );
    content
}

/// What a message says: its sequence, its kind, and the fields of the kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) sequence: u64,
    pub(crate) kind: u16,
    pub(crate) fields: Vec<u8>,
}

/// Kind of words.
pub(crate) const TEXT: u16 = 1;
/// Kind of a signature over frames.
pub(crate) const SIGNED_BATCH: u16 = 15;

fn counted(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn number(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

impl Said {
    pub(crate) fn text(sequence: u64, text: &str) -> Self {
        Self {
            sequence,
            kind: TEXT,
            fields: counted(text.as_bytes()),
        }
    }

    pub(crate) fn words(&self) -> &str {
        assert_eq!(self.kind, TEXT);
        assert_eq!(number(&self.fields[..4]) as usize, self.fields.len() - 4);
        std::str::from_utf8(&self.fields[4..]).unwrap()
    }

    pub(crate) fn to_bytes(&self, sent_at_ms: u64) -> Vec<u8> {
        let mut out = vec![1];
        out.extend(self.sequence.to_be_bytes());
        out.extend(sent_at_ms.to_be_bytes());
        out.extend(self.kind.to_be_bytes());
        out.extend(counted(&self.fields));
        out
    }

    pub(crate) fn read(bytes: &[u8]) -> Self {
        assert_eq!(bytes[0], 1);
        let fields = bytes[23..].to_vec();
        assert_eq!(number(&bytes[19..23]) as usize, fields.len());
        Self {
            sequence: number(&bytes[1..9]),
            kind: number(&bytes[17..19]) as u16,
            fields,
        }
    }
}

/// `H(tag, data)` of the chain.
fn tagged(tag: &str, parts: &[&[u8]]) -> Vec<u8> {
    let tag = format!("LUX:SessionVM:{tag}:v1");
    let data = [&[tag.len() as u8], tag.as_bytes(), &parts.concat()].concat();
    let crypto = RustCrypto::default();
    crypto.hash(HashType::Sha2_256, &data).unwrap()
}

/// The root of a tree shaped as in RFC 6962: the left side is the largest power of two below `n`.
fn tree(leaves: &[Vec<u8>]) -> Vec<u8> {
    if let [leaf] = leaves {
        return leaf.clone();
    }
    let left = leaves.len().next_power_of_two() / 2;
    let (left, right) = leaves.split_at(left);
    tagged("merkle-node", &[&tree(left), &tree(right)])
}

/// A sender's signature over frames: their epoch, each one's generation and hash.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) epoch: u64,
    pub(crate) frames: Vec<(u32, Vec<u8>)>,
    pub(crate) signature: Vec<u8>,
}

pub(crate) fn frame_hash(frame: &[u8]) -> Vec<u8> {
    tagged("frame", &[frame])
}

impl Batch {
    /// What the leaf's key signs.
    pub(crate) fn signed(&self, group: &[u8], leaf: u32) -> Vec<u8> {
        let (epoch, leaf) = (self.epoch.to_be_bytes(), leaf.to_be_bytes());
        let leaves: Vec<Vec<u8>> = self
            .frames
            .iter()
            .map(|(generation, hash)| {
                let parts: [&[u8]; 4] = [&epoch, &leaf, &generation.to_be_bytes(), hash];
                tagged("frame-batch-leaf", &parts)
            })
            .collect();
        let count = (leaves.len() as u64).to_be_bytes();
        let root = tagged("merkle-root", &[&count, &tree(&leaves)]);
        tagged("frame-batch", &[group, &epoch, &leaf, &count, &root])
    }

    pub(crate) fn to_fields(&self) -> Vec<u8> {
        let mut out = self.epoch.to_be_bytes().to_vec();
        out.extend((self.frames.len() as u32).to_be_bytes());
        for (generation, hash) in &self.frames {
            out.extend(generation.to_be_bytes());
            out.extend(hash);
        }
        out.extend(counted(&self.signature));
        out
    }

    pub(crate) fn read(fields: &[u8]) -> Self {
        let count = number(&fields[8..12]) as usize;
        let (list, rest) = fields[12..].split_at(36 * count);
        assert_eq!(number(&rest[..4]) as usize, rest.len() - 4);
        Self {
            epoch: number(&fields[..8]),
            frames: list
                .chunks(36)
                .map(|frame| (number(&frame[..4]) as u32, frame[4..].to_vec()))
                .collect(),
            signature: rest[4..].to_vec(),
        }
    }
}
