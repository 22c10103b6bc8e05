//! Ids of the host network: 32 bytes for chains, subnets, transactions and VMs, 20 for nodes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use session_core::cb58;
use session_core::hash::sha256;

/// Digits of base58, smallest first.
const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

/// What stands before a node's id.
const NODE_PREFIX: &str = "NodeID-";

/// A text that is not the id it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not an id of {1} bytes in CB58")]
pub struct IdError(String, usize);

/// A chain, subnet, transaction, asset or VM: 32 bytes, printed in CB58.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id([u8; 32]);

impl Id {
    /// The id with these 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The id of a transaction: SHA-256 of its signed bytes.
    pub fn of_tx(signed: &[u8]) -> Self {
        Self(sha256(signed))
    }

    /// Its 32 bytes.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(cb58::encode(&self.0).as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bytes = cb58::decode(text).map_err(|_| IdError(text.to_owned(), 32))?;
        Ok(Self(bytes))
    }
}

/// A node, by the hash of its certificate: 20 bytes, printed as `NodeID-` and CB58.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; 20]);

impl NodeId {
    /// The id with these 20 bytes.
    pub const fn new(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    /// Its 20 bytes.
    pub const fn to_bytes(self) -> [u8; 20] {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.0.to_vec();
        bytes.extend(checksum(&self.0));
        write!(f, "{NODE_PREFIX}{}", base58_encode(&bytes))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for NodeId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let wrong = || IdError(text.to_owned(), 20);
        let digits = text.strip_prefix(NODE_PREFIX).unwrap_or(text);
        let bytes: [u8; 24] = base58_decode(digits).ok_or_else(wrong)?;
        let (id, check) = bytes.split_at(20);
        let id: [u8; 20] = id.try_into().map_err(|_| wrong())?;
        if checksum(&id) != check {
            return Err(wrong());
        }
        Ok(Self(id))
    }
}

/// Serialized as they are printed.
macro_rules! text_serde {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

text_serde!(Id, NodeId);

/// The last 4 bytes of SHA-256.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 4] {
    let [.., a, b, c, d] = sha256(bytes);
    [a, b, c, d]
}

/// Few and short: the plain way, a digit at a time.
fn base58_encode(bytes: &[u8]) -> String {
    let mut rest = bytes.to_vec();
    let mut digits = Vec::new();
    while rest.iter().any(|byte| *byte != 0) {
        let mut remainder = 0u32;
        for byte in &mut rest {
            let value = remainder * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 58).unwrap_or(u8::MAX);
            remainder = value % 58;
        }
        let digit = ALPHABET.get(remainder as usize).copied();
        digits.push(digit.unwrap_or_default());
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    digits.extend(std::iter::repeat_n(b'1', zeros));
    digits
        .iter()
        .rev()
        .map(|digit| char::from(*digit))
        .collect()
}

/// Exactly `N` bytes, or nothing.
fn base58_decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    for digit in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == digit)?;
        let mut carry = u32::try_from(value).ok()?;
        for byte in bytes.iter_mut().rev() {
            carry += u32::from(*byte) * 58;
            *byte = u8::try_from(carry % 256).ok()?;
            carry /= 256;
        }
        if carry != 0 {
            return None;
        }
    }
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let ones = text.bytes().take_while(|digit| *digit == b'1').count();
    (zeros == ones).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_ids_read_and_print_as_the_node_does() {
        for text in [
            "NodeID-7Xhw2mDxuDS44j42TCB6U5579esbSt3Lg",
            "NodeID-P7oB2McjBGgW2NXXWVYjV8JEDFoW9xDE5",
        ] {
            let id: NodeId = text.parse().unwrap();
            assert_eq!(id.to_string(), text);
        }
        let zero = NodeId::new([0; 20]);
        assert_eq!(zero.to_string().parse(), Ok(zero));
        assert_eq!(zero.to_string(), "NodeID-111111111111111111116DBWJs");
    }

    #[test]
    fn a_wrong_node_id_is_refused() {
        for text in [
            "NodeID-7Xhw2mDxuDS44j42TCB6U5579esbSt3Lh",
            "NodeID-",
            "7Xhw2mDxuDS44j42TCB6U5579esbSt3L",
            "NodeID-0Xhw2mDxuDS44j42TCB6U5579esbSt3Lg",
            "NodeID-17Xhw2mDxuDS44j42TCB6U5579esbSt3Lg",
        ] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn ids_are_texts_in_json() {
        let text = "\"speKUgLBX6WRD5cfGeEfLa43LxTXUBckvtv4td6F3eTXvRP48\"";
        let id: Id = serde_json::from_str(text).unwrap();
        assert_eq!(&id.to_bytes()[..9], b"sessionvm");
        assert_eq!(serde_json::to_string(&id).unwrap(), text);
    }
}
