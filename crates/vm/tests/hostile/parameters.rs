//! Every parameter in a wrong form, in both dialects.

use crate::send;
use crate::support::{Person, TestNode, code, message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_core::codec::Encode;
use session_core::ids::SessionId;
use session_vm::rpc::error::{INVALID_PARAMS, SIGNATURE, UNAUTHORIZED, UNKNOWN_SESSION};

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
        ("GetProof", "chunkId", json!({})),
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
