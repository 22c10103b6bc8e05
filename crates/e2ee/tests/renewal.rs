//! A device takes another signature key: its groups follow in their time, the old key goes when nothing
//! needs it. That it signs nothing more is shown in `src/device/signature_key/tests.rs`.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

use session_core::ids::GroupId;
use session_crypto::Identity;
use session_e2ee::limits::{GRACE_MS, REJOIN_EVERY_MS};
use session_e2ee::{Authenticity, E2eeError, EventKind, GroupStatus, Policy, RejoinRefusal, Suite};
use world::client::{group_of, settle};
use world::{CHAIN, Chain, Client};

fn renew(client: &mut Client, chain: &Chain) {
    let (identity, now) = (client.identity.clone(), chain.now_ms);
    client.dev().renew_key(identity.signing_key(), now).unwrap();
}

fn tick(client: &mut Client, chain: &Chain) {
    let now = chain.now_ms;
    let output = client.dev().tick(now, &chain.directory()).unwrap();
    client.take(output);
}

/// How often a client was told that a device has another key.
fn told(client: &Client, of: &Client) -> usize {
    let device = of.member();
    let renewed = EventKind::KeyRenewed { device };
    let all = client.shown.iter();
    all.filter(|event| event.kind == renewed).count()
}

/// What a client has heard, and whether each of it is proved by now.
fn proved(client: &Client, group: GroupId) -> Vec<bool> {
    let verified = |name| {
        client
            .shown
            .iter()
            .any(|event| matches!(&event.kind, EventKind::Verified(names) if names.contains(&name)))
    };
    let messages = client.messages(group).into_iter();
    messages
        .map(|message| message.authenticity == Authenticity::Verified || verified(message.name()))
        .collect()
}

fn follows(suite: Suite, seed: u64) {
    let (mut chain, mut clients, group) = group_of(3, suite, seed);
    // The second of these waits for its signature when the epoch ends.
    clients[1].say(group, "one", &chain).unwrap();
    clients[1].say(group, "two", &chain).unwrap();
    clients[1].flush(&mut chain).unwrap();
    renew(&mut clients[1], &chain);
    assert_eq!(clients[1].device().former_keys(), 1);
    clients[1].restart(|| true);
    assert!(clients[1].device().awaits_key(group).unwrap());
    clients[1].say(group, "three", &chain).unwrap();
    let due = clients[1].device().rotation(group).unwrap().due_ms;
    assert!(due <= chain.now_ms, "the rotation is due at once");
    tick(&mut clients[1], &chain);
    // The others commit meanwhile: it is made anew. The last one sleeps through all of it.
    clients[0].dev().rotate(group, &chain.directory()).unwrap();
    clients[0].flush(&mut chain).unwrap();
    settle(&mut clients[..2], &mut chain);
    clients[1].say(group, "four", &chain).unwrap();
    settle(&mut clients[..2], &mut chain);
    chain.tick(6_000);
    tick(&mut clients[1], &chain);
    settle(&mut clients[..2], &mut chain);
    assert_eq!(told(&clients[0], &clients[1]), 1);
    assert_eq!(told(&clients[1], &clients[1]), 1);
    assert!(!clients[1].device().awaits_key(group).unwrap());
    assert_eq!(clients[1].device().former_keys(), 0);
    settle(&mut clients, &mut chain);
    for client in [&clients[0], &clients[2]] {
        assert_eq!(client.texts(group), ["one", "two", "three", "four"]);
        assert_eq!(proved(client, group), [true; 4], "{}", client.name);
        assert!(client.halted().is_empty());
    }
    let number = |client: &Client| client.device().safety_number(group).unwrap();
    assert_eq!(number(&clients[0]), number(&clients[2]));
    assert_eq!(number(&clients[0]), number(&clients[1]));
    let all = clients[2].device().certificates(group).unwrap();
    let account = clients[1].account();
    let own = all.iter().find(|found| found.claim().account == account);
    assert_eq!(own.unwrap().claim().serial, 1);
}

#[test]
fn who_follows_early_and_who_follows_late_verify_with_the_key_of_the_epoch() {
    follows(Suite::PostQuantum, 500);
}

#[test]
fn so_they_do_in_the_classical_suite() {
    follows(Suite::Classical, 501);
}

