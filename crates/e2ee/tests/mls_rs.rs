//! A second implementation agrees: `mls-rs` joins our groups, commits in them, invites us into them
//! and removes us from them, and after each step both have the same secrets. From these a second
//! implementation of the safe exporter, of chat frames and of signatures over them, none of which
//! `mls-rs` has, reads what our devices say and says things that they show.
//!
//! Its client has our credential and speaks for a device of an account. PrivateMessages of MLS, which
//! our conversations do not use, are exchanged in `src/provider/private_messages.rs`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

#[path = "mls_rs/exporter_tree.rs"]
mod exporter_tree;
#[path = "mls_rs/frames.rs"]
mod frames;
#[path = "mls_rs/provider.rs"]
mod provider;

use frames::{Batch, Frames, Opened, SIGNED_BATCH, Said, TEXT, frame_hash, pad, unpad};
use mls_rs::client_builder::MlsConfig;
use mls_rs::group::ExportedTree;
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::{Client as MlsClient, ExtensionList, Group, MlsMessage};
use mls_rs_core::crypto::{CipherSuiteProvider, CryptoProvider, SignatureSecretKey};
use mls_rs_core::extension::ExtensionType;
use mls_rs_core::identity::{Credential, CustomCredential, SigningIdentity};
use provider::{AnyDevice, CREDENTIAL, Provider, SUITE};
use session_core::codec::Encode;
use session_core::ids::GroupId;
use session_crypto::{Identity, Secret, SigningKey};
use session_e2ee::{
    AcceptedCommit, Authenticity, ChainKeys, DeviceClaim, DeviceId, EventKind, GroupStatus,
    Invitation, Invitee, LogEntry, MemberDevice, OutgoingKind, Policy, Role, Suite, commit_hash,
};
use std::time::Duration;
use world::chain::EntryKind;
use world::client::identities;
use world::{CHAIN, Chain, Client};

/// The component that chat roots are exported for.
const CHAT_COMPONENT: u16 = 0x8001;

/// A device of `account`, played by `mls-rs`.
fn mls_rs_client(account: &Identity, device: u8) -> (MlsClient<impl MlsConfig>, MemberDevice) {
    let (client, member, _) = mls_rs_device(account, device);
    (client, member)
}

/// The same, with what it needs beside MLS.
fn mls_rs_device(
    account: &Identity,
    device: u8,
) -> (MlsClient<impl MlsConfig>, MemberDevice, Keys) {
    let provider = Provider::new();
    let suite = provider.cipher_suite_provider(SUITE).unwrap();
    let (secret, public) = suite.signature_key_generate().unwrap();
    let member = MemberDevice {
        account: account.account_id(),
        device: DeviceId::from_bytes([device; 16]),
    };
    let claim = DeviceClaim {
        account: member.account,
        device: member.device,
        not_before_ms: 0,
        serial: 0,
    };
    let certificate = claim
        .certify(account.signing_key(), public.as_bytes())
        .unwrap();
    let credential = CustomCredential::new(CREDENTIAL, certificate.to_bytes());
    let identity = SigningIdentity::new(Credential::Custom(credential), public);
    let rules = DefaultMlsRules::new()
        .with_commit_options(CommitOptions::new().with_ratchet_tree_extension(false))
        .with_encryption_options(EncryptionOptions::new(
            true,
            mls_rs::client_builder::PaddingMode::None,
        ));
    let client = MlsClient::builder()
        .crypto_provider(provider.clone())
        .identity_provider(AnyDevice)
        .mls_rules(rules)
        .extension_type(ExtensionType::new(0xf0e3))
        // The one lifetime that our groups take has no end.
        .key_package_lifetime(Duration::from_secs(u64::MAX))
        .signing_identity(identity, secret.clone(), SUITE)
        .build();
    let keys = Keys {
        provider,
        leaf: secret,
    };
    (client, member, keys)
}

/// What chat frames are made with: where the epochs' secrets are seen, and the leaf's key.
struct Keys {
    provider: Provider,
    leaf: SignatureSecretKey,
}

