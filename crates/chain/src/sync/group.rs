//! A group's public keys and advances, and the key packages of accounts.

use std::collections::BTreeSet;

use session_core::codec::Decode;
use session_core::group::Group;
use session_core::ids::{AccountId, ChainId, Digest, KeyPackageId, MessageId};
use session_core::key_package::{Device, KeyPackages, TakenKeyPackages, key_package_id};
use session_core::log::{AdvanceEntry, Entry};

use super::SyncError;
use crate::tx::{SigningKey, Tx};
use crate::view::{GROUP_ADMIN, GROUP_CONTROL, GROUP_POSTING};

/// Who signed what a body is part of.
pub(super) enum Signer {
    Account(AccountId),
    Epoch(u64),
}

/// What an entry says about the message or frame that is its body.
pub(super) struct Signed {
    pub(super) sequence: u64,
    pub(super) id: MessageId,
    pub(super) signer: Signer,
    pub(super) body_hash: Digest,
    pub(super) signature_hash: Digest,
}

impl Signed {
    /// None of an entry whose body is something else.
    pub(super) const fn of(entry: &Entry) -> Option<Self> {
        match entry {
            Entry::Message(entry) => Some(Self {
                sequence: entry.sequence,
                id: entry.id,
                signer: Signer::Account(entry.sender),
                body_hash: entry.body_hash,
                signature_hash: entry.signature_hash,
            }),
            Entry::Post(entry) => Some(Self {
                sequence: entry.sequence,
                id: entry.id,
                signer: Signer::Epoch(entry.epoch),
                body_hash: entry.body_hash,
                signature_hash: entry.signature_hash,
            }),
            Entry::Membership(_) | Entry::Advance(_) => None,
        }
    }
}

/// What has come of a group's keys.
#[derive(Default)]
pub(super) struct GroupCells {
    posting: BTreeSet<u64>,
    control: bool,
    admins: BTreeSet<Digest>,
}

impl GroupCells {
    /// Takes a cell in; none where it is not the group's.
    ///
    /// # Errors
    /// [`SyncError::Malformed`].
    pub(super) fn take(
        &mut self,
        suffix: &[u8],
        value: &[u8],
        group: &Group,
    ) -> Result<Option<()>, SyncError> {
        let digest = SigningKey::from_bytes(value)?.digest();
        let fits = match suffix.split_first() {
            Some((&GROUP_POSTING, epoch)) => {
                let epoch = epoch.try_into().map(u64::from_be_bytes).ok();
                self.posting.extend(epoch);
                epoch.and_then(|epoch| posting_of(group, epoch)) == Some(digest)
            }
            Some((&GROUP_CONTROL, [])) => {
                self.control = true;
                digest == group.control
            }
            Some((&GROUP_ADMIN, admin)) => {
                self.admins.insert(digest);
                admin == digest.as_bytes() && group.admins.binary_search(&digest).is_ok()
            }
            Some(_) | None => false,
        };
        Ok(fits.then_some(()))
    }

    /// Whether every key came that the record names.
    pub(super) fn are_whole(&self, group: &Group) -> bool {
        let epochs = group.past.len() + 1;
        self.control && self.posting.len() == epochs && self.admins.len() == group.admins.len()
    }
}

/// Hash of the posting key of an epoch that the group remembers.
fn posting_of(group: &Group, epoch: u64) -> Option<Digest> {
    if epoch == group.epoch {
        return Some(group.posting);
    }
    let past = group.past.iter().find(|past| past.epoch == epoch);
    past.map(|past| past.posting)
}

/// Whether the bytes are the transaction of an advance.
///
/// # Errors
/// [`SyncError::Malformed`].
pub(super) fn is_advance(
    entry: &AdvanceEntry,
    bytes: &[u8],
    chain: &ChainId,
) -> Result<bool, SyncError> {
    let ids = Tx::from_bytes(bytes)?.ids(chain);
    Ok((ids.action, ids.tx) == (entry.action, entry.tx))
}

/// Packages that a record names, by what follows the prefix of their cells.
pub(super) fn published(packages: &KeyPackages) -> Vec<(Vec<u8>, KeyPackageId)> {
    let all = packages.devices.iter().flat_map(Device::packages);
    all.map(|p| (p.id.as_bytes().to_vec(), p.id)).collect()
}

/// The same of what was taken.
pub(super) fn taken(packages: &TakenKeyPackages) -> Vec<(Vec<u8>, KeyPackageId)> {
    let all = (0u8..).zip(&packages.packages);
    all.map(|(position, p)| (vec![position], p.package))
        .collect()
}

/// Whether the bytes are those of the package that one of these cells holds.
pub(super) fn is_package(named: &[(Vec<u8>, KeyPackageId)], suffix: &[u8], bytes: &[u8]) -> bool {
    let id = key_package_id(bytes);
    named
        .iter()
        .any(|(at, package)| at == suffix && *package == id)
}
