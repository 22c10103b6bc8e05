//! Accounts that rotate or are revoked while their devices are added.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

use session_crypto::Identity;
use session_e2ee::limits::{ADVANCE_VALID_MS, GRACE_MS};
use session_e2ee::{E2eeError, EventKind, GroupStatus, MemberDevice, Refusal, Suite, Unusable};
use world::client::{deliver_mail, group_of, identities, settle};
use world::{Chain, Client};

/// What an account does.
#[derive(Clone, Copy)]
enum Change {
    Rotates,
    Revoked,
}

impl Change {
    fn of(self, client: &Client, chain: &mut Chain) {
        match self {
            Self::Rotates => {
                let next = Identity::generate_without_phrase().unwrap();
                let key = next.public().signing().clone();
                chain.rotate_key(client.account(), key);
            }
            Self::Revoked => chain.revoke(client.account()),
        }
    }
}

fn newcomer(chain: &mut Chain, seed: u64) -> Client {
    let ids = identities(1, chain);
    Client::new("new", &ids[0], Suite::PostQuantum, seed, chain)
}

fn not_added(client: &Client) -> Vec<MemberDevice> {
    let shown = client.shown.iter();
    shown
        .filter_map(|event| match event.kind {
            EventKind::NotAdded { device } => Some(device),
            _ => None,
        })
        .collect()
}

/// A commit that adds somebody is on its way while the account changes, and arrives so much later.
fn crosses(change: Change, late_ms: u64, seed: u64) -> (Vec<Client>, Vec<GroupStatus>) {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, seed);
    let mut new = newcomer(&mut chain, seed);
    let invitee = new.invitee(&chain);
    let now = chain.now_ms;
    let output = clients[0]
        .dev()
        .add(group, &[invitee], &chain.directory(), now);
    let commit = output.unwrap().outgoing.remove(0);
    change.of(&new, &mut chain);
    // Whoever judges it now, for itself or as an admin who signs, refuses.
    let directory = chain.directory();
    let own = clients[0].device().examine_pending(group, &directory);
    assert!(matches!(own, Err(E2eeError::Refused(_))), "{own:?}");
    let session_e2ee::OutgoingKind::Commit(advance) = &commit.kind else {
        panic!("{commit:?}");
    };
    let other = clients[1]
        .device()
        .examine(group, &advance.commit, &directory);
    assert!(matches!(other, Err(E2eeError::Refused(_))), "{other:?}");
    // The submission itself takes a millisecond.
    chain.tick(late_ms - 1);
    chain.submit(&clients[0], &commit);
    clients[1].sync(&chain).unwrap();
    // The account goes on changing; others read the same entry a day later.
    Change::Rotates.of(&new, &mut chain);
    chain.tick(24 * GRACE_MS);
    for client in &mut clients {
        client.sync(&chain).unwrap();
    }
    let status = |client: &Client| client.device().status(group).unwrap();
    let statuses = clients.iter().map(status).collect();
    if let Change::Rotates = change
        && late_ms < GRACE_MS
    {
        clients.push(new);
        settle(&mut clients, &mut chain);
        clients[3].say(group, "here", &chain).unwrap();
        settle(&mut clients, &mut chain);
        assert_eq!(clients[2].texts(group), ["here"]);
    }
    (clients, statuses)
}

#[test]
fn who_rotates_or_is_revoked_while_it_is_added_is_in_and_the_group_goes_on() {
    for (n, change) in [Change::Rotates, Change::Revoked].into_iter().enumerate() {
        let seed = 300 + n as u64;
        let (clients, statuses) = crosses(change, GRACE_MS - 1, seed);
        assert_eq!(statuses, [GroupStatus::Active; 3]);
        assert!(clients.iter().all(|client| client.halted().is_empty()));
        // An honest program lets no commit be on its way for so long; another one's ends the group
        // for everybody, and for the same reason.
        let (clients, statuses) = crosses(change, GRACE_MS, seed + 10);
        assert_eq!(statuses, [GroupStatus::Halted; 3]);
        for client in &clients {
            let halted = client.halted();
            assert!(
                matches!(
                    halted[0].kind,
                    EventKind::Halted {
                        reason: Unusable::Credential,
                        ..
                    }
                ),
                "{halted:?}"
            );
        }
    }
}

