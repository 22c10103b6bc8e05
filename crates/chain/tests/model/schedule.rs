//! Random schedules: mostly sensible transactions, and every way of getting them wrong.

use std::collections::BTreeMap;

use session_chain::tx::channel::{ChannelMembers, CloseChannel, CreateChannel, MemberChange};
use session_chain::tx::chunk::PutChunk;
use session_chain::tx::identity::{RegisterIdentity, RevokeIdentity, RotateKeys};
use session_chain::tx::legacy::RegisterLegacy;
use session_chain::tx::message::{AcknowledgeMessages, SendBatch, SendMessage};
use session_chain::tx::session::{
    AcceptSession, CloseSession, CreateSession, NewParticipant, RenewSession,
};
use session_chain::tx::transfer::Transfer;
use session_chain::tx::{Kind, NOBODY, SigningKey, Tx};
use session_core::channel::Role;
use session_core::ids::{AccountId, ChannelId, SessionId};
use session_core::log::Conversation;
use session_core::parameters::{Admission, Parameters, Rate};
use session_core::session::Status;
use session_core::time::{DAY_MS, HOUR_MS, MINUTE_MS, SECOND_MS, Time};

use super::people::{
    Chance, NONCES, Person, kem_key, legacy_of, malformed_kem_key, signed, signing_key, unsigned,
};
use super::state::{MParticipant, MSession, Model};

pub(crate) struct Schedule {
    pub(crate) chance: Chance,
    pub(crate) people: Vec<Person>,
    pub(crate) past: Vec<(Tx, SigningKey)>,
    serial: u64,
    /// Most messages go to channels, a hundred at once: their leaves outlive nothing.
    pub(crate) busy_channels: bool,
    /// Most transactions are posts to one group, 32 frames at once.
    pub(crate) busy_groups: bool,
    /// One group goes from epoch to epoch.
    pub(crate) restless_groups: bool,
    /// Three months pass again and again.
    quiet: bool,
}

/// Parameters that make every rule bite in a short run.
pub(crate) fn parameters(chance: &mut Chance) -> Parameters {
    let rate = |per_second, burst| Rate { per_second, burst };
    let quotas = chance.one_in(2);
    Parameters {
        session_ttl_ms: [20 * SECOND_MS, 5 * MINUTE_MS, DAY_MS][chance.below(3)],
        max_messages: [4, 12, 10_000][chance.below(3)],
        max_channels: 2,
        retention_ms: [30 * SECOND_MS, 10 * MINUTE_MS, 2 * DAY_MS][chance.below(3)],
        admission: if chance.one_in(2) {
            Admission::Open
        } else {
            Admission::Signed
        },
        allow_legacy: chance.one_in(2),
        price: if chance.one_in(3) { 2 } else { 0 },
        registrations: if quotas { rate(1, 3) } else { rate(10, 10_000) },
        unsigned: if quotas { rate(1, 2) } else { Rate::UNLIMITED },
        account_weight: if quotas {
            rate(3_000, 60_000)
        } else {
            Rate::UNLIMITED
        },
        weight_per_day: if chance.one_in(3) { 400_000 } else { u64::MAX },
        ..Parameters::default()
    }
}

pub(crate) fn allocations(people: &[Person], p: &Parameters) -> BTreeMap<AccountId, u64> {
    let price = p.price.min(1);
    let some = people.iter().enumerate().filter(|(i, _)| i % 4 != 3);
    some.map(|(i, p)| (p.account, 100_000 + price * (i as u64 + 1) * 900_000))
        .collect()
}

impl Schedule {
    pub(crate) fn new(seed: u64) -> Self {
        let mut people: Vec<_> = (0..7)
            .map(|i| Person::new(&format!("person {i}")))
            .collect();
        people.push(Person::legacy("somebody of old"));
        Self {
            chance: Chance(seed),
            people,
            past: Vec::new(),
            serial: 0,
            busy_channels: seed.is_multiple_of(8),
            busy_groups: seed % 8 == 1,
            restless_groups: seed % 8 == 3,
            quiet: seed % 8 == 2,
        }
    }

