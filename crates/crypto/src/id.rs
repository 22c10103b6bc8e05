//! Session ids: what people exchange (`spec/wire.md` §1).

use session_core::ids::AccountId;

/// A session id: one prefix byte and an account id, 66 lower-case hex characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityId {
    /// `05`: the X25519 key of an account of the Session network.
    Legacy(AccountId),
    /// `07`: BLAKE2b-256 of a post-quantum account's public keys.
    Pq(AccountId),
}

/// Characters of a session id.
pub const ID_CHARS: usize = 66;

/// Why text is not a session id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not 66 characters.
    #[error("a session id has {ID_CHARS} characters, got {got}")]
    Length {
        /// Bytes of the text.
        got: usize,
    },
    /// A character other than `0-9a-f`. Upper case is refused: an id has one spelling.
    #[error("a session id is lower-case hex")]
    NotLowerHex,
    /// A kind of account that we do not know.
    #[error("a session id starts with 05 or 07, not {0:02x}")]
    UnknownPrefix(u8),
}

impl IdentityId {
    /// The prefix byte.
    pub const fn prefix(&self) -> u8 {
        match self {
            Self::Legacy(_) => 0x05,
            Self::Pq(_) => 0x07,
        }
    }

    /// The 32 bytes after the prefix.
    pub const fn account_id(&self) -> AccountId {
        match self {
            Self::Legacy(id) | Self::Pq(id) => *id,
        }
    }
}

impl core::fmt::Display for IdentityId {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let text = format!(
            "{:02x}{}",
            self.prefix(),
            const_hex::encode(self.account_id())
        );
        f.pad(&text)
    }
}

impl core::str::FromStr for IdentityId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.len() != ID_CHARS {
            return Err(IdError::Length { got: text.len() });
        }
        if !text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(IdError::NotLowerHex);
        }
        let bytes: [u8; ID_CHARS / 2] =
            const_hex::decode_to_array(text).map_err(|_| IdError::NotLowerHex)?;
        let [prefix, id @ ..] = bytes;
        match prefix {
            0x05 => Ok(Self::Legacy(AccountId::from_bytes(id))),
            0x07 => Ok(Self::Pq(AccountId::from_bytes(id))),
            unknown => Err(IdError::UnknownPrefix(unknown)),
        }
    }
}

impl serde::Serialize for IdentityId {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for IdentityId {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(input)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_has_one_spelling() {
        let text = format!("07{}", "ab".repeat(32));
        let id: IdentityId = text.parse().unwrap();
        assert_eq!(id, IdentityId::Pq(AccountId::from_bytes([0xab; 32])));
        assert_eq!(id.to_string(), text);
        assert_eq!(
            text.to_uppercase().parse::<IdentityId>(),
            Err(IdError::NotLowerHex)
        );
        assert_eq!(
            text[..64].parse::<IdentityId>(),
            Err(IdError::Length { got: 64 })
        );
        let other = format!("06{}", "ab".repeat(32));
        assert_eq!(other.parse::<IdentityId>(), Err(IdError::UnknownPrefix(6)));
        let prefixed = format!("0x{}", "ab".repeat(32));
        assert_eq!(prefixed.parse::<IdentityId>(), Err(IdError::NotLowerHex));
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read(bytes: [u8; 32], legacy: bool) {
            let id = AccountId::from_bytes(bytes);
            let id = if legacy { IdentityId::Legacy(id) } else { IdentityId::Pq(id) };
            prop_assert_eq!(id.to_string().parse(), Ok(id));
        }

        #[test]
        fn whatever_is_read_prints_the_same(text in "0[57][0-9a-fA-F]{62,66}") {
            if let Ok(id) = text.parse::<IdentityId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
