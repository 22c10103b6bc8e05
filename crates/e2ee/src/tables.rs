//! Our own records: what each is called, and what is in it.
//!
//! ```text
//! 'd'                              this device
//! 'n'                              counters: outgoing, events, certificates
//! 'g' group                        the conversation
//! 'w' group                        one's commit that waits for the chain
//! 'h' group epoch                  an epoch: frame keys, roster, keys towards the chain
//! 'f' group epoch leaf             a sender's chain
//! 'u' group epoch leaf             its frames whose signature is awaited
//! 'r' group epoch leaf generation hash   a frame that waits for the signature to decide
//! 'k' group hash                   a leaf's signature key
//! 'a' group leaf                   when a leaf was last heard of
//! 's' group device                 a key package that a member left for a successor
//! 'o' number                       outbox          'x' hash     its frame's hash to its number
//! 'e' number                       inbox
//! 'p' hash of key package          a key package of ours
//! 'm' ...                          the library's (see `records`)
//! ```

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::{AccountId, ChainId, Digest, GroupId};
use session_crypto::Secret;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

use crate::chain_keys::Seeds;
use crate::content::MessageName;
use crate::credential::{DeviceCertificate, DeviceId};
use crate::error::E2eeError;
use crate::event::{Event, MemberDevice, Message, coded};
use crate::frame::{Chain, EpochKeys, MessageKey};
use crate::limits::{
    ADDS_MAX, KEY_PACKAGE_MAX, LEAVES_MAX, NAME_MAX, SIGNED_BATCH_MAX, UNSIGNED_MAX,
};
use crate::outgoing::{Invitation, Outgoing, Predecessor};
use crate::policy::{Policy, SignatureRule, text};
use crate::records::Buffer;
use crate::roster::Roster;
use crate::signed_batch::SignedFrame;
use crate::suite::Suite;

/// A record with a name.
pub(crate) trait Record: Encode + Decode {
    /// What tells records of this kind apart.
    type Key: ?Sized;
    /// The record's name.
    fn name(key: &Self::Key) -> Vec<u8>;
}

impl Buffer<'_> {
    /// Reads a record.
    pub(crate) fn load_record<R: Record>(&self, key: &R::Key) -> Result<Option<R>, E2eeError> {
        let Some(bytes) = self.get(&R::name(key))? else {
            return Ok(None);
        };
        R::from_bytes(&bytes).map(Some).map_err(E2eeError::Stored)
    }

    /// Writes a record.
    pub(crate) fn save_record<R: Record>(&self, key: &R::Key, record: &R) {
        self.put(R::name(key), record.to_bytes());
    }

    /// Deletes a record.
    pub(crate) fn delete_record<R: Record>(&self, key: &R::Key) {
        self.delete(R::name(key));
    }

    /// Deletes every record whose name begins so.
    pub(crate) fn delete_all(&self, prefix: &[u8]) {
        for name in self.names(prefix) {
            self.delete(name);
        }
    }
}

/// This device.
pub(crate) struct DeviceRecord {
    pub(crate) suite: Suite,
    pub(crate) account: AccountId,
    pub(crate) device: DeviceId,
    pub(crate) name: String,
    pub(crate) leaf_seed: Secret<32>,
    /// None while it waits to be linked.
    pub(crate) certificate: Option<DeviceCertificate>,
    /// While it waits to be linked: the code's secret, and the seed of the key that the grant is
    /// sealed to.
    pub(crate) link: Option<(Secret<32>, Secret<64>)>,
}

/// What is counted for the whole device.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counters {
    pub(crate) outgoing: u64,
    pub(crate) events: u64,
    pub(crate) serial: u64,
}

/// How a conversation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupStatus {
    /// It can be read and written.
    Active,
    /// An accepted commit cannot be followed.
    Halted,
    /// This device was removed.
    Removed,
    /// Another group follows it.
    Superseded,
}

coded!(
    GroupStatus,
    "group status",
    Active = 0,
    Halted = 1,
    Removed = 2,
    Superseded = 3
);

/// A conversation.
pub(crate) struct GroupRecord {
    pub(crate) suite: Suite,
    pub(crate) chain: ChainId,
    pub(crate) status: GroupStatus,
    pub(crate) epoch: u64,
    /// The epoch that this device came in at.
    pub(crate) joined_epoch: u64,
    /// Frames of earlier epochs are refused: somebody was removed since.
    pub(crate) floor: u64,
    pub(crate) own_leaf: u32,
    pub(crate) last_commit: Digest,
    /// The next entry of the log.
    pub(crate) next_position: u64,
    /// The next thing that this device says here.
    pub(crate) next_sequence: u64,
    pub(crate) sent_since_rotation: u32,
    pub(crate) rotate_at_ms: u64,
    /// One's own frames of one epoch that are not signed yet.
    pub(crate) unsigned: Vec<SignedFrame>,
    pub(crate) unsigned_epoch: u64,
    pub(crate) unsigned_since_ms: u64,
    /// Nothing of this epoch was signed yet.
    pub(crate) first_of_epoch: bool,
    pub(crate) admin_seed: Option<Secret<32>>,
    pub(crate) predecessor: Option<Predecessor>,
    pub(crate) policy: Policy,
}

