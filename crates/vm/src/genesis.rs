//! The genesis that a node goes by: the store's, the one that was given, or a new one.

use session_chain::genesis::{ConfigJson, Genesis, GenesisJson, RateJson};
use session_storage::Store;

use crate::head_key::{key_digest, root_identity};
use crate::node::{NodeOptions, OpenError};
use crate::store;

/// The genesis of the store, or of a first start.
pub(crate) fn genesis_bytes(
    store: &dyn Store,
    options: &NodeOptions,
) -> Result<Vec<u8>, OpenError> {
    let bytes = match (store::genesis(store)?, &options.genesis) {
        (Some(found), Some(given)) if found != *given => {
            return Err(OpenError::OtherGenesis {
                found: Genesis::chain_id(&found),
                given: Genesis::chain_id(given),
            });
        }
        (Some(found), _) => found,
        (None, Some(given)) => given.clone(),
        (None, None) => return default_genesis(options),
    };
    if let Some(asked) = &options.admission {
        let found = match Genesis::parse(&bytes)?.parameters.admission {
            session_core::parameters::Admission::Open => "open",
            session_core::parameters::Admission::Signed => "signed",
        };
        if asked != found {
            return Err(OpenError::OtherAdmission {
                asked: asked.clone(),
                found,
            });
        }
    }
    Ok(bytes)
}

/// The genesis of a first start on a loopback address: open, with quotas that no single machine
/// reaches, the operator's root key, and a nonce so that no two chains are equal.
fn default_genesis(options: &NodeOptions) -> Result<Vec<u8>, OpenError> {
    let root_key = match &options.data_dir {
        Some(directory) => root_identity(directory, true)?
            .map(|root| key_digest(root.public().signing()).to_string()),
        None => None,
    };
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(std::io::Error::other)?;
    let unlimited = RateJson {
        per_second: u64::MAX,
        burst: u64::MAX,
    };
    let genesis = GenesisJson {
        vm_id: Some("sessionvm".to_owned()),
        config: ConfigJson {
            session_ttl: Some(86_400),
            max_messages: Some(10_000),
            max_channels: Some(1_000),
            retention_days: Some(30),
            id_prefix: Some("07".to_owned()),
            admission: Some(
                options
                    .admission
                    .clone()
                    .unwrap_or_else(|| "open".to_owned()),
            ),
            registrations: Some(RateJson {
                per_second: 1_000,
                burst: 100_000,
            }),
            unsigned: Some(RateJson {
                per_second: 50_000,
                burst: 100_000,
            }),
            account_weight: Some(unlimited),
            root_key,
            ..ConfigJson::default()
        },
        timestamp: options.clock.wall().ms() / 1_000,
        nonce: Some(const_hex::encode(nonce)),
        ..GenesisJson::default()
    };
    serde_json::to_vec_pretty(&genesis).map_err(|error| OpenError::Genesis(error.into()))
}
