//! What a client keeps between runs: contacts, cursors, trust, and the outbox.
//!
//! One directory, readable by its owner only: `state.json` is replaced whole, `outbox/` holds one
//! file for each transaction that is not known to be accepted, `keys/` the verified public keys
//! of others for the time when the node does not answer. Contacts are sealed where the identity
//! is; the texts of messages are in the [history](crate::History).

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use session_core::ids::{AccountId, Digest, GroupId, KeyPackageId, SessionId};
use session_crypto::{KemPublicKey, PublicIdentity, Secret, SigningPublicKey, aead};

use crate::chats::Known;
use crate::trust::Trust;

/// Why state cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    Io {
        /// File.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Sealed contacts cannot be read or written.
    #[error("{path}: its contacts are sealed to another identity, or damaged")]
    Contacts {
        /// File.
        path: PathBuf,
    },
    /// A file is damaged.
    #[error("{path} is damaged: {error}")]
    Damaged {
        /// File.
        path: PathBuf,
        /// Why.
        error: serde_json::Error,
    },
}

/// Somebody with a name and the keys that the name is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// Account.
    pub account: AccountId,
    /// Public keys that were seen first, hex: ML-KEM-768.
    pub kem_key: String,
    /// ML-DSA-65.
    pub signing_key: String,
    /// Rotations that were accepted since.
    pub key_index: u32,
    /// ML-DSA-65 keys that the name was bound to before, hex, newest first: what they signed can
    /// still be checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<String>,
}

/// Earlier keys of a contact that are kept: each takes 4 kB.
const EARLIER_MAX: usize = 8;

impl Contact {
    /// An account with the keys that were shown for it.
    pub fn new(account: AccountId, keys: &PublicIdentity, key_index: u32) -> Self {
        Self {
            account,
            kem_key: const_hex::encode(keys.kem().as_bytes()),
            signing_key: const_hex::encode(keys.signing().as_bytes()),
            key_index,
            earlier: Vec::new(),
        }
    }

    /// Remembers the keys that the name was bound to before.
    pub fn follow(&mut self, before: Self) {
        self.earlier = before.earlier;
        if before.signing_key != self.signing_key {
            self.earlier.insert(0, before.signing_key);
            self.earlier.truncate(EARLIER_MAX);
        }
    }

    /// The keys, if the file is whole.
    pub fn keys(&self) -> Option<PublicIdentity> {
        let bytes = |text: &str| const_hex::decode(text).unwrap_or_default();
        let kem = KemPublicKey::try_from(bytes(&self.kem_key).as_slice()).ok()?;
        let signing = SigningPublicKey::try_from(bytes(&self.signing_key).as_slice()).ok()?;
        Some(PublicIdentity::new(kem, signing))
    }

    /// Whether these are the keys that the name is bound to. Both count: a node that exchanged
    /// the first alone would read what is sealed to it.
    pub fn has_keys(&self, keys: &PublicIdentity) -> bool {
        self.kem_key == const_hex::encode(keys.kem().as_bytes())
            && self.signing_key == const_hex::encode(keys.signing().as_bytes())
    }
}

/// Progress in one session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Progress {
    /// Next sequence number to read.
    pub cursor: u64,
    /// Next counter of ours.
    pub counter: u64,
    /// Highest counter seen of each sender, plus one.
    pub seen: BTreeMap<AccountId, u64>,
    /// Participants, this account among them, ascending; proved. Empty until they were asked for.
    pub participants: Vec<AccountId>,
    /// A name of one's own for the session.
    pub name: Option<String>,
    /// When it was opened, by block time in milliseconds; 0 until asked for.
    pub created: u64,
    /// When it expired as of the last look; it may have been renewed since.
    pub expires: u64,
    /// Whether this account closed it, perhaps only in its outbox so far.
    pub closed: bool,
}

