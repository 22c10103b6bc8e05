//! Files beside a conversation: sealed in chunks that anybody may keep, under a key that only the
//! message has.
//!
//! ```text
//! file ─ pad (Padmé) ─ cut at 65,520 ─ chunk i = XChaCha20-Poly1305(key, nonce = u64 i │ 16 zeros,
//!                                                aad = u64 i │ u64 chunks, part)      ≤ 65,536
//! digest = H(attachment, chunk hashes in order)
//! ```
//!
//! Each chunk opens by itself, so a download goes on where it stopped; the digest in the message
//! binds all of them, their number and their order. The key is random and used for one file.

use session_core::codec::{Decode, DecodeError, Encode, Reader, Writer};
use session_core::hash::Tag;
use session_core::ids::Digest;
use session_core::limits::CHUNK_BYTES_MAX;
use session_core::record::Chunk;
use session_crypto::{CryptoError, Secret, aead};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

use crate::limits::NAME_MAX;
use crate::padding::{pad, padded_len, unpad};
use crate::policy::text;
use crate::randomness::Randomness;

/// Bytes of the padded file in one chunk.
const PART_BYTES: usize = CHUNK_BYTES_MAX - aead::TAG_BYTES;

/// Largest file: with its padding at most 1,800 chunks, whose hashes are 58 kB in the message.
pub const ATTACHMENT_MAX: u64 = 100 * 1024 * 1024;

/// What a message says about a file: all that it takes to fetch, open and check it.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the file, at most 128 bytes. By its sender's word.
    pub name: String,
    /// Media type, at most 128 bytes. By its sender's word.
    pub media_type: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Hash over the sealed chunks.
    pub digest: Digest,
    /// The chain's id of each sealed chunk, in order: what it is fetched by.
    pub chunks: Vec<Digest>,
    /// The key of the file.
    key: Secret<32>,
}

/// Why a file cannot be sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachmentError {
    /// Larger than 100 MiB.
    #[error("a file of {bytes} bytes, at most {ATTACHMENT_MAX}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// A name or media type of more than 128 bytes.
    #[error("name or media type is too long")]
    NameTooLong,
    /// The message names no such chunk.
    #[error("there is no chunk {index}")]
    NoSuchChunk {
        /// Number of the chunk.
        index: usize,
    },
    /// The chunk is not the one that the message names.
    #[error("chunk {index} is not the one that was sent")]
    WrongChunk {
        /// Number of the chunk.
        index: usize,
    },
    /// Chunks are missing.
    #[error("chunk {index} is missing")]
    Missing {
        /// The first missing one.
        index: usize,
    },
    /// What the message says of the file contradicts itself.
    #[error("the message contradicts itself about its file")]
    Inconsistent,
    /// Sealing failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl Attachment {
    /// Seals a file. Answers what goes into the message, and the chunks that are to be stored.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`], [`AttachmentError::NameTooLong`], [`AttachmentError::Crypto`].
    pub fn seal(
        name: &str,
        media_type: &str,
        file: &[u8],
        randomness: &mut Randomness,
    ) -> Result<(Self, Vec<Vec<u8>>), AttachmentError> {
        if file.len() as u64 > ATTACHMENT_MAX {
            return Err(AttachmentError::TooLarge {
                bytes: file.len() as u64,
            });
        }
        if name.len() > NAME_MAX || media_type.len() > NAME_MAX {
            return Err(AttachmentError::NameTooLong);
        }
        let key = randomness.secret()?;
        let mut padded = Zeroizing::new(file.to_vec());
        pad(&mut padded);
        let count = padded.len().div_ceil(PART_BYTES);
        let mut sealed = Vec::with_capacity(count);
        for (index, part) in padded.chunks(PART_BYTES).enumerate() {
            let mut chunk = Vec::with_capacity(part.len() + aead::TAG_BYTES);
            let (nonce, aad) = place(index, count);
            aead::seal_with_nonce(&key, &nonce, &aad, part, &mut chunk)?;
            sealed.push(chunk);
        }
        let chunks: Vec<Digest> = sealed.iter().map(|chunk| chunk_hash(chunk)).collect();
        let attachment = Self {
            name: name.to_owned(),
            media_type: media_type.to_owned(),
            bytes: file.len() as u64,
            digest: digest_of(&chunks),
            chunks,
            key,
        };
        Ok((attachment, sealed))
    }

    /// Begins a download; parts that are there already can be put in again.
    ///
    /// # Errors
    /// [`AttachmentError::TooLarge`], [`AttachmentError::Inconsistent`].
    pub fn download(&self) -> Result<Download<'_>, AttachmentError> {
        if self.bytes > ATTACHMENT_MAX {
            return Err(AttachmentError::TooLarge { bytes: self.bytes });
        }
        let length = usize::try_from(self.bytes).unwrap_or(usize::MAX);
        let expected = padded_len(length).div_ceil(PART_BYTES);
        if self.chunks.len() != expected || digest_of(&self.chunks) != self.digest {
            return Err(AttachmentError::Inconsistent);
        }
        Ok(Download {
            of: self,
            parts: BTreeMap::new(),
        })
    }
}

