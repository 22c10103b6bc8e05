//! What names a state: the header of its block.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::sha256;
use session_core::header::Header;

const VERSION: u8 = 1;

/// A state that can be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Header of the block after which it is the state.
    pub(crate) header: Header,
}

impl Summary {
    /// SHA-256 of its bytes.
    pub(crate) fn id(&self) -> [u8; 32] {
        sha256(&self.to_bytes())
    }
}

impl Encode for Summary {
    fn encode(&self, out: &mut Writer) {
        out.u8(VERSION).value(&self.header);
    }
}

impl Decode for Summary {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("summary version")? {
            VERSION => Ok(Self {
                header: Header::decode(input)?,
            }),
            value => Err(DecodeError::UnknownValue {
                what: "summary version",
                value: value.into(),
            }),
        }
    }
}
