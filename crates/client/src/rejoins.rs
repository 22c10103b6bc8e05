//! Requests of other people's devices to be let back into groups, until they are answered.
//!
//! ```text
//! rejoins.sealed    a line a request (JSON), sealed as `sealed_lines.rs` says
//! ```
//!
//! Like an invitation a request is written down before the session's cursor moves.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use session_core::codec::{Decode, Encode};
use session_core::ids::AccountId;
use session_e2ee::RejoinRequest;
use zeroize::Zeroizing;

use crate::account::Account;
use crate::error::ClientError;
use crate::inbox::{Item, Received};
use crate::invitations::transcript_key;
use crate::sealed_lines;
use crate::state::StateError;

/// Requests of one account that are kept: a device each of a few groups, once a day.
pub const REJOINS_OF_ONE_MAX: usize = 8;

/// Requests that are kept in all, of 20 kB each.
const REJOINS_MAX: usize = 128;

const FILE: &str = "rejoins.sealed";
const AAD: &[u8] = b"rejoin";

/// A request that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldRejoin {
    /// Who sent it.
    pub from: AccountId,
    /// The request, base64.
    request: String,
}

impl HeldRejoin {
    /// What is asked.
    pub fn request(&self) -> Option<RejoinRequest> {
        let bytes = BASE64.decode(&self.request).ok()?;
        RejoinRequest::from_bytes(&bytes).ok()
    }
}

impl Account {
    /// Requests that wait, oldest first.
    ///
    /// # Errors
    /// [`ClientError::State`], [`ClientError::HistoryKey`].
    pub fn rejoins(&self) -> Result<Vec<HeldRejoin>, ClientError> {
        let key = transcript_key(self)?;
        let text = sealed_lines::read(&self.rejoins_path())?;
        let opened = text.lines().filter_map(|line| {
            let json = sealed_lines::open(&key, AAD, line)?;
            serde_json::from_slice(&json).ok()
        });
        Ok(opened.collect())
    }

    /// Takes one out.
    ///
    /// # Errors
    /// As [`Account::rejoins`].
    pub(crate) fn drop_rejoin(&mut self, done: &HeldRejoin) -> Result<(), ClientError> {
        let key = transcript_key(self)?;
        let mut lines = Vec::new();
        for held in self.rejoins()?.iter().filter(|held| *held != done) {
            sealed_lines::seal(&key, AAD, &json_of(held)?, &mut lines)?;
        }
        self.dir.write_file(FILE, &lines)?;
        Ok(())
    }

    /// Keeps the requests among what was read.
    pub(crate) fn keep_rejoins(&self, received: &[Received]) -> Result<(), ClientError> {
        let mut lines = Vec::new();
        let mut held: Option<Vec<HeldRejoin>> = None;
        for message in received {
            let Item::Rejoin(request) = &message.item else {
                continue;
            };
            let new = HeldRejoin {
                from: message.sender,
                request: BASE64.encode(request.to_bytes()),
            };
            let held = match &mut held {
                Some(held) => held,
                None => held.insert(self.rejoins()?),
            };
            let of_one = held.iter().filter(|held| held.from == new.from).count();
            if held.contains(&new) || of_one >= REJOINS_OF_ONE_MAX || held.len() >= REJOINS_MAX {
                continue;
            }
            sealed_lines::seal(&transcript_key(self)?, AAD, &json_of(&new)?, &mut lines)?;
            held.push(new);
        }
        if lines.is_empty() {
            return Ok(());
        }
        Ok(sealed_lines::append(&self.rejoins_path(), &lines)?)
    }

    fn rejoins_path(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }
}

fn json_of(held: &HeldRejoin) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    let json = serde_json::to_vec(held).map_err(|error| StateError::Damaged {
        path: FILE.into(),
        error,
    })?;
    Ok(Zeroizing::new(json))
}
