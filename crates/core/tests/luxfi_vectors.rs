//! Values of the execution layer that the published Go project computed, all of them reproduced.
//! The identities of the same file are checked by `session-crypto`, the file as a whole by
//! `session-vectors`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on stops"
)]

use serde_json::{Value, json};
use session_core::codec::{Decode, Encode};
use session_core::ids::{
    AccountId, BeaconId, ChainId, Digest, NodeId, ReceiptId, RequestId, ServiceId,
    ServiceSessionId, TxId,
};
use session_core::quorum::quorum;
use session_core::service::beacon::{Beacon, Epoch};
use session_core::service::committee::{Committee, Size};
use session_core::service::frame::{FrameReader, frame};
use session_core::service::message::{Kind, Message, PublishedKind};
use session_core::service::oracle::{Request, data_hash, record_id, records_compat_root};
use session_core::service::payload::SessionCreate;
use session_core::service::receipt::{Receipt, receipts_compat_root};
use session_core::service::session::{StoredSession, session_id};
use session_core::service::step::{Retry, StepIndex, StoredStep};
use session_core::service::vote::{Attestation, Domain, Subject};
use session_core::time::UnixNanos;

fn file() -> Value {
    serde_json::from_str(include_str!("data/luxfi-session.json")).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    const_hex::decode(text(value)).unwrap()
}

fn id(value: &Value) -> [u8; 32] {
    bytes(value).try_into().unwrap()
}

fn number<T: core::str::FromStr<Err: core::fmt::Debug>>(value: &Value) -> T {
    let text = value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned);
    text.parse().unwrap()
}

fn nodes(value: &Value) -> Vec<NodeId> {
    let nodes = list(value).iter();
    nodes.map(|node| NodeId::from_bytes(id(node))).collect()
}

fn hex(bytes: impl AsRef<[u8]>) -> Value {
    const_hex::encode(bytes).into()
}

/// The bytes of an id as the array of numbers that Go prints.
fn numbers(id: impl AsRef<[u8]>) -> Value {
    id.as_ref().into()
}

#[test]
fn ids_and_signing_payloads() {
    for v in list(&file()["ids"]) {
        let (a, b, c) = (id(&v["a"]), id(&v["b"]), id(&v["c"]));
        let epoch = Epoch::new(number(&v["epoch"]));
        let step = StepIndex::new(number(&v["step"]));
        let data = data_hash(&bytes(&v["data"]));
        let is = |key: &str, computed: &dyn AsRef<[u8]>| {
            assert_eq!(v[key], hex(computed), "{key}");
        };
        let service = ServiceId::from_bytes(a);
        is(
            "session_id(service=a,epoch,tx=b)",
            &session_id(&service, epoch, &TxId::from_bytes(b)),
        );
        let request = Request {
            service,
            session: ServiceSessionId::from_bytes(b),
            step,
            retry: Retry::new(number(&v["retry"])),
            tx: TxId::from_bytes(c),
        };
        is(
            "request_id(service=a,session=b,tx=c,step,retry)",
            &request.id(),
        );
        is("hash_data", &data);
        let record = record_id(&RequestId::from_bytes(a), &NodeId::from_bytes(b), &data);
        is("oracle_record_id(request=a,submitter=b,data)", &record);
        let receipt = Receipt {
            session: ServiceSessionId::from_bytes(a),
            step,
            message: Digest::from_bytes(b),
            sender: AccountId::from_bytes(c),
            receiver: AccountId::from_bytes(a),
        };
        is(
            "receipt_id(session=a,step,message_hash=b,sender=c,receiver=a)",
            &receipt.id(),
        );
        let beacon = Beacon {
            epoch,
            randomness: Digest::from_bytes(a),
            previous: BeaconId::from_bytes(b),
        };
        is("beacon_id(epoch,randomness=a,previous=b)", &beacon.id());
        for domain in Domain::ALL {
            let attestation = Attestation {
                subject: Subject::from_parts(domain, a),
                root: Digest::from_bytes(b),
                epoch,
            };
            let name = domain.as_str();
            is(
                &format!("attestation_id({name},subject=a,root=b,epoch)"),
                &attestation.id(),
            );
            is(
                &format!("signing_payload({name},subject=a,root=b,epoch)"),
                &attestation.signing_payload(),
            );
        }
        assert_eq!(v["cb58(a)"], Digest::from_bytes(a).to_string());
        assert_eq!(text(&v["cb58(a)"]).parse(), Ok(Digest::from_bytes(a)));
        // 7 inputs, 6 ids, a hash and a text, and twice 4 domains: nothing is left out.
        assert_eq!(v.as_object().unwrap().len(), 7 + 7 + 8);
    }
}

#[test]
fn compat_roots() {
    for v in list(&file()["merkle"]) {
        let data: Vec<Digest> = list(&v["data"])
            .iter()
            .map(|data| data_hash(&bytes(data)))
            .collect();
        assert_eq!(v["records_compat_root"], hex(records_compat_root(&data)));
        let receipts: Vec<_> = list(&v["receipt_ids"])
            .iter()
            .map(|receipt| ReceiptId::from_bytes(id(receipt)))
            .collect();
        assert_eq!(
            v["receipts_compat_root"],
            hex(receipts_compat_root(&receipts))
        );
    }
}

