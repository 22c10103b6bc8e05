//! A database that fails: what the plugin says, when it ends, and that its disk stays right.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::time::{Duration, Instant};

use serde_json::json;
use session_chain::block::Block;
use session_core::codec::Decode;
use session_fakehost::alone::{Alone, Failed};
use session_fakehost::bounded;
use session_fakehost::craft::Craft;
use session_fakehost::database::{Database, Fault};
use session_fakehost::network::{GENESIS, Known, Setup, wire};
use session_fakehost::people::call;
use session_fakehost::plugin::{NODE_PATIENCE, lives};

const PLUGIN: &str = env!("CARGO_BIN_EXE_fakehost-plugin");

/// Blocks of a run without faults.
const BLOCKS: u8 = 2;

fn setup() -> Setup {
    Setup::new(PLUGIN)
}

/// A node's own memory of a run: what it has proposed, and whether its outer index has it.
#[derive(Default)]
struct Outer {
    blocks: Vec<Known>,
}

/// A run up to the first call that fails.
async fn run(alone: &mut Alone, outer: &mut Outer) -> Result<(), Failed> {
    alone.operate().await?;
    for seed in 0..BLOCKS {
        let tx = alone.person(seed).registration();
        let known = alone.propose(&tx).await?;
        outer.blocks.push(known.clone());
        let accepted = alone.accept(wire(known.id)).await;
        accepted.map_err(|status| ("BlockAccept", status))?;
    }
    Ok(())
}

/// The node starts again on the disk: nothing is lost, nothing is ahead of the outer index, and
/// the missing block can be accepted. All blocks together are what the rules say.
async fn recovers(database: &Database, outer: &Outer, height: u64, what: &str) {
    database.heal();
    let mut alone = Alone::start(&setup(), database).await;
    let ready = alone.operate().await;
    ready.unwrap_or_else(|(call, status)| panic!("{what}: restart: {call}: {status}"));
    let last = alone.height().await;
    assert_eq!(last, height, "{what}");
    for known in outer
        .blocks
        .iter()
        .filter(|known| known.header.height > last)
    {
        alone.verify(known.bytes.clone()).await.expect(what);
        alone.prefer(wire(known.id)).await.expect(what);
        alone.accept(wire(known.id)).await.expect(what);
    }
    let tx = alone.person(99).registration();
    let next = alone.block(&tx).await;
    let next = next.unwrap_or_else(|(call, status)| panic!("{what}: {call}: {status}"));
    let mut craft = Craft::new(GENESIS.as_bytes(), alone.people().chain());
    for known in outer.blocks.iter().chain([&next]) {
        let block = Block::from_bytes(&known.bytes).unwrap();
        craft.accept(block);
        assert_eq!(craft.header, known.header, "{what}");
    }
    assert_eq!(next.header.height, outer.blocks.len() as u64 + 1, "{what}");
}

/// Lets the `k`-th write go wrong for every `k`, until a run is over before it comes to it.
async fn at_every_write(fault: Fault) -> Vec<String> {
    let mut told = Vec::new();
    for k in 0..40 {
        let what = format!("{fault:?} at write {k}");
        let database = Database::default();
        let mut alone = Alone::start(&setup(), &database).await;
        database.at_write(k, fault);
        let mut outer = Outer::default();
        let ran = run(&mut alone, &mut outer).await;
        if database.struck() == 0 {
            ran.unwrap_or_else(|(call, status)| panic!("{what}: {call}: {status}"));
            return told;
        }
        let (call, status) = ran.expect_err(&what);
        told.push(format!("{call}: {}", status.message()));
        if call == "BlockAccept" {
            ends_loudly(&mut alone, fault, &what).await;
        }
        drop(alone);
        database.cut();
        let height = outer.blocks.len() as u64;
        let written = matches!(fault, Fault::KillAfter | Fault::ErrorAfter);
        let height = height.saturating_sub(u64::from(!written));
        recovers(&database, &outer, height, &what).await;
    }
    panic!("a run has no end of writes");
}

