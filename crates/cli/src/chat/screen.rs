//! A chat on a terminal: what was said above, what is typed below. Drawing is a function of what is
//! known; nothing that arrives touches what is being typed.

mod draw;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ratatui::crossterm::event::{
    self, DisableBracketedPaste, EnableBracketedPaste, Event, KeyCode, KeyEvent, KeyEventKind,
    KeyModifiers,
};
use ratatui::crossterm::execute;
use tokio::sync::{mpsc, watch};

use self::draw::draw;
use super::command::Command;
use super::engine::{Ask, Tell};
use super::input::Input;
use super::view::{Shown, View};
use crate::out::CliError;

/// Warnings that stay on top until they are read.
const LOUD_MAX: usize = 3;
/// Lines of answers that are kept.
const NOTES_MAX: usize = 500;

/// Everything that is drawn.
#[derive(Debug, Default)]
pub(super) struct Screen {
    pub(super) view: View,
    pub(super) input: Input,
    /// Rows that the reader has gone up.
    pub(super) up: usize,
    /// Answers for this person alone, each behind so many lines of the conversation.
    pub(super) notes: Vec<(usize, String)>,
    pub(super) loud: Vec<String>,
    /// What can be completed beside commands.
    pub(super) names: Vec<String>,
}

/// Lines that wait for the engine; each is at most what the input holds.
const TYPED_MAX: usize = 256;

/// What a key means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meant {
    Nothing,
    Typed,
    Line(String),
    Quit,
}

/// Until the person ends it.
pub(super) async fn run(
    asks: mpsc::Sender<Ask>,
    mut views: watch::Receiver<View>,
    mut tells: mpsc::UnboundedReceiver<Tell>,
) -> Result<(), CliError> {
    let mut terminal = ratatui::try_init()?;
    let restored = Restore;
    execute!(std::io::stdout(), EnableBracketedPaste)?;
    let stop = Arc::new(AtomicBool::new(false));
    let (keys, mut pressed) = mpsc::channel(64);
    // Nobody waits for it: on a terminal that is gone it may never come back from reading.
    std::thread::spawn({
        let stop = stop.clone();
        move || read_keys(&keys, &stop)
    });
    let mut screen = Screen {
        view: views.borrow_and_update().clone(),
        ..Screen::default()
    };
    let mut ended = signals();
    // What was typed faster than it is done.
    let mut typed = VecDeque::new();
    loop {
        terminal.draw(|frame| draw(frame, &screen))?;
        tokio::select! {
            event = pressed.recv() => match event {
                Some(event) => match screen.take(event) {
                    Meant::Nothing => {}
                    // It takes no room from what is to be done.
                    Meant::Typed if asks.capacity() == asks.max_capacity() => {
                        let _gone = asks.try_send(Ask::Typing);
                    }
                    Meant::Typed => {}
                    Meant::Quit => break,
                    Meant::Line(line) => match Command::parse(&line) {
                        Ok(Some(Command::Quit)) => break,
                        // Where a slow node keeps the engine busy nothing that was typed is lost.
                        Ok(Some(command)) if typed.len() < TYPED_MAX => typed.push_back(command),
                        Ok(Some(_)) => {
                            screen.input.paste(&line);
                            screen.tell(Tell::Lines(vec!["still busy: press Enter again".to_owned()]));
                        }
                        Ok(None) => {}
                        Err(problem) => screen.tell(Tell::Lines(vec![problem])),
                    },
                },
                None => break,
            },
            permit = asks.reserve(), if !typed.is_empty() => match (permit, typed.pop_front()) {
                (Ok(permit), Some(command)) => permit.send(Ask::Do(command)),
                _ => break,
            },
            changed = views.changed() => {
                if changed.is_err() {
                    break;
                }
                screen.update(views.borrow_and_update().clone());
            }
            told = tells.recv() => match told {
                Some(Tell::Bell) => {
                    use std::io::Write as _;
                    let mut out = std::io::stdout();
                    let _rung = out.write_all(b"\x07").and_then(|()| out.flush());
                }
                Some(told) => screen.tell(told),
                None => break,
            },
            () = ended.wait() => break,
        }
    }
    stop.store(true, Ordering::Relaxed);
    drop(restored);
    for command in typed {
        if asks.send(Ask::Do(command)).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// The terminal as it was, however the chat ends.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        let _plain = execute!(std::io::stdout(), DisableBracketedPaste);
        ratatui::restore();
    }
}

/// The signals that end a program: the terminal is put back before.
struct Signals {
    #[cfg(unix)]
    all: Vec<tokio::signal::unix::Signal>,
}

fn signals() -> Signals {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let kinds = [SignalKind::terminate(), SignalKind::hangup()];
        let all = kinds.into_iter().filter_map(|kind| signal(kind).ok());
        Signals { all: all.collect() }
    }
    #[cfg(not(unix))]
    Signals {}
}

