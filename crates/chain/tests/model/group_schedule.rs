//! What members, admins, sponsors and strangers do to groups, and devices to key packages.

use session_chain::tx::group::admin::{SetAdmins, SetMode, Supersede};
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::post::{GroupPost, PutGroupChunk};
use session_chain::tx::group::{Cosignature, CreateGroup, TopUpGroup, as_signer};
use session_chain::tx::key_package::{NewKeyPackage, PublishKeyPackages, TakeKeyPackages};
use session_chain::tx::{Kind, SigningKey, Tx};
use session_core::group::{Mode, group_salt};
use session_core::ids::{AccountId, ChunkId, DeviceId, Digest, GroupId};
use session_core::time::{DAY_MS, MINUTE_MS, Time};

use super::people::{cosign, signed, signing_key, unsigned};
use super::schedule::Schedule;
use super::state::{MGroup, Model};

/// A kind with the key that signs it and the keys of its cosignatures.
type Keyed = (Kind, SigningKey, Vec<SigningKey>);

impl Schedule {
    /// Something about a group.
    pub(crate) fn group_tx(&mut self, model: &Model) -> Tx {
        let some: Vec<GroupId> = model.groups.keys().copied().collect();
        // The fewer there are, the more likely one is opened.
        let few = [1, 3, 8, 25][some.len().min(3)];
        if self.chance.one_in(few) {
            return self.create(model);
        }
        let mut id = *self.chance.pick(&some).unwrap();
        if self.has_one_group() && !self.chance.one_in(9) {
            let busiest = model.groups.iter().max_by_key(|(_, g)| g.log.len());
            id = *busiest.unwrap().0;
        }
        if self.chance.one_in(40) {
            id = GroupId::from_bytes(self.chance.bytes());
        }
        if self
            .chance
            .one_in(if self.has_one_group() { 4 } else { 12 })
        {
            return self.top_up(model, id);
        }
        let Some(group) = model.groups.get(&id) else {
            let key = signing_key("stranger");
            let frames = vec![vec![1]];
            let kind = Kind::GroupPost(GroupPost { epoch: 1, frames });
            return self.finish(model, as_signer(&id), (kind, key, Vec::new()));
        };
        let roll = match (self.busy_groups, self.restless_groups) {
            (true, _) => self.chance.below(45),
            (_, true) => 25 + self.chance.below(45),
            _ => self.chance.below(100),
        };
        let keyed = match roll {
            0..40 => self.post(group),
            40..65 => self.advance(model, group),
            65..72 => {
                let (admin, key) = self.admin(group);
                let mode = self.mode();
                (Kind::SetMode(SetMode { admin, mode }), key, Vec::new())
            }
            72..82 => self.set_admins(group),
            82..85 => {
                let (admin, key) = self.admin(group);
                let successor = *self.chance.pick(&some).unwrap();
                // One that was put, or that nobody knows.
                let some: Vec<_> = model.chunks.keys().copied().collect();
                let known = self.chance.pick(&some).copied();
                let invitation = match self.chance.below(3) {
                    0 => None,
                    1 => known,
                    _ => Some(ChunkId::from_bytes(self.chance.bytes())),
                };
                let kind = Kind::Supersede(Supersede {
                    admin,
                    successor,
                    invitation,
                });
                (kind, key, Vec::new())
            }
            _ => {
                let (epoch, key) = self.epoch(group);
                let bytes = vec![self.chance.below(6) as u8; self.chance.below(40) + 1];
                let kind = Kind::PutGroupChunk(PutGroupChunk { epoch, bytes });
                (kind, key, Vec::new())
            }
        };
        self.finish(model, as_signer(&id), keyed)
    }

    /// Signs it; now and then by somebody else, or by nobody.
    fn finish(
        &mut self,
        model: &Model,
        signer: AccountId,
        (kind, mut key, mut others): Keyed,
    ) -> Tx {
        let stranger = signing_key("stranger");
        let wrong = self.chance.below(40);
        if wrong == 0 {
            key = stranger.clone();
        } else if wrong == 1 && !others.is_empty() {
            let at = self.chance.below(others.len());
            others[at] = stranger;
        }
        let valid_until = self.valid_until(model.time);
        let mut tx = unsigned(signer, valid_until, self.serial(), kind);
        cosign(&mut tx, &model.chain, &others);
        if wrong == 2 {
            return tx;
        }
        let nonce = self.nonce();
        let tx = signed(tx, &model.chain, &key, nonce);
        self.past.push((tx.clone(), key));
        tx
    }

