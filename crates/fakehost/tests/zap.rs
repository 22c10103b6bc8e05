//! The plugin under a Lux node: start and end, every call byte for byte, bytes of anybody, and
//! networks that lose processes and power.
//!
//! `SESSION_ZAP_SEED` repeats a schedule, `SESSION_ZAP_STEPS` makes it longer.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::time::{Duration, Instant};

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use session_fakehost::bounded;
use session_fakehost::chance::from_env;
use session_fakehost::people::call;
use session_fakehost::plugin::{Launch, NODE_PATIENCE, Process, Signal, kill, lives, send, within};
use session_fakehost::zap::{
    Answer, Failure, Network, Node, Plugin, Setup, StartError, Step, launch,
};
use session_zap::block::{
    BlockAcceptRequest, BlockResponse, BlockVerifyRequest, Failure as Reason,
};
use session_zap::vm::{SetStateRequest, State, VersionResponse, WaitForEventResponse};
use session_zap::{Call, ERROR, Empty, NOTHING, PAYLOAD_BYTES_MAX, RESPONSE, request};

const PLUGIN: &str = env!("CARGO_BIN_EXE_fakehost-plugin");
const LAUNCHER: &str = env!("CARGO_BIN_EXE_fakehost-launcher");

async fn start(launch: &Launch) -> Plugin {
    let started = Plugin::start(launch, Answer::Taken).await;
    started.unwrap_or_else(|error| panic!("{error:?}"))
}

fn seed(default: u64) -> u64 {
    from_env("SESSION_ZAP_SEED", default)
}

