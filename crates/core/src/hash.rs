//! The one enum of domain tags, and the hashes that use them.
//!
//! Ours: `H(tag, data) = SHA-256(u8 length of tag || tag || data)` (`spec/vm.md` §1). The ids of
//! the published execution layer keep their published preimages, where the tag is a bare prefix
//! (`spec/wire.md` §2). No string literal of a domain exists outside this file.

use sha2::{Digest, Sha256};

/// What a hash, a signature or a derived key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// Id of a stand-alone chain: hash of its genesis bytes.
    Genesis,
    /// Block id: hash of the header.
    Block,
    /// Action id: what a transaction's signature covers.
    Action,
    /// Transaction id: action and signature.
    Tx,
    /// Leaf of a block's transaction tree.
    TxLeaf,
    /// Inner node of every RFC 6962-shaped tree of ours.
    MerkleNode,
    /// Root of a tree with its leaf count.
    MerkleRoot,
    /// Leaf of an execution-layer record set.
    MerkleLeaf,
    /// Leaf of an append-only log.
    LogLeaf,
    /// Key of a record in the state tree.
    Key,
    /// Message id, and what a message signature covers.
    Message,
    /// List of messages under one signature.
    MessageBatch,
    /// Session id.
    Session,
    /// Channel id.
    Channel,
    /// Group id.
    Group,
    /// Id of one frame posted to a group.
    GroupFrame,
    /// List of frames under one signature of a group's posting key.
    GroupPost,
    /// Commit of a group: hash of the pieces that carry it.
    Commit,
    /// Published key package.
    KeyPackage,
    /// Content-addressed chunk id.
    Chunk,
    /// Signed head.
    Head,
    /// Certificate of a head key by an operator's root key.
    HeadKey,
    /// Hash of a public key kept in a record.
    PublicKey,
    /// Fold over the rotations of an account's keys.
    KeyRotation,
    /// A device's wish to be let back into its group.
    Rejoin,
    /// Hash of a roster kept in a record.
    Roster,
    /// Identity seed to ML-DSA seed (keyed BLAKE2b).
    SeedSign,
    /// Identity seed to ML-KEM seed (keyed BLAKE2b).
    SeedKem,
    /// Identity seed to the seed of its ML-DSA recovery key (keyed BLAKE2b).
    SeedRecovery,
    /// Envelope v2 message key (keyed BLAKE2b).
    EnvelopeKey,
    /// Envelope v3: content key to the key of the ciphertext (keyed BLAKE2b).
    EnvelopeManyKey,
    /// Envelope v3: commitment to the content key (keyed BLAKE2b).
    EnvelopeManyCommitment,
    /// Sealed identity file: additional authenticated data.
    IdentityFile,
    /// What an account signs for one of its devices.
    DeviceCertificate,
    /// Hash of a chat frame.
    Frame,
    /// Leaf of a sender's batch of frames.
    FrameBatchLeaf,
    /// What a sender signs for a batch of frames.
    FrameBatch,
    /// Slot and name of a sealed record to its key (keyed BLAKE2b).
    RecordKey,
    /// Link code to the place where its request lies (keyed BLAKE2b).
    LinkPlace,
    /// Link code to the key that seals a request (keyed BLAKE2b).
    LinkRequest,
    /// Link code and agreed secret to the key that seals a grant (keyed BLAKE2b).
    LinkGrant,
    /// Link code to the identity through which both devices meet (keyed BLAKE2b).
    LinkMeeting,
    /// Key of a device's store to the key of what was said (keyed BLAKE2b).
    TranscriptKey,
    /// Epoch authenticator to the digits that people compare (keyed BLAKE2b).
    SafetyNumber,
    /// Hash of an attachment's sealed bytes.
    Attachment,
    /// Tree secret of a group and a piece of its ratchet tree to that piece's key (keyed BLAKE2b).
    TreePieceKey,
    /// Published session id of the execution layer.
    PublishedSession,
    /// Published oracle request id.
    PublishedOracleRequest,
    /// Published receipt id.
    PublishedReceipt,
    /// Published epoch beacon id.
    PublishedEpochBeacon,
    /// Published attestation of an oracle write.
    PublishedAttestOracleWrite,
    /// Published attestation of an oracle read.
    PublishedAttestOracleRead,
    /// Published attestation of a completed session.
    PublishedAttestSessionComplete,
    /// Published attestation of an epoch beacon.
    PublishedAttestEpochBeacon,
}

