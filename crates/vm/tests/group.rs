//! Groups and key packages over the RPC, with real keys: one log of frames and commits, proofs,
//! waits, subscriptions, and errors that a program can act on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use session_chain::tx::group::advance::{AdvanceGroup, Commit};
use session_chain::tx::group::post::{GroupPost, PutGroupChunk};
use session_chain::tx::group::{Cosignature, CreateGroup, TopUpGroup, as_signer};
use session_chain::tx::key_package::{NewKeyPackage, PublishKeyPackages, TakeKeyPackages};
use session_chain::tx::{Kind, SigningKey as PublicKey, Tx};
use session_core::codec::{Decode, Encode};
use session_core::group::{Group, Mode, frame_id, group_salt};
use session_core::hash::sha256;
use session_core::ids::{ChunkId, DeviceId, Digest, GroupId};
use session_core::log::{Entry, LogId};
use session_core::proof::{Proof, ProvedEntries};
use session_core::record::{Chunk, RecordKey};
use session_core::submission::{Submitted, decode_reply, encode_request};
use session_crypto::{Signature, SigningKey, SigningPublicKey};
use session_vm::clock::{Clock, SystemClock};
use session_vm::node::NodeOptions;
use session_vm::rpc::error::{
    ADMIN_SIGNATURE, BELOW_FLOOR, BUDGET, EPOCH_AHEAD, LIMIT, MESSAGE_KNOWN, NO_KEY_PACKAGES,
    NOT_FOUND, PRUNED, SIGNATURE, WRONG_EPOCH,
};
use support::{PATIENCE, Person, TestClock, TestNode, http, until};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

fn public(key: &SigningKey) -> PublicKey {
    PublicKey(Box::new(*key.public_key().as_bytes()))
}

/// The keys of one epoch.
struct Epoch {
    posting: SigningKey,
    control: SigningKey,
}

impl Epoch {
    fn new() -> Self {
        Self {
            posting: SigningKey::generate().unwrap(),
            control: SigningKey::generate().unwrap(),
        }
    }
}

/// What every member knows, and the admin.
struct Members<'a> {
    node: &'a TestNode,
    clock: Arc<dyn Clock>,
    id: GroupId,
    admin: SigningKey,
    salt: AtomicU64,
}

impl<'a> Members<'a> {
    fn create(
        node: &'a TestNode,
        clock: Arc<dyn Clock>,
        sponsor: &Person,
        epoch: &Epoch,
        (mode, budget): (Mode, u64),
    ) -> Self {
        let admin = SigningKey::generate().unwrap();
        let kind = CreateGroup {
            admins: vec![public(&admin)],
            salt: group_salt(clock.wall().after_ms(60_000), &[7; 24]),
            mode,
            epoch: 1,
            posting: public(&epoch.posting),
            control: public(&epoch.control),
            budget,
            reserve: 100_000,
            admin_signature: Cosignature::blank(),
            control_signature: Cosignature::blank(),
        };
        let id = kind.group_id(&node.node.chain());
        let mut tx = sponsor.sign_at(Kind::CreateGroup(kind), clock.wall());
        let action = tx.signed_digest(&node.node.chain());
        if let Kind::CreateGroup(k) = &mut tx.kind {
            k.admin_signature = cosign(&admin, &action);
            k.control_signature = cosign(&epoch.control, &action);
        }
        let made = node.submit(&tx).unwrap();
        assert_eq!(made["outcome"]["groupId"], json!(id));
        Self {
            node,
            clock,
            id,
            admin,
            salt: AtomicU64::new(1),
        }
    }

    fn sign(&self, key: &SigningKey, kind: Kind) -> Tx {
        let mut tx = Tx {
            signer: as_signer(&self.id),
            valid_until: self.clock.wall().after_ms(1_800_000),
            salt: self.salt.fetch_add(1, Ordering::SeqCst),
            kind,
            signature: Vec::new(),
        };
        let action = tx.signed_digest(&self.node.node.chain());
        if let Kind::AdvanceGroup(AdvanceGroup {
            admin: Some((_, signature)),
            ..
        }) = &mut tx.kind
        {
            *signature = cosign(&self.admin, &action);
        }
        tx.signature = key.sign(&action).unwrap().as_bytes().to_vec();
        tx
    }

