//! Channels: a public roster with roles.

use session_core::channel::{Channel, Member, Role};
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::{AccountId, ActionId, ChannelId};
use session_core::limits::MEMBER_CHANGES_MAX;
use session_core::log::{Conversation, MembershipEvent};
use session_core::merkle::Frontier;
use session_core::record::{Outcome, RecordKey};

use super::Tx;
use crate::state::{Scope, TxError};

/// Opens a channel; the signer is its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateChannel {
    /// Members asked to join, at most 100 at once.
    pub members: Vec<(AccountId, Role)>,
}

/// Closes a channel; an owner's right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseChannel {
    /// Which.
    pub channel: ChannelId,
}

/// One change of a roster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// Asks an account to join: a request until it accepts. Admins add members and readers,
    /// owners anybody.
    Add(AccountId, Role),
    /// Removes an account with a lower role than the signer's.
    Remove(AccountId),
    /// Sets a role; an owner's right.
    SetRole(AccountId, Role),
    /// The signer accepts.
    Accept,
    /// The signer leaves; the last owner cannot.
    Leave,
}

/// Changes a roster, at most 100 changes at once, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelMembers {
    /// Which channel.
    pub channel: ChannelId,
    /// What to change.
    pub changes: Vec<MemberChange>,
}

impl CreateChannel {
    /// The id of the channel that this transaction opens.
    pub fn channel_id(action: &ActionId) -> ChannelId {
        ChannelId::from_bytes(Tag::Channel.hash(&[action.as_bytes()]))
    }

    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let id = Self::channel_id(&scope.ids.action);
        let mut account = scope.account(&tx.signer)?.ok_or(TxError::UnknownAccount)?;
        if account.channels >= scope.context.parameters.max_channels {
            return Err(TxError::LimitReached {
                what: "open channels of one creator",
            });
        }
        account.channels += 1;
        scope.put_account(&tx.signer, &account)?;
        let time = scope.context.time;
        let owner = Member {
            role: Role::Owner,
            accepted: true,
            since: time,
            by: tx.signer,
        };
        scope.put_record(&RecordKey::Member(id, tx.signer), &owner)?;
        let conversation = Conversation::Channel(id);
        scope.enter(
            &tx.signer,
            MembershipEvent::Created,
            conversation,
            Some(tx.signer),
        )?;
        let mut channel = Channel {
            creator: tx.signer,
            created: time,
            closed: None,
            members: 1,
            owners: 1,
            log: Frontier::new(),
        };
        for (account, role) in &self.members {
            scope.add_member(&id, &mut channel, account, *role, tx)?;
        }
        scope.put_channel(&id, &channel)?;
        Ok(Outcome::Channel(id))
    }
}

impl CloseChannel {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let mut channel = scope.open_channel(&self.channel)?;
        scope.require_role(&self.channel, &tx.signer, Role::Owner)?;
        let time = scope.context.time;
        channel.closed = Some(time);
        scope.put_channel(&self.channel, &channel)?;
        let dropped = time.after_ms(scope.context.parameters.retention_ms);
        scope.set_deadline(&RecordKey::Channel(self.channel), None, dropped);
        let mut creator = scope.account_or_new(&channel.creator)?;
        creator.channels = creator.channels.saturating_sub(1);
        scope.put_account(&channel.creator, &creator)?;
        Ok(Outcome::Done)
    }
}

impl ChannelMembers {
    pub(crate) fn apply(&self, scope: &mut Scope<'_, '_>, tx: &Tx) -> Result<Outcome, TxError> {
        scope.require_signer(tx)?;
        let mut channel = scope.open_channel(&self.channel)?;
        scope.member(&self.channel, &tx.signer)?;
        for change in &self.changes {
            scope.change_member(&self.channel, &mut channel, change, tx)?;
        }
        scope.put_channel(&self.channel, &channel)?;
        Ok(Outcome::Done)
    }
}

impl Scope<'_, '_> {
    /// The signer as a member, accepted or not.
    fn member(&self, id: &ChannelId, signer: &AccountId) -> Result<Member, TxError> {
        let member = self.record(&RecordKey::Member(*id, *signer))?;
        member.ok_or(TxError::Unauthorized)
    }

    fn add_member(
        &mut self,
        id: &ChannelId,
        channel: &mut Channel,
        account: &AccountId,
        role: Role,
        tx: &Tx,
    ) -> Result<(), TxError> {
        let key = RecordKey::Member(*id, *account);
        if self.record::<Member>(&key)?.is_some() {
            return Err(TxError::AlreadyMember);
        }
        let member = Member {
            role,
            accepted: false,
            since: self.context.time,
            by: tx.signer,
        };
        self.put_record(&key, &member)?;
        self.request(account, Conversation::Channel(*id), Some(tx.signer))?;
        channel.members = channel
            .members
            .checked_add(1)
            .ok_or(TxError::LimitReached { what: "members" })?;
        Ok(())
    }