impl Tag {
    /// The tag as it enters a hash.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Genesis => "LUX:SessionVM:genesis:v1",
            Self::Block => "LUX:SessionVM:block:v1",
            Self::Action => "LUX:SessionVM:action:v1",
            Self::Tx => "LUX:SessionVM:tx:v1",
            Self::TxLeaf => "LUX:SessionVM:tx-leaf:v1",
            Self::MerkleNode => "LUX:SessionVM:merkle-node:v1",
            Self::MerkleRoot => "LUX:SessionVM:merkle-root:v1",
            Self::MerkleLeaf => "LUX:SessionVM:merkle-leaf:v1",
            Self::LogLeaf => "LUX:SessionVM:log-leaf:v1",
            Self::Key => "LUX:SessionVM:key:v1",
            Self::Message => "LUX:SessionVM:message:v1",
            Self::MessageBatch => "LUX:SessionVM:message-batch:v1",
            Self::Session => "LUX:SessionVM:session:v1",
            Self::Channel => "LUX:SessionVM:channel:v1",
            Self::Group => "LUX:SessionVM:group:v1",
            Self::GroupFrame => "LUX:SessionVM:group-frame:v1",
            Self::GroupPost => "LUX:SessionVM:group-post:v1",
            Self::Commit => "LUX:SessionVM:commit:v1",
            Self::KeyPackage => "LUX:SessionVM:key-package:v1",
            Self::Chunk => "LUX:SessionVM:chunk:v1",
            Self::Head => "LUX:SessionVM:head:v1",
            Self::HeadKey => "LUX:SessionVM:head-key:v1",
            Self::PublicKey => "LUX:SessionVM:public-key:v1",
            Self::KeyRotation => "LUX:SessionVM:key-rotation:v1",
            Self::Rejoin => "LUX:SessionVM:rejoin:v1",
            Self::Roster => "LUX:SessionVM:roster:v1",
            Self::SeedSign => "LUX:SessionVM:seed-sign:v1",
            Self::SeedKem => "LUX:SessionVM:seed-kem:v1",
            Self::SeedRecovery => "LUX:SessionVM:seed-recovery:v1",
            Self::EnvelopeKey => "LUX:SessionVM:envelope-key:v2",
            Self::EnvelopeManyKey => "LUX:SessionVM:envelope-key:v3",
            Self::EnvelopeManyCommitment => "LUX:SessionVM:envelope-commitment:v3",
            Self::IdentityFile => "LUX:SessionVM:identity-file:v1",
            Self::DeviceCertificate => "LUX:SessionVM:device-certificate:v1",
            Self::Frame => "LUX:SessionVM:frame:v1",
            Self::FrameBatchLeaf => "LUX:SessionVM:frame-batch-leaf:v1",
            Self::FrameBatch => "LUX:SessionVM:frame-batch:v1",
            Self::RecordKey => "LUX:SessionVM:record-key:v1",
            Self::LinkPlace => "LUX:SessionVM:link-place:v1",
            Self::LinkRequest => "LUX:SessionVM:link-request:v1",
            Self::LinkGrant => "LUX:SessionVM:link-grant:v1",
            Self::LinkMeeting => "LUX:SessionVM:link-meeting:v1",
            Self::TranscriptKey => "LUX:SessionVM:transcript-key:v1",
            Self::SafetyNumber => "LUX:SessionVM:safety-number:v1",
            Self::Attachment => "LUX:SessionVM:attachment:v1",
            Self::TreePieceKey => "LUX:SessionVM:tree-piece-key:v1",
            Self::PublishedSession => "LUX:Session:v1",
            Self::PublishedOracleRequest => "LUX:OracleRequest:v1",
            Self::PublishedReceipt => "LUX:Receipt:v1",
            Self::PublishedEpochBeacon => "LUX:EpochBeacon:v1",
            Self::PublishedAttestOracleWrite => "LUX:QuantumAttest:oracle/write:v1",
            Self::PublishedAttestOracleRead => "LUX:QuantumAttest:oracle/read:v1",
            Self::PublishedAttestSessionComplete => "LUX:QuantumAttest:session/complete:v1",
            Self::PublishedAttestEpochBeacon => "LUX:QuantumAttest:epoch/beacon:v1",
        }
    }

    /// `H(tag, parts…)`: SHA-256 over the length-prefixed tag and the parts, 32 bytes.
    pub fn hash(self, parts: &[&[u8]]) -> [u8; 32] {
        let label = self.label().as_bytes();
        let mut hasher = Sha256::new();
        // Labels are short literals of this file, so the length always fits one byte.
        hasher.update([label.len() as u8]);
        hasher.update(label);
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize().into()
    }

    /// The published form: SHA-256 over the bare tag and the parts, 32 bytes.
    pub(crate) fn hash_published(self, parts: &[&[u8]]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.label().as_bytes());
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize().into()
    }
}

/// Plain SHA-256 of `data`, 32 bytes.
pub fn sha256(data: &[u8]) -> [u8; 32] {
    Sha256::digest(data).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_length_is_part_of_the_preimage() {
        let tag = Tag::Block.label();
        let mut preimage = vec![tag.len() as u8];
        preimage.extend_from_slice(tag.as_bytes());
        preimage.extend_from_slice(b"ab");
        assert_eq!(Tag::Block.hash(&[b"a", b"b"]), sha256(&preimage));
        assert_ne!(Tag::Block.hash(&[b"ab"]), Tag::Tx.hash(&[b"ab"]));
    }
}
