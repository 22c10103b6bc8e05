//! Blocks: built, parsed, read, decided.

use crate::field::{Later, code, list, message};

code! {
    /// Why an answer has no value.
    pub struct Failure {
        /// It has one.
        NONE = 0,
        /// The plugin is closed.
        CLOSED = 1,
        /// There is no such thing.
        NOT_FOUND = 2,
        /// This plugin does not sync states.
        STATE_SYNC_NOT_IMPLEMENTED = 3,
        /// Everything else.
        INTERNAL = 4,
    }
}

message! {
    /// Asks for a block on the preferred one. Nodes send it without any field, too.
    pub struct BuildBlockRequest {
        /// Height of the platform chain to build at.
        pub p_chain_height: Later<Option<u64>>,
    }
}

message! {
    /// A block, or why there is none; its other fields are empty then.
    pub struct BlockResponse {
        /// Its id, 32 bytes.
        pub id: Vec<u8>,
        /// Id of its parent, 32 bytes.
        pub parent: Vec<u8>,
        /// All of it.
        pub bytes: Vec<u8>,
        /// Its height.
        pub height: u64,
        /// Its time, in nanoseconds since 1970.
        pub timestamp: i64,
        /// Whether verifying it needs the platform chain's height.
        pub verify_with_context: bool,
        /// Why there is none.
        pub failure: Failure,
    }
}

list!(BlockResponse);

message! {
    /// Bytes that may be a block.
    pub struct ParseBlockRequest {
        /// The bytes.
        pub bytes: Vec<u8>,
    }
}

message! {
    /// Asks for a block, accepted or undecided.
    pub struct GetBlockRequest {
        /// Its id, 32 bytes.
        pub id: Vec<u8>,
    }
}

message! {
    /// The block that building goes on from.
    pub struct SetPreferenceRequest {
        /// Its id, 32 bytes.
        pub id: Vec<u8>,
    }
}

message! {
    /// A block to be verified on its parent.
    pub struct BlockVerifyRequest {
        /// All of it.
        pub bytes: Vec<u8>,
        /// Height of the platform chain to verify at.
        pub p_chain_height: Option<u64>,
    }
}

message! {
    /// It is valid.
    pub struct BlockVerifyResponse {
        /// Its time, in nanoseconds since 1970.
        pub timestamp: i64,
    }
}

message! {
    /// A verified block was decided for.
    pub struct BlockAcceptRequest {
        /// Its id, 32 bytes.
        pub id: Vec<u8>,
    }
}

message! {
    /// A verified block was decided against.
    pub struct BlockRejectRequest {
        /// Its id, 32 bytes.
        pub id: Vec<u8>,
    }
}

message! {
    /// Several that may be blocks.
    pub struct BatchedParseBlockRequest {
        /// Each one's bytes.
        pub blocks: Vec<Vec<u8>>,
    }
}

message! {
    /// Each one's answer, in the same order.
    pub struct BatchedParseBlockResponse {
        /// The answers.
        pub blocks: Vec<BlockResponse>,
    }
}

message! {
    /// Asks for a block and those before it.
    pub struct GetAncestorsRequest {
        /// The newest, 32 bytes.
        pub id: Vec<u8>,
        /// Blocks at most.
        pub count_max: i32,
        /// Bytes at most.
        pub bytes_max: i32,
        /// Nanoseconds that it may take.
        pub time_max: i64,
    }
}

message! {
    /// Newest first; nothing where the first is unknown.
    pub struct GetAncestorsResponse {
        /// Each one's bytes.
        pub blocks: Vec<Vec<u8>>,
    }
}

message! {
    /// Asks for the accepted block of a height.
    pub struct GetBlockIdAtHeightRequest {
        /// The height.
        pub height: u64,
    }
}

message! {
    /// Its id, or why there is none.
    pub struct GetBlockIdAtHeightResponse {
        /// 32 bytes, or nothing.
        pub id: Vec<u8>,
        /// Why there is none.
        pub failure: Failure,
    }
}
