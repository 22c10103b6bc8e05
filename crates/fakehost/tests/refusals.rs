//! What a plugin refuses, of whoever comes with it, and that nothing else changes by it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use session_chain::block::Block;
use session_chain::tx::Tx;
use session_core::codec::{Decode, Encode};
use session_core::ids::{BlockId, SessionId};
use session_core::submission::encode_request;
use session_core::time::Time;
use session_fakehost::alone::{Alone, asked};
use session_fakehost::bounded;
use session_fakehost::chance::Chance;
use session_fakehost::craft::Craft;
use session_fakehost::database::Database;
use session_fakehost::network::{GENESIS, Setup, wire};
use session_fakehost::people::Answer;
use session_rpcchainvm::vm::{
    AppGossipMsg, AppRequestFailedMsg, AppRequestMsg, AppResponseMsg, BatchedParseBlockRequest,
    BlockRejectRequest, ParseBlockRequest, State,
};

const PLUGIN: &str = env!("CARGO_BIN_EXE_fakehost-plugin");

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
async fn blocks_that_are_no_blocks_are_refused_and_change_nothing() {
    bounded(30, async {
        let mut alone = operating().await;
        let mut vm = alone.vm();
        let mut chance = Chance::new(1);
        let mut garbage: Vec<Vec<u8>> = vec![
            Vec::new(),
            vec![0],
            vec![0xff; 149],
            vec![1; 200],
            vec![1; (1 << 20) + 1],
            vec![0; 5 << 20],
        ];
        garbage.extend((0..40).map(|_| {
            let length = chance.below(400);
            (0..length).map(|_| chance.bytes::<1>()[0]).collect()
        }));
        for bytes in garbage {
            let what = format!(
                "{} bytes {:02x?}",
                bytes.len(),
                &bytes[..bytes.len().min(4)]
            );
            let bytes = prost::bytes::Bytes::from(bytes);
            let parse = ParseBlockRequest {
                bytes: bytes.clone(),
            };
            asked(vm.parse_block(parse)).await.expect_err(&what);
            let request = vec![bytes.clone()];
            let batch = BatchedParseBlockRequest { request };
            asked(vm.batched_parse_block(batch)).await.expect_err(&what);
            alone.verify(bytes).await.expect_err(&what);
        }
        let tx = alone.person(1).registration();
        let block = alone.block(&tx).await.unwrap();
        // Every cut and every extension of a good block is none.
        for end in [0, 1, 80, block.bytes.len() - 1] {
            let cut = block.bytes.slice(..end);
            asked(vm.parse_block(ParseBlockRequest { bytes: cut }))
                .await
                .unwrap_err();
        }
        let longer = [&block.bytes[..], &[0]].concat().into();
        asked(vm.parse_block(ParseBlockRequest { bytes: longer }))
            .await
            .unwrap_err();
    })
    .await;
}

