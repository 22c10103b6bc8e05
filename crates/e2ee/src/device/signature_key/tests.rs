//! The strongest thief: it has everything that a device has after its renewal, but for the new key.

use openmls_traits::OpenMlsProvider as _;
use session_core::ids::{AccountId, ChainId};
use session_crypto::{Identity, Secret};
use session_storage::{MemorySlots, MemoryStore};
use std::sync::Arc;

use super::super::membership::commit_aad;
use super::super::{AcceptedCommit, GroupFacts, Invitee, LogEntry, NewDevice, Storage};
use super::*;
use crate::content::Content;
use crate::directory::{AccountState, Directory};
use crate::event::{Authenticity, Event, EventKind, LogPlace};
use crate::limits::REJOIN_EVERY_MS;
use crate::outgoing::OutgoingKind;
use crate::policy::Policy;
use crate::randomness::Randomness;
use crate::rejoin::RejoinRefusal;
use crate::suite::Suite;

const CHAIN: ChainId = ChainId::from_bytes([7; 32]);
const NOW: u64 = 1_000_000;

struct Accounts(Vec<Identity>);

impl Directory for Accounts {
    fn account(&self, account: AccountId) -> Option<AccountState> {
        let found = self.0.iter().find(|id| id.account_id() == account)?;
        Some(AccountState {
            current: found.public().signing().clone(),
            earlier: Vec::new(),
            revoked_ms: None,
        })
    }
}

/// Two devices of two people, and the log of their group, of which both have read everything.
struct Pair {
    accounts: Accounts,
    owner: Device,
    other: Device,
    group: GroupId,
    next: u64,
    now: u64,
}

impl Pair {
    fn new(suite: Suite) -> Self {
        let identity = || Identity::generate_without_phrase().unwrap();
        let accounts = Accounts(vec![identity(), identity()]);
        let device = |n: usize| {
            let storage = Storage {
                store: Arc::new(MemoryStore::new()),
                slots: Box::new(MemorySlots::new()),
                key: Secret::new([1; 32]),
                randomness: Randomness::seeded(Secret::new([n as u8; 32])),
            };
            let new = NewDevice {
                suite,
                account: accounts.0[n].account_id(),
                signing: accounts.0[n].signing_key(),
                name: "phone",
                serial: 0,
            };
            Device::create(storage, &new, NOW).unwrap()
        };
        let (mut owner, mut other) = (device(0), device(1));
        let package = other.key_packages(1, u64::MAX).unwrap().remove(0);
        let invitee = Invitee {
            key_package: package.bytes,
            expires_ms: package.expires_ms,
        };
        let policy = Policy::new(CHAIN, accounts.0[0].account_id());
        let made = owner.create_group(policy, &[invitee], &accounts, NOW);
        let (group, output) = made.unwrap();
        let mut facts = None;
        for outgoing in output.outgoing {
            match outgoing.kind {
                OutgoingKind::Create(creation) => {
                    facts = Some(GroupFacts {
                        chain: CHAIN,
                        group,
                        epoch: creation.epoch,
                        commit_hash: creation.commit_hash,
                        keys: creation.keys,
                        next_position: 0,
                        time_ms: NOW,
                    });
                }
                OutgoingKind::Invitation(invitation) => {
                    let facts = facts.as_ref().unwrap();
                    other.join(&invitation, facts, &accounts).unwrap();
                }
                OutgoingKind::Commit(_) | OutgoingKind::Frame { .. } => {}
            }
            owner.accepted(outgoing.number).unwrap();
        }
        Self {
            accounts,
            owner,
            other,
            group,
            next: 0,
            now: NOW,
        }
    }

    /// What the other one has to send, into the log, and to both. Answers what the owner was told.
    fn deliver(&mut self) -> Vec<Event> {
        let mut told = Vec::new();
        for outgoing in self.other.outbox().unwrap() {
            let entry = match &outgoing.kind {
                OutgoingKind::Frame { epoch, frame } => LogEntry::Frame {
                    epoch: *epoch,
                    frame,
                },
                OutgoingKind::Commit(advance) => LogEntry::Commit(AcceptedCommit {
                    epoch: advance.from_epoch + 1,
                    commit: &advance.commit,
                    keys: &advance.keys,
                    removes: advance.removes,
                }),
                OutgoingKind::Create(_) | OutgoingKind::Invitation(_) => continue,
            };
            told.extend(self.receive(entry));
        }
        told
    }

    fn receive(&mut self, entry: LogEntry<'_>) -> Vec<Event> {
        let place = LogPlace {
            position: self.next,
            time_ms: self.now,
        };
        self.next += 1;
        let (group, accounts) = (self.group, &self.accounts);
        self.other.receive(group, place, entry, accounts).unwrap();
        let output = self.owner.receive(group, place, entry, accounts);
        output.unwrap().events
    }

