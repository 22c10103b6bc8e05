//! Shapes of parameters and results. Ids are CB58, bytes hex in lower case, 64-bit numbers JSON
//! numbers, times RFC 3339.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use session_chain::tx::message::{Auth, BatchAuth, Body};
use session_core::codec::{Decode, DecodeError};
use session_core::ids::{AccountId, ActionId, MessageId, TxId};
use session_core::log::{
    AdvanceEntry, Conversation, Entry, MembershipEntry, MembershipEvent, MessageEntry, PostEntry,
};

use super::error::RpcError;

/// Bytes from hex, with the errors of Go's `encoding/hex`.
pub(super) fn unhex(name: &'static str, text: &str) -> Result<Vec<u8>, RpcError> {
    if let Ok(bytes) = decode_hex(text) {
        return Ok(bytes);
    }
    let bad = text.chars().find(|c| !c.is_ascii_hexdigit());
    Err(match bad {
        Some(c) => {
            let code = u32::from(c);
            RpcError::param(
                name,
                format!("encoding/hex: invalid byte: U+{code:04X} '{c}'"),
            )
        }
        None => RpcError::param(name, "encoding/hex: odd length hex string"),
    })
}

/// Hex without a `0x` prefix, which the library would accept and the published node does not.
fn decode_hex(text: &str) -> Result<Vec<u8>, const_hex::FromHexError> {
    if text.as_bytes().get(1) == Some(&b'x') {
        return Err(const_hex::FromHexError::InvalidHexCharacter { c: 'x', index: 1 });
    }
    const_hex::decode(text)
}

/// One message.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageJson {
    pub(super) id: MessageId,
    pub(super) sequence: u64,
    pub(super) sender: AccountId,
    pub(super) ciphertext: String,
    pub(super) signature: String,
    pub(super) timestamp: String,
    pub(super) height: u64,
    pub(super) verified: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) pruned: bool,
    /// First sequence number of the batch whose signature covers this message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) batch: Option<u64>,
}

/// What the signature of a batch covers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct BatchJson {
    pub(super) first: u64,
    pub(super) valid_until: u64,
    pub(super) salt: String,
    pub(super) ids: Vec<MessageId>,
    pub(super) signature: String,
}

impl MessageJson {
    pub(super) fn of(entry: &MessageEntry, body: Option<Body>) -> Self {
        let pruned = body.is_none();
        let (ciphertext, signature, batch) = match body {
            Some(Body {
                ciphertext,
                auth: Auth::Own(signature),
            }) => (
                const_hex::encode(ciphertext),
                const_hex::encode(signature),
                None,
            ),
            Some(Body {
                ciphertext,
                auth: Auth::Batch(first),
            }) => (const_hex::encode(ciphertext), String::new(), Some(first)),
            None => (String::new(), String::new(), None),
        };
        Self {
            id: entry.id,
            sequence: entry.sequence,
            sender: entry.sender,
            ciphertext,
            signature,
            timestamp: entry.time.to_string(),
            height: entry.height,
            verified: entry.verified,
            pruned,
            batch,
        }
    }
}

/// One frame of a group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PostJson {
    kind: &'static str,
    id: MessageId,
    sequence: u64,
    epoch: u64,
    frame: String,
    timestamp: String,
    height: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pruned: bool,
    /// First sequence number of the post whose signature covers this frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<u64>,
}

/// An advance of a group.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AdvanceJson {
    kind: &'static str,
    sequence: u64,
    /// The epoch that began.
    epoch: u64,
    commit_hash: String,
    removal: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<String>,
    action: ActionId,
    tx_id: TxId,
    /// The whole transaction, base64, with commit, keys and signatures; empty once pruned.
    tx: String,
    timestamp: String,
    height: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pruned: bool,
}

/// What a conversation's log holds.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum EntryJson {
    Message(MessageJson),
    Post(PostJson),
    Advance(AdvanceJson),
}

