//! Oracle requests and the records that answer them.

use super::step::{Retry, StepIndex};
use crate::hash::{Tag, sha256};
use crate::ids::{Digest, NodeId, RecordId, RequestId, ServiceId, ServiceSessionId, TxId};
use crate::merkle::{Hash, compat_root};

/// What a step asks the world: its id is known before anybody answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request {
    /// Service.
    pub service: ServiceId,
    /// Session.
    pub session: ServiceSessionId,
    /// Step that asks.
    pub step: StepIndex,
    /// How often it was asked before.
    pub retry: Retry,
    /// Transaction of the step.
    pub tx: TxId,
}

impl Request {
    /// `"LUX:OracleRequest:v1" || service || session || u32 step || u32 retry || tx`, hashed.
    pub fn id(&self) -> RequestId {
        RequestId::from_bytes(Tag::PublishedOracleRequest.hash_published(&[
            self.service.as_bytes(),
            self.session.as_bytes(),
            &self.step.number().to_be_bytes(),
            &self.retry.number().to_be_bytes(),
            self.tx.as_bytes(),
        ]))
    }
}

/// `H(data)` of what a node observed.
pub fn data_hash(data: &[u8]) -> Digest {
    Digest::from_bytes(sha256(data))
}

/// Id of an oracle record: `H(request || submitter || H(data))`. The preimage has no tag; it is 96
/// bytes long, and no other published one without a tag is.
pub fn record_id(request: &RequestId, submitter: &NodeId, data_hash: &Digest) -> RecordId {
    let preimage = [
        request.to_bytes(),
        submitter.to_bytes(),
        data_hash.to_bytes(),
    ];
    RecordId::from_bytes(sha256(preimage.as_flattened()))
}

/// The published root over the data hashes of records **in arrival order**; zero for none.
///
/// Two nodes that saw the same records in another order get another root, and it allows second
/// preimages: for comparison with the published project only, never signed by us.
pub fn records_compat_root(data_hashes: &[Digest]) -> Digest {
    let leaves: Vec<Hash> = data_hashes.iter().map(|hash| hash.to_bytes()).collect();
    Digest::from_bytes(compat_root(&leaves))
}
