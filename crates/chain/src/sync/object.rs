//! What belongs to one record, and whether it is what the record's hashes name.

use session_core::account::{Account, AccountKeys};
use session_core::channel::Channel;
use session_core::codec::{Decode, Reader};
use session_core::group::Group;
use session_core::hash::sha256;
use session_core::ids::{ChunkId, KeyPackageId};
use session_core::key_package::{KeyPackages, TakenKeyPackages};
use session_core::limits::{TILE_LEAVES, TILE_LEVEL};
use session_core::log::{Entry, LogId, leaf_of};
use session_core::merkle::{Frontier, MerkleError};
use session_core::record::{Chunk, RecordKey};
use session_core::session::{Roster, Session};

use super::account::{AccountCells, read_keys};
use super::group::{GroupCells, Signed, Signer, is_advance, is_package, published, taken};
use super::span::{Span, log_of, spans};
use super::{Cell, Rules, SyncError};
use crate::tx::chunk::PutChunk;
use crate::tx::group::post::post_action;
use crate::tx::message::{Auth, BatchAuth, Body};
use crate::tx::{KemKey, SigningKey, batch_action};
use crate::view::{
    Overlay, Table, View, ViewError, account_keys_key, append_to_log, batch_key, entry_key,
    group_posting_key, is_message_body, read_record,
};

enum Record {
    Session(Session),
    Channel(Channel),
    Account(Box<Account>),
    Chunk(Chunk),
    Group(Box<Group>),
    /// Cells of key packages, and the package of each.
    Packages(Vec<(Vec<u8>, KeyPackageId)>),
}

/// One record, and what has come of it so far.
pub(super) struct Object {
    key: RecordKey,
    record: Record,
    spans: Vec<Span>,
    /// The last cell: number of its span, and its suffix.
    last: Option<(u8, Vec<u8>)>,
    roster: Option<Roster>,
    /// Positions of a session's participants whose keys came, with and without a signing key.
    keys: u128,
    signing: u128,
    /// The log that is being read.
    log: Frontier,
    /// Its first entry that is not gone.
    first: u64,
    /// The first entry whose body must be there.
    young: Option<u64>,
    /// One past the last body.
    bodies: u64,
    /// A batch that has begun, whose signature follows.
    batch: Option<u64>,
    chunk: bool,
    account: AccountCells,
    /// Whether the first of an account's two logs is whole.
    memberships: bool,
    group: GroupCells,
    /// Key packages that came.
    packages: usize,
}

impl Object {
    /// Begins with a record that is known to be in the state; none where nothing belongs to it.
    pub(super) fn begin(over: &Overlay<'_>, key: RecordKey) -> Result<Option<Self>, SyncError> {
        let spans = spans(&key);
        if spans.is_empty() {
            return Ok(None);
        }
        let missing = || ViewError::Missing(Table::Record);
        let record = match key {
            RecordKey::Session(_) => Record::Session(read_record(over, &key)?.ok_or_else(missing)?),
            RecordKey::Channel(_) => Record::Channel(read_record(over, &key)?.ok_or_else(missing)?),
            RecordKey::Chunk(_) => Record::Chunk(read_record(over, &key)?.ok_or_else(missing)?),
            RecordKey::Account(_) => {
                Record::Account(Box::new(read_record(over, &key)?.ok_or_else(missing)?))
            }
            RecordKey::Group(_) => {
                Record::Group(Box::new(read_record(over, &key)?.ok_or_else(missing)?))
            }
            RecordKey::KeyPackages(_) => {
                let packages: Option<KeyPackages> = read_record(over, &key)?;
                Record::Packages(published(&packages.ok_or_else(missing)?))
            }
            RecordKey::TakenKeyPackages(..) => {
                let packages: Option<TakenKeyPackages> = read_record(over, &key)?;
                Record::Packages(taken(&packages.ok_or_else(missing)?))
            }
            RecordKey::Parameters
            | RecordKey::Quotas
            | RecordKey::Member(..)
            | RecordKey::Acknowledgement(..)
            | RecordKey::OpenRequests(..)
            | RecordKey::Action(_) => return Ok(None),
        };
        Ok(Some(Self {
            key,
            record,
            spans,
            last: None,
            roster: None,
            keys: 0,
            signing: 0,
            log: Frontier::new(),
            first: 0,
            young: None,
            bodies: 0,
            batch: None,
            chunk: false,
            account: AccountCells::default(),
            memberships: false,
            group: GroupCells::default(),
            packages: 0,
        }))
    }

