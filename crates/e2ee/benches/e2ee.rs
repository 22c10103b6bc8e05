//! Frames, commits, joining and catching up.
//!
//! `LEAVES=1000 cargo bench -p session-e2ee` adds groups of that size.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a benchmark that fails is to stop"
)]

#[path = "../tests/world/mod.rs"]
mod world;

use divan::Bencher;
use divan::counter::ItemsCount;
use session_core::ids::{AccountId, ChainId, GroupId};
use session_crypto::{Identity, Secret};
use session_e2ee::frame::{Chain, EpochKeys};
use session_e2ee::{
    AccountState, Device, Directory, GroupFacts, Invitee, LogEntry, LogPlace, NewDevice,
    OutgoingKind, Policy, Randomness, Storage, Suite,
};
use session_storage::{DiskStore, SlotFile};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock};
use world::client::{identities, settle};
use world::{CHAIN, Client};

fn main() {
    divan::main();
}

/// Frames a round: a chain goes on, as it does in a conversation.
const FRAMES: usize = 64;

fn epoch() -> (EpochKeys, Chain) {
    let root = Secret::new([3; 48]);
    let group = GroupId::from_bytes([9; 32]);
    let (keys, mut chains) = EpochKeys::derive(&root, 7, group, 0..2).unwrap();
    (keys, chains.remove(1).1)
}

#[divan::bench(args = [100, 1_000, 10_000])]
fn seal_frames(bencher: Bencher<'_, '_>, bytes: usize) {
    let (keys, chain) = epoch();
    let text = vec![7; bytes];
    bencher
        .counter(ItemsCount::new(FRAMES))
        .with_inputs(|| chain.clone())
        .bench_refs(|chain| {
            for guard in 0..FRAMES as u32 {
                let frame = keys.seal(1, chain, guard.to_be_bytes(), &text).unwrap();
                divan::black_box(frame);
            }
        });
}

#[divan::bench(args = [100, 1_000, 10_000])]
fn open_frames(bencher: Bencher<'_, '_>, bytes: usize) {
    let (keys, chain) = epoch();
    let text = vec![7; bytes];
    let mut sender = chain.clone();
    let frames: Vec<Vec<u8>> = (0..FRAMES as u32)
        .map(|guard| {
            let sealed = keys.seal(1, &mut sender, guard.to_be_bytes(), &text);
            sealed.unwrap().1
        })
        .collect();
    bencher
        .counter(ItemsCount::new(FRAMES))
        .with_inputs(|| chain.clone())
        .bench_refs(|chain| {
            for frame in &frames {
                let place = keys.place(frame).unwrap();
                divan::black_box(chain.open(&keys, place, frame).unwrap());
            }
        });
}

#[divan::bench(args = [2, 100, 1_000])]
fn begin_an_epoch_of_leaves(bencher: Bencher<'_, '_>, leaves: u32) {
    let root = Secret::new([3; 48]);
    let group = GroupId::from_bytes([9; 32]);
    bencher.bench(|| EpochKeys::derive(&root, 7, group, 0..leaves).unwrap());
}

/// A group of so many, with the first two and the last following it, and everything about it that
/// the others would have.
struct Group {
    chain: world::Chain,
    /// Maker, a member, and who comes last.
    clients: Vec<Client>,
    group: GroupId,
    invitation: session_e2ee::Invitation,
    before_joining: world::Disk,
}

fn group(leaves: usize) -> &'static Mutex<Group> {
    static GROUPS: OnceLock<Mutex<BTreeMap<usize, &'static Mutex<Group>>>> = OnceLock::new();
    let mut groups = GROUPS.get_or_init(Mutex::default).lock().unwrap();
    groups
        .entry(leaves)
        .or_insert_with(|| Box::leak(Box::new(Mutex::new(make(leaves)))))
}

