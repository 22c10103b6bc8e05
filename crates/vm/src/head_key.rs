//! The node's head key, its watermark, and the operator's root key that certifies it.
//!
//! One key never signs two ids at one height (`spec/vm.md` §5). The key and a synced watermark of
//! the highest signed height share one file, `head.key`, which backups omit: a restored node
//! makes a new key, certified by the root key from the recovery phrase in `operator.phrase`.
//!
//! ```text
//! head.key = "LUXHEAD2" | secret key 4032 | u64 height | block id 32 | option certificate 3309
//!            | option root key 1952 | SHA-256
//! ```
//!
//! Version 1 had no root key: there it is taken from the phrase, if that is still in its place.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use session_core::codec::{Decode, DecodeError, Reader, Writer};
use session_core::hash::{Tag, sha256};
use session_core::header::{Header, SIGNATURE_LEN, SignedHead, head_key_payload};
use session_core::ids::{BlockId, ChainId, Digest};
use session_core::time::{SECOND_MS, Time};
use session_crypto::{
    CryptoError, Identity, PhraseError, RecoveryPhrase, Signature, SigningKey, SigningPublicKey,
};

const MAGIC: &[u8; 8] = b"LUXHEAD2";
/// Without the root key.
const MAGIC_1: &[u8; 8] = b"LUXHEAD1";
const SECRET_LEN: usize = session_crypto::SIGNING_SECRET_KEY_BYTES;

/// Signed heights that a running node remembers, so that a call that began before the newest
/// block can still be answered.
const SIGNED_KEPT: usize = 256;

/// Why head keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeadKeyError {
    /// Reading or writing a file failed.
    #[error("{path}: {error}")]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// `head.key` is damaged.
    #[error("{path} is damaged: remove it, and the node makes a new key")]
    Damaged {
        /// File.
        path: PathBuf,
    },
    /// The phrase is not 24 words of the list.
    #[error("{path}: {error}")]
    Phrase {
        /// File.
        path: PathBuf,
        /// Why.
        error: PhraseError,
    },
    /// A new head key cannot be certified without the root key.
    #[error(
        "{path} is missing: put the operator's 24-word recovery phrase there, so that a new head \
         key can be certified"
    )]
    NoRootKey {
        /// Where the phrase belongs.
        path: PathBuf,
    },
    /// The phrase is not that of the key that the genesis names.
    #[error("{path} belongs to another root key than the one in the genesis")]
    OtherRootKey {
        /// File.
        path: PathBuf,
    },
    /// Signing failed.
    #[error("{0}")]
    Crypto(#[from] CryptoError),
    /// The node signed a higher block, or another one at this height, before.
    #[error(
        "block {height} is not above the highest signed one, {signed}: the state was rolled back"
    )]
    BelowWatermark {
        /// Asked.
        height: u64,
        /// Signed before.
        signed: u64,
    },
}

/// A head key with the root key's signature over it.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// ML-DSA-65 public head key.
    pub head_key: SigningPublicKey,
    /// The root key's signature over `H(head-key, chain || head key)`.
    pub signature: Signature,
}

impl Certificate {
    /// What the root key signs.
    pub fn payload(chain: &ChainId, head_key: &SigningPublicKey) -> [u8; 32] {
        head_key_payload(chain, head_key.as_ref())
    }
}

/// `H(public-key, key)`.
pub fn key_digest(key: &SigningPublicKey) -> Digest {
    Digest::from_bytes(Tag::PublicKey.hash(&[key.as_ref()]))
}

struct State {
    /// Watermark: the highest signed height, as the file has it; none before the first.
    highest: Option<u64>,
    /// At and below it, only what stands in `signed` may be signed (again).
    floor: Option<u64>,
    /// What was signed at recent heights.
    signed: BTreeMap<u64, BlockId>,
    latest: Option<SignedHead>,
}

/// What a signature needs before it may leave.
enum Permit {
    /// Nothing: the watermark covers it.
    Covered,
    /// The watermark rises first.
    Raise,
}

impl State {
    fn new(signed: Option<(u64, BlockId)>) -> Self {
        Self {
            highest: signed.map(|(height, _)| height),
            floor: signed.map(|(height, _)| height),
            signed: signed.into_iter().collect(),
            latest: None,
        }
    }