    fn post(&self, number: u64, epoch: &Epoch, frames: &[&str]) -> Tx {
        let frames = frames.iter().map(|frame| frame.as_bytes().to_vec());
        let post = GroupPost {
            epoch: number,
            frames: frames.collect(),
        };
        self.sign(&epoch.posting, Kind::GroupPost(post))
    }

    fn advance(&self, number: u64, from: &Epoch, to: &Epoch, removal: bool, admin: bool) -> Tx {
        let admin = admin.then(|| (public(&self.admin).digest(), Cosignature::blank()));
        let kind = Kind::AdvanceGroup(AdvanceGroup {
            epoch: number,
            commit: Commit::Bytes(b"a commit".to_vec()),
            posting: public(&to.posting),
            control: public(&to.control),
            removal,
            admin,
        });
        self.sign(&from.control, kind)
    }

    fn get(&self, params: &Value) -> Value {
        let mut all = json!({ "groupId": self.id });
        for (name, value) in params.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.node.call("sessionvm.GetMessages", &all).unwrap()
    }

    fn record(&self) -> Value {
        let params = json!({ "groupId": self.id });
        let mut reply = self.node.call("sessionvm.GetGroup", &params).unwrap();
        reply["group"].take()
    }
}

fn cosign(key: &SigningKey, action: &[u8; 32]) -> Cosignature {
    Cosignature(Box::new(*key.sign(action).unwrap().as_bytes()))
}

fn system() -> Arc<dyn Clock> {
    Arc::new(SystemClock::default())
}

fn proof(reply: &Value) -> Proof {
    let bytes = BASE64.decode(reply["proof"].as_str().unwrap()).unwrap();
    Proof::from_bytes(&bytes).unwrap()
}

fn proved_log(reply: &Value) -> ProvedEntries {
    proof(reply).verify().unwrap().entries.unwrap()
}

fn refusal(node: &TestNode, tx: &Tx) -> (i32, Value) {
    let refused = node.submit(tx).expect_err("it is refused");
    let code = refused["code"].as_i64().unwrap();
    (i32::try_from(code).unwrap(), refused["data"].clone())
}

