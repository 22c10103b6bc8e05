//! Files in a conversation: sealed in chunks, put on the chain, fetched again one by one.

use std::path::{Path, PathBuf};

use session_core::ids::{ChunkId, Digest, GroupId};
use session_e2ee::{Attachment, Content, Randomness};

use super::{Chats, Update};
use crate::chunk::AT_ONCE;
use crate::content::is_file_name;
use crate::error::ClientError;
use crate::group::{Flushed, GroupError};
use crate::sealed_lines::io;

impl Chats {
    /// Seals a file under a key of its own, puts its chunks on the chain at this account's cost, and
    /// says where they are. `progress` is told how many chunks of how many are there.
    ///
    /// # Errors
    /// [`ClientError::FileName`], [`GroupError::Invitation`] for a file of more than 100 MiB, and as
    /// [`Chats::say`].
    pub async fn send_file(
        &mut self,
        group: GroupId,
        name: &str,
        file: &[u8],
        text: &str,
        progress: impl Fn(usize, usize),
    ) -> Result<(Vec<Update>, Flushed), ClientError> {
        if !is_file_name(name) {
            return Err(ClientError::FileName(name.to_owned()));
        }
        let sealed = Attachment::seal(name, "", file, &mut Randomness::system());
        let (file, chunks) = sealed.map_err(GroupError::from)?;
        let (total, mut done) = (chunks.len(), 0);
        for some in chunks.chunks(AT_ONCE) {
            self.account_mut().put_chunks(some.to_vec()).await?;
            done += some.len();
            progress(done, total);
        }
        let text = text.to_owned();
        self.say(group, &[Content::Attachment { file, text }]).await
    }

    /// Fetches a file and writes it into a directory, under its name and beside whatever has that
    /// name already. Chunks that were fetched before an interruption are not fetched again.
    ///
    /// # Errors
    /// [`ClientError`]; where a chunk is gone, or not the one that was sent, there is no file.
    pub async fn save_file(
        &mut self,
        file: &Attachment,
        directory: &Path,
        progress: impl Fn(usize, usize),
    ) -> Result<PathBuf, ClientError> {
        let parts = self.parts_of(&file.digest);
        std::fs::create_dir_all(&parts).map_err(io(&parts))?;
        let mut download = file.download().map_err(GroupError::from)?;
        let wanted: Vec<(usize, Digest)> = download.missing().collect();
        let total = wanted.len();
        for (index, id) in wanted {
            let part = parts.join(index.to_string());
            let kept = std::fs::read(&part).unwrap_or_default();
            if download.put(index, &kept).is_err() {
                let id = ChunkId::from_bytes(id.to_bytes());
                let chunk = self.groups.chunk(id).await?;
                download.put(index, &chunk).map_err(GroupError::from)?;
                std::fs::write(&part, &chunk).map_err(io(&part))?;
            }
            progress(index + 1, total);
        }
        let bytes = download.finish().map_err(GroupError::from)?;
        let path = write_beside(directory, &file.name, &bytes)?;
        let _leftover = std::fs::remove_dir_all(&parts);
        Ok(path)
    }

    fn parts_of(&self, digest: &Digest) -> PathBuf {
        let name = format!("{}.parts", const_hex::encode(digest.as_bytes()));
        self.account().dir().path().join("files").join(name)
    }
}

/// Writes a new file. A peer chooses neither where, nor what is replaced.
fn write_beside(directory: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, ClientError> {
    use std::io::Write as _;
    std::fs::create_dir_all(directory).map_err(io(directory))?;
    let name = if is_file_name(name) { name } else { "file" };
    let (stem, suffix) = match name.rsplit_once('.') {
        Some((stem, suffix)) if !stem.is_empty() => (stem, format!(".{suffix}")),
        _ => (name, String::new()),
    };
    for number in 1..10_000 {
        let path = match number {
            1 => directory.join(name),
            number => directory.join(format!("{stem} ({number}){suffix}")),
        };
        let mut options = std::fs::OpenOptions::new();
        match options.write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(io(&path)(error).into()),
            Ok(mut file) => {
                let written = file.write_all(bytes).and_then(|()| file.sync_all());
                written.map_err(io(&path))?;
                return Ok(path);
            }
        }
    }
    Err(ClientError::FileName(name.to_owned()))
}
