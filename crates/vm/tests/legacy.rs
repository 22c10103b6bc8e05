//! `05` accounts of the Session network: Ed25519 signs, its X25519 image is the id.

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

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use session_chain::tx::identity::{RevokeIdentity, RotateKeys};
use session_chain::tx::legacy::{LegacyKey, RegisterLegacy};
use session_chain::tx::message::{SendBatch, SendMessage};
use session_chain::tx::session::{CreateSession, NewParticipant};
use session_chain::tx::{Kind, Tx};
use session_core::ids::{AccountId, ChainId, SessionId};
use session_core::log::Conversation;
use session_core::time::Time;
use session_crypto::LegacyIdentity;
use session_vm::clock::{Clock, SystemClock};
use session_vm::node::NodeOptions;
use session_vm::rpc::error::{INVALID_PARAMS, SIGNATURE};
use support::{Person, TestNode, code};

fn node(config: Value) -> TestNode {
    let genesis = json!({ "config": config, "nonce": "00" }).to_string();
    TestNode::with(NodeOptions {
        genesis: Some(genesis.into_bytes()),
        ..NodeOptions::default()
    })
}

struct Veteran {
    identity: LegacyIdentity,
    chain: ChainId,
    salt: AtomicU64,
}

impl Veteran {
    fn new(node: &TestNode) -> Self {
        Self {
            identity: LegacyIdentity::generate().unwrap(),
            chain: node.node.chain(),
            salt: AtomicU64::new(0),
        }
    }

    fn account(&self) -> AccountId {
        self.identity.id().account_id()
    }

    fn sign(&self, kind: Kind) -> Tx {
        let single = kind.is_single_message();
        let until = SystemClock::default().wall().after_ms(1_800_000);
        let mut tx = Tx {
            signer: self.account(),
            valid_until: if single { Time::default() } else { until },
            salt: if single {
                0
            } else {
                self.salt.fetch_add(1, Ordering::Relaxed)
            },
            kind,
            signature: Vec::new(),
        };
        let digest = tx.signed_digest(&self.chain);
        tx.signature = self.identity.sign(&digest).to_vec();
        tx
    }

    fn registration(&self) -> Tx {
        let signing = LegacyKey(*self.identity.public().as_bytes());
        self.sign(Kind::RegisterLegacy(RegisterLegacy {
            signing,
            recovery: None,
        }))
    }
}

