//! What goes on behind a chat: the conversation is followed, what is typed is done, and after each
//! change the screen gets a new view. The screen never waits for it.

mod answer;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use session_client::e2ee::{Content, GroupStatus};
use session_client::{Account, Chats, ClientError, Entered, IdentityFile, Standing, Told};
use session_core::ids::{AccountId, GroupId};
use tokio::sync::{mpsc, watch};

use super::command::{Command, timer_text};
use super::view::{Shown, Trusted, View, lines_in, person};
use crate::clock::now_ms;
use crate::home::Home;
use crate::out::{CliError, counted, printable, short};

/// How long the node may hold a question.
const WAIT_MS: u64 = 20_000;
/// How often sessions are read for invitations, and how often people are looked at.
const MAIL: Duration = Duration::from_secs(20);
const SAFETY: Duration = Duration::from_secs(60);
const SUPPLY: Duration = Duration::from_secs(3_600);
/// After a failure it is tried again so much later.
const RETRY: Duration = Duration::from_secs(2);
/// Receipts wait so long for further messages: each costs the group.
const RECEIPTS_AFTER: Duration = Duration::from_millis(1_200);
/// Typing is told at most so often.
const TYPING: Duration = Duration::from_secs(6);
/// And is shown for so long.
const TYPING_SHOWN: Duration = Duration::from_secs(8);
/// How often a chat that lent its home looks whether its person is still there.
const LOOK: Duration = Duration::from_millis(200);
/// A chat keeps its home for so long at least: two chats of one home take turns.
const KEPT: Duration = Duration::from_secs(2);
/// When a person is told that another command has it.
const LENT: Duration = Duration::from_secs(1);

/// What a screen asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ask {
    Do(Command),
    Typing,
    /// Sends what waits.
    Send,
}

/// What a screen is told beside the view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tell {
    /// Lines in answer to a command, for this person alone.
    Lines(Vec<String>),
    /// Something that must not be overlooked.
    Loud(String),
    /// Ring the bell.
    Bell,
}

/// A conversation that is followed.
pub(crate) struct Engine {
    chats: Chats,
    /// Where this person speaks.
    group: GroupId,
    with: Option<AccountId>,
    /// Conversations that went on in this one, while it was looked at.
    before: Vec<GroupId>,
    view: View,
    views: watch::Sender<View>,
    tells: mpsc::UnboundedSender<Tell>,
    options: Options,
    away: Option<Away>,
    mail_at: Instant,
    safety_at: Instant,
    supply_at: Instant,
    receipts_at: Option<Instant>,
    typing_at: Option<Instant>,
    typing: Vec<(AccountId, Instant)>,
    alarms: Vec<String>,
}

/// A node that does not answer.
struct Away {
    why: String,
    /// When it is tried again. A point in time: whatever happens until then does not put it off.
    again_at: Instant,
}

/// Why a conversation is not followed any more.
enum Stopped {
    /// A person is done.
    Done,
    /// Another command wants the home.
    Wanted,
}

/// How a chat is held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// Whether senders are told that their messages were read.
    pub(crate) receipts: bool,
}

impl Engine {
    pub(crate) fn new(
        chats: Chats,
        group: GroupId,
        options: Options,
        views: watch::Sender<View>,
        tells: mpsc::UnboundedSender<Tell>,
    ) -> Result<Self, CliError> {
        let now = Instant::now();
        let mut this = Self {
            chats,
            group,
            with: None,
            before: Vec::new(),
            view: View::default(),
            views,
            tells,
            options,
            away: None,
            mail_at: now + MAIL,
            safety_at: now,
            supply_at: now,
            receipts_at: Some(now + RECEIPTS_AFTER),
            typing_at: None,
            typing: Vec::new(),
            alarms: Vec::new(),
        };
        this.with = this.chats.glance(group)?.with;
        this.show()?;
        Ok(this)
    }

