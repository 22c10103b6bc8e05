//! The command itself, as a person types it: what it prints and how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::Value;
use session_vm::node::{Node, NodeOptions};
use session_vm::rpc::{Context, Server, ServerOptions};
use support::{RunningNode, json, on, session};

#[test]
fn the_demo_of_a_group_goes_through_a_crash_and_a_removal() {
    let home = tempfile::tempdir().unwrap();
    let output = session(home.path(), &["--json", "demo", "--group", "4"]);
    let result = json(&output);
    assert!(output.status.success(), "{result}");
    assert_eq!(result["ok"], true);
    assert_eq!(result["messages"], 4 + 4 + 2 + 1);
    let steps = result["steps"].as_array().unwrap().iter();
    let names: Vec<_> = steps.map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "node", "people", "group", "messages", "crash", "messages", "theft", "removal"
        ]
    );
    assert_eq!(result["steps"][7]["facts"]["members"], 3);
    for wrong in [
        &["--group", "2"][..],
        &["--group", "4", "--network", "devnet"],
    ] {
        let output = session(home.path(), &[&["demo"][..], wrong].concat());
        assert_eq!(output.status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn the_demo_does_everything_and_its_proof_files_hold_until_a_bit_changes() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("photo.jpg");
    std::fs::write(&file, vec![0xa5; 700_000]).unwrap();
    let data = home.path().join("data");
    let (file, data) = (file.to_str().unwrap(), data.to_str().unwrap());
    let output = session(
        home.path(),
        &["--json", "demo", "--file", file, "--data-dir", data],
    );
    let result = json(&output);
    assert!(output.status.success(), "{result}");
    assert_eq!(result["ok"], true);
    assert_eq!(result["messages"], 6 + 1 + 4);
    let steps: Vec<_> = result["steps"].as_array().unwrap().iter().collect();
    let names: Vec<_> = steps
        .iter()
        .map(|step| step["step"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "node",
            "identities",
            "registered",
            "session",
            "messages",
            "file",
            "read",
            "receipt",
            "proof",
            "proof",
            "crash",
            "read again"
        ]
    );

    let proof = Path::new(data).join("mailbox.proof");
    let path = proof.to_str().unwrap();
    let verified = session(home.path(), &["--json", "verify", path]);
    assert!(verified.status.success());
    assert_eq!(json(&verified)["log"]["count"], 11);

    // One character of the proof, and one of the key that is said to have signed it.
    let whole: Value = serde_json::from_slice(&std::fs::read(&proof).unwrap()).unwrap();
    for field in ["proof", "headKey"] {
        let mut bent = whole.clone();
        let mut text = bent[field].as_str().unwrap().as_bytes().to_vec();
        let middle = text.len() / 2;
        text[middle] = if text[middle] == b'0' { b'1' } else { b'0' };
        bent[field] = String::from_utf8(text).unwrap().into();
        std::fs::write(&proof, bent.to_string()).unwrap();
        let refused = session(home.path(), &["--json", "verify", path]);
        assert_eq!(refused.status.code(), Some(4), "{field}");
        assert_eq!(json(&refused)["ok"], false);
    }
}

#[test]
fn errors_name_the_cause_and_the_way_out_and_end_with_their_code() {
    let home = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = session(home.path(), args);
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    assert_eq!(run(&["nonsense"]).0, 2);
    let (code, text) = run(&["identity", "show"]);
    assert_eq!(code, 1);
    assert!(text.contains("session identity new"), "{text}");
    assert!(session(home.path(), &["identity", "new"]).status.success());
    let (code, text) = run(&["identity", "new"]);
    assert_eq!(code, 1);
    assert!(text.contains("there is an identity"), "{text}");
    let (code, text) = run(&["--node", "http://127.0.0.1:1", "inbox"]);
    assert_eq!(code, 1);
    assert!(text.contains("session node run"), "{text}");
    let (code, text) = run(&["verify", "/nowhere.proof"]);
    assert_eq!(code, 1);
    assert!(text.contains("/nowhere.proof"), "{text}");
}

#[test]
fn completions_for_every_shell_may_be_cut_short() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_session"))
            .args(["completions", shell])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success(),
            "{shell}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let home = tempfile::tempdir().unwrap();
    let pages = home.path().join("man");
    assert!(
        session(home.path(), &["man", pages.to_str().unwrap()])
            .status
            .success()
    );
    assert!(std::fs::read_dir(pages).unwrap().count() > 20);
}