#[test]
fn a_commit_that_would_be_refused_is_kept_while_the_chain_may_take_it_and_then_made_anew() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 320);
    let mut new = [newcomer(&mut chain, 321), newcomer(&mut chain, 322)];
    let invitees = new.each_mut().map(|client| client.invitee(&chain));
    let now = chain.now_ms;
    let output = clients[0]
        .dev()
        .add(group, &invitees, &chain.directory(), now)
        .unwrap();
    let until = now + ADVANCE_VALID_MS;
    clients[0].dev().commit_leaves(group, until).unwrap();
    Change::Rotates.of(&new[0], &mut chain);
    // As long as it may be in the log any moment it is not dropped, also not by a restart.
    clients[0].restart(|| true);
    chain.tick(ADVANCE_VALID_MS - 10);
    let now = chain.now_ms;
    let (gone, told) = clients[0]
        .dev()
        .give_up_pending(group, &chain.directory(), now)
        .unwrap();
    assert!(!gone && told.events.is_empty(), "{told:?}");
    assert_eq!(clients[0].device().outbox().unwrap(), output.outgoing);
    clients[0].say(group, "meanwhile", &chain).unwrap();
    // Then whoever cannot be added is told of, and the other one is added.
    chain.tick(20);
    let now = chain.now_ms;
    let (gone, _) = clients[0]
        .dev()
        .give_up_pending(group, &chain.directory(), now)
        .unwrap();
    assert!(gone);
    let first = new[0].member();
    clients.extend(new);
    settle(&mut clients, &mut chain);
    assert_eq!(not_added(&clients[0]), [first]);
    let members = clients[1].device().members(group).unwrap();
    assert_eq!(members.len(), 4);
    assert!(members.iter().all(|member| member.member != first));
    assert_eq!(
        clients[4].device().status(group).unwrap(),
        GroupStatus::Active
    );
    assert_eq!(clients[1].texts(group), ["meanwhile"]);
    assert!(clients.iter().all(|client| client.halted().is_empty()));
}

#[test]
fn of_a_commit_that_came_second_only_those_are_left_out_who_changed() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 330);
    let mut new = [newcomer(&mut chain, 331), newcomer(&mut chain, 332)];
    let invitees = new.each_mut().map(|client| client.invitee(&chain));
    let now = chain.now_ms;
    clients[0]
        .dev()
        .add(group, &invitees, &chain.directory(), now)
        .unwrap();
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    Change::Revoked.of(&new[1], &mut chain);
    clients[1].flush(&mut chain).unwrap();
    let second = new[1].member();
    clients.extend(new);
    settle(&mut clients, &mut chain);
    deliver_mail(&mut clients);
    assert_eq!(not_added(&clients[0]), [second]);
    assert_eq!(clients[2].device().members(group).unwrap().len(), 4);
}

#[test]
fn whoever_takes_a_key_package_has_no_grace() {
    let (mut chain, mut clients, group) = group_of(2, Suite::PostQuantum, 340);
    let mut new = newcomer(&mut chain, 341);
    let invitee = new.invitee(&chain);
    Change::Rotates.of(&new, &mut chain);
    let directory = chain.directory();
    let now = chain.now_ms;
    let refused = clients[0].dev().add(group, &[invitee], &directory, now);
    let account = new.account();
    assert!(
        matches!(refused, Err(E2eeError::Refused(Refusal::NotCertified(found))) if found == account),
        "{refused:?}"
    );
}

#[test]
fn an_account_that_has_ended_keeps_nobody_out_and_invites_nobody() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 6);
    chain.tick(2 * GRACE_MS);
    chain.revoke(clients[1].account());
    let invite = |clients: &mut Vec<Client>, chain: &mut Chain, seed: u64| {
        chain.tick(2 * GRACE_MS);
        let mut new = newcomer(chain, seed);
        let invitee = new.invitee(chain);
        let now = chain.now_ms;
        let added = clients[0]
            .dev()
            .add(group, &[invitee], &chain.directory(), now);
        let output = added.unwrap();
        clients[0].take(output);
        clients[0].flush(chain).unwrap();
        clients[0].sync(chain).unwrap();
        clients[0].flush(chain).unwrap();
        let invitation = clients[0].post.pop().unwrap();
        let joined = new.join_with(&invitation, chain);
        clients.push(new);
        joined
    };
    invite(&mut clients, &mut chain, 61).unwrap();
    clients[0].say(group, "welcome", &chain).unwrap();
    settle(&mut clients, &mut chain);
    assert_eq!(clients[3].texts(group), ["welcome"]);
    chain.revoke(clients[0].account());
    let refused = invite(&mut clients, &mut chain, 62);
    assert!(
        matches!(refused, Err(E2eeError::Refused(Refusal::RevokedAccount(_)))),
        "{refused:?}"
    );
}
