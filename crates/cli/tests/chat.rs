//! Chats as people and programs hold them: whole processes, lines in and lines out, killed in the
//! middle.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{RunningNode, json, on, session};

const LIMIT: Duration = Duration::from_secs(60);

struct Person {
    home: PathBuf,
    id: String,
}

/// Somebody with an identity, whom others can bring into conversations.
fn person(node: &RunningNode, base: &Path, name: &str) -> Person {
    let home = base.join(name);
    let made = json(&session(&home, &["--json", "identity", "new"]));
    let id = made["id"].as_str().unwrap().to_owned();
    let (code, value) = on(&node.rpc, &home, &["device", "supply"], "");
    assert_eq!(code, Some(0), "{value}");
    Person { home, id }
}

/// Two who know each other.
fn two_people(node: &RunningNode, base: &Path) -> (Person, Person) {
    let (alice, bob) = (person(node, base, "alice"), person(node, base, "bob"));
    alice.knows(node, "bob", &bob);
    bob.knows(node, "alice", &alice);
    (alice, bob)
}

impl Person {
    fn does(&self, node: &RunningNode, args: &[&str]) -> Value {
        let (code, value) = on(&node.rpc, &self.home, args, "");
        assert_eq!(code, Some(0), "{args:?}: {value}");
        value
    }

    fn knows(&self, node: &RunningNode, name: &str, other: &Self) {
        self.does(node, &["contact", "add", name, &other.id]);
    }

    fn chat(&self, node: &RunningNode, with: &str) -> Chat {
        Chat::start(node, &self.home, with)
    }
}

/// A running chat, which prints one JSON value for each thing that happens.
struct Chat {
    child: Child,
    input: Option<ChildStdin>,
    lines: mpsc::Receiver<Value>,
    seen: Vec<Value>,
}

