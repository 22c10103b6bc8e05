//! What a person is shown. Events are stored in the batch that made them, and stay until the caller
//! acknowledges them: what a crash interrupts is shown after it.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::{AccountId, GroupId};

use crate::content::{Body, MessageName};
use crate::credential::DeviceId;
use crate::policy::Policy;

/// Something that happened in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Counts the events of this device. 0: shown for moments, not stored.
    pub number: u64,
    /// The conversation.
    pub group: GroupId,
    /// What happened.
    pub kind: EventKind,
}

/// A device of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberDevice {
    /// Its account.
    pub account: AccountId,
    /// The device.
    pub device: DeviceId,
}

/// Where in the group's log something stands, and when the chain accepted it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct LogPlace {
    /// Number in the log, from 0.
    pub position: u64,
    /// Block time in milliseconds.
    pub time_ms: u64,
}

/// How far it is proved who said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Authenticity {
    /// A member of the group sealed it; that it was the named one is not proved yet.
    FromMember,
    /// The named device signed it.
    Verified,
    /// Between two accounts: it was the other one, and nobody can prove that to others.
    Deniable,
}

/// A message with all that is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who sealed it.
    pub from: MemberDevice,
    /// Epoch it was sealed in.
    pub epoch: u64,
    /// Where the log has it.
    pub place: LogPlace,
    /// How far its sender is proved.
    pub authenticity: Authenticity,
    /// What it says.
    pub body: Body,
}

impl Message {
    /// Its name.
    pub const fn name(&self) -> MessageName {
        MessageName {
            device: self.from.device,
            sequence: self.body.sequence,
        }
    }
}

/// Why an accepted commit is of no use to this member. All honest members find the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unusable {
    /// MLS refuses it.
    Malformed,
    /// It is not a commit by a member of the group.
    NotByMember,
    /// It belongs to another chain, group or predecessor.
    WrongContext,
    /// A credential is not its account's.
    Credential,
    /// Its sender had no right to do this.
    Policy,
    /// The keys that the chain got with it are not those of the epoch.
    WrongKeys,
    /// It claims to be ours, and we did not make it: this device was copied.
    Foreign,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A message.
    Message(Box<Message>),
    /// Messages that were "from a member" are verified now.
    Verified(Vec<MessageName>),
    /// A message that was shown was not its sender's. Its real one, if it is here, follows.
    Forged(MessageName),
    /// One's own message was accepted.
    Accepted {
        /// The message.
        message: MessageName,
        /// Where the log has it.
        place: LogPlace,
    },
    /// One's own message will not be sent: the group has ended.
    NotSent(MessageName),
    /// This device is in the group, at this epoch.
    Joined {
        /// The epoch.
        epoch: u64,
    },
    /// A device came in.
    Added {
        /// The device.
        device: MemberDevice,
        /// The account had none before.
        new_account: bool,
        /// Who did it.
        by: MemberDevice,
    },
    /// A device that this one was to add was not added: its account has other keys since, or none, so
    /// the others would refuse it. It needs a new key package.
    NotAdded {
        /// The device.
        device: MemberDevice,
    },
    /// A device that could not follow the group any more came back, with other keys for reading and the
    /// same one for signing.
    CameBack {
        /// The device.
        device: MemberDevice,
        /// Who let it in.
        by: MemberDevice,
    },
    /// A device signs with another key from here on, which its account has certified.
    KeyRenewed {
        /// The device.
        device: MemberDevice,
    },
    /// This device cannot follow the group any more: nobody keeps the commit that led to this epoch. It
    /// asks to be let back in.
    Lost {
        /// The epoch.
        epoch: u64,
    },
    /// This device is back in a group that it had lost. What was said in between cannot be read.
    Rejoined {
        /// The epoch.
        epoch: u64,
    },
    /// A device went.
    Removed {
        /// The device.
        device: MemberDevice,
        /// The account has none left.
        last_of_account: bool,
        /// Who did it.
        by: MemberDevice,
    },
    /// This device was removed. Nothing more can be read.
    RemovedHere {
        /// Who did it.
        by: MemberDevice,
    },
    /// The policy is another one: name, roles, timer.
    PolicyChanged {
        /// The new one.
        policy: Box<Policy>,
        /// Who did it.
        by: MemberDevice,
    },
    /// An accepted commit cannot be followed. The group stands still until it is superseded.
    Halted {
        /// The epoch that the chain is at now.
        epoch: u64,
        /// Why.
        reason: Unusable,
    },
    /// A frame from before this device came in. Not damage.
    BeforeJoining {
        /// Where the log has it.
        place: LogPlace,
    },
    /// A frame that cannot be opened. Shown for moments.
    Unreadable {
        /// Where the log has it.
        place: LogPlace,
    },
    /// Somebody sealed in this device's name: a copy of it, or a member.
    SealedInOurName {
        /// Where the log has it.
        place: LogPlace,
        /// It was signed with this device's key: there is a copy of it.
        signed: bool,
    },
    /// The group is closed, and another follows it.
    Superseded {
        /// The other one.
        successor: GroupId,
    },
}

