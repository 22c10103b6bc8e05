//! Sessions of the execution layer, and their stored record. Not to be confused with a
//! conversation, [`crate::session`].

use super::beacon::Epoch;
use super::step::StepIndex;
use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::Tag;
use crate::ids::{Digest, NodeId, ServiceId, ServiceSessionId, TxId};
use crate::limits::{COMMITTEE_MAX, SESSION_ERROR_MAX};
use crate::time::UnixNanos;

/// Id of a session: `"LUX:Session:v1" || service || u64 epoch || tx`, hashed.
pub fn session_id(service: &ServiceId, epoch: Epoch, tx: &TxId) -> ServiceSessionId {
    ServiceSessionId::from_bytes(Tag::PublishedSession.hash_published(&[
        service.as_bytes(),
        &epoch.number().to_be_bytes(),
        tx.as_bytes(),
    ]))
}

byte_enum! {
    /// How far a session is.
    SessionState, "session state" {
        /// Not begun.
        Pending = 0,
        /// Running.
        Running = 1,
        /// Waiting for the world.
        WaitingIo = 2,
        /// Done, with a result.
        Finalized = 3,
        /// Given up.
        Failed = 4,
    }
}

impl SessionState {
    /// The published word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::WaitingIo => "waiting_io",
            Self::Finalized => "finalized",
            Self::Failed => "failed",
        }
    }
}

/// A session as the published node stores it, for import and comparison. What has not happened yet
/// is zero or empty. Its transaction and its steps are not part of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    /// Session.
    pub id: ServiceSessionId,
    /// Service that it runs.
    pub service: ServiceId,
    /// Epoch whose committee runs it.
    pub epoch: Epoch,
    /// That committee. At most 21 nodes.
    pub committee: Vec<NodeId>,
    /// How far it is.
    pub state: SessionState,
    /// Step that it is at.
    pub current_step: StepIndex,
    /// Hash of the result.
    pub output: Digest,
    /// Root over the oracle roots.
    pub oracle_root: Digest,
    /// Root over the receipts.
    pub receipts_root: Digest,
    /// When it was created.
    pub created: UnixNanos,
    /// When it ended.
    pub finalized: UnixNanos,
    /// Why it failed. At most 64 KiB.
    pub error: String,
}

impl Encode for StoredSession {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.id)
            .value(&self.service)
            .value(&self.epoch)
            .list(&self.committee)
            .value(&self.state)
            .value(&self.current_step)
            .value(&self.output)
            .value(&self.oracle_root)
            .value(&self.receipts_root)
            .value(&self.created)
            .value(&self.finalized)
            .bytes(self.error.as_bytes());
    }
}

impl Decode for StoredSession {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = "session error";
        Ok(Self {
            id: ServiceSessionId::decode(input)?,
            service: ServiceId::decode(input)?,
            epoch: Epoch::decode(input)?,
            committee: input.list("committee", COMMITTEE_MAX, 32)?,
            state: SessionState::decode(input)?,
            current_step: StepIndex::decode(input)?,
            output: Digest::decode(input)?,
            oracle_root: Digest::decode(input)?,
            receipts_root: Digest::decode(input)?,
            created: UnixNanos::decode(input)?,
            finalized: UnixNanos::decode(input)?,
            error: core::str::from_utf8(input.bytes(what, SESSION_ERROR_MAX)?)
                .map_err(|_| DecodeError::Invalid { what })?
                .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_published_words() {
        let words: Vec<_> = (0..=5).map(SessionState::from_number).collect();
        let words: Vec<_> = words
            .iter()
            .map(|state| state.map(SessionState::as_str))
            .collect();
        let published = ["pending", "running", "waiting_io", "finalized", "failed"];
        let mut expected: Vec<_> = published.map(Some).into();
        expected.push(None);
        assert_eq!(words, expected);
    }

    #[test]
    fn stored_sessions_read_back_and_their_counts_are_bounded() {
        let session = StoredSession {
            id: ServiceSessionId::from_bytes([1; 32]),
            service: ServiceId::from_bytes([2; 32]),
            epoch: Epoch::new(3),
            committee: vec![NodeId::from_bytes([4; 32]); 21],
            state: SessionState::WaitingIo,
            current_step: StepIndex::new(5),
            output: Digest::from_bytes([6; 32]),
            oracle_root: Digest::from_bytes([7; 32]),
            receipts_root: Digest::from_bytes([8; 32]),
            created: UnixNanos::from_ns(-9),
            finalized: UnixNanos::from_ns(i64::MIN),
            error: "späť".to_owned(),
        };
        let mut bytes = session.to_bytes();
        assert_eq!(StoredSession::from_bytes(&bytes), Ok(session.clone()));
        let error_at = bytes.len() - session.error.len();
        bytes[error_at] = 0xff;
        let what = "session error";
        let refused = Err(DecodeError::Invalid { what });
        assert_eq!(StoredSession::from_bytes(&bytes), refused);
        bytes[error_at - 4] = 1;
        assert!(matches!(
            StoredSession::from_bytes(&bytes),
            Err(DecodeError::TooLong {
                limit: 0x1_0000,
                ..
            })
        ));
        // The committee's count begins at byte 72.
        bytes[75] = 22;
        assert!(matches!(
            StoredSession::from_bytes(&bytes),
            Err(DecodeError::TooLong { claimed: 22, .. })
        ));
    }
}
