//! Siblings, changed preferences, accepts and rejects, judged by applying the accepted branch alone.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    dead_code,
    reason = "in a test a panic is the verdict; people have more to them than one test asks"
)]

#[path = "model/people.rs"]
mod people;

use std::collections::{BTreeMap, HashMap};

use people::{Chance, Fake, Person, kem_key, signed, signing_key, unsigned};
use session_chain::block::{Block, BlockError, verify};
use session_chain::genesis::Genesis;
use session_chain::processing::{DecisionError, Processing};
use session_chain::tree::Tree;
use session_chain::tx::chunk::PutChunk;
use session_chain::tx::identity::{RegisterIdentity, RotateKeys};
use session_chain::tx::message::SendMessage;
use session_chain::tx::session::{CloseSession, CreateSession, NewParticipant};
use session_chain::tx::{Kind, Tx};
use session_chain::view::MemoryView;
use session_core::codec::Encode;
use session_core::header::Header;
use session_core::ids::{BlockId, ChainId, SessionId};
use session_core::log::Conversation;
use session_core::parameters::Parameters;
use session_core::time::{MINUTE_MS, Time};

const FAKE: Fake = Fake { remembers: false };

struct World {
    chance: Chance,
    people: Vec<Person>,
    chain: ChainId,
    parameters: Parameters,
    processing: Processing,
    view: MemoryView,
    /// Every undecided block by id, as bytes would bring it.
    blocks: HashMap<BlockId, Block>,
    /// The accepted branch alone.
    linear: (Header, Tree, MemoryView),
    sessions: Vec<SessionId>,
    newest: Option<BlockId>,
    salt: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let chain = ChainId::from_bytes([9; 32]);
        let parameters = Parameters {
            session_ttl_ms: MINUTE_MS,
            retention_ms: MINUTE_MS,
            ..Parameters::default()
        };
        let (time, allocations) = (Time::from_ms(1_000_000), BTreeMap::new());
        let genesis = Genesis {
            parameters,
            time,
            allocations,
            unknown_keys: Vec::new(),
        };
        let (header, changes, tree) = genesis.block(chain);
        let mut view = MemoryView::default();
        view.apply(changes);
        Self {
            chance: Chance(seed),
            people: (0..4)
                .map(|i| Person::new(&format!("person {i}")))
                .collect(),
            chain,
            parameters,
            processing: Processing::new(header, tree.clone(), parameters),
            view: view.clone(),
            blocks: HashMap::new(),
            linear: (header, tree, view),
            sessions: Vec::new(),
            newest: None,
            salt: 0,
        }
    }

    fn tx(&mut self, now: Time) -> Tx {
        let i = self.chance.below(self.people.len());
        let session = self.chance.pick(&self.sessions).copied();
        let session = session.unwrap_or(SessionId::from_bytes([0; 32]));
        let person = &self.people[i];
        let seed = format!("{} again", person.name);
        let rotated = signing_key(&seed);
        let kind = match self.chance.below(12) {
            0..4 => Kind::RegisterIdentity(RegisterIdentity {
                kem: person.kem(),
                signing: person.signing(),
                recovery: None,
            }),
            4 => Kind::RotateKeys(RotateKeys {
                kem: kem_key(&seed),
                signing: rotated.clone(),
                recovery: None,
            }),
            5..7 => {
                let other = &self.people[(i + 1) % self.people.len()];
                let with = |p: &Person| {
                    let (kem, signing) = (Some(p.kem()), Some(p.signing()));
                    NewParticipant {
                        account: p.account,
                        kem,
                        signing,
                    }
                };
                let mut participants = vec![with(person), with(other)];
                participants.sort_by_key(|p| p.account);
                Kind::CreateSession(CreateSession { participants })
            }
            7 => Kind::CloseSession(CloseSession { session }),
            8..11 => {
                let conversation = Conversation::Session(session);
                let ciphertext = vec![self.chance.below(40) as u8];
                Kind::SendMessage(SendMessage {
                    conversation,
                    ciphertext,
                })
            }
            _ => Kind::PutChunk(PutChunk {
                bytes: vec![self.chance.below(5) as u8],
            }),
        };
        self.salt += 1;
        let key = if self.chance.one_in(4) {
            rotated
        } else {
            person.signing()
        };
        let tx = unsigned(person.account, now.after_ms(MINUTE_MS), self.salt, kind);
        signed(tx, &self.chain, &key, 0)
    }

    /// Builds on a random block and has it verified, now and again.
    fn grow(&mut self) {
        let mut known: Vec<BlockId> = self.blocks.keys().copied().collect();
        known.sort();
        known.push(self.processing.head_id());
        // Often on the newest, so that branches grow long.
        let newest = self.newest.filter(|id| self.blocks.contains_key(id));
        let on = *self.chance.pick(&known).unwrap();
        let on = newest.filter(|_| !self.chance.one_in(3)).unwrap_or(on);
        self.processing.prefer(on).unwrap();
        let now = self
            .processing
            .head()
            .time
            .after_ms(self.chance.below(15_000) as u64);
        let txs: Vec<Tx> = (0..self.chance.below(8)).map(|_| self.tx(now)).collect();
        let built = self
            .processing
            .build(&self.view, &FAKE, now, |mut builder| {
                for tx in txs {
                    let (ids, bytes) = (tx.ids(&self.chain), tx.to_bytes().len());
                    // Many do not apply on this branch.
                    let _ = builder.push(tx, &ids, bytes);
                }
                builder.finish()
            });
        let built = built.unwrap();
        assert_eq!(built.block.header.parent, on);
        for applied in &built.applied {
            if let session_core::record::Outcome::Session(id) = applied.outcome {
                self.sessions.push(id);
            }
        }
        let (block, id) = (built.block.clone(), built.id);
        if self.chance.one_in(3) {
            self.processing.insert(built);
        }
        for _ in 0..=self.chance.below(2) {
            let verified = self
                .processing
                .verify(block.clone(), &self.view, &FAKE, None);
            assert_eq!(verified.unwrap(), id);
        }
        self.blocks.insert(id, block);
        self.newest = Some(id);
        assert_eq!(self.processing.len(), self.blocks.len());
        assert_eq!(self.processing.get(&id).unwrap().id, id);
    }

    /// Accepts one child of the head and rejects everything that cannot follow it.
    fn decide(&mut self) {
        let head = self.processing.head_id();
        let (mut next, mut later) = (Vec::new(), Vec::new());
        for (id, block) in &self.blocks {
            if block.header.parent == head {
                next.push(*id)
            } else {
                later.push(*id)
            }
        }
        next.sort();
        later.sort();
        if let Some(id) = self.chance.pick(&later) {
            assert_eq!(
                self.processing.accept(*id).err().unwrap(),
                DecisionError::NotNext(*id)
            );
        }
        let Some(id) = self.chance.pick(&next).copied() else {
            return;
        };
        let built = self.processing.accept(id).unwrap();
        self.view.apply((*built.changes).clone());
        let block = self.blocks.remove(&id).unwrap();
        self.follow(block);
        assert_eq!(self.processing.head_id(), id);
        let unknown = DecisionError::NotProcessing(id);
        assert_eq!(self.processing.accept(id).err().unwrap(), unknown);
        assert_eq!(self.processing.reject(id).err().unwrap(), unknown);
        let mut lost: Vec<BlockId> = self
            .blocks
            .keys()
            .filter(|b| !self.descends(b, id))
            .copied()
            .collect();
        lost.sort();
        while !lost.is_empty() {
            let id = lost.swap_remove(self.chance.below(lost.len()));
            self.processing.reject(id).unwrap();
            let orphan = self.blocks.remove(&id).unwrap();
            let verified = self.processing.verify(orphan, &self.view, &FAKE, None);
            assert!(matches!(verified, Err(BlockError::OtherParent(_))));
            assert_eq!(
                self.processing.prefer(id),
                Err(DecisionError::NotProcessing(id))
            );
        }
        assert_eq!(self.processing.len(), self.blocks.len());
        let preference = self.processing.preference();
        let known = self.blocks.contains_key(&preference);
        assert!(known || preference == self.processing.head_id());
    }

    fn descends(&self, id: &BlockId, from: BlockId) -> bool {
        let mut at = *id;
        while let Some(block) = self.blocks.get(&at) {
            at = block.header.parent;
        }
        at == from
    }

    fn follow(&mut self, block: Block) {
        let (header, tree, view) = &mut self.linear;
        let built = verify(
            block,
            *header,
            tree.clone(),
            &*view,
            self.parameters,
            &FAKE,
            None,
        )
        .unwrap();
        view.apply((*built.changes).clone());
        (*header, *tree) = (built.block.header, built.tree);
        assert_eq!(view.cells(), self.view.cells());
        assert_eq!(tree.root(), self.processing.tree().root());
        assert_eq!(*header, *self.processing.head());
    }
}

