//! Errors of the RPC: one stable table of codes.

use serde_json::{Value, json};
use session_chain::mempool::PoolError;
use session_chain::proof::MakeError;
use session_chain::state::TxError;
use session_chain::view::ViewError;
use session_core::cb58::Cb58Error;
use session_core::codec::DecodeError;
use session_core::group::StalePost;

use crate::prover::ProverError;
use crate::submission::SubmitError;

/// Code, name and meaning of every error. Codes never change their meaning.
pub const CODES: &[(i32, &str, &str)] = &[
    (PARSE, "parse error", "The request is not JSON."),
    (
        INVALID_REQUEST,
        "invalid request",
        "The request is not a JSON-RPC request.",
    ),
    (
        METHOD_NOT_FOUND,
        "method not found",
        "No method has that name.",
    ),
    (
        INVALID_PARAMS,
        "invalid params",
        "A parameter is missing, malformed or out of range.",
    ),
    (
        INTERNAL,
        "internal error",
        "The node failed; its log says why.",
    ),
    (
        NOT_FOUND,
        "not found",
        "What was asked for is not in the state.",
    ),
    (
        UNKNOWN_SESSION,
        "unknown session",
        "No session has that id.",
    ),
    (
        SESSION_ENDED,
        "session expired or closed",
        "The session takes no messages any more.",
    ),
    (
        SESSION_FULL,
        "session full",
        "The session has all the messages it may ever have.",
    ),
    (UNAUTHORIZED, "unauthorized", "The signer may not do that."),
    (
        SIGNATURE,
        "invalid signature",
        "The signature is missing or does not hold.",
    ),
    (
        UNKNOWN_ACCOUNT,
        "unknown account",
        "The account is not registered, or revoked.",
    ),
    (
        REFUSED,
        "refused",
        "The transaction does not apply to the state.",
    ),
    (
        EXPIRED,
        "expired",
        "The transaction's valid_until has passed, or lies too far ahead.",
    ),
    (
        BUSY,
        "busy",
        "Too much is waiting, transactions or proofs: data.retryMs says when to try again.",
    ),
    (
        LIMIT,
        "limit reached",
        "A quota is used up: data.retryMs says when to try again, if ever.",
    ),
    (
        PENDING,
        "pending",
        "Not accepted yet when the wait ended: data names the transaction.",
    ),
    (
        STORAGE_FULL,
        "storage full",
        "The node's disk is full; nothing was accepted.",
    ),
    (
        UNAVAILABLE,
        "unavailable",
        "The node cannot accept anything now.",
    ),
    (
        PRUNED,
        "pruned",
        "What was asked for is no longer stored; of a log, data.first is the first that is.",
    ),
    (
        MESSAGE_KNOWN,
        "message known",
        "A message of the batch was accepted before: data.sequence.",
    ),
    (
        VERSION_NOT_KEPT,
        "version not kept",
        "The state after that block is no longer kept: data.oldest is the first height that is.",
    ),
    (
        GROUP_ENDED,
        "group ended",
        "The group takes nothing any more; data.successor names the one in which it goes on.",
    ),
    (
        BELOW_FLOOR,
        "below floor",
        "A removal ended the epoch: seal again. data.floor is the first epoch that is taken.",
    ),
    (
        EPOCH_OVER,
        "epoch over",
        "The epoch ended too long ago: seal again. data.epoch is the current one.",
    ),
    (
        EPOCH_AHEAD,
        "epoch ahead",
        "The epoch has not begun: data.epoch is the current one.",
    ),
    (
        WRONG_EPOCH,
        "wrong epoch",
        "Another commit was first: data.epoch is the current one.",
    ),
    (
        ADMIN_SIGNATURE,
        "admin signature",
        "It needs signatures of admin keys of the group that it lacks.",
    ),
    (
        BUDGET,
        "budget used up",
        "What was paid for the group is used up: anybody may top it up.",
    ),
    (
        NO_KEY_PACKAGES,
        "no key packages",
        "The account has no key package to give.",
    ),
];

