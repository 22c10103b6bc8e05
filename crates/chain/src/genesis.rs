//! Genesis: the parameters of a chain in the published JSON form, and the block at height 0.
//!
//! `{"vmID":…,"config":{"sessionTTL":86400,…},"timestamp":…}` (`spec/wire.md` §5). Everything
//! that can change what a block means comes from these bytes (`spec/vm.md` §2). Unknown keys are
//! tolerated and reported, so that they can be logged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use session_core::account::Account;
use session_core::codec::Encode;
use session_core::hash::Tag;
use session_core::header::Header;
use session_core::ids::{AccountId, BlockId, ChainId, Digest};
use session_core::limits::GENESIS_BYTES_MAX;
use session_core::parameters::{Admission, Parameters, Rate};
use session_core::record::RecordKey;
use session_core::time::{DAY_MS, SECOND_MS, Time};

use crate::block::{tree_changes, tx_root};
use crate::tree::Tree;
use crate::view::{Changes, Table};

/// Allocations in a genesis at most.
const ALLOCATIONS_MAX: usize = 10_000;

/// Why genesis bytes are refused.
#[derive(Debug, thiserror::Error)]
pub enum GenesisError {
    /// Longer than a megabyte.
    #[error("genesis has {0} bytes, at most 1 MiB is allowed")]
    TooLong(usize),
    /// Not the JSON that is expected.
    #[error("genesis: {0}")]
    Json(#[from] serde_json::Error),
    /// A value that makes no chain.
    #[error("genesis: {key}: {problem}")]
    Value {
        /// Key in the JSON.
        key: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Configuration as the documents write it, with our additions.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConfigJson {
    /// Seconds.
    #[serde(rename = "sessionTTL", skip_serializing_if = "Option::is_none")]
    pub session_ttl: Option<u64>,
    /// Messages of one session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_messages: Option<u64>,
    /// Open channels of one creator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_channels: Option<u32>,
    /// Days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_days: Option<u64>,
    /// `"07"`; anything else is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_prefix: Option<String>,
    /// `"open"` or `"signed"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admission: Option<String>,
    /// Whether `05` accounts may sign, with Ed25519.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_legacy: Option<bool>,
    /// Price of a byte of weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<u64>,
    /// Registrations a second and at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub registrations: Option<RateJson>,
    /// Unsigned transactions a second and at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unsigned: Option<RateJson>,
    /// Bytes of weight of one account, a second and at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub account_weight: Option<RateJson>,
    /// Bytes of weight a day, chain-wide.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_per_day: Option<u64>,
    /// `H(public-key, operator's root key)`, CB58.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_key: Option<String>,
    /// Described by the documents; the algorithms are fixed, so only their names are checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pq_crypto: Option<serde_json::Value>,
    /// Keys that mean nothing here.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// A rate in JSON.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RateJson {
    /// Units a second.
    pub per_second: u64,
    /// Units at once.
    pub burst: u64,
}

/// Genesis as JSON.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GenesisJson {
    /// VM id or name.
    #[serde(rename = "vmID", skip_serializing_if = "Option::is_none")]
    pub vm_id: Option<String>,
    /// Configuration.
    #[serde(default)]
    pub config: ConfigJson,
    /// Unix seconds.
    #[serde(default)]
    pub timestamp: u64,
    /// Makes two otherwise equal chains different.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
    /// Balances by account, CB58.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub allocations: BTreeMap<String, u64>,
    /// Keys that mean nothing here.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

/// A chain's beginning.
#[derive(Debug, Clone)]
pub struct Genesis {
    /// Parameters.
    pub parameters: Parameters,
    /// Time of the block at height 0.
    pub time: Time,
    /// Balances at height 0.
    pub allocations: BTreeMap<AccountId, u64>,
    /// Keys that were not understood.
    pub unknown_keys: Vec<String>,
}

impl From<RateJson> for Rate {
    fn from(rate: RateJson) -> Self {
        Self {
            per_second: rate.per_second,
            burst: rate.burst,
        }
    }
}

impl ConfigJson {
    /// Parameters with these values over the defaults.
    ///
    /// # Errors
    /// [`GenesisError::Value`].
    pub fn parameters(&self) -> Result<Parameters, GenesisError> {
        let bad = |key, problem| GenesisError::Value { key, problem };
        let defaults = Parameters::default();
        if self
            .id_prefix
            .as_deref()
            .is_some_and(|prefix| prefix != "07")
        {
            return Err(bad("idPrefix", "only \"07\" exists"));
        }
        let ms = |value: Option<u64>, unit: u64, default: u64, key| match value {
            Some(0) => Err(bad(key, "must not be zero")),
            Some(n) => n.checked_mul(unit).ok_or(bad(key, "too large")),
            None => Ok(default),
        };
        let admission = match self.admission.as_deref() {
            Some("open") => Admission::Open,
            Some("signed") | None => Admission::Signed,
            Some(_) => return Err(bad("admission", "is \"open\" or \"signed\"")),
        };
        let root_key = self
            .root_key
            .as_deref()
            .map(str::parse::<Digest>)
            .transpose();
        Ok(Parameters {
            session_ttl_ms: ms(
                self.session_ttl,
                SECOND_MS,
                defaults.session_ttl_ms,
                "sessionTTL",
            )?,
            max_messages: self.max_messages.unwrap_or(defaults.max_messages),
            max_channels: self.max_channels.unwrap_or(defaults.max_channels),
            retention_ms: ms(
                self.retention_days,
                DAY_MS,
                defaults.retention_ms,
                "retentionDays",
            )?,
            admission,
            allow_legacy: self.allow_legacy.unwrap_or(defaults.allow_legacy),
            price: self.price.unwrap_or(0),
            registrations: self
                .registrations
                .map_or(defaults.registrations, Into::into),
            unsigned: self.unsigned.map_or(defaults.unsigned, Into::into),
            account_weight: self
                .account_weight
                .map_or(defaults.account_weight, Into::into),
            weight_per_day: self.weight_per_day.unwrap_or(defaults.weight_per_day),
            root_key: root_key.map_err(|_| bad("rootKey", "is not a CB58 digest"))?,
        })
    }
}

impl Genesis {
    /// Reads genesis bytes.
    ///
    /// # Errors
    /// [`GenesisError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, GenesisError> {
        if bytes.len() > GENESIS_BYTES_MAX {
            return Err(GenesisError::TooLong(bytes.len()));
        }
        let json: GenesisJson = serde_json::from_slice(bytes)?;
        let bad = |key, problem| GenesisError::Value { key, problem };
        if json.allocations.len() > ALLOCATIONS_MAX {
            return Err(bad("allocations", "more than 10000"));
        }
        let mut allocations = BTreeMap::new();
        let mut total = 0u64;
        for (account, amount) in &json.allocations {
            let account = account
                .parse()
                .map_err(|_| bad("allocations", "an account is not CB58"))?;
            // So that no transfer can ever overflow a balance.
            total = total
                .checked_add(*amount)
                .ok_or(bad("allocations", "sum exceeds 2^64"))?;
            allocations.insert(account, *amount);
        }
        let unknown = json.unknown.keys().chain(json.config.unknown.keys());
        let time = json
            .timestamp
            .checked_mul(SECOND_MS)
            .ok_or(bad("timestamp", "too large"))?;
        Ok(Self {
            parameters: json.config.parameters()?,
            time: Time::from_ms(time),
            allocations,
            unknown_keys: unknown.cloned().collect(),
        })
    }

    /// Id of a stand-alone chain: `H(genesis, genesis bytes)`.
    pub fn chain_id(bytes: &[u8]) -> ChainId {
        ChainId::from_bytes(Tag::Genesis.hash(&[bytes]))
    }

    /// Header, cells and state tree of the block at height 0.
    pub fn block(&self, chain: ChainId) -> (Header, Changes, Tree) {
        let mut changes = Changes::new();
        let mut put = |key: RecordKey, record: Vec<u8>| {
            changes.insert((Table::Record, key.to_bytes()), Some(record));
        };
        put(RecordKey::Parameters, self.parameters.to_bytes());
        for (id, balance) in &self.allocations {
            let account = Account {
                balance: *balance,
                ..Account::default()
            };
            put(RecordKey::Account(*id), account.to_bytes());
        }
        let tree = Tree::new().update(tree_changes(&changes));
        let header = Header {
            chain,
            parent: BlockId::from_bytes([0; 32]),
            height: 0,
            time: self.time,
            tx_root: tx_root([]),
            count: 0,
            state_root: tree.root(),
        };
        (header, changes, tree)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_form_is_read_and_unknown_keys_are_reported() {
        let genesis = Genesis::parse(
            br#"{"vmID":"sessionvm","config":{"sessionTTL":60,"maxMessages":5,"maxChannels":2,
            "retentionDays":3,"idPrefix":"07","allowLegacy":true,"pqCrypto":{"kem":"ML-KEM-768"},"color":"red"},
            "timestamp":7,"extra":1}"#,
        )
        .unwrap();
        assert_eq!(genesis.parameters.session_ttl_ms, 60_000);
        assert_eq!(genesis.parameters.max_messages, 5);
        assert_eq!(genesis.parameters.retention_ms, 3 * DAY_MS);
        assert_eq!(genesis.parameters.admission, Admission::Signed);
        assert!(genesis.parameters.allow_legacy);
        assert_eq!(genesis.time, Time::from_ms(7_000));
        assert_eq!(genesis.unknown_keys, ["extra", "color"]);
    }

    #[test]
    fn values_that_make_no_chain_are_refused_by_name() {
        for (json, key) in [
            (r#"{"config":{"idPrefix":"05"}}"#, "idPrefix"),
            (r#"{"config":{"admission":"maybe"}}"#, "admission"),
            (r#"{"config":{"sessionTTL":0}}"#, "sessionTTL"),
            (r#"{"config":{"rootKey":"abc"}}"#, "rootKey"),
            (r#"{"allocations":{"x":1}}"#, "allocations"),
            (r#"{"timestamp":18446744073709551615}"#, "timestamp"),
        ] {
            let error = Genesis::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(matches!(Genesis::parse(b"{"), Err(GenesisError::Json(_))));
        assert!(matches!(
            Genesis::parse(&vec![b' '; 2 << 20]),
            Err(GenesisError::TooLong(_))
        ));
    }

    #[test]
    fn genesis_bytes_are_the_chain() {
        assert_ne!(Genesis::chain_id(b"{}"), Genesis::chain_id(b"{ }"));
        let genesis = Genesis::parse(b"{}").unwrap();
        let (header, changes, tree) = genesis.block(Genesis::chain_id(b"{}"));
        assert_eq!(header.height, 0);
        assert_eq!(header.state_root, tree.root());
        assert_eq!(changes.into_iter().count(), 1);
    }
}
