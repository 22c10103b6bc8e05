//! Values that the published Go project computed.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on stops"
)]

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
