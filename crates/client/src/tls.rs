//! TLS to a node: version 1.3 only, with the hybrid post-quantum key exchange where the node has it.
//!
//! The content of messages needs none of this. It hides from the network what the node sees
//! anyway: who writes to whom, and when; and it keeps a token from being read.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Why certificates cannot be trusted.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not PEM, or not a certificate.
    #[error("not a certificate in PEM: {0}")]
    Pem(rustls::pki_types::pem::Error),
    /// PEM without any.
    #[error("there is no certificate in the file")]
    None,
    /// The library refuses it.
    #[error("{0}")]
    Library(#[from] rustls::Error),
}

/// Certificates in one file at most.
const ROOTS_MAX: usize = 1_000;

/// The configuration that trusts `roots`, PEM, or the authorities of the web.
pub(crate) fn config(roots: Option<&[u8]>) -> Result<ClientConfig, TlsError> {
    let mut trusted = RootCertStore::empty();
    match roots {
        None => trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem).take(ROOTS_MAX) {
                trusted.add(certificate.map_err(TlsError::Pem)?)?;
            }
            if trusted.is_empty() {
                return Err(TlsError::None);
            }
        }
    }
    let mut provider = default_provider();
    // What is recorded today is read by tomorrow's computers: the hybrid first.
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(config)
}
