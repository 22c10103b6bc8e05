//! Rotating, revoking, recovering: what the chain says, what the disk holds, what others are told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use session_client::{
    Account, ClientError, IdentityFile, Item, KeyChange, KeyState, Lock, RpcClient,
};
use session_crypto::{Identity, KdfCost};
use session_fixture::ThrowawayNode;
use support::{DOWN, HONEST, Proxy, account, same};
use zeroize::Zeroizing;

fn sealed() -> Lock {
    let passphrase = Zeroizing::new("not a secret".to_owned());
    Lock::Passphrase(passphrase, KdfCost::INSECURE_FOR_TESTS)
}

/// A person with an identity file.
struct Person {
    path: PathBuf,
    file: IdentityFile,
    identity: Identity,
}

impl Person {
    fn new(path: &Path, identity: Identity, lock: Lock) -> Self {
        let file = IdentityFile::new(path, lock).unwrap();
        file.save(&identity).unwrap();
        let path = path.to_owned();
        Self {
            path,
            file,
            identity,
        }
    }

    async fn open(&self, rpc: &RpcClient) -> Result<Account, ClientError> {
        Account::open_file(rpc.clone(), self.file.clone(), &self.path).await
    }

    fn keys_on_disk(&self) -> String {
        session_client::fingerprint(self.file.load().unwrap().public())
    }
}

