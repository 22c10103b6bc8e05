//! Bytes written down by hand, field by field, after the Go side's encoders: what the codec of
//! this crate says about itself would prove nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::fmt::Debug;

use session_core::codec::{Decode, Encode};
use session_zap::block::*;
use session_zap::database::*;
use session_zap::handshake::Handshake;
use session_zap::health::{Details, HealthResponse};
use session_zap::peer::*;
use session_zap::summary::*;
use session_zap::vm::*;
use session_zap::{Call, Frame, Frames, Later, answer, error, read, request};

/// Hexadecimal digits in groups.
fn hex(pieces: &[&str]) -> Vec<u8> {
    const_hex::decode(pieces.concat().replace(' ', "")).unwrap()
}

/// The message has these bytes, and they are this message.
fn same<T: Encode + Decode + Debug + PartialEq>(message: T, pieces: &[&str]) {
    let bytes = hex(pieces);
    assert_eq!(
        const_hex::encode(message.to_bytes()),
        const_hex::encode(&bytes)
    );
    assert_eq!(read::<T>(&bytes), Ok(message));
}

const ID_A: &str = "00000020 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const ID_B: &str = "00000020 bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const NODE: &str = "00000014 0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d0d";

fn a() -> Vec<u8> {
    vec![0xaa; 32]
}

fn b() -> Vec<u8> {
    vec![0xbb; 32]
}

fn node() -> Vec<u8> {
    vec![0x0d; 20]
}

#[test]
fn a_frame_is_length_kind_id_rest() {
    let set_state = SetStateRequest {
        state: State::READY,
    };
    let bytes = request(Call::SetState, 0x0102_0304, &set_state).unwrap();
    assert_eq!(bytes, hex(&["00000005 02 01020304 04"]));
    let verified = BlockVerifyResponse { timestamp: 5 };
    let bytes = answer(Call::BlockVerify, 7, &verified).unwrap();
    assert_eq!(bytes, hex(&["0000000c 9c 00000007 0000000000000005"]));
    // The text of an error has no length of its own.
    let bytes = error(Call::BlockVerify, 7, "no");
    assert_eq!(bytes, hex(&["00000006 dc 00000007 6e6f"]));
    let bytes = error(63u8, 1, "");
    assert_eq!(bytes, hex(&["00000004 ff 00000001"]));
    let mut frames = Frames::default();
    frames.push(&bytes);
    let frame = Frame {
        kind: 0xff,
        id: 1,
        body: Vec::new(),
    };
    assert_eq!(frames.next(), Ok(Some(frame)));
    assert!(frames.is_empty());
}

#[test]
fn the_kinds_are_counted_from_1_to_31() {
    for (number, call) in (1..).zip(Call::ALL) {
        assert_eq!(call.code(), number);
        assert_eq!(Call::from_code(number), Some(call));
    }
    for other in [0, 32, 43, 60, 0x81, 0xff] {
        assert_eq!(Call::from_code(other), None);
    }
    // The ends of the runs in the Go side's list.
    assert_eq!(Call::WaitForEvent.code(), 6);
    assert_eq!(Call::Gather.code(), 19);
    assert_eq!(Call::BlockVerify.code(), 28);
    assert_eq!(Call::StateSummaryAccept.code(), 31);
}

#[test]
fn a_handshake_counts_protocol_and_address() {
    let said = Handshake {
        protocol: 42,
        address: "127.0.0.1:9".to_owned(),
    };
    let bytes = hex(&["0000000f 0000002a 3132372e302e302e313a39"]);
    assert_eq!(said.to_bytes(), bytes);
    assert_eq!(Handshake::length([0, 0, 0, 15]), Ok(15));
    assert_eq!(Handshake::read(bytes.split_at(4).1), Ok(said));
    assert!(Handshake::length([0, 0, 0, 3]).is_err());
    assert!(Handshake::length([0xff; 4]).is_err());
}

#[test]
fn a_chain_is_told_what_it_is() {
    let request = InitializeRequest {
        network: 1337,
        chain: a(),
        node: node(),
        public_key: vec![1],
        x_chain: b(),
        c_chain: b(),
        utxo_asset: a(),
        chain_data_dir: "/d".to_owned(),
        genesis: b"{}".to_vec(),
        upgrade: Vec::new(),
        config: b"c".to_vec(),
        db_server: "h:1".to_owned(),
        server: String::new(),
        atomic_server: Later("h:2".to_owned()),
        d_chain: Later(Vec::new()),
        validator_server: Later("h:3".to_owned()),
    };
    let first = [
        "00000539",
        ID_A,
        NODE,
        "00000001 01",
        ID_B,
        ID_B,
        ID_A,
        "00000002 2f64",
        "00000002 7b7d",
        "00000000",
        "00000001 63",
        "00000003 683a31",
        "00000000",
    ];
    let later = ["00000003 683a32", "00000000", "00000003 683a33"];
    let whole = [first.as_slice(), &later].concat();
    same(request.clone(), &whole);
    // A node of before the three last fields, and one of after them.
    let old = InitializeRequest {
        atomic_server: Later::default(),
        validator_server: Later::default(),
        ..request.clone()
    };
    assert_eq!(read(&hex(&first)), Ok(old));
    let new = [whole.as_slice(), &["00000001 ff"]].concat();
    assert_eq!(read(&hex(&new)), Ok(request));
}

