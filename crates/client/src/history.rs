//! What was said: texts and names of files, oldest first, sealed where the identity is.
//!
//! ```text
//! history.jsonl    one JSON value a line, readable by its owner only
//! history.sealed   one line each: base64(XChaCha20-Poly1305(JSON)), under the key in …
//! history.key      … an envelope v2 from the account to itself, with 32 random bytes
//! ```
//!
//! How lines are sealed: `sealed_lines.rs`. A plain file beside a
//! sealed identity is sealed at the first opening and removed; what a disk keeps of removed files
//! is out of reach.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use session_core::ids::{AccountId, SessionId};
use session_crypto::{Identity, Secret};
use zeroize::Zeroizing;

use crate::error::ClientError;
use crate::sealed_lines::{self, io};
use crate::state::{StateDir, StateError};

/// One line of the history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryLine {
    /// Session.
    pub session: SessionId,
    /// Sequence number; unknown for what was in the outbox when it was written down.
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

const PLAIN: &str = "history.jsonl";
const SEALED: &str = "history.sealed";
const KEY: SealedKey = SealedKey("history.key");

/// What every sealed line is bound to: that it is one.
const AAD: &[u8] = b"history line";

/// The history of one directory.
pub struct History {
    dir: StateDir,
    /// None: not sealed.
    key: Option<Secret<32>>,
}

impl History {
    /// The plain history of a directory.
    pub const fn plain(dir: StateDir) -> Self {
        Self { dir, key: None }
    }

    /// The history that only this identity reads. What lies there plain is sealed first.
    ///
    /// # Errors
    /// [`ClientError::HistoryKey`] where the key is another identity's; [`ClientError::State`].
    pub fn sealed(dir: StateDir, identity: &Identity) -> Result<Self, ClientError> {
        let key = KEY.load_or_make(&dir, identity)?;
        let key = Some(key);
        let this = Self { dir, key };
        this.seal_plain()?;
        Ok(this)
    }

    /// Seals the key to the identity's current keys: earlier ones are not kept for ever.
    pub(crate) fn follow_keys(&self, identity: &Identity) -> Result<(), ClientError> {
        match &self.key {
            Some(key) => KEY.write(&self.dir, identity, key),
            None => Ok(()),
        }
    }

    /// The key that seals the rest of the directory too.
    pub(crate) fn key(&self) -> Option<&Secret<32>> {
        self.key.as_ref()
    }

    fn path(&self) -> PathBuf {
        let name = if self.key.is_some() { SEALED } else { PLAIN };
        self.dir.path().join(name)
    }

    /// Appends lines, synced.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn remember(&self, lines: &[HistoryLine]) -> Result<(), ClientError> {
        if lines.is_empty() {
            return Ok(());
        }
        Ok(sealed_lines::append(&self.path(), &self.encode(lines)?)?)
    }

    /// Every line; a torn last one is left out.
    ///
    /// # Errors
    /// [`ClientError::State`].
    pub fn lines(&self) -> Result<Vec<HistoryLine>, ClientError> {
        let text = sealed_lines::read(&self.path())?;
        Ok(text.lines().filter_map(|line| self.decode(line)).collect())
    }

    fn encode(&self, lines: &[HistoryLine]) -> Result<Zeroizing<Vec<u8>>, ClientError> {
        let mut text = Zeroizing::new(Vec::new());
        for line in lines {
            let json = serde_json::to_vec(line).map_err(|error| StateError::Damaged {
                path: self.path(),
                error,
            })?;
            let json = Zeroizing::new(json);
            match &self.key {
                Some(key) => sealed_lines::seal(key, AAD, &json, &mut text)?,
                None => {
                    text.extend_from_slice(&json);
                    text.push(b'\n');
                }
            }
        }
        Ok(text)
    }

    fn decode(&self, line: &str) -> Option<HistoryLine> {
        match &self.key {
            Some(key) => {
                let json = sealed_lines::open(key, AAD, line)?;
                serde_json::from_slice(&json).ok()
            }
            None => serde_json::from_str(line).ok(),
        }
    }

    /// Seals what an earlier release wrote, or what was written before the identity was sealed.
    /// After a crash in between, lines that are sealed already are not sealed twice.
    fn seal_plain(&self) -> Result<(), ClientError> {
        let plain = Self::plain(self.dir.clone());
        let path = plain.path();
        if !path.exists() {
            return Ok(());
        }
        let mut lines = plain.lines()?;
        let known = self.lines()?;
        lines.retain(|line| !known.contains(line));
        // What was said first stays first.
        lines.extend(known);
        self.dir.write_file(SEALED, &self.encode(&lines)?)?;
        Ok(std::fs::remove_file(&path).map_err(io(&path))?)
    }
}

