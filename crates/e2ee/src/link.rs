//! Adding a device to an account: a code that a person carries from one screen to the other, and two
//! sealed transfers that anybody may carry.
//!
//! ```text
//! new device                                                  device that is there
//!   code: 32 random bytes, shown as text or QR ──────────────▶  typed or scanned
//!   request, at place(code), sealed under key(code):
//!     device id, name, leaf key, one-time ML-KEM key  ───────▶  opened, shown, confirmed
//!                                                               certificate signed by the account
//!   ◀──────────────────────────────────────────────  grant, sealed under key(code, shared secret):
//!   checked, stored; from now on it can be invited              account, certificate, payload
//! ```
//!
//! Without the code nobody reads the request or finds it; with a code that leaks *later* nobody opens
//! the grant, whose key also comes from the one-time ML-KEM key. Text: `link1-` and 56 characters in
//! groups of seven, with a checksum that finds a mistyped character. The same text in upper case is
//! what a QR code holds (alphanumeric mode, version 5).

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::{Tag, sha256};
use session_core::ids::{AccountId, Digest};
use session_crypto::derive::keyed;
use session_crypto::{
    KemCiphertext, KemPublicKey, KemSecretKey, Secret, SharedSecret, SigningKey, aead,
};
use zeroize::Zeroizing;

use crate::credential::{DeviceCertificate, DeviceClaim, DeviceId};
use crate::error::{E2eeError, bounded};
use crate::limits::{LINK_PAYLOAD_MAX, NAME_MAX};
use crate::policy::text;
use crate::randomness::Randomness;
use crate::suite::Suite;

/// What begins the text of a code.
const PREFIX: &str = "link1-";
/// Crockford's base 32: no I, L, O, U.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 32 bytes of code and 3 of checksum are 280 bits: 56 characters.
const CODE_CHARS: usize = 56;
const CHECK_BYTES: usize = 3;
const GROUP_CHARS: usize = 7;

/// A linking code: 32 secret bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkCode(Secret<32>);

/// Why text is no code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkCodeError {
    /// Not `link1-` and 56 characters.
    #[error("a link code is link1- and 56 characters")]
    Shape,
    /// A character that no code has.
    #[error("a link code has no such character")]
    Character,
    /// The checksum is wrong: something was mistyped.
    #[error("the link code was mistyped")]
    Checksum,
}

impl LinkCode {
    /// A new code.
    ///
    /// # Errors
    /// [`E2eeError::Crypto`].
    pub fn generate(randomness: &mut Randomness) -> Result<Self, E2eeError> {
        Ok(Self(randomness.secret()?))
    }

    /// The code as a person types it. Looking at it is telling it.
    pub fn expose(&self) -> Zeroizing<String> {
        let check = sha256(self.0.expose());
        let bytes = self.0.expose().iter().chain(check.iter().take(CHECK_BYTES));
        let mut out = Zeroizing::new(String::from(PREFIX));
        let (mut held, mut bits, mut chars) = (0_u32, 0_u32, 0);
        for byte in bytes {
            held = held << 8 | u32::from(*byte);
            bits += 8;
            while bits >= 5 {
                bits -= 5;
                if chars > 0 && chars % GROUP_CHARS == 0 {
                    out.push('-');
                }
                let index = (held >> bits & 31) as usize;
                out.push(ALPHABET.get(index).copied().unwrap_or(b'0') as char);
                chars += 1;
            }
            held &= (1 << bits) - 1;
        }
        out
    }

    /// What a QR code holds: the same in upper case.
    pub fn expose_for_qr(&self) -> Zeroizing<String> {
        Zeroizing::new(self.expose().to_ascii_uppercase())
    }

    /// Where the request lies: a name that tells nothing of the code.
    pub fn place(&self) -> Digest {
        let place: Secret<32> = keyed(&self.0, Tag::LinkPlace, &[]);
        Digest::from_bytes(*place.expose())
    }

    /// Seeds of two identities through which the devices meet where there is nothing but a chain: the
    /// new device writes as the first, the one that is there as the second. Both are known to both,
    /// and nothing links them to the account.
    pub fn meeting(&self) -> [Secret<32>; 2] {
        [0_u8, 1].map(|side| keyed(&self.0, Tag::LinkMeeting, &[&[side]]))
    }

    pub(crate) const fn secret(&self) -> &Secret<32> {
        &self.0
    }

    pub(crate) const fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    fn request_key(&self) -> Secret<32> {
        keyed(&self.0, Tag::LinkRequest, &[])
    }

    fn grant_key(&self, shared: &SharedSecret, ciphertext: &KemCiphertext) -> Secret<32> {
        let parts: [&[u8]; 2] = [shared.expose(), ciphertext.as_bytes()];
        keyed(&self.0, Tag::LinkGrant, &parts)
    }
}

impl core::str::FromStr for LinkCode {
    type Err = LinkCodeError;

