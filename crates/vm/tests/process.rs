//! The real program: start, stop, refusals, and SIGKILL while clients write.

#![cfg(unix)]
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
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_core::codec::Decode;
use session_core::header::{Header, SignedHead};
use session_core::ids::BlockId;
use session_crypto::{Signature, SigningPublicKey};
use support::program::{Program, program, refusal};
use support::{Person, call, connect, read_reply, until};

/// A stop must be over by then.
const STOP: Duration = Duration::from_secs(5);

fn open_session(address: SocketAddr, a: &Person, b: &Person) -> String {
    let params = json!({
        "participants": [a.id(), b.id()], "publicKeys": [a.kem_hex(), b.kem_hex()],
    });
    let reply = call(address, "sessionvm.CreateSession", &params).unwrap();
    reply["sessionId"].as_str().unwrap().to_owned()
}

fn people(ready: &Value) -> (Person, Person) {
    let chain = ready["chain"].as_str().unwrap().parse().unwrap();
    (Person::new(chain), Person::new(chain))
}

#[test]
fn it_starts_says_so_and_stops_cleanly_on_either_signal_though_calls_wait() {
    for signal in ["-TERM", "-INT"] {
        let directory = tempfile::tempdir().unwrap();
        let mut node = Program::start(directory.path());
        assert_eq!(node.ready["height"], 0);
        let (a, b) = people(&node.ready);
        let session = open_session(node.address, &a, &b);
        // Long polls that nothing will answer, and connections that say nothing.
        let mut polls: Vec<_> = (0..8)
            .map(|_| {
                let body = json!({ "id": 1, "jsonrpc": "2.0", "method": "sessionvm.GetMessages",
                    "params": { "sessionId": session, "waitMs": 25_000 } })
                .to_string();
                let mut poll = connect(node.address);
                write!(
                    poll,
                    "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                    Content-Length: {}\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
                poll
            })
            .collect();
        let silent: Vec<_> = (0..8).map(|_| connect(node.address)).collect();
        let calls = || {
            let text = support::http(node.address, "GET", "/metrics", &[], None).text();
            text.lines()
                .find_map(|l| l.strip_prefix("sessionvm_rpc_calls_total ")?.parse().ok())
        };
        until("the polls arrive", || {
            calls().is_none_or(|n: u64| n >= 9).then_some(())
        });
        node.signal(signal);
        let status = node.wait(STOP);
        assert_eq!(status.code(), Some(0), "{signal}");
        drop((
            silent,
            polls
                .drain(..)
                .map(|mut poll| read_reply(&mut poll))
                .collect::<Vec<_>>(),
        ));
        let again = Program::start(directory.path());
        assert_eq!(again.ready["chain"], node.ready["chain"]);
        assert_eq!(again.ready["height"], 1);
    }
}

#[test]
fn a_second_node_on_one_directory_says_that_the_first_has_it() {
    let directory = tempfile::tempdir().unwrap();
    let _first = Program::start(directory.path());
    let said = refusal(program(directory.path(), &["--rpc", "127.0.0.1:0"]));
    assert!(
        said.contains("another process") || said.contains("in use") || said.contains("locked"),
        "{said}"
    );
}

#[test]
fn a_taken_address_and_one_that_others_reach_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = refusal(program(directory.path(), &["--rpc", &address]));
    assert!(said.contains(&address), "{said}");
    let said = refusal(program(directory.path(), &["--rpc", "0.0.0.0:0"]));
    assert!(said.contains("token"), "{said}");
    // With a token, an open chain is still refused to others.
    let mut open = program(directory.path(), &["--rpc", "0.0.0.0:0"]);
    open.env("SESSIONVM_TOKEN", "secret");
    let said = refusal(open);
    assert!(said.contains("--allow-open"), "{said}");
}