    fn permit(&self, height: u64, id: &BlockId) -> Result<Permit, HeadKeyError> {
        let refused = Err(HeadKeyError::BelowWatermark {
            height,
            signed: self.highest.unwrap_or_default(),
        });
        match self.signed.get(&height) {
            Some(known) if known == id => Ok(Permit::Covered),
            Some(_) => refused,
            None if self.floor.is_some_and(|floor| height <= floor) => refused,
            None if self.highest.is_some_and(|highest| height < highest) => Ok(Permit::Covered),
            None => Ok(Permit::Raise),
        }
    }

    fn remember(&mut self, height: u64, id: BlockId) {
        self.highest = self.highest.max(Some(height));
        self.signed.insert(height, id);
        if self.signed.len() > SIGNED_KEPT
            && let Some((oldest, _)) = self.signed.pop_first()
        {
            self.floor = self.floor.max(Some(oldest));
        }
    }
}

/// Signs heads.
pub struct HeadKey {
    path: Option<PathBuf>,
    chain: ChainId,
    key: SigningKey,
    certificate: Option<Certificate>,
    /// The key that made the certificate, for those who check it.
    root_key: Option<SigningPublicKey>,
    state: Mutex<State>,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HeadKeyError + '_ {
    move |error| HeadKeyError::Io {
        path: path.to_owned(),
        error,
    }
}

/// Writes a file only its owner can read: whole and synced, or not at all.
///
/// # Errors
/// Those of the file system.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let beside = path.with_extension("new");
    let mut file = options.open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    match path.parent() {
        Some(directory) => std::fs::File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

/// The operator's root identity in `directory`; made when the directory is new.
///
/// # Errors
/// [`HeadKeyError`].
pub fn root_identity(directory: &Path, make: bool) -> Result<Option<Identity>, HeadKeyError> {
    let path = directory.join("operator.phrase");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let phrase: RecoveryPhrase =
                text.trim().parse().map_err(|error| HeadKeyError::Phrase {
                    path: path.clone(),
                    error,
                })?;
            Ok(Some(Identity::from_phrase(&phrase)?))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && make => {
            let identity = Identity::generate()?;
            if let Some(phrase) = identity.recovery_phrase() {
                let text = format!("{}\n", phrase.expose().as_str());
                write_private(&path, text.as_bytes()).map_err(io(&path))?;
            }
            Ok(Some(identity))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(&path)(error)),
    }
}

impl HeadKey {
    /// A key that lives as long as the process, for a node in memory.
    ///
    /// # Errors
    /// [`HeadKeyError::Crypto`].
    pub fn ephemeral(chain: ChainId) -> Result<Self, HeadKeyError> {
        let key = SigningKey::generate()?;
        Ok(Self {
            path: None,
            chain,
            key,
            certificate: None,
            root_key: None,
            state: Mutex::new(State::new(None)),
        })
    }

    /// Opens `head.key` in `directory`, or makes a new key and certifies it with the root key.
    ///
    /// # Errors
    /// [`HeadKeyError`].
    pub fn open(
        directory: &Path,
        chain: ChainId,
        root_key: Option<Digest>,
    ) -> Result<Self, HeadKeyError> {
        let path = directory.join("head.key");
        match std::fs::read(&path) {
            Ok(bytes) => {
                let mut this = Self::read(path, chain, &bytes)?;
                if this.root_key.is_none() && this.certificate.is_some() {
                    let root = root_identity(directory, false).ok().flatten();
                    let key = root.map(|root| root.public().signing().clone());
                    this.root_key = key.filter(|key| Some(key_digest(key)) == root_key);
                }
                Ok(this)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Self::make(directory, path, chain, root_key)
            }
            Err(error) => Err(io(&path)(error)),
        }
    }

