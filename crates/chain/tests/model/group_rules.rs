//! Rules of groups.

use std::rc::Rc;

use session_chain::state::TxError;
use session_chain::tx::group::admin::{SetAdmins, SetMode, Supersede};
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::post::{GroupPost, PutGroupChunk};
use session_chain::tx::group::{CreateGroup, TopUpGroup};
use session_chain::tx::message::{Auth, BatchAuth, Body};
use session_chain::tx::{Kind, SigningKey, Tx, TxIds};
use session_core::codec::Encode;
use session_core::group::{Mode, StalePost};
use session_core::hash::Tag;
use session_core::ids::{ChunkId, Digest, GroupId};
use session_core::log::{AdvanceEntry, PostEntry};
use session_core::record::{Outcome, RecordKey};
use session_core::time::{DAY_MS, Time};

use super::people::{NONCES, sign};
use super::rules::{Result, signed_by};
use super::state::{MEpoch, MGroup, MItem, Model};

fn id_of(tx: &Tx) -> GroupId {
    GroupId::from_bytes(tx.signer.to_bytes())
}

fn cosigned_by(signature: &[u8], ids: &TxIds, key: &SigningKey) -> Result<()> {
    let made = |n| sign(key, ids.action.as_bytes(), n) == signature;
    if (0..NONCES).any(made) {
        Ok(())
    } else {
        Err(TxError::InvalidSignature)
    }
}

fn all_different(keys: &[SigningKey]) -> Result<()> {
    for (i, key) in keys.iter().enumerate() {
        if keys[..i].contains(key) {
            return Err(TxError::AdminTwice);
        }
    }
    Ok(())
}

fn pause(what: &'static str, last: Option<u64>, now: u64, least: u64) -> Result<()> {
    match last {
        Some(last) if now - last < least => Err(TxError::RateLimited {
            what,
            retry_ms: least - (now - last),
        }),
        _ => Ok(()),
    }
}

impl MGroup {
    /// When it closes, or was closed.
    pub(crate) fn end(&self) -> u64 {
        let idle = (self.last_post / DAY_MS + 1) * DAY_MS + 90 * DAY_MS;
        self.succession.map_or(idle, |(_, time, _)| time)
    }

    /// When it is dropped: the next even millisecond.
    pub(crate) fn due(&self, kept: u64) -> u64 {
        (self.end() + kept).max(self.until + 1).next_multiple_of(2)
    }

    /// When the leaves of each full tile go that is still there: the next odd millisecond.
    pub(crate) fn tiles(&self, kept: u64) -> Vec<u64> {
        let full = self.log.chunks_exact(256).skip(self.dropped / 256);
        let filled = full.map(|tile| tile[255].time().ms() + kept);
        filled
            .map(|at| if at % 2 == 1 { at } else { at + 1 })
            .collect()
    }

    pub(crate) fn current(&self) -> &MEpoch {
        self.epochs.last().unwrap()
    }

    /// Whether posts of an epoch are taken, and by which key.
    fn taken(&self, epoch: u64, now: u64) -> Result<SigningKey> {
        let current = self.current().number;
        let stale = |stale: StalePost| Err(TxError::StalePost(stale));
        if epoch > current {
            return stale(StalePost::Ahead { current });
        }
        if epoch < self.floor {
            let floor = self.floor;
            return stale(StalePost::BelowFloor { floor });
        }
        // The current one and sixteen before it are known.
        let Some(known) = self
            .epochs
            .iter()
            .rev()
            .take(17)
            .find(|e| e.number == epoch)
        else {
            return stale(StalePost::Over { current });
        };
        let long_over = known.ended.is_some_and(|ended| now - ended > 120_000);
        if current - epoch > 2 && long_over {
            return stale(StalePost::Over { current });
        }
        Ok(known.posting.clone())
    }