    pub(crate) fn pause(&mut self, p: &Parameters) -> u64 {
        if self.quiet && self.chance.one_in(10) {
            return 91 * DAY_MS;
        }
        // An admin acts once in two seconds.
        let least = if self.restless_groups { 2_000 } else { 0 };
        least
            + match self.chance.below(100) {
                0..20 => 0,
                20..65 => self.chance.below(3_000) as u64,
                65..85 => self.chance.below(60_000) as u64,
                85..91 => p.session_ttl_ms / 2,
                91..94 => p.session_ttl_ms,
                94..97 => p.retention_ms,
                97..99 => HOUR_MS,
                _ => DAY_MS,
            }
    }

    /// The next transaction.
    pub(crate) fn next(&mut self, model: &Model) -> Tx {
        if self.chance.one_in(9)
            && let Some((tx, key)) = self.chance.pick(&self.past).cloned()
        {
            // A retry, as it was or signed anew.
            let nonce = self.nonce();
            let anew = self.chance.one_in(2) && tx.is_signed();
            return if anew {
                signed(tx, &model.chain, &key, nonce)
            } else {
                tx
            };
        }
        let often = if self.has_one_group() { 75 } else { 25 };
        if self.chance.below(100) < often && model.height > 2 {
            return self.group_tx(model);
        }
        if self.chance.one_in(8)
            && let Some(tx) = self.stranger(model)
        {
            return tx;
        }
        let person = self.person(model);
        let mut signer = self.people[person].account;
        let mut key = self.key_of(model, person);
        let kind = self.kind(model, person, &mut signer, &mut key);
        let valid_until = self.valid_until(model.time);
        let tx = unsigned(signer, valid_until, self.serial(), kind);
        let nonce = self.nonce();
        let stranger = signing_key("stranger");
        let mut tx = match (self.chance.below(40), key) {
            (0, _) | (2.., None) => tx,
            (1, _) => signed(tx, &model.chain, &stranger, nonce),
            (2.., Some(key)) => {
                let tx = signed(tx, &model.chain, &key, nonce);
                self.past.push((tx.clone(), key));
                tx
            }
        };
        if self.chance.one_in(80) {
            tx.signature = vec![0; 64];
        }
        if !tx.is_signed() {
            self.past.push((tx.clone(), stranger));
        }
        tx
    }

    /// Whether most is about one group.
    pub(crate) const fn has_one_group(&self) -> bool {
        self.busy_groups || self.restless_groups
    }

    /// A number that is given once.
    pub(crate) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// An unsigned message of somebody whose key nobody knows.
    fn stranger(&mut self, model: &Model) -> Option<Tx> {
        let unknown = |p: &&MParticipant| {
            let account = model.accounts.get(&p.account);
            p.signing.is_none() && account.is_none_or(|a| a.keys.is_none())
        };
        let lives = model
            .sessions
            .iter()
            .filter(|(_, s)| s.ended() > model.time);
        let some: Vec<_> = lives
            .filter_map(|(id, s)| Some((*id, s.participants.iter().find(unknown)?.account)))
            .collect();
        let (id, sender) = *self.chance.pick(&some)?;
        let (conversation, ciphertext) = (Conversation::Session(id), self.ciphertext(60));
        let kind = Kind::SendMessage(SendMessage {
            conversation,
            ciphertext,
        });
        Some(unsigned(sender, Time::default(), 0, kind))
    }

    /// Anybody; mostly somebody who is registered.
    pub(crate) fn person(&mut self, model: &Model) -> usize {
        let registered = |i: &usize| model.parent_keys.contains_key(&self.people[*i].account);
        let some: Vec<usize> = (0..self.people.len()).filter(registered).collect();
        let anybody = self.chance.below(self.people.len());
        let mostly = self.chance.pick(&some).copied().unwrap_or(anybody);
        if self.chance.one_in(5) {
            anybody
        } else {
            mostly
        }
    }

