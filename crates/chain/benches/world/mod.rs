//! A chain with many sessions, put together without transactions.

use std::sync::Arc;

use session_chain::block::{Builder, Built, Parsed, tree_changes, verify};
use session_chain::state::Crypto;
use session_chain::tree::Tree;
use session_chain::tx::group::as_signer;
use session_chain::tx::group::post::GroupPost;
use session_chain::tx::legacy::LegacyKey;
use session_chain::tx::message::SendMessage;
use session_chain::tx::{KemKey, Kind, SigningKey, Tx, TxIds};
use session_chain::view::{Changes, MemoryView, Table};
use session_core::account::{Account, AccountKeys};
use session_core::codec::Encode;
use session_core::group::{Group, Mode};
use session_core::hash::sha256;
use session_core::header::{Header, SIGNATURE_LEN};
use session_core::ids::{AccountId, BlockId, ChainId, Digest, GroupId, SessionId};
use session_core::log::Conversation;
use session_core::merkle::{Frontier, Hash};
use session_core::parameters::Parameters;
use session_core::record::RecordKey;
use session_core::session::{Participant, Roster, Session};
use session_core::time::Time;

pub(crate) const CHAIN: ChainId = ChainId::from_bytes([1; 32]);
pub(crate) const TIME: Time = Time::from_ms(1_700_000_000_000);

/// Every signature was verified before: what is left is the state transition.
pub(crate) struct Seen;

impl Crypto for Seen {
    fn legacy_account_id(&self, _key: &LegacyKey) -> Option<AccountId> {
        None
    }

    fn verify_legacy(&self, _key: &LegacyKey, _digest: &Hash, _signature: &[u8]) -> bool {
        false
    }

    fn account_id(&self, kem: &KemKey, signing: &SigningKey) -> Option<AccountId> {
        let hash = sha256(&[kem.0.as_slice(), signing.0.as_slice()].concat());
        Some(AccountId::from_bytes(hash))
    }

    fn is_kem_key(&self, _: &KemKey) -> bool {
        true
    }

    fn is_verified(&self, _: &Digest, _: &Hash, _: &Digest) -> bool {
        true
    }

    fn verify(&self, _: &SigningKey, _: &Hash, _: &[u8]) -> bool {
        true
    }
}

pub(crate) fn id_of(what: u8, i: u64) -> Hash {
    let mut seed = [what; 9];
    seed[1..].copy_from_slice(&i.to_be_bytes());
    sha256(&seed)
}

/// Cells, tree and head.
pub(crate) struct World {
    pub(crate) view: MemoryView,
    pub(crate) tree: Tree,
    pub(crate) head: Header,
    pub(crate) parameters: Parameters,
    sent: u64,
}

pub(crate) fn sender(i: u64) -> AccountId {
    AccountId::from_bytes(id_of(1, i))
}

pub(crate) fn session(i: u64) -> SessionId {
    SessionId::from_bytes(id_of(2, i))
}

fn registered() -> Account {
    let digest = Digest::from_bytes([3; 32]);
    Account {
        keys: Some(AccountKeys::first(digest, digest, 0)),
        registered: TIME,
        ..Account::default()
    }
}

#[allow(dead_code, reason = "shared by a bench and an example")]
pub(crate) fn group(i: u64) -> GroupId {
    GroupId::from_bytes(id_of(5, i))
}

/// A group that has been through some epochs and can pay for anything.
fn open_group() -> Group {
    let digest = Digest::from_bytes([3; 32]);
    let past = |epoch| session_core::group::PastEpoch {
        epoch,
        posting: digest,
        ended: TIME,
    };
    Group {
        sponsor: sender(0),
        created: TIME,
        until: TIME,
        last_post: TIME,
        last_advance: Some(TIME),
        last_admin: None,
        mode: Mode::AdminOnly,
        epoch: 17,
        posting: digest,
        control: digest,
        commit: digest,
        floor: 1,
        past: (1..17).map(past).collect(),
        admins: vec![digest],
        budget: u64::MAX,
        reserve: u64::MAX,
        succession: None,
        log: Frontier::new(),
    }
}

/// A post of so many frames of 100 bytes of text, 33 of a frame around it.
#[allow(dead_code, reason = "shared by a bench and an example")]
pub(crate) fn post(i: u64, to: u64, frames: u64) -> (Tx, TxIds, usize) {
    let frame = |n: u64| {
        let mut frame = vec![5; 133];
        frame[..8].copy_from_slice(&i.to_be_bytes());
        frame[8..16].copy_from_slice(&n.to_be_bytes());
        frame
    };
    let tx = Tx {
        signer: as_signer(&group(to)),
        valid_until: TIME.after_ms(60_000),
        salt: i,
        kind: Kind::GroupPost(GroupPost {
            epoch: 17,
            frames: (0..frames).map(frame).collect(),
        }),
        signature: vec![6; SIGNATURE_LEN],
    };
    let (ids, bytes) = (tx.ids(&CHAIN), tx.to_bytes().len());
    (tx, ids, bytes)
}

