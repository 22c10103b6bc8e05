//! A stand-alone node: store, producer and what readers and submitters hold of them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use session_chain::genesis::{Genesis, GenesisError};
use session_chain::mempool::{Limits, Mempool};
use session_chain::processing::Processing;
use session_chain::state::{Crypto as _, TxError};
use session_chain::tx::identity::{RevokeIdentity, RotateKeys};
use session_chain::tx::{Kind, SigningKey, Tx, TxIds};
use session_chain::versions::Versions;
use session_chain::view::ViewError;
use session_core::account::{Account, AccountKeys};
use session_core::header::{Header, SignedHead};
use session_core::ids::{AccountId, BlockId, ChainId};
use session_core::parameters::{Parameters, Rate};
use session_core::record::{Action, RecordKey};
use session_core::time::Time;
use session_storage::{DiskStore, Health, MemoryStore, Store, StoreError};
use tokio::sync::{oneshot, watch};

use crate::clock::{Clock, Drift, SystemClock};
use crate::genesis::genesis_bytes;
use crate::group;
use crate::head::Head;
use crate::head_key::{HeadKey, HeadKeyError};
use crate::keys::{PublicKeys, account_keys};
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::opening::{check_clock, load};
use crate::producer::Producer;
use crate::prover::{Prover, ProverLimits};
use crate::rates::Rates;
use crate::store::{self, Hot};
use crate::submission::{Accepted, Answer, Submission, SubmitError};
use crate::verifier::Verifier;

/// Submissions that wait for the producing thread: more than one block, less than a second.
const QUEUE: usize = 16_384;

/// Bytes of those submissions: as many as the pool takes.
const QUEUE_BYTES: usize = 64 << 20;

/// A wait is cut here: proxies cut HTTP at 30 s.
const WAIT_MAX: Duration = Duration::from_secs(25);

