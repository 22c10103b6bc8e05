//! An identity at rest: sealed with a passphrase.
//!
//! ```text
//! "LUXID" || u8 version 1 || session id 33
//!   || u32 memory KiB || u32 passes || u32 lanes || salt 16 || nonce 24      the header
//! u32 n || XChaCha20-Poly1305(secrets) n         key = Argon2id(passphrase, salt)
//! H(IdentityFile, everything before) 32          AAD = H(IdentityFile, header)
//! secrets = 1 || seed 32   or   2 || KEM secret 2400 || signing secret 4032
//! ```
//!
//! The digest at the end tells a damaged file from a wrong passphrase. It is no protection: whoever
//! changes a file on purpose can write a new one, and then the passphrase seems wrong.

use crate::aead;
use crate::backend::{Active, Backend};
use crate::error::CryptoError;
use crate::id::IdentityId;
use crate::identity::Identity;
use crate::kem::KEM_SECRET_KEY_BYTES;
use crate::secret::{Secret, Seed, os_random};
use crate::sign::SIGNING_SECRET_KEY_BYTES;
use session_core::codec::{DecodeError, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::AccountId;
use zeroize::{Zeroize, Zeroizing};

const MAGIC: &[u8; 5] = b"LUXID";
const VERSION: u8 = 1;
const SALT_BYTES: usize = 16;
const DIGEST_BYTES: usize = 32;
const SECRETS_BYTES_MAX: usize =
    1 + KEM_SECRET_KEY_BYTES + SIGNING_SECRET_KEY_BYTES + aead::TAG_BYTES;

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
    #[error("identity file of version {0}, this release reads {VERSION}")]
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
        let identity = identity_of(&secrets)?;
        if identity.id() == self.id {
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
            Some(&VERSION) => {}
            Some(&later) => return Err(FileError::UnknownVersion(later)),
            None => return Err(FileError::Damaged),
        }
        let (before, digest) = bytes
            .split_last_chunk::<DIGEST_BYTES>()
            .ok_or(FileError::Damaged)?;
        if Tag::IdentityFile.hash(&[before]) != *digest {
            return Err(FileError::Damaged);
        }
        Self::read(before.strip_prefix(MAGIC).ok_or(FileError::Damaged)?)
            .map_err(|_| FileError::Damaged)?
    }

    /// Outer error: the layout. Inner error: the cost.
    fn read(bytes: &[u8]) -> Result<Result<Self, FileError>, DecodeError> {
        let mut input = Reader::new(bytes);
        input.u8("version")?;
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
            .u8(VERSION)
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

const SECRETS_SEED: u8 = 1;
const SECRETS_EXPANDED: u8 = 2;

fn secrets_of(identity: &Identity) -> Zeroizing<Vec<u8>> {
    // Reserved at once: growing would leave copies of secrets behind.
    let mut out = Zeroizing::new(Vec::with_capacity(SECRETS_BYTES_MAX));
    match identity.seed() {
        Some(seed) => {
            out.push(SECRETS_SEED);
            out.extend_from_slice(seed.expose());
        }
        None => {
            out.push(SECRETS_EXPANDED);
            out.extend_from_slice(identity.kem_key().expose());
            out.extend_from_slice(identity.signing_key().expose());
        }
    }
    out
}

fn identity_of(secrets: &[u8]) -> Result<Identity, FileError> {
    match secrets.split_first() {
        Some((&SECRETS_SEED, seed)) => Ok(Identity::from_seed(Seed::copy_from(seed)?)?),
        Some((&SECRETS_EXPANDED, keys)) => {
            let (kem, signing) = keys
                .split_at_checked(KEM_SECRET_KEY_BYTES)
                .ok_or(FileError::Damaged)?;
            Ok(Identity::from_secret_keys(kem, signing)?)
        }
        Some(_) | None => Err(FileError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: KdfCost = KdfCost::INSECURE_FOR_TESTS;

    #[test]
    fn both_kinds_of_identity_come_back_and_only_one_has_a_phrase() {
        for identity in [Identity::generate(), Identity::generate_without_phrase()] {
            let identity = identity.unwrap();
            let file = SealedIdentity::seal(&identity, b"correct horse", COST).unwrap();
            let read = SealedIdentity::from_bytes(&file.to_bytes()).unwrap();
            assert_eq!(read, file);
            assert_eq!(read.id(), identity.id());
            let back = read.open(b"correct horse").unwrap();
            assert_eq!(back.public(), identity.public());
            assert_eq!(back.recovery_phrase(), identity.recovery_phrase());
            assert_eq!(
                read.open(b"battery staple").unwrap_err(),
                FileError::WrongPassphrase
            );
        }
    }

    #[test]
    fn damage_is_told_from_a_wrong_passphrase() {
        let identity = Identity::generate_without_phrase().unwrap();
        let bytes = SealedIdentity::seal(&identity, b"p", COST)
            .unwrap()
            .to_bytes();
        for at in (6..bytes.len()).step_by(37) {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(
                SealedIdentity::from_bytes(&bad),
                Err(FileError::Damaged),
                "byte {at}"
            );
        }
        for cut in [6, 50, bytes.len() - 1] {
            assert_eq!(
                SealedIdentity::from_bytes(&bytes[..cut]),
                Err(FileError::Damaged)
            );
        }
        assert_eq!(
            SealedIdentity::from_bytes(b"{}"),
            Err(FileError::NotAnIdentityFile)
        );
        let mut later = bytes;
        later[5] = 9;
        assert_eq!(
            SealedIdentity::from_bytes(&later),
            Err(FileError::UnknownVersion(9))
        );
    }

    #[test]
    fn a_hostile_file_cannot_ask_for_gigabytes() {
        let identity = Identity::generate().unwrap();
        let mut file = SealedIdentity::seal(&identity, b"p", COST).unwrap();
        file.cost.memory_kib = u32::MAX;
        assert_eq!(
            SealedIdentity::from_bytes(&file.to_bytes()),
            Err(FileError::CostOutOfBounds {
                memory_kib: u32::MAX,
                passes: 1,
                lanes: 1
            })
        );
        assert!(KdfCost::new(7, 1, 1).is_err());
        assert!(KdfCost::new(64, 0, 1).is_err());
        assert!(KdfCost::new(64, 1, u32::MAX).is_err());
    }

    #[test]
    fn a_relabelled_file_does_not_open() {
        let identity = Identity::generate().unwrap();
        let mut file = SealedIdentity::seal(&identity, b"p", COST).unwrap();
        file.id = IdentityId::Pq(AccountId::from_bytes([1; 32]));
        assert_eq!(file.open(b"p").unwrap_err(), FileError::WrongPassphrase);
    }

    #[test]
    fn the_standard_cost_is_within_its_own_limits() {
        let KdfCost {
            memory_kib,
            passes,
            lanes,
        } = KdfCost::STANDARD;
        assert_eq!(
            KdfCost::new(memory_kib, passes, lanes),
            Ok(KdfCost::STANDARD)
        );
    }
}
