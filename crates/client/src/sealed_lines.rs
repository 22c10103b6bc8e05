//! Lines of a file that are sealed one by one, so that one can be added without touching the others.
//!
//! ```text
//! line = base64(nonce 24 | XChaCha20-Poly1305 ciphertext | tag 16) LF      AAD: what the lines are
//! ```
//!
//! Sealed lines are secret and whole; that none was taken out is not shown.

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use session_crypto::{CryptoError, Secret, aead};
use zeroize::Zeroizing;

use crate::state::StateError;

/// Appends a sealed line.
pub(crate) fn seal(
    key: &Secret<32>,
    aad: &[u8],
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), CryptoError> {
    let sealed = aead::seal(key, aad, plain)?;
    out.extend_from_slice(BASE64.encode(sealed).as_bytes());
    out.push(b'\n');
    Ok(())
}

/// What a line says; none for a torn or changed one.
pub(crate) fn open(key: &Secret<32>, aad: &[u8], line: &str) -> Option<Zeroizing<Vec<u8>>> {
    let sealed = BASE64.decode(line).ok()?;
    aead::open(key, aad, &sealed).ok().map(Zeroizing::new)
}

/// Adds whole lines to a file that its owner alone reads, and waits until the disk has them. Behind
/// a torn line they begin on one of their own.
pub(crate) fn append(path: &Path, lines: &[u8]) -> Result<(), StateError> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let write = |mut file: std::fs::File| {
        let mut last = [b'\n'];
        if file.seek(SeekFrom::End(0))? > 0 {
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
        }
        if last != [b'\n'] {
            file.write_all(b"\n")?;
        }
        file.write_all(lines)?;
        file.sync_all()
    };
    options.open(path).and_then(write).map_err(io(path))
}

/// A file's text; empty where there is none.
pub(crate) fn read(path: &Path) -> Result<String, StateError> {
    match std::fs::read(path) {
        // A torn line may end in the middle of anything.
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(io(path)(error)),
    }
}

pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StateError {
    let path: PathBuf = path.to_owned();
    |error| StateError::Io { path, error }
}
