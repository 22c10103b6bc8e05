//! Conversations with forward secrecy between accounts and a real node: joined, held, cut short,
//! and looked at by a node that leaves something out.

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
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use session_client::e2ee::{
    AccountState, Content, Directory, Event, EventKind, GroupStatus, LogEntry, LogPlace,
    OutgoingKind, Policy, Role,
};
use session_client::{
    Account, ClientError, GroupError, Groups, IdentityFile, Lock, NewGroup, RpcClient,
};
use session_core::group::Mode;
use session_core::ids::AccountId;
use session_crypto::Identity;
use session_fixture::ThrowawayNode;
use support::group::{
    flush_all, hand_over, in_a_week, line, owned_by, person, read, restarted, shown, texts,
    together,
};
use support::{Proxy, account};

fn pair(one: &Groups, other: &Groups) -> Policy {
    let chain = one.account().chain();
    Policy::between(chain, one.account().id(), other.account().id())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_speak_and_somebody_else_pays() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let mut sponsor = account(rpc.clone(), &path("sponsor")).await;
    let package = line(&mut bob);
    let new = NewGroup::open(pair(&alice, &bob));
    let made = alice
        .create(new.clone(), &[package], Some(&mut sponsor))
        .await;
    let group = made.unwrap();
    let params = json!({ "groupId": group });
    let reply: Value = rpc.call("sessionvm.GetGroup", params).await.unwrap();
    assert_eq!(reply["group"]["sponsor"], json!(sponsor.id()));
    // It is there: going on from an interruption changes nothing.
    alice.put_on_chain(group, &new, None).await.unwrap();
    let invited = alice.invitations(group).await.unwrap().remove(0);
    assert_eq!(invited.to[0].account, bob.account().id());
    // Whoever is not invited cannot use the line.
    let mut eve = person(rpc, &path("eve")).await;
    eve.key_package(in_a_week()).unwrap();
    assert!(matches!(
        eve.join(&invited.code).await,
        Err(ClientError::E2ee(_))
    ));
    bob.join(&invited.code).await.unwrap();
    alice.handed_over(invited.number).unwrap();
    assert!(alice.invitations(group).await.unwrap().is_empty());
    let sent = alice.say(group, "see you at nine").await.unwrap();
    assert_eq!((sent.accepted, sent.waiting), (1, 0));
    assert_eq!(read(&mut bob, group).await, ["see you at nine"]);
    bob.say(group, "make it ten").await.unwrap();
    assert_eq!(read(&mut alice, group).await, ["make it ten"]);
    assert_eq!(
        alice.safety_number(group).unwrap().to_string(),
        bob.safety_number(group).unwrap().to_string()
    );
    // New keys, and the conversation goes on under them.
    bob.rotate(group).await.unwrap();
    assert_eq!(bob.device().epoch(group).unwrap(), 2);
    alice.say(group, "under new keys").await.unwrap();
    // A conversation may be held by a task of its own.
    let task = tokio::spawn(async move {
        let texts = read(&mut bob, group).await;
        bob.say(group, "from a task").await.unwrap();
        texts
    });
    assert_eq!(task.await.unwrap(), ["under new keys"]);
    assert_eq!(read(&mut alice, group).await, ["from a task"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_late_joins_the_first_epoch_after_it_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let package = line(&mut bob);
    let new = NewGroup::open(pair(&alice, &bob));
    let group = alice.create(new, &[package], None).await.unwrap();
    let invited = alice.invitations(group).await.unwrap().remove(0);
    alice.say(group, "before").await.unwrap();
    // Carol comes in by the group's first commit.
    let mut carol = person(rpc, &path("carol")).await;
    let package = line(&mut carol);
    let added = alice.add(group, &[package]).await.unwrap();
    assert_eq!((added.accepted, added.waiting), (1, 0));
    alice.say(group, "after").await.unwrap();
    bob.join(&invited.code).await.unwrap();
    assert_eq!(bob.device().epoch(group).unwrap(), 1);
    assert_eq!(read(&mut bob, group).await, ["before", "after"]);
    assert_eq!(bob.device().epoch(group).unwrap(), 2);
    // Of both invitations the first waits still: it was not said to be handed over.
    let both = alice.invitations(group).await.unwrap();
    assert_eq!(both.len(), 2);
    carol.join(&both[1].code).await.unwrap();
    assert_eq!(read(&mut carol, group).await, ["after"]);
    carol.say(group, "me too").await.unwrap();
    assert_eq!(read(&mut alice, group).await, ["me too"]);
    assert_eq!(read(&mut bob, group).await, ["me too"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_published_key_packages_is_invited_without_being_asked() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(rpc, &path("bob")).await;
    let (alice_id, bob_id) = (alice.account().id(), bob.account().id());
    let none = alice.take_key_packages(bob_id).await;
    let absent = matches!(
        none,
        Err(ClientError::Group(GroupError::NoKeyPackages(of))) if of == bob_id
    );
    assert!(absent, "{none:?}");
    bob.publish_key_packages(in_a_week()).await.unwrap();
    let taken = alice.take_key_packages(bob_id).await.unwrap();
    assert_eq!(taken.len(), 1);
    // The same for a day.
    assert_eq!(alice.take_key_packages(bob_id).await.unwrap(), taken);
    let new = NewGroup::open(pair(&alice, &bob));
    let group = alice.create(new, &taken, None).await.unwrap();
    let invited = alice.invitations(group).await.unwrap().remove(0);
    // The line goes to Bob sealed, by an ordinary session.
    let session = alice.account_mut().create_session(bob_id).await.unwrap();
    let line = invited.code.to_string();
    alice
        .account_mut()
        .send_text(&session, &line)
        .await
        .unwrap();
    alice.handed_over(invited.number).unwrap();
    let inbox = bob.account_mut().receive(&session).await.unwrap();
    bob.join(&inbox.texts()[0].parse().unwrap()).await.unwrap();
    alice.say(group, "welcome").await.unwrap();
    assert_eq!(read(&mut bob, group).await, ["welcome"]);
    let accounts = bob.members(group).unwrap().into_iter();
    let accounts: BTreeSet<_> = accounts.map(|found| found.member.account).collect();
    assert_eq!(accounts, BTreeSet::from([alice_id, bob_id]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_that_the_chain_calls_stale_is_sealed_again() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(proxy.client(), &path("bob")).await;
    let mut carol = person(rpc, &path("carol")).await;
    let policy = Policy::new(alice.account().chain(), alice.account().id());
    let group = together(
        &mut alice,
        &mut [&mut bob, &mut carol],
        NewGroup::open(policy),
    )
    .await;
    // What the node says of the log before a removal, and says once more after it, as one that is
    // behind would.
    let seen = Arc::new(Mutex::new(Value::Null));
    let kept = seen.clone();
    proxy.lie(move |method, reply| {
        if method == "sessionvm.GetMessages" {
            *kept.lock().unwrap() = reply.clone();
        }
    });
    bob.receive(group).await.unwrap();
    let gone = carol.device().member().unwrap();
    alice.remove(group, &[gone], false).await.unwrap();
    let stale = Arc::new(AtomicUsize::new(0));
    let (counted, mut replays) = (stale.clone(), 1);
    proxy.lie(move |method, reply| {
        if method == "sessionvm.GetMessages" && replays > 0 {
            replays -= 1;
            *reply = seen.lock().unwrap().clone();
        }
        if method == "sessionvm.Submit" && reply["results"][0]["code"] == json!(-32_019) {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let sent = bob.say(group, "still here").await.unwrap();
    assert_eq!(stale.load(Ordering::SeqCst), 1);
    assert_eq!(sent.waiting, 0, "{sent:?}");
    assert_eq!(read(&mut alice, group).await, ["still here"]);
    assert_eq!(bob.device().epoch(group).unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_only_admins_advance_a_group_the_commits_of_others_wait_for_one() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(rpc, &path("bob")).await;
    let package = line(&mut bob);
    let new = NewGroup {
        mode: Mode::AdminOnly,
        ..NewGroup::open(pair(&alice, &bob))
    };
    let group = alice.create(new, &[package], None).await.unwrap();
    let invited = alice.invitations(group).await.unwrap().remove(0);
    bob.join(&invited.code).await.unwrap();
    let waits = bob.rotate(group).await.unwrap();
    assert_eq!(waits.waiting, 1, "{waits:?}");
    assert!(waits.why.is_some());
    // Meanwhile he goes on speaking.
    bob.say(group, "soon").await.unwrap();
    assert_eq!(bob.device().epoch(group).unwrap(), 1);
    // An admin who reads what he asked signs it.
    assert_eq!(read(&mut alice, group).await, ["soon"]);
    assert_eq!(alice.device().epoch(group).unwrap(), 2);
    alice.say(group, "signed").await.unwrap();
    assert_eq!(read(&mut bob, group).await, ["signed"]);
    assert_eq!(bob.device().epoch(group).unwrap(), 2);
    // Rotations are due some day: not yet, and then for both.
    let due = alice.device().next_tick_ms().unwrap().unwrap();
    alice.tick(due - 1).await.unwrap();
    assert!(
        alice
            .device()
            .outbox()
            .unwrap()
            .iter()
            .all(|o| !matches!(o.kind, OutgoingKind::Commit(_)))
    );
    alice.tick(due).await.unwrap();
    assert!(
        alice
            .device()
            .outbox()
            .unwrap()
            .iter()
            .any(|o| matches!(o.kind, OutgoingKind::Commit(_)))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_rotates_keeps_its_conversations_and_old_keys_do_not_open_them() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let file = IdentityFile::new(&path("alice"), Lock::Exposed).unwrap();
    file.save(&Identity::generate().unwrap()).unwrap();
    let before = file.load().unwrap();
    let opened = Account::open_file(rpc.clone(), file.clone(), &path("alice")).await;
    let mut alice = Groups::open(opened.unwrap(), "phone").unwrap();
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let policy = pair(&alice, &bob);
    let group = together(&mut alice, &mut [&mut bob], NewGroup::open(policy)).await;
    let key = path("alice").join("e2ee.key");
    let opens = |identity: &Identity| {
        let sealed = std::fs::read(&key).unwrap();
        identity.open(identity.account_id(), &sealed).is_ok()
    };
    assert!(opens(&before));
    alice.account_mut().rotate().await.unwrap();
    assert!(!opens(&before));
    drop(alice);
    let opened = Account::open_file(rpc, file, &path("alice")).await.unwrap();
    let mut alice = Groups::open(opened, "phone").unwrap();
    // Her leaf is certified by an earlier key of hers: it stays, and others judge by the height.
    alice.say(group, "still me").await.unwrap();
    bob.rotate(group).await.unwrap();
    assert_eq!(read(&mut bob, group).await, ["still me"]);
    assert_eq!(read(&mut alice, group).await, [""; 0]);
    assert_eq!(alice.device().epoch(group).unwrap(), 2);
    bob.say(group, "good").await.unwrap();
    assert_eq!(read(&mut alice, group).await, ["good"]);
}

struct Nobody;

impl Directory for Nobody {
    fn account(&self, _: AccountId) -> Option<AccountState> {
        None
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_five_one_is_removed_and_cannot_read_what_comes_after() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let mut all = Vec::new();
    for name in ["alice", "bob", "carol", "dave", "erin"] {
        all.push(person(rpc.clone(), &directory.path().join(name)).await);
    }
    let policy = Policy::new(all[0].account().chain(), all[0].account().id());
    let (first, others) = all.split_first_mut().unwrap();
    let mut others: Vec<&mut Groups> = others.iter_mut().collect();
    let group = together(first, &mut others, NewGroup::open(policy)).await;
    for (place, person) in all.iter_mut().enumerate() {
        person.say(group, &place.to_string()).await.unwrap();
    }
    for (place, person) in all.iter_mut().enumerate() {
        let heard: BTreeSet<String> = read(person, group).await.into_iter().collect();
        let expected = (0..5).filter(|n| *n != place).map(|n| n.to_string());
        assert_eq!(heard, expected.collect());
    }
    // Only admins remove.
    let dave = all[3].device().member().unwrap();
    assert!(all[1].remove(group, &[dave], false).await.is_err());
    all[0].remove(group, &[dave], false).await.unwrap();
    all[0].say(group, "without him").await.unwrap();
    for place in [1, 2, 4] {
        assert_eq!(read(&mut all[place], group).await, ["without him"]);
        assert_eq!(all[place].members(group).unwrap().len(), 4);
    }
    // Dave has every key that he ever had, and reads the log without the commit that removed him.
    let params = json!({ "groupId": group, "from": 0, "limit": 100 });
    let reply: Value = rpc.call("sessionvm.GetMessages", params).await.unwrap();
    let entries = reply["messages"].as_array().unwrap();
    let commit = entries.iter().position(|entry| entry["kind"] == "advance");
    let after = &entries[commit.unwrap() + 1..];
    assert!(!after.is_empty());
    let mut tried = 0;
    for entry in after {
        let frame = const_hex::decode(entry["frame"].as_str().unwrap()).unwrap();
        for epoch in [1, 2] {
            let position = all[3].device().next_position(group).unwrap();
            let place = LogPlace {
                position,
                time_ms: 5,
            };
            let entry = LogEntry::Frame {
                epoch,
                frame: &frame,
            };
            let dave = all[3].device_mut();
            assert_eq!(dave.status(group).unwrap(), GroupStatus::Active);
            let events = dave.receive(group, place, entry, &Nobody).unwrap().events;
            assert!(
                matches!(
                    &events[..],
                    [Event {
                        kind: EventKind::Unreadable { .. },
                        ..
                    }]
                ),
                "{events:?}"
            );
            tried += 1;
        }
    }
    assert!(tried >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_commits_one_wins_and_no_message_is_lost() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(proxy.client(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let mut carol = person(rpc, &path("carol")).await;
    let mut policy = Policy::new(alice.account().chain(), alice.account().id());
    policy.roles.insert(bob.account().id(), Role::Admin);
    let group = together(
        &mut alice,
        &mut [&mut bob, &mut carol],
        NewGroup::open(policy),
    )
    .await;
    // Alice's commit and her words do not come through, and Bob's commit does.
    proxy.cut(Some(("sessionvm.Submit", false)));
    let cut = alice.rotate(group).await;
    assert!(matches!(cut, Err(ClientError::Waiting { .. })), "{cut:?}");
    alice
        .keep(group, &[Content::Text("from the old epoch".into())])
        .unwrap();
    let gone = carol.device().member().unwrap();
    bob.remove(group, &[gone], false).await.unwrap();
    bob.say(group, "from the new one").await.unwrap();
    assert_eq!(bob.device().epoch(group).unwrap(), 2);
    proxy.cut(None);
    // Hers is made anew on his, and her words, of an epoch that a removal ended, are sealed again.
    let sent = alice.flush(group).await.unwrap();
    assert_eq!(sent.waiting, 0, "{sent:?}");
    assert_eq!(alice.device().epoch(group).unwrap(), 3);
    assert_eq!(read(&mut alice, group).await, ["from the new one"]);
    assert_eq!(read(&mut bob, group).await, ["from the old epoch"]);
    assert_eq!(bob.device().epoch(group).unwrap(), 3);
    carol.receive(group).await.unwrap();
    assert_eq!(carol.device().status(group).unwrap(), GroupStatus::Removed);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_it_hears_of_its_message_a_client_goes_on_without_loss_or_doubles() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(proxy.client(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let policy = pair(&alice, &bob);
    let group = together(&mut alice, &mut [&mut bob], NewGroup::open(policy)).await;
    for (reaches, words) in [(true, "it came through"), (false, "it did not")] {
        proxy.cut(Some(("sessionvm.Submit", reaches)));
        let cut = alice.say(group, words).await;
        assert!(matches!(cut, Err(ClientError::Waiting { .. })), "{cut:?}");
        alice = restarted(alice, proxy.client(), &path("alice")).await;
        proxy.cut(None);
        assert_eq!(alice.flush(group).await.unwrap().waiting, 0);
        assert_eq!(alice.flush(group).await.unwrap(), Default::default());
        assert_eq!(read(&mut bob, group).await, [words]);
        let accepted = shown(&mut alice).into_iter();
        let accepted = accepted.filter(|event| matches!(event.kind, EventKind::Accepted { .. }));
        assert_eq!(accepted.count(), 1);
    }
    // What was read and not shown yet outlives its reader.
    alice.say(group, "for later").await.unwrap();
    bob.receive(group).await.unwrap();
    bob = restarted(bob, rpc.clone(), &path("bob")).await;
    assert_eq!(texts(&shown(&mut bob)), ["for later"]);
    bob = restarted(bob, rpc, &path("bob")).await;
    assert_eq!(texts(&shown(&mut bob)), [""; 0]);
    assert_eq!(read(&mut bob, group).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_out_changes_or_takes_back_entries_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc, &path("alice")).await;
    let mut bob = person(proxy.client(), &path("bob")).await;
    let policy = pair(&alice, &bob);
    let group = together(&mut alice, &mut [&mut bob], NewGroup::open(policy)).await;
    alice.say(group, "one").await.unwrap();
    alice.say(group, "two").await.unwrap();
    let lies: [fn(&mut Value); 4] = [
        // One is left out, and nobody shows it.
        |reply| drop(reply["messages"].as_array_mut().unwrap().remove(0)),
        // One stands where another was.
        |reply| reply["messages"][1] = reply["messages"][0].clone(),
        // One is said to be gone.
        |reply| reply["messages"][0]["pruned"] = json!(true),
        // There is no proof that fits.
        |reply| reply["proof"] = json!("AAAA"),
    ];
    for lie in lies {
        proxy.lie(move |method, reply| {
            if method == "sessionvm.GetMessages" {
                lie(reply);
            }
        });
        let told = bob.receive(group).await;
        assert!(
            matches!(told, Err(ClientError::Reply(_) | ClientError::Trust(_))),
            "{told:?}"
        );
        assert!(
            shown(&mut bob)
                .iter()
                .all(|e| !matches!(e.kind, EventKind::Message(_)))
        );
    }
    proxy.be_honest();
    assert_eq!(read(&mut bob, group).await, ["one", "two"]);
    // An invitation to a group that the chain does not show leads nowhere.
    let package = line(&mut bob);
    let policy = pair(&alice, &bob);
    let other = alice.create(NewGroup::open(policy), &[package], None).await;
    let invited = alice.invitations(other.unwrap()).await.unwrap().remove(0);
    proxy.lie(|method, reply| {
        if method == "sessionvm.GetGroup" {
            reply["group"]["controlKey"] = reply["group"]["postingKey"].clone();
        }
    });
    let told = bob.join(&invited.code).await;
    assert!(matches!(told, Err(ClientError::Reply(_))), "{told:?}");
    proxy.be_honest();
    bob.join(&invited.code).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_invitation_puts_what_changed_and_no_piece_can_be_kept_back_or_forged_unseen() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let to_alice = Proxy::before(rpc.clone()).await;
    let to_bob = Proxy::before(rpc.clone()).await;
    let mut alice = person(to_alice.client(), &path("alice")).await;
    let mut lines = Vec::new();
    for n in 0..8 {
        let mut other = person(rpc.clone(), &path(&format!("{n}"))).await;
        lines.push(line(&mut other));
    }
    let new = NewGroup::new(owned_by(&alice));
    let group = alice.create(new, &lines, None).await.unwrap();
    // A head, and three pieces: four leaves each, and one.
    let first = alice.invitations(group).await.unwrap().remove(0);
    assert_eq!(first.put, 4);
    // Asked again, only the head is put: it has another key each time.
    let again = alice.invitations(group).await.unwrap().remove(0);
    assert_eq!(again.put, 1);
    alice.handed_over(first.number).unwrap();
    let mut bob = person(to_bob.client(), &path("bob")).await;
    let package = line(&mut bob);
    alice.add(group, &[package]).await.unwrap();

    // A node that shows the proof of another chunk is not believed: the invitation is not given out.
    let other = Mutex::new(None);
    to_alice.lie(move |method, result| {
        if method == "sessionvm.GetProof" {
            let shown = result["proof"].take();
            result["proof"] = other.lock().unwrap().get_or_insert(shown).clone();
        }
    });
    let refused = alice.invitations(group).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains("the proof is about another record"), "{text}");
    to_alice.be_honest();
    let second = alice.invitations(group).await.unwrap().remove(0);
    assert_eq!(second.put, 2, "the piece with the tenth leaf, and the head");

    // What is fetched: the head, then the pieces.
    let asked: Arc<Mutex<Vec<Value>>> = Arc::default();
    let fetched = asked.clone();
    to_bob.lie(move |method, result| {
        if method == "sessionvm.GetChunk" {
            let mut fetched = fetched.lock().unwrap();
            fetched.push(result["chunkId"].clone());
            if fetched.len() > 1 {
                result["bytes"] = json!("AAAA");
            }
        }
    });
    let forged = bob.join(&second.code).await.unwrap_err().to_string();
    assert!(
        forged.contains("a chunk is not the one that was named"),
        "{forged}"
    );
    to_bob.be_honest();
    let piece = asked.lock().unwrap()[1].clone();
    *to_bob.hidden.lock().unwrap() = Some(piece);
    let gone = bob.join(&second.code).await.unwrap_err();
    assert!(
        matches!(gone, ClientError::Group(GroupError::PieceGone(_))),
        "{gone}"
    );
    *to_bob.hidden.lock().unwrap() = None;
    // Cut off in the middle, it begins again; nothing was lost on any of these ways.
    to_bob.cut(Some(("sessionvm.GetChunk", true)));
    assert!(bob.join(&second.code).await.is_err());
    to_bob.cut(None);
    let mut bob = restarted(bob, to_bob.client(), &path("bob")).await;
    bob.join(&second.code).await.unwrap();
    alice.say(group, "all here").await.unwrap();
    assert_eq!(read(&mut bob, group).await, ["all here"]);
    assert_eq!(bob.members(group).unwrap().len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_removed_and_invited_again_before_it_reads_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let path = |name: &str| directory.path().join(name);
    let mut alice = person(rpc.clone(), &path("alice")).await;
    let mut bob = person(rpc.clone(), &path("bob")).await;
    let new = NewGroup::open(owned_by(&alice));
    let group = together(&mut alice, &mut [&mut bob], new).await;
    alice.say(group, "while you were here").await.unwrap();
    let bob_is = bob.device().member().unwrap();
    alice.remove(group, &[bob_is], false).await.unwrap();
    flush_all(&mut alice, group).await;
    alice.say(group, "while you were out").await.unwrap();
    let package = line(&mut bob);
    alice.add(group, &[package]).await.unwrap();
    flush_all(&mut alice, group).await;
    hand_over(&mut alice, group, &mut [&mut bob]).await;
    alice.say(group, "back again").await.unwrap();
    let heard = read(&mut bob, group).await;
    assert_eq!(heard, ["while you were here", "back again"]);
}
