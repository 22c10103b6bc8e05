//! What a device's disk goes through: the power fails at every write there is, a thief copies it,
//! an old copy comes back. Each trap of the library's storage has a test here that fails where the
//! rule against it is broken.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

use session_core::ids::GroupId;
use session_crypto::Secret;
use session_e2ee::{
    Content, Device, E2eeError, EventKind, Invitation, OutgoingKind, Randomness, Storage, Suite,
};
use world::client::{deliver_mail, group_of, settle};
use world::{Chain, Client, Disk};

fn open(disk: &Disk, seed: u8) -> Device {
    Device::open(Storage {
        store: disk.store(),
        slots: disk.slots(),
        key: Secret::new([0x55; 32]),
        randomness: Randomness::seeded(Secret::new([seed; 32])),
    })
    .unwrap()
}

/// An event of a device, to be interrupted everywhere.
type Act = fn(&mut Client, GroupId, &mut Chain) -> Result<(), E2eeError>;

/// What must hold before and after: the act is done wholly or not at all, and can be done again.
fn interrupted_everywhere(name: &str, prepare: fn(&mut [Client], GroupId, &mut Chain), act: Act) {
    let mut step = 0;
    loop {
        for happens in [false, true] {
            let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 40);
            prepare(&mut clients, group, &mut chain);
            let client = &mut clients[1];
            client.disk.set_fuse(step, happens);
            let result = act(client, group, &mut chain);
            let died = client.disk.is_dead();
            assert!(result.is_ok() || died, "{name}, step {step}: {result:?}");
            let mut keep = step % 2 == 0;
            client.restart(|| {
                keep = !keep;
                keep
            });
            if died {
                // Once more, as a client does that does not know how far it came. What was stored
                // says by itself that it is done.
                match act(client, group, &mut chain) {
                    Ok(()) | Err(E2eeError::CommitPending(_) | E2eeError::NoKeyPackage) => {}
                    Err(error) => panic!("{name}, step {step} ({happens}): {error}"),
                }
            }
            settle(&mut clients, &mut chain);
            for (n, client) in clients.iter_mut().enumerate() {
                client.say(group, &format!("from {n}"), &chain).unwrap();
            }
            settle(&mut clients, &mut chain);
            for (n, client) in clients.iter().enumerate() {
                assert!(client.halted().is_empty(), "{name}, step {step}");
                for other in (0..3).filter(|other| *other != n) {
                    let texts = client.texts(group);
                    let heard = texts
                        .iter()
                        .filter(|text| **text == format!("from {other}"));
                    assert_eq!(heard.count(), 1, "{name}, step {step}: {n} hears {other}");
                }
            }
            let epochs: Vec<u64> = clients
                .iter()
                .map(|client| client.device().epoch(group).unwrap())
                .collect();
            assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "{name}");
            if !died && !happens {
                assert!(step > 2, "{name} writes something");
                return;
            }
        }
        step += 1;
    }
}

fn nothing(_: &mut [Client], _: GroupId, _: &mut Chain) {}

#[test]
fn the_power_fails_at_every_write_of_sending() {
    interrupted_everywhere("send", nothing, |client, group, chain| {
        client.say(group, "again and again", chain)
    });
}

/// Commit built and not stored, or stored and not sent: the same bytes are sent later.
#[test]
fn the_power_fails_at_every_write_of_making_a_commit() {
    interrupted_everywhere("commit", nothing, |client, group, chain| {
        let output = client.dev().rotate(group, &chain.directory())?;
        client.take(output);
        Ok(())
    });
}

/// Processed and not merged would be `SecretReuseError` for ever.
#[test]
fn the_power_fails_at_every_write_of_following_a_commit() {
    fn prepare(clients: &mut [Client], group: GroupId, chain: &mut Chain) {
        clients[0].dev().rotate(group, &chain.directory()).unwrap();
        clients[0].flush(chain).unwrap();
    }
    interrupted_everywhere("follow", prepare, |client, _, chain| client.sync(chain));
}

