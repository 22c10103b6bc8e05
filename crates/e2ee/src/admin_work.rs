//! What the clients of a group's members ask of its admins towards the chain, and are answered: inside
//! frames like everything else, and shown to nobody.
//!
//! ```text
//! member ─ countersign: its commit, stored as chunks ─────────▶ admin: examined, signed, submitted
//! admin  ─ set admins: the transaction that it wants to make ─▶ other admins: are those the roles?
//! other admins ─ signature over that transaction's action ────▶ admin: with a majority it is submitted
//! ```
//!
//! None of it has to be believed: a commit is judged like one of the log, a set of admins by the
//! group's roles, a signature by its key.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::ids::{ChunkId, Digest};
use session_core::limits::{COMMIT_CHUNKS_MAX, GROUP_ADMINS_MAX};
use session_crypto::{Signature, SigningPublicKey};

/// Something that a client asks of admins' clients, or answers.
#[derive(Clone, PartialEq, Eq)]
pub enum AdminWork {
    /// Where only admins advance the group: an admin is asked to sign this commit and to submit it.
    Countersign(CountersignRequest),
    /// Admins are asked to sign for another set of admin keys.
    SetAdmins(Box<AdminsRequest>),
    /// An admin's signature for that.
    Signature(Box<AdminSignature>),
}

/// A commit of the asking device that waits for an admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountersignRequest {
    /// The epoch that it leaves: in any other one nobody wants it any more.
    pub epoch: u64,
    /// The 1 to 32 chunks that it was cut into, which the chain has.
    pub chunks: Vec<ChunkId>,
}

/// A transaction that replaces a group's admin keys. Every field of it is here, so whoever is asked
/// computes what it signs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminsRequest {
    /// Until when the chain takes it, in milliseconds of block time.
    pub valid_until_ms: u64,
    /// Its salt.
    pub salt: u64,
    /// Hashes of the 1 to 16 admin keys that are to sign, ascending.
    pub signers: Vec<Digest>,
    /// The new 1 to 16 keys.
    pub admins: Vec<SigningPublicKey>,
}

/// A signature by an admin key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminSignature {
    /// What it is over.
    pub action: Digest,
    /// Hash of the key.
    pub admin: Digest,
    /// The signature.
    pub signature: Signature,
}

/// A list that names something.
fn list<T: Decode>(
    input: &mut Reader<'_>,
    what: &'static str,
    limit: usize,
    bytes_each: usize,
) -> Result<Vec<T>, DecodeError> {
    let list = input.list(what, limit, bytes_each)?;
    session_core::codec::at_least_one(what, list.len())?;
    Ok(list)
}

impl Encode for CountersignRequest {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.epoch).list(&self.chunks);
    }
}

impl Decode for CountersignRequest {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            epoch: input.u64("epoch")?,
            chunks: list(input, "chunks of a commit", COMMIT_CHUNKS_MAX, 32)?,
        })
    }
}

impl Encode for AdminsRequest {
    fn encode(&self, out: &mut Writer) {
        out.u64(self.valid_until_ms)
            .u64(self.salt)
            .list(&self.signers)
            .list(&self.admins);
    }
}

impl Decode for AdminsRequest {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            valid_until_ms: input.u64("valid until")?,
            salt: input.u64("salt")?,
            signers: list(input, "signing admins", GROUP_ADMINS_MAX, 32)?,
            admins: list(
                input,
                "admin keys",
                GROUP_ADMINS_MAX,
                SigningPublicKey::BYTES,
            )?,
        })
    }
}

impl Encode for AdminSignature {
    fn encode(&self, out: &mut Writer) {
        out.value(&self.action)
            .value(&self.admin)
            .raw(self.signature.as_bytes());
    }
}

impl Decode for AdminSignature {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            action: Decode::decode(input)?,
            admin: Decode::decode(input)?,
            signature: Decode::decode(input)?,
        })
    }
}

impl Encode for AdminWork {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Countersign(request) => out.u8(1).value(request),
            Self::SetAdmins(request) => out.u8(2).value(&**request),
            Self::Signature(signature) => out.u8(3).value(&**signature),
        };
    }
}

impl Decode for AdminWork {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = "work for admins";
        Ok(match input.u8(what)? {
            1 => Self::Countersign(Decode::decode(input)?),
            2 => Self::SetAdmins(Box::new(Decode::decode(input)?)),
            3 => Self::Signature(Box::new(Decode::decode(input)?)),
            value => {
                return Err(DecodeError::UnknownValue {
                    what,
                    value: value.into(),
                });
            }
        })
    }
}
