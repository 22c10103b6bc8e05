//! An identity at rest: sealed with a passphrase, or exposed.
//!
//! ```text
//! sealed = "LUXID" || u8 version || session id 33
//!            || u32 memory KiB || u32 passes || u32 lanes || salt 16 || nonce 24   the header
//!          u32 n || XChaCha20-Poly1305(secrets) n      key = Argon2id(passphrase, salt)
//!          H(IdentityFile, everything before) 32       AAD = H(IdentityFile, header)
//! exposed = "LUXKEYS" || u8 version 1 || account 32 || secrets || H(IdentityFile, before) 32
//! secrets = 1 || seed 32   or   2 || KEM secret 2400 || signing secret 4032
//!    or, after a rotation: 3 || seed 32 || u32 rotation
//!    or                    4 || u32 rotation || KEM secret || signing secret || u8 n || n × KEM secret
//! ```
//!
//! Version 1 holds the first keys of an account, version 2 later ones: then the session id is not
//! that of the keys, and what is still unread is opened with the earlier KEM keys.
//!
//! The digest at the end tells a damaged file from a wrong passphrase. It is no protection: whoever
//! changes a file on purpose can write a new one, and then the passphrase seems wrong.

use crate::aead;
use crate::backend::{Active, Backend};
use crate::error::CryptoError;
use crate::id::IdentityId;
use crate::identity::{Identity, RETIRED_MAX};
use crate::kem::{KEM_SECRET_KEY_BYTES, KemSecretKey};
use crate::secret::{Secret, Seed, os_random};
use crate::sign::{SIGNING_SECRET_KEY_BYTES, SigningKey};
use session_core::codec::{DecodeError, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::AccountId;
use zeroize::{Zeroize, Zeroizing};

const MAGIC: &[u8; 5] = b"LUXID";
/// Holds the first keys of an account.
const VERSION: u8 = 1;
/// Holds later ones.
const VERSION_ROTATED: u8 = 2;
const EXPOSED_MAGIC: &[u8; 7] = b"LUXKEYS";
const SALT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;
const SECRETS_BYTES_MAX: usize =
    6 + (1 + RETIRED_MAX) * KEM_SECRET_KEY_BYTES + SIGNING_SECRET_KEY_BYTES + aead::TAG_BYTES;

/// What guessing one passphrase costs. Stored in the file, bounded when read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KdfCost {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

impl KdfCost {
    /// 64 MiB, three passes, four lanes: the second choice of RFC 9106 §4.
    pub const STANDARD: Self = Self {
        memory_kib: 64 * 1024,
        passes: 3,
        lanes: 4,
    };

    /// 32 KiB, one pass: for tests, where a passphrase protects nothing.
    pub const INSECURE_FOR_TESTS: Self = Self {
        memory_kib: 32,
        passes: 1,
        lanes: 1,
    };

    /// A hostile file can make a reader take this much memory and no more.
    pub const MEMORY_KIB_MAX: u32 = 256 * 1024;
    /// Passes are time, and a hostile file must not take much of that either.
    pub const PASSES_MAX: u32 = 10;
    /// More lanes than that help nobody.
    pub const LANES_MAX: u32 = 16;

    /// A cost of one's own.
    ///
    /// # Errors
    /// [`FileError::CostOutOfBounds`] above the limits or below Argon2's minimum of eight
    /// kibibytes a lane.
    pub fn new(memory_kib: u32, passes: u32, lanes: u32) -> Result<Self, FileError> {
        let fits = (1..=Self::LANES_MAX).contains(&lanes)
            && (1..=Self::PASSES_MAX).contains(&passes)
            && (8 * lanes..=Self::MEMORY_KIB_MAX).contains(&memory_kib);
        if fits {
            Ok(Self {
                memory_kib,
                passes,
                lanes,
            })
        } else {
            Err(FileError::CostOutOfBounds {
                memory_kib,
                passes,
                lanes,
            })
        }
    }

    fn key(&self, passphrase: &[u8], salt: &[u8; SALT_BYTES]) -> Result<Secret<32>, FileError> {
        let params = argon2::Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .map_err(|_| FileError::CostOutOfBounds {
                memory_kib: self.memory_kib,
                passes: self.passes,
                lanes: self.lanes,
            })?;
        // Our own memory, because the library's would not be wiped.
        let mut memory = vec![argon2::Block::default(); params.block_count()];
        let argon2 =
            argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let mut key = Secret::zero();
        let done = argon2.hash_password_into_with_memory(
            passphrase,
            salt,
            key.expose_mut(),
            memory.as_mut_slice(),
        );
        memory.iter_mut().for_each(Zeroize::zeroize);
        done.map_err(|_| FileError::PassphraseTooLong)?;
        Ok(key)
    }
}

/// Why an identity file does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// Not an identity file at all.
    #[error("not an identity file")]
    NotAnIdentityFile,
    /// Written by a later release.
    #[error("identity file of version {0}, this release reads up to {VERSION_ROTATED}")]
    UnknownVersion(u8),
    /// Cut short or changed since it was written.
    #[error("the identity file is damaged")]
    Damaged,
    /// The file is whole and the passphrase does not open it.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The file opened, and what is inside is not the identity on its label.
    #[error("the identity file holds another identity than it says")]
    ForeignIdentity,
    /// Costs outside the limits: opening could take all memory.
    #[error("passphrase cost out of bounds: {memory_kib} KiB, {passes} passes, {lanes} lanes")]
    CostOutOfBounds {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over it.
        passes: u32,
        /// Lanes.
        lanes: u32,
    },
    /// More than 4 GiB of passphrase.
    #[error("the passphrase is too long")]
    PassphraseTooLong,
    /// Making or opening it failed below.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// A sealed identity: readable by anybody, openable with the passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedIdentity {
    version: u8,
    id: IdentityId,
    cost: KdfCost,
    salt: [u8; SALT_BYTES],
    nonce: [u8; aead::NONCE_BYTES],
    sealed: Vec<u8>,
}

