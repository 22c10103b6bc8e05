//! What a committee votes on: attestations under four domains.
//!
//! ```text
//! payload = "LUX:QuantumAttest:" domain ":v1" || subject 32 || root 32 || u64 epoch
//! id      = H(payload)            a vote is an ML-DSA-65 signature over the payload itself
//! ```

use super::beacon::Epoch;
use crate::hash::Tag;
use crate::ids::{AttestationId, BeaconId, Digest, RequestId, ServiceSessionId};

/// What kind of thing is attested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Domain {
    /// An oracle write.
    OracleWrite,
    /// An oracle read.
    OracleRead,
    /// A completed session.
    SessionComplete,
    /// The beacon of an epoch.
    EpochBeacon,
}

impl Domain {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::OracleWrite,
        Self::OracleRead,
        Self::SessionComplete,
        Self::EpochBeacon,
    ];

    /// The published name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OracleWrite => "oracle/write",
            Self::OracleRead => "oracle/read",
            Self::SessionComplete => "session/complete",
            Self::EpochBeacon => "epoch/beacon",
        }
    }

    /// The domain with this published name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|domain| domain.as_str() == name)
    }

    const fn tag(self) -> Tag {
        match self {
            Self::OracleWrite => Tag::PublishedAttestOracleWrite,
            Self::OracleRead => Tag::PublishedAttestOracleRead,
            Self::SessionComplete => Tag::PublishedAttestSessionComplete,
            Self::EpochBeacon => Tag::PublishedAttestEpochBeacon,
        }
    }
}

/// What exactly is attested; the domain follows from it, so that the two cannot disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A write that the step asked for.
    OracleWrite(RequestId),
    /// A read that the step asked for.
    OracleRead(RequestId),
    /// A session.
    SessionComplete(ServiceSessionId),
    /// A beacon.
    EpochBeacon(BeaconId),
}

impl Subject {
    /// The subject of a domain with these bytes as its id.
    pub const fn from_parts(domain: Domain, id: [u8; 32]) -> Self {
        match domain {
            Domain::OracleWrite => Self::OracleWrite(RequestId::from_bytes(id)),
            Domain::OracleRead => Self::OracleRead(RequestId::from_bytes(id)),
            Domain::SessionComplete => Self::SessionComplete(ServiceSessionId::from_bytes(id)),
            Domain::EpochBeacon => Self::EpochBeacon(BeaconId::from_bytes(id)),
        }
    }

    /// Its domain.
    pub const fn domain(&self) -> Domain {
        match self {
            Self::OracleWrite(_) => Domain::OracleWrite,
            Self::OracleRead(_) => Domain::OracleRead,
            Self::SessionComplete(_) => Domain::SessionComplete,
            Self::EpochBeacon(_) => Domain::EpochBeacon,
        }
    }

    /// The 32 bytes of its id.
    pub const fn id(&self) -> &[u8; 32] {
        match self {
            Self::OracleWrite(id) | Self::OracleRead(id) => id.as_bytes(),
            Self::SessionComplete(id) => id.as_bytes(),
            Self::EpochBeacon(id) => id.as_bytes(),
        }
    }
}

/// An attestation: in `epoch`, the committee found `root` for `subject`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attestation {
    /// What was looked at.
    pub subject: Subject,
    /// What was found.
    pub root: Digest,
    /// When.
    pub epoch: Epoch,
}

impl Attestation {
    /// The bytes that a vote signs. They name their purpose, so they need no further tag.
    pub fn signing_payload(&self) -> Vec<u8> {
        [
            self.subject.domain().tag().label().as_bytes(),
            self.subject.id(),
            self.root.as_bytes(),
            &self.epoch.number().to_be_bytes(),
        ]
        .concat()
    }

    /// SHA-256 of the signing payload.
    pub fn id(&self) -> AttestationId {
        AttestationId::from_bytes(self.subject.domain().tag().hash_published(&[
            self.subject.id(),
            self.root.as_bytes(),
            &self.epoch.number().to_be_bytes(),
        ]))
    }

    /// Whether one node that signed both has lied: one subject, two roots, in whatever epochs.
    pub fn conflicts_with(&self, other: &Self) -> bool {
        self.subject == other.subject && self.root != other.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;

    #[test]
    fn names_and_tags_say_the_same() {
        for domain in Domain::ALL {
            let separator = format!("LUX:QuantumAttest:{}:v1", domain.as_str());
            assert_eq!(domain.tag().label(), separator);
            assert_eq!(Domain::from_name(domain.as_str()), Some(domain));
            assert_eq!(Subject::from_parts(domain, [5; 32]).domain(), domain);
        }
        assert_eq!(Domain::from_name("oracle"), None);
    }

    #[test]
    fn an_attestation_conflicts_with_another_root_of_its_subject_only() {
        let root = |b| Digest::from_bytes([b; 32]);
        let one = Attestation {
            subject: Subject::from_parts(Domain::OracleRead, [1; 32]),
            root: root(1),
            epoch: Epoch::new(1),
        };
        let other_root = Attestation {
            root: root(2),
            ..one
        };
        let other_domain = Attestation {
            subject: Subject::from_parts(Domain::OracleWrite, [1; 32]),
            ..other_root
        };
        assert!(one.conflicts_with(&other_root));
        assert!(!one.conflicts_with(&one));
        assert!(!one.conflicts_with(&other_domain));
        assert_eq!(one.id().to_bytes(), sha256(&one.signing_payload()));
        assert_ne!(other_root.id(), other_domain.id());
    }
}
