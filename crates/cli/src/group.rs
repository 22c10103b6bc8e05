//! `session group …`: conversations of several people, without a screen.

use std::collections::BTreeSet;

use clap::Subcommand;
use serde_json::json;
use session_client::e2ee::{GroupStatus, Policy, Role, SignatureRule};
use session_client::{Chats, GroupFlushed, NewGroup};
use session_core::ids::{AccountId, GroupId};
use session_core::time::Time;

use crate::chat::{
    device_name, enter, find_group, leaving, open, parse_timer, person, role_word, short_title,
    signatures_text, timer_text,
};
use crate::home::{Home, resolve_account};
use crate::out::{CliError, Out, counted, note};

#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  session group new crew bob carol       a group, and invitations on their way\n  session group list                     every conversation, and what is unread\n  session group show crew                its people, their roles and devices\n  session group add crew dave\n  session group role crew bob admin\n  session group set crew --timer 1d --sign-each\n  session chat crew                      speaks in it"
)]
pub(crate) enum GroupVerb {
    /// Makes a group, and invites every device of these people
    New {
        /// What it is called; every member sees it
        name: String,
        /// Contacts, or 07… ids
        #[arg(required = true)]
        with: Vec<String>,
    },
    /// Lists every conversation, after joining what contacts invite to
    List,
    /// People, roles and devices of a group
    Show {
        /// Name or id
        group: String,
    },
    /// Brings people into a group
    Add {
        /// Name or id
        group: String,
        /// Contacts, or 07… ids
        #[arg(required = true)]
        who: Vec<String>,
    },
    /// Removes people from a group: what comes after it they cannot read
    Remove {
        /// Name or id
        group: String,
        /// Contacts, or 07… ids
        #[arg(required = true)]
        who: Vec<String>,
    },
    /// Asks to be removed from a group
    Leave {
        /// Name or id
        group: String,
    },
    /// Makes somebody a member, an admin or an owner
    Role {
        /// Name or id
        group: String,
        /// A contact, or a 07… id
        who: String,
        /// member, admin or owner
        #[arg(value_parser = parse_role)]
        role: Role,
    },
    /// Changes what a group agrees on
    Set {
        /// Name or id
        group: String,
        /// What it is called
        #[arg(long)]
        name: Option<String>,
        /// After how long messages disappear: 30s, 5m, 1h, 2d, off
        #[arg(long, value_name = "TIME")]
        timer: Option<String>,
        /// Every message is signed at once, and shown only then
        #[arg(long, conflicts_with = "sign_batches")]
        sign_each: bool,
        /// Messages are signed in batches, within 5 seconds
        #[arg(long)]
        sign_batches: bool,
    },
    /// Closes a group and goes on in a new one: it stands still, or its keys are to begin anew
    Renew {
        /// Name or id
        group: String,
        /// Who does not come along
        #[arg(long, value_name = "WHO", num_args = 1..)]
        without: Vec<String>,
    },
    /// Pays for more messages of a group, out of this account's quota
    Pay {
        /// Name or id
        group: String,
        /// Bytes on the chain: a message posted alone takes 3,500, among 32 about 250
        #[arg(long, default_value_t = 4_000_000)]
        bytes: u64,
    },
    /// Gives this device new keys in a group: whoever stole the old ones reads nothing more
    Rotate {
        /// Name or id
        group: String,
    },
    /// Writes down what is new in every group, and prints how much that is. Asks to be let back into
    /// groups that this device was away from for too long, and lets other people's devices back in
    Sync,
}

fn parse_role(text: &str) -> Result<Role, String> {
    match text {
        "member" => Ok(Role::Member),
        "admin" => Ok(Role::Admin),
        "owner" => Ok(Role::Owner),
        other => Err(format!("{other} is no role: member, admin or owner")),
    }
}

pub(crate) async fn run(verb: GroupVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    let mut chats = open(home).await?;
    let done = run_with(&mut chats, verb, out).await;
    // Keys that were replaced are overwritten, whatever came of it.
    chats.close()?;
    done
}

