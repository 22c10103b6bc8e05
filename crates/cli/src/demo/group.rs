//! `session demo --group N`: a conversation with forward secrecy, a crash, a device that is stolen and
//! heals, and somebody who is removed.

use std::path::Path;
use std::time::Instant;

use serde_json::json;
use session_client::e2ee::{Content, Event, EventKind, GroupStatus, Policy};
use session_client::{ClientError, Groups, InvitationCode, KeyPackageCode, NewGroup, RpcClient};
use session_core::ids::GroupId;
use session_core::time::{DAY_MS, Time};
use session_crypto::Identity;

use super::{NodeProcess, Report, keep_and_open, must, open_again};
use crate::clock::now_ms;
use crate::out::{CliError, short};

/// Events that are looked at at once: more than a demo makes.
const EVENTS_MAX: usize = 10_000;

fn name_of(number: usize) -> String {
    format!("person-{number}")
}

/// On a node of its own; answers how many messages were sent.
pub(super) async fn run(
    report: &mut Report<'_>,
    base: &Path,
    people: usize,
) -> Result<u64, CliError> {
    let began = Instant::now();
    let node = NodeProcess::start(&base.join("node")).await?;
    let text = format!(
        "stand-alone SessionVM on {}",
        node.rpc.trim_start_matches("http://")
    );
    let facts = json!({ "rpc": node.rpc, "chain": node.chain });
    report.step("node", &text, began.elapsed(), facts);

    let began = Instant::now();
    let rpc = RpcClient::new(&node.rpc, None)?;
    let mut all = Vec::with_capacity(people);
    for number in 0..people {
        let path = base.join(name_of(number));
        let account = keep_and_open(rpc.clone(), Identity::generate()?, &path).await?;
        all.push(Groups::open(account, "demo")?);
    }
    let text = format!("{people} accounts, a device of each");
    report.step(
        "people",
        &text,
        began.elapsed(),
        json!({ "people": people }),
    );

    let group = gather(report, &mut all).await?;
    let mut sent = talk(report, &mut all, group, "before the crash").await?;

    let began = Instant::now();
    drop(all);
    node.kill().await?;
    let node = NodeProcess::start(&base.join("node")).await?;
    let rpc = RpcClient::new(&node.rpc, None)?;
    let mut all = Vec::with_capacity(people);
    for number in 0..people {
        let account = open_again(rpc.clone(), &base.join(name_of(number))).await?;
        all.push(Groups::open(account, "demo")?);
    }
    let text = format!(
        "node and programs ended, and up again at block {}",
        node.height
    );
    let facts = json!({ "height": node.height });
    report.step("crash", &text, began.elapsed(), facts);
    sent += talk(report, &mut all, group, "after the crash").await?;
    sent += steal(report, &mut all, group, &rpc, base).await?;
    sent += remove_last(report, &mut all, group).await?;
    drop(all);
    node.kill().await?;
    Ok(sent)
}

/// The first makes a group of all, and the others join what the chain proves.
async fn gather(report: &mut Report<'_>, all: &mut [Groups]) -> Result<GroupId, CliError> {
    let began = Instant::now();
    let expires = Time::from_ms(now_ms()).after_ms(DAY_MS);
    let Some((first, others)) = all.split_first_mut() else {
        return Err(CliError::Usage("a group needs people".to_owned()));
    };
    let mut lines: Vec<KeyPackageCode> = Vec::with_capacity(others.len());
    for other in others.iter_mut() {
        lines.push(other.key_package(expires)?);
    }
    let policy = Policy::new(first.account().chain(), first.account().id());
    let group = first.create(NewGroup::open(policy), &lines, None).await?;
    let mut characters = 0;
    for invited in first.invitations(group).await? {
        let line = invited.code.to_string();
        characters = line.len();
        let code: InvitationCode = line.parse().map_err(|_| CliError::Demo {
            step: "group",
            problem: "an invitation cannot be read".to_owned(),
        })?;
        for other in others.iter_mut() {
            other.join(&code).await?;
        }
        first.handed_over(invited.number)?;
    }
    let text = format!(
        "{} joined by a line of {characters} characters",
        short(&group.to_string())
    );
    let facts = json!({ "groupId": group, "invitation": characters });
    report.step("group", &text, began.elapsed(), facts);
    Ok(group)
}

/// What others said since somebody looked last.
async fn heard(person: &mut Groups, group: GroupId) -> Result<Vec<String>, CliError> {
    person.receive(group).await?;
    let events = person.events(EVENTS_MAX)?;
    if let Some(last) = events.last() {
        person.acknowledge(last.number)?;
    }
    let text = |event: &Event| {
        if let EventKind::Message(message) = &event.kind
            && let Content::Text(text) = &message.body.content
        {
            return Some(text.clone());
        }
        None
    };
    Ok(events.iter().filter_map(text).collect())
}

