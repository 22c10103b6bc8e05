//! `vm.VM`: what the node asks of its plugin.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prost::bytes::Bytes;
use prost_types::Timestamp;
use session_core::header::Header;
use session_core::ids::BlockId;
use session_core::time::Time;
use session_rpcchainvm::io::prometheus::client::{
    Counter, Gauge, Metric, MetricFamily, MetricType,
};
use session_rpcchainvm::vm::state_summary_accept_response::Mode;
use session_rpcchainvm::vm::vm_server::Vm;
use session_rpcchainvm::vm::*;
use tonic::{Request, Response, Status};

use super::start::Running;
use crate::host::consensus::{BlockFacts, Consensus, ConsensusError, Phase};
use crate::host::life::Life;
use crate::host::paths::PATHS;
use crate::host::process::{self, CallError};
use crate::host::start::{STOP_TIMEOUT, Starter};
use crate::host::sync::SummaryFacts;
use crate::metrics::Kind;

/// The plugin as the node sees it. Nothing runs before `Initialize`.
pub(super) struct Plugin {
    pub(super) starter: Starter,
    pub(super) running: Arc<OnceLock<Running>>,
    pub(super) life: Life,
    /// Where this very server listens: HTTP is served beside it.
    pub(super) address: String,
}

type Reply<T> = Result<Response<T>, Status>;

fn reply<T>(message: T) -> Reply<T> {
    Ok(Response::new(message))
}

fn timestamp(time: Time) -> Timestamp {
    let ms = time.ms();
    Timestamp {
        seconds: i64::try_from(ms / 1_000).unwrap_or(i64::MAX),
        // Below a thousand million.
        nanos: i32::try_from(ms % 1_000 * 1_000_000).unwrap_or_default(),
    }
}

fn bytes(id: &BlockId) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

fn block_id(given: &[u8]) -> Result<BlockId, Status> {
    let id: [u8; 32] = given.try_into().map_err(|_| {
        Status::invalid_argument(format!("a block id has 32 bytes, got {}", given.len()))
    })?;
    Ok(BlockId::from_bytes(id))
}

fn status(error: &ConsensusError) -> Status {
    let message = error.to_string();
    match error {
        ConsensusError::Undecodable(_) | ConsensusError::Invalid(_) => {
            Status::invalid_argument(message)
        }
        ConsensusError::NothingToBuild | ConsensusError::Decision(_) => {
            Status::failed_precondition(message)
        }
        ConsensusError::NotBuilding(_) => Status::unavailable(message),
        ConsensusError::Upgrade(_) => Status::unimplemented(message),
        ConsensusError::View(_) | ConsensusError::NotWritten { .. } => Status::internal(message),
    }
}

impl Plugin {
    fn running(&self) -> Result<&Running, Status> {
        self.running
            .get()
            .ok_or(Status::failed_precondition("the plugin is not initialized"))
    }

    /// Runs a call of consensus where it may take its time.
    async fn consensus<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Consensus) -> Result<T, ConsensusError> + Send + 'static,
    ) -> Result<T, Status> {
        let consensus = self.running()?.consensus.clone();
        process::call(consensus, &self.life, call)
            .await
            .map_err(|error| match error {
                CallError::Consensus(error) => status(&error),
                CallError::BrokeOff => Status::internal("the call broke off"),
            })
    }
}

fn parsed(id: &BlockId, header: &Header) -> ParseBlockResponse {
    ParseBlockResponse {
        id: bytes(id),
        parent_id: bytes(&header.parent),
        height: header.height,
        timestamp: Some(timestamp(header.time)),
        verify_with_context: false,
    }
}

fn initialized(facts: BlockFacts) -> InitializeResponse {
    InitializeResponse {
        last_accepted_id: bytes(&facts.id),
        last_accepted_parent_id: bytes(&facts.header.parent),
        height: facts.header.height,
        timestamp: Some(timestamp(facts.header.time)),
        bytes: facts.bytes.into(),
    }
}

const NOT_FOUND: i32 = Error::NotFound as i32;

#[tonic::async_trait]
impl Vm for Plugin {
    async fn initialize(&self, request: Request<InitializeRequest>) -> Reply<InitializeResponse> {
        let running = Running::start(&self.starter, request.into_inner())
            .await
            .map_err(|error| {
                tracing::error!(%error, "the chain does not start");
                Status::internal(error.to_string())
            })?;
        if self.running.set(running).is_err() {
            return Err(Status::already_exists("the plugin is initialized already"));
        }
        self.running()?.begin();
        reply(initialized(self.consensus(Consensus::last_accepted).await?))
    }