/// A commit that was sent and is not merged cannot be opened by its own author.
#[test]
fn the_power_fails_at_every_write_of_merging_ones_own_commit() {
    fn prepare(clients: &mut [Client], group: GroupId, chain: &mut Chain) {
        clients[1].dev().rotate(group, &chain.directory()).unwrap();
        clients[1].say(group, "beside it", chain).unwrap();
        clients[1].flush(chain).unwrap();
    }
    interrupted_everywhere("merge", prepare, |client, _, chain| client.sync(chain));
}

#[test]
fn the_power_fails_at_every_write_of_losing_a_race() {
    fn prepare(clients: &mut [Client], group: GroupId, chain: &mut Chain) {
        clients[1].dev().rotate(group, &chain.directory()).unwrap();
        clients[0].dev().rotate(group, &chain.directory()).unwrap();
        clients[0].flush(chain).unwrap();
    }
    interrupted_everywhere("race", prepare, |client, _, chain| client.sync(chain));
}

/// A new key without its certificate, or the other way round, would be a device that nobody knows; a
/// key that is gone too early leaves a leaf that nobody can sign for.
#[test]
fn the_power_fails_at_every_write_of_renewing_the_signature_key() {
    interrupted_everywhere("renew", nothing, |client, group, chain| {
        if !client.device().awaits_key(group)? {
            let identity = client.identity.clone();
            client
                .dev()
                .renew_key(identity.signing_key(), chain.now_ms)?;
        }
        let now = chain.now_ms;
        let output = client.dev().tick(now, &chain.directory())?;
        client.take(output);
        Ok(())
    });
}

#[test]
fn the_power_fails_at_every_write_of_merging_a_renewed_signature_key() {
    fn prepare(clients: &mut [Client], group: GroupId, chain: &mut Chain) {
        clients[1]
            .say(group, "signed by the old one", chain)
            .unwrap();
        clients[1].say(group, "after it", chain).unwrap();
        let (identity, now) = (clients[1].identity.clone(), chain.now_ms);
        let device = clients[1].dev();
        device.renew_key(identity.signing_key(), now).unwrap();
        device.tick(now, &chain.directory()).unwrap();
        clients[1].flush(chain).unwrap();
    }
    interrupted_everywhere("merge renewed", prepare, |client, _, chain| {
        client.sync(chain)
    });
}

#[test]
fn the_power_fails_at_every_write_of_hearing() {
    fn prepare(clients: &mut [Client], group: GroupId, chain: &mut Chain) {
        for n in 0..3 {
            clients[0].say(group, &format!("{n}"), chain).unwrap();
        }
        clients[0].flush(chain).unwrap();
    }
    interrupted_everywhere("hear", prepare, |client, _, chain| client.sync(chain));
}

/// The library deletes the key package before it looks at the tree.
#[test]
fn a_wrong_tree_does_not_cost_the_key_package() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 41);
    let gone = clients[2].member();
    let output = clients[0]
        .dev()
        .remove(group, &[gone], false, &chain.directory())
        .unwrap();
    clients[0].take(output);
    settle(&mut clients, &mut chain);
    let invitee = clients[2].invitee(&chain);
    let now = chain.now_ms;
    clients[0]
        .dev()
        .add(group, &[invitee], &chain.directory(), now)
        .unwrap();
    clients[0].flush(&mut chain).unwrap();
    clients[0].sync(&chain).unwrap();
    clients[0].flush(&mut chain).unwrap();
    deliver_mail(&mut clients);
    let right = clients[2].mail.pop().unwrap();
    for damage in 0..right.tree.len().min(400) {
        let mut wrong: Invitation = right.clone();
        wrong.tree[damage] ^= 1;
        let refused = clients[2].join_with(&wrong, &chain);
        assert!(
            matches!(
                refused,
                Err(E2eeError::WrongInvitation
                    | E2eeError::Malformed { .. }
                    | E2eeError::Refused(_)
                    | E2eeError::TooLarge { .. })
            ),
            "{damage}: {refused:?}"
        );
    }
    clients[2].join_with(&right, &chain).unwrap();
    let twice = clients[2].join_with(&right, &chain);
    assert!(
        matches!(
            twice,
            Err(E2eeError::AlreadyJoined(_) | E2eeError::NoKeyPackage)
        ),
        "{twice:?}"
    );
    settle(&mut clients, &mut chain);
    clients[2].say(group, "back", &chain).unwrap();
    settle(&mut clients, &mut chain);
    assert_eq!(clients[1].texts(group), ["back"]);
}

