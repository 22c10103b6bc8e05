//! What lies on a node's disk after a conversation: everything that it was ever told, and neither what
//! people said, nor what they and the group are called, nor who is in it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_client::e2ee::attachment::Attachment;
use session_client::e2ee::{Content, Policy, Randomness};
use session_client::{Account, Groups, InvitationCode, KeyPackageCode, NewGroup, RpcClient};
use session_core::ids::{AccountId, GroupId};
use session_core::time::{DAY_MS, Time};
use session_fixture::ThrowawayNode;
use session_storage::{Direction, DiskStore, KeyRange, Keyspace, View as _};
use support::{account, session_vm_options};

/// Every cell of the node's tables, key and value: how many copies of it the files have is the store's
/// affair, and depends on how busy it was.
async fn cells(data: &Path) -> Vec<Vec<u8>> {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    let store = loop {
        // The lock is free once the node's last reader is gone.
        match DiskStore::open(data.join("store")) {
            Ok(store) => break store,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        tokio::task::yield_now().await;
    };
    let mut out = Vec::new();
    for keyspace in Keyspace::ALL {
        let mut from = KeyRange::from(Vec::new());
        loop {
            let some = store.range(keyspace, &from, 1_000, Direction::Ascending);
            let some = some.unwrap();
            let Some((last, _)) = some.last() else { break };
            from = KeyRange::after(last);
            for (key, value) in some {
                out.push(key);
                out.push(value);
            }
        }
    }
    out
}

/// Every byte of every file below a directory.
fn files(path: &Path, out: &mut Vec<Vec<u8>>) {
    for entry in std::fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, out);
        } else {
            // A journal is mostly room.
            let bytes = std::fs::read(&path).unwrap();
            let pages = bytes.chunks(4_096);
            let used = pages.filter(|page| page[..] != [0; 4_096][..page.len()]);
            out.push(used.collect::<Vec<_>>().concat());
        }
    }
}

/// How often something is in them: as it is, in hex, and in base64 wherever it may begin.
fn count(files: &[Vec<u8>], what: &[u8]) -> usize {
    let mut forms = vec![what.to_vec(), const_hex::encode(what).into_bytes()];
    for shift in 0..3 {
        let text = BASE64.encode([&vec![0; shift], what].concat());
        // What stands beside it decides the first and the last characters.
        let (from, to) = ([0, 2, 3][shift], text.trim_end_matches('=').len() - 1);
        if to > from + 8 {
            forms.push(text.as_bytes()[from..to].to_vec());
        }
    }
    let find = |form: &Vec<u8>| -> usize {
        let finder = memchr::memmem::Finder::new(form);
        files
            .iter()
            .map(|file| finder.find_iter(file).count())
            .sum()
    };
    forms.iter().map(find).sum()
}

async fn person(rpc: &RpcClient, path: &Path, device: &str) -> Groups {
    Groups::open(account(rpc.clone(), path).await, device).unwrap()
}

fn line_of(groups: &mut Groups) -> KeyPackageCode {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as u64;
    let week = Time::from_ms(now).after_ms(7 * DAY_MS);
    groups.key_package(week).unwrap()
}

async fn invite(first: &mut Groups, others: &mut [&mut Groups], group: GroupId) {
    for invited in first.invitations(group).await.unwrap() {
        let code: InvitationCode = invited.code.to_string().parse().unwrap();
        for other in others.iter_mut() {
            let member = other.device().member().unwrap();
            if invited.to.contains(&member) {
                other.join(&code).await.unwrap();
            }
        }
        first.handed_over(invited.number).unwrap();
    }
}

const TEXTS: [&str; 3] = [
    "the harbour at midnight, and nobody else",
    "under the third lamp of the eastern pier",
    "it will be raining, says the almanac of 1884",
];
const GROUP_NAME: &str = "friends of the lighthouse keeper";
const DEVICES: [&str; 3] = [
    "telephone of somebody",
    "tablet of the library",
    "watch on the chimney",
];
const FILE_NAME: &str = "a-map-of-the-eastern-pier.png";

