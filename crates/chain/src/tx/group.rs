//! Groups: conversations without a roster, whose members sign with keys of their epoch
//! (`spec/e2ee.md` §1 C).
//!
//! ```text
//! signer   the group's id, except where an account pays: CreateGroup, TopUpGroup
//! tx       head | statement | cosignatures | u32 n | signature n
//! action   H(action, chain | head | statement)      what every one of the signatures covers
//! tx id    H(tx, action | SHA-256(signature) | SHA-256(cosignature) …)
//! ```
//!
//! Who else has to sign stands in the statement, so that nobody can take a signature away or add one.

pub mod admin;
pub mod advance;
pub mod post;

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer, at_least_one};
use session_core::group::{Group, Mode, Standing, creatable_until, group_id};
use session_core::header::SIGNATURE_LEN;
use session_core::ids::{AccountId, ChainId, Digest, GroupId};
use session_core::limits::{
    GROUP_ADMINS_MAX, GROUP_FIRST_EPOCH_MAX, GROUP_UNTIL_MAX_MS, TILE_LEAVES,
};
use session_core::log::{Entry, LogId};
use session_core::merkle::Frontier;
use session_core::record::{Outcome, RecordKey};
use session_core::time::Time;

use super::{SigningKey, Tx};
use crate::state::{Scope, TxError};
use crate::view::{
    Table, View as _, ViewError, group_admin_key, group_control_key, group_posting_key,
};

/// An ML-DSA-65 signature over the action, beside the transaction's own.
#[derive(Clone, PartialEq, Eq)]
pub struct Cosignature(pub Box<[u8; SIGNATURE_LEN]>);

impl core::fmt::Debug for Cosignature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Cosignature(..)")
    }
}

impl Cosignature {
    /// Holds the place of a signature that is made once the action is known.
    pub fn blank() -> Self {
        Self(Box::new([0; SIGNATURE_LEN]))
    }
}

/// Opens a group. The signer is its sponsor: an account that pays, and need not be a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateGroup {
    /// 1 to 16 admin keys; the id is made of the first.
    pub admins: Vec<SigningKey>,
    /// Makes two groups of one admin key different, and says until when this one can be created
    /// ([`group_salt`](session_core::group::group_salt)): at most 30 days ahead of block time.
    pub salt: [u8; 32],
    /// Who may advance it.
    pub mode: Mode,
    /// The first epoch, normally 1: what its creator commits before stays at home.
    pub epoch: u64,
    /// Posting key of that epoch.
    pub posting: SigningKey,
    /// Control key of that epoch.
    pub control: SigningKey,
    /// Bytes of weight that the sponsor pays for.
    pub budget: u64,
    /// And for what admins sign, once that is used up.
    pub reserve: u64,
    /// Signature of the first admin key.
    pub admin_signature: Cosignature,
    /// Signature of the control key.
    pub control_signature: Cosignature,
}

/// Pays for what a group may still do; anybody's right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopUpGroup {
    /// Which.
    pub group: GroupId,
    /// Bytes of weight.
    pub budget: u64,
    /// Bytes of weight for what admins sign.
    pub reserve: u64,
}

/// The group whose id stands where other transactions have their signer's.
pub const fn group_of(signer: &AccountId) -> GroupId {
    GroupId::from_bytes(*signer.as_bytes())
}

/// A group in the place of a signer.
pub const fn as_signer(group: &GroupId) -> AccountId {
    AccountId::from_bytes(*group.as_bytes())
}

/// Hashes of the keys, ascending; none where a key is named twice.
fn admin_set(keys: &[SigningKey]) -> Result<Vec<Digest>, TxError> {
    let mut digests: Vec<Digest> = keys.iter().map(SigningKey::digest).collect();
    digests.sort_unstable();
    if digests.is_sorted_by(|a, b| a < b) {
        Ok(digests)
    } else {
        Err(TxError::AdminTwice)
    }
}

