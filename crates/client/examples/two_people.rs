//! Two people hold a conversation with forward secrecy: one writes to the other, who lets them in, answers,
//! and reads. Every change that an app would draw is printed, with the tick that it leads to.
//!
//! `cargo run -p session-client --example two_people` makes a node that lives as long as this program.

use std::path::Path;

use session_client::e2ee::Content;
use session_client::{Account, Change, Chats, RpcClient, Told, Update, Words};
use session_core::ids::GroupId;
use session_crypto::Identity;

type Failure = Box<dyn std::error::Error>;

struct Person {
    name: &'static str,
    chats: Chats,
}

impl Person {
    async fn open(rpc: &RpcClient, directory: &Path, name: &'static str) -> Result<Self, Failure> {
        let path = directory.join(name);
        let account = Account::open(rpc.clone(), Identity::generate()?, &path).await?;
        let mut chats = Chats::open(account, "phone")?;
        // Key packages on the chain: whoever wants to write takes one.
        chats.supply().await?;
        Ok(Self { name, chats })
    }

    /// What is drawn anew: an update names the message, the transcript has it as it is now.
    fn draw(&mut self, updates: &[Update]) -> Result<(), Failure> {
        for update in updates {
            let (word, message) = match update.change {
                Change::Said(message) => ("said", message),
                Change::Changed(message) => ("changed", message),
                Change::Notice => {
                    println!("{:>5} │ notice", self.name);
                    continue;
                }
                Change::Nothing => continue,
            };
            let others = self.chats.others(update.group)?;
            let transcript = self.chats.transcript(update.group)?;
            let said = transcript.said(&message).ok_or("no such message")?;
            let text = match &said.words {
                Words::Text(text) => text.as_str(),
                Words::File(file, _) => file.name.as_str(),
                Words::Unknown(_) => "something newer",
            };
            let state = if transcript.is_own(said) {
                format!("{:?}", transcript.tick(said, &others))
            } else {
                format!("{:?}", said.authenticity)
            };
            println!("{:>5} │ {word:<7} {text:?}: {state}", self.name);
        }
        Ok(())
    }

    async fn say(&mut self, group: GroupId, text: &str) -> Result<(), Failure> {
        let contents = [Content::Text(text.to_owned())];
        // On the disk first, and drawn at once; `say` does both steps in one.
        let updates = self.chats.keep(group, &contents)?;
        self.draw(&updates)?;
        let (updates, _) = self.chats.flush(group).await?;
        self.draw(&updates)
    }

    /// Waits for something new, and tells the others that it was read.
    async fn look(&mut self, group: GroupId) -> Result<(), Failure> {
        let looked = self.chats.receive(group, 5_000).await?;
        self.draw(&looked.updates)?;
        if self.chats.tell(group, Told::Read)? {
            let (updates, _) = self.chats.flush(group).await?;
            self.draw(&updates)?;
        }
        Ok(())
    }

    /// The last message of this person's own, and how far it came.
    fn last_tick(&mut self, group: GroupId) -> Result<String, Failure> {
        let others = self.chats.others(group)?;
        let transcript = self.chats.transcript(group)?;
        let mut own = transcript.messages().filter(|said| transcript.is_own(said));
        let last = own.next_back().ok_or("nothing was said")?;
        Ok(format!("{:?}", transcript.tick(last, &others)))
    }
}

#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<(), Failure> {
    let directory = tempfile::tempdir()?;
    let node = session_fixture::ThrowawayNode::start().await?;
    let rpc = RpcClient::new(&node.url(), None)?;
    let mut alice = Person::open(&rpc, directory.path(), "alice").await?;
    let mut bob = Person::open(&rpc, directory.path(), "bob").await?;
    let bob_is = bob.chats.me()?.account;

    // Alice needs nothing but Bob's id. The invitation goes with it, sealed.
    let group = alice.chats.with(bob_is).await?;
    alice.say(group, "Hello Bob").await?;
    alice.say(group, "Are you there?").await?;

    // To Bob she is a stranger, whom he lets in.
    let (requests, _) = bob.chats.requests().await?;
    for from in requests.into_keys() {
        println!("  bob │ lets {from} in");
        bob.chats.accept_request(from).await?;
    }
    bob.look(group).await?;
    bob.say(group, "Here I am").await?;
    alice.look(group).await?;
    bob.look(group).await?;

    // What was said is kept, and so is how far it came.
    for person in [&mut alice, &mut bob] {
        let tick = person.last_tick(group)?;
        println!("{:>5} │ the last message is {tick}", person.name);
        if tick != "Read" {
            return Err("not everything was read".into());
        }
    }
    println!(
        "      │ compare: {}",
        alice.chats.groups().safety_number(group)?
    );
    alice.chats.close()?;
    bob.chats.close()?;
    Ok(())
}
