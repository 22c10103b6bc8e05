//! x
use crate::outgoing::ChainKeys;
use session_core::ids::{ChainId, Digest};
/// What the chain's proved record says of a group that one is invited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFacts {
    /// The chain.
    pub chain: ChainId,
    /// The epoch that the welcome leads to.
    pub epoch: u64,
    /// Hash of the commit that led there.
    pub commit_hash: Digest,
    /// The epoch's keys.
    pub keys: ChainKeys,
    /// The entry of the log after that commit: what is read first.
    pub next_position: u64,
    /// Block time of that commit, in milliseconds.
    pub time_ms: u64,
}

/// A key package of ours, to be published or handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnKeyPackage {
    /// The key package, an MLS message.
    pub bytes: Vec<u8>,
    /// Hash of these bytes.
    pub hash: Digest,
    /// When it expires, for its record in the directory: the MLS lifetime has no end.
    pub expires_ms: u64,
}
