//! The methods that read: one snapshot of an accepted block each, and its proofs.

mod account;
mod block;
mod channel;
mod group;
mod health;
mod key_package;
mod message;
mod receipt;
mod record;
mod session;

use serde_json::Value;
use session_core::limits::PROOF_LEAVES_MAX;

pub(super) use account::{get_identity, list_sessions};
pub(super) use block::{get_block, get_head};
pub(super) use channel::get_channel;
pub(super) use group::get_group;
pub(super) use health::{health, health_json};
pub(super) use key_package::{get_key_packages, get_taken_key_packages};
pub(super) use message::{get_message, get_messages, message_count, read_messages};
pub(super) use receipt::get_receipts;
pub(super) use record::{get_action, get_chunk, get_parameters};
pub(super) use session::get_session;

/// Entries in one reply at most.
pub(super) const PAGE_MAX: u64 = PROOF_LEAVES_MAX as u64;

fn put(value: &mut Value, name: &str, field: Value) {
    if let Some(map) = value.as_object_mut() {
        map.insert(name.to_owned(), field);
    }
}
