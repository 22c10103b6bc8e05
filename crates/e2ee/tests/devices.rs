//! Devices of an account: linked, listed, lost. And what time does to groups.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

use session_crypto::{Identity, Secret};
use session_e2ee::link::LinkRequest;
use session_e2ee::{
    Authenticity, Content, Device, E2eeError, EventKind, GroupStatus, Invitee, OutgoingKind,
    Policy, Randomness, Refusal, RotationPolicy, SignatureRule, Storage, Suite,
};
use world::client::{group_of, identities, settle};
use world::{CHAIN, Chain, Client, Disk};

const DAY_MS: u64 = 86_400_000;

fn storage(disk: &Disk, seed: u8) -> Storage {
    Storage {
        store: disk.store(),
        slots: disk.slots(),
        key: Secret::new([0x55; 32]),
        randomness: Randomness::seeded(Secret::new([seed; 32])),
    }
}

#[test]
fn a_second_device_is_linked_joins_and_is_revoked_when_stolen() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 80);
    // The new device shows a code; its request lies where the code says.
    let disk = Disk::new();
    let (waiting, code, request) =
        Device::request_link(storage(&disk, 1), Suite::PostQuantum, "tablet").unwrap();
    assert!(!waiting.is_linked());
    drop(waiting);
    let mut tablet = Device::open(storage(&disk, 2)).unwrap();
    assert!(matches!(
        tablet.key_packages(1, 1),
        Err(E2eeError::NotLinked)
    ));
    // The phone reads it, a person confirms, the account certifies.
    let code = code.expose().parse().unwrap();
    let request = LinkRequest::open(&code, &request).unwrap();
    assert_eq!(request.name, "tablet");
    let identity = clients[1].identity.clone();
    let now = chain.now_ms;
    let grant = clients[1]
        .dev()
        .grant_link(&code, &request, identity.signing_key(), b"contacts", now)
        .unwrap();
    // A grant of an account that did not sign it is none.
    let other = Identity::generate_without_phrase().unwrap();
    let forged = request
        .grant(&code, identity.account_id(), other.signing_key(), 1, 0, b"")
        .unwrap();
    let refused = tablet.accept_grant(&forged, &chain.directory());
    assert!(matches!(
        refused,
        Err(E2eeError::Refused(Refusal::NotCertified(_)))
    ));
    let payload = tablet.accept_grant(&grant, &chain.directory()).unwrap();
    assert_eq!(payload, b"contacts");
    assert!(tablet.is_linked());
    assert!(tablet.accept_grant(&grant, &chain.directory()).is_err());
    // Its own account brings it into the group: a member may always do that.
    let expires_ms = chain.now_ms + 1_000;
    let package = tablet.key_packages(1, expires_ms).unwrap().remove(0);
    let invitee = Invitee {
        key_package: package.bytes,
        expires_ms,
    };
    clients[1]
        .dev()
        .add(group, &[invitee], &chain.directory(), now)
        .unwrap();
    clients[1].flush(&mut chain).unwrap();
    clients[1].sync(&chain).unwrap();
    let invitation = clients[1]
        .device()
        .outbox()
        .unwrap()
        .into_iter()
        .find_map(|outgoing| match outgoing.kind {
            OutgoingKind::Invitation(invitation) => Some(*invitation),
            _ => None,
        })
        .unwrap();
    let facts = chain.log(group).facts[&2].clone();
    tablet
        .join(&invitation, &facts, &chain.directory())
        .unwrap();
    settle(&mut clients, &mut chain);
    let lost = tablet.member().unwrap();
    assert_eq!(lost.account, clients[1].account());
    for client in &clients {
        let told = client.shown.iter().any(|event| {
            matches!(event.kind, EventKind::Added { device, new_account: false, .. } if device == lost)
        });
        assert!(told, "{}", client.name);
    }
    assert_eq!(clients[1].device().own_devices().unwrap().len(), 2);
    // Stolen: it goes from every group, and no key package brings it back.
    let (waiting, _) = clients[1]
        .dev()
        .revoke_device(lost.device, &chain.directory())
        .unwrap();
    assert!(waiting.is_empty());
    settle(&mut clients, &mut chain);
    for client in &clients {
        let told = client.shown.iter().any(|event| {
            matches!(
                event.kind,
                EventKind::Removed { device, last_of_account: false, .. } if device == lost
            )
        });
        assert!(told, "{}", client.name);
    }
    let package = tablet.key_packages(1, u64::MAX).unwrap().remove(0);
    let invitee = Invitee {
        key_package: package.bytes,
        expires_ms: u64::MAX,
    };
    let refused = clients[0]
        .dev()
        .add(group, &[invitee], &chain.directory(), now);
    assert!(matches!(
        refused,
        Err(E2eeError::Refused(Refusal::RevokedDevice(_)))
    ));
    assert_eq!(clients[1].device().own_devices().unwrap().len(), 1);
}

