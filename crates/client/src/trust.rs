//! What a client believes: proofs it has verified, heads signed by a key it has pinned.
//!
//! Heights never go back; a log that was seen is only ever extended; a head older than a minute
//! is told as stale (`spec/vm.md` §5, §7). The first head key that a chain shows is pinned, and
//! with it the operator's root key, which the genesis names and a proof under that head shows.
//! Another head key is followed where the root key has certified it, and refused otherwise.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use session_core::codec::{Decode, DecodeError, Encode};
use session_core::hash::Tag;
use session_core::header::{Header, SignedHead, head_key_payload};
use session_core::ids::{BlockId, ChainId, Digest};
use session_core::limits::TILE_LEVEL;
use session_core::log::LogId;
use session_core::merkle::Frontier;
use session_core::proof::{Proof, ProofError, Proved};
use session_core::time::{MINUTE_MS, Time};
use session_crypto::{Signature, SigningPublicKey};

use crate::committee::Committee;

/// Why a proof is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// Not base64, or not a proof.
    #[error("the proof cannot be read: {0}")]
    Unreadable(String),
    /// It does not hold.
    #[error("the proof does not hold: {0}")]
    Proof(#[from] ProofError),
    /// It is about another chain.
    #[error("the proof is about chain {found}, not {expected}")]
    OtherChain {
        /// In the proof.
        found: ChainId,
        /// Pinned.
        expected: ChainId,
    },
    /// No pinned key has signed the head.
    #[error("no pinned head key has signed block {height}")]
    NotSigned {
        /// Height of the proof.
        height: u64,
    },
    /// Fewer of the pinned keys have signed the head than must.
    #[error(
        "{signed} of the pinned nodes have signed block {height}, and {threshold} must: some are \
         down or behind, or they do not agree"
    )]
    TooFewSigned {
        /// Height of the proof.
        height: u64,
        /// How many have.
        signed: usize,
        /// How many must.
        threshold: usize,
    },
    /// The node is none of those that are pinned.
    #[error(
        "the node signs with a key that is none of the {0} pinned ones: name one of the pinned \
         nodes, or pin others with `session node pin`"
    )]
    OtherNode(usize),
    /// What cannot be pinned.
    #[error("{0}")]
    Committee(&'static str),
    /// The node showed a later state before.
    #[error("the node goes back: block {height} after block {seen}")]
    GoesBack {
        /// Shown now.
        height: u64,
        /// Shown before.
        seen: u64,
    },
    /// The log is not an extension of what was seen of it.
    #[error("the node rewrote a log: it shows other entries before number {count} than it did")]
    Rewritten {
        /// Entries seen before.
        count: u64,
    },
    /// The node showed another block at this height before.
    #[error(
        "the node shows another block {height} than it did: its state was rolled back or forked"
    )]
    OtherBlock {
        /// The height.
        height: u64,
    },
    /// The node's key is another than the pinned one.
    #[error(
        "the node's head key has changed, and the operator's root key has not certified the new \
         one: if its operator says that it is right, forget the old one with `session node forget`"
    )]
    OtherHeadKey,
}

impl From<DecodeError> for TrustError {
    fn from(error: DecodeError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// What is remembered about a chain.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Trust {
    /// The chain.
    pub chain: Option<ChainId>,
    /// Pinned ML-DSA-65 head key, hex.
    pub head_key: String,
    /// Several nodes instead of the one key: so many of theirs must have signed a head.
    pub committee: Option<Committee>,
    /// Hash of the operator's root key, which certifies head keys; none where the genesis names
    /// none.
    pub root_key: Option<Digest>,
    /// Whether the root key was asked for.
    pub root_known: bool,
    /// Highest head seen.
    pub height: u64,
    /// Its block.
    pub block: Option<BlockId>,
    /// Frontiers of logs, by log id in hex.
    pub logs: BTreeMap<String, String>,
}

/// What a node says of itself; nothing of it is believed yet.
#[derive(Debug, Clone, Copy)]
pub struct ShownHead<'a> {
    /// Its chain.
    pub chain: ChainId,
    /// Its ML-DSA-65 head key, hex.
    pub head_key: &'a str,
    /// The operator's ML-DSA-65 root key, hex.
    pub root_key: Option<&'a str>,
    /// The root key's signature over the head key, hex.
    pub certificate: Option<&'a str>,
}

/// How a node's head key is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Met {
    /// It is pinned from now on.
    First,
    /// It is the pinned one.
    Before,
    /// It is another, certified by the pinned root key, and pinned from now on.
    Followed,
}

/// A log's name in [`Trust::logs`].
fn name_of(log: &LogId) -> String {
    const_hex::encode(log.to_bytes())
}

