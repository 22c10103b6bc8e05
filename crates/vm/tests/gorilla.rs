//! The published node's transcript, replayed in order over a real socket.
//!
//! Status, content type, shape and the error texts that clients match on are equal. What differs
//! on purpose stands in [`DIFFERENCES`], and the same table is in `docs/rpc-differences.md`.

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

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use support::{TestNode, http};

#[derive(Deserialize)]
struct Transcript {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    case: String,
    request: Request,
    response: Response,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    path: String,
    content_type: Option<String>,
    body: Option<String>,
}

#[derive(Deserialize)]
struct Response {
    status: u16,
    content_type: Option<String>,
    body: String,
}

/// Case of the transcript, the published answer, ours, and why.
const DIFFERENCES: &[[&str; 4]] = &[
    [
        "send closed",
        "400 session closed",
        "200 messageId, sequence",
        "The same message was accepted before the close: a retry gets its first answer, so that no client counts a delivered message as lost. A new message gets `session closed`.",
    ],
    [
        "create one participant",
        "200 expires, sessionId",
        "400 2 to 100 participants, got 1",
        "A conversation needs somebody to talk to, and rosters are bounded.",
    ],
    [
        "create none",
        "200 expires, sessionId",
        "400 2 to 100 participants, got 0",
        "As above.",
    ],
    [
        "create counts differ",
        "200 expires, sessionId",
        "400 one key for each of 2 participants, got 1",
        "Each key belongs to the participant at its place.",
    ],
    [
        "create short key",
        "200 expires, sessionId",
        "400 a key has 1184 bytes, got 2",
        "Nobody can encrypt to what is no ML-KEM-768 key.",
    ],
    [
        "create duplicate participant",
        "200 expires, sessionId",
        "400 a participant is named twice",
        "A roster is a set.",
    ],
    [
        "jsonrpc 2.0, array params",
        "200 channels, healthy, pending, sessions",
        "200 JSON-RPC 2.0: channels, healthy, pending, sessions",
        "A request that says it is JSON-RPC 2.0 gets a 2.0 reply: `jsonrpc`, and either `result` or `error`.",
    ],
    [
        "jsonrpc 2.0, object params",
        "400 json: cannot unmarshal object into Go value of type [1]interface {}",
        "200 JSON-RPC 2.0: channels, healthy, pending, sessions",
        "JSON-RPC 2.0 has params by name.",
    ],
    [
        "GET /health",
        "200 {\"status\":\"ok\",\"data\":map[channels:0 healthy:true sessions:6]}",
        "200 {\"status\":\"ok\",\"data\":{\"channels\":0,\"healthy\":true,\"sessions\":1}}",
        "The published body is no JSON. Five creates above were refused here, hence the count.",
    ],
];

/// Texts that Go's JSON parser makes: clients do not match on them, and ours may differ.
fn is_parser_message(text: &str) -> bool {
    text.starts_with("json: ") || text.starts_with("invalid character")
}

/// `status text` as the table has it: the error, or a short form of what came.
fn summary(status: u16, body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let error = parsed.as_ref().and_then(|body| body.get("error"));
    let text = match (error, &parsed) {
        (Some(Value::String(error)), _) => error.clone(),
        (Some(Value::Null) | None, Some(body)) if body.get("result").is_some() => {
            let keys = body["result"]
                .as_object()
                .map(|map| map.keys().cloned().collect::<Vec<_>>());
            let two = if body.get("jsonrpc").is_some() {
                "JSON-RPC 2.0: "
            } else {
                ""
            };
            format!("{two}{}", keys.unwrap_or_default().join(", "))
        }
        _ => body.trim().to_owned(),
    };
    format!("{status} {text}")
}

/// Same keys and same JSON types; inside `session` we may have more.
fn same_shape(place: &str, published: &Value, ours: &Value) -> Result<(), String> {
    match (published, ours) {
        (Value::Object(published), Value::Object(ours)) => {
            for (key, value) in published {
                let ours = ours.get(key).ok_or(format!("{place}.{key} is missing"))?;
                same_shape(&format!("{place}.{key}"), value, ours)?;
            }
            let more = ours.keys().find(|key| !published.contains_key(*key));
            match more {
                Some(key) if !place.ends_with(".session") => Err(format!("{place}.{key} is new")),
                _ => Ok(()),
            }
        }
        (Value::Array(published), Value::Array(ours)) => {
            if published.len() != ours.len() {
                return Err(format!(
                    "{place} has {} entries, not {}",
                    ours.len(),
                    published.len()
                ));
            }
            let mut pairs = published.iter().zip(ours);
            pairs.try_for_each(|(p, o)| same_shape(place, p, o))
        }
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_))
        | (Value::Null, Value::Null) => Ok(()),
        _ => Err(format!("{place}: {published} became {ours}")),
    }
}

