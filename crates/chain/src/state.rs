//! `apply`: the pure state transition.
//!
//! A block is applied as: sweep what is due, then each transaction in order, each in a [`Scope`]
//! of its own over the block's overlay. A transaction that does not apply changes nothing, and
//! makes a block that contains it invalid. Keys are read from the state of the *parent* block, so
//! registrations and rotations count from the next one.

mod error;

use session_core::account::Account;
use session_core::channel::{Channel, Member, Role};
use session_core::codec::{Decode, Encode, Reader};
use session_core::ids::{AccountId, ActionId, ChainId, ChannelId, Digest, SessionId, TxId};
use session_core::limits::{
    ACTION_KEPT_MS, OPEN_REQUESTS_MAX, RECORD_WEIGHT, REQUEST_WINDOW_MS, REQUESTS_PER_DAY,
    VALID_AHEAD_MAX_MS,
};
use session_core::log::{Conversation, Entry, LogId, MembershipEntry, MembershipEvent};
use session_core::merkle::{Frontier, Hash};
use session_core::parameters::{Parameters, Rate};
use session_core::record::{Action, Outcome, RecordKey};
use session_core::session::{Roster, Session, Status};
use session_core::time::Time;

use crate::quota::take;
use crate::sweep::drop_request;
use crate::tx::legacy::LegacyKey;
use crate::tx::{KemKey, Kind, SigningKey, Tx, TxIds};
use crate::view::{
    Overlay, Table, View, ViewError, account_keys_key, append_to_log, deadline_key, entry_key,
    legacy_key_key, message_place, read_record, session_keys_key,
};

pub use self::error::TxError;

/// What the rules ask of cryptography. The one implementation outside tests is made of
/// `session-crypto` and a cache of verified signatures.
pub trait Crypto {
    /// Account of these keys, `BLAKE2b-256(KEM key || signing key)`; none if a key is malformed.
    fn account_id(&self, kem: &KemKey, signing: &SigningKey) -> Option<AccountId>;

    /// Whether the bytes are a valid ML-KEM-768 public key (FIPS 203 §7.2).
    fn is_kem_key(&self, kem: &KemKey) -> bool;

    /// Whether this signature is known to hold: spares reading the key.
    fn is_verified(&self, key: &Digest, digest: &Hash, signature: &Digest) -> bool;

    /// Verifies an ML-DSA-65 signature over 32 bytes.
    fn verify(&self, key: &SigningKey, digest: &Hash, signature: &[u8]) -> bool;

    /// `05` account of an Ed25519 key: its X25519 image; none if the key is malformed or weak.
    fn legacy_account_id(&self, key: &LegacyKey) -> Option<AccountId>;

    /// Verifies an Ed25519 signature over 32 bytes, strictly: of each there is one form.
    fn verify_legacy(&self, key: &LegacyKey, digest: &Hash, signature: &[u8]) -> bool;
}

/// What every transaction of a block sees.
pub struct Context<'a> {
    /// Chain.
    pub chain: ChainId,
    /// Height of the block being applied.
    pub height: u64,
    /// Its time.
    pub time: Time,
    /// Parameters of the chain.
    pub parameters: Parameters,
    /// Cryptography.
    pub crypto: &'a dyn Crypto,
    /// State of the parent block.
    pub parent: &'a dyn View,
}

/// One transaction being applied.
pub struct Scope<'a, 'b> {
    pub(crate) context: &'a Context<'b>,
    pub(crate) over: Overlay<'a>,
    pub(crate) ids: &'a TxIds,
    /// Bytes of weight that it pays for beside its own.
    bought: u64,
    /// Bytes that it writes and does not carry.
    copied: u64,
}

/// What an applied transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Its id.
    pub tx: TxId,
    /// What its signature covers.
    pub action: ActionId,
    /// Its result.
    pub outcome: Outcome,
    /// Its weight: bytes, and a kilobyte for each record touched.
    pub weight: u64,
}

