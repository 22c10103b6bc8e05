//! Being invited: key packages, and the welcome that uses one.

use openmls::group::{ProcessedWelcome, StagedWelcome, WelcomeError};
use openmls::prelude::{
    Extension, Extensions, JoinBuilder, KeyPackage, MlsMessageBodyIn, MlsMessageIn, RatchetTreeIn,
    Welcome,
};
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::storage::StorageProvider as _;
use session_core::hash::sha256;
use session_core::ids::{ChainId, Digest, GroupId};
use tls_codec::{DeserializeBytes as _, Serialize as _};

use super::epoch::library;
use super::membership::parse_key_package;
use super::signature_key::OwnKey;
use super::transaction::{Transaction, join_config, mls_id};
use super::{Device, Output};
use crate::chain_keys::Exporter;
use crate::content::Content;
use crate::directory::Directory;
use crate::error::{E2eeError, bounded};
use crate::event::{EventKind, MemberDevice};
use crate::limits::{KEY_PACKAGES_MAX, LEAVES_MAX, TREE_MAX, WELCOME_MAX};
use crate::outgoing::{ChainKeys, Invitation};
use crate::policy::Policy;
use crate::roster::key_hash;
use crate::tables::{
    GroupRecord, GroupStatus, KeyPackageRecord, KeyPackageUse, PendingRecord, RejoinRecord, named,
};
use crate::verdict::{AsOf, Judge, lifetime};

/// What the chain's proved record says of a group that one is invited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupFacts {
    /// The chain.
    pub chain: ChainId,
    /// The group.
    pub group: GroupId,
    /// The epoch that the welcome leads to.
    pub epoch: u64,
    /// Hash of the commit that led there.
    pub commit_hash: Digest,
    /// The epoch's keys.
    pub keys: ChainKeys,
    /// The entry of the log after that commit: what is read first.
    pub next_position: u64,
    /// Block time of that commit, in milliseconds.
    pub time_ms: u64,
}

/// A key package of ours, to be published or handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnKeyPackage {
    /// The key package, an MLS message.
    pub bytes: Vec<u8>,
    /// Hash of these bytes.
    pub hash: Digest,
    /// When it expires, for its record in the directory: the MLS lifetime has no end.
    pub expires_ms: u64,
}

impl Device {
    /// Makes key packages, each for one use.
    ///
    /// # Errors
    /// [`E2eeError::TooLarge`] beyond 1,024 that are out at once; [`E2eeError::NotLinked`],
    /// [`E2eeError::Vault`].
    pub fn key_packages(
        &mut self,
        count: usize,
        expires_ms: u64,
    ) -> Result<Vec<OwnKeyPackage>, E2eeError> {
        let (packages, _) = self.event(|event| {
            let make = |_| event.make_key_package(KeyPackageUse::Once, expires_ms);
            (0..count).map(make).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(packages)
    }

    /// Makes the key package of last resort: it can be used again and again, so it is to be made
    /// anew after each use. Earlier ones still work until they expire.
    ///
    /// # Errors
    /// As [`Device::key_packages`].
    pub fn last_resort_key_package(&mut self, expires_ms: u64) -> Result<OwnKeyPackage, E2eeError> {
        let (package, _) =
            self.event(|event| event.make_key_package(KeyPackageUse::LastResort, expires_ms))?;
        Ok(package)
    }

    /// Leaves a key package in a group, for a successor of it.
    ///
    /// # Errors
    /// As [`Device::key_packages`] and [`Device::send`].
    pub fn reserve_key_package(
        &mut self,
        group: GroupId,
        expires_ms: u64,
        now_ms: u64,
    ) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| {
            let mut record = event.active(group)?;
            let package = event.make_key_package(KeyPackageUse::Reserved, expires_ms)?;
            let content = Content::ReservedKeyPackage(package.bytes);
            event.say(group, &mut record, content, now_ms)?;
            record.reserved_until_ms = expires_ms;
            event.buffer().save_record(&group, &record);
            Ok(())
        })?;
        Ok(output)
    }

    /// Until when the key package is good that this device has left in a group for a successor; 0:
    /// it has left none, or none that is certified by its account's present key.
    ///
    /// # Errors
    /// As [`Device::status`].
    pub fn reserved_until_ms(&self, group: GroupId) -> Result<u64, E2eeError> {
        self.look(|event| Ok(event.group(group)?.reserved_until_ms))
    }

