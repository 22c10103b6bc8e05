//! What the model knows, in maps and vectors, and the cells that a store must hold for it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use session_chain::tx::legacy::LegacyKey;
use session_chain::tx::message::{Auth, BatchAuth, Body};
use session_chain::tx::{KemKey, SigningKey};
use session_chain::view::{
    Cell, Table, account_keys_key, batch_key, deadline_key, entry_key, group_admin_key,
    group_control_key, group_posting_key, key_package_key, legacy_key_key, session_keys_key,
    taken_key_package_key, tile_key,
};
use session_core::account::{Account, AccountKeys, Revocation};
use session_core::channel::{Channel, Member, Role};
use session_core::codec::{Decode, Encode, Writer};
use session_core::group::{Group, Mode, PastEpoch, Succession};
use session_core::hash::Tag;
use session_core::ids::{
    AccountId, ActionId, ChainId, ChannelId, ChunkId, DeviceId, Digest, GroupId, KeyPackageId,
    SessionId,
};
use session_core::key_package::{Device, KeyPackage, KeyPackages, TakenKeyPackages, TakenPackage};
use session_core::log::{
    AdvanceEntry, Conversation, Entry, LogId, MembershipEntry, MessageEntry, PostEntry,
};
use session_core::merkle::{Frontier, Hash, left_subtrees, node_hash};
use session_core::parameters::{Bucket, Parameters, Quotas};
use session_core::record::{Acknowledgement, Action, Chunk, RecordKey};
use session_core::session::{Participant, Roster, Session, Status};
use session_core::time::Time;

/// A leaky bucket in plain numbers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Leak {
    pub(crate) used_milli: u128,
    pub(crate) at: u64,
}

#[derive(Clone, Default)]
pub(crate) struct MAccount {
    /// KEM key, signing key, index, height.
    pub(crate) keys: Option<(KemKey, SigningKey, u32, u64)>,
    /// The Ed25519 key that an `05` account registered with.
    pub(crate) legacy: Option<LegacyKey>,
    pub(crate) recovery: Option<Digest>,
    pub(crate) registered: u64,
    /// Height and time.
    pub(crate) revoked: Option<(u64, u64)>,
    pub(crate) balance: u64,
    pub(crate) quota: Leak,
    pub(crate) request_quota: Leak,
    pub(crate) memberships: Vec<MembershipEntry>,
    pub(crate) requests: Vec<MembershipEntry>,
    /// The keys before the first rotation, and each rotation with its height and time.
    pub(crate) first: Option<(KemKey, SigningKey)>,
    pub(crate) rotations: Vec<(u64, u64, session_chain::tx::Tx)>,
}

impl MAccount {
    /// What the record says of all rotations.
    fn rotation_history(&self) -> Digest {
        let mut history = [0; 32];
        for (height, time, tx) in &self.rotations {
            let session_chain::tx::Kind::RotateKeys(keys) = &tx.kind else {
                unreachable!("only rotations are kept here");
            };
            let (kem, signing) = (keys.kem.digest(), keys.signing.digest());
            history = session_core::hash::Tag::KeyRotation.hash(&[
                &history,
                &height.to_be_bytes(),
                &time.to_be_bytes(),
                kem.as_bytes(),
                signing.as_bytes(),
            ]);
        }
        Digest::from_bytes(history)
    }

    /// The Ed25519 key, while no other counts.
    pub(crate) fn legacy_key(&self) -> Option<LegacyKey> {
        let first = self
            .keys
            .as_ref()
            .is_some_and(|(_, _, index, _)| *index == 0);
        self.legacy.filter(|_| first)
    }

    /// Digests of the key to encrypt to and of the one that signs.
    pub(crate) fn digests(&self, id: &AccountId) -> Option<(Digest, Digest)> {
        let (kem, signing, ..) = self.keys.as_ref()?;
        Some(match self.legacy_key() {
            // An 05 account's id is the key to encrypt to.
            Some(key) => {
                let kem = Digest::from_bytes(Tag::PublicKey.hash(&[id.as_bytes()]));
                (kem, key.digest())
            }
            None => (kem.digest(), signing.digest()),
        })
    }
}

