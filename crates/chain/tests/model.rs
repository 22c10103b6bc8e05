//! The chain judged by a slow and obvious model of it, under random schedules.
//!
//! `SESSION_MODEL_CASES` runs more schedules, `SESSION_MODEL_SEED` begins at another seed.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

#[path = "model/channel_rules.rs"]
mod channel_rules;
#[path = "model/group_rules.rs"]
mod group_rules;
#[path = "model/group_schedule.rs"]
mod group_schedule;
#[path = "model/key_package_rules.rs"]
mod key_package_rules;
#[path = "model/people.rs"]
mod people;
#[path = "model/proofs.rs"]
mod proofs;
#[path = "model/rules.rs"]
mod rules;
#[path = "model/schedule.rs"]
mod schedule;
#[path = "model/session_rules.rs"]
mod session_rules;
#[path = "model/state.rs"]
mod state;
#[path = "model/sync.rs"]
mod sync;

use std::collections::BTreeMap;

use people::{Chance, Fake};
use schedule::Schedule;
use session_chain::block::{Block, Builder, Built, StoredBlock, tree_changes, verify};
use session_chain::genesis::Genesis;
use session_chain::proof::State;
use session_chain::sweep::is_due;
use session_chain::sync::Rules;
use session_chain::tree::Tree;
use session_chain::tx::Tx;
use session_chain::view::{Changes, MemoryView, Table};
use session_core::codec::{Decode, DecodeError, Encode};
use session_core::header::Header;
use session_core::ids::ChainId;
use session_core::parameters::{Parameters, Rate};
use session_core::time::Time;
use state::Model;
use sync::Trouble;

/// How often each answer was given: a schedule that never reaches a rule proves nothing about it.
type Answers = BTreeMap<String, u64>;

/// A store and its state tree.
struct Node {
    header: Header,
    view: MemoryView,
    tree: Tree,
    crypto: Fake,
}

impl Node {
    fn accept(&mut self, built: &Built) {
        self.view.apply((*built.changes).clone());
        self.tree = built.tree.clone();
        self.header = built.block.header;
    }
}

fn name_of(debug: &str) -> String {
    // Each of these says something else.
    let debug = debug.strip_prefix("StalePost(").unwrap_or(debug);
    let end = debug.find([' ', '(', '{']).unwrap_or(debug.len());
    debug[..end].to_owned()
}

fn assert_same_cells(model: &Model, view: &MemoryView, at: &str) {
    let expected = model.cells();
    for (cell, value) in &expected {
        let got = view.cells().get(cell);
        assert_eq!(got, Some(value), "{at}: cell {cell:?}");
    }
    for cell in view.cells().keys() {
        assert!(
            expected.contains_key(cell),
            "{at}: cell {cell:?} should not be there"
        );
    }
}

struct Case {
    seed: u64,
    parameters: Parameters,
    schedule: Schedule,
    builder: Node,
    verifier: Node,
    model: Model,
    stored: Vec<(StoredBlock, Block)>,
    /// States that were not level, and states that were taken over.
    taken_over: (u64, u64),
    /// Channels and groups of which a peer left out what others showed.
    left_out: u64,
    /// Why others were not.
    refused: Answers,
}

impl Case {
    fn new(seed: u64) -> Self {
        let mut schedule = Schedule::new(seed);
        let mut parameters = schedule::parameters(&mut schedule.chance);
        if schedule.busy_channels || schedule.has_one_group() {
            parameters.account_weight = Rate::UNLIMITED;
            parameters.weight_per_day = u64::MAX;
        }
        let allocations = schedule::allocations(&schedule.people, &parameters);
        let time = Time::from_ms(1_700_000_000_000 + schedule.chance.below(1 << 30) as u64);
        let chain = ChainId::from_bytes(schedule.chance.bytes());
        let model = Model::new(chain, parameters, time.ms(), &allocations);
        let genesis = Genesis {
            parameters,
            time,
            allocations,
            unknown_keys: Vec::new(),
        };
        let (header, changes, tree) = genesis.block(chain);
        let node = |remembers| {
            let mut view = MemoryView::default();
            view.apply(changes.clone());
            Node {
                header,
                view,
                tree: tree.clone(),
                crypto: Fake { remembers },
            }
        };
        let (builder, verifier) = (node(true), node(false));
        Self {
            seed,
            parameters,
            schedule,
            builder,
            verifier,
            model,
            stored: Vec::new(),
            taken_over: (0, 0),
            left_out: 0,
            refused: Answers::new(),
        }
    }

