//! Several plugins under random schedules: siblings, late nodes, kills, bad weather.
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

/// Steps of one schedule.
const STEPS: usize = 60;

/// What the default schedules must have come to, whatever the machine's pace.
const REACHED: [&str; 12] = [
    "bootstrapped",
    "built",
    "checked",
    "decided",
    "joined",
    "killed after a write",
    "killed before a write",
    "lied",
    "outer ahead",
    "preferred",
    "rested",
    "restarted",
];

fn weather(chance: &mut Chance) -> Weather {
    match chance.below(3) {
        0 => Weather::CALM,
        1 => Weather {
            loss: 100,
            ..Weather::CALM
        },
        _ => Weather {
            loss: chance.below(60),
            twice: chance.below(40),
            delay: Duration::from_millis(chance.below(40) as u64),
            counts_reach: chance.one_in(2),
        },
    }
}

async fn schedule(seed: u64, tally: &mut Tally) {
    let mut chance = Chance::new(seed);
    let (nodes, weather) = (1 + chance.below(7), weather(&mut chance));
    println!("seed {seed}: {nodes} nodes, {weather:?}");
    let mut network = Network::start(Setup::new(PLUGIN), nodes, weather, seed).await;
    network.found(3).await.unwrap();
    for _ in 0..STEPS {
        if chance.one_in(8) {
            network.kill_one().await;
        } else {
            network.step().await.unwrap();
        }
    }
    network.join().await.unwrap();
    network.rest(Duration::from_secs(30)).await.unwrap();
    network.check().await.unwrap();
    network.check_answers();
    network.check_reads().await;
    println!(
        "  height {}: {:?}",
        network.height(),
        network.people.tally()
    );
    for (what, times) in &network.tally {
        *tally.entry(what).or_default() += times;
    }
    let advances = network.people.advances();
    if advances > 0 {
        *tally.entry("group advances").or_default() += advances;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plugins_agree_block_by_block_under_random_schedules() {
    let first = from_env("SESSION_HOST_SEED", 1);
    let rounds = from_env("SESSION_HOST_ROUNDS", 3);
    let mut tally = Tally::new();
    for seed in first..first + rounds {
        bounded(60, schedule(seed, &mut tally)).await;
    }
    println!("{tally:#?}");
    if first == 1 && rounds >= 3 {
        for what in REACHED {
            assert!(tally.contains_key(what), "no schedule came to: {what}");
        }
    }
    // A group has to be opened and seen first, which few schedules have the time for.
    if rounds >= 20 {
        assert!(tally.contains_key("group advances"), "no group advanced");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lost_with_its_block_and_its_blocks_child_comes_back() {
    bounded(30, async {
        let lonely = Weather {
            loss: 100,
            ..Weather::CALM
        };
        let mut network = Network::start(Setup::new(PLUGIN), 2, lonely, 7).await;
        let patience = Duration::from_secs(5);
        let mut chance = Chance::new(7);
        let mut say = |network: &mut Network, at: usize| {
            let tx = network.people.join(&mut chance);
            let handlers = &network.nodes[at].life().handlers;
            network.people.submit(handlers, &tx, true);
        };
        // Two siblings; the first node prefers its own and builds a child on it.
        say(&mut network, 0);
        say(&mut network, 1);
        let a = network.build(0, patience).await.unwrap().unwrap();
        let b = network.build(1, patience).await.unwrap().unwrap();
        network.issue(0, &a).await.unwrap();
        network.nodes[0].prefer(a.id).await.unwrap();
        say(&mut network, 0);
        let child = network.build(0, patience).await.unwrap().unwrap();
        assert_eq!((child.header.parent, child.header.height), (a.id, 2));
        network.issue(0, &child).await.unwrap();
        network.nodes[0].prefer(child.id).await.unwrap();
        network.issue(0, &b).await.unwrap();
        network.issue(1, &b).await.unwrap();
        network.decide(&b);
        for at in [0, 1] {
            network.advance(at, 1).await.unwrap();
        }
        for lost in [&a, &child] {
            let got = network.nodes[0].get(lost.id).await.unwrap();
            assert_eq!(got, None, "a rejected block is gone");
        }
        let d = network.build(0, patience).await.unwrap().unwrap();
        assert_eq!(d.header.parent, b.id);
        network.rest(Duration::from_secs(10)).await.unwrap();
        network.check().await.unwrap();
        network.check_answers();
        assert_eq!(network.people.tally()["accepted"], 3);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outer_index_that_is_ahead_is_caught_up_with_after_every_restart() {
    bounded(30, async {
        let mut network = Network::start(Setup::new(PLUGIN), 1, Weather::CALM, 9).await;
        let mut chance = Chance::new(9);
        for round in 0..4 {
            let tx = network.people.join(&mut chance);
            let handlers = &network.nodes[0].life().handlers;
            network.people.submit(handlers, &tx, true);
            let patience = Duration::from_secs(5);
            let known = network.build(0, patience).await.unwrap().unwrap();
            network.issue(0, &known).await.unwrap();
            network.decide(&known);
            network.nodes[0].accept_outer(known.id);
            network.nodes[0].kill(&network.exchange).await;
            network.mend(0).await;
            assert_eq!(network.nodes[0].height(), round, "the inner is one behind");
            network.advance(0, round + 1).await.unwrap();
        }
        network.rest(Duration::from_secs(10)).await.unwrap();
        network.check().await.unwrap();
        network.replay();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_node_gets_every_block_from_another_and_then_builds() {
    bounded(40, async {
        let mut network = Network::start(Setup::new(PLUGIN), 1, Weather::CALM, 11).await;
        network.found(3).await.unwrap();
        for _ in 0..60 {
            network.step().await.unwrap();
        }
        network.settle(Duration::from_secs(20)).await.unwrap();
        let at = network.join().await.unwrap();
        assert_eq!(network.nodes[at].height(), network.height());
        let mut chance = Chance::new(11);
        let tx = network.people.join(&mut chance);
        let handlers = &network.nodes[at].life().handlers;
        network.people.submit(handlers, &tx, false);
        let built = network.build(at, Duration::from_secs(5)).await.unwrap();
        assert!(built.is_some(), "the new node builds");
        network.rest(Duration::from_secs(10)).await.unwrap();
        network.check().await.unwrap();
        network.check_answers();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_in_a_block_that_nobody_ever_heard_of_is_built_again() {
    bounded(30, async {
        let lonely = Weather {
            loss: 100,
            ..Weather::CALM
        };
        let mut network = Network::start(Setup::new(PLUGIN), 2, lonely, 13).await;
        let mut chance = Chance::new(13);
        for at in 0..2 {
            let tx = network.people.join(&mut chance);
            let handlers = &network.nodes[at].life().handlers;
            network.people.submit(handlers, &tx, true);
        }
        // The first node's block is built, and its engine drops it.
        let patience = Duration::from_secs(5);
        let dropped = network.build(0, patience).await.unwrap().unwrap();
        network.open.remove(&dropped.id);
        let other = network.build(1, patience).await.unwrap().unwrap();
        for at in 0..2 {
            network.issue(at, &other).await.unwrap();
        }
        network.decide(&other);
        for at in 0..2 {
            network.advance(at, 1).await.unwrap();
        }
        // Sooner than its submitter would ask again.
        let again = network.build(0, Duration::from_secs(2)).await.unwrap();
        assert_eq!(again.expect("a block").header.count, 1);
        let gone = network.nodes[0].get(dropped.id).await.unwrap();
        assert!(gone.is_none(), "a block that can never be accepted is kept");
        network.rest(Duration::from_secs(10)).await.unwrap();
        network.check_answers();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_chain_of_undecided_blocks_is_accepted_or_given_up_as_a_whole() {
    bounded(40, async {
        let lonely = Weather {
            loss: 100,
            ..Weather::CALM
        };
        let mut network = Network::start(Setup::new(PLUGIN), 2, lonely, 17).await;
        let mut chance = Chance::new(17);
        for accepted in [true, false] {
            let begun = network.height();
            let mut chain = Vec::new();
            for _ in 0..15 {
                let tx = network.people.join(&mut chance);
                let handlers = &network.nodes[0].life().handlers;
                network.people.submit(handlers, &tx, true);
                let patience = Duration::from_secs(20);
                let known = network.build(0, patience).await.unwrap().unwrap();
                network.issue(0, &known).await.unwrap();
                network.nodes[0].prefer(known.id).await.unwrap();
                chain.push(known);
            }
            if accepted {
                // The other node gets the last one, and asks for everything below it.
                network.issue(1, &chain[14]).await.unwrap();
                chain.iter().for_each(|known| network.decide(known));
            } else {
                let tx = network.people.join(&mut chance);
                let handlers = &network.nodes[1].life().handlers;
                network.people.submit(handlers, &tx, true);
                let patience = Duration::from_secs(5);
                let other = network.build(1, patience).await.unwrap().unwrap();
                network.issue(0, &other).await.unwrap();
                network.issue(1, &other).await.unwrap();
                network.decide(&other);
            }
            for at in 0..2 {
                let height = network.height();
                network.advance(at, height).await.unwrap();
            }
            network.rest(Duration::from_secs(15)).await.unwrap();
            network.check().await.unwrap();
            let blocks = network.height() - begun;
            println!("accepted {accepted}: {blocks} blocks");
            assert_eq!(accepted, blocks == 15);
        }
        network.check_answers();
        assert_eq!(network.people.tally()["accepted"], 31);
    })
    .await;
}
