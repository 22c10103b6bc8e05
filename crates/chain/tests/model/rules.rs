//! The rules of `spec/vm.md` §2 to §4, as slowly and plainly as they can be written.

use super::people::{Fake, account_of, kem_key, legacy_signing_key, sign};
use super::state::{Leak, MAccount, Model};
use session_chain::state::Crypto;
use session_chain::state::TxError;
use session_chain::tx::chunk::PutChunk;
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::legacy::RegisterLegacy;
use session_chain::tx::message::{Auth, BatchAuth, Body};
use session_chain::tx::{KemKey, Kind, SigningKey, Tx, TxIds};
use session_core::channel::Role;
use session_core::codec::Encode;
use session_core::hash::Tag;
use session_core::ids::{AccountId, ChunkId, Digest};
use session_core::limits::{BLOCK_WEIGHT_MAX, RECORD_WEIGHT};
use session_core::log::{Conversation, MembershipEntry, MembershipEvent};
use session_core::parameters::Rate;
use session_core::record::{Action, Outcome, RecordKey};
use session_core::session::Status;
use session_core::time::{DAY_MS, HOUR_MS, Time};

pub(crate) type Result<T> = core::result::Result<T, TxError>;
impl Model {
    /// Begins a block: keys of the parent count, and what is due goes.
    pub(crate) fn begin(&mut self, time: u64) {
        self.time = time;
        self.height += 1;
        let keys = |(id, a): (&AccountId, &MAccount)| Some((*id, a.keys.as_ref()?.1.clone()));
        self.parent_keys = self.accounts.iter().filter_map(keys).collect();
        let kept = self.parameters.retention_ms;
        self.sessions.retain(|_, s| s.ended() + kept > time);
        self.channels
            .retain(|_, c| c.closed.is_none_or(|closed| closed + kept > time));
        for channel in self.channels.values_mut() {
            let old = |at: &u64| at + kept <= time;
            channel.dropped += 256 * channel.tiles().into_iter().take_while(old).count();
        }
        self.chunks.retain(|_, (_, _, expires)| *expires > time);
        self.actions.retain(|_, action| action.expires.ms() > time);
        let (sessions, channels) = (&self.sessions, &self.channels);
        self.groups.retain(|_, g| g.due(kept) > time);
        for group in self.groups.values_mut() {
            let old = group.tiles(kept).into_iter().take_while(|due| *due <= time);
            group.dropped += 256 * old.count();
        }
        self.key_packages
            .retain(|_, p| p.last_expiry().is_some_and(|last| last > time));
        self.taken_packages.retain(|_, taken| taken.expires > time);
        self.acknowledgements
            .retain(|(conversation, _), _| match conversation {
                Conversation::Session(id) => sessions.contains_key(id),
                Conversation::Channel(id) => channels.contains_key(id),
                Conversation::Group(_) => panic!("nobody acknowledges in a group"),
            });
    }

    /// Applies a transaction or changes nothing. Answers what it did and what it weighs.
    pub(crate) fn apply(&mut self, tx: &Tx, room: &mut u64) -> Result<Outcome> {
        let before = self.clone();
        let result = self.try_apply(tx, room);
        if result.is_err() {
            *self = before;
        }
        result
    }

    pub(crate) fn try_apply(&mut self, tx: &Tx, room: &mut u64) -> Result<Outcome> {
        self.touched.clear();
        (self.bought, self.copied) = (0, 0);
        if tx.signature.len() == 64 && !self.parameters.allow_legacy {
            return Err(TxError::LegacyRefused);
        }
        let ids = tx.ids(&self.chain);
        let single = matches!(tx.kind, Kind::SendMessage(_));
        if single {
            if let Some(sequence) = self.find_message(&ids, 0) {
                return Err(TxError::Duplicate {
                    outcome: Outcome::Sequence(sequence),
                });
            }
        } else {
            self.check_action(tx, &ids)?;
        }
        let outcome = self.apply_kind(tx, &ids)?;
        if !single {
            let expires = Time::from_ms(tx.valid_until.ms() + HOUR_MS);
            let action = Action {
                tx: ids.tx,
                height: self.height,
                expires,
                outcome,
            };
            self.actions.insert(ids.action, action);
            self.touch(RecordKey::Action(ids.action));
        }
        let records = RECORD_WEIGHT * self.touched.len() as u64;
        let weight = tx.to_bytes().len() as u64 + records + self.copied;
        if weight > *room {
            return Err(TxError::BlockFull);
        }
        self.charge(tx, weight)?;
        *room -= weight;
        Ok(outcome)
    }

