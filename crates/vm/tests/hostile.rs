//! What strangers, faulty clients and a failing machine send at a node, over real sockets.

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

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::identity::{RevokeIdentity, RotateKeys};
use session_chain::tx::message::{AcknowledgeMessages, SendMessage};
use session_chain::tx::session::{CreateSession, NewParticipant};
use session_chain::tx::{Kind, Tx};
use session_core::codec::Encode;
use session_core::ids::SessionId;
use session_core::log::Conversation;
use session_crypto::Identity;
use session_storage::MemoryStore;
use session_storage::faulty::{Fault, FaultyStore};
use session_vm::clock::Clock;
use session_vm::node::NodeOptions;
use session_vm::rpc::ServerOptions;
use session_vm::rpc::error::{
    BUSY, EXPIRED, INVALID_PARAMS, INVALID_REQUEST, LIMIT, METHOD_NOT_FOUND, PARSE, SESSION_ENDED,
    SESSION_FULL, SIGNATURE, STORAGE_FULL, UNAUTHORIZED, UNAVAILABLE, UNKNOWN_ACCOUNT,
    UNKNOWN_SESSION,
};
use support::{Person, TestClock, TestNode, code, connect, http, read_reply, until};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn post(node: &TestNode, body: &[u8]) -> support::Reply {
    http(node.address, "POST", "/rpc", &[JSON], Some(body))
}

fn send(session: &str, sender: &Person, ciphertext: &str, signature: &str) -> Value {
    json!({ "sessionId": session, "sender": sender.id(), "ciphertext": ciphertext, "signature": signature })
}

fn message(session: &str, sender: &Person, text: &[u8]) -> Tx {
    let session: SessionId = session.parse().unwrap();
    let conversation = Conversation::Session(session);
    sender.sign(Kind::SendMessage(SendMessage {
        conversation,
        ciphertext: text.to_vec(),
    }))
}

fn genesis(config: Value) -> Option<Vec<u8>> {
    Some(
        json!({ "config": config, "nonce": "00" })
            .to_string()
            .into_bytes(),
    )
}

// ---- bytes

#[test]
fn a_hundred_megabytes_are_refused_before_they_are_read() {
    const TOTAL: usize = 100 << 20;
    let node = TestNode::start();
    for chunked in [false, true] {
        let mut stream = connect(node.address);
        let length = if chunked {
            "Transfer-Encoding: chunked".to_owned()
        } else {
            format!("Content-Length: {TOTAL}")
        };
        write!(stream, "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{length}\r\n\r\n").unwrap();
        let piece = vec![b'['; 1 << 16];
        let mut written = 0;
        let cut = loop {
            let framed = if chunked {
                [b"10000\r\n".as_slice(), &piece, b"\r\n"].concat()
            } else {
                piece.clone()
            };
            match stream.write_all(&framed) {
                Ok(()) => written += piece.len(),
                Err(_) => break true,
            }
            if written >= TOTAL {
                break false;
            }
        };
        // Two MiB are taken; the rest lay in the buffers of two sockets.
        assert!(
            cut && written < 20 << 20,
            "chunked {chunked}: it took {written} bytes"
        );
    }
    let body = vec![b' '; (2 << 20) + 1];
    assert_eq!(post(&node, &body).status, 413);
    assert!(node.call("sessionvm.Health", &json!({})).is_ok());
}

#[test]
fn json_as_deep_as_a_body_is_long_is_an_answer_not_a_crash() {
    let node = TestNode::start();
    let deep = |open: &str, close: &str| open.repeat(200_000) + &close.repeat(200_000);
    let (arrays, objects) = (
        deep("[", "]"),
        "{\"a\":".repeat(200_000) + "1" + &"}".repeat(200_000),
    );
    for deep in [&arrays, &objects] {
        for place in ["params", "id", "method", "jsonrpc"] {
            for version in ["\"jsonrpc\":\"2.0\",", ""] {
                let body = match place {
                    "params" => format!(
                        "{{{version}\"method\":\"sessionvm.GetSession\",\"id\":1,\"params\":[{{\"sessionId\":{deep}}}]}}"
                    ),
                    other => format!("{{\"{other}\":{deep},\"x\":1}}"),
                };
                let reply = post(&node, body.as_bytes());
                assert!(
                    matches!(reply.status, 200 | 400),
                    "{place}: {}",
                    reply.status
                );
                assert!(reply.json().get("error").is_some());
            }
        }
        assert_eq!(post(&node, deep.as_bytes()).status, 400);
        assert_eq!(post(&node, &deep.as_bytes()[..200_000]).status, 400);
    }
    assert!(node.call("sessionvm.Health", &json!({})).is_ok());
}

