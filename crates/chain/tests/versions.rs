//! Past states judged by the model as it was then, and which are kept by a list.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    dead_code,
    reason = "in a test a panic is the verdict; the model has more to it than one test asks"
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

use std::collections::BTreeMap;

use people::{Chance, Fake};
use schedule::Schedule;
use session_chain::block::Builder;
use session_chain::genesis::Genesis;
use session_chain::proof::{MakeError, State};
use session_chain::tree::Tree;
use session_chain::versions::{AsOf, Limits, Past, Versions, cells_before};
use session_chain::view::{Changes, MemoryView, Table, View, entry_key};
use session_core::codec::{Decode, Encode};
use session_core::header::Header;
use session_core::ids::{BlockId, ChainId};
use session_core::log::{Entry, LogId};
use session_core::record::RecordKey;
use session_core::time::Time;
use state::Model;

/// Above every key.
const END: [u8; 70] = [0xff; 70];

/// A block as it was: header, model.
type Then = (Header, Model);

struct Run {
    header: Header,
    tree: Tree,
    view: MemoryView,
    versions: Versions,
    then: BTreeMap<u64, Then>,
}

impl Run {
    fn block(&mut self, schedule: &mut Schedule, model: &mut Model) {
        let pause = schedule.pause(&model.parameters);
        let time = Time::from_ms(model.time + pause);
        model.begin(time.ms());
        let (parameters, crypto) = (model.parameters, Fake { remembers: false });
        let (header, tree) = (self.header, self.tree.clone());
        let mut builder =
            Builder::new(header, tree, &self.view, parameters, &crypto, time).unwrap();
        let mut room = Model::ROOM;
        for _ in 0..schedule.chance.below(12) {
            let tx = schedule.next(model);
            let bytes = tx.to_bytes().len();
            let expected = model.apply(&tx, &mut room);
            let got = builder.push(tx.clone(), &tx.ids(&model.chain), bytes);
            assert_eq!(got.is_ok(), expected.is_ok());
        }
        let built = builder.finish();
        let before = cells_before(&self.view, &built.changes).unwrap();
        self.view.apply((*built.changes).clone());
        (self.header, self.tree) = (built.block.header, built.tree.clone());
        self.versions
            .advance(self.header, self.tree.clone(), before);
        self.then
            .insert(self.header.height, (self.header, model.clone()));
    }

    fn check(&self, past: &Past, chance: &mut Chance) {
        let (header, model) = &self.then[&past.header.height];
        assert_eq!(past.header, *header);
        let view = AsOf {
            base: &self.view,
            undo: &past.undo,
        };
        let state = State {
            header: *header,
            heads: Vec::new(),
            tree: &past.tree,
            view: &view,
        };
        let cells = model.cells();
        for table in [Table::Record, Table::Roster, Table::Keys] {
            let expected = cells.iter().filter(|((t, _), _)| *t == table);
            let expected: Vec<_> = expected.map(|((_, k), v)| (k.clone(), v.clone())).collect();
            let all = view.range(table, &[0], &END, usize::MAX).unwrap();
            assert!(all == expected, "{table:?} at {}", header.height);
            // Page by page, as members and receipts are read.
            let (mut from, mut paged) = (vec![0], Vec::new());
            loop {
                let page = view.range(table, &from, &END, 3).unwrap();
                let Some((last, _)) = page.last() else { break };
                from = last.iter().copied().chain([0]).collect();
                paged.extend(page);
            }
            assert!(paged == expected);
            for (key, value) in expected {
                assert_eq!(view.get(table, &key).unwrap().as_ref(), Some(&value));
                if table == Table::Record {
                    let key = RecordKey::from_bytes(&key).unwrap();
                    let proved = state.prove_record(key).unwrap().verify().unwrap();
                    assert_eq!((proved.header, proved.record), (*header, Some(value)));
                }
            }
        }
        // What came later is not there.
        for ((_, later), _) in self.view.cells().range((Table::Record, vec![0])..) {
            let known = cells.contains_key(&(Table::Record, later.clone()));
            if let (false, Ok(key)) = (known, RecordKey::from_bytes(later)) {
                let proved = state.prove_record(key).unwrap().verify().unwrap();
                assert_eq!(proved.record, None);
            }
        }
        self.check_logs(&state, model, chance);
    }

