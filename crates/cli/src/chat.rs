//! Opening, accepting, sending, reading, confirming, closing.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use session_client::{Account, Item, Received};
use session_core::ids::SessionId;
use session_crypto::IdentityId;

use crate::home::{Home, resolve_account, resolve_session};
use crate::out::{CliError, Out, bytes, short};

#[derive(Args)]
pub(crate) struct OpenArgs {
    /// Contact, `07…` id or account
    who: String,
}

#[derive(Args)]
pub(crate) struct SessionArgs {
    /// Session id, or a contact's name
    session: String,
}

#[derive(Args)]
pub(crate) struct SendArgs {
    /// Session id, or a contact's name
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
    let peer = resolve_account(&account, &args.who)?;
    let session = account.create_session(peer).await?;
    out.result(
        &format!(
            "session {session}\nIt is a request until {} accepts or answers.",
            args.who
        ),
        &json!({ "sessionId": session }),
    )
}

pub(crate) async fn accept(args: &SessionArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let session = resolve_session(&mut account, &args.session).await?;
    account.accept(session).await?;
    out.done(&format!("session {session} is accepted"))
}

pub(crate) async fn close(args: &SessionArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let session = resolve_session(&mut account, &args.session).await?;
    account.close(session).await?;
    out.done(&format!("session {session} is closed"))
}

pub(crate) async fn sessions(home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for requests in [false, true] {
        for entry in account.sessions(requests).await? {
            let peer = account.peer_of(&entry.session).await?;
            let who = name_of(&account, &peer);
            let kind = if requests { "request" } else { "member" };
            lines.push(format!("{kind:<8} {:<52} {who}", entry.session.to_string()));
            values.push(json!({ "sessionId": entry.session, "with": peer, "kind": kind }));
        }
    }
    out.result(&lines.join("\n"), &json!(values))
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
    let mut account = home.account().await?;
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
            let got = account.receive_waiting(&session, wait_ms).await?;
            if got.is_stale() && !out.is_json() {
                out.line("warning: the node's signed head is over a minute old");
            }
            for message in &got.messages {
                nothing = false;
                let value = message_json(&session, message);
                if out.is_json() && args.follow {
                    out.line(&value.to_string());
                } else if !out.is_json() {
                    show(&account, message, out);
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
    Ok(())
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

fn show(account: &Account, message: &Received, out: &Out) {
    let who = out.paint("1", &name_of(account, &message.sender));
    let doubt = match (message.verified, message.bound) {
        (true, true) => "",
        (true, false) => " (published format: the sender is not bound to the envelope)",
        (false, _) => " (not signed)",
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
        "senderBound": message.bound,
        "kind": kind,
        "content": text,
    })
}

pub(crate) async fn receipts(args: &SessionArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut account = home.account().await?;
    let session = resolve_session(&mut account, &args.session).await?;
    match account.receipt(&session).await? {
        Some(receipt) => out.result(
            &format!(
                "{} has every message below number {}, proved",
                name_of(&account, &receipt.account),
                receipt.up_to
            ),
            &json!({ "account": receipt.account, "upTo": receipt.up_to, "timeMs": receipt.time.ms() }),
        ),
        None => out.result("nothing is confirmed yet, proved", &Value::Null),
    }
}

pub(crate) fn history(verb: &HistoryVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    let HistoryVerb::Export = verb;
    let mut lines = session_client::StateDir::open(&home.dir)?.history()?;
    lines.sort_by_key(|line| (line.time.parse::<u64>().unwrap_or_default(), line.sequence));
    // A crash between history and cursor shows a message twice in the file, not here.
    lines.dedup_by_key(|line| (line.session, line.sequence));
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

pub(crate) async fn outbox(home: &Home, out: &Out) -> Result<(), CliError> {
    // Opening the account sends what waits.
    let account = home.account().await?;
    let waiting = account.dir().waiting()?.len();
    let flushed = account.flushed();
    let mut text = format!("{} sent, {waiting} transactions wait", flushed.accepted);
    for why in &flushed.refused {
        text.push_str(&format!("\nrefused for good: {why}"));
    }
    let value = json!({
        "sent": flushed.accepted, "waiting": waiting, "refused": flushed.refused,
    });
    out.result(&text, &value)
}
