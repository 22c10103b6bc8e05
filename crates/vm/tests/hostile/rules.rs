//! What the chain refuses, told with its code.

use crate::support::{Person, TestClock, TestNode, code, message};
use crate::{genesis, send};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use session_chain::tx::Kind;
use session_chain::tx::identity::{RevokeIdentity, RotateKeys};
use session_chain::tx::message::AcknowledgeMessages;
use session_chain::tx::session::{CreateSession, NewParticipant};
use session_core::codec::Encode;
use session_core::log::Conversation;
use session_crypto::Identity;
use session_vm::clock::Clock;
use session_vm::node::NodeOptions;
use session_vm::rpc::error::{
    EXPIRED, LIMIT, SESSION_ENDED, SESSION_FULL, SIGNATURE, UNAUTHORIZED, UNKNOWN_ACCOUNT,
};

#[test]
fn forged_rotations_are_refused_at_the_door_and_take_none_of_their_victims_share() {
    let node = TestNode::start();
    let (victim, peer, thief) = (node.person(), node.person(), node.person());
    let session = node.open_session(&victim, &peer);
    let (kem, signing) = thief.keys();
    let rotate = |recovery| {
        Kind::RotateKeys(RotateKeys {
            kem: kem.clone(),
            signing: signing.clone(),
            recovery,
        })
    };
    let own = || Some(signing.clone());
    let refused = || {
        let metrics = node.node.metrics();
        metrics.refused.load(std::sync::atomic::Ordering::Relaxed)
    };
    for n in 0..40u8 {
        let kinds = [
            (rotate(None), SIGNATURE),
            (
                Kind::RevokeIdentity(RevokeIdentity { recovery: None }),
                SIGNATURE,
            ),
            (rotate(own()), UNAUTHORIZED),
            (
                Kind::RevokeIdentity(RevokeIdentity { recovery: own() }),
                UNAUTHORIZED,
            ),
        ];
        for (kind, expected) in kinds {
            let mut forged = victim.sign(kind);
            thief.resign(&mut forged);
            assert_eq!(code(node.submit(&forged)), i64::from(expected));
        }
        node.submit(&message(&session, &victim, &[n])).unwrap();
    }
    // The producer, and so the pool, has seen none of them.
    assert_eq!(refused(), 0);
    // Nor is there a share of somebody who is not registered.
    let nobody = Person::new(node.node.chain());
    let early = nobody.sign(rotate(None));
    assert_eq!(code(node.submit(&early)), i64::from(UNKNOWN_ACCOUNT));
    assert_eq!(refused(), 0);
    // An honest one goes through, and again when the keys that signed it count no more.
    let rotation = victim.sign(rotate(None));
    node.submit(&rotation).unwrap();
    let again = node.submit(&rotation).unwrap();
    assert_eq!(again["repeated"], true, "{again}");
    let late = victim.sign(Kind::RevokeIdentity(RevokeIdentity { recovery: None }));
    assert_eq!(code(node.submit(&late)), i64::from(SIGNATURE));
    // Whoever has the old keys, which the node knew lately, gets no further with messages.
    let before = refused();
    let stolen = message(&session, &victim, b"with old keys");
    assert_eq!(code(node.submit(&stolen)), i64::from(SIGNATURE));
    assert_eq!(refused(), before);
}

#[test]
fn retries_get_the_first_answer_and_a_bad_signature_poisons_nothing() {
    let node = TestNode::start();
    let (a, b, stranger) = (node.person(), node.person(), node.person());
    let session = node.open_session(&a, &b);
    let good = message(&session, &a, b"hello");
    let mut bad = good.clone();
    stranger.resign(&mut bad);
    assert_eq!(code(node.submit(&bad)), i64::from(SIGNATURE));
    bad.signature[0] ^= 1;
    assert_eq!(code(node.submit(&bad)), i64::from(SIGNATURE));
    let first = node.submit(&good).unwrap();
    let again = node.submit(&good).unwrap();
    assert_eq!(
        (first["outcome"].clone(), again["repeated"].clone()),
        (again["outcome"].clone(), json!(true))
    );
    // The same body under another good signature is the same message.
    let mut anew = good.clone();
    a.resign(&mut anew);
    assert_eq!(node.submit(&anew).unwrap()["outcome"], first["outcome"]);
    // And in the published form, in both dialects.
    let params = send(
        &session,
        &a,
        &const_hex::encode("hello"),
        &const_hex::encode(&anew.signature),
    );
    let by_2 = node.call("sessionvm.SendMessage", &params).unwrap();
    assert_eq!(
        by_2,
        node.gorilla("sessionvm.SendMessage", &params).unwrap()
    );
    assert_eq!(by_2["sequence"], first["outcome"]["sequence"]);

    let participants = |a: &Person, b: &Person| {
        let mut both = [a.id(), b.id()];
        both.sort_unstable();
        both.map(|account| NewParticipant {
            account,
            kem: None,
            signing: None,
        })
        .to_vec()
    };
    let create = a.sign(Kind::CreateSession(CreateSession {
        participants: participants(&a, &b),
    }));
    let first = node.submit(&create).unwrap();
    assert_eq!(node.submit(&create).unwrap()["outcome"], first["outcome"]);
    // Together in one call, with itself.
    let tx = BASE64.encode(message(&session, &b, b"both at once").to_bytes());
    let reply = node
        .call("sessionvm.Submit", &json!({ "txs": [tx, tx] }))
        .unwrap();
    assert_eq!(
        reply["results"][0]["outcome"],
        reply["results"][1]["outcome"]
    );

    let conversation = Conversation::Session(session.parse().unwrap());
    let stranger_acks = stranger.sign(Kind::AcknowledgeMessages(AcknowledgeMessages {
        conversation,
        up_to: 1,
    }));
    assert_eq!(code(node.submit(&stranger_acks)), i64::from(UNAUTHORIZED));
    assert_eq!(
        code(node.submit(&message(&session, &stranger, b"let me in"))),
        i64::from(UNAUTHORIZED)
    );
    let nobody = Person::new(node.node.chain());
    assert_eq!(
        code(
            node.submit(&nobody.sign(Kind::AcknowledgeMessages(AcknowledgeMessages {
                conversation,
                up_to: 1
            })))
        ),
        i64::from(UNKNOWN_ACCOUNT)
    );
}

