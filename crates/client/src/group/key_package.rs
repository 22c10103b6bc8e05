//! Key packages on the chain: one's own, kept for whoever wants to invite, and those of others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use session_chain::tx::Kind;
use session_chain::tx::key_package::{NewKeyPackage, PublishKeyPackages, TakeKeyPackages};
use session_core::codec::Decode;
use session_core::ids::{AccountId, DeviceId};
use session_core::key_package::{KeyPackages, TakenKeyPackages, TakenPackage, key_package_id};
use session_core::limits::{KEY_PACKAGE_BYTES_MAX, ONE_TIME_PACKAGES_MAX};
use session_core::record::RecordKey;
use session_core::time::Time;
use session_e2ee::{Invitee, OwnKeyPackage};

use super::{GroupError, Groups, KeyPackageCode};
use crate::error::ClientError;
use crate::trust::{TrustError, decode_proof};

#[derive(Deserialize)]
struct TakenReply {
    packages: Vec<PackageReply>,
    proof: String,
}

#[derive(Deserialize)]
struct PackageReply {
    bytes: String,
}

#[derive(Deserialize)]
struct PublishedReply {
    proof: String,
}

/// Key packages that are remembered to be used. They can be had for a day after they were taken.
const USED_MAX: usize = 1_024;

/// The account's name for its device: the device's 16 bytes, and zeros.
fn name_on_chain(device: session_e2ee::DeviceId) -> DeviceId {
    let mut name = [0; 32];
    for (to, from) in name.iter_mut().zip(device.as_bytes()) {
        *to = *from;
    }
    DeviceId::from_bytes(name)
}

fn new_package(package: OwnKeyPackage) -> NewKeyPackage {
    NewKeyPackage {
        expires: Time::from_ms(package.expires_ms),
        bytes: package.bytes,
    }
}

