//! The keys that an account had, each signed for by the one before it (`spec/vm.md` §3).
//!
//! ```text
//! account id = hash of the first keys ── signs ─▶ second keys ── signs ─▶ … ─▶ current keys
//!                       recovery key (its hash is in the account's record) ─▶ any of them
//! ```
//!
//! The chain of signatures needs nobody's word. A link by the recovery key is as good as the
//! record that names it: the state root vouches for it, the previous keys do not. From which block
//! on keys counted is the record's word as well: it holds a fold over all rotations, with heights and
//! times.

use serde::Deserialize;
use serde_json::json;
use session_chain::tx::{Kind, Tx};
use session_core::account::{Account as AccountRecord, AccountKeys};
use session_core::codec::Decode;
use session_core::ids::{AccountId, ChainId, Digest};
use session_core::time::Time;
use session_crypto::{KemPublicKey, PublicIdentity, Signature, SigningPublicKey};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::account::Account;
use crate::error::{ClientError, KeyChange};
use crate::people::key_digests;
use crate::rpc::RpcError;

/// Rotations of one account that are followed.
const ROTATIONS_MAX: usize = 1_000;

/// Code of the node's `method not found` and `not found` errors: it keeps no such history.
const NO_HISTORY: [i32; 2] = [-32_601, -32_001];

/// Keys of an account, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeysSince {
    pub(crate) keys: PublicIdentity,
    /// Height of the block that set them; they counted from the next one.
    pub(crate) height: u64,
    /// The block's time; of the first keys it is not said.
    pub(crate) time: Time,
    /// Whether the recovery key set them.
    pub(crate) by_recovery: bool,
}

/// Every keys of an account, from the first to the current ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyHistory(Vec<KeysSince>);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FirstKeys {
    kem_public_key: String,
    signing_public_key: String,
}

#[derive(Deserialize)]
pub(crate) struct Rotation {
    height: u64,
    time: u64,
    tx: String,
}

#[derive(Deserialize)]
struct Reply {
    first: FirstKeys,
    rotations: Vec<Rotation>,
}

impl KeyHistory {
    /// Of an account that never rotated.
    pub(crate) fn of_first(keys: PublicIdentity) -> Self {
        Self(vec![KeysSince {
            keys,
            height: 0,
            time: Time::from_ms(0),
            by_recovery: false,
        }])
    }

