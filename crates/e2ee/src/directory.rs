//! What the chain says about an account, at the log position that is being judged.
//!
//! A verdict on a commit depends on the commit, the group's state and this, and on nothing else:
//! members who ask about the same position must get the same answer, or the group falls apart.

use session_core::ids::AccountId;
use session_crypto::SigningPublicKey;

/// The chain's word on accounts. The caller answers from proved records of *one* position of the
/// group's log: that of the commit which is judged, or of the commit that a welcome belongs to.
pub trait Directory {
    /// The account as it was at that position; none: the chain knew no such account.
    fn account(&self, account: AccountId) -> Option<AccountState>;
}

/// An account at one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountState {
    /// The signing key that counts.
    pub current: SigningPublicKey,
    /// Keys that it had before, oldest first. A leaf that is in a tree already may be certified by
    /// one of them; a new one may not.
    pub earlier: Vec<SigningPublicKey>,
    /// The account was revoked: nobody speaks for it any more.
    pub revoked: bool,
}

impl<D: Directory + ?Sized> Directory for &D {
    fn account(&self, account: AccountId) -> Option<AccountState> {
        (**self).account(account)
    }
}
