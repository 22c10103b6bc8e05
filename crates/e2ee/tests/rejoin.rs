//! A device that was away for longer than bodies are kept comes back, and nobody else in its place.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

use session_core::ids::GroupId;
use session_e2ee::limits::REJOIN_EVERY_MS;
use session_e2ee::{
    E2eeError, EventKind, GroupStatus, LogEntry, RejoinRefusal, RejoinRequest, Suite,
};
use world::client::{group_of, settle};
use world::{Chain, Client};

const DAY_MS: u64 = 86_400_000;

/// A group of three whose last device was away for too long. It had said one thing that was accepted,
/// and one that was not, and knows of neither.
fn lost(seed: u64) -> (Chain, Vec<Client>, GroupId) {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, seed);
    clients[2].say(group, "accepted", &chain).unwrap();
    clients[2].flush(&mut chain).unwrap();
    clients[2].say(group, "waits", &chain).unwrap();
    clients[0].sync(&chain).unwrap();
    clients[0].dev().rotate(group, &chain.directory()).unwrap();
    settle(&mut clients[..2], &mut chain);
    clients[0].say(group, "in between", &chain).unwrap();
    settle(&mut clients[..2], &mut chain);
    chain.prune(group);
    chain.tick(20 * DAY_MS);
    clients[2].sync(&chain).unwrap();
    let device = clients[2].device();
    assert_eq!(device.status(group).unwrap(), GroupStatus::Lost);
    (chain, clients, group)
}

fn ask(client: &mut Client, group: GroupId, chain: &Chain) -> Option<RejoinRequest> {
    let now = chain.now_ms;
    client.dev().rejoin_request(group, now).unwrap()
}