/// A device in a group, played by `mls-rs` and the second implementation of frames.
struct Theirs<C: MlsConfig> {
    group: Group<C>,
    keys: Keys,
    frames: Frames,
    /// The next place in its own chain.
    generation: u32,
    /// The next thing that it says.
    sequence: u64,
}

impl<C: MlsConfig> Theirs<C> {
    fn new(group: Group<C>, keys: Keys) -> Self {
        let frames = frames_of(&group, &keys);
        Self {
            group,
            keys,
            frames,
            generation: 0,
            sequence: 1,
        }
    }

    fn leaf(&self) -> u32 {
        self.group.current_member_index()
    }

    /// Takes the keys of the group's current epoch.
    fn enter_epoch(&mut self) {
        self.frames = frames_of(&self.group, &self.keys);
        self.generation = 0;
    }

    /// What the frames of the log from `from` on say, of the current epoch.
    fn read(&self, group: GroupId, chain: &Chain, from: usize) -> Vec<(Opened, Said)> {
        let frames = chain.log(group).entries[from..].iter();
        let frames = frames.filter_map(|entry| match &entry.kind {
            EntryKind::Frame { frame, .. } => self.frames.open(frame),
            _ => None,
        });
        frames
            .map(|opened| {
                let said = Said::read(&unpad(&opened.padded));
                (opened, said)
            })
            .collect()
    }

    /// Seals something in its own chain. Answers the frame and its generation.
    fn seal(&mut self, kind: u16, fields: Vec<u8>) -> (u32, Vec<u8>) {
        let said = Said {
            sequence: self.sequence,
            kind,
            fields,
        };
        let (leaf, generation) = (self.leaf(), self.generation);
        let padded = pad(&said.to_bytes(1_800_000_000_000));
        let frame = self.frames.seal(leaf, generation, [7; 4], &padded);
        self.generation += 1;
        self.sequence += 1;
        (generation, frame)
    }

    fn say(&mut self, text: &str) -> (u32, Vec<u8>) {
        self.seal(TEXT, Said::text(0, text).fields)
    }

    /// Signs frames of its own with its leaf's key, and seals the signature.
    fn sign(&mut self, signed: &[&(u32, Vec<u8>)], spoil: bool) -> Vec<u8> {
        let suite = self.keys.provider.cipher_suite_provider(SUITE).unwrap();
        let mut batch = Batch {
            epoch: self.frames.epoch,
            frames: signed
                .iter()
                .map(|(generation, frame)| (*generation, frame_hash(frame)))
                .collect(),
            signature: Vec::new(),
        };
        let signed = batch.signed(self.group.group_id(), self.leaf());
        batch.signature = suite.sign(&self.keys.leaf, &signed).unwrap();
        if spoil {
            batch.signature[100] ^= 1;
        }
        self.seal(SIGNED_BATCH, batch.to_fields()).1
    }

    /// Whether a batch is signed by the key of its leaf.
    fn verify(&self, leaf: u32, batch: &Batch) -> bool {
        let suite = self.keys.provider.cipher_suite_provider(SUITE).unwrap();
        let member = self.group.member_at_index(leaf).unwrap();
        let key = &member.signing_identity.signature_key;
        let signed = batch.signed(self.group.group_id(), leaf);
        suite.verify(key, &batch.signature, &signed).is_ok()
    }
}

fn frames_of<C: MlsConfig>(group: &Group<C>, keys: &Keys) -> Frames {
    let root = exporter_tree::safe_export(&keys.provider, group, CHAT_COMPONENT);
    let leaves = group.roster().members_iter().map(|member| member.index);
    Frames::new(&root, group.current_epoch(), group.group_id(), leaves)
}

/// The chain's keys of an epoch, as `mls-rs` exports them.
fn keys_of<C: MlsConfig>(group: &Group<C>) -> ChainKeys {
    let key = |label: &[u8]| {
        let secret = group.export_secret(label, group.group_id(), 32).unwrap();
        let seed: [u8; 32] = secret.as_bytes().try_into().unwrap();
        SigningKey::from_seed(&Secret::new(seed))
            .unwrap()
            .public_key()
            .clone()
    };
    ChainKeys {
        posting: key(b"lux posting"),
        control: key(b"lux control"),
    }
}

