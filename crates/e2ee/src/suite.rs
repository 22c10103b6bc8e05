//! Which cryptography a group uses. The number is ours: the provisional code points of the library
//! will change their meaning before they are a standard, and what is stored must say which it was.

use openmls::prelude::Ciphersuite;
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// An application-level suite version. Moving to another is a successor group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// `MLS_192_MLKEM768_AES256GCM_SHA384_MLDSA65`, code point 0x0051 of openmls 0.9.2. Number 1.
    PostQuantum,
    /// `MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519`, for tests that need many groups quickly.
    #[cfg(feature = "testing")]
    Classical,
}

impl Suite {
    /// The number that is stored and sent.
    pub const fn number(self) -> u16 {
        match self {
            Self::PostQuantum => 1,
            #[cfg(feature = "testing")]
            Self::Classical => 0xff01,
        }
    }

    /// The suite with this number.
    pub const fn from_number(number: u16) -> Option<Self> {
        match number {
            1 => Some(Self::PostQuantum),
            #[cfg(feature = "testing")]
            0xff01 => Some(Self::Classical),
            _ => None,
        }
    }

    pub(crate) const fn ciphersuite(self) -> Ciphersuite {
        match self {
            Self::PostQuantum => Ciphersuite::MLS_192_MLKEM768_AES256GCM_SHA384_MLDSA65,
            #[cfg(feature = "testing")]
            Self::Classical => Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
        }
    }
}

impl Encode for Suite {
    fn encode(&self, out: &mut Writer) {
        out.u16(self.number());
    }
}

impl Decode for Suite {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = input.u16("suite")?;
        Self::from_number(number).ok_or(DecodeError::UnknownValue {
            what: "suite",
            value: number.into(),
        })
    }
}
