//! Frames: a length, a kind, a request id, the rest.

use session_core::codec::{Encode, Writer};

/// Payload bytes of one frame at most, request id included.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;

/// Bytes before the payload.
pub const HEADER_BYTES: usize = 5;

/// Set in the kind of every answer.
pub const RESPONSE: u8 = 0x80;

/// Set, beside [`RESPONSE`], in the kind of an answer that is an error.
pub const ERROR: u8 = 0x40;

/// Bytes of a request id.
const ID_BYTES: usize = 4;

/// Bytes of an error's text at most: what is longer is cut.
const ERROR_BYTES_MAX: usize = 16 << 10;

/// Bytes that are no frame, or a message that fits none. Nothing after it on its connection can
/// be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A payload above the limit is claimed, or was to be sent.
    #[error("a frame of {bytes} bytes, at most {PAYLOAD_BYTES_MAX} are allowed")]
    TooLong {
        /// Bytes of the payload.
        bytes: usize,
    },
    /// A payload without a whole request id.
    #[error("a frame of kind {kind} with {bytes} bytes, its request id alone has 4")]
    NoId {
        /// Kind of the frame.
        kind: u8,
        /// Bytes of the payload.
        bytes: usize,
    },
}

/// A whole frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is: a call's number, with [`RESPONSE`] and [`ERROR`] in answers.
    pub kind: u8,
    /// Which request it is, or answers.
    pub id: u32,
    /// The payload behind the request id.
    pub body: Vec<u8>,
}

impl Frame {
    /// The bytes on the wire.
    ///
    /// # Errors
    /// [`FrameError::TooLong`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FrameError> {
        let bytes = ID_BYTES + self.body.len();
        let length = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLong { bytes });
        }
        let mut out = Writer::with_capacity(HEADER_BYTES + bytes);
        out.u32(length).u8(self.kind).u32(self.id).raw(&self.body);
        Ok(out.into_bytes())
    }
}

/// A request.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn request(kind: impl Into<u8>, id: u32, message: &impl Encode) -> Result<Vec<u8>, FrameError> {
    let (kind, body) = (kind.into(), message.to_bytes());
    Frame { kind, id, body }.to_bytes()
}

/// The answer to a request of this kind.
///
/// # Errors
/// [`FrameError::TooLong`].
pub fn answer(kind: impl Into<u8>, id: u32, message: &impl Encode) -> Result<Vec<u8>, FrameError> {
    request(kind.into() | RESPONSE, id, message)
}

/// The answer to a request of this kind that failed. A long text is cut.
pub fn error(kind: impl Into<u8>, id: u32, text: &str) -> Vec<u8> {
    let kind = kind.into() | RESPONSE | ERROR;
    let cut = text.floor_char_boundary(ERROR_BYTES_MAX);
    let body = text.get(..cut).unwrap_or_default().as_bytes().to_vec();
    // Far below the limit.
    Frame { kind, id, body }.to_bytes().unwrap_or_default()
}

/// Frames out of bytes as they arrive. It holds what has come and is no whole frame yet: one frame
/// and one piece at most.
#[derive(Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Bytes at the front that were given out already.
    read: usize,
}

impl Frames {
    /// Takes what has arrived.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.read);
        self.read = 0;
        self.bytes.extend_from_slice(piece);
    }

    /// Whether nothing of a frame has come: where a connection may end.
    pub const fn is_empty(&self) -> bool {
        self.read == self.bytes.len()
    }

    /// The next frame, if all of it is there.
    ///
    /// # Errors
    /// [`FrameError`]; the connection cannot go on.
    #[expect(
        clippy::should_implement_trait,
        reason = "it can fail, and go on later"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = self.bytes.get(self.read..).unwrap_or_default();
        let Some((&[a, b, c, d, kind], rest)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        // Looked at before anything more is waited for.
        let length = u32::from_be_bytes([a, b, c, d]);
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes > PAYLOAD_BYTES_MAX {
            return Err(FrameError::TooLong { bytes });
        }
        if bytes < ID_BYTES {
            return Err(FrameError::NoId { kind, bytes });
        }
        let Some(payload) = rest.get(..bytes) else {
            return Ok(None);
        };
        let Some((id, body)) = payload.split_first_chunk::<ID_BYTES>() else {
            return Err(FrameError::NoId { kind, bytes });
        };
        let frame = Frame {
            kind,
            id: u32::from_be_bytes(*id),
            body: body.to_vec(),
        };
        self.read += HEADER_BYTES + bytes;
        Ok(Some(frame))
    }
}