impl SealedIdentity {
    /// Seals an identity. An identity that has a seed keeps it, and with it its phrase.
    ///
    /// # Errors
    /// [`FileError::Crypto`], [`FileError::PassphraseTooLong`].
    pub fn seal(identity: &Identity, passphrase: &[u8], cost: KdfCost) -> Result<Self, FileError> {
        let mut salt = [0; SALT_BYTES];
        os_random(&mut salt)?;
        let nonce = aead::random_nonce()?;
        let mut file = Self {
            version: match identity.rotation() {
                0 => VERSION,
                _ => VERSION_ROTATED,
            },
            id: identity.id(),
            cost,
            salt,
            nonce,
            sealed: Vec::new(),
        };
        let secrets = secrets_of(identity);
        let key = cost.key(passphrase, &salt)?;
        Active::aead_seal(&key, &nonce, &file.aad(), &secrets, &mut file.sealed)?;
        Ok(file)
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`FileError::WrongPassphrase`], [`FileError::ForeignIdentity`], [`FileError::Damaged`].
    pub fn open(&self, passphrase: &[u8]) -> Result<Identity, FileError> {
        let key = self.cost.key(passphrase, &self.salt)?;
        let secrets = aead::open_body(&key, &self.nonce, &self.aad(), &self.sealed)
            .map(Zeroizing::new)
            .map_err(|_| FileError::WrongPassphrase)?;
        let identity = identity_of(&self.id.account_id(), &secrets)?;
        if (identity.rotation() == 0) == (self.version == VERSION) {
            Ok(identity)
        } else {
            Err(FileError::ForeignIdentity)
        }
    }

    /// Whose identity it says it is; certain only after [`SealedIdentity::open`].
    pub const fn id(&self) -> IdentityId {
        self.id
    }

