//! The ledger as somebody else's consensus drives it.
//!
//! ```text
//! submission ─▶ pool ──event──▶ build ─▶ processing ─▶ accept ─▶ one batch ─▶ new head ─▶ answers
//! bytes ─▶ parse ─▶ signatures, in parallel ─▶ verify ──┘   └──▶ reject ─▶ back to the pool
//! ```
//!
//! Whichever wire the host speaks, it calls this and nothing else. Calls of consensus take the
//! ledger in turn; what needs no state (decoding, signatures) happens before.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use session_chain::block::{Block, BlockError, Parsed};
use session_chain::mempool::Waiting;
use session_chain::processing::DecisionError;
use session_chain::tx::Tx;
use session_chain::view::ViewError;
use session_core::codec::{Decode, DecodeError, Encode};
use session_core::header::{HEADER_LEN, Header};
use session_core::ids::{ActionId, BlockId};
use session_core::limits::{BLOCK_BYTES_MAX, BLOCK_TXS_MAX};
use session_core::time::Time;
use session_storage::{Store, StoreError};
use tokio::sync::watch;

use crate::host::flow::Flow;
use crate::host::sync::{Offers, SyncOptions, Syncing};
use crate::host::upgrade::{UpgradeNeeded, Upgrades};
use crate::ledger::{Ledger, changed_keys};
use crate::lock::lock;
use crate::node::{Node, NodeOptions, OpenError, Opened};
use crate::producer::TICK;
use crate::submission::{Submission, SubmitError};
use crate::verifier::Verifier;

/// Parsed blocks that wait to be verified: what a node asks about ahead of time.
const PARSED_KEPT: usize = 8;

/// How often what waits is tried on the accepted state, where the host does not ask for blocks.
const JUDGING: Duration = Duration::from_millis(100);

/// Where the chain stands for its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It is given a state by others.
    StateSync,
    /// It is given accepted blocks one after the other.
    Bootstrapping,
    /// It takes part.
    Normal,
}

/// A block as hosts want to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockFacts {
    /// Header.
    pub header: Header,
    /// Id.
    pub id: BlockId,
    /// The whole block, at most 1 MiB.
    pub bytes: Vec<u8>,
}

impl BlockFacts {
    pub(super) fn of(block: &Block) -> Self {
        Self {
            header: block.header,
            id: block.header.id(),
            bytes: block.to_bytes(),
        }
    }
}

