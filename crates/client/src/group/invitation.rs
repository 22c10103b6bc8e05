//! Invitations to a group: sealed and put on the chain, and fetched again.
//!
//! ```text
//! inviter: head ─ sealed ─ put ─▶ line (luxgroup:)         joiner: line ─▶ head ─▶ pieces ─▶ tree
//!          pieces ─ those that the chain does not keep, proved ─▶ put
//! ```

use std::collections::BTreeMap;

use session_chain::tx::chunk::PutChunk;
use session_core::codec::{Decode, Encode};
use session_core::ids::{ChunkId, Digest, GroupId};
use session_core::time::Time;
use session_e2ee::{
    Attachment, CutTree, HeadTree, Invitation, InvitationHead, MemberDevice, OutgoingKind,
    Randomness,
};
use zeroize::Zeroizing;

use super::log::NOT_FOUND;
use super::{GroupError, Groups, InvitationCode};
use crate::account::now;
use crate::chunk::AT_ONCE;
use crate::error::ClientError;
use crate::rpc::RpcError;
use crate::trust::TrustError;

/// An invitation that waits to be handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invited {
    /// Names it towards [`Groups::handed_over`].
    pub number: u64,
    /// Who is welcome.
    pub to: Vec<MemberDevice>,
    /// What they join by. Whoever else has it learns who is in the group.
    pub code: InvitationCode,
    /// Chunks that were put on the chain for it now: what it costs. Of the tree only those count that the
    /// chain did not keep.
    pub put: usize,
}

/// Whether a chunk that is kept until then serves an invitation of now: for at least half of the time that
/// a chunk put now would be kept. So each piece is put again twice in its time at most, and an invitation can
/// be followed for half of it.
fn lasts(until: Time, from: Time, retention_ms: u64) -> bool {
    until >= from.after_ms(retention_ms / 2)
}

impl Groups {
    /// Invitations to a group that wait to be handed over. Welcome and tree are sealed and put on
    /// the chain as chunks, which this account pays for; of the tree, what the chain keeps for at least
    /// half its retention from now is not put again.
    ///
    /// # Errors
    /// [`ClientError`]; [`GroupError::NotKept`] where the node took a chunk and does not prove it.
    pub async fn invitations(&mut self, group: GroupId) -> Result<Vec<Invited>, ClientError> {
        let mut out = Vec::new();
        for outgoing in self.device.outbox()? {
            let OutgoingKind::Invitation(invitation) = &outgoing.kind else {
                continue;
            };
            if outgoing.group == group {
                let (code, put) = self.seal_invitation(group, invitation).await?;
                out.push(Invited {
                    number: outgoing.number,
                    to: invitation.to.clone(),
                    code,
                    put,
                });
            }
        }
        Ok(out)
    }

    /// An invitation was handed over, by whatever way: it waits no more.
    ///
    /// # Errors
    /// [`ClientError::E2ee`].
    pub fn handed_over(&mut self, number: u64) -> Result<(), ClientError> {
        Ok(self.device.accepted(number)?)
    }

    /// Puts an invitation on the chain. Answers what one joins by, and how many chunks were put.
    pub(super) async fn seal_invitation(
        &mut self,
        group: GroupId,
        invitation: &Invitation,
    ) -> Result<(InvitationCode, usize), ClientError> {
        let (head, pieces) = invitation.split().map_err(GroupError::from)?;
        // In the clear the tree would tell everybody who is in the group.
        let bytes = Zeroizing::new(head.to_bytes());
        let sealed = Attachment::seal("", "", &bytes, &mut Randomness::system());
        let (sealed, mut chunks) = sealed.map_err(GroupError::from)?;
        chunks.extend(self.not_kept(pieces).await?);
        let mut put = Vec::with_capacity(chunks.len());
        for some in chunks.chunks(AT_ONCE) {
            put.extend(self.account.put_chunks(some.to_vec()).await?);
        }
        // Whoever is invited has nothing but them.
        let kept = self.account.kept_until(&put).await?;
        if let Some(id) = put.iter().find(|id| !kept.contains_key(id)) {
            return Err(GroupError::NotKept(*id).into());
        }
        let code = InvitationCode {
            group,
            epoch: invitation.epoch,
            sealed,
        };
        Ok((code, put.len()))
    }

    /// Those of some chunks that the chain does not have, or would drop before half its retention is over.
    async fn not_kept(&mut self, chunks: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, ClientError> {
        let mut missing: BTreeMap<ChunkId, Vec<u8>> = BTreeMap::new();
        for chunk in chunks {
            missing.insert(PutChunk::id(&chunk), chunk);
        }
        let ids: Vec<ChunkId> = missing.keys().copied().collect();
        let kept = self.account.kept_until(&ids).await?;
        let from = self.account.head_time.max(now());
        let retention_ms = self.account.retention_ms();
        missing.retain(|id, _| {
            let until = kept.get(id);
            !until.is_some_and(|until| lasts(*until, from, retention_ms))
        });
        Ok(missing.into_values().collect())
    }

    /// The invitation of a line, from its chunks.
    pub(super) async fn fetch_invitation(
        &mut self,
        code: &InvitationCode,
    ) -> Result<Invitation, ClientError> {
        let mut download = code.sealed.download().map_err(GroupError::from)?;
        let wanted: Vec<(usize, Digest)> = download.missing().collect();
        for (index, id) in wanted {
            let chunk = self.chunk(ChunkId::from_bytes(id.to_bytes())).await?;
            download.put(index, &chunk).map_err(GroupError::from)?;
        }
        let bytes = download.finish().map_err(GroupError::from)?;
        let head = InvitationHead::from_bytes(&bytes).map_err(TrustError::from)?;
        let tree = match head.tree() {
            HeadTree::Whole(tree) => tree.clone(),
            HeadTree::Cut(cut) => self.fetch_tree(cut, &head).await?,
        };
        Ok(head.with_tree(tree))
    }

    async fn fetch_tree(
        &mut self,
        cut: &CutTree,
        head: &InvitationHead,
    ) -> Result<Vec<u8>, ClientError> {
        let mut gathering = cut.gather(head.tree_secret());
        let wanted: Vec<(usize, ChunkId)> = gathering.missing().collect();
        for some in wanted.chunks(AT_ONCE) {
            let ids: Vec<ChunkId> = some.iter().map(|(_, id)| *id).collect();
            let mut found = self.account.chunks(&ids).await?;
            for (index, id) in some {
                // Two pieces of the same bytes are one chunk.
                let chunk = match found.remove(id) {
                    Some(chunk) => chunk,
                    None => self.account.chunk(*id).await,
                };
                if let Err(ClientError::Rpc(RpcError::Refused {
                    code: NOT_FOUND, ..
                })) = chunk
                {
                    return Err(GroupError::PieceGone(*index).into());
                }
                let put = gathering.put(*index, &chunk?);
                put.map_err(GroupError::from)?;
            }
        }
        Ok(gathering.finish().map_err(GroupError::from)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_that_is_kept_for_less_than_half_its_time_is_put_again() {
        let (put, day) = (Time::from_ms(1_000_000), 86_400_000);
        let until = put.after_ms(30 * day);
        assert!(lasts(until, put, 30 * day));
        assert!(lasts(until, put.after_ms(15 * day), 30 * day));
        assert!(!lasts(until, put.after_ms(15 * day + 1), 30 * day));
        assert!(!lasts(put, put.after_ms(day), 30 * day));
    }
}
