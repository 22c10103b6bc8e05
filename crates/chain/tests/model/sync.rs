//! A state that is taken over from others is the state, whatever they send.

use session_chain::sync::{
    Cell, DEPTH_MAX, Index, Objects, Part, Records, Reply, Request, Rules, Source, SyncError,
    before, begins_before, cells_of, derive, tiles_gone,
};
use session_chain::tree::Branch;
use session_chain::view::{MemoryView, Overlay, Table, View, entry_key};
use session_core::codec::{Decode, Encode};
use session_core::limits::TILE_LEAVES;
use session_core::log::LogId;
use session_core::record::RecordKey;

use super::people::Chance;

/// What may go wrong with an answer on its way.
#[derive(Clone, Copy)]
pub(crate) enum Trouble {
    None,
    /// Once in so many answers, something in it is changed.
    Lies(usize),
}

fn bend(reply: &mut Reply, chance: &mut Chance) {
    match reply {
        Reply::Top(_, branches) => {
            let at = chance.below(branches.len());
            branches[at] = match branches[at] {
                Branch::Empty => Branch::Leaf(chance.bytes()),
                Branch::Leaf(hash) if chance.one_in(2) => Branch::Inner(hash),
                Branch::Leaf(_) | Branch::Inner(_) => Branch::Empty,
            };
        }
        Reply::Records(records, done) => match chance.below(4) {
            0 if !records.is_empty() => drop(records.remove(chance.below(records.len()))),
            1 if records.len() > 1 => records.swap(0, 1),
            2 if !records.is_empty() => {
                let at = chance.below(records.len());
                records.push(records[at].clone());
            }
            _ => *done = !*done,
        },
        Reply::Cells(cells, done) => match chance.below(5) {
            0 | 1 if !cells.is_empty() => drop(cells.remove(chance.below(cells.len()))),
            2 if cells.len() > 1 => {
                let at = chance.below(cells.len() - 1);
                cells.swap(at, at + 1);
            }
            3 if !cells.is_empty() => {
                let at = chance.below(cells.len());
                let other = chance.below(cells.len());
                cells[at].value = cells[other].value.clone();
            }
            _ => *done = !*done,
        },
        Reply::Block(bytes) => bytes.push(0),
    }
}

struct Wire<'a> {
    source: &'a Source<'a>,
    chance: &'a mut Chance,
    trouble: Trouble,
    lied: bool,
    /// Liars that were found out and replaced.
    found: u64,
    /// Honest peers that were replaced.
    given_up: u64,
}

impl Wire<'_> {
    fn ask(&mut self, request: &Request) -> Result<Reply, SyncError> {
        let request = Request::from_bytes(&request.to_bytes()).unwrap();
        let mut reply = self.source.answer(&request).unwrap();
        let lies = matches!(self.trouble, Trouble::Lies(n) if self.chance.one_in(n));
        let mut bytes = reply.to_bytes();
        if lies {
            self.lied = true;
            if self.chance.one_in(2) {
                let at = self.chance.below(bytes.len());
                bytes[at] ^= 1 << self.chance.below(8);
            } else {
                bend(&mut reply, self.chance);
                bytes = reply.to_bytes();
            }
        }
        Ok(Reply::from_bytes(&bytes)?)
    }
}

