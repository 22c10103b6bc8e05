//! What a client keeps between runs: contacts, cursors, trust, history, and the outbox.
//!
//! One directory, readable by its owner only: `state.json` is replaced whole, `history.jsonl`
//! only grows, `outbox/` holds one file for each transaction that is not known to be accepted.
//! Message texts in the history are not encrypted on disk.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use session_core::ids::{AccountId, SessionId};
use session_crypto::PublicIdentity;

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
}

impl Contact {
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
    /// The other participant.
    pub peer: Option<AccountId>,
}

/// Everything but history and outbox.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct State {
    /// Contacts by name.
    pub contacts: BTreeMap<String, Contact>,
    /// Sessions.
    pub sessions: BTreeMap<SessionId, Progress>,
    /// What is believed of the chain.
    pub trust: Trust,
    /// Cursors of the account's own logs: memberships, requests.
    pub logs: [u64; 2],
    /// Next number of an outbox file.
    pub outbox_next: u64,
}

/// One line of the history.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryLine {
    /// Session.
    pub session: SessionId,
    /// Sequence number; unknown for what is still in the outbox.
    pub sequence: Option<u64>,
    /// Sender.
    pub sender: AccountId,
    /// Block time, or when it was sent; milliseconds since the Unix epoch.
    pub time: String,
    /// `text` or `file`.
    pub kind: String,
    /// The text, or the file's name.
    pub text: String,
}

/// A directory with a client's state.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

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
        })
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
        let bytes = serde_json::to_vec_pretty(state).map_err(|error| StateError::Damaged {
            path: path.clone(),
            error,
        })?;
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

    /// Appends to the history.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn remember(&self, lines: &[HistoryLine]) -> Result<(), StateError> {
        let path = self.path.join("history.jsonl");
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, line).map_err(|error| StateError::Damaged {
                path: path.clone(),
                error,
            })?;
            text.push(b'\n');
        }
        let mut options = std::fs::OpenOptions::new();
        options.append(true).create(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let write = |mut file: std::fs::File| file.write_all(&text).and_then(|()| file.sync_all());
        options.open(&path).and_then(write).map_err(io(&path))
    }

    /// The whole history; a torn last line is left out.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn history(&self) -> Result<Vec<HistoryLine>, StateError> {
        let path = self.path.join("history.jsonl");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text
                .lines()
                .filter_map(|l| serde_json::from_str(l).ok())
                .collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io(&path)(error)),
        }
    }

    fn outbox_file(&self, number: u64) -> PathBuf {
        self.path.join("outbox").join(format!("{number:012}.tx"))
    }

    /// Keeps a transaction until it is known to be accepted.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn keep(&self, number: u64, tx: &[u8]) -> Result<(), StateError> {
        let path = self.outbox_file(number);
        write_whole(&path, tx).map_err(io(&path))
    }

    /// Forgets a transaction.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn forget(&self, number: u64) -> Result<(), StateError> {
        let path = self.outbox_file(number);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(&path)(error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Transactions that are not known to be accepted, oldest first.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn waiting(&self) -> Result<Vec<(u64, Vec<u8>)>, StateError> {
        let directory = self.path.join("outbox");
        let mut numbers = Vec::new();
        for entry in std::fs::read_dir(&directory).map_err(io(&directory))? {
            let name = entry.map_err(io(&directory))?.file_name();
            let number = name
                .to_str()
                .and_then(|n| n.strip_suffix(".tx"))
                .map(str::parse);
            if let Some(Ok(number)) = number {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        let mut out = Vec::with_capacity(numbers.len());
        for number in numbers {
            let path = self.outbox_file(number);
            out.push((number, std::fs::read(&path).map_err(io(&path))?));
        }
        Ok(out)
    }
}
