//! How a plugin says that it is well.

use session_core::codec::{DecodeError, Reader};

use crate::field::message;

message! {
    /// Answer to `Health`; a plugin that is not well answers with an error.
    pub struct HealthResponse {
        /// [`Details`] as bytes, or nothing.
        pub details: Vec<u8>,
    }
}

/// Names and values beside the answer. This one list is **little-endian**: `u32` count, then for
/// each a `u32` length and the name, a `u32` length and the value.
///
/// Nodes read these bytes as such a list whatever they are, and take room for the count first:
/// JSON in their place is a count of a thousand million.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Details(pub Vec<(String, String)>);

fn put(out: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    out.extend(length.to_le_bytes());
    out.extend(text.as_bytes());
}

fn length(input: &mut Reader<'_>, what: &'static str) -> Result<usize, DecodeError> {
    let length = u32::from_le_bytes(input.array(what)?);
    Ok(usize::try_from(length).unwrap_or(usize::MAX))
}

fn text(input: &mut Reader<'_>, what: &'static str) -> Result<String, DecodeError> {
    let length = length(input, what)?;
    let bytes = input.take(what, length)?.to_vec();
    String::from_utf8(bytes).map_err(|_| DecodeError::Invalid { what })
}

impl Details {
    /// The bytes of [`HealthResponse::details`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let mut out = count.to_le_bytes().to_vec();
        for (name, value) in &self.0 {
            put(&mut out, name);
            put(&mut out, value);
        }
        out
    }

    /// Reads them.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let count = length(&mut input, "details")?;
        // Two lengths each, so that the count is no reason for more memory than there are bytes.
        let needed = count.saturating_mul(8);
        if needed > input.remaining() {
            return Err(DecodeError::Truncated {
                what: "details",
                needed,
                left: input.remaining(),
            });
        }
        let pair = |input: &mut Reader<'_>| Ok((text(input, "name")?, text(input, "value")?));
        let pairs: Result<_, _> = (0..count).map(|_| pair(&mut input)).collect();
        let details = Self(pairs?);
        input.finish()?;
        Ok(details)
    }
}