/// Not JSON.
pub const PARSE: i32 = -32_700;
/// Not a request.
pub const INVALID_REQUEST: i32 = -32_600;
/// No such method.
pub const METHOD_NOT_FOUND: i32 = -32_601;
/// A parameter is wrong.
pub const INVALID_PARAMS: i32 = -32_602;
/// The node failed.
pub const INTERNAL: i32 = -32_603;
/// Nothing there.
pub const NOT_FOUND: i32 = -32_001;
/// No such session.
pub const UNKNOWN_SESSION: i32 = -32_002;
/// Expired or closed.
pub const SESSION_ENDED: i32 = -32_003;
/// Full.
pub const SESSION_FULL: i32 = -32_004;
/// Not allowed.
pub const UNAUTHORIZED: i32 = -32_005;
/// Signature missing or wrong.
pub const SIGNATURE: i32 = -32_006;
/// Account not registered, or revoked.
pub const UNKNOWN_ACCOUNT: i32 = -32_007;
/// Does not apply.
pub const REFUSED: i32 = -32_008;
/// Past its time.
pub const EXPIRED: i32 = -32_009;
/// Too much waits.
pub const BUSY: i32 = -32_010;
/// A quota is used up.
pub const LIMIT: i32 = -32_011;
/// Not accepted yet.
pub const PENDING: i32 = -32_012;
/// Disk full.
pub const STORAGE_FULL: i32 = -32_013;
/// Cannot accept now.
pub const UNAVAILABLE: i32 = -32_014;
/// No longer stored.
pub const PRUNED: i32 = -32_015;

/// A message of a batch was accepted before.
pub const MESSAGE_KNOWN: i32 = -32_016;

/// The state after that block is no longer kept.
pub const VERSION_NOT_KEPT: i32 = -32_017;

/// The group takes nothing any more.
pub const GROUP_ENDED: i32 = -32_018;

/// A post of an epoch that a removal ended.
pub const BELOW_FLOOR: i32 = -32_019;

/// A post of an epoch that ended too long ago.
pub const EPOCH_OVER: i32 = -32_020;

/// A post of an epoch that has not begun.
pub const EPOCH_AHEAD: i32 = -32_021;

/// An advance that another has overtaken.
pub const WRONG_EPOCH: i32 = -32_022;

/// An admin's signature, or more of them, is missing.
pub const ADMIN_SIGNATURE: i32 = -32_023;

/// What was paid for a group is used up.
pub const BUDGET: i32 = -32_024;

/// There is no key package to take.
pub const NO_KEY_PACKAGES: i32 = -32_025;

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    /// From [`CODES`].
    pub code: i32,
    /// What happened, in the words of the published node where it has any.
    pub message: String,
    /// Parameter at fault, which the published dialect does not name.
    pub param: Option<&'static str>,
    /// Facts for programs.
    pub data: Option<Value>,
}

impl RpcError {
    /// An error with a message.
    pub fn new(code: i32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            data: None,
        }
    }

    /// A wrong parameter.
    pub fn param(name: &'static str, message: impl std::fmt::Display) -> Self {
        let message = message.to_string();
        Self {
            code: INVALID_PARAMS,
            message,
            param: Some(name),
            data: None,
        }
    }

    /// Entries before `first` are no longer stored.
    pub fn pruned(first: u64) -> Self {
        Self {
            data: Some(json!({ "first": first })),
            ..Self::new(PRUNED, "pruned")
        }
    }

    /// The message with the parameter's name before it.
    pub fn full_message(&self) -> String {
        match self.param {
            Some(name) => format!("{name}: {}", self.message),
            None => self.message.clone(),
        }
    }

    fn retry(mut self, retry_ms: u64) -> Self {
        if retry_ms != u64::MAX {
            self.data = Some(json!({ "retryMs": retry_ms }));
        }
        self
    }
}

