//! State sync.

use crate::block::Failure;
use crate::field::message;

message! {
    /// Whether this plugin takes over a state from others.
    pub struct StateSyncEnabledResponse {
        /// It does.
        pub enabled: bool,
        /// Why there is no answer.
        pub failure: Failure,
    }
}

message! {
    /// A summary, or why there is none.
    pub struct SummaryResponse {
        /// Its id, 32 bytes.
        pub id: Vec<u8>,
        /// Its height.
        pub height: u64,
        /// All of it.
        pub bytes: Vec<u8>,
        /// Why there is none.
        pub failure: Failure,
    }
}

message! {
    /// Bytes that may be a summary.
    pub struct ParseStateSummaryRequest {
        /// The bytes.
        pub bytes: Vec<u8>,
    }
}

message! {
    /// Asks for the summary of a height.
    pub struct GetStateSummaryRequest {
        /// The height.
        pub height: u64,
    }
}

message! {
    /// A summary was agreed on.
    pub struct StateSummaryAcceptRequest {
        /// Its id, 32 bytes.
        pub id: Vec<u8>,
    }
}

message! {
    /// What the plugin does about it.
    pub struct StateSummaryAcceptResponse {
        /// 1 nothing, 2 while the node waits, 3 beside consensus.
        pub mode: u8,
        /// Why it does nothing.
        pub failure: Failure,
    }
}