fn make(leaves: usize) -> Group {
    let mut chain = world::Chain::new();
    let ids = identities(leaves, &mut chain);
    let client = |n: usize, chain: &world::Chain| {
        Client::new(&n.to_string(), &ids[n], Suite::PostQuantum, n as u64, chain)
    };
    let mut clients = vec![client(0, &chain), client(1, &chain)];
    // The second of a pair is who comes last.
    let mut last = (leaves > 2).then(|| client(leaves - 1, &chain));
    let mut invitees: Vec<Invitee> = Vec::new();
    if leaves > 2 {
        invitees.push(clients[1].invitee(&chain));
    }
    // The others only have to be there.
    for n in 2..leaves - 1 {
        invitees.push(client(n, &chain).invitee(&chain));
    }
    let policy = Policy::new(CHAIN, clients[0].account());
    let mut batches = invitees.chunks(50);
    let first = batches.next().unwrap_or_default();
    let group = clients[0].create(policy, first, &chain);
    settle(&mut clients, &mut chain);
    for batch in batches {
        let now = chain.now_ms;
        clients[0]
            .dev()
            .add(group, batch, &chain.directory(), now)
            .unwrap();
        settle(&mut clients, &mut chain);
    }
    let joiner = last.as_mut().unwrap_or(&mut clients[1]);
    let invitee = joiner.invitee(&chain);
    let before_joining = joiner.disk.copy();
    let now = chain.now_ms;
    clients[0]
        .dev()
        .add(group, &[invitee], &chain.directory(), now)
        .unwrap();
    clients[0].flush(&mut chain).unwrap();
    clients[0].sync(&chain).unwrap();
    let outbox = clients[0].device().outbox().unwrap();
    let invitation = outbox
        .iter()
        .find_map(|outgoing| match &outgoing.kind {
            OutgoingKind::Invitation(invitation) => Some((**invitation).clone()),
            _ => None,
        })
        .unwrap();
    settle(&mut clients, &mut chain);
    clients.extend(last);
    Group {
        chain,
        clients,
        group,
        invitation,
        before_joining,
    }
}

fn sizes() -> Vec<usize> {
    let more = std::env::var("LEAVES").ok().and_then(|n| n.parse().ok());
    [2, 10, 100].into_iter().chain(more).collect()
}

fn open(disk: &world::Disk) -> Device {
    Device::open(Storage {
        store: disk.store(),
        slots: disk.slots(),
        key: Secret::new([0x55; 32]),
        randomness: Randomness::system(),
    })
    .unwrap()
}

#[divan::bench(args = sizes(), sample_count = 10)]
fn make_a_rotation(bencher: Bencher<'_, '_>, leaves: usize) {
    let world = group(leaves).lock().unwrap();
    let disk = world.clients[0].disk.copy();
    bencher
        .with_inputs(|| open(&disk.copy()))
        .bench_local_refs(|device| {
            device
                .rotate(world.group, &world.chain.directory())
                .unwrap()
        });
}

#[divan::bench(args = sizes(), sample_count = 10)]
fn follow_a_rotation(bencher: Bencher<'_, '_>, leaves: usize) {
    let world = group(leaves).lock().unwrap();
    let mut maker = open(&world.clients[0].disk.copy());
    maker.rotate(world.group, &world.chain.directory()).unwrap();
    let outbox = maker.outbox().unwrap();
    let OutgoingKind::Commit(advance) = &outbox[0].kind else {
        panic!("a commit");
    };
    let disk = world.clients[1].disk.copy();
    bencher
        .with_inputs(|| open(&disk.copy()))
        .bench_local_refs(|device| {
            let place = session_e2ee::LogPlace {
                position: device.next_position(world.group).unwrap(),
                time_ms: world.chain.now_ms,
            };
            let commit = session_e2ee::AcceptedCommit {
                epoch: advance.from_epoch + 1,
                commit: &advance.commit,
                keys: &advance.keys,
                removes: false,
            };
            let entry = session_e2ee::LogEntry::Commit(commit);
            device
                .receive(world.group, place, entry, &world.chain.directory())
                .unwrap()
        });
    eprintln!(
        "{leaves} leaves: a rotation of {} bytes",
        advance.commit.len()
    );
}

#[divan::bench(args = sizes(), sample_count = 10)]
fn join_a_group(bencher: Bencher<'_, '_>, leaves: usize) {
    let world = group(leaves).lock().unwrap();
    let facts = &world.chain.log(world.group).facts[&world.invitation.epoch];
    bencher
        .with_inputs(|| open(&world.before_joining.copy()))
        .bench_local_refs(|device| {
            device
                .join(&world.invitation, facts, &world.chain.directory())
                .unwrap()
        });
    let (welcome, tree) = (world.invitation.welcome.len(), world.invitation.tree.len());
    eprintln!("{leaves} leaves: welcome {welcome} bytes, tree {tree} bytes");
}

/// A hundred epochs missed, in groups of up to a hundred.
#[divan::bench(args = [2, 10, 100], sample_count = 3, sample_size = 1)]
fn catch_up_over_a_hundred_epochs(bencher: Bencher<'_, '_>, leaves: usize) {
    let mut world = group(leaves).lock().unwrap();
    let behind = world.clients[1].disk.copy();
    let Group {
        chain,
        clients,
        group,
        ..
    } = &mut *world;
    let from = clients[1].device().next_position(*group).unwrap() as usize;
    for _ in 0..100 {
        clients[0].dev().rotate(*group, &chain.directory()).unwrap();
        clients[0].flush(chain).unwrap();
        clients[0].sync(chain).unwrap();
    }
    bencher
        .with_inputs(|| open(&behind.copy()))
        .bench_local_refs(|device| {
            for entry in &chain.log(*group).entries[from..] {
                let directory = chain.directory_at(entry.place.time_ms);
                device
                    .receive(*group, entry.place, entry.entry(), &directory)
                    .unwrap();
            }
        });
    clients[1].sync(chain).unwrap();
}