#[derive(Clone)]
pub(crate) struct MParticipant {
    pub(crate) account: AccountId,
    pub(crate) record: Participant,
    pub(crate) kem: Option<KemKey>,
    pub(crate) signing: Option<SigningKey>,
    pub(crate) accepted: bool,
}

#[derive(Clone)]
pub(crate) struct MMessage {
    pub(crate) entry: MessageEntry,
    pub(crate) body: Body,
    /// On the first message of a batch.
    pub(crate) batch: Option<BatchAuth>,
}

#[derive(Clone)]
pub(crate) struct MSession {
    pub(crate) creator: Option<AccountId>,
    pub(crate) participants: Vec<MParticipant>,
    pub(crate) created: u64,
    pub(crate) expires: u64,
    pub(crate) closed: Option<u64>,
    pub(crate) log: Vec<MMessage>,
}

impl MSession {
    pub(crate) fn status(&self, now: u64) -> Status {
        if self.closed.is_some() {
            Status::Closed
        } else if self.expires <= now {
            Status::Expired
        } else if self.participants.iter().all(|p| p.accepted) {
            Status::Active
        } else {
            Status::Pending
        }
    }

    pub(crate) fn ended(&self) -> u64 {
        self.closed.unwrap_or(self.expires)
    }
}

#[derive(Clone)]
pub(crate) struct MMember {
    pub(crate) role: Role,
    pub(crate) accepted: bool,
    pub(crate) since: u64,
    pub(crate) by: AccountId,
}

#[derive(Clone)]
pub(crate) struct MChannel {
    pub(crate) creator: AccountId,
    pub(crate) created: u64,
    pub(crate) closed: Option<u64>,
    pub(crate) members: BTreeMap<AccountId, MMember>,
    pub(crate) log: Vec<MMessage>,
    /// Messages at its beginning whose leaves are gone.
    pub(crate) dropped: usize,
}

impl MChannel {
    /// Block time of the last message of each full tile that is still there.
    pub(crate) fn tiles(&self) -> Vec<u64> {
        let kept = self.log.chunks_exact(256).skip(self.dropped / 256);
        kept.map(|tile| tile[255].entry.time.ms()).collect()
    }
}

/// What a group's log holds.
pub(crate) enum MItem {
    /// With the signature on the first frame of a post.
    Frame(PostEntry, Body, Option<BatchAuth>),
    /// With its transaction.
    Advance(AdvanceEntry, Vec<u8>),
}

impl MItem {
    pub(crate) fn time(&self) -> Time {
        match self {
            Self::Frame(entry, ..) => entry.time,
            Self::Advance(entry, _) => entry.time,
        }
    }
}

#[derive(Clone)]
pub(crate) struct MEpoch {
    pub(crate) number: u64,
    pub(crate) posting: SigningKey,
    pub(crate) ended: Option<u64>,
}

#[derive(Clone)]
pub(crate) struct MGroup {
    pub(crate) sponsor: AccountId,
    pub(crate) created: u64,
    pub(crate) until: u64,
    pub(crate) last_post: u64,
    pub(crate) last_advance: Option<u64>,
    pub(crate) last_admin: Option<u64>,
    pub(crate) mode: Mode,
    /// Every epoch since the first; the last one is the current.
    pub(crate) epochs: Vec<MEpoch>,
    pub(crate) control: SigningKey,
    pub(crate) commit: Digest,
    pub(crate) floor: u64,
    pub(crate) admins: Vec<SigningKey>,
    pub(crate) budget: u64,
    pub(crate) reserve: u64,
    pub(crate) succession: Option<(GroupId, u64, Option<ChunkId>)>,
    pub(crate) log: Vec<Rc<MItem>>,
    /// Items at its beginning whose leaves are gone.
    pub(crate) dropped: usize,
}

