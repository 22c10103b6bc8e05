//! Keys and values of the state tree (`spec/vm.md` §6).
//!
//! Tree key = `H(key, u8 kind || id)`, tree value = SHA-256 of the canonical record. Numbers of
//! kinds are part of the state root and never change their meaning; nodes, beacons and certificates
//! have theirs reserved.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::{Tag, sha256};
use crate::ids::{AccountId, ActionId, ChannelId, ChunkId, GroupId, SessionId, TxId};
use crate::log::{Conversation, LogId};
use crate::merkle::Hash;
use crate::time::Time;

/// Names one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// [`crate::parameters::Parameters`].
    Parameters,
    /// [`crate::parameters::Quotas`].
    Quotas,
    /// [`crate::account::Account`].
    Account(AccountId),
    /// [`crate::session::Session`].
    Session(SessionId),
    /// [`crate::channel::Channel`].
    Channel(ChannelId),
    /// [`crate::channel::Member`].
    Member(ChannelId, AccountId),
    /// [`Acknowledgement`] of a conversation by one of its members.
    Acknowledgement(Conversation, AccountId),
    /// Open requests of the first account to the second: one byte.
    OpenRequests(AccountId, AccountId),
    /// [`Chunk`].
    Chunk(ChunkId),
    /// [`Action`].
    Action(ActionId),
    /// [`crate::group::Group`].
    Group(GroupId),
    /// [`crate::key_package::KeyPackages`] of an account.
    KeyPackages(AccountId),
    /// [`crate::key_package::TakenKeyPackages`] by the first account of the second.
    TakenKeyPackages(AccountId, AccountId),
}

impl RecordKey {
    /// Longest encoded key.
    pub const LEN_MAX: usize = 66;

    /// Place in the state tree.
    pub fn tree_key(&self) -> Hash {
        Tag::Key.hash(&[&self.to_bytes()])
    }
}

const PARAMETERS: u8 = 0;
const ACCOUNT: u8 = 1;
const SESSION: u8 = 2;
const CHANNEL: u8 = 3;
const GROUP: u8 = 4;
const KEY_PACKAGES: u8 = 5;
const CHUNK: u8 = 6;
// 7 node, 8 beacon, 9 certificate
const ACTION: u8 = 10;
const QUOTAS: u8 = 11;
const MEMBER: u8 = 12;
const ACKNOWLEDGEMENT: u8 = 13;
const OPEN_REQUESTS: u8 = 14;
const TAKEN_KEY_PACKAGES: u8 = 15;

impl Encode for Conversation {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Session(id) => out.u8(1).value(id),
            Self::Channel(id) => out.u8(2).value(id),
            Self::Group(id) => out.u8(3).value(id),
        };
    }
}

impl Decode for Conversation {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("conversation kind")? {
            1 => SessionId::decode(input).map(Self::Session),
            2 => ChannelId::decode(input).map(Self::Channel),
            3 => GroupId::decode(input).map(Self::Group),
            value => Err(DecodeError::UnknownValue {
                what: "conversation kind",
                value: value.into(),
            }),
        }
    }
}

impl Conversation {
    /// The log of its messages.
    pub const fn log(&self) -> LogId {
        match self {
            Self::Session(id) => LogId::Session(*id),
            Self::Channel(id) => LogId::Channel(*id),
            Self::Group(id) => LogId::Group(*id),
        }
    }

    /// The record that holds the log.
    pub const fn record(&self) -> RecordKey {
        match self {
            Self::Session(id) => RecordKey::Session(*id),
            Self::Channel(id) => RecordKey::Channel(*id),
            Self::Group(id) => RecordKey::Group(*id),
        }
    }
}

impl LogId {
    /// The record whose frontier the log has.
    pub const fn record(&self) -> RecordKey {
        match self {
            Self::Session(id) => RecordKey::Session(*id),
            Self::Channel(id) => RecordKey::Channel(*id),
            Self::Group(id) => RecordKey::Group(*id),
            Self::Memberships(id) | Self::Requests(id) => RecordKey::Account(*id),
        }
    }
}

impl Encode for RecordKey {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Parameters => out.u8(PARAMETERS),
            Self::Quotas => out.u8(QUOTAS),
            Self::Account(id) => out.u8(ACCOUNT).value(id),
            Self::Session(id) => out.u8(SESSION).value(id),
            Self::Channel(id) => out.u8(CHANNEL).value(id),
            Self::Member(channel, account) => out.u8(MEMBER).value(channel).value(account),
            Self::Acknowledgement(conversation, account) => {
                out.u8(ACKNOWLEDGEMENT).value(conversation).value(account)
            }
            Self::OpenRequests(from, to) => out.u8(OPEN_REQUESTS).value(from).value(to),
            Self::Chunk(id) => out.u8(CHUNK).value(id),
            Self::Action(id) => out.u8(ACTION).value(id),
            Self::Group(id) => out.u8(GROUP).value(id),
            Self::KeyPackages(id) => out.u8(KEY_PACKAGES).value(id),
            Self::TakenKeyPackages(by, of) => out.u8(TAKEN_KEY_PACKAGES).value(by).value(of),
        };
    }
}