fn context(group: GroupId, chain: &Chain) -> Vec<u8> {
    let log = chain.log(group);
    let last = log.facts[&log.epoch].commit_hash;
    [
        &CHAIN.as_bytes()[..],
        &group.as_bytes()[..],
        &last.as_bytes()[..],
    ]
    .concat()
}

/// Lets a client of ours follow a commit that `mls-rs` has made and the chain accepted.
fn follow(client: &mut Client, group: GroupId, chain: &Chain) {
    client.follow(group, chain, usize::MAX).unwrap();
    client.show().unwrap();
    assert!(client.halted().is_empty(), "{:?}", client.halted());
}

#[test]
fn mls_rs_joins_commits_invites_and_removes() {
    let mut chain = Chain::new();
    chain.strict = true;
    let ids = identities(4, &mut chain);
    let mut ours = Client::new("ours", &ids[0], Suite::PostQuantum, 1, &chain);
    let (theirs, their_member) = mls_rs_client(&ids[1], 7);
    let package = theirs
        .generate_key_package_message(
            ExtensionList::default(),
            ExtensionList::default(),
            Some(0_u64.into()),
        )
        .unwrap();
    let invitee = Invitee {
        key_package: package.to_bytes().unwrap(),
        expires_ms: u64::MAX,
    };
    let mut policy = Policy::new(CHAIN, ids[0].account_id());
    policy.roles.insert(ids[1].account_id(), Role::Owner);
    let group = ours.create(policy, &[invitee], &chain);
    ours.flush(&mut chain).unwrap();
    let invitation = ours.post.pop().unwrap();
    assert_eq!(invitation.to, [their_member]);

    // It joins, and has the keys that the chain has.
    let welcome = MlsMessage::from_bytes(&invitation.welcome).unwrap();
    let tree = ExportedTree::from_bytes(&invitation.tree).unwrap();
    let (mut joined, _) = theirs.join_group(Some(tree), &welcome, None).unwrap();
    assert_eq!(joined.group_id(), group.as_bytes());
    assert_eq!(keys_of(&joined), chain.log(group).keys[&1]);

    // It rotates, and ours follows.
    let commit = joined
        .commit_builder()
        .authenticated_data(context(group, &chain))
        .build()
        .unwrap();
    joined.apply_pending_commit().unwrap();
    let bytes = commit.commit_message().to_bytes().unwrap();
    chain.advance(group, &bytes, &keys_of(&joined), false);
    follow(&mut ours, group, &chain);
    assert_eq!(ours.device().epoch(group).unwrap(), 2);

    // Ours rotates, and it follows.
    ours.dev().rotate(group, &chain.directory()).unwrap();
    ours.flush(&mut chain).unwrap();
    follow(&mut ours, group, &chain);
    let EntryKind::Commit { commit, .. } = &chain.log(group).entries[1].kind else {
        panic!("a commit");
    };
    joined
        .process_incoming_message(MlsMessage::from_bytes(commit).unwrap())
        .unwrap();
    assert_eq!(keys_of(&joined), chain.log(group).keys[&3]);

    // It invites a device of ours.
    let mut third = Client::new("third", &ids[2], Suite::PostQuantum, 3, &chain);
    let package = third.invitee(&chain);
    let commit = joined
        .commit_builder()
        .add_member(MlsMessage::from_bytes(&package.key_package).unwrap())
        .unwrap()
        .authenticated_data(context(group, &chain))
        .build()
        .unwrap();
    joined.apply_pending_commit().unwrap();
    let bytes = commit.commit_message().to_bytes().unwrap();
    chain.advance(group, &bytes, &keys_of(&joined), false);
    follow(&mut ours, group, &chain);
    let invitation = Invitation {
        to: vec![third.member()],
        predecessor: None,
        epoch: 4,
        welcome: commit.welcome_messages()[0].to_bytes().unwrap(),
        tree: joined.export_tree().to_bytes().unwrap(),
        tree_secret: Secret::new([7; 32]),
    };
    third.join_with(&invitation, &chain).unwrap();
    let number = |client: &Client| client.device().safety_number(group).unwrap();
    assert_eq!(number(&ours), number(&third));
    ours.say(group, "welcome", &chain).unwrap();
    ours.flush(&mut chain).unwrap();
    third.sync(&chain).unwrap();
    ours.sync(&chain).unwrap();
    assert_eq!(third.texts(group), ["welcome"]);

    // It removes it again.
    let leaf = third.device().members(group).unwrap();
    let leaf = leaf
        .iter()
        .find(|member| member.member == third.member())
        .unwrap()
        .leaf;
    let commit = joined
        .commit_builder()
        .remove_member(leaf)
        .unwrap()
        .authenticated_data(context(group, &chain))
        .build()
        .unwrap();
    joined.apply_pending_commit().unwrap();
    let bytes = commit.commit_message().to_bytes().unwrap();
    chain.advance(group, &bytes, &keys_of(&joined), true);
    follow(&mut ours, group, &chain);
    follow(&mut third, group, &chain);
    assert_eq!(third.device().status(group).unwrap(), GroupStatus::Removed);
    assert_eq!(ours.device().epoch(group).unwrap(), 5);

    // Ours removes it, and it knows.
    ours.dev()
        .remove(group, &[their_member], false, &chain.directory())
        .unwrap();
    let outbox = ours.device().outbox().unwrap();
    let OutgoingKind::Commit(advance) = &outbox[0].kind else {
        panic!("a commit");
    };
    let outcome = joined
        .process_incoming_message(MlsMessage::from_bytes(&advance.commit).unwrap())
        .unwrap();
    let mls_rs::group::ReceivedMessage::Commit(outcome) = outcome else {
        panic!("a commit");
    };
    assert!(matches!(
        outcome.effect,
        mls_rs::group::CommitEffect::Removed { .. }
    ));
    ours.flush(&mut chain).unwrap();
    follow(&mut ours, group, &chain);
    assert_eq!(ours.device().members(group).unwrap().len(), 1);
}

