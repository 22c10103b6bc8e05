//! Nodes and plugins that are killed while people write, each in turn: nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::task::JoinSet;

use crate::network::{Devnet, number, until};
use crate::people::Crowd;

/// Writers at once.
const WRITERS: usize = 6;

/// How long a writer thinks after each message: so many as a person might write, not a load.
const PAUSE: Duration = Duration::from_millis(100);

/// Messages before and after something happens.
const SOME: usize = 12;

/// People who write all the time, until they are asked to end.
pub(crate) struct Flow {
    written: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    writers: JoinSet<()>,
}

impl Flow {
    pub(crate) fn start(net: &Devnet, crowd: &Arc<Crowd>) -> Self {
        let (written, over) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let mut writers = JoinSet::new();
        for person in 0..WRITERS.min(crowd.len()) {
            let (crowd, nodes) = (crowd.clone(), net.nodes());
            let (written, over) = (written.clone(), over.clone());
            writers.spawn(async move {
                for turn in person.. {
                    if over.load(Ordering::SeqCst) {
                        break;
                    }
                    let letter = crowd.letter(person, 1);
                    crowd.send(&nodes, turn, vec![letter]).await;
                    written.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(PAUSE).await;
                }
            });
        }
        Self {
            written,
            over,
            writers,
        }
    }

    /// Waits until some more messages are in blocks.
    pub(crate) async fn goes_on(&mut self) {
        let from = self.written.load(Ordering::SeqCst);
        let written = self.written.clone();
        until("messages flow", async || {
            // A writer that has failed ends the test now, not when patience does.
            if let Some(Err(error)) = self.writers.try_join_next() {
                panic!("{error}");
            }
            (written.load(Ordering::SeqCst) >= from + SOME).then_some(())
        })
        .await;
    }

    /// Asks them to end and waits until everything that they wrote is in blocks.
    pub(crate) async fn end(mut self) -> usize {
        self.over.store(true, Ordering::SeqCst);
        while let Some(writer) = self.writers.join_next().await {
            writer.unwrap();
        }
        self.written.load(Ordering::SeqCst)
    }
}

/// Who is next: told, so that a run can be had again.
pub(crate) fn seed() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number("SESSION_DEVNET_SEED", now.as_secs());
    println!("SESSION_DEVNET_SEED={seed}");
    seed
}

/// A node dies, then another one's plugin alone, `SESSION_DEVNET_ROUNDS` times. That nothing is
/// lost is for those to see who come after.
pub(crate) async fn anyone_may_die(net: &Devnet, crowd: &Arc<Crowd>, seed: u64) {
    let nodes = net.urls().len();
    for round in 0..number("SESSION_DEVNET_ROUNDS", 1) {
        let victim = |more: u64| 1 + usize::try_from((seed + round + more) % nodes as u64).unwrap();
        let (node, plugin) = (victim(0).to_string(), victim(1).to_string());
        let mut flow = Flow::start(net, crowd);
        flow.goes_on().await;
        net.done(&["kill", &node]);
        if nodes > 2 {
            flow.goes_on().await;
        }
        net.done(&["restart", &node]);
        flow.goes_on().await;
        net.tell(&format!(
            "node {node} was killed and is back while messages flow"
        ));
        net.done(&["kill", &plugin, "--plugin-only"]);
        let (code, status) = net.status();
        assert_eq!(code, Some(1), "{status}");
        // Until its node is ended as well, the others wait for a vote that never comes in each of
        // some twenty rounds: a minute may pass before the next block.
        net.done(&["restart", &plugin]);
        flow.goes_on().await;
        let written = flow.end().await;
        net.tell(&format!(
            "the plugin of node {plugin} too: {written} messages meanwhile"
        ));
    }
}
