//! An identity on one chain: connecting, and who it is there.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::json;
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::{KemKey, Kind, SigningKey};
use session_core::codec::Decode;
use session_core::header::Header;
use session_core::ids::{AccountId, ChainId};
use session_core::parameters::Parameters;
use session_core::record::RecordKey;
use session_core::time::{DAY_MS, Time};
use session_crypto::{Identity, PublicIdentity};

use crate::committee::{LOOK, WITNESS_LIMIT};
use crate::error::ClientError;
use crate::history::History;
use crate::identity_file::IdentityFile;
use crate::outbox::Flushed;
use crate::people::{Lookup, Reading, key_digest};
use crate::rpc::RpcClient;
use crate::state::{State, StateDir};
use crate::trust::{Met, ShownHead, Trust, TrustError, decode_proof};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadReply {
    chain: ChainId,
    header: String,
    head_key: String,
    #[serde(default)]
    certificate: Option<String>,
    #[serde(default)]
    root_key: Option<String>,
}

impl HeadReply {
    fn shown(&self) -> ShownHead<'_> {
        ShownHead {
            chain: self.chain,
            head_key: &self.head_key,
            root_key: self.root_key.as_deref(),
            certificate: self.certificate.as_deref(),
        }
    }
}

#[derive(Deserialize)]
struct ParametersReply {
    proof: Option<String>,
}

/// An identity with its state on one chain.
pub struct Account {
    pub(crate) rpc: RpcClient,
    pub(crate) identity: Identity,
    /// Where the identity is kept, if it was opened from there.
    pub(crate) file: Option<IdentityFile>,
    /// Keys of a rotation that the chain has not accepted yet.
    pub(crate) next: Option<Identity>,
    pub(crate) dir: StateDir,
    pub(crate) history: History,
    pub(crate) state: State,
    pub(crate) chain: ChainId,
    pub(crate) known: HashMap<AccountId, Lookup>,
    pub(crate) readings: HashMap<AccountId, Reading>,
    pub(crate) head_time: Time,
    /// Time of the newest block that a proof has shown.
    pub(crate) proved_time: Time,
    /// Why the node is not asked, and since when, once it did not answer.
    pub(crate) away: Option<(String, Instant)>,
    pub(crate) flushed: Flushed,
    followed_head_key: bool,
}

/// A node that did not answer is not asked again for this long: a sender must not wait for it
/// each time.
const AWAY_FOR: Duration = Duration::from_secs(10);

