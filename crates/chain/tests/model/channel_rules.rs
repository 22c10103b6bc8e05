//! Rules of channels.

use super::rules::Result;
use super::state::{MChannel, MMember, Model};
use session_chain::state::TxError;
use session_chain::tx::channel::{ChannelMembers, CreateChannel, MemberChange};
use session_chain::tx::{Tx, TxIds};
use session_core::channel::Role;
use session_core::hash::Tag;
use session_core::ids::{AccountId, ChannelId};
use session_core::log::{Conversation, MembershipEvent};
use session_core::record::{Outcome, RecordKey};
impl Model {
    pub(crate) fn open_channel(&self, id: &ChannelId) -> Result<()> {
        let channel = self.channels.get(id).ok_or(TxError::UnknownChannel)?;
        if channel.closed.is_some() {
            Err(TxError::ChannelClosed)
        } else {
            Ok(())
        }
    }

    pub(crate) fn role(&self, id: &ChannelId, account: &AccountId, least: Role) -> Result<()> {
        let member = self.channels[id].members.get(account);
        let may = member.is_some_and(|m| m.accepted && m.role >= least);
        if may {
            Ok(())
        } else {
            Err(TxError::Unauthorized)
        }
    }

    pub(crate) fn create_channel(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &CreateChannel,
    ) -> Result<Outcome> {
        self.signer(tx, ids)?;
        let id = ChannelId::from_bytes(Tag::Channel.hash(&[ids.action.as_bytes()]));
        if self.open_channels(&tx.signer) >= self.parameters.max_channels {
            return Err(TxError::LimitReached {
                what: "open channels of one creator",
            });
        }
        let owner = MMember {
            role: Role::Owner,
            accepted: true,
            since: self.time,
            by: tx.signer,
        };
        let channel = MChannel {
            creator: tx.signer,
            created: self.time,
            closed: None,
            members: [(tx.signer, owner)].into(),
            log: Vec::new(),
            dropped: 0,
        };
        self.channels.insert(id, channel);
        self.touch(RecordKey::Channel(id));
        self.touch(RecordKey::Member(id, tx.signer));
        let event = MembershipEvent::Created;
        self.enter(tx.signer, event, Conversation::Channel(id), Some(tx.signer));
        for (account, role) in &k.members {
            self.add_member(&id, account, *role, tx.signer)?;
        }
        Ok(Outcome::Channel(id))
    }

    pub(crate) fn add_member(
        &mut self,
        id: &ChannelId,
        a: &AccountId,
        role: Role,
        by: AccountId,
    ) -> Result<()> {
        if self.channels[id].members.contains_key(a) {
            return Err(TxError::AlreadyMember);
        }
        self.request(*a, Conversation::Channel(*id), Some(by))?;
        let member = MMember {
            role,
            accepted: false,
            since: self.time,
            by,
        };
        self.channels
            .get_mut(id)
            .unwrap()
            .members
            .insert(*a, member);
        self.touch(RecordKey::Member(*id, *a));
        Ok(())
    }

    pub(crate) fn change_members(
        &mut self,
        tx: &Tx,
        ids: &TxIds,
        k: &ChannelMembers,
    ) -> Result<Outcome> {
        self.signer(tx, ids)?;
        self.open_channel(&k.channel)?;
        if !self.channels[&k.channel].members.contains_key(&tx.signer) {
            return Err(TxError::Unauthorized);
        }
        for change in &k.changes {
            self.change_member(&k.channel, change, tx.signer)?;
        }
        self.touch(RecordKey::Channel(k.channel));
        Ok(Outcome::Done)
    }

    pub(crate) fn owners(&self, id: &ChannelId) -> usize {
        let members = self.channels[id].members.values();
        members
            .filter(|m| m.accepted && m.role == Role::Owner)
            .count()
    }

    pub(crate) fn change_member(
        &mut self,
        id: &ChannelId,
        change: &MemberChange,
        me: AccountId,
    ) -> Result<()> {
        let members = &self.channels[id].members;
        let own = members.get(&me).ok_or(TxError::Unauthorized)?.clone();
        let acting = if own.accepted { own.role } else { Role::Reader };
        let now = self.time;
        match change {
            MemberChange::Add(account, role) => {
                let lower = matches!(role, Role::Member | Role::Reader);
                if acting == Role::Owner || (acting == Role::Admin && lower) {
                    self.add_member(id, account, *role, me)
                } else {
                    Err(TxError::Unauthorized)
                }
            }
            MemberChange::Remove(account) => {
                let member = members.get(account).ok_or(TxError::NotAMember)?;
                if acting < Role::Admin || member.role >= acting {
                    return Err(TxError::Unauthorized);
                }
                self.remove_member(id, account)
            }
            MemberChange::SetRole(account, role) => {
                members.get(account).ok_or(TxError::NotAMember)?;
                if acting != Role::Owner {
                    return Err(TxError::Unauthorized);
                }
                let channel = self.channels.get_mut(id).unwrap();
                let member = channel.members.get_mut(account).unwrap();
                member.role = *role;
                member.since = now;
                self.touch(RecordKey::Member(*id, *account));
                if self.owners(id) == 0 {
                    Err(TxError::LastOwner)
                } else {
                    Ok(())
                }
            }
            MemberChange::Accept => {
                if own.accepted {
                    return Err(TxError::AlreadyAccepted);
                }
                let channel = self.channels.get_mut(id).unwrap();
                let member = channel.members.get_mut(&me).unwrap();
                member.accepted = true;
                member.since = now;
                self.touch(RecordKey::Member(*id, me));
                self.touch(RecordKey::OpenRequests(own.by, me));
                let creator = Some(self.channels[id].creator);
                let (event, to) = (MembershipEvent::Accepted, Conversation::Channel(*id));
                self.enter(me, event, to, creator);
                Ok(())
            }
            MemberChange::Leave => self.remove_member(id, &me),
        }
    }

    pub(crate) fn remove_member(&mut self, id: &ChannelId, account: &AccountId) -> Result<()> {
        let channel = self.channels.get_mut(id).unwrap();
        let member = channel.members.remove(account).unwrap();
        self.touch(RecordKey::Member(*id, *account));
        if !member.accepted {
            self.touch(RecordKey::OpenRequests(member.by, *account));
        }
        if self.owners(id) == 0 {
            Err(TxError::LastOwner)
        } else {
            Ok(())
        }
    }
}