fn steps(default: u64) -> u64 {
    from_env("SESSION_ZAP_STEPS", default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_needs_no_initialize_and_leaves_nothing_behind() {
    bounded(20, async {
        let plugin = start(&launch(PLUGIN)).await;
        assert!(plugin.took < NODE_PATIENCE);
        let version: VersionResponse = plugin.client.ask(Call::Version).await.unwrap();
        let expected = concat!("v", env!("CARGO_PKG_VERSION"));
        assert_eq!(version.version, expected);
        let early: Result<Empty, _> = plugin.client.ask(Call::BuildBlock).await;
        let said = Failure::Said("the plugin is not initialized".to_owned());
        assert_eq!(early, Err(said));
        let began = Instant::now();
        let status = plugin.stop().await.expect("it ends by itself");
        assert_eq!(status.code(), Some(0), "{status}");
        assert!(began.elapsed() < Duration::from_secs(2));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_older_variables_start_it_too_and_so_does_a_socket() {
    bounded(30, async {
        let older = Launch {
            environment: vec![
                ("LUX_VM_TRANSPORT", "zap"),
                ("LUX_VM_RUNTIME_ENGINE_ADDR", "{}"),
            ],
            ..launch(PLUGIN)
        };
        let plugin = start(&older).await;
        let _version: VersionResponse = plugin.client.ask(Call::Version).await.unwrap();
        let plugin = Plugin::start_at_socket(&launch(PLUGIN)).await.unwrap();
        let _version: VersionResponse = plugin.client.ask(Call::Version).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_wire_is_not_known_is_told_which_are() {
    bounded(20, async {
        for name in ["VM_RUNTIME_ENGINE_ADDR", "LUX_VM_RUNTIME_ENGINE_ADDR"] {
            let unknown = Launch {
                environment: vec![(name, "{}")],
                ..launch(PLUGIN)
            };
            let mut process = Process::start(&unknown, "127.0.0.1:9");
            let status = process.ended(Duration::from_secs(10)).await;
            process.settle().await;
            let said = process.output();
            assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
            for word in [name, "AVALANCHE_VM_RUNTIME_ENGINE_ADDR", "VM_TRANSPORT=zap"] {
                assert!(said.contains(word), "{said}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_is_not_taken_ends_it_and_it_says_why() {
    bounded(60, async {
        let cases = [
            (
                Answer::Closed,
                "closed the connection",
                Duration::from_secs(2),
            ),
            (Answer::Byte(0), "answered 0", Duration::from_secs(2)),
            // The plugin's own patience is the node's.
            (Answer::Silence, "no answer in 5 s", NODE_PATIENCE),
        ];
        for (answer, why, within) in cases {
            let refused = Plugin::start(&launch(PLUGIN), answer).await.unwrap_err();
            let (status, said) = match refused {
                StartError::Refused(mut process) => {
                    let status = process.ended(within).await;
                    process.settle().await;
                    (status.expect("it ends"), process.output())
                }
                StartError::Ended(status, said) => (status, said),
                StartError::Late(said) => panic!("late: {said}"),
            };
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains(why) && !said.contains("panicked"), "{said}");
        }
        for engine in ["127.0.0.1:1", "/no/such/socket", "not an address"] {
            let mut process = Process::start(&launch(PLUGIN), engine);
            let status = process.ended(Duration::from_secs(10)).await;
            process.settle().await;
            let said = process.output();
            assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
            assert!(
                said.contains(engine) && !said.contains("panicked"),
                "{said}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_not_outlive_its_parent() {
    bounded(30, async {
        let launched = Launch {
            launcher: Some((LAUNCHER.into(), "42".to_owned())),
            ..launch(PLUGIN)
        };
        let plugin = start(&launched).await;
        let pid = plugin.pid();
        assert_ne!(pid, plugin.process.child());
        // The connection stays: only the parent is gone.
        kill(plugin.process.child());
        let gone = within(Duration::from_secs(3), || !lives(pid)).await;
        assert!(gone, "an orphan: {}", plugin.process.output());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_before_shutdown_do_not_stop_it_while_its_parent_lives() {
    bounded(30, async {
        let mut plugin = start(&launch(PLUGIN)).await;
        for signal in [Signal::INT, Signal::TERM, Signal::INT] {
            send(plugin.pid(), signal);
        }
        let ended = plugin.process.ended(Duration::from_millis(1_300)).await;
        assert_eq!(ended, None, "{}", plugin.process.output());
        let _version: VersionResponse = plugin.client.ask(Call::Version).await.unwrap();
        assert_eq!(plugin.stop().await.unwrap().code(), Some(0));
    })
    .await;
}

/// One node with a chain that takes part.
async fn operating(setup: &Setup) -> Node {
    let mut node = Node::new(0);
    node.start(setup, "").await.unwrap();
    node.set_state(State::BOOTSTRAPPING).await;
    node.set_state(State::READY).await;
    node.prefer(node.last()).await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_call_is_answered_with_an_error_and_the_connection_stays() {
    bounded(30, async {
        let node = operating(&Setup::new(PLUGIN)).await;
        let client = node.client();
        for kind in [0, 32, 33, 40, 43, 50, 53, 60, 61, 63] {
            let frame = client.frame(kind, NOTHING).await.unwrap();
            assert_eq!(frame.kind, kind | RESPONSE | ERROR);
            let text = String::from_utf8(frame.body).unwrap();
            assert_eq!(text, format!("a call of kind {kind} is not known here"));
        }
        // Calls with fields, without them.
        let with_fields = [
            Call::Initialize,
            Call::SetState,
            Call::Connected,
            Call::Disconnected,
            Call::ParseBlock,
            Call::GetBlock,
            Call::SetPreference,
            Call::Request,
            Call::RequestFailed,
            Call::Response,
            Call::Gossip,
            Call::GetAncestors,
            Call::BatchedParseBlock,
            Call::GetBlockIdAtHeight,
            Call::ParseStateSummary,
            Call::GetStateSummary,
            Call::BlockVerify,
            Call::BlockAccept,
            Call::BlockReject,
            Call::StateSummaryAccept,
        ];
        for call in with_fields {
            let answer: Result<Empty, _> = client.ask(call).await;
            let Err(Failure::Said(text)) = answer else {
                panic!("{call:?}: {answer:?}");
            };
            assert!(
                text.contains("needs") && text.contains(&format!("{call:?}")),
                "{text}"
            );
        }
        let short = BlockAcceptRequest { id: vec![1; 31] };
        let answer: Result<Empty, _> = client.call(Call::BlockAccept, &short).await;
        let said = "a block id has 32 bytes, got 31".to_owned();
        assert_eq!(answer, Err(Failure::Said(said)));
        let state = SetStateRequest { state: State(9) };
        let answer: Result<Empty, _> = client.call(Call::SetState, &state).await;
        assert_eq!(answer, Err(Failure::Said("unknown state 9".to_owned())));
        let again = node.told(&Setup::new(PLUGIN), "", "");
        let answer: Result<Empty, _> = client.call(Call::Initialize, &again).await;
        let said = "the plugin is initialized already".to_owned();
        assert_eq!(answer, Err(Failure::Said(said)));
        let empty = BlockVerifyRequest::default();
        let answer: Result<Empty, _> = client.call(Call::BlockVerify, &empty).await;
        assert!(matches!(answer, Err(Failure::Said(text)) if text.contains("not a block")));
        let none: BlockResponse = client.ask(Call::BuildBlock).await.unwrap();
        assert_eq!(none.failure, Reason::INTERNAL);
        assert!(client.is_open());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_frame_ends_its_connection_alone() {
    bounded(30, async {
        let plugin = start(&launch(PLUGIN)).await;
        let too_long = u32::try_from(PAYLOAD_BYTES_MAX + 1).unwrap().to_be_bytes();
        let streams: [&[u8]; 4] = [
            &[too_long.as_slice(), &[14, 0, 0, 0, 1]].concat(),
            &[0xff; 64],
            // No room for a request id.
            &[0, 0, 0, 3, 14, 1, 2, 3],
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        ];
        for stream in streams {
            let client = session_fakehost::zap::Client::dial(&plugin.address).await;
            let _version: VersionResponse = client.ask(Call::Version).await.unwrap();
            client.send(stream).await;
            let closed = within(Duration::from_secs(5), || !client.is_open()).await;
            assert!(closed, "{stream:02x?}");
            // The node's own connection goes on.
            let _version: VersionResponse = plugin.client.ask(Call::Version).await.unwrap();
        }
        let said = plugin.process.output();
        assert!(said.contains("a frame of 16777217 bytes"), "{said}");
        assert!(said.contains("its request id alone has 4"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
        // Cut in the middle of a frame, and one that comes byte by byte.
        let client = session_fakehost::zap::Client::dial(&plugin.address).await;
        let version = request(Call::Version, 7, NOTHING).unwrap();
        for byte in &version {
            client.send(std::slice::from_ref(byte)).await;
        }
        client.send(&version[..6]).await;
        drop(client);
        let _version: VersionResponse = plugin.client.ask(Call::Version).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_wait_holds_nothing_up_and_old_waits_end() {
    bounded(60, async {
        let node = operating(&Setup::new(PLUGIN)).await;
        let waits: Vec<_> = (0..40)
            .map(|_| {
                let client = node.client().clone();
                tokio::spawn(async move {
                    let wait = client.wait::<WaitForEventResponse>(Call::WaitForEvent, NOTHING);
                    wait.await
                })
            })
            .collect();
        for _ in 0..100 {
            let _version: VersionResponse = node.client().ask(Call::Version).await.unwrap();
            assert!(node.get(node.last()).await.is_some());
        }
        let ended = || waits.iter().filter(|wait| wait.is_finished()).count();
        assert!(
            within(Duration::from_secs(5), || ended() == 24).await,
            "{}",
            ended()
        );
        for wait in waits.into_iter().filter(|wait| wait.is_finished()) {
            let said = "later calls wait for an event instead".to_owned();
            assert_eq!(wait.await.unwrap(), Err(Failure::Said(said)));
        }
        // Nobody hears the rest: they end with the connection.
        let status = { node }.life.take().unwrap().plugin.stop().await;
        assert_eq!(status.unwrap().code(), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_reach_it_over_plain_http_with_the_whole_path() {
    bounded(60, async {
        let mut network = Network::start(Setup::new(PLUGIN), 1, seed(1)).await;
        let handlers = network.nodes[0].life().handlers.clone();
        let prefixes: Vec<&str> = handlers.iter().map(|(prefix, _)| prefix.as_str()).collect();
        assert_eq!(
            prefixes,
            [
                "/rpc",
                "/submit",
                "/ws",
                "/health",
                "/ready",
                "/metrics",
                "/openrpc.json"
            ]
        );
        for (prefix, handler) in &handlers {
            if ["/health", "/ready", "/metrics", "/openrpc.json"].contains(&prefix.as_str()) {
                let reply = handler
                    .simple("GET", prefix, &[], Vec::new())
                    .await
                    .unwrap();
                assert_eq!(reply.code, 200, "{prefix}: {}", reply.text());
            }
        }
        let rpc = &handlers[0].1;
        let elsewhere = rpc
            .simple("GET", "/elsewhere", &[], Vec::new())
            .await
            .unwrap();
        assert_eq!(elsewhere.code, 404);
        let head = call(rpc, "sessionvm.GetHead", &json!({})).await.unwrap();
        assert_eq!(head["height"], json!(network.height()));

        // Subscriptions come as upgrades, which a reverse proxy hands on as they are.
        let address = handlers_address(&network);
        let url = format!("ws://{address}/v1/chain/alias/ws");
        let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
        let session = network.people.sessions[0].0;
        let wish = json!({ "sessionId": session, "from": 0 }).to_string();
        socket.send(wish.into()).await.unwrap();
        network.grow(5).await;
        let frame = tokio::time::timeout(Duration::from_secs(5), async {
            loop {
                let frame = socket.next().await.unwrap().unwrap();
                if frame.is_text() {
                    return serde_json::from_slice::<Value>(&frame.into_data()).unwrap();
                }
            }
        });
        let frame = frame.await.expect("a frame in time");
        assert_eq!(frame["messages"][0]["sequence"], json!(0), "{frame}");
        network.finish().await;
    })
    .await;
}

/// Where the first node's plugin serves HTTP.
fn handlers_address(network: &Network) -> String {
    let handler = format!("{:?}", network.nodes[0].life().handlers[0].1);
    let at = handler.find('"').unwrap();
    handler[at + 1..].split('"').next().unwrap().to_owned()
}

async fn schedule(setup: Setup, count: usize, seed: u64, length: u64) -> Network {
    let mut network = Network::start(setup, count, seed).await;
    for number in 0..length {
        network.step().await;
        if number % 8 == 0 {
            network.check().await;
        }
    }
    network.finish().await;
    network
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_alone() {
    bounded(240, async {
        schedule(Setup::new(PLUGIN), 1, seed(11), steps(60)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_with_siblings_and_kills() {
    bounded(240, async {
        let network = schedule(Setup::new(PLUGIN), 3, seed(12), steps(120)).await;
        for step in [
            Step::Decided,
            Step::Sibling,
            Step::Killed,
            Step::KilledAccepting,
        ] {
            assert!(network.tally.contains_key(&step), "{:?}", network.tally);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes() {
    bounded(240, async {
        schedule(Setup::new(PLUGIN), 5, seed(13), steps(60)).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_over_the_database_of_their_nodes() {
    bounded(240, async {
        let setup = Setup::over_database(PLUGIN);
        let network = schedule(setup, 3, seed(14), steps(100)).await;
        assert!(
            network.tally.contains_key(&Step::Killed),
            "{:?}",
            network.tally
        );
        for node in &network.nodes {
            assert!(!node.directory().join("db").exists(), "no store of its own");
            assert!(node.disk.cells().len() > 20);
        }
    })
    .await;
}
