//! What may be used up: registrations, unsigned transactions, weight, and the fee for it
//! (`spec/vm.md` §2, §3).

use session_core::group::Group;
use session_core::ids::GroupId;
use session_core::parameters::{Bucket, Quotas, Rate};
use session_core::record::RecordKey;
use session_core::time::{DAY_MS, Time};

use crate::state::{Scope, TxError};
use crate::tx::Tx;

impl Scope<'_, '_> {
    fn quotas(&self) -> Result<Quotas, TxError> {
        Ok(self.record(&RecordKey::Quotas)?.unwrap_or_default())
    }

    /// One registration of the chain's.
    pub(crate) fn take_registration(&mut self) -> Result<(), TxError> {
        let rate = self.context.parameters.registrations;
        let mut quotas = self.quotas()?;
        take(
            &mut quotas.registrations,
            self.context.time,
            1,
            rate,
            "registrations",
        )?;
        self.put_record(&RecordKey::Quotas, &quotas)
    }

    /// One unsigned transaction of the chain's.
    pub(crate) fn take_unsigned(&mut self) -> Result<(), TxError> {
        let rate = self.context.parameters.unsigned;
        let mut quotas = self.quotas()?;
        take(
            &mut quotas.unsigned,
            self.context.time,
            1,
            rate,
            "unsigned transactions",
        )?;
        self.put_record(&RecordKey::Quotas, &quotas)
    }

    /// Takes weight from the signer's bucket and the chain's day, and the fee from its balance;
    /// what it `bought` for later only from the bucket and the balance. A group pays from what was
    /// bought for it.
    pub(crate) fn charge(&mut self, tx: &Tx, weight: u64, bought: u64) -> Result<(), TxError> {
        if let Some(group) = tx.group() {
            return self.charge_group(tx, &group, weight);
        }
        let parameters = &self.context.parameters;
        let (price, rate) = (parameters.price, parameters.account_weight);
        let (per_day, time) = (parameters.weight_per_day, self.context.time);
        let free = !tx.is_signed() || (price == 0 && rate == Rate::UNLIMITED);
        if free && per_day == u64::MAX {
            return Ok(());
        }
        let account = self.account(&tx.signer)?;
        // An account that exists only as somebody's peer was never registered: it is young.
        let registered = account.as_ref().filter(|a| a.keys.is_some());
        self.count_weight(weight, registered.map(|a| a.registered))?;
        if free {
            return Ok(());
        }
        // The account of a participant known only by a session's key pays like any other.
        let mut account = account.unwrap_or_default();
        let weight = weight.saturating_add(bought);
        let fee = price.saturating_mul(weight);
        account.balance = account
            .balance
            .checked_sub(fee)
            .ok_or(TxError::InsufficientBalance)?;
        take(
            &mut account.quota,
            time,
            weight,
            rate,
            "bytes of one account",
        )?;
        self.put_account(&tx.signer, &account)
    }

    /// Takes weight from what was bought for a group. What admins sign may use the reserve, so
    /// that nobody who posts can keep them from removing it.
    fn charge_group(&mut self, tx: &Tx, id: &GroupId, weight: u64) -> Result<(), TxError> {
        let key = RecordKey::Group(*id);
        let mut group: Group = self.record(&key)?.ok_or(TxError::UnknownGroup)?;
        self.count_weight(weight, Some(group.created))?;
        match group.budget.checked_sub(weight) {
            Some(left) => group.budget = left,
            None if tx.kind.is_admin_signed() => {
                let left = group.reserve.checked_sub(weight);
                group.reserve = left.ok_or(TxError::BudgetUsedUp)?;
            }
            None => return Err(TxError::BudgetUsedUp),
        }
        self.put_record(&key, &group)
    }

    /// Counts weight against the chain's day, half of which is for those who have been there for
    /// a day.
    fn count_weight(&mut self, weight: u64, since: Option<Time>) -> Result<(), TxError> {
        let (per_day, time) = (self.context.parameters.weight_per_day, self.context.time);
        if per_day == u64::MAX {
            return Ok(());
        }
        let young = since.is_none_or(|at| time.since(at) < DAY_MS);
        let mut quotas = self.quotas()?;
        let day = time.ms() / DAY_MS;
        if quotas.day != day {
            quotas = Quotas {
                day,
                weight: 0,
                weight_young: 0,
                ..quotas
            };
        }
        quotas.weight = quotas.weight.saturating_add(weight);
        let young_weight = if young { weight } else { 0 };
        quotas.weight_young = quotas.weight_young.saturating_add(young_weight);
        let over = quotas.weight > per_day || (young && quotas.weight_young > per_day / 2);
        if over {
            let retry_ms = DAY_MS - time.ms() % DAY_MS;
            return Err(TxError::RateLimited {
                what: "bytes today",
                retry_ms,
            });
        }
        self.put_record(&RecordKey::Quotas, &quotas)
    }
}

/// Takes from a bucket, or tells how long to wait.
pub(crate) fn take(
    bucket: &mut Bucket,
    now: Time,
    amount: u64,
    rate: Rate,
    what: &'static str,
) -> Result<(), TxError> {
    bucket
        .take(now, amount, rate)
        .map_err(|retry_ms| TxError::RateLimited { what, retry_ms })
}