/// A commit without our context, or by somebody whose key packages end, is refused on our side.
#[test]
fn what_mls_rs_may_and_we_do_not_is_refused() {
    let mut chain = Chain::new();
    let ids = identities(2, &mut chain);
    let mut ours = Client::new("ours", &ids[0], Suite::PostQuantum, 1, &chain);
    let (theirs, _) = mls_rs_client(&ids[1], 7);
    let extensions = ExtensionList::default;
    let ends = MlsClient::to_builder(&theirs, Some(0_u64.into()))
        .key_package_lifetime(Duration::from_secs(3_600))
        .build()
        .generate_key_package_message(extensions(), extensions(), None)
        .unwrap();
    let invitee = |package: &MlsMessage| Invitee {
        key_package: package.to_bytes().unwrap(),
        expires_ms: u64::MAX,
    };
    let policy = Policy::between(CHAIN, ids[0].account_id(), ids[1].account_id());
    let now = chain.now_ms;
    let refused =
        ours.dev()
            .create_group(policy.clone(), &[invitee(&ends)], &chain.directory(), now);
    assert!(
        matches!(
            refused,
            Err(session_e2ee::E2eeError::Refused(
                session_e2ee::Refusal::Lifetime
            ))
        ),
        "{refused:?}"
    );
    let package = theirs
        .generate_key_package_message(extensions(), extensions(), Some(0_u64.into()))
        .unwrap();
    let group = ours.create(policy, &[invitee(&package)], &chain);
    ours.flush(&mut chain).unwrap();
    let invitation = ours.post.pop().unwrap();
    let welcome = MlsMessage::from_bytes(&invitation.welcome).unwrap();
    let tree = ExportedTree::from_bytes(&invitation.tree).unwrap();
    let (mut joined, _) = theirs.join_group(Some(tree), &welcome, None).unwrap();
    let commit = joined.commit(Vec::new()).unwrap();
    joined.apply_pending_commit().unwrap();
    let bytes = commit.commit_message().to_bytes().unwrap();
    let _ = commit_hash(&bytes);
    let keys = keys_of(&joined);
    let place = session_e2ee::LogPlace {
        position: 0,
        time_ms: now,
    };
    let entry = LogEntry::Commit(AcceptedCommit {
        epoch: 2,
        commit: &bytes,
        keys: &keys,
        removes: false,
    });
    ours.dev()
        .receive(group, place, entry, &chain.directory())
        .unwrap();
    ours.show().unwrap();
    assert!(matches!(
        ours.halted()[0].kind,
        session_e2ee::EventKind::Halted {
            reason: session_e2ee::Unusable::WrongContext,
            ..
        }
    ));
}

