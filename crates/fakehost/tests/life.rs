//! A plugin's process: how it starts, what it ignores, and when it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::time::{Duration, Instant};

use session_fakehost::alone::{Alone, asked};
use session_fakehost::bounded;
use session_fakehost::database::Database;
use session_fakehost::network::Setup;
use session_fakehost::plugin::{
    ENGINE_ADDRESS, Handshake, Launch, NODE_PATIENCE, Plugin, Process, Signal, StartError, VM_ID,
    kill, lives, send, within,
};

const PLUGIN: &str = env!("CARGO_BIN_EXE_fakehost-plugin");
const LAUNCHER: &str = env!("CARGO_BIN_EXE_fakehost-launcher");

async fn start(launch: &Launch) -> Plugin {
    let started = Plugin::start(launch).await;
    started.unwrap_or_else(|error| panic!("{error:?}"))
}

fn launched(protocol: &str) -> Launch {
    Launch {
        launcher: Some((LAUNCHER.into(), protocol.to_owned())),
        ..Launch::new(PLUGIN)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_needs_no_initialize_and_leaves_nothing_behind() {
    bounded(20, async {
        let plugin = start(&Launch::new(PLUGIN)).await;
        assert!(plugin.took < NODE_PATIENCE);
        assert!((42..=46).contains(&plugin.protocol), "{}", plugin.protocol);
        let version = asked(plugin.vm().version(())).await.unwrap().version;
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        let began = Instant::now();
        let status = plugin.stop().await.expect("it ends by itself");
        assert_eq!(status.code(), Some(0));
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_started_as_a_node_starts_it() {
    bounded(20, async {
        let plugin = start(&Launch::new(PLUGIN)).await;
        let of = |file: &str| {
            let path = format!("/proc/{}/{file}", plugin.pid().as_raw_nonzero());
            std::fs::read_to_string(path).unwrap()
        };
        let arguments = of("cmdline");
        assert!(
            arguments.trim_end_matches('\0').ends_with(VM_ID),
            "{arguments}"
        );
        assert_eq!(
            arguments.matches('\0').count(),
            1,
            "no arguments: {arguments:?}"
        );
        let environment = of("environ");
        assert!(environment.starts_with(ENGINE_ADDRESS), "{environment}");
        assert_eq!(environment.matches('\0').count(), 1, "{environment:?}");
        asked(plugin.vm().version(())).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_speaks_the_number_that_its_parent_speaks() {
    bounded(30, async {
        for protocol in [42, 44, 45, 46] {
            let launch = Launch {
                handshake: Handshake::Number(protocol),
                ..launched(&protocol.to_string())
            };
            let plugin = start(&launch).await;
            assert_eq!(plugin.protocol, protocol);
        }
        // A parent that tells no number is met with the usual one, and in time.
        for launch in [Launch::new(PLUGIN), launched("none"), launched("hang")] {
            let plugin = start(&launch).await;
            assert_eq!(plugin.protocol, 44);
            assert!(plugin.took < NODE_PATIENCE, "{:?}", plugin.took);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_handshake_ends_it_at_once_and_it_says_why() {
    bounded(20, async {
        for handshake in [Handshake::Number(7), Handshake::Refused("go away")] {
            let launch = Launch {
                handshake,
                ..Launch::new(PLUGIN)
            };
            let refused = Plugin::start(&launch).await.unwrap_err();
            let (status, said) = match refused {
                StartError::Refused(mut process, _) => {
                    let began = Instant::now();
                    let status = process.ended(Duration::from_secs(2)).await;
                    let took = began.elapsed();
                    assert!(took < Duration::from_secs(1), "{took:?}");
                    process.settle().await;
                    (status.expect("it ends"), process.output())
                }
                StartError::Ended(status, said) => (status, said),
                StartError::Late(said) => panic!("late: {said}"),
            };
            assert_eq!(status.code(), Some(1), "{said}");
            let why = said.contains("mismatch") || said.contains("go away");
            assert!(why && !said.contains("panicked"), "{said}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_that_is_not_there_ends_it() {
    bounded(20, async {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let mut process = Process::start(&Launch::new(PLUGIN), address);
        let status = process.ended(Duration::from_secs(10)).await;
        process.settle().await;
        let said = process.output();
        assert_eq!(status.expect("it ends").code(), Some(1), "{said}");
        assert!(!said.is_empty() && !said.contains("panicked"), "{said}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signals_before_shutdown_do_not_stop_it_while_its_parent_lives() {
    bounded(30, async {
        let setup = Setup::new(PLUGIN);
        let mut alone = Alone::operating(&setup, &Database::default()).await;
        for signal in [Signal::INT, Signal::TERM, Signal::INT, Signal::TERM] {
            send(alone.plugin.pid(), signal);
        }
        // Longer than it takes to notice that a parent is gone.
        let ended = alone
            .plugin
            .process
            .ended(Duration::from_millis(1_500))
            .await;
        assert_eq!(ended, None, "{}", alone.plugin.process.output());
        let tx = alone.person(1).registration();
        alone.block(&tx).await.unwrap();
        let status = alone.plugin.stop().await.expect("it ends by itself");
        assert_eq!(status.code(), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_that_came_too_early_counts_once_shutdown_comes() {
    bounded(20, async {
        let mut plugin = start(&Launch::new(PLUGIN)).await;
        asked(plugin.vm().shutdown(())).await.unwrap();
        // Shutdown alone is no end: the node sends the signal.
        let ended = plugin.process.ended(Duration::from_millis(300)).await;
        assert_eq!(ended, None, "{}", plugin.process.output());
        send(plugin.pid(), Signal::INT);
        assert_eq!(plugin.process.ended(Duration::from_millis(200)).await, None);
        send(plugin.pid(), Signal::TERM);
        let status = plugin.process.ended(Duration::from_secs(2)).await;
        assert_eq!(status.expect("it ends").code(), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_not_outlive_its_parent() {
    bounded(30, async {
        let plugin = start(&launched("44")).await;
        let pid = plugin.pid();
        assert_ne!(pid, plugin.process.child());
        asked(plugin.vm().version(())).await.unwrap();
        kill(plugin.process.child());
        let gone = within(Duration::from_secs(3), || !lives(pid)).await;
        assert!(gone, "an orphan: {}", plugin.process.output());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ordinary_stop_keeps_everything_and_ends_with_zero() {
    bounded(30, async {
        let (setup, database) = (Setup::new(PLUGIN), Database::default());
        let mut alone = Alone::operating(&setup, &database).await;
        let tx = alone.person(1).registration();
        let known = alone.block(&tx).await.unwrap();
        // A long poll that nothing will answer, as it is open when a node stops.
        let mut vm = alone.vm();
        let poll = tokio::spawn(async move { vm.wait_for_event(()).await });
        let status = alone.plugin.stop().await.expect("it ends by itself");
        assert_eq!(status.code(), Some(0));
        assert!(poll.await.unwrap().is_err());
        let mut again = Alone::start(&setup, &database).await;
        let last = again.initialize().await.unwrap();
        assert_eq!((last.height, last.bytes), (1, known.bytes));
    })
    .await;
}