    fn check_logs(&self, state: &State<'_>, model: &Model, chance: &mut Chance) {
        let mut logs: Vec<(LogId, Vec<Entry>)> = Vec::new();
        for (id, s) in &model.sessions {
            let entries = s.log.iter().map(|m| Entry::Message(m.entry)).collect();
            logs.push((LogId::Session(*id), entries));
        }
        for (id, c) in &model.channels {
            let entries = c.log.iter().map(|m| Entry::Message(m.entry)).collect();
            logs.push((LogId::Channel(*id), entries));
        }
        for (id, a) in &model.accounts {
            for (log, entries) in [
                (LogId::Memberships(*id), &a.memberships),
                (LogId::Requests(*id), &a.requests),
            ] {
                let entries = entries.iter().map(|e| Entry::Membership(*e)).collect();
                logs.push((log, entries));
            }
        }
        for (log, entries) in logs {
            let count = entries.len() as u64;
            let from = chance.below(entries.len() + 1) as u64;
            let to = (from + chance.below(900) as u64).min(count);
            match state.prove_log(log, from, to) {
                Ok(proof) => {
                    let proved = proof.verify().unwrap().entries.unwrap();
                    assert_eq!((proved.from, proved.count), (from, count));
                    assert_eq!(proved.entries[..], entries[from as usize..to as usize]);
                }
                // Only what was dropped since, with its conversation or for its age.
                Err(MakeError::Pruned { .. }) => {
                    let key = (Table::Entry, entry_key(&log, 0));
                    assert!(!self.view.cells().contains_key(&key), "{log:?}");
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn every_kept_version_proves_what_the_model_said_then() {
    for seed in 1..25u64 {
        println!("seed {seed}");
        let mut schedule = Schedule::new(Chance(seed).next());
        let parameters = schedule::parameters(&mut schedule.chance);
        let allocations = schedule::allocations(&schedule.people, &parameters);
        let time = Time::from_ms(1_700_000_000_000);
        let chain = ChainId::from_bytes(schedule.chance.bytes());
        let mut model = Model::new(chain, parameters, time.ms(), &allocations);
        let genesis = Genesis {
            parameters,
            time,
            allocations,
            unknown_keys: Vec::new(),
        };
        let (header, changes, tree) = genesis.block(chain);
        let mut view = MemoryView::default();
        view.apply(changes);
        let limits = Limits {
            recent: 1 + schedule.chance.below(20),
            window_ms: schedule.chance.below(600_000) as u64,
            bytes: [200_000, usize::MAX][schedule.chance.below(2)],
        };
        let mut run = Run {
            header,
            tree: tree.clone(),
            view,
            versions: Versions::new(header, tree, limits),
            then: BTreeMap::from([(0, (header, model.clone()))]),
        };
        for _ in 0..45 {
            run.block(&mut schedule, &mut model);
            let heights: Vec<u64> = run.versions.heights().collect();
            assert_eq!(heights.last(), Some(&run.header.height));
            let height = *schedule.chance.pick(&heights).unwrap();
            let past = run.versions.at(height).unwrap();
            run.check(&past, &mut schedule.chance);
            let gone = (0..run.header.height).filter(|h| !heights.contains(h));
            assert!(gone.into_iter().all(|h| run.versions.at(h).is_none()));
        }
        for height in run.versions.heights().collect::<Vec<_>>() {
            let past = run.versions.at(height).unwrap();
            run.check(&past, &mut schedule.chance);
        }
    }
}

fn header(height: u64, time: u64) -> Header {
    Header {
        chain: ChainId::from_bytes([1; 32]),
        parent: BlockId::from_bytes([2; 32]),
        height,
        time: Time::from_ms(time),
        tx_root: [0; 32],
        count: 0,
        state_root: [0; 32],
    }
}

#[test]
fn the_latest_stay_and_before_them_the_last_of_each_second_for_a_while() {
    for seed in 0..40 {
        let mut chance = Chance(seed);
        let limits = Limits {
            recent: 1 + chance.below(9),
            window_ms: 20_000,
            bytes: usize::MAX,
        };
        let mut now = 1_000_000;
        let mut times = vec![now];
        let mut versions = Versions::new(header(0, now), Tree::new(), limits);
        for height in 1..400u64 {
            now += [0, 1, 150, 400, 1_000, 7_000][chance.below(6)];
            times.push(now);
            versions.advance(header(height, now), Tree::new(), Changes::new());
            // Slowly: each height by itself.
            let stays = |h: &u64| {
                let at = *h as usize;
                let latest = at + limits.recent >= times.len();
                let last = times
                    .get(at + 1)
                    .is_none_or(|next| next / 1_000 != times[at] / 1_000);
                latest || (last && now - times[at] <= limits.window_ms)
            };
            let expected: Vec<u64> = (0..=height).filter(stays).collect();
            assert_eq!(
                versions.heights().collect::<Vec<_>>(),
                expected,
                "seed {seed}"
            );
            assert_eq!(versions.len(), expected.len());
        }
    }
}

#[test]
fn bytes_are_bounded_and_the_oldest_go_first() {
    let limits = Limits {
        bytes: 100_000,
        ..Limits::default()
    };
    let mut versions = Versions::new(header(0, 0), Tree::new(), limits);
    let before = |n: u64| -> Changes {
        let key = (Table::Record, n.to_be_bytes().to_vec());
        Changes::from_iter([(key, Some(vec![1; 5_000]))])
    };
    for height in 1..300 {
        versions.advance(header(height, height), Tree::new(), before(height));
        assert!(versions.bytes() <= limits.bytes);
        let heights: Vec<u64> = versions.heights().collect();
        assert!(heights.windows(2).all(|two| two[0] + 1 == two[1]));
        assert_eq!(heights.last(), Some(&height));
    }
    assert_eq!(versions.len(), 14);
    // One block larger than all of it leaves the head alone.
    let key = (Table::Record, vec![9]);
    let huge = Changes::from_iter([(key, Some(vec![1; 200_000]))]);
    versions.advance(header(300, 300), Tree::new(), huge);
    assert_eq!((versions.len(), versions.bytes()), (1, 0));
    versions.restart(header(301, 301), Tree::new());
    assert_eq!(versions.heights().collect::<Vec<_>>(), [301]);
}