    async fn set_state(&self, request: Request<SetStateRequest>) -> Reply<SetStateResponse> {
        let phase = match request.get_ref().state() {
            State::StateSyncing => Phase::StateSync,
            State::Bootstrapping => Phase::Bootstrapping,
            State::NormalOp => Phase::Normal,
            State::Unspecified => return Err(Status::invalid_argument("unknown state")),
        };
        let facts = self
            .consensus(move |consensus| consensus.set_phase(phase))
            .await?;
        let InitializeResponse {
            last_accepted_id,
            last_accepted_parent_id,
            height,
            bytes,
            timestamp,
        } = initialized(facts);
        reply(SetStateResponse {
            last_accepted_id,
            last_accepted_parent_id,
            height,
            bytes,
            timestamp,
        })
    }

    async fn shutdown(&self, _: Request<()>) -> Reply<()> {
        if let Some(running) = self.running.get() {
            let _cut = tokio::time::timeout(STOP_TIMEOUT, running.stop()).await;
        }
        self.life.shut_down();
        reply(())
    }

    async fn create_handlers(&self, _: Request<()>) -> Reply<CreateHandlersResponse> {
        self.running()?;
        let handlers = PATHS.map(|prefix| Handler {
            prefix: prefix.to_owned(),
            server_addr: self.address.clone(),
        });
        reply(CreateHandlersResponse {
            handlers: handlers.to_vec(),
        })
    }

    async fn new_http_handler(&self, _: Request<()>) -> Reply<NewHttpHandlerResponse> {
        self.running()?;
        reply(NewHttpHandlerResponse {
            server_addr: self.address.clone(),
        })
    }

    async fn wait_for_event(&self, _: Request<()>) -> Reply<WaitForEventResponse> {
        let consensus = self.running()?.consensus.clone();
        let message = tokio::select! {
            () = consensus.event() => Message::BuildBlock,
            () = consensus.syncing.ended() => Message::StateSyncFinished,
        };
        reply(WaitForEventResponse {
            message: message.into(),
        })
    }

    async fn connected(&self, request: Request<ConnectedRequest>) -> Reply<()> {
        self.running()?
            .gossip
            .connected(request.into_inner().node_id);
        reply(())
    }

    async fn disconnected(&self, request: Request<DisconnectedRequest>) -> Reply<()> {
        self.running()?
            .gossip
            .disconnected(&request.into_inner().node_id);
        reply(())
    }

    async fn build_block(&self, _: Request<BuildBlockRequest>) -> Reply<BuildBlockResponse> {
        let facts = self.consensus(Consensus::build).await?;
        reply(BuildBlockResponse {
            id: bytes(&facts.id),
            parent_id: bytes(&facts.header.parent),
            height: facts.header.height,
            timestamp: Some(timestamp(facts.header.time)),
            bytes: facts.bytes.into(),
            verify_with_context: false,
        })
    }

    async fn parse_block(&self, request: Request<ParseBlockRequest>) -> Reply<ParseBlockResponse> {
        let given = request.into_inner().bytes;
        let (id, header) = self
            .consensus(move |consensus| consensus.parse(&given))
            .await?;
        reply(parsed(&id, &header))
    }

    async fn get_block(&self, request: Request<GetBlockRequest>) -> Reply<GetBlockResponse> {
        let id = block_id(&request.get_ref().id)?;
        let found = self
            .consensus(move |consensus| consensus.block(&id))
            .await?;
        reply(match found {
            Some(facts) => GetBlockResponse {
                parent_id: bytes(&facts.header.parent),
                height: facts.header.height,
                timestamp: Some(timestamp(facts.header.time)),
                bytes: facts.bytes.into(),
                ..GetBlockResponse::default()
            },
            None => GetBlockResponse {
                err: NOT_FOUND,
                ..GetBlockResponse::default()
            },
        })
    }

    async fn set_preference(&self, request: Request<SetPreferenceRequest>) -> Reply<()> {
        let id = block_id(&request.get_ref().id)?;
        reply(
            self.consensus(move |consensus| consensus.prefer(id))
                .await?,
        )
    }

