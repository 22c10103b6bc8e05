//! Key packages on the chain: one's own, kept for whoever wants to invite, and those of others.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::json;
use session_chain::tx::Kind;
use session_chain::tx::key_package::{NewKeyPackage, PublishKeyPackages, TakeKeyPackages};
use session_core::codec::Decode;
use session_core::ids::{AccountId, DeviceId};
use session_core::key_package::{TakenKeyPackages, key_package_id};
use session_core::limits::{KEY_PACKAGE_BYTES_MAX, ONE_TIME_PACKAGES_MAX};
use session_core::record::RecordKey;
use session_core::time::Time;
use session_e2ee::{Invitee, OwnKeyPackage};

use super::{Groups, KeyPackageCode};
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
        // The account's name for its device: the device's 16 bytes, and zeros.
        let mut name = [0; 32];
        let id = self.device.member()?.device;
        for (to, from) in name.iter_mut().zip(id.as_bytes()) {
            *to = *from;
        }
        let publish = PublishKeyPackages {
            device: DeviceId::from_bytes(name),
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

    /// Takes a key package of each device of an account, which are those that it published. Within
    /// a day they are the same ones, and each is for one use unless it is of last resort.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the account has none.
    pub async fn take_key_packages(
        &mut self,
        target: AccountId,
    ) -> Result<Vec<KeyPackageCode>, ClientError> {
        let before = self.taken(target).await?;
        if !before.is_empty() {
            return Ok(before);
        }
        let kind = Kind::TakeKeyPackages(TakeKeyPackages { target });
        self.account.submit_one(kind).await?;
        self.taken(target).await
    }

    /// What this account took of another within the last day, proved.
    async fn taken(&mut self, target: AccountId) -> Result<Vec<KeyPackageCode>, ClientError> {
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
            codes.push(KeyPackageCode(Invitee {
                key_package,
                expires_ms: taken.expires.ms(),
            }));
        }
        Ok(codes)
    }
}
