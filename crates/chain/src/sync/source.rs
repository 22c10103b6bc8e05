//! The side that gives.

use session_core::codec::{Decode, Encode};
use session_core::hash::Tag;
use session_core::record::RecordKey;

use super::span::{Span, spans_in};
use super::{Cell, Cursor, DEPTH_MAX, PART_RECORDS, Part, Reply, Request};
use crate::tree::{Tree, first_bits};
use crate::view::{Table, View, ViewError};

/// Records read at once.
const PAGE: usize = 4_096;

/// Cells read at once: of the largest, four megabytes.
const CELLS: usize = 16;

/// Bytes that a cell costs beside its own.
const CELL_BYTES: usize = 24;

/// The records of a state in the order of their tree keys: some 60 bytes for each.
pub struct Index {
    /// First eight bytes of the tree key, and where the record key begins.
    places: Vec<(u64, u32)>,
    /// A length, and the record key.
    keys: Vec<u8>,
}

fn tree_key(key: &[u8]) -> [u8; 32] {
    Tag::Key.hash(&[key])
}

fn first_word(hash: &[u8; 32]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(hash.split_at(8).0);
    u64::from_be_bytes(word)
}

impl Index {
    /// Reads every record.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn of(view: &dyn View) -> Result<Self, ViewError> {
        let (mut places, mut keys) = (Vec::new(), Vec::new());
        let mut from = Vec::new();
        loop {
            let page = view.range(Table::Record, &from, &[0xff; 80], PAGE)?;
            for (key, _) in &page {
                // Keys have at most 66 bytes; beyond four gigabytes of them there is no index.
                let (Ok(place), Ok(len)) = (u32::try_from(keys.len()), u8::try_from(key.len()))
                else {
                    return Err(ViewError::Missing(Table::Record));
                };
                places.push((first_word(&tree_key(key)), place));
                keys.push(len);
                keys.extend_from_slice(key);
            }
            let Some((last, _)) = page.into_iter().next_back() else {
                break;
            };
            from = last;
            from.push(0);
        }
        let mut index = Self { places, keys };
        let mut places = std::mem::take(&mut index.places);
        places.sort_unstable_by(|a, b| {
            let key = |place: &(u64, u32)| tree_key(index.key(place.1));
            a.0.cmp(&b.0).then_with(|| key(a).cmp(&key(b)))
        });
        index.places = places;
        Ok(index)
    }

    fn key(&self, at: u32) -> &[u8] {
        let rest = self.keys.get(at as usize..).unwrap_or_default();
        let Some((len, rest)) = rest.split_first() else {
            return &[];
        };
        rest.get(..usize::from(*len)).unwrap_or_default()
    }

    /// Records.
    pub const fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Depth at which parts have [`PART_RECORDS`] records, or the greatest.
    pub fn depth(&self) -> u8 {
        let parts = self.places.len() / PART_RECORDS;
        let bits = usize::BITS - parts.leading_zeros();
        u8::try_from(bits).unwrap_or(DEPTH_MAX).min(DEPTH_MAX)
    }

    /// Keys of one part, in their order, from the one after `after` on.
    ///
    /// # Errors
    /// [`ViewError::Damaged`].
    pub fn part(&self, part: Part, after: Option<&RecordKey>) -> Result<Vec<RecordKey>, ViewError> {
        let bits = |word: u64| first_bits(&word_hash(word), part.depth);
        let from = self.places.partition_point(|at| bits(at.0) < part.number);
        let to = self.places.partition_point(|at| bits(at.0) <= part.number);
        let after = after.map(RecordKey::tree_key);
        let mut keys = Vec::new();
        for (_, at) in self.places.get(from..to).unwrap_or_default() {
            let key = RecordKey::from_bytes(self.key(*at))?;
            if after.is_none_or(|after| key.tree_key() > after) {
                keys.push(key);
            }
        }
        Ok(keys)
    }
}

