//! Values that the published Go project computed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on stops"
)]

use session_crypto::Identity;
use session_crypto::envelope::seal_published_v1;
use session_crypto::vectors::{Disagreement, check_identities};

fn file() -> serde_json::Value {
    serde_json::from_str(include_str!("../../core/tests/data/luxfi-session.json")).unwrap()
}

#[test]
fn every_identity_of_the_published_project_is_reproduced() {
    assert_eq!(check_identities(&file()["identities"]), Ok(3 * 9));
}

#[test]
fn one_changed_value_is_named() {
    for (field, what) in [
        ("sharedSecret", "sharedSecret"),
        ("signature", "signature"),
        ("envelope", "envelope"),
        ("aeadBox", "aeadBox"),
        ("dsaPk", "public keys of the secret keys"),
        ("kemPk", "public keys of the secret keys"),
        ("sessionId", "sessionId"),
    ] {
        let mut identities = file()["identities"].clone();
        let text = identities[1][field].as_str().unwrap();
        let (head, last) = text.split_at(text.len() - 1);
        identities[1][field] = format!("{head}{}", if last == "0" { "1" } else { "0" }).into();
        assert_eq!(
            check_identities(&identities),
            Err(Disagreement { index: 1, what })
        );
    }
}

/// Values that are right by themselves and belong to something else.
#[test]
fn a_value_of_something_else_is_named() {
    let all = file()["identities"].clone();
    let json = all[1]["identityJson"].as_str().unwrap();
    let identity = Identity::from_json(json).unwrap();
    let message = const_hex::decode(all[1]["message"].as_str().unwrap()).unwrap();
    let hex = |bytes: &[u8]| serde_json::Value::from(const_hex::encode(bytes));
    let other = seal_published_v1(identity.public().kem(), b"another message").unwrap();
    let bound = identity
        .public()
        .seal(identity.account_id(), &message)
        .unwrap();
    let spaced = format!("{} ", all[1]["publicIdentityJson"].as_str().unwrap());
    for (field, value, what) in [
        ("envelope", hex(&other), "envelope"),
        // Our format, which the published project does not write.
        ("envelope", hex(&bound), "envelope"),
        (
            "identityJson",
            all[2]["identityJson"].clone(),
            "publicIdentityJson",
        ),
        ("publicIdentityJson", spaced.into(), "publicIdentityJson"),
    ] {
        let mut identities = all.clone();
        identities[1][field] = value;
        let named = Err(Disagreement { index: 1, what });
        assert_eq!(check_identities(&identities), named, "{field}");
    }
}