    fn find(&self, ids: &TxIds, i: usize) -> Option<u64> {
        let kept = self.log[self.dropped..].iter();
        kept.filter_map(|item| match &**item {
            MItem::Frame(entry, ..) if entry.id == ids.messages[i].0 => Some(entry.sequence),
            MItem::Frame(..) | MItem::Advance(..) => None,
        })
        .next()
    }
}

impl Model {
    fn open_group(&self, id: &GroupId) -> Result<&MGroup> {
        let group = self.groups.get(id).ok_or(TxError::UnknownGroup)?;
        match group.succession {
            Some((successor, ..)) => Err(TxError::GroupSuperseded { successor }),
            None if group.end() <= self.time => Err(TxError::GroupIdle),
            None => Ok(group),
        }
    }

    fn buy(&mut self, budget: u64, reserve: u64) -> Result<()> {
        let what = "budget of one group";
        let bought = budget.checked_add(reserve);
        self.bought = bought.ok_or(TxError::LimitReached { what })?;
        Ok(())
    }

    pub(crate) fn create_group(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &CreateGroup,
    ) -> Result<Outcome> {
        self.signer(tx, ids)?;
        let parts: [&[u8]; 3] = [self.chain.as_bytes(), &k.admins[0].0[..], &k.salt];
        let id = GroupId::from_bytes(Tag::Group.hash(&parts));
        let now = self.time;
        let until = u64::from_be_bytes(k.salt[..8].try_into().unwrap());
        if until < now || until - now > 30 * DAY_MS {
            return Err(TxError::GroupUntil { now });
        }
        if self.groups.contains_key(&id) {
            return Err(TxError::GroupExists);
        }
        all_different(&k.admins)?;
        cosigned_by(&k.admin_signature.0[..], ids, &k.admins[0])?;
        cosigned_by(&k.control_signature.0[..], ids, &k.control)?;
        self.buy(k.budget, k.reserve)?;
        let group = MGroup {
            sponsor: tx.signer,
            created: now,
            until,
            last_post: now,
            last_advance: None,
            last_admin: None,
            mode: k.mode,
            epochs: vec![MEpoch {
                number: k.epoch,
                posting: k.posting.clone(),
                ended: None,
            }],
            control: k.control.clone(),
            commit: Digest::from_bytes([0; 32]),
            floor: k.epoch,
            admins: k.admins.clone(),
            budget: k.budget,
            reserve: k.reserve,
            succession: None,
            log: Vec::new(),
            dropped: 0,
        };
        self.groups.insert(id, group);
        self.touch(RecordKey::Group(id));
        Ok(Outcome::Group(id))
    }

    /// An admin's signature within its rate.
    fn by_admin(&mut self, id: &GroupId, admin: &Digest, ids: &TxIds, by: &[u8]) -> Result<()> {
        let now = self.time;
        let group = self.groups.get_mut(id).unwrap();
        let key = group.admins.iter().find(|key| key.digest() == *admin);
        let key = key.ok_or(TxError::NotAnAdmin)?;
        if by.is_empty() {
            return Err(TxError::SignatureRequired);
        }
        cosigned_by(by, ids, key)?;
        pause(
            "actions of one group's admins",
            group.last_admin,
            now,
            2_000,
        )?;
        group.last_admin = Some(now);
        Ok(())
    }