/// The last commit of a group's log.
fn last_commit(group: GroupId, chain: &Chain) -> MlsMessage {
    let commits = chain.log(group).entries.iter().rev();
    let mut commits = commits.filter_map(|entry| match &entry.kind {
        EntryKind::Commit { commit, .. } => Some(MlsMessage::from_bytes(commit).unwrap()),
        _ => None,
    });
    commits.next().expect("a commit")
}

/// Ours makes a group of itself, a device played by `mls-rs`, and others of ours.
fn together<C: MlsConfig>(
    ours: &mut Client,
    (theirs, member, keys): (MlsClient<C>, MemberDevice, Keys),
    others: &mut [Client],
    policy: Policy,
    chain: &mut Chain,
) -> (GroupId, Theirs<impl MlsConfig + use<C>>) {
    let extensions = ExtensionList::default;
    let package = theirs
        .generate_key_package_message(extensions(), extensions(), Some(0_u64.into()))
        .unwrap();
    let mut invitees = vec![Invitee {
        key_package: package.to_bytes().unwrap(),
        expires_ms: u64::MAX,
    }];
    invitees.extend(others.iter_mut().map(|other| other.invitee(chain)));
    let group = ours.create(policy, &invitees, chain);
    ours.flush(chain).unwrap();
    ours.sync(chain).unwrap();
    let invitation = ours.post.pop().unwrap();
    assert!(invitation.to.contains(&member));
    for other in others {
        other.join_with(&invitation, chain).unwrap();
    }
    let welcome = MlsMessage::from_bytes(&invitation.welcome).unwrap();
    let tree = ExportedTree::from_bytes(&invitation.tree).unwrap();
    let (joined, _) = theirs.join_group(Some(tree), &welcome, None).unwrap();
    (group, Theirs::new(joined, keys))
}

