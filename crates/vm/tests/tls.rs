//! TLS in front of the RPC: who gets in, what is said to those who do not, and how it is renewed.

#![cfg(unix)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unreachable_pub,
    reason = "in a test a panic is the verdict"
)]

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use rustls::crypto::aws_lc_rs::kx_group::{SECP256R1, X25519, X25519MLKEM768};
use rustls::crypto::{SupportedKxGroup, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, NamedGroup, ProtocolVersion, RootCertStore};
use serde_json::{Value, json};
use session_core::hash::sha256;
use session_storage::MemoryStore;
use session_vm::node::NodeOptions;
use session_vm::rpc::ServerOptions;
use session_vm::rpc::tls::{Tls, TlsError, TlsFiles};
use support::program::{Program, program, refusal};
use support::{PATIENCE, Reply, TestNode, connect, http, read_reply, until};

/// A self-signed certificate and its key in files.
struct Issued {
    directory: tempfile::TempDir,
    der: CertificateDer<'static>,
}

impl Issued {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let der = write_pair(directory.path());
        Self { directory, der }
    }

    fn files(&self) -> TlsFiles {
        TlsFiles {
            cert: self.directory.path().join("cert.pem"),
            key: self.directory.path().join("key.pem"),
        }
    }
}

fn write_pair(directory: &Path) -> CertificateDer<'static> {
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let issued = rcgen::generate_simple_self_signed(names).unwrap();
    std::fs::write(directory.join("cert.pem"), issued.cert.pem()).unwrap();
    let key = issued.signing_key.serialize_pem();
    std::fs::write(directory.join("key.pem"), key).unwrap();
    issued.cert.der().clone()
}

fn node(issued: &Issued) -> TestNode {
    let options = ServerOptions {
        tls: Some(Arc::new(Tls::load(issued.files()).unwrap())),
        ..ServerOptions::default()
    };
    TestNode::on(
        Arc::new(MemoryStore::new()),
        NodeOptions::default(),
        options,
    )
}

fn client(
    trusted: &CertificateDer<'static>,
    groups: &[&'static dyn SupportedKxGroup],
    alpn: &[&[u8]],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = groups.to_vec();
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config
}

fn modern(trusted: &CertificateDer<'static>) -> ClientConfig {
    client(trusted, &[X25519MLKEM768, X25519], &[b"h2", b"http/1.1"])
}

type Stream = rustls::StreamOwned<ClientConnection, TcpStream>;

fn dial(address: SocketAddr, config: ClientConfig) -> Result<Stream, std::io::Error> {
    let name = ServerName::try_from("localhost").unwrap();
    let session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut stream = rustls::StreamOwned::new(session, connect(address));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

fn get(stream: &mut Stream, path: &str) -> Reply {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    read_reply(stream).expect("a reply")
}

#[test]
fn the_key_exchange_is_post_quantum_where_the_client_can_and_x25519_where_it_cannot() {
    let issued = Issued::new();
    let node = node(&issued);
    let negotiated = |groups: &[&'static dyn SupportedKxGroup], alpn: &[&[u8]]| {
        let mut stream = dial(node.address, client(&issued.der, groups, alpn)).ok()?;
        assert_eq!(get(&mut stream, "/ready").status, 200);
        let session = &stream.conn;
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3));
        let spoken = session.alpn_protocol().map(<[u8]>::to_vec);
        Some((
            session.negotiated_key_exchange_group().unwrap().name(),
            spoken,
        ))
    };
    let http = Some(b"http/1.1".to_vec());
    let both: [&[u8]; 2] = [b"h2", b"http/1.1"];
    assert_eq!(
        negotiated(&[X25519MLKEM768, X25519], &both),
        Some((NamedGroup::X25519MLKEM768, http.clone()))
    );
    // The share that a client sends decides: no second round trip is forced on it.
    assert_eq!(
        negotiated(&[X25519, X25519MLKEM768], &both),
        Some((NamedGroup::X25519, http.clone()))
    );
    assert_eq!(negotiated(&[X25519], &[]), Some((NamedGroup::X25519, None)));
    assert_eq!(negotiated(&[SECP256R1], &both), None);
    assert_eq!(negotiated(&[X25519MLKEM768], &[b"h2"]), None);
    // Nobody else's certificate is taken for it.
    assert!(dial(node.address, modern(&Issued::new().der)).is_err());
}

