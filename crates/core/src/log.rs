//! The append-only logs under sessions, channels and accounts: ids, entries and their leaf hash.
//!
//! `spec/vm.md` §6: leaf = `H(log-leaf, canonical entry)`, the state keeps the frontier.

use crate::codec::{Decode, DecodeError, Encode, Reader, Writer};
use crate::hash::Tag;
use crate::ids::{AccountId, ActionId, ChannelId, Digest, GroupId, MessageId, SessionId, TxId};
use crate::merkle::Hash;
use crate::time::Time;

/// Which log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogId {
    /// Messages of a session.
    Session(SessionId),
    /// Messages of a channel.
    Channel(ChannelId),
    /// Sessions and channels that an account created or accepted.
    Memberships(AccountId),
    /// Sessions and channels that others opened with an account.
    Requests(AccountId),
    /// Frames and commits of a group.
    Group(GroupId),
}

impl LogId {
    /// Bytes of an encoded log id.
    pub const LEN: usize = 33;
}

impl Encode for LogId {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Session(id) => out.u8(1).value(id),
            Self::Channel(id) => out.u8(2).value(id),
            Self::Memberships(id) => out.u8(3).value(id),
            Self::Requests(id) => out.u8(4).value(id),
            Self::Group(id) => out.u8(5).value(id),
        };
    }
}

impl Decode for LogId {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("log kind")? {
            1 => SessionId::decode(input).map(Self::Session),
            2 => ChannelId::decode(input).map(Self::Channel),
            3 => AccountId::decode(input).map(Self::Memberships),
            4 => AccountId::decode(input).map(Self::Requests),
            5 => GroupId::decode(input).map(Self::Group),
            value => Err(DecodeError::UnknownValue {
                what: "log kind",
                value: value.into(),
            }),
        }
    }
}

/// One message, as its log commits to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageEntry {
    /// Place in the log, from 0.
    pub sequence: u64,
    /// Block time of the block that accepted it.
    pub time: Time,
    /// Height of that block.
    pub height: u64,
    /// Message id.
    pub id: MessageId,
    /// Who sent it.
    pub sender: AccountId,
    /// SHA-256 of the ciphertext.
    pub body_hash: Digest,
    /// SHA-256 of the signature (of the empty string for an unsigned message).
    pub signature_hash: Digest,
    /// Whether the sender's signature was verified at acceptance.
    pub verified: bool,
}

/// How an account came to a session or channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MembershipEvent {
    /// It created the conversation.
    Created,
    /// It accepted a request.
    Accepted,
    /// Somebody else opened the conversation with it.
    Requested,
}

/// A conversation that an account takes part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Conversation {
    /// A session.
    Session(SessionId),
    /// A channel.
    Channel(ChannelId),
    /// A group. Never in an account's logs.
    Group(GroupId),
}

/// One entry of an account's memberships or requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipEntry {
    /// Place in the log, from 0.
    pub sequence: u64,
    /// Block time.
    pub time: Time,
    /// What happened.
    pub event: MembershipEvent,
    /// The conversation.
    pub conversation: Conversation,
    /// Who opened it; none for an unsigned create.
    pub by: Option<AccountId>,
}

/// One frame, as a group's log commits to it. The sender is a member; which one stays hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PostEntry {
    /// Place in the log, from 0.
    pub sequence: u64,
    /// Block time of the block that accepted it.
    pub time: Time,
    /// Height of that block.
    pub height: u64,
    /// [`frame_id`](crate::group::frame_id).
    pub id: MessageId,
    /// Epoch in which it was sealed.
    pub epoch: u64,
    /// SHA-256 of the frame.
    pub body_hash: Digest,
    /// SHA-256 of the signature of the epoch's posting key.
    pub signature_hash: Digest,
}

/// An accepted advance of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvanceEntry {
    /// Place in the log, from 0.
    pub sequence: u64,
    /// Block time of the block that accepted it.
    pub time: Time,
    /// Height of that block.
    pub height: u64,
    /// Its action, which commits to the commit and to the keys of the new epoch.
    pub action: ActionId,
    /// The epoch that began.
    pub epoch: u64,
    /// [`commit_hash`](crate::group::commit_hash).
    pub commit: Digest,
    /// Whether it raised the floor.
    pub removal: bool,
    /// Hash of the admin key that signed it as well.
    pub admin: Option<Digest>,
    /// Its transaction, which commits to the signatures as well.
    pub tx: TxId,
}

