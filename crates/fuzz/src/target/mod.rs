//! The targets: one for each decoder, with inputs that it accepts to begin with.

mod chain;
#[cfg(feature = "client")]
mod client;
mod crypto;
mod e2ee;
mod record;
mod service;
mod state;
mod text;
mod zap;

use session_core::codec::{Decode, Encode};

/// A decoder under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// Runs it on an input, asserts what must hold, and answers whether it was accepted.
    pub run: fn(&[u8]) -> bool,
    /// Inputs that are accepted.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
const TARGETS: &[&[Target]] = &[
    text::TARGETS,
    state::TARGETS,
    record::TARGETS,
    service::TARGETS,
    chain::TARGETS,
    crypto::TARGETS,
    e2ee::TARGETS,
    zap::TARGETS,
    #[cfg(feature = "client")]
    client::TARGETS,
];

/// The target with this name.
pub fn find(name: &str) -> Option<&'static Target> {
    all().find(|target| target.name == name)
}

/// Every target, in order.
pub fn all() -> impl Iterator<Item = &'static Target> {
    TARGETS.iter().copied().flatten()
}

/// Decodes, and asserts that the value encodes to the bytes that it came from.
fn decode<T: Decode + Encode>(bytes: &[u8]) -> Option<T> {
    let value = T::from_bytes(bytes).ok()?;
    assert!(
        value.to_bytes() == bytes,
        "accepted bytes have another encoding"
    );
    Some(value)
}

/// A target that only decodes.
fn codec<T: Decode + Encode>(bytes: &[u8]) -> bool {
    decode::<T>(bytes).is_some()
}

/// Seeds of a target that only decodes.
fn seeds<T: Encode>(values: impl IntoIterator<Item = T>) -> Vec<Vec<u8>> {
    values.into_iter().map(|value| value.to_bytes()).collect()
}