impl World {
    /// So many groups beside everything else.
    #[allow(dead_code, reason = "shared by a bench and an example")]
    pub(crate) fn with_groups(mut self, groups: u64) -> Self {
        let mut changes = Changes::new();
        for i in 0..groups {
            let key = RecordKey::Group(group(i)).to_bytes();
            changes.insert((Table::Record, key), Some(open_group().to_bytes()));
        }
        self.tree = self.tree.update(tree_changes(&changes));
        self.head.state_root = self.tree.root();
        self.view.apply(changes);
        self
    }

    /// `sessions` active sessions, each with a sender of its own: two records a session.
    pub(crate) fn new(sessions: u64) -> Self {
        let parameters = Parameters {
            max_messages: u64::MAX,
            ..Parameters::default()
        };
        let mut changes = Changes::new();
        for i in 0..sessions {
            let digest = Digest::from_bytes([3; 32]);
            let mut accounts = [sender(i), AccountId::from_bytes([9; 32])];
            accounts.sort_unstable();
            let participants = accounts.map(|account| Participant {
                account,
                kem: digest,
                signing: Some(digest),
            });
            let roster = Roster::new(participants.to_vec()).unwrap();
            let record = Session {
                creator: Some(sender(i)),
                roster: roster.digest(),
                participants: 2,
                accepted: 3,
                created: TIME,
                expires: TIME.after_ms(parameters.session_ttl_ms),
                closed: None,
                unsigned: 0,
                log: Frontier::new(),
            };
            let mut put = |table, key, value| changes.insert((table, key), Some(value));
            let (session, account) = (
                RecordKey::Session(session(i)),
                RecordKey::Account(sender(i)),
            );
            put(Table::Record, session.to_bytes(), record.to_bytes());
            put(Table::Record, account.to_bytes(), registered().to_bytes());
            let key = id_of(2, i).to_vec();
            put(Table::Roster, key, roster.to_bytes());
        }
        let tree = Tree::new().update(tree_changes(&changes));
        let mut view = MemoryView::default();
        view.apply(changes);
        let head = Header {
            chain: CHAIN,
            parent: BlockId::from_bytes([0; 32]),
            height: 1,
            time: TIME,
            tx_root: [0; 32],
            count: 0,
            state_root: tree.root(),
        };
        Self {
            view,
            tree,
            head,
            parameters,
            sent: 0,
        }
    }

    /// The next `n` messages of 1,200 bytes, spread over so many sessions.
    pub(crate) fn messages_among(&mut self, n: u64, sessions: u64) -> Vec<(Tx, TxIds, usize)> {
        let first = self.sent;
        self.sent += n;
        (first..self.sent)
            .map(|i| message(i, i.wrapping_mul(7_919) % sessions))
            .collect()
    }

    /// The next `n` messages, to one session.
    #[allow(dead_code, reason = "shared by a bench and an example")]
    pub(crate) fn messages_to(&mut self, n: u64, session: u64) -> Vec<(Tx, TxIds, usize)> {
        let first = self.sent;
        self.sent += n;
        (first..self.sent).map(|i| message(i, session)).collect()
    }

    pub(crate) fn builder(&self, time: Time) -> Builder<'_> {
        let (tree, parameters) = (self.tree.clone(), self.parameters);
        Builder::new(self.head, tree, &self.view, parameters, &Seen, time).unwrap()
    }

    /// A block of these transactions.
    pub(crate) fn build(&self, txs: Vec<(Tx, TxIds, usize)>) -> Built {
        let mut builder = self.builder(TIME.after_ms(1_000));
        for (tx, ids, bytes) in txs {
            builder.push(tx, &ids, bytes).unwrap();
        }
        builder.finish()
    }

    pub(crate) fn verify(&self, block: impl Into<Parsed>) -> Built {
        let (tree, parameters) = (self.tree.clone(), self.parameters);
        verify(block, self.head, tree, &self.view, parameters, &Seen, None).unwrap()
    }

    /// Makes a block the head.
    pub(crate) fn accept(&mut self, built: Built) {
        self.head = built.block.header;
        self.tree = built.tree;
        let changes = Arc::try_unwrap(built.changes);
        self.view
            .apply(changes.unwrap_or_else(|shared| (*shared).clone()));
    }
}

fn message(i: u64, to: u64) -> (Tx, TxIds, usize) {
    let mut ciphertext = vec![5; 1_200];
    ciphertext[..8].copy_from_slice(&i.to_be_bytes());
    let tx = Tx {
        signer: sender(to),
        valid_until: Time::default(),
        salt: 0,
        kind: Kind::SendMessage(SendMessage {
            conversation: Conversation::Session(session(to)),
            ciphertext,
        }),
        signature: vec![6; SIGNATURE_LEN],
    };
    let (ids, bytes) = (tx.ids(&CHAIN), tx.to_bytes().len());
    (tx, ids, bytes)
}
