//! `session device …`: the devices of an account.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Subcommand;
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::json;
use session_client::e2ee::link::LinkCode;
use session_client::e2ee::{DeviceId, RotationPolicy};
use session_client::{Chats, IdentityFile, Linked, Lock, NewDeviceLink};
use session_core::time::{DAY_MS, Time};
use session_crypto::IdentityId;
use zeroize::Zeroizing;

use crate::chat::{DEVICE, device_name, open};
use crate::clock::now_ms;
use crate::home::Home;
use crate::out::{CliError, Out, counted, note, printable};

/// How long a command waits for the chain, which wants pauses between changes of one conversation.
const REVOKING: Duration = Duration::from_secs(60);

/// How long a command brings a new key into conversations before it leaves that to others.
const SPREADING: Duration = Duration::from_secs(60);

#[derive(Subcommand)]
#[command(
    after_help = "Examples:\n  session --home ~/.laptop device link    on the new device: shows a code\n  session device add link1-…              on the one that is there: brings it in\n  session device list\n  session device revoke 1f0c…             it was stolen or lost: out of everything, for good\n  session device renew                    somebody may have its keys: it signs with new ones\n  session device rotation --interval 50   new keys twice as often\n  session device key                      a line by which somebody brings this device into a group"
)]
pub(crate) enum DeviceVerb {
    /// Lists the account's devices, as far as this one meets them in conversations
    List,
    /// Makes this home a further device of an account that is somewhere else
    Link {
        /// What the device is called
        #[arg(long, default_value = DEVICE)]
        name: String,
        /// How long to wait for the other device, in seconds
        #[arg(long, default_value_t = 300)]
        wait: u64,
        /// Keeps the secret keys unsealed on disk
        #[arg(long)]
        plain: bool,
    },
    /// Brings in a device that shows a code
    Add {
        /// The code; without it standard input is read
        code: Option<String>,
        /// Asks nothing
        #[arg(long)]
        yes: bool,
    },
    /// Brings the account's other devices into every conversation that they are not in
    Bring,
    /// Removes a device from every conversation for good: it was stolen or lost
    Revoke {
        /// The device, as `session device list` shows it, or its beginning
        device: String,
        /// Asks nothing
        #[arg(long)]
        yes: bool,
    },
    /// Shows or sets how often this device takes new keys: whoever stole the old ones reads nothing more
    Rotation {
        /// Messages of this device's own, in a conversation of up to 50 devices: 10 to 200
        #[arg(long)]
        messages: Option<u32>,
        /// Percent of the usual time, a day up to 50 devices and a week from 350: 10 to 200
        #[arg(long)]
        interval: Option<u32>,
    },
    /// Gives this device another signing key: whoever stole the old one signs nothing more in its name
    Renew,
    /// Publishes key packages of this device, so that others can bring it into conversations
    Supply,
    /// Prints a key package of one use, to be handed over out of band: nothing on the chain links
    /// the two people then
    Key {
        /// Days for which it is good, 1 to 89
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=89))]
        days: u64,
    },
}

pub(crate) async fn run(verb: DeviceVerb, home: &Home, out: &Out) -> Result<(), CliError> {
    if let DeviceVerb::Link { name, wait, plain } = &verb {
        // It has no conversations to open yet.
        return link(name, *wait, *plain, home, out).await;
    }
    let mut chats = open(home).await?;
    let done = run_with(&mut chats, verb, out).await;
    chats.close()?;
    done
}

async fn run_with(chats: &mut Chats, verb: DeviceVerb, out: &Out) -> Result<(), CliError> {
    match verb {
        DeviceVerb::List => list(chats, out),
        DeviceVerb::Add { code, yes } => add(chats, code, yes, out).await,
        DeviceVerb::Bring => {
            let linked = chats.bring_devices().await?;
            tell_of(&linked);
            let count = linked.groups.len() as u64;
            out.done(&format!("brought into {}", counted(count, "conversation")))
        }
        DeviceVerb::Revoke { device, yes } => revoke(chats, &device, yes, out).await,
        DeviceVerb::Renew => renew(chats, out).await,
        DeviceVerb::Supply => {
            let text = if chats.supply().await? {
                "key packages are published: others can bring this device into conversations"
            } else {
                "there are enough key packages"
            };
            out.done(text)
        }
        DeviceVerb::Key { days } => {
            let expires = Time::from_ms(now_ms()).after_ms(days * DAY_MS);
            let code = chats.groups_mut().key_package(expires)?.to_string();
            out.result(
                &code,
                &json!({ "keyPackage": code, "expiresMs": expires.ms() }),
            )
        }
        DeviceVerb::Rotation { messages, interval } => {
            let before = chats.groups().device().rotation_policy();
            let mut policy = before.map_err(session_client::ClientError::from)?;
            if messages.is_some() || interval.is_some() {
                let messages = messages.unwrap_or(policy.messages_max(1));
                let interval = interval.unwrap_or(policy.interval_percent());
                policy = RotationPolicy::new(messages, interval)
                    .map_err(|error| CliError::Usage(error.to_string()))?;
                chats.groups_mut().set_rotation_policy(policy)?;
            }
            let hours = |leaves| policy.interval_ms(leaves) / 3_600_000;
            let text = format!(
                "new keys after {} messages or {} h with up to 50 devices, {} messages or {} h from 350 on",
                policy.messages_max(1),
                hours(1),
                policy.messages_max(350),
                hours(350)
            );
            let (messages, percent) = (policy.messages_max(1), policy.interval_percent());
            let value = json!({ "messages": messages, "intervalPercent": percent });
            out.result(&text, &value)
        }
        DeviceVerb::Link { .. } => Ok(()),
    }
}