    pub(crate) fn nonce(&mut self) -> u8 {
        self.chance.below(usize::from(NONCES)) as u8
    }

    /// The key that counts; sometimes the newest or the original one.
    pub(crate) fn key_of(&mut self, model: &Model, person: usize) -> Option<SigningKey> {
        let person = &self.people[person];
        let newest = model
            .accounts
            .get(&person.account)
            .and_then(|a| a.keys.as_ref());
        let newest = newest.map(|(_, key, ..)| key.clone());
        match self.chance.below(20) {
            0 => newest.or(Some(person.signing())),
            1 => Some(person.signing()),
            _ => model
                .parent_keys
                .get(&person.account)
                .cloned()
                .or(Some(person.signing())),
        }
    }

    pub(crate) fn valid_until(&mut self, now: u64) -> Time {
        Time::from_ms(match self.chance.below(60) {
            0 => now.saturating_sub(1),
            1 => now + HOUR_MS + 1,
            2 => now + HOUR_MS,
            3 => now,
            _ => now + self.chance.below(3_600_000) as u64,
        })
    }

    /// A session, mostly one that lives.
    fn session(&mut self, model: &Model) -> SessionId {
        let lives = |s: &MSession| matches!(s.status(model.time), Status::Pending | Status::Active);
        let any = self.chance.one_in(4);
        let some = model.sessions.iter().filter(|(_, s)| any || lives(s));
        let some: Vec<_> = some.map(|(id, _)| *id).collect();
        match self.chance.pick(&some) {
            Some(id) if !self.chance.clone().one_in(25) => *id,
            _ => SessionId::from_bytes(self.chance.bytes()),
        }
    }

    fn channel(&mut self, model: &Model) -> ChannelId {
        let all: Vec<_> = model.channels.keys().copied().collect();
        match self.chance.pick(&all) {
            Some(id) if !self.chance.clone().one_in(25) => *id,
            _ => ChannelId::from_bytes(self.chance.bytes()),
        }
    }

    pub(crate) fn anybody(&mut self) -> AccountId {
        let i = self.chance.below(self.people.len());
        self.people[i].account
    }

    fn role(&mut self) -> Role {
        [Role::Reader, Role::Member, Role::Admin, Role::Owner][self.chance.below(4)]
    }

    /// Somebody of the conversation with its key, mostly.
    fn insider(
        &mut self,
        model: &Model,
        c: &Conversation,
    ) -> Option<(AccountId, Option<SigningKey>)> {
        let waiting = self.chance.one_in(2);
        let inside: Vec<_> = match c {
            Conversation::Session(id) => {
                let all = model.sessions.get(id)?.participants.iter();
                let some = all.filter(|p| !(waiting && p.accepted));
                some.map(|p| p.account).collect()
            }
            Conversation::Channel(id) => model.channels.get(id)?.members.keys().copied().collect(),
            Conversation::Group(_) => return None,
        };
        let account = *self.chance.pick(&inside)?;
        let person = self.people.iter().position(|p| p.account == account)?;
        let registered = model
            .accounts
            .get(&account)
            .is_some_and(|a| a.keys.is_some());
        let known = match c {
            Conversation::Session(id) => {
                let session = model.sessions.get(id)?;
                session
                    .participants
                    .iter()
                    .any(|p| p.account == account && p.signing.is_some())
            }
            Conversation::Channel(_) | Conversation::Group(_) => true,
        };
        let key = self.key_of(model, person);
        Some((account, key.filter(|_| registered || known)))
    }