async fn run_with(chats: &mut Chats, verb: GroupVerb, out: &Out) -> Result<(), CliError> {
    match verb {
        GroupVerb::New { name, with } => new(chats, name, &with, out).await,
        GroupVerb::List => list(chats, out).await,
        GroupVerb::Show { group } => {
            let group = named(chats, &group)?;
            show(chats, group, out)
        }
        GroupVerb::Add { group, who } => {
            let (group, people) = (named(chats, &group)?, accounts(chats, &who)?);
            let (_, flushed) = chats.add(group, &people).await?;
            done(group, &flushed, "invitations are on their way", out)
        }
        GroupVerb::Remove { group, who } => {
            let (group, people) = (named(chats, &group)?, accounts(chats, &who)?);
            let (_, flushed) = chats.remove(group, &people).await?;
            done(group, &flushed, "what comes now they cannot read", out)
        }
        GroupVerb::Leave { group } => {
            let group = named(chats, &group)?;
            let (leave, text) = leaving(chats, group)?;
            chats.say(group, &[leave]).await?;
            out.result(
                text,
                &json!({ "ok": true, "groupId": group, "message": text }),
            )
        }
        GroupVerb::Role { group, who, role } => {
            let group = named(chats, &group)?;
            let account = resolve_account(chats.account(), &who)?;
            set_role(chats, group, account, role, out).await
        }
        GroupVerb::Set {
            group,
            name,
            timer,
            sign_each,
            sign_batches,
        } => {
            let group = named(chats, &group)?;
            let problem = "a time is 30s, 5m, 1h, 2d or off, and four weeks at most";
            let timer = match timer.as_deref().map(parse_timer) {
                Some(None) => return Err(CliError::Usage(problem.to_owned())),
                timer => timer.flatten(),
            };
            let change = |policy: &mut Policy| {
                if let Some(name) = &name {
                    policy.name.clone_from(name);
                }
                policy.disappear_after_s = timer.unwrap_or(policy.disappear_after_s);
                if sign_each {
                    policy.signatures = SignatureRule::Each;
                } else if sign_batches {
                    policy.signatures = SignatureRule::Batched;
                }
            };
            set(chats, group, change, out).await
        }
        GroupVerb::Rotate { group } => {
            let group = named(chats, &group)?;
            let flushed = chats.groups_mut().rotate(group).await?;
            done(group, &flushed, "this device has new keys", out)
        }
        GroupVerb::Renew { group, without } => {
            let (group, without) = (named(chats, &group)?, accounts(chats, &without)?);
            renew(chats, group, without, out).await
        }
        GroupVerb::Pay { group, bytes } => {
            let group = named(chats, &group)?;
            // A tenth of it stays for removals, whatever members post.
            let reserve = bytes / 10;
            chats
                .groups_mut()
                .top_up(group, bytes, reserve, None)
                .await?;
            out.result(
                "paid",
                &json!({ "ok": true, "groupId": group, "bytes": bytes }),
            )
        }
        GroupVerb::Sync => sync(chats, out).await,
    }
}

/// Admins are known to the chain as well, by keys of their own.
async fn set_role(
    chats: &mut Chats,
    group: GroupId,
    account: AccountId,
    role: Role,
    out: &Out,
) -> Result<(), CliError> {
    if !chats.glance(group)?.accounts.contains(&account) {
        let problem = "only somebody who is in the group has a role: `session group add` first";
        return Err(CliError::Usage(problem.to_owned()));
    }
    let policy = chats.groups().device().policy(group)?;
    if role == Role::Owner || policy.role(account) == Role::Owner {
        let change = |policy: &mut Policy| {
            if role == Role::Member {
                policy.roles.remove(&account);
            } else {
                policy.roles.insert(account, role);
            }
        };
        return set(chats, group, change, out).await;
    }
    let roles = policy.roles.into_iter();
    let admins = roles.filter(|(_, role)| *role == Role::Admin);
    let mut admins: BTreeSet<AccountId> = admins.map(|(account, _)| account).collect();
    if role == Role::Admin {
        admins.insert(account);
    } else {
        admins.remove(&account);
    }
    let flushed = chats.groups_mut().set_admins(group, &admins).await?;
    let text = "every member sees it, and the chain's admin keys follow";
    done(group, &flushed, text, out)
}

