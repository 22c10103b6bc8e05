//! The operations of the published VM on cells in memory, for `compare/run`.
//!
//! Signatures count as verified and nothing is written to disk, as in the Go maps; but roles,
//! quotas, Merkle logs, the state tree and the block are ours, and they are in these numbers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    dead_code,
    missing_docs,
    reason = "a measurement that cannot go on stops; the world has more to it than one asks"
)]

#[path = "../../crypto/examples/meter/mod.rs"]
mod meter;
#[path = "../benches/world/mod.rs"]
mod world;

use meter::{cpu, report};
use session_chain::tx::session::{CreateSession, NewParticipant};
use session_chain::tx::{KemKey, Kind, Tx, TxIds};
use session_core::codec::Encode;
use session_core::header::SIGNATURE_LEN;
use session_core::ids::AccountId;
use world::{CHAIN, TIME, World};

const SESSIONS: u64 = 1_000;
const CREATES: u64 = 20_000;
const MESSAGES: u64 = 40_000;
const BLOCK: u64 = 200;

fn main() {
    let (mut create, mut send, mut apply) = (f64::INFINITY, f64::INFINITY, f64::INFINITY);
    for _ in 0..3 {
        create = create.min(run(CREATES, creates()).0);
        let messages = World::new(0).messages_among(MESSAGES, SESSIONS);
        let (all, alone) = run(MESSAGES, messages);
        (send, apply) = (send.min(all), apply.min(alone));
    }
    report("create session", create);
    report("append message", send);
    report("append message, rules alone", apply);
}

type Ready = (Tx, TxIds, usize);

/// Time per transaction: ids, blocks, state tree and cells; and of that, applying.
fn run(n: u64, txs: Vec<Ready>) -> (f64, f64) {
    let mut world = World::new(SESSIONS);
    // The length of a transaction is known when it arrives; its ids are not.
    let mut blocks: Vec<Vec<(Tx, usize)>> = Vec::new();
    for (i, (tx, _, bytes)) in txs.into_iter().enumerate() {
        if (i as u64).is_multiple_of(BLOCK) {
            blocks.push(Vec::new());
        }
        blocks.last_mut().unwrap().push((tx, bytes));
    }
    let (began, mut applying) = (cpu(), 0);
    for block in blocks {
        let mut builder = world.builder(TIME.after_ms(1_000));
        // What a node computes as a transaction arrives.
        let ready: Vec<Ready> = block
            .into_iter()
            .map(|(tx, bytes)| {
                let ids = tx.ids(&CHAIN);
                (tx, ids, bytes)
            })
            .collect();
        let before = cpu();
        for (tx, ids, bytes) in ready {
            builder.push(tx, &ids, bytes).unwrap();
        }
        applying += cpu() - before;
        let built = builder.finish();
        world.accept(built);
    }
    let per = |ns: i64| ns as f64 / n as f64;
    (per(cpu() - began), per(applying))
}

/// Sessions between two accounts, with both KEM keys, as the Go side has them.
fn creates() -> Vec<Ready> {
    let kem = KemKey(Box::new([1; 1_184]));
    (0..CREATES)
        .map(|i| {
            let (signer, peer) = (world::sender(i % SESSIONS), peer(i));
            let mut accounts = [signer, peer];
            accounts.sort_unstable();
            let participants = accounts.map(|account| NewParticipant {
                account,
                kem: (account != signer).then(|| kem.clone()),
                signing: None,
            });
            let tx = Tx {
                signer,
                valid_until: TIME.after_ms(60_000),
                salt: i,
                kind: Kind::CreateSession(CreateSession {
                    participants: participants.to_vec(),
                }),
                signature: vec![6; SIGNATURE_LEN],
            };
            let (ids, bytes) = (tx.ids(&CHAIN), tx.to_bytes().len());
            (tx, ids, bytes)
        })
        .collect()
}

fn peer(i: u64) -> AccountId {
    AccountId::from_bytes(world::id_of(7, i))
}
