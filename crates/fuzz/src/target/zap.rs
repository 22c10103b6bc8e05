//! The wire of Lux nodes: streams of frames, and what is in them. Its messages may end in fields
//! that a later version knows, so what is read is compared with what it reads as again.

use super::Target;
use session_core::codec::{Decode, Encode};
use session_zap::block::{
    BatchedParseBlockRequest, BatchedParseBlockResponse, BlockResponse, BlockVerifyRequest,
    BuildBlockRequest, Failure, GetAncestorsRequest,
};
use session_zap::database::{Batch, Key, Page, Pair};
use session_zap::handshake::Handshake;
use session_zap::health::Details;
use session_zap::peer::RequestMessage;
use session_zap::vm::{CreateHandlersResponse, HttpHandler, InitializeRequest};
use session_zap::{Call, Frames, Later, error, read, request};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "zap_frames",
        run: frames,
        seeds: || {
            let first = request(Call::Initialize, 1, &initialize());
            let second = request(Call::BuildBlock, 2, &BuildBlockRequest::default());
            let third = Ok(error(Call::BuildBlock, 2, "nothing to build"));
            // They are far below a frame's limit.
            let whole: Vec<u8> = [first, second, third]
                .into_iter()
                .flatten()
                .flatten()
                .collect();
            vec![whole, vec![0, 0, 0, 4, 14, 0, 0, 0, 1]]
        },
    },
    Target {
        name: "zap_messages",
        run: messages,
        seeds: || {
            let block = BlockResponse {
                id: vec![1; 32],
                parent: vec![2; 32],
                bytes: vec![3; 40],
                height: 4,
                timestamp: 5,
                verify_with_context: true,
                failure: Failure::NONE,
            };
            let handler = HttpHandler {
                prefix: "/rpc".to_owned(),
                server: "127.0.0.1:1".to_owned(),
            };
            let pair = Pair {
                key: vec![1],
                value: vec![2; 9],
            };
            vec![
                initialize().to_bytes(),
                block.to_bytes(),
                BatchedParseBlockResponse {
                    blocks: vec![block, BlockResponse::default()],
                }
                .to_bytes(),
                BatchedParseBlockRequest {
                    blocks: vec![vec![1], vec![2, 2]],
                }
                .to_bytes(),
                BlockVerifyRequest {
                    bytes: vec![1; 9],
                    p_chain_height: Some(7),
                }
                .to_bytes(),
                CreateHandlersResponse {
                    handlers: vec![handler],
                }
                .to_bytes(),
                Batch {
                    puts: vec![pair],
                    deletes: vec![Key { key: vec![7] }],
                }
                .to_bytes(),
            ]
        },
    },
    Target {
        name: "zap_handshake",
        run: |bytes| {
            let Some((first, rest)) = bytes.split_first_chunk() else {
                return false;
            };
            let fits = Handshake::length(*first).is_ok_and(|length| length == rest.len());
            match Handshake::read(rest) {
                Ok(said) if fits => {
                    assert!(
                        said.to_bytes() == bytes,
                        "accepted bytes have another encoding"
                    );
                    true
                }
                Ok(_) | Err(_) => false,
            }
        },
        seeds: || {
            let said = Handshake {
                protocol: 42,
                address: "127.0.0.1:41893".to_owned(),
            };
            vec![said.to_bytes()]
        },
    },
    Target {
        name: "zap_health",
        run: |bytes| {
            let details = Details::from_bytes(bytes);
            let same = |details: &Details| assert!(details.to_bytes() == bytes, "another encoding");
            details.inspect(same).is_ok()
        },
        seeds: || {
            let pair = ("height".to_owned(), "7".to_owned());
            vec![
                Details(vec![pair]).to_bytes(),
                Details::default().to_bytes(),
            ]
        },
    },
];

fn initialize() -> InitializeRequest {
    InitializeRequest {
        network: 1_337,
        chain: vec![0xc4; 32],
        node: vec![0x0d; 20],
        chain_data_dir: "/d".to_owned(),
        genesis: b"{}".to_vec(),
        db_server: "127.0.0.1:1".to_owned(),
        atomic_server: Later("127.0.0.1:2".to_owned()),
        ..InitializeRequest::default()
    }
}

/// A stream in two pieces gives the frames that it gives whole.
fn frames(bytes: &[u8]) -> bool {
    let all = |pieces: &[&[u8]]| {
        let mut reader = Frames::default();
        let mut frames = Vec::new();
        for piece in pieces {
            reader.push(piece);
            loop {
                match reader.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Err(error)),
                }
            }
        }
        let rest = reader.is_empty();
        (frames, Ok(rest))
    };
    let whole = all(&[bytes]);
    let (left, right) = bytes.split_at(bytes.len() / 2);
    let pieces = all(&[left, right]);
    assert!(whole == pieces, "a cut makes a difference");
    let again: Vec<u8> = whole
        .0
        .iter()
        .flat_map(|frame| frame.to_bytes())
        .flatten()
        .collect();
    assert!(bytes.starts_with(&again), "a frame has another encoding");
    whole.0.iter().for_each(|frame| {
        messages(&frame.body);
    });
    whole.1 == Ok(true) && !whole.0.is_empty()
}

fn settles<T: Encode + Decode + PartialEq>(bytes: &[u8]) -> bool {
    let Ok(message) = read::<T>(bytes) else {
        return false;
    };
    let again = read::<T>(&message.to_bytes());
    assert!(
        again.as_ref() == Ok(&message),
        "it reads as another message"
    );
    true
}

/// Whatever it is meant to be.
fn messages(bytes: &[u8]) -> bool {
    [
        settles::<InitializeRequest>(bytes),
        settles::<BlockResponse>(bytes),
        settles::<BatchedParseBlockRequest>(bytes),
        settles::<BatchedParseBlockResponse>(bytes),
        settles::<BlockVerifyRequest>(bytes),
        settles::<BuildBlockRequest>(bytes),
        settles::<GetAncestorsRequest>(bytes),
        settles::<CreateHandlersResponse>(bytes),
        settles::<RequestMessage>(bytes),
        settles::<Batch>(bytes),
        settles::<Page>(bytes),
    ]
    .contains(&true)
}