/// The other devices and this one, with the groups that each is in.
fn list(chats: &mut Chats, out: &Out) -> Result<(), CliError> {
    let me = chats.me()?;
    let mut found: std::collections::BTreeMap<DeviceId, (usize, u64)> = Default::default();
    found.insert(me.device, (0, 0));
    let own = chats.own_group()?;
    for glance in chats.list()? {
        for member in chats.members(glance.group).unwrap_or_default() {
            if member.member.account == me.account {
                let seen = found.entry(member.member.device).or_default();
                seen.0 += usize::from(Some(glance.group) != own);
                seen.1 = seen.1.max(member.heard_of_ms);
            }
        }
    }
    let (mut lines, mut values) = (Vec::new(), Vec::new());
    for (device, (groups, heard_ms)) in found {
        let here = device == me.device;
        let text = match (here, heard_ms) {
            (true, _) => "this device".to_owned(),
            (false, 0) => "not heard of yet".to_owned(),
            (false, ms) => format!("heard of {}", Time::from_ms(ms)),
        };
        let name = device_name(&device);
        let groups_text = counted(groups as u64, "conversation");
        lines.push(format!("{name}  {groups_text:<18} {text}"));
        values.push(json!({
            "device": const_hex::encode(device.as_bytes()), "here": here,
            "conversations": groups, "heardOfMs": heard_ms,
        }));
    }
    out.result(&lines.join("\n"), &json!(values))
}

async fn link(name: &str, wait: u64, plain: bool, home: &Home, out: &Out) -> Result<(), CliError> {
    if IdentityFile::is_sealed(&home.dir).is_some() {
        return Err(CliError::IdentityExists(home.dir.clone()));
    }
    // Asked before anything is shown: nobody waits for it with two devices in hand.
    let lock = if plain {
        Lock::Exposed
    } else {
        crate::identity::new_lock()?
    };
    home.claim().await?;
    let link = NewDeviceLink::begin(home.rpc()?, &home.dir, name).await?;
    show_code(link.code(), out)?;
    let limit = Duration::from_secs(wait.clamp(1, 86_400));
    let (mut chats, unlike) = link.finish(lock, limit).await?;
    for name in &unlike {
        note(&format!(
            "the keys of {} are others than your other device knows: add the contact here after \
             comparing them",
            printable(name)
        ));
    }
    let entered = chats.follow_devices().await?.len() as u64;
    let id = IdentityId::Pq(chats.me()?.account);
    let device = device_name(&chats.me()?.device);
    chats.close()?;
    out.result(
        &format!(
            "linked: {id}\nthis is device {device}; it comes into {} so far, and into the others \
             as your other device brings it there",
            counted(entered, "conversation")
        ),
        &json!({ "ok": true, "id": id.to_string(), "device": device, "conversations": entered }),
    )
}

/// The code as text, and on a terminal as a picture that a camera reads.
fn show_code(code: &LinkCode, out: &Out) -> Result<(), CliError> {
    let text = code.expose();
    if out.is_json() {
        out.line(&json!({ "code": *text }).to_string());
        return Ok(());
    }
    if std::io::stdout().is_terminal() {
        let qr = QrCode::new(code.expose_for_qr().as_bytes());
        if let Ok(qr) = qr {
            let picture = Zeroizing::new(qr.render::<Dense1x2>().quiet_zone(true).build());
            for line in picture.lines() {
                // Black on white whatever the terminal's colours are: not every camera reads both.
                out.line(&format!("\x1b[38;5;16;48;5;231m{line}\x1b[0m"));
            }
        }
    }
    out.line(&format!(
        "On the device that is there, within the time given:\n  session device add {}",
        text.as_str()
    ));
    let _closed = std::io::stdout().flush();
    Ok(())
}

