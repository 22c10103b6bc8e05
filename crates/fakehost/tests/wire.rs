//! Every call of the wire, as a node makes it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use session_core::codec::Encode;
use session_core::time::Time;
use session_fakehost::alone::{Alone, asked};
use session_fakehost::bounded;
use session_fakehost::craft::Craft;
use session_fakehost::database::Database;
use session_fakehost::network::{GENESIS, Setup, block_id, wire};
use session_rpcchainvm::health::HealthCheckRequest;
use session_rpcchainvm::health::health_client::HealthClient;
use session_rpcchainvm::vm::{
    BatchedParseBlockRequest, ConnectedRequest, DisconnectedRequest, Error, GetAncestorsRequest,
    GetBlockIdAtHeightRequest, GetBlockRequest, GetStateSummaryRequest, ParseBlockRequest,
    ParseStateSummaryRequest, State, StateSummaryAcceptRequest,
};

const PLUGIN: &str = env!("CARGO_BIN_EXE_fakehost-plugin");
const NOT_FOUND: i32 = Error::NotFound as i32;

async fn operating() -> Alone {
    Alone::operating(&Setup::new(PLUGIN), &Database::default()).await
}

fn now() -> Time {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Time::from_ms(u64::try_from(now.as_millis()).unwrap())
}

