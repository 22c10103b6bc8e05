//! `vm`: the VM id is its name, padded with zeros.

use crate::Disagreement;
use crate::leaf::{Leaf, Tally};
use session_core::ids::Digest;

pub(crate) fn check(section: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    let name = section.get("name")?;
    let mut padded = name.text()?.as_bytes().to_vec();
    padded.resize(padded.len().max(32), 0);
    let id = Digest::try_from(&padded[..]);
    let id = id.map_err(|_| name.malformed("a name of at most 32 bytes"))?;
    tally.text(&section.get("vmid")?, &id.to_string())?;
    tally
        .unknown
        .extend(section.keys_besides(&["name", "vmid"])?);
    Ok(())
}
