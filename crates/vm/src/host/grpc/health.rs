//! `grpc.health.v1.Health`: whether this server serves at all. How the chain is, `VM/Health` tells.

use std::pin::Pin;

use futures_util::Stream;
use futures_util::stream::{self, StreamExt as _};
use session_rpcchainvm::health::health_check_response::ServingStatus;
use session_rpcchainvm::health::health_server::Health;
use session_rpcchainvm::health::{HealthCheckRequest, HealthCheckResponse};
use tonic::{Request, Response, Status};

/// It does, as long as it answers.
pub(super) struct Serving;

fn serving() -> HealthCheckResponse {
    HealthCheckResponse {
        status: ServingStatus::Serving.into(),
    }
}

#[tonic::async_trait]
impl Health for Serving {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(serving()))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let now = stream::once(async { Ok(serving()) });
        Ok(Response::new(Box::pin(now.chain(stream::pending()))))
    }
}