impl Signals {
    async fn wait(&mut self) {
        #[cfg(unix)]
        if let [terminate, hangup] = self.all.as_mut_slice() {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {}
            }
            return;
        }
        std::future::pending::<()>().await;
    }
}

fn read_keys(keys: &mpsc::Sender<Event>, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match event::poll(Duration::from_millis(50)) {
            Ok(false) => {}
            Ok(true) => match event::read() {
                Ok(event) => {
                    if keys.blocking_send(event).is_err() {
                        return;
                    }
                }
                Err(_) => return,
            },
            // The terminal is gone.
            Err(_) => return,
        }
    }
}

impl Screen {
    pub(super) fn update(&mut self, view: View) {
        let names = view.lines.iter().filter_map(|line| match line {
            Shown::Message(message) if !message.own => Some(message.who.clone()),
            Shown::Message(_) | Shown::Notice(_) => None,
        });
        self.names.extend(names);
        self.names.sort_unstable();
        self.names.dedup();
        self.view = view;
    }

    pub(super) fn tell(&mut self, told: Tell) {
        match told {
            Tell::Lines(lines) => {
                let behind = self.view.lines.len();
                self.notes
                    .extend(lines.into_iter().map(|line| (behind, line)));
                let old = self.notes.len().saturating_sub(NOTES_MAX);
                self.notes.drain(..old);
                self.up = 0;
            }
            Tell::Loud(text) => {
                if !self.loud.contains(&text) {
                    self.loud.push(text);
                }
                let old = self.loud.len().saturating_sub(LOUD_MAX);
                self.loud.drain(..old);
            }
            Tell::Bell => {}
        }
    }

    /// What an event of the terminal means.
    pub(super) fn take(&mut self, event: Event) -> Meant {
        match event {
            Event::Paste(text) => {
                self.input.paste(&text);
                Meant::Typed
            }
            Event::Key(key) if key.kind != KeyEventKind::Release => self.key(key),
            // A resize is drawn, as everything is.
            Event::Key(_)
            | Event::Resize(..)
            | Event::FocusGained
            | Event::FocusLost
            | Event::Mouse(_) => Meant::Nothing,
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "a keyboard has more keys than a chat has uses for"
    )]
    fn key(&mut self, key: KeyEvent) -> Meant {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        let alt = key.modifiers.contains(KeyModifiers::ALT);
        let input = &mut self.input;
        match key.code {
            KeyCode::Char('c') if control => return Meant::Quit,
            KeyCode::Char('d') if control && input.is_empty() => return Meant::Quit,
            KeyCode::Char('d') if control => input.delete(),
            KeyCode::Char('w') if control => input.delete_word(),
            KeyCode::Char('u') if control => input.delete_to_start(),
            KeyCode::Char('a') if control => input.start(),
            KeyCode::Char('e') if control => input.end(),
            KeyCode::Enter if alt || key.modifiers.contains(KeyModifiers::SHIFT) => {
                input.insert('\n');
            }
            KeyCode::Enter => {
                let line = input.take();
                self.up = 0;
                if line.trim().is_empty() {
                    // An empty line has read what is on top.
                    self.loud.clear();
                    return Meant::Nothing;
                }
                return Meant::Line(line);
            }
            KeyCode::Char(char) if !control && !alt => {
                input.insert(char);
                let is_command = input.text().starts_with('/');
                return if is_command {
                    Meant::Nothing
                } else {
                    Meant::Typed
                };
            }
            KeyCode::Backspace if alt || control => input.delete_word(),
            KeyCode::Backspace => input.backspace(),
            KeyCode::Delete => input.delete(),
            KeyCode::Left => input.left(),
            KeyCode::Right => input.right(),
            KeyCode::Home if control => self.up = usize::MAX / 2,
            KeyCode::End if control => self.up = 0,
            KeyCode::Home => input.start(),
            KeyCode::End => input.end(),
            KeyCode::Up => input.recall(true),
            KeyCode::Down => input.recall(false),
            KeyCode::PageUp => self.up = self.up.saturating_add(10),
            KeyCode::PageDown => self.up = self.up.saturating_sub(10),
            KeyCode::Esc => {
                self.up = 0;
                self.loud.clear();
            }
            KeyCode::Tab => self.complete(),
            _ => {}
        }
        Meant::Nothing
    }

    fn complete(&mut self) {
        let names = self.names.clone();
        let several = self.input.complete(|word, first| {
            if first && word.starts_with('/') {
                let commands = Command::beginning_with(word);
                return commands.into_iter().map(str::to_owned).collect();
            }
            let found = names
                .iter()
                .filter(|name| !word.is_empty() && name.starts_with(word));
            found.cloned().collect()
        });
        if !several.is_empty() {
            self.tell(Tell::Lines(vec![several.join("  ")]));
        }
    }
}