    /// Deletes key packages that have expired, and their secret keys. Answers how many.
    ///
    /// # Errors
    /// [`E2eeError::Vault`], [`E2eeError::Record`].
    pub fn expire_key_packages(&mut self, now_ms: u64) -> Result<usize, E2eeError> {
        let (count, _) = self.event(|event| {
            let mut count = 0;
            for name in event.buffer().names(&named(b'p', &[])) {
                let Some(record) = event.key_package_record(&name)? else {
                    continue;
                };
                if record.expires_ms <= now_ms {
                    event.forget_key_package(name, &record)?;
                    count += 1;
                }
            }
            Ok(count)
        })?;
        Ok(count)
    }

    /// Joins the group of an invitation. `facts` are the chain's, proved; `directory` answers for
    /// the position of the commit that they name. A key package is used up by it, unless it is of
    /// last resort. A device that lost its way, or was removed, joins again with a new one.
    ///
    /// # Errors
    /// [`E2eeError::NoKeyPackage`] also for the same invitation twice;
    /// [`E2eeError::AlreadyJoined`], [`E2eeError::WrongInvitation`], [`E2eeError::WrongSuite`],
    /// [`E2eeError::Refused`], [`E2eeError::NoPredecessor`], [`E2eeError::Malformed`],
    /// [`E2eeError::TooLarge`]; [`E2eeError::OutOfOrder`] where this device had lost the group and has
    /// not read its log up to there. The key package is still there after any of them.
    pub fn join(
        &mut self,
        invitation: &Invitation,
        facts: &GroupFacts,
        directory: &dyn Directory,
    ) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| event.join(invitation, facts, directory))?;
        Ok(output)
    }

    /// What an invitation leads to, without accepting it: the policy, and who is in the group. This
    /// device is as it was, and the key package still there.
    ///
    /// # Errors
    /// As [`Device::join`].
    pub fn examine_invitation(
        &self,
        invitation: &Invitation,
        facts: &GroupFacts,
        directory: &dyn Directory,
    ) -> Result<(Policy, Vec<MemberDevice>), E2eeError> {
        self.look(|event| {
            event.join(invitation, facts, directory)?;
            let policy = event.group(facts.group)?.policy;
            let epoch = event.epoch(facts.group, facts.epoch)?;
            let members = epoch.roster.iter().map(|(_, leaf)| leaf.member);
            Ok((policy, members.collect()))
        })
    }

    /// The keys towards the chain of the epoch that an invitation leads to, as its welcome has
    /// them: to be compared with what the chain shows of that epoch. This device is as it was.
    ///
    /// # Errors
    /// As [`Device::join`].
    pub fn invitation_keys(
        &self,
        invitation: &Invitation,
        group: GroupId,
    ) -> Result<ChainKeys, E2eeError> {
        self.look(|event| {
            if let Some(predecessor) = invitation.predecessor {
                event.offer_link(predecessor, group)?;
            }
            let welcome = parse_welcome(&invitation.welcome)?;
            if welcome.ciphersuite() != event.me.suite.ciphersuite() {
                return Err(E2eeError::WrongSuite);
            }
            let processed =
                ProcessedWelcome::new_from_welcome(&event.provider, &join_config(), welcome);
            let seeds = Exporter::Welcome(&processed.map_err(refused)?)
                .seeds(event.provider.crypto(), group)
                .map_err(library("exporting the keys towards the chain"))?;
            Ok(seeds.public()?)
        })
    }

    /// Whose key package this is, checked as it is before it is added.
    ///
    /// # Errors
    /// [`E2eeError::Malformed`], [`E2eeError::TooLarge`], [`E2eeError::Refused`].
    pub fn examine_key_package(
        &self,
        key_package: &[u8],
        directory: &dyn Directory,
    ) -> Result<MemberDevice, E2eeError> {
        let package = parse_key_package(key_package, &self.crypto)?;
        let judge = Judge {
            crypto: &self.crypto,
            directory,
            as_of: AsOf::Now,
        };
        Ok(judge.key_package(&package)?)
    }

    /// Deletes a conversation from this device, with all keys. Stored events stay until they are
    /// acknowledged.
    ///
    /// # Errors
    /// [`E2eeError::UnknownGroup`], [`E2eeError::Vault`].
    pub fn forget(&mut self, group: GroupId) -> Result<(), E2eeError> {
        let ((), _) = self.event(|event| {
            event.group(group)?;
            event.wipe(group)
        })?;
        Ok(())
    }
}

