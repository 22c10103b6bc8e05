//! One home, and what may happen around it: other commands at once, a node that is killed, TLS.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use session_client::{Claimed, StateDir};
use support::{RunningNode, json, on, session};

/// Long enough for a machine that is busy with everything else.
const PATIENCE: Duration = Duration::from_secs(60);

/// Alice and Bob, known to the node, with a session of theirs.
fn two_people(node: &RunningNode, home: &Path) -> (PathBuf, PathBuf) {
    let (alice, bob) = (home.join("alice"), home.join("bob"));
    for path in [&alice, &bob] {
        let made = on(&node.rpc, path, &["identity", "new", "--plain"], "");
        assert_eq!(made.0, Some(0), "{made:?}");
    }
    let id = on(&node.rpc, &bob, &["identity", "show"], "").1["id"].clone();
    assert_eq!(on(&node.rpc, &bob, &["inbox"], "").0, Some(0));
    for args in [
        &["contact", "add", "bob", id.as_str().unwrap()][..],
        &["open", "bob"],
    ] {
        let done = on(&node.rpc, &alice, args, "");
        assert_eq!(done.0, Some(0), "{done:?}");
    }
    (alice, bob)
}

#[test]
fn commands_at_once_on_one_home_wait_for_each_other_and_lose_nothing() {
    let home = tempfile::tempdir().unwrap();
    let node = RunningNode::start(home.path());
    let (alice, bob) = two_people(&node, home.path());
    let (rpc, alice) = (&node.rpc, &alice);
    let texts: Vec<String> = (0..6).map(|n| format!("at once {n}")).collect();
    std::thread::scope(|scope| {
        for text in &texts {
            scope.spawn(move || {
                let sent = on(rpc, alice, &["send", "bob", text], "");
                assert_eq!(sent.0, Some(0), "{sent:?}");
            });
        }
    });
    let read = on(rpc, &bob, &["inbox"], "").1;
    let mut got: Vec<_> = read.as_array().unwrap().iter().collect();
    assert!(got.iter().all(|m| m["kind"] == "text"), "{read}");
    got.sort_by_key(|message| message["content"].as_str().unwrap().to_owned());
    let got: Vec<_> = got.iter().map(|message| &message["content"]).collect();
    assert_eq!(got, texts.iter().collect::<Vec<_>>());
}

#[test]
fn a_home_that_another_program_keeps_is_refused_with_its_number() {
    let home = tempfile::tempdir().unwrap();
    let node = RunningNode::start(home.path());
    let (alice, _) = two_people(&node, home.path());
    let Claimed::Ours(_claim) = StateDir::open(&alice).unwrap().claim().unwrap() else {
        panic!("nobody else is here");
    };
    let (code, told) = on(&node.rpc, &alice, &["send", "bob", "now"], "");
    assert_eq!(code, Some(1));
    let told = told["error"].as_str().unwrap();
    let process = format!("(process {})", std::process::id());
    assert!(told.contains("in use") && told.contains(&process), "{told}");
    // Whoever only looks needs no claim.
    assert_eq!(on(&node.rpc, &alice, &["identity", "show"], "").0, Some(0));
    assert_eq!(on(&node.rpc, &alice, &["history", "export"], "").0, Some(0));
}

