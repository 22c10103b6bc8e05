//! What people say: the text inside a frame, before padding.
//!
//! ```text
//! u8 1 │ u64 sequence │ u64 sent at, ms │ u16 kind │ u32-counted fields of the kind
//! ```
//!
//! The sequence counts what one device says in one conversation. A frame that is refused is sealed
//! again in a later epoch, so places of frames are no names: a message is named by its device and
//! this number, and ordered among that device's messages by it. A kind that is not known here is
//! kept as it is, and travels on unchanged.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_crypto::SigningPublicKey;

use crate::admin_work::AdminWork;
use crate::attachment::Attachment;
use crate::credential::DeviceId;
use crate::limits::{CONTENT_MAX, KEY_PACKAGE_MAX};
use crate::policy::text;
use crate::signed_batch::SignedBatch;

const VERSION: u8 = 1;
/// Messages that one receipt names.
pub const RECEIPTS_MAX: usize = 256;
/// An emoji with its modifiers.
pub const REACTION_MAX: usize = 64;

/// One message of a conversation, wherever it is spoken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageName {
    /// The device that said it.
    pub device: DeviceId,
    /// The how-manieth thing it said in this conversation.
    pub sequence: u64,
}

/// A message as its sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// Counts what its device said in this conversation.
    pub sequence: u64,
    /// The sender's clock, in milliseconds. Shown, never judged.
    pub sent_at_ms: u64,
    /// What it says.
    pub content: Content,
}

/// What a message says.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Words.
    Text(String),
    /// Words in answer to a message.
    Reply {
        /// The message.
        to: MessageName,
        /// The words.
        text: String,
    },
    /// An emoji put to a message; an empty one takes it back.
    Reaction {
        /// The message.
        to: MessageName,
        /// At most 64 bytes.
        emoji: String,
    },
    /// New words for a message of one's own.
    Edit {
        /// The message.
        of: MessageName,
        /// The words that replace the earlier ones.
        text: String,
    },
    /// A message is to be shown no more.
    Delete {
        /// The message, the sender's own.
        of: MessageName,
    },
    /// A file, and words with it.
    Attachment {
        /// Where it lies, and what opens it.
        file: Attachment,
        /// May be empty.
        text: String,
    },
    /// Messages have arrived.
    Delivered(Vec<MessageName>),
    /// Messages were read.
    Read(Vec<MessageName>),
    /// Messages disappear so long after they were read, from now on. 0: no more. What counts is the
    /// group's policy; this is how it is announced in the conversation.
    Timer {
        /// Seconds.
        after_s: u32,
    },
    /// The group is called so from now on. What counts is the group's policy.
    GroupInfo {
        /// The name.
        name: String,
    },
    /// Somebody is writing. Shown for moments, stored nowhere.
    Typing,
    /// The sending device, or all of its account, wants to leave. A client of somebody who may
    /// remove does it.
    Leave {
        /// All devices of the account.
        whole_account: bool,
    },
    /// A key package of the sending device, reserved for a successor of this group.
    ReservedKeyPackage(Vec<u8>),
    /// The key under which the sender wants to be an administrator towards the chain.
    AdminKey(Box<SigningPublicKey>),
    /// What the sender's client asks of admins' clients, or answers. Never shown.
    AdminWork(Box<AdminWork>),
    /// The sender's signature over frames of its own. Never shown.
    SignedBatch(Box<SignedBatch>),
    /// A kind that is not known here.
    Unknown {
        /// Its number.
        kind: u16,
        /// Its fields.
        fields: Vec<u8>,
    },
}

impl Content {
    /// The kind's number. Never changes.
    pub const fn kind(&self) -> u16 {
        match self {
            Self::Text(_) => 1,
            Self::Reply { .. } => 2,
            Self::Reaction { .. } => 3,
            Self::Edit { .. } => 4,
            Self::Delete { .. } => 5,
            Self::Attachment { .. } => 6,
            Self::Delivered(_) => 7,
            Self::Read(_) => 8,
            Self::Timer { .. } => 9,
            Self::GroupInfo { .. } => 10,
            Self::Typing => 11,
            Self::Leave { .. } => 12,
            Self::ReservedKeyPackage(_) => 13,
            Self::AdminKey(_) => 14,
            Self::SignedBatch(_) => 15,
            Self::AdminWork(_) => 16,
            Self::Unknown { kind, .. } => *kind,
        }
    }

