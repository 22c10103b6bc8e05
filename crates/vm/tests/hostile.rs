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
use session_core::codec::Encode;
use session_core::ids::SessionId;
use session_storage::MemoryStore;
use session_vm::node::NodeOptions;
use session_vm::rpc::ServerOptions;
use session_vm::rpc::error::{
    INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE, SIGNATURE, UNAUTHORIZED,
    UNKNOWN_SESSION,
};
use support::{Person, TestNode, code, connect, http, message, read_reply, until};

const JSON: (&str, &str) = ("Content-Type", "application/json");

fn post(node: &TestNode, body: &[u8]) -> support::Reply {
    http(node.address, "POST", "/rpc", &[JSON], Some(body))
}

fn send(session: &str, sender: &Person, ciphertext: &str, signature: &str) -> Value {
    json!({ "sessionId": session, "sender": sender.id(), "ciphertext": ciphertext, "signature": signature })
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

// ---- many at once

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
    let params = json!({ "sessionId": session, "waitMs": 10_000 });
    let poll = |id: usize| json!({ "jsonrpc": "2.0", "id": id, "method": "sessionvm.GetMessages", "params": params });
    let health = json!({ "jsonrpc": "2.0", "id": 12, "method": "sessionvm.Health" });
    let batch = json!((0..12).map(poll).chain([health]).collect::<Vec<_>>()).to_string();
    // One after the other they would wait for two minutes; together they may wait for 25 s.
    let half = Duration::from_mins(1);
    let mut stream = connect(node.address);
    stream.set_read_timeout(Some(half)).unwrap();
    write!(
        stream,
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{batch}",
        batch.len()
    )
    .unwrap();
    let began = std::time::Instant::now();
    let replies = read_reply(&mut stream).unwrap().json();
    assert!(began.elapsed() < half, "{:?}", began.elapsed());
    assert_eq!(replies.as_array().unwrap().len(), 13, "{replies}");
    // What needs no waiting is answered all the same.
    assert_eq!(replies[12]["result"]["healthy"], true);
    assert_eq!(
        replies[11]["error"]["code"],
        session_vm::rpc::error::PENDING
    );
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
