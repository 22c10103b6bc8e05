//! A node with an empty disk that is given the state of a recent block instead of all of them.

use std::time::Duration;

use prost::bytes::Bytes;
use session_core::hash::sha256;
use session_rpcchainvm::vm::state_summary_accept_response::Mode;
use session_rpcchainvm::vm::{
    Error, GetStateSummaryRequest, Message, ParseStateSummaryRequest, State,
    StateSummaryAcceptRequest,
};

use super::node::{Asked, Killed, Node};
use super::{Network, node_id};
use crate::database::Fault;

/// How long taking over a state may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// A summary as nodes hand it around.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Height of its block.
    pub height: u64,
    /// Its bytes.
    pub bytes: Bytes,
}

impl Node {
    /// The newest state that the plugin offers.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn last_state(&self) -> Asked<Option<Offered>> {
        let mut vm = self.life().plugin.vm();
        let call = vm.get_last_state_summary(());
        let got = self.ask("GetLastStateSummary", call).await?;
        Ok(offered(got.err, got.height, got.bytes, &got.id))
    }

    /// The state that was being taken over when the plugin ended last.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn ongoing_state(&self) -> Asked<Option<Offered>> {
        let mut vm = self.life().plugin.vm();
        let call = vm.get_ongoing_sync_state_summary(());
        let got = self.ask("GetOngoingSyncStateSummary", call).await?;
        Ok(offered(got.err, got.height, got.bytes, &got.id))
    }

    /// The state of a height.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn state_at(&self, height: u64) -> Asked<Option<Offered>> {
        let mut vm = self.life().plugin.vm();
        let call = vm.get_state_summary(GetStateSummaryRequest { height });
        let got = self.ask("GetStateSummary", call).await?;
        Ok(offered(got.err, height, got.bytes, &got.id))
    }

    /// Parses a summary of others, and has its state taken over; false when the plugin would
    /// rather have the blocks.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn accept_state(&self, state: &Offered) -> Asked<bool> {
        let mut vm = self.life().plugin.vm();
        let bytes = state.bytes.clone();
        let call = vm.parse_state_summary(ParseStateSummaryRequest { bytes });
        let parsed = self.ask("ParseStateSummary", call).await?;
        assert_eq!(parsed.height, state.height);
        assert_eq!(parsed.id, sha256(&state.bytes).to_vec());
        let bytes = state.bytes.clone();
        let call = vm.state_summary_accept(StateSummaryAcceptRequest { bytes });
        match self.ask("StateSummaryAccept", call).await?.mode() {
            Mode::Skipped => Ok(false),
            Mode::Static => Ok(true),
            mode @ (Mode::Dynamic | Mode::Unspecified) => panic!("mode {mode:?}"),
        }
    }

    /// Waits until the plugin says that it has taken the state over, or given up.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn state_taken(&self) -> Asked<()> {
        let mut vm = self.life().plugin.vm();
        let call = async {
            let event = tokio::time::timeout(PATIENCE, vm.wait_for_event(())).await;
            event.unwrap_or_else(|_| panic!("the state was not taken over in {PATIENCE:?}"))
        };
        let event = self.ask_long("WaitForEvent", call).await?;
        let finished: i32 = Message::StateSyncFinished.into();
        assert_eq!(event.message, finished, "nothing is built meanwhile");
        Ok(())
    }
}

fn offered(err: i32, height: u64, bytes: Bytes, id: &[u8]) -> Option<Offered> {
    if err == i32::from(Error::NotFound) {
        return None;
    }
    assert_eq!(err, 0, "a summary");
    assert_eq!(id, sha256(&bytes), "the id of a summary");
    Some(Offered { height, bytes })
}

impl Network {
    /// The newest state that nodes offer: those that offer one of that height offer the same.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn best_state(&mut self) -> Asked<Option<Offered>> {
        let mut best: Option<Offered> = None;
        for at in self.running() {
            let last = self.nodes[at].last_state().await?;
            let newer = |last: &Offered| best.as_ref().is_none_or(|best| best.height < last.height);
            if last.as_ref().is_some_and(newer) {
                best = last;
            }
        }
        if let Some(best) = &best {
            for at in self.running() {
                if let Some(same) = self.nodes[at].state_at(best.height).await? {
                    assert_eq!(&same, best, "node {at} offers another state");
                }
            }
        }
        Ok(best)
    }

    /// A node with an empty disk joins, takes over the newest state that is offered, and gets the
    /// blocks after it. Its plugin is killed at one of its writes this many times.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn join_by_state(&mut self, kills: usize) -> Asked<Option<usize>> {
        let Some(state) = self.best_state().await? else {
            return Ok(None);
        };
        self.join_killed(&state, kills).await.map(Some)
    }

    /// A node with an empty disk joins and is to take over this state.
    ///
    /// # Errors
    /// [`Killed`].
    pub async fn join_with(&mut self, state: &Offered) -> Asked<usize> {
        self.join_killed(state, 0).await
    }

    async fn join_killed(&mut self, state: &Offered, kills: usize) -> Asked<usize> {
        let at = self.nodes.len();
        let mut node = Node::new(node_id(at));
        let peers: Vec<_> = self.running().iter().map(|at| self.nodes[*at].id).collect();
        for kill in 0.. {
            node.start_syncing(&self.setup, &self.exchange, &peers)
                .await;
            if node.height() == state.height {
                // It was killed after the last write.
                node.set_state(State::Bootstrapping).await?;
                break;
            }
            let ongoing = node.ongoing_state().await?;
            assert!(
                ongoing.is_none_or(|ongoing| ongoing == *state),
                "another state"
            );
            if kill < kills {
                node.life_mut().doomed = true;
                let fault = [Fault::KillBefore, Fault::KillAfter][self.chance.below(2)];
                node.database.at_write(self.chance.below(12) as u64, fault);
            }
            match Self::take_over(&mut node, state, &self.decided).await {
                Ok(taken) => {
                    let what = if taken {
                        "state taken"
                    } else {
                        "state given up"
                    };
                    self.tell(what, format!("of {} by {at}", state.height));
                    node.database.heal();
                    break;
                }
                Err(Killed) => {
                    self.tell("killed while it takes a state", format!("{at}"));
                    node.kill(&self.exchange).await;
                    // What the last write left behind decides where it goes on.
                    node.outer_may_be(&self.decided, state.height);
                }
            }
        }
        node.life_mut().doomed = false;
        self.nodes.push(node);
        self.bootstrap(at).await?;
        self.operate(at).await?;
        Ok(at)
    }

    /// Answers whether it was taken over; if not, the node is where it was.
    async fn take_over(node: &mut Node, state: &Offered, decided: &[super::Known]) -> Asked<bool> {
        assert!(node.accept_state(state).await?, "far behind, and skipped");
        node.state_taken().await?;
        let taken = node.has_head(decided[state.height as usize].id).await?;
        if taken {
            node.take_outer(decided, state.height);
        }
        node.set_state(State::Bootstrapping).await?;
        Ok(taken)
    }
}
