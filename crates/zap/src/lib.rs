//! ZAP: how a Lux node and a virtual machine in a process of its own talk.
//!
//! ```text
//! plugin ── handshake: u32 4 + n | u32 protocol 42 | n bytes of address ──▶ node
//!        ◀── one byte, 0x01 ─────────────────────────────────────────────
//! node ── dials that address ──▶ plugin
//!
//! frame    = u32 length of the payload | u8 kind | payload, 16 MiB at most
//! payload  = u32 request id | fields of the message
//! answer   : kind of the request | 0x80
//! error    : kind of the request | 0xc0, its payload after the id is text without a length
//! ```
//!
//! Integers are big-endian; byte strings and texts have a `u32` length; a boolean is a byte, and
//! every byte but 0 is true. A message may grow at its end: a reader ignores what it does not
//! know, and takes what is missing as absent ([`Later`]).
//!
//! Here are bytes only: frames out of whatever arrives ([`Frames`]), and the messages with their
//! fields in order, both directions of each. Nothing takes memory before its bytes are there.
//!
//! ```
//! use session_zap::block::GetBlockRequest;
//! use session_zap::vm::{SetStateRequest, State};
//! use session_zap::{Call, Frames, read, request};
//!
//! let sent = request(Call::SetState, 7, &SetStateRequest { state: State::READY })?;
//! let mut frames = Frames::default();
//! frames.push(&sent);
//! let frame = frames.next()?.expect("all of it was pushed");
//! assert_eq!((frame.kind, frame.id), (Call::SetState.code(), 7));
//! let message: SetStateRequest = read(&frame.body)?;
//! assert_eq!(message.state, State::READY);
//! assert!(read::<GetBlockRequest>(&frame.body).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! *Invariant:* no I/O, no clock, no rule of the chain.

pub mod block;
mod call;
pub mod database;
mod field;
mod frame;
pub mod handshake;
pub mod health;
pub mod peer;
pub mod summary;
pub mod vm;

pub use call::Call;
pub use field::Later;
pub use frame::{
    ERROR, Frame, FrameError, Frames, HEADER_BYTES, PAYLOAD_BYTES_MAX, RESPONSE, answer, error,
    request,
};

use session_core::codec::{Decode, DecodeError, Reader};

/// What a call or an answer without fields carries.
pub const NOTHING: &Empty = &Empty {};

field::message! {
    /// A message without fields.
    pub struct Empty {}
}

/// Reads a message from the payload behind its request id. What follows the fields that are known
/// here is a later version's, and ignored.
///
/// # Errors
/// [`DecodeError`].
pub fn read<T: Decode>(body: &[u8]) -> Result<T, DecodeError> {
    T::decode(&mut Reader::new(body))
}
