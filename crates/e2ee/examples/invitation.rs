//! What it puts on the chain to add one device to a group.
//!
//! ```console
//! $ cargo run --release -p session-e2ee --example invitation -- 2 10 100 1000
//! ```
//!
//! A cold tree is one in which nobody but the maker has committed; of a warm one, one device of each eight
//! has rotated. Then one device more is added, three times: by an inviter of whose tree the chain has
//! nothing, by one whose last invitation is there, and again after somebody has rotated in between. Bytes
//! are those of the transactions, without the commit; beside them stands what one blob of welcome and tree
//! takes, cut every 64 KiB.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    missing_docs,
    reason = "a measurement that fails is to stop"
)]

#[path = "../tests/world/mod.rs"]
mod world;

use session_chain::tx::chunk::PutChunk;
use session_chain::tx::group::as_signer;
use session_chain::tx::{Kind, Tx};
use session_core::codec::Encode;
use session_core::ids::{ChunkId, GroupId};
use session_core::time::Time;
use session_crypto::Secret;
use session_e2ee::{Attachment, Invitation, Invitee, Policy, Randomness, Suite};
use std::collections::BTreeSet;
use world::client::identities;
use world::{CHAIN, Chain, Client};

/// One of so many devices rotates where a tree is warm, and so many are added at once.
const SUBTREE: usize = 8;
const ADDED: usize = 48;

/// Bytes of the transactions that put chunks, and how many there are.
fn put(chunks: &[Vec<u8>]) -> (usize, usize) {
    let bytes = chunks.iter().map(|bytes| {
        let tx = Tx {
            signer: as_signer(&GroupId::from_bytes([1; 32])),
            valid_until: Time::from_ms(1),
            salt: 1,
            kind: Kind::PutChunk(PutChunk {
                bytes: bytes.clone(),
            }),
            signature: vec![0; 3_309],
        };
        tx.to_bytes().len()
    });
    (bytes.sum(), chunks.len())
}

fn sealed(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut randomness = Randomness::seeded(Secret::new([1; 32]));
    Attachment::seal("", "", bytes, &mut randomness).unwrap().1
}

/// What one blob takes, and what head and pieces do where the chain has `there`.
fn cost(invitation: &Invitation, there: &mut BTreeSet<ChunkId>) -> String {
    let (whole, blobs) = put(&sealed(&invitation.to_bytes()));
    let (head, mut chunks) = invitation.split().unwrap();
    chunks.retain(|chunk| there.insert(PutChunk::id(chunk)));
    chunks.extend(sealed(&head.to_bytes()));
    let (bytes, count) = put(&chunks);
    format!("{whole} B in {blobs} | {bytes} B in {count}")
}

struct World {
    chain: Chain,
    clients: Vec<Client>,
    group: GroupId,
    /// Devices that were made.
    made: u64,
}

impl World {
    fn next(&mut self, identity: &std::sync::Arc<session_crypto::Identity>) -> Client {
        self.made += 1;
        Client::new(
            "device",
            identity,
            Suite::PostQuantum,
            self.made,
            &self.chain,
        )
    }

    /// Adds devices, and answers their invitation.
    fn add(&mut self, added: &mut [Client]) -> Invitation {
        let invitees: Vec<Invitee> = added.iter_mut().map(|c| c.invitee(&self.chain)).collect();
        let now = self.chain.tick(10_000);
        let directory = self.chain.directory();
        let maker = &mut self.clients[0];
        maker
            .dev()
            .add(self.group, &invitees, &directory, now)
            .unwrap();
        maker.flush(&mut self.chain).unwrap();
        maker.sync(&self.chain).unwrap();
        maker.flush(&mut self.chain).unwrap();
        maker.post.pop().unwrap()
    }

    fn rotate(&mut self, n: usize) {
        let directory = self.chain.directory();
        let group = self.group;
        self.clients[n].sync(&self.chain).unwrap();
        self.clients[n].dev().rotate(group, &directory).unwrap();
        self.clients[n].flush(&mut self.chain).unwrap();
        self.clients[n].sync(&self.chain).unwrap();
        self.clients[0].sync(&self.chain).unwrap();
        self.chain.tick(10_000);
    }
}

/// A group of `leaves`; where it is warm, the first of each eight has rotated. Those who have not are not
/// kept.
fn group(leaves: usize, warm: bool) -> World {
    let mut chain = Chain::new();
    let ids = identities(leaves + 3, &mut chain);
    let mut maker = Client::new("maker", &ids[0], Suite::PostQuantum, 0, &chain);
    let first = 1..leaves.min(SUBTREE);
    let mut added: Vec<Client> = first
        .map(|n| Client::new("device", &ids[n], Suite::PostQuantum, n as u64, &chain))
        .collect();
    let invitees: Vec<Invitee> = added.iter_mut().map(|c| c.invitee(&chain)).collect();
    let group = maker.create(Policy::new(CHAIN, maker.account()), &invitees, &chain);
    maker.flush(&mut chain).unwrap();
    let invitation = maker.post.pop().unwrap();
    let clients = vec![maker];
    let mut world = World {
        chain,
        clients,
        group,
        made: SUBTREE as u64,
    };
    world.settle(added, &invitation, warm, 1);
    let mut at = leaves.min(SUBTREE);
    while at < leaves {
        let to = (at + ADDED).min(leaves);
        let mut added: Vec<Client> = (at..to).map(|n| world.next(&ids[n])).collect();
        let invitation = world.add(&mut added);
        world.settle(added, &invitation, warm, at);
        at = to;
    }
    for id in &ids[leaves..] {
        let spare = world.next(id);
        world.clients.push(spare);
    }
    world
}

impl World {
    /// Devices that came in from leaf `first` on: one of each eight leaves stays, and rotates.
    fn settle(&mut self, added: Vec<Client>, invitation: &Invitation, warm: bool, first: usize) {
        for (n, mut client) in added.into_iter().enumerate() {
            let last = (first + n) % SUBTREE == SUBTREE - 1 || (first < SUBTREE && n == 0);
            if warm && last {
                client.join_with(invitation, &self.chain).unwrap();
                self.clients.push(client);
                self.rotate(self.clients.len() - 1);
            }
        }
    }
}

fn main() {
    let sizes = std::env::args().skip(1).map(|size| size.parse().unwrap());
    println!(
        "| leaves | | one blob | head and pieces: first | one blob | the next | one blob | after a rotation |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for leaves in sizes {
        let leaves: usize = leaves;
        for warm in [false, true] {
            let mut world = group(leaves, warm);
            let mut there = BTreeSet::new();
            let mut costs = Vec::new();
            for n in 0..3 {
                let mut spare = vec![world.clients.pop().unwrap()];
                if n == 2 && warm && world.clients.len() > 1 {
                    world.rotate(1);
                }
                let invitation = world.add(&mut spare);
                costs.push(cost(&invitation, &mut there));
            }
            let kind = if warm { "warm" } else { "cold" };
            println!("| {leaves} | {kind} | {} |", costs.join(" | "));
        }
    }
}
