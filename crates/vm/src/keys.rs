//! Registered public keys, as readers and admission find them.

use session_chain::tx::legacy::LegacyKey;
use session_chain::tx::{KemKey, SigningKey};
use session_chain::view::{Table, View, ViewError, account_keys_key, legacy_key_key, rotation_key};
use session_core::account::Account;
use session_core::codec::{Decode, Reader};
use session_core::ids::AccountId;
use session_core::record::RecordKey;
use session_crypto::IdentityId;

use crate::head::Head;

/// The keys that an account signs with and is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PublicKeys {
    /// Of a `07` account, or of an `05` account that has rotated.
    PostQuantum(KemKey, SigningKey),
    /// Ed25519 of an `05` account; it is written to by its id, which is an X25519 key.
    Legacy(LegacyKey),
}

impl PublicKeys {
    /// The key that others encrypt to: 1,184 bytes of ML-KEM-768, or 32 of X25519.
    pub fn encryption<'a>(&'a self, account: &'a AccountId) -> &'a [u8] {
        match self {
            Self::PostQuantum(kem, _) => kem.0.as_slice(),
            Self::Legacy(_) => account.as_bytes(),
        }
    }

    /// The key that signs: 1,952 bytes of ML-DSA-65, or 32 of Ed25519.
    pub fn signing(&self) -> &[u8] {
        match self {
            Self::PostQuantum(_, signing) => signing.0.as_slice(),
            Self::Legacy(key) => &key.0,
        }
    }
}

fn post_quantum(cell: &[u8]) -> Result<PublicKeys, ViewError> {
    let mut input = Reader::new(cell);
    let kem = KemKey::decode(&mut input)?;
    Ok(PublicKeys::PostQuantum(
        kem,
        SigningKey::decode(&mut input)?,
    ))
}

/// Registered public keys of an account.
///
/// # Errors
/// [`ViewError`].
pub fn account_keys(head: &Head, account: &AccountId) -> Result<Option<PublicKeys>, ViewError> {
    let record: Option<Account> = head.record(&RecordKey::Account(*account))?;
    if record.is_none_or(|record| record.keys.is_none()) {
        return Ok(None);
    }
    if let Some(bytes) = head.view().get(Table::Keys, &account_keys_key(account))? {
        return post_quantum(&bytes).map(Some);
    }
    let legacy = legacy_key(head, account)?.ok_or(ViewError::Missing(Table::Keys))?;
    Ok(Some(PublicKeys::Legacy(legacy)))
}

/// The keys that a registered account began with, `index` rotations ago.
///
/// # Errors
/// [`ViewError`].
pub(crate) fn first_keys(
    head: &Head,
    account: &AccountId,
    index: u32,
) -> Result<Option<PublicKeys>, ViewError> {
    if index == 0 {
        return account_keys(head, account);
    }
    if let Some(bytes) = head.view().get(Table::Keys, &rotation_key(account, 0))? {
        return post_quantum(&bytes).map(Some);
    }
    Ok(legacy_key(head, account)?.map(PublicKeys::Legacy))
}

/// The Ed25519 key that an account was registered with, if it is an `05` account.
fn legacy_key(head: &Head, account: &AccountId) -> Result<Option<LegacyKey>, ViewError> {
    let bytes = head.view().get(Table::Keys, &legacy_key_key(account))?;
    Ok(bytes
        .map(|bytes| LegacyKey::from_bytes(&bytes))
        .transpose()?)
}

/// The id that people know a registered account by: `05…` or `07…`.
///
/// # Errors
/// [`ViewError`].
pub fn identity_id(head: &Head, account: &AccountId) -> Result<IdentityId, ViewError> {
    Ok(match legacy_key(head, account)? {
        Some(_) => IdentityId::Legacy(*account),
        None => IdentityId::Pq(*account),
    })
}