#[test]
fn an_identity_comes_back_from_its_phrase_and_from_its_json() {
    let (a, b, c) = (
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
        tempfile::tempdir().unwrap(),
    );
    let made = json(&session(a.path(), &["--json", "identity", "new"]));
    let recovered = Command::new(env!("CARGO_BIN_EXE_session"))
        .args(["--json", "identity", "recover", "--plain"])
        .env("SESSION_HOME", b.path())
        .env("SESSION_PHRASE", made["phrase"].as_str().unwrap())
        .output()
        .unwrap();
    assert_eq!(json(&recovered)["id"], made["id"]);
    let file = a.path().join("export.json");
    let path = file.to_str().unwrap();
    assert!(
        session(
            a.path(),
            &["identity", "export", "--secret", "--file", path]
        )
        .status
        .success()
    );
    let imported = session(c.path(), &["--json", "identity", "import", path]);
    assert_eq!(json(&imported)["id"], made["id"]);
    // The sealed file shows no key, and another passphrase does not open it.
    let wrong = Command::new(env!("CARGO_BIN_EXE_session"))
        .args(["identity", "show"])
        .env("SESSION_HOME", a.path())
        .env("SESSION_PASSPHRASE", "another")
        .output()
        .unwrap();
    assert_eq!(wrong.status.code(), Some(1));
}

#[test]
fn published_vectors_agree_and_one_wrong_digit_is_named() {
    let home = tempfile::tempdir().unwrap();
    let file = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../core/tests/data/luxfi-session.json"
    );
    let output = session(home.path(), &["--json", "vectors", "verify", file]);
    assert!(output.status.success());
    assert!(json(&output)["sections"].as_array().unwrap().len() >= 8);
    let text = std::fs::read_to_string(file)
        .unwrap()
        .replacen("fab1f803", "fab1f804", 1);
    let bent = home.path().join("bent.json");
    std::fs::write(&bent, text).unwrap();
    let output = session(home.path(), &["vectors", "verify", bent.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(4));
    assert!(
        String::from_utf8(output.stderr)
            .unwrap()
            .contains("ids[0].hash_data")
    );
}