    fn kind(
        &mut self,
        model: &Model,
        person: usize,
        signer: &mut AccountId,
        key: &mut Option<SigningKey>,
    ) -> Kind {
        // At first people register; then they talk.
        let early = model.height < 6 && self.chance.one_in(3);
        if !early && self.chance.one_in(9) {
            return self.key_package_kind(model);
        }
        let mut roll = if early { 0 } else { self.chance.below(100) };
        let session = self.session(model);
        let mut channel = self.channel(model);
        if self.busy_channels && !early && self.chance.one_in(3) {
            let busiest = model.channels.iter().max_by_key(|(_, c)| c.log.len());
            (roll, channel) = busiest.map_or((66, channel), |(id, _)| (50, *id));
        }
        let conversation = if self.busy_channels || self.chance.one_in(3) {
            Conversation::Channel(channel)
        } else {
            Conversation::Session(session)
        };
        let group = model.groups.keys().next().copied();
        let conversation = match group.filter(|_| self.chance.one_in(30)) {
            Some(group) => Conversation::Group(group),
            None => conversation,
        };
        let about = match roll {
            22..36 => Some(Conversation::Session(session)),
            36..66 => Some(conversation),
            71..84 => Some(Conversation::Channel(channel)),
            _ => None,
        };
        if let Some(about) = about
            && !self.chance.one_in(8)
            && let Some(inside) = self.insider(model, &about)
        {
            (*signer, *key) = inside;
        }
        match roll {
            0..7 => {
                let anybody = self.chance.below(self.people.len());
                self.register(anybody, signer, key)
            }
            7..10 => self.rotate(model, person, key),
            10..11 => {
                let recovery = self.recovery(person, key);
                Kind::RevokeIdentity(RevokeIdentity { recovery })
            }
            11..22 => self.create_session(model, signer, key),
            22..29 => Kind::AcceptSession(AcceptSession { session }),
            29..32 => Kind::RenewSession(RenewSession { session }),
            32..36 => {
                if self.chance.one_in(3) {
                    (*signer, *key) = (NOBODY, None);
                }
                Kind::CloseSession(CloseSession { session })
            }
            36..50 => {
                let ciphertext = self.ciphertext(600);
                Kind::SendMessage(SendMessage {
                    conversation,
                    ciphertext,
                })
            }
            50..58 => self.batch(conversation),
            58..66 => {
                let up_to = self.chance.below(6) as u64;
                Kind::AcknowledgeMessages(AcknowledgeMessages {
                    conversation,
                    up_to,
                })
            }
            66..71 => {
                let members = (0..self.chance.below(4)).map(|_| (self.anybody(), self.role()));
                Kind::CreateChannel(CreateChannel {
                    members: members.collect(),
                })
            }
            71..73 => Kind::CloseChannel(CloseChannel { channel }),
            73..84 => {
                let changes = (0..self.chance.below(3) + 1)
                    .map(|_| self.change())
                    .collect();
                let changes = if self.chance.one_in(12) {
                    Vec::new()
                } else {
                    changes
                };
                Kind::ChannelMembers(ChannelMembers { channel, changes })
            }
            84..90 => {
                let bytes = vec![self.chance.below(6) as u8; self.chance.below(40) + 1];
                Kind::PutChunk(PutChunk { bytes })
            }
            _ => {
                let amount = self.chance.below(60_000) as u64;
                Kind::Transfer(Transfer {
                    to: self.anybody(),
                    amount,
                })
            }
        }
    }

    pub(crate) fn ciphertext(&mut self, long: usize) -> Vec<u8> {
        let length = self.chance.below(long);
        let seed = self.chance.bytes();
        // Short ones are sometimes the same.
        if length < 4 {
            vec![7; length]
        } else {
            seed.iter().copied().cycle().take(length).collect()
        }
    }

    fn batch(&mut self, conversation: Conversation) -> Kind {
        let many = self.busy_channels || self.chance.one_in(12);
        let n = if many { 100 } else { self.chance.below(4) + 1 };
        let mut ciphertexts: Vec<_> = (0..n).map(|_| self.ciphertext(60)).collect();
        if many && !self.chance.one_in(5) {
            // Of so many short ones two would always be the same.
            let different = |c: &mut Vec<u8>| c.extend(self.chance.bytes());
            ciphertexts.iter_mut().for_each(different);
        }
        Kind::SendBatch(SendBatch {
            conversation,
            ciphertexts,
        })
    }

