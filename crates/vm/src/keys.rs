//! Registered public keys, as readers and admission find them.

use session_chain::tx::legacy::LegacyKey;
use session_chain::tx::{KemKey, SigningKey};
use session_chain::view::{Table, View, ViewError, account_keys_key, legacy_key_key};
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
        let mut input = Reader::new(&bytes);
        let (kem, signing) = (KemKey::decode(&mut input)?, SigningKey::decode(&mut input)?);
        return Ok(Some(PublicKeys::PostQuantum(kem, signing)));
    }
    let legacy = legacy_key(head, account)?.ok_or(ViewError::Missing(Table::Keys))?;
    Ok(Some(PublicKeys::Legacy(legacy)))
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