/// One message as a device has it: sealed, stored, in the outbox; in memory, without a disk.
#[divan::bench(sample_count = 20)]
fn send_a_message_through_a_device(bencher: Bencher<'_, '_>) {
    let world = group(10).lock().unwrap();
    let disk = world.clients[0].disk.copy();
    let content = [session_e2ee::Content::Text("x".repeat(1_000))];
    bencher
        .with_inputs(|| {
            let mut device = open(&disk.copy());
            // The first of an epoch is signed; this is about the others.
            device.send(world.group, &content, 0).unwrap();
            device
        })
        .bench_local_refs(|device| device.send(world.group, &content, 0).unwrap());
}

/// The chain's word on two accounts, which never changes here.
struct Two([(AccountId, AccountState); 2]);

impl Directory for Two {
    fn account(&self, account: AccountId) -> Option<AccountState> {
        let found = self.0.iter().find(|(id, _)| *id == account);
        found.map(|(_, state)| state.clone())
    }
}

/// A device whose records and keys lie on a disk.
fn on_disk(directory: &std::path::Path, identity: &Identity) -> Device {
    std::fs::create_dir_all(directory).unwrap();
    let storage = Storage {
        store: Arc::new(DiskStore::open(directory.join("store")).unwrap()),
        slots: Box::new(SlotFile::open(directory.join("slots")).unwrap()),
        key: Secret::new([0; 32]),
        randomness: Randomness::system(),
    };
    let new = NewDevice {
        suite: Suite::PostQuantum,
        account: identity.account_id(),
        signing: identity.signing_key(),
        name: "phone",
        serial: 0,
    };
    Device::create(storage, &new, 1_000).unwrap()
}

/// One message of a kilobyte as a device receives it: opened, written down to be shown, its key erased,
/// and all of that durable on a disk before it is shown.
#[divan::bench(sample_count = 50, sample_size = 1)]
fn receive_a_message_durably(bencher: Bencher<'_, '_>) {
    let base = tempfile::tempdir().unwrap();
    let people = [Identity::generate().unwrap(), Identity::generate().unwrap()];
    let state = |identity: &Identity| AccountState {
        current: identity.public().signing().clone(),
        earlier: Vec::new(),
        revoked_ms: None,
    };
    let directory = Two(people.each_ref().map(|one| (one.account_id(), state(one))));
    let mut sender = on_disk(&base.path().join("sender"), &people[0]);
    let mut receiver = on_disk(&base.path().join("receiver"), &people[1]);
    let package = receiver.key_packages(1, 9_000).unwrap().remove(0);
    let invitee = Invitee {
        key_package: package.bytes,
        expires_ms: package.expires_ms,
    };
    let chain = ChainId::from_bytes([1; 32]);
    let policy = Policy::between(chain, people[0].account_id(), people[1].account_id());
    let made = sender.create_group(policy, &[invitee], &directory, 1_000);
    let (group, output) = made.unwrap();
    let [create, invite] = &output.outgoing[..] else {
        panic!("a creation and an invitation");
    };
    let (OutgoingKind::Create(creation), OutgoingKind::Invitation(invitation)) =
        (&create.kind, &invite.kind)
    else {
        panic!("a creation and an invitation");
    };
    let facts = GroupFacts {
        chain,
        group,
        epoch: creation.epoch,
        commit_hash: creation.commit_hash,
        keys: creation.keys.clone(),
        next_position: 0,
        time_ms: 1_000,
    };
    receiver.join(invitation, &facts, &directory).unwrap();
    let content = [session_e2ee::Content::Text("x".repeat(1_000))];
    let mut position = 0;
    bencher
        .with_inputs(|| {
            let output = sender.send(group, &content, 2_000).unwrap();
            let OutgoingKind::Frame { epoch, frame } = &output.outgoing[0].kind else {
                panic!("a frame");
            };
            (*epoch, frame.clone())
        })
        .bench_local_values(|(epoch, frame)| {
            let place = LogPlace {
                position,
                time_ms: 2_001,
            };
            position += 1;
            let entry = LogEntry::Frame {
                epoch,
                frame: &frame,
            };
            receiver.receive(group, place, entry, &directory).unwrap()
        });
}
