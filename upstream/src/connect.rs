//! Makes connections.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::error::Stage;
use super::http1::Connection;
use super::http2::Session;
use super::pool::Clock;
use super::stream::Stream;
use super::{Peer, Transport};

/// What ALPN calls HTTP/2.
const H2: &[u8] = b"h2";

/// A connection that was just made.
pub(super) enum Dialed {
    /// One request at a time.
    Http1(Connection),
    /// Many requests at once.
    Http2(Session),
}

/// Why no connection is there, to all who wait for it.
#[derive(Clone, Debug)]
pub(super) enum DialError {
    /// The endpoint cannot be reached.
    Connect(Arc<io::Error>),
    /// It can, and does not agree on TLS or HTTP/2.
    Handshake(Arc<io::Error>),
}

/// Connects to a peer, TLS and HTTP/2's greeting included, each within `limit`; `stage` shows how far it is.
pub(super) async fn dial(peer: &Peer, limit: Duration, clock: Clock, stage: &Cell<Stage>) -> Result<Dialed, DialError> {
    let stream = within(limit, connect(peer)).await.map_err(DialError::Connect)?;
    stage.set(Stage::Handshake);
    within(limit, greet(peer, stream, clock)).await.map_err(DialError::Handshake)
}

/// Connects to a peer that is known to speak HTTP/2.
pub(super) async fn dial_session(
    peer: Peer,
    limit: Duration,
    clock: Clock,
    stage: Rc<Cell<Stage>>,
) -> Result<Session, DialError> {
    match dial(&peer, limit, clock, &stage).await? {
        Dialed::Http2(session) => Ok(session),
        Dialed::Http1(_) => {
            Err(DialError::Handshake(Arc::new(io::Error::other("the endpoint no longer speaks HTTP/2"))))
        }
    }
}

async fn connect(peer: &Peer) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(peer.address).await?;
    // Otherwise the last part of a large body waits for the acknowledgement of what precedes it.
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn greet(peer: &Peer, stream: TcpStream, clock: Clock) -> io::Result<Dialed> {
    match &peer.transport {
        Transport::Http1 => Ok(Dialed::Http1(Connection::new(Stream::Plain(stream)))),
        Transport::H2c => Session::start(Stream::Plain(stream), clock).await.map(Dialed::Http2),
        Transport::Tls(tls) => {
            let connector = TlsConnector::from(Arc::clone(tls.config()));
            let stream = connector.connect(tls.server_name(peer.address.ip()), stream).await?;
            let speaks_h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
            let stream = Stream::Tls(Box::new(stream));
            if speaks_h2 {
                Session::start(stream, clock).await.map(Dialed::Http2)
            } else {
                Ok(Dialed::Http1(Connection::new(stream)))
            }
        }
    }
}

async fn within<T>(limit: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T, Arc<io::Error>> {
    timeout(limit, step).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(Arc::new)
}
