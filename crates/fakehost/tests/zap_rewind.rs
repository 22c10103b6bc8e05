//! Under a Lux node that lost power: the plugin is ahead of it, and goes back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

use serde_json::json;
use session_fakehost::bounded;
use session_fakehost::chance::from_env;
use session_fakehost::people::call;
use session_fakehost::zap::{Answer, Failure, Network, Plugin, Setup, launch};
use session_vm::rewind::{RewindError, rewind};
use session_zap::{Call, Empty};

const PLUGIN: &str = env!("CARGO_BIN_EXE_fakehost-plugin");

fn seed(default: u64) -> u64 {
    from_env("SESSION_ZAP_SEED", default)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_loss_of_power_it_goes_back_to_where_its_node_is() {
    bounded(240, async {
        let mut network = Network::start(Setup::new(PLUGIN), 2, seed(15)).await;
        network.grow(30).await;
        network.check().await;
        for back in [1, 7, 25] {
            let top = network.height();
            network.lose_power(1, back);
            // Ahead of its node: there a node does not go on.
            let ahead = network.restart(1, "").await.unwrap();
            assert_eq!(ahead.height, top);
            network.nodes[1].kill();
            let to = top - back;
            let config = format!(r#"{{"rewindTo":{to}}}"#);
            let rewound = network.restart(1, &config).await.unwrap();
            let block = &network.decided[usize::try_from(to).unwrap()];
            assert_eq!(rewound.height, to);
            assert_eq!(rewound.last_accepted, block.id.as_bytes());
            assert_eq!(rewound.bytes, block.bytes);
            assert_eq!(network.nodes[1].at(to + 1).await, None);
            // The blocks come again, are verified and accepted.
            network.catch_up(1).await;
            network.check().await;
            // Once: the same configuration at the next start changes nothing.
            network.nodes[1].kill();
            let again = network.restart(1, &config).await.unwrap();
            assert_eq!(again.height, top);
            network.catch_up(1).await;
            network.grow(top + 2).await;
            network.check().await;
            // Without the key it is forgotten, and may be asked again.
            network.nodes[1].kill();
            network.restart(1, "{}").await.unwrap();
            network.catch_up(1).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_goes_back_while_it_is_stopped_too() {
    bounded(240, async {
        let mut network = Network::start(Setup::new(PLUGIN), 1, seed(17)).await;
        network.grow(12).await;
        let directory = network.nodes[0].directory().to_owned();
        let in_use = rewind(&directory, 5).unwrap_err().to_string();
        let pid = network.nodes[0].life().plugin.pid().as_raw_nonzero();
        assert!(in_use.contains(&pid.to_string()), "{in_use}");
        network.nodes[0].kill();
        let now = rewind(&directory, 5).unwrap();
        let block = network.decided[5].clone();
        assert_eq!((now.from, now.height, now.block), (12, 5, block.id));
        assert_eq!(now.state_root, block.header.state_root);
        let there = rewind(&directory, 5).unwrap();
        assert_eq!((there.from, there.height), (5, 5));
        let rewound = network.restart(0, "").await.unwrap();
        assert_eq!((rewound.height, rewound.bytes), (5, block.bytes.to_vec()));
        // What it signed above is not signed below.
        let handler = network.nodes[0].life().handlers[0].1.clone();
        let head = call(&handler, "sessionvm.GetHead", &json!({})).await;
        assert!(head.is_ok() || head.unwrap_err().contains("signed"));
        network.nodes[0].outer.truncate(6);
        network.catch_up(0).await;
        network.check().await;

        let empty = tempfile::tempdir().unwrap();
        let none = rewind(empty.path(), 1).unwrap_err();
        assert!(matches!(none, RewindError::NoStore { .. }), "{none}");
        std::fs::create_dir(empty.path().join("store")).unwrap();
        std::fs::write(empty.path().join("store/FORMAT"), "x").unwrap();
        let alone = rewind(empty.path(), 1).unwrap_err();
        assert!(matches!(alone, RewindError::StandAlone { .. }), "{alone}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_nodes_database_is_not_ahead_of_it() {
    bounded(120, async {
        let setup = Setup::over_database(PLUGIN);
        let mut network = Network::start(setup, 1, seed(18)).await;
        network.grow(6).await;
        network.nodes[0].kill();
        let started = network.restart(0, r#"{"rewindTo":2}"#).await.unwrap();
        assert_eq!(started.height, 6);
        let said = network.nodes[0].life().plugin.process.output();
        assert!(said.contains("rewindTo is ignored"), "{said}");
        network.catch_up(0).await;
        // Without either there is no place for a chain.
        let plugin = Plugin::start(&launch(PLUGIN), Answer::Taken).await.unwrap();
        let mut told = network.nodes[0].told(&network.setup, "", "");
        told.chain_data_dir.clear();
        let nowhere: Result<Empty, _> = plugin.client.call(Call::Initialize, &told).await;
        let said = "the host gives neither a database nor a directory for one".to_owned();
        assert_eq!(nowhere, Err(Failure::Said(said)));
        // And a database that is not there is said to be.
        told.db_server = "127.0.0.1:1".to_owned();
        let refused: Result<Empty, _> = plugin.client.call(Call::Initialize, &told).await;
        assert!(
            matches!(refused, Err(Failure::Said(text)) if text.contains("the host's database"))
        );
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_it_cannot_go_it_says_so_and_stays() {
    bounded(240, async {
        let mut network = Network::start(Setup::new(PLUGIN), 1, seed(16)).await;
        network.grow(70).await;
        for (to, why) in [
            (5, "can be rewound from 70 to 6 at the earliest, not to 5"),
            (71, "is at 70 and cannot be rewound to 71"),
        ] {
            network.nodes[0].kill();
            let config = format!(r#"{{"rewindTo":{to}}}"#);
            let refused = network.restart(0, &config).await.unwrap_err();
            let Failure::Said(text) = refused else {
                panic!("{refused:?}");
            };
            assert!(text.contains(why) && text.contains("rewindTo"), "{text}");
            let stays = network.restart(0, "").await.unwrap();
            assert_eq!(stays.height, 70);
        }
        network.nodes[0].kill();
        let rewound = network.restart(0, r#"{"rewindTo":6}"#).await.unwrap();
        assert_eq!(rewound.height, 6);
        network.nodes[0].outer.truncate(7);
        network.catch_up(0).await;
        network.check().await;
    })
    .await;
}
