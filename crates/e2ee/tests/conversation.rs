//! Conversations from end to end, as people have them.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

use session_e2ee::{
    Authenticity, Content, EventKind, GroupStatus, Policy, Role, SignatureRule, Suite,
};
use world::client::{group_of, identities, settle};
use world::{Chain, Client};

#[test]
fn two_people_talk_and_nothing_is_signed() {
    for suite in [Suite::Classical, Suite::PostQuantum] {
        let (mut chain, mut clients, group) = group_of(2, suite, 1);
        clients[0].say(group, "hello", &chain).unwrap();
        clients[1].say(group, "hi", &chain).unwrap();
        settle(&mut clients, &mut chain);
        assert_eq!(clients[1].texts(group), ["hello"]);
        assert_eq!(clients[0].texts(group), ["hi"]);
        let message = clients[1].messages(group)[0];
        assert_eq!(message.authenticity, Authenticity::Deniable);
        assert_eq!(message.from, clients[0].member());
        // Two frames, and no signature.
        assert_eq!(chain.log(group).entries.len(), 2);
        let numbers: Vec<String> = clients
            .iter()
            .map(|client| client.device().safety_number(group).unwrap().to_string())
            .collect();
        assert_eq!(numbers[0], numbers[1]);
        assert_eq!(numbers[0].len(), 12 * 5 + 11);
    }
}

#[test]
fn in_a_group_messages_are_from_a_member_and_then_verified() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 2);
    for n in 0..4 {
        clients[1].say(group, &format!("{n}"), &chain).unwrap();
    }
    settle(&mut clients, &mut chain);
    let verified = |client: &world::Client| {
        let all = client.shown.iter();
        all.filter_map(|event| match &event.kind {
            EventKind::Verified(names) => Some(names.len()),
            _ => None,
        })
        .sum::<usize>()
    };
    assert_eq!(clients[2].texts(group), ["0", "1", "2", "3"]);
    // What comes after a silence is signed at once, the others within five seconds.
    assert_eq!(verified(&clients[2]), 1);
    let due = clients[1].device().next_tick_ms().unwrap().unwrap();
    assert_eq!(due, chain.now_ms.max(due).min(due));
    chain.tick(5_001);
    let now = chain.now_ms;
    let output = clients[1].dev().tick(now, &chain.directory()).unwrap();
    assert_eq!(output.outgoing.len(), 1);
    settle(&mut clients, &mut chain);
    assert_eq!(verified(&clients[2]), 4);
    assert_eq!(verified(&clients[0]), 4);
}

#[test]
fn what_is_said_after_a_silence_goes_out_with_its_signature() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 12);
    let text = |text: &str| Content::Text(text.to_owned());
    let mut say = |contents: &[Content], now: u64| {
        let device = clients[1].device.as_mut().unwrap();
        device.send(group, contents, now).unwrap().outgoing.len()
    };
    let minute = 60_000;
    assert_eq!(say(&[text("alone")], chain.tick(minute)), 2);
    assert_eq!(say(&[text("alone")], chain.tick(minute)), 2);
    let breath: Vec<Content> = (0..3).map(|n| text(&n.to_string())).collect();
    assert_eq!(
        say(&breath, chain.tick(minute)),
        4,
        "one signature over three"
    );
    assert_eq!(say(&[text("in a talk")], chain.tick(4_999)), 1);
    // Nobody waits for the proof of who is typing; it goes under the signature that comes next.
    assert_eq!(say(&[Content::Typing], chain.tick(minute)), 1);
    assert_eq!(say(&[text("typed")], chain.tick(1_000)), 2);
    let set_back = chain.now_ms - minute;
    assert_eq!(say(&[text("another clock")], set_back), 2);
    settle(&mut clients, &mut chain);
    let verified = |kind: &EventKind| match kind {
        EventKind::Verified(names) => names.len(),
        _ => 0,
    };
    for client in [&clients[0], &clients[2]] {
        let shown = client.shown.iter().map(|event| verified(&event.kind));
        assert_eq!(shown.sum::<usize>(), client.texts(group).len());
    }
}

#[test]
fn a_removed_member_reads_nothing_and_the_others_go_on() {
    let (mut chain, mut clients, group) = group_of(4, Suite::Classical, 3);
    let gone = clients[3].member();
    clients[1].say(group, "before", &chain).unwrap();
    settle(&mut clients, &mut chain);
    let refused = clients[1]
        .dev()
        .remove(group, &[gone], false, &chain.directory());
    assert!(refused.is_err(), "a member may not remove");
    let output = clients[0]
        .dev()
        .remove(group, &[gone], true, &chain.directory())
        .unwrap();
    clients[0].take(output);
    // Sealed before the removal is known, accepted after it: sealed again.
    clients[2].say(group, "meanwhile", &chain).unwrap();
    clients[0].flush(&mut chain).unwrap();
    settle(&mut clients, &mut chain);
    clients[1].say(group, "after", &chain).unwrap();
    settle(&mut clients, &mut chain);
    assert_eq!(clients[0].texts(group), ["before", "meanwhile", "after"]);
    assert_eq!(clients[3].texts(group), ["before"]);
    assert_eq!(
        clients[3].device().status(group).unwrap(),
        GroupStatus::Removed
    );
    assert!(clients[3].say(group, "still here", &chain).is_err());
    // A stolen device does not come back.
    let invitee = clients[3].invitee(&chain);
    let now = chain.now_ms;
    let again = clients[0]
        .dev()
        .add(group, &[invitee], &chain.directory(), now);
    assert!(again.is_err());
    for client in &clients {
        assert!(client.halted().is_empty());
    }
}

