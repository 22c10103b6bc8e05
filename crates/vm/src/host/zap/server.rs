//! What the node asks of its plugin.

use std::sync::OnceLock;
use std::time::Duration;

use session_core::codec::{Decode, DecodeError, Encode};
use session_core::header::Header;
use session_core::ids::BlockId;
use session_core::time::Time;
use session_zap::block::*;
use session_zap::health::{Details, HealthResponse};
use session_zap::peer::*;
use session_zap::vm::*;
use session_zap::{Call, Frame, Later, NOTHING, PAYLOAD_BYTES_MAX, RESPONSE, error, read};
use tokio::sync::Mutex;

use super::start::Running;
use super::sync;
use crate::host::consensus::{BlockFacts, Consensus, ConsensusError, Phase};
use crate::host::life::Life;
use crate::host::paths::PATHS;
use crate::host::process::{self, CallError};
use crate::host::start::{STOP_TIMEOUT, StartError, Starter};

/// Bytes of blocks in one answer, with four for each: whatever is asked, a frame takes no more.
const ANCESTORS_BYTES_MAX: usize = PAYLOAD_BYTES_MAX - 64;

/// Why a call is answered with an error. Its text is all that the node gets.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("a call of kind {0} is not known here")]
    Unknown(u8),
    #[error("{call:?}: {error}")]
    Payload { call: Call, error: DecodeError },
    #[error("the plugin is not initialized")]
    NotInitialized,
    #[error("the plugin is initialized already")]
    Initialized,
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("unknown state {0}")]
    State(u8),
    #[error("a block id has 32 bytes, got {0}")]
    BlockId(usize),
    #[error("{0}")]
    Call(#[from] CallError),
    #[error("{0}")]
    Unwell(String),
}

/// An answer's fields as bytes.
type Reply = Result<Vec<u8>, Refusal>;

fn reply(message: &impl Encode) -> Reply {
    Ok(message.to_bytes())
}

/// Nanoseconds since 1970.
fn timestamp(time: Time) -> i64 {
    i64::try_from(time.ms().saturating_mul(1_000_000)).unwrap_or(i64::MAX)
}

fn bytes(id: &BlockId) -> Vec<u8> {
    id.as_bytes().to_vec()
}

fn block_id(given: &[u8]) -> Result<BlockId, Refusal> {
    let id: [u8; 32] = given
        .try_into()
        .map_err(|_| Refusal::BlockId(given.len()))?;
    Ok(BlockId::from_bytes(id))
}

fn of_header(id: &BlockId, header: &Header) -> BlockResponse {
    BlockResponse {
        id: bytes(id),
        parent: bytes(&header.parent),
        height: header.height,
        timestamp: timestamp(header.time),
        ..BlockResponse::default()
    }
}

fn of_facts(facts: BlockFacts) -> BlockResponse {
    BlockResponse {
        bytes: facts.bytes,
        ..of_header(&facts.id, &facts.header)
    }
}

fn none(failure: Failure) -> BlockResponse {
    BlockResponse {
        failure,
        ..BlockResponse::default()
    }
}

/// Calls that answer a block say in a field of it why there is none. Its reason goes to the log.
fn described(call: Call, result: Result<BlockResponse, ConsensusError>) -> BlockResponse {
    result.unwrap_or_else(|error| {
        if matches!(error, ConsensusError::NothingToBuild) {
            tracing::debug!(?call, %error, "no block");
        } else {
            tracing::warn!(?call, %error, "no block");
        }
        none(Failure::INTERNAL)
    })
}

/// The plugin as the node sees it. Nothing runs before `Initialize`.
pub(super) struct Plugin {
    starter: Starter,
    running: OnceLock<Running>,
    /// One `Initialize` at a time.
    starting: Mutex<()>,
    life: Life,
}

impl Plugin {
    pub(super) fn new(starter: Starter, life: Life) -> Self {
        Self {
            starter,
            running: OnceLock::new(),
            starting: Mutex::new(()),
            life,
        }
    }

    /// Ends the chain, if one runs.
    pub(super) async fn stop(&self) {
        if let Some(running) = self.running.get() {
            running.stop().await;
        }
    }

