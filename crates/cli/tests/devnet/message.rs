//! Messages of many people to all nodes at once.

use std::sync::Arc;

use crate::network::{Devnet, number};
use crate::people::{Crowd, Letter};

/// How many are written where nobody says otherwise: four seconds of what five nodes take by
/// default.
const MESSAGES: u64 = 1_000;

/// Texts of a batch.
const BATCH: usize = 5;

/// Transactions in one call.
const CALL: usize = 10;

/// Everybody writes single messages and batches to a node of their own, and some of it to another
/// node at the same time, as a client does that did not wait for an answer.
pub(crate) async fn thousand_at_once(net: &Devnet, crowd: &Arc<Crowd>) {
    let messages = usize::try_from(number("SESSION_DEVNET_MESSAGES", MESSAGES)).unwrap();
    let each = messages.div_ceil(crowd.len());
    let before = crowd.told();
    let mut writers = tokio::task::JoinSet::new();
    for person in 0..crowd.len() {
        let (nodes, crowd) = (net.nodes(), crowd.clone());
        writers.spawn(async move {
            let half = each / 2;
            let singles = (0..each - half / BATCH * BATCH).map(|_| crowd.letter(person, 1));
            let mut letters: Vec<Letter> = singles.collect();
            letters.extend((0..half / BATCH).map(|_| crowd.letter(person, BATCH)));
            while !letters.is_empty() {
                let rest = letters.split_off(letters.len().min(CALL));
                let twice = vec![letters[0].clone()];
                tokio::join!(
                    crowd.send(&nodes, person, letters),
                    crowd.send(&nodes, person + 1, twice),
                );
                letters = rest;
            }
        });
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    assert_eq!(crowd.told() - before, each * crowd.len());
    net.tell(&format!(
        "{} messages of {} people are in blocks",
        each * crowd.len(),
        crowd.len()
    ));
    crowd.is_on_all(net).await;
}
