//! The kinds of calls.

/// What a node asks of its plugin. The number is the kind of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Call {
    /// [`vm::InitializeRequest`](crate::vm::InitializeRequest), answered by
    /// [`vm::InitializeResponse`](crate::vm::InitializeResponse).
    Initialize = 1,
    /// [`vm::SetStateRequest`](crate::vm::SetStateRequest), answered by
    /// [`vm::SetStateResponse`](crate::vm::SetStateResponse).
    SetState = 2,
    /// Without fields, both ways.
    Shutdown = 3,
    /// Answered by [`vm::CreateHandlersResponse`](crate::vm::CreateHandlersResponse).
    CreateHandlers = 4,
    /// Answered by [`vm::NewHttpHandlerResponse`](crate::vm::NewHttpHandlerResponse).
    NewHttpHandler = 5,
    /// A long poll, answered by [`vm::WaitForEventResponse`](crate::vm::WaitForEventResponse).
    WaitForEvent = 6,
    /// [`peer::ConnectedRequest`](crate::peer::ConnectedRequest).
    Connected = 7,
    /// [`peer::DisconnectedRequest`](crate::peer::DisconnectedRequest).
    Disconnected = 8,
    /// [`block::BuildBlockRequest`](crate::block::BuildBlockRequest), answered by
    /// [`block::BlockResponse`](crate::block::BlockResponse).
    BuildBlock = 9,
    /// [`block::ParseBlockRequest`](crate::block::ParseBlockRequest), answered by
    /// [`block::BlockResponse`](crate::block::BlockResponse).
    ParseBlock = 10,
    /// [`block::GetBlockRequest`](crate::block::GetBlockRequest), answered by
    /// [`block::BlockResponse`](crate::block::BlockResponse).
    GetBlock = 11,
    /// [`block::SetPreferenceRequest`](crate::block::SetPreferenceRequest).
    SetPreference = 12,
    /// Answered by [`health::HealthResponse`](crate::health::HealthResponse).
    Health = 13,
    /// Answered by [`vm::VersionResponse`](crate::vm::VersionResponse).
    Version = 14,
    /// [`peer::RequestMessage`](crate::peer::RequestMessage).
    Request = 15,
    /// [`peer::RequestFailedMessage`](crate::peer::RequestFailedMessage).
    RequestFailed = 16,
    /// [`peer::ResponseMessage`](crate::peer::ResponseMessage).
    Response = 17,
    /// [`peer::GossipMessage`](crate::peer::GossipMessage).
    Gossip = 18,
    /// The metrics; no node is known that asks, and no form of an answer is written down.
    Gather = 19,
    /// [`block::GetAncestorsRequest`](crate::block::GetAncestorsRequest), answered by
    /// [`block::GetAncestorsResponse`](crate::block::GetAncestorsResponse).
    GetAncestors = 20,
    /// [`block::BatchedParseBlockRequest`](crate::block::BatchedParseBlockRequest), answered by
    /// [`block::BatchedParseBlockResponse`](crate::block::BatchedParseBlockResponse).
    BatchedParseBlock = 21,
    /// [`block::GetBlockIdAtHeightRequest`](crate::block::GetBlockIdAtHeightRequest), answered by
    /// [`block::GetBlockIdAtHeightResponse`](crate::block::GetBlockIdAtHeightResponse).
    GetBlockIdAtHeight = 22,
    /// Answered by [`summary::StateSyncEnabledResponse`](crate::summary::StateSyncEnabledResponse).
    StateSyncEnabled = 23,
    /// Answered by [`summary::SummaryResponse`](crate::summary::SummaryResponse).
    GetOngoingSyncStateSummary = 24,
    /// Answered by [`summary::SummaryResponse`](crate::summary::SummaryResponse).
    GetLastStateSummary = 25,
    /// [`summary::ParseStateSummaryRequest`](crate::summary::ParseStateSummaryRequest), answered
    /// by [`summary::SummaryResponse`](crate::summary::SummaryResponse).
    ParseStateSummary = 26,
    /// [`summary::GetStateSummaryRequest`](crate::summary::GetStateSummaryRequest), answered by
    /// [`summary::SummaryResponse`](crate::summary::SummaryResponse).
    GetStateSummary = 27,
    /// [`block::BlockVerifyRequest`](crate::block::BlockVerifyRequest), answered by
    /// [`block::BlockVerifyResponse`](crate::block::BlockVerifyResponse).
    BlockVerify = 28,
    /// [`block::BlockAcceptRequest`](crate::block::BlockAcceptRequest).
    BlockAccept = 29,
    /// [`block::BlockRejectRequest`](crate::block::BlockRejectRequest).
    BlockReject = 30,
    /// [`summary::StateSummaryAcceptRequest`](crate::summary::StateSummaryAcceptRequest), answered
    /// by [`summary::StateSummaryAcceptResponse`](crate::summary::StateSummaryAcceptResponse).
    StateSummaryAccept = 31,
}

impl Call {
    /// Every call, in the order of their numbers.
    pub const ALL: [Self; 31] = [
        Self::Initialize,
        Self::SetState,
        Self::Shutdown,
        Self::CreateHandlers,
        Self::NewHttpHandler,
        Self::WaitForEvent,
        Self::Connected,
        Self::Disconnected,
        Self::BuildBlock,
        Self::ParseBlock,
        Self::GetBlock,
        Self::SetPreference,
        Self::Health,
        Self::Version,
        Self::Request,
        Self::RequestFailed,
        Self::Response,
        Self::Gossip,
        Self::Gather,
        Self::GetAncestors,
        Self::BatchedParseBlock,
        Self::GetBlockIdAtHeight,
        Self::StateSyncEnabled,
        Self::GetOngoingSyncStateSummary,
        Self::GetLastStateSummary,
        Self::ParseStateSummary,
        Self::GetStateSummary,
        Self::BlockVerify,
        Self::BlockAccept,
        Self::BlockReject,
        Self::StateSummaryAccept,
    ];

    /// The kind of its frames.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The call of a kind; none for kinds that are not a plugin's to answer.
    pub fn from_code(code: u8) -> Option<Self> {
        let at = usize::from(code).checked_sub(1)?;
        Self::ALL.get(at).copied()
    }
}

impl From<Call> for u8 {
    fn from(call: Call) -> Self {
        call.code()
    }
}
