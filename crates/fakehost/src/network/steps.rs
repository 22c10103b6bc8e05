//! A schedule's steps when nothing breaks.

use std::time::Duration;

use session_chain::block::Block;
use session_core::codec::{Decode, Encode};
use session_rpcchainvm::vm::State;

use super::{Asked, Network, short};
use crate::network::Node;
use crate::network::node_id;

/// How long a plugin is asked in a step whether it wants to build.
const ASKED: Duration = Duration::from_millis(60);

/// Bytes of blocks that a peer answers with at once.
const ANCESTORS_BYTES: i32 = 1 << 20;

impl Network {
    /// Registers people and opens sessions between them, so that messages can be sent.
    ///
    /// # Errors
    /// [`super::Killed`].
    pub async fn found(&mut self, people: usize) -> Asked<()> {
        let patience = Duration::from_secs(20);
        for _ in 0..people {
            let tx = self.people.join(&mut self.chance);
            let number = self.people.persons.len();
            self.submit_to(number, &tx);
        }
        self.settle(patience).await?;
        let mut sessions = Vec::new();
        for at in 1..people {
            let (tx, session) = self.people.persons[at - 1].open_session(&self.people.persons[at]);
            sessions.push((session, at));
            self.submit_to(at, &tx);
        }
        self.settle(patience).await?;
        for (session, at) in &sessions {
            let tx = self.people.persons[*at].accept_session(*session);
            self.submit_to(*at, &tx);
        }
        self.settle(patience).await?;
        self.people.sessions = sessions;
        Ok(())
    }

    /// Submits to a node that runs, counted among those.
    pub(super) fn submit_to(&mut self, number: usize, tx: &session_chain::tx::Tx) {
        let running = self.running();
        let at = running[number % running.len()];
        let binary = self.chance.one_in(2);
        let handlers = &self.nodes[at].life().handlers;
        self.people.submit(handlers, tx, binary);
    }

    /// One step: whatever the seed says.
    ///
    /// # Errors
    /// [`super::Killed`], with the node that was killed left for [`Network::mend`].
    pub async fn step(&mut self) -> Asked<()> {
        match self.chance.below(40) {
            0..=9 => self.say(),
            10..=17 => self.one_builds().await?,
            18..=22 => self.two_build().await?,
            23..=31 => self.some_follow().await?,
            32..=33 => self.one_prefers().await?,
            34..=35 => self.one_verifies_again().await?,
            36 => self.one_forgets().await?,
            37..=38 => self.one_lies().await?,
            _ => self.check().await?,
        }
        self.people.collect().await;
        Ok(())
    }

    /// A node that runs, by chance.
    pub(super) fn any(&mut self) -> usize {
        let running = self.running();
        *self.chance.pick(&running).expect("one node runs always")
    }

    /// Somebody submits something, sometimes to two nodes at once.
    fn say(&mut self) {
        for _ in 0..=self.chance.below(4) {
            let tx = self.people.next(&mut self.chance);
            let first = self.any();
            self.submit_to(first, &tx);
            if self.chance.one_in(5) {
                let second = self.any();
                self.submit_to(second, &tx);
            }
        }
        self.tell("said", String::new());
    }

    async fn one_builds(&mut self) -> Asked<()> {
        let at = self.any();
        let Some(known) = self.build(at, ASKED).await? else {
            return Ok(());
        };
        self.issue(at, &known).await?;
        self.prefer(at).await?;
        self.spread(&known).await
    }

    /// Gives a block to some nodes, in some order.
    async fn spread(&mut self, known: &super::Known) -> Asked<()> {
        let mut order = self.running();
        self.chance.shuffle(&mut order);
        for at in order {
            if !self.chance.one_in(4) {
                self.issue(at, known).await?;
                self.prefer(at).await?;
            }
        }
        Ok(())
    }

    /// Two nodes build at the same moment; each sees the other's block second.
    async fn two_build(&mut self) -> Asked<()> {
        let (a, b) = (self.any(), self.any());
        if a == b {
            return Ok(());
        }
        if !(self.nodes[a].wants(ASKED).await? && self.nodes[b].wants(ASKED).await?) {
            return Ok(());
        }
        let (one, two) = tokio::join!(self.nodes[a].build(), self.nodes[b].build());
        let wanted = "it wanted to build";
        let (one, two) = (one?.expect(wanted), two?.expect(wanted));
        for known in [&one, &two] {
            self.met(known);
        }
        if one.id != two.id && one.header.parent == two.header.parent {
            self.tell("siblings", format!("{} {}", short(&one), short(&two)));
        }
        self.issue(a, &one).await?;
        self.issue(b, &two).await?;
        self.spread(&one).await?;
        self.spread(&two).await
    }