impl EntryJson {
    /// None of an entry that no conversation has.
    ///
    /// # Errors
    /// [`DecodeError`] of a damaged body.
    pub(super) fn of(entry: &Entry, body: Option<Vec<u8>>) -> Result<Option<Self>, DecodeError> {
        let read = |body: Option<Vec<u8>>| body.map(|b| Body::from_bytes(&b)).transpose();
        Ok(match entry {
            Entry::Message(entry) => Some(Self::Message(MessageJson::of(entry, read(body)?))),
            Entry::Post(entry) => Some(Self::Post(PostJson::of(entry, read(body)?))),
            Entry::Advance(entry) => Some(Self::Advance(AdvanceJson::of(entry, body))),
            Entry::Membership(_) => None,
        })
    }

    /// Bytes of what it carries, before hex or base64.
    pub(super) const fn content_bytes(&self) -> usize {
        match self {
            Self::Message(message) => message.ciphertext.len() / 2,
            Self::Post(post) => post.frame.len() / 2,
            Self::Advance(advance) => advance.tx.len() / 4 * 3,
        }
    }

    /// First sequence number of the batch whose signature covers it.
    pub(super) const fn batch(&self) -> Option<u64> {
        match self {
            Self::Message(message) => message.batch,
            Self::Post(post) => post.batch,
            Self::Advance(_) => None,
        }
    }
}

impl PostJson {
    fn of(entry: &PostEntry, body: Option<Body>) -> Self {
        let pruned = body.is_none();
        let (frame, batch) = match body {
            Some(Body {
                ciphertext,
                auth: Auth::Batch(first),
            }) => (const_hex::encode(ciphertext), Some(first)),
            // Every frame has come in a post.
            Some(Body { ciphertext, .. }) => (const_hex::encode(ciphertext), None),
            None => (String::new(), None),
        };
        Self {
            kind: "post",
            id: entry.id,
            sequence: entry.sequence,
            epoch: entry.epoch,
            frame,
            timestamp: entry.time.to_string(),
            height: entry.height,
            pruned,
            batch,
        }
    }
}

impl AdvanceJson {
    fn of(entry: &AdvanceEntry, body: Option<Vec<u8>>) -> Self {
        Self {
            kind: "advance",
            sequence: entry.sequence,
            epoch: entry.epoch,
            commit_hash: const_hex::encode(entry.commit.as_bytes()),
            removal: entry.removal,
            admin: entry.admin.map(|admin| const_hex::encode(admin.as_bytes())),
            action: entry.action,
            tx_id: entry.tx,
            pruned: body.is_none(),
            tx: body.map_or_else(String::new, |body| BASE64.encode(body)),
            timestamp: entry.time.to_string(),
            height: entry.height,
        }
    }
}

impl BatchJson {
    pub(super) fn of(first: u64, auth: BatchAuth) -> Self {
        Self {
            first,
            valid_until: auth.valid_until.ms(),
            salt: auth.salt.to_string(),
            ids: auth.messages,
            signature: const_hex::encode(auth.signature),
        }
    }
}

/// One membership or request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MembershipJson {
    sequence: u64,
    event: &'static str,
    kind: &'static str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<AccountId>,
    timestamp: String,
}

impl MembershipJson {
    pub(super) fn of(entry: &MembershipEntry) -> Self {
        let (kind, id) = match entry.conversation {
            Conversation::Session(id) => ("session", id.to_string()),
            Conversation::Channel(id) => ("channel", id.to_string()),
            Conversation::Group(id) => ("group", id.to_string()),
        };
        let event = match entry.event {
            MembershipEvent::Created => "created",
            MembershipEvent::Accepted => "accepted",
            MembershipEvent::Requested => "requested",
        };
        let (sequence, by, timestamp) = (entry.sequence, entry.by, entry.time.to_string());
        Self {
            sequence,
            event,
            kind,
            id,
            by,
            timestamp,
        }
    }

    pub(super) fn of_entry(entry: &Entry) -> Option<Self> {
        match entry {
            Entry::Membership(entry) => Some(Self::of(entry)),
            Entry::Message(_) | Entry::Post(_) | Entry::Advance(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_errors_are_those_of_go() {
        assert_eq!(unhex("x", "c0ffee").unwrap(), [0xc0, 0xff, 0xee]);
        let message = |text| unhex("x", text).unwrap_err().message;
        assert_eq!(message("0xc0"), "encoding/hex: invalid byte: U+0078 'x'");
        assert_eq!(message("abc"), "encoding/hex: odd length hex string");
        assert_eq!(message("é"), "encoding/hex: invalid byte: U+00E9 'é'");
    }
}
