//! Opening, accepting, sending, closing, and what was said.

use std::io::Read as _;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};
use session_client::Account;
use session_client::content::{FILE_BYTES_MAX, TEXT_MAX};
use session_core::ids::SessionId;
use session_crypto::IdentityId;

use crate::home::{Home, resolve_account, resolve_session};
use crate::out::{CliError, Out, counted, read_at_most, short};

#[derive(Args)]
pub(crate) struct OpenArgs {
    /// Contacts, `07…` ids or accounts; 1 to 99
    #[arg(required = true)]
    who: Vec<String>,
    /// A name for the session, for you alone
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args)]
pub(crate) struct SessionArgs {
    /// Session id, the name of a session, or a contact
    session: String,
}

#[derive(Args)]
pub(crate) struct NameArgs {
    /// Session id, its name so far, or a contact
    session: String,
    /// The name; without it the session has none any more
    name: Option<String>,
}

#[derive(Args)]
pub(crate) struct SendArgs {
    /// Session id, the name of a session, or a contact
    session: String,
    /// Words; without them and without --file, standard input
    text: Option<String>,
    /// A file instead of words
    #[arg(long, conflicts_with = "text", value_name = "PATH")]
    file: Option<PathBuf>,
}

pub(crate) async fn open(args: &OpenArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    if let Some(name) = &args.name {
        check_name(&account, name)?;
    }
    let mut peers = Vec::with_capacity(args.who.len());
    for who in &args.who {
        peers.push(resolve_account(&account, who)?);
    }
    let session = account.create_session_with(&peers).await?;
    account.name_session(&session, args.name.clone())?;
    let who = args.who.join(", ");
    let until = match args.who.len() {
        1 => format!("It is a request until {who} accepts or answers."),
        _ => format!("It is a request until each of {who} accepts or answers."),
    };
    out.result(
        &format!("session {session}\n{until}"),
        &json!({ "sessionId": session, "name": args.name }),
    )
}

pub(crate) async fn name(args: &NameArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account_or_offline().await?;
    let session = resolve_session(&mut account, &args.session).await?;
    if let Some(name) = &args.name {
        check_name(&account, name)?;
    }
    account.name_session(&session, args.name.clone())?;
    let told = match &args.name {
        Some(name) => format!("session {session} is {name}"),
        None => format!("session {session} has no name"),
    };
    out.done(&told)
}

/// A session's name must not be mistaken for anything else that names one.
fn check_name(account: &Account, name: &str) -> Result<(), CliError> {
    let taken = account.state().contacts.contains_key(name)
        || (account.state().sessions.values()).any(|p| p.name.as_deref() == Some(name));
    let id = name.parse::<SessionId>().is_ok() || crate::home::parse_account(name).is_some();
    if taken || id || name.is_empty() {
        let problem = "a session's name must not be empty, look like an id, or be that of a contact or another session";
        return Err(CliError::Usage(problem.to_owned()));
    }
    Ok(())
}

pub(crate) async fn accept(args: &SessionArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let session = resolve_session(&mut account, &args.session).await?;
    account.accept(session).await?;
    out.done(&format!("session {session} is accepted"))
}

pub(crate) async fn close(args: &SessionArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account_or_offline().await?;
    let session = resolve_session(&mut account, &args.session).await?;
    account.close(session).await?;
    out.done(&format!("session {session} is closed"))
}

pub(crate) async fn sessions(home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for requests in [false, true] {
        for entry in account.sessions(requests).await? {
            let peers = account.peers_of(&entry.session).await?;
            let kind = if requests { "request" } else { "member" };
            let title = title_of(&account, &entry.session);
            lines.push(format!(
                "{kind:<8} {:<52} {title}",
                entry.session.to_string()
            ));
            let name = account.state().sessions.get(&entry.session);
            values.push(json!({
                "sessionId": entry.session, "with": peers.first(), "peers": peers, "kind": kind,
                "name": name.and_then(|progress| progress.name.clone()),
            }));
        }
    }
    out.result(&lines.join("\n"), &json!(values))
}

/// The name of a session, or those of its other participants.
pub(crate) fn title_of(account: &Account, session: &SessionId) -> String {
    let Some(progress) = account.state().sessions.get(session) else {
        return short(&session.to_string());
    };
    let me = account.id();
    let others = progress.participants.iter().filter(|p| **p != me);
    let others: Vec<String> = others.map(|peer| name_of(account, peer)).collect();
    match &progress.name {
        Some(name) => format!("{name} ({})", others.join(", ")),
        None if others.is_empty() => short(&session.to_string()),
        None => others.join(", "),
    }
}

pub(crate) fn name_of(account: &Account, peer: &session_core::ids::AccountId) -> String {
    let contacts = &account.state().contacts;
    let name = contacts
        .iter()
        .find(|(_, c)| c.account == *peer)
        .map(|(name, _)| name.clone());
    name.unwrap_or_else(|| short(&IdentityId::Pq(*peer).to_string()))
}

pub(crate) async fn send(args: &SendArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account_or_offline().await?;
    let session = resolve_session(&mut account, &args.session).await?;
    let sent = if let Some(path) = &args.file {
        let content = read_at_most(path, FILE_BYTES_MAX)?;
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("file");
        let bar = out.progress(content.len() as u64, "sending");
        let sent = account
            .send_file(&session, name, &content, |done, _| bar.set_position(done))
            .await?;
        bar.finish_and_clear();
        sent
    } else {
        let text = match &args.text {
            Some(text) => text.clone(),
            // The line's end is the shell's, not the sender's.
            None => standard_input()?,
        };
        if text.is_empty() {
            let problem = "there is nothing to send: give a text, standard input, or --file PATH";
            return Err(CliError::Usage(problem.to_owned()));
        }
        account.send_text(&session, &text).await?
    };
    out.result(
        &format!(
            "sent as number {} ({})",
            sent.sequence,
            counted(sent.messages, "message")
        ),
        &json!({ "sessionId": session, "sequence": sent.sequence, "messages": sent.messages }),
    )
}

fn standard_input() -> Result<String, CliError> {
    let mut bytes = Vec::new();
    // One more than a text may have, so that too long a one is refused and not cut.
    let limit = TEXT_MAX as u64 + 2;
    std::io::stdin().take(limit).read_to_end(&mut bytes)?;
    let problem = "standard input is not text (UTF-8): send it as a file, with --file PATH";
    let text = String::from_utf8(bytes).map_err(|_| CliError::Usage(problem.to_owned()))?;
    Ok(text.trim_end_matches('\n').to_owned())
}

pub(crate) async fn receipts(args: &SessionArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let session = resolve_session(&mut account, &args.session).await?;
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for (peer, receipt) in account.receipts(&session).await? {
        let who = name_of(&account, &peer);
        lines.push(match &receipt {
            Some(receipt) => format!(
                "{who} has every message below number {}, proved",
                receipt.up_to
            ),
            None => format!("{who} has confirmed nothing yet, proved"),
        });
        values.push(json!({
            "account": peer, "upTo": receipt.map(|receipt| receipt.up_to),
            "timeMs": receipt.map(|receipt| receipt.time.ms()),
        }));
    }
    // Of two people the one receipt, as ever.
    let value = match values.as_slice() {
        [only] if only.get("upTo").is_some_and(Value::is_null) => Value::Null,
        [only] => only.clone(),
        _ => json!(values),
    };
    out.result(&lines.join("\n"), &value)
}