/// What a commit was made for, so that it can be made anew when another one came first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Intent {
    Add(Vec<Vec<u8>>),
    Remove {
        members: Vec<MemberDevice>,
        /// They may not come back.
        revoke: bool,
    },
    Rotate,
    Policy {
        from: Box<Policy>,
        to: Box<Policy>,
    },
}

/// One's commit that waits for the chain.
pub(crate) struct PendingRecord {
    pub(crate) number: u64,
    pub(crate) commit_hash: Digest,
    pub(crate) intent: Intent,
    pub(crate) invitation: Option<Invitation>,
}

/// An epoch.
pub(crate) struct EpochRecord {
    pub(crate) keys: EpochKeys,
    pub(crate) roster: Roster,
    pub(crate) seeds: Seeds,
    /// What is demanded of senders in it.
    pub(crate) rule: SignatureRule,
}

/// A sender's chain.
pub(crate) struct ChainRecord(pub(crate) Chain);

/// A place in a sender's chain whose signature is awaited, or known before its frame.
#[derive(Clone)]
pub(crate) struct Unsigned {
    /// What opens further frames of this place. None: its frame is not here, or too old.
    pub(crate) key: Option<MessageKey>,
    /// The frame that took the place first, and the message that was shown for it.
    pub(crate) first: Option<(Digest, Option<MessageName>)>,
    /// The frame that the sender signed.
    pub(crate) settled: Option<Digest>,
}

/// By generation.
#[derive(Default)]
pub(crate) struct UnsignedRecord(pub(crate) BTreeMap<u32, Unsigned>);

/// A frame that waits for the signature to decide.
pub(crate) struct RivalRecord(pub(crate) Message);

/// A leaf's signature key.
pub(crate) struct LeafKeyRecord(pub(crate) Vec<u8>);

/// When a leaf was last heard of, block time.
pub(crate) struct ActivityRecord(pub(crate) u64);

/// A key package that a member left for a successor.
pub(crate) struct ReservedRecord {
    pub(crate) member: MemberDevice,
    pub(crate) key_package: Vec<u8>,
}

/// One thing in the outbox.
pub(crate) struct OutboxRecord {
    pub(crate) outgoing: Outgoing,
    /// For a frame: the body, to be sealed again.
    pub(crate) body: Option<Zeroizing<Vec<u8>>>,
}

/// The number of a frame's outbox entry.
pub(crate) struct FrameNumber(pub(crate) u64);

/// What a key package of ours is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyPackageUse {
    Once,
    LastResort,
    Reserved,
}

coded!(
    KeyPackageUse,
    "use of key package",
    Once = 0,
    LastResort = 1,
    Reserved = 2
);

/// A key package of ours.
pub(crate) struct KeyPackageRecord {
    pub(crate) purpose: KeyPackageUse,
    pub(crate) expires_ms: u64,
    pub(crate) reference: Vec<u8>,
}

/// Names: a byte and the parts of the key.
pub(crate) fn named(table: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut name = vec![table];
    for part in parts {
        name.extend_from_slice(part);
    }
    name
}

macro_rules! record {
    ($record:ident, $key:ty, |$arg:ident| $name:expr) => {
        impl Record for $record {
            type Key = $key;
            fn name($arg: &$key) -> Vec<u8> {
                $name
            }
        }
    };
}

type EpochKey = (GroupId, u64);
type LeafKey = (GroupId, u64, u32);

