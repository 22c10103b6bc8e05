//! A group that goes on in another one: because a commit that nobody can follow has ended it, or
//! because its admin wants it.
//!
//! ```text
//! admin:   successor with everybody's reserved key package ─▶ on the chain
//!          its invitation, sealed for members ─▶ a chunk ─▶ Supersede names both
//! members: the log ends, its proved record names the successor ─▶ told, joined by themselves
//! ```
//!
//! Every step is on disk, or on the chain, before the next: [`Groups::supersede`] goes on where it
//! was interrupted.

use std::collections::BTreeSet;

use session_chain::tx::Kind;
use session_chain::tx::group::admin::Supersede;
use session_core::codec::{Decode, Encode};
use session_core::group::{Group, Mode, Succession};
use session_core::ids::{AccountId, GroupId};
use session_e2ee::{
    E2eeError, Event, GroupStatus, Invitation, LogEntry, LogPlace, MemberDevice, OutgoingKind,
};

use super::accounts::{Accounts, Position};
use super::log::NOT_FOUND;
use super::{GroupError, Groups, InvitationCode, NewGroup};
use crate::account::{Account, now};
use crate::error::ClientError;
use crate::rpc::RpcError;

/// What became of a group that was superseded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// The group in which it goes on.
    pub successor: GroupId,
    /// Who has to be invited into it some other way: they had left no key package. Told once: of a
    /// group that was superseded before there is no list of members any more.
    pub left: Vec<MemberDevice>,
}

impl Groups {
    /// Closes a group and goes on in a new one, with everybody but the accounts `without`. The others
    /// follow by themselves when they read the old log; whoever has left no key package there is
    /// answered, and is invited like anybody. The new group has the old one's policy, with this
    /// account as an owner, and only its admins advance it where there are more than two accounts.
    /// `sponsor` pays for it; none: this account does.
    ///
    /// Safe to call again, until it answers.
    ///
    /// # Errors
    /// [`GroupError::NotAnAdmin`] where the chain knows no admin key of this device;
    /// [`GroupError::OtherSuccessor`] where another admin was faster; [`ClientError`].
    pub async fn supersede(
        &mut self,
        group: GroupId,
        without: &BTreeSet<AccountId>,
        sponsor: Option<&mut Account>,
    ) -> Result<Superseded, ClientError> {
        self.receive(group).await?;
        let known = self.device.successor_of(group)?;
        if self.device.status(group)? == GroupStatus::Superseded {
            // It was done before, here or by another admin.
            let successor = known.ok_or(GroupError::OtherSuccessor(group))?;
            let left = Vec::new();
            return Ok(Superseded { successor, left });
        }
        let mut record = self.seen_of(group).await?;
        if self.own_admin(group, &record)?.is_none() {
            return Err(GroupError::NotAnAdmin(group).into());
        }
        let successor = match known {
            Some(successor) => successor,
            None => {
                if self.device.status(group)? == GroupStatus::Active {
                    // Nobody may go on behind the epoch that the link is made from.
                    self.set_mode(group, Mode::AdminOnly).await?;
                    self.receive(group).await?;
                    record = self.seen_of(group).await?;
                }
                self.make_successor(group, without).await?
            }
        };
        let new = NewGroup::new(self.device.policy(successor)?);
        let members = self.device.members(successor)?;
        let accounts: BTreeSet<AccountId> = members.iter().map(|m| m.member.account).collect();
        let new = if accounts.len() > 2 {
            new
        } else {
            NewGroup::open(new.policy)
        };
        self.put_on_chain(successor, &new, sponsor).await?;
        let left = self.left_behind(group, successor, without)?;
        self.close_for(group, &record, successor).await?;
        Ok(Superseded { successor, left })
    }

    async fn make_successor(
        &mut self,
        group: GroupId,
        without: &BTreeSet<AccountId>,
    ) -> Result<GroupId, ClientError> {
        self.follow_own_keys()?;
        // What members left is judged when they are brought along: they are asked for first.
        let mut accounts = Accounts::new();
        let members = self.device.members(group)?;
        for member in members {
            accounts
                .learn(&mut self.account, member.member.account, Position::NOW)
                .await?;
        }
        let made = self
            .device
            .supersede_without(group, without, &accounts, now().ms())?;
        Ok(made.0)
    }

    /// Members of a group that are not in its successor, and are to be.
    fn left_behind(
        &self,
        group: GroupId,
        successor: GroupId,
        without: &BTreeSet<AccountId>,
    ) -> Result<Vec<MemberDevice>, ClientError> {
        let there = self.device.members(successor)?;
        let there: BTreeSet<MemberDevice> = there.into_iter().map(|found| found.member).collect();
        let before = self.device.members(group)?.into_iter();
        Ok(before
            .map(|found| found.member)
            .filter(|member| !there.contains(member) && !without.contains(&member.account))
            .collect())
    }