/// Everything but history and outbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Contacts by name. Empty on disk where the identity is sealed.
    pub contacts: BTreeMap<String, Contact>,
    /// Contacts as they lie on disk then: base64 of XChaCha20-Poly1305 over their JSON, under the
    /// key of the history.
    pub sealed_contacts: Option<String>,
    /// Sessions.
    pub sessions: BTreeMap<SessionId, Progress>,
    /// What is believed of the chain.
    pub trust: Trust,
    /// Cursors of the account's own logs: memberships, requests.
    pub logs: [u64; 2],
    /// Next number of an outbox file.
    pub outbox_next: u64,
    /// Since when each transaction of the outbox waits, in milliseconds since the Unix epoch.
    pub outbox_since: BTreeMap<u64, u64>,
    /// Whether the account was registered on the chain when it was last looked at.
    pub registered: bool,
    /// How long the chain keeps bodies, in milliseconds; 0: not asked for yet.
    pub retention_ms: u64,
    /// Keys and devices of people in conversations, as they were seen last.
    pub people: BTreeMap<AccountId, Known>,
    /// Conversations without a bell.
    pub muted: BTreeSet<GroupId>,
    /// Accounts whose invitations are followed at once: their request was accepted, or this account
    /// wrote to them first.
    pub welcome: BTreeSet<AccountId>,
    /// Accounts from which nothing is read any more.
    pub blocked: BTreeSet<AccountId>,
    /// Sessions of strangers that are not shown any more.
    pub ignored: BTreeSet<SessionId>,
    /// Key packages of others that were used, the latest last.
    pub used_packages: Vec<KeyPackageId>,
    /// Hash of the recovery key to register with, where the identity file holds no seed.
    pub recovery: Option<Digest>,
}

/// A directory with a client's state.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    /// Seals contacts.
    key: Option<Secret<32>>,
}