    fn block(&mut self, answers: &mut Answers) {
        let pause = self.schedule.pause(&self.parameters);
        let time = Time::from_ms(self.model.time + pause);
        // A clock that lies behind the parent does not matter.
        let back = self.schedule.chance.below(3) as u64;
        let clock = if pause == 0 {
            Time::from_ms(time.ms() - back)
        } else {
            time
        };
        self.model.begin(time.ms());
        let node = &self.builder;
        let (header, tree) = (node.header, node.tree.clone());
        let mut builder = Builder::new(
            header,
            tree,
            &node.view,
            self.parameters,
            &node.crypto,
            clock,
        )
        .unwrap();
        let mut room = Model::ROOM;
        let mut pushed = 0;
        for i in 0..self.schedule.chance.below(12) {
            let tx = self.schedule.next(&self.model);
            let at = format!(
                "seed {} height {} tx {i}: signature {} until {:?} by {}: {:?}",
                self.seed,
                self.model.height,
                tx.signature.len(),
                tx.valid_until,
                tx.signer,
                tx.kind
            );
            let bytes = tx.to_bytes();
            match Tx::from_bytes(&bytes) {
                Ok(read) => assert!(read == tx, "{at}"),
                // A roster out of order does not even decode; the rules refuse it all the same.
                Err(DecodeError::NotAscending { .. }) => {}
                Err(error) => panic!("{error}: {at}"),
            }
            let expected = self.model.apply(&tx, &mut room);
            let got = builder.push(tx.clone(), &tx.ids(&self.model.chain), bytes.len());
            let got = got.map(|applied| applied.outcome);
            assert_eq!(format!("{got:?}"), format!("{expected:?}"), "{at}");
            let answer = match &got {
                Ok(_) => format!("{} applied", tx.kind.name()),
                Err(error) => name_of(&format!("{error:?}")),
            };
            *answers.entry(answer).or_default() += 1;
            pushed += usize::from(got.is_ok());
        }
        let built = builder.finish();
        assert_eq!(built.block.txs.len(), pushed);
        self.check(&built);
    }

    fn check(&mut self, built: &Built) {
        let at = format!("seed {} height {}", self.seed, self.model.height);
        let bytes = built.block.to_bytes();
        let block = Block::from_bytes(&bytes).expect("what was built decodes");
        assert_eq!(block, built.block);
        let node = &self.verifier;
        let tree = node.tree.clone();
        let (view, crypto) = (&node.view, &node.crypto);
        let verified = verify(
            block,
            node.header,
            tree,
            view,
            self.parameters,
            crypto,
            None,
        )
        .expect(&at);
        assert_eq!(verified.id, built.id, "{at}");
        assert_eq!(verified.changes, built.changes, "{at}");
        assert_eq!(verified.applied, built.applied, "{at}");
        self.builder.accept(built);
        self.verifier.accept(&verified);
        assert_same_cells(&self.model, &self.builder.view, &at);
        assert_same_cells(&self.model, &self.verifier.view, &at);
        self.check_root(&at);
        self.check_stored(built, &at);
        let chance = &mut self.schedule.chance;
        if chance.one_in(4) {
            let (header, view) = (self.builder.header, &self.builder.view);
            let state = State {
                header,
                heads: Vec::new(),
                tree: &self.builder.tree,
                view,
            };
            proofs::records_are_provable(&state, view, chance);
            proofs::logs_are_provable(&state, &self.model, chance);
        }
        if self.schedule.chance.one_in(20) {
            self.check_taken_over(&at);
        }
    }

    /// Where nothing is due, the state can be taken over from peers, and not changed by them.
    fn check_taken_over(&mut self, at: &str) {
        let node = &self.verifier;
        if is_due(&node.view, node.header.time).unwrap() {
            self.taken_over.0 += 1;
            return;
        }
        sync::every_cell_belongs_to_a_record(&node.view);
        let rules = Rules {
            header: node.header,
            parameters: self.parameters,
            bodies_since: Time::default(),
            crypto: &node.crypto,
        };
        let chance = &mut self.schedule.chance;
        let (view, tree) = (&node.view, &node.tree);
        self.left_out += sync::what_is_left_out_is_shown_by_others(view, tree, &rules, chance);
        for trouble in [Trouble::None, Trouble::Lies(3), Trouble::Lies(40)] {
            match sync::is_taken_over(view, tree, &rules, chance, trouble, at) {
                None => self.taken_over.1 += 1,
                Some(error) => {
                    *self.refused.entry(name_of(&error)).or_default() += 1;
                }
            }
        }
    }

    /// The root is that of a tree built at once from every record.
    fn check_root(&self, at: &str) {
        let cells = self.builder.view.cells().iter();
        let all: Changes = cells
            .map(|(cell, value)| (cell.clone(), Some(value.clone())))
            .collect();
        assert!(all.clone().into_iter().all(|((_, key), _)| !key.is_empty()));
        let rebuilt = Tree::new().update(tree_changes(&all));
        assert_eq!(rebuilt.root(), self.builder.header.state_root, "{at}");
        assert_eq!(rebuilt.root(), self.builder.tree.root(), "{at}");
    }

