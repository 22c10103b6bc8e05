//! A group in the random traffic: it is created, posted to, advanced, and changed by its admin.
//!
//! Its epochs' keys follow from its seed, so that whoever lost an answer knows the keys of the epoch
//! that the chain may have gone on to. What MLS would do is not part of it: commits are random bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use session_chain::tx::group::admin::{SetAdmins, SetMode};
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::post::GroupPost;
use session_chain::tx::group::{Cosignature, CreateGroup, as_signer};
use session_chain::tx::{Kind, SigningKey, Tx};
use session_core::group::{Mode, group_salt};
use session_core::ids::{ActionId, ChainId, GroupId, TxId};
use session_crypto::{Secret, SigningKey as SecretKey};

use crate::chance::Chance;
use crate::people::{Answer, Person, half_an_hour_ahead};

/// Code of the refusal of an advance from another epoch than the group's, negated.
const WRONG_EPOCH: u32 = 32_022;

/// What was answered to whom.
type Answers = [(ActionId, TxId, Answer)];

/// A group, and what its members would remember of it.
pub(crate) struct Group {
    id: GroupId,
    chain: ChainId,
    created: ActionId,
    seed: [u8; 32],
    admin: SecretKey,
    salt: AtomicU64,
    /// Advances that were submitted, with the epoch that each would end.
    advances: Vec<(ActionId, u64)>,
    /// The last thing that the admin signed: the chain takes one in two seconds.
    last_admin: Option<ActionId>,
}

fn public(key: &SecretKey) -> SigningKey {
    SigningKey(Box::new(*key.public_key().as_bytes()))
}

fn cosign(key: &SecretKey, action: &[u8; 32]) -> Cosignature {
    Cosignature(Box::new(*key.sign(action).unwrap().as_bytes()))
}

/// The key of an epoch: it posts and controls.
fn key_of(seed: &[u8; 32], epoch: u64) -> SecretKey {
    let mut seed = *seed;
    for (byte, epoch) in seed.iter_mut().zip(epoch.to_be_bytes()) {
        *byte ^= epoch;
    }
    SecretKey::from_seed(&Secret::new(seed)).unwrap()
}

impl Group {
    /// Opens a group.
    pub(crate) fn open(sponsor: &Person) -> (Self, Tx) {
        let seed = *sponsor.id().as_bytes();
        let (admin, key) = (key_of(&seed, 0), key_of(&seed, 1));
        let create = CreateGroup {
            admins: vec![public(&admin)],
            salt: group_salt(half_an_hour_ahead(), &[0; 24]),
            mode: Mode::AdminOnly,
            epoch: 1,
            posting: public(&key),
            control: public(&key),
            budget: 1 << 24,
            reserve: 0,
            admin_signature: Cosignature::blank(),
            control_signature: Cosignature::blank(),
        };
        let chain = sponsor.chain();
        let id = create.group_id(&chain);
        let mut tx = sponsor.sign(Kind::CreateGroup(create));
        let action = tx.signed_digest(&chain);
        if let Kind::CreateGroup(create) = &mut tx.kind {
            create.admin_signature = cosign(&admin, &action);
            create.control_signature = cosign(&key, &action);
        }
        let group = Self {
            id,
            chain,
            created: ActionId::from_bytes(action),
            seed,
            admin,
            salt: AtomicU64::new(0),
            advances: Vec::new(),
            last_admin: None,
        };
        (group, tx)
    }

    /// Whether it is there.
    pub(crate) fn stands(&self, answers: &Answers) -> bool {
        answer_to(answers, self.created).is_some_and(is_accepted)
    }

    /// Whether nobody knows if it was ever opened: then there is another one.
    pub(crate) fn is_lost(&self, answers: &Answers) -> bool {
        let answer = answer_to(answers, self.created);
        answer.is_some_and(|answer| !is_accepted(answer))
    }

    /// How many of its epochs are known to have ended.
    pub(crate) fn accepted_advances(&self, answers: &Answers) -> usize {
        let accepted = self
            .advances
            .iter()
            .filter(|(action, _)| answer_to(answers, *action).is_some_and(is_accepted));
        accepted.count()
    }