/// Expiry and bytes of each package.
#[derive(Clone, Default)]
pub(crate) struct MDevice {
    pub(crate) one_time: Vec<(u64, Vec<u8>)>,
    pub(crate) last_resort: Option<(u64, Vec<u8>)>,
}

#[derive(Clone, Default)]
pub(crate) struct MPackages {
    pub(crate) devices: BTreeMap<DeviceId, MDevice>,
    pub(crate) taken: Leak,
}

#[derive(Clone)]
pub(crate) struct MTaken {
    pub(crate) expires: u64,
    /// Device, bytes, whether others are given the same.
    pub(crate) given: Vec<(DeviceId, Vec<u8>, bool)>,
}

/// The chain-wide day of weight.
#[derive(Clone, Copy, Default)]
pub(crate) struct MQuotas {
    pub(crate) registrations: Leak,
    pub(crate) unsigned: Leak,
    pub(crate) day: u64,
    pub(crate) weight: u64,
    pub(crate) young: u64,
}

#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) chain: ChainId,
    pub(crate) parameters: Parameters,
    pub(crate) height: u64,
    pub(crate) time: u64,
    pub(crate) quotas: Option<MQuotas>,
    /// Signing keys as the parent block left them: those that count.
    pub(crate) parent_keys: BTreeMap<AccountId, SigningKey>,
    pub(crate) accounts: BTreeMap<AccountId, MAccount>,
    pub(crate) sessions: BTreeMap<SessionId, MSession>,
    pub(crate) channels: BTreeMap<ChannelId, MChannel>,
    pub(crate) acknowledgements: BTreeMap<(Conversation, AccountId), (u64, u64)>,
    pub(crate) chunks: BTreeMap<ChunkId, (AccountId, Vec<u8>, u64)>,
    pub(crate) actions: BTreeMap<ActionId, Action>,
    pub(crate) groups: BTreeMap<GroupId, MGroup>,
    pub(crate) key_packages: BTreeMap<AccountId, MPackages>,
    /// By taker and target.
    pub(crate) taken_packages: BTreeMap<(AccountId, AccountId), MTaken>,
    /// Weight that the transaction being applied pays for beside its own.
    pub(crate) bought: u64,
    /// Bytes that it writes and does not carry.
    pub(crate) copied: u64,
    /// Records that the transaction being applied wrote or deleted.
    pub(crate) touched: BTreeSet<RecordKey>,
}

impl Model {
    /// A chain after its genesis block.
    pub(crate) fn new(
        chain: ChainId,
        parameters: Parameters,
        time: u64,
        allocations: &BTreeMap<AccountId, u64>,
    ) -> Self {
        let account = |balance| MAccount {
            balance,
            ..MAccount::default()
        };
        Self {
            chain,
            parameters,
            height: 0,
            time,
            quotas: None,
            parent_keys: BTreeMap::new(),
            accounts: allocations
                .iter()
                .map(|(id, balance)| (*id, account(*balance)))
                .collect(),
            sessions: BTreeMap::new(),
            channels: BTreeMap::new(),
            acknowledgements: BTreeMap::new(),
            chunks: BTreeMap::new(),
            actions: BTreeMap::new(),
            groups: BTreeMap::new(),
            key_packages: BTreeMap::new(),
            taken_packages: BTreeMap::new(),
            bought: 0,
            copied: 0,
            touched: BTreeSet::new(),
        }
    }

    /// Requests of one account to another that are neither accepted nor over.
    pub(crate) fn open_requests(&self, by: &AccountId, target: &AccountId) -> u8 {
        let asks = |s: &&MSession| s.creator == Some(*by) && s.closed.is_none();
        let asked = |s: &&MSession| {
            s.participants
                .iter()
                .any(|p| p.account == *target && !p.accepted)
        };
        let sessions = self.sessions.values().filter(asks).filter(asked).count();
        let member = |c: &&MChannel| {
            c.members
                .get(target)
                .is_some_and(|m| m.by == *by && !m.accepted)
        };
        let channels = self.channels.values().filter(member).count();
        u8::try_from(sessions + channels).unwrap()
    }

