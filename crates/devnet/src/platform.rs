//! The host's P-chain: money of the test key, transactions sent and followed.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::NodeApi;
use crate::error::DevnetError;
use crate::ids::{Id, NodeId, checksum};
use crate::tx::{ADDRESS, Kind, Utxo};

const PATH: &str = "/ext/bc/P";

/// A transaction that is not in a block by then is not going to be: on five validators it takes
/// about a second.
const COMMIT_LIMIT: Duration = Duration::from_secs(60);

/// How often its status is asked for.
const LOOK: Duration = Duration::from_millis(50);

/// Outputs that are asked for.
const UTXOS_MAX: u64 = 100;

/// The P-chain as one node serves it.
pub struct Platform<'a> {
    node: &'a NodeApi,
}

impl<'a> Platform<'a> {
    /// The P-chain of this node.
    pub const fn new(node: &'a NodeApi) -> Self {
        Self { node }
    }

    /// What the test key may spend now.
    ///
    /// # Errors
    /// [`DevnetError::Api`].
    pub async fn utxos(&self) -> Result<Vec<Utxo>, DevnetError> {
        let params = json!({ "addresses": [ADDRESS], "limit": UTXOS_MAX, "encoding": "hex" });
        let reply = self.node.call(PATH, "platform.getUTXOs", params).await?;
        let all = reply.get("utxos").and_then(Value::as_array);
        let all = all.into_iter().flatten().filter_map(Value::as_str);
        Ok(all
            .filter_map(from_hex)
            .filter_map(|bytes| Utxo::parse(&bytes))
            .collect())
    }

    /// Until when a node validates the primary network, unix seconds.
    ///
    /// # Errors
    /// [`DevnetError::Api`], also where it is no validator.
    pub async fn validates_until(&self, node: NodeId) -> Result<u64, DevnetError> {
        let params = json!({ "nodeIDs": [node] });
        let method = "platform.getCurrentValidators";
        let reply = self.node.call(PATH, method, params).await?;
        let end = reply.pointer("/validators/0/endTime");
        let end = end.and_then(Value::as_str).and_then(|end| end.parse().ok());
        end.ok_or_else(|| DevnetError::Api {
            address: PATH.to_owned(),
            method: method.to_owned(),
            problem: format!("{node} is no validator of the primary network"),
        })
    }

    /// Makes, sends and follows one transaction until it is in a block; answers its id.
    ///
    /// # Errors
    /// [`DevnetError::Tx`], [`DevnetError::Api`], [`DevnetError::NotTaken`] after 60 s.
    pub async fn take(&self, what: &'static str, kind: Kind<'_>) -> Result<Id, DevnetError> {
        let funds = Utxo::pick(&self.utxos().await?)?;
        let signed = kind.sign(&funds)?;
        let params = json!({ "tx": to_hex(&signed.bytes), "encoding": "hex" });
        self.node.call(PATH, "platform.issueTx", params).await?;
        let until = Instant::now() + COMMIT_LIMIT;
        loop {
            let params = json!({ "txID": signed.id });
            let reply = self.node.call(PATH, "platform.getTxStatus", params).await?;
            let text = |name: &str| reply.get(name).and_then(Value::as_str).unwrap_or_default();
            let status = text("status");
            if status == "Committed" {
                return Ok(signed.id);
            }
            if matches!(status, "Dropped" | "Aborted") || Instant::now() > until {
                let (id, problem) = (signed.id, format!("{status} {}", text("reason")));
                return Err(DevnetError::NotTaken { what, id, problem });
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// `0x`, the bytes, and the last 4 of their SHA-256.
fn to_hex(bytes: &[u8]) -> String {
    let check = checksum(bytes);
    format!("0x{}{}", const_hex::encode(bytes), const_hex::encode(check))
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = const_hex::decode(text).ok()?;
    let check = bytes.split_off(bytes.len().checked_sub(4)?);
    (check == checksum(&bytes)).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_carries_its_checksum() {
        let text = to_hex(b"abc");
        // SHA-256 of "abc" ends in f20015ad.
        assert_eq!(text, "0x616263f20015ad");
        assert_eq!(from_hex(&text).as_deref(), Some(&b"abc"[..]));
        for wrong in ["0x616263f20015ae", "0x6162", "61626", "0x"] {
            assert_eq!(from_hex(wrong), None, "{wrong}");
        }
    }
}
