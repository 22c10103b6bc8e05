//! The execution layer: frames, messages, payloads, stored records.

use super::{Target, codec, decode, seeds};
use session_core::codec::{Decode, Encode};
use session_core::ids::{
    AttestationId, Digest, NodeId, RequestId, ServiceId, ServiceSessionId, TxId,
};
use session_core::limits::FRAME_BODY_MAX;
use session_core::service::beacon::Epoch;
use session_core::service::frame::{FrameReader, frame};
use session_core::service::message::{Kind, Message};
use session_core::service::payload::{
    AttestationNotice, Extended, Extension, OracleCommit, OracleRecord, OracleRequest,
    SessionCreate, SessionStart,
};
use session_core::service::session::{SessionState, StoredSession};
use session_core::service::step::{Retry, StepIndex, StepKind, StepState, StoredStep};
use session_core::time::UnixNanos;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "frames",
        run: frames,
        seeds: || {
            let bodies: Vec<Vec<u8>> = messages().iter().map(Encode::to_bytes).collect();
            let frames: Vec<Vec<u8>> = bodies.iter().flat_map(|body| frame(body)).collect();
            vec![frames.concat(), vec![0; 4], Vec::new()]
        },
    },
    Target {
        name: "message",
        run: |bytes| {
            let Some(message) = decode::<Message>(bytes) else {
                return false;
            };
            let framed = frame(bytes);
            assert!(framed == Ok(message.to_frame()), "a message fits its frame");
            true
        },
        seeds: || seeds(messages()),
    },
    Target {
        name: "session_create",
        run: payload::<SessionCreate>,
        seeds: || {
            extended(SessionCreate {
                service: ServiceId::from_bytes([1; 32]),
                epoch: Epoch::new(7),
                tx: TxId::from_bytes([2; 32]),
                committee: (0..21).map(|n| NodeId::from_bytes([n; 32])).collect(),
            })
        },
    },
    Target {
        name: "session_start",
        run: payload::<SessionStart>,
        seeds: || extended(SessionStart { session: SESSION }),
    },
    Target {
        name: "oracle_request",
        run: payload::<OracleRequest>,
        seeds: || {
            extended(OracleRequest {
                session: SESSION,
                kind: StepKind::WriteExternal,
                tx: TxId::from_bytes([2; 32]),
                input: Digest::from_bytes([3; 32]),
            })
        },
    },
    Target {
        name: "oracle_record",
        run: payload::<OracleRecord>,
        seeds: || {
            extended(OracleRecord {
                request: REQUEST,
                submitter: NodeId::from_bytes([4; 32]),
                data: b"what was seen".to_vec(),
                signature: vec![5; 64],
            })
        },
    },
    Target {
        name: "oracle_commit",
        run: payload::<OracleCommit>,
        seeds: || extended(OracleCommit { request: REQUEST }),
    },
    Target {
        name: "attestation",
        run: payload::<AttestationNotice>,
        seeds: || {
            extended(AttestationNotice {
                session: SESSION,
                step: StepIndex::new(1),
                commit_root: Digest::from_bytes([6; 32]),
                attestation: AttestationId::from_bytes([7; 32]),
                output: Digest::from_bytes([8; 32]),
            })
        },
    },
    Target {
        name: "stored_session",
        run: |bytes| {
            let Some(session) = decode::<StoredSession>(bytes) else {
                return false;
            };
            let printed = session.created.to_string();
            assert!(printed.ends_with('Z'), "every time can be printed");
            true
        },
        seeds: || {
            seeds([StoredSession {
                id: SESSION,
                service: ServiceId::from_bytes([1; 32]),
                epoch: Epoch::new(3),
                committee: vec![NodeId::from_bytes([2; 32]); 3],
                state: SessionState::Failed,
                current_step: StepIndex::new(2),
                output: Digest::from_bytes([0; 32]),
                oracle_root: Digest::from_bytes([0; 32]),
                receipts_root: Digest::from_bytes([0; 32]),
                created: UnixNanos::from_ns(1_763_000_000_000_000_005),
                finalized: UnixNanos::from_ns(i64::MIN),
                error: "late".to_owned(),
            }])
        },
    },
    Target {
        name: "stored_step",
        run: codec::<StoredStep>,
        seeds: || {
            seeds([StoredStep {
                index: StepIndex::new(1),
                kind: StepKind::ReadExternal,
                request: REQUEST,
                retry: Retry::new(3),
                tx: TxId::from_bytes([2; 32]),
                input: Digest::from_bytes([3; 32]),
                output: Digest::from_bytes([0; 32]),
                oracle_commit_root: Digest::from_bytes([0; 32]),
                attestation: AttestationId::from_bytes([0; 32]),
                state: StepState::Waiting,
                started: UnixNanos::from_ns(1),
                completed: UnixNanos::from_ns(2),
            }])
        },
    },
];

const SESSION: ServiceSessionId = ServiceSessionId::from_bytes([9; 32]);
const REQUEST: RequestId = RequestId::from_bytes([10; 32]);

fn messages() -> Vec<Message> {
    let kinds = [1, 7, 12, 31, 32, 255]
        .into_iter()
        .filter_map(Kind::from_number);
    let messages = kinds.map(|kind| {
        let (from, to) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        Message::new(kind, from, to, vec![3; 5], UnixNanos::from_ns(-1))?.with_signature(vec![4; 9])
    });
    messages.flatten().collect()
}

/// However a stream is cut, the same bodies and the same error come out, and the bodies framed
/// again are the bytes that were consumed.
fn frames(bytes: &[u8]) -> bool {
    let whole = read(bytes, bytes.len().max(1));
    for piece in [1, 3, 64] {
        assert!(read(bytes, piece) == whole, "the cut of the stream shows");
    }
    let (bodies, between, failed) = whole;
    let mut consumed = Vec::new();
    for body in &bodies {
        assert!(body.len() <= FRAME_BODY_MAX, "a body above the limit");
        consumed.extend(frame(body).unwrap_or_default());
        let _ = Message::from_bytes(body);
    }
    assert!(
        bytes.starts_with(&consumed),
        "bodies are not those of the stream"
    );
    assert!(
        !between || consumed == bytes,
        "bytes were lost between frames"
    );
    !failed && between
}

fn read(bytes: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool, bool) {
    let (mut reader, mut bodies) = (FrameReader::new(), Vec::new());
    for mut piece in bytes.chunks(piece) {
        loop {
            match reader.next_body(&mut piece) {
                Ok(Some(body)) => bodies.push(body),
                Ok(None) => break,
                Err(_) => return (bodies, false, true),
            }
        }
    }
    let between = reader.is_between_frames();
    (bodies, between, false)
}

/// A payload alone, and with whatever follows it.
fn payload<T: Decode + Encode>(bytes: &[u8]) -> bool {
    let alone = decode::<T>(bytes).is_some();
    let with_more = decode::<Extended<T>>(bytes);
    assert!(
        !alone || with_more.is_some(),
        "the published form is refused"
    );
    with_more.is_some()
}

fn extended<T: Encode + Clone>(published: T) -> Vec<Vec<u8>> {
    let extension = Some(Extension {
        version: 1,
        body: vec![1, 2, 3],
    });
    let plain = Extended {
        published: published.clone(),
        extension: None,
    };
    seeds([
        plain,
        Extended {
            published,
            extension,
        },
    ])
}
