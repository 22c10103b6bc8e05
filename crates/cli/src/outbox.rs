//! `session outbox`: what is signed and not known to be accepted.

use clap::Args;
use serde_json::{Value, json};
use session_client::{Account, Kept};
use session_core::log::Conversation;
use session_core::time::Time;

use crate::home::Home;
use crate::out::{CliError, Out};
use crate::session::title_of;

#[derive(Args)]
pub(crate) struct OutboxArgs {
    /// Gives up the transaction with this number; it may have been accepted all the same
    #[arg(long, value_name = "NUMBER", conflicts_with = "again")]
    forget: Option<u64>,
    /// Sends one whose fate is unknown once more; it happens twice if it was accepted before
    #[arg(long, value_name = "NUMBER")]
    again: Option<u64>,
}

pub(crate) async fn run(args: &OutboxArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    // Opening the account sends what waits.
    let mut account = home.account_or_offline().await?;
    if let Some(number) = args.forget {
        if !account.outbox()?.iter().any(|kept| kept.number == number) {
            let problem = format!("there is no number {number}: see `session outbox`");
            return Err(CliError::Usage(problem));
        }
        account.forget_kept(number)?;
        return out.done(&format!("number {number} is given up"));
    }
    let mut sent = account.flushed().accepted;
    let mut refused = account.flushed().refused.clone();
    if let Some(number) = args.again {
        if !account.send_again(number)? {
            let problem = format!("number {number} is not set aside: see `session outbox`");
            return Err(CliError::Usage(problem));
        }
        let flushed = account.flush_outbox().await?;
        sent += flushed.accepted;
        refused.extend(flushed.refused);
    }
    let kept = account.outbox()?;
    let waiting = kept.iter().filter(|kept| !kept.unknown).count();
    let mut lines = vec![format!("{sent} sent, {waiting} waiting")];
    lines.extend(kept.iter().map(|kept| line(&account, kept)));
    lines.extend(refused.iter().map(|why| format!("refused for good: {why}")));
    let values: Vec<Value> = kept.iter().map(as_json).collect();
    out.result(
        &lines.join("\n"),
        &json!({ "sent": sent, "waiting": waiting, "refused": refused, "outbox": values }),
    )?;
    match account.away() {
        Some(problem) if waiting > 0 => {
            let away = Some(problem.to_owned());
            Err(session_client::ClientError::Waiting { waiting, away }.into())
        }
        _ => Ok(()),
    }
}

fn line(account: &Account, kept: &Kept) -> String {
    let age = kept.since.map_or_else(|| "?".to_owned(), age);
    let place = match kept.conversation {
        Some(Conversation::Session(session)) => title_of(account, &session),
        Some(Conversation::Channel(channel)) => format!("channel {channel}"),
        Some(Conversation::Group(group)) => format!("group {group}"),
        None => String::new(),
    };
    let fate = if kept.unknown { "  unknown" } else { "" };
    let number = kept.number;
    format!("  {number:<5} {age:>6}  {:<20} {place}{fate}", kept.kind)
}

/// `12 s`, `5 min`, `3 h`, `2 d`.
fn age(since: Time) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = now.map_or(0, |now| now.as_secs());
    let seconds = now.saturating_sub(since.ms() / 1_000);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn as_json(kept: &Kept) -> Value {
    let (session, channel, group) = match kept.conversation {
        Some(Conversation::Session(id)) => (Some(id), None, None),
        Some(Conversation::Channel(id)) => (None, Some(id), None),
        Some(Conversation::Group(id)) => (None, None, Some(id)),
        None => (None, None, None),
    };
    json!({
        "number": kept.number, "kind": kept.kind, "sinceMs": kept.since.map(|since| since.ms()),
        "sessionId": session, "channelId": channel, "groupId": group,
        "state": if kept.unknown { "unknown" } else { "waiting" },
    })
}