    /// Checks every link from the account id to the keys in its proved record.
    ///
    /// # Errors
    /// What does not hold, in words.
    pub(crate) fn verify(
        chain: &ChainId,
        account: &AccountId,
        record: &AccountRecord,
        first: &FirstKeys,
        rotations: &[Rotation],
    ) -> Result<Self, &'static str> {
        let current = record.keys.as_ref().ok_or("the account has no keys")?;
        let bytes = |text: &str| const_hex::decode(text).unwrap_or_default();
        let kem = KemPublicKey::try_from(bytes(&first.kem_public_key).as_slice());
        let signing = SigningPublicKey::try_from(bytes(&first.signing_public_key).as_slice());
        let (Ok(kem), Ok(signing)) = (kem, signing) else {
            return Err("the first keys are none");
        };
        let first = PublicIdentity::new(kem, signing);
        if first.account_id() != *account {
            return Err("the first keys are not the account's");
        }
        if usize::try_from(current.index) != Ok(rotations.len()) {
            return Err("rotations are missing");
        }
        let (kem, signing) = key_digests(&first);
        let mut folded = AccountKeys::first(kem, signing, 0);
        let mut this = Self::of_first(first);
        for rotation in rotations {
            let next = this.link(chain, account, record, rotation)?;
            let (kem, signing) = key_digests(&next.keys);
            let rotated = folded.rotated(kem, signing, next.height, next.time);
            folded = rotated.ok_or("there are too many rotations")?;
            this.0.push(next);
        }
        // Also heights and times: by them everybody judges alike which keys counted where.
        if folded != *current {
            return Err("the rotations do not end in the current keys");
        }
        Ok(this)
    }

    fn link(
        &self,
        chain: &ChainId,
        account: &AccountId,
        record: &AccountRecord,
        rotation: &Rotation,
    ) -> Result<KeysSince, &'static str> {
        let last = self.last().ok_or("there are no keys")?;
        // Of several rotations in one block each is signed by the keys from before it.
        let before = self.get(self.at_height(rotation.height));
        let before = before.ok_or("there are no keys")?;
        let bytes = BASE64.decode(&rotation.tx).unwrap_or_default();
        let tx = Tx::from_bytes(&bytes).map_err(|_| "a rotation is not a transaction")?;
        let digest = tx.signed_digest(chain);
        let Kind::RotateKeys(keys) = &tx.kind else {
            return Err("a rotation is another transaction");
        };
        if tx.signer != *account || rotation.height < last.height {
            return Err("a rotation is another account's, or out of order");
        }
        let recovery = match &keys.recovery {
            None => None,
            Some(key) if Some(key.digest()) == record.recovery => Some(key),
            Some(_) => return Err("a rotation is by a recovery key that is not the account's"),
        };
        let signature = Signature::try_from(tx.signature.as_slice());
        let signature = signature.map_err(|_| "a rotation is not signed")?;
        let by_key = match recovery {
            Some(key) => SigningPublicKey::try_from(key.0.as_slice()),
            None => Ok(before.keys.signing().clone()),
        };
        by_key
            .and_then(|key| key.verify(&digest, &signature))
            .map_err(|_| "the signature of a rotation does not hold")?;
        let kem = KemPublicKey::try_from(keys.kem.0.as_slice());
        let signing = SigningPublicKey::try_from(keys.signing.0.as_slice());
        let (Ok(kem), Ok(signing)) = (kem, signing) else {
            return Err("a rotation sets keys that are none");
        };
        Ok(KeysSince {
            keys: PublicIdentity::new(kem, signing),
            height: rotation.height,
            time: Time::from_ms(rotation.time),
            by_recovery: recovery.is_some(),
        })
    }

    fn last(&self) -> Option<&KeysSince> {
        self.0.last()
    }

    /// Index of these keys.
    pub(crate) fn position(&self, keys: &PublicIdentity) -> Option<usize> {
        self.0.iter().rposition(|since| since.keys == *keys)
    }

    /// Index of the keys with these digests.
    pub(crate) fn position_of(&self, digests: (Digest, Digest)) -> Option<usize> {
        let mut all = self.0.iter();
        all.rposition(|since| key_digests(&since.keys) == digests)
    }

    /// Index of the keys that counted in a block.
    pub(crate) fn at_height(&self, height: u64) -> usize {
        let later = self.0.iter().skip(1);
        later.take_while(|since| since.height < height).count()
    }

    /// Index of the current keys.
    pub(crate) const fn current(&self) -> usize {
        self.0.len().saturating_sub(1)
    }

    pub(crate) fn get(&self, index: usize) -> Option<&KeysSince> {
        self.0.get(index)
    }

    /// How the keys at `to` came from those at `from`.
    pub(crate) fn change(&self, from: usize, to: usize) -> KeyChange {
        let mut links = self.0.iter().take(to.saturating_add(1)).skip(from + 1);
        if links.any(|since| since.by_recovery) {
            KeyChange::ByRecoveryKey
        } else {
            KeyChange::SignedByPrevious
        }
    }
}

