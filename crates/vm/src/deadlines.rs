//! The next deadlines, kept in memory: every block asks what is due, and mostly nothing is. A
//! store far away would read a page of the future each time to say so.

use std::collections::BTreeSet;

use session_chain::view::{Cells, Changes, Table, View, ViewError};

/// Deadlines read at once.
const PAGE: usize = 1_024;

/// Deadlines kept at most; of more the later ones are forgotten.
const KEPT: usize = 4 * PAGE;

/// Above every key.
const END: &[u8] = &[0xff; 64];

/// The first deadlines of the newest state.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    keys: BTreeSet<Vec<u8>>,
    /// Below it every deadline is in `keys`; none: nothing is known.
    until: Option<Vec<u8>>,
}

impl Deadlines {
    /// What [`View::range`] of the store answers for deadlines.
    pub(crate) fn range(
        &mut self,
        store: &dyn View,
        from: &[u8],
        to: &[u8],
        limit: usize,
    ) -> Result<Cells, ViewError> {
        if !self.knows(to) {
            self.fill(store)?;
        }
        if !self.knows(to) {
            return store.range(Table::Deadline, from, to, limit);
        }
        if from >= to {
            return Ok(Vec::new());
        }
        let due = self.keys.range(from.to_vec()..to.to_vec()).take(limit);
        Ok(due.map(|key| (key.clone(), Vec::new())).collect())
    }

    fn knows(&self, to: &[u8]) -> bool {
        self.until.as_deref().is_some_and(|until| to <= until)
    }

    fn fill(&mut self, store: &dyn View) -> Result<(), ViewError> {
        let page = store.range(Table::Deadline, &[], END, PAGE)?;
        let whole = page.len() < PAGE;
        self.keys = page.into_iter().map(|(key, _)| key).collect();
        self.until = if whole {
            Some(END.to_vec())
        } else {
            self.keys.last().cloned()
        };
        Ok(())
    }

    /// Takes over what a durable block has changed.
    pub(crate) fn update(&mut self, changes: &Changes) {
        for (key, value) in changes.table(Table::Deadline) {
            match value {
                Some(_) if self.until.as_ref().is_some_and(|until| key < until) => {
                    self.keys.insert(key.clone());
                }
                Some(_) => {}
                None => {
                    self.keys.remove(key);
                }
            }
        }
        if self.keys.len() > KEPT {
            let later = self.keys.iter().nth(PAGE).cloned();
            if let Some(later) = later {
                let _forgotten = self.keys.split_off(&later);
                self.until = Some(later);
            }
        }
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use session_chain::view::MemoryView;

    use super::*;

    proptest! {
        #[test]
        fn it_answers_what_the_store_answers(
            before in prop::collection::btree_set(0u16..9_000, 0..3_000),
            blocks in prop::collection::vec(
                (prop::collection::vec((0u16..9_000, any::<bool>()), 0..400), 0u16..9_500, 0usize..30, prop::bool::weighted(0.05)),
                1..25,
            ),
        ) {
            let cell = |key: u16| (Table::Deadline, key.to_be_bytes().to_vec());
            let mut store = MemoryView::default();
            store.apply(before.into_iter().map(|key| (cell(key), Some(Vec::new()))).collect());
            let mut front = Deadlines::default();
            for (changes, to, limit, clear) in blocks {
                let changes: Changes = changes
                    .into_iter()
                    .map(|(key, there)| (cell(key), there.then(Vec::new)))
                    .collect();
                store.apply(changes.clone());
                front.update(&changes);
                if clear {
                    front.clear();
                }
                let to = to.to_be_bytes();
                prop_assert_eq!(
                    front.range(&store, &[0], &to, limit).unwrap(),
                    store.range(Table::Deadline, &[0], &to, limit).unwrap()
                );
                prop_assert!(front.keys.len() <= KEPT);
            }
        }
    }
}
