//! A plugin's life: start, states, handlers, events.

use crate::field::{Later, code, list, message};

message! {
    /// Everything that a node tells a plugin about its chain.
    pub struct InitializeRequest {
        /// Network.
        pub network: u32,
        /// Chain, 32 bytes.
        pub chain: Vec<u8>,
        /// This node, 20 bytes.
        pub node: Vec<u8>,
        /// The node's BLS public key.
        pub public_key: Vec<u8>,
        /// Exchange chain of the network, 32 bytes.
        pub x_chain: Vec<u8>,
        /// Contract chain of the network, 32 bytes.
        pub c_chain: Vec<u8>,
        /// The network's asset, 32 bytes.
        pub utxo_asset: Vec<u8>,
        /// A directory for this chain alone.
        pub chain_data_dir: String,
        /// Genesis bytes.
        pub genesis: Vec<u8>,
        /// Upgrade bytes.
        pub upgrade: Vec<u8>,
        /// The chain's configuration on this node.
        pub config: Vec<u8>,
        /// Where the node serves the chain's database ([`database`](crate::database)); may be
        /// empty.
        pub db_server: String,
        /// Where the node takes messages to peers; empty in every node that is known.
        pub server: String,
        /// Where the node serves memory shared between chains; may be empty.
        pub atomic_server: Later<String>,
        /// The network's exchange of assets, or nothing.
        pub d_chain: Later<Vec<u8>>,
        /// Where the node tells its validators; may be empty.
        pub validator_server: Later<String>,
    }
}

message! {
    /// The last accepted block; at a chain's beginning genesis, at height 0.
    pub struct InitializeResponse {
        /// Its id, 32 bytes.
        pub last_accepted: Vec<u8>,
        /// Id of its parent, 32 bytes.
        pub parent: Vec<u8>,
        /// Its height.
        pub height: u64,
        /// All of it.
        pub bytes: Vec<u8>,
        /// Its time, in nanoseconds since 1970.
        pub timestamp: i64,
        /// What the plugin can do beside the usual: [`CAPABILITY_STATE_SYNC`].
        pub capabilities: Later<u64>,
    }
}

/// Bit of [`InitializeResponse::capabilities`]: the plugin answers the calls of state sync.
pub const CAPABILITY_STATE_SYNC: u64 = 1 << 1;

code! {
    /// Where a chain stands for its node.
    pub struct State {
        /// It is given a state by others.
        SYNCING = 2,
        /// It is given accepted blocks one after the other.
        BOOTSTRAPPING = 3,
        /// It takes part.
        READY = 4,
    }
}

message! {
    /// The chain moves on.
    pub struct SetStateRequest {
        /// To this.
        pub state: State,
    }
}

message! {
    /// The last accepted block.
    pub struct SetStateResponse {
        /// Its id, 32 bytes.
        pub last_accepted: Vec<u8>,
        /// Id of its parent, 32 bytes.
        pub parent: Vec<u8>,
        /// Its height.
        pub height: u64,
        /// All of it.
        pub bytes: Vec<u8>,
        /// Its time, in nanoseconds since 1970.
        pub timestamp: i64,
    }
}

message! {
    /// One path that the node hands on.
    pub struct HttpHandler {
        /// Path below the chain's own.
        pub prefix: String,
        /// Where plain HTTP is served: requests come there with the path that the node got.
        pub server: String,
    }
}

list!(HttpHandler);

message! {
    /// What a chain serves.
    pub struct CreateHandlersResponse {
        /// Each path.
        pub handlers: Vec<HttpHandler>,
    }
}

message! {
    /// One handler for requests that name the chain in a header.
    pub struct NewHttpHandlerResponse {
        /// Where it listens; nothing where there is none.
        pub server: String,
    }
}

code! {
    /// Why a plugin wakes its node.
    pub struct Event {
        /// A block can be built.
        BUILD_BLOCK = 1,
        /// The state has come.
        STATE_SYNC_FINISHED = 2,
    }
}

message! {
    /// Something happened.
    pub struct WaitForEventResponse {
        /// This.
        pub event: Event,
    }
}

message! {
    /// The plugin's version.
    pub struct VersionResponse {
        /// As text.
        pub version: String,
    }
}

message! {
    /// Answer to `Gather` as this program gives it: nobody has written another down.
    pub struct GatherResponse {
        /// Metrics in the text form of Prometheus.
        pub text: Vec<u8>,
    }
}