#[test]
fn a_chain_tells_its_last_block() {
    let initialized = InitializeResponse {
        last_accepted: a(),
        parent: b(),
        height: 258,
        bytes: vec![9, 9],
        timestamp: 1_737_676_800_000_000_000,
        capabilities: Later(CAPABILITY_STATE_SYNC),
    };
    let fields = [
        ID_A,
        ID_B,
        "0000000000000102",
        "00000002 0909",
        "181d77d7ce700000",
    ];
    same(
        initialized.clone(),
        &[fields.as_slice(), &["0000000000000002"]].concat(),
    );
    // A plugin of before the last field.
    let short = InitializeResponse {
        capabilities: Later(0),
        ..initialized
    };
    assert_eq!(read(&hex(&fields)), Ok(short));
    same(
        SetStateResponse {
            last_accepted: a(),
            parent: b(),
            height: 1,
            bytes: Vec::new(),
            timestamp: -1,
        },
        &[
            ID_A,
            ID_B,
            "0000000000000001",
            "00000000",
            "ffffffffffffffff",
        ],
    );
    same(SetStateRequest { state: State(3) }, &["03"]);
    assert_eq!(
        (State::SYNCING.0, State::BOOTSTRAPPING.0, State::READY.0),
        (2, 3, 4)
    );
}

#[test]
fn blocks_and_their_questions() {
    // As every known node sends it, and as it is written down.
    let bare = BuildBlockRequest::default();
    assert_eq!(read(&[]), Ok(bare.clone()));
    same(bare, &["00"]);
    same(
        BuildBlockRequest {
            p_chain_height: Later(Some(6)),
        },
        &["01 0000000000000006"],
    );
    let block = BlockResponse {
        id: a(),
        parent: b(),
        bytes: vec![1, 2, 3],
        height: 7,
        timestamp: 1_000_000_000,
        verify_with_context: false,
        failure: Failure::NONE,
    };
    let bytes = [
        ID_A,
        ID_B,
        "00000003 010203",
        "0000000000000007",
        "000000003b9aca00",
        "00",
        "00",
    ];
    same(block.clone(), &bytes);
    let none = BlockResponse {
        failure: Failure::NOT_FOUND,
        ..BlockResponse::default()
    };
    let nothing = [
        "00000000 00000000 00000000",
        "0000000000000000",
        "0000000000000000",
        "00",
        "02",
    ];
    same(none.clone(), &nothing);
    same(
        BatchedParseBlockResponse {
            blocks: vec![block, none],
        },
        &[["00000002"].as_slice(), &bytes, &nothing].concat(),
    );
    same(
        BatchedParseBlockRequest {
            blocks: vec![vec![1], Vec::new()],
        },
        &["00000002", "00000001 01", "00000000"],
    );
    same(ParseBlockRequest { bytes: vec![5] }, &["00000001 05"]);
    same(GetBlockRequest { id: a() }, &[ID_A]);
    same(SetPreferenceRequest { id: a() }, &[ID_A]);
    same(BlockAcceptRequest { id: b() }, &[ID_B]);
    same(BlockRejectRequest { id: b() }, &[ID_B]);
    same(
        BlockVerifyRequest {
            bytes: vec![5],
            p_chain_height: None,
        },
        &["00000001 05", "00"],
    );
    same(
        BlockVerifyRequest {
            bytes: vec![5],
            p_chain_height: Some(2),
        },
        &["00000001 05", "01", "0000000000000002"],
    );
    same(
        GetAncestorsRequest {
            id: a(),
            count_max: 2_000,
            bytes_max: -1,
            time_max: 50,
        },
        &[ID_A, "000007d0", "ffffffff", "0000000000000032"],
    );
    same(
        GetAncestorsResponse {
            blocks: vec![vec![7, 7]],
        },
        &["00000001", "00000002 0707"],
    );
    same(
        GetBlockIdAtHeightRequest { height: 3 },
        &["0000000000000003"],
    );
    same(
        GetBlockIdAtHeightResponse {
            id: a(),
            failure: Failure::NONE,
        },
        &[ID_A, "00"],
    );
}

