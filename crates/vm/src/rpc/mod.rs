//! JSON-RPC, health, metrics and subscriptions over HTTP.

mod dialect;
pub mod error;
mod json;
mod method;
pub mod openrpc;
mod proof;
mod read;
mod room;
mod rotation;
mod server;
mod stream;
mod subscribe;
pub mod tls;
mod write;

pub(crate) use dialect::text;
pub use method::Context;
pub use server::{Server, ServerError, ServerOptions};
pub(crate) use server::{host_router, serve_connection};
pub use stream::Patience;
