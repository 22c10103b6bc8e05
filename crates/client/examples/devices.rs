//! A group of five accounts with eight devices: three people have two. Each device is linked by a
//! code, comes into the group by itself, and hears what every other one says. Then one is stolen.
//!
//! `cargo run -p session-client --example devices`

use std::path::Path;
use std::time::Duration;

use session_client::e2ee::{Content, Policy};
use session_client::{Account, Chats, Lock, NewDeviceLink, NewGroup, RpcClient, Words};
use session_core::ids::GroupId;
use session_crypto::Identity;

type Failure = Box<dyn std::error::Error>;

const NAMES: [&str; 5] = ["alice", "bob", "carol", "dave", "erin"];
const LIMIT: Duration = Duration::from_secs(60);

async fn person(rpc: &RpcClient, path: &Path) -> Result<Chats, Failure> {
    let account = Account::open(rpc.clone(), Identity::generate()?, path).await?;
    let mut chats = Chats::open(account, "phone")?;
    chats.supply().await?;
    Ok(chats)
}

/// The code that one screen shows and the other reads.
async fn second_device(
    rpc: &RpcClient,
    first: &mut Chats,
    path: &Path,
    group: GroupId,
) -> Result<Chats, Failure> {
    let link = NewDeviceLink::begin(rpc.clone(), path, "laptop").await?;
    let code = link.code().clone();
    let other = tokio::spawn(link.finish(Lock::Exposed, LIMIT));
    let offer = first.find_device(&code).await?;
    first.link(offer, LIMIT).await?;
    let (mut laptop, _) = other.await??;
    while !laptop.groups().device().groups().contains(&group) {
        // The chain takes changes of one group with a pause between them.
        tokio::time::sleep(Duration::from_millis(500)).await;
        first.flush(group).await?;
        laptop.follow_devices().await?;
    }
    Ok(laptop)
}

async fn texts(chats: &mut Chats, group: GroupId) -> Result<Vec<String>, Failure> {
    chats.receive(group, 0).await?;
    let transcript = chats.transcript(group)?;
    let words = transcript.messages().filter_map(|said| match &said.words {
        Words::Text(text) => Some(text.clone()),
        Words::File(..) | Words::Unknown(_) => None,
    });
    Ok(words.collect())
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let node = session_fixture::ThrowawayNode::start().await?;
    let rpc = RpcClient::new(&node.url(), None)?;
    let mut phones = Vec::new();
    for name in NAMES {
        phones.push(person(&rpc, &directory.path().join(name)).await?);
    }
    let people: Vec<_> = phones
        .iter()
        .skip(1)
        .map(|phone| phone.account().id())
        .collect();
    let alice = phones.first_mut().ok_or("nobody")?;
    let me = alice.account().id();
    let mut policy = Policy::new(alice.account().chain(), me);
    "five people".clone_into(&mut policy.name);
    let group = alice.create(NewGroup::open(policy), &people).await?;
    for phone in phones.iter_mut().skip(1) {
        // They know Alice: what she invites to is joined.
        phone.account_mut().welcome(me)?;
        phone.read_mail(Some(me)).await?;
        phone.enter().await?;
    }

    let mut laptops = Vec::new();
    for (name, phone) in NAMES.iter().zip(&mut phones).take(3) {
        let path = directory.path().join(format!("{name}-laptop"));
        laptops.push(second_device(&rpc, phone, &path, group).await?);
        println!("{name} has linked a laptop");
    }
    let mut devices: Vec<Chats> = phones.into_iter().chain(laptops).collect();
    println!("{} devices of {} accounts", devices.len(), NAMES.len());

    let mut said = Vec::new();
    for (number, device) in devices.iter_mut().enumerate() {
        // What is said before somebody has seen a newcomer is not sealed for it.
        device.receive(group, 0).await?;
        let text = format!("device {number} speaks");
        device.say(group, &[Content::Text(text.clone())]).await?;
        said.push(text);
    }
    for device in &mut devices {
        if texts(device, group).await? != said {
            return Err("a device did not hear everything in its order".into());
        }
    }
    println!(
        "each has heard all {} messages, its own among them, in one order",
        said.len()
    );

    // Alice's laptop is stolen. Her phone puts it out of everything.
    let mut stolen = devices.remove(5);
    let lost = stolen.me()?;
    let alice = devices.first_mut().ok_or("nobody")?;
    while !alice.revoke_device(lost.device).await?.is_empty() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let secret = "without the stolen one";
    alice
        .say(group, &[Content::Text(secret.to_owned())])
        .await?;
    let heard = texts(&mut stolen, group).await?;
    if heard.iter().any(|text| text == secret) || heard.len() != said.len() {
        return Err("the stolen device reads on".into());
    }
    println!("the stolen laptop hears nothing more");
    Ok(())
}