    /// Reads a code in either case; dashes and spaces between its characters do not count.
    fn from_str(typed: &str) -> Result<Self, LinkCodeError> {
        // Long enough for spaces everywhere, and short enough to look at each character.
        if typed.len() > 4 * CODE_CHARS {
            return Err(LinkCodeError::Shape);
        }
        let typed = Zeroizing::new(typed.trim().to_ascii_lowercase());
        let rest = typed.strip_prefix(PREFIX).ok_or(LinkCodeError::Shape)?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(CODE_CHARS));
        let (mut held, mut bits, mut chars) = (0_u32, 0_u32, 0);
        for c in rest.bytes().filter(|c| !matches!(c, b'-' | b' ')) {
            // What a person reads as one or zero.
            let c = match c {
                b'i' | b'l' => b'1',
                b'o' => b'0',
                c => c,
            };
            let value = ALPHABET.iter().position(|letter| *letter == c);
            let value = value.ok_or(LinkCodeError::Character)?;
            held = held << 5 | u32::try_from(value).unwrap_or_default();
            bits += 5;
            chars += 1;
            if bits >= 8 {
                bits -= 8;
                bytes.push((held >> bits & 0xff) as u8);
            }
            held &= (1 << bits) - 1;
        }
        if chars != CODE_CHARS {
            return Err(LinkCodeError::Shape);
        }
        let (secret, check) = bytes
            .split_first_chunk::<32>()
            .ok_or(LinkCodeError::Shape)?;
        if sha256(secret).starts_with(check) {
            Ok(Self(Secret::new(*secret)))
        } else {
            Err(LinkCodeError::Checksum)
        }
    }
}

/// What a new device asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRequest {
    /// Its cryptography.
    pub suite: Suite,
    /// Its id.
    pub device: DeviceId,
    /// What it calls itself: show it, and let a person confirm.
    pub name: String,
    /// Its leaf key, to be certified.
    pub leaf_key: Vec<u8>,
    /// What the grant is sealed to.
    kem: KemPublicKey,
}

/// What it is given.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkGrant {
    /// The account's word for it.
    pub certificate: DeviceCertificate,
    /// Whatever the client wants it to have: identity, contacts, names of groups. At most 1 MiB.
    pub payload: Vec<u8>,
}

impl LinkRequest {
    pub(crate) fn seal(
        suite: Suite,
        device: DeviceId,
        name: &str,
        leaf_key: &[u8],
        kem: &KemSecretKey,
        code: &LinkCode,
    ) -> Result<Vec<u8>, E2eeError> {
        let request = Self {
            suite,
            device,
            name: name.to_owned(),
            leaf_key: leaf_key.to_vec(),
            kem: kem.public_key().clone(),
        };
        Ok(aead::seal(&code.request_key(), &[], &request.to_bytes())?)
    }

    /// Opens a request with the code that a person brought.
    ///
    /// # Errors
    /// [`E2eeError::LinkDoesNotOpen`], [`E2eeError::Malformed`], [`E2eeError::TooLarge`].
    pub fn open(code: &LinkCode, sealed: &[u8]) -> Result<Self, E2eeError> {
        bounded("link request", sealed, 8 * 1024)?;
        let bytes = aead::open(&code.request_key(), &[], sealed);
        let bytes = bytes.map_err(|_| E2eeError::LinkDoesNotOpen)?;
        Self::from_bytes(&bytes).map_err(|_| E2eeError::Malformed {
            what: "link request",
        })
    }

    /// Certifies the device and seals what it is given. The account's signing key is needed.
    ///
    /// # Errors
    /// [`E2eeError::Crypto`], [`E2eeError::TooLarge`].
    pub fn grant(
        &self,
        code: &LinkCode,
        account: AccountId,
        signing: &SigningKey,
        serial: u64,
        now_ms: u64,
        payload: &[u8],
    ) -> Result<Vec<u8>, E2eeError> {
        bounded("link payload", payload, LINK_PAYLOAD_MAX)?;
        let claim = DeviceClaim {
            account,
            device: self.device,
            not_before_ms: now_ms,
            serial,
        };
        let grant = LinkGrant {
            certificate: claim.certify(signing, &self.leaf_key)?,
            payload: payload.to_vec(),
        };
        let plain = Zeroizing::new(grant.to_bytes());
        let (ciphertext, shared) = self.kem.encapsulate()?;
        let key = code.grant_key(&shared, &ciphertext);
        let mut out = ciphertext.as_bytes().to_vec();
        out.extend_from_slice(&aead::seal(&key, &[], &plain)?);
        Ok(out)
    }
}

impl LinkGrant {
    pub(crate) fn open(
        code: &LinkCode,
        kem: &KemSecretKey,
        sealed: &[u8],
    ) -> Result<Self, E2eeError> {
        bounded("link grant", sealed, LINK_PAYLOAD_MAX + 8 * 1024)?;
        let (ciphertext, rest) = sealed
            .split_at_checked(KemCiphertext::BYTES)
            .ok_or(E2eeError::LinkDoesNotOpen)?;
        let ciphertext = KemCiphertext::try_from(ciphertext)?;
        let shared = kem.decapsulate(&ciphertext)?;
        let key = code.grant_key(&shared, &ciphertext);
        let plain = aead::open(&key, &[], rest).map_err(|_| E2eeError::LinkDoesNotOpen)?;
        Self::from_bytes(&Zeroizing::new(plain))
            .map_err(|_| E2eeError::Malformed { what: "link grant" })
    }
}

impl core::fmt::Debug for LinkGrant {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "LinkGrant({:?}, ..)", self.certificate.claim())
    }
}

impl Encode for LinkRequest {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.suite)
            .value(&self.device)
            .bytes(self.name.as_bytes())
            .bytes(&self.leaf_key)
            .value(&self.kem);
    }
}

impl Decode for LinkRequest {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            suite: Decode::decode(input)?,
            device: Decode::decode(input)?,
            name: text(input, "device name", NAME_MAX)?,
            leaf_key: input.bytes("leaf key", 4_096)?.to_vec(),
            kem: Decode::decode(input)?,
        })
    }
}

impl Encode for LinkGrant {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.certificate).bytes(&self.payload);
    }
}

impl Decode for LinkGrant {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            certificate: Decode::decode(input)?,
            payload: input.bytes("link payload", LINK_PAYLOAD_MAX)?.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests;