#[test]
fn rotated_and_revoked_keys_sign_nothing_more() {
    let node = TestNode::start();
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    let new = Identity::generate().unwrap();
    let public = new.public();
    let rotate = a.sign(Kind::RotateKeys(RotateKeys {
        kem: session_chain::tx::KemKey(Box::new(*public.kem().as_bytes())),
        signing: session_chain::tx::SigningKey(Box::new(*public.signing().as_bytes())),
        recovery: None,
    }));
    let before = message(&session, &a, b"signed before, sent after");
    node.submit(&rotate).unwrap();
    assert_eq!(code(node.submit(&before)), i64::from(SIGNATURE));
    let mut after = before.clone();
    after.signature = new
        .sign(&after.signed_digest(&a.chain))
        .unwrap()
        .as_bytes()
        .to_vec();
    node.submit(&after).unwrap();

    let revoke = b.sign(Kind::RevokeIdentity(RevokeIdentity { recovery: None }));
    // Only its own key ends an account.
    let mut stolen = revoke.clone();
    a.resign(&mut stolen);
    assert_eq!(code(node.submit(&stolen)), i64::from(SIGNATURE));
    node.submit(&revoke).unwrap();
    assert_eq!(
        code(node.submit(&message(&session, &b, b"from the grave"))),
        i64::from(UNKNOWN_ACCOUNT)
    );
}

#[test]
fn expired_closed_and_full_sessions_say_so() {
    let clock = TestClock::new();
    let options = NodeOptions {
        genesis: genesis(json!({ "admission": "open", "sessionTTL": 60, "maxMessages": 2 })),
        clock: clock.clone(),
        ..NodeOptions::default()
    };
    let node = TestNode::with(options);
    let (a, b) = (node.person(), node.person());
    let full = node.open_session(&a, &b);
    for text in [b"1", b"2"] {
        node.submit(&message(&full, &a, text)).unwrap();
    }
    assert_eq!(
        code(node.submit(&message(&full, &a, b"3"))),
        i64::from(SESSION_FULL)
    );
    let closed = node.open_session(&a, &b);
    node.call("sessionvm.CloseSession", &json!({ "sessionId": closed }))
        .unwrap();
    assert_eq!(
        code(node.submit(&message(&closed, &a, b"1"))),
        i64::from(SESSION_ENDED)
    );
    let unsigned = message(&closed, &a, b"1");
    let params = send(
        &closed,
        &a,
        &const_hex::encode("1"),
        &const_hex::encode(&unsigned.signature),
    );
    assert_eq!(
        node.gorilla("sessionvm.SendMessage", &params).unwrap_err(),
        "session closed"
    );
    let status = |id: &str| {
        node.call("sessionvm.GetSession", &json!({ "sessionId": id }))
            .unwrap()["session"]["status"]
            .clone()
    };
    assert_eq!(
        (status(&full), status(&closed)),
        (json!("active"), json!("closed"))
    );
    clock.pass(61_000);
    // No block was made since, and yet it shows.
    assert_eq!(status(&full), json!("expired"));
    let late = message(&full, &a, b"4");
    assert_eq!(code(node.submit(&late)), i64::from(SESSION_ENDED));
    let params = send(
        &full,
        &a,
        &const_hex::encode("4"),
        &const_hex::encode(&late.signature),
    );
    assert_eq!(
        node.gorilla("sessionvm.SendMessage", &params).unwrap_err(),
        "session expired"
    );

    let old = Kind::AcknowledgeMessages(AcknowledgeMessages {
        conversation: Conversation::Session(full.parse().unwrap()),
        up_to: 1,
    });
    let now = clock.wall();
    let mut tx = a.sign_at(old, now);
    tx.valid_until = session_core::time::Time::from_ms(now.ms() - 1);
    a.resign(&mut tx);
    assert_eq!(code(node.submit(&tx)), i64::from(EXPIRED));
    tx.valid_until = now.after_ms(2 * 3_600_000);
    a.resign(&mut tx);
    assert_eq!(code(node.submit(&tx)), i64::from(EXPIRED));
}

#[test]
fn quotas_are_told_with_a_time_to_come_back() {
    let options = NodeOptions {
        genesis: genesis(
            json!({ "admission": "open", "registrations": { "perSecond": 1, "burst": 2 } }),
        ),
        ..NodeOptions::default()
    };
    let node = TestNode::with(options);
    let (_a, _b) = (node.person(), node.person());
    let error = node
        .submit(&Person::new(node.node.chain()).registration())
        .unwrap_err();
    assert_eq!(error["code"], LIMIT, "{error}");
    assert!(
        error["data"]["retryMs"].as_u64().unwrap() <= 1_000,
        "{error}"
    );
    let signed = TestNode::with(NodeOptions {
        genesis: genesis(json!({ "admission": "signed" })),
        ..NodeOptions::default()
    });
    let (a, b) = (signed.person(), signed.person());
    let params =
        json!({ "participants": [a.id(), b.id()], "publicKeys": [a.kem_hex(), b.kem_hex()] });
    assert_eq!(
        code(signed.call("sessionvm.CreateSession", &params)),
        i64::from(SIGNATURE)
    );
}