#[test]
fn a_key_that_is_renewed_while_a_commit_is_under_way_comes_right_after_it() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 510);
    renew(&mut clients[1], &chain);
    tick(&mut clients[1], &chain);
    // On its way is the second key; the third is there before the chain has taken it.
    renew(&mut clients[1], &chain);
    assert_eq!(clients[1].device().former_keys(), 2);
    settle(&mut clients, &mut chain);
    assert_eq!(clients[1].device().former_keys(), 1);
    assert!(clients[1].device().awaits_key(group).unwrap());
    clients[1].say(group, "by the second", &chain).unwrap();
    tick(&mut clients[1], &chain);
    settle(&mut clients, &mut chain);
    assert_eq!(clients[1].device().former_keys(), 0);
    assert_eq!(told(&clients[2], &clients[1]), 2);
    clients[1].say(group, "by the third", &chain).unwrap();
    settle(&mut clients, &mut chain);
    chain.tick(6_000);
    tick(&mut clients[1], &chain);
    settle(&mut clients, &mut chain);
    assert_eq!(proved(&clients[2], group), [true; 2]);
}

#[test]
fn an_account_that_rotates_while_a_new_key_is_under_way_ends_no_group() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 520);
    let account = clients[1].account();
    renew(&mut clients[1], &chain);
    tick(&mut clients[1], &chain);
    let second = Identity::generate_without_phrase().unwrap();
    chain.rotate_key(account, second.public().signing().clone());
    settle(&mut clients, &mut chain);
    for client in &clients {
        assert!(client.halted().is_empty(), "{}", client.name);
    }
    assert!(!clients[1].device().awaits_key(group).unwrap());
    // Later nobody would follow it, and so it is not made: the leaf keeps what it has until the account
    // has certified the new key.
    let (identity, now) = (clients[1].identity.clone(), chain.now_ms + GRACE_MS);
    chain.tick(GRACE_MS);
    let device = clients[1].dev();
    device.renew_key(identity.signing_key(), now).unwrap();
    tick(&mut clients[1], &chain);
    settle(&mut clients, &mut chain);
    assert!(clients[1].device().awaits_key(group).unwrap());
    let device = clients[1].dev();
    assert!(device.recertify(second.signing_key(), now).unwrap());
    tick(&mut clients[1], &chain);
    settle(&mut clients, &mut chain);
    assert!(!clients[1].device().awaits_key(group).unwrap());
    assert_eq!(clients[1].device().former_keys(), 0);
    for client in &clients {
        assert!(client.halted().is_empty(), "{}", client.name);
    }
}

#[test]
fn a_key_package_with_the_old_key_still_brings_the_device_in_and_keeps_that_key() {
    let (mut chain, mut clients, first) = group_of(3, Suite::Classical, 530);
    let (used, unused) = (clients[1].invitee(&chain), clients[1].invitee(&chain));
    renew(&mut clients[1], &chain);
    tick(&mut clients[1], &chain);
    settle(&mut clients, &mut chain);
    assert!(!clients[1].device().awaits_key(first).unwrap());
    assert_eq!(clients[1].device().former_keys(), 1);
    let policy = Policy::new(CHAIN, clients[0].account());
    let third = clients[2].invitee(&chain);
    let group = clients[0].create(policy, &[used, third], &chain);
    settle(&mut clients, &mut chain);
    // It is in by the old key, signs with it, and adds by it.
    assert!(clients[1].device().awaits_key(group).unwrap());
    clients[1].say(group, "by the old one", &chain).unwrap();
    settle(&mut clients, &mut chain);
    assert_eq!(proved(&clients[2], group), [true]);
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    settle(&mut clients, &mut chain);
    assert!(!clients[1].device().awaits_key(group).unwrap());
    // Another package has it still, until that is good no more.
    assert_eq!(clients[1].device().former_keys(), 1);
    clients[1]
        .dev()
        .expire_key_packages(unused.expires_ms)
        .unwrap();
    assert_eq!(clients[1].device().former_keys(), 0);
}

#[test]
fn who_adds_before_its_leaf_has_the_new_key_invites_with_the_old_one() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 540);
    let gone = clients[2].member();
    clients[0]
        .dev()
        .remove(group, &[gone], false, &chain.directory())
        .unwrap();
    settle(&mut clients, &mut chain);
    renew(&mut clients[0], &chain);
    let (invitee, now) = (clients[2].invitee(&chain), chain.now_ms);
    clients[0]
        .dev()
        .add(group, &[invitee], &chain.directory(), now)
        .unwrap();
    settle(&mut clients, &mut chain);
    assert!(clients[0].device().awaits_key(group).unwrap());
    assert_eq!(clients[1].device().members(group).unwrap().len(), 3);
    // And with the new one where the same commit brings both.
    let gone = clients[2].member();
    clients[0]
        .dev()
        .remove(group, &[gone], false, &chain.directory())
        .unwrap();
    settle(&mut clients, &mut chain);
    assert!(!clients[0].device().awaits_key(group).unwrap());
    assert_eq!(clients[0].device().former_keys(), 0);
    assert_eq!(told(&clients[1], &clients[0]), 1);
}