#[test]
fn handlers_events_and_words() {
    same(
        CreateHandlersResponse {
            handlers: vec![HttpHandler {
                prefix: "/rpc".to_owned(),
                server: "h:1".to_owned(),
            }],
        },
        &["00000001", "00000004 2f727063", "00000003 683a31"],
    );
    same(NewHttpHandlerResponse::default(), &["00000000"]);
    same(
        WaitForEventResponse {
            event: Event::BUILD_BLOCK,
        },
        &["01"],
    );
    same(
        VersionResponse {
            version: "v1".to_owned(),
        },
        &["00000002 7631"],
    );
    // The one list of the wire that is little-endian.
    let details = Details(vec![("height".to_owned(), "7".to_owned())]);
    let bytes = hex(&["01000000", "06000000 686569676874", "01000000 37"]);
    assert_eq!(details.to_bytes(), bytes);
    assert_eq!(Details::from_bytes(&bytes), Ok(details));
    assert!(Details::from_bytes(br#"{"height":7}"#).is_err());
    same(
        HealthResponse {
            details: vec![0; 4],
        },
        &["00000004 00000000"],
    );
}

#[test]
fn peers_and_summaries() {
    same(
        ConnectedRequest {
            node: node(),
            name: "lux".to_owned(),
            major: 1,
            minor: 2,
            patch: 3,
        },
        &[NODE, "00000003 6c7578", "00000001 00000002 00000003"],
    );
    same(DisconnectedRequest { node: node() }, &[NODE]);
    same(
        RequestMessage {
            node: node(),
            request: 9,
            deadline: 1,
            bytes: vec![1],
        },
        &[NODE, "00000009", "0000000000000001", "00000001 01"],
    );
    same(
        RequestFailedMessage {
            node: node(),
            request: 9,
            code: -1,
            text: "x".to_owned(),
        },
        &[NODE, "00000009", "ffffffff", "00000001 78"],
    );
    same(
        ResponseMessage {
            node: node(),
            request: 9,
            bytes: vec![1],
        },
        &[NODE, "00000009", "00000001 01"],
    );
    same(
        GossipMessage {
            node: node(),
            bytes: vec![1],
        },
        &[NODE, "00000001 01"],
    );
    same(
        StateSyncEnabledResponse {
            enabled: false,
            failure: Failure::STATE_SYNC_NOT_IMPLEMENTED,
        },
        &["00", "03"],
    );
    same(
        SummaryResponse {
            id: a(),
            height: 1_024,
            bytes: vec![8],
            failure: Failure::NONE,
        },
        &[ID_A, "0000000000000400", "00000001 08", "00"],
    );
    same(
        ParseStateSummaryRequest { bytes: vec![8] },
        &["00000001 08"],
    );
    same(GetStateSummaryRequest { height: 2 }, &["0000000000000002"]);
    same(StateSummaryAcceptRequest { id: b() }, &[ID_B]);
    same(
        StateSummaryAcceptResponse {
            mode: 1,
            failure: Failure::INTERNAL,
        },
        &["01", "04"],
    );
}

#[test]
fn the_nodes_database() {
    let kinds = [
        Query::Has,
        Query::Get,
        Query::Put,
        Query::Delete,
        Query::WriteBatch,
        Query::Compact,
        Query::Close,
        Query::HealthCheck,
        Query::IteratorNew,
        Query::IteratorNext,
        Query::IteratorError,
        Query::IteratorRelease,
    ];
    assert_eq!(kinds.map(u8::from), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    same(Key { key: vec![1] }, &["00000001 01"]);
    same(
        HasResponse {
            has: true,
            outcome: Outcome::WELL,
        },
        &["01 00"],
    );
    same(
        GetResponse {
            value: Vec::new(),
            outcome: Outcome::NOT_FOUND,
        },
        &["00000000", "02"],
    );
    let pair = || Pair {
        key: vec![1],
        value: vec![2, 2],
    };
    same(pair(), &["00000001 01", "00000002 0202"]);
    same(
        Batch {
            puts: vec![pair()],
            deletes: vec![Key { key: vec![3] }],
        },
        &[
            "00000001",
            "00000001 01",
            "00000002 0202",
            "00000001",
            "00000001 03",
        ],
    );
    same(
        Done {
            outcome: Outcome::CLOSED,
        },
        &["01"],
    );
    same(
        Span {
            start: vec![4],
            prefix: Vec::new(),
        },
        &["00000001 04", "00000000"],
    );
    same(Iterator { id: 5 }, &["0000000000000005"]);
    same(
        Page {
            pairs: vec![pair()],
        },
        &["00000001", "00000001 01", "00000002 0202"],
    );
}