    /// Has the chain close a group for its successor, with what members join that by.
    async fn close_for(
        &mut self,
        group: GroupId,
        record: &Group,
        successor: GroupId,
    ) -> Result<(), ClientError> {
        let admin = self.own_admin(group, record)?;
        let admin = admin.ok_or(GroupError::NotAnAdmin(group))?;
        let mut invitation = None;
        if let Some((_, welcome)) = self.invitation_to(successor)? {
            let (code, _) = self.seal_invitation(successor, &welcome).await?;
            let told = code.to_bytes();
            let sealed = self.device.seal_for_successor(group, successor, &told)?;
            let ids = self.account.put_chunks(vec![sealed]).await?;
            invitation = ids.first().copied();
        }
        let kind = Kind::Supersede(Supersede {
            admin,
            successor,
            invitation,
        });
        match self.act_as_admin(group, kind).await {
            // It may be there already, from before a crash, or another's.
            Ok(()) | Err(ClientError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        let shown = self.shown(group).await?;
        let (record, _) = shown.ok_or(GroupError::Unknown(group))?;
        let succession = record
            .succession
            .ok_or(ClientError::Reply("the group was not closed"))?;
        self.follow_succession(group, succession).await?;
        if succession.successor == successor {
            Ok(())
        } else {
            Err(GroupError::OtherSuccessor(group).into())
        }
    }

    /// The invitation to a successor that this device has made.
    fn invitation_to(
        &self,
        successor: GroupId,
    ) -> Result<Option<(u64, Box<Invitation>)>, ClientError> {
        let mut outbox = self.device.outbox()?.into_iter();
        Ok(outbox.find_map(|outgoing| {
            if let OutgoingKind::Invitation(invitation) = outgoing.kind
                && outgoing.group == successor
            {
                return Some((outgoing.number, invitation));
            }
            None
        }))
    }

    /// The log has ended, and its record says where the group goes on: it is told, and joined.
    pub(super) async fn follow_succession(
        &mut self,
        group: GroupId,
        succession: Succession,
    ) -> Result<Vec<Event>, ClientError> {
        let successor = succession.successor;
        let place = LogPlace {
            position: self.device.next_position(group)?,
            time_ms: succession.time.ms(),
        };
        let end = LogEntry::Superseded { successor };
        let told = self.device.receive(group, place, end, &Accounts::new())?;
        let mut events = told.events;
        events.extend(self.join_successor(group, succession).await?);
        Ok(events)
    }

    /// Goes on with a successor that could not be joined when the group ended.
    pub(super) async fn resume_succession(
        &mut self,
        group: GroupId,
    ) -> Result<Vec<Event>, ClientError> {
        if !self.device.awaits_successor(group)? {
            return Ok(Vec::new());
        }
        match self.shown(group).await? {
            Some((record, _)) => match record.succession {
                Some(succession) => self.join_successor(group, succession).await,
                None => Err(ClientError::Reply("a closed group is open again")),
            },
            // The node does not know it any more, or says so.
            None => Ok(Vec::new()),
        }
    }

    async fn join_successor(
        &mut self,
        group: GroupId,
        succession: Succession,
    ) -> Result<Vec<Event>, ClientError> {
        if !self.device.awaits_successor(group)? {
            return Ok(Vec::new());
        }
        match self.device.successor_of(group)? {
            Some(ours) if ours == succession.successor => {
                // The chain hands the invitation over.
                if let Some((number, _)) = self.invitation_to(ours)? {
                    self.device.accepted(number)?;
                }
                self.device.let_go(group)?;
                return Ok(Vec::new());
            }
            // Another admin was faster: nobody will come into this one.
            Some(ours) => self.device.forget(ours)?,
            None => {}
        }
        let code = match succession.invitation {
            Some(chunk) => {
                let sealed = match self.chunk(chunk).await {
                    Ok(sealed) => sealed,
                    // A node may be behind, or lie: the keys stay until one shows it.
                    Err(ClientError::Rpc(RpcError::Refused {
                        code: NOT_FOUND, ..
                    })) => return Ok(Vec::new()),
                    Err(error) => return Err(error),
                };
                self.open_succession(group, succession.successor, &sealed)?
            }
            None => None,
        };
        let joined = match code {
            Some(code) => self.join_anew(&code).await,
            None => Err(E2eeError::WrongInvitation.into()),
        };
        match joined {
            Err(ClientError::E2ee(error))
                if error.is_peer_fault() || matches!(error, E2eeError::NoPredecessor) =>
            {
                // Not brought along: whoever wants this device invites it like anybody.
                self.device.let_go(group)?;
                Ok(Vec::new())
            }
            joined => joined,
        }
    }

    /// The invitation to a successor, if it is one.
    fn open_succession(
        &self,
        group: GroupId,
        successor: GroupId,
        sealed: &[u8],
    ) -> Result<Option<InvitationCode>, ClientError> {
        let told = match self.device.open_for_successor(group, successor, sealed) {
            Ok(told) => told,
            Err(error) if error.is_peer_fault() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let code = InvitationCode::from_bytes(&told).ok();
        Ok(code.filter(|code| code.group == successor))
    }
}
