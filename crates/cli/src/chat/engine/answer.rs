//! What is typed is done: commands of a chat.

use std::path::Path;
use std::time::Instant;

use session_client::e2ee::{Content, Policy};
use session_client::{GroupFlushed, Words};
use session_core::ids::AccountId;

use super::{Engine, Tell, alarm_of};
use crate::chat::command::Command;
use crate::chat::view::{Message, Shown, day, device_name, person, role_word};
use crate::chat::{export, leaving};
use crate::home::resolve_account;
use crate::out::{CliError, counted, printable, read_at_most};

impl Engine {
    pub(super) async fn answer(&mut self, command: Command) -> Result<(), CliError> {
        let done = self.answer_now(command).await;
        match done {
            // What was typed can be wrong without anything else being so.
            Err(CliError::Usage(problem)) => self.say(vec![problem]),
            Err(CliError::Client(error)) => self.settle(Err(error))?,
            Err(error @ (CliError::File { .. } | CliError::Io(_) | CliError::NoContact(_))) => {
                self.say(vec![error.to_string()]);
            }
            done => done?,
        }
        self.show()
    }

    async fn answer_now(&mut self, command: Command) -> Result<(), CliError> {
        match command {
            Command::Say(text) => self.send(Content::Text(text)).await,
            Command::Reply(n, text) => {
                let to = self.numbered(n)?.name;
                self.send(Content::Reply { to, text }).await
            }
            Command::React(n, emoji) => {
                let to = self.numbered(n)?.name;
                self.send(Content::Reaction { to, emoji }).await
            }
            Command::Edit(n, text) => {
                let of = self.own(n)?.name;
                self.send(Content::Edit { of, text }).await
            }
            Command::Delete(n) => {
                let of = self.own(n)?.name;
                self.send(Content::Delete { of }).await
            }
            Command::Add(who) => self.add(&who).await,
            Command::Remove(who) => self.remove(&who).await,
            Command::Leave => self.leave().await,
            Command::Members => self.members(),
            Command::Devices => self.devices(),
            Command::Safety => self.show_safety().await,
            Command::Verify(who) => self.verify(&who).await,
            Command::Timer(seconds) => {
                self.set_policy(|policy| policy.disappear_after_s = seconds)
                    .await
            }
            Command::Name(name) => self.set_policy(|policy| policy.name = name.clone()).await,
            Command::Mute(muted) => {
                self.chats.account_mut().mute(self.group, muted)?;
                self.view.muted = muted;
                Ok(())
            }
            Command::File(path) => self.send_file(&path).await,
            Command::Save(n, directory) => self.save(n, directory.as_deref()).await,
            Command::Export(path) => self.export(&path),
            Command::Rotate => {
                let flushed = self.chats.groups_mut().rotate(self.group).await?;
                self.committed(&flushed);
                Ok(())
            }
            Command::Outbox => self.outbox().await,
            Command::Help => {
                self.say(Command::help());
                Ok(())
            }
            Command::Quit => Ok(()),
        }
    }

    /// Says something: it is durable before this returns, whether the node answers or not.
    async fn send(&mut self, content: Content) -> Result<(), CliError> {
        self.chats.keep(self.group, &[content])?;
        self.show()?;
        if self.away.is_some() {
            return Ok(());
        }
        Ok(self.flush().await?)
    }

    fn numbered(&self, number: usize) -> Result<Message, CliError> {
        let found = self.view.lines.iter().find_map(|line| match line {
            Shown::Message(message) if message.number == number => Some(message.clone()),
            Shown::Message(_) | Shown::Notice(_) => None,
        });
        found.ok_or_else(|| CliError::Usage(format!("there is no message {number} here")))
    }

    fn own(&self, number: usize) -> Result<Message, CliError> {
        let message = self.numbered(number)?;
        if message.own {
            return Ok(message);
        }
        let problem = format!("message {number} is not yours: only its sender changes a message");
        Err(CliError::Usage(problem))
    }

    fn accounts(&self, who: &[String]) -> Result<Vec<AccountId>, CliError> {
        let account = self.chats.account();
        who.iter()
            .map(|who| resolve_account(account, who))
            .collect()
    }

    async fn add(&mut self, who: &[String]) -> Result<(), CliError> {
        let people = self.accounts(who)?;
        if self.with.is_some() {
            let problem = "this conversation stays between two, so that what was said in it does: \
                           begin another with `session group new NAME WHO…`";
            return Err(CliError::Usage(problem.to_owned()));
        }
        let (_, flushed) = self.chats.add(self.group, &people).await?;
        self.committed(&flushed);
        Ok(())
    }

    async fn remove(&mut self, who: &[String]) -> Result<(), CliError> {
        let people = self.accounts(who)?;
        let (_, flushed) = self.chats.remove(self.group, &people).await?;
        self.committed(&flushed);
        Ok(())
    }

    async fn leave(&mut self) -> Result<(), CliError> {
        let (leave, answer) = leaving(&self.chats, self.group)?;
        self.send(leave).await?;
        self.say(vec![answer.to_owned()]);
        Ok(())
    }

    /// What became of a commit.
    fn committed(&mut self, flushed: &GroupFlushed) {
        if let Some(why) = &flushed.why {
            self.say(vec![format!("it waits for the chain: {}", printable(why))]);
        }
        self.safety_at = Instant::now();
    }