fn take(wire: &mut Wire<'_>, rules: &Rules<'_>) -> Result<MemoryView, SyncError> {
    let Reply::Top(depth, branches) = wire.ask(&Request::Top)? else {
        return Err(SyncError::OtherAnswer);
    };
    let root = Branch::above(&branches).ok_or(SyncError::OtherRoot)?;
    if root.hash() != rules.header.state_root || depth > DEPTH_MAX {
        return Err(SyncError::OtherRoot);
    }
    let mut view = MemoryView::default();
    let parts = (0u32..).zip(branches);
    let parts: Vec<_> = parts
        .map(|(number, branch)| (Part { depth, number }, branch))
        .collect();
    for (part, branch) in &parts {
        let mut records = Records::new(*part, *branch);
        loop {
            let Reply::Records(more, done) = wire.ask(&Request::Records(*part, records.after()))?
            else {
                return Err(SyncError::OtherAnswer);
            };
            let done = records.take(&more, done)?;
            for (key, record) in more {
                let change = ((Table::Record, key.to_bytes()), Some(record));
                view.apply([change].into_iter().collect());
            }
            if done {
                break;
            }
        }
    }
    let index = Index::of(&view)?;
    for (part, _) in &parts {
        let mut objects = Objects::new(index.part(*part, None)?);
        let mut last: Option<Cell> = None;
        for round in 0.. {
            assert!(round < 100_000, "no end of a part");
            // Another peer goes on now and then, from the last record that is whole.
            if wire.given_up < 5 && wire.chance.one_in(9) {
                wire.given_up += 1;
                last = give_up(&mut objects, &mut view)?;
            }
            let after = objects.after(last.as_ref());
            let mut over = Overlay::new(&view);
            let request = Request::Cells(*part, after);
            let mut next = None;
            let taken = wire.ask(&request).and_then(|reply| match reply {
                Reply::Cells(cells, done) => {
                    next = cells.last().cloned();
                    objects.take(cells, done, &mut over, rules)
                }
                _ => Err(SyncError::OtherAnswer),
            });
            let changes = over.into_changes();
            match taken {
                Ok(done) => {
                    last = next.or(last);
                    view.apply(changes);
                    if done {
                        break;
                    }
                }
                // The liar is dropped and another goes on, which may lie as well.
                Err(_) if wire.lied && wire.found < 9 && wire.chance.one_in(2) => {
                    wire.found += 1;
                    last = give_up(&mut objects, &mut view)?;
                }
                Err(error) => return Err(error),
            }
        }
    }
    let mut after = None;
    loop {
        let (changes, next) = derive(&view, after, rules)?;
        view.apply(changes);
        after = next;
        if after.is_none() {
            return Ok(view);
        }
    }
}

/// Forgets what came of the record that is not whole; there is no last cell then.
fn give_up(objects: &mut Objects, view: &mut MemoryView) -> Result<Option<Cell>, SyncError> {
    if let Some(key) = objects.give_up() {
        for (table, from, to) in cells_of(&key) {
            let cells = view.range(table, &from, &to, usize::MAX)?;
            let gone = cells.into_iter().map(|(key, _)| ((table, key), None));
            view.apply(gone.collect());
        }
    }
    Ok(None)
}

/// What no root covers, and apply never reads: when keys were rotated, the time and salt of a
/// batch whose sender has other keys by now, and whether somebody who is registered was named with
/// keys.
fn is_bare(table: Table, key: &[u8], is_there: bool) -> bool {
    match (table, key.first()) {
        (Table::Keys, Some(2)) => true,
        (Table::Keys, Some(4)) => is_there,
        (Table::Body, _) => key.len() == 42 && is_there,
        _ => false,
    }
}

/// Takes the state over; answers whether somebody lied, and was found out.
pub(crate) fn is_taken_over(
    source: &MemoryView,
    tree: &session_chain::tree::Tree,
    rules: &Rules<'_>,
    chance: &mut Chance,
    trouble: Trouble,
    at: &str,
) -> Option<String> {
    let index = Index::of(source).unwrap();
    // One cell at a time only where there are few.
    let sizes = [1, 300, 5_000, 1 << 20];
    let small = if source.cells().len() < 1_000 { 0 } else { 2 };
    let reply_bytes = sizes[small + chance.below(sizes.len() - small)];
    let source_of = Source {
        view: source,
        tree,
        index: &index,
        block: b"",
        reply_bytes,
    };
    let mut wire = Wire {
        source: &source_of,
        chance,
        trouble,
        lied: false,
        found: 0,
        given_up: 0,
    };
    match take(&mut wire, rules) {
        Ok(view) => {
            for (cell, value) in source.cells() {
                let got = view.cells().get(cell);
                let bare = wire.lied && is_bare(cell.0, &cell.1, got.is_some());
                assert!(
                    got == Some(value) || bare,
                    "{at}: cell {cell:?} was not taken over"
                );
            }
            for (table, key) in view.cells().keys() {
                let known = source.cells().contains_key(&(*table, key.clone()));
                assert!(known, "{at}: cell {table:?} {key:?} is nobody's");
            }
            (wire.found > 0).then(|| "ReplacedAndTakenOver".to_owned())
        }
        Err(error) => {
            assert!(wire.lied, "{at}: honest, and refused: {error}");
            Some(format!("{error:?}"))
        }
    }
}

