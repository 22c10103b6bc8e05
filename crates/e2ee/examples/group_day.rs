//! What a day costs a group: bytes on the chain, and CPU of a member.
//!
//! ```console
//! $ cargo run --release -p session-e2ee --example group_day -- 100 1000
//! ```
//!
//! Everything is measured but the multiplication: a tree in which everybody has rotated once, a
//! rotation in it (made and followed), and one device's messages of a day with the signatures over
//! them, followed by another device. Bytes are those of the transactions that carry it. A day is then
//! so many of each as the rotation rule and the number of messages say.

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

use rustix::time::{ClockId, clock_gettime};
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::as_signer;
use session_chain::tx::group::post::GroupPost;
use session_chain::tx::{Kind, SigningKey, Tx};
use session_core::codec::Encode;
use session_core::ids::GroupId;
use session_core::time::Time;
use session_crypto::SigningPublicKey;
use session_e2ee::rotation::{interval_ms, messages_max};
use session_e2ee::{Content, Invitee, OutgoingKind, Output, Policy, Suite};
use world::client::{identities, settle};
use world::{CHAIN, Chain, Client};

const DAY_MS: u64 = 86_400_000;
/// Leaves whose paths overlap in the lowest three levels: one rotation in each such subtree leaves no
/// blank above it.
const SUBTREE: usize = 8;
/// Bytes of a message's text.
const TEXT: usize = 100;
/// Pieces of a commit that is too large for its transaction.
const PIECE: usize = 65_536;

fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn timed<T>(act: impl FnOnce() -> T) -> (T, f64) {
    let before = cpu_ms();
    let value = act();
    (value, cpu_ms() - before)
}

/// Bytes of a transaction of the group, signed.
fn tx_bytes(group: GroupId, kind: Kind) -> usize {
    let tx = Tx {
        signer: as_signer(&group),
        valid_until: Time::from_ms(1),
        salt: 1,
        kind,
        signature: vec![0; 3_309],
    };
    tx.to_bytes().len()
}

fn key(key: &SigningPublicKey) -> SigningKey {
    SigningKey(Box::new(*key.as_bytes()))
}

/// Bytes of the posts that carry what a call has put into the outbox, 32 frames each.
fn post_bytes(group: GroupId, output: &Output) -> (usize, usize) {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    for outgoing in &output.outgoing {
        if let OutgoingKind::Frame { frame, .. } = &outgoing.kind {
            frames.push(frame.clone());
        }
    }
    let wire = frames.iter().map(Vec::len).sum();
    let posts = frames.chunks(32).map(|frames| {
        let frames = frames.to_vec();
        tx_bytes(group, Kind::GroupPost(GroupPost { epoch: 1, frames }))
    });
    (posts.sum(), wire)
}

/// A group of `leaves` in which each subtree of eight has rotated, and the last eight all have.
fn warm(leaves: usize) -> (Chain, Vec<Client>, GroupId) {
    let mut chain = Chain::new();
    let ids = identities(leaves, &mut chain);
    let client = |n: usize, chain: &Chain| {
        Client::new(&n.to_string(), &ids[n], Suite::PostQuantum, n as u64, chain)
    };
    let mut maker = client(0, &chain);
    let mut first: Vec<Client> = (1..SUBTREE.min(leaves))
        .map(|n| client(n, &chain))
        .collect();
    let invitees: Vec<Invitee> = first.iter_mut().map(|c| c.invitee(&chain)).collect();
    let group = maker.create(Policy::new(CHAIN, maker.account()), &invitees, &chain);
    let mut last = first;
    join_and_rotate(&mut maker, &mut last, group, &mut chain, 1);
    let mut at = SUBTREE;
    while at < leaves {
        let to = (at + SUBTREE).min(leaves);
        last = (at..to).map(|n| client(n, &chain)).collect();
        let invitees: Vec<Invitee> = last.iter_mut().map(|c| c.invitee(&chain)).collect();
        let now = chain.tick(10_000);
        maker
            .dev()
            .add(group, &invitees, &chain.directory(), now)
            .unwrap();
        let all = if to == leaves { last.len() } else { 1 };
        join_and_rotate(&mut maker, &mut last, group, &mut chain, all);
        at = to;
    }
    let mut clients = vec![maker];
    clients.append(&mut last);
    settle(&mut clients, &mut chain);
    (chain, clients, group)
}

/// The first `count` of those who were just added join and rotate; the others only have to be there.
fn join_and_rotate(
    maker: &mut Client,
    added: &mut Vec<Client>,
    group: GroupId,
    chain: &mut Chain,
    count: usize,
) {
    maker.flush(chain).unwrap();
    maker.sync(chain).unwrap();
    maker.flush(chain).unwrap();
    let invitation = maker.post.pop().unwrap();
    added.truncate(count);
    for client in added.iter_mut() {
        client.join_with(&invitation, chain).unwrap();
    }
    for n in 0..added.len() {
        added[n].dev().rotate(group, &chain.directory()).unwrap();
        added[n].flush(chain).unwrap();
        maker.sync(chain).unwrap();
        for client in added.iter_mut() {
            client.sync(chain).unwrap();
        }
        chain.tick(10_000);
    }
}

struct Rotation {
    commit: usize,
    chain: usize,
    make_ms: f64,
    follow_ms: f64,
}