/// The account has new keys: its devices stay, a new leaf needs the new key.
#[test]
fn an_account_that_changed_its_keys_keeps_its_devices() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 81);
    let identity = clients[1].identity.clone();
    let next = Identity::generate_without_phrase().unwrap();
    chain.rotate_key(identity.account_id(), next.public().signing().clone());
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    settle(&mut clients, &mut chain);
    // Who joins now finds a leaf under the earlier key, and takes it.
    let ids = identities(1, &mut chain);
    clients.push(Client::new("new", &ids[0], Suite::PostQuantum, 3, &chain));
    let invitee = clients[3].invitee(&chain);
    let now = chain.now_ms;
    clients[0]
        .dev()
        .add(group, &[invitee], &chain.directory(), now)
        .unwrap();
    settle(&mut clients, &mut chain);
    clients[1].say(group, "still me", &chain).unwrap();
    settle(&mut clients, &mut chain);
    assert_eq!(clients[3].texts(group), ["still me"]);
    // A further device of that account, certified by the key that is over.
    let mut old = Client::new("old", &identity, Suite::PostQuantum, 4, &chain);
    let invitee = old.invitee(&chain);
    let refused = clients[1]
        .dev()
        .add(group, &[invitee], &chain.directory(), now);
    assert!(matches!(
        refused,
        Err(E2eeError::Refused(Refusal::NotCertified(_)))
    ));
}

#[test]
fn a_device_that_was_away_catches_up_over_a_hundred_epochs() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 82);
    for n in 0..100 {
        let who = n % 2;
        clients[who]
            .dev()
            .rotate(group, &chain.directory())
            .unwrap();
        if n % 10 == 0 {
            clients[who].say(group, &format!("{n}"), &chain).unwrap();
        }
        for client in &mut clients[..2] {
            client.flush(&mut chain).unwrap();
        }
        for client in &mut clients[..2] {
            client.sync(&chain).unwrap();
        }
    }
    clients[2].sync(&chain).unwrap();
    assert_eq!(clients[2].device().epoch(group).unwrap(), 101);
    assert_eq!(clients[2].texts(group).len(), 10);
    let number = |client: &Client| client.device().safety_number(group).unwrap();
    assert_eq!(number(&clients[0]), number(&clients[2]));
    // Nothing of a hundred epochs is left but what three of them need.
    let text = format!("{:?}", clients[2].device());
    let records: usize = text
        .rsplit(", ")
        .next()
        .and_then(|rest| rest.split(' ').next())
        .and_then(|count| count.parse().ok())
        .unwrap();
    assert!(records < 60, "{text}");
}

