//! A million transactions offered to one node, faster than its disk takes them.

#![cfg(target_os = "linux")]
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

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::json;
use session_chain::mempool::{Limits, PoolError};
use session_chain::state::TxError;
use session_chain::tx::message::{AcknowledgeMessages, SendMessage};
use session_chain::tx::{Kind, Tx};
use session_core::codec::Encode;
use session_core::ids::SessionId;
use session_core::log::Conversation;
use session_core::record::Outcome;
use session_core::time::Time;
use session_storage::DiskStore;
use session_storage::faulty::FaultyStore;
use session_vm::clock::{Clock, SystemClock};
use session_vm::node::NodeOptions;
use session_vm::rpc::ServerOptions;
use session_vm::submission::{Answer, SubmitError};
use support::memory::status;
use support::{Person, TestNode};

const OFFERS: u64 = 1_000_000;

/// What became of them.
#[derive(Default)]
struct Told {
    sequences: BTreeSet<u64>,
    unknown: u64,
    full: u64,
}

impl Told {
    fn count(&mut self, answer: Answer) {
        match answer {
            Ok(accepted) => {
                let Outcome::Sequence(sequence) = accepted.outcome else {
                    panic!("{accepted:?}")
                };
                assert!(self.sequences.insert(sequence), "{sequence} twice");
            }
            Err(SubmitError::Pool(
                PoolError::Full { retry_ms } | PoolError::SenderFull { retry_ms },
            )) => {
                assert!(retry_ms > 0);
                self.full += 1;
            }
            Err(SubmitError::Tx(TxError::UnknownAccount)) => self.unknown += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

/// One in ten signed by somebody whom nobody knows, the rest unsigned.
fn offer(
    conversation: Conversation,
    sender: &Person,
    stranger: &Person,
    until: Time,
    n: u64,
) -> Tx {
    if n.is_multiple_of(10) {
        let up_to = n;
        return Tx {
            signer: stranger.id(),
            valid_until: until,
            salt: n,
            kind: Kind::AcknowledgeMessages(AcknowledgeMessages {
                conversation,
                up_to,
            }),
            signature: vec![7; 3_309],
        };
    }
    let ciphertext = n.to_be_bytes().to_vec();
    Tx {
        signer: sender.id(),
        valid_until: Time::default(),
        salt: 0,
        kind: Kind::SendMessage(SendMessage {
            conversation,
            ciphertext,
        }),
        signature: Vec::new(),
    }
}

#[test]
fn a_million_are_refused_with_their_reason_and_none_that_was_admitted_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let disk = DiskStore::open(directory.path().join("store")).unwrap();
    let store = Arc::new(FaultyStore::new(disk));
    let unlimited = json!({ "perSecond": u64::MAX, "burst": u64::MAX });
    let config = json!({ "admission": "open", "maxMessages": 10 * OFFERS, "unsigned": unlimited });
    let genesis = json!({ "config": config, "nonce": "00" }).to_string();
    let options = NodeOptions {
        genesis: Some(genesis.into_bytes()),
        ..NodeOptions::default()
    };
    let node = TestNode::on(store.clone(), options, ServerOptions::default());
    let chain = node.node.chain();
    let (a, b, stranger) = (Person::new(chain), Person::new(chain), Person::new(chain));
    let session = node.open_session(&a, &b);
    let conversation = Conversation::Session(session.parse::<SessionId>().unwrap());
    store.set_commit_delay(Duration::from_millis(100));
    let own = std::process::id();
    let before = status(own, "VmRSS");
    let (busy, most) = (AtomicU64::new(0), AtomicU64::new(0));
    let until = SystemClock::default().wall().after_ms(1_800_000);
    let (answers, waiting) = channel();
    let told = std::thread::scope(|scope| {
        for half in 0..2 {
            let (node, busy, most, answers) = (&node.node, &busy, &most, answers.clone());
            let (a, stranger) = (&a, &stranger);
            scope.spawn(move || {
                for n in (half..OFFERS).step_by(2) {
                    let tx = offer(conversation, a, stranger, until, n);
                    let (ids, bytes) = (tx.ids(&chain), tx.to_bytes().len());
                    match node.enqueue(tx, ids, bytes) {
                        Ok(answer) => answers.send(answer).unwrap(),
                        Err(SubmitError::Busy { retry_ms }) => {
                            assert!(retry_ms > 0);
                            busy.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error}"),
                    }
                    let held = node.metrics().pending_bytes.load(Ordering::Relaxed);
                    most.fetch_max(held, Ordering::Relaxed);
                }
            });
        }
        drop(answers);
        let counted = scope.spawn(move || {
            let mut told = Told::default();
            for answer in waiting {
                told.count(answer.blocking_recv().unwrap());
            }
            told
        });
        counted.join().unwrap()
    });
    let busy = busy.load(Ordering::Relaxed);
    let accepted = told.sequences.len() as u64;
    let (full, unknown) = (told.full, told.unknown);
    let most = most.load(Ordering::Relaxed);
    let grown = status(own, "VmHWM").saturating_sub(before);
    println!(
        "accepted {accepted}, full {full}, busy {busy}, unknown {unknown}; pool {most}, memory {grown}"
    );
    assert_eq!(accepted + full + busy + unknown, OFFERS);
    assert!(accepted > 0 && full > 0 && unknown > 0);
    assert!(
        most > 0 && most <= Limits::default().bytes as u64,
        "{most} bytes in the pool"
    );
    assert!(grown < 300 << 20, "{grown} bytes more");
    // What was said to be there is there: every number up to the last, in the log.
    assert_eq!(told.sequences.last(), Some(&(accepted - 1)));
    let shown = node
        .call("sessionvm.GetSession", &json!({ "sessionId": session }))
        .unwrap();
    assert_eq!(shown["session"]["messages"], accepted);
    let health = node.call("sessionvm.Health", &json!({})).unwrap();
    assert_eq!(health["pending"], 0);
}