    pub(super) const fn key(&self) -> RecordKey {
        self.key
    }

    fn other(&self, table: Table) -> SyncError {
        SyncError::OtherCell(self.key, table)
    }

    fn withheld(&self, table: Table) -> SyncError {
        SyncError::Withheld(self.key, table)
    }

    fn strange(&self) -> SyncError {
        SyncError::StrangeCell(self.key)
    }

    fn log_error(&self) -> impl Fn(MerkleError) -> SyncError + use<> {
        let key = self.key;
        move |error| SyncError::Log(key, error)
    }

    /// Checks the next cell and puts it into its place.
    ///
    /// # Errors
    /// [`SyncError`].
    pub(super) fn take(
        &mut self,
        cell: Cell,
        over: &mut Overlay<'_>,
        rules: &Rules<'_>,
    ) -> Result<(), SyncError> {
        let place = (cell.span, cell.suffix);
        if self.last.as_ref().is_some_and(|last| *last >= place) {
            return Err(self.strange());
        }
        let span = self.spans.get(usize::from(place.0));
        let span = span.filter(|span| span.holds(&place.1));
        let span = span.ok_or_else(|| self.strange())?;
        let (table, key) = (span.table, span.key(&place.1));
        let (number, suffix) = &place;
        let value = cell.value;
        match (&self.record, table) {
            (_, Table::Roster) => self.take_roster(&value)?,
            (Record::Session(_), Table::Keys) => self.take_session_keys(suffix, &value)?,
            (Record::Account(_), Table::Keys) => {
                self.take_account_keys(*number, suffix, &value, rules)?;
            }
            (Record::Group(group), Table::Keys) => {
                let taken = self.group.take(suffix, &value, group)?;
                taken.ok_or_else(|| self.other(Table::Keys))?;
            }
            (_, Table::Tile) => self.take_tile(suffix, &value, over)?,
            (_, Table::Entry) => self.take_entry(*number, suffix, &value, over, rules)?,
            (Record::Chunk(_), Table::Body) => self.take_chunk(&value)?,
            (Record::Packages(named), Table::Body) => {
                if !is_package(named, suffix, &value) {
                    return Err(self.other(Table::Body));
                }
                self.packages += 1;
            }
            (_, Table::Body) => self.take_body(&key, &value, over, rules)?,
            (_, Table::Record | Table::Keys | Table::Message | Table::Deadline) => {
                return Err(self.strange());
            }
        }
        over.put(table, key, value);
        self.last = Some(place);
        Ok(())
    }

    fn take_roster(&mut self, value: &[u8]) -> Result<(), SyncError> {
        let roster = Roster::from_bytes(value)?;
        match &self.record {
            Record::Session(session) if roster.digest() == session.roster => {}
            Record::Session(_)
            | Record::Channel(_)
            | Record::Account(_)
            | Record::Chunk(_)
            | Record::Group(_)
            | Record::Packages(_) => return Err(self.other(Table::Roster)),
        }
        self.roster = Some(roster);
        Ok(())
    }

    fn take_session_keys(&mut self, suffix: &[u8], value: &[u8]) -> Result<(), SyncError> {
        let mut input = Reader::new(value);
        let kem: Option<KemKey> = input.option("KEM key")?;
        let signing: Option<SigningKey> = input.option("signing key")?;
        input.finish()?;
        let (Some(roster), [position]) = (&self.roster, suffix) else {
            return Err(self.strange());
        };
        let participant = roster.participants().get(usize::from(*position));
        let participant = participant.ok_or_else(|| self.strange())?;
        let same = kem.is_some_and(|kem| kem.digest() == participant.kem)
            && signing
                .as_ref()
                .is_none_or(|key| Some(key.digest()) == participant.signing);
        if !same {
            return Err(self.other(Table::Keys));
        }
        self.keys |= 1 << position;
        self.signing |= u128::from(signing.is_some()) << position;
        Ok(())
    }

    fn take_account_keys(
        &mut self,
        span: u8,
        suffix: &[u8],
        value: &[u8],
        rules: &Rules<'_>,
    ) -> Result<(), SyncError> {
        let (RecordKey::Account(id), Record::Account(account)) = (self.key, &self.record) else {
            return Err(self.strange());
        };
        let other = SyncError::OtherCell(self.key, Table::Keys);
        let taken = self
            .account
            .take((span, suffix), value, id, account, rules)?;
        taken.ok_or(other)
    }