fn refusal(client: &Client, request: &RejoinRequest, chain: &Chain) -> RejoinRefusal {
    let now = chain.now_ms;
    let judged = client
        .device()
        .examine_rejoin(request, &chain.directory(), now);
    match judged {
        Err(E2eeError::Rejoin(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn count(client: &Client, is: impl Fn(&EventKind) -> bool) -> usize {
    client.shown.iter().filter(|event| is(&event.kind)).count()
}

#[test]
fn a_device_that_was_away_for_too_long_comes_back_and_says_once_what_waited() {
    let (mut chain, mut clients, group) = lost(400);
    let request = ask(&mut clients[2], group, &chain).unwrap();
    // It is the same one until it was sent, also after a crash, and then there is none for a day.
    clients[2].restart(|| true);
    assert_eq!(ask(&mut clients[2], group, &chain).as_ref(), Some(&request));
    clients[2].dev().rejoin_asked(group).unwrap();
    assert_eq!(ask(&mut clients[2], group, &chain), None);
    chain.tick(REJOIN_EVERY_MS);
    let again = ask(&mut clients[2], group, &chain).unwrap();
    assert_ne!(again, request);
    // Two members answer at once, and each finds it done by one of them.
    let now = chain.now_ms;
    let directory = chain.directory();
    let policy_forbids = clients[1].dev().readmit(&again, &directory, now);
    assert!(
        policy_forbids.is_err(),
        "only who may add lets somebody back in"
    );
    clients[0].dev().readmit(&again, &directory, now).unwrap();
    settle(&mut clients, &mut chain);
    let back = clients[2].member();
    assert_eq!(
        clients[2].device().status(group).unwrap(),
        GroupStatus::Active
    );
    for client in &clients[..2] {
        assert!(client.halted().is_empty());
        let came_back = count(
            client,
            |kind| matches!(kind, EventKind::CameBack { device, .. } if *device == back),
        );
        assert_eq!(came_back, 1);
        let others = count(client, |kind| {
            matches!(kind, EventKind::Removed { .. } | EventKind::Added { .. })
        });
        assert_eq!(others, 0);
        assert_eq!(client.device().members(group).unwrap().len(), 3);
    }
    let told =
        |kind: &EventKind| matches!(kind, EventKind::Lost { .. } | EventKind::Rejoined { .. });
    assert_eq!(count(&clients[2], told), 2);
    // What was said is there once, whether the device knew of it or not.
    let texts = clients[1].texts(group);
    assert_eq!(texts, ["accepted", "in between", "waits"]);
    assert!(clients[2].texts(group).is_empty());
    clients[0].say(group, "welcome back", &chain).unwrap();
    settle(&mut clients, &mut chain);
    assert_eq!(clients[2].texts(group), ["welcome back"]);
    // The same request once more is refused, and so is another one on that day, not later.
    assert_eq!(refusal(&clients[0], &again, &chain), RejoinRefusal::Done);
    assert_eq!(refusal(&clients[1], &again, &chain), RejoinRefusal::Done);
    let (next, now) = (
        clients[2].device().next_position(group).unwrap(),
        chain.now_ms,
    );
    let place = session_e2ee::LogPlace {
        position: next,
        time_ms: now,
    };
    let entry = LogEntry::PrunedCommit { epoch: 4 };
    let device = clients[2].dev();
    device
        .receive(group, place, entry, &chain.directory())
        .unwrap();
    chain.tick(2 * 3_600_000);
    let soon = ask(&mut clients[2], group, &chain).unwrap();
    assert_eq!(refusal(&clients[0], &soon, &chain), RejoinRefusal::TooSoon);
    chain.tick(REJOIN_EVERY_MS);
    let judged = clients[0]
        .device()
        .examine_rejoin(&soon, &chain.directory(), chain.now_ms);
    assert_eq!(judged.unwrap(), back);
}

#[test]
fn of_two_who_answer_one_counts_and_the_other_finds_it_done() {
    let (mut chain, mut clients, group) = lost(410);
    let mut policy = clients[0].device().policy(group).unwrap();
    policy
        .roles
        .insert(clients[1].account(), session_e2ee::Role::Admin);
    clients[0]
        .dev()
        .set_policy(group, policy, &chain.directory())
        .unwrap();
    settle(&mut clients[..2], &mut chain);
    clients[2].sync(&chain).unwrap();
    let request = ask(&mut clients[2], group, &chain).unwrap();
    let now = chain.now_ms;
    for client in &mut clients[..2] {
        let directory = chain.directory();
        client.dev().readmit(&request, &directory, now).unwrap();
    }
    settle(&mut clients, &mut chain);
    for client in &clients {
        assert!(client.halted().is_empty(), "{}", client.name);
        assert_eq!(client.device().members(group).unwrap().len(), 3);
        assert!(client.device().outbox().unwrap().is_empty());
    }
    let joined = count(&clients[2], |kind| {
        matches!(kind, EventKind::Rejoined { .. })
    });
    assert_eq!(joined, 1);
}

#[test]
fn nobody_comes_back_in_anothers_place() {
    let (mut chain, mut clients, group) = lost(420);
    let good = ask(&mut clients[2], group, &chain).unwrap();
    // A published key package of the device is no request: it is not signed for this.
    let package = clients[2].invitee(&chain);
    let stolen = RejoinRequest {
        key_package: package.key_package,
        ..good.clone()
    };
    assert_eq!(refusal(&clients[0], &stolen, &chain), RejoinRefusal::Forged);
    for damaged in [
        RejoinRequest {
            asked_ms: good.asked_ms + 1,
            ..good.clone()
        },
        RejoinRequest {
            expires_ms: good.expires_ms + 1,
            ..good.clone()
        },
        RejoinRequest {
            signature: Vec::new(),
            ..good.clone()
        },
    ] {
        assert_eq!(
            refusal(&clients[0], &damaged, &chain),
            RejoinRefusal::Forged
        );
    }
    // Whoever has the account's keys certifies another device, or the same with another key.
    let identity = clients[2].identity.clone();
    let mut thief = Client::new("t", &identity, Suite::PostQuantum, 5, &chain);
    let package = thief.invitee(&chain);
    let other = RejoinRequest {
        key_package: package.key_package,
        ..good.clone()
    };
    assert_eq!(
        refusal(&clients[0], &other, &chain),
        RejoinRefusal::NotAMember
    );
    // Too old, and too new.
    let now = chain.now_ms;
    let device = clients[0].device();
    for at in [now + 2 * DAY_MS + 1, now - 2 * 3_600_000] {
        let judged = device.examine_rejoin(&good, &chain.directory(), at);
        assert!(
            matches!(judged, Err(E2eeError::Rejoin(RejoinRefusal::NotOfToday))),
            "{judged:?}"
        );
    }
    // Its own request comes back to it.
    assert!(matches!(
        clients[2]
            .device()
            .examine_rejoin(&good, &chain.directory(), now),
        Err(E2eeError::NotActive(_))
    ));
    // A device that was removed for good does not come back, and is not in the group.
    let gone = clients[2].member();
    clients[0]
        .dev()
        .remove(group, &[gone], true, &chain.directory())
        .unwrap();
    settle(&mut clients[..2], &mut chain);
    assert_eq!(
        refusal(&clients[0], &good, &chain),
        RejoinRefusal::NotAMember
    );
}

#[test]
fn a_device_that_has_not_read_its_log_does_not_come_back_yet() {
    let (mut chain, mut clients, group) = lost(430);
    let request = ask(&mut clients[2], group, &chain).unwrap();
    let now = chain.now_ms;
    let directory = chain.directory();
    clients[0].dev().readmit(&request, &directory, now).unwrap();
    settle(&mut clients[..2], &mut chain);
    let log = chain.log(group);
    let facts = log.facts[&log.epoch].clone();
    let invitation = clients[0].sent.last().unwrap().clone();
    let early = clients[2]
        .dev()
        .join(&invitation, &facts, &chain.directory());
    assert!(
        matches!(early, Err(E2eeError::OutOfOrder { .. })),
        "{early:?}"
    );
    // Nothing was changed by it; the power fails at any write, and it joins once.
    clients[2].sync(&chain).unwrap();
    for fuse in 0..200 {
        clients[2].disk.set_fuse(fuse, fuse % 2 == 0);
        let joined = clients[2]
            .dev()
            .join(&invitation, &facts, &chain.directory());
        let dead = clients[2].disk.is_dead();
        clients[2].restart(|| fuse % 3 == 0);
        if !dead {
            assert!(
                matches!(
                    joined,
                    Ok(_) | Err(E2eeError::NoKeyPackage | E2eeError::AlreadyJoined(_))
                ),
                "{joined:?}"
            );
            break;
        }
    }
    settle(&mut clients, &mut chain);
    assert_eq!(
        clients[2].device().status(group).unwrap(),
        GroupStatus::Active
    );
    assert_eq!(clients[1].texts(group), ["accepted", "in between", "waits"]);
}

#[test]
fn what_is_gone_and_was_only_words_keeps_nobody_out() {
    let (mut chain, mut clients, group) = group_of(2, Suite::PostQuantum, 440);
    clients[0].say(group, "gone", &chain).unwrap();
    clients[0].flush(&mut chain).unwrap();
    chain.prune(group);
    settle(&mut clients, &mut chain);
    assert_eq!(
        clients[1].device().status(group).unwrap(),
        GroupStatus::Active
    );
    assert!(clients[0].device().outbox().unwrap().is_empty());
    let next = clients[1].device().next_position(group).unwrap();
    let place = session_e2ee::LogPlace {
        position: next,
        time_ms: chain.now_ms,
    };
    let entry = LogEntry::PrunedCommit { epoch: 2 };
    clients[1]
        .dev()
        .receive(group, place, entry, &chain.directory())
        .unwrap();
    assert_eq!(
        clients[1].device().status(group).unwrap(),
        GroupStatus::Lost
    );
}