/// Everybody says something, and everybody hears all the others.
async fn talk(
    report: &mut Report<'_>,
    all: &mut [Groups],
    group: GroupId,
    words: &str,
) -> Result<u64, CliError> {
    let began = Instant::now();
    for (number, person) in all.iter_mut().enumerate() {
        let sent = person.say(group, &format!("{number} {words}")).await?;
        must(sent.waiting == 0, "messages", "a message was not accepted")?;
    }
    let people = all.len();
    for (number, person) in all.iter_mut().enumerate() {
        let mut texts = heard(person, group).await?;
        texts.sort_unstable();
        let others = (0..people).filter(|other| *other != number);
        let mut expected: Vec<String> = others.map(|n| format!("{n} {words}")).collect();
        expected.sort_unstable();
        must(
            texts == expected,
            "messages",
            "somebody heard something else than was said",
        )?;
    }
    let text = format!("{people} said, each heard by {} others once", people - 1);
    let facts = json!({ "count": people });
    report.step("messages", &text, began.elapsed(), facts);
    Ok(people as u64)
}

/// A thief copies the second one's device, keys and all, and reads along until it has new ones.
async fn steal(
    report: &mut Report<'_>,
    all: &mut Vec<Groups>,
    group: GroupId,
    rpc: &RpcClient,
    base: &Path,
) -> Result<u64, CliError> {
    let began = Instant::now();
    let (mine, copy) = (base.join(name_of(1)), base.join("thief"));
    // Its program has ended: what lies on the disk is everything there is.
    all.remove(1).close()?;
    copy_all(&mine, &copy)?;
    let victim = Groups::open(open_again(rpc.clone(), &mine).await?, "demo")?;
    all.insert(1, victim);
    let mut thief = Groups::open(open_again(rpc.clone(), &copy).await?, "demo")?;
    for (words, reads) in [("stolen", true), ("healed", false)] {
        if let Some(first) = all.first_mut() {
            // What is said before somebody has seen the new keys is sealed under the old ones.
            first.receive(group).await?;
            first.say(group, words).await?;
        }
        let heard = heard(&mut thief, group).await?;
        let heard = heard.iter().any(|text| text == words);
        must(
            heard == reads,
            "theft",
            if reads {
                "a copy of a device cannot read, so nothing is shown by what comes"
            } else {
                "a thief reads on after the device has new keys"
            },
        )?;
        if let Some(victim) = all.get_mut(1).filter(|_| reads) {
            let healed = victim.rotate(group).await?;
            must(
                healed.waiting == 0,
                "theft",
                "the new keys were not accepted",
            )?;
        }
    }
    for person in all.iter_mut().skip(1) {
        let texts = self::heard(person, group).await?;
        let both = texts == ["stolen", "healed"];
        must(both, "theft", "a member did not hear what was said")?;
    }
    let text = "a copied device reads along, and no more once its owner has new keys";
    report.step("theft", text, began.elapsed(), json!({}));
    Ok(2)
}

fn copy_all(from: &Path, to: &Path) -> Result<(), CliError> {
    std::fs::create_dir_all(to).map_err(CliError::file(to))?;
    for entry in std::fs::read_dir(from).map_err(CliError::file(from))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).map_err(CliError::file(&target))?;
        }
    }
    Ok(())
}

/// The last one is removed, and hears nothing of what comes after.
async fn remove_last(
    report: &mut Report<'_>,
    all: &mut [Groups],
    group: GroupId,
) -> Result<u64, CliError> {
    let began = Instant::now();
    let Some((removed, others)) = all.split_last_mut() else {
        return Err(CliError::Usage("a group needs people".to_owned()));
    };
    let device = removed.device().member().map_err(ClientError::from)?;
    if let Some(first) = others.first_mut() {
        let sent = first.remove(group, &[device], false).await?;
        must(sent.waiting == 0, "removal", "it was not accepted")?;
        first.say(group, "without the last one").await?;
    }
    for person in others.iter_mut().skip(1) {
        let texts = heard(person, group).await?;
        must(
            texts == ["without the last one"],
            "removal",
            "a member did not hear what was said after it",
        )?;
    }
    let texts = heard(removed, group).await?;
    let status = removed.device().status(group).map_err(ClientError::from)?;
    must(
        texts.is_empty() && status == GroupStatus::Removed,
        "removal",
        "who was removed still hears something",
    )?;
    let mut numbers = Vec::with_capacity(others.len());
    for person in others.iter() {
        numbers.push(person.safety_number(group)?.to_string());
    }
    let same = numbers.windows(2).all(|pair| pair.first() == pair.last());
    must(same, "removal", "members have different safety numbers")?;
    let text = format!("{} go on under new keys, one hears nothing", others.len());
    let facts = json!({ "members": others.len(), "safetyNumber": numbers.first() });
    report.step("removal", &text, began.elapsed(), facts);
    Ok(1)
}
