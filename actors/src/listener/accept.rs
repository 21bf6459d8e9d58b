//! Brings an accepted connection to the point where HTTP begins, within the time that a client has for a request head.
//!
//! Without TLS, HTTP/2 is recognized by its preface (RFC 9113, section 3.3: prior knowledge). With TLS, the server name
//! of the ClientHello selects the listener (Gateway API, `Listener.hostname`), and with it certificate and validation of
//! client certificates; the version of HTTP is negotiated by ALPN. A name that no listener has is refused with the alert
//! `unrecognized_name` (RFC 6066, section 3).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kthena_router::object::Bind;
use rustls::ServerConfig;
use rustls::server::Acceptor;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;

use super::stream::ClientStream;
use crate::proxy::Serving;

/// How an HTTP/2 connection begins; no request of HTTP/1.1 begins so.
const PREFACE: &[u8; 14] = b"PRI * HTTP/2.0";
/// How long to wait for more of a beginning that may become the preface. The bytes stay in the socket, which therefore
/// does not tell when there are more.
const PREFACE_PAUSE: Duration = Duration::from_millis(5);
/// What a client hears that sends nothing; it may yet be one of HTTP/1.1.
const REQUEST_TIMEOUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
/// A record with the fatal alert `unrecognized_name`.
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// A version of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// Why a connection ended before HTTP began.
#[derive(Debug, Error)]
pub(super) enum AcceptError {
    /// The client left, or did not keep to TLS.
    #[error("the connection broke before its first request")]
    Broken(#[from] io::Error),
    /// The client took too long.
    #[error("the client did not begin in time")]
    TooSlow,
    /// No listener has the name that the client asks for.
    #[error("no listener has the server name `{0}`")]
    UnknownName(String),
}

/// Returns a connection on which HTTP can begin, and its version.
pub(super) async fn accept(
    socket: TcpStream,
    tls: bool,
    bind: Bind,
    serving: &Serving,
) -> Result<(ClientStream, Protocol), AcceptError> {
    // Without it the first chunks of a stream wait for the client's delayed acknowledgement.
    socket.set_nodelay(true)?;
    let peer = socket.peer_addr()?;
    let limit = serving.config.limits.client_timeout;
    if tls {
        let handshake = timeout(limit, handshake(socket, peer, bind, serving));
        return handshake.await.unwrap_or(Err(AcceptError::TooSlow));
    }
    let Ok(protocol) = timeout(limit, recognize(&socket)).await else {
        let mut socket = socket;
        socket.write_all(REQUEST_TIMEOUT).await?;
        return Err(AcceptError::TooSlow);
    };
    let protocol = protocol?;
    Ok((ClientStream::plain(socket, peer), protocol))
}

/// Looks at a connection's first bytes.
async fn recognize(socket: &TcpStream) -> io::Result<Protocol> {
    loop {
        let mut beginning = [0; PREFACE.len()];
        let seen = socket.peek(&mut beginning).await?;
        if seen == PREFACE.len() && beginning == *PREFACE {
            return Ok(Protocol::Http2);
        }
        // An end without a beginning is left to HTTP/1.1, which closes.
        if seen == 0 || !PREFACE.starts_with(&beginning[..seen]) {
            return Ok(Protocol::Http1);
        }
        sleep(PREFACE_PAUSE).await;
    }
}

async fn handshake(
    socket: TcpStream,
    peer: SocketAddr,
    bind: Bind,
    serving: &Serving,
) -> Result<(ClientStream, Protocol), AcceptError> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
    let name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    let Some(config) = choose(bind, name.as_deref(), serving) else {
        let mut socket = start.io;
        socket.write_all(&UNRECOGNIZED_NAME).await?;
        socket.shutdown().await?;
        return Err(AcceptError::UnknownName(name.unwrap_or_default()));
    };
    let stream = ClientStream::tls(start.into_stream(config).await?, peer);
    let protocol = if stream.protocol() == Some(b"h2") { Protocol::Http2 } else { Protocol::Http1 };
    Ok((stream, protocol))
}

/// Returns what a handshake is done with: as the listeners of the bind say, else with the certificate of the inference
/// port.
fn choose(bind: Bind, name: Option<&str>, serving: &Serving) -> Option<Arc<ServerConfig>> {
    let table = serving.tls.load();
    match table.of(bind) {
        Some(names) => names.find(name).cloned(),
        None => serving.server_tls.clone(),
    }
}
