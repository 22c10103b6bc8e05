//! Payloads of the published message types.
//!
//! The published part comes first and is read as the published project reads it. Ours may go on
//! behind it with a version byte: [`Extended`].

use super::beacon::Epoch;
use super::step::{StepIndex, StepKind};
use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{AttestationId, Digest, NodeId, RequestId, ServiceId, ServiceSessionId, TxId};
use crate::limits::{COMMITTEE_MAX, FRAME_BODY_MAX, PEER_SIGNATURE_MAX};

/// Opens a session: `service || u64 epoch || tx || u32 n || n x node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionCreate {
    /// Service.
    pub service: ServiceId,
    /// Epoch.
    pub epoch: Epoch,
    /// Transaction that asks for it.
    pub tx: TxId,
    /// Committee, by the sender's word; a reader draws its own. At most 21 nodes.
    pub committee: Vec<NodeId>,
}

/// Starts a session: `session`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionStart {
    /// Session.
    pub session: ServiceSessionId,
}

/// Asks the committee to observe: `session || u8 kind || tx || input_hash`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OracleRequest {
    /// Session.
    pub session: ServiceSessionId,
    /// Kind of the step.
    pub kind: StepKind,
    /// Transaction of the step.
    pub tx: TxId,
    /// Hash of what goes in.
    pub input: Digest,
}

/// What a node observed: `request || submitter || u32 n || data || u32 m || signature`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OracleRecord {
    /// Request that it answers.
    pub request: RequestId,
    /// Who observed.
    pub submitter: NodeId,
    /// What was observed. At most 1 MiB, and less where it has to fit a frame.
    pub data: Vec<u8>,
    /// Signature, unchecked. At most 3309 bytes.
    pub signature: Vec<u8>,
}

/// Commits the records of a request: `request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OracleCommit {
    /// Request.
    pub request: RequestId,
}

/// Tells of an attestation: `session || u32 step || commit_root || attestation_id || output_hash`.
/// It carries no vote; whoever acts on it has seen the certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttestationNotice {
    /// Session.
    pub session: ServiceSessionId,
    /// Step.
    pub step: StepIndex,
    /// Committed root.
    pub commit_root: Digest,
    /// Attestation of it.
    pub attestation: AttestationId,
    /// Hash of what came out.
    pub output: Digest,
}

/// A published payload with what a version of ours wrote behind it:
/// `published [|| u8 version || rest]`. Published readers never look there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended<T> {
    /// The published part.
    pub published: T,
    /// Ours, if anything follows.
    pub extension: Option<Extension>,
}

/// What follows a published payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// Version of the extension; a reader skips those that it does not know.
    pub version: u8,
    /// Its bytes.
    pub body: Vec<u8>,
}

impl<T: Encode> Encode for Extended<T> {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.published);
        if let Some(extension) = &self.extension {
            out.u8(extension.version).raw(&extension.body);
        }
    }
}

/// Reads to the end of its input: an extension has no length of its own.
impl<T: Decode> Decode for Extended<T> {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let published = T::decode(input)?;
        let extension = if input.remaining() == 0 {
            None
        } else {
            let version = input.u8("extension version")?;
            let left = input.remaining();
            if left > FRAME_BODY_MAX {
                return Err(DecodeError::TooLong {
                    what: "extension",
                    claimed: left as u64,
                    limit: FRAME_BODY_MAX as u64,
                });
            }
            let body = input.take("extension", left)?.to_vec();
            Some(Extension { version, body })
        };
        Ok(Self {
            published,
            extension,
        })
    }
}

impl Encode for SessionCreate {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.service)
            .value(&self.epoch)
            .value(&self.tx)
            .list(&self.committee);
    }
}

impl Decode for SessionCreate {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            service: ServiceId::decode(input)?,
            epoch: Epoch::decode(input)?,
            tx: TxId::decode(input)?,
            committee: input.list("committee", COMMITTEE_MAX, 32)?,
        })
    }
}

impl Encode for SessionStart {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.session);
    }
}

impl Decode for SessionStart {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        ServiceSessionId::decode(input).map(|session| Self { session })
    }
}

impl Encode for OracleRequest {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.session)
            .value(&self.kind)
            .value(&self.tx)
            .value(&self.input);
    }
}

