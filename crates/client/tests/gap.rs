//! Logs whose older entries are no longer stored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use session_chain::tx::channel::CreateChannel;
use session_chain::tx::identity::RegisterIdentity;
use session_chain::tx::message::SendBatch;
use session_chain::tx::{KemKey, Kind, SigningKey, Tx};
use session_client::{
    Account, ClientError, Gap, RpcClient, RpcError, ShownHead, Trust, TrustError, decode_proof,
};
use session_core::codec::Encode;
use session_core::ids::{ChainId, ChannelId};
use session_core::log::{Conversation, LogId};
use session_core::proof::Proof;
use session_core::record::Outcome;
use session_core::submission::Submitted;
use session_core::time::{DAY_MS, Time};
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

impl Ahead {
    fn pass(&self, ms: u64) {
        self.ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn wall(&self) -> Time {
        self.system.wall().after_ms(self.ms.load(Ordering::SeqCst))
    }

    fn monotonic_ms(&self) -> u64 {
        self.system.monotonic_ms() + self.ms.load(Ordering::SeqCst)
    }
}

/// Somebody who writes into a channel and reads what it proves.
struct Reader {
    rpc: RpcClient,
    clock: Arc<Ahead>,
    chain: ChainId,
    writer: Identity,
    salt: u64,
    trust: Trust,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadReply {
    chain: ChainId,
    head_key: String,
}

impl Reader {
    async fn new(rpc: RpcClient, clock: Arc<Ahead>) -> Self {
        let head: HeadReply = rpc.call("sessionvm.GetHead", json!({})).await.unwrap();
        let mut trust = Trust::default();
        let shown = ShownHead {
            chain: head.chain,
            head_key: &head.head_key,
            root_key: None,
            certificate: None,
        };
        trust.meet(&shown).unwrap();
        let writer = Identity::generate().unwrap();
        let (kem, signing) = (writer.public().kem(), writer.public().signing());
        let registration = RegisterIdentity {
            kem: KemKey(Box::new(*kem.as_bytes())),
            signing: SigningKey(Box::new(*signing.as_bytes())),
            recovery: None,
        };
        let mut this = Self {
            rpc,
            clock,
            chain: head.chain,
            writer,
            salt: 0,
            trust,
        };
        this.submit(Kind::RegisterIdentity(registration)).await;
        this
    }

    async fn submit(&mut self, kind: Kind) -> Outcome {
        self.salt += 1;
        let mut tx = Tx {
            signer: self.writer.account_id(),
            valid_until: self.clock.wall().after_ms(1_800_000),
            salt: self.salt,
            kind,
            signature: Vec::new(),
        };
        let digest = tx.signed_digest(&self.chain);
        tx.signature = self.writer.sign(&digest).unwrap().as_bytes().to_vec();
        match self.rpc.submit(&[tx.to_bytes()]).await.unwrap().remove(0) {
            Submitted::Accepted { outcome, .. } => outcome,
            refused @ (Submitted::Pending { .. } | Submitted::Refused { .. }) => {
                panic!("{refused:?}")
            }
        }
    }

    async fn channel(&mut self) -> ChannelId {
        let members = Vec::new();
        let kind = Kind::CreateChannel(CreateChannel { members });
        let Outcome::Channel(id) = self.submit(kind).await else {
            panic!("no channel")
        };
        id
    }

    async fn write(&mut self, channel: ChannelId, count: u32) {
        let (first, count) = (self.salt << 32, u64::from(count));
        let bodies = (first..first + count).map(|n| n.to_be_bytes().to_vec());
        let bodies: Vec<Vec<u8>> = bodies.collect();
        for bodies in bodies.chunks(100) {
            let batch = SendBatch {
                conversation: Conversation::Channel(channel),
                ciphertexts: bodies.to_vec(),
            };
            self.submit(Kind::SendBatch(batch)).await;
        }
    }

    /// The proof of messages from there on, or what the node says instead.
    async fn page(&self, channel: ChannelId, from: u64) -> Result<Proof, RpcError> {
        let params = json!({ "channelId": channel, "from": from, "limit": 100, "proof": true });
        let reply: Value = self.rpc.call("sessionvm.GetMessages", params).await?;
        Ok(decode_proof(reply["proof"].as_str().unwrap()).unwrap())
    }

