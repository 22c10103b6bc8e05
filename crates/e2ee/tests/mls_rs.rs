//! A second implementation of MLS agrees: `mls-rs` joins our groups, commits in them, invites us into
//! them and removes us from them, and after each step both have the same secrets.
//!
//! Its client has our credential and speaks for a device of an account. Chat frames are not part of
//! it: they begin at the safe exporter, which `mls-rs` does not have.

#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "in a test a panic is the verdict"
)]

mod world;

#[path = "mls_rs/provider.rs"]
mod provider;

use mls_rs::client_builder::MlsConfig;
use mls_rs::group::ExportedTree;
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::{Client as MlsClient, ExtensionList, Group, MlsMessage};
use mls_rs_core::crypto::{CipherSuiteProvider, CryptoProvider};
use mls_rs_core::extension::ExtensionType;
use mls_rs_core::identity::{Credential, CustomCredential, SigningIdentity};
use provider::{AnyDevice, CREDENTIAL, Provider, SUITE};
use session_core::codec::Encode;
use session_core::ids::GroupId;
use session_crypto::{Identity, Secret, SigningKey};
use session_e2ee::{
    AcceptedCommit, ChainKeys, DeviceClaim, DeviceId, GroupStatus, Invitation, Invitee, LogEntry,
    MemberDevice, OutgoingKind, Policy, Role, Suite, commit_hash,
};
use std::time::Duration;
use world::client::identities;
use world::{CHAIN, Chain, Client};

/// A device of `account`, played by `mls-rs`.
fn mls_rs_client(account: &Identity, device: u8) -> (MlsClient<impl MlsConfig>, MemberDevice) {
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
        .crypto_provider(provider)
        .identity_provider(AnyDevice)
        .mls_rules(rules)
        .extension_type(ExtensionType::new(0xf0e3))
        // The one lifetime that our groups take has no end.
        .key_package_lifetime(Duration::from_secs(u64::MAX))
        .signing_identity(identity, secret, SUITE)
        .build();
    (client, member)
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
    let world::chain::EntryKind::Commit { commit, .. } = &chain.log(group).entries[1].kind else {
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