#[test]
fn frames_and_commits_are_read_and_proved_as_one_log() {
    let node = TestNode::start();
    let sponsor = node.person();
    let (first, second) = (Epoch::new(), Epoch::new());
    let group = Members::create(&node, system(), &sponsor, &first, (Mode::Open, 1 << 20));
    node.submit(&group.post(1, &first, &["hello", "there"]))
        .unwrap();
    let advance = group.advance(1, &first, &second, false, true);
    node.submit(&advance).unwrap();
    node.submit(&group.post(2, &second, &["in the next epoch"]))
        .unwrap();
    let reply = group.get(&json!({ "proof": true }));
    let all = reply["messages"].as_array().unwrap();
    assert_eq!(reply["next"], 4);
    let hex = |text: &str| json!(const_hex::encode(text));
    let chain = node.node.chain();
    for (at, text, epoch, batch) in [
        (0, "hello", 1, 0),
        (1, "there", 1, 0),
        (3, "in the next epoch", 2, 3),
    ] {
        let frame = &all[at];
        assert_eq!(
            (&frame["kind"], &frame["frame"]),
            (&json!("post"), &hex(text))
        );
        assert_eq!(
            (&frame["epoch"], &frame["batch"]),
            (&json!(epoch), &json!(batch))
        );
        let body = Digest::from_bytes(sha256(text.as_bytes()));
        assert_eq!(
            frame["id"],
            json!(frame_id(&chain, &group.id, epoch, &body))
        );
        assert_eq!(frame.get("sender"), None);
    }
    let change = &all[2];
    assert_eq!(
        (&change["kind"], &change["epoch"]),
        (&json!("advance"), &json!(2))
    );
    assert_eq!(
        change["admin"],
        json!(const_hex::encode(public(&group.admin).digest().as_bytes()))
    );
    // Members see what the chain has verified: keys, commit, and every signature.
    let tx = BASE64.decode(change["tx"].as_str().unwrap()).unwrap();
    assert_eq!(Tx::from_bytes(&tx).unwrap(), advance);
    let ids = advance.ids(&chain);
    assert_eq!(change["action"], json!(ids.action));
    assert_eq!(change["txId"], json!(ids.tx));
    // A post's signature holds over the frame ids.
    let batch = &reply["batches"][0];
    assert_eq!(batch["ids"].as_array().unwrap().len(), 2);
    let signature = const_hex::decode(batch["signature"].as_str().unwrap()).unwrap();
    let signature = Signature::try_from(&signature[..]).unwrap();
    let posted = group.post(1, &first, &["hello", "there"]);
    let head = (
        session_core::time::Time::from_ms(batch["validUntil"].as_u64().unwrap()),
        batch["salt"].as_str().unwrap().parse().unwrap(),
    );
    let frames: Vec<_> = posted
        .ids(&chain)
        .messages
        .iter()
        .map(|(id, _)| *id)
        .collect();
    let action = session_chain::tx::group::post::post_action(&chain, &group.id, head, 1, &frames);
    let key: &SigningPublicKey = first.posting.public_key();
    key.verify(action.as_bytes(), &signature).unwrap();
    // The same log is proved, whole and in order.
    let log = proved_log(&reply);
    assert_eq!(
        (log.log, log.from, log.count),
        (LogId::Group(group.id), 0, 4)
    );
    let epochs = log.entries.iter().map(|entry| match entry {
        Entry::Post(post) => post.epoch,
        Entry::Advance(advance) => 100 + advance.epoch,
        Entry::Message(_) | Entry::Membership(_) => panic!("not of a group"),
    });
    assert_eq!(epochs.collect::<Vec<_>>(), [1, 1, 102, 2]);
    let range = json!({ "groupId": group.id, "from": 1, "to": 3 });
    let range = node.call("sessionvm.GetProof", &range).unwrap();
    assert_eq!(proved_log(&range).entries.len(), 2);
    let found = json!({ "messageId": all[1]["id"] });
    let found = node.call("sessionvm.GetMessage", &found).unwrap();
    assert_eq!(found["groupId"], json!(group.id));
    assert_eq!(found["message"]["frame"], hex("there"));
}

#[test]
fn a_group_shows_its_keys_and_its_record_is_proved_now_and_as_it_was() {
    let node = TestNode::start();
    let sponsor = node.person();
    let (first, second) = (Epoch::new(), Epoch::new());
    let group = Members::create(
        &node,
        system(),
        &sponsor,
        &first,
        (Mode::AdminOnly, 1 << 20),
    );
    let height = node.node.head().header.height;
    let hex = |key: &SigningKey| json!(const_hex::encode(key.public_key().as_bytes()));
    node.submit(&group.advance(1, &first, &second, true, true))
        .unwrap();
    let shown = group.record();
    assert_eq!((&shown["epoch"], &shown["floor"]), (&json!(2), &json!(2)));
    assert_eq!(shown["postingKey"], hex(&second.posting));
    assert_eq!(shown["controlKey"], hex(&second.control));
    assert_eq!(shown["adminKeys"], json!([hex(&group.admin)]));
    assert_eq!(
        (&shown["mode"], &shown["status"]),
        (&json!("admin-only"), &json!("open"))
    );
    assert_eq!(shown["past"][0]["epoch"], 1);
    assert_eq!(shown["sponsor"], json!(sponsor.id()));
    let params = json!({ "groupId": group.id, "proof": true });
    let reply = node.call("sessionvm.GetGroup", &params).unwrap();
    let proved = proof(&reply).verify().unwrap();
    assert_eq!(proved.key, RecordKey::Group(group.id));
    let record = Group::from_bytes(&proved.record.unwrap()).unwrap();
    assert_eq!(
        (record.epoch, record.posting),
        (2, public(&second.posting).digest())
    );
    let params = json!({ "groupId": group.id, "height": height });
    let before = node.call("sessionvm.GetGroup", &params).unwrap();
    assert_eq!(before["group"]["epoch"], 1);
    assert_eq!(before["group"]["controlKey"], hex(&first.control));
    // A group that is not there is proved absent.
    let nowhere = GroupId::from_bytes([9; 32]);
    let absent = json!({ "groupId": nowhere });
    let error = node.call("sessionvm.GetGroup", &absent).unwrap_err();
    assert_eq!(error["code"], json!(NOT_FOUND));
    let absent = node.call("sessionvm.GetProof", &absent).unwrap();
    assert_eq!(proof(&absent).verify().unwrap().record, None);
}

