//! What others may try: strangers, members, and whoever delivers.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

use session_core::ids::GroupId;
use session_e2ee::{
    AcceptedCommit, Content, E2eeError, EventKind, GroupStatus, Invitee, LogEntry, LogPlace,
    OutgoingKind, Refusal, Suite, Unusable,
};
use std::sync::Arc;
use world::chain::EntryKind;
use world::client::{group_of, identities, settle};
use world::{Chain, Client};

fn invitee(client: &mut Client, chain: &Chain) -> Invitee {
    client.invitee(chain)
}

#[test]
fn a_key_package_of_another_suite_is_refused() {
    let (mut chain, mut clients, group) = group_of(2, Suite::PostQuantum, 60);
    let ids = identities(1, &mut chain);
    let mut stranger = Client::new("s", &ids[0], Suite::Classical, 7, &chain);
    let invitee = invitee(&mut stranger, &chain);
    let now = chain.now_ms;
    let refused = clients[0]
        .dev()
        .add(group, &[invitee], &chain.directory(), now);
    assert!(matches!(refused, Err(E2eeError::WrongSuite)), "{refused:?}");
}

#[test]
fn an_expired_key_package_is_refused() {
    let (mut chain, mut clients, group) = group_of(2, Suite::PostQuantum, 61);
    let ids = identities(1, &mut chain);
    let mut stranger = Client::new("s", &ids[0], Suite::PostQuantum, 7, &chain);
    let mut invitee = invitee(&mut stranger, &chain);
    invitee.expires_ms = chain.now_ms;
    let device = stranger.member().device;
    let now = chain.now_ms;
    let refused = clients[0]
        .dev()
        .add(group, &[invitee], &chain.directory(), now);
    assert!(
        matches!(refused, Err(E2eeError::KeyPackageExpired(found)) if found == device),
        "{refused:?}"
    );
    // Its own device forgets it at the same time.
    let later = chain.tick(2_000_000_000);
    assert_eq!(stranger.dev().expire_key_packages(later).unwrap(), 1);
}

/// A device that claims an account which never certified it.
#[test]
fn the_name_of_another_account_is_refused() {
    let (mut chain, mut clients, group) = group_of(2, Suite::PostQuantum, 62);
    let mallory = Arc::new(session_crypto::Identity::generate_without_phrase().unwrap());
    // Mallory's device is certified by Mallory's key, and the chain's record of that account holds
    // another one: as if it had been made for Alice.
    let mut stranger = Client::new("m", &mallory, Suite::PostQuantum, 7, &chain);
    let unknown = invitee(&mut stranger, &chain);
    let now = chain.now_ms;
    let refused = clients[0].dev().add(
        group,
        std::slice::from_ref(&unknown),
        &chain.directory(),
        now,
    );
    assert!(
        matches!(refused, Err(E2eeError::Refused(Refusal::UnknownAccount(_)))),
        "{refused:?}"
    );
    chain.register(&mallory);
    let other = session_crypto::Identity::generate_without_phrase().unwrap();
    chain.rotate_key(mallory.account_id(), other.public().signing().clone());
    let refused = clients[0].dev().add(
        group,
        std::slice::from_ref(&unknown),
        &chain.directory(),
        now,
    );
    assert!(
        matches!(refused, Err(E2eeError::Refused(Refusal::NotCertified(_)))),
        "{refused:?}"
    );
    chain.revoke(mallory.account_id());
    let refused = clients[0]
        .dev()
        .add(group, &[unknown], &chain.directory(), now);
    assert!(
        matches!(refused, Err(E2eeError::Refused(Refusal::RevokedAccount(_)))),
        "{refused:?}"
    );
}

#[test]
fn the_same_device_twice_is_refused() {
    let (chain, mut clients, group) = group_of(3, Suite::PostQuantum, 63);
    let again = clients[1].invitee(&chain);
    let now = chain.now_ms;
    let refused = clients[0]
        .dev()
        .add(group, &[again], &chain.directory(), now);
    assert!(
        matches!(
            refused,
            // openmls is there first: the signature key is in the tree.
            Err(E2eeError::Refused(
                Refusal::DeviceTwice(_) | Refusal::Proposal
            ))
        ),
        "{refused:?}"
    );
}

#[test]
fn damaged_key_packages_are_refused() {
    let (mut chain, mut clients, group) = group_of(2, Suite::PostQuantum, 64);
    let ids = identities(1, &mut chain);
    let mut stranger = Client::new("s", &ids[0], Suite::PostQuantum, 7, &chain);
    let good = invitee(&mut stranger, &chain);
    let now = chain.now_ms;
    for at in (0..good.key_package.len()).step_by(499) {
        let mut bad = good.clone();
        bad.key_package[at] ^= 1;
        let refused = clients[0].dev().add(group, &[bad], &chain.directory(), now);
        assert!(refused.is_err(), "byte {at}");
    }
    let mut large = good.clone();
    large.key_package.resize(20_000, 0);
    let refused = clients[0]
        .dev()
        .add(group, &[large], &chain.directory(), now);
    assert!(matches!(refused, Err(E2eeError::TooLarge { .. })));
    assert!(clients[0].device().outbox().unwrap().is_empty());
}