record!(DeviceRecord, (), |_key| named(b'd', &[]));
record!(Counters, (), |_key| named(b'n', &[]));
record!(GroupRecord, GroupId, |key| named(b'g', &[key.as_bytes()]));
record!(PendingRecord, GroupId, |key| named(b'w', &[key.as_bytes()]));
record!(EpochRecord, EpochKey, |key| {
    named(b'h', &[key.0.as_bytes(), &key.1.to_be_bytes()])
});
record!(ChainRecord, LeafKey, |key| leaf_name(b'f', *key));
record!(UnsignedRecord, LeafKey, |key| leaf_name(b'u', *key));
record!(RivalRecord, (GroupId, u64, u32, u32, Digest), |key| {
    let (group, epoch, leaf, generation, hash) = key;
    let mut name = leaf_name(b'r', (*group, *epoch, *leaf));
    name.extend_from_slice(&generation.to_be_bytes());
    name.extend_from_slice(hash.as_bytes());
    name
});
record!(LeafKeyRecord, (GroupId, Digest), |key| {
    named(b'k', &[key.0.as_bytes(), key.1.as_bytes()])
});
record!(ActivityRecord, (GroupId, u32), |key| {
    named(b'a', &[key.0.as_bytes(), &key.1.to_be_bytes()])
});
record!(ReservedRecord, (GroupId, DeviceId), |key| {
    named(b's', &[key.0.as_bytes(), key.1.as_bytes()])
});
record!(OutboxRecord, u64, |key| named(b'o', &[&key.to_be_bytes()]));
record!(FrameNumber, Digest, |key| named(b'x', &[key.as_bytes()]));
record!(Event, u64, |key| named(b'e', &[&key.to_be_bytes()]));
record!(KeyPackageRecord, Digest, |key| named(
    b'p',
    &[key.as_bytes()]
));

fn leaf_name(table: u8, (group, epoch, leaf): LeafKey) -> Vec<u8> {
    let parts: [&[u8]; 3] = [group.as_bytes(), &epoch.to_be_bytes(), &leaf.to_be_bytes()];
    named(table, &parts)
}

fn secret<const N: usize>(
    input: &mut Reader<'_>,
    what: &'static str,
) -> Result<Secret<N>, DecodeError> {
    Ok(Secret::new(*Zeroizing::new(input.array::<N>(what)?)))
}

fn optional_secret(
    input: &mut Reader<'_>,
    what: &'static str,
) -> Result<Option<Secret<32>>, DecodeError> {
    if input.bool(what)? {
        secret(input, what).map(Some)
    } else {
        Ok(None)
    }
}

impl Encode for DeviceRecord {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.suite)
            .value(&self.account)
            .value(&self.device)
            .bytes(self.name.as_bytes())
            .raw(self.leaf_seed.expose())
            .option(self.certificate.as_ref())
            .bool(self.link.is_some());
        if let Some((code, seed)) = &self.link {
            out.raw(code.expose()).raw(seed.expose());
        }
    }
}

impl Decode for DeviceRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            suite: Decode::decode(input)?,
            account: Decode::decode(input)?,
            device: Decode::decode(input)?,
            name: text(input, "device name", NAME_MAX)?,
            leaf_seed: secret(input, "leaf seed")?,
            certificate: input.option("certificate")?,
            link: if input.bool("link")? {
                Some((secret(input, "link code")?, secret(input, "link seed")?))
            } else {
                None
            },
        })
    }
}

impl Encode for Counters {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.outgoing).u64(self.events).u64(self.serial);
    }
}

impl Decode for Counters {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            outgoing: input.u64("outgoing")?,
            events: input.u64("events")?,
            serial: input.u64("serial")?,
        })
    }
}

impl Encode for GroupRecord {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.suite)
            .value(&self.chain)
            .value(&self.status)
            .u64(self.epoch)
            .u64(self.joined_epoch)
            .u64(self.floor)
            .u32(self.own_leaf)
            .value(&self.last_commit)
            .u64(self.next_position)
            .u64(self.next_sequence)
            .u32(self.sent_since_rotation)
            .u64(self.rotate_at_ms)
            .list(&self.unsigned)
            .u64(self.unsigned_epoch)
            .u64(self.unsigned_since_ms)
            .bool(self.first_of_epoch)
            .bool(self.admin_seed.is_some());
        if let Some(seed) = &self.admin_seed {
            out.raw(seed.expose());
        }
        out.option(self.predecessor.as_ref()).value(&self.policy);
    }
}

impl Decode for GroupRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            suite: Decode::decode(input)?,
            chain: Decode::decode(input)?,
            status: Decode::decode(input)?,
            epoch: input.u64("epoch")?,
            joined_epoch: input.u64("joined epoch")?,
            floor: input.u64("floor")?,
            own_leaf: input.u32("own leaf")?,
            last_commit: Decode::decode(input)?,
            next_position: input.u64("next position")?,
            next_sequence: input.u64("next sequence")?,
            sent_since_rotation: input.u32("sent since rotation")?,
            rotate_at_ms: input.u64("rotate at")?,
            unsigned: input.list("unsigned", SIGNED_BATCH_MAX, 36)?,
            unsigned_epoch: input.u64("unsigned epoch")?,
            unsigned_since_ms: input.u64("unsigned since")?,
            first_of_epoch: input.bool("first of epoch")?,
            admin_seed: optional_secret(input, "admin seed")?,
            predecessor: input.option("predecessor")?,
            policy: Decode::decode(input)?,
        })
    }
}

