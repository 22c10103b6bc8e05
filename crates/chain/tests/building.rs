//! A builder's bounds to the byte, what a block is stored as, and the ids that go with its bytes.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    dead_code,
    reason = "in a test a panic is the verdict; people have more to them than one test asks"
)]

#[path = "model/people.rs"]
mod people;

use std::collections::BTreeMap;

use people::{Fake, Person, signed, unsigned};
use session_chain::block::{Block, Builder, Built, Parsed, StoredBlock, StoredTx, tx_root};
use session_chain::genesis::Genesis;
use session_chain::state::TxError;
use session_chain::tree::Tree;
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::message::{SendBatch, SendMessage};
use session_chain::tx::session::{CreateSession, NewParticipant};
use session_chain::tx::{Kind, Tx};
use session_chain::view::{MemoryView, Table, View as _};
use session_core::codec::{Decode, Encode};
use session_core::header::{HEADER_LEN, Header};
use session_core::ids::{ChainId, SessionId};
use session_core::limits::{BLOCK_BYTES_MAX, CIPHERTEXT_MAX};
use session_core::log::Conversation;
use session_core::parameters::Parameters;
use session_core::record::Outcome;
use session_core::time::{MINUTE_MS, Time};

const CHAIN: ChainId = ChainId::from_bytes([9; 32]);
const FAKE: Fake = Fake { remembers: false };

struct World {
    header: Header,
    tree: Tree,
    view: MemoryView,
    parameters: Parameters,
}

impl World {
    fn new() -> Self {
        let parameters = Parameters {
            session_ttl_ms: MINUTE_MS,
            retention_ms: MINUTE_MS,
            ..Parameters::default()
        };
        let genesis = Genesis {
            parameters,
            time: Time::from_ms(1_000_000),
            allocations: BTreeMap::new(),
            unknown_keys: Vec::new(),
        };
        let (header, changes, tree) = genesis.block(CHAIN);
        let mut view = MemoryView::default();
        view.apply(changes);
        Self {
            header,
            tree,
            view,
            parameters,
        }
    }

    fn builder(&self, time: Time) -> Builder<'_> {
        let (header, tree) = (self.header, self.tree.clone());
        Builder::new(header, tree, &self.view, self.parameters, &FAKE, time).unwrap()
    }

    fn accept(&mut self, built: &Built) {
        self.header = built.block.header;
        self.tree = built.tree.clone();
        self.view.apply((*built.changes).clone());
    }

    /// A block of these alone.
    fn put(&mut self, txs: &[Tx]) -> Built {
        let mut builder = self.builder(self.header.time);
        for tx in txs {
            builder
                .push(tx.clone(), &tx.ids(&CHAIN), tx.encoded_len())
                .unwrap();
        }
        let built = builder.finish();
        self.accept(&built);
        built
    }

    fn valid_until(&self) -> Time {
        self.header.time.after_ms(MINUTE_MS)
    }
}

fn by(person: &Person, valid_until: Time, salt: u64, kind: Kind) -> Tx {
    let tx = unsigned(person.account, valid_until, salt, kind);
    signed(tx, &CHAIN, &person.signing(), 0)
}

fn register(world: &World, name: &str) -> Tx {
    let person = Person::new(name);
    let kind = Kind::RegisterIdentity(RegisterIdentity {
        kem: person.kem(),
        signing: person.signing(),
        recovery: None,
    });
    by(&person, world.valid_until(), 1, kind)
}

fn message(person: &Person, session: SessionId, text: &[u8]) -> Tx {
    let kind = Kind::SendMessage(SendMessage {
        conversation: Conversation::Session(session),
        ciphertext: text.to_vec(),
    });
    by(person, Time::default(), 0, kind)
}

/// Two registered people and their session.
fn session(world: &mut World) -> (Person, SessionId) {
    let (alice, bob) = (Person::new("alice"), Person::new("bob"));
    world.put(&[register(world, "alice"), register(world, "bob")]);
    let with = |person: &Person| NewParticipant {
        account: person.account,
        kem: None,
        signing: None,
    };
    let mut participants = vec![with(&alice), with(&bob)];
    participants.sort_by_key(|participant| participant.account);
    let kind = Kind::CreateSession(CreateSession { participants });
    let create = by(&alice, world.valid_until(), 2, kind);
    let built = world.put(&[create]);
    let Outcome::Session(id) = built.applied[0].outcome else {
        panic!("no session");
    };
    (alice, id)
}

