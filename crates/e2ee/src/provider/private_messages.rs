//! PrivateMessages of MLS with our suite, openmls over our provider on one side and `mls-rs` on the
//! other. Our conversations use frames instead: this is about what both sit on.

#[path = "../../tests/mls_rs/provider.rs"]
mod mls_rs_provider;

use mls_rs::client_builder::{MlsConfig, PaddingMode};
use mls_rs::group::{ExportedTree, ReceivedMessage};
use mls_rs::mls_rules::{CommitOptions, DefaultMlsRules, EncryptionOptions};
use mls_rs::{Client, ExtensionList, Group, MlsMessage};
use mls_rs_core::crypto::{CipherSuiteProvider, CryptoProvider};
use mls_rs_core::extension::ExtensionType;
use mls_rs_core::identity::{Credential as TheirCredential, CustomCredential, SigningIdentity};
use mls_rs_provider::{AnyDevice, CREDENTIAL, Provider as TheirProvider, SUITE};
use openmls::prelude::{
    Capabilities, Ciphersuite, Credential, CredentialWithKey, ExtensionType as OurExtensionType,
    Lifetime, MlsGroup, MlsGroupCreateConfig, MlsMessageBodyIn, MlsMessageIn,
    PURE_CIPHERTEXT_WIRE_FORMAT_POLICY, ProcessedMessageContent, ProtocolVersion,
};
use openmls_traits::OpenMlsProvider;
use session_crypto::Secret;
use session_storage::{MemorySlots, MemoryStore};
use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;
use tls_codec::{DeserializeBytes as _, Serialize as _};

use super::{Crypto, LeafKey, Provider, Rand};
use crate::credential::CREDENTIAL_TYPE;
use crate::policy::POLICY_EXTENSION;
use crate::randomness::Randomness;
use crate::records::Buffer;
use crate::suite::Suite;
use crate::vault::Vault;

/// What a provider borrows.
pub(super) struct World {
    crypto: Crypto,
    rand: Rand,
    vault: Vault,
}

impl World {
    pub(super) fn new(seed: u8) -> Self {
        let store = Arc::new(MemoryStore::new());
        let slots = Box::new(MemorySlots::new());
        Self {
            crypto: Crypto::new(),
            rand: Rand(RefCell::new(Randomness::seeded(Secret::new([seed; 32])))),
            vault: Vault::open(store, slots, Secret::new([1; 32])).unwrap(),
        }
    }

    /// The same, which has other suites of the library too.
    pub(super) fn also(mut self, others: Vec<Ciphersuite>) -> Self {
        self.crypto.others = others;
        self
    }

    pub(super) fn provider(&self) -> Provider<'_> {
        Provider {
            crypto: &self.crypto,
            rand: &self.rand,
            buffer: Buffer::new(&self.vault),
        }
    }
}

fn their_client() -> Client<impl MlsConfig> {
    let provider = TheirProvider::new();
    let suite = provider.cipher_suite_provider(SUITE).unwrap();
    let (secret, public) = suite.signature_key_generate().unwrap();
    let credential = CustomCredential::new(CREDENTIAL, vec![7; 49]);
    let identity = SigningIdentity::new(TheirCredential::Custom(credential), public);
    let rules = DefaultMlsRules::new()
        .with_commit_options(CommitOptions::new().with_ratchet_tree_extension(false))
        .with_encryption_options(EncryptionOptions::new(true, PaddingMode::None));
    Client::builder()
        .crypto_provider(provider)
        .identity_provider(AnyDevice)
        .mls_rules(rules)
        .extension_type(ExtensionType::new(POLICY_EXTENSION))
        .key_package_lifetime(Duration::from_secs(u64::MAX))
        .signing_identity(identity, secret, SUITE)
        .build()
}

