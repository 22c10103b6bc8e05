//! Steps of a session, and their stored record.

use super::vote::Domain;
use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::ids::{AttestationId, Digest, RequestId, TxId};
use crate::time::UnixNanos;

/// Bytes of a stored step, always.
pub const STORED_STEP_LEN: usize = 4 + 1 + 32 + 4 + 32 + 32 + 32 + 32 + 32 + 1 + 8 + 8;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(u32);

        impl $name {
            /// The one with this number.
            pub const fn new(number: u32) -> Self {
                Self(number)
            }

            /// Its number.
            pub const fn number(self) -> u32 {
                self.0
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Writer) {
                out.u32(self.0);
            }
        }

        impl Decode for $name {
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                input.u32($what).map(Self)
            }
        }
    };
}

number! {
    /// Place of a step in its session, from 0.
    StepIndex, "step index"
}

number! {
    /// How often a step was tried before.
    Retry, "retry index"
}

byte_enum! {
    /// What a step does.
    StepKind, "step kind" {
        /// Computes, and touches nothing outside.
        Compute = 0,
        /// Writes to the world.
        WriteExternal = 1,
        /// Reads from the world.
        ReadExternal = 2,
    }
}

byte_enum! {
    /// How far a step is.
    StepState, "step state" {
        /// Not begun.
        Pending = 0,
        /// Running.
        Executing = 1,
        /// Waiting for the world.
        Waiting = 2,
        /// Done.
        Completed = 3,
        /// Given up.
        Failed = 4,
    }
}

/// A compute step has nothing to attest. The published text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("step kind does not require attestation")]
pub struct NoAttestation;

impl StepKind {
    /// The domain under which a step of this kind is attested.
    ///
    /// # Errors
    /// [`NoAttestation`] for [`StepKind::Compute`].
    pub const fn domain(self) -> Result<Domain, NoAttestation> {
        match self {
            Self::Compute => Err(NoAttestation),
            Self::WriteExternal => Ok(Domain::OracleWrite),
            Self::ReadExternal => Ok(Domain::OracleRead),
        }
    }
}

/// A step as the published node stores it. What has not happened yet is zero there, and stays so
/// here: this is their record, for import and comparison, not our model of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredStep {
    /// Place in the session.
    pub index: StepIndex,
    /// What it does.
    pub kind: StepKind,
    /// Its oracle request.
    pub request: RequestId,
    /// How often it was tried before.
    pub retry: Retry,
    /// Its transaction.
    pub tx: TxId,
    /// Hash of what went in.
    pub input: Digest,
    /// Hash of what came out.
    pub output: Digest,
    /// Committed root of the oracle records.
    pub oracle_commit_root: Digest,
    /// Attestation of that root.
    pub attestation: AttestationId,
    /// How far it is.
    pub state: StepState,
    /// When it began.
    pub started: UnixNanos,
    /// When it ended.
    pub completed: UnixNanos,
}

impl Encode for StoredStep {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.index)
            .value(&self.kind)
            .value(&self.request)
            .value(&self.retry)
            .value(&self.tx)
            .value(&self.input)
            .value(&self.output)
            .value(&self.oracle_commit_root)
            .value(&self.attestation)
            .value(&self.state)
            .value(&self.started)
            .value(&self.completed);
    }
}

impl Decode for StoredStep {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            index: StepIndex::decode(input)?,
            kind: StepKind::decode(input)?,
            request: RequestId::decode(input)?,
            retry: Retry::decode(input)?,
            tx: TxId::decode(input)?,
            input: Digest::decode(input)?,
            output: Digest::decode(input)?,
            oracle_commit_root: Digest::decode(input)?,
            attestation: AttestationId::decode(input)?,
            state: StepState::decode(input)?,
            started: UnixNanos::decode(input)?,
            completed: UnixNanos::decode(input)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_steps_that_touch_the_world_are_attested() {
        assert_eq!(StepKind::WriteExternal.domain(), Ok(Domain::OracleWrite));
        assert_eq!(StepKind::ReadExternal.domain(), Ok(Domain::OracleRead));
        assert_eq!(
            StepKind::Compute.domain().unwrap_err().to_string(),
            "step kind does not require attestation"
        );
    }

    #[test]
    fn a_stored_step_has_218_bytes_and_known_numbers() {
        assert_eq!(STORED_STEP_LEN, 218);
        let mut bytes = [0; STORED_STEP_LEN];
        let step = StoredStep::from_bytes(&bytes).unwrap();
        assert_eq!(step.to_bytes(), bytes);
        assert!(StoredStep::from_bytes(&bytes[1..]).is_err());
        assert!(StoredStep::from_bytes(&[&bytes[..], &[0]].concat()).is_err());
        // Kind is byte 4, state byte 201.
        for (at, first_unknown) in [(4, 3), (201, 5)] {
            bytes[at] = first_unknown - 1;
            assert!(StoredStep::from_bytes(&bytes).is_ok());
            bytes[at] = first_unknown;
            assert!(StoredStep::from_bytes(&bytes).is_err());
            bytes[at] = 0;
        }
    }
}
