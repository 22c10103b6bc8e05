//! `05` accounts of the Session network, where the genesis allows them (`spec/wire.md` §1).
//!
//! Such an account signs with Ed25519 and its id is the X25519 image of that key, to which others
//! encrypt. It may rotate to post-quantum keys and keeps its id; there is no way back.

use session_core::account::AccountKeys;
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::{AccountId, Digest};
use session_core::record::Outcome;

use super::Tx;
use crate::state::{Scope, TxError};
use crate::view::{Table, legacy_key_key};

/// Bytes of an Ed25519 public key (RFC 8032 §5.1.5).
pub const LEGACY_KEY_LEN: usize = 32;

/// Bytes of an Ed25519 signature (RFC 8032 §5.1.6).
pub const LEGACY_SIGNATURE_LEN: usize = 64;

/// An encoded Ed25519 public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LegacyKey(pub [u8; LEGACY_KEY_LEN]);

impl LegacyKey {
    /// `H(public-key, key)`, as records keep it.
    pub fn digest(&self) -> Digest {
        Digest::from_bytes(Tag::PublicKey.hash(&[&self.0]))
    }
}

/// Digest of the X25519 key that others encrypt to: the account id itself.
pub fn encryption_digest(account: &AccountId) -> Digest {
    Digest::from_bytes(Tag::PublicKey.hash(&[account.as_bytes()]))
}

impl Encode for LegacyKey {
    fn encode(&self, out: &mut Writer) {
        out.raw(&self.0);
    }
}

impl Decode for LegacyKey {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(input.array("Ed25519 public key")?))
    }
}

/// Registers an `05` account: its id is the X25519 image of this key, its signature is the key's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegisterLegacy {
    /// Ed25519 public key.
    pub signing: LegacyKey,
    /// `H(public-key, recovery key)` of an ML-DSA-65 key: that key overrides any rotation.
    pub recovery: Option<Digest>,
}

impl RegisterLegacy {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        if !scope.context.parameters.allow_legacy {
            return Err(TxError::LegacyRefused);
        }
        if scope.context.crypto.legacy_account_id(&self.signing) != Some(tx.signer) {
            return Err(TxError::NotTheKeysAccount);
        }
        scope.require_legacy_signature(tx, &self.signing)?;
        let kem = encryption_digest(&tx.signer);
        let keys = AccountKeys::first(kem, self.signing.digest(), scope.context.height);
        scope.register(tx, keys, self.recovery)?;
        let key = legacy_key_key(&tx.signer);
        scope.over.put(Table::Keys, key, self.signing.to_bytes());
        Ok(Outcome::Done)
    }
}

impl Encode for RegisterLegacy {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.signing).option(self.recovery.as_ref());
    }
}

impl Decode for RegisterLegacy {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            signing: LegacyKey::decode(input)?,
            recovery: input.option("recovery key hash")?,
        })
    }
}
