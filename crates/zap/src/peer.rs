//! Other nodes, and what they say. No node that is known passes such messages to a plugin, or
//! takes any from one.

use crate::field::message;

message! {
    /// A peer has come.
    pub struct ConnectedRequest {
        /// Node, 20 bytes.
        pub node: Vec<u8>,
        /// Name of its program.
        pub name: String,
        /// First number of its version.
        pub major: u32,
        /// Second number.
        pub minor: u32,
        /// Third number.
        pub patch: u32,
    }
}

message! {
    /// A peer has gone.
    pub struct DisconnectedRequest {
        /// Node, 20 bytes.
        pub node: Vec<u8>,
    }
}

message! {
    /// A peer's plugin asks.
    pub struct RequestMessage {
        /// Node, 20 bytes.
        pub node: Vec<u8>,
        /// Number of the request.
        pub request: u32,
        /// Until when an answer counts, in nanoseconds since 1970.
        pub deadline: i64,
        /// What is asked.
        pub bytes: Vec<u8>,
    }
}

message! {
    /// A peer's plugin does not answer.
    pub struct RequestFailedMessage {
        /// Node, 20 bytes.
        pub node: Vec<u8>,
        /// Number of the request.
        pub request: u32,
        /// Code.
        pub code: i32,
        /// Why.
        pub text: String,
    }
}

message! {
    /// A peer's plugin answers.
    pub struct ResponseMessage {
        /// Node, 20 bytes.
        pub node: Vec<u8>,
        /// Number of the request.
        pub request: u32,
        /// The answer.
        pub bytes: Vec<u8>,
    }
}

message! {
    /// A peer's plugin tells.
    pub struct GossipMessage {
        /// Node, 20 bytes.
        pub node: Vec<u8>,
        /// What it tells.
        pub bytes: Vec<u8>,
    }
}