    /// Room of a new block.
    pub(crate) const ROOM: u64 = BLOCK_WEIGHT_MAX;

    pub(crate) fn touch(&mut self, key: RecordKey) {
        self.touched.insert(key);
    }

    pub(crate) fn check_action(&self, tx: &Tx, ids: &TxIds) -> Result<()> {
        if let Some(action) = self.actions.get(&ids.action) {
            return Err(TxError::Duplicate {
                outcome: action.outcome,
            });
        }
        let (valid_until, now) = (tx.valid_until.ms(), self.time);
        if valid_until < now {
            return Err(TxError::Expired { valid_until, now });
        }
        if valid_until - now > HOUR_MS {
            return Err(TxError::ValidTooLong { now });
        }
        Ok(())
    }

    pub(crate) fn apply_kind(&mut self, tx: &Tx, ids: &TxIds) -> Result<Outcome> {
        match &tx.kind {
            Kind::RegisterIdentity(k) => self.register(tx, ids, k),
            Kind::RegisterLegacy(k) => self.register_legacy(tx, ids, k),
            Kind::RotateKeys(k) => {
                self.owner(tx, ids, k.recovery.as_ref())?;
                let well_formed = Fake { remembers: false }.is_kem_key(&k.kem);
                if !well_formed {
                    return Err(TxError::InvalidKey);
                }
                let (height, time) = (self.height, self.time);
                let account = self
                    .accounts
                    .get_mut(&tx.signer)
                    .ok_or(TxError::UnknownAccount)?;
                let keys = account.keys.clone().ok_or(TxError::UnknownAccount)?;
                let (kem, signing, index, _) = keys;
                // The first keys of an 05 account stay where they were put.
                if account.legacy_key().is_none() && account.rotations.is_empty() {
                    account.first = Some((kem, signing));
                }
                account.rotations.push((height, time, tx.clone()));
                account.keys = Some((k.kem.clone(), k.signing.clone(), index + 1, height));
                self.touch(RecordKey::Account(tx.signer));
                Ok(Outcome::Done)
            }
            Kind::RevokeIdentity(k) => {
                self.owner(tx, ids, k.recovery.as_ref())?;
                let (height, time) = (self.height, self.time);
                self.accounts
                    .get_mut(&tx.signer)
                    .ok_or(TxError::UnknownAccount)?
                    .revoked = Some((height, time));
                self.touch(RecordKey::Account(tx.signer));
                Ok(Outcome::Done)
            }
            Kind::CreateSession(k) => self.create_session(tx, ids, k),
            Kind::AcceptSession(k) => {
                self.signer(tx, ids)?;
                let place = self.open_session(&k.session, &tx.signer)?;
                if self.sessions[&k.session].participants[place].accepted {
                    return Err(TxError::AlreadyAccepted);
                }
                self.accept_session(&k.session, place);
                Ok(Outcome::Done)
            }
            Kind::RenewSession(k) => {
                self.signer(tx, ids)?;
                self.open_session(&k.session, &tx.signer)?;
                let (now, ttl) = (self.time, self.parameters.session_ttl_ms);
                let session = self.sessions.get_mut(&k.session).unwrap();
                if session.status(now) != Status::Active {
                    return Err(TxError::NotActive);
                }
                session.expires = now + ttl;
                self.touch(RecordKey::Session(k.session));
                Ok(Outcome::Done)
            }
            Kind::CloseSession(k) => self.close_session(tx, ids, k),
            Kind::SendMessage(k) => {
                match k.conversation {
                    Conversation::Session(_) => {}
                    Conversation::Channel(_) => return Err(TxError::BatchOnly),
                    Conversation::Group(_) => return Err(TxError::PostsOnly),
                }
                let verified = self.may_send(tx, ids, &k.conversation, 1)?;
                let body = Body {
                    ciphertext: k.ciphertext.clone(),
                    auth: Auth::Own(tx.signature.clone()),
                };
                let first = self.log_mut(&k.conversation).len() as u64;
                self.append(tx, ids, 0, &k.conversation, verified, (body, None))?;
                Ok(Outcome::Sequence(first))
            }
            Kind::SendBatch(k) => {
                if !tx.is_signed() {
                    return Err(TxError::SignatureRequired);
                }
                if self
                    .accounts
                    .get(&tx.signer)
                    .is_none_or(|a| a.keys.is_none())
                {
                    return Err(TxError::UnknownAccount);
                }
                let n = k.ciphertexts.len() as u64;
                let verified = self.may_send(tx, ids, &k.conversation, n)?;
                let first = self.log_mut(&k.conversation).len() as u64;
                for (i, ciphertext) in k.ciphertexts.iter().enumerate() {
                    let auth = Auth::Batch(first);
                    let body = Body {
                        ciphertext: ciphertext.clone(),
                        auth,
                    };
                    let batch = BatchAuth {
                        valid_until: tx.valid_until,
                        salt: tx.salt,
                        messages: ids.messages.iter().map(|(id, _)| *id).collect(),
                        signature: tx.signature.clone(),
                    };
                    let batch = (i == 0).then_some(batch);
                    self.append(tx, ids, i, &k.conversation, verified, (body, batch))?;
                }
                Ok(Outcome::Sequence(first))
            }
            Kind::AcknowledgeMessages(k) => self.acknowledge(tx, ids, k),
            Kind::CreateChannel(k) => self.create_channel(tx, ids, k),
            Kind::CloseChannel(k) => {
                self.signer(tx, ids)?;
                self.open_channel(&k.channel)?;
                self.role(&k.channel, &tx.signer, Role::Owner)?;
                let now = self.time;
                let channel = self.channels.get_mut(&k.channel).unwrap();
                channel.closed = Some(now);
                let creator = channel.creator;
                self.touch(RecordKey::Channel(k.channel));
                self.touch(RecordKey::Account(creator));
                Ok(Outcome::Done)
            }
            Kind::ChannelMembers(k) => self.change_members(tx, ids, k),
            Kind::CreateGroup(k) => self.create_group(tx, ids, k),
            Kind::AdvanceGroup(k) => self.advance_group(tx, ids, k),
            Kind::SetMode(k) => self.set_mode(tx, ids, k),
            Kind::SetAdmins(k) => self.set_admins(tx, ids, k),
            Kind::Supersede(k) => self.supersede(tx, ids, k),
            Kind::GroupPost(k) => self.group_post(tx, ids, k),
            Kind::TopUpGroup(k) => self.top_up(tx, ids, k),
            Kind::PutGroupChunk(k) => self.put_group_chunk(tx, ids, k),
            Kind::PublishKeyPackages(k) => self.publish(tx, ids, k),
            Kind::TakeKeyPackages(k) => self.take_packages(tx, ids, k),
            Kind::PutChunk(k) => self.put_chunk(tx, ids, k),
            Kind::Transfer(k) => {
                self.signer(tx, ids)?;
                let from = self.accounts.get_mut(&tx.signer).unwrap();
                let left = from.balance.checked_sub(k.amount);
                from.balance = left.ok_or(TxError::InsufficientBalance)?;
                self.accounts.entry(k.to).or_default().balance += k.amount;
                self.touch(RecordKey::Account(tx.signer));
                self.touch(RecordKey::Account(k.to));
                Ok(Outcome::Done)
            }
        }
    }

