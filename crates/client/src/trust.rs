//! What a client believes: proofs it has verified, heads signed by a key it has pinned.
//!
//! Heights never go back; a log that was seen is only ever extended; a head older than a minute
//! is told as stale (`spec/vm.md` §5, §7). The first head key that a chain shows is pinned; where
//! the operator's root key is known it must have certified the head key.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use session_core::codec::{Decode, DecodeError, Encode};
use session_core::header::{Header, SignedHead};
use session_core::ids::ChainId;
use session_core::merkle::Frontier;
use session_core::proof::{Proof, ProofError, Proved};
use session_core::time::{MINUTE_MS, Time};
use session_crypto::{Signature, SigningPublicKey};

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
    /// The node's key is another than the pinned one.
    #[error(
        "the node's head key has changed: if its operator says so, forget the old one with \
         `session node forget`"
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
    /// Highest head seen.
    pub height: u64,
    /// Frontiers of logs, by log id in hex.
    pub logs: BTreeMap<String, String>,
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
    /// Pins the first head key; later it must be the same.
    ///
    /// # Errors
    /// [`TrustError::OtherHeadKey`], [`TrustError::OtherChain`].
    pub fn pin(&mut self, chain: ChainId, head_key: &str) -> Result<(), TrustError> {
        match self.chain {
            None => (self.chain, self.head_key) = (Some(chain), head_key.to_owned()),
            Some(expected) if expected != chain => {
                return Err(TrustError::OtherChain {
                    found: chain,
                    expected,
                });
            }
            Some(_) if self.head_key != head_key => return Err(TrustError::OtherHeadKey),
            Some(_) => {}
        }
        Ok(())
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
        let key = self.key();
        let signed = key.is_some_and(|key| proof.heads.iter().any(|h| head_is_signed_by(h, &key)));
        if !signed {
            return Err(TrustError::NotSigned {
                height: header.height,
            });
        }
        if header.height < self.height {
            return Err(TrustError::GoesBack {
                height: header.height,
                seen: self.height,
            });
        }
        let extended = self.extend(proof)?;
        self.height = header.height;
        if let Some((log, frontier)) = extended {
            self.logs.insert(log, frontier);
        }
        Ok(proved)
    }

    /// The log of a proof must extend what was seen of it.
    fn extend(&self, proof: &Proof) -> Result<Option<(String, String)>, TrustError> {
        let Some(log) = &proof.log else {
            return Ok(None);
        };
        let name = const_hex::encode(log.log.to_bytes());
        let seen = self
            .logs
            .get(&name)
            .and_then(|text| const_hex::decode(text).ok());
        let seen = seen
            .and_then(|bytes| Frontier::from_bytes(&bytes).ok())
            .unwrap_or_default();
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
