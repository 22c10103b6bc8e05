//! Nodes that come late, come back with nothing, or all come back at once.

use std::path::Path;
use std::sync::Arc;

use crate::crash::Flow;
use crate::network::Devnet;
use crate::people::Crowd;

/// One more node finds everything while people write, and serves it.
pub(crate) async fn one_more(net: &Devnet, crowd: &Arc<Crowd>) {
    let mut flow = Flow::start(net, crowd);
    flow.goes_on().await;
    let before = net.urls().len();
    let added = net.done(&["add"]);
    assert_eq!(added["node"], before + 1);
    assert_eq!(net.urls().len(), before + 1);
    flow.goes_on().await;
    flow.end().await;
    net.tell(&format!(
        "node {} came late, at height {}",
        added["node"], added["height"]
    ));
    crowd.is_on_all(net).await;
}

/// A validator that has lost its disk gets everything from the others before it counts again.
pub(crate) async fn a_wiped_validator(net: &Devnet, crowd: &Arc<Crowd>, seed: u64) {
    let number = 1 + usize::try_from((seed + 2) % net.urls().len() as u64).unwrap();
    let before = net.state().node(number).unwrap().clone();
    let name = number.to_string();
    let mut flow = Flow::start(net, crowd);
    flow.goes_on().await;
    net.done(&["kill", &name]);
    let dir = net.dir().join(format!("node{number}"));
    for lost in ["db", "chainData"] {
        std::fs::remove_dir_all(dir.join(lost)).unwrap();
    }
    net.done(&["restart", &name]);
    flow.goes_on().await;
    flow.end().await;
    let after = net.state().node(number).unwrap().clone();
    assert_eq!(after.node_id, before.node_id, "its staking keys stayed");
    assert_ne!(
        after.head_key, before.head_key,
        "its head key was in what was lost"
    );
    let blocks = executed(net, &dir);
    net.tell(&format!(
        "validator {number} came back from an empty disk: {blocks}"
    ));
    crowd.is_on_all(net).await;
}

/// A node that has lost its disk, where the others offer the state of a recent block: it takes that
/// over instead of the blocks before it.
pub(crate) async fn a_state_instead_of_blocks(net: &Devnet, crowd: &Arc<Crowd>, seed: u64) {
    let chain = net.state().chain.unwrap().to_string();
    let config = net.dir().join("chains").join(&chain);
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(
        config.join("config.json"),
        r#"{"stateSyncInterval":8,"stateSyncMinBlocks":4,"stateSyncMinSeconds":0}"#,
    )
    .unwrap();
    net.done(&["down"]);
    let (code, up) = net.up_again(&[]);
    assert_eq!(code, Some(0), "{up}");
    // A height after which a state is offered by everybody.
    let nodes = net.nodes();
    let from = net.levels().await;
    for turn in 0.. {
        if net.levels().await >= from + 12 {
            break;
        }
        let letter = crowd.letter(turn % crowd.len(), 1);
        crowd.send(&nodes, turn, vec![letter]).await;
    }
    let number = 1 + usize::try_from(seed % net.urls().len() as u64).unwrap();
    let name = number.to_string();
    net.done(&["kill", &name]);
    let dir = net.dir().join(format!("node{number}"));
    for lost in ["db", "chainData"] {
        std::fs::remove_dir_all(dir.join(lost)).unwrap();
    }
    net.done(&["restart", &name]);
    let log = std::fs::read_to_string(dir.join(format!("logs/{chain}.log"))).unwrap();
    let taken = log
        .lines()
        .rfind(|line| line.contains("took over the state of a block"));
    let taken = taken.unwrap_or_else(|| panic!("node {number} was given the blocks"));
    let facts = taken.split_once("took over the state of a block");
    net.tell(&format!(
        "node {number} took over a state:{}",
        facts.map_or("", |(_, facts)| facts)
    ));
    crowd.is_on_all(net).await;
    // It is a node like the others: somebody writes through it.
    let letter = crowd.letter(0, 1);
    let nodes = net.nodes();
    crowd.send(&nodes, number - 1, vec![letter]).await;
    crowd.is_on_all(net).await;
}

/// What the host's log says of the blocks that it caught up with, for whoever reads this.
fn executed(net: &Devnet, node: &Path) -> String {
    let log = node.join(format!("logs/{}.log", net.state().chain.unwrap()));
    let log = std::fs::read_to_string(log).unwrap();
    let last = log.lines().rfind(|line| line.contains("executed blocks"));
    let facts = last.and_then(|line| line.split_once("executed blocks"));
    facts.map_or_else(String::new, |(_, facts)| facts.to_owned())
}

/// All of them end and start: the same chain, nothing missing, and it goes on.
pub(crate) async fn everybody_again(net: &Devnet, crowd: &Arc<Crowd>) {
    let (chain, height) = (net.state().chain, net.levels().await);
    net.done(&["down"]);
    assert!(net.is_alone(), "something was left running");
    let (code, up) = net.up_again(&[]);
    assert_eq!(code, Some(0), "{up}");
    assert_eq!(net.state().chain, chain);
    assert!(net.levels().await >= height);
    net.tell("all nodes were stopped and started");
    let nodes = net.nodes();
    for at in 0..nodes.len() {
        crowd.send(&nodes, at, vec![crowd.letter(at, 1)]).await;
    }
    crowd.is_on_all(net).await;
}
