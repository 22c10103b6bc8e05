//! The wire between avalanchego and a plugin: messages and both sides of every service, made at
//! build time from the `.proto` files in `proto/`. One set speaks protocols 42 to 46.
//!
//! ```text
//! plugin serves   vm · health · http                 node serves   runtime · rpcdb · appsender
//!                                                                  validatorstate
//!                                                                  http.responsewriter · io.reader · net.conn
//! ```

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::wildcard_enum_match_arm,
    clippy::unwrap_used,
    reason = "what is generated follows other rules, and the protos say what it means"
)]

/// Messages between the VMs of different nodes.
pub mod appsender {
    tonic::include_proto!("appsender");
}

/// Whether a server serves.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// HTTP requests that a node hands on.
pub mod http {
    tonic::include_proto!("http");

    /// Where the answer to a streamed or upgraded request is written.
    pub mod responsewriter {
        tonic::include_proto!("http.responsewriter");
    }
}

/// Streams and metrics.
pub mod io {
    /// Metrics as `Gather` answers them.
    pub mod prometheus {
        /// The data model of Prometheus.
        pub mod client {
            tonic::include_proto!("io.prometheus.client");
        }
    }

    /// The body of a streamed request.
    pub mod reader {
        tonic::include_proto!("io.reader");
    }
}

/// Connections that were hijacked from the node's HTTP server.
pub mod net {
    /// One of them.
    pub mod conn {
        tonic::include_proto!("net.conn");
    }
}

/// The node's database.
pub mod rpcdb {
    tonic::include_proto!("rpcdb");
}

/// Who validates a subnet.
pub mod validatorstate {
    tonic::include_proto!("validatorstate");
}

/// The virtual machine, and the handshake before it.
pub mod vm {
    tonic::include_proto!("vm");

    /// The handshake.
    pub mod runtime {
        tonic::include_proto!("vm.runtime");
    }
}

/// The newest protocol whose wire these messages describe.
pub const PROTOCOL_MAX: u32 = 46;

/// The oldest protocol that has every call the messages describe.
pub const PROTOCOL_MIN: u32 = 42;
