//! Past states that are still provable (`spec/vm.md` §6): the last 256 blocks, the last block of
//! each second for ten minutes, fewer when memory is short.
//!
//! A tree is path-copying, so an old one costs what changed since. Records are read as of then
//! through what they were before each later block:
//!
//! ```text
//! version 7 ── cells before 8 ── version 8 ── cells before 9 ── version 9 = store
//! ```
//!
//! A cell of version 7 is the first that is found to the right of it, else the store's. Logs only
//! grow at their end, so their entries and tiles are the store's; a range that was dropped
//! meanwhile is answered as pruned. Nothing of this is on disk: after a start only the head is
//! provable.

use std::collections::VecDeque;
use std::ops::Bound;
use std::sync::Arc;

use session_core::header::Header;
use session_core::time::{MINUTE_MS, SECOND_MS};

use crate::tree::Tree;
use crate::view::{Cells, Changes, Table, View, ViewError, range_over};

/// Bytes that a cell costs in a map beside its own.
const CELL_COST: usize = 96;

/// Bytes of tree nodes that an old version holds for each record that changed after it: a path of
/// twenty copied nodes, as with a million records.
const PATH_COST: usize = 2_048;

/// How much of the past is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Latest versions, all of them.
    pub recent: usize,
    /// Before those the last of each second, for this long before the head.
    pub window_ms: u64,
    /// Bytes of old cells and tree nodes; the oldest versions go first.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            recent: 256,
            window_ms: 10 * MINUTE_MS,
            bytes: 64 << 20,
        }
    }
}

struct Version {
    header: Header,
    tree: Tree,
    /// Cells that changed between this version and the next kept one, as they are in this one.
    undo: Arc<Changes>,
}

/// The versions that are kept, up to the last accepted block.
pub struct Versions {
    limits: Limits,
    kept: VecDeque<Version>,
    bytes: usize,
}

/// Whether a table's cells are kept as they were; the others only grow, or are pruned.
const fn is_kept(table: Table) -> bool {
    matches!(table, Table::Record | Table::Roster | Table::Keys)
}

/// Cells that a block changes, as they are before it.
///
/// # Errors
/// [`ViewError`].
pub fn cells_before(view: &dyn View, changes: &Changes) -> Result<Changes, ViewError> {
    let cells = changes.iter().filter(|(table, ..)| is_kept(*table));
    cells
        .map(|(table, key, _)| Ok(((table, key.to_vec()), view.get(table, key)?)))
        .collect()
}

fn cost(undo: &Changes) -> usize {
    let cell = |(table, key, value): (Table, &[u8], Option<&[u8]>)| {
        let path = if table == Table::Record { PATH_COST } else { 0 };
        CELL_COST + path + key.len() + value.map_or(0, <[u8]>::len)
    };
    undo.iter().map(cell).sum()
}

impl Versions {
    /// Begins with one version: the last accepted block.
    pub fn new(header: Header, tree: Tree, limits: Limits) -> Self {
        let mut this = Self {
            limits,
            kept: VecDeque::new(),
            bytes: 0,
        };
        this.restart(header, tree);
        this
    }

    /// Forgets the past: when what was before a block is not known.
    pub fn restart(&mut self, header: Header, tree: Tree) {
        self.kept.clear();
        self.bytes = 0;
        self.kept.push_back(Version {
            header,
            tree,
            undo: Arc::default(),
        });
    }

    /// Goes on to the next accepted block. `before` are the cells that it changed, as
    /// [`cells_before`] found them.
    pub fn advance(&mut self, header: Header, tree: Tree, before: Changes) {
        if let Some(last) = self.kept.back_mut() {
            self.bytes += cost(&before);
            last.undo = Arc::new(before);
        }
        self.kept.push_back(Version {
            header,
            tree,
            undo: Arc::default(),
        });
        self.thin();
        self.forget();
    }

    /// The version that is no longer among the latest stays if it is the last of its second.
    fn thin(&mut self) {
        let Some(at) = self.kept.len().checked_sub(self.limits.recent.max(1) + 1) else {
            return;
        };
        let second = |at: usize| {
            let version = self.kept.get(at)?;
            Some(version.header.time.ms() / SECOND_MS)
        };
        // The next one is among the latest, so it is its very successor.
        if second(at) != second(at + 1) {
            return;
        }
        let Some(gone) = self.kept.remove(at) else {
            return;
        };
        self.bytes -= cost(&gone.undo);
        let Some(before) = at.checked_sub(1).and_then(|at| self.kept.get_mut(at)) else {
            return;
        };
        self.bytes -= cost(&before.undo);
        let undo = Arc::make_mut(&mut before.undo);
        undo.keep_under(&gone.undo);
        self.bytes += cost(undo);
    }

    fn forget(&mut self) {
        let Some(head) = self.kept.back().map(|version| version.header.time) else {
            return;
        };
        while self.kept.len() > 1
            && let Some(oldest) = self.kept.front()
        {
            let aged = self.kept.len() > self.limits.recent
                && head.since(oldest.header.time) > self.limits.window_ms;
            if !aged && self.bytes <= self.limits.bytes {
                return;
            }
            self.bytes -= cost(&oldest.undo);
            self.kept.pop_front();
        }
    }

    /// Versions that are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept, which never happens.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Bytes of old cells, and of tree nodes by estimate.
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Heights of the kept versions, ascending.
    pub fn heights(&self) -> impl Iterator<Item = u64> {
        self.kept.iter().map(|version| version.header.height)
    }

    /// The state after the block of that height, if it is kept.
    pub fn at(&self, height: u64) -> Option<Past> {
        let at = self
            .kept
            .binary_search_by_key(&height, |version| version.header.height)
            .ok()?;
        let version = self.kept.get(at)?;
        let later = self.kept.range(at..);
        Some(Past {
            header: version.header,
            tree: version.tree.clone(),
            undo: later.map(|version| version.undo.clone()).collect(),
        })
    }
}

/// A state that was once the last accepted one.
#[derive(Debug, Clone)]
pub struct Past {
    /// Header of its block.
    pub header: Header,
    /// State tree after that block.
    pub tree: Tree,
    /// What later blocks changed, as it was before each.
    pub undo: Vec<Arc<Changes>>,
}

/// Cells as of a past block, over a later state.
pub struct AsOf<'a, V> {
    /// The later state: of the newest block whose undo is given, or the one before it.
    pub base: V,
    /// What changed since, as it was; the earliest counts.
    pub undo: &'a [Arc<Changes>],
}

impl<V: View> View for AsOf<'_, V> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, ViewError> {
        if self.undo.is_empty() || !is_kept(table) {
            return self.base.get(table, key);
        }
        match self.undo.iter().find_map(|undo| undo.get(table, key)) {
            Some(value) => Ok(value.map(<[u8]>::to_vec)),
            None => self.base.get(table, key),
        }
    }

    fn range(
        &self,
        table: Table,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Cells, ViewError> {
        if self.undo.is_empty() || !is_kept(table) || from >= to {
            return self.base.range(table, from, to, limit);
        }
        let bounds = (Bound::Included(from), Bound::Excluded(to));
        let mut undone = Changes::new();
        for undo in self.undo {
            for (key, value) in undo.table(table).range::<[u8], _>(bounds) {
                if undone.get(table, key).is_none() {
                    undone.insert((table, key.clone()), value.clone());
                }
            }
        }
        range_over(&undone, &self.base, table, from, to, limit)
    }
}