#[test]
fn the_loser_of_a_race_makes_its_commit_anew() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 4);
    let mut policy = clients[0].device().policy(group).unwrap();
    policy.name = "Hiking".to_owned();
    clients[0]
        .dev()
        .set_policy(group, policy.clone(), &chain.directory())
        .unwrap();
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    clients[2].dev().rotate(group, &chain.directory()).unwrap();
    clients[2].say(group, "not lost", &chain).unwrap();
    settle(&mut clients, &mut chain);
    for client in &clients {
        assert_eq!(client.device().epoch(group).unwrap(), 4, "{}", client.name);
        assert_eq!(client.device().policy(group).unwrap().name, "Hiking");
    }
    assert_eq!(clients[0].texts(group), ["not lost"]);
    let event = clients[1].shown.iter().any(|event| {
        matches!(&event.kind, EventKind::PolicyChanged { policy, .. } if policy.name == "Hiking")
    });
    assert!(event);
}

#[test]
fn roles_are_given_by_owners_and_kept_to() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 5);
    let (admin, member) = (clients[1].account(), clients[2].account());
    let old = clients[0].device().policy(group).unwrap();
    let mut policy = old.clone();
    policy.roles.insert(admin, Role::Admin);
    policy.signatures = SignatureRule::Each;
    // Nobody but an owner gives roles.
    assert!(
        clients[2]
            .dev()
            .set_policy(group, policy.clone(), &chain.directory())
            .is_err()
    );
    clients[0]
        .dev()
        .set_policy(group, policy.clone(), &chain.directory())
        .unwrap();
    settle(&mut clients, &mut chain);
    // An admin removes members, and not owners.
    let (owner, other) = (clients[0].member(), clients[2].member());
    assert!(
        clients[1]
            .dev()
            .remove(group, &[owner], false, &chain.directory())
            .is_err()
    );
    clients[1]
        .dev()
        .remove(group, &[other], false, &chain.directory())
        .unwrap();
    settle(&mut clients, &mut chain);
    assert_eq!(
        clients[2].device().status(group).unwrap(),
        GroupStatus::Removed
    );
    // The last owner stays one.
    let mut nobody = clients[0].device().policy(group).unwrap();
    nobody.roles.clear();
    assert!(
        clients[0]
            .dev()
            .set_policy(group, nobody, &chain.directory())
            .is_err()
    );
    let _ = (member, Policy::new(world::CHAIN, admin));
}

#[test]
fn whoever_invites_cuts_the_tree_alike_until_somebody_is_removed() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 6);
    let ids = identities(5, &mut chain);
    let mut newcomers = ids.iter().zip(10..);
    let mut invite = |by: usize, clients: &mut Vec<Client>, chain: &mut Chain| {
        let (id, seed) = newcomers.next().unwrap();
        let mut newcomer = Client::new("new", id, Suite::Classical, seed, chain);
        let invitee = newcomer.invitee(chain);
        let now = chain.tick(10_000);
        let directory = chain.directory();
        let inviter = clients[by].dev();
        inviter.add(group, &[invitee], &directory, now).unwrap();
        clients[by].flush(chain).unwrap();
        clients[by].sync(chain).unwrap();
        clients[by].flush(chain).unwrap();
        let invitation = clients[by].post.last().unwrap().clone();
        clients.push(newcomer);
        settle(clients, chain);
        invitation.tree_secret
    };
    let first = invite(0, &mut clients, &mut chain);
    // A newcomer that is an admin invites as well.
    let mut policy = clients[0].device().policy(group).unwrap();
    policy.roles.insert(clients[3].account(), Role::Admin);
    let directory = chain.directory();
    clients[0]
        .dev()
        .set_policy(group, policy, &directory)
        .unwrap();
    settle(&mut clients, &mut chain);
    let second = invite(3, &mut clients, &mut chain);
    assert!(first == second, "newcomers are told it");
    let gone = clients[1].member();
    let directory = chain.directory();
    clients[3]
        .dev()
        .remove(group, &[gone], false, &directory)
        .unwrap();
    settle(&mut clients, &mut chain);
    let third = invite(3, &mut clients, &mut chain);
    assert!(third != first, "the removed has that one");
    let fourth = invite(0, &mut clients, &mut chain);
    assert!(third == fourth, "everybody derives the same");
    assert_eq!(clients[0].device().members(group).unwrap().len(), 6);
}