impl Decode for RecordKey {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("record kind")? {
            PARAMETERS => Self::Parameters,
            QUOTAS => Self::Quotas,
            ACCOUNT => Self::Account(AccountId::decode(input)?),
            SESSION => Self::Session(SessionId::decode(input)?),
            CHANNEL => Self::Channel(ChannelId::decode(input)?),
            MEMBER => Self::Member(ChannelId::decode(input)?, AccountId::decode(input)?),
            ACKNOWLEDGEMENT => {
                Self::Acknowledgement(Conversation::decode(input)?, AccountId::decode(input)?)
            }
            OPEN_REQUESTS => {
                Self::OpenRequests(AccountId::decode(input)?, AccountId::decode(input)?)
            }
            CHUNK => Self::Chunk(ChunkId::decode(input)?),
            ACTION => Self::Action(ActionId::decode(input)?),
            GROUP => Self::Group(GroupId::decode(input)?),
            KEY_PACKAGES => Self::KeyPackages(AccountId::decode(input)?),
            TAKEN_KEY_PACKAGES => {
                Self::TakenKeyPackages(AccountId::decode(input)?, AccountId::decode(input)?)
            }
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "record kind",
                    value: value.into(),
                });
            }
        })
    }
}

/// SHA-256 of a canonical record, as the state tree holds it.
pub fn value_hash(record: &[u8]) -> Hash {
    sha256(record)
}

/// Delivery confirmation: this member has every message below `up_to`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// First sequence number not confirmed.
    pub up_to: u64,
    /// Block time of the confirmation.
    pub time: Time,
}

/// A content-addressed chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk {
    /// Who put it last: an account, or a group, whose id stands in its place.
    pub owner: AccountId,
    /// Bytes.
    pub len: u32,
    /// When it is dropped unless put again.
    pub expires: Time,
}

impl Chunk {
    /// The id of a chunk with these bytes: `H(chunk, bytes)`.
    pub fn id(bytes: &[u8]) -> ChunkId {
        ChunkId::from_bytes(Tag::Chunk.hash(&[bytes]))
    }
}

/// What an accepted action did, so that a retry gets the first answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing to name.
    Done,
    /// A session was created.
    Session(SessionId),
    /// A channel was created.
    Channel(ChannelId),
    /// Messages were appended from this sequence number.
    Sequence(u64),
    /// A chunk was stored.
    Chunk(ChunkId),
    /// A group was created.
    Group(GroupId),
    /// Key packages were taken: of how many devices a one-time one, of how many one of last resort.
    KeyPackages {
        /// Nobody else is given these.
        one_time: u8,
        /// Others are given the same ones.
        last_resort: u8,
    },
}

/// An accepted action, remembered until an hour after its `valid_until`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Action {
    /// The transaction that carried it.
    pub tx: TxId,
    /// Height of its block.
    pub height: u64,
    /// When it is forgotten.
    pub expires: Time,
    /// What it did.
    pub outcome: Outcome,
}

impl Encode for Acknowledgement {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.up_to).value(&self.time);
    }
}

impl Decode for Acknowledgement {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            up_to: input.u64("acknowledged")?,
            time: Time::decode(input)?,
        })
    }
}

impl Encode for Chunk {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.owner).u32(self.len).value(&self.expires);
    }
}

impl Decode for Chunk {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            owner: AccountId::decode(input)?,
            len: input.u32("chunk length")?,
            expires: Time::decode(input)?,
        })
    }
}

impl Encode for Outcome {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Done => out.u8(0),
            Self::Session(id) => out.u8(1).value(id),
            Self::Channel(id) => out.u8(2).value(id),
            Self::Sequence(n) => out.u8(3).u64(*n),
            Self::Chunk(id) => out.u8(4).value(id),
            Self::Group(id) => out.u8(5).value(id),
            Self::KeyPackages {
                one_time,
                last_resort,
            } => out.u8(6).u8(*one_time).u8(*last_resort),
        };
    }
}

impl Decode for Outcome {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("outcome")? {
            0 => Self::Done,
            1 => Self::Session(SessionId::decode(input)?),
            2 => Self::Channel(ChannelId::decode(input)?),
            3 => Self::Sequence(input.u64("sequence")?),
            4 => Self::Chunk(ChunkId::decode(input)?),
            5 => Self::Group(GroupId::decode(input)?),
            6 => Self::KeyPackages {
                one_time: input.u8("one-time packages")?,
                last_resort: input.u8("last-resort packages")?,
            },
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "outcome",
                    value: value.into(),
                });
            }
        })
    }
}

