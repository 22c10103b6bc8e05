//! Opening, accepting, sending, reading, confirming, closing.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use session_client::{Account, ClientError, Gap, Item, KeyState, Received};
use session_core::ids::SessionId;
use session_crypto::IdentityId;

use crate::home::{Home, resolve_account, resolve_session};
use crate::out::{CliError, Out, bytes, note, short};

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

#[derive(Args)]
pub(crate) struct InboxArgs {
    /// Only this session or contact
    session: Option<String>,
    /// Goes on until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Also tells what was proved of each session: how far it is complete, and as of which block
    #[arg(long)]
    prove: bool,
    /// Does not confirm delivery to the sender
    #[arg(long)]
    silent: bool,
}

#[derive(Subcommand)]
pub(crate) enum HistoryVerb {
    /// Prints everything sent and received, oldest first
    Export,
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

fn name_of(account: &Account, peer: &session_core::ids::AccountId) -> String {
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
        let content = std::fs::read(path).map_err(CliError::file(path))?;
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
            None => std::io::read_to_string(std::io::stdin())?
                .trim_end_matches('\n')
                .to_owned(),
        };
        account.send_text(&session, &text).await?
    };
    out.result(
        &format!(
            "sent as number {} ({} messages)",
            sent.sequence, sent.messages
        ),
        &json!({ "sessionId": session, "sequence": sent.sequence, "messages": sent.messages }),
    )
}