/// Whoever comes back has read the log up to where it comes in: what the log has of its own must not be
/// said again.
const fn read_to(before: &GroupRecord, facts: &GroupFacts) -> Result<(), E2eeError> {
    if before.next_position < facts.next_position {
        return Err(E2eeError::OutOfOrder {
            expected: before.next_position,
            got: facts.next_position,
        });
    }
    Ok(())
}

fn parse_welcome(bytes: &[u8]) -> Result<Welcome, E2eeError> {
    bounded("welcome", bytes, WELCOME_MAX)?;
    let malformed = E2eeError::Malformed { what: "welcome" };
    let Ok(message) = MlsMessageIn::tls_deserialize_exact_bytes(bytes) else {
        return Err(malformed);
    };
    match message.extract() {
        MlsMessageBodyIn::Welcome(welcome) => Ok(welcome),
        MlsMessageBodyIn::PublicMessage(_)
        | MlsMessageBodyIn::PrivateMessage(_)
        | MlsMessageBodyIn::GroupInfo(_)
        | MlsMessageBodyIn::KeyPackage(_) => Err(malformed),
    }
}

fn parse_tree(bytes: &[u8]) -> Result<RatchetTreeIn, E2eeError> {
    const WHAT: &str = "ratchet tree";
    bounded(WHAT, bytes, TREE_MAX)?;
    let tree = RatchetTreeIn::tls_deserialize_exact_bytes(bytes);
    let tree = tree.map_err(|_| E2eeError::Malformed { what: WHAT })?;
    if tree.leaves().count() > LEAVES_MAX {
        return Err(E2eeError::TooLarge {
            what: "number of leaves",
            bytes: tree.leaves().count(),
            limit: LEAVES_MAX,
        });
    }
    Ok(tree)
}

