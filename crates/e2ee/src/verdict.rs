//! The check list before every merge and every join. MLS checks signatures and trees; who a leaf
//! belongs to, and who may do what, is checked here.
//!
//! A verdict follows from the commit, the group's state and the chain's word at the commit's log
//! position. Nothing else: no clock, no memory of messages. Otherwise members would part.
//!
//! | rule | why |
//! |---|---|
//! | a member made the commit | MLS also takes commits by outsiders, whatever the wire format policy |
//! | only adds, removes, one change of policy; none by reference | nothing else is used here, and what is not used is not open |
//! | every new leaf and every new leaf key is certified by its account's current key | MLS shows the credential and not the key, and verifies neither |
//! | in the log also by one that was replaced, or of an account that was revoked, less than [`GRACE_MS`] before | the committer could not know; whoever *makes* or signs a commit has no such grace |
//! | an update keeps account and device | else any member could take any name |
//! | a leaf that goes and comes back in one commit with its signature key needs the right to add, not that to remove | a device that lost its way is let back in, whoever it is |
//! | key packages live for ever | openmls asks the local clock at every commit; a shorter life parts those who come late |
//! | sender's role allows it, an owner stays | the chain knows no roles |
//! | only our extension changes in the group context | required capabilities and external senders lock others out or let them in |

use openmls::prelude::{
    Extension, ExtensionType, Extensions, GroupContext, KeyPackage, LeafNode, Lifetime, MlsGroup,
    Proposal, Sender, StagedCommit, StagedWelcome,
};
use openmls::prelude::{ProposalOrRefType, RequiredCapabilitiesExtension};
use openmls::treesync::LeafNodeSource;
use session_core::codec::Decode;
use session_core::ids::{AccountId, Digest};
use std::collections::BTreeSet;

use crate::credential::{CREDENTIAL_TYPE, DeviceCertificate};
use crate::directory::{AccountState, Directory, EarlierKey};
use crate::event::{MemberDevice, Unusable};
use crate::limits::{ADDS_MAX, GRACE_MS, LEAVES_MAX};
use crate::policy::{POLICY_EXTENSION, Policy, PolicyError};
use crate::provider::Crypto;
use crate::roster::{Roster, certificate_of, key_hash, member_of};

/// Why a commit, a key package or a tree is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not by a member of the group.
    #[error("the commit is not by a member")]
    NotByMember,
    /// A proposal that is not used here, or one by reference.
    #[error("the commit has a proposal that is not used here")]
    Proposal,
    /// More than 50 adds, or more than 1,024 leaves.
    #[error("too many leaves")]
    TooManyLeaves,
    /// A leaf without a credential of ours.
    #[error("a leaf has no device certificate")]
    NoCertificate,
    /// The chain knows no such account.
    #[error("there is no account {0}")]
    UnknownAccount(AccountId),
    /// The account was revoked.
    #[error("account {0} is revoked")]
    RevokedAccount(AccountId),
    /// The account did not certify this key.
    #[error("account {0} did not certify this key")]
    NotCertified(AccountId),
    /// An update that changes whose the leaf is.
    #[error("the leaf of {was} became one of {became}")]
    AnotherAccount {
        /// Account before.
        was: AccountId,
        /// Account after.
        became: AccountId,
    },
    /// The same device twice.
    #[error("device {} of {} is in the group already", .0.device, .0.account)]
    DeviceTwice(MemberDevice),
    /// The device was revoked in this group.
    #[error("device {} of {} may not come back", .0.device, .0.account)]
    RevokedDevice(MemberDevice),
    /// A key package with an end.
    #[error("a key package has a lifetime")]
    Lifetime,
    /// No such leaf to remove.
    #[error("there is no leaf {0}")]
    UnknownLeaf(u32),
    /// Something else than our policy changed in the group context, or the policy is malformed.
    #[error("the group context changed in a way that is not used here")]
    GroupContext,
    /// Not this sender's to do.
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl Refusal {
    pub(crate) const fn unusable(self) -> Unusable {
        match self {
            Self::NotByMember => Unusable::NotByMember,
            Self::Proposal | Self::TooManyLeaves | Self::Lifetime | Self::UnknownLeaf(_) => {
                Unusable::Malformed
            }
            Self::NoCertificate
            | Self::UnknownAccount(_)
            | Self::RevokedAccount(_)
            | Self::NotCertified(_)
            | Self::AnotherAccount { .. }
            | Self::DeviceTwice(_)
            | Self::RevokedDevice(_) => Unusable::Credential,
            Self::GroupContext => Unusable::WrongContext,
            Self::Policy(_) => Unusable::Policy,
        }
    }
}