impl Encode for Intent {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Add(key_packages) => {
                out.u8(0).count(key_packages.len());
                for key_package in key_packages {
                    out.bytes(key_package);
                }
            }
            Self::Remove { members, revoke } => {
                out.u8(1).list(members).bool(*revoke);
            }
            Self::Rotate => {
                out.u8(2);
            }
            Self::Policy { from, to } => {
                out.u8(3).value(&**from).value(&**to);
            }
        }
    }
}

impl Decode for Intent {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("intent")? {
            0 => {
                let count = input.count("key packages", ADDS_MAX, 4)?;
                let mut list = Vec::with_capacity(count);
                for _ in 0..count {
                    list.push(input.bytes("key package", KEY_PACKAGE_MAX)?.to_vec());
                }
                Self::Add(list)
            }
            1 => Self::Remove {
                members: input.list("members", LEAVES_MAX, 48)?,
                revoke: input.bool("revoke")?,
            },
            2 => Self::Rotate,
            3 => Self::Policy {
                from: Box::new(Decode::decode(input)?),
                to: Box::new(Decode::decode(input)?),
            },
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "intent",
                    value: value.into(),
                });
            }
        })
    }
}

impl Encode for PendingRecord {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.number)
            .value(&self.commit_hash)
            .value(&self.intent)
            .option(self.invitation.as_ref());
    }
}

impl Decode for PendingRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: input.u64("number")?,
            commit_hash: Decode::decode(input)?,
            intent: Decode::decode(input)?,
            invitation: input.option("invitation")?,
        })
    }
}

impl Encode for EpochRecord {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.keys)
            .value(&self.roster)
            .raw(self.seeds.posting.expose())
            .raw(self.seeds.control.expose())
            .value(&self.rule);
    }
}

impl Decode for EpochRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            keys: Decode::decode(input)?,
            roster: Decode::decode(input)?,
            seeds: Seeds {
                posting: secret(input, "posting seed")?,
                control: secret(input, "control seed")?,
            },
            rule: Decode::decode(input)?,
        })
    }
}

impl Encode for ChainRecord {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.0);
    }
}

impl Decode for ChainRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Decode::decode(input).map(Self)
    }
}

impl Encode for UnsignedRecord {
    fn encode(&self, out: &mut Writer) {
        out.count(self.0.len());
        for (generation, entry) in &self.0 {
            out.u32(*generation).option(entry.key.as_ref());
            out.bool(entry.first.is_some());
            if let Some((hash, name)) = &entry.first {
                out.value(hash).option(name.as_ref());
            }
            out.option(entry.settled.as_ref());
        }
    }
}

impl Decode for UnsignedRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.count("unsigned", UNSIGNED_MAX, 7)?;
        let mut entries = BTreeMap::new();
        for _ in 0..count {
            let generation = input.u32("generation")?;
            let entry = Unsigned {
                key: input.option("message key")?,
                first: if input.bool("first")? {
                    Some((Decode::decode(input)?, input.option("message name")?))
                } else {
                    None
                },
                settled: input.option("settled")?,
            };
            entries.insert(generation, entry);
        }
        Ok(Self(entries))
    }
}

impl Encode for RivalRecord {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.0);
    }
}

impl Decode for RivalRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Decode::decode(input).map(Self)
    }
}

impl Encode for LeafKeyRecord {
    fn encode(&self, out: &mut Writer) {
        out.bytes(&self.0);
    }
}

impl Decode for LeafKeyRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(input.bytes("leaf key", 4_096)?.to_vec()))
    }
}

impl Encode for ActivityRecord {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.0);
    }
}

impl Decode for ActivityRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.u64("last heard of").map(Self)
    }
}

impl Encode for ReservedRecord {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.member).bytes(&self.key_package);
    }
}

impl Decode for ReservedRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            member: Decode::decode(input)?,
            key_package: input.bytes("key package", KEY_PACKAGE_MAX)?.to_vec(),
        })
    }
}

impl Encode for OutboxRecord {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.outgoing).bool(self.body.is_some());
        if let Some(body) = &self.body {
            out.bytes(body);
        }
    }
}

impl Decode for OutboxRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            outgoing: Decode::decode(input)?,
            body: if input.bool("body")? {
                let body = input.bytes("body", crate::limits::FRAME_MAX)?;
                Some(Zeroizing::new(body.to_vec()))
            } else {
                None
            },
        })
    }
}

impl Encode for FrameNumber {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.0);
    }
}

impl Decode for FrameNumber {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.u64("outbox number").map(Self)
    }
}

impl Encode for KeyPackageRecord {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.purpose)
            .u64(self.expires_ms)
            .bytes(&self.reference);
    }
}

impl Decode for KeyPackageRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            purpose: Decode::decode(input)?,
            expires_ms: input.u64("key package expires")?,
            reference: input.bytes("key package reference", 64)?.to_vec(),
        })
    }
}