    /// Open channels of a creator.
    pub(crate) fn open_channels(&self, creator: &AccountId) -> u32 {
        let open = |c: &&MChannel| c.creator == *creator && c.closed.is_none();
        u32::try_from(self.channels.values().filter(open).count()).unwrap()
    }

    /// Every cell that a store must hold, and no other.
    pub(crate) fn cells(&self) -> BTreeMap<Cell, Vec<u8>> {
        let mut out = Cells {
            cells: BTreeMap::new(),
        };
        out.record(RecordKey::Parameters, &self.parameters);
        if let Some(quotas) = &self.quotas {
            out.record(RecordKey::Quotas, &quotas_record(quotas));
        }
        for (id, account) in &self.accounts {
            self.account_cells(&mut out, id, account);
        }
        for (id, session) in &self.sessions {
            self.session_cells(&mut out, id, session);
        }
        for (id, channel) in &self.channels {
            self.channel_cells(&mut out, id, channel);
        }
        for ((conversation, account), (up_to, time)) in &self.acknowledgements {
            let record = Acknowledgement {
                up_to: *up_to,
                time: Time::from_ms(*time),
            };
            out.record(RecordKey::Acknowledgement(*conversation, *account), &record);
        }
        for (id, (owner, bytes, expires)) in &self.chunks {
            let expires = Time::from_ms(*expires);
            let len = u32::try_from(bytes.len()).unwrap();
            out.record(
                RecordKey::Chunk(*id),
                &Chunk {
                    owner: *owner,
                    len,
                    expires,
                },
            );
            out.deadline(expires, RecordKey::Chunk(*id));
            out.put(Table::Body, id.as_bytes().to_vec(), bytes.clone());
        }
        for (id, action) in &self.actions {
            out.record(RecordKey::Action(*id), action);
            out.deadline(action.expires, RecordKey::Action(*id));
        }
        for (id, group) in &self.groups {
            self.group_cells(&mut out, id, group);
        }
        self.key_package_cells(&mut out);
        for by in self.accounts.keys() {
            for target in self.accounts.keys() {
                let open = self.open_requests(by, target);
                if open > 0 {
                    out.record(RecordKey::OpenRequests(*by, *target), &[open]);
                }
            }
        }
        out.cells
    }

    fn account_cells(&self, out: &mut Cells, id: &AccountId, account: &MAccount) {
        let entries = |log: &[MembershipEntry]| -> Vec<Entry> {
            log.iter().map(|e| Entry::Membership(*e)).collect()
        };
        let memberships = out.log(LogId::Memberships(*id), &entries(&account.memberships), 0);
        let requests = out.log(LogId::Requests(*id), &entries(&account.requests), 0);
        if let Some(key) = account.legacy {
            out.put(Table::Keys, legacy_key_key(id), key.0.to_vec());
        }
        if let (Some((kem, signing, ..)), None) = (&account.keys, account.legacy_key()) {
            let bytes = [&kem.0[..], &signing.0[..]].concat();
            out.put(Table::Keys, account_keys_key(id), bytes);
        }
        let keys = account.keys.as_ref().zip(account.digests(id));
        let keys = keys.map(
            |((_, _, index, since_height), (kem, signing))| AccountKeys {
                kem,
                signing,
                index: *index,
                since_height: *since_height,
                history: account.rotation_history(),
            },
        );
        if let Some((kem, signing)) = &account.first {
            let bytes = [&kem.0[..], &signing.0[..]].concat();
            out.put(Table::Keys, session_chain::view::rotation_key(id, 0), bytes);
        }
        for (index, (height, time, tx)) in (1..).zip(&account.rotations) {
            let (height, time) = (height.to_be_bytes(), time.to_be_bytes());
            let bytes = [&height[..], &time[..], &tx.to_bytes()].concat();
            out.put(
                Table::Keys,
                session_chain::view::rotation_key(id, index),
                bytes,
            );
        }
        let record = Account {
            keys,
            recovery: account.recovery,
            registered: Time::from_ms(account.registered),
            revoked: account.revoked.map(|(height, time)| Revocation {
                height,
                time: Time::from_ms(time),
            }),
            quota: bucket(&account.quota),
            request_quota: bucket(&account.request_quota),
            balance: account.balance,
            channels: self.open_channels(id),
            memberships,
            requests,
        };
        out.record(RecordKey::Account(*id), &record);
    }

