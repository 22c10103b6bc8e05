//! `session request …`: what strangers want.

use clap::Subcommand;
use serde_json::json;
use session_client::Entered;
use session_crypto::IdentityId;

use crate::chat::{open, person};
use crate::home::{Home, resolve_account};
use crate::out::{CliError, Out, counted, note, printable};
use crate::session::title_of;

#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  session request list\n  session request accept 07…     joins the groups, now and later\n  session request ignore 07…     shows it no more; they may ask again\n  session request block 07…      reads nothing of them any more"
)]
pub(crate) enum RequestVerb {
    /// Lists the requests of people who are neither contacts nor were accepted
    List,
    /// Accepts somebody's sessions, and the groups they invite to
    Accept {
        /// A 07… id, or a contact
        who: String,
    },
    /// Shows what somebody wanted no more
    Ignore {
        /// A 07… id
        who: String,
    },
    /// Reads nothing of somebody any more, and shows nothing of them in groups
    Block {
        /// A 07… id, or a contact
        who: String,
    },
    /// Takes that back
    Unblock {
        /// A 07… id, or a contact
        who: String,
    },
}

pub(crate) async fn run(verb: RequestVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut chats = open(home).await?;
    match verb {
        RequestVerb::List => {
            let (requests, mail) = chats.requests().await?;
            let account = chats.account();
            for mail in mail {
                for text in mail.inbox.texts() {
                    let title = title_of(account, &mail.session);
                    note(&format!("{title} wrote in a session: {}", printable(text)));
                }
            }
            let (mut lines, mut values) = (Vec::new(), Vec::new());
            for (from, request) in &requests {
                let groups = request.invitations.len() as u64;
                lines.push(format!("{}", IdentityId::Pq(*from)));
                lines.extend(
                    request
                        .texts
                        .iter()
                        .map(|text| format!("  {}", printable(text))),
                );
                if groups > 0 {
                    lines.push(format!("  {} to a group", counted(groups, "invitation")));
                }
                values.push(json!({
                    "account": from, "id": IdentityId::Pq(*from).to_string(),
                    "sessions": request.sessions, "texts": request.texts, "invitations": groups,
                }));
            }
            if lines.is_empty() {
                lines.push("no requests".to_owned());
            }
            out.result(&lines.join("\n"), &json!(values))
        }
        RequestVerb::Accept { who } => {
            let from = resolve_account(chats.account(), &who)?;
            let (request, entered) = chats.accept_request(from).await?;
            let joined = entered
                .iter()
                .filter(|e| matches!(e, Entered::Joined { .. }))
                .count();
            for entered in &entered {
                match entered {
                    Entered::Joined { .. } => {}
                    Entered::NotYet { why, .. } => {
                        note(&format!(
                            "an invitation waits, this node does not show it: {why}"
                        ));
                    }
                    Entered::Useless { why, .. } => {
                        note(&format!("an invitation is of no use: {why}"));
                    }
                }
            }
            chats.supply().await?;
            let who = person(chats.account(), &from);
            let text = format!(
                "{who} is accepted: {}, {}",
                counted(request.sessions.len() as u64, "session"),
                counted(joined as u64, "group")
            );
            out.done(&text)
        }
        RequestVerb::Ignore { who } => {
            let from = resolve_account(chats.account(), &who)?;
            let count = chats.ignore_request(from).await?;
            out.done(&format!("{} ignored", counted(count as u64, "session")))
        }
        RequestVerb::Block { who } => {
            let from = resolve_account(chats.account(), &who)?;
            chats.account_mut().block(from)?;
            out.done("nothing of them is read or shown any more")
        }
        RequestVerb::Unblock { who } => {
            let from = resolve_account(chats.account(), &who)?;
            let text = if chats.account_mut().unblock(from)? {
                "they are read again"
            } else {
                "they were not blocked"
            };
            out.done(text)
        }
    }
}
