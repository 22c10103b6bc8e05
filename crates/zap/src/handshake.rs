//! What a plugin says first, on a connection of its own to the address it was started with.

use session_core::codec::{DecodeError, Reader, Writer};

/// The protocol of Lux nodes. It must be equal on both sides.
pub const PROTOCOL: u32 = 42;

/// The node's answer if it takes the plugin; it closes the connection if it does not.
pub const TAKEN: u8 = 1;

/// Bytes of an address at most: a host and a port, or the path of a socket.
pub const ADDRESS_BYTES_MAX: usize = 4 << 10;

/// The plugin's words: protocol, and where it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// [`PROTOCOL`].
    pub protocol: u32,
    /// Where the plugin listens.
    pub address: String,
}

impl Handshake {
    /// The bytes on the wire.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.count(4 + self.address.len())
            .u32(self.protocol)
            .raw(self.address.as_bytes());
        out.into_bytes()
    }

    /// Bytes that follow the length that a handshake begins with.
    ///
    /// # Errors
    /// [`DecodeError::TooLong`], [`DecodeError::TooShort`].
    pub fn length(first: [u8; 4]) -> Result<usize, DecodeError> {
        let claimed = u32::from_be_bytes(first);
        let what = "handshake";
        if claimed < 4 {
            let claimed = claimed.into();
            return Err(DecodeError::TooShort {
                what,
                claimed,
                minimum: 4,
            });
        }
        let limit = 4 + ADDRESS_BYTES_MAX;
        let length = usize::try_from(claimed).unwrap_or(usize::MAX);
        if length > limit {
            return Err(DecodeError::TooLong {
                what,
                claimed: claimed.into(),
                limit: limit as u64,
            });
        }
        Ok(length)
    }

    /// What follows the length.
    ///
    /// # Errors
    /// [`DecodeError::Truncated`], and [`DecodeError::Invalid`] where the address is no text.
    pub fn read(rest: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(rest);
        let protocol = input.u32("protocol")?;
        let address = input.take("address", input.remaining())?;
        let address = String::from_utf8(address.to_vec());
        let address = address.map_err(|_| DecodeError::Invalid { what: "address" })?;
        Ok(Self { protocol, address })
    }
}
