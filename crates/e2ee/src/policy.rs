//! What a group agrees on beside its members: name, roles, who may do what.
//!
//! It is an extension of the MLS group context (type 0xf0e3), so every member has the same one at
//! every epoch, a newcomer gets it with the welcome, and a commit changes it. Each member checks a
//! change against the policy before it: the chain knows nothing of roles.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::{AccountId, ChainId};
use std::collections::{BTreeMap, BTreeSet};

use crate::credential::DeviceId;
use crate::limits::{NAME_MAX, REVOKED_MAX, ROLES_MAX};

/// Our extension's type, from the range for private use (RFC 9420 §17.3).
pub(crate) const POLICY_EXTENSION: u16 = 0xf0e3;

const VERSION: u8 = 1;

/// What an account is in a group. Later ones may do whatever earlier ones may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads and writes.
    Member,
    /// Adds, removes and renames, unless the policy says otherwise.
    Admin,
    /// Gives and takes roles. There is always one.
    Owner,
}

/// How much the sender of a message is proved to the others of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureRule {
    /// Not at all: between two accounts the other one knows who it was, and cannot prove it.
    Never,
    /// In batches of at most 32 messages or 5 seconds, the first of an epoch at once.
    Batched,
    /// Each message at once.
    Each,
}

/// The policy of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The chain whose log orders this group.
    pub chain: ChainId,
    /// The group's name, at most 128 bytes.
    pub name: String,
    /// Who is more than a member.
    pub roles: BTreeMap<AccountId, Role>,
    /// Who may add accounts. Every account adds its own devices.
    pub add: Role,
    /// Who may remove accounts of a lower role than its own. Every account removes its own devices.
    pub remove: Role,
    /// Who may change name, signature rule and timer.
    pub rename: Role,
    /// What is demanded of senders.
    pub signatures: SignatureRule,
    /// After how many seconds messages disappear; 0: never.
    pub disappear_after_s: u32,
    /// Devices that may not come back: stolen ones.
    pub revoked: BTreeSet<(AccountId, DeviceId)>,
}

/// Why a change of the policy is not its sender's to make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The role is too low for this.
    #[error("{what} needs a higher role than {has:?}")]
    Role {
        /// What was to be done.
        what: &'static str,
        /// The role of who wanted to.
        has: Role,
    },
    /// A group keeps an owner.
    #[error("the last owner cannot go")]
    LastOwner,
    /// A group stays on its chain.
    #[error("the chain of a group cannot change")]
    Chain,
    /// The name, or a list, is too long.
    #[error("{what} is too long")]
    TooLong {
        /// What it is.
        what: &'static str,
    },
}

impl Policy {
    /// Whether two policies say the same but for accounts that are not in the group, and for devices
    /// that may not come back.
    pub(crate) fn agrees_but_for(&self, other: &Self, is_in: impl Fn(&AccountId) -> bool) -> bool {
        let seen = |policy: &Self| {
            let mut policy = policy.clone();
            policy.revoked.clear();
            policy.roles.retain(|account, _| is_in(account));
            policy
        };
        seen(self) == seen(other)
    }

    /// The policy of a new group: its creator owns it, admins add, remove and rename, and messages
    /// are signed in batches.
    pub fn new(chain: ChainId, owner: AccountId) -> Self {
        Self {
            chain,
            name: String::new(),
            roles: BTreeMap::from([(owner, Role::Owner)]),
            add: Role::Admin,
            remove: Role::Admin,
            rename: Role::Admin,
            signatures: SignatureRule::Batched,
            disappear_after_s: 0,
            revoked: BTreeSet::new(),
        }
    }

    /// The policy between two accounts: both own it, and nothing is signed.
    pub fn between(chain: ChainId, one: AccountId, other: AccountId) -> Self {
        Self {
            roles: BTreeMap::from([(one, Role::Owner), (other, Role::Owner)]),
            signatures: SignatureRule::Never,
            ..Self::new(chain, one)
        }
    }

    /// What an account is.
    pub fn role(&self, account: AccountId) -> Role {
        self.roles.get(&account).copied().unwrap_or(Role::Member)
    }