impl Groups {
    /// Keeps key packages of this device on the chain, in the place of those before: 10 that are
    /// given once, and one of last resort. They are good until `expires`, at most 90 days ahead.
    /// Whoever takes one can be seen to do so.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish_key_packages(&mut self, expires: Time) -> Result<(), ClientError> {
        self.follow_own_keys()?;
        let one_time = self
            .device
            .key_packages(ONE_TIME_PACKAGES_MAX, expires.ms())?;
        let last_resort = self.device.last_resort_key_package(expires.ms())?;
        let device = name_on_chain(self.device.member()?.device);
        let publish = PublishKeyPackages {
            device,
            replace: true,
            one_time: one_time.into_iter().map(new_package).collect(),
            last_resort: Some(new_package(last_resort)),
        };
        let kind = Kind::PublishKeyPackages(publish);
        match self.account.submit_one(kind).await {
            Ok(_) => Ok(self.device.republished()?),
            // The outbox has it, and sends it until the chain answers.
            Err(waiting @ ClientError::Waiting { .. }) => {
                self.device.republished()?;
                Err(waiting)
            }
            Err(error) => Err(error),
        }
    }

    /// Takes a device's key packages from the chain: nobody brings it into a group by them any more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn withdraw_key_packages(
        &mut self,
        device: session_e2ee::DeviceId,
    ) -> Result<(), ClientError> {
        let (id, device) = (self.account.id(), name_on_chain(device));
        let published = self.published(id).await?;
        if !published.devices.iter().any(|other| other.id == device) {
            return Ok(());
        }
        let publish = PublishKeyPackages {
            device,
            replace: true,
            one_time: Vec::new(),
            last_resort: None,
        };
        let kind = Kind::PublishKeyPackages(publish);
        self.account.submit_one(kind).await.map(drop)
    }

    /// Key packages that an account has published, proved.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn published(&mut self, of: AccountId) -> Result<KeyPackages, ClientError> {
        let params = json!({ "account": of, "proof": true });
        let account = &mut self.account;
        let method = "sessionvm.GetKeyPackages";
        let reply: PublishedReply = account.rpc.call(method, params).await?;
        let proved = account.believe(&mut decode_proof(&reply.proof)?).await?;
        if proved.key != RecordKey::KeyPackages(of) {
            return Err(ClientError::Reply("the proof is about something else"));
        }
        let Some(record) = proved.record else {
            return Ok(KeyPackages::default());
        };
        let mut packages = KeyPackages::from_bytes(&record).map_err(TrustError::from)?;
        // The sweep may not have come to them yet.
        packages.expire(proved.header.time);
        Ok(packages)
    }

    /// Takes a key package of each device of an account, which are those that it published. Within
    /// a day they are the same ones until they are used; after that they are those of last resort.
    ///
    /// # Errors
    /// [`GroupError::NoKeyPackages`] where the account has none.
    pub async fn take_key_packages(
        &mut self,
        target: AccountId,
    ) -> Result<Vec<KeyPackageCode>, ClientError> {
        self.take_without(target, &[]).await
    }

    /// Takes key packages of this account's own devices, but those that are there already.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn take_own_packages(
        &mut self,
        there: &[session_e2ee::DeviceId],
    ) -> Result<Vec<KeyPackageCode>, ClientError> {
        self.take_packages_but(self.account.id(), there).await
    }

    /// Takes key packages of an account's devices, but those that are there already; nothing is asked of
    /// the chain where all of them are.
    ///
    /// # Errors
    /// As [`Groups::take_key_packages`].
    pub async fn take_packages_but(
        &mut self,
        of: AccountId,
        there: &[session_e2ee::DeviceId],
    ) -> Result<Vec<KeyPackageCode>, ClientError> {
        let there: Vec<DeviceId> = there.iter().copied().map(name_on_chain).collect();
        let published = self.published(of).await?;
        if published.devices.iter().all(|d| there.contains(&d.id)) {
            return Ok(Vec::new());
        }
        self.take_without(of, &there).await
    }

    async fn take_without(
        &mut self,
        target: AccountId,
        without: &[DeviceId],
    ) -> Result<Vec<KeyPackageCode>, ClientError> {
        let bare = |mut taken: Vec<(KeyPackageCode, TakenPackage)>| {
            taken.retain(|(_, package)| !without.contains(&package.device));
            taken
        };
        let before = bare(self.taken(target).await?);
        let used = &self.account.state.used_packages;
        let is_used = |(code, package): &(KeyPackageCode, TakenPackage)| {
            !package.last_resort && used.contains(&code.id())
        };
        let taken = if before.is_empty() || before.iter().any(is_used) {
            if self.published(target).await?.devices.is_empty() {
                return Err(GroupError::NoKeyPackages(target).into());
            }
            let kind = Kind::TakeKeyPackages(TakeKeyPackages { target });
            self.account.submit_one(kind).await?;
            bare(self.taken(target).await?)
        } else {
            before
        };
        Ok(taken.into_iter().map(|(code, _)| code).collect())
    }

    /// Remembers that key packages were used: most are for one use.
    pub(super) fn remember_used(&mut self, codes: &[KeyPackageCode]) -> Result<(), ClientError> {
        let used = &mut self.account.state.used_packages;
        for code in codes {
            used.push(code.id());
        }
        let old = used.len().saturating_sub(USED_MAX);
        used.drain(..old);
        Ok(self.account.dir.save(&self.account.state)?)
    }

    /// What this account took of another within the last day, proved.
    async fn taken(
        &mut self,
        target: AccountId,
    ) -> Result<Vec<(KeyPackageCode, TakenPackage)>, ClientError> {
        let taker = self.account.id();
        let params = json!({ "account": target, "taker": taker, "proof": true });
        let account = &mut self.account;
        let method = "sessionvm.GetTakenKeyPackages";
        let reply: TakenReply = account.rpc.call(method, params).await?;
        let proved = account.believe(&mut decode_proof(&reply.proof)?).await?;
        if proved.key != RecordKey::TakenKeyPackages(taker, target) {
            return Err(ClientError::Reply("the proof is about something else"));
        }
        let Some(record) = proved.record else {
            return Ok(Vec::new());
        };
        let taken = TakenKeyPackages::from_bytes(&record).map_err(TrustError::from)?;
        // The sweep may not have come to it yet.
        if taken.expires <= proved.header.time {
            return Ok(Vec::new());
        }
        if taken.packages.len() != reply.packages.len() {
            return Err(ClientError::Reply("key packages and proof differ"));
        }
        let mut codes = Vec::with_capacity(taken.packages.len());
        for (named, shown) in taken.packages.iter().zip(&reply.packages) {
            let key_package = BASE64.decode(&shown.bytes).unwrap_or_default();
            if key_package.len() > KEY_PACKAGE_BYTES_MAX
                || key_package_id(&key_package) != named.package
            {
                return Err(ClientError::Reply("key packages and proof differ"));
            }
            let code = KeyPackageCode(Invitee {
                key_package,
                expires_ms: taken.expires.ms(),
            });
            codes.push((code, *named));
        }
        Ok(codes)
    }
}