    fn say(&mut self, text: &str) -> Vec<Event> {
        // Long enough after what was said before for a signature of its own.
        self.now += 10_000;
        let content = [Content::Text(text.to_owned())];
        self.other.send(self.group, &content, self.now).unwrap();
        self.deliver()
    }
}

fn is_proved(events: &[Event]) -> bool {
    events.iter().any(|event| {
        let shown = matches!(&event.kind, EventKind::Message(message)
            if message.authenticity == Authenticity::Verified);
        shown || matches!(event.kind, EventKind::Verified(_))
    })
}

fn nothing_that_the_old_key_signs_is_believed(suite: Suite) {
    let mut pair = Pair::new(suite);
    let group = pair.group;
    assert!(is_proved(&pair.say("before")));
    let old_seed = pair.other.record().unwrap().unwrap().leaf_seed;
    let old = LeafKey::from_seed(suite, old_seed.clone()).unwrap();
    let signing = pair.accounts.0[1].signing_key();
    pair.other.renew_key(signing, NOW).unwrap();
    // The group knows it by the old one still, and it goes on with that.
    assert!(pair.other.awaits_key(group).unwrap());
    assert_eq!(pair.other.former_keys(), 1);
    assert!(is_proved(&pair.say("between")));
    pair.other.tick(NOW, &pair.accounts).unwrap();
    let told = pair.deliver();
    let device = pair.other.member().unwrap();
    let renewed = EventKind::KeyRenewed { device };
    assert!(told.iter().any(|event| event.kind == renewed), "{told:?}");
    assert!(!pair.other.awaits_key(group).unwrap());
    assert_eq!(pair.other.former_keys(), 0, "nothing needs it");
    assert!(is_proved(&pair.say("after")));

    // From here on the device is its thief's: all of it, with the old key in the new one's place.
    pair.other
        .write(|buffer| {
            let mut record: DeviceRecord = buffer.load_record(&())?.unwrap();
            record.leaf_seed = old_seed;
            buffer.save_record(&(), &record);
            let mut record: GroupRecord = buffer.load_record(&group)?.unwrap();
            record.leaf_key = key_hash(old.public());
            buffer.save_record(&group, &record);
            Ok(())
        })
        .unwrap();
    pair.other.load_me().unwrap();
    let told = pair.say("by the thief");
    let shown = told
        .iter()
        .any(|event| matches!(event.kind, EventKind::Message(_)));
    assert!(shown, "it has the epoch's keys");
    assert!(!is_proved(&told), "{told:?}");

    // A commit, signed with the old key: the library makes it, and nobody follows it.
    let (commit, _) = pair
        .other
        .event(|event| {
            let record = event.group(group)?;
            let mut loaded = event.load(group)?;
            loaded.set_aad(commit_aad(record.chain, group, record.last_commit));
            let provider = &event.provider;
            let bundle = loaded
                .commit_builder()
                .force_self_update(true)
                .load_psks(provider.storage())
                .unwrap()
                .build(provider.rand(), provider.crypto(), &old, |_| true)
                .unwrap()
                .stage_commit(provider)
                .unwrap();
            Ok(bundle.commit().to_bytes().unwrap())
        })
        .unwrap();
    let examined = pair.owner.examine(group, &commit, &pair.accounts);
    assert!(
        matches!(examined, Err(E2eeError::Malformed { .. })),
        "{examined:?}"
    );

    // Nor is it let back in by it.
    let place = LogPlace {
        position: pair.next,
        time_ms: NOW,
    };
    let entry = LogEntry::PrunedCommit { epoch: 3 };
    let thief = &mut pair.other;
    thief.receive(group, place, entry, &pair.accounts).unwrap();
    let now = NOW + REJOIN_EVERY_MS;
    thief
        .recertify(pair.accounts.0[1].signing_key(), now)
        .unwrap();
    let request = thief.rejoin_request(group, now).unwrap().unwrap();
    let judged = pair.owner.examine_rejoin(&request, &pair.accounts, now);
    assert!(
        matches!(judged, Err(E2eeError::Rejoin(RejoinRefusal::OtherKey))),
        "{judged:?}"
    );
}

#[test]
fn nothing_that_a_stolen_key_signs_is_believed_once_the_leaf_has_another() {
    nothing_that_the_old_key_signs_is_believed(Suite::PostQuantum);
}

#[test]
fn nor_in_the_classical_suite() {
    nothing_that_the_old_key_signs_is_believed(Suite::Classical);
}