#[test]
fn a_reader_that_follows_leaves_room_for_others_and_outlives_the_node() {
    let home = tempfile::tempdir().unwrap();
    let mut node = RunningNode::start(home.path());
    let (alice, bob) = two_people(&node, home.path());
    let mut follow = Command::new(env!("CARGO_BIN_EXE_session"))
        .args(["--node", &node.rpc, "inbox", "--follow"])
        .env("SESSION_HOME", &bob)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (tell, told) = mpsc::channel();
    let readers: [Box<dyn std::io::Read + Send>; 2] = [
        Box::new(follow.stdout.take().unwrap()),
        Box::new(follow.stderr.take().unwrap()),
    ];
    for reader in readers {
        let tell = tell.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                let _gone = tell.send(line);
            }
        });
    }
    let expect = |word: &str| {
        let line = told.recv_timeout(PATIENCE).unwrap();
        assert!(line.contains(word), "{line}");
    };
    let run = |home: &Path, rpc: &str, args: &[&str]| {
        let done = on(rpc, home, args, "");
        assert_eq!(done.0, Some(0), "{done:?}");
        done.1
    };
    run(&alice, &node.rpc, &["send", "bob", "first"]);
    expect("first");
    let sessions = run(&bob, &node.rpc, &["sessions"]);
    let session = sessions[0]["sessionId"].as_str().unwrap();
    run(&bob, &node.rpc, &["send", session, "an answer meanwhile"]);
    let read = run(&alice, &node.rpc, &["inbox"]);
    assert_eq!(read[1]["content"], "an answer meanwhile", "{read}");
    node.kill();
    expect("does not answer");
    let address = node.rpc.strip_prefix("http://").unwrap().to_owned();
    let node = RunningNode::start_with(home.path(), &address, &[]);
    run(&alice, &node.rpc, &["send", "bob", "second"]);
    // The message may lie there already when the node is found again: then it is shown first.
    let lines = [(); 2].map(|()| told.recv_timeout(PATIENCE).unwrap());
    for word in ["answers again", "second"] {
        let said = lines.iter().any(|line| line.contains(word));
        assert!(said, "{lines:?}");
    }
    follow.kill().unwrap();
    follow.wait().unwrap();
}

/// A certificate as most tools make it: self-signed, and an authority by its own account.
fn certificate(home: &Path) -> (PathBuf, PathBuf) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let made = params.self_signed(&key).unwrap();
    let paths = (home.join("node.pem"), home.join("key.pem"));
    std::fs::write(&paths.0, made.pem()).unwrap();
    std::fs::write(&paths.1, key.serialize_pem()).unwrap();
    paths
}

#[test]
fn a_self_signed_node_is_spoken_to_by_its_certificate_and_backed_up() {
    let home = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(home.path());
    let (cert, key) = (cert.to_str().unwrap(), key.to_str().unwrap());
    let options = ["--tls-cert", cert, "--tls-key", key];
    let node = RunningNode::start_with(home.path(), "127.0.0.1:0", &options);
    let port = node.rpc.rsplit(':').next().unwrap();
    let alice = home.path().join("alice");
    let made = on(&node.rpc, &alice, &["identity", "new", "--plain"], "");
    assert_eq!(made.0, Some(0), "{made:?}");
    let named = format!("https://localhost:{port}");
    for args in [&["inbox"][..], &["node", "status"]] {
        let args = [&["--ca", cert], args].concat();
        let done = on(&named, &alice, &args, "");
        assert_eq!(done.0, Some(0), "{done:?}");
    }
    // Another name, and nobody to vouch for it, are refused; the second with the way out.
    let address = format!("https://127.0.0.1:{port}");
    let other = on(&address, &alice, &["--ca", cert, "inbox"], "");
    assert_eq!(other.0, Some(1), "{other:?}");
    let (code, told) = on(&named, &alice, &["inbox"], "");
    assert_eq!(code, Some(1));
    assert!(told["hint"].as_str().unwrap().contains("--ca"), "{told}");

    let data = home.path().join("node");
    let file = home.path().join("node.backup");
    let backup = |data: &Path| {
        let (data, file) = (data.to_str().unwrap(), file.to_str().unwrap());
        session(
            &alice,
            &["--json", "node", "backup", "--data-dir", data, file],
        )
    };
    let done = json(&backup(&data));
    assert_eq!(done["ok"], true, "{done}");
    assert!(done["entries"].as_u64().unwrap() > 0, "{done}");
    // The backup of nothing would look like one.
    let output = backup(&home.path().join("node, misspelt"));
    assert_eq!(output.status.code(), Some(2), "{}", json(&output));
    assert!(!home.path().join("node, misspelt").exists());
}