fn node(byte: u8) -> prost::bytes::Bytes {
    vec![byte; 20].into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_about_blocks_answers_as_a_node_expects() {
    bounded(30, async {
        let mut alone = Alone::start(&Setup::new(PLUGIN), &Database::default()).await;
        let genesis = alone.initialize().await.unwrap();
        assert_eq!((genesis.height, genesis.last_accepted_id.len()), (0, 32));
        assert_eq!(genesis.timestamp.unwrap().seconds, 1_737_676_800);
        alone.operate().await.unwrap_err();
        let mut alone = operating().await;
        alone.initialize().await.expect_err("once is enough");
        let mut vm = alone.vm();
        let tx = alone.person(1).registration();
        let block = alone.block(&tx).await.unwrap();
        let at = |height| GetBlockIdAtHeightRequest { height };
        let got = asked(vm.get_block_id_at_height(at(1))).await.unwrap();
        assert_eq!((got.err, block_id(&got.blk_id)), (0, block.id));
        let got = asked(vm.get_block_id_at_height(at(2))).await.unwrap();
        assert_eq!((got.err, got.blk_id.len()), (NOT_FOUND, 0));
        let got = asked(vm.get_block(GetBlockRequest { id: wire(block.id) }))
            .await
            .unwrap();
        assert!((got.err, got.height, &got.bytes) == (0, 1, &block.bytes));
        for id in [vec![9; 32], vec![0; 32]] {
            let got = asked(vm.get_block(GetBlockRequest { id: id.into() }))
                .await
                .unwrap();
            assert_eq!((got.err, got.bytes.len()), (NOT_FOUND, 0));
        }
        // An id that is none is refused, and by name.
        let short = asked(vm.get_block(GetBlockRequest {
            id: vec![9; 31].into(),
        }))
        .await;
        assert!(short.is_err() || short.unwrap().err == NOT_FOUND);
        let bytes = block.bytes.clone();
        let parsed = asked(vm.parse_block(ParseBlockRequest { bytes }))
            .await
            .unwrap();
        assert_eq!((parsed.height, block_id(&parsed.id)), (1, block.id));
        let request = vec![
            block.bytes.clone(),
            genesis.bytes.clone(),
            block.bytes.clone(),
        ];
        let parsed = asked(vm.batched_parse_block(BatchedParseBlockRequest { request })).await;
        let heights: Vec<u64> = parsed.unwrap().response.iter().map(|p| p.height).collect();
        assert_eq!(heights, [1, 0, 1]);
        let mut ancestors = async |num, size| {
            let request = GetAncestorsRequest {
                blk_id: wire(block.id),
                max_blocks_num: num,
                max_blocks_size: size,
                max_blocks_retrival_time: 1_000_000_000,
            };
            asked(vm.get_ancestors(request)).await.unwrap().blks_bytes
        };
        let both = [block.bytes.clone(), genesis.bytes.clone()];
        let exact = i32::try_from(both[0].len() + both[1].len() + 8).unwrap();
        // The first one comes whatever its size.
        for (num, size, expected) in [
            (9, 1 << 20, 2),
            (1, 1 << 20, 1),
            (9, 1, 1),
            (9, exact, 2),
            (9, exact - 1, 1),
        ] {
            let got = ancestors(num, size).await;
            assert!(
                got == both[..expected],
                "{num} blocks, {size} bytes: {}",
                got.len()
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_call_answers_as_a_node_expects() {
    bounded(30, async {
        let alone = operating().await;
        let mut vm = alone.vm();
        let connected = ConnectedRequest {
            node_id: node(1),
            name: "avalanchego".into(),
            major: 1,
            minor: 14,
            patch: 2,
        };
        asked(vm.connected(connected)).await.unwrap();
        asked(vm.disconnected(DisconnectedRequest { node_id: node(1) }))
            .await
            .unwrap();
        let health = asked(vm.health(())).await.unwrap().details;
        let _details: serde_json::Value = serde_json::from_slice(&health).unwrap();
        let version = asked(vm.version(())).await.unwrap().version;
        assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");
        let families = asked(vm.gather(())).await.unwrap().metric_families;
        let mut names: Vec<_> = families.iter().map(|family| family.name.clone()).collect();
        names.sort();
        names.dedup();
        assert!(
            !names.is_empty() && names.len() == families.len(),
            "{names:?}"
        );
        assert!(families.iter().all(|family| !family.metric.is_empty()));
        let handler = asked(vm.new_http_handler(())).await.unwrap();
        println!("header route: {:?}", handler.server_addr);
        for state in [State::StateSyncing, State::Bootstrapping, State::NormalOp] {
            assert_eq!(alone.set_state(state).await.unwrap().height, 0);
        }
        // A young chain offers no state, and takes none that is not one.
        let sync = asked(vm.state_sync_enabled(())).await.unwrap();
        assert!(sync.enabled);
        let ongoing = asked(vm.get_ongoing_sync_state_summary(())).await.unwrap();
        let last = asked(vm.get_last_state_summary(())).await.unwrap();
        let at = GetStateSummaryRequest { height: 3 };
        let got = asked(vm.get_state_summary(at)).await.unwrap();
        assert_eq!([ongoing.err, last.err, got.err], [NOT_FOUND; 3]);
        let bytes = prost::bytes::Bytes::from_static(b"summary");
        let parse = ParseStateSummaryRequest {
            bytes: bytes.clone(),
        };
        asked(vm.parse_state_summary(parse)).await.unwrap_err();
        let accept = StateSummaryAcceptRequest { bytes };
        asked(vm.state_summary_accept(accept)).await.unwrap_err();
        let mut health = HealthClient::new(session_fakehost::serve::dial(&alone.plugin.address));
        let service = String::new();
        let check = asked(health.check(HealthCheckRequest { service }))
            .await
            .unwrap();
        assert_eq!(check.status, 1, "serving");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_wants_to_build_only_what_it_can_build_and_says_so_as_long_as_it_can() {
    bounded(30, async {
        let mut alone = operating().await;
        let short = Duration::from_millis(200);
        assert!(!alone.wants(short).await, "nothing was submitted");
        assert!(alone.build().await.is_err());
        // A node cancels and asks again whenever something changes.
        for _ in 0..200 {
            alone.wants(Duration::from_micros(300)).await;
        }
        let tx = alone.person(1).registration();
        alone.submit(&tx);
        let patience = Duration::from_secs(5);
        let both = tokio::join!(alone.wants(patience), alone.wants(patience));
        assert_eq!(both, (true, true));
        let first = alone.build().await.unwrap();
        // It may want to build once more on the same preference: then it can, too.
        assert_eq!(alone.wants(short).await, alone.build().await.is_ok());
        alone.verify(first.bytes.clone()).await.unwrap();
        alone.verify(first.bytes.clone()).await.unwrap();
        alone.prefer(wire(first.id)).await.unwrap();
        assert!(
            !alone.wants(short).await,
            "everything is in the preferred block"
        );
        assert!(alone.build().await.is_err());
        alone.accept(wire(first.id)).await.unwrap();
        assert!(!alone.wants(short).await, "everything is accepted");
        assert!(alone.build().await.is_err());
        let last = alone.set_state(State::NormalOp).await.unwrap();
        assert_eq!(block_id(&last.last_accepted_id), first.id);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_blocks_are_not_judged_by_the_clock_while_it_bootstraps() {
    bounded(30, async {
        let mut alone = Alone::start(&Setup::new(PLUGIN), &Database::default()).await;
        alone.initialize().await.unwrap();
        alone.set_state(State::Bootstrapping).await.unwrap();
        assert!(
            alone.build().await.is_err(),
            "no building before normal operation"
        );
        let mut craft = Craft::new(GENESIS.as_bytes(), alone.people().chain());
        let ahead = now().after_ms(20_000);
        for seed in 1..4 {
            let block = craft.block(&[alone.person(seed).registration()], ahead);
            let id = wire(block.header.id());
            alone.verify(block.to_bytes()).await.unwrap();
            alone.accept(id).await.unwrap();
            craft.accept(block);
        }
        let last = alone.set_state(State::NormalOp).await.unwrap();
        assert_eq!(block_id(&last.last_accepted_id), craft.header.id());
    })
    .await;
}

/// With delayed acknowledgements every call would take 40 ms and more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_do_not_wait_for_the_network_to_acknowledge() {
    bounded(30, async {
        let alone = operating().await;
        let mut vm = alone.vm();
        let mut handler = Vec::new();
        let mut calls = Vec::new();
        for n in 0..60 {
            let id = vec![n; 32].into();
            let began = Instant::now();
            asked(vm.get_block(GetBlockRequest { id })).await.unwrap();
            calls.push(began.elapsed());
            let began = Instant::now();
            alone
                .handler("/rpc")
                .simple("GET", "/rpc", &[], Vec::new())
                .await
                .unwrap();
            handler.push(began.elapsed());
        }
        for mut times in [calls, handler] {
            times.sort();
            let median = times[times.len() / 2];
            println!("median {median:?}");
            assert!(median < Duration::from_millis(35), "{times:?}");
        }
    })
    .await;
}
