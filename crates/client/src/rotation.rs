//! The account's own keys: whether they still count, rotating and revoking them, and taking the
//! account back with the recovery key (`spec/vm.md` §3).

use std::path::Path;

use serde::Deserialize;
use serde_json::json;
use session_chain::tx::identity::{RevokeIdentity, RotateKeys};
use session_chain::tx::{Kind, SigningKey as TxSigningKey, Tx};
use session_core::account::{Account as AccountRecord, AccountKeys};
use session_core::codec::Decode;
use session_core::record::RecordKey;
use session_crypto::{Identity, Seed, SigningKey, recovery_key, rotation_signing_key};

use crate::account::{Account, tx_keys};
use crate::error::ClientError;
use crate::identity_file::IdentityFile;
use crate::people::{has_digests, key_digest};
use crate::rpc::RpcClient;
use crate::trust::{TrustError, decode_proof};

/// Rotations that are looked through for the current keys, before and after the index that the
/// chain names: others than this seed's may have been in between.
const SEARCH: u32 = 4_096;

#[derive(Deserialize)]
struct ProofReply {
    proof: String,
}

impl Account {
    /// The account's own record, proved; none if it is proved that there is none.
    pub(crate) async fn own_record(&mut self) -> Result<Option<AccountRecord>, ClientError> {
        let key = RecordKey::Account(self.id());
        let params = json!({ "account": self.id(), "proof": true });
        let reply: ProofReply = self.rpc.call("sessionvm.GetIdentity", params).await?;
        let proved = self.believe(&mut decode_proof(&reply.proof)?).await?;
        if proved.key != key {
            return Err(ClientError::Reply("the proof is about another account"));
        }
        let record = proved.record.map(|r| AccountRecord::from_bytes(&r));
        Ok(record.transpose().map_err(TrustError::from)?)
    }

    /// Registers the identity where the chain does not know it, and finds the current keys where
    /// its seed has them.
    pub(crate) async fn settle_own_keys(&mut self) -> Result<(), ClientError> {
        let record = self.own_record().await?;
        let revoked = record
            .as_ref()
            .is_some_and(|record| record.revoked.is_some());
        match record.and_then(|record| record.keys) {
            None => self.register().await?,
            Some(_) if revoked => return Err(ClientError::Revoked),
            Some(keys) if has_digests(self.identity.public(), &keys) => {}
            Some(keys) => {
                let index = keys.index;
                let seed = self.identity.seed();
                let found = seed.and_then(|seed| find_rotation(seed, &keys).transpose());
                let found = found.ok_or(ClientError::RotatedElsewhere { index })??;
                self.become_rotation(found)?;
            }
        }
        self.state.registered = true;
        Ok(self.dir.save(&self.state)?)
    }

    /// What is wrong with this identity's keys, where the chain no longer takes them.
    pub(crate) async fn own_keys_problem(&mut self) -> Result<Option<ClientError>, ClientError> {
        let record = self.own_record().await?;
        if record
            .as_ref()
            .is_some_and(|record| record.revoked.is_some())
        {
            return Ok(Some(ClientError::Revoked));
        }
        let keys = record.and_then(|record| record.keys);
        let other = keys.filter(|keys| !has_digests(self.identity.public(), keys));
        Ok(other.map(|keys| ClientError::RotatedElsewhere { index: keys.index }))
    }

    /// Replaces both keys by new ones; the account id stays. Answers the new rotation index.
    ///
    /// The new keys are on disk before the transaction leaves, and the old ones until it is
    /// accepted: on [`ClientError::Waiting`], or after a crash, the next
    /// [`Account::open_file`] goes on.
    ///
    /// # Errors
    /// [`ClientError::NotFromFile`], [`ClientError::Waiting`] also where other transactions wait,
    /// and whatever the chain says.
    pub async fn rotate(&mut self) -> Result<u32, ClientError> {
        let Some(file) = self.file.clone() else {
            return Err(ClientError::NotFromFile);
        };
        self.flush_outbox().await?;
        if !self.dir.waiting()?.is_empty() {
            return Err(self.waiting()?);
        }
        let keys = self.own_record().await?.and_then(|record| record.keys);
        let keys = keys.ok_or(ClientError::NotRegistered(self.id()))?;
        let index = keys.index.max(self.identity.rotation()).saturating_add(1);
        let next = self.identity.next(index)?;
        let (kem, signing) = tx_keys(next.public());
        file.keep_next(&next)?;
        self.next = Some(next);
        let recovery = None;
        let kind = Kind::RotateKeys(RotateKeys {
            kem,
            signing,
            recovery,
        });
        let tx = self.sign(kind)?;
        self.submit_rotation(tx).await?;
        Ok(keys.index.saturating_add(1))
    }

