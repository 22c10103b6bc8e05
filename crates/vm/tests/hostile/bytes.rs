//! What is no request, too much of one, or from the wrong place.

use crate::support::{TestNode, connect, http};
use crate::{JSON, post};
use serde_json::json;
use session_core::ids::SessionId;
use session_fuzz::Mutator;
use session_storage::MemoryStore;
use session_vm::node::NodeOptions;
use session_vm::rpc::ServerOptions;
use session_vm::rpc::error::{INTERNAL, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE};
use session_vm::rpc::openrpc::METHODS;
use std::io::Write;
use std::sync::Arc;

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

/// A value that fits a parameter's kind.
fn sample(kind: &str) -> serde_json::Value {
    match kind {
        "cb58" => json!(SessionId::from_bytes([9; 32])),
        "hex" => json!("c0ffee"),
        "integer" => json!(1),
        "boolean" => json!(true),
        "array" => json!(["c0ffee"]),
        _ => json!("memberships"),
    }
}

/// Requests of every method, in both dialects, alone and as a batch.
fn requests() -> Vec<Vec<u8>> {
    let mut out = Vec::new();
    for method in METHODS {
        // A wait that a mutant makes longer is a wait, not a fault.
        let params = method.params.iter().filter(|p| p.name != "waitMs");
        let params = params.map(|p| (p.name.to_owned(), sample(p.kind)));
        let params = serde_json::Value::Object(params.collect());
        let new = json!({ "jsonrpc": "2.0", "id": 1, "method": method.name, "params": params });
        let old = json!({ "id": "a", "method": method.name, "params": [params] });
        out.extend([
            new.to_string(),
            old.to_string(),
            json!([new, new]).to_string(),
        ]);
    }
    out.into_iter().map(String::into_bytes).collect()
}

#[test]
fn requests_that_are_bent_at_random_are_answered_and_the_node_goes_on() {
    const CASES: usize = 2_000;
    let node = TestNode::start();
    let seeds = requests();
    for seed in &seeds {
        let reply = post(&node, seed);
        assert!(matches!(reply.status, 200 | 400), "{}", reply.status);
    }
    let seed = 20_261_126;
    println!("seed {seed}");
    let mut mutator = Mutator::new(seed);
    for case in 0..CASES {
        let mutant = mutator.mutant(&seeds);
        let reply = post(&node, &mutant);
        let told = || {
            let (sent, got) = (String::from_utf8_lossy(&mutant), &reply.body);
            format!("case {case}: {sent}\n{}", String::from_utf8_lossy(got))
        };
        assert!(matches!(reply.status, 200 | 204 | 400), "{}", told());
        let is_json = reply
            .header("content-type")
            .is_some_and(|t| t.contains("json"));
        if is_json && !reply.body.is_empty() {
            let answer: Result<serde_json::Value, _> = serde_json::from_slice(&reply.body);
            assert!(answer.is_ok(), "{}", told());
        }
        let internal = INTERNAL.to_string().into_bytes();
        let failed = reply.body.windows(internal.len()).any(|w| w == internal);
        assert!(!failed, "{}", told());
    }
    assert_eq!(http(node.address, "GET", "/health", &[], None).status, 200);
}
