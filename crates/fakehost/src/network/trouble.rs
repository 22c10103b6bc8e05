//! A schedule's steps when things break: plugins killed at any moment, and what comes after.

use std::time::Duration;

use super::{Asked, Killed, Network};
use crate::database::Fault;
use crate::plugin::kill;

impl Network {
    /// Kills the plugin of one node in some way, and starts the node again.
    pub async fn kill_one(&mut self) {
        let at = self.any();
        match self.chance.below(9) {
            0 => self.tell("killed", format!("{at} between calls")),
            1 => self.kill_between_indexes(at).await,
            2..=3 => self.kill_at_write(at, Fault::KillBefore).await,
            4..=6 => self.kill_at_write(at, Fault::KillAfter).await,
            7 => self.kill_while_it_builds(at).await,
            _ => self.kill_while_it_verifies(at).await,
        }
        self.nodes[at].kill(&self.exchange).await;
        let id = self.nodes[at].id;
        for peer in self.running() {
            let told = self.nodes[peer].disconnected(id).await;
            told.expect("nothing was planned");
        }
        self.mend(at).await;
    }

    /// Starts the node again on its disk; it catches up at once, or later in normal operation.
    pub async fn mend(&mut self, at: usize) {
        let id = self.nodes[at].id;
        let peers = self.running().into_iter().map(|peer| self.nodes[peer].id);
        let peers: Vec<_> = peers.filter(|peer| *peer != id).collect();
        let before = self.nodes[at].height();
        self.nodes[at]
            .start(&self.setup, &self.exchange, &peers)
            .await;
        if self.nodes[at].height() < before {
            self.tell("outer ahead", format!("of {at} at {before}"));
        }
        let began = async {
            if self.chance.one_in(2) {
                self.bootstrap(at).await?;
            }
            self.operate(at).await?;
            for peer in self.running() {
                if peer != at {
                    self.nodes[peer].connected(id).await?;
                }
            }
            Asked::Ok(())
        };
        began.await.expect("nothing was planned");
        self.tell("restarted", format!("{at} at {}", self.nodes[at].height()));
    }

    /// The outer index is written, and the plugin never hears of it.
    async fn kill_between_indexes(&mut self, at: usize) {
        self.fall_behind(at).await.expect("nothing was planned");
        let height = self.nodes[at].height() as usize;
        if let Some(next) = self.decided.get(height + 1).cloned() {
            self.issue(at, &next).await.expect("nothing was planned");
            self.nodes[at].accept_outer(next.id);
            self.tell("killed", format!("{at} between the two indexes"));
        }
    }

    /// Sees to it that the node has one more block to accept, if there is anything to build.
    async fn fall_behind(&mut self, at: usize) -> Asked<()> {
        if self.nodes[at].height() < self.height() {
            return Ok(());
        }
        if self.candidates().is_empty() {
            let tx = self.people.join(&mut self.chance);
            self.submit_to(at, &tx);
            let last = self.nodes[at].last();
            self.nodes[at].prefer(last).await?;
            self.build(at, Duration::from_secs(2)).await?;
        }
        if let Some(next) = self.candidates().first().cloned() {
            self.decide(&next);
        }
        Ok(())
    }

    /// The plugin dies at one of the next writes, whichever call that is in.
    async fn kill_at_write(&mut self, at: usize, fault: Fault) {
        self.fall_behind(at).await.expect("nothing was planned");
        let behind = self.height() - self.nodes[at].height();
        let k = self.chance.below(behind.max(1) as usize) as u64;
        self.nodes[at].life_mut().doomed = true;
        self.nodes[at].database.at_write(k, fault);
        let before = self.nodes[at].database.struck();
        let worked = self.advance(at, self.height()).await;
        let struck = self.nodes[at].database.struck() > before;
        assert!(struck || worked.is_ok(), "killed by nobody");
        if struck {
            let what = if fault == Fault::KillBefore {
                "killed before a write"
            } else {
                "killed after a write"
            };
            self.tell("killed", format!("{at} at write {k}: {fault:?}"));
            self.tell(what, format!("{at}"));
        }
    }

    async fn kill_while_it_builds(&mut self, at: usize) {
        let (pid, delay) = self.doom(at);
        let node = &self.nodes[at];
        let killed = async {
            tokio::time::sleep(delay).await;
            kill(pid);
        };
        let building = async {
            if !node.wants(Duration::from_millis(20)).await? {
                return Ok(None);
            }
            node.build().await.map(Some)
        };
        let (built, ()) = tokio::join!(building, killed);
        if let Ok(Some(Ok(known))) = built {
            // The engine has it, and may even have sent it to others.
            self.met(&known);
        }
        self.tell("killed", format!("{at} while it builds"));
    }

    async fn kill_while_it_verifies(&mut self, at: usize) {
        let (pid, delay) = self.doom(at);
        let killer = tokio::spawn(async move {
            tokio::time::sleep(delay).await;
            kill(pid);
        });
        let open: Vec<_> = self.open.values().cloned().collect();
        for known in open {
            if let Err(Killed) = self.issue(at, &known).await {
                break;
            }
        }
        let height = self.height();
        let _killed = self.advance(at, height).await;
        let _killed = killer.await;
        self.tell("killed", format!("{at} while it verifies"));
    }

    fn doom(&mut self, at: usize) -> (crate::plugin::Pid, Duration) {
        let life = self.nodes[at].life_mut();
        life.doomed = true;
        let pid = life.plugin.pid();
        let delay = Duration::from_micros(self.chance.below(20_000) as u64);
        (pid, delay)
    }
}
