//! Frames: `u32 length || body`, how nodes cut a stream into messages.
//!
//! The length is checked as soon as its four bytes are there, and memory grows with the bytes that
//! really arrive, never with the length that was claimed.

use crate::limits::FRAME_BODY_MAX;

/// Bytes before a body.
pub const FRAME_HEADER_LEN: usize = 4;

/// A body longer than 1 MiB, on either side. Nothing was allocated for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {claimed} bytes, at most {FRAME_BODY_MAX} are allowed")]
pub struct FrameTooLong {
    /// Length claimed or given.
    pub claimed: u64,
}

/// The frame of a body.
///
/// # Errors
/// [`FrameTooLong`].
pub fn frame(body: &[u8]) -> Result<Vec<u8>, FrameTooLong> {
    let header = header(body.len())?;
    let mut out = Vec::with_capacity(FRAME_HEADER_LEN + body.len());
    out.extend_from_slice(&header);
    out.extend_from_slice(body);
    Ok(out)
}

/// The four bytes before a body of this length.
///
/// # Errors
/// [`FrameTooLong`].
pub fn header(body_bytes: usize) -> Result<[u8; FRAME_HEADER_LEN], FrameTooLong> {
    let claimed = body_bytes as u64;
    match u32::try_from(body_bytes) {
        Ok(length) if body_bytes <= FRAME_BODY_MAX => Ok(length.to_be_bytes()),
        _ => Err(FrameTooLong { claimed }),
    }
}

/// Cuts a stream of bytes into bodies, one piece of input at a time. Pure: it waits for nothing.
///
/// ```
/// use session_core::service::frame::{FrameReader, frame};
///
/// let stream = [frame(b"one")?, frame(b"two")?].concat();
/// let mut reader = FrameReader::new();
/// let mut bodies = Vec::new();
/// for mut piece in stream.chunks(5) {
///     while let Some(body) = reader.next_body(&mut piece)? {
///         bodies.push(body);
///     }
/// }
/// assert_eq!(bodies, [b"one", b"two"]);
/// assert!(reader.is_between_frames());
/// # Ok::<(), session_core::service::frame::FrameTooLong>(())
/// ```
#[derive(Debug, Default)]
pub struct FrameReader {
    state: State,
}

#[derive(Debug)]
enum State {
    Header { got: [u8; 3], count: usize },
    Body { length: usize, got: Vec<u8> },
    Broken(FrameTooLong),
}

impl Default for State {
    fn default() -> Self {
        Self::Header {
            got: [0; 3],
            count: 0,
        }
    }
}

impl FrameReader {
    /// A reader at the beginning of a frame.
    pub const fn new() -> Self {
        Self {
            state: State::Header {
                got: [0; 3],
                count: 0,
            },
        }
    }

    /// Takes bytes from the front of `input` until a body is complete or nothing is left. Call it
    /// again while it answers a body.
    ///
    /// # Errors
    /// [`FrameTooLong`], from then on for ever: after a wrong length nothing in the stream can be
    /// believed.
    pub fn next_body(&mut self, input: &mut &[u8]) -> Result<Option<Vec<u8>>, FrameTooLong> {
        loop {
            match &mut self.state {
                State::Broken(error) => return Err(*error),
                State::Header { got, count } => {
                    let Some((byte, rest)) = input.split_first() else {
                        return Ok(None);
                    };
                    *input = rest;
                    if let Some(place) = got.get_mut(*count) {
                        *place = *byte;
                        *count += 1;
                        continue;
                    }
                    let [a, b, c] = *got;
                    self.state = begin(u32::from_be_bytes([a, b, c, *byte]));
                }
                State::Body { length, got } => {
                    let missing = length.saturating_sub(got.len());
                    let (now, later) = input.split_at(missing.min(input.len()));
                    *input = later;
                    got.extend_from_slice(now);
                    if now.len() < missing {
                        return Ok(None);
                    }
                    let body = core::mem::take(got);
                    self.state = State::default();
                    return Ok(Some(body));
                }
            }
        }
    }

    /// Whether the stream may end here: no frame has begun.
    pub const fn is_between_frames(&self) -> bool {
        matches!(self.state, State::Header { count: 0, .. })
    }
}

fn begin(claimed: u32) -> State {
    match usize::try_from(claimed) {
        Ok(length) if length <= FRAME_BODY_MAX => State::Body {
            length,
            got: Vec::new(),
        },
        _ => State::Broken(FrameTooLong {
            claimed: claimed.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bodies_come_out_as_they_went_in_however_the_stream_is_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..6),
            cuts in prop::collection::vec(1usize..9, 1..40),
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|b| frame(b).unwrap()).collect();
            let mut reader = FrameReader::new();
            let (mut rest, mut got) = (&stream[..], Vec::new());
            for cut in cuts.iter().cycle() {
                let (mut piece, later) = rest.split_at((*cut).min(rest.len()));
                rest = later;
                while let Some(body) = reader.next_body(&mut piece).unwrap() {
                    got.push(body);
                }
                prop_assert!(piece.is_empty());
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(got, bodies);
            prop_assert!(reader.is_between_frames());
        }
    }

    #[test]
    fn a_claimed_length_takes_no_memory_and_too_much_breaks_the_stream() {
        let mut reader = FrameReader::new();
        let mut input = &[0, 0x10, 0, 0, 7][..];
        assert_eq!(reader.next_body(&mut input), Ok(None));
        let State::Body { length, got } = &reader.state else {
            panic!("not in a body");
        };
        assert_eq!((*length, got.len()), (FRAME_BODY_MAX, 1));
        assert!(got.capacity() < 64);

        let mut reader = FrameReader::new();
        let mut input = &[0, 0x10, 0, 1][..];
        let claimed = FRAME_BODY_MAX as u64 + 1;
        let error = Err(FrameTooLong { claimed });
        assert_eq!(reader.next_body(&mut input), error);
        let mut honest = &[0, 0, 0, 0][..];
        assert_eq!(reader.next_body(&mut honest), error);
        assert!(!reader.is_between_frames());
        assert!(frame(&vec![0; FRAME_BODY_MAX]).is_ok());
        assert_eq!(
            frame(&vec![0; FRAME_BODY_MAX + 1]),
            Err(FrameTooLong { claimed })
        );
        assert!(header(usize::MAX).is_err());
    }
}