/// Reads a proof from base64.
///
/// # Errors
/// [`TrustError::Unreadable`].
pub fn decode_proof(text: &str) -> Result<Proof, TrustError> {
    let bytes = BASE64
        .decode(text)
        .map_err(|e| TrustError::Unreadable(e.to_string()))?;
    Ok(Proof::from_bytes(&bytes)?)
}

/// Checks a signed head with a key.
pub fn head_is_signed_by(head: &SignedHead, key: &SigningPublicKey) -> bool {
    let payload = SignedHead::payload(&head.chain, head.height, &head.block, head.signed_at);
    Signature::try_from(head.signature.as_slice())
        .is_ok_and(|signature| key.verify(&payload, &signature).is_ok())
}

impl Trust {
    /// Pins the first head key; later it must be the same, or one that the pinned root key has
    /// certified. Heights do not go back with a new key either.
    ///
    /// # Errors
    /// [`TrustError::OtherHeadKey`], [`TrustError::OtherNode`], [`TrustError::OtherChain`].
    pub fn meet(&mut self, shown: &ShownHead<'_>) -> Result<Met, TrustError> {
        if let Some(committee) = &self.committee {
            if !committee.has_key(shown.head_key) {
                return Err(TrustError::OtherNode(committee.members().len()));
            }
            // Which of them it is makes no difference.
            self.head_key = shown.head_key.to_owned();
        }
        match self.chain {
            None => {
                self.chain = Some(shown.chain);
                self.head_key = shown.head_key.to_owned();
                Ok(Met::First)
            }
            Some(expected) if expected != shown.chain => Err(TrustError::OtherChain {
                found: shown.chain,
                expected,
            }),
            Some(_) if self.head_key == shown.head_key => Ok(Met::Before),
            Some(_) if self.is_certified(shown) => {
                self.head_key = shown.head_key.to_owned();
                Ok(Met::Followed)
            }
            Some(_) => Err(TrustError::OtherHeadKey),
        }
    }

    /// Whether the pinned root key has signed the shown head key.
    fn is_certified(&self, shown: &ShownHead<'_>) -> bool {
        let bytes =
            |text: Option<&str>| const_hex::decode(text.unwrap_or_default()).unwrap_or_default();
        let root = bytes(shown.root_key);
        let pinned = self.root_key.map(|digest| digest.to_bytes());
        let head = bytes(Some(shown.head_key));
        let parts = (
            SigningPublicKey::try_from(root.as_slice()),
            SigningPublicKey::try_from(head.as_slice()),
            Signature::try_from(bytes(shown.certificate).as_slice()),
        );
        let (Ok(root), Ok(head), Ok(signature)) = parts else {
            return false;
        };
        pinned == Some(Tag::PublicKey.hash(&[root.as_ref()]))
            && root
                .verify(&head_key_payload(&shown.chain, head.as_ref()), &signature)
                .is_ok()
    }

    /// Pins the root key that the chain's parameters name, or that they name none.
    pub fn pin_root(&mut self, root_key: Option<Digest>) {
        if !self.root_known {
            (self.root_key, self.root_known) = (root_key, true);
        }
    }

    fn key(&self) -> Option<SigningPublicKey> {
        let bytes = const_hex::decode(&self.head_key).ok()?;
        SigningPublicKey::try_from(bytes.as_slice()).ok()
    }

    /// Verifies a proof, its head, and that it goes on from what was seen before.
    ///
    /// # Errors
    /// [`TrustError`]; what is remembered changes only on success.
    pub fn check(&mut self, proof: &Proof) -> Result<Proved, TrustError> {
        let proved = proof.verify()?;
        let header: &Header = &proved.header;
        if let Some(expected) = self.chain
            && expected != header.chain
        {
            return Err(TrustError::OtherChain {
                found: header.chain,
                expected,
            });
        }
        self.check_signed(proof, header.height)?;
        if header.height < self.height {
            return Err(TrustError::GoesBack {
                height: header.height,
                seen: self.height,
            });
        }
        let block = header.id();
        if header.height == self.height && self.block.is_some_and(|seen| seen != block) {
            return Err(TrustError::OtherBlock {
                height: header.height,
            });
        }
        let extended = self.extend(proof)?;
        (self.height, self.block) = (header.height, Some(block));
        if let Some((log, frontier)) = extended {
            self.logs.insert(log, frontier);
        }
        Ok(proved)
    }

    /// Whether the pinned key, or enough of several pinned ones, has signed the head.
    fn check_signed(&self, proof: &Proof, height: u64) -> Result<(), TrustError> {
        if let Some(committee) = &self.committee {
            let (signed, threshold) = (committee.signers(proof), committee.threshold());
            let too_few = TrustError::TooFewSigned {
                height,
                signed,
                threshold,
            };
            return (signed >= threshold).then_some(()).ok_or(too_few);
        }
        let key = self.key();
        let signed = key.is_some_and(|key| proof.heads.iter().any(|h| head_is_signed_by(h, &key)));
        signed.then_some(()).ok_or(TrustError::NotSigned { height })
    }