    /// Ends the account for good: nothing that it signs is accepted any more, and nobody seals to
    /// it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke(&mut self) -> Result<(), ClientError> {
        let recovery = None;
        self.submit_one(Kind::RevokeIdentity(RevokeIdentity { recovery }))
            .await
            .map(drop)
    }

    /// Ends the account with its recovery key: also where a thief holds the current keys.
    ///
    /// # Errors
    /// [`ClientError::NoRecoveryKey`], and whatever the chain says.
    pub async fn revoke_with_seed(
        rpc: RpcClient,
        seed: &Seed,
        dir: &Path,
    ) -> Result<(), ClientError> {
        let identity = Identity::from_seed(seed.clone())?;
        let mut this = Self::connect(rpc, identity, dir).await?;
        let (key, _) = this.checked_recovery_key(seed).await?;
        let recovery = Some(TxSigningKey(Box::new(*key.public_key().as_bytes())));
        let tx = this.sign_with(Kind::RevokeIdentity(RevokeIdentity { recovery }), &key)?;
        this.submit(vec![tx]).await.map(drop)
    }

    /// Sets new keys with the recovery key, whoever set the current ones, and opens the account
    /// with them. The file gets the new keys.
    ///
    /// # Errors
    /// [`ClientError::NoRecoveryKey`], [`ClientError::Revoked`], [`ClientError::Waiting`] (the
    /// next [`Account::open_file`] goes on), and whatever the chain says.
    pub async fn take_back(
        rpc: RpcClient,
        seed: Seed,
        file: IdentityFile,
        dir: &Path,
    ) -> Result<Self, ClientError> {
        let first = Identity::from_seed(seed.clone())?;
        let account = first.account_id();
        match file.load() {
            Ok(identity) if identity.account_id() != account => {
                return Err(ClientError::OtherKeys(identity.account_id()));
            }
            Ok(_) => {}
            Err(ClientError::NoIdentity(_)) => file.save(&first)?,
            Err(error) => return Err(error),
        }
        let mut this = Self::connect(rpc.clone(), first, dir).await?;
        let (key, keys) = this.checked_recovery_key(&seed).await?;
        // Above every index that this seed may have used.
        let ours = find_rotation(&seed, &keys)?.map_or(0, |found| found.rotation());
        let next = Identity::from_seed_at(seed, keys.index.max(ours).saturating_add(1))?;
        let (kem, signing) = tx_keys(next.public());
        file.keep_next(&next)?;
        (this.file, this.next) = (Some(file.clone()), Some(next));
        let recovery = Some(TxSigningKey(Box::new(*key.public_key().as_bytes())));
        let kind = Kind::RotateKeys(RotateKeys {
            kem,
            signing,
            recovery,
        });
        let tx = this.sign_with(kind, &key)?;
        this.submit_rotation(tx).await?;
        drop(this);
        Self::open_file(rpc, file, dir).await
    }

    /// Finds the keys that the chain has for an account among those of its seed, and puts them
    /// into the file. Of an account that is not registered they are the first ones.
    ///
    /// # Errors
    /// [`ClientError::RotatedElsewhere`] where others than this seed's count,
    /// [`ClientError::Revoked`].
    pub async fn recover(
        rpc: RpcClient,
        seed: Seed,
        file: &IdentityFile,
        dir: &Path,
    ) -> Result<u32, ClientError> {
        let first = Identity::from_seed(seed.clone())?;
        let mut this = Self::connect(rpc, first, dir).await?;
        let record = this.own_record().await?;
        this.dir.save(&this.state)?;
        let Some(keys) = record.as_ref().and_then(|record| record.keys) else {
            return Ok(0);
        };
        if record.is_some_and(|record| record.revoked.is_some()) {
            return Err(ClientError::Revoked);
        }
        let index = keys.index;
        let found = find_rotation(&seed, &keys)?.ok_or(ClientError::RotatedElsewhere { index })?;
        if found.rotation() > 0 {
            file.save(&found)?;
        }
        Ok(found.rotation())
    }

    /// The recovery key of a seed, if it is the one that the account was registered with.
    async fn checked_recovery_key(
        &mut self,
        seed: &Seed,
    ) -> Result<(SigningKey, AccountKeys), ClientError> {
        let id = self.id();
        let record = self.own_record().await?;
        let record = record.ok_or(ClientError::NotRegistered(id))?;
        let keys = record.keys.ok_or(ClientError::NotRegistered(id))?;
        if record.revoked.is_some() {
            return Err(ClientError::Revoked);
        }
        let key = recovery_key(seed)?;
        if record.recovery != Some(key_digest(key.public_key())) {
            return Err(ClientError::NoRecoveryKey);
        }
        Ok((key, keys))
    }

    async fn submit_rotation(&mut self, tx: Tx) -> Result<(), ClientError> {
        match self.submit(vec![tx]).await {
            Err(
                error @ (ClientError::Refused(_)
                | ClientError::RotatedElsewhere { .. }
                | ClientError::Revoked),
            ) => {
                self.abandon_rotation()?;
                Err(error)
            }
            result => result.map(drop),
        }
    }

    fn abandon_rotation(&mut self) -> Result<(), ClientError> {
        self.next = None;
        self.file.as_ref().map_or(Ok(()), IdentityFile::drop_next)
    }

    /// The chain has accepted a rotation: if it was ours, the next keys are the current ones.
    pub(crate) fn rotation_accepted(&mut self, rotation: &RotateKeys) -> Result<(), ClientError> {
        let ours = |next: &Identity| {
            let (kem, signing) = tx_keys(next.public());
            (kem, signing) == (rotation.kem.clone(), rotation.signing.clone())
        };
        if self.next.as_ref().is_some_and(ours)
            && let Some(next) = self.next.take()
        {
            self.promote(next)?;
        }
        Ok(())
    }

    /// Takes the rotation of this identity that the chain has keys of: a later one where another
    /// device has rotated, an earlier one on a chain that has seen less.
    pub(crate) fn become_rotation(&mut self, found: Identity) -> Result<(), ClientError> {
        let back = found.rotation() < self.identity.rotation();
        // Later keys open what is sealed to earlier ones, never the other way: whatever lies on
        // disk after a crash in between can be opened.
        if back {
            self.history.follow_keys(&found)?;
            crate::group::follow_keys(&self.dir, &self.identity, &found)?;
        }
        if let Some(file) = &self.file {
            file.save(&found)?;
        }
        self.identity = found;
        if back {
            return Ok(());
        }
        self.history.follow_keys(&self.identity)?;
        crate::group::follow_keys(&self.dir, &self.identity, &self.identity)
    }

    fn promote(&mut self, next: Identity) -> Result<(), ClientError> {
        if let Some(file) = &self.file {
            file.promote_next()?;
        }
        self.identity = next;
        self.history.follow_keys(&self.identity)?;
        crate::group::follow_keys(&self.dir, &self.identity, &self.identity)
    }

    /// Finishes or undoes a rotation that was interrupted.
    pub(crate) async fn resume_rotation(&mut self) -> Result<(), ClientError> {
        if self.next.is_none() {
            return Ok(());
        }
        let mut waits = false;
        for (number, bytes) in self.dir.waiting()? {
            let tx = Tx::from_bytes(&bytes).map(|tx| tx.kind);
            if matches!(tx, Ok(Kind::RotateKeys(_))) {
                match self.send_kept(vec![(number, bytes)]).await {
                    Ok(_) | Err(ClientError::Refused(_) | ClientError::UnknownFate { .. }) => {}
                    Err(ClientError::Waiting { .. }) => waits = true,
                    Err(error) => return Err(error),
                }
            }
        }
        let keys = self.own_record().await?.and_then(|record| record.keys);
        let accepted = match (&self.next, &keys) {
            (Some(next), Some(keys)) => has_digests(next.public(), keys),
            _ => false,
        };
        if accepted && let Some(next) = self.next.take() {
            self.promote(next)?;
        } else if self.next.is_some() && !waits {
            // It was never sent, or it was refused: the keys that count are still the old ones.
            self.abandon_rotation()?;
        }
        Ok(())
    }
}

/// The rotation of a seed whose keys these are, nearest to the chain's index first.
fn find_rotation(seed: &Seed, keys: &AccountKeys) -> Result<Option<Identity>, ClientError> {
    let before = (0..=keys.index).rev().take(SEARCH as usize + 1);
    let after = (1..=SEARCH).map_while(|more| keys.index.checked_add(more));
    // Beyond the chain's index lie keys only where others than this seed's came between.
    for rotation in before.chain(after.take(16)) {
        if key_digest(&rotation_signing_key(seed, rotation)?) == keys.signing {
            let found = Identity::from_seed_at(seed.clone(), rotation)?;
            return Ok(has_digests(found.public(), keys).then_some(found));
        }
    }
    Ok(None)
}
