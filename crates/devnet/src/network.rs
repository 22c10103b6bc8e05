//! Bringing a network up: nodes, subnet, chain, equal heads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::api::{ChainHead, NodeApi};
use crate::binary::is_program;
use crate::error::DevnetError;
use crate::ids::Id;
use crate::launch::{self, Layout, Peer};
use crate::logs::{Explanation, Logs, Mark};
use crate::options::{UpOptions, again, anew};
use crate::platform::Platform;
use crate::process::{Process, boot_id, every_one_run_as};
use crate::staking;
use crate::state::{Claim, Mode, NetworkState, Speaks};
use crate::tx::Kind;
use crate::{FIRST_SUBNET, Tell};

/// A node answers half a second after its start on an idle machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Connected and bootstrapped: a second, and six on five validators.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// From a chain's transaction to the chain on every node, or from a restart to the head: seconds,
/// unless there is much to catch up.
const CHAIN_LIMIT: Duration = Duration::from_secs(180);

/// How often a node is asked.
const LOOK: Duration = Duration::from_millis(50);

/// Weight of each of the subnet's validators.
const WEIGHT: u64 = 100;

/// The chain's name on the P-chain.
const NAME: &str = "sessionvm";

/// A network, and the right to change it.
#[derive(Debug)]
pub struct Network {
    pub(crate) layout: Layout,
    pub(crate) state: NetworkState,
    /// What stood in the logs when nodes were started.
    marks: BTreeMap<usize, Mark>,
    _claim: Claim,
}

/// Ends what was started, unless it all went well.
struct Undo {
    nodes: Vec<Process>,
    plugin: PathBuf,
    armed: bool,
}