    /// The log of a proof must extend what was seen of it.
    fn extend(&self, proof: &Proof) -> Result<Option<(String, String)>, TrustError> {
        let Some(log) = &proof.log else {
            return Ok(None);
        };
        let name = name_of(&log.log);
        let seen = self.seen(&log.log);
        let rewritten = TrustError::Rewritten {
            count: seen.count(),
        };
        let mut leaves = Vec::with_capacity(log.entries.len());
        leaves.extend(
            log.entries
                .iter()
                .map(|entry| session_core::log::leaf_of(entry)),
        );
        let whole = log.range.frontier(&leaves).map_err(ProofError::from)?;
        if whole.count() < seen.count() || (whole.count() == seen.count() && whole != seen) {
            return Err(rewritten);
        }
        let to = log.range.from.saturating_add(leaves.len() as u64);
        if !(log.range.from..=to).contains(&seen.count()) {
            // It says nothing about where we stopped: what we saw stays what counts.
            return Ok(None);
        }
        // A proof that begins where we stopped shows our own frontier on its left.
        if log.range.from == seen.count() && log.range.left != seen.peaks() {
            return Err(rewritten);
        }
        // One that begins earlier passes our frontier on its way.
        if log.range.from < seen.count()
            && let Ok(mut at) = Frontier::from_parts(log.range.from, log.range.left.clone())
        {
            for leaf in &leaves {
                if at.count() == seen.count() {
                    break;
                }
                at.push(*leaf, |_, _, _| ()).map_err(ProofError::from)?;
            }
            if at.count() == seen.count() && at != seen {
                return Err(rewritten);
            }
        }
        Ok(Some((name, const_hex::encode(whole.to_bytes()))))
    }

    /// The frontier of what was seen of a log.
    pub(crate) fn seen(&self, log: &LogId) -> Frontier {
        let text = self.logs.get(&name_of(log));
        let bytes = text.and_then(|text| const_hex::decode(text).ok());
        let seen = bytes.and_then(|bytes| Frontier::from_bytes(&bytes).ok());
        seen.unwrap_or_default()
    }

    /// Begins with a log at entry `from`, in the middle: with its frontier in a record that was
    /// proved. What was seen of it up to there or further stays what counts.
    pub(crate) fn begin(&mut self, log: &LogId, from: u64, frontier: &Frontier) {
        let seen = self.seen(log).count();
        if seen == 0 || seen < from {
            let frontier = const_hex::encode(frontier.to_bytes());
            self.logs.insert(name_of(log), frontier);
        }
    }

    /// Up to where what was seen of a log stays comparable when its entries go: whole tiles, whose
    /// roots a node keeps.
    pub fn comparable(&self, log: &LogId) -> u64 {
        let tile = 1u64 << TILE_LEVEL;
        self.seen(log).count() / tile * tile
    }

    /// Goes on in a log whose entries are gone where it was last seen. The proof begins at
    /// [`Trust::comparable`] and shows what was seen up to there on its left. Answers how many
    /// entries after that were seen and can be compared no more, fewer than 256.
    ///
    /// # Errors
    /// [`TrustError`]; what is remembered changes only on success.
    pub fn leap(&mut self, proof: &Proof) -> Result<u64, TrustError> {
        let shown = proof.log.as_ref();
        let shown = shown.ok_or_else(|| TrustError::Unreadable("it shows no log".to_owned()))?;
        let (seen, from) = (self.seen(&shown.log), self.comparable(&shown.log));
        let count = seen.count();
        // Peaks are the roots of subtrees, largest first: those of whole tiles come first.
        let tiles = seen.peaks().get(..from.count_ones() as usize);
        if shown.range.from != from || tiles != Some(shown.range.left.as_slice()) {
            return Err(TrustError::Rewritten { count });
        }
        if let Some(entries) = self.check(proof)?.entries {
            let whole = const_hex::encode(entries.frontier.to_bytes());
            self.logs.insert(name_of(&shown.log), whole);
        }
        Ok(count - from)
    }

    /// How old the newest head of a proof is at `now`, in milliseconds; over a minute is stale.
    pub fn age_ms(proof: &Proof, now: Time) -> Option<u64> {
        proof
            .heads
            .iter()
            .map(|head| now.since(head.signed_at))
            .min()
    }
}

/// A head older than this looks like an eclipse.
pub const STALE_MS: u64 = MINUTE_MS;
