//! TLS in front of the RPC: certificate and key from PEM files, and who may speak.
//!
//! TLS 1.3 alone. The key exchange is X25519MLKEM768 with every client that sends a share for it,
//! as current browsers and our own clients do: traffic that is recorded today stays closed to a
//! quantum computer of tomorrow. X25519 alone is accepted from browsers and libraries that are
//! not that far. Certificates are still signed classically, which matters only while a connection
//! is being made.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use session_core::hash::sha256;
use tokio_rustls::TlsAcceptor;

/// Bytes of a PEM file at most: a chain of ten certificates has thirty thousand.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Where certificate and key lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM, the server's own first.
    pub cert: PathBuf,
    /// Its private key, PEM, not encrypted.
    pub key: PathBuf,
}

/// Why TLS is not served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate without its key.
    #[error("a TLS certificate is given without its key: set tlsKey, or --tls-key")]
    NoKeyGiven,
    /// A key without its certificate.
    #[error("a TLS key is given without its certificate: set tlsCert, or --tls-cert")]
    NoCertGiven,
    /// A file cannot be read.
    #[error("{path}: {error}")]
    File {
        /// File.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file is too long to be what it should be.
    #[error("{path}: longer than {PEM_BYTES_MAX} bytes, so no PEM of a certificate or key")]
    TooLong {
        /// File.
        path: PathBuf,
    },
    /// A file is not PEM.
    #[error("{path}: not PEM: {error}")]
    Garbled {
        /// File.
        path: PathBuf,
        /// Why.
        error: pem::Error,
    },
    /// PEM without a certificate.
    #[error("{path}: no certificate in it")]
    NoCert {
        /// File.
        path: PathBuf,
    },
    /// PEM without a key that can be used.
    #[error("{path}: no private key in it (an encrypted one must be decrypted first)")]
    NoKey {
        /// File.
        path: PathBuf,
    },
    /// Certificate and key do not make a server.
    #[error("{cert} and {key}: {error}")]
    Pair {
        /// File of the certificate.
        cert: PathBuf,
        /// File of the key.
        key: PathBuf,
        /// Why, such as keys that do not match.
        error: rustls::Error,
    },
}

impl TlsFiles {
    /// Both files, or none: one alone is a mistake that must not end in plain text.
    ///
    /// # Errors
    /// [`TlsError::NoKeyGiven`], [`TlsError::NoCertGiven`].
    pub fn both(cert: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<Self>, TlsError> {
        match (cert, key) {
            (Some(cert), Some(key)) => Ok(Some(Self { cert, key })),
            (Some(_), None) => Err(TlsError::NoKeyGiven),
            (None, Some(_)) => Err(TlsError::NoCertGiven),
            (None, None) => Ok(None),
        }
    }

    fn load(&self) -> Result<Loaded, TlsError> {
        warn_if_readable_by_others(&self.key);
        let garbled = |path: &Path| {
            let path = path.to_owned();
            move |error| TlsError::Garbled { path, error }
        };
        let bytes = read(&self.cert)?;
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes)
            .collect::<Result<_, _>>()
            .map_err(garbled(&self.cert))?;
        let path = self.cert.clone();
        let own = chain.first().ok_or(TlsError::NoCert { path })?;
        let fingerprint = sha256(own);
        let key = match PrivateKeyDer::from_pem_slice(&read(&self.key)?) {
            Ok(key) => key,
            Err(pem::Error::NoItemsFound) => {
                let path = self.key.clone();
                return Err(TlsError::NoKey { path });
            }
            Err(error) => return Err(garbled(&self.key)(error)),
        };
        let pair = |error| TlsError::Pair {
            cert: self.cert.clone(),
            key: self.key.clone(),
            error,
        };
        let mut provider = aws_lc_rs::default_provider();
        provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Loaded {
            config: Arc::new(config),
            fingerprint,
        })
    }
}

struct Loaded {
    config: Arc<ServerConfig>,
    fingerprint: [u8; 32],
}

/// TLS with the certificate as it was last read.
pub struct Tls {
    files: TlsFiles,
    loaded: RwLock<Loaded>,
}

impl Tls {
    /// Reads certificate and key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn load(files: TlsFiles) -> Result<Self, TlsError> {
        let loaded = RwLock::new(files.load()?);
        Ok(Self { files, loaded })
    }

    /// Reads both files again; connections from now on get the new certificate. On an error the
    /// old one stays.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn reload(&self) -> Result<(), TlsError> {
        let loaded = self.files.load()?;
        // It is replaced whole, so a panic elsewhere cannot spoil it.
        *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        Ok(())
    }

    /// The files.
    pub const fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// SHA-256 of the server's own certificate in DER.
    pub fn fingerprint(&self) -> [u8; 32] {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.fingerprint
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(loaded.config.clone())
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |error| TlsError::File {
        path: path.to_owned(),
        error,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    let mut bounded = file.take(PEM_BYTES_MAX + 1);
    bounded.read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > PEM_BYTES_MAX {
        let path = path.to_owned();
        return Err(TlsError::TooLong { path });
    }
    Ok(bytes)
}

#[cfg(unix)]
fn warn_if_readable_by_others(key: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let open = std::fs::metadata(key).is_ok_and(|meta| meta.permissions().mode() & 0o007 != 0);
    if open {
        let path = key.display();
        tracing::warn!(%path, "every user of this machine can use the TLS key: chmod 600 it");
    }
}

#[cfg(not(unix))]
fn warn_if_readable_by_others(_key: &Path) {}