    fn mode(&mut self) -> Mode {
        if self.chance.one_in(2) {
            Mode::Open
        } else {
            Mode::AdminOnly
        }
    }

    fn admin_keys(&mut self) -> Vec<SigningKey> {
        let n = self.chance.below(4) + 1;
        let start = self.chance.below(5);
        let name = |i| signing_key(&format!("admin {}", (start + i) % 6));
        let mut keys: Vec<_> = (0..n).map(name).collect();
        if self.chance.one_in(12) {
            keys.push(keys[0].clone());
        }
        keys
    }

    fn create(&mut self, model: &Model) -> Tx {
        let sponsor = self.person(model);
        let key = self.key_of(model, sponsor).unwrap();
        let serial = self.serial();
        let (posting, control) = self.epoch_keys(serial);
        let admins = self.admin_keys();
        // Few different ones, so that an id comes up again.
        let near = (model.time / (10 * MINUTE_MS) + 1) * 10 * MINUTE_MS;
        let until = match self.chance.below(30) {
            0 => model.time - 1,
            1 => model.time + 30 * DAY_MS + 1,
            2..9 => model.time + self.chance.below(30 * DAY_MS as usize) as u64,
            _ => near,
        };
        let plenty = if self.has_one_group() {
            9_000_000
        } else {
            600_000
        };
        let most = [25_000, plenty, plenty][self.chance.below(3)];
        let group = CreateGroup {
            salt: group_salt(Time::from_ms(until), &[self.chance.below(3) as u8; 24]),
            mode: self.mode(),
            epoch: self.chance.below(3) as u64,
            posting,
            control: control.clone(),
            budget: self.chance.below(most) as u64,
            reserve: self.chance.below(30_000) as u64,
            admin_signature: Cosignature::blank(),
            control_signature: Cosignature::blank(),
            admins: admins.clone(),
        };
        let others = vec![admins[0].clone(), control];
        let signer = self.people[sponsor].account;
        self.finish(model, signer, (Kind::CreateGroup(group), key, others))
    }

    fn epoch_keys(&self, serial: u64) -> (SigningKey, SigningKey) {
        let key = |name| signing_key(&format!("{name} {serial}"));
        (key("posting"), key("control"))
    }

    fn top_up(&mut self, model: &Model, group: GroupId) -> Tx {
        let person = self.person(model);
        let key = self.key_of(model, person).unwrap();
        let mut amount = |most: usize| match self.chance.below(30) {
            0 => u64::MAX,
            _ => self.chance.below(most) as u64,
        };
        let plenty = if model.parameters.price == 0 {
            500_000
        } else {
            50_000
        };
        let (budget, reserve) = (amount(plenty), amount(9_000));
        let kind = Kind::TopUpGroup(TopUpGroup {
            group,
            budget,
            reserve,
        });
        let signer = self.people[person].account;
        self.finish(model, signer, (kind, key, Vec::new()))
    }

    /// An epoch, mostly the current one, and its posting key.
    fn epoch(&mut self, group: &MGroup) -> (u64, SigningKey) {
        let current = group.current();
        if self.chance.one_in(25) {
            return (current.number + 1, current.posting.clone());
        }
        let back = match self.chance.below(12) {
            0..6 => 0,
            6..8 => 1,
            8 => 2,
            _ => self.chance.below(24),
        };
        let epoch = group.epochs.iter().rev().nth(back).unwrap_or(current);
        (epoch.number, epoch.posting.clone())
    }

    fn post(&mut self, group: &MGroup) -> Keyed {
        let (epoch, key) = self.epoch(group);
        let many = self.busy_groups || self.chance.one_in(12);
        let n = if many { 32 } else { self.chance.below(4) + 1 };
        let mut frames: Vec<_> = (0..n).map(|_| self.ciphertext(60)).collect();
        if many && !self.chance.one_in(5) {
            let different = |frame: &mut Vec<u8>| frame.extend(self.chance.bytes());
            frames.iter_mut().for_each(different);
        }
        let kind = Kind::GroupPost(GroupPost { epoch, frames });
        (kind, key, Vec::new())
    }

