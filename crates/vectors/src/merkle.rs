//! `merkle`: the published roots over records and receipts in arrival order.

use crate::Disagreement;
use crate::leaf::{Leaf, Tally};
use session_core::ids::{Digest, ReceiptId};
use session_core::service::oracle::{data_hash, records_compat_root};
use session_core::service::receipt::receipts_compat_root;

const DATA: &str = "data";
const RECEIPTS: &str = "receipt_ids";
const DATA_ROOT: &str = "records_compat_root";
const RECEIPTS_ROOT: &str = "receipts_compat_root";

pub(crate) fn check(section: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    for set in section.items()? {
        let data = set.get(DATA)?.items()?.into_iter();
        let data: Vec<Digest> = data
            .map(|data| data.hex().map(|data| data_hash(&data)))
            .collect::<Result<_, _>>()?;
        tally.hex(&set.get(DATA_ROOT)?, records_compat_root(&data))?;
        let receipts = set.get(RECEIPTS)?.items()?.into_iter();
        let receipts: Vec<ReceiptId> = receipts
            .map(|id| id.id().map(ReceiptId::from_bytes))
            .collect::<Result<_, _>>()?;
        tally.hex(&set.get(RECEIPTS_ROOT)?, receipts_compat_root(&receipts))?;
        let unknown = set.keys_besides(&[DATA, RECEIPTS, DATA_ROOT, RECEIPTS_ROOT])?;
        tally.unknown.extend(unknown);
    }
    Ok(())
}