    /// What a member or the admin does next.
    pub(crate) fn next(&mut self, answers: &Answers, chance: &mut Chance, bytes: Vec<u8>) -> Tx {
        let epoch = self.epoch(answers);
        let waits = |action| answer_to(answers, action).is_none();
        if self.last_admin.is_some_and(waits) {
            return self.post(chance, epoch, bytes);
        }
        let admin = public(&self.admin).digest();
        let tx = match chance.below(6) {
            0..=1 => self.advance(chance, epoch, bytes),
            2 => {
                let mode = if chance.one_in(2) {
                    Mode::Open
                } else {
                    Mode::AdminOnly
                };
                self.by_admin(Kind::SetMode(SetMode { admin, mode }))
            }
            3 => self.by_admin(Kind::SetAdmins(SetAdmins {
                signers: vec![admin],
                admins: vec![public(&self.admin)],
                cosignatures: Vec::new(),
            })),
            _ => return self.post(chance, epoch, bytes),
        };
        self.last_admin = Some(tx.ids(&self.chain).action);
        tx
    }

    /// The epoch, as far as answers tell. A lost one is made good for by the refusal of the next.
    fn epoch(&self, answers: &Answers) -> u64 {
        let ended = self.advances.iter().filter(|(action, _)| {
            answer_to(answers, *action).is_some_and(|answer| match answer {
                Answer::Refused { code, .. } => *code == WRONG_EPOCH,
                Answer::Accepted { .. } => true,
                Answer::Pending | Answer::Lost(_) => false,
            })
        });
        1 + ended.map(|(_, epoch)| *epoch).max().unwrap_or(0)
    }

    fn unsigned(&self, kind: Kind) -> Tx {
        Tx {
            signer: as_signer(&self.id),
            valid_until: half_an_hour_ahead(),
            salt: self.salt.fetch_add(1, Ordering::SeqCst),
            kind,
            signature: Vec::new(),
        }
    }

    fn signed(&self, mut tx: Tx, key: &SecretKey) -> Tx {
        let action = tx.signed_digest(&self.chain);
        tx.signature = key.sign(&action).unwrap().as_bytes().to_vec();
        tx
    }

    /// A frame, now and then of the epoch before.
    fn post(&self, chance: &mut Chance, epoch: u64, frame: Vec<u8>) -> Tx {
        let late = u64::from(epoch > 1 && chance.one_in(4));
        let epoch = epoch - late;
        let frames = vec![frame];
        let tx = self.unsigned(Kind::GroupPost(GroupPost { epoch, frames }));
        self.signed(tx, &key_of(&self.seed, epoch))
    }

    fn advance(&mut self, chance: &mut Chance, epoch: u64, commit: Vec<u8>) -> Tx {
        let next = public(&key_of(&self.seed, epoch + 1));
        let mut tx = self.unsigned(Kind::AdvanceGroup(AdvanceGroup {
            epoch,
            commit: Commit::Bytes(commit),
            posting: next.clone(),
            control: next,
            removal: chance.one_in(3),
            admin: Some((public(&self.admin).digest(), Cosignature::blank())),
        }));
        let action = tx.signed_digest(&self.chain);
        if let Kind::AdvanceGroup(advance) = &mut tx.kind
            && let Some((_, signature)) = &mut advance.admin
        {
            *signature = cosign(&self.admin, &action);
        }
        self.advances.push((ActionId::from_bytes(action), epoch));
        self.signed(tx, &key_of(&self.seed, epoch))
    }

    fn by_admin(&self, kind: Kind) -> Tx {
        self.signed(self.unsigned(kind), &self.admin)
    }
}

fn answer_to(answers: &Answers, action: ActionId) -> Option<&Answer> {
    let mut found = answers.iter().filter(|(of, _, _)| *of == action);
    found.next_back().map(|(_, _, answer)| answer)
}

const fn is_accepted(answer: &Answer) -> bool {
    matches!(answer, Answer::Accepted { .. })
}
