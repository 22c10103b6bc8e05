//! The safe exporter a second time, from the draft: `mls-rs` has none.
//!
//! ```text
//! application_export_secret = DeriveSecret(epoch_secret, "application_export")
//! node of 2^16 leaves       : left, right = ExpandWithLabel(node, "tree", "left" | "right", Nh)
//! exported secret           = the leaf whose number is the component id
//! ```
//!
//! The secret of the epoch is the one that `mls-rs` ran its own key schedule with: its exporter gives
//! what the group's does.

use mls_rs::Group;
use mls_rs::client_builder::MlsConfig;
use mls_rs_core::crypto::{CipherSuiteProvider, CryptoProvider};
use zeroize::Zeroizing;

use crate::provider::{Provider, SUITE, Suite};

/// Bytes of a hash of the suite, and of each secret.
const HASH_BYTES: u16 = 48;

/// `ExpandWithLabel` of RFC 9420 §8. Everything here is shorter than 64 bytes, whose length is one.
fn expand(suite: &Suite, secret: &[u8], label: &str, context: &[u8], bytes: u16) -> Vec<u8> {
    let label = format!("MLS 1.0 {label}");
    let mut info = bytes.to_be_bytes().to_vec();
    for part in [label.as_bytes(), context] {
        assert!(part.len() < 64);
        info.push(part.len() as u8);
        info.extend_from_slice(part);
    }
    let expanded: Zeroizing<Vec<u8>> = suite.kdf_expand(secret, &info, bytes.into()).unwrap();
    expanded.to_vec()
}

/// `MLS-Exporter` of RFC 9420 §8.5, from the secret of the epoch.
fn plain_export(suite: &Suite, epoch_secret: &[u8], label: &str, context: &[u8]) -> Vec<u8> {
    let exporter = expand(suite, epoch_secret, "exporter", b"", HASH_BYTES);
    let derived = expand(suite, &exporter, label, b"", HASH_BYTES);
    let context = suite.hash(context).unwrap();
    expand(suite, &derived, "exported", &context, 32)
}

/// What the safe exporter gives a component in the current epoch of a group.
pub(crate) fn safe_export<C: MlsConfig>(
    provider: &Provider,
    group: &Group<C>,
    component: u16,
) -> Vec<u8> {
    let suite = provider.cipher_suite_provider(SUITE).unwrap();
    let exported = group.export_secret(b"which epoch", b"this", 32).unwrap();
    let secrets = provider.epoch_secrets().into_iter();
    let mut secrets = secrets.filter(|secret| {
        plain_export(&suite, secret, "which epoch", b"this") == exported.as_bytes()
    });
    let epoch_secret = secrets.next().expect("the group's key schedule was seen");
    let mut node = expand(&suite, &epoch_secret, "application_export", b"", HASH_BYTES);
    for bit in (0..16).rev() {
        let side: &[u8] = if component >> bit & 1 == 1 {
            b"right"
        } else {
            b"left"
        };
        node = expand(&suite, &node, "tree", side, HASH_BYTES);
    }
    node
}
