//! Where channels begin. Their oldest leaves go when they are old, and no root says which are gone:
//! whoever gave a channel may have left younger ones out as well. So others are asked, and one that
//! has more of it, and shows it, is believed.

use session_chain::sync::{
    Objects, Part, Reply, Request, SyncError, before, begins_before, tiles_gone,
};
use session_chain::tree::first_bits;
use session_chain::view::{Table, View as _};
use session_core::codec::{Decode, Encode};
use session_core::ids::ChannelId;
use session_core::record::RecordKey;

use super::Peer;
use super::crew::{Failure, Refused};
use super::fetch::Job;

/// Peers that are asked about each channel.
const ASKED: usize = 3;

/// Channels read at once.
const PAGE: usize = 512;

impl Job<'_> {
    /// Asks about every channel that has lost leaves.
    pub(super) fn channels(&self) -> Result<(), Failure> {
        let of = |id| RecordKey::Channel(ChannelId::from_bytes(id)).to_bytes();
        let (mut from, to) = (of([0; 32]), of([0xff; 32]));
        loop {
            let page = self.view().range(Table::Record, &from, &to, PAGE)?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            from.clone_from(last);
            from.push(0);
            for (key, _) in page {
                self.crew.check_stop()?;
                if let RecordKey::Channel(id) =
                    RecordKey::from_bytes(&key).map_err(|error| Failure::Wrong(error.into()))?
                {
                    self.channel(id)?;
                }
            }
        }
    }

    fn channel(&self, id: ChannelId) -> Result<(), Failure> {
        let key = RecordKey::Channel(id);
        for peer in self.crew.some(ASKED) {
            if tiles_gone(&self.view(), id)? == 0 {
                return Ok(());
            }
            match self.begins_before(&peer, id) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::warn!(channel = %id, "a peer had left out leaves of a channel: taking it from another");
                    let part = self.part_of(key);
                    self.open(part)?;
                    match self.channel_from(&peer, key) {
                        Ok(()) => {}
                        Err(Refused::Own(failure)) => return Err(failure),
                        Err(refused) => {
                            self.crew.refuse(&peer, &refused);
                            let anybody = |peer: &Peer| self.channel_from(peer, key);
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
    fn begins_before(&self, peer: &Peer, id: ChannelId) -> Result<bool, Refused> {
        let key = RecordKey::Channel(id);
        let request = Request::Cells(self.part_of(key), Some(before(key)));
        let Reply::Cells(cells, _) = self.crew.ask(peer, &request)? else {
            return Err(SyncError::OtherAnswer.into());
        };
        Ok(begins_before(&self.view(), id, &cells)?)
    }

    fn part_of(&self, key: RecordKey) -> Part {
        let depth = self.depth();
        Part {
            depth,
            number: first_bits(&key.tree_key(), depth),
        }
    }

    /// Takes one channel over again.
    fn channel_from(&self, peer: &Peer, key: RecordKey) -> Result<(), Refused> {
        self.forget(key)?;
        let mut objects = Objects::new(vec![key]);
        self.cells_from(peer, self.part_of(key), &mut objects, Some(key))
    }
}