/// What sealed contacts are bound to: that they are some.
const CONTACTS_AAD: &[u8] = b"contacts";

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StateError + '_ {
    move |error| StateError::Io {
        path: path.to_owned(),
        error,
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
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

impl StateDir {
    /// Opens or makes a directory.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let outbox = path.join("outbox");
        std::fs::create_dir_all(&outbox).map_err(io(&outbox))?;
        Ok(Self {
            path: path.to_owned(),
            key: None,
        })
    }

    /// From now on contacts are sealed with this key when the state is saved.
    pub(crate) fn seal_with(&mut self, key: &Secret<32>) {
        self.key = Some(key.clone());
    }

    /// Opens the contacts of a state that was loaded, and keeps those that lay there plain.
    ///
    /// # Errors
    /// [`StateError::Contacts`] where they are sealed to another identity, or changed.
    pub(crate) fn open_contacts(&self, state: &mut State) -> Result<(), StateError> {
        let (Some(key), Some(sealed)) = (&self.key, &state.sealed_contacts) else {
            return Ok(());
        };
        let sealed = BASE64.decode(sealed).unwrap_or_default();
        let opened = aead::open(key, CONTACTS_AAD, &sealed).ok();
        let contacts: Option<BTreeMap<String, Contact>> =
            opened.and_then(|json| serde_json::from_slice(&json).ok());
        let path = || self.path.join("state.json");
        for (name, contact) in contacts.ok_or_else(|| StateError::Contacts { path: path() })? {
            state.contacts.entry(name).or_insert(contact);
        }
        Ok(())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the state; empty on a first start.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn load(&self) -> Result<State, StateError> {
        let path = self.path.join("state.json");
        match std::fs::read(&path) {
            Ok(bytes) => {
                serde_json::from_slice(&bytes).map_err(|error| StateError::Damaged { path, error })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(io(&path)(error)),
        }
    }

    /// Replaces the state, whole and synced.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let path = self.path.join("state.json");
        let damaged = |error| StateError::Damaged {
            path: path.clone(),
            error,
        };
        let bytes = match &self.key {
            Some(key) => {
                let contacts = serde_json::to_vec(&state.contacts).map_err(damaged)?;
                let sealed = aead::seal(key, CONTACTS_AAD, &contacts);
                let sealed = sealed.map_err(|_| StateError::Contacts { path: path.clone() })?;
                let mut state = state.clone();
                state.contacts.clear();
                state.sealed_contacts = Some(BASE64.encode(sealed));
                serde_json::to_vec_pretty(&state).map_err(damaged)?
            }
            None => serde_json::to_vec_pretty(state).map_err(damaged)?,
        };
        write_whole(&path, &bytes).map_err(io(&path))
    }

    /// Writes a file of this directory, whole, synced and readable by its owner only.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn write_file(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, StateError> {
        let path = self.path.join(name);
        write_whole(&path, bytes).map_err(io(&path))?;
        Ok(path)
    }

    fn outbox_file(&self, number: u64) -> PathBuf {
        self.path.join("outbox").join(format!("{number:012}.tx"))
    }

    fn unknown_file(&self, number: u64) -> PathBuf {
        self.path
            .join("outbox")
            .join(format!("{number:012}.unknown"))
    }

    /// Sets a transaction aside whose fate nobody can tell: it is not sent again by itself.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn set_aside(&self, number: u64) -> Result<(), StateError> {
        let path = self.outbox_file(number);
        std::fs::rename(&path, self.unknown_file(number)).map_err(io(&path))
    }

    /// Puts one back among those that are sent. Answers whether there was one.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn put_back(&self, number: u64) -> Result<bool, StateError> {
        let path = self.unknown_file(number);
        match std::fs::rename(&path, self.outbox_file(number)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io(&path)(error)),
        }
    }

    /// Keys of an account as they were last shown and verified.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn kept_keys(&self, account: &AccountId) -> Result<Option<Contact>, StateError> {
        let path = self.keys_file(account);
        match std::fs::read(&path) {
            // A damaged copy of public keys is no loss: they are asked for again.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io(&path)(error)),
        }
    }

    /// Keeps an account's verified keys, for the time when the node does not answer.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep_keys(&self, keys: &Contact) -> Result<(), StateError> {
        if self.kept_keys(&keys.account)?.as_ref() == Some(keys) {
            return Ok(());
        }
        let path = self.keys_file(&keys.account);
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(io(directory))?;
        }
        let bytes = serde_json::to_vec(keys).map_err(|error| StateError::Damaged {
            path: path.clone(),
            error,
        })?;
        write_whole(&path, &bytes).map_err(io(&path))
    }

    fn keys_file(&self, account: &AccountId) -> PathBuf {
        let name = format!("{}.json", const_hex::encode(account));
        self.path.join("keys").join(name)
    }

    /// Keeps a transaction until it is known to be accepted.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep(&self, number: u64, tx: &[u8]) -> Result<(), StateError> {
        let path = self.outbox_file(number);
        write_whole(&path, tx).map_err(io(&path))
    }

    /// Forgets a transaction, also one that was set aside.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn forget(&self, number: u64) -> Result<(), StateError> {
        for path in [self.outbox_file(number), self.unknown_file(number)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(io(&path)(error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Transactions that are not known to be accepted, oldest first.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn waiting(&self) -> Result<Vec<(u64, Vec<u8>)>, StateError> {
        self.outbox(".tx")
    }

    /// Transactions whose fate nobody can tell, oldest first.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn unknown(&self) -> Result<Vec<(u64, Vec<u8>)>, StateError> {
        self.outbox(".unknown")
    }

    fn outbox(&self, suffix: &str) -> Result<Vec<(u64, Vec<u8>)>, StateError> {
        let directory = self.path.join("outbox");
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(io(&directory))? {
            let name = entry.map_err(io(&directory))?.file_name();
            let number = name
                .to_str()
                .and_then(|n| n.strip_suffix(suffix))
                .map(str::parse);
            if let Some(Ok(number)) = number {
                files.push((number, directory.join(name)));
            }
        }
        files.sort_unstable();
        let mut out = Vec::with_capacity(files.len());
        for (number, path) in files {
            out.push((number, std::fs::read(&path).map_err(io(&path))?));
        }
        Ok(out)
    }
}
