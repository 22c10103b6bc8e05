//! What a person receives: envelopes, signed messages, identities, phrases.
//!
//! The keys come from a fixed seed. What is sealed and signed with them is random, so these seeds
//! differ from run to run; an input that fails is written out whole.

use super::{Target, codec, seeds};
use session_core::ids::AccountId;
use session_crypto::envelope::many::{self, Recipient};
use session_crypto::envelope::{Format, seal_published_v1};
use session_crypto::{
    Identity, IdentityId, KdfCost, LegacyPublicIdentity, PublicIdentity, RecoveryPhrase,
    SealedIdentity, Secret, Signature, open_signed_message, sign_message,
};
use std::sync::OnceLock;

pub(super) const TARGETS: &[Target] = &[
    Target {
        name: "envelope",
        run: envelope,
        seeds: || {
            let Some(me) = identity() else {
                return Vec::new();
            };
            let v1 = seal_published_v1(me.public().kem(), b"hello");
            let v2 = me.public().seal(SENDER, b"hello");
            let empty = me.public().seal(SENDER, b"");
            [v1, v2, empty].into_iter().flatten().collect()
        },
    },
    Target {
        name: "envelope_many",
        run: envelope_many,
        seeds: || {
            let Some(me) = identity() else {
                return Vec::new();
            };
            let companies = companies(me.account_id());
            let sealed = companies.iter().map(|company| {
                let kem = me.public().kem();
                let to: Vec<Recipient<'_>> = company
                    .iter()
                    .map(|account| Recipient {
                        account: *account,
                        kem,
                    })
                    .collect();
                many::seal(SENDER, &to, b"hello")
            });
            sealed.flatten().collect()
        },
    },
    Target {
        name: "signed_message",
        run: |bytes| {
            let Some(me) = identity() else { return false };
            let message = open_signed_message(me.public().signing(), bytes);
            if let Ok(message) = &message {
                assert!(bytes.ends_with(message), "the message is not the one sent");
                assert!(
                    bytes.len() == message.len() + Signature::BYTES,
                    "bytes are lost"
                );
            }
            message.is_ok()
        },
        seeds: || {
            let signed = identity().and_then(|me| sign_message(me.signing_key(), b"hello").ok());
            signed.into_iter().collect()
        },
    },
    Target {
        name: "identity_json",
        run: |bytes| {
            let Ok(text) = core::str::from_utf8(bytes) else {
                return false;
            };
            let Ok(identity) = Identity::from_json(text) else {
                return false;
            };
            let again = Identity::from_json(&identity.to_json_exposing_secrets());
            let same = again.is_ok_and(|again| again.public() == identity.public());
            assert!(same, "an identity does not read back");
            true
        },
        seeds: || {
            let json = identity().map(|me| me.to_json_exposing_secrets().as_bytes().to_vec());
            json.into_iter().collect()
        },
    },
    Target {
        name: "public_identity_json",
        run: |bytes| {
            let Ok(text) = core::str::from_utf8(bytes) else {
                return false;
            };
            let Ok(identity) = PublicIdentity::from_json(text) else {
                return false;
            };
            let again = PublicIdentity::from_json(&identity.to_json());
            assert!(again == Ok(identity), "an identity does not read back");
            true
        },
        seeds: || {
            let json = identity().map(|me| me.public().to_json().into_bytes());
            json.into_iter().collect()
        },
    },
    Target {
        name: "public_identity",
        run: codec::<PublicIdentity>,
        seeds: || seeds(identity().map(|me| me.public().clone())),
    },
    Target {
        name: "identity_file",
        run: identity_file,
        seeds: || {
            let cost = KdfCost::INSECURE_FOR_TESTS;
            let file = identity().and_then(|me| SealedIdentity::seal(me, PASSPHRASE, cost).ok());
            file.map(|file| file.to_bytes()).into_iter().collect()
        },
    },
    Target {
        name: "exposed_identity_file",
        run: |bytes| {
            let Ok(identity) = Identity::from_exposed_file(bytes) else {
                return false;
            };
            let same = identity.to_exposed_file();
            assert!(same.as_slice() == bytes, "a file has one encoding");
            true
        },
        seeds: || {
            let Some(me) = identity() else {
                return Vec::new();
            };
            let rotated = me.next(3).ok();
            let expanded = rotated.as_ref().and_then(|me| me.without_seed().ok());
            let all = [Some(me), rotated.as_ref(), expanded.as_ref()];
            let files = all.into_iter().flatten();
            files.map(|me| me.to_exposed_file().to_vec()).collect()
        },
    },
    Target {
        name: "recovery_phrase",
        run: |bytes| {
            let Ok(text) = core::str::from_utf8(bytes) else {
                return false;
            };
            let Ok(phrase) = text.parse::<RecoveryPhrase>() else {
                return false;
            };
            let again = phrase.expose().parse::<RecoveryPhrase>();
            assert!(
                again.is_ok_and(|again| again == phrase),
                "a phrase does not read back"
            );
            true
        },
        seeds: || {
            let phrase = identity().and_then(Identity::recovery_phrase);
            let words = phrase.map(|phrase| phrase.expose().as_bytes().to_vec());
            let shouted = words.as_ref().map(|words| words.to_ascii_uppercase());
            words.into_iter().chain(shouted).collect()
        },
    },
    Target {
        name: "identity_id",
        run: |bytes| {
            let Ok(text) = core::str::from_utf8(bytes) else {
                return false;
            };
            let id = text.parse::<IdentityId>();
            if let Ok(id) = &id {
                assert!(id.to_string() == text, "an id has one spelling");
            }
            id.is_ok()
        },
        seeds: || {
            let ids = [IdentityId::Pq(SENDER), IdentityId::Legacy(SENDER)];
            ids.map(|id| id.to_string().into_bytes()).to_vec()
        },
    },
    Target {
        name: "legacy_public_key",
        run: |bytes| {
            let Ok(key) = LegacyPublicIdentity::from_bytes(bytes) else {
                return false;
            };
            assert!(key.as_bytes() == bytes, "a key has one encoding");
            let _ = key.verify(b"", &[0; 64]);
            true
        },
        seeds: || {
            let me = session_crypto::LegacyIdentity::from_seed(&Secret::new([1; 32]));
            vec![me.public().as_bytes().to_vec()]
        },
    },
];