impl Chat {
    fn start(node: &RunningNode, home: &Path, with: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_session"))
            .args(["--json", "--node", &node.rpc, "chat", with])
            .env("SESSION_HOME", home)
            .env("SESSION_PASSPHRASE", "not a secret")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap();
                if tell.send(value).is_err() {
                    return;
                }
            }
        });
        Self {
            input: child.stdin.take(),
            child,
            lines,
            seen: Vec::new(),
        }
    }

    fn types(&mut self, line: &str) {
        let input = self.input.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Waits for something, and answers it.
    fn sees(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            if let Some(found) = self.seen.iter().find(|value| is_it(value)) {
                return found.clone();
            }
            let left = LIMIT.saturating_sub(began.elapsed());
            match self.lines.recv_timeout(left) {
                Ok(value) => self.seen.push(value),
                Err(_) => panic!("{what} does not come: {:#?}", self.seen),
            }
        }
    }

    fn hears(&mut self, text: &str) -> Value {
        self.sees(text, |value| value["text"] == text && value["own"] == false)
    }

    fn ticks(&mut self, text: &str, state: &str) {
        self.sees(state, |value| {
            value["text"] == text && value["state"] == state
        });
    }

    /// The input ends; the chat goes on until it is told.
    fn quits(mut self) {
        self.types("/quit");
        let began = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < LIMIT, "it does not end");
            std::thread::yield_now();
        }
        assert!(self.child.wait().unwrap().success());
    }

    fn ends_by_sigkill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Chat {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

/// Alice's chat, in which she says something, and Bob's, which is begun after it and hears it.
fn talking(node: &RunningNode, alice: &Person, bob: &Person, said: &str) -> (Chat, Chat) {
    let mut a = alice.chat(node, "bob");
    a.types(said);
    a.ticks(said, "accepted");
    let mut b = bob.chat(node, "alice");
    b.hears(said);
    (a, b)
}

#[test]
fn two_people_chat_with_ticks_and_one_is_killed_in_the_middle() {
    let base = tempfile::tempdir().unwrap();
    let mut node = RunningNode::start(base.path());
    let (alice, bob) = two_people(&node, base.path());
    let (mut a, mut b) = talking(&node, &alice, &bob, "hello bob");
    a.ticks("hello bob", "read");
    b.types("/reply 1 hello alice");
    let heard = a.hears("hello alice");
    assert_eq!(heard["quote"], "hello bob");
    assert_eq!(heard["from"], "bob");
    assert_eq!(heard["authenticity"], "deniable");
    a.types("/react 2 👍");
    b.sees("the emoji", |value| value["reactions"][0][0] == "👍");

    b.ends_by_sigkill();
    a.types("are you there?");
    a.ticks("are you there?", "accepted");
    let mut b = bob.chat(&node, "alice");
    b.hears("are you there?");
    let before = b
        .seen
        .iter()
        .filter(|value| value["text"] == "hello bob")
        .count();
    assert_eq!(before, 1, "what was said before is shown once");
    a.ticks("are you there?", "read");

    // The node is gone: what is said waits, is there after a kill, and goes when the node is back.
    let address = node.rpc.trim_start_matches("http://").to_owned();
    node.kill();
    a.types("said while it was away");
    a.ticks("said while it was away", "waiting");
    a.ends_by_sigkill();
    let node = RunningNode::start_with(base.path(), &address, &[]);
    let mut a = alice.chat(&node, "bob");
    a.ticks("said while it was away", "accepted");
    b.hears("said while it was away");

    a.types("/dance");
    a.sees("an answer", |value| {
        value["lines"][0]
            .as_str()
            .is_some_and(|l| l.contains("/dance is no"))
    });
    a.types("/safety");
    let digits = |value: &Value| value["lines"][0].as_str().is_some_and(|l| l.len() == 71);
    let shown = a.sees("digits", digits);
    b.types("/safety");
    assert_eq!(b.sees("digits", digits)["lines"][0], shown["lines"][0]);
    a.types("/verify bob");
    a.sees("verified", |value| {
        value["lines"][0] == "bob is verified, with the devices of now"
    });

    // Whoever is taken out is told; who stays still sees what is said, also to nobody.
    a.types("/remove bob");
    let notice = |value: &Value, of: &str| {
        let text = value["text"].as_str();
        value["kind"] == "notice" && text.is_some_and(|text| text.contains(of))
    };
    a.sees("the removal", |value| notice(value, "you removed bob"));
    b.sees("the removal", |value| notice(value, "alice removed you"));
    a.types("alone");
    a.ticks("alone", "accepted");
    a.types("/leave");
    a.sees("an answer", |value| {
        value["lines"][0]
            .as_str()
            .is_some_and(|l| l.contains("nobody else is"))
    });
    let changes = |value: &&Value| notice(value, "changed the conversation");
    assert_eq!(
        a.seen.iter().find(changes),
        None,
        "only the removal is told"
    );
    a.quits();
    b.quits();
    // A new one between the two begins, and what was said before stands above it, for both.
    let (mut a, mut b) = talking(&node, &alice, &bob, "and again");
    a.ticks("alone", "accepted");
    for chat in [&mut a, &mut b] {
        chat.sees("what was said before", |value| value["text"] == "hello bob");
    }
    a.quits();
    b.quits();
}

#[test]
fn a_chat_outlives_its_node() {
    let base = tempfile::tempdir().unwrap();
    let mut node = RunningNode::start(base.path());
    let (alice, bob) = two_people(&node, base.path());
    let (mut a, mut b) = talking(&node, &alice, &bob, "one");
    b.types("I am here");
    a.hears("I am here");

    // Both have found the node away before it is back; neither is started again.
    let address = node.rpc.trim_start_matches("http://").to_owned();
    node.kill();
    for (chat, said) in [(&mut a, "of Alice meanwhile"), (&mut b, "of Bob meanwhile")] {
        chat.types(said);
        chat.ticks(said, "waiting");
    }
    let mut node = RunningNode::start_with(base.path(), &address, &[]);
    b.hears("of Alice meanwhile");
    a.hears("of Bob meanwhile");
    a.ticks("of Alice meanwhile", "read");
    // And the home is still lent.
    alice.does(&node, &["device", "list"]);
    a.types("two");
    b.hears("two");
    a.quits();
    b.quits();

    // Names are sealed to the identity; what needs no node shows them without one.
    node.kill();
    let (code, said) = on(&node.rpc, &alice.home, &["history", "export", "bob"], "");
    assert_eq!(code, Some(0), "{said}");
    let of_bob = said.as_array().unwrap().iter();
    let of_bob = of_bob.filter(|line| line["from"] == "bob");
    assert_eq!(of_bob.count(), 2, "{said}");
    let (code, contacts) = on(&node.rpc, &alice.home, &["contact", "list"], "");
    assert_eq!((code, &contacts[0]["name"]), (Some(0), &"bob".into()));
}

/// Says lines and ends once they are accepted.
fn once(
    node: &RunningNode,
    home: &Path,
    with: &str,
    input: &[u8],
) -> (Option<i32>, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_session"))
        .args(["--node", &node.rpc, "chat", with, "--once"])
        .env("SESSION_HOME", home)
        .env("SESSION_PASSPHRASE", "not a secret")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A command that has ended already reads no more.
    let _closed = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn a_chat_lets_other_commands_have_the_home_and_goes_on() {
    let base = tempfile::tempdir().unwrap();
    let node = RunningNode::start(base.path());
    let (alice, bob) = two_people(&node, base.path());
    let (mut a, mut b) = talking(&node, &alice, &bob, "one");
    // Commands that change the device, the account, and the keys themselves.
    let said = once(&node, &alice.home, "bob", b"from a script\n");
    assert_eq!(said.0, Some(0), "{said:?}");
    b.hears("from a script");
    a.ticks("from a script", "read");
    a.types("two");
    b.hears("two");
    alice.does(&node, &["device", "list"]);
    alice.does(&node, &["identity", "rotate"]);
    b.types("and you?");
    a.hears("and you?");
    a.types("three");
    b.hears("three");
    // Two chats of one home take turns, and neither loses what was typed.
    let mut other = alice.chat(&node, "bob");
    other.types("from the other chat");
    a.types("from the first chat");
    b.hears("from the other chat");
    b.hears("from the first chat");
    other.hears("and you?");
    // One that is killed while it has the home, or waits for it, is in nobody's way.
    other.ends_by_sigkill();
    a.types("four");
    b.hears("four");
    for chat in [&a, &b] {
        let counted = |text: &str| {
            let said = chat
                .seen
                .iter()
                .filter(|v| v["kind"] == "message" && v["text"] == text);
            said.count()
        };
        for text in ["one", "two", "three", "four", "from a script"] {
            assert!(
                counted(text) <= 1,
                "{text} is shown twice: {:#?}",
                chat.seen
            );
        }
    }
    a.quits();
    b.quits();
}

#[test]
fn groups_requests_files_and_policies_from_the_command_line() {
    let base = tempfile::tempdir().unwrap();
    let node = RunningNode::start(base.path());
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|n| person(&node, base.path(), n));
    alice.knows(&node, "bob", &bob);
    alice.knows(&node, "carol", &carol);
    bob.knows(&node, "alice", &alice);
    let made = alice.does(&node, &["group", "new", "crew", "bob", "carol"]);
    // Bob knows Alice and is in; Carol is asked first.
    assert_eq!(bob.does(&node, &["group", "list"])[0]["name"], "crew");
    assert_eq!(
        carol.does(&node, &["group", "list"]),
        Value::Array(Vec::new())
    );
    let requests = carol.does(&node, &["request", "list"]);
    assert_eq!(requests[0]["id"], alice.id.as_str());
    assert_eq!(requests[0]["invitations"], 1);
    carol.does(&node, &["request", "accept", &alice.id]);
    assert_eq!(
        carol.does(&node, &["group", "list"])[0]["groupId"],
        made["groupId"]
    );

    // Who is there is not added once more.
    let (code, refused) = on(&node.rpc, &alice.home, &["group", "add", "crew", "bob"], "");
    assert_eq!(code, Some(1), "{refused}");
    let problem = refused["error"].as_str().unwrap();
    assert!(problem.contains("in the group already"), "{problem}");

    let file = base.path().join("plan.txt");
    std::fs::write(&file, "to the moon").unwrap();
    let lines = format!("the plan:\n/file {}\n", file.display());
    let (code, out, err) = once(&node, &alice.home, "crew", lines.as_bytes());
    assert_eq!(code, Some(0), "{out}{err}");
    let saved = base.path().join("saved");
    let lines = format!("/save 2 {}\n", saved.display());
    let (code, out, err) = once(&node, &bob.home, "crew", lines.as_bytes());
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("alice: the plan:"), "{out}");
    assert!(
        !out.contains("not verified yet"),
        "what ends signs before it does: {out}"
    );
    assert_eq!(
        std::fs::read(saved.join("plan.txt")).unwrap(),
        b"to the moon"
    );

    // A member changes nothing, an admin may, and works on what is current.
    let (code, _) = on(
        &node.rpc,
        &bob.home,
        &["group", "set", "crew", "--timer", "1d"],
        "",
    );
    assert_eq!(code, Some(1));
    alice.does(&node, &["group", "role", "crew", "bob", "admin"]);
    let members = |person: &Person| {
        let shown = person.does(&node, &["group", "show", "crew"]);
        shown["members"].as_array().unwrap().len()
    };
    assert_eq!(members(&alice), 3);
    // When a device takes new keys is shown, and can be made sooner.
    let keys = |person: &Person| person.does(&node, &["group", "show", "crew"])["rotation"].clone();
    assert_eq!(keys(&alice)["messages"], 50);
    let due = keys(&alice)["dueMs"].as_u64().unwrap();
    let set = ["device", "rotation", "--messages", "20", "--interval", "10"];
    let set = alice.does(&node, &set);
    assert_eq!(
        (&set["messages"], &set["intervalPercent"]),
        (&20.into(), &10.into())
    );
    assert_eq!(keys(&alice)["messages"], 20);
    assert!(keys(&alice)["dueMs"].as_u64().unwrap() < due);
    let export = base.path().join("crew.jsonl");
    let lines = format!("/export {}\n", export.display());
    let (_, out, _) = once(&node, &alice.home, "crew", lines.as_bytes());
    assert!(out.contains("lines are in"), "{out}");
    let first = std::fs::read_to_string(&export).unwrap();
    let first: Value = serde_json::from_str(first.lines().next().unwrap()).unwrap();
    assert_eq!(first["text"], "the plan:");
    // The same from the command, for one conversation and for all, where no node is.
    let export = |args: &[&str]| {
        let args = [&["history", "export"], args].concat();
        on("http://127.0.0.1:1", &alice.home, &args, "")
    };
    let (code, said) = export(&["crew"]);
    assert_eq!((code, &said[0]), (Some(0), &first));
    let group = first["groupId"].as_str().unwrap();
    assert_eq!(export(&[group]), (code, said.clone()));
    let (code, all) = export(&["--all"]);
    assert_eq!(code, Some(0));
    assert!(all["sessions"].is_array(), "{all}");
    let crew = all["conversations"].as_array().unwrap().iter();
    let crew: Vec<_> = crew.filter(|found| found["title"] == "crew").collect();
    assert_eq!((crew.len(), &crew[0]["messages"]), (1, &said));
    let (code, refused) = export(&["nobody"]);
    assert_eq!(code, Some(1));
    assert!(
        refused["error"].as_str().unwrap().contains("nobody"),
        "{refused}"
    );
    carol.does(&node, &["request", "block", &alice.id]);
    carol.does(&node, &["request", "unblock", &alice.id]);
}