    // ---- signatures

    pub(crate) fn signer(&self, tx: &Tx, ids: &TxIds) -> Result<()> {
        if tx.signature.is_empty() {
            return Err(TxError::SignatureRequired);
        }
        let account = self
            .accounts
            .get(&tx.signer)
            .ok_or(TxError::UnknownAccount)?;
        if account.revoked.is_some() {
            return Err(TxError::Revoked);
        }
        if account.keys.is_none() {
            return Err(TxError::UnknownAccount);
        }
        let key = self
            .parent_keys
            .get(&tx.signer)
            .ok_or(TxError::KeysNextBlock)?;
        signed_by(tx, ids, key)
    }

    pub(crate) fn owner(&self, tx: &Tx, ids: &TxIds, recovery: Option<&SigningKey>) -> Result<()> {
        let Some(key) = recovery else {
            return self.signer(tx, ids);
        };
        let account = self
            .accounts
            .get(&tx.signer)
            .ok_or(TxError::UnknownAccount)?;
        if account.revoked.is_some() {
            return Err(TxError::Revoked);
        }
        if account.recovery != Some(key.digest()) {
            return Err(TxError::Unauthorized);
        }
        signed_by(tx, ids, key)
    }

    pub(crate) fn register(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &RegisterIdentity,
    ) -> Result<Outcome> {
        let well_formed = Fake { remembers: false }.is_kem_key(&k.kem);
        if !well_formed || account_of(&k.kem, &k.signing) != tx.signer {
            return Err(TxError::NotTheKeysAccount);
        }
        signed_by(tx, ids, &k.signing)?;
        self.first_keys(tx, k.kem.clone(), k.signing.clone(), k.recovery)
    }