#[test]
fn committees() {
    for v in list(&file()["committees"]) {
        let eligible = nodes(&v["nodes"]);
        let drawn = Committee::draw(
            &Digest::from_bytes(id(&v["randomness"])),
            &ServiceId::from_bytes(id(&v["service"])),
            Epoch::new(number(&v["epoch"])),
            &eligible,
            Size::PUBLISHED,
        );
        // The quorum of the file is that of all eligible nodes, not of the committee.
        assert_eq!(v["quorum"], quorum(eligible.len()));
        match drawn {
            Ok(committee) => {
                assert_eq!(committee.members(), nodes(&v["committee"]));
                assert_eq!(v["error"], "");
            }
            Err(error) => {
                assert_eq!(v["committee"], json!([]));
                assert_eq!(v["error"], error.to_string());
            }
        }
    }
}

#[test]
fn frames() {
    let names = [
        (PublishedKind::Handshake, "handshake"),
        (PublishedKind::SessionCreate, "session_create"),
        (PublishedKind::OracleRecord, "oracle_record"),
        (PublishedKind::Attestation, "attestation"),
        (PublishedKind::Receipt, "receipt"),
        (PublishedKind::Ping, "ping"),
        (PublishedKind::Pong, "pong"),
    ];
    let file = file();
    assert_eq!(list(&file["frames"]).len(), names.len());
    for (v, (kind, name)) in list(&file["frames"]).iter().zip(names) {
        assert_eq!(
            (&v["name"], &v["type"]),
            (&name.into(), &kind.number().into())
        );
        let message = Message::new(
            Kind::Published(kind),
            NodeId::from_bytes(id(&v["from"])),
            NodeId::from_bytes(id(&v["to"])),
            bytes(&v["payload"]),
            UnixNanos::from_ns(number(&v["unix_nanos"])),
        )
        .and_then(|message| message.with_signature(bytes(&v["signature"])))
        .unwrap();
        assert_eq!(v["frame"], hex(message.to_frame()));
        assert_eq!(frame(&message.to_bytes()).unwrap(), message.to_frame());
        let (mut reader, stream) = (FrameReader::new(), bytes(&v["frame"]));
        let body = reader.next_body(&mut &stream[..]).unwrap().unwrap();
        assert_eq!(Message::from_bytes(&body), Ok(message));
    }
}

#[test]
fn session_create() {
    let v = &file()["session_create_payload"];
    let payload = SessionCreate {
        service: ServiceId::from_bytes(id(&v["service"])),
        epoch: Epoch::new(number(&v["epoch"])),
        tx: TxId::from_bytes(id(&v["tx"])),
        committee: nodes(&v["committee"]),
    };
    assert_eq!(v["bytes"], hex(payload.to_bytes()));
    assert_eq!(SessionCreate::from_bytes(&bytes(&v["bytes"])), Ok(payload));
}

#[test]
fn stored_records_and_their_json() {
    let v = &file()["stored"];
    let session = StoredSession::from_bytes(&bytes(&v["session"])).unwrap();
    assert_eq!(v["session"], hex(session.to_bytes()));
    // The transaction is in the JSON only; the id is made of it.
    let tx = Vec::from_iter(
        list(&v["session_json"]["txId"])
            .iter()
            .map(|byte| u8::try_from(byte.as_u64().unwrap()).unwrap()),
    );
    let tx = TxId::try_from(&tx[..]).unwrap();
    assert_eq!(session.id, session_id(&session.service, session.epoch, &tx));
    let committee: Vec<Value> = session.committee.iter().map(numbers).collect();
    assert_eq!(
        v["session_json"],
        json!({
            "id": numbers(session.id),
            "serviceId": numbers(session.service),
            "epoch": session.epoch.number(),
            "txId": numbers(tx),
            "committee": committee,
            "state": session.state.number(),
            "currentStep": session.current_step.number(),
            "steps": [],
            "outputHash": numbers(session.output),
            "oracleRoot": numbers(session.oracle_root),
            "receiptsRoot": numbers(session.receipts_root),
            "createdAt": session.created.to_string(),
            "finalizedAt": session.finalized.to_string(),
            "error": session.error,
        })
    );

    let step = StoredStep::from_bytes(&bytes(&v["step"])).unwrap();
    assert_eq!(v["step"], hex(step.to_bytes()));
    assert_eq!(
        v["step_json"],
        json!({
            "stepIndex": step.index.number(),
            "kind": step.kind.number(),
            "requestId": numbers(step.request),
            "retryIndex": step.retry.number(),
            "txId": numbers(step.tx),
            "inputHash": numbers(step.input),
            "outputHash": numbers(step.output),
            "oracleCommitRoot": numbers(step.oracle_commit_root),
            "attestationId": numbers(step.attestation),
            "state": step.state.number(),
            "startedAt": step.started.to_string(),
            "completedAt": step.completed.to_string(),
        })
    );
}

#[test]
fn vm_name_and_id() {
    let v = &file()["vm"];
    let mut name = text(&v["name"]).as_bytes().to_vec();
    name.resize(32, 0);
    let id = ChainId::try_from(&name[..]).unwrap();
    assert_eq!(v["vmid"], id.to_string());
}