async fn renew(
    chats: &mut Chats,
    group: GroupId,
    without: Vec<AccountId>,
    out: &Out,
) -> Result<(), CliError> {
    let without = without.into_iter().collect();
    let done = chats.groups_mut().supersede(group, &without, None).await?;
    let left: Vec<String> = done
        .left
        .iter()
        .map(|member| person(chats.account(), &member.account))
        .collect();
    let mut text = format!("it goes on in {}", done.successor);
    if !left.is_empty() {
        text.push_str(&format!(
            "\nto be invited anew, they left no key package: {}",
            left.join(", ")
        ));
    }
    out.result(
        &text,
        &json!({ "ok": true, "groupId": group, "successor": done.successor, "left": left }),
    )
}

fn named(chats: &mut Chats, text: &str) -> Result<GroupId, CliError> {
    if let Some(group) = find_group(chats, text)? {
        return Ok(group);
    }
    // A conversation of two is named by the other.
    let peer = resolve_account(chats.account(), text).ok();
    let direct = peer.map(|peer| chats.direct_with(peer)).transpose()?;
    direct
        .flatten()
        .ok_or_else(|| CliError::NoChat(text.to_owned()))
}

fn accounts(chats: &Chats, who: &[String]) -> Result<Vec<AccountId>, CliError> {
    let account = chats.account();
    who.iter()
        .map(|who| resolve_account(account, who))
        .collect()
}

async fn new(chats: &mut Chats, name: String, with: &[String], out: &Out) -> Result<(), CliError> {
    let people = accounts(chats, with)?;
    chats.supply().await?;
    let mut policy = Policy::new(chats.account().chain(), chats.me()?.account);
    policy.name = name;
    // With more than two, only admins advance it: nobody else can end it with a bad commit.
    let new = if people.len() > 1 {
        NewGroup::new(policy)
    } else {
        NewGroup::open(policy)
    };
    let group = chats.create(new, &people).await?;
    let count = people.len() as u64;
    out.result(
        &format!(
            "group {group}\n{} on the way: they come in when they look next",
            counted(count, "invitation")
        ),
        &json!({ "ok": true, "groupId": group, "invited": people }),
    )
}

async fn list(chats: &mut Chats, out: &Out) -> Result<(), CliError> {
    if let Err(error) = enter(chats, out).await {
        note(&format!("{error}; this is what was known before"));
    }
    let own = chats.own_group()?;
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for glance in chats.list()? {
        if Some(glance.group) == own {
            continue;
        }
        let name = short_title(chats.account(), &glance);
        let unread = match glance.unread {
            0 => String::new(),
            n => format!("{n} unread"),
        };
        let people = counted(glance.accounts.len() as u64, "account");
        lines.push(format!(
            "{name:<20} {:<10} {people:<12} {unread}",
            status_word(glance.status)
        ));
        values.push(json!({
            "groupId": glance.group, "name": glance.name, "with": glance.with,
            "accounts": glance.accounts, "status": status_word(glance.status),
            "unread": glance.unread, "lastMs": glance.last_ms,
        }));
    }
    if lines.is_empty() {
        lines.push("no conversations yet: `session chat WHO` begins one".to_owned());
    }
    out.result(&lines.join("\n"), &json!(values))
}

const fn status_word(status: GroupStatus) -> &'static str {
    match status {
        GroupStatus::Active => "active",
        GroupStatus::Halted => "halted",
        GroupStatus::Removed => "removed",
        GroupStatus::Superseded => "superseded",
        GroupStatus::Lost => "lost",
    }
}