/// Whoever leaves out leaves of a channel or a group that are not old is found out by whoever has
/// them. Answers how many of them could lose one more tile.
pub(crate) fn what_is_left_out_is_shown_by_others(
    source: &MemoryView,
    tree: &session_chain::tree::Tree,
    rules: &Rules<'_>,
    chance: &mut Chance,
) -> u64 {
    let mut shown = 0;
    for (table, key) in source.cells().keys() {
        let Ok(id) = RecordKey::from_bytes(key) else {
            continue;
        };
        let log = match id {
            RecordKey::Channel(id) => LogId::Channel(id),
            RecordKey::Group(id) => LogId::Group(id),
            _ => continue,
        };
        let gone = tiles_gone(source, id).unwrap();
        let (from, to) = (gone * TILE_LEAVES, (gone + 1) * TILE_LEAVES);
        let last = source.get(Table::Entry, &entry_key(&log, to - 1)).unwrap();
        if *table != Table::Record || last.is_none() {
            continue;
        }
        let mut short = source.clone();
        for table in [Table::Entry, Table::Body] {
            let cells = source.range(
                table,
                &entry_key(&log, from),
                &entry_key(&log, to),
                usize::MAX,
            );
            let gone = cells
                .unwrap()
                .into_iter()
                .map(|(key, _)| ((table, key), None));
            short.apply(gone.collect());
        }
        let ask = |view: &MemoryView| {
            let index = Index::of(view).unwrap();
            let source = Source {
                view,
                tree,
                index: &index,
                block: b"",
                reply_bytes: 256 << 10,
            };
            let part = Part {
                depth: 0,
                number: 0,
            };
            let request = Request::Cells(part, Some(before(id)));
            match source.answer(&request).unwrap() {
                Reply::Cells(cells, _) => cells,
                other => panic!("{other:?}"),
            }
        };
        // Nothing in it is false: it is believed, until somebody is asked who has more.
        let index = Index::of(&short).unwrap();
        let lie = Source {
            view: &short,
            tree,
            index: &index,
            block: b"",
            reply_bytes: 200_000,
        };
        let trouble = Trouble::None;
        let taken = take(
            &mut Wire {
                source: &lie,
                chance,
                trouble,
                lied: false,
                found: 0,
                given_up: 0,
            },
            rules,
        )
        .unwrap();
        assert_eq!(tiles_gone(&taken, id).unwrap(), gone + 1);
        assert!(begins_before(&taken, id, &ask(source)).unwrap());
        assert!(!begins_before(&taken, id, &ask(&short)).unwrap());
        assert!(!begins_before(source, id, &ask(source)).unwrap());
        assert!(!begins_before(source, id, &ask(&short)).unwrap());
        let mut bent = ask(source);
        let first = bent.iter().position(|cell| cell.span == 1).unwrap();
        bent[first + chance.below(256)].value[9] ^= 1;
        assert!(begins_before(&taken, id, &bent).is_err());
        shown += 1;
    }
    shown
}

/// A key that nothing belongs to has no cells.
pub(crate) fn every_cell_belongs_to_a_record(view: &MemoryView) {
    let mut belonging = 0;
    for (table, key) in view.cells().keys() {
        if *table == Table::Record {
            for (table, from, to) in cells_of(&RecordKey::from_bytes(key).unwrap()) {
                belonging += view.range(table, &from, &to, usize::MAX).unwrap().len();
            }
        }
    }
    let derived = |table| matches!(table, Table::Record | Table::Message | Table::Deadline);
    let others = view.cells().keys().filter(|(table, _)| !derived(*table));
    assert_eq!(belonging, others.count());
}