impl Encode for Action {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.tx)
            .u64(self.height)
            .value(&self.expires)
            .value(&self.outcome);
    }
}

impl Decode for Action {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            tx: TxId::decode(input)?,
            height: input.u64("height")?,
            expires: Time::decode(input)?,
            outcome: Outcome::decode(input)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::assert_one_form;
    use proptest::prelude::*;

    #[test]
    fn records_and_outcomes_have_one_form() {
        let (expires, id) = (Time::from_ms(258), [7; 32]);
        let outcomes = [
            Outcome::Done,
            Outcome::Session(SessionId::from_bytes(id)),
            Outcome::Channel(ChannelId::from_bytes(id)),
            Outcome::Sequence(259),
            Outcome::Chunk(ChunkId::from_bytes(id)),
            Outcome::Group(GroupId::from_bytes(id)),
            Outcome::KeyPackages {
                one_time: 2,
                last_resort: 3,
            },
        ];
        for (number, outcome) in (0..).zip(outcomes) {
            assert_eq!(outcome.to_bytes()[0], number);
            assert_one_form(&Action {
                tx: TxId::from_bytes(id),
                height: 260,
                expires,
                outcome,
            });
        }
        assert!(Outcome::from_bytes(&[7]).is_err());
        assert_one_form(&Acknowledgement {
            up_to: 261,
            time: expires,
        });
        assert_one_form(&Chunk {
            owner: AccountId::from_bytes(id),
            len: 262,
            expires,
        });
        let chunk = Tag::Chunk.hash(&[b"bytes"]);
        assert_eq!(Chunk::id(b"bytes"), ChunkId::from_bytes(chunk));
        assert_eq!(value_hash(b"record"), sha256(b"record"));
        let tree_key = Tag::Key.hash(&[&[6], &id]);
        assert_eq!(
            RecordKey::Chunk(ChunkId::from_bytes(id)).tree_key(),
            tree_key
        );
    }

    #[test]
    fn a_conversation_and_its_log_have_the_same_record() {
        let id = [7; 32];
        let (session, channel) = (SessionId::from_bytes(id), ChannelId::from_bytes(id));
        let (group, account) = (GroupId::from_bytes(id), AccountId::from_bytes(id));
        for (conversation, log, record) in [
            (
                Conversation::Session(session),
                LogId::Session(session),
                RecordKey::Session(session),
            ),
            (
                Conversation::Channel(channel),
                LogId::Channel(channel),
                RecordKey::Channel(channel),
            ),
            (
                Conversation::Group(group),
                LogId::Group(group),
                RecordKey::Group(group),
            ),
        ] {
            assert_eq!((conversation.log(), conversation.record()), (log, record));
            assert_eq!(log.record(), record);
            assert_one_form(&conversation);
        }
        for log in [LogId::Memberships(account), LogId::Requests(account)] {
            assert_eq!(log.record(), RecordKey::Account(account));
        }
        assert!(Conversation::from_bytes(&[&[4], id.as_slice()].concat()).is_err());
    }

    proptest! {
        #[test]
        fn keys_have_one_form_and_fit_their_bound(a: [u8; 32], b: [u8; 32], garbage: Vec<u8>) {
            let (account, other) = (AccountId::from_bytes(a), AccountId::from_bytes(b));
            let session = Conversation::Session(SessionId::from_bytes(b));
            for key in [
                RecordKey::Parameters, RecordKey::Quotas, RecordKey::Account(account),
                RecordKey::Session(SessionId::from_bytes(a)), RecordKey::Channel(ChannelId::from_bytes(a)),
                RecordKey::Member(ChannelId::from_bytes(a), other),
                RecordKey::Acknowledgement(session, account), RecordKey::OpenRequests(account, other),
                RecordKey::Chunk(ChunkId::from_bytes(a)), RecordKey::Action(ActionId::from_bytes(a)),
                RecordKey::Group(GroupId::from_bytes(a)), RecordKey::KeyPackages(account),
                RecordKey::TakenKeyPackages(account, other),
                RecordKey::Acknowledgement(Conversation::Group(GroupId::from_bytes(b)), account),
            ] {
                let bytes = key.to_bytes();
                prop_assert!(bytes.len() <= RecordKey::LEN_MAX);
                prop_assert_eq!(RecordKey::from_bytes(&bytes), Ok(key));
            }
            if let Ok(key) = RecordKey::from_bytes(&garbage) {
                prop_assert_eq!(key.to_bytes(), garbage);
            }
        }
    }
}