    /// Follows the conversation until it is told to stop, or nobody listens any more. Other commands
    /// that want the home get it in between.
    pub(crate) async fn run(
        mut self,
        home: Home,
        file: IdentityFile,
        mut asks: mpsc::Receiver<Ask>,
    ) -> Result<(), CliError> {
        while let Stopped::Wanted = self.follow(&home, &mut asks).await? {
            match self.lend(&home, &file, &asks).await? {
                Some(this) => self = this,
                None => return Ok(()),
            }
        }
        // What was read is told before the program ends, and what waits is tried once more.
        let is_active = self.chats.groups().device().status(self.group)? == GroupStatus::Active;
        if self.away.is_none() && is_active {
            if self.options.receipts {
                self.chats.tell(self.group, Told::Read)?;
            }
            let signed = self.chats.sign_now().await;
            if signed.is_ok() {
                let _sent = self.flush().await;
            }
        }
        self.chats.looked(self.group)?;
        self.chats.close()?;
        Ok(())
    }

    async fn follow(
        &mut self,
        home: &Home,
        asks: &mut mpsc::Receiver<Ask>,
    ) -> Result<Stopped, CliError> {
        // Not begun again with each thing that happens, as what waits for the node is.
        let mut wanted = core::pin::pin!(home.wanted(KEPT));
        self.due().await?;
        self.look().await?;
        loop {
            tokio::select! {
                biased;
                ask = asks.recv() => match ask {
                    None | Some(Ask::Do(Command::Quit)) => return Ok(Stopped::Done),
                    Some(Ask::Do(command)) => self.answer(command).await?,
                    Some(Ask::Typing) => self.tell_typing().await?,
                    Some(Ask::Send) => {
                        let sent = self.flush().await;
                        self.settle(sent)?;
                        self.show()?;
                    }
                },
                wanted = &mut wanted => return wanted.map(|()| Stopped::Wanted),
                () = tokio::time::sleep_until(self.next_due().into()) => {
                    let was_away = self.away.is_some();
                    self.due().await?;
                    // What is due may fail for longer than reading does.
                    if was_away {
                        self.look().await?;
                    }
                }
                () = self.wait() => self.look().await?,
            }
        }
    }

    /// Lets another command have the home, and goes on after it. None: the person is gone, and there is
    /// nothing left to do.
    async fn lend(
        self,
        home: &Home,
        file: &IdentityFile,
        asks: &mpsc::Receiver<Ask>,
    ) -> Result<Option<Self>, CliError> {
        let written = file.written();
        let mut account: Account = self.chats.close()?;
        let began = Instant::now();
        let mut back = core::pin::pin!(home.let_in());
        loop {
            tokio::select! {
                claimed = &mut back => break claimed?,
                () = tokio::time::sleep(LOOK) => {
                    // What was typed waits, and is done before the program ends.
                    if asks.is_closed() && asks.is_empty() {
                        return Ok(None);
                    }
                    if began.elapsed() > LENT {
                        self.views.send_if_modified(|view| !std::mem::replace(&mut view.lent, true));
                    }
                }
            }
        }
        if file.written() == written {
            account.reload()?;
        } else {
            // The other command has rotated the keys.
            account = home.account_of_or_offline(file).await?;
        }
        let chats = Chats::open(account, super::DEVICE)?;
        Ok(Some(Self {
            chats,
            safety_at: Instant::now(),
            ..self
        }))
    }

