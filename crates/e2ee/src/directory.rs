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
    /// one of them; a new one only by what was replaced lately ([`crate::limits::GRACE_MS`]).
    pub earlier: Vec<EarlierKey>,
    /// The account was revoked, at this block time in milliseconds: nobody speaks for it any more.
    pub revoked_ms: Option<u64>,
}

/// A key that an account had before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierKey {
    /// The key.
    pub key: SigningPublicKey,
    /// Time of the block that put another one in its place, in milliseconds.
    pub replaced_ms: u64,
}

impl<D: Directory + ?Sized> Directory for &D {
    fn account(&self, account: AccountId) -> Option<AccountState> {
        (**self).account(account)
    }
}