/// Whoever holds the control key can have garbage accepted. Everybody honest finds the same, says
/// so, and stays at the epoch before; a successor brings them together again.
#[test]
fn an_accepted_commit_that_nobody_can_follow_halts_the_group_and_a_successor_goes_on() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 65);
    for client in &mut clients {
        let now = chain.now_ms;
        client
            .dev()
            .reserve_key_package(group, u64::MAX, now)
            .unwrap();
    }
    settle(&mut clients, &mut chain);
    let keys = chain.log(group).keys[&1].clone();
    chain.advance(group, b"garbage", &keys, false);
    settle(&mut clients, &mut chain);
    for client in &clients {
        let halted = client.halted();
        assert!(
            matches!(
                halted[..],
                [event] if event.kind
                    == EventKind::Halted { epoch: 2, reason: Unusable::Malformed }
            ),
            "{}",
            client.name
        );
        assert_eq!(client.device().status(group).unwrap(), GroupStatus::Halted);
        assert_eq!(client.device().epoch(group).unwrap(), 1);
    }
    assert!(matches!(
        clients[1].say(group, "x", &chain),
        Err(E2eeError::NotActive(_))
    ));
    let now = chain.now_ms;
    let (successor, left, output) = clients[0]
        .dev()
        .supersede(group, &chain.directory(), now)
        .unwrap();
    assert!(left.is_empty());
    clients[0].take(output);
    chain.supersede(group, successor);
    settle(&mut clients, &mut chain);
    clients[2].say(successor, "here again", &chain).unwrap();
    settle(&mut clients, &mut chain);
    for client in &clients[..2] {
        assert_eq!(client.texts(successor), ["here again"], "{}", client.name);
        assert_eq!(
            client.device().status(group).unwrap(),
            GroupStatus::Superseded
        );
    }
}

/// Keys on the chain that are not the epoch's would lock the honest out of posting.
#[test]
fn an_accepted_commit_with_wrong_keys_halts_the_group() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 66);
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    let outbox = clients[1].device().outbox().unwrap();
    let OutgoingKind::Commit(advance) = outbox[0].kind.clone() else {
        panic!("a commit");
    };
    let wrong = chain.log(group).keys[&1].clone();
    chain.advance(group, &advance.commit, &wrong, false);
    clients[0].sync(&chain).unwrap();
    clients[1].sync(&chain).unwrap();
    for client in &clients[..2] {
        let halted = client.halted();
        assert!(matches!(
            halted[0].kind,
            EventKind::Halted {
                epoch: 2,
                reason: Unusable::WrongKeys
            }
        ));
    }
}

/// A commit of one group, or of one place in its history, is none of another.
#[test]
fn a_commit_from_elsewhere_is_not_followed() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 67);
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    let outbox = clients[1].device().outbox().unwrap();
    let OutgoingKind::Commit(advance) = outbox[0].kind.clone() else {
        panic!("a commit");
    };
    // Ours, by its leaf, and not by its bytes: what a copied device would make.
    let mut copy = session_e2ee::Device::open(session_e2ee::Storage {
        store: clients[2].disk.copy().store(),
        slots: clients[2].disk.copy().slots(),
        key: session_crypto::Secret::new([0x55; 32]),
        randomness: session_e2ee::Randomness::system(),
    })
    .unwrap();
    copy.rotate(group, &chain.directory()).unwrap();
    let outbox = copy.outbox().unwrap();
    let OutgoingKind::Commit(copied) = outbox[0].kind.clone() else {
        panic!("a commit");
    };
    chain.advance(group, &copied.commit, &copied.keys, false);
    clients[2].sync(&chain).unwrap();
    assert!(matches!(
        clients[2].halted()[0].kind,
        EventKind::Halted {
            reason: Unusable::Foreign,
            ..
        }
    ));
    // The others followed the copy. A commit of an epoch that is over is nothing to them.
    clients[0].sync(&chain).unwrap();
    assert_eq!(clients[0].device().epoch(group).unwrap(), 2);
    chain.advance(group, &advance.commit, &advance.keys, false);
    clients[0].sync(&chain).unwrap();
    assert_eq!(
        clients[0].device().status(group).unwrap(),
        GroupStatus::Halted
    );
}

