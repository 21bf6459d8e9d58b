//! Connections over loopback to the server of one bind.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::web::Bytes;
use h2::client::SendRequest;
use kthena_router::certificate::Certificate;
use kthena_router::gateway::tls::ClientValidation;
use kthena_router::hostname::Hostname;
use kthena_router::object::Bind;
use kthena_router::plan::BindPlan;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::port::InferencePort;
use super::{InferenceWorkers, listen};
use crate::edge::tls::tests::{Authority, credulous, serving as listener};
use crate::edge::tls::{self, TlsPublisher};
use crate::edge::workers::OpenPort;
use crate::ops::metrics::Metrics;
use crate::pools::published;
use crate::supervision_tests::{config, serving};

/// How long a test waits for something to come true before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// The server of one bind that no route leads from.
struct Site {
    bind: Bind,
    publisher: TlsPublisher,
    open: OpenPort<InferencePort>,
}

impl Site {
    fn open(tls: bool, flags: &[&str]) -> Self {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let free = std::net::TcpListener::bind((address, 0)).unwrap().local_addr().unwrap();
        let bind = Bind { address, port: free.port() };
        let (_, reader) = published::channel();
        let (publisher, tls_reader) = tls::channel();
        let mut serving = serving(config(flags), reader, &Metrics::new());
        serving.tls = tls_reader;
        let port = InferencePort::new(BindPlan { bind, tls }, Arc::new(serving));
        let open = InferenceWorkers::start(1).open(listen(bind.socket()).unwrap(), port);
        Self { bind, publisher, open }
    }

    fn publish(&mut self, listeners: &[(&str, &Arc<Certificate>, Option<ClientValidation>)]) {
        let listeners: Vec<_> = listeners
            .iter()
            .map(|(name, certificate, validation)| {
                (Hostname::parse(Some(name)), listener(&[certificate], validation.clone()))
            })
            .collect();
        self.publisher.publish(listeners.iter().map(|(name, tls)| (self.bind, name, tls)));
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.bind.socket()).await.unwrap()
    }

    async fn shake(&self, client: ClientConfig, name: &str) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        within(TlsConnector::from(Arc::new(client)).connect(name, self.connect().await)).await
    }

    /// Returns the certificate that a client is served.
    async fn served(&self, name: &str) -> Vec<u8> {
        leaf(&self.shake(credulous(None), name).await.unwrap())
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("the connection makes progress")
}

