//! Invitations to groups that came in sessions, until this account's devices have joined by them.
//!
//! ```text
//! invitations.sealed    a line an invitation (JSON), sealed as `sealed_lines.rs` says
//! ```
//!
//! An invitation is written down before the session's cursor moves: after a crash it is read again,
//! and known by its group and epoch.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use session_core::hash::Tag;
use session_core::ids::{AccountId, GroupId, SessionId};
use session_crypto::Secret;
use session_crypto::derive::keyed;
use zeroize::Zeroizing;

use crate::account::Account;
use crate::error::ClientError;
use crate::group::{InvitationCode, store_key};
use crate::inbox::{Item, Received};
use crate::sealed_lines;
use crate::state::StateError;

/// Invitations of one account that are kept: nobody fills another's disk.
pub const INVITATIONS_OF_ONE_MAX: usize = 16;

/// Invitations of strangers are kept while there are fewer than this in all.
pub(crate) const INVITATIONS_MAX: usize = 512;

const FILE: &str = "invitations.sealed";
const AAD: &[u8] = b"invitation";

/// An invitation that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldInvitation {
    /// Who sent it.
    pub from: AccountId,
    /// The session that it came in.
    pub session: SessionId,
    /// The invitation, as the line that can be handed over as well.
    pub code: String,
    /// Block time, in milliseconds.
    pub time_ms: u64,
}

impl HeldInvitation {
    /// What it leads to.
    pub fn code(&self) -> Option<InvitationCode> {
        self.code.parse().ok()
    }
}

/// The key of what was said and of who invites, from that of the device's store.
pub(crate) fn transcript_key(account: &Account) -> Result<Secret<32>, ClientError> {
    let key = store_key(account)?;
    Ok(keyed(&key, Tag::TranscriptKey, &[]))
}

impl Account {
    /// Invitations that wait, oldest first.
    ///
    /// # Errors
    /// [`ClientError::State`], [`ClientError::HistoryKey`].
    pub fn invitations(&self) -> Result<Vec<HeldInvitation>, ClientError> {
        let key = transcript_key(self)?;
        let text = sealed_lines::read(&self.invitations_path())?;
        let opened = text.lines().filter_map(|line| {
            let json = sealed_lines::open(&key, AAD, line)?;
            serde_json::from_slice(&json).ok()
        });
        Ok(opened.collect())
    }

    /// Takes out those to one group, or from one account: they are of no use any more.
    ///
    /// # Errors
    /// As [`Account::invitations`].
    pub fn drop_invitations(
        &mut self,
        is_done: impl Fn(&HeldInvitation) -> bool,
    ) -> Result<(), ClientError> {
        let held = self.invitations()?;
        if !held.iter().any(&is_done) {
            return Ok(());
        }
        let key = transcript_key(self)?;
        let mut lines = Vec::new();
        for held in held.iter().filter(|held| !is_done(held)) {
            sealed_lines::seal(&key, AAD, &json_of(held)?, &mut lines)?;
        }
        self.dir.write_file(FILE, &lines)?;
        Ok(())
    }

    /// Keeps the invitations among what was read.
    pub(crate) fn keep_invitations(
        &self,
        session: &SessionId,
        received: &[Received],
    ) -> Result<(), ClientError> {
        let mut lines = Vec::new();
        let mut held: Option<Vec<HeldInvitation>> = None;
        for message in received {
            let Item::Invitation(code) = &message.item else {
                continue;
            };
            let new = HeldInvitation {
                from: message.sender,
                session: *session,
                code: code.to_string(),
                time_ms: message.time.ms(),
            };
            let held = match &mut held {
                Some(held) => held,
                None => held.insert(self.invitations()?),
            };
            let of_one = held.iter().filter(|held| held.from == new.from).count();
            let is_known = held.iter().any(|held| held.code == new.code);
            let is_stranger = self.contact_of(&new.from).is_none();
            let is_full = is_stranger && held.len() >= INVITATIONS_MAX;
            if is_known || of_one >= INVITATIONS_OF_ONE_MAX || is_full {
                continue;
            }
            sealed_lines::seal(&transcript_key(self)?, AAD, &json_of(&new)?, &mut lines)?;
            held.push(new);
        }
        if lines.is_empty() {
            return Ok(());
        }
        Ok(sealed_lines::append(&self.invitations_path(), &lines)?)
    }

    fn invitations_path(&self) -> PathBuf {
        self.dir.path().join(FILE)
    }
}

/// Whether an invitation leads to this group.
pub(crate) fn leads_to(held: &HeldInvitation, group: GroupId) -> bool {
    held.code().is_some_and(|code| code.group == group)
}

fn json_of(held: &HeldInvitation) -> Result<Zeroizing<Vec<u8>>, ClientError> {
    let json = serde_json::to_vec(held).map_err(|error| StateError::Damaged {
        path: FILE.into(),
        error,
    })?;
    Ok(Zeroizing::new(json))
}
