//! A device takes another signature key, over a real node.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use session_client::e2ee::{Content, EventKind, MemberDevice, Policy};
use session_client::{
    Account, Chats, Entered, IdentityFile, Line, Lock, NewDeviceLink, NewGroup, RpcClient, Words,
};
use session_core::ids::{GroupId, KeyPackageId};
use session_fixture::ThrowawayNode;
use support::account;

const LIMIT: Duration = Duration::from_secs(60);

async fn person(rpc: &RpcClient, path: &std::path::Path) -> Chats {
    let mut chats = Chats::open(account(rpc.clone(), path).await, "phone").unwrap();
    chats.supply().await.unwrap();
    chats
}

/// The chain wants pauses between the changes of a group.
async fn spread(chats: &mut Chats) {
    let began = Instant::now();
    while !chats.spread_key().await.unwrap().is_empty() {
        assert!(began.elapsed() < LIMIT, "the key does not come through");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn say(chats: &mut Chats, group: GroupId, words: &str) {
    let said = chats.say(group, &[Content::Text(words.to_owned())]).await;
    let (_, flushed) = said.unwrap();
    assert_eq!(flushed.waiting, 0, "{flushed:?}");
}

/// The texts that somebody sees, and devices that were told to have another key.
async fn sees(chats: &mut Chats, group: GroupId) -> (Vec<String>, Vec<MemberDevice>) {
    chats.receive(group, 0).await.unwrap();
    let (mut texts, mut renewed) = (Vec::new(), Vec::new());
    let transcript = chats.transcript(group).unwrap();
    for line in transcript.lines() {
        if let Line::Notice(kind, _) = line
            && let EventKind::KeyRenewed { device } = **kind
        {
            renewed.push(device);
        }
    }
    for said in transcript.messages() {
        if let Words::Text(text) = &said.words {
            texts.push(text.clone());
        }
    }
    (texts, renewed)
}

/// Ids of the key packages that this device has published.
async fn packages(chats: &mut Chats) -> BTreeSet<KeyPackageId> {
    let (device, id) = (chats.me().unwrap().device, chats.account().id());
    let published = chats.groups_mut().published(id).await.unwrap();
    let of = published
        .devices
        .into_iter()
        .find(|found| found.id.as_bytes().starts_with(device.as_bytes()));
    of.unwrap().packages().map(|package| package.id).collect()
}

/// A linked device has the account's signing key and not the 24 words: it is enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_linked_device_takes_another_key_and_those_it_talks_with_are_told() {
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let base = tempfile::tempdir().unwrap();
    let path = |name: &str| base.path().join(name);
    let mut alice = person(&rpc, &path("alice")).await;
    let mut bob = person(&rpc, &path("bob")).await;
    let (a, b) = (alice.account().id(), bob.account().id());
    bob.account_mut().welcome(a).unwrap();
    let group = alice.with(b).await.unwrap();
    bob.read_mail(None).await.unwrap();
    let joined = Entered::Joined { group, from: a };
    assert_eq!(bob.enter().await.unwrap(), [joined]);

    let link = NewDeviceLink::begin(rpc.clone(), &path("laptop"), "laptop").await;
    let link = link.unwrap();
    let code = link.code().clone();
    let new = tokio::spawn(link.finish(Lock::Exposed, LIMIT));
    let offer = alice.find_device(&code).await.unwrap();
    alice.link(offer, LIMIT).await.unwrap();
    let (mut laptop, _) = new.await.unwrap().unwrap();
    laptop.follow_devices().await.unwrap();
    say(&mut laptop, group, "by the first key").await;
    assert_eq!(sees(&mut bob, group).await.0, ["by the first key"]);

    let before = packages(&mut laptop).await;
    laptop.renew_key().unwrap();
    assert_eq!(laptop.groups().device().former_keys(), 1);
    // The program is killed; the key is there, and goes on from where it was.
    drop(laptop);
    let file = IdentityFile::new(&path("laptop"), Lock::Exposed).unwrap();
    let opened = Account::open_file(rpc.clone(), file, &path("laptop")).await;
    let mut laptop = Chats::open(opened.unwrap(), "laptop").unwrap();
    assert!(laptop.groups().device().awaits_key(group).unwrap());
    spread(&mut laptop).await;
    assert!(!laptop.groups().device().awaits_key(group).unwrap());
    say(&mut laptop, group, "by the second").await;
    let device = laptop.me().unwrap();
    for chats in [&mut bob, &mut alice] {
        let (texts, renewed) = sees(chats, group).await;
        assert_eq!(texts, ["by the first key", "by the second"]);
        assert_eq!(renewed, [device]);
    }
    let after = packages(&mut laptop).await;
    assert!(after.len() > 1);
    assert!(after.is_disjoint(&before), "those of before are replaced");
    // Somebody brings it into another group by the new ones.
    let chain = bob.account().chain();
    let new = NewGroup::new(Policy::new(chain, b));
    let crew = bob.create(new, &[a]).await.unwrap();
    laptop.account_mut().welcome(b).unwrap();
    laptop.read_mail(None).await.unwrap();
    laptop.enter().await.unwrap();
    let found = bob.members(crew).unwrap();
    assert!(found.iter().any(|found| found.member == device));
}