fn show(chats: &mut Chats, group: GroupId, out: &Out) -> Result<(), CliError> {
    let glance = chats.glance(group)?;
    let policy = chats.groups().device().policy(group)?;
    let epoch = chats.groups().device().epoch(group)?;
    let number = chats.groups().safety_number(group).ok();
    let me = chats.me()?;
    let signed = signatures_text(policy.signatures);
    let mut lines = vec![
        format!("group {group}"),
        format!(
            "{}, epoch {epoch}, messages {signed}",
            status_word(glance.status)
        ),
        format!(
            "messages disappear: {}",
            timer_text(policy.disappear_after_s)
        ),
    ];
    let rotation = chats.groups().device().rotation(group).ok();
    lines.extend(rotation.map(|rotation| {
        format!(
            "this device takes new keys after {} messages ({} said), and on {} at the latest",
            rotation.messages_max,
            rotation.said,
            Time::from_ms(rotation.due_ms)
        )
    }));
    lines.extend(number.map(|number| format!("safety number {number}")));
    let mut values = Vec::new();
    for member in chats.members(group).unwrap_or_default() {
        let who = person(chats.account(), &member.member.account);
        let device = device_name(&member.member.device);
        let here = if member.member == me {
            ", this device"
        } else {
            ""
        };
        lines.push(format!(
            "{who:<20} {:<7} {device}{here}",
            role_word(member.role)
        ));
        values.push(json!({
            "account": member.member.account, "device": device, "role": role_word(member.role),
            "leaf": member.leaf, "heardOfMs": member.heard_of_ms,
        }));
    }
    let value = json!({
        "groupId": group, "name": policy.name, "status": status_word(glance.status),
        "epoch": epoch, "disappearAfterS": policy.disappear_after_s,
        "rotation": rotation.map(|rotation| json!({
            "messages": rotation.messages_max, "said": rotation.said, "dueMs": rotation.due_ms,
        })),
        "safetyNumber": number.map(|number| number.to_string()), "members": values,
    });
    out.result(&lines.join("\n"), &value)
}

async fn set(
    chats: &mut Chats,
    group: GroupId,
    change: impl Fn(&mut Policy),
    out: &Out,
) -> Result<(), CliError> {
    let flushed = chats.groups_mut().change_policy(group, change).await?;
    done(group, &flushed, "every member sees it", out)
}

/// What became of a commit: 3 where it waits.
fn done(group: GroupId, flushed: &GroupFlushed, text: &str, out: &Out) -> Result<(), CliError> {
    if flushed.waiting > 0 {
        let away = flushed.why.clone();
        let waiting = flushed.waiting;
        return Err(session_client::ClientError::Waiting { waiting, away }.into());
    }
    out.result(
        text,
        &json!({ "ok": true, "groupId": group, "message": text }),
    )
}

async fn sync(chats: &mut Chats, out: &Out) -> Result<(), CliError> {
    enter(chats, out).await?;
    chats.supply().await?;
    chats.tick().await?;
    for back in chats.answer_rejoins().await? {
        note(&crate::chat::back_text(chats.account(), &back));
    }
    let own = chats.own_group()?;
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for glance in chats.list()? {
        let group = glance.group;
        if glance.status == GroupStatus::Lost {
            let name = crate::chat::title(chats, group)?;
            lines.push(format!(
                "{name:<20} this device was away for too long: it has asked to be let back in"
            ));
            values.push(json!({ "groupId": group, "lost": true }));
        }
        if glance.status != GroupStatus::Active || Some(group) == own {
            continue;
        }
        let looked = chats.receive(group, 0).await?;
        chats.tell(group, session_client::Told::Delivered)?;
        chats.flush(group).await?;
        let name = crate::chat::title(chats, group)?;
        let (new, unread) = (looked.updates.len(), chats.glance(group)?.unread);
        if new > 0 || unread > 0 {
            lines.push(format!("{name:<20} {new} changed, {unread} unread"));
        }
        values.push(json!({ "groupId": group, "changed": new, "unread": unread }));
    }
    if lines.is_empty() {
        lines.push("nothing new".to_owned());
    }
    out.result(&lines.join("\n"), &json!(values))
}