/// Why a call of the host was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConsensusError {
    /// Bytes that are no block.
    #[error("not a block: {0}")]
    Undecodable(#[from] DecodeError),
    /// A block that does not follow the rules.
    #[error("invalid block: {0}")]
    Invalid(BlockError),
    /// The host broke its side of the contract.
    #[error("{0}")]
    Decision(#[from] DecisionError),
    /// Nothing is to be built.
    #[error("nothing to build: no transaction that waits applies to the preferred block")]
    NothingToBuild,
    /// No block can be built now.
    #[error("not building: {0}")]
    NotBuilding(SubmitError),
    /// Reading state failed.
    #[error("{0}")]
    View(#[from] ViewError),
    /// Writing failed: nothing may go on.
    #[error("block {height} was accepted and could not be written: {error}")]
    NotWritten {
        /// Height of the block.
        height: u64,
        /// Why.
        error: StoreError,
    },
    /// The rules of this height are not known to this program.
    #[error("{0}")]
    Upgrade(#[from] UpgradeNeeded),
}

impl From<BlockError> for ConsensusError {
    fn from(error: BlockError) -> Self {
        if let BlockError::View(error) = error {
            // The block may be as good as any: it is this node that cannot tell.
            return Self::View(error);
        }
        Self::Invalid(error)
    }
}

/// How many other nodes come before this one in building a block of a height.
pub type Rank = Box<dyn Fn(u64) -> u32 + Send + Sync>;

/// Told of transactions that were submitted to this very node.
pub type Announce = Box<dyn Fn(Vec<u8>) + Send + Sync>;

pub(super) struct Inner {
    pub(super) ledger: Ledger,
    /// Blocks that were built for the host, and that it has not had verified yet.
    pub(super) handed_out: Vec<(BlockId, u64)>,
    /// Blocks that were built here and verified, and that are not decided.
    pub(super) own: HashSet<BlockId>,
    /// Until when transactions may wait that were taken from the pool into a block.
    pub(super) expiries: HashMap<ActionId, Time>,
    pub(super) flow: Flow,
    /// Whether something waits that has not been tried on the last accepted block.
    pub(super) unjudged: bool,
}

impl Inner {
    /// What ended otherwise than in a block, its flow does not wait for any more.
    fn forget_ended(&mut self) {
        let Self {
            ledger,
            flow,
            expiries,
            ..
        } = self;
        let waits = |action: &ActionId| ledger.waiting.contains_key(action);
        flow.keep(waits);
        expiries.retain(|action, _| waits(action));
    }

    /// Transactions of a block that will not be: they wait again, in their order and not longer
    /// than before.
    pub(super) fn put_back(&mut self, txs: Vec<Tx>) {
        let chain = self.ledger.processing.head().chain;
        let now = self.ledger.clock.wall();
        let waiting = |tx: Tx| {
            let (ids, bytes) = (tx.ids(&chain), tx.encoded_len());
            let known = self.expiries.get(&ids.action).copied();
            let mut waiting = Waiting::new(tx, ids, bytes, now);
            waiting.expires = known.unwrap_or(waiting.expires);
            waiting
        };
        let waiting: Vec<Waiting> = txs.into_iter().map(waiting).collect();
        self.ledger.pool.put_back(waiting.into_iter());
    }
}

/// Takes an own transaction in, if there is room on the way; answers what others are to be told.
fn take_own(
    ledger: &mut Ledger,
    flow: &mut Flow,
    submission: Submission,
    now: Instant,
) -> Option<Vec<u8>> {
    let action = submission.ids.action;
    // A retry of what is on its way already takes no room.
    if !ledger.waiting.contains_key(&action)
        && let Err(retry_ms) = flow.admit(action, submission.bytes, now)
    {
        ledger.refuse(submission, SubmitError::Busy { retry_ms });
        return None;
    }
    let bytes = submission.tx.to_bytes();
    ledger.take_in(submission).then_some(bytes)
}

/// A parsed block that waits to be verified.
struct Kept {
    id: BlockId,
    bytes: Vec<u8>,
    parsed: Parsed,
}

impl Kept {
    fn is(&self, id: &BlockId, bytes: &[u8]) -> bool {
        self.id == *id && self.bytes == bytes
    }
}

/// The ledger under a host's consensus.
pub struct Consensus {
    pub(super) node: Arc<Node>,
    inner: Mutex<Inner>,
    parsed: Mutex<VecDeque<Kept>>,
    /// Counts what may have made building possible.
    pub(super) changes: watch::Sender<u64>,
    pub(super) upgrades: Upgrades,
    normal: AtomicBool,
    pub(super) rank: OnceLock<Rank>,
    pub(super) offers: Offers,
    pub(super) syncing: Syncing,
}

impl Consensus {
    /// Opens the chain on the host's store, and starts to take submissions. Other nodes are told of
    /// `push_bytes_per_second` of them at once, as `announce` does it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        store: Arc<dyn Store>,
        options: NodeOptions,
        upgrades: Upgrades,
        sync: SyncOptions,
        push_bytes_per_second: u64,
        announce: Announce,
    ) -> Result<Arc<Self>, OpenError> {
        let Opened {
            node,
            ledger,
            submissions,
        } = Node::open(store, options)?;
        let node = Arc::new(node);
        let this = Arc::new(Self {
            node: node.clone(),
            inner: Mutex::new(Inner {
                ledger,
                handed_out: Vec::new(),
                own: HashSet::new(),
                expiries: HashMap::new(),
                flow: Flow::new(push_bytes_per_second),
                unjudged: false,
            }),
            parsed: Mutex::default(),
            changes: watch::Sender::new(0),
            upgrades,
            normal: AtomicBool::new(false),
            rank: OnceLock::new(),
            offers: Offers::new(sync),
            syncing: Syncing::default(),
        });
        this.offers.accepted(&node.head(), this.store().as_ref());
        let (taker, stop) = (this.clone(), node.stopping());
        let thread = std::thread::Builder::new()
            .name("submissions".to_owned())
            .spawn(move || taker.take_submissions(&submissions, &announce, &stop))?;
        node.keep_thread(thread);
        Ok(this)
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        self.node.store()
    }

    pub(super) fn verifier(&self) -> Arc<Verifier> {
        self.inner().ledger.verifier.clone()
    }

    /// The node that readers and submitters use.
    pub const fn node(&self) -> &Arc<Node> {
        &self.node
    }

    /// Tells the order in which nodes build where they would otherwise do so all at once.
    pub fn take_turns(&self, rank: Rank) {
        let _set_already = self.rank.set(rank);
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        // A panic inside would have come before anything was written: the store is the truth, and
        // the host asks again.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn take_submissions(
        &self,
        queue: &Receiver<Submission>,
        announce: &Announce,
        stop: &AtomicBool,
    ) {
        let (mut ticked, mut judged) = (Instant::now(), Instant::now());
        loop {
            let first = queue.recv_timeout(JUDGING);
            if stop.load(Ordering::Relaxed) || matches!(first, Err(RecvTimeoutError::Disconnected))
            {
                break;
            }
            if let Ok(first) = first {
                let more = queue.try_iter().take(BLOCK_TXS_MAX);
                let batch: Vec<Submission> = std::iter::once(first).chain(more).collect();
                self.take_batch(batch, announce);
            }
            if judged.elapsed() >= JUDGING {
                judged = Instant::now();
                if let Err(error) = self.judge() {
                    tracing::warn!(%error, "what waits was not tried");
                }
            }
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.tick();
            }
        }
        self.inner().ledger.end();
    }

    fn take_batch(&self, batch: Vec<Submission>, announce: &Announce) {
        let mut news = Vec::new();
        {
            let now = Instant::now();
            let mut inner = self.inner();
            let Inner {
                ledger,
                flow,
                unjudged,
                ..
            } = &mut *inner;
            *unjudged = true;
            for submission in batch {
                if submission.local {
                    news.extend(take_own(ledger, flow, submission, now));
                } else {
                    let action = submission.ids.action;
                    if ledger.take_in(submission) {
                        flow.told(action, now);
                    }
                }
            }
            ledger.count_pending();
            self.node.set_busy(flow.is_full(now));
        }
        self.changed();
        news.into_iter().for_each(announce);
    }

    /// What time alone brings.
    fn tick(&self) {
        let mut inner = self.inner();
        let ledger = &mut inner.ledger;
        ledger.expire_pending();
        inner.forget_ended();
        self.node.set_busy(inner.flow.is_full(Instant::now()));
        let ledger = &mut inner.ledger;
        let Ok(time) = ledger.ready() else { return };
        ledger.prune(time);
        let due = ledger.is_due(time);
        drop(inner);
        if due {
            self.changed();
        }
    }

    /// The host moves the chain on; answers the last accepted block.
    ///
    /// # Errors
    /// [`ConsensusError::View`].
    pub fn set_phase(&self, phase: Phase) -> Result<BlockFacts, ConsensusError> {
        self.normal.store(phase == Phase::Normal, Ordering::Relaxed);
        self.syncing.reset();
        tracing::info!(
            ?phase,
            height = self.node.head().header.height,
            "the host sets the phase"
        );
        self.changed();
        self.last_accepted()
    }

    /// Whether the chain takes part in consensus.
    pub fn is_normal(&self) -> bool {
        self.normal.load(Ordering::Relaxed)
    }

    /// Decodes a block and checks what needs no state.
    ///
    /// # Errors
    /// [`ConsensusError::Undecodable`], and a block of another chain.
    pub fn parse(&self, bytes: &[u8]) -> Result<(BlockId, Header), ConsensusError> {
        let header = first_header(bytes)?;
        let id = header.id();
        let known = |parsed: &VecDeque<Kept>| parsed.iter().any(|kept| kept.is(&id, bytes));
        if known(&lock(&self.parsed)) {
            return Ok((id, header));
        }
        let parsed = self.decode(bytes)?;
        let mut kept = lock(&self.parsed);
        if !known(&kept) {
            let bytes = bytes.to_vec();
            kept.push_front(Kept { id, bytes, parsed });
            kept.truncate(PARSED_KEPT);
        }
        Ok((id, header))
    }

    fn decode(&self, bytes: &[u8]) -> Result<Parsed, ConsensusError> {
        let parsed = Parsed::from_bytes(bytes)?;
        let chain = parsed.block().header.chain;
        if chain != self.node.chain() {
            return Err(BlockError::OtherChain(chain).into());
        }
        Ok(parsed)
    }

    /// Verifies a block on its parent and keeps it until it is decided. Again, it is free.
    ///
    /// # Errors
    /// [`ConsensusError`].
    pub fn verify(&self, bytes: &[u8]) -> Result<Header, ConsensusError> {
        let header = first_header(bytes)?;
        let id = header.id();
        if self.is_known(&id, &header, bytes)? {
            return Ok(header);
        }
        self.upgrades.check(header.height)?;
        let kept = {
            let mut parsed = lock(&self.parsed);
            let at = parsed.iter().position(|kept| kept.is(&id, bytes));
            at.and_then(|at| parsed.remove(at))
        };
        let parsed = match kept {
            Some(kept) => kept.parsed,
            None => self.decode(bytes)?,
        };
        self.check_signatures(&parsed);
        let mut inner = self.inner();
        let ledger = &mut inner.ledger;
        // An old block was fresh once.
        let clock = self.is_normal().then(|| ledger.clock.wall());
        let view = ledger.hot.over(ledger.store.as_ref());
        ledger
            .processing
            .verify(parsed, &view, ledger.verifier.as_ref(), clock)?;
        inner.flow.began(id, Instant::now());
        Ok(header)
    }

    /// Whether a block is processing or accepted already, byte for byte.
    fn is_known(
        &self,
        id: &BlockId,
        header: &Header,
        bytes: &[u8],
    ) -> Result<bool, ConsensusError> {
        {
            let mut inner = self.inner();
            if let Some(built) = inner.ledger.processing.get(id) {
                let same = built.block.to_bytes() == bytes;
                if same {
                    // From now on the host decides it.
                    let before = inner.handed_out.len();
                    inner.handed_out.retain(|(handed_out, _)| handed_out != id);
                    if inner.handed_out.len() < before {
                        inner.own.insert(*id);
                        inner.flow.began(*id, Instant::now());
                    }
                }
                return Ok(same);
            }
        }
        let head = self.node.head();
        if header.height > head.header.height {
            return Ok(false);
        }
        // The same block may come again inside another outer block.
        let accepted = self.node.at_height(&head, header.height)?;
        Ok(accepted.is_some_and(|(found, _)| found == *id))
    }

    /// Verifies the signatures that nobody has verified yet, on all cores; applying the block then
    /// finds them known. One that does not hold is found, and told, there.
    fn check_signatures(&self, parsed: &Parsed) {
        let head = self.node.head();
        parsed.each().into_par_iter().for_each(|(tx, ids)| {
            if let Err(error) = self.node.check(&head, tx, ids) {
                tracing::debug!(tx = %ids.tx, %error, "a transaction of a block was not verified ahead");
            }
        });
    }

    /// The block that building goes on from.
    ///
    /// # Errors
    /// [`ConsensusError::Decision`].
    pub fn prefer(&self, id: BlockId) -> Result<(), ConsensusError> {
        let mut inner = self.inner();
        if id != inner.ledger.processing.preference() {
            inner.ledger.processing.prefer(id)?;
            inner.flow.preferred();
        }
        drop(inner);
        self.changed();
        Ok(())
    }

    /// Accepts a child of the last accepted block, durably. Again, it changes nothing.
    ///
    /// # Errors
    /// [`ConsensusError::Decision`]; [`ConsensusError::NotWritten`], after which the process must
    /// end, because the host has accepted what this node does not have.
    pub fn accept(&self, id: BlockId) -> Result<(), ConsensusError> {
        let mut inner = self.inner();
        let Inner {
            ledger, flow, own, ..
        } = &mut *inner;
        if id == ledger.processing.head_id() {
            return Ok(());
        }
        let built = ledger.processing.accept(id)?;
        let built = Arc::unwrap_or_clone(built);
        let height = built.block.header.height;
        let applied = built.applied.clone();
        let lengths: Vec<usize> = built.block.txs.iter().map(Tx::encoded_len).collect();
        let changed = changed_keys(&built.block.txs);
        ledger
            .persist(built)
            .map_err(|error| ConsensusError::NotWritten { height, error })?;
        if own.remove(&id) {
            flow.decided(true);
        }
        ledger.publish();
        self.offers
            .accepted(&self.node.head(), ledger.store.as_ref());
        ledger.forget_keys(&changed);
        let now = Instant::now();
        flow.ended(&id, Some(applied.len()), now);
        for (applied, bytes) in applied.iter().zip(lengths) {
            let _gone = ledger.pool.forget(&applied.action);
            flow.accepted(&applied.action, bytes, now);
        }
        ledger.answer_applied(height, &applied);
        take_back(&mut inner, height);
        inner.unjudged = !inner.ledger.pool.is_empty();
        inner.ledger.count_pending();
        self.node.set_busy(inner.flow.is_full(now));
        drop(inner);
        self.changed();
        Ok(())
    }

    /// Rejects a block: its transactions wait again, unless they are in the chain meanwhile.
    ///
    /// # Errors
    /// [`ConsensusError::Decision`].
    pub fn reject(&self, id: BlockId) -> Result<(), ConsensusError> {
        let mut inner = self.inner();
        let Inner {
            ledger, flow, own, ..
        } = &mut *inner;
        let built = ledger.processing.reject(id)?;
        flow.ended(&id, None, Instant::now());
        if own.remove(&id) {
            flow.decided(false);
        }
        inner.put_back(Arc::unwrap_or_clone(built).block.txs);
        inner.ledger.count_pending();
        drop(inner);
        self.changed();
        Ok(())
    }
}

/// Blocks that were handed out for a height that is decided now, and that the host never had
/// verified: it will not reject them either.
fn take_back(inner: &mut Inner, height: u64) {
    let handed_out = std::mem::take(&mut inner.handed_out);
    let (late, still): (Vec<_>, Vec<_>) = handed_out.into_iter().partition(|(_, at)| *at <= height);
    inner.handed_out = still;
    for (id, _) in late {
        // Unless it is the one that was accepted.
        if let Ok(built) = inner.ledger.processing.reject(id) {
            inner.flow.decided(false);
            inner.put_back(Arc::unwrap_or_clone(built).block.txs);
        }
    }
}

/// The header that a block begins with.
fn first_header(bytes: &[u8]) -> Result<Header, ConsensusError> {
    if bytes.len() > BLOCK_BYTES_MAX {
        return Err(DecodeError::TooLong {
            what: "block",
            claimed: bytes.len() as u64,
            limit: BLOCK_BYTES_MAX as u64,
        }
        .into());
    }
    let head = bytes.get(..HEADER_LEN).unwrap_or(bytes);
    Ok(Header::from_bytes(head)?)
}
