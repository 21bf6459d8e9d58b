//! TLS.

use std::future::ready;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use kthena_router_downstream::{Budget, ChooseTls, Chosen, Limits, Refusal, TlsIdentity};
use rcgen::CertifiedKey;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, HandshakeKind, ServerConfig, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::site::{Site, local, rest, text, within};

/// Accepts every server.
#[derive(Debug)]
struct Credulous;

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519]
    }
}

/// Two listeners: one for `a.org`, and one without a hostname, if it is there.
struct Listeners {
    named: Arc<ServerConfig>,
    any: Option<Arc<ServerConfig>>,
}

impl ChooseTls for Listeners {
    fn choose(&self, server_name: Option<&str>) -> Option<Chosen> {
        match server_name {
            Some("a.org") => Some(Chosen { config: Arc::clone(&self.named), identity: TlsIdentity(1) }),
            _ => self.any.clone().map(|config| Chosen { config, identity: TlsIdentity(2) }),
        }
    }
}

fn server_config() -> Arc<ServerConfig> {
    let CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed(["a.org".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    Arc::new(config)
}

fn client_config() -> ClientConfig {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous))
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(8);
    config
}

/// Makes a site that answers with the identity and server name of the connection.
fn site(any: Option<Arc<ServerConfig>>) -> Site {
    let listeners: Rc<dyn ChooseTls> = Rc::new(Listeners { named: server_config(), any });
    Site::with(Limits::default(), Budget::new(64 << 20), Some(listeners), |connection, _| async move {
        let tls = connection.tls.as_ref().unwrap();
        text(http::StatusCode::OK, format!("[{} {:?}]", tls.identity.0, tls.server_name))
    })
}

/// Connects over TLS.
async fn connected(site: &Site, client: &Arc<ClientConfig>, name: &str) -> std::io::Result<TlsStream<DuplexStream>> {
    let (io, _) = site.connect();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    within(TlsConnector::from(Arc::clone(client)).connect(name, io)).await
}

/// Asks over TLS; returns how the handshake was done, and what the server sends.
async fn asked(site: &Site, client: &Arc<ClientConfig>, name: &str) -> std::io::Result<(HandshakeKind, String)> {
    let mut stream = connected(site, client, name).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await?;
    Ok((stream.get_ref().1.handshake_kind().unwrap(), answer))
}

#[tokio::test]
async fn a_connection_says_which_listener_its_handshake_was_done_with() {
    let site = site(Some(server_config()));
    let client = Arc::new(client_config());
    local(async {
        for (name, expected) in [
            ("a.org", "[1 Some(\"a.org\")]"),
            ("A.ORG", "[1 Some(\"a.org\")]"),
            ("b.org", "[2 Some(\"b.org\")]"),
            ("127.0.0.1", "[2 None]"),
        ] {
            let (_, answer) = asked(&site, &client, name).await.unwrap();
            assert!(answer.ends_with(expected), "{name}: {answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_resumed_session_is_of_the_listener_that_its_name_chooses() {
    let site = site(Some(server_config()));
    let client = Arc::new(client_config());
    local(async {
        let (first, _) = asked(&site, &client, "a.org").await.unwrap();
        let (second, answer) = asked(&site, &client, "a.org").await.unwrap();
        assert_eq!((first, second), (HandshakeKind::Full, HandshakeKind::Resumed));
        assert!(answer.ends_with("[1 Some(\"a.org\")]"), "{answer}");
        let (other, answer) = asked(&site, &client, "b.org").await.unwrap();
        assert_eq!(other, HandshakeKind::Full, "another listener has sessions of its own");
        assert!(answer.ends_with("[2 Some(\"b.org\")]"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_name_that_no_listener_has_is_refused_by_an_alert_and_noted() {
    let site = site(None);
    let client = Arc::new(client_config());
    local(async {
        for name in ["b.org", "127.0.0.1"] {
            let refused = asked(&site, &client, name).await.unwrap_err().to_string();
            assert!(refused.contains("UnrecognisedName") || refused.contains("UnrecognizedName"), "{name}: {refused}");
        }
        assert_eq!(site.refused(), [Refusal::ServerName; 2]);
        let plain = site.exchange(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(!plain.contains("HTTP/1.1 200"), "{plain}");
        assert_eq!(site.refused()[2..], [Refusal::Handshake]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_its_client_takes_slowly_comes_whole() {
    const LENGTH: usize = 70_000;
    let listeners: Rc<dyn ChooseTls> = Rc::new(Listeners { named: server_config(), any: None });
    let site = Site::with(Limits::default(), Budget::new(64 << 20), Some(listeners), |_, _| {
        ready(text(http::StatusCode::OK, vec![b'x'; LENGTH]))
    });
    local(async {
        let mut client = connected(&site, &Arc::new(client_config()), "a.org").await.unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nhost: a.org\r\n\r\n").await.unwrap();
        let start = Instant::now();
        // What the socket does not take waits in the TLS session.
        sleep(Duration::from_secs(20)).await;
        let mut answer = Vec::new();
        while answer.iter().filter(|byte| **byte == b'x').count() < LENGTH {
            assert!(within(client.read_buf(&mut answer)).await.unwrap() > 0, "{} bytes came", answer.len());
        }
        assert_eq!(start.elapsed().as_secs(), 20, "all of it is sent as soon as it is taken");
        // A client that has taken all of it is not slow.
        sleep(Duration::from_secs(50)).await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: a.org\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(rest(&mut client).await.ends_with(&"x".repeat(LENGTH)));
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_still_sending_finds_an_early_answer_over_tls() {
    let listeners: Rc<dyn ChooseTls> = Rc::new(Listeners { named: server_config(), any: None });
    // Who reads on finds the answer at once, and it is long enough for a server that does not go on to be noticed.
    let limits = Limits { linger_time: Duration::from_secs(2), ..Limits::default() };
    let site = Site::with(limits, Budget::new(64 << 20), Some(listeners), |_, _| {
        ready(text(http::StatusCode::PAYLOAD_TOO_LARGE, "too much"))
    });
    local(async {
        let mut client = connected(&site, &Arc::new(client_config()), "a.org").await.unwrap();
        client.write_all(b"POST / HTTP/1.1\r\nhost: a.org\r\ncontent-length: 4194304\r\n\r\n").await.unwrap();
        for _ in 0..4 << 20 >> 14 {
            within(client.write_all(&[b'x'; 16 << 10])).await.expect("what it sends is taken");
        }
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("too much"), "{answer}");
    })
    .await;
}
