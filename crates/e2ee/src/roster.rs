//! Who is at which leaf of an epoch.

use openmls::prelude::{LeafNode, Member as MlsMember};
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::sha256;
use session_core::ids::{AccountId, Digest};
use std::collections::{BTreeMap, BTreeSet};

use crate::credential::DeviceCertificate;
use crate::event::MemberDevice;
use crate::limits::LEAVES_MAX;

/// A leaf: whose it is, and the hash of its signature key. The keys themselves (1,952 bytes each)
/// are records of their own, shared by the epochs that have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) member: MemberDevice,
    pub(crate) key: Digest,
}

/// The leaves of an epoch, by index.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Roster(BTreeMap<u32, Leaf>);

impl Roster {
    /// The roster of a group, and the signature keys in it. None: a leaf has no credential of ours.
    pub(crate) fn of_members(
        members: impl Iterator<Item = MlsMember>,
    ) -> Option<(Self, BTreeMap<Digest, Vec<u8>>)> {
        let mut leaves = BTreeMap::new();
        let mut keys = BTreeMap::new();
        for member in members {
            let certificate = DeviceCertificate::of_credential(&member.credential)?;
            let key = key_hash(&member.signature_key);
            let leaf = Leaf {
                member: member_of(&certificate),
                key,
            };
            leaves.insert(member.index.u32(), leaf);
            keys.insert(key, member.signature_key);
        }
        Some((Self(leaves), keys))
    }

    pub(crate) fn get(&self, leaf: u32) -> Option<&Leaf> {
        self.0.get(&leaf)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Leaf)> {
        self.0.iter().map(|(index, leaf)| (*index, leaf))
    }

    pub(crate) fn indexes(&self) -> impl Iterator<Item = u32> {
        self.0.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn leaf_of(&self, member: MemberDevice) -> Option<u32> {
        self.iter()
            .find(|(_, leaf)| leaf.member == member)
            .map(|(index, _)| index)
    }

    pub(crate) fn accounts(&self) -> BTreeSet<AccountId> {
        self.0.values().map(|leaf| leaf.member.account).collect()
    }

    pub(crate) fn keys(&self) -> BTreeSet<Digest> {
        self.0.values().map(|leaf| leaf.key).collect()
    }
}

pub(crate) const fn member_of(certificate: &DeviceCertificate) -> MemberDevice {
    MemberDevice {
        account: certificate.claim().account,
        device: certificate.claim().device,
    }
}

pub(crate) fn certificate_of(leaf: &LeafNode) -> Option<DeviceCertificate> {
    DeviceCertificate::of_credential(leaf.credential())
}

pub(crate) fn key_hash(key: &[u8]) -> Digest {
    Digest::from_bytes(sha256(key))
}

impl Encode for Roster {
    fn encode(&self, out: &mut Writer) {
        out.count(self.0.len());
        for (index, leaf) in &self.0 {
            out.u32(*index).value(&leaf.member).value(&leaf.key);
        }
    }
}

impl Decode for Roster {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = input.count("leaves", LEAVES_MAX, 84)?;
        let mut leaves = BTreeMap::new();
        for _ in 0..count {
            let index = input.u32("leaf")?;
            let leaf = Leaf {
                member: Decode::decode(input)?,
                key: Decode::decode(input)?,
            };
            if leaves
                .last_key_value()
                .is_some_and(|(last, _)| *last >= index)
            {
                return Err(DecodeError::NotAscending { what: "leaves" });
            }
            leaves.insert(index, leaf);
        }
        Ok(Self(leaves))
    }
}