fn open(node: &TestNode, a: AccountId, b: AccountId, sign: impl Fn(Kind) -> Tx) -> SessionId {
    let mut both = [a, b];
    both.sort_unstable();
    let participants = both.map(|account| NewParticipant {
        account,
        kem: None,
        signing: None,
    });
    let participants = participants.to_vec();
    let made = node
        .submit(&sign(Kind::CreateSession(CreateSession { participants })))
        .unwrap();
    made["outcome"]["sessionId"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap()
}

#[test]
fn an_05_account_registers_talks_and_moves_to_post_quantum_keys() {
    let node = node(json!({ "admission": "signed", "allowLegacy": true }));
    let parameters = node.call("sessionvm.GetParameters", &json!({})).unwrap();
    assert_eq!(parameters["allowLegacy"], true);
    let (veteran, alice) = (Veteran::new(&node), node.person());
    let identity = |id: &str| {
        node.call("sessionvm.GetIdentity", &json!({ "account": id }))
            .unwrap()
    };
    let known_as = veteran.identity.id().to_string();
    assert!(known_as.starts_with("05"));
    assert_eq!(identity(&known_as)["registered"], false);
    // Another key, another signature, a weak key: none of them is this account.
    let other = LegacyKey(*Veteran::new(&node).identity.public().as_bytes());
    for signing in [other, LegacyKey([0; 32]), LegacyKey([0xff; 32])] {
        let kind = Kind::RegisterLegacy(RegisterLegacy {
            signing,
            recovery: None,
        });
        assert_eq!(
            code(node.submit(&veteran.sign(kind))),
            i64::from(INVALID_PARAMS)
        );
    }
    let mut bent = veteran.registration();
    bent.signature[5] ^= 1;
    assert_eq!(code(node.submit(&bent)), i64::from(SIGNATURE));
    // The order of the group added to s: the same signature in another form (RFC 8032 §5.1.7).
    bent = veteran.registration();
    let order =
        const_hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
            .unwrap();
    let mut carry = 0u16;
    for (byte, add) in bent.signature[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(add) + carry;
        (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
    }
    assert_eq!(code(node.submit(&bent)), i64::from(SIGNATURE));
    node.submit(&veteran.registration()).unwrap();
    let told = identity(&known_as);
    assert_eq!(told["identity"], json!(known_as));
    assert_eq!(told["x25519PublicKey"], json!(&known_as[2..]));
    assert_eq!(told["kemPublicKey"], json!(null));
    assert_eq!(
        told["signingPublicKey"],
        json!(const_hex::encode(veteran.identity.public().as_bytes()))
    );
    let of_alice = identity(&alice.id().to_string());
    assert_eq!(of_alice["identity"], json!(alice.identity.public().id()));

    let session = open(&node, veteran.account(), alice.id(), |kind| {
        veteran.sign(kind)
    });
    let shown = node
        .call("sessionvm.GetSession", &json!({ "sessionId": session }))
        .unwrap();
    let keys = shown["session"]["publicKeys"].as_array().unwrap();
    assert!(
        keys.iter().any(|key| key.as_str().unwrap().len() == 44),
        "{keys:?}"
    );
    let conversation = Conversation::Session(session);
    let ciphertexts = vec![b"one".to_vec(), b"two".to_vec()];
    let batch = veteran.sign(Kind::SendBatch(SendBatch {
        conversation,
        ciphertexts,
    }));
    node.submit(&batch).unwrap();
    // And in the published form, where the signature has 64 bytes.
    let ciphertext = b"three".to_vec();
    let single = veteran.sign(Kind::SendMessage(SendMessage {
        conversation,
        ciphertext,
    }));
    let params = json!({ "sessionId": session, "sender": known_as,
        "ciphertext": const_hex::encode("three"), "signature": const_hex::encode(&single.signature) });
    assert_eq!(
        node.call("sessionvm.SendMessage", &params).unwrap()["sequence"],
        2
    );
    let mut wrong = params.clone();
    wrong["signature"] = json!("00".repeat(64));
    wrong["ciphertext"] = json!("00");
    assert_eq!(
        code(node.call("sessionvm.SendMessage", &wrong)),
        i64::from(SIGNATURE)
    );
    let read = node
        .call(
            "sessionvm.GetMessages",
            &json!({ "sessionId": session, "proof": true }),
        )
        .unwrap();
    assert!(
        read["messages"]
            .as_array()
            .unwrap()
            .iter()
            .all(|m| m["verified"] == true)
    );

    // It keeps its id when it goes over to post-quantum keys, and its old key is nobody's.
    let new = Person::new(node.node.chain());
    let (kem, signing) = new.keys();
    let rotate = veteran.sign(Kind::RotateKeys(RotateKeys {
        kem,
        signing,
        recovery: None,
    }));
    node.submit(&rotate).unwrap();
    let ciphertext = b"four".to_vec();
    let mut late = veteran.sign(Kind::SendMessage(SendMessage {
        conversation,
        ciphertext,
    }));
    assert_eq!(code(node.submit(&late)), i64::from(SIGNATURE));
    let digest = late.signed_digest(&node.node.chain());
    late.signature = new.identity.sign(&digest).unwrap().as_bytes().to_vec();
    node.submit(&late).unwrap();
    let told = identity(&known_as);
    assert_eq!(told["identity"], json!(known_as));
    assert_eq!(
        (&told["kemPublicKey"], &told["keyIndex"]),
        (&json!(new.kem_hex()), &json!(1))
    );
    let revoke = veteran.sign(Kind::RevokeIdentity(RevokeIdentity { recovery: None }));
    assert_eq!(code(node.submit(&revoke)), i64::from(SIGNATURE));
}

#[test]
fn a_chain_that_does_not_allow_them_says_so() {
    for config in [
        json!({ "admission": "open" }),
        json!({ "allowLegacy": false }),
    ] {
        let node = node(config);
        let veteran = Veteran::new(&node);
        let error = node.submit(&veteran.registration()).unwrap_err();
        assert_eq!(error["code"], SIGNATURE);
        assert_eq!(
            error["error"],
            "signatures of 05 accounts are refused: the genesis says allowLegacy false"
        );
        let mut unsigned = veteran.registration();
        unsigned.signature.clear();
        assert_eq!(code(node.submit(&unsigned)), i64::from(SIGNATURE));
        let parameters = node.call("sessionvm.GetParameters", &json!({})).unwrap();
        assert_eq!(parameters["allowLegacy"], false);
    }
}
