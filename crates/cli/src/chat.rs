//! `session chat`: a conversation on a terminal, or line by line for pipes and programs.

mod command;
mod engine;
pub(crate) mod export;
mod input;
mod plain;
mod screen;
pub(crate) mod view;

use std::io::IsTerminal as _;

use clap::Args;
use session_client::e2ee::{Content, GroupStatus};
use session_client::{Account, Chats, Entered, Glance, InvitationCode};
use session_core::ids::{AccountId, GroupId};
use tokio::sync::{mpsc, watch};

use self::engine::{Engine, Options};
use self::view::View;
use crate::home::{Home, resolve_account};
use crate::out::{CliError, Out, note, printable, short};

pub(crate) use self::command::{parse_timer, timer_text};
pub(crate) use self::view::{device_name, person, role_word, signatures_text};

/// What a device is called that nobody named.
pub(crate) const DEVICE: &str = "terminal";

/// What is typed while the node does not answer waits so far.
const ASKS: usize = 64;

#[derive(Args)]
#[command(
    after_help = "Examples:\n  session chat bob                     a conversation of two, made where there is none\n  session chat crew                    a group, by its name\n  session chat luxgroup:…              joins by an invitation that was handed over\n  echo \"build is green\" | session chat crew --plain --once\n  session chat bob --json              one JSON value for each thing that happens\n\nOn a terminal: /help lists what can be typed. Ticks: … waits, ✓ the chain has it, ✓✓ everybody\nelse has it, ✓✓ in colour everybody has read it. Messages of a group are marked ? until their\nsender's signature is there."
)]
pub(crate) struct ChatArgs {
    /// A contact, a 07… id, a group's name or id, or an invitation
    #[arg(value_name = "WITH")]
    with: String,
    /// Lines instead of a screen; so it is where input or output is no terminal
    #[arg(long)]
    plain: bool,
    /// Ends when standard input has ended and everything that was said is accepted
    #[arg(long)]
    once: bool,
    /// Tells nobody that you write or have read
    #[arg(long)]
    no_receipts: bool,
}

pub(crate) async fn run(args: &ChatArgs, home: &Home, out: &Out) -> Result<(), CliError> {
    let file = home.identity_file()?;
    let account = home.account_of_or_offline(&file).await?;
    let mut chats = Chats::open(account, DEVICE)?;
    let group = find(&mut chats, &args.with, out).await?;
    let options = Options {
        receipts: !args.no_receipts,
    };
    let (views, shown) = watch::channel(View::default());
    let (tells, told) = mpsc::unbounded_channel();
    let (asks, asked) = mpsc::channel(ASKS);
    let engine = Engine::new(chats, group, options, views, tells)?;
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let engine = tokio::spawn(engine.run(home.clone(), file, asked));
    let on_screen = terminal && !args.plain && !args.once && !out.is_json();
    let seen = if on_screen {
        screen::run(asks, shown, told).await
    } else {
        plain::run(args.once, asks, shown, told, out).await
    };
    // What stopped the engine tells more than that it is gone.
    let ended = engine
        .await
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    ended?;
    seen
}

/// The conversations of this home's device.
pub(crate) async fn open(home: &Home) -> Result<Chats, CliError> {
    let account = home.account_or_offline().await?;
    Ok(Chats::open(account, DEVICE)?)
}

/// The conversation that somebody means.
async fn find(chats: &mut Chats, with: &str, out: &Out) -> Result<GroupId, CliError> {
    if with.starts_with("luxgroup:") {
        let code: InvitationCode = with
            .parse()
            .map_err(|error: session_client::CodeError| CliError::Usage(error.to_string()))?;
        chats.groups_mut().join(&code).await?;
        return Ok(code.group);
    }
    if let Some(group) = find_group(chats, with)? {
        return Ok(group);
    }
    let peer = match resolve_account(chats.account(), with) {
        Ok(peer) => peer,
        Err(_) => {
            // It may be a group that somebody has just invited to.
            enter(chats, out).await?;
            let found = find_group(chats, with)?;
            return found.ok_or_else(|| CliError::NoChat(with.to_owned()));
        }
    };
    if let Some(group) = chats.direct_with(peer)? {
        return Ok(group);
    }
    // Whoever is spoken to is known from now on, and an invitation of theirs comes first.
    chats.account_mut().welcome(peer)?;
    for mail in chats.read_mail(Some(peer)).await? {
        for text in mail.inbox.texts() {
            note(&format!("{with} wrote before: {}", printable(text)));
        }
    }
    chats.enter().await?;
    chats.follow_devices().await?;
    chats.supply().await?;
    Ok(chats.with(peer).await?)
}