/// Applies one transaction of `bytes` over `block`, which is changed only on success. It may
/// weigh at most `room`.
///
/// # Errors
/// [`TxError`]; [`TxError::BlockFull`] when it weighs more.
pub fn apply_tx(
    context: &Context<'_>,
    block: &mut Overlay<'_>,
    tx: &Tx,
    ids: &TxIds,
    bytes: usize,
    room: u64,
) -> Result<Applied, TxError> {
    let mut scope = Scope {
        context,
        over: Overlay::new(&*block),
        ids,
        bought: 0,
        copied: 0,
    };
    if tx.is_legacy_signed() && !context.parameters.allow_legacy {
        return Err(TxError::LegacyRefused);
    }
    let single = tx.kind.is_single_message();
    if single {
        scope.check_message()?;
    } else {
        scope.check_action(tx)?;
    }
    let outcome = scope.apply_kind(tx)?;
    if !single {
        scope.remember_action(tx, outcome)?;
    }
    let weight = (bytes as u64 + RECORD_WEIGHT * scope.touched()).saturating_add(scope.copied);
    if weight > room {
        return Err(TxError::BlockFull);
    }
    scope.charge(tx, weight, scope.bought)?;
    let changes = scope.over.into_changes();
    block.merge(changes);
    Ok(Applied {
        action: ids.action,
        tx: ids.tx,
        outcome,
        weight,
    })
}

