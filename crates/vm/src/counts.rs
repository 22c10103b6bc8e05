//! How many sessions, channels and groups the state holds: counted once at the start, then block by block,
//! so that nobody who asks after a node's health makes it read a million records.

use std::sync::atomic::Ordering;

use session_chain::view::{Changes, Table};
use session_core::codec::Decode;
use session_core::record::RecordKey;

use crate::metrics::Metrics;

/// Sessions, channels and groups, or how many there are more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    sessions: i64,
    channels: i64,
    groups: i64,
}

impl Counts {
    /// Counts one record, by its key.
    pub(crate) fn add(&mut self, key: &[u8], by: i64) {
        match RecordKey::from_bytes(key) {
            Ok(RecordKey::Session(_)) => self.sessions += by,
            Ok(RecordKey::Channel(_)) => self.channels += by,
            Ok(RecordKey::Group(_)) => self.groups += by,
            Ok(
                RecordKey::Parameters
                | RecordKey::Quotas
                | RecordKey::Account(_)
                | RecordKey::Member(..)
                | RecordKey::Acknowledgement(..)
                | RecordKey::OpenRequests(..)
                | RecordKey::Chunk(_)
                | RecordKey::KeyPackages(_)
                | RecordKey::TakenKeyPackages(..)
                | RecordKey::Action(_),
            )
            | Err(_) => {}
        }
    }

    /// What a block adds and takes away; `before` are the changed cells as they were.
    pub(crate) fn of_block(changes: &Changes, before: &Changes) -> Self {
        let mut counts = Self::default();
        let records = changes.iter().filter(|(table, ..)| *table == Table::Record);
        for (table, key, value) in records {
            let was = before.get(table, key).flatten().is_some();
            let by = i64::from(value.is_some()) - i64::from(was);
            if by != 0 {
                counts.add(key, by);
            }
        }
        counts
    }

    /// Adds them to what the node tells.
    pub(crate) fn tell(self, metrics: &Metrics) {
        for (counter, by) in [
            (&metrics.sessions, self.sessions),
            (&metrics.channels, self.channels),
            (&metrics.groups, self.groups),
        ] {
            // There is one writer.
            let now = counter.load(Ordering::Relaxed).saturating_add_signed(by);
            counter.store(now, Ordering::Relaxed);
        }
    }
}
