//! Servers of the node's side on free loopback ports.

use std::net::{Ipv4Addr, SocketAddr};

use session_rpcchainvm::health::health_check_response::ServingStatus;
use session_rpcchainvm::health::health_server::{Health, HealthServer};
use session_rpcchainvm::health::{HealthCheckRequest, HealthCheckResponse};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};

/// A server that stops listening when it is dropped.
#[derive(Debug)]
pub struct Served {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Served {
    /// Serves on a free loopback port.
    pub async fn start(router: Router) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(router.serve_with_incoming_shutdown(incoming, async {
            let _dropped = stopped.await;
        }));
        Self {
            address,
            stop,
            task,
        }
    }

    /// Stops listening and waits until every call that came has its answer.
    pub async fn finish(self) {
        drop(self.stop);
        let _failed = self.task.await;
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A server builder that has the health service, as every server of the node has.
pub fn router() -> Router {
    Server::builder().add_service(HealthServer::new(Serving))
}

/// A connection that is made when it is first used.
pub fn dial(address: &str) -> Channel {
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .tcp_nodelay(true)
        .connect_lazy()
}

/// Always serving.
struct Serving;

#[tonic::async_trait]
impl Health for Serving {
    async fn check(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(HealthCheckResponse {
            status: ServingStatus::Serving.into(),
        }))
    }

    type WatchStream = tonic::codegen::BoxStream<HealthCheckResponse>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("nobody watches"))
    }
}
