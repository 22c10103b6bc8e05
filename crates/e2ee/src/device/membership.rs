//! Who is in a group, and what it agrees on: creating it, and the commits of this device.
//!
//! A commit waits in the library and in the outbox until the log shows it, or another one: then it
//! is dropped and made anew from what it was made for.

use openmls::credentials::NewSignerBundle;
use openmls::group::{CommitMessageBundle, MlsGroup};
use openmls::prelude::{
    CredentialWithKey, Extension, Extensions, GroupContext, KeyPackage, LeafNodeIndex,
    LeafNodeParameters, MlsMessageBodyIn, MlsMessageIn, PreSharedKeyProposal, Proposal,
    ProtocolVersion, Sender, UnknownExtension,
};
use openmls::schedule::PreSharedKeyId;
use openmls_traits::OpenMlsProvider as _;
use session_core::codec::Encode;
use session_core::group::group_salt;
use session_core::ids::{ChainId, Digest, GroupId};
use session_core::time::{DAY_MS, Time};
use session_crypto::{Secret, SigningKey};
use std::collections::BTreeSet;
use tls_codec::{DeserializeBytes as _, Serialize as _};

use super::epoch::library;
use super::transaction::{Transaction, mls_id};
use super::{Device, Output};
use crate::chain_keys::Exporter;
use crate::credential::DeviceId;
use crate::directory::Directory;
use crate::error::{E2eeError, bounded};
use crate::event::{EventKind, MemberDevice};
use crate::limits::{ADDS_MAX, COMMIT_MAX, KEY_PACKAGE_MAX, REVOKED_MAX, TREE_MAX, WELCOME_MAX};
use crate::outgoing::{
    Advance, Creation, Invitation, OutgoingKind, Predecessor, commit_hash, group_id,
};
use crate::policy::{POLICY_EXTENSION, Policy, Role};
use crate::roster::{certificate_of, key_hash, member_of};
use crate::rotation::join_delay_ms;
use crate::tables::{GroupRecord, GroupStatus, Intent, PendingRecord};
use crate::verdict::{AsOf, Judge, Refusal, required_capabilities};

/// Somebody to be added: a key package, and until when its directory record says it is good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitee {
    /// The key package, an MLS message.
    pub key_package: Vec<u8>,
    /// When it expires, in milliseconds of block time.
    pub expires_ms: u64,
}