    /// What this policy becomes when somebody wanted to make `from` into `to`, and another change
    /// came first: only what was to change changes.
    pub(crate) fn rebased(&self, from: &Self, to: &Self) -> Self {
        fn pick<T: PartialEq + Clone>(now: &T, from: &T, to: &T) -> T {
            if from == to { now.clone() } else { to.clone() }
        }
        let mut roles = self.roles.clone();
        for account in from.roles.keys().chain(to.roles.keys()) {
            match (from.roles.get(account), to.roles.get(account)) {
                (before, after) if before == after => {}
                (_, Some(after)) => {
                    roles.insert(*account, *after);
                }
                (_, None) => {
                    roles.remove(account);
                }
            }
        }
        let mut revoked = self.revoked.clone();
        revoked.extend(to.revoked.difference(&from.revoked));
        revoked.retain(|device| !from.revoked.contains(device) || to.revoked.contains(device));
        Self {
            chain: self.chain,
            name: pick(&self.name, &from.name, &to.name),
            roles,
            add: pick(&self.add, &from.add, &to.add),
            remove: pick(&self.remove, &from.remove, &to.remove),
            rename: pick(&self.rename, &from.rename, &to.rename),
            signatures: pick(&self.signatures, &from.signatures, &to.signatures),
            disappear_after_s: pick(
                &self.disappear_after_s,
                &from.disappear_after_s,
                &to.disappear_after_s,
            ),
            revoked,
        }
    }

    /// Whether the limits are kept.
    ///
    /// # Errors
    /// [`PolicyError::TooLong`].
    pub fn check(&self) -> Result<(), PolicyError> {
        let lists = [
            ("the name", self.name.len() > NAME_MAX),
            ("the list of roles", self.roles.len() > ROLES_MAX),
            (
                "the list of revoked devices",
                self.revoked.len() > REVOKED_MAX,
            ),
        ];
        match lists.into_iter().find(|(_, too_long)| *too_long) {
            Some((what, _)) => Err(PolicyError::TooLong { what }),
            None => Ok(()),
        }
    }

    /// Whether `sender` may add a device of `account`, that is new to the group or has devices in it.
    ///
    /// # Errors
    /// [`PolicyError::Role`].
    pub fn may_add(&self, sender: AccountId, account: AccountId) -> Result<(), PolicyError> {
        if sender == account {
            return Ok(());
        }
        self.at_least(sender, self.add, "adding")
    }

    /// Whether `sender` may remove a device of `account`.
    ///
    /// # Errors
    /// [`PolicyError::Role`].
    pub fn may_remove(&self, sender: AccountId, account: AccountId) -> Result<(), PolicyError> {
        if sender == account {
            return Ok(());
        }
        self.at_least(sender, self.remove, "removing")?;
        let has = self.role(sender);
        // Owners are equals: two of a pair can each end it.
        if has > self.role(account) || has == Role::Owner {
            Ok(())
        } else {
            let what = "removing an account of this role";
            Err(PolicyError::Role { what, has })
        }
    }

    /// Whether `sender` may make this policy `next`, in a commit after which `gone` have no device
    /// left.
    ///
    /// # Errors
    /// [`PolicyError`].
    pub fn may_become(
        &self,
        next: &Self,
        sender: AccountId,
        gone: &BTreeSet<AccountId>,
    ) -> Result<(), PolicyError> {
        next.check()?;
        if next.chain != self.chain {
            return Err(PolicyError::Chain);
        }
        let described = (&self.name, self.signatures, self.disappear_after_s);
        if described != (&next.name, next.signatures, next.disappear_after_s) {
            self.at_least(sender, self.rename, "changing name, signatures or timer")?;
        }
        if (self.add, self.remove, self.rename) != (next.add, next.remove, next.rename) {
            self.at_least(sender, Role::Owner, "changing who may do what")?;
        }
        // Whoever has gone takes its role with it: it would be back with the next invitation.
        let kept: BTreeMap<_, _> = self
            .roles
            .iter()
            .filter(|(account, _)| !gone.contains(account))
            .map(|(account, role)| (*account, *role))
            .collect();
        if next.roles != kept {
            self.at_least(sender, Role::Owner, "giving or taking a role")?;
        }
        if !next.roles.values().any(|role| *role == Role::Owner) {
            return Err(PolicyError::LastOwner);
        }
        self.may_revoke(next, sender)
    }

    /// Revoked devices are only added, by who may remove them; the list may drop its oldest when it
    /// is full.
    fn may_revoke(&self, next: &Self, sender: AccountId) -> Result<(), PolicyError> {
        for (account, _) in next.revoked.difference(&self.revoked) {
            self.may_remove(sender, *account)?;
        }
        let dropped = self.revoked.difference(&next.revoked).count();
        if dropped > 0 && next.revoked.len() < REVOKED_MAX {
            self.at_least(sender, Role::Owner, "letting a revoked device back in")?;
        }
        Ok(())
    }