#[test]
fn another_genesis_and_another_admission_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Program::start(directory.path()));
    let genesis = directory.path().join("genesis.json");
    std::fs::write(&genesis, r#"{"config":{"admission":"open"},"nonce":"ab"}"#).unwrap();
    let path = genesis.to_str().unwrap();
    let said = refusal(program(
        directory.path(),
        &["--rpc", "127.0.0.1:0", "--genesis", path],
    ));
    assert!(
        said.contains("another") || said.contains("holds chain"),
        "{said}"
    );
    let said = refusal(program(
        directory.path(),
        &["--rpc", "127.0.0.1:0", "--admission", "signed"],
    ));
    assert!(
        said.contains("admission") && said.contains("cannot change"),
        "{said}"
    );
    // The same value is no other value.
    drop(Program::of(program(
        directory.path(),
        &["--rpc", "127.0.0.1:0", "--admission", "open"],
    )));
    let said = refusal(program(
        directory.path(),
        &["--rpc", "127.0.0.1:0", "--genesis", "/nowhere"],
    ));
    assert!(said.contains("/nowhere"), "{said}");
}

#[test]
fn flags_override_the_environment_which_overrides_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("node.json");
    // Taken addresses: the refusal tells which one was tried.
    let taken = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let [file, environment] = taken
        .each_ref()
        .map(|t| t.local_addr().unwrap().to_string());
    let text = json!({ "rpc": file, "token": "of-the-file" }).to_string();
    std::fs::write(&config, text).unwrap();
    let with_config = |args: &[&str]| {
        let mut command = program(&directory.path().join("data"), args);
        command.env("SESSIONVM_CONFIG", &config);
        command
    };
    let said = refusal(with_config(&[]));
    assert!(said.contains(&file), "{said}");
    let mut command = with_config(&[]);
    command.env("SESSIONVM_ADDR", &environment);
    let said = refusal(command);
    assert!(said.contains(&environment), "{said}");
    let mut command = with_config(&["--rpc", "127.0.0.1:0"]);
    command.env("SESSIONVM_ADDR", &environment);
    let node = Program::of(command);
    // The file's token counts until the environment has one.
    let health = |node: &Program, token: &str| {
        let bearer = format!("Bearer {token}");
        support::http(
            node.address,
            "GET",
            "/health",
            &[("Authorization", &bearer)],
            None,
        )
        .status
    };
    assert_eq!(
        (health(&node, "of-the-file"), health(&node, "")),
        (200, 401)
    );
    drop(node);
    let mut command = with_config(&["--rpc", "127.0.0.1:0"]);
    command.env("SESSIONVM_TOKEN", "of-the-environment");
    let node = Program::of(command);
    assert_eq!(
        (
            health(&node, "of-the-environment"),
            health(&node, "of-the-file")
        ),
        (200, 401)
    );
}

#[test]
fn it_tells_its_version_as_json_and_wrong_arguments_apart() {
    let run = |args: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_sessionvm"))
            .args(args)
            .output()
            .unwrap()
    };
    let version: Value = serde_json::from_slice(&run(&["--version-json"]).stdout).unwrap();
    assert_eq!(version["name"], "sessionvm");
    assert_eq!(version["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&["--rpc", "nowhere"]).status.code(), Some(2));
    let output = Command::new(env!("CARGO_BIN_EXE_sessionvm"))
        .env_remove("SESSIONVM_DATA_DIR")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--data-dir"));
}

#[test]
fn a_damaged_store_is_refused_with_its_file_and_never_served() {
    let directory = tempfile::tempdir().unwrap();
    {
        let mut node = Program::start(directory.path());
        let (a, b) = people(&node.ready);
        for _ in 0..5 {
            open_session(node.address, &a, &b);
        }
        node.signal("-TERM");
        node.wait(STOP);
    }
    let files = || {
        let mut found = Vec::new();
        let mut ahead = vec![directory.path().join("store")];
        while let Some(at) = ahead.pop() {
            for entry in std::fs::read_dir(at).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    ahead.push(path)
                } else {
                    found.push(path)
                }
            }
        }
        found
    };
    let whole: BTreeMap<_, _> = files()
        .into_iter()
        .map(|p| (p.clone(), std::fs::read(p).unwrap()))
        .collect();
    let (mut refused, mut served) = (0, 0);
    for (path, bytes) in whole.iter().filter(|(_, bytes)| bytes.len() > 64) {
        let mut flipped = bytes.clone();
        let middle = bytes.len() / 2;
        flipped[middle] ^= 0x55;
        for damaged in [flipped, bytes[..middle].to_vec()] {
            std::fs::write(path, &damaged).unwrap();
            let mut command = program(directory.path(), &["--rpc", "127.0.0.1:0"]);
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap())
                .read_line(&mut line)
                .unwrap();
            if line.is_empty() {
                let mut said = String::new();
                child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut said)
                    .unwrap();
                assert_eq!(child.wait().unwrap().code(), Some(1), "{path:?}: {said}");
                assert!(
                    said.contains("sessionvm: ") && !said.contains("panicked"),
                    "{said}"
                );
                refused += 1;
            } else {
                // Padding, or what the store keeps twice: then nothing at all may be missing.
                let ready: Value = serde_json::from_str(&line).unwrap();
                child.kill().unwrap();
                child.wait().unwrap();
                assert_eq!(ready["height"], 5, "{path:?}");
                served += 1;
            }
            // Opening may have written: everything is put back.
            for path in files() {
                std::fs::remove_file(path).unwrap();
            }
            for (path, bytes) in &whole {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, bytes).unwrap();
            }
        }
    }
    assert!(refused > 0, "{served} damages and no refusal");
}