/// A damaged commit is refused without a trace, and the group goes on where it was.
#[test]
fn a_failed_commit_writes_nothing() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 42);
    clients[0].dev().rotate(group, &chain.directory()).unwrap();
    let outbox = clients[0].device().outbox().unwrap();
    let OutgoingKind::Commit(advance) = &outbox[0].kind else {
        panic!("a commit");
    };
    for at in (0..advance.commit.len()).step_by(701) {
        let mut damaged = advance.commit.clone();
        damaged[at] ^= 0x10;
        let steps = clients[1].disk.steps();
        let examined = clients[1]
            .device()
            .examine(group, &damaged, &chain.directory());
        assert!(examined.is_err(), "byte {at}");
        assert_eq!(clients[1].disk.steps(), steps);
    }
    let examined = clients[1]
        .device()
        .examine(group, &advance.commit, &chain.directory())
        .unwrap();
    assert_eq!(examined.keys, advance.keys);
    assert!(!examined.removes);
    settle(&mut clients, &mut chain);
    assert_eq!(clients[1].device().epoch(group).unwrap(), 2);
}

/// A thief with the whole disk at message n opens nothing from before, and nothing after the victim
/// has rotated.
#[test]
fn a_stolen_state_opens_nothing_from_before_and_nothing_after_healing() {
    let (mut chain, mut clients, group) = group_of(3, Suite::PostQuantum, 43);
    for n in 0..10 {
        clients[0]
            .say(group, &format!("early {n}"), &chain)
            .unwrap();
        settle(&mut clients, &mut chain);
    }
    // The signatures of all have come: keys of what is verified are gone.
    chain.tick(6_000);
    let now = chain.now_ms;
    clients[0].dev().tick(now, &chain.directory()).unwrap();
    settle(&mut clients, &mut chain);
    clients[1].dev().erase().unwrap();
    let stolen = clients[1].disk.copy();
    let early = chain.log(group).entries.len();
    // The thief plays the log again from its beginning, in its copy's place of the log.
    let mut thief = open(&stolen.copy(), 1);
    let next = thief.next_position(group).unwrap() as usize;
    assert_eq!(next, early);
    for entry in &chain.log(group).entries {
        // Moved to where the copy stands, so that it tries to open each.
        let mut place = entry.place;
        place.position = thief.next_position(group).unwrap();
        let world::chain::EntryKind::Frame { epoch, frame } = &entry.kind else {
            continue;
        };
        let entry = session_e2ee::LogEntry::Frame {
            epoch: *epoch,
            frame,
        };
        let output = thief
            .receive(group, place, entry, &chain.directory())
            .unwrap();
        let opened = output
            .events
            .iter()
            .any(|event| matches!(event.kind, EventKind::Message(_)));
        assert!(!opened, "an old frame opens with the stolen state");
    }
    drop(thief);
    // Until the victim rotates the thief reads along: nobody can help that.
    let mut thief = open(&stolen.copy(), 2);
    clients[0].say(group, "read along", &chain).unwrap();
    settle(&mut clients, &mut chain);
    let follow = |thief: &mut Device, chain: &Chain, from: usize| {
        let mut heard = Vec::new();
        for entry in &chain.log(group).entries[from..] {
            let directory = chain.directory_at(entry.place.time_ms);
            let Ok(output) = thief.receive(group, entry.place, entry.entry(), &directory) else {
                break;
            };
            for event in output.events {
                if let EventKind::Message(message) = event.kind
                    && let Content::Text(text) = &message.body.content
                {
                    heard.push(text.clone());
                }
            }
        }
        heard
    };
    assert_eq!(follow(&mut thief, &chain, early), ["read along"]);
    // Others' rotations do not lock it out, the victim's own does.
    clients[0].dev().rotate(group, &chain.directory()).unwrap();
    settle(&mut clients, &mut chain);
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    settle(&mut clients, &mut chain);
    let healed = chain.log(group).entries.len();
    clients[0].say(group, "healed", &chain).unwrap();
    clients[2].say(group, "all of us", &chain).unwrap();
    settle(&mut clients, &mut chain);
    let from = thief.next_position(group).unwrap() as usize;
    assert!(from < healed);
    assert_eq!(follow(&mut thief, &chain, from), Vec::<String>::new());
    assert_eq!(
        clients[1].texts(group).last().map(String::as_str),
        Some("all of us")
    );
}

