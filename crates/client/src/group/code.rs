//! What people hand each other beside the chain: a key package, and an invitation. Both are one
//! line of text, for a link or a QR code.
//!
//! ```text
//! luxkey:    base64url(u8 1 | u64 expires ms | key package)
//! luxgroup:  base64url(u8 1 | group 32 | u64 epoch | attachment: chunk ids, digest, key)
//! ```
//!
//! A key package is public, but whoever knows it can tell who is invited by it. An invitation has
//! the key of its chunks: whoever has the line learns who is in the group, and reads nothing.

use core::fmt;
use core::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::{GroupId, KeyPackageId};
use session_core::key_package::key_package_id;
use session_core::limits::KEY_PACKAGE_BYTES_MAX;
use session_e2ee::{Attachment, HEAD_MAX, Invitee};

const VERSION: u8 = 1;
/// Longest line that is read: a key package of 16 KiB has 22 kB, an invitation not one.
const LINE_MAX: usize = 32 * 1024;

/// Why a line is not a code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// It begins with another word.
    #[error("this is no code that begins with {0:?}")]
    OtherKind(&'static str),
    /// Longer than any code.
    #[error("a code of {0} characters: at most {LINE_MAX} are possible")]
    TooLong(usize),
    /// Not base64url.
    #[error("the code is damaged: copy it whole")]
    NotBase64,
    /// Of another version, cut off, or with something behind it.
    #[error("the code is damaged: {0}")]
    Decode(#[from] DecodeError),
}

/// A key package, to be handed over out of band: nothing on the chain links the two people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPackageCode(pub Invitee);

/// What an invited device joins by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvitationCode {
    /// The group.
    pub group: GroupId,
    /// The epoch that it leads to.
    pub epoch: u64,
    /// The sealed head: welcome, and where the ratchet tree is.
    pub(crate) sealed: Attachment,
}

impl KeyPackageCode {
    /// What names the key package.
    pub fn id(&self) -> KeyPackageId {
        key_package_id(&self.0.key_package)
    }
}

fn write(f: &mut fmt::Formatter<'_>, word: &str, body: &impl Encode) -> fmt::Result {
    let mut out = Writer::with_capacity(256);
    out.u8(VERSION).value(body);
    write!(f, "{word}{}", BASE64URL.encode(out.into_bytes()))
}

fn read<T: Decode>(text: &str, word: &'static str) -> Result<T, CodeError> {
    let text = text.trim();
    if text.len() > LINE_MAX {
        return Err(CodeError::TooLong(text.len()));
    }
    let body = text.strip_prefix(word).ok_or(CodeError::OtherKind(word))?;
    let bytes = BASE64URL.decode(body).map_err(|_| CodeError::NotBase64)?;
    let Some((&version, rest)) = bytes.split_first() else {
        return Err(CodeError::NotBase64);
    };
    if version != VERSION {
        return Err(CodeError::Decode(DecodeError::UnknownValue {
            what: "version of a code",
            value: version.into(),
        }));
    }
    Ok(T::from_bytes(rest)?)
}

const KEY: &str = "luxkey:";
const GROUP: &str = "luxgroup:";

impl Encode for KeyPackageCode {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.0.expires_ms).bytes(&self.0.key_package);
    }
}

impl Decode for KeyPackageCode {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self(Invitee {
            expires_ms: input.u64("expiry of a key package")?,
            key_package: input.bytes("key package", KEY_PACKAGE_BYTES_MAX)?.to_vec(),
        }))
    }
}

impl Encode for InvitationCode {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.group).u64(self.epoch).value(&self.sealed);
    }
}

impl Decode for InvitationCode {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            group: GroupId::decode(input)?,
            epoch: input.u64("epoch")?,
            sealed: head(input)?,
        })
    }
}

/// The sealed head of an invitation: of no more bytes than one has, so that nobody is made to fetch them.
fn head(input: &mut Reader<'_>) -> Result<Attachment, DecodeError> {
    let sealed = Attachment::decode(input)?;
    if sealed.bytes > HEAD_MAX as u64 {
        return Err(DecodeError::TooLong {
            what: "invitation",
            claimed: sealed.bytes,
            limit: HEAD_MAX as u64,
        });
    }
    Ok(sealed)
}

impl fmt::Display for KeyPackageCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, KEY, self)
    }
}

impl fmt::Display for InvitationCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write(f, GROUP, self)
    }
}

impl FromStr for KeyPackageCode {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        read(text, KEY)
    }
}

impl FromStr for InvitationCode {
    type Err = CodeError;

    fn from_str(text: &str) -> Result<Self, CodeError> {
        read(text, GROUP)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]
mod tests {
    use super::*;
    use session_e2ee::Randomness;

    #[test]
    fn codes_are_read_back_and_a_changed_one_is_refused() {
        let package = KeyPackageCode(Invitee {
            key_package: vec![7; 11_000],
            expires_ms: 5,
        });
        let line = package.to_string();
        assert_eq!(format!(" {line}\n").parse::<KeyPackageCode>(), Ok(package));
        let (sealed, _) =
            Attachment::seal("", "", &[3; 90_000], &mut Randomness::system()).unwrap();
        let invitation = InvitationCode {
            group: GroupId::from_bytes([4; 32]),
            epoch: 9,
            sealed,
        };
        let text = invitation.to_string();
        assert_eq!(text.parse::<InvitationCode>(), Ok(invitation.clone()));
        assert_eq!(
            line.parse::<InvitationCode>(),
            Err(CodeError::OtherKind(GROUP))
        );
        let short = &text[..text.len() - 4];
        assert!(matches!(
            short.parse::<InvitationCode>(),
            Err(CodeError::Decode(_))
        ));
        let garbage = format!("{GROUP}%%");
        assert_eq!(garbage.parse::<InvitationCode>(), Err(CodeError::NotBase64));
        let (sealed, _) =
            Attachment::seal("", "", &vec![3; HEAD_MAX + 1], &mut Randomness::system()).unwrap();
        let endless = InvitationCode {
            sealed,
            ..invitation
        };
        assert!(matches!(
            endless.to_string().parse::<InvitationCode>(),
            Err(CodeError::Decode(DecodeError::TooLong { .. }))
        ));
        let long = "x".repeat(LINE_MAX + 1);
        assert_eq!(
            long.parse::<InvitationCode>(),
            Err(CodeError::TooLong(LINE_MAX + 1))
        );
        let other = format!("{GROUP}{}", BASE64URL.encode([2, 0]));
        assert!(matches!(
            other.parse::<InvitationCode>(),
            Err(CodeError::Decode(DecodeError::UnknownValue { .. }))
        ));
    }
}
