//! What must hold at any moment: every node has what was decided, byte for byte.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;

use super::{Asked, Network};
use crate::people::call;

/// How long a plugin that has nothing to build is watched.
const SILENCE: Duration = Duration::from_millis(40);

/// How long it is watched before it must not be able to build either.
const REST: Duration = Duration::from_millis(600);

impl Network {
    /// Compares every node that runs with what was decided.
    ///
    /// # Errors
    /// [`super::Killed`].
    pub async fn check(&mut self) -> Asked<()> {
        for at in self.running() {
            let node = &self.nodes[at];
            let (last, height) = (node.last(), node.height());
            let decided = &self.decided[height as usize];
            assert_eq!(last, decided.id, "node {at} at height {height}");
            let mut heights = vec![0, height];
            heights.extend((0..3).map(|_| self.chance.below(height as usize + 1) as u64));
            for h in heights {
                let decided = &self.decided[h as usize];
                let id = node.at_height(h).await?;
                if 0 < h && h < node.base {
                    // It was given the state after it instead.
                    assert_eq!(id, None, "node {at}, height {h}");
                    assert_eq!(node.get(decided.id).await?, None, "node {at}, height {h}");
                    continue;
                }
                assert_eq!(id, Some(decided.id), "node {at}, height {h}");
                // The header is in the bytes, and the state root in the header.
                let block = node.get(decided.id).await?;
                assert_eq!(block.as_ref(), Some(decided), "node {at}, height {h}");
            }
            assert_eq!(node.at_height(height + 1).await?, None, "node {at}");
            for block in node.life().processing.values() {
                let got = node.get(block.id).await?;
                assert_eq!(got.as_ref(), Some(block), "node {at}, processing");
            }
            self.check_ancestors(at).await?;
            self.check_head(at).await;
        }
        self.tell("checked", format!("at {}", self.height()));
        Ok(())
    }

    async fn check_ancestors(&mut self, at: usize) -> Asked<()> {
        let node = &self.nodes[at];
        let base = node.base as usize;
        let from = base + self.chance.below(node.height() as usize + 1 - base);
        let count = 1 + self.chance.below(8);
        let bytes = [300, 3_000, 2 << 20][self.chance.below(3)];
        let mut expected = Vec::new();
        let mut size = 0;
        for block in self.decided[base..=from].iter().rev().take(count) {
            size += block.bytes.len() + 4;
            // The first one comes whatever its size.
            if size > bytes && !expected.is_empty() {
                break;
            }
            expected.push(block.bytes.clone());
        }
        let id = self.decided[from].id;
        let got = node.ancestors(id, count as i32, bytes as i32).await?;
        assert!(
            got == expected,
            "node {at}: ancestors of height {from}, {count}, {bytes}"
        );
        let unknown = session_core::ids::BlockId::from_bytes([0xee; 32]);
        assert!(node.ancestors(unknown, 9, 9_999).await?.is_empty());
        Ok(())
    }

    /// What people read is the last accepted block.
    async fn check_head(&self, at: usize) {
        let node = &self.nodes[at];
        let handlers = &node.life().handlers;
        let Some((_, rpc)) = handlers.iter().find(|(prefix, _)| prefix == "/rpc") else {
            return;
        };
        let head = call(rpc, "sessionvm.GetHead", &json!({})).await;
        let head = head.unwrap_or_else(|error| panic!("node {at}: GetHead: {error}"));
        assert_eq!(
            head["height"].as_u64(),
            Some(node.height()),
            "node {at}: {head}"
        );
        assert_eq!(
            head["id"].as_str(),
            Some(&*node.last().to_string()),
            "node {at}: {head}"
        );
    }

    /// People read the same from every node that is level.
    pub async fn check_reads(&self) {
        for (session, _) in &self.people.sessions {
            let params = json!({ "sessionId": session, "from": 0 });
            let mut first = None;
            for at in self.running() {
                assert_eq!(
                    self.nodes[at].height(),
                    self.height(),
                    "node {at} is behind"
                );
                let handlers = &self.nodes[at].life().handlers;
                let (_, rpc) = handlers.iter().find(|(p, _)| p == "/rpc").expect("/rpc");
                let read = call(rpc, "sessionvm.GetMessages", &params).await;
                let read = read.unwrap_or_else(|error| panic!("node {at}: {error}"));
                let messages = read["messages"].clone();
                assert!(messages.is_array(), "node {at}: {read}");
                let same = *first.get_or_insert(messages.clone()) == messages;
                assert!(same, "node {at} reads another session {session}");
            }
        }
    }

    /// Goes on until everybody was answered, every node is level, and nobody wants to build at
    /// once.
    ///
    /// # Errors
    /// [`super::Killed`].
    ///
    /// # Panics
    /// When that takes longer than `patience`.
    pub async fn settle(&mut self, patience: Duration) -> Asked<()> {
        let began = std::time::Instant::now();
        loop {
            let height = self.height();
            for at in self.running() {
                self.advance(at, height).await?;
            }
            if let Some(next) = self.candidates().first().cloned() {
                self.decide(&next);
                continue;
            }
            let mut order = self.running();
            self.chance.shuffle(&mut order);
            let mut quiet = true;
            for at in order {
                let last = self.nodes[at].last();
                self.nodes[at].prefer(last).await?;
                if let Some(known) = self.build(at, SILENCE).await? {
                    self.issue(at, &known).await?;
                    quiet = false;
                    break;
                }
            }
            let waiting = self.people.collect().await;
            if quiet && waiting == 0 {
                break;
            }
            assert!(
                began.elapsed() < patience,
                "{waiting} submissions have no answer and {}",
                if quiet {
                    "nobody wants to build"
                } else {
                    "blocks do not end"
                }
            );
        }
        self.tell("settled", format!("at {}", self.height()));
        Ok(())
    }

    /// As [`Network::settle`], and then nobody wants to build, nor can.
    ///
    /// # Errors
    /// [`super::Killed`].
    ///
    /// # Panics
    /// When it takes longer than `patience`, or a plugin can build what it did not want to.
    pub async fn rest(&mut self, patience: Duration) -> Asked<()> {
        let began = std::time::Instant::now();
        loop {
            self.settle(patience.saturating_sub(began.elapsed()))
                .await?;
            // What others told of is built a little later than what is one's own.
            let wants = self.running().into_iter();
            let wants = wants.map(|at| self.nodes[at].wants(REST));
            let mut quiet = true;
            for wants in join_all(wants).await {
                quiet &= !wants?;
            }
            if quiet {
                break;
            }
        }
        for at in self.running() {
            let nothing = self.nodes[at].build().await?;
            assert!(nothing.is_err(), "node {at} built, but did not want to");
        }
        self.tell("rested", format!("at {}", self.height()));
        Ok(())
    }
}
