//! Which keys of a group sign a transaction, so that admission verifies them before it waits with
//! anybody: otherwise strangers could fill a group's share of the pool.

use session_chain::state::TxError;
use session_chain::tx::group::{Cosignature, CreateGroup};
use session_chain::tx::{Kind, SigningKey, Tx, TxIds};
use session_chain::view::{
    Table, View, ViewError, group_admin_key, group_control_key, group_posting_key,
};
use session_core::codec::Decode;
use session_core::group::Group;
use session_core::ids::{Digest, GroupId};
use session_core::record::{Action, RecordKey};
use session_core::time::Time;

use crate::head::Head;
use crate::verifier::Verifier;

/// One signature, and the key that must have made it.
struct Signature<'a> {
    key: Digest,
    cell: Vec<u8>,
    bytes: &'a [u8],
    digest: Digest,
}

/// Verifies what keys of a group have signed; false where the action was accepted already, whose
/// retry gets its first answer from the block.
///
/// # Errors
/// [`TxError`]: the group is unknown, the key does not count (any more), or a signature does not
/// hold.
pub(crate) fn check(
    verifier: &Verifier,
    head: &Head,
    (id, tx): (&GroupId, &Tx),
    ids: &TxIds,
    now: Time,
) -> Result<bool, TxError> {
    let accepted: Option<Action> = head.record(&RecordKey::Action(ids.action))?;
    if accepted.is_some() {
        return Ok(false);
    }
    let group: Option<Group> = head.record(&RecordKey::Group(*id))?;
    let group = group.ok_or(TxError::UnknownGroup)?;
    for signature in signatures(&group, id, tx, ids, now)? {
        verify(verifier, head, &signature, ids)?;
    }
    Ok(true)
}

/// Verifies what the keys that a new group brings with it have signed.
///
/// # Errors
/// [`TxError::InvalidSignature`].
pub(crate) fn check_creation(
    verifier: &Verifier,
    create: &CreateGroup,
    ids: &TxIds,
) -> Result<(), TxError> {
    let digest = ids.action.to_bytes();
    let first = create.admins.first().ok_or(TxError::NotAnAdmin)?;
    let signed = [
        (first, &create.admin_signature),
        (&create.control, &create.control_signature),
    ];
    for ((key, signature), id) in signed.into_iter().zip(&ids.cosignatures) {
        let of_key = key.digest();
        let ready = verifier.key(&of_key);
        let ready = ready.or_else(|| verifier.keep_key(of_key, key));
        let ready = ready.ok_or(TxError::InvalidSignature)?;
        if !verifier.admit(&of_key, &ready, &digest, signature.0.as_slice(), id) {
            return Err(TxError::InvalidSignature);
        }
    }
    Ok(())
}

fn verify(
    verifier: &Verifier,
    head: &Head,
    signature: &Signature<'_>,
    ids: &TxIds,
) -> Result<(), TxError> {
    let key = match verifier.key(&signature.key) {
        Some(key) => key,
        None => {
            let bytes = head.view().get(Table::Keys, &signature.cell)?;
            let bytes = bytes.ok_or(ViewError::Missing(Table::Keys))?;
            let key = SigningKey::from_bytes(&bytes).map_err(ViewError::Damaged)?;
            // A key that its group was given and that is none.
            let key = verifier.keep_key(signature.key, &key);
            key.ok_or(TxError::InvalidSignature)?
        }
    };
    let digest = ids.action.to_bytes();
    if verifier.admit(
        &signature.key,
        &key,
        &digest,
        signature.bytes,
        &signature.digest,
    ) {
        Ok(())
    } else {
        Err(TxError::InvalidSignature)
    }
}

/// The signatures that a transaction must have.
fn signatures<'a>(
    group: &Group,
    id: &GroupId,
    tx: &'a Tx,
    ids: &TxIds,
    now: Time,
) -> Result<Vec<Signature<'a>>, TxError> {
    let own = |key, cell| Signature {
        key,
        cell,
        bytes: tx.signature.as_slice(),
        digest: ids.signature,
    };
    let member = |epoch| -> Result<_, TxError> {
        let key = group.posting_key(epoch, now)?;
        Ok(vec![own(key, group_posting_key(id, epoch))])
    };
    let admin = |key: &Digest| {
        if group.admins.binary_search(key).is_err() {
            return Err(TxError::NotAnAdmin);
        }
        Ok(group_admin_key(id, key))
    };
    let cosigned = |key: &Digest, at: usize, signature: &'a Cosignature| -> Result<_, TxError> {
        let digest = ids.cosignatures.get(at).copied();
        Ok(Signature {
            key: *key,
            cell: admin(key)?,
            bytes: signature.0.as_slice(),
            digest: digest.ok_or(TxError::InvalidSignature)?,
        })
    };
    if let Kind::GroupPost(k) = &tx.kind {
        return member(k.epoch);
    }
    if let Kind::PutGroupChunk(k) = &tx.kind {
        return member(k.epoch);
    }
    if let Kind::SetMode(k) = &tx.kind {
        return Ok(vec![own(k.admin, admin(&k.admin)?)]);
    }
    if let Kind::Supersede(k) = &tx.kind {
        return Ok(vec![own(k.admin, admin(&k.admin)?)]);
    }
    if let Kind::AdvanceGroup(k) = &tx.kind {
        let current = group.epoch;
        if k.epoch != current {
            return Err(TxError::WrongEpoch { current });
        }
        let mut all = vec![own(group.control, group_control_key(id))];
        if let Some((key, signature)) = &k.admin {
            all.push(cosigned(key, 0, signature)?);
        }
        return Ok(all);
    }
    let Kind::SetAdmins(k) = &tx.kind else {
        return Ok(Vec::new());
    };
    let (got, needed) = (k.signers.len(), group.admins.len() / 2 + 1);
    if got < needed {
        return Err(TxError::NotAMajority { got, needed });
    }
    let mut all = Vec::with_capacity(got);
    for (at, key) in k.signers.iter().enumerate() {
        all.push(match at.checked_sub(1) {
            None => own(*key, admin(key)?),
            Some(at) => {
                let signature = k.cosignatures.get(at);
                cosigned(key, at, signature.ok_or(TxError::InvalidSignature)?)?
            }
        });
    }
    Ok(all)
}
