//! What admins sign without an epoch: mode, admin set, succession. None of it can be raced by an
//! advance, so whoever is to be removed cannot prevent it.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer, at_least_one};
use session_core::group::{Mode, Standing, Succession};
use session_core::ids::{ChunkId, Digest, GroupId};
use session_core::limits::GROUP_ADMINS_MAX;
use session_core::record::{Outcome, RecordKey};

use super::{Cosignature, admin_set, decode_admins, group_of};
use crate::state::{Scope, TxError};
use crate::tx::{SigningKey, Tx};
use crate::view::{Table, group_admin_key};

/// Sets who may advance a group. Signed by an admin key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetMode {
    /// Hash of the admin key that signs.
    pub admin: Digest,
    /// The mode.
    pub mode: Mode,
}

/// Replaces a group's admin keys. Signed by more than half of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAdmins {
    /// Hashes of the admin keys that sign, ascending. The first signs the transaction, the others
    /// its cosignatures.
    pub signers: Vec<Digest>,
    /// The new 1 to 16 keys.
    pub admins: Vec<SigningKey>,
    /// Signatures of the other signers, in their order.
    pub cosignatures: Vec<Cosignature>,
}

/// Closes a group's log for good and names the group in which it goes on. Signed by an admin key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Supersede {
    /// Hash of the admin key that signs.
    pub admin: Digest,
    /// An open group.
    pub successor: GroupId,
    /// A chunk with what members join the successor by, sealed to them. It is kept from now on as if
    /// it were put.
    pub invitation: Option<ChunkId>,
}

impl SetMode {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        let id = group_of(&tx.signer);
        let mut group = scope.open_group(&id)?;
        let signature = (tx.signature.as_slice(), &scope.ids.signature);
        scope.require_admin(&id, &mut group, &self.admin, signature)?;
        group.mode = self.mode;
        scope.put_record(&RecordKey::Group(id), &group)?;
        Ok(Outcome::Done)
    }
}

impl SetAdmins {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        let id = group_of(&tx.signer);
        let mut group = scope.open_group(&id)?;
        let (got, needed) = (self.signers.len(), group.admins.len() / 2 + 1);
        if got < needed {
            return Err(TxError::NotAMajority { got, needed });
        }
        let known = |signer: &Digest| group.admins.binary_search(signer).is_ok();
        if !self.signers.iter().all(known) {
            return Err(TxError::NotAnAdmin);
        }
        let own = (tx.signature.as_slice(), &scope.ids.signature);
        let others = self.cosignatures.iter().map(|s| s.0.as_slice());
        let all = core::iter::once(own).chain(others.zip(&scope.ids.cosignatures));
        for (signer, (signature, signature_id)) in self.signers.iter().zip(all) {
            let cell = group_admin_key(&id, signer);
            scope.require_group_key(signer, &cell, signature, signature_id)?;
        }
        let admins = admin_set(&self.admins)?;
        for old in &group.admins {
            scope.over.delete(Table::Keys, group_admin_key(&id, old));
        }
        for key in &self.admins {
            let cell = group_admin_key(&id, &key.digest());
            scope.over.put(Table::Keys, cell, key.to_bytes());
        }
        group.admins = admins;
        scope.put_record(&RecordKey::Group(id), &group)?;
        Ok(Outcome::Done)
    }

    pub(in crate::tx) fn statement(&self, out: &mut Writer) {
        out.list(&self.signers).list(&self.admins);
    }
}

impl Supersede {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        let id = group_of(&tx.signer);
        let mut group = scope.open_group(&id)?;
        let signature = (tx.signature.as_slice(), &scope.ids.signature);
        scope.require_admin(&id, &mut group, &self.admin, signature)?;
        let time = scope.context.time;
        let successor: Option<session_core::group::Group> =
            scope.record(&RecordKey::Group(self.successor))?;
        let is_open = successor.is_some_and(|next| next.standing(time) == Standing::Open);
        if self.successor == id || !is_open {
            return Err(TxError::NoSuccessor);
        }
        scope.keep_chunks(self.invitation.as_slice())?;
        let before = group.deadline(scope.context.parameters.retention_ms);
        group.succession = Some(Succession {
            successor: self.successor,
            time,
            invitation: self.invitation,
        });
        scope.put_moved_group(&id, before, &group)?;
        Ok(Outcome::Done)
    }
}

impl Encode for SetMode {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.admin).value(&self.mode);
    }
}

impl Decode for SetMode {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            admin: Digest::decode(input)?,
            mode: Mode::decode(input)?,
        })
    }
}

impl Encode for SetAdmins {
    fn encode(&self, out: &mut Writer) {
        self.statement(out);
        for signature in &self.cosignatures {
            out.value(signature);
        }
    }
}

impl Decode for SetAdmins {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = "signing admins";
        let signers: Vec<Digest> = input.set(what, GROUP_ADMINS_MAX, 32)?;
        at_least_one(what, signers.len())?;
        let admins = decode_admins(input)?;
        let mut cosignatures = Vec::with_capacity(signers.len());
        for _ in signers.iter().skip(1) {
            cosignatures.push(Cosignature::decode(input)?);
        }
        Ok(Self {
            signers,
            admins,
            cosignatures,
        })
    }
}

impl Encode for Supersede {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.admin)
            .value(&self.successor)
            .option(self.invitation.as_ref());
    }
}

impl Decode for Supersede {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            admin: Digest::decode(input)?,
            successor: GroupId::decode(input)?,
            invitation: input.option("invitation to a successor")?,
        })
    }
}