    fn take_tile(
        &mut self,
        suffix: &[u8],
        value: &[u8],
        over: &mut Overlay<'_>,
    ) -> Result<(), SyncError> {
        let count = match &self.record {
            Record::Channel(channel) => channel.log.count(),
            Record::Group(group) => group.log.count(),
            Record::Session(_) | Record::Account(_) | Record::Chunk(_) | Record::Packages(_) => {
                return Err(self.strange());
            }
        };
        let log = log_of(&self.key).ok_or_else(|| self.strange())?;
        let hash = value.try_into().map_err(|_| self.other(Table::Tile))?;
        let place = self.log.count() / TILE_LEAVES;
        if suffix != place.to_be_bytes() || self.log.count().saturating_add(TILE_LEAVES) > count {
            return Err(self.strange());
        }
        append_to_log(over, &log, &mut self.log, TILE_LEVEL, hash).map_err(self.log_error())?;
        self.first = self.log.count();
        Ok(())
    }

    fn take_entry(
        &mut self,
        span: u8,
        suffix: &[u8],
        value: &[u8],
        over: &mut Overlay<'_>,
        rules: &Rules<'_>,
    ) -> Result<(), SyncError> {
        if matches!(self.record, Record::Account(_)) && span == REQUESTS {
            self.end_memberships()?;
        }
        let (log, count) = self.entries_of(span).ok_or_else(|| self.strange())?;
        let sequence = self.log.count();
        if suffix != sequence.to_be_bytes() || sequence >= count {
            return Err(self.strange());
        }
        let entry = Entry::from_bytes(value)?;
        if entry.sequence() != sequence {
            return Err(self.other(Table::Entry));
        }
        let (fits, has_body) = match &entry {
            Entry::Message(_) => {
                let conversation = matches!(self.record, Record::Session(_) | Record::Channel(_));
                (conversation, true)
            }
            Entry::Membership(_) => (matches!(self.record, Record::Account(_)), false),
            Entry::Post(_) | Entry::Advance(_) => (matches!(self.record, Record::Group(_)), true),
        };
        if !fits {
            return Err(self.other(Table::Entry));
        }
        if has_body && entry.time() >= rules.bodies_since {
            self.young.get_or_insert(sequence);
        }
        append_to_log(over, &log, &mut self.log, 0, leaf_of(value)).map_err(self.log_error())
    }

    /// The log of an entry span, and how many entries it has.
    fn entries_of(&self, span: u8) -> Option<(LogId, u64)> {
        match (&self.record, self.key) {
            (Record::Session(session), RecordKey::Session(id)) => {
                Some((LogId::Session(id), session.log.count()))
            }
            (Record::Channel(channel), RecordKey::Channel(id)) => {
                Some((LogId::Channel(id), channel.log.count()))
            }
            (Record::Group(group), RecordKey::Group(id)) => {
                Some((LogId::Group(id), group.log.count()))
            }
            (Record::Account(account), RecordKey::Account(id)) if span == REQUESTS => {
                Some((LogId::Requests(id), account.requests.count()))
            }
            (Record::Account(account), RecordKey::Account(id)) => {
                Some((LogId::Memberships(id), account.memberships.count()))
            }
            _ => None,
        }
    }

    /// The first of an account's two logs is whole; the second begins.
    fn end_memberships(&mut self) -> Result<(), SyncError> {
        let Record::Account(account) = &self.record else {
            return Ok(());
        };
        if self.memberships {
            return Ok(());
        }
        if self.log != account.memberships {
            return Err(self.log_error()(MerkleError::RootMismatch));
        }
        self.memberships = true;
        self.log = Frontier::new();
        Ok(())
    }

    fn take_chunk(&mut self, value: &[u8]) -> Result<(), SyncError> {
        let (RecordKey::Chunk(id), Record::Chunk(chunk)) = (self.key, &self.record) else {
            return Err(self.strange());
        };
        let id: ChunkId = id;
        if PutChunk::id(value) != id || chunk.len as usize != value.len() {
            return Err(self.other(Table::Body));
        }
        self.chunk = true;
        Ok(())
    }

