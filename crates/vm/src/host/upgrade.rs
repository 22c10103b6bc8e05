//! Changes of the rules at a height, as a host hands them to every node.
//!
//! ```json
//! {"upgrades": [{"name": "lower-quotas", "height": 120000}]}
//! ```
//!
//! This program has no upgrade of its own yet. Of one that it does not know it can say at which
//! height its rules end: there it stops, instead of going another way than the others.

use serde::Deserialize;

/// Upgrade bytes at most.
const BYTES_MAX: usize = 64 << 10;

/// The rules of a height are not known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "from block {height} on the rules are those of upgrade {name:?}: install a sessionvm that knows it"
)]
pub struct UpgradeNeeded {
    /// Name of the upgrade.
    pub name: String,
    /// First height that it counts for.
    pub height: u64,
}

/// Upgrade bytes that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// Not the JSON that is expected.
    #[error("upgrade bytes: {0}")]
    Json(#[from] serde_json::Error),
    /// Longer than 64 KiB.
    #[error("upgrade bytes: {0} bytes, at most 65536")]
    TooLong(usize),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct File {
    upgrades: Vec<Upgrade>,
    #[serde(flatten)]
    others: serde_json::Map<String, serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Upgrade {
    name: String,
    height: u64,
}

/// The upgrades that are not known here, the earliest first.
#[derive(Debug, Default)]
pub struct Upgrades {
    unknown: Vec<UpgradeNeeded>,
}

impl Upgrades {
    /// Reads upgrade bytes; none is none.
    ///
    /// # Errors
    /// [`UpgradeError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, UpgradeError> {
        if bytes.len() > BYTES_MAX {
            return Err(UpgradeError::TooLong(bytes.len()));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let file: File = serde_json::from_slice(bytes)?;
        for key in file.others.keys() {
            tracing::warn!(%key, "the upgrade bytes have a key that means nothing here");
        }
        let mut unknown: Vec<UpgradeNeeded> = file
            .upgrades
            .into_iter()
            .map(|Upgrade { name, height }| UpgradeNeeded { name, height })
            .collect();
        unknown.sort_by_key(|upgrade| upgrade.height);
        for upgrade in &unknown {
            tracing::warn!(name = %upgrade.name, height = upgrade.height, "an upgrade that this program does not know");
        }
        Ok(Self { unknown })
    }

    /// Whether the rules of a height are known.
    ///
    /// # Errors
    /// [`UpgradeNeeded`].
    pub fn check(&self, height: u64) -> Result<(), UpgradeNeeded> {
        match self.unknown.first() {
            Some(upgrade) if height >= upgrade.height => Err(upgrade.clone()),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_end_where_the_first_unknown_upgrade_begins() {
        let json = br#"{"upgrades":[{"name":"b","height":20},{"name":"a","height":10}],"x":1}"#;
        let upgrades = Upgrades::parse(json).unwrap();
        assert_eq!(upgrades.check(9), Ok(()));
        assert_eq!(upgrades.check(10).unwrap_err().name, "a");
        assert_eq!(upgrades.check(25).unwrap_err().name, "a");
        assert_eq!(Upgrades::parse(b" \n").unwrap().check(u64::MAX), Ok(()));
        assert_eq!(Upgrades::parse(b"{}").unwrap().check(u64::MAX), Ok(()));
        assert!(matches!(
            Upgrades::parse(b"[]x"),
            Err(UpgradeError::Json(_))
        ));
        assert!(matches!(
            Upgrades::parse(&vec![b' '; 1 << 17]),
            Err(UpgradeError::TooLong(_))
        ));
    }
}
