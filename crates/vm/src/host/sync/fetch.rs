//! The side that takes: several peers at once, each for whole parts, none believed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use session_chain::block::{Block, StoredBlock};
use session_chain::sync::{
    Index, Objects, Part, Records, Reply, Request, Rules, SyncError, before, cells_of, derive,
};
use session_chain::tree::Branch;
use session_chain::view::{Changes, Overlay, Table, View as _};
use session_core::codec::{Decode, Encode};
use session_core::record::RecordKey;
use session_core::time::{MINUTE_MS, Time};
use session_storage::{Batch, Staging, StoreError};
use tokio::sync::watch;

use super::crew::{Crew, Failure, Refused};
use super::progress::{Progress, Stage};
use super::{Peer, Peers, Summary};
use crate::host::consensus::Consensus;
use crate::lock::lock;
use crate::opening::rebuild;
use crate::store::{self, StoreView};

/// Parts that are fetched at once.
const WORKERS: usize = 4;

/// Bytes written at once.
const WRITE_BYTES: usize = 4 << 20;

/// Peers may have clocks that differ by this from ours when they prune bodies.
const CLOCKS_MS: u64 = 10 * MINUTE_MS;

/// Cells that are deleted at once.
const DELETE_CELLS: usize = 4_096;

/// Where taking over stands, for whoever waits for its end.
pub(crate) struct Syncing {
    ended: watch::Sender<bool>,
    stop: Arc<AtomicBool>,
    /// Held by whoever works on the other place.
    place: Mutex<()>,
}

impl Default for Syncing {
    fn default() -> Self {
        Self {
            ended: watch::Sender::new(false),
            stop: Arc::default(),
            place: Mutex::default(),
        }
    }
}

impl Syncing {
    /// Waits until a state was taken over, or given up.
    pub(crate) async fn ended(&self) {
        let mut ended = self.ended.subscribe();
        // The sender is this one.
        let _gone = ended.wait_for(|ended| *ended).await;
    }

    /// Nobody waits any more.
    pub(crate) fn reset(&self) {
        self.ended.send_replace(false);
    }

    /// Ends it: what was taken over is kept for the next start.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The state that was being taken over when the process ended.
pub(crate) fn ongoing(consensus: &Consensus) -> Option<Summary> {
    let staging = consensus.store().staging()?;
    let note = staging.note().ok()??;
    Some(Progress::from_bytes(&note).ok()?.summary)
}

/// Whether something is left in the other place that nobody goes on from.
///
/// # Errors
/// [`StoreError`].
pub(crate) fn is_untidy(consensus: &Consensus) -> Result<bool, StoreError> {
    let Some(staging) = consensus.store().staging() else {
        return Ok(false);
    };
    Ok(staging.note()?.is_none() && !staging.is_empty()?)
}

/// Empties the other place, unless somebody is going on there.
pub(crate) fn tidy(consensus: &Consensus) {
    let Some(staging) = consensus.store().staging() else {
        return;
    };
    let _one = lock(&consensus.syncing.place);
    let cleared = match staging.note() {
        Ok(Some(_)) => return,
        Ok(None) => staging.clear(),
        Err(error) => Err(error),
    };
    if let Err(error) = cleared {
        tracing::warn!(%error, "what is left of another state was not deleted");
    }
}

/// Takes a state over in a thread of its own. `fatal` is called where it is not known which state
/// counts.
pub(crate) fn begin(
    consensus: Arc<Consensus>,
    peers: Arc<dyn Peers>,
    summary: Summary,
    fatal: Box<dyn Fn() + Send>,
) {
    consensus.syncing.reset();
    let started = std::thread::Builder::new()
        .name("state sync".to_owned())
        .spawn({
            let consensus = consensus.clone();
            move || {
                run(&consensus, peers, summary, &fatal);
                consensus.syncing.ended.send_replace(true);
                tidy(&consensus);
            }
        });
    if let Err(error) = started {
        tracing::error!(%error, "state sync: no thread");
        consensus.syncing.ended.send_replace(true);
    }
}

fn run(consensus: &Consensus, peers: Arc<dyn Peers>, summary: Summary, fatal: &dyn Fn()) {
    let began = Instant::now();
    let height = summary.header.height;
    let Some(staging) = consensus.store().staging() else {
        return;
    };
    let _one = lock(&consensus.syncing.place);
    tracing::info!(height, "taking over the state of a block");
    match take(consensus, &staging, peers, summary, fatal) {
        Ok(()) => tracing::info!(
            height,
            ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            "took over the state of a block"
        ),
        Err(Failure::Stopped) => {}
        Err(error) => {
            tracing::warn!(height, %error, "the state was not taken over: blocks will be applied instead");
            if let Err(error) = staging.clear() {
                tracing::warn!(%error, "what was taken over was not deleted");
            }
        }
    }
}

fn take(
    consensus: &Consensus,
    staging: &Arc<dyn Staging>,
    peers: Arc<dyn Peers>,
    summary: Summary,
    fatal: &dyn Fn(),
) -> Result<(), Failure> {
    let crew = Crew {
        peers,
        summary: summary.id(),
        stop: consensus.syncing.stop.clone(),
        known: Mutex::default(),
    };
    let branches = crew.by_somebody(|peer| crew.top(peer, &summary))?;
    let depth = u8::try_from(branches.len().trailing_zeros()).unwrap_or_default();
    let noted = staging.note()?;
    let noted = noted.and_then(|note| Progress::from_bytes(&note).ok());
    let progress = match noted {
        Some(progress) if progress.summary == summary && progress.depth == depth => {
            tracing::info!("going on where it ended");
            progress
        }
        Some(_) | None => {
            staging.clear()?;
            Progress::new(summary, depth)
        }
    };
    let parameters = *consensus.node().parameters();
    let now = consensus.node().now();
    let verifier = consensus.verifier();
    let rules = Rules {
        header: summary.header,
        parameters,
        bodies_since: Time::from_ms(
            now.ms()
                .saturating_sub(parameters.retention_ms)
                .saturating_add(CLOCKS_MS),
        ),
        crypto: verifier.as_ref(),
    };
    let job = Job {
        crew,
        staging: staging.as_ref(),
        rules,
        progress: Mutex::new(progress),
    };
    job.each(Stage::Records, |part| {
        let branch = branches.get(part.number as usize).copied();
        job.records(part, branch.unwrap_or(Branch::Empty))
    })?;
    let index = Index::of(&job.view())?;
    tracing::info!(records = index.len(), "took over the records");
    job.each(Stage::Cells, |part| job.cells(part, &index))?;
    drop(index);
    job.channels()?;
    job.derive()?;
    job.block(consensus)?;
    let (tree, counts) = rebuild(staging.as_ref())?;
    if tree.root() != summary.header.state_root {
        return Err(Failure::OtherRoot);
    }
    job.crew.check_stop()?;
    let adopted = consensus.adopt(staging.as_ref(), summary.header, tree, counts);
    if adopted.is_err() {
        fatal();
    }
    Ok(adopted?)
}

/// One state being taken over.
pub(super) struct Job<'a> {
    pub(super) crew: Crew,
    staging: &'a dyn Staging,
    pub(super) rules: Rules<'a>,
    progress: Mutex<Progress>,
}