    fn members(&mut self) -> Result<(), CliError> {
        let policy = self.chats.groups().device().policy(self.group)?;
        let mut lines = Vec::new();
        for account in &self.chats.glance(self.group)?.accounts {
            let role = role_word(policy.role(*account));
            let confirmed = if self.chats.account().is_confirmed(account) {
                ", compared"
            } else {
                ""
            };
            let who = person(self.chats.account(), account);
            lines.push(format!("{who:<20} {role}{confirmed}"));
        }
        self.say(lines);
        Ok(())
    }

    fn devices(&mut self) -> Result<(), CliError> {
        let me = self.chats.me()?;
        let mut lines = Vec::new();
        for member in self.chats.members(self.group)? {
            let who = person(self.chats.account(), &member.member.account);
            let device = device_name(&member.member.device);
            let heard = match member.heard_of_ms {
                _ if member.member == me => "this device".to_owned(),
                0 => "not heard of yet".to_owned(),
                ms => format!("heard of {}", day(ms)),
            };
            lines.push(format!("{who:<20} {device} {heard}"));
        }
        self.say(lines);
        Ok(())
    }

    async fn show_safety(&mut self) -> Result<(), CliError> {
        let number = self.chats.groups().safety_number(self.group)?;
        let mut lines = vec![
            format!("{number}"),
            format!(
                "  digits of this conversation at epoch {}: equal ones mean that nobody stands \
                 between you. They change when somebody comes, goes or has new keys",
                number.epoch()
            ),
        ];
        for one in self.chats.safety(self.group).await? {
            let who = person(self.chats.account(), &one.account);
            let compared = if one.is_confirmed {
                "compared"
            } else {
                "not compared"
            };
            lines.push(format!("{who} ({compared}): keys {}", one.fingerprint));
            if one.is_alarming() {
                lines.push(format!("  {}", alarm_of(self.chats.account(), &one)));
            }
        }
        lines.push("compare by another way, then /verify WHO".to_owned());
        self.say(lines);
        Ok(())
    }

    async fn verify(&mut self, who: &str) -> Result<(), CliError> {
        let account = resolve_account(self.chats.account(), who)?;
        if !self.chats.others(self.group)?.contains(&account) {
            return Err(CliError::Usage(format!(
                "{who} is not in this conversation"
            )));
        }
        self.chats.confirm(self.group, account).await?;
        self.alarms.clear();
        self.safety().await?;
        let who = person(self.chats.account(), &account);
        self.say(vec![format!("{who} is verified, with the devices of now")]);
        Ok(())
    }

    async fn set_policy(&mut self, change: impl Fn(&mut Policy)) -> Result<(), CliError> {
        let groups = self.chats.groups_mut();
        let flushed = groups.change_policy(self.group, change).await?;
        self.committed(&flushed);
        Ok(())
    }

    async fn send_file(&mut self, path: &Path) -> Result<(), CliError> {
        let limit = session_client::e2ee::attachment::ATTACHMENT_MAX;
        let content = read_at_most(path, limit)?;
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or("file");
        let tells = self.tells.clone();
        let progress = |done: usize, total: usize| {
            if total > 8 && (done == total || done.is_multiple_of(64)) {
                let line = format!("{done} of {} are there", counted(total as u64, "piece"));
                let _gone = tells.send(Tell::Lines(vec![line]));
            }
        };
        let sent = self
            .chats
            .send_file(self.group, name, &content, "", progress)
            .await;
        sent?;
        Ok(())
    }

    async fn save(&mut self, number: usize, directory: Option<&Path>) -> Result<(), CliError> {
        let message = self.numbered(number)?;
        let said = self.chats.transcript(message.group)?.said(&message.name);
        let file = match said.map(|said| &said.words) {
            Some(Words::File(file, _)) => (**file).clone(),
            Some(Words::Text(_) | Words::Unknown(_)) | None => {
                return Err(CliError::Usage(format!("message {number} has no file")));
            }
        };
        let here = std::env::current_dir()?;
        let directory = directory.unwrap_or(&here);
        let path = self.chats.save_file(&file, directory, |_, _| {}).await?;
        self.say(vec![format!(
            "saved {}",
            printable(&path.display().to_string())
        )]);
        Ok(())
    }

    fn export(&mut self, path: &Path) -> Result<(), CliError> {
        let json = path.extension().is_some_and(|suffix| suffix == "jsonl");
        let text = if json {
            let lines = export::messages(&self.view.lines).into_iter();
            lines.map(|line| format!("{line}\n")).collect()
        } else {
            export::text(&self.view.lines)
        };
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let written = options.open(path).and_then(|mut file| {
            use std::io::Write as _;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        });
        written.map_err(CliError::file(path))?;
        let count = self.view.lines.len() as u64;
        self.say(vec![format!(
            "{} are in {}, readable to anybody who has it",
            counted(count, "line"),
            path.display()
        )]);
        Ok(())
    }

    async fn outbox(&mut self) -> Result<(), CliError> {
        let (_, flushed) = self.chats.flush(self.group).await?;
        let waiting = flushed.waiting as u64;
        let mut line = format!("{} waiting to be sent", counted(waiting, "thing"));
        if let Some(why) = &flushed.why {
            line.push_str(&format!(": {}", printable(why)));
        }
        let own = self.chats.account().outbox()?.len() as u64;
        self.say(vec![
            line,
            format!("{own} of the account: see `session outbox`"),
        ]);
        Ok(())
    }
}