#[test]
fn what_is_no_request_gets_the_code_of_json_rpc() {
    let node = TestNode::start();
    let code_of = |body: &str| post(&node, body.as_bytes()).json()["error"]["code"].clone();
    assert_eq!(code_of("{\"jsonrpc\":\"2.0\",\"method\":"), json!(PARSE));
    assert_eq!(
        code_of("{\"jsonrpc\":\"2.0\",\"method\":5,\"id\":1}"),
        json!(INVALID_REQUEST)
    );
    assert_eq!(
        code_of("{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"id\":{}}"),
        json!(INVALID_REQUEST)
    );
    assert_eq!(
        code_of("{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"id\":1}"),
        json!(METHOD_NOT_FOUND)
    );
    assert_eq!(
        code_of("{\"jsonrpc\":\"2.0\",\"method\":\"sessionvm.Health\",\"id\":1,\"params\":[1,2]}"),
        json!(INVALID_PARAMS)
    );
    let many = format!(
        "[{}]",
        vec!["{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"id\":1}"; 101].join(",")
    );
    assert_eq!(code_of(&many), json!(INVALID_REQUEST));
    let notification = post(
        &node,
        b"{\"jsonrpc\":\"2.0\",\"method\":\"sessionvm.Health\"}",
    );
    assert_eq!((notification.status, notification.body.len()), (204, 0));
    let batch = post(
        &node,
        b"[{\"jsonrpc\":\"2.0\",\"method\":\"sessionvm.Health\",\"id\":1},3]",
    )
    .json();
    assert_eq!(
        (batch[0]["id"].clone(), batch[1]["error"]["code"].clone()),
        (json!(1), json!(INVALID_REQUEST))
    );
    for bytes in [
        b"\0\xff\xfe".as_slice(),
        b"\xef\xbb\xbf{}",
        b"{\"id\":1}{}",
        b"nullnull",
    ] {
        assert!(matches!(post(&node, bytes).status, 200 | 400));
    }
}

