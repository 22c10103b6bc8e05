//! The client over TLS: version 1.3, hybrid key exchange, only certificates that are trusted.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::NamedGroup;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::PrivatePkcs8KeyDer;
use session_client::{Account, ClientError, RpcClient, RpcError};
use session_crypto::Identity;
use session_fixture::ThrowawayNode;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// A TLS end before a node; answers its port, its certificate in PEM, and the groups it agreed on.
async fn tls_before(node: SocketAddr) -> (u16, String, Arc<std::sync::Mutex<Vec<NamedGroup>>>) {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let groups = Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = groups.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), seen.clone());
            tokio::spawn(async move {
                let mut outside = acceptor.accept(stream).await.ok()?;
                let group = outside.get_ref().1.negotiated_key_exchange_group()?.name();
                seen.lock().unwrap().push(group);
                let mut inside = TcpStream::connect(node).await.ok()?;
                tokio::io::copy_bidirectional(&mut outside, &mut inside)
                    .await
                    .ok()
            });
        }
    });
    (port, made.cert.pem(), groups)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_tls_is_spoken_to_with_the_hybrid_key_exchange() {
    let node = ThrowawayNode::start().await.unwrap();
    let (port, pem, groups) = tls_before(node.address()).await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for host in ["localhost", "127.0.0.1"] {
        let address = format!("https://{host}:{port}");
        let rpc = RpcClient::with_roots(&address, None, Some(pem.as_bytes())).unwrap();
        let identity = Identity::generate().unwrap();
        Account::open(rpc, identity, &path(host)).await.unwrap();
    }
    let groups = groups.lock().unwrap().clone();
    assert!(!groups.is_empty());
    assert!(
        groups
            .iter()
            .all(|group| *group == NamedGroup::X25519MLKEM768),
        "{groups:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_trusts_is_refused_by_name() {
    let node = ThrowawayNode::start().await.unwrap();
    let (port, _, _) = tls_before(node.address()).await;
    let (_, other, _) = tls_before(node.address()).await;
    let directory = tempfile::tempdir().unwrap();
    let address = format!("https://127.0.0.1:{port}");
    for roots in [None, Some(other.as_bytes())] {
        let rpc = RpcClient::with_roots(&address, None, roots).unwrap();
        let identity = Identity::generate().unwrap();
        let refused = Account::open(rpc, identity, &directory.path().join("a")).await;
        let refused = refused.err().unwrap();
        assert!(
            matches!(refused, ClientError::Rpc(RpcError::Unreachable { .. })),
            "{refused}"
        );
        assert!(refused.to_string().contains("certificate"), "{refused}");
    }
    for (address, pem) in [("https://node", &b"nonsense"[..]), ("ftp://node", b"")] {
        assert!(RpcClient::with_roots(address, None, Some(pem)).is_err());
    }
    assert!(RpcClient::new("ftp://node", None).is_err());
}