/// A pair: ours has made the group and added theirs.
fn pair<'a>(
    world: &'a World,
    key: &LeafKey,
) -> (Provider<'a>, MlsGroup, Group<impl MlsConfig + use<>>) {
    let provider = world.provider();
    let config = MlsGroupCreateConfig::builder()
        .ciphersuite(Suite::PostQuantum.ciphersuite())
        .wire_format_policy(PURE_CIPHERTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(false)
        .max_past_epochs(0)
        .lifetime(Lifetime::init(0, u64::MAX))
        .capabilities(Capabilities::new(
            Some(&[ProtocolVersion::Mls10]),
            Some(&[Suite::PostQuantum.ciphersuite()]),
            Some(&[OurExtensionType::Unknown(POLICY_EXTENSION)]),
            None,
            Some(&[CREDENTIAL_TYPE]),
        ))
        .build();
    let credential = CredentialWithKey {
        credential: Credential::new(CREDENTIAL_TYPE, vec![3; 49]),
        signature_key: key.public().into(),
    };
    let mut ours = MlsGroup::new(&provider, key, &config, credential).unwrap();
    let theirs = their_client();
    let extensions = ExtensionList::default;
    let package = theirs
        .generate_key_package_message(extensions(), extensions(), Some(0_u64.into()))
        .unwrap();
    let package = package.to_bytes().unwrap();
    let package = MlsMessageIn::tls_deserialize_exact_bytes(&package).unwrap();
    let MlsMessageBodyIn::KeyPackage(package) = package.extract() else {
        panic!("no key package");
    };
    let package = package.validate(provider.crypto(), ProtocolVersion::Mls10);
    let package = package.unwrap();
    let added = ours.add_members(&provider, key, &[package]);
    let (_, welcome, _) = added.unwrap();
    ours.merge_pending_commit(&provider).unwrap();
    let welcome = MlsMessage::from_bytes(&welcome.to_bytes().unwrap()).unwrap();
    let tree = ours.export_ratchet_tree().tls_serialize_detached().unwrap();
    let tree = ExportedTree::from_bytes(&tree).unwrap();
    let (joined, _) = theirs.join_group(Some(tree), &welcome, None).unwrap();
    (provider, ours, joined)
}

fn incoming(bytes: &[u8]) -> openmls::framing::ProtocolMessage {
    let message = MlsMessageIn::tls_deserialize_exact_bytes(bytes).unwrap();
    message.try_into_protocol_message().unwrap()
}

fn text_of(received: ReceivedMessage) -> Vec<u8> {
    let ReceivedMessage::ApplicationMessage(message) = received else {
        panic!("no application message: {received:?}");
    };
    message.data().to_vec()
}

#[test]
fn private_messages_go_both_ways_in_order_out_of_order_and_over_epochs() {
    let world = World::new(1);
    let key = LeafKey::from_seed(Suite::PostQuantum, Secret::new([3; 32])).unwrap();
    let (provider, mut ours, mut theirs) = pair(&world, &key);
    for epoch in 1..=3_u64 {
        assert_eq!(ours.epoch().as_u64(), epoch);
        assert_eq!(theirs.current_epoch(), epoch);
        let texts: Vec<Vec<u8>> = (0..3).map(|n| vec![n; 100 * usize::from(n)]).collect();
        let mut sent: Vec<Vec<u8>> = texts
            .iter()
            .map(|text| {
                let message = ours.create_message(&provider, &key, text).unwrap();
                message.to_bytes().unwrap()
            })
            .collect();
        // The last first.
        sent.reverse();
        let opened: Vec<Vec<u8>> = sent
            .iter()
            .map(|bytes| {
                let message = MlsMessage::from_bytes(bytes).unwrap();
                text_of(theirs.process_incoming_message(message).unwrap())
            })
            .rev()
            .collect();
        assert_eq!(opened, texts);
        for text in &texts {
            let sealed = theirs.encrypt_application_message(text, vec![9]).unwrap();
            let mut bytes = sealed.to_bytes().unwrap();
            let processed = ours.process_message(&provider, incoming(&bytes)).unwrap();
            assert_eq!(processed.aad(), [9]);
            let content = processed.into_content();
            let ProcessedMessageContent::ApplicationMessage(message) = content else {
                panic!("no application message: {content:?}");
            };
            assert_eq!(message.into_bytes(), *text);
            // Once only, and nothing that was changed.
            assert!(ours.process_message(&provider, incoming(&bytes)).is_err());
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            assert!(ours.process_message(&provider, incoming(&bytes)).is_err());
        }
        // Theirs rotates, ours follows.
        let commit = theirs.commit(Vec::new()).unwrap();
        theirs.apply_pending_commit().unwrap();
        let bytes = commit.commit_message().to_bytes().unwrap();
        let processed = ours.process_message(&provider, incoming(&bytes)).unwrap();
        let ProcessedMessageContent::StagedCommitMessage(staged) = processed.into_content() else {
            panic!("no commit");
        };
        ours.merge_staged_commit(&provider, *staged).unwrap();
        let exported = ours.export_secret(provider.crypto(), "label", b"context", 48);
        let theirs_exported = theirs.export_secret(b"label", b"context", 48).unwrap();
        assert_eq!(exported.unwrap(), theirs_exported.as_bytes());
    }
}

/// What a chat frame is instead of (`docs/performance.md`): one message, over its text.
#[test]
fn a_private_message_of_the_suite_costs_a_hundred_times_a_frame() {
    let world = World::new(2);
    let key = LeafKey::from_seed(Suite::PostQuantum, Secret::new([3; 32])).unwrap();
    let (provider, mut ours, mut theirs) = pair(&world, &key);
    for text in [100, 1_000] {
        let text = vec![7; text];
        let message = ours.create_message(&provider, &key, &text).unwrap();
        let ours = message.to_bytes().unwrap().len() - text.len();
        let sealed = theirs.encrypt_application_message(&text, Vec::new());
        let theirs = sealed.unwrap().to_bytes().unwrap().len() - text.len();
        println!("{} bytes: openmls +{ours}, mls-rs +{theirs}", text.len());
        for over in [ours, theirs] {
            assert!((3_300..3_500).contains(&over), "{over}");
            assert!(over > 100 * crate::frame::FRAME_OVERHEAD);
        }
    }
}