impl EventKind {
    /// Whether the event waits to be acknowledged.
    pub const fn is_stored(&self) -> bool {
        match self {
            Self::Message(message) => message.body.content.is_stored(),
            Self::Unreadable { .. } | Self::BeforeJoining { .. } => false,
            Self::Verified(_)
            | Self::Forged(_)
            | Self::Accepted { .. }
            | Self::NotSent(_)
            | Self::Joined { .. }
            | Self::Added { .. }
            | Self::NotAdded { .. }
            | Self::CameBack { .. }
            | Self::KeyRenewed { .. }
            | Self::Lost { .. }
            | Self::Rejoined { .. }
            | Self::Removed { .. }
            | Self::RemovedHere { .. }
            | Self::PolicyChanged { .. }
            | Self::Halted { .. }
            | Self::SealedInOurName { .. }
            | Self::Superseded { .. } => true,
        }
    }
}

impl Encode for MemberDevice {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.account).value(&self.device);
    }
}

impl Decode for MemberDevice {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            account: Decode::decode(input)?,
            device: Decode::decode(input)?,
        })
    }
}

impl Encode for LogPlace {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.position).u64(self.time_ms);
    }
}

impl Decode for LogPlace {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            position: input.u64("log position")?,
            time_ms: input.u64("log time")?,
        })
    }
}

/// An enum without fields, as one byte.
macro_rules! coded {
    ($type:ident, $what:literal, $($variant:ident = $code:literal),*) => {
        impl Encode for $type {
            fn encode(&self, out: &mut Writer) {
                out.u8(match self { $(Self::$variant => $code),* });
            }
        }

        impl Decode for $type {
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                match input.u8($what)? {
                    $($code => Ok(Self::$variant),)*
                    value => Err(DecodeError::UnknownValue { what: $what, value: value.into() }),
                }
            }
        }
    };
}
pub(crate) use coded;

coded!(
    Authenticity,
    "authenticity",
    FromMember = 0,
    Verified = 1,
    Deniable = 2
);
coded!(
    Unusable,
    "reason",
    Malformed = 0,
    NotByMember = 1,
    WrongContext = 2,
    Credential = 3,
    Policy = 4,
    WrongKeys = 5,
    Foreign = 6
);

impl Encode for Message {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.from)
            .u64(self.epoch)
            .value(&self.place)
            .value(&self.authenticity)
            .value(&self.body);
    }
}

impl Decode for Message {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            from: Decode::decode(input)?,
            epoch: input.u64("message epoch")?,
            place: Decode::decode(input)?,
            authenticity: Decode::decode(input)?,
            body: Decode::decode(input)?,
        })
    }
}