#[test]
fn where_every_message_is_signed_none_is_shown_before() {
    let mut chain = Chain::new();
    let ids = identities(3, &mut chain);
    let mut clients: Vec<Client> = (0..3)
        .map(|n| {
            Client::new(
                &format!("{n}"),
                &ids[n],
                Suite::PostQuantum,
                n as u64,
                &chain,
            )
        })
        .collect();
    let invitees: Vec<Invitee> = (1..3).map(|n| clients[n].invitee(&chain)).collect();
    let mut policy = Policy::new(CHAIN, clients[0].account());
    policy.signatures = SignatureRule::Each;
    let group = clients[0].create(policy, &invitees, &chain);
    settle(&mut clients, &mut chain);
    clients[1].say(group, "one", &chain).unwrap();
    clients[1].say(group, "two", &chain).unwrap();
    assert_eq!(clients[1].device().outbox().unwrap().len(), 4);
    // Without its signature a message waits.
    clients[1].flush(&mut chain).unwrap();
    clients[2].follow(group, &chain, 1).unwrap();
    clients[2].show().unwrap();
    assert!(clients[2].texts(group).is_empty());
    settle(&mut clients, &mut chain);
    assert_eq!(clients[2].texts(group), ["one", "two"]);
    let all_verified = clients[2]
        .messages(group)
        .iter()
        .all(|message| message.authenticity == Authenticity::Verified);
    assert!(all_verified);
}

#[test]
fn thirty_two_messages_share_a_signature() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 83);
    let contents: Vec<Content> = (0..65).map(|n| Content::Text(format!("{n}"))).collect();
    let now = chain.now_ms;
    clients[1].dev().send(group, &contents, now).unwrap();
    let outbox = clients[1].device().outbox().unwrap();
    // 65 messages, two signatures over 32 each; the last one waits for its own.
    assert_eq!(outbox.len(), 65 + 2);
    let now = chain.tick(5_000);
    let output = clients[1].dev().tick(now, &chain.directory()).unwrap();
    let frames = output.outgoing.iter();
    let frames = frames.filter(|out| matches!(out.kind, OutgoingKind::Frame { .. }));
    assert_eq!(frames.count(), 1);
    settle(&mut clients, &mut chain);
    assert_eq!(clients[2].texts(group).len(), 65);
    let verified: usize = clients[2]
        .shown
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::Verified(names) => Some(names.len()),
            _ => None,
        })
        .sum();
    assert_eq!(verified, 65);
}

#[test]
fn receipts_typing_and_unknown_content_travel() {
    let (mut chain, mut clients, group) = group_of(2, Suite::Classical, 84);
    clients[0].say(group, "read me", &chain).unwrap();
    settle(&mut clients, &mut chain);
    let name = clients[1].messages(group)[0].name();
    let contents = [
        Content::Read(vec![name]),
        Content::Typing,
        Content::Unknown {
            kind: 999,
            fields: vec![1, 2, 3],
        },
    ];
    let now = chain.now_ms;
    clients[1].dev().send(group, &contents, now).unwrap();
    settle(&mut clients, &mut chain);
    let kept: Vec<Content> = clients[0]
        .messages(group)
        .iter()
        .map(|message| message.body.content.clone())
        .collect();
    assert_eq!(kept, [contents[0].clone(), contents[2].clone()]);
    let typing = clients[0].moments.iter().any(|event| {
        matches!(&event.kind, EventKind::Message(message) if message.body.content == Content::Typing)
    });
    assert!(typing);
}