    fn take_body(
        &mut self,
        key: &[u8],
        value: &[u8],
        over: &Overlay<'_>,
        rules: &Rules<'_>,
    ) -> Result<(), SyncError> {
        let log = log_of(&self.key).ok_or_else(|| self.strange())?;
        self.end_log()?;
        let mut input = Reader::new(key);
        LogId::decode(&mut input)?;
        let sequence = input.u64("sequence")?;
        let entry = over.get(Table::Entry, &entry_key(&log, sequence))?;
        let entry = entry.ok_or_else(|| self.strange())?;
        let entry = Entry::from_bytes(&entry)?;
        if let Entry::Advance(entry) = &entry {
            return self.take_advance(
                key,
                is_advance(entry, value, &rules.header.chain)?,
                sequence,
            );
        }
        let entry = Signed::of(&entry).ok_or_else(|| self.other(Table::Body))?;
        if !is_message_body(key) {
            if self.batch.take() != Some(sequence) || key != batch_key(&log, sequence) {
                return Err(self.strange());
            }
            return self.check_batch(&log, &entry, value, over, rules);
        }
        self.begin_body(sequence)?;
        let body = Body::from_bytes(value)?;
        if sha256(&body.ciphertext) != *entry.body_hash.as_bytes() {
            return Err(self.other(Table::Body));
        }
        match &body.auth {
            Auth::Own(signature) if sha256(signature) == *entry.signature_hash.as_bytes() => {}
            Auth::Batch(first) if *first == sequence => self.batch = Some(sequence),
            // The signature went with the tile in which the batch began.
            Auth::Batch(first) if *first < self.first => {}
            Auth::Batch(first) if *first < sequence => {
                let batch = over.get(Table::Body, &batch_key(&log, *first))?;
                let batch = batch.ok_or_else(|| self.withheld(Table::Body))?;
                let batch = BatchAuth::from_bytes(&batch)?;
                let at = usize::try_from(sequence - first).unwrap_or(usize::MAX);
                if batch.messages.get(at) != Some(&entry.id) {
                    return Err(self.other(Table::Body));
                }
            }
            Auth::Own(_) | Auth::Batch(_) => return Err(self.other(Table::Body)),
        }
        self.bodies = sequence + 1;
        Ok(())
    }

    /// Nothing between the last body and this one is withheld.
    fn begin_body(&self, sequence: u64) -> Result<(), SyncError> {
        self.end_batch()?;
        match self.young {
            Some(young) if self.bodies.max(young) < sequence => Err(self.withheld(Table::Body)),
            Some(_) | None => Ok(()),
        }
    }

    /// The body of an advance is its transaction.
    fn take_advance(&mut self, key: &[u8], fits: bool, sequence: u64) -> Result<(), SyncError> {
        if !is_message_body(key) {
            return Err(self.strange());
        }
        self.begin_body(sequence)?;
        if !fits {
            return Err(self.other(Table::Body));
        }
        self.bodies = sequence + 1;
        Ok(())
    }

    /// The signature is the one that the entry names, over ids that the log has. Where the
    /// signer's key has never changed, it is verified: nothing else covers its time and salt.
    fn check_batch(
        &self,
        log: &LogId,
        first: &Signed,
        value: &[u8],
        over: &Overlay<'_>,
        rules: &Rules<'_>,
    ) -> Result<(), SyncError> {
        let batch = BatchAuth::from_bytes(value)?;
        let other = || self.other(Table::Body);
        if sha256(&batch.signature) != *first.signature_hash.as_bytes() {
            return Err(other());
        }
        for (sequence, id) in (first.sequence..).zip(&batch.messages) {
            let entry = over.get(Table::Entry, &entry_key(log, sequence))?;
            let entry = entry.as_deref().map(Entry::from_bytes).transpose()?;
            if entry.and_then(|entry| entry.message_id()) != Some(*id) {
                return Err(other());
            }
        }
        let sender = match &first.signer {
            Signer::Account(sender) => sender,
            Signer::Epoch(epoch) => return self.check_post(*epoch, &batch, over, rules),
        };
        let account: Option<Account> = read_record(over, &RecordKey::Account(*sender))?;
        let keys = account.and_then(|account| account.keys);
        if keys.is_some_and(|keys| keys.index == 0)
            && let Some(bytes) = over.get(Table::Keys, &account_keys_key(sender))?
        {
            let (_, key) = read_keys(&bytes)?;
            let BatchAuth {
                valid_until,
                salt,
                messages,
                signature,
            } = &batch;
            let action = batch_action(&rules.header.chain, sender, *valid_until, *salt, messages);
            if Some(key.digest()) == keys.map(|keys| keys.signing)
                && !rules.crypto.verify(&key, action.as_bytes(), signature)
            {
                return Err(other());
            }
        }
        Ok(())
    }

