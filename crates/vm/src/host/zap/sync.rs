//! Calls of state sync: none is offered over this wire.

use session_zap::block::Failure;
use session_zap::summary::{
    GetStateSummaryRequest, ParseStateSummaryRequest, StateSummaryAcceptRequest,
    StateSummaryAcceptResponse, StateSyncEnabledResponse, SummaryResponse,
};

/// What `Initialize` says about it.
pub(super) const CAPABILITIES: u64 = 0;

const NONE: Failure = Failure::STATE_SYNC_NOT_IMPLEMENTED;

fn no_summary() -> SummaryResponse {
    SummaryResponse {
        failure: NONE,
        ..SummaryResponse::default()
    }
}

/// Whether a state is taken over from others.
pub(super) const fn enabled() -> StateSyncEnabledResponse {
    StateSyncEnabledResponse {
        enabled: false,
        failure: NONE,
    }
}

/// The summary that is being taken over.
pub(super) fn ongoing() -> SummaryResponse {
    no_summary()
}

/// The newest summary that is offered.
pub(super) fn last() -> SummaryResponse {
    no_summary()
}

/// Reads somebody's summary.
pub(super) fn parse(_: &ParseStateSummaryRequest) -> SummaryResponse {
    no_summary()
}

/// The summary of a height.
pub(super) fn at(_: &GetStateSummaryRequest) -> SummaryResponse {
    no_summary()
}

/// Begins to take a summary's state over.
pub(super) const fn accept(_: &StateSummaryAcceptRequest) -> StateSummaryAcceptResponse {
    StateSummaryAcceptResponse {
        mode: 0,
        failure: NONE,
    }
}