/// Any log entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Of a session's or channel's log.
    Message(MessageEntry),
    /// Of an account's logs.
    Membership(MembershipEntry),
    /// Of a group's log.
    Post(PostEntry),
    /// Of a group's log.
    Advance(AdvanceEntry),
}

impl Entry {
    /// `H(log-leaf, canonical entry)`.
    pub fn leaf(&self) -> Hash {
        leaf_of(&self.to_bytes())
    }

    /// Place in the log.
    pub const fn sequence(&self) -> u64 {
        match self {
            Self::Message(entry) => entry.sequence,
            Self::Membership(entry) => entry.sequence,
            Self::Post(entry) => entry.sequence,
            Self::Advance(entry) => entry.sequence,
        }
    }

    /// Block time of the block that accepted it.
    pub const fn time(&self) -> Time {
        match self {
            Self::Message(entry) => entry.time,
            Self::Membership(entry) => entry.time,
            Self::Post(entry) => entry.time,
            Self::Advance(entry) => entry.time,
        }
    }

    /// Id of the message or frame that it is about.
    pub const fn message_id(&self) -> Option<MessageId> {
        match self {
            Self::Message(entry) => Some(entry.id),
            Self::Post(entry) => Some(entry.id),
            Self::Membership(_) | Self::Advance(_) => None,
        }
    }
}

/// Leaf hash of a canonical entry.
pub fn leaf_of(entry: &[u8]) -> Hash {
    Tag::LogLeaf.hash(&[entry])
}

impl Encode for Entry {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Message(m) => out
                .u8(1)
                .u64(m.sequence)
                .value(&m.time)
                .u64(m.height)
                .value(&m.id)
                .value(&m.sender)
                .value(&m.body_hash)
                .value(&m.signature_hash)
                .bool(m.verified),
            Self::Membership(m) => {
                let event = match m.event {
                    MembershipEvent::Created => 1,
                    MembershipEvent::Accepted => 2,
                    MembershipEvent::Requested => 3,
                };
                out.u8(2).u64(m.sequence).value(&m.time).u8(event);
                match &m.conversation {
                    Conversation::Session(id) => out.u8(1).value(id),
                    Conversation::Channel(id) => out.u8(2).value(id),
                    Conversation::Group(id) => out.u8(3).value(id),
                };
                out.option(m.by.as_ref())
            }
            Self::Post(p) => out
                .u8(3)
                .u64(p.sequence)
                .value(&p.time)
                .u64(p.height)
                .value(&p.id)
                .u64(p.epoch)
                .value(&p.body_hash)
                .value(&p.signature_hash),
            Self::Advance(a) => out
                .u8(4)
                .u64(a.sequence)
                .value(&a.time)
                .u64(a.height)
                .value(&a.action)
                .u64(a.epoch)
                .value(&a.commit)
                .bool(a.removal)
                .option(a.admin.as_ref())
                .value(&a.tx),
        };
    }
}

impl Decode for Entry {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let unknown = |what, value: u8| DecodeError::UnknownValue {
            what,
            value: value.into(),
        };
        match input.u8("entry kind")? {
            1 => Ok(Self::Message(MessageEntry {
                sequence: input.u64("sequence")?,
                time: Time::decode(input)?,
                height: input.u64("height")?,
                id: MessageId::decode(input)?,
                sender: AccountId::decode(input)?,
                body_hash: Digest::decode(input)?,
                signature_hash: Digest::decode(input)?,
                verified: input.bool("verified")?,
            })),
            2 => Ok(Self::Membership(MembershipEntry {
                sequence: input.u64("sequence")?,
                time: Time::decode(input)?,
                event: match input.u8("membership event")? {
                    1 => MembershipEvent::Created,
                    2 => MembershipEvent::Accepted,
                    3 => MembershipEvent::Requested,
                    value => return Err(unknown("membership event", value)),
                },
                conversation: match input.u8("conversation kind")? {
                    1 => Conversation::Session(SessionId::decode(input)?),
                    2 => Conversation::Channel(ChannelId::decode(input)?),
                    value => return Err(unknown("conversation kind", value)),
                },
                by: input.option("opened by")?,
            })),
            3 => Ok(Self::Post(PostEntry {
                sequence: input.u64("sequence")?,
                time: Time::decode(input)?,
                height: input.u64("height")?,
                id: MessageId::decode(input)?,
                epoch: input.u64("epoch")?,
                body_hash: Digest::decode(input)?,
                signature_hash: Digest::decode(input)?,
            })),
            4 => Ok(Self::Advance(AdvanceEntry {
                sequence: input.u64("sequence")?,
                time: Time::decode(input)?,
                height: input.u64("height")?,
                action: ActionId::decode(input)?,
                epoch: input.u64("epoch")?,
                commit: Digest::decode(input)?,
                removal: input.bool("removal")?,
                admin: input.option("admin key")?,
                tx: TxId::decode(input)?,
            })),
            value => Err(unknown("entry kind", value)),
        }
    }
}

