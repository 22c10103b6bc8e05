//! A device that was away for longer than the chain keeps bodies comes back into its conversations.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::{KemKey, Kind, SigningKey, Tx};
use session_client::e2ee::{Content, EventKind, GroupStatus};
use session_client::{Account, Chats, ClientError, Entered, Line, RpcClient, RpcError, Words};
use session_core::codec::Encode;
use session_core::ids::{AccountId, ChainId, GroupId};
use session_core::time::{DAY_MS, HOUR_MS, Time};
use session_crypto::Identity;
use session_fixture::{NodeOptions, ThrowawayNode};
use session_vm::clock::{Clock, SystemClock};
use support::{Proxy, account, same};

/// A clock that a test takes ahead.
#[derive(Default)]
struct Ahead {
    system: SystemClock,
    ms: AtomicU64,
}

impl Clock for Ahead {
    fn wall(&self) -> Time {
        self.system.wall().after_ms(self.ms.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> u64 {
        self.system.monotonic_ms() + self.ms.load(Ordering::SeqCst)
    }
}

/// A chain that keeps bodies for a day.
struct World {
    directory: tempfile::TempDir,
    _node: ThrowawayNode,
    clock: Arc<Ahead>,
    rpc: RpcClient,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(Ahead::default());
        let config = json!({ "admission": "signed", "retentionDays": 1 });
        let genesis = json!({ "config": config, "nonce": "00" }).to_string();
        let options = NodeOptions {
            genesis: Some(genesis.into_bytes()),
            clock: clock.clone(),
            ..NodeOptions::default()
        };
        let node = ThrowawayNode::start_with(options).await.unwrap();
        let rpc = RpcClient::new(&node.url(), None).unwrap();
        Self {
            directory: tempfile::tempdir().unwrap(),
            _node: node,
            clock,
            rpc,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn person(&self, rpc: RpcClient, name: &str) -> Chats {
        let account = account(rpc, &self.path(name)).await;
        let mut chats = Chats::open(account, "phone").unwrap();
        chats.supply().await.unwrap();
        chats
    }

    /// As after SIGKILL: nothing but the directory and the identity is left.
    async fn killed(&self, chats: Chats, name: &str) -> Chats {
        let identity = same(chats.account().identity());
        drop(chats);
        let opened = Account::open(self.rpc.clone(), identity, &self.path(name)).await;
        Chats::open(opened.unwrap(), "phone").unwrap()
    }

    /// Days go by, until nothing that a log had is kept any more; `more`: not its first leaves either.
    async fn pass(&self, ms: u64, chain: ChainId, group: GroupId, more: bool) {
        self.clock.ms.fetch_add(ms, Ordering::SeqCst);
        // Somebody registers: a block that says what time it is.
        let new = Identity::generate().unwrap();
        let (kem, signing) = (new.public().kem(), new.public().signing());
        let mut tx = Tx {
            signer: new.account_id(),
            valid_until: self.clock.wall().after_ms(HOUR_MS / 2),
            salt: 1,
            kind: Kind::RegisterIdentity(RegisterIdentity {
                kem: KemKey(Box::new(*kem.as_bytes())),
                signing: SigningKey(Box::new(*signing.as_bytes())),
                recovery: None,
            }),
            signature: Vec::new(),
        };
        let digest = tx.signed_digest(&chain);
        tx.signature = new.sign(&digest).unwrap().as_bytes().to_vec();
        let params = json!({ "txs": [BASE64.encode(tx.to_bytes())], "waitMs": 5_000 });
        let reply: Value = self.rpc.call("sessionvm.Submit", params).await.unwrap();
        assert_eq!(reply["results"][0]["status"], "accepted", "{reply}");
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let params = json!({ "groupId": group, "from": 0, "limit": 100 });
            let page = self
                .rpc
                .call::<Value>("sessionvm.GetMessages", params)
                .await;
            let page = match page {
                // Not even what proves that there was something.
                Err(RpcError::Refused { code: -32_015, .. }) => return,
                page => page.unwrap(),
            };
            if more {
                assert!(Instant::now() < deadline, "the leaves stay");
                tokio::task::yield_now().await;
                continue;
            }
            let mut messages = page["messages"].as_array().unwrap().iter();
            if messages.all(|message| message["pruned"] == true) {
                return;
            }
            assert!(Instant::now() < deadline, "{page}");
            tokio::task::yield_now().await;
        }
    }
}

fn id(chats: &Chats) -> AccountId {
    chats.account().id()
}

fn text(words: &str) -> [Content; 1] {
    [Content::Text(words.to_owned())]
}

fn status(chats: &Chats, group: GroupId) -> GroupStatus {
    chats.groups().device().status(group).unwrap()
}

/// What somebody sees, oldest first, after a look.
async fn reads(chats: &mut Chats, group: GroupId) -> Vec<String> {
    chats.receive(group, 0).await.unwrap();
    let transcript = chats.transcript(group).unwrap();
    let words = transcript.messages().map(|said| match &said.words {
        Words::Text(text) => text.clone(),
        Words::File(..) | Words::Unknown(_) => panic!("only words are said here"),
    });
    words.collect()
}

/// Whether a conversation has a notice.
fn noticed(chats: &mut Chats, group: GroupId, is: impl Fn(&EventKind) -> bool) -> bool {
    let transcript = chats.transcript(group).unwrap();
    transcript.lines().iter().any(|line| match line {
        Line::Notice(kind, _) => is(kind),
        Line::Said(_) | Line::WantsToLeave { .. } => false,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_away_for_too_long_asks_and_is_let_back_in() {
    let world = World::new().await;
    let proxy = Proxy::before(world.rpc.clone()).await;
    let mut alice = world.person(world.rpc.clone(), "alice").await;
    let mut bob = world.person(proxy.client(), "bob").await;
    let mut mallory = world.person(world.rpc.clone(), "mallory").await;
    let chain = alice.account().chain();
    bob.account_mut().welcome(id(&alice)).unwrap();
    let group = alice.with(id(&bob)).await.unwrap();
    bob.read_mail(None).await.unwrap();
    bob.enter().await.unwrap();

    // One thing arrives, and he does not hear of it; another one waits. Then he is away.
    proxy.cut(Some(("sessionvm.Submit", true)));
    let cut = bob.say(group, &text("accepted")).await;
    assert!(matches!(cut, Err(ClientError::Waiting { .. })), "{cut:?}");
    bob.keep(group, &text("waits")).unwrap();
    proxy.cut(None);
    assert_eq!(reads(&mut alice, group).await, ["accepted"]);
    alice.groups_mut().rotate(group).await.unwrap();
    alice.say(group, &text("in between")).await.unwrap();
    world.pass(DAY_MS + HOUR_MS, chain, group, false).await;

    // He finds out, asks once, and cannot speak meanwhile.
    let mut bob = world.killed(bob, "bob").await;
    bob.receive(group, 0).await.unwrap();
    assert_eq!(status(&bob, group), GroupStatus::Lost);
    assert!(noticed(&mut bob, group, |kind| matches!(
        kind,
        EventKind::Lost { .. }
    )));
    assert!(bob.keep(group, &text("no")).is_err());
    bob.tick().await.unwrap();
    let mut bob = world.killed(bob, "bob").await;
    bob.tick().await.unwrap();
    alice.receive(group, 0).await.unwrap();
    alice.read_mail(None).await.unwrap();
    let held = alice.account().rejoins().unwrap();
    assert_eq!(held.len(), 1);

    // Somebody else who sends his request is refused; it is read again after a crash.
    let request = held[0].request().unwrap();
    let session = mallory
        .account_mut()
        .create_session(id(&alice))
        .await
        .unwrap();
    let sent = mallory.account_mut().send_rejoin(&session, &request);
    sent.await.unwrap();
    let mut alice = world.killed(alice, "alice").await;
    alice.read_mail(None).await.unwrap();
    let mut answers = alice.answer_rejoins().await.unwrap();
    let flush_until = Instant::now() + Duration::from_secs(60);
    while bob_is_out(&mut bob, group).await {
        answers.extend(alice.answer_rejoins().await.unwrap());
        alice.flush(group).await.unwrap();
        assert!(Instant::now() < flush_until, "{answers:?}");
    }
    let by = |account: AccountId| answers.iter().find(|back| back.from == account);
    assert_eq!(by(id(&bob)).unwrap().refused, None);
    // Hers came after his: it is done by then, or not hers to ask for.
    assert!(by(id(&mallory)).is_none_or(|back| back.refused.is_some()));

    // What waited is said, what had arrived is not said twice, and both go on.
    bob.flush(group).await.unwrap();
    let words = ["accepted", "in between", "waits"];
    assert_eq!(reads(&mut alice, group).await, words);
    let device = bob.me().unwrap();
    assert!(noticed(&mut alice, group, |kind| matches!(
        kind,
        EventKind::CameBack { device: found, .. } if *found == device
    )));
    assert!(noticed(&mut bob, group, |kind| matches!(
        kind,
        EventKind::Rejoined { .. }
    )));
    alice.say(group, &text("welcome back")).await.unwrap();
    let words = ["accepted", "waits", "welcome back"];
    assert_eq!(reads(&mut bob, group).await, words);
    assert_eq!(alice.members(group).unwrap().len(), 2);
    // The same request once more is refused.
    let again = alice.groups_mut().examine_rejoin(&request).await;
    assert!(matches!(again, Err(ClientError::E2ee(_))), "{again:?}");
}

/// Whether he still is, after he has looked for an invitation.
async fn bob_is_out(bob: &mut Chats, group: GroupId) -> bool {
    bob.read_mail(None).await.unwrap();
    for entered in bob.enter().await.unwrap() {
        assert!(matches!(entered, Entered::Joined { .. }), "{entered:?}");
    }
    status(bob, group) != GroupStatus::Active
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_not_even_the_leaves_of_a_log_comes_back_too() {
    let world = World::new().await;
    let mut alice = world.person(world.rpc.clone(), "alice").await;
    let mut bob = world.person(world.rpc.clone(), "bob").await;
    let chain = alice.account().chain();
    bob.account_mut().welcome(id(&alice)).unwrap();
    let group = alice.with(id(&bob)).await.unwrap();
    bob.read_mail(None).await.unwrap();
    bob.enter().await.unwrap();
    bob.keep(group, &text("waits")).unwrap();
    let many: Vec<Content> = (0..260).map(|n| Content::Text(n.to_string())).collect();
    alice.say(group, &many).await.unwrap();
    alice.groups_mut().rotate(group).await.unwrap();
    world.pass(DAY_MS + HOUR_MS, chain, group, true).await;
    let mut bob = world.killed(bob, "bob").await;
    bob.receive(group, 0).await.unwrap();
    assert_eq!(status(&bob, group), GroupStatus::Lost);
    // Whether it was taken nobody can tell any more: he is told, and it is not said again.
    let transcript = bob.transcript(group).unwrap();
    assert!(transcript.messages().all(|said| said.failed));
    bob.tick().await.unwrap();
    alice.receive(group, 0).await.unwrap();
    alice.read_mail(None).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while bob_is_out(&mut bob, group).await {
        alice.answer_rejoins().await.unwrap();
        alice.flush(group).await.unwrap();
        assert!(Instant::now() < deadline, "he is not let back in");
    }
    bob.say(group, &text("here again")).await.unwrap();
    let seen = reads(&mut alice, group).await;
    assert_eq!(seen.len(), 261);
    assert_eq!(seen.last().unwrap(), "here again");
}