    fn change_member(
        &mut self,
        id: &ChannelId,
        channel: &mut Channel,
        change: &MemberChange,
        tx: &Tx,
    ) -> Result<(), TxError> {
        let own_key = RecordKey::Member(*id, tx.signer);
        let own = self.member(id, &tx.signer)?;
        let acting = if own.accepted { own.role } else { Role::Reader };
        let time = self.context.time;
        match change {
            MemberChange::Add(account, role) => {
                let allowed = acting == Role::Owner || (acting == Role::Admin && *role < acting);
                if !allowed {
                    return Err(TxError::Unauthorized);
                }
                self.add_member(id, channel, account, *role, tx)
            }
            MemberChange::Remove(account) => {
                let key = RecordKey::Member(*id, *account);
                let member: Member = self.record(&key)?.ok_or(TxError::NotAMember)?;
                if acting < Role::Admin || member.role >= acting {
                    return Err(TxError::Unauthorized);
                }
                self.remove_member(id, channel, account, &member)
            }
            MemberChange::SetRole(account, role) => {
                let key = RecordKey::Member(*id, *account);
                let member: Member = self.record(&key)?.ok_or(TxError::NotAMember)?;
                if acting != Role::Owner {
                    return Err(TxError::Unauthorized);
                }
                count_owner(channel, &member, false)?;
                let member = Member {
                    role: *role,
                    since: time,
                    ..member
                };
                count_owner(channel, &member, true)?;
                if channel.owners == 0 {
                    return Err(TxError::LastOwner);
                }
                self.put_record(&key, &member)
            }
            MemberChange::Accept => {
                if own.accepted {
                    return Err(TxError::AlreadyAccepted);
                }
                let member = Member {
                    accepted: true,
                    since: time,
                    ..own
                };
                count_owner(channel, &member, true)?;
                self.put_record(&own_key, &member)?;
                let conversation = Conversation::Channel(*id);
                self.drop_request(&own.by, &tx.signer)?;
                let (event, creator) = (MembershipEvent::Accepted, Some(channel.creator));
                self.enter(&tx.signer, event, conversation, creator)
            }
            MemberChange::Leave => self.remove_member(id, channel, &tx.signer, &own),
        }
    }

    fn remove_member(
        &mut self,
        id: &ChannelId,
        channel: &mut Channel,
        account: &AccountId,
        member: &Member,
    ) -> Result<(), TxError> {
        count_owner(channel, member, false)?;
        if channel.owners == 0 {
            return Err(TxError::LastOwner);
        }
        channel.members = channel.members.saturating_sub(1);
        if !member.accepted {
            self.drop_request(&member.by, account)?;
        }
        self.delete_record(&RecordKey::Member(*id, *account))
    }
}

/// Counts an accepted owner in or out.
fn count_owner(channel: &mut Channel, member: &Member, add: bool) -> Result<(), TxError> {
    if member.role == Role::Owner && member.accepted {
        let owners = if add {
            channel.owners.checked_add(1)
        } else {
            channel.owners.checked_sub(1)
        };
        channel.owners = owners.ok_or(TxError::LimitReached { what: "owners" })?;
    }
    Ok(())
}

impl Encode for CreateChannel {
    fn encode(&self, out: &mut Writer) {
        out.count(self.members.len());
        for (account, role) in &self.members {
            out.value(account).value(role);
        }
    }
}

impl Decode for CreateChannel {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = input.count("channel members", MEMBER_CHANGES_MAX, 33)?;
        let mut members = Vec::with_capacity(n);
        for _ in 0..n {
            members.push((AccountId::decode(input)?, Role::decode(input)?));
        }
        Ok(Self { members })
    }
}

impl Encode for CloseChannel {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.channel);
    }
}

impl Decode for CloseChannel {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            channel: ChannelId::decode(input)?,
        })
    }
}

impl Encode for MemberChange {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Add(account, role) => out.u8(1).value(account).value(role),
            Self::Remove(account) => out.u8(2).value(account),
            Self::SetRole(account, role) => out.u8(3).value(account).value(role),
            Self::Accept => out.u8(4),
            Self::Leave => out.u8(5),
        };
    }
}

impl Decode for MemberChange {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match input.u8("member change")? {
            1 => Self::Add(AccountId::decode(input)?, Role::decode(input)?),
            2 => Self::Remove(AccountId::decode(input)?),
            3 => Self::SetRole(AccountId::decode(input)?, Role::decode(input)?),
            4 => Self::Accept,
            5 => Self::Leave,
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "member change",
                    value: value.into(),
                });
            }
        })
    }
}

impl Encode for ChannelMembers {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.channel).list(&self.changes);
    }
}

impl Decode for ChannelMembers {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            channel: ChannelId::decode(input)?,
            changes: input.list("member changes", MEMBER_CHANGES_MAX, 1)?,
        })
    }
}
