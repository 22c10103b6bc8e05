//! Bytes of anybody: never a panic, never more memory than bytes came, always the same message
//! again.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use proptest::prelude::*;
use session_core::codec::{Decode, Encode};
use session_zap::block::*;
use session_zap::database::{Batch, Page};
use session_zap::handshake::Handshake;
use session_zap::health::Details;
use session_zap::peer::ConnectedRequest;
use session_zap::vm::{CreateHandlersResponse, InitializeRequest};
use session_zap::{Frame, FrameError, Frames, Later, PAYLOAD_BYTES_MAX, read};

/// What is read from any bytes is written and read again unchanged.
fn settles<T: Encode + Decode + PartialEq + std::fmt::Debug>(bytes: &[u8]) {
    if let Ok(message) = read::<T>(bytes) {
        assert_eq!(read::<T>(&message.to_bytes()), Ok(message));
    }
}

fn each(bytes: &[u8]) {
    settles::<InitializeRequest>(bytes);
    settles::<BlockResponse>(bytes);
    settles::<BatchedParseBlockRequest>(bytes);
    settles::<BatchedParseBlockResponse>(bytes);
    settles::<BlockVerifyRequest>(bytes);
    settles::<BuildBlockRequest>(bytes);
    settles::<GetAncestorsRequest>(bytes);
    settles::<CreateHandlersResponse>(bytes);
    settles::<ConnectedRequest>(bytes);
    settles::<Batch>(bytes);
    settles::<Page>(bytes);
    if let Ok(details) = Details::from_bytes(bytes) {
        assert_eq!(details.to_bytes(), bytes);
    }
    if let Ok(said) = Handshake::read(bytes) {
        assert_eq!(said.to_bytes().split_at(4).1, bytes);
    }
}

fn texts() -> impl Strategy<Value = String> {
    "[a-z/:.é]{0,20}"
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..40)
}

fn initializes() -> impl Strategy<Value = InitializeRequest> {
    let ids = (
        any::<u32>(),
        bytes(),
        bytes(),
        bytes(),
        bytes(),
        bytes(),
        bytes(),
    );
    let data = (texts(), bytes(), bytes(), bytes());
    let servers = (texts(), texts(), texts(), bytes(), texts());
    (ids, data, servers).prop_map(|(ids, data, servers)| InitializeRequest {
        network: ids.0,
        chain: ids.1,
        node: ids.2,
        public_key: ids.3,
        x_chain: ids.4,
        c_chain: ids.5,
        utxo_asset: ids.6,
        chain_data_dir: data.0,
        genesis: data.1,
        upgrade: data.2,
        config: data.3,
        db_server: servers.0,
        server: servers.1,
        atomic_server: Later(servers.2),
        d_chain: Later(servers.3),
        validator_server: Later(servers.4),
    })
}

fn frames() -> impl Strategy<Value = Frame> {
    (any::<u8>(), any::<u32>(), bytes()).prop_map(|(kind, id, body)| Frame { kind, id, body })
}

proptest! {
    #[test]
    fn any_bytes_settle(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        each(&bytes);
    }

    /// Small numbers reach deeper than random ones: most lengths are wrong at once.
    #[test]
    fn small_bytes_settle(bytes in prop::collection::vec(0_u8..4, 0..300)) {
        each(&bytes);
    }

    #[test]
    fn a_message_comes_back(message in initializes()) {
        prop_assert_eq!(read(&message.to_bytes()), Ok(message));
    }

    #[test]
    fn a_cut_message_is_refused_or_an_older_one(message in initializes(), cut in any::<prop::sample::Index>()) {
        let bytes = message.to_bytes();
        let cut = cut.index(bytes.len());
        let later = [message.atomic_server.0.len(), message.d_chain.0.len(), message.validator_server.0.len()];
        let fixed = bytes.len() - later.iter().map(|len| len + 4).sum::<usize>();
        let found = read::<InitializeRequest>(bytes.split_at(cut).0);
        prop_assert!(cut >= fixed || found.is_err());
    }

    /// However a stream is cut into pieces, the same frames come out of it.
    #[test]
    fn pieces_make_no_difference(
        sent in prop::collection::vec(frames(), 0..8),
        piece in 1_usize..50,
    ) {
        let stream: Vec<u8> = sent.iter().flat_map(|frame| frame.to_bytes().unwrap()).collect();
        let mut reader = Frames::default();
        let mut came = Vec::new();
        for piece in stream.chunks(piece) {
            reader.push(piece);
            while let Some(frame) = reader.next().unwrap() {
                came.push(frame);
            }
        }
        prop_assert!(reader.is_empty());
        prop_assert_eq!(came, sent);
    }

    #[test]
    fn any_stream_ends_in_frames_or_an_error(stream in prop::collection::vec(0_u8..7, 0..400)) {
        let mut reader = Frames::default();
        reader.push(&stream);
        for _ in 0..=stream.len() {
            match reader.next() {
                Ok(Some(frame)) => each(&frame.body),
                Ok(None) | Err(_) => break,
            }
        }
    }
}

#[test]
fn a_length_is_looked_at_before_the_payload_comes() {
    let mut reader = Frames::default();
    let claimed = u32::try_from(PAYLOAD_BYTES_MAX + 1).unwrap();
    reader.push(&claimed.to_be_bytes());
    assert_eq!(reader.next(), Ok(None));
    reader.push(&[1]);
    let bytes = PAYLOAD_BYTES_MAX + 1;
    assert_eq!(reader.next(), Err(FrameError::TooLong { bytes }));

    let mut reader = Frames::default();
    reader.push(&[0, 0, 0, 3, 9]);
    assert_eq!(reader.next(), Err(FrameError::NoId { kind: 9, bytes: 3 }));
}

#[test]
fn the_longest_frame_goes_and_the_next_does_not() {
    let frame = |length: usize| Frame {
        kind: 1,
        id: 1,
        body: vec![7; length],
    };
    let longest = frame(PAYLOAD_BYTES_MAX - 4);
    let bytes = longest.to_bytes().unwrap();
    let mut reader = Frames::default();
    for piece in bytes.chunks(1 << 16) {
        assert_eq!(reader.next(), Ok(None));
        reader.push(piece);
    }
    assert_eq!(reader.next(), Ok(Some(longest)));
    let bytes = PAYLOAD_BYTES_MAX + 1;
    let longer = frame(PAYLOAD_BYTES_MAX - 3).to_bytes();
    assert_eq!(longer, Err(FrameError::TooLong { bytes }));
}

#[test]
fn a_count_takes_no_memory() {
    // Four thousand million blocks are claimed, and none is there.
    assert!(read::<BatchedParseBlockRequest>(&[0xff; 8]).is_err());
    assert!(read::<BatchedParseBlockResponse>(&[0xff; 64]).is_err());
    assert!(Details::from_bytes(&[0xff; 8]).is_err());
}
