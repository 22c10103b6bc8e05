//! Delivery receipts.

use super::step::StepIndex;
use crate::hash::Tag;
use crate::ids::{AccountId, Digest, ReceiptId, ServiceSessionId};
use crate::merkle::{Hash, compat_root};

/// That a message of a step went from one account to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Session.
    pub session: ServiceSessionId,
    /// Step that sent it.
    pub step: StepIndex,
    /// Hash of the message.
    pub message: Digest,
    /// Who sent it.
    pub sender: AccountId,
    /// Who received it.
    pub receiver: AccountId,
}

impl Receipt {
    /// `"LUX:Receipt:v1" || session || u32 step || message || sender || receiver`, hashed.
    pub fn id(&self) -> ReceiptId {
        ReceiptId::from_bytes(Tag::PublishedReceipt.hash_published(&[
            self.session.as_bytes(),
            &self.step.number().to_be_bytes(),
            self.message.as_bytes(),
            self.sender.as_bytes(),
            self.receiver.as_bytes(),
        ]))
    }
}

/// The published root over receipt ids **in arrival order**; zero for none. For comparison with
/// the published project only, as [`super::oracle::records_compat_root`].
pub fn receipts_compat_root(receipts: &[ReceiptId]) -> Digest {
    let leaves: Vec<Hash> = receipts.iter().map(|id| id.to_bytes()).collect();
    Digest::from_bytes(compat_root(&leaves))
}
