//! Where channels and groups begin. Their oldest leaves go when they are old, and no root says which
//! are gone: whoever gave one may have left younger ones out as well. So others are asked, and one that
//! has more of it, and shows it, is believed.

use session_chain::sync::{
    Objects, Part, Reply, Request, SyncError, before, begins_before, tiles_gone,
};
use session_chain::tree::first_bits;
use session_chain::view::{Table, View as _};
use session_core::codec::{Decode, Encode};
use session_core::ids::{ChannelId, GroupId};
use session_core::record::RecordKey;

use super::Peer;
use super::crew::{Failure, Refused};
use super::fetch::Job;

/// Peers that are asked about each of them.
const ASKED: usize = 3;

/// Records read at once.
const PAGE: usize = 512;

impl Job<'_> {
    /// Asks about every channel and group that has lost leaves.
    pub(super) fn channels(&self) -> Result<(), Failure> {
        let channel = |id| RecordKey::Channel(ChannelId::from_bytes(id));
        self.beginnings(channel([0; 32]), channel([0xff; 32]))?;
        let group = |id| RecordKey::Group(GroupId::from_bytes(id));
        self.beginnings(group([0; 32]), group([0xff; 32]))
    }

    fn beginnings(&self, first: RecordKey, last: RecordKey) -> Result<(), Failure> {
        let (mut from, to) = (first.to_bytes(), last.to_bytes());
        loop {
            let page = self.view().range(Table::Record, &from, &to, PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            from.clone_from(last);
            from.push(0);
            for (key, _) in page {
                self.crew.check_stop()?;
                let key = RecordKey::from_bytes(&key);
                self.beginning(key.map_err(|error| Failure::Wrong(error.into()))?)?;
            }
        }
    }

    fn beginning(&self, key: RecordKey) -> Result<(), Failure> {
        for peer in self.crew.some(ASKED) {
            if tiles_gone(&self.view(), key)? == 0 {
                return Ok(());
            }
            match self.begins_before(&peer, key) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::warn!(record = ?key, "a peer had left out leaves of a log: taking it from another");
                    let part = self.part_of(key);
                    self.open(part)?;
                    match self.log_from(&peer, key) {
                        Ok(()) => {}
                        Err(Refused::Own(failure)) => return Err(failure),
                        Err(refused) => {
                            self.crew.refuse(&peer, &refused);
                            let anybody = |peer: &Peer| self.log_from(peer, key);
                            self.crew.by_somebody(anybody)?;
                        }
                    }
                    self.close(part)?;
                }
                Err(Refused::Own(failure)) => return Err(failure),
                Err(refused) => self.crew.refuse(&peer, &refused),
            }
        }
        Ok(())
    }

    /// Whether a peer has leaves before those that were taken over.
    fn begins_before(&self, peer: &Peer, key: RecordKey) -> Result<bool, Refused> {
        let request = Request::Cells(self.part_of(key), Some(before(key)));
        let Reply::Cells(cells, _) = self.crew.ask(peer, &request)? else {
            return Err(SyncError::OtherAnswer.into());
        };
        Ok(begins_before(&self.view(), key, &cells)?)
    }

    fn part_of(&self, key: RecordKey) -> Part {
        let depth = self.depth();
        Part {
            depth,
            number: first_bits(&key.tree_key(), depth),
        }
    }

    /// Takes one channel or group over again.
    fn log_from(&self, peer: &Peer, key: RecordKey) -> Result<(), Refused> {
        self.forget(key)?;
        let mut objects = Objects::new(vec![key]);
        self.cells_from(peer, self.part_of(key), &mut objects, Some(key))
    }
}