#[test]
fn between_two_mls_rs_reads_what_we_say_and_says_what_we_read_in_every_epoch() {
    let mut chain = Chain::new();
    chain.strict = true;
    let ids = identities(2, &mut chain);
    let mut ours = Client::new("ours", &ids[0], Suite::PostQuantum, 1, &chain);
    let device = mls_rs_device(&ids[1], 7);
    let their_member = device.1;
    let policy = Policy::between(CHAIN, ids[0].account_id(), ids[1].account_id());
    let (group, mut theirs) = together(&mut ours, device, &mut [], policy, &mut chain);
    let mut said = Vec::new();
    for epoch in 1..=4_u64 {
        let before = chain.log(group).entries.len();
        for words in ["one", "", &"long ".repeat(200)] {
            ours.say(group, words, &chain).unwrap();
            ours.flush(&mut chain).unwrap();
        }
        let heard = theirs.read(group, &chain, before);
        let words: Vec<&str> = heard.iter().map(|(_, said)| said.words()).collect();
        assert_eq!(words, ["one", "", &"long ".repeat(200)]);
        let places = heard.iter().map(|(at, _)| (at.leaf, at.generation));
        assert_eq!(places.collect::<Vec<_>>(), [(0, 0), (0, 1), (0, 2)]);
        for words in [
            "from the other side".to_owned(),
            format!("in epoch {epoch}"),
        ] {
            let (_, frame) = theirs.say(&words);
            chain.post(group, epoch, frame);
            said.push(words);
        }
        ours.sync(&chain).unwrap();
        assert_eq!(ours.texts(group), said);
        // A changed frame opens nowhere.
        let (_, mut changed) = theirs.say("changed");
        let last = changed.len() - 1;
        changed[last] ^= 1;
        chain.post(group, epoch, changed);
        ours.sync(&chain).unwrap();
        assert_eq!(ours.texts(group), said);
        // The next epoch, by each side in turn.
        if epoch % 2 == 1 {
            ours.dev().rotate(group, &chain.directory()).unwrap();
            ours.flush(&mut chain).unwrap();
            follow(&mut ours, group, &chain);
            let commit = last_commit(group, &chain);
            theirs.group.process_incoming_message(commit).unwrap();
        } else {
            let commit = theirs
                .group
                .commit_builder()
                .authenticated_data(context(group, &chain))
                .build()
                .unwrap();
            theirs.group.apply_pending_commit().unwrap();
            let bytes = commit.commit_message().to_bytes().unwrap();
            chain.advance(group, &bytes, &keys_of(&theirs.group), false);
            follow(&mut ours, group, &chain);
        }
        // Both seeds of the new epoch are the chain's.
        assert_eq!(keys_of(&theirs.group), chain.log(group).keys[&(epoch + 1)]);
        theirs.enter_epoch();
    }
    let messages = ours.messages(group);
    let deniable = |message: &&session_e2ee::Message| {
        message.from == their_member && message.authenticity == Authenticity::Deniable
    };
    assert_eq!(messages.iter().filter(|m| deniable(m)).count(), said.len());
    let unreadable = ours.moments.iter();
    let unreadable = unreadable.filter(|e| matches!(e.kind, EventKind::Unreadable { .. }));
    assert_eq!(unreadable.count(), 4);
}

#[test]
fn among_three_each_side_verifies_what_the_others_leaf_has_signed() {
    let mut chain = Chain::new();
    chain.strict = true;
    let ids = identities(3, &mut chain);
    let mut ours = Client::new("ours", &ids[0], Suite::PostQuantum, 1, &chain);
    let mut others = [Client::new("third", &ids[2], Suite::PostQuantum, 3, &chain)];
    let device = mls_rs_device(&ids[1], 7);
    let policy = Policy::new(CHAIN, ids[0].account_id());
    let (group, mut theirs) = together(&mut ours, device, &mut others, policy, &mut chain);
    // Ours: the first of an epoch is signed at once, the next two together after five seconds.
    ours.say(group, "first", &chain).unwrap();
    ours.flush(&mut chain).unwrap();
    for words in ["second", "third"] {
        ours.say(group, words, &chain).unwrap();
        ours.flush(&mut chain).unwrap();
    }
    let later = chain.tick(5_000);
    ours.dev().tick(later, &chain.directory()).unwrap();
    ours.flush(&mut chain).unwrap();
    let heard = theirs.read(group, &chain, 0);
    let kinds: Vec<u16> = heard.iter().map(|(_, said)| said.kind).collect();
    assert_eq!(kinds, [TEXT, SIGNED_BATCH, TEXT, TEXT, SIGNED_BATCH]);
    let mut covered = Vec::new();
    for (at, said) in heard.iter().filter(|(_, said)| said.kind == SIGNED_BATCH) {
        let mut batch = Batch::read(&said.fields);
        assert!(theirs.verify(at.leaf, &batch));
        assert!(!theirs.verify(theirs.leaf(), &batch));
        covered.extend(batch.frames.iter().cloned());
        batch.frames[0].1[0] ^= 1;
        assert!(!theirs.verify(at.leaf, &batch));
    }
    let frames = chain
        .log(group)
        .entries
        .iter()
        .map(|entry| match &entry.kind {
            EntryKind::Frame { frame, .. } => frame.clone(),
            _ => panic!("a frame"),
        });
    let frames: Vec<Vec<u8>> = frames.collect();
    let expected = [0, 2, 3].map(|n: u32| (n, frame_hash(&frames[n as usize])));
    assert_eq!(covered, expected);
    // Theirs: from a member, then verified; a spoiled signature proves nothing.
    let said = [
        theirs.say("signed"),
        theirs.say("so too"),
        theirs.say("not signed"),
    ];
    for (_, frame) in &said {
        chain.post(group, 1, frame.clone());
    }
    for client in [&mut ours, &mut others[0]] {
        client.sync(&chain).unwrap();
        let heard = client.messages(group);
        let from_member = |m: &&session_e2ee::Message| m.authenticity == Authenticity::FromMember;
        assert_eq!(
            heard
                .iter()
                .rev()
                .take(3)
                .filter(|m| from_member(m))
                .count(),
            3
        );
    }
    let spoiled = theirs.sign(&[&said[2]], true);
    let good = theirs.sign(&[&said[0], &said[1]], false);
    chain.post(group, 1, spoiled);
    chain.post(group, 1, good);
    for client in [&mut ours, &mut others[0]] {
        client.sync(&chain).unwrap();
        let verified = client.shown.iter().filter_map(|event| match &event.kind {
            EventKind::Verified(names) => Some(names.clone()),
            _ => None,
        });
        let verified: Vec<u64> = verified
            .flatten()
            .filter(|name| name.device == DeviceId::from_bytes([7; 16]))
            .map(|name| name.sequence)
            .collect();
        assert_eq!(verified, [1, 2], "{}", client.name);
        let unreadable = client.moments.iter();
        let unreadable = unreadable.filter(|e| matches!(e.kind, EventKind::Unreadable { .. }));
        assert_eq!(unreadable.count(), 1, "{}", client.name);
    }
}