    async fn health(&self, _: Request<()>) -> Reply<HealthResponse> {
        let details = self.running()?.consensus.health();
        let details = details.map_err(Status::unavailable)?.into_iter();
        let details = details.map(|(name, value)| (name.to_owned(), value));
        let details: serde_json::Map<_, _> = details.collect();
        reply(HealthResponse {
            details: serde_json::Value::Object(details).to_string().into(),
        })
    }

    async fn version(&self, _: Request<()>) -> Reply<VersionResponse> {
        reply(VersionResponse {
            version: concat!("v", env!("CARGO_PKG_VERSION")).to_owned(),
        })
    }

    async fn app_request(&self, request: Request<AppRequestMsg>) -> Reply<()> {
        let AppRequestMsg {
            node_id,
            request_id,
            request,
            ..
        } = request.into_inner();
        self.running()?
            .gossip
            .requested(node_id, request_id, &request)
            .await;
        reply(())
    }

    async fn app_request_failed(&self, request: Request<AppRequestFailedMsg>) -> Reply<()> {
        self.running()?.gossip.failed(request.get_ref().request_id);
        reply(())
    }

    async fn app_response(&self, request: Request<AppResponseMsg>) -> Reply<()> {
        let AppResponseMsg {
            node_id,
            request_id,
            response,
        } = request.into_inner();
        let gossip = self.running()?.gossip.clone();
        let taken = move || gossip.responded(&node_id, request_id, response);
        tokio::task::spawn_blocking(taken)
            .await
            .map_err(|_| Status::internal("broke off"))?;
        reply(())
    }

    async fn app_gossip(&self, request: Request<AppGossipMsg>) -> Reply<()> {
        let AppGossipMsg { node_id, msg } = request.into_inner();
        let gossip = self.running()?.gossip.clone();
        let taken = move || gossip.told(&node_id, &msg);
        tokio::task::spawn_blocking(taken)
            .await
            .map_err(|_| Status::internal("broke off"))?;
        reply(())
    }