    /// The network decides, perhaps, and some nodes follow, some of them part of the way.
    async fn some_follow(&mut self) -> Asked<()> {
        let candidates = self.candidates();
        if let Some(next) = self.chance.pick(&candidates).cloned() {
            self.decide(&next);
        }
        for at in self.running() {
            let behind = self.height() - self.nodes[at].height();
            if behind > 0 && !self.chance.one_in(4) {
                let to = self.height() - self.chance.below(behind as usize) as u64;
                self.advance(at, to).await?;
            }
        }
        Ok(())
    }

    async fn one_prefers(&mut self) -> Asked<()> {
        let at = self.any();
        self.prefer(at).await?;
        self.tell("preferred", format!("by {at}"));
        Ok(())
    }

    /// The same block comes again, in another outer block.
    async fn one_verifies_again(&mut self) -> Asked<()> {
        let at = self.any();
        let known: Vec<_> = self.nodes[at].life().processing.values().cloned().collect();
        if let Some(known) = self.chance.pick(&known) {
            self.nodes[at].parse(known).await?;
            self.nodes[at].verify(known).await?;
            self.tell("again", format!("{} by {at}", short(known)));
        }
        Ok(())
    }

    /// Somebody makes another block of one that is good: it is refused, and nothing else changes.
    async fn one_lies(&mut self) -> Asked<()> {
        let mut known: Vec<_> = self.open.values().cloned().collect();
        known.push(self.last().clone());
        let known = self.chance.pick(&known).expect("one at least");
        let mut block = Block::from_bytes(&known.bytes).expect("it was read before");
        match self.chance.below(3) {
            0 => block.header.state_root[7] ^= 1,
            1 => block.header.time = block.header.time.after_ms(3_600_000),
            _ => block.header.height += 1,
        }
        let at = self.any();
        let refused = self.nodes[at].refuses(block.to_bytes().into()).await?;
        self.tell("lied", format!("about {} to {at}: {refused}", short(known)));
        Ok(())
    }

    /// A block is built and nobody ever hears of it, the engine neither.
    async fn one_forgets(&mut self) -> Asked<()> {
        let at = self.any();
        if let Some(known) = self.build(at, ASKED).await? {
            self.open.remove(&known.id);
            self.tell("forgot", format!("{} by {at}", short(&known)));
        }
        Ok(())
    }

    /// A node with an empty disk joins and gets every block from another.
    ///
    /// # Errors
    /// [`super::Killed`].
    pub async fn join(&mut self) -> Asked<usize> {
        let at = self.nodes.len();
        let mut node = Node::new(node_id(at));
        let peers: Vec<_> = self.nodes.iter().map(|node| node.id).collect();
        node.start(&self.setup, &self.exchange, &peers).await;
        assert_eq!(node.last(), self.decided[0].id, "the same genesis");
        self.nodes.push(node);
        self.bootstrap(at).await?;
        self.operate(at).await?;
        self.tell("joined", format!("as {at}"));
        Ok(at)
    }

    /// Fetches what a node lacks from another: ancestors, all parsed at once, then verified and
    /// accepted in sequence.
    ///
    /// # Errors
    /// [`super::Killed`].
    pub async fn bootstrap(&mut self, at: usize) -> Asked<()> {
        let mut peers = self.running();
        let height = self.nodes[at].height();
        // Whoever took over a later state does not have the blocks before it.
        peers.retain(|peer| {
            let peer_node = &self.nodes[*peer];
            *peer != at && peer_node.height() > height && peer_node.base <= height
        });
        let Some(peer) = self.chance.pick(&peers).copied() else {
            return Ok(());
        };
        self.nodes[at].set_state(State::Bootstrapping).await?;
        let from = self.nodes[at].height();
        let mut missing = Vec::new();
        let mut next = self.nodes[peer].last();
        while missing
            .last()
            .is_none_or(|block: &super::Known| block.header.height > from + 1)
        {
            let bytes = self.nodes[peer]
                .ancestors(next, 64, ANCESTORS_BYTES)
                .await?;
            assert!(!bytes.is_empty(), "a peer has its own blocks");
            let blocks: Vec<_> = bytes.iter().map(super::Known::read).collect();
            assert_eq!(blocks[0].id, next, "newest first");
            self.nodes[at].parse_all(&blocks).await?;
            missing.extend(
                blocks
                    .into_iter()
                    .filter(|block| block.header.height > from),
            );
            let last = missing.last().expect("the peer is ahead");
            next = last.header.parent;
        }
        for block in missing.iter().rev() {
            self.nodes[at].verify(block).await?;
            self.nodes[at].accept(block.id).await?;
        }
        self.tell(
            "bootstrapped",
            format!("{at} from {peer}: {} blocks", missing.len()),
        );
        Ok(())
    }
}