/// What clients were told, and what they saw of heads.
#[derive(Default)]
struct Told {
    /// Message id by session and sequence.
    messages: BTreeMap<(String, u64), String>,
    heads: BTreeMap<u64, BlockId>,
    height: u64,
}

fn check_head(address: SocketAddr, told: &Mutex<Told>) -> Option<()> {
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "sessionvm.GetHead" }).to_string();
    let reply = try_post(address, &body)?;
    let head = &reply["result"];
    assert!(head.is_object(), "{reply}");
    let text = |name: &str| head[name].as_str().unwrap();
    let header = Header::from_bytes(&const_hex::decode(text("header")).unwrap()).unwrap();
    let signed = SignedHead::from_bytes(&BASE64.decode(text("signedHead")).unwrap()).unwrap();
    assert_eq!((signed.height, signed.block), (header.height, header.id()));
    let key = const_hex::decode(text("headKey")).unwrap();
    let key = SigningPublicKey::try_from(key.as_slice()).unwrap();
    let payload = SignedHead::payload(
        &signed.chain,
        signed.height,
        &signed.block,
        signed.signed_at,
    );
    key.verify(
        &payload,
        &Signature::try_from(signed.signature.as_slice()).unwrap(),
    )
    .unwrap();
    let mut told = told.lock().unwrap();
    let known = *told.heads.entry(signed.height).or_insert(signed.block);
    assert_eq!(
        known, signed.block,
        "two blocks signed at height {}",
        signed.height
    );
    told.height = told.height.max(signed.height);
    Some(())
}