#[test]
fn the_log_comes_in_order_or_not_at_all() {
    let (mut chain, mut clients, group) = group_of(2, Suite::Classical, 68);
    clients[1].say(group, "a", &chain).unwrap();
    clients[1].say(group, "b", &chain).unwrap();
    clients[1].flush(&mut chain).unwrap();
    let log = chain.log(group);
    let second = &log.entries[1];
    let refused = clients[0].device.as_mut().unwrap().receive(
        group,
        second.place,
        second.entry(),
        &chain.directory(),
    );
    assert!(
        matches!(
            refused,
            Err(E2eeError::OutOfOrder {
                expected: 0,
                got: 1
            })
        ),
        "{refused:?}"
    );
    // A commit from the future of this group.
    let keys = log.keys[&1].clone();
    let place = LogPlace {
        position: 0,
        time_ms: 0,
    };
    let commit = AcceptedCommit {
        epoch: 9,
        commit: b"x",
        keys: &keys,
        removes: false,
    };
    let refused = clients[0].device.as_mut().unwrap().receive(
        group,
        place,
        LogEntry::Commit(commit),
        &chain.directory(),
    );
    assert!(
        matches!(refused, Err(E2eeError::WrongEpoch { log: 9, here: 1 })),
        "{refused:?}"
    );
    let unknown = clients[0].dev().receive(
        GroupId::from_bytes([1; 32]),
        place,
        LogEntry::Pruned,
        &world::Chain::new().directory(),
    );
    assert!(matches!(unknown, Err(E2eeError::UnknownGroup(_))));
    clients[0].sync(&chain).unwrap();
    assert_eq!(clients[0].texts(group), ["a", "b"]);
}

/// A frame of an epoch that is not yet, or of one that is gone, opens nowhere.
#[test]
fn frames_of_left_members_and_of_other_epochs_do_not_open() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 69);
    clients[2].say(group, "while in", &chain).unwrap();
    let outbox = clients[2].device().outbox().unwrap();
    let OutgoingKind::Frame { frame, .. } = outbox[0].kind.clone() else {
        panic!("a frame");
    };
    let gone = clients[2].member();
    clients[0]
        .dev()
        .remove(group, &[gone], false, &chain.directory())
        .unwrap();
    clients[0].flush(&mut chain).unwrap();
    clients[0].sync(&chain).unwrap();
    clients[1].sync(&chain).unwrap();
    // The chain would refuse it; a chain that does not is none of our trust.
    chain.post(group, 1, frame.clone());
    chain.post(group, 2, frame.clone());
    chain.post(group, 7, frame);
    for client in &mut clients[..2] {
        client.sync(&chain).unwrap();
        assert!(client.texts(group).is_empty());
        let unreadable = client
            .moments
            .iter()
            .filter(|event| matches!(event.kind, EventKind::Unreadable { .. }))
            .count();
        assert_eq!(unreadable, 3);
    }
}

/// A member seals in Alice's chain. It is shown as from a member; her signature shows whose it was,
/// and her own message is not lost.
#[test]
fn what_a_member_seals_in_anothers_name_is_found_out() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 70);
    // Everybody in the epoch has Alice's chain. The forger is a copy of Alice's device without her
    // key: the frames are hers, the signature never comes.
    let copy = clients[1].disk.copy();
    let mut forger = session_e2ee::Device::open(session_e2ee::Storage {
        store: copy.store(),
        slots: copy.slots(),
        key: session_crypto::Secret::new([0x55; 32]),
        randomness: session_e2ee::Randomness::system(),
    })
    .unwrap();
    let content = [Content::Text("I owe you".to_owned())];
    forger.send(group, &content, chain.now_ms).unwrap();
    let outbox = forger.outbox().unwrap();
    let OutgoingKind::Frame { epoch, frame } = outbox[0].kind.clone() else {
        panic!("a frame");
    };
    chain.post(group, epoch, frame);
    clients[2].sync(&chain).unwrap();
    clients[0].sync(&chain).unwrap();
    assert_eq!(clients[2].texts(group), ["I owe you"]);
    // Alice speaks, in the same place of her chain, and signs.
    clients[1].say(group, "good morning", &chain).unwrap();
    settle(&mut clients, &mut chain);
    for n in [0, 2] {
        let client = &clients[n];
        assert_eq!(client.texts(group), ["I owe you", "good morning"]);
        let forged = client.shown.iter().any(|event| {
            matches!(event.kind, EventKind::Forged(name) if name.device == clients[1].member().device)
        });
        assert!(forged, "client {n}");
    }
}

#[test]
fn a_newcomer_is_told_what_it_cannot_read() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 71);
    let ids = identities(1, &mut chain);
    clients.push(Client::new("late", &ids[0], Suite::Classical, 5, &chain));
    clients[1].say(group, "just before", &chain).unwrap();
    let invitee = clients[3].invitee(&chain);
    let now = chain.now_ms;
    clients[0]
        .dev()
        .add(group, &[invitee], &chain.directory(), now)
        .unwrap();
    clients[0].flush(&mut chain).unwrap();
    // Accepted after the newcomer's epoch began, sealed before it.
    clients[1].flush(&mut chain).unwrap();
    settle(&mut clients, &mut chain);
    assert!(clients[3].texts(group).is_empty());
    assert_eq!(clients[2].texts(group), ["just before"]);
    let told = clients[3]
        .moments
        .iter()
        .any(|event| matches!(event.kind, EventKind::BeforeJoining { .. }));
    assert!(told);
    let commits = chain.log(group).entries.iter();
    let commits = commits.filter(|entry| matches!(entry.kind, EntryKind::Commit { .. }));
    assert_eq!(commits.count(), 1);
}