impl From<(&'static str, Cb58Error)> for RpcError {
    fn from((name, error): (&'static str, Cb58Error)) -> Self {
        Self::param(name, error)
    }
}

impl From<ViewError> for RpcError {
    fn from(error: ViewError) -> Self {
        tracing::error!(%error, "reading state failed");
        Self::new(INTERNAL, "the node failed to read its state")
    }
}

impl From<DecodeError> for RpcError {
    fn from(error: DecodeError) -> Self {
        Self::new(INVALID_PARAMS, error.to_string())
    }
}

impl From<MakeError> for RpcError {
    fn from(error: MakeError) -> Self {
        match error {
            MakeError::Range(_) | MakeError::TooMany(_) => {
                Self::new(INVALID_PARAMS, error.to_string())
            }
            MakeError::Pruned { first } => Self::pruned(first),
            MakeError::Absent => Self::new(NOT_FOUND, "not found"),
            MakeError::View(error) => error.into(),
            MakeError::Damaged(_) => {
                tracing::error!(%error, "making a proof failed");
                Self::new(INTERNAL, "the node failed to make the proof")
            }
        }
    }
}

impl From<TxError> for RpcError {
    fn from(error: TxError) -> Self {
        let code = match &error {
            TxError::UnknownSession => UNKNOWN_SESSION,
            TxError::SessionExpired | TxError::SessionClosed | TxError::ChannelClosed => {
                SESSION_ENDED
            }
            TxError::SessionFull => SESSION_FULL,
            TxError::UnknownChannel
            | TxError::NotAMember
            | TxError::UnknownGroup
            | TxError::UnknownChunk { .. } => NOT_FOUND,
            TxError::GroupIdle | TxError::GroupSuperseded { .. } => GROUP_ENDED,
            TxError::StalePost(StalePost::BelowFloor { .. }) => BELOW_FLOOR,
            TxError::StalePost(StalePost::Over { .. }) => EPOCH_OVER,
            TxError::StalePost(StalePost::Ahead { .. }) => EPOCH_AHEAD,
            TxError::WrongEpoch { .. } => WRONG_EPOCH,
            TxError::AdminSignatureRequired
            | TxError::NotAnAdmin
            | TxError::NotAMajority { .. } => ADMIN_SIGNATURE,
            TxError::BudgetUsedUp => BUDGET,
            TxError::NoKeyPackages => NO_KEY_PACKAGES,
            TxError::Unauthorized | TxError::LastOwner => UNAUTHORIZED,
            TxError::SignatureRequired | TxError::InvalidSignature | TxError::LegacyRefused => {
                SIGNATURE
            }
            TxError::UnknownAccount | TxError::Revoked | TxError::KeysNextBlock => UNKNOWN_ACCOUNT,
            TxError::Expired { .. } | TxError::ValidTooLong { .. } | TxError::GroupUntil { .. } => {
                EXPIRED
            }
            TxError::RateLimited { .. } | TxError::LimitReached { .. } => LIMIT,
            TxError::BlockFull => BUSY,
            TxError::MessageKnown { .. } => MESSAGE_KNOWN,
            TxError::InvalidKey
            | TxError::KeyMissing
            | TxError::TooFewParticipants { .. }
            | TxError::NotTheKeysAccount
            | TxError::AdminTwice
            | TxError::KeyPackageExpiry { .. }
            | TxError::Malformed(_) => INVALID_PARAMS,
            TxError::View(_) => INTERNAL,
            TxError::NotActive
            | TxError::BatchOnly
            | TxError::PostsOnly
            | TxError::GroupExists
            | TxError::NoSuccessor
            | TxError::KeyPackageKnown
            | TxError::AlreadyRegistered
            | TxError::OtherKeyRegistered
            | TxError::AlreadyAccepted
            | TxError::AlreadyAcknowledged
            | TxError::NotThatMany { .. }
            | TxError::AlreadyMember
            | TxError::InsufficientBalance
            | TxError::Duplicate { .. }
            | TxError::Tree(_) => REFUSED,
        };
        let this = Self::new(code, error.to_string());
        if let TxError::RateLimited { retry_ms, .. } = error {
            return this.retry(retry_ms);
        }
        let data = facts(&error);
        Self { data, ..this }
    }
}

/// What a program needs to know of an error.
fn facts(error: &TxError) -> Option<Value> {
    if let TxError::MessageKnown { sequence } = error {
        return Some(json!({ "sequence": sequence }));
    }
    if let TxError::GroupSuperseded { successor } = error {
        return Some(json!({ "successor": successor }));
    }
    if let TxError::WrongEpoch { current } = error {
        return Some(json!({ "epoch": current }));
    }
    let TxError::StalePost(stale) = error else {
        return None;
    };
    Some(match stale {
        StalePost::BelowFloor { floor } => json!({ "floor": floor }),
        StalePost::Over { current } | StalePost::Ahead { current } => json!({ "epoch": current }),
    })
}

impl From<ProverError> for RpcError {
    fn from(error: ProverError) -> Self {
        match error {
            ProverError::Busy { retry_ms } => Self::new(BUSY, error.to_string()).retry(retry_ms),
            ProverError::BrokeOff => {
                tracing::error!("making a proof broke off");
                Self::new(INTERNAL, error.to_string())
            }
        }
    }
}

impl From<SubmitError> for RpcError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::Tx(error) => error.into(),
            SubmitError::Pool(
                PoolError::Full { retry_ms }
                | PoolError::SenderFull { retry_ms }
                | PoolError::Evicted { retry_ms },
            )
            | SubmitError::Busy { retry_ms } => Self::new(BUSY, message).retry(retry_ms),
            SubmitError::Pool(PoolError::AlreadyPending) => Self::new(PENDING, message),
            SubmitError::ExpiredPending => Self::new(EXPIRED, message),
            SubmitError::StorageFull => Self::new(STORAGE_FULL, message),
            SubmitError::Storage(_) | SubmitError::ClockJumped { .. } | SubmitError::Stopping => {
                Self::new(UNAVAILABLE, message)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_once_in_the_table() {
        let mut codes: Vec<i32> = CODES.iter().map(|(code, _, _)| *code).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), CODES.len());
    }
}