/// A year in seconds: everybody rotates by itself, and who is silent is found.
#[test]
fn a_year_passes_and_keys_are_new_all_along() {
    let (mut chain, mut clients, group) = group_of(4, Suite::Classical, 85);
    let silent = clients[3].member();
    let mut found = None;
    let mut epochs = 0;
    let start = chain.now_ms;
    for day in 0..365 {
        chain.tick(DAY_MS);
        let now = chain.now_ms;
        let present = if found.is_none() {
            3
        } else {
            clients.len().min(3)
        };
        for client in &mut clients[..present] {
            let output = client.dev().tick(now, &chain.directory()).unwrap();
            client.take(output);
            client.flush(&mut chain).unwrap();
            client.sync(&chain).unwrap();
            // What lost a race is made anew, and gets its turn.
            client.flush(&mut chain).unwrap();
            client.sync(&chain).unwrap();
        }
        if day % 30 == 0 {
            clients[0]
                .say(group, &format!("day {day}"), &chain)
                .unwrap();
            clients[0].flush(&mut chain).unwrap();
        }
        if found.is_none() {
            let idle = clients[0].device().idle_members(group, now, 30).unwrap();
            if idle.contains(&silent) {
                found = Some(day);
                clients[0]
                    .dev()
                    .remove(group, &[silent], false, &chain.directory())
                    .unwrap_or_default();
            }
        }
        epochs = clients[0].device().epoch(group).unwrap();
    }
    assert!(chain.now_ms - start >= 365 * DAY_MS);
    // Three devices, once a day each.
    assert!((900..1_200).contains(&epochs), "{epochs} epochs");
    // Heard of once, when it joined; 21 days later it may go.
    assert!(
        found.is_some_and(|day| (20..=23).contains(&day)),
        "{found:?}"
    );
    for client in &mut clients {
        client.sync(&chain).unwrap();
    }
    assert_eq!(
        clients[3].device().status(group).unwrap(),
        GroupStatus::Removed
    );
    assert_eq!(clients[1].texts(group).len(), 13);
    // After 50 messages of its own a device rotates without waiting for the day.
    let contents: Vec<Content> = (0..50).map(|n| Content::Text(format!("{n}"))).collect();
    let now = chain.now_ms;
    clients[1].dev().send(group, &contents, now).unwrap();
    assert_eq!(clients[1].device().next_tick_ms().unwrap(), Some(0));
    let output = clients[1].dev().tick(now, &chain.directory()).unwrap();
    let commits = output
        .outgoing
        .iter()
        .filter(|outgoing| matches!(outgoing.kind, OutgoingKind::Commit(_)));
    assert_eq!(commits.count(), 1);
}

#[test]
fn a_device_rotates_as_its_policy_says_also_after_a_restart() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 77);
    let hour = 3_600_000;
    let rotation = |client: &Client| client.device().rotation(group).unwrap();
    let usual = rotation(&clients[1]);
    assert_eq!((usual.said, usual.messages_max), (0, 50));
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    settle(&mut clients, &mut chain);
    let now = chain.now_ms;
    // Longer counts from the next rotation on, shorter at once.
    let due = rotation(&clients[1]).due_ms;
    let seldom = RotationPolicy::new(200, 200).unwrap();
    clients[1].dev().set_rotation_policy(seldom, now).unwrap();
    assert_eq!(rotation(&clients[1]).due_ms, due);
    assert_eq!(rotation(&clients[1]).messages_max, 200);
    let often = RotationPolicy::new(10, 50).unwrap();
    clients[1].dev().set_rotation_policy(often, now).unwrap();
    assert_eq!(rotation(&clients[1]).due_ms, now + 12 * hour);
    clients[1].restart(|| true);
    assert_eq!(clients[1].device().rotation_policy().unwrap(), often);
    let contents: Vec<Content> = (0..9).map(|n| Content::Text(format!("{n}"))).collect();
    clients[1].dev().send(group, &contents, now).unwrap();
    assert_eq!(rotation(&clients[1]).said, 9);
    let commits = |client: &mut Client, chain: &Chain| {
        let output = client.dev().tick(chain.now_ms, &chain.directory()).unwrap();
        let outgoing = output.outgoing.iter();
        outgoing
            .filter(|outgoing| matches!(outgoing.kind, OutgoingKind::Commit(_)))
            .count()
    };
    assert_eq!(commits(&mut clients[1], &chain), 0);
    clients[1].dev().send(group, &contents[..1], now).unwrap();
    assert_eq!(commits(&mut clients[1], &chain), 1);
    settle(&mut clients, &mut chain);
    assert_eq!(rotation(&clients[1]).said, 0);
    let due = rotation(&clients[1]).due_ms;
    assert!(due <= chain.now_ms + 12 * hour, "{due}");
    chain.tick(12 * hour);
    assert_eq!(commits(&mut clients[1], &chain), 1);
}