    fn read(path: PathBuf, chain: ChainId, bytes: &[u8]) -> Result<Self, HeadKeyError> {
        type Parts = (
            SigningKey,
            u64,
            BlockId,
            Option<Signature>,
            Option<SigningPublicKey>,
        );
        let parse = || -> Result<Parts, ()> {
            let (body, sum) = bytes.split_last_chunk::<32>().ok_or(())?;
            if sha256(body) != *sum {
                return Err(());
            }
            let mut input = Reader::new(body);
            let parts = |input: &mut Reader<'_>| -> Result<_, DecodeError> {
                let magic: [u8; 8] = input.array("magic")?;
                let secret = input.take("secret key", SECRET_LEN)?.to_vec();
                let height = input.u64("height")?;
                let block = BlockId::decode(input)?;
                let signature: Option<[u8; SIGNATURE_LEN]> = input.option("certificate")?;
                let root: Option<SigningPublicKey> = match &magic {
                    MAGIC_1 => None,
                    _ => input.option("root key")?,
                };
                Ok((magic, secret, height, block, signature, root))
            };
            let (magic, secret, height, block, signature, root) =
                parts(&mut input).map_err(drop)?;
            input.finish().map_err(drop)?;
            if magic != *MAGIC && magic != *MAGIC_1 {
                return Err(());
            }
            let key = SigningKey::from_bytes(&secret).map_err(drop)?;
            let signature = signature
                .map(|s| Signature::try_from(s.as_slice()))
                .transpose();
            Ok((key, height, block, signature.map_err(drop)?, root))
        };
        let parsed = parse();
        let (key, height, block, signature, root_key) =
            parsed.map_err(|()| HeadKeyError::Damaged { path: path.clone() })?;
        let head_key = key.public_key().clone();
        let certificate = signature.map(|signature| Certificate {
            head_key,
            signature,
        });
        // A key that signed nothing yet has a block id of zeros.
        let signed = (block.as_bytes() != &[0; 32]).then_some((height, block));
        let state = Mutex::new(State::new(signed));
        Ok(Self {
            path: Some(path),
            chain,
            key,
            certificate,
            root_key,
            state,
        })
    }

    fn make(
        directory: &Path,
        path: PathBuf,
        chain: ChainId,
        root_key: Option<Digest>,
    ) -> Result<Self, HeadKeyError> {
        let key = SigningKey::generate()?;
        let (certificate, root_key) = match root_key {
            None => (None, None),
            Some(expected) => {
                let phrase = directory.join("operator.phrase");
                let root = root_identity(directory, false)?.ok_or(HeadKeyError::NoRootKey {
                    path: phrase.clone(),
                })?;
                if key_digest(root.public().signing()) != expected {
                    return Err(HeadKeyError::OtherRootKey { path: phrase });
                }
                let head_key = key.public_key().clone();
                let signature = root.sign(&Certificate::payload(&chain, &head_key))?;
                let certificate = Certificate {
                    head_key,
                    signature,
                };
                (Some(certificate), Some(root.public().signing().clone()))
            }
        };
        let this = Self {
            path: Some(path),
            chain,
            key,
            certificate,
            root_key,
            state: Mutex::new(State::new(None)),
        };
        this.write(0, &BlockId::from_bytes([0; 32]))?;
        Ok(this)
    }

    fn write(&self, height: u64, block: &BlockId) -> Result<(), HeadKeyError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let mut out = Writer::new();
        out.raw(MAGIC)
            .raw(self.key.expose())
            .u64(height)
            .value(block);
        let signature = self.certificate.as_ref().map(|c| *c.signature.as_bytes());
        out.option(signature.as_ref())
            .option(self.root_key.as_ref());
        let mut bytes = out.into_bytes();
        let sum = sha256(&bytes);
        bytes.extend_from_slice(&sum);
        write_private(path, &bytes).map_err(io(path))
    }

    /// The public key.
    pub fn public_key(&self) -> &SigningPublicKey {
        self.key.public_key()
    }

    /// The root key's certificate, where the genesis names a root key.
    pub const fn certificate(&self) -> Option<&Certificate> {
        self.certificate.as_ref()
    }

    /// The operator's root key that made the certificate.
    pub const fn root_key(&self) -> Option<&SigningPublicKey> {
        self.root_key.as_ref()
    }

    /// Signs an accepted block. A signature of the same block is renewed at most once a second.
    ///
    /// A call that began before the newest block may ask for an earlier one: that is signed too,
    /// as long as this process knows what it signed there.
    ///
    /// # Errors
    /// [`HeadKeyError::BelowWatermark`], and those of writing the watermark.
    pub fn sign(
        &self,
        header: &Header,
        id: &BlockId,
        now: Time,
    ) -> Result<SignedHead, HeadKeyError> {
        // What is behind the lock is replaced whole, so a panic elsewhere cannot spoil it.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(latest) = &state.latest
            && latest.block == *id
            && now.since(latest.signed_at) < SECOND_MS
        {
            return Ok(latest.clone());
        }
        match state.permit(header.height, id)? {
            Permit::Covered => {}
            // The watermark is on disk before the signature leaves.
            Permit::Raise => self.write(header.height, id)?,
        }
        state.remember(header.height, *id);
        let payload = SignedHead::payload(&self.chain, header.height, id, now);
        let signature = self.key.sign(&payload)?;
        let head = SignedHead {
            chain: self.chain,
            height: header.height,
            block: *id,
            signed_at: now,
            key: key_digest(self.key.public_key()),
            signature: Box::new(*signature.as_bytes()),
        };
        // An older head does not push out the one that everybody else asks for.
        if state.highest == Some(head.height) {
            state.latest = Some(head.clone());
        }
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(height: u64, time: u64) -> Header {
        Header {
            chain: ChainId::from_bytes([1; 32]),
            parent: BlockId::from_bytes([0; 32]),
            height,
            time: Time::from_ms(time),
            tx_root: [0; 32],
            count: 0,
            state_root: [0; 32],
        }
    }

    #[test]
    fn a_key_never_signs_two_blocks_of_one_height_not_even_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let chain = ChainId::from_bytes([1; 32]);
        let now = Time::from_ms(5_000);
        let (a, b) = (header(7, 1), header(7, 2));
        let key = HeadKey::open(directory.path(), chain, None).unwrap();
        let signed = key.sign(&a, &a.id(), now).unwrap();
        assert_eq!(key.sign(&a, &a.id(), now).unwrap(), signed);
        assert!(key.sign(&b, &b.id(), now).is_err());
        drop(key);
        let key = HeadKey::open(directory.path(), chain, None).unwrap();
        assert!(matches!(
            key.sign(&b, &b.id(), now),
            Err(HeadKeyError::BelowWatermark {
                height: 7,
                signed: 7
            })
        ));
        assert!(key.sign(&header(6, 1), &header(6, 1).id(), now).is_err());
        assert!(key.sign(&a, &a.id(), now).is_ok());
        assert!(key.sign(&header(8, 1), &header(8, 1).id(), now).is_ok());
    }

    #[test]
    fn an_earlier_head_is_signed_while_the_process_knows_what_it_signed_there() {
        let directory = tempfile::tempdir().unwrap();
        let chain = ChainId::from_bytes([1; 32]);
        let now = Time::from_ms(5_000);
        let sign = |key: &HeadKey, h: &Header| key.sign(h, &h.id(), now).map(|_| ());
        let key = HeadKey::open(directory.path(), chain, None).unwrap();
        sign(&key, &header(9, 1)).unwrap();
        // Two calls overtook each other; the other block of that height stays refused.
        sign(&key, &header(8, 1)).unwrap();
        assert!(sign(&key, &header(8, 2)).is_err());
        for height in 10..10 + SIGNED_KEPT as u64 {
            sign(&key, &header(height, 1)).unwrap();
        }
        // What was forgotten is not signed again, not even the same block.
        assert!(sign(&key, &header(7, 1)).is_err());
        assert!(sign(&key, &header(8, 1)).is_err());
        drop(key);
        let key = HeadKey::open(directory.path(), chain, None).unwrap();
        assert!(sign(&key, &header(200, 1)).is_err());
        sign(&key, &header(9 + SIGNED_KEPT as u64, 1)).unwrap();
    }

    #[test]
    fn a_new_key_needs_the_root_key_that_the_genesis_names() {
        let directory = tempfile::tempdir().unwrap();
        let chain = ChainId::from_bytes([1; 32]);
        let expected = Some(Digest::from_bytes([9; 32]));
        assert!(matches!(
            HeadKey::open(directory.path(), chain, expected),
            Err(HeadKeyError::NoRootKey { .. })
        ));
        let root = root_identity(directory.path(), true).unwrap().unwrap();
        assert!(matches!(
            HeadKey::open(directory.path(), chain, expected),
            Err(HeadKeyError::OtherRootKey { .. })
        ));
        let digest = key_digest(root.public().signing());
        let key = HeadKey::open(directory.path(), chain, Some(digest)).unwrap();
        let certificate = key.certificate().unwrap();
        let payload = Certificate::payload(&chain, &certificate.head_key);
        assert!(
            root.public()
                .verify(&payload, &certificate.signature)
                .is_ok()
        );
    }

    #[test]
    fn a_damaged_key_file_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let chain = ChainId::from_bytes([1; 32]);
        drop(HeadKey::open(directory.path(), chain, None).unwrap());
        let path = directory.path().join("head.key");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(matches!(
            HeadKey::open(directory.path(), chain, None),
            Err(HeadKeyError::Damaged { .. })
        ));
    }
}
