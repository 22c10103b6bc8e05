//! Five people hold a conversation with forward secrecy. One is removed, and reads nothing of what
//! comes after, although the log is there for everybody.
//!
//! `cargo run -p session-client --example group`

use std::path::Path;

use session_client::e2ee::{Content, EventKind, GroupStatus, Policy};
use session_client::{Account, GroupPage, Groups, NewGroup, RpcClient};
use session_core::time::{DAY_MS, Time};
use session_crypto::Identity;

type Failure = Box<dyn std::error::Error>;

const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];

async fn open(rpc: &RpcClient, path: &Path, name: &str) -> Result<Groups, Failure> {
    let account = Account::open(rpc.clone(), Identity::generate()?, &path.join(name)).await?;
    Ok(Groups::open(account, "laptop")?)
}

/// What others said.
fn texts(page: &GroupPage) -> Vec<&str> {
    let said = page.events.iter().filter_map(|event| {
        if let EventKind::Message(message) = &event.kind
            && let Content::Text(text) = &message.body.content
        {
            return Some(text.as_str());
        }
        None
    });
    said.collect()
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let node = session_fixture::ThrowawayNode::start().await?;
    let rpc = RpcClient::new(&node.url(), None)?;
    let mut people = Vec::new();
    for name in NAMES {
        people.push(open(&rpc, directory.path(), name).await?);
    }
    let (alice, others) = people.split_first_mut().ok_or("nobody")?;

    // Everybody hands Alice a line of text, by any way they like; she makes the group of them.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let expires = Time::from_ms(u64::try_from(now.as_millis())?).after_ms(7 * DAY_MS);
    let mut lines = Vec::new();
    for other in others.iter_mut() {
        lines.push(other.key_package(expires)?.to_string().parse()?);
    }
    let policy = Policy::new(alice.account().chain(), alice.account().id());
    let group = alice.create(NewGroup::new(policy), &lines, None).await?;
    println!("group {group}: the chain knows its keys, and nobody in it");

    // She hands a line back, and they join what the chain proves.
    for invited in alice.invitations(group).await? {
        let line = invited.code.to_string();
        for other in others.iter_mut() {
            other.join(&line.parse()?).await?;
        }
        alice.handed_over(invited.number)?;
    }

    for (person, name) in people.iter_mut().zip(NAMES) {
        person.say(group, &format!("{name} is here")).await?;
    }
    for (person, name) in people.iter_mut().zip(NAMES) {
        // What came while somebody spoke was stored until it is shown.
        person.receive(group).await?;
        let mut heard = 0;
        for event in person.events(100)? {
            heard += usize::from(matches!(event.kind, EventKind::Message(_)));
            person.acknowledge(event.number)?;
        }
        println!("{name} has heard {heard} others");
        if heard != 4 {
            return Err("somebody was not heard".into());
        }
    }

    let [alice, bob, carol, dave, erin] = &mut people[..] else {
        return Err("five were there".into());
    };
    let removed = dave.device().member()?;
    alice.remove(group, &[removed], false).await?;
    alice.say(group, "now we can plan Dave's party").await?;
    let others = [
        (bob, "bob"),
        (carol, "carol"),
        (dave, "dave"),
        (erin, "erin"),
    ];
    for (person, name) in others {
        let page = person.receive(group).await?;
        println!("{name} reads {:?}", texts(&page));
        let is_out = person.device().status(group)? == GroupStatus::Removed;
        if is_out != (name == "dave") || texts(&page).is_empty() != is_out {
            return Err("a removal did not do what it is for".into());
        }
    }
    println!("safety number: {}", alice.safety_number(group)?);
    Ok(())
}
