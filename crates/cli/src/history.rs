//! `session history …`: what was said, from the disk. No node is asked.

use clap::Subcommand;
use serde_json::{Value, json};
use session_client::{Chats, HistoryLine};
use session_core::time::Time;

use crate::chat::view::lines_in;
use crate::chat::{DEVICE, export, find_group, title};
use crate::home::{Home, resolve_account};
use crate::out::{CliError, Out, printable, short};

#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  session history export                  what was said in sessions\n  session history export bob              the conversation with bob\n  session history export crew > crew.txt  a group\n  session history export --all            sessions, then every conversation\n  session --json history export --all     the same for programs"
)]
pub(crate) enum HistoryVerb {
    /// Prints what was said, oldest first: in sessions, in a conversation, or everywhere
    Export {
        /// A conversation: name, contact, `07…` id or group id. Without it: what was said in sessions
        conversation: Option<String>,
        /// Sessions, and every conversation
        #[arg(long, conflicts_with = "conversation")]
        all: bool,
    },
}

pub(crate) async fn run(verb: HistoryVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    let HistoryVerb::Export { conversation, all } = verb;
    if conversation.is_none() && !all {
        let lines = sessions(home)?;
        return out.result(&text_of(&lines), &json!(lines));
    }
    let sessions = if all { sessions(home)? } else { Vec::new() };
    let mut chats = Chats::open(home.account_offline().await?, DEVICE)?;
    let exported = match conversation {
        Some(name) => one(&mut chats, &name),
        None => everything(&mut chats, &sessions),
    };
    chats.close()?;
    let (text, value) = exported?;
    out.result(text.trim_end(), &value)
}

/// What was said in sessions and channels, oldest first.
fn sessions(home: &Home) -> Result<Vec<HistoryLine>, CliError> {
    let mut lines = home.history()?.lines()?;
    lines.sort_by_key(|line| (line.time.parse::<u64>().unwrap_or_default(), line.sequence));
    // A crash between history and cursor shows a message twice in the file, not here.
    lines.dedup_by(|a, b| {
        a.sequence.is_some() && (a.session, a.sequence) == (b.session, b.sequence)
    });
    Ok(lines)
}

fn text_of(lines: &[HistoryLine]) -> String {
    let lines = lines.iter().map(|line| {
        format!(
            "{} {} {}",
            Time::from_ms(line.time.parse().unwrap_or_default()),
            short(&line.sender.to_string()),
            printable(&line.text)
        )
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// One conversation: with a person also those that are over.
fn one(chats: &mut Chats, name: &str) -> Result<(String, Value), CliError> {
    let groups = match find_group(chats, name)? {
        Some(group) => vec![group],
        None => {
            let account = resolve_account(chats.account(), name);
            let account = account.map_err(|_| CliError::NoChat(name.to_owned()))?;
            chats.said_with(account)?
        }
    };
    if groups.is_empty() {
        return Err(CliError::NoChat(name.to_owned()));
    }
    let lines = lines_in(chats, &groups)?;
    Ok((export::text(&lines), json!(export::messages(&lines))))
}

/// Sessions, then each conversation under its title.
fn everything(chats: &mut Chats, sessions: &[HistoryLine]) -> Result<(String, Value), CliError> {
    let mut text = text_of(sessions);
    let mut conversations = Vec::new();
    let own = chats.own_group()?;
    for glance in chats.list()? {
        let group = glance.group;
        // Through which the account's devices speak with each other.
        if Some(group) == own {
            continue;
        }
        let lines = lines_in(chats, &[group])?;
        let title = title(chats, group)?;
        text.push_str(&format!("\n\n{title} ({group})\n{}", export::text(&lines)));
        conversations.push(json!({
            "groupId": group, "title": title, "messages": export::messages(&lines),
        }));
    }
    let value = json!({ "sessions": sessions, "conversations": conversations });
    Ok((text.trim_start().to_owned(), value))
}