/// A plugin that could not accept says so and goes: going on would part it from the others.
async fn ends_loudly(alone: &mut Alone, fault: Fault, what: &str) {
    let ended = alone.plugin.process.ended(Duration::from_secs(4)).await;
    alone.plugin.process.settle().await;
    let said = alone.plugin.process.output();
    let status = ended.unwrap_or_else(|| panic!("{what}: it goes on: {said}"));
    if matches!(fault, Fault::KillBefore | Fault::KillAfter) {
        return;
    }
    assert_eq!(status.code(), Some(1), "{what}: {said}");
    assert!(
        said.contains("sessionvm: ") && !said.contains("panicked"),
        "{what}: {said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_is_told_as_it_is_and_an_accept_that_fails_is_the_end() {
    bounded(50, async {
        for (fault, why) in [
            (Fault::Error, "planted"),
            (Fault::Closed, "closed"),
            (Fault::ErrorAfter, "planted"),
        ] {
            let told = at_every_write(fault).await;
            println!("{fault:?}: {told:#?}");
            assert!(
                told.len() > usize::from(BLOCKS),
                "every block is a write, and genesis"
            );
            for told in told {
                assert!(told.to_lowercase().contains(why), "{fault:?}: {told}");
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_dies_at_any_write_goes_on_from_what_was_written() {
    bounded(50, async {
        for fault in [Fault::KillBefore, Fault::KillAfter] {
            let told = at_every_write(fault).await;
            assert!(told.len() > usize::from(BLOCKS), "{told:?}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_fails_at_the_start_is_told_and_never_taken_for_nothing() {
    bounded(50, async {
        let database = Database::default();
        let mut alone = Alone::start(&setup(), &database).await;
        let mut outer = Outer::default();
        run(&mut alone, &mut outer).await.unwrap();
        drop(alone);
        let cells = database.cells();
        for fault in [Fault::Error, Fault::Closed] {
            let reads = async |k, iterators| {
                let what = format!("{fault:?} at {k}, iterators: {iterators}");
                let before = database.struck();
                let mut alone = Alone::start(&setup(), &database).await;
                if iterators {
                    database.at_iterator_answer(k, fault);
                } else {
                    database.at_read(k, fault);
                }
                let ready = alone.initialize().await;
                if database.struck() == before {
                    assert_eq!(ready.unwrap().height, u64::from(BLOCKS), "{what}");
                    return false;
                }
                let said = ready.map(|last| last.height).expect_err(&what);
                assert!(!said.message().is_empty(), "{what}");
                drop(alone);
                database.heal();
                assert!(
                    database.cells() == cells,
                    "{what}: a start that failed has written"
                );
                true
            };
            for iterators in [false, true] {
                let mut k = 0;
                while reads(k, iterators).await {
                    // The first ones each, then with longer steps.
                    k += 1 + k / 6;
                }
                println!("{fault:?}, iterators {iterators}: up to {k}");
                database.heal();
            }
        }
        recovers(&database, &outer, u64::from(BLOCKS), "after failing reads").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_fail_in_operation_refuse_a_block_that_is_good_and_take_it_afterwards() {
    bounded(30, async {
        let database = Database::default();
        let mut alone = Alone::operating(&setup(), &database).await;
        let tx = alone.person(1).registration();
        let first = alone.block(&tx).await.unwrap();
        let mut craft = Craft::new(GENESIS.as_bytes(), alone.people().chain());
        craft.accept(Block::from_bytes(&first.bytes).unwrap());
        let tx = alone.person(2).registration();
        let good = craft.block(&[tx], first.header.time);
        for fault in [Fault::Error, Fault::Closed] {
            database.every_read(fault);
            let refused = alone
                .verify(session_core::codec::Encode::to_bytes(&good))
                .await;
            println!("{fault:?}: {refused:?}");
            database.heal();
        }
        let bytes = session_core::codec::Encode::to_bytes(&good);
        alone.verify(bytes).await.unwrap();
        let id = wire(good.header.id());
        alone.prefer(id.clone()).await.unwrap();
        alone.accept(id).await.unwrap();
        let tx = alone.person(3).registration();
        let third = alone.block(&tx).await.unwrap();
        craft.accept(good);
        craft.accept(Block::from_bytes(&third.bytes).unwrap());
        assert_eq!(craft.header, third.header);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_read_while_a_slow_disk_takes_a_block() {
    bounded(30, async {
        let database = Database::default();
        let mut alone = Alone::operating(&setup(), &database).await;
        let tx = alone.person(1).registration();
        let known = alone.propose(&tx).await.unwrap();
        let slow = Duration::from_secs(2);
        database.at_write(0, Fault::Delay(slow));
        let began = Instant::now();
        let reading = async {
            let handler = alone.handler("/rpc");
            let mut worst = Duration::ZERO;
            let mut reads = 0;
            while began.elapsed() < Duration::from_millis(1_500) {
                let asked = Instant::now();
                let head = call(handler, "sessionvm.GetHead", &json!({}))
                    .await
                    .unwrap();
                assert_eq!(head["height"], 0);
                worst = worst.max(asked.elapsed());
                reads += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            (worst, reads)
        };
        let (accepted, (worst, reads)) = tokio::join!(alone.accept(wire(known.id)), reading);
        accepted.unwrap();
        assert!(began.elapsed() >= slow);
        assert!(
            worst < Duration::from_millis(700) && reads > 5,
            "{worst:?}, {reads} reads"
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_never_answers_keeps_nobody_from_stopping_it() {
    bounded(30, async {
        let database = Database::default();
        let mut alone = Alone::operating(&setup(), &database).await;
        let tx = alone.person(1).registration();
        let known = alone.propose(&tx).await.unwrap();
        database.at_write(0, Fault::Hang);
        let id = wire(known.id);
        let hung = tokio::time::timeout(Duration::from_millis(300), alone.accept(id)).await;
        assert!(hung.is_err(), "{hung:?}");
        let pid = alone.plugin.pid();
        let began = Instant::now();
        let stopped = alone.plugin.stop().await.expect("it ends by itself");
        assert_eq!(stopped.code(), Some(0));
        assert!(began.elapsed() < NODE_PATIENCE, "{:?}", began.elapsed());
        assert!(!lives(pid));
        let outer = Outer {
            blocks: vec![known],
        };
        database.cut();
        recovers(&database, &outer, 0, "after a disk that hung").await;
    })
    .await;
}
