//! `session channel …`: rosters with roles. Encryption for many comes later, so nothing is sent.

use clap::Subcommand;
use serde_json::json;
use session_chain::tx::channel::MemberChange;
use session_client::Account;
use session_core::channel::Role;
use session_core::ids::{AccountId, ChannelId};
use session_crypto::IdentityId;

use crate::home::{Home, resolve_account};
use crate::out::{CliError, Out};

#[derive(Subcommand)]
pub(crate) enum ChannelVerb {
    /// Opens a channel and asks contacts to join as members
    Create {
        /// Contacts, `07…` ids or accounts
        who: Vec<String>,
    },
    /// Shows a channel and its members
    Show {
        /// Channel
        channel: ChannelId,
    },
    /// Asks somebody to join
    Add {
        /// Channel
        channel: ChannelId,
        /// Contact, `07…` id or account
        who: String,
        /// reader, member, admin or owner
        #[arg(long, default_value = "member")]
        role: Role,
    },
    /// Removes a member with a lower role than yours
    Remove {
        /// Channel
        channel: ChannelId,
        /// Contact, `07…` id or account
        who: String,
    },
    /// Sets a member's role; an owner's right
    Role {
        /// Channel
        channel: ChannelId,
        /// Contact, `07…` id or account
        who: String,
        /// reader, member, admin or owner
        role: Role,
    },
    /// Joins a channel that somebody asked you to
    Accept {
        /// Channel
        channel: ChannelId,
    },
    /// Leaves a channel; the last owner cannot
    Leave {
        /// Channel
        channel: ChannelId,
    },
    /// Closes a channel; an owner's right
    Close {
        /// Channel
        channel: ChannelId,
    },
}

pub(crate) async fn run(verb: ChannelVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let (channel, change, told) = match verb {
        ChannelVerb::Create { who } => return create(&mut account, &who, out).await,
        ChannelVerb::Show { channel } => return show(&mut account, channel, out).await,
        ChannelVerb::Close { channel } => {
            account.close_channel(channel).await?;
            return out.done(&format!("channel {channel} is closed"));
        }
        ChannelVerb::Add { channel, who, role } => {
            let peer = resolve_account(&account, &who)?;
            (
                channel,
                MemberChange::Add(peer, role),
                format!("{who} is asked to join"),
            )
        }
        ChannelVerb::Remove { channel, who } => {
            let peer = resolve_account(&account, &who)?;
            (
                channel,
                MemberChange::Remove(peer),
                format!("{who} is removed"),
            )
        }
        ChannelVerb::Role { channel, who, role } => {
            let peer = resolve_account(&account, &who)?;
            let told = format!("{who} is {} now", role.as_str());
            (channel, MemberChange::SetRole(peer, role), told)
        }
        ChannelVerb::Accept { channel } => {
            (channel, MemberChange::Accept, "you have joined".to_owned())
        }
        ChannelVerb::Leave { channel } => {
            (channel, MemberChange::Leave, "you have left".to_owned())
        }
    };
    account.change_channel(channel, vec![change]).await?;
    out.done(&told)
}

async fn create(account: &mut Account, who: &[String], out: &Out) -> Result<(), CliError> {
    let mut members: Vec<(AccountId, Role)> = Vec::with_capacity(who.len());
    for name in who {
        members.push((resolve_account(account, name)?, Role::Member));
    }
    let channel = account.create_channel(members).await?;
    out.result(
        &format!("channel {channel}"),
        &json!({ "channelId": channel }),
    )
}

async fn show(account: &mut Account, channel: ChannelId, out: &Out) -> Result<(), CliError> {
    let view = account.channel(channel).await?;
    let state = if view.record.closed.is_some() {
        "closed"
    } else {
        "open"
    };
    let mut lines = vec![format!(
        "channel {channel}, {state}, {} members",
        view.record.members
    )];
    let mut members = Vec::new();
    for listed in &view.members {
        // Each is proved: the list itself is the node's word.
        let Some(member) = account.channel_member(channel, listed.account).await? else {
            let who = listed.account;
            return Err(CliError::NotProved(format!(
                "{who} is listed and is no member"
            )));
        };
        let asked = if member.accepted { "" } else { " (asked)" };
        let id = IdentityId::Pq(listed.account);
        lines.push(format!("  {:<7} {id}{asked}", member.role.as_str()));
        members.push(json!({
            "id": id.to_string(), "role": member.role.as_str(), "accepted": member.accepted,
        }));
    }
    if usize::try_from(view.record.members).is_ok_and(|count| count != view.members.len()) {
        lines.push("the node lists only some of the members".to_owned());
    }
    out.result(
        &lines.join("\n"),
        &json!({
            "channelId": channel, "open": view.record.closed.is_none(),
            "memberCount": view.record.members, "members": members,
        }),
    )
}