    /// The answer to a frame, as a frame.
    pub(super) async fn answer(&self, frame: Frame) -> Vec<u8> {
        let Frame { kind, id, body } = frame;
        let reply = match Call::from_code(kind) {
            Some(call) => self.call(call, &body).await,
            None => Err(Refusal::Unknown(kind)),
        };
        let answered = reply.map(|body| {
            let kind = kind | RESPONSE;
            Frame { kind, id, body }.to_bytes()
        });
        match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(too_long)) => error(kind, id, &too_long.to_string()),
            Err(refusal) => {
                tracing::debug!(kind, %refusal, "answered with an error");
                error(kind, id, &refusal.to_string())
            }
        }
    }

    async fn call(&self, call: Call, body: &[u8]) -> Reply {
        match call {
            Call::Initialize => self.initialize(take(call, body)?).await,
            Call::SetState => self.set_state(take(call, body)?).await,
            Call::Shutdown => self.shutdown().await,
            Call::CreateHandlers => self.create_handlers(),
            Call::NewHttpHandler => self.new_http_handler(),
            Call::WaitForEvent => self.wait_for_event().await,
            Call::BuildBlock => self.build_block(&take(call, body)?).await,
            Call::ParseBlock => self.parse_block(take(call, body)?).await,
            Call::GetBlock => self.get_block(&take(call, body)?).await,
            Call::SetPreference => self.set_preference(&take(call, body)?).await,
            Call::Health => self.health(),
            Call::Version => reply(&VersionResponse {
                version: concat!("v", env!("CARGO_PKG_VERSION")).to_owned(),
            }),
            Call::Gather => self.gather(),
            Call::GetAncestors => self.get_ancestors(&take(call, body)?).await,
            Call::BatchedParseBlock => self.batched_parse_block(take(call, body)?).await,
            Call::GetBlockIdAtHeight => self.get_block_id_at_height(&take(call, body)?).await,
            Call::BlockVerify => self.block_verify(take(call, body)?).await,
            Call::BlockAccept => self.block_accept(&take(call, body)?).await,
            Call::BlockReject => self.block_reject(&take(call, body)?).await,
            Call::Connected => self.of_peers::<ConnectedRequest>(call, body),
            Call::Disconnected => self.of_peers::<DisconnectedRequest>(call, body),
            Call::Request => self.of_peers::<RequestMessage>(call, body),
            Call::RequestFailed => self.of_peers::<RequestFailedMessage>(call, body),
            Call::Response => self.of_peers::<ResponseMessage>(call, body),
            Call::Gossip => self.of_peers::<GossipMessage>(call, body),
            Call::StateSyncEnabled => reply(&sync::enabled()),
            Call::GetOngoingSyncStateSummary => reply(&sync::ongoing()),
            Call::GetLastStateSummary => reply(&sync::last()),
            Call::ParseStateSummary => reply(&sync::parse(&take(call, body)?)),
            Call::GetStateSummary => reply(&sync::at(&take(call, body)?)),
            Call::StateSummaryAccept => reply(&sync::accept(&take(call, body)?)),
        }
    }

    fn running(&self) -> Result<&Running, Refusal> {
        self.running.get().ok_or(Refusal::NotInitialized)
    }

    /// Runs a call of consensus where it may take its time.
    async fn consensus<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Consensus) -> Result<T, ConsensusError> + Send + 'static,
    ) -> Result<T, Refusal> {
        let consensus = self.running()?.consensus.clone();
        Ok(process::call(consensus, &self.life, call).await?)
    }

    /// A call of consensus that answers a block.
    async fn block(
        &self,
        call: Call,
        asked: impl FnOnce(&Consensus) -> Result<BlockResponse, ConsensusError> + Send + 'static,
    ) -> Reply {
        let found = move |consensus: &Consensus| Ok(described(call, asked(consensus)));
        reply(&self.consensus(found).await?)
    }

    async fn initialize(&self, request: InitializeRequest) -> Reply {
        let _one = self.starting.lock().await;
        if self.running.get().is_some() {
            return Err(Refusal::Initialized);
        }
        let started = Running::start(&self.starter, request).await;
        let running =
            started.inspect_err(|error| tracing::error!(%error, "the chain does not start"))?;
        let _first = self.running.set(running);
        let facts = self.consensus(Consensus::last_accepted).await?;
        reply(&InitializeResponse {
            last_accepted: bytes(&facts.id),
            parent: bytes(&facts.header.parent),
            height: facts.header.height,
            timestamp: timestamp(facts.header.time),
            bytes: facts.bytes,
            capabilities: Later(sync::CAPABILITIES),
        })
    }

    async fn set_state(&self, request: SetStateRequest) -> Reply {
        let phase = match request.state {
            State::SYNCING => Phase::StateSync,
            State::BOOTSTRAPPING => Phase::Bootstrapping,
            State::READY => Phase::Normal,
            State(other) => return Err(Refusal::State(other)),
        };
        let set = move |consensus: &Consensus| consensus.set_phase(phase);
        let facts = self.consensus(set).await?;
        reply(&SetStateResponse {
            last_accepted: bytes(&facts.id),
            parent: bytes(&facts.header.parent),
            height: facts.header.height,
            timestamp: timestamp(facts.header.time),
            bytes: facts.bytes,
        })
    }

    async fn shutdown(&self) -> Reply {
        let _cut = tokio::time::timeout(STOP_TIMEOUT, self.stop()).await;
        self.life.shut_down();
        reply(NOTHING)
    }

    fn create_handlers(&self) -> Reply {
        let http = &self.running()?.http;
        let handlers = PATHS.map(|prefix| HttpHandler {
            prefix: prefix.to_owned(),
            server: http.clone(),
        });
        reply(&CreateHandlersResponse {
            handlers: handlers.to_vec(),
        })
    }

    fn new_http_handler(&self) -> Reply {
        let server = self.running()?.http.clone();
        reply(&NewHttpHandlerResponse { server })
    }

    async fn wait_for_event(&self) -> Reply {
        let consensus = self.running()?.consensus.clone();
        consensus.event().await;
        reply(&WaitForEventResponse {
            event: Event::BUILD_BLOCK,
        })
    }

    async fn build_block(&self, _: &BuildBlockRequest) -> Reply {
        let build = |consensus: &Consensus| consensus.build().map(of_facts);
        self.block(Call::BuildBlock, build).await
    }

    async fn parse_block(&self, request: ParseBlockRequest) -> Reply {
        let parse = move |consensus: &Consensus| parsed(consensus, request.bytes);
        self.block(Call::ParseBlock, parse).await
    }

    async fn batched_parse_block(&self, request: BatchedParseBlockRequest) -> Reply {
        let all = move |consensus: &Consensus| {
            let one = |bytes| described(Call::BatchedParseBlock, parsed(consensus, bytes));
            Ok(request.blocks.into_iter().map(one).collect())
        };
        let blocks = self.consensus(all).await?;
        reply(&BatchedParseBlockResponse { blocks })
    }

    async fn get_block(&self, request: &GetBlockRequest) -> Reply {
        let id = block_id(&request.id)?;
        let get = move |consensus: &Consensus| {
            let found = consensus.block(&id)?;
            Ok(found.map_or_else(|| none(Failure::NOT_FOUND), of_facts))
        };
        self.block(Call::GetBlock, get).await
    }

    async fn set_preference(&self, request: &SetPreferenceRequest) -> Reply {
        let id = block_id(&request.id)?;
        self.consensus(move |consensus| consensus.prefer(id))
            .await?;
        reply(NOTHING)
    }

    fn health(&self) -> Reply {
        let details = self.running()?.consensus.health();
        let details = details.map_err(Refusal::Unwell)?.into_iter();
        let text = |value: serde_json::Value| match value.as_str() {
            Some(text) => text.to_owned(),
            None => value.to_string(),
        };
        let details = details.map(|(name, value)| (name.to_owned(), text(value)));
        reply(&HealthResponse {
            details: Details(details.collect()).to_bytes(),
        })
    }

    fn gather(&self) -> Reply {
        let metrics = self.running.get().map(|running| {
            let metrics = running.consensus.node().metrics();
            metrics.render().into_bytes()
        });
        reply(&GatherResponse {
            text: metrics.unwrap_or_default(),
        })
    }

    async fn get_ancestors(&self, request: &GetAncestorsRequest) -> Reply {
        let id = block_id(&request.id)?;
        let count = usize::try_from(request.count_max).unwrap_or_default();
        let size = usize::try_from(request.bytes_max).unwrap_or_default();
        let size = size.min(ANCESTORS_BYTES_MAX);
        let time = Duration::from_nanos(u64::try_from(request.time_max).unwrap_or_default());
        let ancestors = move |consensus: &Consensus| consensus.ancestors(id, count, size, time);
        let blocks = self.consensus(ancestors).await?;
        reply(&GetAncestorsResponse { blocks })
    }

    async fn get_block_id_at_height(&self, request: &GetBlockIdAtHeightRequest) -> Reply {
        let height = request.height;
        let found = self
            .consensus(move |consensus| consensus.id_at(height))
            .await?;
        reply(&GetBlockIdAtHeightResponse {
            failure: found.map_or(Failure::NOT_FOUND, |_| Failure::NONE),
            id: found.as_ref().map(bytes).unwrap_or_default(),
        })
    }

    async fn block_verify(&self, request: BlockVerifyRequest) -> Reply {
        let verify = move |consensus: &Consensus| consensus.verify(&request.bytes);
        let header = self.consensus(verify).await?;
        reply(&BlockVerifyResponse {
            timestamp: timestamp(header.time),
        })
    }

    async fn block_accept(&self, request: &BlockAcceptRequest) -> Reply {
        let id = block_id(&request.id)?;
        self.consensus(move |consensus| consensus.accept(id))
            .await?;
        reply(NOTHING)
    }

    async fn block_reject(&self, request: &BlockRejectRequest) -> Reply {
        let id = block_id(&request.id)?;
        self.consensus(move |consensus| consensus.reject(id))
            .await?;
        reply(NOTHING)
    }

    /// What peers do and say. Nothing can be said to them, so nothing is made of it.
    fn of_peers<T: Decode>(&self, call: Call, body: &[u8]) -> Reply {
        self.running()?;
        take::<T>(call, body)?;
        reply(NOTHING)
    }
}

fn parsed(consensus: &Consensus, bytes: Vec<u8>) -> Result<BlockResponse, ConsensusError> {
    let (id, header) = consensus.parse(&bytes)?;
    Ok(BlockResponse {
        bytes,
        ..of_header(&id, &header)
    })
}

fn take<T: Decode>(call: Call, body: &[u8]) -> Result<T, Refusal> {
    read(body).map_err(|error| Refusal::Payload { call, error })
}