    /// Whether it is kept at all: what is shown for moments only is not.
    pub const fn is_stored(&self) -> bool {
        !matches!(
            self,
            Self::Typing | Self::SignedBatch(_) | Self::AdminWork(_)
        )
    }

    fn encode_fields(&self, out: &mut Writer) {
        match self {
            Self::Text(text) => {
                out.bytes(text.as_bytes());
            }
            Self::Reply { to: name, text }
            | Self::Edit { of: name, text }
            | Self::Reaction {
                to: name,
                emoji: text,
            } => {
                out.value(name).bytes(text.as_bytes());
            }
            Self::Delete { of } => {
                out.value(of);
            }
            Self::Attachment { file, text } => {
                out.value(file).bytes(text.as_bytes());
            }
            Self::Delivered(names) | Self::Read(names) => {
                out.list(names);
            }
            Self::Timer { after_s } => {
                out.u32(*after_s);
            }
            Self::GroupInfo { name } => {
                out.bytes(name.as_bytes());
            }
            Self::Typing => {}
            Self::Leave { whole_account } => {
                out.bool(*whole_account);
            }
            Self::ReservedKeyPackage(bytes) => {
                out.bytes(bytes);
            }
            Self::AdminKey(key) => {
                out.value(&**key);
            }
            Self::SignedBatch(batch) => {
                out.value(&**batch);
            }
            Self::AdminWork(work) => {
                out.value(&**work);
            }
            Self::Unknown { fields, .. } => {
                out.raw(fields);
            }
        }
    }

    fn decode_fields(kind: u16, input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            1 => Self::Text(text(input, "text", CONTENT_MAX)?),
            2 => Self::Reply {
                to: Decode::decode(input)?,
                text: text(input, "reply", CONTENT_MAX)?,
            },
            3 => Self::Reaction {
                to: Decode::decode(input)?,
                emoji: text(input, "reaction", REACTION_MAX)?,
            },
            4 => Self::Edit {
                of: Decode::decode(input)?,
                text: text(input, "edit", CONTENT_MAX)?,
            },
            5 => Self::Delete {
                of: Decode::decode(input)?,
            },
            6 => Self::Attachment {
                file: Decode::decode(input)?,
                text: text(input, "text with attachment", CONTENT_MAX)?,
            },
            7 => Self::Delivered(input.list("delivered", RECEIPTS_MAX, 24)?),
            8 => Self::Read(input.list("read", RECEIPTS_MAX, 24)?),
            9 => Self::Timer {
                after_s: input.u32("timer")?,
            },
            10 => Self::GroupInfo {
                name: text(input, "group name", crate::limits::NAME_MAX)?,
            },
            11 => Self::Typing,
            12 => Self::Leave {
                whole_account: input.bool("leave")?,
            },
            13 => Self::ReservedKeyPackage(input.bytes("key package", KEY_PACKAGE_MAX)?.to_vec()),
            14 => Self::AdminKey(Box::new(Decode::decode(input)?)),
            15 => Self::SignedBatch(Box::new(Decode::decode(input)?)),
            16 => Self::AdminWork(Box::new(Decode::decode(input)?)),
            kind => Self::Unknown {
                kind,
                fields: input.take("fields", input.remaining())?.to_vec(),
            },
        })
    }
}

impl core::fmt::Debug for Content {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // What people say is not for logs.
        write!(f, "Content(kind {})", self.kind())
    }
}

impl Encode for MessageName {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.device).u64(self.sequence);
    }
}

impl Decode for MessageName {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: Decode::decode(input)?,
            sequence: input.u64("message sequence")?,
        })
    }
}

impl Encode for Body {
    fn encode(&self, out: &mut Writer) {
        let mut fields = Writer::new();
        self.content.encode_fields(&mut fields);
        out.u8(VERSION)
            .u64(self.sequence)
            .u64(self.sent_at_ms)
            .u16(self.content.kind())
            .bytes(&fields.into_bytes());
    }
}

impl Decode for Body {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("content version")? {
            VERSION => {}
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "content version",
                    value: value.into(),
                });
            }
        }
        let sequence = input.u64("content sequence")?;
        let sent_at_ms = input.u64("content time")?;
        let kind = input.u16("content kind")?;
        let mut fields = Reader::new(input.bytes("content fields", CONTENT_MAX)?);
        let content = Content::decode_fields(kind, &mut fields)?;
        fields.finish()?;
        Ok(Self {
            sequence,
            sent_at_ms,
            content,
        })
    }
}

#[cfg(test)]
mod tests;