#[test]
fn a_channel_has_its_roster_proved_member_by_member() {
    let home = tempfile::tempdir().unwrap();
    let (alice, bob) = (home.path().join("alice"), home.path().join("bob"));
    let node = RunningNode::start(home.path());
    let rpc = node.rpc.clone();
    let run = |home: &Path, args: &[&str]| {
        let all: Vec<&str> = ["--json", "--node", &rpc]
            .iter()
            .chain(args)
            .copied()
            .collect();
        let output = session(home, &all);
        (output.status.code(), json(&output))
    };
    for person in [&alice, &bob] {
        assert_eq!(run(person, &["identity", "new"]).0, Some(0));
        assert_eq!(run(person, &["sessions"]).0, Some(0));
    }
    let id = run(&bob, &["identity", "show"]).1["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(run(&alice, &["contact", "add", "bob", &id]).0, Some(0));
    let made = run(&alice, &["channel", "create", "bob"]).1;
    let channel = made["channelId"].as_str().unwrap();
    assert_eq!(run(&bob, &["channel", "accept", channel]).0, Some(0));
    assert_eq!(
        run(&alice, &["channel", "role", channel, "bob", "admin"]).0,
        Some(0)
    );
    let (code, shown) = run(&bob, &["channel", "show", channel]);
    assert_eq!((code, shown["memberCount"].as_u64()), (Some(0), Some(2)));
    let of_bob = |shown: &Value| {
        let members = shown["members"].as_array().unwrap();
        members.iter().find(|m| m["id"] == id.as_str()).cloned()
    };
    assert_eq!(of_bob(&shown).unwrap()["role"], "admin");
    // What an inbox shows is proved, and says so when asked.
    let opened = run(&alice, &["open", "bob"]).1;
    assert_eq!(run(&alice, &["send", "bob", "hello"]).0, Some(0));
    let inbox = run(&bob, &["inbox", "--prove"]).1;
    let proved = inbox
        .as_array()
        .unwrap()
        .iter()
        .find(|line| line["kind"] == "proved")
        .unwrap();
    assert_eq!(
        (&proved["sessionId"], &proved["count"]),
        (&opened["sessionId"], &Value::from(1))
    );

    // The last owner cannot leave, and a member who left is gone.
    assert_eq!(run(&alice, &["channel", "leave", channel]).0, Some(1));
    assert_eq!(run(&bob, &["channel", "leave", channel]).0, Some(0));
    assert!(of_bob(&run(&alice, &["channel", "show", channel]).1).is_none());
    assert_eq!(run(&alice, &["channel", "close", channel]).0, Some(0));
}

#[test]
fn keys_rotate_are_stolen_and_taken_back_from_the_command_line() {
    let home = tempfile::tempdir().unwrap();
    let node = RunningNode::start(home.path());
    let path = |name: &str| home.path().join(name);
    let run = |name: &str, args: &[&str]| on(&node.rpc, &path(name), args, "");
    let id_of = |name: &str| run(name, &["identity", "show"]).1;
    let made = run("alice", &["identity", "new", "--plain"]).1;
    let words = made["phrase"].as_str().unwrap().to_owned();
    assert_eq!(run("bob", &["identity", "new"]).0, Some(0));
    for person in ["alice", "bob"] {
        assert_eq!(run(person, &["sessions"]).0, Some(0));
    }
    let id = made["id"].as_str().unwrap();
    assert_eq!(
        run("bob", &["contact", "add", "alice", id]).1["keys"],
        id_of("alice")["keys"]
    );
    assert_eq!(run("bob", &["open", "alice"]).0, Some(0));

    // The thief copies the files, and rotates first.
    std::fs::create_dir_all(path("thief")).unwrap();
    let stolen = path("alice").join("identity.json");
    std::fs::copy(stolen, path("thief").join("identity.json")).unwrap();
    let (code, rotated) = run("thief", &["identity", "rotate"]);
    assert_eq!((code, &rotated["keyIndex"]), (Some(0), &Value::from(1)));
    assert_eq!(id_of("thief")["id"], id);
    let (code, told) = run("alice", &["inbox"]);
    assert_eq!(code, Some(1));
    assert!(
        told["error"].as_str().unwrap().contains("--take-back"),
        "{told}"
    );
    let take_back = ["identity", "recover", "--take-back"];
    let (code, back) = on(&node.rpc, &path("alice"), &take_back, &words);
    assert_eq!((code, &back["id"]), (Some(0), &made["id"]), "{back}");
    assert_eq!(id_of("alice")["keys"], back["keys"]);
    assert_eq!(run("thief", &["sessions"]).0, Some(1));
    // The words are not in the file that lies open.
    let file = std::fs::read(path("alice").join("identity.plain")).unwrap();
    assert!(file.len() > 6_000, "expanded keys, no seed");

    // Bob is told how the keys changed, and decides.
    let (code, told) = run("bob", &["send", "alice", "is it you?"]);
    assert_eq!(code, Some(1));
    let error = told["error"].as_str().unwrap();
    assert!(
        error.contains("recovery key") && error.contains("session contact accept alice"),
        "{told}"
    );
    let (code, accepted) = run("bob", &["contact", "accept", "alice"]);
    assert_eq!(
        (code, &accepted["change"]),
        (Some(0), &Value::from("byRecoveryKey"))
    );
    assert_eq!(accepted["keys"], back["keys"]);
    assert_eq!(run("bob", &["send", "alice", "is it you?"]).0, Some(0));
    let inbox = run("alice", &["inbox"]).1;
    assert_eq!(inbox[0]["content"], "is it you?");

    // The end of an identity needs a word that means it.
    assert_eq!(run("alice", &["identity", "revoke"]).0, Some(2));
    assert_eq!(run("alice", &["identity", "revoke", "--yes"]).0, Some(0));
    let (code, told) = run("alice", &["inbox"]);
    assert_eq!(code, Some(1));
    assert!(
        told["error"].as_str().unwrap().contains("revoked"),
        "{told}"
    );
    let (_, told) = run("bob", &["send", "alice", "hello?"]);
    assert!(
        told["error"].as_str().unwrap().contains("revoked"),
        "{told}"
    );
}

#[test]
fn a_sealed_identity_rotates_and_its_words_find_the_keys_that_count() {
    let home = tempfile::tempdir().unwrap();
    let node = RunningNode::start(home.path());
    let path = |name: &str| home.path().join(name);
    let run = |name: &str, args: &[&str]| on(&node.rpc, &path(name), args, "");
    let made = run("alice", &["identity", "new"]).1;
    let words = made["phrase"].as_str().unwrap().to_owned();
    for index in 1..=2 {
        let (code, rotated) = run("alice", &["identity", "rotate"]);
        assert_eq!((code, &rotated["keyIndex"]), (Some(0), &Value::from(index)));
    }
    let shown = run("alice", &["identity", "show"]).1;
    assert_eq!(
        (&shown["id"], &shown["rotation"]),
        (&made["id"], &Value::from(2))
    );
    assert_eq!(run("alice", &["identity", "export"]).0, Some(2));
    let (code, back) = on(&node.rpc, &path("again"), &["identity", "recover"], &words);
    assert_eq!((code, &back["id"]), (Some(0), &made["id"]));
    assert_eq!(run("again", &["identity", "show"]).1["keys"], shown["keys"]);
    assert_eq!(run("again", &["sessions"]).0, Some(0));
}

#[test]
fn what_is_sent_while_the_node_is_down_waits_and_is_listed() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let node = RunningNode::start(home.path());
    let rpc = node.rpc.clone();
    let run = |rpc: &str, name: &str, args: &[&str]| on(rpc, &path(name), args, "");
    for person in ["alice", "bob"] {
        assert_eq!(run(&rpc, person, &["identity", "new"]).0, Some(0));
        assert_eq!(run(&rpc, person, &["sessions"]).0, Some(0));
    }
    let id = run(&rpc, "bob", &["identity", "show"]).1["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        run(&rpc, "alice", &["contact", "add", "bob", &id]).0,
        Some(0)
    );
    assert_eq!(run(&rpc, "alice", &["open", "bob"]).0, Some(0));
    drop(node);

    let (code, told) = run(&rpc, "alice", &["send", "bob", "later"]);
    assert_eq!(code, Some(3), "{told}");
    let error = told["error"].as_str().unwrap();
    assert!(
        error.contains("kept in the outbox") && error.contains("does not answer"),
        "{told}"
    );
    let listed = Command::new(env!("CARGO_BIN_EXE_session"))
        .args(["--node", &rpc, "outbox"])
        .env("SESSION_HOME", path("alice"))
        .env("SESSION_PASSPHRASE", "not a secret")
        .output()
        .unwrap();
    assert_eq!(listed.status.code(), Some(3));
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(
        text.contains("SendBatch") && text.contains("bob") && text.contains(" s "),
        "{text}"
    );
    // Nothing can be read meanwhile, and that is said plainly.
    assert_eq!(run(&rpc, "alice", &["inbox"]).0, Some(1));

    let node = RunningNode::start(home.path());
    // Neither what was said nor to whom lies open beside a sealed identity.
    for file in std::fs::read_dir(path("alice")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            assert!(!bytes.windows(5).any(|w| w == b"later"), "{path:?}");
            assert!(!bytes.windows(5).any(|w| w == b"\"bob\""), "{path:?}");
        }
    }
    let (code, history) = run(&rpc, "alice", &["history", "export"]);
    assert_eq!(
        (code, &history[0]["text"]),
        (Some(0), &Value::from("later"))
    );
    let (code, flushed) = run(&node.rpc, "alice", &["outbox"]);
    assert_eq!(
        (code, &flushed["sent"], &flushed["waiting"]),
        (Some(0), &1.into(), &0.into())
    );
    assert_eq!(run(&node.rpc, "bob", &["inbox"]).1[0]["content"], "later");
    // Forgetting the node's key lets another one in: the chain is met as if for the first time,
    // and nothing else is forgotten.
    assert_eq!(run(&node.rpc, "alice", &["node", "forget"]).0, Some(0));
    assert_eq!(
        run(&node.rpc, "alice", &["send", "bob", "still here"]).0,
        Some(0)
    );
    assert_eq!(
        run(&node.rpc, "bob", &["inbox"]).1[0]["content"],
        "still here"
    );
}

