//! A bot that answers: it lets everybody in, repeats what it is told, and says how much that was.
//!
//! `cargo run -p session-client --example bot` shows it to two people on a throw-away node, and ends.
//! With a node of yours it runs until Ctrl-C:
//!
//! ```console
//! $ cargo run -p session-client --example bot -- http://127.0.0.1:9652 ./bot
//! ```

use std::path::Path;

use session_client::e2ee::{Content, GroupStatus};
use session_client::{Account, Chats, ClientError, IdentityFile, Lock, RpcClient, Words};
use session_core::ids::GroupId;
use session_crypto::{Identity, IdentityId};

type Failure = Box<dyn std::error::Error>;

struct Bot {
    chats: Chats,
}

impl Bot {
    /// One round: who is new is let in, what was said is answered. Answers how many answers it gave.
    async fn round(&mut self) -> Result<usize, ClientError> {
        let (requests, _) = self.chats.requests().await?;
        for from in requests.into_keys() {
            self.chats.accept_request(from).await?;
        }
        self.chats.supply().await?;
        self.chats.tick().await?;
        let mut answers = 0;
        for glance in self.chats.list()? {
            if glance.status == GroupStatus::Active {
                answers += self.answer(glance.group).await?;
            }
        }
        Ok(answers)
    }

    /// What was said and not answered yet. A message counts as answered with its receipt, which waits
    /// in the same outbox: a crash in between repeats neither.
    async fn answer(&mut self, group: GroupId) -> Result<usize, ClientError> {
        self.chats.receive(group, 0).await?;
        let transcript = self.chats.transcript(group)?;
        let untold = transcript.untold(session_client::Told::Read, 32);
        let mut contents = Vec::new();
        for name in &untold {
            if let Some(said) = transcript.said(name)
                && let Words::Text(text) = &said.words
            {
                let text = format!("{} characters: {text}", text.chars().count());
                contents.push(Content::Reply { to: *name, text });
            }
        }
        if untold.is_empty() {
            return Ok(0);
        }
        let answers = contents.len();
        contents.push(Content::Read(untold));
        self.chats.say(group, &contents).await?;
        Ok(answers)
    }
}

async fn open(rpc: RpcClient, dir: &Path) -> Result<Chats, Failure> {
    let file = IdentityFile::new(dir, Lock::Exposed)?;
    if IdentityFile::is_sealed(dir).is_none() {
        file.save(&Identity::generate()?)?;
    }
    let account = Account::open_file(rpc, file, dir).await?;
    let mut chats = Chats::open(account, "bot")?;
    chats.supply().await?;
    Ok(chats)
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(node), Some(dir)) = (arguments.next(), arguments.next()) else {
        return show().await;
    };
    let rpc = RpcClient::new(&node, std::env::var("SESSION_TOKEN").ok())?;
    let mut bot = Bot {
        chats: open(rpc, Path::new(&dir)).await?,
    };
    println!("write to {}", IdentityId::Pq(bot.chats.me()?.account));
    loop {
        tokio::select! {
            round = bot.round() => match round {
                Ok(_) => {}
                Err(ClientError::Rpc(error)) if error.is_temporary() => eprintln!("{error}"),
                Err(error) => return Err(error.into()),
            },
            _ = tokio::signal::ctrl_c() => break,
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    }
    bot.chats.close()?;
    Ok(())
}

/// Two people and the bot.
async fn show() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let node = session_fixture::ThrowawayNode::start().await?;
    let rpc = RpcClient::new(&node.url(), None)?;
    let mut bot = Bot {
        chats: open(rpc.clone(), &directory.path().join("bot")).await?,
    };
    let who = bot.chats.me()?.account;
    for (name, words) in [("alice", "hello, bot"), ("bob", "wie geht es dir?")] {
        let mut person = open(rpc.clone(), &directory.path().join(name)).await?;
        let group = person.with(who).await?;
        person
            .say(group, &[Content::Text(words.to_owned())])
            .await?;
        if bot.round().await? != 1 {
            return Err("the bot did not answer once".into());
        }
        person.receive(group, 0).await?;
        let transcript = person.transcript(group)?;
        let answer = transcript.messages().next_back().ok_or("no answer")?;
        let Words::Text(text) = &answer.words else {
            return Err("an answer without words".into());
        };
        println!("{name}: {words}\nbot:   {text}");
        if !text.ends_with(words) {
            return Err("it answered something else".into());
        }
        if bot.round().await? != 0 {
            return Err("the bot answered twice".into());
        }
    }
    Ok(())
}