    fn session_cells(&self, out: &mut Cells, id: &SessionId, session: &MSession) {
        let log = out.messages(LogId::Session(*id), &session.log, 0);
        let participants: Vec<_> = session.participants.iter().map(|p| p.record).collect();
        let roster = Roster::new(participants).unwrap();
        let accepted = session.participants.iter().enumerate();
        let accepted = accepted
            .filter(|(_, p)| p.accepted)
            .fold(0, |a, (i, _)| a | (1 << i));
        let record = Session {
            creator: session.creator,
            roster: roster.digest(),
            participants: u8::try_from(session.participants.len()).unwrap(),
            accepted,
            created: Time::from_ms(session.created),
            expires: Time::from_ms(session.expires),
            closed: session.closed.map(Time::from_ms),
            unsigned: session.log.iter().filter(|m| !m.entry.verified).count() as u64,
            log,
        };
        assert_eq!(
            record.status(Time::from_ms(self.time)),
            session.status(self.time)
        );
        out.record(RecordKey::Session(*id), &record);
        let dropped = session.ended() + self.parameters.retention_ms;
        out.deadline(Time::from_ms(dropped), RecordKey::Session(*id));
        out.put(Table::Roster, id.as_bytes().to_vec(), roster.to_bytes());
        for (position, p) in (0u8..).zip(&session.participants) {
            if let Some(kem) = &p.kem {
                let mut keys = vec![1];
                keys.extend_from_slice(&kem.0[..]);
                keys.push(p.signing.is_some().into());
                keys.extend(p.signing.iter().flat_map(|key| key.0.iter()));
                out.put(Table::Keys, session_keys_key(id, Some(position)), keys);
            }
        }
    }

    fn channel_cells(&self, out: &mut Cells, id: &ChannelId, channel: &MChannel) {
        let log = out.messages(LogId::Channel(*id), &channel.log, channel.dropped);
        let owners = channel
            .members
            .values()
            .filter(|m| m.accepted && m.role == Role::Owner);
        let record = Channel {
            creator: channel.creator,
            created: Time::from_ms(channel.created),
            closed: channel.closed.map(Time::from_ms),
            members: u32::try_from(channel.members.len()).unwrap(),
            owners: u32::try_from(owners.count()).unwrap(),
            log,
        };
        out.record(RecordKey::Channel(*id), &record);
        // Two of one moment are one cell.
        let due: BTreeSet<u64> = channel.closed.into_iter().chain(channel.tiles()).collect();
        for at in due {
            let dropped = Time::from_ms(at + self.parameters.retention_ms);
            out.deadline(dropped, RecordKey::Channel(*id));
        }
        for (account, m) in &channel.members {
            let (role, accepted, by) = (m.role, m.accepted, m.by);
            let member = Member {
                role,
                accepted,
                since: Time::from_ms(m.since),
                by,
            };
            out.record(RecordKey::Member(*id, *account), &member);
        }
    }
}