    /// What one guess costs.
    pub const fn cost(&self) -> KdfCost {
        self.cost
    }

    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(&self.header()).bytes(&self.sealed);
        let mut bytes = out.into_bytes();
        let digest = Tag::IdentityFile.hash(&[&bytes]);
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads the bytes of a file without opening it.
    ///
    /// # Errors
    /// [`FileError::NotAnIdentityFile`], [`FileError::UnknownVersion`], [`FileError::Damaged`],
    /// [`FileError::CostOutOfBounds`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FileError> {
        let rest = bytes
            .strip_prefix(MAGIC)
            .ok_or(FileError::NotAnIdentityFile)?;
        match rest.first() {
            Some(&(VERSION | VERSION_ROTATED)) => {}
            Some(&later) => return Err(FileError::UnknownVersion(later)),
            None => return Err(FileError::Damaged),
        }
        let before = whole(bytes)?;
        Self::read(before.strip_prefix(MAGIC).ok_or(FileError::Damaged)?)
            .map_err(|_| FileError::Damaged)?
    }

    /// Outer error: the layout. Inner error: the cost.
    fn read(bytes: &[u8]) -> Result<Result<Self, FileError>, DecodeError> {
        let mut input = Reader::new(bytes);
        let version = input.u8("version")?;
        let prefix = input.u8("session id prefix")?;
        let account = AccountId::from_bytes(input.array("account id")?);
        let id = match prefix {
            0x07 => IdentityId::Pq(account),
            value => {
                return Err(DecodeError::UnknownValue {
                    what: "session id prefix",
                    value: value.into(),
                });
            }
        };
        let (memory_kib, passes, lanes) = (
            input.u32("memory")?,
            input.u32("passes")?,
            input.u32("lanes")?,
        );
        let salt = input.array("salt")?;
        let nonce = input.array("nonce")?;
        let sealed = input.bytes("secrets", SECRETS_BYTES_MAX)?.to_vec();
        input.finish()?;
        Ok(KdfCost::new(memory_kib, passes, lanes).map(|cost| Self {
            version,
            id,
            cost,
            salt,
            nonce,
            sealed,
        }))
    }

    fn header(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.raw(MAGIC)
            .u8(self.version)
            .u8(self.id.prefix())
            .value(&self.id.account_id());
        out.u32(self.cost.memory_kib)
            .u32(self.cost.passes)
            .u32(self.cost.lanes);
        out.raw(&self.salt).raw(&self.nonce);
        out.into_bytes()
    }

    fn aad(&self) -> [u8; 32] {
        Tag::IdentityFile.hash(&[&self.header()])
    }
}

/// What stands before the digest of a file, which must be its own.
fn whole(bytes: &[u8]) -> Result<&[u8], FileError> {
    let (before, digest) = bytes
        .split_last_chunk::<DIGEST_BYTES>()
        .ok_or(FileError::Damaged)?;
    if Tag::IdentityFile.hash(&[before]) == *digest {
        Ok(before)
    } else {
        Err(FileError::Damaged)
    }
}

impl Identity {
    /// The identity as a file that **anybody who reads it can use**. The identity JSON of the
    /// published project cannot hold keys that were rotated; this can.
    pub fn to_exposed_file(&self) -> Zeroizing<Vec<u8>> {
        let secrets = secrets_of(self);
        // Reserved at once: growing would leave copies of secrets behind.
        let mut out = Zeroizing::new(Vec::with_capacity(secrets.len() + 80));
        out.extend_from_slice(EXPOSED_MAGIC);
        out.push(VERSION);
        out.extend_from_slice(self.account_id().as_bytes());
        out.extend_from_slice(&secrets);
        let digest = Tag::IdentityFile.hash(&[&out]);
        out.extend_from_slice(&digest);
        out
    }

    /// Reads such a file.
    ///
    /// # Errors
    /// [`FileError::NotAnIdentityFile`], [`FileError::UnknownVersion`], [`FileError::Damaged`],
    /// [`FileError::ForeignIdentity`].
    pub fn from_exposed_file(bytes: &[u8]) -> Result<Self, FileError> {
        let rest = bytes
            .strip_prefix(EXPOSED_MAGIC)
            .ok_or(FileError::NotAnIdentityFile)?;
        match rest.first() {
            Some(&VERSION) => {}
            Some(&later) => return Err(FileError::UnknownVersion(later)),
            None => return Err(FileError::Damaged),
        }
        let before = whole(bytes)?;
        let rest = before.get(EXPOSED_MAGIC.len() + 1..);
        let (account, secrets) = rest
            .and_then(|rest| rest.split_first_chunk())
            .ok_or(FileError::Damaged)?;
        identity_of(&AccountId::from_bytes(*account), secrets)
    }
}