/// What an allowed commit does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) by: MemberDevice,
    pub(crate) sender: u32,
    pub(crate) added: Vec<MemberDevice>,
    pub(crate) removed: Vec<(u32, MemberDevice)>,
    /// Of those, devices that are added again by the same commit, with the leaf key that they had.
    pub(crate) returned: BTreeSet<MemberDevice>,
    /// The policy after the commit.
    pub(crate) policy: Policy,
}

/// What a verdict is made from.
pub(crate) struct Judge<'a> {
    pub(crate) crypto: &'a Crypto,
    pub(crate) directory: &'a dyn Directory,
    pub(crate) as_of: AsOf,
}

/// What is judged: something that is still to come, or an entry of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AsOf {
    /// As the chain is now. What is made, signed or joined by now has to be in order.
    Now,
    /// A commit that the log has.
    Entry {
        /// Block time of the entry.
        time_ms: u64,
    },
}

impl AsOf {
    /// Whether a change of an account at this block time may have crossed what is judged.
    const fn crosses(self, changed_ms: u64) -> bool {
        match self {
            Self::Now => false,
            Self::Entry { time_ms } => time_ms.saturating_sub(changed_ms) < GRACE_MS,
        }
    }
}

impl Judge<'_> {
    /// Judges a commit against the group as it is before it.
    pub(crate) fn commit(
        &self,
        group: &MlsGroup,
        roster: &Roster,
        sender: &Sender,
        staged: &StagedCommit,
    ) -> Result<Verdict, Refusal> {
        let Sender::Member(index) = sender else {
            return Err(Refusal::NotByMember);
        };
        let sender = index.u32();
        let by = roster.get(sender).ok_or(Refusal::NotByMember)?.member;
        let policy = policy_of(group.extensions())?;
        let mut verdict = Verdict {
            by,
            sender,
            added: Vec::new(),
            removed: Vec::new(),
            returned: BTreeSet::new(),
            policy: policy_of(staged.group_context().extensions())?,
        };
        let mut added = Vec::new();
        for queued in staged.queued_proposals() {
            if !matches!(queued.sender(), Sender::Member(by) if by == index)
                || queued.proposal_or_ref_type() != ProposalOrRefType::Proposal
            {
                return Err(Refusal::Proposal);
            }
            match queued.proposal() {
                Proposal::Add(add) => added.push(add.key_package()),
                Proposal::Remove(remove) => {
                    let leaf = remove.removed().u32();
                    let gone = roster.get(leaf).ok_or(Refusal::UnknownLeaf(leaf))?;
                    verdict.removed.push((leaf, gone.member));
                }
                Proposal::GroupContextExtensions(_) => {}
                Proposal::Update(_)
                | Proposal::PreSharedKey(_)
                | Proposal::ReInit(_)
                | Proposal::ExternalInit(_)
                | Proposal::AppDataUpdate(_)
                | Proposal::SelfRemove
                | Proposal::AppEphemeral(_)
                | Proposal::Custom(_) => return Err(Refusal::Proposal),
            }
        }
        for (leaf, gone) in &verdict.removed {
            let key = roster.get(*leaf).map(|leaf| leaf.key);
            if added.iter().any(|package| is_of(package, *gone, key)) {
                policy.may_add(by.account, gone.account)?;
                verdict.returned.insert(*gone);
            } else {
                policy.may_remove(by.account, gone.account)?;
            }
        }
        if let Some(leaf) = staged.update_path_leaf_node() {
            let old = group.member_at(*index).ok_or(Refusal::NotByMember)?;
            self.update(by, &old.credential, &old.signature_key, leaf)?;
        }
        if added.len() > ADDS_MAX || roster.len() + added.len() > LEAVES_MAX {
            return Err(Refusal::TooManyLeaves);
        }
        let removed: BTreeSet<u32> = verdict.removed.iter().map(|(leaf, _)| *leaf).collect();
        let mut present: BTreeSet<MemberDevice> = roster
            .iter()
            .filter(|(leaf, _)| !removed.contains(leaf))
            .map(|(_, leaf)| leaf.member)
            .collect();
        for key_package in added {
            let member = self.key_package(key_package)?;
            policy.may_add(by.account, member.account)?;
            if verdict
                .policy
                .revoked
                .contains(&(member.account, member.device))
            {
                return Err(Refusal::RevokedDevice(member));
            }
            if !present.insert(member) {
                return Err(Refusal::DeviceTwice(member));
            }
            verdict.added.push(member);
        }
        judge_policy(&policy, &verdict, roster, &present)?;
        Ok(verdict)
    }

    /// Judges a key package that somebody offers: certified by its account, and without an end.
    pub(crate) fn key_package(&self, key_package: &KeyPackage) -> Result<MemberDevice, Refusal> {
        if *key_package.life_time() != lifetime() {
            return Err(Refusal::Lifetime);
        }
        let leaf = key_package.leaf_node();
        let certificate = certificate_of(leaf).ok_or(Refusal::NoCertificate)?;
        self.certified(&certificate, leaf.signature_key().as_slice(), Keys::Current)?;
        Ok(member_of(&certificate))
    }

    /// Judges the group that a welcome leads to. `me` is this device.
    pub(crate) fn welcome(
        &self,
        staged: &StagedWelcome,
        me: MemberDevice,
    ) -> Result<Policy, Refusal> {
        let policy = policy_of(staged.group_context().extensions())?;
        policy.check()?;
        let sender = staged.welcome_sender().map_err(|_| Refusal::NotByMember)?;
        let sender = certificate_of(sender).ok_or(Refusal::NoCertificate)?;
        let sender = member_of(&sender);
        let mut present = BTreeSet::new();
        for member in staged.members() {
            let certificate = DeviceCertificate::of_credential(&member.credential);
            let certificate = certificate.ok_or(Refusal::NoCertificate)?;
            let device = member_of(&certificate);
            // An account that ended keeps nobody out of a group that it was in: whoever is there takes its
            // devices out. It invites nobody, though.
            let which = if [sender.account, me.account].contains(&device.account) {
                Keys::Earlier
            } else {
                Keys::OfAnUnchangedLeaf
            };
            self.certified(&certificate, &member.signature_key, which)?;
            if !present.insert(device) {
                return Err(Refusal::DeviceTwice(device));
            }
        }
        if present.len() > LEAVES_MAX {
            return Err(Refusal::TooManyLeaves);
        }
        policy.may_add(sender.account, me.account)?;
        Ok(policy)
    }

    /// A leaf that its owner changed with a commit.
    fn update(
        &self,
        by: MemberDevice,
        old_credential: &openmls::prelude::Credential,
        old_key: &[u8],
        leaf: &LeafNode,
    ) -> Result<(), Refusal> {
        let key = leaf.signature_key().as_slice();
        if matches!(leaf.leaf_node_source(), LeafNodeSource::KeyPackage(_)) {
            return Err(Refusal::Lifetime);
        }
        // What has not changed was judged when it came. The account may have new keys since, or
        // none: that is no reason to stop a device from healing, and the group with it.
        if leaf.credential() == old_credential && key == old_key {
            return Ok(());
        }
        let certificate = certificate_of(leaf).ok_or(Refusal::NoCertificate)?;
        let became = member_of(&certificate);
        if became.account != by.account {
            return Err(Refusal::AnotherAccount {
                was: by.account,
                became: became.account,
            });
        }
        if became.device != by.device {
            return Err(Refusal::DeviceTwice(became));
        }
        // Another certificate for the key that the leaf had gives it nothing that it did not have. Were
        // it judged like a new leaf, an account that rotates while this commit is under way would end
        // the group.
        let which = if key == old_key {
            Keys::OfAnUnchangedLeaf
        } else {
            Keys::Current
        };
        self.certified(&certificate, key, which)
    }

    fn certified(
        &self,
        certificate: &DeviceCertificate,
        leaf_key: &[u8],
        which: Keys,
    ) -> Result<(), Refusal> {
        let account = certificate.claim().account;
        let AccountState {
            current,
            earlier,
            revoked_ms,
        } = self
            .directory
            .account(account)
            .ok_or(Refusal::UnknownAccount(account))?;
        let ended = revoked_ms.is_some_and(|at| match which {
            Keys::Current => !self.as_of.crosses(at),
            Keys::Earlier => true,
            Keys::OfAnUnchangedLeaf => false,
        });
        if ended {
            return Err(Refusal::RevokedAccount(account));
        }
        let counts = |earlier: &&EarlierKey| match which {
            Keys::Current => self.as_of.crosses(earlier.replaced_ms),
            Keys::Earlier | Keys::OfAnUnchangedLeaf => true,
        };
        let verifier = &self.crypto.verifier;
        let earlier = earlier.iter().rev().filter(counts);
        let mut keys = core::iter::once(&current).chain(earlier.map(|earlier| &earlier.key));
        if keys.any(|key| certificate.verify(key, leaf_key, verifier).is_ok()) {
            Ok(())
        } else {
            Err(Refusal::NotCertified(account))
        }
    }
}