    pub(crate) fn register_legacy(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &RegisterLegacy,
    ) -> Result<Outcome> {
        if !self.parameters.allow_legacy {
            return Err(TxError::LegacyRefused);
        }
        let crypto = Fake { remembers: false };
        if crypto.legacy_account_id(&k.signing) != Some(tx.signer) {
            return Err(TxError::NotTheKeysAccount);
        }
        let mut stand_in = legacy_signing_key("anybody");
        stand_in.0[..32].copy_from_slice(&k.signing.0);
        signed_by(tx, ids, &stand_in)?;
        // It has no KEM key; what stands in its place is never looked at.
        let outcome = self.first_keys(tx, kem_key("none"), stand_in, k.recovery)?;
        self.accounts.get_mut(&tx.signer).unwrap().legacy = Some(k.signing);
        Ok(outcome)
    }

    fn first_keys(
        &mut self,
        tx: &Tx,
        kem: KemKey,
        signing: SigningKey,
        recovery: Option<Digest>,
    ) -> Result<Outcome> {
        if self
            .accounts
            .get(&tx.signer)
            .is_some_and(|a| a.keys.is_some())
        {
            return Err(TxError::AlreadyRegistered);
        }
        let (now, rate) = (self.time, self.parameters.registrations);
        let quotas = self.quotas.get_or_insert_default();
        fill(&mut quotas.registrations, now, 1, rate, "registrations")?;
        let height = self.height;
        let account = self.accounts.entry(tx.signer).or_default();
        account.keys = Some((kem, signing, 0, height));
        account.recovery = recovery;
        account.registered = now;
        self.touch(RecordKey::Quotas);
        self.touch(RecordKey::Account(tx.signer));
        Ok(Outcome::Done)
    }

    // ---- the rest

    pub(crate) fn enter(
        &mut self,
        a: AccountId,
        event: MembershipEvent,
        to: Conversation,
        by: Option<AccountId>,
    ) {
        let time = Time::from_ms(self.time);
        let log = &mut self.accounts.entry(a).or_default().memberships;
        let sequence = log.len() as u64;
        log.push(MembershipEntry {
            sequence,
            time,
            event,
            conversation: to,
            by,
        });
        self.touch(RecordKey::Account(a));
    }

    pub(crate) fn request(
        &mut self,
        target: AccountId,
        to: Conversation,
        by: Option<AccountId>,
    ) -> Result<()> {
        if let Some(by) = by {
            if self.open_requests(&by, &target) >= 3 {
                return Err(TxError::LimitReached {
                    what: "open requests to one account",
                });
            }
            self.touch(RecordKey::OpenRequests(by, target));
            // 200 a day: each takes a day's milliseconds out of 200 days', which return in a day.
            let rate = Rate {
                per_second: 200_000,
                burst: 200 * DAY_MS,
            };
            let now = self.time;
            let account = self.accounts.entry(target).or_default();
            fill(
                &mut account.request_quota,
                now,
                DAY_MS,
                rate,
                "requests to one account",
            )?;
        }
        let (time, event) = (Time::from_ms(self.time), MembershipEvent::Requested);
        let log = &mut self.accounts.entry(target).or_default().requests;
        let sequence = log.len() as u64;
        log.push(MembershipEntry {
            sequence,
            time,
            event,
            conversation: to,
            by,
        });
        self.touch(RecordKey::Account(target));
        Ok(())
    }