/// A file with a key, sealed by the account to itself.
pub(crate) struct SealedKey(pub(crate) &'static str);

impl SealedKey {
    /// The key, if there is one.
    pub(crate) fn load(
        &self,
        dir: &StateDir,
        identity: &Identity,
    ) -> Result<Option<Secret<32>>, ClientError> {
        let path = dir.path().join(self.0);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(&path)(error).into()),
        };
        let opened = identity.open(identity.account_id(), &bytes);
        let opened = opened.map_err(|_| ClientError::HistoryKey(path.clone()))?;
        let bytes = Zeroizing::new(opened.plaintext);
        let key = Secret::copy_from(&bytes).map_err(|_| ClientError::HistoryKey(path))?;
        Ok(Some(key))
    }

    /// The key; a random one where there is none.
    pub(crate) fn load_or_make(
        &self,
        dir: &StateDir,
        identity: &Identity,
    ) -> Result<Secret<32>, ClientError> {
        if let Some(key) = self.load(dir, identity)? {
            return Ok(key);
        }
        let key = Secret::random()?;
        self.write(dir, identity, &key)?;
        Ok(key)
    }

    /// Seals it to an identity.
    pub(crate) fn write(
        &self,
        dir: &StateDir,
        identity: &Identity,
        key: &Secret<32>,
    ) -> Result<(), ClientError> {
        let me = identity.account_id();
        let parties = session_crypto::envelope::Parties {
            sender: me,
            recipient: me,
        };
        let kem = identity.public().kem();
        let sealed = session_crypto::envelope::seal(kem, &parties, key.expose())?;
        dir.write_file(self.0, &sealed)?;
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "in a test a panic is the verdict")]
mod tests {
    use super::*;

    fn line(sequence: Option<u64>, text: &str) -> HistoryLine {
        HistoryLine {
            session: SessionId::from_bytes([1; 32]),
            sequence,
            sender: AccountId::from_bytes([2; 32]),
            time: "5".to_owned(),
            kind: "text".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn what_lay_plain_is_sealed_once_and_read_by_the_identity_alone() {
        let directory = tempfile::tempdir().unwrap();
        let dir = StateDir::open(directory.path()).unwrap();
        let first = [line(Some(0), "geheim eins"), line(None, "geheim zwei")];
        History::plain(dir.clone()).remember(&first).unwrap();
        let plain = std::fs::read(directory.path().join(PLAIN)).unwrap();

        let identity = Identity::generate_without_phrase().unwrap();
        let history = History::sealed(dir.clone(), &identity).unwrap();
        history.remember(&[line(Some(2), "geheim drei")]).unwrap();
        // A crash after the sealed file was written, before the plain one was removed.
        std::fs::write(directory.path().join(PLAIN), plain).unwrap();
        let again = History::sealed(dir.clone(), &identity).unwrap();
        let texts: Vec<String> = again.lines().unwrap().into_iter().map(|l| l.text).collect();
        assert_eq!(texts, ["geheim eins", "geheim zwei", "geheim drei"]);
        assert!(!directory.path().join(PLAIN).exists());
        for file in std::fs::read_dir(directory.path()).unwrap() {
            let path = file.unwrap().path();
            if path.is_file() {
                let bytes = std::fs::read(&path).unwrap();
                assert!(!bytes.windows(6).any(|w| w == b"geheim"), "{path:?}");
            }
        }
        let other = Identity::generate_without_phrase().unwrap();
        assert!(matches!(
            History::sealed(dir.clone(), &other).err(),
            Some(ClientError::HistoryKey(_))
        ));
        // Keys rotate more often than earlier ones are kept.
        let mut now = identity;
        for rotation in 1..40 {
            now = now.next(rotation).unwrap();
            again.follow_keys(&now).unwrap();
        }
        let later = History::sealed(dir, &now).unwrap();
        assert_eq!(later.lines().unwrap().len(), 3);
    }

    #[test]
    fn a_torn_line_and_a_changed_one_are_left_out() {
        let directory = tempfile::tempdir().unwrap();
        let dir = StateDir::open(directory.path()).unwrap();
        let identity = Identity::generate_without_phrase().unwrap();
        let history = History::sealed(dir, &identity).unwrap();
        let lines: Vec<HistoryLine> = (0..3).map(|n| line(Some(n), "text")).collect();
        history.remember(&lines).unwrap();
        let path = directory.path().join(SEALED);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut kept: Vec<String> = text.lines().map(str::to_owned).collect();
        let other = if kept[1].as_bytes()[50] == b'A' {
            "B"
        } else {
            "A"
        };
        kept[1].replace_range(50..51, other);
        kept[2].truncate(60);
        std::fs::write(&path, kept.join("\n")).unwrap();
        assert_eq!(history.lines().unwrap(), lines[..1]);
        // What comes behind a torn line is whole.
        history.remember(&[line(Some(9), "later")]).unwrap();
        assert_eq!(history.lines().unwrap().len(), 2);
    }
}