    pub(crate) fn advance_group(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &AdvanceGroup,
    ) -> Result<Outcome> {
        let (id, now, height) = (id_of(tx), self.time, self.height);
        let group = self.open_group(&id)?;
        let current = group.current().number;
        if k.epoch != current {
            return Err(TxError::WrongEpoch { current });
        }
        signed_by(tx, ids, &group.control)?;
        match (&k.admin, group.mode) {
            (Some((admin, signature)), _) => {
                self.by_admin(&id, admin, ids, &signature.0[..])?;
            }
            (None, Mode::AdminOnly) => return Err(TxError::AdminSignatureRequired),
            (None, Mode::Open) => {
                pause("advances of one group", group.last_advance, now, 10_000)?;
            }
        }
        let pieces = match &k.commit {
            Commit::Bytes(bytes) => vec![Tag::Chunk.hash(&[bytes])],
            Commit::Chunks(chunks) => {
                self.keep_chunks(chunks)?;
                chunks.iter().map(|id| *id.as_bytes()).collect()
            }
        };
        let commit = Digest::from_bytes(Tag::Commit.hash(&[&pieces.concat()]));
        let group = self.groups.get_mut(&id).unwrap();
        group.epochs.last_mut().unwrap().ended = Some(now);
        group.epochs.push(MEpoch {
            number: current + 1,
            posting: k.posting.clone(),
            ended: None,
        });
        group.control = k.control.clone();
        group.commit = commit;
        if k.removal {
            group.floor = current + 1;
        }
        group.last_advance = Some(now);
        let sequence = group.log.len() as u64;
        let entry = AdvanceEntry {
            sequence,
            time: Time::from_ms(now),
            height,
            action: ids.action,
            epoch: current + 1,
            commit,
            removal: k.removal,
            admin: k.admin.as_ref().map(|(admin, _)| *admin),
            tx: ids.tx,
        };
        group
            .log
            .push(Rc::new(MItem::Advance(entry, tx.to_bytes())));
        self.touch(RecordKey::Group(id));
        Ok(Outcome::Sequence(sequence))
    }

    fn keep_chunks(&mut self, chunks: &[ChunkId]) -> Result<()> {
        let now = self.time;
        let kept = now + self.parameters.retention_ms;
        for id in chunks {
            let chunk = self.chunks.get_mut(id).filter(|chunk| chunk.2 > now);
            chunk.ok_or(TxError::UnknownChunk { id: *id })?.2 = kept;
            self.touch(RecordKey::Chunk(*id));
        }
        Ok(())
    }

    pub(crate) fn set_mode(&mut self, tx: &Tx, ids: &TxIds, k: &SetMode) -> Result<Outcome> {
        let id = id_of(tx);
        self.open_group(&id)?;
        self.by_admin(&id, &k.admin, ids, &tx.signature)?;
        self.groups.get_mut(&id).unwrap().mode = k.mode;
        self.touch(RecordKey::Group(id));
        Ok(Outcome::Done)
    }

    pub(crate) fn set_admins(&mut self, tx: &Tx, ids: &TxIds, k: &SetAdmins) -> Result<Outcome> {
        let id = id_of(tx);
        let group = self.open_group(&id)?;
        let got = k.signers.len();
        if got * 2 <= group.admins.len() {
            let needed = group.admins.len() / 2 + 1;
            return Err(TxError::NotAMajority { got, needed });
        }
        let key_of = |signer: &Digest| group.admins.iter().find(|key| key.digest() == *signer);
        let keys: Option<Vec<_>> = k.signers.iter().map(key_of).collect();
        let keys = keys.ok_or(TxError::NotAnAdmin)?;
        signed_by(tx, ids, keys[0])?;
        for (key, signature) in keys[1..].iter().zip(&k.cosignatures) {
            cosigned_by(&signature.0[..], ids, key)?;
        }
        all_different(&k.admins)?;
        self.groups.get_mut(&id).unwrap().admins = k.admins.clone();
        self.touch(RecordKey::Group(id));
        Ok(Outcome::Done)
    }

    pub(crate) fn supersede(&mut self, tx: &Tx, ids: &TxIds, k: &Supersede) -> Result<Outcome> {
        let (id, now) = (id_of(tx), self.time);
        self.open_group(&id)?;
        self.by_admin(&id, &k.admin, ids, &tx.signature)?;
        if k.successor == id || self.open_group(&k.successor).is_err() {
            return Err(TxError::NoSuccessor);
        }
        if let Some(invitation) = k.invitation {
            self.keep_chunks(&[invitation])?;
        }
        self.groups.get_mut(&id).unwrap().succession = Some((k.successor, now, k.invitation));
        self.touch(RecordKey::Group(id));
        Ok(Outcome::Done)
    }