fn rotation(chain: &mut Chain, clients: &mut [Client], group: GroupId) -> Rotation {
    let (mut commit, mut bytes, mut make_ms, mut follow_ms) = (0, 0, 0.0, 0.0);
    let rounds = clients.len() - 1;
    for n in 1..=rounds {
        let directory = chain.directory();
        let device = clients[n].device.as_mut().unwrap();
        let (output, ms) = timed(|| device.rotate(group, &directory).unwrap());
        make_ms += ms;
        let OutgoingKind::Commit(advance) = &output.outgoing[0].kind else {
            panic!("a commit");
        };
        commit += advance.commit.len();
        let pieces = advance.commit.chunks(PIECE).map(<[u8]>::to_vec);
        let carried = if advance.commit.len() <= PIECE {
            Commit::Bytes(advance.commit.clone())
        } else {
            // Each piece is a transaction too, with a signature.
            bytes += pieces.map(|piece| piece.len() + 3_400).sum::<usize>();
            Commit::Chunks(Vec::new())
        };
        bytes += tx_bytes(
            group,
            Kind::AdvanceGroup(AdvanceGroup {
                epoch: advance.from_epoch,
                commit: carried,
                posting: key(&advance.keys.posting),
                control: key(&advance.keys.control),
                removal: false,
                admin: None,
            }),
        );
        clients[n].flush(chain).unwrap();
        let ((), ms) = timed(|| clients[0].sync(chain).unwrap());
        follow_ms += ms;
        for client in clients.iter_mut() {
            client.sync(chain).unwrap();
        }
    }
    Rotation {
        commit: commit / rounds,
        chain: bytes / rounds,
        make_ms: make_ms / rounds as f64,
        follow_ms: follow_ms / rounds as f64,
    }
}

/// Epochs that somebody is away for.
const AWAY: usize = 100;

/// CPU of a device that catches up over as many epochs, which others have rotated in turn. In ms.
fn catch_up(chain: &mut Chain, clients: &mut [Client], group: GroupId) -> f64 {
    let (away, others) = clients.split_first_mut().unwrap();
    for n in 0..AWAY {
        let by = n % others.len();
        others[by].dev().rotate(group, &chain.directory()).unwrap();
        others[by].flush(chain).unwrap();
        for client in others.iter_mut() {
            client.sync(chain).unwrap();
        }
        chain.tick(10_000);
    }
    timed(|| away.sync(chain).unwrap()).1
}

struct Messages {
    /// For all of one device.
    chain: usize,
    wire: usize,
    send_ms: f64,
    receive_ms: f64,
}

/// A device says `count` things, each alone, or all in one breath.
fn messages(
    chain: &mut Chain,
    clients: &mut [Client],
    group: GroupId,
    count: u64,
    apart: bool,
) -> Messages {
    let mut out = Messages {
        chain: 0,
        wire: 0,
        send_ms: 0.0,
        receive_ms: 0.0,
    };
    // A new epoch: the first message in it is signed at once.
    clients[1].dev().rotate(group, &chain.directory()).unwrap();
    settle(clients, chain);
    let text = || Content::Text("x".repeat(TEXT));
    let (sender, receiver) = (2, 0);
    let breaths = if apart { count } else { 1 };
    let contents: Vec<Content> = (0..count / breaths).map(|_| text()).collect();
    for _ in 0..breaths {
        let now = chain.tick(60_000);
        let device = clients[sender].device.as_mut().unwrap();
        let (said, ms) = timed(|| device.send(group, &contents, now).unwrap());
        out.send_ms += ms;
        let later = chain.tick(5_000);
        let directory = chain.directory();
        let device = clients[sender].device.as_mut().unwrap();
        let (signed, ms) = timed(|| device.tick(later, &directory).unwrap());
        out.send_ms += ms;
        for output in [said, signed] {
            let (posts, wire) = post_bytes(group, &output);
            out.chain += posts;
            out.wire += wire;
        }
        clients[sender].flush(chain).unwrap();
        let ((), ms) = timed(|| clients[receiver].sync(chain).unwrap());
        out.receive_ms += ms;
        clients[sender].sync(chain).unwrap();
    }
    for client in clients.iter_mut() {
        client.sync(chain).unwrap();
    }
    out
}

fn day(leaves: usize) {
    let began = std::time::Instant::now();
    let (mut chain, mut clients, group) = warm(leaves);
    println!(
        "{leaves} leaves, warm after {:.0} s",
        began.elapsed().as_secs_f64()
    );
    let rotation = rotation(&mut chain, &mut clients, group);
    println!(
        "a rotation: {} B of commit, {} B on the chain, {:.1} ms to make, {:.1} ms to follow",
        rotation.commit, rotation.chain, rotation.make_ms, rotation.follow_ms
    );
    println!(
        "catching up over {AWAY} epochs: {:.0} ms",
        catch_up(&mut chain, &mut clients, group)
    );
    for (per_day, apart) in [(10, true), (10, false), (50, true), (50, false)] {
        let said = messages(&mut chain, &mut clients, group, per_day, apart);
        let interval = interval_ms(leaves).min(DAY_MS * u64::from(messages_max(leaves)) / per_day);
        let rotations = leaves as f64 * DAY_MS as f64 / interval as f64;
        let on_chain = rotations * rotation.chain as f64 + (leaves * said.chain) as f64;
        let wire = said.wire as f64 / per_day as f64;
        let own = leaves as f64;
        let cpu = rotations * rotation.follow_ms
            + rotations / own * rotation.make_ms
            + own * said.receive_ms
            + said.send_ms;
        println!(
            "{per_day} messages of {TEXT} B a device, {}: {rotations:.0} rotations ({:.1} MB), {} B on the \
             chain and {wire:.0} B of frames a message, {:.1} MB a day, {:.2} s CPU a member",
            if apart { "each alone" } else { "in one breath" },
            rotations * rotation.chain as f64 / 1e6,
            said.chain as u64 / per_day,
            on_chain / 1e6,
            cpu / 1e3,
        );
    }
}

fn main() {
    let sizes = std::env::args().skip(1).map(|size| size.parse().unwrap());
    for leaves in sizes {
        day(leaves);
    }
}
