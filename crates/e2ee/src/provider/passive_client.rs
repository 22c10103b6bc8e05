//! The passive-client vectors of the MLS working group: somebody else made the groups, openmls over
//! our provider joins them by a welcome and follows their proposals and commits, and has the same
//! epoch authenticators.
//!
//! `vectors/passive-client.json` holds those of the classical suites that the library has, 1 to 3: of each
//! 8 welcomes and 13 pairs of commits, and of suite 1, which ours is in tests, the first 100 epochs of the
//! long random group.
//!
//! **They end in March 2024**: the key packages in them do, and openmls judges that by the local clock
//! (the reason why ours have no end, `spec/e2ee.md` §1). So where one is added today the library
//! refuses, by exactly that error, and the vector ends there; what is before it is followed. With an
//! earlier clock all of them are followed to the end, which the test then demands:
//! `faketime 2023-06-01 cargo test -p session-e2ee passive_client`.

use openmls::group::{MlsGroupJoinConfig, ProcessedWelcome};
use openmls::prelude::{
    Ciphersuite, JoinBuilder, KeyPackageBundle, MIXED_PLAINTEXT_WIRE_FORMAT_POLICY, MlsGroup,
    MlsMessageBodyIn, MlsMessageIn, ProcessedMessageContent, RatchetTreeIn,
};
use openmls::schedule::PreSharedKeyId;
use openmls_traits::OpenMlsProvider as _;
use openmls_traits::storage::StorageProvider as _;
use openmls_traits::types::HpkePrivateKey;
use serde::Deserialize;
use serde_json::json;
use tls_codec::DeserializeBytes as _;

use super::Provider;
use super::private_messages::World;

/// When the first of the key packages ends, in seconds.
const ENDS: u64 = 1_709_307_004;

#[derive(Deserialize)]
struct Vectors {
    welcome: Vec<Vector>,
    #[serde(rename = "handling-commit")]
    handling_commit: Vec<Vector>,
    random: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    cipher_suite: u16,
    external_psks: Vec<ExternalPsk>,
    key_package: String,
    encryption_priv: String,
    init_priv: String,
    welcome: String,
    ratchet_tree: Option<String>,
    initial_epoch_authenticator: String,
    epochs: Vec<Epoch>,
}

#[derive(Deserialize)]
struct ExternalPsk {
    psk_id: String,
    psk: String,
}

#[derive(Deserialize)]
struct Epoch {
    proposals: Vec<String>,
    commit: String,
    epoch_authenticator: String,
}

fn hex(text: &str) -> Vec<u8> {
    const_hex::decode(text).unwrap()
}

fn message(text: &str) -> MlsMessageIn {
    MlsMessageIn::tls_deserialize_exact_bytes(&hex(text)).unwrap()
}

/// Puts a key package that somebody else made, and its secrets, where the library looks for them. It
/// has no door for that but its own encoding.
fn install_key_package(provider: &Provider<'_>, vector: &Vector) {
    let MlsMessageBodyIn::KeyPackage(package) = message(&vector.key_package).extract() else {
        panic!("no key package");
    };
    let secret = |text: &str| HpkePrivateKey::from(hex(text));
    let bundle = json!({
        "key_package": package,
        "private_init_key": secret(&vector.init_priv),
        "private_encryption_key": { "key": secret(&vector.encryption_priv) },
    });
    let bundle: KeyPackageBundle = serde_json::from_value(bundle).unwrap();
    let reference = bundle.key_package().hash_ref(provider.crypto()).unwrap();
    let storage = provider.storage();
    storage.write_key_package(&reference, &bundle).unwrap();
}

