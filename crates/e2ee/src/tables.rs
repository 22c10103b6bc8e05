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
//! 'v' group device                 an admin key that a member has signed for
//! 'c' group device sequence        one whose signature is awaited
//! 'q' group device chunk           a commit that a member wants to have signed by an admin
//! 'b' group device                 an admin's wish for other admin keys
//! 'y' group                        the chain's admin keys may have to follow
//! 'z' group                        what other admins were asked to sign
//! 'i' group device                 when a device came back that had lost the group
//! 'j' group                        what this device asks by to come back
//! 'o' number                       outbox          'x' hash     its frame's hash to its number
//! 'e' number                       inbox
//! 'p' hash of key package          a key package of ours
//! 'l' hash of public key           a signature key of ours that another one has replaced
//! 'm' ...                          the library's (see `records`)
//! ```

mod encoding;

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::{AccountId, ChainId, ChunkId, Digest, GroupId};
use session_crypto::{Secret, SigningPublicKey};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

use crate::admin_work::{AdminsRequest, CountersignRequest};
use crate::chain_keys::Seeds;
use crate::content::MessageName;
use crate::credential::{DeviceCertificate, DeviceId};
use crate::device::AskedAdmins;
use crate::error::E2eeError;
use crate::event::{Event, MemberDevice, Message, coded};
use crate::frame::{Chain, EpochKeys, MessageKey};
use crate::outgoing::{Invitation, Outgoing, Predecessor};
use crate::policy::{Policy, SignatureRule};
use crate::records::Buffer;
use crate::rejoin::RejoinRequest;
use crate::roster::Roster;
use crate::rotation::RotationPolicy;
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
    /// Published key packages are by an earlier certificate: until when new ones are to be good.
    pub(crate) republish_until_ms: Option<u64>,
    /// How often it rotates.
    pub(crate) rotation: RotationPolicy,
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
    /// A commit is gone that this device did not see: it asks to be let back in.
    Lost,
}

coded!(
    GroupStatus,
    "group status",
    Active = 0,
    Halted = 1,
    Removed = 2,
    Superseded = 3,
    Lost = 4
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
    /// The signature key of that leaf, one of this device's.
    pub(crate) leaf_key: Digest,
    /// While the group is lost: the key that one's own commit gave the leaf, if it was taken unseen.
    pub(crate) perhaps_key: Option<Digest>,
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
    /// When the last signature of this epoch was made; 0: there is none yet.
    pub(crate) signed_ms: u64,
    pub(crate) admin_seed: Option<Secret<32>>,
    /// The group was told the admin key.
    pub(crate) admin_key_told: bool,
    /// Until when the key package is good that this device left here for a successor; 0: none.
    pub(crate) reserved_until_ms: u64,
    pub(crate) predecessor: Option<Predecessor>,
    /// What this device cuts the group's tree with when it invites (`tree.rs`).
    pub(crate) tree_secret: Secret<32>,
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
    /// A device is let back in.
    Readmit(Box<RejoinRequest>),
}

/// One's commit that waits for the chain.
pub(crate) struct PendingRecord {
    pub(crate) number: u64,
    pub(crate) commit_hash: Digest,
    pub(crate) intent: Intent,
    pub(crate) invitation: Option<Invitation>,
    /// When an admin was asked to sign it.
    pub(crate) asked_ms: Option<u64>,
    /// Until when the chain may take it, block time; none: it has not left.
    pub(crate) out_until_ms: Option<u64>,
    /// This device's leaf has this signature key after it.
    pub(crate) leaf_key: Digest,
    /// It does not give the leaf the key that the device has by now: the next rotation is due right after it.
    pub(crate) then_rotate: bool,
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

/// What this device asks by to come back.
pub(crate) struct RejoinRecord {
    pub(crate) request: RejoinRequest,
    pub(crate) sent: bool,
    /// The signature key that it was made with.
    pub(crate) leaf_key: Digest,
}

/// When a device came back, block time.
pub(crate) struct ReturnRecord {
    pub(crate) at_ms: u64,
}

/// A device's admin key towards the chain, which it has signed for.
pub(crate) struct AdminKeyRecord {
    /// Of the message that said it: a later one counts.
    pub(crate) sequence: u64,
    pub(crate) key: SigningPublicKey,
}

/// An admin key that was said in a device's name, and is not signed for yet.
pub(crate) struct ClaimedAdminKeyRecord(pub(crate) SigningPublicKey);

/// A commit that a member wants to have signed by an admin.
pub(crate) struct CountersignRecord(pub(crate) CountersignRequest);

/// What an admin's device wants other admins to sign.
pub(crate) struct AdminsRequestRecord(pub(crate) AdminsRequest);

/// What this device wants other admins to sign.
pub(crate) struct AskedAdminsRecord(pub(crate) AskedAdmins);

/// Roles, members or known admin keys have changed.
pub(crate) struct AdminsMark;

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
    /// The signature key in it, one of this device's.
    pub(crate) leaf_key: Digest,
}

/// A signature key of this device that another one has replaced, for groups and key packages that have it
/// still.
pub(crate) struct FormerKeyRecord {
    pub(crate) seed: Secret<32>,
    pub(crate) certificate: DeviceCertificate,
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
record!(RejoinRecord, GroupId, |key| named(b'j', &[key.as_bytes()]));
record!(ReturnRecord, (GroupId, DeviceId), |key| {
    named(b'i', &[key.0.as_bytes(), key.1.as_bytes()])
});
record!(AdminKeyRecord, (GroupId, DeviceId), |key| {
    named(b'v', &[key.0.as_bytes(), key.1.as_bytes()])
});
record!(ClaimedAdminKeyRecord, (GroupId, MessageName), |key| {
    let (group, message) = key;
    let sequence = message.sequence.to_be_bytes();
    named(
        b'c',
        &[group.as_bytes(), message.device.as_bytes(), &sequence],
    )
});
record!(CountersignRecord, (GroupId, DeviceId, ChunkId), |key| {
    let (group, device, chunk) = key;
    named(
        b'q',
        &[group.as_bytes(), device.as_bytes(), chunk.as_bytes()],
    )
});
record!(AdminsRequestRecord, (GroupId, DeviceId), |key| {
    named(b'b', &[key.0.as_bytes(), key.1.as_bytes()])
});
record!(AdminsMark, GroupId, |key| named(b'y', &[key.as_bytes()]));
record!(AskedAdminsRecord, GroupId, |key| {
    named(b'z', &[key.as_bytes()])
});
record!(OutboxRecord, u64, |key| named(b'o', &[&key.to_be_bytes()]));
record!(FrameNumber, Digest, |key| named(b'x', &[key.as_bytes()]));
record!(Event, u64, |key| named(b'e', &[&key.to_be_bytes()]));
record!(KeyPackageRecord, Digest, |key| named(
    b'p',
    &[key.as_bytes()]
));
record!(FormerKeyRecord, Digest, |key| named(
    b'l',
    &[key.as_bytes()]
));

fn leaf_name(table: u8, (group, epoch, leaf): LeafKey) -> Vec<u8> {
    let parts: [&[u8]; 3] = [group.as_bytes(), &epoch.to_be_bytes(), &leaf.to_be_bytes()];
    named(table, &parts)
}
