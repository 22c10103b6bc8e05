//! A chat line by line: standard input is said, what happens is printed, as text or as JSON.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::time::Duration;

use serde_json::json;
use session_client::Tick;
use session_client::e2ee::MessageName;
use session_core::ids::GroupId;
use tokio::sync::{mpsc, watch};

use super::command::Command;
use super::engine::{Ask, Tell};
use super::view::{Message, Notice, Shown, View};
use crate::out::{CliError, Out, note};

/// Longest line of input, in bytes: a longer one is no message.
const LINE_MAX: u64 = 64 * 1024;

/// How long `--once` waits for the chain.
const ONCE: Duration = Duration::from_secs(60);

/// After so long it says that it waits.
const SILENCE: Duration = Duration::from_secs(2);

/// What was printed already.
#[derive(Default)]
struct Printed {
    messages: BTreeMap<(GroupId, MessageName), Message>,
    notices: usize,
    away: bool,
}

/// Until the input ends, or with `once` until all of it is accepted.
pub(super) async fn run(
    once: bool,
    asks: mpsc::Sender<Ask>,
    mut views: watch::Receiver<View>,
    mut tells: mpsc::UnboundedReceiver<Tell>,
    out: &Out,
) -> Result<(), CliError> {
    let (lines, mut typed) = mpsc::channel(16);
    // A thread of its own: it may wait for a person for ever, and the program ends without it.
    std::thread::spawn(move || read_lines(&lines));
    let mut printed = Printed::default();
    let mut ended: Option<tokio::time::Instant> = None;
    let mut is_silent = true;
    loop {
        tokio::select! {
            line = typed.recv(), if ended.is_none() => match line {
                Some(Ok(line)) => match Command::parse(&line) {
                    Ok(Some(Command::Quit)) => break,
                    Ok(Some(command)) => {
                        if asks.send(Ask::Do(command)).await.is_err() {
                            break;
                        }
                    }
                    Ok(None) => {}
                    Err(problem) => tell(&Tell::Lines(vec![problem]), out),
                },
                Some(Err(problem)) => return Err(CliError::Usage(problem)),
                None if once => {
                    // Behind everything that was typed.
                    let _asked = asks.send(Ask::Send).await;
                    ended = Some(tokio::time::Instant::now());
                }
                // Without `once` a program may only want to listen.
                None => ended = Some(tokio::time::Instant::now() + Duration::from_secs(1 << 30)),
            },
            changed = views.changed() => {
                if changed.is_err() {
                    break;
                }
                let view = views.borrow_and_update().clone();
                show(&view, &mut printed, out);
            }
            told = tells.recv() => match told {
                Some(told) => tell(&told, out),
                None => break,
            },
            () = tokio::time::sleep(Duration::from_millis(200)), if once && ended.is_some() => {
                let waiting = views.borrow().waiting;
                // The last command was done once nobody holds it any more.
                if waiting == 0 && asks.capacity() == asks.max_capacity() {
                    break;
                }
                let waited = ended.map_or(Duration::ZERO, |at| at.elapsed());
                if is_silent && waiting > 0 && waited >= SILENCE {
                    is_silent = false;
                    let most = ONCE.as_secs();
                    note(&format!(
                        "{waiting} waiting to be accepted, for {most} s at most: then they stay in the \
                         outbox and are sent again"
                    ));
                }
                if waited > ONCE {
                    let away = views.borrow().away.clone();
                    drop(asks);
                    let error = session_client::ClientError::Waiting { waiting, away };
                    return Err(error.into());
                }
            }
        }
    }
    let view = views.borrow().clone();
    show(&view, &mut printed, out);
    Ok(())
}

/// Reads standard input, bounded, until it ends.
fn read_lines(lines: &mpsc::Sender<Result<String, String>>) {
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let read = std::io::Read::take(&mut input, LINE_MAX + 1).read_until(b'\n', &mut line);
        let line = match read {
            Ok(0) => return,
            Ok(_) if line.len() as u64 > LINE_MAX => Err(format!(
                "a line of more than {LINE_MAX} bytes: send it as a file, with /file PATH"
            )),
            Ok(_) => {
                String::from_utf8(line).map_err(|_| "standard input is not text (UTF-8)".to_owned())
            }
            Err(error) => Err(error.to_string()),
        };
        let bad = line.is_err();
        if lines.blocking_send(line).is_err() || bad {
            return;
        }
    }
}

fn show(view: &View, printed: &mut Printed, out: &Out) {
    let mut notices = 0;
    for line in &view.lines {
        match line {
            Shown::Message(message) => show_message(message, printed, out),
            Shown::Notice(notice) => {
                notices += 1;
                if notices > printed.notices {
                    show_notice(notice, out);
                }
            }
        }
    }
    printed.notices = printed.notices.max(notices);
    if view.away.is_some() != printed.away {
        printed.away = view.away.is_some();
        match &view.away {
            Some(why) => note(&format!("{why}; what you say waits until it does")),
            None => note("the node answers again"),
        }
    }
}

fn show_message(message: &Message, printed: &mut Printed, out: &Out) {
    let key = (message.group, message.name);
    let before = printed.messages.get(&key);
    if before == Some(message) {
        return;
    }
    if message.own && message.tick == Tick::Waiting && !out.is_json() {
        // It is printed once the chain has it.
        return;
    }
    let is_new = before.is_none();
    // Of one's own only ticks, and the time that the chain gives it.
    let ticked = before.is_some_and(|before| {
        let as_now = Message {
            tick: message.tick,
            time_ms: message.time_ms,
            ..before.clone()
        };
        as_now == *message
    });
    if out.is_json() {
        let mut value = message.as_json();
        if !is_new && let Some(kind) = value.get_mut("kind") {
            *kind = json!("changed");
        }
        out.line(&value.to_string());
    } else if is_new || !ticked || message.tick == Tick::Failed {
        // Ticks alone are for programs and screens; here they would drown the words.
        out.line(&message.as_text());
    }
    printed.messages.insert(key, message.clone());
}

fn show_notice(notice: &Notice, out: &Out) {
    if out.is_json() {
        let value = json!({
            "kind": "notice", "text": notice.text, "timeMs": notice.time_ms, "loud": notice.loud,
        });
        out.line(&value.to_string());
    } else {
        out.line(&format!("-- {}", notice.text));
    }
}

fn tell(told: &Tell, out: &Out) {
    match told {
        Tell::Lines(lines) if out.is_json() => {
            out.line(&json!({ "kind": "answer", "lines": lines }).to_string());
        }
        Tell::Lines(lines) => lines
            .iter()
            .for_each(|line| out.line(&format!("-- {line}"))),
        Tell::Loud(text) if out.is_json() => {
            out.line(&json!({ "kind": "warning", "text": text }).to_string());
        }
        Tell::Loud(text) => note(&format!("WARNING: {text}")),
        Tell::Bell => {}
    }
}