/// `H(message, chain || session || sender || SHA-256(ciphertext))`: the id of a message, and what
/// its ML-DSA-65 signature covers (`spec/vm.md` §4).
pub fn message_id(
    chain: &crate::ids::ChainId,
    conversation: &Conversation,
    sender: &AccountId,
    body_hash: &Digest,
) -> MessageId {
    // Their ids never collide: all are tagged hashes.
    let conversation = match conversation {
        Conversation::Session(id) => id.as_bytes(),
        Conversation::Channel(id) => id.as_bytes(),
        Conversation::Group(id) => id.as_bytes(),
    };
    MessageId::from_bytes(Tag::Message.hash(&[
        chain.as_bytes(),
        conversation,
        sender.as_bytes(),
        body_hash.as_bytes(),
    ]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_byte_of_a_log_id_and_of_a_leaf_is_as_specified() {
        let id = [7; 32];
        for (kind, log) in [
            (1, LogId::Session(SessionId::from_bytes(id))),
            (2, LogId::Channel(ChannelId::from_bytes(id))),
            (3, LogId::Memberships(AccountId::from_bytes(id))),
            (4, LogId::Requests(AccountId::from_bytes(id))),
            (5, LogId::Group(GroupId::from_bytes(id))),
        ] {
            let bytes = log.to_bytes();
            assert_eq!(bytes, [&[kind][..], &id].concat());
            assert_eq!(bytes.len(), LogId::LEN);
            assert_eq!(LogId::from_bytes(&bytes), Ok(log));
        }
        let entry = Entry::Membership(MembershipEntry {
            sequence: 258,
            time: Time::from_ms(1),
            event: MembershipEvent::Requested,
            conversation: Conversation::Session(SessionId::from_bytes(id)),
            by: None,
        });
        assert_eq!(entry.sequence(), 258);
        let canonical = [
            &[2, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1, 3, 1][..],
            &id,
            &[0],
        ];
        assert_eq!(entry.to_bytes(), canonical.concat());
        // H(tag, data) = SHA-256(length of tag | tag | data), spec/vm.md §1.
        let tag = b"LUX:SessionVM:log-leaf:v1";
        let hashed = crate::hash::sha256(&[&[25], &tag[..], &canonical.concat()].concat());
        assert_eq!(entry.leaf(), hashed);
        assert_eq!(leaf_of(&canonical.concat()), hashed);
    }

    proptest! {
        #[test]
        fn entries_have_one_form(sequence: u64, time: u64, height: u64, a: [u8; 32], b: [u8; 32], verified: bool, garbage: Vec<u8>) {
            let message = Entry::Message(MessageEntry {
                sequence, time: Time::from_ms(time), height,
                id: MessageId::from_bytes(a), sender: AccountId::from_bytes(b),
                body_hash: Digest::from_bytes(a), signature_hash: Digest::from_bytes(b), verified,
            });
            let membership = Entry::Membership(MembershipEntry {
                sequence, time: Time::from_ms(time), event: MembershipEvent::Accepted,
                conversation: Conversation::Channel(ChannelId::from_bytes(a)),
                by: verified.then(|| AccountId::from_bytes(b)),
            });
            let post = Entry::Post(PostEntry {
                sequence, time: Time::from_ms(time), height, id: MessageId::from_bytes(a), epoch: time,
                body_hash: Digest::from_bytes(b), signature_hash: Digest::from_bytes(a),
            });
            let advance = Entry::Advance(AdvanceEntry {
                sequence, time: Time::from_ms(time), height, action: ActionId::from_bytes(b), epoch: height,
                commit: Digest::from_bytes(a), removal: verified,
                admin: verified.then(|| Digest::from_bytes(b)), tx: TxId::from_bytes(b),
            });
            for entry in [message, membership, post, advance] {
                prop_assert_eq!((entry.sequence(), entry.time()), (sequence, Time::from_ms(time)));
                prop_assert_eq!(Entry::from_bytes(&entry.to_bytes()), Ok(entry));
            }
            if let Ok(entry) = Entry::from_bytes(&garbage) {
                prop_assert_eq!(entry.to_bytes(), garbage);
            }
        }
    }
}
