//! What admins of a group do towards the chain: mode, budget, and the set of admin keys, which follows
//! the group's roles.
//!
//! ```text
//! role given by a commit ─▶ the admin's device says its key, signed ─▶ an owner's client: SetAdmins
//!                                                    more than one signer needed ─▶ asked in the group, answered
//! ```
//!
//! Where that stands is on the chain and in the device, so it goes on by itself after an
//! interruption: with the next [`Groups::tick`], [`Groups::receive`] and [`Groups::flush`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use session_chain::tx::group::admin::{SetAdmins, SetMode};
use session_chain::tx::group::{Cosignature, TopUpGroup, as_signer};
use session_chain::tx::{Kind, Tx};
use session_core::group::{Group, Mode};
use session_core::ids::{AccountId, Digest, GroupId};
use session_core::limits::{ADMIN_INTERVAL_MS, GROUP_ADMINS_MAX};
use session_core::time::{MINUTE_MS, Time};
use session_crypto::{Signature, SigningPublicKey};
use session_e2ee::{AdminSignature, AdminsRequest, DeviceId, GroupStatus, Role, admin_key_digest};

use super::sending::{Answer, cosignature, tx_key};
use super::{Flushed, GroupError, Groups};
use crate::account::{Account, now};
use crate::error::ClientError;
use crate::outbox::random_u64;

/// How long other admins have to sign: the chain takes nothing that is good for over an hour.
const ANSWER_MS: u64 = 50 * MINUTE_MS;

/// How often the chain is asked again while it takes no action of an admin: it wants pauses of
/// [`ADMIN_INTERVAL_MS`] between them.
const AGAIN: Duration = Duration::from_millis(250);

/// How long.
const PATIENCE: Duration = Duration::from_millis(5 * ADMIN_INTERVAL_MS);

impl Groups {
    /// Sets who may advance a group: every member, or only members whose commit an admin has signed as
    /// well. Does nothing where it is so already.
    ///
    /// # Errors
    /// [`GroupError::NotAnAdmin`] where the chain knows no admin key of this device;
    /// [`GroupError::NotNow`]; [`ClientError`].
    pub async fn set_mode(&mut self, group: GroupId, mode: Mode) -> Result<(), ClientError> {
        self.receive(group).await?;
        let record = self.seen_of(group).await?;
        if record.mode == mode {
            return Ok(());
        }
        let admin = self.own_admin(group, &record)?;
        let admin = admin.ok_or(GroupError::NotAnAdmin(group))?;
        let kind = Kind::SetMode(SetMode { admin, mode });
        self.act_as_admin(group, kind).await?;
        if let Some(seen) = self.seen.get_mut(&group) {
            seen.mode = mode;
        }
        Ok(())
    }

    /// Makes these accounts the group's admins, beside its owners: gives and takes the role in the
    /// group, and has the chain's admin keys follow. What can be done at once is done when this
    /// returns; a new admin's device has to say its key first, and where the chain wants several
    /// admins to sign they are asked in the group. All of that goes on by itself with
    /// [`Groups::tick`] and [`Groups::flush`] on the devices concerned, also after a crash;
    /// [`Groups::admins_settled`] tells when it is done.
    ///
    /// # Errors
    /// [`ClientError::E2ee`] where this account is no owner; [`ClientError`].
    pub async fn set_admins(
        &mut self,
        group: GroupId,
        admins: &BTreeSet<AccountId>,
    ) -> Result<Flushed, ClientError> {
        self.receive(group).await?;
        let before = self.device.policy(group)?;
        let mut policy = before.clone();
        policy
            .roles
            .retain(|account, role| *role == Role::Owner || admins.contains(account));
        for account in admins {
            policy.roles.entry(*account).or_insert(Role::Admin);
        }
        self.device.tell_admin_key(group, now().ms())?;
        if policy == before {
            return self.flush(group).await;
        }
        self.change(group, super::Accounts::new(), |device, accounts| {
            device.set_policy(group, policy.clone(), accounts)
        })
        .await
    }