/// The write may have happened all the same: the program goes on, with the key that the disk has.
#[test]
fn a_write_that_fails_leaves_the_device_with_one_key_also_without_a_restart() {
    let mut step = 0;
    loop {
        let mut died = false;
        for happens in [false, true] {
            let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 570);
            let (identity, now) = (clients[1].identity.clone(), chain.now_ms);
            clients[1].disk.set_fuse(step, happens);
            let renewed = clients[1].dev().renew_key(identity.signing_key(), now);
            let dead = clients[1].disk.is_dead();
            died |= dead;
            assert!(renewed.is_ok() || dead, "step {step}: {renewed:?}");
            clients[1].disk.power_on(|| true);
            // The next event looks up what the disk has.
            clients[1].dev().expire_key_packages(0).unwrap();
            tick(&mut clients[1], &chain);
            settle(&mut clients, &mut chain);
            assert_eq!(clients[1].device().former_keys(), 0, "{step} {happens}");
            let package = clients[1].invitee(&chain);
            clients[1].restart(|| true);
            let policy = Policy::new(CHAIN, clients[0].account());
            let other = clients[0].create(policy, &[package], &chain);
            settle(&mut clients, &mut chain);
            for group in [group, other] {
                clients[1].say(group, "here", &chain).unwrap();
                clients[1].dev().rotate(group, &chain.directory()).unwrap();
                settle(&mut clients, &mut chain);
                assert_eq!(clients[0].texts(group), ["here"], "{step} {happens}");
                assert!(!clients[1].device().awaits_key(group).unwrap());
            }
            assert_eq!(clients[1].device().former_keys(), 0);
        }
        if !died {
            assert!(step > 2, "renewing writes something");
            return;
        }
        step += 1;
    }
}

/// Lets the last device lose the group, and has it come back. `unseen`: its own commit, with the new key,
/// was taken without its knowing.
fn comes_back(unseen: bool, seed: u64) {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, seed);
    renew(&mut clients[2], &chain);
    if unseen {
        tick(&mut clients[2], &chain);
        clients[2].flush(&mut chain).unwrap();
    }
    clients[0].sync(&chain).unwrap();
    clients[0].dev().rotate(group, &chain.directory()).unwrap();
    settle(&mut clients[..2], &mut chain);
    chain.prune(group);
    clients[2].sync(&chain).unwrap();
    let status = clients[2].device().status(group).unwrap();
    assert_eq!(status, GroupStatus::Lost);
    // Meanwhile the account has other keys: what it asks by has to be certified by those.
    let next = Identity::generate_without_phrase().unwrap();
    chain.rotate_key(clients[2].account(), next.public().signing().clone());
    chain.tick(REJOIN_EVERY_MS);
    let now = chain.now_ms;
    assert!(clients[2].dev().recertify(next.signing_key(), now).unwrap());
    assert!(!clients[2].dev().recertify(next.signing_key(), now).unwrap());
    let directory = chain.directory();
    let mut request = clients[2]
        .dev()
        .rejoin_request(group, now)
        .unwrap()
        .unwrap();
    let first = clients[0].dev().examine_rejoin(&request, &directory, now);
    if unseen {
        // It cannot know, and asks by the other key on the next day.
        let refused = E2eeError::Rejoin(RejoinRefusal::OtherKey);
        assert_eq!(first.unwrap_err().to_string(), refused.to_string());
        clients[2].dev().rejoin_asked(group).unwrap();
        chain.tick(REJOIN_EVERY_MS);
        let now = chain.now_ms;
        request = clients[2]
            .dev()
            .rejoin_request(group, now)
            .unwrap()
            .unwrap();
    } else {
        first.unwrap();
    }
    let (now, directory) = (chain.now_ms, chain.directory());
    clients[0].dev().readmit(&request, &directory, now).unwrap();
    settle(&mut clients, &mut chain);
    let status = clients[2].device().status(group).unwrap();
    assert_eq!(status, GroupStatus::Active);
    assert_eq!(clients[2].device().awaits_key(group).unwrap(), !unseen);
    clients[2].say(group, "back", &chain).unwrap();
    clients[2].dev().rotate(group, &chain.directory()).unwrap();
    settle(&mut clients, &mut chain);
    let far = clients[2].device().outbox().unwrap();
    assert!(far.is_empty());
    assert!(!clients[2].device().awaits_key(group).unwrap());
    clients[2].dev().expire_key_packages(u64::MAX).unwrap();
    assert_eq!(clients[2].device().former_keys(), 0);
    assert_eq!(proved(&clients[1], group), [true]);
    for client in &clients {
        assert!(client.halted().is_empty(), "{}", client.name);
    }
}

#[test]
fn a_device_that_lost_its_group_comes_back_by_the_key_that_the_group_has() {
    comes_back(false, 550);
}

#[test]
fn it_comes_back_where_its_own_commit_was_taken_unseen() {
    comes_back(true, 560);
}
