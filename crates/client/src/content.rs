//! What is inside an envelope between our clients.
//!
//! ```text
//! content = u8 version 1 | 32 session | u64 counter | u8 kind | fields
//! ```
//!
//! The session inside must be the one outside, and a sender's counters only rise: so an envelope
//! moved to another session, or sent twice, is refused.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::{Digest, SessionId};
use session_e2ee::RejoinRequest;

use crate::group::InvitationCode;

/// Version of the encoding.
const VERSION: u8 = 1;

/// Bytes of a file in one message: with the envelope well below a message's limit.
pub const CHUNK_BYTES: usize = 192 * 1024;

/// The same where a message is sealed to several people: 99 slots take 115 kB.
const CHUNK_BYTES_MANY: usize = 128 * 1024;

/// Bytes of a file in one message of a session with this many participants. Both sides derive
/// it: a piece lies at its index times this.
pub const fn chunk_bytes(participants: usize) -> usize {
    if participants > 2 {
        CHUNK_BYTES_MANY
    } else {
        CHUNK_BYTES
    }
}

/// Pieces of a file at most: a session carries ten thousand messages.
pub const FILE_CHUNKS_MAX: u64 = 9_000;

/// Largest file.
pub const FILE_BYTES_MAX: u64 = FILE_CHUNKS_MAX * CHUNK_BYTES as u64;

/// Longest file name, in bytes.
const NAME_MAX: usize = 255;

/// What two devices of an account tell each other while one is linked, in bytes at most: a key
/// package for each of ten conversations.
pub const LINK_MAX: usize = 192 * 1024;

/// Longest text, in bytes.
pub const TEXT_MAX: usize = 128 * 1024;

/// One message's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Words.
    Text(String),
    /// A file follows.
    File {
        /// Its name, without directories.
        name: String,
        /// Bytes.
        len: u64,
        /// SHA-256 of all of it.
        digest: Digest,
    },
    /// The next piece of a file that was announced.
    Chunk {
        /// SHA-256 of the whole file.
        file: Digest,
        /// Place of this piece, from 0.
        index: u32,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// What the recipient's devices join a group by.
    Invitation(InvitationCode),
    /// A step of linking a device.
    Link(Vec<u8>),
    /// A device of the sender asks to be let back into a group that it lost.
    Rejoin(Box<RejoinRequest>),
}

/// Content with what binds it to its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Session that it was sent in.
    pub session: SessionId,
    /// Rises with each message of one sender in one session.
    pub counter: u64,
    /// The content.
    pub content: Content,
}

impl Encode for Bound {
    fn encode(&self, out: &mut Writer) {
        out.u8(VERSION).value(&self.session).u64(self.counter);
        match &self.content {
            Content::Text(text) => out.u8(1).bytes(text.as_bytes()),
            Content::File { name, len, digest } => {
                out.u8(2).bytes(name.as_bytes()).u64(*len).value(digest)
            }
            Content::Chunk { file, index, bytes } => out.u8(3).value(file).u32(*index).bytes(bytes),
            Content::Invitation(code) => out.u8(4).value(code),
            Content::Link(bytes) => out.u8(5).bytes(bytes),
            Content::Rejoin(request) => out.u8(6).value(&**request),
        };
    }
}

/// Whether a file may be sent under this name: one component, not hidden, at most 255 bytes. A
/// peer does not choose where we write.
pub fn is_file_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && !name.contains(['/', '\\', '\0'])
        && !name.starts_with('.')
}

fn utf8(bytes: &[u8], what: &'static str) -> Result<String, DecodeError> {
    String::from_utf8(bytes.to_vec()).map_err(|_| DecodeError::Invalid { what })
}

impl Decode for Bound {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let unknown = |what, value: u8| DecodeError::UnknownValue {
            what,
            value: value.into(),
        };
        match input.u8("content version")? {
            VERSION => {}
            other => return Err(unknown("content version", other)),
        }
        let session = SessionId::decode(input)?;
        let counter = input.u64("counter")?;
        let content = match input.u8("content kind")? {
            1 => Content::Text(utf8(input.bytes("text", TEXT_MAX)?, "text")?),
            2 => {
                let name = utf8(input.bytes("file name", NAME_MAX)?, "file name")?;
                if !is_file_name(&name) {
                    return Err(DecodeError::Invalid { what: "file name" });
                }
                let len = input.u64("file length")?;
                if len > FILE_BYTES_MAX {
                    let limit = FILE_BYTES_MAX;
                    return Err(DecodeError::TooLong {
                        what: "file",
                        claimed: len,
                        limit,
                    });
                }
                Content::File {
                    name,
                    len,
                    digest: Digest::decode(input)?,
                }
            }
            3 => Content::Chunk {
                file: Digest::decode(input)?,
                index: input.u32("chunk index")?,
                bytes: input.bytes("chunk", CHUNK_BYTES)?.to_vec(),
            },
            4 => Content::Invitation(InvitationCode::decode(input)?),
            5 => Content::Link(input.bytes("link step", LINK_MAX)?.to_vec()),
            6 => Content::Rejoin(Box::new(RejoinRequest::decode(input)?)),
            other => return Err(unknown("content kind", other)),
        };
        Ok(Self {
            session,
            counter,
            content,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_read_back_and_names_cannot_climb() {
        let bound = |content| Bound {
            session: SessionId::from_bytes([1; 32]),
            counter: 7,
            content,
        };
        let digest = Digest::from_bytes([2; 32]);
        for content in [
            Content::Text("hallo".to_owned()),
            Content::File {
                name: "a.txt".to_owned(),
                len: 5,
                digest,
            },
            Content::Chunk {
                file: digest,
                index: 3,
                bytes: vec![9; 10],
            },
            Content::Link(vec![7; 99]),
            Content::Rejoin(Box::new(RejoinRequest {
                group: session_core::ids::GroupId::from_bytes([3; 32]),
                key_package: vec![4; 11_000],
                expires_ms: 6,
                asked_ms: 5,
                signature: vec![7; 3_309],
            })),
        ] {
            let value = bound(content);
            assert_eq!(Bound::from_bytes(&value.to_bytes()), Ok(value));
        }
        for name in ["", "../x", "a/b", ".hidden", "a\0b", "a\\b"] {
            let value = bound(Content::File {
                name: name.to_owned(),
                len: 5,
                digest,
            });
            assert!(Bound::from_bytes(&value.to_bytes()).is_err(), "{name:?}");
        }
    }
}