impl Transaction<'_> {
    pub(crate) fn make_key_package(
        &mut self,
        purpose: KeyPackageUse,
        expires_ms: u64,
    ) -> Result<OwnKeyPackage, E2eeError> {
        self.make_key_package_with(&OwnKey::Present(self.me), purpose, expires_ms)
    }

    /// A key package with this signature key, one of this device's.
    pub(super) fn make_key_package_with(
        &self,
        own: &OwnKey<'_>,
        purpose: KeyPackageUse,
        expires_ms: u64,
    ) -> Result<OwnKeyPackage, E2eeError> {
        let out = self.buffer().names(&named(b'p', &[])).len();
        if out >= KEY_PACKAGES_MAX {
            return Err(E2eeError::TooLarge {
                what: "number of key packages",
                bytes: out,
                limit: KEY_PACKAGES_MAX,
            });
        }
        let extensions = match purpose {
            KeyPackageUse::LastResort => {
                let mark = Extension::LastResort(openmls::extensions::LastResortExtension::new());
                Extensions::single(mark).map_err(library("marking a key package"))?
            }
            KeyPackageUse::Once | KeyPackageUse::Reserved => Extensions::empty(),
        };
        let bundle = KeyPackage::builder()
            .key_package_lifetime(lifetime())
            .key_package_extensions(extensions)
            .leaf_node_capabilities(self.capabilities())
            .build(
                self.me.suite.ciphersuite(),
                &self.provider,
                own.key(),
                own.credential(),
            )
            .map_err(library("making a key package"))?;
        let reference = bundle
            .key_package()
            .hash_ref(self.provider.crypto())
            .map_err(library("naming a key package"))?;
        let message = openmls::prelude::MlsMessageOut::from(bundle.into_key_package());
        let bytes = message
            .to_bytes()
            .map_err(library("writing a key package"))?;
        let hash = Digest::from_bytes(sha256(&bytes));
        let record = KeyPackageRecord {
            purpose,
            expires_ms,
            reference: reference
                .tls_serialize_detached()
                .map_err(library("naming a key package"))?,
            leaf_key: key_hash(own.key().public()),
        };
        self.buffer().save_record(&hash, &record);
        Ok(OwnKeyPackage {
            bytes,
            hash,
            expires_ms,
        })
    }

    fn key_package_record(&self, name: &[u8]) -> Result<Option<KeyPackageRecord>, E2eeError> {
        let Some(hash) = name.last_chunk::<32>() else {
            return Ok(None);
        };
        self.buffer().load_record(&Digest::from_bytes(*hash))
    }

    fn forget_key_package(
        &self,
        name: Vec<u8>,
        record: &KeyPackageRecord,
    ) -> Result<(), E2eeError> {
        let reference =
            openmls::prelude::KeyPackageRef::tls_deserialize_exact_bytes(&record.reference)
                .map_err(library("naming a key package"))?;
        self.buffer().delete_key_package(&reference)?;
        self.buffer().delete(name);
        Ok(())
    }

    fn join(
        &mut self,
        invitation: &Invitation,
        facts: &GroupFacts,
        directory: &dyn Directory,
    ) -> Result<(), E2eeError> {
        let group = facts.group;
        let before: Option<GroupRecord> = self.buffer().load_record(&group)?;
        if let Some(before) = &before
            && before.epoch >= facts.epoch
            && before.status == GroupStatus::Active
        {
            return Err(E2eeError::AlreadyJoined(group));
        }
        let link = match invitation.predecessor {
            Some(predecessor) => Some(self.offer_link(predecessor, group)?),
            None => None,
        };
        let staged = self.open_welcome(invitation, facts, link.is_some())?;
        let judge = Judge {
            crypto: self.provider.crypto,
            directory,
            as_of: AsOf::Now,
        };
        let policy = judge.welcome(&staged, self.me.member)?;
        if policy.chain != facts.chain {
            return Err(E2eeError::WrongInvitation);
        }
        let mut loaded = staged.into_group(&self.provider).map_err(refused)?;
        if let Some(link) = &link {
            self.forget_link(link)?;
        }
        let lost = match &before {
            Some(before) if before.status == GroupStatus::Lost => {
                read_to(before, facts)?;
                true
            }
            Some(_) | None => false,
        };
        self.forget_frames(group);
        self.forget_used_key_packages()?;
        let leaves = loaded.members().count();
        let leaf = loaded.own_leaf_index().u32();
        let mut record = GroupRecord {
            suite: self.me.suite,
            chain: policy.chain,
            status: GroupStatus::Active,
            epoch: facts.epoch,
            joined_epoch: facts.epoch,
            floor: facts.epoch,
            own_leaf: leaf,
            // Of the epoch that is entered below.
            leaf_key: Digest::from_bytes([0; 32]),
            perhaps_key: None,
            last_commit: facts.commit_hash,
            next_position: facts.next_position,
            // A sequence is never used twice, also when a device comes back.
            next_sequence: before.as_ref().map_or(1, |before| before.next_sequence),
            sent_since_rotation: 0,
            rotate_at_ms: self.first_rotation(leaf, leaves, facts.time_ms)?,
            unsigned: Vec::new(),
            unsigned_epoch: facts.epoch,
            unsigned_since_ms: facts.time_ms,
            signed_ms: 0,
            admin_seed: before.and_then(|before| before.admin_seed),
            admin_key_told: false,
            reserved_until_ms: 0,
            predecessor: invitation.predecessor,
            tree_secret: invitation.tree_secret.clone(),
            policy,
        };
        self.enter_epoch(group, &mut record, &mut loaded, true)?;
        self.heard_of_all(group, record.epoch, facts.time_ms)?;
        self.buffer().save_record(&group, &record);
        if let Some(predecessor) = invitation.predecessor {
            self.let_go_of(predecessor.group)?;
        }
        let epoch = facts.epoch;
        if lost {
            self.buffer().delete_record::<RejoinRecord>(&group);
            self.tell(group, EventKind::Rejoined { epoch });
            // What the log had of it up to here has gone from the outbox.
            self.seal_all_again(group, &mut record, facts.time_ms)?;
            self.buffer().save_record(&group, &record);
        } else {
            self.tell(group, EventKind::Joined { epoch });
        }
        Ok(())
    }

    /// The group that a welcome and a tree make, if it is the one that the chain knows.
    fn open_welcome(
        &self,
        invitation: &Invitation,
        facts: &GroupFacts,
        linked: bool,
    ) -> Result<StagedWelcome, E2eeError> {
        let welcome = parse_welcome(&invitation.welcome)?;
        let tree = parse_tree(&invitation.tree)?;
        if welcome.ciphersuite() != self.me.suite.ciphersuite() {
            return Err(E2eeError::WrongSuite);
        }
        let processed = ProcessedWelcome::new_from_welcome(&self.provider, &join_config(), welcome);
        let processed = processed.map_err(refused)?;
        let info = processed.unverified_group_info();
        if *info.group_id() != mls_id(facts.group)
            || info.epoch().as_u64() != facts.epoch
            || processed.psks().len() != usize::from(linked)
        {
            return Err(E2eeError::WrongInvitation);
        }
        // Before the tree is even looked at: these are the keys that the chain has.
        let seeds = Exporter::Welcome(&processed)
            .seeds(self.provider.crypto(), facts.group)
            .map_err(library("exporting the keys towards the chain"))?;
        if seeds.public()? != facts.keys {
            return Err(E2eeError::WrongInvitation);
        }
        JoinBuilder::new(&self.provider, processed)
            .with_ratchet_tree(tree)
            .replace_old_group()
            .skip_lifetime_validation()
            .build()
            .map_err(refused)
    }

    /// Key packages that the library has used up need no record any more.
    fn forget_used_key_packages(&self) -> Result<(), E2eeError> {
        for name in self.buffer().names(&named(b'p', &[])) {
            let Some(record) = self.key_package_record(&name)? else {
                continue;
            };
            let reference =
                openmls::prelude::KeyPackageRef::tls_deserialize_exact_bytes(&record.reference)
                    .map_err(library("naming a key package"))?;
            let bundle: Option<openmls::prelude::KeyPackageBundle> =
                self.buffer().key_package(&reference)?;
            if bundle.is_none() {
                self.buffer().delete(name);
            }
        }
        Ok(())
    }

    /// Frame keys of an earlier stay in a group, and what its admins were asked then.
    fn forget_frames(&self, group: GroupId) {
        let parts: [&[u8]; 1] = [group.as_bytes()];
        for table in [
            b'h', b'f', b'u', b'r', b'k', b'a', b'c', b'q', b'b', b'y', b'z',
        ] {
            self.buffer().delete_all(&named(table, &parts));
        }
        self.buffer().delete_record::<PendingRecord>(&group);
    }

    /// Everything of a group: the library's records, ours, and what waits to be sent.
    pub(crate) fn wipe(&mut self, group: GroupId) -> Result<(), E2eeError> {
        for (number, _) in self.outbox_of(group)? {
            self.unsend(number);
        }
        self.let_go_of_keys(group)?;
        self.forget_frames(group);
        let parts: [&[u8]; 1] = [group.as_bytes()];
        self.buffer().delete_all(&named(b's', &parts));
        self.buffer().delete_all(&named(b'v', &parts));
        self.buffer().delete_all(&named(b'i', &parts));
        self.buffer().delete_all(&named(b'j', &parts));
        self.buffer().delete_record::<GroupRecord>(&group);
        Ok(())
    }

    /// The library's records of a group.
    pub(crate) fn let_go_of_keys(&self, group: GroupId) -> Result<(), E2eeError> {
        let loaded = openmls::prelude::MlsGroup::load(&self.provider.buffer, &mls_id(group))?;
        if let Some(mut loaded) = loaded {
            loaded
                .delete(self.provider.storage())
                .map_err(library("deleting a group"))?;
        }
        Ok(())
    }
}

/// Whose fault it is that a welcome leads nowhere.
fn refused<E: core::fmt::Debug + Into<E2eeError>>(error: WelcomeError<E>) -> E2eeError {
    if let WelcomeError::StorageError(error) = error {
        return error.into();
    }
    if matches!(error, WelcomeError::NoMatchingKeyPackage) {
        return E2eeError::NoKeyPackage;
    }
    E2eeError::WrongInvitation
}
