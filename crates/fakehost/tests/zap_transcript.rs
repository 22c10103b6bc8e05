//! A small session under a Lux node, byte for byte: what is sent is in the golden file, blocks and
//! all, and every answer must be the one beside it.
//!
//! `SESSION_GOLDEN_WRITE=1` makes the file anew. A difference is a change of the wire, of a
//! block's bytes, or of a text that nodes show.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use session_chain::block::Block;
use session_core::codec::Encode;
use session_core::ids::ChainId;
use session_core::time::Time;
use session_fakehost::bounded;
use session_fakehost::craft::Craft;
use session_fakehost::network::{CHAIN, GENESIS};
use session_fakehost::people::Person;
use session_fakehost::zap::{Answer, Node, Plugin, Setup, launch};
use session_zap::block::*;
use session_zap::peer::*;
use session_zap::summary::*;
use session_zap::vm::*;
use session_zap::{Call, ERROR, Frame, Frames, HEADER_BYTES, NOTHING, RESPONSE, read};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const PLUGIN: &str = env!("CARGO_BIN_EXE_fakehost-plugin");

/// In the file, in place of the chain's directory.
const DIRECTORY: &str = "{directory}";

/// In the file, in place of an answer that has an address in it.
const ANYTHING: &str = "anything";

/// One call.
struct Line {
    name: String,
    sent: Vec<u8>,
    /// None: it is looked at, but not compared.
    answer: Option<Vec<u8>>,
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/zap-session.txt")
}

fn parse(text: &str) -> Vec<Line> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines: Vec<&str> = lines.collect();
    let line = |three: &[&str]| Line {
        name: three[0].to_owned(),
        sent: const_hex::decode(three[1].strip_prefix("> ").unwrap()).unwrap(),
        answer: match three[2].strip_prefix("< ").unwrap() {
            ANYTHING => None,
            hex => Some(const_hex::decode(hex).unwrap()),
        },
    };
    lines.chunks_exact(3).map(line).collect()
}

fn print(lines: &[Line]) -> String {
    let mut text = "# A session under a Lux node: name, request, answer, as frames. The chain's\n\
        # directory is written as {directory}, answers with addresses as anything.\n"
        .to_owned();
    for Line { name, sent, answer } in lines {
        let answer = answer.as_ref().map(const_hex::encode);
        let answer = answer.unwrap_or_else(|| ANYTHING.to_owned());
        writeln!(text, "{name}\n> {}\n< {answer}", const_hex::encode(sent)).unwrap();
    }
    text
}