const SECRETS_SEED: u8 = 1;
const SECRETS_EXPANDED: u8 = 2;
const SECRETS_SEED_ROTATED: u8 = 3;
const SECRETS_EXPANDED_ROTATED: u8 = 4;

fn secrets_of(identity: &Identity) -> Zeroizing<Vec<u8>> {
    // Reserved at once: growing would leave copies of secrets behind.
    let mut out = Zeroizing::new(Vec::with_capacity(SECRETS_BYTES_MAX));
    let rotation = identity.rotation();
    match (identity.seed(), rotation) {
        (Some(seed), 0) => {
            out.push(SECRETS_SEED);
            out.extend_from_slice(seed.expose());
        }
        (Some(seed), _) => {
            out.push(SECRETS_SEED_ROTATED);
            out.extend_from_slice(seed.expose());
            out.extend_from_slice(&rotation.to_be_bytes());
        }
        (None, 0) => {
            out.push(SECRETS_EXPANDED);
            out.extend_from_slice(identity.kem_key().expose());
            out.extend_from_slice(identity.signing_key().expose());
        }
        (None, _) => {
            out.push(SECRETS_EXPANDED_ROTATED);
            out.extend_from_slice(&rotation.to_be_bytes());
            out.extend_from_slice(identity.kem_key().expose());
            out.extend_from_slice(identity.signing_key().expose());
            let retired = identity.retired();
            // At most RETIRED_MAX.
            out.push(u8::try_from(retired.len()).unwrap_or(u8::MAX));
            for key in retired {
                out.extend_from_slice(key.expose());
            }
        }
    }
    out
}

/// The identity of `account` in these secrets.
fn identity_of(account: &AccountId, secrets: &[u8]) -> Result<Identity, FileError> {
    let (&kind, rest) = secrets.split_first().ok_or(FileError::Damaged)?;
    let identity = match kind {
        SECRETS_SEED => Identity::from_seed(Seed::copy_from(rest)?)?,
        SECRETS_SEED_ROTATED => {
            let (seed, rotation) = rest.split_last_chunk().ok_or(FileError::Damaged)?;
            let rotation = nonzero(*rotation)?;
            Identity::from_seed_at(Seed::copy_from(seed)?, rotation)?
        }
        SECRETS_EXPANDED => {
            let (kem, signing) = rest
                .split_at_checked(KEM_SECRET_KEY_BYTES)
                .ok_or(FileError::Damaged)?;
            Identity::from_secret_keys(kem, signing)?
        }
        SECRETS_EXPANDED_ROTATED => expanded_rotated(account, rest)?,
        _ => return Err(FileError::Damaged),
    };
    if identity.account_id() == *account {
        Ok(identity)
    } else {
        Err(FileError::ForeignIdentity)
    }
}

fn nonzero(rotation: [u8; 4]) -> Result<u32, FileError> {
    match u32::from_be_bytes(rotation) {
        0 => Err(FileError::Damaged),
        rotation => Ok(rotation),
    }
}

/// The account is the file's word: these keys do not hash to it, and only the chain can tell
/// whether they are its own.
fn expanded_rotated(account: &AccountId, rest: &[u8]) -> Result<Identity, FileError> {
    let mut input = Reader::new(rest);
    let damaged = |_| FileError::Damaged;
    let rotation = nonzero(input.array("rotation").map_err(damaged)?)?;
    let kem = input.take("KEM secret", KEM_SECRET_KEY_BYTES);
    let kem = KemSecretKey::from_bytes(kem.map_err(damaged)?)?;
    let signing = input.take("signing secret", SIGNING_SECRET_KEY_BYTES);
    let signing = SigningKey::from_bytes(signing.map_err(damaged)?)?;
    let count = usize::from(input.u8("retired keys").map_err(damaged)?);
    if count > RETIRED_MAX {
        return Err(FileError::Damaged);
    }
    let mut retired = Vec::with_capacity(count);
    for _ in 0..count {
        let key = input.take("retired KEM secret", KEM_SECRET_KEY_BYTES);
        retired.push(KemSecretKey::from_bytes(key.map_err(damaged)?)?);
    }
    input.finish().map_err(damaged)?;
    Ok(Identity::rotated(*account, rotation, kem, signing, retired))
}

#[cfg(test)]
mod tests;
