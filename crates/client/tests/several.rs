//! Sessions of several people: everybody reads the same, and each delivery is told apart.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use session_chain::tx::message::SendBatch;
use session_chain::tx::{Kind, Tx};
use session_client::content::{Bound, Content};
use session_client::{Account, ClientError, Item, RpcClient};
use session_core::codec::Encode;
use session_core::ids::SessionId;
use session_core::log::Conversation;
use session_core::time::Time;
use session_fixture::ThrowawayNode;
use support::account;

async fn company(names: &[&str]) -> (ThrowawayNode, tempfile::TempDir, Vec<Account>) {
    let node = ThrowawayNode::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut people = Vec::new();
    for name in names {
        let rpc = RpcClient::new(&node.url(), None).unwrap();
        people.push(account(rpc, &directory.path().join(name)).await);
    }
    (node, directory, people)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_says_all_others_read_and_each_receipt_is_its_own() {
    let (_node, _directory, mut people) = company(&["alice", "bob", "carol", "dave"]).await;
    let ids: Vec<_> = people.iter().map(Account::id).collect();
    let session = people[0].create_session_with(&ids[1..]).await.unwrap();
    people[0]
        .send_texts(&session, &["hello", "all"])
        .await
        .unwrap();
    let counts: Vec<u64> = {
        let mut counts = Vec::new();
        for person in &mut people[1..] {
            let inbox = person.receive(&session).await.unwrap();
            assert_eq!(inbox.texts(), ["hello", "all"]);
            assert!(inbox.messages.iter().all(|m| m.verified && m.bound));
            counts.push(inbox.count);
        }
        counts
    };
    people[1].acknowledge(&session, counts[0]).await.unwrap();
    people[1].send_text(&session, "hi").await.unwrap();
    people[2].send_text(&session, "hey").await.unwrap();
    assert_eq!(
        people[0].receive(&session).await.unwrap().texts(),
        ["hi", "hey"]
    );
    assert_eq!(
        people[3].receive(&session).await.unwrap().texts(),
        ["hi", "hey"]
    );
    let receipts = people[0].receipts(&session).await.unwrap();
    assert_eq!(receipts.len(), 3);
    for (account, receipt) in receipts {
        let expected = (account == ids[1]).then_some(counts[0]);
        assert_eq!(receipt.map(|receipt| receipt.up_to), expected);
    }
    // A file takes smaller pieces here.
    let bytes: Vec<u8> = (0..300_000u32).map(|n| n.to_le_bytes()[0]).collect();
    people[3]
        .send_file(&session, "b.bin", &bytes, |_, _| ())
        .await
        .unwrap();
    let inbox = people[0].receive(&session).await.unwrap();
    let Some(Item::File { path, .. }) = inbox.messages.last().map(|m| &m.item) else {
        panic!("{:?}", inbox.messages)
    };
    assert_eq!(std::fs::read(path).unwrap(), bytes);

    // The wrong company is refused before anything is sent.
    let me = ids[0];
    for wrong in [&[][..], &[me], &[ids[1], ids[1]]] {
        let refused = people[0].create_session_with(wrong).await.unwrap_err();
        assert!(matches!(refused, ClientError::Participants(_)), "{refused}");
    }
}

async fn send_raw(by: &Account, session: SessionId, ciphertext: Vec<u8>) {
    let conversation = Conversation::Session(session);
    let mut tx = Tx {
        signer: by.id(),
        valid_until: Time::from_ms(0),
        salt: 5,
        kind: Kind::SendBatch(SendBatch {
            conversation,
            ciphertexts: vec![ciphertext],
        }),
        signature: Vec::new(),
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now = u64::try_from(now.unwrap().as_millis()).unwrap();
    tx.valid_until = Time::from_ms(now + 600_000);
    let signature = by.identity().sign(&tx.signed_digest(&by.chain())).unwrap();
    tx.signature = signature.as_bytes().to_vec();
    let params = json!({ "txs": [BASE64.encode(tx.to_bytes())] });
    let reply: Value = by.rpc().call("sessionvm.Submit", params).await.unwrap();
    assert_eq!(reply["results"][0]["status"], "accepted", "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_some_of_the_company_is_refused() {
    let (_node, _directory, mut people) = company(&["alice", "bob", "carol"]).await;
    let ids: Vec<_> = people.iter().map(Account::id).collect();
    let session = people[0].create_session_with(&ids[1..]).await.unwrap();
    let bound = |counter, text: &str| {
        let content = Content::Text(text.to_owned());
        Bound {
            session,
            counter,
            content,
        }
        .to_bytes()
    };
    let bob = people[1].identity().public().clone();
    // To Bob alone, in either format: Carol could not know what he was told.
    let alone = people[0]
        .identity()
        .seal_to(&bob, &bound(0, "psst"))
        .unwrap();
    send_raw(&people[0], session, alone).await;
    let slot = session_crypto::envelope::many::Recipient {
        account: ids[1],
        kem: bob.kem(),
    };
    let one = session_crypto::envelope::many::seal(ids[0], &[slot], &bound(1, "psst")).unwrap();
    send_raw(&people[0], session, one).await;
    send_raw(&people[0], session, vec![3, 2, 1]).await;
    let inbox = people[1].receive(&session).await.unwrap();
    let items: Vec<_> = inbox.messages.into_iter().map(|m| m.item).collect();
    let closed = Item::Refused("it cannot be opened with this account's keys");
    assert_eq!(
        items,
        [
            Item::Refused("it is sealed to this account alone, in a session of several"),
            closed.clone(),
            closed,
        ]
    );
}