impl Model {
    fn group_cells(&self, out: &mut Cells, id: &GroupId, group: &MGroup) {
        let log = LogId::Group(*id);
        let entry = |item: &Rc<MItem>| match &**item {
            MItem::Frame(entry, ..) => Entry::Post(*entry),
            MItem::Advance(entry, _) => Entry::Advance(*entry),
        };
        for item in &group.log[group.dropped..] {
            match &**item {
                MItem::Frame(entry, body, batch) => {
                    let place = entry_key(&log, entry.sequence);
                    out.put(Table::Body, place.clone(), body.to_bytes());
                    out.put(Table::Message, entry.id.as_bytes().to_vec(), place);
                    if let Some(batch) = batch {
                        let key = batch_key(&log, entry.sequence);
                        out.put(Table::Body, key, batch.to_bytes());
                    }
                }
                MItem::Advance(entry, tx) => {
                    let place = entry_key(&log, entry.sequence);
                    out.put(Table::Body, place, tx.clone());
                }
            }
        }
        let entries: Vec<Entry> = group.log.iter().map(entry).collect();
        let frontier = out.log(log, &entries, group.dropped);
        let (current, past) = group.epochs.split_last().unwrap();
        let remembered = &past[past.len().saturating_sub(16)..];
        for epoch in remembered.iter().chain([current]) {
            let cell = group_posting_key(id, epoch.number);
            out.put(Table::Keys, cell, epoch.posting.to_bytes());
        }
        out.put(Table::Keys, group_control_key(id), group.control.to_bytes());
        let mut admins: Vec<Digest> = group.admins.iter().map(SigningKey::digest).collect();
        admins.sort();
        for key in &group.admins {
            let cell = group_admin_key(id, &key.digest());
            out.put(Table::Keys, cell, key.to_bytes());
        }
        let past = remembered.iter().map(|epoch| PastEpoch {
            epoch: epoch.number,
            posting: epoch.posting.digest(),
            ended: Time::from_ms(epoch.ended.unwrap()),
        });
        let succession = group
            .succession
            .map(|(successor, time, invitation)| Succession {
                successor,
                time: Time::from_ms(time),
                invitation,
            });
        let record = Group {
            sponsor: group.sponsor,
            created: Time::from_ms(group.created),
            until: Time::from_ms(group.until),
            last_post: Time::from_ms(group.last_post),
            last_advance: group.last_advance.map(Time::from_ms),
            last_admin: group.last_admin.map(Time::from_ms),
            mode: group.mode,
            epoch: current.number,
            posting: current.posting.digest(),
            control: group.control.digest(),
            commit: group.commit,
            floor: group.floor,
            past: past.collect(),
            admins,
            budget: group.budget,
            reserve: group.reserve,
            succession,
            log: frontier,
        };
        let key = RecordKey::Group(*id);
        out.record(key, &record);
        let kept = self.parameters.retention_ms;
        // Two of one moment are one cell.
        let due: BTreeSet<u64> = group.tiles(kept).into_iter().collect();
        for at in due.into_iter().chain([group.due(kept)]) {
            out.deadline(Time::from_ms(at), key);
        }
    }

    fn key_package_cells(&self, out: &mut Cells) {
        let id_of = |bytes: &[u8]| KeyPackageId::from_bytes(Tag::KeyPackage.hash(&[bytes]));
        for (account, packages) in &self.key_packages {
            let mut put = |(expires, bytes): &(u64, Vec<u8>)| {
                let cell = key_package_key(account, &id_of(bytes));
                out.put(Table::Body, cell, bytes.clone());
                KeyPackage {
                    id: id_of(bytes),
                    expires: Time::from_ms(*expires),
                }
            };
            let devices = packages.devices.iter().map(|(id, device)| Device {
                id: *id,
                one_time: device.one_time.iter().map(&mut put).collect(),
                last_resort: device.last_resort.as_ref().map(&mut put),
            });
            let devices = devices.collect();
            let taken = bucket(&packages.taken);
            let key = RecordKey::KeyPackages(*account);
            out.record(key, &KeyPackages { devices, taken });
            let last = packages.last_expiry().unwrap();
            out.deadline(Time::from_ms(last), key);
        }
        for ((taker, target), taken) in &self.taken_packages {
            let mut packages = Vec::new();
            for (position, (device, bytes, last_resort)) in (0..).zip(&taken.given) {
                let cell = taken_key_package_key(taker, target, position);
                out.put(Table::Body, cell, bytes.clone());
                packages.push(TakenPackage {
                    device: *device,
                    package: id_of(bytes),
                    last_resort: *last_resort,
                });
            }
            let expires = Time::from_ms(taken.expires);
            let key = RecordKey::TakenKeyPackages(*taker, *target);
            out.record(key, &TakenKeyPackages { expires, packages });
            out.deadline(expires, key);
        }
    }
}

