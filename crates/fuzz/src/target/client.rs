//! What the SDK decodes: content that others sealed for us, certificates to trust, and the files
//! of a home, which a disk may have damaged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use session_client::content::{Bound, Content};
use session_client::e2ee::{self, Body, DeviceId, Event, EventKind, MessageName};
use session_client::{Gone, HistoryLine, Record, RpcClient, State, decode_proof};
use session_core::ids::{Digest, GroupId, SessionId};

use super::{Target, codec, seeds};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "content",
        run: codec::<Bound>,
        seeds: || {
            let contents = [
                Content::Text("Hello, Bob".to_owned()),
                Content::File {
                    name: "photo.jpg".to_owned(),
                    len: 3_000_000,
                    digest: Digest::from_bytes([7; 32]),
                },
                Content::Chunk {
                    file: Digest::from_bytes([7; 32]),
                    index: 2,
                    bytes: vec![1, 2, 3],
                },
                Content::Link(vec![1, 2, 3]),
            ];
            seeds(contents.map(|content| Bound {
                session: SessionId::from_bytes([3; 32]),
                counter: 9,
                content,
            }))
        },
    },
    Target {
        name: "chat_record",
        run: codec::<Record>,
        seeds: || {
            let message = MessageName {
                device: DeviceId::from_bytes([1; 16]),
                sequence: 5,
            };
            let body = Body {
                sequence: 5,
                sent_at_ms: 1_700_000_000_000,
                content: e2ee::Content::Text("see you at nine".to_owned()),
            };
            let event = Event {
                number: 3,
                group: GroupId::from_bytes([2; 32]),
                kind: EventKind::Verified(vec![message]),
            };
            let (at_ms, timer_s) = (1_700_000_000_001, 60);
            seeds([
                Record::Said {
                    message,
                    body,
                    at_ms,
                    timer_s,
                },
                Record::Event {
                    event,
                    at_ms,
                    timer_s,
                },
                Record::Looked,
                Record::Gone {
                    message,
                    why: Gone::Deleted,
                },
            ])
        },
    },
    Target {
        name: "trusted_certificates",
        run: |bytes| RpcClient::with_roots("https://node.example", None, Some(bytes)).is_ok(),
        seeds: || vec![CERTIFICATE.as_bytes().to_vec()],
    },
    Target {
        name: "proof_text",
        run: |bytes| {
            let text = core::str::from_utf8(bytes);
            text.is_ok_and(|text| decode_proof(text).is_ok())
        },
        seeds: || {
            let proofs = super::find("proof").map(|target| (target.seeds)());
            let text = |proof: &Vec<u8>| BASE64.encode(proof).into_bytes();
            proofs.unwrap_or_default().iter().map(text).collect()
        },
    },
    Target {
        name: "client_state",
        run: |bytes| {
            let Ok(state) = serde_json::from_slice::<State>(bytes) else {
                return false;
            };
            for contact in state.contacts.values() {
                let _whole = contact.keys();
            }
            let written = serde_json::to_vec(&state).unwrap_or_default();
            let again = serde_json::from_slice::<State>(&written);
            let again = again.ok().and_then(|state| serde_json::to_vec(&state).ok());
            assert!(again.as_ref() == Some(&written), "state reads back");
            true
        },
        seeds: || vec![b"{}".to_vec(), STATE.as_bytes().to_vec()],
    },
    Target {
        name: "history_line",
        run: |bytes| {
            let Ok(line) = serde_json::from_slice::<HistoryLine>(bytes) else {
                return false;
            };
            let written = serde_json::to_vec(&line).unwrap_or_default();
            let again = serde_json::from_slice::<HistoryLine>(&written).ok();
            assert!(again == Some(line), "a line reads back");
            true
        },
        seeds: || {
            let line = HistoryLine {
                session: SessionId::from_bytes([3; 32]),
                sequence: Some(4),
                sender: session_core::ids::AccountId::from_bytes([5; 32]),
                time: "1795731273262".to_owned(),
                kind: "text".to_owned(),
                text: "Hello \"Bob\"\n".to_owned(),
            };
            vec![serde_json::to_vec(&line).unwrap_or_default()]
        },
    },
];

const STATE: &str = include_str!("client/state.json");

const CERTIFICATE: &str = include_str!("client/certificate.pem");
