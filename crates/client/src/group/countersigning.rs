//! Commits of members in groups that only admins advance.
//!
//! ```text
//! member: commit waits ─▶ chunks, at the group's cost ─▶ asks in the group
//! admin:  reads ─▶ chunks ─▶ examined, unmerged: would the log's commit be followed? ─▶ signed, submitted
//! both:   the log shows it, and they follow it like any other
//! ```
//!
//! A request is for one epoch. If another commit comes first the member's is made anew and asked for
//! anew; several admins may submit the same one, and the chain takes it once.

use session_chain::tx::Kind;
use session_chain::tx::group::advance::Commit;
use session_chain::tx::group::post::PutGroupChunk;
use session_core::group::Group;
use session_core::ids::{Digest, GroupId};
use session_core::limits::CHUNK_BYTES_MAX;
use session_core::time::HOUR_MS;
use session_e2ee::{Advance, CountersignRequest, E2eeError};

use super::accounts::{Accounts, Position};
use super::log::NOT_FOUND;
use super::sending::Answer;
use super::{GroupError, Groups};
use crate::account::now;
use crate::error::ClientError;
use crate::rpc::RpcError;

/// An admin that was asked is asked again after so long: it may have lost the request.
const ASK_AGAIN_MS: u64 = HOUR_MS;

impl Groups {
    /// Asks the admins to sign a commit of this device, unless they were asked. It waits then.
    pub(super) async fn ask_countersign(
        &mut self,
        group: GroupId,
        advance: &Advance,
    ) -> Result<Answer, ClientError> {
        let waits = || Answer::Waiting("an admin of the group has to sign it".to_owned());
        let asked = self.device.countersign_asked_ms(group)?;
        if asked.is_some_and(|asked| now().ms().saturating_sub(asked) < ASK_AGAIN_MS) {
            return Ok(waits());
        }
        let mut chunks = Vec::new();
        for piece in advance.commit.chunks(CHUNK_BYTES_MAX) {
            let put = PutGroupChunk {
                epoch: advance.from_epoch,
                bytes: piece.to_vec(),
            };
            chunks.push(session_chain::tx::chunk::PutChunk::id(piece));
            match self
                .submit_as_poster(group, advance.from_epoch, Kind::PutGroupChunk(put))
                .await?
            {
                Answer::Accepted | Answer::Known => {}
                answer @ (Answer::Stale
                | Answer::Waiting(_)
                | Answer::Refused(_)
                | Answer::GivenUp(_)) => {
                    return Ok(answer);
                }
            }
        }
        self.device.ask_countersign(group, chunks, now().ms())?;
        Ok(waits())
    }

    /// Signs a commit that a member has asked for, if this device is an admin and would follow it.
    /// Answers whether the log has gone on.
    pub(super) async fn countersign(
        &mut self,
        group: GroupId,
        record: &Group,
    ) -> Result<bool, ClientError> {
        let requests = self.device.countersign_requests(group)?;
        if requests.is_empty() {
            return Ok(false);
        }
        let Some(admin) = self.own_admin(group, record)? else {
            return Ok(false);
        };
        for request in requests {
            match self.countersign_one(group, &request, admin).await? {
                Some(Answer::Accepted | Answer::Known | Answer::Stale) => return Ok(true),
                Some(Answer::Waiting(_)) => return Ok(false),
                Some(Answer::Refused(_) | Answer::GivenUp(_)) | None => {
                    self.device.forget_countersign(group, &request)?;
                }
            }
        }
        Ok(false)
    }

    /// What the chain said; none: the commit is of no use.
    async fn countersign_one(
        &mut self,
        group: GroupId,
        request: &CountersignRequest,
        admin: Digest,
    ) -> Result<Option<Answer>, ClientError> {
        let commit = Commit::Chunks(request.chunks.clone());
        let bytes = match self.commit_bytes(&commit).await {
            Ok(bytes) => bytes,
            // It was not put, or it is gone, or it is none.
            Err(
                ClientError::Rpc(RpcError::Refused {
                    code: NOT_FOUND, ..
                })
                | ClientError::Group(GroupError::CommitTooLarge(_)),
            ) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut accounts = Accounts::new();
        let examined = loop {
            let examined = self.device.examine(group, &bytes, &accounts);
            if !accounts.fetch(&mut self.account, Position::NOW).await? {
                break examined;
            }
        };
        match examined {
            Ok(advance) => {
                let by = (Some(admin), self.advance_until());
                let answer = self.submit_advance(group, &advance, commit, by);
                answer.await.map(Some)
            }
            Err(E2eeError::Vault(error)) => Err(E2eeError::from(error).into()),
            Err(E2eeError::Record(error)) => Err(E2eeError::from(error).into()),
            Err(_) => Ok(None),
        }
    }
}