fn bucket(leak: &Leak) -> Bucket {
    let mut bytes = Writer::new();
    bytes
        .u64(u64::try_from(leak.used_milli).unwrap())
        .u64(leak.at);
    Bucket::from_bytes(&bytes.into_bytes()).unwrap()
}

fn quotas_record(quotas: &MQuotas) -> Quotas {
    Quotas {
        registrations: bucket(&quotas.registrations),
        unsigned: bucket(&quotas.unsigned),
        day: quotas.day,
        weight: quotas.weight,
        weight_young: quotas.young,
    }
}

struct Cells {
    cells: BTreeMap<Cell, Vec<u8>>,
}

impl Cells {
    fn put(&mut self, table: Table, key: Vec<u8>, value: Vec<u8>) {
        assert!(
            self.cells.insert((table, key), value).is_none(),
            "two cells at one place"
        );
    }

    fn record(&mut self, key: RecordKey, record: &impl Encode) {
        self.put(Table::Record, key.to_bytes(), record.to_bytes());
    }

    fn deadline(&mut self, at: Time, key: RecordKey) {
        self.put(Table::Deadline, deadline_key(at, &key), Vec::new());
    }

    /// Entries that were not dropped, and all inner nodes from tile roots upwards; answers the
    /// frontier.
    fn log(&mut self, log: LogId, entries: &[Entry], dropped: usize) -> Frontier {
        for (i, entry) in entries.iter().enumerate().skip(dropped) {
            assert_eq!(entry.sequence(), i as u64);
            self.put(Table::Entry, entry_key(&log, i as u64), entry.to_bytes());
        }
        let leaves: Vec<Hash> = entries.iter().map(Entry::leaf).collect();
        for level in 8..20u32 {
            for (index, part) in leaves.chunks_exact(1 << level).enumerate() {
                let root = perfect_root(part).to_vec();
                self.put(Table::Tile, tile_key(&log, level, index as u64), root);
            }
        }
        let count = leaves.len() as u64;
        let peaks = left_subtrees(count).into_iter().map(|(level, index)| {
            let from = (index as usize) << level;
            perfect_root(&leaves[from..from + (1 << level)])
        });
        Frontier::from_parts(count, peaks.collect()).unwrap()
    }

    fn messages(&mut self, log: LogId, messages: &[MMessage], dropped: usize) -> Frontier {
        for message in &messages[dropped..] {
            let (id, at) = (message.entry.id, message.entry.sequence);
            let mut place = Writer::new();
            place.value(&log).u64(at);
            self.put(Table::Message, id.as_bytes().to_vec(), place.into_bytes());
            self.put(Table::Body, entry_key(&log, at), message.body.to_bytes());
            if let Some(batch) = &message.batch {
                self.put(Table::Body, batch_key(&log, at), batch.to_bytes());
            }
            let in_batch = matches!(message.body.auth, Auth::Batch(first) if first <= at);
            assert!(in_batch || matches!(message.body.auth, Auth::Own(_)));
        }
        let entries: Vec<_> = messages.iter().map(|m| Entry::Message(m.entry)).collect();
        self.log(log, &entries, dropped)
    }
}

fn perfect_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [leaf] => *leaf,
        many => {
            let (left, right) = many.split_at(many.len() / 2);
            node_hash(&perfect_root(left), &perfect_root(right))
        }
    }
}
