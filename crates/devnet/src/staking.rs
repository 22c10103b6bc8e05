//! The five validators that every local network is born with: their ids are known, their keys are
//! public and come with avalanchego's Go module.

use std::path::Path;

use crate::Tell;
use crate::binary::{NodeBinary, module_dir};
use crate::error::DevnetError;
use crate::state::write_private;

/// How many there are.
pub const VALIDATORS: usize = 5;

/// Their ids, in the order of their numbers.
pub(crate) const IDS: [&str; VALIDATORS] = [
    "NodeID-7Xhw2mDxuDS44j42TCB6U5579esbSt3Lg",
    "NodeID-MFrZFVCXPv5iCn6M9K6XduxGTYp891xXZ",
    "NodeID-NFBbbJ4qCmNaCzeW7sxErhvWqvEQMnYcN",
    "NodeID-GWPcbFJZFfZreETSoWjPimr846mXEKCtu",
    "NodeID-P7oB2McjBGgW2NXXWVYjV8JEDFoW9xDE5",
];

/// Of each, what the node reads from `staking/` of its data directory, and what the module calls it.
const FILES: [(&str, &str, &str); 3] = [
    ("staker.crt", "staker", ".crt"),
    ("staker.key", "staker", ".key"),
    ("signer.key", "signer", ".key"),
];

/// Gives validator `number` (1 to 5) its keys, in its data directory.
///
/// # Errors
/// [`DevnetError::NoStakingKeys`], [`DevnetError::File`].
pub(crate) async fn install_keys(
    binary: &NodeBinary,
    number: usize,
    node_dir: &Path,
    tell: Tell<'_>,
) -> Result<(), DevnetError> {
    let module = module_dir(&binary.version, tell).await;
    let module = module.map_err(|(dir, problem)| DevnetError::NoStakingKeys {
        dir: dir.join("staking/local"),
        problem,
    })?;
    let from = module.join("staking/local");
    let staking = node_dir.join("staking");
    std::fs::create_dir_all(&staking).map_err(DevnetError::file(&staking))?;
    for (name, stem, extension) in FILES {
        let source = from.join(format!("{stem}{number}{extension}"));
        let bytes = std::fs::read(&source).map_err(|error| DevnetError::NoStakingKeys {
            dir: from.clone(),
            problem: format!("{}: {error}", source.display()),
        })?;
        let target = staking.join(name);
        write_private(&target, &bytes).map_err(DevnetError::file(&target))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::NodeId;

    #[test]
    fn their_ids_are_ids() {
        for id in IDS {
            assert_eq!(id.parse::<NodeId>().unwrap().to_string(), id);
        }
    }
}