    /// Whether the chain's admin keys are those of the group's admins and owners, as far as they have
    /// said theirs and this device knows.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn admins_settled(&mut self, group: GroupId) -> Result<bool, ClientError> {
        self.receive(group).await?;
        let record = self.seen_of(group).await?;
        let wanted = self.wanted_admins(group, &record)?;
        Ok(record.admins.iter().eq(wanted.keys()))
    }

    /// Pays for what a group may still do: so many bytes of weight, and so many for what admins sign
    /// once those are used up. `sponsor` pays; none: this account does. Anybody may.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::Waiting`] where it waits in the payer's outbox.
    pub async fn top_up(
        &mut self,
        group: GroupId,
        budget: u64,
        reserve: u64,
        sponsor: Option<&mut Account>,
    ) -> Result<(), ClientError> {
        let payer = sponsor.unwrap_or(&mut self.account);
        let kind = Kind::TopUpGroup(TopUpGroup {
            group,
            budget,
            reserve,
        });
        payer.submit_one(kind).await.map(drop)
    }

    /// Has the chain do something that one admin signs, and waits for the pause that it wants.
    pub(super) async fn act_as_admin(
        &mut self,
        group: GroupId,
        kind: Kind,
    ) -> Result<(), ClientError> {
        let began = Instant::now();
        let mut tx = self.unsigned(group, kind)?;
        let action = tx.signed_digest(&self.account.chain);
        let signature = self.device.sign_as_admin(group, &action)?;
        tx.signature = signature.as_bytes().to_vec();
        loop {
            match self.submit(&tx).await? {
                Answer::Accepted | Answer::Known => return Ok(()),
                Answer::Waiting(_) if began.elapsed() < PATIENCE => {
                    tokio::time::sleep(AGAIN).await;
                }
                Answer::Waiting(why) => return Err(GroupError::NotNow(why).into()),
                Answer::Stale => return Err(ClientError::Reply("an epoch for what has none")),
                Answer::Refused(why) | Answer::GivenUp(why) => {
                    return Err(ClientError::Refused(why));
                }
            }
        }
    }

    /// Hash of this device's admin key, where the chain knows it.
    pub(super) fn own_admin(
        &self,
        group: GroupId,
        record: &Group,
    ) -> Result<Option<Digest>, ClientError> {
        let me = self.device.member()?.device;
        let keys = self.device.admin_keys(group)?;
        let own = keys.iter().find(|(device, _)| *device == me);
        let own = own.map(|(_, key)| admin_key_digest(key));
        Ok(own.filter(|own| record.admins.contains(own)))
    }

    /// The admin keys that the chain is to have, by their hashes: those of devices of admins and
    /// owners, and those of which nobody has said whose they are.
    fn wanted_admins(
        &self,
        group: GroupId,
        record: &Group,
    ) -> Result<BTreeMap<Digest, Option<SigningPublicKey>>, ClientError> {
        let roles: BTreeMap<DeviceId, Role> = self
            .device
            .members(group)?
            .into_iter()
            .map(|found| (found.member.device, found.role))
            .collect();
        let (mut admins, mut owners) = (BTreeMap::new(), BTreeMap::new());
        let mut known = BTreeSet::new();
        for (device, key) in self.device.admin_keys(group)? {
            let digest = admin_key_digest(&key);
            known.insert(digest);
            match roles.get(&device) {
                Some(Role::Owner) => owners.insert(digest, Some(key)),
                Some(Role::Admin) => admins.insert(digest, Some(key)),
                Some(Role::Member) | None => None,
            };
        }
        for digest in &record.admins {
            if !known.contains(digest) {
                owners.insert(*digest, None);
            }
        }
        // The chain takes 16; owners come first.
        for (digest, key) in admins {
            if owners.len() < GROUP_ADMINS_MAX {
                owners.insert(digest, key);
            }
        }
        while owners.len() > GROUP_ADMINS_MAX {
            owners.pop_last();
        }
        Ok(owners)
    }

    /// Has the chain's admin keys follow the group's roles, if that is this device's to do. What has to
    /// be asked of others is in the outbox then.
    pub(super) async fn settle_admins(
        &mut self,
        group: GroupId,
        record: &Group,
    ) -> Result<(), ClientError> {
        let me = self.device.member()?;
        let owns = self.device.policy(group)?.role(me.account) == Role::Owner;
        let own = self.own_admin(group, record)?;
        let (true, Some(own)) = (owns && self.device.admins_to_settle(group)?, own) else {
            return Ok(());
        };
        let wanted = self.wanted_admins(group, record)?;
        if record.admins.iter().eq(wanted.keys()) {
            return Ok(self.device.admins_settled(group)?);
        }
        let needed = record.admins.len() / 2 + 1;
        if needed == 1 {
            let admins = self.full_keys(group, wanted).await?;
            let kind = set_admins(vec![own], &admins);
            self.act_as_admin(group, kind).await?;
            return Ok(self.device.admins_settled(group)?);
        }
        self.settle_together(group, record, (own, needed), wanted)
            .await
    }

    /// Has several admins sign for another set of keys: with their answers it is submitted, without
    /// they are asked.
    async fn settle_together(
        &mut self,
        group: GroupId,
        record: &Group,
        (own, needed): (Digest, usize),
        wanted: BTreeMap<Digest, Option<SigningPublicKey>>,
    ) -> Result<(), ClientError> {
        let asked = self.device.asked_admins(group)?.filter(|asked| {
            let request = &asked.request;
            let signers = &request.signers;
            request.valid_until_ms > self.chain_now().ms()
                && names(request, &wanted)
                && signers.len() >= needed
                && signers.iter().all(|signer| record.admins.contains(signer))
        });
        if let Some(asked) = asked {
            let mut signatures: BTreeMap<Digest, Signature> = BTreeMap::new();
            for signed in asked.signatures {
                signatures.insert(signed.admin, signed.signature);
            }
            let mut tx = asked_tx(group, &asked.request);
            let action = tx.signed_digest(&self.account.chain);
            signatures.insert(own, self.device.sign_as_admin(group, &action)?);
            if sign_by_all(&mut tx, &asked.request.signers, &signatures)
                && matches!(self.submit(&tx).await?, Answer::Accepted | Answer::Known)
            {
                self.device.admins_settled(group)?;
            }
            return Ok(());
        }
        let signers = self.likely_signers(group, record, own, needed)?;
        if signers.len() < needed {
            // Others have not said yet whose keys theirs are.
            return Ok(());
        }
        let request = AdminsRequest {
            valid_until_ms: self.chain_now().after_ms(ANSWER_MS).ms(),
            salt: random_u64()?,
            signers,
            admins: self.full_keys(group, wanted).await?,
        };
        let tx = asked_tx(group, &request);
        let action = Digest::from_bytes(tx.signed_digest(&self.account.chain));
        self.device.ask_admins(group, request, action, now().ms())?;
        Ok(())
    }

    /// Signs what other admins have asked for, where it is what this device would ask for itself.
    pub(super) fn answer_admins(
        &mut self,
        group: GroupId,
        record: &Group,
    ) -> Result<(), ClientError> {
        let requests = self.device.admins_requests(group)?;
        if requests.is_empty() {
            return Ok(());
        }
        let own = self.own_admin(group, record)?;
        let wanted = self.wanted_admins(group, record)?;
        for (device, request) in requests {
            let late = request.valid_until_ms <= self.chain_now().ms();
            let own = own.filter(|own| !late && request.signers.contains(own));
            let Some(own) = own else {
                self.device.answer_admins(group, device, None, now().ms())?;
                continue;
            };
            if !names(&request, &wanted) {
                // It may be once the log has been read on; until then it waits.
                continue;
            }
            let action = asked_tx(group, &request).signed_digest(&self.account.chain);
            let signature = AdminSignature {
                action: Digest::from_bytes(action),
                admin: own,
                signature: self.device.sign_as_admin(group, &action)?,
            };
            self.device
                .answer_admins(group, device, Some(signature), now().ms())?;
        }
        Ok(())
    }

    /// A majority of the admins: this device, and those that were heard of last.
    fn likely_signers(
        &self,
        group: GroupId,
        record: &Group,
        own: Digest,
        needed: usize,
    ) -> Result<Vec<Digest>, ClientError> {
        let heard: BTreeMap<DeviceId, u64> = self
            .device
            .members(group)?
            .into_iter()
            .map(|found| (found.member.device, found.heard_of_ms))
            .collect();
        let mut others: Vec<(u64, Digest)> = Vec::new();
        for (device, key) in self.device.admin_keys(group)? {
            let digest = admin_key_digest(&key);
            if digest != own
                && record.admins.contains(&digest)
                && let Some(heard) = heard.get(&device)
            {
                others.push((*heard, digest));
            }
        }
        others.sort_unstable_by(|a, b| b.cmp(a));
        let others = others.into_iter().map(|(_, digest)| digest);
        let mut signers: Vec<Digest> = core::iter::once(own).chain(others).take(needed).collect();
        signers.sort_unstable();
        Ok(signers)
    }

    /// The keys themselves. Those that nobody has said are the chain's to show.
    async fn full_keys(
        &mut self,
        group: GroupId,
        wanted: BTreeMap<Digest, Option<SigningPublicKey>>,
    ) -> Result<Vec<SigningPublicKey>, ClientError> {
        let shown = if wanted.values().any(Option::is_none) {
            self.shown_admins(group).await?
        } else {
            Vec::new()
        };
        let mut keys = Vec::with_capacity(wanted.len());
        for (digest, key) in wanted {
            let found = shown.iter().find(|key| admin_key_digest(key) == digest);
            let key = key.or_else(|| found.cloned());
            keys.push(key.ok_or(ClientError::Reply(
                "the group's admin keys and the proof differ",
            ))?);
        }
        Ok(keys)
    }

    fn chain_now(&self) -> Time {
        self.account.head_time.max(now())
    }

    /// The group's record as the log's last proof had it.
    pub(super) async fn seen_of(&mut self, group: GroupId) -> Result<Group, ClientError> {
        if let Some(seen) = self.seen.get(&group) {
            return Ok(seen.clone());
        }
        let shown = self.shown(group).await?;
        let (record, _) = shown.ok_or(GroupError::Unknown(group))?;
        Ok(record)
    }

    /// Does what the group expects of its admins' clients. Answers whether the log has gone on by it.
    pub(super) async fn serve(
        &mut self,
        group: GroupId,
        record: &Group,
    ) -> Result<bool, ClientError> {
        if self.device.status(group)? != GroupStatus::Active {
            return Ok(false);
        }
        if self.device.admins_to_settle(group)? {
            // Whoever was made an admin now has to say by which key.
            self.device.tell_admin_key(group, now().ms())?;
        }
        self.answer_admins(group, record)?;
        let served = match self.settle_admins(group, record).await {
            Ok(()) => self.countersign(group, record).await,
            Err(error) => Err(error),
        };
        match served {
            // Not now: what was read is read all the same, and this is done another time.
            Err(
                ClientError::Waiting { .. }
                | ClientError::Refused(_)
                | ClientError::Group(GroupError::NotNow(_)),
            ) => Ok(false),
            served => served,
        }
    }
}

