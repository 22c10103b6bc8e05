//! TLS to a node: version 1.3 only, with the hybrid post-quantum key exchange where the node has it.
//!
//! The content of messages needs none of this. It hides from the network what the node sees
//! anyway: who writes to whom, and when; and it keeps a token from being read.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
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

/// The configuration that trusts `roots`, PEM, or the authorities of the web. A certificate among
/// the roots is trusted also where it is the node's own, which it may be without an end: it is the
/// one that was given.
pub(crate) fn config(roots: Option<&[u8]>) -> Result<ClientConfig, TlsError> {
    let mut trusted = RootCertStore::empty();
    let Some(pem) = roots else {
        trusted.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        let builder = builder()?.with_root_certificates(trusted);
        return Ok(builder.with_no_client_auth());
    };
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem).take(ROOTS_MAX) {
        let certificate = certificate.map_err(TlsError::Pem)?;
        certificates.push(sha256(&certificate));
        trusted.add(certificate)?;
    }
    if trusted.is_empty() {
        return Err(TlsError::None);
    }
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(trusted), provider());
    let authorities = builder.build();
    let authorities = authorities.map_err(|error| rustls::Error::General(error.to_string()))?;
    trusting(Known {
        certificates,
        authorities: Some(authorities),
        provider: provider(),
    })
}

/// The configuration that trusts one certificate alone, by its SHA-256, whatever name it bears.
pub(crate) fn pinned(certificate: [u8; 32]) -> Result<ClientConfig, TlsError> {
    trusting(Known {
        certificates: vec![certificate],
        authorities: None,
        provider: provider(),
    })
}

fn trusting(known: Known) -> Result<ClientConfig, TlsError> {
    let builder = builder()?.dangerous();
    let builder = builder.with_custom_certificate_verifier(Arc::new(known));
    Ok(builder.with_no_client_auth())
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

/// Takes certificates that are known already: nobody else has to vouch for them. A self-signed one
/// as most tools make it says that it is an authority, which the ordinary check refuses at a
/// server, though it is the very one that was given.
#[derive(Debug)]
struct Known {
    /// SHA-256 of each.
    certificates: Vec<[u8; 32]>,
    /// Where names matter: checks what the known ones have signed.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let known = self.certificates.contains(&sha256(end_entity));
        match &self.authorities {
            None if known => Ok(ServerCertVerified::assertion()),
            None => Err(CertificateError::ApplicationVerificationFailure.into()),
            Some(_) if known => {
                let certificate = ParsedCertificate::try_from(end_entity)?;
                verify_server_name(&certificate, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            Some(authorities) => authorities.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
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
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}