impl Decode for OracleRequest {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session: ServiceSessionId::decode(input)?,
            kind: StepKind::decode(input)?,
            tx: TxId::decode(input)?,
            input: Digest::decode(input)?,
        })
    }
}

impl Encode for OracleRecord {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.request)
            .value(&self.submitter)
            .bytes(&self.data)
            .bytes(&self.signature);
    }
}

impl Decode for OracleRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: RequestId::decode(input)?,
            submitter: NodeId::decode(input)?,
            data: input.bytes("oracle data", FRAME_BODY_MAX)?.to_vec(),
            signature: input.bytes("signature", PEER_SIGNATURE_MAX)?.to_vec(),
        })
    }
}

impl Encode for OracleCommit {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.request);
    }
}

impl Decode for OracleCommit {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        RequestId::decode(input).map(|request| Self { request })
    }
}

impl Encode for AttestationNotice {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.session)
            .value(&self.step)
            .value(&self.commit_root)
            .value(&self.attestation)
            .value(&self.output);
    }
}

impl Decode for AttestationNotice {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session: ServiceSessionId::decode(input)?,
            step: StepIndex::decode(input)?,
            commit_root: Digest::decode(input)?,
            attestation: AttestationId::decode(input)?,
            output: Digest::decode(input)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reads_back<T: Encode + Decode + PartialEq + core::fmt::Debug>(value: &T, len: usize) {
        let bytes = value.to_bytes();
        assert_eq!(bytes.len(), len);
        assert_eq!(T::from_bytes(&bytes).as_ref(), Ok(value));
        for cut in 0..bytes.len() {
            assert!(T::from_bytes(&bytes[..cut]).is_err());
        }
        assert!(T::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn payloads_have_their_published_sizes_and_no_other() {
        let id = [3; 32];
        let (session, request) = (ServiceSessionId::from_bytes(id), RequestId::from_bytes(id));
        reads_back(&SessionStart { session }, 32);
        reads_back(&OracleCommit { request }, 32);
        reads_back(
            &SessionCreate {
                service: ServiceId::from_bytes(id),
                epoch: Epoch::new(4),
                tx: TxId::from_bytes(id),
                committee: vec![NodeId::from_bytes(id); 2],
            },
            32 + 8 + 32 + 4 + 64,
        );
        let oracle_request = OracleRequest {
            session,
            kind: StepKind::ReadExternal,
            tx: TxId::from_bytes(id),
            input: Digest::from_bytes(id),
        };
        reads_back(&oracle_request, 97);
        reads_back(
            &OracleRecord {
                request,
                submitter: NodeId::from_bytes(id),
                data: vec![1; 5],
                signature: vec![2; 7],
            },
            64 + 4 + 5 + 4 + 7,
        );
        reads_back(
            &AttestationNotice {
                session,
                step: StepIndex::new(9),
                commit_root: Digest::from_bytes(id),
                attestation: AttestationId::from_bytes(id),
                output: Digest::from_bytes(id),
            },
            132,
        );
        let mut unknown_kind = oracle_request.to_bytes();
        unknown_kind[32] = 3;
        assert!(OracleRequest::from_bytes(&unknown_kind).is_err());
    }

    #[test]
    fn an_extension_has_a_limit() {
        let bytes = |body: usize| [vec![3; 32], vec![1], vec![0; body]].concat();
        let read = |body| Extended::<SessionStart>::from_bytes(&bytes(body));
        assert!(read(FRAME_BODY_MAX).is_ok());
        let refused = Err(DecodeError::TooLong {
            what: "extension",
            claimed: FRAME_BODY_MAX as u64 + 1,
            limit: FRAME_BODY_MAX as u64,
        });
        assert_eq!(read(FRAME_BODY_MAX + 1), refused);
    }

    proptest! {
        #[test]
        fn an_extension_is_kept_and_does_not_change_the_published_part(
            id: [u8; 32], version: u8, body in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let published = SessionStart { session: ServiceSessionId::from_bytes(id) };
            let plain = Extended { published, extension: None };
            prop_assert_eq!(plain.to_bytes(), published.to_bytes());
            prop_assert_eq!(Extended::from_bytes(&plain.to_bytes()), Ok(plain));
            let more = Extended { published, extension: Some(Extension { version, body }) };
            let bytes = more.to_bytes();
            prop_assert!(bytes.starts_with(&id));
            prop_assert_eq!(Extended::from_bytes(&bytes), Ok(more));
        }
    }
}