#[test]
fn wrong_words_end_with_what_would_be_right() {
    let base = tempfile::tempdir().unwrap();
    let node = RunningNode::start(base.path());
    let alice = person(&node, base.path(), "alice");
    for (args, code, part) in [
        (&["chat", "nobody"][..], 1, "session group list"),
        (&["chat", "luxgroup:AAAA"], 2, "damaged"),
        (
            &["group", "set", "x", "--timer", "9 lives"],
            1,
            "no group here",
        ),
        (&["group", "role", "x", "y", "king"], 2, "is no role"),
        (
            &["device", "add", "link1-mistyped", "--yes"],
            2,
            "link1- and 56 characters",
        ),
        (&["device", "rotation", "--messages", "9"], 2, "10 to 200"),
        (
            &["device", "revoke", "00", "--yes"],
            2,
            "no device of this account",
        ),
        (&["device", "key", "--days", "90"], 2, "1..=89"),
        (&["request", "accept", "who"], 1, "contact"),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_session"))
            .args(["--node", &node.rpc])
            .args(args)
            .env("SESSION_HOME", &alice.home)
            .env("SESSION_PASSPHRASE", "not a secret")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(part), "{args:?}: {said}");
    }
    let (code, _, said) = once(&node, &alice.home, &alice.id, b"to myself\n");
    assert_eq!(code, Some(1));
    assert!(said.contains("with oneself"), "{said}");
}