    pub(crate) fn group_post(&mut self, tx: &Tx, ids: &TxIds, k: &GroupPost) -> Result<Outcome> {
        let (id, now, height) = (id_of(tx), self.time, self.height);
        let group = self.open_group(&id)?;
        signed_by(tx, ids, &group.taken(k.epoch, now)?)?;
        let first = group.log.len() as u64;
        for (i, frame) in k.frames.iter().enumerate() {
            if let Some(sequence) = self.groups[&id].find(ids, i) {
                return Err(TxError::MessageKnown { sequence });
            }
            let (frame_id, body_hash) = ids.messages[i];
            let entry = PostEntry {
                sequence: first + i as u64,
                time: Time::from_ms(now),
                height,
                id: frame_id,
                epoch: k.epoch,
                body_hash,
                signature_hash: ids.signature,
            };
            let body = Body {
                ciphertext: frame.clone(),
                auth: Auth::Batch(first),
            };
            let batch = (i == 0).then(|| BatchAuth {
                valid_until: tx.valid_until,
                salt: tx.salt,
                messages: ids.messages.iter().map(|(id, _)| *id).collect(),
                signature: tx.signature.clone(),
            });
            let item = Rc::new(MItem::Frame(entry, body, batch));
            self.groups.get_mut(&id).unwrap().log.push(item);
        }
        self.groups.get_mut(&id).unwrap().last_post = now;
        self.touch(RecordKey::Group(id));
        Ok(Outcome::Sequence(first))
    }

    pub(crate) fn put_group_chunk(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &PutGroupChunk,
    ) -> Result<Outcome> {
        let (id, now) = (id_of(tx), self.time);
        let group = self.open_group(&id)?;
        signed_by(tx, ids, &group.taken(k.epoch, now)?)?;
        let id = ChunkId::from_bytes(Tag::Chunk.hash(&[&k.bytes]));
        let expires = now + self.parameters.retention_ms;
        let chunk = (tx.signer, k.bytes.clone(), expires);
        self.chunks.insert(id, chunk);
        self.touch(RecordKey::Chunk(id));
        Ok(Outcome::Chunk(id))
    }

    pub(crate) fn top_up(&mut self, tx: &Tx, ids: &TxIds, k: &TopUpGroup) -> Result<Outcome> {
        self.signer(tx, ids)?;
        let group = self.open_group(&k.group)?;
        let sums = (
            group.budget.checked_add(k.budget),
            group.reserve.checked_add(k.reserve),
        );
        let (Some(budget), Some(reserve)) = sums else {
            let what = "budget of one group";
            return Err(TxError::LimitReached { what });
        };
        self.buy(k.budget, k.reserve)?;
        let group = self.groups.get_mut(&k.group).unwrap();
        (group.budget, group.reserve) = (budget, reserve);
        self.touch(RecordKey::Group(k.group));
        Ok(Outcome::Done)
    }

    /// What a group's transaction weighs comes from what was bought for it.
    pub(crate) fn charge_group(&mut self, tx: &Tx, weight: u64) -> Result<()> {
        let id = id_of(tx);
        let old = self.time - self.groups[&id].created >= DAY_MS;
        self.count_day(weight, old)?;
        let admin = match &tx.kind {
            Kind::AdvanceGroup(k) => k.admin.is_some(),
            kind => matches!(
                kind,
                Kind::SetMode(_) | Kind::SetAdmins(_) | Kind::Supersede(_)
            ),
        };
        let group = self.groups.get_mut(&id).unwrap();
        if group.budget >= weight {
            group.budget -= weight;
        } else if admin && group.reserve >= weight {
            group.reserve -= weight;
        } else {
            return Err(TxError::BudgetUsedUp);
        }
        Ok(())
    }
}
