//! Texts: ids, vector files, genesis JSON.

use super::Target;
use session_chain::genesis::Genesis;
use session_core::ids::{AccountId, ChainId, Digest};

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "cb58",
        run: |bytes| {
            let Ok(text) = core::str::from_utf8(bytes) else {
                return false;
            };
            let id = text.parse::<AccountId>();
            if let Ok(id) = id {
                assert!(id.to_string() == text, "an id has one spelling");
            }
            id.is_ok()
        },
        seeds: || {
            let ids = [[0; 32], [1; 32], [0xff; 32]].map(AccountId::from_bytes);
            ids.map(|id| id.to_string().into_bytes()).to_vec()
        },
    },
    Target {
        name: "chain_id",
        run: |bytes| {
            let Ok(text) = core::str::from_utf8(bytes) else {
                return false;
            };
            let id = text.parse::<ChainId>();
            if let Ok(id) = id {
                // A native chain has short spellings too, so only the value comes back.
                assert!(id.to_string().parse() == Ok(id), "an id reads back");
            }
            id.is_ok()
        },
        seeds: || {
            let ids = [ChainId::native('P'), Some(ChainId::from_bytes([7; 32]))];
            let printed = ids.into_iter().flatten().map(|id| id.to_string());
            printed
                .chain(["c".to_owned()])
                .map(String::into_bytes)
                .collect()
        },
    },
    Target {
        name: "id_bytes",
        run: |bytes| {
            let id = Digest::try_from(bytes);
            if let Ok(id) = &id {
                assert!(id.as_bytes() == bytes, "bytes are kept");
            }
            id.is_ok()
        },
        seeds: || vec![vec![9; 32]],
    },
    Target {
        name: "genesis_json",
        run: |bytes| {
            let genesis = Genesis::parse(bytes);
            if let Ok(genesis) = &genesis {
                let chain = Genesis::chain_id(bytes);
                let (header, _, tree) = genesis.block(chain);
                assert!(header.state_root == tree.root(), "the root is the tree's");
            }
            genesis.is_ok()
        },
        seeds: || {
            let account = AccountId::from_bytes([5; 32]);
            vec![
                b"{}".to_vec(),
                br#"{"vmID":"sessionvm","config":{"sessionTTL":60,"maxMessages":5,"maxChannels":2,
                "retentionDays":3,"idPrefix":"07","admission":"open","price":1,"weightPerDay":9,
                "registrations":{"perSecond":1,"burst":2},"pqCrypto":{"kem":"ML-KEM-768"},"x":1},
                "timestamp":1763000000,"nonce":"n"}"#
                    .to_vec(),
                format!(r#"{{"allocations":{{"{account}":18446744073709551615}}}}"#).into_bytes(),
            ]
        },
    },
    Target {
        name: "vectors_file",
        run: |bytes| {
            let report = session_vectors::verify(bytes);
            if let Ok(report) = &report {
                assert!(report.compared() > 0, "agreement about nothing");
            }
            report.is_ok()
        },
        seeds: vectors,
    },
];

/// Sections of the published file one by one: identities are too large to be mutated usefully, and
/// have targets of their own.
fn vectors() -> Vec<Vec<u8>> {
    const FILE: &str = include_str!("../../../core/tests/data/luxfi-session.json");
    let Ok(serde_json::Value::Object(file)) = serde_json::from_str(FILE) else {
        return Vec::new();
    };
    let sections = file
        .into_iter()
        .filter(|(name, _)| name != "identities" && name != "about");
    sections
        .map(|(name, mut value)| {
            if let Some(entries) = value.as_array_mut() {
                entries.truncate(2);
            }
            serde_json::json!({ name: value }).to_string().into_bytes()
        })
        .collect()
}