    /// The proof that a log has grown since it had so many entries.
    async fn growth(&self, channel: ChannelId, at: u64) -> Proof {
        let params = json!({ "channelId": channel, "from": at, "to": at });
        let reply: Value = self.rpc.call("sessionvm.GetProof", params).await.unwrap();
        decode_proof(reply["proof"].as_str().unwrap()).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_read_in_part_before_its_tiles_went_is_still_bound_to_what_was_seen() {
    let clock = Arc::new(Ahead::default());
    let config = json!({ "admission": "signed", "retentionDays": 1 });
    let genesis = json!({ "config": config, "nonce": "00" }).to_string();
    let node = ThrowawayNode::start_with(NodeOptions {
        genesis: Some(genesis.into_bytes()),
        clock: clock.clone(),
        ..NodeOptions::default()
    })
    .await
    .unwrap();
    let rpc = RpcClient::new(&node.url(), None).unwrap();
    let mut reader = Reader::new(rpc, clock.clone()).await;
    let channel = reader.channel().await;
    let log = LogId::Channel(channel);
    reader.write(channel, 300).await;
    let proof = reader.page(channel, 0).await.unwrap();
    reader.trust.check(&proof).unwrap();
    assert_eq!(reader.trust.comparable(&log), 256);
    reader.write(channel, 300).await;
    clock.pass(DAY_MS / 2);
    reader.write(channel, 10).await;
    clock.pass(DAY_MS / 2 + 10_000);
    let deadline = Instant::now() + Duration::from_secs(30);
    let gone = loop {
        if let Err(gone) = reader.page(channel, 300).await {
            break gone;
        }
        assert!(Instant::now() < deadline, "two tiles to go");
        tokio::task::yield_now().await;
    };
    let RpcError::Refused { code, data, .. } = gone else {
        panic!("{gone}")
    };
    assert_eq!((code, &data["first"]), (-32_015, &json!(512)));

    let growth = reader.growth(channel, 256).await;
    // Another memory of the same log: the first root is that of a tile, the last one of a part.
    let name = const_hex::encode(log.to_bytes());
    let other = |at: usize| {
        let mut trust = reader.trust.clone();
        let mut seen = const_hex::decode(&trust.logs[&name]).unwrap();
        seen[at] ^= 1;
        trust.logs.insert(name.clone(), const_hex::encode(seen));
        trust
    };
    let rewritten = other(8).leap(&growth).unwrap_err();
    assert!(
        matches!(rewritten, TrustError::Rewritten { count: 300 }),
        "{rewritten}"
    );
    let elsewhere = reader
        .trust
        .clone()
        .leap(&reader.growth(channel, 512).await);
    assert!(matches!(elsewhere, Err(TrustError::Rewritten { .. })));
    // What no proof compares is counted.
    assert_eq!(other(8 + 3 * 32).leap(&growth).unwrap(), 44);
    assert_eq!(reader.trust.leap(&growth).unwrap(), 44);
    let rest = reader.page(channel, 512).await.unwrap();
    let entries = reader.trust.check(&rest).unwrap().entries.unwrap();
    assert_eq!((entries.from, entries.count), (512, 610));
    // From here on nothing changes unnoticed.
    reader.write(channel, 1).await;
    let later = reader.page(channel, 610).await.unwrap();
    reader.trust.check(&later).unwrap();
    // Nobody who has seen nothing is exempt.
    let mut late = Trust {
        logs: std::collections::BTreeMap::new(),
        ..reader.trust.clone()
    };
    let whole = reader.growth(channel, late.comparable(&log)).await;
    assert_eq!(late.leap(&whole).unwrap(), 0);
    assert_eq!(late.logs[&name], reader.trust.logs[&name]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_whose_beginning_is_gone_says_so_and_goes_on() {
    let node = ThrowawayNode::start().await.unwrap();
    let proxy = Proxy::before(RpcClient::new(&node.url(), None).unwrap()).await;
    let directory = tempfile::tempdir().unwrap();
    let mut alice = account(proxy.client(), &directory.path().join("alice")).await;
    let path = directory.path().join("bob");
    let mut bob = account(proxy.client(), &path).await;
    let session = alice.create_session(bob.id()).await.unwrap();
    alice.send_texts(&session, &["one", "two"]).await.unwrap();
    assert_eq!(bob.receive(&session).await.unwrap().texts(), ["one", "two"]);
    alice
        .send_texts(&session, &["three", "four", "five", "six"])
        .await
        .unwrap();
    *proxy.gone.lock().unwrap() = Some(4);
    // Of a session of today nothing can be gone.
    let young = bob.receive(&session).await.unwrap_err();
    assert!(young.to_string().contains("younger than a day"), "{young}");

    let identity = same(bob.identity());
    drop(bob);
    let file = path.join("state.json");
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    state["sessions"][session.to_string()]["created"] = json!(0);
    std::fs::write(&file, state.to_string()).unwrap();
    let mut bob = Account::open(proxy.client(), same(&identity), &path)
        .await
        .unwrap();
    // Nor can more be gone than there was.
    for lie in [1_000_000, 7] {
        *proxy.gone.lock().unwrap() = Some(lie);
        let refused = bob.receive(&session).await.unwrap_err();
        assert!(matches!(refused, ClientError::Reply(_)), "{refused}");
    }
    *proxy.gone.lock().unwrap() = Some(4);
    let inbox = bob.receive(&session).await.unwrap();
    let gap = Gap {
        from: 2,
        first: 4,
        unproved: 2,
    };
    assert_eq!((inbox.gap, inbox.texts()), (Some(gap), vec!["five", "six"]));
    assert!(
        gap.sentence()
            .starts_with("messages before 4 are no longer stored")
    );
    // It is told once.
    alice.send_text(&session, "seven").await.unwrap();
    let inbox = bob.receive(&session).await.unwrap();
    assert_eq!((inbox.gap, inbox.texts()), (None, vec!["seven"]));

    // What was seen before still binds the node.
    drop(bob);
    let mut state: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let name = const_hex::encode(LogId::Session(session).to_bytes());
    let seen = state["trust"]["logs"][&name].as_str().unwrap().to_owned();
    let last = if seen.ends_with('0') { "1" } else { "0" };
    state["trust"]["logs"][&name] = json!(format!("{}{last}", &seen[..seen.len() - 1]));
    std::fs::write(&file, state.to_string()).unwrap();
    let mut bob = Account::open(proxy.client(), identity, &path)
        .await
        .unwrap();
    alice.send_text(&session, "eight").await.unwrap();
    let noticed = bob.receive(&session).await.unwrap_err();
    assert!(
        matches!(
            noticed,
            ClientError::Trust(TrustError::Rewritten { count: 7 })
        ),
        "{noticed}"
    );
}
