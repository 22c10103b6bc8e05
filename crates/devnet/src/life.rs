//! Stopping, killing, starting again, joining.

use std::time::Duration;

use crate::api::ChainHead;
use crate::error::DevnetError;
use crate::network::Network;
use crate::port::{self, free_pairs};
use crate::process::{Process, every_one_run_as};
use crate::state::{Mode, NodeState};
use crate::{NODES_MAX, Tell};

/// A node with a chain ends 2 s after SIGTERM, one with a dead plugin after 3 s more.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// A plugin ends with its node: at the latest when it sees that its parent has changed.
const PLUGIN_LIMIT: Duration = Duration::from_secs(8);

/// SIGKILL needs no consent.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It had ended before.
    Before,
    /// When it was asked to.
    Asked,
    /// It did not go in time and was killed.
    Killed,
    /// Not even then.
    Stays,
}

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Which.
    pub number: usize,
    /// Its process.
    pub node: Ending,
    /// Its plugin.
    pub plugin: Ending,
}

impl Network {
    /// Stops every node and its plugin; what does not go in time is killed. Data stays: `up` goes
    /// on with it.
    ///
    /// # Errors
    /// [`DevnetError::File`].
    pub async fn down(&mut self, tell: Tell<'_>) -> Result<Vec<Stopped>, DevnetError> {
        let link = self.layout.plugin_link(self.state.vm);
        let mut all = Vec::new();
        for node in &self.state.nodes {
            let process = node.process.filter(Process::is_alive);
            // A plugin that nobody wrote down, of an `up` that was interrupted, counts as well.
            let mut plugins: Vec<Process> = node.plugin.into_iter().collect();
            plugins.extend(process.iter().flat_map(|node| node.children_run_as(&link)));
            plugins.retain(Process::is_alive);
            plugins.dedup();
            if let Some(process) = process {
                process.terminate();
            }
            all.push((node.number, process, plugins));
        }
        let mut stopped = Vec::new();
        for (number, process, plugins) in all {
            let node = end(process, STOP_LIMIT).await;
            let mut plugin = Ending::Before;
            for process in plugins {
                plugin = end(Some(process), PLUGIN_LIMIT).await;
            }
            if node == Ending::Killed || plugin == Ending::Killed {
                tell(&format!("node {number} did not end in time and was killed"));
            }
            stopped.push(Stopped {
                number,
                node,
                plugin,
            });
        }
        // Left by nodes that were killed from elsewhere.
        for process in every_one_run_as(&link) {
            let _ending = end(Some(process), Duration::ZERO).await;
            tell(&format!(
                "a plugin without a node, process {}, was killed",
                process.pid
            ));
        }
        for node in &mut self.state.nodes {
            node.process = node.process.filter(Process::is_alive);
            node.plugin = node.plugin.filter(Process::is_alive);
        }
        self.save()?;
        Ok(stopped)
    }

    /// Removes a network that was stopped, with all its data; what else is in its directory stays.
    ///
    /// # Errors
    /// [`DevnetError::Running`], [`DevnetError::File`].
    pub fn delete(self) -> Result<(), DevnetError> {
        let (dir, nodes) = (self.layout.dir().to_owned(), self.state.running());
        if nodes > 0 {
            return Err(DevnetError::Running { dir, nodes });
        }
        self.layout.delete(self.state.nodes.len())?;
        let lock = dir.join("lock");
        std::fs::remove_file(&lock).map_err(DevnetError::file(&lock))?;
        let _others = std::fs::remove_dir(&dir);
        Ok(())
    }

    /// Ends a node with SIGKILL, as a crash would, and waits until its plugin has noticed and gone
    /// too. Answers how the plugin ended: [`Ending::Killed`] is an orphan that did not notice.
    ///
    /// # Errors
    /// [`DevnetError::NoNode`], [`DevnetError::NotRunning`].
    pub async fn kill(&mut self, number: usize) -> Result<Ending, DevnetError> {
        let link = self.layout.plugin_link(self.state.vm);
        let node = self.state.node(number)?;
        let process = node.process.filter(Process::is_alive);
        let process = process.ok_or(DevnetError::NotRunning(number))?;
        let mut plugins: Vec<Process> = node.plugin.into_iter().collect();
        plugins.extend(process.children_run_as(&link));
        process.kill();
        process.gone_within(KILL_LIMIT).await;
        let mut ending = Ending::Before;
        for plugin in plugins {
            if plugin.is_alive() {
                ending = end(Some(plugin), PLUGIN_LIMIT).await;
            }
        }
        let node = self.state.node_mut(number)?;
        node.process = node.process.filter(Process::is_alive);
        node.plugin = node.plugin.filter(Process::is_alive);
        self.save()?;
        Ok(ending)
    }