    fn admin(&mut self, group: &MGroup) -> (Digest, SigningKey) {
        let key = self.chance.pick(&group.admins).unwrap().clone();
        if self.chance.one_in(12) {
            let other = signing_key("nobody's admin");
            return (other.digest(), other);
        }
        (key.digest(), key)
    }

    fn advance(&mut self, model: &Model, group: &MGroup) -> Keyed {
        let current = group.current().number;
        let epoch = match self.chance.below(12) {
            0 => current + 1,
            1 => current.saturating_sub(1),
            _ => current,
        };
        let chunks: Vec<ChunkId> = model.chunks.keys().copied().collect();
        let commit = if self.chance.one_in(3) {
            let n = self.chance.below(3) + 1;
            let mut picked: Vec<ChunkId> = (0..n)
                .filter_map(|_| self.chance.pick(&chunks).copied())
                .collect();
            if picked.is_empty() || self.chance.one_in(8) {
                picked.push(ChunkId::from_bytes(self.chance.bytes()));
            }
            Commit::Chunks(picked)
        } else {
            Commit::Bytes(self.chance.bytes().to_vec())
        };
        let wants_admin = match group.mode {
            Mode::AdminOnly => !self.chance.one_in(6),
            Mode::Open => self.restless_groups || self.chance.one_in(3),
        };
        let admin = wants_admin.then(|| self.admin(group));
        let serial = self.serial();
        let (posting, control) = self.epoch_keys(serial);
        let others = admin.iter().map(|(_, key)| key.clone()).collect();
        let kind = Kind::AdvanceGroup(AdvanceGroup {
            epoch,
            commit,
            posting,
            control,
            removal: self
                .chance
                .one_in(if self.restless_groups { 30 } else { 5 }),
            admin: admin.map(|(digest, _)| (digest, Cosignature::blank())),
        });
        (kind, group.control.clone(), others)
    }

    fn set_admins(&mut self, group: &MGroup) -> Keyed {
        let mut signers = group.admins.clone();
        let needed = signers.len() / 2 + 1;
        signers.sort_by_key(SigningKey::digest);
        let n = if self.chance.one_in(5) {
            needed - 1
        } else {
            needed
        };
        signers.truncate(n.max(1));
        if self.chance.one_in(15) {
            signers[0] = signing_key("nobody's admin");
            signers.sort_by_key(SigningKey::digest);
        }
        let kind = Kind::SetAdmins(SetAdmins {
            signers: signers.iter().map(SigningKey::digest).collect(),
            admins: self.admin_keys(),
            cosignatures: vec![Cosignature::blank(); signers.len() - 1],
        });
        let own = signers.remove(0);
        (kind, own, signers)
    }

    /// Something about key packages, by whoever signs.
    pub(crate) fn key_package_kind(&mut self, model: &Model) -> Kind {
        if self.chance.one_in(2) {
            let target = self.anybody();
            return Kind::TakeKeyPackages(TakeKeyPackages { target });
        }
        let now = model.time;
        let mut new = || {
            let expires = match self.chance.below(30) {
                0 => now,
                1 => now + 90 * DAY_MS + 1,
                2 => now + 90 * DAY_MS,
                3..14 => now + self.chance.below(600_000) as u64 + 1,
                _ => now + self.chance.below(20 * DAY_MS as usize) as u64 + 1,
            };
            let bytes = match self.chance.below(20) {
                0 => vec![7; 3],
                _ => self.chance.bytes()[..self.chance.below(30) + 2].to_vec(),
            };
            NewKeyPackage {
                expires: Time::from_ms(expires),
                bytes,
            }
        };
        let last_resort = Some(new());
        let mut one_time = vec![new(), new(), new(), new(), new(), new()];
        one_time.truncate(self.chance.below(7));
        Kind::PublishKeyPackages(PublishKeyPackages {
            device: DeviceId::from_bytes([self.chance.below(9) as u8; 32]),
            replace: self.chance.one_in(8),
            one_time,
            last_resort: last_resort.filter(|_| self.chance.one_in(2)),
        })
    }
}