impl CreateGroup {
    /// The id of the group that this transaction opens.
    pub fn group_id(&self, chain: &ChainId) -> GroupId {
        let first = self.admins.first();
        let first = first.map_or(&[][..], |key| key.0.as_slice());
        group_id(chain, first, &self.salt)
    }

    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let id = self.group_id(&scope.context.chain);
        let (now, until) = (scope.context.time, creatable_until(&self.salt));
        if until < now || until.since(now) > GROUP_UNTIL_MAX_MS {
            return Err(TxError::GroupUntil { now: now.ms() });
        }
        let key = RecordKey::Group(id);
        if scope.record::<Group>(&key)?.is_some() {
            return Err(TxError::GroupExists);
        }
        let admins = admin_set(&self.admins)?;
        let first = self.admins.first().ok_or(TxError::NotAnAdmin)?;
        scope.require_cosignature(0, first, &self.admin_signature)?;
        scope.require_cosignature(1, &self.control, &self.control_signature)?;
        let time = scope.context.time;
        let group = Group {
            sponsor: tx.signer,
            created: time,
            until,
            last_post: time,
            last_advance: None,
            last_admin: None,
            mode: self.mode,
            epoch: self.epoch,
            posting: self.posting.digest(),
            control: self.control.digest(),
            commit: Digest::from_bytes([0; 32]),
            floor: self.epoch,
            past: Vec::new(),
            admins,
            budget: self.budget,
            reserve: self.reserve,
            succession: None,
            log: Frontier::new(),
        };
        for admin in &self.admins {
            let cell = group_admin_key(&id, &admin.digest());
            scope.over.put(Table::Keys, cell, admin.to_bytes());
        }
        scope.put_epoch_keys(&id, self.epoch, &self.posting, &self.control);
        scope.buy(self.budget, self.reserve)?;
        let kept = scope.context.parameters.retention_ms;
        scope.set_deadline(&key, None, group.deadline(kept));
        scope.put_record(&key, &group)?;
        Ok(Outcome::Group(id))
    }

    pub(super) fn statement(&self, out: &mut Writer) {
        out.list(&self.admins)
            .raw(&self.salt)
            .value(&self.mode)
            .u64(self.epoch)
            .value(&self.posting)
            .value(&self.control)
            .u64(self.budget)
            .u64(self.reserve);
    }
}

impl TopUpGroup {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let mut group = scope.open_group(&self.group)?;
        for (has, more) in [
            (&mut group.budget, self.budget),
            (&mut group.reserve, self.reserve),
        ] {
            let what = "budget of one group";
            *has = has
                .checked_add(more)
                .ok_or(TxError::LimitReached { what })?;
        }
        scope.buy(self.budget, self.reserve)?;
        scope.put_record(&RecordKey::Group(self.group), &group)?;
        Ok(Outcome::Done)
    }
}

impl Scope<'_, '_> {
    /// A group that takes something.
    pub(crate) fn open_group(&self, id: &GroupId) -> Result<Group, TxError> {
        let group: Option<Group> = self.record(&RecordKey::Group(*id))?;
        let group = group.ok_or(TxError::UnknownGroup)?;
        match group.standing(self.context.time) {
            Standing::Open => Ok(group),
            Standing::Idle => Err(TxError::GroupIdle),
            Standing::Superseded(successor) => Err(TxError::GroupSuperseded { successor }),
        }
    }

    /// The signature must be by the key of this hash, which lies in this cell. Keys of a group
    /// count at once: like epochs, in the order of the block.
    pub(crate) fn require_group_key(
        &self,
        key: &Digest,
        cell: &[u8],
        signature: &[u8],
        signature_id: &Digest,
    ) -> Result<(), TxError> {
        if signature.is_empty() {
            return Err(TxError::SignatureRequired);
        }
        let crypto = self.context.crypto;
        let digest = self.ids.action.to_bytes();
        if crypto.is_verified(key, &digest, signature_id) {
            return Ok(());
        }
        let bytes = self.over.get(Table::Keys, cell)?;
        let bytes = bytes.ok_or(ViewError::Missing(Table::Keys))?;
        let key = SigningKey::from_bytes(&bytes).map_err(ViewError::Damaged)?;
        if crypto.verify(&key, &digest, signature) {
            Ok(())
        } else {
            Err(TxError::InvalidSignature)
        }
    }

    /// One admin's signature, and that this admin is within its rate.
    fn require_admin(
        &self,
        id: &GroupId,
        group: &mut Group,
        admin: &Digest,
        (signature, signature_id): (&[u8], &Digest),
    ) -> Result<(), TxError> {
        if group.admins.binary_search(admin).is_err() {
            return Err(TxError::NotAnAdmin);
        }
        self.require_group_key(admin, &group_admin_key(id, admin), signature, signature_id)?;
        let what = "actions of one group's admins";
        let rate = session_core::limits::ADMIN_INTERVAL_MS;
        self.require_pause(what, group.last_admin, rate)?;
        group.last_admin = Some(self.context.time);
        Ok(())
    }

