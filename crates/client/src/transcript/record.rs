//! What is written down of a conversation.
//!
//! ```text
//! u8 1 | u8 kind | fields
//!   1 said    device 16 | u64 sequence | body | u64 at, ms | u32 timer, s
//!   2 event   event | u64 at, ms | u32 timer, s
//!   3 looked
//!   4 gone    device 16 | u64 sequence | u8 why
//! ```

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_e2ee::{Body, Event, EventKind, Message, MessageName};

/// Version of the encoding.
const VERSION: u8 = 1;

/// Why a message's words are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Its sender took it back.
    Deleted,
    /// Its time was over.
    Disappeared,
    /// It was not its sender's.
    Forged,
}

/// One line of a transcript's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Record {
    /// This device said something; it is in its outbox.
    Said {
        /// Its name.
        message: MessageName,
        /// What it says.
        body: Body,
        /// When it was written down, in milliseconds.
        at_ms: u64,
        /// After how many seconds it disappears; 0: never.
        timer_s: u32,
    },
    /// Something happened in the group.
    Event {
        /// What.
        event: Event,
        /// When it was written down, in milliseconds.
        at_ms: u64,
        /// After how many seconds a message disappears; 0: never.
        timer_s: u32,
    },
    /// A person has looked at everything before it.
    Looked,
    /// A message's words are gone, from this file too.
    Gone {
        /// Its name.
        message: MessageName,
        /// Why.
        why: Gone,
    },
}

impl Record {
    /// The name of what was said, if anything was.
    pub fn words_of(&self) -> Option<MessageName> {
        match self {
            Self::Said { message, .. } => Some(*message),
            Self::Event { event, .. } => message(&event.kind).map(Message::name),
            Self::Looked | Self::Gone { .. } => None,
        }
    }

    /// What was said.
    pub(crate) fn body(&self) -> Option<&Body> {
        match self {
            Self::Said { body, .. } => Some(body),
            Self::Event { event, .. } => message(&event.kind).map(|message| &message.body),
            Self::Looked | Self::Gone { .. } => None,
        }
    }

    /// The same, to take words out of it.
    pub(crate) fn body_mut(&mut self) -> Option<&mut Body> {
        match self {
            Self::Said { body, .. } => Some(body),
            Self::Event { event, .. } => {
                if let EventKind::Message(message) = &mut event.kind {
                    Some(&mut message.body)
                } else {
                    None
                }
            }
            Self::Looked | Self::Gone { .. } => None,
        }
    }
}

fn message(kind: &EventKind) -> Option<&Message> {
    if let EventKind::Message(message) = kind {
        Some(message)
    } else {
        None
    }
}

impl Encode for Record {
    fn encode(&self, out: &mut Writer) {
        out.u8(VERSION);
        match self {
            Self::Said {
                message,
                body,
                at_ms,
                timer_s,
            } => out
                .u8(1)
                .value(message)
                .value(body)
                .u64(*at_ms)
                .u32(*timer_s),
            Self::Event {
                event,
                at_ms,
                timer_s,
            } => out.u8(2).value(event).u64(*at_ms).u32(*timer_s),
            Self::Looked => out.u8(3),
            Self::Gone { message, why } => out.u8(4).value(message).u8(match why {
                Gone::Deleted => 1,
                Gone::Disappeared => 2,
                Gone::Forged => 3,
            }),
        };
    }
}

impl Decode for Record {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let unknown = |what, value: u8| DecodeError::UnknownValue {
            what,
            value: value.into(),
        };
        match input.u8("record version")? {
            VERSION => {}
            other => return Err(unknown("record version", other)),
        }
        Ok(match input.u8("record kind")? {
            1 => Self::Said {
                message: Decode::decode(input)?,
                body: Decode::decode(input)?,
                at_ms: input.u64("time of record")?,
                timer_s: input.u32("timer")?,
            },
            2 => Self::Event {
                event: Decode::decode(input)?,
                at_ms: input.u64("time of record")?,
                timer_s: input.u32("timer")?,
            },
            3 => Self::Looked,
            4 => Self::Gone {
                message: Decode::decode(input)?,
                why: match input.u8("why gone")? {
                    1 => Gone::Deleted,
                    2 => Gone::Disappeared,
                    3 => Gone::Forged,
                    other => return Err(unknown("why gone", other)),
                },
            },
            other => return Err(unknown("record kind", other)),
        })
    }
}