async fn node() -> (ThrowawayNode, RpcClient, tempfile::TempDir) {
    let node = ThrowawayNode::start().await.unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    (node, rpc, tempfile::tempdir().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_rotate_under_one_id_and_nothing_unread_is_lost() {
    let (_node, rpc, directory) = node().await;
    let kinds = [
        (Identity::generate().unwrap(), sealed()),
        (Identity::generate_without_phrase().unwrap(), sealed()),
        (Identity::generate().unwrap(), Lock::Exposed),
    ];
    for (n, (identity, lock)) in kinds.into_iter().enumerate() {
        let path = |name: &str| directory.path().join(format!("{name}{n}"));
        let bob = Person::new(&path("bob"), identity, lock);
        let mut alice = account(rpc.clone(), &path("alice")).await;
        let mut account = bob.open(&rpc).await.unwrap();
        let session = alice.create_session(account.id()).await.unwrap();
        alice
            .send_text(&session, "to the first keys")
            .await
            .unwrap();
        account
            .send_text(&session, "by the first keys")
            .await
            .unwrap();

        let before = bob.keys_on_disk();
        assert_eq!(account.rotate().await.unwrap(), 1);
        assert_eq!(account.rotate().await.unwrap(), 2);
        assert_ne!(bob.keys_on_disk(), before);
        assert!(bob.file.load_next().unwrap().is_none());
        assert_eq!(account.id(), bob.identity.account_id());
        account
            .send_text(&session, "by the third keys")
            .await
            .unwrap();

        // After a restart, too; Alice, who has no name for Bob, follows him from his id.
        drop(account);
        let mut account = bob.open(&rpc).await.unwrap();
        let alice_again = same(alice.identity());
        drop(alice);
        let mut alice = Account::open(rpc.clone(), alice_again, &path("alice"))
            .await
            .unwrap();
        alice
            .send_text(&session, "to the third keys")
            .await
            .unwrap();
        let texts = account.receive(&session).await.unwrap();
        assert_eq!(texts.texts(), ["to the first keys", "to the third keys"]);
        let inbox = alice.receive(&session).await.unwrap();
        assert_eq!(inbox.texts(), ["by the first keys", "by the third keys"]);
        let keys: Vec<_> = inbox
            .messages
            .iter()
            .filter(|m| m.item != Item::Own)
            .map(|m| (m.verified, m.keys))
            .collect();
        assert_eq!(keys, [(true, KeyState::Earlier), (true, KeyState::Current)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_interrupted_anywhere_is_finished_or_undone() {
    let (_node, rpc, directory) = node().await;
    let proxy = Proxy::before(rpc.clone()).await;
    let identity = Identity::generate().unwrap();
    let bob = Person::new(&directory.path().join("bob"), identity, sealed());
    drop(bob.open(&rpc).await.unwrap());
    let first = bob.keys_on_disk();

    // Before anything was sent: the next keys are on disk and nothing else.
    bob.file.keep_next(&bob.identity.next(1).unwrap()).unwrap();
    drop(bob.open(&rpc).await.unwrap());
    assert!(bob.file.load_next().unwrap().is_none());
    assert_eq!(bob.keys_on_disk(), first);

    // The node went away: both pairs are kept, and the old ones are used meanwhile.
    let mut account = bob.open(&proxy.client()).await.unwrap();
    proxy.cut(Some(("sessionvm.Submit", false)));
    let waits = account.rotate().await.unwrap_err();
    assert!(
        matches!(waits, ClientError::Waiting { waiting: 1, .. }),
        "{waits}"
    );
    drop(account);
    assert_eq!(bob.keys_on_disk(), first);
    assert!(bob.file.load_next().unwrap().is_some());
    proxy.cut(None);
    drop(bob.open(&proxy.client()).await.unwrap());
    let second = bob.keys_on_disk();
    assert_ne!(second, first);
    assert!(bob.file.load_next().unwrap().is_none());

    // It was accepted, and nobody heard of it: not even the transaction is left.
    let mut account = bob.open(&proxy.client()).await.unwrap();
    proxy.cut(Some(("sessionvm.Submit", true)));
    assert!(account.rotate().await.is_err());
    for (number, _) in account.dir().waiting().unwrap() {
        account.dir().forget(number).unwrap();
    }
    drop(account);
    assert_eq!(bob.keys_on_disk(), second);
    proxy.cut(None);
    let mut account = bob.open(&proxy.client()).await.unwrap();
    assert_ne!(bob.keys_on_disk(), second);
    assert!(bob.file.load_next().unwrap().is_none());
    // What still waited under the old keys is signed by the new ones.
    let mut alice = crate::account(rpc, &directory.path().join("alice")).await;
    let session = alice.create_session(account.id()).await.unwrap();
    proxy.set(DOWN);
    drop(account.participants(&session).await);
    proxy.set(HONEST);
    account.participants(&session).await.unwrap();
    account.lookup(alice.id()).await.unwrap();
    proxy.set(DOWN);
    assert!(account.send_text(&session, "late").await.is_err());
    proxy.set(HONEST);
    drop(account);
    // The other device of the same person rotates in between.
    let other = Person::new(
        &directory.path().join("other"),
        Identity::from_phrase(&bob.identity.recovery_phrase().unwrap()).unwrap(),
        sealed(),
    );
    let mut elsewhere = other.open(&alice.rpc().clone()).await.unwrap();
    elsewhere.rotate().await.unwrap();
    let account = bob.open(&proxy.client()).await.unwrap();
    assert_eq!(account.flushed().accepted, 1);
    assert_eq!(alice.receive(&session).await.unwrap().texts(), ["late"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thief_who_rotates_first_does_not_win() {
    let (_node, rpc, directory) = node().await;
    let path = |name: &str| directory.path().join(name);
    let identity = Identity::generate().unwrap();
    let phrase = identity.recovery_phrase().unwrap();
    let bob = Person::new(&path("bob"), identity, sealed());
    drop(bob.open(&rpc).await.unwrap());
    let mut alice = account(rpc.clone(), &path("alice")).await;
    alice
        .add_contact("bob", bob.identity.account_id())
        .await
        .unwrap();
    let session = alice
        .create_session(bob.identity.account_id())
        .await
        .unwrap();

    // The thief has the keys and not the words.
    let stolen = bob.identity.without_seed().unwrap();
    let thief = Person::new(&path("thief"), stolen, Lock::Exposed);
    let mut theirs = thief.open(&rpc).await.unwrap();
    theirs.rotate().await.unwrap();
    let told = bob.open(&rpc).await.err().unwrap();
    assert!(
        matches!(told, ClientError::RotatedElsewhere { index: 1 }),
        "{told}"
    );
    assert!(told.to_string().contains("--take-back"), "{told}");

    // Whoever has other words has no right here.
    let stranger = Identity::generate().unwrap();
    let seed = stranger.seed().unwrap().clone();
    let refused = Account::take_back(rpc.clone(), seed, bob.file.clone(), &path("bob")).await;
    assert!(matches!(refused.err(), Some(ClientError::OtherKeys(_))));

    let mut mine = Account::take_back(rpc.clone(), phrase.seed(), bob.file.clone(), &path("bob"))
        .await
        .unwrap();
    mine.send_text(&session, "it is me again").await.unwrap();
    let locked_out = theirs.send_text(&session, "no, me").await.unwrap_err();
    assert!(
        matches!(locked_out, ClientError::RotatedElsewhere { index: 2 }),
        "{locked_out}"
    );
    let rotated = theirs.rotate().await.unwrap_err();
    assert!(
        matches!(rotated, ClientError::RotatedElsewhere { .. }),
        "{rotated}"
    );
    drop(theirs);
    let told = thief.open(&rpc).await.err().unwrap();
    assert!(
        matches!(told, ClientError::RotatedElsewhere { index: 2 }),
        "{told}"
    );

    // Alice is told that the recovery key did it, before she seals or believes anything.
    let again = same(alice.identity());
    drop(alice);
    let mut alice = Account::open(rpc.clone(), again, &path("alice"))
        .await
        .unwrap();
    for error in [
        alice
            .send_text(&session, "who is it?")
            .await
            .map(drop)
            .unwrap_err(),
        alice.receive(&session).await.map(drop).unwrap_err(),
    ] {
        assert!(
            matches!(
                error,
                ClientError::KeyChanged {
                    index: 2,
                    how: KeyChange::ByRecoveryKey,
                    ..
                }
            ),
            "{error}"
        );
    }
    let how = alice.add_contact("bob", mine.id()).await.unwrap();
    assert_eq!(how, Some(KeyChange::ByRecoveryKey));
    assert_eq!(
        alice.receive(&session).await.unwrap().texts(),
        ["it is me again"]
    );
    alice.send_text(&session, "good").await.unwrap();
    assert_eq!(mine.receive(&session).await.unwrap().texts(), ["good"]);

    // And whoever only recovers from the words finds the keys that count.
    let fresh = IdentityFile::new(&path("fresh"), sealed()).unwrap();
    fresh
        .save(&Identity::from_phrase(&phrase).unwrap())
        .unwrap();
    Account::recover(rpc.clone(), phrase.seed(), &fresh, &path("fresh"))
        .await
        .unwrap();
    assert_eq!(fresh.load().unwrap().public(), mine.identity().public());
    Account::open_file(rpc, fresh, &path("fresh"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_account_says_so_to_its_owner_and_to_others() {
    let (_node, rpc, directory) = node().await;
    let path = |name: &str| directory.path().join(name);
    let bob = Person::new(&path("bob"), Identity::generate().unwrap(), sealed());
    let mut account = bob.open(&rpc).await.unwrap();
    let mut alice = support::account(rpc.clone(), &path("alice")).await;
    let session = alice.create_session(account.id()).await.unwrap();
    account.send_text(&session, "farewell").await.unwrap();
    account.revoke().await.unwrap();
    drop(account);
    let told = bob.open(&rpc).await.err().unwrap();
    assert!(matches!(told, ClientError::Revoked), "{told}");
    let again = same(alice.identity());
    drop(alice);
    let mut alice = Account::open(rpc.clone(), again, &path("alice"))
        .await
        .unwrap();
    let told = alice
        .send_text(&session, "are you there?")
        .await
        .unwrap_err();
    assert!(matches!(told, ClientError::PeerRevoked(_)), "{told}");
    // What was said before is still what it was.
    assert_eq!(alice.receive(&session).await.unwrap().texts(), ["farewell"]);

    // The words alone are enough, too.
    let carol = Person::new(&path("carol"), Identity::generate().unwrap(), sealed());
    drop(carol.open(&rpc).await.unwrap());
    let seed = carol.identity.seed().unwrap().clone();
    Account::revoke_with_seed(rpc.clone(), &seed, &path("words"))
        .await
        .unwrap();
    assert!(matches!(
        carol.open(&rpc).await.err(),
        Some(ClientError::Revoked)
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_contact_that_rotates_is_read_at_once_and_written_to_when_accepted() {
    let (_node, rpc, directory) = node().await;
    let path = |name: &str| directory.path().join(name);
    let bob = Person::new(&path("bob"), Identity::generate().unwrap(), sealed());
    let mut account = bob.open(&rpc).await.unwrap();
    let proxy = Proxy::before(rpc.clone()).await;
    let mut alice = support::account(proxy.client(), &path("alice")).await;
    alice.add_contact("bob", account.id()).await.unwrap();
    let session = alice.create_session(account.id()).await.unwrap();
    account.send_text(&session, "one").await.unwrap();
    account.rotate().await.unwrap();
    account.send_text(&session, "two").await.unwrap();
    let again = same(alice.identity());
    drop(alice);
    let mut alice = Account::open(proxy.client(), again, &path("alice"))
        .await
        .unwrap();

    // A node that keeps no history, or a bent one: nothing is believed and nothing lost.
    proxy.lie(|method, result| {
        if method == "sessionvm.GetRotations" {
            let tx = result["rotations"][0]["tx"].as_str().unwrap().to_owned();
            let at = tx.len() - 100;
            let other = if &tx[at..=at] == "A" { "B" } else { "A" };
            result["rotations"][0]["tx"] = json!(format!("{}{other}{}", &tx[..at], &tx[at + 1..]));
        }
    });
    let told = alice.receive(&session).await.map(drop).unwrap_err();
    assert!(
        matches!(
            told,
            ClientError::KeyChanged {
                how: KeyChange::Unverifiable,
                ..
            }
        ),
        "{told}"
    );
    proxy.be_honest();
    let again = same(alice.identity());
    drop(alice);
    let mut alice = Account::open(proxy.client(), again, &path("alice"))
        .await
        .unwrap();
    let inbox = alice.receive(&session).await.unwrap();
    assert_eq!(inbox.texts(), ["one", "two"]);
    let keys: Vec<_> = inbox.messages.iter().map(|m| m.keys).collect();
    assert_eq!(keys, [KeyState::Current, KeyState::Rotated]);
    let told = alice.send_text(&session, "three").await.unwrap_err();
    assert!(
        matches!(
            told,
            ClientError::KeyChanged {
                how: KeyChange::SignedByPrevious,
                ..
            }
        ),
        "{told}"
    );
    let how = alice.add_contact("bob", account.id()).await.unwrap();
    assert_eq!(how, Some(KeyChange::SignedByPrevious));
    alice.send_text(&session, "three").await.unwrap();
    assert_eq!(account.receive(&session).await.unwrap().texts(), ["three"]);

    // Read again from the start, without the node's history: the keys of then are remembered.
    let again = same(alice.identity());
    drop(alice);
    let file = path("alice").join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    state["sessions"][session.to_string()]["cursor"] = json!(0);
    state["sessions"][session.to_string()]["seen"] = json!({});
    std::fs::write(&file, state.to_string()).unwrap();
    proxy.lie(|method, result| {
        if method == "sessionvm.GetRotations" {
            result["rotations"] = json!([]);
        }
    });
    let mut alice = Account::open(proxy.client(), again, &path("alice"))
        .await
        .unwrap();
    let inbox = alice.receive(&session).await.unwrap();
    assert_eq!(inbox.texts(), ["one", "two"]);
    let keys: Vec<_> = inbox.messages.iter().map(|m| m.keys).collect();
    assert_eq!(keys[..2], [KeyState::Earlier, KeyState::Current]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_has_seen_only_the_first_keys_takes_no_history_away() {
    let (_first, rpc, directory) = node().await;
    let bob = Person::new(
        &directory.path().join("bob"),
        Identity::generate().unwrap(),
        sealed(),
    );
    let mut alice = account(rpc.clone(), &directory.path().join("alice")).await;
    let mut there = bob.open(&rpc).await.unwrap();
    let session = there.create_session(alice.id()).await.unwrap();
    there.send_text(&session, "before").await.unwrap();
    there.rotate().await.unwrap();
    there.rotate().await.unwrap();
    drop(there);
    let forget = || {
        let dir = session_client::StateDir::open(&bob.path).unwrap();
        let mut state = dir.load().unwrap();
        state.trust = session_client::Trust::default();
        dir.save(&state).unwrap();
    };
    let texts = |account: &Account| -> Vec<String> {
        let lines = account.history().lines().unwrap();
        lines.into_iter().map(|line| line.text).collect()
    };
    // To another chain, twice, and back: which keys count differs, and the history stays open.
    let (_second, elsewhere, _kept) = node().await;
    forget();
    for _ in 0..2 {
        let here = bob.open(&elsewhere).await.unwrap();
        assert_eq!(here.identity().rotation(), 0);
        assert_eq!(texts(&here), ["before"]);
    }
    forget();
    for _ in 0..2 {
        let mut back = bob.open(&rpc).await.unwrap();
        assert_eq!(back.identity().rotation(), 2);
        assert_eq!(texts(&back).first().map(String::as_str), Some("before"));
        back.send_text(&session, "again").await.unwrap();
    }
    assert_eq!(
        alice.receive(&session).await.unwrap().texts(),
        ["before", "again", "again"]
    );
}