/// Talks, sends a file, renames, rotates, adds and removes. Answers frames that the log shows.
async fn converse(
    rpc: &RpcClient,
    people: &mut [Groups; 3],
    sponsor: &mut Account,
) -> (GroupId, Value) {
    let [alice, bob, carol] = people;
    let mut policy = Policy::new(alice.account().chain(), alice.account().id());
    GROUP_NAME.clone_into(&mut policy.name);
    let lines = [line_of(bob)];
    let new = NewGroup::open(policy.clone());
    let group = alice.create(new, &lines, Some(sponsor)).await.unwrap();
    invite(alice, &mut [bob], group).await;
    alice.say(group, TEXTS[0]).await.unwrap();
    bob.say(group, TEXTS[1]).await.unwrap();
    let lines = [line_of(carol)];
    alice.add(group, &lines).await.unwrap();
    invite(alice, &mut [carol], group).await;
    carol.say(group, TEXTS[2]).await.unwrap();
    let (file, _) =
        Attachment::seal(FILE_NAME, "image/png", &[7; 900], &mut Randomness::system()).unwrap();
    let text = TEXTS[0].to_owned();
    let file = Content::Attachment { file, text };
    bob.send(group, &[file]).await.unwrap();
    alice.receive(group).await.unwrap();
    let gone = carol.device().member().unwrap();
    let until = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while alice
        .members(group)
        .unwrap()
        .iter()
        .any(|member| member.member == gone)
    {
        assert!(tokio::time::Instant::now() < until, "carol is not removed");
        match alice.remove(group, &[gone], false).await {
            Ok(_) => {}
            // It waits already: ten seconds between two advances.
            Err(_) => drop(alice.flush(group).await.unwrap()),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    alice.say(group, TEXTS[1]).await.unwrap();
    for person in [alice, bob] {
        person.receive(group).await.unwrap();
        assert!(!person.events(100).unwrap().is_empty());
    }
    let params = json!({ "groupId": group, "from": 0, "limit": 100 });
    let reply: Value = rpc.call("sessionvm.GetMessages", params).await.unwrap();
    (group, reply)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nodes_disk_holds_no_text_no_name_and_no_member() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let data = path("node");
    let node = ThrowawayNode::start_with(session_vm_options(&data))
        .await
        .unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let mut people = [
        person(&rpc, &path("alice"), DEVICES[0]).await,
        person(&rpc, &path("bob"), DEVICES[1]).await,
        person(&rpc, &path("carol"), DEVICES[2]).await,
    ];
    let mut sponsor = account(rpc.clone(), &path("sponsor")).await;
    // Somebody who has an account and nothing to do with it.
    let stranger = account(rpc.clone(), &path("stranger")).await;
    let (group, log) = converse(&rpc, &mut people, &mut sponsor).await;
    let devices = people.each_ref().map(|one| one.device().member().unwrap());
    let ids: [AccountId; 3] = people.each_ref().map(|one| one.account().id());
    drop(people);
    drop(node);
    let mut disk = Vec::new();
    files(&data, &mut disk);
    // The search finds what is there: a frame as it was posted, the group, who paid.
    let entries = log["messages"].as_array().unwrap();
    let frames: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry["frame"].as_str())
        .collect();
    assert!(frames.len() >= 5);
    for frame in frames.iter().filter(|frame| !frame.is_empty()) {
        assert!(count(&disk, &const_hex::decode(frame).unwrap()) > 0);
    }
    assert!(count(&disk, group.as_bytes()) > 0);
    let cells = cells(&data).await;
    let known = count(&cells, stranger.id().as_bytes());
    assert!(known > 0, "accounts are on the chain");
    assert!(count(&cells, sponsor.id().as_bytes()) > known);
    assert!(count(&cells, ids[0].as_bytes()) > known);
    // What people said and what things are called.
    for text in TEXTS
        .iter()
        .chain(&DEVICES)
        .chain(&[GROUP_NAME, FILE_NAME, "image/png"])
    {
        assert_eq!(count(&disk, text.as_bytes()), 0, "{text}");
    }
    for member in devices {
        assert_eq!(count(&disk, member.device.as_bytes()), 0, "a device's id");
    }
    // Who is in it. Alice invited, so she paid for the chunks of her invitations; of the others the
    // node knows what it knows of a stranger, in its tables and in the files beside them.
    let mut beside = Vec::new();
    for entry in std::fs::read_dir(&data).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            beside.push(std::fs::read(&path).unwrap());
        } else if path.file_name().unwrap() != "store" {
            files(&path, &mut beside);
        }
    }
    assert!(!beside.is_empty(), "its head key, at least");
    for id in &ids[1..] {
        assert_eq!(
            count(&cells, id.as_bytes()),
            known,
            "an account of a member"
        );
        assert_eq!(count(&beside, id.as_bytes()), 0, "beside the tables");
    }
}