fn compare(case: &Case, reply: &support::Reply) -> Result<(), String> {
    let expected = &case.response;
    if reply.status != expected.status {
        return Err(format!(
            "status {} instead of {}",
            reply.status, expected.status
        ));
    }
    let kind = reply.header("content-type");
    if kind != expected.content_type.as_deref() {
        return Err(format!(
            "content type {kind:?} instead of {:?}",
            expected.content_type
        ));
    }
    let ours = reply.text();
    let (Ok(published), Ok(found)) = (
        serde_json::from_str::<Value>(&expected.body),
        serde_json::from_str::<Value>(&ours),
    ) else {
        // Plain text and empty bodies are equal to the byte.
        let equal = expected.body == ours;
        return equal
            .then_some(())
            .ok_or(format!("body {ours:?} instead of {:?}", expected.body));
    };
    same_shape("reply", &published, &found)?;
    if published["id"] != found["id"] {
        return Err(format!("id {} instead of {}", found["id"], published["id"]));
    }
    if let (Some(p), Some(o)) = (published["error"].as_str(), found["error"].as_str())
        && p != o
        && !is_parser_message(p)
    {
        return Err(format!("error {o:?} instead of {p:?}"));
    }
    let sequence = |body: &Value| body.pointer("/result/sequence").cloned();
    if sequence(&published) != sequence(&found) {
        return Err(format!("sequence {:?}", sequence(&found)));
    }
    for same in [
        "status",
        "participants",
        "publicKeys",
        "channelId",
        "metadata",
    ] {
        let at = |body: &Value| body.pointer(&format!("/result/session/{same}")).cloned();
        if at(&published) != at(&found) {
            return Err(format!(
                "{same}: {:?} instead of {:?}",
                at(&found),
                at(&published)
            ));
        }
    }
    Ok(())
}

fn table_in_the_document() -> Vec<[String; 4]> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/rpc-differences.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        let cells: Vec<String> = row
            .trim_matches('|')
            .split(" | ")
            .enumerate()
            .map(|(at, cell)| {
                if at < 3 {
                    cell.trim().trim_matches('`')
                } else {
                    cell.trim()
                }
                .to_owned()
            })
            .collect();
        cells
            .try_into()
            .unwrap_or_else(|_| panic!("four cells: {row}"))
    })
    .collect()
}

#[test]
fn the_published_transcript_is_answered_alike_but_for_the_documented_differences() {
    let bytes = include_bytes!("data/gorilla-transcript.json");
    let transcript: Transcript = serde_json::from_slice(bytes).unwrap();
    let node = TestNode::start();
    let mut ids: BTreeMap<String, String> = BTreeMap::new();
    let mut problems = Vec::new();
    let mut differed = Vec::new();
    for case in &transcript.cases {
        let mut body = case.request.body.clone();
        for (published, ours) in &ids {
            body = body.map(|body| body.replace(published, ours));
        }
        let headers: Vec<(&str, &str)> = case
            .request
            .content_type
            .as_deref()
            .map(|kind| ("Content-Type", kind))
            .into_iter()
            .collect();
        let body = body.as_deref().map(str::as_bytes);
        let reply = http(
            node.address,
            &case.request.method,
            &case.request.path,
            &headers,
            body,
        );
        let id = |body: &str| -> Option<String> {
            let body: Value = serde_json::from_str(body).ok()?;
            Some(body.pointer("/result/sessionId")?.as_str()?.to_owned())
        };
        if let (Some(published), Some(ours)) = (id(&case.response.body), id(&reply.text())) {
            ids.insert(published, ours);
        }
        let difference = DIFFERENCES.iter().find(|row| row[0] == case.case);
        match (compare(case, &reply), difference) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => problems.push(format!("{}: listed, but equal", case.case)),
            (Err(problem), None) => problems.push(format!(
                "{}: {problem}\n    published {}\n    ours      {}",
                case.case,
                summary(case.response.status, &case.response.body),
                summary(reply.status, &reply.text()),
            )),
            (Err(_), Some([_, published, ours, _])) => {
                differed.push(case.case.as_str());
                let was = [
                    summary(case.response.status, &case.response.body),
                    summary(reply.status, &reply.text()),
                ];
                if [published.to_string(), ours.to_string()] != was {
                    problems.push(format!(
                        "{}: the table says otherwise than {was:#?}",
                        case.case
                    ));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert_eq!(
        differed,
        DIFFERENCES.iter().map(|row| row[0]).collect::<Vec<_>>()
    );
}

#[test]
fn the_document_and_this_test_have_one_table() {
    let ours: Vec<[String; 4]> = DIFFERENCES
        .iter()
        .map(|row| row.map(str::to_owned))
        .collect();
    assert_eq!(table_in_the_document(), ours);
}
