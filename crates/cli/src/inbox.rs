//! `session inbox`: reading, and confirming what was read.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use session_client::{Account, ClientError, Gap, Inbox, Item, KeyState, Received};
use session_core::ids::SessionId;

use crate::home::{Home, resolve_session};
use crate::out::{CliError, Out, bytes, note, printable, short};
use crate::session::{name_of, title_of};

#[derive(Args)]
pub(crate) struct InboxArgs {
    /// Only this session or contact
    session: Option<String>,
    /// Goes on until Ctrl-C, also while the node is away; with --json one value a line
    #[arg(long)]
    follow: bool,
    /// Also tells what was proved of each session: how far it is complete, and as of which block
    #[arg(long)]
    prove: bool,
    /// Does not confirm delivery to the sender
    #[arg(long)]
    silent: bool,
}

/// Where several sessions are followed they are looked at this often.
const LOOK: Duration = Duration::from_millis(500);

/// A single one is waited for this long at a time.
const WAIT_MS: u64 = 20_000;

/// What one look brought.
#[derive(Default)]
struct Seen {
    /// Messages, and what was proved, for programs.
    values: Vec<Value>,
    /// The first session that was not read because of its sender's keys.
    unread: Option<ClientError>,
    /// The session that was asked for, if one was.
    session: Option<SessionId>,
}

pub(crate) async fn inbox(args: &InboxArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    if args.follow {
        return follow(args, home, out).await;
    }
    let mut account = home.account().await?;
    let mut seen = Seen::default();
    let looked = look(args, &mut account, out, &mut seen).await;
    // What was read is read: it is told also where a later session failed.
    let error = looked
        .err()
        .or_else(|| seen.unread.take().map(CliError::from));
    if !out.is_json() {
        if error.is_none() && seen.values.is_empty() {
            out.line("nothing new");
        }
        return error.map_or(Ok(()), Err);
    }
    match error {
        Some(error) if seen.values.is_empty() => Err(error),
        Some(error) => {
            seen.values.push(out.error_json(&error));
            out.line(&json!(seen.values).to_string());
            Err(CliError::Told(Box::new(error)))
        }
        None => {
            out.line(&json!(seen.values).to_string());
            Ok(())
        }
    }
}

/// Shows what comes until Ctrl-C. The directory is free for other commands between two looks.
async fn follow(args: &InboxArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let file = home.identity_file()?;
    let mut account = home.account_of_or_offline(&file).await?;
    let mut written = file.written();
    let mut away = false;
    loop {
        let mut seen = Seen::default();
        let looked = look(args, &mut account, out, &mut seen).await;
        if out.is_json() {
            seen.values.iter().for_each(|v| out.line(&v.to_string()));
        }
        if let Err(error) = looked {
            if !is_away(&error) {
                return Err(error);
            }
            if !away {
                note(&format!("{error}; looking again until it does"));
            }
            away = true;
        } else if away {
            note("the node answers again");
            away = false;
        }
        home.release();
        wait(&account, seen.session.filter(|_| !away)).await;
        // Another command may send a large file meanwhile.
        while let Err(error) = home.claim().await {
            if !matches!(error, CliError::HomeInUse { .. }) {
                return Err(error);
            }
            note(&error.to_string());
        }
        if file.written() == written {
            account.reload()?;
        } else {
            // Another command has rotated the keys.
            written = file.written();
            account = home.account_of_or_offline(&file).await?;
        }
    }
}

/// Whether the node does not answer now, or has too much to do.
const fn is_away(error: &CliError) -> bool {
    if let CliError::Client(ClientError::Rpc(error)) = error {
        error.is_temporary()
    } else {
        false
    }
}

/// Until there may be something new. Nothing that comes of it is believed.
async fn wait(account: &Account, session: Option<SessionId>) {
    let progress = session.and_then(|id| account.state().sessions.get(&id));
    let Some(progress) = progress else {
        return tokio::time::sleep(LOOK).await;
    };
    let wait_ms = WAIT_MS.min(account.rpc().wait_ms_max());
    let params = json!({
        "sessionId": session, "from": progress.cursor, "limit": 1, "waitMs": wait_ms,
    });
    let asked: Result<Value, _> = account.rpc().call("sessionvm.GetMessages", params).await;
    if asked.is_err() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Reads what is new in every session, or the one that was named, and shows it.
async fn look(
    args: &InboxArgs,
    account: &mut Account,
    out: &Out,
    seen: &mut Seen,
) -> Result<(), CliError> {
    let sessions = match &args.session {
        Some(session) => {
            let session = resolve_session(account, session).await?;
            seen.session = Some(session);
            vec![session]
        }
        None => every_session(account).await?,
    };
    for session in sessions {
        let got = match account.receive(&session).await {
            Ok(got) => got,
            // One person's keys must not keep the others' messages back; what is in this
            // session stays unread until they are accepted.
            Err(error @ (ClientError::KeyChanged { .. } | ClientError::UnvouchedKeys { .. }))
                if !args.follow && args.session.is_none() =>
            {
                note(&format!("{}: {error}", title_of(account, &session)));
                seen.unread.get_or_insert(error);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if got.is_stale() && !out.is_json() {
            out.line("warning: the node's signed head is over a minute old");
        }
        if let Some(gap) = &got.gap {
            if !out.is_json() {
                out.line(&format!(
                    "{}: {}",
                    title_of(account, &session),
                    gap.sentence()
                ));
            }
            seen.values.push(gap_json(&session, gap));
        }
        for message in &got.messages {
            if !out.is_json() {
                show(account, &session, message, out);
            }
            seen.values.push(message_json(&session, message));
        }
        // Nothing is shown that was not proved; this only says so.
        if args.prove && (!args.follow || !got.messages.is_empty()) {
            seen.values.push(proved(&session, &got, out));
        }
        let others = got.messages.iter().any(|message| message.item != Item::Own);
        if others && !args.silent {
            confirm(account, &session, got.count).await?;
        }
    }
    Ok(())
}

/// What was proved of a session, shown to people.
fn proved(session: &SessionId, got: &Inbox, out: &Out) -> Value {
    let from = got.count.saturating_sub(got.messages.len() as u64);
    if !out.is_json() {
        out.line(&format!(
            "proved: {} entries {from}..{} of {} in block {}, head signed {} ms ago",
            short(&session.to_string()),
            got.count,
            got.count,
            got.height,
            got.head_age_ms,
        ));
    }
    json!({
        "kind": "proved", "sessionId": session, "from": from, "count": got.count,
        "height": got.height, "headAgeMs": got.head_age_ms, "proofBytes": got.proof_bytes,
    })
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
        Item::Text(text) => out.line(&format!("{who}{doubt}: {}", printable(text))),
        Item::FileBegins { name, len } => {
            out.line(&format!(
                "{who}{doubt} sends {} ({})",
                printable(name),
                bytes(*len)
            ));
        }
        Item::File { path, len, .. } => {
            out.line(&format!(
                "{who}{doubt}: {} ({})",
                printable(&path.display().to_string()),
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
        Item::Invitation(_) => out.line(&format!(
            "{who}{doubt} invites you to a conversation: `session chat` joins those of contacts, \
             `session requests` shows those of others"
        )),
        Item::Rejoin(_) => out.line(&format!(
            "{who}{doubt} has a device that lost a conversation: `session group sync` lets it back in"
        )),
        Item::FilePart | Item::Link(_) | Item::Own => {}
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
        Item::Invitation(code) => ("invitation", json!({ "groupId": code.group })),
        Item::Link(_) => ("link", Value::Null),
        Item::Rejoin(request) => ("rejoin", json!({ "groupId": request.group })),
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