impl Drop for Undo {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let plugins = every_one_run_as(&self.plugin);
        let all = || self.nodes.iter().chain(&plugins);
        all().for_each(Process::kill);
        // SIGKILL takes no time worth waiting for asynchronously, and this may be the last thing
        // that the program does.
        let until = std::time::Instant::now() + Duration::from_secs(5);
        while all().any(Process::is_alive) && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Network {
    /// Starts a network in `dir`, or goes on with the one that was stopped there. When this
    /// returns, every node answers, has the chain, and is at the same height as the others.
    ///
    /// # Errors
    /// [`DevnetError`]; nothing that was started runs on then, and the logs stay.
    pub async fn up(dir: &Path, options: &UpOptions, tell: Tell<'_>) -> Result<Self, DevnetError> {
        if boot_id().is_empty() {
            return Err(DevnetError::NoProc);
        }
        if !is_program(&options.plugin) {
            return Err(DevnetError::NoPlugin(options.plugin.clone()));
        }
        // Nodes run in directories of their own.
        let dir = &std::path::absolute(dir).map_err(DevnetError::file(dir))?;
        let claim = Claim::take(dir)?;
        let layout = Layout::new(dir);
        let kept = match NetworkState::load(dir)? {
            Some(state) if state.running() > 0 => {
                let (dir, nodes) = (dir.clone(), state.running());
                return Err(DevnetError::Running { dir, nodes });
            }
            // It never came to a chain: nothing of it is worth keeping.
            Some(state) if state.chain.is_none() => {
                layout.delete(state.nodes.len())?;
                None
            }
            kept => kept,
        };
        let state = match kept {
            Some(kept) => again(kept, options, &layout)?,
            None => anew(options, &layout)?,
        };
        layout.prepare(state.vm, &state.plugin)?;
        let mut network = Self {
            layout,
            state,
            marks: BTreeMap::new(),
            _claim: claim,
        };
        let mut undo = Undo {
            nodes: Vec::new(),
            plugin: network.layout.plugin_link(network.state.vm),
            armed: true,
        };
        network.bring_up(options, &mut undo, tell).await?;
        undo.armed = false;
        Ok(network)
    }

    /// The network in `dir`, to be changed.
    ///
    /// # Errors
    /// [`DevnetError::NoNetwork`], [`DevnetError::Busy`], [`DevnetError::Damaged`].
    pub fn open(dir: &Path) -> Result<Self, DevnetError> {
        let dir = &std::path::absolute(dir).map_err(DevnetError::file(dir))?;
        if NetworkState::load(dir)?.is_none() {
            return Err(DevnetError::NoNetwork(dir.clone()));
        }
        let claim = Claim::take(dir)?;
        let state = NetworkState::load(dir)?;
        Ok(Self {
            layout: Layout::new(dir),
            state: state.ok_or_else(|| DevnetError::NoNetwork(dir.clone()))?,
            marks: BTreeMap::new(),
            _claim: claim,
        })
    }

    /// What is in the state file.
    pub const fn state(&self) -> &NetworkState {
        &self.state
    }

    /// Where its files lie.
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    async fn bring_up(
        &mut self,
        options: &UpOptions,
        undo: &mut Undo,
        tell: Tell<'_>,
    ) -> Result<(), DevnetError> {
        let numbers: Vec<usize> = self.state.nodes.iter().map(|node| node.number).collect();
        let fast = self.state.fast_network;
        if let Some(chain) = self.state.chain {
            self.layout.configure(chain, fast)?;
        }
        self.start_all(&numbers, options, undo, tell).await?;
        if self.state.chain.is_none() {
            let path = self.layout.genesis();
            let genesis = std::fs::read(&path).map_err(DevnetError::file(&path))?;
            let chain = self.make_chain(&genesis, tell).await?;
            if fast {
                self.layout.configure(chain, fast)?;
                for number in &numbers {
                    self.has_chain(*number).await?;
                }
                tell("starting the nodes again: what a chain is told they read at their start");
                self.down(tell).await?;
                self.start_all(&numbers, options, undo, tell).await?;
            }
        }
        for number in &numbers {
            self.has_chain(*number).await?;
        }
        self.level(&numbers, tell).await?;
        Ok(())
    }

    /// Starts all nodes, and waits until they are connected.
    async fn start_all(
        &mut self,
        numbers: &[usize],
        options: &UpOptions,
        undo: &mut Undo,
        tell: Tell<'_>,
    ) -> Result<(), DevnetError> {
        for number in numbers {
            if self.state.mode == Mode::Faithful && self.state.chain.is_none() {
                let dir = self.layout.node(*number);
                staking::install_keys(&options.binary, *number, &dir, tell).await?;
            }
            undo.nodes.push(self.start(*number)?);
            // Those that follow must know its id, which a new node makes up itself.
            if *number == 1 || self.state.node(*number)?.node_id.is_none() {
                self.answers(*number).await?;
                self.plugin_loaded(*number)?;
                let port = self.state.node(*number)?.http_port;
                tell(&format!("node {number} answers on 127.0.0.1:{port}"));
            }
        }
        self.connected(numbers).await?;
        if numbers.len() > 1 {
            tell(&format!("{} nodes are connected", numbers.len()));
        }
        Ok(())
    }

    /// Starts a node and writes its process down at once.
    pub(crate) fn start(&mut self, number: usize) -> Result<Process, DevnetError> {
        let others = self.state.nodes.iter().filter(|node| node.number != number);
        let others = others.filter(|node| node.runs());
        let peers = others.filter_map(|node| Some((node.staking_port, node.node_id?)));
        let peers: Vec<Peer> = peers.collect();
        let mark = self.logs(number).mark();
        let node = self.state.node(number)?;
        let process = launch::start(&self.layout, &self.state, node, &peers)?;
        self.marks.insert(number, mark);
        let node = self.state.node_mut(number)?;
        (node.process, node.plugin) = (Some(process), None);
        self.save()?;
        Ok(process)
    }

    pub(crate) fn save(&self) -> Result<(), DevnetError> {
        self.state.save(self.layout.dir())
    }

    /// The logs of a node.
    pub fn logs(&self, number: usize) -> Logs {
        Logs::of(&self.layout.node(number), self.state.chain)
    }

    /// Where its logs ended when it was started by this one.
    fn mark(&self, number: usize) -> Mark {
        self.marks.get(&number).cloned().unwrap_or_default()
    }

    /// A node's API.
    ///
    /// # Errors
    /// [`DevnetError::NoNode`], [`DevnetError::Api`].
    pub fn api(&self, number: usize) -> Result<NodeApi, DevnetError> {
        NodeApi::new(self.state.node(number)?.http_port, self.state.chain)
    }

    /// Waits until a node answers, and writes its id down.
    pub(crate) async fn answers(&mut self, number: usize) -> Result<(), DevnetError> {
        let api = self.api(number)?;
        let ask = async || api.node_id().await.map(Some);
        let id = self
            .until(number, "its API answers", ANSWER_LIMIT, ask)
            .await?;
        self.state.node_mut(number)?.node_id = Some(id);
        self.save()
    }

    /// A node whose plugin did not answer at its start lives on without the VM.
    fn plugin_loaded(&self, node: usize) -> Result<(), DevnetError> {
        let refused = |line: &str| line.contains("failed to register VM");
        match self.logs(node).find(&self.mark(node), refused) {
            Some(why) => Err(DevnetError::NoChain { node, why }),
            None => Ok(()),
        }
    }

    /// Waits until every node has the P-chain and is connected to all others.
    async fn connected(&mut self, numbers: &[usize]) -> Result<(), DevnetError> {
        for number in numbers {
            self.answers(*number).await?;
            let api = self.api(*number)?;
            let others = numbers.len().saturating_sub(1);
            let ask = async || {
                let ready = api.is_bootstrapped("P").await? && api.peers().await? >= others;
                Ok(ready.then_some(()))
            };
            let what = "it is connected and has the P-chain";
            self.until(*number, what, READY_LIMIT, ask).await?;
        }
        Ok(())
    }

    /// Subnet, its validators where they count, chain.
    async fn make_chain(&mut self, genesis: &[u8], tell: Tell<'_>) -> Result<Id, DevnetError> {
        let api = self.api(1)?;
        let platform = Platform::new(&api);
        let subnet = platform.take("CreateSubnet", Kind::CreateSubnet).await?;
        tell(&format!("subnet {subnet}"));
        if subnet.to_string() != FIRST_SUBNET {
            // Nodes track another one, and gossip would reach nobody.
            return Err(DevnetError::NotTaken {
                what: "CreateSubnet",
                id: subnet,
                problem: format!("a first subnet is {FIRST_SUBNET}: this host has another genesis"),
            });
        }
        self.state.subnet = Some(subnet);
        self.save()?;
        if self.state.mode == Mode::Faithful {
            for (done, node) in (1..).zip(&self.state.nodes) {
                let Some(id) = node.node_id else { continue };
                let kind = Kind::AddSubnetValidator {
                    subnet,
                    node: id,
                    start: 0,
                    end: platform.validates_until(id).await?,
                    weight: WEIGHT,
                };
                platform.take("AddSubnetValidator", kind).await?;
                tell(&format!(
                    "validator {done} of {}: {id}",
                    self.state.nodes.len()
                ));
            }
        }
        let kind = Kind::CreateChain {
            subnet,
            name: NAME,
            vm: self.state.vm,
            genesis,
        };
        let chain = platform.take("CreateChain", kind).await?;
        tell(&format!("chain {chain}"));
        self.state.chain = Some(chain);
        for node in &mut self.state.nodes {
            node.serve(chain);
        }
        self.save()?;
        Ok(chain)
    }

    /// Waits until a node runs the chain, and writes plugin and head key down.
    pub(crate) async fn has_chain(&mut self, number: usize) -> Result<(), DevnetError> {
        let Some(chain) = self.state.chain.map(|chain| chain.to_string()) else {
            return Ok(());
        };
        let api = self.api(number)?;
        let (logs, mark) = (self.logs(number), self.mark(number));
        // It tries once and lives on without the chain, so there is nothing to wait for.
        let gave_up = |line: &str| line.contains("error creating chain") && line.contains(&chain);
        let ask = async || match api.is_bootstrapped(&chain).await {
            Ok(true) => Ok(Some(Explanation::default())),
            answer => match logs.find(&mark, gave_up) {
                Some(why) => Ok(Some(why)),
                None => answer.map(|_| None),
            },
        };
        let why = self
            .until(number, "it has the chain", CHAIN_LIMIT, ask)
            .await?;
        if why.line().is_some() {
            return Err(DevnetError::NoChain { node: number, why });
        }
        let link = self.layout.plugin_link(self.state.vm);
        let process = self.state.node(number)?.process;
        let plugins = process.map(|node| node.children_run_as(&link));
        let plugin = plugins
            .into_iter()
            .flatten()
            .max_by_key(|plugin| plugin.started);
        let head_key = match self.state.speaks {
            Speaks::SessionVm => {
                let ask = async || api.head().await.map(Some);
                let head = self
                    .until(number, "its plugin answers", CHAIN_LIMIT, ask)
                    .await?;
                Some(head.head_key)
            }
            Speaks::Other => None,
        };
        let node = self.state.node_mut(number)?;
        (node.plugin, node.head_key) = (plugin, head_key);
        self.save()
    }

    /// Waits until these nodes are at the same block; answers it. Bootstrapped alone does not mean
    /// that: a late joiner says so at height 0.
    ///
    /// # Errors
    /// [`DevnetError::TooLate`] after 180 s, [`DevnetError::Ended`].
    pub async fn level(
        &self,
        numbers: &[usize],
        tell: Tell<'_>,
    ) -> Result<Option<ChainHead>, DevnetError> {
        let Some(first) = numbers
            .first()
            .filter(|_| self.state.speaks == Speaks::SessionVm)
        else {
            return Ok(None);
        };
        let apis = numbers.iter().map(|number| self.api(*number));
        let apis = apis.collect::<Result<Vec<_>, _>>()?;
        let ask = async || {
            // At once: where messages flow, a head that was asked for later is another one.
            let mut asked = JoinSet::new();
            for api in apis.clone() {
                asked.spawn(async move { api.head().await });
            }
            let heads = asked.join_all().await.into_iter();
            let heads = heads.collect::<Result<Vec<ChainHead>, _>>()?;
            let same = |head: &ChainHead| {
                let place = |head: &ChainHead| (head.height, head.block.clone());
                heads
                    .first()
                    .is_some_and(|first| place(first) == place(head))
            };
            Ok(heads
                .iter()
                .all(same)
                .then(|| heads.first().cloned())
                .flatten())
        };
        let head = self
            .until(*first, "all nodes are at the same block", CHAIN_LIMIT, ask)
            .await?;
        if numbers.len() > 1 {
            tell(&format!(
                "all {} nodes are at height {}",
                numbers.len(),
                head.height
            ));
        }
        Ok(Some(head))
    }

    /// Asks until there is an answer, the node has ended, or the time is over.
    pub(crate) async fn until<T>(
        &self,
        number: usize,
        what: &str,
        limit: Duration,
        mut ask: impl AsyncFnMut() -> Result<Option<T>, DevnetError>,
    ) -> Result<T, DevnetError> {
        let why = || self.logs(number).explain(&self.mark(number));
        let until = Instant::now() + limit;
        loop {
            let last = match ask().await {
                Ok(Some(answer)) => return Ok(answer),
                Ok(None) => "not yet".to_owned(),
                Err(error) => error.to_string(),
            };
            let (node, what) = (number, what.to_owned());
            if !self.state.node(number)?.runs() {
                let why = why();
                return Err(DevnetError::Ended { node, what, why });
            }
            if Instant::now() >= until {
                return Err(DevnetError::TooLate {
                    node,
                    what,
                    seconds: limit.as_secs(),
                    last,
                    why: why(),
                });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