impl Encode for Event {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.number).value(&self.group).value(&self.kind);
    }
}

impl Decode for Event {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: input.u64("event number")?,
            group: Decode::decode(input)?,
            kind: Decode::decode(input)?,
        })
    }
}

impl Encode for EventKind {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Message(message) => out.u8(1).value(&**message),
            Self::Verified(names) => out.u8(2).list(names),
            Self::Forged(name) => out.u8(3).value(name),
            Self::Accepted { message, place } => out.u8(4).value(message).value(place),
            Self::Joined { epoch } => out.u8(5).u64(*epoch),
            Self::Added {
                device,
                new_account: flag,
                by,
            } => out.u8(6).value(device).bool(*flag).value(by),
            Self::Removed {
                device,
                last_of_account: flag,
                by,
            } => out.u8(7).value(device).bool(*flag).value(by),
            Self::RemovedHere { by } => out.u8(8).value(by),
            Self::PolicyChanged { policy, by } => out.u8(9).value(&**policy).value(by),
            Self::Halted { epoch, reason } => out.u8(10).u64(*epoch).value(reason),
            Self::BeforeJoining { place } => out.u8(11).value(place),
            Self::Unreadable { place } => out.u8(12).value(place),
            Self::SealedInOurName { place, signed } => out.u8(13).value(place).bool(*signed),
            Self::Superseded { successor } => out.u8(14).value(successor),
            Self::NotSent(name) => out.u8(15).value(name),
            Self::NotAdded { device } => out.u8(16).value(device),
            Self::CameBack { device, by } => out.u8(17).value(device).value(by),
            Self::Lost { epoch } => out.u8(18).u64(*epoch),
            Self::Rejoined { epoch } => out.u8(19).u64(*epoch),
            Self::KeyRenewed { device } => out.u8(20).value(device),
        };
    }
}

impl Decode for EventKind {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("event")? {
            1 => Self::Message(Box::new(Decode::decode(input)?)),
            2 => Self::Verified(input.list("verified", crate::limits::UNSIGNED_MAX, 24)?),
            3 => Self::Forged(Decode::decode(input)?),
            4 => Self::Accepted {
                message: Decode::decode(input)?,
                place: Decode::decode(input)?,
            },
            5 => Self::Joined {
                epoch: input.u64("epoch")?,
            },
            6 => Self::Added {
                device: Decode::decode(input)?,
                new_account: input.bool("new account")?,
                by: Decode::decode(input)?,
            },
            7 => Self::Removed {
                device: Decode::decode(input)?,
                last_of_account: input.bool("last of account")?,
                by: Decode::decode(input)?,
            },
            8 => Self::RemovedHere {
                by: Decode::decode(input)?,
            },
            9 => Self::PolicyChanged {
                policy: Box::new(Decode::decode(input)?),
                by: Decode::decode(input)?,
            },
            10 => Self::Halted {
                epoch: input.u64("epoch")?,
                reason: Decode::decode(input)?,
            },
            11 => Self::BeforeJoining {
                place: Decode::decode(input)?,
            },
            12 => Self::Unreadable {
                place: Decode::decode(input)?,
            },
            13 => Self::SealedInOurName {
                place: Decode::decode(input)?,
                signed: input.bool("signed")?,
            },
            14 => Self::Superseded {
                successor: Decode::decode(input)?,
            },
            15 => Self::NotSent(Decode::decode(input)?),
            16 => Self::NotAdded {
                device: Decode::decode(input)?,
            },
            17 => Self::CameBack {
                device: Decode::decode(input)?,
                by: Decode::decode(input)?,
            },
            18 => Self::Lost {
                epoch: input.u64("epoch")?,
            },
            19 => Self::Rejoined {
                epoch: input.u64("epoch")?,
            },
            20 => Self::KeyRenewed {
                device: Decode::decode(input)?,
            },
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "event",
                    value: value.into(),
                });
            }
        })
    }
}
