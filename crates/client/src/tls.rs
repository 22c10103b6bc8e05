//! TLS to a node: version 1.3 only, with the hybrid post-quantum key exchange where the node has it.
//!
//! The content of messages needs none of this. It hides from the network what the node sees
//! anyway: who writes to whom, and when; and it keeps a token from being read.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore,
    SignatureScheme, WantsVerifier,
};
use session_core::hash::sha256;

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
    let config = builder()?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(config)
}

/// The configuration that trusts one certificate alone, by its SHA-256, whatever name it bears.
pub(crate) fn pinned(certificate: [u8; 32]) -> Result<ClientConfig, TlsError> {
    let verifier = Pinned {
        certificate,
        provider: provider(),
    };
    let config = builder()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    // What is recorded today is read by tomorrow's computers: the hybrid first.
    provider.kx_groups = vec![kx_group::X25519MLKEM768, kx_group::X25519];
    Arc::new(provider)
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider());
    Ok(builder.with_protocol_versions(&[&rustls::version::TLS13])?)
}

/// Takes the one certificate that is known already: nobody else has to vouch for it.
#[derive(Debug)]
struct Pinned {
    certificate: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if sha256(end_entity) == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