/// A device that comes back from an older copy: its keys repeat, its key streams do not, and it is
/// told.
#[test]
fn a_device_from_an_older_copy_repeats_no_key_stream_and_is_told() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 44);
    let older = clients[1].disk.copy();
    clients[1].say(group, "one", &chain).unwrap();
    let frames = |outbox: Vec<session_e2ee::Outgoing>| -> Vec<Vec<u8>> {
        outbox
            .into_iter()
            .filter_map(|outgoing| match outgoing.kind {
                OutgoingKind::Frame { frame, .. } => Some(frame),
                _ => None,
            })
            .collect()
    };
    let first = frames(clients[1].device().outbox().unwrap());
    settle(&mut clients, &mut chain);
    let mut restored = open(&older.copy(), 9);
    let content = [Content::Text("two".to_owned())];
    restored.send(group, &content, chain.now_ms).unwrap();
    let second = frames(restored.outbox().unwrap());
    // The same text length, the same generation: another guard, another stream.
    let same = first[0][17..]
        .iter()
        .zip(&second[0][17..])
        .filter(|(a, b)| a == b)
        .count();
    assert!(same < 8, "{same} bytes of the key stream repeat");
    assert_ne!(first[0][5..9], second[0][5..9]);
    // One that follows the log before it speaks opens its other life's frames, sees its own
    // signature, and goes on behind them: nothing is lost, nothing has the same name.
    let mut restored = open(&older, 10);
    let mut told = Vec::new();
    let from = restored.next_position(group).unwrap() as usize;
    for entry in &chain.log(group).entries[from..] {
        let output = restored
            .receive(group, entry.place, entry.entry(), &chain.directory())
            .unwrap();
        told.extend(output.events.iter().filter_map(|event| match event.kind {
            EventKind::SealedInOurName { signed, .. } => Some(signed),
            _ => None,
        }));
    }
    assert_eq!(told, [false, true]);
    restored.send(group, &content, chain.now_ms).unwrap();
    for frame in frames(restored.outbox().unwrap()) {
        chain.post(group, 1, frame);
    }
    clients[2].sync(&chain).unwrap();
    assert_eq!(clients[2].texts(group), ["one", "two"]);
    let messages = clients[2].messages(group);
    assert_ne!(messages[0].name(), messages[1].name());
}

/// An old backup of the tables opens nothing with today's slots.
#[test]
fn old_tables_and_present_keys_open_nothing() {
    let (mut chain, mut clients, group) = group_of(3, Suite::Classical, 45);
    let older = clients[1].disk.copy();
    for n in 0..5 {
        clients[0].say(group, &format!("{n}"), &chain).unwrap();
        settle(&mut clients, &mut chain);
    }
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    settle(&mut clients, &mut chain);
    clients[1].dev().erase().unwrap();
    let mixed = clients[1].disk.with_tables_of(&older);
    let opened = Device::open(Storage {
        store: mixed.store(),
        slots: mixed.slots(),
        key: Secret::new([0x55; 32]),
        randomness: Randomness::system(),
    });
    // The device's own record never changed; its group's did, and is gone for good.
    if let Ok(device) = opened {
        assert!(matches!(device.epoch(group), Err(E2eeError::Vault(_))));
        assert!(matches!(device.outbox(), Ok(_) | Err(E2eeError::Vault(_))));
    }
}