/// The calls, with a block made now.
fn calls() -> Vec<(String, u8, Vec<u8>)> {
    let chain = ChainId::from_bytes(CHAIN);
    let craft = Craft::new(GENESIS.as_bytes(), chain);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now = Time::from_ms(u64::try_from(now.as_millis()).unwrap());
    let genesis = craft.header.id().as_bytes().to_vec();
    let block = craft.block(&[Person::new([7; 32], chain).registration()], now);
    let (id, bytes) = (block.header.id().as_bytes().to_vec(), block.to_bytes());
    let first = Block {
        header: craft.header,
        txs: Vec::new(),
    };
    let first = first.to_bytes();
    let mut setup = Setup::new(PLUGIN);
    setup.genesis = GENESIS.into();
    let mut told = Node::new(3).told(&setup, r#"{"log":"warn"}"#, "");
    told.chain_data_dir = DIRECTORY.to_owned();

    let mut calls = Vec::new();
    let mut add = |name: &str, kind: u8, message: &dyn Fn() -> Vec<u8>| {
        calls.push((name.to_owned(), kind, message()));
    };
    macro_rules! call {
        ($name:literal, $call:ident) => {
            add($name, Call::$call.code(), &|| NOTHING.to_bytes())
        };
        ($name:literal, $call:ident, $message:expr) => {
            add($name, Call::$call.code(), &|| $message.to_bytes())
        };
    }
    let node = || vec![0x0d; 20];
    call!("version, before anything", Version);
    call!("a call that comes too early", BuildBlock);
    call!("initialize", Initialize, told);
    call!(
        "bootstrapping",
        SetState,
        SetStateRequest {
            state: State::BOOTSTRAPPING
        }
    );
    call!("handlers", CreateHandlers);
    call!("handler by header", NewHttpHandler);
    call!(
        "ready, at genesis",
        SetState,
        SetStateRequest {
            state: State::READY
        }
    );
    // Later it would depend on the clock: two hours after the block what its transaction left behind is due.
    call!("nothing to build", BuildBlock);
    call!(
        "bootstrapping again",
        SetState,
        SetStateRequest {
            state: State::BOOTSTRAPPING
        }
    );
    call!(
        "genesis",
        GetBlock,
        GetBlockRequest {
            id: genesis.clone()
        }
    );
    call!(
        "genesis by height",
        GetBlockIdAtHeight,
        GetBlockIdAtHeightRequest { height: 0 }
    );
    call!(
        "nothing at a height",
        GetBlockIdAtHeight,
        GetBlockIdAtHeightRequest { height: 1 }
    );
    call!(
        "no such block",
        GetBlock,
        GetBlockRequest { id: vec![0xee; 32] }
    );
    call!(
        "parse",
        ParseBlock,
        ParseBlockRequest {
            bytes: bytes.clone()
        }
    );
    call!(
        "parse what is no block",
        ParseBlock,
        ParseBlockRequest {
            bytes: vec![1, 2, 3]
        }
    );
    call!(
        "parse genesis, and what is no block",
        BatchedParseBlock,
        BatchedParseBlockRequest {
            blocks: vec![first.clone(), vec![1, 2, 3]],
        }
    );
    call!(
        "verify",
        BlockVerify,
        BlockVerifyRequest {
            bytes: bytes.clone(),
            p_chain_height: Some(7),
        }
    );
    call!(
        "verify what is no block",
        BlockVerify,
        BlockVerifyRequest::default()
    );
    call!(
        "prefer",
        SetPreference,
        SetPreferenceRequest { id: id.clone() }
    );
    call!(
        "prefer what is not known",
        SetPreference,
        SetPreferenceRequest { id: vec![0xee; 32] }
    );
    call!("accept", BlockAccept, BlockAcceptRequest { id: id.clone() });
    call!(
        "accept again",
        BlockAccept,
        BlockAcceptRequest { id: id.clone() }
    );
    call!(
        "accept what is not known",
        BlockAccept,
        BlockAcceptRequest { id: vec![0xee; 32] }
    );
    call!(
        "reject what is not known",
        BlockReject,
        BlockRejectRequest { id: vec![0xee; 32] }
    );
    call!(
        "ready",
        SetState,
        SetStateRequest {
            state: State::READY
        }
    );
    call!(
        "verify again",
        BlockVerify,
        BlockVerifyRequest {
            bytes: bytes.clone(),
            p_chain_height: None,
        }
    );
    call!(
        "the block by height",
        GetBlockIdAtHeight,
        GetBlockIdAtHeightRequest { height: 1 }
    );
    call!(
        "ancestors",
        GetAncestors,
        GetAncestorsRequest {
            id: id.clone(),
            count_max: 10,
            bytes_max: 1 << 20,
            time_max: 1_000_000_000,
        }
    );
    call!("health", Health);
    call!("metrics", Gather);
    call!(
        "a peer comes",
        Connected,
        ConnectedRequest {
            node: node(),
            name: "lux".to_owned(),
            major: 1,
            minor: 2,
            patch: 3,
        }
    );
    call!(
        "a peer asks",
        Request,
        RequestMessage {
            node: node(),
            request: 1,
            deadline: 2,
            bytes: vec![0, 1],
        }
    );
    call!(
        "a peer does not answer",
        RequestFailed,
        RequestFailedMessage {
            node: node(),
            request: 1,
            code: -1,
            text: "late".to_owned(),
        }
    );
    call!(
        "a peer answers",
        Response,
        ResponseMessage {
            node: node(),
            request: 1,
            bytes: Vec::new(),
        }
    );
    call!(
        "a peer tells",
        Gossip,
        GossipMessage {
            node: node(),
            bytes: vec![0],
        }
    );
    call!(
        "a peer goes",
        Disconnected,
        DisconnectedRequest { node: node() }
    );
    call!("state sync", StateSyncEnabled);
    call!("ongoing summary", GetOngoingSyncStateSummary);
    call!("last summary", GetLastStateSummary);
    call!(
        "parse a summary",
        ParseStateSummary,
        ParseStateSummaryRequest { bytes: vec![1] }
    );
    call!(
        "summary at a height",
        GetStateSummary,
        GetStateSummaryRequest { height: 1_024 }
    );
    call!(
        "accept a summary",
        StateSummaryAccept,
        StateSummaryAcceptRequest { id: vec![1; 32] }
    );
    call!("a state without a state", SetState);
    add("a kind that is not known", 60, &|| vec![0; 8]);
    call!("shutdown", Shutdown);
    calls
}

/// The request with the directory of this run in it.
fn placed(sent: &[u8], directory: &str) -> Vec<u8> {
    let mut frames = Frames::default();
    frames.push(sent);
    let mut frame = frames.next().unwrap().unwrap();
    if frame.kind == Call::Initialize.code() {
        let mut told: InitializeRequest = read(&frame.body).unwrap();
        assert_eq!(told.chain_data_dir, DIRECTORY);
        directory.clone_into(&mut told.chain_data_dir);
        frame.body = told.to_bytes();
    }
    frame.to_bytes().unwrap()
}

/// One frame as it comes.
async fn receive(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    stream.read_exact(&mut bytes).await.unwrap();
    let length = u32::from_be_bytes(bytes[..4].try_into().unwrap());
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.unwrap();
    bytes.extend(payload);
    bytes
}

/// What an answer that cannot be compared must be.
fn look_at(name: &str, answer: &[u8]) {
    let mut frames = Frames::default();
    frames.push(answer);
    let frame = frames.next().unwrap().unwrap();
    assert_eq!(frame.kind & (RESPONSE | ERROR), RESPONSE, "{name}");
    match name {
        "handlers" => {
            let answer: CreateHandlersResponse = read(&frame.body).unwrap();
            assert_eq!(answer.handlers.len(), 7);
            for handler in answer.handlers {
                assert!(handler.prefix.starts_with('/'), "{handler:?}");
                assert!(handler.server.starts_with("127.0.0.1:"), "{handler:?}");
            }
        }
        "handler by header" => {
            let answer: NewHttpHandlerResponse = read(&frame.body).unwrap();
            assert!(answer.server.starts_with("127.0.0.1:"), "{answer:?}");
        }
        "metrics" => {
            let answer: GatherResponse = read(&frame.body).unwrap();
            let text = String::from_utf8(answer.text).unwrap();
            assert!(text.contains("\nsessionvm_height 1\n"), "{text}");
        }
        other => panic!("{other} has nothing that changes"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_answered_byte_for_byte() {
    bounded(60, async {
        let write = std::env::var_os("SESSION_GOLDEN_WRITE").is_some();
        let mut lines = if write {
            let frame = |(at, (name, kind, body)): (u32, (String, u8, Vec<u8>))| Line {
                name,
                sent: Frame {
                    kind,
                    id: 0x0100 + at,
                    body,
                }
                .to_bytes()
                .unwrap(),
                answer: None,
            };
            (0..).zip(calls()).map(frame).collect()
        } else {
            parse(&std::fs::read_to_string(file()).unwrap())
        };
        assert!(lines.len() > 40);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_str().unwrap();
        let plugin = Plugin::start(&launch(PLUGIN), Answer::Taken).await.unwrap();
        let mut stream = TcpStream::connect(&plugin.address).await.unwrap();
        for line in &mut lines {
            stream.write_all(&placed(&line.sent, path)).await.unwrap();
            let answer = tokio::time::timeout(Duration::from_secs(20), receive(&mut stream));
            let answer = answer.await.expect("an answer");
            let changes = ["handlers", "handler by header", "metrics"];
            if changes.contains(&line.name.as_str()) {
                look_at(&line.name, &answer);
                assert!(line.answer.is_none());
            } else if write {
                line.answer = Some(answer);
            } else {
                let expected = line.answer.as_ref().expect(&line.name);
                assert_eq!(
                    const_hex::encode(&answer),
                    const_hex::encode(expected),
                    "{}: {}",
                    line.name,
                    String::from_utf8_lossy(&answer)
                );
            }
        }
        if write {
            std::fs::write(file(), print(&lines)).unwrap();
        }
        assert_eq!(plugin.stop().await.unwrap().code(), Some(0));
    })
    .await;
}