    pub(crate) fn put_chunk(&mut self, tx: &Tx, ids: &TxIds, k: &PutChunk) -> Result<Outcome> {
        self.signer(tx, ids)?;
        let id = ChunkId::from_bytes(Tag::Chunk.hash(&[&k.bytes]));
        let expires = self.time + self.parameters.retention_ms;
        self.chunks
            .insert(id, (tx.signer, k.bytes.clone(), expires));
        self.touch(RecordKey::Chunk(id));
        Ok(Outcome::Chunk(id))
    }

    pub(crate) fn take_unsigned(&mut self) -> Result<()> {
        let (now, rate) = (self.time, self.parameters.unsigned);
        let quotas = self.quotas.get_or_insert_default();
        fill(&mut quotas.unsigned, now, 1, rate, "unsigned transactions")?;
        self.touch(RecordKey::Quotas);
        Ok(())
    }

    pub(crate) fn charge(&mut self, tx: &Tx, weight: u64) -> Result<()> {
        if tx.group().is_some() {
            return self.charge_group(tx, weight);
        }
        let now = self.time;
        let account = self.accounts.get(&tx.signer).filter(|a| a.keys.is_some());
        let old = account.is_some_and(|a| now - a.registered >= DAY_MS);
        self.count_day(weight, old)?;
        let (price, rate) = (self.parameters.price, self.parameters.account_weight);
        if !tx.is_signed() || (price == 0 && rate == Rate::UNLIMITED) {
            return Ok(());
        }
        let weight = weight.saturating_add(self.bought);
        let account = self.accounts.entry(tx.signer).or_default();
        let left = account.balance.checked_sub(price.saturating_mul(weight));
        account.balance = left.ok_or(TxError::InsufficientBalance)?;
        fill(
            &mut account.quota,
            now,
            weight,
            rate,
            "bytes of one account",
        )
    }

    /// Counts weight against the chain's day.
    pub(crate) fn count_day(&mut self, weight: u64, old: bool) -> Result<()> {
        let (now, per_day) = (self.time, self.parameters.weight_per_day);
        if per_day != u64::MAX {
            let quotas = self.quotas.get_or_insert_default();
            if quotas.day != now / DAY_MS {
                (quotas.day, quotas.weight, quotas.young) = (now / DAY_MS, 0, 0);
            }
            quotas.weight += weight;
            quotas.young += if old { 0 } else { weight };
            if quotas.weight > per_day || (!old && quotas.young > per_day / 2) {
                let retry_ms = (now / DAY_MS + 1) * DAY_MS - now;
                return Err(TxError::RateLimited {
                    what: "bytes today",
                    retry_ms,
                });
            }
        }
        Ok(())
    }
}

pub(crate) fn signed_by(tx: &Tx, ids: &TxIds, key: &SigningKey) -> Result<()> {
    let digest = ids.action.as_bytes();
    if tx.signature.is_empty() {
        Err(TxError::SignatureRequired)
    } else if (0..super::people::NONCES).any(|n| sign(key, digest, n) == tx.signature) {
        Ok(())
    } else {
        Err(TxError::InvalidSignature)
    }
}

pub(crate) fn fill(
    leak: &mut Leak,
    now: u64,
    amount: u64,
    rate: Rate,
    what: &'static str,
) -> Result<()> {
    if rate == Rate::UNLIMITED {
        return Ok(());
    }
    let leaked = u128::from(now - leak.at) * u128::from(rate.per_second);
    let used = leak.used_milli.saturating_sub(leaked) + u128::from(amount) * 1_000;
    let room = u128::from(rate.burst) * 1_000;
    if used > room {
        let never = rate.per_second == 0 || amount > rate.burst;
        let wait = (used - room).div_ceil(u128::from(rate.per_second.max(1)));
        let retry_ms = if never {
            u64::MAX
        } else {
            u64::try_from(wait).unwrap()
        };
        return Err(TxError::RateLimited { what, retry_ms });
    }
    *leak = Leak {
        used_milli: used,
        at: now,
    };
    Ok(())
}