impl Job<'_> {
    pub(super) fn view(&self) -> StoreView<'_> {
        StoreView(self.staging)
    }

    pub(super) fn depth(&self) -> u8 {
        lock(&self.progress).depth
    }

    /// Does something with every part that is not whole in this stage, several at once.
    fn each(
        &self,
        stage: Stage,
        work: impl Fn(Part) -> Result<(), Failure> + Sync,
    ) -> Result<(), Failure> {
        let parts = lock(&self.progress).missing(stage);
        let next = AtomicUsize::new(0);
        let worker = || {
            while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                if let Err(failure) = work(*part) {
                    // The others end with their part.
                    next.store(parts.len(), Ordering::Relaxed);
                    return Err(failure);
                }
            }
            Ok(())
        };
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..WORKERS.min(parts.len()))
                .map(|_| scope.spawn(worker))
                .collect();
            let mut result = Ok(());
            for worker in workers {
                match worker.join() {
                    Ok(done) => result = result.and(done),
                    Err(_) => result = Err(Failure::Stopped),
                }
            }
            result
        })
    }

    pub(super) fn write(&self, changes: Changes) -> Result<(), Failure> {
        let mut batch = Batch::new();
        store::put_changes(&mut batch, changes);
        Ok(self.staging.write(batch, None)?)
    }

    /// Writes the last of a part, and that it is whole.
    fn write_last(&self, changes: Changes, stage: Stage, part: Part) -> Result<(), Failure> {
        let mut batch = Batch::new();
        store::put_changes(&mut batch, changes);
        let mut progress = lock(&self.progress);
        progress.mark(stage, part.number);
        Ok(self.staging.write(batch, Some(&progress.to_bytes()))?)
    }

    /// Notes that a part is not whole: after a kill it is taken over anew.
    pub(super) fn open(&self, part: Part) -> Result<(), Failure> {
        let mut progress = lock(&self.progress);
        progress.unmark(Stage::Cells, part.number);
        Ok(self
            .staging
            .write(Batch::new(), Some(&progress.to_bytes()))?)
    }

    /// Notes that a part is whole.
    pub(super) fn close(&self, part: Part) -> Result<(), Failure> {
        self.write_last(Changes::new(), Stage::Cells, part)
    }

    /// Notes that cells of a part may be there. If they were before, from somebody who may have
    /// lied, they go.
    fn begin(&self, part: Part, keys: &[RecordKey]) -> Result<(), Failure> {
        let begun = {
            let mut progress = lock(&self.progress);
            let begun = progress.mark(Stage::Begun, part.number);
            if !begun {
                self.staging
                    .write(Batch::new(), Some(&progress.to_bytes()))?;
            }
            begun
        };
        if begun {
            for key in keys {
                self.forget(*key)?;
            }
        }
        Ok(())
    }

    fn records(&self, part: Part, branch: Branch) -> Result<(), Failure> {
        let records = self
            .crew
            .by_somebody(|peer| self.records_from(peer, part, branch))?;
        let (mut changes, mut bytes) = (Changes::new(), 0);
        for (key, record) in records {
            bytes += record.len();
            changes.insert((Table::Record, key.to_bytes()), Some(record));
            if bytes > WRITE_BYTES {
                bytes = 0;
                self.write(std::mem::take(&mut changes))?;
            }
        }
        self.write_last(changes, Stage::Records, part)
    }

    fn records_from(
        &self,
        peer: &Peer,
        part: Part,
        branch: Branch,
    ) -> Result<Vec<(RecordKey, Vec<u8>)>, Refused> {
        let mut records = Records::new(part, branch);
        let mut all = Vec::new();
        loop {
            let request = Request::Records(part, records.after());
            let Reply::Records(more, done) = self.crew.ask(peer, &request)? else {
                return Err(SyncError::OtherAnswer.into());
            };
            let whole = records.take(&more, done)?;
            all.extend(more);
            if whole {
                return Ok(all);
            }
        }
    }

    fn cells(&self, part: Part, index: &Index) -> Result<(), Failure> {
        let keys = index.part(part, None)?;
        self.begin(part, &keys)?;
        let mut objects = Objects::new(keys);
        self.crew.by_somebody(|peer| {
            let done = self.cells_from(peer, part, &mut objects, None);
            if done.is_err()
                && let Some(record) = objects.give_up()
            {
                // Whoever goes on begins with this one again.
                self.forget(record)?;
            }
            done
        })?;
        self.close(part)
    }

    /// Deletes what came of a record.
    pub(super) fn forget(&self, record: RecordKey) -> Result<(), Failure> {
        for (table, from, to) in cells_of(&record) {
            self.delete(table, from, &to)?;
        }
        Ok(())
    }

    fn delete(&self, table: Table, from: Vec<u8>, to: &[u8]) -> Result<(), Failure> {
        loop {
            let cells = self.view().range(table, &from, to, DELETE_CELLS)?;
            if cells.is_empty() {
                return Ok(());
            }
            let gone = cells.into_iter().map(|(key, _)| ((table, key), None));
            self.write(gone.collect())?;
        }
    }

    /// Takes what is missing of these records; of `only` one record, from its start on, where that
    /// is given.
    pub(super) fn cells_from(
        &self,
        peer: &Peer,
        part: Part,
        objects: &mut Objects,
        only: Option<RecordKey>,
    ) -> Result<(), Refused> {
        let view = self.view();
        let mut after = only.map(before).or_else(|| objects.after(None));
        loop {
            let request = Request::Cells(part, after);
            let Reply::Cells(mut cells, mut done) = self.crew.ask(peer, &request)? else {
                return Err(SyncError::OtherAnswer.into());
            };
            if let Some(only) = only {
                let all = cells.len();
                cells.retain(|cell| cell.record == only);
                done |= cells.len() < all;
            }
            let last = cells.last().cloned();
            let mut over = Overlay::new(&view);
            let done = objects.take(cells, done, &mut over, &self.rules)?;
            self.write(over.into_changes())?;
            if done {
                return Ok(());
            }
            after = objects.after(last.as_ref());
        }
    }

    fn derive(&self) -> Result<(), Failure> {
        let view = self.view();
        let mut after = None;
        loop {
            self.crew.check_stop()?;
            let (changes, next) = derive(&view, after, &self.rules)?;
            self.write(changes)?;
            after = next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    /// The block itself, and what else a store begins with.
    fn block(&self, consensus: &Consensus) -> Result<(), Failure> {
        let header = self.rules.header;
        let stored = self.crew.by_somebody(|peer| {
            let Reply::Block(bytes) = self.crew.ask(peer, &Request::Block)? else {
                return Err(SyncError::OtherAnswer.into());
            };
            let stored = StoredBlock::from_bytes(&bytes).map_err(SyncError::Malformed)?;
            let block = stored.restore(&self.view()).map_err(SyncError::View)?;
            let whole = block.filter(|block| {
                block.header == header && Block::from_bytes(&block.to_bytes()).is_ok()
            });
            whole.map(|_| bytes).ok_or(SyncError::OtherAnswer.into())
        })?;
        let mut batch = Batch::new();
        let current = consensus.store().as_ref();
        if let Some(genesis) = store::genesis(current)? {
            store::put_genesis(&mut batch, &genesis);
        }
        if let Some((id, genesis)) = store::at_height(current, 0)? {
            store::put_block(&mut batch, &genesis, &id, None);
        }
        store::put_block(&mut batch, &header, &header.id(), Some(&stored));
        store::put_pruned(&mut batch, header.height);
        Ok(self.staging.write(batch, None)?)
    }
}
