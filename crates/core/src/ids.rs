//! Typed 32-byte ids. Swapping two of them does not compile; no constructor truncates or pads.
//!
//! Ids print as CB58 (`spec/wire.md` §4). [`ChainId`] also knows Lux's native chains, which are
//! written as 32 ones and a letter and carry no checksum.

use crate::cb58::{self, Cb58Error};
use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};

/// Bytes were not 32 long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an id has 32 bytes, got {got}")]
pub struct WrongIdLength {
    /// Bytes given.
    pub got: usize,
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The id with these bytes.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The 32 bytes.
            pub const fn to_bytes(self) -> [u8; 32] {
                self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = WrongIdLength;
            fn try_from(bytes: &[u8]) -> Result<Self, WrongIdLength> {
                bytes.try_into().map(Self).map_err(|_| WrongIdLength { got: bytes.len() })
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl Encode for $name {
            fn encode(&self, out: &mut Writer) {
                out.raw(&self.0);
            }
        }

        impl Decode for $name {
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                input.array(stringify!($name)).map(Self)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    )*};
}

macro_rules! cb58_text {
    ($($name:ident)*) => {$(
        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.pad(cb58::encode(&self.0).as_str())
            }
        }

        impl core::str::FromStr for $name {
            type Err = Cb58Error;
            fn from_str(text: &str) -> Result<Self, Cb58Error> {
                cb58::decode(text).map(Self)
            }
        }
    )*};
}

macro_rules! serde_text {
    ($($name:ident)*) => {$(
        #[cfg(feature = "serde")]
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        #[cfg(feature = "serde")]
        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(input)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

ids! {
    /// A chain: the host's id, or the hash of a stand-alone genesis.
    ChainId;
    /// An account: BLAKE2b-256 of its original public keys, or a legacy X25519 key.
    AccountId;
    /// A conversation with fixed participants and a time to live.
    SessionId;
    /// A public roster with roles and no end.
    ChannelId;
    /// A conversation without a roster: also the group id of MLS (RFC 9420 §8.1).
    GroupId;
    /// One message; also what its signature covers.
    MessageId;
    /// A content-addressed chunk.
    ChunkId;
    /// One device of an account, as its account names it.
    DeviceId;
    /// A published key package (RFC 9420 §10): hash of its bytes.
    KeyPackageId;
    /// What a transaction's signature covers.
    ActionId;
    /// A transaction with its signature.
    TxId;
    /// A block.
    BlockId;
    /// A plain 32-byte digest without a more precise noun.
    Digest;
    /// A service of the execution layer.
    ServiceId;
    /// A node of the execution layer.
    NodeId;
    /// A session of the execution layer (`spec/wire.md` §2).
    ServiceSessionId;
    /// An oracle request.
    RequestId;
    /// An oracle record.
    RecordId;
    /// An attestation.
    AttestationId;
    /// A delivery receipt.
    ReceiptId;
    /// An epoch beacon.
    BeaconId;
}

cb58_text! {
    AccountId SessionId ChannelId GroupId MessageId ChunkId DeviceId KeyPackageId ActionId TxId BlockId Digest ServiceId NodeId
    ServiceSessionId RequestId RecordId AttestationId ReceiptId BeaconId
}

serde_text! {
    ChainId AccountId SessionId ChannelId GroupId MessageId ChunkId DeviceId KeyPackageId ActionId TxId BlockId Digest ServiceId
    NodeId ServiceSessionId RequestId RecordId AttestationId ReceiptId BeaconId
}

/// Letters of Lux's native chains, from platform to knowledge.
const NATIVE_LETTERS: &[u8] = b"PCXQABTZGIK";
const NATIVE_PREFIX: &str = "11111111111111111111111111111111";

impl ChainId {
    /// The native chain with this letter (either case), if Lux has one.
    pub fn native(letter: char) -> Option<Self> {
        let letter = u8::try_from(letter).ok()?.to_ascii_uppercase();
        NATIVE_LETTERS.contains(&letter).then(|| {
            let mut bytes = [0; 32];
            if let Some(last) = bytes.last_mut() {
                *last = letter;
            }
            Self(bytes)
        })
    }

    /// The letter of a native chain.
    pub fn native_letter(&self) -> Option<char> {
        let (last, zeros) = self.0.split_last()?;
        (zeros.iter().all(|b| *b == 0) && NATIVE_LETTERS.contains(last)).then_some(*last as char)
    }
}

impl core::fmt::Display for ChainId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.native_letter() {
            Some(letter) => write!(f, "{NATIVE_PREFIX}{letter}"),
            None => f.pad(cb58::encode(&self.0).as_str()),
        }
    }
}

impl core::str::FromStr for ChainId {
    type Err = Cb58Error;

    /// CB58, or a native chain as 32 ones and its letter, or the letter alone.
    fn from_str(text: &str) -> Result<Self, Cb58Error> {
        let letter = text.strip_prefix(NATIVE_PREFIX).unwrap_or(text);
        let mut letters = letter.chars();
        if let (Some(only), None) = (letters.next(), letters.next())
            && (only.is_ascii_uppercase() || text.len() == 1)
            && let Some(id) = Self::native(only)
        {
            return Ok(id);
        }
        cb58::decode(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_take_exactly_32_bytes() {
        assert_eq!(
            TxId::try_from(&[1u8; 31][..]),
            Err(WrongIdLength { got: 31 })
        );
        assert_eq!(
            TxId::try_from(&[1u8; 33][..]),
            Err(WrongIdLength { got: 33 })
        );
        assert_eq!(
            TxId::try_from(&[1u8; 32][..]),
            Ok(TxId::from_bytes([1; 32]))
        );
    }

    #[test]
    fn native_chains_print_as_ones_and_a_letter() {
        for letter in "PCXQABTZGIK".chars() {
            let id = ChainId::native(letter).unwrap();
            let text = format!("{NATIVE_PREFIX}{letter}");
            assert_eq!(id.to_string(), text);
            assert_eq!(text.parse(), Ok(id));
            assert_eq!(letter.to_string().parse(), Ok(id));
            assert_eq!(letter.to_ascii_lowercase().to_string().parse(), Ok(id));
            assert_eq!(id.to_bytes()[31], letter as u8);
        }
        assert!(ChainId::native('D').is_none());
        // 32 ones and a small letter is neither a native chain nor valid CB58.
        assert!(format!("{NATIVE_PREFIX}p").parse::<ChainId>().is_err());
        // The empty id is CB58 like any other.
        let empty = ChainId::from_bytes([0; 32]);
        assert_eq!(empty.to_string(), "11111111111111111111111111111111LpoYY");
        assert_eq!(empty.to_string().parse(), Ok(empty));
    }
}
