//! The command itself on a network: what a person types, and what is refused.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::http::Connection;
use crate::network::Devnet;
use crate::support::{json, on, session};

/// Alice has written to Bob, and both have met the first node.
pub(crate) struct Two {
    bob: PathBuf,
}

impl Two {
    /// They meet at a node below the host's path.
    pub(crate) fn meet(net: &Devnet) -> Self {
        let node = net.urls().remove(0);
        assert!(node.contains("/ext/bc/"));
        let home = |name: &str| net.home.path().join(name);
        let (alice, bob) = (home("alice"), home("bob"));
        for home in [&alice, &bob] {
            typed(&node, home, &["identity", "new"]);
            typed(&node, home, &["inbox"]);
        }
        let id = typed(&node, &bob, &["identity", "show"])["id"].clone();
        typed(
            &node,
            &alice,
            &["contact", "add", "bob", id.as_str().unwrap()],
        );
        typed(&node, &alice, &["open", "bob"]);
        typed(&node, &alice, &["send", "bob", "before"]);
        net.tell("two people met by the command");
        Self { bob }
    }

    /// Another node proves what was written, once its key is pinned beside the first one's.
    pub(crate) fn read_at_another_node(&self, net: &Devnet) {
        let other = net.urls().pop().unwrap();
        // Bob has met one node's key only, and is told so.
        assert_eq!(on(&other, &self.bob, &["inbox"], "").0, Some(4));
        let state = net.dir().join("state.json");
        let pin = ["node", "pin", state.to_str().unwrap(), "--threshold", "2"];
        typed(&other, &self.bob, &pin);
        let inbox = typed(&other, &self.bob, &["inbox"]);
        assert!(inbox.to_string().contains("before"), "{inbox}");
        net.tell("another node proves what they wrote");
    }
}

/// A command that goes well.
fn typed(node: &str, home: &Path, args: &[&str]) -> Value {
    let (code, value) = on(node, home, args, "");
    assert_eq!(code, Some(0), "{args:?}: {value}");
    value
}

/// What makes no sense on a network that runs is refused, and changes nothing.
pub(crate) fn is_refused(net: &Devnet) {
    for options in [&[][..], &["--faithful"]] {
        let (code, again) = net.up_again(options);
        assert_eq!(code, Some(1), "{again}");
        let error = again["error"].as_str().unwrap();
        assert!(error.contains("runs already"), "{again}");
    }
    assert_eq!(net.run(&["restart", "1"]).0, Some(1), "it runs");
    assert_eq!(net.run(&["kill", "9"]).0, Some(2), "there is none");
    let (code, status) = net.status();
    assert_eq!(
        (code, &status["level"]),
        (Some(0), &Value::Bool(true)),
        "{status}"
    );
}

/// Without options: one node, and a chain that takes nothing unsigned.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_without_options_takes_what_is_signed() {
    let Some((net, up)) = Devnet::up(&["--port", "31000"]) else {
        return;
    };
    assert_eq!(up["nodes"].as_array().unwrap().len(), 1);
    let _two = Two::meet(&net);
    let url = net.urls().remove(0);
    let mut connection = Connection::open(&url, hyper::Version::HTTP_11).await;
    let people = [
        "SeLqn3UAUoRymWmwW7axrzJK7JfNaBR2cHCryA6cFscgkny8",
        "tHggZ5wKxbrxY2Yt1EAviybdDcKk9Mq4DZQiwKCDWkFWVpsj",
    ];
    let keys = ["ab".repeat(1_184), "cd".repeat(1_184)];
    let create = json!({ "participants": people, "publicKeys": keys });
    let refused = connection.call(&url, "CreateSession", &create).await.json();
    assert_eq!(refused["error"]["code"], -32_006, "{refused}");
    net.over();
}

/// Two people write through the five nodes, one of which is killed meanwhile.
pub(crate) fn demo(net: &Devnet) {
    let dir = net.dir();
    let dir = dir.to_str().unwrap();
    let demo = ["--json", "demo", "--network", "devnet", "--devnet-dir", dir];
    let output = session(net.home.path(), &demo);
    let result = json(&output);
    assert_eq!(result["ok"], true, "{result}");
    assert_eq!(result["messages"], 66);
    net.tell("the demo, in which a node dies");
}