fn word_hash(word: u64) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.split_at_mut(8).0.copy_from_slice(&word.to_be_bytes());
    hash
}

/// A state as of one block, to give away.
pub struct Source<'a> {
    /// Its cells.
    pub view: &'a dyn View,
    /// Its tree.
    pub tree: &'a Tree,
    /// Its records.
    pub index: &'a Index,
    /// Stored form of the block.
    pub block: &'a [u8],
    /// Bytes of a reply after which nothing more goes into it: [`REPLY_BYTES`](super::REPLY_BYTES).
    pub reply_bytes: usize,
}

impl Source<'_> {
    /// Answers.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn answer(&self, request: &Request) -> Result<Reply, ViewError> {
        Ok(match request {
            Request::Top => {
                let depth = self.index.depth();
                Reply::Top(depth, self.tree.branches(depth))
            }
            Request::Records(part, after) => self.records(*part, after.as_ref())?,
            Request::Cells(part, after) => self.cells(*part, after.as_ref())?,
            Request::Block => Reply::Block(self.block.to_vec()),
        })
    }

    fn records(&self, part: Part, after: Option<&RecordKey>) -> Result<Reply, ViewError> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for key in self.index.part(part, after)? {
            if bytes >= self.reply_bytes {
                return Ok(Reply::Records(records, false));
            }
            let record = self.view.get(Table::Record, &key.to_bytes())?;
            let record = record.ok_or(ViewError::Missing(Table::Record))?;
            bytes += record.len() + CELL_BYTES + RecordKey::LEN_MAX;
            records.push((key, record));
        }
        Ok(Reply::Records(records, true))
    }

    fn cells(&self, part: Part, after: Option<&Cursor>) -> Result<Reply, ViewError> {
        let mut page = Page {
            cells: Vec::new(),
            left: self.reply_bytes,
        };
        // First the rest of the record in which the page before ended.
        let begun = after.and_then(|after| Some((after.record, after.cell.as_ref()?)));
        if let Some((record, (span, suffix))) = begun {
            let spans = spans_in(self.view, &record)?;
            let at = usize::from(*span);
            if !page.fill(self.view, record, &spans, at, Some(suffix))? {
                return Ok(Reply::Cells(page.cells, false));
            }
        }
        for record in self.index.part(part, after.map(|after| &after.record))? {
            let spans = spans_in(self.view, &record)?;
            if !page.fill(self.view, record, &spans, 0, None)? {
                return Ok(Reply::Cells(page.cells, false));
            }
        }
        Ok(Reply::Cells(page.cells, true))
    }
}

struct Page {
    cells: Vec<Cell>,
    left: usize,
}

impl Page {
    /// Adds the cells of a record from the span `at` on, of that one after `after`; false when the
    /// page is full before.
    fn fill(
        &mut self,
        view: &dyn View,
        record: RecordKey,
        spans: &[Span],
        at: usize,
        mut after: Option<&Vec<u8>>,
    ) -> Result<bool, ViewError> {
        for (number, span) in (0u8..).zip(spans).skip(at) {
            let mut from = match after.take() {
                Some(suffix) => {
                    let mut from = span.key(suffix);
                    from.push(0);
                    from
                }
                None => span.prefix.clone(),
            };
            loop {
                let found = view.range(span.table, &from, &span.end(), CELLS)?;
                let more = found.len() == CELLS;
                for (key, value) in found {
                    if self.left == 0 {
                        return Ok(false);
                    }
                    let suffix = key.get(span.prefix.len()..).unwrap_or_default().to_vec();
                    let bytes = CELL_BYTES + suffix.len() + value.len();
                    self.left = self.left.saturating_sub(bytes);
                    from = key;
                    self.cells.push(Cell {
                        record,
                        span: number,
                        suffix,
                        value,
                    });
                }
                if !more {
                    break;
                }
                from.push(0);
            }
        }
        Ok(true)
    }
}