/// A block with another header.
fn altered(block: &Block, alter: impl FnOnce(&mut Block)) -> Vec<u8> {
    let mut block = block.clone();
    alter(&mut block);
    block.to_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_that_break_a_rule_are_refused_one_by_one_and_the_good_one_is_taken() {
    bounded(30, async {
        let alone = operating().await;
        let craft = Craft::new(GENESIS.as_bytes(), alone.people().chain());
        let tx = alone.person(1).registration();
        let good = craft.block(&[tx], now());
        let mut forged = good.clone();
        forged.txs[0].signature[9] ^= 1;
        let chain = forged.header.chain;
        let root = session_chain::block::tx_root(forged.txs.iter().map(|tx| tx.ids(&chain).tx));
        forged.header.tx_root = root;
        let bad = [
            (
                "parent",
                altered(&good, |b| b.header.parent = BlockId::from_bytes([5; 32])),
            ),
            (
                "chain",
                altered(&good, |b| {
                    b.header.chain = session_core::ids::ChainId::from_bytes([5; 32]);
                }),
            ),
            ("height", altered(&good, |b| b.header.height = 2)),
            (
                "time before",
                altered(&good, |b| b.header.time = Time::from_ms(1_000)),
            ),
            (
                "time ahead",
                craft.block(&good.txs, now().after_ms(60_000)).to_bytes(),
            ),
            ("root", altered(&good, |b| b.header.state_root[3] ^= 1)),
            (
                "no transaction",
                altered(&good, |b| {
                    b.txs.clear();
                    b.header.count = 0;
                    b.header.tx_root = session_chain::block::tx_root([]);
                }),
            ),
            ("signature", forged.to_bytes()),
        ];
        for (what, bytes) in bad {
            let refused = alone.verify(bytes).await.expect_err(what);
            println!("{what}: {}", refused.message());
            assert!(!refused.message().is_empty(), "{what}");
        }
        let id = wire(good.header.id());
        alone.verify(good.to_bytes()).await.unwrap();
        alone.prefer(id.clone()).await.unwrap();
        alone.accept(id.clone()).await.unwrap();
        // Accepting the last accepted block once more changes nothing.
        alone.accept(id.clone()).await.unwrap();
        let last = alone.set_state(State::NormalOp).await.unwrap();
        assert_eq!((last.last_accepted_id, last.height), (id, 1));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_peers_never_upset_it() {
    bounded(30, async {
        let mut alone = operating().await;
        let mut vm = alone.vm();
        let mut chance = Chance::new(2);
        let mut messages: Vec<Vec<u8>> = vec![
            Vec::new(),
            vec![0],
            vec![2],
            vec![0xff; 12],
            vec![0; 2 << 20],
            [&[0][..], &u32::MAX.to_be_bytes(), &[0; 64]].concat(),
        ];
        messages.extend((0..60).map(|_| {
            let length = chance.below(300);
            let mut bytes: Vec<u8> = (0..length).map(|_| chance.bytes::<1>()[0]).collect();
            // Half of them name the handler of transactions.
            if let Some(first) = bytes.first_mut().filter(|_| chance.one_in(2)) {
                *first = 0;
            }
            bytes
        }));
        for (n, message) in messages.into_iter().enumerate() {
            let bytes = prost::bytes::Bytes::from(message);
            let (node_id, request_id) = (node(9), u32::try_from(n).unwrap());
            let (msg, request) = (bytes.clone(), bytes.clone());
            let gossip = AppGossipMsg {
                node_id: node_id.clone(),
                msg,
            };
            asked(vm.app_gossip(gossip)).await.unwrap();
            let deadline = Some((SystemTime::now() + Duration::from_secs(1)).into());
            let request = AppRequestMsg {
                node_id: node_id.clone(),
                request_id,
                deadline,
                request,
            };
            asked(vm.app_request(request)).await.unwrap();
            let response = AppResponseMsg {
                node_id: node_id.clone(),
                request_id,
                response: bytes,
            };
            asked(vm.app_response(response)).await.unwrap();
            let failed = AppRequestFailedMsg {
                node_id,
                request_id,
                error_code: -1,
                error_message: "timed out".into(),
            };
            asked(vm.app_request_failed(failed)).await.unwrap();
        }
        assert!(!alone.wants(Duration::from_millis(100)).await);
        let tx = alone.person(1).registration();
        alone.block(&tx).await.unwrap();
        let people = alone.people.as_mut().unwrap();
        while people.collect().await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(matches!(
            people.answers[0].2,
            Answer::Accepted { height: 1, .. }
        ));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn decisions_about_blocks_it_does_not_have_are_errors() {
    bounded(30, async {
        for call in 0..3 {
            let alone = operating().await;
            let id = wire(BlockId::from_bytes([5; 32]));
            let answer = match call {
                0 => alone.accept(id).await,
                1 => asked(alone.vm().block_reject(BlockRejectRequest { id })).await,
                _ => alone.prefer(id).await,
            };
            println!("call {call}: {:?}", answer.unwrap_err());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_before_initialize_are_errors_and_no_end() {
    bounded(30, async {
        let mut alone = Alone::start(&Setup::new(PLUGIN), &Database::default()).await;
        let mut vm = alone.vm();
        assert!(alone.build().await.is_err());
        assert!(alone.verify(vec![1, 2, 3]).await.is_err());
        assert!(alone.set_state(State::NormalOp).await.is_err());
        asked(vm.create_handlers(())).await.unwrap_err();
        asked(vm.version(())).await.unwrap();
        alone.operate().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_genesis_on_the_same_disk_is_refused_by_name() {
    bounded(30, async {
        let (setup, database) = (Setup::new(PLUGIN), Database::default());
        Alone::operating(&setup, &database).await;
        let before = database.cells();
        let mut other = setup.clone();
        other.genesis = br#"{"config":{"admission":"open"},"nonce":"07"}"#.to_vec();
        let refused = Alone::start(&other, &database).await.initialize().await;
        let said = refused.unwrap_err();
        assert!(
            said.message().contains("genesis") || said.message().contains("chain"),
            "{said}"
        );
        assert_eq!(database.cells(), before);
        for genesis in [&b""[..], b"{", br#"{"config":{"idPrefix":"05"}}"#] {
            other.genesis = genesis.to_vec();
            let refused = Alone::start(&other, &Database::default())
                .await
                .initialize()
                .await;
            assert!(!refused.unwrap_err().message().is_empty());
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_nodes_configuration_is_read_and_what_cannot_be_is_named() {
    bounded(30, async {
        let good: [&[u8]; 3] = [
            b"",
            br#"{"idPrefix":"07","sessionTTL":60,"maxMessages":1,"retentionDays":1}"#,
            br#"{"log":"warn","color":"red"}"#,
        ];
        for config in good {
            let mut setup = Setup::new(PLUGIN);
            setup.config = config.to_vec();
            Alone::operating(&setup, &Database::default()).await;
        }
        let bad: [(&[u8], &[u8]); 3] = [(b"{", b""), (b"7", b""), (b"", b"{")];
        for (config, upgrade) in bad {
            let mut alone = Alone::start(&Setup::new(PLUGIN), &Database::default()).await;
            alone.request.config_bytes = config.to_vec().into();
            alone.request.upgrade_bytes = upgrade.to_vec().into();
            let refused = alone.initialize().await.unwrap_err();
            let named = refused.message().contains("configuration");
            assert!(named || refused.message().contains("upgrade"), "{refused}");
        }
        let mut alone = Alone::start(&Setup::new(PLUGIN), &Database::default()).await;
        alone.request.chain_id = vec![1; 31].into();
        let refused = alone.initialize().await.unwrap_err();
        assert!(refused.message().contains("chain id"), "{refused}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_no_further_than_the_rules_it_knows() {
    bounded(30, async {
        let mut alone = Alone::start(&Setup::new(PLUGIN), &Database::default()).await;
        let upgrade = br#"{"upgrades":[{"name":"later","height":2}]}"#;
        alone.request.upgrade_bytes = upgrade.to_vec().into();
        alone.operate().await.unwrap();
        let tx = alone.person(1).registration();
        let first = alone.block(&tx).await.unwrap();
        let mut craft = Craft::new(GENESIS.as_bytes(), alone.people().chain());
        craft.accept(Block::from_bytes(&first.bytes).unwrap());
        let tx = alone.person(2).registration();
        alone.submit(&tx);
        assert!(!alone.wants(Duration::from_millis(300)).await);
        alone.build().await.unwrap_err();
        let second = craft.block(&[tx], now());
        let refused = alone.verify(second.to_bytes()).await.unwrap_err();
        assert!(refused.message().contains("later"), "{refused}");
        assert_eq!(alone.height().await, 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_tells_nonsense_is_not_listened_to_and_the_others_are() {
    bounded(30, async {
        let alone = operating().await;
        let mut vm = alone.vm();
        let tx = alone.person(1).registration();
        let told = |tx: &Tx| [vec![0], encode_request(&[tx.to_bytes()])].concat();
        let nonsense = [&[0][..], &[0xff; 40]].concat();
        for (peer, msg, heard) in [
            (9, nonsense, false),
            (9, told(&tx), false),
            (8, told(&tx), true),
        ] {
            let gossip = AppGossipMsg {
                node_id: node(peer),
                msg: msg.into(),
            };
            asked(vm.app_gossip(gossip)).await.unwrap();
            let patience = Duration::from_millis(if heard { 3_000 } else { 200 });
            assert_eq!(alone.wants(patience).await, heard, "peer {peer}");
        }
        assert_eq!(alone.build().await.unwrap().header.count, 1);
    })
    .await;
}

/// With stake a host asks a node for a block only when it is its turn, which is often later than
/// a caller waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_are_told_what_is_certain_also_where_no_block_is_asked_for() {
    bounded(30, async {
        let mut alone = operating().await;
        let (alice, bob) = (alone.person(1), alone.person(2));
        for tx in [alice.registration(), bob.registration()] {
            alone.block(&tx).await.unwrap();
        }
        let (open, session) = alice.open_session(&bob);
        alone.block(&open).await.unwrap();
        let accepted = alice.message(session, b"once".to_vec());
        alone.block(&accepted).await.unwrap();
        let nowhere = alice.message(SessionId::from_bytes([9; 32]), b"nowhere".to_vec());
        let later = alice.message(session, b"later".to_vec());
        let people = alone.people.as_mut().unwrap();
        while people.collect().await > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let before = people.answers.len();
        let began = std::time::Instant::now();
        for tx in [&accepted, &nowhere, &later] {
            alone.submit(tx);
        }
        let people = alone.people.as_mut().unwrap();
        while people.collect().await > 1 {
            assert!(
                began.elapsed() < Duration::from_secs(3),
                "{:?}",
                people.tally()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let chain = people.chain();
        let told = |tx: &Tx| {
            let action = tx.ids(&chain).action;
            let answers = people.answers[before..].iter();
            let mut answers = answers.filter(|(found, ..)| *found == action);
            answers.next().map(|(_, _, answer)| answer.clone())
        };
        assert!(
            matches!(
                told(&accepted),
                Some(Answer::Accepted { repeated: true, .. })
            ),
            "{:?}",
            told(&accepted)
        );
        assert!(
            matches!(told(&nowhere), Some(Answer::Refused { code: 32_002, .. })),
            "{:?}",
            told(&nowhere)
        );
        // What applies has waited meanwhile, and is built when the host asks.
        assert_eq!(told(&later), None);
        assert!(alone.wants(Duration::from_secs(5)).await);
        let built = alone.build().await.unwrap();
        assert_eq!(Block::from_bytes(&built.bytes).unwrap().txs, [later]);
    })
    .await;
}