async fn add(
    chats: &mut Chats,
    code: Option<String>,
    yes: bool,
    out: &Out,
) -> Result<(), CliError> {
    let typed = match code {
        Some(code) => Zeroizing::new(code),
        None => {
            let mut line = Zeroizing::new(String::new());
            let bounded = std::io::Read::take(std::io::stdin(), 1_024);
            std::io::BufReader::new(bounded).read_line(&mut line)?;
            line
        }
    };
    let code: LinkCode =
        typed
            .trim()
            .parse()
            .map_err(|error: session_client::e2ee::link::LinkCodeError| {
                CliError::Usage(error.to_string())
            })?;
    let offer = chats.find_device(&code).await?;
    let question = format!(
        "Give the device {:?} the keys of this account, and bring it into your conversations?",
        printable(offer.name())
    );
    if !yes && !is_confirmed(&question)? {
        return Err(CliError::Usage("nothing was done".to_owned()));
    }
    let linked = chats.link(offer, Duration::from_secs(120)).await?;
    tell_of(&linked);
    let count = linked.groups.len() as u64;
    out.result(
        &format!(
            "the device is linked, and invited to {}",
            counted(count, "conversation")
        ),
        &json!({
            "ok": true, "groups": linked.groups, "waiting": linked.waiting,
            "without": linked.without.len(),
        }),
    )
}

/// Where a device is not yet, and why.
fn tell_of(linked: &Linked) {
    if !linked.waiting.is_empty() {
        let count = linked.waiting.len() as u64;
        note(&format!(
            "{} follow as soon as the chain takes the change: an open chat goes on with it, and so \
             does `session group sync`",
            counted(count, "conversation")
        ));
    }
    for (group, why) in &linked.without {
        note(&format!("it is not in group {group}: {why}"));
    }
}

async fn revoke(chats: &mut Chats, device: &str, yes: bool, out: &Out) -> Result<(), CliError> {
    let me = chats.me()?;
    let mut found: Vec<DeviceId> = Vec::new();
    for group in chats.groups().device().groups() {
        for member in chats.members(group).unwrap_or_default() {
            let id = member.member.device;
            let hex = const_hex::encode(id.as_bytes());
            let same = member.member.account == me.account && hex.starts_with(device);
            if same && !found.contains(&id) {
                found.push(id);
            }
        }
    }
    let id = match found.as_slice() {
        [id] if *id == me.device => {
            let problem = "this is the device itself: revoke it from another one";
            return Err(CliError::Usage(problem.to_owned()));
        }
        [id] => *id,
        [] => {
            return Err(CliError::Usage(format!(
                "no device of this account begins with {device}"
            )));
        }
        _ => {
            return Err(CliError::Usage(format!(
                "several devices begin with {device}"
            )));
        }
    };
    let question = format!(
        "Remove device {} from every conversation, for good?",
        device_name(&id)
    );
    if !yes && !is_confirmed(&question)? {
        return Err(CliError::Usage("nothing was done".to_owned()));
    }
    let began = std::time::Instant::now();
    loop {
        let waiting = chats.revoke_device(id).await?.len();
        if waiting == 0 {
            break;
        }
        if began.elapsed() > REVOKING {
            note("go on with the same command: it is still in some conversations");
            return Err(session_client::ClientError::Waiting {
                waiting,
                away: None,
            }
            .into());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    note(
        "it had the account's keys of that time: change them now with `session identity rotate`, \
         which it cannot do without your 24 words",
    );
    out.done(&format!(
        "device {} is out of every conversation",
        device_name(&id)
    ))
}

async fn renew(chats: &mut Chats, out: &Out) -> Result<(), CliError> {
    chats.renew_key()?;
    let began = std::time::Instant::now();
    let waiting = loop {
        let waiting = chats.spread_key().await;
        let waiting = waiting.inspect_err(|_| {
            note(
                "the device has its new key; `session group sync` brings it into your conversations",
            );
        })?;
        if waiting.is_empty() || began.elapsed() > SPREADING {
            break waiting.len() as u64;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    if waiting > 0 {
        note(&format!(
            "in {} the old key counts until the chain takes the change: an open chat goes on with it, and \
             so does `session group sync`",
            counted(waiting, "conversation")
        ));
    }
    note(
        "who has been on this device may have the account's keys too: change them with `session \
         identity rotate`",
    );
    out.result(
        "this device signs with a new key",
        &json!({ "ok": true, "waiting": waiting }),
    )
}

/// Asks on the terminal. Nothing but `y` or `yes` is one.
fn is_confirmed(question: &str) -> Result<bool, CliError> {
    if !std::io::stdin().is_terminal() {
        let problem = "add --yes, or run on a terminal".to_owned();
        return Err(CliError::Usage(problem));
    }
    let _closed = write!(std::io::stderr(), "{question} [y/N] ");
    let mut line = String::new();
    let bounded = std::io::Read::take(std::io::stdin(), 16);
    std::io::BufReader::new(bounded).read_line(&mut line)?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}