impl core::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "Attachment({} bytes, {} chunks)",
            self.bytes,
            self.chunks.len()
        )
    }
}

/// A file whose chunks arrive in any order.
#[derive(Debug)]
pub struct Download<'a> {
    of: &'a Attachment,
    parts: BTreeMap<usize, Zeroizing<Vec<u8>>>,
}

impl Download<'_> {
    /// Takes a chunk, checks that it is the one the message names, and opens it.
    ///
    /// # Errors
    /// [`AttachmentError::NoSuchChunk`], [`AttachmentError::WrongChunk`].
    pub fn put(&mut self, index: usize, chunk: &[u8]) -> Result<(), AttachmentError> {
        let named = self.of.chunks.get(index);
        let named = named.ok_or(AttachmentError::NoSuchChunk { index })?;
        if chunk_hash(chunk) != *named {
            return Err(AttachmentError::WrongChunk { index });
        }
        let (nonce, aad) = place(index, self.of.chunks.len());
        let part = aead::open_with_nonce(&self.of.key, &nonce, &aad, chunk)
            .map_err(|_| AttachmentError::WrongChunk { index })?;
        self.parts.insert(index, Zeroizing::new(part));
        Ok(())
    }

    /// Chunks that are not there yet.
    pub fn missing(&self) -> impl Iterator<Item = (usize, Digest)> {
        let chunks = self.of.chunks.iter().copied().enumerate();
        chunks.filter(|(index, _)| !self.parts.contains_key(index))
    }

    /// The file, once every chunk is there.
    ///
    /// # Errors
    /// [`AttachmentError::Missing`], [`AttachmentError::Inconsistent`].
    pub fn finish(self) -> Result<Zeroizing<Vec<u8>>, AttachmentError> {
        if let Some((index, _)) = self.missing().next() {
            return Err(AttachmentError::Missing { index });
        }
        let mut padded = Zeroizing::new(Vec::new());
        for part in self.parts.values() {
            padded.extend_from_slice(part);
        }
        let file = unpad(&padded).map_err(|_| AttachmentError::Inconsistent)?;
        if file.len() as u64 != self.of.bytes {
            return Err(AttachmentError::Inconsistent);
        }
        Ok(Zeroizing::new(file.to_vec()))
    }
}

/// The name of a sealed chunk.
pub fn chunk_hash(chunk: &[u8]) -> Digest {
    Digest::from_bytes(*Chunk::id(chunk).as_bytes())
}

fn digest_of(chunks: &[Digest]) -> Digest {
    let parts: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk.as_bytes()[..]).collect();
    Digest::from_bytes(Tag::Attachment.hash(&parts))
}

fn place(index: usize, count: usize) -> ([u8; aead::NONCE_BYTES], [u8; 16]) {
    let mut nonce = [0; aead::NONCE_BYTES];
    for (to, from) in nonce.iter_mut().zip((index as u64).to_be_bytes()) {
        *to = from;
    }
    let both = u128::from(index as u64) << 64 | u128::from(count as u64);
    (nonce, both.to_be_bytes())
}

impl Encode for Attachment {
    fn encode(&self, out: &mut Writer) {
        out.bytes(self.name.as_bytes())
            .bytes(self.media_type.as_bytes())
            .u64(self.bytes)
            .value(&self.digest)
            .list(&self.chunks)
            .raw(self.key.expose());
    }
}

impl Decode for Attachment {
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        const CHUNKS_MAX: usize = 2_048;
        Ok(Self {
            name: text(input, "file name", NAME_MAX)?,
            media_type: text(input, "media type", NAME_MAX)?,
            bytes: input.u64("file bytes")?,
            digest: Decode::decode(input)?,
            chunks: input.list("file chunks", CHUNKS_MAX, 32)?,
            key: Secret::new(*Zeroizing::new(input.array::<32>("file key")?)),
        })
    }
}

#[cfg(test)]
mod tests;
