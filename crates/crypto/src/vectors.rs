//! Checks the `identities` part of a vector file of the published project: every value there is
//! recomputed, opened or verified with this crate.

use crate::aead;
use crate::envelope;
use crate::identity::{Identity, PublicIdentity};
use crate::kem::{KemCiphertext, KemSecretKey};
use crate::secret::Secret;
use crate::sign::{Signature, SigningKey};
use crate::verified::open_signed_message;

/// One identity of a vector file; bytes are hex.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    session_id: String,
    kem_pk: String,
    kem_sk: String,
    dsa_pk: String,
    dsa_sk: String,
    kem_ct: String,
    shared_secret: String,
    aead_key: String,
    aead_box: String,
    message: String,
    envelope: String,
    signature: String,
    signed_message: String,
    identity_json: String,
    public_identity_json: String,
}

/// The first value that does not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("identity {index}: {what} does not agree")]
pub struct Disagreement {
    /// Which identity of the file, from 0.
    pub index: usize,
    /// Which value.
    pub what: &'static str,
}

/// Checks the `identities` array of a vector file and answers how many values agreed.
///
/// # Errors
/// The first [`Disagreement`], also for a value that is missing or malformed.
pub fn check_identities(identities: &serde_json::Value) -> Result<usize, Disagreement> {
    let vectors: Vec<Vector> =
        serde::Deserialize::deserialize(identities).map_err(|_| Disagreement {
            index: 0,
            what: "the shape of the file",
        })?;
    let mut agreed = 0;
    for (index, vector) in vectors.iter().enumerate() {
        for (what, check) in CHECKS {
            if check(vector) != Some(true) {
                return Err(Disagreement { index, what });
            }
            agreed += 1;
        }
    }
    Ok(agreed)
}

type Check = fn(&Vector) -> Option<bool>;

/// Each check answers `None` for a value that cannot even be read.
const CHECKS: [(&str, Check); 9] = [
    ("sessionId", |v| {
        Some(identity(v)?.id().to_string() == v.session_id)
    }),
    ("public keys of the secret keys", |v| {
        let public = identity(v)?;
        Some(
            public.public().kem().as_bytes()[..] == hex(&v.kem_pk)?
                && public.public().signing().as_bytes()[..] == hex(&v.dsa_pk)?,
        )
    }),
    ("sharedSecret", |v| {
        let ciphertext = KemCiphertext::try_from(&hex(&v.kem_ct)?[..]).ok()?;
        let shared = KemSecretKey::from_bytes(&hex(&v.kem_sk)?)
            .ok()?
            .decapsulate(&ciphertext);
        Some(shared.ok()?.expose()[..] == hex(&v.shared_secret)?)
    }),
    ("aeadBox", |v| {
        let key = Secret::copy_from(&hex(&v.aead_key)?).ok()?;
        Some(aead::open(&key, &[], &hex(&v.aead_box)?).ok()? == hex(&v.message)?)
    }),
    ("envelope", |v| {
        let identity = identity(v)?;
        let opened = identity
            .open(identity.account_id(), &hex(&v.envelope)?)
            .ok()?;
        Some(opened.plaintext == hex(&v.message)? && opened.format == envelope::Format::V1Unbound)
    }),
    ("signature", |v| {
        let signature = Signature::try_from(&hex(&v.signature)?[..]).ok()?;
        let key = SigningKey::from_bytes(&hex(&v.dsa_sk)?).ok()?;
        Some(
            key.public_key()
                .verify(&hex(&v.message)?, &signature)
                .is_ok(),
        )
    }),
    ("signedMessage", |v| {
        let public = identity(v)?.public().clone();
        let signed = hex(&v.signed_message)?;
        Some(open_signed_message(public.signing(), &signed).ok()? == hex(&v.message)?)
    }),
    ("identityJson", |v| {
        let identity = Identity::from_json(&v.identity_json).ok()?;
        Some(*identity.to_json_exposing_secrets() == v.identity_json)
    }),
    ("publicIdentityJson", |v| {
        let public = PublicIdentity::from_json(&v.public_identity_json).ok()?;
        Some(
            public.to_json() == v.public_identity_json
                && PublicIdentity::from_json(&v.identity_json).ok()? == public,
        )
    }),
];

fn identity(vector: &Vector) -> Option<Identity> {
    Identity::from_secret_keys(&hex(&vector.kem_sk)?, &hex(&vector.dsa_sk)?).ok()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    const_hex::decode(text).ok()
}