#[test]
fn a_block_is_full_at_the_byte() {
    let world = World::new();
    let (first, second) = (register(&world, "alice"), register(&world, "bob"));
    let room = BLOCK_BYTES_MAX - HEADER_LEN;
    for over in [0, 1, 2, room] {
        let mut builder = world.builder(world.header.time);
        builder
            .push(first.clone(), &first.ids(&CHAIN), 1_000)
            .unwrap();
        let pushed = builder.push(second.clone(), &second.ids(&CHAIN), room - 1_000 + over);
        assert_eq!(
            pushed.is_ok(),
            over == 0,
            "{over} bytes too many: {pushed:?}"
        );
        if over > 0 {
            assert!(matches!(pushed, Err(TxError::BlockFull)));
            // What did not fit has left no trace.
            let built = builder.finish();
            assert_eq!(built.applied.len(), 1);
        }
    }
}

#[test]
fn a_builder_is_empty_until_something_is_in_it() {
    let mut world = World::new();
    assert!(world.builder(world.header.time).is_empty());
    let tx = register(&world, "alice");
    let mut builder = world.builder(world.header.time);
    builder
        .push(tx.clone(), &tx.ids(&CHAIN), tx.encoded_len())
        .unwrap();
    assert!(!builder.is_empty());
    // Time alone puts something in: what has expired is swept.
    let _session = session(&mut world);
    assert!(world.builder(world.header.time).is_empty());
    let late = world.header.time.after_ms(100 * MINUTE_MS);
    assert!(!world.builder(late).is_empty());
}

#[test]
fn messages_are_stored_by_their_place_and_their_bodies_are_found_there() {
    let mut world = World::new();
    let (alice, id) = session(&mut world);
    let batch = Kind::SendBatch(SendBatch {
        conversation: Conversation::Session(id),
        ciphertexts: vec![b"two".to_vec(), b"three".to_vec()],
    });
    let batch = by(&alice, world.valid_until(), 3, batch);
    let built = world.put(&[
        message(&alice, id, b"one"),
        batch,
        register(&world, "carol"),
    ]);
    let conversation = Conversation::Session(id);
    let stored = StoredBlock::of(&built);
    assert!(matches!(
        stored.items.as_slice(),
        [StoredTx::Message(of, 0), StoredTx::Batch(of_batch, 1, 2), StoredTx::Whole(_)]
            if *of == conversation && *of_batch == conversation
    ));
    let bodies = stored.bodies();
    assert!(bodies.len() >= 3);
    let there = |cell: &Vec<u8>| world.view.get(Table::Body, cell).unwrap().is_some();
    assert!(bodies.iter().all(there));
    assert_eq!(stored.restore(&world.view).unwrap(), Some(built.block));
}

#[test]
fn a_parsed_block_has_its_bytes_and_the_ids_of_its_transactions() {
    let world = World::new();
    let txs = vec![register(&world, "alice"), register(&world, "bob")];
    let bytes = block(txs.clone()).to_bytes();
    let parsed = Parsed::from_bytes(&bytes).unwrap();
    assert_eq!(parsed.to_bytes(), bytes);
    let each: Vec<_> = parsed
        .each()
        .into_iter()
        .map(|(tx, ids)| (tx.clone(), ids.tx))
        .collect();
    let expected: Vec<_> = txs
        .iter()
        .map(|tx| (tx.clone(), tx.ids(&CHAIN).tx))
        .collect();
    assert_eq!(each, expected);
}

fn block(txs: Vec<Tx>) -> Block {
    let header = Header {
        height: 1,
        tx_root: tx_root(txs.iter().map(|tx| tx.ids(&CHAIN).tx)),
        count: u32::try_from(txs.len()).unwrap(),
        ..World::new().header
    };
    Block { header, txs }
}

#[test]
fn a_block_of_exactly_the_limit_is_read() {
    let alice = Person::new("alice");
    let id = SessionId::from_bytes([1; 32]);
    let mut txs = Vec::new();
    let mut left = BLOCK_BYTES_MAX - HEADER_LEN;
    let empty = message(&alice, id, b"").encoded_len();
    while left > 0 {
        // The last two share what is left, so that neither is too small to be one.
        let size = if left > 2 * (CIPHERTEXT_MAX + empty) {
            CIPHERTEXT_MAX
        } else if left > CIPHERTEXT_MAX + empty {
            left / 2 - empty
        } else {
            left - empty
        };
        let tx = message(&alice, id, &vec![7; size]);
        left -= tx.encoded_len();
        txs.push(tx);
    }
    let whole = block(txs);
    assert_eq!(whole.to_bytes().len(), BLOCK_BYTES_MAX);
    assert_eq!(Block::from_bytes(&whole.to_bytes()), Ok(whole));
}
