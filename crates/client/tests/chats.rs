//! Conversations as a messenger has them: begun by a name, kept over restarts, with ticks, requests,
//! files and further devices, over a real node.

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
use std::path::{Path, PathBuf};
use std::time::Duration;

use session_client::e2ee::{Content, GroupStatus, Policy};
use session_client::{
    Account, Chats, ClientError, Entered, GroupError, INVITATIONS_OF_ONE_MAX, IdentityFile, Lock,
    NewDeviceLink, NewGroup, RpcClient, Tick, Told, Words,
};
use session_core::ids::{AccountId, GroupId};
use session_crypto::KdfCost;
use session_fixture::ThrowawayNode;
use support::{Proxy, account, same};

struct World {
    directory: tempfile::TempDir,
    _node: ThrowawayNode,
    rpc: RpcClient,
}

impl World {
    async fn new() -> Self {
        let node = ThrowawayNode::start().await.unwrap();
        let rpc = RpcClient::new(&node.url(), None).unwrap();
        let directory = tempfile::tempdir().unwrap();
        Self {
            directory,
            _node: node,
            rpc,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Somebody whom others can bring into groups.
    async fn person(&self, name: &str) -> Chats {
        let account = account(self.rpc.clone(), &self.path(name)).await;
        let mut chats = Chats::open(account, "phone").unwrap();
        chats.supply().await.unwrap();
        chats
    }

    /// As after SIGKILL: nothing but the directory and the identity is left.
    async fn killed(&self, chats: Chats, name: &str) -> Chats {
        let identity = same(chats.account().identity());
        drop(chats);
        let opened = Account::open(self.rpc.clone(), identity, &self.path(name)).await;
        Chats::open(opened.unwrap(), "phone").unwrap()
    }
}

fn id(chats: &Chats) -> AccountId {
    chats.account().id()
}

fn text(words: &str) -> [Content; 1] {
    [Content::Text(words.to_owned())]
}

async fn say(chats: &mut Chats, group: GroupId, words: &str) {
    let (_, flushed) = chats.say(group, &text(words)).await.unwrap();
    assert_eq!(flushed.waiting, 0, "{flushed:?}");
}

/// What somebody sees, oldest first, after a look.
async fn reads(chats: &mut Chats, group: GroupId) -> Vec<String> {
    chats.receive(group, 0).await.unwrap();
    let transcript = chats.transcript(group).unwrap();
    let words = transcript.messages().map(|said| match &said.words {
        Words::Text(text) => text.clone(),
        Words::File(file, _) => format!("file {}", file.name),
        Words::Unknown(kind) => format!("kind {kind}"),
    });
    words.collect()
}

fn ticks(chats: &mut Chats, group: GroupId) -> Vec<Tick> {
    let others = chats.others(group).unwrap();
    let transcript = chats.transcript(group).unwrap();
    let own = transcript.messages().filter(|said| transcript.is_own(said));
    own.map(|said| transcript.tick(said, &others)).collect()
}

/// Two people who know each other talk.
async fn pair(alice: &mut Chats, bob: &mut Chats) -> GroupId {
    let (a, b) = (id(alice), id(bob));
    bob.account_mut().welcome(a).unwrap();
    let group = alice.with(b).await.unwrap();
    bob.read_mail(None).await.unwrap();
    let joined = Entered::Joined { group, from: a };
    assert_eq!(bob.enter().await.unwrap(), [joined]);
    group
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_a_node_keeps_back_waits_and_is_followed_later() {
    let world = World::new().await;
    let mut alice = world.person("alice").await;
    let proxy = Proxy::before(world.rpc.clone()).await;
    let account = account(proxy.client(), &world.path("bob")).await;
    let mut bob = Chats::open(account, "phone").unwrap();
    bob.supply().await.unwrap();
    let a = id(&alice);
    bob.account_mut().welcome(a).unwrap();
    let group = alice.with(id(&bob)).await.unwrap();
    bob.read_mail(None).await.unwrap();
    proxy.lie(|method, result| {
        if method == "sessionvm.GetChunk" {
            result["bytes"] = serde_json::json!("AAAA");
        }
    });
    for _ in 0..2 {
        let entered = bob.enter().await.unwrap();
        assert!(
            matches!(&entered[..], [Entered::NotYet { group: to, from, .. }] if (*to, *from) == (group, a)),
            "{entered:?}"
        );
    }
    // What a proof contradicts ends the call, and the invitation waits as well.
    proxy.lie(|method, result| {
        if method == "sessionvm.GetGroup" {
            result["proof"] = serde_json::json!("AAAA");
        }
    });
    assert!(matches!(bob.enter().await, Err(ClientError::Trust(_))));
    proxy.be_honest();
    let joined = Entered::Joined { group, from: a };
    assert_eq!(bob.enter().await.unwrap(), [joined]);
    say(&mut alice, group, "at last").await;
    assert_eq!(reads(&mut bob, group).await, ["at last"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_talk_and_what_was_said_and_its_ticks_outlive_both_programs() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let group = pair(&mut alice, &mut bob).await;
    // There is one conversation with somebody, whoever asks for it.
    let (a, b) = (id(&alice), id(&bob));
    assert_eq!(alice.with(b).await.unwrap(), group);
    assert_eq!(bob.with(a).await.unwrap(), group);
    say(&mut alice, group, "hello bob").await;
    assert_eq!(ticks(&mut alice, group), [Tick::Accepted]);
    assert_eq!(reads(&mut bob, group).await, ["hello bob"]);
    assert_eq!(bob.glance(group).unwrap().unread, 1);
    assert!(bob.tell(group, Told::Delivered).unwrap());
    bob.flush(group).await.unwrap();
    assert!(
        !bob.tell(group, Told::Delivered).unwrap(),
        "it is told once"
    );
    reads(&mut alice, group).await;
    assert_eq!(ticks(&mut alice, group), [Tick::Delivered]);
    let mut bob = world.killed(bob, "bob").await;
    assert_eq!(bob.glance(group).unwrap().unread, 1);
    assert!(bob.tell(group, Told::Read).unwrap());
    bob.flush(group).await.unwrap();
    assert_eq!(bob.glance(group).unwrap().unread, 0);
    let mut alice = world.killed(alice, "alice").await;
    assert_eq!(reads(&mut alice, group).await, ["hello bob"]);
    assert_eq!(ticks(&mut alice, group), [Tick::Read]);
    // A receipt is no message that would be answered with a receipt.
    assert!(!alice.tell(group, Told::Read).unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_before_a_kill_is_there_once_and_goes_out_after_it() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let group = pair(&mut alice, &mut bob).await;
    // Durable in the device, and killed before it was written down.
    alice.groups_mut().keep(group, &text("one")).unwrap();
    let mut alice = world.killed(alice, "alice").await;
    // Written down, and killed before it was sent.
    alice.keep(group, &text("two")).unwrap();
    let mut alice = world.killed(alice, "alice").await;
    let transcript = alice.transcript(group).unwrap();
    assert_eq!(transcript.messages().count(), 2);
    // Sent, and killed before the log was seen.
    alice.keep(group, &text("three")).unwrap();
    alice.groups_mut().flush(group).await.unwrap();
    let mut alice = world.killed(alice, "alice").await;
    assert_eq!(reads(&mut alice, group).await, ["one", "two", "three"]);
    assert_eq!(ticks(&mut alice, group), [Tick::Accepted; 3]);
    // The other one is killed with events that were not written down.
    bob.groups_mut().receive(group).await.unwrap();
    let mut bob = world.killed(bob, "bob").await;
    assert_eq!(reads(&mut bob, group).await, ["one", "two", "three"]);
    let mut bob = world.killed(bob, "bob").await;
    assert_eq!(reads(&mut bob, group).await, ["one", "two", "three"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_both_begin_at_once_end_up_in_one_conversation() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let (a, b) = (id(&alice), id(&bob));
    let one = alice.with(b).await.unwrap();
    let other = bob.with(a).await.unwrap();
    assert_ne!(one, other);
    for (chats, peer) in [(&mut alice, b), (&mut bob, a)] {
        chats.read_mail(Some(peer)).await.unwrap();
        assert_eq!(chats.enter().await.unwrap().len(), 1);
        assert_eq!(chats.direct_with(peer).unwrap(), Some(one.min(other)));
        assert_eq!(chats.all_with(peer).unwrap().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_without_key_packages_cannot_be_reached_and_that_is_said() {
    let world = World::new().await;
    let mut alice = world.person("alice").await;
    let bob = account(world.rpc.clone(), &world.path("bob")).await;
    let failed = alice.with(bob.id()).await;
    let said = matches!(
        failed,
        Err(ClientError::Group(GroupError::NoKeyPackages(who))) if who == bob.id()
    );
    assert!(said, "{failed:?}");
    let own = id(&alice);
    let failed = alice.with(own).await;
    assert!(matches!(
        failed,
        Err(ClientError::Group(GroupError::WithOneself))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_invitation_is_a_request_until_it_is_answered() {
    let world = World::new().await;
    let (mut alice, mut eve) = (world.person("alice").await, world.person("eve").await);
    let (a, e) = (id(&alice), id(&eve));
    let group = eve.with(a).await.unwrap();
    let session = eve.account_mut().session_with(&[a]).await.unwrap().unwrap();
    eve.account_mut()
        .send_text(&session, "you do not know me")
        .await
        .unwrap();
    let (requests, _) = alice.requests().await.unwrap();
    assert_eq!(requests[&e].texts, ["you do not know me"]);
    assert_eq!(requests[&e].invitations.len(), 1);
    assert!(
        alice.enter().await.unwrap().is_empty(),
        "nothing is joined unasked"
    );
    let mut alice = world.killed(alice, "alice").await;
    assert_eq!(
        alice.requests().await.unwrap().0.len(),
        1,
        "it outlives the program"
    );
    let (_, entered) = alice.accept_request(e).await.unwrap();
    assert_eq!(entered, [Entered::Joined { group, from: e }]);
    assert!(alice.requests().await.unwrap().0.is_empty());

    // Somebody else is ignored, and asks again; then blocked.
    let mut mallory = world.person("mallory").await;
    let m = id(&mallory);
    mallory.with(a).await.unwrap();
    alice.requests().await.unwrap();
    assert_eq!(alice.ignore_request(m).await.unwrap(), 1);
    assert!(alice.requests().await.unwrap().0.is_empty());
    let session = mallory.account_mut().create_session(a).await.unwrap();
    mallory
        .account_mut()
        .send_text(&session, "again")
        .await
        .unwrap();
    assert_eq!(alice.requests().await.unwrap().0[&m].texts, ["again"]);
    alice.account_mut().block(m).unwrap();
    mallory
        .account_mut()
        .send_text(&session, "and again")
        .await
        .unwrap();
    let (requests, mail) = alice.requests().await.unwrap();
    assert!(requests.is_empty() && mail.is_empty());
    let lines = alice.account().history().lines().unwrap();
    assert!(
        lines.iter().all(|line| line.text != "and again"),
        "it is not even read"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_does_not_fill_anothers_disk_with_invitations() {
    let world = World::new().await;
    let (mut alice, mut eve) = (world.person("alice").await, world.person("eve").await);
    let a = id(&alice);
    let session = eve.account_mut().create_session(a).await.unwrap();
    for n in 0..INVITATIONS_OF_ONE_MAX + 4 {
        // A new epoch each time makes each another invitation: what they lead to nobody looks at yet.
        let mut other = world.person(&format!("friend-{n}")).await;
        let o = id(&other);
        let group = eve.with(o).await.unwrap();
        other.account_mut().welcome(id(&eve)).unwrap();
        other.read_mail(None).await.unwrap();
        let code = other.account().invitations().unwrap()[0].code.clone();
        assert_eq!(
            other.account().invitations().unwrap()[0]
                .code()
                .unwrap()
                .group,
            group
        );
        eve.account_mut()
            .send_invitation(&session, &code.parse().unwrap())
            .await
            .unwrap();
    }
    alice.read_mail(None).await.unwrap();
    let held = alice.account().invitations().unwrap();
    assert_eq!(held.len(), INVITATIONS_OF_ONE_MAX);
    alice.account_mut().welcome(id(&eve)).unwrap();
    // None of them is for Alice, and all of them go.
    assert!(alice.enter().await.unwrap().is_empty());
    assert!(alice.account().invitations().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_group_with_the_same_people_is_made_on_the_same_day() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let first = pair(&mut alice, &mut bob).await;
    for name in ["one", "two"] {
        let mut policy = Policy::new(alice.account().chain(), id(&alice));
        name.clone_into(&mut policy.name);
        let group = alice
            .create(NewGroup::open(policy), &[id(&bob)])
            .await
            .unwrap();
        bob.read_mail(None).await.unwrap();
        let from = id(&alice);
        assert_eq!(
            bob.enter().await.unwrap(),
            [Entered::Joined { group, from }]
        );
        say(&mut alice, group, name).await;
        assert_eq!(reads(&mut bob, group).await, [name]);
    }
    assert!(reads(&mut bob, first).await.is_empty());
    let names: BTreeSet<String> = bob.list().unwrap().into_iter().map(|g| g.name).collect();
    assert_eq!(names, BTreeSet::from(["", "one", "two"].map(str::to_owned)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_to_leave_is_removed_by_whoever_may_and_not_twice() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let policy = Policy::new(alice.account().chain(), id(&alice));
    bob.account_mut().welcome(id(&alice)).unwrap();
    let group = alice
        .create(NewGroup::open(policy), &[id(&bob)])
        .await
        .unwrap();
    bob.read_mail(None).await.unwrap();
    bob.enter().await.unwrap();
    let leave = Content::Leave {
        whole_account: true,
    };
    bob.say(group, &[leave]).await.unwrap();
    // Sending reads the log as well; what was read there is not forgotten.
    say(&mut alice, group, "goodbye").await;
    assert_eq!(alice.others(group).unwrap().len(), 1);
    alice.receive(group, 0).await.unwrap();
    assert!(alice.others(group).unwrap().is_empty());
    bob.receive(group, 0).await.unwrap();
    assert_eq!(
        bob.groups().device().status(group).unwrap(),
        GroupStatus::Removed
    );
    let epoch = alice.groups().device().epoch(group).unwrap();
    alice.receive(group, 0).await.unwrap();
    assert_eq!(alice.groups().device().epoch(group).unwrap(), epoch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_silent_for_three_weeks_is_removed_by_whoever_may() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let policy = Policy::new(alice.account().chain(), id(&alice));
    bob.account_mut().welcome(id(&alice)).unwrap();
    let group = alice
        .create(NewGroup::open(policy), &[id(&bob)])
        .await
        .unwrap();
    bob.read_mail(None).await.unwrap();
    bob.enter().await.unwrap();
    say(&mut bob, group, "my last words").await;
    reads(&mut alice, group).await;
    let heard = alice
        .members(group)
        .unwrap()
        .iter()
        .map(|m| m.heard_of_ms)
        .max()
        .unwrap();
    let day = session_core::time::DAY_MS;
    alice.tick_at(heard + 21 * day - 1).await.unwrap();
    assert_eq!(alice.others(group).unwrap().len(), 1);
    // Bob may not remove Alice, however silent she is.
    bob.tick_at(heard + 60 * day).await.unwrap();
    assert_eq!(bob.others(group).unwrap().len(), 1);
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let mut at_ms = heard + 22 * day;
    while !alice.others(group).unwrap().is_empty() {
        alice.tick_at(at_ms).await.unwrap();
        alice.flush(group).await.unwrap();
        at_ms += 2 * session_core::time::HOUR_MS;
        assert!(std::time::Instant::now() < deadline, "he is not removed");
    }
    bob.receive(group, 0).await.unwrap();
    assert_eq!(
        bob.groups().device().status(group).unwrap(),
        GroupStatus::Removed
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_goes_over_in_pieces_and_a_cut_download_goes_on() {
    let world = World::new().await;
    let proxy = Proxy::before(world.rpc.clone()).await;
    let mut alice = world.person("alice").await;
    let through = RpcClient::new(&proxy.address, None).unwrap();
    let bob = account(through, &world.path("bob")).await;
    let mut bob = Chats::open(bob, "phone").unwrap();
    bob.supply().await.unwrap();
    let group = pair(&mut alice, &mut bob).await;
    let content: Vec<u8> = (0..400_000_u32)
        .flat_map(|n| (n as u16).to_be_bytes())
        .collect();
    let sent = alice
        .send_file(group, "photo.jpg", &content, "see", |_, _| {})
        .await;
    assert_eq!(sent.unwrap().1.waiting, 0);
    assert_eq!(reads(&mut bob, group).await, ["file photo.jpg"]);
    let file = {
        let transcript = bob.transcript(group).unwrap();
        let said = transcript.messages().next().unwrap();
        let Words::File(file, text) = &said.words else {
            panic!("not a file");
        };
        assert_eq!(text, "see");
        (**file).clone()
    };
    let pieces = std::cell::Cell::new(0);
    let mode = proxy.mode.clone();
    let into = world.path("saved");
    let cut = bob.save_file(&file, &into, |_, _| {
        pieces.set(pieces.get() + 1);
        if pieces.get() == 5 {
            mode.store(support::DOWN, std::sync::atomic::Ordering::SeqCst);
        }
    });
    assert!(matches!(cut.await, Err(ClientError::Rpc(_))));
    assert!(!into.exists(), "half a file is no file");
    proxy
        .mode
        .store(support::HONEST, std::sync::atomic::Ordering::SeqCst);
    // What was fetched is not asked for again, and the rest is judged as ever.
    let asked = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = asked.clone();
    *proxy.tamper.lock().unwrap() = Some(Box::new(move |method, _| {
        if method == "sessionvm.GetChunk" {
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        }
    }));
    let path = bob.save_file(&file, &into, |_, _| {}).await.unwrap();
    let all = file.chunks.len();
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), all - 5);
    assert_eq!(std::fs::read(&path).unwrap(), content);
    // A second one does not replace the first.
    *proxy.tamper.lock().unwrap() = None;
    let second = bob.save_file(&file, &into, |_, _| {}).await.unwrap();
    assert_eq!(second.file_name().unwrap(), "photo (2).jpg");
    let hidden = alice.send_file(group, "../x", b"", "", |_, _| {}).await;
    assert!(matches!(hidden, Err(ClientError::FileName(_))));
}

/// A further device of an account, linked by its code.
async fn linked(world: &World, chats: &mut Chats, name: &str) -> Chats {
    let dir = world.path(name);
    let link = NewDeviceLink::begin(world.rpc.clone(), &dir, name)
        .await
        .unwrap();
    let code = link.code().clone();
    let limit = Duration::from_secs(60);
    let new = tokio::spawn(link.finish(Lock::Exposed, limit));
    let offer = chats.find_device(&code).await.unwrap();
    assert_eq!(offer.name(), name);
    let linked = chats.link(offer, limit).await.unwrap();
    assert!(
        linked.without.is_empty() && linked.waiting.is_empty(),
        "{linked:?}"
    );
    let (new, unlike) = new.await.unwrap().unwrap();
    assert!(unlike.is_empty());
    new
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_device_takes_part_in_everything_and_a_stolen_one_in_nothing_more() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let group = pair(&mut alice, &mut bob).await;
    say(&mut alice, group, "before the laptop").await;
    alice
        .account_mut()
        .add_contact("bob", id(&bob))
        .await
        .unwrap();
    let mut laptop = linked(&world, &mut alice, "laptop").await;
    assert_eq!(laptop.me().unwrap().account, id(&alice));
    assert!(laptop.account().state().contacts.contains_key("bob"));
    assert!(
        laptop.account().identity().seed().is_none(),
        "the 24 words stay where they are"
    );
    let joined = laptop.follow_devices().await.unwrap();
    assert_eq!(
        joined,
        [Entered::Joined {
            group,
            from: id(&alice)
        }]
    );
    assert!(laptop.follow_devices().await.unwrap().is_empty(), "once");
    // Whatever a device says, the other one and the other person see.
    say(&mut laptop, group, "from the laptop").await;
    assert_eq!(
        reads(&mut bob, group).await,
        ["before the laptop", "from the laptop"]
    );
    assert_eq!(
        reads(&mut alice, group).await,
        ["before the laptop", "from the laptop"]
    );
    let transcript = alice.transcript(group).unwrap();
    assert!(transcript.messages().all(|said| transcript.is_own(said)));
    // A conversation that begins later has both.
    let mut carol = world.person("carol").await;
    carol.account_mut().welcome(id(&alice)).unwrap();
    let later = alice.with(id(&carol)).await.unwrap();
    assert_eq!(laptop.follow_devices().await.unwrap().len(), 1);
    carol.read_mail(None).await.unwrap();
    carol.enter().await.unwrap();
    say(&mut carol, later, "to both").await;
    assert_eq!(reads(&mut laptop, later).await, ["to both"]);
    // What one device has read is read on the other.
    assert!(laptop.tell(later, Told::Read).unwrap());
    laptop.flush(later).await.unwrap();
    reads(&mut alice, later).await;
    assert_eq!(alice.glance(later).unwrap().unread, 0);

    let stolen = laptop.me().unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while !alice.revoke_device(stolen.device).await.unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "it is still there");
        tokio::task::yield_now().await;
    }
    carol.receive(later, 0).await.unwrap();
    assert!(
        carol
            .members(later)
            .unwrap()
            .iter()
            .all(|m| m.member != stolen)
    );
    say(&mut carol, later, "not for thieves").await;
    assert!(
        !reads(&mut laptop, later)
            .await
            .contains(&"not for thieves".to_owned())
    );
    let status = laptop.groups().device().status(later).unwrap();
    assert_eq!(status, GroupStatus::Removed);
    let published = alice.groups_mut().published(stolen.account).await.unwrap();
    assert_eq!(published.devices.len(), 1, "nobody brings it in again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_needs_the_code_and_an_empty_home() {
    let world = World::new().await;
    let mut alice = world.person("alice").await;
    let link = NewDeviceLink::begin(world.rpc.clone(), &world.path("laptop"), "laptop").await;
    let link = link.unwrap();
    let other = session_client::e2ee::link::LinkCode::generate(
        &mut session_client::e2ee::Randomness::system(),
    );
    let found = alice.find_device(&other.unwrap()).await.map(drop);
    assert!(
        matches!(found, Err(ClientError::Group(GroupError::NotAnswered))),
        "{found:?}"
    );
    // Nobody answers: it ends, and can be begun again.
    let ended = link
        .finish(Lock::Exposed, Duration::from_millis(1))
        .await
        .map(drop);
    assert!(
        matches!(ended, Err(ClientError::Group(GroupError::NotAnswered))),
        "{ended:?}"
    );
    assert_eq!(IdentityFile::is_sealed(&world.path("laptop")), None);
    let mut laptop = linked(&world, &mut alice, "laptop").await;
    assert!(laptop.list().unwrap().len() == 1);
    drop(laptop);
    let again = NewDeviceLink::begin(world.rpc.clone(), &world.path("laptop"), "laptop").await;
    assert!(matches!(
        again.map(drop),
        Err(ClientError::Group(GroupError::HasIdentity(_)))
    ));
}

/// An account in a file, so that its keys can rotate.
async fn rotating(world: &World, name: &str) -> Chats {
    let dir: &Path = &world.path(name);
    let file = IdentityFile::new(
        dir,
        Lock::Passphrase("pass".to_owned().into(), KdfCost::INSECURE_FOR_TESTS),
    );
    let file = file.unwrap();
    file.save(&session_crypto::Identity::generate().unwrap())
        .unwrap();
    let account = Account::open_file(world.rpc.clone(), file, dir)
        .await
        .unwrap();
    let mut chats = Chats::open(account, "phone").unwrap();
    chats.supply().await.unwrap();
    chats
}

#[tokio::test(flavor = "multi_thread")]
async fn other_keys_and_new_devices_are_told_until_they_were_compared() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.person("alice").await, rotating(&world, "bob").await);
    let group = pair(&mut alice, &mut bob).await;
    let b = id(&bob);
    let standing = alice.safety(group).await.unwrap().remove(0);
    assert!(!standing.is_alarming() && !standing.is_confirmed);
    assert_eq!(
        standing.fingerprint,
        session_client::fingerprint(bob.account().identity().public())
    );
    alice.confirm(group, b).await.unwrap();
    assert!(alice.safety(group).await.unwrap()[0].is_confirmed);
    assert!(alice.account().is_confirmed(&b));

    bob.account_mut().rotate().await.unwrap();
    for _ in 0..2 {
        let standing = alice.safety(group).await.unwrap().remove(0);
        assert!(standing.is_alarming() && !standing.is_confirmed);
        let how = standing.keys_changed.unwrap();
        assert_eq!(how, session_client::KeyChange::SignedByPrevious);
    }
    alice.confirm(group, b).await.unwrap();
    assert!(!alice.safety(group).await.unwrap()[0].is_alarming());

    let mut laptop = linked(&world, &mut bob, "laptop").await;
    laptop.follow_devices().await.unwrap();
    alice.receive(group, 0).await.unwrap();
    let standing = alice.safety(group).await.unwrap().remove(0);
    assert_eq!(standing.new_devices, [laptop.me().unwrap().device]);
    assert!(!standing.is_confirmed);
    alice.acknowledge_change(group, b).await.unwrap();
    let standing = alice.safety(group).await.unwrap().remove(0);
    assert!(!standing.is_alarming() && !standing.is_confirmed);
}

#[tokio::test(flavor = "multi_thread")]
async fn words_that_disappear_are_gone_on_both_sides_at_their_time() {
    let world = World::new().await;
    let (mut alice, mut bob) = (world.person("alice").await, world.person("bob").await);
    let group = pair(&mut alice, &mut bob).await;
    let timer = |policy: &mut Policy| policy.disappear_after_s = 1;
    alice
        .groups_mut()
        .change_policy(group, timer)
        .await
        .unwrap();
    say(&mut alice, group, "not for long").await;
    assert_eq!(reads(&mut bob, group).await, ["not for long"]);
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    for chats in [&mut alice, &mut bob] {
        loop {
            chats.tick().await.unwrap();
            let transcript = chats.transcript(group).unwrap();
            if transcript.messages().all(|said| said.gone.is_some()) {
                break;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "it does not disappear"
            );
            tokio::task::yield_now().await;
        }
    }
    let mut bob = world.killed(bob, "bob").await;
    assert_eq!(reads(&mut bob, group).await, [""]);
}