/// Which keys of an account may have certified a leaf.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keys {
    /// A leaf that comes now, or a key.
    Current,
    /// A leaf that has been there for a while.
    Earlier,
    /// A leaf that keeps its key and gets another certificate for it, or that somebody else's invitation
    /// shows: also of an account that has ended since.
    OfAnUnchangedLeaf,
}

/// Whether a key package is of this device, with this signature key.
fn is_of(package: &KeyPackage, device: MemberDevice, key: Option<Digest>) -> bool {
    let leaf = package.leaf_node();
    let is_its = certificate_of(leaf).is_some_and(|found| member_of(&found) == device);
    is_its && key == Some(key_hash(leaf.signature_key().as_slice()))
}

/// The one lifetime that leaves have here.
pub(crate) fn lifetime() -> Lifetime {
    Lifetime::init(0, u64::MAX)
}

/// What every member of every group must be able to do.
pub(crate) fn required_capabilities() -> RequiredCapabilitiesExtension {
    RequiredCapabilitiesExtension::new(
        &[ExtensionType::Unknown(POLICY_EXTENSION)],
        &[],
        &[CREDENTIAL_TYPE],
    )
}

/// The policy inside a group context, which has the required capabilities beside it and no other
/// extension.
pub(crate) fn policy_of(extensions: &Extensions<GroupContext>) -> Result<Policy, Refusal> {
    let mut policy = None;
    let mut count = 0;
    for extension in extensions.iter() {
        count += 1;
        if let Extension::Unknown(POLICY_EXTENSION, bytes) = extension {
            policy = Policy::from_bytes(&bytes.0).ok();
        }
    }
    let required = extensions.required_capabilities();
    if count == 2 && required == Some(&required_capabilities()) {
        policy.ok_or(Refusal::GroupContext)
    } else {
        Err(Refusal::GroupContext)
    }
}

/// Whether roles and the rest may become what the commit makes of them.
fn judge_policy(
    policy: &Policy,
    verdict: &Verdict,
    roster: &Roster,
    present: &BTreeSet<MemberDevice>,
) -> Result<(), Refusal> {
    let accounts: BTreeSet<AccountId> = present.iter().map(|member| member.account).collect();
    let gone: BTreeSet<AccountId> = roster
        .accounts()
        .into_iter()
        .filter(|account| !accounts.contains(account))
        .collect();
    policy.may_become(&verdict.policy, verdict.by.account, &gone)?;
    let owner_stays = accounts
        .iter()
        .any(|account| verdict.policy.role(*account) == crate::policy::Role::Owner);
    if owner_stays {
        Ok(())
    } else {
        Err(PolicyError::LastOwner.into())
    }
}

#[cfg(test)]
mod tests;