/// What became of somebody's wish to be let back in, in words.
pub(crate) fn back_text(account: &Account, back: &session_client::Back) -> String {
    let who = inviter(account, &back.from);
    match &back.refused {
        None => format!("a device of {who} was away for too long, and was let back in"),
        Some(why) => format!("a device of {who} asks to be let back in, and was not: {why}"),
    }
}

/// Joins what contacts invite to, and tells of it.
pub(crate) async fn enter(chats: &mut Chats, out: &Out) -> Result<(), CliError> {
    let (_, mail) = chats.requests().await?;
    for mail in mail {
        for text in mail.inbox.texts() {
            let title = crate::session::title_of(chats.account(), &mail.session);
            note(&format!("{title} wrote in a session: {}", printable(text)));
        }
    }
    let mut entered = chats.enter().await?;
    entered.extend(chats.follow_devices().await?);
    for entered in entered {
        match entered {
            Entered::NotYet { from, why, .. } => {
                let who = person(chats.account(), &from);
                note(&format!(
                    "an invitation of {who} waits, this node does not show it: {why}"
                ));
            }
            Entered::Useless { from, why, .. } => {
                let who = person(chats.account(), &from);
                note(&format!("an invitation of {who} is of no use: {why}"));
            }
            Entered::Joined { .. } if out.is_json() => {}
            Entered::Joined { group, from } => {
                let who = inviter(chats.account(), &from);
                note(&match chats.glance(group)?.with {
                    Some(_) if from != chats.account().id() => {
                        format!("{who} begins a conversation")
                    }
                    Some(_) | None => format!("{who} brought you into {}", title(chats, group)?),
                });
            }
        }
    }
    Ok(())
}

/// Who invites: another device of this account too.
pub(crate) fn inviter(account: &Account, from: &AccountId) -> String {
    if *from == account.id() {
        "your other device".to_owned()
    } else {
        person(account, from)
    }
}

/// What a conversation is called, short.
pub(crate) fn short_title(account: &Account, glance: &Glance) -> String {
    match glance.with {
        Some(with) => person(account, &with),
        None if glance.name.is_empty() => short(&glance.group.to_string()),
        None => printable(&glance.name),
    }
}

/// What asks for this account to be taken out of a group, and what a person is told then.
pub(crate) fn leaving(chats: &Chats, group: GroupId) -> Result<(Content, &'static str), CliError> {
    if chats.others(group)?.is_empty() {
        let problem = "nobody else is in this conversation: nobody could take you out of it";
        return Err(CliError::Usage(problem.to_owned()));
    }
    let leave = Content::Leave {
        whole_account: true,
    };
    let answer = "you asked to be removed: it happens when somebody who may do it is there";
    Ok((leave, answer))
}

/// What a conversation is called.
pub(crate) fn title(chats: &mut Chats, group: GroupId) -> Result<String, CliError> {
    let glance = chats.glance(group)?;
    Ok(match glance.with {
        Some(with) => person(chats.account(), &with),
        None if glance.name.is_empty() => group.to_string(),
        None => printable(&glance.name),
    })
}

/// A group by its id or its name. Active ones come before those that are over.
pub(crate) fn find_group(chats: &mut Chats, text: &str) -> Result<Option<GroupId>, CliError> {
    let all = chats.list()?;
    if let Ok(group) = text.parse::<GroupId>()
        && all.iter().any(|glance| glance.group == group)
    {
        return Ok(Some(group));
    }
    let own = chats.own_group()?;
    let named = |glance: &&Glance| {
        glance.with.is_none() && glance.name == text && Some(glance.group) != own
    };
    let mut found: Vec<_> = all.iter().filter(named).collect();
    found.sort_by_key(|glance| glance.status != GroupStatus::Active);
    if let [one, other, ..] = found.as_slice()
        && other.status == one.status
    {
        let problem = format!(
            "there are several groups named {text}: name one by its id, see `session group list`"
        );
        return Err(CliError::Usage(problem));
    }
    Ok(found.first().map(|glance| glance.group))
}
