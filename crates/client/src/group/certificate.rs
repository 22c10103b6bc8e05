//! The account's word for its device, when the account's keys are other ones.
//!
//! ```text
//! account rotated, or taken back ─▶ new certificate, durable ─┬─▶ key packages and groups made from now on
//!                                                             ├─▶ the leaf, with the next rotation in each group
//!                                                             └─▶ published key packages, replaced by the next tick
//! ```
//!
//! The account may rotate by any of its programs, so it is looked at whenever the certificate is used.

use session_core::time::Time;

use super::Groups;
use crate::account::now;
use crate::error::ClientError;

impl Groups {
    /// Certifies the device by the account's present keys, unless it is.
    pub(super) fn follow_own_keys(&mut self) -> Result<(), ClientError> {
        if self.device.is_linked() {
            let signing = self.account.identity.signing_key();
            self.device.recertify(signing, now().ms())?;
        }
        Ok(())
    }

    /// Gives this device another signature key, which the account certifies: whoever stole the one before
    /// signs nothing more in its name, in each group from its next rotation on. The key is durable
    /// once this returns; [`Groups::tick`] makes the rotations and replaces published key packages, and
    /// [`Groups::flush`] sends them. Members are told: `EventKind::KeyRenewed`.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn renew_key(&mut self) -> Result<(), ClientError> {
        self.follow_own_keys()?;
        let signing = self.account.identity.signing_key();
        Ok(self.device.renew_key(signing, now().ms())?)
    }

    /// Replaces published key packages of an earlier certificate, or of an earlier signature key: whoever
    /// takes one that an account's earlier key has certified is refused when it is used.
    pub(super) async fn replace_key_packages(&mut self) -> Result<(), ClientError> {
        let Some(until) = self.device.republish_until_ms()? else {
            return Ok(());
        };
        if until <= now().ms() {
            return Ok(self.device.republished()?);
        }
        self.publish_key_packages(Time::from_ms(until)).await
    }
}