fn leaf(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

fn der(certificate: &Certificate) -> Vec<u8> {
    certificate.certified_key().cert[0].to_vec()
}

/// Sends a request that the router answers by itself in HTTP/1.1, and returns the answer.
async fn ask(stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<String> {
    ask_host(stream, "a.org").await
}

async fn ask_host(mut stream: impl AsyncRead + AsyncWrite + Unpin, host: &str) -> io::Result<String> {
    let request = format!("GET /v1/models HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    within(stream.read_to_end(&mut answer)).await?;
    Ok(String::from_utf8(answer).unwrap())
}

/// Begins HTTP/2 on a connection; it ends when what this returns is gone.
async fn http2(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> SendRequest<Bytes> {
    let (requests, connection) = within(h2::client::handshake(stream)).await.unwrap();
    actix::spawn(async move { drop(connection.await) });
    requests
}

/// Sends the request in HTTP/2, and returns the status and the body of its answer.
async fn ask_http2(requests: SendRequest<Bytes>) -> (u16, Vec<u8>) {
    ask_http2_host(requests, "a.org").await
}

async fn ask_http2_host(requests: SendRequest<Bytes>, host: &str) -> (u16, Vec<u8>) {
    let mut requests = within(requests.ready()).await.unwrap();
    let request = http::Request::get(format!("http://{host}/v1/models")).body(()).unwrap();
    let (answer, _) = requests.send_request(request, true).unwrap();
    let (head, mut stream) = within(answer).await.unwrap().into_parts();
    assert!(head.headers.contains_key("date"), "{:?}", head.headers);
    let mut body = Vec::new();
    while let Some(piece) = within(poll_fn(|context| stream.poll_data(context))).await {
        let piece = piece.unwrap();
        stream.flow_control().release_capacity(piece.len()).unwrap();
        body.extend_from_slice(&piece);
    }
    assert_eq!(head.headers["content-length"], body.len().to_string());
    (head.status.as_u16(), body)
}

#[actix_web::test]
async fn a_plain_port_speaks_both_versions_of_http() {
    let site = Site::open(false, &[]);
    let answer = ask(site.connect().await).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("listener_not_found"), "{answer}");
    let requests = http2(site.connect().await).await;
    for _ in 0..2 {
        let (status, body) = ask_http2(requests.clone()).await;
        assert_eq!(status, 404);
        assert!(String::from_utf8(body).unwrap().contains("listener_not_found"));
    }
    // A beginning that comes in pieces is told apart all the same.
    let mut slow = site.connect().await;
    slow.set_nodelay(true).unwrap();
    slow.write_all(b"P").await.unwrap();
    slow.write_all(b"RI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut settings = [0; 9];
    within(slow.read_exact(&mut settings)).await.unwrap();
    assert_eq!(settings[3], 4, "a frame of settings");
}

#[actix_web::test]
async fn server_names_choose_listeners_and_unknown_ones_are_refused() {
    let mut site = Site::open(true, &[]);
    let authority = Authority::new();
    let certificates = [(); 3].map(|()| authority.certify(&["*"]));
    let [exact, wildcard, other] = &certificates;
    site.publish(&[("a.example.com", exact, None), ("*.example.com", wildcard, None)]);
    assert_eq!(site.served("a.example.com").await, der(exact));
    assert_eq!(site.served("A.Example.com").await, der(exact), "names have no case");
    assert_eq!(site.served("b.a.example.com").await, der(wildcard));
    for name in ["other.org", "127.0.0.1"] {
        let refused = site.shake(credulous(None), name).await.unwrap_err().to_string();
        assert!(refused.contains("UnrecognisedName") || refused.contains("UnrecognizedName"), "{name}: {refused}");
    }

    let mut held = site.shake(credulous(None), "a.example.com").await.unwrap();
    site.publish(&[("a.example.com", other, None), ("", exact, None)]);
    assert_eq!(site.served("a.example.com").await, der(other), "new handshakes have the new certificate");
    assert_eq!(site.served("127.0.0.1").await, der(exact));
    let lives = ask_host(&mut held, "a.example.com").await.unwrap();
    assert!(lives.starts_with("HTTP/1.1 404 "), "established connections live on");
}

#[actix_web::test]
async fn http2_is_negotiated_where_clients_offer_it() {
    let mut site = Site::open(true, &[]);
    site.publish(&[("", &Authority::new().certify(&["a.org"]), None)]);
    let mut offers = credulous(None);
    offers.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = site.shake(offers, "a.org").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(ask_http2(http2(stream).await).await.0, 404);
    let stream = site.shake(credulous(None), "a.org").await.unwrap();
    assert!(ask(stream).await.unwrap().starts_with("HTTP/1.1 404 "));
}

#[actix_web::test]
async fn clients_without_a_valid_certificate_get_no_answer_where_one_is_required() {
    let mut site = Site::open(true, &[]);
    let (trusted, foreign) = (Authority::new(), Authority::new());
    let (server, good, bad) = (trusted.certify(&["a.org"]), trusted.certify(&[]), foreign.certify(&[]));
    for (required, shown, answered) in [
        (true, Some(&good), true),
        (true, Some(&bad), false),
        (true, None, false),
        (false, Some(&bad), true),
        (false, None, true),
    ] {
        let validation = ClientValidation { authorities: trusted.trusted(), required };
        site.publish(&[("", &server, Some(validation))]);
        // The client of TLS 1.3 learns of it only when it reads.
        let answer = match site.shake(credulous(shown), "a.org").await {
            Ok(stream) => ask(stream).await,
            Err(error) => Err(error),
        };
        assert_eq!(answer.is_ok(), answered, "required: {required}, shown: {}: {answer:?}", shown.is_some());
    }
}

#[actix_web::test]
async fn a_handshake_without_a_server_name_is_one_with_the_listener_without_a_hostname() {
    let mut site = Site::open(true, &[]);
    let authority = Authority::new();
    let certificate = authority.certify(&["a.example.com"]);
    let strict = || Some(ClientValidation { authorities: authority.trusted(), required: true });
    site.publish(&[("a.example.com", &certificate, strict()), ("", &certificate, None)]);
    let mut offers = credulous(None);
    offers.alpn_protocols = vec![b"h2".to_vec()];
    // An address is no server name: none is sent.
    for (name, host, status) in [
        ("127.0.0.1", "a.example.com", 421),
        ("127.0.0.1", "other.org", 404),
        ("other.org", "a.example.com", 421),
        ("other.org", "127.0.0.1", 404),
    ] {
        let answer = ask_host(site.shake(credulous(None), name).await.unwrap(), host).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name} {host}: {answer}");
        let requests = http2(site.shake(offers.clone(), name).await.unwrap()).await;
        assert_eq!(ask_http2_host(requests, host).await.0, status, "{name} {host}");
    }
    // A listener that now asks more of clients has no use for connections that were made before.
    let mut early = site.shake(credulous(None), "other.org").await.unwrap();
    site.publish(&[("", &certificate, strict())]);
    assert!(ask_host(&mut early, "other.org").await.unwrap().starts_with("HTTP/1.1 421 "));
}

#[actix_web::test]
async fn clients_that_do_not_begin_are_cut_off() {
    for (tls, flags) in [(true, ["--client-timeout=1s"]), (false, ["--client-timeout=1s"])] {
        let site = Site::open(tls, &flags);
        let beginnings: &[&[u8]] =
            if tls { &[b"", b"\x16\x03\x01", b"GET / HTTP/1.1"] } else { &[b"", b"PRI * HTTP/2.0"] };
        for beginning in beginnings {
            let mut client = site.connect().await;
            client.write_all(beginning).await.unwrap();
            let mut rest = Vec::new();
            drop(within(client.read_to_end(&mut rest)).await);
        }
    }
}

#[actix_web::test]
async fn idle_http2_connections_are_told_to_leave() {
    let site = Site::open(false, &["--client-keep-alive=1s"]);
    let (requests, connection) = h2::client::handshake(site.connect().await).await.unwrap();
    let ended = actix::spawn(connection);
    assert_eq!(ask_http2(requests.clone()).await.0, 404);
    assert!(within(ended).await.unwrap().is_ok(), "the connection ends in order");
    assert!(requests.ready().await.is_err());
}

#[actix_web::test]
async fn a_server_that_closes_does_not_wait_for_those_who_are_idle() {
    for tls in [false, true] {
        let mut site = Site::open(tls, &[]);
        site.publish(&[("", &Authority::new().certify(&["a.org"]), None)]);
        let _silent = site.connect().await;
        let requests = if tls {
            let mut offers = credulous(None);
            offers.alpn_protocols = vec![b"h2".to_vec()];
            http2(site.shake(offers, "a.org").await.unwrap()).await
        } else {
            http2(site.connect().await).await
        };
        assert_eq!(ask_http2(requests.clone()).await.0, 404);
        let bind = site.bind;
        within(site.open.close(PATIENCE)).await;
        assert!(requests.ready().await.is_err(), "tls: {tls}");
        assert!(TcpStream::connect(bind.socket()).await.is_err(), "tls: {tls}");
    }
}
