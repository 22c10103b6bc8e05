//! The command on real hosts: this very program is the plugin of avalanchego nodes.
//!
//! ```text
//! network ── one node │ five, sybil protection off │ five validators with stake
//!    └─ people ─▶ rpc, http2 ─▶ message ─▶ crash ─▶ join ─▶ socket ─▶ all again
//! ```
//!
//! Skipped, with a line that says so, where there is no avalanchego: `session devnet up --install`
//! builds one. `SESSION_TEST_AVALANCHEGO` names a program, `SESSION_TEST_NODE_VERSION` a version
//! (`v1.14.2` is protocol 45), and `SESSION_TEST_NODE_INSTALL=1` builds it where it is not there.
//! Whoever names one is not told that nothing was tested: the test fails.
//!
//! `SESSION_DEVNET_SEED` says who is killed, `SESSION_DEVNET_ROUNDS` how often,
//! `SESSION_DEVNET_MESSAGES` how much is written. Everything listens on loopback, and ends with
//! the test, also where it fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the verdict"
)]

mod command;
mod crash;
mod http;
mod http2;
mod join;
mod message;
mod network;
mod people;
mod rpc;
mod socket;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use network::Devnet;
use people::Crowd;

/// Who writes.
const PEOPLE: u8 = 20;

/// Whatever the network is: everything that people do reaches all of it, and outlives what
/// happens to it.
async fn people_write_and_things_happen(net: &Devnet, seed: u64) -> Arc<Crowd> {
    rpc::five_methods(net).await;
    let crowd = Arc::new(Crowd::gather(net, PEOPLE).await);
    net.tell("20 people, each in a conversation with the next");
    message::thousand_at_once(net, &crowd).await;
    http2::polls_and_calls_share_a_connection(net, &crowd).await;
    crash::anyone_may_die(net, &crowd, seed).await;
    crowd
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node() {
    let options = ["--admission", "open", "--port", "31500"];
    let Some((net, _)) = Devnet::up(&options) else {
        return;
    };
    let two = command::Two::meet(&net);
    command::is_refused(&net);
    let crowd = people_write_and_things_happen(&net, crash::seed()).await;
    join::one_more(&net, &crowd).await;
    two.read_at_another_node(&net);
    socket::sockets_hear_and_hold_nothing_up(&net, &crowd).await;
    join::everybody_again(&net, &crowd).await;
    net.over();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_nodes_with_sybil_protection_off() {
    let options = ["--nodes", "5", "--admission", "open", "--port", "33000"];
    let Some((net, up)) = Devnet::up(&options) else {
        return;
    };
    assert_eq!(up["nodes"].as_array().unwrap().len(), 5);
    let crowd = people_write_and_things_happen(&net, crash::seed()).await;
    command::demo(&net);
    join::one_more(&net, &crowd).await;
    socket::sockets_hear_and_hold_nothing_up(&net, &crowd).await;
    join::everybody_again(&net, &crowd).await;
    net.over();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_validators_with_stake() {
    let options = ["--faithful", "--admission", "open", "--port", "35000"];
    let Some((net, up)) = Devnet::up(&options) else {
        return;
    };
    assert_eq!(up["mode"], "faithful");
    let seed = crash::seed();
    let crowd = people_write_and_things_happen(&net, seed).await;
    join::a_wiped_validator(&net, &crowd, seed).await;
    socket::sockets_hear_and_hold_nothing_up(&net, &crowd).await;
    join::everybody_again(&net, &crowd).await;
    join::a_state_instead_of_blocks(&net, &crowd, seed).await;
    net.over();
}

/// What its plugins are told is read by a node at its start, and the chain's id is known only later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_network_is_one_for_its_plugins_too() {
    let options = ["--fast-network", "--port", "37000"];
    let Some((net, _)) = Devnet::up(&options) else {
        return;
    };
    let told = |net: &Devnet| -> Vec<String> {
        let chain = net.state().chain.unwrap();
        let log = net.dir().join("node1/logs").join(format!("{chain}.log"));
        let log = std::fs::read_to_string(log).unwrap();
        let rates = log.split("gossip_bytes_per_second=").skip(1);
        rates
            .map(|rate| rate.split_whitespace().next().unwrap().to_owned())
            .collect()
    };
    let (default, raised) = ("163840", "16777216");
    assert_eq!(told(&net), [default, raised]);
    // It goes on as it is told now.
    net.done(&["down"]);
    assert_eq!(net.up_again(&[]).0, Some(0));
    assert_eq!(told(&net), [default, raised, default]);
    net.over();
}
