//! Admin keys, certificates that are made anew, and who is brought along into a successor.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

use session_core::ids::ChunkId;
use session_crypto::{Identity, Secret, SigningKey};
use session_e2ee::{
    AdminWork, Content, CountersignRequest, Device, E2eeError, OutgoingKind, Randomness, Storage,
    Suite,
};
use std::collections::BTreeSet;
use world::Client;
use world::client::{group_of, settle};

/// What a member could do who has another's chain, and not its key.
fn forger(of: &Client) -> Device {
    let copy = of.disk.copy();
    Device::open(Storage {
        store: copy.store(),
        slots: copy.slots(),
        key: Secret::new([0x55; 32]),
        randomness: Randomness::system(),
    })
    .unwrap()
}

#[test]
fn an_admin_key_counts_once_its_device_has_signed_for_it_and_a_planted_one_never_does() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 90);
    let planted = SigningKey::generate().unwrap().public_key().clone();
    let mut forger = forger(&clients[1]);
    let content = [Content::AdminKey(Box::new(planted))];
    forger.send(group, &content, chain.now_ms).unwrap();
    let OutgoingKind::Frame { epoch, frame } = forger.outbox().unwrap()[0].kind.clone() else {
        panic!("a frame");
    };
    chain.post(group, epoch, frame);
    clients[2].sync(&chain).unwrap();
    assert!(clients[2].device().admin_keys(group).unwrap().is_empty());
    // The real one is said in the same place, and signed.
    let now = chain.now_ms;
    let real = clients[1].dev().admin_key(group).unwrap();
    let content = [Content::AdminKey(Box::new(real.clone()))];
    clients[1].dev().send(group, &content, now).unwrap();
    settle(&mut clients, &mut chain);
    let device = clients[1].member().device;
    assert_eq!(
        clients[2].device().admin_keys(group).unwrap(),
        [(device, real)]
    );
    assert!(clients[2].device().admins_to_settle(group).unwrap());
}

#[test]
fn an_account_that_rotates_while_a_new_certificate_is_under_way_ends_no_group() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 91);
    let account = clients[1].account();
    let next = || Identity::generate_without_phrase().unwrap();
    let (second, third) = (next(), next());
    chain.rotate_key(account, second.public().signing().clone());
    let now = chain.now_ms;
    let device = clients[1].dev();
    assert!(device.recertify(second.signing_key(), now).unwrap());
    // Once is enough, and it outlives the program.
    assert!(!device.recertify(second.signing_key(), now).unwrap());
    clients[1].restart(|| true);
    let signing = second.public().signing();
    assert!(clients[1].device().is_certified_by(signing).unwrap());
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    chain.rotate_key(account, third.public().signing().clone());
    chain.revoke(account);
    settle(&mut clients, &mut chain);
    for client in &clients {
        assert!(client.halted().is_empty(), "{}", client.name);
        assert_eq!(client.device().epoch(group).unwrap(), 2);
        let all = client.device().certificates(group).unwrap();
        let own = all.iter().find(|found| found.claim().account == account);
        assert_eq!(own.unwrap().claim().serial, 1);
    }
}

#[test]
fn what_admins_are_asked_is_for_one_epoch_and_few_of_it_wait() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 92);
    let asks = |n: u8| {
        let request = CountersignRequest {
            epoch: 1,
            chunks: vec![ChunkId::from_bytes([n; 32])],
        };
        Content::AdminWork(Box::new(AdminWork::Countersign(request)))
    };
    let contents: Vec<Content> = (0..9).map(asks).collect();
    let now = chain.now_ms;
    clients[1].dev().send(group, &contents, now).unwrap();
    settle(&mut clients, &mut chain);
    let waiting = clients[0].device().countersign_requests(group).unwrap();
    assert_eq!(
        waiting.len(),
        session_e2ee::limits::COUNTERSIGN_REQUESTS_MAX
    );
    // Nobody is shown any of it.
    assert!(clients[0].messages(group).is_empty());
    clients[0]
        .dev()
        .forget_countersign(group, &waiting[0])
        .unwrap();
    let left = clients[0].device().countersign_requests(group).unwrap();
    assert_eq!(left, waiting[1..]);
    clients[2].dev().rotate(group, &chain.directory()).unwrap();
    settle(&mut clients, &mut chain);
    let left = clients[0].device().countersign_requests(group).unwrap();
    assert!(left.is_empty());
}

#[test]
fn who_is_left_out_opens_the_invitation_and_has_no_key_for_it() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 93);
    let now = chain.now_ms;
    for client in &mut clients {
        client
            .dev()
            .reserve_key_package(group, u64::MAX, now)
            .unwrap();
    }
    settle(&mut clients, &mut chain);
    let without = BTreeSet::from([clients[2].account()]);
    let (successor, left, _) = clients[0]
        .dev()
        .supersede_without(group, &without, &chain.directory(), now)
        .unwrap();
    assert!(left.is_empty());
    assert_eq!(
        clients[0].device().successor_of(group).unwrap(),
        Some(successor)
    );
    let sealed = clients[0]
        .device()
        .seal_for_successor(group, successor, b"line")
        .unwrap();
    for client in &clients {
        let opened = client
            .device()
            .open_for_successor(group, successor, &sealed);
        assert_eq!(opened.unwrap(), b"line");
    }
    let other = clients[1]
        .device()
        .open_for_successor(group, group, &sealed);
    assert!(matches!(other, Err(E2eeError::WrongInvitation)));
    settle(&mut clients, &mut chain);
    let members = clients[1].device().members(successor).unwrap();
    let members: BTreeSet<_> = members.iter().map(|found| found.member).collect();
    let expected = [clients[0].member(), clients[1].member()];
    assert_eq!(members, BTreeSet::from(expected));
    assert!(clients[2].device().status(successor).is_err());
}
