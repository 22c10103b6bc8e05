//! Connections that ask for much, stop in the middle, or never read.

use crate::support::{TestNode, connect, message, read_reply, until};
use serde_json::json;
use std::io::Write;
use std::time::Duration;

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
                    crate::support::call(address, "sessionvm.GetMessages", &params).unwrap();
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
