//! Registering, rotating and revoking an account's keys.

use session_core::account::{AccountKeys, Revocation};
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::Digest;
use session_core::record::Outcome;

use super::{KemKey, SigningKey, Tx};
use crate::state::{Scope, TxError};
use crate::view::{Table, View as _, account_keys_key, rotation_key};

/// Registers an account: its id is the hash of these keys, its signature is theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterIdentity {
    /// ML-KEM-768 public key.
    pub kem: KemKey,
    /// ML-DSA-65 public key.
    pub signing: SigningKey,
    /// `H(public-key, recovery key)`: that key overrides any rotation.
    pub recovery: Option<Digest>,
}

/// Replaces both keys; the account id stays. They count from the next block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotateKeys {
    /// New ML-KEM-768 public key.
    pub kem: KemKey,
    /// New ML-DSA-65 public key.
    pub signing: SigningKey,
    /// The recovery key, where it signs instead of the current key.
    pub recovery: Option<SigningKey>,
}

/// Ends an account: nothing it signs is accepted any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokeIdentity {
    /// The recovery key, where it signs instead of the current key.
    pub recovery: Option<SigningKey>,
}

impl RegisterIdentity {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        if scope.context.crypto.account_id(&self.kem, &self.signing) != Some(tx.signer) {
            return Err(TxError::NotTheKeysAccount);
        }
        scope.require_signature_by(tx, &self.signing)?;
        let height = scope.context.height;
        let keys = AccountKeys::first(self.kem.digest(), self.signing.digest(), height);
        scope.register(tx, keys, self.recovery)?;
        scope.put_keys(&tx.signer, &self.kem, &self.signing);
        Ok(Outcome::Done)
    }
}

impl RotateKeys {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_owner(tx, self.recovery.as_ref())?;
        let crypto = scope.context.crypto;
        if crypto.account_id(&self.kem, &self.signing).is_none() {
            return Err(TxError::InvalidKey);
        }
        let mut account = scope.account(&tx.signer)?.ok_or(TxError::UnknownAccount)?;
        let before = account.keys.ok_or(TxError::UnknownAccount)?;
        let (height, time) = (scope.context.height, scope.context.time);
        let keys = before
            .rotated(self.kem.digest(), self.signing.digest(), height, time)
            .ok_or(TxError::LimitReached { what: "rotations" })?;
        account.keys = Some(keys);
        let index = keys.index;
        scope.put_account(&tx.signer, &account)?;
        scope.keep_rotation(tx, index)?;
        scope.put_keys(&tx.signer, &self.kem, &self.signing);
        Ok(Outcome::Done)
    }
}

impl Scope<'_, '_> {
    /// Keeps the signed rotation, and before the first one the keys that the account id is the
    /// hash of: so the current keys can be followed from the id. `apply` reads neither.
    fn keep_rotation(&mut self, tx: &Tx, index: u32) -> Result<(), TxError> {
        if index == 1
            && let Some(first) = self.over.get(Table::Keys, &account_keys_key(&tx.signer))?
        {
            let key = rotation_key(&tx.signer, 0);
            self.over.put(Table::Keys, key, first);
        }
        let mut rotation = Writer::new();
        rotation
            .u64(self.context.height)
            .value(&self.context.time)
            .value(tx);
        let key = rotation_key(&tx.signer, index);
        self.over.put(Table::Keys, key, rotation.into_bytes());
        Ok(())
    }
}

impl RevokeIdentity {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_owner(tx, self.recovery.as_ref())?;
        let mut account = scope.account(&tx.signer)?.ok_or(TxError::UnknownAccount)?;
        account.revoked = Some(Revocation {
            height: scope.context.height,
            time: scope.context.time,
        });
        scope.put_account(&tx.signer, &account)?;
        Ok(Outcome::Done)
    }
}

impl Scope<'_, '_> {
    /// Gives an account its first keys.
    pub(crate) fn register(
        &mut self,
        tx: &Tx,
        keys: AccountKeys,
        recovery: Option<Digest>,
    ) -> Result<(), TxError> {
        let mut account = self.account_or_new(&tx.signer)?;
        if account.keys.is_some() {
            return Err(TxError::AlreadyRegistered);
        }
        self.take_registration()?;
        account.keys = Some(keys);
        account.recovery = recovery;
        account.registered = self.context.time;
        self.put_account(&tx.signer, &account)
    }

    fn put_keys(
        &mut self,
        account: &session_core::ids::AccountId,
        kem: &KemKey,
        signing: &SigningKey,
    ) {
        let mut keys = Writer::new();
        keys.value(kem).value(signing);
        self.over
            .put(Table::Keys, account_keys_key(account), keys.into_bytes());
    }
}

impl Encode for RegisterIdentity {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.kem)
            .value(&self.signing)
            .option(self.recovery.as_ref());
    }
}

impl Decode for RegisterIdentity {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            kem: KemKey::decode(input)?,
            signing: SigningKey::decode(input)?,
            recovery: input.option("recovery key hash")?,
        })
    }
}

impl Encode for RotateKeys {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.kem)
            .value(&self.signing)
            .option(self.recovery.as_ref());
    }
}

impl Decode for RotateKeys {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            kem: KemKey::decode(input)?,
            signing: SigningKey::decode(input)?,
            recovery: input.option("recovery key")?,
        })
    }
}

impl Encode for RevokeIdentity {
    fn encode(&self, out: &mut Writer) {
        out.option(self.recovery.as_ref());
    }
}

impl Decode for RevokeIdentity {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            recovery: input.option("recovery key")?,
        })
    }
}