    fn at_least(
        &self,
        sender: AccountId,
        needed: Role,
        what: &'static str,
    ) -> Result<(), PolicyError> {
        let has = self.role(sender);
        if has >= needed {
            Ok(())
        } else {
            Err(PolicyError::Role { what, has })
        }
    }
}

impl Encode for Role {
    fn encode(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Member => 0,
            Self::Admin => 1,
            Self::Owner => 2,
        });
    }
}

impl Decode for Role {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("role")? {
            0 => Ok(Self::Member),
            1 => Ok(Self::Admin),
            2 => Ok(Self::Owner),
            value => Err(DecodeError::UnknownValue {
                what: "role",
                value: value.into(),
            }),
        }
    }
}

impl Encode for SignatureRule {
    fn encode(&self, out: &mut Writer) {
        out.u8(match self {
            Self::Never => 0,
            Self::Batched => 1,
            Self::Each => 2,
        });
    }
}

impl Decode for SignatureRule {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("signature rule")? {
            0 => Ok(Self::Never),
            1 => Ok(Self::Batched),
            2 => Ok(Self::Each),
            value => Err(DecodeError::UnknownValue {
                what: "signature rule",
                value: value.into(),
            }),
        }
    }
}

impl Encode for Policy {
    fn encode(&self, out: &mut Writer) {
        out.u8(VERSION)
            .value(&self.chain)
            .bytes(self.name.as_bytes());
        out.count(self.roles.len());
        for (account, role) in &self.roles {
            out.value(account).value(role);
        }
        out.value(&self.add).value(&self.remove).value(&self.rename);
        out.value(&self.signatures).u32(self.disappear_after_s);
        out.count(self.revoked.len());
        for (account, device) in &self.revoked {
            out.value(account).value(device);
        }
    }
}

impl Decode for Policy {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match input.u8("policy version")? {
            VERSION => {}
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "policy version",
                    value: value.into(),
                });
            }
        }
        Ok(Self {
            chain: Decode::decode(input)?,
            name: text(input, "group name", NAME_MAX)?,
            roles: ascending(input, "roles", ROLES_MAX, 33)?
                .into_iter()
                .collect(),
            add: Decode::decode(input)?,
            remove: Decode::decode(input)?,
            rename: Decode::decode(input)?,
            signatures: Decode::decode(input)?,
            disappear_after_s: input.u32("disappearing timer")?,
            revoked: {
                let list: Vec<((AccountId, DeviceId), ())> =
                    ascending(input, "revoked devices", REVOKED_MAX, 48)?;
                list.into_iter().map(|(device, ())| device).collect()
            },
        })
    }
}

/// A counted text.
pub(crate) fn text(
    input: &mut Reader<'_>,
    what: &'static str,
    limit: usize,
) -> Result<String, DecodeError> {
    let bytes = input.bytes(what, limit)?;
    core::str::from_utf8(bytes)
        .map(str::to_owned)
        .map_err(|_| DecodeError::Invalid { what })
}

/// A counted list of pairs, strictly ascending by the first of each: the one form of a map.
pub(crate) fn ascending<K: DecodePart + Ord, V: DecodePart>(
    input: &mut Reader<'_>,
    what: &'static str,
    limit: usize,
    entry_bytes: usize,
) -> Result<Vec<(K, V)>, DecodeError> {
    let count = input.count(what, limit, entry_bytes)?;
    let mut out: Vec<(K, V)> = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = (K::part(input)?, V::part(input)?);
        if out.last().is_some_and(|(last, _)| *last >= entry.0) {
            return Err(DecodeError::NotAscending { what });
        }
        out.push(entry);
    }
    Ok(out)
}

/// What a list's entry is made of.
pub(crate) trait DecodePart: Sized {
    fn part(input: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

impl DecodePart for () {
    fn part(_: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(())
    }
}

impl DecodePart for AccountId {
    fn part(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Decode::decode(input)
    }
}

impl DecodePart for Role {
    fn part(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Decode::decode(input)
    }
}

impl DecodePart for (AccountId, DeviceId) {
    fn part(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((Decode::decode(input)?, Decode::decode(input)?))
    }
}

#[cfg(test)]
mod tests;