#[test]
fn accepted_branches_agree_with_applying_them_alone() {
    for seed in 1..40 {
        println!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..30 {
            for _ in 0..world.chance.below(6) {
                world.grow();
            }
            world.decide();
        }
        assert!(world.processing.head().height > 5);
    }
}

#[test]
fn a_block_that_says_anything_else_is_refused() {
    let mut world = World::new(1);
    for _ in 0..4 {
        world.grow();
        world.decide();
    }
    let (header, tree, view) = world.linear.clone();
    let now = header.time.after_ms(5);
    let txs: Vec<Tx> = (0..60).map(|_| world.tx(now)).collect();
    let built = world
        .processing
        .build(&world.view, &FAKE, now, |mut builder| {
            for tx in txs {
                let (ids, bytes) = (tx.ids(&world.chain), tx.to_bytes().len());
                let _ = builder.push(tx, &ids, bytes);
            }
            builder.finish()
        });
    let block = built.unwrap().block;
    assert!(block.txs.len() > 1);
    let check = |bend: &dyn Fn(&mut Block), clock: Option<Time>| {
        let mut block = block.clone();
        bend(&mut block);
        let parameters = world.parameters;
        verify(block, header, tree.clone(), &view, parameters, &FAKE, clock).map(|built| built.id)
    };
    assert_eq!(check(&|_| (), Some(now)).unwrap(), block.header.id());
    let early = Some(Time::from_ms(now.ms() - 10_000));
    assert!(check(&|_| (), early).is_ok());
    let earlier = Some(Time::from_ms(now.ms() - 10_001));
    let ahead = check(&|_| (), earlier);
    assert!(matches!(
        ahead,
        Err(BlockError::TimeAhead { ahead_ms: 10_001 })
    ));
    let other = ChainId::from_bytes([1; 32]);
    let error = check(&|b| b.header.chain = other, None);
    assert!(matches!(error, Err(BlockError::OtherChain(_))));
    let error = check(&|b| b.header.parent = BlockId::from_bytes([1; 32]), None);
    assert!(matches!(error, Err(BlockError::OtherParent(_))));
    let error = check(&|b| b.header.height += 1, None);
    assert!(matches!(error, Err(BlockError::WrongHeight { .. })));
    let error = check(
        &|b| b.header.time = Time::from_ms(header.time.ms() - 1),
        None,
    );
    assert!(matches!(error, Err(BlockError::TimeBeforeParent)));
    let error = check(&|b| b.header.state_root[0] ^= 1, None);
    assert!(matches!(error, Err(BlockError::StateRoot)));
    let error = check(&|b| b.header.tx_root[0] ^= 1, None);
    assert!(matches!(error, Err(BlockError::TxRoot)));
    let error = check(&|b| b.header.count += 1, None);
    assert!(matches!(error, Err(BlockError::TxRoot)));
    let error = check(&|b| drop(b.txs.pop()), None);
    assert!(matches!(error, Err(BlockError::TxRoot)));
    let twice = |b: &mut Block| b.txs.push(b.txs[0].clone());
    let last = block.txs.len();
    assert!(matches!(check(&twice, None), Err(BlockError::Tx { index, .. }) if index == last));
}
