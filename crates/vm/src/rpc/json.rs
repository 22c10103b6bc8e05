//! Shapes of parameters and results. Ids are CB58, bytes hex in lower case, 64-bit numbers JSON
//! numbers, times RFC 3339.

use serde::{Deserialize, Serialize};
use session_chain::tx::message::{Auth, BatchAuth, Body};
use session_core::ids::{AccountId, MessageId};
use session_core::log::{Conversation, Entry, MembershipEntry, MembershipEvent, MessageEntry};
use session_core::time::Time;

use super::error::RpcError;

/// RFC 3339 in UTC with milliseconds.
pub(super) fn rfc3339(time: Time) -> String {
    let (days, ms) = (time.ms() / 86_400_000, time.ms() % 86_400_000);
    // Civil date of a day number, after Howard Hinnant's algorithm for years from 0000-03-01.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (ms / 3_600_000, ms / 60_000 % 60);
    let (second, milli) = (ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

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
            timestamp: rfc3339(entry.time),
            height: entry.height,
            verified: entry.verified,
            pruned,
            batch,
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
        };
        let event = match entry.event {
            MembershipEvent::Created => "created",
            MembershipEvent::Accepted => "accepted",
            MembershipEvent::Requested => "requested",
        };
        let (sequence, by, timestamp) = (entry.sequence, entry.by, rfc3339(entry.time));
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
            Entry::Message(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_print_as_rfc_3339() {
        assert_eq!(rfc3339(Time::from_ms(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(
            rfc3339(Time::from_ms(951_782_400_000)),
            "2000-02-29T00:00:00.000Z"
        );
        assert_eq!(
            rfc3339(Time::from_ms(1_795_312_363_609)),
            "2026-11-22T01:52:43.609Z"
        );
        assert_eq!(
            rfc3339(Time::from_ms(4_107_542_400_000)),
            "2100-03-01T00:00:00.000Z"
        );
    }

    #[test]
    fn hex_errors_are_those_of_go() {
        assert_eq!(unhex("x", "c0ffee").unwrap(), [0xc0, 0xff, 0xee]);
        let message = |text| unhex("x", text).unwrap_err().message;
        assert_eq!(message("0xc0"), "encoding/hex: invalid byte: U+0078 'x'");
        assert_eq!(message("abc"), "encoding/hex: odd length hex string");
        assert_eq!(message("é"), "encoding/hex: invalid byte: U+00E9 'é'");
    }
}
