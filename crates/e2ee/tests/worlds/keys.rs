//! Accounts whose keys change while commits are on their way.

use session_crypto::Identity;
use session_e2ee::E2eeError;
use session_e2ee::limits::ADVANCE_VALID_MS;
use std::sync::Arc;

use super::World;

impl World {
    /// Somebody's account gets other keys; its devices find out in their time.
    pub(crate) fn rotate_an_account(&mut self) {
        let n = self.choice.below(self.clients.len());
        let account = self.clients[n].account();
        let next = Arc::new(Identity::generate_without_phrase().unwrap());
        let signing = next.public().signing().clone();
        self.chain.rotate_key(account, signing);
        self.keys.insert(account, next);
        self.seen.rotations += 1;
    }

    /// Has a device certified by its account's present keys.
    pub(crate) fn recertify(&mut self, n: usize) -> Result<(), E2eeError> {
        let now = self.chain.now_ms;
        let client = &mut self.clients[n];
        let keys = &self.keys[&client.account()];
        client.dev().recertify(keys.signing_key(), now).map(drop)
    }

    /// A device takes another signature key, with its account's present keys: it was somewhere that it
    /// does not trust.
    pub(crate) fn renew(&mut self, n: usize) -> Result<(), E2eeError> {
        let now = self.chain.now_ms;
        let client = &mut self.clients[n];
        let keys = &self.keys[&client.account()];
        client.dev().renew_key(keys.signing_key(), now)
    }

    /// What a client does before its commit leaves. Answers whether it does.
    pub(crate) fn leave(&mut self, n: usize, number: u64) -> Result<bool, E2eeError> {
        let (group, now) = (self.group, self.chain.now_ms);
        let directory = self.chain.directory();
        let client = &mut self.clients[n];
        if !client.waits(number)? {
            // Given up meanwhile.
            return Ok(false);
        }
        match client.device().examine_pending(group, &directory) {
            Err(E2eeError::Refused(_)) => {
                // It may be in the log already.
                client.follow(group, &self.chain, usize::MAX)?;
                if !client.waits(number)? {
                    return Ok(false);
                }
                let (_, output) = client.dev().give_up_pending(group, &directory, now)?;
                client.take(output);
                Ok(false)
            }
            Err(error) => Err(error),
            Ok(()) => {
                client.dev().commit_leaves(group, now + ADVANCE_VALID_MS)?;
                Ok(true)
            }
        }
    }

    /// Some of what is on its way arrives, or all of it; what comes too late the chain refuses.
    pub(crate) fn arrive(&mut self, all: bool) {
        for (n, outgoing, until) in std::mem::take(&mut self.flying) {
            if !all && !self.choice.one_in(6) {
                self.flying.push((n, outgoing, until));
            } else if self.chain.now_ms <= until {
                let _ = self.submit(n, &outgoing);
            }
        }
    }
}
