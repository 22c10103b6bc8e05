//! Moving tokens between accounts.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::AccountId;
use session_core::record::Outcome;

use super::Tx;
use crate::state::{Scope, TxError};

/// Moves `amount` from the signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Whom to.
    pub to: AccountId,
    /// How much.
    pub amount: u64,
}

impl Transfer {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let mut from = scope.account(&tx.signer)?.ok_or(TxError::UnknownAccount)?;
        from.balance = from
            .balance
            .checked_sub(self.amount)
            .ok_or(TxError::InsufficientBalance)?;
        // Written before the other is read: a transfer to oneself changes nothing.
        scope.put_account(&tx.signer, &from)?;
        let mut to = scope.account_or_new(&self.to)?;
        to.balance = to
            .balance
            .checked_add(self.amount)
            .ok_or(TxError::LimitReached { what: "balance" })?;
        scope.put_account(&self.to, &to)?;
        Ok(Outcome::Done)
    }
}

impl Encode for Transfer {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.to).u64(self.amount);
    }
}

impl Decode for Transfer {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            to: AccountId::decode(input)?,
            amount: input.u64("amount")?,
        })
    }
}