/// The transaction that a request speaks of, unsigned.
fn asked_tx(group: GroupId, request: &AdminsRequest) -> Tx {
    Tx {
        signer: as_signer(&group),
        valid_until: Time::from_ms(request.valid_until_ms),
        salt: request.salt,
        kind: set_admins(request.signers.clone(), &request.admins),
        signature: Vec::new(),
    }
}

/// Whether a request is for these keys.
fn names(request: &AdminsRequest, wanted: &BTreeMap<Digest, Option<SigningPublicKey>>) -> bool {
    let asked = request.admins.iter().map(admin_key_digest);
    asked.eq(wanted.keys().copied())
}

fn set_admins(signers: Vec<Digest>, admins: &[SigningPublicKey]) -> Kind {
    let cosignatures = signers.iter().skip(1).map(|_| Cosignature::blank());
    Kind::SetAdmins(SetAdmins {
        cosignatures: cosignatures.collect(),
        signers,
        admins: admins.iter().map(tx_key).collect(),
    })
}

/// Puts everybody's signature where it belongs: the first signer's is the transaction's own. Answers
/// whether they were all there.
fn sign_by_all(tx: &mut Tx, signers: &[Digest], signatures: &BTreeMap<Digest, Signature>) -> bool {
    let all: Option<Vec<&Signature>> = signers.iter().map(|by| signatures.get(by)).collect();
    let Some(all) = all else { return false };
    let Some((first, others)) = all.split_first() else {
        return false;
    };
    tx.signature = first.as_bytes().to_vec();
    if let Kind::SetAdmins(set) = &mut tx.kind {
        set.cosignatures = others
            .iter()
            .map(|signature| cosignature(signature))
            .collect();
    }
    true
}
