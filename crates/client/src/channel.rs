//! Channels: a public roster with roles. Membership only: what is sent into a channel is not
//! encrypted for its members yet, so this SDK sends nothing into one.

use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::tx::Kind;
use session_chain::tx::channel::{ChannelMembers, CloseChannel, CreateChannel, MemberChange};
use session_core::channel::{Channel, Member, Role};
use session_core::codec::Decode;
use session_core::ids::{AccountId, ChannelId};
use session_core::record::RecordKey;

use crate::account::Account;
use crate::error::ClientError;
use crate::trust::{TrustError, decode_proof};

/// One member as the node lists it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ListedMember {
    /// Account.
    pub account: AccountId,
    /// `reader`, `member`, `admin` or `owner`.
    pub role: String,
    /// Whether it accepted.
    pub accepted: bool,
}

/// A channel: its proved record, and the node's list of its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelView {
    /// The record, proved.
    pub record: Channel,
    /// The first thousand members. Not proved; [`Account::channel_member`] proves one.
    pub members: Vec<ListedMember>,
}

#[derive(Deserialize)]
struct ProofReply {
    proof: String,
}

impl Account {
    /// Opens a channel and asks members to join.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_channel(
        &mut self,
        members: Vec<(AccountId, Role)>,
    ) -> Result<ChannelId, ClientError> {
        let outcome = self
            .submit_one(Kind::CreateChannel(CreateChannel { members }))
            .await?;
        let id = outcome
            .get("channelId")
            .and_then(Value::as_str)
            .and_then(|id| id.parse().ok());
        id.ok_or(ClientError::Reply("channelId"))
    }

    /// Changes a channel's roster, in order, all or nothing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn change_channel(
        &mut self,
        channel: ChannelId,
        changes: Vec<MemberChange>,
    ) -> Result<(), ClientError> {
        let kind = Kind::ChannelMembers(ChannelMembers { channel, changes });
        self.submit_one(kind).await.map(drop)
    }

    /// Closes a channel.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn close_channel(&mut self, channel: ChannelId) -> Result<(), ClientError> {
        self.submit_one(Kind::CloseChannel(CloseChannel { channel }))
            .await
            .map(drop)
    }

    /// A channel's record, proved, and its members as the node lists them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn channel(&mut self, channel: ChannelId) -> Result<ChannelView, ClientError> {
        let params = json!({ "channelId": channel });
        let reply: Value = self
            .rpc
            .call("sessionvm.GetChannel", params.clone())
            .await?;
        let members = reply
            .pointer("/channel/members")
            .cloned()
            .unwrap_or_default();
        let members = serde_json::from_value(members)
            .map_err(|_| ClientError::Reply("members of a channel"))?;
        let proof: ProofReply = self.rpc.call("sessionvm.GetProof", params).await?;
        let proved = self.believe(&mut decode_proof(&proof.proof)?).await?;
        let record = proved
            .record
            .filter(|_| proved.key == RecordKey::Channel(channel));
        let record = record.ok_or(ClientError::Reply("the proof is about something else"))?;
        let record = Channel::from_bytes(&record).map_err(TrustError::from)?;
        Ok(ChannelView { record, members })
    }

    /// What an account is in a channel, proved; none if it is proved to be no member.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn channel_member(
        &mut self,
        channel: ChannelId,
        account: AccountId,
    ) -> Result<Option<Member>, ClientError> {
        let params = json!({ "channelId": channel, "account": account });
        let proof: ProofReply = self.rpc.call("sessionvm.GetProof", params).await?;
        let proved = self.believe(&mut decode_proof(&proof.proof)?).await?;
        if proved.key != RecordKey::Member(channel, account) {
            return Err(ClientError::Reply("the proof is about something else"));
        }
        let member = proved
            .record
            .map(|record| Member::from_bytes(&record))
            .transpose();
        Ok(member.map_err(TrustError::from)?)
    }
}