    fn require_pause(
        &self,
        what: &'static str,
        last: Option<Time>,
        pause_ms: u64,
    ) -> Result<(), TxError> {
        let since = last.map_or(pause_ms, |last| self.context.time.since(last));
        match pause_ms.saturating_sub(since) {
            0 => Ok(()),
            retry_ms => Err(TxError::RateLimited { what, retry_ms }),
        }
    }

    /// A cosignature by a key that the transaction itself carries.
    fn require_cosignature(
        &self,
        place: usize,
        key: &SigningKey,
        signature: &Cosignature,
    ) -> Result<(), TxError> {
        let digest = self.ids.action.to_bytes();
        let id = self.ids.cosignatures.get(place);
        let crypto = self.context.crypto;
        if id.is_some_and(|id| crypto.is_verified(&key.digest(), &digest, id))
            || crypto.verify(key, &digest, signature.0.as_slice())
        {
            Ok(())
        } else {
            Err(TxError::InvalidSignature)
        }
    }

    /// Keys of an epoch that begins. The posting keys of epochs before stay.
    fn put_epoch_keys(
        &mut self,
        id: &GroupId,
        epoch: u64,
        posting: &SigningKey,
        control: &SigningKey,
    ) {
        let cell = group_posting_key(id, epoch);
        self.over.put(Table::Keys, cell, posting.to_bytes());
        let cell = group_control_key(id);
        self.over.put(Table::Keys, cell, control.to_bytes());
    }

    /// Appends to a group's log. Its leaves go a full tile at a time, like a channel's.
    fn append_to_group(
        &mut self,
        id: &GroupId,
        group: &mut Group,
        entry: &Entry,
    ) -> Result<(), TxError> {
        self.append_entry(&LogId::Group(*id), &mut group.log, entry)?;
        if group.log.count().is_multiple_of(TILE_LEAVES) {
            let kept = self.context.parameters.retention_ms;
            let due = Group::tile_deadline(self.context.time, kept);
            self.set_deadline(&RecordKey::Group(*id), None, due);
        }
        Ok(())
    }

    /// Writes a group whose end may have moved.
    fn put_moved_group(
        &mut self,
        id: &GroupId,
        before: Time,
        group: &Group,
    ) -> Result<(), TxError> {
        let key = RecordKey::Group(*id);
        let after = group.deadline(self.context.parameters.retention_ms);
        if after != before {
            self.set_deadline(&key, Some(before), after);
        }
        self.put_record(&key, group)
    }
}

impl Encode for Cosignature {
    fn encode(&self, out: &mut Writer) {
        out.raw(self.0.as_slice());
    }
}

impl Decode for Cosignature {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Box::new(input.array("cosignature")?)))
    }
}

/// 1 to 16 admin keys.
fn decode_admins(input: &mut Reader<'_>) -> Result<Vec<SigningKey>, DecodeError> {
    let what = "admin keys";
    let admins = input.list(what, GROUP_ADMINS_MAX, super::SIGNING_KEY_LEN)?;
    at_least_one(what, admins.len())?;
    Ok(admins)
}

impl Encode for CreateGroup {
    fn encode(&self, out: &mut Writer) {
        self.statement(out);
        out.value(&self.admin_signature)
            .value(&self.control_signature);
    }
}

impl Decode for CreateGroup {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let admins = decode_admins(input)?;
        let salt = input.array("salt")?;
        let mode = Mode::decode(input)?;
        let epoch = input.u64("epoch")?;
        if epoch > GROUP_FIRST_EPOCH_MAX {
            return Err(DecodeError::TooLong {
                what: "first epoch",
                claimed: epoch,
                limit: GROUP_FIRST_EPOCH_MAX,
            });
        }
        Ok(Self {
            admins,
            salt,
            mode,
            epoch,
            posting: SigningKey::decode(input)?,
            control: SigningKey::decode(input)?,
            budget: input.u64("budget")?,
            reserve: input.u64("reserve")?,
            admin_signature: Cosignature::decode(input)?,
            control_signature: Cosignature::decode(input)?,
        })
    }
}

impl Encode for TopUpGroup {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.group).u64(self.budget).u64(self.reserve);
    }
}

impl Decode for TopUpGroup {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: GroupId::decode(input)?,
            budget: input.u64("budget")?,
            reserve: input.u64("reserve")?,
        })
    }
}
