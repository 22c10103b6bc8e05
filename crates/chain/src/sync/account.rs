//! An account's keys: the current ones, and how they came from those that its id is the hash of.

use session_core::account::{Account, AccountKeys};
use session_core::codec::{Decode, Reader};
use session_core::ids::{AccountId, Digest};

use super::{Rules, SyncError};
use crate::tx::legacy::{LegacyKey, encryption_digest};
use crate::tx::{KemKey, Kind, SigningKey, Tx};

/// What has come of an account's keys.
#[derive(Default)]
pub(super) struct AccountCells {
    current: bool,
    legacy: Option<LegacyKey>,
    /// Rotations so far, and the keys after them.
    rotations: u32,
    at: Option<(Digest, SigningKey)>,
    since: u64,
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
                    self.at = Some((kem.digest(), signing));
                    fits && keys.index > 0
                }
                Ok(index) if index <= keys.index && index == self.rotations + 1 => {
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
            let at = self.at.as_ref();
            return self.current
                && self.rotations == keys.index
                && self.since == keys.since_height
                && at.is_some_and(|(kem, key)| (*kem, key.digest()) == (keys.kem, keys.signing));
        }
        if keys.kem == encryption_digest(id) {
            let legacy = self.legacy.as_ref();
            return legacy.is_some_and(|key| key.digest() == keys.signing);
        }
        self.current
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
        let tx = Tx::decode(&mut input).ok()?;
        input.finish().ok()?;
        let Kind::RotateKeys(rotate) = &tx.kind else {
            return None;
        };
        if tx.signer != id || height < self.since || height > rules.header.height {
            return None;
        }
        if height > self.since {
            self.counted = self.at.as_ref().map(|(_, key)| key.clone());
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
        self.at = Some((rotate.kem.digest(), rotate.signing.clone()));
        self.rotations += 1;
        self.since = height;
        Some(())
    }
}
