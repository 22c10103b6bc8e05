//! How each record is written.

use super::{
    ActivityRecord, AdminKeyRecord, AdminsMark, AdminsRequestRecord, AskedAdminsRecord,
    ChainRecord, ClaimedAdminKeyRecord, Counters, CountersignRecord, DeviceRecord, EpochRecord,
    FormerKeyRecord, FrameNumber, GroupRecord, Intent, KeyPackageRecord, LeafKeyRecord,
    OutboxRecord, PendingRecord, RejoinRecord, ReservedRecord, ReturnRecord, RivalRecord, Unsigned,
    UnsignedRecord,
};
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::limits::GROUP_ADMINS_MAX;
use session_crypto::Secret;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

use crate::chain_keys::Seeds;
use crate::device::AskedAdmins;
use crate::limits::{
    ADDS_MAX, KEY_PACKAGE_MAX, LEAVES_MAX, NAME_MAX, SIGNED_BATCH_MAX, UNSIGNED_MAX,
};
use crate::policy::text;

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
        out.option(self.republish_until_ms.as_ref())
            .value(&self.rotation);
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
            republish_until_ms: input.option("republish until")?,
            rotation: Decode::decode(input)?,
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
            .value(&self.leaf_key)
            .option(self.perhaps_key.as_ref())
            .value(&self.last_commit)
            .u64(self.next_position)
            .u64(self.next_sequence)
            .u32(self.sent_since_rotation)
            .u64(self.rotate_at_ms)
            .list(&self.unsigned)
            .u64(self.unsigned_epoch)
            .u64(self.unsigned_since_ms)
            .u64(self.signed_ms)
            .bool(self.admin_seed.is_some());
        if let Some(seed) = &self.admin_seed {
            out.raw(seed.expose());
        }
        out.bool(self.admin_key_told)
            .u64(self.reserved_until_ms)
            .option(self.predecessor.as_ref())
            .raw(self.tree_secret.expose())
            .value(&self.policy);
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
            leaf_key: Decode::decode(input)?,
            perhaps_key: input.option("perhaps key")?,
            last_commit: Decode::decode(input)?,
            next_position: input.u64("next position")?,
            next_sequence: input.u64("next sequence")?,
            sent_since_rotation: input.u32("sent since rotation")?,
            rotate_at_ms: input.u64("rotate at")?,
            unsigned: input.list("unsigned", SIGNED_BATCH_MAX, 36)?,
            unsigned_epoch: input.u64("unsigned epoch")?,
            unsigned_since_ms: input.u64("unsigned since")?,
            signed_ms: input.u64("signed")?,
            admin_seed: optional_secret(input, "admin seed")?,
            admin_key_told: input.bool("admin key told")?,
            reserved_until_ms: input.u64("reserved until")?,
            predecessor: input.option("predecessor")?,
            tree_secret: secret(input, "tree secret")?,
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
            Self::Readmit(request) => {
                out.u8(4).value(&**request);
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
            4 => Self::Readmit(Box::new(Decode::decode(input)?)),
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
            .option(self.invitation.as_ref())
            .option(self.asked_ms.as_ref())
            .option(self.out_until_ms.as_ref())
            .value(&self.leaf_key)
            .bool(self.then_rotate);
    }
}

impl Decode for PendingRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            number: input.u64("number")?,
            commit_hash: Decode::decode(input)?,
            intent: Decode::decode(input)?,
            invitation: input.option("invitation")?,
            asked_ms: input.option("asked at")?,
            out_until_ms: input.option("out until")?,
            leaf_key: Decode::decode(input)?,
            then_rotate: input.bool("then rotate")?,
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

impl Encode for RejoinRecord {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.request)
            .bool(self.sent)
            .value(&self.leaf_key);
    }
}

impl Decode for RejoinRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: Decode::decode(input)?,
            sent: input.bool("request sent")?,
            leaf_key: Decode::decode(input)?,
        })
    }
}

impl Encode for ReturnRecord {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.at_ms);
    }
}

impl Decode for ReturnRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            at_ms: input.u64("came back at")?,
        })
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

impl Encode for AdminKeyRecord {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.sequence).value(&self.key);
    }
}

impl Decode for AdminKeyRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            sequence: input.u64("sequence of an admin key")?,
            key: Decode::decode(input)?,
        })
    }
}

/// Records that are one thing and nothing beside it.
macro_rules! wrapped {
    ($($record:ident),*) => {$(
        impl Encode for $record {
            fn encode(&self, out: &mut Writer) {
                out.value(&self.0);
            }
        }

        impl Decode for $record {
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                Decode::decode(input).map(Self)
            }
        }
    )*};
}

wrapped!(
    ClaimedAdminKeyRecord,
    CountersignRecord,
    AdminsRequestRecord,
    AskedAdminsRecord
);

impl Encode for AskedAdmins {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.request)
            .value(&self.action)
            .list(&self.signatures);
    }
}

impl Decode for AskedAdmins {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            request: Decode::decode(input)?,
            action: Decode::decode(input)?,
            signatures: input.list("signatures of admins", GROUP_ADMINS_MAX, 64)?,
        })
    }
}

impl Encode for AdminsMark {
    fn encode(&self, out: &mut Writer) {
        out.u8(1);
    }
}

impl Decode for AdminsMark {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        input.u8("mark").map(|_| Self)
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
            .bytes(&self.reference)
            .value(&self.leaf_key);
    }
}

impl Decode for KeyPackageRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            purpose: Decode::decode(input)?,
            expires_ms: input.u64("key package expires")?,
            reference: input.bytes("key package reference", 64)?.to_vec(),
            leaf_key: Decode::decode(input)?,
        })
    }
}

impl Encode for FormerKeyRecord {
    fn encode(&self, out: &mut Writer) {
        out.raw(self.seed.expose()).value(&self.certificate);
    }
}

impl Decode for FormerKeyRecord {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            seed: secret(input, "former leaf seed")?,
            certificate: Decode::decode(input)?,
        })
    }
}