impl Device {
    /// Makes a group of this device and at most 50 others. Its first commit stays at home: nobody
    /// else was there before. What is to be sent: the creation, then an invitation.
    ///
    /// # Errors
    /// [`E2eeError::KeyPackageExpired`], [`E2eeError::Malformed`], [`E2eeError::TooLarge`],
    /// [`E2eeError::Refused`] for a key package or a policy that others would refuse.
    pub fn create_group(
        &mut self,
        policy: Policy,
        invitees: &[Invitee],
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<(GroupId, Output), E2eeError> {
        check_expiry(self, invitees, now_ms)?;
        self.event(|event| event.create(policy, invitees, None, directory, now_ms))
    }

    /// Adds devices, at most 50, in one commit. It contains no update: in a young tree that is a
    /// tenth of the size, and every device updates by itself.
    ///
    /// # Errors
    /// As [`Device::create_group`], [`E2eeError::CommitPending`], [`E2eeError::NotActive`].
    pub fn add(
        &mut self,
        group: GroupId,
        invitees: &[Invitee],
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<Output, E2eeError> {
        check_expiry(self, invitees, now_ms)?;
        let packages = invitees.iter().map(|invitee| invitee.key_package.clone());
        self.commit(group, Intent::Add(packages.collect()), directory)
    }

    /// Removes devices. `revoke`: they may not come back, whoever adds them: for stolen ones.
    ///
    /// # Errors
    /// [`E2eeError::NoSuchMember`], [`E2eeError::Refused`], [`E2eeError::CommitPending`],
    /// [`E2eeError::NotActive`].
    pub fn remove(
        &mut self,
        group: GroupId,
        members: &[MemberDevice],
        revoke: bool,
        directory: &dyn Directory,
    ) -> Result<Output, E2eeError> {
        let members = members.to_vec();
        let intent = Intent::Remove { members, revoke };
        self.commit(group, intent, directory)
    }

    /// Removes a device of this device's own account from every conversation, for good: it was
    /// stolen or lost. Conversations in which a commit of this device waits are answered; ask again
    /// once it is through.
    ///
    /// # Errors
    /// [`E2eeError::NotLinked`], [`E2eeError::Vault`], [`E2eeError::Refused`].
    pub fn revoke_device(
        &mut self,
        device: DeviceId,
        directory: &dyn Directory,
    ) -> Result<(Vec<GroupId>, Output), E2eeError> {
        let lost = MemberDevice {
            account: self.member()?.account,
            device,
        };
        let (mut waiting, mut all) = (Vec::new(), Output::default());
        for group in self.groups() {
            match self.remove(group, &[lost], true, directory) {
                Ok(output) => {
                    all.outgoing.extend(output.outgoing);
                    all.events.extend(output.events);
                }
                Err(E2eeError::CommitPending(group)) => waiting.push(group),
                Err(E2eeError::NoSuchMember | E2eeError::NotActive(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok((waiting, all))
    }

    /// Gives this device's leaf new keys. [`Device::tick`] does it when it is due.
    ///
    /// # Errors
    /// [`E2eeError::CommitPending`], [`E2eeError::NotActive`].
    pub fn rotate(
        &mut self,
        group: GroupId,
        directory: &dyn Directory,
    ) -> Result<Output, E2eeError> {
        self.commit(group, Intent::Rotate, directory)
    }

    /// Changes name, roles, rights, signature rule or timer.
    ///
    /// # Errors
    /// [`E2eeError::Refused`], [`E2eeError::NothingToDo`], [`E2eeError::CommitPending`],
    /// [`E2eeError::NotActive`].
    pub fn set_policy(
        &mut self,
        group: GroupId,
        policy: Policy,
        directory: &dyn Directory,
    ) -> Result<Output, E2eeError> {
        let from = Box::new(self.policy(group)?);
        let to = Box::new(policy);
        self.commit(group, Intent::Policy { from, to }, directory)
    }

    fn commit(
        &mut self,
        group: GroupId,
        intent: Intent,
        directory: &dyn Directory,
    ) -> Result<Output, E2eeError> {
        let ((), output) = self.event(|event| {
            let record = event.active(group)?;
            event.propose(group, &record, intent, directory)
        })?;
        Ok(output)
    }
}

/// Refuses key packages that are past their time by their directory record.
fn check_expiry(device: &Device, invitees: &[Invitee], now_ms: u64) -> Result<(), E2eeError> {
    for invitee in invitees {
        if invitee.expires_ms <= now_ms {
            let package = parse_key_package(&invitee.key_package, &device.crypto)?;
            let certificate = crate::roster::certificate_of(package.leaf_node());
            let certificate = certificate.ok_or(Refusal::NoCertificate)?;
            return Err(E2eeError::KeyPackageExpired(certificate.claim().device));
        }
    }
    Ok(())
}

/// Reads a key package and checks its signatures.
pub(crate) fn parse_key_package(
    bytes: &[u8],
    crypto: &crate::provider::Crypto,
) -> Result<KeyPackage, E2eeError> {
    const WHAT: &str = "key package";
    let malformed = E2eeError::Malformed { what: WHAT };
    bounded(WHAT, bytes, KEY_PACKAGE_MAX)?;
    let Ok(message) = MlsMessageIn::tls_deserialize_exact_bytes(bytes) else {
        return Err(malformed);
    };
    let MlsMessageBodyIn::KeyPackage(package) = message.extract() else {
        return Err(malformed);
    };
    package
        .validate(crypto, ProtocolVersion::Mls10)
        .map_err(|_| malformed)
}

/// What a commit authenticates beside itself: chain, group and the commit before it.
pub(crate) fn commit_aad(chain: ChainId, group: GroupId, last: Digest) -> Vec<u8> {
    let parts: [&[u8]; 3] = [chain.as_bytes(), group.as_bytes(), last.as_bytes()];
    parts.concat()
}

/// The group context's extensions: the policy, and that every member must know what one is.
fn policy_extension(policy: &Policy) -> Result<Extensions<GroupContext>, E2eeError> {
    let extension = UnknownExtension(policy.to_bytes());
    let extensions = vec![
        Extension::RequiredCapabilities(required_capabilities()),
        Extension::Unknown(POLICY_EXTENSION, extension),
    ];
    Extensions::from_vec(extensions).map_err(library("writing the policy"))
}

/// The secret that links a group to the one before it.
pub(crate) struct Link {
    pub(crate) id: Vec<u8>,
    pub(crate) secret: Secret<32>,
}

/// How long the chain may take to hear of a group: a person's device may be offline for days.
const CREATABLE_MS: u64 = 14 * DAY_MS;

impl Transaction<'_> {
    /// Makes a group, with a link to an earlier one if it follows it.
    pub(crate) fn create(
        &mut self,
        policy: Policy,
        invitees: &[Invitee],
        link: Option<(Predecessor, Vec<u8>)>,
        directory: &dyn Directory,
        now_ms: u64,
    ) -> Result<GroupId, E2eeError> {
        policy.check()?;
        if policy.role(self.me.member.account) != Role::Owner {
            return Err(Refusal::from(crate::policy::PolicyError::LastOwner).into());
        }
        let admin_seed = self.provider.rand().0.borrow_mut().secret()?;
        let admin = SigningKey::from_seed(&admin_seed)?.public_key().clone();
        let until = Time::from_ms(now_ms).after_ms(CREATABLE_MS);
        let salt = group_salt(until, &self.provider.rand().0.borrow_mut().bytes()?);
        let group = group_id(policy.chain, &admin, &salt);
        let config = self
            .create_config()
            .with_group_context_extensions(policy_extension(&policy)?)
            .build();
        let mut loaded = MlsGroup::new_with_group_id(
            &self.provider,
            &self.me.key,
            &config,
            mls_id(group),
            self.credential(),
        )
        .map_err(library("creating a group"))?;
        let predecessor = link.as_ref().map(|(predecessor, _)| *predecessor);
        let mut record = self.new_record(policy, admin_seed, predecessor);
        let packages: Vec<Vec<u8>> = invitees
            .iter()
            .map(|invitee| invitee.key_package.clone())
            .collect();
        let intent = if packages.is_empty() {
            Intent::Rotate
        } else {
            Intent::Add(packages)
        };
        let link = match link {
            Some((predecessor, id)) => Some(self.link_secret(predecessor, group, id)?),
            None => None,
        };
        let judge = Judge {
            crypto: self.provider.crypto,
            directory,
            as_of: AsOf::Now,
        };
        let to = self.judge_invitees(&judge, invitees)?;
        let made = self.build(group, &mut loaded, &record, &intent, (link.as_ref(), None))?;
        loaded
            .merge_pending_commit(&self.provider)
            .map_err(library("merging the first commit"))?;
        if let Some(link) = &link {
            self.forget_link(link)?;
        }
        // The commit stays at home: the chain's record of the first epoch names none, and whoever
        // joins begins from that record.
        record.rotate_at_ms = now_ms.saturating_add(self.me.rotation.interval_ms(to.len() + 1));
        self.enter_epoch(group, &mut record, &mut loaded, false)?;
        record.tree_secret = self.new_tree_secret(group, &loaded)?;
        self.heard_of_all(group, record.epoch, now_ms)?;
        let keys = self.seeds(group, record.epoch)?.public()?;
        let creation = Creation {
            chain: record.chain,
            salt,
            admin,
            epoch: record.epoch,
            commit_hash: record.last_commit,
            keys,
        };
        self.send(group, OutgoingKind::Create(Box::new(creation)), None)?;
        if let Some(invitation) = made.invitation(to, record.predecessor, record.epoch, &record) {
            self.send(group, OutgoingKind::Invitation(Box::new(invitation)), None)?;
        }
        self.buffer().save_record(&group, &record);
        let epoch = record.epoch;
        self.tell(group, EventKind::Joined { epoch });
        Ok(group)
    }

    /// The record of a group that this device makes.
    fn new_record(
        &self,
        policy: Policy,
        admin_seed: Secret<32>,
        predecessor: Option<Predecessor>,
    ) -> GroupRecord {
        GroupRecord {
            suite: self.me.suite,
            chain: policy.chain,
            status: GroupStatus::Active,
            epoch: 0,
            joined_epoch: 1,
            floor: 0,
            own_leaf: 0,
            leaf_key: key_hash(self.me.key.public()),
            perhaps_key: None,
            last_commit: Digest::from_bytes([0; 32]),
            next_position: 0,
            next_sequence: 1,
            sent_since_rotation: 0,
            rotate_at_ms: 0,
            unsigned: Vec::new(),
            unsigned_epoch: 0,
            unsigned_since_ms: 0,
            signed_ms: 0,
            admin_seed: Some(admin_seed),
            admin_key_told: false,
            reserved_until_ms: 0,
            predecessor,
            // Of the first epoch, which is not there yet.
            tree_secret: Secret::new([0; 32]),
            policy,
        }
    }

    /// Who is invited into a new group. Judged one by one: nobody judges its first commit.
    fn judge_invitees(
        &self,
        judge: &Judge<'_>,
        invitees: &[Invitee],
    ) -> Result<Vec<MemberDevice>, E2eeError> {
        let mut members = BTreeSet::from([self.me.member]);
        let mut to = Vec::with_capacity(invitees.len());
        for invitee in invitees {
            let package = parse_key_package(&invitee.key_package, self.provider.crypto)?;
            let member = judge.key_package(&package)?;
            if !members.insert(member) {
                return Err(Refusal::DeviceTwice(member).into());
            }
            to.push(member);
        }
        Ok(to)
    }

    /// Makes a commit of this device for the current epoch, and puts it into the outbox. It is
    /// judged first as the others will judge it: what they would refuse is not sent.
    pub(crate) fn propose(
        &mut self,
        group: GroupId,
        record: &GroupRecord,
        intent: Intent,
        directory: &dyn Directory,
    ) -> Result<(), E2eeError> {
        if self
            .buffer()
            .load_record::<PendingRecord>(&group)?
            .is_some()
        {
            return Err(E2eeError::CommitPending(group));
        }
        let mut loaded = self.load(group)?;
        let renewed = match intent {
            // Without an update path the leaf stays as it is.
            Intent::Add(_) => None,
            Intent::Remove { .. } | Intent::Rotate | Intent::Policy { .. } | Intent::Readmit(_) => {
                self.renewed_leaf(&loaded, directory)?
            }
        };
        let made = self.build(group, &mut loaded, record, &intent, (None, renewed))?;
        let epoch = self.epoch(group, record.epoch)?;
        let judge = Judge {
            crypto: self.provider.crypto,
            directory,
            as_of: AsOf::Now,
        };
        let staged = loaded.pending_commit().ok_or(E2eeError::Library {
            doing: "keeping a commit",
        })?;
        let sender = Sender::Member(loaded.own_leaf_index());
        let verdict = judge.commit(&loaded, &epoch.roster, &sender, staged)?;
        let seeds = Exporter::Staged(staged)
            .seeds(self.provider.crypto(), group)
            .map_err(library("exporting the keys towards the chain"))?;
        let path = staged.update_path_leaf_node();
        let leaf_key = path.map(|leaf| key_hash(leaf.signature_key().as_slice()));
        let advance = Advance {
            from_epoch: record.epoch,
            commit: made.commit.clone(),
            keys: seeds.public()?,
            removes: !verdict.removed.is_empty(),
        };
        let number = self.send(group, OutgoingKind::Commit(Box::new(advance)), None)?;
        let pending = PendingRecord {
            number,
            commit_hash: commit_hash(&made.commit),
            intent,
            invitation: made.invitation(verdict.added, None, record.epoch + 1, record),
            asked_ms: None,
            out_until_ms: None,
            leaf_key: leaf_key.unwrap_or(record.leaf_key),
            then_rotate: false,
        };
        self.buffer().save_record(&group, &pending);
        Ok(())
    }

    /// Builds a commit and leaves it pending in the library. `renewed`: what the leaf is given. The commit
    /// is signed with the key that the leaf has before it, the leaf with the one that it has then.
    fn build(
        &mut self,
        group: GroupId,
        loaded: &mut MlsGroup,
        record: &GroupRecord,
        intent: &Intent,
        (link, renewed): (Option<&Link>, Option<CredentialWithKey>),
    ) -> Result<Made, E2eeError> {
        let leaf = loaded.own_leaf_node().ok_or(E2eeError::Library {
            doing: "reading one's own leaf",
        })?;
        let leaf_key = key_hash(leaf.signature_key().as_slice());
        let own = self.own_key(leaf_key)?.ok_or(E2eeError::Library {
            doing: "finding the key of one's own leaf",
        })?;
        let other_key = renewed
            .as_ref()
            .is_some_and(|with| with.signature_key != *leaf.signature_key());
        loaded.set_aad(commit_aad(record.chain, group, record.last_commit));
        let tree = loaded.export_ratchet_tree();
        let builder = loaded.commit_builder().consume_proposal_store(false);
        let parameters = LeafNodeParameters::builder();
        let builder = builder.leaf_node_parameters(match &renewed {
            Some(with) => parameters.with_credential_with_key(with.clone()).build(),
            None => parameters.build(),
        });
        let builder = match intent {
            Intent::Add(packages) => {
                if packages.is_empty() || packages.len() > ADDS_MAX {
                    return Err(Refusal::TooManyLeaves.into());
                }
                let mut parsed = Vec::with_capacity(packages.len());
                for bytes in packages {
                    let package = parse_key_package(bytes, self.provider.crypto)?;
                    if package.ciphersuite() != record.suite.ciphersuite() {
                        return Err(E2eeError::WrongSuite);
                    }
                    parsed.push(package);
                }
                builder.propose_adds(parsed)
            }
            Intent::Remove { members, revoke } => {
                let (leaves, policy) = self.removal(group, record, members, *revoke)?;
                let builder = builder.propose_removals(leaves.into_iter().map(LeafNodeIndex::new));
                if policy == record.policy {
                    builder
                } else {
                    builder
                        .propose_group_context_extensions(policy_extension(&policy)?)
                        .map_err(library("proposing a policy"))?
                }
            }
            Intent::Readmit(request) => {
                let package = parse_key_package(&request.key_package, self.provider.crypto)?;
                if package.ciphersuite() != record.suite.ciphersuite() {
                    return Err(E2eeError::WrongSuite);
                }
                let member = certificate_of(package.leaf_node()).map(|found| member_of(&found));
                let member = member.ok_or(Refusal::NoCertificate)?;
                let roster = self.epoch(group, record.epoch)?.roster;
                let leaf = roster.leaf_of(member).ok_or(E2eeError::NoSuchMember)?;
                builder
                    .propose_removals([LeafNodeIndex::new(leaf)])
                    .propose_adds([package])
            }
            Intent::Rotate => builder.force_self_update(true),
            Intent::Policy { to, .. } if **to == record.policy => {
                return Err(E2eeError::NothingToDo);
            }
            Intent::Policy { to, .. } => {
                to.check()?;
                builder
                    .propose_group_context_extensions(policy_extension(to)?)
                    .map_err(library("proposing a policy"))?
            }
        };
        let builder = match link {
            Some(link) => {
                let nonce_bytes = record.suite.ciphersuite().hash_length();
                let mut nonce = vec![0; nonce_bytes];
                self.provider.rand().0.borrow_mut().fill(&mut nonce)?;
                let id = PreSharedKeyId::external(link.id.clone(), nonce);
                id.store(&self.provider, link.secret.expose())
                    .map_err(library("storing a link"))?;
                builder.add_proposal(Proposal::PreSharedKey(Box::new(PreSharedKeyProposal::new(
                    id,
                ))))
            }
            None => builder,
        };
        let builder = builder
            .load_psks(self.provider.storage())
            .map_err(library("loading a link"))?;
        let (rand, crypto) = (self.provider.rand(), self.provider.crypto());
        let built = match renewed.filter(|_| other_key) {
            Some(credential_with_key) => {
                let with = NewSignerBundle {
                    signer: &self.me.key,
                    credential_with_key,
                };
                builder.build_with_new_signer(rand, crypto, own.key(), with, |_| true)
            }
            None => builder.build(rand, crypto, own.key(), |_| true),
        };
        let bundle = built
            .map_err(|_| E2eeError::Refused(Refusal::Proposal))?
            .stage_commit(&self.provider)
            .map_err(library("keeping a commit"))?;
        let staged = loaded.pending_commit().ok_or(E2eeError::Library {
            doing: "keeping a commit",
        })?;
        let tree = staged
            .export_ratchet_tree(self.provider.crypto(), tree)
            .map_err(library("exporting the tree"))?;
        let tree = tree.ok_or(E2eeError::Library {
            doing: "exporting the tree",
        })?;
        Made::of(bundle, &tree)
    }

    /// Leaves to remove, and the policy after it: accounts that go take their roles with them, and
    /// revoked devices are written down.
    fn removal(
        &self,
        group: GroupId,
        record: &GroupRecord,
        members: &[MemberDevice],
        revoke: bool,
    ) -> Result<(Vec<u32>, Policy), E2eeError> {
        if members.is_empty() {
            return Err(E2eeError::NothingToDo);
        }
        let epoch = self.epoch(group, record.epoch)?;
        let mut leaves = Vec::with_capacity(members.len());
        for member in members {
            let leaf = epoch.roster.leaf_of(*member);
            leaves.push(leaf.ok_or(E2eeError::NoSuchMember)?);
        }
        let left: BTreeSet<_> = epoch
            .roster
            .iter()
            .filter(|(leaf, _)| !leaves.contains(leaf))
            .map(|(_, leaf)| leaf.member.account)
            .collect();
        let mut policy = record.policy.clone();
        policy.roles.retain(|account, _| left.contains(account));
        if revoke {
            for member in members {
                while policy.revoked.len() >= REVOKED_MAX {
                    policy.revoked.pop_first();
                }
                policy.revoked.insert((member.account, member.device));
            }
        }
        Ok((leaves, policy))
    }

    /// When a device that came in now rotates first.
    pub(crate) fn first_rotation(
        &self,
        leaf: u32,
        leaves: usize,
        now_ms: u64,
    ) -> Result<u64, E2eeError> {
        let chance = u32::from_be_bytes(self.provider.rand().0.borrow_mut().bytes()?);
        Ok(now_ms.saturating_add(join_delay_ms(leaf, leaves, chance)))
    }
}

/// A commit as bytes, with what newcomers get.
struct Made {
    commit: Vec<u8>,
    welcome: Option<Vec<u8>>,
    tree: Vec<u8>,
}

impl Made {
    fn of(
        bundle: CommitMessageBundle,
        tree: &openmls::treesync::RatchetTree,
    ) -> Result<Self, E2eeError> {
        let welcome = bundle.to_welcome_msg();
        let commit = bundle
            .commit()
            .to_bytes()
            .map_err(library("writing a commit"))?;
        bounded("commit", &commit, COMMIT_MAX)?;
        let welcome = match welcome {
            Some(welcome) => Some(welcome.to_bytes().map_err(library("writing a welcome"))?),
            None => None,
        };
        bounded(
            "welcome",
            welcome.as_deref().unwrap_or_default(),
            WELCOME_MAX,
        )?;
        let tree = tree
            .tls_serialize_detached()
            .map_err(library("writing the tree"))?;
        bounded("ratchet tree", &tree, TREE_MAX)?;
        Ok(Self {
            commit,
            welcome,
            tree,
        })
    }

    fn invitation(
        self,
        to: Vec<MemberDevice>,
        predecessor: Option<Predecessor>,
        epoch: u64,
        record: &GroupRecord,
    ) -> Option<Invitation> {
        Some(Invitation {
            to,
            predecessor,
            epoch,
            welcome: self.welcome?,
            tree: self.tree,
            // Whoever is added by a commit that removes nobody: the secret stays.
            tree_secret: record.tree_secret.clone(),
        })
    }
}
