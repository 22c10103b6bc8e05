//! What plugins tell each other: transactions find whoever may build, and consensus its bandwidth.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::time::{Duration, Instant};

use session_fakehost::bounded;
use session_fakehost::chance::Chance;
use session_fakehost::network::{Network, Setup};
use session_fakehost::sender::{MessageKind, Weather};

const PLUGIN: &str = env!("CARGO_BIN_EXE_fakehost-plugin");

/// What a node takes from one peer in a second; consensus needs most of it.
const PEER_BYTES: usize = 512 << 10;

/// Sooner than anybody asks for what is missing.
const AT_ONCE: Duration = Duration::from_millis(900);

async fn network(nodes: usize, weather: Weather) -> Network {
    Network::start(Setup::new(PLUGIN), nodes, weather, 21).await
}

fn say(network: &mut Network, at: usize, seed: u64) {
    let tx = network.people.join(&mut Chance::new(seed));
    let handlers = &network.nodes[at].life().handlers;
    network.people.submit(handlers, &tx, true);
}

/// How long until a node wants to build.
async fn wants(network: &Network, at: usize) -> Duration {
    let began = Instant::now();
    let wants = network.nodes[at]
        .wants(Duration::from_secs(6))
        .await
        .unwrap();
    assert!(wants, "node {at} never heard of it");
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_hears_at_once_of_what_was_told_one_however_the_node_samples() {
    bounded(30, async {
        let unsampled = Weather {
            counts_reach: false,
            ..Weather::CALM
        };
        for weather in [Weather::CALM, unsampled] {
            let mut network = network(4, weather).await;
            say(&mut network, 2, 1);
            for at in 0..4 {
                let took = wants(&network, at).await;
                assert!(took < AT_ONCE, "node {at} after {took:?}");
            }
            network.settle(Duration::from_secs(10)).await.unwrap();
            network.check_answers();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_lost_is_asked_for() {
    bounded(30, async {
        let mut network = network(2, Weather::CALM).await;
        network.exchange.set_weather(Weather {
            loss: 100,
            ..Weather::CALM
        });
        say(&mut network, 0, 1);
        assert!(
            !network.nodes[1]
                .wants(Duration::from_millis(500))
                .await
                .unwrap()
        );
        network.exchange.set_weather(Weather::CALM);
        let took = wants(&network, 1).await;
        println!("after {took:?}");
        network.settle(Duration::from_secs(10)).await.unwrap();
        network.check_answers();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_one_that_was_lost_keeps_nothing_waiting() {
    bounded(30, async {
        let mut network = network(2, Weather::CALM).await;
        network.found(2).await.unwrap();
        network.exchange.set_weather(Weather {
            loss: 100,
            ..Weather::CALM
        });
        let (session, person) = network.people.sessions[0];
        for length in [150_000, 200_000, 100] {
            let tx = network.people.persons[person].message(session, vec![7; length]);
            let handlers = &network.nodes[0].life().handlers;
            network.people.submit(handlers, &tx, true);
        }
        // The second node alone builds from here, before their submitters ask again after 8 s.
        wants(&network, 0).await;
        network.exchange.set_weather(Weather::CALM);
        let began = Instant::now();
        while network.people.collect().await > 0 {
            assert!(
                began.elapsed() < Duration::from_secs(7),
                "{} left",
                network.people.collect().await
            );
            if let Some(known) = network.build(1, Duration::from_millis(500)).await.unwrap() {
                network.issue(1, &known).await.unwrap();
                network.decide(&known);
                for at in 0..2 {
                    network.advance(at, known.header.height).await.unwrap();
                }
            }
        }
        network.check_answers();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_had_nothing_to_tell_for_a_while_is_listened_to() {
    bounded(30, async {
        let mut network = network(2, Weather::CALM).await;
        let quiet = |network: &Network| {
            let sent = network.exchange.sent();
            let answers = sent
                .iter()
                .filter(|sent| sent.kind == MessageKind::Response);
            answers.count()
        };
        let began = Instant::now();
        while quiet(&network) < 4 {
            assert!(began.elapsed() < Duration::from_secs(10), "nobody asks");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for at in 0..2 {
            say(&mut network, at, at as u64);
            let took = wants(&network, 1 - at).await;
            assert!(took < AT_ONCE, "after {took:?}");
            network.settle(Duration::from_secs(10)).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_leaves_consensus_its_bandwidth() {
    bounded(40, async {
        let mut network = network(3, Weather::CALM).await;
        network.found(2).await.unwrap();
        let (session, person) = network.people.sessions[0];
        let mut chance = Chance::new(5);
        for _ in 0..30 {
            let text = || vec![0x5a; 15_000];
            let mut texts = vec![text(), text(), text(), text()];
            for text in &mut texts {
                text[..32].copy_from_slice(&chance.bytes::<32>());
            }
            let tx = network.people.persons[person].batch(session, texts);
            let handlers = &network.nodes[0].life().handlers;
            network.people.submit(handlers, &tx, true);
        }
        network.settle(Duration::from_secs(25)).await.unwrap();
        network.check_answers();
        let worst = network.exchange.worst_second();
        let all: usize = network.exchange.sent().iter().map(|sent| sent.bytes).sum();
        println!("{all} bytes in all, at most {worst} in a second to one peer");
        assert!(worst < PEER_BYTES * 9 / 10, "{worst} bytes in a second");
        assert_eq!(network.exchange.too_large(), 0);
        assert_eq!(network.people.tally()["accepted"], 4 + 30);
    })
    .await;
}
