//! Nodes that come late and take over a state, from peers that lie, are silent or gone, killed at
//! any write on the way.
//!
//! `SESSION_HOST_SEED` begins at another seed, `SESSION_HOST_ROUNDS` runs more schedules.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::time::Duration;

use session_fakehost::bounded;
use session_fakehost::chance::{Chance, from_env};
use session_fakehost::network::{Network, Setup, Tally};
use session_fakehost::sender::Weather;

const PLUGIN: &str = env!("CARGO_BIN_EXE_fakehost-plugin");

fn setup() -> Setup {
    offering_every(4)
}

fn offering_every(blocks: u64) -> Setup {
    let config = format!(
        r#"{{"stateSyncInterval":{blocks},"stateSyncMinBlocks":1,"stateSyncMinSeconds":0}}"#
    );
    Setup {
        config: config.into_bytes(),
        ..Setup::new(PLUGIN)
    }
}

async fn schedule(seed: u64, tally: &mut Tally) {
    let mut chance = Chance::new(seed);
    let nodes = 2 + chance.below(3);
    println!("seed {seed}: {nodes} nodes");
    let mut network = Network::start(setup(), nodes, Weather::CALM, seed).await;
    network.found(3).await.unwrap();
    for round in 0..3 {
        for _ in 0..12 {
            network.step().await.unwrap();
        }
        network.settle(Duration::from_secs(20)).await.unwrap();
        if round == 1 {
            // One of the first, of which one at least stays honest.
            let liar = network.nodes[chance.below(nodes - 1)].id;
            network.exchange.make_liar(liar, Some(3));
            network.tell_of("a liar");
        }
        let kills = chance.below(4);
        if let Some(at) = network.join_by_state(kills).await.unwrap() {
            assert!(
                network.nodes[at].base > 0,
                "given up, though somebody is honest"
            );
        }
        network.check().await.unwrap();
    }
    network.rest(Duration::from_secs(30)).await.unwrap();
    network.check().await.unwrap();
    network.check_answers();
    network.check_reads().await;
    for (what, times) in &network.tally {
        *tally.entry(what).or_default() += times;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_late_takes_over_the_state_that_was_decided() {
    let first = from_env("SESSION_HOST_SEED", 1);
    let rounds = from_env("SESSION_HOST_ROUNDS", 3);
    let mut tally = Tally::new();
    for seed in first..first + rounds {
        bounded(90, schedule(seed, &mut tally)).await;
    }
    println!("{tally:#?}");
    if first == 1 && rounds >= 3 {
        for what in ["state taken", "killed while it takes a state", "a liar"] {
            assert!(tally.contains_key(what), "no schedule came to: {what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_peers_all_lie_is_given_the_blocks_instead() {
    bounded(60, async {
        // Founding takes three blocks at least.
        let mut network = Network::start(offering_every(2), 2, Weather::CALM, 3).await;
        network.found(4).await.unwrap();
        for node in &network.nodes {
            network.exchange.make_liar(node.id, None);
        }
        let at = network.join_by_state(0).await.unwrap();
        let at = at.expect("a state is offered");
        assert_eq!(network.nodes[at].base, 0, "a lie was believed");
        network.check().await.unwrap();
        network.check_reads().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_that_nobody_offers_any_more_is_given_up() {
    bounded(90, async {
        let mut network = Network::start(offering_every(2), 2, Weather::CALM, 5).await;
        network.found(4).await.unwrap();
        let state = network.best_state().await.unwrap().expect("offered");
        // Both start anew, and offer nothing until the next such height.
        for at in 0..2 {
            network.nodes[at].kill(&network.exchange).await;
        }
        for at in 0..2 {
            network.mend(at).await;
            if network.nodes[at].height() % 2 != 0 {
                assert_eq!(network.nodes[at].last_state().await.unwrap(), None);
            }
        }
        let at = network.join_with(&state).await.unwrap();
        assert_eq!(network.nodes[at].base % 2, 0);
        network.check().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn states_that_are_not_wanted_or_not_of_this_chain_are_refused() {
    bounded(60, async {
        let near = Setup {
            config: br#"{"stateSyncInterval":2,"stateSyncMinBlocks":1000,"stateSyncMinSeconds":0}"#
                .to_vec(),
            ..Setup::new(PLUGIN)
        };
        let mut network = Network::start(near, 1, Weather::CALM, 9).await;
        network.found(3).await.unwrap();
        let state = network.best_state().await.unwrap().expect("offered");
        let node = &network.nodes[0];
        assert!(
            !node.accept_state(&state).await.unwrap(),
            "a thousand blocks are few"
        );
        let mut vm = node.life().plugin.vm();
        for at in [0, 1, 40, state.bytes.len() - 1] {
            let mut bytes = state.bytes.to_vec();
            bytes[at] ^= 1;
            let request = session_rpcchainvm::vm::ParseStateSummaryRequest {
                bytes: bytes.clone().into(),
            };
            let parsed = vm.parse_state_summary(request).await;
            // Of another version or another chain; else it is a summary, of which the host asks
            // many nodes whether they have it.
            assert!(parsed.is_err() || at > 33, "byte {at}: {parsed:?}");
            if let Ok(parsed) = parsed {
                let id = session_core::hash::sha256(&bytes);
                assert_eq!(parsed.into_inner().id, id.to_vec());
            }
        }
        for short in [0, 1, 50] {
            let bytes = state.bytes.slice(..short);
            let request = session_rpcchainvm::vm::ParseStateSummaryRequest { bytes };
            assert!(vm.parse_state_summary(request).await.is_err());
        }
        assert_eq!(node.state_at(1).await.unwrap(), None);
        assert_eq!(node.state_at(u64::MAX).await.unwrap(), None);
        network.check().await.unwrap();
    })
    .await;
}
