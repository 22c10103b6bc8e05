//! Messages between the VMs of one network, under a seeded weather of loss and delay.
//!
//! ```text
//! plugin A ── appsender.AppSender ──▶ Exchange ── lost? late? twice? ──▶ vm.AppGossip … of plugin B
//! ```
//!
//! As on a node: a message above 2 MiB is answered with OK and goes nowhere; a request that is not
//! answered in time becomes `AppRequestFailed`, and an answer after that is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prost::bytes::Bytes;
use session_rpcchainvm::appsender::app_sender_server::{AppSender, AppSenderServer};
use session_rpcchainvm::appsender::{
    SendAppErrorMsg, SendAppGossipMsg, SendAppRequestMsg, SendAppResponseMsg,
};
use session_rpcchainvm::validatorstate::validator_state_server::{
    ValidatorState, ValidatorStateServer,
};
use session_rpcchainvm::validatorstate::{
    GetCurrentValidatorSetRequest, GetCurrentValidatorSetResponse, Validator,
};
use session_rpcchainvm::vm::vm_client::VmClient;
use session_rpcchainvm::vm::{AppGossipMsg, AppRequestFailedMsg, AppRequestMsg, AppResponseMsg};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::chance::Chance;
use crate::serve::{Served, router};

/// A network message's bytes at most; a real node stops a little below.
const MESSAGE_MAX: usize = (2 << 20) - 64;

/// How long a request waits for its answer.
const REQUEST_PATIENCE: Duration = Duration::from_millis(1_500);

/// How long a plugin may take for one message before the node gives it up.
const DELIVERY_PATIENCE: Duration = Duration::from_secs(10);

/// avalanchego's code of a request that timed out.
const TIMED_OUT: i32 = -1;

/// A node's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

impl NodeId {
    /// As the wire has it.
    pub fn bytes(self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }

    fn read(bytes: &[u8]) -> Result<Self, Status> {
        let id = bytes.try_into().map(Self);
        id.map_err(|_| Status::invalid_argument("a node id has 20 bytes"))
    }
}

/// What happens to messages on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Weather {
    /// Of a hundred, how many are lost.
    pub loss: usize,
    /// Of a hundred, how many come twice.
    pub twice: usize,
    /// The longest delay; every message draws its own, so they overtake each other.
    pub delay: Duration,
    /// Whether gossip that is addressed by counts reaches anybody: without sybil protection and
    /// tracked subnets it does not.
    pub counts_reach: bool,
}

impl Weather {
    /// Everything arrives, at once.
    pub const CALM: Self = Self {
        loss: 0,
        twice: 0,
        delay: Duration::ZERO,
        counts_reach: true,
    };
}

/// What kind of message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MessageKind {
    /// Gossip.
    Gossip,
    /// A request.
    Request,
    /// An answer.
    Response,
}

/// One message that a plugin sent to one peer.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    /// When.
    pub at: Instant,
    /// By whom.
    pub from: NodeId,
    /// To whom.
    pub to: NodeId,
    /// What.
    pub kind: MessageKind,
    /// How much.
    pub bytes: usize,
}

struct Wires {
    peers: BTreeMap<NodeId, VmClient<Channel>>,
    weather: Weather,
    chance: Chance,
    open: BTreeSet<(NodeId, NodeId, u32)>,
    sent: Vec<Sent>,
    too_large: u64,
    /// Of so many answers one is true, if any is.
    liars: BTreeMap<NodeId, Option<usize>>,
}

/// The wires of one network. Clones are the same wires.
#[derive(Clone)]
pub struct Exchange {
    wires: Arc<Mutex<Wires>>,
}