    /// The signature of a post, where the posting key of its epoch is still known.
    fn check_post(
        &self,
        epoch: u64,
        batch: &BatchAuth,
        over: &Overlay<'_>,
        rules: &Rules<'_>,
    ) -> Result<(), SyncError> {
        let RecordKey::Group(id) = self.key else {
            return Err(self.other(Table::Body));
        };
        let Some(key) = over.get(Table::Keys, &group_posting_key(&id, epoch))? else {
            return Ok(());
        };
        let key = SigningKey::from_bytes(&key)?;
        let head = (batch.valid_until, batch.salt);
        let action = post_action(&rules.header.chain, &id, head, epoch, &batch.messages);
        let crypto = rules.crypto;
        if crypto.verify(&key, action.as_bytes(), &batch.signature) {
            Ok(())
        } else {
            Err(self.other(Table::Body))
        }
    }

    fn end_batch(&self) -> Result<(), SyncError> {
        match self.batch {
            Some(_) => Err(self.withheld(Table::Body)),
            None => Ok(()),
        }
    }

    /// The log of a conversation is whole.
    fn end_log(&self) -> Result<(), SyncError> {
        let whole = match &self.record {
            Record::Session(session) => &session.log,
            Record::Channel(channel) => &channel.log,
            Record::Account(account) => &account.requests,
            Record::Group(group) => &group.log,
            Record::Chunk(_) | Record::Packages(_) => return Ok(()),
        };
        if self.log == *whole {
            return Ok(());
        }
        Err(self.log_error()(MerkleError::RootMismatch))
    }

    /// Nothing more of it comes.
    ///
    /// # Errors
    /// [`SyncError`].
    pub(super) fn end(mut self, over: &Overlay<'_>) -> Result<(), SyncError> {
        self.end_memberships()?;
        self.end_log()?;
        self.end_batch()?;
        match &self.record {
            Record::Session(session) => {
                self.end_session(over)?;
                self.end_bodies(session.log.count())
            }
            Record::Channel(channel) => self.end_bodies(channel.log.count()),
            Record::Account(account) => self.end_account(account.keys),
            Record::Group(group) if !self.group.are_whole(group) => Err(self.withheld(Table::Keys)),
            Record::Group(group) => self.end_bodies(group.log.count()),
            Record::Packages(named) if self.packages == named.len() => Ok(()),
            Record::Chunk(_) if self.chunk => Ok(()),
            Record::Chunk(_) | Record::Packages(_) => Err(self.withheld(Table::Body)),
        }
    }

    fn end_bodies(&self, count: u64) -> Result<(), SyncError> {
        match self.young {
            Some(young) if self.bodies.max(young) < count => Err(self.withheld(Table::Body)),
            Some(_) | None => Ok(()),
        }
    }

    /// Whoever is not registered was named with keys, which are the only ones known.
    fn end_session(&self, over: &Overlay<'_>) -> Result<(), SyncError> {
        let roster = self.roster.as_ref();
        let roster = roster.ok_or_else(|| self.withheld(Table::Roster))?;
        for (position, participant) in roster.participants().iter().enumerate() {
            let has = |set: u128| (set >> position) & 1 == 1;
            let signing = participant.signing.is_some();
            if has(self.keys) && has(self.signing) == signing {
                continue;
            }
            let account: Option<Account> =
                read_record(over, &RecordKey::Account(participant.account))?;
            if account.is_none_or(|account| account.keys.is_none()) {
                return Err(self.withheld(Table::Keys));
            }
        }
        Ok(())
    }

    fn end_account(&self, keys: Option<AccountKeys>) -> Result<(), SyncError> {
        let (Some(keys), RecordKey::Account(id)) = (keys, self.key) else {
            return Ok(());
        };
        if self.account.are_whole(&keys, &id) {
            return Ok(());
        }
        Err(self.withheld(Table::Keys))
    }
}

/// Number of the span of an account's requests.
const REQUESTS: u8 = 4;