#[test]
fn several_people_talk_in_a_session_with_a_name() {
    let home = tempfile::tempdir().unwrap();
    let node = RunningNode::start(home.path());
    let path = |name: &str| home.path().join(name);
    let run = |name: &str, args: &[&str]| on(&node.rpc, &path(name), args, "");
    let mut ids = Vec::new();
    for person in ["alice", "bob", "carol"] {
        let made = run(person, &["identity", "new"]).1;
        assert_eq!(run(person, &["sessions"]).0, Some(0));
        ids.push(made["id"].as_str().unwrap().to_owned());
    }
    for (name, id) in ["bob", "carol"].iter().zip(&ids[1..]) {
        assert_eq!(run("alice", &["contact", "add", name, id]).0, Some(0));
    }
    let (code, opened) = run("alice", &["open", "bob", "carol", "--name", "trip"]);
    assert_eq!((code, &opened["name"]), (Some(0), &Value::from("trip")));
    assert_eq!(run("alice", &["open", "bob", "--name", "trip"]).0, Some(2));
    assert_eq!(run("alice", &["send", "trip", "when?"]).0, Some(0));
    let session = opened["sessionId"].as_str().unwrap();
    for person in ["bob", "carol"] {
        let inbox = run(person, &["inbox"]).1;
        assert_eq!(inbox[0]["content"], "when?", "{inbox}");
    }
    assert_eq!(run("bob", &["send", session, "at nine"]).0, Some(0));
    assert_eq!(run("alice", &["inbox", "trip"]).1[1]["content"], "at nine");
    assert_eq!(run("carol", &["name", session, "holiday"]).0, Some(0));
    assert_eq!(run("carol", &["send", "holiday", "fine"]).0, Some(0));
    let receipts = run("alice", &["receipts", "trip"]).1;
    assert_eq!(receipts.as_array().unwrap().len(), 2);
    assert!(
        receipts.as_array().unwrap().iter().all(|r| r["upTo"] == 1),
        "{receipts}"
    );
    let listed = run("alice", &["sessions"]).1;
    assert_eq!(
        (
            &listed[0]["name"],
            listed[0]["peers"].as_array().unwrap().len()
        ),
        (&Value::from("trip"), 2)
    );
}