pub(crate) async fn inbox(args: &InboxArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let mut all = Vec::new();
    let mut unread = None;
    loop {
        let followed = match &args.session {
            Some(session) => vec![resolve_session(&mut account, session).await?],
            None => every_session(&mut account).await?,
        };
        let wait_ms = if args.follow && followed.len() == 1 {
            20_000
        } else {
            0
        };
        let mut nothing = true;
        for session in followed {
            let got = match account.receive_waiting(&session, wait_ms).await {
                Ok(got) => got,
                // One person's keys must not keep the others' messages back; what is in this
                // session stays unread until they are accepted.
                Err(
                    error @ (ClientError::KeyChanged { .. } | ClientError::UnvouchedKeys { .. }),
                ) if !args.follow && args.session.is_none() => {
                    note(&format!("{}: {error}", title_of(&account, &session)));
                    unread.get_or_insert(error);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if got.is_stale() && !out.is_json() {
                out.line("warning: the node's signed head is over a minute old");
            }
            if let Some(gap) = &got.gap {
                let value = gap_json(&session, gap);
                if out.is_json() && args.follow {
                    out.line(&value.to_string());
                } else if !out.is_json() {
                    let title = title_of(&account, &session);
                    out.line(&format!("{title}: {}", gap.sentence()));
                }
                all.push(value);
            }
            for message in &got.messages {
                nothing = false;
                let value = message_json(&session, message);
                if out.is_json() && args.follow {
                    out.line(&value.to_string());
                } else if !out.is_json() {
                    show(&account, &session, message, out);
                }
                all.push(value);
            }
            // Nothing is shown that was not proved; this only says so.
            if args.prove && (!args.follow || !got.messages.is_empty()) {
                let read = got.messages.len() as u64;
                let from = got.count.saturating_sub(read);
                if out.is_json() {
                    all.push(json!({
                        "kind": "proved", "sessionId": session, "from": from, "count": got.count,
                        "height": got.height, "headAgeMs": got.head_age_ms,
                        "proofBytes": got.proof_bytes,
                    }));
                } else {
                    out.line(&format!(
                        "proved: {} entries {from}..{} of {} in block {}, head signed {} ms ago",
                        short(&session.to_string()),
                        got.count,
                        got.count,
                        got.height,
                        got.head_age_ms,
                    ));
                }
            }
            let others = got.messages.iter().any(|message| message.item != Item::Own);
            if others && !args.silent {
                confirm(&mut account, &session, got.count).await?;
            }
        }
        if !args.follow {
            break;
        }
        if nothing && wait_ms == 0 {
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }
    if out.is_json() {
        out.line(&json!(all).to_string());
    }
    unread.map_or(Ok(()), |error| Err(error.into()))
}

/// A stranger's request gets no confirmation: that would accept nothing but tell of us.
async fn confirm(account: &mut Account, session: &SessionId, count: u64) -> Result<(), CliError> {
    match account.acknowledge(session, count).await {
        // Confirmed before, or nothing of it is ours to confirm any more.
        Ok(()) | Err(session_client::ClientError::Refused(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn every_session(account: &mut Account) -> Result<Vec<SessionId>, CliError> {
    let mut sessions: Vec<SessionId> = Vec::new();
    for requests in [false, true] {
        for entry in account.sessions(requests).await? {
            if !sessions.contains(&entry.session) {
                sessions.push(entry.session);
            }
        }
    }
    Ok(sessions)
}

fn show(account: &Account, session: &SessionId, message: &Received, out: &Out) {
    let mut who = out.paint("1", &name_of(account, &message.sender));
    let progress = account.state().sessions.get(session);
    let several = progress.is_some_and(|p| p.participants.len() > 2);
    let name = progress.and_then(|p| p.name.clone());
    if several || name.is_some() {
        let title = name.unwrap_or_else(|| short(&session.to_string()));
        who = format!("[{title}] {who}");
    }
    let doubt = match (message.verified, message.bound, message.keys) {
        (false, ..) => " (not signed)",
        (true, false, _) => " (published format: the sender is not bound to the envelope)",
        (true, true, KeyState::Rotated) => " (with new keys, signed by the previous ones)",
        (true, true, KeyState::Earlier) => " (with the keys of that time)",
        (true, true, KeyState::Current | KeyState::Unknown) => "",
    };
    match &message.item {
        Item::Text(text) => out.line(&format!("{who}{doubt}: {text}")),
        Item::FileBegins { name, len } => {
            out.line(&format!("{who}{doubt} sends {name} ({})", bytes(*len)));
        }
        Item::File { path, len, .. } => {
            out.line(&format!(
                "{who}{doubt}: {} ({})",
                path.display(),
                bytes(*len)
            ));
        }
        Item::Refused(why) => out.line(&format!(
            "{who}: message {} refused: {why}",
            message.sequence
        )),
        Item::Pruned => out.line(&format!(
            "{who}: message {} is no longer stored",
            message.sequence
        )),
        Item::FilePart | Item::Own => {}
    }
}

fn gap_json(session: &SessionId, gap: &Gap) -> Value {
    json!({
        "kind": "gone",
        "sessionId": session,
        "from": gap.from,
        "first": gap.first,
        "unproved": gap.unproved,
    })
}

fn message_json(session: &SessionId, message: &Received) -> Value {
    let (kind, text) = match &message.item {
        Item::Text(text) => ("text", json!(text)),
        Item::FileBegins { name, .. } => ("fileBegins", json!(name)),
        Item::FilePart => ("filePart", Value::Null),
        Item::File { path, .. } => ("file", json!(path)),
        Item::Own => ("own", Value::Null),
        Item::Pruned => ("pruned", Value::Null),
        Item::Refused(why) => ("refused", json!(why)),
    };
    json!({
        "sessionId": session,
        "sequence": message.sequence,
        "sender": message.sender,
        "timeMs": message.time.ms(),
        "verified": message.verified,
        "keys": message.keys.as_str(),
        "senderBound": message.bound,
        "kind": kind,
        "content": text,
    })
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

pub(crate) fn history(verb: &HistoryVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    let HistoryVerb::Export = verb;
    let mut lines = home.history()?.lines()?;
    lines.sort_by_key(|line| (line.time.parse::<u64>().unwrap_or_default(), line.sequence));
    // A crash between history and cursor shows a message twice in the file, not here.
    lines.dedup_by(|a, b| {
        a.sequence.is_some() && (a.session, a.sequence) == (b.session, b.sequence)
    });
    let when = |line: &session_client::HistoryLine| {
        session_core::time::Time::from_ms(line.time.parse().unwrap_or_default()).to_string()
    };
    let text: Vec<String> = lines
        .iter()
        .map(|line| {
            format!(
                "{} {} {}",
                when(line),
                short(&line.sender.to_string()),
                line.text
            )
        })
        .collect();
    out.result(&text.join("\n"), &json!(lines))
}