#[derive(serde::Deserialize)]
struct Golden {
    root: String,
    epoch: u64,
    group: String,
    tag: String,
    mask: String,
    chains: Vec<GoldenChain>,
    frames: Vec<GoldenFrame>,
}

#[derive(serde::Deserialize)]
struct GoldenChain {
    leaf: u32,
    key: String,
}

#[derive(serde::Deserialize)]
struct GoldenFrame {
    leaf: u32,
    generation: u32,
    guard: String,
    text: String,
    frame: String,
}

/// The judge is judged itself, by a third implementation.
#[test]
fn the_second_implementation_of_frames_makes_the_golden_ones() {
    let hex = |text: &str| const_hex::decode(text).unwrap();
    let golden: Vec<Golden> = serde_json::from_str(include_str!("../vectors/frames.json")).unwrap();
    for golden in golden {
        let leaves = golden.chains.iter().map(|chain| chain.leaf);
        let (root, group) = (hex(&golden.root), hex(&golden.group));
        let frames = Frames::new(&root, golden.epoch, &group, leaves);
        assert_eq!(frames.tag, hex(&golden.tag));
        assert_eq!(frames.mask, hex(&golden.mask));
        for chain in &golden.chains {
            assert_eq!(frames.chains[&chain.leaf], hex(&chain.key));
        }
        for frame in &golden.frames {
            let guard = hex(&frame.guard).try_into().unwrap();
            let text = hex(&frame.text);
            let sealed = frames.seal(frame.leaf, frame.generation, guard, &text);
            assert_eq!(const_hex::encode(&sealed), frame.frame);
            let opened = Opened {
                leaf: frame.leaf,
                generation: frame.generation,
                padded: text,
            };
            assert_eq!(frames.open(&sealed), Some(opened));
        }
    }
}

/// Padmé in floating point, as the paper has it, and ours in integers.
#[test]
fn both_paddings_are_one() {
    for length in (0..5_000).chain([65_535, 65_536, 100_000]) {
        let expected = session_e2ee::padding::padded_len(length);
        assert_eq!(pad(&vec![1; length]).len(), expected, "{length}");
    }
}