fn join(provider: &Provider<'_>, vector: &Vector) -> MlsGroup {
    let config = MlsGroupJoinConfig::builder()
        .wire_format_policy(MIXED_PLAINTEXT_WIRE_FORMAT_POLICY)
        .use_ratchet_tree_extension(true)
        .number_of_resumption_psks(16)
        .build();
    let MlsMessageBodyIn::Welcome(welcome) = message(&vector.welcome).extract() else {
        panic!("no welcome");
    };
    let processed = ProcessedWelcome::new_from_welcome(provider, &config, welcome).unwrap();
    let builder = JoinBuilder::new(provider, processed).skip_lifetime_validation();
    let builder = match &vector.ratchet_tree {
        Some(tree) => {
            let tree = RatchetTreeIn::tls_deserialize_exact_bytes(&hex(tree));
            builder.with_ratchet_tree(tree.unwrap())
        }
        None => builder,
    };
    builder.build().unwrap().into_group(provider).unwrap()
}

/// Takes a proposal or a commit. False: a key package in it has ended by the local clock.
fn take(provider: &Provider<'_>, group: &mut MlsGroup, text: &str) -> bool {
    let message = message(text).try_into_protocol_message().unwrap();
    let processed = match group.process_message(provider, message) {
        Ok(processed) => processed,
        Err(error) => {
            let error = format!("{error:?}");
            assert!(
                error.contains("Lifetime") && error.contains("Expired"),
                "{error}"
            );
            return false;
        }
    };
    let content = processed.into_content();
    if let ProcessedMessageContent::StagedCommitMessage(commit) = content {
        group.merge_staged_commit(provider, *commit).unwrap();
    } else if let ProcessedMessageContent::ProposalMessage(proposal) = content {
        let storage = provider.storage();
        group.store_pending_proposal(storage, *proposal).unwrap();
    } else {
        panic!("neither proposal nor commit: {content:?}");
    }
    true
}

/// Answers how many epochs were followed, and whether the vector went on after them.
fn follow(vector: &Vector) -> (usize, bool) {
    assert!((1..=3).contains(&vector.cipher_suite));
    let world = World::new(1).also(vec![
        Ciphersuite::MLS_128_DHKEMP256_AES128GCM_SHA256_P256,
        Ciphersuite::MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519,
    ]);
    let provider = world.provider();
    for psk in &vector.external_psks {
        let id = PreSharedKeyId::external(hex(&psk.psk_id), Vec::new());
        id.store(&provider, &hex(&psk.psk)).unwrap();
    }
    install_key_package(&provider, vector);
    let mut group = join(&provider, vector);
    let authenticator =
        |group: &MlsGroup| const_hex::encode(group.epoch_authenticator().as_slice());
    assert_eq!(authenticator(&group), vector.initial_epoch_authenticator);
    for (followed, epoch) in vector.epochs.iter().enumerate() {
        for text in epoch.proposals.iter().chain([&epoch.commit]) {
            if !take(&provider, &mut group, text) {
                return (followed, true);
            }
        }
        assert_eq!(authenticator(&group), epoch.epoch_authenticator);
        // As after each event of a device: nothing lives but the records.
        group = MlsGroup::load(provider.storage(), group.group_id())
            .unwrap()
            .unwrap();
    }
    (vector.epochs.len(), false)
}

#[test]
fn the_working_groups_passive_clients_are_followed() {
    let vectors = include_str!("../../vectors/passive-client.json");
    let vectors: Vectors = serde_json::from_str(vectors).unwrap();
    let count = |vectors: &[Vector]| {
        let followed: Vec<(usize, bool)> = vectors.iter().map(follow).collect();
        let epochs: usize = followed.iter().map(|(epochs, _)| epochs).sum();
        (
            followed.len(),
            epochs,
            followed.iter().filter(|(_, ended)| *ended).count(),
        )
    };
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let counted = [
        count(&vectors.welcome),
        count(&vectors.handling_commit),
        count(&vectors.random),
    ];
    println!("vectors, epochs followed, ended early: {counted:?}");
    if now < ENDS {
        assert_eq!(counted, [(24, 0, 0), (39, 78, 0), (1, 100, 0)]);
    } else {
        assert_eq!(counted, [(24, 0, 0), (39, 66, 12), (1, 1, 1)]);
    }
}