/// What a node is started with.
pub struct NodeOptions {
    /// Where it keeps its data; none keeps everything in memory.
    pub data_dir: Option<PathBuf>,
    /// Genesis bytes for a first start. Later they must be the same.
    pub genesis: Option<Vec<u8>>,
    /// Admission that the genesis of a first start gets. Later it must be the same.
    pub admission: Option<String>,
    /// Starts although the clock is far from the last block.
    pub accept_time: bool,
    /// Transactions of one signer, a second and at once.
    pub identity_rate: Rate,
    /// Bytes that past states may take so that they stay provable.
    pub versions_bytes: usize,
    /// Prepares verifying keys; off, every signature is checked by the library.
    pub prepare_keys: bool,
    /// Large proofs that are made, and wait, at once.
    pub prover: ProverLimits,
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The chain's id where a host gives one; none makes it of the genesis.
    pub chain: Option<ChainId>,
    /// The longest that a call waits.
    pub wait_max: Duration,
    /// Bounds of what waits for a block.
    pub pool: Limits,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            data_dir: None,
            genesis: None,
            admission: None,
            accept_time: false,
            identity_rate: Rate::UNLIMITED,
            versions_bytes: session_chain::versions::Limits::default().bytes,
            prepare_keys: true,
            prover: ProverLimits::default(),
            clock: Arc::new(SystemClock::default()),
            chain: None,
            wait_max: WAIT_MAX,
            pool: Limits::default(),
        }
    }
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store does not open.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The store's contents cannot be read.
    #[error("{0}")]
    View(#[from] ViewError),
    /// The genesis makes no chain.
    #[error("{0}")]
    Genesis(#[from] GenesisError),
    /// Head or root key.
    #[error("{0}")]
    HeadKey(#[from] HeadKeyError),
    /// The data belong to another genesis.
    #[error("the data directory holds chain {found}, the given genesis is chain {given}")]
    OtherGenesis {
        /// In the directory.
        found: ChainId,
        /// Of the given genesis.
        given: ChainId,
    },
    /// `--admission` differs from the genesis.
    #[error("admission {asked} was asked, but this chain's genesis says {found}: it cannot change")]
    OtherAdmission {
        /// Asked.
        asked: String,
        /// In the genesis.
        found: &'static str,
    },
    /// The state tree rebuilt from the records has another root than the last block.
    #[error(
        "the records in the store do not make the state root of block {height}: restore a backup"
    )]
    StateRoot {
        /// Last block.
        height: u64,
    },
    /// The clock is far from the last block.
    #[error(
        "the clock says {now_ms} ms, the last block {block_ms} ms: set the clock, or start once \
         with --accept-time"
    )]
    Clock {
        /// Clock.
        now_ms: u64,
        /// Last block.
        block_ms: u64,
    },
    /// The data directory cannot be made.
    #[error("{}: {error}", path.display())]
    Directory {
        /// Directory.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The operating system gave no thread.
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A node that nobody drives yet.
pub(crate) struct Opened {
    pub(crate) node: Node,
    pub(crate) ledger: Ledger,
    pub(crate) submissions: Receiver<Submission>,
}

/// A running node.
pub struct Node {
    chain: ChainId,
    parameters: Parameters,
    store: Arc<dyn Store>,
    heads: watch::Receiver<Arc<Head>>,
    versions: Arc<Mutex<Versions>>,
    queue: SyncSender<Submission>,
    rates: Rates<AccountId>,
    queued_bytes: Arc<AtomicUsize>,
    verifier: Arc<Verifier>,
    prover: Prover,
    head_key: HeadKey,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    wait_max: Duration,
    /// When to try again, in milliseconds, while a host's chain takes no more; else 0.
    busy_ms: AtomicU64,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Node {
    /// Opens the store, rebuilds the state tree and starts to produce.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn start(options: NodeOptions) -> Result<Self, OpenError> {
        let store: Arc<dyn Store> = match &options.data_dir {
            Some(directory) => {
                std::fs::create_dir_all(directory).map_err(|error| OpenError::Directory {
                    path: directory.clone(),
                    error,
                })?;
                Arc::new(DiskStore::open(directory.join("store"))?)
            }
            None => Arc::new(MemoryStore::new()),
        };
        Self::start_on(store, options)
    }

    /// Starts on a store that is open already.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn start_on(store: Arc<dyn Store>, options: NodeOptions) -> Result<Self, OpenError> {
        let Opened {
            node,
            ledger,
            submissions,
        } = Self::open(store, options)?;
        let producer = Producer {
            ledger,
            stop: node.stop.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("producer".to_owned())
            .spawn(move || producer.run(&submissions))?;
        node.keep_thread(thread);
        Ok(node)
    }

    /// Opens everything, for a host that will drive it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(store: Arc<dyn Store>, options: NodeOptions) -> Result<Opened, OpenError> {
        let bytes = genesis_bytes(store.as_ref(), &options)?;
        let chain = options.chain.unwrap_or_else(|| Genesis::chain_id(&bytes));
        let genesis = Genesis::parse(&bytes)?;
        for key in &genesis.unknown_keys {
            tracing::warn!(%key, "the genesis has a key that means nothing here");
        }
        let (header, tree, counts) = load(store.as_ref(), &genesis, chain, &bytes)?;
        let parameters = genesis.parameters;
        let clock = options.clock;
        check_clock(&header, &parameters, clock.wall(), options.accept_time)?;
        let head_key = match &options.data_dir {
            Some(directory) => HeadKey::open(directory, chain, parameters.root_key)?,
            None => HeadKey::ephemeral(chain)?,
        };
        let snapshot = store.snapshot()?;
        let head = Head::new(header, tree.clone(), snapshot);
        let limits = session_chain::versions::Limits {
            bytes: options.versions_bytes,
            ..session_chain::versions::Limits::default()
        };
        let versions = Versions::new(header, tree.clone(), limits);
        let versions = Arc::new(Mutex::new(versions));
        let (heads, receiver) = watch::channel(Arc::new(head));
        let (queue, submissions) = sync_channel(QUEUE);
        let verifier = Arc::new(Verifier::new(options.prepare_keys));
        let metrics = Arc::new(Metrics::default());
        metrics.height.store(header.height, Ordering::Relaxed);
        metrics.versions.store(1, Ordering::Relaxed);
        counts.tell(&metrics);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let ledger = Ledger {
            store: store.clone(),
            hot: Hot::default(),
            processing: Processing::new(header, tree, parameters),
            pool: Mempool::new(Limits {
                evicts: parameters.price > 0,
                ..options.pool
            }),
            verifier: verifier.clone(),
            drift: Drift::begin(clock.as_ref()),
            clock: clock.clone(),
            heads,
            versions: versions.clone(),
            waiting: HashMap::new(),
            metrics: metrics.clone(),
            queued_bytes: queued_bytes.clone(),
        };
        let node = Self {
            chain,
            parameters,
            store,
            heads: receiver,
            versions,
            queue,
            rates: Rates::new(options.identity_rate),
            queued_bytes,
            verifier,
            prover: Prover::new(options.prover),
            head_key,
            metrics,
            clock,
            wait_max: options.wait_max,
            busy_ms: AtomicU64::new(0),
            stop: Arc::new(AtomicBool::new(false)),
            thread: Mutex::new(None),
        };
        Ok(Opened {
            node,
            ledger,
            submissions,
        })
    }

    /// The thread that [`Node::stop`] waits for.
    pub(crate) fn keep_thread(&self, thread: JoinHandle<()>) {
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
    }

    /// Set once the node is to stop.
    pub(crate) fn stopping(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// The longest that a call may wait: hosts cut HTTP sooner or later.
    pub const fn wait_max(&self) -> Duration {
        self.wait_max
    }

    /// Chain.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    pub(crate) const fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Parameters of the chain.
    pub const fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Counters.
    pub const fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Who makes large proofs.
    pub const fn prover(&self) -> &Prover {
        &self.prover
    }

    /// The head key.
    pub const fn head_key(&self) -> &HeadKey {
        &self.head_key
    }

    /// Wall clock.
    pub fn now(&self) -> Time {
        self.clock.wall()
    }

    /// The last accepted block.
    pub fn head(&self) -> Arc<Head> {
        self.heads.borrow().clone()
    }

    /// Follows the last accepted block.
    pub fn heads(&self) -> watch::Receiver<Arc<Head>> {
        self.heads.clone()
    }

    /// The state after the block of that height, if it is still kept; `head` itself for its own.
    pub fn past(&self, head: &Arc<Head>, height: u64) -> Option<Arc<Head>> {
        match height.cmp(&head.header.height) {
            std::cmp::Ordering::Equal => return Some(head.clone()),
            std::cmp::Ordering::Greater => return None,
            std::cmp::Ordering::Less => {}
        }
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let past = versions.at(height)?;
        Some(Arc::new(head.back_to(past)))
    }

    /// Height of the oldest state that is still kept.
    pub fn oldest_version(&self) -> u64 {
        let versions = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        versions.heights().next().unwrap_or_default()
    }

    /// Whether blocks can be made durable.
    pub fn health(&self) -> Health {
        self.store.health()
    }

    /// Signs the given head. A past one is signed as of its own time: a signature of now would
    /// make an old state look like the latest.
    ///
    /// # Errors
    /// [`HeadKeyError`].
    pub fn sign_head(&self, head: &Head) -> Result<SignedHead, HeadKeyError> {
        let at = if head.is_last() {
            self.clock.wall()
        } else {
            head.header.time
        };
        self.head_key.sign(&head.header, &head.id, at)
    }

    /// Id and header of the block at a height.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn at_height(
        &self,
        head: &Head,
        height: u64,
    ) -> Result<Option<(BlockId, Header)>, ViewError> {
        store::at_height(head.snapshot.as_ref(), height)
    }

    /// A stored block.
    ///
    /// # Errors
    /// [`ViewError`].
    pub fn stored_block(&self, head: &Head, id: &BlockId) -> Result<Option<Vec<u8>>, ViewError> {
        store::block(head.snapshot.as_ref(), id)
    }

    /// A consistent copy of the store in one file, made while running. Head keys are not in it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn backup(&self, file: &std::path::Path) -> Result<session_storage::Copied, StoreError> {
        let snapshot = self.store.snapshot()?;
        session_storage::backup(snapshot.as_ref(), file, |_, _| false)
    }

    /// From now on submissions are refused before anything is spent on them, or no longer.
    pub(crate) fn set_busy(&self, retry_ms: Option<u64>) {
        let retry_ms = retry_ms.unwrap_or_default();
        self.busy_ms.store(retry_ms, Ordering::Relaxed);
    }

    /// Whether submissions are worth looking at.
    ///
    /// # Errors
    /// [`SubmitError::Busy`].
    pub fn check_busy(&self) -> Result<(), SubmitError> {
        match self.busy_ms.load(Ordering::Relaxed) {
            0 => Ok(()),
            retry_ms => Err(SubmitError::Busy { retry_ms }),
        }
    }

    /// Verifies a transaction's signature against the key that the state knows for its signer,
    /// so that the block finds it verified.
    ///
    /// # Errors
    /// [`TxError::InvalidSignature`], [`TxError::RateLimited`], and of a rotation or revocation
    /// all that forbids its signer to sign it. What else is wrong with it the block will say.
    pub fn admit(&self, head: &Head, tx: &Tx, ids: &TxIds) -> Result<(), TxError> {
        match self.check(head, tx, ids)? {
            Checked::Signed => self.count(tx),
            Checked::Nothing => Ok(()),
        }
    }

    /// [`Node::admit`] without counting it against its signer: what others admitted.
    ///
    /// # Errors
    /// As there, but for [`TxError::RateLimited`].
    pub(crate) fn check(&self, head: &Head, tx: &Tx, ids: &TxIds) -> Result<Checked, TxError> {
        if !tx.is_signed() {
            return Ok(Checked::Nothing);
        }
        if tx.is_legacy_signed() && !self.parameters.allow_legacy {
            return Err(TxError::LegacyRefused);
        }
        if let Some(recovery) = key_change(&tx.kind) {
            return self.admit_key_change(head, tx, ids, recovery);
        }
        if let Some(group) = tx.group() {
            let now = head.header.time.max(self.clock.wall());
            let checked = group::check(&self.verifier, head, (&group, tx), ids, now)?;
            return Ok(if checked {
                Checked::Signed
            } else {
                Checked::Nothing
            });
        }
        if let Kind::CreateGroup(create) = &tx.kind {
            group::check_creation(&self.verifier, create, ids)?;
        }
        let digest = ids.action.to_bytes();
        let (signature, id) = (&tx.signature, &ids.signature);
        // The key that it signed with lately spares reading its account. If it has rotated since,
        // the block, which asks for the key that counts now, will not find this one verified.
        if let Some((of_key, key)) = self.verifier.signer(&tx.signer)
            && self.verifier.admit(&of_key, &key, &digest, signature, id)
        {
            return Ok(Checked::Signed);
        }
        let account: Option<Account> = head.record(&RecordKey::Account(tx.signer))?;
        match account.and_then(|account| account.keys) {
            Some(keys) => self.admit_by(head, tx, ids, &keys),
            None => Ok(Checked::Nothing),
        }
    }

    /// Verifies a rotation or revocation like everything else, though what has ended the keys
    /// that it is signed with may be itself: whoever retries it gets its first answer.
    fn admit_key_change(
        &self,
        head: &Head,
        tx: &Tx,
        ids: &TxIds,
        recovery: Option<&SigningKey>,
    ) -> Result<Checked, TxError> {
        let accepted: Option<Action> = head.record(&RecordKey::Action(ids.action))?;
        if accepted.is_some() {
            return Ok(Checked::Nothing);
        }
        // Of one that was accepted long ago nobody knows, and its keys count no more: what its
        // sender must be told is that it is too old.
        let now = head.header.time.max(self.clock.wall());
        if tx.valid_until < now {
            let (valid_until, now) = (tx.valid_until.ms(), now.ms());
            return Err(TxError::Expired { valid_until, now });
        }
        let account: Option<Account> = head.record(&RecordKey::Account(tx.signer))?;
        let account = account.ok_or(TxError::UnknownAccount)?;
        let keys = account.keys.ok_or(TxError::UnknownAccount)?;
        if account.revoked.is_some() {
            return Err(TxError::Revoked);
        }
        let Some(recovery) = recovery else {
            return self.admit_by(head, tx, ids, &keys);
        };
        if account.recovery != Some(recovery.digest()) {
            return Err(TxError::Unauthorized);
        }
        let digest = ids.action.to_bytes();
        if !self.verifier.verify(recovery, &digest, &tx.signature) {
            return Err(TxError::InvalidSignature);
        }
        Ok(Checked::Signed)
    }

    /// The signature must be by these keys of the signer.
    fn admit_by(
        &self,
        head: &Head,
        tx: &Tx,
        ids: &TxIds,
        keys: &AccountKeys,
    ) -> Result<Checked, TxError> {
        let digest = ids.action.to_bytes();
        let (signature, id) = (&tx.signature, &ids.signature);
        let ready = match self.verifier.key(&keys.signing) {
            Some(key) => Some(key),
            None => match account_keys(head, &tx.signer)? {
                Some(PublicKeys::PostQuantum(_, key)) => self.verifier.keep_key(keys.signing, &key),
                Some(PublicKeys::Legacy(key)) => {
                    if !self.verifier.admit_legacy(&key, &digest, signature, id) {
                        return Err(TxError::InvalidSignature);
                    }
                    return Ok(Checked::Signed);
                }
                None => None,
            },
        };
        let Some(key) = ready else {
            return Ok(Checked::Nothing);
        };
        if !self
            .verifier
            .admit(&keys.signing, &key, &digest, signature, id)
        {
            return Err(TxError::InvalidSignature);
        }
        self.verifier.keep_signer(tx.signer, keys.signing, key);
        Ok(Checked::Signed)
    }

    fn count(&self, tx: &Tx) -> Result<(), TxError> {
        // Only what the signer has really signed counts against it.
        let what = "transactions of one signer";
        let taken = self.rates.take(tx.signer, self.clock.wall());
        taken.map_err(|retry_ms| TxError::RateLimited { what, retry_ms })
    }

    /// Hands a transaction to the producer; the answer comes when its block is durable.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn enqueue(
        &self,
        tx: Tx,
        ids: TxIds,
        bytes: usize,
    ) -> Result<oneshot::Receiver<Answer>, SubmitError> {
        self.enqueue_from(true, tx, ids, bytes)
    }

    /// [`Node::enqueue`] of what was submitted here, or came from another node.
    pub(crate) fn enqueue_from(
        &self,
        local: bool,
        tx: Tx,
        ids: TxIds,
        bytes: usize,
    ) -> Result<oneshot::Receiver<Answer>, SubmitError> {
        // A slow disk must not let full-sized transactions pile up in memory.
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) > QUEUE_BYTES {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(SubmitError::Busy { retry_ms: 100 });
        }
        let (reply, answer) = oneshot::channel();
        let sent = self.queue.try_send(Submission {
            tx,
            ids,
            bytes,
            local,
            reply,
        });
        if sent.is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        match sent {
            Ok(()) => Ok(answer),
            Err(TrySendError::Full(_)) => Err(SubmitError::Busy { retry_ms: 100 }),
            Err(TrySendError::Disconnected(_)) => Err(SubmitError::Stopping),
        }
    }

    /// Admits, enqueues and waits for a transaction.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&self, tx: Tx) -> Result<Accepted, SubmitError> {
        let ids = tx.ids(&self.chain);
        self.submit_as(tx, ids).await
    }

    /// [`Node::submit`] for those who have computed the ids already.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit_as(&self, tx: Tx, ids: TxIds) -> Result<Accepted, SubmitError> {
        self.check_busy()?;
        self.admit(&self.head(), &tx, &ids)?;
        let bytes = tx.encoded_len();
        self.enqueue(tx, ids, bytes)?
            .await
            .unwrap_or(Err(SubmitError::Stopping))
    }

    /// Stops producing, and returns once everything is on disk.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the producing thread had panicked");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What was found of a transaction's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It holds.
    Signed,
    /// There is none, or nobody knows yet by which key: the block will say.
    Nothing,
}

/// The recovery key that a rotation or a revocation names; nothing of other kinds.
const fn key_change(kind: &Kind) -> Option<Option<&SigningKey>> {
    if let Kind::RotateKeys(RotateKeys { recovery, .. })
    | Kind::RevokeIdentity(RevokeIdentity { recovery }) = kind
    {
        Some(recovery.as_ref())
    } else {
        None
    }
}
