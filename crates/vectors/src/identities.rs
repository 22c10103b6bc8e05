//! `identities`: keys, what was sealed to them and what they signed.
//!
//! `session_crypto::vectors` opens and verifies everything. It cannot see all bytes of a secret key
//! in that (the rejection secret of ML-KEM plays no part in a ciphertext that is accepted, the
//! randomness key of ML-DSA none in a verification), so the keys are also compared with the
//! identity JSON, which holds them whole.

use crate::Disagreement;
use crate::leaf::{Leaf, Tally};
use serde_json::Value;
use session_crypto::vectors::check_identities;
use session_crypto::{Identity, IdentityId, KemSecretKey, SigningKey};

const HEX: [&str; 12] = [
    "aeadBox",
    "aeadKey",
    "dsaPk",
    "dsaSk",
    "envelope",
    "kemCt",
    "kemPk",
    "kemSk",
    "message",
    "sharedSecret",
    "signature",
    "signedMessage",
];
const TEXTS: [&str; 4] = [
    "sessionId",
    "otherSessionId",
    "identityJson",
    "publicIdentityJson",
];

pub(crate) fn check(section: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    for entry in section.items()? {
        for name in HEX {
            entry.get(name)?.hex()?;
        }
        check_keys(&entry, tally)?;
        check_uses(&entry, tally)?;
        if let Some(other) = entry.optional("otherSessionId")? {
            if other.text()?.parse::<IdentityId>().is_err() {
                return Err(other.malformed("a session id"));
            }
            tally.unbound(&other);
        }
        tally
            .unknown
            .extend(entry.keys_besides(&[&HEX[..], &TEXTS[..]].concat())?);
    }
    Ok(())
}

/// Everything that follows from the two secret keys.
fn check_keys(entry: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    let (kem, dsa) = (entry.get("kemSk")?, entry.get("dsaSk")?);
    let (kem_bytes, dsa_bytes) = (kem.hex()?, dsa.hex()?);
    KemSecretKey::from_bytes(&kem_bytes).map_err(|_| kem.refused("is not an ML-KEM-768 key"))?;
    SigningKey::from_bytes(&dsa_bytes).map_err(|_| dsa.refused("is not an ML-DSA-65 key"))?;
    let identity = Identity::from_secret_keys(&kem_bytes, &dsa_bytes)
        .map_err(|_| kem.refused("makes no identity"))?;
    let public = identity.public();
    tally.hex(&entry.get("kemPk")?, public.kem().as_bytes())?;
    tally.hex(&entry.get("dsaPk")?, public.signing().as_bytes())?;
    tally.text(&entry.get("sessionId")?, &identity.id().to_string())?;
    let json = entry.get("identityJson")?;
    tally.text(&json, &identity.to_json_exposing_secrets())?;
    tally.text(&entry.get("publicIdentityJson")?, &public.to_json())
}

/// Everything that the keys open and verify.
fn check_uses(entry: &Leaf<'_>, tally: &mut Tally) -> Result<(), Disagreement> {
    let alone = Value::Array(vec![entry.value().clone()]);
    match check_identities(&alone) {
        Ok(agreed) => {
            tally.compared += agreed;
            Ok(())
        }
        Err(disagreement) => {
            let what = disagreement.what;
            // Checks are named after the value they check, but for the one of two keys.
            let leaf = entry.optional(what)?.unwrap_or_else(|| entry.clone());
            Err(leaf.refused("does not open, verify or agree"))
        }
    }
}
