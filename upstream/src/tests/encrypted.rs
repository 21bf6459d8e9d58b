//! Answers over TLS, whose connection ends in more than one way.

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::*;

/// Starts a server that answers the first request of each connection with these bytes, and then ends the connection,
/// in order or not.
async fn serve(answer: String, in_order: bool) -> (SocketAddr, RootCertStore) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate.der().clone()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = acceptor.accept(stream).await.unwrap();
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            stream.write_all(answer.as_bytes()).await.unwrap();
            if in_order {
                stream.shutdown().await.unwrap();
            } else {
                stream.flush().await.unwrap();
            }
        }
    });
    (address, trusted)
}

#[tokio::test(flavor = "local")]
async fn an_answer_over_tls_is_whole_only_where_its_end_is_certain() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let broken = Err("body: the connection ended before the answer".to_owned());
    let whole = Ok((200, "hello".to_owned()));
    for (case, answer, in_order, expected) in [
        ("chunks", format!("{chunked}0\r\n\r\n"), false, &whole),
        ("chunks without an end, in order", chunked.to_owned(), true, &broken),
        ("chunks without an end", chunked.to_owned(), false, &broken),
        ("too short, in order", "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nhello".to_owned(), true, &broken),
        ("up to the end, in order", "HTTP/1.1 200 OK\r\n\r\nhello".to_owned(), true, &whole),
        ("up to the end, which anyone may have made", "HTTP/1.1 200 OK\r\n\r\nhello".to_owned(), false, &broken),
    ] {
        let (address, trusted) = serve(answer, in_order).await;
        let upstream = upstream(trusted);
        let peer = Peer { address, transport: upstream.engines(true) };
        let fetched = fetch(&upstream.client(), &peer, &Method::GET, Body::Empty).await;
        assert_eq!(fetched, *expected, "{case}");
    }
}