    /// Ends the plugin of a node alone with SIGKILL. The node does not start it again, and may not
    /// even notice.
    ///
    /// # Errors
    /// [`DevnetError::NoNode`], [`DevnetError::NoPluginProcess`].
    pub async fn kill_plugin(&mut self, number: usize) -> Result<(), DevnetError> {
        let node = self.state.node(number)?;
        let plugin = node.plugin.filter(Process::is_alive);
        let plugin = plugin.ok_or(DevnetError::NoPluginProcess(number))?;
        plugin.kill();
        plugin.gone_within(KILL_LIMIT).await;
        Ok(())
    }

    /// Starts a node that has ended, or whose plugin has, and waits until it is level with the
    /// others that run. Answers where.
    ///
    /// # Errors
    /// [`DevnetError::NodeRuns`], and those of waiting.
    pub async fn restart(
        &mut self,
        number: usize,
        tell: Tell<'_>,
    ) -> Result<Option<ChainHead>, DevnetError> {
        let node = self.state.node(number)?;
        if let Some(process) = node.process.filter(Process::is_alive) {
            if node.plugin_runs() {
                return Err(DevnetError::NodeRuns(number));
            }
            // With a dead plugin a node does nothing but hang; what it had accepted is on disk.
            tell(&format!("node {number} has lost its plugin and is ended"));
            process.kill();
            process.gone_within(KILL_LIMIT).await;
        }
        self.start(number)?;
        self.join(number, tell).await
    }

    /// Adds a node that finds everything there already. Answers its number, and where it and the
    /// others are.
    ///
    /// # Errors
    /// [`DevnetError::NotInThisMode`] with sybil protection on, [`DevnetError::NodeCount`], and
    /// those of starting and waiting.
    pub async fn add(&mut self, tell: Tell<'_>) -> Result<(usize, Option<ChainHead>), DevnetError> {
        if self.state.mode == Mode::Faithful {
            return Err(DevnetError::NotInThisMode(
                "a faithful network has its five validators and no others: a node can join one \
                 that was made without --faithful",
            ));
        }
        let asked = self.state.nodes.len().saturating_add(1);
        if asked > NODES_MAX {
            let reason = "a local network has seven at most";
            return Err(DevnetError::NodeCount { asked, reason });
        }
        if self.state.running() == 0 {
            return Err(DevnetError::NotRunning(1));
        }
        let taken = self.state.nodes.iter();
        let taken: Vec<u16> = taken.flat_map(|n| [n.http_port, n.staking_port]).collect();
        let base = taken.iter().min().copied().unwrap_or(port::BASE);
        let pairs = free_pairs(base, 1, &taken)?;
        let mut node = NodeState::new(asked, pairs.first().copied().unwrap_or_default());
        if let Some(chain) = self.state.chain {
            node.serve(chain);
        }
        self.state.nodes.push(node);
        self.start(asked)?;
        Ok((asked, self.join(asked, tell).await?))
    }

    /// From a start to the head of the others.
    async fn join(
        &mut self,
        number: usize,
        tell: Tell<'_>,
    ) -> Result<Option<ChainHead>, DevnetError> {
        self.answers(number).await?;
        tell(&format!("node {number} answers"));
        self.has_chain(number).await?;
        tell(&format!("node {number} has the chain"));
        let others = self
            .state
            .nodes
            .iter()
            .filter(|n| n.runs() && n.plugin_runs());
        let mut numbers = vec![number];
        numbers.extend(
            others
                .map(|node| node.number)
                .filter(|other| *other != number),
        );
        self.level(&numbers, tell).await
    }
}

/// Waits for the end of a process that was asked to end, and kills it after that.
async fn end(process: Option<Process>, limit: Duration) -> Ending {
    let Some(process) = process else {
        return Ending::Before;
    };
    if process.gone_within(limit).await {
        return Ending::Asked;
    }
    process.kill();
    if process.gone_within(KILL_LIMIT).await {
        Ending::Killed
    } else {
        Ending::Stays
    }
}
