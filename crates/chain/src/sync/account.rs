//! An account's keys: the current ones, and how they came from those that its id is the hash of.

use session_core::account::{Account, AccountKeys};
use session_core::codec::{Decode, Reader};
use session_core::ids::{AccountId, Digest};
use session_core::time::Time;

use super::{Rules, SyncError};
use crate::tx::legacy::{LegacyKey, encryption_digest};
use crate::tx::{KemKey, Kind, SigningKey, Tx};

/// What has come of an account's keys.
#[derive(Default)]
pub(super) struct AccountCells {
    current: bool,
    legacy: Option<LegacyKey>,
    /// What the rotations so far make of the record's keys.
    rotated: Option<AccountKeys>,
    /// The signing key after them.
    at: Option<SigningKey>,
    /// The key that counted before the block of the last rotation: new ones count from the next.
    counted: Option<SigningKey>,
}

/// Both keys of an account.
pub(super) fn read_keys(bytes: &[u8]) -> Result<(KemKey, SigningKey), SyncError> {
    let mut input = Reader::new(bytes);
    let keys = (KemKey::decode(&mut input)?, SigningKey::decode(&mut input)?);
    input.finish()?;
    Ok(keys)
}

impl AccountCells {
    /// Takes a cell in; none where it is not the account's.
    ///
    /// # Errors
    /// [`SyncError::Malformed`].
    pub(super) fn take(
        &mut self,
        (span, suffix): (u8, &[u8]),
        value: &[u8],
        id: AccountId,
        account: &Account,
        rules: &Rules<'_>,
    ) -> Result<Option<()>, SyncError> {
        let Some(keys) = account.keys else {
            return Ok(None);
        };
        let fits = match span {
            0 => {
                let (kem, signing) = read_keys(value)?;
                self.current = (kem.digest(), signing.digest()) == (keys.kem, keys.signing);
                self.current
            }
            1 => {
                let key = LegacyKey::from_bytes(value)?;
                let fits = rules.crypto.legacy_account_id(&key) == Some(id);
                self.legacy = Some(key);
                fits
            }
            _ => match suffix.try_into().map(u32::from_be_bytes) {
                Ok(0) => {
                    let (kem, signing) = read_keys(value)?;
                    let fits = rules.crypto.account_id(&kem, &signing) == Some(id);
                    self.at = Some(signing);
                    fits && keys.index > 0
                }
                Ok(index) if index <= keys.index && Some(index) == self.next_index() => {
                    let followed = self.take_rotation(value, id, account.recovery, rules);
                    followed.is_some()
                }
                Ok(_) | Err(_) => false,
            },
        };
        Ok(fits.then_some(()))
    }

    /// Whether everything came that leads to these keys.
    pub(super) fn are_whole(&self, keys: &AccountKeys, id: &AccountId) -> bool {
        if keys.index > 0 {
            return self.current && self.rotated == Some(*keys);
        }
        if keys.kem == encryption_digest(id) {
            let legacy = self.legacy.as_ref();
            return legacy.is_some_and(|key| key.digest() == keys.signing);
        }
        self.current
    }

    /// Index of the rotation that comes next.
    fn next_index(&self) -> Option<u32> {
        self.rotated.map_or(0, |keys| keys.index).checked_add(1)
    }

    /// Follows one rotation: it is signed by the key before, or by the recovery key.
    fn take_rotation(
        &mut self,
        value: &[u8],
        id: AccountId,
        recovery: Option<Digest>,
        rules: &Rules<'_>,
    ) -> Option<()> {
        let mut input = Reader::new(value);
        let height = input.u64("height").ok()?;
        let time = Time::decode(&mut input).ok()?;
        let tx = Tx::decode(&mut input).ok()?;
        input.finish().ok()?;
        let Kind::RotateKeys(rotate) = &tx.kind else {
            return None;
        };
        let since = self.rotated.map_or(0, |keys| keys.since_height);
        if tx.signer != id || height < since || height > rules.header.height {
            return None;
        }
        if height > since {
            self.counted.clone_from(&self.at);
        }
        let digest = tx.signed_digest(&rules.header.chain);
        let crypto = rules.crypto;
        let signed = match (&rotate.recovery, &self.counted, &self.legacy) {
            (Some(key), ..) => {
                recovery == Some(key.digest()) && crypto.verify(key, &digest, &tx.signature)
            }
            (None, Some(key), _) => crypto.verify(key, &digest, &tx.signature),
            (None, None, Some(key)) => crypto.verify_legacy(key, &digest, &tx.signature),
            (None, None, None) => false,
        };
        // Where it began is known: from the id's own keys, or from those of an 05 account.
        if !signed || (self.at.is_none() && self.legacy.is_none()) {
            return None;
        }
        // The history of the first rotation does not depend on the keys before it.
        let before = self.rotated.unwrap_or_else(|| {
            let zero = Digest::from_bytes([0; 32]);
            AccountKeys::first(zero, zero, 0)
        });
        let (kem, signing) = (rotate.kem.digest(), rotate.signing.digest());
        self.rotated = Some(before.rotated(kem, signing, height, time)?);
        self.at = Some(rotate.signing.clone());
        Some(())
    }
}