#[test]
fn what_is_no_tls_1_3_gets_an_alert_or_a_sentence() {
    let issued = Issued::new();
    let node = node(&issued);
    let plain = http(node.address, "GET", "/health", &[], None);
    assert_eq!(
        (plain.status, plain.text().trim()),
        (400, "this port speaks https:// only")
    );
    let posted = http(node.address, "POST", "/rpc", &[], Some(&[b'{'; 300_000]));
    assert_eq!(posted.status, 400);
    // A ClientHello of TLS 1.2: one cipher suite, no extension.
    let mut hello = vec![22, 3, 1, 0, 45, 1, 0, 0, 41, 3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x2f, 1, 0]);
    for bytes in [
        &hello[..],
        &[22, 3, 1, 0, 4, 0xff, 0xff, 0xff, 0xff],
        &[22; 20_000],
    ] {
        let mut stream = connect(node.address);
        let _cut = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        // An alert, content type 21, or nothing more.
        assert!(
            answer.first().is_none_or(|first| *first == 21),
            "{answer:?}"
        );
    }
    let mut stream = dial(node.address, modern(&issued.der)).unwrap();
    assert_eq!(get(&mut stream, "/ready").status, 200);
}

#[test]
fn a_subscription_goes_through_tls() {
    let issued = Issued::new();
    let node = node(&issued);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(modern(&issued.der)));
    let answer = node.runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = connector.connect(name, stream).await.unwrap();
        let (mut socket, _) = tokio_tungstenite::client_async("wss://localhost/ws", stream)
            .await
            .unwrap();
        let wish = json!({ "sessionId": session_core::ids::SessionId::from_bytes([1; 32]) });
        let wish = tokio_tungstenite::tungstenite::Message::text(wish.to_string());
        socket.send(wish).await.unwrap();
        let received = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap();
        received.unwrap().unwrap().into_text().unwrap().to_string()
    });
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["error"]["message"], "unknown session");
}

#[test]
fn slow_handshakes_keep_nobody_waiting_and_come_to_an_end() {
    let issued = Issued::new();
    let node = node(&issued);
    let open = || node.node.metrics().connections.load(Ordering::Relaxed);
    // A third says nothing, a third begins a hello, a third begins plain HTTP.
    let beginnings: [&[u8]; 3] = [b"", &[22, 3, 1, 2, 0, 1], b"GET"];
    let slow: Vec<_> = (0..600)
        .map(|i| {
            let mut stream = connect(node.address);
            stream.write_all(beginnings[i % 3]).unwrap();
            stream
        })
        .collect();
    until("they count as connections", || {
        (open() == 600).then_some(())
    });
    let began = Instant::now();
    for _ in 0..5 {
        let mut stream = dial(node.address, modern(&issued.der)).unwrap();
        assert_eq!(get(&mut stream, "/ready").status, 200);
    }
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
    until("their time is over", || (open() == 0).then_some(()));
    drop(slow);
}

#[test]
fn each_mistake_in_the_files_has_its_sentence() {
    let (issued, other) = (Issued::new(), Issued::new());
    let good = issued.files();
    let file = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = issued.directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let load = |cert: &Path, key: &Path| {
        let (cert, key) = (cert.to_owned(), key.to_owned());
        Tls::load(TlsFiles { cert, key }).map(drop).unwrap_err()
    };
    let missing = issued.directory.path().join("missing.pem");
    let empty = file("empty.pem", b"");
    let garbled = file(
        "garbled.pem",
        b"-----BEGIN CERTIFICATE-----\nAAAA*\n-----END CERTIFICATE-----\n",
    );
    let hollow = file(
        "hollow.pem",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    );
    let locked = file(
        "locked.pem",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
    );
    let long = file("long.pem", &vec![b'\n'; (1 << 20) + 1]);
    assert!(matches!(load(&missing, &good.key), TlsError::File { path, .. } if path == missing));
    assert!(matches!(load(&good.cert, &missing), TlsError::File { path, .. } if path == missing));
    assert!(matches!(load(&empty, &good.key), TlsError::NoCert { path } if path == empty));
    assert!(matches!(
        load(&good.key, &good.key),
        TlsError::NoCert { .. }
    ));
    assert!(matches!(
        load(&good.cert, &good.cert),
        TlsError::NoKey { .. }
    ));
    assert!(matches!(load(&good.cert, &locked), TlsError::NoKey { path } if path == locked));
    assert!(matches!(load(&garbled, &good.key), TlsError::Garbled { path, .. } if path == garbled));
    assert!(matches!(load(&hollow, &good.key), TlsError::Pair { cert, .. } if cert == hollow));
    assert!(matches!(load(&long, &good.key), TlsError::TooLong { path } if path == long));
    let mismatch = load(&good.cert, &other.files().key);
    assert!(matches!(mismatch, TlsError::Pair { .. }), "{mismatch}");
    let (cert, key) = (Some(good.cert.clone()), Some(good.key.clone()));
    assert!(matches!(
        TlsFiles::both(cert, None),
        Err(TlsError::NoKeyGiven)
    ));
    assert!(matches!(
        TlsFiles::both(None, key),
        Err(TlsError::NoCertGiven)
    ));
    assert!(matches!(TlsFiles::both(None, None), Ok(None)));
}