#[test]
fn whoever_waits_is_woken_by_a_frame_and_by_a_commit() {
    let node = TestNode::start();
    let sponsor = node.person();
    let (first, second) = (Epoch::new(), Epoch::new());
    let group = Members::create(&node, system(), &sponsor, &first, (Mode::Open, 1 << 20));
    let address = node.address;
    let wait = |from: u64| {
        let id = group.id;
        std::thread::spawn(move || {
            let params = json!({ "groupId": id, "from": from, "waitMs": 20_000 });
            support::call(address, "sessionvm.GetMessages", &params).unwrap()
        })
    };
    let waiting = wait(0);
    node.submit(&group.post(1, &first, &["wake up"])).unwrap();
    assert_eq!(waiting.join().unwrap()["messages"][0]["kind"], "post");
    let waiting = wait(1);
    node.submit(&group.advance(1, &first, &second, false, false))
        .unwrap();
    assert_eq!(waiting.join().unwrap()["messages"][0]["kind"], "advance");
    // A subscription has both, alone or beside everything of an account.
    let cursor = format!("group:{}", group.id);
    for wish in [
        json!({ "groupId": group.id, "from": 0 }),
        json!({ "account": sponsor.id(), "from": { cursor: 0 } }),
    ] {
        let frame: Value = node.runtime.block_on(async {
            let url = format!("ws://{address}/ws");
            let (mut socket, _) = connect_async(url).await.unwrap();
            socket.send(Message::text(wish.to_string())).await.unwrap();
            let frame = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
            let text = frame.unwrap().unwrap().into_text().unwrap();
            serde_json::from_str(text.as_str()).unwrap()
        });
        assert_eq!(frame["groupId"], json!(group.id), "{frame}");
        let kinds: Vec<_> = frame["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| &m["kind"])
            .collect();
        assert_eq!(kinds, [&json!("post"), &json!("advance")]);
        assert_eq!(frame["next"], 2);
    }
}

#[test]
fn refusals_tell_a_program_what_to_do() {
    let node = TestNode::start();
    let sponsor = node.person();
    let epochs: Vec<Epoch> = (0..4).map(|_| Epoch::new()).collect();
    let group = Members::create(
        &node,
        system(),
        &sponsor,
        &epochs[1],
        (Mode::AdminOnly, 60_000),
    );
    let post = group.post(1, &epochs[1], &["once"]);
    node.submit(&post).unwrap();
    // A retry gets its first answer; the same frame in another post is named.
    let again = node.submit(&post).unwrap();
    assert_eq!(
        (&again["outcome"]["sequence"], &again["repeated"]),
        (&json!(0), &json!(true))
    );
    let other = group.post(1, &epochs[1], &["once"]);
    assert_eq!(
        refusal(&node, &other),
        (MESSAGE_KNOWN, json!({ "sequence": 0 }))
    );
    let ahead = group.post(2, &epochs[2], &["too early"]);
    assert_eq!(refusal(&node, &ahead), (EPOCH_AHEAD, json!({ "epoch": 1 })));
    let alone = group.advance(1, &epochs[1], &epochs[2], false, false);
    assert_eq!(refusal(&node, &alone).0, ADMIN_SIGNATURE);
    let removal = group.advance(1, &epochs[1], &epochs[2], true, true);
    node.submit(&removal).unwrap();
    let late = group.post(1, &epochs[1], &["too late"]);
    assert_eq!(refusal(&node, &late), (BELOW_FLOOR, json!({ "floor": 2 })));
    let loser = group.advance(1, &epochs[1], &epochs[3], true, true);
    assert_eq!(refusal(&node, &loser), (WRONG_EPOCH, json!({ "epoch": 2 })));
    // Also of what has been refused since, a retry gets its first answer.
    let again = node.submit(&post).unwrap();
    assert_eq!(again["repeated"], true);
    // As bytes the codes say the same.
    let octets = [("Content-Type", "application/octet-stream")];
    let body = encode_request(&[late.to_bytes(), loser.to_bytes()]);
    let reply = http(node.address, "POST", "/submit", &octets, Some(&body));
    let codes: Vec<u32> = decode_reply(&reply.body)
        .unwrap()
        .iter()
        .map(|answer| match answer {
            Submitted::Refused { code, .. } => *code,
            Submitted::Accepted { .. } | Submitted::Pending { .. } => panic!("{answer:?}"),
        })
        .collect();
    assert_eq!(codes, [BELOW_FLOOR, WRONG_EPOCH].map(i32::unsigned_abs));
    let mut sent = 0;
    let refused = loop {
        let frame = format!("number {sent}");
        match node.submit(&group.post(2, &epochs[2], &[&frame])) {
            Ok(_) => sent += 1,
            Err(refused) => break refused,
        }
        assert!(sent < 30, "60 kB are used up before");
    };
    assert_eq!(refused["code"], json!(BUDGET));
    let top_up = Kind::TopUpGroup(TopUpGroup {
        group: group.id,
        budget: 20_000,
        reserve: 0,
    });
    node.submit(&sponsor.sign(top_up)).unwrap();
    node.submit(&group.post(2, &epochs[2], &["paid for"]))
        .unwrap();
    let gone = group.get(&json!({ "from": 1 + sent }));
    assert_eq!(gone["messages"].as_array().unwrap().len(), 2);
}

#[test]
fn what_no_member_signed_does_not_wait_with_anybody() {
    let node = TestNode::start();
    let sponsor = node.person();
    let epoch = Epoch::new();
    let group = Members::create(&node, system(), &sponsor, &epoch, (Mode::Open, 1 << 20));
    let stranger = Epoch::new();
    let forged = group.post(1, &stranger, &["forged"]);
    assert_eq!(refusal(&node, &forged).0, SIGNATURE);
    let mut unsigned = group.post(1, &epoch, &["unsigned"]);
    unsigned.signature.clear();
    assert_eq!(refusal(&node, &unsigned).0, SIGNATURE);
    let mut bent = group.post(1, &epoch, &["bent"]);
    bent.signature[17] ^= 1;
    assert_eq!(refusal(&node, &bent).0, SIGNATURE);
    let advance = group.advance(1, &stranger, &stranger, true, true);
    assert_eq!(refusal(&node, &advance).0, SIGNATURE);
    let mut by_nobody = group.advance(1, &epoch, &stranger, true, true);
    if let Kind::AdvanceGroup(k) = &mut by_nobody.kind {
        k.admin = Some((public(&group.admin).digest(), Cosignature::blank()));
    }
    assert_eq!(refusal(&node, &by_nobody).0, SIGNATURE);
    let mut nowhere = group.post(1, &epoch, &["nowhere"]);
    nowhere.signer = as_signer(&GroupId::from_bytes([1; 32]));
    assert_eq!(refusal(&node, &nowhere).0, NOT_FOUND);
    let taken = CreateGroup {
        admins: vec![public(&group.admin)],
        salt: group_salt(system().wall().after_ms(60_000), &[8; 24]),
        mode: Mode::Open,
        epoch: 1,
        posting: public(&epoch.posting),
        control: public(&epoch.control),
        budget: 1,
        reserve: 1,
        admin_signature: Cosignature::blank(),
        control_signature: Cosignature::blank(),
    };
    let taken = sponsor.sign(Kind::CreateGroup(taken));
    assert_eq!(refusal(&node, &taken).0, SIGNATURE);
    assert_eq!(group.record()["entries"], 0);
    let health = node.call("sessionvm.Health", &json!({})).unwrap();
    assert_eq!(health["pending"], 0);
    let metrics = http(node.address, "GET", "/metrics", &[], None).text();
    assert!(metrics.contains("\nsessionvm_groups 1\n"), "{metrics}");
}

#[test]
fn a_member_puts_chunks_at_the_groups_cost() {
    let node = TestNode::start();
    let sponsor = node.person();
    let epoch = Epoch::new();
    let group = Members::create(&node, system(), &sponsor, &epoch, (Mode::Open, 1 << 20));
    let bytes = vec![5; 60_000];
    let put = PutGroupChunk { epoch: 1, bytes };
    let tx = group.sign(&epoch.posting, Kind::PutGroupChunk(put));
    let made = node.submit(&tx).unwrap();
    let chunk = made["outcome"]["chunkId"].clone();
    let read = node
        .call("sessionvm.GetChunk", &json!({ "chunkId": chunk }))
        .unwrap();
    assert_eq!(
        BASE64.decode(read["bytes"].as_str().unwrap()).unwrap(),
        vec![5; 60_000]
    );
    assert_eq!(read["owner"], json!(group.id));
    // That it is kept, and until when, is proved; so is that another one is not there.
    let prove = |id: ChunkId| {
        let params = json!({ "chunkId": id });
        let reply = node.call("sessionvm.GetProof", &params).unwrap();
        let proved = proof(&reply).verify().unwrap();
        assert_eq!(proved.key, RecordKey::Chunk(id));
        let record = proved.record;
        record.map(|record| Chunk::from_bytes(&record).unwrap())
    };
    let kept = prove(Chunk::id(&[5; 60_000])).unwrap();
    assert_eq!(json!(kept.expires.to_string()), read["expires"]);
    assert_eq!(kept.len, 60_000);
    assert_eq!(prove(Chunk::id(b"another")), None);
    let left = group.record()["budget"].as_u64().unwrap();
    assert!(left < (1 << 20) - 60_000, "{left}");
}

#[test]
fn key_packages_are_counted_taken_and_fetched() {
    let node = TestNode::start();
    let (owner, taker, other) = (node.person(), node.person(), node.person());
    let expires = SystemClock::default().wall().after_ms(86_400_000);
    let new = |text: &str| NewKeyPackage {
        expires,
        bytes: text.as_bytes().to_vec(),
    };
    let device = DeviceId::from_bytes([4; 32]);
    let publish = Kind::PublishKeyPackages(PublishKeyPackages {
        device,
        replace: false,
        one_time: vec![new("once")],
        last_resort: Some(new("again and again")),
    });
    node.submit(&owner.sign(publish)).unwrap();
    let account = json!({ "account": owner.id() });
    let left = node.call("sessionvm.GetKeyPackages", &account).unwrap();
    assert_eq!(left["devices"][0]["device"], json!(device));
    assert_eq!(
        (
            &left["devices"][0]["oneTime"],
            &left["devices"][0]["lastResort"]
        ),
        (&json!(1), &json!(true))
    );
    let take = || Kind::TakeKeyPackages(TakeKeyPackages { target: owner.id() });
    // Within a day of it, taking again brings the one of last resort, which uses nothing up.
    for (by, text, last) in [
        (&taker, "once", false),
        (&taker, "again and again", true),
        (&other, "again and again", true),
    ] {
        let made = node.submit(&by.sign(take())).unwrap();
        let counts = json!({ "oneTime": u8::from(!last), "lastResort": u8::from(last) });
        assert_eq!(made["outcome"], counts);
        let params = json!({ "account": owner.id(), "taker": by.id(), "proof": true });
        let taken = node.call("sessionvm.GetTakenKeyPackages", &params).unwrap();
        let package = &taken["packages"][0];
        assert_eq!(
            BASE64.decode(package["bytes"].as_str().unwrap()).unwrap(),
            text.as_bytes()
        );
        assert_eq!(
            (&package["device"], &package["lastResort"]),
            (&json!(device), &json!(last))
        );
        let proved = proof(&taken).verify().unwrap();
        assert_eq!(proved.key, RecordKey::TakenKeyPackages(by.id(), owner.id()));
        assert!(proved.record.is_some());
    }
    // What it would bring is what they have.
    for by in [&taker, &other] {
        let (code, data) = refusal(&node, &by.sign(take()));
        assert_eq!(code, LIMIT);
        assert!(data["retryMs"].as_u64().unwrap() > 80_000_000);
    }
    let left = node.call("sessionvm.GetKeyPackages", &account).unwrap();
    assert_eq!(
        (
            &left["devices"][0]["oneTime"],
            &left["devices"][0]["lastResort"]
        ),
        (&json!(0), &json!(true))
    );
    let nothing = Kind::TakeKeyPackages(TakeKeyPackages { target: taker.id() });
    assert_eq!(refusal(&node, &owner.sign(nothing)).0, NO_KEY_PACKAGES);
    let nobody = json!({ "account": taker.id() });
    let nobody = node.call("sessionvm.GetKeyPackages", &nobody).unwrap();
    assert_eq!(nobody["devices"], json!([]));
}

#[test]
fn old_bodies_go_and_then_old_leaves_a_tile_at_a_time() {
    let clock = TestClock::new();
    let config = json!({ "admission": "signed", "retentionDays": 1 });
    let genesis = json!({ "config": config, "nonce": "00" }).to_string();
    let node = TestNode::with(NodeOptions {
        genesis: Some(genesis.into_bytes()),
        clock: clock.clone(),
        ..NodeOptions::default()
    });
    let sponsor = Person::new(node.node.chain());
    let register = sponsor.registration();
    node.submit(&register).unwrap();
    let epoch = Epoch::new();
    let group = Members::create(
        &node,
        clock.clone(),
        &sponsor,
        &epoch,
        (Mode::Open, 1 << 22),
    );
    let fill = |posts: std::ops::Range<u32>| {
        for post in posts {
            let frames: Vec<String> = (0..32).map(|i| format!("{post} {i}")).collect();
            let frames: Vec<&str> = frames.iter().map(String::as_str).collect();
            node.submit(&group.post(1, &epoch, &frames)).unwrap();
        }
    };
    fill(0..9);
    clock.pass(86_400_000 + 10_000);
    let read = |from: u64| {
        let params = json!({ "groupId": group.id, "from": from, "limit": 9, "proof": true });
        node.call("sessionvm.GetMessages", &params)
    };
    let gone = until("a tile to go", || read(0).err());
    assert_eq!(
        (&gone["code"], &gone["data"]["first"]),
        (&json!(PRUNED), &json!(256))
    );
    // Leaves of a tile that is not full stay, and are proved; their bodies go.
    let kept = until("bodies to go", || {
        let kept = read(256).unwrap();
        (kept["messages"][0]["pruned"] == json!(true)).then_some(kept)
    });
    assert_eq!(kept["messages"][0]["frame"], "");
    let proved = proved_log(&kept);
    assert_eq!(
        (proved.from, proved.count, proved.entries.len()),
        (256, 288, 9)
    );
    fill(9..10);
    assert_eq!(read(288).unwrap()["messages"][0]["sequence"], 288);
}