impl<'a> Scope<'a, '_> {
    fn apply_kind(&mut self, tx: &Tx) -> Result<Outcome, TxError> {
        match &tx.kind {
            Kind::RegisterIdentity(k) => k.apply(self, tx),
            Kind::RotateKeys(k) => k.apply(self, tx),
            Kind::RevokeIdentity(k) => k.apply(self, tx),
            Kind::CreateSession(k) => k.apply(self, tx),
            Kind::AcceptSession(k) => k.apply(self, tx),
            Kind::RenewSession(k) => k.apply(self, tx),
            Kind::CloseSession(k) => k.apply(self, tx),
            Kind::SendMessage(k) => k.apply(self, tx),
            Kind::SendBatch(k) => k.apply(self, tx),
            Kind::AcknowledgeMessages(k) => k.apply(self, tx),
            Kind::CreateChannel(k) => k.apply(self, tx),
            Kind::CloseChannel(k) => k.apply(self, tx),
            Kind::ChannelMembers(k) => k.apply(self, tx),
            Kind::PutChunk(k) => k.apply(self, tx),
            Kind::Transfer(k) => k.apply(self, tx),
            Kind::RegisterLegacy(k) => k.apply(self, tx),
            Kind::CreateGroup(k) => k.apply(self, tx),
            Kind::AdvanceGroup(k) => k.apply(self, tx),
            Kind::SetMode(k) => k.apply(self, tx),
            Kind::SetAdmins(k) => k.apply(self, tx),
            Kind::Supersede(k) => k.apply(self, tx),
            Kind::GroupPost(k) => k.apply(self, tx),
            Kind::TopUpGroup(k) => k.apply(self, tx),
            Kind::PutGroupChunk(k) => k.apply(self, tx),
            Kind::PublishKeyPackages(k) => k.apply(self, tx),
            Kind::TakeKeyPackages(k) => k.apply(self, tx),
        }
    }

    /// Time window and replay.
    fn check_action(&self, tx: &Tx) -> Result<(), TxError> {
        if let Some(action) = self.record::<Action>(&RecordKey::Action(self.ids.action))? {
            return Err(TxError::Duplicate {
                outcome: action.outcome,
            });
        }
        let now = self.context.time;
        if tx.valid_until < now {
            let valid_until = tx.valid_until.ms();
            return Err(TxError::Expired {
                valid_until,
                now: now.ms(),
            });
        }
        if tx.valid_until > now.after_ms(VALID_AHEAD_MAX_MS) {
            return Err(TxError::ValidTooLong { now: now.ms() });
        }
        Ok(())
    }

    /// A single message is recognised by its id, whatever became of its conversation since.
    fn check_message(&self) -> Result<(), TxError> {
        for (id, _) in &self.ids.messages {
            if let Some((_, sequence)) = message_place(&self.over, id)? {
                return Err(TxError::Duplicate {
                    outcome: Outcome::Sequence(sequence),
                });
            }
        }
        Ok(())
    }

    fn remember_action(&mut self, tx: &Tx, outcome: Outcome) -> Result<(), TxError> {
        let key = RecordKey::Action(self.ids.action);
        let expires = tx.valid_until.after_ms(ACTION_KEPT_MS);
        let action = Action {
            tx: self.ids.tx,
            height: self.context.height,
            expires,
            outcome,
        };
        self.put_record(&key, &action)?;
        self.set_deadline(&key, None, expires);
        Ok(())
    }

    // ---- records

    /// Records written or deleted so far, each counted once.
    fn touched(&self) -> u64 {
        self.over.changes().table(Table::Record).len() as u64
    }

    /// Pays for what a group may do later.
    pub(crate) fn buy(&mut self, budget: u64, reserve: u64) -> Result<(), TxError> {
        let what = "budget of one group";
        let bought = budget.checked_add(reserve);
        self.bought = bought.ok_or(TxError::LimitReached { what })?;
        Ok(())
    }

    /// Counts bytes that are written and that the transaction does not carry.
    pub(crate) fn copied(&mut self, bytes: usize) {
        self.copied = self.copied.saturating_add(bytes as u64);
    }

    /// Reads a record.
    pub(crate) fn record<T: Decode>(&self, key: &RecordKey) -> Result<Option<T>, TxError> {
        Ok(read_record(&self.over, key)?)
    }

    pub(crate) fn put_record<T: Encode>(
        &mut self,
        key: &RecordKey,
        record: &T,
    ) -> Result<(), TxError> {
        self.over
            .put(Table::Record, key.to_bytes(), record.to_bytes());
        Ok(())
    }

    pub(crate) fn delete_record(&mut self, key: &RecordKey) -> Result<(), TxError> {
        self.over.delete(Table::Record, key.to_bytes());
        Ok(())
    }

    pub(crate) fn account(&self, id: &AccountId) -> Result<Option<Account>, TxError> {
        self.record(&RecordKey::Account(*id))
    }

    pub(crate) fn account_or_new(&self, id: &AccountId) -> Result<Account, TxError> {
        Ok(self.account(id)?.unwrap_or_default())
    }

    pub(crate) fn put_account(&mut self, id: &AccountId, account: &Account) -> Result<(), TxError> {
        self.put_record(&RecordKey::Account(*id), account)
    }

    pub(crate) fn put_session(&mut self, id: &SessionId, session: &Session) -> Result<(), TxError> {
        self.put_record(&RecordKey::Session(*id), session)
    }

    pub(crate) fn put_channel(&mut self, id: &ChannelId, channel: &Channel) -> Result<(), TxError> {
        self.put_record(&RecordKey::Channel(*id), channel)
    }

    pub(crate) fn roster(&self, id: &SessionId) -> Result<Roster, TxError> {
        let bytes = self.over.get(Table::Roster, id.as_bytes())?;
        let bytes = bytes.ok_or(ViewError::Missing(Table::Roster))?;
        Ok(Roster::from_bytes(&bytes).map_err(ViewError::Damaged)?)
    }

    /// Moves a record's deadline.
    pub(crate) fn set_deadline(&mut self, key: &RecordKey, old: Option<Time>, new: Time) {
        if let Some(old) = old {
            self.over.delete(Table::Deadline, deadline_key(old, key));
        }
        self.over
            .put(Table::Deadline, deadline_key(new, key), Vec::new());
    }

    /// A session is dropped when it has ended and retention has passed.
    pub(crate) fn end_session(&mut self, id: &SessionId, old: Option<Time>, new: Time) {
        let kept = self.context.parameters.retention_ms;
        let old = old.map(|old| old.after_ms(kept));
        self.set_deadline(&RecordKey::Session(*id), old, new.after_ms(kept));
    }

    // ---- conversations

    /// A session that is neither closed nor expired, and the account's place in it.
    pub(crate) fn open_session(
        &self,
        id: &SessionId,
        account: &AccountId,
    ) -> Result<(Session, usize), TxError> {
        let session: Option<Session> = self.record(&RecordKey::Session(*id))?;
        let session = session.ok_or(TxError::UnknownSession)?;
        match session.status(self.context.time) {
            Status::Closed => return Err(TxError::SessionClosed),
            Status::Expired => return Err(TxError::SessionExpired),
            Status::Pending | Status::Active => {}
        }
        let position = self
            .roster(id)?
            .position(account)
            .ok_or(TxError::Unauthorized)?;
        Ok((session, position))
    }

    pub(crate) fn open_channel(&self, id: &ChannelId) -> Result<Channel, TxError> {
        let channel: Option<Channel> = self.record(&RecordKey::Channel(*id))?;
        let channel = channel.ok_or(TxError::UnknownChannel)?;
        if channel.closed.is_some() {
            Err(TxError::ChannelClosed)
        } else {
            Ok(channel)
        }
    }

    pub(crate) fn require_role(
        &self,
        channel: &ChannelId,
        account: &AccountId,
        role: Role,
    ) -> Result<(), TxError> {
        match self.record::<Member>(&RecordKey::Member(*channel, *account))? {
            Some(member) if member.accepted && member.role >= role => Ok(()),
            Some(_) | None => Err(TxError::Unauthorized),
        }
    }

    /// Marks a participant as having accepted, and enters the session in its memberships.
    pub(crate) fn accept(
        &mut self,
        id: &SessionId,
        session: &mut Session,
        position: usize,
        account: &AccountId,
    ) -> Result<(), TxError> {
        session.accepted |= 1 << position;
        if let Some(creator) = session.creator {
            self.drop_request(&creator, account)?;
        }
        let (event, creator) = (MembershipEvent::Accepted, session.creator);
        self.enter(account, event, Conversation::Session(*id), creator)
    }

    /// Appends to an account's memberships.
    pub(crate) fn enter(
        &mut self,
        id: &AccountId,
        event: MembershipEvent,
        conversation: Conversation,
        by: Option<AccountId>,
    ) -> Result<(), TxError> {
        let mut account = self.account_or_new(id)?;
        let log = LogId::Memberships(*id);
        self.append_membership(&log, &mut account.memberships, event, conversation, by)?;
        self.put_account(id, &account)
    }

    /// Appends to an account's requests, within the limits of what strangers may ask.
    pub(crate) fn request(
        &mut self,
        target: &AccountId,
        conversation: Conversation,
        by: Option<AccountId>,
    ) -> Result<(), TxError> {
        let mut account = self.account_or_new(target)?;
        if let Some(by) = by {
            let key = RecordKey::OpenRequests(by, *target);
            let [open] = self.record::<[u8; 1]>(&key)?.unwrap_or_default();
            if open >= OPEN_REQUESTS_MAX {
                return Err(TxError::LimitReached {
                    what: "open requests to one account",
                });
            }
            self.put_record(&key, &[open + 1])?;
            // A request weighs a day's milliseconds, and 200 of them drain in a day.
            let rate = Rate {
                per_second: REQUESTS_PER_DAY * 1_000,
                burst: REQUESTS_PER_DAY * REQUEST_WINDOW_MS,
            };
            take(
                &mut account.request_quota,
                self.context.time,
                REQUEST_WINDOW_MS,
                rate,
                "requests to one account",
            )?;
        }
        let (log, event) = (LogId::Requests(*target), MembershipEvent::Requested);
        self.append_membership(&log, &mut account.requests, event, conversation, by)?;
        self.put_account(target, &account)
    }

    /// Appends to one of an account's two logs.
    fn append_membership(
        &mut self,
        log: &LogId,
        frontier: &mut Frontier,
        event: MembershipEvent,
        conversation: Conversation,
        by: Option<AccountId>,
    ) -> Result<(), TxError> {
        let entry = Entry::Membership(MembershipEntry {
            sequence: frontier.count(),
            time: self.context.time,
            event,
            conversation,
            by,
        });
        self.append_entry(log, frontier, &entry)
    }

    /// Ends one open request.
    pub(crate) fn drop_request(
        &mut self,
        by: &AccountId,
        target: &AccountId,
    ) -> Result<(), TxError> {
        Ok(drop_request(&mut self.over, *by, *target)?)
    }

    /// Ends the requests of a session that were not accepted.
    pub(crate) fn drop_requests(
        &mut self,
        id: &SessionId,
        session: &Session,
    ) -> Result<(), TxError> {
        let Some(creator) = session.creator else {
            return Ok(());
        };
        for (position, participant) in self.roster(id)?.participants().iter().enumerate() {
            if !session.has_accepted(position) {
                self.drop_request(&creator, &participant.account)?;
            }
        }
        Ok(())
    }

    /// Appends to a log: entry, frontier, and the tile roots it completes.
    pub(crate) fn append_entry(
        &mut self,
        log: &LogId,
        frontier: &mut Frontier,
        entry: &Entry,
    ) -> Result<(), TxError> {
        let bytes = entry.to_bytes();
        let leaf = session_core::log::leaf_of(&bytes);
        let over = &mut self.over;
        append_to_log(over, log, frontier, 0, leaf)?;
        over.put(Table::Entry, entry_key(log, entry.sequence()), bytes);
        Ok(())
    }

    // ---- signatures

    /// Whether the account is registered, now or in the parent state.
    pub(crate) fn has_keys(&self, id: &AccountId) -> Result<bool, TxError> {
        Ok(self
            .account(id)?
            .is_some_and(|account| account.keys.is_some()))
    }

    /// The signer must be registered in the parent state, not revoked, and its signature valid.
    pub(crate) fn require_signer(&self, tx: &Tx) -> Result<(), TxError> {
        if !tx.is_signed() {
            return Err(TxError::SignatureRequired);
        }
        let now = self.account(&tx.signer)?.ok_or(TxError::UnknownAccount)?;
        self.require_keys_of(tx, &now)
    }

    /// [`Scope::require_signer`] for those who have read the signer's account already.
    pub(crate) fn require_keys_of(&self, tx: &Tx, signer: &Account) -> Result<(), TxError> {
        if !tx.is_signed() {
            return Err(TxError::SignatureRequired);
        }
        if signer.revoked.is_some() {
            return Err(TxError::Revoked);
        }
        let keys = signer.keys.ok_or(TxError::UnknownAccount)?;
        // Keys that this block has set count from the next one; older ones are the parent's.
        let keys = if keys.since_height < self.context.height {
            keys
        } else {
            let key = RecordKey::Account(tx.signer);
            let parent: Option<Account> = read_record(self.context.parent, &key)?;
            let before = parent.and_then(|account| account.keys);
            before.ok_or(TxError::KeysNextBlock)?
        };
        let digest = self.ids.action.to_bytes();
        if self
            .context
            .crypto
            .is_verified(&keys.signing, &digest, &self.ids.signature)
        {
            return Ok(());
        }
        let parent = self.context.parent;
        let bytes = parent.get(Table::Keys, &account_keys_key(&tx.signer))?;
        let Some(bytes) = bytes else {
            // An 05 account that has not rotated to post-quantum keys.
            let bytes = parent.get(Table::Keys, &legacy_key_key(&tx.signer))?;
            let bytes = bytes.ok_or(ViewError::Missing(Table::Keys))?;
            let key = LegacyKey::from_bytes(&bytes).map_err(ViewError::Damaged)?;
            return self.require_legacy_signature(tx, &key);
        };
        let mut input = Reader::new(&bytes);
        let damaged = ViewError::Damaged;
        KemKey::decode(&mut input).map_err(damaged)?;
        let key = SigningKey::decode(&mut input).map_err(damaged)?;
        self.require_signature_by(tx, &key)
    }

    /// The signature must be this key's.
    pub(crate) fn require_signature_by(&self, tx: &Tx, key: &SigningKey) -> Result<(), TxError> {
        if !tx.is_signed() {
            return Err(TxError::SignatureRequired);
        }
        if self
            .context
            .crypto
            .verify(key, &self.ids.action.to_bytes(), &tx.signature)
        {
            Ok(())
        } else {
            Err(TxError::InvalidSignature)
        }
    }

    /// The signature must be this Ed25519 key's.
    pub(crate) fn require_legacy_signature(&self, tx: &Tx, key: &LegacyKey) -> Result<(), TxError> {
        if !tx.is_signed() {
            return Err(TxError::SignatureRequired);
        }
        let digest = self.ids.action.to_bytes();
        if self
            .context
            .crypto
            .verify_legacy(key, &digest, &tx.signature)
        {
            Ok(())
        } else {
            Err(TxError::InvalidSignature)
        }
    }

    /// The signer's current key, or its recovery key where that is given, must have signed.
    pub(crate) fn require_owner(
        &self,
        tx: &Tx,
        recovery: Option<&SigningKey>,
    ) -> Result<(), TxError> {
        let Some(recovery) = recovery else {
            return self.require_signer(tx);
        };
        let account = self.account(&tx.signer)?.ok_or(TxError::UnknownAccount)?;
        if account.revoked.is_some() {
            return Err(TxError::Revoked);
        }
        if account.recovery != Some(recovery.digest()) {
            return Err(TxError::Unauthorized);
        }
        self.require_signature_by(tx, recovery)
    }

    /// The signing key that a session was opened with for a participant who is not registered.
    pub(crate) fn session_signing_key(
        &self,
        session: &SessionId,
        position: usize,
    ) -> Result<Option<SigningKey>, TxError> {
        let position = u8::try_from(position).ok();
        let bytes = self
            .over
            .get(Table::Keys, &session_keys_key(session, position))?;
        let Some(bytes) = bytes else { return Ok(None) };
        let mut input = Reader::new(&bytes);
        let damaged = ViewError::Damaged;
        input.option::<KemKey>("KEM key").map_err(damaged)?;
        Ok(input.option("signing key").map_err(damaged)?)
    }
}