impl Exchange {
    /// Wires with this weather.
    pub fn new(weather: Weather, chance: Chance) -> Self {
        let wires = Wires {
            peers: BTreeMap::new(),
            weather,
            chance,
            open: BTreeSet::new(),
            sent: Vec::new(),
            too_large: 0,
            liars: BTreeMap::new(),
        };
        Self {
            wires: Arc::new(Mutex::new(wires)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wires> {
        self.wires.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves a node's plugin its way out.
    pub async fn serve(&self, node: NodeId) -> Served {
        let service = AppSenderServer::new(Outlet {
            exchange: self.clone(),
            node,
        })
        .max_decoding_message_size(usize::MAX);
        let validators = ValidatorStateServer::new(Validators);
        Served::start(router().add_service(service).add_service(validators)).await
    }

    /// From now messages reach this node.
    pub fn attach(&self, node: NodeId, vm: VmClient<Channel>) {
        self.lock().peers.insert(node, vm);
    }

    /// From now they do not.
    pub fn detach(&self, node: NodeId) {
        self.lock().peers.remove(&node);
    }

    /// Nodes that messages reach.
    pub fn attached(&self) -> Vec<NodeId> {
        self.lock().peers.keys().copied().collect()
    }

    /// From now one bit of the answers that this node gives is another, but for one answer in
    /// `truths`, if there are to be any.
    pub fn make_liar(&self, node: NodeId, truths: Option<usize>) {
        self.lock().liars.insert(node, truths);
    }

    /// Changes the weather.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Every message so far, lost ones too.
    pub fn sent(&self) -> Vec<Sent> {
        self.lock().sent.clone()
    }

    /// Messages that were too large to be sent.
    pub fn too_large(&self) -> u64 {
        self.lock().too_large
    }

    /// The most bytes that any node sent to any one peer within a second.
    pub fn worst_second(&self) -> usize {
        let mut pairs: BTreeMap<_, Vec<(Instant, usize)>> = BTreeMap::new();
        for sent in self.sent() {
            let pair = pairs.entry((sent.from, sent.to)).or_default();
            pair.push((sent.at, sent.bytes));
        }
        let worst = pairs.values().map(|messages| {
            let windows = (0..messages.len()).map(|first| {
                let end = messages[first].0 + Duration::from_secs(1);
                let within = messages[first..].iter().take_while(|(at, _)| *at < end);
                within.map(|(_, bytes)| bytes).sum::<usize>()
            });
            windows.max().unwrap_or_default()
        });
        worst.max().unwrap_or_default()
    }

    /// Takes a message and lets the weather decide.
    fn send(&self, from: NodeId, to: NodeId, message: Message) {
        let mut wires = self.lock();
        let bytes = message.len();
        if bytes > MESSAGE_MAX {
            wires.too_large += 1;
            return;
        }
        let sent = Sent {
            at: Instant::now(),
            from,
            to,
            kind: message.kind(),
            bytes,
        };
        wires.sent.push(sent);
        let weather = wires.weather;
        let lies = match wires.liars.get(&from).copied() {
            Some(Some(truths)) => !wires.chance.one_in(truths),
            Some(None) => true,
            None => false,
        };
        let mut message = message;
        if let Message::Response(_, response) = &mut message
            && lies
            && response.len() > 1
        {
            let mut bent = response.to_vec();
            let at = 1 + wires.chance.below(bent.len() - 1);
            bent[at] ^= 1 << wires.chance.below(8);
            *response = bent.into();
        }
        if wires.chance.below(100) < weather.loss {
            return;
        }
        let copies = 1 + usize::from(wires.chance.below(100) < weather.twice);
        for _ in 0..copies {
            let longest = usize::try_from(weather.delay.as_micros()).unwrap_or(usize::MAX - 1);
            let delay = wires.chance.below(longest + 1) as u64;
            let delivery = self.clone().deliver(from, to, message.clone(), delay);
            tokio::spawn(delivery);
        }
    }

    async fn deliver(self, from: NodeId, to: NodeId, message: Message, delay_us: u64) {
        tokio::time::sleep(Duration::from_micros(delay_us)).await;
        let node_id = from.bytes();
        let Some(mut vm) = self.lock().peers.get(&to).cloned() else {
            return;
        };
        let delivery = async {
            match message {
                Message::Gossip(msg) => vm.app_gossip(AppGossipMsg { node_id, msg }).await,
                Message::Request(request_id, request) => {
                    let deadline = Some((SystemTime::now() + REQUEST_PATIENCE).into());
                    let request = AppRequestMsg {
                        node_id,
                        request_id,
                        deadline,
                        request,
                    };
                    vm.app_request(request).await
                }
                Message::Response(request_id, response) => {
                    if !self.lock().open.remove(&(to, from, request_id)) {
                        return;
                    }
                    let response = AppResponseMsg {
                        node_id,
                        request_id,
                        response,
                    };
                    vm.app_response(response).await
                }
                Message::Error(request_id, error_code, error_message) => {
                    if !self.lock().open.remove(&(to, from, request_id)) {
                        return;
                    }
                    let failed = AppRequestFailedMsg {
                        node_id,
                        request_id,
                        error_code,
                        error_message,
                    };
                    vm.app_request_failed(failed).await
                }
            }
            // A plugin that is gone hears nothing.
            .ok();
        };
        let _late = tokio::time::timeout(DELIVERY_PATIENCE, delivery).await;
    }

    /// A request: its answer is awaited from now on.
    fn ask(&self, from: NodeId, to: NodeId, request_id: u32, request: Bytes) {
        self.lock().open.insert((from, to, request_id));
        self.send(from, to, Message::Request(request_id, request));
        let exchange = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(REQUEST_PATIENCE).await;
            let failed = Message::Error(request_id, TIMED_OUT, "timed out".to_owned());
            exchange.deliver(to, from, failed, 0).await;
        });
    }
}

/// Who validates these networks: somebody does.
struct Validators;

#[tonic::async_trait]
impl ValidatorState for Validators {
    async fn get_current_validator_set(
        &self,
        _: Request<GetCurrentValidatorSetRequest>,
    ) -> Result<Response<GetCurrentValidatorSetResponse>, Status> {
        Ok(Response::new(GetCurrentValidatorSetResponse {
            validators: vec![Validator {
                node_id: NodeId([7; 20]).bytes(),
                weight: 1,
            }],
            current_height: 1,
        }))
    }
}

#[derive(Clone)]
enum Message {
    Gossip(Bytes),
    Request(u32, Bytes),
    Response(u32, Bytes),
    Error(u32, i32, String),
}

impl Message {
    fn len(&self) -> usize {
        match self {
            Self::Gossip(bytes) | Self::Request(_, bytes) | Self::Response(_, bytes) => bytes.len(),
            Self::Error(_, _, text) => text.len(),
        }
    }

    const fn kind(&self) -> MessageKind {
        match self {
            Self::Gossip(_) => MessageKind::Gossip,
            Self::Request(..) => MessageKind::Request,
            Self::Response(..) | Self::Error(..) => MessageKind::Response,
        }
    }
}

/// One node's way out.
struct Outlet {
    exchange: Exchange,
    node: NodeId,
}

impl Outlet {
    /// Named nodes, and as many others as are asked for.
    fn receivers(&self, message: &SendAppGossipMsg) -> Result<BTreeSet<NodeId>, Status> {
        let mut to = BTreeSet::new();
        for id in &message.node_ids {
            to.insert(NodeId::read(id)?);
        }
        let mut others = self.exchange.attached();
        let mut wires = self.exchange.lock();
        if wires.weather.counts_reach {
            wires.chance.shuffle(&mut others);
            // Every node of these networks is a validator.
            let count = message.validators.saturating_add(message.peers);
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            others.retain(|id| *id != self.node);
            to.extend(others.into_iter().take(count));
        }
        to.remove(&self.node);
        Ok(to)
    }
}

#[tonic::async_trait]
impl AppSender for Outlet {
    async fn send_app_request(
        &self,
        request: Request<SendAppRequestMsg>,
    ) -> Result<Response<()>, Status> {
        let message = request.into_inner();
        for to in &message.node_ids {
            let to = NodeId::read(to)?;
            let request = message.request.clone();
            self.exchange
                .ask(self.node, to, message.request_id, request);
        }
        Ok(Response::new(()))
    }

    async fn send_app_response(
        &self,
        request: Request<SendAppResponseMsg>,
    ) -> Result<Response<()>, Status> {
        let message = request.into_inner();
        let answer = Message::Response(message.request_id, message.response);
        let to = NodeId::read(&message.node_id)?;
        self.exchange.send(self.node, to, answer);
        Ok(Response::new(()))
    }

    async fn send_app_error(
        &self,
        request: Request<SendAppErrorMsg>,
    ) -> Result<Response<()>, Status> {
        let message = request.into_inner();
        let (id, code) = (message.request_id, message.error_code);
        let to = NodeId::read(&message.node_id)?;
        let answer = Message::Error(id, code, message.error_message);
        self.exchange.send(self.node, to, answer);
        Ok(Response::new(()))
    }

    async fn send_app_gossip(
        &self,
        request: Request<SendAppGossipMsg>,
    ) -> Result<Response<()>, Status> {
        let message = request.into_inner();
        for to in self.receivers(&message)? {
            let gossip = Message::Gossip(message.msg.clone());
            self.exchange.send(self.node, to, gossip);
        }
        Ok(Response::new(()))
    }
}