    async fn gather(&self, _: Request<()>) -> Reply<GatherResponse> {
        let Some(running) = self.running.get() else {
            return reply(GatherResponse::default());
        };
        let families = running
            .consensus
            .node()
            .metrics()
            .values()
            .into_iter()
            .map(|line| {
                #[expect(
                    clippy::cast_precision_loss,
                    reason = "the data model of Prometheus is in f64"
                )]
                let value = Some(line.value as f64);
                let mut metric = Metric::default();
                let kind = match line.kind {
                    Kind::Counter => {
                        metric.counter = Some(Counter { value });
                        MetricType::Counter
                    }
                    Kind::Gauge => {
                        metric.gauge = Some(Gauge { value });
                        MetricType::Gauge
                    }
                };
                MetricFamily {
                    name: Some(line.name.to_owned()),
                    help: Some(line.help.to_owned()),
                    r#type: Some(kind.into()),
                    metric: vec![metric],
                }
            });
        reply(GatherResponse {
            metric_families: families.collect(),
        })
    }

    async fn get_ancestors(
        &self,
        request: Request<GetAncestorsRequest>,
    ) -> Reply<GetAncestorsResponse> {
        let request = request.into_inner();
        let id = block_id(&request.blk_id)?;
        let count = usize::try_from(request.max_blocks_num).unwrap_or_default();
        let size = usize::try_from(request.max_blocks_size).unwrap_or_default();
        let time = Duration::from_nanos(
            u64::try_from(request.max_blocks_retrival_time).unwrap_or_default(),
        );
        let blocks = self
            .consensus(move |consensus| consensus.ancestors(id, count, size, time))
            .await?;
        let blks_bytes = blocks.into_iter().map(Bytes::from).collect();
        reply(GetAncestorsResponse { blks_bytes })
    }

    async fn batched_parse_block(
        &self,
        request: Request<BatchedParseBlockRequest>,
    ) -> Reply<BatchedParseBlockResponse> {
        let given = request.into_inner().request;
        let all = move |consensus: &Consensus| {
            given
                .iter()
                .map(|block| consensus.parse(block))
                .collect::<Result<Vec<_>, _>>()
        };
        let response = self.consensus(all).await?;
        let response = response
            .iter()
            .map(|(id, header)| parsed(id, header))
            .collect();
        reply(BatchedParseBlockResponse { response })
    }

    async fn get_block_id_at_height(
        &self,
        request: Request<GetBlockIdAtHeightRequest>,
    ) -> Reply<GetBlockIdAtHeightResponse> {
        let height = request.get_ref().height;
        let found = self
            .consensus(move |consensus| consensus.id_at(height))
            .await?;
        reply(match found {
            Some(id) => GetBlockIdAtHeightResponse {
                blk_id: bytes(&id),
                err: 0,
            },
            None => GetBlockIdAtHeightResponse {
                blk_id: Bytes::new(),
                err: NOT_FOUND,
            },
        })
    }

    async fn state_sync_enabled(&self, _: Request<()>) -> Reply<StateSyncEnabledResponse> {
        let enabled = self
            .consensus(|consensus| Ok(consensus.wants_a_state()))
            .await?
            && self.running()?.has_stake().await;
        reply(StateSyncEnabledResponse { enabled, err: 0 })
    }

    async fn get_ongoing_sync_state_summary(
        &self,
        _: Request<()>,
    ) -> Reply<GetOngoingSyncStateSummaryResponse> {
        let found = self
            .consensus(|consensus| Ok(consensus.ongoing_state()))
            .await?;
        let (id, height, bytes, err) = summary(found);
        reply(GetOngoingSyncStateSummaryResponse {
            id,
            height,
            bytes,
            err,
        })
    }

    async fn get_last_state_summary(&self, _: Request<()>) -> Reply<GetLastStateSummaryResponse> {
        let (id, height, bytes, err) = summary(self.running()?.consensus.last_state());
        reply(GetLastStateSummaryResponse {
            id,
            height,
            bytes,
            err,
        })
    }

    async fn parse_state_summary(
        &self,
        request: Request<ParseStateSummaryRequest>,
    ) -> Reply<ParseStateSummaryResponse> {
        let given = request.into_inner().bytes;
        let facts = self
            .consensus(move |consensus| consensus.parse_state(&given))
            .await?;
        reply(ParseStateSummaryResponse {
            id: Bytes::copy_from_slice(&facts.id),
            height: facts.height,
            err: 0,
        })
    }

    async fn get_state_summary(
        &self,
        request: Request<GetStateSummaryRequest>,
    ) -> Reply<GetStateSummaryResponse> {
        let height = request.get_ref().height;
        let (id, _, bytes, err) = summary(self.running()?.consensus.state_at(height));
        reply(GetStateSummaryResponse { id, bytes, err })
    }

    async fn block_verify(
        &self,
        request: Request<BlockVerifyRequest>,
    ) -> Reply<BlockVerifyResponse> {
        let given = request.into_inner().bytes;
        let header = self
            .consensus(move |consensus| consensus.verify(&given))
            .await?;
        reply(BlockVerifyResponse {
            timestamp: Some(timestamp(header.time)),
        })
    }

    async fn block_accept(&self, request: Request<BlockAcceptRequest>) -> Reply<()> {
        let id = block_id(&request.get_ref().id)?;
        reply(
            self.consensus(move |consensus| consensus.accept(id))
                .await?,
        )
    }

    async fn block_reject(&self, request: Request<BlockRejectRequest>) -> Reply<()> {
        let id = block_id(&request.get_ref().id)?;
        reply(
            self.consensus(move |consensus| consensus.reject(id))
                .await?,
        )
    }

    async fn state_summary_accept(
        &self,
        request: Request<StateSummaryAcceptRequest>,
    ) -> Reply<StateSummaryAcceptResponse> {
        let given = request.into_inner().bytes;
        let running = self.running()?;
        let (consensus, peers) = (running.consensus.clone(), running.gossip.clone());
        let life = self.life.clone();
        let accepts = move |_: &Consensus| {
            consensus.accept_state(&given, peers, Box::new(move || life.fatal()))
        };
        let mode = if self.consensus(accepts).await? {
            Mode::Static
        } else {
            Mode::Skipped
        };
        reply(StateSummaryAcceptResponse {
            mode: mode.into(),
            err: 0,
        })
    }
}

/// Id, height, bytes and error of a summary.
fn summary(found: Option<SummaryFacts>) -> (Bytes, u64, Bytes, i32) {
    match found {
        Some(facts) => (
            Bytes::copy_from_slice(&facts.id),
            facts.height,
            facts.bytes.into(),
            0,
        ),
        None => (Bytes::new(), 0, Bytes::new(), NOT_FOUND),
    }
}
