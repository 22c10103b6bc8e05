//! Two stores fed the same blocks agree through restarts; a restored backup never equivocates.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use session_chain::block::{Block, StoredBlock};
use session_chain::processing::Processing;
use session_chain::tx::message::{AcknowledgeMessages, SendBatch, SendMessage};
use session_chain::tx::session::{AcceptSession, CreateSession, NewParticipant};
use session_chain::tx::{Kind, Tx};
use session_core::codec::{Decode, Encode};
use session_core::ids::SessionId;
use session_core::log::Conversation;
use session_storage::{DiskStore, Durability, MemoryStore, Store};
use session_vm::head_key::{Certificate, HeadKeyError};
use session_vm::node::{Node, NodeOptions, OpenError};
use session_vm::{StoreView, Verifier, block_batch};
use support::{Person, TestNode};

const GENESIS: &[u8] = br#"{"config":{"admission":"open"},"nonce":"07"}"#;

fn options() -> NodeOptions {
    NodeOptions {
        genesis: Some(GENESIS.to_vec()),
        ..NodeOptions::default()
    }
}

/// What people do: register, talk, confirm.
fn history(node: &TestNode) {
    let people: Vec<Person> = (0..3).map(|_| node.person()).collect();
    for (a, b) in [(0, 1), (1, 2), (2, 0)] {
        let (a, b) = (&people[a], &people[b]);
        let unsigned = node.open_session(a, b);
        let conversation = Conversation::Session(unsigned.parse().unwrap());
        let mut participants = [a.id(), b.id()];
        participants.sort_unstable();
        let new = |account| NewParticipant {
            account,
            kem: None,
            signing: None,
        };
        let create = CreateSession {
            participants: participants.map(new).to_vec(),
        };
        let signed = node.submit(&a.sign(Kind::CreateSession(create))).unwrap();
        let session: SessionId = signed["outcome"]["sessionId"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        node.submit(&b.sign(Kind::AcceptSession(AcceptSession { session })))
            .unwrap();
        for n in 0..6u8 {
            let ciphertext = vec![n; 200];
            node.submit(&a.sign(Kind::SendMessage(SendMessage {
                conversation,
                ciphertext,
            })))
            .unwrap();
            let conversation = Conversation::Session(session);
            let ciphertexts = vec![vec![n], vec![n, n]];
            node.submit(&b.sign(Kind::SendBatch(SendBatch {
                conversation,
                ciphertexts,
            })))
            .unwrap();
        }
        let read = AcknowledgeMessages {
            conversation,
            up_to: 3,
        };
        node.submit(&b.sign(Kind::AcknowledgeMessages(read)))
            .unwrap();
        node.call("sessionvm.CloseSession", &json!({ "sessionId": unsigned }))
            .unwrap();
    }
}

/// Every block of a node, as bytes would bring it to another.
fn blocks(node: &Node) -> Vec<Block> {
    let head = node.head();
    (1..=head.header.height)
        .map(|height| {
            let (id, _) = node.at_height(&head, height).unwrap().unwrap();
            let stored = node.stored_block(&head, &id).unwrap().unwrap();
            let block = StoredBlock::from_bytes(&stored)
                .unwrap()
                .restore(&head.view())
                .unwrap()
                .unwrap();
            Block::from_bytes(&block.to_bytes()).unwrap()
        })
        .collect()
}

struct Replica {
    store: Arc<dyn Store>,
    processing: Processing,
}

impl Replica {
    /// As a node finds it: opening checks that the records make the state root.
    fn open(store: Arc<dyn Store>, closing: impl FnOnce() -> Arc<dyn Store>) -> Self {
        let node = Node::start_on(store, options()).unwrap();
        let (head, parameters) = (node.head(), *node.parameters());
        let processing = Processing::new(head.header, head.tree.clone(), parameters);
        drop((head, node));
        Self {
            store: closing(),
            processing,
        }
    }

    fn accept(&mut self, block: Block) {
        let view = StoreView(self.store.as_ref());
        let id = self
            .processing
            .verify(block, &view, &Verifier::new(false), None)
            .unwrap();
        let batch = block_batch(self.processing.get(&id).unwrap());
        self.store.commit(batch, Durability::Synced).unwrap();
        self.processing.accept(id).unwrap();
    }
}

#[test]
fn stores_fed_the_same_blocks_agree_through_restarts_at_any_height() {
    let leader = TestNode::with(options());
    history(&leader);
    let blocks = blocks(&leader.node);
    assert!(blocks.len() > 40);
    for seed in [1u64, 2, 3] {
        let mut chance = seed;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let open = || -> Arc<dyn Store> { Arc::new(DiskStore::open(&path).unwrap()) };
        let mut disk = Replica::open(open(), open);
        let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let begun = Node::start_on(memory.clone(), options()).unwrap();
        let mut memory = Replica {
            processing: Processing::new(
                begun.head().header,
                begun.head().tree.clone(),
                *begun.parameters(),
            ),
            store: memory,
        };
        for block in &blocks {
            disk.accept(block.clone());
            memory.accept(block.clone());
            let root = block.header.state_root;
            assert_eq!(
                (
                    disk.processing.tree().root(),
                    memory.processing.tree().root()
                ),
                (root, root)
            );
            chance = chance
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            if (chance >> 33).is_multiple_of(6) {
                disk.store.close().unwrap();
                let height = disk.processing.head().height;
                drop(disk);
                disk = Replica::open(open(), open);
                assert_eq!(
                    (disk.processing.head().height, height),
                    (height, block.header.height),
                    "seed {seed}"
                );
                assert_eq!(
                    disk.processing.tree().root(),
                    root,
                    "seed {seed} height {height}"
                );
            }
        }
        assert_eq!(disk.processing.head_id(), leader.node.head().id);
        assert_eq!(memory.processing.head_id(), leader.node.head().id);
    }
}

/// Registers `count` people on a node without a server: as many blocks.
fn blocks_of(runtime: &tokio::runtime::Runtime, node: &Node, count: usize) {
    for _ in 0..count {
        let tx: Tx = Person::new(node.chain()).registration();
        runtime.block_on(node.submit(tx)).unwrap();
    }
}

fn on(directory: &Path) -> NodeOptions {
    NodeOptions {
        data_dir: Some(directory.to_owned()),
        ..NodeOptions::default()
    }
}

#[test]
fn a_restored_backup_signs_with_a_new_certified_key_and_an_old_key_never_twice() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let node = Node::start(on(&path("first"))).unwrap();
    blocks_of(&runtime, &node, 3);
    node.sign_head(&node.head()).unwrap();
    node.backup(&path("backup")).unwrap();
    blocks_of(&runtime, &node, 2);
    let signed = node.sign_head(&node.head()).unwrap();
    assert_eq!(signed.height, 5);
    let (first_key, chain) = (node.head_key().public_key().clone(), node.chain());
    let root_key = node.parameters().root_key.unwrap();
    drop(node);

    let restored = |name: &str, files: &[&str]| {
        session_storage::restore(&path("backup"), &path(name).join("store")).unwrap();
        for file in files {
            std::fs::copy(path("first").join(file), path(name).join(file)).unwrap();
        }
        Node::start(on(&path(name)))
    };
    // The operator's phrase certifies a new key; nothing else does.
    let refused = restored("bare", &[]).err().unwrap();
    assert!(
        matches!(refused, OpenError::HeadKey(HeadKeyError::NoRootKey { .. })),
        "{refused}"
    );
    let node = restored("second", &["operator.phrase"]).unwrap();
    assert_eq!((node.chain(), node.head().header.height), (chain, 3));
    let key = node.head_key();
    assert_ne!(key.public_key(), &first_key);
    let certificate = key.certificate().unwrap();
    assert_eq!(&certificate.head_key, key.public_key());
    let root = session_vm::head_key::root_identity(&path("first"), false)
        .unwrap()
        .unwrap();
    assert_eq!(
        session_vm::head_key::key_digest(root.public().signing()),
        root_key
    );
    let payload = Certificate::payload(&chain, &certificate.head_key);
    root.public()
        .verify(&payload, &certificate.signature)
        .unwrap();
    blocks_of(&runtime, &node, 2);
    let other = node.sign_head(&node.head()).unwrap();
    assert_eq!(other.height, 5);
    assert_ne!((other.key, other.block), (signed.key, signed.block));
    drop(node);

    // Somebody restored the key too: it stays silent until it is above what it signed.
    let node = restored("third", &["operator.phrase", "head.key"]).unwrap();
    assert_eq!(node.head_key().public_key(), &first_key);
    for height in 3..=5 {
        assert_eq!(node.head().header.height, height);
        let refused = node.sign_head(&node.head()).unwrap_err();
        assert!(
            matches!(refused, HeadKeyError::BelowWatermark { signed: 5, .. }),
            "{refused}"
        );
        blocks_of(&runtime, &node, 1);
    }
    assert_eq!(node.sign_head(&node.head()).unwrap().height, 6);
}