#[test]
fn a_device_is_linked_by_its_code_and_revoked() {
    let base = tempfile::tempdir().unwrap();
    let node = RunningNode::start(base.path());
    let (alice, bob) = two_people(&node, base.path());
    let (code, out, err) = once(&node, &alice.home, "bob", b"from the first\n");
    assert_eq!(code, Some(0), "{out}{err}");
    let laptop = base.path().join("laptop");
    let mut link = Command::new(env!("CARGO_BIN_EXE_session"))
        .args([
            "--json", "--node", &node.rpc, "device", "link", "--name", "laptop",
        ])
        .env("SESSION_HOME", &laptop)
        .env("SESSION_PASSPHRASE", "another one")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(link.stdout.take().unwrap()).lines();
    let shown: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    let code = shown["code"].as_str().unwrap();
    alice.does(&node, &["device", "add", code, "--yes"]);
    assert!(link.wait().unwrap().success());
    let linked: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(linked["id"], alice.id.as_str());
    let name = linked["device"].as_str().unwrap();
    let sealed = laptop.join("identity.sealed");
    assert!(
        sealed.exists(),
        "the keys are sealed under the passphrase of this device"
    );
    let devices = alice.does(&node, &["device", "list"]);
    assert_eq!(devices.as_array().unwrap().len(), 2);
    // The first device takes another key, and goes on.
    let renewed = alice.does(&node, &["device", "renew"]);
    assert_eq!(
        (&renewed["ok"], &renewed["waiting"]),
        (&true.into(), &0.into())
    );
    let (code, out, err) = once(&node, &alice.home, "bob", b"by the new key\n");
    assert_eq!(code, Some(0), "{out}{err}");
    bob.does(&node, &["group", "sync"]);
    let (_, out, _) = once(&node, &bob.home, "alice", b"");
    assert!(out.contains("signs with a new key"), "{out}");
    assert!(out.contains("by the new key"), "{out}");
    alice.does(&node, &["device", "revoke", name, "--yes"]);
    let devices = alice.does(&node, &["device", "list"]);
    assert_eq!(devices.as_array().unwrap().len(), 1);
}