    /// The stored form restores the block, later the block or nothing.
    fn check_stored(&mut self, built: &Built, at: &str) {
        let view = &self.builder.view;
        let stored = StoredBlock::of(built);
        assert_eq!(
            StoredBlock::from_bytes(&stored.to_bytes()).as_ref(),
            Ok(&stored),
            "{at}"
        );
        assert_eq!(
            stored.restore(view).unwrap().as_ref(),
            Some(&built.block),
            "{at}"
        );
        for cell in stored.bodies() {
            assert!(view.cells().contains_key(&(Table::Body, cell)), "{at}");
        }
        self.stored.push((stored, built.block.clone()));
        if let Some((stored, block)) = self.schedule.chance.pick(&self.stored)
            && let Some(restored) = stored.restore(view).unwrap()
        {
            assert_eq!(&restored, block, "{at}");
        }
    }
}

fn from_env(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(default)
}

/// Answers that every default run must have given.
const REACHED: [&str; 73] = [
    "AcceptSession applied",
    "AcknowledgeMessages applied",
    "ChannelMembers applied",
    "CloseChannel applied",
    "CloseSession applied",
    "CreateChannel applied",
    "CreateSession applied",
    "PutChunk applied",
    "RegisterIdentity applied",
    "RegisterLegacy applied",
    "RenewSession applied",
    "RevokeIdentity applied",
    "RotateKeys applied",
    "SendBatch applied",
    "SendMessage applied",
    "Transfer applied",
    "CreateGroup applied",
    "AdvanceGroup applied",
    "SetMode applied",
    "SetAdmins applied",
    "Supersede applied",
    "GroupPost applied",
    "TopUpGroup applied",
    "PutGroupChunk applied",
    "PublishKeyPackages applied",
    "TakeKeyPackages applied",
    "AdminSignatureRequired",
    "AdminTwice",
    "Ahead",
    "AlreadyAccepted",
    "AlreadyAcknowledged",
    "AlreadyMember",
    "AlreadyRegistered",
    "BatchOnly",
    "BelowFloor",
    "BudgetUsedUp",
    "Duplicate",
    "Expired",
    "GroupExists",
    "GroupIdle",
    "GroupSuperseded",
    "GroupUntil",
    "InsufficientBalance",
    "InvalidKey",
    "InvalidSignature",
    "KeyMissing",
    "KeyPackageExpiry",
    "KeyPackageKnown",
    "KeysNextBlock",
    "LastOwner",
    "LegacyRefused",
    "LimitReached",
    "Malformed",
    "MessageKnown",
    "NoKeyPackages",
    "NoSuccessor",
    "NotAMajority",
    "NotActive",
    "NotAnAdmin",
    "NotThatMany",
    "NotTheKeysAccount",
    "OtherKeyRegistered",
    "Over",
    "PostsOnly",
    "RateLimited",
    "Revoked",
    "SessionFull",
    "SignatureRequired",
    "Unauthorized",
    "UnknownChunk",
    "UnknownGroup",
    "WrongEpoch",
    "ValidTooLong",
];

/// Lies about a state that every default run must have come to.
const REFUSED: [&str; 10] = [
    "Disorder",
    "Log",
    "Malformed",
    "OtherAnswer",
    "OtherCell",
    "OtherRecords",
    "OtherRoot",
    "ReplacedAndTakenOver",
    "StrangeCell",
    "Withheld",
];

#[test]
fn the_chain_agrees_with_the_obvious_model_under_random_schedules() {
    let cases = from_env("SESSION_MODEL_CASES", 40);
    let first = from_env("SESSION_MODEL_SEED", 1);
    let (mut answers, mut dropped, mut dropped_of_groups) = (Answers::new(), 0, 0);
    let mut epochs = 0;
    let (mut taken_over, mut left_out, mut refused) = ((0, 0), 0, Answers::new());
    for seed in first..first + cases {
        println!("seed {seed}");
        let mut case = Case::new(Chance(seed).next());
        for _ in 0..60 {
            case.block(&mut answers);
        }
        dropped += case
            .model
            .channels
            .values()
            .map(|c| c.dropped)
            .sum::<usize>()
            / 256;
        let groups = case.model.groups.values();
        epochs = groups
            .clone()
            .map(|g| g.epochs.len())
            .fold(epochs, usize::max);
        dropped_of_groups += groups.map(|g| g.dropped).sum::<usize>() / 256;
        taken_over.0 += case.taken_over.0;
        taken_over.1 += case.taken_over.1;
        left_out += case.left_out;
        for (error, count) in case.refused {
            *refused.entry(error).or_default() += count;
        }
    }
    println!(
        "not level {}, taken over {}, refused {refused:#?}",
        taken_over.0, taken_over.1
    );
    println!(
        "{answers:#?}\ntiles dropped {dropped}, of groups {dropped_of_groups}, epochs {epochs}"
    );
    if first == 1 && cases >= 40 {
        for answer in REACHED {
            assert!(answers.contains_key(answer), "no schedule came to {answer}");
        }
        assert!(dropped > 0, "no channel lost a leaf");
        assert!(dropped_of_groups > 0, "no group lost a leaf");
        assert!(epochs > 17, "no group forgot an epoch: {epochs}");
        assert!(taken_over.1 > 100, "{taken_over:?}");
        assert!(left_out > 0, "nothing had a tile to leave out");
        for error in REFUSED {
            assert!(refused.contains_key(error), "no lie came to {error}");
        }
    }
}