#[test]
fn a_plugins_chain_goes_back_while_nobody_runs_it() {
    let (home, chain) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let rewind = |to: u64| {
        let (directory, to) = (chain.path().to_str().unwrap(), to.to_string());
        let arguments = [
            "--json",
            "node",
            "rewind",
            "--data-dir",
            directory,
            "--to",
            &to,
        ];
        let output = session(home.path(), &arguments);
        (output.status.code(), json(&output))
    };
    let (code, none) = rewind(1);
    assert_eq!(code, Some(1));
    let says = |value: &Value, word: &str| value["error"].as_str().unwrap().contains(word);
    assert!(says(&none, "db/"), "{none}");

    // What a plugin leaves behind: a chain on a store that remembers its steps.
    let store = Arc::new(session_vm::rewind::open(chain.path()).unwrap());
    let node = Arc::new(Node::start_on(store, NodeOptions::default()).unwrap());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let options = ServerOptions {
        address: "127.0.0.1:0".parse().unwrap(),
        ..ServerOptions::default()
    };
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let context = Context { node: node.clone() };
    let server = runtime.block_on(Server::bind(context, options)).unwrap();
    let rpc = format!("http://{}", server.address());
    let serving = runtime.spawn(server.run(stopped));
    let (alice, bob) = (home.path().join("alice"), home.path().join("bob"));
    for person in [&alice, &bob] {
        assert_eq!(on(&rpc, person, &["identity", "new"], "").0, Some(0));
    }
    // Both are registered before one writes to the other.
    on(&rpc, &bob, &["sessions"], "");
    let id = on(&rpc, &bob, &["identity", "show"], "").1["id"].clone();
    let (_, opened) = on(&rpc, &alice, &["open", id.as_str().unwrap()], "");
    let height = node.head().header.height;
    assert!(height > 0, "{opened}");

    let (code, in_use) = rewind(0);
    assert_eq!(code, Some(1));
    assert!(says(&in_use, &std::process::id().to_string()), "{in_use}");
    stop.send(true).unwrap();
    runtime.block_on(serving).unwrap();
    node.stop();
    let (code, ahead) = rewind(height + 1);
    assert_eq!(code, Some(1));
    assert!(says(&ahead, "ahead"), "{ahead}");
    let (code, rewound) = rewind(0);
    assert_eq!(code, Some(0), "{rewound}");
    assert_eq!(rewound["from"], height);
    assert_eq!(rewound["height"], 0);
    assert_eq!(rewound["stateRoot"].as_str().unwrap().len(), 64);
}