impl Account {
    /// The history of an account's keys, verified against its proved record. `None`: the node
    /// keeps none, or what it shows does not hold.
    pub(crate) async fn key_history(
        &mut self,
        account: AccountId,
        record: &AccountRecord,
    ) -> Result<Option<KeyHistory>, ClientError> {
        let mut rotations: Vec<Rotation> = Vec::new();
        let index = record.keys.as_ref().map_or(0, |keys| keys.index);
        let mut first = None;
        while first.is_none() || rotations.len() < usize::try_from(index).unwrap_or(usize::MAX) {
            let from = rotations.len() + 1;
            let params = json!({ "account": account, "from": from });
            let reply: Result<Reply, RpcError> =
                self.rpc.call("sessionvm.GetRotations", params).await;
            let reply = match reply {
                Ok(reply) => reply,
                Err(RpcError::Refused { code, .. }) if NO_HISTORY.contains(&code) => {
                    return Ok(None);
                }
                Err(RpcError::Reply { .. }) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
            let empty = reply.rotations.is_empty();
            rotations.extend(reply.rotations);
            first = Some(reply.first);
            if empty || rotations.len() > ROTATIONS_MAX {
                break;
            }
        }
        let Some(first) = first else { return Ok(None) };
        let verified = KeyHistory::verify(&self.chain, &account, record, &first, &rotations);
        Ok(verified.ok())
    }
}

/// A short form of both current keys that two people can compare: the account id stays when keys
/// rotate, this does not.
pub fn fingerprint(keys: &PublicIdentity) -> String {
    let hex = const_hex::encode(keys.account_id());
    let groups: Vec<&str> = (0..8).filter_map(|n| hex.get(4 * n..4 * n + 4)).collect();
    groups.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::tx_keys;
    use session_chain::tx::identity::RotateKeys;
    use session_core::codec::Encode;
    use session_crypto::{Identity, Seed};

    #[test]
    fn keys_are_followed_also_where_they_change_twice_in_one_block() {
        let seed = || Seed::new([7; 32]);
        let ids: Vec<Identity> = (0..3)
            .map(|index| Identity::from_seed_at(seed(), index).unwrap())
            .collect();
        let account = ids[0].public().account_id();
        let chain = ChainId::from_bytes([7; 32]);
        let first = FirstKeys {
            kem_public_key: const_hex::encode(ids[0].public().kem().as_bytes()),
            signing_public_key: const_hex::encode(ids[0].public().signing().as_bytes()),
        };
        let rotation = |to: usize, by: usize, height| {
            let (kem, signing) = tx_keys(ids[to].public());
            let recovery = None;
            let mut tx = Tx {
                signer: account,
                valid_until: Time::from_ms(1),
                salt: to as u64,
                kind: Kind::RotateKeys(RotateKeys {
                    kem,
                    signing,
                    recovery,
                }),
                signature: Vec::new(),
            };
            let signature = ids[by].sign(&tx.signed_digest(&chain)).unwrap();
            tx.signature = signature.as_bytes().to_vec();
            Rotation {
                height,
                time: 1_000 * height,
                tx: BASE64.encode(tx.to_bytes()),
            }
        };
        let verify_at = |heights: &[u64], rotations: &[Rotation]| {
            let record = AccountRecord {
                keys: heights.iter().zip(&ids[1..]).try_fold(
                    AccountKeys::first(Digest::from_bytes([0; 32]), Digest::from_bytes([0; 32]), 1),
                    |keys, (height, id)| {
                        let (kem, signing) = key_digests(id.public());
                        keys.rotated(kem, signing, *height, Time::from_ms(1_000 * *height))
                    },
                ),
                ..AccountRecord::default()
            };
            KeyHistory::verify(&chain, &account, &record, &first, rotations)
        };
        let verify = |rotations: &[Rotation]| {
            let heights: Vec<u64> = rotations.iter().map(|rotation| rotation.height).collect();
            verify_at(&heights, rotations)
        };
        let history = verify(&[rotation(1, 0, 5), rotation(2, 0, 5)]).unwrap();
        assert_eq!(
            (
                history.current(),
                history.at_height(5),
                history.at_height(6)
            ),
            (2, 0, 2)
        );
        assert!(verify(&[rotation(1, 0, 5), rotation(2, 1, 6)]).is_ok());
        // The second key does not count before the next block, and the first no longer then.
        assert!(verify(&[rotation(1, 0, 5), rotation(2, 1, 5)]).is_err());
        assert!(verify(&[rotation(1, 0, 5), rotation(2, 0, 6)]).is_err());
        // Heights that the signatures fit are the chain's, or they are none.
        let told = [rotation(1, 0, 4), rotation(2, 1, 6)];
        assert!(verify(&told).is_ok());
        assert!(verify_at(&[4, 6], &told).is_ok());
        assert!(verify_at(&[5, 6], &told).is_err());
        // So are times.
        let mut later = told;
        later[0].time += 1;
        assert!(verify(&later).is_err());
    }
}