const SENDER: AccountId = AccountId::from_bytes([3; 32]);
const PASSPHRASE: &[u8] = b"passphrase";

fn identity() -> Option<&'static Identity> {
    static IDENTITY: OnceLock<Option<Identity>> = OnceLock::new();
    let identity = IDENTITY.get_or_init(|| Identity::from_seed(Secret::new([7; 32])).ok());
    identity.as_ref()
}

/// Nobody without a key can change an envelope so that it still opens, but for the first byte of
/// ours, which may happen to begin the published format.
fn envelope(bytes: &[u8]) -> bool {
    let Some(me) = identity() else { return false };
    let Ok(opened) = me.open(SENDER, bytes) else {
        return false;
    };
    let overhead = match opened.format {
        Format::V1Unbound => session_crypto::envelope::OVERHEAD_V1_BYTES,
        Format::V2 => session_crypto::envelope::OVERHEAD_V2_BYTES,
    };
    assert!(
        bytes.len() == opened.plaintext.len() + overhead,
        "bytes are lost"
    );
    let known = [&b"hello"[..], b""].contains(&&opened.plaintext[..]);
    assert!(known, "an envelope that nobody sealed opens");
    true
}

/// Those that an envelope to several people may be sealed to here: one, and three.
fn companies(me: AccountId) -> [Vec<AccountId>; 2] {
    let other = |byte| AccountId::from_bytes([byte; 32]);
    let mut three = vec![me, other(0), other(0xff)];
    three.sort_unstable();
    [vec![me], three]
}

fn envelope_many(bytes: &[u8]) -> bool {
    let Some(me) = identity() else { return false };
    let parts = many::Parts::read(bytes);
    for company in companies(me.account_id()) {
        if let Ok(plaintext) = me.open_many(SENDER, &company, bytes) {
            let overhead = many::overhead_bytes(company.len());
            assert!(bytes.len() == plaintext.len() + overhead, "bytes are lost");
            assert!(
                plaintext == b"hello",
                "an envelope that nobody sealed opens"
            );
            assert!(parts.is_ok_and(|parts| parts.recipients() == company.len()));
            return true;
        }
    }
    false
}

/// Opening costs what the file says, so only files that say little are opened.
fn identity_file(bytes: &[u8]) -> bool {
    let Ok(file) = SealedIdentity::from_bytes(bytes) else {
        return false;
    };
    assert!(file.to_bytes() == bytes, "a file has one encoding");
    if file.cost() == KdfCost::INSECURE_FOR_TESTS
        && let Ok(opened) = file.open(PASSPHRASE)
    {
        assert!(opened.id() == file.id(), "the label is another one's");
    }
    true
}
