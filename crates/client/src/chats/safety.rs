//! Who was compared with whom: the keys and devices that a person has confirmed by another way, and
//! whether they are still the ones.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use session_core::ids::{AccountId, Digest, GroupId};
use session_e2ee::DeviceId;

use super::Chats;
use crate::account::{Account, now};
use crate::error::{ClientError, KeyChange};
use crate::key_history::fingerprint;
use crate::people::key_digests;

/// What a person knew of an account when it was looked at last, or confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Known {
    /// Digests of its ML-KEM-768 and ML-DSA-65 keys.
    pub keys: (Digest, Digest),
    /// Its devices in conversations, 16 bytes each, in hex.
    pub devices: BTreeSet<String>,
    /// When a person confirmed them, in milliseconds; none: they were seen, and not compared.
    pub confirmed_ms: Option<u64>,
}

/// How an account stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The account.
    pub account: AccountId,
    /// Digits of its keys, the same on every device of everybody.
    pub fingerprint: String,
    /// Whether a person confirmed these keys and devices.
    pub is_confirmed: bool,
    /// Its keys are others than those seen before, and how they came.
    pub keys_changed: Option<KeyChange>,
    /// Devices that were not there when it was looked at last.
    pub new_devices: Vec<DeviceId>,
    /// Its owner ended it.
    pub is_revoked: bool,
}

impl Standing {
    /// Whether a person should be warned.
    pub const fn is_alarming(&self) -> bool {
        self.keys_changed.is_some() || !self.new_devices.is_empty() || self.is_revoked
    }
}

impl Chats {
    /// How the other accounts of a conversation stand. What is seen for the first time is remembered;
    /// a change stays one until [`Chats::confirm`] or [`Chats::acknowledge_change`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn safety(&mut self, group: GroupId) -> Result<Vec<Standing>, ClientError> {
        let mut out = Vec::new();
        for account in self.others(group)? {
            out.push(self.standing(group, account).await?);
        }
        Ok(out)
    }

    async fn standing(
        &mut self,
        group: GroupId,
        account: AccountId,
    ) -> Result<Standing, ClientError> {
        let devices = self.devices_of(group, account)?;
        let own = self.account_mut();
        let reading = own.reading_of(account, true).await?;
        let keys = &reading.shown.keys;
        let digests = key_digests(keys);
        let names: BTreeSet<String> = devices.iter().map(hex).collect();
        let mut standing = Standing {
            account,
            fingerprint: fingerprint(keys),
            is_confirmed: false,
            keys_changed: None,
            new_devices: Vec::new(),
            is_revoked: reading.shown.record.revoked.is_some(),
        };
        let Some(known) = own.state.people.get_mut(&account) else {
            let known = Known {
                keys: digests,
                devices: names,
                confirmed_ms: None,
            };
            own.state.people.insert(account, known);
            own.dir.save(&own.state)?;
            return Ok(standing);
        };
        standing.is_confirmed = known.confirmed_ms.is_some();
        let is_new = |device: &&DeviceId| !known.devices.contains(&hex(device));
        standing.new_devices = devices.iter().filter(is_new).copied().collect();
        if known.keys != digests {
            let known = known.keys;
            let history = reading.history;
            let how = history.and_then(|history| {
                let from = history.position_of(known)?;
                Some(history.change(from, history.current()))
            });
            standing.keys_changed = Some(how.unwrap_or(KeyChange::Unverifiable));
        }
        standing.is_confirmed &= !standing.is_alarming();
        Ok(standing)
    }

    /// A person has compared the digits with that account: these keys and devices are confirmed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn confirm(&mut self, group: GroupId, account: AccountId) -> Result<(), ClientError> {
        self.remember(group, account, Some(now().ms())).await
    }

    /// A person was shown a change and goes on: it is not told again, and nothing is confirmed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn acknowledge_change(
        &mut self,
        group: GroupId,
        account: AccountId,
    ) -> Result<(), ClientError> {
        self.remember(group, account, None).await
    }

    async fn remember(
        &mut self,
        group: GroupId,
        account: AccountId,
        confirmed_ms: Option<u64>,
    ) -> Result<(), ClientError> {
        let devices = self.devices_of(group, account)?;
        let own = self.account_mut();
        let keys = key_digests(&own.reading_of(account, true).await?.shown.keys);
        let devices = devices.iter().map(hex);
        let before = own.state.people.get(&account);
        // Devices of other conversations stay known.
        let mut all: BTreeSet<String> = before.map(|b| b.devices.clone()).unwrap_or_default();
        all.extend(devices);
        let known = Known {
            keys,
            devices: all,
            confirmed_ms,
        };
        own.state.people.insert(account, known);
        Ok(own.dir.save(&own.state)?)
    }

    fn devices_of(&self, group: GroupId, account: AccountId) -> Result<Vec<DeviceId>, ClientError> {
        let members = self.members(group)?.into_iter().map(|found| found.member);
        let of = members.filter(|member| member.account == account);
        Ok(of.map(|member| member.device).collect())
    }
}

impl Account {
    /// Whether a person has confirmed an account's keys, as of the last look.
    pub fn is_confirmed(&self, account: &AccountId) -> bool {
        let known = self.state.people.get(account);
        known.is_some_and(|known| known.confirmed_ms.is_some())
    }
}

fn hex(device: &DeviceId) -> String {
    const_hex::encode(device.as_bytes())
}