#[test]
fn the_program_takes_flags_before_variables_before_the_file_and_a_new_certificate_on_hangup() {
    let (issued, other) = (Issued::new(), Issued::new());
    let files = issued.files();
    let data = tempfile::tempdir().unwrap();
    let config = data.path().join("config.json");
    let nowhere = json!({ "tlsCert": "/nowhere/cert.pem", "tlsKey": other.files().key });
    std::fs::write(&config, nowhere.to_string()).unwrap();
    let store = data.path().join("data");
    let start = |flag: bool| {
        let mut command = program(&store, &["--rpc", "127.0.0.1:0", "--config"]);
        command.arg(&config).env("SESSIONVM_TLS_KEY", &files.key);
        if flag {
            command.arg("--tls-cert").arg(&files.cert);
        }
        command
    };
    let said = refusal(start(false));
    assert!(said.contains("/nowhere/cert.pem"), "{said}");
    let half = r#"{"tlsCert":"cert.pem"}"#;
    std::fs::write(data.path().join("half.json"), half).unwrap();
    let mut command = program(&store, &["--rpc", "127.0.0.1:0", "--config"]);
    command.arg(data.path().join("half.json"));
    let said = refusal(command);
    assert!(said.contains("without its key"), "{said}");

    let mut node = Program::of(start(true));
    assert!(
        node.ready["rpc"]
            .as_str()
            .unwrap()
            .starts_with("https://127.0.0.1:")
    );
    let admin = || -> Value {
        serde_json::from_slice(&std::fs::read(store.join("admin.json")).unwrap()).unwrap()
    };
    assert_eq!(admin()["rpc"], node.ready["rpc"]);
    assert_eq!(admin()["ca"], json!(files.cert));
    assert_eq!(
        admin()["certSha256"],
        const_hex::encode(sha256(&issued.der))
    );
    let works = |der: &CertificateDer<'static>| {
        dial(node.address, modern(der))
            .is_ok_and(|mut stream| get(&mut stream, "/ready").status == 200)
    };
    assert!(works(&issued.der));
    // A file that is half written changes nothing; the whole one counts.
    std::fs::write(&files.cert, "-----BEGIN CERTI").unwrap();
    node.signal("-HUP");
    std::thread::sleep(Duration::from_millis(300));
    assert!(works(&issued.der));
    let renewed = write_pair(issued.directory.path());
    assert_eq!(CertificateDer::from_pem_file(&files.cert).unwrap(), renewed);
    node.signal("-HUP");
    until("the new certificate", || works(&renewed).then_some(()));
    assert!(!works(&issued.der));
    until("the operator's tools know it", || {
        (admin()["certSha256"] == const_hex::encode(sha256(&renewed))).then_some(())
    });
    node.signal("-TERM");
    assert!(node.wait(PATIENCE).success());
}

#[test]
fn a_key_that_everybody_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let issued = Issued::new();
    let files = issued.files();
    let warned = |mode| {
        std::fs::set_permissions(&files.key, PermissionsExt::from_mode(mode)).unwrap();
        let data = tempfile::tempdir().unwrap();
        let mut command = program(data.path(), &["--rpc", "127.0.0.1:0"]);
        command
            .arg("--tls-cert")
            .arg(&files.cert)
            .arg("--tls-key")
            .arg(&files.key);
        let mut node = Program::of(command);
        node.signal("-TERM");
        node.wait(PATIENCE);
        let mut said = String::new();
        node.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        said.contains("chmod 600")
    };
    assert!(warned(0o644));
    assert!(!warned(0o640));
}