/// A call that a dying node may leave unanswered.
fn try_post(address: SocketAddr, body: &str) -> Option<Value> {
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .ok()?;
    let request = format!(
        "POST /rpc HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).ok()?;
    serde_json::from_slice(&read_reply(&mut stream)?.body).ok()
}

#[test]
fn whatever_was_acknowledged_survives_every_kill_and_no_height_is_signed_twice() {
    let rounds: u64 = std::env::var("SESSION_KILL_ROUNDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(8);
    let directory = tempfile::tempdir().unwrap();
    let told = Arc::new(Mutex::new(Told::default()));
    let mut person: Option<(Person, Person)> = None;
    for round in 0..rounds {
        let mut node = Program::start(directory.path());
        let address = node.address;
        let (a, b) = person.get_or_insert_with(|| people(&node.ready));
        let height = node.ready["height"].as_u64().unwrap();
        assert!(
            height >= told.lock().unwrap().height,
            "heights went back in round {round}"
        );
        check_head(address, &told).unwrap();
        check_messages(address, &told.lock().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for thread in 0..4u64 {
            let (told, stop, sender) = (told.clone(), stop.clone(), a.id());
            let session = open_session(address, a, b);
            threads.push(std::thread::spawn(move || {
                for number in 0u64.. {
                    let text = const_hex::encode(format!("round {round} thread {thread} number {number}"));
                    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "sessionvm.SendMessage", "params": {
                        "sessionId": session, "sender": sender, "ciphertext": text, "signature": "" } });
                    if stop.load(Ordering::SeqCst) { return }
                    let Some(reply) = try_post(address, &body.to_string()) else { return };
                    let result = &reply["result"];
                    let Some(sequence) = result["sequence"].as_u64() else { panic!("{reply}") };
                    let id = result["messageId"].as_str().unwrap().to_owned();
                    let before = told.lock().unwrap().messages.insert((session.clone(), sequence), id);
                    assert_eq!(before, None, "a sequence number was given twice");
                }
            }));
        }
        let (heads, stopped) = (told.clone(), stop.clone());
        threads.push(std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) && check_head(address, &heads).is_some() {}
        }));
        let before = told.lock().unwrap().messages.len();
        // A different moment each round, so that every stage of a commit gets its turn.
        let wanted = before + 5 + usize::try_from(round * 7 % 40).unwrap();
        until("messages are acknowledged", || {
            (told.lock().unwrap().messages.len() >= wanted).then_some(())
        });
        node.kill();
        stop.store(true, Ordering::SeqCst);
        for thread in threads {
            thread.join().unwrap();
        }
    }
    let node = Program::start(directory.path());
    assert!(node.ready["height"].as_u64().unwrap() >= told.lock().unwrap().height);
    check_head(node.address, &told).unwrap();
    check_messages(node.address, &told.lock().unwrap());
    let told = told.lock().unwrap();
    println!(
        "{} messages, {} heads, {rounds} kills",
        told.messages.len(),
        told.heads.len()
    );
}

fn check_messages(address: SocketAddr, told: &Told) {
    let mut sessions: BTreeMap<&str, Vec<(u64, &str)>> = BTreeMap::new();
    for ((session, sequence), id) in &told.messages {
        sessions.entry(session).or_default().push((*sequence, id));
    }
    for (session, expected) in sessions {
        let mut found = BTreeMap::new();
        let mut from = 0;
        loop {
            let params = json!({ "sessionId": session, "from": from, "limit": 1_000 });
            let reply = call(address, "sessionvm.GetMessages", &params).unwrap();
            for message in reply["messages"].as_array().unwrap() {
                found.insert(
                    message["sequence"].as_u64().unwrap(),
                    message["id"].as_str().unwrap().to_owned(),
                );
            }
            let next = reply["next"].as_u64().unwrap();
            if next == from {
                break;
            }
            from = next;
        }
        for (sequence, id) in expected {
            assert_eq!(
                found.get(&sequence).map(String::as_str),
                Some(id),
                "{session} {sequence}"
            );
        }
    }
}

#[test]
fn six_hundred_slow_connections_keep_nobody_waiting_and_are_ended() {
    let directory = tempfile::tempdir().unwrap();
    let node = Program::start(directory.path());
    let head = "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    let mut slow: Vec<_> = (0..600).map(|_| connect(node.address)).collect();
    // A third says nothing, a third dribbles its head, a third never ends its body.
    for (at, stream) in slow.iter_mut().enumerate().filter(|(at, _)| at % 3 == 2) {
        stream
            .write_all(head.as_bytes())
            .unwrap_or_else(|error| panic!("{at}: {error}"));
    }
    for byte in head.as_bytes().iter().take(30) {
        for (_, stream) in slow.iter_mut().enumerate().filter(|(at, _)| at % 3 == 1) {
            stream.write_all(&[*byte]).unwrap();
        }
        let began = Instant::now();
        call(node.address, "sessionvm.Health", &json!({})).unwrap();
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }
    // Heads have ten seconds, however slowly they come.
    let began = Instant::now();
    for (_, stream) in slow.iter_mut().enumerate().filter(|(at, _)| at % 3 != 2) {
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        let mut rest = Vec::new();
        // Closed or reset, perhaps after saying that the request timed out.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
        }
    }
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    let open = support::http(node.address, "GET", "/metrics", &[], None).text();
    let open = open
        .lines()
        .find(|l| l.contains("connections ") && !l.starts_with('#'));
    let open: u64 = open.unwrap().rsplit(' ').next().unwrap().parse().unwrap();
    assert!(open <= 202, "{open} connections are still open");
}