#[test]
fn only_names_of_this_machine_callers_with_the_token_and_listed_origins() {
    let options = ServerOptions {
        token: Some("secret".to_owned()),
        hosts: vec!["node.example".to_owned()],
        cors_origins: vec!["https://app.example".to_owned()],
        ..ServerOptions::default()
    };
    let node = TestNode::on(
        Arc::new(MemoryStore::new()),
        NodeOptions::default(),
        options,
    );
    let get = |headers: &[(&str, &str)]| http(node.address, "GET", "/health", headers, None);
    let token = ("Authorization", "Bearer secret");
    for (host, status) in [
        ("localhost", 200),
        ("LOCALHOST:9", 200),
        ("127.0.0.1", 200),
        ("[::1]:80", 200),
        ("node.example", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("", 403),
        ("10.0.0.1", 403),
    ] {
        assert_eq!(get(&[("Host", host), token]).status, status, "{host:?}");
    }
    for wrong in [
        "",
        "secret",
        "Bearer",
        "Bearer ",
        "Bearer secre",
        "Bearer secrets",
        "bearer secret",
        "Basic secret",
    ] {
        assert_eq!(get(&[("Authorization", wrong)]).status, 401, "{wrong:?}");
        let reply = http(
            node.address,
            "POST",
            "/rpc",
            &[JSON, ("Authorization", wrong)],
            Some(b"{}"),
        );
        assert_eq!(reply.status, 401);
    }
    assert_eq!(get(&[]).status, 401);
    let allow = "access-control-allow-origin";
    let listed = get(&[token, ("Origin", "https://app.example")]);
    assert_eq!(listed.header(allow), Some("https://app.example"));
    assert_eq!(
        get(&[token, ("Origin", "https://evil.example")]).header(allow),
        None
    );
    // Nothing is listed by default.
    let node = TestNode::start();
    let reply = http(
        node.address,
        "GET",
        "/health",
        &[("Origin", "https://app.example")],
        None,
    );
    assert_eq!((reply.status, reply.header(allow)), (200, None));
    let preflight = http(
        node.address,
        "OPTIONS",
        "/rpc",
        &[("Origin", "https://app.example")],
        None,
    );
    assert_eq!((preflight.status, preflight.header(allow)), (405, None));
}

// ---- parameters

#[test]
fn every_id_of_a_wrong_form_is_refused_in_both_dialects() {
    let node = TestNode::start();
    let a = node.person();
    let good = a.id().to_string();
    let other = if good.ends_with('z') { "y" } else { "z" };
    let flipped = format!("{}{other}", &good[..good.len() - 1]);
    let long = "z".repeat(100_000);
    let (short, longer) = (&good[..good.len() - 1], format!("{good}2"));
    let bad = [
        "", "1", "zzz", "0OIl", "é", &flipped, &long, short, &longer, "0x00",
    ];
    for (method, param, others) in [
        ("GetSession", "sessionId", json!({})),
        ("CloseSession", "sessionId", json!({})),
        ("GetMessages", "sessionId", json!({})),
        ("GetReceipts", "sessionId", json!({})),
        ("GetProof", "sessionId", json!({})),
        ("GetProof", "account", json!({})),
        ("GetProof", "action", json!({})),
        ("GetProof", "channelId", json!({})),
        ("GetChannel", "channelId", json!({})),
        ("GetMessage", "messageId", json!({})),
        ("GetIdentity", "account", json!({})),
        ("ListSessions", "participant", json!({})),
        ("GetAction", "action", json!({})),
        ("GetChunk", "chunkId", json!({})),
        ("GetBlock", "blockId", json!({})),
        (
            "SendMessage",
            "sessionId",
            json!({ "sender": good, "ciphertext": "00" }),
        ),
        (
            "SendMessage",
            "sender",
            json!({ "sessionId": good, "ciphertext": "00" }),
        ),
    ] {
        let method = format!("sessionvm.{method}");
        for bad in bad {
            let mut params = others.clone();
            params[param] = json!(bad);
            let error = node.call(&method, &params).unwrap_err();
            assert_eq!(
                error["code"], INVALID_PARAMS,
                "{method} {param}={bad:.20}: {error}"
            );
            assert!(
                error["message"].as_str().unwrap().starts_with(param),
                "{error}"
            );
            let text = node.gorilla(&method, &params).unwrap_err();
            assert!(!text.starts_with(param), "{text}");
        }
        // Another JSON type.
        let mut params = others;
        params[param] = json!([5]);
        assert_eq!(
            code(node.call(&method, &params)),
            i64::from(INVALID_PARAMS),
            "{method}"
        );
        assert!(node.gorilla(&method, &params).is_err());
    }
}

#[test]
fn keys_rosters_bodies_and_signatures_have_their_lengths_in_both_dialects() {
    let node = TestNode::start();
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    let refused = |method: &str, params: &Value| {
        let found = code(node.call(method, params));
        assert!(node.gorilla(method, params).is_err(), "{method}");
        found
    };
    let invalid = i64::from(INVALID_PARAMS);
    let create = "sessionvm.CreateSession";
    let keys = json!([a.kem_hex(), b.kem_hex()]);
    let (kem, x) = (a.kem_hex(), Person::new(node.node.chain()));
    for key in [
        "",
        "00",
        &kem[2..],
        &format!("{kem}00"),
        &"zz".repeat(1_184),
        &kem[1..],
        &"f".repeat(1_900_000),
    ] {
        let params = json!({ "participants": [a.id(), b.id()], "publicKeys": [kem, key] });
        assert_eq!(refused(create, &params), invalid);
        let params = json!({ "participants": [a.id(), b.id()], "publicKeys": keys, "signingKeys": [key, null] });
        assert_eq!(refused(create, &params), invalid);
    }
    // Coefficients above the modulus: no ML-KEM key (FIPS 203 §7.2).
    let params = json!({ "participants": [x.id(), b.id()], "publicKeys": ["ff".repeat(1_184), b.kem_hex()] });
    assert_eq!(refused(create, &params), invalid);
    // Somebody else's key for a registered account.
    let params =
        json!({ "participants": [a.id(), b.id()], "publicKeys": [b.kem_hex(), b.kem_hex()] });
    assert!(node.call(create, &params).is_err());
    let many: Vec<_> = (0..101u8)
        .map(|n| session_core::ids::AccountId::from_bytes([n; 32]))
        .collect();
    let of = |n: usize| json!({ "participants": many[..n], "publicKeys": vec![kem.clone(); n] });
    assert_eq!(refused(create, &of(0)), invalid);
    assert_eq!(refused(create, &of(1)), invalid);
    assert_eq!(refused(create, &of(101)), invalid);
    assert!(node.call(create, &of(100)).is_ok());
    let twice =
        json!({ "participants": [a.id(), a.id()], "publicKeys": [a.kem_hex(), a.kem_hex()] });
    assert_eq!(refused(create, &twice), invalid);
    let fewer = json!({ "participants": [a.id(), b.id()], "publicKeys": [a.kem_hex()] });
    assert_eq!(refused(create, &fewer), invalid);

    let method = "sessionvm.SendMessage";
    for signature in ["00", &"00".repeat(3_308), &"00".repeat(3_310), "0", "zz"] {
        assert_eq!(
            refused(method, &send(&session, &a, "c0ffee", signature)),
            invalid
        );
    }
    let wrong = "00".repeat(3_309);
    assert_eq!(
        refused(method, &send(&session, &a, "c0ffee", &wrong)),
        i64::from(SIGNATURE)
    );
    assert_eq!(
        refused(method, &send(&session, &a, "c0ffee", "")),
        i64::from(SIGNATURE)
    );
    assert_eq!(
        refused(method, &send(&session, &x, "c0ffee", "")),
        i64::from(UNAUTHORIZED)
    );
    for bad in ["abc", "0xab", "zz", "é"] {
        assert_eq!(refused(method, &send(&session, &a, bad, "")), invalid);
    }
    let most = message(&session, &a, &vec![7; 256 * 1024]);
    assert_eq!(node.submit(&most).unwrap()["outcome"]["sequence"], 0);
    let above = "00".repeat(256 * 1024 + 1);
    assert_eq!(
        refused(method, &send(&session, &a, &above, &wrong)),
        invalid
    );
    let above = message(&session, &a, &vec![7; 256 * 1024 + 1]);
    assert_eq!(code(node.submit(&above)), invalid);

    let nowhere = SessionId::from_bytes([9; 32]).to_string();
    assert_eq!(
        refused(method, &send(&nowhere, &a, "c0ffee", &wrong)),
        i64::from(SIGNATURE)
    );
    assert_eq!(
        code(node.submit(&message(&nowhere, &a, b"x"))),
        i64::from(UNKNOWN_SESSION)
    );
    for method in ["GetSession", "GetMessages", "GetReceipts", "CloseSession"] {
        let found = refused(
            &format!("sessionvm.{method}"),
            &json!({ "sessionId": nowhere }),
        );
        assert_eq!(found, i64::from(UNKNOWN_SESSION), "{method}");
    }
}

#[test]
fn transactions_cut_lengthened_or_bent_are_refused_one_by_one() {
    let node = TestNode::start();
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    let good = message(&session, &a, b"fine").to_bytes();
    let mut txs = vec![
        "é".to_owned(),
        String::new(),
        "AA==".to_owned(),
        BASE64.encode(vec![1; 400_000]),
    ];
    for cut in [1, 33, 50, good.len() / 2, good.len() - 1] {
        txs.push(BASE64.encode(&good[..cut]));
    }
    txs.push(BASE64.encode([good.as_slice(), b"x"].concat()));
    for (place, value) in [(0, 9), (1, 99), (1, 0)] {
        let mut bent = good.clone();
        bent[place] = value;
        txs.push(BASE64.encode(bent));
    }
    let bad = txs.len();
    txs.push(BASE64.encode(&good));
    let reply = node
        .call("sessionvm.Submit", &json!({ "txs": txs }))
        .unwrap();
    for (at, result) in reply["results"].as_array().unwrap().iter().enumerate() {
        if at < bad {
            assert_eq!(result["code"], INVALID_PARAMS, "{at}: {result}");
        } else {
            assert_eq!(result["status"], "accepted", "{result}");
        }
    }
    for txs in [
        json!([]),
        json!(vec!["AA=="; 8_193]),
        json!("AA=="),
        json!([5]),
    ] {
        assert_eq!(
            code(node.call("sessionvm.Submit", &json!({ "txs": txs }))),
            i64::from(INVALID_PARAMS)
        );
    }
}

// ---- rules, told with their code

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

// ---- a failing machine

#[test]
fn a_clock_that_jumps_either_way_stops_building_until_it_is_right() {
    let clock = TestClock::new();
    let node = TestNode::with(NodeOptions {
        clock: clock.clone(),
        ..NodeOptions::default()
    });
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    for (number, jump) in [
        (0u8, 3_600_000i64),
        (1, -3_600_000),
        (2, 61_000),
        (3, -61_000),
    ] {
        let tx = message(&session, &a, &[number]);
        clock.jump(jump);
        let error = node.submit(&tx).unwrap_err();
        assert_eq!(error["code"], UNAVAILABLE, "{error}");
        assert!(
            error["error"].as_str().unwrap().contains("clock jumped"),
            "{error}"
        );
        clock.jump(-jump);
        assert_eq!(node.submit(&tx).unwrap()["outcome"]["sequence"], number);
    }
    // Half a minute is a correction.
    clock.jump(30_000);
    node.submit(&message(&session, &a, b"later")).unwrap();
    clock.jump(-50_000);
    node.submit(&message(&session, &a, b"earlier")).unwrap();
}

#[test]
fn a_full_disk_loses_nothing_and_is_over_when_there_is_room() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let node = TestNode::on(
        store.clone(),
        NodeOptions::default(),
        ServerOptions::default(),
    );
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    let mut sequence = 0;
    for fault in [
        Fault::Full,
        Fault::FullWhileWriting,
        Fault::SyncFailedAndLost,
        Fault::SyncFailedButKept,
    ] {
        let tx = message(&session, &a, format!("{fault:?}").as_bytes());
        store.plan([fault]);
        let answer = node.submit(&tx);
        match fault {
            Fault::SyncFailedButKept => {
                assert_eq!(answer.unwrap()["outcome"]["sequence"], sequence)
            }
            Fault::Full | Fault::FullWhileWriting => {
                assert_eq!(code(answer), i64::from(STORAGE_FULL))
            }
            Fault::None
            | Fault::SyncFailedAndLost
            | Fault::AcknowledgeAndForget
            | Fault::AcknowledgeAndTear => assert_eq!(code(answer), i64::from(UNAVAILABLE)),
        }
        // What was refused is not there, and what was accepted is.
        let read = |from: u64| {
            node.call(
                "sessionvm.GetMessages",
                &json!({ "sessionId": session, "from": from, "proof": true }),
            )
            .unwrap()
        };
        let expected = if fault == Fault::SyncFailedButKept {
            sequence + 1
        } else {
            sequence
        };
        assert_eq!(read(0)["next"], expected, "{fault:?}");
        assert_eq!(
            node.submit(&tx).unwrap()["outcome"]["sequence"],
            sequence,
            "{fault:?}"
        );
        sequence += 1;
        assert_eq!(read(0)["next"], sequence);
    }
    assert_eq!(
        node.call("sessionvm.Health", &json!({})).unwrap()["healthy"],
        true
    );
    // Whoever waits through a failure hears of what comes after it.
    let (address, params) = (
        node.address,
        json!({ "sessionId": session, "from": sequence, "waitMs": 20_000 }),
    );
    let waiting = std::thread::spawn(move || {
        support::call(address, "sessionvm.GetMessages", &params).unwrap()
    });
    store.plan([Fault::FullWhileWriting]);
    let tx = message(&session, &b, b"after the failure");
    assert_eq!(code(node.submit(&tx)), i64::from(STORAGE_FULL));
    node.submit(&tx).unwrap();
    assert_eq!(
        waiting.join().unwrap()["messages"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_slow_disk_under_many_large_messages_answers_busy_and_accepts_the_rest() {
    let store = Arc::new(FaultyStore::new(MemoryStore::new()));
    let node = TestNode::on(
        store.clone(),
        NodeOptions::default(),
        ServerOptions::default(),
    );
    let (a, b) = (
        Person::new(node.node.chain()),
        Person::new(node.node.chain()),
    );
    let session = node.open_session(&a, &b);
    store.set_commit_delay(Duration::from_secs(3));
    // 40 MB at once: unsigned transactions share 16 MiB of the pool.
    let calls: Vec<_> = (0..32u8)
        .map(|call| {
            let txs = (0..5u8).map(|n| {
                let mut tx = message(&session, &a, &[vec![call, n], vec![0; 250_000]].concat());
                tx.signature.clear();
                BASE64.encode(tx.to_bytes())
            });
            let params = json!({ "txs": txs.collect::<Vec<_>>(), "waitMs": 8_000 });
            let address = node.address;
            std::thread::spawn(move || support::call(address, "sessionvm.Submit", &params).unwrap())
        })
        .collect();
    let (mut busy, mut pending) = (0, 0);
    for call in calls {
        for result in call.join().unwrap()["results"].as_array().unwrap() {
            match result["code"].as_i64() {
                Some(found) => {
                    assert_eq!(found, i64::from(BUSY), "{result}");
                    assert!(result["data"]["retryMs"].as_u64().is_some(), "{result}");
                    busy += 1;
                }
                None => pending += 1,
            }
        }
    }
    store.set_commit_delay(Duration::ZERO);
    assert!(busy > 0 && pending > 0, "busy {busy}, pending {pending}");
    let metrics = || {
        node.node
            .metrics()
            .accepted
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    until("the pool drains", || {
        let before = metrics();
        std::thread::sleep(Duration::from_millis(700));
        (metrics() == before).then_some(())
    });
    let mut last = message(&session, &a, b"the last");
    last.signature.clear();
    node.submit(&last).unwrap();
}

#[test]
fn readers_of_many_heads_at_once_are_all_answered() {
    let node = TestNode::start();
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    let address = node.address;
    let readers: Vec<_> = (0..6)
        .map(|_| {
            let session = session.clone();
            std::thread::spawn(move || {
                for _ in 0..40 {
                    let params = json!({ "sessionId": session, "proof": true, "limit": 5 });
                    support::call(address, "sessionvm.GetMessages", &params).unwrap();
                }
            })
        })
        .collect();
    let mut number = 0u32;
    while readers.iter().any(|reader| !reader.is_finished()) {
        node.submit(&message(&session, &a, &number.to_be_bytes()))
            .unwrap();
        number += 1;
    }
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn half_a_request_is_an_end_not_an_error_of_others() {
    let node = TestNode::start();
    let mut stream = connect(node.address);
    stream.write_all(b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\nContent-Type: application/json\r\n\r\n{").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let _nothing_or_an_error = read_reply(&mut stream);
    assert!(node.call("sessionvm.Health", &json!({})).is_ok());
}

#[test]
fn the_long_polls_of_a_batch_do_not_add_up() {
    let node = TestNode::start();
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    let params = json!({ "sessionId": session, "waitMs": 25_000 });
    let poll = |id: u32| json!({ "jsonrpc": "2.0", "id": id, "method": "sessionvm.GetMessages", "params": params });
    let health = json!({ "jsonrpc": "2.0", "id": 4, "method": "sessionvm.Health" });
    let batch = json!([poll(1), poll(2), poll(3), health]);
    let began = std::time::Instant::now();
    let replies = post(&node, batch.to_string().as_bytes()).json();
    assert!(
        began.elapsed() < Duration::from_secs(28),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(replies.as_array().unwrap().len(), 4, "{replies}");
    // What needs no waiting is answered all the same.
    assert_eq!(replies[3]["result"]["healthy"], true);
    assert_eq!(replies[2]["error"]["code"], session_vm::rpc::error::PENDING);
}

#[test]
fn a_reader_that_never_reads_loses_its_connection() {
    let node = TestNode::start();
    let (a, b) = (node.person(), node.person());
    let session = node.open_session(&a, &b);
    for n in 0..12u8 {
        node.submit(&message(&session, &a, &vec![n; 256 * 1024]))
            .unwrap();
    }
    let connections = || {
        node.node
            .metrics()
            .connections
            .load(std::sync::atomic::Ordering::Relaxed)
    };
    until("the callers before are gone", || {
        (connections() == 0).then_some(())
    });
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "sessionvm.GetMessages", "params": { "sessionId": session } });
    let body = body.to_string();
    let request = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    // Six megabytes each, more than two sockets buffer.
    let mut silent = connect(node.address);
    silent.write_all(request.repeat(8).as_bytes()).unwrap();
    until("it is served", || (connections() == 1).then_some(()));
    until("its connection ends", || (connections() == 0).then_some(()));
    drop(silent);
}