/// Wall clock.
pub(crate) fn now() -> Time {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Time::from_ms(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Public keys as transactions carry them.
pub(crate) fn tx_keys(public: &PublicIdentity) -> (KemKey, SigningKey) {
    let kem = KemKey(Box::new(*public.kem().as_bytes()));
    (kem, SigningKey(Box::new(*public.signing().as_bytes())))
}

/// What the node says of itself. One of several may be some blocks behind the one that was asked
/// before: it is given 5 s to come to what was seen, and what it shows then is judged as ever.
async fn current_head(rpc: &RpcClient, trust: &Trust) -> Result<(HeadReply, Header), ClientError> {
    let began = Instant::now();
    loop {
        let head: HeadReply = rpc.call("sessionvm.GetHead", json!({})).await?;
        let header = const_hex::decode(&head.header).unwrap_or_default();
        let header = Header::from_bytes(&header).map_err(|_| ClientError::Reply("header"))?;
        let behind = trust.committee.is_some() && header.height < trust.height;
        if !behind || began.elapsed() > WITNESS_LIMIT {
            return Ok((head, header));
        }
        tokio::time::sleep(LOOK).await;
    }
}

impl Account {
    /// Connects, pins the chain and its head key, registers the identity if it is not, and sends
    /// what waits in the outbox.
    ///
    /// # Errors
    /// [`ClientError`]; [`ClientError::RotatedElsewhere`] and [`ClientError::Revoked`] where the
    /// chain knows better than this identity.
    pub async fn open(rpc: RpcClient, identity: Identity, dir: &Path) -> Result<Self, ClientError> {
        let mut this = Self::connect(rpc, identity, dir).await?;
        this.settle_own_keys().await?;
        this.flushed = this.flush_outbox().await?;
        Ok(this)
    }

    /// The same with the identity in a file: its keys can rotate, and a rotation that was
    /// interrupted is finished, or undone, as the chain says.
    ///
    /// # Errors
    /// As [`Account::open`], and those of reading the file.
    pub async fn open_file(
        rpc: RpcClient,
        file: IdentityFile,
        dir: &Path,
    ) -> Result<Self, ClientError> {
        let (identity, next) = (file.load()?, file.load_next()?);
        Self::open_loaded(rpc, file, identity, next, dir).await
    }

    /// The same, and where the node does not answer or is busy, offline: what is sent then waits in the
    /// outbox. That needs an account that was opened on its chain before.
    ///
    /// # Errors
    /// As [`Account::open_file`]; [`ClientError::Rpc`] where the account was never opened.
    pub async fn open_file_or_offline(
        rpc: RpcClient,
        file: IdentityFile,
        dir: &Path,
    ) -> Result<Self, ClientError> {
        let (identity, next) = (file.load()?, file.load_next()?);
        let state = StateDir::open(dir)?.load()?;
        let again = identity.duplicate()?;
        match Self::open_loaded(rpc.clone(), file.clone(), identity, next, dir).await {
            Err(ClientError::Rpc(error))
                if error.is_temporary() && state.registered && state.trust.chain.is_some() =>
            {
                let next = file.load_next()?;
                let mut this = Self::open_loaded_offline(rpc, file, again, next, dir)?;
                this.gone(error.to_string());
                Ok(this)
            }
            result => result,
        }
    }

    /// [`Account::open_offline`] for the identity of a file, with what is sealed to it: names of contacts,
    /// and the history.
    ///
    /// # Errors
    /// [`ClientError::NeverOpened`], [`ClientError::State`], [`ClientError::IdentityFile`].
    pub fn open_file_offline(
        rpc: RpcClient,
        file: IdentityFile,
        dir: &Path,
    ) -> Result<Self, ClientError> {
        let (identity, next) = (file.load()?, file.load_next()?);
        Self::open_loaded_offline(rpc, file, identity, next, dir)
    }

    fn open_loaded_offline(
        rpc: RpcClient,
        file: IdentityFile,
        identity: Identity,
        next: Option<Identity>,
        dir: &Path,
    ) -> Result<Self, ClientError> {
        let mut this = Self::open_offline(rpc, identity, dir)?;
        this.next = next;
        this.keep_in(file)?;
        Ok(this)
    }

    /// An account that was opened on its chain before, without asking the node: it can send,
    /// confirm and close where it knows keys and participants, and all of that waits in the
    /// outbox until [`Account::flush_outbox`].
    ///
    /// # Errors
    /// [`ClientError::NeverOpened`], [`ClientError::State`].
    pub fn open_offline(
        rpc: RpcClient,
        identity: Identity,
        dir: &Path,
    ) -> Result<Self, ClientError> {
        let dir = StateDir::open(dir)?;
        let state = dir.load()?;
        let chain = state.trust.chain.filter(|_| state.registered);
        let chain = chain.ok_or(ClientError::NeverOpened)?;
        let mut this = Self::assemble(rpc, identity, dir, state, chain);
        this.gone("it was opened offline".to_owned());
        Ok(this)
    }

    async fn open_loaded(
        rpc: RpcClient,
        file: IdentityFile,
        identity: Identity,
        next: Option<Identity>,
        dir: &Path,
    ) -> Result<Self, ClientError> {
        let mut this = Self::connect(rpc, identity, dir).await?;
        this.keep_in(file)?;
        this.next = next;
        this.resume_rotation().await?;
        this.settle_own_keys().await?;
        this.flushed = this.flush_outbox().await?;
        Ok(this)
    }

    /// Reads the state again, for whoever gave its directory up to others in between. Keys that
    /// another program has rotated meanwhile need a new [`Account::open_file`].
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn reload(&mut self) -> Result<(), ClientError> {
        let mut state = self.dir.load()?;
        self.dir.open_contacts(&mut state)?;
        self.state = state;
        Ok(())
    }

    /// The identity is kept in this file, and the history as well as it.
    fn keep_in(&mut self, file: IdentityFile) -> Result<(), ClientError> {
        if file.has_passphrase() {
            self.history = History::sealed(self.dir.clone(), &self.identity)?;
            if let Some(key) = self.history.key() {
                self.dir.seal_with(key);
                self.dir.open_contacts(&mut self.state)?;
                self.dir.save(&self.state)?;
            }
        }
        self.file = Some(file);
        Ok(())
    }

    fn assemble(
        rpc: RpcClient,
        identity: Identity,
        dir: StateDir,
        state: State,
        chain: ChainId,
    ) -> Self {
        Self {
            rpc,
            identity,
            file: None,
            next: None,
            history: History::plain(dir.clone()),
            dir,
            state,
            chain,
            known: HashMap::new(),
            readings: HashMap::new(),
            head_time: Time::default(),
            proved_time: Time::default(),
            away: None,
            flushed: Flushed::default(),
            followed_head_key: false,
        }
    }

    /// Meets the node: chain, head key, root key.
    pub(crate) async fn connect(
        rpc: RpcClient,
        identity: Identity,
        dir: &Path,
    ) -> Result<Self, ClientError> {
        let dir = StateDir::open(dir)?;
        let mut state = dir.load()?;
        let (head, header) = current_head(&rpc, &state.trust).await?;
        let met = state.trust.meet(&head.shown())?;
        dir.save(&state)?;
        let mut this = Self::assemble(rpc, identity, dir, state, head.chain);
        this.head_time = header.time;
        this.followed_head_key = met == Met::Followed;
        if !this.state.trust.root_known {
            this.pin_root_key().await?;
        }
        Ok(this)
    }

    /// Meets a node that no longer signs with the pinned key. Answers whether it has another one
    /// that is certified.
    pub(crate) async fn meet_again(&mut self) -> Result<bool, ClientError> {
        let head: HeadReply = self.rpc.call("sessionvm.GetHead", json!({})).await?;
        let followed = self.state.trust.meet(&head.shown())? == Met::Followed;
        self.followed_head_key |= followed;
        Ok(followed)
    }

    /// The root key that the genesis names, proved under the pinned head key: from now on it is
    /// what certifies another head key.
    async fn pin_root_key(&mut self) -> Result<(), ClientError> {
        let params = json!({ "proof": true });
        let reply: ParametersReply = self.rpc.call("sessionvm.GetParameters", params).await?;
        // A node of an earlier release proves nothing here: asked again next time.
        let Some(proof) = reply.proof else {
            return Ok(());
        };
        let proved = self.believe(&mut decode_proof(&proof)?).await?;
        let record = proved
            .record
            .filter(|_| proved.key == RecordKey::Parameters)
            .ok_or(ClientError::Reply("the proof is not about the parameters"))?;
        let parameters = Parameters::from_bytes(&record).map_err(TrustError::from)?;
        self.state.trust.pin_root(parameters.root_key);
        self.state.retention_ms = parameters.retention_ms;
        Ok(self.dir.save(&self.state)?)
    }

    /// The account's id.
    pub const fn id(&self) -> AccountId {
        self.identity.account_id()
    }

    /// The identity.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The chain.
    pub const fn chain(&self) -> ChainId {
        self.chain
    }

    /// Days for which this chain keeps bodies, proved when it was met; those of a chain by default where
    /// it was met by an earlier release.
    pub fn retention_days(&self) -> u64 {
        self.retention_ms() / DAY_MS
    }

    pub(crate) fn retention_ms(&self) -> u64 {
        match self.state.retention_ms {
            0 => Parameters::default().retention_ms,
            ms => ms,
        }
    }

    /// For how long this chain keeps bodies of groups and chunks, in milliseconds: what is younger and is
    /// said to be gone is withheld. Where it was never proved: a day, which every chain does.
    pub(crate) fn kept_ms(&self) -> u64 {
        self.state.retention_ms.max(DAY_MS)
    }

    /// What is kept between runs.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// The connection.
    pub const fn rpc(&self) -> &RpcClient {
        &self.rpc
    }

    /// What became of the outbox when the account was opened.
    pub const fn flushed(&self) -> &Flushed {
        &self.flushed
    }

    /// The directory of this account.
    pub const fn dir(&self) -> &StateDir {
        &self.dir
    }

    /// What was said so far.
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Why the node is not asked, where it did not answer.
    pub fn away(&self) -> Option<&str> {
        self.away.as_ref().map(|(problem, _)| problem.as_str())
    }

    /// The node did not answer.
    pub(crate) fn gone(&mut self, problem: String) {
        self.away = Some((problem, Instant::now()));
    }

    /// Whether a node that did not answer may be asked again.
    pub(crate) fn may_be_back(&self) -> bool {
        let since = self.away.as_ref().map(|(_, since)| since.elapsed());
        since.is_some_and(|since| since > AWAY_FOR)
    }

    /// Whether the node showed another head key than before, certified by the operator's root
    /// key: it was restored from a backup.
    pub const fn followed_head_key(&self) -> bool {
        self.followed_head_key
    }

    pub(crate) async fn register(&mut self) -> Result<(), ClientError> {
        if self.identity.rotation() > 0 {
            // Only first keys hash to the account. This chain has seen no others.
            let seed = self.identity.seed().cloned();
            let first = Identity::from_seed(seed.ok_or(ClientError::OtherChainKeys)?)?;
            self.become_rotation(first)?;
        }
        let recovery = match self.identity.recovery_key()? {
            Some(key) => Some(key_digest(key.public_key())),
            None => self.state.recovery,
        };
        let (kem, signing) = tx_keys(self.identity.public());
        let kind = Kind::RegisterIdentity(RegisterIdentity {
            kem,
            signing,
            recovery,
        });
        self.submit_one(kind).await.map(drop)
    }
}