    /// Until there may be something new. Nothing that comes of it is believed.
    fn wait(&self) -> impl Future<Output = ()> + use<> {
        let rpc = self.chats.account().rpc().clone();
        let from = self.chats.groups().device().next_position(self.group);
        let (group, over) = (self.group, self.view.ended.is_some());
        let again_at = self.away.as_ref().map(|away| away.again_at);
        async move {
            if let Some(again_at) = again_at {
                return tokio::time::sleep_until(again_at.into()).await;
            }
            if over {
                return tokio::time::sleep(RETRY).await;
            }
            let wait_ms = WAIT_MS.min(rpc.wait_ms_max());
            let params = json!({
                "groupId": group, "from": from.unwrap_or_default(), "limit": 1, "waitMs": wait_ms,
            });
            let asked: Result<Value, _> = rpc.call("sessionvm.GetMessages", params).await;
            // A node that is away is found so by whoever looks.
            if asked.is_err_and(|error| !error.is_temporary()) {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    fn next_due(&self) -> Instant {
        let mut next = self.mail_at.min(self.safety_at).min(self.supply_at);
        let tick_ms = self.chats.groups().device().next_tick_ms();
        if let Ok(Some(at_ms)) = tick_ms {
            next = next.min(in_ms(at_ms));
        }
        let typing = self.typing.iter().map(|(_, since)| *since + TYPING_SHOWN);
        for at in typing.chain(self.receipts_at) {
            next = next.min(at);
        }
        // While the node is away nothing is due before it is tried again.
        let least = Instant::now() + Duration::from_millis(50);
        match &self.away {
            Some(away) => next.max(away.again_at).max(least),
            None => next.max(least),
        }
    }

    /// Does what is due.
    async fn due(&mut self) -> Result<(), CliError> {
        let now = Instant::now();
        self.typing.retain(|(_, since)| *since + TYPING_SHOWN > now);
        let done = self.due_now(now).await;
        self.settle(done)?;
        self.show()
    }

    async fn due_now(&mut self, now: Instant) -> Result<(), ClientError> {
        if self.receipts_at.is_some_and(|at| at <= now) {
            self.receipts_at = None;
            self.confirm().await?;
        }
        self.chats.tick().await?;
        self.flush().await?;
        if self.mail_at <= now {
            self.mail_at = now + MAIL;
            self.mail().await?;
        }
        if self.safety_at <= now {
            self.safety_at = now + SAFETY;
            self.safety().await?;
        }
        if self.supply_at <= now {
            self.supply_at = now + SUPPLY;
            self.chats.supply().await?;
        }
        Ok(())
    }

    /// Reads what is new.
    async fn look(&mut self) -> Result<(), CliError> {
        let looked = self.look_now().await;
        self.settle(looked)?;
        self.show()
    }

    async fn look_now(&mut self) -> Result<(), ClientError> {
        for group in self.parts()? {
            let looked = self.chats.receive(group, 0).await?;
            let now = Instant::now();
            for account in looked.typing {
                self.typing.retain(|(other, _)| *other != account);
                self.typing.push((account, now));
            }
        }
        self.go_on()
    }

    /// Where this conversation goes on in another one, so does this person.
    fn go_on(&mut self) -> Result<(), ClientError> {
        let device = self.chats.groups().device();
        if device.status(self.group)? != GroupStatus::Superseded {
            return Ok(());
        }
        let next = device.successor_of(self.group)?;
        if let Some(next) = next.filter(|next| device.groups().contains(next)) {
            self.before.push(self.group);
            self.group = next;
            self.safety_at = Instant::now();
        }
        Ok(())
    }

    /// Sends what waits. What the chain takes only later is no failure.
    async fn flush(&mut self) -> Result<(), ClientError> {
        self.chats.flush(self.group).await.map(drop)
    }

    /// Tells the senders of what is shown that it was read.
    async fn confirm(&mut self) -> Result<(), ClientError> {
        if !self.options.receipts {
            return Ok(());
        }
        for group in self.parts()? {
            let active = self.chats.groups().device().status(group)? == GroupStatus::Active;
            if active && self.chats.tell(group, Told::Read)? {
                self.chats.flush(group).await?;
            }
        }
        Ok(())
    }

    /// Reads sessions for invitations, and what this account's other devices say.
    async fn mail(&mut self) -> Result<(), ClientError> {
        let mut entered = Vec::new();
        for mail in self.chats.read_mail(self.with).await? {
            for text in mail.inbox.texts() {
                let who = match self.with {
                    Some(with) => person(self.chats.account(), &with),
                    None => "somebody".to_owned(),
                };
                let line = format!(
                    "{who} wrote outside of this conversation: {}",
                    printable(text)
                );
                self.say(vec![line]);
            }
        }
        entered.extend(self.chats.enter().await?);
        entered.extend(self.chats.follow_devices().await?);
        for back in self.chats.answer_rejoins().await? {
            let line = super::back_text(self.chats.account(), &back);
            self.say(vec![line]);
        }
        for entered in entered {
            match entered {
                Entered::Joined { group, from } if Some(from) == self.with => {
                    // Both began one at once: from now on both speak in the same.
                    if let Some(first) = self.chats.direct_with(from)? {
                        self.group = first;
                    }
                    self.chats.receive(group, 0).await?;
                }
                Entered::Joined { group, from } => {
                    let name = self.chats.glance(group)?.name;
                    let who = super::inviter(self.chats.account(), &from);
                    let name = if name.is_empty() {
                        short(&group.to_string())
                    } else {
                        printable(&name)
                    };
                    self.say(vec![format!(
                        "{who} brought you into {name}: `session chat {name}`"
                    )]);
                }
                Entered::NotYet { from, why, .. } => {
                    let who = person(self.chats.account(), &from);
                    let told =
                        format!("an invitation of {who} waits, this node does not show it: {why}");
                    if !self.alarms.contains(&told) {
                        self.alarms.push(told.clone());
                        self.say(vec![told]);
                    }
                }
                Entered::Useless { from, why, .. } => {
                    let who = person(self.chats.account(), &from);
                    self.say(vec![format!("an invitation of {who} is of no use: {why}")]);
                }
            }
        }
        Ok(())
    }

    /// Looks whether people are still who they were.
    async fn safety(&mut self) -> Result<(), ClientError> {
        if self.chats.groups().device().status(self.group)? != GroupStatus::Active {
            return Ok(());
        }
        let standing = self.chats.safety(self.group).await?;
        let alarming = standing.iter().any(Standing::is_alarming);
        let confirmed = !standing.is_empty() && standing.iter().all(|one| one.is_confirmed);
        self.view.standing = match (alarming, confirmed) {
            (true, _) => Trusted::Changed,
            (false, true) => Trusted::Verified,
            (false, false) => Trusted::Unknown,
        };
        for one in standing.iter().filter(|one| one.is_alarming()) {
            let alarm = alarm_of(self.chats.account(), one);
            if !self.alarms.contains(&alarm) {
                self.alarms.push(alarm.clone());
                let _gone = self.tells.send(Tell::Loud(alarm));
            }
        }
        Ok(())
    }

    async fn tell_typing(&mut self) -> Result<(), CliError> {
        let now = Instant::now();
        let lately = self.typing_at.is_some_and(|at| at + TYPING > now);
        let over = self.view.ended.is_some();
        if lately || over || self.away.is_some() || !self.options.receipts {
            return Ok(());
        }
        self.typing_at = Some(now);
        let said = self.chats.say(self.group, &[Content::Typing]).await;
        self.settle(said.map(drop))
    }

    // ---- showing

    fn say(&self, lines: Vec<String>) {
        let _gone = self.tells.send(Tell::Lines(lines));
    }

    /// What a failure means for a chat: a node that is away comes back, the rest is told.
    fn settle(&mut self, done: Result<(), ClientError>) -> Result<(), CliError> {
        match done {
            Ok(()) => self.away = None,
            Err(ClientError::Rpc(error)) if error.is_temporary() => {
                self.away = Some(Away {
                    why: printable(&error.to_string()),
                    again_at: Instant::now() + RETRY,
                });
            }
            // A transaction of the account waits in its outbox.
            Err(error @ ClientError::Waiting { .. }) => self.say(vec![error.to_string()]),
            // Nothing of it is believed; it is no node to go on with.
            Err(error @ ClientError::Trust(_)) => return Err(error.into()),
            Err(error @ (ClientError::State(_) | ClientError::Store(_))) => {
                return Err(error.into());
            }
            Err(error) => self.say(vec![printable(&error.to_string())]),
        }
        Ok(())
    }

    /// Every conversation that is shown: two where both people began one at once, and those that one of
    /// them has left.
    fn parts(&mut self) -> Result<Vec<GroupId>, ClientError> {
        let mut parts = match self.with {
            Some(with) => self.chats.said_with(with)?,
            None => Vec::new(),
        };
        for group in self.before.iter().chain([&self.group]) {
            if !parts.contains(group) {
                parts.push(*group);
            }
        }
        Ok(parts)
    }

    fn show(&mut self) -> Result<(), CliError> {
        let glance = self.chats.glance(self.group)?;
        let groups = self.parts()?;
        let lines = lines_in(&mut self.chats, &groups)?;
        let account = self.chats.account();
        let view = &mut self.view;
        view.title = match self.with {
            Some(with) => person(account, &with),
            None => super::short_title(account, &glance),
        };
        view.people = glance.accounts.len();
        view.devices = self.chats.members(self.group).map_or(0, |all| all.len());
        view.muted = account.state().muted.contains(&self.group);
        let policy = self.chats.groups().device().policy(self.group);
        view.timer_s = policy.map_or(0, |policy| policy.disappear_after_s);
        view.ended = match glance.status {
            GroupStatus::Active => None,
            GroupStatus::Halted => Some("this conversation stands still"),
            GroupStatus::Removed => Some("you are not in this conversation any more"),
            GroupStatus::Superseded => Some("this conversation goes on in another one"),
            GroupStatus::Lost => {
                Some("this device was away for too long: it has asked to be let back in")
            }
        };
        view.away = self.away.as_ref().map(|away| away.why.clone());
        let typing = self.typing.iter().map(|(who, _)| person(account, who));
        view.typing = typing.collect();
        view.waiting = lines.iter().filter(|line| is_waiting(line)).count();
        let last = view.lines.len();
        let rings = lines.iter().skip(last).any(is_of_others);
        if view.lines != lines {
            // Whichever call has read it: sending reads the log too.
            self.receipts_at
                .get_or_insert(Instant::now() + RECEIPTS_AFTER);
        }
        view.lines = lines;
        if rings && !view.muted && last > 0 {
            let _gone = self.tells.send(Tell::Bell);
        }
        let view = self.view.clone();
        self.views.send_if_modified(|before| {
            let changed = *before != view;
            if changed {
                *before = view;
            }
            changed
        });
        Ok(())
    }
}

const fn is_waiting(line: &Shown) -> bool {
    matches!(line, Shown::Message(message) if message.own
        && matches!(message.tick, session_client::Tick::Waiting))
}

const fn is_of_others(line: &Shown) -> bool {
    matches!(line, Shown::Message(message) if !message.own)
}

fn alarm_of(account: &session_client::Account, one: &Standing) -> String {
    let who = person(account, &one.account);
    if one.is_revoked {
        return format!("{who} has ENDED this account: nobody speaks for it any more");
    }
    if let Some(how) = one.keys_changed {
        return format!(
            "the keys of {who} have CHANGED, {}: ask {who} by another way, compare with /safety, \
             then /verify",
            how.clause()
        );
    }
    let count = one.new_devices.len() as u64;
    format!(
        "{who} has {} more: ask whether that is so, compare with /safety, then /verify",
        counted(count, "device")
    )
}

/// When a wall-clock time comes.
fn in_ms(at_ms: u64) -> Instant {
    // Far ahead is as good as a day.
    let ahead = at_ms.saturating_sub(now_ms()).min(86_400_000);
    Instant::now() + Duration::from_millis(ahead)
}

/// The timer as it is shown in a header; empty where messages stay.
pub(crate) fn timer_mark(seconds: u32) -> String {
    if seconds == 0 {
        String::new()
    } else {
        format!(" · disappear after {}", timer_text(seconds))
    }
}