    fn change(&mut self) -> MemberChange {
        match self.chance.below(10) {
            0..3 => MemberChange::Add(self.anybody(), self.role()),
            3 => MemberChange::Remove(self.anybody()),
            4..6 => MemberChange::SetRole(self.anybody(), self.role()),
            6..9 => MemberChange::Accept,
            _ => MemberChange::Leave,
        }
    }

    fn register(&mut self, i: usize, signer: &mut AccountId, key: &mut Option<SigningKey>) -> Kind {
        let person = &self.people[i];
        let (mut kem, signing) = (person.kem(), person.signing());
        let recovery = self.chance.one_in(2).then(|| person.recovery().digest());
        (*signer, *key) = (person.account, Some(person.signing()));
        if let Some(mut signing) = legacy_of(&signing)
            && !self.chance.one_in(12)
        {
            if self.chance.one_in(12) {
                signing.0[0] = 0xff;
            }
            return Kind::RegisterLegacy(RegisterLegacy { signing, recovery });
        }
        match self.chance.below(25) {
            0 => kem = malformed_kem_key("anybody"),
            1 => *signer = self.people[(i + 1) % self.people.len()].account,
            _ => {}
        }
        Kind::RegisterIdentity(RegisterIdentity {
            kem,
            signing,
            recovery,
        })
    }

    fn recovery(&mut self, person: usize, key: &mut Option<SigningKey>) -> Option<SigningKey> {
        let recovery = self.people[person].recovery();
        match self.chance.below(6) {
            0..2 => {
                *key = Some(recovery.clone());
                Some(recovery)
            }
            2 => {
                *key = Some(signing_key("thief"));
                key.clone()
            }
            _ => None,
        }
    }

    fn rotate(&mut self, model: &Model, i: usize, key: &mut Option<SigningKey>) -> Kind {
        let recovery = self.recovery(i, key);
        let seed = format!("{} at {}", self.people[i].name, model.height);
        let bad = self.chance.one_in(12);
        let kem = if bad {
            malformed_kem_key(&seed)
        } else {
            kem_key(&seed)
        };
        Kind::RotateKeys(RotateKeys {
            kem,
            signing: signing_key(&seed),
            recovery,
        })
    }

    fn create_session(
        &mut self,
        model: &Model,
        signer: &mut AccountId,
        key: &mut Option<SigningKey>,
    ) -> Kind {
        if self.chance.one_in(3) {
            (*signer, *key) = (NOBODY, None);
        }
        let mut who: Vec<usize> = (0..self.chance.below(3) + 1)
            .map(|_| self.chance.below(self.people.len()))
            .collect();
        let own = self.people.iter().position(|p| p.account == *signer);
        who.extend(own.filter(|_| !self.chance.one_in(20)));
        who.sort_by_key(|i| self.people[*i].account);
        if !self.chance.one_in(30) {
            who.dedup();
        }
        if self.chance.one_in(40) {
            who.reverse();
        }
        let participants = who
            .into_iter()
            .map(|i| self.participant(model, i))
            .collect();
        Kind::CreateSession(CreateSession { participants })
    }

    fn participant(&mut self, model: &Model, i: usize) -> NewParticipant {
        let person = &self.people[i];
        let account = person.account;
        let registered = model.accounts.get(&account).and_then(|a| a.keys.as_ref());
        let (kem, signing) = match registered {
            Some((kem, signing, ..)) => (kem.clone(), signing.clone()),
            None => (person.kem(), person.signing()),
        };
        let (mut kem, mut signing) = (Some(kem), Some(signing));
        match self.chance.below(40) {
            0 => kem = Some(malformed_kem_key("anybody")),
            1 => kem = Some(kem_key("another")),
            2 => signing = Some(signing_key("another")),
            3 => kem = None,
            4 => (kem, signing) = (Some(malformed_kem_key("anybody")), None),
            5..12 if registered.is_some() => (kem, signing) = (None, None),
            12..26 => signing = None,
            _ => {}
        }
        NewParticipant {
            account,
            kem,
            signing,
        }
    }
}
